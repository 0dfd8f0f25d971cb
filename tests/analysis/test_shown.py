"""Results show themselves as a physicist reads them, and as a table in a notebook."""

import numpy as np
import pytest

from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import estimated
from gradquake.analysis.shown import bracketed
from gradquake.analysis.sweep import analyze


@pytest.fixture(scope="module")
def analysis(random_sweep):
    return analyze(random_sweep, n_resamples=20)


def test_an_estimate_shows_its_value_and_interval():
    found = estimated(1.085, np.linspace(1.0, 1.2, 101), 100)
    assert repr(found) == f"Estimate: {bracketed(1.085, found.low, found.high)}"
    assert found.text.startswith("1.085 [1.0")


def test_an_exponent_shows_its_fit_and_what_speaks_against_it(analysis):
    found = analysis.exponent("all", "max")
    first, doubts = repr(found).split("\n")
    assert first.startswith("Exponent D: ")
    assert first.endswith(f", R² {found.fit.r_squared:.3f}")
    assert doubts.strip().startswith("but")
    assert found.cautions[0] in doubts


def test_results_of_a_sweep_show_every_exponent(analysis):
    ladder = Ladder(analysis, {"gaussian": analysis, "permuted": analysis})
    for result in (analysis, ladder):
        shown = repr(result)
        for name in ("D all", "D pre", "D post", "gamma all", "gamma pre", "gamma post"):
            assert name in shown
    assert "arrangement" in repr(ladder.attribution("rise", "max"))


def test_a_notebook_shows_a_table_with_escaped_text(analysis):
    shown = analysis.curves["max"]._repr_html_()
    assert shown.startswith("<table><caption>D(t)</caption><tr>")
    assert analysis.grokking[0]._repr_html_().endswith("</td></tr></table>")


@pytest.mark.parametrize(
    ("of", "text"),
    [
        ((12.0, 10.0, np.inf), "12 [10 or more]"),
        ((12.0, -np.inf, 14.0), "12 [14 or less]"),
        ((np.inf, np.nan, np.nan), "none"),
        ((12.4, 10.0, 14.0), "12 [10, 14]"),
    ],
)
def test_an_epoch_is_shown_without_decimals(of, text):
    assert bracketed(*of, 0) == text
