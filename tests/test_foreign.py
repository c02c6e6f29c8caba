"""Predictions of other tools become run folders that stand in the same tables and tests."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from test_read import PLAN, make_predictions, make_run

from tlcnn.cli.main import main
from tlcnn.errors import ConfigError, DataError
from tlcnn.records.foreign import load_foreign
from tlcnn.records.foreign_table import Options, parse_evaluator_name
from tlcnn.records.read import read_predictions, read_runs
from tlcnn.statistics.predictions import compute_softmax
from tlcnn.study.predictions import load_predictions
from tlcnn.study.runs import make_runs
from tlcnn.sweep.status import read_status

CLASSES = ("mel", "nv", "bcc")
SAID = ["--dataset", "d", "--name", "other"]


@pytest.fixture
def frame():
    """30 images of 3 classes, with labels, lesions and probabilities."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    probabilities = compute_softmax(rng.normal(size=(30, 3)) + 2 * np.eye(3)[labels])
    table = pd.DataFrame({"image_id": [f"ISIC_{i:04d}" for i in range(30)]})
    table["dx"] = [CLASSES[label] for label in labels]
    table["lesion_id"] = [f"HAM_{i // 2}" for i in range(30)]
    table[list(CLASSES)] = probabilities
    return table


def write(frame, path):
    frame.to_csv(path, index=False)
    return path


def read_one(output_dir):
    (row,) = read_runs(output_dir).to_dict("records")
    return row


def run_import(*words):
    main(["import", *map(str, words)])


# ---- what it makes ------------------------------------------------------------------------------


