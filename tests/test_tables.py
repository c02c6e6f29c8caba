"""Tables of runs and of cells, and what they become in every format."""

import csv
import io
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from test_read import PLAN, make_predictions, make_run

from tlcnn.errors import ConfigError
from tlcnn.records.read import read_runs
from tlcnn.report.baseline import find_pairs
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.tables import make_run_table, sort_table
from tlcnn.report.writers.csv import write_csv
from tlcnn.report.writers.html import write_html
from tlcnn.report.writers.latex import write_latex
from tlcnn.report.writers.markdown import write_markdown
from tlcnn.report.writers.text import write_text
from tlcnn.statistics.comparison import adjust_holm, compare_arms
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.statistics.variance import combine_df, compute_quantile
from tlcnn.study.arms import load_arms
from tlcnn.study.cells import make_cells
from tlcnn.study.runs import make_runs

METRIC = "test/balanced_accuracy"
LABELS = np.arange(60) % 2


def make_cell(root, name, scores, *, skill=None, metric=METRIC, **plan):
    """The runs of one cell, a seed each; with `skill` they have predictions that score so."""
    folders = []
    for seed, score in enumerate(scores):
        predictions = None if skill is None else make_predictions(LABELS, skill, 97 * seed + 1)
        if predictions is not None:
            said = predictions[["logit/a", "logit/b"]].to_numpy().argmax(axis=1)
            score = np.mean([(said == LABELS)[c == LABELS].mean() for c in (0, 1)])
        settings = plan.get("settings", {})
        made = {**PLAN, "cell_id": name, **plan, "seed": seed, "settings": settings}
        folder = make_run(
            root, f"{name}-{seed}", plan=made, metrics={metric: score}, predictions=predictions
        )
        folders.append(folder)
    return folders


def list_best(table):
    """Return (row, column) of every entry that is marked as the best."""
    return {
        (i, column.name)
        for i, row in enumerate(table.rows)
        for column, entry in zip(table.columns, row, strict=True)
        if entry.is_best
    }


@pytest.fixture
def outputs(tmp_path):
    make_cell(tmp_path, "r", [0.5, 0.6, 0.7])
    make_cell(tmp_path, "i", [0.8], init="imagenet", k=5, j=4)
    plan = {**PLAN, "init": "imagenet", "k": 5, "j": 4, "seed": 1, "cell_id": "i"}
    make_run(tmp_path, "f", plan=plan, done=False, FAILED="Traceback")
    return tmp_path


# ---- one row a run, one row a cell --------------------------------------------------------------


def test_a_run_is_a_row_whatever_its_state(outputs):
    table = make_run_table(read_runs(outputs), [METRIC]).frame
    assert list(table["run_id"]) == ["i-0", "f", "r-0", "r-1", "r-2"]
    assert list(table["state"]) == ["done", "failed", "done", "done", "done"]


def test_seeds_become_mean_deviation_and_count(outputs):
    table = make_cell_table(read_runs(outputs), [METRIC], interval="none").frame.set_index("init")
    assert table.loc["random", "n"] == 3
    assert table.loc["random", METRIC] == pytest.approx(0.6)
    assert table.loc["random", f"{METRIC} sd"] == pytest.approx(0.1)
    assert table.loc["imagenet", "n"] == 1
    assert pd.isna(table.loc["imagenet", f"{METRIC} sd"])  # one seed says nothing of noise


def load_arm(folders):
    """The arm of the one cell whose runs these are."""
    (cell,) = make_cells(make_runs(read_runs(*folders)))
    return load_arms(cell, [METRIC])[METRIC]


def test_the_interval_over_seeds_is_students(outputs):
    table = make_cell_table(read_runs(outputs), [METRIC], interval="seeds")
    row = table.frame.set_index("init").loc["random"]
    half = compute_quantile(2, 0.975) * 0.1 / np.sqrt(3)
    assert [row[METRIC], row[f"{METRIC} low"], row[f"{METRIC} high"]] == pytest.approx(
        [0.6, 0.6 - half, 0.6 + half]
    )
    assert "one seed: no interval is possible (1 of 2 rows)" in table.notes


