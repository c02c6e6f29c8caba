"""How every figure looks and how it becomes files: fonts, colours, marks, sizes, legends."""

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlcnn.storage import make_dir, writing
from tlcnn.text import make_visible

COLUMN, FULL = 3.5, 7.2  # width of a journal's column and page, inches
FORMATS = ("pdf", "svg", "png")
PNG_DPI = 200

# Okabe and Ito (2008), without the yellow, which is not seen on white.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, BLACK, GREY = "#56B4E9", "#E69F00", "#000000", "#7A7A7A"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, BLACK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MARGIN: dict[str, Any] = {"color": "#333333", "lw": 1.0, "ls": (0, (6, 2)), "zorder": 1}
DASHES: tuple[Any, ...] = (  # of cells with frozen units
    *((0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))),
    *((0, (3, 1)), (0, (7, 2)), (0, (2, 1, 1, 1)), (0, (1, 2))),
)

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.7,
    "legend.columnspacing": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "text.parse_math": False,  # names from data are what they are, `$` and `_` too
    "pdf.fonttype": 42,  # TrueType, as journals ask for
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.h_pad": 0.03,
}


@dataclass(frozen=True)
class ReportFigure:
    """A figure with its title and captions. Control characters are made visible here.

    Attributes:
        name: the stem of its files; unique in a report, letters, digits, `-` and `_`.
        caption: whole sentences on what is seen, n, the intervals and how to read it.
        alt: a shorter caption for a reader who cannot see the figure.
        section: grid, layers, scores, training, predictions or examples.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    alt: str
    section: str

    def __post_init__(self) -> None:
        for name in ("title", "caption", "alt"):
            object.__setattr__(self, name, make_visible(getattr(self, name)))

    def _repr_png_(self) -> bytes:
        """Return the figure as a notebook shows it."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
        return buffer.getvalue()

    @property
    def wide(self) -> bool:
        """Whether it takes the full width of a page rather than a column."""
        return bool(self.figure.get_figwidth() > COLUMN)


@contextmanager
def styled(salt: str = "tlcnn") -> Iterator[None]:
    """Draw and save in the style of the report, whatever the user's matplotlibrc says.

    Args:
        salt: the salt of the ids in an SVG: equal salts give equal files.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        matplotlib.rcParams["svg.hashsalt"] = salt
        yield


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of this size in inches, in the style of the report."""
    with styled():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        # Tick labels that are made later would miss the style.
        for ax in [inner for outer in figure.axes for inner in (outer, *outer.child_axes)]:
            for axis in (ax.xaxis, ax.yaxis):
                axis.get_ticklabels()


@contextmanager
def drawing_panels(
    n: int, per_row: int, row_height: float, *, below: float = 0.0, share: bool = False
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of a page's width and its n panels; places after the last stay empty.

    Args:
        row_height: inches of a row of panels.
        below: inches below all rows.
        share: whether the panels share their scales.
    """
    n_rows = -(-n // per_row)
    with drawing(FULL, n_rows * row_height + below) as figure:
        axes = figure.subplots(n_rows, per_row, squeeze=False, sharex=share, sharey=share).ravel()
        for ax in axes[n:]:
            ax.set_axis_off()
        yield figure, list(axes[:n])


def save_figure(
    figure: ReportFigure, folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write a figure as files that are the same bytes for the same figure, and return them.

    Raises:
        StorageError: the folder cannot be written.
    """
    times = {"pdf": "CreationDate", "svg": "Date", "png": "Software"}
    make_dir(folder)
    paths = [folder / f"{figure.name}.{suffix}" for suffix in formats]
    for path, suffix in zip(paths, formats, strict=True):
        metadata = {times[suffix]: None, "Title": figure.title}
        with styled(figure.name), writing(path), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # boxes are drawn
            figure.figure.savefig(path, dpi=PNG_DPI, metadata=metadata)
    return paths


# ---- texts --------------------------------------------------------------------------------------


def make_name(*parts: str) -> str:
    """Return a file stem of these parts: letters, digits, `-` and `_` only.

    Example:
        >>> make_name("roc", "my data/2")
        'roc-my_data_2'
    """
    return "-".join(re.sub(r"[^A-Za-z0-9_]+", "_", part).strip("_") for part in parts if part)


def make_literal(text: object, limit: int = 40) -> str:
    """Return a name from data as one line that matplotlib shows as it is.

    Args:
        limit: the most letters; the middle of a longer name is left out.

    Example:
        >>> make_literal("a very\\nlong name", limit=9)
        'a ve…name'
    """
    line = " ".join(make_visible(str(text).replace("\u200b", "")).split())
    if len(line) > limit:
        half = (limit - 1) // 2
        line = f"{line[:half]}…{line[len(line) - (limit - 1 - half) :]}"
    return f"\u200b{line}" if line.startswith("_") else line  # legends hide names like _x


def wrap(text: object, width: int) -> str:
    """Return a name in lines of about `width` letters; a longer word is broken.

    Example:
        >>> wrap("squamous cell carcinoma", 9).splitlines()
        ['squamous', 'cell', 'carcinoma']
    """
    line = make_literal(text, limit=4 * width)
    return "\n".join(textwrap.wrap(line, width, break_on_hyphens=False)) or "?"


def begin(text: str) -> str:
    """Return a text that begins a sentence, acronyms as they are.

    Example:
        >>> begin("test macro AUROC")
        'Test macro AUROC'
    """
    return text[:1].upper() + text[1:]


def describe_seeds(n_seeds: pd.Series, noun: str) -> str:
    """Return how many seeds some cells or points have.

    Example:
        >>> describe_seeds(pd.Series([3, 5, 3]), "cell")
        'cells are means of 3 to 5 seeds'
    """
    low, high = int(n_seeds.min()), int(n_seeds.max())
    if low < high:
        return f"{noun}s are means of {low} to {high} seeds"
    return f"every {noun} is {'one seed' if high == 1 else f'the mean of {high} seeds'}"


# ---- parts that several figures share -----------------------------------------------------------


def choose_look(number: int, n_frozen: int) -> dict[str, Any]:
    """Return colour, mark and dash of the n-th cell; a solid line only where all is trained."""
    colour = COLOURS[number % len(COLOURS)]
    look = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "ls": "-", "mfc": colour}
    return look | ({"ls": DASHES[number % len(DASHES)], "mfc": "white"} if n_frozen else {})


