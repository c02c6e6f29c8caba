"""One road from run folders to numbers: every output that shows a number shows the same one."""

import io
import itertools
import json
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_made import finish, write_cell, write_record

from tlcnn.cli.main import main
from tlcnn.records.folder import RunDir
from tlcnn.records.read import read_runs
from tlcnn.report import assemble, baseline, cell_table, missing, remarks, sentences, words
from tlcnn.report.assemble import make_content
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.paper import write_paper
from tlcnn.report.writers.csv import write_csv

METRIC, VAL = "test/balanced_accuracy", "val/balanced_accuracy"
CELL = ["dataset", "model", "init", "k", "j", "bn"]


def make_tables(folder):
    """What compare shows, and what a report says."""
    runs = read_runs(folder)
    return make_cell_table(runs, [METRIC]), make_content(runs)


def find_answers(content, key):
    return [finding for finding in content.findings if finding.key == key]


# ---- what counts --------------------------------------------------------------------------------


def write_folds(folder, scores, **named):
    for (seed, fold), score in scores.items():
        settings = {"dataset.folds": 3, "dataset.fold": fold}
        write_record(folder, seed=seed, test=score, cell=f"fold{fold}", **named, **settings)


def test_a_seed_that_lacks_a_fold_counts_nowhere_and_is_named_everywhere(tmp_path):
    scores = {(seed, fold): 0.6 + seed / 10 + fold / 50 for seed in range(3) for fold in range(3)}
    del scores[2, 1]
    write_folds(tmp_path, scores)
    table, content = make_tables(tmp_path)
    wanted = sum(scores[seed, fold] for seed in (0, 1) for fold in range(3)) / 6
    (row,), (cell,) = table.frame.to_dict("records"), content.cells.to_dict("records")
    for found, n in ((row, row["n"]), (cell, cell["n_seeds"])):
        assert found[METRIC] == pytest.approx(wanted) and n == 2
    assert row[f"{METRIC} low"] == pytest.approx(cell[f"{METRIC} low"])
    for lines in (table.notes, content.left_out):
        assert any("seed 2 lacks a fold" in line for line in lines)


def test_of_two_runs_of_one_seed_the_first_id_counts_everywhere(tmp_path):
    for run_id, score in (("b", 0.75), ("a", 0.60)):
        folder = write_record(tmp_path / run_id, seed=0, test=score, cell="x")
        plan = json.loads((folder / "plan.json").read_text())
        (folder / "plan.json").write_text(json.dumps({**plan, "run_id": run_id}))
        RunDir(folder).write_done(run_id)
    table, content = make_tables(tmp_path)
    assert table.frame[METRIC].tolist() == content.cells[METRIC].tolist() == [0.60]
    for lines in (table.notes, content.left_out):
        (line,) = [line for line in lines if "repeats a seed" in line]
        assert line.count("left out") + line.count("counts in no mean") == 1


def test_a_seed_without_the_metric_is_left_out_everywhere_and_counted(tmp_path):
    write_cell(tmp_path, (0.5, 0.7))
    write_record(tmp_path, seed=2, test=0.9, metric="accuracy")
    table, content = make_tables(tmp_path)
    assert table.frame[METRIC].tolist() == content.cells[METRIC].tolist() == [pytest.approx(0.6)]
    for text in (" ".join(table.notes), content.cells["note"][0]):
        assert f"1 seed without {METRIC}, left out" in text


def remove_val(folder):
    """Take the validation score out of a run's summary."""
    summary = json.loads((folder / "summary.json").read_text())
    del summary["metrics"][VAL]
    (folder / "summary.json").write_text(json.dumps(summary))
    RunDir(folder).write_done(folder.name[-12:])


