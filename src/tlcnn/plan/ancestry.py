"""Where weights come from through other runs, and what those runs have trained on.

A run that starts from another run's weights has seen that run's training images, and those of
the runs before it. `check_leaks` refuses to test on any of them.
"""

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.data.dataset import Dataset
from tlcnn.data.duplicates import FINGERPRINT_VERSION
from tlcnn.data.overlap import Overlap, Part, find_overlap
from tlcnn.errors import DataError, WeightsError, did_you_mean, list_names
from tlcnn.storage import remember

log = logging.getLogger(__name__)

GUARD_VERSION = 2
_SHORTEST_ID = 4
_WORD = re.compile(r"[\w.-]*\w[\w.-]*")  # what folders may be named by
_ROWS = ["image_id", "group", "digest"]
_HERE = ("folder", "images", "later")  # what of an ancestor is not in records


@dataclass(frozen=True)
class Ancestor:
    """A run whose weights, perhaps through others, a run starts from.

    Attributes:
        source: where its own weights came from: random, imagenet, a chain such as
            `imagenet-ham10000`.
        manifest: hash of its images and their splits.
        folder: its run folder, finished or not.
        images: its images, where it is planned here.
        later: folders of runs that start from it; they keep a record of what it trained on.
    """

    run_id: str
    run_name: str
    cell_id: str
    dataset: str
    source: str
    k: int
    j: int
    seed: int
    manifest: str
    folder: Path
    images: Dataset | None = None
    later: tuple[Path, ...] = ()

    def describe(self) -> str:
        """Return one line: where its weights came from, what it trained on, and its state."""
        told = f"run {self.run_id}, seed {self.seed}{self._describe_state()}"
        return f"{self.source} -> {self.dataset} ({told})"

    def _describe_state(self) -> str:
        if (self.folder / "DONE").is_file():
            return ""
        if self.images is not None:
            return ", to be trained first"
        return ", not finished" if self.folder.is_dir() else ", its folder is not here"

    def record(self) -> dict[str, Any]:
        """Return it as a JSON value, without its place on this machine."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _HERE}


def find_run_dir(run: str, output_dir: Path) -> Path:
    """Return the folder of a run that is given by its id, the id's beginning, or its path.

    Raises:
        WeightsError: there is none, or several.
    """
    given = Path(run).expanduser()
    if (given / "plan.json").is_file():
        return given.absolute()
    runs = output_dir / "runs"
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    ids = {folder: folder.name.rsplit("-", 1)[-1] for folder in folders if folder.is_dir()}
    long_enough = len(run) >= _SHORTEST_ID
    found = [f for f, i in ids.items() if f.name == run or (long_enough and i.startswith(run))]
    begun = [folder for folder in found if (folder / "plan.json").is_file()]
    if begun and len({ids[folder] for folder in found}) == 1:  # one run under several names
        return min(begun, key=lambda folder: not (folder / "DONE").is_file())
    if found:
        names = list_names([folder.name for folder in found])
        what = "give more of its id" if begun else "none has begun; train it first"
        raise WeightsError(f"init.run={run} fits {len(found)} folders in {runs}: {names}; {what}.")
    close = did_you_mean(run, list(ids.values()))
    raise WeightsError(
        f"there is no run {run} in {runs}.{close} Give its id, the first {_SHORTEST_ID} digits of "
        "it, or the path of its folder."
    )


def read_ancestors(run_dir: Path) -> tuple[Ancestor, ...]:
    """Return a run and those before it, nearest first, from its plan.json.

    Raises:
        WeightsError: the folder's plan cannot be read.
    """
    try:
        plan = json.loads((run_dir / "plan.json").read_text())
        names = [f.name for f in fields(Ancestor) if f.name not in (*_HERE, "source", "manifest")]
        own = {name: plan[name] for name in names}
        own |= {"source": plan["init"], "manifest": plan["identity"]["dataset"]["manifest"]}
        before = plan.get("ancestry", [])
        return _place_ancestors([own, *before], run_dir.parent, run_dir)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{run_dir} is no run folder that this version can read ({error}). Give another run, "
            "or its weights as a plain file: init=checkpoint init.weights=FILE"
        ) from error


def find_ancestors(file: Path, says: Any, output_dir: Path) -> tuple[Ancestor, ...]:
    """Return the runs that a file of weights comes from, nearest first, or nothing.

    The file may be a copy under any name, or one of a run that is not finished.

    Args:
        file: of weights.
        says: what a run wrote into it; None where nobody did, and then the folder decides.
        output_dir: whose runs may hold the records of the run that it names.

    Raises:
        WeightsError: it says that it is a run's, in words that cannot be read.
    """
    if says is None:
        return read_ancestors(file.parent) if _read_run_id(file.parent) else ()
    try:
        beside = [file.parent, *_list_folders(output_dir / "runs", says["run_id"])]
        folder = next((f for f in beside if _read_run_id(f) == says["run_id"]), None)
        if folder is not None:
            return read_ancestors(folder)
        records = [_make_record(says), *says.get("ancestry", [])]
        return _place_ancestors(records, output_dir / "runs")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{file} says that a run made it, but not which ({type(error).__name__}: {error}). "
            "Give that run instead: init=run init.run=ID"
        ) from error


def _read_run_id(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "plan.json").read_text())["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _list_folders(runs: Path, run_id: str) -> list[Path]:
    return [f for f in sorted(runs.iterdir()) if f.name.endswith(run_id)] if runs.is_dir() else []


def _make_record(says: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the run that made a file, as far as the file tells."""
    identity = says["identity"]
    return {
        "run_id": says["run_id"],
        "run_name": "run",
        "cell_id": says["run_id"],
        "dataset": "unknown",
        "source": identity["init"]["source"],
        "k": identity["init"]["k"],
        "j": identity["freeze"]["j"],
        "seed": identity["seed"],
        "manifest": identity["dataset"]["manifest"],
        **says.get("run", {}),
    }


