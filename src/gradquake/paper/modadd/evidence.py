"""Everything that is measured for modular addition; the claims and the figures only read it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gradquake.analysis import timing
from gradquake.analysis.collapse import Collapse, best_collapse
from gradquake.analysis.distributions import ccdfs
from gradquake.analysis.early_warning import Separation
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.snapshots import Band, mean_over_snapshots, quartile_band
from gradquake.analysis.statistics import Statistic
from gradquake.analysis.sweep import SweepAnalysis, analyze
from gradquake.avalanche.surrogates import RUNGS
from gradquake.experiments import modular_addition
from gradquake.paper.modadd.plan import ARCHITECTURES, CONDITIONS, CONTROLS, GROKKING, STUDY, Plan
from gradquake.paper.modadd.statements import Asked, Beside, Statements, statements_of
from gradquake.paper.modadd.views import (
    LEVELS,
    SHARED,
    Level,
    Subject,
    View,
    Views,
    first_reaching,
    views_of,
)
from gradquake.paper.modadd.warning import OF_SEED, WARNINGS, separation
from gradquake.study.execution import Progress, each, execute, silent
from gradquake.study.study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Evidence", "Found", "judged_on", "measure"]

# If the limit of steps ended more avalanches of a width than this share, even the median size of that
# width is no size of an avalanche, and there is no exponent.
MOST_TRUNCATED = 0.5

# A run lasts if its test accuracy stays at this value or above after it grokked.
LASTS_AT = 0.85


@dataclass(frozen=True, eq=False)
class Found:
    """The results of one architecture under one condition.

    Attributes
    ----------
    ladder : Ladder
        The exponents beside all nulls.
    levels : dict
        By ``Level``: the median over all runs of the first snapshot that reaches it; infinite if most
        runs never do.
    medians : dict
        By ``Level``: the median of each width.
    grokked : int
        The number of runs that reached a test accuracy of 0.9.
    lasted : int
        The number of these that stay at 0.85 or above from then on.
    bands : dict
        The accuracy over all runs by the name of its variable: the median, and the quartiles.
    views : dict
        By alignment and statistic. An alignment is missing if fewer than three widths have its event
        in at least half of their runs.
    truncated : dict
        By width, the share of avalanches that the limit of steps ended.
    collapse : Collapse
        Of the sizes of all snapshots.
    """

    ladder: Ladder
    levels: dict[Level, Estimate]
    medians: dict[Level, dict[int, float]]
    grokked: int
    lasted: int
    bands: dict[str, Band]
    views: Views
    truncated: dict[int, float]
    collapse: Collapse

    @property
    def runs(self) -> int:
        """The number of runs."""
        return int(self.ladder.real.dataset.sizes["run"])

    @property
    def untestable(self) -> str:
        """Why there is no exponent; empty if there is one."""
        share = max(self.truncated.values())
        if share <= MOST_TRUNCATED:
            return ""
        low = min(self.truncated.values())
        return f"the limit of steps ended {low:.0%} to {share:.0%} of the avalanches of a width"

    def view(self, alignment: str, statistic: Statistic) -> View | None:
        """Return D(t) on a kind of time; None if too few runs have its event."""
        return self.views.get(alignment, {}).get(statistic)

    def on_shared_epochs(self, statistic: Statistic) -> View:
        """Return D(t) on shared epochs."""
        return self.views[SHARED][statistic]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the claims on modular addition are judged on.

    Attributes
    ----------
    found : dict
        By architecture and condition.
    statements : dict
        By architecture and statistic the numbers that claims are judged by. Without those that need a
        condition whose avalanches are truncated.
    warnings : dict
        By architecture, control and name in ``WARNINGS``; NaN if no width has both kinds of runs.
        Without D of the seed if the avalanches are truncated.
    """

    found: dict[str, dict[str, Found]]
    statements: dict[str, Statements]
    warnings: dict[str, dict[str, dict[str, Separation]]]

    @property
    def subjects(self) -> Iterator[tuple[str, str, Found]]:
        """Every architecture with every condition, and what was found."""
        for architecture, of_each in self.found.items():
            for condition, found in of_each.items():
                yield architecture, condition, found

    def answer(self, architecture: str, statistic: Statistic, asked: Asked) -> Beside | None:
        """Return a number that claims are judged by; None if the sizes are truncated."""
        return self.statements[architecture].get(statistic, {}).get(asked)


def measure(
    plan: Plan,
    studies: Mapping[str, Study],
    executor: Executor | None = None,
    progress: Progress = silent,
) -> None:
    """Train and measure those runs of the plan that the study does not hold.

    Raises
    ------
    InputError
        If torch is not installed.
    """
    execute(studies[STUDY], modular_addition.measure, plan.runs, executor, progress)


