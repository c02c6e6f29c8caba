"""What an interval leaves out, or why there is none, as values; a report puts them into words."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class NoteKind(Enum):
    """What a note is about. The comments name the fields of `Note` that are set."""

    ONE_SEED = "one seed"
    ALL_EQUAL = "all runs gave one number"
    UNDEFINED = "metric undefined"
    NO_PREDICTIONS = "no predictions"
    UNUSABLE_PREDICTIONS = "unusable predictions"  # text: the error
    SEEDS_ALONE = "seeds alone"
    NO_REDRAWS = "no redraws for this metric"
    PARTLY_KNOWN = "one arm without predictions"
    FEW_GROUPS = "classes with too few test groups"  # counts: (classes, the least number), text
    LACKS_METRIC = "runs without the metric"  # counts: (seeds,), text: the metric
    OTHER_IMAGES = "different test images"
    MAYBE_OTHER_IMAGES = "perhaps different test images"
    COMMON_SEEDS = "paired by common seeds"  # counts: (common, those of each arm...)
    UNPAIRED_SEEDS = "not paired by seed"  # counts: those of each arm
    FEW_SEEDS = "too few seeds to pair"  # counts: (seeds, the least number)
    P_OF_THESE_NETWORKS = "p of new test groups alone"
    FOLDS = "folds share training images"  # counts: (folds,), or (folds, repeats)
    FOLD_MEANS = "no score of all folds together"
    AT_CHANCE = "shown to be near guessing"  # counts: (what guessing chooses from,)
    INCLUDES_CHANCE = "interval includes guessing"  # counts: the same
    ZERO_DENOMINATOR = "denominator 0 or unknown"
    UNBOUNDED_RATIO = "denominator may be 0"
    NO_GAMMA = "gamma not identifiable"
    NO_PAIR = "no pair of AnB and BnB"
    SMALL_SUBGROUP = "too few test groups"  # counts: (the least number, of so many classes)
    NOT_RECORDED = "no value is recorded"
    WITHOUT_ROW = "no row in the table"  # counts: (images, of so many), text: the table
    ONE_NETWORK = "new test groups alone"
    NO_SUBGROUP_METRIC = "no subgroup scores of this task or metric"


@dataclass(frozen=True)
class Note:
    """One remark on a number.

    Attributes:
        counts: the numbers that it states; see `NoteKind`.
        text: a name or an error message that it repeats.
    """

    kind: NoteKind
    counts: tuple[int, ...] = ()
    text: str = ""


Notes = tuple[Note, ...]


def merge_notes(*notes: Iterable[Note]) -> Notes:
    """Return all notes in their order, each once."""
    return tuple(dict.fromkeys(note for group in notes for note in group))
