"""The labelled measurements of runs: one record per run, one xarray Dataset per sweep.

A sweep is a set of runs that share every setting but their size, seed and labels. Its Dataset has

- the dimensions ``run`` and ``epoch``;
- the ``VARIABLES`` that were measured, and whatever else was logged;
- if they were recorded, the ``WIDE`` variables, with one dimension more. That is ``tensor``, whose
  coordinate is the names of the tensors, or ``cascade_step``, from 1. Runs may have different tensors; a
  run has NaN at those that it lacks. ``tensor_entries`` is the number of entries of each;
- on ``run``, the coordinates ``n_parameters``, ``hidden`` or ``width``, ``seed``, ``grokking_epoch`` and
  the labels;
- the shared settings as attributes. NetCDF can hold them: a setting that is None is left out, True and
  False are 1 and 0, lists and mappings are JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.observables import channels
from gradquake.errors import InputError, printable, require, shortened, told
from gradquake.study.configuration import (
    RUN_KEYS,
    Config,
    config_key,
    is_integer,
    sweep_settings,
)
from gradquake.study.wide import WIDE, Values, wide_variables

if TYPE_CHECKING:
    import xarray as xr

    from gradquake.avalanche.sums import Gradient

__all__ = [
    "COSTS", "ESTIMATES", "LEFT_OUT", "RESERVED", "SIZE_ERROR", "VARIABLES", "GradientRecord",
    "Measured", "RunRecord", "as_stored", "stored_type",
    "to_dataset",
]  # fmt: skip

# A measurement of one snapshot; a list for a ``WIDE`` variable.
Measured = float | Sequence[int]

# The variables that are measured at a snapshot: stored type, and unit or meaning. Any other name is a
# float: a channel of an observable, or an outcome that was logged.
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
    "update_norm": ("<f8", "Euclidean norm of what the optimizer added to the parameters"),
    "gini": ("<f8", "Gini coefficient of the absolute weights"),
}

LEFT_OUT = "probe_left_out"

# The variable of runs whose sizes are estimated from a sample.
SIZE_ERROR = "size_error"
ESTIMATES = {SIZE_ERROR: "standard error of the size, which is estimated from a sample of the entries"}

# The costs of a measurement in the background, by name: its meaning. All are floats.
COSTS: dict[str, str] = {
    "probe_waiting": "seconds that the training waited at the step for the measurement before",
    "probe_copying": "seconds in which the training's thread copied the gradient or the update",
    "probe_measuring": "seconds of the measurement with its nulls, in a thread beside the training",
    LEFT_OUT: "scheduled steps left out since the last snapshot, because the probe was behind",
}

# Names in a Dataset that neither a label nor a measurement may have, and further ones of runs.
DIMENSIONS = ("run", "epoch", "tensor", "tensor_entries", "cascade_step")
RESERVED = (*DIMENSIONS, *RUN_KEYS, "grokking_epoch")


def stored_type(name: str) -> str:
    """Return the type in which a variable, an outcome or the epoch is stored."""
    return "<i8" if name == "epoch" or name in WIDE else VARIABLES.get(name, ("<f8", ""))[0]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """The measurements of one finished run.

    Attributes
    ----------
    config : mapping
        The full configuration: ``experiment``, ``n_parameters``, ``seed``, ``labels`` if there are any,
        and every setting. Runs of equal configuration have equal measurements.
    grokking_epoch : int or None
        The first epoch at which the accuracy is 100 % (or meets the experiment's own criterion); None if
        it never is.
    epochs : array of int64, shape (snapshots,)
        The epoch of each snapshot, or its step if training is counted in steps; ascending.
    values : mapping of str to array, shape (snapshots,)
        The measured ``VARIABLES`` and logged outcomes; ``WIDE`` ones have shape (snapshots, tensors) or
        (snapshots, steps).
    tensors : mapping of str to int
        The tensors of ``WIDE`` variables and their numbers of entries; empty without these variables.

    Raises
    ------
    InputError
        If the epochs do not ascend, the grokking epoch is not an integer, or a measurement has a name in
        ``RESERVED`` or another shape than the epochs and the tensors give.
    """

    config: Config
    grokking_epoch: int | None
    epochs: NDArray[np.int64]
    values: Mapping[str, Values]
    tensors: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        epochs, grokking_epoch = self.epochs, self.grokking_epoch
        require(
            epochs.ndim == 1 and epochs.dtype.kind == "i" and bool((epochs[1:] > epochs[:-1]).all()),
            "a run's epochs are not ascending integers",
        )
        if grokking_epoch is not None and not is_integer(grokking_epoch, -(2**63)):
            raise InputError(
                f"a run's grokking epoch is {grokking_epoch!r}; an integer or None is needed"
            )
        for name, values in self.values.items():
            if name in RESERVED:
                raise InputError(f"a run has measurements named {name}; another name is needed")
            if not self._fits(name, values.shape):
                raise InputError(
                    f"a run has {epochs.size} epochs and measurements of shape {values.shape}; one of "
                    "each name at each epoch is needed, or one of each tensor"
                )

    def _fits(self, name: str, shape: tuple[int, ...]) -> bool:
        if name not in WIDE:
            return shape == self.epochs.shape
        widths = {"tensor": (len(self.tensors),)}.get(WIDE[name][0], shape[1:])
        return len(shape) == 2 and shape == (*self.epochs.shape, *widths) and shape[1] > 0

    @classmethod
    def of_snapshots(
        cls,
        config: Config,
        grokking_epoch: int | None,
        snapshots: Mapping[int, Mapping[str, Measured]],
        tensors: Mapping[str, int] | None = None,
    ) -> RunRecord:
        """Return a record made of single snapshots by epoch; an outcome that one lacks is NaN there.

        Raises
        ------
        InputError
            If a number does not fit its variable, or a snapshot lacks a size that others have.
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
        return cls(
            config, grokking_epoch, np.array(epochs or np.zeros(0, np.int64)), values, tensors or {}
        )

    @property
    def key(self) -> str:
        """The run's identity: its configuration in one canonical form."""
        return config_key(self.config)


@dataclass(frozen=True, eq=False)
class GradientRecord:
    """The gradients of one run (see ``RunRecord``), on which anything can be measured later.

    Attributes
    ----------
    gradients : array of float, shape (snapshots, N)
        One gradient for each of the epochs.
    tensors : mapping of str to int
        The number of entries of each parameter tensor by name, in order; together N.
    """

    config: Config
    grokking_epoch: int | None
    epochs: NDArray[np.int64]
    gradients: Gradient
    tensors: Mapping[str, int]


def as_stored(name: str, values: Values) -> Values:
    """Return measurements in the type in which they are stored.

    Raises
    ------
    InputError
        If that type cannot hold them: text, or a size that is not a whole number.
    """
    kind = np.dtype(stored_type(name))
    with np.errstate(invalid="ignore", over="ignore"):
        stored = values.astype(kind) if values.dtype.kind in "biuf" else None
    # Floats may lose digits, such as those of a long double. Nothing else may change.
    if stored is None or not (kind.kind == "f" or np.array_equal(stored, values)):
        first_changed = 0 if stored is None else int(np.argmax(values != stored))
        misfit = shortened(values.ravel().tolist()[first_changed])
        raise InputError(
            f"the measurements of {printable(name)} include {misfit}, which cannot be stored; "
            f"{kind.name} numbers are needed, one for each snapshot"
        )
    return stored


def to_dataset(records: Sequence[RunRecord]) -> xr.Dataset:
    """Return the runs of one sweep as a Dataset, ordered by size and then seed.

    If runs were recorded at different epochs, the Dataset has all of these epochs. A variable that is
    missing at some of them is a float, and NaN there.

    Raises
    ------
    InputError
        If there is no run, or the runs do not share their settings.
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
    measured = {name for run in runs for name in run.values}
    names = [n for n in VARIABLES if n in measured]
    names += sorted(measured - VARIABLES.keys() - WIDE.keys())
    meanings = {name: meaning for name, (_, meaning) in VARIABLES.items()}
    meanings |= COSTS | ESTIMATES | channels()
    variables = {
        name: (
            ("run", "epoch"),
            np.stack([_at(epochs, run, name) for run in runs]),
            {"meaning": meanings.get(name, "logged")},
        )
        for name in names
    }
    recorded = [(run.epochs, run.values, run.tensors) for run in runs]
    tensors, wide = wide_variables(epochs, recorded)
    attributes = {name: _attribute(value) for name, value in settings.items() if value is not None}
    coordinates = {"epoch": epochs, **tensors, **_coordinates(runs, measured)}
    return xr.Dataset(variables | wide, coordinates, attributes)


def _coordinates(runs: Sequence[RunRecord], measured: set[str]) -> dict[str, tuple[str, Values]]:
    """Return what is known of each run: its size, seed, grokking epoch and labels."""
    found = {
        name: ("run", np.array([run.config[name] for run in runs], np.int64))
        for name in RUN_KEYS
        if name != "labels" and all(name in run.config for run in runs)
    }
    reached = [np.nan if run.grokking_epoch is None else float(run.grokking_epoch) for run in runs]
    found["grokking_epoch"] = ("run", np.array(reached))
    of_runs = [run.config.get("labels", {}) for run in runs]
    for name in sorted({name for of_run in of_runs for name in of_run}):
        # One run's label may be another run's outcome.
        free = name
        while free in DIMENSIONS or free in found or free in measured:
            free = f"label_{free}"
        found[free] = ("run", _of_one_type([of_run.get(name) for of_run in of_runs]))
    return found


def _attribute(value: object) -> str | int | float:
    """Return a setting as a value that NetCDF can hold."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return json.dumps(value, sort_keys=True)


def _of_one_type(labels: Sequence[str | float | None]) -> Values:
    """Return a label of several runs as numbers or text; a run without it has NaN or ""."""
    known = [label for label in labels if label is not None]
    largest = max((abs(label) for label in known if isinstance(label, int)), default=0)
    if all(isinstance(label, int) for label in labels) and largest < 2**63:
        return np.array(labels)
    if not any(isinstance(label, str) for label in known) and largest <= 2**53:
        return np.array([np.nan if label is None else float(label) for label in labels])
    return np.array(["" if label is None else str(label) for label in labels])


def _at(epochs: NDArray[np.int64], run: RunRecord, name: str) -> Values:
    """Return a variable of a run at these epochs, NaN if it was not measured."""
    if name in run.values and np.array_equal(run.epochs, epochs):
        return run.values[name]
    values = np.full(epochs.size, np.nan)
    if name in run.values:
        values[np.searchsorted(epochs, run.epochs)] = run.values[name]
    return values
