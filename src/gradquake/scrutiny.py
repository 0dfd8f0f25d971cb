"""Any sweep under scrutiny: its gradients once more, beside their nulls, under other choices.

Everything here is measured after the fact, on the gradients that the sweep was measured on (see
``gradquake.experiments.replay``), on any executor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling, specifications, timing, transitions
from gradquake.analysis.collapse import Collapse, best_collapse
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import FEWEST_RUNS, N_RESAMPLES, Estimate, difference
from gradquake.analysis.scaling import STATISTICS, Exponent, Statistic
from gradquake.analysis.sweep import (
    WINDOWS,
    Curve,
    SweepAnalysis,
    Window,
    analyze,
    crossing_of_null,
    curve,
    snapshots_of,
)
from gradquake.analysis.tails import ccdfs
from gradquake.analysis.timing import PermutationTest
from gradquake.analysis.transitions import PHASES
from gradquake.errors import GradquakeError, InputError, require
from gradquake.execution import each, tasks
from gradquake.experiments import replay
from gradquake.experiments.replay import Reading
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.graphs import TOPOLOGIES
from gradquake.recording import GradientRecord, RunRecord, to_dataset
from gradquake.surrogates import REAL, RUNGS

if TYPE_CHECKING:
    import xarray as xr

Result = TypeVar("Result")
Progress = Callable[[int, int], object]


class Told(Protocol):
    """What yields results and says of each that it is there."""

    def __call__(self, results: Iterable[Result], /) -> Iterator[Result]:
        """Yield the results."""
        ...


@dataclass(frozen=True, eq=False)
class Timing:
    """When D(t) of one statistic crosses, on shared epochs and relative to the grokking epoch.

    The null is the permuted one. Times are epochs; NaN where there is no crossing.

    Attributes
    ----------
    of_one, of_null : Estimate
        The crossing of 1, and of the null, on shared epochs.
    lag_of_one, lag_of_null : Estimate
        The same minus the median t_g of all runs.
    aligned, aligned_null : Curve
        D(t - t_g): each run read at its own t_g plus an offset, the real gradients and their null.
    aligned_of_null : Estimate
        The offset at which the aligned D rises above that of its null.
    follows : PermutationTest
        Of the rise D_post - D_pre against t_g exchanged among the runs of a scale.
    """

    of_one: Estimate
    of_null: Estimate
    lag_of_one: Estimate
    lag_of_null: Estimate
    aligned: Curve
    aligned_null: Curve
    aligned_of_null: Estimate
    follows: PermutationTest


@dataclass(frozen=True, eq=False)
class Scrutiny:
    """A sweep beside its nulls.

    Attributes
    ----------
    ladder : Ladder
    collapses : dict
        By (rung or "real", window).
    grokking : Estimate
        The median t_g of all runs.
    timing : dict
        By statistic; empty where no run grokked.
    """

    ladder: Ladder
    collapses: dict[tuple[str, Window], Collapse]
    grokking: Estimate
    timing: dict[Statistic, Timing]


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


# Why something is not defined.
NO_RUN_GROKKED = (
    "no run grokked, so times relative to grokking are not defined, and no snapshot is after t_g"
)
NO_MEDIAN = "fewer than half of the runs grokked, so the median t_g, and times minus it, are not defined"


def notes_of(scrutiny: Scrutiny) -> list[str]:
    """Return what is not defined or says little in an analysis, and why: a sentence each."""
    sweep = scrutiny.ladder.real.dataset
    reached = sweep["grokking_epoch"].values
    found = []
    if not np.isfinite(reached).any():
        found.append(NO_RUN_GROKKED)
    else:
        if not np.isfinite(scrutiny.grokking.estimate):
            found.append(NO_MEDIAN)
        if not scrutiny.timing:
            found.append(
                "the interval between the snapshots is not known, so no run can be read at its own t_g "
                "plus an offset, and the times of crossings are left out"
            )
        last = sweep["epoch"].values[-1]
        if late := int((reached > last).sum()):
            found.append(
                f"{late} of {reached.size} runs grokked after the last snapshot, at epoch {last}, so "
                "all of their snapshots are before t_g"
            )
    groups = scaling.scale_groups(sweep)
    if any(runs.size < FEWEST_RUNS for _, runs in groups):
        found.append("a size has a single run, so there are no intervals over runs")
    seeds = sweep["seed"].values
    shared = [str(n) for n, runs in groups if np.unique(seeds[runs]).size < runs.size]
    if shared:
        found.append(
            f"runs of one size share a seed (N = {', '.join(shared)}), so their graph and their "
            "Gaussian null are the same and give no interval, or one that is too narrow; give every run "
            "of a size its own seed"
        )
    return found


def measure(
    sweep: xr.Dataset, readings: Sequence[Reading], executor: Executor | None = None
) -> dict[Reading, xr.Dataset]:
    """Measure readings on a sweep's own gradients, at its own snapshots.

    Raises
    ------
    InputError
        Where the sweep is of no experiment whose gradients can be made again.
    GradquakeError
        Where the gradients made again do not give the avalanches that the sweep holds.
    """
    found = _measure(sweep, readings, None, executor)
    for reading, measured in found.items():
        wanted = reading.settings()
        own = wanted.pop("surrogate") == REAL and wanted.items() <= sweep.attrs.items()
        if own and not np.array_equal(measured["size"].values, in_order(sweep)["size"].values):
            raise GradquakeError(
                "the gradients made again give other avalanches than the study holds, so it was "
                "measured by another version of gradquake or NumPy; measure it anew"
            )
    return found


def check(sweep: xr.Dataset, *, sensitivity: bool = False) -> None:
    """Raise InputError where a sweep cannot be put under scrutiny, before anything is measured."""
    replay.runs_of(sweep)
    _check_scales(sweep)
    if sensitivity:
        specifications.windows(np.unique(sweep["n_parameters"].values))


def _check_scales(sweep: xr.Dataset) -> None:
    require(sweep.sizes["epoch"] > 0, "no run has a snapshot; there is nothing to analyze")
    require(
        "size" in sweep,
        "the runs have no avalanche sizes; D(t) needs the size of an avalanche at every snapshot",
    )
    scales = np.unique(sweep["n_parameters"].values)
    if scales.size == 1:
        raise InputError(f"all runs have N = {scales[0]}; D(t) needs at least three sizes of network")
    if not scales.size >= scaling.FEWEST_SCALES:
        raise InputError(
            f"the sweep has {scales.size} scales; D(t) needs at least {scaling.FEWEST_SCALES} sizes of "
            "network"
        )


def aligned_offsets(sweep: xr.Dataset) -> NDArray[np.int64]:
    """Return the times since t_g, multiples of the snapshot interval, that any run was measured at."""
    reached = sweep["grokking_epoch"].values
    every, last = sweep.attrs["every"], int(sweep["epoch"].values[-1])
    first_offset = -(int(np.nanmax(reached)) // every) * every
    return np.arange(first_offset, last - int(np.nanmin(reached)) + 1, every)


def measure_aligned(
    sweep: xr.Dataset, readings: Sequence[Reading], executor: Executor | None = None
) -> dict[Reading, xr.Dataset]:
    """Measure readings at each run's own t_g plus an offset, exactly, not at the nearest snapshot.

    Returns sweeps whose epochs are the offsets, and whose sizes are NaN where a run had not begun or
    was over; all of them where that leaves a scale with fewer than half of its runs, since the largest
    size of few runs is no match for that of many.

    Raises
    ------
    InputError
        Where no run grokked.
    """
    require(
        bool(np.isfinite(sweep["grokking_epoch"].values).any()), "no run grokked; none can be aligned"
    )
    found = _measure(sweep, readings, aligned_offsets(sweep), executor)
    return {reading: timing.where_half_are_there(aligned) for reading, aligned in found.items()}


def scrutinize(
    sweep: xr.Dataset,
    rungs: Sequence[str] = RUNGS,
    executor: Executor | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    progress: Progress = lambda _steps, _of: None,
) -> Scrutiny:
    """Put a sweep beside its nulls: exponents, collapse, and timing.

    Parameters
    ----------
    sweep : xarray.Dataset
        One sweep (see ``gradquake.recording``), with three scales or more.
    rungs : sequence of str
        Names in ``surrogates.RUNGS``, "permuted" and "gaussian" among them.
    executor : concurrent.futures.Executor, optional
    n_resamples : int
    progress : callable
        Called with the number of steps of the analysis just done, and the number of all steps.

    Raises
    ------
    InputError, GradquakeError
        As ``measure`` does, or for fewer than three scales.
    """
    sweep = in_order(sweep)
    by_reading = measure(sweep, [Reading(name) for name in (REAL, *rungs)], executor)
    # The sweep itself stands for its gradients: that they give its avalanches has been checked.
    nulls = {name: by_reading[Reading(name)] for name in rungs}
    aligned = None
    if sweep.attrs["experiment"] == "xor" and np.isfinite(sweep["grokking_epoch"].values).any():
        exact = measure_aligned(sweep, [Reading(), Reading("permuted")], executor)
        aligned = exact[Reading()], exact[Reading("permuted")]
    return _beside(sweep, nulls, aligned, executor, n_resamples, progress)


def beside(
    sweep: xr.Dataset,
    nulls: Mapping[str, xr.Dataset],
    executor: Executor | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    progress: Progress = lambda _steps, _of: None,
) -> Scrutiny:
    """Put a sweep beside nulls that were measured while it was trained.

    Time since t_g is read at the run's own snapshots, t_g rounded down to one of them.

    Parameters
    ----------
    sweep : xarray.Dataset
        One sweep (see ``gradquake.recording``), with three scales or more.
    nulls : mapping
        The same runs measured on surrogates, by their names in ``surrogates.RUNGS``.
    executor, n_resamples, progress
        As in ``scrutinize``.

    Raises
    ------
    InputError
        For fewer than three scales, or without the "gaussian" and "permuted" nulls.
    """
    check_beside(sweep, nulls)
    sweep = in_order(sweep)
    nulls = {rung: in_order(nulls[rung]) for rung in RUNGS if rung in nulls}
    reached, every = sweep["grokking_epoch"].values, sweep.attrs.get("every")
    aligned = None
    # A schedule that is no interval is recorded as None.
    if isinstance(every, int) and every > 0 and np.isfinite(reached).any():
        pair = [timing.aligned(d, reached, every) for d in (sweep, nulls["permuted"])]
        aligned = pair[0], pair[1]
    return _beside(sweep, nulls, aligned, executor, n_resamples, progress)


def check_beside(sweep: xr.Dataset, nulls: Mapping[str, xr.Dataset]) -> None:
    """Raise InputError where a sweep cannot be put beside these nulls."""
    _check_scales(sweep)
    missing = [rung for rung in ("gaussian", "permuted") if rung not in nulls]
    if missing:
        raise InputError(
            f"no {' and no '.join(missing)} null was measured beside these runs, whose gradients "
            f"were not "
            "kept; attach(..., nulls=['gaussian', 'permuted']) measures both"
        )
    for rung, null in nulls.items():
        if "size" not in null:
            raise InputError(f"the {rung} null has no avalanche sizes")
        if not scaling.same_runs(in_order(sweep), in_order(null)):
            raise InputError(
                f"the {rung} null has {null.sizes['run']} of {sweep.sizes['run']} runs, or other "
                f"epochs; "
                "each run must have it"
            )


def _beside(
    sweep: xr.Dataset,
    nulls: Mapping[str, xr.Dataset],
    aligned: tuple[xr.Dataset, xr.Dataset] | None,
    executor: Executor | None,
    n_resamples: int,
    progress: Progress,
) -> Scrutiny:
    names, measured = (REAL, *nulls), (sweep, *nulls.values())
    timed = 4 * len(STATISTICS) if aligned else 0
    told = partial(_told, progress=progress, of=len(measured) * (1 + len(WINDOWS)) + timed)
    results = list(told(each(Analysis(n_resamples), measured, executor)))
    ladder = Ladder(results[0], dict(zip(nulls, results[1:], strict=True)))
    pairs = list(product(range(len(names)), WINDOWS))
    collapses = told(each(_collapse, [(measured[i], window) for i, window in pairs], executor))
    grokking = timing.median_grokking_epoch(sweep, n_resamples=n_resamples)
    return Scrutiny(
        ladder,
        {(names[i], window): c for (i, window), c in zip(pairs, collapses, strict=True)},
        grokking,
        _timing(sweep, ladder, grokking, aligned, executor, n_resamples, told) if aligned else {},
    )


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
    """Return the topologies that have these sizes; the network's own graph is that of a 2-h-1 MLP."""
    own = bool((n_parameters % 4 == 1).all() and (n_parameters >= 5).all())
    return [name for name in TOPOLOGIES if own or name != "computational"]


