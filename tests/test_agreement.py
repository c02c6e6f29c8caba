"""Measures against planted truth: a perfect one agrees with it, and a shuffled one does not."""

import io
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from planted_made import make_estimate, make_family, make_planted_readings, make_world
from records_made import finish, write_record

from tlcnn.cli.main import main
from tlcnn.errors import DataError
from tlcnn.records.read import read_runs
from tlcnn.study.agreement import average, collect_curves, compute_moved, score_measures
from tlcnn.study.depth_rules import choose_threshold, count_general, orient
from tlcnn.study.measures import UnitReading
from tlcnn.study.planted import CUE, NETWORKS, TASKS, TAUGHT, Trio, make_families
from tlcnn.study.runs import make_runs

SIDES = {"probe": -1, "reinit": 1}
PLANTS = (NETWORKS, TASKS)
THRESHOLDS = ("threshold of other families", "threshold of other networks")


def be_truth(family, n, rng):
    return family.specificity[n].value / 100 + 1e-4 * rng.standard_normal()


def be_noise(family, n, rng):
    return rng.standard_normal()


def score(families, readings, measure="probe"):
    scores = score_measures(families, collect_curves(families, readings), SIDES)
    return {s.rule: s for s in scores if s.measure == measure}


# ---- the truth ----------------------------------------------------------------------------------


def test_depth_is_that_before_the_first_unit_above_the_margin():
    family = make_family(m=2)  # 0, 0, 0.4, 5, 11
    assert [family.find_depth(margin) for margin in (0.3, 2, 6, 50)] == [2, 3, 4, 5]
    gaps = {n: make_estimate(value) for n, value in enumerate((0, 3, 1, 1, 9), 1)}
    assert make_family_of(gaps).find_depth(2) == 1  # a later unit below the margin does not count


def make_family_of(gaps):
    return replace(make_family(), specificity=gaps)


def test_depth_is_uncertain_where_a_gap_is_two_errors_from_the_margin():
    def make(third, fourth, se=0.3):
        values = (0, 0, third, fourth, 50)
        return make_family_of({n: make_estimate(v, se) for n, v in enumerate(values, 1)})

    assert make(1.0, 9.0).is_certain(2)
    assert not make(1.0, 2.5).is_certain(2)  # at n* + 1
    assert not make(1.5, 9.0).is_certain(2)  # at n*
    assert not make(0.0, 9.0, se=math.nan).is_certain(2)  # one seed
    same = {n: make_estimate(0.0, math.nan) for n in (1, 2, 3)}  # the same weights: exactly 0
    assert make_family_of(same).is_certain(2)


# ---- what a measure reaches ---------------------------------------------------------------------


def test_a_measure_that_is_the_truth_has_tau_1_and_every_depth():
    families = make_world()
    scores = score(families, make_planted_readings(families, be_truth))
    for rule in ("margin", *THRESHOLDS):
        assert scores[rule].count_errors(0, 0) == 1, rule
        assert scores[rule].reaches_bar
        assert scores[rule].false == {375: (0, 4), 1500: (0, 4), 6000: (0, 4)}
    tau = scores["margin"].tau_S
    assert tau.value > 0.85 and tau.low > 0.8  # noise breaks the ties up to m
    assert tau.n == 4 * 8  # not of m = 4 and 5 or the same task, where nothing is specific
    assert scores["margin"].tau_F.value == pytest.approx(tau.value)


def test_exact_ties_are_ties_in_both():
    families = [make_family(m=3)]
    readings = make_planted_readings(families, lambda f, n, rng: f.specificity[n].value)
    assert score(families, readings)["margin"].tau_S.value == pytest.approx(1)


def test_a_measure_of_noise_reaches_no_bar():
    families = make_world()
    scores = score(families, make_planted_readings(families, be_noise))
    assert abs(scores["margin"].tau_S.value) < 0.3
    assert not any(each.reaches_bar for each in scores.values())
    assert scores["margin"].count_errors(-1, 1) < 0.8


