"""Classes with too few test groups for a verdict: the rule of every table, report and plan."""

from collections.abc import Sequence

import numpy as np

from tlcnn.errors import list_names

LEAST_GROUPS = 5  # of a class, for a verdict
LARGEST_PART = 1.5  # the weight of a smaller class in a metric, over its share of the test groups
LEAST_IN_ALL = 6  # with 5 groups no permutation test has a p below 2 / 2^5 = 0.06
MOST_NAMES = 8

RULE = (
    f"A metric gives no verdict where a class with fewer than {LEAST_GROUPS} test groups has a "
    f"weight in it that is more than {LARGEST_PART:g} times the class's share of the test groups. "
    f"Nor is there one with fewer than {LEAST_IN_ALL} test groups in all."
)
REMEDY = "only more test groups help"


def find_few_groups(reach: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return which classes have too few test groups for a verdict, (K,) bool.

    Args:
        reach: (K,) the weight of each class in the metric: 1/K in balanced accuracy.
        sizes: (K,) the test groups of each class.

    Example:
        >>> balanced_accuracy = np.full(3, 1 / 3)
        >>> find_few_groups(balanced_accuracy, np.array([4, 30, 40])).tolist()
        [True, False, False]
    """
    is_small = (sizes > 0) & (sizes < LEAST_GROUPS)
    if sizes.sum() < LEAST_IN_ALL:
        return is_small
    return is_small & (reach * sizes.sum() > LARGEST_PART * sizes)


def list_few_groups(is_few: np.ndarray, sizes: np.ndarray, classes: Sequence[str]) -> str:
    """Return `df 3, mel 4` for the classes with too few test groups.

    Args:
        is_few, sizes: (K,), of `find_few_groups`.
    """
    # The stratum of images without a finding is the last one, and has no name.
    rows = zip(classes, sizes.tolist(), is_few.tolist(), strict=False)
    return list_names([f"{name} {n}" for name, n, is_one in rows if is_one], MOST_NAMES)
