"""The paper's claims about robustness, and about the avalanches and the weights themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gradquake.analysis.collapse import perfect_quality, phase_collapse
from gradquake.analysis.group_functions import exponent_of_groups
from gradquake.analysis.group_measures import (
    looped,
    mean_of_groups,
    percentile_of_groups,
    without_a_scale,
)
from gradquake.analysis.groups import GROUP_SIZE, OfGroups, runs_at_scales
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.tails import tail_fits, tail_summary
from gradquake.analysis.transitions import SPLIT_PHASES, Phase, phase
from gradquake.paper.claim import Claim, Measured
from gradquake.paper.quantity import Quantity
from gradquake.paper.verdicts import Figure, Region, Rule, Statement
from gradquake.paper.xor.plan import QUANTILES
from gradquake.paper.xor.quantities import Asked, asked, measured, plain
from gradquake.paper.xor.sweeps import ClaimSweeps, Sweep
from gradquake.paper.xor.transition_claims import (
    ABOVE_1,
    BELOW_1,
    USUALLY,
    crossing,
    crossing_name,
    exponent_name,
    phase_exponent,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ROBUSTNESS"]

# A number of one scale of a sweep, as a function of groups of its runs.
AtScale = Callable[["xr.Dataset", int], OfGroups]

# A collapse may have an S of up to this many times that of a perfect one.
GOOD_COLLAPSE = 2.0
QUALITY, DIFFERENCE = "quality S at the best D", "D of the best collapse minus D"
TAILS, DECADES = "share of scales heavier than exponential", "most decades at a scale"
STEPS = "largest 95th percentile of T of a scale"
SMALLEST_ANGLE, LARGEST_ANGLE = (
    f"{extreme} mean deviation of a scale in degrees" for extreme in ("smallest", "largest")
)
RISE, WIDTH, NEAR = "median rise", "median width in epochs", "share of peaks within ±10 epochs"

# Below this dynamic range a fit to a tail decides nothing; the paper says that its data lie below it.
PAPER_DECADES = 1.5

# A figure of which the paper says "about", without an error, is read as exact to a tenth.
ABOUT = 0.05


def thresholds(sweeps: ClaimSweeps) -> Measured:
    """Return the exponents before and after t_g for several thresholds."""
    return measured(
        [
            phase_exponent(sweeps.thresholds[q], which, statistic, name=_at(which, q, statistic))
            for statistic in STATISTICS
            for which in SPLIT_PHASES
            for q in QUANTILES
        ]
    )


def without(sweeps: ClaimSweeps) -> Measured:
    """Return the exponents that come closest to 1 if a scale is left out."""
    return measured(
        [
            asked(_without(which, s), partial(_left_out, statistic=s, which=which), sweeps.inline)
            for s in STATISTICS
            for which in SPLIT_PHASES
        ]
    )


def _left_out(of: xr.Dataset, statistic: Statistic, which: Phase) -> OfGroups:
    extreme: Literal["largest", "smallest"] = "largest" if which == "pre" else "smallest"
    return without_a_scale(of, statistic, phase(of, which), extreme=extreme)


def durations(sweeps: ClaimSweeps) -> Measured:
    """Return how many steps avalanches take at the scale where they take most."""

    def at(of: xr.Dataset, n: int) -> OfGroups:
        return percentile_of_groups(of, "duration", 95, n)

    inline = sweeps.inline
    return measured(
        [asked(STEPS, partial(_extreme, at=at, pick=np.max), inline, 10)], _by_scale(inline, at)
    )


def deviation(sweeps: ClaimSweeps) -> Measured:
    """Return the angle between a gradient and its relaxed state, at the scales where it is extreme."""

    def at(of: xr.Dataset, n: int) -> OfGroups:
        return mean_of_groups(of, "deviation", n)

    inline = sweeps.inline
    found = [
        asked(name, partial(_extreme, at=at, pick=pick), inline, 30)
        for name, pick in ((SMALLEST_ANGLE, np.min), (LARGEST_ANGLE, np.max))
    ]
    return measured(found, _by_scale(inline, at))


def _extreme(of: xr.Dataset, at: AtScale, pick: Callable[..., Any]) -> OfGroups:
    """Return a function of groups: the extreme over the scales of a number of each scale."""
    of_scales = [at(of, n) for n, _ in scale_groups(of)]
    return lambda draws: np.asarray(pick([each(draws) for each in of_scales], axis=0), np.float64)


def _by_scale(sweep: Sweep, at: AtScale) -> str:
    runs = runs_at_scales(sweep.real)
    found = [(n, plain("", at(sweep.real, n), runs).quantity) for n, _ in scale_groups(sweep.real)]
    return f"By scale: {', '.join(f'N = {n}: {of.value:.1f}' for n, of in found)}."


def gini_peak(sweeps: ClaimSweeps) -> Measured:
    """Return the height, width and time of the peak of the weights' Gini coefficient."""
    peak, runs = sweeps.gini.peak, sweeps.gini.grokking_epochs.size
    return Measured(
        (
            Quantity.of(RISE, peak.rise, 0.25),
            Quantity.of(WIDTH, peak.width, 50),
            Quantity.of(NEAR, peak.near, 0.95),
        ),
        seen=f"The numbers are over the {peak.runs} of {runs} runs that grok at epoch 30 or "
        "later, because the peak is measured from the level 30 epochs before t_g. In "
        f"{peak.at_an_end} of these runs the Gini coefficient is largest at an end "
        "of the epochs examined; that is no peak, and does not count as within ±10 epochs.",
        untestable="" if peak.runs else "No run groks late enough to measure a peak.",
    )


