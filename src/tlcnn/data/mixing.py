"""Mixed images: mixup and CutMix, drawn as a pure function of (seed, epoch, batch).

    seed, epoch, batch -> draws (n, 5) -> weights of pixels (1, 1, H, W) -> mixed images

Every image of a batch is mixed with the one before it (the first with the last). The order of an
epoch is random, so this is a random partner.
"""

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from tlcnn.data.augment import find_inside, mix

_MIX_STREAM = 0x3A
_N_DRAWS = 4


def draw_mixes(
    n_batches: int, *, seed: int, epoch: int, mixup: float, cutmix: float
) -> np.ndarray:
    """Return how the batches of an epoch are mixed, (n, 5) float32.

    The columns are the weight of an image outside a rectangle, inside of which its partner is
    shown, and the top, bottom, left and right of that rectangle as shares of the side. Mixup
    (Zhang et al. 2018) has an empty rectangle; CutMix (Yun et al. 2019) has the weight 1. With
    both, each batch has one of them, with equal probability.

    Args:
        mixup: the alpha of Beta(alpha, alpha), from which the weight is drawn; 0: no mixup.
        cutmix: the alpha from which the share of the area outside the rectangle is drawn; 0: off.
    """
    batches = mix(np.arange(n_batches, dtype=np.uint64), seed, epoch, _MIX_STREAM)
    draws = mix(np.repeat(batches[:, None], _N_DRAWS, axis=1), np.arange(_N_DRAWS))
    which, share, down, across = ((draws >> np.uint64(11)).astype(np.float64) * 2.0**-53).T
    cuts = which < 0.5 if mixup and cutmix else np.full(n_batches, cutmix > 0)
    alpha = np.where(cuts, cutmix, mixup)
    weight = betaincinv(alpha, alpha, share)  # the inverse of Beta's distribution function
    half = np.where(cuts, np.sqrt(1 - weight), 0) / 2
    edges = [np.clip(centre + sign * half, 0, 1) for centre in (down, across) for sign in (-1, 1)]
    return np.stack([np.where(cuts, 1, weight), *edges], axis=1).astype(np.float32)


def apply_mix(images: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Return mixed images, (B, C, H, W), and the weight of their own labels, a scalar.

    The labels of an image's partner have the rest of the weight; `get_partners` returns them.

    Args:
        images: (B, C, H, W) with H = W.
        drawn: a row of `draw_mixes`, (5,), on the same device.
    """
    inside = find_inside(drawn[1:, None], images.shape[-1])
    weights = torch.where(inside, torch.zeros_like(drawn[0]), drawn[0])
    return torch.lerp(get_partners(images), images, weights), weights.mean()


def get_partners(values: Tensor) -> Tensor:
    """Return, for each image of a batch, what belongs to the image that it is mixed with."""
    return values.roll(1, 0)
