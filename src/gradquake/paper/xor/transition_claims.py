"""The paper's claims about the transition and about the synthetic baseline."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradquake.analysis.group_functions import crossing_of_groups
from gradquake.analysis.group_measures import (
    crosses_while_runs_grok,
    fit_quality_of_groups,
    level_of_groups,
    mean_curve_of_groups,
    mean_exponent_of_groups,
    median_grokking_of_groups,
    share_of_studies,
    spread_of_groups,
    worst_fit_of_groups,
)
from gradquake.analysis.groups import runs_at_scales
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.transitions import Phase
from gradquake.paper.claim import Claim, Measured
from gradquake.paper.quantity import Number, Quantity
from gradquake.paper.verdicts import Figure, Region, Rule, Statement
from gradquake.paper.xor.plan import GINI_HIDDEN
from gradquake.paper.xor.quantities import Asked, asked, exponent_asked, measured, plain
from gradquake.paper.xor.sweeps import ClaimSweeps, Sweep

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ABOVE_1", "BELOW_1", "TRANSITION", "crossing", "exponent_name", "phase_exponent"]

BELOW_1, ABOVE_1 = Region(high=1), Region(low=1)

# The paper's rounded R² = 1.00 and R² = 0.99 are read as at least these.
R_SQUARED_1_00 = 0.995
R_SQUARED_0_99 = 0.985

SMALLEST, LARGEST = "smallest median t_g", "largest median t_g"
OF_MANY = "t_g at h = 21"
BASELINE = "D_synth"
BEFORE, AFTER = "mean D(t) before the median t_g", "mean D(t) after the median t_g"
AVERAGE, WORST, SPREAD = "mean of D(t)", "smallest R² of D(t)", "CV in %"

# More often than not.
USUALLY = Region(low=0.5)


def exponent_name(statistic: Statistic, which: Phase) -> str:
    """Return the name of an exponent of a phase, for example gamma_pre."""
    return f"{STATISTICS[statistic].symbol}_{which}"


def crossing_name(statistic: Statistic) -> str:
    """Return the name of the share of studies in which a curve crosses 1 while runs grok."""
    return f"share in which {STATISTICS[statistic].symbol}(t) crosses 1 while runs grok"


def phase_exponent(
    sweep: Sweep,
    which: Phase,
    statistic: Statistic,
    paper: float | None = None,
    name: str | None = None,
) -> Asked:
    """Return an exponent of a phase beside its nulls."""
    return exponent_asked(name or exponent_name(statistic, which), statistic, which, sweep, paper)


def crossing(sweep: Sweep, statistic: Statistic) -> Asked:
    """Return the share of studies in which a curve crosses 1 while runs grok."""
    runs = runs_at_scales(sweep.real)

    def share(of: xr.Dataset) -> Number:
        return Number.of(share_of_studies(crosses_while_runs_grok(of, statistic), runs))

    # In a single study the bootstrap over its runs tells how surely the curve crosses.
    of_groups = plain("", crosses_while_runs_grok(sweep.real, statistic), runs).groups
    nulls = {rung: share(null) for rung, null in sweep.nulls.items()}
    return Asked(Quantity.of(crossing_name(statistic), share(sweep.real), nulls=nulls), of_groups)


def grokking_range(sweeps: ClaimSweeps) -> Measured:
    """Return the smallest and the largest median grokking epoch of a size."""
    real = sweeps.inline.real
    runs = runs_at_scales(real)
    ends = (
        plain(SMALLEST, median_grokking_of_groups(real, extreme="smallest"), runs, 12),
        plain(LARGEST, median_grokking_of_groups(real, extreme="largest"), runs, 134),
    )
    # Observations are held against the range of all groups, which a single group does not have.
    return Measured([of.quantity for of in ends])


def grokking_of_many(sweeps: ClaimSweeps) -> Measured:
    """Return the grokking epochs of the many seeds of one size."""
    epochs = sweeps.gini.grokking_epochs
    late = np.where(np.isnan(epochs), np.inf, epochs)
    low, median, high = np.quantile(late, [0.025, 0.5, 0.975], method="nearest").tolist()
    paper = 27
    below = float((late < paper).mean() + (late == paper).mean() / 2) * 100
    of_runs = Number(median, low, high)
    never = int(np.isnan(epochs).sum())
    return Measured(
        [Quantity(OF_MANY, median, paper=paper, range=of_runs, percentile=below)],
        seen=f"The value is the median, and the range holds 95 % of {epochs.size} single runs; {never} "
        "of them did not reach 100 % accuracy.",
    )


def one_phase(sweeps: ClaimSweeps, which: Phase, paper: float) -> Measured:
    """Return D of a phase; gamma stands beside it."""
    beside = phase_exponent(sweeps.inline, which, "mean")
    return measured([phase_exponent(sweeps.inline, which, "max", paper), beside])


def baseline_exponent(sweeps: ClaimSweeps) -> Measured:
    """Return the exponent of Gaussian gradients, the mean over topologies."""
    first, *_ = sweeps.topologies.values()
    of_each = [mean_exponent_of_groups(of) for of in sweeps.topologies.values()]
    return measured(
        [
            plain(
                BASELINE,
                lambda draws: np.mean([of(draws) for of in of_each], axis=0),
                runs_at_scales(first),
                0.99,
            )
        ]
    )


def aggregate(sweeps: ClaimSweeps, statistic: Statistic, paper: float, r_squared: float) -> Measured:
    """Return an exponent over all snapshots, and the R² of its fit."""
    symbol = STATISTICS[statistic].symbol
    return measured(
        [
            phase_exponent(sweeps.inline, "all", statistic, paper, symbol),
            asked("R²", lambda of: fit_quality_of_groups(of, statistic), sweeps.inline, r_squared),
        ]
    )


def dimension_rise(sweeps: ClaimSweeps) -> Measured:
    """Return D(t) before and after the median t_g, and how often it crosses 1 while runs grok."""
    inline = sweeps.inline
    epochs = [
        plain(
            f"epoch at which {STATISTICS[statistic].symbol}(t) crosses 1",
            crossing_of_groups(inline.real, statistic),
            runs_at_scales(inline.real),
        )
        for statistic in STATISTICS
    ]
    return measured(
        [
            asked(BEFORE, lambda of: level_of_groups(of, side="before"), inline, 0.90),
            asked(AFTER, lambda of: level_of_groups(of, side="after"), inline, 1.20),
            crossing(inline, "max"),
            *epochs,
        ]
    )


def average_dimension(sweeps: ClaimSweeps) -> Measured:
    """Return the mean of D(t) over the snapshots."""
    inline = sweeps.inline
    return measured([asked(AVERAGE, mean_curve_of_groups, inline, 1.00, attribution=True)])


def smallest_r_squared(sweeps: ClaimSweeps) -> Measured:
    """Return the worst of the fits behind D(t)."""
    return measured([asked(WORST, worst_fit_of_groups, sweeps.inline, 0.98)])


def spread(sweeps: ClaimSweeps, over: Literal["topologies", "alphas"], bound: float) -> Measured:
    """Return the spread of the baseline's exponent over variants, in percent."""
    variants = sweeps.topologies if over == "topologies" else sweeps.alphas
    first, *_ = variants.values()
    of = spread_of_groups([mean_exponent_of_groups(sweep) for sweep in variants.values()])
    return measured([plain(SPREAD, lambda draws: 100 * of(draws), runs_at_scales(first), bound)])


