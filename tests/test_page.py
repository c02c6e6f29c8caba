"""The page: one inert file, whatever the data says, that holds what the report says."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from content_made import make_content
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from tlcnn.records.folder import RunDir
from tlcnn.records.plan_record import PlanRecord, UnitRecord, write_plan
from tlcnn.report.captions import PAIRING, describe_calibration, describe_layers
from tlcnn.report.comparison_tables import (
    make_comparison_table,
    make_detectable_table,
)
from tlcnn.report.content_tables import (
    make_run_table,
)
from tlcnn.report.figures.style import ReportFigure
from tlcnn.report.forest import list_ticks, make_scale
from tlcnn.report.page import Picture, render_page
from tlcnn.report.page_data import compute_tints, embed_json, make_page_data
from tlcnn.report.run_details import LINE_LENGTH, LOG_LINES, read_details
from tlcnn.text import make_visible

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><b>",
    "=cmd()",
    "{{7*7}}",
    "javascript:alert(1)",
    "\u2028'",
    "<!--",
    "\x1b[31mred\x07\u202e",
)


_MADE = {}


def make_once(tmp_path_factory):
    """Return a report of two seeds, with a log of one run, that several files share."""
    if not _MADE:
        made = _MADE["content"] = make_content(tmp_path_factory.mktemp("page"), n_seeds=2)
        log = Path(made.runs["folder"].iloc[1]) / "log.txt"
        log.write_text("2026-01-01 WARNING an odd thing\nthe last line\n")
    return _MADE["content"]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_once(tmp_path_factory)


@pytest.fixture(scope="module")
def page(content):
    return render_page(content, make_page_data(content))


class Reader(HTMLParser):
    """Every tag with its attributes, the texts, and the content of scripts by their id or type."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict, str]] = []
        self.open_script: dict | None = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open_script = dict(attrs) if tag == "script" else None

    def handle_data(self, data):
        if self.open_script is None:
            self.texts.append(data)
        else:
            self.scripts.append((self.open_script, data))
            self.open_script = None


def read_data(page):
    (text,) = [s for attributes, s in Reader(page).scripts if attributes.get("id") == "data"]
    return json.loads(text)


def test_it_holds_every_answer_comparison_cell_and_run(page, content):
    text = "".join(Reader(page).texts).replace("\u00a0%", " %")
    for finding in content.findings:
        assert finding.question in text and finding.answer in text
        assert all(line in text for line in finding.details)
    assert text.count(" vs ") >= len(content.comparisons)
    data = read_data(page)
    assert set(data["cells"]) == set(content.cells["cell"])
    assert [run["id"] for run in data["runs"]] == list(content.runs["run_id"])
    assert all(line in text for line in (*content.left_out, *content.assumptions))
    assert all(value in text for _, pairs in content.provenance for _, value in pairs)


def test_a_badge_has_no_colour_where_nothing_was_shown(content):
    first, *others = content.findings
    for is_open, look in ((True, "open"), (False, "for")):
        finding = replace(first, verdict="yes", is_open=is_open)
        made = render_page(replace(content, findings=(finding, *others)), make_page_data(content))
        assert f'<span class="badge {look}">yes</span>' in made


def test_what_stands_in_backticks_is_code(content):
    said = replace(content, left_out=("1 run failed (`tlcnn status <b>`)",))
    made = render_page(said, make_page_data(content))
    assert "<li>1 run failed (<code>tlcnn status &lt;b&gt;</code>)</li>" in made


def test_a_number_keeps_its_per_cent_sign_on_its_line(content):
    text = "accuracy 14.3 % of `5 % here`"
    finding = replace(content.findings[0], question=text, answer=text, details=(text,))
    page = render_page(replace(content, findings=(finding,)), make_page_data(content), [])
    assert page.count("14.3\u00a0%") >= 3 and "14.3 %" not in page
    assert "<code>5 % here</code>" in page, "code is copied, and stays as it is"


