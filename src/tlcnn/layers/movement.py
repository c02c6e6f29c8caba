"""Weight movement: how far training moved the weights of a unit, relative to their size.

It is given for information. Where a norm follows a convolution the network does not depend on the
size of the weights, and a ratio says little about what the unit computes.
"""

import torch

from tlcnn.layers.subject import Subject
from tlcnn.records.measures import Reading


def compute_movement(subject: Subject) -> list[Reading]:
    """Return ||theta_final - theta_start|| / ||theta_start|| of each unit.

    The variant `weights` is of convolutions and linear layers, `scales` of all other parameters,
    most of which are scales and shifts of norms.
    """
    start, final = (dict(subject.networks[role].named_parameters()) for role in ("start", "final"))
    readings = []
    for n, unit in enumerate(subject.unit_map.units, start=1):
        for variant in ("weights", "scales"):
            names = [
                name
                for name in unit.tensors
                if name in start and (start[name].ndim > 1) == (variant == "weights")
            ]
            size = _measure_norm([start[name] for name in names])
            if not size:
                note = f"the unit has no {variant}" if not names else "they start at zero"
                readings.append(Reading("movement", variant, n, None, note=note))
                continue
            moved = _measure_norm([final[name] - start[name] for name in names])
            readings.append(Reading("movement", variant, n, moved / size))
    return readings


def _measure_norm(tensors: list[torch.Tensor]) -> float:
    """Return the Euclidean norm of tensors together."""
    return float(sum(t.detach().double().square().sum() for t in tensors)) ** 0.5