def test_a_seed_that_lacks_validation_on_one_fold_is_in_no_validation_mean(tmp_path):
    for k in (0, 3, 5):
        for seed, fold in itertools.product(range(3), range(2)):
            folder = write_record(
                tmp_path,
                k=k,
                init="imagenet" if k else "random",
                cell=f"k{k}-fold{fold}",
                seed=seed,
                test=0.6 + k / 100,
                val=0.5 + k / 100 + seed / 10,
                **{"dataset.folds": 2, "dataset.fold": fold},
            )
            if (k, seed, fold) == (3, 2, 1):
                remove_val(folder)
    runs = read_runs(tmp_path)
    table = make_cell_table(runs, [VAL], interval="seeds").frame.set_index("k")
    content = make_content(runs)
    (grid,) = content.grids
    scores = grid.table.set_index("k")["val"]
    assert scores[3] == table[VAL][3] == pytest.approx(0.58)
    assert scores[5] == table[VAL][5] == pytest.approx(0.65)


def test_a_cell_with_few_validation_scores_is_no_candidate_for_the_best(tmp_path):
    write_cell(tmp_path, (0.5, 0.51, 0.52), init="random", k=0)
    write_cell(tmp_path, (0.6, 0.61, 0.62))
    for seed, val in enumerate((0.9, None, None)):
        folder = write_record(tmp_path, seed=seed, test=0.55, val=val, k=3)
        if val is None:
            remove_val(folder)
    (grid,) = make_content(read_runs(tmp_path)).grids
    assert grid.table.set_index("cell")["k"][grid.best] == 5


def test_every_adjusted_p_names_its_family_and_the_raw_p_is_one(tmp_path, capsys):
    write_cell(tmp_path, (0.60, 0.61, 0.63))
    write_cell(tmp_path, (0.40, 0.45, 0.41), init="random", k=0)
    write_cell(tmp_path, (0.50, 0.52, 0.51), j=1)
    main(["compare", str(tmp_path), "--baseline", "init=random", "--csv", f"{tmp_path}/t.csv"])
    table = pd.read_csv(tmp_path / "t.csv").set_index(["init", "k", "j"])
    row = table.loc[("imagenet", 5, 0)]
    compared = make_content(read_runs(tmp_path)).comparisons
    transfer = compared[compared["family"].str.startswith("transfer")].iloc[0]
    assert row[f"p {METRIC}"] == pytest.approx(transfer["p"], rel=1e-12)
    assert row[f"Δ {METRIC} family_size"] == transfer["family_size"] == 1
    assert row[f"Δ {METRIC} family"] == transfer["family"]
    assert row[f"p Holm {METRIC}"] == pytest.approx(transfer["p_holm"], rel=1e-12)
    further = table.loc[("imagenet", 5, 1), f"Δ {METRIC} family"]
    assert "init=random" in further and "ham10000" in further
    main(["compare", str(tmp_path), "--baseline", "init=random"])
    printed = capsys.readouterr().out
    assert f"family “{transfer['family']}”: 1 comparison" in printed
    assert f"family “{further}”: 1 comparison; the smallest true difference" in printed


@pytest.mark.parametrize(
    "baseline", [["init=random"], ["init=imagenet", "k=5", "j=0"]], ids=["random", "full"]
)
def test_compare_and_report_give_the_same_contrast_one_family_and_one_p(tmp_path, baseline):
    """Whatever is shown beside it, and whichever of the two cells is the baseline."""
    for j, test in enumerate((0.60, 0.601, 0.595, 0.57)):
        write_cell(tmp_path, (test, test + 0.01, test + 0.04), j=j)
    write_cell(tmp_path, (0.40, 0.45, 0.41), init="random", k=0)
    runs = read_runs(tmp_path)
    frame = make_cell_table(runs, [METRIC], baseline=baseline).frame
    content = make_content(runs)
    labels = content.cells.set_index("cell")
    n_common = 0
    for _, pair in content.comparisons.iterrows():
        if pair["family"].startswith("choosing on validation"):
            continue  # the choice is no cell of a table
        for shown, base in ((pair["a"], pair["b"]), (pair["b"], pair["a"])):
            cells = labels.loc[[shown, base], ["init", "k", "j"]]
            fits = [
                all(str(cell[n]) == v for n, v in (w.split("=") for w in baseline))
                for _, cell in cells.iterrows()
            ]
            if not fits[1]:
                continue
            at = (frame[["init", "k", "j"]] == cells.iloc[0]).all(axis=1)
            (row,) = frame[at].to_dict("records")
            n_common += 1
            assert row[f"Δ {METRIC} family"] == pair["family"]
            assert row[f"Δ {METRIC} family_size"] == pair["family_size"]
            check_equal(row[f"p Holm {METRIC}"], pair["p_holm"])
    assert n_common == (1 if baseline == ["init=random"] else 4)


