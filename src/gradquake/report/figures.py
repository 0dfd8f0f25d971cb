"""Draws results; computes no statistic. Every panel takes its axes and returns them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes as Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FormatStrFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)
from numpy.typing import NDArray

from gradquake.analysis.distributions import Ccdf
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.scaling import Exponent, LeaveOneOut
from gradquake.analysis.transitions import GrokkingEpochs

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]

# Okabe and Ito's palette, distinct under every common colour blindness.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#7f7f7f"

# The share of a panel's height that vertical lines keep to, so that they do not cross its legend.
BELOW_LEGEND = 0.74

# The parts of a long curve of which the extremes are drawn.
MOST_COLUMNS = 1000

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
        Without a suffix.
    layout : str
        A letter a panel, rows separated by newlines, as matplotlib's ``subplot_mosaic`` reads it:
        "abc" is three panels side by side.
    height : float
        In inches; the width is a page's.
    between, below : float
        Room between panels, as a share of a panel's width and height.
    right : float
        Where the last panel ends, as a share of the width.
    bottom, left : float
        Margins in inches.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, height))
        FigureCanvasAgg(figure)
        # Margins by hand: finding them would mean to draw everything once more.
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
    """Return small axes inside others; ``bounds`` are x, y, width, height as shares of them."""
    small = ax.inset_axes(bounds)
    small.tick_params(labelsize=5.5, pad=1.5, length=2)
    small.patch.set_alpha(0.9)
    return small


def path(ax: Axes, x: Any, y: Any, color: Any, label: str = "", **style: Any) -> Axes:
    """Draw one run's path through time; a dot where it has a single place."""
    style = {"lw": 0.8, "marker": "." if len(x) == 1 else None, **style}
    x, y = np.asarray(x), np.asarray(y)
    seen = extremes(y)
    ax.plot(x[seen], y[seen], color=color, label=label or None, **style)
    return ax


def steps(ax: Axes, first: int, last: int) -> Axes:
    """Make the x axis one of training steps, counted whole."""
    margin = 0.03 * (last - first) or 1
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set_xlabel("step")
    return ax