def test_it_can_load_nothing_and_run_only_its_own_script(page):
    reader = Reader(page)
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    (script,) = [text for attributes, text in reader.scripts if not attributes]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "@import" not in page and "url(" not in page


def test_its_script_never_makes_markup_of_text(page):
    (script,) = [text for attributes, text in Reader(page).scripts if not attributes]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script
    assert "fetch(" not in script and "XMLHttpRequest" not in script


def make_nasty(content, tmp_path):
    """Return a report whose every name, label and log line is out to break it."""
    names = [NASTY[i % len(NASTY)] + str(i) for i in range(len(content.cells))]
    cells = content.cells.assign(label=names, dataset=names, init=names, note=names[::-1])
    nasty = "".join(NASTY)
    folder = shutil.copytree(content.runs["folder"].iloc[0], tmp_path / "runs" / "a")
    plan = json.loads((folder / "plan.json").read_text())
    plan["units"][0]["unit"] = nasty
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "log.txt").write_text("\n".join([*NASTY, f"2026 WARNING {nasty}"]))
    session = {"command": f"train.py '{NASTY[1]}'", "hardware": nasty}
    (folder / "environment.json").write_text(json.dumps({"sessions": [session]}))
    predictions = pd.read_parquet(folder / "predictions.parquet")
    logits = [c for c in predictions if c.startswith("logit/")]
    renamed = dict(zip(logits, (f"logit/{name}" for name in NASTY), strict=False))
    predictions.rename(columns=renamed).to_parquet(folder / "predictions.parquet")
    RunDir(folder).write_done(folder.name)
    settings = [{"dataset.name": name} for name in NASTY]
    runs = content.runs.assign(
        dataset=nasty,
        state=[nasty, *content.runs["state"][1:]],
        settings=[settings[i % len(settings)] for i in range(len(content.runs))],
        problem=nasty,
        folder=[str(folder), *content.runs["folder"][1:]],
    )
    comparisons = content.comparisons.assign(a_label=nasty, family=nasty, verdict=nasty)
    finding = replace(content.findings[0], question=nasty, verdict=nasty, answer=nasty)
    grid, layers = content.grids[0], content.layers[0]
    units = (nasty, *grid.units[1:])
    return replace(
        content,
        title=nasty,
        runs=runs,
        cells=cells,
        comparisons=comparisons,
        left_out=NASTY,
        findings=(replace(finding, details=NASTY, dataset=nasty), *content.findings[1:]),
        grids=(replace(grid, dataset=nasty, units=units, recipe=nasty),),
        layers=(replace(layers, dataset=nasty, scores=layers.scores.assign(unit=nasty)),),
        provenance=((nasty, ((nasty, nasty),)),),
        assumptions=NASTY,
    )


def test_names_from_data_are_inert(tmp_path, page, content):
    nasty = make_nasty(content, tmp_path)
    figure = ReportFigure(NASTY[1], NASTY[0], NASTY[2], Figure(), NASTY[1], NASTY[0])
    picture = Picture(figure, "data:image/png,")
    made = render_page(nasty, make_page_data(nasty), [picture], list(NASTY))
    reader = Reader(made)
    assert {tag for tag, _ in reader.tags} <= {tag for tag, _ in Reader(page).tags} | {
        *("figure", "figcaption", "strong", "img", "option", "select", "ol")
    }
    assert sum(tag == "script" for tag, _ in reader.tags) == 2
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    text = "".join(reader.texts)
    assert NASTY[0] in text and "{{7*7}}" in text
    run = read_data(made)["runs"][0]
    assert run["log"][:2] == list(NASTY[:2])
    assert run["units"][0][0] == make_visible("".join(NASTY))
    assert data_has(read_data(made)["classes"], NASTY[0])
    (embedded,) = re.findall(r'id="data">(.*?)</script>', made, re.DOTALL)
    assert not set("<>&\u2028\u2029") & set(embedded)


def data_has(lists, name):
    return any(name in names for names in lists)


