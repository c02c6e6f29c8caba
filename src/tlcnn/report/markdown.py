"""A report in Markdown, for a repository: answers, tables, links to figures."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tlcnn.report.content import Content
from tlcnn.report.content_tables import (
    make_cell_table,
    make_comparison_table,
    make_grid_table,
    make_layer_table,
    make_run_table,
)
from tlcnn.report.glossary import GLOSSARY, write_lead
from tlcnn.report.grid import describe_transfer
from tlcnn.report.numbers import name_column
from tlcnn.report.page_data import PageData
from tlcnn.report.table import Table
from tlcnn.report.writers.markdown import escape_markdown, write_markdown
from tlcnn.text import make_visible

if TYPE_CHECKING:
    from tlcnn.report.figures.style import ReportFigure

MAX_RUNS = 500  # rows; nobody reads more on one page


def render_report(content: Content, data: PageData, figures: "Sequence[ReportFigure]" = ()) -> str:
    """Return report.md.

    Args:
        figures: the figures that are saved under paper/figures.
    """
    parts = [
        f"# {escape_markdown(content.title)}",
        escape_markdown(write_lead(content)),
        *_list_answers(content),
        "## Words",
        "\n".join(f"- **{escape_markdown(w)}**: {escape_markdown(m)}" for w, m in GLOSSARY),
        *_list_table("Comparisons", make_comparison_table(content)),
        *_list_grids(content),
        *_list_layers(content),
        *_list_table("Cells", make_cell_table(content)),
        *_list_figures(figures),
        *_list_runs(content, data),
        *_list_lines("What the numbers take for granted", content.assumptions),
        *_list_lines("Left out", content.left_out or ("Nothing.",)),
        "## Provenance",
        *(
            "\n".join(
                [
                    f"- **{escape_markdown(name)}**",
                    *(f"  - {escape_markdown(k)}: {escape_markdown(v)}" for k, v in pairs),
                ]
            )
            for name, pairs in content.provenance
        ),
        *_list_commands(data),
        f"Made by tlcnn, {escape_markdown(content.created)}.",
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _list_answers(content: Content) -> Iterable[str]:
    yield "## Answers"
    for finding in content.findings:
        yield f"### {escape_markdown(finding.question)}"
        yield f"**{escape_markdown(finding.verdict)}.** {escape_markdown(finding.answer)}"
        yield "\n".join(f"- {escape_markdown(line)}" for line in finding.details)


def _list_table(title: str, table: Table) -> Iterable[str]:
    return [f"## {title}", write_markdown(table)] if table.rows else []


def _list_runs(content: Content, data: PageData) -> Iterable[str]:
    if len(content.runs) <= MAX_RUNS:
        return _list_table("Runs", make_run_table(content, data.names))
    text = f"All {len(content.runs):,} runs are in [runs.csv](paper/tables/runs.csv)."
    return ["## Runs", text]


def _list_grids(content: Content) -> Iterable[str]:
    if content.grids:
        yield "## Transferred and frozen units"
    for grid in content.grids:
        yield f"### {escape_markdown(describe_transfer(grid))}"
        yield (
            f"{escape_markdown(name_column(grid.metric).capitalize())}, with its 95 % interval. "
            "Rows are units transferred, columns units frozen. Bold is the best on validation."
        )
        yield write_markdown(make_grid_table(grid))


def _list_layers(content: Content) -> Iterable[str]:
    if content.layers:
        yield "## General and specific layers"
    for number, layers in enumerate(content.layers):
        yield f"### {escape_markdown(describe_transfer(layers))}"
        yield write_markdown(make_layer_table(layers, str(number)))


def _list_figures(figures: "Sequence[ReportFigure]") -> Iterable[str]:
    if figures:
        yield "## Figures"
    for figure in figures:
        yield f"![{escape_markdown(figure.alt)}](paper/figures/{figure.name}.png)"
        yield f"**{escape_markdown(figure.title)}.** {escape_markdown(figure.caption)}"


def _list_lines(title: str, lines: Sequence[str]) -> Iterable[str]:
    if lines:
        yield f"## {title}"
        yield "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _list_commands(data: PageData) -> Iterable[str]:
    """List the commands in one block that no command can end: they are single lines."""
    commands = dict.fromkeys(make_visible(command) for command in data.commands if command)
    if commands:
        yield "## How to train each run again"
        yield "\n".join(f"    {command}" for command in commands)
