"""The runs of the reproduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gradquake.analysis.resampling import FEWEST_RUNS
from gradquake.analysis.scales import FEWEST_SCALES
from gradquake.errors import InputError, require_count
from gradquake.experiments import xor
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.paper.xor.conditions import Condition, conditions

__all__ = [
    "BASELINE_ALPHAS", "BASELINE_TOPOLOGIES", "GINI_HIDDEN", "GINI_SEEDS", "MANY_SEEDS", "MORE_PLATES",
    "PAPER_SEEDS", "PLATES", "QUANTILES", "STUDY", "Plan", "plan",
]  # fmt: skip

# The study file.
STUDY = "study.sqlite"

# The figures, and those that a quick plan has no evidence for.
PLATES = ("figure1", "figure2", "figure3", "ladder", "aligned")
MORE_PLATES = ("controls", "intervention", "topologies", "power", "kicks", "specifications")

# Seeds of the paper, and those from which its six-seed numbers are estimated.
PAPER_SEEDS = 6
MANY_SEEDS = 200

GINI_SEEDS = 1000
GINI_HIDDEN = 21

BASELINE_TOPOLOGIES = ("ring", "small_world_0.05", "small_world_0.2", "barabasi_albert", "erdos_renyi")
BASELINE_ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5)

# The quantiles of the threshold in training.
QUANTILES = (0.80, 0.85, 0.90, 0.95)


@dataclass(frozen=True)
class Plan:
    """The runs of the paper.

    Parameters
    ----------
    seeds : int
        Seeds a scale in the sweeps that claims are judged on, at least 1. Everything else has the
        paper's six of them, or all if there are fewer.
    gini_seeds : int
        Seeds of the Gini study.
    hidden : sequence of int
        The scales: at least three for a quick plan, else at least four.
    quick : bool
        Whether to leave out everything that no claim rests on: controls, interventions, topologies, the
        specification curve and power.

    Raises
    ------
    InputError
        For fewer seeds or scales.
    """

    seeds: int = MANY_SEEDS
    gini_seeds: int = GINI_SEEDS
    hidden: Sequence[int] = xor.PAPER_HIDDEN
    quick: bool = False

    def __post_init__(self) -> None:
        require_count("seeds", self.seeds, 1)
        require_count("gini_seeds", self.gini_seeds, 1)
        # The specification curve, which a quick plan leaves out, fits without each of the scales.
        fewest = FEWEST_SCALES + (not self.quick)
        if not len(set(self.hidden)) >= fewest:
            raise InputError(f"hidden is {self.hidden}; at least {fewest} different sizes are needed")

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of the study files."""
        return (STUDY,)

    @property
    def has_intervals(self) -> bool:
        """Whether every size has enough runs to resample."""
        return self.seeds >= FEWEST_RUNS

    @property
    def first_look(self) -> Plan | None:
        """The claims with the paper's six seeds alone; None if there are no more."""
        if self.seeds <= PAPER_SEEDS:
            return None
        return replace(self, seeds=PAPER_SEEDS, quick=True)

    @property
    def paper_seeds(self) -> int:
        """Seeds a scale in everything that no claim rests on."""
        return min(self.seeds, PAPER_SEEDS)

    @property
    def plates(self) -> tuple[str, ...]:
        """The names of the figures."""
        return PLATES if self.quick else PLATES + MORE_PLATES

    @cached_property
    def inline(self) -> list[XorRun]:
        """The runs that are trained with the relaxed gradient."""
        return xor.sweep(self.hidden, self.seeds)

    @cached_property
    def shadow(self) -> list[XorRun]:
        """The same runs, trained without the probe."""
        return xor.sweep(self.hidden, self.seeds, alpha_train=0.0)

    @cached_property
    def gini(self) -> list[XorRun]:
        """The many seeds of the representative size, recorded at every epoch."""
        return xor.sweep([GINI_HIDDEN], self.gini_seeds, every=1)

    @cached_property
    def thresholds(self) -> dict[float, list[XorRun]]:
        """In-line runs by the quantile of the threshold, ascending; the paper's own among them."""
        own = XorRun(1, 0).quantile
        return {
            q: self.inline if q == own else xor.sweep(self.hidden, self.seeds, quantile=q)
            for q in QUANTILES
        }

    @cached_property
    def conditions(self) -> list[Condition]:
        """The conditions other than in-line and shadow training; none for a quick plan."""
        return [] if self.quick else conditions()

    def condition(self, condition: Condition) -> list[XorRun]:
        """The runs of a condition."""
        return condition.runs(self.hidden, self.paper_seeds)

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

    @cached_property
    def trained(self) -> list[list[XorRun]]:
        """All trained sweeps; none holds a run of another."""
        judged = [self.inline, self.shadow, *self.thresholds.values()]
        known = {run for sweep in judged for run in sweep}
        others = [self.condition(condition) for condition in self.conditions]
        own = [sweep for sweep in self.thresholds.values() if sweep is not self.inline]
        return [
            self.gini,
            self.inline,
            self.shadow,
            *own,
            *([r for r in o if r not in known] for o in others),
        ]

    @property
    def n_runs(self) -> int:
        """The number of runs of all sweeps."""
        return sum(map(len, self.trained)) + sum(map(len, self.baselines))


def plan(seeds: int | None = None, quick: bool = False) -> Plan:
    """Return the plan with many seeds, or with another number of them."""
    return Plan(seeds=MANY_SEEDS if seeds is None else seeds, quick=quick)
