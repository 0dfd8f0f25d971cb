"""More numbers of a sweep as functions of groups of its runs: fits, levels, crossings, single scales.

As in ``group_functions``, each function returns an ``OfGroups``; two that are given equal groups are
paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.fits import line_fits, lines, r_squared, slopes, student_quantile
from gradquake.analysis.group_functions import (
    crossing_of_groups,
    curve_of_groups,
    exponent_of_groups,
)
from gradquake.analysis.group_verdicts import estimates_of_groups
from gradquake.analysis.groups import GROUP_SIZE, Draws, OfGroups, disjoint_groups, runs_at_scales
from gradquake.analysis.scales import chosen_snapshots, scale_groups
from gradquake.analysis.scaling import coefficient_of_variation
from gradquake.analysis.statistics import STATISTICS, Statistic, check_statistic

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "GROUP_RESAMPLES", "GroupExponent", "Share", "crosses_while_runs_grok", "exponents_alone",
    "fit_quality_of_groups", "level_of_groups", "looped", "mean_curve_of_groups",
    "mean_exponent_of_groups", "mean_of_groups", "median_grokking_of_groups",
    "percentile_of_groups", "share_of_groups", "share_of_studies", "spread_of_groups",
    "without_a_scale", "without_scale_of_groups", "worst_fit_of_groups",
]  # fmt: skip

Floats = NDArray[np.float64]

# Of the bootstrap in each group of six.
GROUP_RESAMPLES = 1_000


class GroupExponent(NamedTuple):
    """The exponent of a group of runs with its 95 % interval."""

    value: float
    low: float
    high: float


class Share(NamedTuple):
    """A share of studies with its 95 % interval."""

    value: float
    low: float
    high: float


def fit_quality_of_groups(
    dataset: xr.Dataset, statistic: Statistic = "max", where: xr.DataArray | None = None
) -> OfGroups:
    """Return a function of groups: the R² of the exponent's fit over chosen snapshots."""
    n, sizes = _sizes(dataset, statistic, where)
    return lambda draws: r_squared(n, sizes(draws))


def exponents_alone(
    dataset: xr.Dataset, statistic: Statistic = "max", where: xr.DataArray | None = None
) -> list[GroupExponent]:
    """Return for each disjoint group of six the exponent that it would give alone, with its interval.

    As in ``scaling.exponent``: Student's t of the line for the largest size, else the bootstrap.
    """
    runs = runs_at_scales(dataset)
    if not STATISTICS[statistic].is_extreme:
        of = exponent_of_groups(dataset, statistic, where)
        found = estimates_of_groups(of, runs, n_resamples=GROUP_RESAMPLES)
        return [GroupExponent(e.value, e.low, e.high) for e in found]
    n, sizes = _sizes(dataset, statistic, where)
    fits = lines(n, sizes(disjoint_groups(runs)))
    margin = student_quantile(n.size - 2) * fits.stderr
    return [
        GroupExponent(float(value), float(value - m), float(value + m))
        for value, m in zip(fits.slopes, margin, strict=True)
    ]


def without_a_scale(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    where: xr.DataArray | None = None,
    *,
    extreme: Literal["smallest", "largest"],
) -> OfGroups:
    """Return a function of groups: the extreme exponent among the fits that leave out one scale each."""
    n, sizes = _sizes(dataset, statistic, where)
    pick = np.min if extreme == "smallest" else np.max

    def of(draws: Draws) -> Floats:
        whole = sizes(draws)
        left = [slopes(np.delete(n, k), np.delete(whole, k, axis=-1)) for k in range(n.size)]
        found: Floats = pick(left, axis=0)
        return found

    return of


def without_scale_of_groups(
    dataset: xr.Dataset, statistic: Statistic, where: xr.DataArray | None, scale: int
) -> OfGroups:
    """Return a function of groups: the exponent of a fit that leaves out the scale N = ``scale``."""
    n, sizes = _sizes(dataset, statistic, where)
    kept = n != scale
    return lambda draws: slopes(n[kept], sizes(draws)[..., kept])


def share_of_groups(dataset: xr.Dataset, statistic: Statistic, scale: int) -> OfGroups:
    """Return a function of groups: the statistic of s / N over all snapshots of the scale N."""
    n, sizes = _sizes(dataset, statistic, None)
    (place,) = np.flatnonzero(n == scale)
    return lambda draws: sizes(draws)[..., place] / scale


