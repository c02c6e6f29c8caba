"""A learning-rate range test of a planned run, from its start network on its training images."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlcnn.memory import Memory
from tlcnn.plan.plan import Plan
from tlcnn.run.run import build_training, run, set_torch_flags
from tlcnn.training.interrupt import catch_signals

if TYPE_CHECKING:
    from tlcnn.training.lr_range import LrRange


def measure_lr_range(
    plan: Plan, folder: Path, memory: Memory, *, low: float, high: float, n_steps: int
) -> "LrRange":
    """Return the losses of updates whose rate rises exponentially from `low` to `high`.

    A run that this one starts from is trained first if it is missing. Nothing is written to the
    folder of the run.

    Raises:
        Stopped, Diverged, DataError, WeightsError, BrokenPromise: see `tlcnn.errors`.
    """
    if plan.parent is not None:
        run(plan.parent, memory)
    import torch

    from tlcnn.model.freeze import check_frozen
    from tlcnn.run.network import build_initial_network
    from tlcnn.training.lane import Lane
    from tlcnn.training.lr_range import run_lr_range

    initial = build_initial_network(plan, memory)
    set_torch_flags(plan.config.threads, plan.device.name)
    with catch_signals() as stop, Lane(torch.device(plan.device.name), []) as lane:
        training = build_training(plan, initial, folder, stop, memory, lane)
        rates = np.geomspace(low, high, n_steps).tolist()
        curve = run_lr_range(training.fit, rates)
        check_frozen(training.fit.network.model, training.frozen)
    return curve
