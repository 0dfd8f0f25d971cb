"""A sweep beside its nulls: exponents, collapse and timing.

The nulls are measured on the gradients that the sweep was measured on, made again (see
``gradquake.scrutiny.replay``), or they were recorded while the runs were trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gradquake.analysis import timing, transitions
from gradquake.analysis.channels import SIZE, channels, in_channel
from gradquake.analysis.collapse import Collapse, phase_collapse
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import FEWEST_RUNS, N_RESAMPLES, Estimate
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.shown import Shown, bracketed
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import analyze
from gradquake.analysis.transitions import PHASES, Phase
from gradquake.avalanche import observables
from gradquake.avalanche.cascade import MEASURED
from gradquake.avalanche.observables import observed_by
from gradquake.avalanche.surrogates import REAL, RUNGS, SURROGATES
from gradquake.errors import InputError
from gradquake.experiments.readings import Reading
from gradquake.scrutiny.checks import check_beside
from gradquake.scrutiny.crossings import STEPS_OF_STATISTIC, Aligned, Timing, timing_of
from gradquake.scrutiny.imprint import has_independent_graph, is_trained_on_its_graph, note_without
from gradquake.scrutiny.measure import in_order, measure, measure_aligned
from gradquake.study.execution import Progress, each, silent, unpacked

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "NO_MEDIAN",
    "NO_RUN_GROKKED",
    "Scrutiny",
    "beside",
    "check_channel",
    "notes_of",
    "scrutinize",
]

Result = TypeVar("Result")

# Why something is not defined.
NO_RUN_GROKKED = (
    "No run grokked, so times relative to grokking are not defined, and no snapshot is after t_g."
)
NO_MEDIAN = (
    "Fewer than half of the runs grokked, so the median t_g, and times minus it, are not defined."
)


@dataclass(frozen=True, eq=False, repr=False)
class Scrutiny(Shown):
    """A sweep beside its nulls.

    Attributes
    ----------
    ladder : Ladder
        The analyses of the sweep and of its nulls.
    collapses : dict
        By rung ("real" is the data) and phase.
    grokking : Estimate
        The median t_g of all runs; infinite if fewer than half of them grokked.
    timing : dict
        By statistic; empty if no run grokked, or if the snapshots have no fixed interval.
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
            raise InputError(f"the rung is {rung!r}; this sweep has {', '.join(self.collapses)}")
        return self.collapses[rung][phase]

    @property
    def _title(self) -> str:
        return f"{self.ladder.real.dataset.sizes['run']} runs beside their nulls"

    def _lines(self) -> Mapping[str, str]:
        exponents = {
            f"{STATISTICS[statistic].symbol} {phase}": found.text
            for phase, of_phase in self.ladder.real.exponents.items()
            for statistic, found in of_phase.items()
        }
        attributions = {
            f"arrangement in {STATISTICS[s].symbol} {phase}": self.ladder.arrangement(phase, s).text
            for phase, s in product(PHASES, STATISTICS)
        }
        curves = {
            f"{STATISTICS[statistic].symbol}(t)": found.text
            for statistic, found in self.ladder.real.curves.items()
        }
        grokking = bracketed(self.grokking.value, self.grokking.low, self.grokking.high, 0)
        return exponents | attributions | curves | {"median t_g": grokking}


def notes_of(scrutiny: Scrutiny) -> list[str]:
    """Return sentences that say which times and intervals are not defined or not reliable, and why."""
    sweep = scrutiny.ladder.real.dataset
    notes = [*_notes_on_grokking(scrutiny, sweep), *_notes_on_runs(sweep)]
    if is_trained_on_its_graph(sweep) and scrutiny.ladder.independent is None:
        notes.append(note_without(sweep))
    return notes


def _notes_on_grokking(scrutiny: Scrutiny, sweep: xr.Dataset) -> Iterator[str]:
    reached = sweep["grokking_epoch"].values
    if not np.isfinite(reached).any():
        yield NO_RUN_GROKKED
        return
    if not np.isfinite(scrutiny.grokking.value):
        yield NO_MEDIAN
    if not scrutiny.timing:
        yield (
            "The interval between the snapshots is not known, so no run can be read at its own t_g plus "
            "an offset, and the times of crossings are left out."
        )
    last = sweep["epoch"].values[-1]
    if late := int((reached > last).sum()):
        yield (
            f"{late} of {reached.size} runs grokked after the last snapshot, at epoch {last}, so all of "
            "their snapshots are before t_g."
        )


def _notes_on_runs(sweep: xr.Dataset) -> Iterator[str]:
    groups = scale_groups(sweep)
    if any(runs.size < FEWEST_RUNS for _, runs in groups):
        yield "A size has a single run, so there are no intervals over runs."
    seeds = sweep["seed"].values
    shared = [str(n) for n, runs in groups if np.unique(seeds[runs]).size < runs.size]
    if shared:
        yield (
            f"Runs of one size share a seed (N = {', '.join(shared)}), so their graph and their "
            "Gaussian null are the same and give no interval, or one that is too narrow. Give every run "
            "of a size its own seed."
        )


def check_channel(channel: str) -> None:
    """Raise InputError unless a channel can be measured on gradients."""
    known = channels(dict.fromkeys((*MEASURED, *observables.channels())))
    if channel not in known:
        raise InputError(f"the channel is {channel!r}; one of {', '.join(known)} is needed")


