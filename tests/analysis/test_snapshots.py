"""Statistics over all snapshots and over all runs, beside naive loops."""

import numpy as np
import pytest

from gradquake.analysis.resampling import percentile_interval, run_resamples
from gradquake.analysis.snapshots import (
    mean_over_snapshots,
    quartile_band,
)

RUNS = (4, 6, 3, 5)


@pytest.fixture(scope="module")
def steps(random_sweep):
    """Whole numbers from 0 to 20 at each snapshot."""
    numbers = np.random.default_rng(3).integers(0, 21, random_sweep["size"].shape)
    return random_sweep.assign(duration=(("run", "epoch"), numbers))


def resampled(values, statistic):
    """A statistic of all snapshots in every resample of runs, one resample after the other."""
    starts = np.cumsum((0, *RUNS))
    draws = run_resamples(RUNS)
    return np.array(
        [
            statistic(np.concatenate([values[s + d[b]] for s, d in zip(starts, draws, strict=False)]))
            for b in range(300)
        ]
    )


def test_the_mean_is_that_of_all_snapshots_in_every_resample(steps):
    found, values = mean_over_snapshots(steps, "duration"), steps["duration"].values
    assert found.value == values.mean()
    assert found.runs == 3
    np.testing.assert_allclose(found.resamples[:300], resampled(values, np.mean), rtol=1e-13)
    interval = percentile_interval(found.resamples, 3)
    assert (found.low, found.high) == (interval.low, interval.high)


def test_a_band_is_that_of_each_snapshot():
    rows = np.random.default_rng(0).random((9, 4))
    epochs = np.arange(4)
    for middle, of in (("median", np.median), ("mean", np.mean)):
        band = quartile_band(epochs, rows, middle)
        np.testing.assert_allclose(band.middle, [of(rows[:, k]) for k in epochs])
        ordered = np.sort(rows, axis=0)
        np.testing.assert_allclose((band.low, band.high), ordered[[2, 6]])
        assert band.runs == 9
