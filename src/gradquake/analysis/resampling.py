"""The bootstrap: runs are resampled within each scale, since a run is the independent unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import _kernels
from gradquake.analysis.shown import Shown, bracketed, number
from gradquake.errors import InputError, require_between, require_count

__all__ = [
    "FEWEST_RUNS", "MOST_INVALID", "N_RESAMPLES", "Ends", "Estimate", "Interval", "difference",
    "estimated", "estimated_with_infinite", "interval_ends", "kept", "outer_quantiles",
    "over_resamples", "percentile_interval", "run_resamples", "shifted", "tail_share", "times_drawn",
    "with_ends",
]  # fmt: skip

N_RESAMPLES = 10_000

# The number of choices of runs that are held at a time.
MOST_DRAWN = 1 << 23

T = TypeVar("T", bound=np.generic)

# With fewer runs at a scale there is nothing to resample.
FEWEST_RUNS = 2

# If more than this share of the resamples has no value, there is no interval.
MOST_INVALID = 0.05


@dataclass(frozen=True, repr=False)
class Interval(Shown):
    """A percentile interval.

    Attributes
    ----------
    low, high : float
        Its ends; NaN if more than 5 % of the resamples have no value, or if there is no resample
        because a scale has a single run.
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

    @property
    def is_one_value(self) -> bool:
        """Whether all resamples have one value: nothing differs that could give a width."""
        return self.low == self.high

    def _lines(self) -> Mapping[str, str]:
        return {"": f"[{number(self.low)}, {number(self.high)}]"}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Estimate(Interval):
    """A statistic with its 95 % interval.

    The interval is that of the bootstrap over runs; of the exponent of a maximum, it is Student's t of
    the line's residuals (see ``scaling.exponent``).

    Attributes
    ----------
    value : float
        NaN if it is not defined.
    runs : int
        The fewest runs of a scale; see ``tail_share``.
    kept_resamples : array, shape (B,), or None
        Its value in every resample of runs; None after ``slim``.
    """

    value: float
    runs: int
    kept_resamples: NDArray[np.float64] | None = None

    @property
    def resamples(self) -> NDArray[np.float64]:
        """Its value in every resample of runs; InputError after ``slim``."""
        return kept(self.kept_resamples)

    def slim(self) -> Self:
        """Return it without its resamples, to keep or to send."""
        return replace(self, kept_resamples=None)

    def _lines(self) -> Mapping[str, str]:
        return {"": bracketed(self.value, self.low, self.high)}


