"""Log-binned densities, and the two exponents that collapse them, against formulas and a naive twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.analysis.density_collapse import two_exponent_collapse
from gradquake.analysis.distributions import densities
from gradquake.errors import InputError

LENGTHS = (32, 64, 128, 256)


def law(rng, tau, dimension, runs=4, count=100_000, lengths=LENGTHS):
    """Sizes with the density s^-tau exp(-s / L^D), by rejection from a power law."""
    sizes = {}
    for n in lengths:
        s = (1 - rng.random(4 * runs * count)) ** (1 / (1 - tau))
        s = s[rng.random(s.size) < np.exp(-s / float(n) ** dimension)][: runs * count]
        sizes[n] = np.array_split(s, runs)
    return sizes


def test_whole_sizes_have_bins_of_whole_numbers():
    # One avalanche of each size 1..1000: a density of 1/1000 in every whole bin.
    (found,) = densities({5: [np.arange(0, 1001)]})
    # The last bin ends above 1000.
    assert found.density[:-1] == pytest.approx(1e-3)
    assert found.counts.sum() <= found.totals.sum() == 1000
    assert found.sizes[0] > 0
    counts = found.counts[0]
    np.testing.assert_allclose(found.relative_error, 1 / np.sqrt(counts))


def test_a_density_integrates_to_one_and_errors_of_runs_are_those_of_a_ratio():
    rng = np.random.default_rng(0)
    runs = [rng.lognormal(m, 0.7, 3000) for m in rng.normal(3, 0.5, 12)]
    (found,) = densities({5: runs}, bins_per_decade=5, fewest=1)
    ends = 10 ** (np.arange(-20, 50) / 5)
    widths = np.diff(ends)[[np.searchsorted(ends, s) - 1 for s in found.sizes]]
    assert (found.density * widths).sum() == pytest.approx(1)
    # Runs differ more than counts do: the error is the jackknife's, to first order.
    k = found.counts.sum(axis=0).argmax()
    left_out = [np.delete(found.counts[:, k], r).sum() / 33_000 for r in range(12)]
    jackknife = np.sqrt(11 / 12 * ((left_out - np.mean(left_out)) ** 2).sum())
    share = found.counts[:, k].sum() / 36_000
    assert found.relative_error[k] == pytest.approx(jackknife / share, rel=0.01)


# The density from 1 on has a norm with a correction of L^(-D (tau - 1)): 0.03 at most here.
@pytest.mark.parametrize(("tau", "dimension"), [(1.5, 2.0), (1.7, 1.5)])
def test_a_power_law_with_a_cutoff_collapses_with_its_exponents(tau, dimension):
    sizes = law(np.random.default_rng(1), tau, dimension)
    found = two_exponent_collapse(sizes, n_resamples=40)
    assert found.dimension.value == pytest.approx(dimension, abs=0.05)
    assert found.tau.value == pytest.approx(tau, abs=0.03)
    assert found.quality < 1.5
    assert not found.message
    assert found.dimension.low < found.dimension.value < found.dimension.high
    assert "S" in repr(found)


def test_a_hump_has_tau_one_and_one_that_narrows_has_no_collapse():
    rng = np.random.default_rng(2)
    hump, narrowing = (
        {
            n: [float(n) ** 1.1 * np.exp(width(n) * rng.standard_normal(20_000)) for _ in range(4)]
            for n in LENGTHS
        }
        for width in (lambda n: 0.5, lambda n: 4 / np.sqrt(n))  # noqa: ARG005
    )
    # P(s; N) = N^-D g(s / N^D): D tau = D.
    found = two_exponent_collapse(hump, n_resamples=30)
    assert found.dimension.value == pytest.approx(1.1, abs=0.02)
    assert found.tau.value == pytest.approx(1, abs=0.02)
    assert (
        "there is no collapse within the errors"
        in two_exponent_collapse(narrowing, n_resamples=1).message
    )


def naive_quality(scales, dimension, tau, least_error):
    """S by its formula, point by point."""
    curves = [
        (
            np.log(of.sizes) - dimension * np.log(of.n),
            np.log(of.density) + dimension * tau * np.log(of.n),
            np.maximum(of.relative_error, least_error) ** 2,
        )
        for of in scales
    ]
    terms = []
    for i, (x, y, v) in enumerate(curves):
        for at, height, variance in zip(x, y, v, strict=True):
            near = []
            for j, (ox, oy, ov) in enumerate(curves):
                if j == i or not ox[0] <= at <= ox[-1]:
                    continue
                left = min(np.flatnonzero(ox <= at)[-1], ox.size - 2)
                near += [(ox[k], oy[k], ov[k]) for k in (left, left + 1)]
            if not near:
                continue
            nx, ny, nv = np.array(near).T
            design = np.stack([np.ones(nx.size), nx - at], axis=1) / np.sqrt(nv)[:, None]
            covariance = np.linalg.inv(design.T @ design)
            line = covariance @ design.T @ (ny / np.sqrt(nv))
            terms.append((height - line[0]) ** 2 / (variance + covariance[0, 0]))
    return np.mean(terms)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.05]))
@settings(deadline=None, max_examples=10)
def test_the_quality_is_that_of_the_naive_twin_and_a_minimum_in_tau(seed, least_error):
    rng = np.random.default_rng(seed)
    sizes = {n: [rng.lognormal(np.log(n), 1, 300) for _ in range(3)] for n in (10, 30, 100)}
    found = two_exponent_collapse(sizes, (0.5, 1.5), n_resamples=1, least_error=least_error)
    scales = densities(sizes)
    d, tau = found.dimension.value, found.tau.value
    best = naive_quality(scales, d, tau, least_error)
    assert found.quality == pytest.approx(best)
    for step in (-0.01, 0.01):
        assert naive_quality(scales, d, tau + step, least_error) > best


def test_scales_without_overlap_and_single_runs():
    far = {n: [np.exp(n + 0.01 * np.arange(40))] for n in (1, 20, 50)}
    found = two_exponent_collapse(far, (0.0, 0.1))
    assert np.isnan(found.dimension.value)
    assert "overlap at no D from 0 to 0.1" in found.message
    one = two_exponent_collapse(law(np.random.default_rng(3), 1.5, 2.0, runs=1))
    assert one.dimension.value == pytest.approx(2, abs=0.1)
    assert np.isnan(one.dimension.low)


def test_bad_input_is_one_sentence():
    sizes = {1: [np.ones(9)], 2: [np.ones(9)]}
    with pytest.raises(InputError, match="two finite numbers, ascending"):
        two_exponent_collapse(sizes, (1.0, 0.0))
    with pytest.raises(InputError, match="least_error is negative"):
        two_exponent_collapse(sizes, least_error=-1)
    with pytest.raises(InputError, match="no avalanche with a positive size at N = 2"):
        two_exponent_collapse({1: [np.ones(9)], 2: [np.zeros(9)]})