def _phase_rule(which: Phase, value: float, region: Region) -> Rule:
    return Rule.of(Statement(exponent_name("max", which), Figure(value, 0.02), region))


TRANSITION: tuple[Claim[ClaimSweeps], ...] = (
    Claim(
        "grok-range",
        "grokking epochs over h = 20..500",
        "12 to 134",
        grokking_range,
        Rule.of(Statement(SMALLEST, Figure(12, None)), Statement(LARGEST, Figure(134, None))),
        "The paper's range is read as the medians of the sizes that grok first and last. It is a single "
        "observation, so both ends must lie in the six-seed range.",
    ),
    Claim(
        "grok-h21",
        f"representative run h = {GINI_HIDDEN}, N = 85",
        "epoch 27",
        grokking_of_many,
        Rule.of(Statement(OF_MANY, Figure(27, None))),
        "A single observation: it must lie in the range of our runs.",
    ),
    Claim(
        "D-pre",
        "D before, phase-split",
        "0.90 ± 0.02",
        partial(one_phase, which="pre", paper=0.90),
        _phase_rule("pre", 0.90, BELOW_1),
        "D of the largest size over all snapshots before t_g; asserted: below 1. gamma is not judged.",
    ),
    Claim(
        "D-post",
        "D after, phase-split",
        "1.20 ± 0.02",
        partial(one_phase, which="post", paper=1.20),
        _phase_rule("post", 1.20, ABOVE_1),
        "D of the largest size over all snapshots from t_g on; asserted: above 1. gamma is not judged.",
    ),
    Claim(
        "D-synth",
        "i.i.d. Gaussian baseline, from the mean size",
        "0.99 ± 0.01",
        baseline_exponent,
        Rule.of(Statement(BASELINE, Figure(0.99, 0.01))),
        "The mean over the five topologies.",
    ),
    Claim(
        "D-agg",
        "aggregate s_max ~ N^D",
        "1.00 ± 0.02, R² = 1.00",
        partial(aggregate, statistic="max", paper=1.00, r_squared=1.00),
        Rule.of(Statement("D", Figure(1.00, 0.02)), Statement("R²", region=Region(low=R_SQUARED_1_00))),
        f"R² = 1.00 is read as above {R_SQUARED_1_00:g}.",
    ),
    Claim(
        "gamma-agg",
        "aggregate mean size ~ N^gamma",
        "1.15 ± 0.06, R² = 0.99",
        partial(aggregate, statistic="mean", paper=1.15, r_squared=0.99),
        Rule.of(
            Statement("gamma", Figure(1.15, 0.06), ABOVE_1),
            Statement("R²", region=Region(low=R_SQUARED_0_99)),
        ),
        f"Asserted: gamma above 1. R² = 0.99 is read as above {R_SQUARED_0_99:g}.",
    ),
    Claim(
        "D-range",
        "D(t) rises from about 0.90 to about 1.20, crossing 1 while runs grok",
        "0.90, 1.20",
        dimension_rise,
        Rule.of(
            Statement(BEFORE, Figure(0.90, 0.02), BELOW_1),
            Statement(AFTER, Figure(1.20, 0.02), ABOVE_1),
            Statement(crossing_name("max"), region=USUALLY),
        ),
        "The means of D(t) before and after the median t_g, with the error that the paper gives for the "
        "phases; and in more than half of the studies with six seeds D(t) must first rise through 1 "
        "between the first and the last t_g. The epochs of the crossing are not judged.",
    ),
    Claim(
        "D-tavg",
        "time average of D(t)",
        "1.00 ± 0.02",
        average_dimension,
        Rule.of(Statement(AVERAGE, Figure(1.00, 0.02))),
        "The mean over the snapshots.",
    ),
    Claim(
        "fit-quality",
        "R² of the D(t) fits",
        "> 0.98",
        smallest_r_squared,
        Rule.of(Statement(WORST, region=Region(low=0.98))),
        "The smallest R² of a snapshot.",
    ),
    Claim(
        "topology",
        "spread of D_synth over 5 topologies",
        "CV < 0.3 %",
        partial(spread, over="topologies", bound=0.3),
        Rule.of(Statement(SPREAD, region=Region(high=0.3))),
        "The coefficient of variation over the topologies; the scatter of few seeds raises it.",
    ),
    Claim(
        "alpha",
        "spread of D_synth over alpha 0.1..0.5",
        "CV < 1 %",
        partial(spread, over="alphas", bound=1.0),
        Rule.of(Statement(SPREAD, region=Region(high=1.0))),
        "The coefficient of variation over alpha; the scatter of few seeds raises it.",
    ),
)