def test_nothing_else_in_the_folder_changes_p_in_compare(tmp_path):
    alone = None
    for unrelated in ({}, {"dataset": "other"}, {"model": "resnet50"}):
        for j, test in enumerate((0.60, 0.601, 0.595)):
            write_cell(tmp_path, (test, test + 0.01, test + 0.04), j=j, **unrelated)
        write_cell(tmp_path, (0.59, 0.60, 0.61), init="random", k=0, **unrelated)
        frame = make_cell_table(read_runs(tmp_path), [METRIC], baseline=["init=random"]).frame
        mine = frame[(frame["dataset"] == "ham10000") & (frame["model"] != "resnet50")]
        columns = [f"p Holm {METRIC}", f"Δ {METRIC} family_size", f"verdict {METRIC}"]
        facts = mine.set_index("j")[mine["init"].eq("imagenet").to_numpy()][columns]
        alone = facts if alone is None else alone
        assert facts.equals(alone)


# ---- who is who ---------------------------------------------------------------------------------


def test_a_layer_answer_names_its_own_recipe(tmp_path):
    for lr, gap in ((0.001, 0.0), (0.0015, 0.3)):
        for init in ("imagenet", "self"):
            mean = 0.6 - gap * (init == "imagenet")
            scores = (mean, mean + 0.001, mean - 0.001)
            write_cell(tmp_path, scores, init=init, k=2, j=2, **{"train.lr": lr})
    answers = find_answers(make_content(read_runs(tmp_path)), "layers")
    assert ["train.lr=0.001)" in a.answer for a in answers] == [True, False]
    assert ["train.lr=0.0015)" in a.answer for a in answers] == [False, True]
    assert ["specific" in a.verdict for a in answers] == [False, True]


def test_a_dataset_with_a_dash_is_no_chain(tmp_path):
    named = {"init": "imagenet-isic-2019", "ancestry": ("isic-2019",), "first": "imagenet"}
    write_cell(tmp_path, (0.9, 0.91, 0.92), **named)
    write_cell(tmp_path, (0.8, 0.81, 0.82))
    write_cell(tmp_path, (0.7, 0.71, 0.72), init="random", k=0)
    content = make_content(read_runs(tmp_path))
    (chain,) = find_answers(content, "chain")
    assert chain.question == "HAM10000: does isic-2019 help more than ImageNet?"
    assert "from ImageNet → isic-2019, " in chain.answer
    assert "isic → 2019" not in repr(content)


# ---- what can be answered -----------------------------------------------------------------------

SIX = tuple(f"stage{n}" for n in range(1, 7))


def test_frozen_cells_alone_are_a_layer_answer_of_any_number_of_units(tmp_path):
    for n in range(1, 6):
        for init in ("imagenet", "self"):
            mean = 0.6 - 0.2 * (init == "imagenet" and n > 3)
            scores = (mean, mean + 0.001, mean - 0.001)
            write_cell(tmp_path, scores, init=init, k=n, j=n, units=SIX)
    (answer,) = find_answers(make_content(read_runs(tmp_path)), "layers")
    assert answer.verdict == "general for n = 1 to 3, specific for n = 4 and 5"
    missing = [line for line in answer.details if line.startswith("Missing")]
    assert len(missing) == 1 and "(k, j) = (6, 6)" in missing[0]


