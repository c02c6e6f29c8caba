"""The test predictions of the highlighted cells, as arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.records.plan_record import read_plan
from tlcnn.records.read import read_predictions
from tlcnn.report.content import Content
from tlcnn.report.figures.choose import (
    describe_hidden,
    find_highlights,
    list_datasets,
    list_runs,
)
from tlcnn.statistics.metrics import find_positive
from tlcnn.statistics.predictions import compute_sigmoid, compute_softmax
from tlcnn.study.class_weights import correct_logits
from tlcnn.text import count


@dataclass(frozen=True)
class CellTest:
    """The S runs of a cell on the N images of the test split.

    Attributes:
        cell: the cell's key.
        label: the cell's name in legends.
        role: why it is shown: `best`, `random`, ...
        seeds: (S,) int.
        classes: K names.
        truth: (N, K) bool, which classes hold; one a row but in multi-label tasks.
        probabilities: (S, N, K) float64, of a softmax; of sigmoids in multi-label tasks.
        corrected: (S, N, K) the same without the class weights of the loss; equal where there were
            none, or they are unknown.
        groups: (N,) str: lesions, patients.
        positive: the position of the class that sensitivity is about, or None.
    """

    cell: str
    label: str
    role: str
    j: int
    seeds: np.ndarray
    classes: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
    corrected: np.ndarray
    groups: np.ndarray
    is_multi_label: bool
    positive: int | None
    folders: tuple[Path, ...]

    @property
    def labels(self) -> np.ndarray:
        """The class of each image, (N,)."""
        return self.truth.argmax(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image in each run, (S, N)."""
        return self.probabilities.argmax(axis=2)

    @property
    def counts(self) -> np.ndarray:
        """Test images of each class, (K,)."""
        return self.truth.sum(axis=0)

    def describe(self) -> str:
        """Return how many images, groups and seeds there are."""
        return f"{self.describe_images()} and {count(len(self.seeds), 'seed')}"

    def describe_images(self) -> str:
        """Return how many images and groups there are."""
        n_images, n_groups = len(self.truth), len(np.unique(self.groups))
        groups = "" if n_groups == n_images else f" of {n_groups:,} groups"
        return f"{n_images:,} test images{groups}"


def describe_tests(tests: Sequence[CellTest]) -> str:
    """Return how many images and groups some cells were tested on, and seeds a cell."""
    sizes = sorted({len(test.seeds) for test in tests})
    seeds = count(sizes[0], "seed") if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} seeds"
    return f"{tests[0].describe_images()} and {seeds} a cell"


def describe_choice(content: Content, dataset: str, tests: Sequence[CellTest], limit: int) -> str:
    """Return by which rule `list_tests` chose cells, and which are not shown, as sentences."""
    return (
        "Shown are random weights and, of each source, the best cell on validation, full "
        f"fine-tuning and all units frozen: at most {count(limit, 'cell')}, of which those with "
        "all units frozen are left out first."
        f"{describe_hidden(content, dataset, [test.cell for test in tests])}"
    )


def list_tests(
    content: Content, limit: int, *, with_multi_label: bool = True
) -> Iterator[tuple[str, list[CellTest]]]:
    """Yield each dataset with its highlighted cells that have predictions, at most `limit`.

    Where not all fit, cells with all units frozen are left out first. All cells of a dataset were
    tested on the same images, so that one figure can compare them.
    """
    for dataset in list_datasets(content):
        tests: list[CellTest] = []
        for _, cell in find_highlights(content, dataset).iterrows():
            folders: dict[int, list[Path]] = {}
            runs = list_runs(content, cell).set_index("run_id")
            for run_id in filter(runs.index.__contains__, cell["run_ids"]):
                folder = Path(runs.at[run_id, "folder"])
                if (folder / "predictions.parquet").is_file():
                    folders.setdefault(int(runs.at[run_id, "seed"]), []).append(folder)
            if not folders:
                continue
            test = _load_cell(cell, folders)
            first = tests[0] if tests else test
            if test.classes == first.classes and np.array_equal(test.truth, first.truth):
                tests.append(test)
        if len(tests) > limit:
            tests.sort(key=lambda test: "all frozen" in test.role)
        if tests and (with_multi_label or not tests[0].is_multi_label):
            yield dataset, tests[:limit]


def _load_cell(cell: pd.Series, folders: dict[int, list[Path]]) -> CellTest:
    """Read the predictions of a cell's runs, whose folders are given by seed.

    The images of all folds are put together; of repeats the first one is shown.
    """
    frames = [pd.concat(map(_read_test, paths)) for paths in folders.values()]
    tests = [frame.drop_duplicates("image_id").sort_values("image_id") for frame in frames]
    first = tests[0]
    first_folders = [paths[0] for paths in folders.values()]
    plan = read_plan(first_folders[0])
    classes = tuple(c.removeprefix("logit/") for c in first if c.startswith("logit/"))
    targets = [f"target/{name}" for name in classes]
    is_multi_label = targets[0] in first
    compute = compute_sigmoid if is_multi_label else compute_softmax
    raw, corrected = (
        np.stack([compute(frame[[f"{kind}/{n}" for n in classes]].to_numpy()) for frame in tests])
        for kind in ("logit", "corrected")
    )
    if is_multi_label:
        truth = first[targets].to_numpy() > 0
    else:
        truth = np.eye(len(classes), dtype=bool)[first["label"].to_numpy()]
    return CellTest(
        cell=str(cell["cell"]),
        label=str(cell["label"]),
        role=str(cell["role"]),
        j=int(cell["j"]),
        seeds=np.array(list(folders)),
        classes=classes,
        truth=truth,
        probabilities=raw,
        corrected=corrected,
        groups=first["group"].to_numpy().astype(str),
        is_multi_label=is_multi_label,
        positive=find_positive(classes, plan.positive),
        folders=tuple(first_folders),
    )


def _read_test(folder: Path) -> pd.DataFrame:
    """Return the test predictions of a run, with its corrected logits as `corrected/CLASS`."""
    frame = read_predictions(folder)
    frame = frame[frame["split"] == "test"]
    logits = [name for name in frame if name.startswith("logit/")]
    corrected = correct_logits(frame, read_plan(folder))[logits]
    return frame.join(corrected.rename(columns=lambda name: name.replace("logit", "corrected", 1)))
