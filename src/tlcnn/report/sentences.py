"""Answers, omissions and notes in words: here values become prose, and nowhere else."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tlcnn.errors import list_names
from tlcnn.report.content import Finding
from tlcnn.report.numbers import format_score, is_number, write_evidence, write_gap, write_score
from tlcnn.report.words import (
    join_words,
    name_cell,
    name_dataset,
    name_metric,
    name_source,
    write_settings,
)
from tlcnn.statistics.arm import Comparison
from tlcnn.statistics.notes import Note, NoteKind
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
from tlcnn.study.cells import Omission, Source
from tlcnn.study.comparisons import Contrast, Family, FamilyKind
from tlcnn.study.layers import UnitScores

_NOTES = {
    NoteKind.ONE_SEED: "one seed: no interval is possible",
    NoteKind.ALL_EQUAL: "all runs gave the same number",
    NoteKind.UNDEFINED: "the metric is not defined for all runs",
    NoteKind.NO_PREDICTIONS: "no predictions are kept, so the sampling of test images is not in "
    "the interval",
    NoteKind.UNUSABLE_PREDICTIONS: "predictions that cannot be used: {text}",
    NoteKind.SEEDS_ALONE: "the sampling of test images is not in the interval",
    NoteKind.NO_REDRAWS: "the sampling of test images is not in the interval (not known for this "
    "metric)",
    NoteKind.PARTLY_KNOWN: "not all of the cells have predictions: compared by their scores alone",
    NoteKind.LONE_GROUPS: "{0} classes have a single test group, whose sampling is not in the "
    "interval",
    NoteKind.LACKS_METRIC: "{0} seeds have no {text} and are left out",
    NoteKind.OTHER_IMAGES: "scored on different test images: not paired",
    NoteKind.MAYBE_OTHER_IMAGES: "not known to be scored on the same test images: not paired",
    NoteKind.P_OF_THESE_NETWORKS: "p covers new test images only, not newly trained networks",
    NoteKind.FOLDS: "over folds, corrected for the training images that they share (Nadeau and "
    "Bengio 2003)",
    NoteKind.ZERO_DENOMINATOR: "the denominator is 0 or unknown",
    NoteKind.UNBOUNDED_RATIO: "the denominator may be 0: not identifiable",
    NoteKind.NO_GAMMA: "gamma not identifiable: random filters may do as well as B's own",
    NoteKind.NO_PAIR: "no pair of AnB and BnB",
}

_FAMILIES = {
    FamilyKind.TRANSFER: "transfer against random weights",
    FamilyKind.BEST: "best cell against full fine-tuning",
    FamilyKind.CHAIN: "sources for the second dataset",
    FamilyKind.IMPORTED: "imported predictions",
    FamilyKind.DEPTH: "every cell against full fine-tuning",
    FamilyKind.BASELINE: "against the baseline",
}


# ---- notes, families, omissions -----------------------------------------------------------------


def write_note(note: Note) -> str:
    """Return a note on a number as half a sentence."""
    counts = list(map(str, note.counts))
    if note.kind is NoteKind.COMMON_SEEDS:
        return f"{counts[0]} common seeds of {' and '.join(counts[1:])}: paired by those"
    if note.kind is NoteKind.UNPAIRED_SEEDS:
        return f"{' and '.join(counts)} seeds: not paired by seed"
    return _NOTES[note.kind].format(*counts, text=note.text)


def write_notes(notes: Iterable[Note]) -> str:
    """Return notes as one text; empty for none."""
    return "; ".join(map(write_note, notes))


def name_family(family: Family) -> str:
    """Return what a family of comparisons is called, with its bounds."""
    name, bounds = _FAMILIES[family.kind], []
    for key, value in family.scope:
        if key == "baseline":
            name = f"{name} {value}"
        else:
            is_named = key in ("dataset", "model", "metric")
            bounds.append(str(value) if is_named else f"{key}={value}")
    return f"{name} ({', '.join(bounds)})" if bounds else name


def write_omission(omission: Omission) -> str:
    """Return which runs are left out of the means, and why, as half a sentence."""
    if omission.kind == "repeated seed":
        runs = "run repeats" if omission.n == 1 else "runs repeat"
        return f"{omission.n} {runs} a seed and count in no mean (the first run id counts)"
    if omission.kind == "lacks a fold":
        seeds, verb = ("seed", "lacks") if len(omission.names) == 1 else ("seeds", "lack")
        return f"{seeds} {list_names(omission.names)} {verb} a fold and count in no mean"
    return f"{omission.n} of {omission.n_planned} folds are trained"


def write_omissions(omissions: Iterable[Omission]) -> str:
    """Return omissions as one text; empty for none."""
    return "; ".join(map(write_omission, omissions))


def name_block(block: Block) -> str:
    """Return a block's name: `HAM10000 (mobilenetv2_100)`."""
    recipe = f", {write_settings(block.recipe)}" if block.recipe else ""
    return f"{name_dataset(block.dataset)} ({block.model}{recipe})"


