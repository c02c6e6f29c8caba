"""A grid is laid out once: every output shows the same cells in the same places."""

import re
from dataclasses import replace

import pytest
from matplotlib.text import Text
from test_page import Reader, make_once

from tlcnn.report.content_tables import make_grid_table
from tlcnn.report.figures.grid import plot_grid
from tlcnn.report.grid import lay_out_grid
from tlcnn.report.page import render_page
from tlcnn.report.page_data import make_page_data
from tlcnn.report.writers.latex import write_latex
from tlcnn.report.writers.markdown import write_markdown


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    content = make_once(tmp_path_factory)
    grid = content.grids[0]
    trained = grid.table[~grid.table["k"].isin([2]) & ~grid.table["j"].isin([3])]
    return replace(content, grids=(replace(grid, table=trained),))


def test_rows_and_columns_are_those_that_were_trained(content):
    layout = lay_out_grid(content.grids[0])
    assert layout.ks == (5, 4, 3, 1, 0) and layout.js == (0, 1, 2, 4, 5)
    assert layout.name_row(0) == "random" and layout.name_row(1) == layout.names[1] == "stem"
    assert {(2, 0), (2, 2), (3, 3)} <= layout.empty and (2, 3) not in layout.empty
    assert layout.points[layout.best]["cell"] == content.grids[0].best


def test_every_output_has_the_same_cells_in_the_same_places(content):
    grid = content.grids[0]
    layout = lay_out_grid(grid)
    shares = [
        [f"{100 * layout.points[k, j]['value']:.1f}" for j in layout.js if (k, j) in layout.points]
        for k in layout.ks
    ]
    table = make_grid_table(grid)
    rows = [line for line in write_markdown(table).splitlines() if line.startswith("|")][2:]
    assert [re.findall(r"(\d+\.\d) \(", row) for row in rows] == shares
    rows = [line for line in write_latex(table).splitlines() if line.endswith(r"\\")][1:]
    assert [re.findall(r"(\d+\.\d) \(", row) for row in rows] == shares
    reader = Reader(render_page(content, make_page_data(content)))
    opened = [a["aria-label"] for tag, a in reader.tags if "data-point" in a]
    assert [re.search(r": (\d+\.\d)", label)[1] for label in opened] == sum(shares, [])
    drawn = [
        (text.get_position(), f"{100 * float(text.get_text()):.1f}")
        for text in plot_grid(grid).findobj(Text)
        if re.fullmatch(r"0\.\d{3}", text.get_text()) and text.get_fontweight() == "bold"
    ]
    places = {(int(y), int(x)): share for (x, y), share in drawn}
    for (k, j), row in layout.points.items():
        assert places[k, j] == f"{100 * round(row['value'], 3):.1f}"
