"""The paper's claims about robustness, and about the avalanches and the weights themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradquake.analysis.collapse import EXPONENT_DECIMALS, perfect_quality, quality_decimals
from gradquake.analysis.scaling import leave_one_out
from gradquake.analysis.snapshots import (
    mean_over_snapshots,
    percentile_over_snapshots,
    snapshot_range,
)
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.tails import tail_summary
from gradquake.analysis.transitions import SPLIT_PHASES, Phase
from gradquake.paper.claim import (
    PAPERS_VALUE,
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
from gradquake.paper.xor.evidence import Evidence
from gradquake.paper.xor.quantities import (
    FIRST_GROKKING,
    LAST_GROKKING,
    crossing_name,
    exponent_name,
    exponent_with_null,
    grokking_bounds,
    rise,
)
from gradquake.report.text import quality_of

__all__ = ["ROBUSTNESS"]

# The thresholds of the claim about them.
QUANTILES = (0.80, 0.85, 0.90, 0.95)

# A collapse may have an S of up to this many times that of a perfect one.
GOOD_COLLAPSE = 2.0
QUALITY, BEST_D = "quality S at the best D", "D of the best collapse"
GOOD_QUALITY = "S of a good collapse"
LOW_END_OF_D, HIGH_END_OF_D = "low end of the D of the largest sizes", "high end of that D"

# Below this dynamic range a fit to a tail decides nothing; the paper says that its data lie below it.
PAPER_DECADES = 1.5


def thresholds(evidence: Evidence) -> Measured:
    """Return the exponents before and after t_g for several thresholds."""
    at = {q: evidence.condition(quantile=q) for q in QUANTILES}
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
        pre, post = (leave_one_out(evidence.inline.exponent(phase, statistic)) for phase in SPLIT_PHASES)
        largest, smallest = _without(statistic)
        for name, found in ((largest, pre.largest), (smallest, post.smallest)):
            quantities.append(Quantity.of(name, Number(found.value, found.low, found.high)))
    return Measured(quantities, testable=all(np.isfinite(q.value) for q in quantities))


def durations(evidence: Evidence) -> Measured:
    """Return how many steps avalanches take."""
    dataset, null = evidence.inline.dataset, evidence.inline_null.dataset
    steps = snapshot_range(dataset, "duration")
    of_null, cut_of_null = (
        Number(found.value)
        for found in (
            percentile_over_snapshots(null, "duration"),
            mean_over_snapshots(null, "truncated"),
        )
    )
    longest = percentile_over_snapshots(dataset, "duration")
    truncated = mean_over_snapshots(dataset, "truncated")
    return Measured(
        (
            Quantity.of("95th percentile of T", longest, 10, null=of_null),
            Quantity.of("share truncated at 20 steps", truncated, null=cut_of_null),
        ),
        seen=f"The median is {steps.median:.0f} steps, the maximum {steps.largest:.0f}.",
    )


def deviation(evidence: Evidence) -> Measured:
    """Return the angle between a gradient and its relaxed state."""
    dataset, null = evidence.inline.dataset, evidence.inline_null.dataset
    mean, of_null = (mean_over_snapshots(of, "deviation") for of in (dataset, null))
    angles = snapshot_range(dataset, "deviation")
    return Measured(
        (Quantity.of("mean deviation in degrees", mean, 30, null=Number(of_null.value)),),
        seen=f"95 % of the snapshots lie in {angles.low:.0f} to {angles.high:.0f} degrees.",
    )


def gini_peak(evidence: Evidence) -> Measured:
    """Return the height, width and time of the peak of the weights' Gini coefficient."""
    peak, runs = evidence.gini.peak, evidence.gini.grokking_epochs.size
    return Measured(
        (
            Quantity.of("median rise", peak.rise, 0.25),
            Quantity.of("median width in epochs", peak.width, 50),
            Quantity.of("share of peaks within ±10 epochs", peak.near, 0.95),
        ),
        seen=f"The numbers are over the {peak.runs} of {runs} runs that grok at epoch 30 or "
        "later, because the peak is measured from the level 30 epochs before t_g. In "
        f"{peak.at_an_end} of these runs the Gini coefficient is largest at an end "
        "of the epochs examined; that is no peak, and does not count as within ±10 epochs.",
        testable=peak.runs > 0,
    )


def shadow_crossing(evidence: Evidence) -> Measured:
    """Return the exponents and the crossings of 1 if the training does not see the probe."""
    quantities: list[Quantity] = []
    for statistic in STATISTICS:
        quantities += [
            exponent_with_null(exponent_name(statistic, phase), evidence.shadow_ladder, phase, statistic)
            for phase in SPLIT_PHASES
        ]
        quantities += rise(evidence.shadow_ladder, statistic)
    bounds = grokking_bounds(evidence.shadow_ladder.real)
    first, last = bounds[FIRST_GROKKING], bounds[LAST_GROKKING]
    return Measured(quantities, bounds, f"Runs grok at epochs {first:.0f} to {last:.0f}.")


