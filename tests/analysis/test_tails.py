"""The CCDF against its definition, and fitted tails against samples whose law is known."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import zeta
from scipy.stats import chi2, norm

from gradquake.analysis.distributions import ccdf, ccdfs
from gradquake.analysis.resampling import run_resamples, tail_share
from gradquake.analysis.tails import ALTERNATIVES, FEWEST_DECADES, tail_fit, tail_fits, tail_summary
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
        tail = tail_share(len(runs))
        low, high = np.quantile(shares, [tail, 1 - tail], axis=0)
        assert scale.low == pytest.approx(low, abs=1e-12)
        assert scale.high == pytest.approx(high, abs=1e-12)
        assert scale.stderr == pytest.approx(np.std(shares, axis=0, ddof=1), abs=1e-12)


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


@pytest.mark.parametrize("transposed", [False, True])
def test_chosen_snapshots_are_those_of_a_loop(random_sweep, random_sizes, transposed):
    chosen = np.random.default_rng(3).random(random_sweep["size"].shape) < 0.6
    # One run without a chosen snapshot, one with all, and a scale without any.
    chosen[0], chosen[1] = False, True
    chosen[random_sweep["n_parameters"].values == 401] = False
    where = xr.DataArray(chosen, dims=("run", "epoch"))
    found = ccdfs(random_sweep, where.T if transposed else where, n_resamples=40, seed=4)
    scales = sorted(random_sizes)
    draws = dict(zip(scales, run_resamples([len(random_sizes[n]) for n in scales], 40, 4), strict=True))
    assert [scale.n_parameters for scale in found] == [n for n in scales if n != 401]
    for scale in found:
        picked = chosen[random_sweep["n_parameters"].values == scale.n_parameters]
        runs = [run[use] for run, use in zip(random_sizes[scale.n_parameters], picked, strict=True)]
        values, probability = ccdf(np.concatenate(runs))
        assert np.array_equal(scale.sizes, values)
        assert np.array_equal(scale.probability, probability)
        shares = []
        for resample in draws[scale.n_parameters]:
            pooled = [size for run in resample for size in runs[run]]
            shares.append([share_larger(pooled, value) for value in values])
        tail = tail_share(len(runs))
        low, high = np.quantile(shares, [tail, 1 - tail], axis=0)
        assert scale.low == pytest.approx(low, abs=1e-12)
        assert scale.high == pytest.approx(high, abs=1e-12)
        assert scale.stderr == pytest.approx(np.std(shares, axis=0, ddof=1), abs=1e-12)


def test_choosing_every_snapshot_changes_nothing(random_sweep):
    everything = random_sweep["size"] >= 0
    for scale, same in zip(ccdfs(random_sweep), ccdfs(random_sweep, everything), strict=True):
        for name in ("sizes", "probability", "low", "high", "stderr"):
            assert np.array_equal(getattr(scale, name), getattr(same, name))


def test_no_chosen_snapshot_leaves_no_scale(random_sweep):
    nothing = random_sweep["size"] < 0
    assert ccdfs(random_sweep, nothing) == []
    assert tail_fits(random_sweep, nothing) == []


def test_the_scatter_of_one_run_is_unknown(sweep_of):
    sizes = {85: [[1, 2, 3]], 201: [[1, 2, 4], [2, 3, 5]]}
    for scale in ccdfs(sweep_of(sizes), n_resamples=20):
        for band in (scale.low, scale.high, scale.stderr):
            assert np.isnan(band).all()
            assert band.shape == scale.sizes.shape


@pytest.mark.parametrize("runs_with_snapshots", [1, 2])
def test_a_band_needs_two_runs_with_snapshots(sweep_of, runs_with_snapshots):
    sweep = sweep_of({85: np.arange(12).reshape(6, 2), 201: np.arange(12).reshape(6, 2)})
    where = sweep["size"] >= 0
    where.values[runs_with_snapshots:6] = False
    partial, whole = ccdfs(sweep, where, n_resamples=200)
    # Of 200 resamples of six runs about 18 take neither of two: too many without a value.
    assert np.isnan(partial.stderr).all()
    assert np.isfinite(whole.stderr).all()


def test_resamples_without_a_snapshot_are_left_out(sweep_of):
    sweep = sweep_of({85: np.arange(12).reshape(6, 2)})
    where = sweep["size"] >= 0
    where.values[3:] = False
    (scale,) = ccdfs(sweep, where, n_resamples=500, seed=1)
    (draws,) = run_resamples([6], 500, 1)
    runs = [[0, 1], [2, 3], [4, 5], [], [], []]
    pooled = [[size for run in draw for size in runs[run]] for draw in draws]
    assert not all(pooled)
    shares = [[share_larger(sample, size) for size in range(6)] for sample in pooled if sample]
    assert scale.stderr == pytest.approx(np.std(shares, axis=0, ddof=1), abs=1e-12)


def power_law(alpha, xmin, n, seed):
    """Draw sizes with P(>= s) = zeta(alpha, s) / zeta(alpha, xmin) by inversion."""
    share = np.random.default_rng(seed).random(n)

    def beyond(s):
        return zeta(alpha, s.astype(float)) / zeta(alpha, xmin) > share

    low, high = np.full(n, xmin), np.full(n, 2 * xmin)
    while (further := beyond(high)).any():
        low, high = np.where(further, high, low), np.where(further, 2 * high, high)
    while (high - low > 1).any():
        middle = (low + high) // 2
        further = beyond(middle)
        low, high = np.where(further, middle, low), np.where(further, high, middle)
    return low


def against(fit, alternative):
    (comparison,) = [c for c in fit.comparisons if c.alternative == alternative]
    return comparison


@pytest.mark.parametrize(("alpha", "xmin"), [(1.5, 1), (2.0, 1), (2.5, 5), (6.0, 40), (10.0, 700)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_exponent_of_a_power_law_is_recovered(alpha, xmin, seed):
    sizes = power_law(alpha, xmin, 1_000, seed)
    fit = tail_fit(sizes, 85)
    assert fit.n_parameters == 85
    assert fit.n_avalanches == 1_000
    assert fit.n_zero == 0
    assert fit.n_tail == (sizes >= fit.xmin).sum()
    assert fit.value == pytest.approx(alpha, abs=4 * fit.stderr)
    assert fit.decades == pytest.approx(np.log10(sizes.max() / sizes.min()))
    assert [c.alternative for c in fit.comparisons] == list(ALTERNATIVES)
    assert fit.heavier_than_exponential or fit.decades < FEWEST_DECADES


@pytest.mark.parametrize(("alpha", "xmin"), [(1.5, 1), (2.5, 5), (10.0, 700)])
def test_a_given_start_is_kept(alpha, xmin):
    fit = tail_fit(np.concatenate([np.arange(1, xmin), power_law(alpha, xmin, 2_000, 2)]), xmin=xmin)
    assert fit.xmin == xmin
    assert fit.n_tail == 2_000
    assert fit.value == pytest.approx(alpha, abs=4 * fit.stderr)


def test_a_wide_power_law_carries_no_warning():
    fit = tail_fit(power_law(1.8, 1, 2_000, 2))
    assert fit.decades > 3
    assert fit.message == ""
    for comparison in fit.comparisons:
        assert comparison.log_likelihood_ratio > 0 or comparison.p_value > 0.05


def test_a_body_below_the_power_law_is_left_out():
    body = np.random.default_rng(0).integers(1, 20, size=2_000)
    fit = tail_fit(np.concatenate([body, power_law(2.5, 20, 2_000, 3)]))
    assert 18 <= fit.xmin <= 40
    assert fit.value == pytest.approx(2.5, abs=4 * fit.stderr)


def test_the_standard_error_is_that_of_the_likelihood():
    fit = tail_fit(power_law(3.0, 2, 2_000, 0))
    # The curvature of the log-likelihood is n times the variance of log s under the fitted law.
    s = np.arange(fit.xmin, 1_000_000)
    p = s**-fit.value / (s**-fit.value).sum()
    variance = p @ np.log(s) ** 2 - (p @ np.log(s)) ** 2
    assert fit.stderr == pytest.approx(1 / np.sqrt(fit.n_tail * variance), rel=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exponential_sizes_are_no_power_law(seed):
    sizes = np.random.default_rng(seed).geometric(0.02, size=1_000)
    for fit in (tail_fit(sizes), tail_fit(sizes, xmin=1)):
        assert not fit.heavier_than_exponential
    exponential = against(fit, "exponential")
    assert exponential.log_likelihood_ratio < 0
    assert exponential.p_value < 0.05


@pytest.mark.parametrize("seed", [0, 1])
def test_lognormal_sizes_are_no_power_law(seed):
    sizes = np.ceil(np.random.default_rng(seed).lognormal(4.0, 0.8, size=1_000))
    searched, whole = (against(tail_fit(sizes, xmin=xmin), "lognormal") for xmin in (None, 10))
    assert searched.log_likelihood_ratio < 0 or searched.p_value > 0.05
    assert whole.log_likelihood_ratio < 0
    assert whole.p_value < 0.05


def cut_off(alpha, rate, xmin, n):
    """Draw from p(s) ~ s^(-alpha) e^(-rate s), s >= xmin."""
    s = np.arange(xmin, 20_000)
    p = s**-alpha * np.exp(-rate * s)
    return np.random.default_rng(0).choice(s, size=n, p=p / p.sum())


def test_a_cut_off_is_found():
    fit = tail_fit(cut_off(1.5, 0.02, 1, 4_000), xmin=1)
    truncated = against(fit, "truncated_power_law")
    assert truncated.log_likelihood_ratio < 0
    assert truncated.p_value < 1e-3
    assert truncated.message == ""


@pytest.mark.parametrize(("alpha", "rate", "xmin"), [(1.5, 0.02, 1), (2.0, 0.01, 60), (8.0, 0.01, 400)])
def test_ratios_are_those_of_independent_fits(alpha, rate, xmin):
    sizes = cut_off(alpha, rate, xmin, 2_000)
    fit = tail_fit(sizes, xmin=xmin)
    tail = sizes[sizes >= fit.xmin].astype(float)
    integers = np.arange(fit.xmin, 200_000)

    def log_p(alpha, rate):
        of_integers = (integers / fit.xmin) ** -alpha * np.exp(-rate * (integers - fit.xmin))
        of_tail = -alpha * np.log(tail / fit.xmin) - rate * (tail - fit.xmin)
        return of_tail - np.log(of_integers.sum())

    power = -fit.value * np.log(tail) - np.log(zeta(fit.value, fit.xmin))
    rate = np.log1p(1 / (tail - fit.xmin).mean())
    exponential = np.log(-np.expm1(-rate)) - rate * (tail - fit.xmin)
    best = minimize(
        lambda x: -log_p(*x).sum(), [1.0, rate / 2], method="L-BFGS-B", bounds=[(0, 20), (1e-6, 1)]
    )
    for alternative, log_likelihood in (
        ("exponential", exponential),
        ("truncated_power_law", log_p(*best.x)),
    ):
        difference = power - log_likelihood
        expected = difference.sum() / (np.sqrt(tail.size) * difference.std())
        found = against(fit, alternative)
        assert found.log_likelihood_ratio == pytest.approx(expected, rel=0.01, abs=1e-3)
        significance = (
            norm.sf(abs(expected)) * 2
            if alternative == "exponential"
            else chi2.sf(2 * abs(difference.sum()), df=1)
        )
        assert found.p_value == pytest.approx(significance, abs=2e-3)


def test_fits_agree_with_the_package_where_it_has_the_digits():
    import powerlaw

    sizes = power_law(2.4, 4, 300, 8)
    ours = tail_fit(sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = powerlaw.Fit(
            sizes, discrete=True, estimate_discrete=False, parameter_ranges={"alpha": [1, 9]}, verbose=0
        )
        assert ours.xmin == theirs.xmin
        assert ours.value == pytest.approx(theirs.power_law.alpha, abs=1e-3)
        for alternative in ("exponential", "lognormal"):
            ratio, p_value = theirs.distribution_compare("power_law", alternative, normalized_ratio=True)
            found = against(ours, alternative)
            assert found.log_likelihood_ratio == pytest.approx(ratio, abs=1e-2)
            assert found.p_value == pytest.approx(p_value, abs=1e-2)


def test_narrow_sizes_carry_a_warning():
    sizes = power_law(12.0, 300, 500, 0)
    fit = tail_fit(sizes)
    assert fit.decades < FEWEST_DECADES
    assert "decades; over less than 1.5 a fit decides nothing." in fit.message
    # No exponent is too large to be found.
    assert fit.value == pytest.approx(12.0, abs=4 * fit.stderr)


def test_a_small_tail_carries_a_warning():
    assert "The tail has only" in tail_fit(power_law(2.0, 1, 30, 0)).message


def test_fits_with_nothing_to_find_say_so():
    # An exponential in the place of the truncated power law, and no cut-off in a power law.
    even = tail_fit(np.arange(100, 150), xmin=100)
    assert "is an exponential" in against(even, "truncated_power_law").message
    heavier = tail_fit(np.append(power_law(2.5, 1, 500, 1), [10**6, 10**7]), xmin=1)
    assert "is the power law" in against(heavier, "truncated_power_law").message
    assert "tends to a power law" in against(heavier, "lognormal").message


def test_equal_likelihoods_decide_nothing():
    # The best truncated power law is, to the last bit, the power law.
    fit = tail_fit([5_001, *[5_002] * 5, 38_374, 942_667, 50_713_568])
    truncated = against(fit, "truncated_power_law")
    assert truncated.log_likelihood_ratio == pytest.approx(0, abs=1e-3)
    assert truncated.p_value == pytest.approx(1, abs=1e-2)


def test_zeros_are_counted_and_left_out():
    sizes = power_law(2.0, 1, 500, 1)
    without, with_zeros = tail_fit(sizes), tail_fit(np.concatenate([np.zeros(40, int), sizes]))
    assert with_zeros.n_zero == 40
    assert with_zeros.n_avalanches == 540
    assert with_zeros.value == without.value
    assert with_zeros.decades == without.decades
    assert with_zeros.comparisons == without.comparisons


@pytest.mark.parametrize(
    ("sizes", "distinct", "decades"),
    [
        ([0, 0, 0], "A fit needs 3 distinct sizes of at least 1; there are 0.", np.nan),
        ([7], "A fit needs 3 distinct sizes of at least 1; there are 1.", 0.0),
        ([7] * 100, "A fit needs 3 distinct sizes of at least 1; there are 1.", 0.0),
        ([0, 1, 10, 10], "A fit needs 3 distinct sizes of at least 1; there are 2.", 1.0),
    ],
)
def test_too_few_distinct_sizes_have_no_fit(sizes, distinct, decades):
    fit = tail_fit(sizes, 85)
    assert fit.message.startswith(distinct)
    assert fit.decades == pytest.approx(decades, nan_ok=True)
    assert np.isnan([fit.value, fit.stderr, fit.xmin]).all()
    assert (fit.n_avalanches, fit.n_zero, fit.n_tail) == (len(sizes), sizes.count(0), 0)
    assert fit.comparisons == ()
    assert not fit.heavier_than_exponential


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 6) | st.integers(5_000, 5_003) | st.integers(0, 10**9), min_size=3))
def test_any_sizes_give_a_fit_or_a_message(sizes):
    fit = tail_fit(sizes)
    if len(set(sizes) - {0}) < 3:
        assert fit.message
        return
    assert 1 < fit.value < np.inf
    assert 0 < fit.stderr < np.inf
    assert fit.xmin in sizes
    for comparison in fit.comparisons:
        assert np.isfinite(comparison.log_likelihood_ratio)
        assert 0 <= comparison.p_value <= 1


@pytest.mark.parametrize("bad", [[1, -2, 3], [1.5, 2, 3], [1, np.nan, 3], [1, np.inf, 3], ["a", "b"]])
def test_a_size_is_a_whole_number(bad):
    with pytest.raises(InputError, match="a size is not a whole number"):
        tail_fit(bad)


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_a_start_is_a_positive_count(bad):
    with pytest.raises(InputError, match="xmin is"):
        tail_fit([1, 2, 3, 4], xmin=bad)


def test_a_start_beyond_the_sizes_has_no_fit():
    fit = tail_fit([1, 2, 3, 4, 5], xmin=4)
    assert fit.message == "A fit needs 3 distinct sizes of at least 4; there are 2."
    assert np.isnan(fit.value)


def test_a_fit_needs_an_avalanche():
    with pytest.raises(InputError, match="no avalanche was given"):
        tail_fit([])


def test_each_scale_has_its_own_fit(sweep_of):
    sizes = {n: power_law(2.0, 1, 400, n).reshape(8, 50) for n in (85, 201)}
    sweep = sweep_of(sizes)
    assert tail_fits(sweep) == [tail_fit(sizes[n], n) for n in sizes]
    early = sweep["epoch"] < 25
    where = xr.ones_like(sweep["size"], dtype=bool) & early
    assert tail_fits(sweep, where) == [tail_fit(sizes[n][:, :25], n) for n in sizes]


def test_fitting_prints_nothing(capsys):
    tail_fit(power_law(2.0, 1, 200, 0))
    assert capsys.readouterr() == ("", "")


def test_fits_are_summed_up():
    wide, narrow = tail_fit(power_law(1.5, 1, 4000, 0)), tail_fit(np.arange(40, 60))
    found = tail_summary([wide, narrow, narrow, narrow])
    assert wide.heavier_than_exponential
    assert not narrow.heavier_than_exponential
    assert found == (0.25, wide.decades)
