"""`tlcnn.compare` and `tlcnn.draw`: tables and figures of runs as objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tlcnn.records.measures import read_measures
from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.report.cell_table import make_cell_table
from tlcnn.report.tables import DEFAULT_METRICS
from tlcnn.study.select import apply_where

if TYPE_CHECKING:
    from tlcnn.report.figures.style import ReportFigure


def compare(
    *folders: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    where: Sequence[str] = (),
    group: Sequence[str] = (),
    baseline: Sequence[str] = (),
    interval: str = "full",
    margin: float = 0.01,
    tuned: Sequence[str] = (),
) -> pd.DataFrame:
    """Return what `tlcnn compare --seeds` shows: one row a setting, with means over its seeds.

    The interval of a metric stands beside it, as in `test/accuracy low` and `test/accuracy high`.

    Args:
        folders: output folders or run folders; none: `outputs`.
        where: conditions on runs, such as `init=imagenet`.
        group, baseline, interval, margin, tuned: see `tlcnn compare --help`.

    Raises:
        DataError: there is no such folder.
        ConfigError: a column, value or baseline that no run has.
    """
    runs = read_runs(*(folders or ("outputs",)))
    return make_cell_table(
        apply_where(runs, where),
        metrics,
        group=group,
        baseline=baseline,
        interval=interval,
        margin=margin,
        tuned=tuned,
    ).frame


def draw(
    *folders: str | Path, metric: str = "test/balanced_accuracy"
) -> "dict[str, ReportFigure]":
    """Return the figures of a report by name, which a notebook shows.

    Each has a title, a caption, and in `figure` the figure of matplotlib.

    Args:
        folders: output folders or run folders; none: `outputs`.
        metric: the metric that cells are judged by.

    Raises:
        DataError: there is no such folder.
        ConfigError: no finished run has the metric.
    """
    from tlcnn.report.figures import draw_figures

    places = folders or ("outputs",)
    content = make_content(read_runs(*places), metric=metric, measures=read_measures(*places))
    figures, _ = draw_figures(content, skip=("examples",))
    return {figure.name: figure for figure in figures}
