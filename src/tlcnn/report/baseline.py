"""Every cell against a baseline of its dataset and model: difference, p, verdict."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.errors import ConfigError
from tlcnn.records.settings import CELL
from tlcnn.report.scored import Scored, count_fold
from tlcnn.report.tables import Table
from tlcnn.statistics.arm import Comparison
from tlcnn.statistics.comparison import (
    adjust_holm,
    compare_arms,
    compute_equivalence_p,
    compute_t_p,
)
from tlcnn.statistics.folds import estimate_folds
from tlcnn.study.where import check_values, match_condition, parse_condition

_BLOCK = ("dataset", "model")


def add_comparisons(
    table: Table,
    scored: Sequence[Scored],
    metrics: Sequence[str],
    words: Sequence[str],
    margin: float,
) -> Table:
    """Return a table with `Δ METRIC`, `p METRIC` (after Holm) and `verdict METRIC` columns.

    A family of comparisons is those of one dataset, model and metric.

    Args:
        words: conditions such as `init=random` for the baseline.

    Raises:
        ConfigError: no cell is the baseline, or several of a dataset and model are.
    """
    pairs, notes = find_pairs(table.frame, words)
    frame = table.frame
    for metric in metrics:
        found = _compare(scored, pairs, metric, margin)
        frame = pd.concat([frame, _tabulate(found, metric, len(frame))], axis=1)
        notes += _describe_gaps(found, metric)
    notes.append(
        f"Δ against {' '.join(words)}, 95 % intervals; p after Holm within a dataset, model and "
        f"metric; equivalent within {margin:g}"
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


def _tabulate(found: dict[int, Comparison], metric: str, n_rows: int) -> pd.DataFrame:
    names = [f"Δ {metric}", f"Δ {metric} low", f"Δ {metric} high"]
    names += [f"p {metric}", f"verdict {metric}"]
    records = {row: _make_record(one, metric) for row, one in found.items()}
    return pd.DataFrame([records.get(i, {}) for i in range(n_rows)], columns=names)


def find_pairs(frame: pd.DataFrame, words: Sequence[str]) -> tuple[dict[int, int], list[str]]:
    """Return row -> its baseline's row, and a line on rows that have none.

    Of several baselines in a dataset and model, that with a row's own further settings is taken.
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
        mine = bases.get(place, [])
        mine = mine if len(mine) < 2 else [i for i in mine if recipes[i] == recipes[row]]
        if len(mine) > 1:
            raise ConfigError(_describe_several(frame, mine, words))
        if not mine:
            without.add(" ".join(place))
        elif mine[0] != row:
            pairs[row] = mine[0]
    gaps = [f"not compared, as there is no baseline: {', '.join(sorted(without))}"]
    return pairs, gaps if without else []


def _find_hits(frame: pd.DataFrame, words: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the rows that are all of the words, and the columns that the words name."""
    hits = pd.Series(True, index=frame.index)
    named = []
    for word in words:
        condition = parse_condition(word, "--baseline")
        if condition.column not in frame:
            raise ConfigError(
                f"--baseline {word}: the table's columns are {', '.join(frame.columns[:14])}"
            )
        check_values(frame, condition, "--baseline")
        hits &= match_condition(frame[condition.column], condition)
        named.append(condition.column)
    if not hits.any():
        raise ConfigError(f"--baseline {' '.join(words)}: no cell is all of that")
    return [row for row, is_hit in enumerate(hits) if is_hit], named


def _name_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the values of columns as texts, a tuple a row."""
    texts = [list(map(str, frame[column])) for column in columns]
    return list(zip(*texts, strict=True)) if texts else [()] * len(frame)


def _describe_several(frame: pd.DataFrame, rows: list[int], words: Sequence[str]) -> str:
    there = [c for c in frame.columns if c in CELL or ("." in c and "/" not in c)]
    differ = [c for c in there if frame[c].iloc[rows].map(str).nunique() > 1]
    values = [f"{c}={v}" for c in differ[:1] for v in frame[c].iloc[rows].map(str).unique()]
    return (
        f"--baseline {' '.join(words)}: {len(rows)} cells of one dataset and model are that; they "
        f"differ in {', '.join(differ) or 'nothing that is shown'}. Add e.g. "
        f"{values[0] if values else 'a column'}"
    )


def _compare(
    scored: Sequence[Scored], pairs: dict[int, int], metric: str, margin: float
) -> dict[int, Comparison]:
    found = {}
    for row, base in pairs.items():
        key = scored[row].row.key
        family = "/".join(str(key.get(column, "")) for column in (*_BLOCK, metric))
        one = _compare_rows(scored[row], scored[base], metric, margin)
        if one is not None:
            found[row] = replace(one, family=family)
    adjusted = adjust_holm(list(found.values()))
    return dict(zip(found, adjusted, strict=True))


def _compare_rows(a: Scored, b: Scored, metric: str, margin: float) -> Comparison | None:
    arms, others = a.arms[metric], b.arms[metric]
    if not all(len(arm.scores) for arm in (*arms, *others)):
        return None
    if len(arms) == 1 and len(others) == 1:
        return compare_arms(arms[0], others[0], margin=margin)
    if a.row.is_folded and b.row.is_folded:
        return _compare_folds(a, b, metric, margin)
    return None


def _compare_folds(a: Scored, b: Scored, metric: str, margin: float) -> Comparison | None:
    """Compare fold by fold, with the corrected resampled t test."""
    means = [
        {
            str(runs["fold"].iloc[0]): arm.mean
            for runs, arm in zip(one.row.cells, one.arms[metric], strict=True)
        }
        for one in (a, b)
    ]
    common = [fold for fold in means[0] if fold in means[1]]
    if not common:
        return None
    delta = estimate_folds(
        np.array([means[0][fold] - means[1][fold] for fold in common]), **count_fold(a.row)
    )
    p = compute_t_p(delta)
    return Comparison(
        a=a.arms[metric][0].name,
        b=b.arms[metric][0].name,
        delta=delta,
        p=p,
        p_swap=float("nan"),
        p_seed=p,
        p_equivalent=compute_equivalence_p(delta, margin),
        margin=margin,
        p_holm=p,
        seeds_needed=float("nan"),
        lower_is_better=a.arms[metric][0].lower_is_better,
    )


def _make_record(one: Comparison, metric: str) -> dict[str, Any]:
    return {
        f"Δ {metric}": one.delta.value,
        f"Δ {metric} low": one.delta.low,
        f"Δ {metric} high": one.delta.high,
        f"p {metric}": one.p_holm,
        f"verdict {metric}": one.verdict,
    }


def _describe_gaps(found: dict[int, Comparison], metric: str) -> list[str]:
    places: dict[str, int] = {}
    for one in found.values():
        for note in filter(None, one.delta.note.split("; ")):
            places[note] = places.get(note, 0) + 1
    return [f"Δ {metric}: {note} ({n} of {len(found)} rows)" for note, n in places.items()]
