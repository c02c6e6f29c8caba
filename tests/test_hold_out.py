"""`dataset.hold_out`: the images of a value are the test split, whole, and a report says so."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from statistics_data import write_run

from tlcnn.cli.main import main
from tlcnn.config.compose import Composer, compose_config
from tlcnn.config.hold_out import parse_hold_out
from tlcnn.data.hold_out import describe_pulled, find_held_out, split_held_out, write_values
from tlcnn.errors import ConfigError, TooFewClasses
from tlcnn.plan.describe import describe_plan, make_plan_record
from tlcnn.plan.plan import make_plan
from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.held_out import make_held_out_table
from tlcnn.report.methods import make_methods
from tlcnn.study.arms import load_arms
from tlcnn.study.cells import make_cells
from tlcnn.study.held_out import group_held_out
from tlcnn.study.runs import make_runs
from tlcnn.sweep.blocks import expand_each
from tlcnn.sweep.resolve import LeftOut, count_left_out

CLASSES = ("benign", "malignant")


def make_table(n_groups=90, seed=0):
    """An index's table: groups of one to three images, from sites A, B and C."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, n_groups)
    group = np.repeat(np.arange(n_groups), sizes)
    table = pd.DataFrame({"image_id": [f"i{n}" for n in range(len(group))]})
    table["label"] = rng.integers(0, 2, n_groups)[group]
    table["group"] = [f"g{n}" for n in group]
    table["split"] = ""
    table["site"] = np.array(["A", "B", "C"])[rng.integers(0, 3, n_groups)[group]]
    table["age"] = rng.integers(20, 90, len(group)).astype(float)
    return table


def split(table, text, val_fraction=0.2):
    options = {"name": "clinics", "classes": CLASSES, "val_fraction": val_fraction, "seed": 0}
    return split_held_out(table, parse_hold_out(text), **options)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("text", ["site:A", "site:[C,B]"])
def test_held_out_images_are_the_test_split_and_no_group_straddles(text, seed):
    table = make_table(seed=seed)
    table.loc[::17, "site"] = "B"  # some groups are of two sites
    is_held = table["site"].isin(parse_hold_out(text).values).to_numpy()
    splits = split(table, text)
    assert (splits[is_held] == "test").all()
    groups = table["group"].to_numpy()
    assert set(groups[splits == "test"]) == set(groups[is_held])  # and no image beyond these
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert set(groups[splits == one]).isdisjoint(groups[splits == other])
    rest = splits[splits != "test"]
    assert abs(np.mean(rest == "val") - 0.2) < 0.04
    n_pulled = int((splits[~is_held] == "test").sum())
    note = describe_pulled(table, parse_hold_out(text), "clinics")
    assert note.startswith(f"{n_pulled} image") if n_pulled else not note


def test_values_are_texts_and_what_is_not_recorded_has_none():
    column = pd.Series([80.0, np.nan, "unknown", "NA", " A ", 0.5], dtype=object)
    assert write_values(column).tolist() == ["80", "", "", "", "A", "0.5"]


def test_one_number_is_one_value_however_it_is_spelled():
    column = pd.Series(["40", "40.0", " 40.", 40.0, 40, "007", "7", "-0.0", "254837009.0", "1e5"])
    expected = ["40"] * 5 + ["007", "7", "0", "254837009", "1e5"]
    assert write_values(column).tolist() == expected
    table = pd.DataFrame({"age": ["40", "40.0", "41"]})
    for text in ("age:40", "age:40.0"):  # what older runs held out is found as they spelled it
        is_held = find_held_out(table, parse_hold_out(text), "clinics")
        assert is_held.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("place:A", "clinics has no column place."),
        ("site:Z", "no image has site Z. There are "),
        ("site:[A,Z]", "no image has site Z"),
        ("site:[A,B,C]", "leaves nothing for training"),
    ],
)
def test_what_cannot_be_held_out_is_refused_with_what_there_is(text, message):
    with pytest.raises(ConfigError, match="dataset.hold_out") as refused:
        split(make_table(), text)
    assert message in str(refused.value)


