"""Cells that may be compared, and how to find one's way among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tlcnn.statistics.arm import Arm, Comparison
from tlcnn.study import words
from tlcnn.study.cells import name_dataset
from tlcnn.study.scores import estimate_cell


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

    def find(self, start: str, k: int, j: int) -> str | None:
        """Return the cell of a source (as column `start` has it) and a point of its grid."""
        grid = self.cells[_is_default(self.cells) & ~self.cells["imported"].astype(bool)]
        at = grid[(grid["k"] == k) & (grid["j"] == j)]
        found = at if k == 0 else at[at["start"] == start]
        return str(found.index[0]) if len(found) else None

    @property
    def n_units(self) -> int:
        """L, of the network."""
        return max([*map(len, self.cells["units"]), *self.cells["k"].astype(int)], default=0)

    def find_full(self, start: str) -> str | None:
        """Return full fine-tuning from a source: everything transferred, nothing frozen."""
        return self.find(start, self.n_units, 0)

    @property
    def scratch(self) -> str | None:
        """Return training from random weights."""
        return self.find("random", 0, 0)

    @property
    def full(self) -> pd.DataFrame:
        """The cells of full fine-tuning, one a source."""
        c = self.cells
        return c[(c["k"] == self.n_units) & (c["j"] == 0) & ~c["imported"].astype(bool)]

    @property
    def sources(self) -> list[str]:
        """The sources with a full fine-tuning, but for `self`, in the order of their names."""
        return sorted(set(self.full[~self.full["init"].isin(["self", "random"])]["start"]))

    def list_starts(self, init: str) -> list[str]:
        """Return the sources of one kind: `imagenet`, `self`; mostly one."""
        mine = self.cells[(self.cells["init"] == init) & ~self.cells["imported"].astype(bool)]
        return sorted(set(mine["start"]))

    def score(self, cell: str) -> str:
        """A cell's mean test score in words."""
        return words.format_score(self.arms[cell].mean, self.metric)

    def score_pair(self, a: str, b: str) -> tuple[str, str]:
        """Two cells' mean test scores in words, over the seeds that their difference is of."""
        arms = (self.arms[a], self.arms[b])
        shared = sorted(set(arms[0].seeds) & set(arms[1].seeds))
        means = [arm.scores[np.isin(arm.seeds, shared)].mean() for arm in arms if shared]
        found = [one.delta.value for key, one in self.compared.items() if key[1:] == (a, b)]
        if not (means and found and abs(means[0] - means[1] - found[0]) < 1e-9):
            means = [arm.mean for arm in arms]
        first, second = (words.format_score(float(mean), self.metric) for mean in means)
        return first, second

    def label(self, cell: str) -> str:
        """A cell's name in words."""
        return str(self.cells.loc[cell, "label"])


def _is_default(cells: pd.DataFrame) -> pd.Series:
    """Return which cells freeze as `freeze.bn=frozen` does; others exist only by name."""
    return cells["bn"].isin(["frozen"]) | cells["bn"].isna() | (cells["j"] == 0)


def list_chains(block: Block) -> list[str]:
    """Return the sources that were trained on another dataset first."""
    full = block.full[~block.full["source"].isin(["self", "stats"])]
    chained = full[[bool(set(names) - {block.dataset}) for names in full["ancestry"]]]
    return [start for start in block.sources if start in set(chained["start"])]


def list_grid(block: Block, start: str) -> pd.DataFrame:
    """Return the cells of a source's grid: 0 <= j <= k, random (k = 0) among them."""
    cells = block.cells[_is_default(block.cells) & ~block.cells["imported"].astype(bool)]
    inside = (cells["start"] == start) | ((cells["k"] == 0) & (cells["j"] == 0))
    return cells[inside & (cells["j"] <= cells["k"])]


def find_best(block: Block, start: str) -> str | None:
    """Return the cell of a source's grid with the best mean validation score.

    A cell with fewer seeds than full fine-tuning is no candidate: luck would choose it.
    """
    full = block.find_full(start)
    seeds = {c["cell"]: c["n_seeds"] for c in list_grid(block, start).to_dict("records")}
    least = seeds.get(full, 1)
    able = [c for c, n in seeds.items() if n >= least and not math.isnan(block.val[c])]
    return max(able, key=lambda cell: block.val[cell]) if len(able) > 1 else None


def is_at_chance(block: Block, cell: str) -> bool:
    """Return whether a cell's balanced accuracy cannot be told from guessing."""
    n_classes = int(str(block.cells.loc[cell, "n_classes"]))
    if not block.metric.endswith("/balanced_accuracy") or not n_classes:
        return False
    found = estimate_cell(block.arms[cell], block.metric)
    return found.low <= 1 / n_classes or found.value <= 1 / n_classes
