"""The claims on modular addition, each by its rule, which was fixed before anything was measured.

D(t) is read on shared epochs. A rule holds for a statistic where it holds in both architectures; a claim
whose rule holds for both statistics is reproduced, for one "direction only".
"""

from __future__ import annotations

import numpy as np

from gradquake.analysis.resampling import Estimate, Interval, difference
from gradquake.analysis.statistics import STATISTICS
from gradquake.paper.claim import Claim, Quantity, Verdict, measured_quantity, verdict
from gradquake.paper.modadd.evidence import ARCHITECTURES, CONTROLS, GROKKING, SHARED, Evidence, View

TEST_90 = ("accuracy", 0.9)
# A crossing so many epochs from the median grokking epoch is at the transition.
NEAR = 50.0
# By how much grokked and ungrokked runs are said to part before the transition.
LEAD = (100.0, 200.0)
NO_INTERVAL = Interval(np.nan, np.nan, 1.0)


def judge(evidence: Evidence) -> list[Claim]:
    """Return the claims on modular addition with their verdicts."""
    return [crossing(evidence), control(evidence), lead(evidence)]


def crossing(evidence: Evidence) -> Claim:
    """D crosses 1 at generalization."""
    holds, quantities, seen = [], [], []
    for statistic in STATISTICS:
        near = []
        for architecture in ARCHITECTURES:
            found = evidence.found[architecture, GROKKING]
            reached = found.levels[TEST_90]
            view = found.views[SHARED, statistic]
            lags = {d: difference(c, reached) for d, c in (("up", view.up), ("down", view.down))}
            quantities += [
                _time(f"crossing {d} minus median t_g, {architecture} ({statistic})", lag)
                for d, lag in lags.items()
            ]
            directions = [d for d, lag in lags.items() if abs(lag.value) <= NEAR]
            near.append(bool(directions))
            seen.append(f"{architecture} ({statistic}) {' and '.join(directions) or 'none'}")
        holds.append(all(near))
    return Claim(
        "modadd-crossing",
        "modular addition mod 59: D(t) crosses 1 at generalization",
        "stated; companion: descending",
        tuple(quantities),
        _verdict(evidence, all(holds), any(holds)),
        f"Holds where D(t) first crosses 1, up or down, within {NEAR:g} epochs of the median epoch of "
        f"90 % test accuracy, in both architectures. Crossings there: {'; '.join(seen)}",
    )


def control(evidence: Evidence) -> Claim:
    """Runs that do not grok show no crossing and stay above 1."""
    holds, quantities, seen = [], [], []
    for statistic in STATISTICS:
        good = []
        for architecture in ARCHITECTURES:
            for condition in CONTROLS:
                found = evidence.found[architecture, condition]
                view = found.views[SHARED, statistic]
                quantities.append(_lowest(f"{architecture}, {condition} ({statistic})", view))
                crosses = np.isfinite([view.up.value, view.down.value]).any()
                above = bool((view.real.dimension["value"].values > 1).all())
                good.append(above and not crosses)
                if not good[-1]:
                    seen.append(f"{architecture}, {condition} ({statistic})")
        holds.append(all(good))
    grokked = sum(evidence.found[a, c].grokked for a in ARCHITECTURES for c in CONTROLS)
    return Claim(
        "modadd-control",
        "modular addition: runs that do not grok show no crossing of 1 and stay above it",
        "companion",
        tuple(quantities),
        verdict(all(holds), any(holds)),
        "Holds where D(t) of every control is above 1 at all epochs and crosses it in neither "
        f"direction; {grokked} runs of the controls grokked. Does not hold for: "
        f"{'; '.join(seen) or 'none'}",
    )


def lead(evidence: Evidence) -> Claim:
    """Grokked and ungrokked runs part before the transition."""
    holds, early, quantities = [], [], []
    for statistic in STATISTICS:
        leads = []
        for architecture in ARCHITECTURES:
            reached = evidence.found[architecture, GROKKING].levels[TEST_90]
            for condition in CONTROLS:
                parted = evidence.parting[architecture, condition, statistic]
                of_reached = reached
                measured = reached.value - parted
                quantities.append(
                    measured_quantity(
                        f"median t_g minus the epoch of parting from {condition}, {architecture} "
                        f"({statistic})",
                        measured,
                        Interval(of_reached.low - parted, of_reached.high - parted, 0.0),
                    )
                )
                leads.append(measured)
        holds.append(all(LEAD[0] <= value <= LEAD[1] for value in leads))
        early.append(all(value > 0 for value in leads))
    return Claim(
        "modadd-lead",
        "modular addition: grokked and ungrokked runs part 100 to 200 epochs before the transition",
        "companion",
        tuple(quantities),
        _verdict(evidence, all(holds), any(holds) or any(early)),
        f"Holds where the lead is {LEAD[0]:g} to {LEAD[1]:g} epochs against both controls in both "
        "architectures; direction only where they part before the transition in all of them. The "
        "epoch of parting is the first from which the 90 % bands of D(t) stay apart to the end; none "
        "where they do not. The interval is that of the median t_g",
    )


def _verdict(evidence: Evidence, value_holds: bool, direction_holds: bool) -> Verdict:
    """Return the verdict of a claim on the transition, which most runs must have had."""
    medians = [evidence.found[a, GROKKING].levels[TEST_90].value for a in ARCHITECTURES]
    if not np.isfinite(medians).all():
        return "not testable"
    return verdict(value_holds, direction_holds)


def _time(name: str, found: Estimate) -> Quantity:
    return measured_quantity(name, found.value, found)


def _lowest(name: str, view: View) -> Quantity:
    curve = view.real.dimension
    values = curve["value"].values
    lowest = int(np.nanargmin(values))
    interval = Interval(float(curve["low"][lowest]), float(curve["high"][lowest]), 0.0)
    return measured_quantity(f"lowest D(t), {name}", float(values[lowest]), interval)
