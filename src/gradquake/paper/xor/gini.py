"""The Gini coefficient of the weights around the transition, over many seeds of one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.transitions import Peaks, peaks

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ALIGNED_AFTER", "ALIGNED_BEFORE", "Band", "GiniStudy", "gini_study"]

# The epochs around t_g in which the Gini coefficient is shown and its peak is sought.
ALIGNED_BEFORE = 30
ALIGNED_AFTER = 60


@dataclass(frozen=True, eq=False)
class Band:
    """A curve over many runs: its middle and the quartiles of the runs around it."""

    x: NDArray[np.int64]
    middle: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    runs: int


@dataclass(frozen=True, eq=False)
class GiniStudy:
    """Many seeds of the representative size, recorded at every epoch.

    Attributes
    ----------
    grokking_epochs : array, shape (runs,)
        NaN for a run that never reached 100 %.
    peaks : Peaks
        The transient peak of the Gini coefficient in each run.
    accuracy, gini : array, shape (epochs,)
        Of the run with seed 0.
    median_grokking_epoch : float
        A run that never reached 100 % counts as infinitely late.
    accuracy_band : Band
        Mean accuracy against the epoch.
    gini_band : Band or None
        Median Gini coefficient against the epoch minus t_g, over the runs that were measured at all
        these epochs; None if there is no such run.
    """

    grokking_epochs: NDArray[np.float64]
    peaks: Peaks
    accuracy: NDArray[np.float64]
    gini: NDArray[np.float64]
    median_grokking_epoch: float
    accuracy_band: Band
    gini_band: Band | None


def gini_study(dataset: xr.Dataset) -> GiniStudy:
    """Return what the many seeds show; the sweep needs a snapshot at every epoch."""
    epochs, accuracy, gini = (dataset[name].values for name in ("epoch", "accuracy", "gini"))
    reached = dataset["grokking_epoch"].values
    offsets = np.arange(-ALIGNED_BEFORE, ALIGNED_AFTER + 1)
    whole = (reached >= ALIGNED_BEFORE) & (reached + ALIGNED_AFTER <= epochs[-1])
    columns = reached[whole, None].astype(np.int64) + offsets
    aligned = np.take_along_axis(gini[whole], columns, axis=1)
    return GiniStudy(
        grokking_epochs=reached,
        peaks=peaks(dataset, before=ALIGNED_BEFORE, after=ALIGNED_AFTER),
        accuracy=accuracy[0],
        gini=gini[0],
        median_grokking_epoch=float(np.median(np.where(np.isnan(reached), np.inf, reached))),
        accuracy_band=_band(epochs, accuracy, accuracy.mean(axis=0)),
        gini_band=_band(offsets, aligned, np.median(aligned, axis=0)) if len(aligned) else None,
    )


def _band(x: NDArray[np.int64], rows: NDArray[np.float64], middle: NDArray[np.float64]) -> Band:
    low, high = np.quantile(rows, [0.25, 0.75], axis=0)
    return Band(x, middle, low, high, len(rows))
