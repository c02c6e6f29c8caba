#!/usr/bin/env python
"""Measure tlcnn against timm's train.py, a plain PyTorch loop, and the limit of the processor.

    python scripts/bench.py [--timm-train PATH] [--images FOLDER] [-o bench.json]
    python scripts/bench.py --device cuda --timm-train PATH

All sides have the same images, start, batches, precision, epochs and evaluation, take turns, and
are stated with the accuracy they reach. See docs/performance.md.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.bars import find_bars
from bench.images import write_folder
from bench.records import Section, describe_machine, render_markdown, write_json
from bench.sides import Case, Side, make_timm, run_plain, run_tlcnn
from bench.starts import measure_resume, measure_starts
from bench.trainings import measure_frozen, measure_grid, measure_single
from bench.weights import make_weights

VIEWS = 4  # of an image, where tlcnn keeps features of frozen layers
PARTS = ("limit", "data", "single", "frozen", "grid", "start", "resume")


@dataclass(frozen=True)
class Scale:
    """How much is measured: images of train, val and test, epochs, batches, repetitions."""

    images: tuple[int, int, int]
    grid_images: tuple[int, int, int]
    epochs: int
    frozen_epochs: int
    grid_epochs: int
    batch_size: int
    grid_batch_size: int
    rounds: int


SCALES = {
    "tiny": Scale((32, 16, 16), (32, 16, 16), 2, 2, 2, 16, 16, 1),
    "small": Scale((256, 64, 32), (64, 32, 32), 3, 4, 2, 32, 32, 3),
    "large": Scale((4096, 512, 512), (1024, 256, 256), 4, 6, 4, 64, 64, 3),
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--timm-train", type=Path, help="timm's train.py; without it: not run")
    parser.add_argument("--images", type=Path, help="a folder of HAM10000; default: drawn")
    parser.add_argument("--weights", type=Path, help="where all start; default: drawn textures")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--scale", choices=list(SCALES), help="default: small; cuda: large")
    parser.add_argument("--seeds", type=int, default=2, help="of the grid")
    parser.add_argument("--rounds", type=int, help="repetitions; default: by scale")
    parser.add_argument("--threads", type=int, help="of a process; default: all cores")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, help="default: a temporary folder")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.json"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them beside the JSON."""
    options = make_parser().parse_args(arguments)
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    machine = describe_machine(options.device, find_threads())
    sections: dict[str, Section] = {}
    with TemporaryDirectory(dir=options.work) as folder:
        for name, part in make_parts(options, Path(folder).resolve()).items():
            print(f"measuring: {name}", flush=True)
            sections[name] = part()
            write(options.output, machine, sections)
    print(options.output.with_suffix(".md").read_text(encoding="utf-8"), end="")


def write(output: Path, machine: dict[str, Any], sections: dict[str, Section]) -> None:
    """Write what has been measured so far, as JSON and as Markdown."""
    bars = find_bars(sections)
    write_json(output, machine, sections, bars)
    text = render_markdown(machine, sections, bars)
    output.with_suffix(".md").write_text(text, encoding="utf-8")


def find_threads() -> int:
    """Return how many threads each process computes with."""
    from tlcnn.device import count_cores

    return count_cores()


def make_parts(options: argparse.Namespace, work: Path) -> dict[str, Callable[[], Section]]:
    """Prepare what all sides share, and return the parts that are wanted."""
    scale = SCALES[options.scale or ("large" if options.device == "cuda" else "small")]
    rounds = options.rounds or scale.rounds
    case, grid = prepare(options, scale, work)
    short = replace(grid, grid=False, seeds=(0,), views=None)
    frozen = replace(case, epochs=scale.frozen_epochs, views=VIEWS)
    sides: dict[str, Side] = {"tlcnn": run_tlcnn, "plain loop": run_plain}
    script = options.timm_train.resolve() if options.timm_train else None
    if script:
        sides["timm"] = make_timm(script)
    n_images, n_grid = scale.images[0], scale.grid_images[0]
    parts: dict[str, Callable[[], Section]] = {
        "limit": lambda: _measure_limit(case, rounds),
        "data": lambda: _measure_data(case, rounds),
        "single": lambda: measure_single(case, sides, {"bf16": rounds, "fp32": 1}, n_images),
        "frozen": lambda: measure_frozen(frozen, sides, max(1, rounds - 1), n_images),
        "grid": lambda: measure_grid(grid, sides, 1, n_grid),
        "start": lambda: measure_starts(short, script, rounds + 2),
        "resume": lambda: measure_resume(short, script, rounds),
    }
    return {name: parts[name] for name in PARTS if name in options.only}


def prepare(options: argparse.Namespace, scale: Scale, work: Path) -> tuple[Case, Case]:
    """Write the images and the weights, and return a single training and the grid."""
    folders = {}
    for name, counts in (("single", scale.images), ("grid", scale.grid_images)):
        by_split = dict(zip(("train", "val", "test"), counts, strict=True))
        folders[name] = write_folder(
            work / name, by_split, source=options.images, cache_dir=work / "prepared"
        )
    weights = make_weights(
        work / "start.safetensors",
        model=options.model,
        n_classes=sum(path.is_dir() for path in (folders["single"] / "train").iterdir()),
        given=options.weights,
        cache=work / "prepared",
        device=options.device,
    )
    case = Case(
        data=folders["single"],
        weights=weights,
        work=work,
        cache=work / "cache",
        model=options.model,
        image_size=options.image_size,
        batch_size=scale.batch_size,
        epochs=scale.epochs,
        device=options.device,
    )
    grid = replace(
        case,
        data=folders["grid"],
        epochs=scale.grid_epochs,
        batch_size=scale.grid_batch_size,
        seeds=tuple(range(options.seeds)),
        views=VIEWS,
        grid=True,
    )
    return case, grid


def _measure_limit(case: Case, rounds: int) -> Section:
    from bench.limit import measure_limit  # torch: not for --help

    return measure_limit(case, ("bf16", "fp32"), 2 * rounds)


def _measure_data(case: Case, rounds: int) -> Section:
    from bench.data_path import measure_data

    return measure_data(case, (case.image_size, 2 * case.image_size), rounds)


if __name__ == "__main__":
    main()
