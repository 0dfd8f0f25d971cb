"""Everything that is measured for the paper on XOR; the claims and the figures only read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import distributions, power, tails
from gradquake.analysis.dimension import Curve
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.power import Power
from gradquake.analysis.resampling import Estimate, estimated
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import SweepAnalysis, analyze
from gradquake.analysis.timing import PermutationTest, follows_grokking
from gradquake.avalanche.surrogates import RUNGS
from gradquake.errors import InputError
from gradquake.experiments import synthetic, xor
from gradquake.experiments.readings import Reading
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.paper.xor.baseline import Baseline, baseline
from gradquake.paper.xor.conditions import (
    INLINE,
    REGIMES,
    SHADOW,
    ConditionResult,
    Todo,
    examine,
    summarize,
)
from gradquake.paper.xor.gini import GiniStudy, gini_study
from gradquake.paper.xor.plan import (
    BASELINE_ALPHAS,
    BASELINE_TOPOLOGIES,
    PAPER_SEEDS,
    POWER_STUDY,
    STUDY,
    Plan,
)
from gradquake.scrutiny.measure import measure as measure_readings
from gradquake.scrutiny.scrutinize import Scrutiny, scrutinize
from gradquake.scrutiny.sensitivity import specify
from gradquake.scrutiny.topologies import OnTopology, on_topologies
from gradquake.study.execution import each, execute, unpacked
from gradquake.study.study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Evidence", "ManySeeds", "gather", "measure", "resampled_curves", "time_average"]

Floats = NDArray[np.float64]

# The numbers of runs a scale of which the power is measured.
POWER_COUNTS = (6, 12, 24, 50, 100, 200)


@dataclass(frozen=True, eq=False)
class ManySeeds:
    """A sweep of many seeds.

    Attributes
    ----------
    power : list of Power
        What smaller numbers of runs could tell.
    follows : dict
        By statistic, whether the rise of D follows t_g.
    ladder : Ladder
        The sweep beside its Gaussian and permuted nulls.
    """

    power: list[Power]
    follows: dict[Statistic, PermutationTest]
    ladder: Ladder


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the claims and the figures rest on.

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
        The fits to the sizes of every scale, inline and shadow.
    time_average : Estimate
        The mean of the inline D(t) of the largest size over the snapshots.
    conditions : list of ConditionResult
        The controls and interventions; inline and shadow training themselves come first.
    on_topologies : dict
        The inline and the shadow gradients on every topology; empty for a quick plan.
    specifications : xarray.Dataset or None
        The specification curve; None for a quick plan.
    many_seeds : dict
        The sweeps of many seeds, inline and shadow; empty for a quick plan.
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
    many_seeds: dict[str, ManySeeds]

    def condition(self, group: str, name: str) -> ConditionResult:
        """Return the result of a condition.

        Raises
        ------
        InputError
            If the condition was not measured.
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


