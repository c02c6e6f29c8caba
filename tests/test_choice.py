"""Choices on validation, crossed over seeds: cells of a grid, and recipes of a tuned cell."""

import numpy as np
import pytest
from records_made import write_cell, write_record
from simulate_choice import ChoiceWorld, simulate_choice
from statistics_data import make_linear_arm, make_score_arm

from tlcnn.cli.main import main
from tlcnn.errors import ConfigError
from tlcnn.records.read import read_runs
from tlcnn.records.search import ArmRecord, SearchedArm, SearchRecord, Trial
from tlcnn.report.assemble import make_content
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.sentences import compare_trials
from tlcnn.statistics.choice import choose_arm, cross_arms
from tlcnn.statistics.estimate import compute_parts
from tlcnn.study.arms import load_arms
from tlcnn.study.block import make_blocks
from tlcnn.study.cells import make_cells
from tlcnn.study.runs import make_runs

METRIC = "test/balanced_accuracy"


def find_answer(content, key):
    (found,) = [finding for finding in content.findings if finding.key == key]
    return found


# ---- choices ------------------------------------------------------------------------------------


def test_each_half_of_the_seeds_has_the_choice_of_the_other():
    val = {"a": make_score_arm("a", [5, 6, 7]), "b": make_score_arm("b", [9, 5, 5])}
    choice = choose_arm(val)
    assert choice.best == "b" and choice.by_seed == {0: "a", 1: "b", 2: "a"}


def test_of_a_loss_the_smallest_is_chosen():
    val = {n: make_score_arm(n, [x, x], lower_is_better=True) for n, x in (("a", 2), ("b", 1))}
    assert choose_arm(val).by_seed == {0: "b", 1: "b"}


def test_only_the_seeds_that_all_candidates_share_are_crossed():
    val = {"a": make_score_arm("a", [5, 6], [0, 1]), "b": make_score_arm("b", [9, 9], [1, 2])}
    assert choose_arm(val).by_seed == {}


def test_a_crossed_arm_has_the_runs_of_the_chosen_candidates():
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1], 5)
    arms = {name: make_linear_arm(name, rng.normal(size=(3, 10)), strata) for name in "ab"}
    crossed = cross_arms("best", arms, {0: "a", 2: "b"})
    assert crossed.seeds.tolist() == [0, 2] and crossed.sample == arms["a"].sample
    for field in ("scores", "replicates", "influence", "contributions"):
        values, a, b = (getattr(arm, field) for arm in (crossed, arms["a"], arms["b"]))
        assert (values == np.stack([a[0], b[2]])).all()
    (spread,) = compute_parts([(1.0, crossed)]).seeds
    assert spread == (pytest.approx(1.2 * np.var(crossed.scores, ddof=1)), 2)
    bare = {**arms, "b": make_score_arm("b", [1, 2, 3])}
    crossed = cross_arms("best", bare, {0: "a", 2: "b"})
    assert crossed.replicates is None and crossed.scores[1] == 3


# ---- the best cell ------------------------------------------------------------------------------


def write_lucky(folder, n_seeds):
    """Cells of equal worth; a run that was lucky on validation was as lucky on test."""
    for seed in range(n_seeds):
        for j in range(4):
            luck = 0.08 if seed == j - 1 else 0.0
            write_record(folder, seed=seed, val=0.6 + luck + j / 1e4, test=0.6 + luck, j=j)


def test_the_luck_of_a_seed_does_not_choose_its_own_cell(tmp_path):
    write_lucky(tmp_path, 3)
    found = find_answer(make_content(read_runs(tmp_path)), "best_cell")
    # Seeds 0 and 2 get cell 2, which seed 1 was lucky with; seed 1 gets cell 3 of seed 2.
    assert "Choosing like this gives 60.0 %" in found.answer
    assert "recommended cell was chosen for 1 of 3 seeds" in found.answer
    assert found.verdict != "yes"


def test_the_comparison_is_that_of_the_crossed_choice(tmp_path):
    write_lucky(tmp_path, 3)
    comparisons = make_content(read_runs(tmp_path)).comparisons
    (delta,) = comparisons.loc[comparisons["a_label"].str.contains("chosen"), "delta"]
    assert delta == pytest.approx(0.0)  # the recommended cell's own networks: 2.7 points more


