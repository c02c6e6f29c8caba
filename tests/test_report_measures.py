"""Measures in a report: figures, tables and sentences say what the readings say."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from measures_made import CURVES, make_measured_content
from records_made import UNITS
from test_cli_report import run_command
from test_figures import HOSTILE, check_ticks_apart, texts_of
from test_page import NASTY

from tlcnn.records.measures import AnalysisRecord, Reading, find_measures_dir, write_measure
from tlcnn.report.figures.measures import draw_measures, plot_measures
from tlcnn.report.layer_measure_tables import make_cost_agreement_table, make_reading_table
from tlcnn.report.markdown import render_report
from tlcnn.report.measure_sentences import count_digits, write_summary
from tlcnn.report.measure_words import MEASURES, UNTRUSTED, choose_variants
from tlcnn.report.page import render_page
from tlcnn.report.page_data import make_page_data
from tlcnn.report.paper import write_paper


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_measured_content(tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="module")
def part(content):
    (part,) = content.measures
    return part


# ---- figure -------------------------------------------------------------------------------------


def test_the_first_panel_is_the_cost_and_every_measure_has_one(content, part):
    (figure,) = draw_measures(content)
    assert figure.section == "layers" and figure.wide and "3 seeds" in figure.caption
    axes = [ax for ax in figure.figure.axes if ax.axison]
    titles = [ax.get_title(loc="left") for ax in axes]
    measures = list(dict.fromkeys(name for name, _ in CURVES))
    assert titles[0] == "a  freezing cost F(n)"
    assert [title[3:] for title in titles[1:]] == [MEASURES[name].title for name in measures]
    cost = next(line for line in axes[0].lines if len(line.get_xdata()) == 5)
    np.testing.assert_allclose(cost.get_ydata(), 100 * content.layers[0].scores["F"])
    labels = [text.get_text() for text in axes[1].get_xticklabels()]
    assert labels == [f"{n} {unit}" for n, unit in enumerate(part.units, start=1)]


def test_a_panel_has_the_values_the_null_and_the_ceiling_of_its_measure(content, part):
    (figure,) = draw_measures(content)
    ax = next(ax for ax in figure.figure.axes if ax.get_title(loc="left").endswith("(CKA)"))
    rows = part.readings[part.readings["measure"] == "cka"]
    lines = [line for line in ax.lines if len(line.get_xdata()) == 5]
    variants = ("pooled", "pooled against")
    for line, variant in zip(lines, variants, strict=True):
        values = rows.loc[rows["variant"] == variant, "value"]
        np.testing.assert_allclose(line.get_ydata(), values)
    levels = [
        {round(float(y), 6) for segment in lines.get_segments() for y in segment[:, 1]}
        for lines in ax.collections
        if isinstance(lines, LineCollection) and len(lines.get_segments()) == 5
    ]
    assert {0.22} in levels and {0.96} in levels
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["null", "ceiling", *variants]
    low, high = ax.get_ylim()
    assert low < 0.22 and high > 0.96 and low < rows["value"].min() < rows["value"].max() < high


def test_curves_of_a_panel_are_told_apart_without_colour(content):
    (figure,) = draw_measures(content)
    for ax in figure.figure.axes:
        lines = [line for line in ax.lines if len(line.get_xdata()) == 5]
        looks = {(line.get_marker(), line.get_linestyle()) for line in lines}
        assert len(looks) == len(lines)


def test_strange_names_many_units_and_missing_values_are_drawn(part):
    rows = part.readings[part.readings["measure"] == "probe"].copy()
    rows.loc[rows["n"] == 2, ["value", "low", "high"]] = np.nan
    names = rows.assign(measure="$x_y$", title="$x_y$", variant=HOSTILE[1])
    nothing = rows.assign(measure="knn", value=np.nan)
    many = pd.concat([rows.assign(n=rows["n"] + 5 * i, measure="cka") for i in range(5)])
    for units in (HOSTILE, tuple(f"block{n}" for n in range(25))):
        hostile = replace(part, units=units, readings=pd.concat([names, nothing, many]))
        figure = plot_measures(hostile)
        check_ticks_apart(figure)
        panels = [ax.get_title(loc="left") for ax in figure.axes if ax.axison]
        assert panels[1:] == ["b  $x_y$", "c  similarity (CKA)"]
        assert "\u200b_melanoma & <i>" in texts_of(figure)


def test_an_interval_of_two_seeds_does_not_flatten_its_panel(tmp_path):
    content = make_measured_content(tmp_path, n_seeds=2)
    (part,) = content.measures
    rows = part.readings
    wide = rows["measure"] == "reinit"
    rows.loc[wide & (rows["n"] == 5), ["low", "high"]] = [-40.0, 40.0]
    figure = plot_measures(part)
    ax = next(ax for ax in figure.axes if "resetting" in ax.get_title(loc="left"))
    assert ax.get_ylim()[0] > -3 and ax.get_ylim()[1] < 3


def test_a_source_without_any_value_has_no_figure(content, part):
    empty = replace(part, readings=part.readings.assign(value=np.nan))
    assert list(draw_measures(replace(content, measures=(empty,)))) == []


# ---- words --------------------------------------------------------------------------------------


def test_each_measure_has_its_sentences_and_disagreement_is_stated(part):
    assert [name.split(",")[0].lower() for name, _ in part.sentences] == [
        MEASURES[name].title.lower() for name in dict.fromkeys(name for name, _ in CURVES)
    ]
    probe, cka, _, gradient, *_ = (text for _, text in part.sentences)
    assert MEASURES["probe"].looks_at in probe and " at stem and " in probe
    assert "below its ceiling at stage2, stage3 and stage4" in probe
    assert "above its null at every unit" in probe
    assert (
        "comes after stage1, where F(n) comes to its margin" in probe and "Kendall's τ = " in probe
    )
    assert "comes after stage2, which the verdicts on F(n) exclude (order of" in cka
    assert "points to no depth" in gradient
    summary = part.summary
    assert "is below its margin of " in summary and " through stage1" in summary
    assert "1 measure points to the same depth: probe sufficiency." in summary
    assert "exclude, so these disagree with the costs: similarity (CKA) (through" in summary
    assert "weight movement" not in summary, "it is for information only"
    assert summary.endswith(UNTRUSTED)


def test_the_answer_is_that_of_the_costs_and_measures_come_after_it(content, part):
    (finding,) = [f for f in content.findings if f.key == "layers"]
    assert "probe" not in finding.answer and "General (shown to cost less" in finding.answer
    assert finding.details[-1] == f"Measures of the networks themselves: {part.summary}"


def test_measures_without_costs_stand_alone():
    assert "the measures stand alone" in write_summary([], None)


def test_a_measure_without_words_is_shown_and_not_judged(tmp_path):
    content = make_measured_content(tmp_path, measure="new one", variant="a_b")
    (part,) = content.measures
    assert len(part.agreement) == 0 and part.sentences[0][0] == "New one, a_b"
    assert "τ" not in part.sentences[0][1] and "1 measure points to no depth" in part.summary
    assert choose_variants("new one", ["a", "b", "c"]) == ["a", "b"]


def test_a_measure_that_could_not_be_computed_says_why(tmp_path):
    nothing = {"value": None, "low": None, "high": None, "note": "no single tensor leaves it"}
    (part,) = make_measured_content(tmp_path, **nothing).measures
    name, text = part.sentences[0]
    assert name == "Probe sufficiency, pooled"
    assert text == "No reading (no single tensor leaves it)."
    table = make_reading_table(part)
    assert ("note", "no single tensor leaves it") in table.everywhere


def test_the_command_finds_the_records_beside_the_runs(tmp_path):
    make_measured_content(tmp_path)
    run = next(folder for folder in (tmp_path / "runs").iterdir() if "-j0-" in folder.name)
    plan = json.loads((run / "plan.json").read_text())
    place = {
        name: plan[name] for name in ("run_id", "cell_id", "dataset", "model", "k", "j", "bn")
    }
    record = AnalysisRecord(
        **place,
        source="imagenet",
        seed=0,
        units=UNITS,
        manifest="",
        n_images=9,
        networks={"start": "x"},
    )
    folder = find_measures_dir(run) / record.analysis_id
    folder.mkdir(parents=True)
    (folder / "analysis.json").write_text(json.dumps(asdict(record)))
    write_measure(folder, "probe", 1, [Reading("probe", "pooled", 2, 0.876, note="of stage1")])
    run_command(tmp_path, "-o", tmp_path / "report", "--no-figures")
    for name in ("index.html", "report.md", "paper/main.tex"):
        assert "0.88 at stage1" in (tmp_path / "report" / name).read_text()


# ---- tables and pages ---------------------------------------------------------------------------


def test_the_tables_have_every_reading_and_the_depths(part):
    table, printed = make_reading_table(part), make_reading_table(part, shown=True)
    assert len(table.rows) == 5 * len(CURVES) and len(printed.rows) == 5 * (len(CURVES) - 2)
    for column, name in (("reading", "value"), ("95 % low", "low"), ("ceiling", "ceiling")):
        values = table.frame[column].to_numpy(float)
        np.testing.assert_array_equal(values, part.readings[name].to_numpy(float))
    agreement = make_cost_agreement_table(part)
    rows = {row[0].text: row for row in agreement.rows}
    assert agreement.rows[0][0].text == "cost F(n), below its margin"
    assert rows["cost F(n), below its margin"][2].text == "through stage1"
    assert rows["probe sufficiency"][3].text == "the same depth"
    assert rows["weight movement"][3].text == "excluded by the verdicts"


def test_page_paper_and_markdown_have_them(content, part, tmp_path):
    data = make_page_data(content)
    page, text = render_page(content, data), render_report(content, data)
    for where in (page, text):
        assert "Measures of the networks" in where and "Probe sufficiency, pooled" in where
    assert page.index("freezing cost F") < page.index("Measures of the networks</h3>")
    write_paper(content, data.names, [], tmp_path)
    main = (tmp_path / "main.tex").read_text()
    assert r"\section*{Measures of the networks}" in main
    assert r"\input{tables/measures-1-agreement.tex}" in main and "U+" not in main
    frame = pd.read_csv(tmp_path / "tables" / "measures-1.csv")
    assert len(frame) == len(part.readings)
    np.testing.assert_allclose(frame["value"], part.readings["value"])
    tau = pd.read_csv(tmp_path / "tables" / "measures-1-agreement.csv").set_index("measure")["tau"]
    assert tau["movement"] == pytest.approx(part.agreement.iloc[-1]["tau"])


def test_regions_of_two_datasets_have_names_of_their_own(content, part):
    (costs,) = content.layers
    layers = (costs, replace(costs, dataset="isic2019"))
    both = replace(content, layers=layers, measures=(part, replace(part, dataset="isic2019")))
    page = render_page(both, make_page_data(both))
    names = re.findall(r'role="region" aria-label="([^"]*)"', page)
    for table in ("Layer scores", "Measures beside the costs", "Readings of measures"):
        assert sum(name.startswith(table) for name in names) == 2
    assert len(set(names)) == len(names)


def test_without_measures_nothing_speaks_of_them(content, tmp_path):
    bare = replace(content, measures=())
    data = make_page_data(bare)
    for text in (render_page(bare, data), render_report(bare, data)):
        assert "Measures of the networks</h3>" not in text and "## Measures" not in text
    files = write_paper(bare, data.names, [], tmp_path)
    assert not [path for path in files if "measures" in path.name]


def test_strange_names_are_text_on_the_page_and_in_the_paper(content, part, tmp_path):
    nasty = "".join(NASTY)
    rows = part.readings.assign(unit=nasty, variant=nasty, title=nasty, note=nasty, over=nasty)
    agreement = part.agreement.assign(title=nasty, variant=nasty)
    hostile = replace(part, readings=rows, agreement=agreement, units=(nasty,) * 5, cell=nasty)
    hostile = replace(
        hostile, sentences=tuple(zip(NASTY, NASTY, strict=True)), summary=nasty, source_name=nasty
    )
    whole = replace(content, measures=(hostile,))
    data = make_page_data(whole)
    page = render_page(whole, data)
    assert "<script>alert" not in page and "<img src=x" not in page and "{{7*7}}" in page
    assert not re.search(r"<(img|b|script)\b[^>]*onerror", render_report(whole, data))
    write_paper(whole, data.names, [], tmp_path)
    for name in ("main.tex", "tables/measures-1.tex", "tables/measures-1-agreement.tex"):
        text = (tmp_path / name).read_text()
        assert "\\textless{}script" in text and "{{7*7}}" not in text


def test_small_readings_keep_two_places():
    assert count_digits([8e-4, 1e-5]) == 5 and count_digits([]) == 2 and count_digits([0.0]) == 2
