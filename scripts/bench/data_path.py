"""The data path alone: batches ready for the network, and nothing done with them."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice

import torch
from torch import Tensor

from bench import plain_loop
from bench.records import Section
from bench.sides import Case, make_plain_words, make_tlcnn_words
from bench.watch import list_tree, read_own_cpu_s
from tlcnn.compose import compose_config
from tlcnn.data.policy import AUGMENTS
from tlcnn.experiment import load_batches
from tlcnn.memory import Memory
from tlcnn.plan import make_plan
from tlcnn.training.batches import Batches, make_order, make_train_batch
from tlcnn.training.interrupt import StopRequest

N_BATCHES = 6  # a measurement


def measure_data(case: Case, sizes: tuple[int, ...], rounds: int) -> Section:
    """Make batches with every augmentation, alternating with a DataLoader."""
    section = Section(
        f"The data path alone (batch {case.batch_size}, normalised float batches on the device)",
        [
            "tlcnn: one process, from the memory-mapped cache of decoded images",
            f"DataLoader: {case.workers} workers that persist, decoding 600 x 450 JPEGs, "
            "RandomResizedCrop, flips, colours; with augmentation none: resize and centre crop",
            "processor seconds are of the process and its workers",
        ],
    )
    for size in sizes:
        this = replace(case, image_size=size, cache=case.work / "cache-data")
        split = open_split(this)
        takes = {name: iter_views(split, this, name) for name in AUGMENTS}
        for augment in ("standard", "none"):
            takes[f"DataLoader, {augment}"] = iter_loader(replace(this, augment=augment))
        for round_ in range(rounds + 1):
            for name, batches in takes.items():
                what = name if name.startswith("Data") else f"tlcnn, {name}"
                rates = time_batches(batches)
                if round_:  # the first is warm-up
                    section.row(f"{size} px", what).add(**rates)
        for batches in takes.values():
            batches.close()
    return section


def open_split(case: Case) -> Batches:
    """Return the training images of a case as tlcnn holds them."""
    plan = make_plan(compose_config(make_tlcnn_words(case, case.work / "data")))
    return load_batches(plan, StopRequest(), Memory())["train"]


def iter_views(split: Batches, case: Case, augment: str) -> Iterator[Tensor]:
    """Yield training batches without end, as the loop gets them."""
    size = min(case.batch_size, len(split))
    for epoch in cycle(range(1, 1000)):
        order = make_order(split.keys, seed=0, epoch=epoch)
        for start in range(0, len(order) - size + 1, size):
            picked = order[start : start + size]
            yield make_train_batch(
                split, picked, seed=0, epoch=epoch, augment=augment, n_views=None
            )[0]


def iter_loader(case: Case) -> Iterator[Tensor]:
    """Yield the plain loop's training batches without end."""
    words = make_plain_words(replace(case, freeze="none"))
    loader = plain_loop.build_loader(plain_loop.make_parser().parse_args(words), "train")
    while True:
        for images, _ in loader:
            yield images.to(case.device, memory_format=torch.channels_last, non_blocking=True)


def time_batches(batches: Iterator[Tensor]) -> dict[str, float]:
    """Return images a second of a few batches, and microseconds of the processor an image."""
    wall_s, cpu_s = time.perf_counter(), _read_all_cpu_s()
    n_images = sum(len(batch) for batch in islice(batches, N_BATCHES))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall_s, cpu_s = time.perf_counter() - wall_s, _read_all_cpu_s() - cpu_s
    return {"images_per_s": n_images / wall_s, "cpu_us_per_image": 1e6 * cpu_s / n_images}


def _read_all_cpu_s() -> float:
    """Return processor seconds: of this process exactly, of its workers in ticks of 10 ms."""
    workers = sum(read_own_cpu_s(pid) for pid in list_tree(os.getpid())[1:])
    return time.process_time() + workers
