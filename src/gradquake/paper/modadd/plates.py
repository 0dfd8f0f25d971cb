"""The figures of modular addition."""

from __future__ import annotations

import string
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.avalanche.surrogates import REAL, RUNGS
from gradquake.paper.modadd.evidence import Evidence
from gradquake.paper.modadd.plan import (
    ARCHITECTURES,
    CONDITIONS,
    CONTROLS,
    GROKKING,
    LITERAL,
    NO_DECAY,
    SMALL,
)
from gradquake.paper.modadd.views import ALIGNMENTS, SHARED, SINCE_TEST, TEST_90, TRAIN_99, Level, View
from gradquake.paper.modadd.warning import WARNINGS
from gradquake.report import figures
from gradquake.report.figures import (
    BELOW_LEGEND,
    BLACK,
    BLUE,
    DIMENSION_LABELS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    SYMBOLS,
    VERMILION,
    Axes,
)

__all__ = ["PLATES"]

COLORS = {GROKKING: BLUE, NO_DECAY: VERMILION, SMALL: ORANGE, LITERAL: GREEN}
WARNING_COLORS = dict(zip(WARNINGS, (BLUE, SKY, VERMILION, ORANGE, PURPLE), strict=True))
CURVE_COLORS: dict[Statistic, tuple[str, str]] = {"max": (BLUE, GREY), "mean": (VERMILION, ORANGE)}


def accuracy(evidence: Evidence, path: Path) -> None:
    """Train and test accuracy under every condition."""
    with figures.sheet(path, "abcd\nefgh", 4.2, between=0.3, below=0.45) as panels:
        for ax, (architecture, condition, found) in zip(panels, evidence.subjects, strict=True):
            for name, color, label in (("train_accuracy", GREY, "train"), ("accuracy", BLUE, "test")):
                band = found.bands[name]
                figures.line_with_band(ax, band.x, band.middle, band.low, band.high, color, label)
            ax.set_ylim(-0.03, 1.05)
            ax.set_xlabel("epoch")
            ax.set_ylabel(f"accuracy, {architecture}" if condition == GROKKING else "")
            ax.text(0.98, 0.5, condition, ha="right", fontsize=6.5, transform=ax.transAxes)
        panels[0].legend(loc="lower right")


def dimension(evidence: Evidence, path: Path) -> None:
    """D(t) on shared epochs under every condition."""
    pairs = [(a, s) for a in _with_exponents(evidence) for s in STATISTICS]
    with _rows(path, 2, len(pairs), 0.42) as panels:
        for ax, (architecture, statistic) in zip(panels, pairs, strict=True):
            found = evidence.found[architecture]
            if not found[GROKKING].untestable:
                null = found[GROKKING].on_shared_epochs(statistic).null
                figures.dimension(ax, null.dimension, GREY, "permuted null of grokking", lw=0.8)
            for condition in [c for c in reversed(CONDITIONS) if not found[c].untestable]:
                view = found[condition].on_shared_epochs(statistic)
                figures.dimension(
                    ax, view.real.dimension, COLORS[condition], condition, opacity=0.12, lw=0.9
                )
            _mark(ax, evidence, architecture)
            ax.set_ylabel(f"{DIMENSION_LABELS[statistic]}, {architecture}")
        _same_height(panels)
        panels[0].legend(loc="upper left", ncols=2)


def alignment(evidence: Evidence, path: Path) -> None:
    """D(t) of the grokking runs on three kinds of time, beside the permuted null."""
    pairs = [(a, time) for a in _with_exponents(evidence) for time in ALIGNMENTS]
    with _rows(path, 3, len(pairs), 0.42) as panels:
        for ax, (architecture, time) in zip(panels, pairs, strict=True):
            found = evidence.found[architecture][GROKKING]
            for statistic in STATISTICS:
                _beside_null(ax, None if found.untestable else found.view(time, statistic), statistic)
            ax.axhline(1, color=BLACK, lw=0.7, ls=":")
            if time == SHARED:
                _mark(ax, evidence, architecture)
            elif time == SINCE_TEST:
                ax.axvline(0, ymax=BELOW_LEGEND, color=BLACK, lw=0.7)
            ax.set_xlabel("epoch" if time == SHARED else f"epochs {time}")
            ax.set_ylabel(f"$D(t)$ or $\\gamma(t)$, {architecture}" if time == SHARED else "")
        _same_height(panels)
        panels[0].legend(loc="upper left", ncols=2, columnspacing=0.8, handlelength=1.2)


