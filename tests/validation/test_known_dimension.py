"""Avalanches of known dimension: the estimators find it, and their intervals cover it.

The scales are the numbers of parameters 4h + 1 of networks with h hidden nodes.
"""

import numpy as np
import pytest

from gradquake.analysis import scaling
from gradquake.analysis.resampling import Interval, percentile_interval
from gradquake.analysis.sweep import analyze
from gradquake.analysis.transitions import crossing

HIDDEN = (20, 30, 50, 70, 100, 120, 200, 500)
SCALES = tuple(4 * h + 1 for h in HIDDEN)
by_statistic = pytest.mark.parametrize("statistic", ["max", "mean"])


def whole(sizes, rng):
    """Round to whole topplings by chance, so that no mean is shifted."""
    return np.floor(sizes + rng.random(sizes.shape))


def cut_off_power_law(cutoff, shape, rng):
    """Sizes with P(s) ~ s^(-3/2) between 1 and the cutoff, by inversion of P(> s)."""
    return (1.0 - rng.random(shape) * (1.0 - cutoff**-0.5)) ** -2.0


def correlated(n, dimension, shape, rng, of_run=0.4, of_snapshot=0.8):
    """Lognormal sizes that scale as N^D, partly shared by the snapshots of a run."""
    runs, snapshots = shape
    shared = of_run * rng.standard_normal((runs, 1))
    own = of_snapshot * rng.standard_normal((runs, snapshots))
    return n**dimension * np.exp(shared + own)


def correlated_sweep(sweep_of, dimension, runs, snapshots, rng, **scatter):
    """A sweep of ``correlated`` sizes; the dimension is a number or one for each snapshot."""
    shape = (runs, snapshots)
    return sweep_of({n: whole(correlated(n, dimension, shape, rng, **scatter), rng) for n in SCALES})


@pytest.mark.parametrize("dimension", [0.9, 1.0, 1.2])
def test_a_power_law_cut_off_at_a_power_of_n_has_that_dimension(sweep_of, dimension):
    # P(s) ~ s^(-3/2) on 1..c with c = N^D has the mean (c^(1/2) - 1) / (1 - c^(-1/2)) = c^(1/2), so
    # gamma = D / 2, without a correction at small N. The largest of many sizes comes close to c.
    rng = np.random.default_rng(21)
    sizes = {n: whole(cut_off_power_law(float(n) ** dimension, (20, 400), rng), rng) for n in SCALES}
    largest, mean = (
        scaling.exponent(sweep_of(sizes), statistic, n_resamples=400) for statistic in ("max", "mean")
    )
    assert largest.estimate == pytest.approx(dimension, abs=0.04)
    assert largest.fit.r_squared > 0.98
    assert mean.estimate == pytest.approx(dimension / 2, abs=0.05)
    assert mean.interval.contains(dimension / 2)


def interval_over_runs(dataset, statistic):
    return scaling.exponent(dataset, statistic, n_resamples=400).interval


def interval_over_snapshots(dataset, statistic):
    return scaling.snapshot_interval(dataset, statistic, n_resamples=400)


def interval_of_fit(dataset, statistic):
    fit = scaling.exponent(dataset, statistic, n_resamples=1).fit
    return Interval(fit.ci_low, fit.ci_high, 0.0)


def coverage(sweep_of, interval_of, statistic, runs, sweeps, dimension=1.1):
    """The share of simulated sweeps of 20 snapshots a run whose interval contains D."""
    rng = np.random.default_rng(23)
    hits = [
        interval_of(correlated_sweep(sweep_of, dimension, runs, 20, rng), statistic).contains(dimension)
        for _ in range(sweeps)
    ]
    return float(np.mean(hits))


@by_statistic
@pytest.mark.parametrize("dimension", [0.9, 1.2])
def test_estimates_scatter_around_the_dimension(sweep_of, statistic, dimension):
    # s = N^D x with x alike at every N: log max and log mean have the slope D on average.
    rng = np.random.default_rng(22)
    estimates = [
        scaling.exponent(
            correlated_sweep(sweep_of, dimension, 6, 20, rng), statistic, n_resamples=1
        ).estimate
        for _ in range(100)
    ]
    stderr = np.std(estimates, ddof=1) / np.sqrt(100)
    assert np.mean(estimates) == pytest.approx(dimension, abs=3.5 * stderr)
    assert stderr < 0.02


# A bootstrap of n runs has (n - 1) / n of their variance, so that an interval of nominal 95 %
# covers 92.6 % (6 runs) or 93.9 % (12) even of normal means; skewed sizes cost two or three points
# more. For the maximum it stays near 89 %, however many the runs: no resample exceeds the sample's
# largest.
@pytest.mark.parametrize(
    ("statistic", "runs", "lowest", "highest"),
    [
        ("mean", 6, 0.87, 0.96),
        ("mean", 12, 0.88, 0.99),
        ("max", 6, 0.85, 0.95),
        ("max", 12, 0.85, 0.95),
    ],
)
def test_the_bootstrap_over_runs_covers_the_exponent(sweep_of, statistic, runs, lowest, highest):
    share = coverage(sweep_of, interval_over_runs, statistic, runs, sweeps=300)
    assert lowest < share < highest


