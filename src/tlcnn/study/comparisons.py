"""Arms to comparisons: which cells a study compares, in which families, adjusted by Holm."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from tlcnn.statistics.arm import Arm, Comparison
from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.statistics.detect import pool_noise, set_noise
from tlcnn.statistics.metrics import find_range
from tlcnn.study.block import Best, Block
from tlcnn.study.cells import Source
from tlcnn.study.finetuning import find_plain, list_finetuned, list_treated, make_finetuning_blocks


class FamilyKind(Enum):
    """A question whose comparisons are adjusted together."""

    TRANSFER = "transfer"  # a source against random weights
    BEST = "best"  # choosing on validation against full fine-tuning
    CHAIN = "chain"  # a chain against ImageNet and against random weights
    IMPORTED = "imported"  # imported predictions against our own
    FINETUNING = "finetuning"  # choosing among treatments against full fine-tuning
    TREATMENT = "treatment"  # every treatment against full fine-tuning: exploratory
    DEPTH = "depth"  # every cell against full fine-tuning: exploratory
    BASELINE = "baseline"  # the rows of a table against one of them


@dataclass(frozen=True)
class Family:
    """Comparisons that are adjusted together: those of one question.

    Attributes:
        scope: what it is asked of, as (key, value) pairs: dataset, model and recipe. Nothing else
            in a folder belongs to it.
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

    Cells of blocks that differ in treatments of fine-tuning alone are compared, too. Differences
    below the margin do not matter; it is in units of the metric.
    """
    contrasts = []
    listed = [(block, list(list_pairs(block))) for block in blocks]
    listed += [(b, list(list_treatment_pairs(b))) for b in make_finetuning_blocks(blocks)]
    for block, pairs in listed:
        results = [
            compare_arms(
                best.arm if best and best.arm else block.arms[a],
                block.arms[b],
                margin=margin,
                family=family,
            )
            for family, a, b, best in pairs
        ]
        adjusted = _set_noise(adjust_holm(results), block.arms.values(), block.metric)
        contrasts += [Contrast(block, *p, r) for p, r in zip(pairs, adjusted, strict=True)]
    explored = (FamilyKind.DEPTH, FamilyKind.TREATMENT)
    return sorted(contrasts, key=lambda contrast: contrast.family.kind in explored)


def compare_pairs(
    pairs: Sequence[tuple[Arm, Arm, Family]], blocks: Sequence[Block], metric: str, margin: float
) -> list[Comparison]:
    """Compare cells by a metric, each pair in the family of the question that compares it.

    A pair that no question of the blocks compares stays in the family that stands beside it. All
    comparisons of a question count, whether or not they are among the pairs.
    """
    pairs_of_questions = {
        frozenset((a, b)): (block.arms[a], block.arms[b], family)
        for block in blocks
        for family, a, b, best in list_pairs(block)
        if best is None  # what is compared with a choice is no cell of a table
    }
    results = []
    for a, b, family in pairs:
        *_, family = pairs_of_questions.pop(frozenset((a.name, b.name)), (a, b, family))
        results.append(compare_arms(a, b, margin=margin, family=family))
    families = {result.family for result in results}
    hidden = [
        compare_arms(a, b, margin=margin, family=family)
        for a, b, family in pairs_of_questions.values()
        if family in families
    ]
    adjusted = adjust_holm([*results, *hidden])[: len(results)]
    for baseline in {result.b for result in adjusted}:
        places = [i for i, result in enumerate(adjusted) if result.b == baseline]
        arms = [pairs[places[0]][1], *(pairs[i][0] for i in places)]
        noisy = _set_noise([adjusted[i] for i in places], arms, metric)
        for i, result in zip(places, noisy, strict=True):
            adjusted[i] = result
    return adjusted


def _set_noise(
    comparisons: Sequence[Comparison], arms: Iterable[Arm], metric: str
) -> list[Comparison]:
    least, most = find_range(metric)
    return set_noise(comparisons, pool_noise(list(arms), largest=most - least))


def list_pairs(block: Block) -> Iterator[tuple[Family, str, str, Best | None]]:
    """Yield (family, a, b, best) of every comparison that a block's cells allow.

    Every family is the block's own, so that p depends on nothing else. All but `DEPTH` are
    declared: they answer a question, whatever was trained. `DEPTH` explores.
    """
    scope = (("dataset", block.dataset), ("model", block.model), *block.recipe)
    for source in list_compared_sources(block):
        trained = block.find_deepest_trained(source)
        if trained and block.scratch:
            yield Family(FamilyKind.TRANSFER, scope), trained, block.scratch, None
    for source in block.chains:
        for a, b in list_chain_pairs(block, source):
            yield Family(FamilyKind.CHAIN, scope), a, b, None
    for source in block.sources:
        full, best = block.find_deepest_trained(source), block.find_best(source)
        if not full:
            continue
        if best and {*best.by_seed.values()} - {full}:
            yield Family(FamilyKind.BEST, scope), best.cell, full, best
        for cell in block.list_grid(source):
            if cell.key not in (full, block.scratch):
                yield Family(FamilyKind.DEPTH, scope), cell.key, full, None
    reference = (
        block.find_deepest_trained(block.imagenet) if block.imagenet else None
    ) or block.scratch
    for cell in block.cells.values():
        if cell.source.is_imported and reference:
            yield Family(FamilyKind.IMPORTED, scope), cell.key, reference, None


def list_treatment_pairs(block: Block) -> Iterator[tuple[Family, str, str, Best | None]]:
    """Yield (family, a, b, best) of a fine-tuning block, as `list_pairs` does."""
    scope = (("dataset", block.dataset), ("model", block.model), *block.recipe)
    for source in block.sources:
        plain = find_plain(block, source)
        if not plain:
            continue
        best = block.choose(source, list_finetuned(block, source), plain)
        if best and {*best.by_seed.values()} - {plain}:
            yield Family(FamilyKind.FINETUNING, scope), best.cell, plain, best
        for cell in list_treated(block, source):
            yield Family(FamilyKind.TREATMENT, scope), cell.key, plain, None


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
