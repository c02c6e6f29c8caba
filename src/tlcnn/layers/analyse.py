"""Analyses, one after the other or in several processes; torch is imported where there is work.

A process holds the lock of the analysis that it computes. An analysis whose lock another process
holds is tried again at the end, so that two shells share the work.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import cache
from queue import SimpleQueue

from tlcnn.device import count_cores
from tlcnn.errors import RunLocked, Stopped
from tlcnn.layers import load_measure
from tlcnn.layers.roles import Analysis
from tlcnn.memory import Memory, release_memory
from tlcnn.records.folder import RunDir
from tlcnn.records.measures import ANALYSIS, list_missing, write_measure
from tlcnn.run.job import BEFORE_START, UNEXPECTED, Outcome, explain_failure, log_to_stderr
from tlcnn.storage import hold_lock, make_dir
from tlcnn.text import print_text
from tlcnn.training.interrupt import StopRequest, catch_signals

log = logging.getLogger(__name__)

_POLL_S = 0.2
_DIED = "its process died, out of memory perhaps; repeat the command to go on"


def analyse(analyses: Sequence[Analysis], *, device: str, workers: int) -> list[Outcome]:
    """Compute analyses, print a line for each, and return how they ended, in their order.

    An analysis that fails does not stop the others; a signal does.

    Args:
        device: auto, cpu, cuda or mps.
        workers: the number of processes; with 1, the analyses are computed in this process.
    """
    outcomes: dict[int, Outcome] = {}
    compute = _compute_here if workers == 1 else _compute_in_pool
    with catch_signals() as stop:
        for is_patient in (False, True):
            waiting = {n: a for n, a in enumerate(analyses) if n not in outcomes}
            for number, outcome in compute(waiting, device, is_patient, stop, workers):
                if outcome.kind == RunLocked.__name__ and not is_patient:
                    continue
                outcomes[number] = outcome
                state = "stopped" if outcome.was_stopped else "failed"
                state = f"{state}: {outcome.error}" if outcome.code else "done"
                name = analyses[number].run_dir.name
                print_text(f"[{len(outcomes)}/{len(analyses)}] {name}  {state}", file=sys.stderr)
    return [outcomes.get(number, BEFORE_START) for number in range(len(analyses))]


def compute_analysis(
    analysis: Analysis,
    device: str,
    memory: Memory,
    *,
    is_patient: bool = True,
    check_stop: Callable[[], None] = lambda: None,
) -> None:
    """Compute and write the measures that an analysis lacks.

    A measure that fails does not stop the others; its error is raised at the end.

    Args:
        is_patient: whether to wait for another process that computes the analysis.
        check_stop: called between measures; it may raise.

    Raises:
        RunLocked: another process computes it, and `is_patient` is false.
        DataError, WeightsError, ConfigError: see `build_subject`.
    """

    def on_wait() -> None:
        text = f"another process analyses {analysis.run_dir.name}"
        if not is_patient:
            raise RunLocked(text)
        log.warning("waiting: %s", text)

    folder = RunDir(make_dir(analysis.folder))
    with hold_lock(folder.path / "lock", on_wait=on_wait, check_stop=check_stop):
        folder.delete_leftovers()
        names = list_missing(folder.path, analysis.measures)
        if not names:  # the process that we waited for has computed them
            return
        from threadpoolctl import threadpool_limits

        from tlcnn.layers.networks import build_subject

        subject = build_subject(analysis, device, memory)
        folder.write_json(ANALYSIS, asdict(analysis.record))
        errors = []
        for name in names:
            check_stop()
            try:
                compute = load_measure(name)
                # Measures divide their work among threads. Those of BLAS would wait for each other
                # in busy loops, on the same cores.
                with threadpool_limits(1, user_api="blas"):
                    readings = compute(subject)
                write_measure(folder.path, name, analysis.measures[name], readings)
            except Exception as error:
                log.error("the measure %s of %s failed", name, analysis.run_dir.name)
                errors.append(error)
            release_memory()
        if errors:
            raise errors[0]


def try_analysis(
    analysis: Analysis,
    device: str,
    is_patient: bool,
    check_stop: Callable[[], None] = lambda: None,
) -> Outcome:
    """Do what `compute_analysis` does, and return how it ended."""
    try:
        compute_analysis(
            analysis, device, _recall_memory(), is_patient=is_patient, check_stop=check_stop
        )
    except (RunLocked, Stopped) as error:
        return Outcome(error.exit_code, str(error), type(error).__name__)
    except Exception as error:
        return explain_failure(error)
    return Outcome()


@cache
def _recall_memory() -> Memory:
    """Return what the analyses of this process share, such as decoded images."""
    return Memory()


def _compute_here(
    waiting: Mapping[int, Analysis], device: str, is_patient: bool, stop: StopRequest, workers: int
) -> Iterator[tuple[int, Outcome]]:
    for number, analysis in waiting.items():
        if not stop:
            yield number, try_analysis(analysis, device, is_patient, stop.check)


def _compute_in_pool(
    waiting: Mapping[int, Analysis], device: str, is_patient: bool, stop: StopRequest, workers: int
) -> Iterator[tuple[int, Outcome]]:
    """Compute analyses in processes. A process that dies is replaced; its analysis alone fails."""
    if not waiting:
        return
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch
    idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()

    def begin_process() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, context, _begin_process, (count_cores() // workers,))

    def compute(analysis: Analysis) -> Outcome:
        if stop:
            return BEFORE_START
        process = idle.get()
        try:
            return process.submit(try_analysis, analysis, device, is_patient).result()
        except BrokenProcessPool:
            process.shutdown()
            process = begin_process()
            return BEFORE_START if stop else Outcome(UNEXPECTED, _DIED, "Killed")
        finally:
            idle.put(process)

    with ThreadPoolExecutor(workers) as threads:
        for _ in range(workers):
            idle.put(begin_process())
        numbers = {threads.submit(compute, analysis): n for n, analysis in waiting.items()}
        running = set(numbers)
        while running:
            done, running = wait(running, timeout=_POLL_S)
            if stop:
                for process in multiprocessing.active_children():
                    process.terminate()  # every file that it has written is complete
            for future in done:
                yield numbers[future], future.result()
    while not idle.empty():
        idle.get().shutdown()


def _begin_process(n_threads: int) -> None:
    """Prepare a process of the pool. It ends with its parent, and not by Ctrl-C."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, n_threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr(logging.WARNING)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