def test_embedded_json_reads_back_as_it_was():
    value = {"a": [make_visible(name) for name in NASTY], "b": [1.5, None, True]}
    assert json.loads(embed_json(value)) == value
    with pytest.raises(ValueError):
        embed_json({"a": float("nan")})


def test_missing_numbers_are_dashes_that_say_why(content):
    nothing = {"delta": np.nan, "low": np.nan, "high": np.nan, "p_holm": np.nan}
    broken = content.comparisons.assign(**nothing, detectable=np.inf)
    (row, *_) = make_comparison_table(replace(content, comparisons=broken)).rows
    dashes = [entry for entry in row if entry.text == "–"]
    assert len(dashes) >= 3 and any("no possible" in entry.why for entry in dashes)
    made = render_page(replace(content, comparisons=broken), make_page_data(content))
    assert "NaN" not in "".join(Reader(made).texts) and ">nan<" not in made
    table = make_run_table(content, ["x"] * len(content.runs))
    failed = next(row for row in table.rows if "failed" in [entry.text for entry in row])
    assert any(entry.why == "the run is not finished" for entry in failed)


def test_a_cell_of_one_seed_is_spoken_of_in_the_singular(content):
    table = content.grids[0].table.assign(n_seeds=[1, *[3] * 20])
    grids = (replace(content.grids[0], table=table),)
    page = render_page(replace(content, grids=grids), make_page_data(content))
    spoken = re.findall(r'aria-label="(k \d, j \d: [^"]*)"', page)
    assert [text.endswith(", 1 seed") for text in spoken].count(True) == 1
    assert not any("1 seeds" in text for text in spoken)


def test_a_report_of_nothing_is_a_page():
    from tlcnn.report.content import Content

    columns = ["dataset", "model", "init", "k", "j", "bn", "seed", "state", "folder", "run_id"]
    empty = Content(
        title="nothing",
        created="now",
        metric="test/balanced_accuracy",
        metrics=(),
        runs=pd.DataFrame(columns=columns),
        left_out=(),
        cells=pd.DataFrame(columns=["cell", "label", "dataset", "run_ids", "n_seeds"]),
        comparisons=pd.DataFrame(columns=["a", "b", "delta", "low", "high", "margin"]),
        findings=(),
    )
    text = "".join(Reader(render_page(empty, make_page_data(empty))).texts)
    assert "No run is finished." in text and "There are no runs." in text


def test_many_runs_keep_the_page_small(content):
    many = pd.concat([content.runs] * 20, ignore_index=True)
    big = replace(content, runs=many)
    data = make_page_data(big, max_detailed=50)
    assert sum(run is not None for run in data.runs) == 50 and "50 of" in data.notes[0]
    made = render_page(big, data, first_rows=100)
    reader = Reader(made)
    rows = [a for t, a in reader.tags if a.get("data-opens", "").startswith("run:")]
    assert len(rows) == 100  # the others are made when they are shown
    assert len(read_data(made)["tables"]["runs"]) == len(many) - 100
    assert data.notes[0] in "".join(reader.texts)
    assert len(made) / len(many) < 2_500


def test_details_of_a_run(content):
    done = content.runs[content.runs["state"] == "done"].iloc[0]
    details = read_details(Path(done["folder"]))
    counts = np.array(details["confusion"])
    recall = counts.diagonal() / counts.sum(axis=1)
    measured = [done[f"test/recall/{name}"] for name in details["classes"]]
    assert recall == pytest.approx(measured)  # rows are true classes
    assert details["epochs"] == list(range(1, 13))
    assert len(details["curves"]["val/balanced_accuracy"]) == 12
    assert details["missing"]["log"] == "there is no log.txt"


def test_a_long_log_is_cut_and_its_warnings_are_kept(tmp_path):
    lines = ["2026 WARNING odd", *(f"{i} " + "x" * 999 for i in range(99))]
    (tmp_path / "log.txt").write_text("\n".join(lines))
    details = read_details(tmp_path)
    assert len(details["log"]) == LOG_LINES and len(details["log"][-1]) == LINE_LENGTH
    assert details["warnings"] == ["2026 WARNING odd"]


