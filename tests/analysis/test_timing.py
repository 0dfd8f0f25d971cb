"""Whether a crossing follows t_g: naive loops over permutations, planted answers, false alarms."""

from itertools import permutations, product
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.analysis import scaling, transitions
from gradquake.analysis.dimension import dimension
from gradquake.analysis.group_functions import rise_of_groups
from gradquake.analysis.groups import disjoint_groups
from gradquake.analysis.resampling import (
    Interval,
    difference,
    estimated,
    percentile_interval,
    run_resamples,
)
from gradquake.analysis.rise import rise_parts
from gradquake.analysis.timing import (
    aligned,
    follows_grokking,
    grokking_spread,
    median_grokking_epoch,
)
from gradquake.errors import InputError

SCALES = (85, 201, 401, 1201)
by_statistic = pytest.mark.parametrize("statistic", ["max", "mean"])


def direct_rise(dataset, statistic):
    """D_post - D_pre from the exponents of the two phases."""
    pre, post = (
        scaling.exponent(
            dataset, statistic, transitions.phase(dataset, which), n_resamples=1
        ).fit.exponent
        for which in ("pre", "post")
    )
    return post - pre


def with_exchanged(dataset, order_of):
    """The sweep with its grokking epochs reordered within each scale."""
    reached = dataset["grokking_epoch"].values.copy()
    for n, order in order_of.items():
        runs = np.flatnonzero(dataset["n_parameters"].values == n)
        reached[runs] = reached[runs[np.asarray(order)]]
    return dataset.assign_coords(grokking_epoch=("run", reached))


def jumps(rng, jump_of, *, runs=6, snapshots=30, scatter=0.3):
    """Sizes 50 N^0.9 with scatter, times (N/50)^0.4 from a run's own epoch ``jump_of(n, run)`` on."""
    times = np.arange(snapshots)
    return {
        n: np.array(
            [
                np.ceil(
                    50
                    * n**0.9
                    * np.where(times >= jump_of(n, run), (n / 50) ** 0.4, 1.0)
                    * np.exp(scatter * rng.standard_normal(snapshots))
                )
                for run in range(runs)
            ]
        )
        for n in SCALES
    }


def at(epoch):
    """The same epoch in every run."""
    return lambda *_: epoch


def of_one_scale(sweep_of, reached):
    return sweep_of({85: np.ones((len(reached), 2))}, {85: reached})


# --- The rise around t_g -----------------------------------------------------------------------------


@by_statistic
@pytest.mark.parametrize("seed", [0, 4])
def test_the_test_is_a_loop_over_permutations(random_sweep, random_grokking, statistic, seed):
    n_permutations = 12
    rng = np.random.default_rng(seed)
    orders = {
        n: np.argsort(rng.random((n_permutations, len(reached))), axis=1)
        for n, reached in sorted(random_grokking.items())
    }
    observed = direct_rise(random_sweep, statistic)
    permuted = np.array(
        [
            direct_rise(with_exchanged(random_sweep, {n: o[i] for n, o in orders.items()}), statistic)
            for i in range(n_permutations)
        ]
    )
    found = follows_grokking(random_sweep, statistic, n_permutations=n_permutations, seed=seed)
    assert np.isfinite(permuted).all()
    assert found.n_permutations == n_permutations
    assert found.observed == pytest.approx(observed)
    assert found.expected == pytest.approx(permuted.mean())
    # Equal up to rounding is equal: the same t_g in another order gives the same rise.
    reached = (permuted >= observed - 1e-9).sum()
    assert found.p_value == pytest.approx((reached + 1) / (n_permutations + 1))


