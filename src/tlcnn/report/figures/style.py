"""How every figure looks, and how it becomes files: fonts, colours, marks, sizes."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlcnn.storage import make_dir, writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMN, FULL = 3.5, 7.2  # width of a journal's column and page, inches
FORMATS = ("pdf", "svg", "png")
PNG_DPI = 200

# Okabe and Ito (2008), without the yellow, which is not seen on white.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, BLACK, GREY = "#56B4E9", "#E69F00", "#000000", "#7A7A7A"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, BLACK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = (
    *("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))),
    *((0, (3, 1)), (0, (7, 2)), (0, (2, 1, 1, 1)), (0, (1, 2))),
)

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": False,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "text.parse_math": False,  # names from data are what they are, `$` and `_` too
    "axes.formatter.use_mathtext": False,
    "pdf.fonttype": 42,  # TrueType, as journals ask for
    "ps.fonttype": 42,
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Drawn:
    """A figure and what is said of it.

    Attributes:
        name: stem of its files; unique in a report, letters, digits, `-` and `_`.
        caption: what is seen, n, what the intervals are, how to read it; whole sentences.
        alt: the same for somebody who cannot see it, shorter.
        wide: for the full width of a page rather than a column.
        section: grid, layers, training, predictions or examples.
    """

    name: str
    title: str
    caption: str
    figure: "Figure"
    alt: str
    wide: bool
    section: str


@contextmanager
def styled(salt: str = "tlcnn") -> Iterator[None]:
    """Draw and save in the style of the report, whatever the user's matplotlibrc says.

    Args:
        salt: of the ids in an SVG: equal salts give equal files.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = {**STYLE, "svg.hashsalt": salt}
        matplotlib.rcParams.update(settings)
        yield


def finish(figure: "Figure") -> "Figure":
    """Return a figure whose tick labels exist: made later, they would be in nobody's style."""
    for ax in [inner for outer in figure.axes for inner in (outer, *outer.child_axes)]:
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_ticklabels()
    return figure


def make_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches, laid out without overlaps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)  # type: ignore[union-attr, call-arg]
    return figure


def save_figure(drawn: Drawn, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a figure as files that are the same bytes for the same figure, and return them.

    Raises:
        StorageError: the folder cannot be written.
    """
    import warnings

    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, "Title": drawn.title},
        "svg": {"Date": None, "Title": drawn.title},
        "png": {"Software": None, "Title": drawn.title},
    }
    make_dir(folder)
    paths = [folder / f"{drawn.name}.{suffix}" for suffix in formats]
    for path, suffix in zip(paths, formats, strict=True):
        with styled(drawn.name), writing(path), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # boxes are drawn
            drawn.figure.savefig(path, dpi=PNG_DPI, metadata=metadata.get(suffix))
    return paths


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
        limit: letters; the middle of a longer name is left out.

    Example:
        >>> make_literal("a very\\nlong name", limit=9)
        'a ve…name'
    """
    line = " ".join(str(text).replace("\u200b", "").split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
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
    import textwrap

    return (
        "\n".join(
            textwrap.wrap(make_literal(text, limit=4 * width), width, break_on_hyphens=False)
        )
        or "?"
    )


def describe_metric(metric: str) -> str:
    """Return a metric in words.

    Example:
        >>> describe_metric("test/balanced_accuracy")
        'test balanced accuracy'
    """
    words = {
        "val": "validation",
        "auroc": "AUROC",
        "f1": "F1",
        "nll": "NLL",
        "ece": "ECE",
        "group": "group",
    }
    parts = re.split(r"[/_]", metric)
    return " ".join(words.get(part, part) for part in parts)


def begin(text: str) -> str:
    """Return a text that begins a sentence, acronyms as they are.

    Example:
        >>> begin("test macro AUROC")
        'Test macro AUROC'
    """
    return text[:1].upper() + text[1:]


def shorten(number: float, digits: int = 3, *, narrow: bool = False) -> str:
    """Return a score as text; `narrow` leaves out the zero before the point.

    Example:
        >>> shorten(0.6274), shorten(0.6274, narrow=True)
        ('0.627', '.627')
    """
    text = f"{number:.{digits}f}"
    return re.sub(r"^(-?)0\.", r"\1.", text) if narrow else text


def list_words(names: Sequence[str]) -> str:
    """Return names as words: `a, b and c`.

    Example:
        >>> list_words(["a", "b", "c"])
        'a, b and c'
    """
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def count(number: int, noun: str) -> str:
    """Return a number and its noun.

    Example:
        >>> count(1, "seed"), count(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def letter_panels(axes: Sequence["Axes"]) -> None:
    """Put a, b, c, ... at the upper left of several panels, as papers do."""
    if len(axes) < 2:
        return
    for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", axes, strict=False):
        ax.set_title(letter, loc="left", fontsize=9)


def _list_unbroken(name: str) -> list[str]:
    """Return what must stay on one line: the words of a name, and all of `n = 12`."""
    lines = [make_literal(line) for line in name.split("\n")]
    return [part for line in lines for part in ([line] if "=" in line else line.split())]


def name_ticks(axis: "Axis", names: Sequence[str], inches: float, limit: int = 24) -> int:
    """Name the ticks of an x axis in lines, or turned where the words do not fit.

    Args:
        names: one a tick; a line break in it is kept, and becomes a comma where it is turned.
        inches: between two ticks.

    Returns:
        The number of lines.
    """
    letters = max(3, int((inches * 72 - 2) / 4.1))
    parts = [part for name in names for part in _list_unbroken(name)]
    turned = max(len(part) for part in parts) > letters
    if turned:
        flat = [re.sub(r"^(\d+)\n", r"\1 ", name).replace("\n", ", ") for name in names]
        texts = [make_literal(name, limit + 10) for name in flat]
    else:
        texts = ["\n".join(wrap(line, letters) for line in name.split("\n")) for name in names]
    axis.set_ticklabels(texts)
    for label in axis.get_ticklabels():
        label.set(rotation=40 if turned else 0, ha="right" if turned else "center")
        label.set_rotation_mode("anchor" if turned else "default")
    return 1 if turned else max(text.count("\n") + 1 for text in texts)


def add_legend(
    ax: "Axes",
    handles: Sequence[Any],
    names: Sequence[str],
    n_columns: int = 1,
    *,
    down: float = 0.42,
) -> None:
    """Put a legend under an axis, `down` inches below it in figures of any size.

    Args:
        down: negative for above its upper edge.
    """
    from matplotlib.transforms import ScaledTranslation

    assert ax.figure is not None
    shift = ScaledTranslation(0, -down, ax.figure.dpi_scale_trans)
    ax.legend(
        handles,
        names,
        loc="upper center" if down > 0 else "lower center",
        bbox_to_anchor=(0.5, 0.0 if down > 0 else 1.0),
        bbox_transform=ax.transAxes + shift,
        ncols=n_columns,
        handlelength=2.7,
        columnspacing=1.0,
        borderaxespad=0.0,
    )
