"""Whole trainings, as processes of their own: one run, and frozen layers."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean

from bench.records import Row, Section
from bench.sides import Case, Result, Side

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
    case: Case, sides: Mapping[str, Side], precisions: Mapping[str, int], n_images: int
) -> Section:
    """Train all layers on every side, alternating, for each precision a few times."""
    section = Section(
        f"One full fine-tuning run ({case.model}, {case.image_size} px, {n_images} images, "
        f"batch {case.batch_size}, {case.epochs} epochs)",
        [AUGMENT_NOTE, EVALUATION_NOTE, EPOCH_NOTE],
    )
    for precision, rounds in precisions.items():
        for round_ in range(rounds):
            for name, side in sides.items():
                run = f"single-{case.image_size}-{precision}-{name}-{round_}".replace(" ", "-")
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
            EPOCH_NOTE,
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


def add_result(row: Row, result: Result, n_images: int) -> None:
    """Note one training; `n_images` are seen in an epoch.

    Every epoch but the first is a measurement by the clock. The processor's time is known in
    steps of 10 ms, so it is their mean.
    """
    for epoch_s in result.epoch_s:
        row.add(epoch_s=epoch_s, ms_per_image=1000 * epoch_s / n_images)
    row.add(
        epoch_cpu_s=mean(result.epoch_cpu_s),
        first_epoch_ends_s=result.first_s,
        whole_s=result.wall_s,
        whole_cpu_s=result.cpu_s,
        val_accuracy=result.accuracy,
        peak_MiB=result.peak_mib,
        disk_MiB=result.disk_mib,
    )
