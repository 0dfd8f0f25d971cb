"""Everything that one sweep says, in one pass: its exponents, D(t), crossings and grokking epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling, transitions
from gradquake.analysis.resampling import N_RESAMPLES, Interval, percentile_interval
from gradquake.analysis.scaling import Exponent, Statistic
from gradquake.analysis.transitions import GrokkingEpochs

if TYPE_CHECKING:
    import xarray as xr

Window = Literal["all", "pre", "post"]
WINDOWS: tuple[Window, ...] = ("all", "pre", "post")


@dataclass(frozen=True, eq=False)
class Curve:
    """D(t) of one statistic with its crossing of 1 from below.

    Attributes
    ----------
    dimension : xarray.Dataset
        As ``scaling.dimension`` returns it.
    crossing : float
        The epoch of the crossing; NaN where there is none.
    crossing_interval : Interval
        95 % percentile bootstrap over runs; ``invalid`` is the share of resamples without one.
    crossing_resamples : array, shape (B,)
    """

    dimension: xr.Dataset
    crossing: float
    crossing_interval: Interval
    crossing_resamples: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SweepAnalysis:
    """The analysis of one sweep.

    Attributes
    ----------
    dataset : xarray.Dataset
        What was analysed.
    exponents : dict
        By (window, statistic): windows "all", "pre" and "post" of each run's t_g; "max" gives D and
        "mean" gamma.
    curves : dict
        D(t) by statistic.
    grokking : list of GrokkingEpochs
        By scale, ascending.
    """

    dataset: xr.Dataset
    exponents: dict[tuple[Window, Statistic], Exponent]
    curves: dict[Statistic, Curve]
    grokking: list[GrokkingEpochs]

    @property
    def grokking_window(self) -> tuple[float, float]:
        """The first and last grokking epoch of all runs; NaN where none grokked."""
        epochs = self.dataset["grokking_epoch"].values
        if np.isnan(epochs).all():
            return np.nan, np.nan
        return float(np.nanmin(epochs)), float(np.nanmax(epochs))

    def snapshot_interval(self, window: Window, statistic: Statistic) -> Interval:
        """Return an exponent's interval from a bootstrap over single snapshots: too narrow."""
        return scaling.snapshot_interval(self.dataset, statistic, _where(self.dataset, window))

    def crosses_in_window(self, statistic: Statistic) -> bool:
        """Return whether D(t) crosses 1 from below inside the grokking window."""
        first, last = self.grokking_window
        return first <= self.curves[statistic].crossing <= last


def analyze(dataset: xr.Dataset, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> SweepAnalysis:
    """Analyse one sweep (see ``gradquake.recording``).

    Raises
    ------
    InputError
        For fewer than three scales.
    """
    curves = {
        statistic: _curve(dataset, statistic, n_resamples, seed) for statistic in scaling.STATISTICS
    }
    pairs = [(window, statistic) for window in WINDOWS for statistic in scaling.STATISTICS]
    exponents = {
        (w, s): scaling.exponent(dataset, s, _where(dataset, w), n_resamples=n_resamples, seed=seed)
        for w, s in pairs
    }
    grokking = transitions.grokking_epochs(dataset, n_resamples=n_resamples, seed=seed)
    return SweepAnalysis(dataset, exponents, curves, grokking)


def _where(dataset: xr.Dataset, window: Window) -> xr.DataArray | None:
    return None if window == "all" else transitions.phase(dataset, window)


def _curve(dataset: xr.Dataset, statistic: Statistic, n_resamples: int, seed: int) -> Curve:
    dimension = scaling.dimension(dataset, statistic, n_resamples=n_resamples, seed=seed)
    epochs = dimension["epoch"].values
    observed = float(transitions.crossing(epochs, dimension["exponent"].values))
    resampled = transitions.crossing(epochs, dimension["exponent_resamples"].values)
    return Curve(dimension, observed, percentile_interval(resampled), resampled)
