"""Comparisons to answers: the questions of a transfer study, as values; a report words them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tlcnn.statistics.arm import Arm
from tlcnn.study.block import OWN, Best, Block
from tlcnn.study.cells import Source
from tlcnn.study.comparisons import Contrast, FamilyKind, list_chain_pairs, list_compared_sources
from tlcnn.study.layers import UnitScores, compute_layer_scores, list_treatments

Question = Literal["imagenet_vs_random", "best_cell", "chain", "layers"]
N_CHOICES = 3  # cells of one source from which the best is worth choosing


@dataclass(frozen=True)
class TransferAnswer:
    """Does a source beat random weights?"""

    block: Block
    source: Source
    contrast: Contrast


@dataclass(frozen=True)
class BestAnswer:
    """Which (k, j) is best on validation, and is choosing so better than full fine-tuning?

    Attributes:
        full: the cell of full fine-tuning; None where no cell of the source freezes nothing.
        contrast: choosing, crossed over seeds, against it; None where it was chosen for every
            seed, where there is none, and for one seed.
        others: every other cell against full fine-tuning.
    """

    block: Block
    source: Source
    best: Best
    full: str | None
    contrast: Contrast | None
    others: tuple[Contrast, ...]
    n_cells: int


@dataclass(frozen=True)
class ChainAnswer:
    """Does another dataset help this one more than ImageNet?

    Attributes:
        dataset: the other one.
        chains: the sources through it, that which starts from ImageNet last, with their
            comparisons: with ImageNet, then with random weights where those were trained.
    """

    block: Block
    dataset: str
    chains: tuple[tuple[Source, tuple[Contrast, ...]], ...]


@dataclass(frozen=True)
class LayersAnswer:
    """Which units of a source are general, which specific?

    Attributes:
        own: the network's own weights that the source is compared with.
        arms: the arm of every treatment and n that was trained.
    """

    block: Block
    source: Source
    own: Source
    arms: Mapping[tuple[str, int], Arm]
    scores: tuple[UnitScores, ...]
    margin: float


@dataclass(frozen=True)
class MissingCells:
    """Cells whose runs would let a block answer a question.

    Attributes:
        init: the source to train from.
        points: (k, j) of each cell.
    """

    block: Block
    init: str
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Unmeasured:
    """A question that no block answers, and what each lacks."""

    question: Question
    missing: tuple[MissingCells, ...]


Answer = TransferAnswer | BestAnswer | ChainAnswer | LayersAnswer | Unmeasured


def answer_questions(
    blocks: Sequence[Block], contrasts: Sequence[Contrast], margin: float
) -> list[Answer]:
    """Return the answers to all questions, in their order; one or more for each."""
    answers: dict[Question, list[Answer]] = {
        "imagenet_vs_random": [
            TransferAnswer(c.block, c.block.cells[c.a].source, c)
            for c in contrasts
            if c.family.kind is FamilyKind.TRANSFER
        ],
        "best_cell": [a for block in blocks for a in _answer_best(block, contrasts)],
        "chain": [a for block in blocks for a in _answer_chains(block, contrasts)],
        "layers": [a for block in blocks for a in _answer_layers(block, margin)],
    }
    for question, answered in answers.items():
        if not answered:
            missing = tuple(m for block in blocks for m in list_missing(block, question))
            answered.append(Unmeasured(question, missing))
    return [answer for answered in answers.values() for answer in answered]


def _answer_best(block: Block, contrasts: Sequence[Contrast]) -> Iterator[BestAnswer]:
    for source in block.sources:
        full, best = block.find_deepest_trained(source), block.find_best(source)
        grid = block.list_grid(source)
        if best is None or len(grid) < N_CHOICES:
            continue
        with_full = [c for c in contrasts if c.block is block and c.b == full]
        chosen = [c for c in with_full if c.best and c.best.source == source]
        further = tuple(c for c in with_full if c.family.kind is FamilyKind.DEPTH)
        contrast = chosen[0] if chosen else None
        yield BestAnswer(block, source, best, full, contrast, further, len(grid))


def _answer_chains(block: Block, contrasts: Sequence[Contrast]) -> Iterator[ChainAnswer]:
    """Yield one answer for each dataset that a chain comes through."""
    by_dataset: dict[str, list[tuple[Source, tuple[Contrast, ...]]]] = {}
    for source in block.chains:
        pairs = list_chain_pairs(block, source)
        compared = tuple(
            contrast
            for contrast in contrasts
            if contrast.block is block
            and contrast.family.kind is FamilyKind.CHAIN
            and (contrast.a, contrast.b) in pairs
        )
        if compared:
            dataset = next(name for name in source.datasets if name != block.dataset)
            by_dataset.setdefault(dataset, []).append((source, compared))
    for dataset, chains in by_dataset.items():
        chains.sort(key=lambda chain: chain[0].chain[0] == "imagenet")
        yield ChainAnswer(block, dataset, tuple(chains))


def _answer_layers(block: Block, margin: float) -> Iterator[LayersAnswer]:
    for source in block.sources:
        for own in block.own_sources:
            cells = list_treatments(block.cells.values(), source, own)
            arms = {place: block.arms[key] for place, key in cells.items()}
            if not any(("AnB", n) in arms and ("BnB", n) in arms for _, n in arms):
                continue
            unnamed = range(len(block.units) + 1, block.n_units + 1)
            units = [*block.units, *(f"unit {n}" for n in unnamed)]
            scores = compute_layer_scores(arms, units, margin=margin)
            yield LayersAnswer(block, source, own, arms, tuple(scores), margin)


def list_missing(block: Block, question: Question) -> Iterator[MissingCells]:
    """Yield the cells that a block lacks to answer a question."""
    n_units = block.n_units
    full = ((n_units, 0),)
    if not n_units:
        return
    if question == "imagenet_vs_random":
        if block.scratch is None:
            yield MissingCells(block, "random", ((0, 0),))
        sources = list_compared_sources(block)
        if not any(block.find_deepest_trained(source) for source in sources):
            yield MissingCells(block, sources[0].init if sources else "imagenet", full)
    elif question == "chain":
        if block.imagenet is None or not block.find_deepest_trained(block.imagenet):
            yield MissingCells(block, "imagenet", full)
        for source in block.chains:
            if not block.find_deepest_trained(source):
                yield MissingCells(block, source.init, full)
    else:
        is_layers = question == "layers"
        inits = [source.init for source in block.sources] or ["imagenet"]
        for init in [*inits, OWN] if is_layers else inits:
            trained = {(c.k, c.j) for c in block.cells.values() if c.is_plain and c.init == init}
            ladder = [(j if is_layers else n_units, j) for j in range(is_layers, n_units + 1)]
            absent = [point for point in ladder if point not in trained]
            if not is_layers:
                absent = absent[: max(N_CHOICES - len(trained), 1)]
            if absent:
                yield MissingCells(block, init, tuple(absent))
