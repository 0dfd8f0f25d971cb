"""How early a number tells which runs will grok."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.early_warning import Separation, area_under_roc
from gradquake.analysis.fits import slopes
from gradquake.analysis.resampling import FEWEST_RUNS, estimated

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["OF_SEED", "WARNINGS", "numbers_of_runs", "separation"]

# The numbers that may warn of grokking. D is one number for all runs of a seed, at all widths.
OF_SEED = "D of the seed"
RECORDED = {"weight norm": "weight_norm", "gradient norm": "gradient_norm", "train loss": "loss"}
WARNINGS = ("s / N", OF_SEED, *RECORDED)


def separation(item: tuple[xr.Dataset, xr.Dataset, str]) -> Separation:
    """Return how well a number separates runs that will grok from those of one control.

    Parameters
    ----------
    item : tuple of two xarray.Dataset and str
        The sweep whose runs grok, that of a control, and a name of ``WARNINGS``. Runs of the first
        that did not grok, and runs of the control that did, are left out.
    """
    sweep, control, warning = item
    epochs = sweep["epoch"].values
    (values, sizes), (of_control, control_sizes) = (
        _numbers(of, warning, grokked=grokked) for of, grokked in ((sweep, True), (control, False))
    )
    shared = _comparable(sizes, control_sizes)
    if not shared.size:
        return Separation(epochs, [estimated(np.nan, np.empty(0), 1) for _ in epochs])
    mine, other = np.isin(sizes, shared), np.isin(control_sizes, shared)
    areas = [
        area_under_roc(at[mine], sizes[mine], beside[other], control_sizes[other]).slim()
        for at, beside in zip(values.T, of_control.T, strict=True)
    ]
    return Separation(epochs, areas)


def numbers_of_runs(sweep: xr.Dataset, warning: str) -> NDArray[np.float64]:
    """Return a number of each run at each snapshot, shape (runs, snapshots)."""
    if warning in RECORDED:
        named: NDArray[np.float64] = sweep[RECORDED[warning]].values
        return named
    n = sweep["n_parameters"].values
    share: NDArray[np.float64] = sweep["size"].values / n[:, None]
    if warning != OF_SEED:
        return share
    # One exponent for all runs of a seed, from the sizes of its one run at every width.
    seeds = sweep["seed"].values
    result = np.empty(share.shape)
    for seed in np.unique(seeds):
        runs = np.flatnonzero(seeds == seed)
        result[runs] = slopes(n[runs], sweep["size"].values[runs].T)
    return result


def _comparable(sizes: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sizes of which both have several runs; if there is none, those that both have."""
    shared = np.intersect1d(sizes, others)
    fewest = np.array([min((sizes == n).sum(), (others == n).sum()) for n in shared])
    several = shared[fewest >= FEWEST_RUNS] if shared.size else shared
    return several if several.size else shared


def _numbers(
    sweep: xr.Dataset, warning: str, *, grokked: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the numbers of the runs with one outcome (runs, snapshots), and their sizes (runs,)."""
    found, n = numbers_of_runs(sweep, warning), sweep["n_parameters"].values
    outcome = np.isfinite(sweep["grokking_epoch"].values)
    if warning == OF_SEED:
        # All runs of a seed have one number, so it counts once, with the outcome of most of them.
        seeds = sweep["seed"].values
        rows = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
        found = found[[runs[0] for runs in rows]]
        outcome = np.array([outcome[runs].mean() > 0.5 for runs in rows])
        n = np.zeros(len(rows), np.int64)
    return found[outcome == grokked], n[outcome == grokked]
