"""The Gini coefficient of the weights around the transition, over many seeds of one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.snapshots import Band, quartile_band
from gradquake.analysis.timing import GrokkingSpread, grokking_spread
from gradquake.analysis.transitions import TypicalPeak, peaks, typical_peak

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ALIGNED_AFTER", "ALIGNED_BEFORE", "GiniStudy", "gini_study"]

# The epochs around t_g in which the Gini coefficient is shown and its peak is sought.
ALIGNED_BEFORE = 30
ALIGNED_AFTER = 60
# A peak at most this number of epochs from t_g is at the transition.
NEAR = 10


@dataclass(frozen=True, eq=False)
class GiniStudy:
    """Many seeds of the representative size, recorded at every epoch.

    Attributes
    ----------
    grokking_epochs : array, shape (runs,)
        NaN for a run that never reached 100 %.
    grokking : GrokkingSpread
        Their median, and the range of the central 95 % of them.
    peak : TypicalPeak
        The transient peak of the Gini coefficient over the runs.
    accuracy, gini : array, shape (epochs,)
        Of the run with seed 0.
    accuracy_band : Band
        Mean accuracy against the epoch.
    gini_band : Band or None
        Median Gini coefficient against the epoch minus t_g, over the runs that were measured at all
        these epochs; None if there is no such run.
    """

    grokking_epochs: NDArray[np.float64]
    grokking: GrokkingSpread
    peak: TypicalPeak
    accuracy: NDArray[np.float64]
    gini: NDArray[np.float64]
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
        grokking=grokking_spread(reached),
        peak=typical_peak(peaks(dataset, before=ALIGNED_BEFORE, after=ALIGNED_AFTER), near=NEAR),
        accuracy=accuracy[0],
        gini=gini[0],
        accuracy_band=quartile_band(epochs, accuracy, "mean"),
        gini_band=quartile_band(offsets, aligned) if len(aligned) else None,
    )
