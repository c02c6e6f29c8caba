"""Augmentation as batched tensor code; a view's pixels depend on (view number, image) alone.

    image ids -> keys --+-> view numbers -> params (N, P) -> pixels (N, 3, H, W)
    seed, epoch --------+   (numpy, counter-based hash)     (torch, on the batch's device)

Nothing is drawn from a generator, so order, batch size, workers and device count do not change a
view. Every operation stays within one image and gives it the same bits in every batch:
`tests/test_augment.py` shows this for batches of 1 to 130.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tlcnn.data.parts import lend, run_parts, split_evenly
from tlcnn.data.policy import Policy, Scaling
from tlcnn.device import wait_for_copies

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_VIEW_STREAM, _PARAM_STREAM = 0x01, 0x02
_N_DRAWS = 12
_N_ERASE_DRAWS = 5  # behind the others, so that erasing changes no other parameter
_ERASED_AREA, _ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)  # of the image; Zhong et al. 2020
PART_PIXELS = 2**16  # pixels of views that a thread takes through all operations at once
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

PARAMS = (
    *("yy", "yx", "xy", "xx"),  # source offset = matrix @ output offset, both from the centre
    *("shift_y", "shift_x"),  # in the margin: 0 top or left, 1 bottom or right
    "dihedral",  # 0-7: the bits are flip x, flip y, transpose
    *("red", "green", "blue"),  # brightness times tint
    *("contrast", "saturation"),
)


# ---- which view: numpy, 64-bit hashes -----------------------------------------------------------


def make_image_keys(ids: Sequence[str]) -> np.ndarray:
    """Return one number an image, (N,) uint64, that depends on its id alone."""
    digests = [hashlib.blake2b(str(i).encode(), digest_size=8).digest() for i in ids]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def mix(keys: np.ndarray | np.uint64, *numbers: int | np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each key with the numbers, of the shape of `keys`.

    Each number is folded in by one round of splitmix64 (Steele et al. 2014).
    """
    state = _scramble(np.asarray(keys, dtype=np.uint64))
    for number in numbers:
        if isinstance(number, int):
            number = np.asarray(number & 0xFFFF_FFFF_FFFF_FFFF, dtype=np.uint64)
        state = _scramble(state ^ _scramble(np.asarray(number, dtype=np.uint64)))
    return state


