"""The gradients of a sweep, made again and measured."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import timing
from gradquake.analysis.channels import SIZE, values_of
from gradquake.avalanche.surrogates import REAL
from gradquake.errors import GradquakeError, require
from gradquake.experiments import readings
from gradquake.experiments.experiment import ProbedRun
from gradquake.experiments.readings import Reading
from gradquake.scrutiny import replay
from gradquake.study.execution import each, tasks
from gradquake.study.recording import GradientRecord, RunRecord, to_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["aligned_offsets", "in_order", "measure", "measure_aligned"]


def measure(
    sweep: xr.Dataset, readings: Sequence[Reading], executor: Executor | None = None
) -> dict[Reading, xr.Dataset]:
    """Measure readings on a sweep's own gradients, at its own snapshots.

    Raises
    ------
    InputError
        If the gradients of the sweep's experiment cannot be made again.
    GradquakeError
        If the gradients do not give the avalanches that the sweep holds.
    """
    found = _measure(sweep, readings, None, executor)
    for reading, measured in found.items():
        wanted = reading.settings()
        wanted.pop("observe", None)
        own = wanted.pop("surrogate") == REAL and wanted.items() <= sweep.attrs.items()
        if own and not np.array_equal(measured["size"].values, in_order(sweep)["size"].values):
            raise GradquakeError(
                "the gradients made again give other avalanches than the study holds, so it was "
                "measured by another version of gradquake or NumPy; measure it anew"
            )
    return found


def aligned_offsets(sweep: xr.Dataset) -> NDArray[np.int64]:
    """Return the times since t_g at which some run was measured: multiples of the snapshot interval."""
    reached = sweep["grokking_epoch"].values
    every, last = sweep.attrs["every"], int(sweep["epoch"].values[-1])
    first_offset = -(int(np.nanmax(reached)) // every) * every
    return np.arange(first_offset, last - int(np.nanmin(reached)) + 1, every)


def measure_aligned(
    sweep: xr.Dataset,
    readings: Sequence[Reading],
    executor: Executor | None = None,
    *,
    channel: str = SIZE,
) -> dict[Reading, xr.Dataset]:
    """Measure readings exactly at each run's own t_g plus an offset, not at the nearest snapshot.

    Returns sweeps whose epochs are the offsets, those of ``aligned_offsets``, and whose ``size`` is the
    channel (see ``analysis.channels``), of the avalanche or of the readings' observables. A size is NaN
    if its run had not begun or was over at the offset. If a scale has fewer than half of its runs at an
    offset, all sizes at that offset are NaN, because the largest size grows with the number of runs.

    Raises
    ------
    InputError
        If no run grokked.
    """
    require(
        bool(np.isfinite(sweep["grokking_epoch"].values).any()),
        "no run grokked, so that no run can be aligned",
    )
    found = _measure(sweep, readings, aligned_offsets(sweep), executor, channel)
    return {reading: timing.where_half_are_there(aligned) for reading, aligned in found.items()}


@dataclass(frozen=True, eq=False)
class _Task:
    """Readings to take of some runs: at offsets from t_g, or at the snapshots if these are None."""

    runs: Sequence[ProbedRun]
    readings: Sequence[Reading]
    offsets: NDArray[np.int64] | None
    grokking_epochs: Sequence[float]
    channel: str


def _measure(
    sweep: xr.Dataset,
    readings: Sequence[Reading],
    offsets: NDArray[np.int64] | None,
    executor: Executor | None,
    channel: str = SIZE,
) -> dict[Reading, xr.Dataset]:
    sweep = in_order(sweep)
    runs = replay.runs_of(sweep)
    reached = dict(zip(runs, sweep["grokking_epoch"].values.tolist(), strict=True))
    todo = [_Task(t, readings, offsets, [reached[r] for r in t], channel) for t in tasks(runs)]
    records: list[list[RunRecord]] = [[] for _ in readings]
    for done in each(_read_task, todo, executor):
        for of_reading, part in zip(records, done, strict=True):
            of_reading += part
    return {
        # A caller may have set other grokking epochs, at which the phases are then split.
        reading: to_dataset(of_reading).assign_coords(
            grokking_epoch=("run", sweep["grokking_epoch"].values)
        )
        for reading, of_reading in zip(readings, records, strict=True)
    }


def in_order(sweep: xr.Dataset) -> xr.Dataset:
    """Return a sweep with its runs ordered as ``to_dataset`` orders them."""
    return sweep.isel(run=np.lexsort((sweep["seed"].values, sweep["n_parameters"].values)))


def _read_task(task: _Task) -> list[list[RunRecord]]:
    if task.offsets is None:
        records = replay.gradients(task.runs)
        return [[readings.read(record, reading) for record in records] for reading in task.readings]
    last = task.runs[0].epochs
    inside = [
        # A run that never grokked has no offset inside: comparisons with NaN are false.
        (task.offsets + reached >= 0) & (task.offsets + reached <= last)
        for reached in task.grokking_epochs
    ]
    epochs = [
        (task.offsets[chosen] + (reached if chosen.any() else 0)).astype(np.int64)
        for chosen, reached in zip(inside, task.grokking_epochs, strict=True)
    ]
    records = replay.gradients(task.runs, epochs)
    return [
        [_read_aligned(r, reading, task, i) for r, i in zip(records, inside, strict=True)]
        for reading in task.readings
    ]


def _read_aligned(
    record: GradientRecord, reading: Reading, task: _Task, inside: NDArray[np.bool_]
) -> RunRecord:
    offsets = np.arange(inside.size) if task.offsets is None else task.offsets
    size = np.full(offsets.size, np.nan)
    if inside.any():
        size[inside] = values_of(readings.read(record, reading).values, task.channel)
    return RunRecord(record.config, record.grokking_epoch, offsets, {"size": size})
