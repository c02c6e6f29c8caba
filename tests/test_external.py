"""`tlcnn test`: runs on another dataset, what they have seen, and how classes match."""

import json
import logging
import shutil
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from records_made import finish
from runs import tiny_config

import tlcnn
from tlcnn.cli.main import main
from tlcnn.data.dataset import Dataset
from tlcnn.data.index import Index
from tlcnn.errors import ConfigError, DataError
from tlcnn.inference.class_map import match_classes, parse_class_map
from tlcnn.inference.external import test as run_test
from tlcnn.inference.external_guard import find_seen_rows
from tlcnn.inference.external_images import find_mapped, label_rows
from tlcnn.model.build import build_model
from tlcnn.model.weights import RUN_WEIGHTS
from tlcnn.plan.ancestry import collect_seen
from tlcnn.plan.describe import make_plan_record
from tlcnn.plan.plan import make_plan
from tlcnn.records.external import TEST, read_tests
from tlcnn.records.folder import RunDir
from tlcnn.records.plan_record import write_plan
from tlcnn.records.read import read_predictions
from tlcnn.records.summary import Summary, write_summary
from tlcnn.records.weights import write_weights
from tlcnn.records.write import make_parquet, make_splits_file
from tlcnn.report.assemble import make_content
from tlcnn.report.external import METRICS, describe_test, make_external_frame
from tlcnn.report.markdown import render_report
from tlcnn.report.page import render_page
from tlcnn.report.page_data import make_page_data
from tlcnn.run.run import run
from tlcnn.statistics.predictions import compute_softmax
from tlcnn.study.cells import make_cells
from tlcnn.study.external import compare_external, list_external_cells
from tlcnn.study.runs import make_runs

NEW = ["dataset=synthetic", "dataset.options.data_seed=5", "dataset.options.n_images=100"]
NEW += ["dataset.options.size=32"]


def train(output_dir, cache_dir, *words):
    """A tiny run, trained."""
    torch.set_num_threads(1)
    plan = make_plan(tiny_config(output_dir, cache_dir, "train.epochs=1", *words))
    run(plan)
    return plan


def write_untrained(output_dir, cache_dir, *words):
    """The folder of a finished run, with weights that nobody trained."""
    plan = make_plan(tiny_config(output_dir, cache_dir, *words))
    folder, dataset = RunDir(plan.run_dir), plan.dataset
    plan.run_dir.mkdir(parents=True)
    write_plan(plan.run_dir, make_plan_record(plan))
    folder.write_config(asdict(plan.config))
    splits = make_splits_file(dataset.index, dataset.splits, dataset.digests)
    (plan.run_dir / "splits.parquet").write_bytes(splits)
    if plan.ancestry:
        seen = make_parquet(collect_seen(plan.ancestry, plan.run_dir))
        (plan.run_dir / "seen.parquet").write_bytes(seen)
    model = build_model(plan.config.model.name, n_classes=len(dataset.index.classes), seed=0)
    write_weights(plan.run_dir, model, make_plan_record(plan))
    write_summary(plan.run_dir, Summary(metrics={}))
    folder.write_done(plan.run_id)
    return plan


@pytest.fixture(scope="module")
def plans(tmp_path_factory, cache_dir):
    """Two seeds of one setting, and a run on images of other classes, in one folder."""
    folder = tmp_path_factory.mktemp("external")
    other = ("dataset=synthetic_source", "dataset.options.n_images=96", "dataset.options.size=32")
    trained = [train(folder, cache_dir, f"seed={seed}") for seed in (0, 1)]
    return [*trained, write_untrained(folder, cache_dir, *other)]


def save_images(dataset, rows, root, name=str):
    """Write images of a dataset as a folder for each class; `name` renames the classes."""
    table = dataset.index.table
    for row in rows:
        label = name(dataset.index.classes[table["label"][row]])
        path = root / label / f"{table['group'][row]}__{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dataset.index.images.load(row)).save(path)
    return ["dataset=folder", f"dataset.root={root}", f"dataset.name={root.name}"]


GROUPED = 'dataset.options.group_regex="^(.+)__"'


@pytest.fixture(scope="module")
def copied(plans, tmp_path_factory):
    """The test images of the runs as an external dataset, with the classes in another order."""
    dataset = plans[0].dataset
    root = tmp_path_factory.mktemp("images") / "copied"
    words = save_images(dataset, np.flatnonzero(dataset.splits == "test"), root)
    classes = ",".join(reversed(dataset.index.classes))
    return [*words, GROUPED, f"dataset.options.classes=[{classes}]"]


