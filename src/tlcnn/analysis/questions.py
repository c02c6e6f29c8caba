"""The questions of a transfer study, answered from comparisons: in words, with numbers.

cells + arms -> pairs to compare (families) -> Comparison -> Holm -> Answer
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tlcnn.analysis import words
from tlcnn.analysis.block import Block, find_best, list_chains, list_grid
from tlcnn.analysis.cells import name_dataset, name_source
from tlcnn.analysis.statistics.arm import Comparison

TRANSFER, BEST, CHAIN, DEPTH = (
    "transfer against random weights",
    "best cell against full fine-tuning",
    "sources for the second dataset",
    "every cell against full fine-tuning",
)


@dataclass(frozen=True)
class Answer:
    """One question, answered in words with numbers.

    Attributes:
        key: `imagenet_vs_random`, `best_cell`, `chain` or `layers`.
        question: as a person would ask it.
        verdict: `yes`, `no`, `equivalent`, `inconclusive`, `not measured`, or a short answer.
        answer: one to three sentences, with numbers, intervals and n.
        details: more sentences: what it rests on, what would settle it, the command to run.
        dataset: what it was measured on; empty for all.
        pairs: the comparisons that it rests on, as (family, a, b).
    """

    key: str
    question: str
    verdict: str
    answer: str
    details: tuple[str, ...] = ()
    dataset: str = ""
    pairs: tuple[tuple[str, str, str], ...] = ()


# ---- what is compared ---------------------------------------------------------------------------


def list_pairs(block: Block) -> list[tuple[str, str, str]]:
    """Return (family, a, b) of every comparison that a block's cells allow."""
    scratch = block.find("random", 0, 0)
    starts = [block.find_full(source) for source in list_asked(block)]
    pairs = [(TRANSFER, start, scratch) for start in starts if start and scratch]
    pairs += _list_chain_pairs(block)
    for source in block.sources:
        full, best = block.find_full(source), find_best(block, source)
        if full and best and best != full:
            pairs.append((BEST, best, full))
        others = [cell for cell in list_grid(block, source).index if cell not in (full, scratch)]
        pairs += [(DEPTH, cell, full) for cell in others if full]
    return pairs


def list_asked(block: Block) -> list[str]:
    """Return the sources to compare with random weights: ImageNet, or all where it is not."""
    return ["imagenet"] if "imagenet" in block.sources else block.sources


def _list_chain_pairs(block: Block) -> list[tuple[str, str, str]]:
    """Compare every chain with ImageNet alone and with random weights."""
    imagenet, scratch = block.find_full("imagenet"), block.find("random", 0, 0)
    pairs = []
    for source in list_chains(block):
        chain = block.find_full(source)
        pairs += [(CHAIN, chain, other) for other in (imagenet, scratch) if chain and other]
    return pairs


# ---- answers ------------------------------------------------------------------------------------


def answer_transfer(block: Block, source: str) -> Answer | None:
    """Does a source beat random weights, by how much, and is it significant?"""
    start, scratch = block.find_full(source), block.find("random", 0, 0)
    if not start or not scratch:
        return None
    pair = (TRANSFER, start, scratch)
    found = block.compared[pair]
    metric = words.name_metric(block.metric)
    named = name_source(source.removeprefix("random-"))
    other = f"from random weights, which reach {block.score(scratch)}"
    answer = (
        f"On {block.place}, fine-tuning from {named} reaches {block.score(start)} {metric}: "
        f"{words.format_difference(found, block.metric, other)}."
    )
    return Answer(
        "imagenet_vs_random",
        f"Does {named} beat random weights?",
        _say_yes(found),
        answer,
        _explain(found),
        block.dataset,
        (pair,),
    )


