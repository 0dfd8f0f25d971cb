"""The figure of the specification curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradquake.analysis import specifications
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import InputError
from gradquake.paper.xor.conditions import REGIMES
from gradquake.paper.xor.evidence import Evidence
from gradquake.paper.xor.statements import statements
from gradquake.report import figures
from gradquake.report.figures import BLACK, GREEN, GREY, VERMILION, Axes
from gradquake.scrutiny.sensitivity import FIRST

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TOPOLOGY_NAMES", "choices"]

TOPOLOGY_NAMES = {name: topology.label for name, topology in TOPOLOGIES.items()}
LEVELS = {
    **TOPOLOGY_NAMES,
    "all": "all scales",
    FIRST: "as in the paper",
    **{f"learning_rate={rate}": f"rate {rate}" for rate in REGIMES["learning_rate"]},
    **{
        f"{name}={value}": str(value).replace("_", " ")
        for name in ("activation", "initialization")
        for value in REGIMES[name]
    },
}
PAPERS_CHOICE: dict[str, str | float] = {
    "alpha_train": 0.3, "training": FIRST, "topology": "barabasi_albert", "quantile": 0.9, "alpha": 0.3,
    "max_steps": 20, "statistic": "max", "interval": 10, "scales": "all",
}  # fmt: skip
CHOICES = {
    "alpha_train": "$\\alpha$ train",
    "training": "training",
    "topology": "topology",
    "quantile": "quantile",
    "alpha": "$\\alpha$",
    "max_steps": "steps",
    "statistic": "statistic",
    "interval": "interval",
    "scales": "scales",
}


def choices(evidence: Evidence, path: Path) -> None:
    """The specification curve, the importance of each choice, and what holds under which choice."""
    table = evidence.specifications
    if table is None:
        raise InputError("a quick plan has no specification curve; make a plan that is not quick")
    layout = "aaaa.bbb\ncccccccc\ncccccccc"
    with figures.sheet(path, layout, 6.6, between=0.3, below=0.5, bottom=0.8, left=1.7) as panels:
        curve, matters, holds = panels
        results = specifications.varied(table)
        _curve(curve, results)
        shares = [
            [specifications.importance(values)[choice] for choice in CHOICES]
            for values in results.values()
        ]
        # On one line, the long names would reach into the panel to the left.
        names = [
            name.replace("arrangement ", "arrangement\n").replace("exponent ", "exponent\n")
            for name in results
        ]
        figures.heatmap(matters, np.array(shares), names, list(CHOICES.values()), size=5.5)
        _holds(holds, table)


def _curve(ax: Axes, found: Mapping[str, xr.DataArray]) -> None:
    """Draw the exponents of all specifications in order, with a dot at the paper's own choice."""
    for name, values, color in (
        ("before", found["exponent before"], GREEN),
        ("after", found["exponent after"], VERMILION),
        ("after − before", found["rise"], GREY),
    ):
        ordered = np.sort(values.values.ravel())
        ordered = ordered[np.isfinite(ordered)]
        share = np.linspace(0, 1, ordered.size)
        thin = np.unique(np.linspace(0, ordered.size - 1, 600).astype(int))
        ax.plot(share[thin], ordered[thin], color=color, label=name)
        own = float(values.sel(PAPERS_CHOICE))
        rank = float(np.searchsorted(ordered, own)) / ordered.size
        ax.plot(rank, own, "o", ms=4, color=color, mec=BLACK, mew=0.6)
    for level in (0, 1):
        ax.axhline(level, color=BLACK, lw=0.6, ls=":")
    ax.set_xlabel(f"share of {found['rise'].size:,} specifications")
    ax.set_ylabel("exponent")
    ax.legend(loc="upper left")


def _holds(ax: Axes, table: xr.Dataset) -> None:
    """Draw the share of the specifications in which each statement holds, over all and by choice."""
    levels = [(choice, str(level)) for choice in CHOICES for level in table[choice].values]
    found = specifications.judged(table, statements)
    cells = [
        [
            of.data.overall,
            np.nan if of.null is None else of.null.overall,
            *(of.data.by_choice[choice][level] for choice, level in levels),
        ]
        for of in found.values()
    ]
    columns = [
        "all",
        "permuted null, all",
        *(f"{CHOICES[choice]} {LEVELS.get(level, level)}" for choice, level in levels),
    ]
    columns = [
        column.removeprefix("topology ").removeprefix("scales ").removeprefix("training ")
        for column in columns
    ]
    figures.heatmap(ax, np.array(cells), list(found), columns)
