"""Which runs the reproduction makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gradquake.analysis.resampling import (
    FEWEST_RUNS,
)
from gradquake.analysis.scales import FEWEST_SCALES
from gradquake.errors import InputError, require_count
from gradquake.experiments import xor
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.paper.xor.conditions import (
    Condition,
    conditions,
)

if TYPE_CHECKING:
    pass


PAPER_SEEDS = 6
GINI_SEEDS = 1000
GINI_HIDDEN = 21

BASELINE_TOPOLOGIES = (
    "ring",
    "small_world_0.05",
    "small_world_0.2",
    "barabasi_albert",
    "erdos_renyi",
)
BASELINE_ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5)

# Seeds of the sweep on which power is measured, and the numbers of runs a scale that it is asked of.
POWER_SEEDS = 200


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
        The scales, at least three where it is quick, four where not.
    quick : bool
        Whether to leave out what no claim rests on: controls, interventions, topologies, the
        specification curve and power.
    power_seeds : int
        Seeds of the sweep on which power is measured.

    Raises
    ------
    InputError
        For fewer seeds or scales.
    """

    seeds: int = PAPER_SEEDS
    gini_seeds: int = GINI_SEEDS
    hidden: Sequence[int] = xor.PAPER_HIDDEN
    quick: bool = False
    power_seeds: int = POWER_SEEDS

    def __post_init__(self) -> None:
        require_count("seeds", self.seeds, 1)
        require_count("gini_seeds", self.gini_seeds, 1)
        require_count("power_seeds", self.power_seeds, FEWEST_RUNS)
        # Beyond the claims, fits are also made without each of the scales.
        fewest = FEWEST_SCALES + (not self.quick)
        if not len(set(self.hidden)) >= fewest:
            raise InputError(f"hidden is {self.hidden}; at least {fewest} different sizes are needed")

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

    @cached_property
    def conditions(self) -> list[Condition]:
        """The other conditions; those that a claim rests on where it is quick."""
        return [c for c in conditions() if not self.quick or c.group == "quantile"]

    @cached_property
    def power(self) -> dict[str, list[XorRun]]:
        """The many seeds at every size, inline and shadow; none where it is quick."""
        if self.quick:
            return {}
        return {
            "inline": xor.sweep(self.hidden, self.power_seeds),
            "shadow": xor.sweep(self.hidden, self.power_seeds, alpha_train=0.0),
        }

    def condition(self, condition: Condition) -> list[XorRun]:
        """The runs of a condition."""
        return condition.runs(self.hidden, self.seeds)

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
        """All trained sweeps but the many seeds."""
        others = [self.condition(condition) for condition in self.conditions]
        return [self.gini, self.inline, self.shadow, *others]

    @property
    def n_runs(self) -> int:
        """The number of runs of all sweeps."""
        trained = sum(len(runs) for runs in [*self.trained, *self.power.values()])
        return trained + sum(len(runs) for runs in self.baselines)
