"""The power calculator: known answers, monotony, agreement with simulated comparisons, and CLI."""

import argparse

import numpy as np
import pytest
from simulate_statistics import predict_power, simulate
from simulated_world import World
from statistics_data import draw_scored, write_run

from tlcnn.cli.power import add_power, describe_power
from tlcnn.errors import ConfigError, DataError
from tlcnn.statistics.power import (
    Design,
    compute_design_power,
    find_effect,
    find_seeds,
    plan_parts,
)
from tlcnn.study.pilot import load_pilot

HAM10000 = (49, 77, 165, 17, 167, 1006, 22)
DESIGN = Design(HAM10000, 0.01, 0.65, 0.8, 0.82)


def test_without_test_variance_it_is_the_paired_t_test():
    """G*Power 3.1: d = 0.5, 34 pairs: 0.8078. Seeds agree as little as cells do: none lasts."""
    power = compute_design_power(0.005, Design(HAM10000, 0.01, 0.65, 0.8, 0.8), 34)
    assert power == pytest.approx(0.8077775, abs=1e-4)


def test_test_variance_by_hand():
    """Two classes of 10 and 40 groups; 0.2 of them change sides for good, effect 0.1."""
    parts = plan_parts(0.1, Design((10, 40), 0.0, 0.6, 0.8), 5)
    each = np.array([0.19 / 40, 0.19 / 160])
    assert parts.test == pytest.approx(each.sum())
    assert parts.test_df == pytest.approx(each.sum() ** 2 / (each**2 / [9, 39]).sum())


def test_power_grows_with_effect_seeds_and_groups():
    def power(effect=0.02, n_seeds=5, groups=HAM10000):
        return compute_design_power(effect, Design(groups, 0.01, 0.65, 0.8, 0.82), n_seeds)

    assert power(0.01) < power(0.02) < power(0.04)
    assert power(n_seeds=3) < power() < power(n_seeds=10)
    assert power() < power(groups=tuple(4 * n for n in HAM10000))
    assert power(-0.02) == power(0.02)


def test_seeds_and_effect_are_the_inverse_of_power():
    effect = find_effect(DESIGN, 10)
    assert find_seeds(effect, DESIGN) == 10
    assert find_seeds(effect * 0.999, DESIGN) > 10
    floor = find_effect(DESIGN, np.inf)
    assert find_seeds(floor * 0.99, DESIGN) == np.inf and floor < effect
    assert np.isnan(find_effect(Design((2, 2), 0.3, 0.5, 0.99), 2))


def test_numbers_by_class():
    by_class = Design(HAM10000, 0.01, [0.65] * 7, [0.8] * 7, [0.82] * 7)
    assert find_effect(by_class, 5) == pytest.approx(find_effect(DESIGN, 5))


def test_prediction_agrees_with_simulated_comparisons():
    world = World(lesions=(30, 40, 50))
    truth = {"A": 0.0, "B": 0.0, "R": 1.0}
    effect = 0.0392  # of 4,000 fresh samples
    shares, seen = simulate(
        World(lesions=(30, 40, 50), bias=(0.0,) * 3),
        {**truth, "B": effect},
        n_seeds=4,
        n_repeats=200,
        seed=1,
        n_draws=100,
    )
    predicted = predict_power(world, effect, 4, seen)
    assert shares["power"] == pytest.approx(predicted, abs=0.09)


def test_impossible_numbers_are_refused():
    with pytest.raises(ConfigError, match="agreement 0.300 is not possible at a score of 0.900"):
        Design((3, 4), 0.01, 0.9, 0.3)
    with pytest.raises(ConfigError, match="at least two classes"):
        Design((5,), 0.01, 0.9)
    with pytest.raises(ConfigError, match="at least one group"):
        Design((5, 0), 0.01, 0.9)
    with pytest.raises(ConfigError, match="3 numbers for 2 classes"):
        Design((5, 5), 0.01, [0.5, 0.6, 0.7])
    with pytest.raises(ConfigError, match="seed sd -1"):
        Design((5, 5), -1, 0.6)
    with pytest.raises(ConfigError, match="alpha 5"):
        Design((5, 5), 0.01, 0.6, alpha=5)
    with pytest.raises(ConfigError, match="score 65"):
        Design((5, 5), 0.01, 65)
    with pytest.raises(ConfigError, match="difference of 0.5 is not possible"):
        plan_parts(0.5, Design((5, 5), 0.01, 0.6, 0.8), 3)
    with pytest.raises(ConfigError, match="at least 2"):
        plan_parts(0.1, Design((5, 5), 0.01, 0.6, 0.8), 1)


# ---- from finished runs, and the command --------------------------------------------------------


def write_cells(root, n_cells=2, n_seeds=3):
    scored = draw_scored(n_groups=80, seed=0, mixed=False)
    for cell in range(n_cells):
        for seed in range(n_seeds):
            rng = np.random.default_rng([cell, seed])
            noise = 0.7 * rng.normal(size=scored.probabilities.shape)
            write_run(
                root / "runs" / f"run-{cell}-{seed}",
                seed,
                logits=np.log(scored.probabilities) + noise,
                labels=scored.labels,
                groups=scored.group,
                k=cell,
            )
    return root


