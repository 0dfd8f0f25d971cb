"""Gradients whose correlations are known: the nulls find none where none is, and those planted.

D_real - D_permuted is due to the arrangement of a gradient on the graph, and D_permuted - D_gaussian to
the distribution of its entries.
"""

import numpy as np
import pytest
from simulations import (
    GRADIENT_SCALES,
    GROWING,
    MANY_PATCHES,
    ONE_PATCH,
    SCATTERS,
    Patches,
    above,
    follows_rejections,
    gradient_records,
    heavier_with_n,
    heavy_tailed,
    ladder,
    normal,
    parts,
    without_zero,
)

from gradquake.experiments import synthetic
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.scrutiny.scrutinize import scrutinize
from gradquake.study.recording import to_dataset

by_statistic = pytest.mark.parametrize("statistic", ["max", "mean"])


def is_about_zero(rows):
    """Whether the mean of the values is 0 within three of its standard errors."""
    return abs(rows[:, 0].mean()) < 3 * rows[:, 0].std(ddof=1) / np.sqrt(len(rows))


@pytest.mark.parametrize(("draw", "sweeps"), [(normal, 180), (heavy_tailed, 100)])
def test_independent_entries_show_an_arrangement_no_more_often_than_the_level_allows(draw, sweeps):
    found = parts(draw, sweeps, n_resamples=600)
    for statistic in ("max", "mean"):
        rows = found["arrangement", statistic]
        assert is_about_zero(rows)
        assert without_zero(rows) < 0.1  # 5 % and three standard errors of 180 sweeps


def test_a_synthetic_sweep_under_scrutiny_shows_no_arrangement():
    # The same by the way that every sweep goes, from its recorded runs.
    runs = [SyntheticRun(n, seed, epochs=70) for n in GRADIENT_SCALES for seed in range(6)]
    found = scrutinize(to_dataset(synthetic.measure(runs)), ("gaussian", "permuted"), n_resamples=600)
    for statistic in ("max", "mean"):
        assert found.ladder.arrangement("all", statistic).contains(0)
        assert found.ladder.attribution("all", statistic).distribution.contains(0)


@pytest.mark.parametrize("patches", [GROWING, ONE_PATCH, MANY_PATCHES])
def test_gathering_in_patches_changes_the_order_alone(patches):
    planted, plain = (gradient_records(normal, 0, p, runs=1, snapshots=2) for p in (patches, None))
    for one, other in zip(planted, plain, strict=True):
        assert not np.array_equal(one.gradients, other.gradients)
        assert np.array_equal(np.sort(one.gradients), np.sort(other.gradients))


def test_the_largest_positive_entries_are_where_the_patches_are(ring_of_40):
    gradients = np.random.default_rng(3).standard_normal((1, 40))
    (row,) = Patches(0.1, growth=0, size=4).gathered(gradients, ring_of_40, np.random.default_rng(4))
    largest = np.flatnonzero(row >= np.sort(row)[-4])
    # Four nodes next to one another on a ring, where each knows the two nearest on both sides.
    assert largest.size == 4
    assert min(np.ptp((largest + shift) % 40) for shift in (0, 20)) <= 4


@pytest.fixture
def ring_of_40():
    from gradquake.avalanche.topologies import ring

    return ring(40)


def test_patches_that_grow_with_n_are_found_as_an_arrangement():
    found = parts(normal, 20, GROWING, ("arrangement", "distribution"), n_resamples=600)
    for statistic in ("max", "mean"):
        arrangement = found["arrangement", statistic]
        assert arrangement[:, 0].mean() > 0.08
        assert above(arrangement) >= 0.8
        assert without_zero(found["distribution", statistic]) <= 0.2


def test_patches_of_one_size_change_the_size_of_avalanches_and_hardly_their_exponent():
    # Their number grows as N, so that every part of the graph looks alike at every N.
    records = gradient_records(normal, 0, MANY_PATCHES, runs=20)
    beside = ladder(records, n_resamples=600)
    real, null = (a.exponent("all", "mean").sizes.value for a in (beside.real, beside.nulls["permuted"]))
    assert (real > 1.1 * null).all()
    found = parts(normal, 24, MANY_PATCHES, n_resamples=600)
    for statistic, largest in (("max", 0.04), ("mean", 0.015)):
        arrangement = found["arrangement", statistic]
        assert abs(arrangement[:, 0].mean()) < largest
        assert above(arrangement) <= 0.2


def test_one_patch_of_a_fixed_share_of_n_has_a_small_arrangement():
    # A larger patch has a smaller share of its nodes at its border: over one decade of N that is an
    # exponent of its own, well below that of a share that grows.
    one, growing = (parts(normal, 25, p, n_resamples=200) for p in (ONE_PATCH, GROWING))
    for statistic in ("max", "mean"):
        arrangement = one["arrangement", statistic][:, 0].mean()
        assert 0 < arrangement < 0.7 * growing["arrangement", statistic][:, 0].mean()


def test_a_distribution_that_changes_with_n_is_told_from_an_arrangement():
    names = ("arrangement", "distribution")
    found = parts(heavier_with_n, 30, names=names, n_resamples=600)
    for statistic in ("max", "mean"):
        assert above(found["distribution", statistic]) >= 0.9
        assert found["distribution", statistic][:, 0].mean() > 0.15
        assert without_zero(found["arrangement", statistic]) <= 0.17
        assert is_about_zero(found["arrangement", statistic])


@by_statistic
def test_the_parts_make_up_the_exponent(statistic):
    beside = ladder(gradient_records(heavier_with_n, 0, GROWING), ("permuted", "gaussian"), 200)
    of_one = beside.attribution("all", statistic)
    total = of_one.estimator.value + of_one.distribution.value + of_one.arrangement.value
    assert total == pytest.approx(beside.exponent("real", "all", statistic).value - 1)


def test_avalanches_that_do_not_know_of_grokking_rarely_seem_to_follow_it(sweep_of):
    shares = follows_rejections(sweep_of, SCATTERS["lognormal"], 6, 150, own=False)
    assert max(shares.values()) <= 0.1


def test_avalanches_that_change_when_their_run_groks_are_found_to_follow_it(sweep_of):
    shares = follows_rejections(sweep_of, SCATTERS["narrow"], 12, 40, own=True)
    assert min(shares.values()) > 0.9
