"""The area under the ROC against counting, and its interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from gradquake import InputError
from gradquake.analysis.early_warning import area_under_roc

runs = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([10, 20])), min_size=1, max_size=15)


@given(runs, runs)
def test_the_area_is_the_share_of_pairs_of_one_size_that_are_in_order(rows, controls):
    pairs = [0.5 if a == b else float(a > b) for a, n in rows for b, m in controls if n == m]
    columns = [np.array(column) for of in (rows, controls) for column in zip(*of, strict=True)]
    if not pairs:
        with pytest.raises(InputError, match="no size has a run that grokked and one of the control"):
            area_under_roc(*columns)
        return
    assert area_under_roc(*columns, n_resamples=10).value == pytest.approx(np.mean(pairs))


def test_of_one_size_it_is_the_statistic_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    values, control = rng.standard_normal(16), rng.standard_normal(24)
    found = area_under_roc(values, np.ones(16, int), control, np.ones(24, int), n_resamples=10)
    assert found.value == pytest.approx(mannwhitneyu(values, control).statistic / (16 * 24))


def test_two_controls_that_differ_are_told_apart():
    values, sizes = np.array([1.0, 1.1, 1.2]), np.full(3, 10)
    lower, higher = values - 1, values + 1
    assert area_under_roc(values, sizes, lower, sizes).value == 1
    assert area_under_roc(values, sizes, higher, sizes).value == 0
    # Counted together they would tell nothing.
    both, twice = np.concatenate([lower, higher]), np.full(6, 10)
    assert area_under_roc(values, sizes, both, twice).value == 0.5


def test_every_resample_draws_runs_within_a_size():
    values, sizes = np.array([0.0, 1.0, 10.0, 11.0]), np.array([10, 10, 20, 20])
    found = area_under_roc(values, sizes, np.array([0.5, 0.5, 10.5, 10.5]), sizes, n_resamples=200)
    # Each size gives 0, 1/2 or 1, and both weigh alike.
    assert set(found.resamples) == {0, 0.25, 0.5, 0.75, 1}
    assert found.runs == 2


def test_the_interval_covers_at_its_nominal_rate():
    # P(X > Y) of normal numbers a standard deviation apart: Phi(1 / sqrt 2).
    true, covered, trials = 0.7602, 0, 100
    rng = np.random.default_rng(1)
    sizes = np.ones(20, int)
    for _ in range(trials):
        values, control = rng.standard_normal(20) + 1, rng.standard_normal(20)
        found = area_under_roc(values, sizes, control, sizes, n_resamples=400)
        covered += found.contains(true)
    assert 0.88 <= covered / trials <= 1