def test_a_choice_of_one_seed_gets_no_verdict(tmp_path):
    write_lucky(tmp_path, 1)
    content = make_content(read_runs(tmp_path))
    found = find_answer(content, "best_cell")
    assert found.verdict == "not compared" and "do not share two seeds" in found.answer
    assert not content.comparisons["a_label"].str.contains("chosen").any()


# ---- tuned recipes ------------------------------------------------------------------------------

RATES = (0.001, 0.01, 0.1)


def write_sweep(folder, transfer=(0.60, 0.72, 0.50), scratch=(0.40, 0.628, 0.65)):
    """Three seeds of transfer and of random weights at three rates."""
    for init, means in (("imagenet", transfer), ("random", scratch)):
        for lr, mean in zip(RATES, means, strict=True):
            scores = tuple(mean + moved for moved in (0.001, -0.001, 0.0))
            write_cell(folder, scores, init=init, k=5 * (init == "imagenet"), **{"train.lr": lr})


def test_tuned_cells_are_compared_each_at_its_best_rate(tmp_path):
    write_sweep(tmp_path)
    content = make_content(read_runs(tmp_path), tuned=["train.lr"])
    found = find_answer(content, "imagenet_vs_random")
    assert "72.0 % from ImageNet and 65.0 % from random weights" in found.answer
    assert "a gain of 7.0 points" in found.answer and "train.lr tuned" in found.answer
    tried = "; tried: train.lr=0.001, train.lr=0.01, train.lr=0.1."
    for line in ("train.lr=0.01 for 3 seeds", "train.lr=0.1 for 3 seeds"):
        assert any(f"tuned on validation: {line}{tried}" in text for text in found.details)
    assert len(content.cells) == 2


def test_rates_that_were_not_tuned_are_questions_of_their_own_and_say_so(tmp_path):
    write_sweep(tmp_path)
    content = make_content(read_runs(tmp_path))
    found = [finding for finding in content.findings if finding.key == "imagenet_vs_random"]
    assert [one.question.partition(", ")[2] for one in found] == [
        f"at train.lr={lr:g}?" for lr in RATES
    ]
    for one in found:
        assert any("None was tuned" in line and "--tuned train.lr" in line for line in one.details)


def test_the_rate_of_a_seed_is_chosen_by_the_other_half(tmp_path):
    for seed, (low, high) in enumerate([(0.7, 0.5), (0.5, 0.6), (0.5, 0.58)]):
        for lr, score in ((0.001, low), (0.01, high)):
            write_record(tmp_path, seed=seed, test=score, **{"train.lr": lr})
    (cell,) = make_content(read_runs(tmp_path), tuned=["train.lr"]).cells.to_dict("records")
    # Seed 0 would choose 0.001 for itself; seed 1 chooses 0.01 for it.
    assert cell[METRIC] == pytest.approx((0.5 + 0.5 + 0.58) / 3)


def test_a_rate_is_chosen_on_validation_and_not_on_test(tmp_path):
    for lr, val, test in ((0.001, 0.7, 0.5), (0.01, 0.6, 0.8)):
        for seed in range(4):
            write_record(tmp_path, seed=seed, val=val, test=test, **{"train.lr": lr})
    (cell,) = make_content(read_runs(tmp_path), tuned=["train.lr"]).cells.to_dict("records")
    assert cell[METRIC] == pytest.approx(0.5) and "train.lr=0.001 for 4 seeds" in cell["note"]


def test_a_rate_that_lacks_seeds_is_no_candidate_and_is_named(tmp_path):
    write_cell(tmp_path, (0.6, 0.61), **{"train.lr": 0.01})
    write_record(tmp_path, seed=0, test=0.9, **{"train.lr": 0.1})
    (cell,) = make_content(read_runs(tmp_path), tuned=["train.lr"]).cells.to_dict("records")
    assert cell[METRIC] == pytest.approx(0.605)
    assert "no candidate, for lack of runs: train.lr=0.1" in cell["note"]


def test_what_one_rate_alone_was_tried_for_is_said_not_to_be_tuned(tmp_path):
    write_sweep(tmp_path)
    write_cell(tmp_path, (0.5, 0.51), j=1, **{"train.lr": 0.01})
    notes = make_content(read_runs(tmp_path), tuned=["train.lr"]).cells.set_index("j")["note"]
    assert "not tuned: train.lr=0.01 alone was trained" in notes[1]


