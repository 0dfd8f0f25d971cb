"""The analysis of a whole sweep holds what the single functions return."""

from itertools import product

import numpy as np
import pytest

from gradquake.analysis import scaling, transitions
from gradquake.analysis.dimension import crossing_of_null, curve, dimension, resampled_dimension
from gradquake.analysis.resampling import Interval, percentile_interval
from gradquake.analysis.sweep import SweepAnalysis, analyze
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES
from gradquake.errors import InputError

N_RESAMPLES, SEED = 40, 3
SCALES = (85, 201, 401, 1201)
by_statistic = pytest.mark.parametrize("statistic", ["max", "mean"])


def power_law(exponents, runs=3):
    """Sizes 5 N^D(t) without scatter, one column for each exponent."""
    return {n: np.round(5 * n ** np.tile(exponents, (runs, 1))) for n in SCALES}


def everywhere(reached):
    """The same grokking epochs at each scale."""
    return {n: list(reached) for n in SCALES}


@pytest.fixture(scope="module")
def analysis(random_sweep) -> SweepAnalysis:
    return analyze(random_sweep, n_resamples=N_RESAMPLES, seed=SEED)


def test_everything_is_there(analysis, random_sweep):
    assert list(analysis.exponents) == ["all", "pre", "post"]
    assert all(list(of_phase) == ["max", "mean"] for of_phase in analysis.exponents.values())
    assert set(analysis.curves) == {"max", "mean"}
    assert [scale.n_parameters for scale in analysis.grokking] == list(SCALES)
    assert analysis.dataset is random_sweep


@by_statistic
@pytest.mark.parametrize("phase", PHASES)
def test_the_exponents_are_those_of_the_phases(analysis, random_sweep, phase, statistic):
    where = None if phase == "all" else transitions.phase(random_sweep, phase)
    expected = scaling.exponent(random_sweep, statistic, where, n_resamples=N_RESAMPLES, seed=SEED)
    found = analysis.exponent(phase, statistic)
    assert found.fit == expected.fit
    assert np.array_equal(found.resamples, expected.resamples, equal_nan=True)


@by_statistic
def test_the_curves_are_d_and_its_crossing(analysis, random_sweep, statistic):
    curve = analysis.curves[statistic]
    expected = dimension(random_sweep, statistic, n_resamples=N_RESAMPLES, seed=SEED)
    epochs = expected["epoch"].values
    [block] = resampled_dimension(random_sweep, statistic, n_resamples=N_RESAMPLES, seed=SEED)
    assert curve.dimension.equals(expected)
    observed = float(transitions.crossing(epochs, expected["value"].values))
    assert curve.crossing.value == pytest.approx(observed, nan_ok=True)
    one_by_one = np.array([float(transitions.crossing(epochs, curve)) for curve in block.exponents])
    assert np.array_equal(curve.crossing.resamples, one_by_one, equal_nan=True)


def test_the_grokking_epochs_are_those_of_the_scales(analysis, random_sweep):
    expected = transitions.grokking_epochs(random_sweep, n_resamples=N_RESAMPLES, seed=SEED)
    assert [scale.median.value for scale in analysis.grokking] == [
        scale.median.value for scale in expected
    ]
    assert analysis.grokking_range == (1, 4)


# D(t) is 0.8 at the epochs 0 and 1 and 1.2 from the epoch 2 on: it passes 1 at 1.5.
@by_statistic
def test_a_crossing_lies_between_the_epochs_beside_it(sweep_of, statistic):
    sizes = power_law([0.8, 0.8, 1.2, 1.2, 1.2])
    result = analyze(sweep_of(sizes), n_resamples=10)
    curve = result.curves[statistic]
    # The sizes are rounded to whole topplings.
    assert curve.crossing.value == pytest.approx(1.5, abs=0.01)
    assert Interval(
        curve.crossing.low, curve.crossing.high, curve.crossing.invalid
    ) == percentile_interval(curve.crossing.resamples, 3)
    assert curve.crossing.invalid == 0


