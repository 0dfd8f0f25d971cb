"""The kernels of the analysis against naive twins."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradquake.analysis import _kernels
from kernel_cases import (
    SHAPES,
    examples,
    plain,
    seeds,
)


@st.composite
def resamples(draw):
    """Rows with NaN among them, a column of nothing else, and draws of those rows."""
    rng = np.random.default_rng(draw(seeds))
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    values = SHAPES[draw(st.sampled_from(["normal", "ties", "zeros", "heavy-tailed"]))](
        rng, rows * columns
    ).reshape(rows, columns)
    values[rng.random(values.shape) < draw(st.sampled_from([0.0, 0.3, 0.8]))] = np.nan
    if draw(st.booleans()):
        values[:, rng.integers(columns)] = np.nan
    draws = rng.integers(rows, size=(draw(st.integers(0, 5)), draw(st.integers(1, 10))))
    return values, draws


def naive_resample(values, draws, statistic):
    """Apply a statistic to the known entries of each column of each resample; NaN where none is."""
    result = np.full((len(draws), values.shape[1]), np.nan)
    for b, rows in enumerate(draws):
        for t, column in enumerate(values[rows].T):
            known = [entry for entry in column.tolist() if not math.isnan(entry)]
            if known:
                result[b, t] = statistic(known)
    return result


def resampled_max(version, values, draws):
    # What the result held before must not matter.
    result = np.full((len(draws), values.shape[1]), 7.0)
    version(values, np.argsort(-values, axis=0), draws, result)
    return result


@examples(80)
@given(case=resamples())
def test_resampled_max_is_that_of_the_known_entries(case):
    values, draws = case
    before = values.copy(), draws.copy()
    found = resampled_max(_kernels.resampled_max, values, draws)
    np.testing.assert_array_equal(found, naive_resample(values, draws, max))
    np.testing.assert_array_equal(values, before[0])
    np.testing.assert_array_equal(draws, before[1])


def test_resampled_max_in_plain_python_is_the_same():
    rng = np.random.default_rng(9)
    values = rng.standard_normal((5, 4))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:, 2] = np.nan
    draws = rng.integers(5, size=(6, 5))
    found = resampled_max(_kernels.resampled_max, values, draws)
    np.testing.assert_array_equal(found, resampled_max(plain(_kernels.resampled_max), values, draws))
    np.testing.assert_array_equal(found, naive_resample(values, draws, max))
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(found[:, :2]).any()


def test_resampled_max_by_hand():
    values = np.array([[1.0, -3.0], [4.0, np.nan], [np.nan, -1.0], [np.nan, np.nan]])
    draws = np.array([[0, 1, 0, 2, 3], [3, 3, 3, 3, 3], [2, 2, 2, 3, 3]])
    found = resampled_max(_kernels.resampled_max, values, draws)
    np.testing.assert_array_equal(found, [[4, -1], [np.nan, np.nan], [np.nan, -1]])


@pytest.mark.parametrize("version", [_kernels.times_drawn, plain(_kernels.times_drawn)])
@examples(40)
@given(seed=seeds, resamples=st.integers(0, 5), drawn=st.integers(0, 30), width=st.integers(1, 9))
def test_times_drawn_counts_each_number(version, seed, resamples, drawn, width):
    draws = np.random.default_rng(seed).integers(width, size=(resamples, drawn))
    taken = np.full((resamples, width), np.nan)
    version(draws, taken)
    assert taken.tolist() == [[row.count(i) for i in range(width)] for row in draws.tolist()]


@pytest.mark.parametrize("points", [3, 5, 7, 8, 9, 15, 16, 17, 40])
def test_line_fits_are_numpys_bit_for_bit(points):
    rng = np.random.default_rng(points)
    n = np.sort(rng.choice(np.arange(5, 5_000), points, replace=False)).astype(float)
    y = np.log(rng.integers(1, 500, size=(points, 300)))
    y[:, 0] = y[0, 0]
    y[1, 1] = np.nan
    x = np.log(n) - np.log(n).mean()
    found = np.empty((2, 300))
    _kernels.line_fits(x, y, *found)
    rows = np.ascontiguousarray(y.T)
    rows = rows - rows[:, :1]
    rows = rows - rows.mean(axis=1, keepdims=True)
    along, total = (x * rows).sum(axis=1), (rows * rows).sum(axis=1)
    with np.errstate(invalid="ignore"):
        expected = along / (x * x).sum(), along * along / ((x * x).sum() * total)
    assert np.array_equal(found, expected, equal_nan=True)
    assert found[0, 0] == 0
    assert np.isnan(found[:, 1]).all()
    assert np.isnan(found[1, 0])