def test_one_class_on_either_side_is_refused():
    table = make_table()
    table["kind"] = np.where(table["label"] == 1, "x", "y")
    with pytest.raises(TooFewClasses, match=r"one class only in training \(benign\)"):
        split(table, "kind:x")
    table.loc[table["label"] == 0, "kind"] = "x"
    table.loc[table["site"] == "A", "kind"] = "z"
    table.loc[table["kind"] == "z", "label"] = 1
    table["group"] = table["image_id"]
    with pytest.raises(TooFewClasses, match=r"one class only in the test \(malignant\)"):
        split(table, "kind:z")


@pytest.mark.parametrize("text", ["site", ":A", "site:", "site:[]", "site:[A,]"])
def test_a_text_that_names_no_value_is_refused(text):
    with pytest.raises(ConfigError, match="write COLUMN:VALUE"):
        parse_hold_out(text)


@pytest.fixture
def words(tmp_path, cache_dir):
    """The words of a tiny run on drawn images of three sites."""
    root, rng = tmp_path / "images", np.random.default_rng(0)
    root.mkdir()
    table = make_table(40)
    for name in table["image_id"]:
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{name}.png")
    frame = table.drop(columns="split").rename(columns={"image_id": "image", "group": "patient"})
    frame.to_csv(root / "labels.csv", index=False)
    return [
        *("dataset=table", f"dataset.root={root}", "dataset.name=clinics"),
        *("dataset.options.group_column=patient", "model.name=test_resnet", "device=cpu"),
        *(f"cache_dir={cache_dir}", f"output_dir={tmp_path}", "dataset.image_size=32"),
    ]


def test_the_id_holds_what_is_held_out_and_the_plan_says_it(words):
    plain = make_plan(compose_config(words))
    held = make_plan(compose_config([*words, "dataset.hold_out=site:[B,A]"]))
    again = make_plan(compose_config([*words, "dataset.hold_out=site:[A, B]"]))
    assert "hold_out" not in plain.identity["dataset"]
    assert held.identity["dataset"]["hold_out"] == "site:[A,B]"
    assert len({plain.run_id, held.run_id}) == len({plain.cell_id, held.cell_id}) == 2
    assert again.run_id == held.run_id
    assert "tested" not in plain.run_name and "-test_A_B-s0" in held.run_name
    assert "test     site A or B, which training has not seen" in describe_plan(held)
    assert make_plan_record(held).settings["dataset.hold_out"] == "site:[B,A]"


@pytest.mark.parametrize("word", ["dataset.folds=3", "dataset.split=official"])
def test_two_rules_for_the_test_images_are_refused(words, word):
    with pytest.raises(ConfigError, match="both say which images are tested"):
        make_plan(compose_config([*words, "dataset.hold_out=site:A", word]))


def test_each_is_every_value_in_a_sweep_and_refused_in_one_run(words):
    cells = expand_each([[*words, "dataset.hold_out=site:each"]], Composer())
    assert [cell[-1] for cell in cells] == [f"dataset.hold_out='site:{s}'" for s in "ABC"]
    with pytest.raises(ConfigError, match="several values: add -m"):
        compose_config([*words, "dataset.hold_out=site:each"])
    with pytest.raises(ConfigError, match="every value in turn"):
        make_plan(compose_config([*words, "dataset.hold_out='site:each'"]))
    with pytest.raises(ConfigError, match="has no column place"):
        expand_each([[*words, "dataset.hold_out=place:each"]], Composer())


