"""Text from data reaches terminal, page, report.md and paper without control characters."""

import io
import logging
import unicodedata
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from test_page import make_nasty, make_once
from test_read import PLAN, make_run

from tlcnn.cli.main import main
from tlcnn.report.figures.style import ReportFigure, save_figure
from tlcnn.report.markdown import render_report
from tlcnn.report.page import Picture, render_page
from tlcnn.report.page_data import make_page_data
from tlcnn.report.paper import write_paper
from tlcnn.run.job import log_to_stderr
from tlcnn.text import make_visible, print_text

EVIL = "a\x1b[31m\x07b\x9b\u202e\r\tc"


def list_controls(text):
    return sorted({c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"})


def test_control_characters_are_shown_as_escapes():
    assert make_visible(EVIL) == r"a\x1b[31m\x07b\x9b\u202e c"


def test_printed_texts_keep_their_lines_and_no_other_control_character(capsys):
    print_text(f"first\n{EVIL}\nlast")
    out = capsys.readouterr().out
    assert out.startswith("first\na\\x1b[31m") and out.endswith("\nlast\n")
    assert list_controls(out) == []


def test_logged_messages_keep_their_lines_and_no_other_control_character(capsys):
    log = logging.getLogger("tlcnn")
    handlers, level, propagates = log.handlers, log.level, log.propagate
    log_to_stderr(logging.WARNING)
    try:
        log.error("first\n%s\nlast", EVIL)
        log.error("a traceback", exc_info=ValueError(EVIL))
    finally:
        log.handlers, log.propagate = handlers, propagates
        log.setLevel(level)
    err = capsys.readouterr().err
    assert err.startswith("first\na\\x1b[31m") and "\nlast\na traceback\n" in err
    assert "ValueError: a\\x1b[31m" in err and list_controls(err) == []


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_nasty(make_once(tmp_path_factory), tmp_path_factory.mktemp("nasty"))


def test_no_part_of_a_report_holds_control_characters(content, tmp_path):
    data = make_page_data(content)
    figure = ReportFigure("a", EVIL, EVIL, Figure(), EVIL, "training")
    (svg,) = save_figure(figure, tmp_path, ["svg"])
    page = render_page(content, data, [Picture(figure, "data:image/png,")], [EVIL])
    texts = {"page": page, "markdown": render_report(content, data, [figure])}
    texts["svg"] = svg.read_text()
    for path in write_paper(content, data.names, [figure], tmp_path / "paper"):
        texts[path.name] = path.read_text()
    assert {name: list_controls(text) for name, text in texts.items()} == dict.fromkeys(texts, [])


def test_a_command_prints_no_control_characters_of_a_run(tmp_path, capsys):
    make_run(tmp_path, "good", plan={**PLAN, "init": EVIL, "settings": {f"k{EVIL}": EVIL}})
    make_run(tmp_path, "odd", plan={**PLAN, "cell_id": EVIL, "settings": {f"k{EVIL}": "b"}})
    Path(tmp_path / "runs" / f"broken{EVIL}").mkdir(parents=True)
    (tmp_path / "runs" / f"broken{EVIL}" / "plan.json").write_text("{")
    for options in ([], ["--seeds"], ["--markdown"], ["--latex"], ["--html"], ["--csv"]):
        main(["compare", str(tmp_path), *options])
        printed = capsys.readouterr()
        assert "x1b" in printed.out
        assert list_controls(printed.out) == list_controls(printed.err) == []
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / EVIL)])
    assert list_controls(capsys.readouterr().err) == []


def test_a_console_that_lacks_a_character_shows_its_escape():
    console = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    print_text("Größe ✓", file=console)
    assert console.buffer.getvalue().strip() == rb"Gr\xf6\xdfe \u2713"


@pytest.mark.parametrize("form", ["--markdown", "--latex", "--html", "--csv"])
def test_a_table_reaches_a_console_that_lacks_its_characters(tmp_path, monkeypatch, form):
    make_run(tmp_path, "good", plan={**PLAN, "dataset": "Größe ✓"})
    console = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr("sys.stdout", console)
    main(["compare", str(tmp_path), form])
    assert rb"Gr\xf6" in console.buffer.getvalue() and console.buffer.getvalue()[-2:] != b"\n\n"
