"""Settings of Sphinx: `make docs` builds these pages into build/docs."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import tlcnn

project = "tlcnn"
version = release = tlcnn.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"tlcnn {version}"
html_show_copyright = False
myst_heading_anchors = 4  # the anchors of headings are those of GitHub
autodoc_typehints = "description"
autodoc_member_order = "bysource"

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "overview", "CONTRIBUTING.md": "contributing"}


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Show the files of the folder above as pages, and let links lead to these."""
    for name, shown in PAGES.items():
        if page == shown:
            source[0] = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for name, shown in PAGES.items():
        source[0] = source[0].replace(f"](../{name}", f"]({shown}.md")
        source[0] = source[0].replace(f"]({name}", f"]({shown}.md")


def read_docstring(
    app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Make code of `words` in a docstring, and no type of what stands before a colon."""
    for number, line in enumerate(lines):
        code = r"(?<!`)`([^`]+)`(?!`)(\w?)"
        line = re.sub(code, lambda m: f"``{m[1]}``" + (f"\\ {m[2]}" if m[2] else ""), line)
        if number and lines[number - 1].strip() == "Returns:":
            line = line.replace(": ", " – ", 1)
        lines[number] = line


def setup(app: Sphinx) -> None:
    """Connect what changes texts when they are read; docstrings before napoleon does."""
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)
