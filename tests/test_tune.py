"""Searches of settings: spaces, proposals, pruning, kills, several shells, what is compared."""

import json
import math
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
from runs import tiny_command

from tlcnn.cli.main import main
from tlcnn.config.compose import Composer, compose_config
from tlcnn.errors import ConfigError, SweepFailed
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan
from tlcnn.records.left_out import describe_left_out
from tlcnn.records.read import read_runs
from tlcnn.records.search import Trial, read_search
from tlcnn.report.assemble import make_content
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.glossary import write_lead
from tlcnn.report.methods import make_methods
from tlcnn.report.searches import make_search_table
from tlcnn.run.job import Outcome
from tlcnn.run.run import run
from tlcnn.study.cells import make_cells
from tlcnn.study.runs import make_runs
from tlcnn.sweep.drive import Request, drive, launch_here
from tlcnn.sweep.drive_search import drive_search
from tlcnn.sweep.journal import Journal
from tlcnn.sweep.options import SearchOptions
from tlcnn.sweep.propose import propose
from tlcnn.sweep.search_text import describe_search
from tlcnn.sweep.space import (
    draw_point,
    list_points,
    make_is_active,
    order_space,
    parse_conditions,
    parse_setting,
)
from tlcnn.sweep.status import describe_status, read_status
from tlcnn.sweep.study_record import find_studies, read_study
from tlcnn.sweep.trials import choose_best, choose_survivors, list_rungs
from tlcnn.training.fit import Fit

LR = "train.lr=tag(log, interval(1e-4,1e-1))"
EPOCHS = 9


@pytest.fixture(scope="module")
def composer():
    return Composer()


def make_space(composer, *words, **when):
    conditions = parse_conditions({k.replace("__", "."): v for k, v in when.items()}, composer)
    parsed = [composer.parse(word) for word in words]
    return order_space([parse_setting(o, conditions.get(o.get_key_element())) for o in parsed])


# ------------------------------------------------------------------------------------- the space


