"""plan.json: what a run was asked to do, as a value. Its only writer and its only reader."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tlcnn.errors import DataError
from tlcnn.records.files import PLAN, read_json
from tlcnn.records.folder import RunDir
from tlcnn.records.parse import parse_record

RECORD = 2  # version of the files in a run folder
_MAX_UNITS = 10_000  # the largest k or j where the names of the units are unknown
_NAME = re.compile(r"[\w.-]*\w[\w.-]*")  # what may name a folder


@dataclass(frozen=True)
class AncestorRecord:
    """A run as the runs that start from its weights record it; fields as in `PlanRecord`.

    Attributes:
        source: where its own weights came from, first to last: `("random",)`, or
            `("imagenet", "ham10000")` for ImageNet weights that were trained on HAM10000 before.
    """

    run_id: str
    run_name: str
    cell_id: str
    dataset: str
    source: tuple[str, ...]
    k: int
    j: int
    seed: int
    manifest: str

    def __post_init__(self) -> None:
        """Raise DataError where a name from a file could lead out of a folder."""
        for name in (self.run_id, self.run_name, self.dataset, *self.source):
            check_name(name)


@dataclass(frozen=True)
class UnitRecord:
    """One unit of the network. Of an imported run only the name is known.

    Attributes:
        weights: the name of the weights that it starts from, `fresh`, or `stats` for a draw with
            their mean and deviation above the transferred units.
    """

    unit: str
    weights: str | None = None
    frozen: bool | None = None
    modules: str = ""
    n_params: int | None = None
    stride: int | None = None


@dataclass(frozen=True)
class WeightsRecord:
    """The file that a run's source was read from: timm's tag or the file's name, and its place."""

    tag: str
    origin: str


@dataclass(frozen=True)
class PlanRecord:
    """What a run was asked to do.

    Attributes:
        run_id: the digest of `identity`.
        cell_id: equal for runs that differ in the seed alone.
        source: where the weights came from, first to last; see `AncestorRecord`.
        k: the number of transferred units; the first ones unless `settings` have `init.units`.
        j: the number of frozen units; the first ones unless `settings` have `freeze.units`.
        bn: what the frozen units' norm layers may do.
        run_name: the run folder's name without the id.
        identity: everything that changes the run's numbers, resolved.
        weights: the source's file; None without one.
        ancestry: the runs that the weights come from, nearest first.
        task: `multi-class`, `binary`, `ordinal` or `multi-label`.
        positive: the class that one-against-rest metrics are about.
        split_sizes: the number of images per split and class.
        epochs: the number of planned epochs; None for an imported run.
        settings: the configuration as dotted keys and plain values.
        name: what the user calls the method of an imported run.
        notes: what is to be known of the images, or was found while importing.
        record: the version of the run folder's files.
    """

    run_id: str
    cell_id: str
    dataset: str
    model: str
    source: tuple[str, ...]
    k: int
    j: int
    bn: str
    seed: int
    run_name: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    weights: WeightsRecord | None = None
    ancestry: tuple[AncestorRecord, ...] = ()
    units: tuple[UnitRecord, ...] = ()
    classes: tuple[str, ...] = ()
    task: str | None = None
    positive: str | None = None
    split_sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    steps_per_epoch: int | None = None
    epochs: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    imported: bool = False
    name: str | None = None
    import_file: str = ""
    import_time: str = ""
    notes: tuple[str, ...] = ()
    record: int = RECORD

    @property
    def manifest(self) -> str:
        """The sha256 of the images and their splits; empty for an imported run."""
        return self._find("dataset", "manifest", "")

    @property
    def image_size(self) -> int | None:
        """The side of the network's input in pixels."""
        size = self._find("dataset", "image_size", None)
        return size if isinstance(size, int) else None

    @property
    def weights_digest(self) -> str:
        """The sha256 of the source's file, or `run:ID` where the source is a run."""
        return self._find("init", "digest", "")

    @property
    def precision(self) -> str:
        """What the network computed in: `fp32` or `bf16`."""
        return self._find("train", "precision", "fp32")

    def _find(self, part: str, key: str, default: Any) -> Any:
        value = self.identity.get(part)
        return value.get(key, default) if isinstance(value, Mapping) else default

    def count_images(self, split: str) -> int:
        """Return the number of images of a split; 0 where the record has none."""
        return sum(self.split_sizes.get(split, {}).values())

    def as_ancestor(self) -> AncestorRecord:
        """Return what the runs that start from this one record of it."""
        names = [item.name for item in fields(AncestorRecord)]
        return AncestorRecord(**{name: getattr(self, name) for name in names})


def write_plan(folder: Path, record: PlanRecord) -> None:
    """Write plan.json, whole or not at all."""
    RunDir(folder).write_json(PLAN, asdict(record))


def read_plan(folder: str | Path) -> PlanRecord:
    """Return what the plan.json of a run folder says.

    Raises:
        DataError: there is none, it is damaged, a value has another type than is expected, or
            the network has fewer than k or j units.
    """
    record = parse_record(PlanRecord, read_json(Path(folder) / PLAN), PLAN)
    check_name(record.run_id)
    n_units = len(record.units) or _MAX_UNITS
    for name, depth in (("k", record.k), ("j", record.j)):
        if not 0 <= depth <= n_units:
            raise DataError(f"{PLAN} has {name}={depth}; a number from 0 to {n_units} is expected")
    return record


def check_name(name: str) -> None:
    """Raise DataError unless a text may name a file: letters, digits, `_`, `-` and `.` only."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{name!r} in a record is no name: letters, digits, '_', '-' and '.' are allowed"
        )
