"""Answers in words."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tlcnn.report.content import Finding
from tlcnn.report.missing import write_missing
from tlcnn.report.numbers import (
    LEAST_P,
    format_range,
    format_score,
    is_number,
    name_unit,
    write_gap,
    write_score,
)
from tlcnn.report.remarks import list_remarks, write_improving, write_note
from tlcnn.report.words import (
    join_words,
    name_block,
    name_cell,
    name_dataset,
    name_metric,
    name_source,
)
from tlcnn.statistics.arm import Comparison
from tlcnn.statistics.notes import NoteKind
from tlcnn.study.answers import (
    Answer,
    BestAnswer,
    ChainAnswer,
    LayersAnswer,
    MissingCells,
    Question,
    TransferAnswer,
    Unmeasured,
)
from tlcnn.study.block import Block
from tlcnn.study.cells import Source
from tlcnn.study.comparisons import Contrast
from tlcnn.text import count


def write_finding(answer: Answer, contrasts: Sequence[Contrast]) -> Finding:
    """Return an answer in words.

    Args:
        contrasts: all comparisons; a finding names those that it rests on by their positions.
    """
    based_on: list[Contrast] = []
    if isinstance(answer, TransferAnswer):
        finding, based_on = _write_transfer(answer), [answer.contrast]
    elif isinstance(answer, BestAnswer):
        finding, based_on = _write_best(answer), [answer.contrast] if answer.contrast else []
    elif isinstance(answer, ChainAnswer):
        finding = _write_chains(answer)
        based_on = [contrast for _, compared in answer.chains for contrast in compared]
    elif isinstance(answer, LayersAnswer):
        finding = _write_layers(answer)
    else:
        finding = _write_unmeasured(answer)
    positions = {id(contrast): position for position, contrast in enumerate(contrasts)}
    return replace(finding, comparisons=tuple(sorted(positions[id(c)] for c in based_on)))


def _write_transfer(answer: TransferAnswer) -> Finding:
    block, contrast = answer.block, answer.contrast
    chain, delta = answer.source.chain, contrast.result.delta.value
    source = name_source(
        Source(answer.source.init, chain=chain[chain[0] == "random" and len(chain) > 1 :])
    )
    reached, drawn = _write_means(contrast)
    cells = [block.cells[key] for key in (contrast.a, contrast.b)]
    lengths = {cell.n_epochs for cell in cells}
    epochs = count(n, "epoch") if len(lengths) == 1 and (n := lengths.pop()) else ""
    return Finding(
        "imagenet_vs_random",
        f"Does {source} beat random weights{f' in {epochs}' if epochs else ''}?",
        _write_verdict(contrast.result),
        f"On {name_block(block)}, {name_metric(block.metric)} after "
        f"{f'{epochs} of ' if epochs else ''}fine-tuning is {reached} from "
        f"{source}{_write_depth(block, contrast.a)} and {drawn} from random weights: "
        f"a {'gain' if delta > 0 else 'loss'} of {write_gap(delta, block.metric)} "
        f"({_write_evidence(contrast)}).",
        (*_explain(contrast.result), *_describe_cells(block, (contrast.a, contrast.b))),
        block.dataset,
    )


def _describe_cells(block: Block, keys: Iterable[str]) -> Iterator[str]:
    """Yield what the tables note on cells: that they may gain from more epochs, or only guess."""
    for key in dict.fromkeys(keys):
        chance = block.find_chance_note(key)
        for text in (write_improving(block.cells[key]), write_note(chance) if chance else ""):
            if text:
                yield f"“{name_cell(block.cells[key])}”: {text}."


def _write_depth(block: Block, key: str) -> str:
    """Return through which unit a cell was transferred; empty where it was all of them."""
    k = block.cells[key].k
    if k >= block.n_units:
        return ""
    return f" through {block.units[k - 1] if k <= len(block.units) else f'unit {k}'}"


def _write_means(contrast: Contrast) -> list[str]:
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


def _write_evidence(contrast: Contrast) -> str:
    """Return interval, seeds and p of a difference: `95 % interval 1.1 to 3.7, 3 seeds; no p`."""
    delta, p = contrast.result.delta, contrast.result.p_holm
    evidence = count(delta.n_seeds, "seed")
    if is_number(delta.low):
        interval = format_range(delta.low, delta.high, contrast.block.metric)
        evidence = f"95 % interval {interval}, {evidence}"
    elif delta.n_seeds < 2:
        evidence += ": no interval is possible"
    if not is_number(p):
        return f"{evidence}; no p"
    size = f"< {LEAST_P}" if p < LEAST_P else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
    return f"{evidence}; adjusted p {size} in a family of {contrast.result.family_size}"


def _write_difference(contrast: Contrast, reference: str) -> str:
    """Return `2.4 points more (95 % interval 1.1 to 3.7, 3 seeds; no p) REFERENCE`."""
    delta = contrast.result.delta.value
    gap = f"{write_gap(delta, contrast.block.metric)} {'more' if delta > 0 else 'less'}"
    return f"{gap} ({_write_evidence(contrast)}) {reference}"


def _write_best(answer: BestAnswer) -> Finding:
    block, metric = answer.block, answer.block.metric
    cell, contrast = block.cells[answer.best], answer.contrast
    test, val = block.arms[answer.best].mean, block.val[answer.best]
    details: tuple[str, ...] = ()
    if contrast:
        is_full = not _write_depth(block, contrast.b)
        name = "full fine-tuning" if is_full else f"“{name_cell(block.cells[contrast.b])}”"
        reference = f"than {name}, which has {write_score(block.arms[contrast.b].mean, metric)}"
        verdict = _write_verdict(contrast.result, equivalent="as good")
        judgement = f"That is {_write_difference(contrast, reference)}."
        details = _explain(contrast.result)
    elif answer.full and _write_depth(block, answer.full):
        verdict, judgement = "nothing frozen", "Nothing in it is frozen."
    elif answer.full:
        verdict, judgement = "full fine-tuning", "It is full fine-tuning itself."
    else:
        verdict = "not compared"
        judgement = "Full fine-tuning was not trained, so nothing is compared with it."
        missing = MissingCells(block, answer.source.init, ((block.n_units, 0),))
        details = tuple(write_missing([missing]))
    return Finding(
        "best_cell",
        f"Which layers to transfer from {name_source(answer.source)} and which to freeze, and is "
        "that better than full fine-tuning?",
        verdict,
        f"On {name_block(block)}, of {answer.n_cells} cells the best on validation is "
        f"“{name_cell(cell)}” (k = {cell.k}, j = {cell.j}): {write_score(test, metric)} "
        f"{name_metric(metric)} on test. {judgement}",
        (
            f"The best was chosen on validation, where it has {write_score(val, metric)}: "
            f"{write_gap(val - test, metric)} {'above' if val > test else 'below'} its test score "
            "(validation − test, the optimism of choosing).",
            *details,
            *_describe_cells(block, [answer.best]),
            *_write_depths(answer),
        ),
        block.dataset,
    )


def _write_depths(answer: BestAnswer) -> list[str]:
    """Say which cells are settled against full fine-tuning, and which have learnt nothing."""
    if not answer.others:
        return []
    block, first = answer.block, answer.others[0].result
    names: dict[str, list[str]] = {}
    for contrast in answer.others:
        name = f"“{name_cell(block.cells[contrast.a])}”"
        names.setdefault(contrast.result.verdict, []).append(name)
        note = block.find_chance_note(contrast.a)
        if note and note.kind is NoteKind.AT_CHANCE:
            names.setdefault("chance", []).append(name)
    starts = {
        "better": "Better",
        "equivalent": f"Equivalent within {write_gap(first.margin, block.metric)}",
        "worse": "Worse",
        "inconclusive": "Not settled",
        "chance": "At chance, so look at these runs before you cite them",
    }
    lines = [
        f"{start}: {join_words(names[key])}." for key, start in starts.items() if key in names
    ]
    n_cells = count(len(answer.others), "further cell")
    return [f"{n_cells} against full fine-tuning, a family of {first.family_size}:", *lines]


def _write_chains(answer: ChainAnswer) -> Finding:
    block, metric = answer.block, answer.block.metric
    parts, details, verdicts = [], [], []
    for source, (with_imagenet, *with_random) in answer.chains:
        name = name_source(source)
        gap = _write_difference(with_imagenet, "than from ImageNet")
        score = write_score(block.arms[with_imagenet.a].mean, metric)
        parts.append(f"{score} from {name}, {gap}")
        place = "after ImageNet" if source.chain[0] == "imagenet" else "alone"
        verdicts.append((place, _write_verdict(with_imagenet.result)))
        for contrast in (with_imagenet, *with_random):
            details += [f"{name}: {line}" for line in _explain(contrast.result)]
        for contrast in with_random:
            details.append(f"{name}: {_write_difference(contrast, 'than from random weights')}.")
    compared = [contrast for _, contrasts in answer.chains for contrast in contrasts]
    details += _describe_cells(block, [key for c in compared for key in (c.a, c.b)])
    first = answer.chains[0][1]
    start = f"From ImageNet itself {_write_means(first[0])[1]}"
    if len(first) > 1:
        start += f", from random weights {_write_means(first[1])[1]}"
    is_one = len({verdict for _, verdict in verdicts}) == 1
    return Finding(
        "chain",
        f"Does {name_dataset(answer.dataset)} help {name_dataset(block.dataset)} more than "
        "ImageNet?",
        verdicts[0][1] if is_one else ", ".join(f"{place}: {v}" for place, v in verdicts),
        f"On {name_block(block)}, {name_metric(metric)} is {'; '.join(parts)}. {start}.",
        tuple(details),
        block.dataset,
    )


def _write_layers(answer: LayersAnswer) -> Finding:
    block, metric = answer.block, answer.block.metric
    source, score = name_source(answer.source), name_metric(metric)
    remarks = {"general": " (no cost)", "specific": " (a cost)", "undetermined": ""}
    by_verdict = {v: [u for u in answer.scores if u.verdict == v] for v in remarks}
    by_verdict = {verdict: units for verdict, units in by_verdict.items() if units}
    parts = []
    for verdict, units in by_verdict.items():
        texts = []
        for unit in units:
            gap = unit.gaps["S"]
            assert gap is not None  # the verdict says that it is measured
            text = f"{unit.unit} {format_score(gap.value, metric)}"
            interval = format_range(gap.low, gap.high, metric)
            texts.append(f"{text} [{interval}]" if is_number(gap.low) else text)
        parts.append(f"{verdict}{remarks[verdict]} {join_words(texts)}")
    margin = write_gap(answer.margin, metric)
    details = [
        f"S(n) = M(BnB) − M(AnB). M is the mean {score} over seeds. In AnB the first n units come "
        f"from {source} (A) and are frozen; in BnB they come from a network that was trained on "
        f"{name_dataset(block.dataset)} itself (B) and are frozen. All other units are trained.",
        f"General: S(n) is below {margin}, interval included. Specific: it is above zero, "
        "interval included, and above that margin. Else undetermined.",
    ]
    for unit in answer.scores:
        if math.isinf(unit.seeds_needed):
            details.append(f"To settle {unit.unit}: more test groups, not more seeds.")
        elif is_number(unit.seeds_needed):
            details.append(f"To settle {unit.unit}: about {unit.seeds_needed:.0f} seeds.")
    sides = (("AnB", answer.source.init), ("BnB", answer.own.init))
    points = {
        init: tuple((u.n, u.n) for u in answer.scores if (name, u.n) not in answer.arms)
        for name, init in sides
    }
    details += write_missing(MissingCells(block, init, p) for init, p in points.items() if p)
    return Finding(
        "layers",
        f"Which layers of {source} are general, which specific?",
        ", ".join(f"{len(units)} {verdict}" for verdict, units in by_verdict.items()),
        f"On {name_block(block)}, S(n) is the loss of {score}, in "
        f"{name_unit(metric) or 'its own units'}, from freezing the first n units of {source} "
        f"instead of the network's own (95 % intervals in brackets): {'; '.join(parts)}.",
        tuple(details),
    )


def _write_verdict(comparison: Comparison, equivalent: str = "equivalent") -> str:
    answers = {"better": "yes", "worse": "no", "equivalent": equivalent}
    return answers.get(comparison.verdict, "inconclusive")


def _explain(comparison: Comparison) -> tuple[str, ...]:
    """Return what a comparison leaves out, and what would settle it, as sentences."""
    lines = list_remarks(comparison)
    needed = comparison.seeds_needed
    if comparison.verdict == "inconclusive" and math.isinf(needed):
        lines.append("more seeds would not settle it: the test set is too small for such a gap")
    elif comparison.verdict == "inconclusive" and is_number(needed):
        lines.append(f"about {needed:.0f} seeds would settle a difference of this size")
    return tuple(f"{line[0].upper()}{line[1:]}." for line in lines)


# ---- what was not measured ----------------------------------------------------------------------

_UNMEASURED: dict[Question, tuple[str, str, str]] = {
    "imagenet_vs_random": (
        "Does ImageNet beat random weights?",
        "No dataset has a fine-tuned source and random weights, both trained by one recipe.",
        "-m init=imagenet,random seed=0,1,2",
    ),
    "best_cell": (
        "Which layers to transfer and which to freeze?",
        "No dataset has three cells of one source to choose from.",
        "experiment=grid",
    ),
    "chain": (
        "Does HAM10000 help a second dataset more than ImageNet?",
        "No dataset was fine-tuned both from ImageNet and from a network that was trained on "
        "another dataset of yours.",
        "experiment=proposal",
    ),
    "layers": (
        "Which layers are general, which specific?",
        "It takes runs that freeze the first n units of the source and of the network's own "
        "weights (AnB and BnB), with the same n.",
        "experiment=yosinski",
    ),
}


def _write_unmeasured(answer: Unmeasured) -> Finding:
    question, reason, study = _UNMEASURED[answer.question]
    details = write_missing(answer.missing) or [f"Train it: python -m tlcnn.train {study}"]
    parts = (answer.question, question, "not measured", reason, tuple(details))
    return Finding(*parts, is_measured=False)