def choose_ink(heat: Any, value: float) -> str:
    """Return the colour of text on a heat map at a value: black or white."""
    red, green, blue, _ = heat.cmap(heat.norm(value))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"


def plot_intervals(ax: Axes, x: Any, rows: pd.DataFrame, **look: Any) -> Any:
    """Plot the values of `rows` with bars from `low` to `high`, no bar where those are NaN."""
    value, low, high = rows[["value", "low", "high"]].to_numpy(float).T
    reach = np.nan_to_num(np.maximum([value - low, high - value], 0.0))
    return ax.errorbar(x, value, yerr=reach, **look)


def print_cell(
    ax: Axes, x: float, y: float, lines: Sequence[str], *, inches: float, ink: str, bold: int
) -> None:
    """Print lines into a cell of a heat map, in letters that fit.

    Args:
        x, y: the middle of the cell, which is 1 wide.
        inches: the side of the cell.
        bold: the line that is printed large and bold; -1 for none.
    """
    large = min(8.0, 72 * inches / 3.4)
    small = max(4.2, min(large - 1.5, 72 * inches / (0.66 * max(map(len, lines)))))
    gap = min(0.3, 0.9 / len(lines))
    for i, line in enumerate(lines):
        ax.text(
            x,
            y + gap * (i - (len(lines) - 1) / 2),
            line,
            fontsize=large if i == max(bold, 0) else small,
            fontweight="bold" if i == bold else "normal",
            ha="center",
            va="center",
            color=ink,
        )


def name_ticks(ax: Axes, places: Any, names: Sequence[str], inches: float) -> float:
    """Name the ticks of the x axis in lines, or turned where the words do not fit.

    Args:
        names: the names, one a tick; their line breaks become commas where they are turned.
        inches: the distance between two ticks.

    Returns:
        The height of the names in inches.
    """
    letters = max(3, int((inches * 72 - 2) / 4.1))
    lines = [make_literal(line) for name in names for line in name.split("\n")]
    # A line such as `n = 12` is not broken, others may be between words.
    parts = [part for line in lines for part in ([line] if "=" in line else line.split())]
    if max(map(len, parts)) > letters:
        flat = [re.sub(r"^(\d+)\n", r"\1 ", name).replace("\n", ", ") for name in names]
        texts = [make_literal(name, 34) for name in flat]
        ax.set_xticks(places, texts, rotation=40, ha="right", rotation_mode="anchor")
        return 1.2
    texts = ["\n".join(wrap(line, letters) for line in name.split("\n")) for name in names]
    ax.set_xticks(places, texts)
    return 0.125 * (1 + max(text.count("\n") for text in texts))


def name_places(ax: Axes, columns: Sequence[str], rows: Sequence[str], inches: float) -> None:
    """Make an axis a table of named places: row 0 at the top, no frame, no tick marks."""
    name_ticks(ax, np.arange(len(columns)) + 0.5, columns, inches)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def add_legend(
    ax: Axes, handles: Sequence[Any], names: Sequence[str], n_columns: int = 1, *, gap: float
) -> None:
    """Put a legend under an axis, at the same distance in figures of any size.

    Args:
        gap: the distance in inches; a negative one puts the legend above the axis.
    """
    is_below = gap > 0
    ax.legend(
        handles,
        names,
        loc="upper center" if is_below else "lower center",
        bbox_to_anchor=(0.5, 0.0 if is_below else 1.0),
        borderaxespad=abs(gap) * 72 / STYLE["legend.fontsize"],
        ncols=n_columns,
    )
