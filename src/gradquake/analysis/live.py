"""A sweep while it is being written: D(t) so far, and the level of its Gaussian null."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.dimension import dimension
from gradquake.analysis.scales import FEWEST_SCALES
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import REAL, gaussian
from gradquake.errors import GradquakeError, InputError
from gradquake.study.configuration import config_key
from gradquake.study.recording import COSTS, LEFT_OUT, RunRecord, to_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LiveSweep", "gaussian_level", "thinned"]

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

    def null(self, rung: str) -> LiveSweep:
        """Return the runs so far of one null as a sweep of their own."""
        return LiveSweep(self.settings, self.nulls.get(rung, []), set(), {})

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

    @cached_property
    def costs(self) -> dict[str, float]:
        """The costs of measuring in the background, by name; empty if nothing was measured there.

        Of times in seconds, the median over all snapshots; of the steps left out, the sum.
        """
        found = {}
        for name in COSTS:
            some = [run.values[name] for run in self.runs if name in run.values]
            known = np.concatenate([np.empty(0), *(one[np.isfinite(one)] for one in some)])
            if known.size:
                found[name] = float(known.sum() if name == LEFT_OUT else np.median(known))
        return found

    def gaussian_level(self, run: RunRecord) -> float:
        """Return the mean s / N of Gaussian gradients for a run; NaN if it is not known."""
        measured = self._measured_levels.get(_real_key(run))
        if measured is not None:
            return measured
        try:
            probe = Probe.of({**self.settings, "seed": 0})
        except InputError:  # the writer of a file may use these names for something else
            return np.nan
        return gaussian_level(min(run.config["n_parameters"], LEVEL_NODES), probe)


@lru_cache(maxsize=256)
def gaussian_level(n: int, probe: Probe) -> float:
    """Return the mean s / N of Gaussian gradients; NaN if the probe does not give it."""
    if probe.topology == "computational" or probe.max_steps > LEVEL_STEPS:
        return np.nan
    draws = gaussian(np.zeros((LEVEL_DRAWS, n)), seed=0)
    try:
        batch = probe.measure_batch(draws)
    except GradquakeError:
        return np.nan
    return float(batch.size.mean()) / n


def thinned(n: int, most: int) -> NDArray[np.intp]:
    """Return at most ``most`` of the places 0 to n - 1, evenly spaced, with both ends."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))


def _real_key(run: RunRecord) -> str:
    return config_key({**run.config, "surrogate": REAL})
