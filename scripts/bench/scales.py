"""How much is measured, and about how long it takes."""

from dataclasses import dataclass

PARTS = (
    *("limit", "data", "single", "limit224", "single224", "frozen"),
    *("grid", "cells", "start", "resume"),
)
ASKED = ("growth", "million")  # measured when they are named only
SIZES = {  # part -> attribute of Scale; the others: grid
    **dict.fromkeys(("limit", "data", "single"), "single"),
    **dict.fromkeys(("limit224", "single224"), "wide"),
    "frozen": "frozen",
}


@dataclass(frozen=True)
class Size:
    """One comparison: images of train, val and test, batch size, epochs and repetitions."""

    images: tuple[int, int, int]
    batch_size: int
    epochs: int
    rounds: int = 1


@dataclass(frozen=True)
class Scale:
    """How much is measured of everything.

    Attributes:
        single, wide, frozen, grid: trainings; `wide` has images of 224 pixels.
        data_rounds: repetitions of the data path alone.
        starts: how often every program is started.
        plain_seeds: seeds of the grid that the plain loop trains; its others are as dear.
        growth: numbers of images in the part `growth`.
        is_long: whether one run is also measured in fp32.
    """

    single: Size
    wide: Size
    frozen: Size
    grid: Size
    data_rounds: int
    starts: int
    plain_seeds: int | None
    growth: tuple[int, ...]
    is_long: bool = False


SCALES = {
    "tiny": Scale(
        single=Size((32, 16, 16), 16, 2),
        wide=Size((16, 16, 16), 8, 2),
        frozen=Size((32, 16, 16), 16, 4),
        grid=Size((32, 16, 16), 16, 2),
        data_rounds=1,
        starts=1,
        plain_seeds=1,
        growth=(1_000, 10_000),
    ),
    "small": Scale(
        single=Size((512, 128, 64), 64, 4),
        wide=Size((64, 32, 32), 16, 3),
        frozen=Size((1536, 128, 64), 64, 4),  # as many epochs as views, or none is kept
        grid=Size((160, 64, 64), 32, 3),
        data_rounds=2,
        starts=2,
        plain_seeds=1,
        growth=(1_000, 10_000, 100_000, 1_000_000),
    ),
    "large": Scale(
        single=Size((4096, 512, 512), 64, 4, rounds=3),
        wide=Size((512, 128, 128), 32, 3, rounds=3),
        frozen=Size((4096, 512, 512), 64, 6, rounds=3),
        grid=Size((1024, 256, 256), 64, 4),
        data_rounds=5,
        starts=5,
        plain_seeds=None,
        growth=(1_000, 10_000, 100_000, 1_000_000),
        is_long=True,
    ),
}

SECONDS = {  # of each part at scale small, on two quiet cores, timm included
    "limit": 30,
    "data": 35,
    "single": 65,
    "limit224": 20,
    "single224": 55,
    "frozen": 145,
    "grid": 310,
    "cells": 60,
    "start": 50,
    "resume": 70,
}
