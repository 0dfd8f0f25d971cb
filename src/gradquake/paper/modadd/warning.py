"""How early a number tells which runs will grok."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.early_warning import Separation, area_under_roc
from gradquake.analysis.fits import slopes
from gradquake.analysis.resampling import estimated

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["WARNINGS", "numbers_of_runs", "separation"]

# The numbers that may warn of grokking. D is one number for all runs of a seed, at all widths.
OF_SEED = "D of the seed"
RECORDED = {"weight norm": "weight_norm", "gradient norm": "gradient_norm", "train loss": "loss"}
WARNINGS = ("s / N", OF_SEED, *RECORDED)


def separation(item: tuple[dict[str, xr.Dataset], str]) -> Separation:
    """Return how well a number separates runs that will grok from the others.

    Parameters
    ----------
    item : tuple of dict and str
        The sweeps by condition, and a name of ``WARNINGS``.
    """
    sweeps, warning = item
    values, positive, sizes, cells = [], [], [], []
    for condition, sweep in enumerate(sweeps.values()):
        n, grokked = sweep["n_parameters"].values, np.isfinite(sweep["grokking_epoch"].values)
        found = numbers_of_runs(sweep, warning)
        if warning == OF_SEED:
            # All runs of a seed have one number, so it counts once.
            seeds = sweep["seed"].values
            rows = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
            found = found[[runs[0] for runs in rows]]
            grokked = np.array([grokked[runs].mean() > 0.5 for runs in rows])
            n = np.zeros(len(rows), np.int64)
        values.append(found)
        positive.append(grokked)
        sizes.append(n)
        cells.append(n * len(sweeps) + condition)
    of_run, label, size, cell = (np.concatenate(part) for part in (values, positive, sizes, cells))
    epochs = next(iter(sweeps.values()))["epoch"].values
    if not any(len(set(label[size == n].tolist())) == 2 for n in size):
        return Separation(epochs, [estimated(np.nan, np.empty(0), 1) for _ in epochs])
    return Separation(epochs, [area_under_roc(at, label, size, cell).slim() for at in of_run.T])


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
