"""`tlcnn compare`: options, messages, files, and how long thousands of runs take."""

import re
import sys

import pandas as pd
import pytest
from test_read import PLAN, make_run
from test_tables import METRIC, make_cell

from tlcnn.cli.main import main


@pytest.fixture
def outputs(tmp_path):
    make_cell(tmp_path, "r", [0.5, 0.6, 0.7], settings={"train.lr": 0.001, "train.views": None})
    settings = {"train.lr": 0.01, "train.views": 4}
    make_cell(tmp_path, "i", [0.8], init="imagenet", k=5, j=4, settings=settings)
    plan = {**PLAN, "init": "imagenet", "k": 5, "j": 4, "seed": 1, "cell_id": "i"}
    make_run(tmp_path, "f", plan=plan, done=False, FAILED="Traceback")
    return tmp_path


def compare(capsys, *words):
    main(["compare", *map(str, words)])
    return capsys.readouterr()


def fail(capsys, *words):
    with pytest.raises(SystemExit) as exit_:
        main(["compare", *map(str, words)])
    assert exit_.value.code == 1
    return capsys.readouterr().err


def read_csv(capsys, *words):
    compare(capsys, *words, "--csv", words[0] / "t.csv")
    return pd.read_csv(words[0] / "t.csv")


def test_the_terminal_shows_runs_and_what_is_not_done(outputs, capsys):
    shown = compare(capsys, outputs, "--metrics", METRIC)
    header, *rows = shown.out.splitlines()
    assert header.split()[:7] == ["dataset", "model", "init", "k", "j", "bn", "seed"]
    assert len(rows) == 5 and "0.8000" in rows[0]
    assert "1 run failed" in shown.err


def test_the_seeds_option_shows_one_row_a_cell(outputs, capsys):
    shown = compare(capsys, outputs, "--seeds", "--metrics", METRIC).out
    assert "0.600 [0.352, 0.848]" in shown and "one seed: no interval is possible" in shown
    shown = compare(capsys, outputs, "--interval", "none", "--metrics", METRIC).out
    assert "0.6000 ± 0.1000" in shown


@pytest.mark.parametrize("name", ["csv", "markdown", "latex", "html"])
def test_files_are_written_or_printed(outputs, tmp_path, capsys, name):
    path = tmp_path / "table"
    words = ["--seeds", "--metrics", METRIC, f"--{name}"]
    assert compare(capsys, outputs, *words, path).out.splitlines()[0] == f"wrote {path}"
    assert compare(capsys, outputs, *words).out == path.read_text()


def test_a_file_that_cannot_be_written_is_said(outputs, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["compare", str(outputs), "--csv", str(outputs)])
    assert exit_.value.code == 74


# ---- filters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "n"),
    [
        (["init=random"], 3),
        (["init=random,imagenet"], 5),
        (["init!=random"], 2),
        (["train.lr=1e-3"], 3),
        (["train.lr>0.001"], 1),
        (["train.lr>=0.001"], 4),
        (["k<5"], 3),
        (["k<=5", "state=done"], 4),
        (["train.views=none", "state=done"], 3),
        (["train.views=4"], 1),
        (["seed=0", "init=imagenet"], 1),
        ([f"{METRIC}>0.55"], 3),
        (["imported=false"], 5),
    ],
)
def test_conditions_choose_runs(outputs, capsys, words, n):
    assert len(read_csv(capsys, outputs, "--where", *words)) == n


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--where", "init=imagnet"], "the values are imagenet, random. Did you mean 'imagenet'"),
        (["--where", "train.lr=5"], "train.lr=5: no run has it; the values are 0.001, 0.01"),
        (["--where", "lr=0.1"], "no such column or setting|There are, among others: train.lr"),
        (["--where", "inti=a"], "Did you mean 'init'"),
        (["--where", "init"], "COLUMN=VALUE"),
        (["--where", "init>3"], "compares numbers; init is imagenet, random"),
        (["--metrics", "test/balanced_acuracy"], "Did you mean 'test/balanced_accuracy'"),
        (["--group", "inti"], "--group inti.*Did you mean 'init'"),
        (["--seeds", "--sort", "kk"], "--sort kk"),
        (["--rows", "k"], "go together"),
        (["--rows", "k", "--columns", "jj"], "jj: choose of dataset"),
        (["--grid", "--rows", "k", "--columns", "j"], "one or the other"),
        (["--interval", "ful"], "Did you mean 'full'"),
        (["--baseline", "init=random", "--margin", "0"], "above 0"),
        (["--baseline", "init=rando"], "Did you mean 'random'"),
    ],
)
def test_wrong_words_are_refused_with_the_nearest(outputs, capsys, words, says):
    assert re.search(says, fail(capsys, outputs, *words))


# ---- the rest -----------------------------------------------------------------------------------


def test_a_grid_a_pivot_a_group_and_a_baseline_are_shown(outputs, capsys):
    assert "j=4" in compare(capsys, outputs, "--grid").out
    header = compare(capsys, outputs, "--rows", "init", "--columns", "j").out.splitlines()[0]
    assert header.split()[-3:] == ["init", "j=0", "j=4"]
    assert len(read_csv(capsys, outputs, "--group", "dataset", "--interval", "none")) == 1
    shown = compare(capsys, outputs, "--baseline", "init=random").out
    assert "Δ test/balanced_accuracy" in shown and "difference is smaller than 0.01" in shown
    assert "val/balanced_accuracy" not in shown  # one metric, unless others are named


def test_the_best_comes_first_when_sorted(outputs, capsys):
    found = read_csv(capsys, outputs, "--seeds", "--sort", METRIC)
    assert found["init"].tolist() == ["imagenet", "random"]
    assert read_csv(capsys, outputs, "--sort", "seed")["seed"].tolist() == [0, 0, 1, 1, 2]


def test_folders_are_read_together_and_copies_once(outputs, tmp_path, capsys):
    make_run(tmp_path / "more", "new", plan={**PLAN, "init": "stats"})
    make_run(tmp_path / "more", "r-0", plan={**PLAN, "init": "random"})
    shown = compare(capsys, outputs, tmp_path / "more", "--metrics", METRIC)
    assert shown.out.count("stats") == 1 and len(shown.out.splitlines()) == 7
    assert "1 folder is a duplicate" in shown.err


def test_only_the_chosen_runs_and_the_damaged_are_said_to_be_left_out(outputs, capsys):
    (make_run(outputs, "broken") / "plan.json").write_text("{")
    lines = compare(capsys, outputs, "--where", "init=random").err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("1 run unreadable") and "broken" in lines[1]


def test_a_wide_table_is_made_to_fit_a_terminal_only(outputs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert "every row" not in compare(capsys, outputs, "--seeds").out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert compare(capsys, outputs, "--seeds").out.startswith(
        "The same in every row: dataset d, model m"
    )


def test_nothing_yet_is_no_error(tmp_path, capsys):
    assert "no runs in" in compare(capsys, tmp_path).out


def test_only_unreadable_folders_are_no_error(tmp_path, capsys):
    (make_run(tmp_path, "a") / "plan.json").write_text("{")
    for words in ([], ["--seeds"], ["--grid"], ["--baseline", "init=random"], ["--group", "init"]):
        if "--baseline" in words:
            assert "init" in fail(capsys, tmp_path, *words)
        else:
            assert "1 run unreadable" in compare(capsys, tmp_path, *words).err
