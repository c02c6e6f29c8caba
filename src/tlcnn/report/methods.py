"""How the runs of a report were made, in the words of a paper: written from their records alone.

plans and provenance -> a sentence for each fact -> paragraphs

Where runs differ in a fact, each of its sentences says which runs it is about.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from tlcnn.errors import list_names
from tlcnn.records.plan_record import PlanRecord
from tlcnn.report.assumptions import (
    describe_errors,
    describe_layers,
    describe_margin,
    describe_measures,
)
from tlcnn.report.content import Content
from tlcnn.report.method_sentences import (
    AUGMENTATION,
    DATA,
    NETWORKS,
    PREPROCESSING,
    SELECTION,
    TRAINING,
    Sentence,
)
from tlcnn.report.references import REFERENCES, list_references
from tlcnn.report.searches import describe_searches
from tlcnn.report.subgroups import describe_subgroup_tests
from tlcnn.report.words import join_words, name_chain, name_dataset, name_metric
from tlcnn.study.runs import drop_trials
from tlcnn.text import count

Paragraph = tuple[str, tuple[str, ...]]  # heading, sentences


def make_methods(content: Content) -> tuple[Paragraph, ...]:
    """Return what the finished runs of a report have in common, and how they differ.

    A fact that no record holds is left out. Imported runs were trained elsewhere: their records
    say nothing about it.
    """
    runs = drop_trials(content.runs)
    done = runs[runs["state"] == "done"].get("plan", ())
    records = [plan for plan in done if isinstance(plan, PlanRecord)]
    plans = [plan for plan in records if not plan.imported]
    n_imported = len(records) - len(plans)
    imported = f"{count(n_imported, 'run')} of other tools: their training is not recorded."
    paragraphs = [
        ("Data", write_facts(plans, DATA)),
        ("Preprocessing", _write_shared(plans, PREPROCESSING)),
        ("Augmentation", _write_shared(plans, AUGMENTATION)),
        ("Networks", (*write_facts(plans, NETWORKS), *_describe_parents(plans))),
        ("Training", (*_write_shared(plans, TRAINING), *[imported][:n_imported])),
        ("Selection", (*_write_shared(plans, SELECTION), *describe_searches(content))),
        ("Seeds", tuple(_describe_seeds(content))),
        ("Hardware and software", tuple(_describe_place(content))),
        ("Statistics", (*_describe_statistics(content), *content.assumptions)),
        ("Subgroups", describe_subgroup_tests(content)),
        ("Layers", (*describe_layers(content), *describe_measures(content))),
        (REFERENCES, list_references(content)),
    ]
    return tuple((heading, lines) for heading, lines in paragraphs if lines)


# ---- which runs a sentence is about -------------------------------------------------------------


def write_facts(plans: Sequence[PlanRecord], sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """Return every different sentence; each names what it is about."""
    lines = [line for write in sentences for line in _list_lines(plans, write)]
    return tuple(dict.fromkeys(filter(None, lines)))


def _write_shared(plans: Sequence[PlanRecord], sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """Return the sentences that hold for all runs as they are, others with the runs' name."""
    lines = []
    for write in sentences:
        by_line: dict[str, list[PlanRecord]] = {}
        for plan, line in zip(plans, _list_lines(plans, write), strict=True):
            by_line.setdefault(line, []).append(plan)
        is_shared = len(by_line) == 1
        for line, members in by_line.items():
            if line:
                lines.append(line if is_shared else f"{_name_runs(members, plans)}: {line}")
    return tuple(lines)


def _list_lines(plans: Sequence[PlanRecord], write: Sentence) -> list[str]:
    lines = []
    for plan in plans:
        try:
            lines.append(write(plan))
        except (KeyError, TypeError, ValueError):  # the record lacks the fact, or is damaged
            lines.append("")
    return lines


_NAMES: tuple[Callable[[PlanRecord], str], ...] = (
    lambda plan: name_dataset(plan.dataset),
    lambda plan: plan.model,
    lambda plan: name_chain(plan.source),
)


def _name_runs(members: Sequence[PlanRecord], plans: Sequence[PlanRecord]) -> str:
    """Return the dataset, model or source that these runs alone have, else their number."""
    run_ids = {plan.run_id for plan in members}
    for name in _NAMES:
        names = dict.fromkeys(map(name, members))
        if names.keys().isdisjoint(name(p) for p in plans if p.run_id not in run_ids):
            return join_words(list(names))
    return f"{len(members)} of {len(plans)} runs"


def _describe_parents(plans: Sequence[PlanRecord]) -> Iterator[str]:
    """Yield which runs each source of our own comes from, and whether intervals cover its luck."""
    chained: dict[tuple[str, str, str], list[PlanRecord]] = {}
    for plan in plans:
        if plan.ancestry:
            names = (name_dataset(plan.dataset), plan.model, name_chain(plan.source))
            chained.setdefault(names, []).append(plan)
    for (dataset, _, source), members in chained.items():
        parents = [plan.ancestry[0] for plan in members]
        if len(members[0].source) == 1:  # the network's own weights
            source, trained = f"{dataset} itself", ""
        else:
            first = parents[0].source
            start = "random" if first == ("random",) else name_chain(first)
            trained = f", which began with {start} weights"
        start = f"Runs of {dataset} from “{source}” started"
        n_parents, n_seeds = len({p.run_id for p in parents}), len({p.seed for p in members})
        place = name_dataset(parents[0].dataset)
        if n_parents == 1 and n_seeds > 1:
            yield (
                f"{start} from one run of {place} (seed {parents[0].seed}){trained}: the results "
                "are about this source, and the intervals do not cover its training."
            )
        else:
            is_same = all(a.seed == p.seed for a, p in zip(parents, members, strict=True))
            covered = ", so the intervals cover the training of the source too"
            yield (
                f"{start} from the run of {place} of {'the same' if is_same else 'another'} "
                f"seed{trained}{covered if n_seeds > 1 else ''}."
            )


# ---- of the whole report ------------------------------------------------------------------------


def _describe_seeds(content: Content) -> Iterator[str]:
    cells = content.cells.get("seeds", ())
    seeds = sorted({seed for cell in cells for seed in cell})
    sizes = sorted({len(cell) for cell in cells})
    if not seeds:
        return
    names = list_names(list(map(str, seeds)), 12)
    if len(sizes) == 1:
        yield f"Every cell was trained with {count(sizes[0], 'seed')} ({names})."
    else:
        yield f"Cells were trained with {sizes[0]} to {sizes[-1]} of the seeds {names}."


def _describe_place(content: Content) -> Iterator[str]:
    sections = {name: dict(pairs) for name, pairs in content.provenance}
    hardware, software = sections.get("hardware", {}), sections.get("software", {})
    if hardware:
        yield f"Hardware: {_join_pairs(hardware, without='platform')}."
    if software:
        yield f"Software: {_join_pairs(software, without='this report')}."


def _join_pairs(pairs: dict[str, str], *, without: str) -> str:
    parts = [f"{k} {text}" for k, text in pairs.items() if text != "unknown" and k != without]
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", "; ".join(parts))  # of a commit


def _describe_statistics(content: Content) -> Iterator[str]:
    yield f"The primary metric was {name_metric(content.metric)} on the test images."
    yield from describe_margin(content)
    yield from describe_errors(content)
    frame = content.comparisons
    if len(frame):
        sizes = frame.groupby("family", sort=False).size()
        families = [f"{name} ({count(int(n), 'comparison')})" for name, n in sizes.items()]
        yield f"The families of comparisons were: {'; '.join(families)}."
