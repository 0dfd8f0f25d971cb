"""The labelled measurements of runs: one record a run, one xarray Dataset a sweep.

A sweep is a set of runs that share every setting but their size, seed and labels. Its Dataset has the
dimensions ``run`` and ``epoch``, the variables of ``VARIABLES`` that were measured and whatever else was
logged, the coordinates ``n_parameters``, ``hidden`` or ``width``, ``seed``, ``grokking_epoch`` and the
labels on ``run``, and the shared settings as attributes. Attributes are what NetCDF can hold: a setting
that is None is left out, True and False are 1 and 0, lists and mappings are JSON text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import InputError, printable, require, require_count, require_number, told

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

# Names in a Dataset that no measurement may have.
RESERVED = (*RUN_KEYS, "epoch", "grokking_epoch")


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

    def __post_init__(self) -> None:
        """Raise InputError for what no run can have measured."""
        epochs, grokking_epoch = self.epochs, self.grokking_epoch
        require(
            epochs.ndim == 1 and epochs.dtype.kind == "i" and bool((epochs[1:] > epochs[:-1]).all()),
            "a run's epochs are not ascending integers",
        )
        if grokking_epoch is not None and not _is_count(grokking_epoch, -(2**63)):
            raise InputError(
                f"a run's grokking epoch is {grokking_epoch!r}; an integer or None is needed"
            )
        for name, values in self.values.items():
            if name in RESERVED:
                raise InputError(f"a run has measurements named {name}; another name is needed")
            if values.shape != epochs.shape:
                raise InputError(
                    f"a run has {epochs.size} epochs and measurements of shape {values.shape}; one of "
                    "each name at each epoch is needed"
                )

    @classmethod
    def of_snapshots(
        cls,
        config: Mapping[str, Any],
        grokking_epoch: int | None,
        snapshots: Mapping[int, Mapping[str, float]],
    ) -> RunRecord:
        """Return a record of single snapshots by epoch; an outcome that one lacks is NaN there.

        Raises
        ------
        InputError
            For a number that its variable cannot be, such as a size that one snapshot lacks.
        """
        epochs = sorted(snapshots)
        names = {name: None for epoch in epochs for name in snapshots[epoch]}
        values = {}
        for name in names:
            column = [snapshots[epoch].get(name, np.nan) for epoch in epochs]
            try:
                values[name] = as_stored(name, np.array(column))
            except ValueError as error:  # sequences of different lengths, too
                raise InputError(f"a snapshot cannot be stored: {told(error)}") from None
        return cls(config, grokking_epoch, np.array(epochs or np.zeros(0, np.int64)), values)

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
    if not (given is None or isinstance(given, Mapping)):
        raise InputError(f"{name} is {given!r}; a mapping of names is needed")
    plain = {}
    for key, value in (given or {}).items():
        if not isinstance(key, str):
            raise InputError(f"{name} has the name {key!r}; a name is text")
        plain[key] = value.item() if isinstance(value, np.generic) else value
        finite = isinstance(plain[key], float) and math.isfinite(plain[key])
        if not (isinstance(plain[key], str | int) or finite):
            raise InputError(f"{key} in {name} is {value!r}; text or a finite number is needed")
        if key in VARIABLES or key in ("epoch", "run", "n_parameters", "grokking_epoch"):
            raise InputError(f"{name} names {key}, which gradquake records; another name is needed")
    return plain


def label_text(config: Mapping[str, Any]) -> str:
    """Return what tells a run from the others of its sweep: its labels, or its width, and its seed."""
    widths = {name: config[name] for name in ("hidden", "width") if name in config}
    named = {**(config.get("run") or widths), "seed": config["seed"]}
    return printable(", ".join(f"{name}={value}" for name, value in named.items()))


def differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return by name the values, as text, of the settings in which sweeps differ."""
    names = sorted({name for of_sweep in settings for name in of_sweep})
    values = {
        name: {config_key({name: of_sweep[name]} if name in of_sweep else {}) for of_sweep in settings}
        for name in names
    }
    return {
        name: sorted({str(of_sweep[name]) for of_sweep in settings if name in of_sweep})
        for name in names
        if len(values[name]) > 1
    }


def config_key(config: Mapping[str, Any]) -> str:
    """Return a configuration as JSON with sorted keys: equal for equal configurations only.

    NaN equals NaN here. ``read_config`` reads it back.

    Raises
    ------
    InputError
        If the configuration holds anything but text, numbers, None, lists and mappings of these.
    """
    try:
        return json.dumps(dict(config), sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"a run's configuration cannot be stored ({told(error)}); text, numbers, None, and lists "
            "and mappings of these are needed"
        ) from None


def checked_key(config: Mapping[str, Any]) -> str:
    """Return the key of a configuration that ``read_config`` will read, or raise InputError."""
    key = config_key(config)
    read_config(key)
    return key


def read_config(key: object, grokking_epoch: object = None) -> dict[str, Any]:
    """Return the configuration that ``config_key`` made a key of.

    It has a size and a seed, its labels are text or numbers, and ``surrogate``, if it is there, is text.
    Of other settings nothing is known but that they are JSON.

    Raises
    ------
    InputError
        For any other key, or a grokking epoch that is none.
    """
    config = _read_json(key)
    require(
        isinstance(config, dict) and config_key(config) == key,
        "a key that is not the configuration of a run",
    )
    for name, (fits, needed) in CONFIG.items():
        if name in config or name in ("n_parameters", "seed"):
            value = config.get(name)
            if not fits(value):
                raise InputError(f"a run whose {name} is {_short(value)}; {needed} is needed")
    require(
        grokking_epoch is None or isinstance(grokking_epoch, int), "a grokking epoch that is no integer"
    )
    return dict(config)