@pytest.mark.parametrize("name", ["plan.json", "metrics.jsonl", "environment.json"])
def test_damaged_records_cost_a_part_and_not_the_page(tmp_path, name):
    (tmp_path / name).write_text("{\n{}\n")
    (tmp_path / "predictions.parquet").write_text("no")
    missing = read_details(tmp_path)["missing"]
    assert sum("cut or damaged" in why for why in missing.values()) == 2


def test_a_scale_holds_every_point_and_no_wild_interval():
    frame = pd.DataFrame({"low": [-0.02, -0.03, -9.0], "d": [0.01, -0.01, 0.02]})
    frame["high"] = [0.04, 0.01, 9.0]
    scale = low, high, *band = make_scale(frame, "low", "d", "high", 0.01)
    assert band == [-0.01, 0.01] and -1 < low < -0.03 and 0.04 < high < 1
    ticks = list_ticks(scale)
    assert 0 in ticks and 2 <= len(ticks) <= 6
    empty = make_scale(frame.iloc[:0], "low", "d", "high", float("nan"))
    assert empty[0] < 0 < empty[1]


def test_the_band_of_a_cost_has_no_lower_end():
    """General is below the margin, however far, so no verdict uses minus the margin."""
    frame = pd.DataFrame({"low": [0.0], "d": [0.01], "high": [0.02]})
    low, _, start, end = make_scale(frame, "low", "d", "high", 0.03, is_cost=True)
    assert start == low > -0.03 and end == 0.03


def test_comparisons_with_a_verdict_come_first_and_say_it_in_the_second_column(content):
    verdicts = ["inconclusive", "worse", "inconclusive", "equivalent", "better", "inconclusive"]
    judged = replace(content, comparisons=content.comparisons.assign(verdict=verdicts))
    table = make_comparison_table(judged)
    assert table.columns[1].name == "verdict"
    assert [row[1].text for row in table.rows] == [
        *("worse", "equivalent", "better"),
        *["inconclusive"] * 3,
    ]


def test_families_have_letters_notes_have_numbers_and_what_all_rows_say_stands_once(content):
    n = len(content.comparisons)
    remarks = [["not paired", f"odd {i % 2}"] for i in range(n)]
    notes = {"remarks": remarks, "note": ["; ".join(parts) for parts in remarks]}
    table = make_comparison_table(
        replace(content, comparisons=content.comparisons.assign(verdict="better", **notes))
    )
    assert table.footnotes == ("odd 0", "odd 1") and ("note", "not paired") in table.everywhere
    assert "Every row: not paired." in table.describe_everywhere()
    names = [column.name for column in table.columns]
    marks = [
        (row[names.index("family")].text, row[names.index("note")].text) for row in table.rows
    ]
    assert marks == [("A", "1"), ("B", "2"), ("B", "1"), ("C", "2"), ("C", "1"), ("C", "2")]
    assert [name.split(",")[0] for name in table.families] == [
        *("imagenet vs random", "freezing", "chain")
    ]


def test_an_error_of_zero_is_called_no_evidence(content):
    rows = [
        {"family": "a", "family_size": 1, "n_seeds": 3, "se_seeds": 0.0, "se_groups": 0.0146},
        {"family": "b", "family_size": 2, "n_seeds": 3, "se_seeds": 0.007, "se_groups": 0.01},
    ]
    table = make_detectable_table(replace(content, detectable=pd.DataFrame(rows)))
    assert table.footnotes == (
        "an error of 0 that 3 seeds gave is no evidence that there is none",
    )
    assert [row[-1].text for row in table.rows] == ["1", "–"]
    assert [row[1].text for row in table.rows] == ["0.00", "0.70"]
    assert [row[0].text for row in table.rows] == ["a, 1 comparison", "b, 2 comparisons"]


