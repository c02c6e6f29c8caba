"""The same training on every side: tlcnn's own command, timm's train.py, and a plain loop."""

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.watch import Line, Watched, measure_disk_mib, watch

PLAIN_LOOP = Path(__file__).with_name("plain_loop.py")
LAYERS = ("none", "stem", "layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class Case:
    """One training, or with `grid` every cell (k, j), as all sides are told it.

    Attributes:
        data: has train/, val/ and test/ with a folder a class.
        weights: safetensors of the whole network, where every side starts.
        work: outputs go here.
        cache: of tlcnn.
        views: tlcnn's pool of views an image; the others see new views every epoch.
        workers: decoding processes of the peers.
        pool: processes of tlcnn's pool launcher that train the grid; 1: this one does.
    """

    data: Path
    weights: Path
    work: Path
    cache: Path
    model: str = "resnet18"
    image_size: int = 64
    batch_size: int = 64
    epochs: int = 3
    precision: str = "bf16"
    device: str = "cpu"
    freeze: str = "none"
    augment: str = "standard"
    views: int | None = None
    seeds: tuple[int, ...] = (0,)
    grid: bool = False
    workers: int = 2
    pool: int = 1


@dataclass(frozen=True)
class Result:
    """What one side took for a case.

    Attributes:
        first_s: from the start of the process to the end of the first epoch.
        epoch_s, epoch_cpu_s: of every later epoch, with its evaluation and its checkpoint.
        accuracy: on the validation images, of the best epoch.
    """

    wall_s: float
    cpu_s: float
    first_s: float
    epoch_s: tuple[float, ...]
    epoch_cpu_s: tuple[float, ...]
    accuracy: float
    peak_mib: float
    disk_mib: float


Side = Callable[[Case, str], Result]


def run_tlcnn(case: Case, name: str) -> Result:
    """Train with `python -m tlcnn.train`; outputs go to a folder of this name."""
    output = case.work / name
    watched = watch([sys.executable, "-m", "tlcnn.train", *make_tlcnn_words(case, output)])
    scores = [_read_accuracy(path) for path in sorted((output / "runs").glob("*/metrics.jsonl"))]
    return make_result(
        watched,
        [line for line in watched.lines if re.match(r"epoch \d+/", line.text)],
        accuracy=sum(scores) / len(scores),
        disk_mib=measure_disk_mib(output) + measure_disk_mib(case.cache),
    )


def _read_accuracy(metrics: Path) -> float:
    """Return the accuracy of the epoch with the highest, as of the other sides."""
    return max(json.loads(line)["val/accuracy"] for line in metrics.read_text().splitlines())


def make_tlcnn_words(case: Case, output: Path) -> list[str]:
    """Return the command line of a case."""
    words = [
        "dataset=folder",
        f"dataset.root='{case.data}'",
        f"dataset.image_size={case.image_size}",
        f"model.name={case.model}",
        "init=checkpoint",
        f"init.weights='{case.weights}'",
        f"train.epochs={case.epochs}",
        f"train.batch_size={case.batch_size}",
        "train.class_weights=none",
        f"train.augment={case.augment}",
        f"train.precision={case.precision}",
        f"device={case.device}",
        f"output_dir='{output}'",
        f"cache_dir='{case.cache}'",
        f"seed={','.join(map(str, case.seeds))}",
    ]
    if case.views is not None:
        words.append(f"train.views={case.views}")
    if case.grid:
        layers = ",".join(LAYERS)
        words += [f"init.through={layers}", f"freeze.through={layers}"]
        if case.pool > 1:
            words += ["hydra/launcher=pool", f"hydra.launcher.workers={case.pool}"]
        return ["-m", *words]
    sweeps = ["-m"] if "," in case.freeze else []
    return [*sweeps, *words, f"freeze.through={case.freeze}"]


def make_timm(script: Path) -> Side:
    """Return the side that trains with timm's train.py; it cannot freeze, so it trains all."""

    def run_timm(case: Case, name: str) -> Result:
        return _run_timm_once(script, case, name, case.seeds[0])

    return run_timm


def _run_timm_once(script: Path, case: Case, name: str, seed: int) -> Result:
    words = make_timm_words(case, name, seed)
    watched = watch([sys.executable, str(script), *words])
    ends: dict[str, Line] = {}  # the last line of an epoch's evaluation
    epoch = "0"
    for line in watched.lines:
        if found := re.match(r"Train: (\d+) ", line.text):
            epoch = found[1]
        elif line.text.startswith("Test:"):
            ends[epoch] = line
    output = case.work / name
    with open(output / "summary.csv", newline="") as file:
        scores = [float(row["eval_top1"]) / 100 for row in csv.DictReader(file)]
    disk_mib = measure_disk_mib(output)
    shutil.rmtree(output)  # several checkpoints
    return make_result(watched, list(ends.values()), accuracy=max(scores), disk_mib=disk_mib)


def make_timm_words(case: Case, name: str, seed: int) -> list[str]:
    """Return the flags that a good user would set for the recipe of the other sides."""
    n_classes = sum(path.is_dir() for path in (case.data / "train").iterdir())
    text = (
        f"--data-dir {case.data} --val-split val --model {case.model} --num-classes {n_classes} "
        f"--initial-checkpoint {case.weights} --input-size 3 {case.image_size} {case.image_size} "
        f"--crop-pct 0.889 --interpolation bilinear --train-interpolation bilinear "
        f"--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 "
        f"-b {case.batch_size} -vb 256 --workers {case.workers} --channels-last "
        f"--epochs {case.epochs} --opt adamw --lr 5e-4 --weight-decay 0.05 --clip-grad 1.0 "
        f"--sched cosine --sched-on-updates --warmup-epochs 1 --warmup-lr 1e-6 --smoothing 0 "
        f"--seed {seed} --device {case.device} --output {case.work} --experiment {name} "
        f"--checkpoint-hist 1"
    )
    aug = "--scale 0.5 1.0 --ratio 1.0 1.0 --hflip 0.5 --vflip 0.5 --color-jitter 0.1"
    amp = ["--amp", "--amp-dtype", "bfloat16"] if case.precision == "bf16" else []
    pin = ["--pin-mem"] if case.device == "cuda" else []
    return [*text.split(), *(["--no-aug"] if case.augment == "none" else aug.split()), *amp, *pin]


def run_plain(case: Case, name: str) -> Result:
    """Train with the plain loop."""
    watched = watch([sys.executable, str(PLAIN_LOOP), *make_plain_words(case)])
    ends = [line for line in watched.lines if line.text.startswith("{")]
    best: dict[tuple[int, ...], float] = {}
    for record in (json.loads(line.text) for line in ends):
        cell = (record["seed"], record["k"], record["j"])
        best[cell] = max(best.get(cell, 0.0), record["val/accuracy"])
    return make_result(
        watched,
        ends,
        accuracy=sum(best.values()) / len(best),
        disk_mib=0.0,
    )


def make_plain_words(case: Case) -> list[str]:
    """Return the command line of the plain loop."""
    named = {
        "data": case.data,
        "weights": case.weights,
        "model": case.model,
        "image-size": case.image_size,
        "batch-size": case.batch_size,
        "epochs": case.epochs,
        "precision": case.precision,
        "augment": case.augment,
        "device": case.device,
        "freeze": case.freeze,
        "workers": case.workers,
    }
    words = [word for key, value in named.items() for word in (f"--{key}", str(value))]
    return [*words, "--seeds", *map(str, case.seeds), *(["--grid"] if case.grid else [])]


def make_result(watched: Watched, ends: list[Line], *, accuracy: float, disk_mib: float) -> Result:
    """Return the result of a program whose epochs ended with these lines."""
    pairs = list(zip(ends, ends[1:], strict=False))
    return Result(
        wall_s=watched.wall_s,
        cpu_s=watched.cpu_s,
        first_s=ends[0].at_s if ends else watched.wall_s,
        epoch_s=tuple(b.at_s - a.at_s for a, b in pairs),
        epoch_cpu_s=tuple(b.cpu_s - a.cpu_s for a, b in pairs),
        accuracy=accuracy,
        peak_mib=watched.peak_mib,
        disk_mib=disk_mib,
    )
