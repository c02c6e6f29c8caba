"""Which fine-tuning is best: treatments side by side, chosen on validation."""

import pytest
from records_made import write_record

from tlcnn.config.schema import list_keys
from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.statistics.comparison import compute_holm
from tlcnn.study.finetuning import TREATMENTS

UP = (0.001, -0.001, 0.002, -0.002, 0.0)  # what seeds do
PLAIN = {"train.schedule": "together", "train.mixup": 0.0, "train.lr": 0.001}


def write_arm(folder, val, test, spread=1.0, *, j=0, init="imagenet", k=5, **settings):
    for seed, moved in enumerate(UP):
        scores = {"val": val + spread * moved, "test": test + spread * moved}
        write_record(folder, seed=seed, j=j, k=k, init=init, **scores, **(PLAIN | settings))


def find(folder, key="finetuning", **named):
    content = make_content(read_runs(folder), **named)
    return content, [finding for finding in content.findings if finding.key == key]


def test_the_best_treatment_of_all_recipes_is_chosen_and_compared_with_the_plain_one(tmp_path):
    write_arm(tmp_path, 0.60, 0.60)
    write_arm(tmp_path, 0.55, 0.70, j=5)  # better on test, which does not choose
    write_arm(tmp_path, 0.58, 0.57, **{"train.mixup": 0.2})
    write_arm(tmp_path, 0.66, 0.64, -1, **{"train.schedule": "head_first"})
    write_arm(tmp_path, 0.50, 0.50, **{"freeze.units": "stem,stage2"}, j=2)
    write_arm(tmp_path, 0.90, 0.90, init="random", k=0)
    content, (finding,) = find(tmp_path)
    assert finding.verdict == "yes" and "which fine-tuning from ImageNet is best" in (
        finding.question
    )
    name = "“ImageNet, all trained, train.schedule=head_first”"
    assert f"recommends {name} (k = 5, j = 0) of 5 cells" in finding.answer
    assert "4.0 points more" in finding.answer and "than “ImageNet, all trained”" in finding.answer
    (line,) = [line for line in finding.details if "were compared with full" in line]
    assert "3 cells were" in line and f"Better: {name}" in line and "train.mixup=0.2" in line
    rows = content.comparisons.loc[list(finding.comparisons)]
    assert rows["family"].str.startswith("choosing a fine-tuning on validation").all()
    pairs = [frozenset((row.a_label, row.b_label)) for row in content.comparisons.itertuples()]
    assert len(pairs) == len(set(pairs)), "no two cells are compared twice"


def test_all_treatments_of_a_dataset_are_one_family_that_is_adjusted_by_holm(tmp_path):
    for dataset in ("ham10000", "dermamnist"):
        write_arm(tmp_path, 0.60, 0.60, dataset=dataset)
        treatments = {"mixup": 0.2, "schedule": "head_first", "augment_ranges": {"rotate": 45}}
        for (key, value), score in zip(treatments.items(), (0.57, 0.606, 0.601), strict=True):
            write_arm(tmp_path, score, score, -1, dataset=dataset, **{f"train.{key}": value})
    content, _ = find(tmp_path)
    table = content.comparisons
    table = table[table["family"].str.startswith("every treatment against full fine-tuning")]
    assert sorted(table["family"].str.extract(r"\((\w+), resnet18")[0].unique()) == [
        *("dermamnist", "ham10000")
    ]
    for dataset, rows in table.groupby("dataset"):
        assert rows["family"].str.contains(dataset).all() and set(rows["family_size"]) == {3}
        assert rows["p_holm"].tolist() == compute_holm(rows["p"].tolist()) != rows["p"].tolist()


def test_treatments_are_keys_of_the_schema():
    assert set(list_keys("identity")) >= TREATMENTS


def test_what_is_missing_is_asked_of_the_plain_recipe_alone(tmp_path):
    write_arm(tmp_path, 0.60, 0.60)
    write_arm(tmp_path, 0.58, 0.57, **{"train.mixup": 0.2})
    _, (finding,) = find(tmp_path, "imagenet_vs_random")
    (line,) = finding.details
    assert line.startswith("Missing on HAM10000 (resnet18): runs from random")


def test_a_treatment_that_all_runs_share_is_named(tmp_path):
    shared = {"train.label_smoothing": 0.1}
    write_arm(tmp_path, 0.60, 0.60, **shared)
    write_arm(tmp_path, 0.66, 0.64, -1, **{"train.mixup": 0.2}, **shared)
    _, (finding,) = find(tmp_path)
    text = (
        "full fine-tuning without any treatment except train.label_smoothing=0.1, which all cells"
    )
    assert text in finding.question
    assert "than “ImageNet, all trained”" in finding.answer


def test_noise_is_not_called_the_best(tmp_path):
    write_arm(tmp_path, 0.600, 0.600, 15)
    write_arm(tmp_path, 0.602, 0.603, -15, **{"train.mixup": 0.2})
    _, (finding,) = find(tmp_path)
    assert finding.verdict == "inconclusive" and finding.is_open


@pytest.mark.parametrize(
    "others",
    [{"j": 2}, {"init": "random", "k": 0}, {"train.lr": 0.01}],
    ids=["a grid", "random weights", "rates"],
)
def test_without_treatments_nothing_is_asked(tmp_path, others):
    write_arm(tmp_path, 0.60, 0.60)
    write_arm(tmp_path, 0.61, 0.61, **others)
    assert find(tmp_path)[1] == []


def test_each_fine_tuning_has_its_own_rate_where_rates_are_tuned(tmp_path):
    for lr, gain in ((0.001, 0.0), (0.01, 0.02)):
        write_arm(tmp_path, 0.60 + gain, 0.60 + gain, **{"train.lr": lr})
        treated = {"train.lr": lr, "train.schedule": "head_first"}
        write_arm(tmp_path, 0.65 - gain, 0.65 - gain, -1, **treated)
    _, (finding,) = find(tmp_path, tuned=["train.lr"])
    assert "3.0 points more" in finding.answer and finding.verdict == "yes"
    assert any("tried: train.lr=0.001, train.lr=0.01" in line for line in finding.details)
    _, findings = find(tmp_path)
    assert ["at train.lr=" in finding.question for finding in findings] == [True, True]


def test_without_plain_fine_tuning_nothing_is_compared(tmp_path):
    write_arm(tmp_path, 0.60, 0.60, **{"train.mixup": 0.2})
    write_arm(tmp_path, 0.66, 0.64, **{"train.schedule": "head_first"})
    _, (finding,) = find(tmp_path)
    assert finding.verdict == "not compared"
    assert "Full fine-tuning without any treatment was not trained" in finding.answer
