"""Moments of avalanche sizes: <s^q> ~ N^sigma(q), and the D and tau that follow from them.

If P(s; N) = s^(-tau) F(s / N^D), then sigma(q) = D (q + 1 - tau) for q > tau - 1 (C. Tebaldi, M. De
Menech and A. L. Stella, Phys. Rev. Lett. 83, 3952 (1999)). A single hump that moves as N^D has sigma(q)
= q D instead: its line goes through the origin, as tau = 1 would have it. Moments use all avalanches,
unlike the largest size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.channels import in_channel
from gradquake.analysis.fits import line_fits, logarithms
from gradquake.analysis.resampling import (
    N_RESAMPLES,
    Estimate,
    estimated,
    interval_ends,
    over_resamples,
    times_drawn,
)
from gradquake.analysis.scales import FEWEST_SCALES, chosen_snapshots, scale_groups
from gradquake.analysis.shown import Shown
from gradquake.errors import InputError, require

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ORDERS", "Moments", "Sigma", "moment_exponents", "runs_of_sweep", "sweep_moments"]

Floats = NDArray[np.float64]

# The sizes of each scale: one array of avalanches for each run.
SizesOfRuns = Mapping[int, Sequence[NDArray[Any]]]

ORDERS = tuple(np.arange(0.5, 4.01, 0.5).tolist())

# The lowest order of the line: below tau - 1, small avalanches make the moment, and sigma(q) bends to 0.
# tau is below 2 for the known models of avalanches.
LOWEST_ORDER = 1.0


class Sigma(NamedTuple):
    """The exponent of each moment and its 95 % interval over runs; arrays of shape (orders,)."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Moments(Shown):
    """The exponents of moments.

    Attributes
    ----------
    orders : array, shape (orders,)
        q.
    sigma : Sigma
        Of <s^q> ~ N^sigma(q).
    dimension : Estimate
        D, the slope of sigma(q) over q >= 1.
    tau : Estimate
        From the same line: sigma(q) = D (q + 1 - tau).
    offset : Estimate
        D (tau - 1), by which the line lies below q D: 0 for a single hump.
    curvature : Estimate
        The slope of sigma(q) over the upper half of these orders minus that over the lower half: 0 for
        one scaling law.
    """

    orders: Floats
    sigma: Sigma
    dimension: Estimate
    tau: Estimate
    offset: Estimate
    curvature: Estimate

    @property
    def form(self) -> Literal["scaling law", "single hump", "neither", "open"]:
        """The form of the distribution that sigma(q) speaks for.

        "scaling law" if the interval of the offset lies above 0, "single hump" if it holds 0, "neither"
        if it lies below 0, as if sizes grew with a power of N that differs from the mean to the tail,
        and "open" without an interval.
        """
        if np.isnan(self.offset.low):
            return "open"
        if self.offset.contains(0.0):
            return "single hump"
        return "scaling law" if self.offset.low > 0 else "neither"

    def _lines(self) -> Mapping[str, str]:
        return {
            "D": self.dimension.text,
            "tau": self.tau.text,
            "D (tau - 1)": self.offset.text,
            "curvature": self.curvature.text,
            "form": self.form,
        }


