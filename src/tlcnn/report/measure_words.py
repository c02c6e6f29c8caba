"""What each measure of the networks is called, what it looks at, and how its readings go.

A measure without a line here is shown under its key, and is not compared with the costs.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasureWords:
    """A measure in words.

    Attributes:
        title: its name in figures and tables.
        looks_at: a sentence on what it looks at, for a reader who does not know it.
        side: 1 where a larger reading means a more specific unit, -1 where a smaller one does, 0
            where that is not known.
        variants: those that figures and printed tables show, the most important first; those
            without a reading are passed over.
        is_counted: whether the summary of all measures counts the depth that it points to; False
            where a measure is for information only.
    """

    title: str
    looks_at: str
    side: int = 0
    variants: tuple[str, ...] = ()
    is_counted: bool = True


_CLASSIFIER = "recognises the classes of the target from what leaves the source's units"
_SUFFICIENCY = (
    "0 is no better than from random units, and 1 is as well as from those of a network that was "
    "trained on the target alone; above 1, the source's units serve better than those."
)

MEASURES: dict[str, MeasureWords] = {
    "probe": MeasureWords(
        "probe sufficiency",
        f"It measures how well a linear classifier {_CLASSIFIER}: {_SUFFICIENCY}",
        -1,
        ("pooled", "components"),
    ),
    "knn": MeasureWords(
        "neighbour sufficiency",
        f"It measures how well a vote of the most similar images {_CLASSIFIER}: {_SUFFICIENCY}",
        -1,
        ("pooled", "components"),
    ),
    "logme": MeasureWords(
        "evidence (LogME)",
        "It measures how probable the target's classes are under a linear model of what leaves "
        "the source's units; nothing is trained.",
        -1,
        ("start", "own"),
    ),
    "cka": MeasureWords(
        "similarity (CKA)",
        "It measures how alike the images are arranged in what leaves a unit before and after "
        "fine-tuning: 1 is the same arrangement, and 0 is an unrelated one. A low value means "
        "that fine-tuning changed what the source had there.",
        -1,
        ("pooled", "pooled against"),
    ),
    "svcca": MeasureWords(
        "similarity (SVCCA)",
        "It measures how many of the main directions in what leaves a unit are the same before "
        "and after fine-tuning: 1 is all of them, and 0 is none.",
        -1,
        ("pooled", "pooled against"),
    ),
    "reinit": MeasureWords(
        "loss by resetting",
        "It measures what share of its score the fine-tuned network loses when one unit is set "
        "back to the weights that it started from: 0 is nothing, so that the unit needed no "
        "change, and 1 is all of it.",
        1,
        ("start", "start recomputed"),
    ),
    "gradient": MeasureWords(
        "gradient need",
        "It measures how strongly the target asks a unit's weights to change before any of them "
        "is trained, relative to their size. It depends on the scale of the weights, so units "
        "compare with care.",
        1,
        ("mean",),
    ),
    "movement": MeasureWords(
        "weight movement",
        "It measures how far training moved a unit's weights, relative to their size. Where a "
        "norm follows a convolution, that size has no effect on the network, so the measure is "
        "for information only.",
        1,
        ("weights",),
        is_counted=False,
    ),
    "stitch": MeasureWords(
        "stitching penalty",
        "It measures what score is lost when the source's first units are joined, by one trained "
        "linear layer, to the upper units of a network that was trained on the target.",
        1,
    ),
}

# A sentence for each measure that finds the depth which two tasks share, where that depth is
# known: the results of docs/layers.md. While it is empty, no reading decides anything.
TRUSTED: dict[str, str] = {}
UNTRUSTED = (
    "Which measure to trust? None by itself: in networks for which the depth that two tasks share "
    "is known (docs/layers.md of tlcnn), no measure finds it reliably. The verdicts rest on the "
    "costs alone."
)
MOST_VARIANTS = 2  # shown of a measure that names none


def find_words(measure: str) -> MeasureWords:
    """Return the words of a measure, its key where it has none."""
    return MEASURES.get(measure, MeasureWords(measure, ""))


def choose_variants(measure: str, variants: list[str]) -> list[str]:
    """Return the variants of a measure that are shown, of those that have a reading.

    Example:
        >>> choose_variants("movement", ["scales", "weights"]), choose_variants("x", ["a", "b"])
        (['weights'], ['a', 'b'])
    """
    main_variants = [name for name in find_words(measure).variants if name in variants]
    return main_variants or variants[:MOST_VARIANTS]
