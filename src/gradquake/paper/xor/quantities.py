"""Quantities that several claims share, taken from the evidence."""

from __future__ import annotations

from dataclasses import replace

from gradquake.analysis.ladder import Attribution, Ladder
from gradquake.analysis.levels import levels_around, levels_around_crossing
from gradquake.analysis.scaling import Exponent, r_squared_of
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.transitions import Phase
from gradquake.paper.quantity import Number, Parts, Quantity
from gradquake.paper.xor.evidence import Evidence

__all__ = [
    "FIRST_GROKKING", "LAST_GROKKING", "crossing_name", "exponent_name", "exponent_with_null",
    "exponent_with_snapshots", "grokking_bounds", "parts_of", "r_squared_quantity", "rise",
]  # fmt: skip

# The names of the bounds between which runs grok.
FIRST_GROKKING, LAST_GROKKING = "first grokking epoch", "last grokking epoch"


def exponent_name(statistic: Statistic, phase: Phase) -> str:
    """Return the name of an exponent of a phase, for example gamma_pre."""
    return f"{STATISTICS[statistic].symbol}_{phase}"


def crossing_name(statistic: Statistic) -> str:
    """Return the name of a crossing of 1."""
    return f"crossing epoch of {STATISTICS[statistic].symbol}(t)"


def grokking_bounds(analysis: SweepAnalysis) -> dict[str, float]:
    """Return the first and the last grokking epoch of all runs by name; NaN if no run grokked."""
    first, last = analysis.grokking_range
    return {FIRST_GROKKING: first, LAST_GROKKING: last}


def rise(ladder: Ladder, statistic: Statistic) -> tuple[Quantity, Quantity, Quantity]:
    """Return the lowest exponent before and the mean after the crossing of 1, and the crossing.

    The Gaussian null is read at the crossing of the data.
    """
    curve, null = ladder.real.curves[statistic], ladder.nulls["gaussian"].curves[statistic]
    symbol = STATISTICS[statistic].symbol
    found, of_null = levels_around_crossing(curve), levels_around(null, curve.crossing.value)
    before, after, null_crossing = (
        Number(float(of)) for of in (of_null.before, of_null.after, null.crossing.value)
    )
    return (
        Quantity.of(f"lowest {symbol} before the crossing", found.before, null=before),
        Quantity.of(f"mean {symbol} after the crossing", found.after, null=after),
        Quantity.of(crossing_name(statistic), curve.crossing, null=null_crossing),
    )


def exponent_with_snapshots(
    evidence: Evidence, name: str, phase: Phase, statistic: Statistic, paper: float
) -> Quantity:
    """Return an in-line exponent with its null and its interval over snapshots."""
    found = exponent_with_null(name, evidence.inline_ladder, phase, statistic)
    ends = evidence.inline.snapshot_interval(phase, statistic)
    return replace(found, paper=paper, over_snapshots=Number(found.value, ends.low, ends.high))


def exponent_with_null(name: str, ladder: Ladder, phase: Phase, statistic: Statistic) -> Quantity:
    """Return an exponent beside its Gaussian null, with distribution and arrangement."""
    parts = parts_of(ladder.attribution(phase, statistic))
    null = Number.of(ladder.exponent("gaussian", phase, statistic))
    exponent = ladder.exponent("real", phase, statistic)
    return Quantity.of(name, exponent, null=null, attribution=parts)


def parts_of(found: Attribution) -> Parts:
    """Return the two parts of the difference between an exponent and its Gaussian null."""
    return Parts(Number.of(found.distribution), Number.of(found.arrangement))


def r_squared_quantity(name: str, exponent: Exponent, paper: float, null: Exponent) -> Quantity:
    """Return the R² of an exponent's fit, with its bootstrap."""
    return Quantity.of(name, r_squared_of(exponent), paper, null=Number(null.fit.r_squared))
