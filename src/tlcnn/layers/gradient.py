"""Gradient need: how strongly the task asks a unit to change, before anything was trained.

    need(u) = ||grad_u L|| / ||theta_u||

theta_u are the parameters of unit u as they were before the first step, and L is the cross-entropy
of train images, without class weights, once the head alone was fitted to the task (the relative
gradient norm of Lee et al. 2023, "Surgical fine-tuning", arXiv:2210.11466). The head is a logistic
regression on all train images, whose penalty is chosen on val; the gradients are of at most 384
train images. Norms use their running statistics. From 0 on; a higher value means that the unit is
asked to change more. A fresh residual block often begins with a last scale of 0, and then what is
in front of this scale has no gradient.

    mean    the norm of the mean gradient over all images
    batch   the mean over batches of 16 images of the norm of a batch's gradient; most of it is
            what the images differ by
    fisher  the mean over images of ||grad_u l_i||^2, divided by ||theta_u||^2: the trace of the
            empirical Fisher matrix, with each image's own label (Kunstner, Hennig and Balles 2019,
            arXiv:1905.12558, on how it differs from the Fisher matrix)

The need depends on the scale of weights. Where a network computes the same with c times the
weights of a unit, the gradient is 1 / c of what it was, `mean` and `batch` are 1 / c^2, and
`fisher` is 1 / c^4. So units are compared with care. The intervals are over batches of train
images, by a jackknife.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F

from tlcnn.data.batches import Batches, iter_plain, take_labels
from tlcnn.layers.subject import BATCH_SIZE, Split, Subject, pick_images, run_tasks
from tlcnn.model.cut import copy_modules, make_prefix
from tlcnn.model.difference import measure_difference
from tlcnn.records.measures import Reading
from tlcnn.statistics.metrics import compute_selection
from tlcnn.statistics.variance import compute_quantile

VARIANTS = ("mean", "batch", "fisher")
SPLITS: tuple[Split, Split] = ("train", "val")  # what the head is fitted on, and chosen on
N_IMAGES = 384  # at most
BATCH = 16  # images whose gradient is computed together
N_BLOCKS = 6  # of batches; the jackknife leaves one out, and holds the gradient of each in memory
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # scikit-learn's C, of standardised features
FLAT = 1e-6  # of the largest deviation: what varies less is rounding
NEVER = -1e4  # the logit of a class without train images
N_PROBED = 32  # images on which the fitted head is checked
TOLERANCE = 1e-3  # between the network and the regression


@dataclass(frozen=True)
class Gradients:
    """A summary of a unit's gradients over M blocks of m batches of B images each.

    Attributes:
        gram: (M, M) inner products of the blocks' mean gradients.
        squares: (M, m) the squared norm of each batch's mean gradient.
        batch_size: B.
    """

    gram: np.ndarray
    squares: np.ndarray
    batch_size: int

    def compute(self, blocks: np.ndarray) -> dict[str, float]:
        """Return each variant of some of the blocks, before it is divided by the weights.

        Images and batches of images vary by as much, so the mean of squared norms of an image is
        that of the mean gradient, and B times the variance between batches.
        """
        squares = self.squares[blocks]
        mean = max(float(self.gram[np.ix_(blocks, blocks)].mean()), 0.0)
        between = max(float(squares.mean()) - mean, 0.0) * squares.size / (squares.size - 1)
        return {
            "mean": mean**0.5,
            "batch": float(np.sqrt(squares).mean()),
            "fisher": mean + between * (self.batch_size - 1 / squares.size),
        }


def compute_gradient(subject: Subject) -> list[Reading]:
    """Return the gradient need of each unit of the network `start`."""
    numbers = range(1, len(subject.unit_map) + 1)
    keys = [(n, variant) for n in numbers for variant in VARIANTS]
    start = subject.networks["start"]
    of_units = {name for unit in subject.unit_map.units for name in unit.tensors}
    network = copy_modules(
        start,
        {
            name: nn.Parameter(p.detach() if name in of_units else p.detach().clone(), False)
            for name, p in start.named_parameters()
        },
    )
    obstacle = fit_head(network, subject)
    if obstacle is not None:
        return [Reading("gradient", variant, n, None, note=obstacle) for n, variant in keys]
    parameters = {
        n: [p for name, p in network.named_parameters() if name in unit.tensors]
        for n, unit in enumerate(subject.unit_map.units, start=1)
    }
    images, _ = pick_images(subject.images["train"], N_IMAGES)
    order = np.random.default_rng(subject.seed).permutation(len(images))
    gradients = compute_gradients(network, parameters, images, order)
    return [
        _make_reading(n, variant, gradients[n], float(nn.utils.get_total_norm(parameters[n])))
        for n, variant in keys
    ]


def _make_reading(n: int, variant: str, gradients: Gradients, size: float) -> Reading:
    """Return a reading with Student's interval of the jackknife over blocks."""
    if size == 0:
        note = "the unit has no parameters, or they are all zero"
        return Reading("gradient", variant, n, None, note=note)
    blocks = np.arange(N_BLOCKS)
    divisor = size**2 if variant == "fisher" else size
    value = gradients.compute(blocks)[variant] / divisor
    without = [gradients.compute(blocks[blocks != b])[variant] / divisor for b in blocks]
    se = float(np.std(without)) * (N_BLOCKS - 1) ** 0.5
    half = compute_quantile(N_BLOCKS - 1, 0.975) * se
    n_images = gradients.squares.size * gradients.batch_size
    return Reading(
        *("gradient", variant, n, value, max(value - half, 0.0), value + half),
        n_images=n_images,
        over="batches of train images",
    )


