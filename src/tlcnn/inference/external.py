"""`test`: finished runs on another dataset with the same classes, recorded beside the runs.

dataset, split -> classes of the run -> images that it has not seen -> predictions -> metrics

torch is imported where there is something to compute.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.config.schema import check_word, find_cache_dir
from tlcnn.data.dataset import recall_dataset
from tlcnn.data.index import SPLITS
from tlcnn.errors import ConfigError, DataError, TlcnnError, WeightsError, list_names
from tlcnn.inference.external_guard import LEAKS
from tlcnn.inference.external_images import ALL, ExternalTest, is_recorded, make_external_test
from tlcnn.inference.image_list import compose_dataset
from tlcnn.memory import Memory
from tlcnn.records.external import (
    ExternalRecord,
    find_test_dir,
    read_test,
    read_test_folders,
    write_test,
)
from tlcnn.records.files import PREDICTIONS
from tlcnn.records.open_run import OpenRun, open_run
from tlcnn.records.read import read_predictions, read_runs
from tlcnn.records.write import write_predictions
from tlcnn.statistics.metrics import compute_probabilities, compute_scores
from tlcnn.storage import digest_of_file, hold_lock, make_dir
from tlcnn.study.runs import drop_trials
from tlcnn.text import count

log = logging.getLogger(__name__)

_RAW = "raw.parquet"  # the output of `predict`, which goes on where it was interrupted


def test(
    runs: Any,
    dataset: str | Sequence[str],
    *,
    split: str | None = None,
    classes: Mapping[str, str] | None = None,
    leaks: str = "refuse",
    ensemble: bool = False,
    device: str = "auto",
    root: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Test finished runs on another dataset, record the results, and return them.

    A test that is recorded is not computed again.

    Args:
        runs: a run folder, an output folder (all runs in it that fit), several of them, a row of
            `read_runs`, or its table.
        dataset: its name, or words such as `["dataset=folder", "dataset.root=photos"]`.
        split: train, val, test or all; None: test where the dataset comes with a test split or
            `dataset.hold_out` or `dataset.folds` chooses one, else all images.
        classes: for classes of the dataset the class of the run that each counts as, or "" to
            leave its images out; others are matched by name.
        leaks: what is done where images were used to train a run, or to choose its epoch: refuse,
            leave_out or accept.
        ensemble: also test the mean of the probabilities of all runs.
        device: auto, cpu, cuda or mps.
        root: the folder of the runs' own images, where they are no longer where they were read.
        batch_size: images of a forward pass; None: that of each run's own evaluation.
        workers: decoding threads.

    Returns:
        The rows of `read_tests` of these tests. `attrs["left_out"]` has the names of runs of
        output folders that were not tested, each with its error.

    Raises:
        ConfigError: classes that do not match, or another value that is not allowed.
        DataError: a run that is not finished, images that cannot be read, or images that a run
            has seen.
        Stopped: a signal came; the same call goes on.
    """
    check_word("leaks", leaks, LEAKS)
    check_word("split", split or ALL, (*SPLITS, ALL))
    run_dirs = list_run_dirs(runs)
    words = [dataset] if isinstance(dataset, str) else list(dataset)
    words = [word if "=" in word else f"dataset={word}" for word in words]
    choices: Any = {"split": split, "classes": classes or {}, "leaks": leaks, "words": words}
    options = {"device": device, "batch_size": batch_size, "workers": workers}
    errors: list[tuple[str, TlcnnError]] = []
    tests = _list_tests(run_dirs, choices, root, errors)
    done: list[ExternalTest] = []
    for number, each in enumerate(tests, start=1):
        state = "already done" if each.is_done else count(len(each.images), "image")
        log.info("[%d/%d] %s: %s", number, len(tests), each.run.folder.name, state)
        with _noting(each.run.folder, run_dirs[each.run.folder], errors):
            _compute(each, {**options, "root": root, "progress": progress})
            done.append(each)
    if not done:
        raise errors[0][1] if len(errors) == 1 else DataError(_describe_misfits(errors))
    places = [(each.folder, each.run.folder) for each in done]
    if ensemble:
        places.append((_combine(done), done[0].run.folder))
    frame = read_test_folders(places)
    frame.attrs["left_out"] = errors
    return frame


