"""Skin under a dermatoscope: its tone and relief, the light that comes back, hair and camera."""

import numpy as np

from tlcnn.data.drawing.field import (
    Array,
    Draws,
    Frame,
    blur,
    develop,
    make_frame,
    make_slanted_light,
    noise,
    smoothstep,
)
from tlcnn.data.drawing.stroke import Stroke, curve, spots, strokes

# Colours are display RGB in [0, 1]; one unit of a pigment multiplies them by exp(-absorbance).
BARE_SKIN = np.array([0.93, 0.765, 0.72])
MELANIN = np.array([0.60, 0.93, 1.12])
BLOOD = np.array([0.15, 0.74, 0.60])

# Melanin of skin types I to VI (Fitzpatrick), and how often each is photographed.
SKIN_MELANIN = (0.0, 0.07, 0.17, 0.36, 0.66, 1.05)
SKIN_WEIGHTS = (0.20, 0.36, 0.24, 0.10, 0.06, 0.04)


def make_skin(frame: Frame, key: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the melanin and the blood of the skin itself, (H, W) each."""
    skin_type = Draws(*key, 1).choice(SKIN_WEIGHTS)
    draws = Draws(*key, 2)
    tone = SKIN_MELANIN[skin_type] + draws.uniform(-0.03, 0.06)
    relief = noise(frame, draws, 9, 26, slope=0.4, n_waves=40)
    clouds = noise(frame, draws, 0.8, 4, n_waves=16)
    furrows = np.exp(-((noise(frame, draws, 10, 13, slope=0, n_waves=20) / 0.22) ** 2))
    melanin = (tone + 0.05) * (1 + 0.10 * clouds + 0.07 * relief) + 0.035 * furrows
    flush = draws.uniform(0.0, 0.16)
    blood = flush * (1 + 0.5 * clouds) + 0.02 * relief + 0.03
    return melanin, np.maximum(blood, 0)


def reflect(melanin: Array, blood: Array) -> Array:
    """Return the colour (H, W, 3) of skin that holds this much of both pigments."""
    colour = zip(BARE_SKIN, MELANIN, BLOOD, strict=True)
    return np.stack([bare * np.exp(-melanin * m - blood * b) for bare, m, b in colour], axis=-1)


def apply_colour(picture: Array, cover: Array, colour: tuple[float, float, float]) -> None:
    """Blend a colour into the picture (H, W, 3) where `cover` (H, W) is above 0, in place."""
    for channel, value in enumerate(colour):
        plane = picture[..., channel]
        plane += cover * (value - plane)


def apply_hair(picture: Array, patient: Draws, photo: Draws) -> None:
    """Draw the hairs of this photograph, in the colour and density of its patient, in place."""
    density = patient.uniform() ** 2.5
    dark = patient.uniform(0.08, 0.30)
    is_fair = patient.chance(0.12)
    colour = (0.72, 0.60, 0.46) if is_fair else (dark * 1.25, dark * 0.95, dark * 0.8)
    lean = patient.uniform(0, np.pi)
    hairs = []
    for _ in range(int(density * 15 * photo.uniform(0.3, 1.3))):
        angle = lean + photo.uniform(-0.5, 0.5) + (np.pi if photo.chance(0.3) else 0)
        middle = photo.array(2, low=-1.0, high=1.0)
        length = photo.uniform(0.8, 2.6)
        start = middle - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
        width = photo.uniform(0.014, 0.030)
        points = curve(photo, start, angle, length, photo.uniform(-0.7, 0.7), 0.04, n=14)
        hairs.append(Stroke(points, width, width * 0.5))
    if hairs:
        apply_colour(picture, 0.85 * strokes(make_frame(picture.shape[0]), hairs), colour)


def photograph(picture: Array, draws: Draws) -> Array:
    """Return the picture (H, W, 3) uint8 as a dermatoscope takes it."""
    size = picture.shape[0]
    frame = make_frame(size)
    picture = blur(picture, size * (0.0025 + 0.008 * draws.uniform() ** 3))
    if draws.chance(0.14):  # air in the contact gel: bright rings with a highlight
        count = draws.count(1, 4)
        points = draws.array(count, 2, low=-0.95, high=0.95)
        radii = draws.array(count, low=0.04, high=0.13)
        outer = spots(frame, points, radii, softness=0.2)
        inner = spots(frame, points, radii * 0.78, softness=0.35)
        apply_colour(picture, 0.35 * np.clip(outer - inner, 0, 1), (1.0, 0.98, 0.96))
        glint = spots(frame, points - radii[:, None] * 0.4, radii * 0.22)
        apply_colour(picture, 0.75 * glint, (1.0, 1.0, 1.0))
    if draws.chance(0.12):  # the millimetre scale along one side
        edge = draws.uniform(0.82, 0.93)
        ticks = np.arange(-0.95, 0.95, draws.uniform(0.11, 0.16))
        turn = make_frame(2, angle=draws.count(0, 3) * np.pi / 2).matrix
        lines = []
        for i, tick in enumerate(ticks):
            end = edge - (0.12 if i % 5 == 0 else 0.06)
            lines.append(Stroke(np.array([[tick, edge], [tick, end]]) @ turn.T, 0.012, 0.012))
        apply_colour(picture, 0.8 * strokes(frame, lines), (0.10, 0.09, 0.10))
    light = make_slanted_light(frame, draws, 0.09)
    centre = draws.array(2, low=-0.15, high=0.15)
    far = np.hypot(frame.u - centre[0], frame.v - centre[1])
    light -= draws.uniform(0.02, 0.16) * np.maximum(far - 0.3, 0) ** 2  # darker corners
    if draws.chance(0.14):  # the rim of the dermatoscope
        rim = draws.uniform(1.08, 1.3)
        light *= 1 - 0.93 * smoothstep(rim - 0.03, rim + 0.05, far)
    white_balance = 1 + draws.array(3, low=-0.09, high=0.09)
    picture = picture * light[..., None]
    picture *= white_balance * draws.uniform(0.86, 1.10)
    return develop(picture, draws, gamma=(0.88, 1.15), grain=(0.01, 0.035))
