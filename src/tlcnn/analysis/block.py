"""Cells that may be compared, and how to find one's way among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from tlcnn.analysis import words
from tlcnn.analysis.cells import name_dataset
from tlcnn.analysis.statistics.arm import Arm, Comparison


@dataclass(frozen=True)
class Block:
    """Cells that may be compared: one dataset, one model, one recipe.

    Attributes:
        cells: `make_cells`, indexed by `cell`.
        arms: of every cell, by its key.
        val: mean validation score of every cell.
    """

    dataset: str
    model: str
    recipe: str
    metric: str
    cells: pd.DataFrame
    arms: Mapping[str, Arm]
    val: Mapping[str, float]
    compared: dict[tuple[str, str, str], Comparison] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The block in words: `HAM10000 (mobilenetv2_100)`."""
        recipe = f", {self.recipe}" if self.recipe else ""
        return f"{name_dataset(self.dataset)} ({self.model}{recipe})"

    def find(self, init: str, k: int, j: int) -> str | None:
        """Return the cell of a source and a point of its grid."""
        c = self.cells
        at = c[(c["k"] == k) & (c["j"] == j) & (c["bn"].isin(["frozen", None]) | (c["j"] == 0))]
        found = at if k == 0 else at[at["init"] == init]
        return str(found.index[0]) if len(found) else None

    @property
    def n_units(self) -> int:
        """L, of the network."""
        return max((len(units) for units in self.cells["units"]), default=0)

    def find_full(self, init: str) -> str | None:
        """Return full fine-tuning from a source: everything transferred, nothing frozen."""
        return self.find(init, self.n_units, 0)

    @property
    def sources(self) -> list[str]:
        """The sources with a full fine-tuning, but for `self`, in the order of their names."""
        full = self.cells[(self.cells["k"] == self.n_units) & (self.cells["j"] == 0)]
        return sorted(set(full["init"]) - {"self", "random"})

    def score(self, cell: str) -> str:
        """A cell's mean test score in words."""
        return words.format_score(self.arms[cell].mean, self.metric)

    def label(self, cell: str) -> str:
        """A cell's name in words."""
        return str(self.cells.loc[cell, "label"])


def list_chains(block: Block) -> list[str]:
    """Return the sources that were trained on another dataset first."""
    full = block.cells[block.cells["ancestry"].map(len) > 0]
    return [source for source in block.sources if source in set(full["init"])]


def list_grid(block: Block, source: str) -> pd.DataFrame:
    """Return the cells of a source's grid: 0 <= j <= k, random (k = 0) among them."""
    cells = block.cells
    inside = (cells["init"] == source) | ((cells["k"] == 0) & (cells["j"] == 0))
    return cells[inside & (cells["j"] <= cells["k"])]


def find_best(block: Block, source: str) -> str | None:
    """Return the cell of a source's grid with the best mean validation score."""
    grid = [cell for cell in list_grid(block, source).index if not math.isnan(block.val[cell])]
    return max(grid, key=lambda cell: block.val[cell]) if len(grid) > 1 else None
