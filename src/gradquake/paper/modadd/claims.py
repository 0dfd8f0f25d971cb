"""The claims on modular addition.

D(t) and gamma(t) are judged, in both architectures and against both controls, each as a case of its own.
A case is judged by the widest of the intervals with all widths and without each of them, so that no
single width decides it. A case whose numbers do not exist is "not testable"; the others are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from gradquake.analysis.resampling import Estimate
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.paper.claim import Claim, Measured
from gradquake.paper.modadd.evidence import Evidence
from gradquake.paper.modadd.plan import ARCHITECTURES, CONTROLS, GROKKING
from gradquake.paper.modadd.statements import (
    AFTER,
    ALIGNED_AT,
    BEFORE,
    DISTANCE,
    LEAD,
    LOWEST,
    Asked,
    Beside,
)
from gradquake.paper.modadd.views import TEST_90
from gradquake.paper.quantity import Number, Quantity
from gradquake.paper.verdicts import Figure, Region, Rule, Statement, Verdict, weakest

__all__ = ["CLAIMS", "TestableRule"]

# A crossing less than this number of epochs from the median grokking epoch is at the transition.
NEAR = Region(high=50)
BELOW_1, ABOVE_1 = Region(high=1), Region(low=1)
# The companion's D before and after the transition.
FIGURE_BEFORE, FIGURE_AFTER = Figure(1.12, 0.02), Figure(0.92, 0.02)
# Parting 100 to 200 epochs before the transition, as a middle with two errors to either side.
FIGURE_LEAD = Figure(150, 25)

ANY_WIDTHS = "widest without any one width"
HOW = (
    f"D(t) and gamma(t) are judged in both architectures; t_g is the median epoch of {ALIGNED_AT}. "
    f'Judged are the intervals named "{ANY_WIDTHS}", which hold the interval of all widths and '
    "those without each width. The verdict is the weakest of the testable cases."
)


class TestableRule(Rule):
    """A rule whose cases need not all be testable: a case without a number of its own is not.

    The verdict is the weakest of the others, and "not testable" if there is none.
    """

    __test__ = False  # for pytest, which takes classes of this name for tests

    def of_cases(self, numbers: Mapping[str, Number]) -> dict[str, Verdict]:
        """Return the verdict of each case."""
        testable = {
            case: statements
            for case, statements in self.cases.items()
            if all(statement.quantity in numbers for statement in statements)
        }
        verdicts = Rule(testable).of_cases(numbers)
        return {case: verdicts.get(case, "not testable") for case in self.cases}

    def verdict(self, numbers: Mapping[str, Number]) -> Verdict:
        """Return the weakest verdict of the testable cases."""
        judged = [of for of in self.of_cases(numbers).values() if of != "not testable"]
        return weakest(judged) if judged else "not testable"


class Case(NamedTuple):
    """A statistic of an architecture, against a control if the claim needs one."""

    statistic: Statistic
    architecture: str
    control: str = ""

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions whose avalanches it rests on, if it is one of the grokking runs."""
        return (GROKKING, self.control) if self.control else (GROKKING,)

    def __str__(self) -> str:
        """Return it for a reader."""
        of = f"{STATISTICS[self.statistic].symbol}, {self.architecture}"
        return f"{of}, {self.control}" if self.control else of


class Asserted(NamedTuple):
    """A number of a case, with the figure and the region that are asserted of it."""

    asked: Asked
    figure: Figure | None
    region: Region

    def name(self, case: Case) -> str:
        """Return the name of the quantity."""
        return _name(self.asked, case)

    def statement(self, case: Case) -> Statement:
        """Return the statement that is judged."""
        return Statement(f"{self.name(case)}; {ANY_WIDTHS}", self.figure, self.region)


# From a case to what is asserted of it.
Assertions = Callable[[Case], Sequence[Asserted]]


def _crossing(_case: Case) -> Sequence[Asserted]:
    return [Asserted(Asked(DISTANCE, str(ALIGNED_AT)), None, NEAR)]


def _levels(_case: Case) -> Sequence[Asserted]:
    before = Asserted(Asked(BEFORE, ""), FIGURE_BEFORE, ABOVE_1)
    return [before, Asserted(Asked(AFTER, ""), FIGURE_AFTER, BELOW_1)]


def _control(case: Case) -> Sequence[Asserted]:
    return [Asserted(Asked(LOWEST, case.control), None, ABOVE_1)]


def _lead(case: Case) -> Sequence[Asserted]:
    return [Asserted(Asked(LEAD, case.control), FIGURE_LEAD, Region(low=0))]


ALONE = tuple(Case(s, a) for s, a in product(STATISTICS, ARCHITECTURES))
AGAINST = tuple(Case(s, a, c) for s, a, c in product(STATISTICS, ARCHITECTURES, CONTROLS))


