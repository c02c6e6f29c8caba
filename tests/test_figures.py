"""Figures say what the frames say: facts of drawn figures, headless, from fabricated frames."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from content_made import METRIC, make_content
from matplotlib.text import Text
from scipy.integrate import trapezoid
from sklearn.metrics import confusion_matrix, recall_score, roc_curve

from tlcnn.report.content import Grid, LayerScores
from tlcnn.report.figures import FIGURES, draw_figures
from tlcnn.report.figures.bars import Panel, draw_bars, plot_bars
from tlcnn.report.figures.choose import (
    choose_cells,
    describe_hidden,
    find_highlights,
    list_histories,
    list_runs,
    name_apart,
)
from tlcnn.report.figures.confusion import compute_confusion, draw_confusion, plot_confusion
from tlcnn.report.figures.convergence import compute_steps, plot_convergence
from tlcnn.report.figures.grid import draw_grid, plot_grid
from tlcnn.report.figures.layers import draw_layers, plot_layers, select_curves
from tlcnn.report.figures.learning import draw_learning, plot_learning
from tlcnn.report.figures.predictions import list_tests
from tlcnn.report.figures.recall import (
    compute_interval,
    compute_recalls,
    draw_recall,
    plot_recall,
)
from tlcnn.report.figures.reliability import (
    Confidence,
    compute_errors,
    compute_reliability,
    plot_reliability,
)
from tlcnn.report.figures.roc import Curve, draw_roc, make_curve, plot_classes, plot_roc
from tlcnn.report.figures.style import COLUMN, FULL, ReportFigure, make_literal, save_figure
from tlcnn.statistics.ranking import compute_calibration_error, compute_sensitivity

WIDTHS = [COLUMN, FULL]
HOSTILE = ("$a_b$", "_melanoma & <i>", "squamous cell carcinoma in situ", r"\frac{1}{0}", "a\nb")
LONG = "ImageNet → HAM10000 through stage1_with_a_long_name, frozen through $x$_y (train.lr=0.001)"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_content(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def drawn(content):
    return draw_figures(content)


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def check_ticks_apart(figure):
    """No two tick labels of an axis overlap, and none leaves the picture."""
    figure.draw_without_rendering()
    whole = figure.bbox.padded(6)
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            pairs = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
            labels = [label for at, label in pairs if low - 1e-9 <= at <= high + 1e-9]
            labels = [label for label in labels if label.get_text() and label.get_visible()]
            turned = any(0 < label.get_rotation() < 90 for label in labels)
            boxes = [label.get_window_extent() for label in labels if ax.axison]
            for first, second in zip(boxes, boxes[1:], strict=False):
                close = first.x1 > second.x0 and first.x0 < second.x1
                close = close and first.y1 > second.y0 and first.y0 < second.y1
                assert turned or not close, [label.get_text() for label in labels]
            for box in boxes:
                assert box.x0 >= whole.x0 and box.x1 <= whole.x1


# ---- all figures --------------------------------------------------------------------------------


def test_a_whole_report_is_drawn_without_a_problem(drawn):
    figures, problems = drawn
    # the made-up runs have no images, which is the one thing that is told
    assert len(problems) == 1 and problems[0].startswith("figure examples was not drawn: HAM10000")
    assert "config.yaml" in problems[0] and len(problems[0]) < 400
    sections = {figure.section for figure in figures}
    assert sections == {"grid", "layers", "scores", "training", "predictions"}
    names = [figure.name for figure in figures]
    assert len({name.lower() for name in names}) == len(names)
    assert "roc-ham10000" in names and "roc-lung" not in names  # lung has no positive class


def test_captions_are_sentences_and_say_how_much_is_behind_a_picture(drawn):
    for figure in drawn[0]:
        assert figure.caption[0].isupper() or figure.caption[0].islower()
        assert figure.caption.endswith(".") and figure.alt.endswith("."), figure.name
        assert "seed" in figure.caption, figure.name
        width = figure.figure.get_figwidth()
        assert width == (FULL if figure.wide else COLUMN), figure.name


def test_nothing_overlaps_in_a_usual_report(drawn):
    for figure in drawn[0]:
        check_ticks_apart(figure.figure)


def test_a_figure_that_fails_is_told_and_stops_no_other(content, monkeypatch):
    grids = (replace(content.grids[0], table=pd.DataFrame({"value": [1]})),)
    for name in set(FIGURES) - {"grid", "layers"}:
        monkeypatch.delitem(FIGURES, name)
    figures, problems = draw_figures(replace(content, grids=grids))
    assert len(problems) == 1 and problems[0].startswith("figure grid was not drawn")
    assert [figure.section for figure in figures] == ["layers"]


def test_a_report_of_nothing_draws_nothing(content):
    nothing = replace(
        content,
        runs=content.runs.iloc[:0],
        cells=content.cells.iloc[:0],
        comparisons=content.comparisons.iloc[:0],
        grids=(),
        layers=(),
        highlights=(),
    )
    assert draw_figures(nothing) == ([], [])


def test_runs_whose_folders_are_gone_leave_what_tables_can_tell(content):
    runs = content.runs.assign(folder="/nowhere/" + content.runs["run_id"].astype(str))
    figures, problems = draw_figures(replace(content, runs=runs))
    assert problems == []
    assert {figure.section for figure in figures} == {"grid", "layers", "scores"}


def test_importing_the_figures_imports_no_torch():
    code = (
        "import sys, tlcnn.report.figures, tlcnn.report.explain\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'captum')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert all(callable(draw) for draw in FIGURES.values())


# ---- files --------------------------------------------------------------------------------------


def test_files_are_the_same_bytes_each_time_and_fonts_are_embedded(content, tmp_path):
    paths = {}
    for folder in ("a", "b"):
        figure = next(draw_grid(content))
        paths[folder] = save_figure(figure, tmp_path / folder)
    for first, second in zip(paths["a"], paths["b"], strict=True):
        assert first.read_bytes() == second.read_bytes(), first.suffix
    by_suffix = {path.suffix: path.read_bytes() for path in paths["a"]}
    assert set(by_suffix) == {".pdf", ".svg", ".png"}
    assert b"/FontFile2" in by_suffix[".pdf"] and b"/Type3" not in by_suffix[".pdf"]
    assert b"dc:date" not in by_suffix[".svg"]
    assert by_suffix[".png"][16:20] == int(COLUMN * 200).to_bytes(4, "big")  # 200 dpi


def test_the_users_matplotlibrc_changes_nothing(content, tmp_path):
    import matplotlib

    plain = save_figure(next(draw_grid(content)), tmp_path / "a", ["svg"])[0].read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "axes.facecolor": "red"}):
        styled = save_figure(next(draw_grid(content)), tmp_path / "b", ["svg"])[0].read_bytes()
    assert plain == styled


# ---- hostile names ------------------------------------------------------------------------------


def make_hostile(width):
    """One figure of each kind with names that break mathtext, legends and layouts."""
    units = ("stem", "stage1_with_a_long_name", "$x^2$_<b>", "_hidden", *"efgh")
    cells = [(k, j) for k in range(9) for j in range(k + 1)]
    table = pd.DataFrame(cells, columns=["k", "j"]).assign(value=0.5, low=0.4, high=0.55)
    table = table.assign(cell=[f"{k}{j}" for k, j in cells], n_seeds=3)
    curves = pd.DataFrame(
        [(arm, n, 0.5, 0.4, 0.6, 3) for arm in ("AnB", "BnB") for n in range(1, 9)],
        columns=["arm", "n", "value", "low", "high", "n_seeds"],
    )
    ends = {f"{name}{end}": 0.01 for name in "FCS" for end in ("", "_low", "_high")}
    scores = pd.DataFrame([{"n": n, "verdict": "general", **ends} for n in range(1, 9)])
    labels = [LONG, "_b", "$c$"]
    history = pd.DataFrame(
        [
            {"cell": name, "label": name, "j": 1, "seed": 0, "epoch": e, "step": e, "val/x": e / 9}
            for name in labels
            for e in range(1, 9)
        ]
    )
    values = {"value": 0.5, "low": 0.4, "high": 0.6}
    bars = pd.DataFrame([{"name": name, "j": 0, **values} for name in labels])
    seeds = pd.DataFrame({"position": [0, 1, 2], "seed": 0, "value": 0.5})
    rates = np.linspace(0, 1, 1001)[None] ** 0.5
    curve = [Curve(n, 1, rates, np.ones(1), np.ones(1)) for n in labels]
    confidence = np.linspace(0.2, 1, 90).reshape(3, 30)
    recalls = [{"label": n, "j": 0, "class": c, "n": 9, **values} for n in labels for c in HOSTILE]
    size = len(HOSTILE)
    metric, names = METRIC, ("$d$", "m", "$_x")
    return {
        "grid": plot_grid(Grid(*names, metric, units, table, best="31"), width=width),
        "layers": plot_layers(LayerScores(*names, metric, units, curves, scores, margin=0.01)),
        "learning": plot_learning({"$d$": history}, metric="val/x"),
        "convergence": plot_convergence({"$d$": compute_steps(history, "val/x", 0.5)}),
        "bars": plot_bars([Panel("$t$", "from", bars, seeds)], metric=metric, width=width),
        "confusion": plot_confusion(
            np.eye(size, dtype=int), classes=HOSTILE, counts=np.ones(size, int), width=width
        ),
        "reliability": plot_reliability(labels, [[Confidence(confidence, confidence > 0.5)]] * 3),
        "roc": plot_roc(curve, name="$a_b$"),
        "classes": plot_classes(dict.fromkeys(HOSTILE, curve), counts=np.arange(size)),
        "recall": plot_recall(pd.DataFrame(recalls), width=width),
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_names_from_data_are_literal_and_long_ones_do_not_overlap(width, tmp_path):
    for name, figure in make_hostile(width).items():
        check_ticks_apart(figure)
        assert all(not text.get_parse_math() for text in figure.findobj(Text)), name
        shown = " ".join(texts_of(figure)).replace("\u200b", "")
        assert "$" in shown, name
        paths = save_figure(ReportFigure(name, "$t$", "", figure, "", ""), tmp_path, ["svg"])
        assert "<i>" not in paths[0].read_text()


def test_a_name_that_legends_would_hide_is_shown():
    assert make_literal("_b") == "\u200b_b" and make_literal(make_literal("_b")) == "\u200b_b"
    figure = make_hostile(FULL)["learning"]
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()][1] == "\u200b_b"


# ---- grid ---------------------------------------------------------------------------------------


def test_every_cell_of_the_grid_says_its_value_and_interval(content):
    grid = content.grids[0]
    texts = texts_of(next(draw_grid(content)).figure)
    for row in grid.table.to_dict("records"):
        assert f"{100 * row['value']:.1f}" in texts
        assert f"±{100 * (row['high'] - row['low']) / 2:.1f}" in texts
    assert len([text for text in texts if text.startswith("±")]) == len(grid.table) == 21
    assert "random" in texts and "best on validation" in texts


def test_the_outline_is_where_validation_is_best_and_not_where_the_test_is(content):
    from matplotlib.patches import Rectangle

    grid = content.grids[1]
    best = grid.table.loc[grid.table["val"].idxmax()]
    assert best["cell"] != grid.table.loc[grid.table["value"].idxmax(), "cell"]
    ax = list(draw_grid(content))[1].figure.axes[0]
    boxes = [p for p in ax.patches if isinstance(p, Rectangle) and not p.get_fill()]
    row = len(grid.units) - best["k"]  # the largest k is on top
    assert {(int(box.get_x()), int(box.get_y())) for box in boxes} == {(best["j"], row)}


def test_a_cell_of_one_seed_says_so_and_shows_no_interval(content):
    table = content.grids[0].table.copy()
    table.loc[3, ["low", "high", "n_seeds"]] = [np.nan, np.nan, 1]
    figure = plot_grid(replace(content.grids[0], table=table, best=""))
    texts = texts_of(figure)
    assert texts.count("1 seed") == 1
    assert len([text for text in texts if text.startswith("±")]) == 20
    assert "best on validation" not in texts


@pytest.mark.parametrize(("ks", "heights"), [((5, 0), 2), ((5, 3, 1), 4), (range(6), 6)])
def test_a_grid_has_rows_of_the_k_that_were_trained_and_of_0(content, ks, heights):
    grid = content.grids[0]
    table = grid.table[grid.table["k"].isin(ks)]
    figure = plot_grid(replace(grid, table=table, best=table["cell"].iloc[-1]))
    ax = figure.axes[0]
    assert ax.get_ylim() == (heights, 0) and ax.get_xlim() == (0, 6)
    texts = texts_of(figure)
    assert all(f"{100 * value:.1f}" in texts for value in table["value"])
    check_ticks_apart(figure)


def test_an_interval_that_is_not_symmetric_shows_its_ends(content):
    table = content.grids[0].table.head(1).assign(value=0.5, low=0.41, high=0.53)
    grid = replace(content.grids[0], table=table, best="")
    assert "41.0–53.0" in texts_of(plot_grid(grid, width=FULL))


# ---- layers -------------------------------------------------------------------------------------


def test_layer_curves_go_through_their_points(content):
    layers = content.layers[0]
    above, below = next(draw_layers(content)).figure.axes
    lines = list(above.lines)
    assert len([line for line in above.lines if len(line.get_xdata()) == 5]) == 6  # six arms
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in lines])
    for value in layers.curves["value"]:
        assert np.abs(drawn - value).min() < 1e-9
    gap = [line for line in below.lines if len(line.get_xdata()) == 5][-1]
    np.testing.assert_allclose(gap.get_ydata(), 100 * layers.scores["F"])


def test_networks_that_two_curves_share_are_drawn_once(content):
    """With all units transferred AnB is `frozen`, and AnB+ is `full`."""
    (layers,) = content.layers
    curves = layers.curves
    is_last = ~curves["arm"].isin(["AnB", "AnB+"]) | (curves["n"] == len(layers.units))
    grid = replace(layers, curves=curves[is_last])
    assert set(select_curves(layers)["arm"]) - set(select_curves(grid)["arm"]) == {"AnB", "AnB+"}
    assert not [text for text in texts_of(plot_layers(grid)) if "(AnB" in text]
    alone = replace(grid, curves=grid.curves[grid.curves["arm"] == "AnB"])
    assert set(select_curves(alone)["arm"]) == {"AnB"}


def test_the_margin_is_one_line_above_zero(content):
    (layers,) = content.layers
    below = plot_layers(layers).axes[1]
    levels = [line.get_ydata()[0] for line in below.lines if len(set(line.get_ydata())) == 1]
    assert 100 * layers.margin in levels and -100 * layers.margin not in levels
    assert not below.patches


def test_verdicts_are_marked_at_their_unit(content):
    layers = content.layers[0]
    below = next(draw_layers(content)).figure.axes[1]
    marks = {line.get_marker(): line for line in below.lines if line.get_linestyle() == "None"}
    for verdict, marker in (("general", "o"), ("specific", "s"), ("undetermined", "D")):
        wanted = layers.scores.loc[layers.scores["verdict"] == verdict, "n"]
        assert list(np.round(marks[marker].get_xdata())) == list(wanted)


# ---- training -----------------------------------------------------------------------------------


def test_learning_curves_are_means_over_seeds(content):
    figure = next(draw_learning(content)).figure
    ham = choose_cells(content, "ham10000")
    trained, frozen, *_ = figure.axes
    assert len(figure.axes) == 4 and len(trained.lines) + len(frozen.lines) == len(ham) <= 8
    assert ham["init"].iloc[0] == "random" and "self" not in set(ham["init"])
    history = dict(list_histories(content))["ham10000"]
    history = history[history["cell"] == ham["cell"].iloc[0]]
    mean = history.groupby("epoch")["val/balanced_accuracy"].mean()
    np.testing.assert_allclose(trained.lines[0].get_ydata(), mean)
    assert len(frozen.lines) == (ham["j"] > 0).sum() > 0
    assert {line.get_linestyle() for line in trained.lines} == {"-"}
    assert all(line.get_markerfacecolor() == "white" for line in frozen.lines)
    looks = [(line.get_color(), line.get_marker()) for line in (*trained.lines, *frozen.lines)]
    assert len(set(looks)) == len(ham)


def test_a_figure_names_the_cells_that_it_does_not_show(content):
    lung = content.cells[content.cells["dataset"] == "lung"]
    first = lung.iloc[0]
    hidden = describe_hidden(content, "lung", set(lung["cell"]) - {first["cell"]})
    assert hidden == f" Not shown of lung: {first['label']}."
    assert describe_hidden(content, "lung", set(lung["cell"])) == ""
    assert describe_hidden(content, "lung", []) == f" Not shown of lung: {len(lung)} cells."


def test_every_figure_of_some_cells_says_by_which_rule_they_were_chosen(drawn):
    for figure in drawn[0]:
        if figure.name.startswith(("learning", "convergence", "recall", "roc", "reliability")):
            assert "Shown are" in figure.caption and "Not shown of" in figure.caption, figure.name


def test_steps_are_counted_to_the_first_epoch_that_is_good_enough():
    history = pd.DataFrame(
        [
            {"cell": c, "label": c, "j": 0, "seed": s, "epoch": e, "step": 10 * e, "val/x": v}
            for c, s, values in (("a", 0, [0.1, 0.6, 0.4]), ("a", 1, [0.1, 0.2, 0.3]))
            for e, v in enumerate(values, start=1)
        ]
    )
    table = compute_steps(history, "val/x", 0.5).set_index("seed")
    assert table.loc[0, "step"] == 20 and table.loc[0, "epoch"] == 2
    assert pd.isna(table.loc[1, "step"]) and table.loc[1, "last_step"] == 30
    texts = texts_of(plot_convergence({"d": table.reset_index()}))
    assert "never" in texts


# ---- bars ---------------------------------------------------------------------------------------


def test_the_lines_of_seeds_go_through_their_scores(content):
    figure = next(draw_bars(content)).figure
    starts = figure.axes[0]
    lines = [line for line in starts.lines if line.get_linestyle() == "-"]
    runs = content.runs[(content.runs["dataset"] == "ham10000") & (content.runs["j"] == 0)]
    for seed, line in enumerate(lines):
        mine = runs[runs["seed"] == seed].set_index(["init", "k"])[METRIC]
        assert list(line.get_ydata()) == [mine["random", 0], mine["imagenet", 5]]
    assert len(lines) == 3
    labels = [label.get_text() for label in starts.get_xticklabels()]
    assert labels == ["random", "ImageNet"]


def test_chains_stand_beside_their_alternatives(content):
    figure = list(draw_bars(content))[1].figure
    labels = [text.get_text().replace("\n", " ") for text in figure.axes[0].get_xticklabels()]
    wanted = ["random", "ImageNet", "ImageNet → HAM10000", "random → HAM10000"]
    assert sorted(labels) == sorted(wanted)


def test_cells_of_one_name_are_told_apart_by_model_and_recipe():
    cells = pd.DataFrame({"label": [*"xxy"], "model": "m", "difference": ["lr=1", "lr=2", ""]})
    assert list(name_apart(cells)["label"]) == ["x (lr=1)", "x (lr=2)", "y"]
    cells["model"] = ["m", "n", "n"]
    assert list(name_apart(cells)["label"]) == ["m: x", "n: x", "n: y"]


# ---- predictions --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(content):
    return dict(list_tests(content, 4))["ham10000"]


def test_highlights_are_read_with_all_their_seeds(content, shown):
    assert [one.role.split(", ")[-1] for one in shown] == [
        "random",
        "best",
        "ImageNet",
        "all frozen",
    ]
    assert shown[0].probabilities.shape == (3, 662, 7)
    assert shown[0].classes[shown[0].positive] == "mel"
    cell = find_highlights(content, "ham10000").iloc[0]
    scores = list_runs(content, cell)[METRIC].to_numpy()
    ours = [recall_score(shown[0].labels, p, average="macro") for p in shown[0].predicted]
    np.testing.assert_allclose(ours, scores)


def test_the_confusion_matrix_is_sklearns_summed_over_seeds(content, shown):
    best = shown[1]
    theirs = sum(confusion_matrix(best.labels, p, labels=range(7)) for p in best.predicted)
    matrix = compute_confusion(best)
    assert (matrix == theirs).all() and matrix.sum() == 3 * 662
    texts = texts_of(next(draw_confusion(content)).figure)
    assert f"{matrix[5, 5]:,}" in texts and f"{100 * matrix[5, 5] / matrix[5].sum():.0f}" in texts
    assert "nv\nn = 330" in texts


def test_the_lowest_recall_is_that_of_all_cells(content):
    highlights = [place for place in content.highlights if "all frozen" not in place[1]]
    part = replace(content, highlights=tuple(highlights))
    tests = dict(list_tests(part, 4))["ham10000"]
    tables = pd.concat([compute_recalls(test).assign(label=test.label) for test in tests])
    lowest = tables.iloc[tables["value"].argmin()]
    assert lowest["label"] != tests[-1].label
    alt = next(draw_recall(part)).alt
    assert f"is {lowest['value']:.2f}, of {lowest['class']} with {lowest['label']}." in alt


def test_what_melanomas_are_taken_for_is_said(content, shown):
    matrix = compute_confusion(shown[1])
    benign = matrix[4, [2, 3, 5, 6]].sum() / matrix[4].sum()
    caption = next(draw_confusion(content)).caption
    assert f"{100 * matrix[4, 4] / matrix[4].sum():.0f} % say mel" in caption
    assert f"{100 * benign:.0f} % a benign class (bkl, df, nv, vasc)" in caption


def test_reliability_bins_hold_every_prediction_and_give_the_ece(shown):
    one = shown[0]
    confidence, right = one.probabilities.max(axis=2)[0], (one.predicted == one.labels)[0]
    bins = compute_reliability(confidence, right)
    assert bins["n"].sum() == len(confidence) and len(bins) == 15
    assert bins["confidence"].is_monotonic_increasing
    gaps = (bins["n"] * (bins["accuracy"] - bins["confidence"])).abs().sum() / len(confidence)
    assert gaps == pytest.approx(compute_calibration_error(confidence, right))
    assert compute_errors(confidence[None], right[None])[0] == pytest.approx(gaps)


def test_equal_confidences_share_a_bin():
    bins = compute_reliability(np.full(40, 0.7), np.arange(40) % 2 == 0)
    assert list(bins["n"]) == [40] and bins["accuracy"].iloc[0] == 0.5


def test_the_operating_point_of_melanoma_is_where_sklearn_has_it(content, shown):
    mel = shown[0].positive
    ax = next(draw_roc(content)).figure.axes[0]
    points = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert len(points) == 4
    for point, one in zip(points, shown, strict=True):
        truth = one.labels == mel
        highest = []
        for scores in one.probabilities[:, :, mel]:
            x, y, _ = roc_curve(truth, scores, drop_intermediate=False)
            highest.append(y[x <= 0.1].max())
        assert point.get_xdata()[0] == 0.1
        assert point.get_ydata()[0] == pytest.approx(np.mean(highest))


def test_the_mean_curve_passes_through_the_operating_point(shown):
    curve = make_curve(shown[2], shown[2].positive)
    mean = curve.rates.mean(axis=0)
    assert mean[100] == pytest.approx(curve.sensitivities.mean(), abs=0.01)
    truth = shown[2].truth[:, shown[2].positive]
    ours = compute_sensitivity(truth, shown[2].probabilities[0, :, shown[2].positive])
    assert curve.sensitivities[0] == ours
    assert trapezoid(mean, dx=1e-3) == pytest.approx(curve.areas.mean(), abs=2e-3)


def test_recalls_are_sklearns_with_intervals_that_hold_them(shown):
    table = compute_recalls(shown[0]).set_index("class")
    for position, name in enumerate(shown[0].classes):
        theirs = [
            recall_score(shown[0].labels == position, p == position) for p in shown[0].predicted
        ]
        assert table.loc[name, "value"] == pytest.approx(np.mean(theirs))
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    assert list(table["n"]) == list(shown[0].counts)


def test_the_caption_of_bars_has_the_range_of_seeds(content):
    full = content.cells[(content.cells["init"] == "imagenet") & (content.cells["k"] == 5)]
    lacks = full["run_ids"].iloc[0][0]
    fewer = replace(content, runs=content.runs[content.runs["run_id"] != lacks])
    captions = [next(draw_bars(part)).caption for part in (content, fewer)]
    assert captions[0].endswith("Every cell is the mean of 3 seeds.")
    assert captions[1].endswith("Cells are means of 2 to 3 seeds.")


def test_a_class_that_is_never_found_still_has_an_interval():
    low, high = compute_interval(np.zeros((3, 12), bool), np.arange(12).astype(str))
    assert low == pytest.approx(0.0) and 0.1 < high < 0.4


def test_copies_of_an_image_in_one_group_do_not_narrow_an_interval():
    rng = np.random.default_rng(0)
    hits, groups = rng.random((3, 60)) < 0.6, np.arange(60).astype(str)
    once = compute_interval(hits, groups)
    copied = compute_interval(np.repeat(hits, 5, axis=1), np.repeat(groups, 5))
    np.testing.assert_allclose(once, copied)


def test_the_intervals_of_recall_cover_the_truth():
    rng = np.random.default_rng(1)
    n_covered = 0
    for _ in range(300):
        hardness = rng.normal(size=40)
        seeds = rng.normal(0, 0.15, size=(4, 1))
        hits = rng.normal(size=(4, 40)) * 0.5 + hardness + seeds < 0.8
        low, high = compute_interval(hits, np.arange(40).astype(str))
        truth = 0.7592  # P(sum of the three normals < 0.8): their deviation is 1.128 (Phi(0.709))
        n_covered += low <= truth <= high
    assert 0.92 <= n_covered / 300 <= 1.0
