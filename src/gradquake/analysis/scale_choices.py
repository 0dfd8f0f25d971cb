"""An exponent over fewer scales: between neighbors, without each, without the largest or smallest.

An exponent that lives on two scales shows itself here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.fits import fit_exponent, logarithms
from gradquake.analysis.resampling import Estimate, estimated
from gradquake.analysis.scaling import Exponent, line_estimate

__all__ = [ "LocalSlopes", "WithoutScales", "local_slopes", "without_scales",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LocalSlopes:
    """The exponent between each two neighboring scales; arrays of shape (scales - 1,).

    Attributes
    ----------
    smaller, larger : array of int
        The two scales.
    value, low, high : array
        log(size ratio) / log(N ratio) and its 95 % interval over runs. For the maximum the interval is
        the bootstrap's as well, and too narrow, since two points leave no residual.
    """

    smaller: NDArray[np.int64]
    larger: NDArray[np.int64]
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class WithoutScales:
    """The exponent without the k largest and without the k smallest scales, k from 0; shape (k,).

    Attributes
    ----------
    left_out : array of int
        k, up to half of the scales.
    without_largest, without_smallest : tuple of Estimate
        NaN if fewer than three scales are left.
    """

    left_out: NDArray[np.int64]
    without_largest: tuple[Estimate, ...]
    without_smallest: tuple[Estimate, ...]


def local_slopes(whole: Exponent) -> LocalSlopes:
    """Return the exponents between neighboring scales: constant for a power law."""
    n = whole.n_parameters
    steps = np.diff(np.log(n))
    values = np.diff(logarithms(whole.sizes.value)) / steps
    resampled = np.diff(logarithms(whole.size_resamples), axis=1) / steps
    found = [
        estimated(float(value), resampled[:, k], int(whole.runs_of_scale[k : k + 2].min()))
        for k, value in enumerate(values)
    ]
    ends = (np.array([getattr(of, name) for of in found]) for name in ("value", "low", "high"))
    return LocalSlopes(n[:-1], n[1:], *ends)


def without_scales(whole: Exponent) -> WithoutScales:
    """Return an exponent again without its k largest and its k smallest scales, k up to half of them."""
    scales = np.arange(whole.n_parameters.size)
    left_out = np.arange(scales.size // 2 + 1)
    return WithoutScales(
        left_out,
        tuple(_of_scales(whole, scales[: scales.size - k]) for k in left_out),
        tuple(_of_scales(whole, scales[k:]) for k in left_out),
    )


def _of_scales(whole: Exponent, scales: NDArray[np.intp]) -> Estimate:
    """Return the exponent of some of the scales, with its interval."""
    n = whole.n_parameters[scales]
    fit = fit_exponent(n, whole.sizes.value[scales])
    runs = int(whole.runs_of_scale[scales].min())
    return line_estimate(whole.statistic, fit, n, whole.size_resamples[:, scales], runs)