def test_the_full_interval_is_the_engines_and_reads_predictions(tmp_path):
    folders = make_cell(tmp_path, "a", [0, 0, 0], skill=0.8)
    table = make_cell_table(read_runs(tmp_path), [METRIC])
    one = estimate_contrast([(1.0, load_arm(folders))])
    (row,) = table.frame.to_dict("records")
    found = [row[METRIC], row[f"{METRIC} low"], row[f"{METRIC} high"]]
    assert found == pytest.approx([one.value, one.low, one.high])
    assert not table.notes
    seeds = make_cell_table(read_runs(tmp_path), [METRIC], interval="seeds").frame
    assert seeds[f"{METRIC} low"][0] != pytest.approx(one.low)


def test_without_predictions_the_interval_is_over_seeds_and_says_so(tmp_path):
    first, *_ = make_cell(tmp_path, "a", [0, 0, 0], skill=0.8)
    (first / "predictions.parquet").unlink()
    table = make_cell_table(read_runs(tmp_path), [METRIC])
    seeds = make_cell_table(read_runs(tmp_path), [METRIC], interval="seeds").frame
    assert table.frame[f"{METRIC} low"][0] == seeds[f"{METRIC} low"][0]
    assert table.notes == ("there are no predictions, so the interval covers new seeds only",)


def test_a_run_that_lacks_the_metric_is_told_not_averaged_in_silence(tmp_path):
    make_cell(tmp_path, "a", [0.5, 0.7])
    plan = {**PLAN, "cell_id": "a", "seed": 2}
    make_run(tmp_path, "without", plan=plan, metrics={"test/accuracy": 1.0})
    table = make_cell_table(read_runs(tmp_path), [METRIC])
    assert table.frame[METRIC][0] == pytest.approx(0.6)
    assert f"1 seed without {METRIC}, left out" in table.notes


def test_of_runs_of_one_seed_the_first_id_counts_and_it_is_told(tmp_path):
    for name, score in [("a", 0.5), ("b", 0.7), ("c", 0.9)]:
        plan = {**PLAN, "cell_id": "x", "seed": int(name == "c")}
        make_run(tmp_path, name, plan=plan, metrics={METRIC: score})
    table = make_cell_table(read_runs(tmp_path), [METRIC])
    assert table.frame[METRIC][0] == pytest.approx(0.7)  # of a and c
    assert any("1 run repeats a seed" in note for note in table.notes)


def test_runs_that_differ_in_more_than_the_seed_are_never_averaged(tmp_path):
    for name, cell, seed, score in [("a", "x", 0, 0.5), ("b", "y", 0, 0.9), ("c", "x", 1, 0.5)]:
        plan = {**PLAN, "seed": seed, "cell_id": cell}
        make_run(tmp_path, name, plan=plan, metrics={METRIC: score})
    table = make_cell_table(read_runs(tmp_path), [METRIC]).frame.set_index("cell_id")
    assert table[METRIC].to_dict() == {"x": 0.5, "y": 0.9}
    assert table["n"].to_dict() == {"x": 2, "y": 1}


def test_settings_that_the_seed_decides_do_not_part_a_cell(tmp_path):
    """The parent of a chain, `init.run`, is another run for each seed."""
    for cell, lr in (("x", 0.1), ("y", 0.2)):
        for seed in range(3):
            settings = {"init.run": f"parent{seed}", "init.self_seed": seed + 1, "train.lr": lr}
            plan = {**PLAN, "cell_id": cell, "seed": seed, "settings": settings}
            make_run(tmp_path, f"{cell}{seed}", plan=plan, metrics={METRIC: 0.5 + lr + seed / 10})
    table = make_cell_table(read_runs(tmp_path), [METRIC]).frame
    assert list(table["n"]) == [3, 3] and list(table["train.lr"]) == [0.1, 0.2]
    assert list(table[METRIC]) == pytest.approx([0.7, 0.8])
    assert "init.run" not in table and "cell_id" not in table
    lone = {**PLAN, "cell_id": "z", "settings": {"init.run": "a", "train.lr": 0.1}}
    make_run(tmp_path, "z", plan=lone, metrics={METRIC: 0.1})
    shown = make_cell_table(read_runs(tmp_path), [METRIC]).frame.set_index(METRIC)
    assert shown.loc[0.1, "init.run"] == "a" and shown["init.run"].notna().sum() == 1


