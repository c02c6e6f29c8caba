"""Every command that README shows is one that works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tlcnn.cli.main import make_parser, parse_words
from tlcnn.config.compose import compose_config
from tlcnn.config.schema import check_config

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted(page for page in (ROOT / "docs").glob("*.md") if page.stem != "log")  # the diary
PAGES = [ROOT / "README.md", *DOCS]
README = "\n".join(page.read_text() for page in PAGES).replace("\\\n", " ")
SHOWN = [line.split("#")[0].strip() for line in re.findall(r"(?m)^    (.+)$", README)]
TRAIN = [line for line in SHOWN if line.startswith("python -m tlcnn.train ")]
TRAIN = [line for line in TRAIN if " -cd study " not in line]  # tests/test_docs.py has these
TLCNN = [line for line in SHOWN if line.startswith("tlcnn ")]
MAKE = [line.split()[1] for line in SHOWN if line.startswith("make ")]


def test_the_commands_are_found():
    assert len(TRAIN) >= 5 and len(TLCNN) >= 4 and {"demo", "test"} <= set(MAKE)


@pytest.mark.parametrize("command", TRAIN)
def test_training_commands_compose(command):
    words = [word for word in shlex.split(command)[3:] if word not in ("-m", "--help")]
    is_sweep = " -m " in command.removeprefix("python -m tlcnn.train")
    if is_sweep:  # the first value of each key; `each` is units or values
        words = [re.sub(r"=([^,]+),.*", r"=\1", word) for word in words]
        words = [re.sub(r"(=|_|:)each$", r"\1stem", word) for word in words]
    check_config(compose_config(words))


@pytest.mark.parametrize("command", TLCNN)
def test_tlcnn_commands_parse(command):
    parse_words(make_parser(), shlex.split(command)[1:])


@pytest.mark.parametrize("target", MAKE)
def test_make_targets_exist(target):
    assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text())


@pytest.mark.slow
def test_the_demo_ends_with_its_table(tmp_path):
    script = ROOT / "scripts" / "demo.py"
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("synthetic ")]
    assert len(rows) == 3  # random, transferred, transferred and frozen
    again = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "0 trained, 8 skipped, 0 failed" in again.stdout
