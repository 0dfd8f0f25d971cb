"""Runs that other processes write to a study, on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.live import Live
from rich.text import Text

from gradquake.analysis.live import LiveSweep, thinned
from gradquake.analysis.shown import bracketed, number
from gradquake.analysis.tensors import latest_shares
from gradquake.errors import counted, printable, require_between
from gradquake.report.console import console, renderables
from gradquake.report.live import read
from gradquake.report.text import Table, shown_name
from gradquake.study.configuration import differing, label_text
from gradquake.study.recording import LEFT_OUT, RunRecord

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["sparkline", "sweep_table", "tables", "watch"]

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKLINE = 16

# The logged values that are shown as sparklines.
SHOWN = ("loss", "accuracy", "threshold")

# The tensors that are named, those with most topplings at the last step.
MOST_TENSORS = 3

# D(t) is computed at this many steps, the width of its sparkline.
COLUMNS = 32


def watch(study: str | Path, *, interval: float = 2.0, once: bool = False) -> None:
    """Show the runs of a study on the terminal, again and again until it is interrupted.

    Parameters
    ----------
    study : str or Path
        The path of its file.
    interval : float
        The seconds between two looks, from 0.1 to 3600.
    once : bool
        Show the present state once and return.

    Raises
    ------
    InputError
        For an interval that is out of range.
    StudyError
        If the study cannot be read.
    """
    require_between("interval", interval, 0.1, 3600, inclusive=True)
    if once:
        console().print(_view(study), highlight=False)
        return
    with Live(_view(study), console=console(), auto_refresh=False) as shown:
        while True:
            time.sleep(interval)
            shown.update(_view(study), refresh=True)


def _view(study: str | Path) -> Group:
    shown = [part for table in tables(read(study)) for part in renderables(table)]
    return Group(*(shown or [Text(printable(f"{study} holds no measurement of a run yet"))]))


def tables(sweeps: Sequence[LiveSweep]) -> list[Table]:
    """Return the table of every sweep; its title says in which settings it differs from the others."""
    names = differing([sweep.settings for sweep in sweeps])
    return [sweep_table(sweep, [name for name in names if name in sweep.settings]) for sweep in sweeps]


def sweep_table(sweep: LiveSweep, shown_settings: Sequence[str] = ()) -> Table:
    """Return the runs of a sweep, a row each: the latest values, and sparklines of their history."""
    logged = [name for name in SHOWN if any(name in run.values for run in sweep.runs)]
    names = [name for name in ("task", "architecture") if name in sweep.settings]
    named = [name for name in dict.fromkeys([*names, *shown_settings]) if name != "experiment"]
    title = [str(sweep.settings["experiment"])] if "experiment" in sweep.settings else []
    title += [f"{name}={sweep.settings[name]}" for name in named]
    rows = [_row(sweep, run, logged) for run in sweep.runs]
    tensors = [_tensors(run) for run in sweep.runs]
    header: tuple[str, ...] = ("run", "N", "step", "s/N", "Gaussian", *logged)
    if any(tensors):
        header = (*header, "topples most")
        rows = [(*row, cell) for row, cell in zip(rows, tensors, strict=True)]
    return Table(
        ", ".join(title),
        header,
        rows,
        "\n".join(_notes(sweep)),
    )


def _row(sweep: LiveSweep, run: RunRecord, logged: Sequence[str]) -> tuple[str, ...]:
    share = run.values.get("size", run.epochs[:0]) / run.config["n_parameters"]
    level = sweep.gaussian_level(run)
    cells = [
        label_text(run.config) + ("" if run.key in sweep.unfinished else " ✓"),
        f"{run.config['n_parameters']:,}",
        str(run.epochs[-1]) if run.epochs.size else "",
        f"{sparkline(share)} {share[-1]:.3f}" if share.size else "",
        "" if np.isnan(level) else f"{level:.3f}",
    ]
    for name in logged:
        values = run.values.get(name, np.empty(0))
        known = values[np.isfinite(values)]
        cells.append(f"{sparkline(known, SPARKLINE // 2)} {known[-1]:.3g}" if known.size else "")
    return tuple(cells)


def _tensors(run: RunRecord) -> str:
    """Return the tensors with the largest shares of the topplings at the last step."""
    shares = latest_shares(run, MOST_TENSORS)
    return ", ".join(f"{shown_name(n)} {share:.0%}" for n, share in shares.items() if share >= 0.005)


def _notes(sweep: LiveSweep) -> Iterator[str]:
    yield "✓: finished. s/N: topplings per parameter. Gaussian: the mean s/N of Gaussian gradients."
    if sweep.costs:
        yield _costs_text(sweep.costs)
    found = sweep.dimension(COLUMNS)
    yield f"D(t) needs {sweep.lacks}." if found is None else _dimension_text(found, sweep.n_scales)


def _costs_text(costs: Mapping[str, float]) -> str:
    words = {"probe_copying": "copying", "probe_waiting": "waiting", "probe_measuring": "measuring"}
    seconds = ", ".join(f"{word} {costs[name]:.2g} s" for name, word in words.items() if name in costs)
    left_out = int(costs.get(LEFT_OUT, 0))
    more = f"; {counted(left_out, 'scheduled step')} left out before the last one" if left_out else ""
    return f"Each measurement, in the median: {seconds}{more}."


def _dimension_text(found: xr.Dataset, n_scales: int) -> str:
    last = found.isel(epoch=-1)
    value, low, high = (float(last[name]) for name in ("value", "low", "high"))
    of = f"from {n_scales} network sizes"
    if np.isnan(value):
        return f"D(t) of s_max is not defined at step {int(last['epoch'])}: a size has no avalanche"
    shown = bracketed(value, low, high)
    if np.isnan(low):
        shown = f"{number(value)} (no interval: a size has a single run)"
    line = sparkline(found["value"].values, COLUMNS)
    return f"D(t) of s_max {line} {shown} at step {int(last['epoch'])}, {of}"


def sparkline(values: NDArray[Any], width: int = SPARKLINE) -> str:
    """Return values as a line of blocks from the smallest to the largest, thinned out to a width.

    A value that is not finite is a space.
    """
    values = values[thinned(values.size, width)]
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return " " * values.size
    low, high = float(finite.min()), float(finite.max())
    place = (values - low) / (high - low) if high > low else np.where(np.isfinite(values), 0.0, np.nan)
    return "".join(
        BLOCKS[min(int(p * len(BLOCKS)), len(BLOCKS) - 1)] if np.isfinite(p) else " " for p in place
    )