@by_statistic
def test_the_interval_of_a_crossing_is_that_of_its_resamples(sweep_of, statistic):
    rng = np.random.default_rng(14)
    sizes = {n: rng.poisson(s) for n, s in power_law([0.8, 0.8, 1.2, 1.2, 1.2], runs=6).items()}
    curve = analyze(sweep_of(sizes), n_resamples=100).curves[statistic]
    assert np.unique(curve.crossing.resamples).size > 50
    assert curve.crossing.runs == 6
    assert Interval(
        curve.crossing.low, curve.crossing.high, curve.crossing.invalid
    ) == percentile_interval(curve.crossing.resamples, 6)
    assert curve.crossing.low < curve.crossing.high


@by_statistic
def test_without_a_crossing_there_is_no_resample_with_one(sweep_of, statistic):
    sizes = power_law([1.2] * 5)
    result = analyze(sweep_of(sizes, everywhere([1, 2, 3])), n_resamples=10)
    assert np.isnan(result.curves[statistic].crossing.value)
    assert result.curves[statistic].crossing.invalid == 1


def test_the_grokking_range_without_grokking_is_empty(sweep_of):
    result = analyze(sweep_of(power_law([1.0] * 5)), n_resamples=5)
    assert np.isnan(result.grokking_range).all()


@by_statistic
def test_a_phase_that_no_run_of_a_scale_enters_has_no_exponent(sweep_of, statistic):
    reached = everywhere([1, 2, 3]) | {401: [None] * 3}
    result = analyze(sweep_of(power_law([0.8, 0.8, 1.2, 1.2, 1.2]), reached), n_resamples=10)
    post = result.exponent("post", statistic)
    assert np.isnan(post.value)
    assert post.fit.message == "There is no snapshot at N = 401."
    assert np.isfinite(result.exponent("pre", statistic).value)


def test_an_analysis_needs_three_scales(sweep_of):
    two = {n: np.ones((2, 5)) for n in SCALES[:2]}
    with pytest.raises(InputError, match="the sweep has 2 scales"):
        analyze(sweep_of(two), n_resamples=5)


def test_equal_seeds_give_equal_analyses(analysis, random_sweep):
    again = analyze(random_sweep, n_resamples=N_RESAMPLES, seed=SEED)
    for case in product(PHASES, ("max", "mean")):
        found, expected = analysis.exponent(*case), again.exponent(*case)
        assert np.array_equal(found.resamples, expected.resamples, equal_nan=True)
    for statistic, found in analysis.curves.items():
        assert found.dimension.identical(again.curves[statistic].dimension)


def test_a_slim_curve_is_the_same_without_the_resamples_of_its_crossing(analysis):
    whole = analysis.curves["max"]
    slim = whole.slim()
    with pytest.raises(InputError, match="dropped the resamples"):
        _ = slim.crossing.resamples
    assert (slim.crossing.low, slim.crossing.high) == (whole.crossing.low, whole.crossing.high)
    assert slim.dimension.identical(whole.dimension)
    # What it was computed from is there, so a crossing of a null is too.
    assert crossing_of_null(slim, slim).resamples.shape == (N_RESAMPLES,)


@by_statistic
@pytest.mark.parametrize("direction", ["up", "down"])
def test_crossings_do_not_depend_on_the_blocks(sweep_of, statistic, direction, monkeypatch):
    rng = np.random.default_rng(21)
    sizes = {n: rng.integers(0, 3 * n, size=(3, 60)) for n in SCALES}
    whole = curve(sweep_of(sizes), statistic, n_resamples=40)
    null = curve(sweep_of({n: s[:, ::-1] for n, s in sizes.items()}), statistic, n_resamples=40)
    expected = [whole.crossing_of(1.0, direction), crossing_of_null(whole, null)]
    for width in (1, 2, 3, 7):
        monkeypatch.setattr("gradquake.analysis.dimension.MOST_HELD", 40 * (2 * len(SCALES) + 6) * width)
        blocked = curve(sweep_of(sizes), statistic, n_resamples=40)
        found = [blocked.crossing_of(1.0, direction), crossing_of_null(blocked, null)]
        for one, other in zip(expected, found, strict=True):
            assert np.isfinite(one.resamples).any()
            assert np.array_equal(one.resamples, other.resamples, equal_nan=True)


