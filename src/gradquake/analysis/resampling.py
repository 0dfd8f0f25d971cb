"""The bootstrap: runs are resampled within each scale, since a run is the independent unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import require_between, require_count

N_RESAMPLES = 10_000

# With fewer runs at a scale there is nothing to resample.
FEWEST_RUNS = 2

# An interval is not given where more than this share of the resamples has no value.
MOST_INVALID = 0.05


@dataclass(frozen=True)
class Interval:
    """A percentile interval.

    Attributes
    ----------
    low, high : float
        Its ends; NaN where more than 5 % of the resamples have no value, or there is no resample
        since a scale has a single run.
    invalid : float
        The share of resamples without a value (a phase without a snapshot, a curve without a
        crossing); the ends are percentiles of the others.
    """

    low: float
    high: float
    invalid: float

    def contains(self, value: float) -> bool:
        """Return whether ``value`` lies in the interval, ends included."""
        return self.low <= value <= self.high


def run_resamples(
    runs_of_scale: Sequence[int], n_resamples: int = N_RESAMPLES, seed: int = 0
) -> list[NDArray[np.intp]]:
    """Return for each scale which of its runs each resample takes, with replacement.

    Parameters
    ----------
    runs_of_scale : sequence of int
        The number of runs at each scale.
    n_resamples : int
        The number of resamples B.
    seed : int
        Equal seeds and numbers of runs give equal choices, so that two statistics resampled with
        them are paired.

    Returns
    -------
    list of arrays, each of shape (B, runs of the scale)
        With B = 0 where a scale has a single run: its scatter is unknown, and so is every interval.

    Raises
    ------
    InputError
        For fewer than one resample, or a scale without a run.
    """
    require_count("n_resamples", n_resamples, 1)
    for runs in runs_of_scale:
        require_count("the number of runs at a scale", runs, 1)
    if min(runs_of_scale) < FEWEST_RUNS:
        n_resamples = 0
    rng = np.random.default_rng(seed)
    return [rng.integers(runs, size=(n_resamples, runs)) for runs in runs_of_scale]


def percentile_interval(samples: NDArray[Any], level: float = 0.95) -> Interval:
    """Return the central ``level`` of resampled values, shape (B,), as an interval (Efron 1981).

    Raises
    ------
    InputError
        For a level that is not in (0, 1).
    """
    require_between("level", level, 0, 1)
    if samples.size == 0:
        return Interval(np.nan, np.nan, 1.0)
    valid = samples[np.isfinite(samples)]
    invalid = (samples.size - valid.size) / samples.size
    if valid.size == 0 or invalid > MOST_INVALID:
        return Interval(np.nan, np.nan, invalid)
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), invalid)


def snapshot_maxima(
    values: NDArray[Any], n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the maxima of resamples of all snapshots of a scale, as if they were independent.

    The largest of M draws with replacement from M sorted values is the value at the largest of M
    uniform positions, which is distributed as U^(1/M).
    """
    ascending = np.sort(values)
    position = rng.random(n_resamples) ** (1.0 / ascending.size) * ascending.size
    return ascending[np.minimum(position.astype(np.intp), ascending.size - 1)].astype(np.float64)


def snapshot_means(
    values: NDArray[Any], n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the means of resamples of all snapshots of a scale, as if they were independent."""
    result = np.empty(n_resamples)
    rows = max(1, 2_000_000 // values.size)
    for start in range(0, n_resamples, rows):
        chosen = rng.integers(values.size, size=(min(rows, n_resamples - start), values.size))
        result[start : start + rows] = values[chosen].mean(axis=1)
    return result
