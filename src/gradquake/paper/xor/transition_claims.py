"""The paper's claims about the transition and about the synthetic baseline."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from gradquake.analysis.resampling import difference, estimated, percentile_interval
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.statistics import Statistic
from gradquake.paper.claim import PAPER, Agrees, Claim, Compare, Measured, Rule, all_of, within
from gradquake.paper.quantity import Number, Parts, Quantity
from gradquake.paper.xor.evidence import Evidence, resampled_curves, time_average
from gradquake.paper.xor.plan import GINI_HIDDEN
from gradquake.paper.xor.quantities import (
    FIRST_GROKKING,
    LAST_GROKKING,
    exponent_with_snapshots,
    grokking_bounds,
    r_squared_quantity,
    rise,
)

__all__ = ["TRANSITION"]

# The paper's rounded R² = 1.00 and R² = 0.99 are read as at least these.
R_SQUARED_1_00 = 0.995
R_SQUARED_0_99 = 0.985

LOW_END_OF_LARGEST = "low end of the largest median"


def grokking_range(evidence: Evidence) -> Measured:
    """Return the smallest and the largest median grokking epoch of a size."""
    medians = sorted(evidence.inline.grokking, key=lambda scale: scale.median.value)
    smallest, largest = medians[0], medians[-1]
    return Measured(
        (
            Quantity.of("smallest median t_g", smallest.median, 12),
            Quantity.of("largest median t_g", largest.median, 134),
        ),
        {LOW_END_OF_LARGEST: largest.median.low},
        f"The medians are over seeds, at N = {smallest.n_parameters} and N = {largest.n_parameters}.",
    )


def grokking_of_many(evidence: Evidence) -> Measured:
    """Return the grokking epochs of the many seeds of one size."""
    epochs = evidence.gini.grokking_epochs
    late = np.where(np.isnan(epochs), np.inf, epochs)
    low, median, high = np.quantile(late, [0.025, 0.5, 0.975], method="nearest").tolist()
    return Measured(
        (Quantity("t_g at h = 21 (95 % range of runs)", median, low, high, 27),),
        seen=f"Of {epochs.size} seeds, {int(np.isnan(epochs).sum())} never reached 100 % accuracy.",
    )


def phase_exponent(evidence: Evidence, phase: Literal["pre", "post"], paper: float) -> Measured:
    """Return D of a phase."""
    exponent = evidence.inline.exponent(phase, "max")
    mean = evidence.inline.exponent(phase, "mean")
    missing = exponent.fit.message
    others = f"The mean size gives {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]."
    seen = " ".join(filter(None, (missing, others, _fit_notes(exponent))))
    quantity = exponent_with_snapshots(evidence, f"D_{phase}", phase, "max", paper)
    return Measured((quantity,), seen=seen, testable=not missing)


def baseline_exponent(evidence: Evidence) -> Measured:
    """Return the exponent of Gaussian gradients."""
    baseline = evidence.topologies
    largest = evidence.inline_null.exponent("all", "max").value
    return Measured(
        (Quantity.of("D_synth", baseline.mean, 0.99),),
        seen=f"The value is a mean over {baseline.of_each.size} configurations, with a standard "
        f"deviation of {baseline.of_each.std(ddof=1):.4f}. The largest size of Gaussian gradients on "
        f"the default graph gives D = {largest:.3f}.",
    )


def aggregate(
    evidence: Evidence, name: str, statistic: Statistic, paper: float, r_squared: float
) -> Measured:
    """Return an exponent over all snapshots, and the R² of its fit."""
    exponent = evidence.inline.exponent("all", statistic)
    null = evidence.inline_null.exponent("all", statistic)
    return Measured(
        (
            exponent_with_snapshots(evidence, name, "all", statistic, paper),
            r_squared_quantity("R²", exponent, r_squared, null),
        ),
        seen=_fit_notes(exponent),
    )


def dimension_rise(evidence: Evidence) -> Measured:
    """Return the rise of D(t) through 1."""
    inline = evidence.inline
    before, after, crossing = rise(evidence.inline_ladder, "max")
    bounds = grokking_bounds(inline)
    of_mean = inline.curves["mean"].crossing.value
    return Measured(
        (replace(before, paper=0.90), replace(after, paper=1.20), crossing),
        bounds,
        f"D(t) crosses at epoch {_epoch(crossing.value)}, and runs grok at epochs "
        f"{bounds[FIRST_GROKKING]:.0f} to {bounds[LAST_GROKKING]:.0f}. In "
        f"{inline.curves['max'].crossing.invalid:.1%} of the resamples it does not cross. D(t) of the "
        f"mean size crosses at epoch {_epoch(of_mean)}.",
    )


def average_dimension(evidence: Evidence) -> Measured:
    """Return the mean of D(t) over the snapshots."""
    ladder = evidence.inline_ladder
    average, gaussian = evidence.time_average, time_average(ladder.nulls["gaussian"])
    apart = ladder.independent or ladder
    real, permuted, noise = map(
        time_average, (apart.real, apart.nulls["permuted"], apart.nulls["gaussian"])
    )
    of_means = float(evidence.inline.curves["mean"].dimension["value"].mean())
    parts = Parts(
        distribution=Number.of(difference(permuted, noise)),
        arrangement=Number.of(difference(real, permuted)),
        imprint=Number.of(difference(average, real)) if apart is not ladder else None,
    )
    null = Number.of(gaussian)
    return Measured(
        (Quantity.of("mean of D(t)", average, 1.00, null=null, attribution=parts),),
        seen=f"The mean size gives {of_means:.3f}.",
    )


def smallest_r_squared(evidence: Evidence) -> Measured:
    """Return the worst of the fits behind D(t)."""
    curve = evidence.inline.curves["max"].dimension
    worst = resampled_curves(evidence.inline.curves["max"])[1].min(axis=1)
    smallest = estimated(float(curve["r_squared"].min()), worst, curve.attrs["fewest_runs"])
    null = Number(float(evidence.inline_null.curves["max"].dimension["r_squared"].min()))
    share = float((curve["r_squared"] > 0.98).mean())
    return Measured(
        (Quantity.of("smallest R²", smallest, 0.98, null=null),),
        seen=f"{share:.0%} of the snapshots have R² > 0.98.",
    )


def spread(evidence: Evidence, of: str, bound: float) -> Measured:
    """Return the spread of the baseline's exponent over variants, in percent."""
    baseline = evidence.topologies if of == "topologies" else evidence.alphas
    found = baseline.spread
    pairs = zip(baseline.variants, baseline.each, strict=True)
    return Measured(
        (Quantity("CV in %", 100 * found.value, 100 * found.low, 100 * found.high, bound),),
        seen=f"D by variant: {', '.join(f'{variant}: {d.value:.4f}' for variant, d in pairs)}.",
    )