def _list_tests(
    run_dirs: Mapping[Path, bool],
    choices: Mapping[str, Any],
    root: str | Path | None,
    errors: list[tuple[str, TlcnnError]],
) -> list[ExternalTest]:
    """Return the tests of the runs that fit the dataset; errors of the others are added."""
    memory = Memory()
    opened: list[OpenRun] = []
    for folder, is_named in run_dirs.items():
        with _noting(folder, is_named, errors):
            opened.append(open_run(folder, root=root, memory=memory))
    cache_dir = opened[0].cache_dir if opened else find_cache_dir(None)
    cfg = compose_dataset(choices["words"])
    images = recall_dataset(cfg, cache_dir, memory)
    names_test = cfg.hold_out is not None or cfg.folds is not None
    split = choices["split"] or ("test" if names_test else None)
    tests: list[ExternalTest] = []
    for run in opened:
        with _noting(run.folder, run_dirs[run.folder], errors):
            tests.append(make_external_test(run, images, memory, **{**choices, "split": split}))
    return tests


@contextmanager
def _noting(folder: Path, is_named: bool, errors: list[tuple[str, TlcnnError]]) -> Iterator[None]:
    """Add what is wrong with a run to a list, unless it was asked for by itself."""
    try:
        yield
    except (ConfigError, DataError, WeightsError) as error:
        if is_named:
            raise
        errors.append((folder.name, error))


def list_run_dirs(runs: Any) -> dict[Path, bool]:
    """Return the folders of finished runs, and whether each was asked for by itself.

    Raises:
        DataError: a run that was asked for is not finished or was imported, or there is no run.
    """
    if isinstance(runs, pd.DataFrame):
        runs = runs["folder"].tolist()
    several = [runs] if isinstance(runs, (str, Path, Mapping, pd.Series)) else list(runs)
    places = [Path(run if isinstance(run, (str, Path)) else run["folder"]) for run in several]
    named: dict[Path, bool] = {}
    for place in (place.expanduser() for place in places):
        frame = read_runs(place)
        is_run = [Path(folder) for folder in frame["folder"]] == [place]
        frame = frame if is_run else drop_trials(frame)
        tested = frame[(frame["state"] == "done") & ~frame["imported"].astype(bool)]
        if is_run and tested.empty:
            state = "imported" if frame["imported"].iloc[0] else frame["state"].iloc[0]
            raise DataError(f"{place} cannot be tested ({state}): a finished run is needed")
        for folder in map(Path, tested["folder"]):
            named[folder] = is_run or named.get(folder, False)
    if not named:
        raise DataError(
            f"there is no finished run in {list_names([str(place) for place in places])}. Name a "
            "run folder, or an output folder with runs/ in it"
        )
    return named


def _describe_misfits(errors: Sequence[tuple[str, TlcnnError]]) -> str:
    name, error = next((e for e in errors if isinstance(e[1], DataError)), errors[0])
    return f"none of {count(len(errors), 'run')} can be tested. For example, {name}: {error}"


# ---- the network --------------------------------------------------------------------------------


def _compute(each: ExternalTest, options: Mapping[str, Any]) -> None:
    """Compute and record a test unless it is recorded."""
    if each.is_done:
        _renew(each.folder, each.record)
        return
    from tlcnn.inference.predict import predict
    from tlcnn.training.interrupt import catch_signals

    folder = make_dir(each.folder)
    wait = "another process tests %s"
    with (
        catch_signals() as stop,
        hold_lock(
            folder / "lock",
            on_wait=lambda: log.info(wait, each.run.folder.name),
            check_stop=stop.check,
        ),
    ):
        if each.is_done:
            return
        raw = folder / _RAW
        frame = predict(each.run.folder, each.images, checks=False, output=raw, **options)
        names = [f"logit/{name}" for name in each.record.n_per_class]
        _record(each, frame[names].to_numpy(np.float32))
        for path in (raw, raw.with_name(f"{_RAW}.json")):
            path.unlink(missing_ok=True)


def _renew(folder: Path, record: ExternalRecord) -> None:
    """Write into a recorded test what could not be checked when it was recorded, and now can."""
    recorded = read_test(folder)
    if set(record.unchecked) < set(recorded.unchecked):
        write_test(folder, replace(recorded, seen=record.seen, unchecked=record.unchecked))


