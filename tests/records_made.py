"""Finished runs of which only the scores are known: records without predictions."""

import json
from pathlib import Path

from tlcnn.records.files import compute_digests
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
    first: str = "random",
    bn: str = "frozen",
    imported: bool = False,
    cell: str | None = None,
    epochs: int | None = None,
    best_epoch: int | None = None,
    n_train: int = 0,
    weights: dict[str, str] | None = None,
    manifest: str = "",
    **settings: object,
) -> Path:
    """Write one run folder under `folder/runs`, with `settings` as its configuration.

    Args:
        ancestry: datasets that the source was trained on, nearest first.
        first: where the weights of the first ancestor came from.
        manifest: the digest of images and splits.
        epochs: planned ones.
    """
    identity = {"dataset": {"manifest": manifest}} if manifest else {}
    if cell is None:
        cell = f"{dataset}-{model}-{init}-k{k}-j{j}-{bn}{'-imported' * imported}"
        cell += "".join(f"-{value}" for value in [*settings.values(), *filter(None, [manifest])])
    run_id = digest_of(f"{cell}-s{seed}", 12)
    target = folder / "runs" / f"{cell}-s{seed}-{run_id}"
    target.mkdir(parents=True)
    plan = {
        "run_id": run_id,
        "run_name": f"{cell}-s{seed}",
        "cell_id": cell,
        "identity": identity,
        "dataset": dataset,
        "model": model,
        "source": [first, *reversed(ancestry)] if ancestry else [init],
        "k": k,
        "j": j,
        "bn": bn,
        "seed": seed,
        "units": [{"unit": unit} for unit in units],
        "imported": imported,
        "split_sizes": {"train": {"a": n_train}},
        "weights": weights,
        "classes": list("abcdefg"),
        "epochs": epochs,
        "ancestry": [make_ancestor(name, first) for name in ancestry],
        "settings": {"init.source": "task" if ancestry else init, **settings},
    }
    (target / "plan.json").write_text(json.dumps(plan))
    val = test if val is None else val
    metrics = {f"test/{metric}": test, f"val/{metric}": val}
    summary = {"epochs": 3, "metrics": metrics, "best_epoch": best_epoch}
    (target / "summary.json").write_text(json.dumps(summary))
    finish(target)
    return target


def finish(folder: Path) -> None:
    """Write DONE for the files that are there, without waiting for the disk."""
    done = {"run_id": folder.name, "sha256": compute_digests(folder)}
    (folder / "DONE").write_text(json.dumps(done))


def make_ancestor(dataset: str, first: str = "random") -> dict[str, object]:
    """Return the record of a run that trained on a dataset from the weights of a source."""
    names = {"run_id": dataset, "run_name": dataset, "cell_id": dataset, "dataset": dataset}
    return {**names, "source": [first], "k": 0, "j": 0, "seed": 0, "manifest": dataset}


def write_cell(folder: Path, tests: tuple[float, ...], **named: object) -> None:
    """Write a cell's runs, one a score, seeds from 0."""
    for seed, test in enumerate(tests):
        write_record(folder, seed=seed, test=test, **named)