def test_the_own_test_images_as_another_dataset_give_the_own_scores(plans, copied):
    frame = run_test(plans[0].run_dir, copied, device="cpu")
    (own,) = tlcnn.read_runs(plans[0].run_dir).to_dict("records")
    names = [name for name in own if name.startswith("test/")]
    assert len(names) > 20
    for name in names:
        assert frame[name][0] == pytest.approx(own[name], abs=1e-12, nan_ok=True), name
    predictions = read_predictions(frame["folder"][0])
    recorded = tlcnn.open_run(plans[0].run_dir).predictions()
    assert list(predictions.columns) == list(recorded.columns)
    assert frame["record"][0].split == "all" and not frame["record"][0].seen


def test_a_recorded_test_is_not_computed_again(plans, copied, monkeypatch):
    frame = run_test(plans[0].run_dir, copied, device="cpu")
    monkeypatch.setattr("tlcnn.inference.predict.predict", None)
    again = run_test(plans[0].run_dir, copied, device="cpu")
    pd.testing.assert_frame_equal(frame, again)
    files = {path.name for path in Path(frame["folder"][0]).iterdir()}
    assert files == {TEST, "predictions.parquet", "lock"}


def test_a_damaged_test_is_computed_again_and_not_read(plans, copied, caplog):
    frame = run_test(plans[1].run_dir, copied, device="cpu")
    path = Path(frame["folder"][0]) / "predictions.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert read_tests(plans[1].run_dir).empty
    assert run_test(plans[1].run_dir, copied, device="cpu").equals(frame)
    assert path.read_bytes() == content


@pytest.mark.slow
def test_an_interrupted_test_goes_on(plans, tmp_path, cache_dir, monkeypatch):
    folder = tmp_path / "outputs" / "runs" / plans[0].run_dir.name
    shutil.copytree(plans[0].run_dir, folder)
    with monkeypatch.context() as patch:
        patch.setattr("tlcnn.inference.external.write_scored", None)
        with pytest.raises(TypeError):
            run_test(folder, NEW, device="cpu")
    (raw,) = (tmp_path / "outputs" / "tests").glob("*/*/raw.parquet")
    monkeypatch.setattr("tlcnn.inference.predict.build_predictor", None)  # nothing is predicted
    assert run_test(folder, NEW, device="cpu")["n_images"].tolist() == [100]
    assert not raw.exists()


# ---- what was seen ------------------------------------------------------------------------------


def test_images_of_training_and_validation_are_refused_counted_and_left_out(
    plans, tmp_path, cache_dir
):
    dataset = plans[0].dataset
    groups, splits = dataset.index.table["group"].to_numpy(), dataset.splits
    rows = np.concatenate([np.flatnonzero(splits == s)[:9] for s in ("train", "val", "test")])
    # A picture of another name and group, of a lesion of which one image was seen: by group.
    words = [*save_images(dataset, rows, tmp_path / "clinic"), GROUPED]
    expected = np.isin(groups[rows], groups[splits != "test"])
    assert expected.sum() == 18
    with pytest.raises(DataError, match=r"18 of the 27 images of clinic \(all\) were used to tr"):
        run_test(plans[0].run_dir, words, device="cpu")
    frame = run_test(plans[0].run_dir, words, leaks="leave_out", device="cpu")
    record = frame["record"][0]
    assert record.n_images == 9 and record.left_out["seen"] == 18
    assert sum(n for way, n in record.seen.items() if way.startswith("training")) == 9
    accepted = run_test(plans[0].run_dir, words, leaks="accept", device="cpu")["record"][0]
    assert accepted.n_images == 27 and accepted.left_out["seen"] == 0
    assert accepted.seen == record.seen and accepted.test_id != record.test_id


def test_another_image_of_a_seen_lesion_is_seen(plans, tmp_path):
    dataset = plans[0].dataset
    trained = dataset.index.table[dataset.splits == "train"]
    row = trained.index[0]
    words = save_images(dataset, [row, *np.flatnonzero(dataset.splits == "test")], tmp_path / "a")
    label = dataset.index.classes[trained["label"][row]]
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a" / label / f"{trained['group'][row]}__9999.png")
    frame = run_test(plans[0].run_dir, [*words, GROUPED], leaks="leave_out", device="cpu")
    assert frame["record"][0].left_out["seen"] == 2
    assert frame["record"][0].seen["training by group"] == 1


