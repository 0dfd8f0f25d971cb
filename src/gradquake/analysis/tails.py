"""The distribution of avalanche sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis.resampling import run_resamples
from gradquake.analysis.scaling import scale_groups
from gradquake.errors import require

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Ccdf:
    """The CCDF of one scale with its pointwise 95 % bootstrap band over runs.

    Attributes
    ----------
    n_parameters : int
        The scale N.
    sizes : array, shape (distinct sizes,)
        Ascending; or sizes / N^D after ``collapse``.
    probability, low, high : arrays, shape (distinct sizes,)
        P(> size) and its band.
    """

    n_parameters: int
    sizes: NDArray[Any]
    probability: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def ccdf(sizes: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the complementary cumulative distribution P(> s) of a sample.

    Parameters
    ----------
    sizes : array, shape (avalanches,)
        At least one.

    Returns
    -------
    values : array
        The distinct sizes, ascending.
    probability : array of float64
        The share of the sample that is larger than each; 0 for the largest.

    Raises
    ------
    InputError
        For an empty sample.
    """
    sample = np.asarray(sizes).ravel()
    require(sample.size > 0, "no avalanche was given; at least one is needed")
    values, counts = np.unique(sample, return_counts=True)
    return values, (sample.size - np.cumsum(counts)) / sample.size


def ccdfs(dataset: xr.Dataset, *, n_resamples: int = 1_000, seed: int = 0) -> list[Ccdf]:
    """Return the CCDF of every scale of a sweep, all seeds and snapshots together."""
    groups = scale_groups(dataset)
    draws = run_resamples([len(runs) for _, runs in groups], n_resamples, seed)
    result = []
    for (n, runs), chosen in zip(groups, draws, strict=True):
        sizes = dataset["size"].values[runs]
        values, probability = ccdf(sizes)
        larger = sizes.shape[1] - np.stack(
            [np.searchsorted(np.sort(run), values, side="right") for run in sizes]
        )
        low = high = np.full(values.size, np.nan)
        if len(chosen):
            shares = np.stack([larger[c].mean(axis=0) for c in chosen]) / sizes.shape[1]
            low, high = np.quantile(shares, [0.025, 0.975], axis=0)
        result.append(Ccdf(n, values, probability, low, high))
    return result


def collapse(scales: Sequence[Ccdf], exponent: float) -> list[Ccdf]:
    """Return CCDFs against s / N^exponent: the X-only collapse, which rescales nothing else.

    With P(s; N) = s^(-tau_s) F(s / N^D) they fall on one curve but for the factor s^(1 - tau_s).
    """
    return [
        replace(scale, sizes=scale.sizes / float(scale.n_parameters) ** exponent) for scale in scales
    ]
