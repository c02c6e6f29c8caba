"""Stitching penalty: what is lost where a network's first units are replaced by another's.

Model stitching (Lenc & Vedaldi 2015; Bansal, Nakkiran & Barak 2021, arXiv:2106.07682) puts the
units up to u of `start` in front of the units above u of `own`, with one trained layer between
them: a 1x1 convolution, or a linear layer where no map leaves the unit. Both networks are frozen.

    sigma(u) = M(own) - M(start up to u, layer, own above u),  M: balanced accuracy on test

It is near 0 where the source's units can stand for the target's own, and as large as M(own) less
chance where they cannot. It may be below 0. The null is the penalty of the units of `random`. The
ceiling is that of `own` in front of `twin`, two networks that differ in the seed alone.

The layer is fitted by least squares to what enters the upper units, and then trained on the
labels, both on the training images. The epoch is chosen on the validation images. A unit takes
minutes on a CPU, so that the measure is not among the default ones.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlcnn.data.batches import Batches, expect, iter_plain, list_eval_batches, make_order
from tlcnn.layers.scoring import make_fixed_arm, read_estimate
from tlcnn.layers.subject import BATCH_SIZE, Role, Subject, collect_features
from tlcnn.model.cut import cut
from tlcnn.records.measures import Reading
from tlcnn.statistics.arm import Estimate
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.metrics import compute_selection, rank_epoch
from tlcnn.statistics.predictions import compute_softmax
from tlcnn.training.evaluate import compute_logits

N_EPOCHS = 3
LR = 1e-3
_TRAIN_BATCH = 64
_RIDGE = 1e-6  # of the mean square of a channel
_PAIRS: tuple[tuple[Role, Role], ...] = (("start", "own"), ("random", "own"), ("own", "twin"))

Prefix = Callable[[Tensor], Tensor]


class Stitched(nn.Module):
    """The first units of one network, a layer, and the remaining units of another."""

    def __init__(self, prefix: Prefix, layer: nn.Module, suffix: nn.Module) -> None:
        super().__init__()
        self.prefix, self.layer, self.suffix = prefix, layer, suffix

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            activations = self.prefix(images)
        logits: Tensor = self.suffix(self.layer(activations))
        return logits


def compute_stitch(subject: Subject) -> list[Reading]:
    """Return the stitching penalty behind each unit, with its 95 % interval over test groups."""
    n_images = len(subject.groups["test"])
    readings = []
    for n in range(1, len(subject.unit_map) + 1):
        reading = Reading("stitch", "trained", n, None, n_images=n_images)
        penalty, *controls = [_estimate_penalty(subject, *pair, n) for pair in _PAIRS]
        null, ceiling = (None if isinstance(each, str) else each.value for each in controls)
        if isinstance(penalty, str):
            readings.append(replace(reading, note=penalty))
            continue
        readings.append(replace(read_estimate(reading, penalty), null=null, ceiling=ceiling))
    return readings


def _estimate_penalty(subject: Subject, below: Role, above: Role, n: int) -> Estimate | str:
    """Return the accuracy of the upper network less that of the stitched one, or why not."""
    if subject.labels("train").ndim > 1:
        return "not defined for a task in which an image has several labels"
    if subject.unit_map.dropped:
        return "the network has dropped units, and without them those of `own` give no classes"
    for role in (below, above):
        features = collect_features(subject, role, n, ["train"])
        if isinstance(features, str):
            return features
    stitched = stitch(subject, below, above, n)
    test = subject.images["test"]
    networks = {"whole": subject.networks[above], "stitched": stitched}
    logits = {name: _compute_logits(each, test) for name, each in networks.items()}
    arms = {name: make_fixed_arm(subject, compute_softmax(x)) for name, x in logits.items()}
    return estimate_contrast([(1.0, arms["whole"]), (-1.0, arms["stitched"])])


def stitch(subject: Subject, below: Role, above: Role, n: int) -> Stitched:
    """Return two networks of a subject, stitched behind unit n by the layer of the best epoch.

    Epoch 0 is the layer of least squares. The best one is chosen as that of a training is.
    """
    train, val = subject.images["train"], subject.images["val"]
    prefix, _ = cut(subject.networks[below], subject.unit_map, n)
    target, suffix = cut(subject.networks[above], subject.unit_map, n)
    layer = fit_layer(prefix, target, train)
    stitched = Stitched(prefix, layer, suffix).eval()
    optimizer = torch.optim.Adam(layer.parameters(), lr=LR)
    ranks, layers = [], []
    for epoch in range(N_EPOCHS + 1):
        if epoch:
            train_layer(stitched, optimizer, train, seed=subject.seed, epoch=epoch)
        scores = compute_selection(
            "multi-class", _compute_logits(stitched, val), subject.labels("val")
        )
        ranks.append(rank_epoch({f"val/{name}": value for name, value in scores.items()}))
        layers.append(copy.deepcopy(layer))
    stitched.layer = layers[ranks.index(max(ranks))]
    return stitched


@torch.no_grad()
def fit_layer(prefix: Prefix, target: Prefix, images: Batches) -> nn.Module:
    """Return the layer that maps what leaves `prefix` to what leaves `target`.

    It has the least squares over all images and positions of the map, with a slight ridge.
    """
    squares = products = torch.zeros((), dtype=torch.float64, device=images.device)
    for batch in iter_plain(images, _TRAIN_BATCH):
        activations = prefix(batch)
        x, y = (_list_positions(each) for each in (activations, target(batch)))
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        squares, products = squares + x.T @ x, products + x.T @ y
    of_channels = squares.diagonal()[:-1]
    of_channels += _RIDGE * of_channels.mean().clamp(min=_RIDGE)
    *weight, bias = torch.linalg.solve(squares, products).float()
    widths = (len(weight), len(bias))
    layer = nn.Conv2d(*widths, 1) if activations.ndim == 4 else nn.Linear(*widths)
    shaped = torch.stack(weight, dim=1).reshape(layer.weight.shape)
    layer.load_state_dict({"weight": shaped, "bias": bias})
    return layer.to(images.device)


def train_layer(
    stitched: Stitched, optimizer: torch.optim.Optimizer, images: Batches, *, seed: int, epoch: int
) -> None:
    """Train the layer of a stitched network for an epoch, on images without augmentation."""
    order = make_order(images.keys, seed=seed, epoch=epoch)
    batches = [order[each] for each in list_eval_batches(len(images), _TRAIN_BATCH)]
    feed = images.feed_plain(batches)
    with expect(images, batches):
        for number, picked in enumerate(batches):
            labels = images.labels[torch.from_numpy(picked).to(images.device)]
            loss = F.cross_entropy(stitched(feed.make_batch(number)), labels)
            optimizer.zero_grad()
            loss.backward(inputs=list(stitched.layer.parameters()))
            optimizer.step()


def _list_positions(activations: Tensor) -> Tensor:
    """Return activations (B, C, H, W) or (B, C) as rows of C channels, in float64."""
    return activations.transpose(1, -1).flatten(0, -2).double()


def _compute_logits(model: nn.Module, images: Batches) -> np.ndarray:
    return compute_logits(model, images, batch_size=BATCH_SIZE, precision="fp32")