def test_the_own_dataset_is_refused_whatever_is_done_about_leaks(plans):
    own = ["dataset=synthetic", "dataset.options.n_images=140", "dataset.options.size=32"]
    with pytest.raises(DataError, match=r"in training by id .*\n?.*--leaks accept"):
        run_test(plans[0].run_dir, own, device="cpu")
    for options in ({"split": "test"}, {"leaks": "leave_out"}):
        with pytest.raises(DataError, match="are its own test set"):
            run_test(plans[0].run_dir, own, device="cpu", **options)


def test_own_test_images_are_known_in_another_split_and_unused_images_are_new(tmp_path, cache_dir):
    few = write_untrained(tmp_path, cache_dir, "dataset.train_images=40")
    splits = few.dataset.splits
    n_test, n_unused = int((splits == "test").sum()), int((splits == "unused").sum())
    own = ["dataset=synthetic", "dataset.options.n_images=140", "dataset.options.size=32"]
    with pytest.raises(DataError, match=f"^{n_test} of the {n_test} images .* its own test set"):
        run_test(few.run_dir, own, split="test", device="cpu")
    message = f"^{n_test} of the {n_test + n_unused} images .* has not seen are its own test set"
    with pytest.raises(DataError, match=message):
        run_test(few.run_dir, own, leaks="leave_out", device="cpu")
    with pytest.raises(DataError, match=f"--leaks leave_out tests on the other {n_unused}"):
        run_test(few.run_dir, own, split="train", device="cpu")
    frame = run_test(few.run_dir, own, split="train", leaks="leave_out", device="cpu")
    assert frame["n_images"].tolist() == [n_unused]


def test_what_an_ancestor_was_trained_on_is_seen(plans, tmp_path, cache_dir, monkeypatch):
    shutil.copytree(plans[0].run_dir, tmp_path / "runs" / plans[0].run_dir.name)
    words = (f"init.run={plans[0].run_id}", "init=run", "dataset.options.data_seed=3")
    child = write_untrained(tmp_path, cache_dir, *words)
    dataset = plans[0].dataset
    rows = np.flatnonzero(dataset.splits == "train")[:20]
    external = save_images(dataset, rows, tmp_path / "clinic")
    with pytest.raises(DataError, match="20 of the 20 images of clinic"):
        run_test(child.run_dir, external, device="cpu")
    # Without the folder of the ancestor, a record of its images is left, and then nothing.
    alone = tmp_path / "alone" / "runs" / child.run_dir.name
    shutil.copytree(child.run_dir, alone)
    own = ["dataset=synthetic", "dataset.options.n_images=140", "dataset.options.size=32"]
    with pytest.raises(DataError, match=r"of the 140 images of synthetic .* in training by id"):
        run_test(alone, own, device="cpu")
    seen = (alone / "seen.parquet").read_bytes()
    (alone / "seen.parquet").unlink()
    finish(alone)
    with pytest.raises(DataError, match="cannot be checked: neither its images nor a record"):
        run_test(alone, NEW, device="cpu")
    frame = run_test(alone, NEW, leaks="accept", device="cpu")
    assert frame["record"][0].unchecked == (plans[0].run_dir.name,)
    # Where the record is there again, the test is checked, and not computed again.
    (alone / "seen.parquet").write_bytes(seen)
    finish(alone)
    monkeypatch.setattr("tlcnn.inference.predict.predict", None)
    again = run_test(alone, NEW, device="cpu")
    assert again["record"][0].unchecked == () and again["folder"].equals(frame["folder"])
    assert read_tests(alone)["record"][0].unchecked == ()


# ---- classes ------------------------------------------------------------------------------------


