"""The paper's claims about robustness, and about the avalanches and the weights themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gradquake.analysis.collapse import EXPONENT_DECIMALS, quality_decimals
from gradquake.analysis.resampling import estimated, run_resamples
from gradquake.analysis.scale_choices import leave_one_out
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.transitions import SPLIT_PHASES
from gradquake.paper.claim import (
    PAPER,
    Agrees,
    Claim,
    Compare,
    Measured,
    Rule,
    Test,
    all_of,
    any_of,
    within,
)
from gradquake.paper.quantity import Number, Quantity
from gradquake.paper.xor.conditions import INLINE
from gradquake.paper.xor.evidence import Evidence
from gradquake.paper.xor.quantities import (
    FIRST_GROKKING,
    LAST_GROKKING,
    exponent_with_null,
    grokking_bounds,
    mean_over_snapshots,
    percentile_95_of,
    rise,
)
from gradquake.report.text import quality_of

__all__ = ["ROBUSTNESS"]

# The thresholds of the claim about them.
QUANTILES = ("0.80", "0.85", "0.90", "0.95")

# S of a perfect collapse is about R / (R - 3) with R runs a scale, because the errors of P(>s) are
# estimated from R runs. Up to GOOD_COLLAPSE times that counts as a collapse.
FEWEST_FOR_COLLAPSE = 3
GOOD_COLLAPSE = 2.0
QUALITY, BEST_D = "quality S at the best D", "D of the best collapse"
GOOD_QUALITY = "S of a good collapse"
LOW_END_OF_D, HIGH_END_OF_D = "low end of the D of the largest sizes", "high end of that D"

# Below this dynamic range a fit to a tail decides nothing; the paper says that its data lie below it.
PAPER_DECADES = 1.5


def thresholds(evidence: Evidence) -> Measured:
    """Return D before and after t_g for several thresholds."""
    own = evidence.condition("alpha_train", INLINE)
    at = {q: own if q == "0.90" else evidence.condition("quantile", q) for q in QUANTILES}
    return Measured(
        [
            Quantity.of(_at_threshold(phase, q, statistic), at[q].exponent(phase, statistic))
            for statistic in STATISTICS
            for phase in SPLIT_PHASES
            for q in QUANTILES
        ]
    )


def without_a_scale(evidence: Evidence) -> Measured:
    """Return the exponents that come closest to 1 if a scale is left out."""
    quantities = []
    for statistic in STATISTICS:
        pre = leave_one_out(evidence.inline.exponent("pre", statistic))
        post = leave_one_out(evidence.inline.exponent("post", statistic))
        for name, left, worst in (
            (f"D_pre, largest without a scale ({statistic})", pre, int(pre.value.argmax())),
            (f"D_post, smallest without a scale ({statistic})", post, int(post.value.argmin())),
        ):
            ends = (float(end[worst]) for end in (left.value, left.low, left.high))
            quantities.append(Quantity.of(name, Number(*ends)))
    return Measured(quantities, testable=all(np.isfinite(q.value) for q in quantities))


def durations(evidence: Evidence) -> Measured:
    """Return how many steps avalanches take."""
    dataset, null = evidence.inline.dataset, evidence.inline_null.dataset
    steps = dataset["duration"].values
    of_null = Number(float(np.quantile(null["duration"].values, 0.95, method="inverted_cdf")))
    longest = percentile_95_of(evidence.inline, steps)
    truncated = mean_over_snapshots(evidence.inline, dataset["truncated"].values.astype(float))
    cut = Number(float(null["truncated"].mean()))
    return Measured(
        (
            Quantity.of("95th percentile of T", longest, 10, null=of_null),
            Quantity.of("share truncated at 20 steps", truncated, null=cut),
        ),
        seen=f"The median is {np.median(steps):.0f} steps, the maximum {steps.max()}.",
    )


def deviation(evidence: Evidence) -> Measured:
    """Return the angle between a gradient and its relaxed state."""
    angles = evidence.inline.dataset["deviation"].values
    null = Number(float(evidence.inline_null.dataset["deviation"].mean()))
    low, high = np.quantile(angles, [0.025, 0.975])
    mean = mean_over_snapshots(evidence.inline, angles)
    return Measured(
        (Quantity.of("mean deviation in degrees", mean, 30, null=null),),
        seen=f"95 % of the snapshots lie in {low:.0f} to {high:.0f} degrees.",
    )


def gini_peak(evidence: Evidence) -> Measured:
    """Return the height, width and time of the peak of the weights' Gini coefficient."""
    peaks = evidence.gini.peaks
    found = np.isfinite(peaks.delay)
    rows = np.flatnonzero(found)
    draws = rows[run_resamples([rows.size])[0]] if rows.size else np.empty((0, 0), int)

    def over_runs(name: str, values: Any, statistic: Callable[..., Any], paper: float) -> Quantity:
        if not rows.size:
            return Quantity(name, np.nan, paper=paper)
        resamples = statistic(values[draws], axis=1)
        return Quantity.of(name, estimated(float(statistic(values[rows])), resamples, rows.size), paper)

    near = (np.abs(peaks.delay) <= 10).astype(float)
    return Measured(
        (
            over_runs("median rise", peaks.rise, np.median, 0.25),
            over_runs("median width in epochs", peaks.width, np.median, 50),
            over_runs("share of peaks within ±10 epochs", near, np.mean, 0.95),
        ),
        seen=f"The numbers are over the {rows.size} of {found.size} runs that grok at epoch 30 or "
        "later, because the peak is measured from the level 30 epochs before t_g. In "
        f"{int((~peaks.interior[rows]).sum())} of these runs the Gini coefficient is largest at an end "
        "of the epochs examined; that is no peak, and does not count as within ±10 epochs.",
        testable=bool(rows.size),
    )


