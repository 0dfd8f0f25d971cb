"""What the paper's sweeps are, and everything that is measured on them; the claims only read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling, tails, transitions
from gradquake.analysis.resampling import (
    FEWEST_RUNS,
    Interval,
    percentile_interval,
    run_resamples,
)
from gradquake.analysis.sweep import SweepAnalysis, analyze
from gradquake.analysis.transitions import Peaks
from gradquake.errors import require, require_count
from gradquake.execution import execute
from gradquake.experiments import synthetic, xor
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.store import Study

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]

PAPER_SEEDS = 6
GINI_SEEDS = 1000
GINI_HIDDEN = 21

# The window in epochs around t_g in which the Gini coefficient is shown and its peak is sought.
ALIGNED_BEFORE = 30
ALIGNED_AFTER = 60

BASELINE_TOPOLOGIES = (
    "ring",
    "small_world_0.05",
    "small_world_0.2",
    "barabasi_albert",
    "erdos_renyi",
)
BASELINE_ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Plan:
    """The runs of the paper.

    Parameters
    ----------
    seeds : int
        Seeds a scale in the trained and synthetic sweeps, at least 1.
    gini_seeds : int
        Seeds of the Gini study.
    hidden : sequence of int
        The scales, at least three.

    Raises
    ------
    InputError
        For fewer seeds or scales.
    """

    seeds: int = PAPER_SEEDS
    gini_seeds: int = GINI_SEEDS
    hidden: Sequence[int] = xor.PAPER_HIDDEN

    def __post_init__(self) -> None:
        require_count("seeds", self.seeds, 1)
        require_count("gini_seeds", self.gini_seeds, 1)
        require(
            len(set(self.hidden)) >= scaling.FEWEST_SCALES,
            f"hidden is {self.hidden}; at least {scaling.FEWEST_SCALES} different sizes are needed",
        )

    @cached_property
    def inline(self) -> list[XorRun]:
        """The trained runs, the relaxed gradient feeding the update."""
        return xor.sweep(self.hidden, self.seeds)

    @cached_property
    def shadow(self) -> list[XorRun]:
        """The same, trained as if there were no probe."""
        return xor.sweep(self.hidden, self.seeds, alpha_train=0.0)

    @cached_property
    def gini(self) -> list[XorRun]:
        """The many seeds of the representative size, recorded at every epoch."""
        return xor.sweep([GINI_HIDDEN], self.gini_seeds, every=1)

    def baseline(self, topology: str, alpha: float) -> list[SyntheticRun]:
        """The synthetic runs on one topology at one alpha."""
        return [
            SyntheticRun(4 * h + 1, seed, topology=topology, alpha=alpha)
            for h in self.hidden
            for seed in range(self.seeds)
        ]

    @cached_property
    def baselines(self) -> list[list[SyntheticRun]]:
        """All synthetic sweeps: every topology at the paper's alpha, the default one at every alpha."""
        default = SyntheticRun(5, 0)
        pairs = [(topology, default.alpha) for topology in BASELINE_TOPOLOGIES]
        pairs += [(default.topology, alpha) for alpha in BASELINE_ALPHAS if alpha != default.alpha]
        return [self.baseline(topology, alpha) for topology, alpha in pairs]

    @property
    def n_runs(self) -> int:
        """The number of runs of all sweeps."""
        return len(self.inline + self.shadow + self.gini) + sum(map(len, self.baselines))


@dataclass(frozen=True, eq=False)
class Baseline:
    """D_synth over variants of the probe (topologies or alphas), all on the same gradients.

    Attributes
    ----------
    variants : tuple of str
        What differs.
    estimate : array, shape (variants,)
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
    estimate: Floats
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
    inline, shadow : SweepAnalysis
        The trained sweeps.
    inline_null, shadow_null : SweepAnalysis
        Their matched Gaussian nulls.
    topologies, alphas : Baseline
        The synthetic baseline over the topologies and over alpha.
    gini : GiniStudy
    ccdfs, collapsed : list of Ccdf
        The CCDF of every scale, and against s / N^D with the aggregate D.
    time_average, time_average_interval
        The mean of the in-line D(t) of the largest size over the snapshots.
    has_intervals : bool
        False where a scale has a single run, so that nothing can be resampled.
    """

    inline: SweepAnalysis
    shadow: SweepAnalysis
    inline_null: SweepAnalysis
    shadow_null: SweepAnalysis
    topologies: Baseline
    alphas: Baseline
    gini: GiniStudy
    ccdfs: list[tails.Ccdf]
    collapsed: list[tails.Ccdf]
    time_average: float
    time_average_interval: Interval
    has_intervals: bool


