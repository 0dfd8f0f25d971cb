"""What a study with six seeds measures, estimated from a sweep with many.

The largest size of R runs grows with R, so that the exponent of six runs and that of 200 are different
numbers. From many runs at each scale, the exponent of six is the mean over groups of six: the runs of
each scale are put in a random order and cut into disjoint groups, and the g-th groups of all scales
together are one study of six seeds. Disjoint groups share no run and are independent, so that their
mean has Student's t interval (W. S. Gosset, Biometrika 6, 1 (1908)). Nothing is drawn twice, unlike in
a bootstrap of the maximum, which no resample exceeds.

A function of groups, an ``OfGroups``, takes for each scale an array (groups, size) of positions among
the runs of that scale; ``group_functions`` has those of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.resampling import (
    MOST_INVALID,
    N_RESAMPLES,
    Ends,
    Estimate,
    Interval,
    interval_ends,
    run_resamples,
)
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.shown import bracketed, number
from gradquake.errors import InputError, require_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "GROUP_SIZE", "Draws", "GroupEstimate", "OfGroups", "disjoint_groups",
    "group_estimate", "mean_of_groups", "runs_at_scales",
]  # fmt: skip

Floats = NDArray[np.float64]

# For each scale the runs of each group, shape (groups, size), by their positions at the scale.
Draws = Sequence[NDArray[np.intp]]

# From the runs of groups, a value of each group, shape (groups,), or a curve, shape (groups, epochs).
OfGroups = Callable[[Draws], Floats]

# The seeds of a study of the paper.
GROUP_SIZE = 6

# The number of random groups that the range is taken over.
N_GROUPS = 2_000

# The fewest disjoint groups for a range: groups of six of few runs share most of them, and scatter less
# than groups of six of other runs would.
FEWEST_FOR_RANGE = 10


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GroupEstimate(Estimate):
    """An estimate of what a study with few seeds measures.

    Attributes
    ----------
    value, low, high : float
        The mean over disjoint groups and its 95 % interval (Student's t over the groups). With a single
        group, the estimate of its runs alone: see ``method``.
    invalid : float
        The share of groups (or resamples) without a value; the mean is over the others, and there is no
        interval if it exceeds 5 %.
    runs : int
        The runs of a scale in each group.
    method : {"groups", "alone", "bootstrap"}
        The source of the interval: the scatter of groups, the estimate of a single group that was given,
        or the bootstrap over its runs.
    n_groups : int
        The number of disjoint groups.
    range : Interval
        The central 95 % of random groups: what another study with as many seeds would see. NaN for
        fewer than 10 disjoint groups.
    drawn : array, shape (random groups,)
        The values of random groups, ascending, without NaN.
    """

    method: Literal["groups", "alone", "bootstrap"]
    n_groups: int
    range: Interval
    drawn: Floats

    def percentile(self, value: float) -> float:
        """Return the percentage of random groups below a value; equal ones count half.

        NaN if there is no range.
        """
        if not (self.drawn.size and np.isfinite(self.range.low)):
            return np.nan
        below, up_to = (np.searchsorted(self.drawn, value, side) for side in ("left", "right"))
        return float(below + up_to) / (2 * self.drawn.size) * 100

    @property
    def _title(self) -> str:
        return f"Estimate of {self.runs} seeds"

    def _lines(self) -> Mapping[str, str]:
        source = {"groups": f"{self.n_groups} groups", "alone": "its runs alone"}
        of = source.get(self.method, "the bootstrap over its runs")
        found = {"": f"{bracketed(self.value, self.low, self.high)}, from {of}"}
        if np.isfinite(self.range.low):
            found["range"] = f"{number(self.range.low)} to {number(self.range.high)}"
        return found


# The groups


def disjoint_groups(
    runs_of_scale: Sequence[int], size: int = GROUP_SIZE, orders: int = 1, seed: int = 0
) -> list[NDArray[np.intp]]:
    """Return the runs of each scale in random orders, each cut into disjoint groups.

    Parameters
    ----------
    runs_of_scale : sequence of int
        The number of runs at each scale.
    size : int
        The runs of a scale in each group.
    orders : int
        The number of orders. Groups of one order are disjoint; those of several are not. The first
        order does not depend on their number.
    seed : int
        The scale at position k has the generator ``default_rng([seed, k])``, which draws one order
        after another.

    Returns
    -------
    list of arrays, each of shape (orders * groups, size)
        Positions among the runs of the scale. The runs that are left over after the last whole group
        of an order are not used in it.

    Raises
    ------
    InputError
        If a scale has fewer runs than a group.
    """
    require_count("the size of a group", size, 1)
    require_count("orders", orders, 1)
    fewest = min(runs_of_scale)
    if fewest < size:
        raise InputError(f"a scale has {fewest} runs; groups of {size} need at least {size}")
    groups = fewest // size
    found = []
    for scale, runs in enumerate(runs_of_scale):
        rng = np.random.default_rng([seed, scale])
        order = [rng.permutation(runs)[: groups * size] for _ in range(orders)]
        found.append(np.concatenate(order).reshape(-1, size))
    return found


def runs_at_scales(dataset: xr.Dataset) -> list[int]:
    """Return the number of runs at each scale of a sweep, ascending in N."""
    return [runs.size for _, runs in scale_groups(dataset)]


# Estimates


def group_estimate(
    of: OfGroups,
    runs_of_scale: Sequence[int],
    *,
    size: int = GROUP_SIZE,
    n_groups: int = N_GROUPS,
    alone: Estimate | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> GroupEstimate:
    """Return the estimate of a number that a study with few seeds measures.

    Parameters
    ----------
    of : callable
        An ``OfGroups`` that gives one value for each group, for example ``exponent_of_groups``.
    runs_of_scale : sequence of int
        As ``runs_at_scales`` gives it.
    size : int
        The seeds of a study; all runs of a scale if it has fewer.
    n_groups : int
        About the number of random groups of the range.
    alone : Estimate, optional
        The estimate of all runs, for example of ``scaling.exponent``. If there is only one group, its
        value and interval are taken.
    n_resamples : int
        Of the bootstrap, which is used if there is only one group and no ``alone``. Of a maximum it is
        too narrow.
    seed : int

    Raises
    ------
    InputError
        For a scale without a run, or fewer than one resample or group.
    """
    if alone is not None and min(runs_of_scale) < 2 * size:
        return GroupEstimate(
            value=alone.value,
            low=alone.low,
            high=alone.high,
            invalid=alone.invalid,
            runs=min(runs_of_scale),
            method="alone",
            n_groups=1,
            range=Interval(np.nan, np.nan, 1.0),
            drawn=np.empty(0),
        )
    found = _measured(lambda draws: of(draws)[:, None], runs_of_scale, size, n_groups, n_resamples, seed)
    drawn = np.sort(found.drawn[:, 0])
    return GroupEstimate(
        value=float(found.value[0]),
        low=float(found.ends.low[0]),
        high=float(found.ends.high[0]),
        invalid=float(found.invalid[0]),
        runs=found.size,
        method="groups" if found.n_groups > 1 else "bootstrap",
        n_groups=found.n_groups,
        range=Interval(
            low=float(found.range.low[0]),
            high=float(found.range.high[0]),
            invalid=float(np.isnan(drawn).mean()),
        ),
        drawn=drawn[np.isfinite(drawn)],
    )


class _Measured(NamedTuple):
    """Estimates of columns; ``drawn`` has shape (random groups, columns)."""

    value: Floats
    ends: Ends
    invalid: Floats
    range: Ends
    drawn: Floats
    n_groups: int
    size: int


def _measured(
    of: OfGroups,
    runs_of_scale: Sequence[int],
    size: int,
    n_groups: int,
    n_resamples: int,
    seed: int,
) -> _Measured:
    require_count("n_groups", n_groups, 1)
    size = min(size, *runs_of_scale)
    disjoint = min(runs_of_scale) // size
    orders = max(1, round(n_groups / disjoint))
    drawn = of(disjoint_groups(runs_of_scale, size, orders, seed))
    if disjoint > 1:
        value, ends, invalid = mean_of_groups(drawn[:disjoint])
    else:
        resampled = of([draws[:, :size] for draws in run_resamples(runs_of_scale, n_resamples, seed)])
        value = _means(drawn)[0]
        ends = interval_ends(resampled, np.full(value.size, size))
        missing = ~np.isfinite(resampled)
        invalid = missing.mean(axis=0) if len(missing) else np.ones(value.size)
    spread = Ends(*np.full((2, value.size), np.nan))
    if disjoint >= FEWEST_FOR_RANGE:
        spread = _central(drawn)
    return _Measured(value, ends, invalid, spread, drawn, disjoint, size)


def _means(values: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Return the mean of each column over its finite values, and their number."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(finite, values, 0.0).sum(axis=0) / count
    return mean, count


def mean_of_groups(values: Floats) -> tuple[Floats, Ends, Floats]:
    """Return the mean over independent groups, its interval, and the share without a value."""
    # Importing scipy.stats for this one quantile would take a second.
    from scipy.special import stdtrit

    mean, count = _means(values)
    off = np.where(np.isfinite(values), values - mean, 0.0)
    invalid: Floats = 1 - count / len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        margin = stdtrit(count - 1, 0.975) * np.sqrt((off**2).sum(axis=0) / (count - 1) / count)
    margin = np.where((invalid <= MOST_INVALID) & (count > 1), margin, np.nan)
    return mean, Ends(mean - margin, mean + margin), invalid


def _central(values: Floats) -> Ends:
    """Return the central 95 % of each column; NaN if more than 5 % of its values are missing."""
    ends = np.full((2, values.shape[1]), np.nan)
    for k, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        if known.size and known.size >= (1 - MOST_INVALID) * column.size:
            ends[:, k] = np.quantile(known, [0.025, 0.975])
    return Ends(*ends)
