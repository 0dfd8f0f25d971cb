"""The paper's claims: the text of each, its figure, how it is judged, and what was found.

A claim with a value is reproduced when the measured 95 % interval contains the paper's value, or the
measured value lies within twice the paper's own error, or (for a bound) the relevant end of the
interval respects it; "direction only" when the sign or order that it asserts holds and the value does
not. A claim that is only stated is reproduced when its rule holds for both statistics (largest and mean
size), direction only when for one. docs/method.md says which details were settled only after a first
look at numbers, and which verdicts hang on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from gradquake.analysis.collapse import EXPONENT_DECIMALS, quality_decimals
from gradquake.analysis.resampling import Interval, difference, percentile_interval, run_resamples
from gradquake.analysis.scaling import STATISTICS, Exponent, Statistic, leave_one_out
from gradquake.analysis.transitions import Phase
from gradquake.paper.claim import Claim, Quantity, measured_quantity, verdict
from gradquake.paper.xor.conditions import INLINE
from gradquake.paper.xor.evidence import Baseline, Evidence, resampled_curves, time_average
from gradquake.paper.xor.plan import GINI_HIDDEN
from gradquake.paper.xor.quantities import (
    attribution,
    exponent_quantity,
    exponent_with_null,
    fewest_runs,
    mean_interval,
    percentile_95,
    r_squared_quantity,
    resampled_means,
    rise,
)
from gradquake.report.text import quality_of

NO_INTERVAL = Interval(np.nan, np.nan, 1.0)

# What the paper's rounded R² = 1.00 and R² = 0.99 are read as.
R_SQUARED_1_00 = 0.995
R_SQUARED_0_99 = 0.985

# S of a perfect collapse is about R / (R - 3) with R runs a scale, since errors that R runs give are
# uncertain themselves; up to this many times that counts as a collapse.
FEWEST_FOR_COLLAPSE = 3
GOOD_COLLAPSE = 2.0

# Under this dynamic range a fit to a tail decides nothing, and the paper says its data are under it.
PAPER_DECADES = 1.5

# These are judged without an interval over the runs of the eight scales.
JUDGED_WITHOUT_INTERVAL = ("grok-h21", "angle", "gini", "heavy-tail")


def judge(evidence: Evidence) -> list[Claim]:
    """Return every claim with its verdict, in the order of the paper."""
    claims = [claim(evidence) for claim in CLAIMS]
    if evidence.has_intervals:
        return claims
    reason = "A scale has a single run, so that there is no interval to judge by. "
    return [
        claim
        if claim.id in JUDGED_WITHOUT_INTERVAL
        else replace(claim, verdict="not testable", note=reason + claim.note)
        for claim in claims
    ]


def grok_range(evidence: Evidence) -> Claim:
    """Grokking epochs over the scales."""
    medians = sorted(evidence.inline.grokking, key=lambda scale: scale.median.value)
    smallest, largest = medians[0], medians[-1]
    quantities = (
        measured_quantity("smallest median t_g", smallest.median.value, smallest.median, 12),
        measured_quantity("largest median t_g", largest.median.value, largest.median, 134),
    )
    return Claim(
        "grok-range",
        "grokking epochs over h = 20..500",
        "12 to 134",
        quantities,
        verdict(
            all(q.agrees() for q in quantities),
            smallest.median.high < largest.median.low,
        ),
        f"medians over seeds at N = {smallest.n_parameters} and N = {largest.n_parameters}; "
        "direction: the two intervals are apart",
    )


def grok_h21(evidence: Evidence) -> Claim:
    """The representative run."""
    epochs = evidence.gini.grokking_epochs
    late = np.where(np.isnan(epochs), np.inf, epochs)
    low, median, high = np.quantile(late, [0.025, 0.5, 0.975], method="nearest").tolist()
    quantity = Quantity("t_g at h = 21 (95 % range of runs)", median, low, high, 27)
    return Claim(
        "grok-h21",
        f"representative run h = {GINI_HIDDEN}, N = 85",
        "epoch 27",
        (quantity,),
        verdict(quantity.agrees(), False),
        f"median and 95 % range over {epochs.size} seeds, of which {int(np.isnan(epochs).sum())} "
        "never reached 100 %",
    )


def d_pre(evidence: Evidence) -> Claim:
    """D before the transition."""
    return _phase_claim(evidence, "pre", 0.90)


def d_post(evidence: Evidence) -> Claim:
    """D after the transition."""
    return _phase_claim(evidence, "post", 1.20)


def d_synth(evidence: Evidence) -> Claim:
    """The synthetic baseline."""
    baseline = evidence.topologies
    quantity = measured_quantity("D_synth", baseline.mean, baseline.mean_interval, 0.99)
    return Claim(
        "D-synth",
        "i.i.d. Gaussian baseline, from the mean size",
        "0.99 ± 0.01",
        (quantity,),
        verdict(quantity.agrees(0.01), False),
        f"mean over {baseline.of_each.size} configurations; their standard deviation is "
        f"{baseline.of_each.std(ddof=1):.4f}. The largest size of Gaussian "
        "gradients on the default graph gives D = "
        f"{evidence.inline_null.exponent('all', 'max').value:.3f}",
    )


def d_agg(evidence: Evidence) -> Claim:
    """Aggregate scaling of the largest size."""
    exponent, null = _pair(evidence, "all", "max")
    slope = exponent_quantity(evidence, "D", "all", "max", 1.00)
    fit = r_squared_quantity("R²", exponent, 1.00, null)
    return Claim(
        "D-agg",
        "aggregate s_max ~ N^D",
        "1.00 ± 0.02, R² = 1.00",
        (slope, fit),
        verdict(slope.agrees(0.02) and fit.high >= R_SQUARED_1_00, slope.agrees(0.02)),
        "R² = 1.00 is read as at least 0.995 within the interval; direction: D alone agrees; "
        + _plain(exponent),
    )


def gamma_agg(evidence: Evidence) -> Claim:
    """Aggregate scaling of the mean size."""
    exponent, null = _pair(evidence, "all", "mean")
    slope = exponent_quantity(evidence, "gamma", "all", "mean", 1.15)
    fit = r_squared_quantity("R²", exponent, 0.99, null)
    return Claim(
        "gamma-agg",
        "aggregate mean size ~ N^gamma",
        "1.15 ± 0.06, R² = 0.99",
        (slope, fit),
        verdict(slope.agrees(0.06) and fit.high >= R_SQUARED_0_99, slope.low > 1),
        "R² = 0.99 is read as at least 0.985 within the interval; direction: gamma > 1; "
        + _plain(exponent),
    )


def d_range(evidence: Evidence) -> Claim:
    """The rise of D(t) through 1 while runs grok."""
    inline = evidence.inline
    first, last = inline.grokking_range
    before, after, crossing = rise(inline, evidence.inline_null, "max")
    inside = inline.crosses_while_runs_grok("max")
    return Claim(
        "D-range",
        "D(t) rises from about 0.90 to about 1.20, crossing 1 while runs grok",
        "0.90, 1.20",
        (before, after, crossing),
        verdict(before.agrees() and after.agrees() and inside, inside),
        f"crossing at epoch {_number(crossing.value, 0)}, the runs grok at epochs {first:.0f} to "
        f"{last:.0f}; {inline.curves['max'].crossing.invalid:.1%} of the resamples do not "
        f"cross; the mean size crosses at epoch {_number(inline.curves['mean'].crossing.value, 0)}. "
        "Direction: a crossing from below while runs grok",
    )


def d_tavg(evidence: Evidence) -> Claim:
    """The time average of D(t)."""
    ladder = evidence.inline_ladder
    permuted, gaussian = (time_average(ladder.nulls[name]) for name in ("permuted", "gaussian"))
    average = evidence.time_average
    quantity = replace(
        measured_quantity("mean of D(t)", average.value, average, 1.00, gaussian.value),
        null_low=gaussian.low,
        null_high=gaussian.high,
        **attribution(difference(permuted, gaussian), difference(average, permuted)),
    )
    of_means = float(evidence.inline.curves["mean"].dimension["value"].mean())
    return Claim(
        "D-tavg",
        "time average of D(t)",
        "1.00 ± 0.02",
        (quantity,),
        verdict(quantity.agrees(0.02), False),
        f"mean over the snapshots; of the mean size {of_means:.3f}",
    )


def fit_quality(evidence: Evidence) -> Claim:
    """The quality of the fits behind D(t)."""
    curve = evidence.inline.curves["max"].dimension
    worst = resampled_curves(evidence.inline.curves["max"])[1].min(axis=1)
    quantity = measured_quantity(
        "smallest R²",
        float(curve["r_squared"].min()),
        percentile_interval(worst, curve.attrs["fewest_runs"]),
        0.98,
        float(evidence.inline_null.curves["max"].dimension["r_squared"].min()),
    )
    share = float((curve["r_squared"] > 0.98).mean())
    return Claim(
        "fit-quality",
        "R² of the D(t) fits",
        "> 0.98",
        (quantity,),
        verdict(quantity.low > 0.98, False),
        f"smallest over snapshots; {share:.0%} of the snapshots have R² > 0.98",
    )


def topology(evidence: Evidence) -> Claim:
    """Invariance of the baseline under the topology."""
    text = "spread of D_synth over 5 topologies"
    return _spread_claim("topology", text, "CV < 0.3 %", evidence.topologies, 0.3)


def alpha(evidence: Evidence) -> Claim:
    """Invariance of the baseline under the diffusion strength."""
    text = "spread of D_synth over alpha 0.1..0.5"
    return _spread_claim("alpha", text, "CV < 1 %", evidence.alphas, 1.0)


def quantile(evidence: Evidence) -> Claim:
    """Robustness of the phases against the threshold."""
    variants = [result for result in evidence.conditions if result.group == "quantile"]
    own = evidence.condition("alpha_train", INLINE)
    by_quantile = {**{result.name: result for result in variants}, "0.90": own}
    holds, quantities = [], []
    for statistic in STATISTICS:
        pairs = [
            tuple(by_quantile[q].exponents["real", phase, statistic] for phase in ("pre", "post"))
            for q in sorted(by_quantile)
        ]
        holds.append(all(pre.value < 1 < post.value for pre, post in pairs))
        for i, phase in enumerate(("pre", "post")):
            for q, pair in zip(sorted(by_quantile), pairs, strict=True):
                name = f"D_{phase} at Q{round(100 * float(q))} ({statistic})"
                quantities.append(measured_quantity(name, pair[i].value, pair[i]))
    return Claim(
        "quantile",
        "robust for thresholds Q80 to Q95",
        "stated",
        tuple(quantities),
        verdict(all(holds), any(holds)),
        _statistics_note(holds, "D_pre < 1 < D_post at every threshold, in the probe and in training"),
    )


def loo(evidence: Evidence) -> Claim:
    """Robustness of the phases against leaving out a scale."""
    holds, quantities = [], []
    for statistic in STATISTICS:
        pre = leave_one_out(evidence.inline.exponent("pre", statistic))
        post = leave_one_out(evidence.inline.exponent("post", statistic))
        holds.append(bool((pre.value < 1).all() and (post.value > 1).all()))
        for phase, left, worst in (
            ("pre, largest", pre, int(pre.value.argmax())),
            ("post, smallest", post, int(post.value.argmin())),
        ):
            quantities.append(
                Quantity(
                    f"D_{phase} without a scale ({statistic})",
                    float(left.value[worst]),
                    float(left.low[worst]),
                    float(left.high[worst]),
                )
            )
    return Claim(
        "loo",
        "leave-one-scale-out keeps D in both phases",
        "stated",
        tuple(quantities),
        verdict(all(holds), any(holds))
        if all(np.isfinite(q.value) for q in quantities)
        else "not testable",
        _statistics_note(holds, "every left-out D is on its phase's side of 1"),
    )


def steps(evidence: Evidence) -> Claim:
    """Steps until relaxed."""
    dataset = evidence.inline.dataset
    durations = dataset["duration"].values
    longest = np.arange(durations.max() + 1)
    shares = (durations[:, :, None] == longest).mean(axis=1)
    null_durations = evidence.inline_null.dataset["duration"].values
    quantity = measured_quantity(
        "95th percentile of T",
        float(percentile_95(shares.mean(axis=0))),
        percentile_interval(
            percentile_95(resampled_means(evidence.inline, shares)), fewest_runs(evidence.inline)
        ),
        10,
        float(np.quantile(null_durations, 0.95, method="inverted_cdf")),
    )
    truncated = dataset["truncated"].values.astype(float)
    cut = measured_quantity(
        "share truncated at 20 steps",
        float(truncated.mean()),
        mean_interval(evidence.inline, truncated),
        null=float(evidence.inline_null.dataset["truncated"].mean()),
    )
    return Claim(
        "steps",
        "steps until relaxed in training",
        "typically < 10, at most 20",
        (quantity, cut),
        verdict(quantity.high < 10, False),
        f"median {np.median(durations):.0f}, largest {durations.max()} steps",
    )


def angle(evidence: Evidence) -> Claim:
    """Deviation of the relaxed gradient."""
    angles = evidence.inline.dataset["deviation"].values
    quantity = measured_quantity(
        "mean deviation in degrees",
        float(angles.mean()),
        mean_interval(evidence.inline, angles),
        30,
        float(evidence.inline_null.dataset["deviation"].mean()),
    )
    low, high = np.quantile(angles, [0.025, 0.975])
    return Claim(
        "angle",
        "deviation of the relaxed gradient",
        "about 30 degrees",
        (quantity,),
        verdict(25 <= quantity.value <= 35, False),
        f"judged by the mean, within 25 to 35; 95 % of the snapshots lie in {low:.0f} to {high:.0f}",
    )


def gini(evidence: Evidence) -> Claim:
    """The transient peak of the weight concentration."""
    peaks = evidence.gini.peaks
    found = np.isfinite(peaks.delay)
    rows = np.flatnonzero(found)
    draws = rows[run_resamples([rows.size])[0]] if rows.size else np.empty((0, 0), int)

    def over_runs(name: str, values: Any, statistic: Callable[..., Any], paper: float) -> Quantity:
        if not rows.size:
            return measured_quantity(name, np.nan, NO_INTERVAL, paper)
        interval = percentile_interval(statistic(values[draws], axis=1), rows.size)
        return measured_quantity(name, float(statistic(values[rows])), interval, paper)

    near = (np.abs(peaks.delay) <= 10).astype(float)
    rise = over_runs("median rise", peaks.rise, np.median, 0.25)
    width = over_runs("median width in epochs", peaks.width, np.median, 50)
    timed = over_runs("share of peaks within ±10 epochs", near, np.mean, 0.95)
    return Claim(
        "gini",
        "Gini of the absolute weights: transient peak at the transition",
        "+25 %, about 50 epochs, within ±10 epochs of t_g, 1000 seeds",
        (rise, width, timed),
        verdict(
            rise.agrees() and width.agrees() and timed.low >= 0.95,
            rise.low > 0 and timed.value > 0.5,
        )
        if rows.size
        else "not testable",
        f"over the {rows.size} of {found.size} runs that grok at epoch 30 or later, so that the level "
        f"30 epochs before exists; in {int((~peaks.interior[rows]).sum())} of them the Gini "
        "coefficient is largest at an end of the window, which is no peak and not within ±10. "
        "Synchronised where 95 % of the peaks lie within ±10; direction: a rise, and most peaks "
        "within ±10",
    )


def shadow(evidence: Evidence) -> Claim:
    """The crossing with the probe kept out of the training."""
    analysis, null = evidence.shadow, evidence.shadow_null
    holds: list[bool] = []
    quantities: list[Quantity] = []
    for statistic in STATISTICS:
        pre, post = (analysis.exponent(w, statistic) for w in ("pre", "post"))
        crosses = analysis.crosses_while_runs_grok(statistic)
        holds.append(pre.value < 1 < post.value and crosses)
        phases: tuple[Phase, ...] = ("pre", "post")
        for phase in phases:
            name = f"D_{phase} ({statistic})"
            quantities.append(exponent_with_null(name, evidence.shadow_ladder, phase, statistic))
        quantities += (
            replace(quantity, name=f"{quantity.name} ({statistic})", paper=None)
            for quantity in rise(analysis, null, statistic)
        )
    first, last = analysis.grokking_range
    return Claim(
        "shadow",
        "the crossing persists with alpha_train = 0",
        "stated",
        tuple(quantities),
        verdict(all(holds), any(holds)),
        _statistics_note(holds, "D_pre < 1 < D_post and D(t) crosses 1 while runs grok")
        + f"; the runs grok at epochs {first:.0f} to {last:.0f}",
    )


def heavy_tail(evidence: Evidence) -> Claim:
    """The tails of the size distributions."""
    fits = evidence.tails["inline"]
    heavy = [fit.heavier_than_exponential for fit in fits]
    decades = np.array([fit.decades for fit in fits])
    narrow = bool((decades < PAPER_DECADES).all())
    share = measured_quantity(
        "share of scales heavier than exponential", float(np.mean(heavy)), NO_INTERVAL
    )
    widest = measured_quantity(
        "most decades at a scale", float(decades.max()), NO_INTERVAL, PAPER_DECADES
    )
    described = ", ".join(
        f"N = {fit.n_parameters}: {fit.decades:.2f} decades, alpha = {fit.exponent:.0f}" for fit in fits
    )
    return Claim(
        "heavy-tail",
        "heavy-tailed size distributions; under 1.5 decades a scale",
        "stated",
        (share, widest),
        verdict(all(heavy) and narrow, sum(heavy) * 2 >= len(heavy) and narrow),
        "a scale counts where the likelihood ratio of a power law against an exponential favours the "
        f"power law with p < 0.05; all scales, or for the direction half of them. {described}. Under "
        f"{PAPER_DECADES} decades a fitted tail decides nothing, for or against",
    )


def collapse(evidence: Evidence) -> Claim:
    """The collapse of the size distributions."""
    rungs = ("real", "gaussian", "permuted")
    found, null, permuted = (evidence.inline_scrutiny.collapse(rung, "all") for rung in rungs)
    exponent = evidence.inline.exponent("all", "max")
    runs = exponent.runs
    good = GOOD_COLLAPSE * runs / (runs - FEWEST_FOR_COLLAPSE) if runs > FEWEST_FOR_COLLAPSE else np.nan
    collapses = found.quality <= good
    agrees = found.low <= exponent.high and exponent.low <= found.high
    return Claim(
        "collapse",
        "X-only collapse with the single exponent D",
        "stated",
        (
            Quantity(
                "quality S at the best D", found.quality, np.nan, np.nan, 1.0, null.quality,
                decimals=quality_decimals(found.quality),
            ),
            Quantity(
                "D of the best collapse", found.exponent, found.low, found.high,
                null=null.exponent, null_low=null.low, null_high=null.high, decimals=EXPONENT_DECIMALS,
            ),
        ),
        verdict(collapses and agrees, collapses or agrees) if np.isfinite(good) else "not testable",
        f"S after Houdayer and Hartmann, ideally 1; a collapse where S is at most {good:.1f}, twice "
        f"what {runs} runs a scale give where it is perfect, and its D that of the largest sizes, "
        f"{exponent.value:.3f} [{exponent.low:.3f}, {exponent.high:.3f}], where "
        "the intervals overlap; direction: one of the two. The permuted null has "
        f"S = {quality_of(permuted)} at D = {permuted.exponent:.2f}. The interval of D is where S rises "
        "by 1"
        if np.isfinite(good)
        else f"{runs} runs a scale give no error of P(>s) to hold a collapse against; "
        f"{FEWEST_FOR_COLLAPSE + 1} are needed",
    )  # fmt: skip


CLAIMS: tuple[Callable[[Evidence], Claim], ...] = (
    grok_range, grok_h21, d_pre, d_post, d_synth, d_agg, gamma_agg, d_range, d_tavg, fit_quality,
    topology, alpha, quantile, loo, steps, angle, gini, shadow, heavy_tail, collapse,
)  # fmt: skip


def _pair(evidence: Evidence, phase: Phase, statistic: Statistic) -> tuple[Exponent, Exponent]:
    return (
        evidence.inline.exponent(phase, statistic),
        evidence.inline_null.exponent(phase, statistic),
    )


def _spread_claim(name: str, text: str, paper: str, baseline: Baseline, bound: float) -> Claim:
    pairs = zip(baseline.variants, baseline.value, strict=True)
    interval = baseline.spread_interval
    percent = Interval(100 * interval.low, 100 * interval.high, interval.invalid)
    quantity = measured_quantity("CV in %", 100 * baseline.spread, percent, bound)
    return Claim(
        name,
        text,
        paper,
        (quantity,),
        verdict(quantity.high < bound, False),
        f"{', '.join(f'{variant}: {d:.4f}' for variant, d in pairs)}; judged by the upper end, to "
        "which the scatter of few seeds adds",
    )


def _phase_claim(evidence: Evidence, phase: Literal["pre", "post"], paper: float) -> Claim:
    exponent = evidence.inline.exponent(phase, "max")
    mean = evidence.inline.exponent(phase, "mean")
    quantity = exponent_quantity(evidence, f"D_{phase}", phase, "max", paper)
    below = phase == "pre"
    direction = exponent.value < 1 if below else exponent.value > 1
    missing = exponent.fit.message
    return Claim(
        f"D-{phase}",
        f"D {'before' if below else 'after'}, phase-split",
        f"{paper:.2f} ± 0.02",
        (quantity,),
        "not testable" if missing else verdict(quantity.agrees(0.02), direction),
        (missing and f"no fit: {missing}. ")
        + f"pooled s_max; direction: {'below' if below else 'above'} 1; the mean size gives "
        f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]; {_plain(exponent)}",
    )


def _plain(found: Exponent) -> str:
    """Return the plain percentiles of an exponent as text, and what speaks against its fit."""
    plain = percentile_interval(found.resamples)
    return "; ".join((f"plain percentiles give [{plain.low:.3f}, {plain.high:.3f}]", *found.cautions))


def _statistics_note(holds: list[bool], rule: str) -> str:
    found = ", ".join(
        f"{statistic}: {'yes' if held else 'no'}"
        for statistic, held in zip(STATISTICS, holds, strict=True)
    )
    return f"{rule} ({found})"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "none"
