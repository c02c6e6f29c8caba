"""Imported predictions as a run folder, told apart from trained ones by `imported`.

Foreign -> matched with the images of own runs -> plan.json, predictions.parquet, ..., DONE
"""

import hashlib
import io
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.errors import DataError
from tlcnn.records.folder import RunDir
from tlcnn.records.foreign import Foreign
from tlcnn.records.foreign_seed import choose_seed
from tlcnn.records.plan_record import RECORD
from tlcnn.records.read import find_run_dirs, read_predictions, read_run
from tlcnn.statistics.metrics import compute_scores
from tlcnn.storage import digest_of, write_atomic

_MANIFESTS = 20  # splits of a dataset that are compared with


@dataclass(frozen=True)
class Origin:
    """What imported predictions are of, as the user says.

    Attributes:
        name: of the method.
        model, init, k, j, seed: as in tables; k and j count units.
        settings: anything else that tells cells apart, dotted keys.
        units: names of all units, from the input; None: as many as are transferred or frozen.
        is_seed_given: the seed is to be this one; else the next that is free.
    """

    dataset: str
    name: str
    model: str
    init: str
    k: int
    j: int
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    units: tuple[str, ...] | None = None
    is_seed_given: bool = False


# ---- the images of own runs ---------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The scored images of a trained run: image_id, group, label, and its classes."""

    name: str
    table: pd.DataFrame
    classes: tuple[str, ...]


def load_references(output_dir: Path, dataset: str) -> list[Reference]:
    """Return the images of the trained runs of a dataset, one run a split of it."""
    found: dict[str, Reference] = {}
    for folder in sorted(find_run_dirs(output_dir)) if output_dir.is_dir() else []:
        row = read_run(folder)
        if row["state"] != "done" or row["imported"] or row["dataset"] != dataset:
            continue
        settings = row["settings"]
        key = str([settings.get(k) for k in ("dataset.fold", "dataset.folds", "dataset.split")])
        if key not in found and row["has_predictions"] and len(found) < _MANIFESTS:
            found[key] = _load_reference(folder)
    return list(found.values())


def _load_reference(folder: Path) -> Reference:
    table = read_predictions(folder)
    classes = [c.removeprefix("logit/") for c in table.columns if c.startswith("logit/")]
    return Reference(folder.name, table[["split", "image_id", "group", "label"]], tuple(classes))


def match_reference(foreign: Foreign, references: list[Reference]) -> Foreign:
    """Return predictions with the ids, class order and groups of the runs they belong beside.

    Args:
        references: of the same dataset; the one with the most common images is taken.

    Raises:
        DataError: an image has another label here than there.
    """
    spelled = [(_spell(foreign, r), r) for r in references]
    counts = [len(set(table["image_id"]) & set(r.table["image_id"])) for table, r in spelled]
    if not counts or not max(counts):
        words = "no run of this dataset has its images" if counts else "no run to pair it with yet"
        return _note(foreign, f"{words}: it is compared unpaired")
    table, best = spelled[int(np.argmax(counts))]
    made = _order_classes(replace(foreign, table=table), best.classes)
    known = best.table.set_index("image_id")
    there = made.table["image_id"].isin(known.index)
    mine = made.table[there]
    theirs = known.loc[mine["image_id"]]
    _check_labels(mine, theirs, made, best)
    if not made.has_groups:
        table = made.table.copy()
        table.loc[there, "group"] = theirs["group"].to_numpy()
        made = replace(made, table=table)
    return _note(made, _describe_match(made, best))


def _spell(foreign: Foreign, reference: Reference) -> pd.DataFrame:
    """Return the table, with file names spelled as the ids of a reference where that fits."""
    table, known = foreign.table, set(reference.table["image_id"])
    for spell in (str, _cut_suffix, _cut_folder, lambda name: _cut_folder(name).upper()):
        ids = [spell(name) for name in table["image_id"]]
        if len(set(ids)) == len(ids) and known.intersection(ids):
            return table.assign(image_id=ids)
    return table


def _cut_suffix(name: str) -> str:
    return re.sub(r"\.(jpe?g|png|tiff?|bmp|webp)$", "", name, flags=re.IGNORECASE)


def _cut_folder(name: str) -> str:
    return _cut_suffix(re.split(r"[/\\]", name)[-1])


