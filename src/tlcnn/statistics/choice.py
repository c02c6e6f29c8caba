"""Choices among cells on validation, crossed over seeds.

The luck of a seed raises the validation score and the test score of one network alike. A choice
by the validation scores of the networks that are then tested lets this luck into the test score.
So each half of the seeds is tested with the cell that the other half chooses. The mean test score
of these networks estimates what choosing on validation gives.

A cell that is best in both halves is often a lucky one, so the scores of the halves are
correlated: at most by m^2 / (K - 1) for K candidates, where m is the expected maximum of K normal
deviates. `SPREAD` makes up for this. If all other seeds chose for each seed, the correlation
would be so large that intervals from ten seeds cover too little (docs/statistics.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from tlcnn.statistics.arm import Arm
from tlcnn.statistics.estimate import pick_seeds
from tlcnn.statistics.notes import merge_notes

SPREAD = 1.2  # of the variance between seeds of an arm whose runs were chosen


@dataclass(frozen=True)
class Choice:
    """What validation chooses among candidates.

    Attributes:
        best: the candidate with the best mean over all its seeds.
        by_seed: for each seed that all candidates share, the candidate that the other half of
            these seeds chooses; empty for fewer than two.
        halves: these two halves of the seeds; each chose for the other. Empty with `by_seed`.
    """

    best: str
    by_seed: Mapping[int, str]
    halves: tuple[tuple[int, ...], ...] = ()


def choose_arm(val: Mapping[str, Arm]) -> Choice:
    """Return the choice among candidates with these validation scores; the first of equals.

    Example:
        >>> val = {"a": Arm("a", np.arange(3), np.array([0.5, 0.6, 0.7])),
        ...        "b": Arm("b", np.arange(3), np.array([0.9, 0.5, 0.5]))}
        >>> choose_arm(val)  # seed 1 chooses for 0 and 2, and these for 1
        Choice(best='b', by_seed={0: 'a', 1: 'b', 2: 'a'}, halves=((0, 2), (1,)))
    """
    keys, arms = list(val), list(val.values())
    sign = -1.0 if arms[0].lower_is_better else 1.0
    best = keys[int(np.argmax([sign * arm.mean for arm in arms]))]
    shared = reduce(np.intersect1d, [arm.seeds for arm in arms])
    if len(shared) < 2:
        return Choice(best, {})
    scores = sign * np.stack([pick_seeds(arm, shared).scores for arm in arms])
    chosen = [keys[int(scores[:, half::2].mean(axis=1).argmax())] for half in (1, 0)]
    by_seed = {int(seed): chosen[at % 2] for at, seed in enumerate(shared)}
    return Choice(best, by_seed, tuple(tuple(by_seed)[half::2] for half in (0, 1)))


def cross_arms(name: str, arms: Mapping[str, Arm], by_seed: Mapping[int, str]) -> Arm:
    """Return the arm whose run of each seed is that of the candidate chosen for it.

    What only some of the runs have, replicates for example, the arm does not have.
    """
    rows = [pick_seeds(arms[key], np.array([seed])) for seed, key in by_seed.items()]
    is_one_sample = len({(row.sample and row.sample.name, row.folds) for row in rows}) == 1

    def join(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
        present = [array for array in arrays if array is not None]
        return np.concatenate(present) if is_one_sample and len(present) == len(rows) else None

    return replace(
        rows[0],
        name=name,
        seeds=np.concatenate([row.seeds for row in rows]),
        scores=np.concatenate([row.scores for row in rows]),
        fold_scores=join([row.fold_scores for row in rows]),
        replicates=join([row.replicates for row in rows]),
        influence=join([row.influence for row in rows]),
        contributions=join([row.contributions for row in rows]),
        sample=rows[0].sample if is_one_sample else None,
        images=rows[0].images if len({row.images for row in rows}) == 1 else "",
        notes=merge_notes(*(row.notes for row in rows)),
        folds=rows[0].folds if is_one_sample else (),
        spread=SPREAD,
    )
