"""Answers in words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tlcnn.records.search import ArmRecord
from tlcnn.report.best_sentences import write_best
from tlcnn.report.content import Finding
from tlcnn.report.evidence import (
    describe_cells,
    explain_contrast,
    write_depth,
    write_difference,
    write_evidence,
    write_means,
    write_verdict,
)
from tlcnn.report.layer_sentences import write_layers
from tlcnn.report.missing import write_unmeasured
from tlcnn.report.numbers import write_gap, write_score
from tlcnn.report.remarks import write_tuning
from tlcnn.report.words import (
    join_words,
    name_block,
    name_dataset,
    name_member,
    name_metric,
    name_source,
    write_settings,
)
from tlcnn.study.answers import (
    Answer,
    BestAnswer,
    ChainAnswer,
    LayersAnswer,
    ParentScore,
    TransferAnswer,
    Unmeasured,
)
from tlcnn.study.block import Block
from tlcnn.study.cells import Source
from tlcnn.study.comparisons import Contrast
from tlcnn.study.finetuning import drop_untreated
from tlcnn.text import count

_OPEN = {"inconclusive", "no verdict", "undetermined", "not measured"}


def write_finding(
    answer: Answer, contrasts: Sequence[Contrast], blocks: Sequence[Block]
) -> Finding:
    """Return an answer in words; its question names the dataset, and the model where it must.

    Args:
        contrasts: all comparisons; a finding names those that it rests on by their positions.
        blocks: all blocks of the report.
    """
    based_on: list[Contrast] = []
    verdicts: set[str] = set()
    if isinstance(answer, TransferAnswer):
        finding, based_on = _write_transfer(answer), [answer.contrast]
    elif isinstance(answer, BestAnswer):
        finding, based_on = write_best(answer), [answer.contrast] if answer.contrast else []
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
    if isinstance(answer, Unmeasured):
        return finding
    block = answer.block
    n_models = len({b.model for b in blocks if b.dataset == block.dataset})
    place = name_dataset(block.dataset) + (f", {block.model}" if n_models > 1 else "")
    finding = replace(
        finding,
        question=f"{place}: {finding.question}",
        comparisons=tuple(sorted(positions[id(c)] for c in based_on)),
        is_open=bool(verdicts) and verdicts <= _OPEN,
    )
    return _add_tuning(finding, block, [key for c in based_on for key in (c.a, c.b)])


def compare_trials(arms: Sequence[ArmRecord]) -> list[str]:
    """Return a sentence on how the searches of arms differ, if they do."""
    if len({len(arm.trials) for arm in arms}) > 1:
        return ["Not all of these cells had as many trials, which favours those with more."]
    if len({arm.space for arm in arms}) > 1:
        return ["Not all of these cells were searched over the same values."]
    return []


def _add_tuning(finding: Finding, block: Block, keys: Sequence[str]) -> Finding:
    """Return the finding with what its cells tried, or with the settings that were not tuned."""
    cells = [cell for cell in map(block.cells.get, dict.fromkeys(keys)) if cell]
    tuned = [cell for cell in cells if cell.tuning]
    lines = [
        f"“{name_member(block, c.key)}” is {write_tuning(c)}."
        for c in cells
        if c.tuning or c.searched
    ]
    lines += compare_trials([cell.searched.arm for cell in cells if cell.searched])
    if len({frozenset(cell.tuning.tried.values()) for cell in tuned if cell.tuning}) > 1:
        lines.append(
            "Not all of these cells tried the same values, which favours those with more."
        )
    fixed = tuple(s for s in drop_untreated(block.recipe) if s[0].startswith("train."))
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
    reached, drawn = write_means(contrast)
    cells = [block.cells[key] for key in (contrast.a, contrast.b)]
    lengths = {cell.n_epochs for cell in cells}
    epochs = count(n, "epoch") if len(lengths) == 1 and (n := lengths.pop()) else ""
    return Finding(
        "imagenet_vs_random",
        f"does starting from {source} beat random weights{f' in {epochs}' if epochs else ''}?",
        write_verdict(contrast.result),
        f"On {name_block(block)}, {name_metric(block.metric)} after "
        f"{f'{epochs} of ' if epochs else ''}fine-tuning is {reached} from "
        f"{source}{write_depth(block, contrast.a)} and {drawn} from random weights"
        f"{_write_chance(block.arms[contrast.b].n_options)}: "
        f"a {'gain' if delta > 0 else 'loss'} of {write_gap(delta, block.metric)} "
        f"({write_evidence(contrast)}).{_write_parents({answer.source: answer.parent}, block)}",
        (*explain_contrast(contrast), *describe_cells(block, (contrast.a, contrast.b))),
        block.dataset,
    )


def _write_chance(n_options: int) -> str:
    """Return ` (guessing: 14.3 %)` for so many options; empty where they are unknown."""
    return f" (guessing: {100 / n_options:.1f} %)" if n_options else ""


def _write_parents(parents: Mapping[Source, ParentScore | None], block: Block) -> str:
    """Return how well the networks do themselves that sources come from, as sentences."""
    scored = [(source, parent) for source, parent in parents.items() if parent]
    if not scored:
        return ""
    texts = [
        f"“{name_source(source)}” started from had {write_score(parent.value, block.metric)} on "
        f"{name_dataset(parent.dataset)}{_write_chance(parent.n_options)}"
        for source, parent in scored
    ]
    start, those = "The networks that", " and those that "
    return f" {start} {those.join(texts)} themselves. The answer is about such networks."


def _write_chains(answer: ChainAnswer) -> Finding:
    block, metric = answer.block, answer.block.metric
    parts, details, verdicts = [], [], []
    for source, (with_imagenet, *with_random) in answer.chains:
        name = name_source(source)
        gap = write_difference(with_imagenet, "than from ImageNet")
        score = write_score(block.arms[with_imagenet.a].mean, metric)
        parts.append(f"{score} from {name}, {gap}")
        place = "after ImageNet" if source.chain[0] == "imagenet" else "alone"
        verdicts.append((place, write_verdict(with_imagenet.result)))
        for contrast in with_random:
            details.append(f"{name}: {write_difference(contrast, 'than from random weights')}.")
        for contrast in (with_imagenet, *with_random):
            details += [f"{name}: {line}" for line in explain_contrast(contrast)]
    compared = [contrast for _, contrasts in answer.chains for contrast in contrasts]
    details += describe_cells(block, [key for c in compared for key in (c.a, c.b)])
    first = answer.chains[0][1]
    start = f"It is {write_means(first[0])[1]} from ImageNet alone"
    if len(first) > 1:
        start += f" and {write_means(first[1])[1]} from random weights"
    is_one = len({verdict for _, verdict in verdicts}) == 1
    return Finding(
        "chain",
        f"does {name_dataset(answer.dataset)} help more than ImageNet?",
        verdicts[0][1] if is_one else ", ".join(f"{place}: {v}" for place, v in verdicts),
        f"On {name_block(block)}, {name_metric(metric)} is {'; '.join(parts)}. {start}."
        + _write_parents(answer.parents, block),
        tuple(dict.fromkeys(details)),
        block.dataset,
    )
