"""The answers in words: right way round, with numbers, and no more sure than the data."""

import pytest
from records_made import write_cell, write_record

from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content

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
    assert found.verdict == "yes"
    assert "from ImageNet reaches 60.0 % balanced accuracy: 20.0 points more than" in found.answer
    assert "from random weights, which reach 40.0 % (95 % interval" in found.answer
    assert "20.0 points more" in found.answer and "5 seeds" in found.answer


def test_random_weights_that_do_better_are_a_no(tmp_path):
    write_cell(tmp_path, scores(0.40))
    write_cell(tmp_path, scores(0.60, -1), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    assert found.verdict == "no" and "20.0 points less" in found.answer


def test_a_difference_within_the_margin_is_equivalent(tmp_path):
    write_cell(tmp_path, scores(0.600))
    write_cell(tmp_path, scores(0.600, -1), init="random", k=0)
    assert answers(tmp_path)["imagenet_vs_random"].verdict == "equivalent"


def test_noise_is_inconclusive_and_says_what_would_settle_it(tmp_path):
    write_cell(tmp_path, scores(0.60, 20))
    write_cell(tmp_path, scores(0.58, -20), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    assert found.verdict == "inconclusive"
    assert any("seeds would settle" in line for line in found.details)


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
        write_record(tmp_path, seed=seed, val=0.50, test=0.90 - moved, j=4)  # not to be chosen
    found = answers(tmp_path)["best_cell"]
    assert "“ImageNet, frozen through stage1” (k = 5, j = 2): 55.0 %" in found.answer
    assert "5.0 points less" in found.answer and found.verdict == "no"
    assert any("15.0 points above its test" in line for line in found.details)
    assert any(line.startswith("Better than full") and "stage3" in line for line in found.details)


def test_a_chain_is_compared_with_imagenet_and_with_random_weights(tmp_path):
    there = {"dataset": "lc25000_lung"}
    write_cell(tmp_path, scores(0.90), **there)
    write_cell(tmp_path, scores(0.70, -1), init="random", k=0, **there)
    write_cell(tmp_path, scores(0.80), init="random-ham10000", ancestry=("ham10000",), **there)
    write_cell(tmp_path, scores(0.93), init="imagenet-ham10000", ancestry=("ham10000",), **there)
    found = answers(tmp_path)["chain"]
    assert found.question == "Does HAM10000 help LC25000 lung more than ImageNet?"
    assert found.verdict == "no"
    assert "80.0 % from random → HAM10000, 10.0 points less than from ImageNet" in found.answer
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


@pytest.mark.parametrize("key", ["imagenet_vs_random", "best_cell", "chain", "layers"])
def test_a_question_that_no_run_speaks_to_says_what_to_train(tmp_path, key):
    write_cell(tmp_path, (0.5, 0.6), j=1)
    found = answers(tmp_path)[key]
    assert found.verdict == "not measured"
    assert "python -m tlcnn.train" in found.details[0]


def test_holm_spans_the_datasets_of_one_question(tmp_path):
    for dataset, gap in (("ham10000", 0.0035), ("lc25000_lung", 0.10)):
        write_cell(tmp_path, scores(0.60 + gap), dataset=dataset)
        write_cell(tmp_path, scores(0.60, -1), init="random", k=0, dataset=dataset)
    compared = make_content(read_runs(tmp_path)).comparisons
    family = compared[compared["family"] == "transfer against random weights"]
    weak = family.sort_values("p").iloc[-1]
    strong = family.sort_values("p").iloc[0]
    assert strong["p_holm"] == pytest.approx(2 * strong["p"])
    assert weak["p_holm"] == pytest.approx(weak["p"])


def test_without_imagenet_every_source_is_asked_about(tmp_path):
    write_cell(tmp_path, scores(0.60), init="random-textures", ancestry=("textures",))
    write_cell(tmp_path, scores(0.40, -1), init="random", k=0)
    found = answers(tmp_path)["imagenet_vs_random"]
    assert found.question == "Does textures beat random weights?" and found.verdict == "yes"