def compute_gradients(
    network: nn.Module,
    parameters: Mapping[int, Sequence[Tensor]],
    images: Batches,
    order: np.ndarray,
    batch_size: int = BATCH,
) -> dict[int, Gradients]:
    """Return the gradients of the mean cross-entropy by the parameters of each unit.

    Args:
        parameters: by the number of the unit.
        order: positions of images; what is more than whole blocks of batches is left out.
        batch_size: at most; smaller where there are not `N_BLOCKS` batches of it.
    """
    size = min(batch_size, len(order) // N_BLOCKS)
    n_each = len(order) // (N_BLOCKS * size)
    blocks = order[: N_BLOCKS * n_each * size].reshape(N_BLOCKS, n_each, size)
    trained = [(n, p.requires_grad_()) for n, tensors in parameters.items() for p in tensors]
    squares = {n: np.zeros((N_BLOCKS, n_each)) for n in parameters}
    sums = [p.new_zeros(N_BLOCKS, p.numel(), requires_grad=False) for _, p in trained]

    def add_gradients(block: int) -> None:
        """Add the gradients of a block's batches to its row of `sums`, and to `squares`."""
        copied, feed = copy_modules(network), images.feed_plain(list(blocks[block]))
        for number, labels in enumerate(take_labels(images, blocks[block])):
            loss = F.cross_entropy(copied(feed.make_batch(number)), labels)
            gradients = torch.autograd.grad(loss, [p for _, p in trained], materialize_grads=True)
            for (n, _), gradient, rows in zip(trained, gradients, sums, strict=True):
                squares[n][block, number] += float(gradient.square().sum(dtype=torch.float64))
                rows[block] += gradient.flatten()
            del gradients, gradient, loss  # so that those of two batches are never held

    run_tasks(add_gradients, range(N_BLOCKS), images.device)
    grams = {n: np.zeros((N_BLOCKS, N_BLOCKS)) for n in parameters}
    for (n, _), rows in zip(trained, sums, strict=True):
        grams[n] += (rows @ rows.T).double().cpu().numpy() / n_each**2
    return {n: Gradients(grams[n], squares[n], size) for n in parameters}


# ---- the head -----------------------------------------------------------------------------------


def fit_head(network: nn.Module, subject: Subject) -> str | None:
    """Fit the classifier of a network to the task, in place; return why it cannot be, or None.

    The classifier is the last layer and has to be linear. The rest of the head is not changed.
    """
    if subject.labels("train").ndim > 1:
        return "several labels can hold at once, and the head is fitted to one"
    if len(subject.images["train"]) < N_BLOCKS or len(np.unique(subject.labels("train"))) < 2:
        return f"{N_BLOCKS} train images and two classes among them are needed"
    paths = subject.unit_map.head_modules
    linear = [path for path in paths if isinstance(network.get_submodule(path), nn.Linear)]
    if not linear:
        return "the head has no linear layer"
    prefix, classifier = make_prefix(network, (linear[-1],)), network.get_submodule(linear[-1])
    assert isinstance(classifier, nn.Linear)
    probe = next(iter_plain(subject.images["train"], N_PROBED))
    with torch.no_grad():
        entering = prefix(probe)
        if entering.ndim != 2 or not torch.equal(classifier(entering), network(probe)):
            return "the head does not end in a linear layer of features"
        features = _find_features(subject, prefix, entering)
        with threadpool_limits(1, user_api="openmp"):  # faster for so few images
            weight, bias = _fit_regression(features, subject)
        classifier.weight.copy_(torch.from_numpy(weight))
        classifier.bias.copy_(torch.from_numpy(bias))
        fitted = torch.from_numpy(features["train"][: len(probe)] @ weight.T + bias).softmax(1)
        outputs = network(probe).cpu().double().softmax(1)
    is_equal = measure_difference(fitted, outputs) <= TOLERANCE
    return None if is_equal else "the network does not give the fitted logits"


def _find_features(
    subject: Subject, prefix: Callable[[Tensor], Tensor], entering: Tensor
) -> dict[Split, np.ndarray]:
    """Return what enters the classifier, (n, D) float64 by split.

    In most networks it is the pooled output of the last unit, which other measures need too.

    Args:
        entering: what enters the classifier for the first train images, (B, D).
    """
    last = len(subject.unit_map)
    if last in subject.numbers:
        pooled = {split: subject.features("start", split)[last] for split in SPLITS}
        first = torch.from_numpy(pooled["train"][: len(entering)])
        if measure_difference(entering.cpu(), first) <= TOLERANCE:
            return {split: features.astype(np.float64) for split, features in pooled.items()}
    return {
        split: torch.cat(
            [prefix(batch) for batch in iter_plain(subject.images[split], BATCH_SIZE)]
        )
        .double()
        .cpu()
        .numpy()
        for split in SPLITS
    }


def _fit_regression(
    features: Mapping[Split, np.ndarray], subject: Subject
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (K, D) and bias (K,) of the regression that has the least loss on val.

    A class without train images is never predicted.
    """
    mean, deviation = features["train"].mean(axis=0), features["train"].std(axis=0)
    scale = np.where(deviation > FLAT * deviation.max(), deviation, np.inf)
    scaled, labels = (features["train"] - mean) / scale, subject.labels("train")
    regression = LogisticRegression(max_iter=1000, warm_start=True)
    fits = []
    for penalty in PENALTIES:
        regression.set_params(C=penalty).fit(scaled, labels)
        coef, intercept = regression.coef_ / scale, regression.intercept_
        if len(intercept) == 1:  # of two classes: the difference of their logits
            coef, intercept = (np.concatenate([-x, x]) / 2 for x in (coef, intercept))
        weight = np.zeros((subject.n_classes, len(mean)))
        bias = np.full(subject.n_classes, NEVER)
        weight[regression.classes_] = coef
        bias[regression.classes_] = intercept - coef @ mean
        logits = features["val"] @ weight.T + bias
        loss = compute_selection("multi-class", logits, subject.labels("val"))["nll"]
        fits.append((loss, weight, bias))
    _, weight, bias = min(fits, key=lambda fit: fit[0])
    return weight, bias