def say(ax: Axes, text: str) -> Axes:
    """Leave a panel empty, and write in it why it is."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    ax.set_axis_off()
    return ax


def thinned(n: int, most: int) -> list[int]:
    """Return at most so many of the places 0 to n - 1, evenly, with both ends."""
    return sorted({round(place) for place in np.linspace(0, n - 1, min(n, most)).tolist()})


def extremes(*curves: Floats) -> NDArray[np.intp]:
    """Return the places of curves that are enough to draw them: all, or of many the extreme ones.

    Of each of ``MOST_COLUMNS`` equal parts the first place, and where each curve is smallest, largest
    and missing. A panel has fewer pixels than there are parts, so the drawing stays as it is.
    """
    n = len(curves[0])
    if n <= 2 * MOST_COLUMNS:
        return np.arange(n)
    starts = np.linspace(0, n, MOST_COLUMNS + 1).astype(np.intp)[:-1]
    seen = [starts, np.array([n - 1])]
    part = np.searchsorted(starts, np.arange(n), side="right")
    for curve in curves:
        # By part and then by value, NaN last: the first of each part is its smallest.
        for key in (curve, -curve, ~np.isnan(curve)):
            seen.append(np.lexsort((key, part))[starts])
    return np.unique(np.concatenate(seen))


def legend_below(ax: Axes, lines: Mapping[str, tuple[Any, str]]) -> None:
    """Name lines, by label a colour and a style, below all panels of a figure."""
    handles = [Line2D([], [], color=color, ls=ls, label=label) for label, (color, ls) in lines.items()]
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.legend(handles=handles, loc="lower center", ncol=5)


def line_with_band(
    ax: Axes,
    x: Any,
    middle: Any,
    low: Any,
    high: Any,
    color: Any,
    label: str = "",
    *,
    opacity: float = 0.22,
    **style: Any,
) -> Axes:
    """Draw a curve and its interval as a band of some opacity."""
    x, middle, low, high = (np.asarray(of) for of in (x, middle, low, high))
    seen = extremes(low, high)
    ax.fill_between(x[seen], low[seen], high[seen], color=color, alpha=opacity, linewidth=0)
    seen = extremes(middle)
    ax.plot(x[seen], middle[seen], color=color, label=label or None, **style)
    return ax


def grokking_epochs(ax: Axes, scales: Sequence[GrokkingEpochs]) -> Axes:
    """Draw the median grokking epoch of each scale with its interval, and every run as a dot."""
    for scale in scales:
        ax.plot([scale.n_parameters] * len(scale.epochs), scale.epochs, ".", ms=1.5, color=GREY)
    n = [scale.n_parameters for scale in scales]
    median = np.array([scale.median.value for scale in scales])
    low = np.array([scale.median.low for scale in scales])
    high = np.array([scale.median.high for scale in scales])
    ax.plot(n, median, "o-", ms=2, lw=0.8, color=PURPLE)
    ax.vlines(n, low, high, lw=0.8, color=PURPLE)
    ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("$N$", fontsize=6, labelpad=0)
    ax.set_ylabel("$t_g$", fontsize=6, labelpad=1)
    return ax


def dimension(ax: Axes, curve: xr.Dataset, color: Any = BLUE, label: str = "", **style: Any) -> Axes:
    """Draw D(t) with its bootstrap band."""
    epoch = curve["epoch"].values
    middle, low, high = (curve[name].values for name in ("value", "low", "high"))
    line_with_band(ax, epoch, middle, low, high, color, label, **style)
    ax.set_xlabel("epoch")
    ax.set_ylabel("effective dimensionality $D(t)$")
    return ax


def fit_quality(ax: Axes, curve: xr.Dataset) -> Axes:
    """Draw R² of the fits behind D(t), with its band."""
    names = ("r_squared", "r_squared_low", "r_squared_high")
    middle, low, high = (curve[name].values for name in names)
    line_with_band(ax, curve["epoch"].values, middle, low, high, BLUE, lw=0.8)
    ax.axhline(0.98, color=GREY, lw=0.6, ls=":")
    ax.set_title("$R^2$ of the fits", fontsize=6, fontweight="normal", pad=2)
    return ax


def scale_colors(n_scales: int) -> list[Any]:
    """Return colours from dark to light, ordered also in grey and for colour-blind readers."""
    return [mpl.colormaps["viridis"](x) for x in np.linspace(0.0, 0.92, n_scales)]


def ccdfs(ax: Axes, scales: Sequence[Ccdf]) -> Axes:
    """Draw the CCDF of every scale with its 95 % band; bands that reach 0 leave the panel below."""
    for scale, color in zip(scales, scale_colors(len(scales)), strict=True):
        x = scale.sizes
        shown = (scale.probability > 0) & (scale.sizes > 0)
        low = np.maximum(scale.low, scale.probability[shown].min() / 3)
        ax.fill_between(
            x[shown], low[shown], scale.high[shown], color=color, alpha=0.25, lw=0, step="post"
        )
        ax.step(
            x[shown],
            scale.probability[shown],
            where="post",
            color=color,
            lw=1,
            label=f"{scale.n_parameters}",
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylabel("$P(>s)$")
    if min(scale.sizes.max() for scale in scales) < 1:  # collapsed, over less than a decade
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    return ax


def finite_size_scaling(ax: Axes, largest: Exponent, mean: Exponent) -> Axes:
    """Draw s_max (left axis) and the mean size (right axis) against N with both fits."""
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    handles = []
    for axes, exponent, color, marker, name in (
        (ax, largest, BLUE, "o", "D"),
        (right, mean, VERMILION, "s", "\\gamma"),
    ):
        n = exponent.n_parameters
        axes.vlines(n, exponent.size_low, exponent.size_high, lw=0.8, color=color)
        axes.plot(n, exponent.sizes, marker, ms=3.5, color=color)
        line = np.exp(exponent.fit.intercept) * n.astype(float) ** exponent.value
        label = (
            f"${name}$ = {exponent.value:.2f} "
            f"[{exponent.low:.2f}, {exponent.high:.2f}]\n"
            f"$R^2$ = {exponent.fit.r_squared:.3f}"
        )
        handles += axes.plot(n, line, color=color, lw=1, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", colors=color)
    ax.set_xlabel("parameters $N$")
    ax.set_ylabel("largest avalanche $s_{\\max} \\sim N^{D}$", color=BLUE)
    right.set_ylabel("mean avalanche $\\langle s \\rangle \\sim N^{\\gamma}$", color=VERMILION)
    # Room above the points for the legend, and the two sets of points apart.
    low, high = ax.get_ylim()
    ax.set_ylim(low / 2, high * 12)
    low, high = right.get_ylim()
    right.set_ylim(low / 2, high * 30)
    ax.legend(handles=handles, loc="upper left")
    return ax


def bootstrap_distributions(ax: Axes, resamples: Mapping[str, tuple[Floats, float, str]]) -> Axes:
    """Draw histograms of resampled exponents: label -> (resamples, estimate, colour)."""
    everything = [values[np.isfinite(values)] for values, _, _ in resamples.values()]
    ends = [end for values in everything if values.size for end in (values.min(), values.max())]
    bins = np.linspace(min(ends, default=1) - 0.02, max(ends, default=1) + 0.02, 90).tolist()
    for label, (values, estimate, color) in resamples.items():
        shown = values[np.isfinite(values)]
        if shown.size:
            ax.hist(shown, bins, density=True, color=color, alpha=0.45, lw=0)
        ax.fill_between([], [], color=color, alpha=0.45, lw=0, label=label)
        ax.axvline(estimate, ymax=BELOW_LEGEND, color=color)
    ax.axvline(1, ymax=BELOW_LEGEND, color=BLACK, lw=0.7, ls=":")
    ax.set_xlabel("effective dimensionality $D$")
    ax.set_ylabel("bootstrap density")
    return ax


def leave_one_out(ax: Axes, results: Mapping[str, tuple[LeaveOneOut, str, str]]) -> Axes:
    """Draw exponents with each scale left out: label -> (result, colour, marker)."""
    for shift, (label, (result, color, marker)) in zip(
        np.linspace(0.95, 1.05, len(results)), results.items(), strict=True
    ):
        place = result.left_out * shift
        ax.vlines(place, result.low, result.high, lw=0.8, color=color)
        ax.plot(place, result.value, marker, ms=3, color=color, label=label)
    ax.axhline(1, color=BLACK, lw=0.7, ls=":")
    scales = np.concatenate([result.left_out for result, _, _ in results.values()])
    ax.set_xscale("log")
    # Also where a point has no value, since two scales without the one left out are not fitted.
    ax.set_xlim(scales.min() / 1.2, scales.max() * 1.2)
    ax.set_xlabel("left-out scale $N$")
    ax.set_ylabel("effective dimensionality $D$")
    return ax


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
    x: Any,
    found: Sequence[Estimate],
    color: str,
    marker: str,
    label: str = "",
    **style: Any,
) -> Axes:
    """Draw values with their intervals at places ``x``; open markers for ``mfc="white"``."""
    values = np.array([of.value for of in found])
    low = np.array([of.low for of in found])
    high = np.array([of.high for of in found])
    ax.vlines(x, low, high, lw=0.8, color=color)
    ax.plot(x, values, marker, ms=3, color=color, label=label or None, **{"lw": 0.8, **style})
    return ax


def categories(ax: Axes, names: Sequence[str]) -> Axes:
    """Name the places 0, 1, ... of an axis."""
    ax.set_xticks(range(len(names)), names, fontsize=6.5, rotation=35, ha="right")
    ax.set_xlim(-0.6, len(names) - 0.4)
    return ax


def heatmap(
    ax: Axes, values: Floats, rows: Sequence[str], columns: Sequence[str], *, size: float = 4.5
) -> Axes:
    """Draw shares from 0 to 1 as coloured cells with their percentages; NaN stays empty."""
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