def _order_classes(foreign: Foreign, classes: tuple[str, ...]) -> Foreign:
    """Return predictions with the classes in another order, so that labels mean the same."""
    if foreign.classes == classes or set(foreign.classes) != set(classes):
        return foreign
    table = foreign.table.copy()
    if foreign.task != "multi-label":
        position = [classes.index(name) for name in foreign.classes]
        table["label"] = np.array(position)[table["label"]]
    others = [c for c in table.columns if c.partition("/")[2] not in classes]
    kinds = [kind for kind in ("logit", "target") if f"{kind}/{classes[0]}" in table]
    order = [f"{kind}/{name}" for kind in kinds for name in classes]
    return replace(foreign, table=table[[*others, *order]], classes=classes)


def _check_labels(
    mine: pd.DataFrame, theirs: pd.DataFrame, foreign: Foreign, reference: Reference
) -> None:
    differ = np.flatnonzero(mine["label"].to_numpy() != theirs["label"].to_numpy())
    if not len(differ) or len(foreign.classes) != len(reference.classes):
        return
    first = int(differ[0])
    here, there = mine["label"].iloc[first], theirs["label"].iloc[first]
    strata = [*foreign.classes, "none"], [*reference.classes, "none"]
    raise DataError(
        f"{len(differ):,} of {len(mine):,} images have another label than in {reference.name}: "
        f"{mine['image_id'].iloc[first]} is {strata[0][here]} here and {strata[1][there]} there. "
        "Check the order of --classes, or import under another --dataset"
    )


def _describe_match(foreign: Foreign, reference: Reference) -> str:
    parts = []
    for split, part in foreign.table.groupby("split"):
        theirs = set(reference.table.loc[reference.table["split"] == split, "image_id"])
        mine = set(part["image_id"])
        if mine == theirs:
            parts.append(f"the {len(mine):,} {split} images are those of {reference.name}: paired")
        else:
            parts.append(
                f"{len(mine & theirs):,} of {len(mine):,} {split} images are among the "
                f"{len(theirs):,} of {reference.name}: only equal sets can be paired"
            )
    return "; ".join(parts)


def _note(foreign: Foreign, words: str) -> Foreign:
    return replace(foreign, notes=(*foreign.notes, words))


# ---- the run folder -----------------------------------------------------------------------------


def write_foreign_run(
    foreign: Foreign, origin: Origin, *, output_dir: Path, source: Path
) -> tuple[Path, bool]:
    """Write predictions as a run folder, unless it is there.

    Its id is a digest of the predictions and of what they are said to be of. Units named anew
    are written into the folder that is there.

    Returns:
        The folder, and whether it was there already.

    Raises:
        ConfigError: the seed was given, and other predictions have it.
        StorageError: it cannot be written.
    """
    origin = _settle_seed(foreign, origin, output_dir)
    plan = make_foreign_plan(foreign, origin, source)
    run = RunDir(output_dir / "runs" / f"{_make_file_name(plan['run_name'])}-{plan['run_id']}")
    if run.is_done:
        if origin.units is not None:
            _tell_units(run, plan["units"])
        return run.path, True
    summary = make_summary(foreign, plan["run_id"])
    with run.hold(wait=True, say=print):
        if run.is_done:
            return run.path, True
        run.write_json("plan.json", plan)
        buffer = io.BytesIO()
        foreign.table.to_parquet(buffer, index=False)
        write_atomic(run.path / "predictions.parquet", buffer.getvalue())
        run.write_json("summary.json", summary)
        run.write_done(plan["run_id"])
    return run.path, False


def _settle_seed(foreign: Foreign, origin: Origin, output_dir: Path) -> Origin:
    identity = _make_identity(foreign, origin)
    seed = choose_seed(
        _digest_cell(identity),
        identity["predictions"],
        frozenset(map(str, foreign.table["split"].unique())),
        wanted=origin.seed,
        is_given=origin.is_seed_given,
        output_dir=output_dir,
    )
    return replace(origin, seed=seed)


def _tell_units(run: RunDir, units: list[dict[str, str]]) -> None:
    plan = json.loads((run.path / "plan.json").read_text("utf-8"))
    if plan["units"] != units:
        run.write_json("plan.json", {**plan, "units": units})