def test_a_grid_without_its_top_unit_is_answered_and_says_so(tmp_path):
    write_cell(tmp_path, (0.4, 0.41, 0.42), init="random", k=0, units=SIX)
    for k in range(1, 6):
        for j in (0, k):
            mean = 0.5 + k / 100 - j / 50
            write_cell(tmp_path, (mean, mean + 0.001, mean - 0.001), k=k, j=j, units=SIX)
    content = make_content(read_runs(tmp_path))
    (transfer,), (best,) = (find_answers(content, k) for k in ("imagenet_vs_random", "best_cell"))
    assert transfer.verdict == "yes" and "from ImageNet through stage5" in transfer.answer
    name = "“ImageNet through stage5, all trained”"
    assert best.verdict == f"validation chose {name} itself: nothing to compare"
    assert "k = 5, j = 0" in best.answer
    assert len(content.grids) == 1


def test_a_grid_of_frozen_cells_alone_has_a_best_and_names_what_is_missing(tmp_path):
    for j in (1, 2, 3):
        write_cell(tmp_path, (0.5 + j / 10, 0.51 + j / 10), j=j)
    (best,) = find_answers(make_content(read_runs(tmp_path)), "best_cell")
    (missing,) = [line for line in best.details if line.startswith("Missing")]
    assert "k = 5, j = 3" in best.answer and "(k, j) = (5, 0)" in missing
    assert "init=imagenet init.through=all freeze.through=none seed=0,1" in missing


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("imagenet_vs_random", "runs from random with (k, j) = (0, 0)"),
        ("best_cell", "runs from ImageNet with (k, j) = (5, 0)"),
        ("layers", "runs from ImageNet with (k, j) = (5, 0), (5, 2)"),
    ],
)
def test_what_is_not_measured_says_which_runs_are_missing(tmp_path, key, says):
    write_cell(tmp_path, (0.5, 0.6), j=1)
    (answer,) = find_answers(make_content(read_runs(tmp_path)), key)
    assert answer.verdict == "not measured"
    assert any(says in line for line in answer.details)
    assert "experiment=" not in " ".join(answer.details)


# ---- odd records --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("plan.json", {"seed": 10**30}),
        ("plan.json", {"k": 10**30}),
        ("plan.json", {"k": 10**7}),
        ("plan.json", {"k": -3}),
        ("plan.json", {"j": 10**9, "units": []}),
        ("plan.json", {"units": "stem", "classes": 3, "ancestry": [1], "split_sizes": [2]}),
        ("plan.json", {"identity": [], "settings": {"train.lr": [1, {"a": 2}]}}),
        ("summary.json", {"train_s": "soon"}),
        ("summary.json", {"train_s": [1, 2], "epochs": {}}),
    ],
)
def test_one_odd_run_ends_neither_compare_nor_report(tmp_path, capsys, file, values):
    write_cell(tmp_path, (0.5, 0.6))
    write_cell(tmp_path, (0.4, 0.5), init="random", k=0)
    folder = write_record(tmp_path, seed=7, test=0.9)
    record = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**record, **values}))
    RunDir(folder).write_done(folder.name)
    for more in (["--seeds"], ["--baseline", "init=random"], ["--grid"], ["--group", "init"], []):
        main(["compare", str(tmp_path), *more])
    shown = capsys.readouterr()
    content = make_content(read_runs(tmp_path))
    scores = content.cells.set_index("init")[METRIC]
    assert scores["random"] == pytest.approx(0.45)
    if not {"seed", "k", "j"}.isdisjoint(values):
        lines = [*content.left_out, *shown.out.splitlines(), *shown.err.splitlines()]
        assert scores["imagenet"] == pytest.approx(0.55)
        assert any(folder.name in line for line in content.left_out)
        assert any(folder.name in line for line in lines[len(content.left_out) :])


# ---- the property -------------------------------------------------------------------------------

SCORE = st.integers(100, 900).map(lambda n: n / 1000)


