"""The test predictions of the highlighted cells, as arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tlcnn.records.read import read_predictions
from tlcnn.report.content import Content
from tlcnn.report.figures.choose import find_highlights, list_runs
from tlcnn.study.cells import read_plan


@dataclass(frozen=True)
class Predicted:
    """The S runs of a cell on the N images of the test split.

    Attributes:
        label: how legends name the cell.
        role: why it is shown: `best`, `random`, ...
        j: units frozen.
        seeds: (S,) int.
        classes: K names.
        truth: (N, K) bool, which classes hold; one a row but in multi-label tasks.
        probabilities: (S, N, K) float64, of a softmax; of sigmoids in multi-label tasks.
        groups: (N,) str: lesions, patients.
        is_multi_label: several classes may hold at once.
        positive: the class that sensitivity is about, a position, or None.
        folders: (S) run folders.
    """

    label: str
    role: str
    j: int
    seeds: np.ndarray
    classes: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
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

    @property
    def n_groups(self) -> int:
        """Test lesions, patients, ..."""
        return len(np.unique(self.groups))


def load_highlights(content: Content, dataset: str, limit: int) -> list[Predicted]:
    """Read the highlighted cells of a dataset, at most `limit`, those that have predictions.

    Where not all fit, cells that are all frozen give way to the other sources.

    Only cells that were tested on the images of the first one are returned, so that all can
    stand in one picture.
    """
    found: list[Predicted] = []
    for _, cell in find_highlights(content, dataset).iterrows():
        runs = list_runs(content, cell).drop_duplicates("seed")
        paths = [(int(run["seed"]), Path(str(run["folder"]))) for _, run in runs.iterrows()]
        paths = [(seed, p) for seed, p in paths if (p / "predictions.parquet").is_file()]
        cell_found = _load_cell(cell, paths) if paths else None
        if cell_found and (not found or _is_same_test(found[0], cell_found)):
            found.append(cell_found)
    is_over = len(found) > limit
    found.sort(key=lambda one: is_over and "all frozen" in one.role)
    return found[:limit]


def _is_same_test(first: Predicted, other: Predicted) -> bool:
    same = first.classes == other.classes and first.truth.shape == other.truth.shape
    return same and bool((first.truth == other.truth).all())


def _load_cell(cell: pd.Series, paths: list[tuple[int, Path]]) -> Predicted:
    from tlcnn.statistics.metrics import find_positive
    from tlcnn.statistics.predictions import compute_softmax

    frames = [_read_test(path) for _, path in paths]
    first = frames[0]
    classes = tuple(c.removeprefix("logit/") for c in first.columns if c.startswith("logit/"))
    logits = [frame[[f"logit/{name}" for name in classes]].to_numpy() for frame in frames]
    targets = [f"target/{name}" for name in classes]
    is_multi_label = targets[0] in first
    if is_multi_label:
        truth = first[targets].to_numpy() > 0
        probabilities = np.stack([_compute_sigmoid(part) for part in logits])
    else:
        truth = np.eye(len(classes), dtype=bool)[first["label"].to_numpy()]
        probabilities = np.stack([compute_softmax(part) for part in logits])
    told = read_plan(str(paths[0][1])).get("positive")
    return Predicted(
        label=str(cell["label"]),
        role=str(cell["role"]),
        j=int(cell["j"]),
        seeds=np.array([seed for seed, _ in paths]),
        classes=classes,
        truth=truth,
        probabilities=probabilities,
        groups=first["group"].to_numpy().astype(str),
        is_multi_label=is_multi_label,
        positive=find_positive(classes, told),
        folders=tuple(path for _, path in paths),
    )


def _read_test(folder: Path) -> pd.DataFrame:
    frame = read_predictions(folder)
    return frame[frame["split"] == "test"].sort_values("image_id", ignore_index=True)


def _compute_sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(np.asarray(logits, dtype=np.float64), -60, 60)))


def describe_test(shown: Predicted) -> str:
    """Return how many images, groups and seeds a picture is made of."""
    n_images, n_seeds = len(shown.truth), len(shown.seeds)
    groups = "" if shown.n_groups == n_images else f" of {shown.n_groups:,} groups"
    return f"{n_images:,} test images{groups} and {n_seeds} seed{'' if n_seeds == 1 else 's'}"
