"""The statistics of avalanche sizes whose growth with N is fitted, one table of them.

Each statistic of the sizes at a scale grows as a power of N; its exponent has a symbol. A new statistic
is one entry of ``STATISTICS``, a ``SizeStatistic``: its symbol, its label and a function of sizes. The
largest and the mean size have faster ways to be resampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import _kernels
from gradquake.analysis.fits import logarithms
from gradquake.analysis.resampling import times_drawn
from gradquake.avalanche.tables import Table
from gradquake.errors import InputError

__all__ = ["STATISTICS", "SizeStatistic", "Sizes", "SplitValues", "Statistic", "check_statistic"]

Floats = NDArray[np.float64]

# Avalanche sizes: integers as measured, or floats, with NaN for a missing one.
Sizes = NDArray[Any]

# The name of a statistic in ``STATISTICS``.
Statistic = str

# From draws of runs, shape (B, n), a value for each draw, shape (B,) or (B, epochs).
OfDraws = Callable[[NDArray[np.intp]], Floats]

# Above this number of snapshots, resamples are drawn as counts of distinct values.
MANY_SNAPSHOTS = 1 << 13

# The number of snapshots that are drawn at a time.
MOST_DRAWN = 2_000_000


class SplitValues(NamedTuple):
    """A statistic over the snapshots before and after the runs' grokking epochs."""

    pre: Floats
    post: Floats


