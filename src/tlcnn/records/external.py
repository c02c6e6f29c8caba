"""Tests of runs on other datasets: records beside the run folders. Imports no torch.

    output_dir/runs/NAME/             the run
    output_dir/tests/NAME/test-ID/    a test of it; ID is a digest of what decides its numbers
        test.json                     the runs, the images, how classes are matched, the metrics
        predictions.parquet           the logits, in the columns of a run's own predictions
        lock                          held by the process that computes

test.json is written last, with the sha256 of the predictions. A test of an ensemble is beside its
first run.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.errors import DataError
from tlcnn.model.weights import RUN_WEIGHTS
from tlcnn.records.files import PREDICTIONS, read_digests, read_json
from tlcnn.records.folder import RunDir, find_beside
from tlcnn.records.parse import parse_record
from tlcnn.records.read import list_run_dirs_below
from tlcnn.storage import digest_of, digest_of_file

log = logging.getLogger(__name__)

TEST = "test.json"
_DECIDING = ("runs", "weights", "dataset", "split", "images", "class_map", "version")
_COLUMNS = ("run_id", "dataset", "split", "n_images", "n_groups", "folder", "run_folder", "record")


@dataclass(frozen=True)
class ExternalRecord:
    """A test of a run, or of the mean over several runs, on another dataset.

    Attributes:
        runs: the ids of the tested runs; several are an ensemble.
        weights: the sha256 of the weights of each.
        dataset: the name of the dataset of the images.
        split: train, val, test or all.
        is_official: the split is the dataset's own, and not drawn here.
        images: the digest of the tested images with their labels and groups.
        manifest: the digest of the whole dataset and its split.
        class_map: a class of the dataset -> the class of the runs; empty for images left out.
        task: as in `Index`.
        n_per_class: the number of tested images of each class, in the order of the logits.
        n_images, n_groups: those that were tested.
        left_out: why images were left out -> their number; without images of other splits.
        seen: how images were used in training or validation -> their number; `left_out` says
            whether they were left out.
        unchecked: runs of which it is not known what they were trained on.
        metrics: `test/METRIC` and its value; None where it is not defined.
        sha256: of the predictions.
        words: how the dataset was asked for.
        version: of how images are chosen and scored.
    """

    runs: tuple[str, ...]
    weights: tuple[str, ...]
    dataset: str
    split: str
    images: str
    manifest: str
    class_map: Mapping[str, str]
    task: str
    is_official: bool = False
    n_per_class: Mapping[str, int] = field(default_factory=dict)
    n_images: int = 0
    n_groups: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, int] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    words: tuple[str, ...] = ()
    version: int = 1

    @property
    def test_id(self) -> str:
        """The digest of what decides the numbers."""
        return digest_of({name: getattr(self, name) for name in _DECIDING}, 12)

    @property
    def scores(self) -> dict[str, float]:
        """The metrics, NaN where one is not defined."""
        return {k: float("nan") if v is None else float(v) for k, v in self.metrics.items()}

    @property
    def n_accepted(self) -> int:
        """The number of tested images that training or validation has used."""
        return 0 if self.left_out.get("seen") else sum(self.seen.values())

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes of the runs of which no image was tested."""
        return tuple(name for name, n in self.n_per_class.items() if not n)


def find_test_dir(run_dir: Path, record: ExternalRecord) -> Path:
    """Return the folder of a test of a run."""
    return find_beside(run_dir, "tests") / f"test-{record.test_id}"


def write_test(folder: Path, record: ExternalRecord) -> None:
    """Write test.json, whole or not at all."""
    RunDir(folder).write_json(TEST, asdict(record))


def read_test(folder: Path) -> ExternalRecord:
    """Return the record of a test.

    Raises:
        DataError: there is none, or its files are not what the test wrote.
    """
    record = parse_record(ExternalRecord, read_json(folder / TEST), str(folder / TEST))
    metrics = [value for value in record.metrics.values() if value is not None]
    is_whole = len(record.runs) == len(record.weights) > 0
    if not is_whole or not all(isinstance(value, (int, float)) for value in metrics):
        raise DataError(f"{folder / TEST} is damaged. Repeat the test")
    predictions = folder / PREDICTIONS
    if not predictions.is_file() or digest_of_file(predictions) != record.sha256:
        raise DataError(f"{predictions} is not what the test wrote. Repeat the test")
    return record


def read_tests(*paths: str | Path) -> pd.DataFrame:
    """Read what runs below some folders scored on other datasets.

    A test that is damaged, or of other weights than the run has now, is left out with a warning.

    Args:
        paths: output folders (with `runs/` in them), folders of run folders, or run folders.

    Returns:
        One row for each test: run_id (of an ensemble the first), dataset (of the images), split,
        n_images, n_groups, folder (of the test), run_folder, record (an `ExternalRecord`), and
        every metric as `test/...`.

    Raises:
        DataError: there is no such folder.
    """
    run_dirs = list_run_dirs_below(paths)
    folders = [
        (test.parent, run_dir)
        for run_dir in run_dirs
        for test in sorted(find_beside(run_dir, "tests").glob(f"test-*/{TEST}"))
    ]
    return read_test_folders(folders, run_dirs)


def read_test_folders(
    folders: Sequence[tuple[Path, Path]], run_dirs: Sequence[Path] = ()
) -> pd.DataFrame:
    """Return the table of `read_tests` for pairs of a test's folder and its run's folder.

    Args:
        run_dirs: where the other runs of ensembles may be, beside the folders of these runs.
    """
    known = list(dict.fromkeys([*(run_dir for _, run_dir in folders), *run_dirs]))
    rows: dict[str, dict[str, Any]] = {}
    for folder, run_dir in folders:
        try:
            record = read_test(folder)
            changed = _find_changed(record, run_dir, known)
        except (DataError, OSError) as error:
            log.warning("%s; this test is left out", error)
            continue
        if changed is not None:
            log.warning("%s is a test of other weights than %s; left out", folder, changed.name)
            continue
        names = ("dataset", "split", "n_images", "n_groups")
        row = {"run_id": record.runs[0], **{name: getattr(record, name) for name in names}}
        row |= {"folder": str(folder), "run_folder": str(run_dir), "record": record}
        rows.setdefault(record.test_id, {**row, **record.scores})  # runs may be there as copies
    frame = pd.DataFrame(list(rows.values()))
    return frame.reindex(columns=list(dict.fromkeys([*_COLUMNS, *frame.columns])))


def _find_changed(record: ExternalRecord, run_dir: Path, known: Sequence[Path]) -> Path | None:
    """Return the folder of a tested run that has other weights now; None where there is none.

    The other runs of an ensemble are looked for beside the first, then among known folders. One
    whose folder is nowhere has no other weights.
    """
    if read_digests(run_dir).get(RUN_WEIGHTS) != record.weights[0]:
        return run_dir
    for run_id, weights in zip(record.runs[1:], record.weights[1:], strict=True):
        beside = sorted(run_dir.parent.glob(f"*-{run_id}"))
        copies = beside or [each for each in known if each.name.endswith(f"-{run_id}")]
        if copies and all(read_digests(copy).get(RUN_WEIGHTS) != weights for copy in copies):
            return copies[0]
    return None
