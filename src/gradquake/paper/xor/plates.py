"""The paper's three figures, panel by panel, from the evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gradquake.analysis.transitions import Phase
from gradquake.paper.xor.choices_plate import choices
from gradquake.paper.xor.criticality_plate import kicks
from gradquake.paper.xor.evidence import Evidence
from gradquake.paper.xor.gini import ALIGNED_AFTER, ALIGNED_BEFORE
from gradquake.paper.xor.plan import GINI_HIDDEN
from gradquake.paper.xor.scrutiny_plates import (
    aligned,
    controls,
    intervention,
    ladder,
    power,
    topologies,
)
from gradquake.paper.xor.six_seeds import SixSeeds
from gradquake.report import figures, figures_scaling
from gradquake.report.figures import (
    BELOW_LEGEND,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    Axes,
)

__all__ = ["PLATES"]

SHORT_NAMES = {
    "ring": "ring",
    "small_world_0.05": "SW\n.05",
    "small_world_0.2": "SW\n.2",
    "barabasi_albert": "scale\nfree",
    "erdos_renyi": "random",
}


def _figure1(evidence: Evidence, path: Path) -> None:
    with figures.sheet(path, "abc", 2.9) as (accuracy, dimension, gini):
        _accuracy(evidence, accuracy)
        _dimension(evidence, dimension)
        _gini(evidence, gini)


# The paper's exponents before and after, with twice its error.
PAPER_PHASES = {"pre": (0.86, 0.94), "post": (1.16, 1.24)}


def _figure2(evidence: Evidence, path: Path) -> None:
    largest = evidence.inline.exponent("all", "max")
    with figures.sheet(path, "abc", 2.9) as (distributions, collapse, shares):
        figures_scaling.ccdfs(distributions, evidence.ccdfs)
        distributions.set_xlabel("avalanche size $s$")
        distributions.set_xlim(left=1.3)
        distributions.legend(title="$N$", title_fontsize=6.5, loc="lower left", fontsize=6)
        figures_scaling.ccdfs(collapse, evidence.collapsed)
        collapse.set_xlabel(f"$s\\,/\\,N^{{D}}$,  $D$ = {largest.value:.2f}")
        _shares(evidence.six_seeds, shares)


def _shares(found: SixSeeds, ax: Axes) -> None:
    looks = {
        ("real", "max"): (BLUE, "o-"),
        ("real", "mean"): (VERMILION, "s-"),
        ("permuted", "max"): (SKY, "o:"),
        ("permuted", "mean"): (ORANGE, "s:"),
    }
    names = {"max": ("s_{\\max}", "D"), "mean": ("\\langle s \\rangle", "\\gamma")}
    shown = {}
    for (rung, statistic), look in looks.items():
        size, symbol = names[statistic]
        exponent = found.exponents[rung][statistic]
        label = f"${size}$, {rung}: ${symbol}$ = {exponent.value:.2f}"
        shown[label] = (*found.shares[rung][statistic], *look)
    figures_scaling.shares(ax, shown)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * 2.5)
    ax.legend(loc="upper left")


def _figure3(evidence: Evidence, path: Path) -> None:
    six = evidence.six_seeds
    looks: dict[tuple[str, Phase], str] = {
        ("real", "pre"): GREEN,
        ("real", "post"): VERMILION,
        ("permuted", "pre"): SKY,
        ("permuted", "post"): ORANGE,
    }
    with figures.sheet(path, "ab", 3.2, between=0.2) as (distributions, left_out):
        shown = {
            f"{which}, {rung}: {found.value:.2f}\n[{found.low:.2f}, {found.high:.2f}]": (found, color)
            for (rung, which), color in looks.items()
            for found in (six.phases[rung][which],)
        }
        figures_scaling.group_distributions(distributions, shown)
        for low, high in PAPER_PHASES.values():
            distributions.axvspan(low, high, ymax=BELOW_LEGEND, color=GREY, alpha=0.2, lw=0)
        low, high = distributions.get_ylim()
        distributions.set_ylim(0, high * 1.4)
        distributions.legend(loc="upper left", ncols=2)
        figures_scaling.left_out(
            left_out,
            {
                "pre": (*six.left_out["pre"], GREEN, "o"),
                "post": (*six.left_out["post"], VERMILION, "s"),
            },
        )
        low, high = left_out.get_ylim()
        left_out.set_ylim(low, high + 0.75 * (high - low))
        left_out.legend(loc="upper left")
        baseline = evidence.topologies
        small = figures.inset(left_out, (0.5, 0.7, 0.49, 0.24))
        values, low, high = np.array([(of.value, of.low, of.high) for of in baseline.each]).T
        figures.variants(small, [SHORT_NAMES[name] for name in baseline.variants], values, low, high)
        small.set_title(
            "Gaussian, $\\langle s \\rangle$: $\\gamma$", fontsize=6, fontweight="normal", pad=2
        )


def _accuracy(evidence: Evidence, ax: Axes) -> None:
    study = evidence.gini
    band = study.accuracy_band
    shown = slice(0, 201)
    epoch, accuracy = band.x[shown], study.accuracy[shown]
    figures.line_with_band(
        ax, epoch, band.middle[shown], band.low[shown], band.high[shown], ORANGE,
        f"mean, quartiles, {study.grokking_epochs.size} seeds",
    )  # fmt: skip
    ax.plot(epoch, accuracy, color=BLUE, label="seed 0, training")
    ax.plot(epoch, accuracy, color=PURPLE, ls=(0, (2, 2)), label="seed 0, evaluation (same)")
    ax.axvline(study.grokking_epochs[0], ymax=BELOW_LEGEND, color=GREY, lw=0.7, ls=":")
    ax.set_ylim(0.1, 1.4)
    ax.set_yticks([0.25, 0.5, 0.75, 1.0])
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"accuracy, $h$ = {GINI_HIDDEN}")
    ax.legend(loc="upper left")
    figures_scaling.grokking_epochs(
        figures.inset(ax, (0.53, 0.16, 0.45, 0.34)), evidence.inline.grokking
    )


def _dimension(evidence: Evidence, ax: Axes) -> None:
    curve = evidence.inline.curves["max"]
    first, last = evidence.inline.grokking_range
    average, single = evidence.time_average.value, evidence.gini.grokking.median
    ax.axvspan(first, last, ymax=BELOW_LEGEND, color=YELLOW, alpha=0.25, lw=0, label="runs grok")
    ax.axvline(single, ymax=BELOW_LEGEND, color=ORANGE, lw=1, label=f"$t_g$, $h$ = {GINI_HIDDEN}")
    interval = evidence.time_average
    ax.axhspan(interval.low, interval.high, color=VERMILION, alpha=0.12, lw=0)
    ax.axhline(average, color=VERMILION, lw=0.9, label=f"average {average:.2f}")
    ax.axhline(1, color=BLACK, lw=0.7, ls=":")
    figures.dimension(
        ax, evidence.inline_null.curves["max"].dimension, GREY, "null, $s_{\\max}$", lw=0.8
    )
    figures.dimension(ax, curve.dimension, BLUE, "$s_{\\max}$")
    figures.dimension(ax, evidence.inline.curves["mean"].dimension, SKY, "$\\langle s \\rangle$", lw=0.8)
    ax.set_ylabel("$D(t)$ or $\\gamma(t)$")
    ax.set_ylim(0.1, 1.75)
    ax.legend(loc="upper left", ncols=2, columnspacing=0.6, handlelength=1.2)
    below = figures.inset(ax, (0.36, 0.09, 0.6, 0.2))
    figures_scaling.fit_quality(below, curve.r_squared(), 0.98)


def _gini(evidence: Evidence, ax: Axes) -> None:
    study = evidence.gini
    band = study.gini_band
    if band is not None:
        label = f"median, quartiles, {band.runs} seeds"
        figures.line_with_band(ax, band.x, band.middle, band.low, band.high, GREEN, label)
    epoch = np.arange(study.gini.size) - study.grokking_epochs[0]
    shown = (epoch >= -ALIGNED_BEFORE) & (epoch <= ALIGNED_AFTER)
    ax.plot(epoch[shown], study.gini[shown], color=PURPLE, lw=0.9, label="seed 0")
    ax.axvline(0, ymax=BELOW_LEGEND, color=GREY, lw=0.7, ls=":")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.35 * (high - low))
    ax.set_xlabel("epochs since $t_g$")
    ax.set_ylabel("Gini coefficient of $|\\theta|$")
    ax.legend(loc="upper left")


PLATES: dict[str, Callable[[Evidence, Path], None]] = {
    "figure1": _figure1,
    "figure2": _figure2,
    "figure3": _figure3,
    "ladder": ladder,
    "aligned": aligned,
    "controls": controls,
    "intervention": intervention,
    "topologies": topologies,
    "power": power,
    "kicks": kicks,
    "specifications": choices,
}
