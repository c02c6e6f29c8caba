"""What a report says of runs in any state, without predictions, or of none."""

import pytest
from records_made import write_cell, write_record

from tlcnn.errors import ConfigError, DataError
from tlcnn.records.folder import RunDir
from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.report.figures.bars import draw_bars
from tlcnn.study.pilot import load_pilot


def test_nothing_finished_is_four_questions_not_measured(tmp_path):
    (write_record(tmp_path, seed=0, test=0.5) / "DONE").unlink()
    content = make_content(read_runs(tmp_path))
    assert [finding.verdict for finding in content.findings] == ["not measured"] * 4
    assert len(content.cells) == 0 and len(content.comparisons) == 0
    assert len(content.left_out) == 1


def test_a_cell_without_the_metric_is_told_and_not_compared(tmp_path):
    write_cell(tmp_path, (0.5, 0.6))
    write_cell(tmp_path, (0.5, 0.6), dataset="chest", metric="macro_auroc")
    content = make_content(read_runs(tmp_path))
    told = "cell in no comparison (no run has test/balanced_accuracy): chest: "
    assert any(line.startswith(told) for line in content.left_out)
    assert len(content.cells) == 2


def test_what_is_to_be_known_of_the_images_is_in_the_provenance(tmp_path):
    note = "2 of 8 test images are, byte for byte, training images"
    write_cell(tmp_path, (0.5, 0.6), notes=(note,))
    write_cell(tmp_path, (0.5, 0.6), imported=True, notes=("two files were read",))
    data = dict(make_content(read_runs(tmp_path)).provenance)["data"]
    assert [value for _, value in data].count(note) == 1
    assert "two files were read" not in dict(data).values()


def test_every_cell_has_its_mean_and_interval_for_every_metric(tmp_path):
    write_cell(tmp_path, (0.5, 0.6, 0.7))
    (cell,) = make_content(read_runs(tmp_path)).cells.to_dict("records")
    assert cell["test/balanced_accuracy"] == pytest.approx(0.6)
    assert cell["test/balanced_accuracy sd"] == pytest.approx(0.1)
    half = 4.3027 * 0.1 / 3**0.5  # t with 2 degrees of freedom
    assert cell["test/balanced_accuracy high"] == pytest.approx(0.6 + half, abs=1e-4)
    assert "no predictions" in cell["note"]


def test_a_grid_holds_every_cell_of_a_source_and_random(tmp_path):
    write_cell(tmp_path, (0.4, 0.4), init="random", k=0)
    for k, j in [(5, 0), (5, 5), (3, 3), (3, 1)]:
        write_cell(tmp_path, (0.4 + k / 100, 0.4 + k / 100), k=k, j=j)
    (grid,) = make_content(read_runs(tmp_path)).grids
    points = list(zip(grid.table["k"], grid.table["j"], strict=True))
    assert points == [(0, 0), (3, 1), (3, 3), (5, 0), (5, 5)]
    assert grid.table.set_index("cell").loc[grid.best, "k"] == 5


def test_highlights_are_few_and_each_cell_once(tmp_path):
    write_cell(tmp_path, (0.4, 0.4), init="random", k=0)
    for j in range(6):
        write_cell(tmp_path, (0.5, 0.5), j=j)
    content = make_content(read_runs(tmp_path))
    cells = [cell for _, _, cell in content.highlights]
    assert 2 <= len(cells) == len(set(cells)) <= 5
    assert set(cells) <= set(content.cells["cell"])


@pytest.mark.parametrize("worse", [{"init": "random", "k": 0}, {"k": 5, "j": 2}])
def test_of_two_cells_the_better_one_on_validation_is_highlighted(tmp_path, worse):
    """Subgroups and calibration are those of highlights."""
    for seed in range(3):
        write_record(tmp_path, seed=seed, test=0.4, val=0.5, **worse)
        write_record(tmp_path, seed=seed, test=0.6, val=0.8, k=5, j=3)
    content = make_content(read_runs(tmp_path))
    (key,) = [cell for _, role, cell in content.highlights if "better of two" in role]
    assert content.cells.set_index("cell").loc[key, "j"] == 3


@pytest.mark.parametrize("metric", ["test/balanced_acuracy", "test/nll"])
def test_a_metric_that_cannot_judge_is_refused_with_those_that_can(tmp_path, metric):
    write_cell(tmp_path, (0.5, 0.6))
    write_cell(tmp_path, (0.5, 0.6), k=4, metric="nll")
    with pytest.raises(ConfigError, match="test/balanced_accuracy"):
        make_content(read_runs(tmp_path), metric=metric)


def write_folds(folder, scores, **named):
    """A cell of five folds: `scores` are (seed, fold, score)."""
    for seed, fold, score in scores:
        settings = {"dataset.folds": 5, "dataset.fold": fold}
        write_record(folder, seed=seed, test=score, **named, **settings)


