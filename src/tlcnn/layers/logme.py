"""LogME: the evidence of a Bayesian linear model of the classes, per training image.

You et al. 2021, arXiv:2102.11005. For each class, w ~ N(0, 1/alpha) and y = X w + N(0, 1/beta), y
is 1 for its images and 0 for the rest, and X are pooled features as they are. The logarithm of the
likelihood of y, with w integrated out and at the best alpha and beta, is divided by the number of
images and averaged over classes. It is cheap, fits nothing that could be scored on other images,
and may have any sign: higher is better, and only numbers of the same images compare. The null is
that of the network `random`.
"""

from dataclasses import replace

import numpy as np
from scipy.linalg import svd

from tlcnn.layers.subject import Subject, collect_features
from tlcnn.layers.sufficiency import COMPARED
from tlcnn.records.measures import Reading

STARTS = np.logspace(-12, 6, 37)  # alpha / beta, by the largest squared singular value
TOLERANCE = 1e-11  # of the evidence, in nats an image
MAX_STEPS = 10_000


def compute_logme(subject: Subject) -> list[Reading]:
    """Return LogME of the networks `start`, `own` and `random` at every boundary."""
    labels = subject.labels("train")
    targets = labels if labels.ndim > 1 else labels[:, None] == np.unique(labels)
    readings = []
    for n in range(1, len(subject.unit_map) + 1):
        features = {role: collect_features(subject, role, n, ["train"]) for role in COMPARED}
        values = {
            role: compute_evidence(each["train"], targets)
            for role, each in features.items()
            if not isinstance(each, str)
        }
        for role, each in features.items():
            null = None if role == "random" else values.get("random")
            note = each if isinstance(each, str) else ""
            reading = Reading("logme", role, n, values.get(role), null=null, note=note)
            readings.append(replace(reading, n_images=len(labels)))
    return readings


def compute_evidence(features: np.ndarray, targets: np.ndarray) -> float:
    """Return the largest logarithm of the evidence, in nats an image, as a mean over targets.

    The ratio t = alpha / beta is a fixed point of the updates of alpha and beta, from the best
    of a grid. At each t the best beta is known in closed form.

    Args:
        features: (N, D).
        targets: (N, K); a column that is 0 for all images is left out.
    """
    targets = targets[:, targets.any(axis=0)].astype(np.float64)
    n_images = len(targets)
    left, singular, _ = svd(features.astype(np.float64), full_matrices=False)
    squares = singular[:, None] ** 2  # (r, 1)
    inside = (left.T @ targets) ** 2  # (r, K)
    outside = np.maximum((targets**2).sum(axis=0) - inside.sum(axis=0), 0.0)

    def evaluate(ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the evidence (K,) at ratios (K,) and the ratios after an update."""
        shrunk = squares + ratio
        n_effective = (squares / shrunk).sum(axis=0)
        norm = (squares * inside / shrunk**2).sum(axis=0)  # of the weights, squared
        error = (inside * (ratio / shrunk) ** 2).sum(axis=0) + outside
        beta = n_images / (error + ratio * norm)
        evidence = (np.log(beta / (2 * np.pi)) - 1) / 2
        evidence = evidence - np.log1p(squares / ratio).sum(axis=0) / (2 * n_images)
        free = np.maximum(norm * (n_images - n_effective), 1e-200)
        return evidence, n_effective * error / free

    scale = float(squares.max()) or 1.0
    grid = np.broadcast_to((STARTS * scale)[:, None], (len(STARTS), len(outside)))
    best = np.argmax([evaluate(ratio)[0] for ratio in grid], axis=0)
    evidence, ratio = evaluate(STARTS[best] * scale)
    for _ in range(MAX_STEPS):
        previous = evidence
        evidence, ratio = evaluate(np.clip(ratio, STARTS[0] * scale, STARTS[-1] * scale))
        if np.abs(evidence - previous).max() < TOLERANCE:
            break
    return float(evidence.mean())