def kept(resamples: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return resamples, or raise InputError if ``slim`` has dropped them."""
    if resamples is None:
        raise InputError(
            "slim() dropped the resamples of this estimate; take differences of estimates before slim()"
        )
    return resamples


def estimated(value: float, resamples: NDArray[np.float64], runs: int) -> Estimate:
    """Return a value with the interval that its resamples give."""
    interval = percentile_interval(resamples, runs)
    return Estimate(**vars(interval), value=value, runs=runs, kept_resamples=resamples)


def with_ends(estimate: Estimate, low: float, high: float) -> Estimate:
    """Return an estimate with another interval; one that has none, or one value, stays as it is.

    Its resamples are kept, for differences.
    """
    if not estimate.low < estimate.high:
        return estimate
    return replace(estimate, low=low, high=high)


def estimated_with_infinite(value: float, resamples: NDArray[np.float64], runs: int) -> Estimate:
    """Return a value with its interval, if infinite resamples count as values.

    They do for a time that may be later than the last snapshot. The ends of the interval are resamples,
    without interpolation. There is no interval if more than 5 % of the resamples are NaN.
    """
    known = resamples[~np.isnan(resamples)]
    invalid = 1 - known.size / resamples.size if resamples.size else 1.0
    low, high = np.nan, np.nan
    if known.size and invalid <= MOST_INVALID:
        tail = tail_share(runs)
        low, high = np.quantile(known, [tail, 1 - tail], method="inverted_cdf").tolist()
    return Estimate(
        low=low, high=high, invalid=invalid, value=value, runs=runs, kept_resamples=resamples
    )


def shifted(estimate: Estimate, by: float) -> Estimate:
    """Return the estimate of the same quantity plus a constant."""
    return Estimate(
        low=estimate.low + by,
        high=estimate.high + by,
        invalid=estimate.invalid,
        value=estimate.value + by,
        runs=estimate.runs,
        kept_resamples=estimate.resamples + by,
    )


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return ``first`` minus ``second``, paired: both resampled with the same choices of runs.

    Raises
    ------
    InputError
        If the two were not resampled alike.
    """
    if not (first.resamples.shape == second.resamples.shape and first.runs == second.runs):
        raise InputError(
            f"{first.resamples.size} resamples of {first.runs} runs and {second.resamples.size} of "
            f"{second.runs} were given; a paired difference needs the same of both"
        )
    with np.errstate(invalid="ignore"):  # of two infinite times
        return estimated(first.value - second.value, first.resamples - second.resamples, first.runs)


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
        With B = 0 if a scale has a single run: its scatter is unknown, and so is every interval.

    Raises
    ------
    InputError
        For fewer than one resample, or a scale without a run.
    """
    return over_resamples(runs_of_scale, lambda _, draws: draws, n_resamples, seed)


def over_resamples(
    runs_of_scale: Sequence[int],
    statistic: Callable[[int, NDArray[np.intp]], NDArray[T]],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    *,
    width: int = 1,
) -> list[NDArray[T]]:
    """Return for each scale a statistic of the runs that ``run_resamples`` draws.

    The choices are those of ``run_resamples``, drawn at most about 10^7 at a time, so that memory does
    not grow with their number. ``statistic`` is called with the position of a scale and some rows of
    its choices; it returns an array with as many rows, of about ``width`` numbers each.

    Raises
    ------
    InputError
        As ``run_resamples`` does.
    """
    require_count("n_resamples", n_resamples, 1)
    for runs in runs_of_scale:
        require_count("the number of runs at a scale", runs, 1)
    if min(runs_of_scale) < FEWEST_RUNS:
        n_resamples = 0
    rng = np.random.default_rng(seed)
    found = []
    for scale, runs in enumerate(runs_of_scale):
        rows = max(MOST_DRAWN // max(runs, width), 1)
        # At least once, so that no resample gives an array with no rows.
        first = statistic(scale, rng.integers(runs, size=(min(rows, n_resamples), runs)))
        of_scale = np.empty((n_resamples, *first.shape[1:]), first.dtype)
        of_scale[:rows] = first
        for start in range(rows, n_resamples, rows):
            count = min(rows, n_resamples - start)
            of_scale[start : start + count] = statistic(scale, rng.integers(runs, size=(count, runs)))
        found.append(of_scale)
    return found


def times_drawn(draws: NDArray[np.intp], width: int) -> NDArray[np.float64]:
    """Return how often each of the numbers below ``width`` stands in each row: (B, n) to (B, width).

    As floats, so that sums over drawn runs are products of matrices, exact for whole numbers.
    """
    taken = np.empty((len(draws), width))
    _kernels.times_drawn(draws, taken)
    return taken


def tail_share(runs: int | None, level: float = 0.95) -> float:
    """Return the share of the resamples that an interval of a nominal ``level`` leaves out at an end.

    A bootstrap of the n runs of a scale has only (n - 1) / n of their variance, which n runs know
    badly. The share is therefore Phi(sqrt(n / (n - 1)) t), with t the (1 - level) / 2 quantile of
    Student's t with n - 1 degrees of freedom: the expanded percentile interval. For many runs it
    becomes (1 - level) / 2 itself. (T. C. Hesterberg, The American Statistician 69, 371 (2015).)

    Parameters
    ----------
    runs : int or None
        The fewest runs at a scale; None for plain percentiles.
    level : float
        The nominal coverage, in (0, 1).

    Raises
    ------
    InputError
        If the level is not in (0, 1), or ``runs`` is not a positive integer.
    """
    require_between("level", level, 0, 1)
    if runs is not None:
        require_count("runs", runs, 1)
    tail = (1 - level) / 2
    if runs is None or runs < FEWEST_RUNS:
        return tail
    # Importing scipy.stats for these two functions would take a second.
    from scipy.special import ndtr, stdtrit

    return float(ndtr(np.sqrt(runs / (runs - 1)) * stdtrit(runs - 1, tail)))


def percentile_interval(samples: NDArray[Any], runs: int | None = None, level: float = 0.95) -> Interval:
    """Return the central ``level`` of resampled values as an interval.

    Parameters
    ----------
    samples : array, shape (B,)
    runs : int, optional
        The fewest runs of a scale, for values resampled over runs; see ``tail_share``. Without it
        the interval is the plain percentile interval (Efron 1981), too narrow for few runs.
    level : float
        The nominal coverage.

    Raises
    ------
    InputError
        If the level is not in (0, 1).
    """
    tail = tail_share(runs, level)
    if samples.size == 0:
        return Interval(np.nan, np.nan, 1.0)
    valid = samples[np.isfinite(samples)]
    invalid = (samples.size - valid.size) / samples.size
    if valid.size == 0 or invalid > MOST_INVALID:
        return Interval(np.nan, np.nan, invalid)
    low, high = np.quantile(valid, [tail, 1 - tail])
    return Interval(float(low), float(high), invalid)


def outer_quantiles(rows: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return the quantiles ``share`` and ``1 - share`` of every row, shape (2, rows).

    The result is that of ``numpy.quantile``, in half the time for many rows.
    """
    places = np.array([share, 1 - share]) * (rows.shape[1] - 1)
    below = np.minimum(places.astype(np.intp), rows.shape[1] - 2)
    ordered = np.partition(rows, np.unique([below, below + 1]), axis=1)
    ends = [
        np.quantile(ordered[:, [k, k + 1]], place - k, axis=1)
        for k, place in zip(below.tolist(), places.tolist(), strict=True)
    ]
    return np.array(ends)


class Ends(NamedTuple):
    """The ends of many intervals; arrays of one shape."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def interval_ends(samples: NDArray[np.float64], runs: NDArray[np.int64]) -> Ends:
    """Return the intervals of columns, as ``percentile_interval`` gives them.

    Parameters
    ----------
    samples : array, shape (B, k)
        Each column holds one quantity in every resample.
    runs : array, shape (k,)
        The fewest runs of a scale behind each column; the ends are NaN for fewer than two.
    """
    found = np.full((2, runs.size), np.nan)
    complete = np.isfinite(samples).all(axis=0) & (len(samples) > 0)
    for n in np.unique(runs[runs >= FEWEST_RUNS]).tolist():
        at_once = complete & (runs == n)
        found[:, at_once] = outer_quantiles(samples.T[at_once], tail_share(n))
        for k in np.flatnonzero(~complete & (runs == n)).tolist():
            interval = percentile_interval(samples[:, k], n)
            found[:, k] = interval.low, interval.high
    return Ends(*found)
