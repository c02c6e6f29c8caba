"""Whether frozen units respond to images: nothing behind units that do not can be learnt."""

import logging

import numpy as np
import torch

from tlcnn.data.batches import Batches
from tlcnn.errors import ConfigError
from tlcnn.model.cut import evaluating, find_entrances, make_prefix
from tlcnn.plan.plan import Plan
from tlcnn.records.summary import LEAST_RESPONSE
from tlcnn.text import count

log = logging.getLogger(__name__)

_N_IMAGES = 16
_NOISE = 1e-3  # of the outputs' root mean square: smaller differences are no response


def measure_response(plan: Plan, model: torch.nn.Module, images: Batches) -> float | None:
    """Return the share of the frozen units' outputs that differ between training images.

    These are the frozen units in front of the first trained one.

    The network is run in evaluation mode on a few images without augmentation: it does not change,
    and no random number is drawn. A share that is too small is logged as a warning.

    Returns:
        None where no such unit is frozen, or where no single tensor leaves the frozen units.
    """
    n_frozen = plan.treatment.depth
    if not n_frozen or len(images) < 2:
        return None
    rows = np.unique(np.linspace(0, len(images) - 1, _N_IMAGES).astype(int))
    prefix = make_prefix(model, find_entrances(plan.unit_map, n_frozen))
    try:
        with torch.no_grad(), evaluating(model):
            outputs = prefix(images.feed_plain([rows]).make_batch(0)).float()
    except ConfigError:
        return None
    least = _NOISE * outputs.square().mean().sqrt()
    response = float((outputs.std(dim=0) > least).float().mean())
    if response < LEAST_RESPONSE:
        larger = 2 * plan.config.dataset.image_size
        log.warning(
            f"{plan.run_dir.name}: {response:.2%} of the outputs of the "
            f"{count(n_frozen, 'frozen unit')} differ between {len(rows)} training images: what "
            "is trained behind them sees almost nothing. "
            f"Try dataset.image_size={larger}, or freeze fewer units."
        )
    return response