def test_each_spells_a_value_as_the_table_does(words, tmp_path):
    """A number of several spellings is one value, and a run has one id and folder for them."""
    path = tmp_path / "images" / "labels.csv"
    frame = pd.read_csv(path, dtype=str)
    frame["site"] = frame["site"].map({"A": "1.0", "B": "2", "C": "07"})
    frame.loc[frame.index[frame["site"] == "2"][0], "site"] = "2.0"
    frame.to_csv(path, index=False)
    cells = expand_each([[*words, "dataset.hold_out=site:each"]], Composer())
    assert [cell[-1] for cell in cells] == [
        f"dataset.hold_out='site:{s}'" for s in ("07", "1.0", "2")
    ]
    for cell, text in zip(cells, ({"07"}, {"1.0"}, {"2", "2.0"}), strict=True):
        plan = make_plan(compose_config(cell))
        is_held = plan.dataset.index.table["site"].isin(text)
        assert (plan.dataset.splits[is_held] == "test").all() and is_held.any()
    assert plan.identity["dataset"]["hold_out"] == "site:2"
    texts = ("site:1.0", "site:1", "site:[1,1.0]")
    plans = [make_plan(compose_config([*words, f"dataset.hold_out={text}"])) for text in texts]
    assert {plan.identity["dataset"]["hold_out"] for plan in plans} == {"site:1"}
    assert len({plan.run_dir for plan in plans}) == len({plan.run_id for plan in plans}) == 1


def test_a_sweep_says_why_it_leaves_a_value_out():
    error = TooFewClasses("one class only")
    cells = [LeftOut((f"seed={n}",), str(error), error.why) for n in range(2)]
    (line,) = count_left_out(cells)
    assert line.endswith("fewer than two classes would be trained or tested: 2 combinations")


def write_site(folder, site, seed, right, n=30, lr=1.0, **plan):
    """A finished run that holds out a site, and gets a share of its images right."""
    rng = np.random.default_rng([seed, ord(site[0])])
    labels = np.arange(n) % 2
    is_right = rng.random(n) < right
    predicted = np.where(is_right, labels, 1 - labels)
    logits = 4.0 * np.eye(4)[predicted]
    settings = {"dataset.hold_out": f"site:{site}", "dataset.kind": "table", "train.lr": lr}
    settings |= {"dataset.split": "auto", "dataset.folds": None, "dataset.split_seed": 0}
    settings |= {"dataset.val_fraction": 0.15, "dataset.test_fraction": 0.2}
    settings["dataset.options.group_column"] = "patient"
    settings |= plan.pop("settings", {})
    name = plan.get("source", ["r"])[-1]
    write_run(
        folder / "runs" / f"{name}-{site}{seed}-{lr:g}",
        seed,
        logits=logits,
        labels=labels,
        groups=range(n),
        settings=settings,
        split_sizes={"train": {"a": 60}, "test": {"a": n}},
        **{"cell_id": f"{name}{site}{lr:g}", **plan},
    )


def test_a_report_has_a_row_for_each_value_and_their_mean(tmp_path):
    for site, right in (("A", 0.8), ("B", 0.7), ("C", 0.75)):
        for seed in range(3):
            write_site(tmp_path, site, seed, right)
    runs = read_runs(tmp_path)
    content = make_content(runs)
    frame = content.held_out
    assert frame["tested"].tolist() == ["site A", "site B", "site C", "mean over 3 values of site"]
    values, mean = frame["value"][:3], frame.iloc[3]
    assert mean["value"] == pytest.approx(values.mean())
    # Nadeau and Bengio (2003): s^2 (1 / F + test / train) over F - 1 degrees of freedom, and more
    least = 4.303 * np.sqrt(values.var() * (1 / 3 + 30 / 60))
    assert mean["high"] < 1 and mean["high"] - mean["value"] >= least - 1e-6
    cells = {cell.key: cell for cell in make_cells(make_runs(runs))}
    arms = {key: load_arms(cell, [content.metric]) for key, cell in cells.items()}
    (group,) = group_held_out(cells, arms, content.metric)
    assert group.mean.fold_ratio == 30 / 60 and group.mean.fold_scores.shape == (3, 3)
    assert len(make_held_out_table(content).rows) == 4
    text = json.dumps(make_methods(content))
    assert "was tested on site A, which training has not seen" in text
    table = make_cell_table(runs, ["test/balanced_accuracy"])
    assert "dataset.hold_out" in [column.name for column in table.columns]


def test_one_held_out_value_has_no_mean_and_is_told_all_the_same(tmp_path):
    for seed in range(2):
        write_site(tmp_path, "A", seed, 0.8)
    content = make_content(read_runs(tmp_path))
    assert content.held_out["tested"].tolist() == ["site A"]
    assert "dataset.hold_out=site:A" in content.cells["recipe"].item()