def scrutinize(
    sweep: xr.Dataset,
    rungs: Sequence[str] = RUNGS,
    executor: Executor | None = None,
    *,
    channel: str = SIZE,
    n_resamples: int = N_RESAMPLES,
    progress: Progress = silent,
) -> Scrutiny:
    """Measure the nulls of a sweep, and analyze it beside them.

    Parameters
    ----------
    sweep : xarray.Dataset
        One sweep (see ``gradquake.study.recording``), with three scales or more.
    rungs : sequence of str
        Names in ``surrogates.RUNGS``, "permuted" and "gaussian" among them.
    executor : concurrent.futures.Executor, optional
    channel : str
        The number that takes the place of the size (see ``analysis.channels``). An observable that the
        sweep does not hold is measured on its gradients.
    n_resamples : int
        Of every bootstrap.
    progress : Progress
        Told of each step of the analysis.

    Raises
    ------
    InputError, GradquakeError
        As ``measure`` does, for fewer than three scales, or for a channel that the sweep or its nulls
        do not have.
    """
    check_channel(channel)
    sweep = in_order(sweep)
    names = (REAL, *rungs)
    apart = is_trained_on_its_graph(sweep) and has_independent_graph(sweep)

    def reading(name: str, independent: bool | None = None) -> Reading:
        return Reading(name, independent_graph=independent, observe=observed_by(channel))

    graphs = (None, True) if apart else (None,)
    found = measure(sweep, [reading(name, graph) for graph in graphs for name in names], executor)
    # ``measure`` has checked that the gradients give the avalanches of the sweep.
    nulls = {name: found[reading(name)] for name in rungs}
    if channel not in channels(sweep.data_vars):
        sweep = found[reading(REAL)]
    measured = _in_channel(sweep, nulls, channel)
    independent = {n: in_channel(found[reading(n, True)], channel) for n in names if apart}
    aligned = None
    if np.isfinite(sweep["grokking_epoch"].values).any():
        pair = [reading(name) for name in (REAL, "permuted")]
        exact = measure_aligned(sweep, pair, executor, channel=channel)
        aligned = Aligned(*(exact[one] for one in pair))
    return _beside(measured, independent, aligned, executor, n_resamples, progress)


def beside(
    sweep: xr.Dataset,
    nulls: Mapping[str, xr.Dataset],
    executor: Executor | None = None,
    *,
    channel: str = SIZE,
    n_resamples: int = N_RESAMPLES,
    progress: Progress = silent,
) -> Scrutiny:
    """Analyze a sweep beside nulls that were measured while it was trained.

    The time since t_g is read at the run's own snapshots, with t_g rounded down to one of them.

    Parameters
    ----------
    sweep : xarray.Dataset
        One sweep (see ``gradquake.study.recording``), with three scales or more.
    nulls : mapping
        The same runs measured on surrogates, by their names in ``surrogates.RUNGS``.
    executor, channel, n_resamples, progress
        As in ``scrutinize``.
    channel : str
        The number to analyze; the sweep and the nulls hold it.

    Raises
    ------
    InputError
        For fewer than three scales, without the "gaussian" and "permuted" nulls, or for a channel that
        the sweep or its nulls do not have.
    """
    check_beside(sweep, nulls)
    sweep = in_order(sweep)
    nulls = {rung: in_order(nulls[rung]) for rung in SURROGATES if rung in nulls}
    measured = _in_channel(sweep, nulls, channel)
    reached, every = sweep["grokking_epoch"].values, sweep.attrs.get("every")
    aligned = None
    # A schedule without a fixed interval is recorded as None.
    if isinstance(every, int) and every > 0 and np.isfinite(reached).any():
        pair = measured[REAL], measured["permuted"]
        aligned = Aligned(*(timing.aligned(of, reached, every) for of in pair))
    return _beside(measured, {}, aligned, executor, n_resamples, progress)


def _in_channel(
    sweep: xr.Dataset, nulls: Mapping[str, xr.Dataset], channel: str
) -> dict[str, xr.Dataset]:
    """Return a sweep and its nulls in a channel, by rung; the sweep first."""
    for rung, null in nulls.items():
        if channel not in channels(null.data_vars):
            raise InputError(
                f"the channel is {channel!r}, which was not measured on the {rung} null; one of "
                f"{', '.join(channels(null.data_vars))} is needed"
            )
    return {r: in_channel(of, channel) for r, of in {REAL: sweep, **nulls}.items()}


def _beside(
    measured: Mapping[str, xr.Dataset],
    independent: Mapping[str, xr.Dataset],
    aligned: Aligned | None,
    executor: Executor | None,
    n_resamples: int,
    progress: Progress,
) -> Scrutiny:
    sweep = measured[REAL]
    timed = STEPS_OF_STATISTIC * len(STATISTICS) if aligned else 0
    steps = len(measured) * (1 + len(PHASES)) + len(independent) + timed
    told = partial(_told, progress=progress, of=steps)
    todo = [*measured.values(), *independent.values()]
    analyses = iter(told(each(partial(analyze, n_resamples=n_resamples), todo, executor)))
    of_rungs, of_independent = (
        {name: next(analyses) for name in sweeps} for sweeps in (measured, independent)
    )
    ladder = Ladder(
        of_rungs.pop(REAL),
        of_rungs,
        Ladder(of_independent.pop(REAL), of_independent) if of_independent else None,
    )
    pairs = list(product(measured.values(), PHASES))
    found = told(each(unpacked(phase_collapse), pairs, executor))
    collapses = {rung: {phase: next(found) for phase in PHASES} for rung in measured}
    grokking = timing.median_grokking_epoch(sweep, n_resamples=n_resamples)
    of_time = {}
    if aligned is not None:
        of_time = timing_of(sweep, ladder, grokking, aligned, executor, n_resamples, told)
    return Scrutiny(ladder, collapses, grokking, of_time)


def _told(results: Iterable[Result], *, progress: Progress, of: int) -> Iterator[Result]:
    """Yield results, and report each to the progress bar."""
    for result in results:
        progress("analysis", 1, of)
        yield result
