"""Studies as they are being written: what every run is doing, for the terminal and for a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.dimension import dimension
from gradquake.analysis.scales import FEWEST_SCALES
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import REAL, gaussian
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import GradquakeError
from gradquake.report.tables import Table, number
from gradquake.study.configuration import choose as choose_settings
from gradquake.study.configuration import config_key, differing, label_text, sweep_settings
from gradquake.study.recording import RunRecord, to_dataset
from gradquake.study.study import open_study

if TYPE_CHECKING:
    import xarray as xr

    from gradquake.report.figures import Axes

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKLINE = 16
# What is drawn as a sparkline, with its heading.
SHOWN = {"loss": "loss", "accuracy": "accuracy", "threshold": "threshold"}

# The Gaussian level hardly depends on N, so that a graph of this many nodes stands for larger ones.
LEVEL_NODES = 20_000
LEVEL_DRAWS = 8
# With more steps than these, drawing the level could take hours.
LEVEL_STEPS = 1000
# How the nulls are drawn, and how many sizes a figure names.
NULL_STYLES = {"permuted": "--", "gaussian": ":"}
MOST_NAMED = 8

# What is larger is drawn as what is infinite is: not at all, since no axis holds it.
LARGEST_DRAWN = 1e300

# Enough for a band that is looked at while it moves.
N_RESAMPLES = 500

# At how many steps D(t) is computed for the terminal and for a figure: more cannot be seen there.
COLUMNS = 32
POINTS = 500


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
    def n_scales(self) -> int:
        """How many sizes of network there are."""
        return len({run.config["n_parameters"] for run in self.runs})

    @property
    def lacks(self) -> str:
        """What D(t) needs that is not there; empty if nothing is missing."""
        if self.n_scales < FEWEST_SCALES:
            return f"runs of three sizes: {FEWEST_SCALES - self.n_scales} more"
        if not all("size" in run.values for run in self.runs):
            return "the avalanche size of every run"
        return "" if self._shared.size else "steps that all runs share"

    @cached_property
    def _shared(self) -> NDArray[np.int64]:
        """The steps that all runs were measured at."""
        return reduce(np.intersect1d, [run.epochs for run in self.runs])

    def dimension(self, most: int) -> xr.Dataset | None:
        """Return D(t) of the largest avalanche, at so many of the steps that all runs share; or None.

        None if ``lacks`` says that something is missing.
        """
        if self.lacks:
            return None
        steps = self._shared[thinned(self._shared.size, most)]
        runs = [
            RunRecord(
                {**run.config, "surrogate": REAL},  # which some lack
                None,
                steps,
                {"size": run.values["size"][np.isin(run.epochs, steps)]},
            )
            for run in self.runs
        ]
        return dimension(to_dataset(runs), "max", n_resamples=N_RESAMPLES)

    @cached_property
    def _measured_levels(self) -> dict[str, float]:
        """The mean s / N of the Gaussian null of each run, by the run's key."""
        return {
            _real_key(null): float(null.values["size"].mean() / null.config["n_parameters"])
            for null in self.nulls.get("gaussian", [])
            if null.values.get("size", null.epochs[:0]).size
        }

    def gaussian_level(self, run: RunRecord) -> float:
        """Return the mean s / N of Gaussian gradients for a run, NaN if it is not known."""
        measured = self._measured_levels.get(_real_key(run))
        if measured is not None:
            return measured
        settings = [self.settings.get(name) for name in ("topology", "alpha", "quantile", "max_steps")]
        # Whoever wrote the file may have given the names another meaning.
        kinds = (str, int | float, int | float, int)
        if not all(isinstance(*pair) for pair in zip(settings, kinds, strict=True)):
            return np.nan
        return gaussian_level(min(run.config["n_parameters"], LEVEL_NODES), *settings)


def _real_key(run: RunRecord) -> str:
    return config_key({**run.config, "surrogate": REAL})


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
    """Return the mean s / N of Gaussian gradients; NaN if these settings do not give it."""
    if topology not in TOPOLOGIES or topology == "computational" or max_steps > LEVEL_STEPS:
        return np.nan
    draws = gaussian(np.zeros((LEVEL_DRAWS, n)), seed=0)
    try:
        batch = Probe(topology, alpha, quantile, max_steps, seed=0).measure_batch(draws)
    except GradquakeError:
        return np.nan
    return float(batch.size.mean()) / n


def thinned(n: int, most: int) -> NDArray[np.intp]:
    """Return at most so many of the places 0 to n - 1, evenly, with both ends."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))


def sparkline(values: NDArray[Any], width: int = SPARKLINE) -> str:
    """Return values as a line of blocks from the smallest to the largest, thinned out to a width.

    What is not finite is a space.
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


def tables(sweeps: Sequence[LiveSweep]) -> list[Table]:
    """Return the table of every sweep; its title says in which settings it differs from the others."""
    names = differing([sweep.settings for sweep in sweeps])
    return [table(sweep, [name for name in names if name in sweep.settings]) for sweep in sweeps]


def table(sweep: LiveSweep, shown_settings: Sequence[str] = ()) -> Table:
    """Return the runs of a sweep, a row each, with their newest numbers and how these came about."""
    shown = {name: head for name, head in SHOWN.items() if any(name in run.values for run in sweep.runs)}
    rows = []
    for run in sweep.runs:
        share = run.values.get("size", run.epochs[:0]) / run.config["n_parameters"]
        cells = [
            label_text(run.config) + ("" if run.key in sweep.unfinished else " ✓"),
            f"{run.config['n_parameters']:,}",
            str(run.epochs[-1]) if run.epochs.size else "",
            f"{sparkline(share)} {share[-1]:.3f}" if share.size else "",
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
    dimension = sweep.dimension(COLUMNS)
    if dimension is None:
        yield f"D(t) needs {sweep.lacks}"
        return
    last = dimension.isel(epoch=-1)
    band = f"[{number(float(last['low']))}, {number(float(last['high']))}]"
    band = band if np.isfinite(float(last["low"])) else "(no interval: a size has a single run)"
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
    return next(sweep for sweep in sweeps if sweep.settings is chosen)


def draw(sweep: LiveSweep, path: Path) -> None:
    """Draw a sweep as it is: s / N of every run beside its nulls, loss, accuracy, and D(t) of s_max."""
    from gradquake.report import figures

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
        named = [sizes[i] for i in figures.thinned(len(sizes), MOST_NAMED)]
        lines = {f"N = {n:,}": (colors[n], "-") for n in named}
        nulls = {rung: style for rung, style in NULL_STYLES.items() if sweep.nulls.get(rung)}
        figures.legend_below(
            share, lines | {rung: (figures.BLACK, style) for rung, style in nulls.items()}
        )


def _draw_outcome(ax: Axes, name: str, sweep: LiveSweep, colors: Mapping[int, Any]) -> None:
    from gradquake.report import figures

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
    from gradquake.report import figures

    found = sweep.dimension(POINTS)
    if found is None:
        figures.say(ax, f"$D(t)$ needs {sweep.lacks}")
        return
    for rung, color in (("gaussian", figures.GREY), ("permuted", figures.ORANGE)):
        of_null = LiveSweep(sweep.settings, sweep.nulls.get(rung, []), set(), {}).dimension(POINTS)
        if of_null is not None:
            figures.dimension(ax, of_null, color, rung, lw=0.8)
    figures.dimension(ax, found, figures.BLUE, "real")
    ax.axhline(1, color=figures.BLACK, lw=0.7, ls=":")
    ax.set_ylabel("$D(t)$ of $s_{\\max}$")
    # Above it: what is inside moves while the runs go on.
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncol=3)
