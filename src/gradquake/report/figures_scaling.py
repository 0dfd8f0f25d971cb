"""Panels of size distributions and of the fits of exponents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from gradquake.analysis.distributions import Ccdf
from gradquake.analysis.scale_choices import LeaveOneOut
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.transitions import GrokkingEpochs
from gradquake.report.figures import (
    BELOW_LEGEND,
    BLACK,
    BLUE,
    GREY,
    PURPLE,
    VERMILION,
    Axes,
    line_with_band,
    scale_colors,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "bootstrap_distributions", "ccdfs", "finite_size_scaling", "fit_quality", "grokking_epochs",
    "leave_one_out",
]  # fmt: skip

Floats = NDArray[np.float64]


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


def fit_quality(ax: Axes, curve: xr.Dataset, level: float) -> Axes:
    """Draw R² of the fits behind D(t) with its band, and a level to compare it with."""
    names = ("r_squared", "r_squared_low", "r_squared_high")
    middle, low, high = (curve[name].values for name in names)
    line_with_band(ax, curve["epoch"].values, middle, low, high, BLUE, lw=0.8)
    ax.axhline(level, color=GREY, lw=0.6, ls=":")
    ax.set_title("$R^2$ of the fits", fontsize=6, fontweight="normal", pad=2)
    return ax


def ccdfs(ax: Axes, scales: Sequence[Ccdf]) -> Axes:
    """Draw the CCDF of every scale with its 95 % band; a band that reaches 0 leaves the panel."""
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
    # Leaves room above the points for the legend, and keeps the two sets of points apart.
    low, high = ax.get_ylim()
    ax.set_ylim(low / 2, high * 12)
    low, high = right.get_ylim()
    right.set_ylim(low / 2, high * 30)
    ax.legend(handles=handles, loc="upper left")
    return ax


def bootstrap_distributions(ax: Axes, resamples: Mapping[str, tuple[Floats, float, str]]) -> Axes:
    """Draw histograms of resampled exponents: (resamples, estimate, color) by label."""
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
    """Draw exponents with each scale left out: (result, color, marker) by label."""
    for shift, (label, (result, color, marker)) in zip(
        np.linspace(0.95, 1.05, len(results)), results.items(), strict=True
    ):
        place = result.left_out * shift
        ax.vlines(place, result.low, result.high, lw=0.8, color=color)
        ax.plot(place, result.value, marker, ms=3, color=color, label=label)
    ax.axhline(1, color=BLACK, lw=0.7, ls=":")
    scales = np.concatenate([result.left_out for result, _, _ in results.values()])
    ax.set_xscale("log")
    # Set by hand, because a point without a value does not count: two scales give no fit.
    ax.set_xlim(scales.min() / 1.2, scales.max() * 1.2)
    ax.set_xlabel("left-out scale $N$")
    ax.set_ylabel("effective dimensionality $D$")
    return ax
