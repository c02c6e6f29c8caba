"""How the training images of an epoch are divided into updates."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochSteps:
    """The updates of an epoch.

    Attributes:
        batch_size: images of a batch.
        n_steps: updates, each of the same number of batches.
        n_left: images at the end of an epoch's order that are too few for another update.
    """

    batch_size: int
    n_steps: int
    n_left: int


def divide_epoch(n_train: int, batch_size: int, accumulate: int = 1) -> EpochSteps:
    """Return how an epoch of `n_train` images is divided.

    Args:
        batch_size: the images that a batch has where there are enough.
        accumulate: the batches of an update.

    Example:
        >>> divide_epoch(100, 8, accumulate=4)
        EpochSteps(batch_size=8, n_steps=3, n_left=4)
        >>> divide_epoch(31, 64)
        EpochSteps(batch_size=31, n_steps=1, n_left=0)
        >>> divide_epoch(21, 8, accumulate=4)  # less than one update of full batches
        EpochSteps(batch_size=5, n_steps=1, n_left=1)
    """
    size = max(1, min(batch_size, n_train // accumulate))
    n_steps, n_left = divmod(n_train, size * accumulate)
    return EpochSteps(size, n_steps, n_left)
