"""The curve of a training: the loss, the learning rate and the speed at single updates.

A loss is read from the device where the training waits for it anyway, so a curve costs no time.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_POINTS = 1000  # of a whole training, which is also what TensorBoard shows of a curve

Report = Callable[[Sequence["Point"]], None]


@dataclass(frozen=True)
class Point:
    """What was measured at an update.

    Attributes:
        step: the number of updates of the training until then.
        seconds: the time of the update, since the epoch of the system's clock.
        values: the name of each value and the value.
    """

    step: int
    seconds: float
    values: Mapping[str, float]


class Curve:
    """Reports every n-th update, where n only depends on the length of the training.

    So an interrupted training has the points of one that nothing interrupted.

    Args:
        report: takes points in their order; None: nothing is measured.
        n_steps: the number of updates of the whole training.
        n_images: the number of images of an update.
    """

    def __init__(self, report: Report | None, *, n_steps: int, n_images: int) -> None:
        self.report, self.n_images = report, n_images
        self.every = math.ceil(n_steps / MAX_POINTS)
        self._sums: dict[int, Tensor] = {}  # the sum of the losses of the epoch, by step
        self._waiting: list[tuple[int, float, dict[str, float]]] = []

    def begin(self, step: int, loss_sum: Tensor) -> None:
        """Begin an epoch, or what is left of it, after `step` updates of the training."""
        self._since, self._seconds = step, time.monotonic()
        self._sums, self._waiting = {}, []
        self._remember(step, loss_sum)

    def add(self, step: int, loss_sum: Tensor, lr: float) -> None:
        """Note an update without waiting for the device.

        Args:
            step: the number of updates of the training, this one included.
            loss_sum: the sum of the losses of the epoch so far, a scalar on the device.
        """
        self._remember(step, loss_sum)
        if self.report is None or step % self.every:
            return
        now = time.monotonic()
        n_images = (step - self._since) * self.n_images
        speed = n_images / max(now - self._seconds, 1e-9)
        self._since, self._seconds = step, now
        self._waiting.append((step, time.time(), {"step/lr": lr, "step/images_per_s": speed}))

    def flush(self) -> None:
        """Report the updates that were noted; waits for the device."""
        if self.report is None or not self._waiting:
            return
        values = torch.stack([*self._sums.values()]).tolist()
        sums = dict(zip(self._sums, values, strict=True))
        self.report(
            [
                Point(step, seconds, {"step/loss": sums[step] - sums[step - 1], **numbers})
                for step, seconds, numbers in self._waiting
            ]
        )
        last = max(self._sums)
        self._sums, self._waiting = {last: self._sums[last]}, []

    def _remember(self, step: int, loss_sum: Tensor) -> None:
        """Copy the sum where it is the end or the beginning of an update to report."""
        if self.report is not None and (step % self.every == 0 or (step + 1) % self.every == 0):
            self._sums[step] = loss_sum.clone()
