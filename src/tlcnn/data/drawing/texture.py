"""Natural textures: edges, blobs, nets, branches and grain, in colours that hardly tell.

key -> a tone and a part for every pixel (what the texture is)
    -> two palettes, mostly its own, at times another texture's (what it is coloured like)
    -> light and camera
"""

from collections.abc import Callable

import numpy as np

from tlcnn.data.drawing.field import (
    Array,
    Draws,
    Frame,
    blur,
    cells,
    make_frame,
    noise,
    smoothstep,
)
from tlcnn.data.drawing.stroke import Stroke, curve, strokes, tree

Fields = tuple[Array, Array]  # tone, part: (H, W) in about [0, 1] each
Colour = tuple[float, float, float]


def _bark(frame: Frame, draws: Draws) -> Fields:
    bend = noise(frame, draws, 1, 4, n_waves=12)
    ridges = np.abs(noise(frame, draws, 5, 9, slope=0.3, n_waves=36, stretch=4.5) + 0.15 * bend)
    grain = noise(frame, draws, 8, 24, slope=0.6, n_waves=36, stretch=2.5)
    return smoothstep(0.0, 1.1, ridges) * 0.8 + 0.10 * grain, 0.5 + 0.35 * bend


def _berries(frame: Frame, draws: Draws) -> Fields:
    period = draws.uniform(0.26, 0.5)
    mesh = cells(frame.u / period, frame.v / period, draws, 0.55)
    size = 0.44 + 0.10 * mesh.value
    dome = np.sqrt(np.clip(1 - (mesh.near / size) ** 2, 0, 1))
    light = 0.25 + 0.5 * dome - 0.35 * (mesh.du + mesh.dv) * (dome > 0)
    glint = np.exp(-((mesh.du + 0.16) ** 2 + (mesh.dv + 0.16) ** 2) / 0.006)
    back = 0.16 + 0.08 * noise(frame, draws, 3, 10, n_waves=16)
    return np.where(dome > 0, light + 0.7 * glint, back), np.where(dome > 0, mesh.value * 0.5, 1.0)


def _branches(frame: Frame, draws: Draws) -> Fields:
    lines: list[Stroke] = []
    for _ in range(draws.count(2, 4)):
        turn = draws.uniform(0, 2 * np.pi)
        start = 1.5 * np.array([np.cos(turn), np.sin(turn)])
        inward = turn + np.pi + draws.uniform(-0.5, 0.5)
        lines += tree(draws, start, inward, draws.uniform(0.8, 1.2), draws.uniform(0.06, 0.14), 4)
    wood = strokes(frame, lines)
    sky = 0.72 + 0.12 * noise(frame, draws, 0.7, 4, n_waves=16)
    bark = 0.22 + 0.06 * noise(frame, draws, 8, 20, n_waves=16)
    return sky + wood * (bark - sky), 1 - wood


def _clouds(frame: Frame, draws: Draws) -> Fields:
    billow = noise(frame, draws, 0.7, 18, slope=1.15, n_waves=72)
    wisps = noise(frame, draws, 1, 12, slope=1.0, n_waves=36, stretch=0.6)
    cover = smoothstep(-0.9, 1.3, billow + 0.3 * wisps)
    return 0.25 + 0.7 * cover, 1 - cover


def _grass(frame: Frame, draws: Draws) -> Fields:
    tone = 0.18 + 0.05 * noise(frame, draws, 3, 12, n_waves=16)
    part = 0.5 + 0.3 * noise(frame, draws, 0.8, 3, n_waves=12)
    lean, spread = draws.uniform(0, 2 * np.pi), draws.uniform(0.25, 0.8)
    for layer in range(4):
        blades = [_blade(draws, lean + draws.uniform(-spread, spread)) for _ in range(34)]
        cover = strokes(frame, blades)
        tone = tone + cover * (0.34 + 0.16 * layer - tone)
    return tone, part


