"""`tlcnn report`: a page, a Markdown file and a folder for a paper, from run folders."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlcnn.errors import ConfigError, DataError, list_names

if TYPE_CHECKING:
    import pandas as pd

    from tlcnn.report.content import Content
    from tlcnn.report.figures.style import Drawn

_SVG_LIMIT = 400_000  # bytes; a figure with more marks is embedded as pixels


def add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("report", help="answers, tables and figures as a page to send")
    parser.add_argument("folders", nargs="*", default=["outputs"], help="default: outputs")
    parser.add_argument("-o", "--output", default="report", help="a folder; default: report")
    parser.add_argument("--title", help="default: the names of the datasets")
    parser.add_argument(
        "--metric", default="test/balanced_accuracy", help="default: test/balanced_accuracy"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=0.01,
        help="what counts as equal, in units of the metric; default: 0.01, one point",
    )
    parser.add_argument("--no-figures", action="store_true", help="tables and answers only")
    parser.add_argument(
        "--examples", action="store_true", help="show test images, too; the page then holds them"
    )
    parser.set_defaults(command=_report)


def _report(options: argparse.Namespace) -> None:
    from tlcnn.report.assemble import make_content

    if not 0 < options.margin < 1:
        raise ConfigError(f"--margin {options.margin:g} is not allowed: above 0 and below 1")
    runs = _read(options.folders)
    content = make_content(
        runs,
        metric=options.metric,
        margin=options.margin,
        title=options.title or _name(runs),
    )
    print(write_report(content, Path(options.output), options=options))


def _read(folders: Sequence[str]) -> "pd.DataFrame":
    from tlcnn.records.read import read_runs

    runs = read_runs(*folders)
    if runs.empty or not (runs["state"] == "done").any():
        found = f"{len(runs)} unfinished runs" if len(runs) else "no runs"
        raise DataError(
            f"there is nothing to report: {found} in {list_names(list(folders))}. Train something "
            "first: python -m tlcnn.train experiment=demo"
        )
    return runs


def _name(runs: "pd.DataFrame") -> str:
    from tlcnn.report.words import join_words, name_dataset

    names = [name_dataset(str(name)) for name in runs["dataset"].dropna().unique()]
    return (
        f"Transfer learning on {join_words(names) if len(names) < 4 else f'{len(names)} datasets'}"
    )


def write_report(content: "Content", folder: Path, *, options: argparse.Namespace) -> str:
    """Write everything and return a line that says what.

    Files are written whole or not at all; of what lies in the folder already only files of the
    same names are replaced.

    Raises:
        StorageError: the folder cannot be written.
    """
    from tlcnn.report.markdown import render_report
    from tlcnn.report.page import render_page
    from tlcnn.report.page_data import make_page_data
    from tlcnn.report.paper import write_paper
    from tlcnn.storage import make_dir, write_atomic

    make_dir(folder)
    drawn, problems = ([], []) if options.no_figures else _draw(content, options)
    figures, saved = folder / "paper" / "figures", 0
    pictures, links = [], []
    for figure in drawn:
        paths = _save(figure, figures)
        saved += len(paths)
        pictures.append(_embed(figure, paths))
        link = f"paper/figures/{figure.name}.png"
        links.append((link, figure.title, figure.caption, figure.alt))
    data = make_page_data(content)
    page = render_page(content, data, pictures, problems)
    write_atomic(folder / "index.html", page)
    write_atomic(folder / "report.md", render_report(content, data, links))
    written = write_paper(content, data.names, drawn, folder / "paper")
    lines = [f"figure left out: {problem}" for problem in problems]
    lines.append(
        f"wrote {folder / 'index.html'} ({_tell_size(len(page.encode()))}), "
        f"{folder / 'report.md'}, {folder / 'paper'}/ ({len(written) + saved} files)"
    )
    return "\n".join(lines)


def _draw(
    content: "Content", options: argparse.Namespace
) -> "tuple[Sequence[Drawn], Sequence[str]]":
    from tlcnn.report.figures import draw_figures

    return draw_figures(content, skip=() if options.examples else ("examples",))


def _save(figure: "Drawn", folder: Path) -> list[Path]:
    from tlcnn.report.figures.style import save_figure

    return save_figure(figure, folder)


def _embed(figure: "Drawn", paths: Sequence[Path]) -> Any:
    from tlcnn.report.page import make_picture

    found = {path.suffix: path for path in paths}
    small = found[".svg"].stat().st_size <= _SVG_LIMIT
    return make_picture(figure, found[".svg" if small else ".png"])


def _tell_size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.0f} kB"
