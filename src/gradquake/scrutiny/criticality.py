"""Is anything critical? A sweep's gradients kicked before, at and after grokking, on every topology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling
from gradquake.analysis.resampling import Estimate, estimated
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.shown import Shown
from gradquake.avalanche.observables import OBSERVABLES
from gradquake.avalanche.surrogates import REAL
from gradquake.experiments import readings
from gradquake.experiments.experiment import ProbedRun
from gradquake.experiments.readings import Reading
from gradquake.scrutiny import replay
from gradquake.scrutiny.measure import in_order
from gradquake.scrutiny.topologies import topologies_of
from gradquake.study.execution import each, tasks
from gradquake.study.recording import GradientRecord, RunRecord, to_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MOMENTS", "NULL", "OBSERVED", "Critical", "Moment", "criticality"]

# Every so many snapshots are kicked.
EVERY = 2

# Parameters a task. A run takes seconds here, so that workers would wait for one with many.
AT_ONCE = 5_000

# When a run is kicked, by its own t_g: at all snapshots before it, exactly at it, at all snapshots
# after.
Moment = Literal["before", "at", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "at", "after")

# The observables of each gradient. Others tell of the distribution of its entries alone.
ASKED = ("kicks", "load", "clusters", "generations", "isolated")

# The numbers of each gradient: all channels of these, and the share of the size that needs no neighbor.
OBSERVED = (*(channel for name in ASKED for channel in OBSERVABLES[name].channels), "isolated_share")

NULL = "permuted"

# Resamples of an interval; there are thousands of them.
N_RESAMPLES = 2000


@dataclass(frozen=True, eq=False, repr=False)
class Critical(Shown):
    """How a sweep's gradients answer to kicks on one topology.

    Attributes
    ----------
    topology : str
    of : dict
        By rung ("real" and "permuted"), moment and name in ``OBSERVED``: an ``Exponent``. Its ``sizes``
        are the means over runs at every scale, with ``size_low`` and ``size_high``; its value is the
        exponent of their growth with N. The number of a run is the mean over the snapshots of the
        moment.
    arrangement : dict
        By moment and name, at the largest scale: real minus permuted, paired.
    """

    topology: str
    of: dict[str, dict[Moment, dict[str, Exponent]]]
    arrangement: dict[Moment, dict[str, Estimate]]

    def at_largest(self, rung: str, moment: Moment, name: str) -> Estimate:
        """Return a number of the largest networks: the mean over their runs."""
        found = self.of[rung][moment][name]
        return Estimate(
            value=float(found.sizes.value[-1]),
            low=float(found.sizes.low[-1]),
            high=float(found.sizes.high[-1]),
            invalid=0.0,
            runs=int(found.runs_of_scale[-1]),
        )

    @property
    def _title(self) -> str:
        return f"Kicks on {self.topology}"

    def _lines(self) -> Mapping[str, str]:
        return {
            f"branching ratio {moment} t_g, {rung}": self.at_largest(rung, moment, "kick_branching").text
            for rung in self.of
            for moment in MOMENTS
        }


def criticality(sweep: xr.Dataset, executor: Executor | None = None) -> list[Critical]:
    """Kick a sweep's gradients, and their permuted null, on every topology that has its sizes.

    Raises
    ------
    InputError
        If the gradients of the sweep's experiment cannot be made again.
    """
    sweep = in_order(sweep)
    runs = replay.runs_of(sweep)
    reached = dict(zip(runs, sweep["grokking_epoch"].values.tolist(), strict=True))
    names = topologies_of(sweep["n_parameters"].values)
    wanted = [
        Reading(rung, topology=name, observe=",".join(ASKED)) for name in names for rung in (REAL, NULL)
    ]
    todo = [_Task(part, [reached[run] for run in part], wanted) for part in tasks(runs, AT_ONCE)]
    records: list[list[RunRecord]] = [[] for _ in wanted]
    for done in each(_at_moments, todo, executor):
        for of_reading, part in zip(records, done, strict=True):
            of_reading += part
    measured = [to_dataset(of_reading) for of_reading in records]
    pairs = list(zip(names, measured[::2], measured[1::2], strict=True))
    return list(each(_summarized, pairs, executor))


@dataclass(frozen=True, eq=False)
class _Task:
    runs: Sequence[ProbedRun]
    grokking_epochs: Sequence[float]
    readings: Sequence[Reading]


def _at_moments(task: _Task) -> list[list[RunRecord]]:
    """Return for each reading the records of runs, whose epochs are the positions in ``MOMENTS``."""
    epochs = [
        np.union1d(run.snapshots[::EVERY], [] if np.isnan(reached) else [reached]).astype(np.int64)
        for run, reached in zip(task.runs, task.grokking_epochs, strict=True)
    ]
    records = replay.gradients(task.runs, epochs)
    of_runs = list(zip(records, task.grokking_epochs, strict=True))
    return [[_averaged(*of_run, reading) for of_run in of_runs] for reading in task.readings]


def _averaged(record: GradientRecord, reached: float, reading: Reading) -> RunRecord:
    read = readings.read(record, reading)
    values: dict[str, NDArray[Any]] = {name: read.values[name] for name in ("size", *OBSERVED[:-1])}
    values["isolated_share"] = values["isolated"] / np.maximum(values["size"], 1)
    # A run that never grokked has no moment but "before".
    grokked = np.inf if np.isnan(reached) else reached
    chosen = (read.epochs < grokked, read.epochs == grokked, read.epochs > grokked)
    means = {name: np.array([_mean(of[at]) for at in chosen]) for name, of in values.items()}
    return RunRecord(read.config, record.grokking_epoch, np.arange(len(MOMENTS)), means)


def _mean(values: NDArray[Any]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def _summarized(item: tuple[str, xr.Dataset, xr.Dataset]) -> Critical:
    topology, *datasets = item
    of: dict[str, dict[Moment, dict[str, Exponent]]] = {REAL: {}, NULL: {}}
    arrangement: dict[Moment, dict[str, Estimate]] = {}
    for k, moment in enumerate(MOMENTS):
        arrangement[moment] = {}
        for rung, dataset in zip(of, datasets, strict=True):
            of[rung][moment] = {name: _exponent(dataset, name, k) for name in OBSERVED}
        for name in OBSERVED:
            arrangement[moment][name] = _difference(*(of[rung][moment][name] for rung in (REAL, NULL)))
        for rung in of:
            of[rung][moment] = {name: one.slim() for name, one in of[rung][moment].items()}
    return Critical(topology, of, arrangement)


def _exponent(dataset: xr.Dataset, name: str, moment: int) -> Exponent:
    import xarray as xr

    sizes = dataset[name].values[:, [moment]]
    scales = {"n_parameters": ("run", dataset["n_parameters"].values)}
    return scaling.exponent(
        xr.Dataset({"size": (("run", "epoch"), sizes)}, scales), "mean", n_resamples=N_RESAMPLES
    )


def _difference(real: Exponent, null: Exponent) -> Estimate:
    """Return the paired difference of two numbers at the largest scale."""
    observed = float(real.sizes.value[-1] - null.sizes.value[-1])
    resamples = real.size_resamples[:, -1] - null.size_resamples[:, -1]
    return estimated(observed, resamples, int(real.runs_of_scale[-1])).slim()
