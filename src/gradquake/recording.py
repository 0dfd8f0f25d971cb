"""The labelled measurements of runs: one record a run, one xarray Dataset a sweep.

A sweep is a set of runs that share every setting but their size, seed and labels. Its Dataset has the
dimensions ``run`` and ``epoch``, the variables of ``VARIABLES`` that were measured and whatever else was
logged, the coordinates ``n_parameters``, ``hidden`` or ``width``, ``seed``, ``grokking_epoch`` and the
labels on ``run``, and the shared settings as attributes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import InputError, require, require_count, require_number

if TYPE_CHECKING:
    import xarray as xr
    from _typeshed import DataclassInstance

# What is measured at a snapshot: the stored type, and the unit or meaning. Any other name is an
# outcome that was logged, a float.
VARIABLES: dict[str, tuple[str, str]] = {
    "loss": ("<f8", "training loss; a mean cross-entropy is in nats"),
    "accuracy": ("<f8", "share of samples predicted right"),
    "threshold": ("<f8", "quantile of the gradient's magnitudes"),
    "size": ("<i8", "topplings over all steps"),
    "duration": ("<i8", "steps in which something toppled"),
    "area": ("<i8", "distinct nodes that toppled"),
    "peak": ("<i8", "most topplings in one step"),
    "truncated": ("|b1", "whether max_steps ended the avalanche"),
    "deviation": ("<f8", "degrees between the gradient before and after"),
    "gradient_norm": ("<f8", "Euclidean norm of the gradient"),
    "gini": ("<f8", "Gini coefficient of the absolute weights"),
}


def stored_type(name: str) -> str:
    """Return the type in which a variable, an outcome or the epoch is stored."""
    return "<i8" if name == "epoch" else VARIABLES.get(name, ("<f8", ""))[0]


# The settings in which the runs of one sweep may differ; "run" holds labels of the user's own.
RUN_KEYS = ("hidden", "width", "n_parameters", "seed", "run")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Everything that one finished run leaves behind.

    Attributes
    ----------
    config : mapping
        The full configuration: ``experiment``, ``n_parameters``, ``seed`` and every setting. Two
        runs of equal configuration have equal measurements.
    grokking_epoch : int or None
        The first epoch at which the accuracy is 100 % (or what the experiment asks for); None where
        that never happened.
    epochs : array of int64, shape (snapshots,)
        The epoch of each snapshot, or its step where training is counted in steps; ascending.
    values : mapping of str to array, shape (snapshots,)
        The measured ``VARIABLES`` and logged outcomes.
    """

    config: Mapping[str, Any]
    grokking_epoch: int | None
    epochs: NDArray[np.int64]
    values: Mapping[str, NDArray[Any]]

    @classmethod
    def of_snapshots(
        cls,
        config: Mapping[str, Any],
        grokking_epoch: int | None,
        snapshots: Mapping[int, Mapping[str, float]],
    ) -> RunRecord:
        """Return a record of single snapshots by epoch; an outcome that one lacks is NaN there."""
        epochs = sorted(snapshots)
        names = {name: None for epoch in epochs for name in snapshots[epoch]}
        values = {
            name: np.array([snapshots[epoch].get(name, np.nan) for epoch in epochs], stored_type(name))
            for name in names
        }
        return cls(config, grokking_epoch, np.array(epochs, np.int64), values)

    @property
    def key(self) -> str:
        """The run's identity: its configuration in one canonical form."""
        return config_key(self.config)


@dataclass(frozen=True, eq=False)
class GradientRecord:
    """The gradients of one run, on which anything can be measured after the fact.

    Attributes
    ----------
    config, grokking_epoch, epochs
        As in ``RunRecord``.
    gradients : array of float, shape (snapshots, N)
        One gradient for each of the epochs.
    tensors : tuple of int
        The number of entries of each parameter tensor, in order; together N.
    """

    config: Mapping[str, Any]
    grokking_epoch: int | None
    epochs: NDArray[np.int64]
    gradients: NDArray[np.floating[Any]]
    tensors: tuple[int, ...]


