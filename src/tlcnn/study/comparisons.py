"""Arms to comparisons: which cells a study compares, in which families, adjusted by Holm."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from tlcnn.statistics.arm import Comparison
from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.study.block import Best, Block
from tlcnn.study.cells import Source


class FamilyKind(Enum):
    """A question whose comparisons are adjusted together."""

    TRANSFER = "transfer"  # a source against random weights
    BEST = "best"  # choosing on validation against full fine-tuning
    CHAIN = "chain"  # a chain against ImageNet and against random weights
    IMPORTED = "imported"  # imported predictions against our own
    DEPTH = "depth"  # every cell against full fine-tuning: exploratory
    BASELINE = "baseline"  # the rows of a table against one of them


@dataclass(frozen=True)
class Family:
    """Comparisons that are adjusted together.

    Attributes:
        scope: what bounds it, as (key, value) pairs: dataset, model, and so on. The declared
            families of a report's questions span all of it, so theirs is empty.
    """

    kind: FamilyKind
    scope: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Contrast:
    """Two cells of a block, compared.

    Attributes:
        a, b: keys of the cells.
        best: what was chosen on validation, if its crossed test scores stand for `a`.
        result: of `a` against `b`, adjusted within the family.
    """

    block: Block
    family: Family
    a: str
    b: str
    best: Best | None
    result: Comparison


def compare_blocks(blocks: Sequence[Block], margin: float) -> list[Contrast]:
    """Compare all that the blocks' cells allow: the pairs of questions first, then the others.

    Differences below the margin do not matter; it is in units of the metric.
    """
    pairs = [(block, *pair) for block in blocks for pair in list_pairs(block)]
    pairs.sort(key=lambda pair: pair[1].kind is FamilyKind.DEPTH)
    results = [
        compare_arms(
            best.arm if best and best.arm else block.arms[a],
            block.arms[b],
            margin=margin,
            family=family,
        )
        for block, family, a, b, best in pairs
    ]
    adjusted = adjust_holm(results)
    return [Contrast(*pair, result) for pair, result in zip(pairs, adjusted, strict=True)]


def list_pairs(block: Block) -> Iterator[tuple[Family, str, str, Best | None]]:
    """Yield (family, a, b, best) of every comparison that a block's cells allow.

    All families but `DEPTH` are declared: they answer a question, whatever was trained. `DEPTH`
    explores, and is each block's own.
    """
    for source in list_compared_sources(block):
        trained = block.find_deepest_trained(source)
        if trained and block.scratch:
            yield Family(FamilyKind.TRANSFER), trained, block.scratch, None
    for source in block.chains:
        for a, b in list_chain_pairs(block, source):
            yield Family(FamilyKind.CHAIN), a, b, None
    scope = (("dataset", block.dataset), ("model", block.model), *block.recipe)
    for source in block.sources:
        full, best = block.find_deepest_trained(source), block.find_best(source)
        if not full:
            continue
        if best and {*best.by_seed.values()} - {full}:
            yield Family(FamilyKind.BEST), best.cell, full, best
        for cell in block.list_grid(source):
            if cell.key not in (full, block.scratch):
                yield Family(FamilyKind.DEPTH, scope), cell.key, full, None
    reference = (
        block.find_deepest_trained(block.imagenet) if block.imagenet else None
    ) or block.scratch
    for cell in block.cells.values():
        if cell.source.is_imported and reference:
            yield Family(FamilyKind.IMPORTED), cell.key, reference, None


def list_compared_sources(block: Block) -> list[Source]:
    """Return the sources to compare with random weights: ImageNet, or all where it is not."""
    imagenet = [s for s in block.sources if s.init == "imagenet" and block.find_deepest_trained(s)]
    return imagenet or block.sources


def list_chain_pairs(block: Block, chain: Source) -> list[tuple[str, str]]:
    """Return a chain with ImageNet alone and with random weights, all of them fully trained.

    The chain and ImageNet are compared at the largest k that both have.
    """
    if block.imagenet is None:
        return []  # the chain is then asked about as a source of its own
    cells = block.find_trained(chain, block.imagenet)
    if not cells:
        return []
    return [(cells[0], cell) for cell in (cells[1], block.scratch) if cell]
