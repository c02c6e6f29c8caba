"""`tlcnn analyse`: which networks it compares, what it records, and how it goes on."""

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import analysis_stub
import numpy as np
import pandas as pd
import pytest
import torch
from records_made import write_record
from runs import tiny_config

import tlcnn
from tlcnn import layers
from tlcnn.cli import analyse as analyse_command
from tlcnn.cli.main import main
from tlcnn.device import count_cores
from tlcnn.errors import ConfigError, DataError, RunLocked, WeightsError
from tlcnn.layers import analyse as analyse_file
from tlcnn.layers.analyse import compute_analysis
from tlcnn.layers.networks import build_subject
from tlcnn.layers.roles import Candidates, find_bases, make_analysis
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan
from tlcnn.records.measures import (
    AnalysisRecord,
    Reading,
    find_measures_dir,
    read_measure,
    write_measure,
)
from tlcnn.records.open_run import open_run
from tlcnn.records.read import read_runs
from tlcnn.report.analysis_table import write_analysis_summary
from tlcnn.run.run import run as train
from tlcnn.storage import hold_lock
from tlcnn.study.runs import make_runs
from tlcnn.training.interrupt import StopRequest

CHAIN = [
    *("init=task", "init.task=synthetic_source", "init.parent=random", "init.through=layer2"),
    *("init.task_dataset.options.n_images=140", "init.task_dataset.options.size=32"),
]
PLANNED = {
    "base": ["seed=0"],
    "next": ["seed=1"],
    "other recipe": ["seed=0", "train.lr=0.01"],
    "child": [*CHAIN, "seed=0", "freeze=stem"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache_dir):
    """The folders of four tiny runs, by name, and of the run that the child starts from."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("study")
    plans = {
        name: make_plan(tiny_config(folder, cache_dir, "train.epochs=1", *words))
        for name, words in PLANNED.items()
    }
    for plan in plans.values():
        train(plan)
    parent = plans["child"].parent
    return {name: plan.run_dir for name, plan in plans.items()} | {"source": parent.run_dir}


@pytest.fixture
def outputs(trained, tmp_path):
    """A copy of the study, without records of measures."""
    shutil.copytree(trained["child"].parent, tmp_path / "runs")
    return tmp_path


def list_runs(folder):
    return {Path(run.folder).name: run for run in make_runs(read_runs(folder))}


def analyse_run(run_dir, *, against="self", n_images=40, measures=("movement",)):
    runs = list_runs(run_dir.parent)
    run = runs[run_dir.name]
    bases = find_bases(run, against, Candidates())
    versions = dict.fromkeys(measures, 1)
    return make_analysis(run, bases, versions, n_images=n_images)


def test_a_trial_of_a_search_is_analysed_where_its_folder_is_named(trained, monkeypatch):
    def read(*paths):
        return read_runs(*paths).assign(is_trial=True)

    monkeypatch.setattr("tlcnn.records.read.read_runs", read)
    options = argparse.Namespace(runs=[str(trained["child"])], where=[], with_random=False)
    (chosen,) = analyse_command._choose_runs(options)
    assert chosen.run_id == list_runs(trained["child"].parent)[trained["child"].name].run_id
    options.runs = [str(trained["child"].parent.parent)]
    with pytest.raises(DataError, match="no finished run with transferred units"):
        analyse_command._choose_runs(options)


@pytest.fixture
def measures(monkeypatch):
    """Measures that count their calls; `broken` fails."""
    calls = []

    def load_measure(name):
        def compute(subject):
            calls.append(name)
            if name == "broken":
                raise IndexError("a bug")
            value = float(subject.features("final", "train")[1].sum())
            return [Reading(name, "sum", 1, value, note=f"of {name}")]

        return compute

    monkeypatch.setattr(analyse_file, "load_measure", load_measure)
    monkeypatch.setattr(layers, "MEASURES", {"first": 1, "second": 1, "broken": 1})
    monkeypatch.setattr(layers, "DEFAULT", ("first",))
    return calls


# ---- which networks and images ------------------------------------------------------------------


def test_own_and_twin_are_runs_from_random_weights_with_the_recipe_of_the_run(trained):
    runs = list_runs(trained["child"].parent)
    by_name = {name: runs[folder.name] for name, folder in trained.items()}
    ids = {name: run.run_id for name, run in by_name.items()}

    def find(name, against="self"):
        return [run.run_id for run in find_bases(by_name[name], against, Candidates())]

    # Not the other recipe, and not the other dataset.
    assert find("child") == [ids["base"], ids["next"]]
    assert find("base") == [ids["next"]] and find("next") == [ids["base"]]
    assert find("other recipe") == find("source") == []
    for before, expected in (("next", ["base", "next"]), ("base", ["next", "base"])):
        ancestry = (by_name[before].plan.as_ancestor(),)  # own is independent of the source
        plan = replace(by_name["child"].plan, ancestry=ancestry)
        bases = find_bases(replace(by_name["child"], plan=plan), "self", Candidates())
        assert [base.run_id for base in bases] == [ids[name] for name in expected]
    assert find("child", "random") == []
    assert find("child", ids["next"]) == [ids["next"], ids["base"]]
    assert find("child", str(trained["other recipe"])) == [ids["other recipe"]]
    with pytest.raises(ConfigError, match="has other images, classes, splits or sizes"):
        find("child", str(trained["source"]))
    with pytest.raises(WeightsError, match="there is no run beef"):
        find("child", "beef")
    identity = dict(by_name["child"].plan.identity)
    stored = {**identity, "train": {**identity["train"], "features": "close"}}
    child = replace(by_name["child"], plan=replace(by_name["child"].plan, identity=stored))
    assert find_bases(child, "self", Candidates())[0].run_id == ids["base"]


def test_the_networks_are_those_that_their_roles_say(trained):
    subject = build_subject(analyse_run(trained["child"]), "cpu", Memory())
    assert list(subject.networks) == ["start", "final", "random", "own", "twin"]
    assert not any(network.training for network in subject.networks.values())
    states = {role: network.state_dict() for role, network in subject.networks.items()}
    source, base = (open_run(trained[name]).model().state_dict() for name in ("source", "base"))
    transferred = subject.unit_map.tensors_of(1, subject.k)
    assert subject.k == 3 and all(torch.equal(states["start"][n], source[n]) for n in transferred)
    fresh = make_plan(open_run(trained["base"]).config).config.seed
    drawn = tlcnn.model.build.build_model("test_resnet", n_classes=subject.n_classes, seed=fresh)
    above = subject.unit_map.tensors_of(subject.k + 1, len(subject.unit_map))
    assert all(torch.equal(states["start"][n], drawn.state_dict()[n]) for n in above)
    assert all(torch.equal(states["own"][n], base[n]) for n in base)
    weights = [n for n in above if n.endswith("conv1.weight")]
    assert weights and not any(
        torch.equal(states["random"][n], states["start"][n]) for n in weights
    )
    means = [n for n in base if n.endswith("running_mean")]
    assert all(states["random"][n].abs().max() > 0 for n in means)


def test_the_images_depend_on_their_ids_alone(trained):
    few, more = (
        build_subject(analyse_run(trained[name], n_images=n), "cpu", Memory())
        for name, n in (("child", 20), ("next", 40))
    )
    assert (len(few.images["train"]), len(more.images["train"])) == (20, 40)
    assert set(few.images["train"].rows) < set(more.images["train"].rows)
    assert np.array_equal(few.images["test"].rows, more.images["test"].rows)
    table = open_run(trained["child"]).dataset().index.table
    for split, images in few.images.items():
        assert (np.diff(images.rows) > 0).all()
        assert few.groups[split].tolist() == table["group"].iloc[images.rows].tolist()
        assert few.labels(split).tolist() == table["label"].iloc[images.rows].tolist()


def test_the_id_is_of_what_decides_the_numbers(trained):
    def id_of(name="child", **options):
        return analyse_run(trained[name], **options).record.analysis_id

    ids = [id_of(), id_of("base"), id_of(n_images=30), id_of(against="random")]
    assert len({*ids, id_of(against=str(trained["next"]))}) == 5
    assert id_of(measures=("movement", "another")) == ids[0]
    assert id_of(n_images=10**6) == id_of(n_images=10**5)  # there are no more images
    assert id_of(against=str(trained["base"])) == ids[0]  # the same networks


def test_runs_without_a_network_are_left_out(tmp_path, capsys):
    write_record(tmp_path, seed=0, test=0.5, imported=True)
    with pytest.raises(SystemExit) as caught:
        main(["analyse", str(tmp_path)])
    assert caught.value.code == DataError.exit_code
    assert "its predictions were imported" in capsys.readouterr().err


# ---- records and the way back -------------------------------------------------------------------


def command(outputs, *words):
    main(["analyse", str(outputs), "--images", "40", "--device", "cpu", *words])


def test_a_record_is_written_once_and_read_as_a_table(outputs, trained, measures, capsys):
    command(outputs)
    command(outputs)
    assert measures == ["first"]  # once, and only the run with transferred units
    shown = capsys.readouterr()
    assert "first sum" in shown.out and "first sum: of first" in shown.out
    assert "[1/1]" in shown.err and "child" not in shown.err
    (row,) = tlcnn.read_measures(outputs).to_dict("records")
    expected = {"k": 3, "j": 1, "seed": 0, "measure": "first", "variant": "sum", "unit": "stem"}
    assert expected.items() <= row.items() and row["value"] > 0 and np.isnan(row["low"])
    assert (row["source"], row["note"]) == ("random-synthetic_source", "of first")
    assert row["against"] == trained["base"].name.rsplit("-", 1)[1]
    assert read_runs(outputs)["state"].tolist() == ["done"] * 5  # records are no runs
    command(outputs, "--with-random")
    assert len(tlcnn.read_measures(outputs)) == 5
    assert len(tlcnn.read_measures(outputs / "runs" / trained["next"].name)) == 1


def test_a_wide_table_is_a_short_one_of_measures_and_the_folder_is_named(
    outputs, trained, measures, monkeypatch, capsys
):
    """A log has 100 columns: the first and last unit's value, the lowest and the highest."""

    def compute(subject):
        numbered = [(v, n) for v in range(9) for n in (1, 2, 3)]
        return [
            Reading("first", f"variant {v}", n, (0.5, 0.25, 0.75)[n - 1] + v, note=f"of {v} " * 40)
            for v, n in numbered
        ]

    monkeypatch.setattr(analyse_file, "load_measure", lambda name: compute)
    command(outputs)
    *lines, place = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 and "every unit, with intervals" in lines[-1]
    assert "first variant 8      8.5000     8.7500  8.2500 (stage1)  8.7500 (stage2)" in lines
    (folder,) = outputs.glob("measures/*/*/")
    assert place == str(folder)
    command(outputs, "--csv")
    shown = capsys.readouterr()
    assert "every unit" not in shown.out and f"{folder}" in shown.err
    assert len(shown.out.splitlines()) == 1 + 3


@pytest.mark.parametrize(("width", "text"), [(100, "denselayer24)"), (70, "0.7500 (unit 2)")])
def test_a_short_table_has_numbers_of_units_where_names_are_too_wide(width, text):
    unit = "denseblock4.denselayer24"
    rows = pd.DataFrame({"n": [1, 2], "unit": ["stem", unit], "value": [0.5, 0.75]})
    rows = rows.assign(analysis="a", against="", measure="cka", variant="own", note="")
    shown = write_analysis_summary(rows, {"a": "run"}, width)
    assert text in shown and max(map(len, shown.splitlines())) <= width
    assert "units stem to" in shown and unit in shown


def test_a_new_measure_and_a_new_version_compute_only_themselves(outputs, measures, monkeypatch):
    command(outputs)
    (first,) = outputs.glob("measures/*/*/first.json")
    content = first.read_bytes()
    command(outputs, "--measures", "first,second")
    assert measures == ["first", "second"] and first.read_bytes() == content
    monkeypatch.setitem(layers.MEASURES, "second", 2)
    command(outputs, "--measures", "first,second")
    assert measures == ["first", "second", "second"]


def test_a_measure_or_a_run_that_fails_does_not_stop_the_others(
    outputs, trained, measures, capsys
):
    (outputs / "runs" / trained["source"].name).rename(outputs / "gone")
    words = ["--measures", "broken,second", "--with-random", "--where", "dataset=synthetic"]
    with pytest.raises(SystemExit) as caught:
        command(outputs, *words)
    assert caught.value.code == 1  # of two kinds: 70 for the bug, 2 for the weights
    assert measures == ["broken", "second"] * 3
    error = capsys.readouterr().err
    assert f"{trained['child'].name}  failed: WeightsError: the network before the first" in error
    assert trained["source"].name in error and "Put the folder of that run back" in error
    assert "the measure broken of" in error and "4 of 4 runs could not be analysed" in error
    assert tlcnn.read_measures(outputs)["measure"].tolist() == ["second"] * 3


def test_a_damaged_record_is_one_line_and_is_computed_again(outputs, measures, capsys):
    command(outputs, "--with-random", "--where", "dataset=synthetic_source")
    (path,) = outputs.glob("measures/*/*/first.json")
    whole = path.read_text()
    for damaged in (whole.replace('"n": 1', '"n": 2'), whole[:40], "[]"):
        path.write_text(damaged)
        capsys.readouterr()
        assert tlcnn.read_measures(outputs).empty
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith(str(path)) and message.endswith("its readings are left out")
        command(outputs, "--with-random", "--where", "dataset=synthetic_source")
        assert path.read_text() == whole
    (path.parent / "analysis.json").write_text("{}")
    assert tlcnn.read_measures(outputs).empty


KILL = """
import os, signal, sys
from tlcnn import layers
from tlcnn.cli import analyse as analyse_command
from tlcnn.cli.main import main
from tlcnn.layers import analyse
load = layers.load_measure
def load_measure(name):
    if name == "second":
        os.kill(os.getpid(), signal.SIGKILL)
    return load(name)
analyse.load_measure = load_measure
layers.MEASURES |= {"second": 1}
main(sys.argv[1:])
print("torch" in sys.modules)
"""


def test_a_killed_analysis_goes_on_and_a_finished_one_is_skipped_without_torch(
    outputs, trained, monkeypatch, one_core
):
    run_dir = outputs / "runs" / trained["child"].name
    folder = find_measures_dir(run_dir)
    words = ["analyse", str(run_dir), "--device", "cpu", "--measures", "movement,second"]

    def start():
        command = [sys.executable, "-c", KILL, *words]
        return subprocess.run(command, capture_output=True, text=True)

    def read_all():
        return {path.name: path.read_bytes() for path in folder.rglob("*.json")}

    assert start().returncode == -9
    assert read_all().keys() == {"analysis.json", "movement.json"}
    monkeypatch.setattr(layers, "MEASURES", {"movement": 1, "second": 1})
    monkeypatch.setattr(analyse_file, "load_measure", lambda name: layers.load_measure("movement"))
    main(words)
    records = read_all()
    assert len(records) == 3
    skipped = start()
    assert skipped.stdout.endswith("False\n") and "movement weights" in skipped.stdout
    shutil.rmtree(folder)
    main(words)
    assert read_all() == records


def compute_in_pool(monkeypatch, stop, *words, workers=1):
    monkeypatch.setattr(analyse_file, "try_analysis", analysis_stub.try_analysis)
    waiting = dict(enumerate(words))
    outcomes = dict(analyse_file._compute_in_pool(waiting, "cpu", False, stop, workers))
    assert not multiprocessing.active_children()
    return [outcomes[number] for number in range(len(words))]


def test_a_process_that_dies_is_replaced_and_fails_alone(monkeypatch):
    words = ["fine", "die", "fail", "fine"]
    outcomes = compute_in_pool(monkeypatch, StopRequest(), *words)
    assert [outcome.code for outcome in outcomes] == [0, 70, 2, 0]
    assert "out of memory perhaps" in outcomes[1].error
    assert outcomes[3].kind == str(count_cores())


def test_a_signal_ends_all_processes_at_once(monkeypatch, tmp_path):
    stop, begun = StopRequest(), [tmp_path / "a", tmp_path / "b"]

    def wait_and_stop():
        while not all(path.is_file() for path in begun):
            time.sleep(0.05)
        stop.signal_name = "SIGTERM"

    threading.Thread(target=wait_and_stop).start()
    outcomes = compute_in_pool(monkeypatch, stop, *map(str, begun), "fine", workers=2)
    assert all(outcome.was_stopped for outcome in outcomes)


def test_what_another_process_computes_is_left_to_it_or_waited_for(outputs, trained, measures):
    analysis = analyse_run(outputs / "runs" / trained["child"].name, measures=("first",))
    analysis.folder.mkdir(parents=True)

    def give_up():
        raise InterruptedError

    with hold_lock(analysis.folder / "lock", on_wait=give_up, check_stop=give_up):
        with pytest.raises(RunLocked, match="another process analyses"):
            compute_analysis(analysis, "cpu", Memory(), is_patient=False)
        with pytest.raises(InterruptedError):
            compute_analysis(analysis, "cpu", Memory(), check_stop=give_up)
    assert not measures


def test_the_analysis_with_the_most_networks_and_images_is_read(trained, outputs):
    record = analyse_run(trained["next"]).record
    few = {"start": "a", "final": "b", "random": "c"}
    own = {**few, "own": "d"}
    cases = {  # value: networks, images, against
        1.0: (few, 40, ""),
        2.0: (own, 30, "x"),
        3.0: (own, 40, "x"),
        4.0: (own, 10, "y"),
    }
    for value, (networks, n_images, against) in cases.items():
        made = replace(record, networks=networks, n_images=n_images, against=against)
        place = find_measures_dir(outputs / "runs" / trained["next"].name) / made.analysis_id
        place.mkdir(parents=True)
        (place / "analysis.json").write_text(json.dumps(vars(made)))
        write_measure(place, "first", 1, [Reading("first", "", 2, value, low=float("nan"))])
        if value == 1.0:
            assert tlcnn.read_measures(outputs)["value"].tolist() == [1.0]
            write_measure(place, "second", 1, [Reading("second", "", 2, 5.0)])
    frame = tlcnn.read_measures(outputs)
    assert sorted(frame["value"]) == [3.0, 4.0, 5.0]
    assert frame["unit"].tolist() == [record.units[1]] * 3 and frame["low"].isna().all()
    with pytest.raises(DataError, match="there is no folder"):
        tlcnn.read_measures(outputs / "nothing")
    with pytest.raises(ValueError, match="JSON"):
        write_measure(place, "first", 1, [Reading("first", "", 2, float("inf"))])
    assert read_measure(place, "first").readings[0].value == 4.0
    assert isinstance(record, AnalysisRecord)


def test_wrong_options_are_one_clear_error(outputs, capsys):
    for words, text in (
        (["--measures", "ckaa"], "--measures=ckaa is not allowed"),
        (["--workers", "0"], "--workers 0 is not allowed: at least 1"),
        (["--images", "1"], "--images 1 is not allowed: at least 2"),
        (["--where", "k=7"], "no run has it"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["analyse", str(outputs), *words])
        assert caught.value.code == 1 and text in capsys.readouterr().err


def test_a_place_without_runs_is_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for place, text in (
        ("ouputs", "ouputs is no folder, and as a run: there is no run ouputs"),
        ("empty", "there are no runs in empty. Name an output folder"),
    ):
        with pytest.raises(SystemExit):
            main(["analyse", place])
        (message,) = capsys.readouterr().err.splitlines()
        assert text in message


def test_a_run_is_named_by_its_folder_its_id_or_the_beginning_of_it(
    outputs, trained, measures, monkeypatch, capsys
):
    (outputs / "outputs").symlink_to(outputs)
    monkeypatch.chdir(outputs)
    run_id = trained["next"].name.rsplit("-", 1)[1]
    for name in (run_id, run_id[:6], trained["next"].name, f"outputs/runs/{trained['next'].name}"):
        command(name)
        assert "first sum" in capsys.readouterr().out
    assert measures == ["first"]
    for against, text in (
        ("nowhere", "there is no run nowhere in"),
        (trained["source"].name, "--against"),
    ):
        with pytest.raises(SystemExit):
            command(run_id, "--against", against)
        (message,) = capsys.readouterr().err.splitlines()
        assert text in message
