"""Redraws of the test groups, in weights."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from tlcnn.statistics.arm import Sample
from tlcnn.statistics.score import Score

BLOCK = 8_000_000  # weights in one block: 64 MB
KEPT = 32_000_000  # weights of one sample that are kept for its next run: 256 MB


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


def draw_weights(strata: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
    """Return the weights of G groups under redraws that keep the number of each stratum.

    Of a stratum's n groups n - 1 are drawn with replacement and weigh n / (n - 1) a draw (Rao &
    Wu 1988), so that the variance of a mean over redraws is s^2 / n without bias, for small
    classes too. A group alone in its stratum keeps the weight 1: its variance cannot be known.

    Args:
        strata: (G,) int.

    Returns:
        (n_draws, G).
    """
    return np.concatenate(list(iterate_weights(strata, n_draws, seed)))


def iterate_weights(strata: np.ndarray, n_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows of `draw_weights` in blocks of at most 64 MB. They must not be changed."""
    key = np.ascontiguousarray(strata, dtype=np.int64).tobytes()
    step = max(1, BLOCK // len(strata))
    is_kept = n_draws * len(strata) <= KEPT
    yield from (_keep_blocks if is_kept else _draw_blocks)(key, n_draws, seed, step)


@lru_cache(maxsize=1)  # every run of a sample asks for the same
def _keep_blocks(key: bytes, n_draws: int, seed: int, step: int) -> tuple[np.ndarray, ...]:
    return tuple(_draw_blocks(key, n_draws, seed, step))


def _draw_blocks(key: bytes, n_draws: int, seed: int, step: int) -> Iterator[np.ndarray]:
    strata = np.frombuffer(key, dtype=np.int64)
    for start in range(0, n_draws, step):
        yield _draw_block(strata, min(step, n_draws - start), (seed, start))


def _draw_block(strata: np.ndarray, n_draws: int, seed: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
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