def test_an_imported_file_is_a_finished_run_with_every_metric(frame, tmp_path, capsys):
    path, output = write(frame, tmp_path / "p.csv"), tmp_path / "out"
    words = ["--dataset", "ham10000", "--init", "imagenet", "--model", "vit", "--k", "5"]
    run_import(path, "-o", output, *words, "--j", "2", "--seed", "7")
    row = read_one(output)
    told = ("state", "dataset", "model", "init", "k", "j", "seed", "imported", "task")
    assert [row[key] for key in told] == [
        *("done", "ham10000", "vit", "imagenet", 5, 2, 7, True, "multi-class")
    ]
    labels = np.arange(30) % 3
    scores = frame[list(CLASSES)].to_numpy()
    accuracy = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert row["test/balanced_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    area = roc_auc_score(labels, scores, multi_class="ovr")
    assert row["test/macro_auroc"] == pytest.approx(area, abs=1e-12)
    assert "test/sensitivity_at_90_specificity/mel" in row and "test/group/accuracy" in row
    assert "imported" in capsys.readouterr().out


def test_probabilities_come_back_and_the_columns_are_those_of_a_run(frame, tmp_path):
    run_import(write(frame, tmp_path / "p.csv"), "-o", tmp_path, *SAID)
    found = read_predictions(next((tmp_path / "runs").iterdir()))
    own = ["split", "image_id", "group", "label", *(f"logit/{name}" for name in CLASSES)]
    assert list(found.columns) == own and set(found["split"]) == {"test"}
    assert found["group"].tolist() == frame["lesion_id"].tolist()
    logits = found[own[4:]].to_numpy()
    np.testing.assert_allclose(compute_softmax(logits), frame[list(CLASSES)], atol=1e-12)


def test_the_plan_says_what_a_run_says_and_that_it_was_imported(frame, tmp_path):
    words = ["--setting", "train.lr=0.01", "--setting", "note=<b>"]
    run_import(write(frame, tmp_path / "p.csv"), "-o", tmp_path, *SAID, *words)
    plan = json.loads(next((tmp_path / "runs").glob("*/plan.json")).read_text())
    assert plan["imported"] is True and plan["classes"] == list(CLASSES)
    assert plan["split_sizes"] == {"test": dict.fromkeys(CLASSES, 10)}
    assert plan["settings"] == {"import.name": "other", "train.lr": 0.01, "note": "<b>"}
    assert plan["cell_id"] and plan["units"] == [] and plan["ancestry"] == []


def test_the_same_predictions_again_are_already_there(frame, tmp_path, capsys):
    run_import(write(frame, tmp_path / "p.csv"), "-o", tmp_path, *SAID)
    folder = next((tmp_path / "runs").iterdir())
    before = (folder / "plan.json").stat().st_mtime_ns
    frame.sample(frac=1, random_state=1).to_parquet(tmp_path / "p.parquet")
    run_import(tmp_path / "p.parquet", "-o", tmp_path, *SAID)  # other format, other order
    assert "already there" in capsys.readouterr().out
    assert [*(tmp_path / "runs").iterdir()] == [folder]
    assert (folder / "plan.json").stat().st_mtime_ns == before
    run_import(tmp_path / "p.parquet", "-o", tmp_path, *SAID, "--seed", "1")
    assert len([*(tmp_path / "runs").iterdir()]) == 2


def test_files_are_seeds_of_one_cell(frame, tmp_path):
    paths = []
    for i in range(3):
        frame[list(CLASSES)] = compute_softmax(np.random.default_rng(i).normal(size=(30, 3)))
        paths.append(write(frame, tmp_path / f"{i}.csv"))
    run_import(*paths, "-o", tmp_path, *SAID, "--seed", "4")
    runs = read_runs(tmp_path)
    assert sorted(runs["seed"]) == [4, 5, 6] and runs["cell_id"].nunique() == 1
    other = ["--dataset", "d", "--name", "another"]
    run_import(paths[0], "-o", tmp_path, *other)
    assert read_runs(tmp_path)["cell_id"].nunique() == 2


def write_others(frame, folder, n=3):
    for i in range(n):
        frame[list(CLASSES)] = compute_softmax(np.random.default_rng(i).normal(size=(30, 3)))
        yield write(frame, folder / f"{i}.csv")


def test_files_in_calls_of_their_own_are_the_next_seeds(frame, tmp_path, capsys):
    paths = list(write_others(frame, tmp_path))
    for path in paths:
        run_import(path, "-o", tmp_path, *SAID)
    runs = read_runs(tmp_path)
    assert sorted(runs["seed"]) == [0, 1, 2] and runs["cell_id"].nunique() == 1
    capsys.readouterr()
    run_import(*paths[::-1], "-o", tmp_path, *SAID)  # whatever their order
    assert capsys.readouterr().out.count("already there") == 3 and len(read_runs(tmp_path)) == 3


def test_a_seed_that_others_have_is_refused_where_it_was_asked_for(frame, tmp_path, capsys):
    first, second, _ = write_others(frame, tmp_path)
    run_import(first, "-o", tmp_path, *SAID, "--seed", "3")
    run_import(first, "-o", tmp_path, *SAID, "--seed", "3")
    with pytest.raises(SystemExit):
        run_import(second, "-o", tmp_path, *SAID, "--seed", "3")
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"--seed 3: {folder.name} has that seed" in capsys.readouterr().err
    run_import(second, "-o", tmp_path, *SAID, "--seed", "3", "--setting", "train.lr=1")
    run_import(second, "-o", tmp_path, *SAID, "--seed", "3", "--split", "val")
    assert set(read_runs(tmp_path)["seed"]) == {3}


@pytest.mark.parametrize(
    ("words", "units"),
    [
        ([], ["unit1", "unit2", "unit3"]),
        (["--units", "4"], ["unit1", "unit2", "unit3", "unit4"]),
        (["--units", "a", "b", "c", "d"], ["a", "b", "c", "d"]),
    ],
)
def test_the_units_of_an_imported_network(frame, tmp_path, words, units):
    path = write(frame, tmp_path / "p.csv")
    said = [*SAID, "--k", "3", "--j", "1"]
    run_import(path, "-o", tmp_path, *said)  # told later, they are written into the run
    run_import(path, "-o", tmp_path, *said, *words)
    (plan,) = (json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/plan.json"))
    assert [unit["unit"] for unit in plan["units"]] == units
    assert read_one(tmp_path)["state"] == "done"  # DONE has the digest of the new plan


def test_a_killed_import_is_finished_by_the_same_command(frame, tmp_path):
    path = write(frame, tmp_path / "p.csv")
    run_import(path, "-o", tmp_path, *SAID)
    folder = next((tmp_path / "runs").iterdir())
    (folder / "DONE").unlink()
    (folder / "summary.json").write_text("{")
    run_import(path, "-o", tmp_path, *SAID)
    assert read_one(tmp_path)["state"] == "done"


def test_status_shows_imported_runs_as_done(frame, tmp_path):
    run_import(write(frame, tmp_path / "p.csv"), "-o", tmp_path, *SAID)
    (status,) = read_status(str(tmp_path), tmp_path)
    assert status.count()["done"] == 1


def test_names_that_are_no_file_names_stay_in_the_records_alone(frame, tmp_path):
    words = ["--dataset", "../<script>/d", "--name", "=cmd()\n|"]
    run_import(write(frame, tmp_path / "p.csv"), "-o", tmp_path / "out", *words)
    row = read_one(tmp_path / "out")
    assert row["dataset"] == "../<script>/d" and row["model"] == "=cmd()\n|"
    assert [*(tmp_path / "out" / "runs").iterdir()] and not (tmp_path / "<script>").exists()


# ---- pairing with own runs ----------------------------------------------------------------------


@pytest.fixture
def outputs(tmp_path, frame):
    """An own run on the frame's images, its classes in another order."""
    classes = ("bcc", "mel", "nv")
    labels = [classes.index(name) for name in frame["dx"]]
    predictions = make_predictions(labels, 0.7, 0, classes)
    predictions["image_id"] = frame["image_id"]
    predictions["group"] = frame["lesion_id"]
    make_run(tmp_path, "own", plan={**PLAN, "dataset": "d"}, predictions=predictions)
    return tmp_path


def test_an_import_pairs_with_an_own_run_on_the_same_images(outputs, frame, capsys):
    """Also where the file calls them by path, orders classes otherwise and knows no lesions."""
    other = frame.assign(filename=[f"x/{i.lower()}.jpg" for i in frame["image_id"]])
    other = other.drop(columns=["image_id", "lesion_id"]).sample(frac=1, random_state=0)
    run_import(write(other, outputs / "p.csv"), "-o", outputs, *SAID)
    assert "30 of 30 test images are among the 30 of own: paired" in capsys.readouterr().out
    runs = sorted(make_runs(read_runs(outputs)), key=lambda run: run.is_imported)
    own, made = (load_predictions([run]) for run in runs)
    assert own.sample.name == made.sample.name and own.classes == made.classes
    assert list(own.labels) == list(made.labels)
    assert read_predictions(Path(runs[1].folder))["group"].nunique() == 15


def test_a_file_with_other_labels_than_own_runs_is_refused(outputs, frame):
    frame.loc[3, "dx"] = "bcc"
    path = write(frame, outputs / "p.csv")
    with pytest.raises(SystemExit):
        run_import(path, "-o", outputs, *SAID)
    assert len(read_runs(outputs)) == 1


def test_other_images_are_told_to_be_unpaired(outputs, frame, capsys):
    run_import(write(frame[5:], outputs / "a.csv"), "-o", outputs, *SAID)
    assert "25 of 25 test images are among the 30 of own" in capsys.readouterr().out
    frame["image_id"] = "x" + frame["image_id"]
    run_import(write(frame, outputs / "b.csv"), "-o", outputs, *SAID)
    assert "compared unpaired" in capsys.readouterr().out


# ---- forms of files -----------------------------------------------------------------------------


def test_labels_and_groups_may_be_in_other_tables(frame, tmp_path):
    scores = write(frame[["image_id", *CLASSES]], tmp_path / "p.csv")
    table = write(frame[["image_id", "dx", "lesion_id"]], tmp_path / "t.csv")
    found = load_foreign(scores, Options(labels=table, groups=table))
    assert found.has_groups and found.table["group"].tolist() == frame["lesion_id"].tolist()
    assert found.table["label"].tolist() == [i % 3 for i in range(30)]
    write(frame[["image_id", "dx"]][:-2], tmp_path / "t.csv")
    with pytest.raises(DataError, match="has no label of 2 images: ISIC_0028, ISIC_0029"):
        load_foreign(scores, Options(labels=table))


def test_classes_may_be_numbered_or_have_prefixes_and_labels_be_positions(frame, tmp_path):
    frame["label"] = np.arange(30) % 3
    numbered = frame.drop(columns=["dx"]).rename(
        columns={c: str(i) for i, c in enumerate(CLASSES)}
    )
    found = load_foreign(write(numbered, tmp_path / "n.csv"), Options(classes=CLASSES))
    prefixed = frame.rename(columns={name: f"prob_{name}" for name in CLASSES}).assign(age=40)
    other = load_foreign(write(prefixed, tmp_path / "p.csv"))
    assert found.classes == other.classes == CLASSES
    pd.testing.assert_frame_equal(found.table, other.table)
    assert "age" in other.notes[0]


def test_the_order_of_the_classes_is_the_one_that_is_asked_for(frame, tmp_path):
    path = write(frame, tmp_path / "p.csv")
    found = load_foreign(path, Options(classes=CLASSES[::-1]))
    assert found.classes == CLASSES[::-1] and found.table["label"].tolist()[:3] == [2, 1, 0]
    own = load_foreign(path).table
    for name in CLASSES:
        assert found.table[f"logit/{name}"].tolist() == own[f"logit/{name}"].tolist()


def test_logits_are_taken_as_they_are(frame, tmp_path):
    logits = np.log(frame[list(CLASSES)]) + 5
    frame[list(CLASSES)] = logits
    path = write(frame, tmp_path / "p.csv")
    found = load_foreign(path, Options(logits=True)).table
    np.testing.assert_allclose(found[[f"logit/{c}" for c in CLASSES]], logits, atol=1e-12)
    renamed = frame.rename(columns={name: f"logit/{name}" for name in CLASSES})
    pd.testing.assert_frame_equal(load_foreign(write(renamed, path)).table, found)


def test_one_score_of_two_classes_is_enough(tmp_path):
    frame = pd.DataFrame({"id": ["a", "b"], "label": [0, 1], "ill": [0.25, 0.75]})
    path = write(frame, tmp_path / "p.csv")
    found = load_foreign(path, Options(classes=("well", "ill")))
    probabilities = compute_softmax(found.table[["logit/well", "logit/ill"]].to_numpy())
    np.testing.assert_allclose(probabilities, [[0.75, 0.25], [0.25, 0.75]])
    assert found.task == "binary"
    with pytest.raises(DataError, match="name both with --classes"):
        load_foreign(path)


def test_several_findings_may_hold(tmp_path):
    frame = pd.DataFrame({"id": ["a", "b"], "x": [0.9, 0.2], "y": [0.8, 0.6]})
    targets = {"target/x": [1, 0], "target/y": [1, 1]}
    path = write(frame.assign(**targets), tmp_path / "p.csv")
    run_import(path, "-o", tmp_path, *SAID)
    row = read_one(tmp_path)
    assert row["task"] == "multi-label" and row["test/accuracy"] == 1.0
    logits = load_foreign(path).table[["logit/x", "logit/y"]].to_numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), frame[["x", "y"]])


