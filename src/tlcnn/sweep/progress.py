"""How far a sweep is: one line on the terminal, read from the run folders."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from tlcnn.errors import DataError
from tlcnn.records.plan_record import read_plan
from tlcnn.records.summary import read_summary
from tlcnn.sweep.resolve import SweepRun
from tlcnn.text import print_text

_POLL_S = 1.0
_MAX_READ = 400  # finished runs that an estimate reads


def estimate_seconds(runs: Sequence[SweepRun], output_dir: Path) -> float | None:
    """Return how long training takes in all, one run at a time, from the times of finished runs.

    A run takes as long as finished runs of its dataset, model, image size, epochs and j, or else
    as those that differ in j only. None where there is neither.
    """
    durations: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for path in sorted((output_dir / "runs").glob("*/summary.json"))[-_MAX_READ:]:
        try:
            record = read_plan(path.parent)
            seconds = read_summary(path.parent).train_s
        except DataError:
            continue
        if seconds is not None:  # an imported run has no training time
            alike = (record.dataset, record.model, record.image_size, record.epochs)
            for key in (alike, (*alike, record.j)):
                durations[key].append(seconds)
    total = 0.0
    for run in runs:
        cfg = run.plan.config
        alike = (cfg.dataset.name, cfg.model.name, cfg.dataset.image_size, cfg.train.epochs)
        times = durations.get((*alike, run.plan.treatment.j)) or durations.get(alike)
        if times is None:
            return None
        total += median(times)
    return total


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


@contextmanager
def show_progress(runs: Sequence[SweepRun]) -> Iterator[None]:
    """Keep one line for the whole sweep while it runs; off a terminal, a line a finished run."""
    is_over = threading.Event()
    thread = threading.Thread(target=_show, args=(list(runs), is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _show(runs: list[SweepRun], is_over: threading.Event) -> None:
    waiting = {run.run_id: run for run in runs}
    n_failed, started = 0, time.time()
    with tqdm(total=len(runs), desc="sweep", unit="run", disable=None, smoothing=0.0) as bar:
        while True:
            is_last = is_over.wait(_POLL_S)
            for run in [run for run in waiting.values() if run.is_done]:
                del waiting[run.run_id]
                bar.update()
                if bar.disable:
                    n_done = len(runs) - len(waiting)
                    print_text(f"[{n_done}/{len(runs)}] {_describe_done(run)}")
            failed = [run for run in waiting.values() if _has_failed(run, started)]
            if len(failed) != n_failed:
                n_failed = len(failed)
                bar.set_postfix(failed=n_failed)
            if is_last:
                return


def _has_failed(run: SweepRun, since: float) -> bool:
    try:
        return (run.run_dir / "FAILED").stat().st_mtime >= since
    except OSError:
        return False


def _describe_done(run: SweepRun) -> str:
    try:
        summary = read_summary(run.run_dir)
        score = summary.metrics["val/balanced_accuracy"]
        scores = f"  val balanced accuracy {score:.4f}  {summary.train_s:.1f} s"
    except (DataError, KeyError, TypeError):
        scores = ""
    return f"done {run.run_dir.name}{scores}"
