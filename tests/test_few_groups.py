"""Too few test groups of a class: one rule in tables, reports, plans, audits and documents."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from records_made import finish
from statistics_data import write_run

from tlcnn.cli.audit import describe_audit, load_audit
from tlcnn.config.compose import compose_config
from tlcnn.config.schema import DatasetCfg
from tlcnn.plan.describe import describe_plan
from tlcnn.plan.few_groups import describe_few_groups
from tlcnn.plan.plan import make_plan
from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.report.assumptions import ASSUMPTIONS
from tlcnn.report.cell_table import make_cell_table
from tlcnn.statistics.few_groups import RULE

METRIC = "test/balanced_accuracy"
DOCS = Path(__file__).parent.parent / "docs"


def test_the_rule_of_few_groups_is_one_sentence_and_names_classes(tmp_path):
    """Three classes of 4 groups: none by macro AUROC, in which each class decides 2/3."""
    assert RULE in " ".join((DOCS / "statistics.md").read_text(encoding="utf-8").split())
    assert any(RULE in text for text in ASSUMPTIONS)
    rng = np.random.default_rng(0)
    for k in (0, 5):
        for seed in range(2):
            labels = np.repeat([0, 1, 2], [4, 4, 4])
            logits = rng.normal(size=(12, 4))
            name = tmp_path / "runs" / f"r{k}{seed}"
            write_run(name, seed, logits=logits, labels=labels, groups=range(12), k=k)
    metrics = ["test/balanced_accuracy", "test/macro_auroc"]
    for folder in (tmp_path / "runs").iterdir():
        summary = {"metrics": dict.fromkeys(metrics, 0.5), "epochs": 1}
        (folder / "summary.json").write_text(json.dumps(summary))
        finish(folder)
    notes = make_cell_table(read_runs(tmp_path), metrics).notes
    few = [note for note in notes if "no verdict, because" in note]
    assert len(few) == 1 and few[0].startswith("test/macro_auroc: no verdict, because 3 classes")
    assert "(akiec 4, mel 4, nv 4)" in few[0] and RULE in notes
    found = make_content(read_runs(tmp_path), metric="test/macro_auroc").findings[0]
    assert found.verdict == "no verdict: too few test groups" and found.is_open
    assert any("(akiec 4, mel 4, nv 4): only more test groups" in t for t in found.details)


def test_a_large_difference_of_few_groups_has_one_verdict_everywhere(tmp_path):
    labels = np.repeat([0, 1, 2], [3, 30, 30])
    for k, n_wrong in ((0, 30), (5, 0)):
        for seed in range(3):
            predicted = labels.copy()
            predicted[33 : 33 + n_wrong - seed * (k == 0)] = 1
            name = tmp_path / "runs" / f"r{k}{seed}"
            logits, groups = 4.0 * np.eye(4)[predicted], range(len(labels))
            write_run(name, seed, logits=logits, labels=labels, groups=groups, k=k)
            (name / "summary.json").write_text(json.dumps({"metrics": {METRIC: 0.5}, "epochs": 1}))
            finish(name)
    content = make_content(read_runs(tmp_path))
    (compared,) = content.comparisons.to_dict("records")
    assert compared["low"] > 0 and compared["p"] < 0.05 and compared["verdict"] == "no verdict"
    assert content.findings[0].verdict == "no verdict: too few test groups"
    assert content.findings[0].is_open and "inconclusive" not in compared["note"]
    table = make_cell_table(read_runs(tmp_path), [METRIC], baseline=["k=0"])
    shown = [entry.text for row in table.rows for entry in row]
    assert any(text.startswith("no verdict (family of") for text in shown)


def count_rows(*counts):
    """An index and its splits: test images of so many groups in each class, one image each."""
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = [f"i{n}" for n in range(len(labels))]
    table = pd.DataFrame({"image_id": ids, "group": ids, "label": labels, "split": ""})
    classes = ("df", "mel", "nv")[: len(counts)]
    return SimpleNamespace(table=table, classes=classes, task="multi-class")


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((5, 5, 5), ""),
        (
            (3, 30, 40),
            "no verdict by balanced accuracy or macro AUROC: fewer than 5 test groups of df 3:",
        ),
        ((4, 4, 4), "no verdict by macro AUROC: fewer than 5 test groups of df 4, mel 4, nv 4:"),
        (
            (2, 2),
            "no verdict by balanced accuracy or macro AUROC: fewer than 5 test groups of df 2,",
        ),
        ((3, 3), "no verdict by macro AUROC: fewer than 5 test groups of df 3, mel 3:"),
    ],
)
def test_a_test_set_that_is_too_small_for_a_verdict_is_named(counts, text):
    index = count_rows(*counts)
    splits, data = np.full(len(index.table), "test"), DatasetCfg()
    line = describe_few_groups(index, splits, data)
    assert line.startswith(text) and bool(line) == bool(text)
    assert describe_few_groups(index, np.full(len(splits), "train"), data) == ""


def test_keys_are_recommended_only_where_they_decide_which_images_are_tested():
    index = count_rows(3, 30, 40)
    splits = np.full(len(index.table), "test")
    fractions = "only more test groups help, as of a larger dataset.test_fraction or of dataset.fo"
    assert fractions in describe_few_groups(index, splits, DatasetCfg())
    held = describe_few_groups(index, splits, DatasetCfg(hold_out="site:1"))
    assert held.endswith("of df 3: only more test groups help")
    index.table["split"] = "test"
    assert describe_few_groups(index, splits, DatasetCfg()) == held
    assert fractions in describe_few_groups(index, splits, DatasetCfg(split="grouped"))


def test_the_audit_and_the_plan_say_that_a_test_set_is_too_small(tmp_path, cache_dir, monkeypatch):
    monkeypatch.setenv("TLCNN_CACHE", str(cache_dir))
    rng, root = np.random.default_rng(0), tmp_path / "images"
    for split, n_images in (("train", 4), ("val", 2), ("test", 2)):
        for label in ("mel", "nv"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(n_images):
                pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}_{label}_{number}.png")
    line = (
        "no verdict by balanced accuracy or macro AUROC: fewer than 5 test groups of mel 2, nv 2"
    )
    assert f"note: {line}" in describe_audit(load_audit("folder", [], str(root), []))
    words = ["dataset=folder", f"dataset.root={root}", "model.name=test_resnet", "device=cpu"]
    words += [f"output_dir={tmp_path}", f"cache_dir={cache_dir}", "dataset.image_size=32"]
    words += ["train.batch_size=4"]
    assert f"warning: {line}" in describe_plan(make_plan(compose_config(words)))