def measure(
    study: Study,
    plan: Plan,
    executor: Executor | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Measure what the study does not hold yet of the paper's sweeps."""
    for runs in (plan.gini, plan.inline, plan.shadow):
        execute(study, xor.measure, runs, executor, progress)
    baselines = [run for sweep in plan.baselines for run in sweep]
    execute(study, synthetic.measure, baselines, executor, progress)


def gather(study: Study, plan: Plan, executor: Executor | None = None) -> Evidence:
    """Compute everything that is claimed, from a study that holds the plan's runs.

    Runs of the study that are not in the plan (other seeds, say) are left out. Sweeps are analysed
    on the executor, where there is one.

    Raises
    ------
    StudyError
        Where a run of the plan is missing.
    """
    inline = study.dataset_of([run.config() for run in plan.inline])
    shadow = study.dataset_of([run.config() for run in plan.shadow])
    default = SyntheticRun(5, 0)
    baselines = {
        (runs[0].topology, runs[0].alpha): study.dataset_of([run.config() for run in runs])
        for runs in plan.baselines
    }
    trained = (inline, shadow)
    gaussian = baselines[default.topology, default.alpha]
    nulls = (synthetic.matched(dataset, gaussian) for dataset in trained)
    each = map if executor is None else executor.map
    analyses = list(each(analyze, (*trained, *nulls)))
    topologies = {t: baselines[t, default.alpha] for t in BASELINE_TOPOLOGIES}
    alphas = {f"{a:g}": baselines[default.topology, a] for a in BASELINE_ALPHAS}
    ccdfs = tails.ccdfs(inline)
    curve = analyses[0].curves["max"].dimension
    return Evidence(
        inline=analyses[0],
        shadow=analyses[1],
        inline_null=analyses[2],
        shadow_null=analyses[3],
        topologies=_baseline(topologies),
        alphas=_baseline(alphas),
        gini=_gini_study(study.dataset_of([run.config() for run in plan.gini])),
        ccdfs=ccdfs,
        collapsed=tails.collapse(ccdfs, analyses[0].exponents["all", "max"].estimate),
        time_average=float(curve["exponent"].mean()),
        time_average_interval=percentile_interval(curve["exponent_resamples"].values.mean(axis=1)),
        has_intervals=plan.seeds >= FEWEST_RUNS,
    )


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
    groups = scaling.scale_groups(next(iter(sweeps.values())))
    n = np.array([n for n, _ in groups])
    # (variants, scales, seeds), the seeds in one order.
    log_sizes = np.log(
        [[sweep["size"].values[runs].mean(axis=1) for _, runs in groups] for sweep in sweeps.values()]
    )
    estimate = scaling.slopes(n, np.exp(log_sizes.mean(axis=2)))
    draws = run_resamples([log_sizes.shape[2]] * n.size)
    resampled_logs = np.stack(
        [log_sizes[:, scale, chosen].mean(axis=2) for scale, chosen in enumerate(draws)], axis=-1
    )
    resampled = scaling.slopes(n, np.exp(resampled_logs))  # (variants, B)
    return Baseline(
        tuple(sweeps),
        estimate,
        [percentile_interval(row) for row in resampled],
        scaling.slopes(n, np.exp(log_sizes.transpose(0, 2, 1))),
        float(estimate.mean()),
        percentile_interval(resampled.mean(axis=0)),
        resampled.mean(axis=0),
        float(scaling.coefficient_of_variation(estimate)),
        percentile_interval(scaling.coefficient_of_variation(resampled.T)),
    )