def ladder(evidence: Evidence, path: Path) -> None:
    """The exponents of every rung, pooled over all snapshots."""
    rungs = (*RUNGS, REAL)
    names = [rung.replace("gaussian", "Gaussian").replace("_", " ") for rung in rungs]
    shown = _with_exponents(evidence)
    pairs = [(a, s) for a in shown for s in STATISTICS]
    with _rows(path, 2, len(pairs), 0.2, bottom=0.95) as panels:
        for ax, (architecture, statistic) in zip(panels, pairs, strict=True):
            for shift, condition in zip(np.linspace(-0.2, 0.2, 4), CONDITIONS, strict=True):
                if evidence.found[architecture][condition].untestable:
                    continue
                measured = evidence.found[architecture][condition].ladder
                found = [measured.exponent(rung, "all", statistic) for rung in rungs]
                places = np.arange(len(rungs)) + shift
                figures.series(ax, places, found, COLORS[condition], "o", condition, ls=":")
            ax.axhline(1, color=BLACK, lw=0.7, ls=":")
            last = architecture == shown[-1]
            figures.categories(ax, names if last else [""] * len(rungs))
            exponent = "D" if statistic == "max" else "\\gamma"
            ax.set_ylabel(f"${exponent}$ of {SYMBOLS[statistic]}, {architecture}")
        _same_height(panels)
        panels[0].legend(loc="upper left", ncols=2)


def warning(evidence: Evidence, path: Path) -> None:
    """How early each number tells the runs that will grok from those of each control."""
    with figures.sheet(path, "ab\ncd", 5.0, between=0.2, below=0.42) as panels:
        pairs = [(a, control) for a in ARCHITECTURES for control in CONTROLS]
        for ax, (architecture, control) in zip(panels, pairs, strict=True):
            for name, found in evidence.warnings[architecture][control].items():
                middle = [area.value for area in found.area]
                low = [area.low for area in found.area]
                high = [area.high for area in found.area]
                figures.line_with_band(
                    ax, found.epochs, middle, low, high, WARNING_COLORS[name], name, opacity=0.1, lw=0.9
                )
            ax.axhline(0.5, color=BLACK, lw=0.7, ls=":")
            _mark(ax, evidence, architecture, level=None)
            ax.set_ylim(-0.03, 1.35)
            ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
            ax.set_xlabel("epoch")
            ax.set_ylabel(f"area under the ROC, {architecture}" if control == CONTROLS[0] else "")
            ax.set_title(f"against {control}", fontsize=7)
        panels[0].legend(loc="upper left", ncols=3, columnspacing=0.8, handlelength=1.2)


PLATES: dict[str, Callable[[Evidence, Path], None]] = {
    "modadd-accuracy": accuracy,
    "modadd-dimension": dimension,
    "modadd-alignment": alignment,
    "modadd-ladder": ladder,
    "modadd-warning": warning,
}


def _beside_null(ax: Axes, view: View | None, statistic: Statistic) -> None:
    """Draw D(t) beside its permuted null; a text if there is no such D(t)."""
    if view is None:
        ax.text(0.5, 0.3, "too few runs have it", ha="center", transform=ax.transAxes)
        return
    (color, faint), symbol = CURVE_COLORS[statistic], SYMBOLS[statistic]
    figures.dimension(ax, view.null.dimension, faint, f"permuted, {symbol}", lw=0.8)
    figures.dimension(ax, view.real.dimension, color, symbol)


def _with_exponents(evidence: Evidence) -> list[str]:
    """Return the architectures with an exponent under some condition; all if there is none."""
    shown = [a for a in ARCHITECTURES if not all(of.untestable for of in evidence.found[a].values())]
    return shown or list(ARCHITECTURES)


def _rows(
    path: Path, across: int, count: int, below: float, bottom: float = 0.4
) -> AbstractContextManager[list[Axes]]:
    """Return the axes of a number of panels, so many in a row."""
    letters = string.ascii_lowercase[:count]
    layout = "\n".join(letters[start : start + across] for start in range(0, count, across))
    height = 0.3 + bottom + 2.1 * (count // across)
    return figures.sheet(path, layout, height, between=0.24, below=below, bottom=bottom)


def _mark(ax: Axes, evidence: Evidence, architecture: str, level: float | None = 1.0) -> None:
    """Mark the median epochs at which training saturates and at which runs grok, and the level 1."""
    marked: dict[Level, str] = {TRAIN_99: "--", TEST_90: "-"}
    for level_of, style in marked.items():
        epoch = evidence.found[architecture][GROKKING].levels[level_of].value
        if np.isfinite(epoch):
            ax.axvline(epoch, ymax=BELOW_LEGEND, color=BLACK, lw=0.7, ls=style)
    if level is not None:
        ax.axhline(level, color=BLACK, lw=0.7, ls=":")


def _same_height(panels: list[Axes]) -> None:
    """Give all panels one vertical range, with room for a legend above."""
    ranges = [ax.get_ylim() for ax in panels]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    for ax in panels:
        ax.set_ylim(low, high + 0.25 * (high - low))