def _blade(draws: Draws, angle: float) -> Stroke:
    start = draws.array(2, low=-1.6, high=1.6)
    bend = draws.uniform(-0.8, 0.8)
    points = curve(draws, start, angle, draws.uniform(0.5, 1.3), bend, 0.03, n=7)
    return Stroke(points, draws.uniform(0.03, 0.06), 0.008)


def _leaves(frame: Frame, draws: Draws) -> Fields:
    tone = 0.14 + 0.04 * noise(frame, draws, 3, 10, n_waves=12)
    part = np.full_like(tone, 0.9)
    period = draws.uniform(0.45, 0.8)
    for layer in range(3):
        move = draws.array(2, low=-5, high=5)
        mesh = cells(frame.u / period + move[0], frame.v / period + move[1], draws, 0.8)
        turn = 2 * np.pi * mesh.value + layer
        along = mesh.du * np.cos(turn) + mesh.dv * np.sin(turn)
        across = np.abs(mesh.dv * np.cos(turn) - mesh.du * np.sin(turn))
        half = 0.26 * np.clip(1 - (along / 0.56) ** 2, 0, 1) * (1.15 - 0.4 * along)
        leaf = smoothstep(0.0, 0.03, half - across)
        veins = np.exp(-((across / 0.02) ** 2)) + 0.5 * np.cos(34 * (along - 0.8 * across)) ** 8
        shade = 0.34 + 0.12 * layer + 0.3 * np.clip(veins, 0, 1) * (across < half) + across * 0.5
        tone = tone + leaf * (shade - tone)
        part = part + leaf * (0.6 * mesh.value - part)
    return tone, part


def _marble(frame: Frame, draws: Draws) -> Fields:
    swirl = noise(frame, draws, 0.7, 6, slope=1.2, n_waves=40)
    cloud = noise(frame, draws, 0.7, 8, slope=0.9, n_waves=32)
    turn, rate = draws.uniform(0, np.pi), draws.uniform(2.5, 5)
    path = frame.u * np.cos(turn) + frame.v * np.sin(turn)
    veins = np.abs(np.sin(rate * path + 2.2 * swirl)) ** 0.45
    fine = np.abs(noise(frame, draws, 1.5, 7, slope=0.8, n_waves=32)) ** 0.5
    return 0.15 + 0.6 * veins * np.clip(0.45 + 0.5 * fine, 0, 1) + 0.09 * cloud, 0.5 + 0.3 * cloud


def _mud(frame: Frame, draws: Draws) -> Fields:
    period = draws.uniform(0.35, 0.7)
    bend = noise(frame, draws, 2, 9, n_waves=20), noise(frame, draws, 2, 9, n_waves=20)
    grain = noise(frame, draws, 8, 26, slope=0.4, n_waves=36)
    mesh = cells(frame.u / period + 0.09 * bend[0], frame.v / period + 0.09 * bend[1], draws, 1.0)
    wide = draws.uniform(0.05, 0.13)
    plate = smoothstep(0.25 * wide, wide, mesh.gap)
    curl = 0.15 * smoothstep(0.05, 0.5, mesh.gap)
    return plate * (0.68 - curl + 0.10 * mesh.value + 0.06 * grain) + 0.08, 0.6 * mesh.value


def _net(frame: Frame, draws: Draws) -> Fields:
    period = draws.uniform(0.16, 0.34)
    bend = noise(frame, draws, 0.7, 3, n_waves=12), noise(frame, draws, 0.7, 3, n_waves=12)
    warp, thick = draws.uniform(0.05, 0.5), draws.uniform(0.14, 0.32)
    u, v = frame.u / period + warp * bend[0], frame.v / period + warp * bend[1]
    mesh = cells(u, v, draws, draws.uniform(0.0, 0.4))
    lines = 1 - smoothstep(0.4 * thick, thick, mesh.gap)
    back = 0.25 + 0.13 * noise(frame, draws, 1, 6, n_waves=16)
    if draws.chance(0.5):
        return back + lines * (0.85 - back), 1 - lines
    return 1 - back - 0.1 + lines * (back - 0.75), lines


