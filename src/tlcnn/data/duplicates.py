"""Near-duplicates: the same picture again, saved at another quality, size or brightness.

    images -> fingerprints (64 bits each) -> pairs at a small Hamming distance -> pixels confirm

Fingerprints only propose: among skin lesions, different ones often share nearly all bits. Copies
that are mirrored, turned or cut out are other pictures here (`tlcnn.data.grouping` finds these).
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tlcnn.data.index import Images
from tlcnn.errors import DataError
from tlcnn.storage import digest_of, make_dir, write_atomic

FINGERPRINT_VERSION = 1
NO_FINGERPRINT = 0  # a broken or blank image, which is near to no other
MAX_BITS = 8  # of 64: the largest distance of pairs whose pixels are compared

FLAT = 1.0  # grey levels: an image that deviates less is blank
SIDE = 64  # pixels a side at which two images are compared
NOISE = 3  # pixels a side: finer than this is JPEG's
NEAR = 9  # pixels a side: coarser than this is lighting, and what all lesions share
MAX_STRETCH = 1.04  # the aspect ratio that rounding to pixels may change
N_BLOCKS = 4  # a side: detail is compared in each block
FLAT_BLOCK = 0.5  # grey levels: a block whose detail deviates less is blank
MIN_BLOCKS = 13  # of 16 that must not be blank
MIN_WHOLE = 0.85  # least correlation of whole images
MIN_DETAIL = 0.5  # least correlation of detail: tests/test_duplicates.py says how it was set

_BLOCK = 2**23  # pairs of fingerprints compared at once: 64 MiB
_POPCOUNT = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)

log = logging.getLogger(__name__)


def load_fingerprints(images: Images, digests: Sequence[str], cache_dir: Path) -> np.ndarray:
    """Return each image's perceptual hash, remembered by the images' content.

    Args:
        digests: (N,) content digests.
        cache_dir: the cache; fingerprints lie in its folder `fingerprints`.

    Returns:
        (N,) uint64, `NO_FINGERPRINT` for images that cannot be decoded and for blank ones.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    key = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    name = f"{digest_of([FINGERPRINT_VERSION, key], 32)}.npy"
    path = Path(cache_dir) / "fingerprints" / name
    try:
        stored: np.ndarray = np.load(path, allow_pickle=False)
        if stored.shape == (len(images),) and stored.dtype == np.uint64:
            return stored
    except (OSError, ValueError, EOFError):  # there is none, or it is damaged
        pass
    fingerprints = compute_fingerprints(images)
    file = BytesIO()
    np.save(file, fingerprints)
    make_dir(path.parent)
    write_atomic(path, file.getvalue())
    return fingerprints


def compute_fingerprints(images: Images) -> np.ndarray:
    """Return each image's perceptual hash, (N,) uint64, with all cores; see above."""

    def compute(position: int) -> int:
        try:
            return make_fingerprint(images.load(position))
        except DataError as error:
            log.debug("no fingerprint: %s", error)
            return NO_FINGERPRINT

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(compute, range(len(images)))), "u8")


def make_fingerprint(pixels: np.ndarray) -> int:
    """Return the 64-bit perceptual hash of an (H, W, 3) uint8 image (Zauner 2010, DCT).

    Example:
        >>> make_fingerprint(np.full((8, 8, 3), 200, np.uint8)) == NO_FINGERPRINT
        True
    """
    import imagehash

    grey = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    if np.asarray(grey).std() < FLAT:
        return NO_FINGERPRINT
    bits = np.packbits(imagehash.phash(grey).hash.ravel())  # phash finds 32 x 32 as it needs it
    return int.from_bytes(bits.tobytes(), "big")