def test_several_findings_are_no_label_of_one_class(tmp_path):
    frame = pd.DataFrame({"id": ["a", "b"], "x": [0.9, 0.2], "y": [0.1, 0.8]})
    path = write(frame.assign(**{"target/x": [1, 0], "target/y": [0, 1]}), tmp_path / "p.csv")
    with pytest.raises(DataError, match="no column of the label"):
        load_foreign(path, Options(task="binary"))


def test_a_file_may_have_both_splits(frame, tmp_path):
    frame["split"] = ["val"] * 12 + ["test"] * 18
    run_import(write(frame, tmp_path / "p.csv"), "-o", tmp_path, *SAID)
    row = read_one(tmp_path)
    assert row["val/accuracy"] >= 0 and row["test/accuracy"] >= 0


# ---- MedMNIST -----------------------------------------------------------------------------------


@pytest.fixture
def npz(tmp_path):
    labels = np.array([[0], [1], [1], [0], [1]], dtype=np.uint8)
    np.savez(tmp_path / "breastmnist.npz", test_labels=labels)
    return tmp_path / "breastmnist.npz"


SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])


@pytest.mark.parametrize("columns", [slice(None), slice(1, None)])
def test_an_evaluator_file_takes_its_labels_from_the_npz(tmp_path, npz, columns):
    path = tmp_path / "breastmnist_test_[AUC]0.850_[ACC]0.860@run3.csv"
    pd.DataFrame(SCORES[:, columns]).sample(frac=1, random_state=0).to_csv(path, header=False)
    run_import(path, "-o", tmp_path, "--labels", npz, "--name", "automl")
    row = read_one(tmp_path)
    assert (row["dataset"], row["seed"], row["model"]) == ("breastmnist", 3, "automl")
    assert row["test/accuracy"] == pytest.approx(0.8)
    truth = [0, 1, 1, 0, 1]
    assert row["test/macro_auroc"] == pytest.approx(roc_auc_score(truth, SCORES[:, 1]))
    ids = read_predictions(next((tmp_path / "runs").iterdir()))["image_id"]
    assert sorted(ids) == [f"test-{i:06d}" for i in range(5)]  # as data.datasets.medmnist has them


