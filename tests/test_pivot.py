"""Tables of cells turned: values of some columns stand across."""

import pandas as pd
import pytest
from test_read import PLAN, make_run, read_runs
from test_tables import list_best

from tlcnn.errors import ConfigError
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.pivot import GRID, pivot_table
from tlcnn.report.writers.csv import write_csv
from tlcnn.report.writers.text import write_text

METRIC = "test/balanced_accuracy"


def make_score(init, k, j, lr=0.1):
    return round(0.2 + 0.02 * k + 0.01 * j + (init == "imagenet") * 0.2 + lr / 1000, 6)


@pytest.fixture
def outputs(tmp_path):
    """Two sources, k up to 10 (so that order as text shows), random, and a frozen random one."""
    cells = [(init, k, j) for init in ("imagenet", "ham") for k in (2, 10) for j in (0, k)]
    for init, k, j in [*cells, ("random", 0, 0), ("random", 0, 2)]:
        for seed in (0, 1):
            plan = {**PLAN, "init": init, "k": k, "j": j, "seed": seed, "cell_id": f"{init}{k}{j}"}
            metrics = {METRIC: make_score(init, k, j), "test/nll": 1 - make_score(init, k, j)}
            make_run(tmp_path, f"{init}{k}-{j}-{seed}", plan=plan, metrics=metrics)
    return tmp_path


def make(outputs, metrics=(METRIC,), **options):
    return make_cell_table(read_runs(outputs), metrics, **options)


def test_the_grid_has_every_score_in_its_place_and_random_beside_every_source(outputs):
    table = pivot_table(make(outputs), *GRID, across_random=True)
    frame = table.frame.set_index(["init", "k"])
    assert table.list_columns("score") == ["j=0", "j=2", "j=10"]
    assert [*frame.index] == [(init, k) for init in ("ham", "imagenet") for k in (0, 2, 10)]
    for (init, k), row in frame.iterrows():
        for j in (0, 2, 10):
            is_there = j in (0, k) or (k == 0 and j == 2)
            wanted = make_score(init if k else "random", k, j)
            assert row[f"j={j}"] == pytest.approx(wanted) if is_there else pd.isna(row[f"j={j}"])


def test_the_best_of_the_dataset_stays_marked(outputs):
    table = pivot_table(make(outputs), *GRID, across_random=True)
    (mark,) = list_best(table)
    assert table.frame.loc[mark[0], ["init", "k"]].tolist() == ["imagenet", 10]
    assert mark[1] == "j=10" and "0.700 [0.700, 0.700]*" in write_text(table)


def test_without_sources_the_grid_is_of_random_alone(outputs):
    runs = read_runs(outputs)
    only = make_cell_table(runs[runs["init"] == "random"], [METRIC])
    table = pivot_table(only, *GRID, across_random=True)
    assert table.frame["init"].tolist() == ["random"]


def test_intervals_go_with_their_scores_and_counts_are_said_once(outputs):
    table = pivot_table(make(outputs, interval="none"), ["init"], ["k", "j"])
    assert table.frame.set_index("init").loc["ham", "k=2 j=0 sd"] == 0.0
    assert "2 runs in every cell" in table.notes and f"cells: {METRIC}" in table.notes
    plan = {**PLAN, "init": "ham", "k": 2, "j": 0, "seed": 2, "cell_id": "ham20"}
    make_run(outputs, "third", plan=plan, metrics={METRIC: 0.4})
    table = pivot_table(make(outputs, interval="seeds"), ["init"], ["k", "j"])
    assert "(3)" in write_text(table) and "k=2 j=0 n" in write_csv(table.frame)


def test_several_metrics_are_rows_of_their_own(outputs):
    table = pivot_table(make(outputs, (METRIC, "test/nll")), ["init", "k"], ["j"])
    assert set(table.frame["metric"]) == {METRIC, "test/nll"}
    nll = table.frame[table.frame["metric"] == "test/nll"].set_index(["init", "k"])
    assert nll.loc[("ham", 2), "j=0"] == pytest.approx(1 - make_score("ham", 2, 0))


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
    with pytest.raises(ConfigError, match="several cells share .*k=2, j=0"):
        pivot_table(short, *GRID)


@pytest.mark.parametrize("name", ["units", METRIC])
def test_columns_that_are_none_are_refused(outputs, name):
    with pytest.raises(ConfigError, match=f"{name}: choose of dataset, model, init, k, j, bn"):
        pivot_table(make(outputs), ["k"], [name])