@by_statistic
def test_the_p_value_is_the_share_of_all_permutations(sweep_of, statistic):
    rng = np.random.default_rng(2)
    reached = {85: [2, 5, 3], 401: [4, 4, 1], 1201: [6, None]}
    sizes = {n: np.ceil(n * rng.gamma(1.0, size=(len(of), 8))) for n, of in reached.items()}
    sweep = sweep_of(sizes, reached)
    observed = direct_rise(sweep, statistic)
    every = [
        direct_rise(with_exchanged(sweep, dict(zip(reached, orders, strict=True))), statistic)
        for orders in product(*(permutations(range(len(of))) for of in reached.values()))
    ]
    assert len(every) == 72
    found = follows_grokking(sweep, statistic, n_permutations=4_000)
    # Four standard errors of a share of 4,000.
    exact = np.mean(np.array(every) >= observed - 1e-9)
    assert found.p_value == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 4_000))
    assert found.expected == pytest.approx(np.mean(every), abs=4 * np.std(every) / np.sqrt(4_000))


@by_statistic
@pytest.mark.parametrize("never", [(), (1, 4)], ids=["all grokked", "two a scale never did"])
def test_a_jump_at_each_runs_own_epoch_is_found(sweep_of, statistic, never):
    rng = np.random.default_rng(3)
    reached = {n: rng.permutation([3, 8, 12, 16, 21, 27]).tolist() for n in SCALES}
    for of_scale in reached.values():
        for run in never:
            of_scale[run] = None

    def own(n, run):
        return np.inf if reached[n][run] is None else reached[n][run]

    found = follows_grokking(
        sweep_of(jumps(rng, own, scatter=0.05), reached), statistic, n_permutations=500
    )
    assert found.observed == pytest.approx(0.4, abs=0.1)
    assert found.observed > found.expected
    assert found.p_value < 0.02


@by_statistic
def test_a_jump_at_one_epoch_does_not_follow_grokking(sweep_of, statistic):
    rng = np.random.default_rng(4)
    reached = {n: rng.permutation([3, 8, 12, 16, 21, 27]).tolist() for n in SCALES}
    sizes = jumps(rng, at(15))
    found = follows_grokking(sweep_of(sizes, reached), statistic, n_permutations=500)
    assert found.p_value > 0.05
    # Every split lets the mean rise; the largest size of late runs is as large before their t_g.
    if statistic == "mean":
        assert found.expected > 0.05


@by_statistic
def test_a_jump_at_one_epoch_raises_few_false_alarms(sweep_of, statistic):
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(200):
        reached = {n: rng.choice(np.arange(2, 14), 5, replace=False).tolist() for n in SCALES}
        sizes = jumps(rng, at(8), runs=5, snapshots=16)
        test = follows_grokking(sweep_of(sizes, reached), statistic, n_permutations=99)
        p_values.append(test.p_value)
    # Of 200 sweeps, 5 % are ten, with a standard deviation of three.
    assert 0.01 <= np.mean(np.array(p_values) <= 0.05) <= 0.11
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.1)


@by_statistic
def test_equal_epochs_leave_nothing_to_exchange(sweep_of, statistic):
    rng = np.random.default_rng(6)
    # They differ between the scales, but within none.
    reached = {85: [3] * 4, 201: [5] * 4, 401: [5] * 4, 1201: [9] * 4}
    sweep = sweep_of(jumps(rng, at(5), runs=4), reached)
    found = follows_grokking(sweep, statistic, n_permutations=20)
    assert found.observed == pytest.approx(direct_rise(sweep, statistic))
    assert found.expected == pytest.approx(found.observed)
    assert np.isnan(found.p_value)


@by_statistic
def test_a_single_run_a_scale_leaves_nothing_to_exchange(sweep_of, statistic):
    rng = np.random.default_rng(6)
    reached = {85: [3], 201: [5], 401: [8], 1201: [9]}
    sweep = sweep_of(jumps(rng, at(5), runs=1), reached)
    assert np.isnan(follows_grokking(sweep, statistic, n_permutations=20).p_value)


