"""What is paid before the first step: imports, plans, runs that are already done, resuming."""

import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from bench.records import Section
from bench.sides import (
    PLAIN_LOOP,
    Case,
    make_plain_words,
    make_timm_words,
    make_tlcnn_words,
    read_epoch_ends,
)
from bench.watch import Watched, watch

TRAIN, TLCNN = ("-m", "tlcnn.train"), ("-m", "tlcnn.cli.main")


def measure_starts(case: Case, timm_train: Path | None, rounds: int) -> Section:
    """Start every program a few times, alternating."""
    section = Section(
        "Start-up (a process each, to its end)",
        ["'already done' is the same training command after it has finished"],
    )
    command = make_tlcnn_words(replace(case, epochs=2), case.work / "start")
    watch(*TRAIN, *command)
    programs: dict[str, tuple[str, ...]] = {
        "python, nothing": ("-c", "pass"),
        "python, import torch": ("-c", "import torch"),
        "python, import timm": ("-c", "import timm"),
        "tlcnn --help": (*TLCNN, "--help"),
        "tlcnn-train --help": (*TRAIN, "--help"),
        "tlcnn compare": (*TLCNN, "compare", str(case.work / "start")),
        "already done": (*TRAIN, *command),
        "plain loop --help": (str(PLAIN_LOOP), "--help"),
    }
    if timm_train:
        programs["timm train.py --help"] = (str(timm_train), "--help")
    for _ in range(rounds):
        for name, program in programs.items():
            watched = watch(*program)
            section.add(name, "whole", s=watched.wall_s, cpu_s=watched.cpu_s)
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
            "next cell: in one process, from the file DONE of a run to the end of the first epoch "
            "of the next, less the seconds of its second epoch",
            "skip: the whole command again, all done, a run",
        ],
    )

    def add(task: str, side: str, watched: Watched, beginning: str) -> None:
        line = watched.find(beginning)[0]
        section.add(task, side, s=line.at_s, cpu_s=line.cpu_s)

    for number in range(rounds):
        command = make_tlcnn_words(replace(case, epochs=9), case.work / f"resume-{number}")
        stopped = watch(*TRAIN, *command, kill_at="epoch 2/", signal_number=signal.SIGTERM)
        add("fresh", "tlcnn", stopped, "epoch 1/")
        section.add("stopping", "tlcnn", s=stopped.wall_s - stopped.find("epoch 2/")[0].at_s)
        add("resumed", "tlcnn", watch(*TRAIN, *command, kill_at="epoch "), "epoch ")
        plain_words = make_plain_words(case)
        add("fresh", "plain loop", watch(str(PLAIN_LOOP), *plain_words, kill_at="{"), "{")
        if timm_train:
            timm_words = make_timm_words(case, f"fresh-{number}")
            timm = watch(str(timm_train), *timm_words, kill_at="Train:")
            add("fresh", "timm", timm, "Train:")
    _measure_sweep(section, replace(case, epochs=2, seeds=(0, 1, 2, 3), freeze="none,layer3"))
    return section


def _measure_sweep(section: Section, case: Case) -> None:
    """Note what lies between the runs of a sweep, and how long it takes to skip them all."""
    output = case.work / "sweep"
    command = [*TRAIN, *make_tlcnn_words(case, output), "progress=false"]
    watch(*command)
    done_files = sorted(output.glob("runs/*/DONE"), key=lambda path: path.stat().st_mtime)
    for previous, current in pairwise(done_files):
        first, second = read_epoch_ends(current.parent)
        second_epoch_s = (second - first).total_seconds()
        first_epoch_s = first.timestamp() - previous.stat().st_mtime
        section.add("next cell", "tlcnn", s=first_epoch_s - second_epoch_s)
    skipped = watch(*command)
    section.add("skip", "tlcnn", s=skipped.wall_s / len(done_files))