def test_cells_that_tried_different_values_are_said_to(tmp_path):
    write_sweep(tmp_path)
    write_cell(tmp_path, (0.3, 0.31, 0.29), init="random", k=0, **{"train.lr": 0.5})
    content = make_content(read_runs(tmp_path), tuned=["train.lr"])
    details = find_answer(content, "imagenet_vs_random").details
    assert any("Not all of these cells tried the same values" in line for line in details)


@pytest.mark.parametrize(
    ("n_trials", "space", "expected"),
    [
        (3, "train.lr=choice(1e-3,1e-2)", ""),
        (3, "train.lr=choice(1e-3,1e-1)", "searched over the same values."),
        (4, "train.lr=choice(1e-3,1e-1)", "as many trials, which favours those with more."),
    ],
)
def test_searches_are_compared_by_their_trials_and_values(n_trials, space, expected):
    def make_arm(n, values):
        trials = tuple(Trial(number=i, values={}, run_id=str(i), state="done") for i in range(n))
        return ArmRecord("key", "name", (), (values,), METRIC, trials)

    lines = compare_trials([make_arm(3, "train.lr=choice(1e-3,1e-2)"), make_arm(n_trials, space)])
    assert " ".join(lines).endswith(expected) and bool(lines) == bool(expected)


def test_a_searched_cell_is_compared_with_and_the_unsearched_one_is_named(tmp_path):
    rates = {0.01: ("train.lr=choice(1e-3,1e-2)",), 0.001: ()}
    for lr in rates:
        write_cell(tmp_path, (0.5, 0.6, 0.7), k=5, j=0, **{"train.lr": lr})
    trials = (Trial(number=0, values={}, run_id="0", state="done"),)
    arms = {lr: ArmRecord(str(lr), "", (), space, METRIC, trials) for lr, space in rates.items()}
    search = SearchRecord("s", "grid", 0, 4, "none", 2, 0, (1, 2), tuple(arms.values()))
    frame = read_runs(tmp_path)
    searched = [[SearchedArm(search, arms[each["train.lr"]])] for each in frame["settings"]]
    frame = frame.assign(searched=searched)
    cells = make_cells(make_runs(frame))
    assert [cell.is_unsearched for cell in cells] == [False, True]
    comparisons = make_content(frame).comparisons
    assert list(comparisons["a_label"]) == ["ImageNet, all trained, nothing searched"]
    assert list(comparisons["b_label"]) == ["ImageNet, all trained"]


def test_what_a_tuned_study_lacks_is_trained_at_all_rates(tmp_path):
    write_sweep(tmp_path)
    details = find_answer(make_content(read_runs(tmp_path), tuned=["train.lr"]), "layers").details
    assert any(" train.lr=0.001,0.01,0.1 " in line for line in details)


def test_the_rate_of_a_single_seed_is_said_to_be_its_own_choice(tmp_path):
    for lr, score in ((0.001, 0.5), (0.01, 0.6)):
        write_record(tmp_path, seed=0, test=score, **{"train.lr": lr})
    (cell,) = make_content(read_runs(tmp_path), tuned=["train.lr"]).cells.to_dict("records")
    assert cell[METRIC] == 0.6 and "validation score of the run itself" in cell["note"]


def test_the_best_cell_of_a_tuned_grid_names_its_rate(tmp_path):
    for lr, gain in ((0.001, 0.0), (0.01, 0.05)):
        for j in range(3):
            scores = tuple(0.6 + j / 50 + gain + moved for moved in (0.001, -0.001, 0.0))
            write_cell(tmp_path, scores, j=j, **{"train.lr": lr})
    found = find_answer(make_content(read_runs(tmp_path), tuned=["train.lr"]), "best_cell")
    assert "(k = 5, j = 2, train.lr=0.01) of 3 cells" in found.answer
    assert "for 3 of 3 seeds" in found.answer and "4.0 points more" in found.answer