def answer_best(block: Block, source: str) -> Answer | None:
    """Which (k, j) is best, and is it better than full fine-tuning?"""
    full, best = block.find_full(source), find_best(block, source)
    grid = list_grid(block, source)
    if not full or not best or len(grid) < 3:
        return None
    cell = grid.loc[best].to_dict()
    optimism = block.val[best] - block.arms[best].mean
    chosen = (
        f"On {block.place}, of {len(grid)} cells the best on validation is "
        f"“{block.label(best)}” (k = {cell['k']}, j = {cell['j']}): "
        f"{block.score(best)} {words.name_metric(block.metric)} on test."
    )
    pair = (BEST, best, full)
    if best == full:
        verdict, told = "full fine-tuning", "It is full fine-tuning itself."
        details: tuple[str, ...] = ()
    else:
        found = block.compared[pair]
        verdict = _say_yes(found, equal="as good")
        other = f"full fine-tuning, which has {block.score(full)}"
        told = f"That is {words.format_difference(found, block.metric, other)}."
        details = _explain(found)
    on_val = words.format_score(block.val[best], block.metric)
    way = "above" if optimism > 0 else "below"
    flattery = (
        f"The best was chosen on validation, where it has {on_val}: "
        f"{words.format_gap(optimism, block.metric)} {way} its test score (validation − test, the "
        "optimism of choosing)."
    )
    return Answer(
        "best_cell",
        f"Which layers to transfer from {name_source(source)} and which to freeze, and is that "
        "better than full fine-tuning?",
        verdict,
        f"{chosen} {told}",
        (flattery, *details, *_tell_depths(block, source)),
        block.dataset,
        () if best == full else (pair,),
    )


def _tell_depths(block: Block, source: str) -> tuple[str, ...]:
    """Say which cells are settled against full fine-tuning, by verdict."""
    full = block.find_full(source)
    told: dict[str, list[str]] = {}
    for (family, a, b), found in block.compared.items():
        if family == DEPTH and b == full:
            told.setdefault(found.verdict, []).append(f"“{block.label(a)}”")
    margin = words.format_gap(next(iter(block.compared.values())).margin, block.metric)
    phrases = {
        "better": "Better than full fine-tuning",
        "equivalent": f"Equivalent to it within {margin}",
        "worse": "Worse",
        "inconclusive": "Not settled",
    }
    return tuple(
        f"{phrase}: {words.join_words(told[key])}."
        for key, phrase in phrases.items()
        if key in told
    )


def answer_chain(block: Block) -> Answer | None:
    """Does another dataset help this one more than ImageNet?"""
    imagenet, scratch = block.find_full("imagenet"), block.find("random", 0, 0)
    chains = list_chains(block)
    if not chains or not imagenet:
        return None
    alone = [source for source in chains if not source.startswith("imagenet")]
    asked = (alone or chains)[0]
    others = [source for source in chains if source != asked]
    told = [_tell_chain(block, source, imagenet) for source in (asked, *others)]
    start = f"From ImageNet itself {block.score(imagenet)}"
    start += f", from random weights {block.score(scratch)}" if scratch else ""
    details = [line for source in (asked, *others) for line in _explain_chain(block, source)]
    middle = name_source(asked.split("-", 1)[-1])
    lead = (CHAIN, str(block.find_full(asked)), imagenet)
    return Answer(
        "chain",
        f"Does {middle} help {name_dataset(block.dataset)} more than ImageNet?",
        _say_yes(block.compared[lead]),
        f"On {block.place}, {words.name_metric(block.metric)} is {'; '.join(told)}. {start}.",
        tuple(details),
        block.dataset,
        tuple(pair for pair in _list_chain_pairs(block)),
    )


def _tell_chain(block: Block, source: str, imagenet: str) -> str:
    chain = str(block.find_full(source))
    found = block.compared[(CHAIN, chain, imagenet)]
    gap = words.format_difference(found, block.metric, "from ImageNet")
    return f"{block.score(chain)} from {name_source(source)}, {gap}"


