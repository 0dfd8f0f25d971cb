"""Single numbers of D(t), beside chosen curves and naive loops over resamples."""

import numpy as np
import pytest

from gradquake.analysis.dimension import curve
from gradquake.analysis.levels import (
    levels_around,
    levels_around_crossing,
    share_of_good_fits,
    smallest_r_squared,
    time_average,
)

EPOCHS = np.arange(0, 310, 10)
SCALES = (100, 200, 400)
B = 50


def chosen(sweep_of, exponents, epochs=EPOCHS):
    """A curve whose D(t) is given: s = 5 N^D at every epoch, in two runs."""
    sizes = {n: np.tile(np.round(10**6 * 5 * float(n) ** np.asarray(exponents)), (2, 1)) for n in SCALES}
    return curve(sweep_of(sizes, epochs=epochs), "max", n_resamples=B)


@pytest.fixture(scope="module")
def rising(sweep_of):
    """D(t) of 0.9, then 0.8 up to epoch 100, then 1.1 and 1.3 in turn."""
    exponents = np.where(EPOCHS < 50, 0.9, np.where(EPOCHS <= 100, 0.8, np.where(EPOCHS % 20, 1.1, 1.3)))
    return chosen(sweep_of, exponents)


@pytest.fixture(scope="module")
def flat(sweep_of):
    return chosen(sweep_of, np.full(EPOCHS.size, 1.1))


@pytest.fixture(scope="module", params=["max", "mean"])
def noisy(sweep_of, request):
    """D(t) that rises from 0.7 to 1.3, with scatter between runs."""
    rng = np.random.default_rng(1)
    exponents = np.linspace(0.7, 1.3, EPOCHS.size)
    sizes = {n: np.ceil(50 * n**exponents * np.exp(0.2 * rng.random((4, EPOCHS.size)))) for n in SCALES}
    return curve(sweep_of(sizes, epochs=EPOCHS), request.param, n_resamples=B)


def test_the_levels_of_a_chosen_curve(rising):
    assert 100 < rising.crossing.value < 110
    found = levels_around_crossing(rising)
    assert found.before.value == pytest.approx(0.8, abs=1e-6)
    assert found.after.value == pytest.approx(1.2, abs=1e-6)
    at_once = levels_around(rising, 40)
    assert at_once.before == pytest.approx(0.9, abs=1e-6)


def test_without_a_crossing_there_are_no_levels(flat):
    found = levels_around_crossing(flat)
    assert np.isnan([found.before.value, found.before.low, found.after.value]).all()
    assert np.isnan(levels_around(flat, np.nan)).all()


def test_each_resample_has_levels_around_its_own_crossing(noisy):
    found = levels_around_crossing(noisy)
    curves = np.concatenate([block.exponents for block in noisy.resampled()], axis=1)
    for b, (values, crossing) in enumerate(zip(curves, noisy.crossing.resamples, strict=True)):
        if np.isnan(crossing):
            assert np.isnan([found.before.resamples[b], found.after.resamples[b]]).all()
            continue
        assert found.before.resamples[b] == min(values[crossing >= EPOCHS])
        assert found.after.resamples[b] == pytest.approx(values[crossing < EPOCHS].mean())


def test_the_average_and_the_worst_fit_are_taken_in_every_resample(noisy):
    blocks = list(noisy.resampled())
    averages = np.concatenate([block.exponents for block in blocks], axis=1).mean(axis=1)
    worst = np.concatenate([block.r_squared for block in blocks], axis=1).min(axis=1)
    for found, name, resamples in (
        (time_average(noisy), "value", averages),
        (smallest_r_squared(noisy), "r_squared", worst),
    ):
        of_epochs = noisy.dimension[name].values
        assert found.value == pytest.approx(of_epochs.mean() if name == "value" else of_epochs.min())
        np.testing.assert_array_equal(found.resamples, resamples)


def test_the_share_of_good_fits_counts_snapshots(noisy):
    values = noisy.dimension["r_squared"].values
    level = float(np.median(values))
    assert share_of_good_fits(noisy, level) == np.mean([value > level for value in values])
