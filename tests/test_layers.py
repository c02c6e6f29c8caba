"""C, S, G, gamma and their verdicts: Yosinski's published curves, and what no data can say."""

import numpy as np
import pytest
from records_made import write_record

from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.statistics.arm import Arm
from tlcnn.statistics.notes import Note, NoteKind
from tlcnn.study.cells import Source, make_cells
from tlcnn.study.layers import compute_layer_scores, list_treatments
from tlcnn.study.runs import make_runs

# Yosinski et al. 2014 (arXiv:1411.1792), top-1 in per cent, means over runs, recomputed from the
# logs in the authors' repository (yosinski/convnet_transfer); n = 1..7.
N_RUNS = {"base": 8, "BnB": 4, "AnB": 8, "BnB+": 2, "AnB+": 2}
PUBLISHED = {
    "base": (62.51,),
    "BnB": (62.67, 62.35, 62.11, 60.48, 59.35, 61.88, 62.32),
    "AnB": (62.82, 62.39, 61.89, 59.98, 57.80, 58.06, 54.25),
    "BnB+": (61.8, 62.2, 63.1, 62.9, 63.0, 62.8, 62.7),
    "AnB+": (63.7, 63.6, 64.3, 64.0, 64.5, 64.6, 64.7),
}
C = (-0.16, 0.16, 0.40, 2.03, 3.16, 0.63, 0.19)
S = (-0.15, -0.04, 0.22, 0.50, 1.55, 3.82, 8.07)
SPREAD = 0.54  # of the eight bases, in points
UNITS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")


def write_published(folder):
    spread = np.random.default_rng(0)
    for name, means in PUBLISHED.items():
        for n, mean in enumerate(means, start=1):
            jitter = spread.standard_normal(N_RUNS[name])
            jitter -= jitter.mean()
            init = {"B": "self", "A": "imagenet_a", "b": "random"}[name[0]]
            k = 0 if name == "base" else n
            j = 0 if name == "base" or name.endswith("+") else n
            for seed, moved in enumerate(jitter * SPREAD):
                named = {"init": init, "k": k, "j": j, "units": UNITS, "metric": "accuracy"}
                write_record(folder, seed=seed, test=(mean + moved) / 100, **named)


def test_yosinskis_published_curves_come_out_to_the_printed_digits(tmp_path):
    write_published(tmp_path)
    content = make_content(read_runs(tmp_path), metric="test/accuracy", metrics=())
    (layers,) = content.layers
    scores = layers.scores
    assert (100 * scores["C"]).round(2).tolist() == list(C)
    assert (100 * scores["S"]).round(2).tolist() == list(S)
    assert scores["unit"].tolist() == list(UNITS)
    boost = np.subtract(PUBLISHED["AnB+"], PUBLISHED["BnB+"])
    assert np.allclose(100 * scores["G"], boost, atol=1e-9)
    assert scores["verdict"].tolist()[5:] == ["specific", "specific"]  # 3.8 and 8.1 points
    assert "specific" not in scores["verdict"].tolist()[:4]  # inside the noise of the bases
    assert scores["gamma"].isna().all()  # no random-frozen network was trained
    curves = layers.curves.set_index(["arm", "n"])
    assert round(100 * curves.loc[("AnB", 7), "value"], 2) == 54.25
    assert curves.loc[("base", 0), "n_seeds"] == 8
    (finding,) = [found for found in content.findings if found.key == "layers"]
    assert "fc7 8.1 [" in finding.answer


def arm(mean, spread=0.001, n=5, seed=0):
    moved = np.random.default_rng(seed).standard_normal(n)
    return Arm("", np.arange(n), mean + spread * (moved - moved.mean()))


def scores_of(own, ours, drawn=None, spread=0.001):
    arms = {("BnB", 1): arm(own, spread), ("AnB", 1): arm(ours, spread, seed=1)}
    if drawn is not None:
        arms[("random-frozen", 1)] = arm(drawn, spread, seed=2)
    return compute_layer_scores(arms, ["stem"])[0]


def test_a_gap_that_is_surely_small_is_general():
    assert scores_of(0.60, 0.60).verdict == "general"


def test_a_gap_that_is_surely_there_and_matters_is_specific():
    assert scores_of(0.60, 0.55).verdict == "specific"


def test_a_gap_that_is_surely_there_but_below_the_margin_is_general():
    assert scores_of(0.600, 0.595).verdict == "general"


def test_noise_is_undetermined_and_says_how_many_seeds_would_settle_it():
    row = scores_of(0.60, 0.58, spread=0.04)
    assert row.verdict == "undetermined"
    assert row.seeds_needed > 5


def test_gamma_is_the_share_of_what_own_filters_gain_over_drawn_ones():
    row = scores_of(0.60, 0.50, drawn=0.40)
    assert row.gamma.value == pytest.approx(0.5)
    assert row.gamma.low < 0.5 < row.gamma.high


def test_gamma_is_not_told_where_drawn_filters_do_as_well():
    row = scores_of(0.60, 0.55, drawn=0.599)
    assert row.gamma is None
    assert Note(NoteKind.NO_GAMMA) in row.notes


def test_missing_treatments_leave_gaps_and_not_errors():
    scores = compute_layer_scores({("AnB", 2): arm(0.5)}, ["stem", "stage1"])
    assert [unit.verdict for unit in scores] == ["not measured", "not measured"]
    assert all(set(unit.gaps.values()) == {None} and unit.gamma is None for unit in scores)


def test_treatments_are_told_from_source_k_and_j(tmp_path):
    for init, k, j in [("random", 0, 0), ("random", 0, 3), ("x", 3, 3), ("x", 3, 0), ("x", 3, 1)]:
        write_record(tmp_path, init=init, k=k, j=j, seed=0, test=0.5)
    for j in (0, 3):
        write_record(tmp_path, init="self", k=3, j=j, seed=0, test=0.5)
    runs = make_runs(read_runs(tmp_path))
    found = list_treatments(make_cells(runs), Source("x"), Source("self"))
    assert set(found) == {
        *{("base", 0), ("random-frozen", 3), ("AnB", 3), ("AnB+", 3), ("BnB", 3), ("BnB+", 3)},
    }
