"""The same training on every side: tlcnn's own command, timm's train.py, and a plain loop."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pandas as pd

from bench.watch import Line, Watched, measure_disk_mib, watch
from tlcnn.records.summary import read_history

PLAIN_LOOP = Path(__file__).with_name("plain_loop.py")
LAYERS = "none,stem,layer1,layer2,layer3,layer4"


@dataclass(frozen=True)
class Case:
    """One training, or with `grid` every cell (k, j), as all sides are asked to do it.

    Attributes:
        data: a folder with train/, val/ and test/, each with a folder a class.
        weights: safetensors of the whole network, where every side starts.
        work: the folder for outputs.
        views: tlcnn's pool of views an image; the others see new views every epoch.
        workers: decoding processes of the peers.
        pool: processes of tlcnn's pool launcher that train the grid; 1: none but the first, in
            which runs share a GPU.
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

    @property
    def n_images(self) -> int:
        """How many images are trained on in an epoch."""
        return len(list((self.data / "train").glob("*/*")))

    def describe(self) -> str:
        """Return what is trained, and for how long."""
        return (
            f"{self.model}, {self.image_size} px, {self.n_images} images, "
            f"batch {self.batch_size}, {self.epochs} epochs"
        )


@dataclass(frozen=True)
class Result:
    """What one side took for a case.

    Attributes:
        first_s: seconds from the start of the process to the end of the first epoch.
        epoch_s, epoch_cpu_s: every later epoch, with its evaluation and its checkpoint.
        accuracy: the validation accuracy of the best epoch; the mean over cells.
    """

    wall_s: float
    cpu_s: float
    first_s: float
    epoch_s: tuple[float, ...]
    epoch_cpu_s: tuple[float, ...]
    accuracy: float
    peak_mib: float
    disk_mib: float


Side = Callable[[Case, str], Result]  # the name is that of the output folder


def run_tlcnn(case: Case, name: str) -> Result:
    """Train with `python -m tlcnn.train`."""
    output = case.work / name
    watched = watch("-m", "tlcnn.train", *make_tlcnn_words(case, output))
    accuracies = [
        max(epoch.values["val/accuracy"] for epoch in read_history(path.parent))
        for path in output.glob("runs/*/metrics.jsonl")
    ]
    disk_mib = measure_disk_mib(output) + measure_disk_mib(case.cache)
    return make_result(watched, watched.find("epoch "), mean(accuracies), disk_mib)


def read_epoch_ends(folder: Path) -> list[datetime]:
    """Return when the epochs of a run of tlcnn ended, from its log."""
    lines = re.findall(r"(?m)^(\S+ \S+) INFO epoch ", (folder / "log.txt").read_text())
    return [datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f") for text in lines]


def make_tlcnn_words(case: Case, output: Path) -> list[str]:
    """Return the command line of a case."""
    arguments = [
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
        f"freeze.through={LAYERS if case.grid else case.freeze}",
    ]
    if case.views is not None:
        arguments.append(f"train.views={case.views}")
    if case.grid:
        arguments.append(f"init.through={LAYERS}")
    if case.pool > 1:
        arguments += ["hydra/launcher=pool", f"hydra.launcher.workers={case.pool}"]
    is_sweep = case.grid or "," in case.freeze or len(case.seeds) > 1
    return ["-m", *arguments] if is_sweep else arguments


def run_timm(script: Path, case: Case, name: str) -> Result:
    """Train with timm's train.py; it cannot freeze, so it trains all."""
    watched = watch(str(script), *make_timm_words(case, name))
    epoch_ends: dict[str, Line] = {}  # the last line of an epoch's evaluation
    epoch = "0"
    for line in watched.lines:
        if match := re.match(r"Train: (\d+) ", line.text):
            epoch = match[1]
        elif line.text.startswith("Test:"):
            epoch_ends[epoch] = line
    output = case.work / name
    accuracy = float(pd.read_csv(output / "summary.csv")["eval_top1"].max()) / 100
    disk_mib = measure_disk_mib(output)
    shutil.rmtree(output)  # several checkpoints
    return make_result(watched, list(epoch_ends.values()), accuracy, disk_mib)


def make_timm_words(case: Case, name: str) -> list[str]:
    """Return the flags that a good user would set for the recipe of the other sides."""
    n_classes = sum(path.is_dir() for path in (case.data / "train").iterdir())
    flags = (
        f"--data-dir {case.data} --val-split val --model {case.model} --num-classes {n_classes} "
        f"--initial-checkpoint {case.weights} --input-size 3 {case.image_size} {case.image_size} "
        f"--crop-pct 0.889 --interpolation bilinear --train-interpolation bilinear "
        f"--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 "
        f"-b {case.batch_size} -vb 256 --workers {case.workers} --channels-last "
        f"--epochs {case.epochs} --opt adamw --lr 5e-4 --weight-decay 0.05 --clip-grad 1.0 "
        f"--sched cosine --sched-on-updates --warmup-epochs 1 --warmup-lr 1e-6 --smoothing 0 "
        f"--seed {case.seeds[0]} --device {case.device} --output {case.work} --experiment {name} "
        f"--checkpoint-hist 1 "
    )
    if case.augment == "none":
        flags += "--no-aug "
    else:
        flags += "--scale 0.5 1.0 --ratio 1.0 1.0 --hflip 0.5 --vflip 0.5 --color-jitter 0.1 "
    flags += "--amp --amp-dtype bfloat16 " if case.precision == "bf16" else ""
    flags += "--pin-mem --opt-kwargs fused=True " if case.device == "cuda" else ""
    return flags.split()


def run_plain(case: Case, name: str) -> Result:
    """Train with the plain loop, which writes no folder."""
    watched = watch(str(PLAIN_LOOP), *make_plain_words(case))
    epoch_ends = watched.find("{")
    records = pd.DataFrame([json.loads(line.text) for line in epoch_ends])
    best = records.groupby(["seed", "k", "j"])["val/accuracy"].max()
    return make_result(watched, epoch_ends, float(best.mean()), disk_mib=0.0)


def make_plain_words(case: Case) -> list[str]:
    """Return the command line of the plain loop."""
    names = ("data", "weights", "model", "image_size", "batch_size", "epochs", "precision")
    names += ("augment", "device", "freeze", "workers")
    options = [f"--{name.replace('_', '-')}={getattr(case, name)}" for name in names]
    return [*options, "--seeds", *map(str, case.seeds), *(["--grid"] if case.grid else [])]


def make_result(watched: Watched, ends: list[Line], accuracy: float, disk_mib: float) -> Result:
    """Return the result of a program whose epochs ended with these lines."""
    pairs = list(pairwise(ends))
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
