"""The figure of where a network topples: its tensors over the steps, before and after grokking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from gradquake.analysis.tensors import TensorShares
from gradquake.analysis.transitions import Phase
from gradquake.report import figures
from gradquake.report.figures import Axes
from gradquake.report.text import shown_name

__all__ = ["draw_tensors"]

# The smallest number of topplings per entry that has a color of its own is the largest over this.
DARKEST = 300

# The shares of a tensor in panel (b): phase, color, color inside, size, and label. A run without t_g is
# before it at all steps.
MARKS: dict[Phase, tuple[str, str, float, str]] = {
    "pre": (figures.BLUE, "white", 4.5, "before grokking"),
    "post": (figures.VERMILION, figures.VERMILION, 2.5, "after grokking"),
}


def draw_tensors(found: TensorShares, path: Path) -> None:
    """Draw the topplings per entry of every tensor at every step, and its shares of the topplings."""
    n = len(found.names)
    longest = max(len(shown_name(name)) for name in found.names)
    height = 1.5 + 0.17 * max(n, 6)
    left = 0.35 + 0.062 * longest
    with figures.sheet(path, "aab", height, between=0.32, left=left, bottom=0.85) as panels:
        over_steps, shares = panels
        _draw_heat_map(over_steps, found)
        _draw_shares(shares, found)
        over_steps.set_yticks(range(n), list(map(shown_name, found.names)), parse_math=False)
        shares.set_yticks(range(n), [""] * n)
        for ax in panels:
            ax.set_ylim(n - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)


def _draw_heat_map(ax: Axes, found: TensorShares) -> None:
    rows = np.arange(len(found.names) + 1) - 0.5
    largest = float(np.nanmax(found.per_entry, initial=0.0)) or 1.0
    # A tensor that hardly topples has the darkest color, and so has one that does not.
    scale = LogNorm(largest / DARKEST, largest, clip=True)
    drawn = np.where(found.per_entry > 0, found.per_entry, largest / DARKEST)
    drawn[np.isnan(found.per_entry)] = np.nan
    mesh = ax.pcolormesh(_edges(found.epochs), rows, drawn, cmap="viridis", norm=scale)
    mesh.set_rasterized(True)
    bar = ax.inset_axes((1.015, 0.0, 0.015, 1.0))
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.colorbar(mesh, cax=bar, extend="min", extendfrac=0.02)
    bar.tick_params(labelsize=5.5, length=2, pad=1, which="both")
    runs = "one run" if found.runs == 1 else f"mean of {found.runs} runs"
    ax.set_title(
        f"topplings per entry in one cascade, N = {found.n_parameters:,}, {runs}", loc="right",
        fontsize=6.5, fontweight="normal",
    )  # fmt: skip
    known = found.grokking_epochs[np.isfinite(found.grokking_epochs)]
    for epoch in known:
        ax.axvline(epoch, color="white", lw=1.0, ls="--")
    figures.steps(ax, int(found.epochs.min()), int(found.epochs.max()))
    ax.set_xlim(*_edges(found.epochs)[[0, -1]])
    if known.size:
        ax.set_xlabel("step (dashed: $t_g$ of each run)")


def _draw_shares(ax: Axes, found: TensorShares) -> None:
    place = np.arange(len(found.names))
    ax.plot(found.entries, place, "|", ms=7, color=figures.BLACK, label="of the entries")
    split = "post" in found.shares and bool(found.shares["post"])
    for which, (color, inside, width, label) in MARKS.items():
        estimates = found.shares[which].get("topplings", ()) if which in found.shares else ()
        if not estimates:
            continue
        values, low, high = (
            np.array([getattr(of, name) for of in estimates]) for name in ("value", "low", "high")
        )
        ax.hlines(place, low, high, color=color, lw=0.8)
        text = f"of the topplings {label if split else 'at all steps'}"
        ax.plot(values, place, "o", ms=width, color=color, mfc=inside, label=text)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel("a tensor's share")
    ax.grid(axis="y", lw=0.3, color=figures.GREY, alpha=0.5)
    handles, labels = ax.get_legend_handles_labels()
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.legend(handles, labels, loc="lower center", ncol=3)


def _edges(epochs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the edges of cells around the steps, halfway between neighbors."""
    if epochs.size == 1:
        return np.array([epochs[0] - 0.5, epochs[0] + 0.5])
    # The first and the last cell end at their steps: there is no step below 0.
    return np.array([epochs[0], *(epochs[1:] + epochs[:-1]) / 2, epochs[-1]], np.float64)