def test_settings_that_differ_within_a_cell_become_columns(tmp_path):
    for name, lr, epochs in [("a", 0.1, 3), ("b", 0.2, 3)]:
        settings = {"train.lr": lr, "train.epochs": epochs, "dataset.name": name}
        make_run(tmp_path, name, plan={**PLAN, "cell_id": name, "settings": settings})
    table = make_run_table(read_runs(tmp_path), [METRIC]).frame
    assert list(table["train.lr"]) == [0.1, 0.2]
    assert "train.epochs" not in table and "dataset.name" not in table
    assert list(make_cell_table(read_runs(tmp_path), [METRIC]).frame["train.lr"]) == [0.1, 0.2]


def test_an_imported_run_beside_an_own_one_adds_one_column_not_its_lack_of_settings(tmp_path):
    settings = {f"train.option_{i}": i for i in range(30)}
    make_run(tmp_path, "own", plan={**PLAN, "settings": settings})
    other = {**PLAN, "imported": True, "settings": {"import.name": "x"}}
    make_run(tmp_path, "other", plan=other)
    table = make_cell_table(read_runs(tmp_path), [METRIC]).frame
    assert list(table["imported"]) == [False, True] and "train.option_0" not in table
    assert list(make_run_table(read_runs(tmp_path), [METRIC]).frame["imported"]) == [False, True]


# ---- folds --------------------------------------------------------------------------------------


def make_folds(root, scores, **plan):
    for fold, score in enumerate(scores):
        for seed in (0, 1):
            settings = {
                "dataset.folds": len(scores),
                "dataset.fold": fold,
                "dataset.root": str(fold),
            }
            made = {**PLAN, **plan, "seed": seed, "settings": settings, "cell_id": f"{plan}{fold}"}
            made["split_sizes"] = {"train": {"a": 400}, "test": {"a": 100}}
            name = f"{plan.get('init', 'random')}-{fold}-{seed}"
            make_run(root, name, plan=made, metrics={METRIC: score + 0.01 * (2 * seed - 1)})


def test_folds_of_one_cell_are_one_row_with_the_corrected_interval(tmp_path):
    scores = [0.5, 0.6, 0.7, 0.6, 0.6]
    make_folds(tmp_path, scores)
    table = make_cell_table(read_runs(tmp_path), [METRIC])
    (row,) = table.frame.to_dict("records")
    variance = np.var(scores, ddof=1) * (1 / 5 + 100 / 400)  # Nadeau & Bengio 2003
    variance += np.var([0.59, 0.61], ddof=1) / 2  # of two seeds
    half = compute_quantile(4, 0.975) * np.sqrt(variance)
    assert row["n"] == 2 and row["folds"] == 5 and "dataset.fold" not in row
    found = [row[METRIC], row[f"{METRIC} low"], row[f"{METRIC} high"]]
    assert found == pytest.approx([0.6, 0.6 - half, 0.6 + half])
    assert "1 of 1 rows are of folds" in table.notes[0] and "mean over folds" in table.notes[1]


def test_folds_are_compared_fold_by_fold(tmp_path):
    make_folds(tmp_path, [0.5, 0.6, 0.7, 0.6, 0.6])
    make_folds(tmp_path, [0.6, 0.71, 0.8, 0.7, 0.69], init="imagenet", k=5)
    table = make_cell_table(read_runs(tmp_path), [METRIC], baseline=["init=random"]).frame
    row = table.set_index("init").loc["imagenet"]
    differences = np.array([0.1, 0.11, 0.1, 0.1, 0.09])
    folds = np.var(differences, ddof=1) * (1 / 5 + 1 / 4)
    seeds = np.var([-0.01, 0.01], ddof=1) / 2  # of each cell: two seeds are not paired
    df = combine_df([(seeds, 1.0), (seeds, 1.0), (folds, 4.0)])
    half = compute_quantile(df, 0.975) * np.sqrt(2 * seeds + folds)
    assert row[f"Δ {METRIC} low"] == pytest.approx(0.1 - half)
    assert row[f"verdict {METRIC}"] == "better"


