"""The bootstrap: what is drawn, its percentiles, and the shortcuts for single snapshots."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gradquake.analysis import resampling
from gradquake.analysis.resampling import (
    Estimate,
    Interval,
    difference,
    estimated,
    outer_quantiles,
    over_resamples,
    percentile_interval,
    run_resamples,
    shifted,
    tail_share,
)
from gradquake.errors import InputError


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
    interval = percentile_interval(samples, level=level)
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
        percentile_interval(np.arange(10.0), level=level)
    with pytest.raises(InputError, match="level is"):
        tail_share(4, level)


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


def test_exactly_the_allowed_share_without_a_value_still_has_an_interval():
    interval = percentile_interval(np.r_[np.full(500, np.nan), np.arange(9500.0)])
    assert interval.invalid == 0.05
    assert interval.low < interval.high


def test_a_scale_without_a_run_is_refused():
    with pytest.raises(InputError, match="the number of runs at a scale is 0"):
        run_resamples([3, 0], 10)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("runs", [2, 3, 5, 16, 1_000])
def test_the_tail_share_is_hesterbergs(runs, level):
    t = stats.t.ppf((1 - level) / 2, runs - 1)
    assert tail_share(runs, level) == pytest.approx(
        stats.norm.cdf(np.sqrt(runs / (runs - 1)) * t), rel=1e-9
    )


def test_the_tail_share_of_five_runs_by_hand():
    # The 2.5 % quantile of t with 4 degrees of freedom is -2.7764, and Phi(-2.7764 sqrt(5/4)) = 0.00095.
    assert tail_share(5) == pytest.approx(0.00095, abs=5e-6)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_many_runs_leave_the_nominal_share_out(level):
    assert tail_share(10_000_000, level) == pytest.approx((1 - level) / 2, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 500), st.integers(1, 500), st.floats(0.01, 0.99))
def test_fewer_runs_leave_less_out(runs, more, level):
    assert 0 <= tail_share(runs, level) <= tail_share(runs + more, level) < (1 - level) / 2


@pytest.mark.parametrize("runs", [None, 1])
def test_without_runs_to_resample_the_percentiles_are_plain(runs):
    assert tail_share(runs) == pytest.approx(0.025)
    assert tail_share(runs, 0.8) == pytest.approx(0.1)
    samples = np.random.default_rng(1).standard_normal(200)
    assert percentile_interval(samples, runs) == percentile_interval(samples)


@pytest.mark.parametrize("runs", [2, 6, 40])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_an_interval_over_runs_ends_at_the_expanded_percentiles(runs, level):
    samples = np.append(np.random.default_rng(2).standard_normal(480), [np.nan] * 20)
    interval = percentile_interval(samples, runs, level)
    tail = stats.norm.cdf(np.sqrt(runs / (runs - 1)) * stats.t.ppf((1 - level) / 2, runs - 1))
    expected = np.quantile(samples[:480], [tail, 1 - tail])
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.invalid == pytest.approx(0.04)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.integers(2, 50), st.integers(1, 50))
def test_fewer_runs_never_narrow_an_interval(values, runs, more):
    few = percentile_interval(np.array(values), runs)
    many = percentile_interval(np.array(values), runs + more)
    plain = percentile_interval(np.array(values))
    assert min(values) <= few.low <= many.low <= plain.low
    assert plain.high <= many.high <= few.high <= max(values)


def test_expanded_intervals_of_a_mean_of_few_runs_cover_it_more_often():
    # P(|t| < 1.96 sqrt(4 / 5)) = 0.85 for t with 4 degrees of freedom: what plain percentiles cover.
    rng = np.random.default_rng(8)
    (draws,) = run_resamples([5], 400)
    expanded, plain = [], []
    for sample in rng.standard_normal((1_000, 5)):
        means = sample[draws].mean(axis=1)
        expanded.append(percentile_interval(means, 5).contains(0.0))
        plain.append(percentile_interval(means).contains(0.0))
    assert np.mean(plain) == pytest.approx(0.85, abs=0.04)
    assert 0.9 < np.mean(expanded) < 0.97


def test_a_shifted_estimate_keeps_its_width():
    whole = Estimate(
        value=2.0, low=1.0, high=2.5, invalid=0.03, runs=4, kept_resamples=np.array([1.0, 2.0])
    )
    found = shifted(whole, -1)
    assert (found.value, found.low, found.high, found.invalid, found.runs) == (1, 0, 1.5, 0.03, 4)
    assert found.resamples.tolist() == [0, 1]
    nowhere = shifted(estimated(np.nan, np.full(3, np.nan), 4), 2.0)
    assert np.isnan([nowhere.value, nowhere.low, nowhere.high]).all()
    assert nowhere.invalid == 1


def test_an_estimate_has_the_interval_of_its_resamples():
    resamples = np.random.default_rng(3).standard_normal(300)
    found = estimated(0.1, resamples, 7)
    assert (found.value, found.runs) == (0.1, 7)
    assert found.resamples is resamples
    assert Interval(found.low, found.high, found.invalid) == percentile_interval(resamples, 7)


def test_a_slim_estimate_is_the_same_without_its_resamples():
    whole = estimated(0.1, np.random.default_rng(3).standard_normal(300), 7)
    slim = whole.slim()
    with pytest.raises(InputError, match=r"slim\(\) dropped the resamples of this estimate; take"):
        _ = slim.resamples
    assert (slim.value, slim.low, slim.high, slim.runs) == (
        whole.value,
        whole.low,
        whole.high,
        whole.runs,
    )
    assert whole.resamples.shape == (300,)


def test_a_difference_is_taken_resample_by_resample():
    rng = np.random.default_rng(4)
    values = [{n: rng.gamma(2.0, size=5) for n in (10, 20, 40)} for _ in range(2)]
    draws = run_resamples([5, 5, 5], 50, seed=2)

    def naive(of, resample=None):
        result = 1.0
        for position, n in enumerate(values[of]):
            chosen = slice(None) if resample is None else draws[position][resample]
            result *= values[of][n][chosen].mean()
        return result

    first, second = (
        estimated(naive(of), np.array([naive(of, b) for b in range(50)]), 5) for of in (0, 1)
    )
    found = difference(first, second)
    one_by_one = np.array([naive(0, b) - naive(1, b) for b in range(50)])
    assert found.value == naive(0) - naive(1)
    assert np.array_equal(found.resamples, one_by_one)
    assert Interval(found.low, found.high, found.invalid) == percentile_interval(one_by_one, 5)
    assert found.runs == 5


def test_pairing_removes_what_two_estimates_share():
    rng = np.random.default_rng(5)
    shared, own = rng.standard_normal(1_000), 0.01 * rng.standard_normal(1_000)
    found = difference(estimated(0.0, shared + own, 8), estimated(0.0, shared, 8))
    assert found.resamples == pytest.approx(own, abs=1e-12)
    assert found.high - found.low < 0.1


def test_a_difference_is_missing_where_either_is():
    resamples = np.arange(100.0)
    gaps = np.where(resamples < 3, np.nan, resamples)
    found = difference(estimated(1.0, resamples, 4), estimated(np.nan, gaps, 4))
    assert np.isnan(found.value)
    assert np.isnan(found.resamples).sum() == 3
    assert found.invalid == pytest.approx(0.03)
    assert (found.low, found.high) == (0, 0)


@pytest.mark.parametrize(
    ("size", "runs", "message"),
    [
        (9, 4, "10 resamples of 4 runs and 9 of 4 were given; a paired difference needs the same"),
        (0, 4, "10 resamples of 4 runs and 0 of 4 were given"),
        (10, 5, "10 resamples of 4 runs and 10 of 5 were given"),
    ],
)
def test_a_difference_needs_equal_resamples_of_equal_runs(size, runs, message):
    first = estimated(1.0, np.zeros(10), 4)
    with pytest.raises(InputError, match=message):
        difference(first, estimated(1.0, np.zeros(size), runs))


def test_differences_without_resamples_have_no_interval():
    single = estimated(1.5, np.empty(0), 1)
    found = difference(single, single)
    assert found.value == 0
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize("most", [1, 7, 50, 10**6])
def test_a_few_choices_at_a_time_are_those_of_all_at_once(monkeypatch, most):
    monkeypatch.setattr(resampling, "MOST_DRAWN", most)
    runs = [5, 2, 9, 1000]
    together = run_resamples(runs, 23, seed=4)
    rng = np.random.default_rng(4)
    seen = []

    def statistic(scale, draws):
        seen.append(draws.size)
        return draws.sum(axis=1) * 10 + scale

    found = over_resamples(runs, statistic, 23, seed=4)
    for scale, (n, draws) in enumerate(zip(runs, together, strict=True)):
        np.testing.assert_array_equal(draws, rng.integers(n, size=(23, n)))
        np.testing.assert_array_equal(found[scale], draws.sum(axis=1) * 10 + scale)
    assert max(seen) <= max(most, *runs)


def test_a_difference_of_what_is_slim_is_refused():
    whole = estimated(0.1, np.random.default_rng(3).standard_normal(30), 7)
    for pair in ((whole, whole.slim()), (whole.slim(), whole), (whole.slim(), whole.slim())):
        with pytest.raises(InputError, match="before slim"):
            difference(*pair)


def test_an_interval_of_one_value_is_known():
    assert percentile_interval(np.full(50, 0.25), 4).is_one_value
    assert not percentile_interval(np.arange(50.0), 4).is_one_value
    assert not Interval(np.nan, np.nan, 1.0).is_one_value


@pytest.mark.parametrize("values", ["normal", "few whole numbers"])
@pytest.mark.parametrize("n_resamples", [2, 3, 20, 999])
def test_the_outer_quantiles_of_many_rows_are_the_quantiles_of_numpy(values, n_resamples):
    rng = np.random.default_rng(n_resamples)
    shape = (40, n_resamples)
    rows = rng.standard_normal(shape) if values == "normal" else rng.integers(0, 5, shape).astype(float)
    for share in (0.0, 0.0012, 0.025, 0.5):
        expected = np.quantile(rows, [share, 1 - share], axis=1)
        assert np.array_equal(outer_quantiles(rows, share), expected)