def shadow_crossing(sweeps: ClaimSweeps) -> Measured:
    """Return the exponents and the crossings of 1 if the training does not see the probe."""
    found = []
    for statistic in STATISTICS:
        found += [phase_exponent(sweeps.shadow, which, statistic) for which in SPLIT_PHASES]
        found.append(crossing(sweeps.shadow, statistic))
    return measured(found)


def heavy_tails(sweeps: ClaimSweeps) -> Measured:
    """Return at how many scales the sizes are heavier than exponential, and over how many decades."""
    real = sweeps.inline.real
    of = looped(real, lambda sweep: tail_summary(tail_fits(sweep)))
    names = ((TAILS, 1.0), (DECADES, PAPER_DECADES))
    return measured(
        [
            plain(name, of(k), runs_at_scales(real), paper, each_group=False)
            for k, (name, paper) in enumerate(names)
        ],
        seen=f"Below {PAPER_DECADES} decades a fit to the tail decides nothing.",
    )


def collapse_of_sizes(sweeps: ClaimSweeps) -> Measured:
    """Return how well the size distributions of six seeds collapse, and at which D."""
    inline = sweeps.inline
    runs = runs_at_scales(inline.real)
    perfect = perfect_quality(min(GROUP_SIZE, *runs))
    if not np.isfinite(perfect):
        return Measured(
            [Quantity(QUALITY, np.nan)],
            untestable="A collapse is judged by the errors of P(>s), which need 4 runs a scale.",
        )
    real, *nulls = (looped(of, _collapse) for of in (inline.real, *inline.nulls.values()))
    found = []
    for k, name in enumerate((QUALITY, DIFFERENCE)):
        whole, *beside = (plain(name, of(k), runs, each_group=False) for of in (real, *nulls))
        of_nulls = [null.quantity.number for null in beside]
        numbers = dict(zip(inline.nulls, of_nulls, strict=True))
        found.append(Asked(replace(whole.quantity, nulls=numbers), []))
    return measured(found, f"A perfect collapse of six runs a scale has S = {perfect:.1f}.")


def _collapse(of: xr.Dataset) -> tuple[float, float]:
    """Return the quality of the best collapse, and its D minus that of the largest sizes."""
    best = phase_collapse(of)
    whole = [np.arange(runs)[None] for runs in runs_at_scales(of)]
    return best.quality, best.value - float(exponent_of_groups(of, "max")(whole)[0])


def _at(which: Phase, q: float, statistic: Statistic) -> str:
    return f"{exponent_name(statistic, which)} at Q{round(100 * q)}"


def _without(which: Phase, statistic: Statistic) -> str:
    extreme = "largest" if which == "pre" else "smallest"
    return f"{exponent_name(statistic, which)}, {extreme} without a scale"


