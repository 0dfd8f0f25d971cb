"""The area under the ROC against counting, and its interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from gradquake import InputError
from gradquake.analysis.early_warning import area_under_roc

runs = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from([10, 20])), min_size=2, max_size=30
)


@given(runs)
def test_the_area_is_the_share_of_pairs_of_one_size_that_are_in_order(rows):
    pairs = [
        0.5 if a == b else float(a > b)
        for a, first, n in rows
        for b, second, m in rows
        if first and not second and n == m
    ]
    values, positive, sizes = (np.array(column) for column in zip(*rows, strict=True))
    arguments = values.astype(float), positive.astype(bool), sizes, np.zeros(len(rows), int)
    if not pairs:
        with pytest.raises(InputError, match="no size has a run that grokked and one that did not"):
            area_under_roc(*arguments)
        return
    assert area_under_roc(*arguments, n_resamples=10).value == pytest.approx(np.mean(pairs))


def test_of_one_size_it_is_the_statistic_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    values, positive = rng.standard_normal(40), rng.random(40) < 0.4
    found = area_under_roc(values, positive, np.ones(40, int), np.zeros(40, int), n_resamples=10)
    u = mannwhitneyu(values[positive], values[~positive]).statistic
    assert found.value == pytest.approx(u / (positive.sum() * (~positive).sum()))


def test_the_interval_covers_at_its_nominal_rate():
    # P(X > Y) of normal numbers a standard deviation apart: Phi(1 / sqrt 2).
    true, covered, trials = 0.7602, 0, 100
    rng = np.random.default_rng(1)
    positive = np.repeat([True, False], 20)
    for _ in range(trials):
        values = rng.standard_normal(40) + positive
        found = area_under_roc(values, positive, np.ones(40, int), positive.astype(int), n_resamples=400)
        covered += found.contains(true)
    assert 0.88 <= covered / trials <= 1
