"""Imported predictions as a run folder, told apart from trained runs by `imported`.

Foreign -> matched with the images of trained runs -> plan.json, predictions.parquet, ..., DONE
"""

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.errors import ConfigError, DataError
from tlcnn.records.files import DONE, PREDICTIONS
from tlcnn.records.folder import RunDir
from tlcnn.records.foreign import Foreign
from tlcnn.records.plan_record import PlanRecord, UnitRecord, read_plan, write_plan
from tlcnn.records.read import read_predictions
from tlcnn.records.summary import Summary, write_summary
from tlcnn.records.write import make_parquet
from tlcnn.statistics import metrics
from tlcnn.storage import digest_of, write_atomic
from tlcnn.text import print_text

MAX_REFERENCES = 20  # splits of a dataset that an import is compared with


# ---- the images of trained runs -----------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The scored images of a trained run: image_id, group, label and split, and its classes."""

    name: str
    table: pd.DataFrame
    classes: tuple[str, ...]


def list_references(runs: pd.DataFrame, dataset: str) -> list[Reference]:
    """Return the images of the trained runs of a dataset, one run for each of its splits."""
    references: dict[str, Reference] = {}
    for row in runs[(runs["state"] == "done") & (runs["dataset"] == dataset)].to_dict("records"):
        if row["imported"] or not row["has_predictions"]:
            continue
        keys = ("dataset.fold", "dataset.folds", "dataset.split")
        split = str([row["settings"].get(key) for key in keys])
        if split not in references and len(references) < MAX_REFERENCES:
            folder = Path(row["folder"])
            table = read_predictions(folder)
            classes = [c.removeprefix("logit/") for c in table.columns if c.startswith("logit/")]
            images = table[["split", "image_id", "group", "label"]]
            references[split] = Reference(folder.name, images, tuple(classes))
    return list(references.values())


def match_reference(foreign: Foreign, references: list[Reference]) -> Foreign:
    """Return predictions with the ids, class order and groups of a trained run on their images.

    Args:
        references: trained runs of the same dataset; the one with the most common images counts.

    Raises:
        DataError: an image has another label here than there.
    """
    candidates = [(_rename_images(foreign.table, r), r) for r in references]
    n_common = [len(set(table["image_id"]) & set(r.table["image_id"])) for table, r in candidates]
    if not max(n_common, default=0):
        note = (
            "no run of this dataset has its images" if references else "no run to pair it with yet"
        )
        return replace(foreign, notes=(*foreign.notes, f"{note}: it is compared unpaired"))
    table, reference = candidates[int(np.argmax(n_common))]
    foreign = _order_classes(replace(foreign, table=table), reference.classes)
    table, images = foreign.table.copy(), reference.table.set_index("image_id")
    is_common = table["image_id"].isin(images.index)
    common = table[is_common].reset_index(drop=True)
    expected = images.loc[common["image_id"]].reset_index()
    differing = np.flatnonzero(common["label"] != expected["label"])
    if len(differing) and len(foreign.classes) == len(reference.classes):
        first = int(differing[0])
        label = [*foreign.classes, "none"][common["label"][first]]
        reference_label = [*reference.classes, "none"][expected["label"][first]]
        raise DataError(
            f"{len(differing):,} of {len(common):,} images have another label than in "
            f"{reference.name}: {common['image_id'][first]} is {label} here and {reference_label} "
            "there. Check the order of --classes, or import under another --dataset"
        )
    if not foreign.has_groups:
        table.loc[is_common, "group"] = expected["group"].to_numpy()
    notes = list(foreign.notes)
    for split, part in table.groupby("split"):
        ids, reference_ids = set(part["image_id"]), set(images.index[images["split"] == split])
        verdict = "paired" if ids == reference_ids else "only equal sets can be paired"
        notes.append(
            f"{len(ids & reference_ids):,} of {len(ids):,} {split} images are among the "
            f"{len(reference_ids):,} of {reference.name}: {verdict}"
        )
    return replace(foreign, table=table, notes=tuple(notes))