def test_classes_are_mapped_many_to_one_and_to_nothing(plans, tmp_path):
    dataset = plans[0].dataset
    names = {"nv": "benign", "bkl": "keratosis", "mel": "malignant", "df": "other"}
    table = dataset.index.table
    labels = np.array(dataset.index.classes)[table["label"]]
    rows = np.flatnonzero((dataset.splits == "test") & np.isin(labels, list(names)))
    words = [*save_images(dataset, rows, tmp_path / "clinic", names.get), GROUPED]
    asked = {"benign": "nv", "keratosis": "nv", "malignant": "mel", "other": ""}
    frame = run_test(plans[0].run_dir, words, classes=asked, device="cpu")
    record, counts = frame["record"][0], pd.Series(labels[rows]).value_counts()
    assert record.left_out["class"] == counts["df"] > 0
    assert record.n_per_class["nv"] == counts["nv"] + counts["bkl"]
    assert set(record.absent) == {"akiec", "bcc", "bkl", "df", "vasc"}
    # The predictions of these images are those of the run; its classes have other labels.
    own = tlcnn.open_run(plans[0].run_dir).predictions().query("split == 'test'")
    ids = table["image_id"].to_numpy()[rows]
    own = own.set_index("image_id").loc[ids[labels[rows] != "df"]]
    truth = np.where(own["label"] == dataset.index.classes.index("mel"), "mel", "nv")
    guess = np.array(dataset.index.classes)[own.filter(like="logit/").to_numpy().argmax(axis=1)]
    recalls = [(guess == truth)[truth == name].mean() for name in ("mel", "nv")]
    assert frame["test/balanced_accuracy"][0] == pytest.approx(np.mean(recalls))
    assert frame["test/accuracy"][0] == pytest.approx((guess == truth).mean())
    assert np.isnan(frame["test/recall/bcc"][0])


def test_classes_that_do_not_match_are_refused_with_the_spelling_that_works():
    with pytest.raises(ConfigError, match='no class x of the dataset.*--classes "x=a".*"x="'):
        match_classes(["a", "x"], ["a", "b"])
    with pytest.raises(ConfigError, match="the run has no class aa. Did you mean 'a'"):
        match_classes(["a", "x"], ["a", "b"], {"x": "aa"})
    with pytest.raises(ConfigError, match="the dataset has no class y"):
        match_classes(["a", "x"], ["a", "b"], {"y": "a"})
    with pytest.raises(ConfigError, match="nothing is tested"):
        match_classes(["a"], ["a"], {"a": ""})
    for text in ("a", "a=b,,c=d", "=b", "a=b,a=c"):
        with pytest.raises(ConfigError, match="Pairs DATASET=RUN"):
            parse_class_map(text)


def test_findings_that_the_dataset_does_not_tell_are_not_scored():
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.uint8)
    names = [f"i{row}" for row in range(4)]
    table = pd.DataFrame({"image_id": names, "group": names, "label": 0, "split": ""})
    index = Index("x", ("edema", "oedema", "other"), table, None, "multi-label", targets)
    dataset = Dataset(index, np.full(4, "test"), names, "")
    class_map = {"edema": "fluid", "oedema": "fluid", "other": ""}
    assert find_mapped(dataset, class_map).tolist() == [True, True, False, True]
    rows = np.array([0, 1, 3])
    classes, labelled, found = label_rows(dataset, rows, class_map, ["mass", "fluid"])
    assert classes == ("fluid",) and found.tolist() == [[1], [1], [1]]
    assert labelled["image_id"].tolist() == ["i0", "i1", "i3"]


def test_an_official_test_split_is_taken_by_default(plans, tmp_path, copied):
    root = tmp_path / "split"
    source = Path(copied[1].removeprefix("dataset.root="))
    for split in ("train", "test"):
        shutil.copytree(source, root / split)
    for path in sorted((root / "test").glob("nv/*"))[3:]:
        path.unlink()
    n_test = len(list((root / "test").rglob("*.png")))
    words = ["dataset=folder", f"dataset.root={root}", "dataset.name=split"]
    for option, split, n in ((None, "test", n_test), ("test", "test", n_test)):
        record = run_test(plans[0].run_dir, words, split=option, device="cpu")["record"][0]
        assert (record.split, record.is_official, record.n_images) == (split, True, n)


@pytest.mark.parametrize("choice", [["hold_out=site:B"], ["folds=3", "fold=1"]])
def test_images_that_are_held_out_are_tested_by_default(plans, tmp_path, choice):
    dataset, root = plans[0].dataset, tmp_path / "clinic"
    words = save_images(dataset, np.flatnonzero(dataset.splits == "test"), root)
    paths = sorted(path.relative_to(root) for path in root.rglob("*.png"))
    rows = [(str(path), path.parent.name, path.name.split("__")[0]) for path in paths]
    table = pd.DataFrame(rows, columns=["image", "label", "patient"])
    table["site"] = table["patient"].map(lambda name: "AB"[sum(name.encode()) % 2])
    table.to_csv(root / "labels.csv", index=False)
    words = ["dataset=table", *words[1:], "dataset.options.group_column=patient"]
    words += [f"dataset.{each}" for each in choice]
    record = run_test(plans[0].run_dir, words, device="cpu")["record"][0]
    asked = run_test(plans[0].run_dir, words, split="test", device="cpu")["record"][0]
    assert record == asked and record.split == "test" and 0 < record.n_images < len(table)
    if "hold_out=site:B" in choice:
        assert record.n_images == (table["site"] == "B").sum()
        assert "the test split of dataset.hold_out=site:B" in " ".join(describe_test(record))


