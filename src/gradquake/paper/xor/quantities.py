"""Quantities that several claims share, taken from the evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.fits import r_squared
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import Estimate, estimated, run_resamples
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.statistics import Statistic
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.transitions import Phase
from gradquake.paper.quantity import Number, Parts, Quantity
from gradquake.paper.xor.evidence import Evidence, resampled_curves

__all__ = [
    "FIRST_GROKKING", "LAST_GROKKING", "exponent_with_null", "exponent_with_snapshots",
    "grokking_bounds", "mean_over_snapshots", "percentile_95", "percentile_95_of", "r_squared_quantity",
    "rise",
]  # fmt: skip

Floats = NDArray[np.float64]

# The names of the bounds between which runs grok.
FIRST_GROKKING, LAST_GROKKING = "first grokking epoch", "last grokking epoch"


def grokking_bounds(analysis: SweepAnalysis) -> dict[str, float]:
    """Return the first and the last grokking epoch of all runs by name; NaN if no run grokked."""
    first, last = analysis.grokking_range
    return {FIRST_GROKKING: first, LAST_GROKKING: last}


def rise(ladder: Ladder, statistic: Statistic) -> tuple[Quantity, Quantity, Quantity]:
    """Return the lowest D before and the mean D after the crossing of 1, and the crossing.

    The Gaussian null is read at the crossing of the data.
    """
    curve, beside = ladder.real.curves[statistic], ladder.nulls["gaussian"].curves[statistic]
    epochs = curve.dimension["epoch"].values

    def parts(values: Floats, crossings: Floats) -> tuple[Floats, Floats]:
        before = epochs <= crossings[..., None]
        crossed = np.isfinite(crossings)
        lowest = np.where(before, values, np.inf).min(axis=-1)
        count = np.maximum((~before).sum(axis=-1), 1)
        after = np.where(before, 0.0, values).sum(axis=-1) / count
        return np.where(crossed, lowest, np.nan), np.where(crossed, after, np.nan)

    crossing = np.asarray(curve.crossing.value)
    of_null = parts(beside.dimension["value"].values, crossing)
    observed = parts(curve.dimension["value"].values, crossing)
    resampled = parts(resampled_curves(curve)[0], curve.crossing.resamples)
    names = ("lowest D before the crossing", "mean D after the crossing")
    before, after = (
        Quantity.of(
            name, estimated(float(value), resamples, curve.crossing.runs), null=Number(float(null_value))
        )
        for name, value, resamples, null_value in zip(names, observed, resampled, of_null, strict=True)
    )
    null_crossing = Number(beside.crossing.value)
    return before, after, Quantity.of("crossing epoch", curve.crossing, null=null_crossing)


def exponent_with_snapshots(
    evidence: Evidence, name: str, phase: Phase, statistic: Statistic, paper: float
) -> Quantity:
    """Return an in-line exponent with its null and its interval over snapshots."""
    snapshots = evidence.inline.snapshot_interval(phase, statistic)
    return replace(
        exponent_with_null(name, evidence.inline_ladder, phase, statistic),
        paper=paper,
        snapshot_low=snapshots.low,
        snapshot_high=snapshots.high,
    )


def exponent_with_null(name: str, ladder: Ladder, phase: Phase, statistic: Statistic) -> Quantity:
    """Return an exponent beside its Gaussian null, with the parts of the difference."""
    found = ladder.attribution(phase, statistic)
    imprint = None if found.imprint is None else Number.of(found.imprint)
    parts = Parts(Number.of(found.distribution), Number.of(found.arrangement), imprint)
    null = Number.of(ladder.exponent("gaussian", phase, statistic))
    exponent = ladder.exponent("real", phase, statistic)
    return Quantity.of(name, exponent, null=null, attribution=parts)


def r_squared_quantity(name: str, exponent: Exponent, paper: float, null: Exponent) -> Quantity:
    """Return the R² of an exponent's fit, with its bootstrap."""
    resamples = r_squared(exponent.n_parameters, exponent.size_resamples)
    found = estimated(exponent.fit.r_squared, resamples, exponent.runs)
    return Quantity.of(name, found, paper, null=Number(null.fit.r_squared))


def mean_over_snapshots(analysis: SweepAnalysis, values: Floats) -> Estimate:
    """Return the mean over all snapshots of values, shape (runs, snapshots)."""
    resampled = _resampled_means(analysis, values.mean(axis=1, keepdims=True))[:, 0]
    return estimated(float(values.mean()), resampled, _fewest_runs(analysis))


def percentile_95_of(analysis: SweepAnalysis, values: NDArray[np.int64]) -> Estimate:
    """Return the 95th percentile over all snapshots of small integers, shape (runs, snapshots)."""
    shares = (values[:, :, None] == np.arange(values.max() + 1)).mean(axis=1)
    resampled = percentile_95(_resampled_means(analysis, shares))
    return estimated(float(percentile_95(shares.mean(axis=0))), resampled, _fewest_runs(analysis))


def percentile_95(shares: Floats) -> Floats:
    """Return the 95th percentile of integers from the shares of 0, 1, 2, ... on the last axis."""
    # The shares are sums of fractions, so rounding may leave their sum just below 95 %.
    reached: Floats = (shares.cumsum(axis=-1) >= 0.95 - 1e-9).argmax(axis=-1).astype(np.float64)
    return reached


def _fewest_runs(analysis: SweepAnalysis) -> int:
    return min(runs.size for _, runs in scale_groups(analysis.dataset))


def _resampled_means(analysis: SweepAnalysis, of_runs: Floats) -> Floats:
    """Return means over resampled runs, (runs, k) to (B, k), runs resampled within each scale."""
    members = [runs for _, runs in scale_groups(analysis.dataset)]
    draws = run_resamples([runs.size for runs in members])
    means: Floats = sum(of_runs[runs[d]].sum(axis=1) for runs, d in zip(members, draws, strict=True))
    return means / len(of_runs)
