"""The complementary cumulative distribution against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.analysis.resampling import run_resamples
from gradquake.analysis.tails import ccdf, ccdfs
from gradquake.errors import InputError

samples = st.lists(st.integers(0, 12) | st.integers(0, 10**9), min_size=1, max_size=60)


def share_larger(sample, size):
    return sum(value > size for value in sample) / len(sample)


@settings(deadline=None, max_examples=80)
@given(samples)
def test_the_ccdf_counts_what_is_larger(sample):
    values, probability = ccdf(sample)
    assert values.tolist() == sorted(set(sample))
    assert probability == pytest.approx([share_larger(sample, v) for v in values], abs=1e-12)


@settings(deadline=None, max_examples=80)
@given(samples)
def test_the_ccdf_falls_to_zero(sample):
    _, probability = ccdf(sample)
    assert (np.diff(probability) < 0).all()
    assert probability[0] < 1
    assert probability[-1] == 0


def test_the_ccdf_by_hand():
    values, probability = ccdf([[4, 1], [1, 2]])
    assert values.tolist() == [1, 2, 4]
    assert probability.tolist() == [0.5, 0.25, 0.0]


def test_the_ccdf_of_a_power_law_is_one():
    # Quantiles of P(> s) = 1/s at the middle of 1000 equal shares.
    share = (np.arange(1000) + 0.5) / 1000
    values, probability = ccdf(1 / share)
    assert probability[:-1] == pytest.approx(1 / values[:-1], abs=1e-3)


@pytest.mark.parametrize("empty", [[], np.zeros((3, 0))])
def test_a_ccdf_needs_an_avalanche(empty):
    with pytest.raises(InputError, match="no avalanche was given"):
        ccdf(empty)


def test_each_scale_has_its_own_ccdf(random_sweep, random_sizes):
    found = ccdfs(random_sweep, n_resamples=5)
    assert [scale.n_parameters for scale in found] == sorted(random_sizes)
    for scale in found:
        values, probability = ccdf(random_sizes[scale.n_parameters])
        assert np.array_equal(scale.sizes, values)
        assert np.array_equal(scale.probability, probability)


def test_the_bands_are_those_of_a_loop(random_sweep, random_sizes):
    found = ccdfs(random_sweep, n_resamples=25, seed=2)
    draws = run_resamples([len(random_sizes[n]) for n in sorted(random_sizes)], 25, 2)
    for scale, chosen in zip(found, draws, strict=True):
        runs = random_sizes[scale.n_parameters]
        shares = [
            [share_larger(runs[resample].ravel(), size) for size in scale.sizes] for resample in chosen
        ]
        low, high = np.quantile(shares, [0.025, 0.975], axis=0)
        assert scale.low == pytest.approx(low, abs=1e-12)
        assert scale.high == pytest.approx(high, abs=1e-12)


def test_the_bands_contain_the_estimate(sweep_of):
    rng = np.random.default_rng(5)
    sizes = {n: np.ceil(n * rng.pareto(1.5, size=(8, 10))) for n in (85, 201, 401)}
    for scale in ccdfs(sweep_of(sizes), n_resamples=400):
        assert (scale.low <= scale.probability + 1e-12).all()
        assert (scale.probability <= scale.high + 1e-12).all()
        assert scale.low[-1] == scale.probability[-1] == scale.high[-1] == 0


def test_runs_that_agree_have_no_band(sweep_of):
    same = np.tile([3, 1, 4, 1, 5], (4, 1))
    (scale,) = ccdfs(sweep_of({85: same}), n_resamples=20)
    assert scale.low == pytest.approx(scale.probability)
    assert scale.high == pytest.approx(scale.probability)


def test_equal_seeds_give_equal_bands(random_sweep):
    one, two, other = (ccdfs(random_sweep, n_resamples=30, seed=s)[0] for s in (1, 1, 2))
    assert np.array_equal(one.low, two.low)
    assert np.array_equal(one.high, two.high)
    assert not np.array_equal(one.low, other.low)