@st.composite
def studies(draw):
    """Runs as keyword arguments of `write_record`: some cells, of each some seeds and folds."""
    runs = []
    n_folds = draw(st.sampled_from([0, 0, 3]))
    points = [("random", 0, 0), ("imagenet", 5, 0), ("imagenet", 5, 2), ("imagenet", 3, 3)]
    points += [("self", 3, 3), ("random-isic-2019", 5, 0)]
    for init, k, j in draw(st.lists(st.sampled_from(points), min_size=1, max_size=5, unique=True)):
        for lr in draw(st.sampled_from([(0.001,), (0.001, 0.0015)])):
            imported = not n_folds and draw(st.integers(0, 9)) == 0
            for seed in draw(st.sets(st.integers(0, 4), min_size=1, max_size=4)):
                for fold in range(max(n_folds, 1)):
                    for copy in range(draw(st.sampled_from([1, 1, 1, 1, 2]))):
                        if draw(st.integers(0, 9)) == 0:
                            continue  # a missing run
                        run = {"init": init, "k": k, "j": j, "seed": seed, "imported": imported}
                        run |= {"cell": f"{init}-{k}-{j}-{lr}-{imported}-{fold}"}
                        run |= {"test": draw(SCORE), "val": draw(SCORE), "train.lr": lr}
                        run |= {"train.batch_size": 32, "copy": copy}
                        run |= {"has_val": draw(st.integers(0, 9)) > 0}
                        if n_folds:
                            run |= {"dataset.folds": n_folds, "dataset.fold": fold}
                        if init == "random-isic-2019":
                            run |= {"ancestry": ("isic-2019",)}
                        runs.append(run)
    return runs


def write_study(folder, runs):
    for run in runs:
        copy, has_val = run.pop("copy"), run.pop("has_val")
        written = write_record(folder / f"copy{copy}", **run)
        if not has_val:
            remove_val(written)
        plan = json.loads((written / "plan.json").read_text())
        (written / "plan.json").write_text(
            json.dumps({**plan, "run_id": plan["run_id"][:-1] + str(copy)})
        )
        finish(written)


def name_rows(frame, recipes):
    """The frame with its cells' names as index."""
    names = [*CELL, "imported"]
    frame = frame.assign(imported=frame.get("imported", False), bn="frozen")
    texts = frame[names].astype(str).agg("|".join, axis=1)
    return frame.set_index(texts + "|" + recipes(frame))


@settings(max_examples=30, deadline=None)
@given(studies())
def test_every_number_that_two_outputs_share_is_equal(runs):
    with tempfile.TemporaryDirectory() as name:
        check_study(Path(name), runs)


def check_study(folder, runs):
    write_study(folder, runs)
    if not runs:
        return
    frame = read_runs(
        folder / "copy0", *([folder / "copy1"] if (folder / "copy1").is_dir() else [])
    )
    content = make_content(frame)
    plain = make_cell_table(frame, [METRIC, VAL]).frame
    val_scores = {row["cell"]: row["val"] for g in content.grids for _, row in g.table.iterrows()}
    has_lr = "train.lr" in plain  # where cells of one name differ in it
    rate = r"(train\.lr=[\d.]+)"  # cells of one fold each have that fold in their recipe too
    cells = name_rows(content.cells, lambda f: f["recipe"].str.extract(rate)[0] if has_lr else "")
    lr = plain["train.lr"].map("train.lr={:g}".format) if has_lr else ""
    table = name_rows(plain, lambda _: lr)
    if "cell_id" not in plain:
        assert sorted(table.index) == sorted(cells.index)
        for name, cell in cells.iterrows():
            row = table.loc[name]
            for part in ("", " low", " high"):
                check_equal(row[METRIC + part], cell[METRIC + part])
            assert row["n"] == cell["n_seeds"]
            if cell["cell"] in val_scores:
                check_equal(val_scores[cell["cell"]], row[VAL])
    check_files(frame, content, folder)
    check_baseline(frame, content)


def check_files(frame, content, folder):
    """The CSV files of the paper hold the numbers of the content, in full precision."""
    write_paper(content, ["run"] * len(frame), [], folder / "paper")
    for name, shown in (("cells", content.cells), ("comparisons", content.comparisons)):
        read = pd.read_csv(folder / f"paper/tables/{name}.csv")
        numbers = shown.select_dtypes("number")
        assert len(read) == len(shown) and set(numbers) <= set(read)
        for column in numbers:
            for a, b in zip(read[column], shown[column], strict=True):
                check_equal(a, b)


