"""Recorded runs once more: their gradients, and anything measured on them after the fact.

A run's gradients follow from its configuration, so that a study need not hold them: any surrogate,
topology, threshold or snapshot is measured on them later, on the very gradients of the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.surrogates import REAL
from gradquake.errors import InputError, require
from gradquake.experiments import synthetic, xor
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.study.recording import GradientRecord

if TYPE_CHECKING:
    import xarray as xr


# The experiments whose gradients can be made again, with the configuration and the size of a run.
KINDS: dict[str, tuple[type[XorRun] | type[SyntheticRun], str]] = {
    "xor": (XorRun, "hidden"),
    "synthetic": (SyntheticRun, "n_parameters"),
}


def runs_of(sweep: xr.Dataset) -> list[XorRun | SyntheticRun]:
    """Return the configurations of a sweep's runs, in its order.

    Raises
    ------
    InputError
        For an experiment whose gradients cannot be made again, or a sweep of surrogates.
    """
    surrogate_rung = sweep.attrs.get("surrogate", REAL)
    if surrogate_rung != REAL:
        raise InputError(
            f"the sweep was measured on {surrogate_rung} surrogates; a sweep of real gradients is needed"
        )
    settings = {k: v for k, v in sweep.attrs.items() if k not in ("experiment", "surrogate")}
    experiment = sweep.attrs.get("experiment")
    if experiment not in KINDS:
        raise InputError(f"the sweep's experiment is {experiment!r}; its gradients cannot be made again")
    kind, size = KINDS[experiment]
    known = {field.name for field in fields(kind)}
    if not (size in sweep and settings.keys() <= known):
        raise InputError(
            f"the sweep says that it is of the experiment {experiment}, but has not its settings: "
            f"{', '.join(sorted(known))} are needed"
        )
    # An attribute of a Dataset is 0 or 1 for False or True.
    kinds = {field.name: field.type for field in fields(kind)}
    settings |= {k: bool(v) for k, v in settings.items() if kinds[k] == "bool" and v in (0, 1)}
    sizes, seeds = sweep[size].values.tolist(), sweep["seed"].values.tolist()
    return [kind(n, seed, **settings) for n, seed in zip(sizes, seeds, strict=True)]


def gradients(
    runs: Sequence[XorRun | SyntheticRun], epochs: Sequence[NDArray[np.int64]] | None = None
) -> list[GradientRecord]:
    """Return the gradients of runs of one experiment, bit for bit those that were measured.

    Parameters
    ----------
    runs : sequence
        They may differ in size and seed only.
    epochs : sequence of arrays, optional
        For each run the epochs to return; its snapshots without.

    Raises
    ------
    InputError
        As the experiment does, or where epochs are asked of synthetic runs, which have none.
    """
    trained = [run for run in runs if isinstance(run, XorRun)]
    drawn = [run for run in runs if isinstance(run, SyntheticRun)]
    if trained and drawn:
        raise InputError(
            f"{len(trained)} XOR runs and {len(drawn)} synthetic runs were given; runs of one "
            f"experiment "
            "are needed"
        )
    if not drawn:
        return xor.gradients(trained, epochs)
    require(epochs is None, "epochs were asked of synthetic runs, which have nothing but snapshots")
    return synthetic.gradients(drawn)
