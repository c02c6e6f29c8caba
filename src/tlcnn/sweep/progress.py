"""How far a sweep is and when it ends: one line on the terminal, read from the run folders."""

import threading
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from tlcnn.data.progress import FIRST_LINE_S, LAST_LINE_S
from tlcnn.errors import DataError
from tlcnn.records.files import HISTORY
from tlcnn.records.folder import FAILED
from tlcnn.records.read import is_held
from tlcnn.records.summary import read_summary
from tlcnn.sweep.duration import Progress, Speeds, describe_duration, read_progress, read_speeds
from tlcnn.sweep.resolve import SweepRun
from tlcnn.text import count, print_text

_POLL_S = 1.0
_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


@dataclass
class _Watched:
    """A run of the sweep that is not done yet.

    Attributes:
        n_epochs: the number of epochs that the sweep trains it to.
        first: how far it was when the sweep began.
        now: how far it is.
    """

    run: SweepRun
    n_epochs: int
    first: Progress | None
    now: Progress | None
    written: float = 0.0  # when its last epoch was written
    is_running: bool = False
    has_failed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the sweep trains it no more: it is done, or it pauses."""
        is_pausing = self.n_epochs < self.run.plan.config.train.epochs
        return self.run.is_done or (is_pausing and _count(self.now) >= self.n_epochs)


@dataclass
class Watch:
    """The runs of a sweep while it trains them.

    Args:
        until: as in `train_waves`.
    """

    runs: Sequence[SweepRun]
    until: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.started, self._clock = time.time(), time.monotonic()
        self._watched = [self._begin(run) for run in self.runs]
        self._waiting = [each for each in self._watched if not each.is_over]
        self._ends: float | None = None  # on the monotonic clock
        self._state: tuple[int, ...] = ()
        self._speeds = read_speeds(self.runs[0].plan.output_dir) if self.runs else Speeds()

    def _begin(self, run: SweepRun) -> _Watched:
        cfg = run.plan.config
        until_epoch = self.until.get(run.run_id, cfg.until_epoch) or cfg.train.epochs
        n_epochs = min(until_epoch, cfg.train.epochs)
        first = read_progress(run.run_dir)
        return _Watched(run, n_epochs, first, first)

    def look(self) -> list[SweepRun]:
        """Read the folders of the runs that are not over, and return those that are over now."""
        over = []
        for each in list(self._waiting):
            folder = each.run.run_dir
            each.is_running = is_held(folder)
            written = _find_time(folder / HISTORY)
            if written != each.written:
                each.written, each.now = written, read_progress(folder) or each.now
                if each.now is not None:
                    self._speeds.add(each.now, is_done=each.run.is_done)
            each.has_failed = _find_time(folder / FAILED) >= self.started
            if each.is_over:
                self._waiting.remove(each)
                over.append(each.run)
        state = (self.count_epochs(), len(self._waiting), len(self._list_running()))
        if state != self._state:
            self._state, left_s = state, self._estimate_left()
            self._ends = None if left_s is None else time.monotonic() + left_s
        return over

    @property
    def n_over(self) -> int:
        """The runs that the sweep has trained so far."""
        return len(self._watched) - len(self._waiting)

    @property
    def n_failed(self) -> int:
        """The runs that have failed in this sweep."""
        return sum(each.has_failed for each in self._waiting)

    def count_epochs(self, *, planned: bool = False) -> int:
        """Return how many epochs the sweep has trained, or is to train."""
        total = 0
        for each in self._watched:
            is_full = planned or (
                each.is_over and not each.has_failed
            )  # patience may have ended it
            end = each.n_epochs if is_full else min(_count(each.now), each.n_epochs)
            total += max(0, end - _count(each.first))
        return total

    def describe(self) -> str:
        """Return when the sweep ends, and in which epoch which run is."""
        running = self._list_running()
        parts = []
        if self._ends is not None and self._waiting:
            left_s = max(0.0, self._ends - time.monotonic())
            clock = time.strftime("%H:%M", time.localtime(time.time() + left_s))
            parts.append(f"{describe_duration(left_s)} left, until {clock}")
        if running:
            each = running[0]
            epoch = f"epoch {min(_count(each.now) + 1, each.n_epochs)}/{each.n_epochs}"
            if not each.written:  # the first thing that a training writes is an empty history
                epoch = "loading images and weights"
            more = f" and {len(running) - 1} more" if len(running) > 1 else ""
            parts.append(f"{epoch} of {each.run.plan.run_name}{more}")
        if self.n_failed:
            parts.append(f"{self.n_failed} failed")
        return "; ".join(parts) or ("starting" if self._waiting else "")

    def _list_running(self) -> list[_Watched]:
        return [each for each in self._waiting if each.is_running]

    def _estimate_left(self) -> float | None:
        """Return the seconds until the end, as fast as the sweep was until now.

        None while no run like one of those that wait was measured.
        """
        left_s = 0.0
        for each in (each for each in self._waiting if not each.has_failed):
            now = each.now
            epoch_s = now.trained_s / now.n_finished if now and now.n_finished else None
            if epoch_s is None:
                epoch_s = self._speeds.find_epoch_s(each.run.plan)
            if epoch_s is None:
                return None
            left_s += epoch_s * (each.n_epochs - _count(now))
        trained_s = sum(
            each.now.trained_s - (each.first.trained_s if each.first else 0.0)
            for each in self._watched
            if each.now is not None
        )
        if trained_s <= 0:  # nothing is known yet of evaluations, and of runs at the same time
            return left_s / max(1, len(self._list_running()))
        return left_s * (time.monotonic() - self._clock) / trained_s


@contextmanager
def show_progress(
    runs: Sequence[SweepRun], until: Mapping[str, int] = types.MappingProxyType({})
) -> Iterator[None]:
    """Keep one line for the whole sweep while it runs.

    Off a terminal, print a line for each finished run, and now and then how far the sweep is.
    """
    is_over = threading.Event()
    thread = threading.Thread(target=_show, args=(list(runs), until, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _show(runs: list[SweepRun], until: Mapping[str, int], is_over: threading.Event) -> None:
    watch = Watch(runs, until)
    n_epochs = watch.count_epochs(planned=True)
    spoken, pause_s = time.monotonic(), FIRST_LINE_S
    with tqdm(total=n_epochs, bar_format=_BAR, dynamic_ncols=True, disable=None) as bar:
        while True:
            is_last = is_over.wait(_POLL_S)
            over = watch.look()
            bar.n = watch.count_epochs()
            title = f"sweep: {watch.n_over}/{count(len(runs), 'run')}"
            bar.set_description_str(title, refresh=False)
            bar.set_postfix_str(watch.describe())
            if bar.disable:
                first = watch.n_over - len(over)
                for number, run in enumerate(over, start=first + 1):
                    print_text(f"[{number}/{len(runs)}] {_describe_done(run)}", flush=True)
                if time.monotonic() - spoken >= pause_s and not is_last:
                    print_text(f"[{watch.n_over}/{len(runs)}] {watch.describe()}", flush=True)
                    spoken, pause_s = time.monotonic(), min(2 * pause_s, LAST_LINE_S)
            if is_last:
                return


def _count(progress: Progress | None) -> int:
    return progress.n_finished if progress else 0


def _find_time(path: Path) -> float:
    """Return when a file was written; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _describe_done(run: SweepRun) -> str:
    progress = None if run.is_done else read_progress(run.run_dir)
    if progress is not None:
        epoch = f"epoch {progress.n_finished}/{progress.n_epochs}"
        return f"paused after {epoch}: {run.run_dir.name}"
    try:
        summary = read_summary(run.run_dir)
        score = summary.metrics["val/balanced_accuracy"]
        scores = f"  val balanced accuracy {score:.4f}  {summary.train_s:.1f} s"
    except (DataError, KeyError, TypeError):
        scores = ""
    return f"{'done' if run.is_done else 'paused'} {run.run_dir.name}{scores}"
