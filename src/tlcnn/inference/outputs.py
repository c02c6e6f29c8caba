"""The one road from images to logits, for any list of images and any networks.

ImageList -> parts of whole batches -> decoded and resized as each run did -> logits, features
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tlcnn.data.batches import list_eval_batches
from tlcnn.data.decode import decode_images
from tlcnn.data.resize import choose_decoding
from tlcnn.device import count_cores
from tlcnn.inference.image_list import ImageList
from tlcnn.inference.network import Network, StoredForm, computing

PART = 1024  # images that are decoded, computed and written at a time, rounded up to batches
_MOST_PARTS = 8  # the largest part, in multiples of `PART`, that batches of several sizes may need


@dataclass(frozen=True)
class Outputs:
    """What networks say about some consecutive images.

    Attributes:
        rows: (n,) the positions of the images in the list.
        pixels: for each `StoredForm` the stored images, (n, S, S, 3) uint8.
        bad: position among the n -> why an image cannot be decoded; it is black in `pixels`.
        logits: for each network, (V, n, K) float32 of V views; NaN for bad images.
        features: for each network, (n, D) float32: what leaves the unit that was asked for.
    """

    rows: np.ndarray
    pixels: Mapping[StoredForm, np.ndarray]
    bad: Mapping[int, str]
    logits: Sequence[np.ndarray]
    features: Sequence[np.ndarray]


def list_parts(n_images: int, *batch_sizes: int) -> list[np.ndarray]:
    """Return the positions of each part: whole batches of every network.

    Where sizes have no small common multiple, the parts have whole batches of the largest one.

    Example:
        >>> [len(part) for part in list_parts(2049, 256)]
        [1024, 1025]
        >>> [len(part) for part in list_parts(4000, 96, 256)]
        [1536, 1536, 928]
    """
    size = math.lcm(*batch_sizes)
    if size > _MOST_PARTS * PART:
        size = max(batch_sizes)
    return list_eval_batches(n_images, size * -(-PART // size))


def iter_outputs(
    networks: Sequence[Network],
    images: ImageList,
    parts: Sequence[np.ndarray],
    *,
    batch_size: int | None = None,
    flips: Sequence[tuple[int, ...]] = ((),),
    at: int | None = None,
    workers: int | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[Outputs]:
    """Yield what networks say about the images of each part.

    Args:
        parts: from `list_parts`, or some of them.
        batch_size: images of a forward pass; None: those of each run's own evaluation.
        flips: for each view the axes of the stored images (1: upside down, 2: left to right) that
            are flipped; () is the image as it is.
        at: the number of the unit of the features; None: what enters the classifier.
        workers: the number of decoding threads; None: one for each core.
        check_stop: called after every part; it may raise.
    """
    streams = {
        network.stored_form: iter_decoded(images, parts, network.stored_form, workers)
        for network in networks
    }
    for rows in parts:
        decoded = {form: next(stream) for form, stream in streams.items()}
        bad = {
            position: why for _, reasons in decoded.values() for position, why in reasons.items()
        }
        logits, features = [], []
        for network in networks:
            pixels = decoded[network.stored_form][0]
            views = [np.ascontiguousarray(np.flip(pixels, axes)) for axes in flips]
            with computing(network):
                results = [
                    network.compute(network.batch(v), batch_size=batch_size, at=at) for v in views
                ]
            logits.append(np.stack([result[0] for result in results]))
            logits[-1][:, list(bad)] = np.nan
            features.append(results[0][1])
        yield Outputs(rows, {k: v[0] for k, v in decoded.items()}, bad, logits, features)
        check_stop()


def iter_decoded(
    images: ImageList, parts: Sequence[np.ndarray], form: StoredForm, workers: int | None = None
) -> Iterator[tuple[np.ndarray, dict[int, str]]]:
    """Yield the stored images of each part, (n, S, S, 3) uint8, and why some are bad."""
    size, fit = form[:2]
    if not parts:
        return
    wanted = images.pick(np.concatenate(parts)).images
    source = choose_decoding(wanted, *form)
    chunks = decode_images(
        source, size, fit, workers or count_cores(), progress=False, stop=lambda: False
    )
    waiting, start = [np.empty((0, size, size, 3), np.uint8)], 0
    reasons: dict[int, str] = {}
    for rows in parts:
        while sum(map(len, waiting)) < len(rows):
            pixels, bad = next(chunks)
            waiting.append(pixels)
            reasons |= bad
        pixels = np.concatenate(waiting)
        here = {p - start: reasons.pop(p) for p in sorted(reasons) if p < start + len(rows)}
        yield pixels[: len(rows)], here
        waiting, start = [pixels[len(rows) :]], start + len(rows)
