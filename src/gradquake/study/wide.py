"""Variables of which a snapshot has several numbers: one of each tensor, or one of each cascade step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import require
from gradquake.study.configuration import is_integer

__all__ = ["WIDE", "Values", "checked_tensors", "wide_variables"]

# Measurements of any stored type.
Values = NDArray[Any]

# The variables of which a snapshot has several integers (see ``avalanche.tensors``): their dimension,
# and the meaning.
WIDE: dict[str, tuple[str, str]] = {
    "tensor_above": ("tensor", "entries of a tensor above the threshold before the cascade"),
    "tensor_topplings": ("tensor", "topplings of a tensor over all steps"),
    "tensor_area": ("tensor", "entries of a tensor that toppled"),
    "generation_topplings": ("cascade_step", "topplings at a step of the cascade"),
}

STEPWISE = tuple(name for name, (dimension, _) in WIDE.items() if dimension == "cascade_step")

# The epochs of a run, its measurements by name, and its tensors with their numbers of entries.
Recorded = tuple[NDArray[np.int64], Mapping[str, Values], Mapping[str, int]]


def checked_tensors(value: object) -> dict[str, int]:
    """Return the tensors of a run and their numbers of entries, or raise InputError."""
    require(
        isinstance(value, dict)
        and all(isinstance(name, str) and is_integer(n, 1) for name, n in value.items()),
        "no mapping of tensors to their numbers of entries",
    )
    return dict(value)  # type: ignore[call-overload, no-any-return]


def wide_variables(
    epochs: NDArray[np.int64], runs: Sequence[Recorded]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the coordinates and the ``WIDE`` variables of runs at these epochs, as xarray takes them.

    Both are empty if no run has such a variable.
    """
    measured = [name for name in WIDE if any(name in values for _, values, _ in runs)]
    if not measured:
        return {}, {}
    tensors = list(dict.fromkeys(name for _, _, own in runs for name in own))
    steps = max((of[n].shape[1] for _, of, _ in runs for n in of if n in STEPWISE), default=0)
    places: dict[str, dict[object, int]] = {
        "tensor": {name: k for k, name in enumerate(tensors)},
        "cascade_step": {step: step - 1 for step in range(1, steps + 1)},
    }
    variables = {}
    for name in measured:
        dimension, meaning = WIDE[name]
        found = [_at(epochs, run, name, places[dimension]) for run in runs]
        variables[name] = (("run", "epoch", dimension), np.stack(found), {"meaning": meaning})
    entries = np.array([[own.get(name, np.nan) for name in tensors] for _, _, own in runs])
    coordinates: dict[str, Any] = {d: list(of) for d, of in places.items() if of}
    coordinates["tensor_entries"] = (("run", "tensor"), entries, {"meaning": "entries of a tensor"})
    return coordinates, variables


def _at(epochs: NDArray[np.int64], run: Recorded, name: str, places: Mapping[object, int]) -> Values:
    """Return a variable of a run at these epochs, NaN if it was not measured."""
    own_epochs, measured, tensors = run
    values = np.full((epochs.size, len(places)), np.nan)
    if name in measured:
        own = measured[name]
        ours = list(range(1, own.shape[1] + 1)) if name in STEPWISE else list(tensors)
        columns = np.array([places[one] for one in ours])
        values[np.ix_(np.searchsorted(epochs, own_epochs), columns)] = own
    return values if np.isnan(values).any() else values.astype(np.int64)
