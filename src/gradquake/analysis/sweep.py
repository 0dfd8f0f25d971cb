"""Everything that one sweep says, in one pass: its exponents, D(t), crossings and grokking epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradquake.analysis import scaling, transitions
from gradquake.analysis.resampling import N_RESAMPLES, Estimate, Interval, estimated
from gradquake.analysis.scaling import Exponent, Statistic
from gradquake.analysis.transitions import GrokkingEpochs
from gradquake.errors import require

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
    crossing : Estimate
        The epoch of the crossing; NaN where there is none. ``interval.invalid`` is the share of
        resamples without one.
    """

    dimension: xr.Dataset
    crossing: Estimate

    def slim(self) -> Curve:
        """Return it without its resamples, to keep or to send."""
        resampled = ["exponent_resamples", "r_squared_resamples"]
        return Curve(self.dimension.drop_vars(resampled), self.crossing.slim())


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
        return scaling.snapshot_interval(self.dataset, statistic, snapshots_of(self.dataset, window))

    def crosses_in_window(self, statistic: Statistic) -> bool:
        """Return whether D(t) crosses 1 from below inside the grokking window."""
        first, last = self.grokking_window
        return first <= self.curves[statistic].crossing.estimate <= last


def analyze(dataset: xr.Dataset, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> SweepAnalysis:
    """Analyse one sweep (see ``gradquake.recording``).

    Raises
    ------
    InputError
        For fewer than three scales.
    """
    curves = {
        statistic: curve(dataset, statistic, n_resamples=n_resamples, seed=seed)
        for statistic in scaling.STATISTICS
    }
    pairs = [(window, statistic) for window in WINDOWS for statistic in scaling.STATISTICS]
    exponents = {
        (w, s): scaling.exponent(
            dataset, s, snapshots_of(dataset, w), n_resamples=n_resamples, seed=seed
        )
        for w, s in pairs
    }
    grokking = transitions.grokking_epochs(dataset, n_resamples=n_resamples, seed=seed)
    return SweepAnalysis(dataset, exponents, curves, grokking)


def snapshots_of(dataset: xr.Dataset, window: Window) -> xr.DataArray | None:
    """Return which snapshots lie in a window; None for all of them."""
    return None if window == "all" else transitions.phase(dataset, window)


def curve(
    dataset: xr.Dataset, statistic: Statistic, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Curve:
    """Return D(t) of a statistic with its crossing of 1.

    Raises
    ------
    InputError
        For fewer than three scales.
    """
    dimension = scaling.dimension(dataset, statistic, n_resamples=n_resamples, seed=seed)
    return Curve(dimension, _crossing(dimension, 1.0))


def crossing_of_null(curve: Curve, null: Curve) -> Estimate:
    """Return when D(t) passes from below to above that of a null, the same runs resampled in both.

    Raises
    ------
    InputError
        Where the two have other epochs or numbers of runs or resamples, or no resamples any more.
    """
    one, other = curve.dimension, null.dimension
    name = "exponent_resamples"
    require(
        (name in one and name in other and one[name].shape == other[name].shape)
        and one["epoch"].equals(other["epoch"])
        and one.attrs["fewest_runs"] == other.attrs["fewest_runs"],
        "the two curves do not have the same epochs, runs and resamples; a crossing needs the same",
    )
    return _crossing(one - other, 0.0, one.attrs["fewest_runs"])


def _crossing(dimension: xr.Dataset, level: float, runs: int | None = None) -> Estimate:
    epochs = dimension["epoch"].values
    observed = float(transitions.crossing(epochs, dimension["exponent"].values, level))
    resampled = transitions.crossing(epochs, dimension["exponent_resamples"].values, level)
    runs = dimension.attrs["fewest_runs"] if runs is None else runs
    return estimated(observed, resampled, runs)
