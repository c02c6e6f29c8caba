"""How costs grow: with images, with cells, and with resolution."""

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from bench.grid import read_run
from bench.limit import make_bare_step
from bench.million import PROGRAM, SIDE
from bench.records import Section
from bench.sides import Case, make_tlcnn_words, run_tlcnn
from bench.watch import watch
from tlcnn.config.compose import compose_config
from tlcnn.plan.plan import make_plan

RESOLUTIONS = {32: 64, 64: 64, 128: 32, 224: 16}  # pixels -> batch size
N_STEPS = 12  # of training
N_BATCHES = 300  # without training
CELLS = {1: "none", 6: "none,stem,layer1,layer2,layer3,layer4", 21: None}


def measure_growth(case: Case, counts: Sequence[int]) -> Section:
    """Measure everything that grows, on small problems.

    Args:
        case: a grid.
        counts: numbers of images.
    """
    section = Section(
        f"Growth ({case.model}, {case.precision})",
        [
            "images: an array of 72 x 72 pixels on disk that is a hole (reading it costs no "
            f"disk), batches of 64 in training order; {N_BATCHES} batches, then {N_STEPS} with "
            "training steps; own memory is anonymous, mapped is pages of files; one process each",
            "all images: processor seconds of what is done once for all N images; growth: "
            "the exponent between the last two N, 1 where twice the images take twice as long",
            f"cells: {case.image_size} px, {case.epochs} epochs, one command from an empty cache "
            "to its end, start and decoding included; 1: nothing frozen; 6: k=5 with every j; 21: "
            "every (k, j)",
            "resolution: data path from the decoded cache with augmentation standard; step on a "
            "resident batch in bf16",
        ],
    )
    _measure_images(section, case, counts)
    measure_bookkeeping(section, counts)
    _measure_cells(section, case)
    _measure_resolutions(section, case)
    return section


# --------------------------------------------------------------------------------- images


def _measure_images(section: Section, case: Case, counts: Sequence[int]) -> None:
    for n in counts:
        array = case.work / "hole.u8"
        with open(array, "wb") as file:
            file.truncate(n * SIDE * SIDE * 3)
        for name, words in (
            ("data path", [f"--steps={N_BATCHES}"]),
            ("with training", [f"--steps={N_STEPS}", f"--model={case.model}"]),
        ):
            told = _run_rows(array, n, words)
            section.row(f"{n:,} images", name).add(
                images_per_s=told["rate"],
                images_per_cpu_s=told["cpu_rate"],
                own_MiB=told["own_mib"],
                mapped_MiB=told["mapped_mib"],
                array_MiB=n * SIDE * SIDE * 3 / 2**20,
            )
        array.unlink()


def _run_rows(array: Path, n: int, words: list[str]) -> dict[str, float]:
    """Return the last of two parts: the first one has what is paid once."""
    command = [sys.executable, str(PROGRAM), str(array), f"--n-images={n}", "--parts=2", *words]
    return json.loads(watch(command).lines[-1].text)


def measure_bookkeeping(section: Section, counts: Sequence[int]) -> None:
    """Time what is done for all images at once, outside of the steps."""
    took: dict[str, dict[int, float]] = {}
    for n in counts:
        for name, work in list_bookkeeping(n).items():
            cpu_s = time.process_time()
            work()
            took.setdefault(name, {})[n] = time.process_time() - cpu_s
    for name, by_count in took.items():
        seconds = {f"cpu_s_at_{n:,}": s for n, s in by_count.items()}
        section.row(name, "all images").add(**seconds, growth=compute_exponent(by_count))


def compute_exponent(seconds: dict[int, float]) -> float:
    """Return b of seconds ~ n^b between the two largest n.

    Example:
        >>> round(compute_exponent({10: 1.0, 100: 10.0, 1000: 1000.0}), 6)
        2.0
    """
    (n, s), (m, t) = sorted(seconds.items())[-2:]
    return math.log(max(t, 1e-9) / max(s, 1e-9)) / math.log(m / n)


