"""The figures of the scrutiny: nulls, timing, controls, interventions, choices, power."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradquake.analysis import specifications
from gradquake.analysis.scaling import STATISTICS, Exponent, Statistic
from gradquake.analysis.sweep import Window
from gradquake.avalanche.surrogates import REAL, SURROGATES
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.paper.xor import statements as xor_statements
from gradquake.paper.xor.conditions import INLINE, SHADOW, ConditionResult
from gradquake.paper.xor.evidence import Evidence
from gradquake.report import figures
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
from gradquake.scrutiny.topologies import OnTopology

LADDER = {name: rung.label.replace(" ", "\n", 1) for name, rung in SURROGATES.items()} | {REAL: "real"}
LOOKS: dict[tuple[Window, Statistic], tuple[str, str, str]] = {
    ("pre", "max"): (GREEN, "o", "before, $s_{\\max}$"),
    ("pre", "mean"): (SKY, "^", "before, $\\langle s \\rangle$"),
    ("post", "max"): (VERMILION, "s", "after, $s_{\\max}$"),
    ("post", "mean"): (ORANGE, "D", "after, $\\langle s \\rangle$"),
}
GRAPHS = {name: topology.label for name, topology in TOPOLOGIES.items()}
LEVELS = {**GRAPHS, "all": "all scales"}
PAPERS_CHOICE: dict[str, Any] = {
    "alpha_train": 0.3, "topology": "barabasi_albert", "quantile": 0.9, "alpha": 0.3, "max_steps": 20,
    "statistic": "max", "interval": 10, "window": "all",
}  # fmt: skip
PALETTE = (BLUE, GREEN, SKY, PURPLE, VERMILION, YELLOW, "#8c564b", ORANGE, BLACK)
CHOICES = {
    "alpha_train": "$\\alpha$ train",
    "topology": "topology",
    "quantile": "quantile",
    "alpha": "$\\alpha$",
    "max_steps": "steps",
    "statistic": "statistic",
    "interval": "interval",
    "window": "scales",
}


def ladder(evidence: Evidence, path: Path) -> None:
    """The exponents of every rung and their rise, inline and shadow."""
    with figures.sheet(path, "ab\ncd", 5.6, between=0.2, below=0.16, bottom=0.75) as panels:
        sweeps = {"inline": evidence.inline_ladder, "shadow": evidence.shadow_ladder}
        places = np.arange(len(LADDER))
        for i, (name, rungs) in enumerate(sweeps.items()):
            level, rise = panels[i], panels[i + 2]
            for shift, (key, (color, marker, label)) in zip(_shifts(4), LOOKS.items(), strict=True):
                found = [rungs.exponent(rung, *key) for rung in LADDER]
                figures.series(level, places + shift, found, color, marker, label, ls=":")
            for shift, (statistic, color, marker, label) in zip(
                (-0.1, 0.1),
                (("max", BLUE, "s", "$s_{\\max}$"), ("mean", PURPLE, "D", "$\\langle s \\rangle$")),
                strict=True,
            ):
                key_of: Statistic = "max" if statistic == "max" else "mean"
                gained = [rungs.value(rung, "rise", key_of) for rung in LADDER]
                figures.series(rise, places + shift, gained, color, marker, label, ls=":")
            level.axhline(1, color=BLACK, lw=0.7, ls=":")
            rise.axhline(0, color=BLACK, lw=0.7, ls=":")
            level.set_ylim(0.65, 1.55)
            rise.set_ylim(-0.3, 0.55)
            figures.categories(level, [""] * len(LADDER))
            figures.categories(rise, list(LADDER.values()))
            level.set_ylabel(f"$D$ or $\\gamma$, {name}")
            rise.set_ylabel(f"rise (after − before), {name}")
        panels[0].legend(loc="upper left", ncols=2)
        panels[2].legend(loc="upper left", ncols=2)


def aligned(evidence: Evidence, path: Path) -> None:
    """D(t) on shared epochs and relative to t_g, beside the permuted null."""
    with figures.sheet(path, "ab\ncd", 5.2, between=0.2, below=0.42) as panels:
        sweeps = {"inline": evidence.inline_scrutiny, "shadow": evidence.shadow_scrutiny}
        for (name, scrutiny), left, right in zip(sweeps.items(), panels[::2], panels[1::2], strict=True):
            null = scrutiny.ladder.nulls["permuted"]
            for statistic, color, faint, label in (
                ("max", BLUE, GREY, "$s_{\\max}$"),
                ("mean", VERMILION, ORANGE, "$\\langle s \\rangle$"),
            ):
                key: Statistic = "max" if statistic == "max" else "mean"
                curves = [(left, null.curves[key], scrutiny.ladder.real.curves[key])]
                if scrutiny.timing:
                    timing = scrutiny.timing[key]
                    curves.append((right, timing.aligned_null, timing.aligned))
                for ax, beside, real in curves:
                    figures.dimension(ax, beside.dimension, faint, f"permuted, {label}", lw=0.8)
                    figures.dimension(ax, real.dimension, color, label)
                    if np.isfinite(real.crossing.estimate):
                        ax.axvline(
                            real.crossing.estimate, ymax=BELOW_LEGEND, color=color, lw=0.6, ls="--"
                        )
            first, last = scrutiny.ladder.real.grokking_window
            left.axvspan(
                first, last, ymax=BELOW_LEGEND, color=YELLOW, alpha=0.25, lw=0, label="runs grok"
            )
            right.axvline(0, ymax=BELOW_LEGEND, color=BLACK, lw=0.7)
            right.set_xlim(-50, 300)
            right.set_xlabel("epochs since each run's $t_g$")
            right.set_ylabel("")
            left.set_ylabel(f"$D(t)$, {name}")
            for ax in (left, right):
                ax.axhline(1, color=BLACK, lw=0.7, ls=":")
                ax.set_ylim(0.5, 1.85)
        panels[0].legend(loc="upper left", ncols=2)


def controls(evidence: Evidence, path: Path) -> None:
    """D(t) where nothing groks, beside XOR."""
    with figures.sheet(path, "ab\ncd", 5.0, between=0.2, below=0.42) as panels:
        pairs = [(mode, statistic) for statistic in STATISTICS for mode in ("inline", "shadow")]
        for ax, (mode, statistic) in zip(panels, pairs, strict=True):
            for control, color in (
                ("tiny learning rate", GREY),
                ("constant labels", ORANGE),
                ("AND", GREEN),
            ):
                result = evidence.condition("control", f"{control}, {mode}")
                figures.dimension(ax, result.curves[statistic].dimension, color, control, lw=0.9)
            own = evidence.condition("alpha_train", INLINE if mode == "inline" else SHADOW)
            figures.dimension(ax, own.curves[statistic].dimension, BLUE, "XOR")
            ax.axhline(1, color=BLACK, lw=0.7, ls=":")
            ax.set_ylim(0.55, 1.75)
            symbol = "s_{\\max}" if statistic == "max" else "\\langle s \\rangle"
            ax.set_ylabel(f"$D(t)$ of ${symbol}$, {mode}")
        panels[0].legend(loc="upper left", ncols=2)


def intervention(evidence: Evidence, path: Path) -> None:
    """What inline diffusion does to the grokking epoch, to D(t) and to D."""
    by_alpha = sorted(
        (r for r in evidence.conditions if r.group == "alpha_train"), key=lambda r: float(r.name)
    )
    graphs = [r for r in evidence.conditions if r.group == "topology_train"]
    own = evidence.condition("alpha_train", INLINE)
    by_graph = [own, *graphs]
    names = [GRAPHS["barabasi_albert"], *(GRAPHS.get(r.name, r.name) for r in graphs)]
    with figures.sheet(path, "ab\ncd\nef", 8.2, between=0.2, below=0.45, bottom=0.85) as panels:
        shades = figures.scale_colors(len(by_alpha))
        for shift, result, color in zip(
            np.linspace(0.94, 1.06, len(by_alpha)), by_alpha, shades, strict=True
        ):
            _grokking(panels[0], result, shift, f"$\\alpha$ = {result.name}", color=color)
        panels[0].legend(loc="upper left", ncols=2)
        _grokking(panels[1], by_alpha[0], 0.94, "shadow", color=GREY, ls="--")
        for shift, result, label, color in zip(
            np.linspace(0.96, 1.06, len(by_graph)), by_graph, names, PALETTE, strict=True
        ):
            _grokking(panels[1], result, shift, label, color=color)
        panels[1].legend(loc="upper left", ncols=2, fontsize=5.5)
        for ax in panels[:2]:
            ax.set_xscale("log")
            ax.set_xlabel("parameters $N$")
            ax.set_ylabel("median $t_g$")
            ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
        for ax, results, colors in (
            (panels[2], by_alpha, shades),
            (panels[3], [by_alpha[0], *by_graph], (GREY, *PALETTE)),
        ):
            for result, color in zip(results, colors, strict=False):
                figures.dimension(ax, result.curves["max"].dimension, color, opacity=0.08, lw=0.9)
            ax.axhline(1, color=BLACK, lw=0.7, ls=":")
            ax.set_ylim(0.55, 1.75)
            ax.set_ylabel("$D(t)$ of $s_{\\max}$")
        places = np.array([float(r.name) for r in by_alpha])
        for ax, x, step, results in (
            (panels[4], places, 0.1, by_alpha),
            (panels[5], np.arange(len(names)), 1.0, by_graph),
        ):
            for shift, (key, (color, marker, label)) in zip(_shifts(4), LOOKS.items(), strict=True):
                found = [r.exponents["real", key[0], key[1]] for r in results]
                figures.series(ax, x + shift * step, found, color, marker, label, ls=":")
            ax.axhline(1, color=BLACK, lw=0.7, ls=":")
            ax.set_ylim(0.6, 1.75)
            ax.set_ylabel("$D$ or $\\gamma$")
        panels[4].set_xlabel("$\\alpha$ of the inline diffusion")
        panels[4].legend(loc="upper left", ncols=2)
        figures.categories(panels[5], names)
        panels[5].set_xlabel("graph of the inline diffusion, $\\alpha$ = 0.3")


def topologies(evidence: Evidence, path: Path) -> None:
    """The same gradients on every topology: exponents, and what the arrangement accounts for."""
    with figures.sheet(path, "ab\ncd", 5.8, between=0.2, below=0.2, bottom=0.85) as panels:
        for row, (name, found) in enumerate(evidence.on_topologies.items()):
            left, right = panels[2 * row : 2 * row + 2]
            places = np.arange(len(found))
            for shift, (key, (color, marker, label)) in zip(_shifts(4), LOOKS.items(), strict=True):
                figures.series(
                    left, places + shift, _of(found, "real", *key), color, marker, label, ls=""
                )
                figures.series(
                    right, places + shift, [on.excess[key] for on in found], color, marker, ls=""
                )
            left.axhline(1, color=BLACK, lw=0.7, ls=":")
            right.axhline(0, color=BLACK, lw=0.7, ls=":")
            left.set_ylim(0.4, 2.2)
            right.set_ylim(-0.6, 0.8)
            left.set_ylabel(f"$D$ or $\\gamma$, {name}")
            right.set_ylabel(f"real minus permuted, {name}")
            last = row == len(evidence.on_topologies) - 1
            names = [GRAPHS[on.topology] if last else "" for on in found]
            for ax in (left, right):
                figures.categories(ax, names)
        panels[0].legend(loc="upper left", ncols=2)


def power(evidence: Evidence, path: Path) -> None:
    """How wide intervals are, and what they tell, against the number of runs."""
    with figures.sheet(path, "abc\ndef", 5.0, below=0.45) as panels:
        for row, (mode, power) in enumerate(evidence.power.items()):
            width, gaussian, permuted = panels[3 * row : 3 * row + 3]
            for key, (color, marker, label) in LOOKS.items():
                found = [p for p in power if (p.phase, p.statistic) == key]
                runs = [p.runs for p in found]
                style: dict[str, Any] = {"ms": 3, "lw": 0.8, "color": color, "label": label}
                width.plot(runs, [p.width for p in found], marker + "-", **style)
                for ax, null in ((gaussian, "gaussian"), (permuted, "permuted")):
                    ax.plot(runs, [p.detected[null] for p in found], marker + "-", **style)
            for ax in (width, gaussian, permuted):
                ax.set_xscale("log")
                ax.set_xticks(runs, [str(n) for n in runs])
                ax.minorticks_off()
                ax.set_xlabel("runs a scale")
            width.set_yscale("log")
            width.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
            width.minorticks_off()
            width.set_ylim(0.01, 2.0)
            width.set_ylabel(f"width of the interval, {mode}")
            for ax, null in ((gaussian, "Gaussian"), (permuted, "permuted")):
                ax.set_ylim(-0.05, 1.08)
                ax.set_ylabel(f"share told from {null}")
        panels[0].legend(loc="upper left", ncols=2, columnspacing=0.8, handlelength=1.2)


def choices(evidence: Evidence, path: Path) -> None:
    """The specification curve, which choice matters, and what holds under which choice."""
    table = evidence.specifications
    if table is None:
        raise ValueError("the specification curve was not measured")
    layout = "aaaa.bbb\ncccccccc\ncccccccc"
    with figures.sheet(path, layout, 6.6, between=0.3, below=0.5, bottom=0.8, left=1.55) as panels:
        curve, matters, holds = panels
        for name, values, color in (
            ("before", table["pre"], GREEN),
            ("after", table["post"], VERMILION),
            ("after − before", table["post"] - table["pre"], GREY),
        ):
            ordered = np.sort(values.values.ravel())
            ordered = ordered[np.isfinite(ordered)]
            share = np.linspace(0, 1, ordered.size)
            thin = np.unique(np.linspace(0, ordered.size - 1, 600).astype(int))
            curve.plot(share[thin], ordered[thin], color=color, label=name)
            own = float(values.sel(PAPERS_CHOICE))
            rank = float(np.searchsorted(ordered, own)) / ordered.size
            curve.plot(rank, own, "o", ms=4, color=color, mec=BLACK, mew=0.6)
        for level in (0, 1):
            curve.axhline(level, color=BLACK, lw=0.6, ls=":")
        curve.set_xlabel(f"share of {table['pre'].size:,} specifications")
        curve.set_ylabel("$D$")
        curve.legend(loc="upper left")
        results = specifications.varied(table)
        shares = np.array(
            [
                [specifications.importance(values)[choice] for choice in CHOICES]
                for values in results.values()
            ]
        )
        figures.heatmap(matters, shares, list(results), list(CHOICES.values()), size=5.5)
        statements = xor_statements.claims(table)
        levels = [(c, str(level)) for c in CHOICES for level in table[c].values]
        found = {str(name): specifications.shares(statements[name]) for name in statements.data_vars}
        cells = np.array(
            [
                [float(statements[name].mean()), *(of[choice][level] for choice, level in levels)]
                for name, of in found.items()
            ]
        )
        columns = [
            "all",
            *(f"{CHOICES[c]} {LEVELS.get(v, v)}" for c, v in levels),
        ]
        columns = [c.removeprefix("topology ").removeprefix("scales ") for c in columns]
        figures.heatmap(holds, cells, list(found), columns)


SCRUTINY_PLATES: dict[str, Callable[[Evidence, Path], None]] = {
    "ladder": ladder,
    "aligned": aligned,
    "controls": controls,
    "intervention": intervention,
    "topologies": topologies,
    "power": power,
    "specifications": choices,
}


def _grokking(
    ax: Axes, result: ConditionResult, shift: float, label: str, *, color: Any, ls: str = "-"
) -> None:
    """Draw the median grokking epoch against N, moved aside by a factor."""
    n = np.array([scale.n_parameters for scale in result.by_scale]) * shift
    ax.vlines(
        n,
        [scale.interval.low for scale in result.by_scale],
        [scale.interval.high for scale in result.by_scale],
        lw=0.5,
        color=color,
    )
    ax.plot(n, [s.median for s in result.by_scale], "o", ms=2, lw=0.8, color=color, ls=ls, label=label)


def _shifts(n: int) -> list[float]:
    """Return small shifts that keep n series at one place apart."""
    shifts: list[float] = np.linspace(-0.24, 0.24, n).tolist()
    return shifts


def _of(found: Sequence[OnTopology], rung: str, window: Window, statistic: Statistic) -> list[Exponent]:
    return [on.exponents[rung, window, statistic] for on in found]
