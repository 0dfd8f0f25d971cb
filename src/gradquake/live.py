"""Studies as they are being written: what every run is doing, for the terminal and for a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling
from gradquake.analysis.scaling import FEWEST_SCALES
from gradquake.graphs import TOPOLOGIES
from gradquake.probe import Probe
from gradquake.recording import (
    RunRecord,
    config_key,
    differing,
    label_text,
    sweep_settings,
    to_dataset,
)
from gradquake.store import choose as choose_settings
from gradquake.store import open_study
from gradquake.surrogates import REAL, gaussian
from gradquake.tables import Table, number

if TYPE_CHECKING:
    import xarray as xr

    from gradquake.figures import Axes

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKLINE = 16
# What is drawn as a sparkline, with its heading.
SHOWN = {"loss": "loss", "accuracy": "accuracy", "threshold": "threshold"}

# The Gaussian level hardly depends on N, so that a graph of this many nodes stands for larger ones.
LEVEL_NODES = 20_000
LEVEL_DRAWS = 8
# How the nulls are drawn, and how many sizes a figure names.
NULL_STYLES = {"permuted": "--", "gaussian": ":"}
MOST_NAMED = 8

# What is larger is drawn as what is infinite is: not at all, since no axis holds it.
LARGEST_DRAWN = 1e300

# Enough for a band that is looked at while it moves.
N_RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class LiveSweep:
    """A sweep as far as it has come.

    Attributes
    ----------
    settings : dict
    runs : list of RunRecord
        Finished and unfinished, by size and seed.
    unfinished : set of str
        The keys of those that are not finished.
    nulls : dict
        By rung, the same runs measured on its surrogates.
    """

    settings: dict[str, Any]
    runs: list[RunRecord]
    unfinished: set[str]
    nulls: dict[str, list[RunRecord]]

    @property
    def dataset(self) -> xr.Dataset:
        """The runs as a Dataset, NaN where one has not come yet."""
        return to_dataset(self.runs)

    @property
    def n_scales(self) -> int:
        """How many sizes of network there are."""
        return len({run.config["n_parameters"] for run in self.runs})

    def dimension(self) -> xr.Dataset | None:
        """Return D(t) of the largest size, at the steps that all runs were measured at, or None.

        None where there are fewer than three sizes, or no step that all runs share.
        """
        if self.n_scales < FEWEST_SCALES:
            return None
        dataset = self.dataset
        shared = np.isfinite(dataset["size"].values).all(axis=0)
        if not shared.any():
            return None
        return scaling.dimension(dataset.isel(epoch=shared), "max", n_resamples=N_RESAMPLES)

    def gaussian_level(self, run: RunRecord) -> float:
        """Return the mean s / N of Gaussian gradients for a run, NaN on a graph of its own."""
        n = int(run.config["n_parameters"])
        for null in self.nulls.get("gaussian", []):
            if {**null.config, "surrogate": REAL} == run.config and null.values["size"].size:
                return float(null.values["size"].mean() / n)
        names = ("topology", "alpha", "quantile", "max_steps")
        if not self.settings.keys() >= set(names):
            return np.nan
        return gaussian_level(min(n, LEVEL_NODES), *(self.settings[name] for name in names))


def read(path: str | Path) -> list[LiveSweep]:
    """Return every sweep of a study, with the runs that are still being written.

    Raises
    ------
    StudyError
        Where the study cannot be read.
    """
    with open_study(path) as study:
        # In this order: a run that is finished in between is then found twice, and not missed.
        unfinished = study.unfinished()
        finished = study.records()
    done = {record.key for record in finished}
    unfinished = [record for record in unfinished if record.key not in done]
    found: dict[str, LiveSweep] = {}
    for record in sorted([*finished, *unfinished], key=_place):
        settings = sweep_settings({**record.config, "surrogate": REAL})
        sweep = found.setdefault(config_key(settings), LiveSweep(settings, [], set(), {}))
        rung = record.config.get("surrogate", REAL)
        (sweep.runs if rung == REAL else sweep.nulls.setdefault(rung, [])).append(record)
    for record in unfinished:
        found[config_key(sweep_settings({**record.config, "surrogate": REAL}))].unfinished.add(
            record.key
        )
    return [sweep for sweep in found.values() if sweep.runs]


@lru_cache(maxsize=256)
def gaussian_level(n: int, topology: str, alpha: float, quantile: float, max_steps: int) -> float:
    """Return the mean s / N of Gaussian gradients; NaN on a topology that is not known by n alone."""
    if topology not in TOPOLOGIES or topology == "computational":
        return np.nan
    draws = gaussian(np.zeros((LEVEL_DRAWS, n)), seed=0)
    batch = Probe(topology, alpha, quantile, max_steps, seed=0).measure_batch(draws)
    return float(batch.size.mean()) / n


def sparkline(values: NDArray[Any], width: int = SPARKLINE) -> str:
    """Return values as a line of blocks from the smallest to the largest, thinned out to a width.

    What is not finite is a space.
    """
    if values.size > width:
        values = values[np.linspace(0, values.size - 1, width).round().astype(int)]
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return " " * values.size
    low, high = float(finite.min()), float(finite.max())
    place = (values - low) / (high - low) if high > low else np.where(np.isfinite(values), 0.0, np.nan)
    return "".join(
        BLOCKS[min(int(p * len(BLOCKS)), len(BLOCKS) - 1)] if np.isfinite(p) else " " for p in place
    )


def tables(sweeps: Sequence[LiveSweep]) -> list[Table]:
    """Return the table of every sweep; its title says in which settings it differs from the others."""
    names = differing([sweep.settings for sweep in sweeps])
    return [table(sweep, [name for name in names if name in sweep.settings]) for sweep in sweeps]


def table(sweep: LiveSweep, shown_settings: Sequence[str] = ()) -> Table:
    """Return the runs of a sweep, a row each, with their newest numbers and how these came about."""
    shown = {name: head for name, head in SHOWN.items() if any(name in run.values for run in sweep.runs)}
    rows = []
    for run in sweep.runs:
        share = run.values["size"] / run.config["n_parameters"]
        cells = [
            label_text(run.config) + ("" if run.key in sweep.unfinished else " ✓"),
            f"{run.config['n_parameters']:,}",
            str(run.epochs[-1]),
            f"{sparkline(share)} {share[-1]:.3f}",
            "" if np.isnan(level := sweep.gaussian_level(run)) else f"{level:.3f}",
        ]
        for name in shown:
            values = run.values.get(name, np.empty(0))
            known = values[np.isfinite(values)]
            cells.append(f"{sparkline(known, SPARKLINE // 2)} {known[-1]:.3g}" if known.size else "")
        rows.append(tuple(cells))
    header = ("run", "N", "step", "s/N", "Gaussian", *shown.values())
    labels = {"experiment", "task", "architecture"} - set(shown_settings)
    title = [str(value) for name, value in sweep.settings.items() if name in labels]
    title += [f"{name}={sweep.settings[name]}" for name in shown_settings]
    return Table(", ".join(title), header, rows, "\n".join(_notes(sweep)))


def _notes(sweep: LiveSweep) -> Iterator[str]:
    dimension = sweep.dimension()
    if dimension is None:
        missing = FEWEST_SCALES - sweep.n_scales
        if missing > 0:
            yield f"D(t) needs runs of three sizes: {missing} more"
        return
    last = dimension.isel(epoch=-1)
    band = f"[{number(float(last['ci_low']))}, {number(float(last['ci_high']))}]"
    band = band if np.isfinite(float(last["ci_low"])) else "(no interval: a size has a single run)"
    yield (
        f"D(t) of s_max {sparkline(dimension['exponent'].values, 32)} "
        f"{number(float(last['exponent']))} {band} at step {int(last['epoch'])}, "
        f"from {sweep.n_scales} sizes"
    )


def _place(run: RunRecord) -> tuple[int, int, str]:
    return run.config["n_parameters"], run.config["seed"], run.key


def choose(sweeps: Sequence[LiveSweep], path: Path, settings: Mapping[str, Any]) -> LiveSweep:
    """Return the one sweep whose settings include those given.

    Raises
    ------
    StudyError
        Where none fits, or several.
    """
    chosen = choose_settings(path, [sweep.settings for sweep in sweeps], settings)
    return next(sweep for sweep in sweeps if sweep.settings == chosen)


def draw(sweep: LiveSweep, path: Path) -> None:
    """Draw a sweep as it is: s / N of every run beside its nulls, loss, accuracy, and D(t) of s_max."""
    from gradquake import figures

    sizes = sorted({run.config["n_parameters"] for run in sweep.runs})
    colors = dict(zip(sizes, figures.scale_colors(len(sizes)), strict=True))
    with figures.sheet(path, "ab\ncd", 5.4, between=0.25, below=0.36, bottom=0.85) as panels:
        share, loss, accuracy, dimension = panels
        for run in [*sweep.runs, *(run for rung in NULL_STYLES for run in sweep.nulls.get(rung, []))]:
            n, style = run.config["n_parameters"], NULL_STYLES.get(run.config.get("surrogate", REAL))
            figures.path(share, run.epochs, run.values["size"] / n, colors[n], ls=style or "-")
        share.set_ylabel("$s / N$")
        for ax, name in ((loss, "loss"), (accuracy, "accuracy")):
            _draw_outcome(ax, name, sweep, colors)
        _draw_dimension(dimension, sweep)
        steps = np.concatenate([run.epochs for run in sweep.runs])
        for ax in panels:
            figures.steps(ax, int(steps.min()), int(steps.max()))
        named = [sizes[i] for i in figures.thinned(len(sizes), MOST_NAMED)]
        lines = {f"N = {n:,}": (colors[n], "-") for n in named}
        nulls = {rung: style for rung, style in NULL_STYLES.items() if sweep.nulls.get(rung)}
        figures.legend_below(
            share, lines | {rung: (figures.BLACK, style) for rung, style in nulls.items()}
        )


def _draw_outcome(ax: Axes, name: str, sweep: LiveSweep, colors: Mapping[int, Any]) -> None:
    from gradquake import figures

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
    from gradquake import figures

    found = sweep.dimension()
    if found is None:
        missing = (
            "runs of three sizes" if sweep.n_scales < FEWEST_SCALES else "steps that all runs share"
        )
        figures.say(ax, f"$D(t)$ needs {missing}")
        return
    for rung, color in (("gaussian", figures.GREY), ("permuted", figures.ORANGE)):
        of_null = LiveSweep(sweep.settings, sweep.nulls.get(rung, []), set(), {}).dimension()
        if of_null is not None:
            figures.dimension(ax, of_null, color, rung, lw=0.8)
    figures.dimension(ax, found, figures.BLUE, "real")
    ax.axhline(1, color=figures.BLACK, lw=0.7, ls=":")
    ax.set_ylabel("$D(t)$ of $s_{\\max}$")
    # Above it: what is inside moves while the runs go on.
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncol=3)