def _fit_notes(found: Exponent) -> str:
    """Return the plain percentiles of an exponent and the cautions about its fit, as sentences."""
    plain = percentile_interval(found.resamples)
    first = f"Plain percentiles of the bootstrap give [{plain.low:.3f}, {plain.high:.3f}]."
    return " ".join((first, *found.cautions))


def _epoch(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "none"


_RISES_WHILE_RUNS_GROK = within("crossing epoch", FIRST_GROKKING, LAST_GROKKING)

_SPREAD = Rule(Compare("CV in %", "high", "<", PAPER))
_SPREAD_HOW = (
    "The high end of the interval must lie below the paper's bound. The scatter of few seeds raises it."
)

TRANSITION: tuple[Claim[Evidence], ...] = (
    Claim(
        "grok-range",
        "grokking epochs over h = 20..500",
        "12 to 134",
        grokking_range,
        Rule(
            all_of(Agrees("smallest median t_g"), Agrees("largest median t_g")),
            Compare("smallest median t_g", "high", "<", LOW_END_OF_LARGEST),
        ),
        "Both medians must agree. Direction: their intervals do not overlap.",
    ),
    Claim(
        "grok-h21",
        f"representative run h = {GINI_HIDDEN}, N = 85",
        "epoch 27",
        grokking_of_many,
        Rule(Agrees("t_g at h = 21 (95 % range of runs)")),
        "The range that holds 95 % of the runs must contain the paper's epoch; the value is the median.",
        needs_intervals=False,
    ),
    Claim(
        "D-pre",
        "D before, phase-split",
        "0.90 ± 0.02",
        partial(phase_exponent, phase="pre", paper=0.90),
        Rule(Agrees("D_pre", 0.02), Compare("D_pre", "value", "<", 1)),
        "D of the largest size over all snapshots before t_g must agree. Direction: D is below 1.",
    ),
    Claim(
        "D-post",
        "D after, phase-split",
        "1.20 ± 0.02",
        partial(phase_exponent, phase="post", paper=1.20),
        Rule(Agrees("D_post", 0.02), Compare("D_post", "value", ">", 1)),
        "D of the largest size over all snapshots from t_g on must agree. Direction: D is above 1.",
    ),
    Claim(
        "D-synth",
        "i.i.d. Gaussian baseline, from the mean size",
        "0.99 ± 0.01",
        baseline_exponent,
        Rule(Agrees("D_synth", 0.01)),
        "The exponent must agree.",
    ),
    Claim(
        "D-agg",
        "aggregate s_max ~ N^D",
        "1.00 ± 0.02, R² = 1.00",
        partial(aggregate, name="D", statistic="max", paper=1.00, r_squared=1.00),
        Rule(all_of(Agrees("D", 0.02), Compare("R²", "high", ">=", R_SQUARED_1_00)), Agrees("D", 0.02)),
        f"D must agree, and the interval of R² must reach {R_SQUARED_1_00:g}, which rounds to 1.00. "
        "Direction: D agrees.",
    ),
    Claim(
        "gamma-agg",
        "aggregate mean size ~ N^gamma",
        "1.15 ± 0.06, R² = 0.99",
        partial(aggregate, name="gamma", statistic="mean", paper=1.15, r_squared=0.99),
        Rule(
            all_of(Agrees("gamma", 0.06), Compare("R²", "high", ">=", R_SQUARED_0_99)),
            Compare("gamma", "low", ">", 1),
        ),
        f"gamma must agree, and the interval of R² must reach {R_SQUARED_0_99:g}, which rounds to 0.99. "
        "Direction: the interval of gamma lies above 1.",
    ),
    Claim(
        "D-range",
        "D(t) rises from about 0.90 to about 1.20, crossing 1 while runs grok",
        "0.90, 1.20",
        dimension_rise,
        Rule(
            all_of(
                Agrees("lowest D before the crossing"),
                Agrees("mean D after the crossing"),
                _RISES_WHILE_RUNS_GROK,
            ),
            _RISES_WHILE_RUNS_GROK,
        ),
        "Both levels must agree, and D(t) must cross 1 from below while runs grok. Direction: the "
        "crossing alone.",
    ),
    Claim(
        "D-tavg",
        "time average of D(t)",
        "1.00 ± 0.02",
        average_dimension,
        Rule(Agrees("mean of D(t)", 0.02)),
        "The mean over the snapshots must agree.",
    ),
    Claim(
        "fit-quality",
        "R² of the D(t) fits",
        "> 0.98",
        smallest_r_squared,
        Rule(Compare("smallest R²", "low", ">", 0.98)),
        "The interval of the smallest R² of a snapshot must lie above 0.98.",
    ),
    Claim(
        "topology",
        "spread of D_synth over 5 topologies",
        "CV < 0.3 %",
        partial(spread, of="topologies", bound=0.3),
        _SPREAD,
        _SPREAD_HOW,
    ),
    Claim(
        "alpha",
        "spread of D_synth over alpha 0.1..0.5",
        "CV < 1 %",
        partial(spread, of="alphas", bound=1.0),
        _SPREAD,
        _SPREAD_HOW,
    ),
)
