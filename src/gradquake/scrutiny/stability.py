"""Whether gradient descent was stable: learning rate x sharpness at every scale.

Gradient descent on a parabola diverges if the learning rate times the sharpness, the largest eigenvalue
of the Hessian, is above 2. (J. Cohen and others, ICLR 2021.)
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradquake.analysis.resampling import N_RESAMPLES, Estimate, estimated, run_resamples
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.shown import Shown
from gradquake.errors import InputError
from gradquake.experiments.table import find
from gradquake.scrutiny import replay
from gradquake.scrutiny.measure import in_order
from gradquake.study.execution import each, tasks
from gradquake.study.recording import to_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Stability", "knows_sharpness", "stability"]


@dataclass(frozen=True, eq=False, repr=False)
class Stability(Shown):
    """The stability of gradient descent at one scale, as means over its runs.

    Attributes
    ----------
    n_parameters : int
    sharpness : Estimate
        At epoch 0.
    at_start, largest, at_end : Estimate
        Learning rate times sharpness: at epoch 0, at the snapshot at which it is largest in each run,
        and at the last snapshot.
    rises : Estimate
        The share of epochs at which the loss was above that of the epoch before.
    """

    n_parameters: int
    sharpness: Estimate
    at_start: Estimate
    largest: Estimate
    at_end: Estimate
    rises: Estimate

    @property
    def _title(self) -> str:
        return f"Stability at N = {self.n_parameters}"

    def _lines(self) -> Mapping[str, str]:
        names = ("sharpness", "at_start", "largest", "at_end", "rises")
        return {name.replace("_", " "): getattr(self, name).text for name in names}


def knows_sharpness(sweep: xr.Dataset) -> bool:
    """Return whether the experiment of a sweep can compute its sharpness."""
    return replay.can_replay(sweep) and find(sweep.attrs["experiment"]).sharpness is not None


def stability(
    sweep: xr.Dataset, executor: Executor | None = None, *, n_resamples: int = N_RESAMPLES
) -> list[Stability]:
    """Return the stability of gradient descent in a sweep's runs at every scale, ascending.

    Raises
    ------
    InputError
        If the sharpness of the sweep's experiment is not known.
    """
    runs = replay.runs_of(in_order(sweep))
    sharpness = find(runs[0].experiment).sharpness
    if sharpness is None:
        raise InputError(f"the sharpness of {runs[0].experiment} is not known; that of xor is")
    records = [record for part in each(sharpness, tasks(runs), executor) for record in part]
    measured = to_dataset(records)
    product = measured["rate_times_sharpness"].values
    of_runs = {
        "sharpness": measured["sharpness"].values[:, 0],
        "at_start": product[:, 0],
        "largest": product.max(axis=1),
        "at_end": product[:, -1],
        # Every interval between snapshots is as long, and there is none before epoch 0.
        "rises": measured["rises"].values[:, 1:].mean(axis=1),
    }
    groups = scale_groups(measured)
    drawn = run_resamples([where.size for _, where in groups], n_resamples)
    found = []
    for (n, where), draws in zip(groups, drawn, strict=True):
        means = {
            name: estimated(
                float(np.mean(values[where])), values[where][draws].mean(axis=1), where.size
            ).slim()
            for name, values in of_runs.items()
        }
        found.append(Stability(int(n), **means))
    return found