def _make_identity(foreign: Foreign, origin: Origin) -> dict[str, Any]:
    return {
        "imported": True,
        "dataset": {"name": origin.dataset, "task": foreign.task, "classes": foreign.classes},
        "model": {"name": origin.model},
        "init": {"source": origin.init, "k": origin.k},
        "freeze": {"j": origin.j, "bn": "frozen"},
        "name": origin.name,
        "settings": dict(origin.settings),
        "predictions": _digest(foreign),
        "seed": origin.seed,
    }


def _digest_cell(identity: Mapping[str, Any]) -> str:
    return digest_of({**identity, "predictions": None, "seed": None}, 12)


def make_foreign_plan(foreign: Foreign, origin: Origin, source: Path) -> dict[str, Any]:
    """Return what stands in plan.json: as of a trained run, and `imported`."""
    identity = _make_identity(foreign, origin)
    return {
        "record": RECORD,
        "imported": True,
        "run_id": digest_of(identity, 12),
        "cell_id": _digest_cell(identity),
        "source": {"file": source.name, "imported": time.strftime("%Y-%m-%d %H:%M:%S")},
        "identity": identity,
        **_describe_origin(origin),
        "classes": list(foreign.classes),
        "task": foreign.task,
        "positive": foreign.positive,
        "split_sizes": _count_classes(foreign),
        "notes": list(foreign.notes),
    }


def _describe_origin(origin: Origin) -> dict[str, Any]:
    run_name = f"{origin.dataset}-{origin.model}-{origin.init}-k{origin.k}-j{origin.j}"
    n_units = max(origin.k, origin.j)
    units = origin.units or tuple(f"unit{number}" for number in range(1, n_units + 1))
    return {
        "run_name": f"{run_name}-s{origin.seed}",
        "name": origin.name,
        "dataset": origin.dataset,
        "model": origin.model,
        "init": origin.init,
        "k": origin.k,
        "j": origin.j,
        "bn": "frozen",
        "seed": origin.seed,
        "weights": None,
        "ancestry": [],
        "units": [{"unit": unit} for unit in units],
        "epochs": None,
        "settings": {"import.name": origin.name, **origin.settings},
    }


def _make_file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)[:150]


def _digest(foreign: Foreign) -> str:
    """Return the sha256 of the predictions, whatever the file's format or the order of rows."""
    table = foreign.table.sort_values(["split", "image_id"], kind="stable")
    texts = table[["split", "image_id", "group", "label"]].astype(str).to_numpy().tolist()
    digest = hashlib.sha256(digest_of([texts, list(table.columns)]).encode())
    logits = table[[f"logit/{name}" for name in foreign.classes]].to_numpy(np.float64)
    digest.update(np.ascontiguousarray(logits).tobytes())
    return digest.hexdigest()


def _count_classes(foreign: Foreign) -> dict[str, dict[str, int]]:
    names = [*foreign.classes, *(["no finding"] if foreign.task == "multi-label" else [])]
    counts: dict[str, dict[str, int]] = {}
    for split, part in foreign.table.groupby("split"):
        of_class = np.bincount(part["label"], minlength=len(names))
        counts[str(split)] = {n: int(of_class[i]) for i, n in enumerate(names)}
    return counts


def make_summary(foreign: Foreign, run_id: str) -> dict[str, Any]:
    """Return every metric of every split, as of a trained run."""
    scores: dict[str, float] = {}
    for split, part in foreign.table.groupby("split"):
        logits = part[[f"logit/{name}" for name in foreign.classes]].to_numpy(np.float64)
        of_split = compute_scores(
            foreign.task,
            logits,
            _truth(part, foreign),
            part["group"].to_numpy(),
            classes=foreign.classes,
            positive=foreign.positive,
        )
        scores |= {f"{split}/{name}": value for name, value in of_split.items()}
    nothing = {"best_epoch": None, "epochs": None, "steps": None, "train_s": None}
    done = {"finished": time.strftime("%Y-%m-%d %H:%M:%S")}
    return {"run_id": run_id, "imported": True, **nothing, "metrics": scores, **done}


def _truth(part: pd.DataFrame, foreign: Foreign) -> np.ndarray:
    if foreign.task != "multi-label":
        return part["label"].to_numpy()
    return part[[f"target/{name}" for name in foreign.classes]].to_numpy()
