"""Cells that may be compared: those of one dataset, model and recipe."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlcnn.statistics.arm import Arm
from tlcnn.statistics.choice import choose_arm, cross_arms
from tlcnn.statistics.estimate import pair_arms
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.study.arms import estimate_mean, list_scored_seeds
from tlcnn.study.cells import Cell, Settings, Source, order_settings

OWN = "self"  # the network's own weights, trained on the target from random ones
N_CHOICES = 3  # cells of one source from which the best is worth choosing


@dataclass(frozen=True)
class Best:
    """What validation chooses in the grid of a source.

    Attributes:
        cell: the key of the cell that all seeds choose.
        n_cells: the cells that were chosen among.
        recipe: the tuned settings that all seeds choose for it; mostly empty.
        by_seed: the key of the cell that the other half of the seeds chooses for each seed; empty
            for fewer than two seeds.
        halves: the two halves of the seeds, which chose for each other.
        arm: the test scores of these; None with an empty `by_seed`.
    """

    source: Source
    cell: str
    n_cells: int
    recipe: Settings
    by_seed: Mapping[int, str]
    halves: tuple[tuple[int, ...], ...]
    arm: Arm | None


@dataclass(frozen=True)
class Block:
    """The scored cells of one dataset, model and recipe.

    Attributes:
        metric: the metric that cells are judged by.
        cells: by their keys, in the order of `make_cells`.
        arms: the arm of each cell, and of each candidate of a tuned one.
        val_arms: their validation scores, where known.
    """

    dataset: str
    model: str
    recipe: Settings
    metric: str
    cells: Mapping[str, Cell]
    arms: Mapping[str, Arm]
    val_arms: Mapping[str, Arm]

    @property
    def n_units(self) -> int:
        """L, the units of the network."""
        cells = self.cells.values()
        return max([len(c.units) for c in cells] + [c.k for c in cells], default=0)

    @property
    def units(self) -> tuple[str, ...]:
        """Names of units 1..L, as far as a plan has them."""
        return max((cell.units for cell in self.cells.values()), key=len, default=())

    @property
    def tuned(self) -> tuple[str, ...]:
        """The settings of which its cells take their best on validation; mostly empty."""
        return next((cell.tuning.keys for cell in self.cells.values() if cell.tuning), ())

    @property
    def sources(self) -> list[Source]:
        """The sources of its cells but for the network's own weights, in order of their names."""
        return [source for source in self._all_sources if source.init != OWN]

    @property
    def own_sources(self) -> list[Source]:
        """The network's own weights as sources; mostly one."""
        return [source for source in self._all_sources if source.init == OWN]

    @property
    def _all_sources(self) -> list[Source]:
        sources = {c.source for c in self.cells.values() if c.k and c.is_plain}
        return sorted(sources, key=lambda source: (source.init, repr(source.settings)))

    @property
    def imagenet(self) -> Source | None:
        """ImageNet weights, if they were used."""
        candidates = [source for source in self.sources if source.init == "imagenet"]
        return max(
            candidates, key=lambda source: bool(self.find_deepest_trained(source)), default=None
        )

    @property
    def chains(self) -> list[Source]:
        """The sources that were trained on another dataset of ours."""
        return [source for source in self.sources if set(source.datasets) - {self.dataset}]

    @property
    def scratch(self) -> str | None:
        """The cell that was trained from random weights."""
        return self.find(None, 0, 0)

    def find(self, source: Source | None, k: int, j: int) -> str | None:
        """Return the cell of a source and a point of its grid; any source where k = 0."""
        for key, cell in self.cells.items():
            at_point = (cell.k, cell.j) == (k, j) and cell.is_plain
            if at_point and (k == 0 or cell.source == source):
                return key
        return None

    def find_trained(self, *sources: Source) -> tuple[str, ...]:
        """Return the cells of sources that freeze nothing, at the largest k that all have.

        Where everything was transferred, k = L, this is full fine-tuning. Empty where no k is
        common to all.
        """
        for k in range(self.n_units, 0, -1):
            keys = [self.find(source, k, 0) for source in sources]
            if all(keys):
                return tuple(key for key in keys if key)
        return ()

    def find_deepest_trained(self, source: Source) -> str | None:
        """Return what a source's cells are compared with: the one of `find_trained`."""
        return next(iter(self.find_trained(source)), None)

    def list_grid(self, source: Source) -> list[Cell]:
        """Return the cells of a source's grid, random weights (k = 0) among them."""
        cells = [cell for cell in self.cells.values() if cell.is_in_grid]
        return [cell for cell in cells if cell.k == 0 or cell.source == source]

    def mean_val(self, key: str) -> float:
        """Return the mean validation score of a cell; NaN where it is unknown."""
        return self.val_arms[key].mean if key in self.val_arms else math.nan

    def find_best(self, source: Source) -> Best | None:
        """Return what validation chooses in a source's grid; None for fewer than `N_CHOICES`."""
        grid = self.list_grid(source)
        if len(grid) < N_CHOICES:
            return None
        return self.choose(source, grid, self.find_deepest_trained(source))

    def choose(self, source: Source, cells: Sequence[Cell], full: str | None) -> Best | None:
        """Return what validation chooses among cells of a source; None for fewer than two.

        A cell with validation scores of fewer seeds than full fine-tuning (or, without that, than
        most cells of the source) is no candidate: luck would choose it. Nor is one with other
        folds than that (or than the cell with most).
        """
        val_metric = find_val_metric(self.metric)
        n_seeds = {cell.key: len(list_scored_seeds(cell, val_metric)) for cell in cells}
        counts = sorted(n_seeds[cell.key] for cell in cells if cell.k)
        least = n_seeds.get(full or "") or (counts[len(counts) // 2] if counts else 1)
        most_places = max((cell.places for cell in cells), key=len, default=())
        places = self.cells[full].places if full else most_places
        owners = {
            key: cell
            for cell in cells
            if n_seeds[cell.key] >= least and cell.places == places
            for key in cell.candidates
            if key in self.arms and key in self.val_arms
        }
        n_cells = len({cell.key for cell in owners.values()})
        if n_cells < 2:
            return None
        choice = choose_arm({key: self.val_arms[key] for key in owners})
        by_seed = {s: key for s, key in choice.by_seed.items() if s in self.arms[key].seeds}
        owner = owners[choice.best]
        return Best(
            source,
            owner.key,
            n_cells,
            owner.tuning.tried[choice.best] if owner.tuning else (),
            {seed: owners[key].key for seed, key in by_seed.items()},
            choice.halves,
            cross_arms(source.init, self.arms, by_seed) if by_seed else None,
        )

    def find_chance_note(self, key: str) -> Note | None:
        """Return how near a cell's score is to guessing; None where it is clear of it."""
        kinds = (NoteKind.AT_CHANCE, NoteKind.INCLUDES_CHANCE)
        notes = estimate_mean([self.arms[key]]).notes
        return next((note for note in notes if note.kind in kinds), None)

    def mean_over_pairs(self, a: str, b: str) -> tuple[float, float]:
        """Return the mean scores of two cells over the seeds for which both were trained."""
        first, second = pair_arms(self.arms[a], self.arms[b])
        return first.mean, second.mean


def find_val_metric(metric: str) -> str:
    """Return the validation metric that cells are chosen by where a test metric judges them."""
    return metric.replace("test/", "val/", 1)


def make_blocks(
    cells: Mapping[str, Cell], arms: Mapping[str, Mapping[str, Arm]], metric: str
) -> list[Block]:
    """Return the blocks of the cells that have the metric.

    Args:
        cells: by their keys.
        arms: the arms of each cell and candidate from `load_arms`, by metric; those of
            `find_val_metric` give the validation scores.
        metric: of the test split.
    """
    val_metric = find_val_metric(metric)
    groups: dict[tuple[str, str, Settings], dict[str, Cell]] = {}
    for key, cell in cells.items():
        if metric in arms[key]:
            groups.setdefault((cell.dataset, cell.model, cell.recipe), {})[key] = cell
    blocks = []
    for (dataset, model, recipe), members in groups.items():
        keys = [key for cell in members.values() for key in {cell.key: cell, **cell.candidates}]
        scored, val = (
            {key: arms[key][name] for key in keys if name in arms[key]}
            for name in (metric, val_metric)
        )
        blocks.append(Block(dataset, model, recipe, metric, members, scored, val))
    return sorted(
        blocks, key=lambda block: (block.dataset, block.model, order_settings(block.recipe))
    )
