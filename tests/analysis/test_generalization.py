"""Statements on D(t) around generalization: against naive loops, and on curves that are chosen."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradquake.analysis.dimension import dimension, resampled_dimension
from gradquake.analysis.generalization import (
    Lines,
    Robust,
    crossing_nearest,
    crossing_offset,
    distance,
    lines_of,
    lowest_since,
    mean_since,
    means_around,
    median_epoch,
    parting_lead,
)
from gradquake.analysis.resampling import Estimate, estimated_with_infinite
from gradquake.analysis.transitions import crossing

EPOCHS = np.arange(0, 200, 10)
SCALES = (100, 200, 400)


def lines(*rows, low=None, high=None):
    """Curves at every tenth epoch: the measured one, then its resamples."""
    found = np.array(rows, float)
    epochs = 10 * np.arange(found.shape[1])
    ends = [found[0] if of is None else np.array(of, float) for of in (low, high)]
    return Lines(epochs, found, *ends, 2)


def estimate(value, low, high):
    return Estimate(value=value, low=low, high=high, invalid=0.0, runs=2)


def naive_nearest(epochs, curve, target, since, hold):
    """All first crossings of what is left of a curve, one snapshot after the other; the nearest."""
    times = []
    for direction in ("up", "down"):
        for start in range(len(curve) - hold):
            part = slice(start, start + hold + 1)
            times.append(crossing(epochs[part], curve[part], hold=hold, direction=direction))
    times = [float(time) for time in times if time >= since]
    return min(times, key=lambda time: abs(time - target), default=math.nan)


curves = st.lists(st.sampled_from([0.6, 0.9, 1.0, 1.1, 1.3]), min_size=1, max_size=14)


@given(curves, st.floats(0, 140), st.floats(0, 140), st.integers(1, 3))
def test_the_nearest_crossing_is_that_of_a_loop(values, target, since, hold):
    epochs, curve = 10 * np.arange(len(values)), np.array(values)
    found = crossing_nearest(epochs, curve[None], [target], [since], hold=hold)[0]
    expected = naive_nearest(epochs, curve, target, since, hold)
    if math.isnan(expected):
        assert math.isnan(found)
    else:
        assert abs(found - target) == pytest.approx(abs(expected - target))
        assert found >= since


def test_the_nearest_crossing_by_hand():
    # Down at 25, up at 65, down at 105.
    curve = np.array([1.1] * 3 + [0.9] * 4 + [1.1] * 4 + [0.9] * 4)
    epochs = 10 * np.arange(curve.size)
    for target, since, expected in (
        (0, 0, 25), (46, 0, 65), (44, 0, 25), (44, 30, 65), (90, 0, 105), (math.inf, 0, math.nan),
        (90, math.inf, math.nan), (90, 106, math.nan),
    ):  # fmt: skip
        found = crossing_nearest(epochs, curve[None], [target], [since])[0]
        assert found == pytest.approx(expected, nan_ok=True)


def test_a_curve_that_is_too_short_to_hold_has_no_crossing():
    assert np.isnan(crossing_nearest([0, 10], [[0.9, 1.1]], [0], [0])).all()


def test_offset_and_distance_are_infinite_without_a_crossing():
    down = [1.1] * 3 + [0.9] * 6
    found = lines(down, down, [1.1] * 9)
    offset = crossing_offset(found, np.array([75.0, 15.0, 15.0]), np.zeros(3))
    assert offset.value == pytest.approx(-50)
    np.testing.assert_allclose(offset.resamples, [10, np.inf])
    apart = distance(offset)
    assert apart.value == pytest.approx(50)
    assert (apart.low, apart.high) == (10, math.inf)


def test_the_lowest_has_the_lowest_ends():
    value = [0.5, 1.2, 1.1, 1.3]
    found = lines(value, low=[0.4, 1.15, 1.05, 1.02], high=[0.6, 1.3, 1.4, 1.35])
    late = lowest_since(found, 10)
    assert (late.value, late.low, late.high) == (1.1, 1.02, 1.3)
    assert lowest_since(found, 0).high == 0.6
    assert math.isnan(lowest_since(found, math.inf).value)


def test_an_undefined_epoch_is_not_known_to_lie_above():
    found = lines([1.2, math.nan, 1.3], low=[1.1, math.nan, 1.2], high=[1.3, math.nan, 1.4])
    lowest = lowest_since(found, 0)
    assert (lowest.value, lowest.high) == (1.2, 1.3)
    assert math.isnan(lowest.low)
    assert mean_since(found, 0).value == pytest.approx(1.25)


def naive_lead(curve, other, epochs, reached, saturated):
    order = [math.copysign(1, a - b) if a != b else 0 for a, b in zip(curve, other, strict=True)]
    if order[-1] == 0:
        return -math.inf
    first = len(order) - 1
    while first > 0 and order[first - 1] == order[-1]:
        first -= 1
    return reached - max(epochs[first], saturated)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(*[st.lists(
    st.sampled_from([0.9, 1.0, 1.1]), min_size=n, max_size=n) for _ in range(4)])))  # fmt: skip
def test_the_lead_is_that_of_a_loop(rows):
    a, b, c, d = rows
    reached, saturated = np.array([60.0, 40.0]), np.array([20.0, 10.0])
    one, other = lines(a, b), lines(c, d)
    found = parting_lead(one, other, reached, saturated)
    expected = [
        naive_lead(x, y, one.epochs, r, s)
        for x, y, r, s in zip(one.rows, other.rows, reached, saturated, strict=True)
    ]
    assert found.value == expected[0]
    np.testing.assert_array_equal(found.resamples, expected[1:])


def test_without_a_time_there_is_no_lead():
    one, other = lines([0.9] * 4, [0.9] * 4), lines([1.1] * 4, [1.1] * 4)
    for reached, saturated in ((np.inf, 0.0), (30.0, np.inf)):
        found = parting_lead(one, other, np.full(2, reached), np.full(2, saturated))
        assert found.value == -math.inf
    assert parting_lead(one, other, np.full(2, 30.0), np.full(2, 10.0)).value == 20


def step(sweep_of, before, after, reached):
    """A sweep whose run r has s = 5 N^D, with D from ``before`` to ``after`` at its own t_g."""
    sizes = {
        n: [np.round(10**6 * 5 * float(n) ** np.where(t > EPOCHS, before, after)) for t in reached]
        for n in SCALES
    }
    sweep = sweep_of(sizes, epochs=EPOCHS)
    sweep.attrs["every"] = 10
    return sweep


def test_the_means_around_are_those_on_the_time_of_each_run(sweep_of):
    sweep = step(sweep_of, 1.2, 0.9, (80, 120))
    # Before training saturates another law holds, which must not count.
    early = sweep["epoch"] < 50
    sweep["size"] = sweep["size"].where(~early, 7)
    reached, saturated = np.tile([80.0, 120.0], 3), np.full(6, 50.0)
    found = means_around(sweep, saturated, reached, "max")
    assert found.before.value == pytest.approx(1.2, abs=1e-5)
    assert found.after.value == pytest.approx(0.9, abs=1e-5)
    assert found.before.low == pytest.approx(1.2, abs=1e-5)
    assert found.after.high == pytest.approx(0.9, abs=1e-5)


def test_scales_without_the_event_are_left_out_of_the_means(sweep_of):
    sweep = step(sweep_of, 1.2, 0.9, (80, 120))
    reached = np.tile([80.0, 120.0], 3)
    assert means_around(sweep, np.zeros(6), np.where(np.arange(6) < 2, np.nan, reached), "max") is None
    half = np.where(np.arange(6) == 1, np.nan, reached)
    found = means_around(sweep, np.zeros(6), half, "max")
    assert found.after.value == pytest.approx(0.9, abs=1e-5)


def test_runs_without_the_event_leave_the_means_an_interval(sweep_of):
    sweep = step(sweep_of, 1.2, 0.9, (80, 120, 100))
    reached = np.tile([80.0, np.nan, 100.0], 3)
    for which in (reached, np.where(np.arange(9) == 4, 120.0, reached)):
        found = means_around(sweep, np.zeros(9), which, "mean")
        assert found.before.runs == 2
        assert found.before.low == pytest.approx(1.2, abs=1e-5)
        assert found.after.high == pytest.approx(0.9, abs=1e-5)


def test_lines_are_those_of_the_dimension(sweep_of, random_sizes):
    sweep = sweep_of(random_sizes)
    found, expected = lines_of(sweep, "mean"), dimension(sweep, "mean")
    np.testing.assert_array_equal(found.rows[0], expected["value"])
    blocks = [block.exponents for block in resampled_dimension(sweep, "mean")]
    np.testing.assert_array_equal(found.rows[1:], np.concatenate(blocks, axis=1))
    np.testing.assert_array_equal(found.low, expected["low"])
    assert found.runs == 3


def test_median_epochs_are_paired_with_the_lines(sweep_of):
    sizes = {n: [[1, 2], [2, 3], [4, 5]] for n in SCALES}
    sweep = sweep_of(sizes)
    events = np.tile([1.0, np.nan, 3.0], 3)
    found = median_epoch(sweep, events)
    assert found[0] == 3
    assert len(found) == len(lines_of(sweep, "max").rows)
    assert np.isinf(found).any()
    assert not np.isnan(found).any()


def test_the_widest_interval_holds_all():
    found = Robust(estimate(1.0, 0.9, 1.1), {10: estimate(1.1, 1.0, 1.3), 20: estimate(1, 0.95, 1.05)})
    assert (found.widest.low, found.widest.high) == (0.9, 1.3)
    unknown = Robust(found.all_scales, {10: estimate(1.0, math.nan, 1.2)})
    for nothing in (unknown, Robust(found.all_scales)):
        assert math.isnan(nothing.widest.low)
        assert math.isnan(nothing.widest.high)


def test_infinite_resamples_are_values_and_undefined_ones_are_not():
    samples = np.concatenate([np.arange(90.0), np.full(10, np.inf)])
    found = estimated_with_infinite(5.0, samples, 1000)
    assert found.low == np.quantile(samples, 0.025, method="inverted_cdf")
    assert found.high == math.inf
    assert found.invalid == 0
    samples[:6] = np.nan
    assert math.isnan(estimated_with_infinite(5.0, samples, 1000).low)
    assert math.isnan(estimated_with_infinite(5.0, np.empty(0), 2).high)
