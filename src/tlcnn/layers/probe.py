"""Probe sufficiency: how well a linear classifier reads the classes from what leaves a unit.

A multinomial logistic regression with an L2 penalty (Alain and Bengio 2017, arXiv:1610.01644) is
fitted on the training images' features, its penalty chosen on validation, and scored by balanced
accuracy on test. Classes count alike in the loss, as they do in the score: otherwise the probes of
a task with rare classes guess its largest class, and all networks look the same.
`tlcnn.layers.sufficiency` explains pi and how to read it. An accuracy is from 0 to 1, and higher
is better.
"""

from collections.abc import Iterator

import numpy as np
from sklearn.linear_model import LogisticRegression

from tlcnn.layers.subject import Features, Subject
from tlcnn.layers.sufficiency import compute_sufficiency
from tlcnn.records.measures import Reading

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001, 1e-4)  # times half the squared weights, to the mean loss
TOLERANCE = 1e-3  # of the gradient
MAX_STEPS = 1000


def compute_probe(subject: Subject) -> list[Reading]:
    """Return the sufficiency and the accuracies of logistic regressions; see the module."""
    return compute_sufficiency(subject, "probe", fit_probes)


def fit_probes(features: Features, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a logistic regression's probabilities of val and test, from the strongest penalty."""
    probe = LogisticRegression(
        class_weight="balanced", tol=TOLERANCE, max_iter=MAX_STEPS, warm_start=True
    )
    for penalty in PENALTIES:
        probe.set_params(C=1 / (penalty * len(labels)))
        probe.fit(features["train"], labels)
        yield probe.predict_proba(features["val"]), probe.predict_proba(features["test"])
