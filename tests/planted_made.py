"""Planted families without networks: S* is known, and the readings are of invented measures."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd

from tlcnn.statistics.arm import Estimate
from tlcnn.study.planted import FACTORS, Family, Trio

PLAIN = {"images": 1500, "epochs": 12, "label noise": 0.0, "block": 0}
LEVELS = (0.0, 0.4, 5.0, 11.0, 30.0, 61.0)  # of S*, in points


def make_estimate(value, se=0.3):
    return Estimate(value, se, 4.0, value - 2 * se, value + 2 * se, 3)


def make_family(model="net", m=0, *, is_same_task=False, n_units=5, **changed):
    """S* is 0 up to m, and rises above it in the same steps for every m."""
    rises = [0.0] * n_units if is_same_task else [0.0] * m + list(LEVELS[1 : n_units + 1 - m])
    seeds = (0, 1, 2)
    name = f"{model}-{m}-{is_same_task}-{sorted(changed.items())}"
    runs = [SimpleNamespace(run_id=f"{name}-{s}", seed=s) for s in seeds]
    bases = [SimpleNamespace(run_id=f"{model}-{m}-own-{s}", seed=200 + s) for s in seeds]
    return Family(
        model=model,
        m=m,
        cue="outline" if is_same_task else "texture",
        factors=PLAIN | changed,
        is_same_task=is_same_task,
        specificity={n: make_estimate(gap) for n, gap in enumerate(rises, 1)},
        cost={n: make_estimate(gap + 1) for n, gap in enumerate(rises, 1)},
        trios=tuple(Trio(r, b, None) for r, b in zip(runs, bases, strict=True)),
        changed=changed,
    )


def make_world(models=("net", "other", "third", "fourth")):
    """Return families of all depths and variations of some networks."""
    assert set(PLAIN) == set(FACTORS)
    families = []
    for model in models:
        families += [make_family(model, m) for m in range(6)]
        families += [make_family(model, 2, images=n) for n in (375, 6000)]
        families += [make_family(model, 2, epochs=n) for n in (3, 48)]
        families += [make_family(model, is_same_task=True, images=n) for n in (375, 1500, 6000)]
    return families


def make_planted_readings(families, compute, measure="probe", variant="pooled gap", **columns):
    """Return readings of every run of some families.

    Args:
        compute: the value of a unit, from the family, n and a generator.
    """
    rng = np.random.default_rng(0)
    rows = [
        {
            "run_id": trio.run.run_id,
            "against": trio.own.run_id,
            "seed": trio.run.seed,
            "measure": measure,
            "variant": variant,
            "n": n,
            "unit": f"u{n}",
            "value": compute(family, n, rng),
            "n_images": 100,
            "over": "",
            "note": "",
            **dict.fromkeys(("low", "high", "null", "ceiling"), math.nan),
            **columns,
        }
        for family in families
        for trio in family.trios
        for n in family.specificity
    ]
    return pd.DataFrame(rows)
