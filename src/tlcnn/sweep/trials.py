"""The progress of the trials of a search, and which of them go on.

Everything is read from run folders and the journal, so it is the same in every shell and after
every kill.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tlcnn.records.folder import RunDir
from tlcnn.records.search import Trial
from tlcnn.records.summary import Epoch, read_history, summarize_epochs
from tlcnn.statistics.metrics import rank_epoch
from tlcnn.sweep.resolve import SweepRun

REDUCTION = 3  # of `halving`: one in so many trials goes on; epochs grow by the same factor


@dataclass(frozen=True)
class RunProgress:
    """The finished epochs of a run, and whether it is done or has diverged."""

    epochs: Sequence[Epoch]
    is_done: bool
    has_diverged: bool

    def has(self, n_epochs: int) -> bool:
        """Return whether it needs no training to be judged at this epoch."""
        return self.is_done or len(self.epochs) >= n_epochs

    def score(self, metric: str, n_epochs: int | None = None) -> dict[str, Any]:
        """Return score and tie of a trial, and its best epoch, over the first epochs."""
        summary = summarize_epochs(self.epochs[:n_epochs], metric)
        if not summary.metrics:
            return {"score": None, "tie": None, "epoch": None}
        ranks = rank_epoch(summary.metrics, metric)
        score, tie = (rank if math.isfinite(rank) else None for rank in ranks)
        return {"score": score, "tie": tie, "epoch": summary.best_epoch}

    def trace(self, metric: str, rungs: Sequence[int]) -> dict[str, float | None]:
        """Return the score at each rung that it has reached, by epoch."""
        return {
            str(rung): self.score(metric, rung)["score"]
            for rung in rungs
            if len(self.epochs) >= rung
        }


def read_progress(run: SweepRun, lineage: Iterable[SweepRun]) -> RunProgress:
    """Return how far a run is. Raises DataError for a damaged folder.

    Args:
        lineage: it and the runs that it starts from; it has diverged where one of them has.
    """
    folders = [RunDir(each.run_dir) for each in lineage]
    has_diverged = any(not f.is_done and f.find_divergence() is not None for f in folders)
    return RunProgress(read_history(run.run_dir), run.is_done, has_diverged)


def list_rungs(n_epochs: int, prune: str) -> list[int]:
    """Return the epochs at which trials may be given up.

    Example:
        >>> list_rungs(15, "halving"), list_rungs(2, "median"), list_rungs(15, "none")
        ([2, 5], [1], [])
    """
    if prune == "none":
        return []
    rungs = {math.ceil(n_epochs / REDUCTION**power) for power in (1, 2)}
    return sorted(rung for rung in rungs if rung < n_epochs)


def choose_survivors(
    prune: str, scores: Mapping[int, float | None], numbers: Sequence[int], batch: int
) -> set[int]:
    """Return which of the trials with these numbers go on.

    `median`: those whose score is not below the median of all trials of earlier batches (as in
    Vizier, Golovin et al. 2017). `halving`: those among the best third of all trials that were
    scored at this epoch (successive halving, Jamieson and Talwalkar 2016).

    Args:
        scores: of all trials of the arm up to this batch that reached the epoch, by number.

    Example:
        >>> scores = {0: 0.5, 1: 0.7, 2: None, 3: 0.6}
        >>> sorted(choose_survivors("halving", scores, [0, 1, 2, 3], 4))
        [1, 3]
    """
    ranks = {n: -math.inf if score is None else score for n, score in scores.items()}
    if prune == "halving":
        best = sorted(ranks, key=lambda n: (-ranks[n], n))[: math.ceil(len(ranks) / REDUCTION)]
        return {*best} & {*numbers}
    earlier = [rank for n, rank in ranks.items() if n // batch < min(numbers) // batch]
    return {n for n in numbers if not earlier or ranks[n] >= median(earlier)}


def choose_best(trials: Sequence[Trial]) -> Trial | None:
    """Return the finished trial with the best score; the first of equals. None without any."""
    finished = [trial for trial in trials if trial.state == "done" and trial.score is not None]

    def rank(trial: Trial) -> tuple[float, float, int]:
        tie = -math.inf if trial.tie is None else trial.tie
        return trial.score or 0.0, tie, -trial.number

    return max(finished, key=rank, default=None)
