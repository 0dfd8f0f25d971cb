"""The distribution of avalanche sizes: its CCDF, and power laws fitted to its tail.

The fits are by maximum likelihood with the ``powerlaw`` package (Alstott, Bullmore and Plenz, PLOS
ONE 9, e85777, 2014), after Clauset, Shalizi and Newman, SIAM Review 51, 661 (2009).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis.resampling import (
    FEWEST_RUNS,
    MOST_INVALID,
    run_resamples,
    tail_share,
    times_drawn,
)
from gradquake.analysis.scaling import chosen_snapshots, scale_groups
from gradquake.errors import require, require_count

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]

# What a power law is compared with.
ALTERNATIVES = ("lognormal", "exponential", "truncated_power_law")

# Sizes that span fewer decades than this show no power law, whatever is fitted to them (Stumpf and
# Porter, Science 335, 665, 2012, ask for two).
FEWEST_DECADES = 1.5

# The rule of thumb of Clauset et al. (2009) for an exponent to be relied on.
FEWEST_IN_TAIL = 50

# With fewer distinct sizes every family fits.
FEWEST_SIZES = 3

# The most values of xmin that are tried; each costs a fit.
MOST_STARTS = 250

SIGNIFICANCE = 0.05

# A truncated power law with a cut-off this far beyond the largest size, or with a smaller exponent, is
# no other law than the power law or the exponential.
NO_CUTOFF = 0.01
NO_POWER = 0.01

# So far below a tail, in units of its sigma, the centre of a lognormal falls without end, and the
# lognormal of the tail becomes a power law.
FAR_BELOW = 10


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
    stderr : array, shape (distinct sizes,)
        The standard deviation of P(> size) over resamples of runs.

    Notes
    -----
    ``low``, ``high`` and ``stderr`` are NaN where fewer than two runs of the scale have a chosen
    snapshot, where more than 5 % of the resamples have none, and everywhere in a sweep of which
    some scale has a single run.
    """

    n_parameters: int
    sizes: NDArray[Any]
    probability: Floats
    low: Floats
    high: Floats
    stderr: Floats


@dataclass(frozen=True)
class Comparison:
    """The power law of a tail against another distribution of the same tail.

    Attributes
    ----------
    alternative : str
        One of ``ALTERNATIVES``.
    log_likelihood_ratio : float
        Over its standard deviation (Vuong's statistic); positive favours the power law, NaN where the
        two cannot be compared.
    p_value : float
        Of a ratio that far from zero where both fit equally well: two-sided normal, and for the
        truncated power law, which contains the power law, chi-squared with one degree of freedom.
    message : str
        Empty, or where the alternative's best fit lies at an edge of what it can be, or why the two
        cannot be compared.
    """

    alternative: str
    log_likelihood_ratio: float
    p_value: float
    message: str = ""


@dataclass(frozen=True)
class TailFit:
    """A discrete power law p(s) ~ s^(-exponent) for s >= xmin, fitted to avalanche sizes.

    Attributes
    ----------
    n_parameters : int
        The scale N; 0 where none was given.
    n_avalanches, n_zero : int
        The number of sizes, and of those that are 0: a power law has no place for them, so that they
        are counted here and left out of everything else.
    decades : float
        log10 of the largest over the smallest positive size; NaN where there is none.
    exponent, stderr : float
        The maximum-likelihood exponent and its standard error from the likelihood's curvature, with
        ``xmin`` taken as known; NaN where there is no fit.
    xmin : float
        Where the tail starts; NaN where there is no fit.
    n_tail : int
        The number of sizes that are not below ``xmin``.
    comparisons : tuple of Comparison
        In the order of ``ALTERNATIVES``; empty where there is no fit.
    message : str
        Empty, or what weakens the fit, or why there is none.
    """

    n_parameters: int
    n_avalanches: int
    n_zero: int
    decades: float
    exponent: float
    stderr: float
    xmin: float
    n_tail: int
    comparisons: tuple[Comparison, ...]
    message: str = ""

    @property
    def heavier_than_exponential(self) -> bool:
        """Whether the power law beats the exponential at p < 0.05: the least a heavy tail must do."""
        return any(
            c.alternative == "exponential" and c.log_likelihood_ratio > 0 and c.p_value < SIGNIFICANCE
            for c in self.comparisons
        )


