"""Any sweep under scrutiny: its gradients once more, beside their nulls, under other choices.

Everything here is measured after the fact, on the gradients that the sweep was measured on (see
``gradquake.scrutiny.replay``), on any executor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from gradquake.analysis import timing, transitions
from gradquake.analysis.collapse import Collapse, best_collapse
from gradquake.analysis.dimension import Curve, crossing_of_null, curve
from gradquake.analysis.distributions import ccdfs
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import FEWEST_RUNS, N_RESAMPLES, Estimate, difference
from gradquake.analysis.scales import same_runs, scale_groups
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import SweepAnalysis, analyze
from gradquake.analysis.timing import PermutationTest
from gradquake.analysis.transitions import PHASES, Phase
from gradquake.avalanche.surrogates import REAL, RUNGS
from gradquake.errors import InputError
from gradquake.experiments.readings import Reading
from gradquake.study.execution import each

if TYPE_CHECKING:
    import xarray as xr
from gradquake.scrutiny.measure import _check_scales, in_order, measure, measure_aligned

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
        By rung ("real" is the data) and phase.
    grokking : Estimate
        The median t_g of all runs.
    timing : dict
        By statistic; empty where no run grokked.
    """

    ladder: Ladder
    collapses: dict[str, dict[Phase, Collapse]]
    grokking: Estimate
    timing: dict[Statistic, Timing]

    def collapse(self, rung: str, phase: Phase) -> Collapse:
        """Return the best collapse of a rung over the snapshots of a phase.

        Raises
        ------
        InputError
            For a rung that was not measured, or another phase.
        """
        transitions.check_phase(phase)
        if rung not in self.collapses:
            raise InputError(f"the rung is {rung!r}; {', '.join(self.collapses)} were measured")
        return self.collapses[rung][phase]


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
        if not np.isfinite(scrutiny.grokking.value):
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
    groups = scale_groups(sweep)
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
        One sweep (see ``gradquake.study.recording``), with three scales or more.
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
        One sweep (see ``gradquake.study.recording``), with three scales or more.
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
        if not same_runs(in_order(sweep), in_order(null)):
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
    told = partial(_told, progress=progress, of=len(measured) * (1 + len(PHASES)) + timed)
    results = list(told(each(Analysis(n_resamples), measured, executor)))
    ladder = Ladder(results[0], dict(zip(nulls, results[1:], strict=True)))
    pairs = list(product(range(len(names)), PHASES))
    found = told(each(_collapse, [(measured[i], phase) for i, phase in pairs], executor))
    collapses: dict[str, dict[Phase, Collapse]] = {name: {} for name in names}
    for (i, phase), collapse in zip(pairs, found, strict=True):
        collapses[names[i]][phase] = collapse
    grokking = timing.median_grokking_epoch(sweep, n_resamples=n_resamples)
    return Scrutiny(
        ladder,
        collapses,
        grokking,
        _timing(sweep, ladder, grokking, aligned, executor, n_resamples, told) if aligned else {},
    )


@dataclass(frozen=True)
class Analysis:
    """``analyze`` with its number of resamples, to be sent to a worker."""

    n_resamples: int

    def __call__(self, dataset: xr.Dataset) -> SweepAnalysis:
        """Return the analysis of a sweep."""
        return analyze(dataset, n_resamples=self.n_resamples)


def _told(results: Iterable[Result], *, progress: Progress, of: int) -> Iterator[Result]:
    """Yield results, and say of each that it is there."""
    for result in results:
        progress(1, of)
        yield result


def _collapse(item: tuple[xr.Dataset, Phase]) -> Collapse:
    dataset, phase = item
    return best_collapse(ccdfs(dataset, transitions.phase(dataset, phase)))


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
