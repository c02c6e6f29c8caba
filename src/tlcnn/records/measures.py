"""What measures say about runs: records beside the run folders. Imports no torch.

    output_dir/runs/NAME/            the run
    output_dir/measures/NAME/ID/     an analysis of it; ID is a digest of what decides its numbers
        analysis.json                the networks that were compared, and the images
        MEASURE.json                 the readings of one measure, with their sha256
        lock                         held by the process that computes

Every file is whole or absent. So an analysis that was killed goes on with the measures that it
lacks, and a measure that is added later leaves the files of the others as they are.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn.errors import DataError
from tlcnn.records.files import read_json
from tlcnn.records.folder import find_beside
from tlcnn.records.parse import parse_record
from tlcnn.records.read import list_run_dirs_below
from tlcnn.storage import digest_of, write_atomic

log = logging.getLogger(__name__)

ANALYSIS = "analysis.json"
_DECIDING = ("run_id", "manifest", "networks", "n_images", "seed", "precision", "version")
_OF_RUN = ("run_id", "cell_id", "dataset", "model", "source", "k", "j", "bn", "seed", "against")


@dataclass(frozen=True)
class Reading:
    """One number of one measure about one unit.

    Attributes:
        measure: its key in `tlcnn.layers.MEASURES`.
        variant: which of the measure's forms it is, such as `pooled` or `spatial`.
        n: the number of the unit, 1 to L. A measure of activations looks at what leaves the unit.
        value: the number; None where it cannot be computed, and then `note` says why.
        low, high: its 95 % interval over what `over` names; None without one.
        null: the value of the same measure where nothing is shared; None without one.
        ceiling: the value of two networks that differ in the seed alone; None without one.
        n_images: the images it was computed on.
        over: what the interval covers, such as `test groups`.
        note: what a reader has to know, or why there is no value.
    """

    measure: str
    variant: str
    n: int
    value: float | None
    low: float | None = None
    high: float | None = None
    null: float | None = None
    ceiling: float | None = None
    n_images: int = 0
    over: str = ""
    note: str = ""


@dataclass(frozen=True)
class AnalysisRecord:
    """Which networks an analysis compares, and on which images.

    Attributes:
        source: where the run's weights came from, first to last, joined by `-`.
        units: the names of the units 1..L.
        manifest: the sha256 of the images and their splits.
        n_images: the number of training images.
        networks: what identifies the network of each role: the sha256 of a run's weights, or how
            the network is drawn.
        against: the id of the run in the role `own`; empty where there is none.
        version: of how networks are built and images are chosen.
    """

    run_id: str
    cell_id: str
    dataset: str
    model: str
    source: str
    k: int
    j: int
    bn: str
    seed: int
    units: tuple[str, ...]
    manifest: str
    n_images: int
    networks: Mapping[str, str]
    against: str = ""
    precision: str = "fp32"
    version: int = 1

    @property
    def analysis_id(self) -> str:
        """The digest of what decides the numbers, but for the versions of the measures."""
        return digest_of({name: getattr(self, name) for name in _DECIDING}, 12)


@dataclass(frozen=True)
class MeasureRecord:
    """The content of MEASURE.json; `version` is that of the measure's numbers."""

    measure: str
    version: int
    sha256: str
    readings: tuple[Reading, ...]


def find_measures_dir(run_dir: Path) -> Path:
    """Return the folder of all analyses of a run: `measures/NAME` beside `runs/NAME`."""
    return find_beside(run_dir, "measures")


def write_measure(folder: Path, name: str, version: int, readings: Sequence[Reading]) -> None:
    """Write MEASURE.json, whole or not at all. Raises ValueError for an infinite number."""
    rows = [{k: None if v != v else v for k, v in asdict(r).items()} for r in readings]
    value = {"measure": name, "version": version, "sha256": digest_of(rows), "readings": rows}
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / f"{name}.json", text + "\n")


def read_measure(folder: Path, name: str) -> MeasureRecord:
    """Return the readings of one measure.

    Raises:
        DataError: there are none, or the file is not what the analysis wrote.
    """
    path = folder / f"{name}.json"
    value = read_json(path)
    record = parse_record(MeasureRecord, value, str(path))
    if record.sha256 != digest_of(value["readings"]):
        raise DataError(f"{path} is not what the analysis wrote: its sha256 does not match")
    return record


def list_missing(folder: Path, versions: Mapping[str, int]) -> list[str]:
    """Return the measures whose readings are missing, damaged, or of another version."""
    missing = []
    for name, version in versions.items():
        try:
            if read_measure(folder, name).version == version:
                continue
        except DataError as error:
            if (folder / f"{name}.json").exists():
                log.warning("%s; it is computed again", error)
        missing.append(name)
    return missing


def read_measures(*paths: str | Path) -> pd.DataFrame:
    """Read what measures say about the runs below some folders.

    Where a measure was computed several times against the same run, the analysis with the most
    networks, and then with the most images, is taken. An analysis without a run to compare with
    counts only where there is no other. A damaged file is left out with a warning.

    Args:
        paths: output folders (with `runs/` in them), folders of run folders, or run folders.

    Returns:
        One row for each run, unit, measure and variant: run_id, cell_id, dataset, model, source,
        k, j, bn, seed, against (the id of the run in the role `own`, empty without one), analysis
        (its id), measure, variant, n, value, low, high, null, ceiling, n_images, over, note and
        unit (its name). What a reading does not have is NaN.

    Raises:
        DataError: there is no such folder.
    """
    run_dirs = list_run_dirs_below(paths)
    rows = []
    for run_dir in run_dirs:
        folders = sorted(path.parent for path in find_measures_dir(run_dir).glob(f"*/{ANALYSIS}"))
        analyses = [_read_analysis(folder) for folder in folders]
        analyses.sort(key=lambda analysis: analysis[0])
        best = {  # of several analyses the last one stays, which has the most networks and images
            (row["measure"], row["against"]): row["analysis"]
            for _, all_rows in analyses
            for row in all_rows
        }
        compared = {measure for measure, against in best if against}
        rows += [
            row
            for _, all_rows in analyses
            for row in all_rows
            if best[row["measure"], row["against"]] == row["analysis"]
            and (row["against"] or row["measure"] not in compared)
        ]
    return _make_frame(rows)


def read_analyses(folders: Sequence[Path]) -> pd.DataFrame:
    """Return the readings of some analyses, in the columns of `read_measures`."""
    return _make_frame([row for folder in folders for row in _read_analysis(folder)[1]])


def _read_analysis(folder: Path) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Return the numbers of networks and images of an analysis, and its readings as rows."""
    try:
        record = parse_record(AnalysisRecord, read_json(folder / ANALYSIS), str(folder / ANALYSIS))
    except DataError as error:
        log.warning("%s; this analysis is left out", error)
        return (0, 0), []
    shared = {name: getattr(record, name) for name in _OF_RUN} | {"analysis": folder.name}
    rows = []
    for path in sorted(folder.glob("*.json")):
        if path.name == ANALYSIS:
            continue
        try:
            readings = read_measure(folder, path.stem).readings
        except DataError as error:
            log.warning("%s; its readings are left out", error)
            continue
        rows += [{**shared, **vars(r), "unit": record.units[r.n - 1]} for r in readings]
    return (len(record.networks), record.n_images), rows


def _make_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = [*_OF_RUN, "analysis", *(item.name for item in fields(Reading)), "unit"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(dict.fromkeys(("value", "low", "high", "null", "ceiling"), float))
