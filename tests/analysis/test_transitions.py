"""Phases, crossings, grokking epochs and peaks: worked out by hand and by naive loops."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.analysis import transitions
from gradquake.analysis.resampling import run_resamples, tail_share
from gradquake.analysis.transitions import Peaks, crossing, peaks
from gradquake.errors import InputError

BEFORE, AFTER = 30, 60
# Levels and values on a grid, so that curves often hit a level exactly; NaN is a missing D.
grid = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.25, 1.5, 2.0, np.nan])


@st.composite
def sampled_curves(draw):
    """Epochs and a block of curves on them, of shape (2, 3, snapshots)."""
    steps = draw(st.lists(st.integers(1, 50), min_size=1, max_size=15))
    epochs = np.cumsum(steps)
    values = draw(st.lists(grid, min_size=6 * len(steps), max_size=6 * len(steps)))
    return epochs, np.array(values).reshape(2, 3, -1)


def naive_crossing(epochs, curve, level, hold, direction):
    """The definition of a crossing, one snapshot after the other."""
    sign = 1 if direction == "up" else -1
    for i in range(len(curve) - hold):
        ahead = [curve[i + k] for k in range(1, hold + 1)]
        if sign * (curve[i] - level) <= 0 and all(sign * (value - level) > 0 for value in ahead):
            share = (level - curve[i]) / (curve[i + 1] - curve[i])
            return epochs[i] + share * (epochs[i + 1] - epochs[i])
    return np.nan


def triangle(snapshots, centre, half_base, height, level=1.0):
    """A flat level with one triangular bump on it."""
    distance = np.abs(np.arange(snapshots) - centre) / half_base
    return level + height * np.maximum(0.0, 1.0 - distance)


def peaks_of(sweep_of, curves, reached, **arguments):
    """The peaks of curves given as rows, one run each."""
    curves = np.asarray(curves, float)
    sizes = {85: np.ones(curves.shape)}
    dataset = sweep_of(sizes, {85: reached}, gini={85: curves}, epochs=arguments.pop("epochs", None))
    return peaks(dataset, **arguments)


@pytest.mark.parametrize(
    ("reached", "before"),
    [
        (20, [True, True, False, False]),
        (15, [True, True, False, False]),
        (21, [True, True, True, False]),
        (0, [False, False, False, False]),
        (30, [True, True, True, False]),
        (31, [True, True, True, True]),
        (None, [True, True, True, True]),
    ],
    ids=["on a snapshot", "between", "just after", "first", "last", "later", "never"],
)
def test_a_run_is_split_at_its_own_grokking_epoch(sweep_of, reached, before):
    dataset = sweep_of({85: np.ones((1, 4))}, {85: [reached]}, epochs=[0, 10, 20, 30])
    pre, post = (transitions.phase(dataset, which) for which in ("pre", "post"))
    assert pre.dims == post.dims == ("run", "epoch")
    assert pre.values.tolist() == [before]
    assert post.values.tolist() == [[not snapshot for snapshot in before]]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.none() | st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 20))
def test_the_phases_are_a_partition_and_pre_comes_first(sweep_of, reached, every):
    epochs = np.arange(0, 50, every)
    dataset = sweep_of({85: np.ones((len(reached), epochs.size))}, {85: reached}, epochs=epochs)
    pre, post = (transitions.phase(dataset, which).values for which in ("pre", "post"))
    assert (pre ^ post).all()
    assert (np.diff(pre.astype(int), axis=1) <= 0).all()
    shared = [(epochs < (np.inf if epoch is None else epoch)).sum() for epoch in reached]
    assert pre.sum(axis=1).tolist() == shared


def test_all_snapshots_are_a_phase_too(random_sweep):
    everything = transitions.phase(random_sweep, "all")
    assert everything.dims == ("run", "epoch")
    assert everything.shape == random_sweep["size"].shape
    assert everything.all()


@pytest.mark.parametrize("which", ["before", "", None])
def test_an_unknown_phase_is_refused(random_sweep, which):
    with pytest.raises(InputError, match="one of all, pre, post is needed"):
        transitions.phase(random_sweep, which)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        # From 0.5 to 1.5 a line passes 1 halfway between the epochs 10 and 20.
        ([0.5, 0.5, 1.5, 1.5, 1.5, 1.5], 15),
        # From 0.75 to 2 it passes 1 after (1 - 0.75) / (2 - 0.75) = 0.2 of the way.
        ([0.5, 0.75, 2.0, 2.0, 2.0, 2.0], 12),
        # The level itself is not above it, so the crossing starts there.
        ([0.5, 1.0, 1.5, 1.5, 1.5, 1.5], 10),
        ([0.5, 1.0, 1.0, 1.5, 1.5, 1.5], 20),
        # The two snapshots above at first do not hold; after the dip it crosses between 30 and 40.
        ([0.5, 1.5, 1.5, 0.5, 1.5, 1.5, 1.5], 35),
        # The first crossing counts, even if the curve returns and crosses again.
        ([0.5, 1.5, 1.5, 1.5, 0.5, 1.5, 1.5, 1.5], 5),
        # A curve that starts above must come down first.
        ([1.5, 1.5, 0.5, 1.5, 1.5, 1.5], 25),
        # A missing value is neither above nor below.
        ([0.5, 1.5, np.nan, 0.5, 1.5, 1.5, 1.5], 35),
    ],
)
def test_a_crossing_upwards_by_hand(curve, expected):
    epochs = 10 * np.arange(len(curve))
    assert crossing(epochs, curve) == pytest.approx(expected)
    mirrored = 2.0 - np.array(curve)
    assert crossing(epochs, mirrored, direction="down") == pytest.approx(expected)


@pytest.mark.parametrize(
    "curve",
    [
        [1.5] * 6,
        [0.5] * 6,
        [1.0] * 6,
        [1.5, 1.5, 1.5, 0.5, 0.5, 0.5],
        [0.5, 0.5, 0.5, 0.5, 1.5, 1.5],
        [0.5, 1.5, 1.5, 0.5, 1.5, 1.5],
        [0.5, 1.5, 1.5],
        [0.5],
        [],
        [np.nan] * 6,
        [np.nan, 1.5, 1.5, 1.5, 1.5, 1.5],
    ],
    ids=[
        "above",
        "below",
        "on the level",
        "downwards only",
        "too late to hold",
        "never holds",
        "three snapshots",
        "one snapshot",
        "no snapshot",
        "missing",
        "first missing",
    ],
)
def test_a_curve_without_a_crossing(curve):
    assert np.isnan(crossing(np.arange(len(curve)), curve))


@pytest.mark.parametrize(("hold", "expected"), [(1, 0.5), (2, 2.5), (3, 5.5), (4, np.nan)])
def test_a_crossing_must_hold(hold, expected):
    curve = [0.5, 1.5, 0.5, 1.5, 1.5, 0.5, 1.5, 1.5, 1.5]
    found = crossing(np.arange(len(curve)), curve, hold=hold)
    assert found == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=150)
@given(sampled_curves(), grid.filter(np.isfinite), st.integers(1, 4), st.sampled_from(["up", "down"]))
def test_crossings_at_once_are_those_of_a_loop(sampled, level, hold, direction):
    epochs, curves = sampled
    found = crossing(epochs, curves, level, hold=hold, direction=direction)
    assert found.shape == (2, 3)
    for index in np.ndindex(2, 3):
        expected = naive_crossing(epochs, curves[index], level, hold, direction)
        assert found[index] == pytest.approx(expected, nan_ok=True)
        alone = crossing(epochs, curves[index], level, hold=hold, direction=direction)
        assert np.array_equal(alone, found[index], equal_nan=True)


@settings(deadline=None, max_examples=40)
@given(sampled_curves(), st.integers(1, 4))
def test_a_crossing_lies_between_a_snapshot_below_and_one_above(sampled, hold):
    epochs, curves = sampled
    for curve in curves.reshape(6, -1):
        time = crossing(epochs, curve, hold=hold)
        if np.isfinite(time):
            start = np.searchsorted(epochs, time, side="right") - 1
            assert curve[start] <= 1 < curve[start + 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hold": 0}, "hold is 0; an integer of at least 1"),
        ({"hold": 1.5}, "hold is 1.5; an integer"),
        ({"direction": "sideways"}, "direction is 'sideways'; 'up' or 'down'"),
        ({"curves": [1, 2]}, r"epochs have shape \(3,\) and curves \(2,\)"),
        ({"curves": 1.0}, "the last lengths must agree"),
        ({"epochs": [[0, 1, 2]]}, "the last lengths must agree"),
    ],
)
def test_a_crossing_refuses_what_is_not_a_curve(arguments, message):
    with pytest.raises(InputError, match=message):
        crossing(**({"epochs": [0, 1, 2], "curves": [0, 1, 2]} | arguments))


def test_medians_count_a_run_that_never_grokked_as_infinitely_late(sweep_of):
    reached = {85: [30, None, 10], 201: [None, 20, None], 401: [4, 8, 6], 801: [1, None, 2]}
    sweep = sweep_of({n: np.ones((3, 2)) for n in reached}, reached)
    found = transitions.grokking_epochs(sweep, n_resamples=10)
    assert [scale.n_parameters for scale in found] == [85, 201, 401, 801]
    # In order: 10 30 ∞, 20 ∞ ∞, 4 6 8, 1 2 ∞.
    assert [scale.median.value for scale in found] == [30, np.inf, 6, 2]
    assert found[0].epochs == pytest.approx((30, np.nan, 10), nan_ok=True)


@pytest.mark.parametrize(("reached", "median"), [([8, 2], 5), ([8, 2, None, 4], 6), ([8, None], np.inf)])
def test_the_median_of_an_even_number_of_runs(sweep_of, reached, median):
    sweep = sweep_of({85: np.ones((len(reached), 2))}, {85: reached})
    assert transitions.grokking_epochs(sweep, n_resamples=5)[0].median.value == median


def test_the_interval_of_the_median_is_that_of_a_loop(random_sweep, random_grokking):
    found = transitions.grokking_epochs(random_sweep, n_resamples=200, seed=3)
    draws = run_resamples([len(epochs) for epochs in random_grokking.values()], 200, 3)
    for scale, chosen in zip(found, draws, strict=True):
        late = np.nan_to_num(scale.epochs, nan=np.inf)
        medians = sorted(statistics.median(late[runs]) for runs in chosen)
        # The smallest value that at least the tail's share, and the others, of 200 do not exceed.
        tail = tail_share(len(chosen[0]))
        low, high = (medians[max(0, math.ceil(200 * share) - 1)] for share in (tail, 1 - tail))
        assert (scale.median.low, scale.median.high) == (low, high)


def test_medians_of_many_runs_have_an_interval_inside_their_range(sweep_of):
    sweep = sweep_of({85: np.ones((25, 2))}, {85: list(range(25))})
    (scale,) = transitions.grokking_epochs(sweep, n_resamples=1_000)
    (chosen,) = run_resamples([25], 1_000)
    medians = np.sort(np.median(chosen, axis=1))
    # A tail of 25 runs holds 1.76 % of the resamples: Phi(-2.0639 sqrt(25 / 24)), the t of 24 degrees.
    assert (scale.median.low, scale.median.high) == (medians[17], medians[982])
    assert medians[0] < scale.median.low < scale.median.value < scale.median.high < medians[-1]


def test_where_no_run_grokked_there_is_no_interval(sweep_of):
    sweep = sweep_of({85: np.ones((3, 2))}, {85: [None] * 3})
    (scale,) = transitions.grokking_epochs(sweep, n_resamples=20)
    assert scale.median.value == np.inf
    assert scale.median.low == scale.median.high == np.inf


def test_a_run_that_never_grokked_makes_the_interval_late(sweep_of):
    sweep = sweep_of({85: np.ones((5, 2))}, {85: [10, 11, 12, None, None]})
    (scale,) = transitions.grokking_epochs(sweep, n_resamples=500)
    assert scale.median.value == 12
    assert scale.median.low <= 12
    assert scale.median.high == np.inf


@pytest.mark.parametrize("half_base", [8, 15, 20])
@pytest.mark.parametrize("delay", [-5, 0, 12])
@pytest.mark.parametrize("level", [0.5, 1.0])
def test_a_planted_bump_is_measured(sweep_of, half_base, delay, level):
    reached, height = 50, 0.25
    curve = triangle(120, reached + delay, half_base, height, level)
    found = peaks_of(sweep_of, [curve], [reached])
    # Both ends of the window lie on the flat level, which is therefore the base.
    assert found.rise[0] == pytest.approx(height / level)
    # At least half the height is kept where |t - centre| <= half_base / 2.
    assert found.width[0] == 2 * (half_base // 2) + 1
    assert found.delay[0] == delay
    assert found.interior[0]


def test_the_base_is_the_mean_of_the_two_ends(sweep_of):
    # 1 before the epoch 50, 3 on the ten epochs 50..59, 2 after: the base is 1.5, the rise 3/1.5 - 1,
    # and only the plateau lies above half the rise, 2.25. The peak is the plateau's first epoch.
    curve = np.repeat([1.0, 3.0, 2.0], [50, 10, 60])
    found = peaks_of(sweep_of, [curve], [45])
    assert (found.rise[0], found.width[0], found.delay[0]) == (1.0, 10.0, 5.0)


def test_only_the_part_around_the_peak_is_wide(sweep_of):
    curve = np.maximum(triangle(120, 50, 8, 0.5), triangle(120, 80, 8, 0.4))
    found = peaks_of(sweep_of, [curve], [50])
    assert (found.delay[0], found.width[0]) == (0, 9)


@pytest.mark.parametrize(("slope", "delay"), [(0.125, AFTER), (-0.125, -BEFORE), (0.0, -BEFORE)])
def test_a_drift_is_no_interior_peak(sweep_of, slope, delay):
    curve = 20 + slope * np.arange(120)
    found = peaks_of(sweep_of, [curve], [50])
    assert found.delay[0] == delay
    assert not found.interior[0]


def test_the_width_ends_with_the_window(sweep_of):
    # A constant keeps all of its rise of 0 over the whole window.
    found = peaks_of(sweep_of, [np.full(120, 2.0)], [50])
    assert (found.rise[0], found.width[0]) == (0, BEFORE + 1 + AFTER)


@pytest.mark.parametrize(
    ("reached", "measured"),
    [(29, False), (30, True), (59, True), (60, False), (None, False), (500, False)],
)
def test_a_window_that_leaves_the_measured_epochs_gives_nothing(sweep_of, reached, measured):
    # With the epochs 0..119 the window t_g - 30 .. t_g + 60 is measured for t_g in 30..59.
    found = peaks_of(sweep_of, [triangle(120, 50, 8, 0.5)], [reached])
    for values in (found.rise, found.width, found.delay):
        assert np.isfinite(values).tolist() == [measured]
    assert found.interior.tolist() == [measured]


def test_runs_are_measured_each_at_its_own_epoch(sweep_of):
    curves = [triangle(120, 40, 8, 0.5), triangle(120, 61, 8, 0.25), triangle(120, 61, 8, 0.25)]
    found = peaks_of(sweep_of, curves, [42, None, 55])
    assert found.delay == pytest.approx([-2, np.nan, 6], nan_ok=True)
    assert found.rise == pytest.approx([0.5, np.nan, 0.25], nan_ok=True)
    assert found.interior.tolist() == [True, False, True]


def test_the_first_epoch_need_not_be_zero(sweep_of):
    found = peaks_of(sweep_of, [triangle(120, 50, 8, 0.5)], [1_055], epochs=np.arange(1_000, 1_120))
    assert found.delay.tolist() == [-5]


def test_the_window_can_be_chosen(sweep_of):
    curve = triangle(40, 20, 4, 0.5)
    found = peaks_of(sweep_of, [curve], [19], before=10, after=5)
    assert (found.delay[0], found.rise[0]) == (1, 0.5)


def test_another_variable_can_be_measured(sweep_of):
    curve = triangle(120, 50, 8, 0.5)[None]
    dataset = sweep_of({85: np.ones((1, 120))}, {85: [50]}, deviation={85: 4 * curve})
    assert peaks(dataset, "deviation").rise.tolist() == [0.5]


@pytest.mark.parametrize("epochs", [range(0, 240, 2), [*range(119), 200]])
def test_peaks_need_every_epoch(sweep_of, epochs):
    with pytest.raises(InputError, match="peaks need one at every epoch"):
        peaks_of(sweep_of, [np.ones(120)], [50], epochs=list(epochs))


def test_peaks_need_more_than_one_snapshot(sweep_of):
    with pytest.raises(InputError, match="peaks need one at every epoch"):
        peaks_of(sweep_of, [[1.0]], [0])


@pytest.mark.parametrize("window", [{"before": 0}, {"after": 0}, {"before": 2.5}])
def test_the_window_is_a_whole_number_of_epochs(sweep_of, window):
    with pytest.raises(InputError, match="an integer of at least 1 is needed"):
        peaks_of(sweep_of, [np.ones(120)], [50], **window)


def test_peaks_of_a_variable_that_there_is_not_name_those_that_there_are(random_sweep):
    with pytest.raises(InputError, match="the variable is 'ginni'; the sweep has size"):
        peaks(random_sweep, "ginni")


def test_the_typical_peak_is_over_the_runs_that_were_measured():
    rng = np.random.default_rng(2)
    rise, width, delay = rng.random(7), rng.integers(5, 40, 7) * 1.0, rng.integers(-30, 61, 7) * 1.0
    delay[:3] = (-10, 10, 60)
    for of in (rise, width, delay):
        of[5] = np.nan
    found = transitions.typical_peak(Peaks(rise, width, delay, (delay > -30) & (delay < 60)))
    known = [k for k in range(7) if k != 5]
    (draws,) = run_resamples([6])
    near = [float(-10 <= delay[k] <= 10) for k in known]
    for estimate, values, statistic in (
        (found.rise, rise[known], statistics.median),
        (found.width, width[known], statistics.median),
        (found.near, near, statistics.mean),
    ):
        assert estimate.value == pytest.approx(statistic(values))
        for b in range(50):
            assert estimate.resamples[b] == pytest.approx(statistic([values[k] for k in draws[b]]))
    assert found.runs == 6
    assert found.at_an_end == sum(delay[k] in (-30, 60) for k in known) >= 1


def test_without_a_measured_run_there_is_no_typical_peak():
    nothing = np.full(3, np.nan)
    found = transitions.typical_peak(Peaks(nothing, nothing, nothing, np.zeros(3, bool)))
    assert (found.runs, found.at_an_end) == (0, 0)
    assert np.isnan([found.rise.value, found.width.low, found.near.high]).all()


def test_only_the_first_of_several_crossings_counts():
    # Up at 0.5, down at 4.5, up at 8.5; the excursion at 13 does not last three snapshots.
    curve = np.array([0.0, 2, 2, 2, 2, 0, 0, 0, 0, 2, 2, 2, 2, 0, 2, 2, 0])
    epochs = np.arange(curve.size)
    assert crossing(epochs, curve) == 0.5
    assert crossing(epochs, curve, direction="down") == 4.5
    assert crossing(epochs[5:], curve[5:]) == 8.5
    # A curve that begins above 1 crosses only after it was at or below 1.
    assert crossing(epochs[1:], curve[1:]) == 8.5