def _pebbles(frame: Frame, draws: Draws) -> Fields:
    period = draws.uniform(0.24, 0.55)
    bend = noise(frame, draws, 1, 5, n_waves=16), noise(frame, draws, 1, 5, n_waves=16)
    grain = noise(frame, draws, 8, 26, slope=0.3, n_waves=36)
    mesh = cells(frame.u / period + 0.15 * bend[0], frame.v / period + 0.15 * bend[1], draws, 0.95)
    dome = smoothstep(0.02, 0.55, mesh.gap) ** 0.6
    light = (0.30 + 0.55 * mesh.value) * (0.75 - 0.45 * (mesh.du + mesh.dv))
    return 0.06 + dome * (light + 0.05 * grain), (7 * mesh.value) % 1.0


def _ripples(frame: Frame, draws: Draws) -> Fields:
    rate = draws.uniform(3, 6)
    waves = noise(frame, draws, rate, 1.6 * rate, slope=0.8, n_waves=28, stretch=0.45)
    small = noise(frame, draws, 2 * rate, 4 * rate, slope=0.8, n_waves=28, stretch=0.6)
    height = waves + 0.3 * small
    glint = smoothstep(1.2, 2.0, height)
    return 0.42 + 0.2 * np.tanh(height) + 0.45 * glint, 0.5 + 0.3 * np.tanh(waves)


def _wood(frame: Frame, draws: Draws) -> Fields:
    bend = noise(frame, draws, 0.6, 2.5, n_waves=16, stretch=2)
    grain = noise(frame, draws, 12, 30, slope=0.3, n_waves=40, stretch=12)
    rate, centre = draws.uniform(5, 10), draws.array(2, low=-0.8, high=0.8)
    pull = draws.uniform(0.10, 0.5)  # from long planks to the rings of a stump
    rings = np.hypot(frame.u - centre[0], pull * (frame.v - centre[1])) + 0.07 * bend
    phase = (rate * rings) % 1.0
    year = phase * smoothstep(1.0, 0.86, phase)
    return 0.72 - 0.42 * year + 0.07 * grain, 0.5 + 0.3 * bend


DRAWINGS: dict[str, Callable[[Frame, Draws], Fields]] = {
    "bark": _bark, "berries": _berries, "branches": _branches, "clouds": _clouds,
    "grass": _grass, "leaves": _leaves, "marble": _marble, "mud": _mud, "net": _net,
    "pebbles": _pebbles, "ripples": _ripples, "wood": _wood,
}  # fmt: skip
TEXTURES = tuple(DRAWINGS)