def test_an_interval_is_drawn_on_its_scale(composer):
    (rate,) = make_space(composer, LR)
    assert [rate.draw(share) for share in (0, 1 / 3, 2 / 3)] == ["0.0001", "0.001", "0.01"]
    (linear,) = make_space(composer, "train.mixup=interval(0,2)")
    assert linear.draw(0.25) == "0.5"
    (whole,) = make_space(composer, "train.head_epochs=interval(1,4)")
    assert {whole.draw(share / 100) for share in range(100)} == {"1", "2", "3", "4"}
    (ordered,) = make_space(composer, "train.label_smoothing=range(0.1,0.5,0.1)")
    assert ordered.values == ("0.1", "0.2", "0.3", "0.4") and ordered.is_ordered


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.epochs=choice(2,4)", "train.epochs=.* cannot be searched: .* the budget"),
        ("train.select=choice(nll,brier)", "it decides which trial is the best"),
        ("train.lr=interval(0.1,0.1)", "LOW < HIGH"),
        ("train.lr=tag(log, interval(0,1))", "0 < LOW < HIGH"),
        ("train.lr=tag(log, choice(1,2))", "only an interval can have a tag"),
        ("train.lr=tag(cubic, interval(1,2))", "the one tag of an interval is log"),
        ("train.head_epochs=tag(log, interval(1,8))", "no log scale: use choice"),
        ("train.head_epochs=interval(1,1.9)", "two whole numbers between LOW and HIGH"),
        ("train.head_epochs=interval(1.2,1.8)", "two whole numbers between LOW and HIGH"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused(composer, word, message):
    with pytest.raises(ConfigError, match=message):
        make_space(composer, word)


def test_a_setting_with_a_condition_exists_only_there(composer):
    space = make_space(
        composer,
        "train.momentum=choice(0.8,0.9)",
        "train.optimizer=choice(adamw,sgd)",
        train__momentum="train.optimizer=sgd",
    )
    points = list(list_points(space, make_is_active([], composer)))
    assert points == [
        {"train.optimizer": "adamw"},
        {"train.optimizer": "sgd", "train.momentum": "0.8"},
        {"train.optimizer": "sgd", "train.momentum": "0.9"},
    ]
    arm = make_is_active(["train.schedule=head_first"], composer)
    when = {"train__head_epochs": "train.schedule=head_first,gradual"}
    space = make_space(composer, "train.head_epochs=range(1,3)", **when)
    assert len(list(list_points(space, arm))) == 2
    assert list(list_points(space, make_is_active([], composer))) == [{}]


def test_conditions_that_cannot_be_are_refused(composer):
    with pytest.raises(ConfigError, match="Did you mean 'train.optimizer'"):
        parse_conditions({"train.momentum": "train.optimiser=sgd"}, composer)
    circle = {"train__momentum": "train.lr=1", "train__lr": "train.momentum=0.9"}
    with pytest.raises(ConfigError, match="depend on each other"):
        make_space(composer, "train.momentum=choice(0.9)", "train.lr=choice(1)", **circle)


# ---------------------------------------------------------------------------------- proposals


def make_trial(number, lr, score, state="done"):
    return Trial(number, {"train.lr": lr}, f"run{number}", state, score, 0.0, 3, 3)


def propose_points(space, method, history=(), *, n=4, seed=0):
    options = {"seed": seed, "n": n, "is_active": lambda *_: True}
    return propose(space, method, history, find_run_id=str, **options)


def test_arms_that_share_a_setting_try_the_same_values(composer):
    one = make_space(composer, LR)
    two = make_space(composer, "train.mixup=interval(0,1)", LR)
    for number in range(5):
        points = [draw_point(s, lambda *_: True, seed=3, number=number) for s in (one, two)]
        assert points[0]["train.lr"] == points[1]["train.lr"]
    assert propose_points(one, "random", seed=1) != propose_points(one, "random", seed=2)


def test_no_values_are_proposed_twice_and_a_small_space_ends(composer):
    space = make_space(composer, "train.lr=choice(1,2,3)", "train.mixup=choice(0,1)")
    history: list[Trial] = []
    while points := propose_points(space, "random", history):
        history += [Trial(len(history) + i, p, "", "done", 0.5) for i, p in enumerate(points)]
    assert len(history) == 6 == len({tuple(t.values.items()) for t in history})


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_values_of_the_same_run_are_proposed_once(composer, method):
    space = make_space(composer, "train.lr=choice(1,2,3,4)", "train.mixup=interval(0,1)")
    options = {"seed": 0, "is_active": lambda *_: True, "find_run_id": lambda p: p["train.lr"]}
    first = propose(space, method, (), n=3, **options)
    assert len({point["train.lr"] for point in first}) == 3
    history = [Trial(i, p, p["train.lr"], "done", 0.5) for i, p in enumerate(first)]
    (last,) = propose(space, method, history, n=3, **options)
    assert last["train.lr"] not in {point["train.lr"] for point in first}


def test_a_grid_needs_lists(composer):
    with pytest.raises(ConfigError, match="has no list of values, which a grid needs"):
        propose_points(make_space(composer, LR), "grid")


def make_history(n=12):
    """Trials of a score with its peak at a rate of 0.003."""
    rates = [10 ** -(1 + 3 * i / (n - 1)) for i in range(n)]
    return [make_trial(i, repr(r), -abs(math.log10(r / 0.003))) for i, r in enumerate(rates)]


@pytest.mark.parametrize("method", ["tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_samplers_learn_and_are_pure(composer, method):
    pytest.importorskip("optuna")
    space = make_space(composer, LR)
    history = [
        *make_history(),
        make_trial(12, "0.09", None, "diverged"),
        make_trial(13, "0.05", 0.1, "pruned"),
    ]
    points = propose_points(space, method, history, n=6)
    assert points == propose_points(space, method, history, n=6)
    distances = [abs(math.log10(float(p["train.lr"]) / 0.003)) for p in points]
    assert sorted(distances)[3] < 0.4, "most of them are near the peak"
    assert points != propose_points(space, method, history, n=6, seed=1)


def test_samplers_propose_from_lists_and_conditions(composer):
    pytest.importorskip("optuna")
    space = make_space(
        composer,
        "train.optimizer=choice(adamw,sgd)",
        "train.momentum=range(0.5,1.0,0.1)",
        "train.head_epochs=interval(1,30)",
        train__momentum="train.optimizer=sgd",
    )
    is_active = make_is_active([], composer)
    history = [
        Trial(n, draw_point(space, is_active, seed=0, number=n), "", "done", n / 10)
        for n in range(8)
    ]
    points = propose(space, "tpe", history, seed=0, n=6, is_active=is_active, find_run_id=str)
    assert len(points) == 6
    assert {"train.momentum" in trial.values for trial in history} == {True, False}
    for point in points:
        assert ("train.momentum" in point) == (point["train.optimizer"] == "sgd")
        assert 1 <= int(point["train.head_epochs"]) <= 30


# ----------------------------------------------------------------------------------- pruning


def test_the_trials_that_survive_pruning():
    scores = {n: n / 10 for n in range(9)}
    assert choose_survivors("halving", scores, [6, 7, 8], 3) == {6, 7, 8}
    assert choose_survivors("halving", scores, [0, 1, 2], 3) == set()
    assert choose_survivors("median", scores, [6, 7, 8], 3) == {6, 7, 8}
    assert choose_survivors("median", {**scores, 6: 0.1}, [6, 7, 8], 3) == {7, 8}
    assert choose_survivors("median", scores, [0, 1, 2], 3) == {0, 1, 2}, "nothing to compare with"
    assert choose_survivors("median", {**scores, 7: None}, [6, 7, 8], 3) == {6, 8}
    assert list_rungs(30, "halving") == [4, 10] and list_rungs(1, "median") == []


def test_the_best_is_finished_and_the_first_of_equals():
    trials = [
        make_trial(0, "1", 0.5),
        make_trial(1, "2", 0.9, "pruned"),
        make_trial(2, "3", 0.5),
        make_trial(3, "4", None),
    ]
    assert choose_best(trials).number == 0
    assert choose_best(trials[1:2]) is None


# ------------------------------------------------------------------------- searches, not trained


class Kill(BaseException):
    """Stands for a `kill -9` of the process."""


class Trainer:
    """Trains runs in no time: a run's score depends on its rate, seed and epoch.

    Attributes:
        epochs: every epoch that was trained, as (run id, epoch).
    """

    def __init__(self, dies=lambda: False):
        self.epochs, self.dies, self.meanwhile = [], dies, None

    def __call__(self, jobs):
        if self.meanwhile is not None:
            self.meanwhile, action = None, self.meanwhile
            action()
        return [self.train(job) for job in jobs]

    def train(self, job):
        plan, until = job.plan, job.place.get("until_epoch") or EPOCHS
        plan.run_dir.mkdir(parents=True, exist_ok=True)
        (plan.run_dir / "plan.json").write_text("{}")
        path = plan.run_dir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if (plan.run_dir / "DONE").exists():
            return Outcome()
        for epoch in range(len(lines) + 1, min(until, EPOCHS) + 1):
            if self.dies():
                raise Kill
            cfg = plan.config
            if cfg.train.lr > 0.05:
                error = "tlcnn.errors.Diverged: the loss is nan"
                (plan.run_dir / "FAILED").write_text(f"Traceback\n{error}\n")
                return Outcome(3, "Diverged: the loss is nan", "Diverged")
            far = (
                abs(math.log10(cfg.train.lr / 0.003)) + 0.01 * random.Random(plan.run_id).random()
            )
            score = (1 - far / 3) * (1 - 0.5**epoch)
            record = {"epoch": epoch, "train_s": 1.0, "val/nll": 1.0}
            lines.append(json.dumps({**record, "val/balanced_accuracy": score}))
            path.write_text("".join(f"{line}\n" for line in lines))
            self.epochs.append((plan.run_id, epoch))
        if len(lines) == EPOCHS:
            (plan.run_dir / "DONE").write_text('{"sha256": {}}')
        return Outcome()


@pytest.fixture
def request_of(tmp_path, cache_dir):
    """A request for a search of tiny runs."""

    def make(*words, folder="out", **options):
        place = tmp_path / folder
        settings = {"study": None, "fail_fast": False, "dry_run": False, **options}
        arguments = tiny_command(place, cache_dir, f"train.epochs={EPOCHS}", *words)
        return Request(arguments, {}, [], [], place, **settings)

    return make


ARMS = ("init=random,self", "init.self_seed=0")  # the source run has the seed of the trials
FREE = ("freeze.through=stem,stage1", "freeze.allow_random=true")  # two arms without parents


def search(request, launch, **options):
    options = {"method": "random", "trials": 4, "final_seeds": 2, **options}
    drive_search(request, SearchOptions(**options), launch)


def read_one_search(folder):
    (path,) = find_studies(folder)
    record = read_study(path)
    return record, read_search(record)


def test_a_search_has_trials_a_choice_and_final_runs(request_of, tmp_path, capsys):
    trainer = Trainer()
    search(request_of(LR, *FREE), trainer)
    record, search_record = read_one_search(tmp_path / "out")
    assert [arm.name for arm in search_record.arms] == [
        "freeze.through=stem",
        "freeze.through=stage1",
    ]
    assert (
        search_record.budget == 4
        and search_record.tuning_seed == 0
        and search_record.final_seeds == (1, 2)
    )
    for arm in search_record.arms:
        assert [trial.number for trial in arm.trials] == list(range(4))
        assert {trial.state for trial in arm.trials} <= {"done", "diverged"}
        done = [trial for trial in arm.trials if trial.state == "done"]
        assert arm.chosen.score == max(trial.score for trial in done)
        assert len(arm.final) == 2
    roles = {run["run_id"]: run["role"] for run in record["runs"]}
    assert list(roles.values()).count("trial") == 8 and list(roles.values()).count("final") == 4
    assert len(trainer.epochs) == len(set(trainer.epochs))
    output = capsys.readouterr().out
    assert "2 arms, 4 trials each (random), then 2 final runs each" in output
    assert "the best" not in output and "best on validation" in output
    second_trainer = Trainer()
    search(request_of(LR, *FREE), second_trainer)
    assert second_trainer.epochs == []


def list_ends(search_record):
    """The table and the trials of a search, without ids."""
    return "\n".join(describe_search(search_record)), [
        [(t.number, t.values, t.state, t.score, t.epoch) for t in arm.trials]
        for arm in search_record.arms
    ]


@pytest.mark.parametrize(
    ("method", "prune"), [("random", "none"), ("random", "median"), ("tpe", "halving")]
)
def test_kills_and_a_second_shell_change_nothing(request_of, tmp_path, monkeypatch, method, prune):
    if method == "tpe":
        pytest.importorskip("optuna")
    options = {"method": method, "prune": prune, "trials": 10}
    words = (LR,)
    search(request_of(*words, folder="whole", study="s"), Trainer(), **options)
    draw = random.Random(0)
    trainer = Trainer(dies=lambda: draw.random() < 0.04)
    real = Journal._append

    def append(self, *values):
        """Be killed in the middle of a write, now and then."""
        if draw.random() < 0.15:
            text = "".join(f"{json.dumps(value)}\n" for value in values)
            with open(self.path, "a") as file:
                file.write(text[: draw.randrange(len(text))])
            raise Kill
        real(self, *values)

    monkeypatch.setattr(Journal, "_append", append)
    n_kills = 0
    while True:
        other = Trainer()
        trainer.meanwhile = lambda: None
        try:
            if n_kills % 2:  # another shell does what this one is about to train
                request = request_of(*words, folder="killed", study="s")
                trainer.meanwhile = lambda r=request, o=other: search(r, o, **options)
            search(request_of(*words, folder="killed", study="s"), trainer, **options)
            break
        except Kill:
            n_kills += 1
        finally:
            trainer.epochs += other.epochs
    assert n_kills >= 2
    assert len(trainer.epochs) == len(set(trainer.epochs)), "an epoch was trained twice"
    ends = [list_ends(read_one_search(tmp_path / name)[1]) for name in ("whole", "killed")]
    assert ends[0] == ends[1]


def test_more_trials_extend_a_search_as_if_it_had_been_so_from_the_start(request_of, tmp_path):
    words = (LR,)
    search(request_of(*words, folder="once", study="s"), Trainer(), trials=11)
    trainer = Trainer()
    for trials in (6, 11, 10):  # a smaller number takes nothing back
        search(request_of(*words, folder="twice", study="s"), trainer, trials=trials)
    assert len(trainer.epochs) == len(set(trainer.epochs))
    ends = [list_ends(read_one_search(tmp_path / name)[1]) for name in ("once", "twice")]
    assert ends[0] == ends[1]
    with pytest.raises(ConfigError, match="s was begun differently: seed was 0 and is 1"):
        search(request_of(*words, folder="twice", study="s"), trainer, seed=1)


def test_arms_can_be_added_but_not_removed(request_of, tmp_path):
    one, two, three = (f"freeze.through={names}" for names in ("stem", "stem,stage1", "stage1"))
    for words in (one, two):
        search(request_of(LR, words, FREE[1], study="s"), Trainer(), trials=2)
    _, search_record = read_one_search(tmp_path / "out")
    assert [len(arm.trials) for arm in search_record.arms] == [2, 2]
    with pytest.raises(ConfigError, match="it has the arm “.*freeze.through=stem .*missing now"):
        search(request_of(LR, three, FREE[1], study="s"), Trainer(), trials=2)
    with pytest.raises(ConfigError, match="begun differently.*it has the arm"):
        search(request_of("train.lr=interval(1,2)", two, FREE[1], study="s"), Trainer(), trials=2)


def test_a_later_arm_has_the_budget_and_the_seeds_of_the_earlier_ones(request_of, tmp_path):
    search(request_of(LR, FREE[1], study="s"), Trainer(), trials=6, final_seeds=3)
    later = ("freeze.through=none,stem", FREE[1])
    search(request_of(LR, *later, study="s"), Trainer(), trials=2, final_seeds=1)
    record, search_record = read_one_search(tmp_path / "out")
    assert [len(arm.trials) for arm in search_record.arms] == [6, 6] and search_record.budget == 6
    assert [len(arm.final) for arm in search_record.arms] == [
        3,
        3,
    ] and search_record.final_seeds == (1, 2, 3)
    assert not any(run["role"] == "earlier final" for run in record["runs"])


def test_what_was_chosen_before_is_no_result_any_more(request_of, tmp_path, composer):
    """With more trials there is a better recipe, whose runs replace those of the first."""
    word = "train.lr=choice(0.0001,0.0002,0.0003,0.003)"
    space = make_space(composer, word)
    points = [draw_point(space, lambda *_: True, seed=seed, number=0) for seed in range(20)]
    seed = next(seed for seed, point in enumerate(points) if point["train.lr"] != "0.003")
    for trials in (1, 4):
        search(request_of(word, study="s"), Trainer(), trials=trials, seed=seed)
    record, search_record = read_one_search(tmp_path / "out")
    (arm,) = search_record.arms
    assert arm.chosen.values == {"train.lr": "0.003"}
    roles = {run["run_id"]: run["role"] for run in record["runs"]}
    assert arm.best > 0 and len(arm.earlier) == 2
    assert {roles[run_id] for run_id in arm.earlier} == {"earlier final"}


def test_pruned_runs_say_so_and_are_not_trained_again(request_of, tmp_path, capsys):
    trainer = Trainer()
    request = request_of(LR, study="s")
    search(request, trainer, prune="halving", trials=8)
    _, search_record = read_one_search(tmp_path / "out")
    ids = {t.run_id: t for arm in search_record.arms for t in arm.trials if t.state == "pruned"}
    assert ids
    folders = {path.name.rsplit("-", 1)[1]: path for path in (tmp_path / "out/runs").iterdir()}
    for run_id, trial in ids.items():
        mark = json.loads((folders[run_id] / "PRUNED").read_text())
        assert mark["epoch"] == trial.n_epochs < EPOCHS and mark["study"] == "s"
        assert not (folders[run_id] / "DONE").exists()
        n_lines = len((folders[run_id] / "metrics.jsonl").read_text().splitlines())
        assert n_lines == trial.n_epochs
    (status,) = read_status("s", tmp_path / "out")
    assert status.count()["pruned"] == len(ids)
    text = describe_status([status])
    assert "pruned" in text.splitlines()[0] and "search of s: 8 trials an arm" in text
    second_trainer = Trainer()
    search(request, second_trainer, prune="halving", trials=8)
    assert second_trainer.epochs == []


def test_a_failed_trial_is_tried_again_and_one_that_diverged_is_not(request_of, tmp_path, capsys):
    request = request_of("train.lr=choice(0.001,0.09)", "study=s", study="s")

    def fail(jobs):
        return [Outcome(74, "StorageError: the disk is full", "StorageError") for _ in jobs]

    with pytest.raises(SweepFailed, match="2 runs failed. The same command tries") as error:
        search(request, fail, method="grid", trials=None)
    assert error.value.exit_code == 74
    search(request, Trainer(), method="grid", trials=None)
    _, search_record = read_one_search(tmp_path / "out")
    assert [trial.state for trial in search_record.arms[0].trials] == ["done", "diverged"]
    trainer = Trainer()
    search(request, trainer, method="grid", trials=None)
    assert trainer.epochs == []
    with pytest.raises(SweepFailed) as error:
        search(request_of("train.lr=choice(0.08,0.09)", study="t"), Trainer(), trials=2)
    assert error.value.exit_code == 1
    assert "no trial has ended with a score" in capsys.readouterr().out
    assert "tries none of them again" in str(error.value) and "0 runs" not in str(error.value)


def test_the_source_of_a_task_keeps_its_recipe(request_of, tmp_path):
    words = ("init=task", "init.task=synthetic_source", "init.parent=random")
    words += ("++init.task_dataset.options.n_images=140", "++init.task_dataset.options.size=32")
    trainer = Trainer()
    search(request_of(*words, LR, "train.lr=choice(0.001,0.002,0.004)"), trainer, trials=3)
    record, _ = read_one_search(tmp_path / "out")
    sources = [run for run in record["runs"] if run["role"].startswith("parent")]
    assert len(sources) == 3, "one for each seed: of the trials and of two final runs"


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ((LR, "seed=0,1"), {}, "seed=0,1: all trials of a search have one seed"),
        ((LR,), {"trials": None}, "needs a number of trials: --trials 20"),
        ((LR,), {"method": "bayes"}, "hydra.sweeper.search.method=bayes is not allowed"),
        ((LR,), {"trials": 0}, "trials=0 is not allowed: an integer of at least 1"),
        ((LR,), {"when": {"train.mixup": "train.lr=1"}}, "train.mixup has a condition"),
        (("train.lr=choice(1,2)",), {"method": "grid", "trials": 5}, "the grid has 2 points"),
        ((LR,), {"method": "grid", "trials": None}, "which a grid needs"),
        (("train.lr=choice(-1,-2)",), {}, "train.lr=-[12](.0)? is not allowed"),
    ],
)
def test_a_search_that_cannot_be_is_refused_and_leaves_nothing(
    request_of, tmp_path, words, options, message
):
    with pytest.raises(ConfigError, match=message):
        search(request_of(*words), Trainer(), **options)
    assert not list(tmp_path.glob("out/studies/*.json")) and not list(tmp_path.glob("out/runs/*"))


def test_a_dry_run_says_what_would_be_tried(request_of, tmp_path, capsys):
    search(request_of(LR, *FREE, dry_run=True), Trainer())
    output = capsys.readouterr().out
    assert "2 arms, 4 trials each" in output and output.count("train.lr=0") == 4
    assert not list(tmp_path.iterdir())


def test_arms_of_one_search_have_one_recipe_whatever_each_of_them_searched(request_of, tmp_path):
    request = request_of("train.epochs=1", "train.lr=0.001", study="s")
    words = [word for word in request.arguments if not word.startswith("train.lr")]
    blocks = [{"train.lr": "choice(0.001,0.002)"}, {"train.lr": 0.003, "train.mixup": 0.5}]
    blocks.append({"train.lr": 0.004, "freeze.through": "stem", "freeze.allow_random": True})
    train_here(replace(request, arguments=words, blocks=blocks), final_seeds=1, trials=2)
    cells = make_cells(make_runs(read_runs(tmp_path / "out")))
    recipes = {cell.settings["train.lr"]: dict(cell.recipe) for cell in cells}
    assert len(recipes) == 3 and not any("train.lr" in recipe for recipe in recipes.values())
    assert recipes[0.003]["train.mixup"] == 0.5, "nobody searched it"


def test_a_trial_whose_source_diverges_has_diverged(request_of, tmp_path):
    request = request_of("train.lr=choice(0.001,0.09)", "init=self", study="s")
    search(request, Trainer(), method="grid", trials=None)
    _, search_record = read_one_search(tmp_path / "out")
    assert [trial.state for trial in search_record.arms[0].trials] == ["done", "diverged"]
    assert search_record.arms[0].best == 0 and len(search_record.arms[0].final) == 2


# ----------------------------------------------------------------------------- searches, trained


def train_here(request, **options):
    memory = Memory()
    search(request, partial(launch_here, memory=memory), **options)


def list_weights(folder):
    """The sha256 of the weights and predictions of each finished run."""
    digests = {}
    for path in folder.glob("runs/*/DONE"):
        sha256 = json.loads(path.read_text())["sha256"]
        digests[path.parent.name] = (sha256["weights.safetensors"], sha256["predictions.parquet"])
    return digests


def test_real_trials_pause_go_on_and_are_no_cells(request_of, tmp_path, monkeypatch, one_core):
    """One search is killed in the middle of a run, and ends in the bits of the other."""
    options = {"trials": 6, "batch": 3, "prune": "halving", "final_seeds": 2}
    words = ("train.lr=tag(log, interval(1e-4,1e-2))", "train.epochs=3")
    train_here(request_of(*words, study="s"), **options)
    real, n_epochs = Fit.train_epoch, iter(range(1000))

    def train_epoch(self):
        if next(n_epochs) in (4, 9):
            raise Kill
        yield from real(self)

    monkeypatch.setattr(Fit, "train_epoch", train_epoch)
    n_kills = 0
    for _ in range(3):
        try:
            train_here(request_of(*words, study="s", folder="killed"), **options)
        except Kill:
            n_kills += 1
    assert n_kills == 2
    weights = [list_weights(tmp_path / name) for name in ("out", "killed")]
    assert weights[0] == weights[1] and len(weights[0]) >= 3
    ends = [list_ends(read_one_search(tmp_path / name)[1]) for name in ("out", "killed")]
    assert ends[0] == ends[1]

    runs = read_runs(tmp_path / "out")
    states = runs["state"].value_counts()
    assert states["pruned"] == 6 - (states["done"] - 2) and states["pruned"] > 0
    assert runs[runs["state"] == "pruned"]["test/accuracy"].isna().all()
    (cell,) = make_cells(make_runs(runs))
    assert cell.seeds == (1, 2) and dict(cell.recipe)["search"] == "s"
    table = make_cell_table(runs, ["test/balanced_accuracy"])
    assert len(table.rows) == 1 and "the best of 6 trials with seed 0" in " ".join(table.notes)
    content = make_content(runs)
    methods = " ".join(line for _, lines in make_methods(content) for line in lines)
    assert "Settings of training were searched (s): 6 trials for each of 1 arm, drawn" in methods
    assert "Searched: train.lr from 1e-4 to 1e-2 (on a logarithmic scale)." in methods
    assert "again with seeds 1 and 2" in methods and "Jamieson K, Talwalkar A" in methods
    assert methods.count("The learning rate ") == 1, "trials have other rates"
    assert "1 cell" in write_lead(content) and "2 finished runs" in write_lead(content)
    (row,) = make_search_table(content).frame.to_dict("records")
    assert (row["trials"], row["given up"]) == (6, states["pruned"])
    left_out = describe_left_out(runs)
    assert any("runs are trials" in line or "run is a trial" in line for line in left_out)

    plan = make_plan(compose_config([*cell_words(tmp_path), f"output_dir={tmp_path}/alone"]))
    run(plan)
    assert list_weights(tmp_path / "alone").items() <= weights[0].items()


def cell_words(folder):
    """The words of the chosen trial's run."""
    record, search_record = read_one_search(folder / "out")
    (arm,) = search_record.arms
    words = {entry["run_id"]: entry["overrides"] for entry in record["runs"]}
    return [*words[arm.chosen.run_id], "study=null"]


def test_a_trial_that_is_a_cell_of_a_study_stays_one(request_of, tmp_path):
    """What was in a report before a search stays in it."""
    request = request_of("train.lr=choice(0.001,0.002)", "train.epochs=1")
    words = [word for word in request.arguments if not word.startswith("train.lr")]
    launch = partial(launch_here, memory=Memory())
    drive(
        replace(request, arguments=[*words, "train.lr=0.001", "seed=0,1"], study="plain"), launch
    )
    before = make_cells(make_runs(read_runs(tmp_path / "out")))
    train_here(request, method="grid", trials=None, final_seeds=1)
    cells = make_cells(make_runs(read_runs(tmp_path / "out")))
    plain = [cell for cell in cells if cell.searched is None]
    assert [cell.seeds for cell in plain] == [cell.seeds for cell in before] == [(0, 1)]
    assert [cell.seeds for cell in cells if cell.searched] == [(1,)]


def test_a_run_that_was_done_before_a_search_stays_a_result(request_of, tmp_path):
    request = request_of("train.lr=choice(0.001,0.002)", "train.epochs=1", "init=self")
    words = [word for word in request.arguments if not word.startswith("train.lr")]
    run(make_plan(compose_config([*words, "train.lr=0.001", "init=random"])))
    options = {"method": "grid", "trials": None, "final_seeds": 1}
    for word in ("init=random", "init=random,self"):
        train_here(replace(request, arguments=[*request.arguments, word], study="s"), **options)
    runs = read_runs(tmp_path / "out")
    plain = [cell for cell in make_cells(make_runs(runs)) if cell.searched is None]
    assert [(cell.seeds, cell.settings["train.lr"]) for cell in plain] == [
        ((0, 2), 0.001)  # the latter is the source of a final run
    ]


def test_a_search_that_cannot_be_read_has_trials_all_the_same(request_of, tmp_path):
    train_here(request_of("train.lr=choice(0.001,0.002)", "train.epochs=1"), trials=2)
    before = read_runs(tmp_path / "out")
    (path,) = find_studies(tmp_path / "out")
    record = read_study(path)
    path.write_text(json.dumps({**record, "search": {**record["search"], "budget": "many"}}))
    after = read_runs(tmp_path / "out")
    assert after["is_trial"].sum() == before["is_trial"].sum() == 2
    assert any(str(path) in line and "search" in line for line in describe_left_out(after))
    path.write_text("{")
    lines = describe_left_out(read_runs(tmp_path / "out"))
    assert any(str(path) in line and "cannot be read" in line for line in lines)


def test_a_sweep_and_a_search_do_not_share_a_name(request_of, tmp_path):
    sweep, tune = request_of("train.lr=0.001", study="s"), request_of(LR, study="s")
    search(tune, Trainer())
    with pytest.raises(ConfigError, match="the study s in .* is a search, and this is a sweep"):
        drive(sweep, Trainer())
    drive(replace(sweep, study="t"), Trainer())
    with pytest.raises(ConfigError, match="the study t in .* is a sweep, and this is a search"):
        search(replace(tune, study="t"), Trainer())
    assert not (tmp_path / "out/studies/t.trials.jsonl").exists()


def test_the_command_has_the_words_of_a_sweep(tmp_path, cache_dir, capsys):
    words = tiny_command(tmp_path, cache_dir, "train.epochs=1", "study=cli", "dry_run=true")
    ranges = ["train.optimizer=choice(adamw,sgd)", "train.momentum=interval(0.5,0.9)"]
    when = ["--when", "train.momentum", "train.optimizer=sgd"]
    with pytest.raises(SystemExit) as end:
        main(["tune", *words, "--trials", "6", "--final-seeds", "2", *when, *ranges])
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert "study cli: 1 arm, 6 trials each (random), then 2 final runs each" in output
    assert "train.momentum=interval(0.5,0.9) where train.optimizer=sgd" in output
    assert (
        "train.optimizer=adamw\n" in output and "train.optimizer=sgd train.momentum=0." in output
    )
    with pytest.raises(SystemExit) as end:
        main(["tune", *words, "--trials", "6", "--trails=6"])
    assert end.value.code == 2 and "unrecognized arguments: --trails=6" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["tune", *words, "train.lr=interval(1,2)"])
    assert end.value.code == 1 and "--trials 20" in capsys.readouterr().err


