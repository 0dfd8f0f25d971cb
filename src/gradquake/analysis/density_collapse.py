"""The collapse of densities with two exponents: P(s) N^(D tau) against s / N^D.

The quality S is that of J. Houdayer and A. K. Hartmann, Phys. Rev. B 70, 014418 (2004), appendix, of x =
log s - D log N and y = log P(s) + D tau log N. The X-only collapse of the paper is in ``collapse``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.collapse import NO_COLLAPSE, quality_decimals
from gradquake.analysis.distributions import Density, densities
from gradquake.analysis.resampling import Estimate, estimated, run_resamples, times_drawn
from gradquake.analysis.shown import Shown
from gradquake.errors import InputError, require

__all__ = ["TwoExponentCollapse", "two_exponent_collapse"]

Floats = NDArray[np.float64]

# The spacing of D in the whole range, around the best, and around it for resamples of runs.
COARSE, FINE, OF_RESAMPLES = 0.01, 0.001, 0.0025

# How far from the best D the resamples are searched.
NEAR_BEST = 0.25

# Each resample of runs is collapsed anew.
N_COLLAPSED = 200

# Counts of many avalanches are more certain than any scaling law with its corrections is exact.
LEAST_ERROR = 0.03


@dataclass(frozen=True, eq=False, repr=False)
class TwoExponentCollapse(Shown):
    """The D and tau that collapse densities best: P(s) N^(D tau) against s / N^D.

    Attributes
    ----------
    dimension, tau : Estimate
        With 95 % intervals over runs; NaN if there is no collapse to find.
    quality : float
        The smallest S: 1 or less if the densities agree within their errors.
    n_points : int
        The number of points that it averages.
    message : str
        A sentence that says why there is no exponent, or why it cannot be trusted; else empty.
    """

    dimension: Estimate
    tau: Estimate
    quality: float
    n_points: int
    message: str = ""

    def _lines(self) -> Mapping[str, str]:
        found = {"D": self.dimension.text, "tau": self.tau.text, "S": f"{self.quality:.3g}"}
        return {**found, "but": self.message} if self.message else found


def two_exponent_collapse(
    sizes: Mapping[int, Sequence[NDArray[Any]]],
    search: tuple[float, float] = (0.0, 4.0),
    *,
    least_error: float = LEAST_ERROR,
    bins_per_decade: int = 10,
    n_resamples: int = N_COLLAPSED,
    seed: int = 0,
) -> TwoExponentCollapse:
    """Return the D and tau of P(s; N) = s^(-tau) F(s / N^D) with the smallest S.

    S = (1/M) Σ (y - Y)² / (dy² + dY²) over the M points that another scale brackets, with Y, dY the
    weighted least-squares line through the two neighbors in each scale that does. Corrections to scaling
    at small s and N shift D and tau by more than the intervals, which are of the runs alone.

    Parameters
    ----------
    sizes : mapping of number to sequence of arrays
        For each linear size or number of parameters N, the sizes of each run (see ``densities``).
    search : pair of float
        The range of D. For each D, the best tau follows from a linear equation, since S is a quadratic
        function of D tau.
    least_error : float
        A smaller relative error of a density is taken as this one: small avalanches are so many that
        their corrections to scaling would outweigh all else. 0 keeps the errors, and S then is about 1
        for an exact law only.
    bins_per_decade : int
    n_resamples, seed : int
        Of the bootstrap over runs, which searches D within 0.25 of the best. There is no interval if a
        scale has a single run.

    Raises
    ------
    InputError
        If the range is not two finite numbers, ascending, or a scale has no positive size.
    """
    lowest, highest = search
    if not -np.inf < lowest < highest < np.inf:
        raise InputError(f"search is {search!r}; two finite numbers, ascending, are needed")
    require(least_error >= 0, "least_error is negative; a relative error, 0 or above, is needed")
    scales = [
        replace(of, relative_error=np.maximum(of.relative_error, least_error))
        for of in densities(sizes, bins_per_decade=bins_per_decade)
    ]
    runs = [len(of.counts) for of in scales]
    heights = np.concatenate([np.log(of.density) for of in scales])[None]
    coarse = _two_exponents(scales, heights, _grid(lowest, highest, COARSE))
    if not coarse.n_points[0]:
        nothing = estimated(np.nan, np.empty(0), min(runs))
        message = f"The scales overlap at no D from {lowest:g} to {highest:g}."
        return TwoExponentCollapse(nothing, nothing, np.nan, 0, message)
    best = coarse.dimension[0]
    near = _grid(max(lowest, best - COARSE), min(highest, best + COARSE), FINE)
    found = _two_exponents(scales, heights, near, fewest=coarse.n_points[0] / 2)
    around = _grid(best - NEAR_BEST, best + NEAR_BEST, OF_RESAMPLES)
    resampled = _two_exponents(scales, _resampled(scales, n_resamples, seed), around)
    # At an end of the range, a resample has its minimum outside.
    inside = (resampled.dimension > around[0]) & (resampled.dimension < around[-1])
    dimension, tau = (
        estimated(float(value[0]), np.where(inside, of, np.nan), min(runs))
        for value, of in ((found.dimension, resampled.dimension), (found.tau, resampled.tau))
    )
    s, message = float(found.quality[0]), ""
    if s > NO_COLLAPSE:
        message = f"S is {s:.{quality_decimals(s)}f} at best: there is no collapse within the errors."
    return TwoExponentCollapse(dimension, tau, s, int(found.n_points[0]), message)


class _Found(NamedTuple):
    """The best D and tau, their S, and its number of points; arrays of shape (sets of heights,)."""

    dimension: Floats
    tau: Floats
    quality: Floats
    n_points: NDArray[np.intp]


def _resampled(scales: Sequence[Density], n_resamples: int, seed: int) -> Floats:
    """Return log densities of resamples of runs, shape (B, points)."""
    draws = run_resamples([len(of.counts) for of in scales], n_resamples, seed)
    parts = []
    for of, drawn in zip(scales, draws, strict=True):
        taken = times_drawn(drawn, len(of.counts))
        # A bin that a resample leaves empty has half an avalanche.
        counts = np.maximum(taken @ of.counts.astype(np.float64), 0.5)
        share = of.counts.sum(axis=0) / of.totals.sum()
        parts.append(np.log(of.density * counts / share / (taken @ of.totals)[:, None]))
    return np.hstack(parts)


def _two_exponents(
    scales: Sequence[Density], heights: Floats, grid: Floats, fewest: float = 0
) -> _Found:
    """Return the best exponents on a grid of D for each row of log densities, shape (B, points)."""
    log_n = np.repeat(np.log([of.n for of in scales]), [of.sizes.size for of in scales])
    s, product = np.full((2, grid.size, len(heights)), np.inf)
    points = np.zeros(grid.size, np.intp)
    for k, exponent in enumerate(grid):
        weights, variance = _interpolation(scales, exponent)
        counted = np.isfinite(variance)
        points[k] = counted.sum()
        if not points[k]:
            continue
        smooth, v = weights[counted], variance[counted]
        off = heights[:, counted] - heights @ smooth.T
        level = log_n[counted] - smooth @ log_n
        product[k] = -(off * level / v).sum(axis=1) / (level**2 / v).sum()
        s[k] = ((off + product[k][:, None] * level) ** 2 / v).mean(axis=1)
    s[points < max(fewest, points.max() / 2)] = np.inf
    best = s.argmin(axis=0)
    each = np.arange(len(heights))
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = product[best, each] / grid[best]
    return _Found(grid[best], tau, s[best, each], points[best])


def _interpolation(scales: Sequence[Density], exponent: float) -> tuple[Floats, Floats]:
    """Return the weights of all points in each point's line through the other scales' neighbors.

    Shape (points, points), beside the variance of each point and its line, shape (points,); infinite
    for a point that no other scale brackets.
    """
    x = [np.log(of.sizes) - exponent * np.log(of.n) for of in scales]
    variance = np.concatenate([of.relative_error**2 for of in scales])
    at, owner = np.concatenate(x), np.repeat(np.arange(len(x)), [part.size for part in x])
    k, kx, kxx = np.zeros((3, at.size))
    neighbors = []
    for scale, of_scale in enumerate(x):
        if of_scale.size < 2:
            continue
        inside = (at >= of_scale[0]) & (at <= of_scale[-1]) & (owner != scale)
        rows = np.flatnonzero(inside)
        left = np.searchsorted(of_scale[1:-1], at[rows], side="right") + np.argmax(owner == scale)
        for columns in (left, left + 1):
            dx, weight = at[columns] - at[rows], 1 / variance[columns]
            k[rows] += weight
            kx[rows] += weight * dx
            kxx[rows] += weight * dx**2
            neighbors.append((rows, columns, dx, weight))
    delta = k * kxx - kx**2
    counted = delta > 0
    delta = np.where(counted, delta, np.nan)
    weights = np.zeros((at.size, at.size))
    for rows, columns, dx, weight in neighbors:
        weights[rows, columns] += weight * (kxx[rows] - kx[rows] * dx) / delta[rows]
    return weights, np.where(counted, variance + kxx / delta, np.inf)


def _grid(start: float, stop: float, step: float) -> Floats:
    return np.linspace(start, stop, max(1, round((stop - start) / step)) + 1)