def mean_curve_of_groups(dataset: xr.Dataset, statistic: Statistic = "max") -> OfGroups:
    """Return a function of groups: the mean of D(t) over the snapshots."""
    curve = curve_of_groups(dataset, statistic)
    return lambda draws: curve(draws).mean(axis=-1)


def worst_fit_of_groups(dataset: xr.Dataset, statistic: Statistic = "max") -> OfGroups:
    """Return a function of groups: the smallest R² among the fits behind D(t)."""
    check_statistic(statistic)
    groups = scale_groups(dataset)
    n = np.array([scale for scale, _ in groups])
    sizes = dataset["size"].values.astype(np.float64)
    drawn = [STATISTICS[statistic].log_at_epochs(sizes[runs]) for _, runs in groups]

    def of(draws: Draws) -> Floats:
        logs = np.stack([f(d) for f, d in zip(drawn, draws, strict=True)])
        worst: Floats = line_fits(n, logs).r_squared.min(axis=-1)
        return worst

    return of


def level_of_groups(
    dataset: xr.Dataset, statistic: Statistic = "max", *, side: Literal["before", "after"]
) -> OfGroups:
    """Return a function of groups: the mean of D(t) before the median t_g of the group, or from it on.

    A run that never groks counts as infinitely late. NaN if there is no snapshot on that side.
    """
    curve, epochs = curve_of_groups(dataset, statistic), dataset["epoch"].values
    reached = _grokking(dataset)

    def of(draws: Draws) -> Floats:
        median = np.median(reached(draws), axis=-1, keepdims=True)
        chosen = epochs < median if side == "before" else epochs >= median
        count = chosen.sum(axis=-1)
        with np.errstate(invalid="ignore"):
            level: Floats = np.where(chosen, curve(draws), 0.0).sum(axis=-1) / count
        return level

    return of


def crosses_while_runs_grok(dataset: xr.Dataset, statistic: Statistic = "max") -> OfGroups:
    """Return a function of groups: 1 if D(t) first rises through 1 while the group's runs grok, else 0.

    That is from the first t_g of the group to its last. The mean over groups is the share of studies
    in which it does.
    """
    crossing, reached = crossing_of_groups(dataset, statistic), _grokking(dataset)

    def of(draws: Draws) -> Floats:
        epochs = reached(draws)
        first = epochs.min(axis=-1)
        last = np.where(np.isfinite(epochs), epochs, -np.inf).max(axis=-1)
        at = crossing(draws)
        inside: Floats = ((at >= first) & (at <= last)).astype(np.float64)
        return inside

    return of


def share_of_studies(of: OfGroups, runs_of_scale: Sequence[int]) -> Share:
    """Return the share of studies with six seeds in which something happens: ``of`` gives 0 or 1.

    It is taken over disjoint groups, with the exact interval of a binomial share (C. J. Clopper and
    E. S. Pearson, Biometrika 26, 404 (1934)). A scale with fewer runs than six makes one group.
    """
    from scipy.special import betaincinv

    happened = of(disjoint_groups(runs_of_scale, min(GROUP_SIZE, *runs_of_scale)))
    count, yes = happened.size, int(happened.sum())
    low = betaincinv(yes, count - yes + 1, 0.025) if yes else 0.0
    high = betaincinv(yes + 1, count - yes, 0.975) if yes < count else 1.0
    return Share(yes / count, float(low), float(high))


def median_grokking_of_groups(
    dataset: xr.Dataset, *, extreme: Literal["smallest", "largest"]
) -> OfGroups:
    """Return a function of groups: the smallest or the largest median t_g of a scale."""
    pick = np.min if extreme == "smallest" else np.max
    of_scale = _of_scales(dataset, dataset["grokking_epoch"].fillna(np.inf).values)

    def of(draws: Draws) -> Floats:
        found: Floats = pick([np.median(epochs, axis=-1) for epochs in of_scale(draws)], axis=0)
        return found

    return of


