"""A report in Markdown, for a repository: answers, tables, links to figures."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tlcnn.report.content import Content
from tlcnn.report.page_cells import Table
from tlcnn.report.page_data import PageData
from tlcnn.report.page_tables import (
    make_cell_table,
    make_comparison_table,
    make_layer_table,
    make_run_table,
)
from tlcnn.report.page_words import (
    NONE,
    WORDS,
    format_range,
    format_score,
    name_column,
    write_lead,
)
from tlcnn.report.render import escape_markdown
from tlcnn.text import make_visible

MAX_RUNS = 500  # rows; more is no page to read
# What a line of text would begin: a list, a rule, a heading's underline.
_AT_START = re.compile(r"^(\d*)([-+=.)])(?=\s|[-=]|$)")


def escape_line(text: object) -> str:
    """Return a text as one line that Markdown shows as it is: no markup, links or mentions.

    Example:
        >>> print(escape_line("a|b <img src=x> *c*"))
        a\\|b &lt;img src=x&gt; \\*c\\*
        >>> print(escape_line("- http://example.org"))
        \\- http:&#8203;//example.org
        >>> print(escape_line("1. no list"), escape_line("0.889"), escape_line("+1.5"))
        1\\. no list 0.889 +1.5
    """
    return _AT_START.sub(r"\1\\\2", escape_markdown(make_visible(text).strip()))


def render_report(
    content: Content, data: PageData, figures: Sequence[tuple[str, str, str, str]] = ()
) -> str:
    """Return report.md.

    Args:
        figures: (path from the report's folder, title, caption, alt).
    """
    parts = [
        f"# {escape_line(content.title)}",
        escape_line(write_lead(content)),
        *_render_answers(content),
        "## Words",
        "\n".join(f"- **{escape_line(w)}**: {escape_line(m)}" for w, m in WORDS),
        *_render_section("Comparisons", make_comparison_table(content)),
        *_render_grids(content),
        *_render_layers(content),
        *_render_section("Cells", make_cell_table(content)),
        *_render_figures(figures),
        *_render_runs(content, data),
        *_render_list("What the numbers take for granted", content.assumptions),
        *_render_list("Left out", content.left_out or ("Nothing.",)),
        *_render_provenance(content),
        *_render_commands(data),
        f"Made by tlcnn, {escape_line(content.created)}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _render_answers(content: Content) -> Iterable[str]:
    yield "## Answers"
    for finding in content.findings:
        yield f"### {escape_line(finding.question)}"
        yield f"**{escape_line(finding.verdict)}.** {escape_line(finding.answer)}"
        if finding.details:
            yield "\n".join(f"- {escape_line(line)}" for line in finding.details)


def _render_runs(content: Content, data: PageData) -> Iterable[str]:
    if len(content.runs) <= MAX_RUNS:
        yield from _render_section("Runs", make_run_table(content, data.names))
    else:
        yield "## Runs"
        yield f"All {len(content.runs):,} runs are in [runs.csv](paper/tables/runs.csv)."


def _render_section(title: str, table: Table) -> Iterable[str]:
    if table.rows:
        yield f"## {title}"
        yield render_table(table)


def render_table(table: Table) -> str:
    """Return a table of a page in Markdown, without its bars."""
    heads, rows, right = table.flatten()
    rule = ["---:" if at in right else "---" for at in range(len(heads))]
    lines = [_join(map(escape_line, heads)), _join(rule)]
    lines += [_join(map(escape_line, row)) for row in rows]
    told = ", ".join(f"{name} {text}" for name, text in table.everywhere)
    notes = [f"{n}. {escape_line(note)}" for n, note in enumerate(table.notes, start=1)]
    foot = [f"The same in every row: {escape_line(told)}."] if told else []
    return "\n\n".join(["\n".join(lines), *(["\n".join(notes)] if notes else []), *foot])


def _join(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _render_grids(content: Content) -> Iterable[str]:
    """Render every grid: rows are transferred units k, columns frozen units j."""
    if content.grids:
        yield "## Transferred and frozen units"
    for grid in content.grids:
        recipe = f" ({grid.recipe})" if grid.recipe else ""
        name = f"{grid.model} on {grid.dataset}, units from {grid.init}{recipe}"
        yield f"### {escape_line(name)}"
        yield (
            f"{escape_line(name_column(grid.metric)).capitalize()}, with its 95 % interval; "
            "rows are units transferred, columns units frozen; bold is the best on validation."
        )
        names = ["none", *grid.units]
        records = grid.table.to_dict("records")
        places = {(int(row["k"]), int(row["j"])): row for row in records}
        js = sorted({j for _, j in places})
        heads = [f"j = {j} {escape_line(names[j])}" for j in js]
        lines = [_join(["k", *heads]), _join(["---", *("---:" for _ in js)])]
        for k in sorted({k for k, _ in places}, reverse=True):
            cells = [_render_point(places.get((k, j)), grid.metric, grid.best) for j in js]
            head = escape_line(names[k] if k else "random")
            lines.append(_join([f"{k} {head}", *cells]))
        yield "\n".join(lines)


def _render_point(row: Mapping[Any, Any] | None, metric: str, best: str) -> str:
    if row is None:
        return ""
    between = format_range(row["low"], row["high"], metric)
    value = format_score(row["value"], metric)
    value = f"**{value}**" if row["cell"] == best else value
    return value if between == NONE else f"{value} ({between})"


def _render_layers(content: Content) -> Iterable[str]:
    if content.layers:
        yield "## General and specific layers"
    for number, layers in enumerate(content.layers):
        recipe = f" ({layers.recipe})" if layers.recipe else ""
        name = f"{layers.model} on {layers.dataset}, units from {layers.source}{recipe}"
        yield f"### {escape_line(name)}"
        yield render_table(make_layer_table(layers, str(number)))


def _render_figures(figures: Sequence[tuple[str, str, str, str]]) -> Iterable[str]:
    if figures:
        yield "## Figures"
    for path, title, caption, alt in figures:
        yield f"![{escape_line(alt)}]({path})"
        yield f"**{escape_line(title)}.** {escape_line(caption)}"


def _render_list(title: str, lines: Sequence[str]) -> Iterable[str]:
    if lines:
        yield f"## {title}"
        yield "\n".join(f"- {escape_line(line)}" for line in lines)


def _render_provenance(content: Content) -> Iterable[str]:
    yield "## Provenance"
    for name, pairs in content.provenance:
        lines = [f"  - {escape_line(k)}: {escape_line(v)}" for k, v in pairs]
        yield "\n".join([f"- **{escape_line(name)}**", *lines])


def _render_commands(data: PageData) -> Iterable[str]:
    """Render the commands in one block that no command can end: they are single lines."""
    known = [" ".join(command.split()) for command in data.commands if command]
    if known:
        yield "## How to train each run again"
        yield "\n".join(f"    {command}" for command in dict.fromkeys(known))
