"""What an answer rests on, in words: means, differences with their evidence, and verdicts."""

from collections.abc import Iterable, Iterator

from tlcnn.report.detectable import write_detectable
from tlcnn.report.numbers import (
    LEAST_P,
    format_gap,
    format_range,
    is_number,
    write_gap,
    write_score,
)
from tlcnn.report.remarks import (
    list_contrast_remarks,
    name_question,
    write_improving,
    write_note,
)
from tlcnn.report.words import name_member
from tlcnn.statistics.arm import Comparison
from tlcnn.study.block import Block
from tlcnn.study.comparisons import Contrast
from tlcnn.text import count


def describe_cells(block: Block, keys: Iterable[str]) -> Iterator[str]:
    """Yield what the tables note on cells: that they may gain from more epochs, or only guess."""
    for key in dict.fromkeys(keys):
        chance = block.find_chance_note(key)
        for text in (write_improving(block.cells[key]), write_note(chance) if chance else ""):
            if text:
                yield f"“{name_member(block, key)}”: {text}."


def write_depth(block: Block, key: str) -> str:
    """Return through which unit a cell was transferred; empty where it was all of them."""
    k = block.cells[key].k
    if k >= block.n_units:
        return ""
    return f" through {block.units[k - 1] if k <= len(block.units) else f'unit {k}'}"


def write_means(contrast: Contrast) -> list[str]:
    """Return the mean scores of two cells, over the seeds that their difference is of.

    Where a cell has further seeds, its mean over all of them stands beside it, as in the tables.
    """
    block = contrast.block
    texts = []
    means = block.mean_over_pairs(contrast.a, contrast.b)
    for key, mean in zip((contrast.a, contrast.b), means, strict=True):
        arm = block.arms[key]
        text = write_score(mean, block.metric)
        if mean != arm.mean:
            text += (
                f" (over the {count(contrast.result.delta.n_seeds, 'seed')} that both have; over "
                f"all {len(arm.scores)} it is {write_score(arm.mean, block.metric)})"
            )
        texts.append(text)
    return texts


def write_evidence(contrast: Contrast) -> str:
    """Return interval, seeds and p: `95 % interval +1.1 to +3.7, 3 seeds; no p`.

    A negative difference stands before its interval, with its sign.
    """
    delta, p, metric = contrast.result.delta, contrast.result.p_holm, contrast.block.metric
    evidence = count(delta.n_seeds, "seed")
    if is_number(delta.low):
        interval = format_range(delta.low, delta.high, metric, signed=True)
        evidence = f"95 % interval {interval}, {evidence}"
        if delta.value < 0:
            evidence = f"Δ = {format_gap(delta.value, metric)}, {evidence}"
    elif delta.n_seeds < 2:
        evidence += ": no interval is possible"
    if not is_number(p):
        return f"{evidence}; no p"
    size = f"< {LEAST_P}" if p < LEAST_P else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
    name, n = name_question(contrast.family), contrast.result.family_size
    return f"{evidence}; adjusted p {size}, family “{name}” of {n}"


def write_difference(contrast: Contrast, reference: str) -> str:
    """Return `2.4 points more (95 % interval +1.1 to +3.7, 3 seeds; no p) REFERENCE`."""
    delta = contrast.result.delta.value
    gap = f"{write_gap(delta, contrast.block.metric)} {'more' if delta > 0 else 'less'}"
    return f"{gap} ({write_evidence(contrast)}) {reference}"


def write_verdict(comparison: Comparison, equivalent: str = "equivalent") -> str:
    answers = {
        "better": "yes",
        "worse": "no",
        "equivalent": equivalent,
        "no verdict": "no verdict: too few test groups",
    }
    return answers.get(comparison.verdict, "inconclusive")


def explain_contrast(contrast: Contrast) -> tuple[str, ...]:
    """Return what a comparison leaves out, and what it could detect, as sentences."""
    comparison, metric = contrast.result, contrast.block.metric
    lines = list_contrast_remarks(contrast)
    if comparison.verdict == "inconclusive":
        lines.append(write_detectable(comparison, lambda size: write_gap(size, metric)))
    return tuple(f"{line[0].upper()}{line[1:]}." for line in lines if line)