def test_without_optuna_the_error_says_what_to_install(composer, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'tlcnn\[tune\]'"):
        propose_points(make_space(composer, LR), "tpe", make_history())


@pytest.mark.slow
def test_forty_trials_in_two_shells_that_are_killed_five_times(tmp_path, cache_dir):
    pytest.importorskip("optuna")
    range_of_rates = "train.lr=tag(log, interval(1e-4,1e-1))"
    options = ["--trials", "40", "--method", "tpe", "--prune", "halving", "--final-seeds", "2"]

    def start(folder):
        words = tiny_command(folder, cache_dir, "train.epochs=3", "study=s", range_of_rates)
        command = [sys.executable, "-m", "tlcnn.cli.main", "tune", *words, *options]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    folder, draw = tmp_path / "killed", random.Random(1)
    shells = [start(folder), start(folder)]
    journal, n_lines, n_kills = folder / "studies" / "s.trials.jsonl", 0, 0
    while n_kills < 5:
        time.sleep(0.05)
        lines = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        assert any(shell.poll() is None for shell in shells), "it ended before the last kill"
        if lines >= n_lines + 5:
            time.sleep(draw.random())
            victim = n_kills % 2
            shells[victim].kill()
            shells[victim].wait()
            shells[victim] = start(folder)
            n_kills, n_lines = n_kills + 1, lines
    assert [shell.wait() for shell in shells] == [0, 0]
    ends = [list_ends(read_one_search(tmp_path / name)[1]) for name in ("whole", "killed")]
    assert ends[0] == ends[1]
    assert list_weights(tmp_path / "whole") == list_weights(folder)
    epochs = [list_trained_epochs(path.read_text()) for path in folder.glob("runs/*/log.txt")]
    n_repeated = sum(len(numbers) > len({*numbers}) for numbers in epochs)
    assert n_repeated <= n_kills, "a run that was not killed was trained twice"


def list_trained_epochs(log):
    """The epochs that a log tells of; a resumed run repeats the line of the last one before."""
    epochs, before = [], 0
    for resumed, epoch in re.findall(r"INFO (?:resuming in epoch (\d+)|epoch (\d+)/)", log):
        if resumed:
            before = int(resumed) - 1
        elif int(epoch) != before:
            epochs.append(int(epoch))
            before = 0
        else:
            before = 0
    return epochs
