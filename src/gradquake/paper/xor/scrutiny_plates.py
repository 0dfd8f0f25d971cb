"""The figures of the scrutiny: nulls, timing, controls, interventions, topologies, power."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradquake.analysis.dimension import Curve
from gradquake.analysis.power import Power
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.transitions import Phase
from gradquake.avalanche.surrogates import REAL, SURROGATES
from gradquake.paper.xor.choices_plate import TOPOLOGY_NAMES
from gradquake.paper.xor.conditions import CONTROLS, MODES, ConditionResult
from gradquake.paper.xor.evidence import Evidence
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
    YELLOW,
    Axes,
    Color,
)

__all__ = ["aligned", "controls", "intervention", "ladder", "power", "topologies"]

RUNGS = {name: rung.label.replace(" ", "\n", 1) for name, rung in SURROGATES.items()} | {REAL: "real"}


class Look(NamedTuple):
    """How the exponent of a phase and a statistic is drawn."""

    phase: Phase
    statistic: Statistic
    color: str
    marker: str
    label: str


LOOKS = (
    Look("pre", "max", GREEN, "o", "before, $s_{\\max}$"),
    Look("pre", "mean", SKY, "^", "before, $\\langle s \\rangle$"),
    Look("post", "max", VERMILION, "s", "after, $s_{\\max}$"),
    Look("post", "mean", ORANGE, "D", "after, $\\langle s \\rangle$"),
)
RISE_LOOKS: dict[Statistic, tuple[str, str]] = {"max": (BLUE, "s"), "mean": (PURPLE, "D")}
CURVE_COLORS: dict[Statistic, tuple[str, str]] = {"max": (BLUE, GREY), "mean": (VERMILION, ORANGE)}
CONTROL_COLORS = {"tiny learning rate": GREY, "constant labels": ORANGE, "AND": GREEN}
PALETTE = (BLUE, GREEN, SKY, PURPLE, VERMILION, YELLOW, "#8c564b", ORANGE, BLACK)
# How far apart the exponents of one place are drawn.
SHIFTS: list[float] = np.linspace(-0.24, 0.24, len(LOOKS)).tolist()


def ladder(evidence: Evidence, path: Path) -> None:
    """The exponents of every rung and their rise, inline and shadow."""
    with figures.sheet(path, "ab\ncd", 5.6, between=0.2, below=0.16, bottom=0.75) as panels:
        sweeps = {"inline": evidence.inline_ladder, "shadow": evidence.shadow_ladder}
        places = np.arange(len(RUNGS))
        for i, (name, rungs) in enumerate(sweeps.items()):
            level, rise = panels[i], panels[i + 2]
            for shift, look in zip(SHIFTS, LOOKS, strict=True):
                found = [rungs.exponent(rung, look.phase, look.statistic) for rung in RUNGS]
                figures.series(level, places + shift, found, look.color, look.marker, look.label, ls=":")
            for shift, (statistic, (color, marker)) in zip((-0.1, 0.1), RISE_LOOKS.items(), strict=True):
                gained = [rungs.rise(rung, statistic) for rung in RUNGS]
                label = SYMBOLS[statistic]
                figures.series(rise, places + shift, gained, color, marker, label, ls=":")
            level.axhline(1, color=BLACK, lw=0.7, ls=":")
            rise.axhline(0, color=BLACK, lw=0.7, ls=":")
            level.set_ylim(0.65, 1.55)
            rise.set_ylim(-0.3, 0.55)
            figures.categories(level, [""] * len(RUNGS))
            figures.categories(rise, list(RUNGS.values()))
            level.set_ylabel(f"$D$ or $\\gamma$, {name}")
            rise.set_ylabel(f"rise (after − before), {name}")
        panels[0].legend(loc="upper left", ncols=2)
        panels[2].legend(loc="upper left", ncols=2)


def aligned(evidence: Evidence, path: Path) -> None:
    """D(t) on shared epochs and relative to t_g, beside the permuted null."""
    with figures.sheet(path, "ab\ncd", 5.2, between=0.2, below=0.42) as panels:
        sweeps = {"inline": evidence.inline_scrutiny, "shadow": evidence.shadow_scrutiny}
        for (name, scrutiny), left, right in zip(sweeps.items(), panels[::2], panels[1::2], strict=True):
            ladder = scrutiny.ladder
            for statistic in STATISTICS:
                real, null = ladder.real.curves[statistic], ladder.nulls["permuted"].curves[statistic]
                _pair(left, real, null, statistic)
            for statistic, timing in scrutiny.timing.items():
                _pair(right, timing.aligned, timing.aligned_null, statistic)
            first, last = ladder.real.grokking_range
            left.axvspan(
                first, last, ymax=BELOW_LEGEND, color=YELLOW, alpha=0.25, lw=0, label="runs grok"
            )
            right.axvline(0, ymax=BELOW_LEGEND, color=BLACK, lw=0.7)
            right.set_xlim(-50, 300)
            right.set_xlabel("epochs since each run's $t_g$")
            right.set_ylabel("")
            left.set_ylabel(f"$D(t)$ or $\\gamma(t)$, {name}")
            for ax in (left, right):
                ax.axhline(1, color=BLACK, lw=0.7, ls=":")
                ax.set_ylim(0.5, 1.85)
        panels[0].legend(loc="upper left", ncols=2)


def controls(evidence: Evidence, path: Path) -> None:
    """D(t) of the controls, which do not grok, beside XOR."""
    with figures.sheet(path, "ab\ncd", 5.0, between=0.2, below=0.42) as panels:
        pairs = [(mode, statistic) for statistic in STATISTICS for mode in MODES]
        for ax, (mode, statistic) in zip(panels, pairs, strict=True):
            for control, color in CONTROL_COLORS.items():
                result = evidence.condition(**CONTROLS[control], **MODES[mode])
                figures.dimension(ax, result.curves[statistic].dimension, color, control, lw=0.9)
            own = evidence.condition(**MODES[mode])
            figures.dimension(ax, own.curves[statistic].dimension, BLUE, "XOR")
            ax.axhline(1, color=BLACK, lw=0.7, ls=":")
            ax.set_ylim(0.55, 1.75)
            ax.set_ylabel(f"{DIMENSION_LABELS[statistic]}, {mode}")
        panels[0].legend(loc="upper left", ncols=2)


def intervention(evidence: Evidence, path: Path) -> None:
    """The effect of the in-line diffusion on the grokking epoch, on D(t) and on D."""
    by_alpha = sorted(evidence.varied("alpha_train"), key=_alpha)
    by_graph = evidence.varied("topology_train", "permute_train")
    names = [_graph(result) for result in by_graph]
    with figures.sheet(path, "ab\ncd\nef", 8.2, between=0.2, below=0.45, bottom=0.85) as panels:
        shades = figures.scale_colors(len(by_alpha))
        for shift, result, color in zip(
            np.linspace(0.94, 1.06, len(by_alpha)), by_alpha, shades, strict=True
        ):
            _grokking(panels[0], result, shift, f"$\\alpha$ = {_alpha(result):g}", color=color)
        _grokking(panels[1], by_alpha[0], 0.94, "shadow", color=GREY, ls="--")
        for shift, result, label, color in zip(
            np.linspace(0.96, 1.06, len(by_graph)), by_graph, names, PALETTE, strict=True
        ):
            _grokking(panels[1], result, shift, label, color=color)
        for ax, fontsize in zip(panels[:2], (None, 5.5), strict=True):
            ax.legend(loc="upper left", ncols=2, fontsize=fontsize)
            ax.set_xscale("log")
            ax.set_xlabel("parameters $N$")
            ax.set_ylabel("median $t_g$")
            ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
        _curves(panels[2], by_alpha, shades)
        _curves(panels[3], [by_alpha[0], *by_graph], (GREY, *PALETTE))
        _exponents(panels[4], np.array([_alpha(result) for result in by_alpha]), 0.1, by_alpha)
        _exponents(panels[5], np.arange(len(names)), 1.0, by_graph)
        panels[4].set_xlabel("$\\alpha$ of the inline diffusion")
        panels[4].legend(loc="upper left", ncols=2)
        figures.categories(panels[5], names)
        panels[5].set_xlabel("graph of the inline diffusion, $\\alpha$ = 0.3")


def topologies(evidence: Evidence, path: Path) -> None:
    """The same gradients on every topology: the exponents, and the part of the arrangement."""
    with figures.sheet(path, "ab\ncd", 5.8, between=0.2, below=0.2, bottom=0.85) as panels:
        for row, (name, found) in enumerate(evidence.on_topologies.items()):
            left, right = panels[2 * row : 2 * row + 2]
            places = np.arange(len(found))
            for shift, look in zip(SHIFTS, LOOKS, strict=True):
                key, place = (look.phase, look.statistic), places + shift
                real = [on.exponent("real", *key) for on in found]
                figures.series(left, place, real, look.color, look.marker, look.label, ls="")
                arrangement = [on.arrangement(*key) for on in found]
                figures.series(right, place, arrangement, look.color, look.marker, ls="")
            left.axhline(1, color=BLACK, lw=0.7, ls=":")
            right.axhline(0, color=BLACK, lw=0.7, ls=":")
            left.set_ylim(0.4, 2.2)
            right.set_ylim(-0.6, 0.8)
            left.set_ylabel(f"$D$ or $\\gamma$, {name}")
            right.set_ylabel(f"real minus permuted, {name}")
            last = row == len(evidence.on_topologies) - 1
            names = [TOPOLOGY_NAMES[on.topology] if last else "" for on in found]
            for ax in (left, right):
                figures.categories(ax, names)
        panels[0].legend(loc="upper left", ncols=2)


def power(evidence: Evidence, path: Path) -> None:
    """The width of intervals and the share of detected differences against the number of runs."""
    with figures.sheet(path, "abc\ndef", 5.0, below=0.45) as panels:
        for row, (mode, seeds) in enumerate(evidence.many_seeds.items()):
            width, gaussian, permuted = panels[3 * row : 3 * row + 3]
            for look in LOOKS:
                key = (look.phase, look.statistic)
                found = [p for p in seeds.power if (p.phase, p.statistic) == key]
                _against_runs(width, found, [p.width for p in found], look)
                detected = [p.above_null["gaussian"].detected for p in found]
                _against_runs(gaussian, found, detected, look)
                _against_runs(permuted, found, [p.above_null["permuted"].detected for p in found], look)
            width.set_yscale("log")
            width.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
            width.minorticks_off()
            width.set_ylim(0.01, 2.0)
            width.set_ylabel(f"width of the interval, {mode}")
            for ax, null in ((gaussian, "Gaussian"), (permuted, "permuted")):
                ax.set_ylim(-0.05, 1.08)
                ax.set_ylabel(f"share told from {null}")
        panels[0].legend(loc="upper left", ncols=2, columnspacing=0.8, handlelength=1.2)


def _alpha(result: ConditionResult) -> float:
    return result.condition.run.alpha_train


def _graph(result: ConditionResult) -> str:
    run = result.condition.run
    return "permuted" if run.permute_train else TOPOLOGY_NAMES[run.topology_train]


def _pair(ax: Axes, real: Curve, null: Curve, statistic: Statistic) -> None:
    """Draw D(t) with its crossing of 1, beside its permuted null."""
    color, faint = CURVE_COLORS[statistic]
    label = SYMBOLS[statistic]
    figures.dimension(ax, null.dimension, faint, f"permuted, {label}", lw=0.8)
    figures.dimension(ax, real.dimension, color, label)
    if np.isfinite(real.crossing.value):
        ax.axvline(real.crossing.value, ymax=BELOW_LEGEND, color=color, lw=0.6, ls="--")


def _against_runs(ax: Axes, found: Sequence[Power], values: Sequence[float], look: Look) -> None:
    """Draw what numbers of runs tell."""
    runs = [p.runs for p in found]
    ax.plot(runs, values, look.marker + "-", ms=3, lw=0.8, color=look.color, label=look.label)
    ax.set_xscale("log")
    ax.set_xticks(runs, [str(n) for n in runs])
    ax.minorticks_off()
    ax.set_xlabel("runs a scale")


def _grokking(
    ax: Axes, result: ConditionResult, shift: float, label: str, *, color: Color, ls: str = "-"
) -> None:
    """Draw the median grokking epoch against N, moved aside by a factor."""
    n = np.array([scale.n_parameters for scale in result.by_scale]) * shift
    ax.vlines(
        n,
        [scale.median.low for scale in result.by_scale],
        [scale.median.high for scale in result.by_scale],
        lw=0.5,
        color=color,
    )
    ax.plot(
        n, [s.median.value for s in result.by_scale], "o", ms=2, lw=0.8, color=color, ls=ls, label=label
    )


def _curves(ax: Axes, results: Sequence[ConditionResult], colors: Sequence[Color]) -> None:
    """Draw D(t) of the largest size under several conditions."""
    for result, color in zip(results, colors, strict=False):
        figures.dimension(ax, result.curves["max"].dimension, color, opacity=0.08, lw=0.9)
    ax.axhline(1, color=BLACK, lw=0.7, ls=":")
    ax.set_ylim(0.55, 1.75)
    ax.set_ylabel("$D(t)$ of $s_{\\max}$")


def _exponents(ax: Axes, places: Any, step: float, results: Sequence[ConditionResult]) -> None:
    """Draw the exponents under several conditions at places a step apart."""
    for shift, look in zip(SHIFTS, LOOKS, strict=True):
        found = [r.exponent(look.phase, look.statistic) for r in results]
        place = places + shift * step
        figures.series(ax, place, found, look.color, look.marker, look.label, ls=":")
    ax.axhline(1, color=BLACK, lw=0.7, ls=":")
    ax.set_ylim(0.6, 1.75)
    ax.set_ylabel("$D$ or $\\gamma$")