def read_names(text: object) -> list[str]:
    """Return the names of a run's measurements, the epoch's among them, or raise InputError."""
    names = _read_json(text)
    require(
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names)
        and "epoch" in names,
        "no list of what was measured",
    )
    return list(names)


def read_snapshot(epoch: object, text: object) -> dict[str, float]:
    """Return the values of a snapshot by name, or raise InputError."""
    values = _read_json(text)
    require(
        isinstance(epoch, int)
        and isinstance(values, dict)
        and all(isinstance(value, int | float) for value in values.values()),
        "no snapshot of numbers",
    )
    return dict(values)


def _read_json(text: object) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):  # no JSON, or nested too deep
        raise InputError("text that is not JSON") from None


def _short(value: object) -> str:
    text = printable(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_count(value: object, low: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**63


def _are_labels(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str | int | float) for one in value.values())


# What the parts of a configuration that gradquake computes with may be.
CONFIG: dict[str, tuple[Callable[[object], bool], str]] = {
    "n_parameters": (lambda value: _is_count(value, 1), "an integer from 1 to 2^63 - 1"),
    "seed": (lambda value: _is_count(value, -(2**63)), "an integer of 64 bits"),
    "hidden": (_is_count, "an integer from 0 to 2^63 - 1"),
    "width": (_is_count, "an integer from 0 to 2^63 - 1"),
    "run": (_are_labels, "a mapping to text and numbers"),
    "surrogate": (lambda value: isinstance(value, str), "text"),
}


def sweep_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run shares with its sweep: all but its size and seed."""
    return {name: value for name, value in config.items() if name not in RUN_KEYS}


def as_stored(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return measurements in the type in which they are stored.

    Raises
    ------
    InputError
        If that type cannot hold them: text, or a size that is no whole number.
    """
    kind = np.dtype(stored_type(name))
    with np.errstate(invalid="ignore", over="ignore"):
        stored = values.astype(kind) if values.dtype.kind in "biuf" else None
    # Floats may lose digits, such as those of a long double; nothing else may change.
    fits = stored is not None and (kind.kind == "f" or np.array_equal(stored, values))
    if stored is None or not fits:
        misfit = _short(_misfit(values, stored))
        raise InputError(
            f"the measurements of {printable(name)} include {misfit}, which cannot be stored; "
            f"{kind.name} numbers are needed, one for each snapshot"
        )
    return stored


def _misfit(values: NDArray[Any], stored: NDArray[Any] | None) -> Any:
    """Return the first value that is not as it was."""
    return values.ravel().tolist()[0 if stored is None else int(np.argmax(values != stored))]


def same(first: object, second: object) -> bool:
    """Return whether two settings are equal, NaN and NaN too."""
    return bool(first == second) or config_key({"": first}) == config_key({"": second})


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
        if config_key(sweep_settings(record.config)) != config_key(settings):
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
        if name != "run" and all(name in run.config for run in runs):
            coordinates[name] = ("run", np.array([r.config[name] for r in runs], np.int64))
    labels = [run.config.get("run", {}) for run in runs]
    coordinates["grokking_epoch"] = ("run", np.array(reached))
    measured = {name for run in runs for name in run.values}
    for name in sorted({name for of_run in labels for name in of_run}):
        # What one run has as a label, another may have logged.
        free = name
        while free == "run" or free in coordinates or free in measured:
            free = f"label_{free}"
        coordinates[free] = ("run", _of_one_type([of_run.get(name) for of_run in labels]))
    names = [*(n for n in VARIABLES if n in measured), *sorted(measured - VARIABLES.keys())]
    variables = {
        name: (
            ("run", "epoch"),
            np.stack([_at(epochs, run, name) for run in runs]),
            {"meaning": VARIABLES[name][1] if name in VARIABLES else "logged"},
        )
        for name in names
    }
    attributes = {name: _attribute(value) for name, value in settings.items() if value is not None}
    return xr.Dataset(variables, coordinates, attributes)


def _attribute(value: Any) -> str | int | float:
    """Return a setting as something that NetCDF can hold."""
    if isinstance(value, bool):
        return int(value)
    small = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63)
    return value if small else json.dumps(value, sort_keys=True)


def _of_one_type(labels: Sequence[str | float | None]) -> NDArray[Any]:
    """Return a label of several runs as numbers or text; a run without it has NaN or ""."""
    known = [label for label in labels if label is not None]
    largest = max((abs(label) for label in known if isinstance(label, int)), default=0)
    if all(isinstance(label, int) for label in labels) and largest < 2**63:
        return np.array(labels)
    if not any(isinstance(label, str) for label in known) and largest <= 2**53:
        return np.array([np.nan if label is None else float(label) for label in labels])
    return np.array(["" if label is None else str(label) for label in labels])


def _at(epochs: NDArray[np.int64], run: RunRecord, name: str) -> NDArray[Any]:
    """Return a variable of a run at these epochs, NaN where it was not measured."""
    if name in run.values and np.array_equal(run.epochs, epochs):
        return run.values[name]
    values = np.full(epochs.size, np.nan)
    if name in run.values:
        values[np.searchsorted(epochs, run.epochs)] = run.values[name]
    return values