def mean_of_groups(dataset: xr.Dataset, variable: str, scale: int | None = None) -> OfGroups:
    """Return a function of groups: the mean of a measurement over the snapshots of a scale, or of all.

    ``scale`` is the number of parameters N.
    """
    of_scale = _of_scales(dataset, dataset[variable].values.mean(axis=1), scale)

    def of(draws: Draws) -> Floats:
        mean: Floats = np.concatenate(of_scale(draws), axis=-1).mean(axis=-1)
        return mean

    return of


def percentile_of_groups(
    dataset: xr.Dataset, variable: str, percent: float, scale: int | None = None
) -> OfGroups:
    """Return a function of groups: a percentile of a measurement over snapshots of a scale, or of all.

    It is a measured value: the smallest one that at least that share of the snapshots do not exceed.
    """
    of_scale = _of_scales(dataset, dataset[variable].values, scale)

    def of(draws: Draws) -> Floats:
        values = [v.reshape(len(v), -1) for v in of_scale(draws)]
        return np.quantile(
            np.concatenate(values, axis=-1), percent / 100, axis=-1, method="inverted_cdf"
        ).astype(np.float64)

    return of


def mean_exponent_of_groups(dataset: xr.Dataset) -> OfGroups:
    """Return a function of groups: the mean over seeds of the exponent of each seed's mean size.

    A slope is linear in log size, so the log sizes are averaged over seeds before the fit.
    """
    n = np.array([scale for scale, _ in scale_groups(dataset)], np.float64)
    of_scale = _of_scales(dataset, np.log(dataset["size"].values.mean(axis=1)))

    def of(draws: Draws) -> Floats:
        logs = np.stack([of_runs.mean(axis=-1) for of_runs in of_scale(draws)])
        return line_fits(n, logs).slopes

    return of


def spread_of_groups(of_variants: Sequence[OfGroups]) -> OfGroups:
    """Return a function of groups: the coefficient of variation of a number over variants."""
    return lambda draws: coefficient_of_variation(np.stack([of(draws) for of in of_variants], axis=-1))


def looped(
    dataset: xr.Dataset, of_sweep: Callable[[xr.Dataset], Sequence[float]]
) -> Callable[[int], OfGroups]:
    """Return functions of groups from numbers of the sweep that consists of the group's runs.

    The result takes the position of a number. All numbers of equal groups are computed once: this is for
    numbers that take long.
    """
    members = [runs for _, runs in scale_groups(dataset)]
    known: dict[bytes, Floats] = {}

    def numbers(draws: Draws) -> Floats:
        chosen = np.concatenate([runs[d] for runs, d in zip(members, draws, strict=True)], axis=-1)
        key = chosen.tobytes()
        if key not in known:
            known[key] = np.array([of_sweep(dataset.isel(run=runs)) for runs in chosen], np.float64)
        return known[key]

    return lambda position: lambda draws: numbers(draws)[:, position]


def _sizes(
    dataset: xr.Dataset, statistic: Statistic, where: xr.DataArray | None
) -> tuple[Floats, OfGroups]:
    """Return N, and a function of groups: the statistic at each scale, shape (groups, scales)."""
    check_statistic(statistic)
    groups = scale_groups(dataset)
    chosen, sizes = chosen_snapshots(dataset, where), dataset["size"].values
    drawn = [
        STATISTICS[statistic].over_snapshots(np.where(chosen[runs], sizes[runs], np.nan))
        for _, runs in groups
    ]
    n = np.array([scale for scale, _ in groups], np.float64)
    return n, lambda draws: np.column_stack([f(d) for f, d in zip(drawn, draws, strict=True)])


def _grokking(dataset: xr.Dataset) -> OfGroups:
    """Return a function of groups: t_g of all their runs, infinite if never, shape (groups, runs)."""
    of_scale = _of_scales(dataset, dataset["grokking_epoch"].fillna(np.inf).values)
    return lambda draws: np.concatenate(of_scale(draws), axis=-1)


def _of_scales(
    dataset: xr.Dataset, values: NDArray[np.generic], only: int | None = None
) -> Callable[[Draws], list[Floats]]:
    """Return a function of groups: for each scale the values of the drawn runs, (groups, size, ...)."""
    groups = scale_groups(dataset)

    def of(draws: Draws) -> list[Floats]:
        return [
            values[runs][d].astype(np.float64)
            for (n, runs), d in zip(groups, draws, strict=True)
            if only is None or n == only
        ]

    return of
