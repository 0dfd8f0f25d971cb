"""The estimators of the analysis, run on one sweep; each says which exponents it gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.channels import in_channel
from gradquake.analysis.collapse import best_collapse
from gradquake.analysis.density_collapse import two_exponent_collapse
from gradquake.analysis.distributions import ccdfs
from gradquake.analysis.moments import runs_of_sweep, sweep_moments
from gradquake.analysis.resampling import Estimate, estimated, run_resamples
from gradquake.analysis.scales import FEWEST_SCALES, scale_groups
from gradquake.analysis.scaling import exponent
from gradquake.analysis.tails import tail_fit

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ESTIMATORS", "Found"]

# CCDFs of this many avalanches have tens of thousands of points; more resamples would take much memory.
COLLAPSE_RESAMPLES = 200

# Each takes a search.
DENSITY_RESAMPLES = 100

# D of the known models is below 3; the default search ends at 2.5.
SEARCH = (-0.5, 4.0)


class Found(NamedTuple):
    """An exponent as one estimator gives it, with its 95 % interval.

    ``note`` says why it cannot be trusted; empty if the estimator sees no reason.
    """

    value: float
    low: float
    high: float
    note: str = ""


def _largest(sweep: xr.Dataset) -> dict[str, Found]:
    return {"D": _of(exponent(sweep, "max")), "z": _of(exponent(_durations(sweep), "max"))}


def _mean(sweep: xr.Dataset) -> dict[str, Found]:
    return {"gamma": _of(exponent(sweep, "mean"))}


def _moments(sweep: xr.Dataset) -> dict[str, Found]:
    sizes, durations = sweep_moments(sweep), sweep_moments(sweep, channel="duration")
    found = {"D": sizes.dimension, "tau": sizes.tau, "z": durations.dimension, "tau_T": durations.tau}
    return {symbol: _of(estimate) for symbol, estimate in found.items()}


def _x_only(sweep: xr.Dataset) -> dict[str, Found]:
    found = best_collapse(ccdfs(sweep, n_resamples=COLLAPSE_RESAMPLES), SEARCH)
    return {"D": Found(found.value, found.low, found.high, found.message)}


def _two_exponents(sweep: xr.Dataset, smallest: int = 1) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for (dimension, tau), channel in ((("D", "tau"), "size"), (("z", "tau_T"), "duration")):
        runs = runs_of_sweep(sweep, channel=channel)
        kept = {n: [of_run[of_run >= smallest] for of_run in of] for n, of in runs.items()}
        empty = [str(n) for n, of in kept.items() if not any(of_run.size for of_run in of)]
        if empty:
            note = f"No {channel} at L = {', '.join(empty)} is as large as {smallest}."
            found |= dict.fromkeys((dimension, tau), Found(np.nan, np.nan, np.nan, note))
            continue
        of = two_exponent_collapse(kept, SEARCH, n_resamples=DENSITY_RESAMPLES)
        found |= {dimension: _of(of.dimension, of.message), tau: _of(of.tau, of.message)}
    return found


def _tails(sweep: xr.Dataset) -> dict[str, Found]:
    return {"tau": _of(_of_largest_scale(sweep["size"].values, sweep, _tail_exponent))}


def _branching_ratio(sweep: xr.Dataset) -> dict[str, Found]:
    # Each avalanche begins with one toppling, and each further toppling has a parent.
    ratio = _of_largest_scale(sweep["size"].values, sweep, np.mean, lambda mean: 1 - 1 / mean)
    return {"ratio": _of(ratio)}


# Each estimator by name: from a sweep of avalanches to the exponents that it gives.
ESTIMATORS: dict[str, Callable[[xr.Dataset], dict[str, Found]]] = {
    "largest": _largest,
    "mean": _mean,
    "mean, three largest L": lambda sweep: _mean(_three_largest(sweep)),
    "moments": _moments,
    "moments, three largest L": lambda sweep: _moments(_three_largest(sweep)),
    "collapse of x": _x_only,
    "collapse of x and y": _two_exponents,
    "collapse of x and y from 10": partial(_two_exponents, smallest=10),
    "tail fit": _tails,
    "1 - 1/<s>": _branching_ratio,
}


def _three_largest(sweep: xr.Dataset) -> xr.Dataset:
    third = scale_groups(sweep)[-FEWEST_SCALES].n_parameters
    return sweep.isel(run=np.flatnonzero(sweep["n_parameters"].values >= third))


def _durations(sweep: xr.Dataset) -> xr.Dataset:
    return in_channel(sweep, "duration")


def _of(estimate: Estimate, note: str = "") -> Found:
    return Found(estimate.value, estimate.low, estimate.high, note)


def _tail_exponent(values: NDArray[np.int64]) -> float:
    return tail_fit(values).value


def _of_largest_scale(
    values: NDArray[np.int64],
    sweep: xr.Dataset,
    of_run: Callable[[NDArray[np.int64]], float],
    then: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda mean: mean,
) -> Estimate:
    """Return a function of the mean over the runs of the largest L, with the interval over these."""
    runs = scale_groups(sweep)[-1].runs
    each = np.array([of_run(values[run]) for run in runs.tolist()])
    (draws,) = run_resamples([runs.size])
    return estimated(float(then(each.mean(keepdims=True))[0]), then(each[draws].mean(axis=1)), runs.size)
