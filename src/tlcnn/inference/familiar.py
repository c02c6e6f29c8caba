"""Which images networks were trained on, and which are far from the images of training.

ids, bytes, pictures, groups  against the images of training and validation
features                      distance from the mean of the training images; 99 % of the
                              validation images are within 1
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tlcnn.data.array_store import ArrayStore, CachedArray
from tlcnn.data.overlap import WAYS, Part, find_group_mates, find_overlap, name_ways
from tlcnn.device import count_cores
from tlcnn.errors import DataError
from tlcnn.inference.image_list import ArrayImages, ImageList
from tlcnn.inference.network import Network, StoredForm, computing
from tlcnn.model.unit_map import UnitMap
from tlcnn.model.weights import RUN_WEIGHTS
from tlcnn.plan.ancestry import make_part
from tlcnn.records.files import SEEN, SPLITS, read_digests
from tlcnn.records.read import read_table
from tlcnn.storage import digest_of

log = logging.getLogger(__name__)

QUANTILE = 0.99  # the share of validation images that are at most at distance 1
MIN_VAL = 100  # validation images, of which one is beyond the quantile
FAR = "far from the training images"
_ROLES = {"train": "seen in training", "val": "seen in validation"}


@dataclass(frozen=True)
class SeenImages:
    """Images that a run, or a run before it, has used.

    Attributes:
        role: what they were used for, in words.
        form: how `part.images` are stored; None where they cannot be opened.
    """

    role: str
    part: Part
    form: StoredForm | None = None


# ---- seen ---------------------------------------------------------------------------------------


def can_open_images(network: Network) -> bool:
    """Return whether the images of a run are where it read them, and are the same."""
    try:
        network.run.dataset()
    except DataError:
        return False
    return True


def list_seen(networks: Sequence[Network]) -> list[SeenImages]:
    """Return the images of training and validation of all runs, and of the runs before them.

    Pictures are compared as the first network of a dataset sees them. Where a run's images are no
    longer there, their record still has ids and bytes.

    Raises:
        DataError: the record of a run's splits is missing or damaged, too.
    """
    by_manifest = {network.record.manifest: network for network in reversed(networks)}
    seen = []
    for network in by_manifest.values():
        try:
            dataset = network.run.dataset()
            pixels = network.run.batches("train").pixels
        except DataError as error:
            name = network.record.run_name
            log.warning("copies that were saved again are not recognised: %s", error)
            log.warning("only ids and bytes are compared with the images of %s", name)
            seen += _read_recorded(network)
            continue
        digests = _name_stored(dataset.digests, network.stored_form)
        stored = ArrayImages(np.asarray(pixels))
        for split, role in _ROLES.items():
            part = replace(make_part(dataset, split), images=stored, digests=digests)
            seen.append(SeenImages(role, part, network.stored_form))
    for network in networks:
        if (network.run.folder / SEEN).is_file():
            for dataset_name, table in read_table(network.run.folder / SEEN).groupby("dataset"):
                seen.append(_make_recorded("train", str(dataset_name), table))
    return seen


def _read_recorded(network: Network) -> list[SeenImages]:
    table = read_table(network.run.folder / SPLITS)
    name = network.record.dataset
    return [_make_recorded(split, name, table[table["split"] == split]) for split in _ROLES]


def _make_recorded(split: str, dataset: str, table: pd.DataFrame) -> SeenImages:
    """Return images of which a record has ids and bytes, but which cannot be opened."""
    rows = table.reset_index(drop=True)
    return SeenImages(_ROLES[split], Part(dataset, rows, None, np.arange(len(rows)), []))


def _name_stored(digests: Sequence[str], form: StoredForm) -> list[str]:
    """Return the names of stored images, under which their fingerprints are remembered."""
    return [f"{digest} {form}" for digest in digests]


def find_seen(
    images: ImageList,
    pixels: Mapping[StoredForm, np.ndarray],
    seen: Sequence[SeenImages],
    network: Network,
) -> list[dict[str, str]]:
    """Return for each image how networks have seen it: each warning with its kind; mostly none.

    Args:
        pixels: the stored images, as in `Outputs`.
    """
    warnings: list[dict[str, str]] = [{} for _ in range(len(images))]
    digests = images.load_digests()
    table = images.table[["image_id"]].assign(digest=digests)
    table["group"] = images.table.get("group", images.table["image_id"])
    position = {image_id: row for row, image_id in enumerate(table["image_id"])}
    for each in seen:
        stored, names = None, []
        if each.form is not None:
            stored, names = ArrayImages(pixels[each.form]), _name_stored(digests, each.form)
        part = Part(images.dataset, table, stored, np.arange(len(table)), names)
        overlap = find_overlap(part, each.part, network.run.cache_dir)
        partners = dict(overlap.near)
        for image_id, way in name_ways(overlap, table).items():
            kind = f"{each.role} by {way}"
            detail = f" ({partners[image_id]})" if way == "picture" else ""
            warnings[position[image_id]][kind + detail] = kind
    return warnings


def add_group_mates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return predictions with a warning where another image of the same group has been seen.

    Args:
        frame: rows of `warnings` and `kinds` as `find_seen` found them for some images at a time,
            and of `group` where groups are recorded.
    """
    if "group" not in frame:
        return frame
    groups = frame["group"].to_numpy(dtype=str)
    warnings, kinds = frame["warnings"].tolist(), [list(each) for each in frame["kinds"]]
    for role in reversed(_ROLES.values()):  # what was seen in training stands first
        seen_kinds = {f"{role} by {way}" for way in WAYS}
        is_seen = np.array([bool(seen_kinds & {*each}) for each in kinds])
        for row in np.flatnonzero(find_group_mates(is_seen & (groups != ""), groups)):
            new = f"{role} by group"
            warnings[row] = "; ".join(filter(None, [new, warnings[row]]))
            kinds[row] = [new, *kinds[row]]
    return frame.assign(warnings=warnings, kinds=pd.Series(kinds, frame.index))


