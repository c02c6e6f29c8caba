"""`tlcnn report`: what it writes, what it says, what it refuses."""

import argparse
import re

import pytest
from test_page import make_once

from tlcnn.cli.report import add_report, write_report
from tlcnn.errors import ConfigError, DataError


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    add_report(parser.add_subparsers())
    options = parser.parse_args(["report", *map(str, arguments)])
    options.command(options)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_once(tmp_path_factory)


def test_it_writes_a_page_a_text_and_a_paper_and_says_so(content, tmp_path):
    options = argparse.Namespace(no_figures=True, examples=False)
    line = write_report(content, tmp_path / "report", options=options)
    said = re.fullmatch(
        r"wrote \S+index\.html \([\d.]+ [kM]B\), \S+report\.md, \S+paper/ \((\d+) files\)", line
    )
    assert said
    assert len([p for p in (tmp_path / "report" / "paper").rglob("*") if p.is_file()]) == int(
        said[1]
    )
    assert not list((tmp_path / "report").rglob("*.tmp"))


@pytest.mark.slow
def test_figures_are_in_the_page_and_beside_it(content, tmp_path):
    options = argparse.Namespace(no_figures=False, examples=False)
    said = write_report(content, tmp_path, options=options)
    page = (tmp_path / "index.html").read_text()
    names = {path.stem for path in (tmp_path / "paper" / "figures").glob("*.pdf")}
    assert names and "figure left out" not in said
    assert all(f'id="figure-{name}"' in page for name in names)
    assert page.count("data:image/") >= len(names)
    text = (tmp_path / "report.md").read_text()
    assert all((tmp_path / link).is_file() for link in re.findall(r"\]\((paper/[^)]+)\)", text))


def test_a_real_folder_from_the_command_line(content, tmp_path, capsys):
    outputs = content.runs["folder"].iloc[0].split("/runs/")[0]
    chosen = tmp_path / "chosen" / "runs"
    chosen.mkdir(parents=True)
    for folder in content.runs["folder"]:
        if "lung" in folder and ("random" in folder or "imagenet-k5" in folder):
            (chosen / folder.rsplit("/", 1)[1]).symlink_to(folder)
    run_command(chosen.parent, "-o", tmp_path / "report", "--no-figures", "--title", "A <title>")
    captured = capsys.readouterr()
    assert "wrote" in captured.out
    assert "comparing them, then drawing figures" in captured.err
    assert "<h1>A &lt;title&gt;</h1>" in (tmp_path / "report" / "index.html").read_text()
    assert "--where" not in (tmp_path / "report" / "report.md").read_text()
    words = ["-o", tmp_path / "some", "--no-figures", "--where", "init=random"]
    run_command(chosen.parent, *words)
    text = (tmp_path / "some" / "report.md").read_text()
    assert "\n2 finished runs" in text
    assert f"\n- {len([*chosen.iterdir()]) - 2} runs left out by --where init=random" in text
    with pytest.raises(ConfigError, match="--where init=nothing: no run has it"):
        run_command(chosen.parent, "--where", "init=nothing")
    assert outputs


def test_it_refuses_what_it_cannot_report(content, tmp_path):
    outputs = content.runs["folder"].iloc[0].split("/runs/")[0]
    with pytest.raises(DataError, match="no runs in .*Train something"):
        run_command(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        run_command(tmp_path / "missing")
    with pytest.raises(ConfigError, match="Did you mean 'test/accuracy'"):
        run_command(outputs, "--metric", "test/acuracy", "-o", tmp_path)
    with pytest.raises(ConfigError, match="--margin 2"):
        run_command(outputs, "--margin", 2, "-o", tmp_path)
    assert not list(tmp_path.iterdir())
