"""Everything that is measured for the paper on XOR; the claims and the figures only read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradquake.analysis import distributions, tails
from gradquake.analysis.baseline import Baseline, baseline
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.avalanche.surrogates import RUNGS
from gradquake.errors import InputError
from gradquake.experiments import synthetic, xor
from gradquake.experiments.readings import Reading
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
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
from gradquake.paper.xor.many_seeds import ManySeeds, many_seeds
from gradquake.paper.xor.plan import (
    BASELINE_ALPHAS,
    BASELINE_TOPOLOGIES,
    PAPER_SEEDS,
    STUDY,
    Plan,
)
from gradquake.paper.xor.six_seeds import SixSeeds, six_seeds
from gradquake.paper.xor.sweeps import ClaimSweeps, Sweep
from gradquake.scrutiny.criticality import Critical, criticality
from gradquake.scrutiny.imprint import is_trained_on_its_graph
from gradquake.scrutiny.measure import measure as measure_readings
from gradquake.scrutiny.scrutinize import Scrutiny, scrutinize
from gradquake.scrutiny.sensitivity import specify
from gradquake.scrutiny.topologies import OnTopology, on_topologies
from gradquake.study.execution import Progress, each, execute, silent
from gradquake.study.study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Evidence", "gather", "judged_on", "measure"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the claims and the figures rest on.

    Attributes
    ----------
    sweeps : ClaimSweeps
        What the claims are judged on.
    six_seeds : SixSeeds
        What studies with six seeds see of the in-line sweep.
    inline_scrutiny, shadow_scrutiny : Scrutiny
        The trained sweeps with the paper's six seeds, beside their ladder of nulls.
    topologies, alphas : Baseline
        The synthetic baseline over the topologies and over alpha.
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
    criticality : dict
        The answers of the inline and the shadow gradients to kicks on every topology; empty for a quick
        plan.
    """

    sweeps: ClaimSweeps
    six_seeds: SixSeeds
    inline_scrutiny: Scrutiny
    shadow_scrutiny: Scrutiny
    topologies: Baseline
    alphas: Baseline
    ccdfs: list[distributions.Ccdf]
    collapsed: list[distributions.Ccdf]
    tails: dict[str, list[tails.TailFit]]
    time_average: Estimate
    conditions: list[ConditionResult]
    on_topologies: dict[str, list[OnTopology]]
    specifications: xr.Dataset | None
    many_seeds: dict[str, ManySeeds]
    criticality: dict[str, list[Critical]]

    def condition(self, **settings: Any) -> ConditionResult:
        """Return the result with these settings of ``XorRun``, and the paper's for all others.

        Raises
        ------
        InputError
            If such a condition was not measured.
        """
        wanted = XorRun(1, 0, **settings)
        for result in self.conditions:
            if result.condition.run == wanted:
                return result
        there = "; ".join(_settings_text(result.condition.settings) for result in self.conditions)
        raise InputError(f"no condition has {_settings_text(settings)}; there are {there}")

    def varied(self, *names: str) -> list[ConditionResult]:
        """Return the results whose settings differ from the paper's in none but these."""
        return [result for result in self.conditions if result.condition.settings.keys() <= {*names}]

    @property
    def gini(self) -> GiniStudy:
        """The many seeds of the representative size."""
        return self.sweeps.gini

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
    progress: Progress = silent,
) -> None:
    """Measure those runs of the plan that the study does not hold."""
    study = studies[STUDY]
    for runs in plan.trained:
        execute(study, xor.measure, runs, executor, progress)
    baselines = [run for sweep in plan.baselines for run in sweep]
    execute(study, synthetic.measure, baselines, executor, progress)


def judged_on(
    plan: Plan,
    studies: Mapping[str, Study],
    executor: Executor | None = None,
    progress: Progress = silent,
) -> ClaimSweeps:
    """Return the sweeps that claims are judged on, beside their nulls.

    Raises
    ------
    StudyError
        If a run of the plan is missing.
    """
    study = studies[STUDY]
    progress("nulls", 0, None)
    inline, shadow = (
        _beside(_sweep(study, runs), ("gaussian", "permuted"), executor)
        for runs in (plan.inline, plan.shadow)
    )
    thresholds = {
        q: inline if runs is plan.inline else _beside(_sweep(study, runs), ("permuted",), executor)
        for q, runs in plan.thresholds.items()
    }
    topologies, alphas = _baselines(plan, study)
    gini = gini_study(_sweep(study, plan.gini))
    return ClaimSweeps(inline, shadow, thresholds, topologies, alphas, gini)


