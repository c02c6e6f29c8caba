"""report.md: the whole report, and nothing in it that Markdown would take for markup."""

import html
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from test_page import NASTY, make_nasty, make_once

from tlcnn.report.captions import describe_cells
from tlcnn.report.figures.style import ReportFigure
from tlcnn.report.markdown import MAX_RUNS, render_report
from tlcnn.report.page_data import make_page_data
from tlcnn.report.writers.markdown import escape_markdown


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_once(tmp_path_factory)


@pytest.fixture(scope="module")
def text(content):
    figure = Figure()
    shown = {"title": "A title", "caption": "What is seen.", "alt": "The same, shorter."}
    figures = [ReportFigure("a", figure=figure, section="training", **shown)]
    return render_report(content, make_page_data(content), figures)


def list_rows(text):
    """Return the cells of every row of every table."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [row.strip("|").replace("\\|", "").split("|") for row in rows]


def test_it_holds_the_answers_first_and_every_table(text, content):
    places = [text.index(finding.question) for finding in content.findings]
    assert places == sorted(places) and places[-1] < text.index("## Comparisons")
    assert "![The same, shorter.](paper/figures/a.png)" in text
    grids, cells = "Scores by transferred and frozen units", "Scores of every cell"
    for name in (grids, "General and specific layers", cells, "Every run"):
        assert f"\n## {name}\n" in text
    assert all(line in text for line in content.assumptions)


def test_the_best_cell_of_a_grid_is_bold(text, content):
    grid = content.grids[0]
    best = grid.table.set_index("cell").loc[grid.best]
    assert f"| **{100 * best['value']:.1f} (" in text


def test_every_table_is_rectangular_whatever_the_names(content, tmp_path):
    nasty = make_nasty(content, tmp_path)
    made = render_report(nasty, make_page_data(nasty))
    widths = []
    for block in made.split("\n\n"):
        found = {len(row) for row in list_rows(block)}
        assert len(found) <= 1
        widths += found
    assert len(widths) >= 5
    prose = [line for line in made.splitlines() if not line.startswith("    ")]  # not commands
    assert not [line for line in prose if "<" in line]  # no tag can begin


@pytest.mark.parametrize("name", NASTY)
def test_nasty_names_are_text(name):
    escaped = escape_markdown(name)
    assert "<" not in escaped and "\n" not in escaped and "\u2028" not in escaped


@given(st.text())
def test_any_text_is_one_line_without_a_bare_mark(text):
    escaped = escape_markdown(text)
    assert len(escaped.splitlines()) <= 1
    bare = escaped.replace("\\\\", "").replace("\\|", "").replace("\\`", "")
    assert "|" not in bare and "`" not in bare and "<" not in bare


def test_thousands_of_runs_are_left_to_the_csv(content):
    many = content.runs.loc[content.runs.index.repeat(MAX_RUNS // len(content.runs) + 1)]
    big = replace(content, runs=many.reset_index(drop=True))
    made = render_report(big, make_page_data(big, max_detailed=0))
    assert "[runs.csv](paper/tables/runs.csv)" in made and "\n| run |" not in made


@pytest.mark.parametrize(
    "text",
    ["www.example.org", "(WWW.example.org)", "http://example.org", "a@example.org", "@someone"],
)
def test_addresses_and_mentions_of_data_are_not_linked(text):
    """GitHub links them without markup, e-mail addresses also where the @ is an entity."""
    # an escape parts a text
    shown = re.sub(r"\\(\W)", "\\1\0", html.unescape(escape_markdown(text)))
    assert not re.search(r"(?i)www\.\w|://|@\w", shown)


def test_the_family_and_its_size_stand_beside_an_adjusted_p(content):
    sized = replace(content, comparisons=content.comparisons.assign(family_size=range(3, 9)))
    lines = render_report(sized, make_page_data(sized)).splitlines()
    (head,) = [line for line in lines if "| family | family size | Holm p |" in line]
    letter, size = lines[lines.index(head) + 2].split(" | ")[3:5]
    assert size == "3" and f"- {letter}: imagenet vs random, 3 comparisons" in lines


def test_commands_are_code_and_everything_else_is_text(content):
    command = "python -m tlcnn.train 'hydra.sweeper.blocks=[]' a=*b*"
    finding = replace(content.findings[0], details=(f"Train *them*: `{command}`.",))
    made = render_report(replace(content, findings=(finding,)), make_page_data(content))
    assert f"- Train \\*them\\*: `{command}`.\n" in made


def test_the_bold_and_the_raw_probabilities_of_cells_are_explained(text, content):
    assert describe_cells(content) in text and "Bold is the best mean" in text
