#!/usr/bin/env python
"""Measure tlcnn against timm's train.py, a plain PyTorch loop, and the limit of the processor.

    python scripts/bench.py [--timm-train PATH] [--images FOLDER] [-o bench.json]
    python scripts/bench.py --device cuda --timm-train PATH
    python scripts/bench.py --only growth
    python scripts/bench.py --only million --work DIR

All sides have the same images, start, batches, precision, epochs and evaluation, take turns, and
are stated with the accuracy they reach. See docs/performance.md.
"""

import argparse
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.bars import find_bars
from bench.cells import measure_cells
from bench.grid import measure_grid
from bench.images import link_folder, write_folder
from bench.records import Section, describe_machine, render_markdown, write_json
from bench.scales import ASKED, PARTS, SCALES, SECONDS, SIZES, Scale, Size
from bench.sides import Case, Side, make_timm, run_plain, run_tlcnn
from bench.starts import measure_resume, measure_starts
from bench.trainings import measure_frozen, measure_single
from bench.weights import make_weights

VIEWS = 4  # of an image, where tlcnn keeps features of frozen layers
WIDE = 224  # pixels


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
    parser.add_argument("--seeds", type=int, default=3, help="of the grid")
    parser.add_argument("--rounds", type=int, help="repetitions; default: by scale")
    parser.add_argument("--threads", type=int, help="of a process; default: all cores")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, *ASKED], default=list(PARTS))
    parser.add_argument("--work", type=Path, help="default: a temporary folder")
    parser.add_argument("--n-images", type=int, default=1_000_000, help="of --only million")
    parser.add_argument("--limit-mib", type=int, default=2048, help="of --only million")
    parser.add_argument("--cgroup", type=Path, help="of --only million: a folder of cgroups")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.json"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them beside the JSON."""
    options = make_parser().parse_args(arguments)
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    machine = describe_machine(options.device, find_threads(), options.timm_train)
    sections: dict[str, Section] = {}
    started = time.monotonic()
    with TemporaryDirectory(dir=options.work) as folder:
        parts = make_parts(options, Path(folder).resolve())
        for number, (name, part) in enumerate(parts.items(), start=1):
            before, cpu_s = time.monotonic(), _read_cpu_s()
            about = SECONDS.get(name, 0)
            expected = f", about {about} s at scale small on 2 quiet cores" if about else ""
            so_far = f"[{before - started:4.0f} s] {number}/{len(parts)} {name}"
            print(f"{so_far}{expected}", flush=True)
            sections[name] = part()
            took, cpu_s = time.monotonic() - before, _read_cpu_s() - cpu_s
            words = f"measuring this took {took:.0f} s, {cpu_s:.0f} s of processors"
            sections[name].notes.append(words)
            write(options.output, machine, sections)
    print(f"[{time.monotonic() - started:4.0f} s] done\n")
    print(options.output.with_suffix(".md").read_text(encoding="utf-8"), end="")


def _read_cpu_s() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


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
    """Prepare what all sides share, and return the parts that are wanted, in order."""
    parts: dict[str, Callable[[], Section]] = {"million": lambda: _measure_million(options, work)}
    wanted = [name for name in (*PARTS, *ASKED) if name in options.only]
    if set(wanted) - set(parts):
        scale = SCALES[options.scale or ("large" if options.device == "cuda" else "small")]
        used = {SIZES.get(name, "grid") for name in wanted}
        parts |= _make_trainings(options, scale, Prepared(options, scale, used, work))
    return {name: parts[name] for name in wanted}