def test_runs_of_one_fold_stay_apart_from_other_recipes(tmp_path):
    make_folds(tmp_path, [0.5, 0.6])
    settings = {"dataset.folds": 2, "dataset.fold": 0, "train.lr": 0.1}
    make_run(tmp_path, "other", plan={**PLAN, "settings": settings, "cell_id": "other"})
    table = make_cell_table(read_runs(tmp_path), [METRIC]).frame
    assert sorted(table["folds"]) == [1, 2]


# ---- groups, baseline, best, order --------------------------------------------------------------


def test_a_group_averages_what_it_does_not_name_and_says_what(tmp_path):
    make_cell(tmp_path, "a", [0.5, 0.6], settings={"train.lr": 0.1})
    make_cell(tmp_path, "b", [0.7, 0.8, 0.9, 1.0], settings={"train.lr": 0.2})
    table = make_cell_table(read_runs(tmp_path), [METRIC], group=["init"], interval="none")
    (row,) = table.frame.to_dict("records")
    assert row[METRIC] == pytest.approx(0.75) and row["n"] == 6
    assert table.notes == ("averaged over different train.lr (0.1, 0.2)",)
    assert make_cell_table(
        read_runs(tmp_path), [METRIC], group=["train.lr"], interval="none"
    ).frame[METRIC].tolist() == pytest.approx([0.55, 0.85])


def test_a_group_with_intervals_has_the_mean_over_all_runs(tmp_path):
    make_cell(tmp_path, "a", [0.5, 0.6], settings={"train.lr": 0.1})
    make_cell(tmp_path, "b", [0.7, 0.9, 0.5], settings={"train.lr": 0.2})
    (row,) = make_cell_table(read_runs(tmp_path), [METRIC], group=["init"]).frame.to_dict(
        "records"
    )
    assert row[METRIC] == pytest.approx(0.64)  # also of the seed that only one of them has
    assert row[f"{METRIC} low"] < 0.64 < row[f"{METRIC} high"]


def test_cells_are_compared_with_the_baseline_of_their_dataset_and_model(tmp_path):
    folders = {
        name: make_cell(tmp_path, name, [0] * 4, skill=skill, init=init, j=j, dataset=dataset)
        for name, skill, init, j, dataset in [
            ("r", 0.6, "random", 0, "d"),
            ("x", 0.9, "imagenet", 0, "d"),
            ("y", 0.62, "imagenet", 1, "d"),
            ("q", 0.9, "random", 0, "other"),
            ("z", 0.6, "imagenet", 0, "other"),
            ("lone", 0.6, "imagenet", 0, "third"),
        ]
    }
    table = make_cell_table(read_runs(tmp_path), [METRIC], baseline=["init=random"], margin=0.2)
    arms = {n: load_arm(paths) for n, paths in folders.items()}
    wanted = adjust_holm([compare_arms(arms[n], arms["r"], margin=0.2) for n in ("x", "y")])
    frame = table.frame.set_index(["dataset", "init", "j"])
    for one, j in zip(wanted, (0, 1), strict=True):
        row = frame.loc[("d", "imagenet", j)]
        found = [row[f"Δ {METRIC}"], row[f"Δ {METRIC} low"], row[f"p Holm {METRIC}"]]
        assert found == pytest.approx([one.delta.value, one.delta.low, one.p_holm])
        assert row[f"p {METRIC}"] == pytest.approx(one.p)
        assert row[f"Δ {METRIC} family_size"] == 2
        assert row[f"verdict {METRIC}"] == one.verdict
    assert frame.loc[("other", "imagenet", 0), f"verdict {METRIC}"] == "worse"
    assert pd.isna(frame.loc[("d", "random", 0), f"Δ {METRIC}"])
    assert "not compared, because there is no baseline: third m" in table.notes


