"""Whole trainings: one run, frozen layers, runs that share the device, and the grid."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean

from bench.records import Section
from bench.sides import Case, Result, Side, make_tlcnn_words
from tlcnn.config.compose import make_memory
from tlcnn.device import count_cores
from tlcnn.run.job import Job
from tlcnn.sweep.drive import launch_here

QUIET = {"progress": False}
N_CELLS = 21  # of a seed: 0 <= j <= k <= 5
AUGMENT_NOTE = (
    "augmentation: tlcnn flips, quarter turns, shift, size 0.85–1.2, rotation ±20°, brightness, "
    "contrast and saturation ±10 % from images stored at 1.125 x the size; timm and the plain "
    "loop RandomResizedCrop(0.5–1), two flips, the same colours, no rotation, decoded each time"
)
EVALUATION_NOTE = (
    "every side evaluates all validation images after every epoch; tlcnn and the plain loop read "
    "the test images at the end, timm does not; timm saves a checkpoint every epoch, tlcnn as "
    "often as it costs little, the plain loop none"
)
EPOCH_NOTE = (
    "an epoch includes its validation; the first, in which tlcnn decodes and the workers of the "
    "others start, is left out of it and part of the whole, as is the start of the process"
)


def measure_single(
    case: Case, sides: Mapping[str, Side], precisions: Mapping[str, int]
) -> Section:
    """Train all layers on every side, alternating, as many rounds as a precision has."""
    section = Section(
        f"One full fine-tuning run ({case.describe()})",
        [AUGMENT_NOTE, EVALUATION_NOTE, EPOCH_NOTE],
    )
    for precision, rounds in precisions.items():
        for round_number in range(rounds):
            for name, side in sides.items():
                run = f"single-{case.image_size}-{precision}-{name}-{round_number}".replace(
                    " ", "-"
                )
                this_case = replace(case, precision=precision, cache=case.work / f"cache-{run}")
                add_result(section, precision, name, side(this_case, run), case.n_images)
    return section


def measure_frozen(case: Case, sides: Mapping[str, Side], rounds: int) -> Section:
    """Train with frozen layers: tlcnn twice with one cache, so the second reads features."""
    section = Section(
        f"Frozen layers ({case.describe()}, {case.precision})",
        [
            f"tlcnn: train.views={case.views}, a finite pool of views an image; the plain loop "
            "sees new views every epoch; timm's train.py cannot freeze layers",
            "'again': another seed, with the cache that the first run left",
            EPOCH_NOTE,
        ],
    )
    for freeze in ("all", "layer3"):
        for round_number in range(rounds):
            cache = case.work / f"cache-{freeze}-{round_number}"
            for name, seed in (("tlcnn", 0), ("tlcnn again", 1), ("plain loop", 0)):
                this_case = replace(case, freeze=freeze, cache=cache, seeds=(seed,))
                run = f"{freeze}-{name}-{round_number}".replace(" ", "-")
                result = sides[name.removesuffix(" again")](this_case, run)
                add_result(section, f"freeze={freeze}", name, result, case.n_images)
    return section


def add_result(section: Section, task: str, side: str, result: Result, n_images: int) -> None:
    """Note one training.

    Every epoch but the first is a measurement by the clock. The processor's time is known in
    steps of 10 ms, so its mean over the epochs is noted.
    """
    for epoch_s in result.epoch_s:
        section.add(task, side, epoch_s=epoch_s, ms_per_image=1000 * epoch_s / n_images)
    section.add(
        task,
        side,
        epoch_cpu_s=mean(result.epoch_cpu_s),
        first_epoch_ends_s=result.first_s,
        whole_s=result.wall_s,
        whole_cpu_s=result.cpu_s,
        val_accuracy=result.accuracy,
        peak_MiB=result.peak_mib,
        disk_MiB=result.disk_mib,
    )


def measure_grid(case: Case, sides: Mapping[str, Side], n_plain_seeds: int | None) -> Section:
    """Train every cell (k, j) of every seed, decoding included.

    timm's train.py cannot freeze, so all its cells are the same work: one a seed is trained, at
    different times, because the load of the machine changes.

    Args:
        n_plain_seeds: how many seeds the plain loop trains; the others are estimated. None: all.
    """
    n_cells = N_CELLS * len(case.seeds)
    pool = count_cores() if case.device == "cpu" else 1
    together = f"{pool} runs at a time (hydra/launcher=pool)"
    if case.device == "cuda":
        together = "as many runs at a time as the GPU has memory for (hydra.launcher.packed=auto)"
    plain_case = replace(case, seeds=case.seeds[:n_plain_seeds])
    n_plain = N_CELLS * len(plain_case.seeds)
    timm_results = []

    def train_timm(seed: int) -> None:
        if "timm" in sides:
            timm_case = replace(case, grid=False, seeds=(seed,), views=None)
            timm_results.append(sides["timm"](timm_case, f"grid-timm-{seed}"))

    train_timm(case.seeds[0])
    tlcnn = sides["tlcnn"](replace(case, cache=case.work / "cache-grid", pool=pool), "grid")
    for seed in case.seeds[1:2]:
        train_timm(seed)
    plain = sides["plain loop"](plain_case, "grid-plain")
    for seed in case.seeds[2:]:
        train_timm(seed)

    whole = {"tlcnn": (tlcnn, n_cells), "plain loop": (extend(plain, n_plain, n_cells), n_plain)}
    if timm_results:
        whole["timm"] = (multiply(timm_results, n_cells), len(timm_results))
    section = Section(
        f"The grid: {N_CELLS} cells (k, j) x {len(case.seeds)} seeds ({case.describe()}, "
        f"{case.precision})",
        [
            f"tlcnn: one sweep from an empty cache, {together}, "
            f"train.views={case.views}, a finite pool of views an image; the others see new views "
            "every epoch",
            "plain loop: one process, one pair of loaders, frozen layers without a graph; cells "
            "that were not trained are estimated at the same seconds an epoch, without a start",
            "timm: one process a cell, and every cell trains all layers, because its train.py "
            "cannot freeze; cells that were not trained are estimated as the mean of the others",
            "accuracy: the mean over what was trained, of each cell's best epoch on validation",
        ],
    )
    for name, (result, n_measured) in whole.items():
        section.add(
            "grid",
            name,
            whole_s=result.wall_s,
            whole_cpu_s=result.cpu_s,
            s_per_cell=result.wall_s / n_cells,
            cpu_s_per_cell=result.cpu_s / n_cells,
            mean_val_accuracy=result.accuracy,
            peak_MiB=result.peak_mib,
            disk_MiB=result.disk_mib,
            n_measured=n_measured,
            n_cells=n_cells,
        )
    return section


def measure_packed(case: Case, counts: Sequence[int], n_runs: int = 8) -> Section:
    """Train the same runs in this process, so many at a time, each count from new folders."""
    section = Section(
        f"Runs that share the device ({n_runs} runs of {case.describe()}, {case.precision})",
        [
            "whole: all runs, each with its start, validations and results, in a process that "
            "has decoded the images and loaded the kernels; images/s: of training, over the whole",
        ],
    )
    memory = make_memory([])
    for number, count in enumerate((1, *counts)):
        output = case.work / f"packed-{case.image_size}-{number}"
        jobs = [
            Job(tuple(make_tlcnn_words(replace(case, seeds=(seed,)), output)), place=QUIET)
            for seed in range(n_runs if number else 1)  # the first time is warm-up
        ]
        started = time.perf_counter()
        for outcome in launch_here(jobs, memory, n_together=count):
            if outcome.code:
                raise SystemExit(outcome.error)
        if number:
            whole_s = time.perf_counter() - started
            rate = n_runs * case.epochs * case.n_images / whole_s
            section.add(f"{count} at a time", "tlcnn", images_per_s=rate, whole_s=whole_s)
    return section


def extend(result: Result, n_measured: int, n_cells: int) -> Result:
    """Return what one program takes for `n_cells` cells, from one that trained fewer.

    The program is started once, and each further cell costs the seconds of its epochs.
    """
    if n_measured == n_cells:
        return result
    n_epochs = (n_cells - n_measured) * (len(result.epoch_s) + 1) / n_measured
    return replace(
        result,
        wall_s=result.wall_s + n_epochs * mean(result.epoch_s),
        cpu_s=result.cpu_s + n_epochs * mean(result.epoch_cpu_s),
    )


def multiply(results: list[Result], n_cells: int) -> Result:
    """Return what `n_cells` programs take, one a cell, from some of them."""
    return replace(
        results[0],
        wall_s=n_cells * mean(result.wall_s for result in results),
        cpu_s=n_cells * mean(result.cpu_s for result in results),
        accuracy=mean(result.accuracy for result in results),
        peak_mib=max(result.peak_mib for result in results),
        disk_mib=n_cells * mean(result.disk_mib for result in results),
    )
