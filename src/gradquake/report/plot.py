"""A figure of a study, finished or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradquake.analysis.live import LiveSweep, thinned
from gradquake.analysis.tensors import tensor_shares
from gradquake.avalanche.surrogates import REAL
from gradquake.errors import InputError
from gradquake.report import figures
from gradquake.report.figures import Axes, Color
from gradquake.report.figures_tensors import draw_tensors
from gradquake.report.live import choose
from gradquake.study.recording import to_dataset

__all__ = ["FigureFiles", "draw", "plot"]

# The line styles of the nulls, and the number of sizes that the legend names.
NULL_STYLES = {"permuted": "--", "gaussian": ":"}
MOST_NAMED = 8

# A larger value is not drawn, and neither is an infinite one: no axis holds them.
LARGEST_DRAWN = 1e300

# D(t) is drawn at this many steps: more cannot be seen.
POINTS = 500


@dataclass(frozen=True)
class FigureFiles:
    """The two files of a figure."""

    png: Path
    svg: Path


def plot(
    study: str | Path,
    /,
    out: str | Path | None = None,
    *,
    where: Mapping[str, object] | None = None,
    tensors: bool = False,
    **settings: Any,
) -> FigureFiles:
    """Draw every run of a sweep, finished or not: s / N beside its nulls, loss, accuracy, and D(t).

    Parameters
    ----------
    study : str or Path
        The path of a study's file.
    out : str or Path, optional
        The name of the figure, with the suffix .png, .svg or none; by default the study's name, in the
        working directory.
    where : mapping, optional
        The settings that choose one sweep of the study.
    tensors : bool
        Draw instead where the runs of the largest size topple: the topplings of every tensor over the
        steps, and its share of them before and after grokking.
    **settings
        Further ones, if their names are not those of the options above.

    Returns
    -------
    FigureFiles
        The paths of the PNG and the SVG file.

    Raises
    ------
    InputError
        If ``out`` has another suffix, its folder does not exist, or topplings were not recorded by
        tensor.
    StudyError
        If the study cannot be read, or the settings fit no sweep or several.
    """
    path = Path(f"{Path(study).stem}.png") if out is None else Path(out)
    if path.name in ("", "..") or path.suffix not in ("", ".png", ".svg"):
        raise InputError(f"out is {path}; a .png or .svg name is needed")
    if not path.parent.is_dir():
        raise InputError(f"out is {path}; there is no folder {path.parent}")
    sweep = choose(study, {**(where or {}), **settings})
    if tensors:
        draw_tensors(tensor_shares(to_dataset(sweep.runs)), path)
    else:
        draw(sweep, path)
    return FigureFiles(path.with_suffix(".png"), path.with_suffix(".svg"))


def draw(sweep: LiveSweep, path: Path) -> None:
    """Draw a sweep so far, as PNG and SVG."""
    runs = [*sweep.runs, *(run for rung in NULL_STYLES for run in sweep.nulls.get(rung, []))]
    sizes = sorted({run.config["n_parameters"] for run in runs})
    colors = dict(zip(sizes, figures.scale_colors(len(sizes)), strict=True))
    with figures.sheet(path, "ab\ncd", 5.4, between=0.25, below=0.36, bottom=0.85) as panels:
        share, loss, accuracy, dimension = panels
        for run in runs:
            n, style = run.config["n_parameters"], NULL_STYLES.get(run.config.get("surrogate", REAL))
            if "size" in run.values:
                figures.path(share, run.epochs, run.values["size"] / n, colors[n], ls=style or "-")
        share.set_ylabel("$s / N$")
        if not share.lines:
            figures.say(share, "$s / N$: not measured")
        for ax, name in ((loss, "loss"), (accuracy, "accuracy")):
            _draw_outcome(ax, name, sweep, colors)
        _draw_dimension(dimension, sweep)
        steps = np.concatenate([run.epochs for run in sweep.runs])
        for ax in panels if steps.size else ():
            figures.steps(ax, int(steps.min()), int(steps.max()))
        _draw_legend(share, sweep, colors)


def _draw_outcome(ax: Axes, name: str, sweep: LiveSweep, colors: Mapping[int, Color]) -> None:
    logged = False
    for run in sweep.runs:
        values = run.values.get(name, np.full(run.epochs.size, np.nan))
        logged |= not np.isnan(values).all()
        drawn = np.abs(values) < LARGEST_DRAWN
        if drawn.any():
            color = colors[run.config["n_parameters"]]
            figures.path(ax, run.epochs[drawn], values[drawn], color)
    ax.set_ylabel(name)
    if not ax.lines:
        figures.say(ax, f"{name}: {'infinite' if logged else 'not logged'}")


def _draw_dimension(ax: Axes, sweep: LiveSweep) -> None:
    real = sweep.dimension(POINTS)
    if real is None:
        figures.say(ax, f"$D(t)$ needs {sweep.lacks}")
        return
    nulls = {rung: sweep.null(rung).dimension(POINTS) for rung in ("gaussian", "permuted")}
    known = {rung: curve for rung, curve in nulls.items() if curve is not None}
    figures.dimensions({**known, "real": real}, ax)


def _draw_legend(ax: Axes, sweep: LiveSweep, colors: Mapping[int, Color]) -> None:
    sizes = list(colors)
    named = [sizes[i] for i in thinned(len(sizes), MOST_NAMED)]
    lines = {f"N = {n:,}": (colors[n], "-") for n in named}
    nulls = {rung: (figures.BLACK, of) for rung, of in NULL_STYLES.items() if sweep.nulls.get(rung)}
    figures.legend_below(ax, lines | nulls)