def show_marked(table, metric="test/balanced_accuracy"):
    """The held-out values of the rows that are marked as the best."""
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    return [row["dataset.hold_out"].text for row in rows if row[metric].is_best], rows


def test_a_table_of_cells_has_the_mean_of_the_report_and_ranks_no_two_sites(tmp_path):
    for site, right in (("A", 0.9), ("B", 0.5)):
        for seed in range(2):
            write_site(tmp_path, site, seed, right)
            write_site(tmp_path, site, seed, right - 0.2, source=["imagenet"], k=5)
    runs = read_runs(tmp_path)
    table = make_cell_table(runs, ["val/balanced_accuracy", "test/balanced_accuracy"])
    marked, rows = show_marked(table)
    mean = "mean over 2 values of site"
    sites = ["site:A", "site:B", mean]
    assert [row["dataset.hold_out"].text for row in rows] == sites * 2
    assert marked == sites  # each among those that were tested on the same images
    assert "best of its dataset and held-out values" in table.best
    expected = make_content(runs).held_out.groupby("tested")["value"].get_group(mean)
    values = [
        row["test/balanced_accuracy"].value for row in rows if row["dataset.hold_out"].text == mean
    ]
    assert sorted(values) == sorted(expected)
    assert any("counts each of them once" in note for note in table.notes)
    by_site = make_cell_table(runs, ["test/balanced_accuracy"], group=["dataset.hold_out"])
    assert not show_marked(by_site)[0]
    shutil.rmtree(tmp_path / "runs" / "imagenet-A0-1")
    shutil.rmtree(tmp_path / "runs" / "imagenet-A1-1")
    grouped = make_cell_table(read_runs(tmp_path), ["test/balanced_accuracy"], group=["init"])
    column = [column.name for column in grouped.columns].index("test/balanced_accuracy")
    assert not any(row[column].is_best for row in grouped.rows)  # sites A and B, and B alone


def test_a_baseline_is_of_the_same_site_and_a_mean_is_not_compared(tmp_path):
    for site in "AB":
        for seed in range(2):
            write_site(tmp_path, site, seed, 0.8)
            write_site(tmp_path, site, seed, 0.6, source=["imagenet"], k=5)
    table = make_cell_table(read_runs(tmp_path), ["test/balanced_accuracy"], baseline=["k=0"])
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    compared = [
        row["dataset.hold_out"].text
        for row in rows
        if row["Δ test/balanced_accuracy"].value is not None
    ]
    assert compared == ["site:A", "site:B"]


@pytest.mark.parametrize(
    ("differs", "n_groups"),
    [({}, 1), ({"train": {"lr": 2}}, 2), ({"init": {"digest": "x"}}, 2), ({"seed": 1}, 1)],
)
def test_runs_from_a_run_of_each_site_are_one_row_where_only_the_site_differs(
    tmp_path, differs, n_groups
):
    for site in "AB":
        changed = differs if site == "B" else {}
        identity = {"dataset": {"manifest": site, "hold_out": f"site:{site}"}, "seed": 0}
        identity |= {"train": {"lr": 1}, "init": {"source": "random"}, **changed}
        write_site(tmp_path, site, 0, 0.6, source=["base"], identity=identity)
        parent = {"run_id": f"base-{site}0-1", "run_name": "base", "cell_id": "base", "k": 0}
        parent |= {"dataset": "d", "source": ["random"], "j": 0, "seed": 0, "manifest": site}
        settings = {"init.source": "run", "init.run": parent["run_id"]}
        more = {"source": ["random", "d"], "k": 3, "ancestry": [parent], "settings": settings}
        write_site(tmp_path, site, 0, 0.8, **more)
    frame = make_content(read_runs(tmp_path)).held_out
    n_means = frame["tested"].str.startswith("mean").sum()
    assert n_means == (2 if n_groups == 1 else 1)  # of the sources, and of the runs from them