def test_the_number_of_a_unit_is_a_control_that_orders_but_finds_no_depth():
    families = make_world()
    control = score(families, make_planted_readings(families, be_noise), "number")[THRESHOLDS[0]]
    assert control.tau_S.value > 0.8
    assert len({depth for depth, _ in control.depths.values()}) == 1
    assert control.count_errors(0, 0) < 0.6 and not control.reaches_bar


def test_the_side_of_a_measure_turns_its_order():
    families = make_world(("net",))

    def fall(family, n, rng):
        return 1 - family.specificity[n].value / 100

    readings = make_planted_readings(families, fall, variant="pooled")
    assert score(families, readings)["largest step"].tau_S.value == pytest.approx(1)
    readings = make_planted_readings(families, fall, measure="reinit", variant="start")
    assert score(families, readings, "reinit")["largest step"].tau_S.value == pytest.approx(-1)


def test_a_threshold_never_sees_the_depths_it_is_judged_by():
    # Each network has a scale of its own: a threshold of other networks does not fit it.
    families = make_world()
    scale = {"net": 1, "other": 30, "third": 900, "fourth": 27000}

    def compute(family, n, rng):
        return scale[family.model] * family.specificity[n].value

    readings = make_planted_readings(families, compute, measure="reinit", variant="start")
    scores = score(families, readings, "reinit")
    assert scores[THRESHOLDS[1]].count_errors(0, 0) < 0.7
    # Families of one network alone: there is no other network to choose on.
    alone = [family for family in families if family.model == "net"]
    scores = score(alone, readings, "reinit")
    assert scores[THRESHOLDS[1]].depths == {} and scores[THRESHOLDS[0]].count_errors(0, 0) > 0.9


def test_a_measure_fooled_by_the_source_is_shown_as_such():
    families = make_world()

    def compute(family, n, rng):
        lack = 0.2 if family.factors["images"] == 375 else 0.0
        return be_truth(family, n, rng) + lack

    scores = score(families, make_planted_readings(families, compute))
    assert scores["margin"].false == {375: (4, 4), 1500: (0, 4), 6000: (0, 4)}
    assert not scores["margin"].reaches_bar
    moved = scores["margin"].moved
    assert moved["images"] > 0.5 > 0.05 > moved["epochs"]


def test_change_by_a_factor_is_a_share_of_the_change_by_m():
    families = [make_family(m=0), make_family(m=2), make_family(m=5), make_family(m=2, images=375)]
    levels = dict(enumerate(np.array([[8.0, 8], [4, 4], [0, 0], [6, 2]])))
    assert compute_moved(families, levels) == {"images": 2 / 8}


def test_networks_of_different_depth_share_a_table():
    families = [*make_world(("net",)), *(make_family("deep", m, n_units=4) for m in range(5))]
    scores = score(families, make_planted_readings(families, be_truth))
    assert scores["threshold of other networks"].count_errors(0, 0) == 1


# ---- parts --------------------------------------------------------------------------------------


def test_own_units_are_the_ceiling_of_the_source():
    families = make_world(("net",))
    parts = [
        make_planted_readings(families, compute, variant=name, null=0.3)
        for name, compute in {
            "start": lambda f, n, rng: 0.3 + n / 10 * (1 - f.specificity[n].value / 100),
            "own": lambda f, n, rng: 0.3 + n / 10,
            "random": lambda f, n, rng: 0.3,
        }.items()
    ]
    readings = pd.concat(parts)
    variants = {variant for measure, variant in collect_curves(families, readings)}
    assert variants == {"start", "F", "n"}
    scores = score(families, readings)
    assert scores[THRESHOLDS[0]].count_errors(-1, 1) > 0.9
    assert scores[THRESHOLDS[0]].tau_S.value > 0.9


def test_a_curve_with_null_and_ceiling_is_scaled_by_them():
    def read(n, value, null=math.nan, ceiling=math.nan):
        return UnitReading(n, "u", make_estimate(value), null, ceiling, 10)

    scaled = orient([read(1, 0.9, 0.1, 0.9), read(2, 0.3, 0.1, 0.5)], -1)
    assert scaled == pytest.approx([-1, -0.5])
    assert orient([read(1, 0.9, 0.1), read(2, 0.3, 0.1)], -1) == pytest.approx([-0.9, -0.3])


