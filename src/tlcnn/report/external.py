"""Scores on other datasets, for `tlcnn test`, `tlcnn compare --external` and the report alike."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from tlcnn.config.hold_out import KEY as HOLD_OUT
from tlcnn.config.schema import check_word
from tlcnn.errors import list_names
from tlcnn.records.external import ExternalRecord
from tlcnn.report.comparison_frame import tabulate_comparisons
from tlcnn.report.content import ExternalScores
from tlcnn.report.numbers import format_estimate, format_value
from tlcnn.report.remarks import write_notes
from tlcnn.report.show import show_column
from tlcnn.report.table import Column, Entry, Table
from tlcnn.report.tables import join_columns
from tlcnn.report.words import name_cell, name_dataset, write_settings
from tlcnn.statistics.arm import Arm
from tlcnn.statistics.metrics import parse_metric
from tlcnn.study.cells import Cell, make_cells
from tlcnn.study.external import ExternalCell, compare_external, list_external_cells
from tlcnn.study.runs import make_single_runs
from tlcnn.text import count

METRICS = ("test/balanced_accuracy", "test/macro_auroc", "test/accuracy")
ALL_METRICS = (
    *METRICS,
    *(f"test/{name}" for name in ("macro_f1", "nll", "brier", "ece")),
    "test/group/balanced_accuracy",
)
OVER = "seeds and test groups", "test groups"  # what an interval is over

_LEFT_OUT = {
    "class": "of classes that are left out",
    "seen": "that training or validation has seen",
    "broken": "that cannot be decoded",
}
_NOT_COMPARED = "Left out of comparisons: training or validation has used some of these images."


# ---- sentences ----------------------------------------------------------------------------------


def describe_test(record: ExternalRecord) -> Iterator[str]:
    """Yield sentences on what was selected and how classes were matched."""
    if record.split == "all":
        chosen = "all images, whatever their split"
    elif record.is_official:
        chosen = f"the {record.split} split that the dataset comes with"
    elif held_out := [word for word in record.words if word.startswith(f"{HOLD_OUT}=")]:
        chosen = f"the {record.split} split of {held_out[-1]}"
    else:
        chosen = f"the {record.split} split, as tlcnn draws it"
    yield (
        f"Tested on {name_dataset(record.dataset)}, {chosen}: "
        f"{count(record.n_images, 'image')} of {count(record.n_groups, 'group')}."
    )
    renamed = [f"{name} as {to}" for name, to in record.class_map.items() if to not in ("", name)]
    if renamed:
        yield f"Classes of the dataset that count as others of the run: {list_names(renamed, 12)}."
    dropped = [name for name, target in record.class_map.items() if not target]
    for why, n in record.left_out.items():
        if n:
            names = f" ({list_names(dropped)})" if why == "class" else ""
            yield f"Left out: {count(n, 'image')} {_LEFT_OUT.get(why, why)}{names}."
    if record.n_accepted:
        ways = ", ".join(f"{n:,} in {way}" for way, n in record.seen.items())
        yield (
            f"{count(record.n_accepted, 'image')} that the run has used before were accepted "
            f"({ways}): the score is too good."
        )
    if record.unchecked:
        yield (
            f"It was not checked whether {list_names(record.unchecked)} was trained on these "
            "images."
        )
    if record.absent:
        n_present = len(record.n_per_class) - len(record.absent)
        yield (
            f"No image is of {list_names(record.absent, 12)}: means over classes are over the "
            f"other {n_present}, and an image that is taken for an absent class is wrong."
        )


def name_tested(external: ExternalCell) -> str:
    """Return what was tested: a cell, one run of it, or an ensemble."""
    name = name_cell(external.cell)
    if external.n_networks > 1:
        return f"{name}, mean of {external.n_networks} networks"
    return name


# ---- tables -------------------------------------------------------------------------------------


def make_external_frame(external: Sequence[ExternalCell], metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row for each tested cell, as `Content.external` has them."""
    rows: list[dict[str, Any]] = []
    for each in external:
        cell, record = each.cell, each.record
        row: dict[str, Any] = {
            "cell": cell.key,
            "label": name_tested(each),
            "trained_on": cell.dataset,
            "tested_on": record.dataset,
            "split": record.split,
            "model": cell.model,
            "recipe": write_settings(cell.recipe),
            "n_images": record.n_images,
            "n_groups": record.n_groups,
            "n_classes": len(record.n_per_class) - len(record.absent),
            "seeds": sorted({r.seed for r in cell.runs}) if each.n_networks == 1 else None,
            "n_networks": each.n_networks,
            "run_ids": [run.run_id for run in cell.runs],
            "images": record.images,
            "over": OVER[each.is_fixed],
            "remarks": (*describe_test(record), *([_NOT_COMPARED] if each.has_accepted else [])),
        }
        for metric in metrics:
            estimate = each.estimate(metric)
            for part in ("value", "low", "high"):
                column = metric if part == "value" else f"{metric} {part}"
                row[column] = getattr(estimate, part) if estimate else float("nan")
            if metric == metrics[0]:
                row["note"] = write_notes(estimate.notes) if estimate else "not measured"
        rows.append(row)
    return pd.DataFrame(rows)


