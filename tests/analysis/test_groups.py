"""The estimate of six seeds: groups without a shared run, their mean and range, and verdicts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gradquake.analysis import scaling, transitions
from gradquake.analysis.dimension import crossing_of_null, curve
from gradquake.analysis.group_functions import (
    crossing_of_groups,
    crossing_of_null_of_groups,
    curve_of_groups,
    difference_of_groups,
    exponent_of_groups,
    rise_of_groups,
)
from gradquake.analysis.group_verdicts import estimates_of_groups, verdict_shares
from gradquake.analysis.groups import (
    disjoint_groups,
    group_estimate,
    runs_at_scales,
)
from gradquake.analysis.resampling import percentile_interval
from gradquake.errors import InputError

SCALES = (85, 201, 401, 801)
RUNS = 66


def sizes_at(rng, exponent=1.0, runs=RUNS, snapshots=8):
    return {
        n: np.ceil(100 * float(n) ** exponent * np.exp(0.5 * rng.standard_normal((runs, snapshots))))
        for n in SCALES
    }


@pytest.fixture(scope="module")
def sweep(sweep_of):
    rng = np.random.default_rng(11)
    return sweep_of(sizes_at(rng), {n: rng.integers(1, 7, RUNS).tolist() for n in SCALES})


@pytest.fixture(scope="module")
def null(sweep_of):
    return sweep_of(sizes_at(np.random.default_rng(12), 0.6), {n: [4] * RUNS for n in SCALES})


def part_of(sweep, draws, group):
    """The sweep of one group of runs."""
    scales = np.unique(sweep["n_parameters"].values)
    members = [np.flatnonzero(sweep["n_parameters"].values == n) for n in scales]
    return sweep.isel(run=np.concatenate([m[d[group]] for m, d in zip(members, draws, strict=True)]))


@given(
    runs=st.lists(st.integers(6, 40), min_size=1, max_size=4),
    size=st.integers(1, 6),
    orders=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_groups_of_one_order_share_no_run(runs, size, orders, seed):
    found = disjoint_groups(runs, size, orders, seed)
    per_order = min(runs) // size
    for draws, n in zip(found, runs, strict=True):
        assert draws.shape == (orders * per_order, size)
        assert ((draws >= 0) & (draws < n)).all()
        for order in draws.reshape(orders, -1):
            assert np.unique(order).size == order.size
    for draws, first in zip(found, disjoint_groups(runs, size, 1, seed), strict=True):
        np.testing.assert_array_equal(draws[:per_order], first)


def test_a_group_larger_than_a_scale_is_refused():
    with pytest.raises(InputError, match="a scale has 5 runs; groups of 6 need at least 6"):
        disjoint_groups([5, 8])


@pytest.mark.parametrize("statistic", ["max", "mean"])
def test_every_function_of_groups_is_the_analysis_of_each_group_alone(sweep, null, statistic):
    draws = disjoint_groups([RUNS] * 4)
    found = {
        "all": exponent_of_groups(sweep, statistic)(draws),
        "rise": rise_of_groups(sweep, statistic)(draws),
        "above": difference_of_groups(
            exponent_of_groups(sweep, statistic), exponent_of_groups(null, statistic)
        )(draws),
        "curve": curve_of_groups(sweep, statistic)(draws),
        "crossing": crossing_of_groups(sweep, statistic, 1.0)(draws),
        "of null": crossing_of_null_of_groups(sweep, null, statistic)(draws),
    }
    for group in range(0, 11, 3):
        part, of_null = part_of(sweep, draws, group), part_of(null, draws, group)

        def value(of, phase="all"):
            where = transitions.phase(of, phase)
            return scaling.exponent(of, statistic, where, n_resamples=1).value

        assert found["all"][group] == pytest.approx(value(part))
        assert found["rise"][group] == pytest.approx(value(part, "post") - value(part, "pre"))
        assert found["above"][group] == pytest.approx(value(part) - value(of_null))
        alone = curve(part, statistic, n_resamples=1)
        np.testing.assert_allclose(found["curve"][group], alone.dimension["value"])
        np.testing.assert_allclose(found["crossing"][group], alone.crossing.value)
        crossing = crossing_of_null(alone, curve(of_null, statistic, n_resamples=1))
        np.testing.assert_allclose(found["of null"][group], crossing.value)


def test_the_estimate_is_the_mean_of_disjoint_groups_with_students_interval(sweep):
    of = exponent_of_groups(sweep)
    found = group_estimate(of, runs_at_scales(sweep))
    values = of(disjoint_groups([RUNS] * 4))
    assert (found.method, found.n_groups, found.runs) == ("groups", 11, 6)
    assert found.value == pytest.approx(values.mean())
    expected = stats.t.interval(0.95, 10, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    np.testing.assert_allclose(
        [found.range.low, found.range.high], np.quantile(found.drawn, [0.025, 0.975])
    )
    assert abs(found.drawn.size - 2000) <= 6
    assert found.percentile(found.range.low) == pytest.approx(2.5, abs=0.1)
    assert found.percentile(-1) == 0
    assert found.percentile(9) == 100
    assert "from 11 groups" in repr(found)


def test_the_largest_of_six_is_another_number_than_that_of_all(sweep_of):
    # The largest of M lognormal sizes, with a scatter of 1 at N = 85 and 0 at N = 801, lies above the
    # line by about sqrt(2 ln M) at N = 85 alone: the slope falls with the number of runs.
    rng = np.random.default_rng(3)
    scatter = dict(zip(SCALES, (1.0, 0.6, 0.3, 0.0), strict=True))
    sizes = {
        n: np.ceil(1000 * n * np.exp(s * rng.standard_normal((120, 5)))) for n, s in scatter.items()
    }
    sweep = sweep_of(sizes)
    found = group_estimate(exponent_of_groups(sweep), runs_at_scales(sweep))
    of_all = scaling.exponent(sweep, n_resamples=200)
    assert found.low > of_all.high


@pytest.mark.parametrize("statistic", ["max", "mean"])
def test_six_runs_are_one_group_with_the_bootstrap_over_its_runs(sweep_of, statistic):
    sweep = sweep_of(sizes_at(np.random.default_rng(4), runs=6))
    found = group_estimate(exponent_of_groups(sweep, statistic), runs_at_scales(sweep), n_resamples=300)
    known = scaling.exponent(sweep, statistic, n_resamples=300)
    assert (found.method, found.n_groups, found.runs) == ("bootstrap", 1, 6)
    boot = percentile_interval(known.resamples, 6)
    assert (found.value, found.low, found.high) == pytest.approx((known.value, boot.low, boot.high))
    given = group_estimate(exponent_of_groups(sweep, statistic), [6] * 4, alone=known)
    assert (given.method, given.n_groups) == ("alone", 1)
    assert (given.value, given.low, given.high) == (known.value, known.low, known.high)
    assert "from its runs alone" in repr(given)
    assert np.isnan(found.range.low)
    assert np.isnan(found.percentile(1.0))
    assert "from the bootstrap over its runs" in repr(found)


def test_few_runs_have_an_estimate_without_a_range(sweep_of):
    for runs, method in ((8, "bootstrap"), (12, "groups"), (3, "bootstrap")):
        sweep = sweep_of(sizes_at(np.random.default_rng(4), runs=runs))
        found = group_estimate(exponent_of_groups(sweep), runs_at_scales(sweep), n_resamples=200)
        assert (found.method, found.runs) == (method, min(6, runs))
        assert found.low < found.value < found.high
        assert np.isnan(found.range.low)


def test_groups_without_a_value_leave_no_interval():
    def of(draws):
        return np.where(np.arange(len(draws[0])) % 11 < 3, np.nan, draws[0][:, 0])

    found = group_estimate(of, [RUNS] * 3)
    assert found.invalid == pytest.approx(3 / 11)
    assert np.isfinite(found.value)
    assert np.isnan(found.low)
    nothing = group_estimate(lambda draws: np.full(len(draws[0]), np.nan), [RUNS] * 3)
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_each_group_has_the_estimate_of_a_study_of_its_own(sweep):
    of = exponent_of_groups(sweep, "mean")
    found = estimates_of_groups(of, runs_at_scales(sweep), n_resamples=400)
    assert len(found) == 11
    np.testing.assert_array_equal([e.value for e in found], of(disjoint_groups([RUNS] * 4)))
    alone = scaling.exponent(part_of(sweep, disjoint_groups([RUNS] * 4), 2), "mean", n_resamples=4000)
    # Other resamples of the same runs.
    assert (found[2].low, found[2].high) == pytest.approx((alone.low, alone.high), abs=0.03)


def test_verdicts_are_shared_out_over_groups(sweep, null):
    real, of_null = (
        estimates_of_groups(exponent_of_groups(s, "mean"), runs_at_scales(s), n_resamples=300)
        for s in (sweep, null)
    )

    def rule(pair):
        return "apart" if pair[0].low > pair[1].high else "together"

    assert verdict_shares(rule, zip(real, of_null, strict=True)) == {"apart": 1.0}
    assert verdict_shares(str, [1, 2, 2, 3]) == {"2": 0.5, "1": 0.25, "3": 0.25}


def test_another_null_and_too_few_scales_are_refused(sweep, null):
    with pytest.raises(InputError, match="the null has other sizes, seeds or epochs"):
        crossing_of_null_of_groups(sweep, null.isel(run=slice(5)))
    two = sweep.isel(run=sweep["n_parameters"].values < 300)
    for of in (exponent_of_groups, curve_of_groups):
        with pytest.raises(InputError, match="the sweep has 2 scales"):
            of(two)
