"""Where weights come from through other runs, and what those runs have trained on.

A run that starts from another run's weights has seen that run's training images, and those of
the runs before it. `check_leaks` refuses to test on any of them.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.data.duplicates import FINGERPRINT_VERSION
from tlcnn.data.overlap import Overlap, Part, find_overlap
from tlcnn.dataset import Images
from tlcnn.errors import DataError, WeightsError, did_you_mean, list_names
from tlcnn.storage import remember

log = logging.getLogger(__name__)

GUARD_VERSION = 2
_SHORTEST_ID = 4
_HERE = ("folder", "images")  # what of an ancestor is not in records


@dataclass(frozen=True)
class Ancestor:
    """A run whose weights, perhaps through others, a run starts from.

    Attributes:
        source: where its own weights came from: random, imagenet, a chain such as
            `imagenet-ham10000`.
        manifest: hash of its images and their splits.
        folder: its run folder, finished or not.
        images: its images, where they are at hand.
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
    images: Images | None = None

    def describe(self) -> str:
        """Return one line: where its weights came from, what it trained on, and its state."""
        state = "" if (self.folder / "DONE").is_file() else ", to be trained first"
        return f"{self.source} -> {self.dataset} (run {self.run_id}, seed {self.seed}{state})"

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
        return tuple(
            Ancestor(**record, folder=folder)
            for record in [own, *before]
            for folder in [run_dir if record is own else _find_beside(run_dir, record)]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{run_dir} is no run folder that this version can read ({error}). Give another run, "
            "or its weights as a plain file: init=checkpoint init.weights=FILE"
        ) from error


def _find_beside(run_dir: Path, record: dict[str, Any]) -> Path:
    return run_dir.parent / f"{record['run_name']}-{record['run_id']}"


def make_part(images: Images, split: str) -> Part:
    """Return the images of one split."""
    rows = np.flatnonzero(images.splits == split)
    table = images.index.table.iloc[rows][["image_id", "group"]].reset_index(drop=True)
    table["digest"] = [images.digests[row] for row in rows]
    return Part(images.index.name, table, images.index.images, rows, images.digests)


def check_leaks(
    images: Images,
    ancestors: Sequence[Ancestor],
    open_images: Callable[[Ancestor], Images | None],
    cache_dir: Path,
) -> None:
    """Refuse weights of runs that trained on what this run tests on.

    Args:
        images: of the run.
        ancestors: the runs before it.
        open_images: returns an ancestor's images where they can still be opened.
        cache_dir: comparisons are remembered there.

    Raises:
        DataError: names the images or groups and the run that trained on them.
    """
    for ancestor in ancestors:
        if ancestor.manifest == images.manifest:  # one split of one dataset
            continue
        seen = _find_seen(ancestor, open_images)
        if seen is None:
            log.warning(
                "neither the images nor the folder of %s are here: whether it trained on these "
                "test images cannot be checked",
                ancestor.run_name,
            )
            continue
        names = [images.index.name, ancestor.dataset]  # decide what equal ids and groups mean
        key = [GUARD_VERSION, FINGERPRINT_VERSION, *names, images.manifest, ancestor.manifest]
        found = remember(
            cache_dir,
            "overlap",
            [*key, seen.images is not None],
            lambda seen=seen: vars(_find(images, seen, cache_dir)),  # type: ignore[misc]
        )
        _refuse(Overlap(**found), ancestor)


def _find_seen(
    ancestor: Ancestor, open_images: Callable[[Ancestor], Images | None]
) -> Part | None:
    """Return the training images of a run: from its dataset, or at least their record."""
    images = open_images(ancestor)
    if images is not None:
        return make_part(images, "train")
    path = ancestor.folder / "splits.parquet"
    if not path.is_file():
        return None
    table = pd.read_parquet(path).query("split == 'train'").reset_index(drop=True)
    return Part(ancestor.dataset, table, None, np.arange(len(table)), [])


def _find(images: Images, seen: Part, cache_dir: Path) -> Overlap:
    own = make_part(images, "train").table["digest"]  # seen anyway, so no leak of the chain
    return find_overlap(make_part(images, "test"), seen.without(set(own)), cache_dir)


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
