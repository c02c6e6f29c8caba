"""DICOM files (extra `tlcnn[dicom]`): the first frame as a viewer shows it, in 8 bits."""

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from tlcnn.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom", ".ima")


class MissingPackage(DataError):
    """A file that a package reads which is not installed: no fault of the file."""


def is_dicom(content: bytes) -> bool:
    """Whether bytes begin as a DICOM file does."""
    return content[128:132] == b"DICM"


def decode_dicom(content: bytes, name: str, max_pixels: int) -> np.ndarray:
    """Decode the first frame of a DICOM file.

    Grey values are rescaled (as CT to Hounsfield units) and seen through the file's first window
    (DICOM PS3.3 C.11.2.1); without a window, the range of the stored bits is used. MONOCHROME1,
    where low values are bright, is inverted.

    Args:
        name: the name of the image in error messages.

    Returns:
        (H, W, 3) uint8 RGB, writable.

    Raises:
        MissingPackage: pydicom is missing.
        DataError: the file is broken, or it has more than `max_pixels`.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels import apply_color_lut, apply_rescale, pixel_array
    except ImportError:
        raise MissingPackage(
            f"{name} is a DICOM file: pip install 'tlcnn[dicom]', or save it as PNG"
        ) from None
    try:
        file = dcmread(BytesIO(content))
        if file.Rows * file.Columns > max_pixels:
            size = f"{file.Columns} x {file.Rows}"
            raise DataError(
                f"{name} is refused: {size} pixels, at most {max_pixels:,} are decoded"
            )
        stored = pixel_array(file, index=0)
        photometric = file.PhotometricInterpretation
        if photometric == "PALETTE COLOR":
            return _scale(
                apply_color_lut(stored, file),
                0,
                2 ** file.RedPaletteColorLookupTableDescriptor[2] - 1,
            )
        if stored.ndim == 3:  # RGB, which YBR was converted to
            return _scale(stored, 0, 2**file.BitsStored - 1)
        low, high = _find_range(file)
        shown = _apply_window(apply_rescale(stored, file), file)
        if shown is None:
            shown = (stored.astype(np.float64) - low) / (high - low)
        shown = 1 - shown if photometric == "MONOCHROME1" else shown
        return np.repeat(_scale(shown, 0, 1)[..., None], 3, axis=2)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # pydicom answers broken bytes with any type of error
        raise DataError(f"{name} is a DICOM file that cannot be read ({error})") from error


def _find_range(file: "Dataset") -> tuple[int, int]:
    """Return the least and the largest value that the stored bits can hold."""
    bits = file.BitsStored
    return (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if file.PixelRepresentation else (0, 2**bits - 1)
    )


def _apply_window(values: np.ndarray, file: "Dataset") -> np.ndarray | None:
    """Return values from 0 to 1 as the file's first window shows them.

    None without one: its tags are missing or empty, or its width is not above 0.
    """
    tags = [file.get(name) for name in ("WindowCenter", "WindowWidth")]
    numbers = [np.atleast_1d(np.asarray(tag, dtype=np.float64)) for tag in tags]
    if not all(number.size and np.isfinite(number[0]) for number in numbers):
        return None
    centre, width = (float(number[0]) for number in numbers)
    if width <= 0:
        return None
    function = file.get("VOILUTFunction", "LINEAR")
    values = values.astype(np.float64)
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    return np.clip((values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5, 0, 1)


def _scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as uint8, where low, and what is below, becomes 0 and high 255."""
    scaled = np.round(255 * (values.astype(np.float64) - low) / (high - low))
    return np.clip(scaled, 0, 255).astype(np.uint8)