def _scramble(state: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # of single numbers; arrays wrap silently
        state = state + _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def view_numbers(
    image_keys: np.ndarray,
    *,
    seed: int,
    epoch: int,
    n_views: int | None,
    repeats: np.ndarray | None = None,
) -> np.ndarray:
    """Return which view of each image an epoch of a seed shows, (N,) uint64.

    All seeds share a pool of `n_views`; without one, every (seed, epoch) is a view of its own.

    Args:
        repeats: (N,) how often each image came before in the epoch; it is then another view.
            None: every image comes once.
    """
    time = epoch if repeats is None else epoch + (repeats.astype(np.uint64) << np.uint64(32))
    if n_views is None:
        number = mix(np.uint64(0), seed, time, _VIEW_STREAM)
        return np.full(len(image_keys), number, dtype=np.uint64)
    return mix(image_keys, seed, time, _VIEW_STREAM) % np.uint64(n_views)


def draw_params(view_numbers: np.ndarray, image_keys: np.ndarray, policy: Policy) -> np.ndarray:
    """Return the parameters of each view, (N, P) float32, columns as in `PARAMS`.

    If the policy erases, four more columns are the top, bottom, left and right of what is erased.

    They are computed in float64 on the CPU, so that every device gets the same numbers.
    """
    base = mix(image_keys, np.asarray(view_numbers, dtype=np.uint64), _PARAM_STREAM)
    n_draws = _N_DRAWS + (_N_ERASE_DRAWS if policy.erase else 0)
    draws = _scramble(base[:, None] + np.arange(n_draws, dtype=np.uint64) * _GOLDEN)
    uniform = (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53  # (N, n_draws) in [0, 1)
    # A draw has the same meaning in every policy, so equal ranges give equal values.
    turn, shift_y, shift_x, size, aspect, angle, *colour = uniform[:, :_N_DRAWS].T

    code = np.floor(turn * {"none": 1, "mirror": 2, "all": 8}[policy.dihedral])
    shifts = [shift_y, shift_x] if policy.shift else [np.full_like(turn, 0.5)] * 2
    matrix = _make_matrix(code, size, aspect, angle, policy)
    strengths = (policy.brightness, policy.contrast, policy.saturation, *[policy.tint] * 3)
    factors = [1.0 + (2.0 * u - 1.0) * x for u, x in zip(colour, strengths, strict=True)]
    brightness, contrast, saturation, *tints = factors
    channels = [brightness * tint for tint in tints]
    columns = [*matrix, *shifts, code, *channels, contrast, saturation]
    if policy.erase:
        columns += _make_rectangles(uniform[:, _N_DRAWS:], policy.erase)
    return np.stack(columns, axis=1).astype(np.float32)


def _make_matrix(
    code: np.ndarray, size: np.ndarray, aspect: np.ndarray, angle: np.ndarray, policy: Policy
) -> list[np.ndarray]:
    """Return yy, yx, xy, xx of (rotation / size) @ dihedral, each (N,)."""
    low, high = np.log(policy.scale[0]), np.log(policy.scale[1])
    step = np.exp(-(low + size * (high - low)))  # stored pixels an output pixel
    stretch = np.exp((aspect - 0.5) * np.log(policy.aspect))
    radians = np.deg2rad((2.0 * angle - 1.0) * policy.rotate)
    sine, cosine = np.sin(radians), np.cos(radians)
    rows = (cosine * step * stretch, -sine * step * stretch)
    columns = (sine * step / stretch, cosine * step / stretch)
    bits = code.astype(np.int64)
    flip_x, flip_y, transpose = 1 - 2 * (bits & 1), 1 - 2 * (bits >> 1 & 1), bits >> 2 == 1
    yy, yx = rows[0] * flip_y, rows[1] * flip_x
    xy, xx = columns[0] * flip_y, columns[1] * flip_x
    swapped = [(yx, yy), (yy, yx), (xx, xy), (xy, xx)]
    return [np.where(transpose, swap, plain) for swap, plain in swapped]


def _make_rectangles(draws: np.ndarray, probability: float) -> list[np.ndarray]:
    """Return top, bottom, left and right of what is erased, each (N,), empty where nothing is.

    The draws are (N, 5), from [0, 1). A side is at most that of the image.
    """
    whether, area, aspect, down, across = draws.T
    share = _ERASED_AREA[0] + area * (_ERASED_AREA[1] - _ERASED_AREA[0])
    low, high = np.log(_ERASED_ASPECT)
    ratio = np.exp((low + aspect * (high - low)) / 2)  # the root of height over width
    is_erased = whether < probability
    sides = [np.where(is_erased, np.minimum(1, np.sqrt(share) * r), 0) for r in (ratio, 1 / ratio)]
    starts = [draw * (1 - side) for draw, side in zip((down, across), sides, strict=True)]
    return [
        edge for start, side in zip(starts, sides, strict=True) for edge in (start, start + side)
    ]


# ---- pixels: torch, on the device of the images -------------------------------------------------


def make_image_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor that shares an array's memory, also a read-only one's. Never write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(np.asarray(array))


def apply_augment(
    images: Tensor, params: Tensor, policy: Policy, *, image_size: int, scaling: Scaling
) -> Tensor:
    """Return the views of some images, (N, 3, H, W) float32, normalised, channels last.

    Args:
        images: (N, S, S, 3) uint8 with S >= H = W = `image_size`. It is not changed.
        params: (N, P) float32 on the same device, from `draw_params` with the same policy.
    """
    views = _make_views(images, params, policy, image_size, scaling)
    if policy.erase:
        views.masked_fill_(find_inside(params[:, -4:].T, image_size), 0.0)  # the mean colour
    return views


def find_inside(edges: Tensor, size: int) -> Tensor:
    """Return which pixels have their centre in rectangles, (N, 1, size, size) bool.

    The edges, (4, N), are top, bottom, left and right as shares of the side.
    """
    top, bottom, left, right = edges
    centres = (torch.arange(size, device=edges.device) + 0.5) / size
    rows = (centres >= top[:, None]) & (centres < bottom[:, None])
    columns = (centres >= left[:, None]) & (centres < right[:, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _make_views(
    images: Tensor, params: Tensor, policy: Policy, image_size: int, scaling: Scaling
) -> Tensor:
    """Return what `apply_augment` returns, before parts are erased."""
    if not policy.changes_pixels:
        return make_eval_batch(images, image_size=image_size, scaling=scaling)
    shape, device = (len(images), image_size, image_size, 3), images.device
    if not (policy.resamples or policy.recolours):
        return _normalize(
            lambda part: _crop(images[part], params[part], image_size), shape, scaling, device
        )
    views = torch.empty(shape, device=device)
    rows = _make_rows(params, image_size, images.shape[1])
    matrices, offsets = _make_colours(params, scaling)

    def make_part(part: slice) -> None:
        if policy.resamples:
            planes = _warp(images[part], rows[part], image_size)
        else:
            planes = _crop(images[part], params[part], image_size).permute(0, 3, 1, 2).float()
        n, _, height, width = planes.shape  # (n, 3, H, W); matrix @ channels + offset of them:
        coloured = lend("coloured", (n, 3, height * width), device)
        torch.baddbmm(offsets[part], matrices[part], planes.flatten(2), out=coloured)
        # Faster than a copy between layouts.
        torch.stack(coloured.view(planes.shape).unbind(1), dim=3, out=views[part])

    _run(make_part, len(images), image_size, device)
    return views.permute(0, 3, 1, 2)


def make_eval_batch(images: Tensor, *, image_size: int, scaling: Scaling) -> Tensor:
    """Return centre crops, (N, 3, H, W) float32, normalised, channels last.

    The images are (N, S, S, 3) uint8 with S >= H = W = `image_size`.
    """
    start = (images.shape[1] - image_size) // 2
    end = start + image_size
    crops = images[:, start:end, start:end]
    return _normalize(lambda part: crops[part], crops.shape, scaling, images.device)


def _normalize(
    make_crops: Callable[[slice], Tensor],
    shape: Sequence[int],
    scaling: Scaling,
    device: torch.device,
) -> Tensor:
    """Return (N, H, W, 3) uint8 crops as (N, 3, H, W) float32, (x / 255 - mean) / std."""
    n, height, width, _ = shape
    scale, offset = _normalization(scaling, device)
    # A row of 3 W numbers: broadcasting over 3 channels would leave loops of three.
    scale, offset = scale.repeat(width), offset.repeat(width)
    views = torch.empty(n, height, width, 3, device=device)

    def make_part(part: slice) -> None:
        rows = views[part].copy_(make_crops(part)).view(-1, width * 3)
        rows.mul_(scale).add_(offset)

    _run(make_part, n, height, device, PART_PIXELS * 3)
    return views.permute(0, 3, 1, 2)


def _run(
    make_part: Callable[[slice], None],
    n_images: int,
    size: int,
    device: torch.device,
    n_pixels: int = PART_PIXELS,
) -> None:
    """Make a batch in parts that stay in the CPU's cache; a GPU makes it as one part.

    Parts have more pixels where a pixel takes so little work that the calls count.
    """
    if device.type == "cpu":
        most = max(1, n_pixels // size**2)
        run_parts(make_part, split_evenly(n_images, most, torch.get_num_threads()))
    else:
        make_part(slice(None))


def _normalization(scaling: Scaling, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the scale and the offset, both (3,): (x / 255 - mean) / std = x * scale + offset."""
    scale = tuple(1.0 / (255.0 * std) for std in scaling[1])
    offset = tuple(-mean / std for mean, std in zip(*scaling, strict=True))
    return _constant(scale, device), _constant(offset, device)


@cache  # forever: a recorded update reads them where they are
def _constant(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Return numbers on a device; they are sent once, because a GPU may wait for a transfer."""
    with torch.inference_mode(False):
        constant = torch.tensor(numbers, dtype=torch.float32).to(device)
    wait_for_copies(device)
    return constant


def _column(params: Tensor, name: str) -> Tensor:
    return params[:, PARAMS.index(name)]


def _crop(images: Tensor, params: Tensor, size: int) -> Tensor:
    """Return shifted, flipped and turned crops, (N, size, size, 3) uint8: one gather, no blur."""
    n, side = images.shape[:2]
    code = _column(params, "dihedral").long()[:, None]
    ramp = torch.arange(size, device=images.device)
    margin = side - size
    rows, columns = (
        (_column(params, f"shift_{axis}") * (margin + 1))
        .floor()
        .long()
        .clamp_(max=margin)[:, None]
        + torch.where(code >> bit & 1 == 1, size - 1 - ramp, ramp)
        for axis, bit in (("y", 1), ("x", 0))
    )
    rows = rows * side
    transpose = code >> 2 == 1
    down, across = torch.where(transpose, columns, rows), torch.where(transpose, rows, columns)
    first = torch.arange(n, device=images.device)[:, None] * (side * side)
    pixel = (first + down)[:, :, None] + across[:, None, :]  # (N, size, size)
    return images.reshape(-1, 3).index_select(0, pixel.view(-1)).view(n, size, size, 3)


def _make_rows(params: Tensor, size: int, side: int) -> Tensor:
    """Return the terms of each row y of a grid, (N, 2, 2 size): ramp[y] * first + second.

    A row is y, x, y, x, ... of the points it samples, negative, in the units of grid_sample: the
    stored image spans -1 to 1.
    """
    n = len(params)
    ramp = _make_ramps(size, side, params.device)[:, :1]
    matrix = params[:, :4].view(n, 2, 2)  # source offset = matrix @ output offset
    centre = params[:, 4:6].mul(-2).add_(1).mul_((side - size) / side)
    rows = torch.empty(n, 2, size, 2, device=params.device)
    rows[:, 0] = -matrix[:, None, :, 0]
    torch.sub(centre[:, None], matrix[:, None, :, 1] * ramp, out=rows[:, 1])
    return rows.view(n, 2, 2 * size)


@cache  # forever, as `_constant`
def _make_ramps(size: int, side: int, device: torch.device) -> Tensor:
    """Return (size, 2): how far an output pixel is from the centre, in grid_sample's units; 1."""
    with torch.inference_mode(False):
        ramp = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        ramps = torch.stack([ramp * (2 / side), torch.ones(size)], dim=1).to(device)
    wait_for_copies(device)
    return ramps


def _warp(images: Tensor, rows: Tensor, size: int) -> Tensor:
    """Return bilinear samples, (N, 3, size, size) float32, mirrored beyond the stored image."""
    ramps = _make_ramps(size, images.shape[1], rows.device).expand(len(rows), -1, -1)
    shape = (len(rows), size, 2 * size)
    grid = torch.bmm(ramps, rows, out=lend("grid", shape, rows.device))
    # 2 clamp(u) - u mirrors u once, exactly; grid_sample's own reflection takes a fifth longer.
    inside = torch.clamp(grid, -1, 1, out=lend("inside", shape, rows.device))
    grid = grid.sub_(inside, alpha=2).view(-1, size, size, 2)  # the points to sample
    pixels = lend("pixels", images.shape, images.device).copy_(images)
    # The points are y, x, so the image is given as (N, 3, W, H): as it is stored, and as fast.
    pixels = pixels.permute(0, 3, 2, 1)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _make_colours(params: Tensor, scaling: Scaling) -> tuple[Tensor, Tensor]:
    """Return matrices (N, 3, 3) and offsets (N, 3, 1): saturation, contrast, light, normalisation.

    Together they are one affine map of three channels from 0 to 255, without clipping between.
    """
    scale, offset = _normalization(scaling, params.device)
    saturation = _column(params, "saturation")[:, None, None]
    contrast = _column(params, "contrast")[:, None]
    light = params[:, PARAMS.index("red") : PARAMS.index("blue") + 1]  # (N, 3)
    identity = _constant((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), params.device).view(3, 3)
    grey = _constant(_LUMA, params.device)
    mixing = identity * saturation + grey * (1 - saturation)  # (N, 3, 3)
    # light * (contrast * (x - mean) + mean), then (. - mean) / std
    gain = light * contrast * scale
    bias = offset - light * (1 - contrast) * offset
    return mixing * gain[:, :, None], bias[:, :, None]