@pytest.mark.parametrize("planned", [12, 30])
def test_a_run_says_its_best_epoch_of_how_many(content, planned):
    runs = content.runs.assign(best_epoch=12, planned_epochs=planned)
    table = make_run_table(replace(content, runs=runs), ["x"] * len(runs))
    at = [column.name for column in table.columns].index("best epoch")
    entries = [row[at] for row in table.rows]
    assert {entry.text for entry in entries} == {f"12 of {planned}"}
    assert {entry.why for entry in entries} == {"more epochs may help" if planned == 12 else ""}


def test_only_the_scores_of_layers_that_were_measured_are_explained(content):
    text = describe_layers(content)
    assert all(name in text for name in ("F is", "S is", "C is", "G is", "γ is", "Yosinski"))
    (layers,) = content.layers
    alone = layers.scores.assign(**dict.fromkeys(("S", "C", "G", "gamma"), np.nan))
    text = describe_layers(replace(content, layers=(replace(layers, scores=alone),)))
    assert "F is" in text and "S is" not in text and "γ" not in text and "Yosinski" not in text
    assert describe_layers(replace(content, layers=())) == ""


def test_a_correction_that_made_calibration_worse_is_said_to(content):
    rows = [
        {"dataset": "ham10000", "label": "x", "ece": 0.0502, "ece corrected": 0.0571},
        {"dataset": "ham10000", "label": "y", "ece": 0.0502, "ece corrected": 0.0503},
    ]
    text = describe_calibration(replace(content, calibration=pd.DataFrame(rows)))
    assert text.endswith("The correction made ECE larger for 1 of 2 cells: x (HAM10000).")
    assert "no patient's risk" in text
    assert "divided by the weight of its class" in text and "scaled to a sum of 1" in text
    assert "made ECE larger" not in describe_calibration(content)


def test_tints_span_the_scale_but_not_noise():
    assert compute_tints(pd.Series([0.5, 0.75, 1.0])) == [0, 50, 100]
    close = compute_tints(pd.Series([0.500, 0.501, np.nan]))
    assert close[2] is None and abs(close[0] - close[1]) < 10


@given(
    st.floats(1e-6, 10.0) | st.floats(0.08, 0.1),
    st.floats(0.0, 1.0),
)
@example(0.09, 0.4)
@example(1e-3, 0.5)
def test_a_scale_of_any_width_has_two_to_five_ticks(width, share):
    low, high = -share * width, (1 - share) * width
    ticks = list_ticks((low, high, 0.0, 0.0))
    assert 1 <= len(ticks) <= 5 and 0.0 in ticks
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in ticks)


def test_comparisons_say_by_which_rule_cells_are_paired(page):
    text = " ".join("".join(Reader(page).texts).split())
    assert PAIRING in text and "where possible" not in text


@pytest.mark.parametrize(
    ("text", "is_number"),
    [
        *(
            (text, True)
            for text in ("-1.0", "+3.1", "-1.0 (-2.0 to +1.0)", "+0.031 (0.0 to +0.1)")
        ),
        *(
            (text, False)
            for text in ("=cmd", "-1+cmd()", "+1 (=cmd)", "-1.0 (-2.0 to +1.0)+A1", "@x")
        ),
    ],
)
def test_the_csv_of_the_page_leaves_numbers_with_intervals_as_they_are(text, is_number):
    script = (files("tlcnn.report") / "templates" / "tables.js").read_text()
    (pattern,) = re.findall(r"^const NUMBER = /(.+)/;", script, re.MULTILINE)
    assert bool(re.search(pattern, text)) == is_number


def test_units_of_an_imported_run_follow_from_k_and_j(tmp_path):
    units = tuple(UnitRecord(name) for name in "abc")
    plan = PlanRecord("id", "cell", "d", "m", ("random",), 2, 1, "frozen", 0, units=units)
    write_plan(tmp_path, plan)
    units = read_details(tmp_path)["units"]
    assert units == [["a", True, True], ["b", True, False], ["c", False, False]]
