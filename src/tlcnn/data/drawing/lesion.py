"""Skin lesions after dermoscopy's own criteria: a recipe of traits for each diagnosis.

    key -> recipe (how much of each trait) -> pigment maps and colours in the lesion's own
    coordinates -> one photograph: turn, zoom, shift, hair, focus, light

A recipe is what photographs of one lesion share; no lesion is a textbook case, since each recipe
is blended with that of another diagnosis.
"""

import numpy as np

from tlcnn.data.drawing.field import Array, Draws, make_frame
from tlcnn.data.drawing.skin import apply_hair, make_skin, photograph
from tlcnn.data.drawing.traits import Recipe, make_lesion, paint

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

# trait: (how often it is there, least, most). Absent traits are 0; the shape's are always there.
Ranges = dict[str, tuple[float, float, float]]
RECIPES: dict[str, Ranges] = {
    "akiec": {
        "radius": (1, 0.50, 0.75), "aspect": (1, 0.75, 1.0), "wobble": (1, 0.08, 0.22),
        "notch": (0.5, 0.02, 0.08), "edge": (1, 0.14, 0.35), "melanin": (0.7, 0.05, 0.55),
        "blood": (1, 0.18, 0.70), "mottle": (1, 0.3, 0.8), "follicles": (0.75, 0.3, 1.0),
        "scale": (0.7, 0.2, 1.0), "dotted": (0.45, 0.2, 1.0), "keratin": (0.3, 0.2, 0.5),
    },
    "bcc": {
        "radius": (1, 0.42, 0.70), "aspect": (1, 0.7, 1.0), "wobble": (1, 0.06, 0.20),
        "notch": (0.4, 0.02, 0.06), "edge": (1, 0.06, 0.22), "melanin": (0.7, 0.03, 0.55),
        "blood": (1, 0.10, 0.55), "mottle": (1, 0.2, 0.6), "nests": (0.75, 0.3, 1.0),
        "vessels": (0.85, 0.3, 1.0), "ulcer": (0.35, 0.5, 1.0), "shine": (0.4, 0.3, 0.8),
    },
    "bkl": {
        "radius": (1, 0.45, 0.75), "aspect": (1, 0.7, 1.0), "wobble": (1, 0.06, 0.18),
        "notch": (0.7, 0.05, 0.13), "edge": (1, 0.02, 0.07), "melanin": (1, 0.22, 0.95),
        "blood": (0.6, 0.05, 0.40), "mottle": (1, 0.3, 0.8), "keratin": (0.7, 0.2, 0.6),
        "cysts": (0.8, 0.3, 1.0), "plugs": (0.6, 0.3, 1.0), "ridges": (0.6, 0.2, 1.0),
    },
    "df": {
        "radius": (1, 0.40, 0.62), "aspect": (1, 0.82, 1.0), "wobble": (1, 0.03, 0.12),
        "edge": (1, 0.15, 0.35), "melanin": (1, 0.15, 0.62), "blood": (0.8, 0.05, 0.40),
        "mottle": (1, 0.1, 0.4), "network": (0.85, 0.2, 0.7), "scar": (0.9, 0.4, 1.0),
        "dotted": (0.2, 0.2, 0.7),
    },
    "mel": {
        "radius": (1, 0.50, 0.85), "aspect": (1, 0.60, 0.95), "wobble": (1, 0.14, 0.32),
        "notch": (0.7, 0.03, 0.09), "edge": (1, 0.03, 0.14), "melanin": (1, 0.30, 1.40),
        "blood": (0.7, 0.05, 0.50), "mottle": (1, 0.6, 1.2), "network": (0.7, 0.3, 1.0),
        "atypia": (1, 0.6, 1.0), "globules": (0.4, 0.2, 0.8), "dots": (0.7, 0.3, 1.0),
        "streaks": (0.5, 0.3, 1.0), "veil": (0.65, 0.2, 1.0), "regression": (0.5, 0.4, 0.9),
        "blotch": (0.7, 0.3, 1.0), "redness": (0.4, 0.3, 0.8), "shine": (0.25, 0.3, 0.7),
    },
    "nv": {
        "radius": (1, 0.38, 0.72), "aspect": (1, 0.75, 1.0), "wobble": (1, 0.03, 0.12),
        "edge": (1, 0.05, 0.25), "melanin": (1, 0.22, 1.20), "blood": (0.6, 0.03, 0.35),
        "mottle": (1, 0.1, 0.45), "network": (0.7, 0.2, 1.0), "atypia": (0.3, 0.05, 0.4),
        "globules": (0.4, 0.2, 1.0), "core": (0.5, 0.2, 0.7), "dots": (0.15, 0.2, 0.5),
    },
    "vasc": {
        "radius": (1, 0.38, 0.66), "aspect": (1, 0.75, 1.0), "wobble": (1, 0.05, 0.16),
        "edge": (1, 0.03, 0.10), "melanin": (0.4, 0.05, 0.60), "blood": (1, 0.30, 1.00),
        "mottle": (1, 0.1, 0.5), "lacunae": (0.9, 0.4, 1.0), "veil": (0.25, 0.2, 0.5),
        "crust": (0.25, 0.4, 0.9),
    },
}  # fmt: skip
TRAITS = tuple(sorted({trait for ranges in RECIPES.values() for trait in ranges}))
MOST_BLEND = 0.5  # the largest share of another diagnosis in a recipe
FAINT = 0.02  # less of a trait is none: nobody would see it


def make_recipe(key: tuple[int, ...], label: int) -> Recipe:
    """Return how much of each trait the lesion with this key has."""
    draws = Draws(*key, 3)

    def sample(name: str) -> dict[str, float]:
        recipe = {}
        for trait in TRAITS:
            often, least, most = RECIPES[name].get(trait, (0.0, 0.0, 0.0))
            is_present, amount = draws.chance(often), draws.uniform(least, most)
            recipe[trait] = amount if is_present else 0.0
        return recipe

    recipe = sample(CLASSES[label])
    blended = sample(CLASSES[draws.count(0, len(CLASSES) - 1)])
    share = MOST_BLEND * draws.uniform()
    blend = {trait: (1 - share) * recipe[trait] + share * blended[trait] for trait in TRAITS}
    return {trait: amount if amount > FAINT else 0.0 for trait, amount in blend.items()}


def draw_lesion(key: tuple[int, ...], label: int, photo: int, size: int) -> Array:
    """Return one photograph of a lesion, (size, size, 3) uint8 RGB.

    Shape, pattern and skin follow from the key, and from `label`, the position of its diagnosis in
    `CLASSES`; the rest changes with the number of the photograph. The layout is the same at every
    size.
    """
    camera = Draws(*key, 4, photo)
    shift = camera.array(2, low=-0.13, high=0.13)
    frame = make_frame(size, camera.uniform(0, 2 * np.pi), camera.uniform(0.88, 1.18), shift)
    draws = Draws(*key, 5)
    lesion = make_lesion(frame, draws.fork(1), make_recipe(key, label))
    picture = paint(lesion, draws, *make_skin(frame, key))
    apply_hair(picture, Draws(*key, 6), camera)
    return photograph(picture, camera)
