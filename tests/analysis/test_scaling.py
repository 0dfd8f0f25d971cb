"""Exponents against scipy and against naive loops, and what they say where there is none."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gradquake.analysis import scaling
from gradquake.analysis.dimension import curve, dimension, resampled_dimension
from gradquake.analysis.fits import fit_exponent, r_squared, slopes
from gradquake.analysis.resampling import percentile_interval, run_resamples, tail_share
from gradquake.analysis.scale_choices import local_slopes, without_scales
from gradquake.errors import InputError

STATISTICS = {"max": np.max, "mean": np.mean}
by_statistic = pytest.mark.parametrize("statistic", STATISTICS)
scales = st.lists(st.integers(2, 10**6), min_size=3, max_size=12, unique=True)


def noisy_power_law(n_scales, seed):
    rng = np.random.default_rng(seed)
    n = np.geomspace(50, 5_000, n_scales)
    return n, 2.5 * n**1.1 * np.exp(0.3 * rng.standard_normal(n_scales))


def naive_sizes(sizes, statistic, draws=None, resample=None, masks=None):
    """One pooled size a scale, from plain loops over runs and snapshots."""
    pooled = []
    for position, (n, of_scale) in enumerate(sorted(sizes.items())):
        runs = range(len(of_scale)) if draws is None else draws[position][resample]
        values = [
            of_scale[run][snapshot]
            for run in runs
            for snapshot in range(len(of_scale[run]))
            if masks is None or masks[n][run][snapshot]
        ]
        pooled.append(STATISTICS[statistic](values))
    return pooled


def naive_slope(sizes, pooled):
    return stats.linregress(np.log(sorted(sizes)), np.log(pooled)).slope


def masks_of(sizes, share, seed):
    """Random masks that leave every run at least its first snapshot."""
    rng = np.random.default_rng(seed)
    masks = {n: rng.random(np.shape(of_scale)) < share for n, of_scale in sizes.items()}
    for mask in masks.values():
        mask[:, 0] = True
    return masks


def as_where(masks):
    return xr.DataArray(np.concatenate([masks[n] for n in sorted(masks)]), dims=("run", "epoch"))


def without(sizes, n):
    return {key: value for key, value in sizes.items() if key != n}


@pytest.mark.parametrize("n_scales", [3, 4, 8, 30])
def test_a_fit_is_scipys_linear_regression_in_log_log(n_scales):
    n, sizes = noisy_power_law(n_scales, seed=n_scales)
    fit, reference = fit_exponent(n, sizes), stats.linregress(np.log(n), np.log(sizes))
    assert fit.exponent == pytest.approx(reference.slope, rel=1e-12)
    assert fit.intercept == pytest.approx(reference.intercept, rel=1e-10)
    assert fit.stderr == pytest.approx(reference.stderr, rel=1e-10)
    assert fit.r_squared == pytest.approx(reference.rvalue**2, rel=1e-10)
    assert (fit.n_scales, fit.message) == (n_scales, "")


@pytest.mark.parametrize("n_scales", [3, 5, 12])
def test_the_interval_of_a_fit_is_student_t(n_scales):
    fit = fit_exponent(*noisy_power_law(n_scales, seed=1))
    expected = stats.t.interval(0.95, n_scales - 2, loc=fit.exponent, scale=fit.stderr)
    assert (fit.low, fit.high) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(scales, st.floats(-4, 4), st.floats(1e-3, 1e3))
def test_a_power_law_gives_its_exponent_and_prefactor(n, exponent, prefactor):
    fit = fit_exponent(n, prefactor * np.array(n, float) ** exponent)
    # A rounding error of 1e-16 in log size is divided by the spread of log N.
    tolerance = 1e-13 / np.log(n).std()
    assert fit.exponent == pytest.approx(exponent, abs=tolerance)
    assert fit.intercept == pytest.approx(np.log(prefactor), abs=20 * tolerance)
    assert fit.low <= fit.exponent <= fit.high


@pytest.mark.parametrize("exponent", [-2.0, 0.25, 1.0, 1.2])
def test_a_power_law_is_explained_wholly(exponent):
    n = np.array([81, 201, 401, 801, 2001])
    fit = fit_exponent(n, 3.0 * n**exponent)
    assert fit.r_squared == pytest.approx(1, abs=1e-12)
    assert fit.stderr == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(scales, st.floats(1e-3, 1e3), st.data())
def test_a_common_factor_of_the_sizes_only_moves_the_intercept(n, factor, data):
    numbers = st.lists(st.integers(1, 10**6), min_size=len(n), max_size=len(n))
    sizes = np.array(data.draw(numbers), float)
    one, other = fit_exponent(n, sizes), fit_exponent(n, factor * sizes)
    tolerance = 1e-12 / np.log(n).std()
    assert other.exponent == pytest.approx(one.exponent, abs=tolerance)
    assert other.stderr == pytest.approx(one.stderr, abs=1e-6 + tolerance)
    assert other.intercept == pytest.approx(one.intercept + np.log(factor), abs=20 * tolerance)


def test_the_unit_of_n_only_moves_the_intercept():
    n, sizes = noisy_power_law(6, seed=2)
    one, other = fit_exponent(n, sizes), fit_exponent(10 * n, sizes)
    assert other.exponent == pytest.approx(one.exponent)
    assert other.r_squared == pytest.approx(one.r_squared)
    assert other.intercept == pytest.approx(one.intercept - one.exponent * np.log(10))


@pytest.mark.parametrize(
    ("n", "sizes", "message"),
    [
        ([], [], "A fit needs 3 scales; there are 0."),
        ([10, 20], [1, 2], "A fit needs 3 scales; there are 2."),
        ([10, 10, 10], [1, 2, 3], "A fit needs different N; all scales have the same."),
        ([10, 20, 30], [1, 0, 3], "There is no avalanche with a positive size at N = 20."),
        (
            [10, 20, 30, 40],
            [np.nan, 2, 3, -4],
            "There is no avalanche with a positive size at N = 10, 40.",
        ),
        ([10, 20, 30], [1, 2, np.inf], "There is no avalanche with a positive size at N = 30."),
    ],
)
def test_a_fit_that_cannot_be_made_says_why(n, sizes, message):
    fit = fit_exponent(n, sizes)
    numbers = [fit.exponent, fit.stderr, fit.low, fit.high, fit.r_squared, fit.intercept]
    assert fit.message == message
    assert fit.n_scales == len(n)
    assert np.isnan(numbers).all()


@pytest.mark.parametrize(
    ("n", "sizes", "message"),
    [
        ([10, 20, 30], [1, 2], r"shape \(3,\) and sizes \(2,\); two equally long vectors"),
        ([[10, 20, 30]], [[1, 2, 3]], "two equally long vectors are needed"),
        (10, 5, "two equally long vectors are needed"),
        ([0, 20, 30], [1, 2, 3], "an N is not a positive finite number"),
        ([-10, 20, 30], [1, 2, 3], "an N is not a positive finite number"),
        ([np.nan, 20, 30], [1, 2, 3], "an N is not a positive finite number"),
    ],
)
def test_a_fit_refuses_what_are_not_scales(n, sizes, message):
    with pytest.raises(InputError, match=message):
        fit_exponent(n, sizes)


def test_many_fits_at_once_are_the_single_fits():
    n = np.array([85, 201, 401, 1201])
    sizes = np.exp(np.random.default_rng(8).standard_normal((2, 3, 4)))
    exponents, explained = slopes(n, sizes), r_squared(n, sizes)
    assert exponents.shape == explained.shape == (2, 3)
    for index in np.ndindex(2, 3):
        fit = fit_exponent(n, sizes[index])
        assert exponents[index] == pytest.approx(fit.exponent, rel=1e-12)
        assert explained[index] == pytest.approx(fit.r_squared, rel=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_many_fits_are_missing_only_where_a_size_is(bad):
    sizes = np.array([[1.0, 2.0, 4.0], [1.0, bad, 4.0]])
    exponents = slopes([10, 20, 40], sizes)
    assert exponents[0] == pytest.approx(1)
    assert np.isnan(exponents[1])


def test_the_coefficient_of_variation_by_hand():
    # 1, 2, 3 has sample standard deviation 1 and mean 2.
    assert scaling.coefficient_of_variation(np.array([1.0, 2.0, 3.0])) == pytest.approx(0.5)


@by_statistic
def test_an_exponent_is_the_fit_to_the_pooled_sizes(random_sweep, random_sizes, statistic):
    result = scaling.exponent(random_sweep, statistic, n_resamples=10)
    pooled = naive_sizes(random_sizes, statistic)
    assert result.statistic == statistic
    assert result.n_parameters.tolist() == sorted(random_sizes)
    assert result.sizes.value == pytest.approx(pooled)
    assert result.fit == fit_exponent(result.n_parameters, result.sizes.value)
    assert result.value == pytest.approx(naive_slope(random_sizes, pooled))


@by_statistic
@pytest.mark.parametrize("seed", [0, 5])
def test_the_bootstrap_is_a_loop_over_its_draws(random_sweep, random_sizes, statistic, seed):
    result = scaling.exponent(random_sweep, statistic, n_resamples=12, seed=seed)
    draws = run_resamples([len(random_sizes[n]) for n in sorted(random_sizes)], 12, seed)
    for resample in range(12):
        pooled = naive_sizes(random_sizes, statistic, draws, resample)
        assert result.size_resamples[resample] == pytest.approx(pooled)
        assert result.resamples[resample] == pytest.approx(naive_slope(random_sizes, pooled))
    # The smallest scale, N = 401, has three runs.
    assert result.runs == 3
    expected = percentile_interval(result.resamples, 3)
    assert result.invalid == expected.invalid
    # No resample of a maximum exceeds it: its interval is Student's t of the line.
    ends = result.fit if statistic == "max" else expected
    assert (result.low, result.high) == (ends.low, ends.high)


@by_statistic
def test_only_the_chosen_snapshots_count(random_sweep, random_sizes, statistic):
    masks = masks_of(random_sizes, share=0.5, seed=3)
    result = scaling.exponent(random_sweep, statistic, as_where(masks), n_resamples=8, seed=2)
    draws = run_resamples([len(random_sizes[n]) for n in sorted(random_sizes)], 8, 2)
    assert result.sizes.value == pytest.approx(naive_sizes(random_sizes, statistic, masks=masks))
    for resample in range(8):
        pooled = naive_sizes(random_sizes, statistic, draws, resample, masks)
        assert result.resamples[resample] == pytest.approx(naive_slope(random_sizes, pooled))


@by_statistic
def test_choosing_all_snapshots_changes_nothing(random_sweep, statistic):
    everything = xr.ones_like(random_sweep["size"], dtype=bool)
    one = scaling.exponent(random_sweep, statistic, n_resamples=20)
    other = scaling.exponent(random_sweep, statistic, everything, n_resamples=20)
    assert one.fit == other.fit
    assert np.array_equal(one.resamples, other.resamples)


@by_statistic
def test_a_scale_without_snapshots_leaves_no_exponent(random_sweep, random_sizes, statistic):
    masks = {n: np.full(np.shape(s), n != 401) for n, s in random_sizes.items()}
    result = scaling.exponent(random_sweep, statistic, as_where(masks), n_resamples=10)
    # Three scales are left, which are enough for a fit that would be another exponent.
    assert result.fit.message == "There is no snapshot at N = 401."
    assert result.fit.n_scales == 4
    assert np.isnan(result.sizes.value).tolist() == [False, False, True, False]
    assert np.isnan(result.size_resamples[:, 2]).all()
    assert np.isnan(result.value)
    assert np.isnan(result.resamples).all()
    assert np.isnan([result.low, result.high]).all()
    assert result.invalid == 1


@by_statistic
def test_resamples_without_a_chosen_snapshot_are_counted(random_sweep, random_sizes, statistic):
    masks = {n: np.ones(np.shape(s), bool) for n, s in random_sizes.items()}
    masks[401][1:] = False
    result = scaling.exponent(random_sweep, statistic, as_where(masks), n_resamples=500)
    _, _, draws, _ = run_resamples([4, 6, 3, 5], 500)
    missing = ~(draws == 0).any(axis=1)
    assert np.array_equal(np.isnan(result.resamples), missing)
    # (2/3)^3 = 0.30 of the resamples do not contain the one run of N = 401 with snapshots.
    assert result.invalid == pytest.approx(missing.mean())
    assert np.isnan(result.low)
    assert np.isfinite(result.value)


def test_two_scales_have_no_exponent(sweep_of, random_sizes):
    two = {n: random_sizes[n] for n in (85, 401)}
    result = scaling.exponent(sweep_of(two), n_resamples=10)
    assert result.fit.message == "A fit needs 3 scales; there are 2."
    assert np.isnan(result.resamples).all()


@by_statistic
def test_a_seed_decides_the_bootstrap_alone(random_sweep, statistic):
    one, two, other = (
        scaling.exponent(random_sweep, statistic, n_resamples=50, seed=s) for s in (1, 1, 2)
    )
    assert np.array_equal(one.resamples, two.resamples)
    assert (one.low, one.high) == (two.low, two.high)
    assert not np.array_equal(one.resamples, other.resamples)
    assert one.fit == other.fit


@pytest.mark.parametrize("function", [scaling.exponent, scaling.snapshot_interval, dimension])
def test_an_unknown_statistic_is_refused(random_sweep, function):
    with pytest.raises(InputError, match="statistic is 'median'; one of max, mean is needed"):
        function(random_sweep, "median", n_resamples=5)


@by_statistic
def test_snapshots_of_one_run_are_wrongly_taken_as_independent(sweep_of, statistic):
    rng = np.random.default_rng(11)
    # Every snapshot repeats its run, so that 30 of them say no more than one.
    sizes = {
        n: np.ceil(n * np.exp(rng.standard_normal((8, 1)))) * np.ones(30) for n in (85, 201, 401, 1201)
    }
    dataset = sweep_of(sizes)
    over_runs = scaling.exponent(dataset, statistic, n_resamples=1_000)
    over_snapshots = scaling.snapshot_interval(dataset, statistic, n_resamples=1_000)
    assert over_snapshots.high - over_snapshots.low < 0.5 * (over_runs.high - over_runs.low)


@by_statistic
def test_with_one_snapshot_a_run_both_bootstraps_agree(sweep_of, statistic):
    rng = np.random.default_rng(12)
    sizes = {n: np.ceil(n * rng.gamma(3.0, size=(15, 1))) for n in (85, 201, 401, 1201)}
    dataset = sweep_of(sizes)
    over_runs = scaling.exponent(dataset, statistic, n_resamples=4_000)
    over_runs = percentile_interval(over_runs.resamples, over_runs.runs)
    over_snapshots = scaling.snapshot_interval(dataset, statistic, n_resamples=4_000, seed=1)
    width = over_runs.high - over_runs.low
    assert over_snapshots.low == pytest.approx(over_runs.low, abs=0.1 * width)
    assert over_snapshots.high == pytest.approx(over_runs.high, abs=0.1 * width)


@by_statistic
def test_a_snapshot_interval_without_an_exponent_is_empty(random_sweep, random_sizes, statistic):
    masks = {n: np.full(np.shape(s), n != 401) for n, s in random_sizes.items()}
    interval = scaling.snapshot_interval(random_sweep, statistic, as_where(masks), n_resamples=10)
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.invalid == 1


def test_a_snapshot_interval_of_two_scales_is_empty(sweep_of, random_sizes):
    two = {n: random_sizes[n] for n in (85, 401)}
    interval = scaling.snapshot_interval(sweep_of(two), n_resamples=10)
    assert np.isnan([interval.low, interval.high]).all()


@by_statistic
def test_a_snapshot_interval_uses_the_chosen_snapshots_alone(sweep_of, random_sizes, statistic):
    masks = {n: np.tile([True, True, False, False, True], (len(s), 1)) for n, s in random_sizes.items()}
    kept = {n: np.asarray(s)[:, [0, 1, 4]] for n, s in random_sizes.items()}
    one = scaling.snapshot_interval(sweep_of(random_sizes), statistic, as_where(masks), n_resamples=100)
    assert one == scaling.snapshot_interval(sweep_of(kept), statistic, n_resamples=100)


@by_statistic
def test_each_epoch_of_d_is_a_fit_of_its_own(random_sweep, random_sizes, statistic):
    result = dimension(random_sweep, statistic, n_resamples=10)
    assert result.attrs["statistic"] == statistic
    assert np.array_equal(result["epoch"], random_sweep["epoch"])
    for position in range(random_sweep.sizes["epoch"]):
        at_epoch = {n: s[:, [position]] for n, s in random_sizes.items()}
        fit = fit_exponent(sorted(random_sizes), naive_sizes(at_epoch, statistic))
        found = result.isel(epoch=position)
        assert float(found["value"]) == pytest.approx(fit.exponent, rel=1e-12)
        assert float(found["stderr"]) == pytest.approx(fit.stderr, rel=1e-12)
        assert float(found["r_squared"]) == pytest.approx(fit.r_squared, rel=1e-12)


def resampled(sweep, statistic, **bootstrap):
    """Return the exponents and R² of all blocks, (B, epochs) each."""
    blocks = list(resampled_dimension(sweep, statistic, **bootstrap))
    return [np.concatenate([block[i] for block in blocks], axis=1) for i in (1, 2)]


@by_statistic
def test_the_bootstrap_of_d_is_a_loop_over_its_draws(random_sweep, random_sizes, statistic):
    slopes, r_squared = resampled(random_sweep, statistic, n_resamples=6, seed=4)
    draws = run_resamples([len(random_sizes[n]) for n in sorted(random_sizes)], 6, 4)
    for resample, position in np.ndindex(6, 5):
        at_epoch = {n: s[:, [position]] for n, s in random_sizes.items()}
        pooled = naive_sizes(at_epoch, statistic, draws, resample)
        fit = fit_exponent(sorted(random_sizes), pooled)
        assert slopes[resample, position] == pytest.approx(fit.exponent, rel=1e-12)
        assert r_squared[resample, position] == pytest.approx(fit.r_squared, rel=1e-12)


@by_statistic
def test_the_interval_of_d_holds_the_percentiles_of_its_resamples(random_sweep, statistic):
    result = curve(random_sweep, statistic, n_resamples=300)
    assert result.dimension.attrs["fewest_runs"] == 3
    tail = tail_share(3)
    curves = resampled(random_sweep, statistic, n_resamples=300)
    for found, resamples in zip((result.dimension, result.r_squared()), curves, strict=True):
        low, high = np.quantile(resamples, [tail, 1 - tail], axis=0)
        if statistic == "max" and found is result.dimension:
            # Four scales leave two degrees of freedom.
            margin = stats.t.ppf(0.975, 2) * found["stderr"].values
            low, high = found["value"].values - margin, found["value"].values + margin
        assert found["low"].values == pytest.approx(low)
        assert found["high"].values == pytest.approx(high)
        assert (found["low"] < found["high"]).all()
    assert result.r_squared()["value"].equals(result.dimension["r_squared"].rename("value"))
    assert set(result.r_squared()) == {"value", "low", "high"}


@by_statistic
def test_the_intervals_of_the_sizes_are_those_of_their_resamples(random_sweep, statistic):
    result = scaling.exponent(random_sweep, statistic, n_resamples=100)
    for position, runs in enumerate(result.runs_of_scale):
        interval = percentile_interval(result.size_resamples[:, position], int(runs))
        assert result.sizes.low[position] == pytest.approx(interval.low)
        assert result.sizes.high[position] == pytest.approx(interval.high)


def test_a_slim_exponent_is_the_same_without_its_resamples(random_sweep):
    whole = scaling.exponent(random_sweep, n_resamples=20)
    slim = whole.slim()
    for name in ("resamples", "size_resamples"):
        with pytest.raises(InputError, match="dropped the resamples"):
            getattr(slim, name)
    assert (slim.value, slim.low, slim.high, slim.runs) == (whole.value, whole.low, whole.high, 3)
    assert np.array_equal(slim.sizes.value, whole.sizes.value)
    assert whole.resamples.shape == (20,)


@by_statistic
def test_a_long_sweep_is_resampled_in_blocks_without_a_gap(sweep_of, statistic, monkeypatch):
    rng = np.random.default_rng(13)
    sizes = {n: rng.integers(0, n, size=(4, 50)) for n in (85, 401, 1201)}
    sweep = sweep_of(sizes)
    # Half of the runs end early.
    sweep = sweep.where((sweep["seed"] < 2) | (sweep["epoch"] < 20))
    whole = dimension(sweep, statistic, n_resamples=90)
    in_one = resampled(sweep, statistic, n_resamples=90)
    # 12 numbers for each resample at an epoch: 7 epochs in a block.
    monkeypatch.setattr("gradquake.analysis.dimension.MOST_HELD", 90 * 12 * 7)
    blocks = list(resampled_dimension(sweep, statistic, n_resamples=90))
    assert [block.epochs for block in blocks][-1] == slice(49, 50)
    assert all(block.exponents.shape[1] <= 7 for block in blocks)
    in_blocks = resampled(sweep, statistic, n_resamples=90)
    for one, other in zip(in_one, in_blocks, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    assert dimension(sweep, statistic, n_resamples=90).identical(whole)


@by_statistic
def test_an_epoch_at_which_a_scale_has_no_avalanche_has_no_d(sweep_of, random_sizes, statistic):
    sizes = {n: s.copy() for n, s in random_sizes.items()}
    sizes[401][:, 2] = 0
    result = dimension(sweep_of(sizes), statistic, n_resamples=40)
    for name in ("value", "stderr", "r_squared", "low", "high"):
        assert np.isnan(result[name].values).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("n_scales", [1, 2])
def test_d_needs_three_scales(sweep_of, random_sizes, n_scales):
    few = {n: random_sizes[n] for n in sorted(random_sizes)[:n_scales]}
    with pytest.raises(InputError, match=f"has {n_scales} scales; D\\(t\\) needs at least 3"):
        dimension(sweep_of(few), n_resamples=10)


def test_d_keeps_the_epochs_of_a_sparse_sweep(sweep_of, random_sizes):
    dataset = sweep_of(random_sizes, epochs=[0, 10, 20, 50, 100])
    result = dimension(dataset, n_resamples=5)
    assert result["epoch"].values.tolist() == [0, 10, 20, 50, 100]


@pytest.mark.parametrize("scales", [3, 5, 7, 8])
def test_constant_sizes_have_no_r_squared(scales):
    fit = fit_exponent(np.geomspace(81, 2001, scales), np.full(scales, 7))
    assert fit.exponent == 0
    assert np.isnan(fit.r_squared)


def test_the_order_of_the_dimensions_of_where_does_not_matter(random_sweep):
    where = random_sweep["epoch"] >= random_sweep["epoch"][3]
    both = where.broadcast_like(random_sweep["size"])
    straight = scaling.exponent(random_sweep, "max", both, n_resamples=10)
    turned = scaling.exponent(random_sweep, "max", both.transpose(), n_resamples=10)
    assert straight.value == turned.value
    one = scaling.snapshot_interval(random_sweep, "max", both, n_resamples=10)
    assert one == scaling.snapshot_interval(random_sweep, "max", both.transpose(), n_resamples=10)


FEW_SCALES = "The line goes through only 4 scales; 5 or more fix a slope."
SIX = (85, 201, 401, 801, 1201, 2001)


def straight(scales, runs=2, snapshots=10):
    """Sizes 10 N without scatter."""
    return {n: np.full((runs, snapshots), 10 * n) for n in scales}


def cut_short(scales, share, runs=2, snapshots=10):
    """Which snapshots are truncated: the given number of them in the first run of the first scale."""
    truncated = {n: np.zeros((runs, snapshots), bool) for n in scales}
    truncated[scales[0]].ravel()[: round(share * runs * snapshots * len(scales))] = True
    return truncated


@by_statistic
def test_a_good_fit_carries_no_caution(sweep_of, statistic):
    sweep = sweep_of(straight(SIX), truncated=cut_short(SIX, 0.0))
    assert scaling.exponent(sweep, statistic, n_resamples=5).cautions == ()


@pytest.mark.parametrize(("n_scales", "cautions"), [(3, 1), (4, 1), (5, 0), (6, 0)])
def test_few_scales_are_cautioned_against(sweep_of, n_scales, cautions):
    found = scaling.exponent(sweep_of(straight(SIX[:n_scales])), n_resamples=5).cautions
    assert found == (f"The line goes through only {n_scales} scales; 5 or more fix a slope.",) * cautions


@by_statistic
@pytest.mark.parametrize(("scatter", "cautioned"), [(0.05, False), (1.0, True)])
def test_a_poor_fit_is_cautioned_against(sweep_of, statistic, scatter, cautioned):
    signs = np.array([1, -1, 1, 1, -1, 1])
    sizes = {
        n: np.full((2, 3), round(10 * n * np.exp(scatter * s))) for n, s in zip(SIX, signs, strict=True)
    }
    result = scaling.exponent(sweep_of(sizes), statistic, n_resamples=5)
    assert (result.fit.r_squared < 0.95) is cautioned
    r_squared = f"{result.fit.r_squared:.3f}"
    expected = f"R² is {r_squared}, below 0.95: the sizes hardly follow a power law."
    assert result.cautions == ((expected,) if cautioned else ())


# Of 120 snapshots, 6 are 5 %.
@pytest.mark.parametrize(("number", "cautioned"), [(0, False), (5, False), (6, False), (7, True)])
def test_many_truncated_avalanches_are_cautioned_against(sweep_of, number, cautioned):
    sweep = sweep_of(straight(SIX), truncated=cut_short(SIX, number / 120))
    assert int(sweep["truncated"].sum()) == number
    expected = "The limit of steps truncated 6% of the avalanches, more than 5%."
    found = scaling.exponent(sweep, n_resamples=5).cautions
    assert found == ((expected,) if cautioned else ())


def test_only_the_chosen_avalanches_are_counted_as_truncated(sweep_of):
    truncated = {n: np.tile(np.arange(10) == 9, (2, 1)) for n in SIX}
    sweep = sweep_of(straight(SIX), truncated=truncated)
    last = (sweep["epoch"] >= 5).broadcast_like(sweep["size"])
    (caution,) = scaling.exponent(sweep, where=last, n_resamples=5).cautions
    assert caution == "The limit of steps truncated 20% of the avalanches, more than 5%."
    assert scaling.exponent(sweep, where=~last, n_resamples=5).cautions == ()


def test_all_cautions_are_given(sweep_of, random_sizes):
    truncated = {n: np.ones(np.shape(s), bool) for n, s in random_sizes.items()}
    sizes = random_sizes | {1201: np.ones((5, 5))}
    found = scaling.exponent(sweep_of(sizes, truncated=truncated), n_resamples=5).cautions
    assert len(found) == 3
    assert found[0] == FEW_SCALES
    assert found[1].startswith("R² is 0.")
    assert found[2] == "The limit of steps truncated 100% of the avalanches, more than 5%."


@pytest.mark.parametrize("without_a_fit", ["two scales", "no snapshot", "no size"])
def test_where_there_is_no_fit_nothing_is_cautioned_against(sweep_of, random_sizes, without_a_fit):
    sizes = {n: s.copy() for n, s in random_sizes.items()}
    if without_a_fit == "two scales":
        sizes = {n: sizes[n] for n in (85, 201)}
    if without_a_fit == "no size":
        sizes[401][:] = 0
    truncated = {n: np.ones(np.shape(s), bool) for n, s in sizes.items()}
    sweep = sweep_of(sizes, truncated=truncated)
    where = None
    if without_a_fit == "no snapshot":
        where = xr.zeros_like(sweep["size"], dtype=bool)
    result = scaling.exponent(sweep, where=where, n_resamples=5)
    assert result.fit.message
    assert result.cautions == ()


@pytest.fixture(scope="module")
def aligned_sizes(random_sizes):
    """Sizes of which a third was not measured; at the epoch 3 the scale 401 has no run at all."""
    rng = np.random.default_rng(16)
    sizes = {n: np.where(rng.random(s.shape) < 0.35, np.nan, s) for n, s in random_sizes.items()}
    for of_scale in sizes.values():
        of_scale[0, 0] = 100.0
    sizes[401][:, 3] = np.nan
    return sizes


@pytest.fixture(scope="module")
def aligned_sweep(random_sweep, aligned_sizes):
    values = np.concatenate([aligned_sizes[n] for n in sorted(aligned_sizes)])
    return random_sweep.assign(size=(("run", "epoch"), values))


def naive_dimension(sizes, statistic, position, draws=None, resample=None):
    """D and R² at one snapshot, from the runs that were measured there."""
    pooled = []
    for i, n in enumerate(sorted(sizes)):
        runs = range(len(sizes[n])) if draws is None else draws[i][resample]
        values = [sizes[n][run][position] for run in runs if not np.isnan(sizes[n][run][position])]
        pooled.append(STATISTICS[statistic](values) if values else np.nan)
    fit = fit_exponent(sorted(sizes), pooled)
    return fit.exponent, fit.r_squared


@by_statistic
def test_runs_that_were_not_measured_at_an_epoch_are_left_out(aligned_sweep, aligned_sizes, statistic):
    result = dimension(aligned_sweep, statistic, n_resamples=7, seed=2)
    slopes, r_squared = resampled(aligned_sweep, statistic, n_resamples=7, seed=2)
    draws = run_resamples([len(aligned_sizes[n]) for n in sorted(aligned_sizes)], 7, 2)
    for position in range(5):
        expected = naive_dimension(aligned_sizes, statistic, position)
        found = result.isel(epoch=position)
        assert float(found["value"]) == pytest.approx(expected[0], nan_ok=True)
        assert float(found["r_squared"]) == pytest.approx(expected[1], nan_ok=True)
        for resample in range(7):
            expected = naive_dimension(aligned_sizes, statistic, position, draws, resample)
            assert slopes[resample, position] == pytest.approx(expected[0], nan_ok=True)
            assert r_squared[resample, position] == pytest.approx(expected[1], nan_ok=True)


@by_statistic
def test_an_epoch_at_which_a_scale_has_no_run_has_no_d(aligned_sweep, statistic):
    result = dimension(aligned_sweep, statistic, n_resamples=30)
    for name in ("value", "stderr", "r_squared"):
        assert np.isnan(result[name].values).tolist() == [False, False, False, True, False]
    assert np.isnan(resampled(aligned_sweep, statistic, n_resamples=30)[0][:, 3]).all()
    assert np.isnan(result["low"][3])


def test_the_runs_of_an_epoch_are_the_fewest_of_a_scale(aligned_sweep, aligned_sizes, random_sweep):
    result = dimension(aligned_sweep, n_resamples=5)
    expected = [
        min(sum(not np.isnan(run[position]) for run in of_scale) for of_scale in aligned_sizes.values())
        for position in range(5)
    ]
    assert result["runs"].values.tolist() == expected
    assert expected[3] == 0 < min(expected[:3])
    assert dimension(random_sweep, n_resamples=5)["runs"].values.tolist() == [3] * 5


@by_statistic
def test_whole_sizes_may_be_floats(random_sweep, statistic):
    one = dimension(random_sweep, statistic, n_resamples=20)
    floats = random_sweep.assign(size=random_sweep["size"].astype(float))
    assert one.identical(dimension(floats, statistic, n_resamples=20))


@by_statistic
def test_a_run_that_was_never_measured_changes_no_estimate(random_sweep, random_sizes, statistic):
    sizes = {n: s.astype(float) for n, s in random_sizes.items()}
    sizes[201][5] = np.nan
    values = np.concatenate([sizes[n] for n in sorted(sizes)])
    with_gap = dimension(random_sweep.assign(size=(("run", "epoch"), values)), statistic, n_resamples=5)
    without_it = dimension(random_sweep.isel(run=np.arange(18) != 9), statistic, n_resamples=5)
    assert np.array_equal(with_gap["value"], without_it["value"])
    assert np.array_equal(with_gap["runs"], without_it["runs"])


def test_local_slopes_are_those_of_neighbors(random_sweep, random_sizes):
    whole = scaling.exponent(random_sweep, "mean", n_resamples=300)
    found = local_slopes(whole)
    np.testing.assert_array_equal(found.smaller, sorted(random_sizes)[:-1])
    for k in range(3):
        n, s, of = (
            a[..., k : k + 2] for a in (whole.n_parameters, whole.sizes.value, whole.size_resamples)
        )
        assert found.value[k] == pytest.approx(np.polyfit(np.log(n), np.log(s), 1)[0])
        slopes = np.diff(np.log(of), axis=1)[:, 0] / np.diff(np.log(n))
        expected = percentile_interval(slopes, int(whole.runs_of_scale[k : k + 2].min()))
        assert (found.low[k], found.high[k]) == pytest.approx((expected.low, expected.high))


def test_an_exponent_that_lives_on_the_largest_scales_is_seen_to(sweep_of):
    # Slope 0 up to N = 401, and 2 from there on.
    rng = np.random.default_rng(3)
    scales = (51, 101, 201, 401, 801, 1601)
    sizes = {
        n: np.ceil(1e4 * max(1, n / 401) ** 2 * np.exp(0.02 * rng.standard_normal((6, 8))))
        for n in scales
    }
    whole = scaling.exponent(sweep_of(sizes), "mean", n_resamples=100)
    found = without_scales(whole)
    np.testing.assert_array_equal(found.left_out, [0, 1, 2, 3])
    assert found.without_largest[0].value == found.without_smallest[0].value == whole.value
    assert found.without_largest[2].value == pytest.approx(0, abs=0.02)
    assert found.without_smallest[3].value == pytest.approx(2, abs=0.02)
    assert local_slopes(whole).value == pytest.approx([0, 0, 0, 2, 2], abs=0.05)


@by_statistic
def test_fits_without_scales_are_those_of_the_sweep_without_them(random_sweep, statistic):
    whole = scaling.exponent(random_sweep, statistic, n_resamples=50)
    found = without_scales(whole).without_smallest[1]
    part = random_sweep.isel(run=random_sweep["n_parameters"].values > 85)
    alone = scaling.exponent(part, statistic, n_resamples=50)
    assert found.value == pytest.approx(alone.value)
    if statistic == "max":
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert np.isnan(without_scales(whole).without_largest[2].value)
