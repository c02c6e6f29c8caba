"""Near-duplicates: the same picture again, saved at another quality, size or brightness.

    images -> fingerprints (64 bits each) -> pairs at a small Hamming distance -> pixels confirm

Fingerprints only propose: among skin lesions, different ones often share nearly all bits. A copy
may also be squashed or cut to a square, as republished datasets are, and mirrored or turned by
quarters. So an image has a fingerprint of its whole and of its centre square, in eight positions
each. Copies that are turned by other angles, or cut elsewhere, are other pictures here
(`tlcnn.data.grouping` finds the former).
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tlcnn.data.dicom import MissingPackage
from tlcnn.data.index import Images
from tlcnn.data.progress import remember_parts, watch
from tlcnn.errors import DataError

FINGERPRINT_VERSION = 2
CONFIRM_VERSION = 1
PART = 1000  # images or pairs after which their results are stored
NO_FINGERPRINT = 0  # a broken or blank image, which is near to no other
NO_SIDES = [1, 1]  # of an image that cannot be decoded
MAX_BITS = 8  # of 64: the largest distance of pairs whose pixels are compared
MAX_TURNED_BITS = 4  # of mirrored and turned ones, of which there are seven times as many
N_TURNS = 8  # positions of a square: see `turn_pixels`
SAME_SHAPE, SQUASHED, CUT = range(3)  # how the shape of a copy came about

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


@dataclass(frozen=True)
class Fingerprints:
    """The perceptual hashes of N images.

    Attributes:
        bits: (N, 2, N_TURNS) uint64 of the whole image and of its centre square, in all positions;
            `NO_FINGERPRINT` for images that cannot be decoded and for blank ones.
        sides: (N, 2) height and width in pixels; 1 for images that cannot be decoded.
    """

    bits: np.ndarray
    sides: np.ndarray

    def __len__(self) -> int:
        return len(self.bits)

    @property
    def is_missing(self) -> np.ndarray:
        """(N,) bool: images without a fingerprint of the whole."""
        return self.bits[:, 0, 0] == NO_FINGERPRINT

    @property
    def is_square(self) -> np.ndarray:
        """(N,) bool: images whose sides differ by rounding only."""
        return self.sides.max(axis=1) <= MAX_STRETCH * self.sides.min(axis=1)

    def take(self, rows: np.ndarray) -> "Fingerprints":
        """Return those of some rows."""
        return Fingerprints(self.bits[rows], self.sides[rows])


def load_fingerprints(images: Images, digests: Sequence[str], cache_dir: Path) -> Fingerprints:
    """Return each image's fingerprints, remembered by the images' content digests.

    Raises:
        MissingPackage: a package that reads the images is not installed.
        StorageError: the cache folder cannot be written.
    """

    def compute(position: int) -> tuple[list[int], list[int]]:
        try:
            pixels = images.load(position)
        except MissingPackage:
            raise
        except DataError:
            return [NO_FINGERPRINT] * 2 * N_TURNS, NO_SIDES
        return make_fingerprints(pixels).ravel().tolist(), [*pixels.shape[:2]]

    def compute_part(positions: range) -> list[tuple[list[int], list[int]]]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compute, positions))

    rows = remember_parts(
        cache_dir,
        "fingerprints",
        [[FINGERPRINT_VERSION, digest] for digest in digests],
        compute_part,
        size=PART,
        what="fingerprints of images",
        is_failure=lambda row: row[1] == NO_SIDES,
    )
    bits = np.array([row[0] for row in rows], "u8").reshape(-1, 2, N_TURNS)
    return Fingerprints(bits, np.array([row[1] for row in rows], np.int64).reshape(-1, 2))


def make_fingerprints(pixels: np.ndarray) -> np.ndarray:
    """Return the 64-bit perceptual hashes of an (H, W, 3) uint8 image (Zauner 2010, DCT).

    Returns:
        (2, N_TURNS) uint64: of the whole and of its centre square, as it is and in the other
        positions of `turn_pixels`, whose cosines have other signs and places.

    Example:
        >>> int(make_fingerprints(np.full((8, 8, 3), 200, np.uint8)).sum()) == NO_FINGERPRINT
        True
    """
    from scipy.fft import dctn

    fingerprints = np.full((2, N_TURNS), NO_FINGERPRINT, np.uint64)
    signs = np.where(np.arange(8) % 2, -1.0, 1.0)
    for row, part in enumerate((pixels, cut_square(pixels))):
        grey = Image.fromarray(part).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
        values = np.asarray(grey, np.float64)
        if values.std() < FLAT:
            continue
        waves = dctn(values)[:8, :8]
        for turn in range(N_TURNS):
            turned = waves.T if turn & 4 else waves
            turned = turned * (signs if turn & 1 else 1) * (signs[:, None] if turn & 2 else 1)
            bits = np.packbits(turned > np.median(turned))
            fingerprints[row, turn] = int.from_bytes(bits.tobytes(), "big")
    return fingerprints


def cut_square(pixels: np.ndarray) -> np.ndarray:
    """Return the centre square of an (H, W, 3) image."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def turn_pixels(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Return an (H, W, 3) image in one of the positions 0 (as it is) to 7 of a square.

    Bit 4 exchanges height and width, then bit 1 mirrors left and right, and bit 2 up and down.
    """
    turned = pixels.transpose(1, 0, 2) if turn & 4 else pixels
    turned = turned[:, ::-1] if turn & 1 else turned
    return np.ascontiguousarray(turned[::-1] if turn & 2 else turned)


def propose_copies(
    first: Fingerprints, second: Fingerprints, turns: Sequence[int], max_bits: int
) -> np.ndarray:
    """Return pairs that may show the same picture, and how: (M, 4) int64, sorted.

    A row has the positions in `first` and `second`, the shape (`SAME_SHAPE`, `SQUASHED` or `CUT`)
    and the position of `turn_pixels` that the first must be turned to. Two images have the same
    shape, or one of them is a square.
    """
    rows = [np.empty((0, 4), np.int64)]
    for turn in watch(turns, len(turns), "comparing fingerprints, positions"):
        pairs = find_near(first.bits[:, 0, turn], second.bits[:, 0, 0], max_bits)
        left = first.sides[pairs[:, 0]][:, :: -1 if turn & 4 else 1]
        right = second.sides[pairs[:, 1]]
        stretch = left[:, 0] * right[:, 1] / (left[:, 1] * right[:, 0])
        is_same = (stretch <= MAX_STRETCH) & (stretch >= 1 / MAX_STRETCH)
        has_square = first.is_square[pairs[:, 0]] | second.is_square[pairs[:, 1]]
        for shape, has_shape in ((SAME_SHAPE, is_same), (SQUASHED, ~is_same & has_square)):
            rows.append(_add_way(pairs[has_shape], shape, turn))
        for first_is_square in (True, False):  # a square is compared with images of other shapes
            firsts = np.flatnonzero(first.is_square == first_is_square)
            seconds = np.flatnonzero(second.is_square != first_is_square)
            near = find_near(first.bits[firsts, 1, turn], second.bits[seconds, 1, 0], max_bits)
            near = np.stack([firsts[near[:, 0]], seconds[near[:, 1]]], axis=1)
            rows.append(_add_way(near, CUT, turn))
    return np.unique(np.concatenate(rows), axis=0)


def _add_way(pairs: np.ndarray, shape: int, turn: int) -> np.ndarray:
    way = np.broadcast_to(np.array([shape, turn]), (len(pairs), 2))
    return np.concatenate([pairs, way], axis=1)


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


def is_same_picture(
    first: np.ndarray, second: np.ndarray, shape: int = SAME_SHAPE, turn: int = 0
) -> bool:
    """Confirm by pixels that two images show the same picture.

    Other JPEG qualities, sizes, brightness and contrast are the same picture; other photographs
    of the same thing are not. A blank image has nothing to confirm by: it is only the same as one
    with equal pixels. They are (H, W, 3) uint8 RGB.

    Args:
        shape, turn: how the second may be a copy of the first, as in `propose_copies`.
    """
    first = turn_pixels(first, turn)
    if first.shape == second.shape and np.array_equal(first, second):
        return True
    if shape == CUT:
        first, second = cut_square(first), cut_square(second)
    stretch = first.shape[0] * second.shape[1] / (first.shape[1] * second.shape[0])
    if shape == SAME_SHAPE and not 1 / MAX_STRETCH <= stretch <= MAX_STRETCH:
        return False
    left, right = _make_small(first), _make_small(second)
    return _correlate(left, right) >= MIN_WHOLE and _compare_detail(left, right) >= MIN_DETAIL


def load_confirmations(
    first: Images,
    second: Images,
    pairs: np.ndarray,
    digests: tuple[Sequence[str], Sequence[str]],
    cache_dir: Path,
) -> list[bool | None]:
    """Return what `confirm_pairs` does, remembered by the content digests of both images."""
    ways = [[digests[0][i], digests[1][j], *way] for i, j, *way in pairs.tolist()]
    return remember_parts(
        cache_dir,
        "confirmed",
        [[CONFIRM_VERSION, *way] for way in ways],
        lambda part: confirm_pairs(first, second, pairs[part.start : part.stop]),
        size=PART,
        what="comparing pixels of pairs",
        is_failure=lambda is_same: is_same is None,
    )


def confirm_pairs(first: Images, second: Images, pairs: np.ndarray) -> list[bool | None]:
    """Return whether each pair shows the same picture, with all cores.

    Pairs are (M, 4) rows of `propose_copies`, sorted. The answer is None where one of the images
    cannot be decoded.
    """

    def load(images: Images, position: int) -> np.ndarray | None:
        try:
            return images.load(int(position))
        except MissingPackage:
            raise
        except DataError:
            return None

    def confirm(block: np.ndarray) -> list[bool | None]:
        """Compare one image with its partners."""
        pixels = load(first, block[0, 0])
        results: list[bool | None] = []
        for _, position, shape, turn in block.tolist():
            partner = None if pixels is None else load(second, position)
            if pixels is None or partner is None:
                results.append(None)
            else:
                results.append(is_same_picture(pixels, partner, shape, turn))
        return results

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