def _rename_images(table: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """Return the table, with file names changed to the ids of a reference where that fits."""
    ids, suffix = table["image_id"], r"\.(jpe?g|png|tiff?|bmp|webp)$"
    stems = ids.str.replace(suffix, "", case=False, regex=True)
    names = stems.str.replace(r".*[/\\]", "", regex=True)
    for renamed in (ids, stems, names, names.str.upper()):
        if renamed.is_unique and renamed.isin(reference.table["image_id"]).any():
            return table.assign(image_id=renamed)
    return table


def _order_classes(foreign: Foreign, classes: tuple[str, ...]) -> Foreign:
    """Return predictions with the classes in another order, so that labels mean the same."""
    if foreign.classes == classes or set(foreign.classes) != set(classes):
        return foreign
    table = foreign.table.copy()
    if foreign.task != "multi-label":
        position = [classes.index(name) for name in foreign.classes]
        table["label"] = np.array(position)[table["label"]]
    kinds = [kind for kind in ("logit", "target") if f"{kind}/{classes[0]}" in table]
    images = table[["split", "image_id", "group", "label"]]
    ordered = table[[f"{kind}/{name}" for kind in kinds for name in classes]]
    return replace(foreign, table=pd.concat([images, ordered], axis=1), classes=classes)


# ---- the run folder -----------------------------------------------------------------------------


def write_foreign_run(
    foreign: Foreign,
    plan: PlanRecord,
    runs: pd.DataFrame,
    *,
    output_dir: Path,
    is_seed_fixed: bool = False,
) -> tuple[Path, bool]:
    """Write predictions as a run folder, unless it is there.

    Its id is a digest of the predictions and of the method. Names of units that are given later
    are written into the folder that is there.

    Args:
        plan: what the user says about the method. Its units may be empty: then there are as many
            as are transferred or frozen.
        runs: the runs of the folder, finished or not.
        is_seed_fixed: the seed must be that of the plan; else it is the next that is free.

    Returns:
        The folder, and whether it was there already.

    Raises:
        ConfigError: the seed is fixed, and other predictions have it.
        StorageError: it cannot be written.
    """
    has_units = bool(plan.units)
    plan = _complete_plan(foreign, _choose_seed(foreign, plan, runs, is_seed_fixed))
    folder_name = re.sub(r"[^\w.+-]+", "_", plan.run_name)[:150]
    run = RunDir(output_dir / "runs" / f"{folder_name}-{plan.run_id}")
    scores = compute_scores(foreign)
    with run.hold(wait=True, say=print_text):
        was_there = run.is_done
        if was_there:
            previous = read_plan(run.path)
            if not has_units or previous.units == plan.units:
                return run.path, True
            (run.path / DONE).unlink()  # it holds the digest of the plan without the names
            plan = replace(previous, units=plan.units)
        write_plan(run.path, plan)
        write_atomic(run.path / PREDICTIONS, make_parquet(foreign.table))
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        write_summary(run.path, Summary(scores, plan.run_id, finished=now))
        run.write_done(plan.run_id)
    return run.path, was_there


def _choose_seed(
    foreign: Foreign, plan: PlanRecord, runs: pd.DataFrame, is_seed_fixed: bool
) -> PlanRecord:
    """Return the plan with the seed of the same predictions, else with the next that is free.

    Predictions of other splits do not take a seed.
    """
    identity = _make_identity(foreign, plan)
    splits = set(foreign.table["split"])
    equal, names = [], {}  # seeds of equal predictions; folder names of the others by seed
    for row in runs[runs["imported"] & (runs["cell_id"] == _make_cell_id(identity))].itertuples():
        if row.plan.identity.get("predictions") == identity["predictions"]:
            equal.append(row.plan.seed)
        elif splits & set(row.plan.split_sizes):
            names[row.plan.seed] = Path(row.folder).name
    if is_seed_fixed and plan.seed in names:
        raise ConfigError(
            f"--seed {plan.seed}: {names[plan.seed]} has that seed and other predictions. Leave "
            "--seed out for the next free one, tell the method apart with --name or --setting, or "
            "delete that folder"
        )
    if is_seed_fixed or plan.seed in equal:
        return plan
    free = (seed for seed in count(plan.seed) if seed not in names)
    return replace(plan, seed=min(equal) if equal else next(free))


def _make_identity(foreign: Foreign, plan: PlanRecord) -> dict[str, Any]:
    # The digest of predictions is that of their values, whatever the file's format or row order.
    table = foreign.table.sort_values(["split", "image_id"], kind="stable")
    texts = table[["split", "image_id", "group", "label"]].astype(str).to_numpy().tolist()
    digest = hashlib.sha256(digest_of([texts, list(table.columns)]).encode())
    digest.update(np.ascontiguousarray(replace(foreign, table=table).logits).tobytes())
    return {
        "imported": True,
        "dataset": {"name": plan.dataset, "task": foreign.task, "classes": foreign.classes},
        "model": {"name": plan.model},
        "init": {"source": plan.source[0], "k": plan.k},
        "freeze": {"j": plan.j, "bn": plan.bn},
        "name": plan.name,
        "settings": dict(plan.settings),
        "predictions": digest.hexdigest(),
        "seed": plan.seed,
    }


def _make_cell_id(identity: Mapping[str, Any]) -> str:
    return digest_of({**identity, "predictions": None, "seed": None}, 12)


def _complete_plan(foreign: Foreign, plan: PlanRecord) -> PlanRecord:
    """Return what stands in plan.json: the method, and what the predictions say."""
    identity = _make_identity(foreign, plan)
    units = [UnitRecord(f"unit{number}") for number in range(1, max(plan.k, plan.j) + 1)]
    classes = [*foreign.classes, *(["no finding"] if foreign.task == "multi-label" else [])]
    split_sizes = {
        str(split): dict(
            zip(classes, np.bincount(part["label"], minlength=len(classes)).tolist(), strict=True)
        )
        for split, part in foreign.table.groupby("split")
    }
    return replace(
        plan,
        run_id=digest_of(identity, 12),
        cell_id=_make_cell_id(identity),
        import_time=time.strftime("%Y-%m-%d %H:%M:%S"),
        identity=identity,
        run_name=f"{plan.dataset}-{plan.model}-{plan.source[0]}-k{plan.k}-j{plan.j}-s{plan.seed}",
        units=plan.units or tuple(units),
        settings={"import.name": plan.name, **plan.settings},
        classes=foreign.classes,
        task=foreign.task,
        positive=foreign.positive,
        split_sizes=split_sizes,
        notes=foreign.notes,
    )


def compute_scores(foreign: Foreign) -> dict[str, float]:
    """Return every metric of every split, `SPLIT/METRIC` as for a trained run."""
    options: dict[str, Any] = {"classes": foreign.classes, "positive": foreign.positive}
    scores: dict[str, float] = {}
    for split, part in foreign.table.groupby("split"):
        truth = part["label"].to_numpy()
        if foreign.task == "multi-label":
            truth = part[[f"target/{name}" for name in foreign.classes]].to_numpy()
        logits, groups = replace(foreign, table=part).logits, part["group"].to_numpy()
        values = metrics.compute_scores(foreign.task, logits, truth, groups, **options)
        scores |= {f"{split}/{name}": value for name, value in values.items()}
    return scores
