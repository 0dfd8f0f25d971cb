"""The bootstrap: what is drawn, its percentiles, and the shortcuts for single snapshots."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gradquake.analysis.resampling import (
    Interval,
    percentile_interval,
    run_resamples,
    snapshot_maxima,
    snapshot_means,
)
from gradquake.errors import InputError

HEAVY_TAILED = np.ceil(np.exp(2 * np.random.default_rng(3).standard_normal(40)) * 50)


def brute_force(values, statistic, n_resamples, seed):
    """The statistic of resamples that are drawn one value at a time."""
    rng = np.random.default_rng(seed)
    return np.array(
        [statistic(rng.choice(values, size=values.size, replace=True)) for _ in range(n_resamples)]
    )


def test_each_resample_takes_as_many_runs_as_the_scale_has():
    draws = run_resamples([3, 2, 7], 11)
    assert [d.shape for d in draws] == [(11, 3), (11, 2), (11, 7)]
    assert [d.min() for d in draws] == [0, 0, 0]
    assert [d.max() for d in draws] == [2, 1, 6]


def test_a_single_run_at_a_scale_leaves_no_resample_and_no_interval():
    draws = run_resamples([3, 1, 7], 11)
    assert [d.shape for d in draws] == [(0, 3), (0, 1), (0, 7)]
    interval = percentile_interval(np.empty(0))
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.invalid == 1


def test_runs_are_drawn_uniformly():
    (draws,) = run_resamples([6], 2_000, seed=1)
    assert stats.chisquare(np.bincount(draws.ravel(), minlength=6)).pvalue > 0.01


def test_the_scales_are_drawn_independently():
    first, second = run_resamples([5, 5], 2_000)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_equal_seeds_give_equal_draws_and_others_do_not():
    one, two, other = (run_resamples([4, 6], 50, seed=s) for s in (9, 9, 10))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("n_resamples", [0, -1, 2.5, True, None])
def test_the_number_of_resamples_is_a_positive_integer(n_resamples):
    with pytest.raises(InputError, match="an integer of at least 1 is needed"):
        run_resamples([3], n_resamples)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_the_interval_ends_at_the_percentiles(level):
    samples = np.random.default_rng(0).standard_normal(501)
    interval = percentile_interval(samples, level)
    outside = 50 * (1 - level)
    assert interval.low == pytest.approx(np.percentile(samples, outside))
    assert interval.high == pytest.approx(np.percentile(samples, 100 - outside))
    assert interval.invalid == 0


def test_a_symmetric_sample_has_a_symmetric_interval():
    # 0..100 has its q-quantile at 100 q.
    interval = percentile_interval(np.arange(101.0))
    assert (interval.low, interval.high) == pytest.approx((2.5, 97.5))


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_few_resamples_without_a_value_are_counted_and_left_out(missing):
    samples = np.append(np.arange(96.0), [missing] * 4)
    interval = percentile_interval(samples)
    assert interval.invalid == pytest.approx(0.04)
    assert (interval.low, interval.high) == pytest.approx(np.quantile(samples[:96], [0.025, 0.975]))


def test_no_interval_is_given_where_over_five_percent_have_no_value():
    interval = percentile_interval(np.append(np.arange(94.0), [np.nan] * 6))
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.invalid == pytest.approx(0.06)


def test_no_interval_is_given_where_no_resample_has_a_value():
    interval = percentile_interval(np.full(10, np.nan))
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.invalid == 1


@pytest.mark.parametrize("level", [0, 1, -0.1, 95, np.nan])
def test_the_level_is_a_share(level):
    with pytest.raises(InputError, match="level is"):
        percentile_interval(np.arange(10.0), level)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_the_interval_is_ordered_and_inside_the_sample(values):
    interval = percentile_interval(np.array(values))
    assert min(values) <= interval.low <= interval.high <= max(values)


@pytest.mark.parametrize(
    ("value", "inside"), [(1.0, True), (2.0, True), (1.5, True), (0.99, False), (np.nan, False)]
)
def test_an_interval_contains_its_ends(value, inside):
    assert Interval(1.0, 2.0, 0.0).contains(value) is inside


def test_an_interval_without_ends_contains_nothing():
    assert not Interval(np.nan, np.nan, 1.0).contains(1.0)


@pytest.mark.parametrize(("fast", "statistic"), [(snapshot_maxima, np.max), (snapshot_means, np.mean)])
@pytest.mark.parametrize("values", [HEAVY_TAILED, HEAVY_TAILED[:3], np.array([5, 5, 5, 9])])
def test_snapshot_resamples_are_distributed_as_brute_force_ones(fast, statistic, values):
    quick = fast(values, 4_000, np.random.default_rng(1))
    slow = brute_force(values, statistic, 4_000, seed=2)
    assert stats.ks_2samp(quick, slow, method="asymp").pvalue > 0.01


def test_maxima_follow_their_closed_form():
    # P(maximum of M draws <= k-th smallest of M values) = (k / M)^M.
    m, n_resamples = 8, 20_000
    maxima = snapshot_maxima(np.arange(1, m + 1), n_resamples, np.random.default_rng(4))
    below = (np.arange(m + 1) / m) ** m
    counts = np.bincount(maxima.astype(int), minlength=m + 1)[1:]
    # The smallest values are too rare for a test of their own.
    observed = np.append(counts[:4].sum(), counts[4:])
    expected = n_resamples * np.append(below[4], np.diff(below)[4:])
    assert stats.chisquare(observed, expected).pvalue > 0.01


@pytest.mark.parametrize("resample", [snapshot_maxima, snapshot_means])
def test_resamples_of_a_constant_are_that_constant(resample):
    resampled = resample(np.full(9, 4), 100, np.random.default_rng(0))
    assert resampled.dtype == np.float64
    assert (resampled == 4).all()


def test_maxima_do_not_depend_on_the_order_of_the_values():
    shuffled = np.random.default_rng(5).permutation(HEAVY_TAILED)
    one = snapshot_maxima(HEAVY_TAILED, 200, np.random.default_rng(0))
    assert np.array_equal(one, snapshot_maxima(shuffled, 200, np.random.default_rng(0)))


def test_means_of_many_values_are_computed_in_parts_without_a_gap():
    # 2,000,000 // 300,000 = 6 resamples at a time, so that 13 need three parts, the last of one.
    values = np.random.default_rng(6).random(300_000)
    means = snapshot_means(values, 13, np.random.default_rng(0))
    stderr = values.std() / np.sqrt(values.size)
    assert means.shape == (13,)
    assert (np.abs(means - values.mean()) < 5 * stderr).all()
    assert np.unique(means).size == 13


def test_exactly_the_allowed_share_without_a_value_still_has_an_interval():
    interval = percentile_interval(np.r_[np.full(500, np.nan), np.arange(9500.0)])
    assert interval.invalid == 0.05
    assert interval.low < interval.high


def test_a_scale_without_a_run_is_refused():
    with pytest.raises(InputError, match="the number of runs at a scale is 0"):
        run_resamples([3, 0], 10)
