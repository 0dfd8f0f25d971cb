"""Pages of panels, and what panels share. A panel takes its axes and returns them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis.resampling import Estimate
from gradquake.report.charts import extremes

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "BELOW_LEGEND", "BLACK", "BLUE", "DIMENSION_LABELS", "GREEN", "GREY", "ORANGE", "PURPLE", "SKY",
    "SYMBOLS", "VERMILION", "YELLOW", "Axes", "Color", "categories", "dimension", "dimensions",
    "heatmap", "inset", "legend_below", "line_with_band", "path", "say", "scale_colors",
    "series", "sheet", "steps", "variants",
]  # fmt: skip

Floats = NDArray[np.float64]
Color = str | tuple[float, float, float, float]

# Okabe and Ito's palette, distinct for the common kinds of color blindness.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#7f7f7f"

# The height of vertical lines as a share of the panel's, so that they do not cross its legend.
BELOW_LEGEND = 0.74

# The width in inches of a page of two columns.
PAGE_WIDTH = 7.0

STYLE: Any = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "gradquake",
    "svg.fonttype": "none",
}


# By name, the color and the line width of D(t); by statistic, the symbol and the label of D(t).
CURVES = {"real": (BLUE, 1.2), "gaussian": (GREY, 0.8), "permuted": (ORANGE, 0.8)}
SYMBOLS = {"max": "$s_{\\max}$", "mean": "$\\langle s \\rangle$"}
DIMENSION_LABELS = {"max": "$D(t)$ of $s_{\\max}$", "mean": "$\\gamma(t)$ of $\\langle s \\rangle$"}


@contextmanager
def sheet(
    path: Path,
    layout: str,
    height: float,
    *,
    between: float = 0.36,
    below: float = 0.4,
    right: float = 0.985,
    bottom: float = 0.4,
    left: float = 0.55,
) -> Iterator[list[Axes]]:
    """Yield the axes of a figure of panels; then write it as PNG and SVG.

    Parameters
    ----------
    path : Path
        The name of the files, without a suffix.
    layout : str
        One letter for each panel, and a newline between rows, as for matplotlib's ``subplot_mosaic``:
        "abc" is three panels side by side.
    height : float
        In inches; the width is that of a page.
    between, below : float
        The space between panels, as a share of a panel's width and height.
    right : float
        The right end of the last panel, as a share of the width.
    bottom, left : float
        Margins in inches.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, height))
        FigureCanvasAgg(figure)
        # Margins by hand, because matplotlib would have to draw everything twice to find them.
        figure.subplots_adjust(
            left=left / PAGE_WIDTH, right=right, bottom=bottom / height, top=1 - 0.22 / height,
            wspace=between, hspace=below,
        )  # fmt: skip
        panels = figure.subplot_mosaic(layout)
        letters = sorted(panels)
        for letter in letters:
            panels[letter].set_title(f"({letter})")
        yield [panels[letter] for letter in letters]
        figure.savefig(path.with_suffix(".png"), dpi=200)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def inset(ax: Axes, bounds: tuple[float, float, float, float]) -> Axes:
    """Return small axes inside others; ``bounds`` are x, y, width, height as shares of these."""
    small = ax.inset_axes(bounds)
    small.tick_params(labelsize=5.5, pad=1.5, length=2)
    small.patch.set_alpha(0.9)
    return small


def path(ax: Axes, x: ArrayLike, y: ArrayLike, color: Color, label: str = "", **style: Any) -> Axes:
    """Draw a quantity of one run over time; a dot if there is a single snapshot."""
    x, y = np.asarray(x), np.asarray(y)
    style = {"lw": 0.8, "marker": "." if x.size == 1 else None, **style}
    seen = extremes(y)
    ax.plot(x[seen], y[seen], color=color, label=label or None, **style)
    return ax


def steps(ax: Axes, first: int, last: int) -> Axes:
    """Make the x axis an axis of training steps, with whole numbers."""
    margin = 0.03 * (last - first) or 1
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set_xlabel("step")
    return ax


