"""What the paper's sweeps are, and everything that is measured on them; the claims only read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling, tails, transitions
from gradquake.analysis.resampling import (
    N_RESAMPLES,
    Interval,
    percentile_interval,
    run_resamples,
)
from gradquake.analysis.sweep import SweepAnalysis, analyze
from gradquake.analysis.transitions import Peaks
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
        The scales.
    """

    seeds: int = PAPER_SEEDS
    gini_seeds: int = GINI_SEEDS
    hidden: Sequence[int] = xor.PAPER_HIDDEN

    @property
    def inline(self) -> list[XorRun]:
        """The trained runs, the relaxed gradient feeding the update."""
        return xor.sweep(self.hidden, self.seeds)

    @property
    def shadow(self) -> list[XorRun]:
        """The same, trained as if there were no probe."""
        return xor.sweep(self.hidden, self.seeds, alpha_train=0.0)

    @property
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

    @property
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
    accuracy_band : Band
        Mean accuracy against the epoch.
    gini_band : Band
        Median Gini coefficient against the epoch minus t_g.
    """

    grokking_epochs: Floats
    peaks: Peaks
    accuracy: Floats
    gini: Floats
    accuracy_band: Band
    gini_band: Band


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the claims and the figures rest on."""

    inline: SweepAnalysis
    shadow: SweepAnalysis
    inline_null: SweepAnalysis
    shadow_null: SweepAnalysis
    topologies: Baseline
    alphas: Baseline
    gini: GiniStudy
    ccdfs: list[tails.Ccdf]


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


def gather(
    study: Study,
    plan: Plan,
    executor: Executor | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Evidence:
    """Compute everything that is claimed, from a study that holds the plan's runs.

    Runs of the study that are not in the plan (other seeds, say) are left out.
    """
    inline = study.dataset_of([run.config() for run in plan.inline])
    shadow = study.dataset_of([run.config() for run in plan.shadow])
    default = SyntheticRun(5, 0)
    mean_sizes = {}
    for runs in plan.baselines:
        dataset = study.dataset_of([run.config() for run in runs])
        mean_sizes[runs[0].topology, runs[0].alpha] = _mean_sizes(dataset, plan.seeds)
        if (runs[0].topology, runs[0].alpha) == (default.topology, default.alpha):
            gaussian = dataset
    trained = (inline, shadow)
    nulls = (synthetic.matched(dataset, gaussian) for dataset in trained)
    each = map if executor is None else executor.map
    analyses = list(each(partial(analyze, n_resamples=n_resamples, seed=seed), (*trained, *nulls)))
    n = np.array([run.n_parameters for run in plan.baselines[0]][:: plan.seeds])
    topologies = {t: mean_sizes[t, default.alpha] for t in BASELINE_TOPOLOGIES}
    alphas = {f"{a:g}": mean_sizes[default.topology, a] for a in BASELINE_ALPHAS}
    many = study.dataset_of([run.config() for run in plan.gini])
    return Evidence(
        inline=analyses[0],
        shadow=analyses[1],
        inline_null=analyses[2],
        shadow_null=analyses[3],
        topologies=_baseline(n, topologies, n_resamples, seed),
        alphas=_baseline(n, alphas, n_resamples, seed),
        gini=_gini_study(many),
        ccdfs=tails.ccdfs(inline, seed=seed),
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
        transitions.peaks(dataset),
        accuracy[0],
        gini[0],
        Band(epochs, accuracy.mean(axis=0), *np.quantile(accuracy, [0.25, 0.75], axis=0)),
        Band(offsets, np.median(aligned, axis=0), *np.quantile(aligned, [0.25, 0.75], axis=0)),
    )


def _mean_sizes(dataset: xr.Dataset, seeds: int) -> Floats:
    """Return the mean size of every synthetic run, shape (scales, seeds)."""
    means: Floats = dataset["size"].values.mean(axis=1).reshape(-1, seeds)
    return means


def _baseline(
    n: NDArray[np.int64], mean_sizes: Mapping[str, Floats], n_resamples: int, seed: int
) -> Baseline:
    """Return D_synth of variants; since a slope is linear in log size, seeds are averaged first."""
    log_sizes = np.log(np.stack(list(mean_sizes.values())))  # (variants, scales, seeds)
    estimate = scaling.slopes(n, np.exp(log_sizes.mean(axis=2)))
    draws = run_resamples([log_sizes.shape[2]] * n.size, n_resamples, seed)
    resampled_logs = np.stack(
        [log_sizes[:, scale, chosen].mean(axis=2) for scale, chosen in enumerate(draws)], axis=-1
    )
    resampled = scaling.slopes(n, np.exp(resampled_logs))  # (variants, B)
    spreads = scaling.coefficient_of_variation(resampled.T)
    return Baseline(
        tuple(mean_sizes),
        estimate,
        [percentile_interval(row) for row in resampled],
        scaling.slopes(n, np.exp(log_sizes.transpose(0, 2, 1))),
        float(estimate.mean()),
        percentile_interval(resampled.mean(axis=0)),
        resampled.mean(axis=0),
        float(scaling.coefficient_of_variation(estimate)),
        percentile_interval(spreads),
    )
