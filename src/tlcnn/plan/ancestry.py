"""Where weights come from through other runs, and what those runs have trained on.

A run that starts from another run's weights has seen that run's training images, and those of
the runs before it. `check_leaks` refuses to test on any of them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.data.dataset import Dataset
from tlcnn.data.duplicates import FINGERPRINT_VERSION
from tlcnn.data.overlap import Overlap, Part, find_overlap
from tlcnn.errors import DataError, WeightsError, did_you_mean, list_names
from tlcnn.records.files import DONE, PLAN, SEEN, SPLITS
from tlcnn.records.parse import parse_record
from tlcnn.records.plan_record import AncestorRecord, read_plan
from tlcnn.records.read import read_table
from tlcnn.storage import remember

log = logging.getLogger(__name__)

GUARD_VERSION = 2
_SHORTEST_ID = 4
_COLUMNS = ["image_id", "group", "digest"]


@dataclass(frozen=True)
class Ancestor:
    """A run whose weights, perhaps through others, a run starts from.

    Attributes:
        images: its images, where it is planned here.
        later: folders of runs that start from it; they keep a record of what it trained on.
    """

    record: AncestorRecord
    folder: Path
    images: Dataset | None = None
    later: tuple[Path, ...] = ()

    @property
    def full_name(self) -> str:
        """The name of its run folder."""
        return f"{self.record.run_name}-{self.record.run_id}"

    def describe(self) -> str:
        """Return one line: where its weights came from, what it trained on, and its state."""
        record, state = self.record, ""
        if not (self.folder / DONE).is_file():
            begun = ", not finished" if self.folder.is_dir() else ", its folder is not here"
            state = begun if self.images is None else ", to be trained first"
        chain = " -> ".join([*record.source, record.dataset])
        return f"{chain} (run {record.run_id}, seed {record.seed}{state})"


def find_run_dir(run: str, output_dir: Path) -> Path:
    """Return the folder of a run by its id, the id's beginning, or its path; or WeightsError."""
    place = Path(run).expanduser()
    if (place / PLAN).is_file():
        return place.absolute()
    folders = sorted([*output_dir.glob("runs/*"), *output_dir.glob("*/runs/*")])
    searched = f"{output_dir / 'runs'} and {output_dir / '*/runs'}"
    ids = {folder: folder.name.rsplit("-", 1)[-1] for folder in folders if folder.is_dir()}
    is_long_enough = len(run) >= _SHORTEST_ID
    matching = [
        f for f, i in ids.items() if f.name == run or (is_long_enough and i.startswith(run))
    ]
    begun = [folder for folder in matching if (folder / PLAN).is_file()]
    if begun and len({ids[folder] for folder in matching}) == 1:  # one run under several names
        return min(begun, key=lambda folder: not (folder / DONE).is_file())
    if matching:
        names = list_names([folder.name for folder in matching])
        advice = "give more of its id" if begun else "none has begun; train it first"
        raise WeightsError(
            f"init.run={run} fits {len(matching)} folders in {searched}: {names}; {advice}."
        )
    close = did_you_mean(run, list(ids.values()))
    raise WeightsError(
        f"there is no run {run} in {searched}.{close} Give its id, the first {_SHORTEST_ID} "
        "digits of it, or the path of its folder."
    )


def read_ancestors(run_dir: Path) -> tuple[Ancestor, ...]:
    """Return a run and those before it, nearest first. Raises WeightsError without a plan."""
    try:
        plan = read_plan(run_dir)
        return _place_ancestors([plan.as_ancestor(), *plan.ancestry], run_dir.parent, run_dir)
    except DataError as error:
        raise WeightsError(
            f"{run_dir} is no run folder that this version can read ({error}). Give another run, "
            "or its weights as a plain file: init=checkpoint init.weights=FILE"
        ) from error


def find_ancestors(file: Path, metadata: Any, output_dir: Path) -> tuple[Ancestor, ...]:
    """Return the runs that a file of weights comes from, nearest first, or nothing.

    The file may be a copy under any name. `metadata` is what a run wrote into it; None where no
    run did, and then the folder decides.
    Raises WeightsError for metadata of a run that cannot be read.
    """
    if metadata is None:
        return read_ancestors(file.parent) if _read_run_id(file.parent) else ()
    try:
        run = parse_record(AncestorRecord, metadata["run"], "the metadata")
        before = metadata.get("ancestry", [])
        records = [run, *(parse_record(AncestorRecord, r, "the metadata") for r in before)]
    except (DataError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{file} says that a run made it, but not which ({type(error).__name__}: {error}). "
            "Give that run instead: init=run init.run=ID"
        ) from error
    runs = output_dir / "runs"
    folders = sorted(runs.glob("*"))
    folders = [file.parent, *(f for f in folders if f.name.endswith(run.run_id))]
    folder = next((f for f in folders if _read_run_id(f) == run.run_id), None)
    return read_ancestors(folder) if folder else _place_ancestors(records, runs)


def _read_run_id(folder: Path) -> str | None:
    try:
        return read_plan(folder).run_id
    except DataError:
        return None


def _place_ancestors(
    records: Sequence[AncestorRecord], runs: Path, first: Path | None = None
) -> tuple[Ancestor, ...]:
    """Return the runs of these records, nearest first; the first one's folder may be known."""
    folders = [runs / f"{record.run_name}-{record.run_id}" for record in records]
    folders[0] = first or folders[0]
    return tuple(
        Ancestor(record, folders[number], later=tuple(folders[:number]))
        for number, record in enumerate(records)
    )