def _sides(name: Callable[[Phase, Statistic], str], statistic: Statistic) -> list[Statement]:
    """Return the statements that an exponent is below 1 before t_g and above 1 after it."""
    return [
        Statement(name("pre", statistic), region=BELOW_1),
        Statement(name("post", statistic), region=ABOVE_1),
    ]


def _for_both(statements: Callable[[Statistic], Sequence[Statement]]) -> Rule:
    """Return the rule that judges both statistics, each as a case with its symbol."""
    return Rule({STATISTICS[s].symbol: statements(s) for s in STATISTICS})


def _threshold_statements(statistic: Statistic) -> list[Statement]:
    return [
        statement
        for q in QUANTILES
        for statement in _sides(lambda which, s, q=q: _at(which, q, s), statistic)  # type: ignore[misc]
    ]


def _shadow_statements(statistic: Statistic) -> list[Statement]:
    sides = _sides(lambda which, s: exponent_name(s, which), statistic)
    return [*sides, Statement(crossing_name(statistic), region=USUALLY)]


ROBUSTNESS: tuple[Claim[ClaimSweeps], ...] = (
    Claim(
        "quantile",
        "robust for thresholds Q80 to Q95",
        "stated",
        thresholds,
        _for_both(_threshold_statements),
        "The exponent must be below 1 before t_g and above 1 after it at every threshold, for the "
        "largest (D) and the mean size (gamma). The threshold is the same in the probe and in training.",
    ),
    Claim(
        "loo",
        "leave-one-scale-out keeps D in both phases",
        "stated",
        without,
        _for_both(lambda statistic: _sides(_without, statistic)),
        "Without any one scale, the exponent must be below 1 before t_g and above 1 after it.",
    ),
    Claim(
        "steps",
        "steps until relaxed in training",
        "typically < 10, at most 20",
        durations,
        Rule.of(Statement(STEPS, region=Region(high=10))),
        '"Typically" is read as 95 % of the avalanches of every scale. At most 20 holds by '
        "construction.",
    ),
    Claim(
        "angle",
        "deviation of the relaxed gradient",
        "about 30 degrees",
        deviation,
        Rule.of(
            Statement(SMALLEST_ANGLE, region=Region(25, 35)),
            Statement(LARGEST_ANGLE, region=Region(25, 35)),
        ),
        '"About" is read as 25 to 35 degrees, at every scale.',
    ),
    Claim(
        "gini",
        "Gini of the absolute weights: transient peak at the transition",
        "+25 %, about 50 epochs, within ±10 epochs of t_g, 1000 seeds",
        gini_peak,
        Rule.of(
            Statement(RISE, Figure(0.25, ABOUT * 0.25), Region(low=0)),
            Statement(WIDTH, Figure(50, ABOUT * 50)),
            Statement(NEAR, region=Region(low=0.95)),
        ),
        "Rise and width, of which the paper gives no error, are read to a tenth; the region of the rise "
        "is above 0. 95 % of the peaks must lie within ±10 epochs.",
    ),
    Claim(
        "shadow",
        "the crossing persists with alpha_train = 0",
        "stated",
        shadow_crossing,
        _for_both(_shadow_statements),
        "The exponent must be below 1 before t_g and above 1 after it, and in more than half of the "
        "studies with six seeds D(t) must first rise through 1 while runs grok.",
    ),
    Claim(
        "heavy-tail",
        "heavy-tailed size distributions; under 1.5 decades a scale",
        "stated",
        heavy_tails,
        Rule.of(
            Statement(TAILS, region=Region(low=0.5)),
            Statement(DECADES, region=Region(high=PAPER_DECADES)),
        ),
        "A scale counts if the likelihood ratio of a power law against an exponential favors the power "
        "law with p < 0.05. More than half of the scales must count, and none may span more decades "
        "than the paper says.",
    ),
    Claim(
        "collapse",
        "X-only collapse with the single exponent D",
        "stated",
        collapse_of_sizes,
        Rule.of(
            Statement(QUALITY, region=Region(high=GOOD_COLLAPSE * perfect_quality(GROUP_SIZE))),
            Statement(DIFFERENCE, Figure(0, 0.02)),
        ),
        "S is the quality of Houdayer and Hartmann (2004), ideally 1. S must be at most twice that of a "
        "perfect collapse of six runs a scale, and the best D must be that of the largest sizes, with "
        "the paper's error.",
    ),
)
