"""What the updates of an epoch read: a function of the seed and the epoch alone.

So a training that was interrupted goes on with the same bits.
"""

from dataclasses import dataclass

import numpy as np

from tlcnn.data.augment import mix
from tlcnn.data.batches import Inputs, make_balanced_order, make_order
from tlcnn.data.mixing import draw_mixes
from tlcnn.training.recipe import Recipe

_STEP_STREAM = 0x57


@dataclass(frozen=True)
class EpochPlan:
    """The images of an epoch, and the random numbers of its updates.

    Attributes:
        batches: (n, B) positions in the training split, `accumulate` batches an update. What is
            left of the split after the last whole update is not shown; it is another part in
            every epoch.
        repeats: with balanced sampling, how often each of these images came before, (n * B,).
        seeds: of the draws of dropout, one an update, so that no generator state is saved.
        mixes: how each batch is mixed; None where no batch is.
    """

    batches: np.ndarray
    repeats: np.ndarray | None
    seeds: list[int]
    mixes: np.ndarray | None


def make_epoch_plan(
    train: Inputs, recipe: Recipe, *, seed: int, epoch: int, batch_size: int, n_steps: int
) -> EpochPlan:
    """Return the plan of an epoch of `n_steps` updates of `accumulate` batches each."""
    n_shown, repeats = n_steps * batch_size * recipe.accumulate, None
    if recipe.sampling == "balanced":
        labels = train.labels.cpu().numpy()
        order, times = make_balanced_order(train.keys, labels, seed=seed, epoch=epoch)
        repeats = times[:n_shown]
    else:
        order = make_order(train.keys, seed=seed, epoch=epoch)
    batches = order[:n_shown].reshape(-1, batch_size)
    steps = np.arange((epoch - 1) * n_steps, epoch * n_steps, dtype=np.uint64)
    seeds = mix(steps, seed, 0, _STEP_STREAM) >> np.uint64(1)
    mixes = None
    if recipe.mixup or recipe.cutmix:
        alphas = {"mixup": recipe.mixup, "cutmix": recipe.cutmix}
        mixes = draw_mixes(len(batches), seed=seed, epoch=epoch, **alphas)
    return EpochPlan(batches, repeats, seeds.tolist(), mixes)
