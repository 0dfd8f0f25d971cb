"""Whether the crossing follows the grokking epoch, or merely happens at some epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling
from gradquake.analysis.resampling import N_RESAMPLES, Estimate, estimated, over_resamples, times_drawn
from gradquake.analysis.scaling import Statistic, scale_groups
from gradquake.errors import require, require_count

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]

N_PERMUTATIONS = 10_000

# A time since an event is shown where every scale has at least this share of its runs there.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class PermutationTest:
    """A statistic beside its values with the grokking epochs exchanged among the runs of a scale.

    Attributes
    ----------
    observed : float
        NaN where it is not defined.
    expected : float
        Its mean over the permutations.
    p_value : float
        The share of permutations, the observed one counted in, that reach the observed value; NaN
        where there is no value, or nothing to exchange since all t_g of every scale are equal.
    n_permutations : int
    """

    observed: float
    expected: float
    p_value: float
    n_permutations: int


def median_grokking_epoch(
    dataset: xr.Dataset, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the median grokking epoch of all runs; one that never grokked is infinitely late."""
    reached = dataset["grokking_epoch"].fillna(np.inf).values
    return median_over_runs(dataset, reached, n_resamples=n_resamples, seed=seed)


def median_over_runs(
    dataset: xr.Dataset, values: Floats, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the median over all runs of a sweep of one value each, shape (runs,).

    The values may be infinite, but not NaN.
    """
    groups = scale_groups(dataset)
    distinct, which = np.unique(values, return_inverse=True)

    def counted(scale: int, draws: NDArray[np.intp]) -> NDArray[np.int32]:
        return times_drawn(which[groups[scale][1]][draws], distinct.size).astype(np.int32)

    runs_of_scale = [runs.size for _, runs in groups]
    drawn = sum(over_resamples(runs_of_scale, counted, n_resamples, seed, width=distinct.size))
    reached = np.cumsum(drawn, axis=1)
    # The two middle ones of an even number.
    middle = [(values.size - 1) // 2, values.size // 2]
    low, high = (distinct[(reached <= place).sum(axis=1)] for place in middle)
    with np.errstate(invalid="ignore"):  # half of them infinite one way, half the other
        return estimated(
            float(np.median(values)),
            (low + high) / 2,
            min(runs_of_scale),
        )


def aligned(sweep: xr.Dataset, events: NDArray[Any], every: int) -> xr.Dataset:
    """Return a sweep on the time since an event of each run, at the run's own snapshots.

    Parameters
    ----------
    sweep : xarray.Dataset
        With snapshots at multiples of ``every``.
    events : array, shape (runs,)
        An epoch of each run, rounded down to a snapshot; NaN where there was none.
    every : int
        The snapshot interval.

    Returns
    -------
    xarray.Dataset
        Its sizes, with the times since the event as epochs; see ``where_half_are_there``.

    Raises
    ------
    InputError
        Where no run has the event.
    """
    reached = np.asarray(events, np.float64)
    require(bool(np.isfinite(reached).any()), "no run has the event; none can be aligned")
    epochs, shift = sweep["epoch"].values, (reached // every) * every
    starts = [None if np.isnan(start) else int(start) for start in shift.tolist()]
    times = [epochs - start for start in {*starts} if start is not None]
    offsets = np.unique(np.concatenate(times))
    size = np.full((reached.size, offsets.size), np.nan)
    for row, values, start in zip(size, sweep["size"].values, starts, strict=True):
        if start is not None:
            row[np.searchsorted(offsets, epochs - start)] = values
    moved = sweep.drop_vars([*sweep.data_vars, "epoch"]).assign_coords(epoch=offsets)
    return where_half_are_there(moved.assign(size=(("run", "epoch"), size)))


def where_half_are_there(sweep: xr.Dataset) -> xr.Dataset:
    """Return a sweep with NaN for all sizes at epochs where a scale lacks more than half of its runs.

    The largest size of few runs is no match for that of many.
    """
    there = sweep["size"].notnull()
    shares = [there.isel(run=runs).mean("run") for _, runs in scale_groups(sweep)]
    enough = np.min([share.values for share in shares], axis=0) >= LEAST_SHARE
    return sweep.where(there["epoch"].copy(data=enough))


def follows_grokking(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    *,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
) -> PermutationTest:
    """Test whether the rise D_post - D_pre is larger where each run is split at its own t_g.

    Under the null hypothesis a run's avalanches do not know when it grokked, only its size and the
    epoch do: then the grokking epochs may be exchanged among the runs of a scale. Conservative where
    many runs of a scale share one t_g.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``).
    statistic : {"max", "mean"}
    n_permutations, seed : int

    Raises
    ------
    InputError
        For another statistic, or fewer than one permutation.
    """
    scaling.check_statistic(statistic)
    require_count("n_permutations", n_permutations, 1)
    rng = np.random.default_rng(seed)
    epochs = dataset["epoch"].values
    n: list[int] = []
    pre: list[Floats] = []
    post: list[Floats] = []
    exchangeable = False
    for scale, runs in scale_groups(dataset):
        reached = dataset["grokking_epoch"].fillna(np.inf).values[runs]
        exchangeable |= np.unique(reached).size > 1
        sizes = dataset["size"].values[runs].astype(np.float64)
        parts = _run_parts(statistic, sizes, np.searchsorted(epochs, reached))
        order = np.argsort(rng.random((n_permutations, runs.size)), axis=1)
        order = np.concatenate([np.arange(runs.size)[None], order])
        own = np.arange(runs.size)
        n.append(scale)
        for phase, (value, count) in zip((pre, post), parts, strict=True):
            phase.append(_pooled(statistic, value[own, order], count[own, order]))
    rise = scaling.slopes(n, np.stack(post, axis=-1)) - scaling.slopes(n, np.stack(pre, axis=-1))
    return _test(rise, exchangeable)


def _test(values: Floats, exchangeable: bool) -> PermutationTest:
    """Return the test of the first value against the others."""
    observed, permuted = float(values[0]), values[1:]
    valid = np.isfinite(permuted)
    p_value = np.nan
    if exchangeable and np.isfinite(observed) and valid.any():
        # Equal up to rounding is equal.
        reached = (permuted[valid] >= observed - 1e-12).sum()
        p_value = float((reached + 1) / (valid.sum() + 1))
    expected = float(permuted[valid].mean()) if valid.any() else np.nan
    return PermutationTest(observed, expected, p_value, permuted.size)


def _run_parts(
    statistic: Statistic, sizes: Floats, before: NDArray[np.intp]
) -> list[tuple[Floats, Floats]]:
    """Return what each run (rows) gives before and after the t_g of each run (columns).

    For each phase the statistic, or the sum for a mean, and from how many snapshots it is. ``before``
    are the numbers of snapshots before each t_g. Everything comes from running totals, so that memory
    grows with the snapshots and not with the pairs of runs times the snapshots.
    """
    there = np.isfinite(sizes)
    count = _running(np.add, there.astype(np.float64), 0.0)[:, before]
    counts = count, there.sum(axis=1, keepdims=True) - count
    if statistic == "max":
        known = np.where(there, sizes, -np.inf)
        first = _running(np.maximum, known, -np.inf)[:, before]
        last = _running(np.maximum, known[:, ::-1], -np.inf)[:, sizes.shape[1] - before]
        return [(first, counts[0]), (last, counts[1])]
    known = np.where(there, sizes, 0.0)
    total = _running(np.add, known, 0.0)
    # Sizes are whole numbers, whose sums are exact in any order.
    return [(total[:, before], counts[0]), (total[:, -1:] - total[:, before], counts[1])]


def _running(of: np.ufunc, values: Floats, start: float) -> Floats:
    """Return the total of the first 0, 1, 2, ... columns, shape (rows, columns + 1)."""
    first = np.full((len(values), 1), start)
    running: Floats = of.accumulate(np.concatenate([first, values], axis=1), axis=1)
    return running


def _pooled(statistic: Statistic, value: Floats, count: Floats) -> Floats:
    """Return the statistic over runs, the last axis; NaN where no snapshot is in the phase."""
    snapshots = count.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = value.max(axis=-1) if statistic == "max" else value.sum(axis=-1) / snapshots
    return np.where(snapshots > 0, pooled, np.nan)
