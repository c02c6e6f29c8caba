"""A grid is laid out once: every output shows the same cells in the same places."""

import re
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.text import Text
from test_page import Reader, make_once
from test_read import PLAN, make_run, read_runs
from test_tables import METRIC, list_best

from tlcnn.errors import ConfigError
from tlcnn.report.assemble import make_content
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.content_tables import make_grid_table
from tlcnn.report.figures.grid import plot_grid
from tlcnn.report.grid import lay_out_grid, pivot_table
from tlcnn.report.page import render_page
from tlcnn.report.page_data import make_page_data
from tlcnn.report.writers.csv import write_csv
from tlcnn.report.writers.latex import write_latex
from tlcnn.report.writers.markdown import write_markdown
from tlcnn.report.writers.text import write_text

GRID = (["k"], ["j"])


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
    assert [re.findall(r"(\d+\.\d)\}? \\\\ ", row) for row in rows] == shares
    reader = Reader(render_page(content, make_page_data(content)))
    opened = [a["aria-label"] for tag, a in reader.tags if "data-point" in a]
    assert [re.search(r": (\d+\.\d)", label)[1] for label in opened] == sum(shares, [])
    drawn = [
        (text.get_position(), text.get_text())
        for text in plot_grid(grid).findobj(Text)
        if re.fullmatch(r"\d+\.\d", text.get_text()) and text.get_fontweight() == "bold"
    ]
    places = {(int(y), int(x)): share for (x, y), share in drawn}
    ks = sorted({*layout.ks, 0}, reverse=True)
    for (k, j), row in layout.points.items():
        assert places[ks.index(k), j] == f"{100 * row['value']:.1f}"


# ---- tables of cells, turned --------------------------------------------------------------------


def make_score(init, k, j, lr=0.1):
    return round(0.2 + 0.02 * k + 0.01 * j + (init == "imagenet") * 0.2 + lr / 1000, 6)


@pytest.fixture
def outputs(tmp_path):
    """Two sources, k up to 10 (so that order as text shows), random, and two outside any grid."""
    cells = [(init, k, j) for init in ("imagenet", "ham") for k in (2, 10) for j in (0, k)]
    for init, k, j in [*cells, ("random", 0, 0), ("random", 0, 2), ("imagenet", 10, 3)]:
        for seed in (0, 1):
            plan = {**PLAN, "init": init, "k": k, "j": j, "seed": seed, "cell_id": f"{init}{k}{j}"}
            plan["bn"] = "adapt" if j == 3 else "frozen"
            metrics = {METRIC: make_score(init, k, j), "test/nll": 1 - make_score(init, k, j)}
            make_run(tmp_path, f"{init}{k}-{j}-{seed}", plan=plan, metrics=metrics)
    return tmp_path


def make(outputs, metrics=(METRIC,), **options):
    return make_cell_table(read_runs(outputs), metrics, **options)


def make_grids(outputs):
    return pivot_table(make(outputs, only_grids=True), *GRID, across_random=True)


def test_the_grid_has_every_score_in_its_place_and_random_beside_every_source(outputs):
    table = make_grids(outputs)
    frame = table.frame.set_index(["init", "k"])
    assert table.list_columns("score") == ["j=0", "j=2", "j=10"]
    assert [*frame.index] == [(init, k) for init in ("ham", "imagenet") for k in (10, 2, 0)]
    assert any("no grid: 2 cells" in note for note in table.notes)
    for (init, k), row in frame.iterrows():
        for j in (0, 2, 10):
            is_there = j in (0, k)
            wanted = make_score(init if k else "random", k, j)
            assert row[f"j={j}"] == pytest.approx(wanted) if is_there else pd.isna(row[f"j={j}"])


def test_the_best_of_the_dataset_stays_marked(outputs):
    table = make_grids(outputs)
    (mark,) = list_best(table)
    assert table.frame.loc[mark[0], ["init", "k"]].tolist() == ["imagenet", 10]
    assert mark[1] == "j=10" and "0.700*" in write_text(table)


def test_without_sources_the_grid_is_of_random_alone(outputs):
    runs = read_runs(outputs)
    only = make_cell_table(runs[runs["init"] == "random"], [METRIC])
    table = pivot_table(only, *GRID, across_random=True)
    assert table.frame["init"].tolist() == ["random"]


def test_the_table_has_the_cells_and_the_order_of_the_reports_grids(outputs):
    table = make_grids(outputs).frame
    for grid in make_content(read_runs(outputs)).grids:
        layout, rows = lay_out_grid(grid), table[table["init"] == grid.init].set_index("k")
        assert tuple(rows.index) == layout.ks
        shown = {
            (k, int(name[2:]))
            for name in rows
            if name.startswith("j=") and " " not in name
            for k in rows.index
            if pd.notna(rows.loc[k, name])
        }
        assert shown == set(layout.points)


def test_intervals_go_with_their_scores_and_counts_are_said_once(outputs):
    table = pivot_table(make(outputs, interval="none"), ["init"], ["k", "j"])
    assert table.frame.set_index("init").loc["ham", "k=2 j=0 sd"] == 0.0
    assert "2 runs in every cell" in table.notes and f"the cells show {METRIC}" in table.notes
    plan = {**PLAN, "init": "ham", "k": 2, "j": 0, "seed": 2, "cell_id": "ham20"}
    make_run(outputs, "third", plan=plan, metrics={METRIC: 0.4})
    table = pivot_table(make(outputs, interval="seeds"), ["init"], ["k", "j"])
    assert "(3)" in write_text(table) and "k=2 j=0 n" in write_csv(table.frame)


def test_several_metrics_are_rows_of_their_own(outputs):
    table = pivot_table(make(outputs, (METRIC, "test/nll")), ["init", "k"], ["j"])
    assert set(table.frame["metric"]) == {METRIC, "test/nll"}
    nll = table.frame.query("metric == 'test/nll' and init == 'ham' and k == 2")
    assert nll["j=0"].item() == pytest.approx(1 - make_score("ham", 2, 0))


def test_what_else_differs_stands_in_front(outputs):
    for lr in (0.1, 0.2):
        settings = {"train.lr": lr}
        plan = {**PLAN, "init": "x", "k": 1, "settings": settings, "cell_id": f"x{lr}"}
        make_run(outputs, f"x{lr}", plan=plan, metrics={METRIC: lr})
    table = pivot_table(make(outputs), *GRID)
    assert table.frame.loc[table.frame["init"] == "x", "train.lr"].tolist() == [0.1, 0.2]


def test_cells_that_would_share_a_place_are_refused(outputs):
    table = make(outputs)
    short = table.select([i for i, c in enumerate(table.columns) if c.name != "init"])
    with pytest.raises(ConfigError, match="several cells share .*k=10, j=0"):
        pivot_table(short, *GRID)


@pytest.mark.parametrize("name", ["units", METRIC])
def test_columns_that_are_none_are_refused(outputs, name):
    with pytest.raises(ConfigError, match=f"{name}: choose of dataset, model, init, k, j, bn"):
        pivot_table(make(outputs), ["k"], [name])
