"""A sweep's gradients on every topology."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling, transitions
from gradquake.analysis.collapse import Collapse
from gradquake.analysis.resampling import N_RESAMPLES, Estimate, difference
from gradquake.analysis.scaling import STATISTICS, Exponent, Statistic
from gradquake.analysis.sweep import (
    Window,
)
from gradquake.analysis.transitions import PHASES
from gradquake.avalanche.surrogates import REAL
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.experiments.readings import Reading
from gradquake.study.execution import each

if TYPE_CHECKING:
    import xarray as xr
from gradquake.scrutiny.measure import measure
from gradquake.scrutiny.scrutinize import _collapse


@dataclass(frozen=True, eq=False)
class OnTopology:
    """A sweep's gradients measured on one topology.

    Attributes
    ----------
    exponents : dict
        By (rung or "real", phase, statistic).
    excess : dict
        D_real - D_permuted by (phase, statistic).
    collapses : dict
        Of the data, by phase.
    """

    topology: str
    exponents: dict[tuple[str, Window, Statistic], Exponent]
    excess: dict[tuple[Window, Statistic], Estimate]
    collapses: dict[Window, Collapse]


def on_topologies(
    sweep: xr.Dataset, executor: Executor | None = None, *, n_resamples: int = N_RESAMPLES
) -> list[OnTopology]:
    """Measure a sweep's gradients, and their nulls, on every topology that has its sizes."""
    rungs = (REAL, "permuted", "gaussian")
    names = topologies_of(sweep["n_parameters"].values)
    readings = [Reading(rung, topology=name) for name in names for rung in rungs]
    measured = measure(sweep, readings, executor)
    todo = [(name, {rung: measured[Reading(rung, topology=name)] for rung in rungs}) for name in names]
    return list(each(_OnTopology(n_resamples), todo, executor))


def topologies_of(n_parameters: NDArray[np.int64]) -> list[str]:
    """Return the topologies that have graphs of these sizes."""
    sizes = n_parameters.tolist()
    return [name for name, one in TOPOLOGIES.items() if all(n in one.sizes for n in sizes)]


@dataclass(frozen=True)
class _OnTopology:
    n_resamples: int

    def __call__(self, item: tuple[str, dict[str, xr.Dataset]]) -> OnTopology:
        topology, measured = item
        exponents: dict[tuple[str, Window, Statistic], Exponent] = {
            (rung, phase, statistic): scaling.exponent(
                dataset, statistic, transitions.phase(dataset, phase), n_resamples=self.n_resamples
            )
            for rung, dataset in measured.items()
            for phase in PHASES
            for statistic in STATISTICS
        }
        return OnTopology(
            topology,
            {key: exponent.slim() for key, exponent in exponents.items()},
            {
                (p, s): difference(exponents[REAL, p, s], exponents["permuted", p, s]).slim()
                for p in PHASES
                for s in STATISTICS
            },
            {phase: _collapse((measured[REAL], phase)) for phase in PHASES},
        )
