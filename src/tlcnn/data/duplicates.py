"""Near-duplicates: the same picture again, saved at another quality, size or brightness.

    images -> fingerprints (64 bits each) -> pairs at a small Hamming distance -> pixels confirm

Fingerprints only propose: among skin lesions, different ones often share nearly all bits. Copies
that are mirrored, turned or cut out are other pictures here (`tlcnn.data.grouping` finds these).
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tlcnn.data.index import Images
from tlcnn.errors import DataError
from tlcnn.storage import remember

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


def load_fingerprints(images: Images, digests: Sequence[str], cache_dir: Path) -> np.ndarray:
    """Return each image's perceptual hash, remembered by the images' content digests.

    Returns:
        (N,) uint64, `NO_FINGERPRINT` for images that cannot be decoded and for blank ones.

    Raises:
        StorageError: the cache folder cannot be written.
    """

    def compute(position: int) -> int:
        try:
            return make_fingerprint(images.load(position))
        except DataError:
            return NO_FINGERPRINT

    def compute_all() -> list[int]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compute, range(len(images))))

    key = [FINGERPRINT_VERSION, hashlib.sha256("\n".join(digests).encode()).hexdigest()]
    return np.array(remember(cache_dir, "fingerprints", key, compute_all), "u8")


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
        differing = left[start : start + n_rows, None] ^ right
        if hasattr(np, "bitwise_count"):  # numpy 2
            distances = np.bitwise_count(differing)
        else:
            halves = differing[..., None].view(np.uint16)  # (..., 4)
            distances = _POPCOUNT[halves].sum(axis=-1, dtype=np.uint8)
        rows, columns = np.nonzero(distances <= max_bits)
        pairs.append(np.stack([printed[0][rows + start], printed[1][columns]], axis=1))
    return np.concatenate(pairs)


def is_same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    """Confirm by pixels that two images show the same picture.

    Other JPEG qualities, sizes, brightness and contrast are the same picture; other photographs
    of the same thing, mirrored, turned and cut ones are not. A blank image has nothing to
    confirm by: it is only the same as one with equal pixels. They are (H, W, 3) uint8 RGB.
    """
    if first.shape == second.shape and np.array_equal(first, second):
        return True
    stretch = first.shape[0] * second.shape[1] / (first.shape[1] * second.shape[0])
    if not 1 / MAX_STRETCH <= stretch <= MAX_STRETCH:
        return False
    left, right = _make_small(first), _make_small(second)
    return _correlate(left, right) >= MIN_WHOLE and _compare_detail(left, right) >= MIN_DETAIL


def confirm_pairs(first: Images, second: Images, pairs: np.ndarray) -> list[bool | None]:
    """Return whether each pair shows the same picture, with all cores.

    Pairs are (M, 2) positions in `first` and `second`, sorted. The answer is None where one of
    the images cannot be decoded.
    """

    def load(images: Images, position: int) -> np.ndarray | None:
        try:
            return images.load(int(position))
        except DataError:
            return None

    def confirm(block: np.ndarray) -> list[bool | None]:
        """Compare one image with its partners."""
        pixels = load(first, block[0, 0])
        partners = (load(second, position) for position in block[:, 1])
        return [
            None if pixels is None or partner is None else is_same_picture(pixels, partner)
            for partner in partners
        ]

    blocks = np.split(pairs, np.flatnonzero(np.diff(pairs[:, 0])) + 1) if len(pairs) else []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [result for results in pool.map(confirm, blocks) for result in results]


def _make_small(pixels: np.ndarray) -> np.ndarray:
    """Return (S, S) float64 grey levels."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)


def _compare_detail(left: np.ndarray, right: np.ndarray) -> float:
    """Return the correlation of two images' detail, 0 where one is (nearly) blank in it.

    Detail is what lies between `NOISE` and `NEAR`. It is compared in blocks, because a dark spot
    on bright skin, or a frame, would outweigh everything else; the second worst block counts.
    """
    pairs = list(zip(_cut_detail(left), _cut_detail(right), strict=True))
    correlations = sorted(
        _correlate(*pair) for pair in pairs if min(map(np.std, pair)) > FLAT_BLOCK
    )
    return correlations[1] if len(correlations) >= MIN_BLOCKS else 0.0


def _cut_detail(grey: np.ndarray) -> list[np.ndarray]:
    """Return the detail of each block, (S / N_BLOCKS, S / N_BLOCKS) each."""
    from scipy.ndimage import uniform_filter

    smooth = uniform_filter(grey, NOISE, mode="nearest")
    detail = smooth - uniform_filter(smooth, NEAR, mode="nearest")
    return [
        block for row in np.split(detail, N_BLOCKS) for block in np.split(row, N_BLOCKS, axis=1)
    ]


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = float(first.std() * second.std())
    return float((first * second).mean() / scale) if scale > 0 else 0.0
