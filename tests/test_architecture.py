"""The shape of the code: who may import whom, how long files are, what stays free of torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "tlcnn"
FILES = sorted(SRC.rglob("*.py"))

# Lower never imports higher; the same rank is free inside one part.
RANKS = {
    "errors": 0,
    "storage": 1,
    "align": 1,
    "memory": 1,
    "device": 2,
    "config": 2,
    "overrides": 3,
    "compose": 4,
    "data": 5,
    "model": 5,
    "dataset": 6,
    "ancestry": 7,
    "chain": 7,
    "identity": 8,
    "plan": 9,
    "reuse": 9.5,
    "describe": 10,
    "training": 10,
    "records": 11,
    "inputs": 11,
    "start": 11,
    "experiment": 12,
    "run": 13,
    "job": 14,
    "sweep": 15,
    "worker": 15,
    "analysis": 16,
    "report": 17,
    "cli_status": 18,
    "cli_audit": 18,
    "cli_compare": 18,
    "cli_import": 18,
    "cli_power": 18,
    "cli_report": 18,
    "cli_data": 19,
    "train": 20,
    "cli": 20,
}
VAGUE = {"utils", "util", "helpers", "common", "misc", "core", "base", "manager", "factory"}


def part_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The parts of tlcnn that a file imports, at any depth of the file."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("tlcnn.")}
    return parts


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_lower_ranks_never_import_higher_ones(path):
    mine = part_of(path)
    if mine == "__init__":
        return
    for other in imports_of(path) - {mine}:
        lazily_run = mine == "run" and other in ("experiment", "start")
        assert RANKS[other] < RANKS[mine] or lazily_run, f"{mine} imports {other}"
        assert {mine, other} != {"data", "model"}, "data and model do not know each other"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_files_are_one_idea_long(path):
    assert len(path.read_text().splitlines()) <= 350


def test_file_names_say_what_is_inside():
    assert not [path for path in FILES if path.stem in VAGUE]


@pytest.mark.parametrize(
    "module",
    [
        *("plan", "describe", "run", "records", "records.read", "train", "compose", "cli"),
        *("report.tables", "report.assemble", "report.page", "report.paper", "report.figures"),
        *("analysis.layers", "analysis.statistics.cell"),
    ],
)
def test_skipping_and_comparing_import_no_torch(module):
    code = f"import sys, tlcnn.{module}; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