def test_an_evaluator_file_that_does_not_fit_is_refused(tmp_path, npz):
    path = tmp_path / "breastmnist_test@1.csv"
    pd.DataFrame(SCORES).to_csv(path, header=False)
    with pytest.raises(ConfigError, match="--labels breastmnist.npz"):
        load_foreign(path)
    pd.DataFrame(SCORES[:4]).to_csv(path, header=False)
    with pytest.raises(DataError, match="has 4 rows, breastmnist.npz has 5 test images"):
        load_foreign(path, Options(labels=npz))
    pd.DataFrame(np.ones((5, 3)) / 3).to_csv(path, header=False)
    with pytest.raises(DataError, match="3 scores a row; breastmnist has 2 classes"):
        load_foreign(path, Options(labels=npz))
    pd.DataFrame(SCORES).to_csv(path, header=False)
    with pytest.raises(DataError, match="cannot read test_labels"):
        load_foreign(path, Options(labels=path))


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, npz):
    path, folder, loop = tmp_path / "p.csv", tmp_path / "q.csv", tmp_path / "r.parquet"
    os.mkfifo(path)
    folder.mkdir()
    loop.symlink_to(loop)
    for name in (path, folder, loop):
        with pytest.raises(DataError, match=f"cannot read {re.escape(str(name))}: "):
            load_foreign(name)
    scores = tmp_path / "breastmnist_test@1.csv"
    pd.DataFrame(SCORES).to_csv(scores, header=False)
    for name in (path, folder):
        with pytest.raises(DataError, match="cannot read"):
            load_foreign(scores, Options(labels=name))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dermamnist_224_val_[AUC]0.9_[ACC]0.7@12.csv", ("dermamnist", "val", 12)),
        ("pathmnist_test@1700000000.12.csv", ("pathmnist", "test", None)),
        ("pathmnist_testing.csv", None),
        ("mymnist_test.csv", None),
    ],
)
def test_names_of_evaluator_files_are_understood(tmp_path, name, told):
    found = parse_evaluator_name(tmp_path / name)
    assert (found and (found.flag, found.split, found.seed)) == told


