"""How often a difference between subgroups is claimed where there is none.

`python tests/simulate_statistics.py --part subgroups` prints this table. Lesions of simulated
classifiers are given to subgroups at random, one in ten of them image by image, so that no
subgroup truly differs.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from simulated_world import World, draw_runs, draw_sample

from tlcnn.study.divisions import Division
from tlcnn.study.predictions import CellPredictions
from tlcnn.study.subgroups import score_subgroups

SHARES = {
    "half": 0.45,
    "quarter": 0.25,
    "tenth a": 0.1,
    "tenth b": 0.1,
    "few": 0.07,
    "least": 0.03,
}


def simulate_subgroups(
    world: World, *, n_seeds: int, n_repeats: int, metric: str, n_draws: int = 200
) -> pd.DataFrame:
    """Return, for each subgroup, how often it has a score, p below 5 %, and 0 in the interval.

    The last row is of the family: how often any difference is claimed after Holm.
    """
    rng = np.random.default_rng([7, n_seeds])
    rows, claims = [], []
    names, shares = list(SHARES), list(SHARES.values())
    for number in range(n_repeats):
        draw = draw_sample(world, rng, number)
        common = rng.normal(size=(n_seeds, len(world.lesions)))
        runs = draw_runs(world, draw, 1.7, common, rng)
        place = rng.choice(names, p=shares, size=len(draw.sample.groups))[draw.lesion]
        is_odd = (rng.random(len(draw.sample.groups)) < 0.1)[draw.lesion]
        place[is_odd] = rng.choice(names, p=shares, size=is_odd.sum())
        predictions = CellPredictions(
            seeds=np.arange(n_seeds),
            classes=tuple(map(str, range(len(world.lesions)))),
            labels=draw.labels,
            groups=np.char.add("g", draw.lesion.astype(str)),
            image_ids=np.arange(len(draw.labels)).astype(str),
            probabilities=np.stack([run.probabilities for run in runs]),
            sample=draw.sample,
            multi_label=False,
        )
        columns = [(Division("place"), pd.Series(place))]
        subgroups = score_subgroups(predictions, columns, metric, margin=0.01, n_draws=n_draws)
        results = {s.name: s.result for s in subgroups if s.result}
        claims.append(any(r.verdict in ("better", "worse") for r in results.values()))
        for name, result in results.items():
            delta = result.delta
            covers = delta.low <= 0 <= delta.high
            rows.append((name, result.p < 0.05, covers, delta.value, result.verdict))
    frame = pd.DataFrame(rows, columns=["subgroup", "p < 5 %", "covers 0", "mean", "verdict"])
    frame["equivalent"] = frame.pop("verdict") == "equivalent"
    table = frame.groupby("subgroup").mean().reindex(names)
    table.insert(0, "scored", frame["subgroup"].value_counts() / n_repeats)
    table.loc["any, after Holm", "p < 5 %"] = np.mean(claims)
    return table


def print_subgroups(seeds: Sequence[int], n_repeats: int) -> None:
    """Print a table for each metric and number of seeds."""
    for metric in ("test/balanced_accuracy", "test/accuracy", "test/recall/4"):
        for n_seeds in seeds:
            table = simulate_subgroups(
                World(), n_seeds=n_seeds, n_repeats=n_repeats, metric=metric
            )
            print(f"\n{metric}, {n_seeds} seeds, {n_repeats} repeats")  # noqa: T201
            print(table.round(3).to_string())  # noqa: T201
