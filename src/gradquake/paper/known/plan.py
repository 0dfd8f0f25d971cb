"""The models with known exponents: their runs, and the values that theory or large simulations give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from gradquake.analysis.resampling import FEWEST_RUNS
from gradquake.errors import require, require_count
from gradquake.experiments.experiment import Experiment
from gradquake.experiments.models import (
    BRANCHING,
    DIRECTED_SANDPILE,
    EARTHQUAKES,
    MANNA,
    OSLO,
    ModelRun,
)

__all__ = ["AVALANCHES", "MODELS", "SEEDS", "STUDY", "Known", "Model", "Plan", "plan"]

STUDY = "known.sqlite"

SEEDS = 8

AVALANCHES = 1 << 14

MEAN_SIZE = "gamma = D (2 - tau); exact: the mean size is proportional to L"
DURATIONS = "(tau_T - 1) z = (tau - 1) D"


@dataclass(frozen=True)
class Known:
    """A known exponent.

    Attributes
    ----------
    value : float or None
        None if the literature agrees on no value.
    source : str
        The publication, or the formula.
    """

    value: float | None
    source: str


@dataclass(frozen=True)
class Model:
    """A model at several linear sizes L.

    Attributes
    ----------
    name : str
    experiment : Experiment
        Makes its runs.
    settings : mapping
        Of the experiment's runs.
    sizes : sequence of int
        L.
    known : mapping of str to Known
        The exponents by symbol: P(s) ~ s^(-tau) up to sizes near L^D, gamma of the mean size; tau_T and
        z are tau and D of the duration. For the branching process, "ratio" is the branching ratio.
    """

    name: str
    experiment: Experiment[Any]
    settings: Mapping[str, object]
    sizes: Sequence[int]
    known: Mapping[str, Known]


HARRIS = "Harris, The Theory of Branching Processes (1963)"
DHAR = "exact: Dhar and Ramaswamy, PRL 63, 1659 (1989)"
GRASSBERGER = "Grassberger, Dhar and Mohanty, PRE 94, 042314 (2016)"
HUYNH = "Huynh, Pruessner and Chew, J. Stat. Mech. P09024 (2011)"
LISE = "Lise and Paczuski, PRE 63, 036111 (2001)"
VIOLATED = "no finite-size scaling: Lise and Paczuski, PRE 64, 046111 (2001)"
UNSETTLED = "no agreed value"
FINITE = "no scaling: sizes do not grow with L"

MODELS = (
    Model(
        "critical branching process", BRANCHING, {}, BRANCHING.sizes,
        {
            "D": Known(2.0, f"exact: {HARRIS}"),
            "gamma": Known(1.0, MEAN_SIZE),
            "tau": Known(1.5, f"exact: {HARRIS}"),
            "z": Known(1.0, "exact: at most L generations"),
            "tau_T": Known(2.0, f"exact: {HARRIS}"),
            "ratio": Known(1 - 1 / BRANCHING.sizes[-1], "exact: 1 - 1/L at the largest L"),
        },
    ),
    Model(
        "subcritical branching process", BRANCHING, {"children": 0.9}, BRANCHING.sizes,
        {
            "D": Known(0.0, FINITE),
            "gamma": Known(0.0, FINITE),
            "z": Known(0.0, FINITE),
            "ratio": Known(0.9, "exact: the mean number of children"),
        },
    ),
    Model(
        "directed sandpile", DIRECTED_SANDPILE, {}, DIRECTED_SANDPILE.sizes,
        {
            "D": Known(3 / 2, DHAR),
            "gamma": Known(1.0, MEAN_SIZE),
            "tau": Known(4 / 3, DHAR),
            "z": Known(1.0, DHAR),
            "tau_T": Known(3 / 2, DHAR),
        },
    ),
    Model(
        "Oslo rice pile", OSLO, {}, OSLO.sizes,
        {
            "D": Known(9 / 4, GRASSBERGER),
            "gamma": Known(1.0, MEAN_SIZE),
            "tau": Known(14 / 9, f"2 - 1/D; {GRASSBERGER}"),
            "z": Known(10 / 7, GRASSBERGER),
            "tau_T": Known(15 / 8, DURATIONS),
        },
    ),
    Model(
        "Manna sandpile", MANNA, {}, MANNA.sizes,
        {
            "D": Known(2.750, HUYNH),
            "gamma": Known(2.0, "gamma = D (2 - tau); exact: the mean size is proportional to L^2"),
            "tau": Known(1.273, HUYNH),
            "z": Known(1.532, HUYNH),
            "tau_T": Known(1.490, DURATIONS),
        },
    ),
    Model(
        "conservative earthquakes", EARTHQUAKES, {"alpha": 0.25}, EARTHQUAKES.sizes,
        {symbol: Known(None, UNSETTLED) for symbol in ("D", "gamma", "tau", "z", "tau_T")},
    ),
    Model(
        "dissipative earthquakes", EARTHQUAKES, {"alpha": 0.2}, EARTHQUAKES.sizes,
        {
            "D": Known(None, VIOLATED),
            "gamma": Known(None, VIOLATED),
            "tau": Known(1.8, LISE),
            "z": Known(None, VIOLATED),
            "tau_T": Known(None, VIOLATED),
        },
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The runs: every model at all its sizes.

    Parameters
    ----------
    seeds : int
        Seeds at each size, at least 1.
    avalanches : int
        Avalanches of each run, at least 1.
    models : sequence of Model

    Raises
    ------
    InputError
        For fewer than one seed or avalanche.
    """

    seeds: int = SEEDS
    avalanches: int = AVALANCHES
    models: Sequence[Model] = field(default=MODELS)

    def __post_init__(self) -> None:
        require_count("seeds", self.seeds, 1)
        require_count("avalanches", self.avalanches, 1)

    def sweep(self, model: Model) -> list[ModelRun]:
        """Return the runs of a model."""
        return model.experiment.sweep(
            model.sizes, self.seeds, avalanches=self.avalanches, **model.settings
        )

    @property
    def runs(self) -> list[ModelRun]:
        """All runs, the largest of each model first, so that the last to finish are short."""
        sweeps = [self.sweep(model)[::-1] for model in self.models]
        return [run for of_place in zip_longest(*sweeps) for run in of_place if run is not None]

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
        """There is none."""

    @property
    def plates(self) -> tuple[str, ...]:
        """The names of the figures: none."""
        return ()

    @property
    def n_runs(self) -> int:
        """The number of all runs."""
        return len(self.runs)


def plan(seeds: int | None = None, quick: bool = False) -> Plan:
    """Return the plan with eight seeds at each size, or with another number.

    Raises
    ------
    InputError
        For a quick plan, which the known models do not have.
    """
    require(not quick, "quick is for the paper xor; known has nothing to leave out")
    return Plan(SEEDS if seeds is None else seeds)