@by_statistic
def test_one_scale_with_different_epochs_is_enough(sweep_of, statistic):
    rng = np.random.default_rng(6)
    reached = {85: [3] * 4, 201: [5] * 4, 401: [2, 8, 8, 12], 1201: [9] * 4}
    sweep = sweep_of(jumps(rng, at(5), runs=4), reached)
    assert 0 < follows_grokking(sweep, statistic, n_permutations=20).p_value <= 1


@by_statistic
@pytest.mark.parametrize("scales", [SCALES, (401,)], ids=["anywhere", "at one scale"])
def test_where_no_run_grokked_there_is_no_rise(sweep_of, statistic, scales):
    rng = np.random.default_rng(7)
    reached = {n: [3, 7, 11] for n in SCALES} | {n: [None] * 3 for n in scales}
    sweep = sweep_of(jumps(rng, at(5), runs=3), reached)
    found = follows_grokking(sweep, statistic, n_permutations=10)
    assert np.isnan([found.observed, found.expected, found.p_value]).all()
    assert found.n_permutations == 10


@by_statistic
def test_runs_that_grokked_at_the_first_snapshot_have_nothing_before(sweep_of, statistic):
    rng = np.random.default_rng(8)
    sweep = sweep_of(jumps(rng, at(5), runs=2), {n: [0, 4] for n in SCALES})
    found = follows_grokking(sweep, statistic, n_permutations=10)
    assert found.observed == pytest.approx(direct_rise(sweep, statistic))
    everywhere = sweep.assign_coords(grokking_epoch=("run", np.zeros(8)))
    assert np.isnan(follows_grokking(everywhere, statistic, n_permutations=10).observed)


@by_statistic
def test_a_seed_decides_the_permutations(random_sweep, statistic):
    one, two, other = (
        follows_grokking(random_sweep, statistic, n_permutations=60, seed=s) for s in (1, 1, 2)
    )
    assert one == two
    assert one.observed == other.observed
    assert one.expected != other.expected


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 1_000), st.sampled_from(["max", "mean"]))
def test_the_unit_of_size_does_not_matter(random_sweep, factor, statistic):
    one = follows_grokking(random_sweep, statistic, n_permutations=30)
    scaled = random_sweep.assign(size=factor * random_sweep["size"])
    other = follows_grokking(scaled, statistic, n_permutations=30)
    assert other.observed == pytest.approx(one.observed, abs=1e-10)
    assert other.p_value == one.p_value


def test_the_test_refuses_what_it_cannot_permute(random_sweep):
    with pytest.raises(InputError, match="statistic is 'median'"):
        follows_grokking(random_sweep, "median", n_permutations=5)
    for test in (follows_grokking,):
        with pytest.raises(InputError, match="n_permutations is 0; an integer of at least 1"):
            test(random_sweep, n_permutations=0)


# --- The median grokking epoch and the lag behind it -------------------------------------------------


def naive_medians(random_grokking, n_resamples, seed):
    """The median of all runs, as they are and in every resample."""
    late = {n: [np.inf if t is None else t for t in of] for n, of in sorted(random_grokking.items())}
    draws = run_resamples([len(of_scale) for of_scale in late.values()], n_resamples, seed)
    resampled = [
        median(of_scale[run] for of_scale, d in zip(late.values(), draws, strict=True) for run in d[i])
        for i in range(n_resamples)
    ]
    return median(t for of_scale in late.values() for t in of_scale), np.array(resampled)


def test_the_median_epoch_is_that_of_all_runs(random_sweep, random_grokking):
    found = median_grokking_epoch(random_sweep, n_resamples=40, seed=3)
    observed, resampled = naive_medians(random_grokking, 40, 3)
    assert found.value == observed
    assert np.array_equal(found.resamples, resampled)
    assert found.runs == 3
    assert Interval(found.low, found.high, found.invalid) == percentile_interval(resampled, 3)


