"""What the paper's sweeps are, and everything that is measured on them; the claims only read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import distributions, power, scaling, tails, transitions
from gradquake.analysis.dimension import Curve
from gradquake.analysis.fits import slopes
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.power import Power
from gradquake.analysis.resampling import (
    FEWEST_RUNS,
    N_RESAMPLES,
    Estimate,
    Interval,
    estimated,
    percentile_interval,
    run_resamples,
)
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.timing import PermutationTest, follows_grokking
from gradquake.analysis.transitions import Peaks
from gradquake.avalanche.surrogates import RUNGS
from gradquake.errors import InputError
from gradquake.experiments import synthetic, xor
from gradquake.experiments.readings import Reading
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.paper.xor.conditions import (
    INLINE,
    SHADOW,
    ConditionResult,
    Todo,
    examine,
    summarize,
)
from gradquake.scrutiny.measure import measure as measure_readings
from gradquake.scrutiny.scrutinize import Analysis, Scrutiny, scrutinize
from gradquake.scrutiny.sensitivity import specify
from gradquake.scrutiny.topologies import OnTopology, on_topologies
from gradquake.study.execution import each, execute
from gradquake.study.study import Study

if TYPE_CHECKING:
    import xarray as xr
from gradquake.paper.xor.plan import BASELINE_ALPHAS, BASELINE_TOPOLOGIES, PAPER_SEEDS, Plan

Floats = NDArray[np.float64]

# The window in epochs around t_g in which the Gini coefficient is shown and its peak is sought.
ALIGNED_BEFORE = 30
ALIGNED_AFTER = 60
POWER_COUNTS = (6, 12, 24, 50, 100, 200)


@dataclass(frozen=True, eq=False)
class Baseline:
    """D_synth over variants of the probe (topologies or alphas), all on the same gradients.

    Attributes
    ----------
    variants : tuple of str
        What differs.
    value : array, shape (variants,)
        The mean over seeds of the exponent of <s> ~ N^D.
    intervals : list of Interval
        95 % bootstrap over runs, the same runs resampled in all variants.
    of_each : array, shape (variants, seeds)
        The exponent of every configuration.
    mean, mean_interval, mean_resamples
        The mean over all configurations.
    spread, spread_interval
        The coefficient of variation over the variants.
    """

    variants: tuple[str, ...]
    value: Floats
    intervals: list[Interval]
    of_each: Floats
    mean: float
    mean_interval: Interval
    mean_resamples: Floats = field(repr=False)
    spread: float
    spread_interval: Interval


@dataclass(frozen=True, eq=False)
class Band:
    """A curve over many runs: its middle and the quartiles of the runs around it."""

    x: NDArray[np.int64]
    middle: Floats
    low: Floats
    high: Floats
    runs: int


@dataclass(frozen=True, eq=False)
class GiniStudy:
    """Many seeds of the representative size, recorded at every epoch.

    Attributes
    ----------
    grokking_epochs : array, shape (runs,)
        NaN for a run that never reached 100 %.
    peaks : Peaks
        The transient peak of the Gini coefficient in each run.
    accuracy : array, shape (epochs,)
        Of the run with seed 0.
    gini : array, shape (epochs,)
        Of the run with seed 0.
    median_grokking_epoch : float
        A run that never reached 100 % counts as infinitely late.
    accuracy_band : Band
        Mean accuracy against the epoch.
    gini_band : Band or None
        Median Gini coefficient against the epoch minus t_g, over the runs for which all of the
        window was measured; None where there is none.
    """

    grokking_epochs: Floats
    peaks: Peaks
    accuracy: Floats
    gini: Floats
    median_grokking_epoch: float
    accuracy_band: Band
    gini_band: Band | None


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the claims and the figures rest on.

    Attributes
    ----------
    inline_scrutiny, shadow_scrutiny : Scrutiny
        The trained sweeps beside their ladder of nulls.
    topologies, alphas : Baseline
        The synthetic baseline over the topologies and over alpha.
    gini : GiniStudy
    ccdfs, collapsed : list of Ccdf
        The CCDF of every scale, and against s / N^D with the aggregate D.
    tails : dict
        Of all avalanches of every scale, inline and shadow, a list of TailFit each.
    time_average : Estimate
        The mean of the inline D(t) of the largest size over the snapshots.
    conditions : list of ConditionResult
        The controls and interventions, inline and shadow training themselves first.
    on_topologies : dict
        The inline and the shadow gradients on every topology; empty where it was quick.
    specifications : xarray.Dataset or None
        The specification curve; None where it was quick.
    power : dict
        What numbers of runs tell, inline and shadow; empty where it was quick.
    follows : dict
        Over the many seeds, inline and shadow, by statistic: whether the rise of D follows t_g.
    many_seeds : dict
        The many seeds, inline and shadow, beside their Gaussian and permuted nulls.
    has_intervals : bool
        False where a scale has a single run, so that nothing can be resampled.
    """

    inline_scrutiny: Scrutiny
    shadow_scrutiny: Scrutiny
    topologies: Baseline
    alphas: Baseline
    gini: GiniStudy
    ccdfs: list[distributions.Ccdf]
    collapsed: list[distributions.Ccdf]
    tails: dict[str, list[tails.TailFit]]
    time_average: Estimate
    conditions: list[ConditionResult]
    on_topologies: dict[str, list[OnTopology]]
    specifications: xr.Dataset | None
    power: dict[str, list[Power]]
    follows: dict[str, dict[Statistic, PermutationTest]]
    many_seeds: dict[str, Ladder]
    has_intervals: bool

    def condition(self, group: str, name: str) -> ConditionResult:
        """Return what was measured under a condition.

        Raises
        ------
        InputError
            For a condition that was not measured.
        """
        by_name = {(r.group, r.name): r for r in self.conditions}
        found = by_name.get((group, name))
        if found is None:
            names = "; ".join(f"{g}: {n}" for g, n in by_name)
            raise InputError(f"the condition is {group}: {name}; there are {names}")
        return found

    @property
    def inline(self) -> SweepAnalysis:
        """The analysis of the inline sweep."""
        return self.inline_scrutiny.ladder.real

    @property
    def shadow(self) -> SweepAnalysis:
        """The analysis of the shadow sweep."""
        return self.shadow_scrutiny.ladder.real

    @property
    def inline_ladder(self) -> Ladder:
        """The inline sweep beside its nulls."""
        return self.inline_scrutiny.ladder

    @property
    def shadow_ladder(self) -> Ladder:
        """The shadow sweep beside its nulls."""
        return self.shadow_scrutiny.ladder

    @property
    def inline_null(self) -> SweepAnalysis:
        """The analysis of the inline sweep's Gaussian null."""
        return self.inline_ladder.nulls["gaussian"]

    @property
    def shadow_null(self) -> SweepAnalysis:
        """The analysis of the shadow sweep's Gaussian null."""
        return self.shadow_ladder.nulls["gaussian"]