# ---- many runs ----------------------------------------------------------------------------------


def test_an_output_folder_tests_the_runs_that_fit(plans, capsys, monkeypatch):
    for name, value in (("handlers", []), ("propagate", True)):  # a command changes them
        monkeypatch.setattr(logging.getLogger("tlcnn"), name, value)
    main(["test", str(plans[0].output_dir), *NEW, "--device", "cpu"])
    shown = capsys.readouterr()
    assert f"left out: {plans[2].run_dir.name}: the run has no class" in shown.err
    assert "Tested on synthetic, all images, whatever their split: 100 images" in shown.out
    frame = read_tests(plans[0].output_dir)
    assert set(frame["run_id"][frame["n_images"] == 100]) == {p.run_id for p in plans[:2]}


def test_an_ensemble_is_the_mean_of_the_probabilities(plans):
    frame = run_test([plan.run_dir for plan in plans[:2]], NEW, ensemble=True, device="cpu")
    assert [len(record.runs) for record in frame["record"]] == [1, 1, 2]
    table = tlcnn.predict([plan.run_dir for plan in plans[:2]], NEW, checks=False)
    assert frame["test/accuracy"][2] == (table["class"] == table["label"]).mean()
    logits = read_predictions(frame["folder"][2]).filter(regex="^logit/").to_numpy()
    mean = table.filter(regex="^probability/").to_numpy()
    assert np.allclose(np.exp(logits), mean, atol=1e-12)
    with pytest.raises(ConfigError, match="an ensemble needs several runs"):
        run_test(plans[0].run_dir, NEW, ensemble=True, device="cpu")


def test_every_run_enters_an_ensemble_once_with_its_own_weights(plans, tmp_path, cache_dir):
    """Three runs, one of them named twice and one copied: the mean is of three, and of no two."""
    third = write_untrained(tmp_path, cache_dir, "seed=2")
    folders = [plan.run_dir for plan in (*plans[:2], third)]
    copy = shutil.copytree(folders[0], tmp_path / "copies" / "runs" / folders[0].name)
    frame = run_test([*folders, folders[1], copy], NEW, ensemble=True, device="cpu")
    assert frame["record"].iloc[-1].runs == tuple(p.run_id for p in (*plans[:2], third))

    def read(folder):
        logits = read_predictions(folder).filter(regex="^logit/").to_numpy()
        return compute_softmax(logits)

    alone = [read(folder) for folder in frame["folder"].iloc[:3]]
    pooled = read(frame["folder"].iloc[-1])
    assert np.allclose(pooled, np.mean(alone, axis=0), atol=1e-6)
    for position in range(3):
        assert not np.allclose(pooled, np.mean(np.delete(alone, position, 0), axis=0), atol=1e-3)


def test_an_ensemble_says_what_is_unchecked_of_every_run(plans, copied, tmp_path, monkeypatch):
    folders = [tmp_path / "runs" / plan.run_dir.name for plan in plans[:2]]
    for folder, plan in zip(folders, plans, strict=False):
        shutil.copytree(plan.run_dir, folder)
    shutil.copytree(folders[0], tmp_path / "copies" / "runs" / folders[0].name)
    folders.append(tmp_path / "copies" / "runs" / folders[0].name)

    def find(run, *rest):
        seen = find_seen_rows(run, *rest)
        return replace(seen, unchecked=("gone",)) if run.folder == folders[1] else seen

    monkeypatch.setattr("tlcnn.inference.external_images.find_seen_rows", find)
    options = {"leaks": "accept", "ensemble": True, "device": "cpu"}
    records = run_test(folders, copied, **options)["record"].tolist()
    assert [record.unchecked for record in records] == [(), ("gone",), ("gone",)]
    assert records[2].runs == tuple(plan.run_id for plan in plans[:2])  # a copy counts once
    # An ensemble is left out where any of its runs has other weights now.
    done = json.loads((folders[1] / "DONE").read_text())
    done["sha256"][RUN_WEIGHTS] = "0" * 64
    (folders[1] / "DONE").write_text(json.dumps(done))
    assert read_tests(folders[0])["record"].map(lambda r: len(r.runs)).tolist() == [1]


