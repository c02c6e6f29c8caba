"""One experiment, top to bottom: `run(plan)` trains it, resumes it, or says that it is done."""

import io
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tlcnn.errors import Stopped, StorageError
from tlcnn.memory import Memory
from tlcnn.plan.plan import Plan
from tlcnn.records.folder import RunDir
from tlcnn.records.summary import read_summary
from tlcnn.storage import open_to_append, writing
from tlcnn.training.interrupt import catch_signals

log = logging.getLogger(__name__)


def run(plan: Plan, memory: Memory | None = None) -> dict[str, Any]:
    """Train what the plan says, from wherever its folder stands, and return its summary.

    A finished run returns at once. A run that another process holds is waited for, or refused
    with `on_locked=fail`. A run that starts from another trains that one first.

    Args:
        plan: of the run.
        memory: what the runs of one process share, pixels among it.

    Raises:
        RunLocked: another process holds the run and `on_locked=fail`.
        Stopped: a signal came; the same plan goes on from here.
        Diverged, DataError, WeightsError, StorageError, BrokenPromise: see `errors`.
    """
    folder = RunDir(plan.run_dir)
    if folder.is_done:
        return _answer_done(folder)
    memory = memory or Memory()
    if plan.parent is not None:
        run(plan.parent, memory)
    from tlcnn.run.experiment import train  # torch: a finished run need not pay for it
    from tlcnn.run.network import build_start

    start = build_start(plan, memory)  # what cannot be trained leaves no folder behind
    wait = plan.config.on_locked == "wait"
    with catch_signals() as stop, folder.hold(wait=wait, say=log.info, check_stop=stop.check):
        if folder.is_done:  # finished by whom we waited for
            return _answer_done(folder)
        folder.clear_failed()
        with _log_file(folder.path / "log.txt"), _failures(folder):
            summary = train(plan, start, folder, stop, memory)
        stop.check()  # a signal that came too late for this run still ends a sweep
    return summary


def _answer_done(folder: RunDir) -> dict[str, Any]:
    folder.delete_leftovers()  # of a kill between DONE and the tidying
    log.info("already done: %s", folder.path)
    return asdict(read_summary(folder.path))


@contextmanager
def _failures(folder: RunDir) -> Iterator[None]:
    """Leave FAILED with the traceback, in the folder and the log, when a run fails."""
    try:
        yield
    except (Stopped, KeyboardInterrupt):
        raise
    except BaseException:
        log.debug("failed", exc_info=True)
        with suppress(StorageError):  # on a full disk the first error is the one to tell
            folder.write_failed(traceback.format_exc())
        raise


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    with writing(path):
        file = io.TextIOWrapper(open_to_append(path), encoding="utf-8")
    handler = logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.setLevel(logging.DEBUG)
    logger = logging.getLogger("tlcnn")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        file.close()
