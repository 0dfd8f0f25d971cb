"""Power laws fitted to the tails of the distributions of avalanche sizes.

The fits are by maximum likelihood with the ``powerlaw`` package (Alstott, Bullmore and Plenz, PLOS
ONE 9, e85777, 2014), after Clauset, Shalizi and Newman, SIAM Review 51, 661 (2009).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis._tail_likelihoods import families, log_mass
from gradquake.analysis.scales import chosen_snapshots, scale_groups
from gradquake.analysis.shown import Shown, bracketed
from gradquake.errors import require, require_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "ALTERNATIVES",
    "Comparison",
    "TailFit",
    "TailSummary",
    "tail_fit",
    "tail_fits",
    "tail_summary",
]

Floats = NDArray[np.float64]

# The distributions that a power law is compared with.
ALTERNATIVES = ("lognormal", "exponential", "truncated_power_law")

# Sizes that span fewer decades than this cannot show a power law (Stumpf and Porter, Science 335, 665,
# 2012, ask for two).
FEWEST_DECADES = 1.5

# Below this number, by the rule of thumb of Clauset et al. (2009), an exponent is unreliable.
FEWEST_IN_TAIL = 50

# Every family fits fewer distinct sizes.
FEWEST_SIZES = 3

# The most values of xmin that are tried; each takes a fit.
MOST_STARTS = 250

SIGNIFICANCE = 0.05

# If Lambda times the largest size is below NO_CUTOFF, a truncated power law is a power law; if its
# exponent is below NO_POWER, it is an exponential.
NO_CUTOFF = 0.01
NO_POWER = 0.01

# A lognormal whose center lies more than this many sigma below the tail is a power law in the tail.
FAR_BELOW = 10


@dataclass(frozen=True)
class Comparison:
    """The power law of a tail against another distribution of the same tail.

    Attributes
    ----------
    alternative : str
        One of ``ALTERNATIVES``.
    log_likelihood_ratio : float
        Over its standard deviation (Vuong's statistic); positive favors the power law, NaN if the two
        cannot be compared.
    p_value : float
        Of a ratio that far from zero if both fit equally well: two-sided normal; for the truncated power
        law, which contains the power law, chi-squared with one degree of freedom.
    message : str
        A sentence if the alternative's best fit lies at the edge of its parameters, or if the two
        cannot be compared; else empty.
    """

    alternative: str
    log_likelihood_ratio: float
    p_value: float
    message: str = ""


@dataclass(frozen=True, repr=False)
class TailFit(Shown):
    """A discrete power law p(s) ~ s^(-exponent) for s >= xmin, fitted to avalanche sizes.

    Attributes
    ----------
    n_parameters : int
        The scale N; 0 if none was given.
    n_avalanches, n_zero : int
        The number of sizes, and of those that are 0. A power law has no size 0, so that these are
        counted here and left out of everything else.
    decades : float
        log10 of the largest over the smallest positive size; NaN if there is none.
    value, stderr : float
        The maximum-likelihood exponent and its standard error from the likelihood's curvature, with
        ``xmin`` taken as known; NaN if there is no fit.
    xmin : float
        The smallest size of the tail; NaN if there is no fit.
    n_tail : int
        The number of sizes of at least ``xmin``.
    comparisons : tuple of Comparison
        In the order of ``ALTERNATIVES``; empty if there is no fit.
    message : str
        Sentences that say why the fit is weak, or why there is none; else empty.
    """

    n_parameters: int
    n_avalanches: int
    n_zero: int
    decades: float
    value: float
    stderr: float
    xmin: float
    n_tail: int
    comparisons: tuple[Comparison, ...]
    message: str = ""

    @property
    def low(self) -> float:
        """Lower end of the exponent's 95 % interval for normal errors."""
        return self.value - 1.96 * self.stderr

    @property
    def high(self) -> float:
        """Upper end of the exponent's 95 % interval for normal errors."""
        return self.value + 1.96 * self.stderr

    @property
    def heavier_than_exponential(self) -> bool:
        """Whether the power law beats the exponential at p < 0.05: the least demand on a heavy tail."""
        return any(
            c.alternative == "exponential" and c.log_likelihood_ratio > 0 and c.p_value < SIGNIFICANCE
            for c in self.comparisons
        )

    @property
    def _title(self) -> str:
        return f"Tail at N = {self.n_parameters}" if self.n_parameters else "Tail"

    def _lines(self) -> Mapping[str, str]:
        found = (
            f"exponent {bracketed(self.value, self.low, self.high)} from s = {self.xmin:g}, "
            f"{self.n_tail} of {self.n_avalanches} avalanches"
            if self.n_tail
            else "no fit"
        )
        return {"": found, "but": self.message} if self.message else {"": found}


def tail_fit(sizes: ArrayLike, n_parameters: int = 0, *, xmin: int | None = None) -> TailFit:
    """Fit a discrete power law to the tail of a sample of sizes and compare it with others.

    Parameters
    ----------
    sizes : array of int
        At least one, none negative; any shape.
    n_parameters : int
        The scale, kept in the result.
    xmin : int, optional
        The smallest size of the tail; searched for if it is not given.

    Returns
    -------
    TailFit
        With NaN and a message if there are fewer than three distinct positive sizes.

    Raises
    ------
    InputError
        If the sample is empty, a size is not a whole number of at least 0, or ``xmin`` is below 1.

    Notes ----- The search finds the ``xmin`` above which the fitted law has the smallest
    Kolmogorov-Smirnov distance to the sample, and so the tail that is most like a power law. If the
    sample follows another law, that tail is often too short to tell the two apart, although the whole
    sample would. The search tries every distinct size that leaves three of them in the tail. If these
    are more than ``MOST_STARTS``, it tries that many quantiles of the sample instead, each with 0.4 %
    fewer avalanches in the tail. Every fit is numerical and uses the exact discrete likelihood.

    Standard errors and p-values are for independent sizes. Snapshots of one run are not independent, so
    that both are too small.
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
        few = f"A fit needs {FEWEST_SIZES} distinct sizes of at least {xmin or 1}; there are {usable}."
        return replace(unfitted, message=few)
    with warnings.catch_warnings():
        # The package warns of its own deprecated names, and of edges, which ``_edge`` reports.
        warnings.simplefilter("ignore")
        start = float(xmin or _best_xmin(positive, distinct))
        tail, exponent, comparisons = _fit_tail(positive, start)
    return replace(
        unfitted,
        value=exponent,
        stderr=_stderr(exponent, start, tail.size),
        xmin=start,
        n_tail=tail.size,
        comparisons=comparisons,
        message=_doubts(decades, tail.size),
    )


def _doubts(decades: float, n_tail: int) -> str:
    """Return sentences that say why a fit is weak."""
    found = []
    if decades < FEWEST_DECADES:
        found.append(
            f"The sizes span only {decades:.2f} decades; over less than {FEWEST_DECADES:g} a fit "
            "decides nothing."
        )
    if n_tail < FEWEST_IN_TAIL:
        found.append(
            f"The tail has only {n_tail} avalanches; with fewer than {FEWEST_IN_TAIL} its exponent is "
            "unreliable."
        )
    return " ".join(found)


class TailSummary(NamedTuple):
    """The share of scales heavier than exponential, and the most decades of a scale."""

    heavy: float
    decades: float


def tail_summary(fits: Sequence[TailFit]) -> TailSummary:
    """Return what the fits at several scales have in common; NaN if the sizes of one have no range."""
    heavy = float(np.mean([fit.heavier_than_exponential for fit in fits]))
    return TailSummary(heavy, float(np.max([fit.decades for fit in fits])))


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


def _best_xmin(positive: Floats, distinct: Floats) -> float:
    """Return the start with the smallest Kolmogorov-Smirnov distance, given ascending sizes."""
    starts = distinct
    if distinct.size > MOST_STARTS:
        shares = np.arange(MOST_STARTS) / MOST_STARTS
        starts = np.unique(np.quantile(positive, shares, method="lower"))
    # A law with one parameter fits any two sizes.
    starts = starts[starts <= distinct[-FEWEST_SIZES]]
    distances = [
        families()["power_law"](
            data=positive, xmin=xmin, discrete=True, estimate_discrete=False, verbose=0
        ).D
        for xmin in starts
    ]
    return float(starts[np.argmin(distances)])


def _fit_tail(positive: Floats, xmin: float) -> tuple[Floats, float, tuple[Comparison, ...]]:
    """Return the tail, its exponent and its comparisons."""
    import powerlaw

    fit = powerlaw.Fit(positive, discrete=True, estimate_discrete=False, xmin=xmin, verbose=0)
    fit.supported_distributions = families()
    comparisons = []
    for alternative in ALTERNATIVES:
        ratio, p_value = fit.distribution_compare(
            "power_law", alternative, nested=alternative == "truncated_power_law", normalized_ratio=True
        )
        other = getattr(fit, alternative)
        message = _edge(alternative, other, positive[-1])
        if np.array_equal(fit.power_law.loglikelihoods(fit.data), other.loglikelihoods(fit.data)):
            # A truncated power law without a cut-off is the power law, and the ratio is 0/0.
            ratio, p_value = 0.0, 1.0
        elif not np.isfinite(ratio):
            ratio, p_value, message = np.nan, np.nan, "The likelihoods cannot be compared."
        comparisons.append(Comparison(alternative, float(ratio), float(p_value), message))
    return fit.data, float(fit.power_law.alpha), tuple(comparisons)


def _edge(alternative: str, fitted: Any, largest: float) -> str:
    """Return a sentence if a fitted alternative is at an edge of its parameters."""
    if alternative == "lognormal":
        if np.log(fitted.xmin) - fitted.mu > FAR_BELOW * fitted.sigma:
            return (
                f"The lognormal's center lies over {FAR_BELOW} sigma below the tail: it tends to a "
                "power law."
            )
    elif alternative == "truncated_power_law":
        if fitted.Lambda * largest < NO_CUTOFF:
            return "The sizes show no cut-off: the truncated power law is the power law."
        if fitted.alpha < NO_POWER:
            return "The exponent is 0: the truncated power law is an exponential."
    return ""


def _stderr(exponent: float, xmin: float, n_tail: int) -> float:
    """Return the standard error of a discrete exponent (Clauset et al. 2009, eq. 3.6)."""
    step = 0.01 * (exponent - 1)
    low, middle, high = (float(log_mass(exponent + i * step, 0.0, np.float64(xmin))) for i in (-1, 0, 1))
    return step / float(np.sqrt(n_tail * (low - 2 * middle + high)))
