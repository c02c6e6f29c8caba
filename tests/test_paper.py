"""The folder of a paper: it compiles, its numbers are the report's, others' files stay."""

import csv
import shutil
import subprocess

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_page import make_nasty, make_once

from tlcnn.report.latex import escape_line, name_macro, render_macros
from tlcnn.report.page_data import make_page_data
from tlcnn.report.paper import list_numbers, make_grid_table, write_paper


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_once(tmp_path_factory)


@pytest.fixture(scope="module")
def paper(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    write_paper(content, make_page_data(content).names, [], folder)
    return folder


def test_every_table_is_there_as_latex_and_csv(paper, content):
    main = (paper / "main.tex").read_text()
    stems = ["comparisons", "cells", "runs", "grid-1", "grid-2", "layers-1"]
    for stem in stems:
        text = (paper / "tables" / f"{stem}.tex").read_text()
        assert f"\\input{{tables/{stem}.tex}}" in main and f"\\label{{tab:{stem}}}" in text
        assert "\\caption{" in text and "\\toprule" in text
    cells = pd.read_csv(paper / "tables" / "cells.csv")
    assert cells[content.metric].tolist() == pytest.approx(content.cells[content.metric].tolist())
    assert list(pd.read_csv(paper / "tables" / "runs.csv")["run_id"]) == list(
        content.runs["run_id"]
    )


def test_the_numbers_are_the_reports(content):
    numbers = list_numbers(content)
    row = content.comparisons.loc[0]
    assert numbers["ham10000 imagenet_vs_random delta"] == f"{100 * row['delta']:+.1f}"
    assert numbers["ham10000 imagenet_vs_random verdict"] == row["verdict"]
    best = content.cells.set_index("cell").loc[content.grids[0].best]
    (role,) = [role for _, role, cell in content.highlights if cell == content.grids[0].best]
    assert numbers[f"ham10000 {role}"] == f"{100 * best[content.metric]:.1f}"


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_macros_have_letters_only_and_never_the_same_name(numbers):
    lines = render_macros(numbers).splitlines()
    macros = [line.split("}")[0] for line in lines if line]
    assert len(set(macros)) == len(numbers)
    assert all(macro.removeprefix("\\newcommand{\\").isalpha() for macro in macros)


def test_a_macro_is_named_after_what_it_is():
    assert name_macro("ham10000 best_cell 2 p") == "tlcnnHamBestCellTwoP"


@given(st.text())
def test_escaped_texts_are_ascii_or_latin_and_balanced(text):
    escaped = escape_line(text)
    assert all(letter.isascii() or letter <= "\u017f" for letter in escaped)
    bare = escaped.replace("\\{", "").replace("\\}", "")
    assert bare.count("{") == bare.count("}") and "\n" not in escaped


def test_a_grid_marks_its_best_cell_and_leaves_blanks(content):
    table = make_grid_table(content.grids[0])
    texts = [cell.text for row in table.rows for cell in row.cells]
    assert sum("*" in text for text in texts) == 1 and "" in texts


def test_csv_starts_no_formula(content, tmp_path):
    nasty = make_nasty(content, tmp_path)
    write_paper(nasty, make_page_data(nasty).names, [], tmp_path / "paper")
    with open(tmp_path / "paper" / "tables" / "cells.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert any("cmd()" in text for row in rows for text in row)
    assert not [text for row in rows for text in row if text.startswith(("=", "@"))]


def test_files_of_others_stay_and_own_ones_are_replaced(content, tmp_path):
    (tmp_path / "tables").mkdir()
    foreign = tmp_path / "tables" / "mine.tex"
    foreign.write_text("mine")
    (tmp_path / "main.tex").write_text("old")
    for _ in range(2):
        written = write_paper(content, make_page_data(content).names, [], tmp_path)
    assert foreign.read_text() == "mine" and (tmp_path / "main.tex").read_text() != "old"
    assert sorted(p for p in tmp_path.rglob("*.*") if p != foreign) == sorted(written)


@pytest.mark.slow
@pytest.mark.parametrize("is_nasty", [False, True])
def test_it_compiles(content, tmp_path, is_nasty):
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("neither pdflatex nor tectonic is installed")
    made = make_nasty(content, tmp_path) if is_nasty else content
    write_paper(made, make_page_data(made).names, [], tmp_path / "paper")
    flags = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    command = [engine, *flags, "main.tex"]
    done = subprocess.run(command, cwd=tmp_path / "paper", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