def find_near(first: np.ndarray, second: np.ndarray, max_bits: int) -> np.ndarray:
    """Find the pairs of fingerprints that differ in few bits.

    Args:
        first, second: (N,) and (P,) uint64. The same array twice gives every pair in both
            orders, and each fingerprint with itself.
        max_bits: the largest Hamming distance, 0 to 64.

    Returns:
        (M, 2) int64 positions in `first` and `second`, sorted; never one of `NO_FINGERPRINT`.
    """
    printed = np.flatnonzero(first != NO_FINGERPRINT), np.flatnonzero(second != NO_FINGERPRINT)
    left, right = first[printed[0]], second[printed[1]]
    pairs = [np.empty((0, 2), np.int64)]
    n_rows = max(1, _BLOCK // max(1, len(right)))
    for start in range(0, len(left), n_rows):
        distances = _count_bits(left[start : start + n_rows, None] ^ right[None])
        rows, columns = np.nonzero(distances <= max_bits)
        pairs.append(np.stack([printed[0][rows + start], printed[1][columns]], axis=1))
    return np.concatenate(pairs)


def _count_bits(values: np.ndarray) -> np.ndarray:
    """Return the number of ones in each uint64, as uint8."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        counts: np.ndarray = np.bitwise_count(values)
        return counts
    halves = values[..., None].view(np.uint16)  # (..., 4)
    return _POPCOUNT[halves].sum(axis=-1, dtype=np.uint8)


def is_same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    """Confirm by pixels that two images show the same picture.

    Other JPEG qualities, sizes, brightness and contrast are the same picture; other photographs
    of the same thing, mirrored, turned and cut ones are not. A blank image has nothing to
    confirm by: it is only the same as one with equal pixels.

    Args:
        first, second: (H, W, 3) uint8 RGB, of any two sizes.
    """
    if first.shape == second.shape and np.array_equal(first, second):
        return True
    stretch = first.shape[0] * second.shape[1] / (first.shape[1] * second.shape[0])
    if not 1 / MAX_STRETCH <= stretch <= MAX_STRETCH:
        return False
    left, right = _make_small(first), _make_small(second)
    return _correlate(left, right) >= MIN_WHOLE and _compare_detail(left, right) >= MIN_DETAIL


def compute_likeness(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the correlation of two images' grey levels, and that of their detail.

    Detail is what lies between `NOISE` and `NEAR`. It is compared in blocks, because a dark spot
    on bright skin, or a frame, would outweigh everything else; the second worst block counts.

    Args:
        first, second: (H, W, 3) uint8 RGB, of any two sizes; the frame is made square.

    Returns:
        Two numbers from -1 to 1; 0 where one of the images is (nearly) blank in that respect.
    """
    left, right = _make_small(first), _make_small(second)
    return _correlate(left, right), _compare_detail(left, right)


def _make_small(pixels: np.ndarray) -> np.ndarray:
    """Return (S, S) float64 grey levels."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)


def _compare_detail(left: np.ndarray, right: np.ndarray) -> float:
    pairs = list(zip(_cut_detail(left), _cut_detail(right), strict=True))
    correlations = sorted(
        _correlate(*pair) for pair in pairs if min(map(np.std, pair)) > FLAT_BLOCK
    )
    return correlations[1] if len(correlations) >= MIN_BLOCKS else 0.0


def _cut_detail(grey: np.ndarray) -> list[np.ndarray]:
    """Return the detail of each block, (S / N_BLOCKS, S / N_BLOCKS) each."""
    smooth = _blur(grey, NOISE)
    detail = smooth - _blur(smooth, NEAR)
    return [
        block for row in np.split(detail, N_BLOCKS) for block in np.split(row, N_BLOCKS, axis=1)
    ]


def _blur(grey: np.ndarray, side: int) -> np.ndarray:
    """Return the mean of each pixel's `side` x `side` neighbours, (S, S)."""
    padded = np.pad(grey, side // 2, mode="edge")
    for axis in (0, 1):
        shifts = [np.take(padded, range(i, i + SIDE), axis=axis) for i in range(side)]
        padded = np.mean(shifts, axis=0)
    return padded


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = float(first.std() * second.std())
    return float((first * second).mean() / scale) if scale > 0 else 0.0
