"""A million images on disk, an epoch over them, and a process whose memory is limited."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.records import Section
from bench.watch import watch

PROGRAM = Path(__file__).with_name("epoch_rows.py")
SIDE = 72  # pixels stored for a network that sees 64
_IMAGE = SIDE * SIDE * 3  # bytes


def measure_million(
    work: Path, *, n_images: int, limit_mib: int, cgroup: Path | None, augment: str = "standard"
) -> Section:
    """Make batches of a whole epoch over an array larger than the memory that is allowed.

    Args:
        work: where the array lies meanwhile; it is deleted.
        cgroup: a folder of cgroups in which this process may make one; None: see `find_limit`.
    """
    array = write_array(work / "million.u8", n_images)
    how, prefix, words = find_limit(limit_mib, cgroup)
    section = Section(
        f"{n_images:,} images of {SIDE} x {SIDE} pixels on disk "
        f"({n_images * _IMAGE / 1e9:.1f} GB, no hole), {limit_mib:,} MiB of memory",
        [
            f"limit: {how}",
            f"an epoch of make_train_batch in training order, batch 64, augmentation {augment}, "
            "one process; the network is left out, so no step hides the reading",
            "own: anonymous memory of the process (RssAnon); mapped: pages of files in it "
            "(RssFile); cached: pages of the array in the page cache; MiB at the part's end",
        ],
    )
    try:
        with joining(cgroup, limit_mib) as join:
            command = [sys.executable, str(PROGRAM), str(array), f"--n-images={n_images}"]
            command += [f"--augment={augment}", *words]
            watched = watch([*prefix, *join, *command])
        for line in watched.lines:
            if line.text.startswith("{"):
                add_part(section, json.loads(line.text))
    finally:
        array.unlink()
    return section


def add_part(section: Section, told: dict[str, Any]) -> None:
    """Note one line of `epoch_rows.py`."""
    what = told["what"] if told["what"] != "part" else f"to image {told['images']:,.0f}"
    memory = {f"{name}_MiB": told[f"{name}_mib"] for name in ("own", "mapped", "cached")}
    rates = {"images_per_s": "rate", "images_per_cpu_s": "cpu_rate"}
    rate = {name: told[key] for name, key in rates.items() if key in told}
    section.row(what, "tlcnn").add(**rate, **memory)


def write_array(path: Path, n_images: int, *, chunk: int = 4096) -> Path:
    """Write bytes that are all there and differ from image to image, and forget them again.

    Raises:
        SystemExit: the disk is too small.
    """
    free = shutil.disk_usage(path.parent).free
    if free < n_images * _IMAGE + 2**30:
        raise SystemExit(f"{n_images * _IMAGE / 1e9:.1f} GB are needed, {free / 1e9:.1f} are free")
    some = np.random.default_rng(0).integers(0, 256, (chunk, _IMAGE), dtype=np.uint8)
    with open(path, "wb") as file:
        for start in range(0, n_images, chunk):
            block = some[: n_images - start]
            block[:, :8] = np.arange(start, start + len(block), dtype="<u8")[:, None].view("u1")
            file.write(block.data)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def find_limit(limit_mib: int, cgroup: Path | None) -> tuple[str, list[str], list[str]]:
    """Return how memory is limited, words before the command, and words after it."""
    if cgroup is not None:
        return f"a cgroup in {cgroup}, page cache included, no swap", [], []
    scope = ["systemd-run", "--scope", "--quiet", "-p", f"MemoryMax={limit_mib}M"]
    scope += ["-p", "MemorySwapMax=0", "--"]
    if Path("/run/systemd/system").is_dir() and shutil.which("systemd-run"):
        for prefix in (scope, [scope[0], "--user", *scope[1:]]):
            if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
                return "a cgroup of systemd-run, page cache included, no swap", prefix, []
    words = (
        "no cgroup could be made, so the program looks every 16 batches: it ends when its own "
        "memory is larger, and drops all cached pages of the array when both together are"
    )
    return words, [], [f"--limit-mib={limit_mib}"]


@contextmanager
def joining(cgroup: Path | None, limit_mib: int) -> Iterator[list[str]]:
    """Make a cgroup with a limit, yield words that make a command join it, and delete it."""
    if cgroup is None:
        yield []
        return
    ours = cgroup / f"tlcnn-bench-{os.getpid()}"
    ours.mkdir()
    try:
        names = ("memory.max", "memory.limit_in_bytes")  # version 2, version 1
        name = next(name for name in names if (ours / name).is_file())
        (ours / name).write_text(str(limit_mib * 2**20))
        if (ours / "memory.swap.max").is_file():
            (ours / "memory.swap.max").write_text("0")
        yield ["sh", "-c", f'echo $$ > "{ours}/cgroup.procs" && exec "$@"', "sh"]
    finally:
        ours.rmdir()