def shadow_crossing(evidence: Evidence) -> Measured:
    """Return D of both phases and the crossing of 1 if the training does not see the probe."""
    quantities: list[Quantity] = []
    for statistic in STATISTICS:
        quantities += [
            exponent_with_null(f"D_{phase} ({statistic})", evidence.shadow_ladder, phase, statistic)
            for phase in SPLIT_PHASES
        ]
        quantities += [
            replace(quantity, name=f"{quantity.name} ({statistic})")
            for quantity in rise(evidence.shadow_ladder, statistic)
        ]
    bounds = grokking_bounds(evidence.shadow_ladder.real)
    first, last = bounds[FIRST_GROKKING], bounds[LAST_GROKKING]
    return Measured(quantities, bounds, f"Runs grok at epochs {first:.0f} to {last:.0f}.")


def heavy_tails(evidence: Evidence) -> Measured:
    """Return at how many scales the sizes are heavier than exponential, and over how many decades."""
    fits = evidence.tails["inline"]
    heavy = [fit.heavier_than_exponential for fit in fits]
    widest = float(np.max([fit.decades for fit in fits]))
    described = "; ".join(
        f"N = {fit.n_parameters}: {fit.decades:.2f} decades, alpha = {fit.exponent:.0f}" for fit in fits
    )
    return Measured(
        (
            Quantity("share of scales heavier than exponential", float(np.mean(heavy))),
            Quantity("most decades at a scale", widest, paper=PAPER_DECADES),
        ),
        seen=f"Range and fitted exponent alpha of each scale: {described}. Below {PAPER_DECADES} "
        "decades a fit to the tail decides nothing.",
    )


def collapse_of_sizes(evidence: Evidence) -> Measured:
    """Return how well the size distributions collapse, and at which D."""
    rungs = ("real", "gaussian", "permuted")
    found, null, permuted = (evidence.inline_scrutiny.collapse(rung, "all") for rung in rungs)
    exponent = evidence.inline.exponent("all", "max")
    runs = exponent.runs
    testable = runs > FEWEST_FOR_COLLAPSE
    good = GOOD_COLLAPSE * runs / (runs - FEWEST_FOR_COLLAPSE) if testable else np.nan
    seen = (
        f"With {runs} runs a scale a perfect collapse has S = {good / GOOD_COLLAPSE:.1f}, and S up to "
        f"{good:.1f} counts as a collapse. The largest sizes give D = {exponent.value:.3f} "
        f"[{exponent.low:.3f}, {exponent.high:.3f}]. The permuted null has S = {quality_of(permuted)} "
        f"at D = {permuted.exponent:.2f}. At the ends of the interval of D, S is larger by 1."
    )
    why = (
        f"{runs} runs a scale give no error of P(>s) to judge a collapse by; {FEWEST_FOR_COLLAPSE + 1} "
        "are needed."
    )
    of_quality, of_exponent = quality_decimals(found.quality), EXPONENT_DECIMALS
    best = Number(null.exponent, null.low, null.high)
    return Measured(
        (
            Quantity(QUALITY, found.quality, paper=1.0, null=Number(null.quality), decimals=of_quality),
            Quantity(BEST_D, found.exponent, found.low, found.high, null=best, decimals=of_exponent),
        ),
        {GOOD_QUALITY: good, LOW_END_OF_D: exponent.low, HIGH_END_OF_D: exponent.high},
        seen if testable else why,
        testable,
    )


def _at_threshold(phase: str, q: str, statistic: Statistic) -> str:
    return f"D_{phase} at Q{round(100 * float(q))} ({statistic})"


def _for_both(test: Callable[[Statistic], tuple[Test, ...]]) -> Rule:
    """Return the rule that all tests must hold for both statistics; as a direction for one."""
    return Rule.for_all({statistic: all_of(*test(statistic)) for statistic in STATISTICS})