def test_folds_of_a_seed_are_one_cell_and_one_score(tmp_path):
    scores = [(seed, fold, 0.5 + fold / 10 + seed / 100) for seed in (0, 1) for fold in range(3)]
    write_folds(tmp_path, scores)
    content = make_content(read_runs(tmp_path))
    (cell,) = content.cells.to_dict("records")
    assert cell["n_seeds"] == 2 and len(cell["run_ids"]) == 6
    assert cell["test/balanced_accuracy"] == pytest.approx(0.605)  # of 0.60 and 0.61
    variance = 0.01**2 / 2 / 2  # of two seeds
    variance += 0.1**2 * (1 / 3 + 1 / 4)  # of five folds: a test fold is 1/4 of training
    half = 4.3027 * variance**0.5
    assert cell["test/balanced_accuracy high"] == pytest.approx(0.605 + half, abs=1e-4)
    assert "3 of 5 folds" in cell["missing"]


def test_the_finished_copy_of_a_run_counts_wherever_it_stands(tmp_path):
    write_record(tmp_path / "a", seed=0, test=0.1)
    write_record(tmp_path / "b", seed=0, test=0.6)
    next((tmp_path / "a").rglob("DONE")).unlink()
    for folders in (("a", "b"), ("b", "a")):
        content = make_content(read_runs(*(tmp_path / name for name in folders)))
        assert content.cells["test/balanced_accuracy"].tolist() == [0.6]


def test_predictions_that_cannot_be_read_leave_the_summaries_scores_and_a_note(tmp_path):
    for seed in (0, 1):
        run = write_record(tmp_path, seed=seed, test=0.5 + seed / 10)
        (run / "predictions.parquet").write_bytes(b"PAR1 torn")
    (cell,) = make_content(read_runs(tmp_path)).cells.to_dict("records")
    assert cell["test/balanced_accuracy"] == pytest.approx(0.55)
    assert "predictions that cannot be used" in cell["note"]


def test_a_record_without_k_is_left_out_and_told(tmp_path):
    write_record(tmp_path, seed=0, test=0.5)
    write_record(tmp_path, seed=1, test=0.5, k=None)
    content = make_content(read_runs(tmp_path))
    assert content.cells["n_seeds"].tolist() == [1]
    assert any("plan.json has k=None" in line for line in content.left_out)


def test_further_runs_of_one_seed_are_left_out_and_told(tmp_path):
    for name in ("x", "y"):
        write_record(tmp_path / name, seed=0, test=0.5, cell=f"{name}")
    plan = next((tmp_path / "y").rglob("plan.json"))
    plan.write_text(plan.read_text().replace('"cell_id": "y"', '"cell_id": "x"'))
    RunDir(plan.parent).write_done("y")
    content = make_content(read_runs(tmp_path / "x", tmp_path / "y"))
    assert any("repeats a seed" in line for line in content.left_out)


def test_a_seed_that_lacks_a_fold_is_left_out_and_told(tmp_path):
    write_folds(tmp_path, [(0, 0, 0.5), (0, 1, 0.5), (1, 0, 0.9)])
    content = make_content(read_runs(tmp_path))
    assert content.cells["n_seeds"].tolist() == [1]
    assert any("seed 1 lacks a fold" in line for line in content.left_out)


def test_folds_that_no_seed_has_whole_are_in_no_comparison(tmp_path):
    write_folds(tmp_path, [(0, 0, 0.5), (1, 1, 0.5)])
    content = make_content(read_runs(tmp_path))
    assert any("lack a fold" in line for line in content.left_out)


def test_no_interval_leaves_the_range_of_its_metric(tmp_path):
    write_cell(tmp_path, (0.99, 0.80))
    write_cell(tmp_path, (0.1, 0.02), init="random", k=0)
    table = make_content(read_runs(tmp_path)).cells
    assert table["test/balanced_accuracy high"].max() == 1.0
    assert table["test/balanced_accuracy low"].min() == 0.0


def test_the_questions_comparisons_come_before_the_exploration(tmp_path):
    for dataset in ("ham10000", "lc25000_lung"):
        write_cell(tmp_path, (0.4, 0.41), init="random", k=0, dataset=dataset)
        for j in (0, 1, 2):
            write_cell(tmp_path, (0.5, 0.51), j=j, dataset=dataset)
    content = make_content(read_runs(tmp_path))
    explored = content.comparisons["family"].str.startswith("every cell").tolist()
    assert explored == sorted(explored) and any(explored) and not all(explored)
    for finding in content.findings:
        for number in finding.comparisons:
            assert content.comparisons["dataset"][number] == finding.dataset


def test_damaged_predictions_are_named_and_left_out_of_a_pilot(tmp_path):
    for seed in (0, 1):
        run = write_record(tmp_path, seed=seed, test=0.5)
        (run / "predictions.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match="no two cells"):
        load_pilot(tmp_path)


def test_treatments_of_one_source_are_named_by_what_differs(tmp_path):
    for optimizer, mixup in (("adamw", 0.0), ("adamw", 0.2), ("sgd", 0.2)):
        words = {"train.optimizer": optimizer, "train.mixup": mixup}
        write_cell(tmp_path, (0.5, 0.6), k=5, j=0, **words)
    (figure,) = draw_bars(make_content(read_runs(tmp_path)))
    (axes,) = figure.figure.axes
    labels = [text.get_text().replace("\n", " ") for text in axes.get_xticklabels()]
    # AdamW is the default and that of most of these cells.
    assert sorted(labels) == ["full fine-tuning", "mixup=0.2", "mixup=0.2, optimizer=sgd"]
    assert "by the settings of training" in figure.caption
