"""The questions of a transfer study, answered from comparisons: in words, with numbers.

cells + arms -> pairs to compare (families) -> Comparison -> Holm -> Answer
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tlcnn.statistics.arm import Comparison
from tlcnn.study import words
from tlcnn.study.block import Block, find_best, is_at_chance, list_chains, list_grid
from tlcnn.study.cells import name_dataset, name_source

TRANSFER, BEST, CHAIN, IMPORTED, DEPTH = (
    "transfer against random weights",
    "best cell against full fine-tuning",
    "sources for the second dataset",
    "imported predictions",
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


@dataclass(frozen=True)
class LayerTable:
    """Layer scores to be told: `compute_layer_scores`, of which source, metric and margin."""

    table: pd.DataFrame
    source: str
    metric: str
    margin: float


# ---- what is compared ---------------------------------------------------------------------------


def list_pairs(block: Block) -> list[tuple[str, str, str]]:
    """Return (family, a, b) of every comparison that a block's cells allow.

    All but the last family are declared: they answer a question. The last explores.
    """
    starts = [block.find_full(source) for source in list_asked(block)]
    pairs = [(TRANSFER, start, block.scratch) for start in starts if start and block.scratch]
    pairs += _list_chain_pairs(block)
    for source in block.sources:
        full, best = block.find_full(source), find_best(block, source)
        if full and best and best != full:
            pairs.append((BEST, best, full))
        known = (full, best, block.scratch)
        others = [cell for cell in list_grid(block, source).index if cell not in known]
        pairs += [(DEPTH, cell, full) for cell in others if full]
    return pairs + _list_imported_pairs(block)


def list_asked(block: Block) -> list[str]:
    """Return the sources to compare with random weights: ImageNet, or all where it is not."""
    imagenet = [source for source in block.sources if source.startswith("imagenet")]
    plain = [source for source in imagenet if source not in list_chains(block)]
    return plain or block.sources


def _list_chain_pairs(block: Block) -> list[tuple[str, str, str]]:
    """Compare every chain with ImageNet alone and with random weights."""
    imagenet = _find_imagenet(block)
    if imagenet is None:
        return []  # then it is asked about as a source of its own
    others = [other for other in (imagenet, block.scratch) if other]
    chains = [block.find_full(source) for source in list_chains(block)]
    return [(CHAIN, chain, other) for chain in chains if chain for other in others]


def _find_imagenet(block: Block) -> str | None:
    starts = [s for s in block.list_starts("imagenet") if block.find_full(s)]
    return block.find_full(starts[0]) if starts else None


def _list_imported_pairs(block: Block) -> list[tuple[str, str, str]]:
    """Compare what was imported with full fine-tuning, or with random weights."""
    against = _find_imagenet(block) or block.scratch
    imported = block.cells[block.cells["imported"].astype(bool)].index
    return [(IMPORTED, str(cell), against) for cell in imported if against]


# ---- answers ------------------------------------------------------------------------------------


def answer_transfer(block: Block, source: str) -> Answer | None:
    """Does a source beat random weights, by how much, and is it significant?"""
    start, scratch = block.find_full(source), block.scratch
    if not start or not scratch:
        return None
    pair = (TRANSFER, start, scratch)
    found = block.compared[pair]
    named = name_source(source.removeprefix("random-"))
    reached, drawn = block.score_pair(start, scratch)
    answer = (
        f"On {block.place}, fine-tuning reaches {reached} "
        f"{words.name_metric(block.metric)} from {named} and {drawn} from random "
        f"weights: {words.format_gain(found, block.metric)}."
    )
    question = f"Does {named} beat random weights?"
    details = _explain(found)
    return Answer(
        "imagenet_vs_random", question, _say_yes(found), answer, details, block.dataset, (pair,)
    )


def answer_best(block: Block, source: str) -> Answer | None:
    """Which (k, j) is best, and is it better than full fine-tuning?"""
    full, best = block.find_full(source), find_best(block, source)
    grid = list_grid(block, source)
    if not full or not best or len(grid) < 3:
        return None
    cell = grid.loc[best].to_dict()
    chosen = (
        f"On {block.place}, of {len(grid)} cells the best on validation is "
        f"“{block.label(best)}” (k = {cell['k']}, j = {cell['j']}): "
        f"{block.score(best)} {words.name_metric(block.metric)} on test."
    )
    verdict, told, details = _tell_best(block, best, full)
    return Answer(
        "best_cell",
        f"Which layers to transfer from {name_source(source)} and which to freeze, and is that "
        "better than full fine-tuning?",
        verdict,
        f"{chosen} {told}",
        (_tell_optimism(block, best), *details, *_tell_depths(block, source)),
        block.dataset,
        () if best == full else ((BEST, best, full),),
    )


def _tell_best(block: Block, best: str, full: str) -> tuple[str, str, tuple[str, ...]]:
    """Return verdict, sentence and details of the best cell against full fine-tuning."""
    if best == full:
        return "full fine-tuning", "It is full fine-tuning itself.", ()
    found = block.compared[(BEST, best, full)]
    other = f"than full fine-tuning, which has {block.score(full)}"
    told = f"That is {words.format_difference(found, block.metric, other)}."
    return _say_yes(found, equal="as good"), told, _explain(found)


def _tell_optimism(block: Block, best: str) -> str:
    optimism = block.val[best] - block.arms[best].mean
    on_val = words.format_score(block.val[best], block.metric)
    way = "above" if optimism > 0 else "below"
    return (
        f"The best was chosen on validation, where it has {on_val}: "
        f"{words.format_gap(optimism, block.metric)} {way} its test score (validation − test, the "
        "optimism of choosing)."
    )


def _tell_depths(block: Block, source: str) -> tuple[str, ...]:
    """Say which cells are settled against full fine-tuning, and which have learnt nothing."""
    full = block.find_full(source)
    told: dict[str, list[str]] = {}
    for (family, a, b), found in block.compared.items():
        if family == DEPTH and b == full:
            told.setdefault(found.verdict, []).append(f"“{block.label(a)}”")
            if is_at_chance(block, a):
                told.setdefault("chance", []).append(f"“{block.label(a)}”")
    margin = next((found.margin for found in block.compared.values()), 0.0)
    phrases = {
        "better": "Better than full fine-tuning",
        "equivalent": f"Equivalent to it within {words.format_gap(margin, block.metric)}",
        "worse": "Worse",
        "inconclusive": "Not settled",
        "chance": "No better than guessing, so look at these runs before citing them",
    }
    return tuple(
        f"{phrase}: {words.join_words(told[key])}."
        for key, phrase in phrases.items()
        if key in told
    )


def answer_chains(block: Block) -> list[Answer]:
    """Does another dataset help this one more than ImageNet? One answer for each of them."""
    imagenet = _find_imagenet(block)
    if not imagenet:
        return []
    ancestry = {cell["start"]: cell["ancestry"] for cell in block.full.to_dict("records")}
    middles: dict[str, list[str]] = {}
    for source in list_chains(block):
        middle = next(name for name in ancestry[source] if name != block.dataset)
        middles.setdefault(middle, []).append(source)
    return [_answer_chain(block, name, found, imagenet) for name, found in middles.items()]


def _answer_chain(block: Block, middle: str, chains: list[str], imagenet: str) -> Answer:
    ordered = sorted(chains, key=lambda source: source.startswith("imagenet"))  # alone first
    full = [str(block.find_full(source)) for source in ordered]
    found = [block.compared[(CHAIN, chain, imagenet)] for chain in full]
    told = [_tell_chain(block, *pair) for pair in zip(ordered, found, strict=True)]
    start = f"From ImageNet itself {block.score_pair(full[0], imagenet)[1]}"
    if block.scratch:
        start += f", from random weights {block.score_pair(full[0], block.scratch)[1]}"
    return Answer(
        "chain",
        f"Does {name_dataset(middle)} help {name_dataset(block.dataset)} more than ImageNet?",
        _summarise_chains(ordered, found),
        f"On {block.place}, {words.name_metric(block.metric)} is {'; '.join(told)}. {start}.",
        tuple(line for source in ordered for line in _explain_chain(block, source)),
        block.dataset,
        tuple(pair for pair in _list_chain_pairs(block) if pair[1] in full),
    )


def _summarise_chains(sources: list[str], found: list[Comparison]) -> str:
    """Return one verdict, or one for the dataset alone and one for it after ImageNet."""
    said = [_say_yes(one) for one in found]
    if len(set(said)) == 1:
        return said[0]
    places = ["after ImageNet" if s.startswith("imagenet") else "alone" for s in sources]
    return ", ".join(f"{place}: {word}" for place, word in zip(places, said, strict=True))


def _tell_chain(block: Block, source: str, found: Comparison) -> str:
    gap = words.format_difference(found, block.metric, "than from ImageNet")
    score = block.score(str(block.find_full(source)))
    return f"{score} from {name_source(source)}, {gap}"


def _explain_chain(block: Block, source: str) -> list[str]:
    """Say what would settle it, and how the chain stands against random weights."""
    named, chain = name_source(source), block.find_full(source)
    lines = []
    for (family, a, b), found in block.compared.items():
        if (family, a) != (CHAIN, chain):
            continue
        lines += [f"{named}: {line}" for line in _explain(found)]
        if b == block.scratch:
            gap = words.format_difference(found, block.metric, "than from random weights")
            lines.append(f"{named}: {gap}.")
    return lines


def answer_layers(scores: LayerTable, place: str) -> Answer:
    """Which units are general, which specific?"""
    table = scores.table
    means = {"general": " (no cost)", "specific": " (a cost)", "undetermined": ""}
    named = {v: table[table["verdict"] == v].to_dict("records") for v in means}
    told = [
        f"{v}{means[v]} {words.join_words([_tell_unit(row, scores.metric) for row in rows])}"
        for v, rows in named.items()
        if rows
    ]
    short = ", ".join(f"{len(rows)} {verdict}" for verdict, rows in named.items() if rows)
    margin = words.format_gap(scores.margin, scores.metric)
    return Answer(
        "layers",
        f"Which layers of {name_source(scores.source)} are general, which specific?",
        short or "not measured",
        f"On {place}, S(n) is what freezing the first n units of {name_source(scores.source)} "
        "costs against freezing the network's own: "
        + ("; ".join(told) if told else "no pair of AnB and BnB was trained")
        + ".",
        (
            f"S(n) = M(BnB) − M(AnB). General: it is below {margin}, interval included. Specific: "
            "it is above zero, interval included, and above that margin. Else undetermined.",
            *_tell_needs(table),
        ),
    )


def _tell_unit(row: Mapping[Any, Any], metric: str) -> str:
    numbers = [words.format_signed(row[key], metric) for key in ("S", "S_low", "S_high")]
    known = "" if math.isnan(row["S_low"]) else f" [{numbers[1]}, {numbers[2]}]"
    return f"{row['unit']} ({numbers[0]}{known})"


def _tell_needs(scores: pd.DataFrame) -> Iterable[str]:
    needs = scores[scores["seeds_needed"].notna()]
    for row in needs.to_dict("records"):
        number = row["seeds_needed"]
        more = "more test groups, not more seeds"
        many = more if math.isinf(number) else f"about {number:.0f} seeds"
        yield f"To settle {row['unit']}: {many}."


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
        "answer": "No dataset has full fine-tuning from both with one recipe.",
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
        "answer": "No dataset has full fine-tuning both from ImageNet and from a network that was "
        "trained on another dataset of yours.",
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
