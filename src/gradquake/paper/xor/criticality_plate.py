"""The figure of kicks, before, at and after t_g."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gradquake.avalanche.surrogates import REAL
from gradquake.paper.xor.choices_plate import TOPOLOGY_NAMES
from gradquake.paper.xor.evidence import Evidence
from gradquake.report import figures
from gradquake.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, Axes
from gradquake.scrutiny.criticality import MOMENTS, NULL, Critical, Moment

__all__ = ["kicks"]

LOOKS = dict(zip(MOMENTS, ((GREEN, "o"), (ORANGE, "^"), (VERMILION, "s")), strict=True))
FILLED: dict[str, Any] = {"ls": "-"}
OPEN: dict[str, Any] = {"mfc": "white", "ls": ":"}
SHIFTS = dict(zip(MOMENTS, (-0.22, 0.0, 0.22), strict=True))

# The topologies of panels (c) and (d): the paper's, the one with the largest kicks, the network's own.
SHOWN = {"barabasi_albert": BLUE, "ring": VERMILION, "computational": GREEN}


def kicks(evidence: Evidence, path: Path) -> None:
    """The branching ratio on every topology, the growth of kicks, and topplings without neighbors."""
    with figures.sheet(path, "ab\ncd", 5.6, between=0.22, below=0.5, bottom=0.45) as panels:
        for ax, (mode, on_each) in zip(panels[:2], evidence.criticality.items(), strict=True):
            _branching(ax, on_each)
            ax.set_ylabel(f"branching ratio of kicks, {mode}")
        panels[0].legend(loc="upper left", ncols=2, bbox_to_anchor=(0, 0.9))
        found = {on.topology: on for on in next(iter(evidence.criticality.values()))}
        for topology, color in SHOWN.items():
            _growth(panels[2], found[topology], color)
            _isolated(panels[3], found[topology], color)
        n = np.array([81, 2001])
        panels[2].plot(n, 4 * n / 81, color=BLACK, lw=0.7, ls=":", label="$\\propto N$")
        panels[2].set_yscale("log")
        panels[2].set_ylim(1.5, 600)
        panels[2].set_ylabel("largest of 1,000 kicks")
        panels[3].set_ylim(0, 1.4)
        panels[3].set_ylabel("isolated size / $s$")
        for ax in panels[2:]:
            ax.set_xscale("log")
            ax.set_xlabel("parameters $N$")
            ax.legend(loc="upper left", ncols=2)


def _branching(ax: Axes, on_each: list[Critical]) -> None:
    for moment, (color, marker) in LOOKS.items():
        places = np.arange(len(on_each)) + SHIFTS[moment]
        null = [on.at_largest(NULL, moment, "kick_branching") for on in on_each]
        label = "permuted" if moment == MOMENTS[0] else ""
        figures.series(ax, places + 0.09, null, GREY, marker, label, ls="", mfc="white")
        real = [on.at_largest(REAL, moment, "kick_branching") for on in on_each]
        figures.series(ax, places, real, color, marker, f"{moment} $t_g$", ls="")
    ax.axhline(1, color=BLACK, lw=0.7, ls=":")
    ax.text(len(on_each) - 0.5, 1.01, "critical", ha="right", va="bottom", fontsize=6.5)
    ax.set_ylim(0, 1.1)
    figures.categories(ax, [TOPOLOGY_NAMES[on.topology] for on in on_each])


def _growth(ax: Axes, on: Critical, color: str) -> None:
    for rung, style in ((REAL, FILLED), (NULL, OPEN)):
        found = on.of[rung]["after"]["kick_max"]
        name = TOPOLOGY_NAMES[on.topology] + (", permuted" if rung == NULL else "")
        ax.vlines(found.n_parameters, found.sizes.low, found.sizes.high, lw=0.8, color=color)
        ax.plot(
            found.n_parameters, found.sizes.value, "o", ms=3, lw=0.8, color=color, label=name, **style
        )


def _isolated(ax: Axes, on: Critical, color: str) -> None:
    moments: tuple[tuple[Moment, dict[str, Any]], ...] = (("before", OPEN), ("after", FILLED))
    for moment, style in moments:
        found = on.of[REAL][moment]["isolated_share"]
        name = f"{TOPOLOGY_NAMES[on.topology]}, {moment} $t_g$"
        ax.vlines(found.n_parameters, found.sizes.low, found.sizes.high, lw=0.8, color=color)
        ax.plot(
            found.n_parameters, found.sizes.value, "o", ms=3, lw=0.8, color=color, label=name, **style
        )