def _explain_chain(block: Block, source: str) -> list[str]:
    """Say what would settle it, and how the chain stands against random weights."""
    named, chain = name_source(source), block.find_full(source)
    lines = []
    for (family, a, b), found in block.compared.items():
        if (family, a) != (CHAIN, chain):
            continue
        lines += [f"{named}: {line}" for line in _explain(found)]
        if b == block.find("random", 0, 0):
            gap = words.format_difference(found, block.metric, "from random weights")
            lines.append(f"{named}: {gap}.")
    return lines


def answer_layers(scores: pd.DataFrame, place: str, source: str, margin: float) -> Answer:
    """Which units are general, which specific?"""
    named = {
        verdict: [str(unit) for unit in scores[scores["verdict"] == verdict]["unit"]]
        for verdict in ("general", "specific", "undetermined")
    }
    told = [
        f"{verdict}: " + words.join_words([_tell_unit(scores, unit) for unit in units])
        for verdict, units in named.items()
        if units
    ]
    short = ", ".join(f"{len(units)} {v}" for v, units in named.items() if units)
    return Answer(
        "layers",
        f"Which layers of {name_source(source)} are general, which specific?",
        short or "not measured",
        f"On {place}, by the specificity gap S(n) = M(BnB) − M(AnB) of the first n units frozen: "
        + ("; ".join(told) if told else "no pair of AnB and BnB was trained")
        + ".",
        (
            f"General: S(n) is below {100 * margin:g} point, interval included. Specific: it is "
            "above zero, interval included, and above that margin. Else undetermined.",
            *_tell_needs(scores),
        ),
    )


def _tell_unit(scores: pd.DataFrame, unit: str) -> str:
    row = scores[scores["unit"] == unit].iloc[0]
    bounds = f" [{100 * row['S_low']:.1f}, {100 * row['S_high']:.1f}]"
    known = "" if math.isnan(row["S_low"]) else bounds
    return f"{unit} ({100 * row['S']:.1f}{known})".replace("-", "−")


def _tell_needs(scores: pd.DataFrame) -> Iterable[str]:
    needs = scores[scores["seeds_needed"].notna()]
    for row in needs.to_dict("records"):
        number = row["seeds_needed"]
        many = "more test groups, not more seeds" if math.isinf(number) else f"{number:.0f} seeds"
        yield f"To settle {row['unit']}: about {many}."


def _say_yes(found: Comparison, equal: str = "equivalent") -> str:
    return {"better": "yes", "worse": "no", "equivalent": equal}.get(found.verdict, "inconclusive")


def _explain(found: Comparison) -> tuple[str, ...]:
    lines = [found.delta.note] if found.delta.note else []
    if found.verdict == "inconclusive":
        lines.append(words.format_seeds_needed(found))
    return tuple(line[0].upper() + line[1:] for line in lines if line)


UNMEASURED: tuple[dict[str, Any], ...] = (
    {
        "key": "imagenet_vs_random",
        "question": "Does ImageNet beat random weights?",
        "verdict": "not measured",
        "answer": "No dataset was trained from both.",
        "details": ("Train it: python -m tlcnn.train -m init=imagenet,random seed=0,1,2",),
    },
    {
        "key": "best_cell",
        "question": "Which layers to transfer and which to freeze?",
        "verdict": "not measured",
        "answer": "No dataset has three cells of one source to choose from.",
        "details": ("Train it: python -m tlcnn.train experiment=grid",),
    },
    {
        "key": "chain",
        "question": "Does HAM10000 help a second dataset more than ImageNet?",
        "verdict": "not measured",
        "answer": "No run starts from a network that was trained on another dataset of yours.",
        "details": ("Train it: python -m tlcnn.train experiment=proposal",),
    },
    {
        "key": "layers",
        "question": "Which layers are general, which specific?",
        "verdict": "not measured",
        "answer": "It takes runs that freeze the first n units of the source and of the network's "
        "own weights (AnB and BnB).",
        "details": ("Train it: python -m tlcnn.train experiment=yosinski",),
    },
)
