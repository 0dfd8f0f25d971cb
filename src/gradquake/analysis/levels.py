"""Single numbers of D(t): its mean, its levels around the crossing of 1, and its worst fit.

The resampled curves are held all at once, for sweeps of a few hundred snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.dimension import Curve
from gradquake.analysis.resampling import Estimate, estimated

__all__ = [
    "Levels", "LevelsAround", "levels_around", "levels_around_crossing", "share_of_good_fits",
    "smallest_r_squared", "time_average",
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


def _levels(epochs: NDArray[np.int64], values: Floats, crossings: Floats) -> Levels:
    """Return the levels of curves (..., epochs) around crossings (...)."""
    before = epochs <= crossings[..., None]
    crossed = np.isfinite(crossings)
    lowest = np.where(before, values, np.inf).min(axis=-1)
    count = np.maximum((~before).sum(axis=-1), 1)
    after = np.where(before, 0.0, values).sum(axis=-1) / count
    return Levels(np.where(crossed, lowest, np.nan), np.where(crossed, after, np.nan))