def measure(
    study: Study,
    many: Study | None,
    plan: Plan,
    executor: Executor | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Measure what the studies do not hold yet of the paper's sweeps.

    The many seeds have a study of their own, so that a sweep of ``study`` is what the claims rest on.
    """
    for runs in plan.trained:
        execute(study, xor.measure, runs, executor, progress)
    baselines = [run for sweep in plan.baselines for run in sweep]
    execute(study, synthetic.measure, baselines, executor, progress)
    if many is not None:
        for runs in plan.power.values():
            execute(many, xor.measure, runs, executor, progress)


def gather(
    study: Study,
    many: Study | None,
    plan: Plan,
    executor: Executor | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> Evidence:
    """Compute everything that is claimed, from studies that hold the plan's runs.

    Runs of the study that are not in the plan (other seeds, say) are left out. What is independent
    is computed on the executor, where there is one; ``progress`` is called with the name of a stage.

    Raises
    ------
    StudyError
        Where a run of the plan is missing.
    """

    def sweep_of(runs: Sequence[XorRun], of: Study = study) -> xr.Dataset:
        return of.dataset_of([run.config() for run in runs])

    progress("nulls")
    inline, shadow = sweep_of(plan.inline), sweep_of(plan.shadow)
    scrutinies = [scrutinize(sweep, RUNGS, executor) for sweep in (inline, shadow)]
    progress("conditions")
    # The paper's own two ways to train stand beside their nulls already.
    results = [
        summarize(Todo("alpha_train", name, sweep, shadow), scrutiny.ladder)
        for name, sweep, scrutiny in zip((INLINE, SHADOW), (inline, shadow), scrutinies, strict=True)
    ]
    todo = []
    for condition in plan.conditions:
        sweep = sweep_of(plan.condition(condition))
        # What does not learn as XOR does is split where XOR, trained in the same mode, learns.
        own_mode = shadow if sweep.attrs["alpha_train"] == 0 else inline
        twin = own_mode if condition.group == "control" else None
        todo.append(Todo(condition.group, condition.name, sweep, shadow, twin))
    results += each(examine, todo, executor)
    default = SyntheticRun(5, 0)
    baselines = {
        (runs[0].topology, runs[0].alpha): study.dataset_of([run.config() for run in runs])
        for runs in plan.baselines
    }
    topologies = {t: baselines[t, default.alpha] for t in BASELINE_TOPOLOGIES}
    alphas = {f"{a:g}": baselines[default.topology, a] for a in BASELINE_ALPHAS}
    analysis = scrutinies[0].ladder.real
    ccdfs = distributions.ccdfs(inline)
    on_each: dict[str, list[OnTopology]] = {}
    table: xr.Dataset | None = None
    told: dict[str, list[Power]] = {}
    follows: dict[str, dict[Statistic, PermutationTest]] = {}
    ladders: dict[str, Ladder] = {}
    if not plan.quick:
        progress("topologies")
        on_each = {
            "inline": on_topologies(inline, executor),
            "shadow": on_topologies(shadow, executor),
        }
        progress("choices")
        table = specify([_paper_seeds(sweep) for sweep in (shadow, inline)], executor)
    if many is not None:
        progress("power")
        for mode, runs in plan.power.items():
            sweep = sweep_of(runs, many)
            names = ("gaussian", "permuted")
            measured = measure_readings(sweep, [Reading(name) for name in names], executor)
            nulls = {name: measured[Reading(name)] for name in names}
            told[mode] = _power(sweep, nulls, executor)
            real, *beside = each(Analysis(N_RESAMPLES), [sweep, *nulls.values()], executor)
            ladders[mode] = Ladder(real, dict(zip(names, beside, strict=True)))
            pairs = [(sweep, statistic) for statistic in STATISTICS]
            tests = each(_follows, pairs, executor)
            follows[mode] = dict(zip(STATISTICS, tests, strict=True))
    return Evidence(
        inline_scrutiny=scrutinies[0],
        shadow_scrutiny=scrutinies[1],
        topologies=_baseline(topologies),
        alphas=_baseline(alphas),
        gini=_gini_study(sweep_of(plan.gini)),
        ccdfs=ccdfs,
        collapsed=distributions.collapse(ccdfs, analysis.exponent("all", "max").value),
        tails=dict(
            zip(("inline", "shadow"), each(tails.tail_fits, (inline, shadow), executor), strict=True)
        ),
        time_average=time_average(analysis),
        conditions=results,
        on_topologies=on_each,
        specifications=table,
        power=told,
        follows=follows,
        many_seeds=ladders,
        has_intervals=plan.seeds >= FEWEST_RUNS,
    )


def time_average(analysis: SweepAnalysis) -> Estimate:
    """Return the mean of D(t) of the largest size over the snapshots."""
    curve = analysis.curves["max"]
    exponents, _ = resampled_curves(curve)
    return estimated(
        float(curve.dimension["value"].mean()),
        exponents.mean(axis=1),
        curve.dimension.attrs["fewest_runs"],
    )


def resampled_curves(curve: Curve) -> tuple[Floats, Floats]:
    """Return D(t) and R² in every resample, (B, epochs) each: the paper's sweeps have 51 snapshots."""
    blocks = list(curve.resampled())
    return (
        np.concatenate([block.exponents for block in blocks], axis=1),
        np.concatenate([block.r_squared for block in blocks], axis=1),
    )


def _paper_seeds(sweep: xr.Dataset) -> xr.Dataset:
    """Return the paper's number of seeds of a sweep: what the specification curve is measured on."""
    return sweep.isel(run=np.flatnonzero(sweep["seed"].values < PAPER_SEEDS))


def _power(sweep: xr.Dataset, nulls: Mapping[str, xr.Dataset], executor: Executor | None) -> list[Power]:
    available = int((sweep["n_parameters"] == sweep["n_parameters"][0]).sum())
    counts = [count for count in POWER_COUNTS if count <= available]
    # The largest first, since they take longest.
    todo = [(sweep, nulls, count) for count in reversed(counts)]
    found = list(each(_power_of, todo, executor))
    return [power for of_count in reversed(found) for power in of_count]


def _follows(item: tuple[xr.Dataset, Statistic]) -> PermutationTest:
    return follows_grokking(*item)


def _power_of(item: tuple[xr.Dataset, Mapping[str, xr.Dataset], int]) -> list[Power]:
    sweep, nulls, count = item
    return power.power(sweep, nulls, [count])


def _gini_study(dataset: xr.Dataset) -> GiniStudy:
    epochs, accuracy, gini = (dataset[name].values for name in ("epoch", "accuracy", "gini"))
    reached = dataset["grokking_epoch"].values
    offsets = np.arange(-ALIGNED_BEFORE, ALIGNED_AFTER + 1)
    whole = (reached >= ALIGNED_BEFORE) & (reached + ALIGNED_AFTER <= epochs[-1])
    columns = reached[whole, None].astype(np.int64) + offsets
    aligned = np.take_along_axis(gini[whole], columns, axis=1)
    return GiniStudy(
        reached,
        transitions.peaks(dataset, before=ALIGNED_BEFORE, after=ALIGNED_AFTER),
        accuracy[0],
        gini[0],
        float(np.median(np.where(np.isnan(reached), np.inf, reached))),
        _band(epochs, accuracy, accuracy.mean(axis=0)),
        _band(offsets, aligned, np.median(aligned, axis=0)) if len(aligned) else None,
    )


def _band(x: NDArray[np.int64], rows: Floats, middle: Floats) -> Band:
    low, high = np.quantile(rows, [0.25, 0.75], axis=0)
    return Band(x, middle, low, high, len(rows))


def _baseline(sweeps: Mapping[str, xr.Dataset]) -> Baseline:
    """Return D_synth of variants; since a slope is linear in log size, seeds are averaged first."""
    groups = scale_groups(next(iter(sweeps.values())))
    n = np.array([n for n, _ in groups])
    # (variants, scales, seeds), the seeds in one order.
    log_sizes = np.log(
        [[sweep["size"].values[runs].mean(axis=1) for _, runs in groups] for sweep in sweeps.values()]
    )
    estimate = slopes(n, np.exp(log_sizes.mean(axis=2)))
    draws = run_resamples([log_sizes.shape[2]] * n.size)
    resampled_logs = np.stack(
        [log_sizes[:, scale, chosen].mean(axis=2) for scale, chosen in enumerate(draws)], axis=-1
    )
    resampled = slopes(n, np.exp(resampled_logs))  # (variants, B)
    runs = log_sizes.shape[2]
    return Baseline(
        tuple(sweeps),
        estimate,
        [percentile_interval(row, runs) for row in resampled],
        slopes(n, np.exp(log_sizes.transpose(0, 2, 1))),
        float(estimate.mean()),
        percentile_interval(resampled.mean(axis=0), runs),
        resampled.mean(axis=0),
        float(scaling.coefficient_of_variation(estimate)),
        percentile_interval(scaling.coefficient_of_variation(resampled.T), runs),
    )
