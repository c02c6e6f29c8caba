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
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bars import find_bars
from bench.images import link_folder, write_folder, write_weights
from bench.records import Section, describe_machine, render_markdown, write_results
from bench.sides import Case, Side, make_timm, run_plain, run_tlcnn

from tlcnn.data.index import SPLITS
from tlcnn.device import count_cores

VIEWS = 4  # of an image, where tlcnn stores the outputs of frozen layers
WIDE_PIXELS = 224


@dataclass(frozen=True)
class Size:
    """One comparison: images of train, val and test, batch size, epochs and repetitions."""

    images: tuple[int, int, int]
    batch_size: int
    epochs: int
    rounds: int = 1


@dataclass(frozen=True)
class Scale:
    """How much is measured of everything.

    Attributes:
        sizes: one for each kind of case; `wide` has images of 224 pixels.
        data_rounds: repetitions of the data path alone.
        starts: how often every program is started.
        n_plain_seeds: seeds of the grid that the plain loop trains; None: all.
        is_long: whether one run is also measured in fp32.
    """

    sizes: dict[str, Size]
    data_rounds: int
    starts: int
    n_plain_seeds: int | None
    is_long: bool = False


SCALES = {
    "tiny": Scale(
        sizes={
            "single": Size((32, 16, 16), 16, 2),
            "wide": Size((16, 16, 16), 8, 2),
            "frozen": Size((32, 16, 16), 16, 4),
            "grid": Size((32, 16, 16), 16, 2),
        },
        data_rounds=1,
        starts=1,
        n_plain_seeds=1,
    ),
    "small": Scale(
        sizes={
            "single": Size((512, 128, 64), 64, 4),
            "wide": Size((64, 32, 32), 16, 3),
            "frozen": Size((1536, 128, 64), 64, 4),  # as many epochs as views, or none is stored
            "grid": Size((160, 64, 64), 32, 3),
        },
        data_rounds=2,
        starts=2,
        n_plain_seeds=1,
    ),
    "large": Scale(
        sizes={
            "single": Size((4096, 512, 512), 64, 4, rounds=3),
            "wide": Size((512, 128, 128), 32, 3, rounds=3),
            "frozen": Size((4096, 512, 512), 64, 6, rounds=3),
            "grid": Size((1024, 256, 256), 64, 4),
        },
        data_rounds=5,
        starts=5,
        n_plain_seeds=None,
        is_long=True,
    ),
}

PARTS = {  # part -> the size that it is measured at
    "limit": "single",
    "data": "single",
    "single": "single",
    "limit224": "wide",
    "single224": "wide",
    "frozen": "frozen",
    "grid": "grid",
    "start": "grid",
    "resume": "grid",
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
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--work", type=Path, help="default: a temporary folder")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.json"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them beside the JSON."""
    options = make_parser().parse_args(arguments)
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    machine = describe_machine(options.device, count_cores(), options.timm_train)
    sections: dict[str, Section] = {}
    started = time.monotonic()
    with TemporaryDirectory(dir=options.work) as folder:
        parts = make_parts(options, Path(folder).resolve())
        for number, (name, measure) in enumerate(parts.items(), start=1):
            part_started = time.monotonic()
            print(f"[{part_started - started:4.0f} s] {number}/{len(parts)} {name}", flush=True)
            sections[name] = measure()
            sections[name].notes.append(f"measured in {time.monotonic() - part_started:.0f} s")
            write_results(options.output, machine, sections, find_bars(sections))
    print(f"[{time.monotonic() - started:4.0f} s] done\n")
    print(render_markdown(machine, sections, find_bars(sections)), end="")


def make_parts(options: argparse.Namespace, work: Path) -> dict[str, Callable[[], Section]]:
    """Write the images and weights that all sides share, and return the wanted parts in order."""
    from bench.data_path import measure_data  # these import torch, which --help does not need
    from bench.limit import measure_limit
    from bench.starts import measure_resume, measure_starts
    from bench.trainings import measure_frozen, measure_grid, measure_single

    scale = SCALES[options.scale or ("large" if options.device == "cuda" else "small")]
    make_case = prepare_cases(options, scale, work)
    timm_train = options.timm_train.resolve() if options.timm_train else None
    sides: dict[str, Side] = {"tlcnn": run_tlcnn, "plain loop": run_plain}
    if timm_train:
        sides["timm"] = make_timm(timm_train)
    rounds = {name: options.rounds or size.rounds for name, size in scale.sizes.items()}
    starts = options.rounds or scale.starts
    precisions = {"bf16": rounds["single"], **({"fp32": 1} if scale.is_long else {})}

    parts: dict[str, Callable[[Case], Section]] = {
        "limit": lambda case: measure_limit(case, tuple(precisions), rounds["single"]),
        "data": lambda case: measure_data(case, options.rounds or scale.data_rounds),
        "single": lambda case: measure_single(case, sides, precisions),
        "limit224": lambda case: measure_limit(case, ("bf16",), rounds["wide"]),
        "single224": lambda case: measure_single(case, sides, {"bf16": rounds["wide"]}),
        "frozen": lambda case: measure_frozen(replace(case, views=VIEWS), sides, rounds["frozen"]),
        "grid": lambda case: measure_grid(
            replace(case, seeds=tuple(range(options.seeds)), views=VIEWS, grid=True),
            sides,
            scale.n_plain_seeds,
        ),
        "start": lambda case: measure_starts(case, timm_train, starts),
        "resume": lambda case: measure_resume(case, timm_train, max(1, starts - 1)),
    }

    def bind(name: str) -> Callable[[], Section]:
        return lambda: parts[name](make_case(PARTS[name]))

    return {name: bind(name) for name in PARTS if name in options.only}


def prepare_cases(options: argparse.Namespace, scale: Scale, work: Path) -> Callable[[str], Case]:
    """Write the images and weights that all sides share; return what makes a case of a size.

    The images of a size are a part of one folder, so that they are written once.
    """
    sizes = [scale.sizes[PARTS[name]] for name in options.only]
    n_most = [max(size.images[i] for size in sizes) for i in range(len(SPLITS))]
    images = write_folder(
        work / "images",
        dict(zip(SPLITS, n_most, strict=True)),
        source=options.images,
        cache_dir=work / "prepared",
    )
    weights = write_weights(
        work / "start.safetensors",
        model=options.model,
        n_classes=sum(path.is_dir() for path in (images / "train").iterdir()),
        source=options.weights,
        cache_dir=work / "prepared",
        device=options.device,
    )

    def make_case(name: str) -> Case:
        size, data = scale.sizes[name], work / f"images-{name}"
        if not data.is_dir():
            link_folder(data, images, dict(zip(SPLITS, size.images, strict=True)))
        return Case(
            data=data,
            weights=weights,
            work=work,
            cache=work / f"cache-{name}",
            model=options.model,
            image_size=WIDE_PIXELS if name == "wide" else options.image_size,
            batch_size=size.batch_size,
            epochs=size.epochs,
            device=options.device,
        )

    return make_case


if __name__ == "__main__":
    main()
