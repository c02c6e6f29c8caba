"""Images from files: bytes -> (H, W, 3) uint8 RGB, or a DataError that names the file."""

import hashlib
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from tlcnn.data.dicom import decode_dicom, is_dicom
from tlcnn.data.files import FileRef, open_archive, read_file, reading
from tlcnn.data.progress import watch
from tlcnn.errors import DataError
from tlcnn.storage import digest_of

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # no format that runs code or other decoders
MAX_PIXELS = 25_000_000
FULL_BITS = 16  # significant bits of 16-bit images, of which the upper 8 are used
_PNG, _PNG_TEXTS = b"\x89PNG\r\n\x1a\n", (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_TIFF_BITS = 258  # the tag of bits per sample


def decode_image(
    content: bytes,
    name: str,
    reduce_for: tuple[int, str] | None = None,
    bits: int = FULL_BITS,
) -> np.ndarray:
    """Decode a whole image.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB, transparency is laid over white, the
    EXIF orientation is applied, and only the first frame of several is read. DICOM files are
    shown through their window.

    Args:
        name: the name of the image in error messages.
        reduce_for: side and fit that the image will be resized to; a large JPEG may then come out
            at a half, a quarter or an eighth, see `reduce_jpeg`.
        bits: the significant bits of 16-bit grey images, of which the upper 8 are used.

    Returns:
        (H, W, 3) uint8 RGB, writable.

    Raises:
        DataError: no image, a broken or truncated one, more than `MAX_PIXELS`, or pixels without
            a fixed range (signed, float and 32-bit ones).
    """
    if is_dicom(content):
        return decode_dicom(content, name, MAX_PIXELS)
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            size = f"{image.width} x {image.height}"
            if reduce_for is not None:
                reduce_jpeg(image, *reduce_for)
            if image.width * image.height > MAX_PIXELS:
                may_reduce = image.format == "JPEG" and reduce_for is None
                raise DataError(
                    f"{name} is refused: {size} pixels, at most {MAX_PIXELS:,} are decoded. "
                    + ("dataset.decode=scaled reads it smaller, or s" if may_reduce else "S")
                    + "ave it smaller"
                )
            image.load()
            return make_pixels(image, name, bits)
    except (DataError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} is refused: more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's decoders answer broken bytes with any type of error
        stripped = _strip_png(content)  # a large profile or text is no reason to refuse pixels
        if len(stripped) < len(content):
            return decode_image(stripped, name, reduce_for, bits)
        raise DataError(f"{name} {_explain(content, error)}") from error


def _strip_png(content: bytes) -> bytes:
    """Return a PNG without its colour profile and texts, which decide no pixel; others as is."""
    if not content.startswith(_PNG):
        return content
    chunks, start = [_PNG], len(_PNG)
    while start + 12 <= len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        if content[start + 4 : start + 8] not in _PNG_TEXTS:
            chunks.append(content[start:end])
        start = end
    return b"".join(chunks)


def make_pixels(image: Image.Image, name: str, bits: int) -> np.ndarray:
    """Return an image that Pillow has opened as (H, W, 3) uint8 RGB, as `decode_image` does."""
    check_range(image, name)
    return np.array(_make_rgb(_make_upright(image), bits))


def reduce_jpeg(image: Image.Image, size: int, fit: str) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8, at no less than twice what it will be resized to.

    libjpeg then leaves out the higher frequencies of each block of 8 x 8, which the resizing would
    take away. Other formats are decoded as they are.
    """
    side = (max if fit == "pad" else min)(image.size)  # the one that becomes `size`
    factor = next((n for n in (8, 4, 2) if side >= 2 * n * size), 1)
    if factor > 1:
        image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))


def _explain(content: bytes, error: Exception) -> str:
    if not content:
        return "is empty (0 bytes): fetch it again"
    if content.lstrip()[:1] == b"<":
        return "is a web page or XML, not an image: its download failed, fetch it again"
    if isinstance(error, UnidentifiedImageError):
        return f"is not an image of a known format ({', '.join(FORMATS)})"
    return f"is broken or truncated ({error}): fetch it again"


def check_range(image: Image.Image, name: str) -> None:
    """Raise DataError when pixels have no fixed range, saying what they are."""
    if image.mode not in ("I", "F"):
        return
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    is_short = tags.get(_TIFF_BITS, (32,)) in (16, (16,))
    kind = "float" if image.mode == "F" else "signed 16-bit" if is_short else "32-bit"
    raise DataError(
        f"{name} has {kind} pixels, which have no fixed range. Save all images of the dataset as "
        "8 or 16 bits without sign, on one scale (of CT: with one window)"
    )


def _make_rgb(image: Image.Image, bits: int) -> Image.Image:
    if image.mode.startswith("I;16"):
        upper = np.minimum(np.asarray(image) >> (bits - 8), 255)  # of other datasets, too
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _make_upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # broken EXIF data beside good pixels: many cameras' software writes it
        return image


def is_deep_suffix(suffix: str) -> bool:
    """Whether a suffix, in lower case, is that of a format with 16-bit images."""
    return suffix in (".png", ".tif", ".tiff")


class FileImages:
    """Images in files and zip archives. Implements `Images`.

    Args:
        reduce_for, bits: as in `decode_image`.
    """

    def __init__(
        self,
        refs: Sequence[FileRef],
        reduce_for: tuple[int, str] | None = None,
        bits: int = FULL_BITS,
    ) -> None:
        self.refs, self.reduce_for, self.bits = tuple(refs), reduce_for, bits
        self._archives: dict[tuple[int, Path], zipfile.ZipFile] = {}

    def __len__(self) -> int:
        return len(self.refs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Open files stay in their process.
        return FileImages, (self.refs, self.reduce_for, self.bits)

    def signature(self) -> Any:
        """Return a digest of names, sizes and times of change; reads no content."""
        stats = {}
        for path in {ref.path for ref in self.refs}:
            with reading(path):
                status = path.stat()
            stats[path] = [os.path.abspath(path), status.st_size, status.st_mtime_ns]
        rows = [[*stats[ref.path], ref.member, ref.crc] for ref in self.refs]
        return {"n_images": len(rows), "stat": digest_of(rows)}

    def load_digests(self) -> list[str]:
        """Return the sha256 of each file's bytes, in order, with all cores."""

        def compute_digests(positions: range) -> list[str]:
            return [hashlib.sha256(self.read(p)).hexdigest() for p in positions]

        # A task for every file would take longer than reading it.
        parts = [range(i, min(i + 64, len(self))) for i in range(0, len(self), 64)]
        text, digests = "reading image files, once", list[str]()
        bar = tqdm(total=len(self), desc=text, unit="image", disable=None, delay=2, leave=False)
        with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
            digested = pool.map(compute_digests, parts)
            for part in watch(digested, len(parts), f"{text}, 64 at a time"):
                digests += part
                bar.update(len(part))
        return digests

    def load(self, position: int) -> np.ndarray:
        """Return one decoded image, (H, W, 3) uint8 RGB. Raises DataError naming the file."""
        name = str(self.refs[position])
        return decode_image(self.read(position), name, self.reduce_for, self.bits)

    def with_bits(self, bits: int) -> "FileImages":
        """Return the same images, read with so many significant bits where they have 16."""
        return self if bits == self.bits else FileImages(self.refs, self.reduce_for, bits)

    @property
    def may_be_deep(self) -> bool:
        """Whether a file's suffix is that of a format with 16-bit images."""
        return any(is_deep_suffix(ref.suffix) for ref in self.refs)

    def read(self, position: int) -> bytes:
        """Return one file's bytes. Raises DataError naming the file."""
        ref = self.refs[position]
        key = (os.getpid(), ref.path)  # a fork would share the position in an open file
        if ref.member and key not in self._archives:
            self._archives[key] = open_archive(ref.path)
        return read_file(ref, self._archives.get(key))