def test_of_several_baselines_the_one_with_the_same_recipe_is_taken(tmp_path):
    for init in ("random", "imagenet"):
        for lr, score in [(0.1, 0.5), (0.2, 0.7)]:
            scores = [score + (init == "imagenet") / 10, score + (init == "imagenet") / 10]
            make_cell(tmp_path, f"{init}{lr}", scores, init=init, settings={"train.lr": lr})
    frame = make_cell_table(read_runs(tmp_path), [METRIC], baseline=["init=random"]).frame
    deltas = frame.loc[frame["init"] == "imagenet", f"Δ {METRIC}"]
    assert deltas.tolist() == pytest.approx([0.1, 0.1])


def test_baselines_of_thousands_of_cells_are_found_at_once():
    n = 4_000
    frame = pd.DataFrame({"dataset": "d", "model": [f"m{i // 8}" for i in range(n)]})
    frame["init"] = ["random" if i % 8 < 2 else "imagenet" for i in range(n)]
    frame["train.lr"] = [i % 2 for i in range(n)]
    start = time.perf_counter()
    pairs, _ = find_pairs(frame, ["init=random"])
    assert time.perf_counter() - start < 5  # every row with every baseline took minutes
    assert pairs == {i: i - i % 8 + i % 2 for i in range(n) if i % 8 >= 2}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=m"], "2 cells of one dataset and model are that; they differ in init"),
        (["init=imagnet"], "Did you mean 'imagenet'"),
        (["unit=random"], "the table's columns are dataset, model[a-z, ]*$"),
        (
            ["freeze.through=none"],
            r"columns are dataset, .*\. Write j=N, .* frozen \(none: j=0\)$",
        ),
        (
            ["init.through=stem"],
            r"columns are dataset, .*\. Write k=N, .* transferred \(none: k=0",
        ),
        (["init=imagenet", "k=0"], "no cell is all of that"),
    ],
)
def test_a_baseline_that_is_none_is_refused(outputs, words, says):
    with pytest.raises(ConfigError, match=says):
        make_cell_table(read_runs(outputs), [METRIC], baseline=words)


def test_the_best_of_each_dataset_is_the_lowest_where_lower_is_better(tmp_path):
    for dataset, init, score in [
        ("d", "a", 0.5),
        ("d", "b", 0.7),
        ("e", "a", 0.1),
        ("e", "b", 0.2),
    ]:
        plan = {**PLAN, "dataset": dataset, "init": init, "cell_id": dataset + init}
        make_run(tmp_path, dataset + init, plan=plan, metrics={"test/nll": score, METRIC: score})
    table = make_cell_table(read_runs(tmp_path), ["test/nll", METRIC])
    assert list_best(table) == {(0, "test/nll"), (1, METRIC), (2, "test/nll"), (3, METRIC)}


def test_rows_are_sorted_by_metrics_best_first_and_the_best_goes_with_them(outputs):
    make_cell(outputs, "z", [0.9, 0.9], init="stats", k=3)
    table = make_cell_table(read_runs(outputs), [METRIC])
    found = sort_table(table, [METRIC])
    assert list(found.frame["init"]) == ["stats", "imagenet", "random"]
    assert list_best(found) == {(0, METRIC)} and list_best(table) == {(2, METRIC)}
    assert list(sort_table(table, ["k"]).frame["k"]) == [0, 3, 5]
    with pytest.raises(ConfigError, match="--sort kk"):
        sort_table(table, ["kk"])


# ---- formats ------------------------------------------------------------------------------------

EVIL = ["<script>alert(1)</script>", "=cmd()", "a|b", "a\nb", "50%_&", "\t=x", "\x1b[31m", "[x]*"]


@pytest.fixture(params=EVIL)
def evil(request, tmp_path):
    """A table whose dataset, class, setting and note are hostile; and what it was made of."""
    name = request.param
    metric = f"test/recall/{name}"
    for init in ("random", "imagenet"):
        settings = {f"{name}.x": init, "y": name}
        plan = {**PLAN, "dataset": name, "init": name if init == "random" else "i"}
        plan |= {"settings": settings, "cell_id": init}
        make_run(tmp_path, init, plan=plan, metrics={metric: 0.25 if init == "random" else 0.5})
    table = make_cell_table(read_runs(tmp_path), [metric])
    notes = (*table.notes, f"note {name}")
    return name, replace(table, notes=notes)


def test_names_are_inert_in_the_terminal(evil):
    name, table = evil
    text = write_text(table)
    assert len(text.splitlines()) == 3 + 4 and "\x1b" not in text and "\t" not in text


