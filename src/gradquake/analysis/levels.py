"""Single numbers of D(t): its mean, its levels around the crossing of 1, its worst fit, and partings.

The resampled curves are held all at once, for sweeps of a few hundred snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.dimension import Curve
from gradquake.analysis.resampling import Estimate, estimated, percentile_interval
from gradquake.errors import require

__all__ = [
    "Levels", "LevelsAround", "Point", "levels_around", "levels_around_crossing", "lowest_point",
    "parting", "share_of_good_fits", "smallest_r_squared", "time_average",
]  # fmt: skip

Floats = NDArray[np.float64]


class Levels(NamedTuple):
    """The lowest D(t) up to an epoch, and the mean D(t) after it; NaN if there is no such epoch."""

    before: Floats
    after: Floats


@dataclass(frozen=True, eq=False)
class LevelsAround:
    """The levels of D(t) around its crossing of 1 from below.

    Attributes
    ----------
    before : Estimate
        The lowest D(t) up to the crossing. Each resample has its own crossing.
    after : Estimate
        The mean of D(t) after the crossing.
    """

    before: Estimate
    after: Estimate


class Point(NamedTuple):
    """D(t) at one epoch, and its 95 % interval there."""

    value: float
    low: float
    high: float


def levels_around_crossing(curve: Curve) -> LevelsAround:
    """Return the levels of D(t) before and after its crossing of 1 from below.

    Without a value if D(t) does not cross 1.
    """
    observed = levels_around(curve, curve.crossing.value)
    exponents = np.concatenate([block.exponents for block in curve.resampled()], axis=1)
    epochs = curve.dimension["epoch"].values
    resampled = _levels(epochs, exponents, curve.crossing.resamples)
    before, after = (
        estimated(float(value), of_resamples, curve.crossing.runs)
        for value, of_resamples in zip(observed, resampled, strict=True)
    )
    return LevelsAround(before, after)


def levels_around(curve: Curve, epoch: float) -> Levels:
    """Return the levels of D(t) around an epoch, for example around the crossing of another curve."""
    dimension = curve.dimension
    return _levels(dimension["epoch"].values, dimension["value"].values, np.asarray(epoch))


def lowest_point(curve: Curve) -> Point:
    """Return the smallest D(t) with its interval at that epoch; NaN if D(t) is defined at no epoch."""
    values = curve.dimension["value"].values
    if np.isnan(values).all():
        return Point(np.nan, np.nan, np.nan)
    at = int(np.nanargmin(values))
    return Point(*(float(curve.dimension[end][at]) for end in ("value", "low", "high")))


def time_average(curve: Curve) -> Estimate:
    """Return the mean of D(t) over the snapshots."""
    exponents = np.concatenate([block.exponents for block in curve.resampled()], axis=1)
    observed = float(curve.dimension["value"].mean())
    return estimated(observed, exponents.mean(axis=1), curve.dimension.attrs["fewest_runs"])


def smallest_r_squared(curve: Curve) -> Estimate:
    """Return the smallest R² of the fits behind D(t)."""
    worst = np.concatenate([block.r_squared for block in curve.resampled()], axis=1).min(axis=1)
    observed = float(curve.dimension["r_squared"].min())
    return estimated(observed, worst, curve.dimension.attrs["fewest_runs"])


def share_of_good_fits(curve: Curve, above: float) -> float:
    """Return the share of the snapshots at which the fit behind D(t) has an R² above a level."""
    return float((curve.dimension["r_squared"] > above).mean())


def parting(curve: Curve, other: Curve, level: float = 0.90) -> float:
    """Return the first epoch from which the intervals of two D(t) stay apart to the end.

    Parameters
    ----------
    curve, other : Curve
        On the same epochs.
    level : float
        The nominal coverage of the intervals, in (0, 1).

    Returns
    -------
    float
        NaN if the intervals overlap at the last epoch, or if there are none.

    Raises
    ------
    InputError
        If the epochs differ, or the level is not in (0, 1).
    """
    epochs = curve.dimension["epoch"]
    require(
        epochs.equals(other.dimension["epoch"]),
        "the two curves have different epochs; when they part needs the same",
    )
    low, high = _ends(curve, level)
    other_low, other_high = _ends(other, level)
    # Comparisons with NaN are false: without an interval the two are not apart.
    together = np.flatnonzero(~((low > other_high) | (high < other_low)))
    first = together[-1] + 1 if together.size else 0
    return float(epochs[first]) if first < epochs.size else np.nan


def _levels(epochs: NDArray[np.int64], values: Floats, crossings: Floats) -> Levels:
    """Return the levels of curves (..., epochs) around crossings (...)."""
    before = epochs <= crossings[..., None]
    crossed = np.isfinite(crossings)
    lowest = np.where(before, values, np.inf).min(axis=-1)
    count = np.maximum((~before).sum(axis=-1), 1)
    after = np.where(before, 0.0, values).sum(axis=-1) / count
    return Levels(np.where(crossed, lowest, np.nan), np.where(crossed, after, np.nan))


def _ends(curve: Curve, level: float) -> Floats:
    """Return the ends of the intervals of D(t), shape (2, epochs)."""
    runs = curve.dimension.attrs["fewest_runs"]
    ends = [
        percentile_interval(at, runs, level) for block in curve.resampled() for at in block.exponents.T
    ]
    return np.array([[interval.low for interval in ends], [interval.high for interval in ends]])
