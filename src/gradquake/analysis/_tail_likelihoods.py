"""Exact likelihoods of discrete distributions, in the classes of the ``powerlaw`` package.

The package (Alstott, Bullmore and Plenz, PLOS ONE 9, e85777, 2014) loses all digits of narrow power laws
and of lognormals far below their tail. Its fits, distances and comparisons stay; the likelihoods and
distribution functions here replace its own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["families", "log_mass"]

Floats = NDArray[np.float64]

# The terms of a sum whose others have a closed form.
_FEW = np.arange(32.0)


class _Exact:
    """p(s) ~ s^(-alpha) e^(-Lambda s) on the integers from xmin, to all digits.

    The package computes a power law's sum over s >= xmin as 1 - (1 - zeta). No digit of it is left if
    xmin^(1 - alpha) < 1e-16 (an exponent of 8 at xmin = 300). It computes the sum of a truncated power
    law with mpmath, which takes seconds for each fit.
    """

    alpha: float = 0.0
    Lambda: float = 0.0
    xmin: float

    def loglikelihoods(self, data: Floats) -> Floats:
        """Return log p of each size."""
        return self._relative(data) - log_mass(self.alpha, self.Lambda, np.float64(self.xmin))

    def cdf(self, data: Floats) -> Floats:
        """Return P(< s) of each size, as the package does for discrete sizes."""
        above = log_mass(self.alpha, self.Lambda, data)
        at_start = log_mass(self.alpha, self.Lambda, np.float64(self.xmin))
        below: Floats = -np.expm1(self._relative(data) + above - at_start)
        return below

    def _relative(self, data: Floats) -> Floats:
        """Return log p(s) / p(xmin)."""
        return -self.alpha * np.log(data / self.xmin) - self.Lambda * (data - self.xmin)


class _ExactLognormal:
    """The package's discrete lognormal, P(s - 1/2 < x < s + 1/2), without underflow in its tail.

    If a lognormal tends to a power law, its mu falls without end, and the package's likelihood rises on
    rounding errors.
    """

    mu: float
    sigma: float
    xmin: float

    def loglikelihoods(self, data: Floats) -> Floats:
        """Return log p of each size; -inf if the parameters make no distribution."""
        from scipy.special import log_ndtr

        from_below, from_above, whole = (
            log_ndtr((self.mu - np.log(x)) / self.sigma)
            for x in (data - 0.5, data + 0.5, self.xmin - 0.5)
        )
        log_p = from_below + np.log1p(-np.exp(from_above - from_below)) - whole
        return np.where(np.isfinite(log_p), log_p, -np.inf)


@cache
def families() -> dict[str, Any]:
    """Return the package's distributions with exact likelihoods and without a largest exponent.

    The package's range ends at 3, but a narrow distribution has an exponent of 10.
    """
    import powerlaw

    power = {"DEFAULT_PARAMETER_RANGES": {"alpha": [1, None]}}
    truncated = {"DEFAULT_PARAMETER_RANGES": {"alpha": [0, None], "Lambda": [0, None]}}
    return {
        "power_law": type("PowerLaw", (_Exact, powerlaw.Power_Law), power),
        "exponential": type("Exponential", (_Exact, powerlaw.Exponential), {}),
        "truncated_power_law": type("Truncated", (_Exact, powerlaw.Truncated_Power_Law), truncated),
        "lognormal": type("Lognormal", (_ExactLognormal, powerlaw.Lognormal), {}),
    }


@cache
def _quadrature() -> tuple[Floats, Floats]:
    """Return the nodes and weights of Gauss and Legendre's rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    return (nodes + 1) / 2, weights / 2


def log_mass(alpha: float, rate: float, start: Floats | np.float64) -> Floats:
    """Return log of the sum over k >= 0 of (1 + k / start)^(-alpha) e^(-rate k).

    Euler and Maclaurin's formula, to eight digits or more: 200 terms, the integral of the others over
    the logarithm of the size, and the corrections at its lower end.
    """
    if rate == 0 and alpha > 1:
        return _log_mass_of_power(alpha, start)
    first = np.asarray(start, np.float64)[..., None]
    steps = np.arange(200)
    terms = np.exp(-alpha * np.log1p(steps / first) - rate * steps).sum(axis=-1)
    end = first + steps.size
    log_end = -alpha * np.log(end / first) - rate * steps.size
    # Beyond this the integrand is below e^(-40) of its start, unless the rate is below 1e-298.
    reach = np.log1p(40 / np.maximum(rate * end, 1e-298))
    if alpha > 1:
        reach = np.minimum(reach, 40 / (alpha - 1))
    nodes, weights = _quadrature()
    logs = reach * nodes
    integrand = np.exp(log_end + (1 - alpha) * logs - rate * end * np.expm1(logs))
    integral = (integrand @ weights) * (end * reach)[..., 0]
    slope = alpha / end + rate
    corrections = (np.exp(log_end) * (0.5 + slope / 12 - slope**3 / 720))[..., 0]
    mass: Floats = np.log(terms + integral + corrections)
    return mass


def _log_mass_of_power(alpha: float, start: Floats | np.float64) -> Floats:
    """Return ``log_mass`` without a rate, above exponent 1, where the integral has a closed form.

    It is log of start^alpha times Hurwitz's zeta function, which itself underflows.
    """
    first = np.asarray(start, np.float64)[..., None]
    terms = ((first + _FEW) / first) ** -alpha
    end = first[..., 0] + _FEW.size
    slope = alpha / end
    third = slope * (alpha + 1) / end * (alpha + 2) / end
    fifth = third * (alpha + 3) / end * (alpha + 4) / end
    tail = end / (alpha - 1) + 0.5 + slope / 12 - third / 720 + fifth / 30240
    mass: Floats = np.log(terms.sum(axis=-1) + (end / first[..., 0]) ** -alpha * tail)
    return mass
