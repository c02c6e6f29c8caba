"""How far a sweep is, read from the run folders: one line on the terminal, whoever trains."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from tlcnn.errors import DataError
from tlcnn.records.plan_record import read_plan
from tlcnn.records.summary import read_summary
from tlcnn.sweep.resolve import Job

_POLL_S = 1.0
_MOST_READ = 400  # finished runs that an estimate looks at


def estimate_seconds(jobs: Sequence[Job], output_dir: Path) -> float | None:
    """Return how long training takes in all, one run at a time, judged by finished runs.

    Finished runs of one dataset, model, image size, epochs and j are alike; without any, those
    that differ in j only; None where a job has not even these.
    """
    exact, alike = _read_durations(output_dir)
    total = 0.0
    for job in jobs:
        durations = exact.get(_key(job.kind)) or alike.get(_key({**job.kind, "j": None}))
        if not durations:
            return None
        total += median(durations)
    return total


def _read_durations(output_dir: Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    exact: dict[str, list[float]] = {}
    alike: dict[str, list[float]] = {}
    summaries = sorted((output_dir / "runs").glob("*/summary.json"))
    for path in summaries[-_MOST_READ:]:
        try:
            kind = read_kind(path.parent)
            seconds = read_summary(path.parent).train_s
        except DataError:
            continue
        if seconds is None:  # of an imported run nobody knows
            continue
        exact.setdefault(_key(kind), []).append(seconds)
        alike.setdefault(_key({**kind, "j": None}), []).append(seconds)
    return exact, alike


def read_kind(run_dir: Path) -> dict[str, Any]:
    """Return what decides how long a finished run took, from its plan.json."""
    plan = read_plan(run_dir)
    kind = {"dataset": plan.dataset, "model": plan.model, "epochs": plan.epochs, "j": plan.j}
    return {**kind, "image_size": plan.image_size}


def _key(kind: dict[str, Any]) -> str:
    return json.dumps(kind, sort_keys=True)


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
def show_progress(jobs: Sequence[Job]) -> Iterator[None]:
    """Keep one line for the whole sweep while it runs; off a terminal, a line a finished run."""
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(list(jobs), over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(jobs: list[Job], over: threading.Event) -> None:
    waiting = {job.run_id: job for job in jobs}
    n_failed, started = 0, time.time()
    with tqdm(total=len(jobs), desc="sweep", unit="run", disable=None, smoothing=0.0) as bar:
        while True:
            is_last = over.wait(_POLL_S)
            for job in [job for job in waiting.values() if job.is_done]:
                del waiting[job.run_id]
                bar.update()
                if bar.disable:
                    print(f"[{len(jobs) - len(waiting)}/{len(jobs)}] {_describe_done(job)}")
            failed = [job for job in waiting.values() if _has_failed(job, started)]
            if len(failed) != n_failed:
                n_failed = len(failed)
                bar.set_postfix(failed=n_failed)
            if is_last:
                return


def _has_failed(job: Job, since: float) -> bool:
    try:
        return (job.run_dir / "FAILED").stat().st_mtime >= since
    except OSError:
        return False


def _describe_done(job: Job) -> str:
    try:
        summary = read_summary(job.run_dir)
        score = summary.metrics["val/balanced_accuracy"]
        words = f"  val balanced accuracy {score:.4f}  {summary.train_s:.1f} s"
    except (DataError, KeyError, TypeError):
        words = ""
    return f"done {job.run_name}-{job.run_id}{words}"