def _measured(
    evidence: Evidence,
    cases: Sequence[Case],
    assertions: Assertions,
    *,
    transition: bool = True,
    beside: Sequence[Asked] = (),
) -> Measured:
    """Return the numbers of the cases that are testable, and the reasons of the others."""
    quantities: list[Quantity] = []
    undefined: list[Quantity] = []
    reasons: dict[str, list[Case]] = {}
    sentences = []
    for case in cases:
        conditions = case.conditions if transition else (case.control,)
        if why := _untestable(evidence, case, conditions, transition):
            reasons.setdefault(why, []).append(case)
            undefined += [Quantity(asserted.name(case), np.nan) for asserted in assertions(case)]
            continue
        for asserted in assertions(case):
            answer = evidence.answer(case.architecture, case.statistic, asserted.asked)
            if answer is None:
                reasons.setdefault("fewer than three widths have it", []).append(case)
                undefined.append(Quantity(asserted.name(case), np.nan))
                continue
            quantities += _quantities(answer, asserted, case)
            sentences.append(_without_widths(answer, asserted.statement(case), asserted.name(case)))
        for asked in beside:
            if (answer := evidence.answer(case.architecture, case.statistic, asked)) is not None:
                quantities.append(_quantity(_name(asked, case), answer))
    told = "; ".join(f"{', '.join(map(str, of))}: {why}" for why, of in reasons.items())
    said = f"Not testable: {told}." if told else ""
    if not sentences:
        return Measured(undefined, untestable=said)
    return Measured([*quantities, *undefined], seen=" ".join(filter(None, [said, *sentences])))


def _untestable(evidence: Evidence, case: Case, conditions: Sequence[str], transition: bool) -> str:
    """Return why a case cannot be judged; empty if it can."""
    found = evidence.found[case.architecture]
    for condition in conditions:
        if why := found[condition].untestable:
            return why if condition == case.control else f"{why} ({condition})"
    if transition and not np.isfinite(found[GROKKING].levels[ALIGNED_AT].value):
        return f"most runs do not reach {ALIGNED_AT}, so there is no median t_g"
    return ""


def _quantities(answer: Beside, asserted: Asserted, case: Case) -> list[Quantity]:
    """Return a number with all widths, and with the widest interval without any one."""
    widest = {
        "real": Number(answer.real.all_scales.value, answer.real.widest.low, answer.real.widest.high),
        "permuted": Number(
            answer.permuted.all_scales.value, answer.permuted.widest.low, answer.permuted.widest.high
        ),
    }
    figure = None if asserted.figure is None else asserted.figure.value
    judged = Quantity.of(
        asserted.statement(case).quantity,
        widest["real"],
        figure,
        nulls={"permuted": widest["permuted"]},
    )
    return [_quantity(asserted.name(case), answer, figure), judged]


def _quantity(name: str, answer: Beside, figure: float | None = None) -> Quantity:
    nulls = {"permuted": Number.of(answer.permuted.all_scales)}
    return Quantity.of(name, answer.real.all_scales, figure, nulls=nulls)


def _without_widths(answer: Beside, statement: Statement, name: str) -> str:
    """Return as a sentence the verdicts with all widths and without each."""

    def judged(estimate: Estimate) -> Verdict:
        return statement.verdict(Number.of(estimate))

    whole, null = judged(answer.real.all_scales), judged(answer.permuted.all_scales)
    of_width = {width: judged(estimate) for width, estimate in answer.real.without.items()}
    without = []
    for verdict in dict.fromkeys(of_width.values()):
        widths = [str(width) for width, of in of_width.items() if of == verdict]
        named = "" if verdict == whole else f": d = {', '.join(widths)}"
        without.append(f"{verdict} ({len(widths)}{named})")
    told = f"without one width {', '.join(without)}" if without else "too few widths to leave one out"
    return f"{name}: with all widths {whole}, its null {null}; {told}."


def _name(asked: Asked, case: Case) -> str:
    of = f"{STATISTICS[case.statistic].symbol}(t), {case.architecture}"
    return f"{asked.kind}, {of}, {asked.of}" if asked.of else f"{asked.kind}, {of}"


def _claim(
    name: str,
    text: str,
    paper: str,
    how: str,
    cases: Sequence[Case],
    assertions: Assertions,
    *,
    transition: bool = True,
    beside: Sequence[Asked] = (),
) -> Claim[Evidence]:
    rule = TestableRule({str(case): [of.statement(case) for of in assertions(case)] for case in cases})
    measured = partial(
        _measured, cases=cases, assertions=assertions, transition=transition, beside=beside
    )
    return Claim(name, text, paper, measured, rule, f"{how} {HOW}")


CLAIMS: tuple[Claim[Evidence], ...] = (
    _claim(
        "modadd-crossing",
        "modular addition mod 59: D(t) crosses 1 at generalization",
        "stated; companion: descending",
        "The crossing of 1, up or down, that is nearest to t_g must lie less than 50 epochs from it. "
        "Crossings before training accuracy saturates are left out; without one the distance is "
        f"infinite. The distance to the median epoch of {TEST_90} stands beside it.",
        ALONE,
        _crossing,
        beside=[Asked(DISTANCE, str(TEST_90))],
    ),
    _claim(
        "modadd-levels",
        "modular addition: D falls from above 1 before generalization to below 1 after it",
        f"{FIGURE_BEFORE} to {FIGURE_AFTER} (companion)",
        "The values are means of D(t) before and after each run's own t_g, from the epoch at which its "
        "training accuracy saturates.",
        ALONE,
        _levels,
    ),
    _claim(
        "modadd-control",
        "modular addition: runs that do not grok stay above 1",
        "companion",
        "From the epoch at which training accuracy saturates, the intervals of D(t) of a control must "
        "lie above 1 at all epochs. An interval that lies below 1 at some epoch contradicts that.",
        AGAINST,
        _control,
        transition=False,
    ),
    _claim(
        "modadd-lead",
        "modular addition: grokked and ungrokked runs part 100 to 200 epochs before the transition",
        "100 to 200 (companion)",
        "Two D(t) part at the first epoch, after training accuracy saturates, from which one stays "
        "above the other to the end. Direction: they part before t_g.",
        AGAINST,
        _lead,
    ),
)
