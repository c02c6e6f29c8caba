"""The folder of a paper: it compiles, its numbers are the report's, others' files stay."""

import csv
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records_made import write_cell
from test_page import make_nasty, make_once

from tlcnn.records.read import read_runs
from tlcnn.report import assemble
from tlcnn.report.content_tables import make_grid_table
from tlcnn.report.headline import list_numbers
from tlcnn.report.page_data import make_page_data
from tlcnn.report.paper import write_paper
from tlcnn.report.writers.latex import escape_latex, name_macro, write_macros


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
    assert numbers["ham10000 resnet18 imagenet_vs_random delta"] == f"{100 * row['delta']:+.1f}"
    assert numbers["ham10000 resnet18 imagenet_vs_random verdict"] == row["verdict"]
    best = content.cells.set_index("cell").loc[content.grids[0].best]
    (role,) = [role for _, role, cell in content.highlights if cell == content.grids[0].best]
    assert numbers[f"ham10000 resnet18 {role}"] == f"{100 * best[content.metric]:.1f}"


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_macros_have_letters_only_and_never_the_same_name(numbers):
    lines = write_macros(numbers).splitlines()
    macros = [line.split("}")[0] for line in lines if line]
    assert len(set(macros)) == len(numbers)
    assert all(macro.removeprefix("\\newcommand{\\").isalpha() for macro in macros)


def test_a_macro_is_named_after_what_it_is():
    assert name_macro("isic19 best_cell 2 p") == "tlcnnIsicOneNineBestCellTwoP"
    assert name_macro("isic2018") != name_macro("isic2019")


@given(st.text())
def test_escaped_texts_are_ascii_or_latin_and_balanced(text):
    escaped = escape_latex(text)
    assert all(letter.isascii() or letter <= "\u017f" for letter in escaped)
    bare = escaped.replace("\\{", "").replace("\\}", "")
    assert bare.count("{") == bare.count("}") and "\n" not in escaped


def test_a_grid_marks_its_best_cell_and_leaves_blanks(content):
    table = make_grid_table(content.grids[0])
    entries = [entry for row in table.rows for entry in row]
    assert sum(entry.is_best for entry in entries) == 1 and "" in [e.text for e in entries]


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


def test_no_two_numbers_share_a_macro(tmp_path):
    """Several datasets, models, recipes and sources, each with the same questions."""
    score = 0.3
    for dataset in ("isic2018", "isic2019"):
        for model in ("resnet18", "resnet50"):
            for lr in (0.1, 0.01):
                for init, k in (("random", 0), ("imagenet", 5), ("imagenet-chest", 5)):
                    score += 0.01
                    scores = (score, score + 0.001, score + 0.003)
                    named = {"dataset": dataset, "model": model, "init": init, "k": k}
                    write_cell(tmp_path, scores, **named, **{"train.lr": lr})
    content = assemble.make_content(read_runs(tmp_path))
    numbers = list_numbers(content)
    assert len({name_macro(name) for name in numbers}) == len(numbers)
    deltas = [name for name in numbers if name.endswith("delta")]
    assert len(deltas) == sum(len(finding.comparisons) for finding in content.findings) >= 8
    told = {numbers[f"isic2018 resnet18 recipe {number}"] for number in (1, 2)}
    assert told == {"train.lr=0.1", "train.lr=0.01"}


def test_tables_tell_nobody_where_the_runs_lie(content, tmp_path):
    lost = content.runs["folder"].iloc[0]
    problems = [f"a copy of {lost}, which was taken", *[None] * (len(content.runs) - 1)]
    cells = content.cells.assign(folders=[[[lost]]] * len(content.cells))
    told = replace(content, runs=content.runs.assign(problem=problems), cells=cells)
    write_paper(told, make_page_data(told).names, [], tmp_path)
    for path in (tmp_path / "tables").glob("*.csv"):
        assert str(Path(lost).parent) not in path.read_text(), path.name
    runs = pd.read_csv(tmp_path / "tables" / "runs.csv")
    assert runs["folder"].tolist() == [Path(folder).name for folder in content.runs["folder"]]
    assert runs["problem"].iloc[0] == f"a copy of {Path(lost).name}, which was taken"


def test_the_caption_says_that_pairs_are_made_where_possible(paper):
    text = " ".join((paper / "tables" / "comparisons.tex").read_text().split())
    assert "paired by seed and test group where possible" in text
