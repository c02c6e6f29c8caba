"""Comparisons to answers: the questions of a transfer study, as values; a report words them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tlcnn.statistics.arm import Arm
from tlcnn.statistics.resolution import Resolution
from tlcnn.study.block import N_CHOICES, Best, Block
from tlcnn.study.cells import Cell, Source
from tlcnn.study.comparisons import Contrast, FamilyKind, list_chain_pairs, list_compared_sources
from tlcnn.study.finetuning import (
    find_plain,
    list_finetuned,
    list_plain_blocks,
    list_treated,
    make_finetuning_blocks,
)
from tlcnn.study.image_counts import count_source_images, count_train_images
from tlcnn.study.layers import (
    POINT,
    Basis,
    UnitScores,
    compute_layer_scores,
    find_basis,
    list_treatments,
    resolve_gap,
)

Question = Literal["imagenet_vs_random", "best_cell", "finetuning", "chain", "layers"]
CHAIN_START = "ham10000"  # the dataset that a second one may be helped by, if no run names another
MATCHED = 1.1  # two sources of equally many images, at most so many times as many


@dataclass(frozen=True)
class ParentScore:
    """How well the runs did that a cell's weights come from.

    Attributes:
        dataset: what they were trained and tested on.
        value: their mean score, by the metric of the report.
        n_options: what guessing chooses from there; 0 where unknown.
    """

    dataset: str
    value: float
    n_options: int


@dataclass(frozen=True)
class TransferAnswer:
    """Does a source beat random weights?

    Attributes:
        parent: the score of the runs that the source comes from, where they are in the report.
    """

    block: Block
    source: Source
    contrast: Contrast
    parent: ParentScore | None = None


@dataclass(frozen=True)
class BestAnswer:
    """What is best on validation, and is choosing so better than full fine-tuning?

    Attributes:
        question: `best_cell` chooses among the (k, j) of a block, `finetuning` among all
            cells of a fine-tuning block (`tlcnn.study.finetuning`).
        full: the cell of full fine-tuning; None where no cell of the source freezes nothing.
        contrast: choosing, crossed over seeds, against it; None where it was chosen for every
            seed, where there is none, and for one seed.
        others: other cells against full fine-tuning: every one of a grid, every treated one.
        cells: the cells that there are to choose from.
    """

    question: Literal["best_cell", "finetuning"]
    block: Block
    source: Source
    best: Best
    full: str | None
    contrast: Contrast | None
    others: tuple[Contrast, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ChainAnswer:
    """Does another dataset help this one more than ImageNet?

    Attributes:
        dataset: the other one.
        chains: the sources through it, that which starts from ImageNet last, with their
            comparisons: with ImageNet, then with random weights where those were trained.
        parents: the scores of the runs that the sources come from, where they are in the report.
    """

    block: Block
    dataset: str
    chains: tuple[tuple[Source, tuple[Contrast, ...]], ...]
    parents: Mapping[Source, ParentScore]


@dataclass(frozen=True)
class LayersAnswer:
    """Which units of a source are general, which specific?

    Attributes:
        own: the network's own weights that S(n) compares the source with; None without them.
        arms: the arm of every treatment and n that was trained.
        basis: the gap that the verdicts rest on.
        margin: delta, in units of the metric.
        resolution: what the test set resolves, where that is the margin.
        n_source: training images of the source, all of its chain; None where that is not known.
        n_own: training images of the network's own weights.
        control: the answer for another source that was trained on as many images as `n_own`.
    """

    block: Block
    source: Source
    own: Source | None
    arms: Mapping[tuple[str, int], Arm]
    basis: Basis
    scores: tuple[UnitScores, ...]
    margin: float
    resolution: Resolution | None = None
    n_source: int | None = None
    n_own: int | None = None
    control: "LayersAnswer | None" = None

    @property
    def image_ratio(self) -> float:
        """How many times as many images the source was trained on; NaN where unknown."""
        return self.n_source / self.n_own if self.n_source and self.n_own else math.nan

    @property
    def is_matched(self) -> bool:
        """Whether the source and the network's own weights saw equally many images."""
        return 1 / MATCHED <= self.image_ratio <= MATCHED


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
    blocks: Sequence[Block], contrasts: Sequence[Contrast], margin: float | None
) -> list[Answer]:
    """Return the answers to all questions, in their order; one or more for each.

    The margin is that of the layers' verdicts; None: what the test set resolves.
    """
    answers: dict[Question, list[Answer]] = {
        "imagenet_vs_random": [
            TransferAnswer(c.block, c.block.cells[c.a].source, c, score_parents(c, blocks))
            for c in contrasts
            if c.family.kind is FamilyKind.TRANSFER
        ],
        "best_cell": [a for block in blocks for a in _answer_best(block, contrasts)],
        "finetuning": [
            a
            for block in make_finetuning_blocks(blocks)
            for a in _answer_finetuning(block, contrasts)
        ],
        "chain": [a for block in blocks for a in _answer_chains(block, contrasts, blocks)],
        "layers": [a for block in blocks for a in _answer_layers(block, margin)],
    }
    for question, answered in answers.items():
        # Treatments ask about fine-tuning, and a grid has none.
        if not answered and question != "finetuning" and _is_asked(question, blocks):
            plain = list_plain_blocks(blocks)
            missing = tuple(m for block in plain for m in list_missing(block, question))
            answered.append(Unmeasured(question, missing))
    return [answer for answered in answers.values() for answer in answered]