@by_statistic
def test_one_curve_is_that_of_the_whole_analysis(analysis, random_sweep, statistic):
    alone = curve(random_sweep, statistic, n_resamples=N_RESAMPLES, seed=SEED)
    assert alone.dimension.identical(analysis.curves[statistic].dimension)
    assert np.array_equal(
        alone.crossing.resamples, analysis.curves[statistic].crossing.resamples, equal_nan=True
    )


@by_statistic
def test_a_null_of_dimension_one_is_crossed_where_one_is(sweep_of, statistic):
    rng = np.random.default_rng(18)
    sizes = {n: rng.poisson(s) for n, s in power_law([0.8, 0.8, 1.2, 1.2, 1.2]).items()}
    flat = {n: np.full((3, 5), n) for n in SCALES}
    real, null = (curve(sweep_of(of), statistic, n_resamples=50) for of in (sizes, flat))
    found = crossing_of_null(real, null)
    assert found.runs == 3
    assert found.value == pytest.approx(real.crossing.value)
    assert found.resamples == pytest.approx(real.crossing.resamples, nan_ok=True)
    assert np.unique(found.resamples).size > 10


@by_statistic
def test_the_crossing_of_a_null_is_paired(sweep_of, statistic):
    # What the runs share cancels in every resample: only D(t) of the factor is left.
    rng = np.random.default_rng(17)
    shared = {n: 1_000 * n * rng.gamma(2.0, size=(4, 1)) * np.ones(8) for n in SCALES}
    rise = {n: np.round(s * n ** np.linspace(-0.2, 0.22, 8)) for n, s in shared.items()}
    real, null = (curve(sweep_of(of), statistic, n_resamples=60) for of in (rise, shared))
    found = crossing_of_null(real, null)
    assert found.value == pytest.approx(0.2 / 0.06, abs=1e-3)
    assert found.resamples == pytest.approx(np.full(60, 0.2 / 0.06), abs=1e-3)
    assert Interval(found.low, found.high, found.invalid) == percentile_interval(found.resamples, 4)
    assert found.invalid == 0


def test_the_average_of_d_is_taken_in_every_resample(random_sweep):
    whole = curve(random_sweep, "mean", n_resamples=40)
    averages = np.concatenate([block.exponents for block in whole.resampled()], axis=1).mean(axis=1)
    assert whole.average().value == pytest.approx(whole.dimension["value"].values.mean())
    np.testing.assert_array_equal(whole.average().resamples, averages)


def test_moments_and_fewer_scales_are_those_of_the_phases(sweep_of):
    rng = np.random.default_rng(3)
    sizes = {n: rng.poisson(n, (3, 8)) + 1 for n in SCALES}
    split = analyze(sweep_of(sizes, {n: [3, 4, 5] for n in SCALES}), n_resamples=30)
    assert split.separate_phases == SPLIT_PHASES == tuple(split.moments)
    whole = analyze(sweep_of(sizes), n_resamples=30)
    assert whole.separate_phases == ("all",) == tuple(whole.moments)
    exponent = whole.exponent("all", "mean")
    found = whole.without_scales("all", "mean").without_largest
    assert found[0].value == pytest.approx(exponent.value)
    nothing_after = analyze(sweep_of(sizes, {n: [99] * 3 for n in SCALES}), n_resamples=30)
    assert tuple(nothing_after.moments) == ("pre",)
    two = whole.local_slopes("all", "mean").value
    assert two[0] == pytest.approx(np.diff(np.log(exponent.sizes.value))[0] / np.diff(np.log(SCALES))[0])