@dataclass(frozen=True)
class Analysis:
    """``analyze`` with its number of resamples, to be sent to a worker."""

    n_resamples: int

    def __call__(self, dataset: xr.Dataset) -> SweepAnalysis:
        """Return the analysis of a sweep."""
        return analyze(dataset, n_resamples=self.n_resamples)


@dataclass(frozen=True, eq=False)
class _Task:
    """Some runs, and what to read of their gradients; aligned at offsets from t_g, or at snapshots."""

    runs: Sequence[XorRun | SyntheticRun]
    readings: Sequence[Reading]
    offsets: NDArray[np.int64] | None
    grokking_epochs: Sequence[float]


def _measure(
    sweep: xr.Dataset,
    readings: Sequence[Reading],
    offsets: NDArray[np.int64] | None,
    executor: Executor | None,
) -> dict[Reading, xr.Dataset]:
    sweep = in_order(sweep)
    runs = replay.runs_of(sweep)
    reached = dict(zip(runs, sweep["grokking_epoch"].values.tolist(), strict=True))
    todo = [_Task(t, readings, offsets, [reached[r] for r in t]) for t in tasks(runs)]
    records: list[list[RunRecord]] = [[] for _ in readings]
    for done in each(_read_task, todo, executor):
        for of_reading, part in zip(records, done, strict=True):
            of_reading += part
    return {
        # The split into phases is the sweep's own, whatever it was set to.
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
        return [[replay.read(record, reading) for record in records] for reading in task.readings]
    last = task.runs[0].epochs
    inside = [
        # No offset is inside for a run that never grokked: comparisons with NaN are false.
        (task.offsets + reached >= 0) & (task.offsets + reached <= last)
        for reached in task.grokking_epochs
    ]
    epochs = [
        (task.offsets[chosen] + (reached if chosen.any() else 0)).astype(np.int64)
        for chosen, reached in zip(inside, task.grokking_epochs, strict=True)
    ]
    records = replay.gradients(task.runs, epochs)
    return [
        [_read_aligned(r, reading, task.offsets, i) for r, i in zip(records, inside, strict=True)]
        for reading in task.readings
    ]


def _read_aligned(
    record: GradientRecord,
    reading: Reading,
    offsets: NDArray[np.int64],
    inside: NDArray[np.bool_],
) -> RunRecord:
    size = np.full(offsets.size, np.nan)
    if inside.any():
        size[inside] = replay.read(record, reading).values["size"]
    return RunRecord(record.config, record.grokking_epoch, offsets, {"size": size})


def _told(results: Iterable[Result], *, progress: Progress, of: int) -> Iterator[Result]:
    """Yield results, and say of each that it is there."""
    for result in results:
        progress(1, of)
        yield result


def _collapse(item: tuple[xr.Dataset, Window]) -> Collapse:
    dataset, window = item
    return best_collapse(ccdfs(dataset, snapshots_of(dataset, window)))


def _timing(
    sweep: xr.Dataset,
    ladder: Ladder,
    grokking: Estimate,
    aligned: tuple[xr.Dataset, xr.Dataset],
    executor: Executor | None,
    n_resamples: int,
    told: Told,
) -> dict[Statistic, Timing]:
    pairs = [(dataset, statistic) for statistic in STATISTICS for dataset in aligned]
    curves = list(told(each(_AlignedCurve(n_resamples), pairs, executor)))
    of_aligned = list(zip(curves[::2], curves[1::2], strict=True))
    both = (ladder.real, ladder.nulls["permuted"])
    of_shared = [(both[0].curves[s], both[1].curves[s]) for s in STATISTICS]
    crossings = list(told(each(_cross, [*of_shared, *of_aligned], executor)))
    found: dict[Statistic, Timing] = {}
    for i, statistic in enumerate(STATISTICS):
        real, null = of_aligned[i]
        of_one, of_null = ladder.real.curves[statistic].crossing, crossings[i]
        found[statistic] = Timing(
            of_one,
            of_null,
            difference(of_one, grokking),
            difference(of_null, grokking),
            real.slim(),
            null.slim(),
            crossings[len(STATISTICS) + i],
            timing.follows_grokking(sweep, statistic),
        )
    return found


def _cross(item: tuple[Curve, Curve]) -> Estimate:
    return crossing_of_null(*item)


@dataclass(frozen=True)
class _AlignedCurve:
    n_resamples: int

    def __call__(self, item: tuple[xr.Dataset, Statistic]) -> Curve:
        return curve(*item, n_resamples=self.n_resamples)


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
