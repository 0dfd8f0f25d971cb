"""The statistics of sizes: fast resampling against plain loops, and a statistic from outside."""

import numpy as np
import pytest
from scipy import stats

from gradquake.analysis import statistics
from gradquake.analysis.resampling import run_resamples
from gradquake.analysis.statistics import MANY_SNAPSHOTS, STATISTICS, SizeStatistic, check_statistic
from gradquake.analysis.sweep import analyze
from gradquake.analysis.timing import follows_grokking
from gradquake.errors import InputError

HEAVY_TAILED = np.ceil(np.exp(2 * np.random.default_rng(3).standard_normal(40)) * 50)

snapshot_maxima = STATISTICS["max"].over_drawn_snapshots
snapshot_means = STATISTICS["mean"].over_drawn_snapshots
by_name = pytest.mark.parametrize("name", STATISTICS)


def brute_force(values, statistic, n_resamples, seed):
    """The statistic of resamples that are drawn one value at a time."""
    rng = np.random.default_rng(seed)
    return np.array(
        [statistic(rng.choice(values, size=values.size, replace=True)) for _ in range(n_resamples)]
    )


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


def test_the_means_of_many_snapshots_have_the_distribution_of_single_draws():
    rng = np.random.default_rng(5)
    values = rng.poisson(3.0, MANY_SNAPSHOTS + 1)
    means = snapshot_means(values, 4_000, rng)
    error = values.std() / np.sqrt(values.size)
    assert means.shape == (4_000,)
    assert means.mean() == pytest.approx(values.mean(), abs=5 * error / np.sqrt(4_000))
    assert means.std() == pytest.approx(error, rel=0.06)


def plain(name):
    """The same statistic without its faster ways."""
    fast = STATISTICS[name]
    return SizeStatistic(fast.symbol, fast.label, fast.of)


@pytest.fixture(params=["complete", "with gaps", "a run without any"])
def sizes(request):
    rng = np.random.default_rng(3)
    whole = rng.integers(0, 50, size=(5, 12)).astype(float)
    if request.param != "complete":
        whole[rng.random(whole.shape) < 0.4] = np.nan
    if request.param == "a run without any":
        whole[2] = np.nan
    return whole


@by_name
def test_the_faster_ways_give_what_the_plain_ones_give(name, sizes):
    fast, slow = STATISTICS[name], plain(name)
    (draws,) = run_resamples([len(sizes)], 60)
    # One resample of the run that may have no snapshot.
    draws = np.concatenate([draws, np.full((1, len(sizes)), 2)])
    for way in ("over_snapshots", "log_at_epochs"):
        found, expected = (getattr(of, way)(sizes)(draws) for of in (fast, slow))
        assert np.array_equal(found, expected, equal_nan=True)
    order = np.argsort(np.random.default_rng(1).random((40, len(sizes))), axis=1)
    before = np.array([0, 3, 5, 12, 5])
    for found, expected in zip(
        fast.split(sizes, before, order), slow.split(sizes, before, order), strict=True
    ):
        assert np.array_equal(found, expected, equal_nan=True)
    some = order[:, :3], order[:, 1:4]
    for found, expected in zip(
        fast.split(sizes, before, *some), slow.split(sizes, before, *some), strict=True
    ):
        assert np.array_equal(found, expected, equal_nan=True)


@by_name
def test_a_statistic_passes_over_what_is_missing(name):
    of = STATISTICS[name].of
    values = np.array([[1.0, np.nan, 4.0], [np.nan, np.nan, 2.0]])
    by_hand = {"max": ([1, np.nan, 4], [4, 2]), "mean": ([1, np.nan, 3], [2.5, 2])}[name]
    for axis, expected in enumerate(by_hand):
        assert np.array_equal(of(values, axis), expected, equal_nan=True)


def test_a_statistic_is_one_entry_of_the_table(random_sweep, monkeypatch):
    def median(sizes, axis):
        with np.errstate(invalid="ignore"):
            return np.nanmedian(sizes, axis=axis)

    # Of constant sizes, every statistic is the same.
    n = random_sweep["n_parameters"].values[:, None]
    power_law = random_sweep.assign(size=random_sweep["size"] * 0 + np.round(3 * n**1.2))
    monkeypatch.setitem(statistics.STATISTICS, "median", SizeStatistic("m", "median", median))
    found = analyze(power_law, n_resamples=20)
    assert found.exponent("all", "median").value == pytest.approx(1.2, abs=0.01)
    for phase in ("all", "pre", "post"):
        median_of, largest = (found.exponent(phase, name) for name in ("median", "max"))
        assert median_of.value == pytest.approx(largest.value)
        assert median_of.resamples == pytest.approx(largest.resamples, nan_ok=True)
    assert found.curves["median"].dimension["value"].values == pytest.approx(
        found.curves["max"].dimension["value"].values
    )
    assert found.snapshot_interval("all", "median").low == pytest.approx(
        found.snapshot_interval("all", "max").low
    )
    assert follows_grokking(power_law, "median", n_permutations=10).observed == pytest.approx(0)
    assert "m(t)" in repr(found)
    check_statistic("median")


def test_an_unknown_statistic_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="the statistic is 'median'; one of max, mean is needed"):
        check_statistic("median")
