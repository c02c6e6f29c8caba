"""The folder of a paper: it compiles, its numbers are the report's, others' files stay."""

import csv
import re
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
from tlcnn.report.captions import PAIRING
from tlcnn.report.content_tables import make_grid_table
from tlcnn.report.figures import FIGURES, draw_figures
from tlcnn.report.figures.style import save_figure
from tlcnn.report.headline import list_numbers
from tlcnn.report.markdown import render_report
from tlcnn.report.methods import make_methods
from tlcnn.report.page import render_page
from tlcnn.report.page_data import make_page_data
from tlcnn.report.paper import write_paper
from tlcnn.report.references import REFERENCES
from tlcnn.report.table import Column, Entry, Table
from tlcnn.report.writers.latex import (
    escape_latex,
    name_macro,
    write_float,
    write_latex,
    write_macros,
)


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
    assert main.index("{tables/cells.tex}") < main.index("{tables/runs.tex}")
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
    assert numbers["ham10000 resnet18 imagenet vs random delta"] == f"{100 * row['delta']:+.1f}"
    assert numbers["ham10000 resnet18 imagenet vs random verdict"] == row["verdict"]
    best = content.cells.set_index("cell").loc[content.grids[0].best]
    (role,) = [role for _, role, cell in content.highlights if cell == content.grids[0].best]
    assert numbers[f"ham10000 resnet18 {role}"] == f"{100 * best[content.metric]:.1f}"


def test_the_name_of_a_number_has_its_sources(tmp_path):
    for init, mean in (("random", 0.5), ("random-ham10000", 0.6)):
        k = 0 if init == "random" else 5
        scores = (mean, mean + 0.01)
        write_cell(tmp_path, scores, init=init, k=k, ancestry=("ham10000",) * (k > 0), dataset="b")
    names = [n for n in list_numbers(assemble.make_content(read_runs(tmp_path))) if "delta" in n]
    assert names and not any("imagenet" in name for name in names)
    assert any("ham10000" in name and "random" in name for name in names)


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


@pytest.mark.latex
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("is_nasty", [False, True])
def test_it_compiles_and_nothing_is_wider_than_the_page(content, tmp_path, is_nasty):
    made = make_nasty(content, tmp_path) if is_nasty else content
    others = set(FIGURES) - {"grid"}
    figures, problems = draw_figures(made, skip=others)
    assert figures and not problems
    for figure in figures:
        save_figure(figure, tmp_path / "paper" / "figures", ["pdf"])
    write_paper(made, make_page_data(made).names, figures, tmp_path / "paper")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    for _ in range(2):  # the second time, references are resolved
        done = subprocess.run(command, cwd=tmp_path / "paper", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
    problems = re.findall(r"LaTeX Warning.*|Overfull \\hbox.*", done.stdout)
    assert is_nasty or not problems


def test_methods_stand_in_the_paper_and_unasked_questions_do_not(paper, content):
    main = (paper / "main.tex").read_text()
    for heading, lines in make_methods(content):
        is_list = heading == REFERENCES  # a section of its own, at the end
        start = f"\\section*{{{heading}}}" if is_list else f"\\paragraph{{{heading}.}}"
        assert start in main
        assert all(escape_latex(line) in main for line in lines)
    for finding in content.findings:
        assert (escape_latex(finding.question) in main) == finding.is_measured
    assert {finding.is_measured for finding in content.findings} == {True, False}


def test_tables_are_for_a_journal(paper):
    for path in (paper / "tables").glob("*.tex"):
        text = path.read_text()
        head = text.split("\\toprule")[1].split("\\midrule")[0]
        assert "resizebox" not in text and "imported" not in text
        assert not {"init", "n_classes", "id"} & set(re.findall(r"\w+", head))
    cells = (paper / "tables" / "cells.tex").read_text()
    columns = ["balanced accuracy", "macro AUROC", "accuracy", "calibration error"]
    assert cells.count("\\textbf{") == len(columns) * 2  # datasets
    assert "\\clearpage\n\n\\begin{figure}" not in (paper / "main.tex").read_text()


def test_decimals_align_where_numbers_have_not_the_same_digits():
    entries = [Entry(text, value) for text, value in (("0.012", 0.012), ("1", 1.0))]
    table = Table((Column("p", "number"),), tuple((entry,) for entry in entries))
    assert "0.012 \\\\" in write_latex(table) and r"1\phantom{.012} \\" in write_latex(table)


def test_a_table_of_many_rows_is_divided_into_pages():
    table = Table((Column("a"),), tuple((Entry(f"row {n}."),) for n in range(100)))
    floats = write_float(table, caption="Rows", label="tab:rows").split("\\begin{table}")[1:]
    assert len(floats) == 2 and floats[0].count("\\label") == 1
    assert all("(continued)" in part for part in floats[1:])
    assert all("".join(floats).count(f"row {n}.") == 1 for n in range(100))


def test_the_notes_of_a_table_of_several_pages_are_printed_once():
    rows = tuple((Entry(f"row {n}."),) for n in range(100))
    table = Table((Column("a"),), rows, families=("a question",), footnotes=("an odd thing",))
    text = write_float(table, caption="Rows", label="tab:rows")
    assert text.count("(A) a question.") == text.count("(1) an odd thing.") == 1
    assert text.index("an odd thing") < text.index("the notes stand below the first part")


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


def test_the_caption_says_by_which_rule_cells_are_paired(paper):
    text = " ".join((paper / "tables" / "comparisons.tex").read_text().split())
    assert escape_latex(PAIRING) in text


def test_what_could_be_detected_is_typeset(content, tmp_path):
    row = {"family": "imagenet vs random", "family_size": 2, "n_seeds": 3, "now": 0.0345}
    sized = replace(content, detectable=pd.DataFrame([row | {"5 seeds": 0.021}]))
    write_paper(sized, make_page_data(sized).names, [], tmp_path)
    table = (tmp_path / "tables" / "detectable.tex").read_text()
    assert "\\input{tables/detectable.tex}" in (tmp_path / "main.tex").read_text()
    assert "80 \\% of studies" in table and "3.5" in table and "2.1" in table


@pytest.mark.parametrize(("kind", "is_drawn"), [("synthetic", True), ("ham10000", False)])
def test_drawn_images_are_called_so_on_the_page_in_the_paper_and_in_the_report(
    tmp_path, kind, is_drawn
):
    """The kind decides: drawn data may have the name of a real dataset."""
    write_cell(tmp_path, (0.5, 0.6), **{"dataset.kind": kind})
    made = assemble.make_content(read_runs(tmp_path))
    data = make_page_data(made)
    write_paper(made, data.names, [], tmp_path / "paper")
    main = (tmp_path / "paper" / "main.tex").read_text()
    for text in (render_page(made, data), render_report(made, data), main):
        assert ("The images of HAM10000 are drawn by a program" in text) == is_drawn


def test_a_table_is_parted_by_the_lines_that_its_rows_take():
    """Names of four lines, as a narrow column breaks them, leave room for fewer rows."""
    names = ["random-", "random-synthetic_source-through-a-very-long-place-"]
    counts = []
    for name in names:
        columns = (Column("run"), *(Column(f"score {i}", "number") for i in range(9)))
        rows = [[Entry(f"{name}k{i}"), *[Entry("12.3 (4.5 to 6.7)", 12.3)] * 9] for i in range(90)]
        parts = write_float(Table(columns, tuple(map(tuple, rows))), caption="c", label="l")
        counts.append(parts.count("\\begin{table}"))
    assert counts[0] < counts[1]