# ---- answers ------------------------------------------------------------------------------------


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
    chain, delta = answer.source.chain, answer.contrast.result.delta.value
    source = name_source(
        Source(answer.source.init, chain=chain[chain[0] == "random" and len(chain) > 1 :])
    )
    reached, drawn = _write_means(contrast)
    return Finding(
        "imagenet_vs_random",
        f"Does {source} beat random weights?",
        _write_verdict(contrast.result),
        f"On {name_block(block)}, fine-tuning reaches {reached} {name_metric(block.metric)} from "
        f"{source}{_write_depth(block, contrast.a)} and {drawn} from random weights: "
        f"a {'gain' if delta > 0 else 'loss'} of {write_gap(delta, block.metric)} "
        f"({write_evidence(contrast.result, block.metric)}).",
        _explain(contrast.result),
        block.dataset,
    )


def _write_depth(block: Block, key: str) -> str:
    """Return through which unit a cell was transferred; empty where it was all of them."""
    k = block.cells[key].k
    if k >= block.n_units:
        return ""
    return f" through {block.units[k - 1] if k <= len(block.units) else f'unit {k}'}"


def _write_means(contrast: Contrast) -> list[str]:
    """Return the mean scores of two cells, over the seeds that their difference is of."""
    means = contrast.block.mean_over_pairs(contrast.a, contrast.b)
    return [write_score(mean, contrast.block.metric) for mean in means]


def _write_difference(contrast: Contrast, reference: str) -> str:
    """Return `2.4 points more (95 % interval 1.1 to 3.7, 3 seeds; no p) REFERENCE`."""
    delta, metric = contrast.result.delta.value, contrast.block.metric
    direction = "more" if delta > 0 else "less"
    evidence = write_evidence(contrast.result, metric)
    return f"{write_gap(delta, metric)} {direction} ({evidence}) {reference}"


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
        missing = MissingCells(block, answer.source.init, ((block.n_units, 0),))
        verdict = "not compared"
        judgement = "Full fine-tuning was not trained, so nothing is compared with it. "
        judgement += _write_missing(missing)
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
            *_write_depths(answer),
        ),
        block.dataset,
    )