# ---- far ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distances:
    """Mahalanobis distances from the training images of a network, in the middle of it.

    They are measured in what leaves a unit, averaged over the map, with the mean and the shrunk
    covariance of all training images (Lee et al. 2018, A simple unified framework for detecting
    out-of-distribution samples; Ledoit and Wolf 2004), and divided by the distance that `QUANTILE`
    of the validation images do not exceed. docs/predict.md says why the unit is in the middle.

    Attributes:
        location: (D,) the mean.
        precision: (D, D) the inverse of the covariance.
        scale: what distances are divided by.
        unit: the number of the unit; None: what enters the classifier.
    """

    location: np.ndarray
    precision: np.ndarray
    scale: float = 1.0
    unit: int | None = None

    def measure(self, features: np.ndarray) -> np.ndarray:
        """Return the distance of each of (n, D) features, (n,) float64."""
        centred = features.astype(np.float64) - self.location
        squares = np.einsum("nd,nd->n", centred @ self.precision, centred)
        return np.sqrt(np.maximum(squares, 0)) / self.scale


def warn_of_few(n_val: int, run_name: str) -> None:
    """Log where few validation images decide which distance is 1.

    The expected share of images like them beyond the quantile, which lies between the two order
    statistics, is (n - q (n - 1)) / (n + 1) of n of them: 0.02 of 100.
    """
    share = (n_val - QUANTILE * (n_val - 1)) / (n_val + 1)
    if n_val < MIN_VAL:
        log.warning(
            "distance: %d validation images of %s are too few for a threshold that %g %% of them "
            "do not exceed. About %.0f %% of images like those of the dataset are above 1",
            n_val,
            run_name,
            100 * QUANTILE,
            100 * share,
        )


def find_middle(unit_map: UnitMap) -> int | None:
    """Return the number of the unit nearest to the middle that a single tensor leaves.

    Of two that are as near, it is the deeper one.
    """
    numbers = [n for n, unit in enumerate(unit_map.units, start=1) if unit.cut_obstacle is None]
    middle = (len(unit_map) + 1) / 2
    return min(numbers, key=lambda n: (abs(n - middle), -n), default=None)


def load_distances(network: Network) -> Distances | None:
    """Return the distances from a network's training images, computed once and cached.

    None, with a warning, where the images of the run cannot be opened.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    run, unit = network.run, find_middle(network.run.unit_map())
    weights = read_digests(run.folder).get(RUN_WEIGHTS)
    store = ArrayStore(run.cache_dir / "references", workers=count_cores())
    name = digest_of([run.record.run_id, weights, unit, QUANTILE, network.device], 32)

    def build() -> CachedArray:
        from sklearn.covariance import LedoitWolf

        log.info("looking once at the training images of %s", run.record.run_name)
        splits = {s: run.batches(s, network.device) for s in ("train", "val")}
        with computing(network):
            features = {s: network.compute(images, at=unit)[1] for s, images in splits.items()}
        fit = LedoitWolf().fit(features["train"].astype(np.float64))
        distances = Distances(fit.location_, fit.precision_).measure(features["val"])
        rows = np.concatenate([fit.location_[None], fit.precision_]).view(np.uint8)
        with store.open_writer(name, rows.shape) as writer:
            writer.add(rows)
            return writer.finish({"scale": max(float(np.quantile(distances, QUANTILE)), 1e-12)})

    try:
        array = store.load(name, build, work="looks at the same training images")
    except DataError as error:
        log.warning("distances from the training images are not computed: %s", error)
        return None
    warn_of_few(run.record.count_images("val"), run.record.run_name)
    location, *precision = np.asarray(array.rows).view(np.float64)
    return Distances(location, np.array(precision), array.info["scale"], unit)