@by_statistic
def test_the_interval_of_the_fit_covers_the_exponent(sweep_of, statistic):
    # Log sizes that scatter alike at every N are what Student's t assumes, nearly.
    share = coverage(sweep_of, interval_of_fit, statistic, runs=6, sweeps=200)
    assert 0.91 < share < 0.99


def test_the_bootstrap_over_snapshots_covers_too_rarely(sweep_of):
    over_runs, over_snapshots = (
        coverage(sweep_of, interval_of, "mean", runs=12, sweeps=150)
        for interval_of in (interval_over_runs, interval_over_snapshots)
    )
    assert over_snapshots < 0.8 < over_runs


# D(t) rises from 0.9 to 1.2 on a logistic curve around the epoch 60. It is 1 where
# 0.3 / (1 + exp(-(t - 60) / 5)) = 0.1, at t = 60 - 5 ln 2.
EPOCHS = np.arange(0, 120, 2)
RISING = 0.9 + 0.3 / (1 + np.exp(-(EPOCHS - 60) / 5))
CROSSING = 60 - 5 * np.log(2)


def resolved_sweep(sweep_of, dimension, rng, reached=57):
    """A sweep whose D(t) is known at each snapshot, with little scatter."""
    shape = (12, EPOCHS.size)
    sizes = {n: whole(correlated(n, dimension, shape, rng, 0.05, 0.1), rng) for n in SCALES}
    return sweep_of(sizes, {n: [reached] * 12 for n in SCALES}, epochs=EPOCHS)


@by_statistic
def test_d_follows_its_planted_course(sweep_of, statistic):
    dataset = resolved_sweep(sweep_of, RISING, np.random.default_rng(24))
    found = scaling.dimension(dataset, statistic, n_resamples=400)
    assert found["exponent"].values == pytest.approx(RISING, abs=0.1)
    inside = (found["ci_low"].values <= RISING) & (found["ci_high"].values >= RISING)
    assert inside.mean() > 0.8


@by_statistic
def test_a_planted_crossing_is_found_within_its_interval(sweep_of, statistic):
    rng = np.random.default_rng(25)
    curves = []
    for _ in range(20):
        dataset = resolved_sweep(sweep_of, RISING, rng)
        found = scaling.dimension(dataset, statistic, n_resamples=200)
        curves.append((found["exponent"].values, found["exponent_resamples"].values))
    estimates = [float(crossing(EPOCHS, observed)) for observed, _ in curves]
    intervals = [percentile_interval(crossing(EPOCHS, resampled)) for _, resampled in curves]
    assert estimates == pytest.approx([CROSSING] * 20, abs=6)
    assert np.mean(estimates) == pytest.approx(CROSSING, abs=1.5)
    assert sum(interval.contains(CROSSING) for interval in intervals) >= 16


@by_statistic
def test_a_planted_rise_is_told_by_the_phases(sweep_of, statistic):
    dataset = resolved_sweep(sweep_of, np.where(EPOCHS < 57, 0.9, 1.2), np.random.default_rng(26))
    result = analyze(dataset, n_resamples=200)
    assert result.exponents["pre", statistic].estimate == pytest.approx(0.9, abs=0.06)
    assert result.exponents["post", statistic].estimate == pytest.approx(1.2, abs=0.06)
    # The line from 0.9 at the epoch 56 to 1.2 at 58 is 1 after a third of the way.
    assert result.curves[statistic].crossing.estimate == pytest.approx(56 + 2 / 3, abs=0.3)
    assert result.curves[statistic].crossing.interval.contains(56 + 2 / 3)


@by_statistic
@pytest.mark.parametrize("course", [np.full(EPOCHS.size, 1.2), 2.1 - RISING], ids=["flat", "falling"])
def test_without_a_rise_nothing_crosses_upwards(sweep_of, statistic, course):
    dataset = resolved_sweep(sweep_of, course, np.random.default_rng(27))
    result = analyze(dataset, n_resamples=200)
    curve = result.curves[statistic]
    assert np.isnan(curve.crossing.estimate)
    assert np.isnan(curve.crossing.interval.low)
    assert curve.crossing.interval.invalid > 0.9
    assert not result.crosses_in_window(statistic)


@by_statistic
def test_a_planted_fall_crosses_downwards(sweep_of, statistic):
    # 2.1 - D(t) is 1 where D(t) is 1.1: 0.3 / (1 + exp(-(t - 60) / 5)) = 0.2, at t = 60 + 5 ln 2.
    dataset = resolved_sweep(sweep_of, 2.1 - RISING, np.random.default_rng(28))
    found = scaling.dimension(dataset, statistic, n_resamples=1)
    time = crossing(EPOCHS, found["exponent"].values, direction="down")
    assert time == pytest.approx(60 + 5 * np.log(2), abs=6)
