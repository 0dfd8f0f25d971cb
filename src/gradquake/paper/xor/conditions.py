"""The paper's networks under other conditions: controls, interventions, other thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
from gradquake.avalanche.surrogates import REAL
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import InputError
from gradquake.experiments import xor
from gradquake.experiments.readings import Reading
from gradquake.experiments.xor import XorRun
from gradquake.scrutiny.imprint import has_independent_graph, is_trained_on_its_graph
from gradquake.scrutiny.measure import measure

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "CONTROLS", "INLINE", "MODES", "REGIMES", "SHADOW", "Condition", "ConditionResult", "Todo",
    "conditions", "examine", "summarize",
]  # fmt: skip

Group = Literal[
    "control", "alpha_train", "topology_train", "quantile", "own graph", "learning_rate", "activation",
    "initialization",
]  # fmt: skip
Settings = Mapping[str, object]

# Too small to learn anything in 500 epochs.
TINY_LEARNING_RATE = 1e-4

# The paper's own two ways to train.
MODES: dict[str, Settings] = {"inline": {}, "shadow": {"alpha_train": 0.0}}
CONTROLS: dict[str, Settings] = {
    "AND": {"task": "and"},
    "constant labels": {"task": "constant"},
    "tiny learning rate": {"learning_rate": TINY_LEARNING_RATE},
}

# Other ways to train. With 10/h, learning rate times sharpness is alike at all sizes, and below 1; with
# the paper's 0.5, it grows from 0.6 to 10.
REGIMES: dict[Group, tuple[object, ...]] = {
    "learning_rate": ("10/h", 0.05),
    "activation": ("relu", "gelu", "sigmoid"),
    "initialization": ("xavier_normal", "kaiming_normal"),
}


@dataclass(frozen=True)
class Condition:
    """One way to train the paper's networks.

    Attributes
    ----------
    group : str
        The setting that differs from the paper's, or "control"; for a reader.
    name : str
        The value of that setting; for a reader.
    settings : mapping
        The settings of ``XorRun`` that differ from the paper's. A condition is found by these.
    """

    group: Group
    name: str
    settings: Settings

    def runs(self, hidden: Sequence[int], seeds: int) -> list[XorRun]:
        """Return the runs of this condition."""
        return xor.sweep(hidden, seeds, **self.settings)

    @property
    def run(self) -> XorRun:
        """A run of this condition: all its settings, of the smallest network and the first seed."""
        return XorRun(1, 0, **self.settings)  # type: ignore[arg-type]

    @property
    def is_control(self) -> bool:
        """Whether the networks do not learn as XOR does."""
        return any(settings.items() <= self.settings.items() for settings in CONTROLS.values())


INLINE = Condition("alpha_train", "0.3", MODES["inline"])
SHADOW = Condition("alpha_train", "0", MODES["shadow"])


def conditions() -> list[Condition]:
    """Return every condition except the paper's own in-line and shadow training."""
    found = [
        Condition("control", f"{control}, {mode}", {**settings, **how})
        for control, settings in CONTROLS.items()
        for mode, how in MODES.items()
    ]
    found += [
        Condition("alpha_train", f"{alpha:g}", {"alpha_train": alpha}) for alpha in (0.1, 0.2, 0.4, 0.5)
    ]
    found += [
        Condition("topology_train", topology, {"topology_train": topology})
        for topology in TOPOLOGIES
        if topology != INLINE.run.topology
    ]
    found.append(Condition("topology_train", "permuted", {"permute_train": True}))
    found += [Condition("quantile", f"{q:.2f}", {"quantile": q}) for q in (0.80, 0.85, 0.95)]
    found += [
        Condition(setting, f"{value}, {mode}", {setting: value, **how})
        for setting, values in REGIMES.items()
        for value in values
        for mode, how in MODES.items()
    ]
    found.append(Condition("own graph", "computational, inline", {"topology": "computational"}))
    return found


