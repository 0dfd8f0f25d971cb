"""The distribution of avalanche sizes: its CCDF P(> s) at every scale, and rescaled by N^D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis.resampling import (
    FEWEST_RUNS,
    MOST_INVALID,
    run_resamples,
    tail_share,
    times_drawn,
)
from gradquake.analysis.scales import chosen_snapshots, scale_groups
from gradquake.errors import InputError, require

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Ccdf", "Density", "Sample", "ccdf", "ccdfs", "collapse", "densities"]

Floats = NDArray[np.float64]
Sizes = NDArray[np.int64] | Floats


@dataclass(frozen=True, eq=False)
class Ccdf:
    """The CCDF of one scale with its pointwise 95 % bootstrap band over runs.

    Attributes
    ----------
    n_parameters : int
        The scale N.
    sizes : array, shape (distinct sizes,)
        Ascending; sizes / N^D after ``collapse``.
    probability, low, high : arrays, shape (distinct sizes,)
        P(> size) and its band.
    stderr : array, shape (distinct sizes,)
        The standard deviation of P(> size) over resamples of runs.

    Notes ----- ``low``, ``high`` and ``stderr`` are NaN if fewer than two runs of the scale have a
    chosen snapshot, if more than 5 % of the resamples have none, or if some scale of the sweep has a
    single run.
    """

    n_parameters: int
    sizes: Sizes
    probability: Floats
    low: Floats
    high: Floats
    stderr: Floats


class Sample(NamedTuple):
    """The distinct sizes of a sample, ascending, and the share of the sample larger than each."""

    sizes: Sizes
    probability: Floats


def ccdf(sizes: ArrayLike) -> Sample:
    """Return the complementary cumulative distribution P(> s) of a sample.

    Parameters
    ----------
    sizes : array, shape (avalanches,)
        At least one.

    Returns
    -------
    Sample
        The probability is 0 for the largest size.

    Raises
    ------
    InputError
        If the sample is empty.
    """
    sample = np.asarray(sizes).ravel()
    require(sample.size > 0, "no avalanche was given; at least one is needed")
    values, counts = np.unique(sample, return_counts=True)
    return Sample(values, (sample.size - np.cumsum(counts)) / sample.size)


def ccdfs(
    dataset: xr.Dataset, where: xr.DataArray | None = None, *, n_resamples: int = 1_000, seed: int = 0
) -> list[Ccdf]:
    """Return the CCDF of every scale of a sweep, all seeds and chosen snapshots together.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``).
    where : DataArray of bool, dims (run, epoch), optional
        The snapshots to use, for example ``transitions.phase(dataset, "pre")``. A run's weight is its
        number of chosen snapshots.
    n_resamples, seed : int
        Of the bootstrap over runs.

    Returns
    -------
    list of Ccdf
        By ascending N, without the scales that have no chosen snapshot.

    Raises
    ------
    InputError
        For fewer than one resample.
    """
    groups = scale_groups(dataset)
    draws = run_resamples([len(runs) for _, runs in groups], n_resamples, seed)
    chosen = chosen_snapshots(dataset, where)
    result = []
    for (n, runs), drawn in zip(groups, draws, strict=True):
        of_runs = [
            size[use] for size, use in zip(dataset["size"].values[runs], chosen[runs], strict=True)
        ]
        pooled = np.concatenate(of_runs)
        if pooled.size:
            sample = ccdf(pooled)
            result.append(Ccdf(n, *sample, *_bands(of_runs, sample.sizes, drawn)))
    return result


def collapse(scales: Sequence[Ccdf], exponent: float) -> list[Ccdf]:
    """Return CCDFs against s / N^exponent: the X-only collapse, which does not rescale P(> s).

    With P(s; N) = s^(-tau_s) F(s / N^D) they fall on one curve up to the factor s^(1 - tau_s).
    """
    return [
        replace(scale, sizes=scale.sizes / float(scale.n_parameters) ** exponent) for scale in scales
    ]


@dataclass(frozen=True, eq=False)
class Density:
    """The log-binned density of one scale.

    Attributes
    ----------
    n : float
        The linear size or number of parameters.
    sizes : array, shape (bins,)
        The geometric mean of each bin's ends, ascending; bins without an avalanche are left out.
    density : array, shape (bins,)
        The share of the avalanches in the bin, over its width.
    relative_error : array, shape (bins,)
        The standard error of the density over the density: of counts, or over runs if that is larger.
    counts : array, shape (runs, bins)
        The avalanches of each run in each bin.
    totals : array, shape (runs,)
        All avalanches of each run with a size above 0.
    """

    n: float
    sizes: Floats
    density: Floats
    relative_error: Floats
    counts: NDArray[np.int64]
    totals: NDArray[np.int64]


def densities(
    sizes: Mapping[int, Sequence[NDArray[Any]]], *, bins_per_decade: int = 10, fewest: int = 10
) -> list[Density]:
    """Return the density of sizes above 0 at every scale, in bins of equal width in log s.

    Whole sizes get bins of whole numbers, whose width is their number: several bins of less than one
    number each are one bin. All scales have the same ends of bins.

    Parameters
    ----------
    sizes : mapping of number to sequence of arrays
        For each linear size or number of parameters, the sizes of each run.
    bins_per_decade : int
    fewest : int
        A bin with fewer avalanches is left out.

    Raises
    ------
    InputError
        If a scale has no size above 0.
    """
    positive = {n: [np.asarray(run)[np.asarray(run) > 0] for run in of] for n, of in sizes.items()}
    for n, of_scale in positive.items():
        if not sum(run.size for run in of_scale):
            raise InputError(f"there is no avalanche with a positive size at N = {n}; one is needed")
    runs = [run for of_scale in positive.values() for run in of_scale if run.size]
    smallest, largest = min(run.min() for run in runs), max(run.max() for run in runs)
    whole = all(bool((run == np.floor(run)).all()) for run in runs)
    first = np.floor(np.log10(smallest) * bins_per_decade)
    last = np.ceil(np.log10(largest) * bins_per_decade) + 1
    ends = 10 ** (np.arange(first, last + 1) / bins_per_decade)
    if whole:
        ends = np.unique(np.ceil(ends * (1 - 1e-12)))
    return [_density(n, of_scale, ends, whole, fewest) for n, of_scale in sorted(positive.items())]


def _density(
    n: float, of_runs: Sequence[NDArray[Any]], ends: Floats, whole: bool, fewest: int
) -> Density:
    counts = np.stack(
        [
            np.bincount(np.searchsorted(ends, run, side="right"), minlength=ends.size + 1)[1:-1]
            for run in of_runs
        ]
    )
    centers = np.sqrt(ends[:-1] * (ends[1:] - 1 if whole else ends[1:]))
    totals, widths = counts.sum(axis=1), np.diff(ends)
    pooled, used = counts.sum(axis=0), counts.sum(axis=0) >= max(fewest, 1)
    counts, pooled = counts[:, used], pooled[used]
    share = pooled / totals.sum()
    error = np.sqrt(pooled) / totals.sum()
    if len(of_runs) >= FEWEST_RUNS:
        # The variance of a ratio of sums over runs, to first order.
        off = counts - share * totals[:, None]
        variance = len(off) / (len(off) - 1) * (off**2).sum(axis=0)
        error = np.maximum(error, np.sqrt(variance) / totals.sum())
    return Density(n, centers[used], share / widths[used], error / share, counts, totals)


class _Bands(NamedTuple):
    low: Floats
    high: Floats
    stderr: Floats


def _bands(of_runs: Sequence[Sizes], values: Sizes, drawn: NDArray[np.intp]) -> _Bands:
    """Return the band and the standard error of P(> values) for runs drawn as (B, runs)."""
    unknown = np.full(values.size, np.nan)
    snapshots = np.array([sizes.size for sizes in of_runs])
    # Products with the counts of drawn runs are sums of whole numbers, and exact.
    taken = times_drawn(drawn, len(of_runs))
    total = taken @ snapshots
    valid = total > 0
    few = np.count_nonzero(snapshots) < FEWEST_RUNS
    if few or not valid.size or np.mean(~valid) > MOST_INVALID:
        return _Bands(unknown, unknown, unknown)
    larger = np.stack([s.size - np.searchsorted(np.sort(s), values, side="right") for s in of_runs])
    shares = (larger.T.astype(np.float64) @ taken[valid].T) / total[valid]
    tail = tail_share(len(of_runs))
    low, high = np.quantile(shares, [tail, 1 - tail], axis=1)
    return _Bands(low, high, shares.std(axis=1, ddof=1) if total.size > 1 else unknown)
