"""How well a simple classifier tells the classes apart by what leaves a unit, as a share.

    features -> standardised, or principal components of that
             -> a classifier fitted on train and chosen on val -> its predictions of test
             -> Arm -> balanced accuracy P -> pi

    pi(u) = [P_start(u) - P_random(u)] / [P_own(u) - P_random(u)]

At pi = 1 what leaves the source's units serves the task as well as what leaves the network's own,
and at 0 no better than what leaves random filters. Above 1 it serves better than the network's own
units, and below 0 worse than random filters. It is the generality index of `tlcnn.study.layers`,
of features instead of trainings: where the network's own units are not shown to be a point better
than random filters, there is no pi.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy.linalg import eigh
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController

from tlcnn.data.parts import run_parts
from tlcnn.layers.scoring import make_fixed_arm, read_estimate
from tlcnn.layers.subject import Features, Role, Subject, collect_features
from tlcnn.records.measures import Reading
from tlcnn.statistics.arm import Arm
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.metrics import compute_selection, rank_epoch
from tlcnn.study.layers import POINT, estimate_generality

N_COMPONENTS = 32  # fewer where a unit is narrower, and then at all units
COMPARED: tuple[Role, ...] = ("start", "own", "random")
SCORED: tuple[Role, ...] = (*COMPARED, "final")

_LEAST_PROBABILITY = 1e-15  # as metrics clip it; its logarithm is finite
_FLAT = 1e-6  # of the first component's deviation: what varies less is rounding

Arms = dict[Role, Arm | str]  # a text says why there is none
# Features (n, D) of each split and the labels of train, (n,), to the probabilities that val and
# test have each class of train, (n, C), for each setting to choose from. The simplest is first.
Classify = Callable[[Features, np.ndarray], Iterator[tuple[np.ndarray, np.ndarray]]]


def compute_sufficiency(subject: Subject, measure: str, classify: Classify) -> list[Reading]:
    """Return pi and the accuracies that it is made of at every unit, with 95 % intervals.

    The variant `pooled` is pi on pooled features, and `components` pi on as many principal
    components at every unit of every network, so that the width does not decide. `pooled gap` and
    `components gap` are P_own - P_start of the same features; their null is P_own - P_random. The
    variants `start`, `own`, `random` and `final` are the accuracies of these networks on pooled
    features.
    The intervals hold for these networks and new test groups.
    """
    readings = []
    numbers = range(1, len(subject.unit_map) + 1)
    for n, (pooled, components) in zip(numbers, _score_networks(subject, classify), strict=True):
        blank = Reading(measure, "", n, None, n_images=len(subject.groups["test"]))
        for variant, arms in (("pooled", pooled), ("components", components)):
            readings.append(_read_ratio(replace(blank, variant=variant), arms))
            readings.append(_read_gap(replace(blank, variant=f"{variant} gap"), arms))
        drawn = pooled["random"]
        null = None if isinstance(drawn, str) else drawn.mean
        for role in SCORED:
            arm, reading = pooled[role], replace(blank, variant=role)
            if isinstance(arm, str):
                readings.append(replace(reading, note=arm))
                continue
            reading = replace(reading, null=None if role == "random" else null)
            readings.append(read_estimate(reading, estimate_contrast([(1.0, arm)])))
    return readings


def standardise(features: Features) -> Features:
    """Return features less their mean over train, by their deviation there, in float64.

    A feature that is the same for all images of train is only centred.
    """
    scaler = StandardScaler().fit(features["train"].astype(np.float64))
    return {split: scaler.transform(each.astype(np.float64)) for split, each in features.items()}


def find_components(features: Features, size: int) -> Features:
    """Return the principal components of standardised features, each of variance 1 on train.

    Args:
        size: the number of components; those in which train does not vary are 0.
    """
    train = features["train"]
    width = train.shape[1]
    variances, axes = eigh(train.T @ train / len(train), subset_by_index=(width - size, width - 1))
    deviations = np.sqrt(np.maximum(variances, 0.0))
    is_flat = deviations <= _FLAT * max(deviations[-1], _FLAT)
    axes = np.where(is_flat, 0.0, axes / np.where(is_flat, 1.0, deviations))
    return {split: each @ axes for split, each in features.items()}


def _score_networks(subject: Subject, classify: Classify) -> list[tuple[Arms, Arms]]:
    """Return each network's arm on pooled features and on components, or why there is none.

    The list is of units. Each core scores one network at one unit at a time.
    """
    labels = subject.labels("train")
    problem = ""
    if labels.ndim > 1:
        problem = "not defined for a task in which an image has several labels"
    elif len(np.unique(labels)) == 1:
        problem = "all training images have one class"
    # The last units are the widest, and take longest: the cores end together if they come first.
    keys = [(n, role) for n in range(len(subject.unit_map), 0, -1) for role in SCORED]
    features = {
        (n, role): problem or collect_features(subject, role, n, subject.groups)
        for n, role in keys
    }
    pools = ThreadpoolController()  # of OpenMP

    def score(key: tuple[int, Role]) -> tuple[Arm | str, Arm | str]:
        each, role = features[key], key[1]
        if isinstance(each, str):
            return each, each
        with pools.limit(limits=1, user_api="openmp"):
            each = standardise(each)
            arm = _make_arm(subject, each, classify)
            if role not in COMPARED:
                return arm, arm
            widths = [other.shape[1] for other in subject.features(role, "train").values()]
            each = find_components(each, min(N_COMPONENTS, *widths))
            return arm, _make_arm(subject, each, classify)

    arms = dict(zip(keys, run_parts(score, keys), strict=True))
    return [
        ({role: arms[n, role][0] for role in SCORED}, {role: arms[n, role][1] for role in SCORED})
        for n in range(1, len(subject.unit_map) + 1)
    ]


def _make_arm(subject: Subject, features: Features, classify: Classify) -> Arm:
    """Return the balanced accuracy on test of the setting that is best on val."""
    train, val = subject.labels("train"), subject.labels("val")
    classes = np.unique(train)

    def spread(probabilities: np.ndarray) -> np.ndarray:
        full = np.zeros((len(probabilities), subject.n_classes))
        full[:, classes] = probabilities
        return np.maximum(full, _LEAST_PROBABILITY)

    def rank(setting: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
        scores = compute_selection("multi-class", np.log(spread(setting[0])), val)
        return rank_epoch({f"val/{name}": value for name, value in scores.items()})

    _, probabilities = max(classify(features, train), key=rank)
    return make_fixed_arm(subject, spread(probabilities))


def _read_ratio(reading: Reading, arms: Arms) -> Reading:
    """Return a reading of pi, or one that says why there is none."""
    start, own, drawn = (arms[role] for role in COMPARED)
    if isinstance(start, str) or isinstance(own, str) or isinstance(drawn, str):
        note = next(arm for arm in (start, own, drawn) if isinstance(arm, str))
        return replace(reading, note=note)
    pi = estimate_generality(start, own, drawn)
    if pi is None:
        note = (
            f"the network's own units are not shown to be {POINT:.0%} better than random filters"
        )
        return replace(reading, note=note)
    return read_estimate(replace(reading, null=0.0), pi)


def _read_gap(reading: Reading, arms: Arms) -> Reading:
    """Return a reading of how much worse the source's features serve than the network's own."""
    start, own = arms["start"], arms["own"]
    if isinstance(start, str) or isinstance(own, str):
        return replace(reading, note=start if isinstance(start, str) else str(own))
    drawn = arms["random"]
    null = None if isinstance(drawn, str) else own.mean - drawn.mean
    gap = estimate_contrast([(1.0, own), (-1.0, start)])
    return read_estimate(replace(reading, null=null), gap)
