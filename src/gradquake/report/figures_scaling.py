"""Panels of size distributions and of the fits of exponents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from gradquake.analysis.distributions import Ccdf
from gradquake.analysis.groups import GroupEstimate
from gradquake.analysis.transitions import GrokkingEpochs
from gradquake.report.figures import (
    BELOW_LEGEND,
    BLACK,
    BLUE,
    GREY,
    PURPLE,
    Axes,
    line_with_band,
    scale_colors,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "ccdfs", "fit_quality", "grokking_epochs", "group_distributions", "left_out", "shares",
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


def fit_quality(ax: Axes, r_squared: xr.Dataset, level: float) -> Axes:
    """Draw R² of the fits behind D(t) with its band, and a level to compare it with."""
    middle, low, high = (r_squared[name].values for name in ("value", "low", "high"))
    line_with_band(ax, r_squared["epoch"].values, middle, low, high, BLUE, lw=0.8)
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


def group_distributions(ax: Axes, estimates: Mapping[str, tuple[GroupEstimate, str]]) -> Axes:
    """Draw histograms of a number over groups of runs, with its estimate: (estimate, color) by label."""
    drawn = [of.drawn for of, _ in estimates.values() if of.drawn.size > 1]
    bins = np.linspace(
        min((values.min() for values in drawn), default=0.9) - 0.02,
        max((values.max() for values in drawn), default=1.1) + 0.02,
        60,
    ).tolist()
    for label, (of, color) in estimates.items():
        if of.drawn.size > 1:
            ax.hist(of.drawn, bins, density=True, color=color, alpha=0.4, lw=0)
        ax.fill_between([], [], color=color, alpha=0.4, lw=0, label=label)
        ax.axvline(of.value, ymax=BELOW_LEGEND, color=color)
    ax.axvline(1, ymax=BELOW_LEGEND, color=BLACK, lw=0.7, ls=":")
    ax.set_xlabel("exponent $D$ of six seeds")
    ax.set_ylabel("density over groups of six")
    return ax


def left_out(ax: Axes, results: Mapping[str, tuple[Floats, Floats, Floats, Floats, str, str]]) -> Axes:
    """Draw exponents without each scale: (left-out N, value, low, high, color, marker) by label."""
    for shift, (label, (n, value, low, high, color, marker)) in zip(
        np.linspace(0.95, 1.05, len(results)), results.items(), strict=True
    ):
        ax.vlines(n * shift, low, high, lw=0.8, color=color)
        ax.plot(n * shift, value, marker, ms=3, color=color, label=label)
    ax.axhline(1, color=BLACK, lw=0.7, ls=":")
    scales = np.concatenate([n for n, *_ in results.values()])
    ax.set_xscale("log")
    # Set by hand, because a point without a value does not count: two scales give no fit.
    ax.set_xlim(scales.min() / 1.2, scales.max() * 1.2)
    ax.set_xlabel("left-out scale $N$")
    ax.set_ylabel("exponent $D$ of six seeds")
    return ax


def shares(ax: Axes, results: Mapping[str, tuple[Floats, Floats, Floats, Floats, str, str]]) -> Axes:
    """Draw s / N against N: (N, value, low, high, color, style of the line) by label."""
    shifts = np.linspace(0.97, 1.03, len(results))
    for shift, (label, (n, value, low, high, color, style)) in zip(shifts, results.items(), strict=True):
        ax.vlines(n * shift, low, high, lw=0.8, color=color, alpha=0.6)
        ax.plot(n * shift, value, style, ms=3, lw=0.8, color=color, label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("parameters $N$")
    ax.set_ylabel("$s\\,/\\,N$")
    return ax
