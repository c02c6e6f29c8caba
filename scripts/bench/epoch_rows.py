"""A program: an epoch of training batches over an array of images on disk, in training order.

    python scripts/bench/epoch_rows.py ARRAY --n-images 1000000 [--limit-mib 2048] [--steps 300]

ARRAY is (N, S, S, 3) uint8 without a header. One JSON line a part of the epoch: images a second,
its own memory, pages of the array in its memory, and pages of the array in the page cache.
With --limit-mib it keeps itself below a limit where no cgroup does: it looks every few batches,
ends when its own memory is larger, and gives all pages of the array back when both together are.
"""

import argparse
import ctypes
import json
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK_EVERY = 16  # batches


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("array", type=Path)
    parser.add_argument("--n-images", type=int, required=True)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--augment", default="standard")
    parser.add_argument("--steps", type=int, help="batches; default: the whole epoch")
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--model", help="also make training steps with it, in bf16")
    parser.add_argument("--limit-mib", type=int, help="keep below it, without a cgroup")
    return parser


class MappedArray:
    """An array file as tlcnn maps it, which can tell and give back the pages it has cached."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self.map = mmap.mmap(self._fd, 0, prot=mmap.PROT_READ)
        self.map.madvise(mmap.MADV_RANDOM)  # as tlcnn.data.cache does
        self.array = np.frombuffer(self.map, np.uint8, int(np.prod(shape))).reshape(shape)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._known = np.zeros(-(-len(self.map) // PAGE), np.uint8)

    def count_cached_mib(self) -> float:
        """Return how much of the file is in the page cache, whoever read it."""
        start = ctypes.c_void_p(self.array.ctypes.data)
        known = self._known.ctypes.data_as(ctypes.c_void_p)
        if self._libc.mincore(start, ctypes.c_size_t(len(self.map)), known):
            raise OSError(ctypes.get_errno(), "mincore")
        return float(np.count_nonzero(self._known & 1)) * PAGE / 2**20

    def give_back(self) -> None:
        """Drop all its pages, so that what is read next comes from the disk."""
        self.map.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Make the batches and tell what they took."""
    options = make_parser().parse_args()
    import torch

    from tlcnn.data.augment import make_image_keys
    from tlcnn.data.batches import Batches, make_order, make_train_batch
    from tlcnn.device import count_cores

    torch.set_num_threads(count_cores())
    n, side = options.n_images, options.image_size + options.image_size // 8
    pages = MappedArray(options.array, (n, side, side, 3))
    step = build_step(options) if options.model else lambda images: None
    keep = make_keeper(pages, options.limit_mib) if options.limit_mib else lambda: None
    tell(pages, "start")
    split = Batches(
        pixels=pages.array,
        rows=np.arange(n),
        labels=torch.zeros(n, dtype=torch.long),
        keys=make_image_keys([str(number) for number in range(n)]),
        image_size=options.image_size,
        normalize="imagenet",
    )
    order = make_order(split.keys, seed=0, epoch=1)
    tell(pages, "ids and order")
    n_steps = min(options.steps or n, n // options.batch_size)
    ends = {round(n_steps * part / options.parts) for part in range(1, options.parts + 1)}
    words = {"seed": 0, "epoch": 1, "augment": options.augment, "n_views": None}
    started, cpu_s, done = time.perf_counter(), time.process_time(), 0
    for number in range(n_steps):
        picked = order[number * options.batch_size : (number + 1) * options.batch_size]
        step(make_train_batch(split, picked, **words)[0])
        done += len(picked)
        if number % LOOK_EVERY == 0:
            keep()
        if number + 1 in ends:
            rate = done / (time.perf_counter() - started)
            cpu_rate = done / (time.process_time() - cpu_s)
            images = (number + 1) * options.batch_size
            tell(pages, "part", images=images, rate=rate, cpu_rate=cpu_rate)
            started, cpu_s, done = time.perf_counter(), time.process_time(), 0


def build_step(options: argparse.Namespace) -> Callable[..., None]:
    """Return a training step on images that have come."""
    import timm
    import torch

    model = timm.create_model(options.model, num_classes=7).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step(images: torch.Tensor) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(images)
        logits.float().logsumexp(1).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def make_keeper(pages: MappedArray, limit_mib: int) -> Callable[[], None]:
    """Return what keeps the process's own memory and the array's pages below a limit."""

    def keep() -> None:
        own_mib = read_status()["RssAnon"]
        if own_mib > limit_mib:
            raise SystemExit(f"{own_mib:.0f} MiB of memory are more than {limit_mib}")
        if pages.count_cached_mib() + own_mib > limit_mib:
            pages.give_back()

    return keep


def tell(pages: MappedArray, what: str, **more: float) -> None:
    """Print one line of numbers."""
    status = read_status()
    numbers = {"own_mib": status["RssAnon"], "mapped_mib": status["RssFile"]}
    told = {"what": what, **numbers, "cached_mib": pages.count_cached_mib(), **more}
    print(json.dumps(told), flush=True)


def read_status() -> dict[str, float]:
    """Return the memory of this process in MiB, by kind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {x.split(":")[0]: int(x.split()[1]) / 1024 for x in lines if x.startswith("Rss")}


if __name__ == "__main__":
    main()