def _record(each: ExternalTest, logits: np.ndarray) -> None:
    """Write the predictions and the metrics of a test. Images without logits are left out."""
    rows = np.flatnonzero(np.isfinite(logits).all(axis=1))
    n_broken = len(logits) - len(rows)
    if not len(rows):
        raise DataError(
            f"none of {count(n_broken, 'image')} of {each.images.dataset} can be decoded"
        )
    table = each.table.iloc[rows].reset_index(drop=True)
    targets = None if each.targets is None else each.targets[rows]
    write_scored(
        each.folder,
        replace(each.record, left_out={**each.record.left_out, "broken": n_broken}),
        table,
        targets,
        logits[rows],
        each.run.record.positive,
    )


def write_scored(
    folder: Path,
    record: ExternalRecord,
    table: pd.DataFrame,
    targets: np.ndarray | None,
    logits: np.ndarray,
    positive: str | None,
) -> None:
    """Score logits (n, K) of images, and write the predictions, then the record."""
    classes = list(record.n_per_class)
    labels = table["label"].to_numpy()
    truth = labels if targets is None else targets
    groups = table["group"].to_numpy()
    scores = compute_scores(
        record.task, logits, truth, groups, classes=classes, positive=_pick(positive, classes)
    )
    rows = {"test": np.arange(len(table))}
    write_predictions(folder, table, rows, {"test": logits}, classes, targets)
    held = np.eye(len(classes), dtype=int)[labels] if targets is None else targets
    write_test(
        folder,
        replace(
            record,
            n_per_class=dict(zip(classes, held.sum(axis=0).tolist(), strict=True)),
            n_images=len(table),
            n_groups=table["group"].nunique(),
            metrics={f"test/{name}": value for name, value in scores.items()},
            sha256=digest_of_file(folder / PREDICTIONS),
        ),
    )


def _pick(positive: str | None, classes: Sequence[str]) -> str | None:
    """Return the class that sensitivity is about, where it is scored."""
    return positive if positive in classes else None


# ---- ensembles ----------------------------------------------------------------------------------


def _combine(tests: Sequence[ExternalTest]) -> Path:
    """Test the mean of the probabilities of several runs, from their records; return its folder.

    A run that is there as several copies counts once.

    Raises:
        ConfigError: the runs were not tested on the same images, with the same classes.
    """
    by_id: dict[tuple[str, ...], ExternalTest] = {}
    for each in tests:
        by_id.setdefault(each.record.runs, each)
    tests = list(by_id.values())
    first = tests[0]
    records = [read_test(each.folder) for each in tests]
    if len(tests) < 2 or len({record.images for record in records}) > 1:
        raise ConfigError(
            "an ensemble needs several runs that were tested on the same images with the same "
            f"classes, and these are {count(len(tests), 'run')} on "
            f"{count(len({r.images for r in records}), 'set')} of images. Name the runs"
        )
    record = replace(
        records[0],
        runs=tuple(r.runs[0] for r in records),
        weights=tuple(r.weights[0] for r in records),
        seen={way: max(r.seen.get(way, 0) for r in records) for r in records for way in r.seen},
        unchecked=tuple(dict.fromkeys(name for r in records for name in r.unchecked)),
    )
    folder = find_test_dir(first.run.folder, record)
    if is_recorded(folder):
        _renew(folder, record)
        return folder
    frames = [read_predictions(each.folder) for each in tests]
    names = [f"logit/{name}" for name in record.n_per_class]
    mean = np.mean(
        [compute_probabilities(record.task, f[names].to_numpy()) for f in frames], axis=0
    )
    mean = np.clip(mean, 1e-300, 1.0)
    logits = np.log(mean)  # of which softmax gives the mean again
    if record.task == "multi-label":
        logits -= np.log(np.clip(1 - mean, 1e-300, 1.0))
    targets = None
    if record.task == "multi-label":
        targets = frames[0][[f"target/{name}" for name in record.n_per_class]].to_numpy()
    table = frames[0][["image_id", "group", "label"]]
    make_dir(folder)
    write_scored(folder, record, table, targets, logits, first.run.record.positive)
    return folder