def test_threshold_is_the_middle_of_those_that_fit():
    levels = [np.array([0.0, 0.1, 0.9]), np.array([0.0, 0.7, np.nan])]
    assert 0.1 < choose_threshold(levels, [2, 1]) < 0.7
    assert choose_threshold([np.array([np.nan])], [1]) == math.inf
    assert count_general(np.array([np.nan, np.nan]), np.array([0.0])).tolist() == [2]


def test_interval_over_families():
    assert math.isnan(average([]).value) and math.isnan(average([0.3]).low)
    mean = average([0.0, 1.0] * 10)
    assert mean.value == 0.5 and mean.low < 0.5 < mean.high and mean.n == 20


# ---- from run folders ---------------------------------------------------------------------------


def write_planted(folder, *, missing=(), tasks=False):
    """Write the runs of test_net with m = 1, two seeds: A, B, twins, AnB, BnB.

    Up to m, A of the texture and B have the units of J. With `tasks`, only their labels share m.
    """
    cue_of_a, cue_of_b = ("source", "target") if tasks else ("texture", "outline")
    units = ("stem", "stage1", "stage2")

    def write(seed, test, *, k, j, cue, manifest, ancestry=(), name="planted", epochs=8, **more):
        cell = ".".join([f"{name}-k{k}j{j}-{cue}", *(each["cell_id"] for each in ancestry)])
        path = write_record(
            folder, seed=seed, test=test, k=k, j=j, dataset=name, model="test_net", units=units,
            cell=cell, epochs=epochs,
            **{"dataset.options.cue": cue, "train.epochs": epochs, "dataset.options.block": 0},
            **{"dataset.options.label_noise": 0, "dataset.options.n_images": 1500} | more,
            **({"dataset.options.shared": 1} if tasks else {}),
        )  # fmt: skip
        plan = json.loads((path / "plan.json").read_text())
        plan |= {"ancestry": list(ancestry), "identity": {"dataset": {"manifest": manifest}}}
        (path / "plan.json").write_text(json.dumps(plan))
        (path / "DONE").unlink()
        finish(path)
        names = ("run_id", "run_name", "cell_id", "dataset", "source", "k", "j", "seed")
        return {**{name: plan[name] for name in names}, "manifest": manifest}

    for s in (0, 1):
        joint = ()
        if not tasks:
            joint = (write(1000 + s, 0.9, k=0, j=0, cue="both", manifest="J", name="both"),)
        m = len(joint)
        plain = {"k": m, "j": m, "ancestry": joint, "epochs": 12}
        a = write(100 + s, 0.9, cue=cue_of_a, manifest="A", name="A", **plain)
        b = write(200 + s, 0.9, cue=cue_of_b, manifest="T", **plain)
        write(300 + s, 0.9, cue=cue_of_b, manifest="T", **plain)
        for n, (a_score, b_score) in {1: (0.9, 0.9), 2: (0.5, 0.85), 3: (0.3, 0.8)}.items():
            target = {"k": n, "j": n, "cue": cue_of_b, "manifest": "T"}
            if ("A", n) not in missing:
                write(s, a_score + s / 100, ancestry=(a, *joint), **target)
            write(s, b_score + s / 100, ancestry=(b, *joint), **target)
        write(s, 0.92 + s / 100, k=3, j=0, cue=cue_of_b, manifest="T", ancestry=(a, *joint))


@pytest.mark.parametrize("tasks", [False, True])
def test_families_of_run_folders(tmp_path, tasks):
    write_planted(tmp_path, tasks=tasks)
    (family,) = make_families(make_runs(read_runs(tmp_path)))
    assert (family.plant, family.m, family.is_same_task) == (PLANTS[tasks], 1, False)
    assert family.name == "test_net, m = 1" + (", shared tasks" if tasks else "")
    assert [gap.value for gap in family.specificity.values()] == pytest.approx([0, 35, 50])
    assert [gap.value for gap in family.cost.values()] == pytest.approx([2, 42, 62])
    assert family.find_depth(2) == 1
    seeds = [(trio.run.seed, trio.own.seed, trio.twin.seed) for trio in family.trios]
    assert seeds == [(0, 200, 300), (1, 201, 301)]


