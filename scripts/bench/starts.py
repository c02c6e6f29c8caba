"""What is paid before the first step: imports, plans, runs that are already done, resuming."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.records import Section
from bench.sides import PLAIN_LOOP, Case, make_plain_words, make_timm_words, make_tlcnn_words
from bench.watch import Watched, watch

TRAIN, TLCNN = ("-m", "tlcnn.train"), ("-m", "tlcnn.cli.main")


def measure_starts(case: Case, timm_train: Path | None, rounds: int) -> Section:
    """Start every program a few times, alternating."""
    section = Section(
        "Start-up (a process each, to its end unless said otherwise)",
        ["'already done' is the same training command after it has finished"],
    )
    words = make_tlcnn_words(replace(case, epochs=2), case.work / "start")
    _python(*TRAIN, *words)
    programs: dict[str, Sequence[str]] = {
        "python, nothing": ("-c", "pass"),
        "python, import torch": ("-c", "import torch"),
        "python, import timm": ("-c", "import timm"),
        "tlcnn --help": (*TLCNN, "--help"),
        "tlcnn-train --help": (*TRAIN, "--help"),
        "tlcnn compare": (*TLCNN, "compare", str(case.work / "start")),
        "already done": (*TRAIN, *words),
        "plain loop --help": (str(PLAIN_LOOP), "--help"),
    }
    if timm_train:
        programs["timm train.py --help"] = (str(timm_train), "--help")
    for _ in range(rounds):
        for name, program in programs.items():
            watched = _python(*program)
            section.row(name, "whole").add(s=watched.wall_s, cpu_s=watched.cpu_s)
    return section


def measure_resume(case: Case, timm_train: Path | None, rounds: int) -> Section:
    """Start trainings afresh, start one again that was killed, and skip finished sweeps."""
    section = Section(
        "Fresh, resumed and skipped runs",
        [
            "fresh: tlcnn and the plain loop to the end of the first epoch, decoding included, "
            "timm to its first line of training; resumed: after SIGTERM, to the end of the epoch "
            "that it went on in",
            "stopping: from SIGTERM to the end of the process, which saves first",
            "second cell: from one run's end to the next one's first step, in one process",
            "skip: the whole command again, all done, a run",
        ],
    )
    for round_ in range(rounds):
        words = make_tlcnn_words(replace(case, epochs=9), case.work / f"resume-{round_}")
        stopped = _python(*TRAIN, *words, kill_at="epoch 2/", number=signal.SIGTERM)
        _add(section, "fresh", "tlcnn", stopped, "epoch 1/")
        last = next(line for line in stopped.lines if line.text.startswith("epoch 2/"))
        section.row("stopping", "tlcnn").add(s=stopped.wall_s - last.at_s)
        again = _python(*TRAIN, *words, kill_at="epoch ")
        _add(section, "resumed", "tlcnn", again, "epoch ")
        plain = _python(str(PLAIN_LOOP), *make_plain_words(case), kill_at="{")
        _add(section, "fresh", "plain loop", plain, "{")
        if timm_train:
            flags = make_timm_words(case, f"fresh-{round_}", 0)
            timm = _python(str(timm_train), *flags, kill_at="Train:")
            _add(section, "fresh", "timm", timm, "Train:")
    _measure_gaps(case, section)
    return section


def _measure_gaps(case: Case, section: Section) -> None:
    """Time what lies between the cells of a sweep in this process, and skipping them all."""
    from tlcnn.train import run_command

    output = case.work / "gaps"
    words = make_tlcnn_words(replace(case, epochs=2, seeds=(0, 1, 2, 3)), output)
    with watching_cells() as gaps:
        run_command(["-m", *words, "freeze.through=none,layer3", "progress=false"])
    for gap_s, cpu_s in gaps:
        section.row("second cell", "tlcnn").add(s=gap_s, cpu_s=cpu_s)
    again = _python(*TRAIN, "-m", *words, "freeze.through=none,layer3")
    section.row("skip", "tlcnn").add(s=again.wall_s / (len(gaps) + 1))


@contextmanager
def watching_cells() -> Iterator[list[tuple[float, float]]]:
    """Yield a list that fills with what lies between one run's DONE and the next one's loop.

    Seconds by the clock, and of the processor.
    """
    from tlcnn.records.folder import RunDir
    from tlcnn.training.fit import Fit

    gaps: list[tuple[float, float]] = []
    ends: list[tuple[float, float]] = []
    done, epoch = RunDir.write_done, Fit.train_epoch

    def write_done(folder: RunDir, run_id: str) -> None:
        done(folder, run_id)
        ends.append((time.perf_counter(), time.process_time()))

    def train_epoch(fit: Fit) -> None:
        if ends:
            wall_s, cpu_s = ends.pop()
            gaps.append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
        epoch(fit)

    RunDir.write_done, Fit.train_epoch = write_done, train_epoch  # type: ignore[method-assign]
    try:
        yield gaps
    finally:
        RunDir.write_done, Fit.train_epoch = done, epoch  # type: ignore[method-assign]


def _python(
    *words: str, kill_at: str | None = None, number: signal.Signals = signal.SIGKILL
) -> Watched:
    stop = (lambda line: line.startswith(kill_at)) if kill_at else None
    return watch([sys.executable, *words], kill_at=stop, signal_number=number)


def _add(section: Section, what: str, side: str, watched: Watched, text: str) -> None:
    line = next(line for line in watched.lines if line.text.startswith(text))
    section.row(what, side).add(s=line.at_s, cpu_s=line.cpu_s)
