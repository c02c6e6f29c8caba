"""The data path alone: batches ready for the network, and nothing done with them."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from bench import plain_loop
from bench.records import Section
from bench.sides import Case, make_plain_words, make_tlcnn_words
from bench.watch import list_tree, read_own_cpu_s
from tlcnn.config.compose import compose_config
from tlcnn.data.batches import Batches, make_order, make_train_batch
from tlcnn.data.policy import AUGMENTS
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan
from tlcnn.run.images import load_batches
from tlcnn.training.interrupt import StopRequest

N_EPOCHS = 16  # a measurement of tlcnn; of the loader one

Epoch = Callable[[], Iterator[Tensor]]


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
        takes = {f"tlcnn, {name}": make_views(split, this, name) for name in AUGMENTS}
        for augment in ("standard", "none"):
            takes[f"DataLoader, {augment}"] = make_loads(replace(this, augment=augment))
        for round_ in range(rounds + 1):
            for side, make_epoch in takes.items():
                rates = time_epochs(make_epoch, 1 if side.startswith("Data") else N_EPOCHS)
                if round_:  # the first is warm-up
                    section.row(f"{size} px", side).add(**rates)
    return section


def open_split(case: Case) -> Batches:
    """Return the training images of a case as tlcnn holds them."""
    plan = make_plan(compose_config(make_tlcnn_words(case, case.work / "data")))
    return load_batches(plan, StopRequest(), Memory())["train"]


def make_views(split: Batches, case: Case, augment: str) -> Epoch:
    """Return what makes the batches of a whole epoch, as the training loop gets them."""
    size = min(case.batch_size, len(split))

    def make_epoch() -> Iterator[Tensor]:
        order = make_order(split.keys, seed=0, epoch=1)
        for start in range(0, len(order) - size + 1, size):
            picked = order[start : start + size]
            yield make_train_batch(split, picked, seed=0, epoch=1, augment=augment, n_views=None)[
                0
            ]

    return make_epoch


def make_loads(case: Case) -> Epoch:
    """Return what takes a whole epoch from the plain loop's loader, whose workers persist."""
    words = make_plain_words(replace(case, freeze="none"))
    loader = plain_loop.build_loader(plain_loop.make_parser().parse_args(words), "train")

    def make_epoch() -> Iterator[Tensor]:
        for images, _ in loader:
            yield images.to(case.device, memory_format=torch.channels_last, non_blocking=True)

    return make_epoch


def time_epochs(make_epoch: Epoch, n_epochs: int) -> dict[str, float]:
    """Return images a second of whole epochs, and microseconds of the processor an image.

    Whole, so that no worker goes on with the next batches while another side is timed.
    """
    cpu_s, wall_s = _read_all_cpu_s(), time.perf_counter()
    n_images = sum(len(batch) for _ in range(n_epochs) for batch in make_epoch())
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall_s, own_s = time.perf_counter() - wall_s, time.process_time()
    cpu_s = own_s + _read_workers_cpu_s() - cpu_s
    return {"images_per_s": n_images / wall_s, "cpu_us_per_image": 1e6 * cpu_s / n_images}


def _read_all_cpu_s() -> float:
    """Return processor seconds: of this process exactly, of its workers in ticks of 10 ms."""
    workers_s = _read_workers_cpu_s()  # first: looking for them takes time itself
    return workers_s + time.process_time()


def _read_workers_cpu_s() -> float:
    return sum(read_own_cpu_s(pid) for pid in list_tree(os.getpid())[1:])
