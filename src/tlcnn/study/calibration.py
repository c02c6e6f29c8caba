"""How well probabilities are calibrated, as the network gives them and without class weights."""

from typing import Any

import numpy as np

from tlcnn.statistics.metrics import find_positive
from tlcnn.study.arms import list_scores
from tlcnn.study.cells import Cell
from tlcnn.study.class_weights import find_class_weights
from tlcnn.study.predictions import CellPredictions, load_predictions

ERRORS = ("ece", "nll", "brier")


def measure_calibration(cell: Cell) -> dict[str, Any] | None:
    """Return means over seeds of a cell that was trained with class weights; None for others.

    Returns:
        `ece`, `nll`, `brier` and `probability` (the mean one of the class in question), each also
        as `... corrected`; the `class`, melanoma where there is it and else the rarest one; and
        its `prevalence` among the test images.
    """
    if all(find_class_weights(run.plan) is None for run in cell.runs):
        return None
    numbers: dict[str, Any] = {}
    for end in ("", " corrected"):
        predictions = load_predictions(*cell.repeats[0], is_corrected=bool(end))
        if not isinstance(predictions, CellPredictions) or predictions.multi_label:
            return None
        n_images = np.bincount(predictions.labels, minlength=len(predictions.classes))
        positive = find_positive(predictions.classes, cell.runs[0].plan.positive)
        position = int(n_images.argmin()) if positive is None else positive
        for name in ERRORS:
            scores = [score.value for score in list_scores(predictions, f"test/{name}")]
            numbers[name + end] = float(np.mean(scores))
        numbers["probability" + end] = float(predictions.probabilities[..., position].mean())
        numbers["class"] = predictions.classes[position]
        numbers["prevalence"] = float(n_images[position] / n_images.sum())
    return numbers