@pytest.mark.realdata
def test_the_evaluators_own_file_gives_its_own_numbers(tmp_path, shared):
    evaluator = pytest.importorskip("medmnist").Evaluator
    folder = shared / "data" / "medmnist"
    n = len(np.load(folder / "breastmnist.npz")["test_labels"])
    scores = np.random.default_rng(0).random((n, 1))
    metrics = evaluator("breastmnist", "test", root=str(folder)).evaluate(
        scores, str(tmp_path), run="run1"
    )
    path = next(tmp_path.glob("*.csv"))
    run_import(path, "-o", tmp_path, "--labels", folder / "breastmnist.npz", "--name", "chance")
    row = read_one(tmp_path)
    assert row["test/macro_auroc"] == pytest.approx(metrics.AUC, abs=1e-12)
    assert row["test/accuracy"] == pytest.approx(metrics.ACC, abs=1e-12)


# ---- what is refused ----------------------------------------------------------------------------


def spoil(frame, row, column, value):
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (
            "mel",
            3.5,
            r"row 3 .image ISIC_0002. has mel='3.5'; a probability is 0 to 1.*say --logits",
        ),
        ("mel", -0.1, "has mel='-0.1'; a probability is 0 to 1.*--logits"),
        ("mel", 0.0, "sum to .*not 1.*say --logits.*multi-label"),
        ("mel", "nan", "has mel='nan'; a finite number is expected"),
        ("mel", "", "has mel=''; a finite number is expected"),
        ("mel", "x", "has mel='x'; a finite number is expected.*--classes"),
        ("dx", "nevus", "has the label 'nevus', which is no class; they are mel, nv, bcc"),
        ("dx", "nw", "Did you mean 'nv'"),
        ("image_id", "ISIC_0000", "row 3 .image ISIC_0000. has a prediction before"),
        ("image_id", "", "row 3 .image . has no image id"),
    ],
)
def test_wrong_values_are_refused_with_their_place(frame, tmp_path, column, value, says):
    frame[["nv", "mel"]] = frame[["nv", "mel"]].clip(lower=0.01)
    frame[list(CLASSES)] = frame[list(CLASSES)].div(frame[list(CLASSES)].sum(axis=1), axis=0)
    path = write(spoil(frame, 2, column, value), tmp_path / "p.csv")
    with pytest.raises(DataError, match=says):
        load_foreign(path)


