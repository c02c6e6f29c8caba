"""Scores by subgroup: which images count, what is compared, and what stands in no score."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from records_made import write_record
from simulate_subgroups import simulate_subgroups
from simulated_world import World
from test_hold_out import write_site

from tlcnn.cli.main import main
from tlcnn.data.hold_out import write_values
from tlcnn.errors import ConfigError, DataError
from tlcnn.memory import Memory
from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.report.methods import make_methods
from tlcnn.report.remarks import write_note
from tlcnn.report.subgroups import Asked, describe_subgroups, make_subgroup_table
from tlcnn.run.start import train
from tlcnn.statistics.comparison import compute_side_p
from tlcnn.statistics.metrics import make_score
from tlcnn.statistics.notes import NoteKind
from tlcnn.statistics.predictions import Predictions
from tlcnn.statistics.resample import make_sample
from tlcnn.study.cells import make_cells
from tlcnn.study.divisions import Division, name_subgroups, parse_divisions
from tlcnn.study.metadata import NoColumn
from tlcnn.study.predictions import CellPredictions
from tlcnn.study.runs import make_runs
from tlcnn.study.subgroups import load_subgroups, score_subgroups

METRIC = "test/balanced_accuracy"
SEX = Division("sex")


def make_predictions(labels, right, groups=None, n_classes=3):
    """Predictions of S runs that get N images right (1) or wrong (0)."""
    labels, right = np.asarray(labels), np.atleast_2d(right)
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    predicted = np.where(right > 0, labels, (labels + 1) % n_classes)
    ids = np.array([f"i{n}" for n in range(len(labels))])
    names = np.array([f"g{n:04d}" for n in groups])
    return CellPredictions(
        seeds=np.arange(len(right)),
        classes=tuple("abc"[:n_classes]),
        labels=labels,
        groups=names,
        image_ids=ids,
        probabilities=0.1 / (n_classes - 1) + np.eye(n_classes)[predicted] * 0.85,
        sample=make_sample(names, labels, ids),
        multi_label=False,
    )


def draw_predictions(n=240, n_seeds=3, seed=0, **more):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return make_predictions(labels, rng.random((n_seeds, n)) < 0.7, **more), rng


def score(predictions, *columns, metric=METRIC, **more):
    listed = [(division, pd.Series(values)) for division, values in columns]
    options = {"margin": 0.01, "n_draws": 100, **more}
    return score_subgroups(predictions, listed, metric, **options)


def test_scores_are_those_of_the_images_of_either_side():
    predictions, _ = draw_predictions()
    is_woman = np.arange(240) % 5 < 2
    values = np.where(is_woman, "f", "m")
    values[:7] = ""  # not recorded: on neither side
    women, men, lost = score(predictions, (SEX, values))
    right = predictions.probabilities.argmax(axis=2) == predictions.labels

    def mean_recall(is_side):
        shares = [right[:, is_side & (predictions.labels == k)].mean() for k in range(3)]
        return np.mean(shares)

    assert women.score.value == pytest.approx(mean_recall(values == "f"))
    assert women.rest.value == pytest.approx(mean_recall(values == "m"))
    assert women.result.delta.value == pytest.approx(women.score.value - women.rest.value)
    assert (men.score, men.rest) == (women.rest, women.score)
    assert men.result.delta.value == -women.result.delta.value
    assert (men.result.p_holm, men.result.family_size) == (women.result.p_holm, 1)
    assert (lost.name, lost.n_images, lost.note.kind) == ("", 7, NoteKind.NOT_RECORDED)
    assert (women.n_images, women.n_groups) == ((values == "f").sum(), (values == "f").sum())


@pytest.mark.parametrize("metric", ["accuracy", "macro_auroc", "recall/b", "group/accuracy"])
def test_other_metrics_are_scored_as_on_these_images_alone(metric):
    predictions, _ = draw_predictions()
    values = np.where(np.arange(240) % 5 < 2, "f", "m")
    women, _ = score(predictions, (SEX, values), metric=f"test/{metric}")
    assert women.score.low < women.score.value < women.score.high
    assert women.result.delta.value == pytest.approx(women.score.value - women.rest.value)


def test_a_class_with_few_groups_counts_on_neither_side():
    predictions, _ = draw_predictions()
    values = np.where(np.arange(240) // 3 % 2, "f", "m")
    values[predictions.labels == 2] = "m"
    values[[2, 5, 8, 11]] = "f"  # four groups of c
    women, men = score(predictions, (SEX, values))
    assert women.classes == men.classes == ("a", "b")
    unknown = values.copy().astype(object)
    unknown[14], unknown[20:] = "f", np.where(predictions.labels[20:] == 2, "", values[20:])
    women, _ = score(predictions, (SEX, unknown))[:2]
    assert women.classes == ("a", "b")  # what is not recorded is not the rest
    values[14] = "f"
    women, _ = score(predictions, (SEX, values))
    assert women.classes == ("a", "b", "c")


def test_too_few_groups_have_no_score_and_no_part_in_the_family():
    predictions, rng = draw_predictions()
    values = np.array(["x", "y", "z"], dtype=object)[rng.integers(0, 3, 240)]
    values[:9] = "rare"
    subgroups = {s.name: s for s in score(predictions, (Division("place"), values))}
    assert subgroups["rare"].note.kind is NoteKind.SMALL_SUBGROUP
    assert subgroups["rare"].result is None
    assert {subgroups[name].result.family_size for name in "xyz"} == {3}


def test_a_true_difference_is_claimed_and_p_is_adjusted_over_all_columns():
    predictions, rng = draw_predictions(600)
    values = np.where(np.arange(600) % 5 < 2, "f", "m")
    right = rng.random((6, 600)) < np.where(values == "f", 0.85, 0.5)
    predictions = make_predictions(predictions.labels, right)
    places = np.array(["x", "y", "z"])[rng.integers(0, 3, 600)]
    women, men, *others = score(predictions, (SEX, values), (Division("place"), places))
    assert (women.result.verdict, men.result.verdict) == ("better", "worse")
    assert women.result.p_holm == pytest.approx(4 * women.result.p)
    assert {s.result.verdict for s in others} == {"inconclusive"}


def test_images_of_one_lesion_count_once_in_an_interval():
    """Copies of every image change no score, and widen nothing, if they share its group."""
    predictions, _ = draw_predictions(n_seeds=1)
    values = np.where(np.arange(240) % 5 < 2, "f", "m")
    once, _ = score(predictions, (SEX, values))
    labels, copies = np.tile(predictions.labels, 2), np.tile(np.arange(240), 2)
    right = predictions.probabilities.argmax(axis=2) == predictions.labels
    twice = make_predictions(labels, np.tile(right, 2), copies)
    again, _ = score(twice, (SEX, np.tile(values, 2)))
    assert again.n_images == 2 * once.n_images and again.n_groups == once.n_groups
    widths = [s.result.delta.high - s.result.delta.low for s in (once, again)]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)
    apart, _ = score(make_predictions(labels, np.tile(right, 2)), (SEX, np.tile(values, 2)))
    assert apart.result.delta.high - apart.result.delta.low < 0.85 * widths[0]


def test_one_seed_is_of_this_network_alone():
    predictions, _ = draw_predictions(n_seeds=1)
    women, _ = score(predictions, (SEX, np.where(np.arange(240) % 5 < 2, "f", "m")))
    assert women.result.delta.low < women.result.delta.value < women.result.delta.high
    assert [note.kind for note in women.result.delta.notes] == [NoteKind.ONE_NETWORK]


def test_a_difference_is_rarely_claimed_where_there_is_none():
    table = simulate_subgroups(World(), n_seeds=2, n_repeats=20, metric=METRIC, n_draws=40)
    rates = table["p < 5 %"]
    assert rates["half":"least"].mean() < 0.13  # of 120: four standard errors above 5 %
    assert rates["any, after Holm"] < 0.2
    assert table["mean"].abs()["half":"few"].max() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_difference_is_claimed_at_its_level(n_seeds):
    table = simulate_subgroups(World(), n_seeds=n_seeds, n_repeats=400, metric=METRIC)
    assert table["p < 5 %"].max() < 0.09 and table["covers 0"].min() > 0.91


def test_sides_are_permuted_within_classes():
    """Of 20 ways to choose 3 of 6 groups 2 are as far apart; a class of its own moves nothing."""
    groups = np.arange(6)
    run = Predictions(np.eye(2)[[0, 0, 0, 1, 1, 1]], np.zeros(6, int), groups, 6)
    scores, is_inside = [make_score("accuracy", run, "ab")], groups < 3
    one = compute_side_p(scores, np.zeros(6, int), is_inside, n_permutations=4000)
    assert one == pytest.approx(0.1, abs=0.02)
    apart = compute_side_p(scores, (groups >= 3).astype(int), is_inside, n_permutations=20)
    assert apart == 1.0


# ---- what is asked for --------------------------------------------------------------------------


def test_columns_and_bands_are_read_from_words():
    words = ["sex,age:40,60", "localization"]
    assert parse_divisions(words) == (
        *(SEX, Division("age", (40.0, 60.0))),
        Division("localization"),
    )


@pytest.mark.parametrize("words", [["age:60,40"], ["sex,sex"], ["age:old"], ["age:"], [""]])
def test_columns_that_cannot_be_read_are_refused(words):
    with pytest.raises(ConfigError, match="--by"):
        parse_divisions(words)


def test_bands_are_declared_and_bounds_belong_to_the_upper_band():
    ages = pd.Series(["39.9", "40", "59", "60", ""])
    members, names = name_subgroups(ages, Division("age"))
    assert names == ["< 40", "40 to < 60", "≥ 60"]
    assert members.tolist() == ["< 40", "40 to < 60", "40 to < 60", "≥ 60", ""]
    with pytest.raises(ConfigError, match=r"--by size: it has 40 values.*--by size:27"):
        name_subgroups(pd.Series([str(n) for n in range(40)]), Division("size"))
    with pytest.raises(ConfigError, match="bounds need numbers, and it has f"):
        name_subgroups(pd.Series(["f", "1"]), Division("sex", (1.0,)))


# ---- from run folders ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache_dir):
    """Two runs on drawn images with a sex and an age, and the folder of the images."""
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("clinics"), np.random.default_rng(0)
    root = folder / "images"
    root.mkdir()
    rows = []
    for n in range(120):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{n}.png")
        label, sex, age = "ab"[n % 2], rng.choice(["f", "m"]), rng.integers(20, 90)
        rows.append({"image": f"{n}.png", "label": label, "sex": sex, "age": age})
    pd.DataFrame(rows).to_csv(root / "labels.csv", index=False)
    for seed in range(2):
        train(
            [
                *("dataset=table", f"dataset.root={root}", "dataset.name=clinics"),
                *("model.name=test_resnet", "device=cpu", "train=quick", "train.epochs=1"),
                *("dataset.image_size=32", "dataset.test_fraction=0.5", "train.batch_size=16"),
                *(f"cache_dir={cache_dir}", f"output_dir={folder / 'out'}", f"seed={seed}"),
                *("progress=false", "threads=1", "workers=1", "train.precision=fp32"),
            ]
        )
    return folder


def load(trained, words=("sex,age:50",), **more):
    (cell,) = make_cells(make_runs(read_runs(trained / "out")))
    return load_subgroups(cell, parse_divisions(words), METRIC, Memory(), margin=0.01, **more)


def test_metadata_are_read_from_the_dataset_or_from_a_table(trained, tmp_path):
    of_dataset = load(trained)
    assert [s.name for s in of_dataset] == ["f", "m", "< 50", "≥ 50"]
    assert sum(s.n_images for s in of_dataset[:2]) == 60
    frame = pd.read_csv(trained / "images" / "labels.csv")
    frame = frame.rename(columns={"image": "image_id"}).sample(frac=1, random_state=0)
    frame.to_csv(tmp_path / "metadata.csv", index=False)
    of_table = load(trained, metadata=tmp_path / "metadata.csv")
    assert repr(of_table) == repr(of_dataset)  # NaN is among them
    frame[frame["sex"] == "f"].to_csv(tmp_path / "part.csv", index=False)
    part = load(trained, words=["sex"], metadata=tmp_path / "part.csv")
    assert [s.name for s in part] == ["f", ""]  # an image without a row has no value
    text = f"part.csv has no row for {part[1].n_images} of 60 test images"
    assert text in write_note(part[1].note)


def test_metadata_that_cannot_be_had_are_refused(trained, tmp_path):
    with pytest.raises(ConfigError, match=r"clinics has no column place.* It has image, sex, age"):
        load(trained, words=["place"])
    pd.DataFrame({"image_id": ["x"], "sex": ["f"]}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match="names none of the 60 test images"):
        load(trained, words=["sex"], metadata=tmp_path / "other.csv")
    with pytest.raises(DataError, match="there is no such file"):
        load(trained, metadata=tmp_path / "nowhere.csv")
    labels = trained / "images" / "labels.csv"
    text = labels.read_text()
    try:
        labels.write_text(text.replace("0.png,a", "0.png,b", 1))
        with pytest.raises(DataError, match="does not hold the images, classes and groups"):
            load(trained)
        labels.unlink()
        with pytest.raises(DataError, match=r"(?s)no table at.*--metadata FILE"):
            load(trained)
    finally:
        labels.write_text(text)


def test_a_report_has_subgroups_only_where_they_are_asked_for(trained):
    runs = read_runs(trained / "out")
    plain = make_content(runs)
    assert plain.subgroups.empty and not describe_subgroups(plain)
    asked = make_content(runs, asked=Asked(parse_divisions(["sex"])))
    table = make_subgroup_table(asked)
    assert [row[0].text for row in table.rows] == ["sex f", "sex m"]
    assert asked.subgroups["family_size"].tolist() == [1, 1]
    assert "subgroup" in json.dumps(make_methods(asked))
    assert "subgroup" not in json.dumps(make_methods(plain))


def test_the_command_shows_subgroups(trained, capsys):
    main(["compare", str(trained / "out"), "--by", "sex,age:50", "--csv"])
    frame = pd.read_csv(pd.io.common.StringIO(capsys.readouterr().out))
    assert frame["subgroup"].tolist() == ["f", "m", "< 50", "≥ 50"]
    assert (frame["Δ low"] < frame["Δ"]).all() and (frame["Δ"] < frame["Δ high"]).all()
    for words, text in (
        (["--by", "sex", "--grid"], "--by goes with"),
        (["--metadata", "x.csv"], "is read by --by"),
        (["--by", "sex", "--metrics", "test/ece"], "there are no scores of subgroups by test/ece"),
    ):
        with pytest.raises(SystemExit):
            main(["compare", str(trained / "out"), *words])
        assert text in capsys.readouterr().err


def test_a_report_says_which_datasets_have_no_such_column(trained, tmp_path, capsys):
    write_record(tmp_path, seed=0, test=0.6, dataset="photos")
    folders = [str(trained / "out"), str(tmp_path)]
    options = ["--by", "sex", "--no-figures", "-o", str(tmp_path / "report")]

    def load(cell, *rest, **more):
        if cell.dataset == "photos":
            raise NoColumn("photos has no column sex")
        return load_subgroups(cell, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tlcnn.report.subgroups.load_subgroups", load)
        main(["report", *folders, *options])
    assert "--by sex: there is no such column in photos\n" in capsys.readouterr().out
    main(["report", folders[0], *options])
    assert "no such column" not in capsys.readouterr().out


def test_a_column_that_is_not_there_is_an_error_of_its_own(trained):
    with pytest.raises(NoColumn, match="clinics has no column place"):
        load(trained, words=["place"])


def test_a_run_that_holds_out_a_site_has_no_rows_by_site(tmp_path, capsys):
    for site in "AB":
        write_site(tmp_path, site, 0, 0.8)
    rows = [{"image_id": f"image{n:04d}", "site": "A", "sex": "fm"[n // 2 % 2]} for n in range(30)]
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    words = ["compare", str(tmp_path), "--metadata", str(tmp_path / "metadata.csv")]
    main([*words, "--by", "site,sex", "--csv"])
    frame = pd.read_csv(StringIO(capsys.readouterr().out))
    assert frame["by"].tolist() == ["sex"] * 4 and frame["the rest"].notna().all()
    with pytest.raises(SystemExit):
        main([*words, "--by", "site"])
    assert "no subgroups by site of runs that hold out one site" in capsys.readouterr().err


def test_values_of_metadata_are_texts():
    assert write_values(pd.Series(["f", None, "Unknown"])).tolist() == ["f", "", ""]