class Prepared:
    """The images and the weights that all sides share, made when the benchmark begins.

    Args:
        used: names of the sizes in `scale` that something is measured at.

    Attributes:
        largest: the folder of images of which the others are parts.
        weights: where every training starts.
    """

    def __init__(
        self, options: argparse.Namespace, scale: Scale, used: Collection[str], work: Path
    ) -> None:
        self.options, self.scale, self.work = options, scale, work
        sizes = [getattr(scale, name) for name in used]
        counts = [max(size.images[i] for size in sizes) for i in range(3)]
        self.largest = write_folder(
            work / "images", _by_split(counts), source=options.images, cache_dir=work / "prepared"
        )
        self.weights = make_weights(
            work / "start.safetensors",
            model=options.model,
            n_classes=sum(path.is_dir() for path in (self.largest / "train").iterdir()),
            given=options.weights,
            cache=work / "prepared",
            device=options.device,
        )

    def make_case(self, name: str, **changes: Any) -> Case:
        """Return a training on as many of the images as the size of this name has."""
        size: Size = getattr(self.scale, name)
        data = self.work / f"images-{name}"
        case = Case(
            data=data
            if data.is_dir()
            else link_folder(data, self.largest, _by_split(size.images)),
            weights=self.weights,
            work=self.work,
            cache=self.work / f"cache-{name}",
            model=self.options.model,
            image_size=WIDE if name == "wide" else self.options.image_size,
            batch_size=size.batch_size,
            epochs=size.epochs,
            device=self.options.device,
        )
        return replace(case, **changes)


def _by_split(counts: Sequence[int]) -> dict[str, int]:
    return dict(zip(("train", "val", "test"), counts, strict=True))


def _make_trainings(
    options: argparse.Namespace, scale: Scale, prepared: Prepared
) -> dict[str, Callable[[], Section]]:
    make, seeds = prepared.make_case, tuple(range(options.seeds))
    sides: dict[str, Side] = {"tlcnn": run_tlcnn, "plain loop": run_plain}
    script = options.timm_train.resolve() if options.timm_train else None
    if script:
        sides["timm"] = make_timm(script)
    rounds = {name: options.rounds or getattr(scale, name).rounds for name in SIZES.values()}
    starts = options.rounds or scale.starts
    wide = {"bf16": rounds["wide"]}
    single = {"bf16": rounds["single"], **({"fp32": 1} if scale.is_long else {})}

    def make_grid() -> Case:
        return make("grid", seeds=seeds, views=VIEWS, grid=True)

    return {
        "limit": lambda: _measure_limit(
            make("single"), tuple(single), 2 + 2 * max(2, rounds["single"])
        ),
        "data": lambda: _measure_data(make("single"), options.rounds or scale.data_rounds),
        "single": lambda: measure_single(make("single"), sides, single, scale.single.images[0]),
        "limit224": lambda: _measure_limit(make("wide"), ("bf16",), 2 + rounds["wide"]),
        "single224": lambda: measure_single(make("wide"), sides, wide, scale.wide.images[0]),
        "frozen": lambda: measure_frozen(
            make("frozen", views=VIEWS), sides, rounds["frozen"], scale.frozen.images[0]
        ),
        "grid": lambda: measure_grid(make_grid(), sides, scale.grid.images[0], scale.plain_seeds),
        "cells": lambda: measure_cells(make_grid()),
        "start": lambda: measure_starts(make("grid"), script, starts),
        "resume": lambda: measure_resume(make("grid"), script, max(1, starts - 1)),
        "growth": lambda: _measure_growth(make_grid(), scale.growth),
    }


def _measure_limit(case: Case, precisions: tuple[str, ...], epochs: int) -> Section:
    from bench.limit import measure_limit  # torch: not for --help

    return measure_limit(case, precisions, epochs)


def _measure_data(case: Case, rounds: int) -> Section:
    from bench.data_path import measure_data

    return measure_data(case, (case.image_size, 2 * case.image_size), rounds)


def _measure_growth(case: Case, counts: Sequence[int]) -> Section:
    from bench.growth import measure_growth

    return measure_growth(case, counts)


def _measure_million(options: argparse.Namespace, work: Path) -> Section:
    from bench.million import measure_million

    return measure_million(
        work, n_images=options.n_images, limit_mib=options.limit_mib, cgroup=options.cgroup
    )


if __name__ == "__main__":
    main()
