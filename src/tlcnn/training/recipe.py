"""How a network is trained, as a frozen value with the fields of `conf/train`."""

from dataclasses import field, fields, make_dataclass
from typing import TYPE_CHECKING

from tlcnn.config.schema import TrainCfg

if TYPE_CHECKING:
    Recipe = TrainCfg  # the fields and their types stand once, in the schema
else:
    Recipe = make_dataclass(
        "Recipe",
        [
            (f.name, f.type, field(default=f.default, default_factory=f.default_factory))
            for f in fields(TrainCfg)
        ],
        frozen=True,
    )
