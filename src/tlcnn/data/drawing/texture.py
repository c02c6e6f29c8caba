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
    develop,
    make_frame,
    make_mesh,
    make_slanted_light,
    noise,
    smoothstep,
)
from tlcnn.data.drawing.stroke import Stroke, curve, strokes, tree

Fields = tuple[Array, Array]  # tone, part: (H, W) in about [0, 1] each


def make_bark(frame: Frame, draws: Draws) -> Fields:
    bend = noise(frame, draws, 1, 4, n_waves=12)
    ridges = np.abs(noise(frame, draws, 5, 9, slope=0.3, n_waves=36, stretch=4.5) + 0.15 * bend)
    grain = noise(frame, draws, 8, 24, slope=0.6, n_waves=36, stretch=2.5)
    return smoothstep(0.0, 1.1, ridges) * 0.8 + 0.10 * grain, 0.5 + 0.35 * bend


def make_berries(frame: Frame, draws: Draws) -> Fields:
    period = draws.uniform(0.26, 0.5)
    mesh = make_mesh(frame.u / period, frame.v / period, draws, 0.55)
    size = 0.44 + 0.10 * mesh.value
    dome = np.sqrt(np.clip(1 - (mesh.near / size) ** 2, 0, 1))
    light = 0.25 + 0.5 * dome - 0.35 * (mesh.du + mesh.dv) * (dome > 0)
    glint = np.exp(-((mesh.du + 0.16) ** 2 + (mesh.dv + 0.16) ** 2) / 0.006)
    back = 0.16 + 0.08 * noise(frame, draws, 3, 10, n_waves=16)
    return np.where(dome > 0, light + 0.7 * glint, back), np.where(dome > 0, mesh.value * 0.5, 1.0)


def make_branches(frame: Frame, draws: Draws) -> Fields:
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


def make_clouds(frame: Frame, draws: Draws) -> Fields:
    billow = noise(frame, draws, 0.7, 18, slope=1.15, n_waves=72)
    wisps = noise(frame, draws, 1, 12, slope=1.0, n_waves=36, stretch=0.6)
    cover = smoothstep(-0.9, 1.3, billow + 0.3 * wisps)
    return 0.25 + 0.7 * cover, 1 - cover


def make_grass(frame: Frame, draws: Draws) -> Fields:
    tone = 0.18 + 0.05 * noise(frame, draws, 3, 12, n_waves=16)
    part = 0.5 + 0.3 * noise(frame, draws, 0.8, 3, n_waves=12)
    lean, spread = draws.uniform(0, 2 * np.pi), draws.uniform(0.25, 0.8)
    for layer in range(4):
        blades = []
        for _ in range(34):
            angle = lean + draws.uniform(-spread, spread)
            start = draws.array(2, low=-1.6, high=1.6)
            bend = draws.uniform(-0.8, 0.8)
            points = curve(draws, start, angle, draws.uniform(0.5, 1.3), bend, 0.03, n=7)
            blades.append(Stroke(points, draws.uniform(0.03, 0.06), 0.008))
        cover = strokes(frame, blades)
        tone = tone + cover * (0.34 + 0.16 * layer - tone)
    return tone, part


def make_leaves(frame: Frame, draws: Draws) -> Fields:
    tone = 0.14 + 0.04 * noise(frame, draws, 3, 10, n_waves=12)
    part = np.full_like(tone, 0.9)
    period = draws.uniform(0.45, 0.8)
    for layer in range(3):
        move = draws.array(2, low=-5, high=5)
        mesh = make_mesh(frame.u / period + move[0], frame.v / period + move[1], draws, 0.8)
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


