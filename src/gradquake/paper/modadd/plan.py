"""The runs of modular addition: two architectures under four conditions, at all widths."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from gradquake.analysis.resampling import FEWEST_RUNS
from gradquake.errors import InputError, require, require_count
from gradquake.experiments import modular_addition
from gradquake.experiments.modular_addition import WIDTHS, ModularAdditionRun

__all__ = [
    "ARCHITECTURES", "CONDITIONS", "CONTROLS", "GROKKING", "LITERAL", "NO_DECAY", "PLATES", "SEEDS",
    "SMALL", "STUDY", "Plan", "plan",
]  # fmt: skip

STUDY = "modadd.sqlite"

PLATES = ("modadd-accuracy", "modadd-dimension", "modadd-alignment", "modadd-ladder", "modadd-warning")

SEEDS = 3

GROKKING, NO_DECAY, SMALL, LITERAL = "grokking", "no weight decay", "small training set", "literal split"
CONDITIONS: dict[str, dict[str, object]] = {
    GROKKING: {},
    NO_DECAY: {"weight_decay": 0.0},
    SMALL: {"train_share": 0.2},
    LITERAL: {"split": "literal"},
}
# The conditions that should not grok.
CONTROLS = (NO_DECAY, SMALL)
ARCHITECTURES = tuple(WIDTHS)


@dataclass(frozen=True)
class Plan:
    """The runs: every architecture under every condition, at all its widths.

    Parameters
    ----------
    seeds : int
        Seeds at each width, at least 1.
    widths : mapping of str to sequence of int
        The widths of each architecture.
    settings : mapping
        Further settings of every run (see ``ModularAdditionRun``), for a smaller experiment.

    Raises
    ------
    InputError
        For fewer than one seed.
    """

    seeds: int = SEEDS
    widths: Mapping[str, Sequence[int]] = field(default_factory=lambda: WIDTHS)
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_count("seeds", self.seeds, 1)

    def sweep(self, architecture: str, condition: str) -> list[ModularAdditionRun]:
        """Return the runs of an architecture under a condition.

        Raises
        ------
        InputError
            For another architecture or condition.
        """
        _check("architecture", architecture, ARCHITECTURES)
        _check("condition", condition, CONDITIONS)
        settings = {**self.settings, **CONDITIONS[condition]}
        return modular_addition.sweep(
            self.widths[architecture], self.seeds, architecture=architecture, **settings
        )

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of the study files."""
        return (STUDY,)

    @property
    def has_intervals(self) -> bool:
        """Whether every size has enough runs to resample."""
        return self.seeds >= FEWEST_RUNS

    @property
    def first_look(self) -> None:
        """There is none: three seeds are all."""

    @property
    def plates(self) -> tuple[str, ...]:
        """The names of the figures."""
        return PLATES

    @property
    def runs(self) -> list[ModularAdditionRun]:
        """All runs, the longest first, so that the last to finish are short."""
        runs = [run for subject in product(ARCHITECTURES, CONDITIONS) for run in self.sweep(*subject)]
        return sorted(runs, key=lambda run: -run.width)

    @property
    def n_runs(self) -> int:
        """The number of all runs."""
        return len(self.runs)


def plan(seeds: int | None = None, quick: bool = False) -> Plan:
    """Return the plan with three seeds at each width, or with another number.

    Raises
    ------
    InputError
        If torch is not installed, or for a quick plan, which modular addition does not have.
    """
    require(not quick, "quick is for the paper xor; modadd has nothing to leave out")
    modular_addition.MODULAR_ADDITION.check_installed()
    return Plan(SEEDS if seeds is None else seeds)


def _check(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InputError(f"the {name} is {value!r}; one of {', '.join(known)} is needed")
