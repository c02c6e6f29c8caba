"""The grid of cells (k, j) on every side, and what tlcnn's cells computed once for all."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from bench.records import Section
from bench.sides import Case, Result, Side
from tlcnn.device import count_cores

N_CELLS = 21  # 0 <= j <= k <= 5, of each seed
COUNTS = ("images_computed", "images_reused", "arrays_filled", "arrays_found")


def measure_grid(
    case: Case, sides: Mapping[str, Side], n_images: int, plain_seeds: int | None
) -> Section:
    """Train every cell (k, j) of every seed, decoding included.

    Args:
        plain_seeds: how many seeds the plain loop trains; the others are reckoned. None: all.
    """
    n_cells = N_CELLS * len(case.seeds)
    found: dict[str, list[tuple[int, Result]]] = {}
    for name, n_measured, train in _take_turns(case, sides, plain_seeds):
        found.setdefault(name, []).append((n_measured, train()))
    section = Section(
        f"The grid: {N_CELLS} cells (k, j) x {len(case.seeds)} seeds ({case.model}, "
        f"{case.image_size} px, {n_images} images, batch {case.batch_size}, {case.epochs} "
        f"epochs, {case.precision})",
        _explain(case, {name: sum(n for n, _ in parts) for name, parts in found.items()}, n_cells),
    )
    for name, parts in found.items():
        n_measured = sum(n for n, _ in parts)
        whole = reckon([result for _, result in parts], n_measured, n_cells)
        section.row("grid", name).add(
            whole_s=whole.wall_s,
            whole_cpu_s=whole.cpu_s,
            s_per_cell=whole.wall_s / n_cells,
            cpu_s_per_cell=whole.cpu_s / n_cells,
            mean_val_accuracy=whole.accuracy,
            peak_MiB=whole.peak_mib,
            disk_MiB=whole.disk_mib,
            n_measured=n_measured,
            n_cells=n_cells,
        )
    return section


def _take_turns(
    case: Case, sides: Mapping[str, Side], plain_seeds: int | None
) -> list[tuple[str, int, Callable[[], Result]]]:
    """Return what is run, in order: (side, cells, training); timm's runs lie between the others.

    timm's train.py cannot freeze, so all its cells are the same work: one is run for each seed.
    """
    plain = case.seeds[:plain_seeds]
    ours = replace(case, cache=case.work / "cache-grid", pool=find_pool(case))
    turns: dict[str, list[tuple[int, Callable[[], Result]]]] = {
        "timm": [
            (1, lambda seed=seed: sides["timm"](_take_one(case, seed), f"grid-timm-{seed}"))
            for seed in case.seeds
            if "timm" in sides
        ],
        "tlcnn": [(N_CELLS * len(case.seeds), lambda: sides["tlcnn"](ours, "grid"))],
        "plain loop": [
            (
                N_CELLS * len(plain),
                lambda: sides["plain loop"](replace(case, seeds=plain), "grid-plain"),
            )
        ],
    }
    order = ["timm", "tlcnn", "timm", "plain loop", *["timm"] * len(case.seeds)]
    return [(name, *turns[name].pop(0)) for name in order if turns[name]]


def find_pool(case: Case) -> int:
    """Return how many runs of the grid tlcnn trains at a time: one a core, or four on a GPU."""
    return count_cores() if case.device == "cpu" else 4


def _take_one(case: Case, seed: int) -> Case:
    return replace(case, grid=False, seeds=(seed,), views=None)


def reckon(results: list[Result], n_measured: int, n_cells: int) -> Result:
    """Return what `n_cells` cells take, from programs that trained `n_measured` of them.

    A program that trained one cell is run again for every cell. One that trained many would go
    on: the others cost what its own cost an epoch, and it is started once.
    """
    lacking = n_cells - n_measured
    if len(results) == 1 and n_measured > 1:
        only = results[0]
        n_epochs = (len(only.epoch_s) + 1) / n_measured  # of a cell
        more, more_cpu = (lacking * n_epochs * _mean(x) for x in (only.epoch_s, only.epoch_cpu_s))
        return replace(only, wall_s=only.wall_s + more, cpu_s=only.cpu_s + more_cpu)
    return replace(
        results[0],
        wall_s=n_cells * mean(result.wall_s for result in results),
        cpu_s=n_cells * mean(result.cpu_s for result in results),
        accuracy=mean(result.accuracy for result in results),
        peak_mib=max(result.peak_mib for result in results),
        disk_mib=n_cells * mean(result.disk_mib for result in results),
    )


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values) if values else 0.0


def _explain(case: Case, measured: Mapping[str, int], n_cells: int) -> list[str]:
    notes = [
        f"tlcnn: one sweep from an empty cache, {find_pool(case)} runs at a time "
        f"(hydra/launcher=pool), train.views={case.views}, a finite pool of views an image; the "
        "others see new views every epoch",
        "plain loop: one process, one pair of loaders, frozen layers in eval mode without a graph",
        "accuracy: the mean over what was trained, of each cell's best epoch on validation",
    ]
    if measured["plain loop"] < n_cells:
        notes.append(
            f"plain loop: {measured['plain loop']} of {n_cells} cells were trained, all (k, j) of "
            "a seed; the others are reckoned at the same seconds an epoch, without a start"
        )
    if "timm" in measured:
        notes.append(
            "timm: one process a cell, and every cell trains all layers from the given weights, "
            "because its train.py cannot freeze; so all cells are the same work, and "
            f"{measured['timm']} of {n_cells} were trained (one a seed, between the other sides), "
            "the others reckoned as their mean, disk as well"
        )
    return notes


# ------------------------------------------------------------------- what was computed once


def count_reuse(section: Section, output: Path, cache: Path) -> None:
    """Note what the runs of a grid computed and read, by the number of frozen units."""
    total: Counter[str] = Counter()
    runs = [read_run(path.parent) for path in sorted(output.glob("runs/*/summary.json"))]
    for j in sorted({run["j"] for run in runs}):
        these = [run for run in runs if run["j"] == j]
        counts = Counter({name: sum(run[name] for run in these) for name in COUNTS})
        total.update(counts)
        section.row(f"j={j}", "tlcnn").add(
            cells=len(these),
            train_s_per_cell=mean(run["train_s"] for run in these),
            **{name: float(counts[name]) for name in COUNTS},
        )
    section.row("all", "tlcnn").add(
        cells=len(runs),
        train_s_per_cell=mean(run["train_s"] for run in runs),
        **{name: float(total[name]) for name in COUNTS},
    )
    decoded = sum(json.loads(p.read_text())["shape"][0] for p in cache.glob("images/*.json"))
    section.row("images of all cells", "tlcnn").add(
        decoded=decoded,
        trained_on=sum(run["images_trained"] for run in runs),
        runs_with_the_decoded_array=len(runs),
    )


def read_run(folder: Path) -> dict[str, Any]:
    """Return what a finished run computed and read, and how many units it froze."""
    summary = json.loads((folder / "summary.json").read_text())
    reuse = summary.get("reuse") or {}
    found = re.search(r"-k\d+-j(\d+)-s\d+-", folder.name)
    assert found, f"{folder.name} tells no j"
    return {
        "j": int(found[1]),
        "train_s": summary["train_s"],
        "images_trained": round(summary["train_s"] * summary["images_per_s"]),
        **{name: reuse.get(name, 0) for name in COUNTS},
    }