def _write_depths(answer: BestAnswer) -> list[str]:
    """Say which cells are settled against full fine-tuning, and which have learnt nothing."""
    block = answer.block
    names: dict[str, list[str]] = {}
    for contrast in answer.others:
        name = f"“{name_cell(block.cells[contrast.a])}”"
        names.setdefault(contrast.result.verdict, []).append(name)
        if block.is_at_chance(contrast.a):
            names.setdefault("chance", []).append(name)
    margin = answer.others[0].result.margin if answer.others else 0.0
    starts = {
        "better": "Better than full fine-tuning",
        "equivalent": f"Equivalent to it within {write_gap(margin, block.metric)}",
        "worse": "Worse",
        "inconclusive": "Not settled",
        "chance": "Cannot be told from guessing, so look at these runs before you cite them",
    }
    return [f"{start}: {join_words(names[key])}." for key, start in starts.items() if key in names]


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
        details += [f"{name}: {line}" for line in _explain(with_imagenet.result)]
        for contrast in with_random:
            details += [f"{name}: {line}" for line in _explain(contrast.result)]
            details.append(f"{name}: {_write_difference(contrast, 'than from random weights')}.")
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
    source = name_source(answer.source)
    remarks = {"general": " (no cost)", "specific": " (a cost)", "undetermined": ""}
    by_verdict = {v: [u for u in answer.scores if u.verdict == v] for v in remarks}
    by_verdict = {verdict: units for verdict, units in by_verdict.items() if units}
    parts = [
        f"{verdict}{remarks[verdict]} {join_words([_write_unit(unit, metric) for unit in units])}"
        for verdict, units in by_verdict.items()
    ]
    margin = write_gap(answer.margin, metric)
    details = [
        f"S(n) = M(BnB) − M(AnB). General: it is below {margin}, interval included. Specific: "
        "it is above zero, interval included, and above that margin. Else undetermined."
    ]
    for unit in answer.scores:
        if math.isinf(unit.seeds_needed):
            details.append(f"To settle {unit.unit}: more test groups, not more seeds.")
        elif is_number(unit.seeds_needed):
            details.append(f"To settle {unit.unit}: about {unit.seeds_needed:.0f} seeds.")
    for name, init in (("AnB", answer.source.init), ("BnB", answer.own.init)):
        points = tuple((u.n, u.n) for u in answer.scores if (name, u.n) not in answer.arms)
        if points:
            details.append(_write_missing(MissingCells(block, init, points)))
    return Finding(
        "layers",
        f"Which layers of {source} are general, which specific?",
        ", ".join(f"{len(units)} {verdict}" for verdict, units in by_verdict.items()),
        f"On {name_block(block)}, S(n) is what freezing the first n units of {source} costs "
        f"against freezing the network's own: {'; '.join(parts)}.",
        tuple(details),
    )


def _write_unit(unit: UnitScores, metric: str) -> str:
    gap = unit.gaps["S"]
    assert gap is not None  # the verdict says that it is measured
    value, low, high = (format_score(x, metric) for x in (gap.value, gap.low, gap.high))
    return f"{unit.unit} ({value}{f' [{low}, {high}]' if is_number(gap.low) else ''})"


def _write_verdict(comparison: Comparison, equivalent: str = "equivalent") -> str:
    answers = {"better": "yes", "worse": "no", "equivalent": equivalent}
    return answers.get(comparison.verdict, "inconclusive")


def _explain(comparison: Comparison) -> tuple[str, ...]:
    """Return what a comparison leaves out, and what would settle it, as sentences."""
    lines = [write_notes(comparison.delta.notes)]
    needed = comparison.seeds_needed
    if comparison.verdict == "inconclusive" and math.isinf(needed):
        lines.append(
            "More seeds would not settle it: the test set is too small for such a difference."
        )
    elif comparison.verdict == "inconclusive" and is_number(needed):
        lines.append(f"About {needed:.0f} seeds would settle a difference of this size.")
    return tuple(line[0].upper() + line[1:] for line in lines if line)


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
    details = [_write_missing(missing) for missing in answer.missing]
    if not details:
        details = [f"Train it: python -m tlcnn.train {study}"]
    return Finding(answer.question, question, "not measured", reason, tuple(details))


def _write_missing(missing: MissingCells) -> str:
    """Say which runs are missing, and how to train them."""
    block = missing.block
    points = missing.points
    places = join_words([f"k = {k}, j = {j}" for k, j in points])
    k, j = points[0]
    options = [f"init={missing.init}"]
    names = {n: name for n, name in enumerate(block.units, start=1)}
    options += [f"init.through={names.get(k, k)}"] if 0 < k < block.n_units else []
    options += [f"freeze.through={names.get(j, j)}"] if j else []
    further = ", and likewise the others" if len(points) > 1 else ""
    return (
        f"Missing on {name_block(block)}: runs from {missing.init} with {places}. Train them with "
        f"the same dataset, model and recipe: python -m tlcnn.train -m {' '.join(options)} "
        f"seed=0,1,2{further}"
    )