def ccdf(sizes: ArrayLike) -> tuple[NDArray[Any], Floats]:
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


def ccdfs(
    dataset: xr.Dataset,
    where: xr.DataArray | None = None,
    *,
    n_resamples: int = 1_000,
    seed: int = 0,
) -> list[Ccdf]:
    """Return the CCDF of every scale of a sweep, all seeds and chosen snapshots together.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``).
    where : DataArray of bool, dims (run, epoch), optional
        The snapshots to use, for example ``transitions.phase(dataset, "pre")``. A run weighs as much
        as it has chosen snapshots.
    n_resamples, seed : int
        The bootstrap's (over runs).

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
            values, probability = ccdf(pooled)
            result.append(Ccdf(n, values, probability, *_bands(of_runs, values, drawn)))
    return result


def collapse(scales: Sequence[Ccdf], exponent: float) -> list[Ccdf]:
    """Return CCDFs against s / N^exponent: the X-only collapse, which rescales nothing else.

    With P(s; N) = s^(-tau_s) F(s / N^D) they fall on one curve but for the factor s^(1 - tau_s).
    """
    return [
        replace(scale, sizes=scale.sizes / float(scale.n_parameters) ** exponent) for scale in scales
    ]


def tail_fit(sizes: ArrayLike, n_parameters: int = 0, *, xmin: int | None = None) -> TailFit:
    """Fit a discrete power law to the tail of a sample of sizes and compare it with others.

    Parameters
    ----------
    sizes : array of int
        At least one, none negative; any shape.
    n_parameters : int
        The scale, for the result to carry.
    xmin : int, optional
        Where the tail starts; without it, searched for.

    Returns
    -------
    TailFit
        With NaN and a message where fewer than three distinct positive sizes leave nothing to fit.

    Raises
    ------
    InputError
        For an empty sample, a size that is not a whole number of at least 0, or an ``xmin`` below 1.

    Notes
    -----
    The search takes the start from which on the fitted law has the smallest Kolmogorov-Smirnov
    distance to the sample, and so the tail that is most like a power law. In a sample of another law
    that tail is often too short to tell the two apart, where the whole sample would. Every distinct
    size that leaves three of them is tried; of more than ``MOST_STARTS``, that many quantiles of the
    sample are, so that each leaves 0.4 % fewer avalanches in the tail. Every fit, those of the search
    too, is numerical and uses the exact discrete likelihood.

    Standard errors and p-values are for independent sizes. Snapshots of one run are not, which makes
    both too small.
    """
    sample = np.asarray(sizes).ravel()
    require(sample.size > 0, "no avalanche was given; at least one is needed")
    require(
        sample.dtype.kind in "iuf"
        and bool(((sample >= 0) & (sample < np.inf) & (sample == np.floor(sample))).all()),
        "a size is not a whole number of at least 0; numbers of topplings are needed",
    )
    positive = np.sort(sample[sample > 0]).astype(np.float64)
    distinct = np.unique(positive)
    if xmin is not None:
        require_count("xmin", xmin, 1)
    decades = float(np.log10(distinct[-1] / distinct[0])) if distinct.size else np.nan
    unfitted = TailFit(
        n_parameters, sample.size, sample.size - positive.size, decades, np.nan, np.nan, np.nan, 0, ()
    )
    usable = np.count_nonzero(distinct >= (xmin or 1))
    if usable < FEWEST_SIZES:
        counted = f"{usable} distinct size{'' if usable == 1 else 's'} of at least {xmin or 1}"
        return replace(unfitted, message=f"{counted}; a fit needs {FEWEST_SIZES}")
    with warnings.catch_warnings():
        # The package warns of its own deprecated names and of edges, which are reported below.
        warnings.simplefilter("ignore")
        start = float(xmin or _best_xmin(positive, distinct))
        tail, exponent, comparisons = _fit_tail(positive, start)
    problems = []
    if decades < FEWEST_DECADES:
        problems.append(
            f"sizes span {decades:.2f} decades; under {FEWEST_DECADES:g} the fit decides nothing"
        )
    if tail.size < FEWEST_IN_TAIL:
        problems.append(
            f"the tail has {tail.size} avalanches; under {FEWEST_IN_TAIL} its exponent is unreliable"
        )
    return replace(
        unfitted,
        exponent=exponent,
        stderr=_stderr(exponent, start, tail.size),
        xmin=start,
        n_tail=tail.size,
        comparisons=comparisons,
        message="; ".join(problems),
    )


def tail_fits(dataset: xr.Dataset, where: xr.DataArray | None = None) -> list[TailFit]:
    """Return ``tail_fit`` of every scale of a sweep, all seeds and chosen snapshots together.

    Arguments as in ``ccdfs``; scales without a chosen snapshot are left out.
    """
    chosen = chosen_snapshots(dataset, where)
    return [
        tail_fit(dataset["size"].values[runs][chosen[runs]], n)
        for n, runs in scale_groups(dataset)
        if chosen[runs].any()
    ]


def _bands(
    of_runs: Sequence[NDArray[Any]], values: NDArray[Any], drawn: NDArray[np.intp]
) -> tuple[Floats, Floats, Floats]:
    """Return low, high and stderr of P(> values) for runs drawn as (B, runs)."""
    unknown = np.full(values.size, np.nan)
    snapshots = np.array([sizes.size for sizes in of_runs])
    # How often each resample takes each run: a resample is then one row of a matrix product, whose
    # sums of whole numbers are exact.
    taken = times_drawn(drawn, len(of_runs))
    total = taken @ snapshots
    valid = total > 0
    few = np.count_nonzero(snapshots) < FEWEST_RUNS
    if few or not valid.size or np.mean(~valid) > MOST_INVALID:
        return unknown, unknown, unknown
    larger = np.stack([s.size - np.searchsorted(np.sort(s), values, side="right") for s in of_runs])
    shares = (larger.T.astype(np.float64) @ taken[valid].T) / total[valid]
    tail = tail_share(len(of_runs))
    low, high = np.quantile(shares, [tail, 1 - tail], axis=1)
    return low, high, shares.std(axis=1, ddof=1) if total.size > 1 else unknown


def _best_xmin(positive: Floats, distinct: Floats) -> float:
    """Return the start with the smallest Kolmogorov-Smirnov distance, given ascending sizes."""
    starts = distinct
    if distinct.size > MOST_STARTS:
        shares = np.arange(MOST_STARTS) / MOST_STARTS
        starts = np.unique(np.quantile(positive, shares, method="lower"))
    # A law with one parameter always fits two sizes.
    starts = starts[starts <= distinct[-FEWEST_SIZES]]
    distances = [
        _families()["power_law"](
            data=positive, xmin=xmin, discrete=True, estimate_discrete=False, verbose=0
        ).D
        for xmin in starts
    ]
    return float(starts[np.argmin(distances)])


def _fit_tail(positive: Floats, xmin: float) -> tuple[Floats, float, tuple[Comparison, ...]]:
    """Return the tail, its exponent and its comparisons."""
    import powerlaw

    fit = powerlaw.Fit(positive, discrete=True, estimate_discrete=False, xmin=xmin, verbose=0)
    fit.supported_distributions = _families()
    comparisons = []
    for alternative in ALTERNATIVES:
        ratio, p_value = fit.distribution_compare(
            "power_law",
            alternative,
            nested=alternative == "truncated_power_law",
            normalized_ratio=True,
        )
        other = getattr(fit, alternative)
        message = _edge(alternative, other, positive[-1])
        if np.array_equal(fit.power_law.loglikelihoods(fit.data), other.loglikelihoods(fit.data)):
            # Without a cut-off the truncated power law is the power law, and the ratio 0/0.
            ratio, p_value = 0.0, 1.0
        elif not np.isfinite(ratio):
            ratio, p_value, message = np.nan, np.nan, "the likelihoods cannot be compared"
        comparisons.append(Comparison(alternative, float(ratio), float(p_value), message))
    return fit.data, float(fit.power_law.alpha), tuple(comparisons)


def _edge(alternative: str, fitted: Any, largest: float) -> str:
    """Return where a fitted alternative is at an edge of what it can be."""
    if alternative == "lognormal":
        if np.log(fitted.xmin) - fitted.mu > FAR_BELOW * fitted.sigma:
            return f"the lognormal's centre is over {FAR_BELOW} sigma below: it tends to a power law"
    elif alternative == "truncated_power_law":
        if fitted.Lambda * largest < NO_CUTOFF:
            return "no cut-off is seen: the truncated power law is the power law"
        if fitted.alpha < NO_POWER:
            return "the exponent is 0: the truncated power law is an exponential"
    return ""


def _stderr(exponent: float, xmin: float, n_tail: int) -> float:
    """Return the standard error of a discrete exponent (Clauset et al. 2009, eq. 3.6)."""
    step = 0.01 * (exponent - 1)
    low, middle, high = (
        float(_log_mass(exponent + i * step, 0.0, np.float64(xmin))) for i in (-1, 0, 1)
    )
    return step / float(np.sqrt(n_tail * (low - 2 * middle + high)))


class _Exact:
    """p(s) ~ s^(-alpha) e^(-Lambda s) on the integers from xmin, to all digits.

    The package takes a power law's sum over s >= xmin as 1 - (1 - zeta), of which no digit is left
    where xmin^(1 - alpha) < 1e-16 (an exponent of 8 at xmin = 300), and the truncated one's from
    mpmath, at seconds a fit. This mixin replaces the likelihood and the distribution function of its
    classes; fits, distances and comparisons stay theirs.
    """

    alpha: float = 0.0
    Lambda: float = 0.0
    xmin: float

    def loglikelihoods(self, data: Floats) -> Floats:
        """Return log p of each size."""
        return self._relative(data) - _log_mass(self.alpha, self.Lambda, np.float64(self.xmin))

    def cdf(self, data: Floats) -> Floats:
        """Return P(< s) of each size, as the package does for discrete sizes."""
        above = _log_mass(self.alpha, self.Lambda, data)
        at_start = _log_mass(self.alpha, self.Lambda, np.float64(self.xmin))
        below: Floats = -np.expm1(self._relative(data) + above - at_start)
        return below

    def _relative(self, data: Floats) -> Floats:
        """Return log p(s) / p(xmin)."""
        return -self.alpha * np.log(data / self.xmin) - self.Lambda * (data - self.xmin)


class _ExactLognormal:
    """The package's discrete lognormal, P(s - 1/2 < x < s + 1/2), without underflow in its tail.

    Where a lognormal tends to a power law its mu falls without end; the package's likelihood then
    rises on rounding errors.
    """

    mu: float
    sigma: float
    xmin: float

    def loglikelihoods(self, data: Floats) -> Floats:
        """Return log p of each size; -inf where the parameters make no distribution."""
        from scipy.special import log_ndtr

        from_below, from_above, whole = (
            log_ndtr((self.mu - np.log(x)) / self.sigma)
            for x in (data - 0.5, data + 0.5, self.xmin - 0.5)
        )
        log_p = from_below + np.log1p(-np.exp(from_above - from_below)) - whole
        return np.where(np.isfinite(log_p), log_p, -np.inf)


@cache
def _families() -> dict[str, Any]:
    """Return the package's distributions with exact likelihoods and without a largest exponent.

    Its own range ends at 3, and a narrow distribution has an exponent of 10.
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


def _log_mass(alpha: float, rate: float, start: Floats | np.float64) -> Floats:
    """Return log of the sum over k >= 0 of (1 + k / start)^(-alpha) e^(-rate k).

    Euler and Maclaurin's formula after 200 terms, to eight digits or more: the terms, the integral
    of the others over the logarithm of the size, and the corrections at its lower end.
    """
    first = np.asarray(start, np.float64)[..., None]
    steps = np.arange(200)
    terms = np.exp(-alpha * np.log1p(steps / first) - rate * steps).sum(axis=-1)
    end = first + steps.size
    log_end = -alpha * np.log(end / first) - rate * steps.size
    # Beyond this the integrand is below e^(-40) of its start, but for a rate of zero below 1e-298.
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
