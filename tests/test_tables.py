"""Tables of runs, and the command that prints them."""

import csv
import io

import pandas as pd
import pytest
from PIL import Image
from test_read import PLAN, make_run

from tlcnn.cli import main
from tlcnn.records.read import read_runs
from tlcnn.report.tables import make_run_table, make_seed_table, render_csv, render_markdown

METRIC = "test/balanced_accuracy"


@pytest.fixture
def outputs(tmp_path):
    for seed, score in enumerate([0.5, 0.6, 0.7]):
        make_run(tmp_path, f"r{seed}", plan={**PLAN, "seed": seed}, metrics={METRIC: score})
    imagenet = {**PLAN, "init": "imagenet", "k": 5, "j": 4}
    make_run(tmp_path, "i0", plan=imagenet, metrics={METRIC: 0.8})
    make_run(tmp_path, "f", plan={**imagenet, "seed": 1}, done=False, FAILED="Traceback")
    return tmp_path


def test_a_run_is_a_row_whatever_its_state(outputs):
    table = make_run_table(read_runs(outputs), [METRIC])
    assert list(table["run_id"]) == ["i0", "f", "r0", "r1", "r2"]
    assert list(table["state"]) == ["done", "failed", "done", "done", "done"]


def test_seeds_become_mean_deviation_and_count(outputs):
    table = make_seed_table(read_runs(outputs), [METRIC]).set_index("init")
    assert table.loc["random", "n"] == 3
    assert table.loc["random", METRIC] == pytest.approx(0.6)
    assert table.loc["random", f"{METRIC} sd"] == pytest.approx(0.1)
    assert table.loc["imagenet", "n"] == 1
    assert pd.isna(table.loc["imagenet", f"{METRIC} sd"])  # one seed says nothing of noise


def test_runs_that_differ_in_more_than_the_seed_are_never_averaged(tmp_path):
    for name, cell, seed, score in [("a", "x", 0, 0.5), ("b", "y", 0, 0.9), ("c", "x", 1, 0.5)]:
        plan = {**PLAN, "seed": seed, "cell_id": cell}
        make_run(tmp_path, name, plan=plan, metrics={METRIC: score})
    table = make_seed_table(read_runs(tmp_path), [METRIC]).set_index("cell_id")
    assert table[METRIC].to_dict() == {"x": 0.5, "y": 0.9}
    assert table["n"].to_dict() == {"x": 2, "y": 1}


def test_settings_that_differ_within_a_cell_become_columns(tmp_path):
    for name, fold, epochs in [("a", 0, 3), ("b", 1, 3)]:
        settings = {"dataset.fold": fold, "train.epochs": epochs, "dataset.name": name}
        make_run(tmp_path, name, plan={**PLAN, "cell_id": name, "settings": settings})
    table = make_run_table(read_runs(tmp_path), [METRIC])
    assert list(table["dataset.fold"]) == [0, 1]
    assert "train.epochs" not in table and "dataset.name" not in table
    assert list(make_seed_table(read_runs(tmp_path), [METRIC])["dataset.fold"]) == [0, 1]


def test_the_terminal_shows_runs_and_what_is_not_done(outputs, capsys):
    main(["compare", str(outputs), "--metrics", METRIC])
    shown = capsys.readouterr()
    header, *rows = shown.out.splitlines()
    assert header.split()[:7] == ["dataset", "model", "init", "k", "j", "bn", "seed"]
    assert len(rows) == 5 and "0.8000" in rows[0]
    assert "1 runs failed" in shown.err


def test_the_seeds_option_shows_one_row_a_cell(outputs, capsys):
    main(["compare", str(outputs), "--seeds", "--metrics", METRIC])
    assert "0.6000 ± 0.1000" in capsys.readouterr().out


def test_files_are_written_and_read_back(outputs, tmp_path, capsys):
    main(["compare", str(outputs), "--csv", str(tmp_path / "t.csv"), "--metrics", METRIC])
    assert pd.read_csv(tmp_path / "t.csv")[METRIC].max() == 0.8
    main(["compare", str(outputs), "--markdown", "-"])
    assert "|---|" in capsys.readouterr().out


def test_names_from_data_start_no_formula_and_break_no_row(outputs):
    make_run(outputs, "evil", plan={**PLAN, "dataset": "=cmd()|x"}, metrics={METRIC: 0.1})
    table = make_run_table(read_runs(outputs), [METRIC])
    cells = [row["dataset"] for row in csv.DictReader(io.StringIO(render_csv(table)))]
    assert not [cell for cell in cells if cell.startswith("=")]
    widths = {line.replace("\\|", "").count("|") for line in render_markdown(table).splitlines()}
    assert len(widths) == 1


def test_a_metric_that_nobody_measured_is_refused(outputs, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["compare", str(outputs), "--metrics", "test/balanced_acuracy"])
    assert exit_.value.code == 1
    assert "Did you mean 'test/balanced_accuracy'?" in capsys.readouterr().err


def test_units_are_printed(cache_dir, monkeypatch, capsys):
    monkeypatch.setenv("TLCNN_CACHE", str(cache_dir))
    main(["units", "test_resnet"])
    shown = capsys.readouterr().out
    assert "stem" in shown and "layer3" in shown


def test_a_contact_sheet_is_drawn(tmp_path, capsys):
    path = tmp_path / "sheet.png"
    words = ["dataset=synthetic", "dataset.options.n_images=140", "dataset.image_size=32"]
    main(["show", *words, "-o", str(path), "--columns", "2"])
    with Image.open(path) as sheet:
        assert sheet.height == 7 * 114 and sheet.width == 64 + 2 * 114
        assert len(sheet.getcolors(2**24)) > 1000