def measure(
    plan: Plan,
    studies: Mapping[str, Study],
    executor: Executor | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Measure those runs of the plan that the studies do not hold.

    The many seeds have a study of their own, so ``STUDY`` holds only the sweeps that claims rest on.
    """
    study = studies[STUDY]
    for runs in plan.trained:
        execute(study, xor.measure, runs, executor, progress)
    baselines = [run for sweep in plan.baselines for run in sweep]
    execute(study, synthetic.measure, baselines, executor, progress)
    for runs in plan.power.values():
        execute(studies[POWER_STUDY], xor.measure, runs, executor, progress)


def gather(
    plan: Plan,
    studies: Mapping[str, Study],
    executor: Executor | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> Evidence:
    """Compute all evidence from studies that hold the plan's runs.

    Other runs in the studies (other seeds, say) are left out. Independent parts are computed on the
    executor, if there is one; ``progress`` is called with the name of each stage.

    Raises
    ------
    StudyError
        If a run of the plan is missing.
    """
    study = studies[STUDY]
    progress("nulls")
    inline, shadow = _sweep(study, plan.inline), _sweep(study, plan.shadow)
    scrutinies = [scrutinize(sweep, RUNGS, executor) for sweep in (inline, shadow)]
    progress("conditions")
    # The paper's own two ways to train already stand beside their nulls.
    results = [
        summarize(Todo("alpha_train", name, sweep, shadow), scrutiny.ladder)
        for name, sweep, scrutiny in zip((INLINE, SHADOW), (inline, shadow), scrutinies, strict=True)
    ]
    others = _conditions(plan, study, inline, shadow)
    results += each(examine, others, executor)
    ccdfs, analysis = distributions.ccdfs(inline), scrutinies[0].ladder.real
    modes = {"inline": inline, "shadow": shadow}
    beyond = (
        _Beyond()
        if plan.quick
        else _beyond(plan, studies[POWER_STUDY], modes, others, executor, progress)
    )
    topologies, alphas = _baselines(plan, study)
    return Evidence(
        inline_scrutiny=scrutinies[0],
        shadow_scrutiny=scrutinies[1],
        topologies=topologies,
        alphas=alphas,
        gini=gini_study(_sweep(study, plan.gini)),
        ccdfs=ccdfs,
        collapsed=distributions.collapse(ccdfs, analysis.exponent("all", "max").value),
        tails=dict(zip(modes, each(tails.tail_fits, modes.values(), executor), strict=True)),
        time_average=time_average(analysis),
        conditions=results,
        on_topologies=beyond.on_topologies,
        specifications=beyond.specifications,
        many_seeds=beyond.many_seeds,
    )


def time_average(analysis: SweepAnalysis) -> Estimate:
    """Return the mean of D(t) of the largest size over the snapshots."""
    curve = analysis.curves["max"]
    exponents, _ = resampled_curves(curve)
    observed = float(curve.dimension["value"].mean())
    return estimated(observed, exponents.mean(axis=1), curve.dimension.attrs["fewest_runs"])


def resampled_curves(curve: Curve) -> tuple[Floats, Floats]:
    """Return D(t) and R² in every resample, (B, epochs) each: the paper's sweeps have 51 snapshots."""
    blocks = list(curve.resampled())
    return (
        np.concatenate([block.exponents for block in blocks], axis=1),
        np.concatenate([block.r_squared for block in blocks], axis=1),
    )


def _sweep(study: Study, runs: Sequence[XorRun | SyntheticRun]) -> xr.Dataset:
    return study.dataset_of([run.config() for run in runs])


@dataclass(frozen=True, eq=False)
class _Beyond:
    """The fields of ``Evidence`` that no claim rests on."""

    on_topologies: dict[str, list[OnTopology]] = field(default_factory=dict)
    specifications: xr.Dataset | None = None
    many_seeds: dict[str, ManySeeds] = field(default_factory=dict)


def _beyond(
    plan: Plan,
    study: Study,
    modes: Mapping[str, xr.Dataset],
    others: Sequence[Todo],
    executor: Executor | None,
    progress: Callable[[str], object],
) -> _Beyond:
    progress("topologies")
    on_each = {mode: on_topologies(sweep, executor) for mode, sweep in modes.items()}
    progress("choices")
    regimes = [todo.sweep for todo in others if todo.group in REGIMES]
    sweeps = [
        _paper_seeds(sweep)
        for own in (modes["shadow"], modes["inline"])
        for sweep in (own, *(r for r in regimes if r.attrs["alpha_train"] == own.attrs["alpha_train"]))
    ]
    table = specify(sweeps, executor)
    progress("power")
    many = {mode: _many_seeds(_sweep(study, runs), executor) for mode, runs in plan.power.items()}
    return _Beyond(on_each, table, many)


def _conditions(plan: Plan, study: Study, inline: xr.Dataset, shadow: xr.Dataset) -> list[Todo]:
    todo = []
    for condition in plan.conditions:
        sweep = _sweep(study, plan.condition(condition))
        # Controls do not learn as XOR does. Each is split at the t_g of XOR, trained in the same mode.
        own_mode = shadow if sweep.attrs["alpha_train"] == 0 else inline
        twin = own_mode if condition.group == "control" else None
        todo.append(Todo(condition.group, condition.name, sweep, shadow, twin))
    return todo


def _baselines(plan: Plan, study: Study) -> tuple[Baseline, Baseline]:
    """Return the synthetic baseline over topologies and over alphas."""
    default = SyntheticRun(5, 0)
    sweeps = {(runs[0].topology, runs[0].alpha): _sweep(study, runs) for runs in plan.baselines}
    topologies = {topology: sweeps[topology, default.alpha] for topology in BASELINE_TOPOLOGIES}
    alphas = {f"{alpha:g}": sweeps[default.topology, alpha] for alpha in BASELINE_ALPHAS}
    return baseline(topologies), baseline(alphas)


def _paper_seeds(sweep: xr.Dataset) -> xr.Dataset:
    """Return the paper's seeds of a sweep: the specification curve is measured on these."""
    return sweep.isel(run=np.flatnonzero(sweep["seed"].values < PAPER_SEEDS))


def _many_seeds(sweep: xr.Dataset, executor: Executor | None) -> ManySeeds:
    names = ("gaussian", "permuted")
    measured = measure_readings(sweep, [Reading(name) for name in names], executor)
    nulls = {name: measured[Reading(name)] for name in names}
    found = _power(sweep, nulls, executor)
    real, *beside = each(analyze, [sweep, *nulls.values()], executor)
    tests = each(unpacked(follows_grokking), [(sweep, statistic) for statistic in STATISTICS], executor)
    ladder = Ladder(real, dict(zip(names, beside, strict=True)))
    return ManySeeds(found, dict(zip(STATISTICS, tests, strict=True)), ladder)


def _power(sweep: xr.Dataset, nulls: Mapping[str, xr.Dataset], executor: Executor | None) -> list[Power]:
    available = int((sweep["n_parameters"] == sweep["n_parameters"][0]).sum())
    counts = [count for count in POWER_COUNTS if count <= available]
    # The largest first, since they take longest.
    todo = [(sweep, nulls, [count]) for count in reversed(counts)]
    found = list(each(unpacked(power.power), todo, executor))
    return [power for of_count in reversed(found) for power in of_count]