def test_folds_are_tuned_by_the_other_half(tmp_path):
    for lr, scores in ((0.001, (0.9, 0.5, 0.5)), (0.01, (0.5, 0.6, 0.6))):
        for fold, score in enumerate(scores):
            settings = {"dataset.folds": 3, "dataset.fold": fold, "train.lr": lr}
            write_record(tmp_path, seed=0, test=score, cell=f"{lr}-{fold}", **settings)
    (cell,) = make_content(read_runs(tmp_path), tuned=["train.lr"]).cells.to_dict("records")
    assert cell[METRIC] == pytest.approx((0.5 + 0.5 + 0.6) / 3)


def test_seeds_of_folds_are_tuned_by_the_other_half_on_all_folds(tmp_path):
    for lr, scores in ((0.001, (0.9, 0.4)), (0.01, (0.5, 0.6))):
        for seed, score in enumerate(scores):
            for fold in range(3):
                settings = {"dataset.folds": 3, "dataset.fold": fold, "train.lr": lr}
                moved = score + (fold - 1) / 100
                write_record(tmp_path, seed=seed, test=moved, cell=f"{lr}-{fold}", **settings)
    (cell,) = make_content(read_runs(tmp_path), tuned=["train.lr"]).cells.to_dict("records")
    assert cell[METRIC] == pytest.approx((0.5 + 0.4) / 2)
    assert "for 1 seed" in cell["note"] and cell["n_seeds"] == 2


def test_the_best_cell_of_folds_is_crossed_over_seeds(tmp_path):
    """A cell without all folds is no candidate, however good it is."""
    for j, scores, n_folds in ((0, (0.6, 0.7), 3), (1, (0.9, 0.5), 3), (2, (0.95, 0.95), 2)):
        for seed, score in enumerate(scores):
            for fold in range(n_folds):
                settings = {"dataset.folds": 3, "dataset.fold": fold}
                cell = f"{j}-{fold}"
                write_record(tmp_path, seed=seed, test=score, j=j, cell=cell, **settings)
    cells = make_cells(make_runs(read_runs(tmp_path)))
    arms = {cell.key: load_arms(cell, [METRIC, "val/balanced_accuracy"]) for cell in cells}
    (block,) = make_blocks({cell.key: cell for cell in cells}, arms, METRIC)
    best = block.find_best(block.sources[0])
    assert [block.cells[key].j for key in best.by_seed.values()] == [0, 1]
    assert best.arm.scores == pytest.approx([0.6, 0.5])
    assert best.arm.fold_scores.shape == (2, 3) and best.arm.folds == ((0, 0), (0, 1), (0, 2))


def test_compare_shows_a_tuned_cell_as_the_report_does(tmp_path, capsys):
    write_sweep(tmp_path)
    runs = read_runs(tmp_path)
    table = make_cell_table(runs, [METRIC], tuned=["train.lr"])
    cells = make_content(runs, tuned=["train.lr"]).cells
    assert sorted(table.frame[METRIC]) == pytest.approx(sorted(cells[METRIC]))
    assert sorted(table.frame[METRIC]) == pytest.approx([0.65, 0.72])
    main(["compare", str(tmp_path), "--tuned", "train.lr", "--baseline", "init=random"])
    assert "train.lr=0.1 for 3 seeds" in capsys.readouterr().out
    main(["report", str(tmp_path), "--tuned", "train.lr", "--no-figures", "-o", f"{tmp_path}/r"])
    assert "7.0 points" in (tmp_path / "r" / "report.md").read_text()


@pytest.mark.parametrize("key", ["train.lrr", "init.source"])
def test_only_settings_of_training_can_be_tuned(tmp_path, key):
    write_sweep(tmp_path)
    with pytest.raises(ConfigError, match=r"--tuned .*train\.lr"):
        make_content(read_runs(tmp_path), tuned=[key])


# ---- what choosing does to the error rates ------------------------------------------------------


def test_a_choice_crossed_over_seeds_is_unbiased_where_the_plain_one_is_not():
    world = ChoiceWorld(n_cells=12, lesions=(30, 60, 90))
    shares = simulate_choice(world, n_seeds=3, n_repeats=300)
    assert shares["before bias"] > 1
    assert abs(shares["crossed bias"]) < 0.7
    assert shares["crossed better"] + shares["crossed worse"] < 0.05
    assert shares["crossed cover true"] > 0.94
