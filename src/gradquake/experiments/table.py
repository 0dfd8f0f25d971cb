"""The experiments by name. Whoever asks for an experiment finds it here."""

from __future__ import annotations

from typing import Any

from gradquake.avalanche.tables import Table
from gradquake.errors import InputError, shortened
from gradquake.experiments.experiment import Experiment
from gradquake.experiments.models import BRANCHING, DIRECTED_SANDPILE, EARTHQUAKES, MANNA, OSLO
from gradquake.experiments.modular_addition import MODULAR_ADDITION
from gradquake.experiments.synthetic import SYNTHETIC
from gradquake.experiments.xor import XOR

__all__ = ["EXPERIMENTS", "find"]

# An experiment from outside this package goes to worker processes with their tasks.
EXPERIMENTS: Table[Experiment[Any]] = Table(
    __name__,
    "EXPERIMENTS",
    "experiment",
    {
        found.name: found
        for found in (
            XOR,
            MODULAR_ADDITION,
            SYNTHETIC,
            BRANCHING,
            DIRECTED_SANDPILE,
            OSLO,
            MANNA,
            EARTHQUAKES,
        )
    },
)


def find(name: str) -> Experiment[Any]:
    """Return the experiment of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    if not (isinstance(name, str) and name in EXPERIMENTS):
        raise InputError(
            f"the experiment is {shortened(name)}; one of {', '.join(EXPERIMENTS)} is needed"
        )
    return EXPERIMENTS[name]