def heavy_tails(evidence: Evidence) -> Measured:
    """Return at how many scales the sizes are heavier than exponential, and over how many decades."""
    fits = evidence.tails["inline"]
    found = tail_summary(fits)
    described = "; ".join(
        f"N = {fit.n_parameters}: {fit.decades:.2f} decades, alpha = {fit.value:.0f}" for fit in fits
    )
    return Measured(
        (
            Quantity("share of scales heavier than exponential", found.heavy),
            Quantity("most decades at a scale", found.decades, paper=PAPER_DECADES),
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
    perfect = perfect_quality(runs)
    good, testable = GOOD_COLLAPSE * perfect, bool(np.isfinite(perfect))
    seen = (
        f"With {runs} runs a scale a perfect collapse has S = {perfect:.1f}, and S up to "
        f"{good:.1f} counts as a collapse. The largest sizes give D = {exponent.value:.3f} "
        f"[{exponent.low:.3f}, {exponent.high:.3f}]. The permuted null has S = {quality_of(permuted)} "
        f"at D = {permuted.value:.2f}. At the ends of the interval of D, S is larger by 1."
    )
    why = f"{runs} runs a scale give no error of P(>s) to judge a collapse by; 4 are needed."
    of_quality, of_exponent = quality_decimals(found.quality), EXPONENT_DECIMALS
    best = Number(null.value, null.low, null.high)
    return Measured(
        (
            Quantity(QUALITY, found.quality, paper=1.0, null=Number(null.quality), decimals=of_quality),
            Quantity(BEST_D, found.value, found.low, found.high, null=best, decimals=of_exponent),
        ),
        {GOOD_QUALITY: good, LOW_END_OF_D: exponent.low, HIGH_END_OF_D: exponent.high},
        seen if testable else why,
        testable,
    )


def _at_threshold(phase: Phase, q: float, statistic: Statistic) -> str:
    return f"{exponent_name(statistic, phase)} at Q{round(100 * q)}"


def _without(statistic: Statistic) -> tuple[str, str]:
    """Return the names of the exponents of both phases that come closest to 1."""
    pre, post = (exponent_name(statistic, phase) for phase in SPLIT_PHASES)
    return f"{pre}, largest without a scale", f"{post}, smallest without a scale"


def _for_both(test: Callable[[Statistic], tuple[Test, ...]]) -> Rule:
    """Return the rule that all tests must hold for both exponents; as a direction for one."""
    return Rule.for_all({of.symbol: all_of(*test(statistic)) for statistic, of in STATISTICS.items()})


def _threshold_tests(statistic: Statistic) -> tuple[Test, ...]:
    below = (Compare(_at_threshold("pre", q, statistic), "value", "<", 1) for q in QUANTILES)
    above = (Compare(_at_threshold("post", q, statistic), "value", ">", 1) for q in QUANTILES)
    return (*below, *above)


def _scale_tests(statistic: Statistic) -> tuple[Test, ...]:
    largest, smallest = _without(statistic)
    return (
        Compare(largest, "value", "<", 1),
        Compare(smallest, "value", ">", 1),
    )


def _shadow_tests(statistic: Statistic) -> tuple[Test, ...]:
    return (
        Compare(exponent_name(statistic, "pre"), "value", "<", 1),
        Compare(exponent_name(statistic, "post"), "value", ">", 1),
        within(crossing_name(statistic), FIRST_GROKKING, LAST_GROKKING),
    )


_NARROW = Compare("most decades at a scale", "value", "<", PAPERS_VALUE)
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
        "D_pre < 1 < D_post and gamma_pre < 1 < gamma_post must hold at every threshold. The threshold "
        "is the same in the probe and in training. Direction: one of the two holds.",
    ),
    Claim(
        "loo",
        "leave-one-scale-out keeps D in both phases",
        "stated",
        without_a_scale,
        _for_both(_scale_tests),
        "Without any one scale, D_pre < 1 < D_post and gamma_pre < 1 < gamma_post must hold. Direction: "
        "one of the two holds.",
    ),
    Claim(
        "steps",
        "steps until relaxed in training",
        "typically < 10, at most 20",
        durations,
        Rule(Compare("95th percentile of T", "high", "<", PAPERS_VALUE)),
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
                Compare("share of peaks within ±10 epochs", "low", ">=", PAPERS_VALUE),
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
        "D_pre < 1 < D_post must hold, and D(t) must cross 1 while runs grok; and the same for gamma. "
        "Direction: both hold for one of the two.",
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
