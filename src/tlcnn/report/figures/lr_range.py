"""The curve of a learning-rate range test."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from tlcnn.report.figures import style

_HEADROOM = 1.5  # of the losses that are shown above the first one


def draw_lr_range(
    lr: np.ndarray,
    loss: np.ndarray,
    smoothed: np.ndarray,
    *,
    name: str,
    suggestions: dict[str, float],
) -> style.ReportFigure:
    """Draw losses (n,) over rates (n,).

    Args:
        name: the name of the run.
        suggestions: rates by what they are, such as `steepest`.
    """
    marks = [f"{what} {rate:.2g}" for what, rate in suggestions.items()]
    return style.ReportFigure(
        name="curve",
        title=f"Learning-rate range test of {name}",
        caption=(
            "The loss of one training batch at each rate (points), and the same smoothed (line). "
            "Each update starts from the weights of the update before it. Vertical lines: "
            f"{', '.join(marks) or 'none, because the loss does not fall'}."
        ),
        figure=plot_lr_range(lr, loss, smoothed, suggestions),
        alt=f"Loss over learning rates from {lr[0]:.2g} to {lr[-1]:.2g}. {', '.join(marks)}",
        section="training",
    )


def plot_lr_range(
    lr: np.ndarray,
    loss: np.ndarray,
    smoothed: np.ndarray,
    suggestions: dict[str, float],
) -> Figure:
    """Plot losses over rates on a logarithmic axis; the losses of a divergence are cut off."""
    with style.drawing(style.COLUMN, 2.4) as figure:
        ax = figure.subplots()
        ax.plot(lr, loss, ls="", marker=".", ms=3, color=style.GREY, alpha=0.6, mew=0)
        ax.plot(lr, smoothed, color=style.BLUE)
        looks = zip(suggestions.items(), (style.ORANGE, style.GREEN), style.DASHES, strict=False)
        for (what, rate), colour, dash in looks:
            ax.axvline(rate, color=colour, ls=dash, lw=1, label=f"{what}: {rate:.2g}")
        low, high = float(np.min(loss)), float(np.max(smoothed[: max(1, len(smoothed) // 2)]))
        ax.set(
            xscale="log",
            xlabel="learning rate (train.lr)",
            ylabel="loss of a batch",
            ylim=(low - 0.1 * (high - low), high + _HEADROOM * max(high - low, 0.1 * high)),
        )
        ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(axis="y")
        if suggestions:
            style.add_legend(ax, *ax.get_legend_handles_labels(), gap=-0.03)
    return figure
