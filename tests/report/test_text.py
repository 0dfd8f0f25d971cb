"""Numbers, estimates, times and tables as text."""

import math

import numpy as np
import pytest

from gradquake.analysis.resampling import Estimate
from gradquake.analysis.shown import bracketed, number
from gradquake.report.text import Table, time_with_interval, with_interval

NAN = math.nan


def estimate(value, low=NAN, high=NAN, invalid=0.0):
    return Estimate(value=value, low=low, high=high, invalid=invalid, runs=6)


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (None, "none"),
        (NAN, "none"),
        (0.0, "0"),
        (1.0, "1"),
        (-3.0, "-3"),
        (0.00012345, "0.00012"),
        (-0.00012345, "-0.00012"),
        (0.00123456, "0.001"),
        (0.95518, "0.955"),
        (-0.0501, "-0.050"),
        (9.8765, "9.877"),
        (28.356, "28.4"),
        (-28.356, "-28.4"),
        (214.67, "215"),
        (1e6, "1000000"),
        (math.inf, "none"),
        (-math.inf, "none"),
        (np.float64(0.5), "0.500"),
    ],
)
def test_numbers_are_short(of, text):
    assert number(of) == text


@pytest.mark.parametrize(
    ("of", "text"),
    [
        ((0.95, 0.9, 1.25), "0.950 [0.900, 1.250]"),
        ((12.0, 10.5, math.inf), "12 [10.5 or more]"),
        ((0.95, None, None), "0.950"),
        ((0.95, NAN, NAN), "0.950"),
        ((NAN, NAN, NAN), "none"),
        ((None, None, None), "none"),
    ],
)
def test_a_value_without_an_interval_stands_alone(of, text):
    assert bracketed(*of) == text
    if None not in of:
        assert with_interval(estimate(*of)) == text


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (estimate(123.4, 110.2, 150.7), "123 [110, 151]"),
        (estimate(0.4, -12.3, 14.0), "0 [-12, 14]"),
        (estimate(-0.4, -12.3, math.inf), "0 [-12 or more]"),
        (estimate(123.4, invalid=0.07), "123 (7% of resamples without)"),
        (estimate(math.inf, invalid=1.0), "not defined"),
        (estimate(NAN, invalid=1.0), "none"),
    ],
)
def test_a_time_without_an_interval_says_how_often_there_is_none(of, text):
    assert time_with_interval(of) == text


def test_a_table_as_markdown():
    table = Table("Heading", ("a", "b"), [("1", "2"), ("3", "")], "A note.")
    assert table.markdown() == (
        "## Heading\n\nA note.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |\n"
    )


def test_a_table_without_a_note_has_no_empty_lines_for_it():
    assert Table("Heading", ("a",), []).markdown() == "## Heading\n\n| a |\n| --- |\n"


def test_a_table_as_html_escapes_its_cells():
    shown = Table("a < b", ("x",), [("<script>",)], "1 & 2\n3")._repr_html_()
    assert "<caption>a &lt; b</caption>" in shown
    assert "<td>&lt;script&gt;</td>" in shown
    assert shown.endswith("<p>1 &amp; 2<br>3</p>")