def test_a_median_among_runs_that_never_grokked_is_infinite(sweep_of):
    sizes = {n: np.ones((3, 2)) for n in SCALES}
    sweep = sweep_of(sizes, {n: [5, None, None] for n in SCALES})
    found = median_grokking_epoch(sweep, n_resamples=200)
    assert found.value == np.inf
    # Some resamples hold enough of the runs that grokked, most do not.
    assert 0 < np.isfinite(found.resamples).mean() < 0.5
    assert found.invalid == np.isinf(found.resamples).mean()
    assert np.isnan(found.low)


def test_single_runs_have_a_median_without_an_interval(sweep_of):
    sweep = sweep_of({n: np.ones((1, 2)) for n in SCALES}, {n: [n] for n in SCALES})
    found = median_grokking_epoch(sweep, n_resamples=10)
    assert found.value == 301
    assert found.resamples.size == 0
    assert np.isnan(found.low)


def test_the_lag_is_taken_resample_by_resample(random_sweep, random_grokking):
    crossing = estimated(4.0, np.random.default_rng(9).normal(4, 1, 40), 3)
    found = difference(crossing, median_grokking_epoch(random_sweep, n_resamples=40, seed=3))
    observed, resampled = naive_medians(random_grokking, 40, 3)
    one_by_one = np.array([c - m for c, m in zip(crossing.resamples, resampled, strict=True)])
    assert found.value == 4.0 - observed
    assert np.array_equal(found.resamples, one_by_one)
    assert found.runs == 3
    assert Interval(found.low, found.high, found.invalid) == percentile_interval(one_by_one, 3)


def test_a_lag_is_missing_where_the_crossing_is_or_no_run_grokked():
    crossing = estimated(np.nan, np.array([np.nan, 3.0, np.inf, 5.0]), 2)
    grokking = estimated(np.inf, np.array([2.0, np.inf, np.inf, 4.0]), 2)
    found = difference(crossing, grokking)
    assert np.isnan(found.value)
    assert np.array_equal(found.resamples, [np.nan, -np.inf, np.nan, 1.0], equal_nan=True)
    assert found.invalid == 0.75


def test_the_lag_of_a_planted_crossing(sweep_of):
    # D(t) passes 1 at 3.5 in every resample, and all runs grok at the epoch 2 or 3.
    sizes = {n: np.round(100 * n ** np.tile(np.repeat([0.8, 1.2], [4, 6]), (2, 1))) for n in SCALES}
    sweep = sweep_of(sizes, {n: [2, 3] for n in SCALES})
    times = transitions.crossing(np.arange(10), dimension(sweep, n_resamples=20)["value"])
    crossing = estimated(float(times), np.full(20, float(times)), 2)
    found = difference(crossing, median_grokking_epoch(sweep, n_resamples=20))
    assert found.value == pytest.approx(1.0, abs=1e-3)
    assert found.low == pytest.approx(0.5, abs=0.3)
    assert found.high == pytest.approx(1.5, abs=0.3)


# Time since an event


def test_runs_are_read_from_the_snapshot_of_their_event(sweep_of):
    sizes = {n: [[n, n + 1, n + 2, n + 3, n + 4]] * 2 for n in (10, 20, 30)}
    sweep = sweep_of(sizes, epochs=[0, 10, 20, 30, 40])
    # Rounded down to 10, 20, 0, 10, 20 and 10.
    moved = aligned(sweep, np.array([10, 29, 0, 17, 20, 10]), 10)
    assert moved["epoch"].values.tolist() == [-20, -10, 0, 10, 20, 30, 40]
    expected = {10: [(1, 0), (2, 1)], 20: [(0, 0), (1, 1)], 30: [(2, 0), (1, 1)]}
    for n, starts in expected.items():
        for start, row in starts:
            got = moved["size"].values[moved["n_parameters"].values == n][row]
            at = dict(zip(moved["epoch"].values.tolist(), got, strict=True))
            assert at[0] == n + start
            assert at[10] == n + start + 1
    # At -20 one scale lacks both of its runs, at 40 two do.
    assert np.isnan(moved["size"].sel(epoch=[-20, 40]).values).all()