def make_marble(frame: Frame, draws: Draws) -> Fields:
    swirl = noise(frame, draws, 0.7, 6, slope=1.2, n_waves=40)
    cloud = noise(frame, draws, 0.7, 8, slope=0.9, n_waves=32)
    turn, rate = draws.uniform(0, np.pi), draws.uniform(2.5, 5)
    path = frame.u * np.cos(turn) + frame.v * np.sin(turn)
    veins = np.abs(np.sin(rate * path + 2.2 * swirl)) ** 0.45
    fine = np.abs(noise(frame, draws, 1.5, 7, slope=0.8, n_waves=32)) ** 0.5
    return 0.15 + 0.6 * veins * np.clip(0.45 + 0.5 * fine, 0, 1) + 0.09 * cloud, 0.5 + 0.3 * cloud


def make_mud(frame: Frame, draws: Draws) -> Fields:
    period = draws.uniform(0.35, 0.7)
    bend = noise(frame, draws, 2, 9, n_waves=20), noise(frame, draws, 2, 9, n_waves=20)
    grain = noise(frame, draws, 8, 26, slope=0.4, n_waves=36)
    mesh = make_mesh(
        frame.u / period + 0.09 * bend[0], frame.v / period + 0.09 * bend[1], draws, 1.0
    )
    wide = draws.uniform(0.05, 0.13)
    plate = smoothstep(0.25 * wide, wide, mesh.gap)
    curl = 0.15 * smoothstep(0.05, 0.5, mesh.gap)
    return plate * (0.68 - curl + 0.10 * mesh.value + 0.06 * grain) + 0.08, 0.6 * mesh.value


def make_net(frame: Frame, draws: Draws) -> Fields:
    period = draws.uniform(0.16, 0.34)
    bend = noise(frame, draws, 0.7, 3, n_waves=12), noise(frame, draws, 0.7, 3, n_waves=12)
    warp, thick = draws.uniform(0.05, 0.5), draws.uniform(0.14, 0.32)
    u, v = frame.u / period + warp * bend[0], frame.v / period + warp * bend[1]
    mesh = make_mesh(u, v, draws, draws.uniform(0.0, 0.4))
    lines = 1 - smoothstep(0.4 * thick, thick, mesh.gap)
    back = 0.25 + 0.13 * noise(frame, draws, 1, 6, n_waves=16)
    if draws.chance(0.5):
        return back + lines * (0.85 - back), 1 - lines
    return 1 - back - 0.1 + lines * (back - 0.75), lines


def make_pebbles(frame: Frame, draws: Draws) -> Fields:
    period = draws.uniform(0.24, 0.55)
    bend = noise(frame, draws, 1, 5, n_waves=16), noise(frame, draws, 1, 5, n_waves=16)
    grain = noise(frame, draws, 8, 26, slope=0.3, n_waves=36)
    mesh = make_mesh(
        frame.u / period + 0.15 * bend[0], frame.v / period + 0.15 * bend[1], draws, 0.95
    )
    dome = smoothstep(0.02, 0.55, mesh.gap) ** 0.6
    light = (0.30 + 0.55 * mesh.value) * (0.75 - 0.45 * (mesh.du + mesh.dv))
    return 0.06 + dome * (light + 0.05 * grain), (7 * mesh.value) % 1.0


def make_ripples(frame: Frame, draws: Draws) -> Fields:
    rate = draws.uniform(3, 6)
    waves = noise(frame, draws, rate, 1.6 * rate, slope=0.8, n_waves=28, stretch=0.45)
    small = noise(frame, draws, 2 * rate, 4 * rate, slope=0.8, n_waves=28, stretch=0.6)
    height = waves + 0.3 * small
    glint = smoothstep(1.2, 2.0, height)
    return 0.42 + 0.2 * np.tanh(height) + 0.45 * glint, 0.5 + 0.3 * np.tanh(waves)