def gather(
    plan: Plan,
    studies: Mapping[str, Study],
    sweeps: ClaimSweeps,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> Evidence:
    """Compute all evidence from studies that hold the plan's runs.

    Other runs in the studies (other seeds, say) are left out. Independent parts are computed on the
    executor, if there is one; ``progress`` is told of each stage.

    Raises
    ------
    StudyError
        If a run of the plan is missing.
    """
    study = studies[STUDY]
    progress("ladders", 0, None)
    inline, shadow = (_of_the_paper(of.real) for of in (sweeps.inline, sweeps.shadow))
    scrutinies = [scrutinize(sweep, RUNGS, executor) for sweep in (inline, shadow)]
    progress("conditions", 0, None)
    # The paper's own two ways to train already stand beside their nulls.
    results = [
        summarize(Todo(condition, sweep, shadow), scrutiny.ladder)
        for condition, sweep, scrutiny in zip(
            (INLINE, SHADOW), (inline, shadow), scrutinies, strict=True
        )
    ]
    others = _conditions(plan, study, inline, shadow)
    results += each(examine, others, executor)
    ccdfs, analysis = distributions.ccdfs(inline), scrutinies[0].ladder.real
    modes = {"inline": inline, "shadow": shadow}
    beyond = _Beyond() if plan.quick else _beyond(sweeps, modes, others, executor, progress)
    return Evidence(
        sweeps=sweeps,
        six_seeds=six_seeds(sweeps.inline),
        inline_scrutiny=scrutinies[0],
        shadow_scrutiny=scrutinies[1],
        topologies=baseline(sweeps.topologies),
        alphas=baseline({f"{alpha:g}": sweep for alpha, sweep in sweeps.alphas.items()}),
        ccdfs=ccdfs,
        collapsed=distributions.collapse(ccdfs, analysis.exponent("all", "max").value),
        tails=dict(zip(modes, each(tails.tail_fits, modes.values(), executor), strict=True)),
        time_average=analysis.curves["max"].average(),
        conditions=results,
        on_topologies=beyond.on_topologies,
        specifications=beyond.specifications,
        many_seeds=beyond.many_seeds,
        criticality=beyond.criticality,
    )


def _beside(sweep: xr.Dataset, rungs: Sequence[str], executor: Executor | None) -> Sweep:
    """Return a sweep beside nulls; one trained in-line also on an independent graph."""
    elsewhere = ("real", "permuted") if "gaussian" in rungs and is_trained_on_its_graph(sweep) else ()
    own = {rung: Reading(rung) for rung in rungs}
    apart = {rung: Reading(rung, independent_graph=True) for rung in elsewhere}
    measured = measure_readings(sweep, [*own.values(), *apart.values()], executor)
    nulls, independent = ({r: measured[of] for r, of in named.items()} for named in (own, apart))
    return Sweep(sweep, nulls, independent)


def _settings_text(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "the paper's settings"


def _sweep(study: Study, runs: Sequence[XorRun | SyntheticRun]) -> xr.Dataset:
    return study.dataset_of([run.config() for run in runs])


@dataclass(frozen=True, eq=False)
class _Beyond:
    """The fields of ``Evidence`` that no claim rests on."""

    on_topologies: dict[str, list[OnTopology]] = field(default_factory=dict)
    specifications: xr.Dataset | None = None
    many_seeds: dict[str, ManySeeds] = field(default_factory=dict)
    criticality: dict[str, list[Critical]] = field(default_factory=dict)


def _beyond(
    sweeps: ClaimSweeps,
    modes: Mapping[str, xr.Dataset],
    others: Sequence[Todo],
    executor: Executor | None,
    progress: Progress,
) -> _Beyond:
    progress("topologies", 0, None)
    on_each = {mode: on_topologies(sweep, executor) for mode, sweep in modes.items()}
    progress("choices", 0, None)
    regimes = [todo.sweep for todo in others if todo.condition.group in REGIMES]
    chosen = [
        sweep
        for own in (modes["shadow"], modes["inline"])
        for sweep in (own, *(r for r in regimes if r.attrs["alpha_train"] == own.attrs["alpha_train"]))
    ]
    table = specify(chosen, executor)
    progress("power", 0, None)
    many = {
        mode: many_seeds(of, executor)
        for mode, of in (("inline", sweeps.inline), ("shadow", sweeps.shadow))
    }
    progress("kicks", 0, None)
    kicked = {mode: criticality(sweep, executor) for mode, sweep in modes.items()}
    return _Beyond(on_each, table, many, kicked)


def _conditions(plan: Plan, study: Study, inline: xr.Dataset, shadow: xr.Dataset) -> list[Todo]:
    todo = []
    for condition in plan.conditions:
        sweep = _sweep(study, plan.condition(condition))
        # Controls do not learn as XOR does. Each is split at the t_g of XOR, trained in the same mode.
        own_mode = shadow if condition.run.alpha_train == 0 else inline
        todo.append(Todo(condition, sweep, shadow, own_mode if condition.is_control else None))
    return todo


def _baselines(plan: Plan, study: Study) -> tuple[dict[str, xr.Dataset], dict[float, xr.Dataset]]:
    """Return the Gaussian baseline by topology and by alpha."""
    default = SyntheticRun(5, 0)
    sweeps = {(runs[0].topology, runs[0].alpha): _sweep(study, runs) for runs in plan.baselines}
    topologies = {topology: sweeps[topology, default.alpha] for topology in BASELINE_TOPOLOGIES}
    return topologies, {alpha: sweeps[default.topology, alpha] for alpha in BASELINE_ALPHAS}


def _of_the_paper(sweep: xr.Dataset) -> xr.Dataset:
    """Return the paper's seeds of a sweep."""
    return sweep.isel(run=np.flatnonzero(sweep["seed"].values < PAPER_SEEDS))
