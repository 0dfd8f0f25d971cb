"""The claims on modular addition; their rules were fixed before anything was measured.

D(t) is read on shared epochs. A rule holds for a statistic if it holds in both architectures. If it
holds for both statistics, the claim is reproduced; for one, the verdict is "direction only".
"""

from __future__ import annotations

from itertools import product

import numpy as np

from gradquake.analysis.levels import lowest_point
from gradquake.analysis.resampling import difference, shifted
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.errors import counted
from gradquake.paper.claim import Claim, Compare, Measured, Rule, Test, all_of, any_of, within
from gradquake.paper.modadd.evidence import Evidence
from gradquake.paper.modadd.plan import ARCHITECTURES, CONTROLS, GROKKING
from gradquake.paper.modadd.views import TEST_90
from gradquake.paper.quantity import Number, Quantity

__all__ = ["CLAIMS"]

# A crossing at most this number of epochs from the median grokking epoch is at the transition.
NEAR = 50.0
# The number of epochs by which grokked and ungrokked runs are said to part before the transition.
LEAD = (100.0, 200.0)
DIRECTIONS = ("up", "down")


def crossings(evidence: Evidence) -> Measured:
    """Return when D(t) first crosses 1, relative to the transition."""
    quantities = []
    for statistic, architecture in product(STATISTICS, ARCHITECTURES):
        found = evidence.found[architecture][GROKKING]
        view, reached = found.on_shared_epochs(statistic), found.levels[TEST_90]
        quantities += [
            Quantity.of(_crossing("up", architecture, statistic), difference(view.up, reached)),
            Quantity.of(_crossing("down", architecture, statistic), difference(view.down, reached)),
        ]
    measured = Measured(quantities)
    seen = []
    for statistic, architecture in product(STATISTICS, ARCHITECTURES):
        near = [d for d in DIRECTIONS if _is_near(d, architecture, statistic).holds(measured)]
        seen.append(f"{_curve(statistic)}, {architecture}: {' and '.join(near) or 'none'}")
    note = f"Crossings there: {'; '.join(seen)}."
    return Measured(quantities, seen=note, testable=_had_transition(evidence))


def lowest(evidence: Evidence) -> Measured:
    """Return the lowest D(t) of every control."""
    quantities, bounds, below = [], {}, []
    for statistic, architecture, control in product(STATISTICS, ARCHITECTURES, CONTROLS):
        curve = evidence.found[architecture][control].on_shared_epochs(statistic).real
        values = curve.dimension["value"].values
        name = _lowest(architecture, control, statistic)
        quantities.append(Quantity.of(name, Number(*lowest_point(curve))))
        # If D(t) is undefined at some epoch, it is not known to stay above 1.
        bounds[_level(name)] = 1.0 if np.isfinite(values).all() else np.nan
        if not (values > 1).all():
            below.append(f"{_curve(statistic)}, {architecture}, {control}")
    grokked = sum(evidence.found[a][c].grokked for a, c in product(ARCHITECTURES, CONTROLS))
    not_above = "; ".join(below) or "none"
    seen = f"Of the controls, {counted(grokked, 'run')} grokked. It does not hold for: {not_above}."
    return Measured(quantities, bounds, seen)


def leads(evidence: Evidence) -> Measured:
    """Return how long before the transition D(t) of grokking runs parts from the controls."""
    quantities = []
    for statistic, architecture, control in product(STATISTICS, ARCHITECTURES, CONTROLS):
        reached = evidence.found[architecture][GROKKING].levels[TEST_90]
        parted = evidence.parting(architecture, control, statistic)
        lead = shifted(reached, -parted)
        quantities.append(Quantity.of(_lead(architecture, control, statistic), lead))
    return Measured(quantities, testable=_had_transition(evidence))


def _had_transition(evidence: Evidence) -> bool:
    """Return whether most runs grokked in every architecture."""
    medians = [evidence.found[a][GROKKING].levels[TEST_90].value for a in ARCHITECTURES]
    return bool(np.isfinite(medians).all())


def _curve(statistic: Statistic) -> str:
    return f"{STATISTICS[statistic].symbol}(t)"


def _crossing(direction: str, architecture: str, statistic: Statistic) -> str:
    return f"crossing {direction} of {_curve(statistic)} minus median t_g, {architecture}"


def _lowest(architecture: str, control: str, statistic: Statistic) -> str:
    return f"lowest {_curve(statistic)}, {architecture}, {control}"


def _level(name: str) -> str:
    return f"level of the {name}"


def _lead(architecture: str, control: str, statistic: Statistic) -> str:
    of = _curve(statistic)
    return f"median t_g minus the epoch at which {of} parts from {control}, {architecture}"


def _is_near(direction: str, architecture: str, statistic: Statistic) -> Test:
    return within(_crossing(direction, architecture, statistic), -NEAR, NEAR)


def _crosses(statistic: Statistic) -> Test:
    tests = (tuple(_is_near(d, a, statistic) for d in DIRECTIONS) for a in ARCHITECTURES)
    return all_of(*(any_of(*either) for either in tests))


def _stays_above(statistic: Statistic) -> Test:
    names = [_lowest(a, c, statistic) for a, c in product(ARCHITECTURES, CONTROLS)]
    return all_of(*(Compare(name, "value", ">", _level(name)) for name in names))


def _leads_by(statistic: Statistic) -> Test:
    names = (_lead(a, c, statistic) for a, c in product(ARCHITECTURES, CONTROLS))
    return all_of(*(within(name, *LEAD) for name in names))


def _leads_at_all(statistic: Statistic) -> Test:
    names = (_lead(a, c, statistic) for a, c in product(ARCHITECTURES, CONTROLS))
    return all_of(*(Compare(name, "value", ">", 0) for name in names))


CLAIMS: tuple[Claim[Evidence], ...] = (
    Claim(
        "modadd-crossing",
        "modular addition mod 59: D(t) crosses 1 at generalization",
        "stated; companion: descending",
        crossings,
        Rule.for_all({of.symbol: _crosses(statistic) for statistic, of in STATISTICS.items()}),
        f"D(t) and gamma(t) must first cross 1, up or down, within {NEAR:g} epochs of the median epoch "
        "of 90 % test accuracy, in both architectures. Direction: one of the two does.",
        needs_intervals=False,
    ),
    Claim(
        "modadd-control",
        "modular addition: runs that do not grok show no crossing of 1 and stay above it",
        "companion",
        lowest,
        Rule.for_all({of.symbol: _stays_above(statistic) for statistic, of in STATISTICS.items()}),
        "D(t) and gamma(t) of every control must lie above 1 at all epochs, so that they do not cross "
        "1. Direction: one of the two does.",
        needs_intervals=False,
    ),
    Claim(
        "modadd-lead",
        "modular addition: grokked and ungrokked runs part 100 to 200 epochs before the transition",
        "companion",
        leads,
        Rule(
            all_of(*(_leads_by(statistic) for statistic in STATISTICS)),
            any_of(*(_leads_at_all(statistic) for statistic in STATISTICS)),
        ),
        f"The lead must be {LEAD[0]:g} to {LEAD[1]:g} epochs against both controls, in both "
        "architectures, for D(t) and for gamma(t). Direction: for one of the two, all part before the "
        "transition. Two curves part at the first epoch from which their 90 % bands stay apart to the "
        "end. If the bands overlap at the end, this epoch is not defined. The interval is that of the "
        "median t_g.",
        needs_intervals=False,
    ),
)
