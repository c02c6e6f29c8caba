"""The headline numbers of a report, each under a name of its own: for macros in a paper."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlcnn.report.content import Content, Finding
from tlcnn.report.page_words import (
    format_gap,
    format_p,
    format_range,
    format_score,
    format_value,
)


def list_numbers(content: Content) -> dict[str, str]:
    """Return the headline numbers by name: counts, cells with a role, comparisons answered.

    A name begins with the dataset, the model and, where they were trained by several recipes, the
    recipe's number; `DATASET MODEL recipe N` is then that recipe in words.
    """
    runs = content.runs
    done = int((runs["state"] == "done").sum()) if len(runs) else 0
    numbers = {"runs": str(done), "cells": str(len(content.cells))}
    rows = {str(row["cell"]): row for row in content.cells.to_dict("records")}
    places, recipes = _name_places(list(rows.values()))
    numbers |= recipes
    told_all = [*_tell_roles(content, rows, places), *_tell_findings(content, rows, places)]
    for name, told in _set_apart(told_all):
        numbers |= {f"{name} {part}".strip(): text for part, text in told.items()}
    return numbers


def _name_places(rows: Sequence[Mapping[Any, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return cell -> the start of its names, and the recipes by their names."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(_name_block(row), set()).add(str(row.get("recipe", "")))
    numbered = {
        (block, recipe): f"{block} recipe {number}" if len(recipes) > 1 else block
        for block, recipes in found.items()
        for number, recipe in enumerate(sorted(recipes), start=1)
    }
    places = {
        str(row["cell"]): numbered[_name_block(row), str(row.get("recipe", ""))] for row in rows
    }
    told = {name: recipe for (block, recipe), name in numbered.items() if name != block}
    return places, told


def _name_block(row: Mapping[Any, Any]) -> str:
    return f"{row['dataset']} {row['model']}"


Told = tuple[str, dict[str, str]]


def _set_apart(told: Sequence[Told]) -> Iterator[Told]:
    """Number what would have the same name, from the second on."""
    seen: Counter[str] = Counter()
    for name, texts in told:
        seen[name] += 1
        yield (f"{name} again {seen[name]}" if seen[name] > 1 else name), texts


def _tell_roles(
    content: Content, rows: Mapping[str, Mapping[Any, Any]], places: Mapping[str, str]
) -> Iterator[Told]:
    for _, role, cell in content.highlights:
        if cell in rows:
            yield f"{places[cell]} {role}", _tell_cell(rows[cell], content.metric)


def _tell_findings(
    content: Content, rows: Mapping[str, Mapping[Any, Any]], places: Mapping[str, str]
) -> Iterator[Told]:
    """Yield every comparison that a finding rests on.

    Where one question was asked of several sources, the source is in the name.
    """
    based = [(finding, _list_known(content, finding)) for finding in content.findings]
    starts = [
        f"{places.get(str(known[0]['a']), finding.dataset) if known else ''} {finding.key}"
        for finding, known in based
    ]
    for start, (_, known) in zip(starts, based, strict=True):
        for number, row in enumerate(known, start=1):
            source = str(rows.get(str(row["a"]), {}).get("init", ""))
            name = f"{start} {source}" if starts.count(start) > 1 else start
            name += f" {number}" if len(known) > 1 else ""
            yield name, _tell_comparison(row, content.metric)


def _list_known(content: Content, finding: Finding) -> list[Mapping[Any, Any]]:
    table = content.comparisons
    return [dict(table.loc[at]) for at in finding.comparisons if at in table.index]


def _tell_cell(row: Mapping[Any, Any], metric: str) -> dict[str, str]:
    low, high = row.get(f"{metric} low"), row.get(f"{metric} high")
    return {
        "": format_score(row.get(metric), metric),
        "interval": format_range(low, high, metric),
        "seeds": format_value(row.get("n_seeds")),
        "label": format_value(row.get("label")),
    }


def _tell_comparison(row: Mapping[Any, Any], metric: str) -> dict[str, str]:
    return {
        "delta": format_gap(row.get("delta"), metric),
        "delta interval": format_range(row.get("low"), row.get("high"), metric, signed=True),
        "p": format_p(row.get("p_holm")),
        "verdict": format_value(row.get("verdict")),
    }
