"""The headline numbers of a report, each under a name of its own: for macros in a paper."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlcnn.report.content import Content
from tlcnn.report.numbers import format_gap, format_p, format_range, format_score, format_value
from tlcnn.study.runs import drop_trials

Record = Mapping[Any, Any]


def list_numbers(content: Content) -> dict[str, str]:
    """Return the headline numbers by name: counts, cells with a role, comparisons answered.

    A name begins with the dataset, the model and, where they were trained by several recipes, the
    recipe's number; `DATASET MODEL recipe N` is then that recipe in words.
    """
    runs = drop_trials(content.runs)
    n_done = int((runs["state"] == "done").sum()) if len(runs) else 0
    cells = {str(row["cell"]): row for row in content.cells.to_dict("records")}
    starts, recipes = _name_blocks(list(cells.values()))
    numbers = {"runs": str(n_done), "cells": str(len(content.cells)), **recipes}
    groups, metric = [], content.metric
    for role, key in ((role, key) for _, role, key in content.highlights if key in cells):
        cell = cells[key]
        low, high = cell.get(f"{metric} low"), cell.get(f"{metric} high")
        texts = {
            "": format_score(cell.get(metric), metric),
            "interval": format_range(low, high, metric),
            "seeds": format_value(cell.get("n_seeds")),
            "label": format_value(cell.get("label")),
        }
        groups.append((f"{starts[key]} {role}", texts))
    names: list[str] = []
    for name, texts in [*groups, *_list_comparisons(content, cells, starts)]:
        names.append(name)
        n_uses = names.count(name)
        unique = f"{name} again {n_uses}" if n_uses > 1 else name
        numbers |= {f"{unique} {part}".strip(): text for part, text in texts.items()}
    return numbers


def _name_blocks(rows: Sequence[Record]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the start of each cell's names, and the recipes by their names."""
    blocks = [(f"{row['dataset']} {row['model']}", str(row.get("recipe", ""))) for row in rows]
    recipes: dict[str, list[str]] = {}
    for name, recipe in sorted(set(blocks)):
        recipes.setdefault(name, []).append(recipe)
    starts, texts = {}, {}
    for row, (name, recipe) in zip(rows, blocks, strict=True):
        if len(recipes[name]) > 1:
            name = f"{name} recipe {recipes[name].index(recipe) + 1}"
            texts[name] = recipe
        starts[str(row["cell"])] = name
    return starts, texts


def _list_comparisons(
    content: Content, cells: Mapping[str, Record], starts: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name and texts of every comparison that a finding rests on.

    The name has both sources, or the source and the question where both cells are from one.
    """
    table, metric = content.comparisons, content.metric
    for finding in content.findings:
        for row in (dict(table.loc[i]) for i in finding.comparisons if i in table.index):
            a, b = (str(cells.get(str(row[side]), {}).get("init", "")) for side in ("a", "b"))
            block = starts.get(str(row["a"]), finding.dataset)
            low, high = row.get("low"), row.get("high")
            texts = {
                "delta": format_gap(row.get("delta"), metric),
                "delta interval": format_range(low, high, metric, signed=True),
                "p": format_p(row.get("p_holm")),
                "p family": format_value(row.get("family")),
                "p family size": format_value(row.get("family_size")),
                "verdict": format_value(row.get("verdict")),
            }
            yield f"{block} {f'{a} vs {b}' if a != b else f'{a} {finding.key}'}", texts
