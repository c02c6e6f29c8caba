"""The answers in words: right way round, with numbers, and no more sure than the data."""

import json
from dataclasses import replace

import pytest
from records_made import finish, write_cell, write_record

from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.report.cell_table import make_cell_table
from tlcnn.study.arms import judge_chance, load_arms
from tlcnn.study.cells import make_cells
from tlcnn.study.runs import make_runs

UP = (0.001, -0.001, 0.002, -0.002, 0.0)  # what seeds do


def scores(mean, spread=1.0):
    return tuple(mean + spread * moved for moved in UP)


def answers(folder, **named):
    content = make_content(read_runs(folder), **named)
    return {finding.key: finding for finding in content.findings}


def test_imagenet_beats_random_weights(tmp_path):
    write_cell(tmp_path, scores(0.60))
    write_cell(tmp_path, scores(0.40, -1), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    assert found.verdict == "yes" and not found.is_open
    told = "balanced accuracy after fine-tuning is 60.0 % from ImageNet and 40.0 % from random"
    assert (
        told in found.answer
        and "a gain of 20.0 points" in found.answer
        and "5 seeds" in found.answer
    )


def test_the_answer_says_how_long_was_trained_and_what_still_improves(tmp_path):
    write_cell(tmp_path, scores(0.60), epochs=15, best_epoch=9)
    write_cell(tmp_path, scores(0.40, -1), init="random", k=0, epochs=15, best_epoch=15)
    content = make_content(read_runs(tmp_path))
    (found,) = [f for f in content.findings if f.key == "imagenet_vs_random"]
    question = "HAM10000: does starting from ImageNet beat random weights in 15 epochs?"
    assert found.question == question
    assert "after 15 epochs of fine-tuning is" in found.answer
    still = "best validation score in the last of 15 epochs: 5 of 5 runs"
    assert found.details[-1] == f"“random, all trained”: {still}."
    notes = content.cells.set_index("init")["note"]
    assert still in notes["random"] and "best validation" not in notes["imagenet"]


def test_random_weights_that_do_better_are_a_no(tmp_path):
    write_cell(tmp_path, scores(0.40))
    write_cell(tmp_path, scores(0.60, -1), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    assert found.verdict == "no" and "a loss of 20.0 points" in found.answer


def test_a_difference_within_the_margin_is_equivalent(tmp_path):
    write_cell(tmp_path, scores(0.600))
    write_cell(tmp_path, scores(0.600, -1), init="random", k=0)
    assert answers(tmp_path)["imagenet_vs_random"].verdict == "equivalent"


def test_noise_is_inconclusive_and_says_what_could_be_detected(tmp_path):
    write_cell(tmp_path, scores(0.60, 20))
    write_cell(tmp_path, scores(0.58, -20), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    assert found.verdict == "inconclusive" and found.is_open
    (line,) = [line for line in found.details if "found in 80 % of studies" in line]
    assert "with 5 seeds and these test groups" in line and "with 10 seeds" in line


def test_one_seed_decides_nothing(tmp_path):
    write_cell(tmp_path, (0.60,))
    write_cell(tmp_path, (0.40,), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    assert found.verdict == "inconclusive"
    assert "no interval is possible" in found.answer


def test_the_best_cell_is_chosen_on_validation_and_judged_on_test(tmp_path):
    for seed, moved in enumerate(UP):
        write_record(tmp_path, seed=seed, val=0.70 + moved, test=0.55 + moved, j=2)
        write_record(tmp_path, seed=seed, val=0.60 + moved, test=0.60 - moved, j=0)
        write_record(tmp_path, seed=seed, val=0.50, test=0.90 + moved, j=4)  # not to be chosen
    found = answers(tmp_path)["best_cell"]
    assert "recommends “ImageNet, frozen through stage1” (k = 5, j = 2) of 3" in found.answer
    assert "Choosing like this gives 55.0 % balanced accuracy" in found.answer
    assert "recommended cell was chosen for 5 of 5 seeds" in found.answer
    assert "5.0 points less" in found.answer and found.verdict == "no"
    assert "70.0 % on validation and 55.0 % on test" in found.details[0]
    assert any(" Better: " in line and "stage3" in line for line in found.details)


@pytest.mark.parametrize("n_cells", [2, 3])
def test_two_cells_are_no_choice_for_an_answer_a_comparison_or_a_figure(tmp_path, n_cells):
    write_cell(tmp_path, scores(0.40))
    write_cell(tmp_path, scores(0.60, -1), init="random", k=0)
    for j in range(1, n_cells - 1):
        write_cell(tmp_path, scores(0.70, 2), j=j)
    content = make_content(read_runs(tmp_path))
    (best,) = [finding for finding in content.findings if finding.key == "best_cell"]
    is_compared = content.comparisons["family"].str.startswith("choosing on validation").any()
    is_shown = any("best on validation" in role for _, role, _ in content.highlights)
    assert (best.is_measured, is_compared, is_shown, len(content.grids)) == (n_cells > 2,) * 4


def test_an_answer_counts_the_cells_that_were_candidates(tmp_path):
    for seed, moved in enumerate(UP):
        write_record(tmp_path, seed=seed, val=0.70 + moved, test=0.55 + moved, j=2)
        write_record(tmp_path, seed=seed, val=0.60 + moved, test=0.60 - moved, j=0)
    write_record(tmp_path, seed=0, val=0.90, test=0.90, j=4)  # of one seed
    assert " (k = 5, j = 2) of 2 cells. " in answers(tmp_path)["best_cell"].answer


def test_a_chain_is_compared_with_imagenet_and_with_random_weights(tmp_path):
    there = {"dataset": "lc25000_lung"}
    write_cell(tmp_path, scores(0.90), **there)
    write_cell(tmp_path, scores(0.70, -1), init="random", k=0, **there)
    write_cell(tmp_path, scores(0.80, -2), init="random-ham10000", ancestry=("ham10000",), **there)
    write_cell(
        tmp_path,
        scores(0.93, 2),
        init="imagenet-ham10000",
        ancestry=("ham10000",),
        first="imagenet",
        **there,
    )
    found = answers(tmp_path)["chain"]
    assert found.question == "LC25000 lung: does HAM10000 help more than ImageNet?"
    assert found.verdict == "alone: no, after ImageNet: yes"
    assert "80.0 % from HAM10000, 10.0 points less (Δ = −10.0, 95 % interval −" in found.answer
    assert "93.0 % from ImageNet → HAM10000, 3.0 points more" in found.answer
    assert len(found.comparisons) == 4


def test_recipes_are_never_mixed(tmp_path):
    for epochs in (5, 50):
        write_cell(tmp_path, scores(0.60), **{"train.epochs": epochs})
        write_cell(tmp_path, scores(0.40, -1), init="random", k=0, **{"train.epochs": epochs})
    content = make_content(read_runs(tmp_path))
    found = [finding for finding in content.findings if finding.key == "imagenet_vs_random"]
    assert len(found) == 2
    assert "train.epochs=5)" in found[0].answer and "train.epochs=50)" in found[1].answer


def test_sources_trained_by_different_recipes_are_not_compared(tmp_path):
    write_cell(tmp_path, scores(0.60), **{"train.epochs": 50})
    write_cell(tmp_path, scores(0.40, -1), init="random", k=0, **{"train.epochs": 5})
    found = answers(tmp_path)["imagenet_vs_random"]
    assert found.verdict == "not measured" and "one recipe" in found.answer


def test_other_treatments_of_norms_are_neither_best_nor_layer_scores(tmp_path):
    write_cell(tmp_path, scores(0.60))
    for bn, mean in (("frozen", 0.5), ("adapt", 0.9)):
        for init in ("imagenet", "self"):
            other = 0.1 if (bn, init) == ("adapt", "imagenet") else 0.0
            write_cell(tmp_path, scores(mean - other), init=init, k=1, j=1, bn=bn)
    content = make_content(read_runs(tmp_path))
    best = next(finding for finding in content.findings if finding.key == "best_cell")
    assert "all trained" in best.answer or best.verdict == "not measured"
    (layers,) = content.layers
    assert layers.scores["S"][0] == pytest.approx(0.0)
    assert all(
        len(grid.table.drop_duplicates(["k", "j"])) == len(grid.table) for grid in content.grids
    )


def test_two_parents_of_one_chain_are_two_sources(tmp_path):
    write_cell(tmp_path, scores(0.90), dataset="b")
    for parent, mean in (("p1", 0.3), ("p2", 0.95)):
        named = {"init": "random-a", "ancestry": ("a",), "dataset": "b", "init.run": parent}
        write_cell(tmp_path, scores(mean), **named)
    found = answers(tmp_path)["chain"]
    assert "30.0 %" in found.answer and "95.0 %" in found.answer


def test_a_parent_of_each_seed_is_still_one_cell(tmp_path):
    for seed in range(3):
        named = {"init": "random-a", "ancestry": ("a",), "init.run": f"parent{seed}"}
        write_record(tmp_path, seed=seed, test=0.5, cell="one", **named)
    assert make_content(read_runs(tmp_path)).cells["n_seeds"].tolist() == [3]


def test_imported_predictions_are_compared_and_never_the_headline(tmp_path):
    write_cell(tmp_path, scores(0.60))
    write_cell(tmp_path, scores(0.40, -1), init="random", k=0)
    write_cell(tmp_path, scores(0.95, 2), imported=True)
    content = make_content(read_runs(tmp_path))
    found = next(finding for finding in content.findings if finding.key == "imagenet_vs_random")
    assert "60.0 %" in found.answer
    mine = content.comparisons[
        content.comparisons["family"].str.startswith("imported predictions")
    ]
    assert mine["verdict"].tolist() == ["better"] and "imported" in mine["a_label"].iloc[0]


def test_stats_and_the_own_dataset_are_no_chains(tmp_path):
    write_cell(tmp_path, scores(0.60))
    write_cell(tmp_path, scores(0.50), init="ham10000", ancestry=("ham10000",))
    assert answers(tmp_path)["chain"].verdict == "not measured"


def test_a_cell_with_fewer_seeds_is_not_the_best(tmp_path):
    write_cell(tmp_path, scores(0.60))
    write_cell(tmp_path, scores(0.55), j=1)
    write_record(tmp_path, seed=0, test=0.5, val=0.99, j=2)
    assert "all trained" in answers(tmp_path)["best_cell"].answer


def test_no_two_comparisons_have_one_name(tmp_path):
    write_cell(tmp_path, scores(0.60))
    write_cell(tmp_path, scores(0.70, -1), j=1)
    write_cell(tmp_path, scores(0.50, -1), j=2)
    content = make_content(read_runs(tmp_path))
    assert not content.comparisons.duplicated(["a_label", "b_label"]).any()


def test_an_answer_is_open_where_nothing_that_it_judges_has_a_verdict(tmp_path):
    """Full fine-tuning is the best on validation, but no other cell is shown to differ from it."""
    write_cell(tmp_path, scores(0.60, 20))
    for j in (1, 2):
        write_cell(tmp_path, scores(0.58, -20), j=j)
    found = answers(tmp_path)["best_cell"]
    assert found.verdict == "validation chose full fine-tuning itself" and found.is_open
    write_cell(tmp_path, (0.70,) * 5, dataset="b")
    write_cell(tmp_path, (0.50,) * 5, dataset="b", j=1)
    write_cell(tmp_path, (0.51,) * 5, dataset="b", j=2)
    findings = make_content(read_runs(tmp_path)).findings
    (other,) = [f for f in findings if f.key == "best_cell" and f.dataset == "b"]
    assert other.verdict == "validation chose full fine-tuning itself: nothing to compare"


def test_a_cell_that_learnt_nothing_is_told(tmp_path):
    write_cell(tmp_path, scores(0.60))
    write_cell(tmp_path, scores(0.55), j=1)
    write_cell(tmp_path, scores(0.143, 10), j=5)
    content = make_content(read_runs(tmp_path))
    found = next(finding for finding in content.findings if finding.key == "best_cell")
    assert any("at chance" in line and "all frozen" in line for line in found.details)
    assert content.cells["note"].str.contains("at chance").sum() == 1


def test_a_wide_interval_is_no_sign_of_guessing(tmp_path):
    """Two seeds at 60 and 70 % of seven classes: the table says no more than the headline."""
    write_cell(tmp_path, (0.60, 0.70))
    write_cell(tmp_path, (0.35, 0.36), init="random", k=0)
    content = make_content(read_runs(tmp_path))
    finding = next(f for f in content.findings if f.key == "imagenet_vs_random")
    wide = "the interval includes the score of guessing, 14.3 %"
    (note,) = content.cells.loc[content.cells["init"] == "imagenet", "note"]
    assert wide in note and sum(wide in line for line in finding.details) == 1
    table = make_cell_table(read_runs(tmp_path), ["test/balanced_accuracy"])
    assert any(wide in line and "1 of 2 rows" in line for line in table.notes)
    texts = [*content.cells["note"], *finding.details, finding.answer, *table.notes]
    assert not any("at chance" in text for text in texts)


def test_a_guess_is_one_of_the_classes_or_of_each_finding_yes_or_no(tmp_path):
    write_cell(tmp_path, (0.5,))
    (cell,) = make_cells(make_runs(read_runs(tmp_path)))
    (run,) = cell.runs
    many = replace(cell, folds=((replace(run, plan=replace(run.plan, task="multi-label")),),))
    metric = "test/balanced_accuracy"
    assert [load_arms(c, [metric])[metric].n_options for c in (cell, many)] == [7, 2]


@pytest.mark.parametrize(
    ("low", "high", "kinds"),
    [
        (0.10, 0.18, ["AT_CHANCE"]),  # of seven classes: 0.143 + 0.05 * 0.857 = 0.186
        (0.15, 0.18, ["AT_CHANCE"]),
        (0.02, 0.10, ["AT_CHANCE"]),
        (0.10, 0.19, ["INCLUDES_CHANCE"]),
        (0.15, 0.19, []),
        (float("nan"), float("nan"), []),
    ],
)
def test_at_chance_is_what_is_shown_to_be_near_it(low, high, kinds):
    assert [note.kind.name for note in judge_chance(low, high, 7)] == kinds


@pytest.mark.parametrize("key", ["imagenet_vs_random", "best_cell", "chain", "layers"])
def test_a_question_that_no_run_speaks_to_says_what_to_train(tmp_path, key):
    write_cell(tmp_path, (0.5, 0.6), j=1)
    found = answers(tmp_path)[key]
    assert found.verdict == "not measured"
    assert "python -m tlcnn.train" in found.details[0]


def write_study(folder, gap, **named):
    """Three cells of transferred units, and random weights."""
    for j in range(3):
        write_cell(folder, scores(0.60 + gap - 0.004 * j, 1 - j), j=j, **named)
    write_cell(folder, scores(0.60, -1), init="random", k=0, **named)


@pytest.mark.parametrize(
    "unrelated",
    [{"dataset": "lc25000_lung"}, {"model": "resnet50"}, {"train.lr": 0.5}],
    ids=["dataset", "model", "recipe"],
)
def test_nothing_else_in_the_folder_changes_p(tmp_path, unrelated):
    """Whatever other datasets, models and recipes were trained, and however they came out."""
    write_study(tmp_path, 0.0035, **{"train.lr": 0.1})
    alone = make_content(read_runs(tmp_path)).comparisons.set_index(["a", "b"])
    for gap, seed in ((0.10, 0), (0.0, 1)):
        write_study(tmp_path, gap, **{"train.lr": 0.1, "train.epochs": seed + 1, **unrelated})
        beside = make_content(read_runs(tmp_path)).comparisons.set_index(["a", "b"])
        assert len(beside) > len(alone) * (seed + 1)
        columns = ["p", "p_holm", "p_equivalent_holm", "family_size", "verdict", "detectable"]
        assert beside.loc[alone.index, columns].equals(alone[columns])


def test_a_question_that_is_asked_of_several_sources_is_one_family(tmp_path):
    for source, gap in (("a", 0.0035), ("b", 0.10)):
        write_cell(tmp_path, scores(0.60 + gap), init=f"random-{source}", ancestry=(source,))
    write_cell(tmp_path, scores(0.60, -1), init="random", k=0)
    family = make_content(read_runs(tmp_path)).comparisons.sort_values("p")
    assert family["family_size"].tolist() == [2, 2]
    assert family["family"].str.startswith("transfer against random weights (ham10000").all()
    assert (family["p_holm"] / family["p"]).tolist() == pytest.approx([2, 1])


def test_without_imagenet_every_source_is_asked_about(tmp_path):
    write_cell(tmp_path, scores(0.60), init="random-textures", ancestry=("textures",))
    write_cell(tmp_path, scores(0.40, -1), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    question = "HAM10000: does starting from textures beat random weights?"
    assert found.question == question and found.verdict == "yes"


def test_the_scores_of_a_sentence_are_of_the_seeds_of_its_difference(tmp_path):
    write_cell(tmp_path, (0.60, 0.61, 0.62, 0.61, 0.61))
    write_cell(tmp_path, (0.40, 0.42, 0.44, 0.42, 0.42, 0.90), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    beside = "42.0 % (over the 5 seeds that both have; over all 6 it is 50.0 %) from random"
    assert f"61.0 % from ImageNet and {beside}" in found.answer
    assert "a gain of 19.0 points" in found.answer


def test_an_open_verdict_beside_an_interval_clear_of_zero_says_why(tmp_path):
    write_cell(tmp_path, scores(0.60, 6))
    for j in range(1, 6):
        write_cell(tmp_path, scores(0.58, -3 * j), j=j)
    table = make_content(read_runs(tmp_path)).comparisons
    table = table[table["family_size"] > 1]
    is_open = (table["verdict"] == "inconclusive") & (table["high"] < 0)
    assert is_open.any() and not is_open.all()
    says = "p is adjusted for the 5 comparisons of its family"
    assert table["note"].str.contains(says).tolist() == is_open.tolist()


def test_a_layer_answer_has_a_unit_and_explains_its_letters(tmp_path):
    for init, mean in (("imagenet", 0.5), ("self", 0.6)):
        write_cell(tmp_path, scores(mean), init=init, k=1, j=1)
    found = answers(tmp_path)["layers"]
    assert "in points" in found.answer and "n = 1 (stem) 10.0" in found.answer
    (meaning,) = [line for line in found.details if line.startswith("S(n) =")]
    for words in ("M is the mean", "In AnB the first n units", "in BnB they come from"):
        assert words in meaning


def test_weights_files_are_shown_by_name_and_equal_names_stay_apart(tmp_path):
    for folder in ("/a/long/path", "/another/path"):
        for k, j in ((5, 0), (5, 3), (5, 5)):
            weights = {"init.weights": f"{folder}/imagenet.safetensors"}
            write_cell(tmp_path, (0.5 + j / 100, 0.6), k=k, j=j, **weights)
    content = make_content(read_runs(tmp_path))
    texts = [*content.cells["label"], *(grid.init for grid in content.grids)]
    assert all("path" not in text for text in texts)
    assert any("init.weights=imagenet.safetensors" in text for text in texts)
    assert len({grid.init for grid in content.grids}) == len(content.grids) == 2


@pytest.mark.parametrize(("mean", "is_said"), [(0.147, True), (0.6, False)])
def test_equivalence_of_cells_that_guess_is_worth_little(tmp_path, mean, is_said):
    """A guess of 7 classes has 14.3 %, so 14.7 % has less than the margin of 1 point to lose."""
    write_cell(tmp_path, scores(mean, 0.1))
    write_cell(tmp_path, scores(mean, -0.1), init="random", k=0)
    content = make_content(read_runs(tmp_path))
    (found,) = [f for f in content.findings if f.key == "imagenet_vs_random"]
    assert found.verdict == "equivalent"
    for text in (" ".join(found.details), content.comparisons["note"][0]):
        assert ("larger than all there is to lose" in text) == is_said


def test_many_cells_of_one_verdict_are_counted_and_few_are_named(tmp_path):
    for j in range(6):
        write_cell(tmp_path, scores(0.60, -20 if j else 20), j=j)
    line = answers(tmp_path)["best_cell"].details[-1]
    assert line.startswith("5 cells were compared with full fine-tuning (family “")
    assert line.endswith("Not settled: 5 cells (see the tables of comparisons and of cells).")
    few = tmp_path / "few"
    for j in range(5):
        write_cell(few, scores(0.60, -20 if j else 20), j=j)
    (line,) = [text for text in answers(few)["best_cell"].details if "Not settled" in text]
    assert "“ImageNet, frozen through stem”" in line and line.count("“") == 5


def test_a_source_has_one_name_in_answers_cells_and_grids(tmp_path):
    there = {"init": "random-ham10000", "ancestry": ("ham10000",), "dataset": "lc25000_lung"}
    for j in range(3):
        write_cell(tmp_path, scores(0.80 - 0.1 * j), j=j, **there)
    write_cell(tmp_path, scores(0.70, -1), init="random", k=0, dataset="lc25000_lung")
    content = make_content(read_runs(tmp_path))
    questions = " ".join(finding.question for finding in content.findings)
    assert "does starting from HAM10000 beat random weights?" in questions
    assert "how many units of HAM10000 to freeze" in questions
    assert {grid.source_name for grid in content.grids} == {"HAM10000"}
    assert set(content.cells["source"]) == {"HAM10000", "random"}
    assert not [label for label in content.cells["label"] if "→" in label]


def test_one_seed_beside_a_small_p_says_why_nothing_is_settled(tmp_path):
    write_cell(tmp_path, (0.60,))
    write_cell(tmp_path, (0.40,), init="random", k=0)
    details = answers(tmp_path)["imagenet_vs_random"].details
    assert "Inconclusive whatever p is, because there is no interval." in details


def test_a_question_names_the_model_where_a_dataset_has_two(tmp_path):
    for model in ("resnet18", "resnet50"):
        write_cell(tmp_path, scores(0.60), model=model)
        write_cell(tmp_path, scores(0.40, -1), init="random", k=0, model=model)
    findings = make_content(read_runs(tmp_path)).findings
    questions = [f.question for f in findings if f.key == "imagenet_vs_random"]
    assert [question.partition(":")[0] for question in questions] == [
        "HAM10000, resnet18",
        "HAM10000, resnet50",
    ]


@pytest.mark.parametrize(
    ("points", "text"),
    [
        (((5, 0), (5, 1), (5, 2)), "how many units of ImageNet to freeze, when all are transf"),
        (((3, 0), (3, 1), (3, 2)), "how many units of ImageNet to freeze, when the first 3 are"),
        (((5, 0), (4, 0), (3, 0)), "how many units of ImageNet to transfer, when none is frozen"),
        (((5, 0), (4, 2), (3, 0)), "which units of ImageNet to transfer and which to freeze"),
    ],
)
def test_the_best_cell_is_asked_for_in_what_was_varied(tmp_path, points, text):
    for k, j in points:
        write_cell(tmp_path, scores(0.60 - 0.01 * j), k=k, j=j)
    write_cell(tmp_path, scores(0.30), init="random", k=0)
    assert answers(tmp_path)["best_cell"].question.startswith(f"HAM10000: {text}")


def test_the_seeds_that_chose_for_each_other_are_named(tmp_path):
    """Seeds 0 and 2 choose j = 1, and seed 1 full fine-tuning."""
    for seed, val in enumerate((0.8, 0.5, 0.7)):
        write_record(tmp_path, seed=seed, val=val, test=0.50 + seed / 100, j=1)
        write_record(tmp_path, seed=seed, val=0.6, test=0.40 + seed / 100, j=0)
        write_record(tmp_path, seed=seed, val=0.1, test=0.30, j=2)
    found = answers(tmp_path)["best_cell"]
    crossed = "for seeds 0 and 2 with the cell that seed 1 chose, and for seed 1 with the cell t"
    assert crossed in found.answer and "chosen for 1 of 3 seeds" in found.answer
    assert "the score of choosing with 1 or 2 seeds, and not that of the rec" in found.answer
    assert "For 2 of 3 seeds full fine-tuning itself was chosen" in found.answer


def test_validation_above_test_is_shown_over_all_cells(tmp_path):
    """It is 10, 4 and 1 points in the three cells."""
    for j, val in enumerate((0.60, 0.54, 0.51)):
        for seed, moved in enumerate(UP):
            write_record(tmp_path, seed=seed, val=val, test=0.50 + moved, j=j)
    details = answers(tmp_path)["best_cell"].details
    assert "Validation minus test is +5.0 points on average over all 3 cells" in details[0]


def test_a_chain_says_how_well_its_source_does_itself(tmp_path):
    """The runs that it started from have 20 %; a guess of seven classes has 14.3 %."""
    there = {"dataset": "lc25000_lung"}
    write_cell(tmp_path, scores(0.90), **there)
    write_cell(tmp_path, scores(0.80), init="random-ham10000", ancestry=("ham10000",), **there)
    assert "themselves" not in answers(tmp_path)["chain"].answer  # they are not in the report
    run = write_record(tmp_path, seed=0, test=0.2, init="random", k=0)
    plan = run / "plan.json"
    plan.write_text(plan.read_text().replace(json.loads(plan.read_text())["run_id"], "ham10000"))
    finish(run)
    answer = answers(tmp_path)["chain"].answer
    assert (
        "that “HAM10000” started from had 20.0 % on HAM10000 (guessing: 14.3 %) themselves"
        in answer
    )


def test_a_question_about_a_second_dataset_needs_ham10000_or_a_source(tmp_path):
    write_cell(tmp_path / "a", scores(0.60), dataset="photos")
    assert "chain" not in answers(tmp_path / "a")
    source = {"init": "random-drawn", "ancestry": ("drawn",)}
    write_cell(tmp_path / "b", scores(0.60), dataset="photos", **source)
    question = "Does drawn help a second dataset more than ImageNet?"
    assert answers(tmp_path / "b")["chain"].question == question
    write_cell(tmp_path / "c", scores(0.60), dataset="ham10000")
    question = "Does HAM10000 help a second dataset more than ImageNet?"
    assert answers(tmp_path / "c")["chain"].question == question