def judged_on(
    plan: Plan,
    studies: Mapping[str, Study],
    executor: Executor | None = None,
    progress: Progress = silent,
) -> Evidence:
    """Analyze the plan's runs, which the studies hold.

    Raises
    ------
    StudyError
        If a run of the plan is missing.
    """
    progress("reading", 0, None)
    sweeps = _sweeps(plan, studies[STUDY])
    parts = [part for real, nulls in sweeps.values() for part in (real, *nulls.values())]
    analyses = each(analyze, parts, executor)
    ladders = {subject: _ladder(analyses) for subject in sweeps}
    views = views_of(
        {subject: (real, nulls["permuted"]) for subject, (real, nulls) in sweeps.items()}, executor
    )
    collapses = each(_collapse, [real for real, _ in sweeps.values()], executor)
    by_subject = {
        subject: _found(sweeps[subject][0], ladders[subject], views[subject], collapse)
        for subject, collapse in zip(sweeps, collapses, strict=True)
    }
    found = {a: {c: by_subject[a, c] for c in CONDITIONS} for a in ARCHITECTURES}
    progress("testing", 0, None)
    pairs = {
        a: {
            c: (sweeps[a, c][0], sweeps[a, c][1]["permuted"])
            for c in (GROKKING, *CONTROLS)
            if not found[a][c].untestable
        }
        for a in ARCHITECTURES
    }
    return Evidence(found, statements_of(pairs, executor), _warnings(sweeps, pairs, executor))


def _warnings(
    sweeps: Mapping[Subject, tuple[xr.Dataset, dict[str, xr.Dataset]]],
    testable: Mapping[str, Collection[str]],
    executor: Executor | None,
) -> dict[str, dict[str, dict[str, Separation]]]:
    """Return how well numbers separate the grokking runs from each control, one control at a time."""
    result: dict[str, dict[str, dict[str, Separation]]] = {}
    keys = [
        (a, control, name)
        for a, control, name in product(ARCHITECTURES, CONTROLS, WARNINGS)
        if name != OF_SEED or {GROKKING, control} <= set(testable[a])
    ]
    todo = [(sweeps[a, GROKKING][0], sweeps[a, control][0], name) for a, control, name in keys]
    for (a, control, name), found in zip(keys, each(separation, todo, executor), strict=True):
        result.setdefault(a, {}).setdefault(control, {})[name] = found
    return result


def _sweeps(plan: Plan, study: Study) -> dict[Subject, tuple[xr.Dataset, dict[str, xr.Dataset]]]:
    """Return the sweep of every subject, and its nulls by rung."""
    sweeps = {}
    for subject in product(ARCHITECTURES, CONDITIONS):
        configs = [run.config() for run in plan.sweep(*subject)]
        nulls = {r: study.dataset_of([{**c, "surrogate": r} for c in configs]) for r in RUNGS}
        sweeps[subject] = (study.dataset_of(configs), nulls)
    return sweeps


def _ladder(analyses: Iterator[SweepAnalysis]) -> Ladder:
    real = next(analyses)
    return Ladder(real, {rung: next(analyses) for rung in RUNGS})


def _collapse(sweep: xr.Dataset) -> Collapse:
    return best_collapse(ccdfs(sweep, None))


def _found(sweep: xr.Dataset, ladder: Ladder, views: Views, collapse: Collapse) -> Found:
    reached = {level: np.nan_to_num(first_reaching(sweep, level), nan=np.inf) for level in LEVELS}
    groups = scale_groups(sweep)
    widths = sweep["width"].values
    grokked = sweep["grokking_epoch"].values
    after = sweep["epoch"].values >= np.nan_to_num(grokked, nan=np.inf)[:, None]
    lowest = np.where(after, sweep["accuracy"].values, np.inf).min(axis=1)
    return Found(
        ladder=ladder,
        levels={level: timing.median_over_runs(sweep, epochs) for level, epochs in reached.items()},
        medians={
            level: {
                int(widths[runs[0]]): timing.median_over_runs(
                    sweep.isel(run=runs), epochs[runs], n_resamples=1
                ).value
                for _, runs in groups
            }
            for level, epochs in reached.items()
        },
        grokked=int(np.isfinite(grokked).sum()),
        lasted=int((np.isfinite(grokked) & (lowest >= LASTS_AT)).sum()),
        bands={
            name: quartile_band(sweep["epoch"].values, sweep[name].values)
            for name in ("train_accuracy", "accuracy")
        },
        views=views,
        truncated={
            int(widths[runs[0]]): mean_over_snapshots(sweep.isel(run=runs), "truncated").value
            for _, runs in groups
        },
        collapse=collapse,
    )
