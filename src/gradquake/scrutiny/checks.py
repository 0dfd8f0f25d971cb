"""Checks of a sweep before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gradquake.analysis import specifications
from gradquake.analysis.scales import FEWEST_SCALES, same_runs
from gradquake.errors import InputError, require
from gradquake.experiments.experiment import ProbedRun
from gradquake.experiments.table import EXPERIMENTS
from gradquake.scrutiny.measure import in_order
from gradquake.scrutiny.replay import RECORDED_BY, check_known, runs_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check", "check_beside"]


def check(sweep: xr.Dataset, *, sensitivity: bool = False) -> None:
    """Raise InputError if a sweep cannot be measured again beside its nulls.

    With ``sensitivity``, also if it has too few scales for the specification curve.
    """
    runs_of(sweep)
    _check_scales(sweep)
    if sensitivity:
        specifications.scale_choices(np.unique(sweep["n_parameters"].values))


def check_beside(sweep: xr.Dataset, nulls: Mapping[str, xr.Dataset]) -> None:
    """Raise InputError if a sweep cannot be analyzed beside these nulls, which were measured with it."""
    _check_scales(sweep)
    experiment = EXPERIMENTS.get(sweep.attrs.get("experiment", ""))
    if experiment is not None and not issubclass(experiment.run, ProbedRun):
        raise InputError(
            f"the avalanches of {experiment.name} come from no gradient, so that they have no null; "
            "`gradquake reproduce known` analyzes them"
        )
    missing = [rung for rung in ("gaussian", "permuted") if rung not in nulls]
    if missing:
        check_known(sweep)
        recorder = RECORDED_BY.get(sweep.attrs.get("experiment", ""))
        remedy = f"{recorder}(..., nulls=['gaussian', 'permuted']) measures both"
        raise InputError(
            f"no {' and no '.join(missing)} null was measured beside these runs, whose gradients were "
            f"not kept; {remedy if recorder else 'both are needed in the study'}"
        )
    for rung, null in nulls.items():
        if "size" not in null:
            raise InputError(f"the {rung} null has no avalanche sizes")
        if not same_runs(in_order(sweep), in_order(null)):
            raise InputError(
                f"the {rung} null has {null.sizes['run']} of {sweep.sizes['run']} runs, or other "
                "epochs; each run must have it"
            )


def _check_scales(sweep: xr.Dataset) -> None:
    require(sweep.sizes["epoch"] > 0, "no run has a snapshot; there is nothing to analyze")
    require(
        "size" in sweep,
        "the runs have no avalanche sizes; D(t) needs the size of an avalanche at every snapshot",
    )
    scales = np.unique(sweep["n_parameters"].values)
    if scales.size == 1:
        raise InputError(f"all runs have N = {scales[0]}; D(t) needs at least three sizes of network")
    if not scales.size >= FEWEST_SCALES:
        raise InputError(
            f"the sweep has {scales.size} scales; D(t) needs at least {FEWEST_SCALES} sizes of network"
        )
