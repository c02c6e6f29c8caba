"""Which networks a measure of similarity compares, with its null, ceiling and interval.

    FORM            start and final: what training on the target left of a unit
    FORM against    start and own: how alike the source and the target's own network are
    … normalised    rho = (similarity - null) / (1 - null): 0 at the null, 1 for equal features

The null of start and final is start and own, two networks that were trained apart; without own it
is start and random. The null of start and own is start and random. The ceiling is own and twin.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tlcnn.data.parts import run_parts
from tlcnn.layers.subject import Form, Role, Subject, collect_features
from tlcnn.memory import release_memory
from tlcnn.records.measures import Reading
from tlcnn.statistics.variance import compute_quantile

Pair = tuple[Role, Role]
COMPARED: dict[str, Pair] = {"": ("start", "final"), " against": ("start", "own")}
NULLS: dict[str, tuple[Pair, ...]] = {
    "": (("start", "own"), ("start", "random")),
    " against": (("start", "random"),),
}
CEILING: Pair = ("own", "twin")
PAIRS: tuple[Pair, ...] = (*COMPARED.values(), ("start", "random"), CEILING)

LEAST_ROOM = 0.01  # between the null and 1, beyond the null's error, for a normalised value
_ROUNDING = 1e-12  # a smaller share of the squared features is rounding of float32


@dataclass(frozen=True)
class Similarity:
    """How similar two networks' features of the same N images are.

    Attributes:
        influence: (N,) the derivative of the value by each image's weight, where all weigh 1.
    """

    value: float
    influence: np.ndarray


# centred features (N, D) by role, float64 or (spatial) float32, and pairs of them -> a similarity
# of each pair, or why there is none
Compute = Callable[[Mapping[Role, np.ndarray], Sequence[Pair]], dict[Pair, Similarity | str]]


def compare_networks(
    subject: Subject, measure: str, form: Form, compute: Compute
) -> list[Reading]:
    """Return a similarity of the networks' features of the training images at each boundary.

    The interval is an infinitesimal jackknife over the groups of the training images
    (Efron 1982): it holds for these networks and new images.
    """
    groups = np.unique(subject.groups["train"], return_inverse=True)[1]
    roles = dict.fromkeys(role for pair in PAIRS for role in pair)
    for role in subject.networks.keys() & roles:
        subject.features(role, "train", form)  # here, where all cores compute it

    def read_unit(n: int) -> list[Reading]:
        reading = Reading(measure, form, n, None, n_images=len(groups), over="training groups")
        features = {role: _center_network(subject, role, n, form) for role in roles}
        similarities = _compare_features(features, compute)
        return [
            each
            for suffix in COMPARED
            for each in _list_readings(reading, suffix, similarities, groups)
        ]

    def read_units(numbers: Sequence[int]) -> list[Reading]:
        return [reading for n in numbers for reading in read_unit(n)]

    # One thread for all units: two of them at a time would need much memory, and on several
    # threads the operations of one unit would wait for each other.
    (readings,) = run_parts(read_units, [range(1, len(subject.unit_map) + 1)])
    release_memory()
    return readings


def center(features: np.ndarray) -> np.ndarray | None:
    """Return features (N, D) less their mean, in float64; None where no feature varies."""
    features = features.astype(np.float64)
    size = np.vdot(features, features)
    features -= features.mean(axis=0)
    return features if np.vdot(features, features) > _ROUNDING * size else None


def _center_network(subject: Subject, role: Role, n: int, form: Form) -> np.ndarray | str:
    """Return a network's centred features of the training images, or why there are none.

    Spatial ones are wide, and those of all networks are needed at once: they are float32 again.
    """
    features = collect_features(subject, role, n, ["train"], form)
    if isinstance(features, str):
        return features
    centered = center(features["train"])
    if centered is None:
        return f"the features of `{role}` are the same for all images"
    return centered.astype(np.float32) if form == "spatial" else centered


def _compare_features(
    features: Mapping[Role, np.ndarray | str], compute: Compute
) -> dict[Pair, Similarity | str]:
    """Return the similarity of every pair, or why there is none."""
    reasons: dict[Pair, Similarity | str] = {}
    for pair in PAIRS:
        for role in pair:
            obstacle = features[role]
            if isinstance(obstacle, str):
                reasons[pair] = obstacle
    usable = {role: each for role, each in features.items() if not isinstance(each, str)}
    pairs = [pair for pair in PAIRS if pair not in reasons]
    return reasons | (compute(usable, pairs) if pairs else {})


def _list_readings(
    reading: Reading,
    suffix: str,
    similarities: Mapping[Pair, Similarity | str],
    groups: np.ndarray,
) -> list[Reading]:
    """Return the readings of one comparison at one boundary: as it is, and normalised."""
    plain = replace(reading, variant=f"{reading.variant}{suffix}")
    normalised = replace(plain, variant=f"{plain.variant} normalised")
    similarity = similarities[COMPARED[suffix]]
    if isinstance(similarity, str):
        return [replace(each, note=similarity) for each in (plain, normalised)]
    top = similarities[CEILING]
    ceiling = None if isinstance(top, str) else top.value
    plain = replace(_set_value(plain, similarity, groups), ceiling=ceiling)
    for pair in NULLS[suffix]:
        null = similarities[pair]
        if not isinstance(null, str):
            break
    else:
        return [plain, replace(normalised, note=f"there is no null: {null}")]
    note = f"null: {pair[0]} and {pair[1]}"
    plain = replace(plain, null=null.value, note=note)
    room = 1 - null.value
    if not room - _measure_half(null, groups) > LEAST_ROOM:
        return [plain, replace(normalised, note="the null is too close to 1")]
    influence = similarity.influence * room - null.influence * (1 - similarity.value)
    rho = Similarity((similarity.value - null.value) / room, influence / room**2)
    ceiling = None if ceiling is None else (ceiling - null.value) / room
    normalised = replace(normalised, null=0.0, ceiling=ceiling, note=note)
    return [plain, _set_value(normalised, rho, groups)]


def _set_value(reading: Reading, similarity: Similarity, groups: np.ndarray) -> Reading:
    """Return the reading with a value and its interval, which ends at 1."""
    value, half = similarity.value, _measure_half(similarity, groups)
    if not np.isfinite(half):
        return replace(reading, value=value, over="")
    return replace(reading, value=value, low=value - half, high=min(value + half, 1.0))


def _measure_half(similarity: Similarity, groups: np.ndarray) -> float:
    """Return half the width of a 95 % interval over G groups; infinite for one group."""
    sums = np.bincount(groups, weights=similarity.influence)
    if len(sums) < 2:
        return float("inf")
    df = len(sums) - 1.0
    se = float(np.sqrt(np.square(sums - sums.mean()).sum() * len(sums) / df))
    return compute_quantile(df, 0.975) * se