def check_baseline(frame, content):
    """The raw p, difference and interval of each pair that compare and report both show."""
    scratch = content.cells[(content.cells["k"] == 0) & (content.cells["n_seeds"] > 0)]
    if len(scratch) != 1 or "train.lr=" in "".join(content.cells["recipe"]):
        return
    written = write_csv(make_cell_table(frame, [METRIC], baseline=["k=0"]).frame)
    table = pd.read_csv(io.StringIO(written))
    sources = content.cells.set_index("cell")
    for _, pair in content.comparisons.iterrows():
        if pair["b"] != scratch["cell"].iloc[0]:
            continue
        a = sources.loc[pair["a"]]
        hits = table[
            (table["init"] == a["init"]) & (table["k"] == a["k"]) & (table["j"] == a["j"])
        ]
        if "imported" in table:
            hits = hits[hits["imported"] == a["imported"]]
        (row,) = hits.to_dict("records")
        check_equal(row[f"Δ {METRIC}"], pair["delta"])
        check_equal(row[f"Δ {METRIC} low"], pair["low"])
        check_equal(row[f"p {METRIC}"], pair["p"])
        assert row[f"Δ {METRIC} family"] and pair["family"] and pair["family_size"] >= 0


def check_equal(a, b):
    assert a == pytest.approx(b, rel=1e-9, nan_ok=True)


# ---- words and numbers --------------------------------------------------------------------------


def test_no_number_and_no_verdict_depends_on_words(tmp_path, monkeypatch):
    """Every name, note and sentence is another text: what was compared and found is the same."""
    for seed in range(3):
        for init, k, j, test in (
            *(("random", 0, 0, 0.4), ("imagenet", 5, 0, 0.6), ("imagenet", 5, 2, 0.62)),
            *(("imagenet", 3, 3, 0.5), ("self", 3, 3, 0.58), ("imagenet", 4, 4, 0.41)),
        ):
            write_record(tmp_path, seed=seed, test=test + seed / 100, init=init, k=k, j=j)
    for init, score in (("random", 0.3), ("imagenet", 0.5)):  # one seed: nothing but a note
        k = 5 * (init == "imagenet")
        write_record(tmp_path, seed=0, test=score, init=init, k=k, dataset="other")
    plain = list_facts(read_runs(tmp_path))
    counter = itertools.count()
    for name in ("write_note", "write_notes", "write_omission", "write_omissions", "name_family"):
        reword(monkeypatch, name, counter)
    reword(monkeypatch, "list_remarks", counter, make=lambda text: [text])
    for name in ("name_cell", "name_source", "name_start", "name_dataset", "name_metric"):
        reword(monkeypatch, name, counter)
    assert list_facts(read_runs(tmp_path)) == plain
    assert next(counter) > 50  # they were all asked


def reword(monkeypatch, name, counter, make=str):
    for module in (sentences, remarks, missing, words, assemble, cell_table, baseline):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, lambda *a, **k: make(f"text {next(counter)}"))


def list_facts(runs):
    """All numbers, keys and verdicts of a report and of a table with a baseline."""
    content = make_content(runs)
    table = make_cell_table(runs, [METRIC], baseline=["init=random"]).frame
    frames = [content.cells, content.comparisons, table]
    frames += [grid.table for grid in content.grids]
    frames += [frame for layers in content.layers for frame in (layers.curves, layers.scores)]
    facts = [frame.select_dtypes("number").to_csv() for frame in frames]
    facts += [str(f[c].tolist()) for f in frames for c in f if "verdict" in c or c in ("a", "b")]
    facts += [str([(f.key, f.verdict, f.comparisons, f.dataset) for f in content.findings])]
    return facts + [str(content.highlights and [cell for *_, cell in content.highlights])]
