"""From logits to probabilities: as the network gives them, or calibrated on its validation images.

logits -> correction for class weights -> division by the temperature -> softmax or sigmoid
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from tlcnn.errors import DataError
from tlcnn.records.open_run import OpenRun
from tlcnn.statistics.metrics import compute_probabilities
from tlcnn.study.class_weights import find_class_weights

_LEAST, _MOST = 0.05, 20.0  # temperatures that are tried


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities.

    Attributes:
        task: as in `Index`; findings of a multi-label task have a probability each.
        temperature: what logits are divided by.
        weights: (K,) by which training multiplied the classes; None where it did not.
    """

    task: str
    temperature: float = 1.0
    weights: np.ndarray | None = None

    def compute(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities, (n, K) float64; rows of NaN stay NaN."""
        is_defined = np.isfinite(logits).all(axis=1)
        scores = np.asarray(logits[is_defined], dtype=np.float64)
        if self.weights is not None:
            scores = scores - np.log(self.weights)
        probabilities = np.full(logits.shape, np.nan)
        if len(scores):
            probabilities[is_defined] = compute_probabilities(self.task, scores / self.temperature)
        return probabilities


def fit_calibration(run: OpenRun) -> Calibration:
    """Fit the temperature of a run on the validation logits of its record (Guo et al. 2017).

    The temperature minimises the negative log-likelihood, after the correction for class weights.

    Raises:
        DataError: the record has no predictions of validation images.
    """
    record, frame = run.record, run.predictions()
    frame = frame[frame["split"] == "val"]
    task = record.task or "multi-class"
    logits = frame[[f"logit/{name}" for name in record.classes]].to_numpy(np.float64)
    if len(frame) == 0 or not np.isfinite(logits).all():
        raise DataError(
            f"{run.folder} records no finite logits of validation images, so there is nothing to "
            "calibrate on. Leave out --calibrated"
        )
    weights = find_class_weights(record)
    if task == "multi-label":
        truth = frame[[f"target/{name}" for name in record.classes]].to_numpy() > 0
    else:
        truth = np.eye(len(record.classes), dtype=bool)[frame["label"].to_numpy()]

    def compute_loss(log_temperature: float) -> float:
        trial = Calibration(task, float(np.exp(log_temperature)), weights).compute(logits)
        if task != "multi-label":
            return float(-np.log(np.maximum(trial[truth], 1e-300)).mean())
        return float(-np.log(np.maximum(np.where(truth, trial, 1 - trial), 1e-300)).mean())

    best = minimize_scalar(compute_loss, bounds=np.log([_LEAST, _MOST]), method="bounded")
    return Calibration(task, float(np.exp(best.x)), weights)
