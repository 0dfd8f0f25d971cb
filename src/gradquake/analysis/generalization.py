"""Statements on D(t) around generalization: its nearest crossing of 1, its levels, and partings.

A statement must not hang on one size of network, so each is also made without every single scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis.dimension import Block, dimension
from gradquake.analysis.resampling import Estimate, Interval, estimated, estimated_with_infinite
from gradquake.analysis.scales import FEWEST_SCALES, scale_groups
from gradquake.analysis.statistics import Statistic
from gradquake.analysis.timing import LEAST_SHARE, aligned, median_over_runs
from gradquake.analysis.transitions import crossing_starts

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Around", "Lines", "Robust", "crossing_nearest", "crossing_offset", "distance", "lines_of",
    "lowest_since", "mean_since", "means_around", "median_epoch", "parting_lead",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lines:
    """D(t) of a sweep, and D(t) in every resample of its runs.

    Attributes
    ----------
    epochs : array, shape (snapshots,)
    rows : array, shape (1 + B, snapshots)
        The measured D(t), then that of each of the B resamples.
    low, high : array, shape (snapshots,)
        The ends of the 95 % interval at each epoch.
    runs : int
        The fewest runs of a scale.
    """

    epochs: NDArray[np.int64]
    rows: Floats
    low: Floats
    high: Floats
    runs: int

    def estimate(self, values: Floats) -> Estimate:
        """Return the estimate of one number of each row; it may be infinite."""
        return estimated_with_infinite(float(values[0]), values[1:], self.runs)


class Around(NamedTuple):
    """The mean D(t) before and after an event."""

    before: Estimate
    after: Estimate


@dataclass(frozen=True, eq=False)
class Robust:
    """An estimate from all scales, and the same without each of them.

    Attributes
    ----------
    all_scales : Estimate
    without : mapping of int to Estimate
        By the N that is left out; empty if too few scales are left for D(t).
    """

    all_scales: Estimate
    without: Mapping[int, Estimate] = field(default_factory=dict)

    @property
    def widest(self) -> Interval:
        """The interval that holds those of all scales and without each; NaN if one is not defined.

        If it lies on one side of a value, no single scale decides that.
        """
        found = [self.all_scales, *self.without.values()]
        low, high = ([getattr(of, end) for of in found] for end in ("low", "high"))
        if not self.without or np.isnan([*low, *high]).any():
            return Interval(np.nan, np.nan, 1.0)
        return Interval(min(low), max(high), max(of.invalid for of in found))


def lines_of(sweep: xr.Dataset, statistic: Statistic) -> Lines:
    """Return D(t) of a sweep with its resamples.

    Raises
    ------
    InputError
        For another statistic, or fewer than three scales.
    """
    blocks: list[Block] = []
    found = dimension(sweep, statistic, each_block=blocks.append)
    value, low, high = (found[name].values for name in ("value", "low", "high"))
    rows = np.concatenate([value[None], np.concatenate([of.exponents for of in blocks], axis=1)])
    return Lines(found["epoch"].values, rows, low, high, found.attrs["fewest_runs"])


def median_epoch(sweep: xr.Dataset, events: Floats) -> Floats:
    """Return the median epoch of an event over runs, and in every resample, shape (1 + B,).

    ``events`` has shape (runs,); a run without the event (NaN) counts as infinitely late.
    """
    found = median_over_runs(sweep, np.nan_to_num(events, nan=np.inf))
    return np.concatenate([[found.value], found.resamples])


def crossing_nearest(
    epochs: ArrayLike,
    curves: ArrayLike,
    target: ArrayLike,
    since: ArrayLike,
    level: float = 1.0,
    *,
    hold: int = 3,
) -> Floats:
    """Return when curves pass a level, up or down, nearest to a target time.

    Parameters
    ----------
    epochs : array, shape (snapshots,)
    curves : array, shape (k, snapshots)
    target, since : array, shape (k,)
        The time that the crossing is sought near; crossings before ``since`` are left out.
    level : float
    hold : int
        As in ``transitions.crossing``, which finds the first crossing in one direction.

    Returns
    -------
    array, shape (k,)
        The time in epochs; NaN for a curve without a crossing, or a target that is not finite.
    """
    t, values = np.asarray(epochs, np.float64), np.asarray(curves, np.float64) - level
    starts = t.size - hold
    if starts <= 0:
        return np.full(len(values), np.nan)
    crosses = crossing_starts(values, hold) | crossing_starts(-values, hold)
    now, following = values[:, :starts], values[:, 1 : starts + 1]
    share = np.divide(now, now - following, out=np.zeros_like(now), where=crosses)
    times = t[:starts] + share * (t[1 : starts + 1] - t[:starts])
    aim, start = (np.asarray(of, np.float64)[:, None] for of in (target, since))
    allowed = crosses & (times >= start) & np.isfinite(aim)
    with np.errstate(invalid="ignore"):
        apart = np.where(allowed, np.abs(times - aim), np.inf)
    nearest = np.take_along_axis(times, apart.argmin(axis=1)[:, None], axis=1)[:, 0]
    found: Floats = np.where(allowed.any(axis=1), nearest, np.nan)
    return found


def crossing_offset(lines: Lines, reached: Floats, saturated: Floats) -> Estimate:
    """Return the nearest crossing of 1 minus the time that it is sought near.

    Infinite if D(t) does not cross 1 from ``saturated`` on: it may do so after the last snapshot.

    Parameters
    ----------
    lines : Lines
    reached, saturated : array, shape (1 + B,)
        As ``median_epoch`` returns them, of the runs of ``lines``.
    """
    offset = crossing_nearest(lines.epochs, lines.rows, reached, saturated) - np.where(
        np.isfinite(reached), reached, 0.0
    )
    return lines.estimate(np.nan_to_num(offset, nan=np.inf))


def distance(offset: Estimate) -> Estimate:
    """Return how far a crossing lies from the time that it is sought near, in either direction."""
    return estimated_with_infinite(abs(offset.value), np.abs(offset.resamples), offset.runs)


def means_around(
    sweep: xr.Dataset, saturated: Floats, reached: Floats, statistic: Statistic
) -> Around | None:
    """Return the mean D(t) before and after an event of each run, on the time since it.

    Snapshots before a run's training accuracy saturates are left out, and so are runs without one of
    the two times, and the scales at which fewer than half of the runs have both.

    Parameters
    ----------
    sweep : xarray.Dataset
    saturated, reached : array, shape (runs,)
        The epochs of each run; NaN for a run without.
    statistic : str

    Returns
    -------
    Around or None
        None if fewer than three scales are left.
    """
    there = np.isfinite(saturated) & np.isfinite(reached)
    groups = [runs[there[runs]] for _, runs in scale_groups(sweep) if there[runs].mean() >= LEAST_SHARE]
    if len(groups) < FEWEST_SCALES:
        return None
    kept = np.concatenate(groups)
    late = sweep["epoch"].values >= saturated[:, None]
    sizes = sweep["size"].where(sweep["size"].copy(data=late)).isel(run=kept)
    lines = lines_of(aligned(sizes.to_dataset(), reached[kept], sweep.attrs["every"]), statistic)
    parts = (lines.epochs < 0, lines.epochs >= 0)
    means = (_mean(lines.rows[:, part]) for part in parts)
    return Around(*(estimated(float(of[0]), of[1:], lines.runs) for of in means))


def lowest_since(lines: Lines, since: float) -> Estimate:
    """Return the lowest D(t) from an epoch on.

    Its interval reaches from the lowest lower end at any epoch to the lowest upper end. So it lies above
    a level if the intervals of all epochs do, and below if that of one epoch does. There is no lower end
    if D(t) is undefined at some epoch.
    """
    late = lines.epochs >= since
    value, low, high = lines.rows[0][late], lines.low[late], lines.high[late]
    known = np.isfinite(value)
    if not known.any():
        return estimated(np.nan, np.empty(0), lines.runs)
    lower = float(low.min()) if known.all() else np.nan
    upper = np.nan if np.isnan(high).all() else float(np.nanmin(high))
    return Estimate(low=lower, high=upper, invalid=0.0, value=float(value[known].min()), runs=lines.runs)


def mean_since(lines: Lines, since: float) -> Estimate:
    """Return the mean D(t) from an epoch on."""
    means = _mean(lines.rows[:, lines.epochs >= since])
    return estimated(float(means[0]), means[1:], lines.runs)


def parting_lead(lines: Lines, other: Lines, reached: Floats, saturated: Floats) -> Estimate:
    """Return how long before a time two D(t) part.

    They part at the first epoch, not before ``saturated``, from which one stays above the other to the
    end. Minus infinity if they are not apart at the last epoch.

    Parameters
    ----------
    lines, other : Lines
        On the same epochs, with equally many runs: a run of one is resampled with its like of the other.
    reached, saturated : array, shape (1 + B,)
        As ``median_epoch`` returns them.
    """
    apart: Floats = np.sign(np.nan_to_num(lines.rows - other.rows))
    differs = apart != apart[:, -1:]
    # The epoch after the last one with another order; the first epoch if there is none.
    last = np.where(differs.any(axis=1), apart.shape[1] - differs[:, ::-1].argmax(axis=1), 0)
    parting = np.maximum(lines.epochs[np.minimum(last, apart.shape[1] - 1)], saturated)
    parted = np.isfinite(reached) & np.isfinite(parting) & (apart[:, -1] != 0)
    lead = np.subtract(reached, parting, out=np.full(len(reached), -np.inf), where=parted)
    return lines.estimate(lead)


def _mean(rows: Floats) -> Floats:
    """Return the mean of each row over its defined values; NaN if there is none."""
    known = np.isfinite(rows)
    count = known.sum(axis=1)
    total = np.where(known, rows, 0.0).sum(axis=1)
    means: Floats = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    return means
