"""The experiments by name. Whoever asks for an experiment finds it here."""

from __future__ import annotations

from typing import Any

from gradquake.errors import InputError
from gradquake.experiments.experiment import Experiment
from gradquake.experiments.models import BRANCHING, DIRECTED_SANDPILE, EARTHQUAKES, MANNA, OSLO
from gradquake.experiments.modular_addition import MODULAR_ADDITION
from gradquake.experiments.synthetic import SYNTHETIC
from gradquake.experiments.xor import XOR

__all__ = ["EXPERIMENTS", "find"]

# An experiment outside this package adds itself in the module that defines its run configuration. Worker
# processes import that module with the first run that they get.
EXPERIMENTS: dict[str, Experiment[Any]] = {
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
}


def find(name: str) -> Experiment[Any]:
    """Return the experiment of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"the experiment is {name!r}; one of {', '.join(EXPERIMENTS)} is needed")
    return EXPERIMENTS[name]
