"""Time relative to grokking, and a test of whether the rise of D follows the grokking epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.fits import slopes
from gradquake.analysis.resampling import N_RESAMPLES, Estimate, estimated, over_resamples, times_drawn
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.shown import Shown, number
from gradquake.analysis.statistics import STATISTICS, Statistic, check_statistic
from gradquake.errors import require, require_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "LEAST_SHARE", "GrokkingSpread", "PermutationTest", "aligned", "first_reaching",
    "follows_grokking", "grokking_spread", "median_grokking_epoch", "median_over_runs",
    "where_half_are_there",
]  # fmt: skip

Floats = NDArray[np.float64]

N_PERMUTATIONS = 10_000

# A time since an event is used if at least this share of the runs of every scale was measured there.
LEAST_SHARE = 0.5


@dataclass(frozen=True, repr=False)
class PermutationTest(Shown):
    """A statistic beside its values with the grokking epochs exchanged among the runs of a scale.

    Attributes
    ----------
    observed : float
        NaN if it is not defined.
    expected : float
        Its mean over the permutations.
    p_value : float
        The share of permutations, including the observed one, that reach the observed value. NaN if
        there is no value, or if all t_g of every scale are equal and exchanging them changes nothing.
    n_permutations : int
    """

    observed: float
    expected: float
    p_value: float
    n_permutations: int

    def _lines(self) -> Mapping[str, str]:
        observed, expected, p_value = map(number, (self.observed, self.expected, self.p_value))
        return {"": f"observed {observed}, expected {expected}, p {p_value}"}


class GrokkingSpread(NamedTuple):
    """The median t_g of runs and the range of the central 95 % of them; infinite for runs without."""

    low: float
    median: float
    high: float


def grokking_spread(epochs: Floats) -> GrokkingSpread:
    """Return how the grokking epochs of runs, shape (runs,), scatter; NaN counts as infinitely late.

    The range is one of runs, not the interval of an estimate. Each number is the t_g of a run.
    """
    late = np.where(np.isnan(epochs), np.inf, epochs)
    return GrokkingSpread(*np.quantile(late, [0.025, 0.5, 0.975], method="nearest").tolist())


def median_grokking_epoch(
    dataset: xr.Dataset, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the median grokking epoch of all runs; a run that never grokked is infinitely late."""
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
    # The two middle values of an even number.
    middle = [(values.size - 1) // 2, values.size // 2]
    low, high = (distinct[(reached <= place).sum(axis=1)] for place in middle)
    with np.errstate(invalid="ignore"):  # the mean of -inf and inf
        return estimated(float(np.median(values)), (low + high) / 2, min(runs_of_scale))


def first_reaching(dataset: xr.Dataset, variable: str, least: float) -> Floats:
    """Return each run's first snapshot at which a recorded variable is at least so large.

    Returns
    -------
    array, shape (runs,)
        In epochs; NaN for a run in which it stays below.
    """
    reached = dataset[variable].values >= least
    epochs: Floats = dataset["epoch"].values[reached.argmax(axis=1)].astype(np.float64)
    return np.where(reached.any(axis=1), epochs, np.nan)


def aligned(sweep: xr.Dataset, events: Floats, every: int) -> xr.Dataset:
    """Return a sweep on the time since an event of each run, at the run's own snapshots.

    Parameters
    ----------
    sweep : xarray.Dataset
        With snapshots at multiples of ``every``.
    events : array, shape (runs,)
        An epoch of each run, rounded down to a snapshot; NaN for a run without the event.
    every : int
        The snapshot interval.

    Returns
    -------
    xarray.Dataset
        Its sizes, with the times since the event as epochs, as ``where_half_are_there`` returns them.

    Raises
    ------
    InputError
        If no run has the event.
    """
    reached = np.asarray(events, np.float64)
    require(bool(np.isfinite(reached).any()), "no run has the event, so that no run can be aligned")
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
    """Return a sweep with NaN for all sizes at epochs at which a scale lacks more than half of its runs.

    The largest size grows with the number of runs, so that few runs cannot be compared with many.
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
    """Test whether the rise D_post - D_pre is larger if each run is split at its own t_g.

    Under the null hypothesis a run's avalanches depend on its size and the epoch, but not on when it
    grokked: then the grokking epochs may be exchanged among the runs of a scale. The test is
    conservative if many runs of a scale share one t_g.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``).
    statistic : str
        A name in ``STATISTICS``.
    n_permutations, seed : int

    Raises
    ------
    InputError
        For another statistic, or fewer than one permutation.
    """
    check_statistic(statistic)
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
        order = np.argsort(rng.random((n_permutations, runs.size)), axis=1)
        # The first row is the observed order.
        order = np.concatenate([np.arange(runs.size)[None], order])
        found = STATISTICS[statistic].split(sizes, np.searchsorted(epochs, reached), order)
        n.append(scale)
        pre.append(found.pre)
        post.append(found.post)
    rise = slopes(n, np.stack(post, axis=-1)) - slopes(n, np.stack(pre, axis=-1))
    return _test(rise, exchangeable)


def _test(values: Floats, exchangeable: bool) -> PermutationTest:
    """Return the test of the first value against the others."""
    observed, permuted = float(values[0]), values[1:]
    valid = np.isfinite(permuted)
    p_value = np.nan
    if exchangeable and np.isfinite(observed) and valid.any():
        # Values that differ by rounding alone count as equal.
        reached = (permuted[valid] >= observed - 1e-12).sum()
        p_value = float((reached + 1) / (valid.sum() + 1))
    expected = float(permuted[valid].mean()) if valid.any() else np.nan
    return PermutationTest(observed, expected, p_value, permuted.size)
