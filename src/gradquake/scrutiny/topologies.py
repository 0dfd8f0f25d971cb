"""A sweep's gradients measured on every topology."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling, transitions
from gradquake.analysis.channels import SIZE, in_channel
from gradquake.analysis.collapse import Collapse, phase_collapse
from gradquake.analysis.resampling import N_RESAMPLES, Estimate, difference
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.shown import Shown
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.transitions import SPLIT_PHASES, Phase
from gradquake.avalanche.observables import observed_by
from gradquake.avalanche.surrogates import REAL
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.experiments.readings import Reading
from gradquake.scrutiny.imprint import has_independent_graph, is_trained_on_its_graph
from gradquake.scrutiny.measure import measure
from gradquake.study.execution import each

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["OnTopology", "on_topologies", "topologies_of"]


@dataclass(frozen=True, eq=False, repr=False)
class OnTopology(Shown):
    """A sweep's gradients measured on one topology.

    Attributes
    ----------
    topology : str
    exponents : dict
        By rung ("real" is the data, "permuted" and "gaussian"), phase ("pre", "post") and statistic.
    arrangements : dict
        D_real - D_permuted, paired, by phase and statistic; on an independent graph if the runs were
        trained on this one.
    collapses : dict
        Of the data, by phase.
    """

    topology: str
    exponents: dict[str, dict[Phase, dict[Statistic, Exponent]]]
    arrangements: dict[Phase, dict[Statistic, Estimate]]
    collapses: dict[Phase, Collapse]

    def exponent(self, rung: str, phase: Phase, statistic: Statistic) -> Exponent:
        """Return the exponent of a rung; "real" is the data."""
        return self.exponents[rung][phase][statistic]

    def arrangement(self, phase: Phase, statistic: Statistic) -> Estimate:
        """Return D_real - D_permuted, paired: due to the arrangement of the entries on the graph."""
        return self.arrangements[phase][statistic]

    @property
    def _title(self) -> str:
        return f"On {self.topology}"

    def _lines(self) -> Mapping[str, str]:
        return {
            f"{STATISTICS[statistic].symbol} {phase}, {rung}": found.text
            for rung, of_rung in self.exponents.items()
            for phase, of_phase in of_rung.items()
            for statistic, found in of_phase.items()
        }


def on_topologies(
    sweep: xr.Dataset,
    executor: Executor | None = None,
    *,
    channel: str = SIZE,
    n_resamples: int = N_RESAMPLES,
) -> list[OnTopology]:
    """Measure a sweep's gradients, and their nulls, on every topology that has its sizes."""
    rungs = (REAL, "permuted", "gaussian")
    names = topologies_of(sweep["n_parameters"].values)

    def reading(rung: str, name: str, independent: bool | None = None) -> Reading:
        observed = observed_by(channel)
        return Reading(rung, topology=name, observe=observed, independent_graph=independent)

    apart = is_trained_on_its_graph(sweep) and has_independent_graph(sweep)
    trained = str(sweep.attrs["topology"])
    pair = {rung: reading(rung, trained, True) for rung in (REAL, "permuted")} if apart else {}
    readings = [reading(rung, name) for name in names for rung in rungs]
    measured = {
        one: in_channel(found, channel)
        for one, found in measure(sweep, [*readings, *pair.values()], executor).items()
    }
    todo = [
        (
            name,
            {rung: measured[reading(rung, name)] for rung in rungs},
            {rung: measured[one] for rung, one in pair.items()} if name == trained else {},
        )
        for name in names
    ]
    return list(each(_OnTopology(n_resamples), todo, executor))


def topologies_of(n_parameters: NDArray[np.int64]) -> list[str]:
    """Return the topologies that have graphs of these sizes."""
    sizes = n_parameters.tolist()
    return [name for name, one in TOPOLOGIES.items() if all(n in one.sizes for n in sizes)]


@dataclass(frozen=True)
class _OnTopology:
    n_resamples: int

    def __call__(self, item: tuple[str, dict[str, xr.Dataset], dict[str, xr.Dataset]]) -> OnTopology:
        topology, measured, independent = item
        exponents: dict[str, dict[Phase, dict[Statistic, Exponent]]] = {rung: {} for rung in measured}
        arrangements: dict[Phase, dict[Statistic, Estimate]] = {}
        for phase in SPLIT_PHASES:
            for rung, dataset in measured.items():
                exponents[rung][phase] = {s: self._exponent(dataset, phase, s) for s in STATISTICS}
            apart = {
                rung: {s: self._exponent(dataset, phase, s) for s in STATISTICS}
                for rung, dataset in independent.items()
            }
            real, null = (apart.get(rung, exponents[rung][phase]) for rung in (REAL, "permuted"))
            arrangements[phase] = {s: difference(real[s], null[s]).slim() for s in STATISTICS}
        return OnTopology(
            topology,
            {
                rung: {phase: {s: e.slim() for s, e in of.items()} for phase, of in of_rung.items()}
                for rung, of_rung in exponents.items()
            },
            arrangements,
            {phase: phase_collapse(measured[REAL], phase) for phase in SPLIT_PHASES},
        )

    def _exponent(self, dataset: xr.Dataset, phase: Phase, statistic: Statistic) -> Exponent:
        where = transitions.phase(dataset, phase)
        return scaling.exponent(dataset, statistic, where, n_resamples=self.n_resamples)
