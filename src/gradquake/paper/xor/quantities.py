"""Measured quantities of claims: how each is taken from the evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradquake.analysis.fits import r_squared
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import Estimate, Interval, percentile_interval, run_resamples
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.statistics import Statistic
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.transitions import Phase
from gradquake.paper.claim import Quantity, measured_quantity
from gradquake.paper.xor.evidence import Evidence, resampled_curves


def rise(
    analysis: SweepAnalysis, null: SweepAnalysis, statistic: Statistic
) -> tuple[Quantity, Quantity, Quantity]:
    """Return the lowest D before and the mean D after the crossing, and the crossing."""
    curve = analysis.curves[statistic]
    epochs = curve.dimension["epoch"].values

    def parts(values: Any, crossings: Any) -> tuple[Any, Any]:
        before = epochs <= np.asarray(crossings)[..., None]
        crossed = np.isfinite(crossings)
        lowest = np.where(before, values, np.inf).min(axis=-1)
        count = np.maximum((~before).sum(axis=-1), 1)
        after = np.where(before, 0.0, values).sum(axis=-1) / count
        return np.where(crossed, lowest, np.nan), np.where(crossed, after, np.nan)

    lowest, after = parts(curve.dimension["value"].values, curve.crossing.value)
    null_lowest, null_after = parts(
        null.curves[statistic].dimension["value"].values, curve.crossing.value
    )
    resampled = parts(resampled_curves(curve)[0], curve.crossing.resamples)
    low_interval, after_interval = (
        percentile_interval(values, curve.crossing.runs) for values in resampled
    )
    return (
        measured_quantity(
            "lowest D before the crossing", float(lowest), low_interval, 0.90, float(null_lowest)
        ),
        measured_quantity(
            "mean D after the crossing", float(after), after_interval, 1.20, float(null_after)
        ),
        measured_quantity(
            "crossing epoch",
            curve.crossing.value,
            curve.crossing,
            None,
            null.curves[statistic].crossing.value,
        ),
    )


def exponent_quantity(
    evidence: Evidence, name: str, phase: Phase, statistic: Statistic, paper: float
) -> Quantity:
    """Return an inline exponent with its null and its interval over snapshots."""
    snapshots = evidence.inline.snapshot_interval(phase, statistic)
    return replace(
        exponent_with_null(name, evidence.inline_ladder, phase, statistic),
        paper=paper,
        snapshot_low=snapshots.low,
        snapshot_high=snapshots.high,
    )


def exponent_with_null(name: str, ladder: Ladder, phase: Phase, statistic: Statistic) -> Quantity:
    """Return an exponent beside its Gaussian null, with what accounts for the difference."""
    exponent = ladder.exponent("real", phase, statistic)
    null = ladder.exponent("gaussian", phase, statistic)
    parts = ladder.attribution(phase, statistic)
    return replace(
        measured_quantity(name, exponent.value, exponent, null=null.value),
        null_low=null.low,
        null_high=null.high,
        **attribution(parts.distribution, parts.arrangement),
    )


def attribution(distribution: Estimate, arrangement: Estimate) -> dict[str, Any]:
    """Return the attribution of an exponent as the fields of ``Quantity``."""
    return {
        "marginal": distribution.value,
        "marginal_low": distribution.low,
        "marginal_high": distribution.high,
        "excess": arrangement.value,
        "excess_low": arrangement.low,
        "excess_high": arrangement.high,
    }


def r_squared_quantity(name: str, exponent: Exponent, paper: float, null: Exponent) -> Quantity:
    """Return the R² of an exponent's fit, with its bootstrap."""
    interval = percentile_interval(
        r_squared(exponent.n_parameters, exponent.size_resamples), exponent.runs
    )
    return measured_quantity(name, exponent.fit.r_squared, interval, paper, null.fit.r_squared)


def mean_interval(analysis: SweepAnalysis, values: Any) -> Interval:
    """Return the bootstrap interval over runs of a mean over all snapshots."""
    resampled = resampled_means(analysis, values.mean(axis=1, keepdims=True))[:, 0]
    return percentile_interval(resampled, fewest_runs(analysis))


def fewest_runs(analysis: SweepAnalysis) -> int:
    """Return the fewest runs of a scale."""
    return min(runs.size for _, runs in scale_groups(analysis.dataset))


def percentile_95(shares: Any) -> Any:
    """Return the 95th percentile of integers from the shares of 0, 1, 2, ... on the last axis."""
    # The shares are sums of fractions; what reaches 95 % up to rounding has reached it.
    return (shares.cumsum(axis=-1) >= 0.95 - 1e-9).argmax(axis=-1)


def resampled_means(analysis: SweepAnalysis, of_runs: Any) -> Any:
    """Return means over resampled runs, (runs, k) to (B, k), runs resampled within each scale."""
    members = [runs for _, runs in scale_groups(analysis.dataset)]
    draws = run_resamples([runs.size for runs in members])
    total = sum(of_runs[runs[d]].sum(axis=1) for runs, d in zip(members, draws, strict=True))
    return total / len(of_runs)
