"""The recipe of a training has the fields of the schema, and nothing changes it."""

from dataclasses import FrozenInstanceError, asdict

import pytest

from tlcnn.config.schema import TrainCfg
from tlcnn.training.recipe import Recipe


def test_every_key_of_the_schema_is_in_the_recipe():
    assert asdict(Recipe()) == asdict(TrainCfg())
    assert asdict(Recipe(**{**asdict(TrainCfg()), "lr": 0.125})) == asdict(TrainCfg(lr=0.125))


def test_a_recipe_is_not_changed_by_what_it_trains():
    with pytest.raises(FrozenInstanceError):
        Recipe().lr = 1.0