def make_wood(frame: Frame, draws: Draws) -> Fields:
    bend = noise(frame, draws, 0.6, 2.5, n_waves=16, stretch=2)
    grain = noise(frame, draws, 12, 30, slope=0.3, n_waves=40, stretch=12)
    rate, centre = draws.uniform(5, 10), draws.array(2, low=-0.8, high=0.8)
    pull = draws.uniform(0.10, 0.5)  # from long planks to the rings of a stump
    rings = np.hypot(frame.u - centre[0], pull * (frame.v - centre[1])) + 0.07 * bend
    phase = (rate * rings) % 1.0
    year = phase * smoothstep(1.0, 0.86, phase)
    return 0.72 - 0.42 * year + 0.07 * grain, 0.5 + 0.3 * bend


# What draws a texture, and its palette: red, green and blue in percent of the darkest, middle and
# lightest colour of a part, and the same three colours of the other part.
DRAWINGS: dict[str, tuple[Callable[[Frame, Draws], Fields], str]] = {
    "bark": (make_bark, "12  9  7  42 33 26  72 64 55  10 10  6  36 36 26  70 70 56"),
    "berries": (make_berries, "22  2  5  70 10 14  100 85 80   3 10  3  15 34 12  55 70 35"),
    "branches": (make_branches, "10  7  6  40 30 24  75 65 55  35 45 60  62 72 85  93 94 96"),
    "clouds": (make_clouds, "30 36 48  66 72 80  100 99 97  12 28 58  36 56 84  72 84 97"),
    "grass": (make_grass, " 4 10  3  28 46 12  80 88 45  10  9  3  46 44 16  92 86 55"),
    "leaves": (make_leaves, " 2  8  3  16 42 12  66 84 40  10  6  2  55 30  8  95 72 30"),
    "marble": (make_marble, "20 20 23  68 67 68  98 97 95  28 20 17  74 62 55  98 93 88"),
    "mud": (make_mud, "10  7  5  52 42 32  85 76 62  12 10  9  50 46 42  80 78 74"),
    "net": (make_net, " 6 12 18  30 46 54  88 90 86   5  8 12  20 34 44  62 76 80"),
    "pebbles": (make_pebbles, "10 10 11  48 47 47  90 89 86  14  8  6  56 42 34  93 84 74"),
    "ripples": (make_ripples, " 2 12 22  10 38 52  80 95 98   2 20 22  16 50 50  88 98 92"),
    "wood": (make_wood, "22 11  5  62 40 20  93 76 52  26 15  9  70 50 32  95 84 66"),
}
TEXTURES = tuple(DRAWINGS)
OWN_PALETTE = 0.5  # how often a texture has its own colours


def draw_texture(key: tuple[int, ...], label: int, size: int) -> Array:
    """Return a picture of the texture `TEXTURES[label]`, (size, size, 3) uint8 RGB.

    The key is the picture's own; the layout is the same at every size.
    """
    draws = Draws(*key, 7)
    frame = make_frame(size, draws.uniform(0, 2 * np.pi), draws.uniform(0.7, 1.35))
    make_fields, _ = DRAWINGS[TEXTURES[label]]
    tone, part = make_fields(frame, Draws(*key, 8))
    has_own_colours = draws.chance(OWN_PALETTE)
    _, palette = DRAWINGS[
        TEXTURES[label if has_own_colours else draws.count(0, len(TEXTURES) - 1)]
    ]
    first, second = np.array(palette.split(), dtype=float).reshape(2, 3, 3) / 100
    stops, share = (0.0, 0.5, 1.0), np.clip(part, 0, 1)
    planes = [
        (1 - share) * np.interp(tone, stops, first[:, channel])
        + share * np.interp(tone, stops, second[:, channel])
        for channel in range(3)
    ]
    picture = np.stack(planes, axis=-1)
    light = make_slanted_light(make_frame(size), draws, 0.2)
    picture *= light[..., None] * draws.uniform(0.8, 1.15)
    picture *= 1 + draws.array(3, low=-0.12, high=0.12)  # white balance
    picture = blur(picture, size * (0.002 + 0.010 * draws.uniform() ** 3))
    return develop(picture, draws, gamma=(0.8, 1.25), grain=(0.01, 0.05))