def _place_ancestors(
    records: Sequence[dict[str, Any]], runs: Path, first: Path | None = None
) -> tuple[Ancestor, ...]:
    """Return the runs of these records, nearest first, each with where it is looked for.

    Args:
        runs: the folder of run folders.
        first: the folder of the first, where it is known.
    """
    placed: list[Ancestor] = []
    for record in records:
        for name in ("run_id", "run_name", "dataset", "source"):  # they make names of folders
            if not _WORD.fullmatch(record[name]):
                raise ValueError(f"{name}: {record[name]!r}")
        own = first if first and not placed else runs / f"{record['run_name']}-{record['run_id']}"
        later = tuple(ancestor.folder for ancestor in placed)
        placed.append(Ancestor(**record, folder=own, later=later))
    return tuple(placed)


def make_part(images: Dataset, split: str) -> Part:
    """Return the images of one split."""
    rows = np.flatnonzero(images.splits == split)
    table = images.index.table.iloc[rows][["image_id", "group"]].reset_index(drop=True)
    table["digest"] = [images.digests[row] for row in rows]
    return Part(images.index.name, table, images.index.images, rows, images.digests)


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
        images: of the run.
        ancestors: the runs before it.
        open_images: returns an ancestor's images where they can still be opened.
        cache_dir: comparisons are remembered there.
        allow_unchecked: only warn of a run whose training images nobody knows any more.

    Raises:
        DataError: names the images or groups and the run that trained on them, or the run that
            nothing is known of.
    """
    for ancestor in ancestors:
        if ancestor.manifest == images.manifest:  # one split of one dataset
            continue
        seen = _find_seen(ancestor, open_images)
        if seen is None:
            _refuse_unknown(ancestor, allow_unchecked)
            continue
        names = [images.index.name, ancestor.dataset]  # decide what equal ids and groups mean
        key = [GUARD_VERSION, FINGERPRINT_VERSION, *names, images.manifest, ancestor.manifest]
        found = remember(
            cache_dir,
            "overlap",
            [*key, seen.images is not None],
            partial(_find, images, seen, cache_dir),
        )
        _refuse(Overlap(**found), ancestor)


def _find_seen(
    ancestor: Ancestor, open_images: Callable[[Ancestor], Dataset | None]
) -> Part | None:
    """Return the training images of a run: from its dataset, or at least their record."""
    images = open_images(ancestor)
    if images is not None:
        return make_part(images, "train")
    places = [(ancestor.folder / "splits.parquet", "split", "train")]
    places += [(later / "seen.parquet", "run_id", ancestor.run_id) for later in ancestor.later]
    tables = (_read_rows(*place) for place in places)
    table = next((table for table in tables if table is not None), None)
    if table is None:
        return None
    return Part(ancestor.dataset, table, None, np.arange(len(table)), [])


def _read_rows(path: Path, column: str, value: str) -> pd.DataFrame | None:
    """Return the images of a record that have a value, or None where there are none."""
    try:
        table = pd.read_parquet(path, columns=[column, *_ROWS])
    except (OSError, ValueError, KeyError):  # missing or damaged
        return None
    rows = table.loc[table[column] == value, _ROWS].reset_index(drop=True)
    return rows if len(rows) else None


def collect_seen(ancestors: Sequence[Ancestor], run_dir: Path) -> pd.DataFrame:
    """Return what the runs before one have trained on, as far as it is known.

    Args:
        ancestors: of the run.
        run_dir: its folder, which may have a record from an earlier sitting.

    Returns:
        One row a run and image: dataset, image_id, group, digest and run_id.
    """
    tables = [pd.DataFrame(columns=["dataset", *_ROWS, "run_id"], dtype=str)]
    for ancestor in ancestors:
        known = replace(ancestor, later=(*ancestor.later, run_dir))
        seen = _find_seen(known, lambda one: one.images)
        if seen is not None:
            told = {"dataset": ancestor.dataset, "run_id": ancestor.run_id}
            tables.append(seen.table[_ROWS].assign(**told))
    return pd.concat(tables, ignore_index=True)


def _find(images: Dataset, seen: Part, cache_dir: Path) -> dict[str, Any]:
    """Return the fields of the overlap, as they are remembered."""
    own = make_part(images, "train").table["digest"]  # seen anyway, so no leak of the chain
    return vars(find_overlap(make_part(images, "test"), seen.without(set(own)), cache_dir))


def _refuse_unknown(ancestor: Ancestor, allow_unchecked: bool) -> None:
    name = f"{ancestor.run_name}-{ancestor.run_id}"
    what = f"whether {name} trained on test images of this run cannot be checked"
    if allow_unchecked:
        log.warning("%s: its records are gone", what)
        return
    raise DataError(
        f"{what}: the weights come from it, and neither its images nor a record of them is here "
        f"({ancestor.folder}). Put its folder there, or, where the weights are a copy of a run's, "
        f"give that run: init=run init.run={ancestor.run_id} (or the path of its folder). "
        "init.allow_unchecked=true goes on unchecked."
    )


def _refuse(overlap: Overlap, ancestor: Ancestor) -> None:
    if overlap.n_unconfirmed:
        log.warning(
            "%d test images look like training images of %s, whose pixels cannot be compared",
            overlap.n_unconfirmed,
            ancestor.run_name,
        )
    if not overlap:
        return
    near = [f"{mine} = {other}" for mine, other in overlap.near]
    kinds = {
        "groups": overlap.groups,
        "images by id": overlap.ids,
        "images by their bytes": overlap.copies,
        "images that are the same picture": near,
    }
    found = "; ".join(f"{len(v)} {name} ({list_names(v)})" for name, v in kinds.items() if v)
    raise DataError(
        f"test images of this run are in the training data of {ancestor.run_name}-"
        f"{ancestor.run_id}, which its weights come from: {found}. Use the same "
        "dataset.split_seed, fold and fractions in both runs, or another source; if these are "
        "different images that only share names, give their dataset a dataset.name of its own."
    )
