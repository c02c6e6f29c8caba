"""Answers in words."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tlcnn.report.content import Finding
from tlcnn.report.detectable import write_detectable
from tlcnn.report.layer_sentences import write_layers
from tlcnn.report.missing import write_missing, write_unmeasured
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
    write_tuning,
)
from tlcnn.report.words import (
    join_words,
    name_block,
    name_cell,
    name_dataset,
    name_metric,
    name_source,
    write_settings,
)
from tlcnn.statistics.arm import Comparison
from tlcnn.statistics.notes import NoteKind
from tlcnn.study.answers import (
    Answer,
    BestAnswer,
    ChainAnswer,
    LayersAnswer,
    MissingCells,
    TransferAnswer,
    Unmeasured,
)
from tlcnn.study.block import Block
from tlcnn.study.comparisons import Contrast
from tlcnn.text import count

MOST_NAMES = 4  # cells in a sentence
_OPEN = {"inconclusive", "undetermined", "not measured"}


def write_finding(answer: Answer, contrasts: Sequence[Contrast]) -> Finding:
    """Return an answer in words.

    Args:
        contrasts: all comparisons; a finding names those that it rests on by their positions.
    """
    based_on: list[Contrast] = []
    verdicts: set[str] = set()
    if isinstance(answer, TransferAnswer):
        finding, based_on = _write_transfer(answer), [answer.contrast]
    elif isinstance(answer, BestAnswer):
        finding, based_on = _write_best(answer), [answer.contrast] if answer.contrast else []
        verdicts = {c.result.verdict for c in based_on or answer.others}
    elif isinstance(answer, ChainAnswer):
        finding = _write_chains(answer)
        based_on = [contrast for _, compared in answer.chains for contrast in compared]
    elif isinstance(answer, LayersAnswer):
        finding = write_layers(answer)
        verdicts = {unit.verdict for unit in answer.scores}
    else:
        finding = write_unmeasured(answer)
    positions = {id(contrast): position for position, contrast in enumerate(contrasts)}
    verdicts |= {contrast.result.verdict for contrast in based_on}
    finding = replace(
        finding,
        comparisons=tuple(sorted(positions[id(c)] for c in based_on)),
        is_open=bool(verdicts) and verdicts <= _OPEN,
    )
    if isinstance(answer, Unmeasured):
        return finding
    return _add_tuning(finding, answer.block, [key for c in based_on for key in (c.a, c.b)])


def _add_tuning(finding: Finding, block: Block, keys: Sequence[str]) -> Finding:
    """Return the finding with what its cells tried, or with the settings that were not tuned."""
    tuned = [cell for cell in map(block.cells.get, dict.fromkeys(keys)) if cell and cell.tuning]
    lines = [f"“{name_cell(cell)}” is {write_tuning(cell)}." for cell in tuned]
    if len({frozenset(cell.tuning.tried.values()) for cell in tuned if cell.tuning}) > 1:
        lines.append(
            "Not all of these cells tried the same values, which favours those with more."
        )
    fixed = tuple(setting for setting in block.recipe if setting[0].startswith("train."))
    question = finding.question
    if fixed:
        names, values = [key for key, _ in fixed], write_settings(fixed)
        question = f"{question.removesuffix('?')}, at {values}?"
        lines.append(
            f"There are runs with other values of {join_words(names)}. None was tuned, so "
            f"this answer holds at {values} alone. With --tuned {' '.join(names)} each cell "
            "takes its best on validation."
        )
    return replace(finding, question=question, details=(*finding.details, *lines))


def _write_transfer(answer: TransferAnswer) -> Finding:
    block, contrast = answer.block, answer.contrast
    source, delta = name_source(answer.source), contrast.result.delta.value
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
        (*_explain(contrast), *_describe_cells(block, (contrast.a, contrast.b))),
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


def _write_difference(contrast: Contrast, reference: str) -> str:
    """Return `2.4 points more (95 % interval +1.1 to +3.7, 3 seeds; no p) REFERENCE`."""
    delta = contrast.result.delta.value
    gap = f"{write_gap(delta, contrast.block.metric)} {'more' if delta > 0 else 'less'}"
    return f"{gap} ({_write_evidence(contrast)}) {reference}"


def _write_best(answer: BestAnswer) -> Finding:
    block, metric, best = answer.block, answer.block.metric, answer.best
    cell, contrast = block.cells[best.cell], answer.contrast
    recipe = f", {write_settings(best.recipe)}" if best.recipe else ""
    details: tuple[str, ...] = ()
    name = whole = "full fine-tuning"
    if answer.full and _write_depth(block, answer.full):
        name, whole = f"“{name_cell(block.cells[answer.full])}”", "nothing frozen"
    if not answer.full:
        verdict = "not compared"
        judgement = " Full fine-tuning was not trained, so nothing is compared with it."
        missing = MissingCells(block, answer.source.init, ((block.n_units, 0),))
        details = tuple(write_missing([missing]))
    elif best.arm is None:
        verdict, judgement = "not compared", ""
    elif contrast is None:
        verdict, judgement = whole, f" The recommended cell is {name}."
    else:
        reference = f"than {name}, which has {write_score(block.arms[contrast.b].mean, metric)}"
        verdict = _write_verdict(contrast.result, equivalent="as good")
        verdict = whole if best.cell == answer.full else verdict
        judgement = f" Choosing gives {_write_difference(contrast, reference)}."
        details = _explain(contrast)
    return Finding(
        "best_cell",
        f"Which layers to transfer from {name_source(answer.source)} and which to freeze, and is "
        "choosing them better than full fine-tuning?",
        verdict,
        f"On {name_block(block)}, validation recommends “{name_cell(cell)}” (k = {cell.k}, "
        f"j = {cell.j}{recipe}) of {answer.n_cells} cells. {_write_chosen(answer)}{judgement}",
        (
            f"The recommended cell has {write_score(block.mean_val(cell.key), metric)} on "
            f"validation and {write_score(block.arms[cell.key].mean, metric)} on test. Its "
            "networks took part in the choice, so both may be too high.",
            *details,
            *_describe_cells(block, [best.cell]),
            *_write_depths(answer),
        ),
        block.dataset,
    )


def _write_chosen(answer: BestAnswer) -> str:
    """Say what choosing on validation gives on test, or why that is unknown."""
    best, metric = answer.best, answer.block.metric
    if best.arm is None:
        return (
            "The cells do not share two seeds, so this choice and the test would rest on the same "
            "networks. It gets no verdict."
        )
    n_agree = sum(key == best.cell for key in best.by_seed.values())
    return (
        f"Choosing like this gives {write_score(best.arm.mean, metric)} {name_metric(metric)} on "
        "test: each half of the seeds chose a cell, and it was scored on the other half. The "
        f"recommended cell was chosen for {n_agree} of {len(best.by_seed)} seeds."
    )


def _write_depths(answer: BestAnswer) -> list[str]:
    """Say in one line which cells are settled against full fine-tuning, and which only guess."""
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
        "better": "better",
        "equivalent": f"equivalent within {write_gap(first.margin, block.metric)}",
        "worse": "worse",
        "inconclusive": "not settled",
        "chance": "at chance, so look at these runs before you cite them",
    }
    parts = [
        f"{start}: {_list_cells(names[key])}" for key, start in starts.items() if key in names
    ]
    n = len(answer.others)
    start = f"{count(n, 'cell')} {'was' if n == 1 else 'were'} compared with full fine-tuning"
    family = f"family “{name_question(answer.others[0].family)}” of {first.family_size}"
    verdicts = "; ".join(parts)
    return [f"{start} ({family}). {verdicts[0].upper()}{verdicts[1:]}."]


def _list_cells(names: Sequence[str]) -> str:
    """Return the names of cells, or their number and where they are named."""
    if len(names) <= MOST_NAMES:
        return join_words(names)
    return f"{len(names)} cells (see the tables of comparisons and of cells)"


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
        for contrast in with_random:
            details.append(f"{name}: {_write_difference(contrast, 'than from random weights')}.")
        for contrast in (with_imagenet, *with_random):
            details += [f"{name}: {line}" for line in _explain(contrast)]
    compared = [contrast for _, contrasts in answer.chains for contrast in contrasts]
    details += _describe_cells(block, [key for c in compared for key in (c.a, c.b)])
    first = answer.chains[0][1]
    start = f"It is {_write_means(first[0])[1]} from ImageNet alone"
    if len(first) > 1:
        start += f" and {_write_means(first[1])[1]} from random weights"
    is_one = len({verdict for _, verdict in verdicts}) == 1
    return Finding(
        "chain",
        f"Does {name_dataset(answer.dataset)} help {name_dataset(block.dataset)} more than "
        "ImageNet?",
        verdicts[0][1] if is_one else ", ".join(f"{place}: {v}" for place, v in verdicts),
        f"On {name_block(block)}, {name_metric(metric)} is {'; '.join(parts)}. {start}.",
        tuple(dict.fromkeys(details)),
        block.dataset,
    )


def _write_verdict(comparison: Comparison, equivalent: str = "equivalent") -> str:
    answers = {"better": "yes", "worse": "no", "equivalent": equivalent}
    return answers.get(comparison.verdict, "inconclusive")


def _explain(contrast: Contrast) -> tuple[str, ...]:
    """Return what a comparison leaves out, and what it could detect, as sentences."""
    comparison, metric = contrast.result, contrast.block.metric
    lines = list_contrast_remarks(contrast)
    if comparison.verdict == "inconclusive":
        lines.append(write_detectable(comparison, lambda size: write_gap(size, metric)))
    return tuple(f"{line[0].upper()}{line[1:]}." for line in lines if line)
