"""The paper's networks under other conditions: controls, interventions, other thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradquake.analysis.dimension import Curve
from gradquake.analysis.ladder import SPANS, Ladder, Span
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.scales import same_runs
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import analyze
from gradquake.analysis.timing import median_grokking_epoch, median_over_runs
from gradquake.analysis.transitions import GrokkingEpochs, Phase, grokking_epochs
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import InputError
from gradquake.experiments import xor
from gradquake.experiments.readings import Reading
from gradquake.experiments.xor import XorRun
from gradquake.scrutiny.measure import measure

if TYPE_CHECKING:
    import xarray as xr

Group = Literal["control", "alpha_train", "topology_train", "quantile", "own graph"]

# The names of the paper's own two ways to train among those of alpha_train.
INLINE, SHADOW = "0.3", "0"

# Too small to learn anything in 500 epochs.
TINY_LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Condition:
    """One way to train the paper's networks, other than the paper's.

    Attributes
    ----------
    group : str
        What it belongs to.
    name : str
        What is different.
    settings : dict
        Of ``XorRun``.
    """

    group: Group
    name: str
    settings: dict[str, Any]

    def runs(self, hidden: Sequence[int], seeds: int) -> list[XorRun]:
        """Return the runs of this condition."""
        return xor.sweep(hidden, seeds, **self.settings)


def conditions() -> list[Condition]:
    """Return every condition, but the paper's own inline and shadow training."""
    probe = XorRun(1, 0)
    modes: dict[str, dict[str, Any]] = {"inline": {}, "shadow": {"alpha_train": 0.0}}
    controls: dict[str, dict[str, Any]] = {
        "AND": {"task": "and"},
        "constant labels": {"task": "constant"},
        "tiny learning rate": {"learning_rate": TINY_LEARNING_RATE},
    }
    found = [
        Condition("control", f"{control}, {mode}", {**settings, **how})
        for control, settings in controls.items()
        for mode, how in modes.items()
    ]
    found += [
        Condition("alpha_train", f"{alpha:g}", {"alpha_train": alpha}) for alpha in (0.1, 0.2, 0.4, 0.5)
    ]
    found += [
        Condition("topology_train", topology, {"topology_train": topology})
        for topology in TOPOLOGIES
        if topology != probe.topology
    ]
    found.append(Condition("topology_train", "permuted", {"permute_train": True}))
    found += [Condition("quantile", f"{q:.2f}", {"quantile": q}) for q in (0.80, 0.85, 0.95)]
    found.append(Condition("own graph", "computational, inline", {"topology": "computational"}))
    return found


@dataclass(frozen=True, eq=False)
class ConditionResult:
    """What was measured under one condition.

    Attributes
    ----------
    group, name : str
    n_runs, n_grokked : int
    grokking : Estimate
        The median t_g of all runs.
    by_scale : list of GrokkingEpochs
        t_g at every scale.
    delay : Estimate
        The median over runs of t_g minus that of the shadow run of the same size and seed; 0 in a run
        where neither ever grokked.
    exponents : dict
        By (rung or "real", phase, statistic).
    arrangement : dict
        D_real - D_permuted by (span, statistic): phases and "rise".
    rise : dict
        D_post - D_pre by statistic.
    curves : dict
        D(t) of the data by statistic. Nothing here carries its resamples, which nobody needs any more.
    crossing_of_null : dict
        When D(t) rises above that of the permuted null, by statistic.
    """

    group: str
    name: str
    n_runs: int
    n_grokked: int
    grokking: Estimate
    by_scale: list[GrokkingEpochs]
    delay: Estimate
    exponents: dict[tuple[str, Phase, Statistic], Exponent]
    arrangement: dict[tuple[Span, Statistic], Estimate]
    rise: dict[Statistic, Estimate]
    curves: dict[Statistic, Curve]
    crossing_of_null: dict[Statistic, Estimate]


@dataclass(frozen=True, eq=False)
class Todo:
    """A condition's sweep, with the shadow sweep that it is held against.

    Attributes
    ----------
    twin : xarray.Dataset or None
        The XOR sweep at whose t_g, run by run, the phases are split; without it at the sweep's own.
    """

    group: str
    name: str
    sweep: xr.Dataset
    shadow: xr.Dataset
    twin: xr.Dataset | None = None


def examine(todo: Todo) -> ConditionResult:
    """Measure a condition beside its permuted null.

    Raises
    ------
    InputError
        Where the sweeps are not of the same sizes and seeds.
    """
    sweep = todo.sweep
    for other in (todo.shadow, sweep if todo.twin is None else todo.twin):
        if not same_runs(sweep, other):
            raise InputError(
                f"the condition {todo.name} has other sizes, seeds or epochs than its twin; they "
                f"must be "
                "equal"
            )
    if todo.twin is not None:
        sweep = sweep.assign_coords(grokking_epoch=("run", todo.twin["grokking_epoch"].values))
    measured = measure(sweep, [Reading(), Reading("permuted")])
    real, null = (analyze(dataset) for dataset in measured.values())
    return summarize(todo, Ladder(real, {"permuted": null}))


def summarize(todo: Todo, ladder: Ladder) -> ConditionResult:
    """Return the result of a condition whose sweep stands beside its permuted null already."""
    reached = todo.sweep["grokking_epoch"]
    return ConditionResult(
        todo.group,
        todo.name,
        reached.size,
        int(np.isfinite(reached.values).sum()),
        median_grokking_epoch(todo.sweep).slim(),
        grokking_epochs(todo.sweep),
        _delay(todo.sweep, todo.shadow).slim(),
        {
            (rung, phase, statistic): exponent.slim()
            for rung, analysis in (("real", ladder.real), ("permuted", ladder.nulls["permuted"]))
            for phase, of_phase in analysis.exponents.items()
            for statistic, exponent in of_phase.items()
        },
        {(span, s): ladder.arrangement(span, s).slim() for span in SPANS for s in STATISTICS},
        {s: ladder.rise("real", s).slim() for s in STATISTICS},
        {statistic: curve.slim() for statistic, curve in ladder.real.curves.items()},
        {s: ladder.crossing_of_null("permuted", s).slim() for s in STATISTICS},
    )


def _delay(sweep: xr.Dataset, shadow: xr.Dataset) -> Estimate:
    late, early = (d["grokking_epoch"].fillna(np.inf).values for d in (sweep, shadow))
    with np.errstate(invalid="ignore"):
        delay = late - early
    delay[np.isnan(delay)] = 0.0  # neither ever grokked
    return median_over_runs(sweep, delay)
