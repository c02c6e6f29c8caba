#!/usr/bin/env python
"""Measure tlcnn against timm's train.py, a plain PyTorch loop, and the limit of the processor.

    python scripts/bench.py [--timm-train PATH] [--images FOLDER] [-o bench.json]
    python scripts/bench.py --device cuda --timm-train PATH
    python scripts/bench.py --only limit --scale small --rounds 1

All sides have the same images, start, batches, precision, epochs and evaluation, take turns, and
are reported with the accuracy they reach. See docs/performance.md.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.images import write_folder, write_weights
from bench.records import Section, describe_machine, render_markdown, write_results
from bench.sides import Case, Side, run_plain, run_timm, run_tlcnn

from tlcnn.data.index import SPLITS
from tlcnn.device import count_cores

VIEWS = 4  # of an image, where tlcnn stores the outputs of frozen layers
WIDE_PIXELS = 224
PACKED = (1, 2, 4, 8)  # runs at a time


class Size(NamedTuple):
    """One comparison: images of train, val and test, batch size, epochs and repetitions."""

    images: tuple[int, int, int]
    batch_size: int
    epochs: int
    rounds: int = 1


SCALES = {
    "tiny": {
        "single": Size((32, 16, 16), 16, 2),
        "wide": Size((16, 16, 16), 8, 2),
        "frozen": Size((32, 16, 16), 16, 4),
        "grid": Size((32, 16, 16), 16, 2),
        "analysis": Size((32, 16, 16), 16, 2),
    },
    "small": {
        "single": Size((512, 128, 64), 64, 4),
        "wide": Size((64, 32, 32), 16, 3),
        "frozen": Size((1536, 128, 64), 64, 4),  # as many epochs as views, or none is stored
        "grid": Size((160, 64, 64), 32, 3),
        "analysis": Size((2500, 1000, 2000), 64, 2),
    },
    "large": {
        "single": Size((4096, 512, 512), 64, 4, rounds=3),
        "wide": Size((512, 128, 128), 32, 3, rounds=3),
        "frozen": Size((4096, 512, 512), 64, 6, rounds=3),
        "grid": Size((1024, 256, 256), 64, 4),
        "analysis": Size((2500, 1000, 2000), 64, 4, rounds=3),
    },
}
STARTS = {"tiny": 1, "small": 2, "large": 5}  # of every program, and rounds of the data path

PARTS = {  # part -> the size that it is measured at
    "limit": "single",
    "data": "single",
    "single": "single",
    "limit224": "wide",
    "single224": "wide",
    "frozen": "frozen",
    "packed": "grid",
    "grid": "grid",
    "start": "grid",
    "resume": "grid",
    "analysis": "analysis",
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
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of the grid")
    parser.add_argument("--rounds", type=int, help="repetitions; default: by scale")
    parser.add_argument("--threads", type=int, help="threads a process; default: all cores")
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), help="default: all, `packed` on a GPU alone"
    )
    parser.add_argument("--work", type=Path, help="default: a temporary folder")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.json"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them beside the JSON."""
    options = make_parser().parse_args(arguments)
    options.scale = options.scale or ("large" if options.device == "cuda" else "small")
    options.timm_train = options.timm_train and options.timm_train.resolve()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    sections: dict[str, Section] = {}
    started = time.monotonic()
    with TemporaryDirectory(dir=options.work) as folder:
        machine = describe_machine(options.device, Path(folder), options.timm_train)
        default = [name for name in PARTS if name != "packed" or options.device == "cuda"]
        names = [name for name in PARTS if name in (options.only or default)]
        for number, name in enumerate(names, start=1):
            part_started = time.monotonic()
            print(f"[{part_started - started:4.0f} s] {number}/{len(names)} {name}", flush=True)
            case = prepare_case(options, PARTS[name], Path(folder).resolve())
            sections[name] = measure_part(name, case, options)
            sections[name].notes.append(f"measured in {time.monotonic() - part_started:.0f} s")
            write_results(options.output, machine, sections)
    print(f"[{time.monotonic() - started:4.0f} s] done\n")
    print(render_markdown(machine, sections), end="")


def prepare_case(options: argparse.Namespace, size_name: str, work: Path) -> Case:
    """Write the images and weights that all sides share, once a size, and return its case."""
    size: Size = SCALES[options.scale][size_name]
    data, weights = work / f"images-{size_name}", work / f"start-{size_name}.safetensors"
    if not data.is_dir():
        counts = dict(zip(SPLITS, size.images, strict=True))
        write_folder(data, counts, source=options.images, cache_dir=work / "prepared")
        write_weights(
            weights,
            model=options.model,
            n_classes=sum(path.is_dir() for path in (data / "train").iterdir()),
            source=options.weights,
            cache_dir=work / "prepared",
            device=options.device,
        )
    return Case(
        data=data,
        weights=weights,
        work=work,
        cache=work / f"cache-{size_name}",
        model=options.model,
        image_size=WIDE_PIXELS if size_name == "wide" else options.image_size,
        batch_size=size.batch_size,
        epochs=size.epochs,
        device=options.device,
        workers=2 if options.device == "cpu" else max(1, count_cores() - 2),
    )


def measure_part(name: str, case: Case, options: argparse.Namespace) -> Section:
    """Measure one part of the benchmark."""
    from bench.analyses import measure_analysis  # these import torch, which --help does not need
    from bench.data_path import measure_data
    from bench.limit import measure_limit
    from bench.starts import measure_resume, measure_starts
    from bench.trainings import measure_frozen, measure_grid, measure_packed, measure_single

    sides: dict[str, Side] = {"tlcnn": run_tlcnn, "plain loop": run_plain}
    if options.timm_train:
        sides["timm"] = partial(run_timm, options.timm_train)
    rounds = options.rounds or SCALES[options.scale][PARTS[name]].rounds
    starts = options.rounds or STARTS[options.scale]
    is_large = options.scale == "large"
    precisions = {"bf16": rounds}
    if is_large and PARTS[name] == "single":
        precisions["fp32"] = 1
    frozen_case = replace(case, views=VIEWS)
    grid_case = replace(frozen_case, seeds=tuple(range(options.seeds)), grid=True)
    measures: dict[str, Callable[[], Section]] = {
        "limit": lambda: measure_limit(case, tuple(precisions), rounds),
        "single": lambda: measure_single(case, sides, precisions),
        "data": lambda: measure_data(case, starts),
        "frozen": lambda: measure_frozen(frozen_case, sides, rounds),
        "packed": lambda: measure_packed(case, PACKED),
        "grid": lambda: measure_grid(grid_case, sides, None if is_large else 1),
        "start": lambda: measure_starts(case, options.timm_train, starts),
        "resume": lambda: measure_resume(case, options.timm_train, max(1, starts - 1)),
        "analysis": lambda: measure_analysis(case, rounds),
    }
    return measures[name.removesuffix("224")]()


if __name__ == "__main__":
    main()