# The darkest, middle and lightest colour of a part, and the same for the other part.
PALETTES: dict[str, tuple[Colour, Colour, Colour, Colour, Colour, Colour]] = {
    "bark": ((0.12, 0.09, 0.07), (0.42, 0.33, 0.26), (0.72, 0.64, 0.55),
             (0.10, 0.10, 0.06), (0.36, 0.36, 0.26), (0.70, 0.70, 0.56)),
    "berries": ((0.22, 0.02, 0.05), (0.70, 0.10, 0.14), (1.00, 0.85, 0.80),
                (0.03, 0.10, 0.03), (0.15, 0.34, 0.12), (0.55, 0.70, 0.35)),
    "branches": ((0.10, 0.07, 0.06), (0.40, 0.30, 0.24), (0.75, 0.65, 0.55),
                 (0.35, 0.45, 0.60), (0.62, 0.72, 0.85), (0.93, 0.94, 0.96)),
    "clouds": ((0.30, 0.36, 0.48), (0.66, 0.72, 0.80), (1.00, 0.99, 0.97),
               (0.12, 0.28, 0.58), (0.36, 0.56, 0.84), (0.72, 0.84, 0.97)),
    "grass": ((0.04, 0.10, 0.03), (0.28, 0.46, 0.12), (0.80, 0.88, 0.45),
              (0.10, 0.09, 0.03), (0.46, 0.44, 0.16), (0.92, 0.86, 0.55)),
    "leaves": ((0.02, 0.08, 0.03), (0.16, 0.42, 0.12), (0.66, 0.84, 0.40),
               (0.10, 0.06, 0.02), (0.55, 0.30, 0.08), (0.95, 0.72, 0.30)),
    "marble": ((0.20, 0.20, 0.23), (0.68, 0.67, 0.68), (0.98, 0.97, 0.95),
               (0.28, 0.20, 0.17), (0.74, 0.62, 0.55), (0.98, 0.93, 0.88)),
    "mud": ((0.10, 0.07, 0.05), (0.52, 0.42, 0.32), (0.85, 0.76, 0.62),
            (0.12, 0.10, 0.09), (0.50, 0.46, 0.42), (0.80, 0.78, 0.74)),
    "net": ((0.06, 0.12, 0.18), (0.30, 0.46, 0.54), (0.88, 0.90, 0.86),
            (0.05, 0.08, 0.12), (0.20, 0.34, 0.44), (0.62, 0.76, 0.80)),
    "pebbles": ((0.10, 0.10, 0.11), (0.48, 0.47, 0.47), (0.90, 0.89, 0.86),
                (0.14, 0.08, 0.06), (0.56, 0.42, 0.34), (0.93, 0.84, 0.74)),
    "ripples": ((0.02, 0.12, 0.22), (0.10, 0.38, 0.52), (0.80, 0.95, 0.98),
                (0.02, 0.20, 0.22), (0.16, 0.50, 0.50), (0.88, 0.98, 0.92)),
    "wood": ((0.22, 0.11, 0.05), (0.62, 0.40, 0.20), (0.93, 0.76, 0.52),
             (0.26, 0.15, 0.09), (0.70, 0.50, 0.32), (0.95, 0.84, 0.66)),
}  # fmt: skip
OWN_PALETTE = 0.5  # how often a texture has its own colours


def draw_texture(key: tuple[int, ...], label: int, size: int) -> Array:
    """Draw a texture.

    Args:
        key: what makes this picture itself.
        label: position of its texture in `TEXTURES`.
        size: pixels a side; the layout is the same at every size.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    draws = Draws(*key, 7)
    frame = make_frame(size, draws.uniform(0, 2 * np.pi), draws.uniform(0.7, 1.35))
    tone, part = DRAWINGS[TEXTURES[label]](frame, Draws(*key, 8))
    own = draws.chance(OWN_PALETTE)
    palette = TEXTURES[label if own else draws.count(0, len(TEXTURES) - 1)]
    picture = _colour(tone, part, PALETTES[palette])
    _apply_camera(picture, draws)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _colour(tone: Array, part: Array, palette: tuple[Colour, ...]) -> Array:
    """Return the colours (H, W, 3) of tones between the palettes of two parts."""
    stops = (0.0, 0.5, 1.0)
    share = np.clip(part, 0, 1)
    first, second = np.array(palette[:3]), np.array(palette[3:])
    planes = [
        (1 - share) * np.interp(tone, stops, first[:, channel])
        + share * np.interp(tone, stops, second[:, channel])
        for channel in range(3)
    ]
    return np.stack(planes, axis=-1)


def _apply_camera(picture: Array, draws: Draws) -> None:
    """Uneven light, focus, white balance and sensor, in place."""
    size = picture.shape[0]
    frame = make_frame(size)
    tilt, slope = draws.uniform(0, 2 * np.pi), draws.uniform(0, 0.2)
    light = 1 + slope * (np.cos(tilt) * frame.u + np.sin(tilt) * frame.v)
    picture *= light[..., None] * draws.uniform(0.8, 1.15)
    picture *= 1 + draws.array(3, low=-0.12, high=0.12)
    picture[:] = blur(picture, size * (0.002 + 0.010 * draws.uniform() ** 3))
    np.clip(picture, 0, 1, out=picture)
    picture **= draws.uniform(0.8, 1.25)
    grain = draws.array(size, size, 3) + draws.array(size, size, 1) - 1
    picture += grain * draws.uniform(0.01, 0.05)
