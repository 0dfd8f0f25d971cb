"""Studies while they are being written: every run so far, and D(t)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.dimension import dimension
from gradquake.analysis.scales import FEWEST_SCALES
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import REAL, gaussian
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import GradquakeError
from gradquake.study.configuration import choose as choose_settings
from gradquake.study.configuration import config_key, sweep_settings
from gradquake.study.recording import RunRecord, to_dataset
from gradquake.study.study import open_study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LiveSweep", "choose", "gaussian_level", "read", "thinned"]

# The Gaussian level hardly depends on N, so a graph of this many nodes stands for larger ones.
LEVEL_NODES = 20_000
LEVEL_DRAWS = 8
# With more steps than these, drawing the level could take hours.
LEVEL_STEPS = 1000

# Enough resamples for a band that moves while it is looked at.
N_RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class LiveSweep:
    """A sweep so far.

    Attributes
    ----------
    settings : dict
    runs : list of RunRecord
        Finished and unfinished runs, by size and seed.
    unfinished : set of str
        The keys of the unfinished runs.
    nulls : dict
        By rung, the same runs measured on its surrogates.
    """

    settings: dict[str, object]
    runs: list[RunRecord]
    unfinished: set[str]
    nulls: dict[str, list[RunRecord]]

    @property
    def n_scales(self) -> int:
        """The number of network sizes."""
        return len({run.config["n_parameters"] for run in self.runs})

    @property
    def lacks(self) -> str:
        """What D(t) needs that is missing; empty if nothing is missing."""
        if self.n_scales < FEWEST_SCALES:
            return f"runs of three network sizes: {FEWEST_SCALES - self.n_scales} more"
        if not all("size" in run.values for run in self.runs):
            return "the avalanche size of every run"
        return "" if self._shared.size else "steps that all runs share"

    @cached_property
    def _shared(self) -> NDArray[np.int64]:
        """The steps at which all runs were measured."""
        return reduce(np.intersect1d, [run.epochs for run in self.runs])

    def dimension(self, most: int) -> xr.Dataset | None:
        """Return D(t) of the largest avalanche at the steps that all runs share, at most ``most``.

        None if ``lacks`` says that something is missing.
        """
        if self.lacks:
            return None
        steps = self._shared[thinned(self._shared.size, most)]
        runs = [
            RunRecord(
                {**run.config, "surrogate": REAL},  # some runs lack this setting
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
        """Return the mean s / N of Gaussian gradients for a run; NaN if it is not known."""
        measured = self._measured_levels.get(_real_key(run))
        if measured is not None:
            return measured
        settings = [self.settings.get(name) for name in ("topology", "alpha", "quantile", "max_steps")]
        # The writer of a file may use these names for something else.
        kinds = (str, int | float, int | float, int)
        if not all(isinstance(*pair) for pair in zip(settings, kinds, strict=True)):
            return np.nan
        return gaussian_level(min(run.config["n_parameters"], LEVEL_NODES), *settings)


def read(path: str | Path) -> list[LiveSweep]:
    """Return every sweep of a study, with the runs that are still being written.

    Raises
    ------
    StudyError
        If the study cannot be read.
    """
    with open_study(path) as study:
        # In this order, a run that is finished in between is found twice instead of missed.
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
        settings = sweep_settings({**record.config, "surrogate": REAL})
        found[config_key(settings)].unfinished.add(record.key)
    return [sweep for sweep in found.values() if sweep.runs]


def choose(study: str | Path, settings: Mapping[str, object]) -> LiveSweep:
    """Return the one sweep of a study whose settings include those given.

    Raises
    ------
    StudyError
        If the study cannot be read, or no sweep or several fit.
    """
    sweeps = read(study)
    chosen = choose_settings(Path(study), [sweep.settings for sweep in sweeps], settings)
    return next(sweep for sweep in sweeps if sweep.settings is chosen)


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
    """Return at most ``most`` of the places 0 to n - 1, evenly spaced, with both ends."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))


def _real_key(run: RunRecord) -> str:
    return config_key({**run.config, "surrogate": REAL})


def _place(run: RunRecord) -> tuple[int, int, str]:
    return run.config["n_parameters"], run.config["seed"], run.key
