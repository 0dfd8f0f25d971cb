"""A recorded variable over all snapshots of a sweep, and over all runs at each snapshot.

The runs are resampled within each scale, and each with all its snapshots. Every run needs all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.resampling import Estimate, estimated, run_resamples
from gradquake.analysis.scales import scale_groups

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Band", "mean_over_snapshots", "quartile_band",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Band:
    """A variable over many runs: its middle, and the quartiles of the runs around it.

    Attributes
    ----------
    x : array, shape (snapshots,)
    middle, low, high : array, shape (snapshots,)
    runs : int
        The number of runs.
    """

    x: NDArray[np.int64]
    middle: Floats
    low: Floats
    high: Floats
    runs: int


def mean_over_snapshots(sweep: xr.Dataset, variable: str) -> Estimate:
    """Return the mean of a variable over all snapshots of all runs."""
    values = sweep[variable].values.astype(np.float64)
    resampled = _resampled_means(sweep, values.mean(axis=1, keepdims=True))[:, 0]
    return estimated(float(values.mean()), resampled, _fewest_runs(sweep))


def quartile_band(
    x: NDArray[np.int64], rows: Floats, middle: Literal["median", "mean"] = "median"
) -> Band:
    """Return the median or the mean of runs at each snapshot, with the quartiles of the runs.

    Parameters
    ----------
    x : array, shape (snapshots,)
    rows : array, shape (runs, snapshots)
    middle : {"median", "mean"}
    """
    low, high = np.quantile(rows, [0.25, 0.75], axis=0)
    of_runs = np.median(rows, axis=0) if middle == "median" else rows.mean(axis=0)
    return Band(x, of_runs, low, high, len(rows))


def _fewest_runs(sweep: xr.Dataset) -> int:
    return min(runs.size for _, runs in scale_groups(sweep))


def _resampled_means(sweep: xr.Dataset, of_runs: Floats) -> Floats:
    """Return means over resampled runs, (runs, k) to (B, k), runs resampled within each scale."""
    members = [runs for _, runs in scale_groups(sweep)]
    draws = run_resamples([runs.size for runs in members])
    means: Floats = sum(of_runs[runs[d]].sum(axis=1) for runs, d in zip(members, draws, strict=True))
    return means / len(of_runs)