@dataclass(frozen=True)
class SizeStatistic:
    """A statistic of avalanche sizes.

    Attributes
    ----------
    symbol : str
        Of its exponent.
    label : str
        What it takes of the sizes, in a word.
    of : callable
        ``of(sizes, axis)`` returns the statistic along an axis. NaN is a missing size; the result is NaN
        if all are missing.
    is_extreme : bool
        Whether a few of the sizes make it, so that resamples of runs scatter less than other runs would:
        no resample exceeds the largest size. The interval of its exponent is then that of the line.
    """

    symbol: str
    label: str
    of: Callable[[Sizes, int], Floats]
    is_extreme: bool = field(default=False, kw_only=True)

    def over_snapshots(self, sizes: Floats) -> OfDraws:
        """Return a function of drawn runs: the statistic over all of their snapshots, shape (B,).

        ``sizes`` has shape (runs, snapshots), NaN for a snapshot to leave out.
        """
        return lambda draws: np.array([self.of(sizes[runs].ravel(), 0) for runs in draws], np.float64)

    def log_at_epochs(self, sizes: Floats) -> OfDraws:
        """Return a function of drawn runs: the log of the statistic at each epoch, shape (B, epochs).

        ``sizes`` has shape (runs, epochs), NaN for a run that was not measured at an epoch.
        """

        def drawn(draws: NDArray[np.intp]) -> Floats:
            return logarithms(np.stack([self.of(sizes[runs], 0) for runs in draws]))

        return drawn

    def over_drawn_snapshots(self, values: Sizes, n_resamples: int, rng: np.random.Generator) -> Floats:
        """Return the statistic of resamples of single snapshots, as if they were independent.

        ``values`` has shape (snapshots,); the result has shape (B,).
        """
        result = np.empty(n_resamples)
        rows = max(1, MOST_DRAWN // values.size)
        for start in range(0, n_resamples, rows):
            chosen = rng.integers(values.size, size=(min(rows, n_resamples - start), values.size))
            result[start : start + rows] = self.of(values[chosen], 1)
        return result

    def split(
        self,
        sizes: Floats,
        before: NDArray[np.intp],
        order: NDArray[np.intp],
        runs: NDArray[np.intp] | None = None,
    ) -> SplitValues:
        """Return the statistic before and after the t_g of runs, if these exchange their t_g.

        Parameters
        ----------
        sizes : array, shape (runs, snapshots)
            NaN for a missing snapshot.
        before : array, shape (runs,)
            The number of snapshots before the t_g of each run.
        order : array, shape (B, runs)
            In each row, the run whose t_g each run takes.
        runs : array, shape (B, runs), optional
            In each row, the runs that are taken, any number of them; by default all in order.

        Returns
        -------
        SplitValues
            Of shape (B,) each; NaN if no run has a snapshot there.
        """
        places = np.arange(sizes.shape[1])
        result = np.empty((2, len(order)))
        for row, of_row in enumerate(order):
            early = places < before[of_row][:, None]
            of_runs = sizes if runs is None else sizes[runs[row]]
            for phase, chosen in enumerate((early, ~early)):
                result[phase, row] = self.of(np.where(chosen, of_runs, np.nan).ravel(), 0)
        return SplitValues(*result)


@dataclass(frozen=True)
class _Accumulated(SizeStatistic):
    """A statistic that follows from one number of each run, so that resamples need no snapshots.

    Sizes are whole numbers, so that their sums are exact in any order.
    """

    accumulate: np.ufunc
    start: float
    is_mean: bool = False

    def over_snapshots(self, sizes: Floats) -> OfDraws:
        known = np.isfinite(sizes)
        value = self.accumulate.reduce(np.where(known, sizes, self.start), axis=-1, initial=self.start)
        count = known.sum(axis=-1).astype(np.float64)
        return lambda draws: self._pooled(value[draws], count[draws])

    def split(
        self,
        sizes: Floats,
        before: NDArray[np.intp],
        order: NDArray[np.intp],
        runs: NDArray[np.intp] | None = None,
    ) -> SplitValues:
        # The value of each run (rows) before and after the t_g of each run (columns), from running
        # totals: memory grows with the snapshots and not with the pairs of runs times the snapshots.
        known = np.isfinite(sizes)
        values, counts = np.where(known, sizes, self.start), known.astype(np.float64)
        after = sizes.shape[1] - before
        pre = _running(self.accumulate, values, self.start)[:, before]
        post = _running(self.accumulate, values[:, ::-1], self.start)[:, after]
        n_pre = _running(np.add, counts, 0.0)[:, before]
        n_post = _running(np.add, counts[:, ::-1], 0.0)[:, after]
        own = np.arange(len(sizes)) if runs is None else runs
        return SplitValues(
            self._pooled(pre[own, order], n_pre[own, order]),
            self._pooled(post[own, order], n_post[own, order]),
        )

    def _pooled(self, value: Floats, count: Floats) -> Floats:
        """Return the statistic over runs, the last axis; NaN if none has a snapshot."""
        snapshots = count.sum(axis=-1)
        pooled = self.accumulate.reduce(value, axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled = pooled / snapshots if self.is_mean else pooled
        return np.where(snapshots > 0, pooled, np.nan)


class _Largest(_Accumulated):
    def log_at_epochs(self, sizes: Floats) -> OfDraws:
        order, logs = np.argsort(-sizes, axis=0, kind="stable"), logarithms(sizes)

        def drawn(draws: NDArray[np.intp]) -> Floats:
            result = np.empty((len(draws), sizes.shape[1]))
            _kernels.resampled_max(logs, order, draws, result)
            return result

        return drawn

    def over_drawn_snapshots(self, values: Sizes, n_resamples: int, rng: np.random.Generator) -> Floats:
        # The largest of M draws with replacement from M sorted values is the value at the largest of M
        # uniform positions, which is distributed as U^(1/M).
        ascending = np.sort(values)
        position = rng.random(n_resamples) ** (1.0 / ascending.size) * ascending.size
        return ascending[np.minimum(position.astype(np.intp), ascending.size - 1)].astype(np.float64)


class _Mean(_Accumulated):
    def log_at_epochs(self, sizes: Floats) -> OfDraws:
        known = np.isfinite(sizes)
        summands = np.where(known, sizes, 0.0)

        def drawn(draws: NDArray[np.intp]) -> Floats:
            taken = times_drawn(draws, len(sizes))
            counted = draws.shape[1] if known.all() else taken @ known.astype(np.float64)
            with np.errstate(invalid="ignore"):
                return logarithms(taken @ summands / counted)

        return drawn

    def over_drawn_snapshots(self, values: Sizes, n_resamples: int, rng: np.random.Generator) -> Floats:
        if values.size <= MANY_SNAPSHOTS:
            return super().over_drawn_snapshots(values, n_resamples, rng)
        # How often each distinct value is taken has the same distribution, in a time that does not grow
        # with the number of snapshots.
        distinct, times = np.unique(values, return_counts=True)
        taken = rng.multinomial(values.size, times / values.size, size=n_resamples)
        means: Floats = taken @ distinct.astype(np.float64) / values.size
        return means


def _running(of: np.ufunc, values: Floats, start: float) -> Floats:
    """Return the total of the first 0, 1, 2, ... columns, shape (rows, columns + 1)."""
    first = np.full((len(values), 1), start)
    running: Floats = of.accumulate(np.concatenate([first, values], axis=1), axis=1)
    return running


def _largest(sizes: Sizes, axis: int) -> Floats:
    known = np.isfinite(sizes)
    if known.all():
        whole: Floats = sizes.max(axis=axis)
        return whole
    largest = np.where(known, sizes, -np.inf).max(axis=axis)
    return np.where(known.any(axis=axis), largest, np.nan)


def _mean(sizes: Sizes, axis: int) -> Floats:
    known = np.isfinite(sizes)
    if known.all():
        whole: Floats = sizes.mean(axis=axis)
        return whole
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, sizes, 0.0).sum(axis=axis) / known.sum(axis=axis)
    return mean


STATISTICS: Table[SizeStatistic] = Table(
    __name__,
    "STATISTICS",
    "statistic",
    {
        "max": _Largest("D", "largest", _largest, np.maximum, -np.inf, is_extreme=True),
        "mean": _Mean("gamma", "mean", _mean, np.add, 0.0, is_mean=True),
    },
)


def check_statistic(statistic: str) -> None:
    """Raise InputError unless ``statistic`` is a name in ``STATISTICS``."""
    if statistic not in STATISTICS:
        raise InputError(f"the statistic is {statistic!r}; one of {', '.join(STATISTICS)} is needed")
