"""Scores of runs under redraws of the test groups."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from tlcnn.statistics.arm import Arm, Sample
from tlcnn.statistics.few_groups import LEAST_GROUPS, find_few_groups, list_few_groups
from tlcnn.statistics.notes import Note, NoteKind, Notes
from tlcnn.statistics.score import Score

N_DRAWS = 2000
BLOCK = 8_000_000  # weights in one block: 64 MB


def make_sample(groups: np.ndarray, labels: np.ndarray, image_ids: np.ndarray) -> Sample:
    """Return the groups of N images; a group's stratum is the label of most of its images.

    The smallest label wins a tie, as in `predictions.compute_group_means`.

    Args:
        groups, labels, image_ids: (N,).
    """
    names, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    votes = np.zeros((len(names), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(votes, (member, labels), 1)
    rows = zip(map(str, image_ids), names[member], labels.tolist(), strict=True)
    text = "\n".join(f"{image}\t{group}\t{label}" for image, group, label in sorted(rows))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Sample(digest, names, votes.argmax(axis=1))


def make_arm(
    name: str,
    seeds: np.ndarray,
    scores: Sequence[Score],
    sample: Sample,
    *,
    n_draws: int = N_DRAWS,
    lower_is_better: bool = False,
    classes: Sequence[str] = (),
) -> Arm:
    """Return an arm of S scores on one sample; equal samples are redrawn equally.

    Args:
        classes: names of the strata, for a note on those with too few groups.
    """
    strata = sample.strata
    blocks = [
        np.stack([score.compute(weights) for score in scores])
        for weights in iterate_weights(strata, n_draws, int(sample.name, 16))
    ]
    sums = [score.contributions for score in scores if score.contributions is not None]
    floor, notes = _find_floor(scores[0], strata, classes)
    return Arm(
        name=name,
        seeds=np.asarray(seeds),
        scores=np.array([score.value for score in scores]),
        replicates=np.concatenate(blocks, axis=1),
        influence=np.stack([center_influence(score, strata) for score in scores]),
        sample=sample,
        contributions=np.stack(sums) if len(sums) == len(scores) else None,
        lower_is_better=lower_is_better,
        notes=notes,
        floor=floor,
    )


def _find_floor(
    score: Score, strata: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray | None, Notes]:
    """Return `Arm.floor`, (K,), and a note on classes with too few groups for a verdict.

    Where n groups were all right, a share of wrong ones has the distribution Beta(1/2, n + 1/2)
    (Jeffreys), and a share of groups that two cells get differently, either way, squares to
    1 / ((n + 1) (n + 2)) on average. A cell alone takes the same, for the 3/4 of it that it has.
    A class that counts for no more than its share of groups may be as small as it likes.
    """
    if score.reach is None:
        return None, ()
    reach = score.reach
    sizes = np.bincount(strata, minlength=len(reach))
    is_few = find_few_groups(reach, sizes)
    names = list_few_groups(is_few, sizes, classes) if classes else ""
    note = Note(NoteKind.FEW_GROUPS, (int(is_few.sum()), LEAST_GROUPS), names)
    floor = reach**2 / ((sizes + 1) * (sizes + 2)) if score.is_counted else None
    return floor, (note,) if is_few.any() else ()


def iterate_weights(strata: np.ndarray, n_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield weights of G groups under redraws that keep the number of each stratum.

    Of a stratum's n groups n - 1 are drawn with replacement and weigh n / (n - 1) a draw (Rao &
    Wu 1988), so that the variance of a mean over redraws is s^2 / n without bias, for small
    classes too. A group alone in its stratum keeps the weight 1; `Arm.floor` stands for it.

    Args:
        strata: (G,) int.

    Yields:
        (B, G), `n_draws` rows in blocks of at most 64 MB, which must not be changed.
    """
    key = np.ascontiguousarray(strata, dtype=np.int64).tobytes()
    step = max(1, BLOCK // len(strata))
    for start in range(0, n_draws, step):
        yield _draw_block(key, min(step, n_draws - start), seed, start)


@lru_cache(maxsize=4)  # every run of a sample needs the same: up to 256 MB
def _draw_block(key: bytes, n_draws: int, seed: int, start: int) -> np.ndarray:
    strata = np.frombuffer(key, dtype=np.int64)
    rng = np.random.default_rng((seed, start))
    weights = np.ones((n_draws, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        n = len(members)
        if n > 1:
            drawn = rng.integers(n, size=(n_draws, n - 1)) + n * np.arange(n_draws)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=n * n_draws).reshape(n_draws, n)
            weights[:, members] = counts * (n / (n - 1))
    weights.flags.writeable = False
    return weights


def center_influence(score: Score, strata: np.ndarray) -> np.ndarray:
    """Return a score's derivatives (G,), summing to 0 in each stratum.

    A jackknifed difference is (n - 1) / n of it (Efron & Tibshirani 1993, §11).
    """
    influence = np.array(score.influence, dtype=float)
    for stratum in np.unique(strata):
        members = strata == stratum
        n = int(members.sum())
        if score.jackknifed:
            influence[members] *= (n - 1) / n
        influence[members] -= influence[members].mean()
    return influence
