"""Every cell against a baseline of its dataset and model: difference, p, verdict."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tlcnn.errors import ConfigError
from tlcnn.records.settings import CELL
from tlcnn.report.detectable import find_typical, write_detectable
from tlcnn.report.numbers import NONE, format_estimate, format_fraction, format_p
from tlcnn.report.remarks import list_remarks, name_family
from tlcnn.report.show import show_column
from tlcnn.report.table import Column, Entry
from tlcnn.statistics.arm import Arm, Comparison
from tlcnn.statistics.detect import find_detectable
from tlcnn.study.block import Block
from tlcnn.study.cells import SEARCH
from tlcnn.study.comparisons import Family, FamilyKind, compare_pairs
from tlcnn.study.runs import IMAGES
from tlcnn.study.select import check_values, match_condition, parse_condition
from tlcnn.text import count

_NUMBERED = {  # a key that a column counts -> what to write instead
    "init.through": ". Write k=N, where the first N units are transferred (none: k=0)",
    "freeze.through": ". Write j=N, where the first N units are frozen (none: j=0)",
}
_BLOCK = ("dataset", "model", IMAGES)


def compare_rows(
    keys: pd.DataFrame,
    arms: Sequence[Mapping[str, Arm]],
    blocks: Mapping[str, Sequence[Block]],
    words: Sequence[str],
    margin: float,
) -> tuple[dict[str, dict[int, Comparison]], list[str]]:
    """Compare every row of one cell with its baseline.

    A pair that a question of the report compares is in the family of this question. All further
    rows of one baseline form a family.

    Args:
        keys: the columns that tell rows apart.
        arms: the arm of each row, by metric; none of rows that are not compared.
        blocks: the blocks of the cells, by metric.
        words: conditions such as `init=random` for the baseline.

    Returns:
        metric -> row -> comparison, and notes.

    Raises:
        ConfigError: no cell is the baseline, or several of a dataset and model are.
    """
    pairs, notes = find_pairs(keys, words)
    baseline = " ".join(words)
    bounds = [name for name in map(str, keys) if name in _BLOCK or "." in name]
    compared = {}
    for metric in blocks:
        scored = {row: b for row, b in pairs.items() if metric in arms[row] and metric in arms[b]}
        compared_arms = []
        for row, base in scored.items():
            values = [(name, keys[name].iloc[base]) for name in bounds]
            scope = [("baseline", baseline), *(pair for pair in values if not pd.isna(pair[1]))]
            family = Family(FamilyKind.BASELINE, tuple(scope))
            compared_arms.append((arms[row][metric], arms[base][metric], family))
        adjusted = compare_pairs(compared_arms, blocks[metric], metric, margin)
        compared[metric] = dict(zip(scored, adjusted, strict=True))
        notes += _describe_differences(adjusted, metric)
    notes.append(
        f"Δ is the difference to {baseline}, with its 95 % interval; p Holm is adjusted within "
        f"its family; equivalent: the absolute difference is smaller than {margin:g}, adjusted "
        "within the family too"
    )
    return compared, notes


def list_difference_columns(
    comparisons: Mapping[int, Comparison], metric: str, n_rows: int
) -> list[tuple[Column, list[Entry]]]:
    """Return the columns of a metric's differences: Δ with its interval and family, p, verdict."""
    results = [comparisons.get(row) for row in range(n_rows)]
    deltas, verdicts = [Entry(NONE)] * n_rows, [Entry(NONE)] * n_rows
    for row, result in comparisons.items():
        assert isinstance(result.family, Family)
        delta = result.delta
        parts: dict[str, Any] = {"low": delta.low, "high": delta.high}
        text = format_estimate(delta.value, **parts, digits=3, signed=True)
        parts |= {"family": name_family(result.family), "family_size": result.family_size}
        parts["detectable"] = find_detectable(result)
        deltas[row] = Entry(text, delta.value, parts)
        verdict = f"{result.verdict} (family of {result.family_size})"
        verdicts[row] = Entry(verdict, result.verdict)
    return [
        (Column(f"Δ {metric}", "number"), deltas),
        show_column(f"p {metric}", [r and r.p for r in results], format_p),
        show_column(f"p Holm {metric}", [r and r.p_holm for r in results], format_p),
        (Column(f"verdict {metric}"), verdicts),
    ]