def write_chain(folder, source_lr=1.0, sites="AB"):
    """Runs that hold out a site, each from a run that held out the same site."""
    for site in sites:
        identity = {"dataset": {"manifest": site, "hold_out": f"site:{site}"}, "seed": 0}
        identity |= {"train": {"lr": source_lr}, "init": {"source": "random"}}
        base = f"base{source_lr:g}"
        write_site(folder, site, 0, 0.6, lr=source_lr, source=[base], identity=identity)
        parent = {"run_id": f"{base}-{site}0-{source_lr:g}", "run_name": base, "cell_id": base}
        parent |= {"dataset": "d", "source": ["random"], "j": 0, "k": 0, "seed": 0}
        settings = {"init.source": "run", "init.run": parent["run_id"]}
        more = {"source": ["random", f"d{source_lr:g}"], "k": 3, "settings": settings}
        more |= {"ancestry": [{**parent, "manifest": site}], "cell_id": f"{site}{source_lr:g}"}
        write_site(folder, site, 0, 0.8, **more)


def test_each_row_names_its_source_and_a_mean_over_sources_names_none(tmp_path):
    write_chain(tmp_path)
    frame = make_content(read_runs(tmp_path)).held_out
    labels = dict(frame[frame["label"].str.contains("d1")][["tested", "label"]].to_numpy())
    for site in "AB":
        assert f"init.run=base1-{site}0-1" in labels[f"site {site}"]
    assert "init.run" not in labels["mean over 2 values of site"]


def test_one_site_in_two_spellings_has_no_mean(tmp_path):
    for site in ("1", "1.0", "2"):
        write_site(tmp_path, site, 0, 0.8)
    runs = read_runs(tmp_path)
    assert not make_content(runs).held_out["tested"].str.startswith("mean").any()
    _, rows = show_marked(make_cell_table(runs, ["test/balanced_accuracy"]))
    assert [row["dataset.hold_out"].text for row in rows] == ["site:1", "site:1.0", "site:2"]


def test_means_of_two_recipes_of_the_source_are_told_apart_and_are_in_no_pivot(tmp_path, capsys):
    for source_lr in (1.0, 2.0):
        write_chain(tmp_path, source_lr)
    mean = "mean over 2 values of site"
    _, rows = show_marked(make_cell_table(read_runs(tmp_path), ["test/balanced_accuracy"]))
    means = [row for row in rows if row["dataset.hold_out"].text == mean and row["k"].value == 3]
    sources = [row["init.run"].text for row in means]
    assert sources == ["base1-A0-1, …", "base2-A0-2, …"]
    assert {row["init.run"].value for row in rows if row["k"].value == 0} == {None}
    main(["compare", str(tmp_path), "--rows", "k", "--columns", "dataset.hold_out"])
    assert "site:A" in (shown := capsys.readouterr().out) and "mean over" not in shown


@pytest.mark.parametrize("interval", ["full", "seeds", "none"])
def test_a_mean_has_an_interval_only_where_it_may_be_over_values(tmp_path, interval):
    for site in "AB":
        for seed in range(3):
            write_site(tmp_path, site, seed, 0.8)
    runs = read_runs(tmp_path)
    table = make_cell_table(runs, ["test/balanced_accuracy"], interval=interval)
    _, rows = show_marked(table)
    text = rows[-1]["test/balanced_accuracy"].text
    assert ("[" in text, "±" in text) == (interval == "full", interval == "none")
    notes = [note for note in table.notes if "counts each of them once" in note]
    assert ["Its interval is" in note for note in notes] == [interval == "full"]


def test_runs_whose_sources_are_not_there_are_not_joined(tmp_path):
    for site in "AB":
        parent = {"run_id": f"gone{site}", "run_name": "base", "cell_id": "base", "k": 0}
        parent |= {"dataset": "d", "source": ["random"], "j": 0, "seed": 0, "manifest": site}
        settings = {"init.source": "run", "init.run": parent["run_id"]}
        more = {"source": ["random", "d"], "k": 3, "ancestry": [parent], "settings": settings}
        write_site(tmp_path, site, 0, 0.8, **more)
    assert not make_content(read_runs(tmp_path)).held_out["tested"].str.startswith("mean").any()
