"""The answer on the best cell in words."""

from collections.abc import Sequence

from tlcnn.errors import list_names
from tlcnn.report.content import Finding
from tlcnn.report.evidence import (
    describe_cells,
    explain_contrast,
    write_depth,
    write_difference,
    write_verdict,
)
from tlcnn.report.missing import write_missing
from tlcnn.report.numbers import format_gap, is_number, name_unit, write_gap, write_score
from tlcnn.report.remarks import name_question
from tlcnn.report.words import (
    join_words,
    name_block,
    name_member,
    name_metric,
    name_source,
    write_settings,
)
from tlcnn.statistics.notes import NoteKind
from tlcnn.study.answers import BestAnswer, MissingCells
from tlcnn.study.finetuning import list_shared_treatments
from tlcnn.text import count

MOST_NAMES = 4  # cells in a sentence
MOST_SEEDS = 12


def write_best(answer: BestAnswer) -> Finding:
    """Return which cell validation chooses, and what choosing is worth, in words."""
    block, metric, best = answer.block, answer.block.metric, answer.best
    cell, contrast = block.cells[best.cell], answer.contrast
    recipe = f", {write_settings(best.recipe)}" if best.recipe else ""
    details: tuple[str, ...] = ()
    name = "full fine-tuning"
    if answer.full and (write_depth(block, answer.full) or answer.question == "finetuning"):
        name = f"“{name_member(block, answer.full)}”"
    if not answer.full:
        verdict = "not compared"
        which = f" {_write_plain(answer)}" if answer.question == "finetuning" else ""
        judgement = f" Full fine-tuning{which} was not trained, so nothing is compared with it."
        missing = MissingCells(block, answer.source.init, ((block.n_units, 0),))
        details = tuple(write_missing([missing]))
    elif best.arm is None:
        verdict, judgement = "not compared", ""
    elif contrast is None:
        verdict = f"validation chose {name} itself: nothing to compare"
        judgement = f" The recommended cell is {name} itself: there is nothing to compare."
    else:
        reference = f"than {name}, which has {write_score(block.arms[contrast.b].mean, metric)}"
        verdict = write_verdict(contrast.result, equivalent="as good")
        if best.cell == answer.full:
            verdict = f"validation chose {name} itself"
        judgement = f" Choosing gives {write_difference(contrast, reference)}."
        n_same = sum(key == answer.full for key in best.by_seed.values())
        if n_same:
            judgement += (
                f" For {n_same} of {count(len(best.by_seed), 'seed')} {name} itself was chosen, "
                "so there it is compared with itself."
            )
        details = explain_contrast(contrast)
    return Finding(
        answer.question,
        _ask_best(answer),
        verdict,
        f"On {name_block(block)}, validation recommends “{name_member(block, best.cell)}” "
        f"(k = {cell.k}, j = {cell.j}{recipe}) of {best.n_cells} cells. "
        f"{_write_chosen(answer)}{judgement}",
        (
            _write_optimism(answer),
            *details,
            *describe_cells(block, [best.cell]),
            *_write_depths(answer),
        ),
        block.dataset,
    )


def _ask_best(answer: BestAnswer) -> str:
    """Return the question, of what the grid varies: k, j, or both."""
    block, source = answer.block, name_source(answer.source)
    if answer.question == "finetuning":
        return (
            f"which fine-tuning from {source} is best, and is choosing it better than full "
            f"fine-tuning {_write_plain(answer)}?"
        )
    points = {(cell.k, cell.j) for cell in answer.cells if cell.k}
    ks, js = ({point[i] for point in points} for i in (0, 1))
    number = "and is choosing their number better than full fine-tuning?"
    if len(ks) == 1:
        k = max(ks)
        transferred = "all" if k == block.n_units else f"the first {k}"
        return (
            f"how many units of {source} to freeze, when {transferred} are transferred, {number}"
        )
    if js == {0}:
        return f"how many units of {source} to transfer, when none is frozen, {number}"
    return (
        f"which units of {source} to transfer and which to freeze, and is choosing them better "
        "than full fine-tuning?"
    )


def _write_plain(answer: BestAnswer) -> str:
    """Return what tells full fine-tuning from the treated cells: `without any treatment`."""
    shared = list_shared_treatments(answer.cells)
    if not shared:
        return "without any treatment"
    return f"without any treatment except {write_settings(shared)}, which all cells have"


def _write_optimism(answer: BestAnswer) -> str:
    """Return the recommended cell's own scores beside what all cells lose from val to test."""
    block, metric, key = answer.block, answer.block.metric, answer.best.cell
    gaps = [block.mean_val(c.key) - block.arms[c.key].mean for c in answer.cells]
    gaps = [gap for gap in gaps if is_number(gap)]
    return (
        f"The recommended cell has {write_score(block.mean_val(key), metric)} on validation and "
        f"{write_score(block.arms[key].mean, metric)} on test. Its networks took part in the "
        "choice, so both may be too high. Validation minus test is "
        f"{format_gap(sum(gaps) / len(gaps), metric)} {name_unit(metric)}".rstrip()
        + f" on average over all {len(gaps)} cells with both scores, chosen or not."
    )


def _write_chosen(answer: BestAnswer) -> str:
    """Say what choosing on validation gives on test, or why that is unknown."""
    best, metric = answer.best, answer.block.metric
    if best.arm is None:
        return (
            "The cells do not share two seeds, so this choice and the test would rest on the same "
            "networks. It gets no verdict."
        )
    n_agree, n_seeds = sum(key == best.cell for key in best.by_seed.values()), len(best.by_seed)
    first, second = (
        f"seed{'s' if len(half) > 1 else ''} {_list_seeds(half)}" for half in best.halves
    )
    text = (
        f"Choosing like this gives {write_score(best.arm.mean, metric)} {name_metric(metric)} on "
        f"test: for {first} with the cell that {second} chose, and for {second} with the cell "
        f"that {first} chose. The recommended cell was chosen for {n_agree} of {n_seeds} seeds."
    )
    if n_agree == n_seeds:
        return text
    sizes = " or ".join(map(str, sorted({len(half) for half in best.halves})))
    return (
        f"{text} So this is the score of choosing with {sizes} seed{'s' * (sizes != '1')}, and "
        f"not that of the recommended cell, which all {n_seeds} seeds chose together."
    )


def _list_seeds(seeds: Sequence[int]) -> str:
    names = [*map(str, seeds)]
    return join_words(names) if len(names) <= MOST_SEEDS else list_names(names, MOST_SEEDS)


def _write_depths(answer: BestAnswer) -> list[str]:
    """Say in one line which cells are settled against full fine-tuning, and which only guess."""
    if not answer.others:
        return []
    block, first = answer.block, answer.others[0].result
    names: dict[str, list[str]] = {}
    for contrast in answer.others:
        name = f"“{name_member(block, contrast.a)}”"
        names.setdefault(contrast.result.verdict, []).append(name)
        note = block.find_chance_note(contrast.a)
        if note and note.kind is NoteKind.AT_CHANCE:
            names.setdefault("chance", []).append(name)
    starts = {
        "better": "better",
        "equivalent": f"equivalent within {write_gap(first.margin, block.metric)}",
        "worse": "worse",
        "inconclusive": "not settled",
        "no verdict": "no verdict, because a class has too few test groups",
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
