"""Notes, families of comparisons and omissions in words: what stands beside a number."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from tlcnn.errors import list_names
from tlcnn.records.search import SearchedArm
from tlcnn.records.summary import LEAST_RESPONSE
from tlcnn.report.numbers import is_number, write_gap, write_score
from tlcnn.report.words import join_words, write_settings
from tlcnn.statistics.arm import Arm, Comparison
from tlcnn.statistics.few_groups import REMEDY
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.study.arms import NEAR_CHANCE
from tlcnn.study.cells import Cell
from tlcnn.study.comparisons import Contrast, Family, FamilyKind
from tlcnn.study.runs import Omission
from tlcnn.text import count

_NOTES = {
    NoteKind.ONE_SEED: "one seed: no interval is possible",
    NoteKind.ALL_EQUAL: "all runs gave the same number",
    NoteKind.UNDEFINED: "the metric is not defined for all runs",
    NoteKind.NO_PREDICTIONS: "there are no predictions, so the interval covers new seeds only",
    NoteKind.UNUSABLE_PREDICTIONS: "predictions that cannot be used: {text}",
    NoteKind.SEEDS_ALONE: "the interval covers new seeds only",
    NoteKind.NO_REDRAWS: "the interval covers new seeds only, because this metric cannot be "
    "resampled",
    NoteKind.PARTLY_KNOWN: "not all of the cells have predictions: compared by their scores alone",
    NoteKind.FEW_GROUPS: "no verdict, because {classes} fewer than {further} test groups{listed}: "
    + REMEDY,
    NoteKind.LACKS_METRIC: "{seeds} without {text}, left out",
    NoteKind.OTHER_IMAGES: "not paired, because the test images differ",
    NoteKind.MAYBE_OTHER_IMAGES: "not paired, because it is unknown whether the test images are "
    "the same",
    NoteKind.COMMON_SEEDS: "paired by the {seeds} that both have (of {further})",
    NoteKind.UNPAIRED_SEEDS: "not paired by seed, because the seeds differ ({all} seeds)",
    NoteKind.FEW_SEEDS: "not paired by seed, because there are fewer than {further} seeds ({0})",
    NoteKind.P_OF_THESE_NETWORKS: "the p value covers new test images, not newly trained networks",
    NoteKind.FOLDS: "over {folds}, corrected for the training images that they share (Nadeau and "
    "Bengio 2003)",
    NoteKind.FOLD_MEANS: "the mean over folds, because there are not predictions of all images",
    NoteKind.AT_CHANCE: "at chance: the interval ends below {limit} (guessing: {share})",
    NoteKind.INCLUDES_CHANCE: "the interval includes the score of guessing, {share}",
    NoteKind.ZERO_DENOMINATOR: "the denominator is 0 or unknown",
    NoteKind.UNBOUNDED_RATIO: "the denominator may be 0: not identifiable",
    NoteKind.NO_GAMMA: "gamma not identifiable: random filters may do as well as B's own",
    NoteKind.NO_PAIR: "not all networks that this needs were trained",
    NoteKind.SMALL_SUBGROUP: "too few: a score needs {0} test groups or more of {further} classes "
    "or more, in the subgroup and in the rest",
    NoteKind.NOT_RECORDED: "no value is recorded: not in the rest either",
    NoteKind.WITHOUT_ROW: "no value is recorded: not in the rest either. {text} has no row for "
    "{0:,} of {further} test images",
    NoteKind.ONE_NETWORK: "one seed: of this very network, on new test groups alone",
    NoteKind.NO_SUBGROUP_METRIC: "this metric has no scores of subgroups",
}

_FAMILIES = {
    FamilyKind.TRANSFER: "transfer against random weights",
    FamilyKind.BEST: "choosing on validation against full fine-tuning",
    FamilyKind.CHAIN: "sources for the second dataset",
    FamilyKind.IMPORTED: "imported predictions",
    FamilyKind.FINETUNING: "choosing a fine-tuning on validation against full fine-tuning",
    FamilyKind.TREATMENT: "every treatment against full fine-tuning",
    FamilyKind.DEPTH: "every cell against full fine-tuning",
    FamilyKind.BASELINE: "against the baseline",
}


def write_note(note: Note) -> str:
    """Return a note on a number as half a sentence."""
    first, *further = note.counts or (0,)
    chance = 1 / max(first, 1)  # of one class among so many
    return _NOTES[note.kind].format(
        first,
        classes="1 class has" if first == 1 else f"{first} classes have",
        seeds=count(first, "seed"),
        folds=f"{count(first, 'fold')}, {further[0]} times" if further > [1] else f"{first} folds",
        further=" and ".join(map(str, further)),
        all=" and ".join(map(str, note.counts)),
        share=f"{100 * chance:.1f} %",
        limit=f"{100 * (chance + NEAR_CHANCE * (1 - chance)):.1f} %",
        text=note.text,
        listed=f" ({note.text})" if note.text else "",
    )


def write_notes(notes: Iterable[Note]) -> str:
    """Return notes as one text; empty for none."""
    return "; ".join(map(write_note, notes))


def write_improving(cell: Cell) -> str:
    """Return how many runs of a cell might gain from more epochs; empty for none."""
    n = sum(run.is_improving for run in cell.runs)
    if not n:
        return ""
    last = f"the last of {count(cell.n_epochs, 'epoch')}" if cell.n_epochs else "the last epoch"
    return f"best validation score in {last}: {n} of {count(len(cell.runs), 'run')}"


def write_response(cell: Cell) -> str:
    """Return why a cell may have learnt nothing: its frozen units ignore images; else empty."""
    shares = [r.frozen_response for r in cell.runs if r.frozen_response < LEAST_RESPONSE]
    if not shares:
        return ""
    return (
        "its frozen units hardly respond to images of this size: before training, at most "
        f"{100 * max(shares):.1f} % of their outputs differed between images"
    )


def list_remarks(comparison: Comparison) -> list[str]:
    """Return what a comparison leaves out, and why it may look settled, as half sentences."""
    remarks = [write_note(note) for note in comparison.delta.notes]
    is_clear_of_zero = comparison.delta.low > 0 or comparison.delta.high < 0
    if comparison.verdict == "inconclusive" and is_clear_of_zero:
        reason = "p also asks whether these networks differ on new test groups"
        if comparison.family_size > 1:
            reason = f"p is adjusted for the {comparison.family_size} comparisons of its family, "
            reason += "the interval is not"
        remarks.append(f"inconclusive although the interval is clear of 0: {reason}")
    if comparison.verdict == "inconclusive" and not is_number(comparison.delta.low):
        remarks.append("inconclusive whatever p is, because there is no interval")
    return remarks


def list_contrast_remarks(contrast: Contrast) -> list[str]:
    """Return the remarks on a comparison of two cells, and what its margin is worth."""
    arms = [contrast.block.arms[key] for key in (contrast.a, contrast.b)]
    room = write_room(contrast.result.margin, arms, contrast.block.metric)
    return [*list_remarks(contrast.result), *([room] if room else [])]


def write_room(margin: float, arms: Sequence[Arm], metric: str) -> str:
    """Return that a margin is larger than all that networks can lose; empty where it is not.

    They can lose what they have above the score of guessing.
    """
    best, options = max(arms, key=lambda arm: arm.mean), {arm.n_options for arm in arms}
    chance = 1 / max(options) if options == {max(options)} and max(options) else math.nan
    if not best.mean - chance < margin:
        return ""
    return (
        f"the margin of {write_gap(margin, metric)} is larger than all there is to lose: the best "
        f"of these scores is {write_score(best.mean, metric)}, guessing has "
        f"{write_score(chance, metric)}, so a network that only guesses is within the margin"
    )


def name_question(family: Family) -> str:
    """Return the question of a family of comparisons."""
    baseline = dict(family.scope).get("baseline")
    return _FAMILIES[family.kind] + (f" {baseline}" if baseline else "")


def name_family(family: Family) -> str:
    """Return what a family of comparisons is called: its question, and what it is asked of."""
    bounds = [
        str(value) if key in ("dataset", "model") else f"{key}={value}"
        for key, value in family.scope
        if key != "baseline"
    ]
    return f"{name_question(family)} ({', '.join(bounds)})"


def write_tuning(cell: Cell) -> str:
    """Return what a tuned cell tried, and what validation chose, as half a sentence."""
    if cell.searched:
        return _write_search(cell.searched)
    if not cell.tuning:
        return ""
    tried, choice = cell.tuning.tried, cell.tuning.choice
    listed = ", ".join(write_settings(values) for values in tried.values())
    if len(tried) == 1:
        return f"not tuned: {listed} alone was trained"
    lacking = [write_settings(v) for key, v in tried.items() if key not in cell.candidates]
    short = f" (no candidate, for lack of runs: {', '.join(lacking)})" if lacking else ""
    if not choice.by_seed:
        best = write_settings(tried[choice.best])
        return f"tuned by the validation score of the run itself: {best}; tried: {listed}{short}"
    noun = "fold" if cell.places and len(cell.seeds) == 1 else "seed"
    counts = Counter(choice.by_seed.values())
    chosen = [f"{write_settings(tried[k])} for {count(n, noun)}" for k, n in counts.items()]
    return f"tuned on validation: {join_words(chosen)}; tried: {listed}{short}"


def _write_search(searched: SearchedArm) -> str:
    search, arm = searched.search, searched.arm
    if not arm.space:
        return "of a search, but nothing was searched for it"
    ends = Counter(trial.state for trial in arm.trials)
    trials = f"{count(len(arm.trials), 'trial')} with seed {search.tuning_seed}"
    lost = [f"{ends[end]} {end}" for end in ("pruned", "diverged") if ends[end]]
    trials += f" ({', '.join(lost)})" if lost else ""
    chosen = arm.chosen
    values = write_settings(tuple(chosen.values.items())) if chosen else "nothing yet"
    return (
        f"tuned on validation: {values}, the best of {trials}; searched ({search.method}): "
        f"{'; '.join(arm.space)}"
    )


def write_omission(omission: Omission) -> str:
    """Return which runs are left out of the means, and why, as half a sentence."""
    if omission.kind == "repeated seed":
        runs, verb = ("run repeats", "counts") if omission.n == 1 else ("runs repeat", "count")
        return (
            f"{omission.n} {runs} a seed and {verb} in no mean (of the runs of one seed, the one "
            "whose id sorts first counts)"
        )
    if omission.kind == "lacks a seed":
        return (
            f"{count(omission.n, 'run')} of split seed {list_names(omission.names)} count in no "
            "mean: not all folds and seeds were trained"
        )
    if omission.kind == "lacks a fold":
        seeds, verbs = "seed", "lacks a fold and counts"
        if len(omission.names) > 1:
            seeds, verbs = "seeds", "lack a fold and count"
        return f"{seeds} {list_names(omission.names)} {verbs} in no mean"
    return f"{omission.n} of {omission.n_planned} folds are trained"


def write_omissions(omissions: Iterable[Omission]) -> str:
    """Return omissions as one text; empty for none."""
    return "; ".join(map(write_omission, omissions))