def moment_exponents(
    sizes: SizesOfRuns,
    orders: Sequence[float] = ORDERS,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Moments:
    """Return the exponents of moments, with intervals over runs.

    Parameters
    ----------
    sizes : mapping of number to sequence of arrays
        For each linear size or number of parameters N, the avalanche sizes of each run, not negative.
        Every avalanche of a scale has the same weight.
    orders : sequence of float
        q, ascending and above 0, at least three of them 1 or more. The line goes through those.
    n_resamples, seed : int
        Of the bootstrap over runs. A scale with a single run leaves no interval.

    Raises
    ------
    InputError
        For fewer than three N, an N that is not positive, a scale without an avalanche, a size that is
        negative or not finite, or other orders.
    """
    n, q = _checked(sizes, orders)
    sums = [_sums(of_scale, q) for _, of_scale in sorted(sizes.items())]
    runs = [len(of_scale) for of_scale in sums]
    observed = line_fits(n, np.stack([_log_mean(of.sum(axis=0)) for of in sums])).slopes

    def drawn(scale: int, draws: NDArray[np.intp]) -> Floats:
        return _log_mean(times_drawn(draws, runs[scale]) @ sums[scale])

    logs = over_resamples(runs, drawn, n_resamples, seed, width=max(runs))
    resampled = line_fits(n, np.stack(logs)).slopes
    fewest = min(runs)
    ends = interval_ends(resampled, np.full(q.size, fewest))
    values, of_resamples = _line(q, observed), _line(q, resampled)
    parts = (estimated(float(value), of, fewest) for value, of in zip(values, of_resamples, strict=True))
    return Moments(q, Sigma(observed, *ends), *parts)


def runs_of_sweep(
    dataset: xr.Dataset, where: xr.DataArray | None = None, *, channel: str = "size"
) -> dict[int, list[NDArray[Any]]]:
    """Return for each N of a sweep the sizes of each run at its chosen snapshots.

    Parameters as in ``scaling.exponent``.
    """
    dataset = in_channel(dataset, channel)
    chosen, values = chosen_snapshots(dataset, where), dataset["size"].values
    return {n: [values[run][chosen[run]] for run in runs.tolist()] for n, runs in scale_groups(dataset)}


def sweep_moments(
    dataset: xr.Dataset,
    where: xr.DataArray | None = None,
    *,
    channel: str = "size",
    orders: Sequence[float] = ORDERS,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Moments:
    """Return the exponents of the moments of a sweep over its chosen snapshots.

    Parameters as in ``scaling.exponent`` and ``moment_exponents``.
    """
    sizes = runs_of_sweep(dataset, where, channel=channel)
    return moment_exponents(sizes, orders, n_resamples=n_resamples, seed=seed)


def _checked(sizes: SizesOfRuns, orders: Sequence[float]) -> tuple[Floats, Floats]:
    n, q = np.array(sorted(sizes), np.float64), np.asarray(orders, np.float64)
    require(
        q.ndim == 1 and bool((np.diff(q, prepend=0.0) > 0).all()) and (q >= LOWEST_ORDER).sum() >= 3,
        "orders of moments are needed that ascend from above 0, three of them 1 or more",
    )
    if n.size < FEWEST_SCALES:
        raise InputError(f"there are {n.size} scales; exponents need at least {FEWEST_SCALES}")
    require(bool((n > 0).all()), "an N is not positive; positive numbers are needed")
    for scale, of_scale in sizes.items():
        if not any(np.size(of_run) for of_run in of_scale):
            raise InputError(f"there is no avalanche at N = {scale}; every scale needs one")
        if not all(np.isfinite(of_run).all() and (np.asarray(of_run) >= 0).all() for of_run in of_scale):
            raise InputError(
                f"a size at N = {scale} is negative or not finite; finite numbers from 0 are needed"
            )
    return n, q


def _sums(of_scale: Sequence[NDArray[Any]], q: Floats) -> Floats:
    """Return the sum of s^q of each run, and the number of its avalanches: (runs, orders + 1)."""
    result = np.empty((len(of_scale), q.size + 1))
    for row, of_run in zip(result, of_scale, strict=True):
        values, counts = np.unique(np.asarray(of_run), return_counts=True)
        row[:-1] = counts @ values.astype(np.float64)[:, None] ** q
        row[-1] = counts.sum()
    return result


def _log_mean(sums: Floats) -> Floats:
    """Return log <s^q> from sums and counts, shape (..., orders); NaN without an avalanche above 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return logarithms(sums[..., :-1] / sums[..., -1:])


class _Line(NamedTuple):
    """The parts of a line through sigma(q); arrays of one shape."""

    dimension: Floats
    tau: Floats
    offset: Floats
    curvature: Floats


def _line(q: Floats, sigma: Floats) -> _Line:
    """Return D, tau, D (tau - 1) and the curvature of sigma of shape (..., orders)."""
    q, sigma = q[q >= LOWEST_ORDER], sigma[..., q >= LOWEST_ORDER]
    dimension, half = _slope(q, sigma), (q.size + 1) // 2
    offset = dimension * q.mean() - sigma.mean(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = 1 + offset / dimension
    upper, lower = _slope(q[-half:], sigma[..., -half:]), _slope(q[:half], sigma[..., :half])
    return _Line(dimension, tau, offset, upper - lower)


def _slope(q: Floats, sigma: Floats) -> Floats:
    off = q - q.mean()
    slope: Floats = (sigma * off).sum(axis=-1) / (off**2).sum()
    return slope