def test_sums_within_a_thousandth_are_taken(frame, tmp_path):
    frame["mel"] += 0.0009
    load_foreign(write(frame, tmp_path / "p.csv"))
    frame["mel"] += 0.0009
    with pytest.raises(DataError, match="30 of 30 rows"):
        load_foreign(write(frame, tmp_path / "p.csv"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot read"),
        ("image_id,dx,mel,nv\n", "has no rows"),
        ("dx,mel,nv\nmel,1,0\n", "no column of the id .*--id-column"),
        ("image_id,mel,nv\na,1,0\n", "no column of the label .*--labels FILE"),
        ("image_id,dx\na,mel\n", "no column of scores"),
        ("image_id,dx,mel,mel\na,mel,1,0\n", "the column mel twice"),
        ("image_id,dx,mel\na,mel\nb,c,d,e\n", "cannot read"),
    ],
)
def test_files_that_are_no_predictions_are_refused(tmp_path, text, says):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        load_foreign(tmp_path / "p.csv")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read .*none.csv: No such file"):
        load_foreign(tmp_path / "none.csv")
    for name in ("p.csv", "p.parquet"):
        (tmp_path / name).write_bytes(b"\x80\x00\xff" * 9)
        with pytest.raises(DataError, match="cannot read"):
            load_foreign(tmp_path / name)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dataset", "d"], "--name or --model is missing"),
        (["--name", "m"], "--dataset .* is missing"),
        ([*SAID, "--init", "imagenet"], "--k N"),
        ([*SAID, "--k", "-1"], "counted from 0"),
        ([*SAID, "--k", "5", "--units", "4"], "--units 4: 4 units, of which --k or --j takes 5"),
        ([*SAID, "--units", "a", "a"], "every name once"),
        ([*SAID, "--split", "tests"], "Did you mean 'test'"),
        ([*SAID, "--task", "multilabel"], "Did you mean 'multi-label'"),
        ([*SAID, "--setting", "lr"], "KEY=VALUE"),
        ([*SAID, "--classes", "mel", "nv", "bbc"], "Did you mean 'bcc'"),
        ([*SAID, "--label-column", "diagnosis"], "--label-column diagnosis"),
        ([*SAID, "--positive", "mole"], "positive class mole"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_written(frame, tmp_path, capsys, words, says):
    path = write(frame, tmp_path / "p.csv")
    with pytest.raises(SystemExit) as exit_:
        run_import(path, "-o", tmp_path / "out", *words)
    assert exit_.value.code == 1
    assert re.search(says, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