def _is_asked(question: Question, blocks: Sequence[Block]) -> bool:
    """Return whether a question makes sense for these runs; without any, all questions do.

    That of a chain needs its first dataset, or a source that was trained on another one.
    """
    if question != "chain" or not blocks:
        return True
    return any(block.dataset == CHAIN_START or block.chains for block in blocks)


def score_parents(contrast: Contrast, blocks: Iterable[Block]) -> ParentScore | None:
    """Return how well the runs did that the weights of a contrast's first cell come from.

    None where there are none, or the blocks lack one of them or its score.
    """
    plans = [run.plan for run in contrast.block.cells[contrast.a].runs]
    parents = {plan.ancestry[0].run_id for plan in plans if plan.ancestry}
    scored = {
        run.run_id: (block, cell.key, run.scores[block.metric])
        for block in blocks
        for cell in block.cells.values()
        for run in cell.runs
        if run.run_id in parents and block.metric in run.scores
    }
    if not parents or scored.keys() != parents:
        return None
    block, key, _ = next(iter(scored.values()))
    mean = sum(score for *_, score in scored.values()) / len(scored)
    return ParentScore(block.dataset, mean, block.arms[key].n_options)


def _answer_best(block: Block, contrasts: Sequence[Contrast]) -> Iterator[BestAnswer]:
    for source in block.sources:
        full, best = block.find_deepest_trained(source), block.find_best(source)
        if best is None:
            continue
        kinds = (FamilyKind.BEST, FamilyKind.DEPTH)
        contrast, others = _find_contrasts(block, source, full, kinds, contrasts)
        answer = (block, source, best, full, contrast, others, tuple(block.list_grid(source)))
        yield BestAnswer("best_cell", *answer)


def _answer_finetuning(block: Block, contrasts: Sequence[Contrast]) -> Iterator[BestAnswer]:
    kinds = (FamilyKind.FINETUNING, FamilyKind.TREATMENT)
    for source in block.sources:
        plain, cells = find_plain(block, source), list_finetuned(block, source)
        best = block.choose(source, cells, plain)
        if best is not None and any(list_treated(block, source)):
            contrast, others = _find_contrasts(block, source, plain, kinds, contrasts)
            answer = (block, source, best, plain, contrast, others, tuple(cells))
            yield BestAnswer("finetuning", *answer)


def _find_contrasts(
    block: Block,
    source: Source,
    full: str | None,
    kinds: tuple[FamilyKind, FamilyKind],
    contrasts: Sequence[Contrast],
) -> tuple[Contrast | None, tuple[Contrast, ...]]:
    """Return what was chosen against full fine-tuning, and the other cells against it.

    Args:
        kinds: of the families of either.
    """
    keys = block.cells.keys()
    with_full = [c for c in contrasts if c.block.cells.keys() == keys and c.b == full]
    chosen = [c for c in with_full if c.family.kind is kinds[0] and c.best]
    first = next((c for c in chosen if c.best and c.best.source == source), None)
    return first, tuple(c for c in with_full if c.family.kind is kinds[1])


def _answer_chains(
    block: Block, contrasts: Sequence[Contrast], blocks: Sequence[Block]
) -> Iterator[ChainAnswer]:
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
        scores = {source: score_parents(compared[0], blocks) for source, compared in chains}
        parents = {source: score for source, score in scores.items() if score}
        yield ChainAnswer(block, dataset, tuple(chains), parents)


def _answer_layers(block: Block, margin: float | None) -> Iterator[LayersAnswer]:
    own_sources: list[Source | None] = [*block.own_sources] or [None]
    answers = [
        answer
        for source in block.sources
        for own_source in own_sources
        if (answer := _answer_source_layers(block, source, own_source, margin))
    ]
    for answer in answers:
        matched = [
            rival
            for rival in answers
            if rival.is_matched and rival.own == answer.own and rival.source != answer.source
        ]
        matched.sort(key=lambda rival: rival.source.chain != answer.source.chain)
        yield replace(answer, control=next(iter(matched), None))


def _answer_source_layers(
    block: Block, source: Source, own: Source | None, margin: float | None
) -> LayersAnswer | None:
    n_units = block.n_units
    cells = list_treatments(block.cells.values(), source, own, n_units)
    arms = {place: block.arms[key] for place, key in cells.items()}
    basis = find_basis(arms, n_units)
    if basis is None:
        return None
    resolution = None if margin else resolve_gap(arms, n_units, basis)
    delta = margin or (resolution.value if resolution else POINT)
    units = [*block.units, *(f"unit {n}" for n in range(len(block.units) + 1, n_units + 1))]
    scores = compute_layer_scores(arms, units, basis=basis, margin=delta)
    n_source, n_own = (
        count(next(c for c in block.cells.values() if c.k and c.source == origin))
        if origin
        else None
        for origin, count in ((source, count_source_images), (own, count_train_images))
    )
    return LayersAnswer(
        block, source, own, arms, basis, tuple(scores), delta, resolution, n_source, n_own
    )


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
        if not block.chains:
            return  # ImageNet alone would not answer it: see the command for both
        if block.imagenet is None or not block.find_deepest_trained(block.imagenet):
            yield MissingCells(block, "imagenet", full)
        for source in block.chains:
            if not block.find_deepest_trained(source):
                yield MissingCells(block, source.init, full)
    else:
        for init in [source.init for source in block.sources] or ["imagenet"]:
            trained = {(c.k, c.j) for c in block.cells.values() if c.is_plain and c.init == init}
            ladder = [(n_units, j) for j in range(n_units + 1)]
            absent = [point for point in ladder if point not in trained]
            if question == "best_cell":
                absent = absent[: max(N_CHOICES - len(trained), 1)]
            if absent:
                yield MissingCells(block, init, tuple(absent))
