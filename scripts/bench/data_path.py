"""The data path alone: batches ready for the network, and nothing done with them."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bench import plain_loop
from bench.records import Section
from bench.sides import Case, make_plain_words, make_tlcnn_words
from bench.watch import list_processes, read_cpu_s
from tlcnn.config.compose import compose_config
from tlcnn.data.batches import Batches, load_batches, make_order
from tlcnn.data.policy import AUGMENTS, find_policy
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan

N_EPOCHS = 16  # in one measurement of tlcnn; one of the loader has a single epoch


def measure_data(case: Case, rounds: int) -> Section:
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
    for size in (case.image_size, 2 * case.image_size):
        sized_case = replace(case, image_size=size, cache=case.work / "cache-data")
        arguments = make_tlcnn_words(sized_case, case.work / "data")
        plan = make_plan(compose_config(arguments))
        split = load_batches(
            plan.config.dataset,
            plan.dataset,
            Memory(),
            device=plan.device.name,
            cache_dir=plan.cache_dir,
            workers=plan.config.workers,
            progress=plan.config.progress,
        )["train"]
        epochs: dict[str, Callable[[], Iterator[Tensor]]] = {
            f"tlcnn, {augment}": partial(make_views, split, case.batch_size, augment)
            for augment in AUGMENTS
        }
        for augment in ("standard", "none"):
            words = make_plain_words(replace(sized_case, augment=augment))
            loader = plain_loop.build_loader(plain_loop.make_parser().parse_args(words), "train")
            epochs[f"DataLoader, {augment}"] = partial(send_batches, loader, case.device)
        for round_number in range(rounds + 1):
            for side, make_epoch in epochs.items():
                rates = time_epochs(make_epoch, N_EPOCHS if side.startswith("tlcnn") else 1)
                if round_number:  # the first round is warm-up
                    section.add(f"{size} px", side, **rates)
    return section


def make_views(split: Batches, batch_size: int, augment: str) -> Iterator[Tensor]:
    """Make the batches of a whole epoch, as the training loop gets them."""
    batch_size = min(batch_size, len(split))
    n_batches = len(split) // batch_size
    order = make_order(split.keys, seed=0, epoch=1)[: n_batches * batch_size]
    batches = order.reshape(n_batches, batch_size)
    feed = split.feed_views(batches, seed=0, epoch=1, augment=find_policy(augment), n_views=None)
    for number in range(n_batches):
        yield feed.make_batch(number)


def send_batches(loader: DataLoader, device: str) -> Iterator[Tensor]:
    """Take a whole epoch from the plain loop's loader, whose workers persist."""
    for images, _ in loader:
        yield images.to(device, memory_format=torch.channels_last, non_blocking=True)


def time_epochs(make_epoch: Callable[[], Iterator[Tensor]], n_epochs: int) -> dict[str, float]:
    """Return images a second of whole epochs, and microseconds of the processor an image.

    Epochs are whole, so that no worker goes on with the next batches while another side is timed.
    """

    def read_s() -> float:
        return time.process_time() + read_cpu_s(list_processes(os.getpid())[1:])

    started_cpu_s, started = read_s(), time.perf_counter()
    n_images = sum(len(batch) for _ in range(n_epochs) for batch in make_epoch())
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall_s = time.perf_counter() - started
    cpu_s = read_s() - started_cpu_s
    return {"images_per_s": n_images / wall_s, "cpu_us_per_image": 1e6 * cpu_s / n_images}