def find_pairs(frame: pd.DataFrame, words: Sequence[str]) -> tuple[dict[int, int], list[str]]:
    """Return row -> its baseline's row, and a line on rows that have no baseline.

    Of several baselines in a dataset and model, the one with a row's further settings is taken.
    """
    is_base = pd.Series(True, index=frame.index)
    names = []
    for word in words:
        condition = parse_condition(word, "--baseline")
        if condition.column not in frame:
            raise ConfigError(
                f"--baseline {word}: the table's columns are {', '.join(frame.columns[:14])}"
                f"{_NUMBERED.get(condition.column, '')}"
            )
        check_values(frame, condition, "--baseline")
        is_base &= match_condition(frame[condition.column], condition)
        names.append(condition.column)
    if not is_base.any():
        raise ConfigError(f"--baseline {' '.join(words)}: no cell is all of that")
    blocks = _list_keys(frame, [column for column in _BLOCK if column in frame])
    is_recipe = {c: "." in c or c == SEARCH for c in frame.columns}
    recipes = _list_keys(frame, [c for c in frame.columns if is_recipe[c] and c not in names])
    bases: dict[tuple[str, ...], list[int]] = {}
    for row in np.flatnonzero(is_base).tolist():
        bases.setdefault(blocks[row], []).append(row)
    pairs, without = {}, set()
    for row, block in enumerate(blocks):
        candidates = bases.get(block, [])
        if len(candidates) > 1:
            candidates = [base for base in candidates if recipes[base] == recipes[row]]
        if len(candidates) > 1:
            raise ConfigError(_describe_several(frame, candidates, words))
        if not candidates:
            without.add(" ".join(block))
        elif candidates[0] != row:
            pairs[row] = candidates[0]
    gaps = [f"not compared, because there is no baseline: {', '.join(sorted(without))}"]
    return pairs, gaps if without else []


def _list_keys(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the values of columns as texts, a tuple a row."""
    texts = [list(map(str, frame[column])) for column in columns]
    return list(zip(*texts, strict=True)) if texts else [()] * len(frame)


def _describe_several(frame: pd.DataFrame, rows: list[int], words: Sequence[str]) -> str:
    columns = [c for c in frame.columns if c in (*CELL, SEARCH) or "." in c]
    differ = [c for c in columns if frame[c].iloc[rows].map(str).nunique() > 1]
    values = [f"{c}={v}" for c in differ[:1] for v in frame[c].iloc[rows].map(str).unique()]
    return (
        f"--baseline {' '.join(words)}: {len(rows)} cells of one dataset and model are that; they "
        f"differ in {', '.join(differ) or 'nothing that is shown'}. Add e.g. "
        f"{values[0] if values else 'a column'}"
    )


def _describe_differences(comparisons: Sequence[Comparison], metric: str) -> list[str]:
    """Return what the differences leave out, with the number of rows, and their families."""
    counts = Counter(remark for result in comparisons for remark in list_remarks(result))
    lines = [f"Δ {metric}: {text} ({n} of {len(comparisons)} rows)" for text, n in counts.items()]
    typical = find_typical(comparisons)
    for family, result in {result.family: result for result in comparisons}.items():
        assert isinstance(family, Family)
        line = f"family “{name_family(family)}”: {count(result.family_size, 'comparison')}"
        detectable = write_detectable(typical.get(family, result), format_fraction)
        lines.append(f"{line}; {detectable}" if detectable else line)
    return lines