def test_names_start_no_formula_in_csv(evil):
    _, table = evil
    rows = [*csv.reader(io.StringIO(write_csv(table.frame)))]
    assert len({len(row) for row in rows}) == 1 and len(rows) == 3
    started = [c for row in rows for c in row if c.lstrip()[:1] in ("=", "+", "-", "@", "\t")]
    assert not started and "\x1b" not in write_csv(table.frame)


def test_names_make_no_markup_in_markdown(evil):
    name, table = evil
    text = write_markdown(table)
    lines = text.splitlines()
    bars = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines if line.startswith("|")}
    assert len(bars) == 1 and len([line for line in lines if line.startswith("|")]) == 4
    assert "<" not in text and "\x1b" not in text
    unescaped = re.sub(r"\\.", "", text)
    assert "[" not in unescaped and unescaped.count("*") == 4 * len(list_best(table))


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_names_are_text_in_html(evil):
    name, table = evil
    reader = _Reader()
    reader.feed(write_html(table))
    assert set(reader.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "b", "p"}
    assert reader.tags.count("tr") == 3 and "b" in reader.tags
    if name.isprintable():
        assert name in reader.texts  # and nothing is lost


def test_names_compile_in_latex(evil):
    _, table = evil
    check_latex(write_latex(table), n_columns=len(table.columns), n_rows=2)


def check_latex(text, n_columns, n_rows):
    """Read a tabular as LaTeX does: comments, escapes, braces, alignment."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert "\x1b" not in text
    begin = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[0])
    assert begin and len(begin[1]) == n_columns and lines[-1] == r"\end{tabular}"
    assert [lines[1], lines[3], lines[-2]] == [r"\toprule", r"\midrule", r"\bottomrule"]
    rows = [lines[2], *lines[4:-2]]
    assert len(rows) == n_rows + 1
    for row in rows:
        assert row.endswith(r" \\") and not re.match(r"\s*[\[*]", row)  # an option of \\
        body = re.sub(r"\\(textbackslash|text[a-z]+|Delta|pm|to|[&%$#_{}])", "", row[:-3])
        assert "\\" not in body and not re.search(r"[%#_^~]", body)
        assert body.count("&") == n_columns - 1 and body.count("$") % 2 == 0
        depth = 0
        for character in body:
            depth += (character == "{") - (character == "}")
            assert depth >= 0
        assert depth == 0


def test_the_best_is_bold_and_values_have_intervals_in_every_format(outputs):
    make_cell(outputs, "z", [0.70, 0.72, 0.71], init="stats", k=3)
    table = make_cell_table(read_runs(outputs), [METRIC], interval="seeds")
    assert re.search(r"0\.800 *\*|0\.800\*", write_text(table))
    assert "0.710 [0.685, 0.735]" in write_text(table)
    assert "0.710 [0.685, 0.735]" in write_markdown(table)
    assert "**0.800**" in write_markdown(table)
    latex = write_latex(table)
    assert r"\textbf{0.800}" in latex and "0.710 [0.685, 0.735]" in latex
    assert "<b>0.800</b>" in write_html(table)
    found = pd.read_csv(io.StringIO(write_csv(table.frame))).set_index("init")
    assert (
        found.loc["stats", f"{METRIC} low"]
        == table.frame.set_index("init").loc["stats", f"{METRIC} low"]
    )


def test_a_wide_table_says_once_above_what_is_the_same_everywhere(outputs):
    table = make_cell_table(read_runs(outputs), [METRIC])
    assert write_text(table, width=300) == write_text(table)
    first, header, *_ = write_text(table, width=40).splitlines()
    assert first.startswith("The same in every row: dataset d, model m, bn frozen")
    assert "dataset" not in header
    assert header.split()[:3] == ["init", "k", "j"]


def test_an_empty_table_says_so(outputs):
    runs = read_runs(outputs)
    table = make_cell_table(runs[runs["state"] == "failed"], [METRIC])
    assert write_text(table) == "no finished runs"
    assert write_csv(table.frame)
    for write in (write_markdown, write_latex, write_html):
        assert write(table)