# ---- tables and the report ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def tested(plans, copied):
    """Two seeds on new images, one of them on the copied images, too, and their mean."""
    folders = [plan.run_dir for plan in plans[:2]]
    run_test(folders, NEW, ensemble=True, device="cpu")
    run_test(folders[0], copied, device="cpu")
    runs, tests = tlcnn.read_runs(*folders), read_tests(*folders)
    is_shown = (tests["dataset"] == "copied") & (tests["run_id"] == plans[0].run_id)
    return runs, tests[is_shown | (tests["n_images"] == 100)]


def test_several_seeds_have_an_interval_over_seeds_and_one_over_test_groups(tested):
    runs, tests = tested
    cells = make_cells(make_runs(runs))
    external = list_external_cells(tests, cells, METRICS)
    kinds = {(e.record.dataset, len(e.cell.runs), e.n_networks): e for e in external}
    two = kinds["synthetic", 2, 1]
    assert len(external) == 3 and not two.is_fixed
    is_two = (tests["dataset"] == "synthetic") & (tests["record"].map(lambda r: len(r.runs)) == 1)
    scores = tests["test/macro_auroc"][is_two]
    estimate = two.estimate("test/macro_auroc")
    assert estimate.value == pytest.approx(scores.mean()) and estimate.n_seeds == 2
    for key in (("copied", 1, 1), ("synthetic", 1, 2)):
        (arm,) = kinds[key].arms["test/macro_auroc"]
        estimate = kinds[key].estimate("test/macro_auroc")
        assert kinds[key].is_fixed and estimate.low < estimate.value < estimate.high
        assert estimate.se == pytest.approx(arm.replicates.std(ddof=1), rel=0.2)


def test_cells_that_have_seen_tested_images_are_not_compared(tested):
    runs, tests = tested
    metric = METRICS[0]
    external = list_external_cells(tests, make_cells(make_runs(runs)), METRICS)
    (two,) = (each for each in external if len(each.cell.runs) == 2)
    source = replace(two.cell.source, init="imagenet")
    cell = replace(two.cell, key="other", init="imagenet", k=len(two.cell.units), source=source)
    other = replace(two, cell=cell)
    assert len(list(compare_external([two, other], {}, metric, 0.01))) == 1
    accepted = replace(two.record, seen={"training by id": 3}, left_out={"seen": 0})
    left = replace(two.record, seen={"training by id": 3}, left_out={"seen": 3})
    for record, n in ((accepted, 0), (left, 1)):
        leaky = replace(other, records=(two.record, record))
        assert len(list(compare_external([two, leaky], {}, metric, 0.01))) == n
        texts = [" ".join(row) for row in make_external_frame([two, leaky], METRICS)["remarks"]]
        assert ["Left out of comparisons" in text for text in texts] == [False, n == 0]


def test_a_report_shows_tests_in_a_section_of_their_own(tested):
    runs, tests = tested
    plain = make_content(runs, tests=tests.iloc[:0])
    content = make_content(runs, tests=tests)
    assert plain.external is None and len(content.external.cells) == 3
    same = replace(content, external=None, created=plain.created)
    pages = [render_page(each, make_page_data(each)) for each in (plain, same, content)]
    assert pages[0] == pages[1] and "other datasets" not in pages[0]
    assert pages[2].count('<section id="external">') == 1
    texts = [render_report(each, make_page_data(each)) for each in (plain, same, content)]
    assert texts[0] == texts[1] and "## Tested on other datasets" in texts[2]
    assert content.cells.equals(plain.cells) and content.findings == plain.findings


def test_compare_shows_tests_where_they_are_asked_for(plans, tested, capsys):
    folders = [str(plan.run_dir) for plan in plans[:2]]
    main(["compare", *folders, "--external", "--metrics", "test/accuracy", "--csv"])
    frame = pd.read_csv(StringIO(capsys.readouterr().out))
    assert set(frame["tested on"]) >= {"synthetic", "copied"}
    main(["compare", *folders, "--csv"])
    assert "copied" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compare", *folders, "--external", "--seeds"])
    assert "--external and --seeds: one or the other" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare", str(plans[2].run_dir), "--external"])
    assert "tlcnn test" in capsys.readouterr().err
