"""Measures of what is inside a network: the whole command `tlcnn analyse`, for one run."""

import shutil
from dataclasses import replace

from bench.records import Section
from bench.sides import Case, make_tlcnn_words
from bench.watch import watch


def measure_analysis(case: Case, rounds: int) -> Section:
    """Train a run and two from random weights, and analyse the first again and again."""
    section = Section(
        f"Measures of one run ({case.describe()})",
        [
            "all measures but stitching, on all training images, against two runs from random "
            "weights; the command from its start to its end",
            "skipped: the same command once more",
            "memory is the largest resident set of the process; importing torch is part of it",
        ],
    )
    output = case.work / "analysed"
    words = make_tlcnn_words(replace(case, seeds=(0, 1)), output)
    left_out = ("init=", "init.weights=", "freeze.through=")
    watch("-m", "tlcnn.train", *(w for w in words if not w.startswith(left_out)), "init=random")
    watch("-m", "tlcnn.train", *make_tlcnn_words(case, output))
    (run_dir,) = output.glob("runs/*-checkpoint-*")
    command = ["-m", "tlcnn.cli.main", "analyse", str(run_dir), f"--device={case.device}"]
    for _ in range(rounds):
        shutil.rmtree(output / "measures", ignore_errors=True)
        for task in ("computed", "skipped"):
            watched = watch(*command, f"--images={case.n_images}")
            values = {"s": watched.wall_s, "cpu_s": watched.cpu_s, "peak_mib": watched.largest_mib}
            section.add(task, "tlcnn", **values)
    return section
