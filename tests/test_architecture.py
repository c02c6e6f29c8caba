"""The shape of the code: which part may import which, and what stays free of torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "tlcnn"
FILES = sorted(SRC.rglob("*.py"))

# The parts from the ground up. A part imports only parts of lower rows.
FLOORS = (
    ("errors",),
    ("text", "storage", "memory", "statistics"),
    ("device",),
    ("config",),
    ("data", "model"),
    ("training",),
    ("frozen",),
    ("records",),
    ("plan",),
    ("run",),
    ("sweep",),
    ("study",),
    ("layers",),  # measures of activations
    ("inference",),  # trained networks on any images
    ("report",),
    ("trackers",),
    ("train",),
    ("cli",),
    ("__main__",),
)
RANKS = {part: rank for rank, row in enumerate(FLOORS) for part in row}
VAGUE = {"utils", "util", "helpers", "common", "misc", "core", "base", "manager", "factory"}


def name_of(path: Path) -> str:
    """The dotted name of a module, without `tlcnn` and `__init__`."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in FILES}


def imports_of(path: Path) -> set[str]:
    """The modules of tlcnn that a file imports, at any depth of the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            both = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
            names = [full if full[6:] in MODULES else module for full, module in both]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name[6:] for name in names if name.startswith("tlcnn.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_lower_ranks_never_import_higher_ones(path):
    part = name_of(path).split(".")[0]
    for other in {name.split(".")[0] for name in imports_of(path)} - {part, ""}:
        assert part == "" or RANKS[other] < RANKS[part], f"{part} imports {other}"


def test_no_files_need_each_other():
    imports = {name: imports_of(path) - {name} for name, path in MODULES.items()}
    settled: set[str] = set()
    while ready := {n for n in imports if n not in settled and imports[n] <= settled}:
        settled |= ready
    assert not sorted(set(imports) - settled), "these files import each other in a circle"


def test_every_text_is_printed_by_print_text():
    paths = [path for path in SRC.parent.rglob("*.py") if path != SRC / "text.py"]
    calls = [
        f"{path.relative_to(SRC.parent)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "print"
    ]
    assert not calls, "print shows control characters of data: use tlcnn.text.print_text"


def test_file_names_say_what_is_inside():
    assert not [path for path in FILES if path.stem in VAGUE]


@pytest.mark.parametrize(
    "module",
    [
        *("plan.plan", "plan.describe", "run.run", "records", "records.read"),
        *("train", "config.compose", "cli.main"),
        *("report.tables", "report.assemble", "report.page", "report.paper", "report.figures"),
        *("study.layers", "study.predictions"),
        *("records.measures", "layers.analyse", "report.analysis_table"),
        "trackers",
    ],
)
def test_skipping_and_comparing_import_no_torch(module):
    code = f"import sys, tlcnn.{module}; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
