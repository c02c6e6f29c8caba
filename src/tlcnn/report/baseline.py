"""Every cell against a baseline of its dataset and model: difference, p, verdict."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from tlcnn.errors import ConfigError
from tlcnn.records.settings import CELL
from tlcnn.report.sentences import name_family, write_note
from tlcnn.report.tables import ScoredRow, Table
from tlcnn.statistics.arm import Comparison
from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.study.comparisons import Family, FamilyKind
from tlcnn.study.select import check_values, match_condition, parse_condition

_BLOCK = ("dataset", "model")


def add_comparisons(
    table: Table,
    rows: Sequence[ScoredRow],
    metrics: Sequence[str],
    words: Sequence[str],
    margin: float,
) -> Table:
    """Return a table with columns for the difference of every row to its baseline.

    `Δ METRIC` stands with its interval, and with the name and size of its family, that is all
    comparisons of one dataset, model and metric. `p METRIC` is as it is, `p Holm METRIC` adjusted
    within the family.

    Args:
        rows: those of the table.
        words: conditions such as `init=random` for the baseline.

    Raises:
        ConfigError: no cell is the baseline, or several of a dataset and model are.
    """
    pairs, notes = find_pairs(table.frame, words)
    frame = table.frame
    for metric in metrics:
        comparisons = _compare(rows, pairs, metric, margin, " ".join(words))
        records = {row: _make_record(result, metric) for row, result in comparisons.items()}
        columns = [
            f"Δ {metric}{part}" for part in ("", " low", " high", " family", " family_size")
        ]
        columns += [f"p {metric}", f"p Holm {metric}", f"verdict {metric}"]
        added = pd.DataFrame([records.get(i, {}) for i in range(len(frame))], columns=columns)
        frame = pd.concat([frame, added], axis=1)
        notes += _describe_differences(comparisons, metric)
    notes.append(
        f"Δ against {' '.join(words)}, 95 % intervals; p Holm is adjusted within its family; "
        f"equivalent within {margin:g}"
    )
    deltas = tuple(f"Δ {metric}" for metric in metrics)
    last = [c for c in frame.columns if c == "train_s"]
    return replace(
        table,
        frame=frame[[*(c for c in frame.columns if c not in last), *last]],
        scored=(*table.scored, *deltas),
        differences=deltas,
        notes=(*table.notes, *notes),
    )


def find_pairs(frame: pd.DataFrame, words: Sequence[str]) -> tuple[dict[int, int], list[str]]:
    """Return row -> its baseline's row, and a line on rows that have no baseline.

    Of several baselines in a dataset and model, the one with a row's further settings is taken.
    """
    hits, named = _find_hits(frame, words)
    block = [column for column in _BLOCK if column in frame]
    settings = [c for c in frame.columns if "." in c and "/" not in c and c not in named]
    blocks, recipes = _name_rows(frame, block), _name_rows(frame, settings)
    bases: dict[tuple[str, ...], list[int]] = {}
    for row in hits:
        bases.setdefault(blocks[row], []).append(row)
    pairs, without = {}, set()
    for row, place in enumerate(blocks):
        candidates = bases.get(place, [])
        if len(candidates) > 1:
            candidates = [base for base in candidates if recipes[base] == recipes[row]]
        if len(candidates) > 1:
            raise ConfigError(_describe_several(frame, candidates, words))
        if not candidates:
            without.add(" ".join(place))
        elif candidates[0] != row:
            pairs[row] = candidates[0]
    gaps = [f"not compared, as there is no baseline: {', '.join(sorted(without))}"]
    return pairs, gaps if without else []


def _find_hits(frame: pd.DataFrame, words: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the rows that fulfil all conditions, and the columns that those name."""
    hits = pd.Series(True, index=frame.index)
    columns = []
    for word in words:
        condition = parse_condition(word, "--baseline")
        if condition.column not in frame:
            raise ConfigError(
                f"--baseline {word}: the table's columns are {', '.join(frame.columns[:14])}"
            )
        check_values(frame, condition, "--baseline")
        hits &= match_condition(frame[condition.column], condition)
        columns.append(condition.column)
    if not hits.any():
        raise ConfigError(f"--baseline {' '.join(words)}: no cell is all of that")
    return [row for row, is_hit in enumerate(hits) if is_hit], columns


def _name_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the values of columns as texts, a tuple a row."""
    texts = [list(map(str, frame[column])) for column in columns]
    return list(zip(*texts, strict=True)) if texts else [()] * len(frame)


def _describe_several(frame: pd.DataFrame, rows: list[int], words: Sequence[str]) -> str:
    columns = [c for c in frame.columns if c in CELL or ("." in c and "/" not in c)]
    differ = [c for c in columns if frame[c].iloc[rows].map(str).nunique() > 1]
    values = [f"{c}={v}" for c in differ[:1] for v in frame[c].iloc[rows].map(str).unique()]
    return (
        f"--baseline {' '.join(words)}: {len(rows)} cells of one dataset and model are that; they "
        f"differ in {', '.join(differ) or 'nothing that is shown'}. Add e.g. "
        f"{values[0] if values else 'a column'}"
    )


def _compare(
    rows: Sequence[ScoredRow], pairs: dict[int, int], metric: str, margin: float, baseline: str
) -> dict[int, Comparison]:
    """Return the comparison of each row with its baseline, where both are single cells."""
    comparisons = {}
    for row, base in pairs.items():
        a, b = rows[row], rows[base]
        if not (a.is_cell and b.is_cell and a.arms[metric] and b.arms[metric]):
            continue
        scope = [(name, a.key[name]) for name in _BLOCK if name in a.key]
        family = Family(FamilyKind.BASELINE, (("baseline", baseline), *scope, ("metric", metric)))
        (first,), (second,) = a.arms[metric], b.arms[metric]
        comparisons[row] = compare_arms(first, second, margin=margin, family=family)
    return dict(zip(comparisons, adjust_holm(list(comparisons.values())), strict=True))


def _make_record(result: Comparison, metric: str) -> dict[str, object]:
    assert isinstance(result.family, Family)
    return {
        f"Δ {metric}": result.delta.value,
        f"Δ {metric} low": result.delta.low,
        f"Δ {metric} high": result.delta.high,
        f"Δ {metric} family": name_family(result.family),
        f"Δ {metric} family_size": result.family_size,
        f"p {metric}": result.p,
        f"p Holm {metric}": result.p_holm,
        f"verdict {metric}": result.verdict,
    }


def _describe_differences(comparisons: dict[int, Comparison], metric: str) -> list[str]:
    """Return what the differences leave out, with the number of rows, and their families."""
    counts: dict[str, int] = {}
    families: dict[str, int] = {}
    for result in comparisons.values():
        assert isinstance(result.family, Family)
        families[name_family(result.family)] = result.family_size
        for note in result.delta.notes:
            counts[write_note(note)] = counts.get(write_note(note), 0) + 1
    lines = [f"Δ {metric}: {text} ({n} of {len(comparisons)} rows)" for text, n in counts.items()]
    return lines + [f"family “{name}”: {size} comparisons" for name, size in families.items()]
