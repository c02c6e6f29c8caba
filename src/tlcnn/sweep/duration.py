"""How long training takes, judged by what was measured in an output folder."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tlcnn.errors import DataError
from tlcnn.plan.plan import Plan
from tlcnn.records.files import DONE, HISTORY
from tlcnn.records.plan_record import PlanRecord, read_plan
from tlcnn.records.summary import read_history

_MAX_READ = 400  # runs that an estimate reads


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        n_finished: the number of finished epochs.
        n_epochs: the number of planned ones.
        trained_s: the seconds that the finished epochs took in training.
    """

    record: PlanRecord
    n_finished: int
    n_epochs: int
    trained_s: float


def read_progress(folder: Path) -> Progress | None:
    """Return how far a run is; None before it has a plan, and for a run without epochs."""
    try:
        record, history = read_plan(folder), read_history(folder)
    except DataError:
        return None
    if not record.epochs:  # an imported run
        return None
    n_finished = history[-1].epoch if history else 0
    trained_s = sum(epoch.train_s for epoch in history)
    return Progress(record, n_finished, record.epochs, trained_s)


class Speeds:
    """Seconds in training per image, of runs that were measured.

    A run is as fast as the median of measured runs of its dataset, model, image size and j, or
    else of those that differ in j only.
    """

    def __init__(self) -> None:
        self._speeds: dict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)  # by run id

    def add(self, progress: Progress, *, is_done: bool) -> None:
        """Add a run, in the place of what it was before.

        A run that patience has ended counts as if it had trained all its epochs in that time.
        """
        record = progress.record
        n_epochs = progress.n_epochs if is_done else progress.n_finished
        if n_epochs:
            speed = progress.trained_s / n_epochs / max(1, record.count_images("train"))
            alike = (record.dataset, record.model, record.image_size)
            for key in (alike, (*alike, record.j)):
                self._speeds[key][record.run_id] = speed

    def find_epoch_s(self, plan: Plan) -> float | None:
        """Return how long an epoch of a run takes; None where no run like it was measured."""
        cfg, n_images = plan.config, int((plan.dataset.splits == "train").sum())
        alike = (cfg.dataset.name, cfg.model.name, cfg.dataset.image_size)
        speeds = self._speeds.get((*alike, plan.treatment.j)) or self._speeds.get(alike)
        return median(speeds.values()) * n_images if speeds else None


def read_speeds(output_dir: Path) -> Speeds:
    """Return the speeds of the runs of a folder that have finished an epoch."""
    speeds = Speeds()
    paths = [*(output_dir / "runs").glob(f"*/{HISTORY}")]
    for path in sorted(paths, key=lambda path: path.lstat().st_mtime)[-_MAX_READ:]:
        progress = read_progress(path.parent)
        if progress is not None:
            speeds.add(progress, is_done=(path.parent / DONE).is_file())
    return speeds


def estimate_seconds(plans: Sequence[Plan], output_dir: Path) -> float | None:
    """Return how long training takes in all, one run at a time, from what was measured before.

    None where there is a run without one that is like it; see `Speeds`.
    """
    speeds, total = read_speeds(output_dir), 0.0
    for plan in plans:
        epoch_s = speeds.find_epoch_s(plan)
        if epoch_s is None:
            return None
        total += epoch_s * plan.config.train.epochs
    return total


def describe_time(plan: Plan) -> str:
    """Return how long a run and the runs that it waits for take, as a line of its plan."""
    lineage = [plan]
    while (parent := lineage[-1].parent) is not None:
        lineage.append(parent)
    waiting = [each for each in lineage if not (each.run_dir / DONE).is_file()]
    if not waiting:
        return "time     none: it is done"
    seconds = estimate_seconds(waiting, plan.output_dir)
    if seconds is None:
        return "time     unknown: until_epoch=1 in place of dry_run=true trains an epoch of it"
    return f"time     {describe_duration(seconds)} of training"


def describe_duration(seconds: float | None) -> str:
    """Return a duration in words.

    Example:
        >>> [describe_duration(s) for s in (None, 41, 700, 9000)]
        ['time unknown', 'about 41 s', 'about 12 min', 'about 2.5 h']
    """
    if seconds is None:
        return "time unknown"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"