def test_a_design_from_finished_runs(tmp_path):
    pilot = load_pilot(write_cells(tmp_path))
    design = pilot.design
    assert (pilot.n_cells, pilot.n_pairs, pilot.dataset) == (2, 1, "d")
    assert design.groups_per_class == (20, 20, 20, 20)
    assert 0 < design.seed_sd < 0.1 and np.shape(design.agreement) == (4,)
    # The cells differ by nothing but noise, so they agree as well as seeds do.
    assert np.mean(design.agreement) == pytest.approx(np.mean(design.seed_agreement), abs=0.05)


def test_seeds_that_only_one_cell_has_are_no_part_of_the_design(tmp_path):
    images = np.arange(16)
    labels = images % 4
    for cell, seeds in enumerate([(0, 1, 2, 3), (0, 1)]):
        for seed in seeds:
            is_right = np.where(labels == 0, seed > 1, images < 8)
            logits = np.eye(4)[np.where(is_right, labels, (labels + 1) % 4)]
            folder = tmp_path / "runs" / f"run-{cell}-{seed}"
            write_run(folder, seed, logits=logits, labels=labels, groups=images, k=cell)
    design = load_pilot(tmp_path).design
    assert design.score.tolist() == [0, 0.5, 0.5, 0.5]
    assert design.agreement.tolist() == [1, 1, 1, 1]


def test_one_cell_is_no_pilot(tmp_path):
    with pytest.raises(DataError, match="no two cells with two common seeds"):
        load_pilot(write_cells(tmp_path, n_cells=1))


def run(capsys, *words):
    parser = argparse.ArgumentParser()
    add_power(parser.add_subparsers(required=True))
    options = parser.parse_args(["power", *words])
    options.command(options)
    return capsys.readouterr().out


KNOWN = ["--groups", *map(str, HAM10000), "--seed-sd", "0.01", "--score", "0.65"]


def test_the_command_prints_a_table_and_the_need(capsys):
    more = ["--agreement", "0.8", "--seed-agreement", "0.82", "--effect", "0.03"]
    printed = run(capsys, *KNOWN, *more)
    lines = printed.splitlines()
    assert lines[0] == "1503 test groups in 7 classes"
    assert lines[2].split("  ")[0] == "seeds" and [x.split()[0] for x in lines[3:6]] == [
        *("3", "5", "10")
    ]
    needed = find_seeds(0.03, DESIGN)
    assert f"{needed:.0f} seeds are needed to find 0.03 with 80% power." in printed
    assert f"{compute_design_power(0.03, DESIGN, 5):.2f}" in lines[4]


def test_the_command_says_what_it_assumed_and_when_seeds_do_not_help(capsys):
    printed = run(capsys, *KNOWN, "--effect", "0.02")
    assert "assumed, the worst cases: cells err independently (--agreement); seeds" in printed
    assert "more test groups are needed, not more seeds" in printed


def test_the_command_counts_a_datasets_test_groups(capsys):
    words = ["dataset=synthetic", "dataset.options.n_images=300"]
    printed = run(capsys, *words, "--seed-sd", "0.01", "--score", "0.65", "--agreement", "0.8")
    assert printed.startswith("synthetic: ") and "akiec" in printed.splitlines()[0]


def test_the_command_reads_finished_runs(capsys, tmp_path):
    printed = run(capsys, "--from", str(write_cells(tmp_path)), "--effect", "0.05")
    assert "from 2 cells (1 pair) on d, 80 test groups: seed sd 0.0" in printed


def test_bad_words(capsys, tmp_path):
    for words, said in (
        ([], "--seed-sd and --score must be given, or --from"),
        (["--seed-sd", "0.01", "--score", "0.6"], "name a dataset"),
        ([*KNOWN, "dataset=synthetic"], "--groups and a dataset exclude each other"),
        ([*KNOWN, "--from", str(tmp_path)], "--from estimates --groups, --seed-sd, --score"),
        ([*KNOWN, "--seeds", "1"], "--seeds 1: at least 2"),
        ([*KNOWN, "--effect", "2"], "0.02 is two points"),
        ([*KNOWN, "--power", "80"], "between 0 and 1, e.g. 0.8"),
    ):
        with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
            run(capsys, *words)


def test_where_test_groups_limit_what_is_found_the_text_says_so():
    few = describe_power(Design((4, 4, 4), 0.05, 0.6), [3, 5, 10], effect=None, power=0.8)
    rows = [line.split() for line in few.splitlines()[1:4]]
    assert rows == [["3", "0.466"], ["5", "0.466"], ["10", "0.466"]]  # more digits would rise
    assert "the test groups limit what is found, and not the seeds" in few
    assert (
        "with four times the test groups and 3 seeds the smallest difference found is 0.2" in few
    )
    many = describe_power(Design((900,) * 3, 0.05, 0.6, 0.9), [3, 5, 10], effect=None, power=0.8)
    assert "limit what is found" not in many


def test_a_small_difference_is_not_shown_as_zero():
    design = Design((100_000, 100_000), 0.0001, 0.99)
    text = describe_power(design, [3], effect=None, power=0.8)
    shown = [float(line.split()[-1]) for line in text.splitlines()[1:2]]
    assert shown and 0 < shown[0] < 0.01 and "0.000 " not in f"{text} " and "0.000." not in text
    assert shown[0] == pytest.approx(find_effect(design, 3, power=0.8), rel=0.05)
