"""Finished runs of which only the scores are known: records without predictions."""

import json
from pathlib import Path

from tlcnn.storage import digest_of

UNITS = ("stem", "stage1", "stage2", "stage3", "stage4")


def write_record(
    folder: Path,
    *,
    seed: int,
    test: float,
    val: float | None = None,
    init: str = "imagenet",
    k: int = 5,
    j: int = 0,
    dataset: str = "ham10000",
    model: str = "resnet18",
    units: tuple[str, ...] = UNITS,
    metric: str = "balanced_accuracy",
    ancestry: tuple[str, ...] = (),
    bn: str = "frozen",
    imported: bool = False,
    cell: str | None = None,
    **settings: object,
) -> Path:
    """Write one run folder under `folder/runs`, with `settings` as its configuration."""
    if cell is None:
        cell = f"{dataset}-{model}-{init}-k{k}-j{j}-{bn}{'-imported' * imported}"
        cell += "".join(f"-{value}" for value in settings.values())
    run_id = digest_of(f"{cell}-s{seed}", 12)
    target = folder / "runs" / f"{cell}-s{seed}-{run_id}"
    target.mkdir(parents=True)
    plan = {
        "run_id": run_id,
        "run_name": f"{cell}-s{seed}",
        "cell_id": cell,
        "dataset": dataset,
        "model": model,
        "source": init.split("-"),
        "k": k,
        "j": j,
        "bn": bn,
        "seed": seed,
        "units": [{"unit": unit} for unit in units],
        "imported": imported,
        "classes": list("abcdefg"),
        "ancestry": [make_ancestor(name) for name in ancestry],
        "settings": {"init.source": "task" if ancestry else init, **settings},
    }
    (target / "plan.json").write_text(json.dumps(plan))
    val = test if val is None else val
    metrics = {f"test/{metric}": test, f"val/{metric}": val}
    (target / "summary.json").write_text(json.dumps({"epochs": 3, "metrics": metrics}))
    (target / "DONE").touch()
    return target


def make_ancestor(dataset: str) -> dict[str, object]:
    """Return the record of a run that trained on a dataset from random weights."""
    names = {"run_id": dataset, "run_name": dataset, "cell_id": dataset, "dataset": dataset}
    return {**names, "source": ["random"], "k": 0, "j": 0, "seed": 0, "manifest": dataset}


def write_cell(folder: Path, tests: tuple[float, ...], **named: object) -> None:
    """Write a cell's runs, one a score, seeds from 0."""
    for seed, test in enumerate(tests):
        write_record(folder, seed=seed, test=test, **named)