def check_leaks(
    images: Dataset,
    ancestors: Sequence[Ancestor],
    open_images: Callable[[Ancestor], Dataset | None],
    cache_dir: Path,
    *,
    allow_unchecked: bool = False,
) -> None:
    """Refuse weights of runs that trained on what this run tests on.

    Args:
        open_images: a function that returns an ancestor's dataset where it can still be opened.
        allow_unchecked: whether a run whose training images are not known is only warned of.

    Raises:
        DataError: names the images or groups and the run that trained on them, or the run whose
            training images are not known.
    """
    for ancestor in ancestors:
        if ancestor.record.manifest == images.manifest:  # one split of one dataset
            continue
        seen = find_used_images(ancestor, open_images)
        if seen is not None:
            _refuse_overlap(images, seen, ancestor, cache_dir)
            continue
        unknown = (
            f"whether {ancestor.full_name} trained on test images of this run cannot be checked"
        )
        if not allow_unchecked:
            raise DataError(
                f"{unknown}: the weights come from it, and neither its images nor a record of "
                f"them is here ({ancestor.folder}). Put its folder there, or, where the weights "
                "are a copy of a run's, give that run: init=run "
                f"init.run={ancestor.record.run_id} (or the path of its folder). "
                "init.allow_unchecked=true goes on unchecked."
            )
        log.warning("%s: its records are gone", unknown)


def make_part(images: Dataset, split: str) -> Part:
    """Return the images of one split."""
    return pick_part(images, np.flatnonzero(images.splits == split))


def pick_part(images: Dataset, rows: np.ndarray) -> Part:
    """Return the images at some positions."""
    table = images.index.table.iloc[rows][["image_id", "group"]].reset_index(drop=True)
    table["digest"] = [images.digests[row] for row in rows]
    return Part(images.index.name, table, images.index.images, rows, images.pixel_digests)


def find_used_images(
    ancestor: Ancestor,
    open_images: Callable[[Ancestor], Dataset | None],
    split: str = "train",
) -> Part | None:
    """Return the images of a run's split: from its dataset, or at least their record.

    The runs that start from it keep a record of its training images alone.
    """
    images = open_images(ancestor)
    if images is not None:
        return make_part(images, split)
    later = ancestor.later if split == "train" else ()
    places = [(ancestor.folder / SPLITS, ("split", split))]
    places += [(folder / SEEN, ("run_id", ancestor.record.run_id)) for folder in later]
    for path, (column, value) in places:
        try:
            table = read_table(path)
            table = table.loc[table[column] == value, _COLUMNS].reset_index(drop=True)
        except (DataError, KeyError):  # missing, damaged, or without these columns
            continue
        if len(table):
            return Part(ancestor.record.dataset, table, None, np.arange(len(table)), [])
    return None


def collect_seen(ancestors: Sequence[Ancestor], run_dir: Path) -> pd.DataFrame:
    """Return what the runs before one have trained on: one row a run and image, where known.

    The folder of the run itself may have a record from an earlier session.
    """
    tables = [pd.DataFrame(columns=["dataset", *_COLUMNS, "run_id"], dtype=str)]
    for ancestor in ancestors:
        resumed = replace(ancestor, later=(*ancestor.later, run_dir))
        seen = find_used_images(resumed, lambda run: run.images)
        if seen is not None:
            names = {"dataset": ancestor.record.dataset, "run_id": ancestor.record.run_id}
            tables.append(seen.table[_COLUMNS].assign(**names))
    return pd.concat(tables, ignore_index=True)


def _refuse_overlap(images: Dataset, seen: Part, ancestor: Ancestor, cache_dir: Path) -> None:
    """Raise DataError when a run tests on what an ancestor has trained on; compared once."""
    names = [images.index.name, ancestor.record.dataset]  # decide what equal ids and groups mean
    manifests = [images.manifest, ancestor.record.manifest]
    key = [GUARD_VERSION, FINGERPRINT_VERSION, *names, *manifests, seen.images is not None]

    def compute() -> dict[str, Any]:
        # What the run trains on as well is no leak of the chain.
        trained = set(make_part(images, "train").table["digest"])
        return vars(find_overlap(make_part(images, "test"), seen.without(trained), cache_dir))

    overlap = Overlap(**remember(cache_dir, "overlap", key, compute))
    if overlap.n_unconfirmed:
        log.warning(
            "%d test images look like training images of %s, whose pixels cannot be compared",
            overlap.n_unconfirmed,
            ancestor.record.run_name,
        )
    if not overlap:
        return
    kinds = {
        "groups": overlap.groups,
        "images by id": overlap.ids,
        "images by their bytes": overlap.copies,
        "images that are the same picture": [f"{test} = {seen}" for test, seen in overlap.near],
    }
    counts = "; ".join(f"{len(v)} {name} ({list_names(v)})" for name, v in kinds.items() if v)
    raise DataError(
        f"test images of this run are in the training data of {ancestor.full_name}, which its "
        f"weights come from: {counts}. Use the same dataset.split_seed, fold and fractions in "
        "both runs, or another source; if these are different images that only share names, give "
        "their dataset a dataset.name of its own."
    )