def settle_types(run: DataclassInstance) -> None:
    """Make the numbers of a frozen run configuration plain ints and floats.

    So that equal configurations have equal keys, whether 0 or 0.0 or a NumPy number was given.

    Raises
    ------
    InputError
        Where a field is not a number of its kind.
    """
    for field in fields(run):
        value = getattr(run, field.name)
        if field.type == "int":
            require_count(field.name, value, 0)
            object.__setattr__(run, field.name, int(value))
        elif field.type == "float":
            object.__setattr__(run, field.name, require_number(field.name, value))


def labels(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a user's own labels of a run as JSON-ready values.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    given : mapping of str to text or number, optional

    Raises
    ------
    InputError
        For a value that is not text or a finite number, or the name of something that is recorded.
    """
    require(
        given is None or isinstance(given, Mapping), f"{name} is {given!r}; a mapping of names is needed"
    )
    plain = {}
    for key, value in (given or {}).items():
        plain[key] = value.item() if isinstance(value, np.generic) else value
        finite = isinstance(plain[key], float) and math.isfinite(plain[key])
        require(
            isinstance(key, str) and (isinstance(plain[key], str | int) or finite),
            f"{key} in {name} is {value!r}; text or a finite number is needed",
        )
        require(
            key not in VARIABLES and key not in ("epoch", "run", "n_parameters", "grokking_epoch"),
            f"{name} names {key}, which gradquake records; another name is needed",
        )
    return plain


def config_key(config: Mapping[str, Any]) -> str:
    """Return a configuration as JSON with sorted keys: equal for equal configurations only."""
    return json.dumps(dict(config), sort_keys=True)


def sweep_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run shares with its sweep: all but its size and seed."""
    return {name: value for name, value in config.items() if name not in RUN_KEYS}


def to_dataset(records: Sequence[RunRecord]) -> xr.Dataset:
    """Return the runs of one sweep as a Dataset, ordered by size and then seed.

    Where runs were recorded at different epochs, or lack a variable that others have, the Dataset has
    all of them, and NaN where a run was not measured; its variables are then floats.

    Raises
    ------
    InputError
        Where there is no run, or the runs do not share their settings.
    """
    import xarray as xr

    require(len(records) > 0, "no run was given; a dataset needs at least one")
    settings = sweep_settings(records[0].config)
    for record in records:
        if sweep_settings(record.config) != settings:
            raise InputError(
                f"the runs differ in more than size and seed: {settings} and "
                f"{sweep_settings(record.config)}; choose one sweep"
            )
    runs = sorted(records, key=lambda r: (r.config["n_parameters"], r.config["seed"]))
    epochs = runs[0].epochs
    if not all(np.array_equal(run.epochs, epochs) for run in runs):
        epochs = np.unique(np.concatenate([run.epochs for run in runs]))
    reached = [np.nan if r.grokking_epoch is None else float(r.grokking_epoch) for r in runs]
    coordinates: dict[str, Any] = {"epoch": epochs}
    for name in RUN_KEYS:
        if name in runs[0].config and name != "run":
            coordinates[name] = ("run", np.array([r.config[name] for r in runs], np.int64))
    labels = [run.config.get("run", {}) for run in runs]
    coordinates["grokking_epoch"] = ("run", np.array(reached))
    measured = {name for run in runs for name in run.values}
    for name in sorted({name for of_run in labels for name in of_run}):
        # What one run has as a label, another may have logged.
        free = name if name not in coordinates and name not in measured else f"label_{name}"
        coordinates[free] = ("run", [of_run.get(name) for of_run in labels])
    names = [*(n for n in VARIABLES if n in measured), *sorted(measured - VARIABLES.keys())]
    variables = {
        name: (
            ("run", "epoch"),
            np.stack([_at(epochs, run, name) for run in runs]),
            {"meaning": VARIABLES[name][1] if name in VARIABLES else "logged"},
        )
        for name in names
    }
    return xr.Dataset(variables, coordinates, settings)


def _at(epochs: NDArray[np.int64], run: RunRecord, name: str) -> NDArray[Any]:
    """Return a variable of a run at these epochs, NaN where it was not measured."""
    if name in run.values and np.array_equal(run.epochs, epochs):
        return run.values[name]
    values = np.full(epochs.size, np.nan)
    if name in run.values:
        values[np.searchsorted(epochs, run.epochs)] = run.values[name]
    return values
