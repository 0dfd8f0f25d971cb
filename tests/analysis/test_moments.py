"""Exponents of moments: known laws, a naive twin, and the forms that sigma(q) tells apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.analysis import scaling, transitions
from gradquake.analysis.moments import ORDERS, moment_exponents, sweep_moments
from gradquake.errors import InputError

LENGTHS = (64, 128, 256, 512, 1024)


def power_law(rng, tau, cutoff, count):
    """Sizes with the density s^-tau from 1 to the cutoff, by inversion of P(> s)."""
    span = 1 - cutoff ** (1 - tau)
    return (1 - rng.random(count) * span) ** (1 / (1 - tau))


def law(rng, tau=1.3, dimension=2.0, runs=6, count=20_000, lengths=LENGTHS):
    return {n: [power_law(rng, tau, float(n) ** dimension, count) for _ in range(runs)] for n in lengths}


def hump(rng, dimension=1.2, runs=6, count=500):
    return {
        n: [float(n) ** dimension * np.exp(0.3 * rng.standard_normal(count)) for _ in range(runs)]
        for n in LENGTHS
    }


def test_a_cut_off_power_law_has_the_slope_d_and_its_tau():
    # The density s^-tau on 1..L^D has <s^q> = (tau - 1) / (q + 1 - tau) (L^(D (q + 1 - tau)) - 1) / (1 -
    # L^(-D (tau - 1))): sigma(q) = D (q + 1 - tau) up to the second factor, which is near 1 here.
    tau, dimension = 1.5, 2.0
    found = moment_exponents(law(np.random.default_rng(0), tau, dimension), n_resamples=500)
    orders = np.array(ORDERS)
    expected = dimension * (orders + 1 - tau)
    assert found.sigma.value[1:] == pytest.approx(expected[1:], abs=0.05)
    assert found.dimension.value == pytest.approx(dimension, abs=0.03)
    assert found.tau.value == pytest.approx(tau, abs=0.03)
    assert found.offset.value == pytest.approx(dimension * (tau - 1), abs=0.06)
    assert found.form == "scaling law"
    assert found.curvature.contains(0)
    assert (found.sigma.low < found.sigma.value).all()
    assert (found.sigma.value < found.sigma.high).all()


def test_a_single_hump_has_a_line_through_the_origin():
    found = moment_exponents(hump(np.random.default_rng(1)), n_resamples=500)
    assert found.sigma.value == pytest.approx(1.2 * np.array(ORDERS), abs=0.01)
    assert found.form == "single hump"
    assert found.tau.value == pytest.approx(1, abs=0.01)
    assert found.dimension.contains(1.2)


def test_a_hump_that_narrows_with_n_is_neither():
    # <s^q> = N^q exp(q^2 v / 2) with v falling as log N rises: sigma(q) = q - c q^2, above q D of its
    # own slope.
    rng = np.random.default_rng(2)
    sizes = {
        n: [n * np.exp(np.sqrt(1.2 - 0.1 * np.log(n)) * rng.standard_normal(4000)) for _ in range(8)]
        for n in LENGTHS
    }
    found = moment_exponents(sizes, orders=(1, 1.5, 2), n_resamples=500)
    assert found.form == "neither"
    assert found.curvature.high < 0


def test_the_interval_of_d_covers_it():
    # Binomial: 40 sweeps at 95 % give at least 33 hits with probability 0.9997.
    hits = 0
    for k in range(40):
        sizes = {
            n: [n**1.1 * np.exp(0.3 * rng.standard_normal() + 0.5 * rng.standard_normal(20))
                for _ in range(12)]
            for rng in [np.random.default_rng([3, k])] for n in LENGTHS
        }  # fmt: skip
        hits += moment_exponents(sizes, orders=(0.5, 1, 1.5, 2), n_resamples=400).dimension.contains(1.1)
    assert hits >= 33


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
@settings(deadline=None, max_examples=30)
def test_sigma_is_that_of_the_naive_twin_and_does_not_depend_on_the_unit(seed, unit):
    rng = np.random.default_rng(seed)
    sizes = {
        n: [rng.integers(0, 50, rng.integers(1, 9)) + n for _ in range(rng.integers(2, 5))]
        for n in (5, 9, 30)
    }
    orders = (0.3, 1, 1.7, 3)
    found = moment_exponents(sizes, orders, n_resamples=20)
    means = [[np.mean(np.concatenate(of) ** q) for of in sizes.values()] for q in orders]
    expected = [np.polyfit(np.log([5, 9, 30]), np.log(of), 1)[0] for of in means]
    assert found.sigma.value == pytest.approx(expected)
    d, intercept = np.polyfit(orders[1:], expected[1:], 1)
    assert found.dimension.value == pytest.approx(d)
    assert found.offset.value == pytest.approx(-intercept)
    assert found.tau.value == pytest.approx(1 - intercept / d)
    other = moment_exponents(
        {n: [s * unit for s in of] for n, of in sizes.items()}, orders, n_resamples=20
    )
    np.testing.assert_allclose(other.sigma, found.sigma, rtol=1e-6, atol=1e-9)


def test_the_first_moment_of_a_sweep_is_gamma(sweep_of, random_sizes, random_grokking):
    sweep = sweep_of(random_sizes, random_grokking)
    for phase in ("all", "pre", "post"):
        where = transitions.phase(sweep, phase)
        found = sweep_moments(sweep, where, orders=(1, 2, 3), n_resamples=300)
        gamma = scaling.exponent(sweep, "mean", where, n_resamples=300)
        assert found.sigma.value[0] == pytest.approx(gamma.value)
        assert found.sigma.low[0] == pytest.approx(gamma.low, nan_ok=True)
        assert found.sigma.high[0] == pytest.approx(gamma.high, nan_ok=True)


def test_a_single_run_at_a_scale_has_values_without_intervals():
    found = moment_exponents(law(np.random.default_rng(4), runs=1, count=200))
    assert np.isfinite(found.dimension.value)
    assert np.isnan([found.dimension.low, found.tau.high, *found.sigma.low]).all()
    assert found.form == "open"


@pytest.mark.parametrize(
    ("sizes", "orders", "message"),
    [
        ({1: [[1]], 2: [[1]]}, ORDERS, "there are 2 scales; exponents need at least 3"),
        ({0: [[1]], 1: [[1]], 2: [[1]]}, ORDERS, "an N is not positive"),
        ({3: [[]], 1: [[1]], 2: [[1]]}, ORDERS, "there is no avalanche at N = 3"),
        ({3: [[-1]], 1: [[1]], 2: [[1]]}, ORDERS, "a size at N = 3 is negative or not finite"),
        ({3: [[np.nan]], 1: [[1]], 2: [[1]]}, ORDERS, "a size at N = 3 is negative or not finite"),
        ({3: [[1]], 1: [[1]], 2: [[1]]}, (0.5, 1, 2), "orders of moments are needed"),
        ({3: [[1]], 1: [[1]], 2: [[1]]}, (0, 1, 2, 3), "orders of moments are needed"),
    ],
)
def test_bad_input_is_one_sentence(sizes, orders, message):
    with pytest.raises(InputError, match=message):
        moment_exponents({n: [np.array(r) for r in of] for n, of in sizes.items()}, orders)