def say(ax: Axes, text: str) -> Axes:
    """Leave a panel empty but for a text that says why it is empty."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    ax.set_axis_off()
    return ax


def legend_below(ax: Axes, lines: Mapping[str, tuple[Color, str]]) -> None:
    """Draw a legend below all panels of a figure; ``lines`` holds a color and a style by label."""
    handles = [Line2D([], [], color=color, ls=ls, label=label) for label, (color, ls) in lines.items()]
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.legend(handles=handles, loc="lower center", ncol=5)


def line_with_band(
    ax: Axes,
    x: ArrayLike,
    middle: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    color: Color,
    label: str = "",
    *,
    opacity: float = 0.22,
    **style: Any,
) -> Axes:
    """Draw a curve, and its interval as a band."""
    x, middle, low, high = (np.asarray(of) for of in (x, middle, low, high))
    seen = extremes(low, high)
    ax.fill_between(x[seen], low[seen], high[seen], color=color, alpha=opacity, linewidth=0)
    seen = extremes(middle)
    ax.plot(x[seen], middle[seen], color=color, label=label or None, **style)
    return ax


def dimension(ax: Axes, curve: xr.Dataset, color: Color = BLUE, label: str = "", **style: Any) -> Axes:
    """Draw D(t) with its bootstrap band."""
    epoch = curve["epoch"].values
    middle, low, high = (curve[name].values for name in ("value", "low", "high"))
    line_with_band(ax, epoch, middle, low, high, color, label, **style)
    ax.set_xlabel("epoch")
    ax.set_ylabel("effective dimensionality $D(t)$")
    return ax


def dimensions(curves: Mapping[str, xr.Dataset], ax: Axes | None = None) -> Axes:
    """Draw D(t) of the real gradients and of nulls, by name, and the line D = 1.

    Without axes, it draws on those of a new figure, which notebooks and ``pyplot.show`` display.
    """
    with mpl.rc_context(STYLE):
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(PAGE_WIDTH / 2, 2.6), layout="constrained")[1]
        for name, curve in curves.items():
            color, width = CURVES.get(name, (PURPLE, 0.8))
            dimension(ax, curve, color, name, lw=width)
        ax.axhline(1, color=BLACK, lw=0.7, ls=":")
        statistic = next(iter(curves.values())).attrs["statistic"]
        ax.set_ylabel(DIMENSION_LABELS.get(statistic, "$D(t)$"))
        # Above the panel, since the curves of a study move while runs go on.
        ax.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncol=3)
    return ax


def scale_colors(n_scales: int) -> list[Color]:
    """Return colors from dark to light, which keep their order in gray and for color-blind readers."""
    return [mpl.colormaps["viridis"](x) for x in np.linspace(0.0, 0.92, n_scales)]


def variants(ax: Axes, names: Sequence[str], values: Floats, low: Floats, high: Floats) -> Axes:
    """Draw one exponent for each of several variants, with intervals."""
    place = np.arange(len(names))
    ax.vlines(place, low, high, lw=0.8, color=BLUE)
    ax.plot(place, values, "s", ms=2.5, color=BLUE)
    ax.axhline(1, color=BLACK, lw=0.6, ls=":")
    ax.set_xticks(place, names, fontsize=5)
    ax.set_xlim(-0.6, len(names) - 0.4)
    return ax


def series(
    ax: Axes,
    x: ArrayLike,
    found: Sequence[Estimate],
    color: str,
    marker: str,
    label: str = "",
    **style: Any,
) -> Axes:
    """Draw estimates with their intervals at positions ``x``; ``mfc="white"`` makes open markers."""
    values = np.array([of.value for of in found])
    low = np.array([of.low for of in found])
    high = np.array([of.high for of in found])
    ax.vlines(x, low, high, lw=0.8, color=color)
    ax.plot(x, values, marker, ms=3, color=color, label=label or None, **{"lw": 0.8, **style})
    return ax


def categories(ax: Axes, names: Sequence[str]) -> Axes:
    """Name the positions 0, 1, ... of the x axis."""
    ax.set_xticks(range(len(names)), names, fontsize=6.5, rotation=35, ha="right")
    ax.set_xlim(-0.6, len(names) - 0.4)
    return ax


def heatmap(
    ax: Axes, values: Floats, rows: Sequence[str], columns: Sequence[str], *, size: float = 4.5
) -> Axes:
    """Draw shares from 0 to 1 as colored cells with their percentages; NaN stays empty."""
    ax.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if np.isfinite(value):
                ax.text(
                    j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=size,
                    color="white" if value < 0.6 else BLACK,
                )  # fmt: skip
    ax.set_yticks(range(len(rows)), rows, fontsize=size + 1)
    ax.set_xticks(range(len(columns)), columns, fontsize=size + 0.5, rotation=90)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