@dataclass(frozen=True, eq=False)
class ConditionResult:
    """The result of one condition. It carries no resamples.

    Attributes
    ----------
    condition : Condition
    n_runs, n_grokked : int
    grokking : Estimate
        The median t_g of all runs.
    by_scale : list of GrokkingEpochs
        t_g at every scale.
    delay : Estimate
        The median over runs of t_g minus that of the shadow run of the same size and seed; 0 for a run
        if neither ever grokked.
    exponents : dict
        Of the data, by phase and statistic.
    arrangements : dict
        D_real - D_permuted by phase or "rise", and statistic; on an independent graph if the runs were
        trained on the graph that they were measured on.
    rise : dict
        D_post - D_pre by statistic.
    curves : dict
        D(t) of the data by statistic.
    crossing_of_null : dict
        When D(t) rises above that of the permuted null, by statistic.
    """

    condition: Condition
    n_runs: int
    n_grokked: int
    grokking: Estimate
    by_scale: list[GrokkingEpochs]
    delay: Estimate
    exponents: dict[Phase, dict[Statistic, Exponent]]
    arrangements: dict[Span, dict[Statistic, Estimate]]
    rise: dict[Statistic, Estimate]
    curves: dict[Statistic, Curve]
    crossing_of_null: dict[Statistic, Estimate]

    def exponent(self, phase: Phase, statistic: Statistic) -> Exponent:
        """Return an exponent of the data."""
        return self.exponents[phase][statistic]

    def arrangement(self, span: Span, statistic: Statistic) -> Estimate:
        """Return D_real - D_permuted, paired: due to the arrangement of the entries on the graph."""
        return self.arrangements[span][statistic]


@dataclass(frozen=True, eq=False)
class Todo:
    """A condition's sweep, with the shadow sweep that it is compared with.

    Attributes
    ----------
    condition : Condition
    sweep, shadow : xarray.Dataset
        Sweeps of the same sizes and seeds.
    twin : xarray.Dataset or None
        An XOR sweep. The phases of each run are split at the t_g of the same run of ``twin``, or at the
        run's own t_g for None.
    """

    condition: Condition
    sweep: xr.Dataset
    shadow: xr.Dataset
    twin: xr.Dataset | None = None


def examine(todo: Todo) -> ConditionResult:
    """Measure a condition beside its permuted null.

    Raises
    ------
    InputError
        If the sweeps do not have the same sizes, seeds and epochs.
    """
    sweep = todo.sweep
    for other in (todo.shadow, sweep if todo.twin is None else todo.twin):
        if not same_runs(sweep, other):
            raise InputError(
                f"the condition {todo.condition.name} has other sizes, seeds or epochs than its twin; "
                "they must be equal"
            )
    if todo.twin is not None:
        sweep = sweep.assign_coords(grokking_epoch=("run", todo.twin["grokking_epoch"].values))
    apart = is_trained_on_its_graph(sweep) and has_independent_graph(sweep)
    graphs = (None, True) if apart else (None,)
    names = (REAL, "permuted")
    measured = measure(sweep, [Reading(n, independent_graph=graph) for graph in graphs for n in names])
    analyses = [analyze(dataset) for dataset in measured.values()]
    independent = Ladder(analyses[2], {"permuted": analyses[3]}) if apart else None
    return summarize(todo, Ladder(analyses[0], {"permuted": analyses[1]}, independent))


def summarize(todo: Todo, ladder: Ladder) -> ConditionResult:
    """Return the result of a condition whose sweep was measured beside its permuted null."""
    reached = todo.sweep["grokking_epoch"]
    return ConditionResult(
        condition=todo.condition,
        n_runs=reached.size,
        n_grokked=int(np.isfinite(reached.values).sum()),
        grokking=median_grokking_epoch(todo.sweep).slim(),
        by_scale=grokking_epochs(todo.sweep),
        delay=_delay(todo.sweep, todo.shadow).slim(),
        exponents={
            phase: {statistic: exponent.slim() for statistic, exponent in of_phase.items()}
            for phase, of_phase in ladder.real.exponents.items()
        },
        arrangements={
            span: {s: ladder.arrangement(span, s).slim() for s in STATISTICS} for span in SPANS
        },
        rise={s: ladder.rise("real", s).slim() for s in STATISTICS},
        curves={statistic: curve.slim() for statistic, curve in ladder.real.curves.items()},
        crossing_of_null={s: ladder.crossing_of_null("permuted", s).slim() for s in STATISTICS},
    )


def _delay(sweep: xr.Dataset, shadow: xr.Dataset) -> Estimate:
    late, early = (d["grokking_epoch"].fillna(np.inf).values for d in (sweep, shadow))
    with np.errstate(invalid="ignore"):
        delay = late - early
    delay[np.isnan(delay)] = 0.0  # neither ever grokked
    return median_over_runs(sweep, delay)
