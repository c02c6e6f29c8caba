"""A report in Markdown, for a repository: answers, tables, links to figures."""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tlcnn.report.captions import (
    RUNS,
    describe_calibration,
    describe_cells,
    describe_comparisons,
    describe_detectable,
    describe_layers,
)
from tlcnn.report.comparison_tables import (
    make_comparison_table,
    make_detectable_table,
)
from tlcnn.report.content import Content
from tlcnn.report.content_tables import (
    make_calibration_table,
    make_cell_table,
    make_grid_table,
    make_layer_table,
    make_run_table,
)
from tlcnn.report.external_tables import CAPTION as EXTERNAL
from tlcnn.report.external_tables import (
    COMPARISONS,
    make_external_comparison_table,
    make_external_table,
)
from tlcnn.report.glossary import make_glossary, write_lead
from tlcnn.report.grid import describe_transfer
from tlcnn.report.held_out import CAPTION as HELD_OUT
from tlcnn.report.held_out import make_held_out_table
from tlcnn.report.layer_measure_tables import (
    AGREEMENT,
    EXPLAINED,
    make_cost_agreement_table,
    make_reading_table,
)
from tlcnn.report.methods import make_methods
from tlcnn.report.numbers import name_column
from tlcnn.report.page_data import PageData
from tlcnn.report.reproduce import explain_commands
from tlcnn.report.searches import CAPTION as SEARCHES
from tlcnn.report.searches import make_search_table
from tlcnn.report.subgroups import describe_subgroups, make_subgroup_table
from tlcnn.report.writers.markdown import escape_markdown, show_code, write_markdown
from tlcnn.text import make_visible

if TYPE_CHECKING:
    from tlcnn.report.figures.style import ReportFigure

MAX_RUNS = 500  # rows; nobody reads more on one page


def render_report(content: Content, data: PageData, figures: "Sequence[ReportFigure]" = ()) -> str:
    """Return report.md: `templates/report.md` with every text escaped.

    Args:
        figures: the figures that are saved under paper/figures.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, finalize=_escape, trim_blocks=True, lstrip_blocks=True
    )
    has_few_runs = 0 < len(content.runs) <= MAX_RUNS
    # Commands stand in one block that no command can end: they are single lines.
    commands = dict.fromkeys(make_visible(command) for command in data.commands if command)
    source = (files("tlcnn.report") / "templates" / "report.md").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        content=content,
        lead=write_lead(content),
        glossary=make_glossary(content),
        comparisons=make_comparison_table(content),
        detectable=make_detectable_table(content),
        cells=make_cell_table(content),
        external=make_external_table(content),
        external_note=EXTERNAL,
        external_comparisons=make_external_comparison_table(content),
        external_comparison_note=COMPARISONS,
        searches=make_search_table(content),
        search_note=SEARCHES,
        held_out=make_held_out_table(content),
        held_out_note=HELD_OUT,
        subgroups=make_subgroup_table(content),
        subgroup_note=describe_subgroups(content),
        calibration=make_calibration_table(content),
        calibration_note=describe_calibration(content),
        cell_note=describe_cells(content),
        comparison_note=describe_comparisons(content),
        detectable_note=describe_detectable(content),
        layer_note=describe_layers(content),
        run_note=RUNS,
        runs=make_run_table(content, data.names) if has_few_runs else None,
        figures=figures,
        methods=make_methods(content),
        data=data,
        explain_commands=explain_commands,
        commands=[Markup(command) for command in commands],
        make_grid_table=make_grid_table,
        make_layer_table=make_layer_table,
        make_cost_agreement_table=make_cost_agreement_table,
        make_reading_table=make_reading_table,
        explained=EXPLAINED,
        agreement_note=AGREEMENT,
        describe_transfer=describe_transfer,
        name_column=name_column,
        write_table=lambda table: Markup(write_markdown(table)),
        list_lines=lambda lines: Markup("\n".join(f"- {show_code(line)}" for line in lines)),
        show_code=lambda text: Markup(show_code(text)),
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


def _escape(value: Any) -> Any:
    """Return a value of the template, a text of the data without markup."""
    return value if isinstance(value, Markup) else escape_markdown(value)