@given(st.data())
def test_every_size_keeps_its_time(sweep_of, data):
    events = data.draw(
        st.lists(st.one_of(st.just(np.nan), st.integers(0, 50)), min_size=6, max_size=6).filter(
            lambda values: not np.isnan(values).all()
        )
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    sizes = {n: rng.integers(1, 100, (2, 11)) for n in (10, 20, 30)}
    sweep = sweep_of(sizes, epochs=np.arange(0, 55, 5))
    moved = aligned(sweep, np.array(events, float), 5)
    for row, event, original in zip(moved["size"].values, events, sweep["size"].values, strict=True):
        for offset, size in zip(moved["epoch"].values, row, strict=True):
            if np.isfinite(size):
                assert size == original[(offset + event // 5 * 5) // 5]


def test_without_any_event_nothing_is_aligned(sweep_of):
    sweep = sweep_of({n: [[1, 2]] for n in (10, 20, 30)}, epochs=[0, 10])
    with pytest.raises(InputError, match="no run has the event"):
        aligned(sweep, np.full(3, np.nan), 10)


@pytest.mark.parametrize("statistic", ["max", "mean"])
def test_snapshots_that_are_missing_are_in_no_phase(sweep_of, statistic):
    rng = np.random.default_rng(23)
    sizes = {n: rng.poisson(n, size=(4, 12)) + 1 for n in (85, 201, 401)}
    sweep = sweep_of(sizes, {n: [2, 4, 5, 7] for n in sizes})
    # The second half of the runs ends early: before and after hold fewer snapshots of them.
    short = sweep.where((sweep["seed"] < 2) | (sweep["epoch"] < 9))
    found = follows_grokking(short, statistic, n_permutations=50)
    pre, post = (
        scaling.exponent(short, statistic, transitions.phase(short, phase), n_resamples=5)
        for phase in transitions.SPLIT_PHASES
    )
    assert found.observed == pytest.approx(post.value - pre.value)
    assert 0 < found.p_value <= 1


def test_the_spread_of_grokking_epochs_is_of_runs():
    epochs = np.arange(1000.0)
    assert grokking_spread(epochs) == (25, 500, 974)
    late = grokking_spread(np.where(epochs >= 400, np.nan, epochs))
    assert late == (25, np.inf, np.inf)


# --- The parts of the rise --------------------------------------------------------------------------

PART_SCALES = (81, 201, 481, 1201)


def split_sweep(sweep_of, course, runs=48, seed=0):
    """Sizes N^D(t) with a scatter, D(t) a function of the epochs and of t_g (runs, 1)."""
    rng, epochs = np.random.default_rng(seed), np.arange(0, 60, 2)
    sizes, grokking = {}, {}
    for n in PART_SCALES:
        # Later, and more spread out, at larger N.
        reached = rng.integers(10, 20 + n // 40, runs)
        scatter = np.exp(0.3 * rng.standard_normal((runs, epochs.size)))
        sizes[n] = np.ceil(1000 * float(n) ** course(epochs, reached[:, None]) * scatter)
        grokking[n] = reached.tolist()
    return sweep_of(sizes, grokking, epochs=epochs)


@by_statistic
def test_without_a_change_in_time_the_rise_is_the_split(sweep_of, statistic):
    sweep = split_sweep(sweep_of, lambda epochs, reached: 1.0 + 0 * epochs * reached)
    found = rise_parts(sweep, statistic)
    for part in (found.epoch, found.scale, found.own):
        assert part.contains(0)
    total = found.split.value + found.epoch.value + found.scale.value + found.own.value
    assert total == pytest.approx(found.rise.value)
    # The phases have other numbers of snapshots at other N: that alone moves the largest size.
    assert found.split.contains(0) == (statistic == "mean")


@by_statistic
def test_a_rise_at_one_epoch_is_not_due_to_the_own_t_g(sweep_of, statistic):
    # The change at epoch 20 is after t_g at small N and before it at large N, so that large networks are
    # large already before their t_g: D falls at t_g, though it rises with time.
    sweep = split_sweep(sweep_of, lambda epochs, reached: 0.9 + 0.3 * (epochs > 20) + 0 * reached)
    found = rise_parts(sweep, statistic)
    assert found.rise.high < 0
    if statistic == "mean":
        # With the t_g of small networks, too, the largest size of large ones is before t_g.
        assert found.epoch.low > 0
    # The scale alone accounts for all of the fall, or for more.
    assert found.scale.high < 0
    assert found.shares["scale"].high > 1
    assert found.own.contains(0)


@by_statistic
def test_a_rise_at_each_own_t_g_is_found(sweep_of, statistic):
    sweep = split_sweep(sweep_of, lambda epochs, reached: 0.9 + 0.3 * (epochs >= reached))
    found = rise_parts(sweep, statistic)
    assert found.own.low > 0.02
    share = found.shares["own"]
    assert share.value == pytest.approx(found.own.value / found.rise.value)
    assert 0.1 < share.low < share.value < share.high
    assert "own / rise" in repr(found)


@by_statistic
def test_the_rise_is_that_of_groups_and_others_exchange_their_t_g(sweep_of, statistic):
    sweep = split_sweep(sweep_of, lambda epochs, reached: 0.9 + 0.3 * (epochs >= reached), runs=7)
    draws = disjoint_groups([7] * 4, 2)
    values = rise_of_groups(sweep, statistic)(draws)
    found = rise_parts(sweep, statistic, size=2)
    assert found.rise.value == pytest.approx(values.mean())
    # In a group of two, each run takes the t_g of the other.
    reached = sweep["grokking_epoch"].values.copy()
    for scale, drawn in zip(PART_SCALES, draws, strict=True):
        members = np.flatnonzero(sweep["n_parameters"].values == scale)
        for pair in drawn:
            reached[members[pair]] = reached[members[pair[::-1]]]
    swapped = sweep.assign_coords(grokking_epoch=("run", reached))
    others = rise_of_groups(swapped, statistic)(draws)
    assert found.own.value == pytest.approx((values - others).mean())


@by_statistic
def test_a_null_keeps_a_share_of_the_rise(sweep_of, statistic):
    sweep = split_sweep(sweep_of, lambda epochs, reached: 0.9 + 0.3 * (epochs >= reached))
    null = split_sweep(sweep_of, lambda epochs, reached: 0.9 + 0.15 * (epochs >= reached))
    found = rise_parts(sweep, statistic, null)
    runs = np.unique(sweep["n_parameters"].values, return_counts=True)[1].tolist()
    of_null = rise_of_groups(null, statistic)(disjoint_groups(runs))
    assert found.null.value == pytest.approx(of_null.mean())
    share = found.shares["null"]
    assert share.value == pytest.approx(found.null.value / found.rise.value)
    assert share.low < share.value < share.high < 1
    # The parts are those without a null.
    alone = rise_parts(sweep, statistic)
    assert found.own.value == alone.own.value
    assert alone.null is None
    assert rise_parts(sweep, statistic, sweep).shares["null"].low == 1


def test_a_null_of_other_runs_is_refused(sweep_of):
    sweep = split_sweep(sweep_of, lambda epochs, reached: 1.0 + 0 * epochs * reached)
    with pytest.raises(InputError, match="a null of the same runs is needed"):
        rise_parts(sweep, "max", sweep.isel(run=slice(None, None, -1)))


def test_too_few_runs_have_no_parts(sweep_of):
    sweep = split_sweep(sweep_of, lambda epochs, reached: 1.0 + 0 * epochs * reached, runs=6)
    with pytest.raises(InputError, match="a scale has 6 runs; the parts of the rise need two groups"):
        rise_parts(sweep)