def test_families_of_two_plants_are_no_rows_of_each_other(tmp_path, capsys):
    """Each plant has its own plain training, its own thresholds and its own rows."""
    for tasks in (False, True):
        write_planted(tmp_path, tasks=tasks)
    families = make_families(make_runs(read_runs(tmp_path)))
    assert [(family.plant, family.changed) for family in families] == [(p, {}) for p in PLANTS]
    for family in families:
        cues = {trio.own.settings[CUE] for trio in family.trios}
        assert cues and cues.issubset(TAUGHT) == (family.plant == TASKS)
    main(["agreement", str(tmp_path), "--csv"])
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    costs = table[table["measure"] == "freezing cost"]
    assert set(costs["plant"]) == {"shared networks", "shared tasks"}
    assert set(costs["families"]) == {1}


def test_thresholds_of_a_plant_are_chosen_in_it():
    """The readings of shared tasks are in other units, and do not move those of networks."""
    networks = make_world()
    tasks = [replace(family, plant=TASKS) for family in make_world(("net", "other"))]
    tasks = [replace(f, trios=tuple(rename(trio) for trio in f.trios)) for f in tasks]
    readings = [
        make_planted_readings(networks, be_truth),
        make_planted_readings(tasks, lambda *args: 5 + be_truth(*args)),
    ]
    scores = list(
        score_measures(
            [*networks, *tasks], collect_curves([*networks, *tasks], pd.concat(readings)), SIDES
        )
    )
    rows = [s for s in scores if s.measure == "probe" and s.rule == THRESHOLDS[0]]
    assert [row.plant for row in rows] == list(PLANTS)
    assert [row.count_errors(0, 0) for row in rows] == [1, 1]
    assert [len(row.depths) for row in rows] == [len(networks), len(tasks)]


def rename(trio):
    runs = [SimpleNamespace(run_id=f"tasks-{r.run_id}", seed=r.seed) for r in (trio.run, trio.own)]
    return Trio(*runs, None)


def test_an_incomplete_family_says_what_to_do(tmp_path):
    write_planted(tmp_path, missing={("A", 2)})
    with pytest.raises(DataError, match="no family of a planted study is complete.*the same comm"):
        make_families(make_runs(read_runs(tmp_path)))


def test_command_writes_tables_and_figures(tmp_path, capsys, monkeypatch):
    write_planted(tmp_path)
    runs = make_runs(read_runs(tmp_path))
    (family,) = make_families(runs)
    readings = make_planted_readings([family], be_truth)
    monkeypatch.setattr("tlcnn.records.measures.read_measures", lambda folder: readings)
    main(["agreement", str(tmp_path), "-o", str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert "probe sufficiency" in out and "No measure reaches the bar" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"oracle.csv", "agreement.csv", "depths.csv", "agreement.pdf"} <= names
    depths = pd.read_csv(tmp_path / "out" / "depths.csv")
    assert set(depths["n*"]) == {1}
    main(["agreement", str(tmp_path), "--oracle"])
    assert "35.0" in capsys.readouterr().out


def test_command_analyses_a_against_b_and_its_twin(tmp_path, capsys, monkeypatch):
    write_planted(tmp_path)
    roles = []

    def record(run, bases, measures, *, n_images):
        roles.append((run.k, run.j, run.seed, [base.seed for base in bases], [*measures]))
        return SimpleNamespace(is_done=True)

    monkeypatch.setattr("tlcnn.layers.roles.make_analysis", record)
    main(["agreement", str(tmp_path), "--analyse", "--measures", "cka"])
    assert roles == [(3, 0, s, [200 + s, 300 + s], ["cka"]) for s in (0, 1)]
    captured = capsys.readouterr()
    assert "2 analyses done, 0 to do" in captured.err and "--analyse computes" in captured.err
    assert "freezing cost" in captured.out


def test_command_refuses_a_margin_of_no_points(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["agreement", str(tmp_path), "--margin", "0"])
    assert exit_info.value.code == 1
    assert "above 0 and below 100" in capsys.readouterr().err
