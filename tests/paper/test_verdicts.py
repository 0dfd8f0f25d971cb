"""Verdicts, case by case and over all intervals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradquake.analysis.group_verdicts import verdict_shares
from gradquake.errors import InputError
from gradquake.paper.quantity import Number
from gradquake.paper.verdicts import (
    STRENGTHS,
    Figure,
    Region,
    Rule,
    Statement,
    weakest,
)

BELOW_1 = Region(high=1)


def verdict(low, high, figure=None, region=None):
    return Statement("q", figure, region).verdict(Number((low + high) / 2, low, high))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.87, 0.93, "reproduced"),  # inside 0.90 ± 0.04
        (0.80, 0.93, "direction only"),  # below 1, but not inside
        (0.70, 0.80, "direction only"),  # below 1 and outside
        (1.00, 1.20, "not reproduced"),  # outside, and not below 1
        (0.95, 1.10, "not reproduced"),  # outside 0.86..0.94, and not inside the region either
        (0.90, 1.10, "inconclusive"),  # holds a part of 0.86..0.94, and values above 1
        (0.50, 1.50, "inconclusive"),
    ],
)
def test_of_a_figure_and_a_region(low, high, expected):
    assert verdict(low, high, Figure(0.90, 0.02), BELOW_1) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.9, "reproduced"), (1.0, 1.2, "not reproduced"), (0.9, 1.1, "inconclusive")],
)
def test_of_a_region_alone(low, high, expected):
    assert verdict(low, high, region=BELOW_1) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.98, 1.02, "reproduced"), (1.1, 1.2, "not reproduced"), (0.9, 1.0, "inconclusive")],
)
def test_of_a_figure_alone(low, high, expected):
    assert verdict(low, high, Figure(1.0, 0.02)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(13, 92, "compatible"), (28, 92, "not reproduced")]
)
def test_an_observation_is_compatible_or_not(low, high, expected):
    assert verdict(low, high, Figure(27, None)) == expected


@pytest.mark.parametrize(
    "statement",
    [
        Statement("q", Figure(0.9, 0.02), BELOW_1),
        Statement("q", region=BELOW_1),
        Statement("q", Figure(27, None)),
    ],
)
def test_without_an_interval_nothing_is_concluded(statement):
    assert statement.verdict(Number(0.9)) == "inconclusive"


def test_an_end_at_infinity_counts():
    # A crossing that some resamples do not have.
    assert verdict(20, math.inf, region=Region(10, 40)) == "inconclusive"
    assert verdict(50, math.inf, region=Region(10, 40)) == "not reproduced"


ENDS = st.floats(-3, 3)


@given(ENDS, ENDS, ENDS, st.floats(0, 1))
def test_exactly_one_row_holds(one, other, value, error):
    """The four conditions of the table, written out, name the verdict."""
    low, high = sorted((one, other))
    figure, region = Figure(value, error), BELOW_1
    inside = value - 2 * error < low and high < value + 2 * error
    outside = high <= value - 2 * error or low >= value + 2 * error
    asserted = high < 1
    if inside:
        expected = "reproduced"
    elif asserted:
        expected = "direction only"
    elif outside:
        expected = "not reproduced"
    else:
        expected = "inconclusive"
    assert verdict(low, high, figure, region) == expected


@given(ENDS, ENDS, st.floats(0, 1), st.floats(0, 1))
def test_a_wider_interval_never_decides_more(one, other, below, above):
    low, high = sorted((one, other))
    narrow, wide = (
        verdict(*ends, region=BELOW_1) for ends in ((low, high), (low - below, high + above))
    )
    assert wide in (narrow, "inconclusive")


def test_a_claim_gets_the_weakest_verdict_of_its_statements():
    rule = Rule({"max": [Statement("a", region=BELOW_1)], "mean": [Statement("b", region=BELOW_1)]})
    numbers = {"a": Number(0.5, 0.4, 0.6), "b": Number(1.0, 0.9, 1.1)}
    assert rule.of_cases(numbers) == {"max": "reproduced", "mean": "inconclusive"}
    assert rule.verdict(numbers) == "inconclusive"
    assert [weakest([v, "reproduced"]) for v in STRENGTHS] == list(STRENGTHS)


def test_shares_of_groups():
    rule = Rule.of(Statement("a", region=BELOW_1))
    groups = [{"a": Number(x, x - 0.2, x + 0.2)} for x in (0.5, 0.6, 0.9, 1.5)]
    assert verdict_shares(rule.verdict, groups) == {
        "reproduced": 0.5,
        "inconclusive": 0.25,
        "not reproduced": 0.25,
    }
    assert verdict_shares(rule.verdict, []) == {}


def test_a_quantity_that_is_not_there_is_named():
    with pytest.raises(InputError, match="asks for the quantity 'other'; the claim has one, two"):
        Rule.of(Statement("other", region=BELOW_1)).verdict({"one": Number(1.0), "two": Number(2.0)})


@pytest.mark.parametrize("parts", [{}, {"figure": Figure(27, None), "region": BELOW_1}])
def test_a_statement_needs_something_to_judge_by(parts):
    with pytest.raises(InputError, match="needs a region"):
        Statement("q", **parts)


def test_statements_in_words():
    assert str(Statement("D", Figure(0.9, 0.02), BELOW_1)) == "D: 0.9 ± 0.02, below 1"
    assert str(Statement("t", region=Region(25, 35))) == "t: 25 to 35"
    assert str(Statement("t", Figure(27, None))) == "t: 27"
    assert str(Region(0.98)) == "above 0.98"
