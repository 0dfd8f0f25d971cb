"""The gradients of recorded runs, made again, to measure anything on them later.

A run's gradients follow from its configuration, so a study need not hold them. Any surrogate, topology,
threshold or snapshot can be measured later, on exactly the gradients of the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.surrogates import REAL
from gradquake.errors import InputError, printable, require
from gradquake.experiments.experiment import ProbedRun
from gradquake.experiments.table import EXPERIMENTS, find
from gradquake.study.recording import GradientRecord

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["RECORDED_BY", "can_replay", "check_known", "gradients", "runs_of"]

# The functions that record runs of no experiment, by the name that stands for the experiment.
RECORDED_BY = {"attached": "attach", "files": "measure"}


def can_replay(sweep: xr.Dataset) -> bool:
    """Return whether the gradients of a sweep's experiment can be made again."""
    experiment = EXPERIMENTS.get(sweep.attrs.get("experiment", ""))
    return experiment is not None and experiment.gradients is not None


def check_known(sweep: xr.Dataset) -> None:
    """Raise InputError if a sweep is of an experiment whose code is not here."""
    name = sweep.attrs.get("experiment")
    if isinstance(name, str) and name not in ("", *RECORDED_BY, *EXPERIMENTS):
        raise InputError(
            f"the experiment {printable(name)} is unknown here, and nulls of its runs need its code; "
            "import the module that defines it first"
        )


def runs_of(sweep: xr.Dataset) -> list[ProbedRun]:
    """Return the configurations of a sweep's runs, in its order.

    Raises
    ------
    InputError
        For an experiment that is unknown or cannot make its gradients again, or surrogates.
    """
    surrogate_rung = sweep.attrs.get("surrogate", REAL)
    if surrogate_rung != REAL:
        raise InputError(
            f"the sweep was measured on {surrogate_rung} surrogates; a sweep of real gradients is needed"
        )
    name = sweep.attrs.get("experiment")
    check_known(sweep)
    if not can_replay(sweep):
        raise InputError(f"the sweep's experiment is {name!r}; its gradients cannot be made again")
    experiment = find(str(name))
    settings = {k: v for k, v in sweep.attrs.items() if k not in ("experiment", "surrogate")}
    if not (experiment.size in sweep and settings.keys() <= set(experiment.settings)):
        needed = ", ".join(sorted((*experiment.settings, experiment.size, "seed")))
        raise InputError(
            f"the sweep says that it is of the experiment {name}, but does not have its settings: "
            f"{needed} are needed"
        )
    # A Dataset's attributes hold 0 or 1 for False or True.
    kinds = {field.name: field.type for field in fields(experiment.run)}
    settings |= {k: bool(v) for k, v in settings.items() if kinds[k] in ("bool", bool) and v in (0, 1)}
    sizes, seeds = sweep[experiment.size].values.tolist(), sweep["seed"].values.tolist()
    return [
        experiment.run(**{experiment.size: size, "seed": seed}, **settings)
        for size, seed in zip(sizes, seeds, strict=True)
    ]


def gradients(
    runs: Sequence[ProbedRun], epochs: Sequence[NDArray[np.int64]] | None = None
) -> list[GradientRecord]:
    """Return the gradients of runs of one experiment, bit for bit those that were measured.

    Parameters
    ----------
    runs : sequence
        They may differ in size and seed only.
    epochs : sequence of arrays, optional
        For each run the epochs to return; its snapshots by default.

    Raises
    ------
    InputError
        If no run is given, or the runs are of several experiments; and as the experiment does.
    """
    names = list(dict.fromkeys(run.experiment for run in runs))
    require(len(names) > 0, "no run was given; at least one is needed")
    if len(names) > 1:
        raise InputError(f"runs of {' and '.join(names)} were given; runs of one experiment are needed")
    make = find(names[0]).gradients
    if make is None:
        raise InputError(f"the gradients of {names[0]} cannot be made again")
    return make(runs, epochs)