def make_external(
    tests: pd.DataFrame | None,
    cells: Mapping[str, Cell],
    arms: Mapping[str, Mapping[str, Arm]],
    metrics: Iterable[str],
    metric: str,
    margin: float,
) -> ExternalScores | None:
    """Return what cells scored on other datasets; None where none was tested.

    Args:
        tests: what `read_tests` returned.
        arms: the arms of the cells, by metric.
        metrics: those that are shown; validation metrics are left out.
        metric: the metric that cells are judged by.
        margin: of equivalence, in units of the metric.
    """
    names = [name for name in metrics if parse_metric(name).split == "test"]
    external = [] if tests is None else list_external_cells(tests, cells.values(), names)
    if not external:
        return None
    compared = list(compare_external(external, arms, metric, margin))
    comparisons = tabulate_comparisons([contrast for _, contrast in compared])
    comparisons["dataset"] = [
        f"{name_dataset(contrast.block.dataset)}, tested on {name_dataset(record.dataset)}"
        for record, contrast in compared
    ]
    return ExternalScores(make_external_frame(external, names), comparisons)


def make_score_table(frame: pd.DataFrame, metrics: Sequence[str]) -> Table:
    """Return the rows of `make_external_frame` as `tlcnn compare --external` shows them."""
    heads = {
        "trained_on": "trained on",
        "model": "model",
        "label": "cell",
        "recipe": "recipe",
        "tested_on": "tested on",
        "split": "split",
        "n_images": "images",
        "n_groups": "groups",
        "seeds": "seeds",
    }
    shown = {k: h for k, h in heads.items() if k != "recipe" or (frame[k] != "").any()}
    frame = frame.assign(seeds=[format_value(seeds) for seeds in frame["seeds"]])
    columns = [show_column(head, frame[key].tolist(), role="key") for key, head in shown.items()]
    for metric in metrics:
        parts = frame[[metric, f"{metric} low", f"{metric} high"]].to_numpy(float).tolist()
        entries = [
            Entry(format_estimate(v, low=low, high=high), v, {"low": low, "high": high})
            for v, low, high in parts
        ]
        columns.append((Column(metric, "number", role="score"), entries))
    columns.append(show_column("interval over", frame["over"].tolist()))
    return join_columns(columns, list_test_remarks(frame))


def list_test_remarks(frame: pd.DataFrame) -> list[str]:
    """Return the remarks on the tests of a frame, each once, with the notes on its intervals."""
    texts = [text for remarks in frame["remarks"] for text in remarks]
    return list(dict.fromkeys([*texts, *filter(None, frame["note"])]))


def list_run_tests(
    tests: pd.DataFrame, runs: pd.DataFrame, metrics: Sequence[str] = ()
) -> list[ExternalCell]:
    """Return each tested run, and then each ensemble, as a cell of its own.

    Args:
        tests: what `read_tests` returned.
        runs: what `read_runs` returned for the tested runs.
        metrics: none: all that a table of one test shows.

    Raises:
        ConfigError: a metric that no test has.
    """
    scored = {name for record in tests["record"] for name in record.metrics}
    for name in metrics:
        check_word("--metrics", name, tuple(sorted(scored)))
    names = metrics or [*ALL_METRICS, *(n for n in scored if n.startswith("test/recall/"))]
    external = []
    for run in make_single_runs(runs):
        rows = tests[tests["run_id"] == run.run_id]
        external += list_external_cells(rows, make_cells([run]), names)
    return sorted(external, key=lambda each: each.n_networks > 1)


def make_result_table(external: ExternalCell) -> Table:
    """Return one row for each metric of one test."""
    record = external.record
    names = [name for name in ALL_METRICS if name in external.arms]
    recalls = [f"test/recall/{name}" for name in record.n_per_class]
    names += [name for name in recalls if name in external.arms]
    rows = [(name, external.estimate(name)) for name in names]
    entries = [
        Entry(format_estimate(e.value, low=e.low, high=e.high), e.value)
        for _, e in rows
        if e is not None
    ]
    keys = [parse_metric(name) for name in names]
    counts = [
        record.n_groups
        if key.by_group
        else record.n_per_class.get(key.class_name, record.n_images)
        for key in keys
    ]
    columns = [
        show_column("metric", names, role="key"),
        (Column("value [95 % interval]", "number", role="score"), entries),
        show_column("images or groups", counts),
    ]
    return join_columns(columns)