def _threshold_tests(statistic: Statistic) -> tuple[Test, ...]:
    below = (Compare(_at_threshold("pre", q, statistic), "value", "<", 1) for q in QUANTILES)
    above = (Compare(_at_threshold("post", q, statistic), "value", ">", 1) for q in QUANTILES)
    return (*below, *above)


def _scale_tests(statistic: Statistic) -> tuple[Test, ...]:
    return (
        Compare(f"D_pre, largest without a scale ({statistic})", "value", "<", 1),
        Compare(f"D_post, smallest without a scale ({statistic})", "value", ">", 1),
    )


def _shadow_tests(statistic: Statistic) -> tuple[Test, ...]:
    return (
        Compare(f"D_pre ({statistic})", "value", "<", 1),
        Compare(f"D_post ({statistic})", "value", ">", 1),
        within(f"crossing epoch ({statistic})", FIRST_GROKKING, LAST_GROKKING),
    )


_NARROW = Compare("most decades at a scale", "value", "<", PAPER)
_HEAVY = "share of scales heavier than exponential"
_COLLAPSES = Compare(QUALITY, "value", "<=", GOOD_QUALITY)
_SAME_D = all_of(
    Compare(BEST_D, "low", "<=", HIGH_END_OF_D), Compare(BEST_D, "high", ">=", LOW_END_OF_D)
)

ROBUSTNESS: tuple[Claim[Evidence], ...] = (
    Claim(
        "quantile",
        "robust for thresholds Q80 to Q95",
        "stated",
        thresholds,
        _for_both(_threshold_tests),
        "D_pre < 1 < D_post must hold at every threshold, for the largest (max) and the mean size. The "
        "threshold is the same in the probe and in training. Direction: it holds for one of the two.",
    ),
    Claim(
        "loo",
        "leave-one-scale-out keeps D in both phases",
        "stated",
        without_a_scale,
        _for_both(_scale_tests),
        "Without any one scale, D_pre < 1 < D_post must hold for the largest (max) and the mean size. "
        "Direction: it holds for one of the two.",
    ),
    Claim(
        "steps",
        "steps until relaxed in training",
        "typically < 10, at most 20",
        durations,
        Rule(Compare("95th percentile of T", "high", "<", PAPER)),
        "The interval of the 95th percentile must lie below 10.",
    ),
    Claim(
        "angle",
        "deviation of the relaxed gradient",
        "about 30 degrees",
        deviation,
        Rule(within("mean deviation in degrees", 25, 35)),
        "The mean must lie within 25 to 35 degrees.",
        needs_intervals=False,
    ),
    Claim(
        "gini",
        "Gini of the absolute weights: transient peak at the transition",
        "+25 %, about 50 epochs, within ±10 epochs of t_g, 1000 seeds",
        gini_peak,
        Rule(
            all_of(
                Agrees("median rise"),
                Agrees("median width in epochs"),
                Compare("share of peaks within ±10 epochs", "low", ">=", PAPER),
            ),
            all_of(
                Compare("median rise", "low", ">", 0),
                Compare("share of peaks within ±10 epochs", "value", ">", 0.5),
            ),
        ),
        "Rise and width must agree, and 95 % of the peaks must lie within ±10 epochs. Direction: there "
        "is a rise, and most peaks lie within ±10 epochs.",
        needs_intervals=False,
    ),
    Claim(
        "shadow",
        "the crossing persists with alpha_train = 0",
        "stated",
        shadow_crossing,
        _for_both(_shadow_tests),
        "D_pre < 1 < D_post must hold, and D(t) must cross 1 while runs grok, for the largest (max) and "
        "the mean size. Direction: both hold for one of the two.",
    ),
    Claim(
        "heavy-tail",
        "heavy-tailed size distributions; under 1.5 decades a scale",
        "stated",
        heavy_tails,
        Rule(
            all_of(Compare(_HEAVY, "value", ">=", 1), _NARROW),
            all_of(Compare(_HEAVY, "value", ">=", 0.5), _NARROW),
        ),
        "A scale counts if the likelihood ratio of a power law against an exponential favors the power "
        "law with p < 0.05. All scales must count, and none may span more decades than the paper says. "
        "Direction: half of the scales count.",
        needs_intervals=False,
    ),
    Claim(
        "collapse",
        "X-only collapse with the single exponent D",
        "stated",
        collapse_of_sizes,
        Rule(all_of(_COLLAPSES, _SAME_D), any_of(_COLLAPSES, _SAME_D)),
        "S is the quality of Houdayer and Hartmann (2004), ideally 1. S must be at most twice that of a "
        "perfect collapse, and the interval of D must overlap that of the largest sizes. Direction: one "
        "of the two holds.",
    ),
)