def list_bookkeeping(n: int) -> dict[str, Callable[[], Any]]:
    """Return what is done once for n images, an epoch or a run, by what it is."""
    from tlcnn.data.augment import make_image_keys
    from tlcnn.data.batches import list_eval_batches, make_order
    from tlcnn.data.cache import make_cache_key
    from tlcnn.data.index import Index
    from tlcnn.data.splits import check_splits, make_splits, manifest_digest
    from tlcnn.data.tabular import make_index_table
    from tlcnn.records.write import make_splits_file, write_predictions, write_splits
    from tlcnn.statistics.metrics import compute_scores, compute_selection

    random = np.random.default_rng(0)
    labels = random.choice(7, n, p=[0.67, 0.11, 0.11, 0.05, 0.03, 0.02, 0.01])
    ids = [f"ISIC_{number:07d}" for number in range(n)]
    groups = [f"HAM_{number // 4 * 3:07d}" for number in range(n)]
    digests = [f"{number:064x}" for number in range(n)]
    classes = tuple("abcdefg")
    table = make_index_table(ids, labels, groups, "")
    index = Index("made", classes, table, None)  # type: ignore[arg-type]
    keys, logits = make_image_keys(ids), random.normal(size=(n, 7)).astype(np.float32)
    splits = np.where(np.arange(n) // 4 % 10 < 8, "train", "val").astype(object)
    task, rows = "multi-class", {"val": np.arange(n)}
    names = table["group"].to_numpy()

    def write(work: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            work(Path(folder))

    fractions: dict[str, Any] = {"val_fraction": 0.15, "test_fraction": 0.15, "n_classes": 7}
    return {
        "start: index table": lambda: make_index_table(ids, labels, groups, ""),
        "start: splits by group": lambda: make_splits(labels, names, **fractions),
        "start: check of the splits": lambda: check_splits(names, splits),
        "start: manifest": lambda: manifest_digest(table, classes, splits, digests),
        "start: name of the image cache": lambda: make_cache_key(digests, SIDE, "crop"),
        "start: keys of ids": lambda: make_image_keys(ids),
        "start: splits.parquet": lambda: write(
            lambda folder: write_splits(folder, make_splits_file(index, splits, digests))
        ),
        "epoch: order": lambda: make_order(keys, seed=0, epoch=1),
        "epoch: batches of an evaluation": lambda: list_eval_batches(n, 256),
        "epoch: scores for the selection": lambda: compute_selection(task, logits, labels),
        "end: all scores": lambda: compute_scores(
            task, logits, labels, names, classes=classes, positive=None
        ),
        "end: predictions.parquet": lambda: write(
            lambda folder: write_predictions(folder, table, rows, {"val": logits}, classes)
        ),
    }


# ---------------------------------------------------------------------- cells and resolution


def _measure_cells(section: Section, case: Case) -> None:
    """Train 1, 6 and 21 cells of one source: processor seconds a cell."""
    this = replace(case, seeds=case.seeds[:1])
    for n_cells, layers in CELLS.items():
        cell = replace(this, cache=case.work / f"cache-growth-{n_cells}")
        name = f"growth-{n_cells}"
        if layers is not None:
            cell = replace(cell, grid=False, freeze=layers)
        found = run_tlcnn(cell, name)
        runs = [read_run(path) for path in (case.work / name / "runs").iterdir()]
        section.row(f"{n_cells} cells", "one sweep").add(
            cpu_s=found.cpu_s,
            cpu_s_per_cell=found.cpu_s / n_cells,
            s_per_cell=found.wall_s / n_cells,
            train_s_per_cell=mean(run["train_s"] for run in runs),
            disk_MiB_per_cell=found.disk_mib / n_cells,
        )


def _measure_resolutions(section: Section, case: Case) -> None:
    from bench.data_path import make_views, time_epochs

    one = replace(case, grid=False, freeze="none", seeds=case.seeds[:1])
    for size, batch_size in RESOLUTIONS.items():
        this = replace(one, image_size=size, batch_size=batch_size)
        views = time_epochs(make_views(make_split(size, 512, case.device), this, "standard"), 1)
        plan = make_plan(compose_config(make_tlcnn_words(this, case.work / "resolution")))
        step = make_bare_step(plan)
        step()
        started, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(N_STEPS // 2):
            step()
        if case.device == "cuda":
            torch.cuda.synchronize()
        took, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
        n = batch_size * (N_STEPS // 2)
        section.row(f"{size} px", f"batch {batch_size}").add(
            data_path_ms_per_image=1000 / views["images_per_s"],
            step_ms_per_image=1000 * took / n,
            data_path_cpu_ms=views["cpu_us_per_image"] / 1000,
            step_cpu_ms=1000 * cpu_s / n,
        )


def make_split(image_size: int, n: int, device: str) -> Any:
    """Return random images as tlcnn's decoded cache holds them, on a GPU where there is one."""
    from tlcnn.data.augment import make_image_keys, make_image_tensor
    from tlcnn.data.batches import Batches
    from tlcnn.data.cache import stored_size

    side = stored_size(image_size)
    made = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    return Batches(
        pixels=made if device == "cpu" else make_image_tensor(made).to(device),
        rows=np.arange(n),
        labels=torch.zeros(n, dtype=torch.long, device=device),
        keys=make_image_keys([str(number) for number in range(n)]),
        image_size=image_size,
        normalize="imagenet",
    )
