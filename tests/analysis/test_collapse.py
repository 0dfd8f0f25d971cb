"""The quality of the data collapse against its formula, and its exponent where it is known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.analysis.collapse import (
    MOST_POINTS,
    _curves,
    _qualities,
    best_collapse,
    perfect_quality,
    quality,
)
from gradquake.analysis.distributions import Ccdf, ccdfs
from gradquake.errors import InputError

PLANTED = 0.8
SCALES = (85, 201, 401, 801, 1601, 3201)

seeds = st.integers(0, 2**32 - 1)


def scale_of(n, sizes, probability, stderr):
    sizes, probability = np.asarray(sizes), np.asarray(probability, float)
    dy = np.broadcast_to(np.asarray(stderr, float), probability.shape)
    return Ccdf(n, sizes, probability, probability - 2 * dy, probability + 2 * dy, dy)


def logistic(rng, *, together=False, width=None, dy=0.01, noise=1.0, points=30):
    """Return scales on P = 1 / (1 + e^(x / width)) with Gaussian noise of the stated error.

    It is of every point for itself, or of all points of a scale ``together``.
    """
    scales = []
    for n in SCALES:
        x = np.linspace(-3, 3, points) + rng.uniform(-0.1, 0.1)
        off = rng.standard_normal(1 if together else points)
        p = 1 / (1 + np.exp(x / (width(n) if width else 1.0))) + noise * dy * off
        scales.append(scale_of(n, np.exp(x) * n**PLANTED, p, dy))
    return scales


def lognormal_sweep(rng, *, effect=0.5, width=lambda n: 1.0, scales=SCALES, runs=8):  # noqa: ARG005
    """Return sizes that scale as N^PLANTED, with an effect of the run."""
    sizes = {}
    for n in scales:
        log_size = rng.standard_normal((runs, 30)) + effect * rng.standard_normal((runs, 1))
        sizes[n] = np.ceil(10 * n**PLANTED * np.exp(width(n) * log_size))
    return sizes


def random_scales(rng, *, whole=False):
    scales = []
    for n in (7, 20, 90, 91):
        count = int(rng.integers(1, 70))
        sizes = rng.choice(100, count, replace=False) if whole else rng.lognormal(2, 2, count)
        dy = rng.uniform(0.01, 0.3, count) * (rng.random(count) < 0.9)
        scales.append(scale_of(n, np.sort(sizes), np.sort(rng.random(count))[::-1], dy))
    return scales


def naive_quality(scales, exponent):
    """Return S with one loop for each sum of the paper."""
    sets = []
    for scale in scales:
        points = [
            (np.log(s) - exponent * np.log(scale.n_parameters), y, dy)
            for s, y, dy in zip(scale.sizes, scale.probability, scale.stderr, strict=True)
            if s > 0 and dy > 0
        ]
        kept = points
        if len(points) > MOST_POINTS:
            step = (len(points) - 1) / (MOST_POINTS - 1)
            kept = [points[round(i * step)] for i in range(MOST_POINTS)]
        sets.append((points, kept))
    terms = []
    for j, (_, compared) in enumerate(sets):
        for x, y, dy in compared:
            fit = []
            for k, (points, _) in enumerate(sets):
                pairs = [
                    (one, two) for one, two in pairwise(points) if one[0] - 1e-12 <= x <= two[0] + 1e-12
                ]
                if k != j and pairs:
                    # On a point itself it ends one pair and starts the next, which is taken.
                    fit += pairs[-1]
            if fit:
                w = [1 / e**2 for _, _, e in fit]
                k, kx = sum(w), sum(w * u for w, (u, _, _) in zip(w, fit, strict=True))
                ky = sum(w * v for w, (_, v, _) in zip(w, fit, strict=True))
                kxx = sum(w * u * u for w, (u, _, _) in zip(w, fit, strict=True))
                kxy = sum(w * u * v for w, (u, v, _) in zip(w, fit, strict=True))
                delta = k * kxx - kx**2
                fitted = (kxx * ky - kx * kxy) / delta + x * (k * kxy - kx * ky) / delta
                variance = (kxx - 2 * x * kx + x**2 * k) / delta
                terms.append((y - fitted) ** 2 / (dy**2 + variance))
    return sum(terms) / len(terms) if terms else np.nan


@settings(deadline=None, max_examples=25)
@given(seeds, st.booleans())
def test_the_quality_is_that_of_loops(seed, whole):
    scales = random_scales(np.random.default_rng(seed), whole=whole)
    # Whole sizes coincide at D = 0.
    exponents = [0.0, 0.37, 1.1, 8.0]
    naive = [naive_quality(scales, exponent) for exponent in exponents]
    assert quality(scales, exponents) == pytest.approx(naive, rel=1e-6, nan_ok=True)


def test_the_quality_by_hand():
    # On the middle of a pair with errors 1, the line is the mean with variance 1/2.
    line = scale_of(1, [1.0, np.e**2], [0.9, 0.5], 1.0)
    point = scale_of(2, [np.e], [0.2], 2.0)
    assert quality([line, point], 0.0) == pytest.approx((0.7 - 0.2) ** 2 / (4 + 0.5))


def test_the_quality_of_a_collapse_within_errors_is_one():
    rng = np.random.default_rng(0)
    found = [quality(logistic(rng), [PLANTED, PLANTED - 0.2]) for _ in range(100)]
    at_planted, beside = np.mean(found, axis=0)
    assert at_planted == pytest.approx(1, abs=0.04)
    assert beside > 10


def test_independent_points_find_the_exponent_far_within_the_error():
    rng = np.random.default_rng(1)
    found = [best_collapse(logistic(rng)) for _ in range(40)]
    off = np.array([one.value - PLANTED for one in found])
    error, m = np.mean([one.error for one in found]), np.mean([one.n_points for one in found])
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(len(off))
    assert (np.abs(off) < error / 3).all()
    # The S of M independent terms rises by about 1 / M within a standard deviation.
    assert 0.7 < off.std() * np.sqrt(m) / error < 2.5
    assert np.mean([one.quality for one in found]) == pytest.approx(1, abs=0.1)


def test_points_that_move_together_find_the_exponent_within_the_error():
    rng = np.random.default_rng(2)
    found = [best_collapse(logistic(rng, together=True)) for _ in range(60)]
    off = np.array([one.value - PLANTED for one in found])
    inside = [one.low <= PLANTED <= one.high for one in found]
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(len(off))
    assert np.mean(inside) > 0.9
    assert 1.5 < np.mean([one.error for one in found]) / off.std() < 4


def test_sweeps_give_their_exponent_within_its_error(sweep_of):
    rng = np.random.default_rng(3)
    found = [
        best_collapse(ccdfs(sweep_of(lognormal_sweep(rng, runs=20)), n_resamples=100)) for _ in range(25)
    ]
    off = np.array([one.value - PLANTED for one in found])
    assert {(one.message, one.n_scales) for one in found} == {("", len(SCALES))}
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(len(off))
    assert np.mean([one.low <= PLANTED <= one.high for one in found]) > 0.85
    assert 1 < np.mean([one.error for one in found]) / off.std() < 4
    assert 0.7 < np.median([one.quality for one in found]) < 1.5


def test_a_shape_that_changes_with_scale_does_not_collapse(sweep_of):
    rng = np.random.default_rng(4)
    sizes = lognormal_sweep(rng, effect=0, width=lambda n: (n / 85) ** 0.4, scales=(85, 401, 3201))
    changing = best_collapse(ccdfs(sweep_of(sizes), n_resamples=100))
    assert "there is no collapse, and the interval says nothing about D." in changing.message
    assert changing.quality > 10
    made = best_collapse(logistic(rng, width=lambda n: (n / 85) ** 0.4))
    assert made.quality > 20


def test_many_sizes_do_not_spoil_the_quality():
    # Forty points of a curve are compared, but chords between forty points would miss it.
    rng = np.random.default_rng(5)
    scales = logistic(rng, dy=1e-4, points=3000)
    assert quality(scales, PLANTED) == pytest.approx(1, abs=0.3)
    assert best_collapse(scales).n_points <= MOST_POINTS * len(SCALES)


def test_low_and_high_are_where_the_quality_has_risen_by_one():
    scales = logistic(np.random.default_rng(6))
    found = best_collapse(scales)
    outside = np.array([found.low, found.high])
    assert (quality(scales, outside) > found.quality + 1).all()
    within = outside + np.array([2e-4, -2e-4])
    assert (quality(scales, within) <= found.quality + 1).all()
    assert found.error == pytest.approx((found.high - found.low) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_no_exponent_of_a_dense_grid_is_better(seed):
    scales = logistic(np.random.default_rng(seed), together=True)
    found = best_collapse(scales)
    assert quality(scales, found.value) == found.quality
    assert found.quality <= quality(scales, np.arange(0.5, 1.1, 0.001)).min() + 0.005


def test_the_smallest_of_many_minima_is_found():
    # Few, certain points: S jumps whenever one of them comes within reach of another scale.
    rng = np.random.default_rng(12)
    for _ in range(6):
        scales = [
            scale_of(n, np.sort(rng.choice(9 * n, 9, replace=False)), np.linspace(0.9, 0.1, 9), 0.02)
            for n in (50, 80, 130, 210)
        ]
        found = best_collapse(scales)
        everywhere, m = _qualities(_curves(scales), np.linspace(0, 2.5, 25_001))
        everywhere[m < m.max() / 2] = np.inf
        assert (np.diff(everywhere[np.isfinite(everywhere)]) > 0.2).any()
        assert found.quality <= 1.05 * everywhere.min()


def test_curves_that_hardly_overlap_are_no_collapse():
    # Wide ends agree with everything; the bodies agree nowhere, and least badly at the planted D.
    scales = logistic(np.random.default_rng(7), width=lambda n: (n / 85) ** 0.3, dy=0.001)
    wide = np.where(np.abs(np.arange(30) - 14.5) > 13, 5.0, 0.001)
    scales = [replace(scale, stderr=wide) for scale in scales]
    found = best_collapse(scales, (0.0, 10.0))
    assert np.nanmin(quality(scales, np.arange(0, 10, 0.05))) < 1
    assert found.quality > 100
    assert found.value == pytest.approx(PLANTED, abs=0.15)
    assert found.n_points > 100


def test_certain_points_say_nothing():
    scales = logistic(np.random.default_rng(8))
    padded = [
        scale_of(
            scale.n_parameters,
            np.concatenate([[0.0, 1e-9], scale.sizes, [1e9, 2e9]]),
            np.concatenate([[1, 1], scale.probability, [0, 0]]),
            np.concatenate([[0.1, 0], scale.stderr, [1e-17, np.nan]]),
        )
        for scale in scales
    ]
    assert best_collapse(padded) == best_collapse(scales)


@settings(deadline=None, max_examples=15)
@given(seeds, st.permutations(range(len(SCALES))), st.floats(1e-6, 1e6), st.integers(2, 1000))
def test_order_and_units_change_nothing(seed, order, unit, parts):
    scales = logistic(np.random.default_rng(seed), together=True)
    others = [
        replace(
            scale,
            n_parameters=scale.n_parameters * parts,
            sizes=scale.sizes * unit,
            probability=scale.probability / 3,
            stderr=scale.stderr / 3,
        )
        for scale in (scales[i] for i in order)
    ]
    exponents = [0.31, 0.77, 0.83, 1.3]
    assert quality(others, exponents) == pytest.approx(quality(scales, exponents), rel=1e-6)
    one, other = best_collapse(scales), best_collapse(others)
    assert other.quality == pytest.approx(one.quality, rel=1e-6)
    for name in ("value", "low", "high"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), abs=2.1e-4)


def test_the_quality_has_the_shape_of_the_exponents():
    scales = logistic(np.random.default_rng(9))
    flat = quality(scales, [0.1, 0.8, 0.9, 1.0])
    assert np.array_equal(quality(scales, [[0.1, 0.8], [0.9, 1.0]]), flat.reshape(2, 2))
    assert quality(scales, 0.8) == flat[1]
    assert quality(scales, []).shape == (0,)


def test_a_rise_beyond_the_range_is_unknown():
    scales = logistic(np.random.default_rng(10))
    inside = best_collapse(scales, (PLANTED - 0.01, 2.0))
    assert np.isnan(inside.low)
    assert np.isnan(inside.error)
    assert inside.high == pytest.approx(best_collapse(scales).high, abs=2e-4)
    assert best_collapse(scales, (1.0, 2.0)).value == 1.0


def test_a_rise_beyond_the_overlap_is_unknown():
    vague = [replace(scale, stderr=np.ones(30)) for scale in logistic(np.random.default_rng(11))]
    found = best_collapse(vague, (-10.0, 10.0))
    assert found.quality < 1
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([], "there are 0."),
        (logistic(np.random.default_rng(0))[:1], "there are 1."),
        ([scale_of(n, [1, 2, 3], [0.8, 0.4, 0], np.nan) for n in SCALES], "there are 0."),
        ([scale_of(n, [1, 2, 3], [0.8, 0.4, 0], 1e-17) for n in SCALES], "there are 0."),
        ([scale_of(n, [n**4, n**4 + 1], [0.8, 0.4], 0.1) for n in SCALES], "overlap at no D"),
        ([scale_of(n, [3], [0.8], 0.1) for n in SCALES], "overlap at no D from 0 to 2.5"),
    ],
)
def test_without_a_collapse_the_message_says_why(scales, message):
    found = best_collapse(scales)
    assert message in found.message
    assert np.isnan([found.value, found.low, found.high, found.quality, found.error]).all()
    assert found.n_points == 0
    assert np.isnan(quality(scales, [0.5, 1.0])).all()


def test_a_single_run_a_scale_has_no_collapse(sweep_of):
    single = ccdfs(sweep_of(lognormal_sweep(np.random.default_rng(11), runs=1)), n_resamples=10)
    assert best_collapse(single).message == (
        "A collapse needs 2 scales with an error of P(> s), from runs that differ; there are 0."
    )


@pytest.mark.parametrize("search", [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0)])
def test_the_range_must_ascend(search):
    with pytest.raises(InputError, match="two finite numbers, ascending, are needed"):
        best_collapse(logistic(np.random.default_rng(0)), search)


@pytest.mark.parametrize("exponents", [np.nan, [0.5, np.inf]])
def test_an_exponent_must_be_finite(exponents):
    with pytest.raises(InputError, match="an exponent is not finite"):
        quality(logistic(np.random.default_rng(0)), exponents)


def test_a_perfect_collapse_of_few_runs_has_a_larger_quality():
    assert [perfect_quality(runs) for runs in (4, 6, 15)] == [4, 2, 1.25]
    assert np.isnan([perfect_quality(runs) for runs in (1, 2, 3)]).all()
