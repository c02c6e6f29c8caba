#!/usr/bin/env python
"""Check tlcnn on a GPU, in ten minutes: tests, bits, speed, start-up and a grid; one short table.

    python scripts/gpu_check.py                          # drawn images; all parts
    python scripts/gpu_check.py --data HAM10000 --weights FILE --timm-train PATH
    python scripts/gpu_check.py --only bits speed        # some parts
    python scripts/gpu_check.py --dry                    # tiny, on the CPU: does every part run?

Every part is a process of its own with a limit of time; what fails or takes too long does not
end the others. Nothing needs a network. See docs/performance.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.images import write_folder, write_weights
from bench.sides import Case

from tlcnn.data.index import SPLITS
from tlcnn.device import count_cores

PARTS = {  # part -> what it does, seconds that it may take, and about what it takes on an H100
    "bits": ("eager = recorded = packed = killed and resumed, fp32 and bf16", 240, 60),
    "speed": ("one run against its limit, packed runs, the peers", 300, 180),
    "tests": ("pytest -m gpu", 300, 150),
    "grid": ("21 cells x 3 seeds, sharing the card, against the peers", 300, 120),
    "reuse": ("whether stored outputs of frozen units are exact here", 120, 45),
    "start": ("where the seconds go until the first epoch ends", 120, 45),
}
OTHER_MODEL = "tf_efficientnet_lite0"  # what --weights are of, unless --weights-model says more


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--data", type=Path, help="a folder of HAM10000; default: drawn lesions")
    parser.add_argument("--weights", type=Path, help="weights of ImageNet; default: none")
    parser.add_argument(
        "--weights-model", default=OTHER_MODEL, help="the network that they are of"
    )
    parser.add_argument("--timm-train", type=Path, help="timm's train.py; without it: not run")
    parser.add_argument("--images", type=int, default=4096, help="number of training images")
    parser.add_argument("--seconds", type=int, help="limit of a part; default: by part")
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU")
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_check"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and print the table; return 1 if a part failed."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser().parse_args(arguments)
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    cases = describe_cases(options)
    if options.inside:
        from bench.card import Check, run_part

        run_part(options.only[0], Check(output=options.output, is_dry=options.dry, **cases))
        return 0
    started = time.monotonic()
    announce(options)
    prepare(options, cases)
    ended = {name: run_inside(name, options, arguments, started) for name in options.only}
    text = write_table(options, ended, time.monotonic() - started)
    print(f"\n{text}", end="")
    return int(any(reason for reason in ended.values()))


def announce(options: argparse.Namespace) -> None:
    """Say what comes and how long it may take."""
    limits = {name: options.seconds or PARTS[name][1] for name in options.only}
    usual = sum(PARTS[name][2] for name in options.only)
    time_text = "" if options.dry else f", about {usual} s on an H100"
    print(
        f"{len(limits)} parts: at most {sum(limits.values())} s{time_text}, and 30 to 60 s before"
    )
    for name, limit in limits.items():
        print(f"  {name:6} {PARTS[name][0]} (at most {limit} s)")
    print(f"everything is written to {options.output}", flush=True)


def describe_cases(options: argparse.Namespace) -> dict[str, object]:
    """Return the trainings that the parts share; `prepare` writes their images and weights."""
    work, dry = options.output / "work", options.dry
    case = Case(
        data=work / "images",
        weights=work / "start.safetensors",
        work=work,
        cache=work / "cache",
        model="resnet10t" if dry else "resnet18",
        image_size=32 if dry else 64,
        batch_size=16 if dry else 64,
        epochs=2 if dry else 5,
        device="cpu" if dry else "cuda",
        workers=0 if dry else max(1, count_cores() - 2),
    )
    sizes = (32,) if dry else (64, 128, 224)
    seeds = (0,) if dry else (0, 1, 2)
    grid = replace(
        case, data=work / "images-grid", views=4, epochs=2 if dry else 4, seeds=seeds, grid=True
    )
    weighted = None
    if options.weights is not None:
        weighted = replace(case, weights=work / "other.safetensors", model=options.weights_model)
    return {
        "cases": {size: replace(case, image_size=size) for size in sizes},
        "grid": grid,
        "weighted": weighted,
        "timm_train": options.timm_train and options.timm_train.resolve(),
    }


def prepare(options: argparse.Namespace, cases: dict[str, object]) -> None:
    """Write the images and the weights that all parts share; what is there already stays."""
    work = options.output / "work"
    sizes = {"images": options.images, "images-grid": 1024}
    if options.dry:
        sizes = dict.fromkeys(sizes, 32)
    for name, n_images in sizes.items():
        if not (work / name).is_dir():
            n_evaluated = max(16, n_images // 8)
            counts = dict(zip(SPLITS, (n_images, n_evaluated, n_evaluated), strict=True))
            source = options.data and options.data.resolve()
            write_folder(work / name, counts, source=source, cache_dir=work / "prepared")
    n_classes = sum(path.is_dir() for path in (work / "images" / "train").iterdir())
    for case, source in ((cases["grid"], None), (cases["weighted"], options.weights)):
        if isinstance(case, Case) and not case.weights.is_file():
            write_weights(
                case.weights,
                model=case.model,
                n_classes=n_classes,
                source=source,
                cache_dir=work / "prepared",
                device=case.device,
                is_trained=source is not None,
            )


def run_inside(
    name: str, options: argparse.Namespace, arguments: Sequence[str], started: float
) -> str:
    """Run a part as a process of its own; return why it ended early, or nothing."""
    limit = options.seconds or PARTS[name][1]
    print(f"[{time.monotonic() - started:4.0f} s] {name}", flush=True)
    for path in options.output.glob(f"{name}-rows.json"):
        path.unlink()
    command = [sys.executable, __file__, *arguments, "--inside", "--only", name]
    with (options.output / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            process.wait()
            return "interrupted" if isinstance(error, KeyboardInterrupt) else f"over {limit} s"
    if code == 0:
        return ""
    lines = (options.output / f"{name}.log").read_text(errors="replace").strip().splitlines()
    return f"code {code}: {(lines or ['no message'])[-1][:150]}"


def write_table(options: argparse.Namespace, ended: dict[str, str], seconds: float) -> str:
    """Return the table of all parts as Markdown, and write it to table.md."""
    lines = ["| part | what | value | bar | |", "| --- | --- | --- | --- | --- |"]
    for name, reason in ended.items():
        path = options.output / f"{name}-rows.json"
        for row in json.loads(path.read_text()) if path.is_file() else []:
            verdict = {True: "met", False: "**not met**", None: ""}[row["is_met"]]
            lines.append(f"| {name} | {row['what']} | {row['value']} | {row['bar']} | {verdict} |")
        if reason:
            lines.append(f"| {name} | the part | {reason} | | **not whole** |")
    text = "\n".join(
        [*lines, "", f"measured in {seconds:.0f} s, {describe_device(options.dry)}", ""]
    )
    (options.output / "table.md").write_text(text)
    return text


def describe_device(dry: bool) -> str:
    """Return the device and the versions in a line."""
    code = "import torch; print(torch.__version__, torch.version.cuda, "
    code += "'CPU, dry' if " + str(dry) + " else torch.cuda.get_device_name())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return f"torch {ended.stdout.strip()}, {count_cores()} cores"


if __name__ == "__main__":
    sys.exit(main())
