"""Whole trainings, as processes of their own: one run, frozen layers, the grid."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import median

from bench.records import Row, Section
from bench.sides import Case, Result, Side

AUGMENT_NOTE = (
    "augmentation: tlcnn flips, quarter turns, shift, size 0.85–1.2, rotation ±20°, brightness, "
    "contrast and saturation ±10 % from images stored at 1.125 x the size; timm and the plain "
    "loop RandomResizedCrop(0.5–1), two flips, the same colours, no rotation, decoded each time"
)
EVALUATION_NOTE = (
    "every side evaluates all validation images after every epoch; tlcnn also reads the test "
    "images, the plain loop too, timm does not; tlcnn checkpoints every epoch, timm too"
)


def measure_single(
    case: Case, sides: Mapping[str, Side], precisions: Mapping[str, int], n_images: int
) -> Section:
    """Train all layers on every side, alternating, for each precision a few times."""
    section = Section(
        f"One full fine-tuning run ({case.model}, {case.image_size} px, {n_images} images, "
        f"batch {case.batch_size}, {case.epochs} epochs)",
        [AUGMENT_NOTE, EVALUATION_NOTE, "an epoch includes its validation; the first is left out"],
    )
    for precision, rounds in precisions.items():
        for round_ in range(rounds):
            for name, side in sides.items():
                run = f"single-{precision}-{name}-{round_}"
                this = replace(case, precision=precision, cache=case.work / f"cache-{run}")
                add_result(section.row(precision, name), side(this, run), n_images)
    return section


def measure_frozen(case: Case, sides: Mapping[str, Side], rounds: int, n_images: int) -> Section:
    """Train with frozen layers: tlcnn twice with one cache, so the second finds features."""
    section = Section(
        f"Frozen layers ({case.model}, {case.image_size} px, {n_images} images, "
        f"batch {case.batch_size}, {case.epochs} epochs, {case.precision})",
        [
            f"tlcnn: train.views={case.views}, a finite pool of views an image; the plain loop "
            "sees new views every epoch; timm's train.py cannot freeze layers",
            "'again': another seed, with the cache that the first run left",
        ],
    )
    for freeze in ("all", "layer3"):
        for round_ in range(rounds):
            cache = case.work / f"cache-{freeze}-{round_}"
            for name, seed in (("tlcnn", 0), ("tlcnn again", 1), ("plain loop", 0)):
                this = replace(case, freeze=freeze, cache=cache, seeds=(seed,))
                run = f"{freeze}-{name}-{round_}".replace(" ", "-")
                result = sides[name.split(" again")[0]](this, run)
                add_result(section.row(f"freeze={freeze}", name), result, n_images)
    return section


def measure_grid(case: Case, sides: Mapping[str, Side], rounds: int, n_images: int) -> Section:
    """Train every cell (k, j) of every seed, decoding included."""
    n_cells = 21 * len(case.seeds)
    section = Section(
        f"The grid: 21 cells (k, j) x {len(case.seeds)} seeds ({case.model}, {case.image_size} "
        f"px, {n_images} images, batch {case.batch_size}, {case.epochs} epochs, {case.precision})",
        [
            f"tlcnn: one sweep in one process from an empty cache, train.views={case.views}; "
            "plain loop: one process, one pair of loaders; timm: one process a cell, and every "
            "cell trains all layers, because its train.py cannot freeze",
        ],
    )
    for round_ in range(rounds):
        for name, side in sides.items():
            run = f"grid-{name}-{round_}"
            result = side(replace(case, cache=case.work / f"cache-{run}"), run)
            section.row("grid", name).add(
                whole_s=result.wall_s,
                whole_cpu_s=result.cpu_s,
                s_per_cell=result.wall_s / n_cells,
                cpu_s_per_cell=result.cpu_s / n_cells,
                mean_val_accuracy=result.accuracy,
                peak_MiB=result.peak_mib,
                disk_MiB=result.disk_mib,
            )
    return section


def add_result(row: Row, result: Result, n_images: int) -> None:
    """Note one training; `n_images` are seen in an epoch."""
    epoch_s, epoch_cpu_s = median(result.epoch_s), median(result.epoch_cpu_s)
    row.add(
        epoch_s=epoch_s,
        epoch_cpu_s=epoch_cpu_s,
        ms_per_image=1000 * epoch_s / n_images,
        first_epoch_ends_s=result.first_s,
        whole_s=result.wall_s,
        whole_cpu_s=result.cpu_s,
        val_accuracy=result.accuracy,
        peak_MiB=result.peak_mib,
        disk_MiB=result.disk_mib,
    )
