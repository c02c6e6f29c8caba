"""A learning-rate range test: updates with a rising rate, and what their losses suggest.

The test is that of Smith (WACV 2017, arXiv:1506.01186), with a rate that rises exponentially. The
loss falls where the rate is large enough to learn, and rises where it is too large to converge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tlcnn.data.batches import expect
from tlcnn.data.progress import watch
from tlcnn.errors import Diverged
from tlcnn.training.fit import Fit
from tlcnn.training.phase import apply_modes

_DIVERGENCE_FACTOR = 4.0  # a training has diverged at so many times its lowest mean loss
_DECAY = 0.9  # of the running mean of losses
_SMOOTHING_SHARE = 0.02  # the deviation of the Gaussian, as a share of the test's updates


@dataclass(frozen=True)
class LrRange:
    """The curve of a range test.

    Attributes:
        lr: the rates, (n,), of the updates that were made.
        loss: the mean loss of the batch of each update, before it, (n,).
        smoothed: the losses, smoothed by a Gaussian, which does not shift them, (n,).
        has_diverged: whether the test ended because the loss had become too large.
        steepest: the rate at which the smoothed loss falls fastest; None: it does not fall.
        tenth: a tenth of the rate at which the smoothed loss is lowest; None: it does not fall.
    """

    lr: np.ndarray
    loss: np.ndarray
    smoothed: np.ndarray
    has_diverged: bool
    steepest: float | None
    tenth: float | None

    @property
    def is_falling(self) -> bool:
        """Whether the loss is lowest at the highest rate, so that higher ones may be better."""
        return int(self.smoothed.argmin()) == len(self.lr) - 1


def run_lr_range(fit: Fit, rates: Sequence[float]) -> LrRange:
    """Train a network that is at its start, one update a rate, until its loss diverges.

    The updates are those of the first epochs of a run: its images, views, frozen units, factors of
    the rate and other settings. The network is not of use afterwards.

    Raises:
        Stopped: a signal came.
    """
    losses: list[float] = []
    updates = watch(rates, len(rates), "updates")
    fit.network.model.train()
    apply_modes(fit.network.trained, fit.phase)
    for epoch in count(1):
        fit.position.epoch = epoch
        next_rates = rates[len(losses) :][: fit.n_steps]
        batches, make_update = fit.open_epoch(next_rates)
        with expect(fit.train, batches[: len(next_rates) * fit.recipe.accumulate]):
            for step in range(len(next_rates)):
                fit.stop.check()
                next(updates)
                fit.updates.loss_sum.zero_()
                make_update(step)
                losses.append(fit.updates.loss_sum.item())
                if has_diverged(losses):
                    break
        if len(losses) == len(rates) or has_diverged(losses):
            break
    fit.updates.forget()
    return make_lr_range(rates[: len(losses)], losses, n_planned=len(rates))


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether a loss is not finite, or their running mean is far above its lowest value.

    Example:
        >>> has_diverged([2.0, 1.0, 1.5]), has_diverged([2.0, 1.0, *[9.0] * 9])
        (False, True)
    """
    mean, lowest = 0.0, math.inf
    for n, loss in enumerate(losses, start=1):
        mean = _DECAY * mean + (1 - _DECAY) * loss
        unbiased = mean / (1 - _DECAY**n)
        lowest = min(lowest, unbiased)
    return not math.isfinite(mean) or unbiased > _DIVERGENCE_FACTOR * lowest


def make_lr_range(lr: Sequence[float], loss: Sequence[float], *, n_planned: int) -> LrRange:
    """Return the curve of these rates and losses, and the rates that it suggests.

    Args:
        lr: the rates of the updates, (n,).
        loss: their losses, (n,); the last one may be not finite, and is then left out.
        n_planned: the number of updates of the test, had it not diverged.

    Raises:
        Diverged: the first loss is not finite.
    """
    n = len(loss) if math.isfinite(loss[-1]) else len(loss) - 1
    if n == 0:
        raise Diverged(
            f"the loss is {loss[0]} before the first update, so no learning rate is at fault. "
            "Look at the weights that the run starts from, or set train.precision=fp32."
        )
    rates, losses = np.asarray(lr[:n], float), np.asarray(loss[:n], float)
    smoothed = gaussian_filter1d(losses, _SMOOTHING_SHARE * n_planned, mode="nearest")
    lowest = int(smoothed.argmin())
    steepest = tenth = None
    if lowest > 0:
        slopes = np.gradient(smoothed, np.log(rates))
        steepest = float(rates[slopes[: lowest + 1].argmin()])
        tenth = float(0.1 * rates[lowest])
    return LrRange(rates, losses, smoothed, has_diverged(loss), steepest, tenth)
