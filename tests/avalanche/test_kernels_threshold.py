"""The kernels of quantiles and marks against naive twins."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradquake.avalanche import (
    _kernels_threshold,
)
from kernel_cases import (
    DTYPES,
    SHAPES,
    examples,
    gradients,
    magnitude_quantile,
    marks_of,
    misleading,
    naive_quantile,
    plain,
    quantiles,
    seeds,
    words_for,
)


@pytest.mark.parametrize("version", [_kernels_threshold.select, plain(_kernels_threshold.select)])
@examples(60)
@given(values=gradients(300), where=st.floats(0, 1))
def test_select_returns_the_order_statistic_and_leaves_larger_values_to_its_right(
    version, values, where
):
    rank = int(where * (values.size - 1))
    expected = np.sort(values)
    longer = np.concatenate([values, np.full(3, -9, values.dtype)])
    assert version(longer, values.size, rank) == expected[rank]
    assert (longer[rank : values.size] >= expected[rank]).all()
    assert (longer[:rank] <= expected[rank]).all()
    np.testing.assert_array_equal(np.sort(longer[: values.size]), expected)
    assert longer[values.size :].tolist() == [-9, -9, -9]


@examples(60)
@given(values=gradients(300), where=st.floats(0, 1), weight=st.floats(0, 1, exclude_max=True))
def test_interpolated_lies_between_two_order_statistics(values, where, weight):
    ordered = np.sort(values).astype(np.float64)
    rank = int(where * (values.size - 1))
    low, high = ordered[rank], ordered[min(rank + 1, values.size - 1)]
    # NumPy rounds from whichever end is nearer.
    naive = high - (high - low) * (1 - weight) if weight >= 0.5 else low + (high - low) * weight
    longer = np.concatenate([values, np.full(3, -9, values.dtype)])
    assert _kernels_threshold.interpolated(longer, values.size, rank, weight) == naive


def naive_bracket(gradient, quantile):
    size = int(gradient.size ** (2 / 3))
    sample = np.sort(np.abs(gradient[:: gradient.size // size][:size]))
    margin = 3 * math.sqrt(size * quantile * (1 - quantile)) + 2
    ranks = int(quantile * size - margin), int(quantile * size + margin)
    return sample[max(ranks[0], 0)], sample[min(ranks[1], size - 1)]


def bracket(gradient, quantile):
    size = int(gradient.size ** (2 / 3))
    sample = np.abs(gradient[:: gradient.size // size][:size])
    # What lies after the sample must not matter.
    return _kernels_threshold.bracket(np.append(sample, gradient[:1] * np.nan), size, quantile)


@examples(60)
@given(gradient=gradients(), quantile=quantiles)
def test_bracket_reads_two_ranks_of_a_regular_sample(gradient, quantile):
    assert bracket(gradient, quantile) == naive_bracket(gradient, quantile)


@examples(200)
@given(gradient=gradients(), quantile=quantiles)
@example(gradient=np.array([-2.0]), quantile=0.9)
def test_magnitude_quantile_is_that_of_numpy(gradient, quantile):
    untouched = gradient.copy()
    assert magnitude_quantile(gradient, quantile) == naive_quantile(gradient, quantile)
    np.testing.assert_array_equal(gradient, untouched)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [2, 63, 64, 65, 511, 512, 513, 1001, 4097, 20_001])
def test_magnitude_quantile_at_every_size_and_shape(shape, size, dtype):
    gradient = SHAPES[shape](np.random.default_rng(size), size).astype(dtype)
    for quantile in (0.0, 0.013, 0.5, 0.9, 0.999, 1.0):
        assert magnitude_quantile(gradient, quantile) == naive_quantile(gradient, quantile)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_bracket_that_misses_costs_nothing_but_time(dtype, sign):
    gradient = misleading(np.random.default_rng(1), 4000) ** sign
    gradient = gradient.astype(dtype)
    expected = naive_quantile(gradient, 0.5)
    low, high = bracket(gradient, 0.5)
    assert not low <= expected <= high
    assert magnitude_quantile(gradient, 0.5) == expected


def test_a_bracket_that_holds_one_of_the_two_ranks_and_not_the_other():
    # The sample is 99 entries at 0, 10, ..., 980: 40 ones and 59 twos. In all 500 entries are at
    # most 2 and 500 are 3, so that the median lies between rank 499, a two, and rank 500, a three.
    gradient = np.full(1000, 3.0)
    gradient[:990:10] = np.repeat([1, 2], [40, 59])
    gradient[np.flatnonzero(np.arange(1000) % 10)[:401]] = 2
    assert bracket(gradient, 0.5) == (1, 2)
    assert magnitude_quantile(gradient, 0.5) == naive_quantile(gradient, 0.5) == 2.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 20, 512, 1000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_quantile(value, size, dtype):
    for places in ([0], [size // 2], [size - 1], [0, -1], slice(None), slice(None, None, 3)):
        gradient = np.linspace(-1, 1, size).astype(dtype)
        gradient[places] = value
        for quantile in (0.0, 0.9, 1.0):
            assert math.isnan(magnitude_quantile(gradient, quantile))


@pytest.mark.parametrize(
    "version", [_kernels_threshold.gather_between, plain(_kernels_threshold.gather_between)]
)
@examples(40)
@given(
    gradient=gradients(300),
    value=st.sampled_from([0, 0, np.nan, np.inf, -np.inf]),
    place=seeds,
    ends=st.tuples(quantiles, quantiles),
)
def test_gather_between_lists_what_lies_between_and_counts_what_is_above(
    version, gradient, value, place, ends
):
    low, high = (naive_quantile(gradient, quantile) for quantile in sorted(ends))
    gradient[place % gradient.size] += value
    found = np.full_like(gradient, -7)
    inside, above = version(gradient, low, high, found)
    if not np.isfinite(gradient).all():
        assert (inside, above) == (-1, -1)
        return
    magnitudes = np.abs(gradient).astype(np.float64)
    expected = magnitudes[(magnitudes > low) & (magnitudes <= high)]
    assert (found[:inside].tolist(), above) == (expected.tolist(), (magnitudes > high).sum())


@examples(60)
@given(gradient=gradients(), quantile=quantiles)
def test_mark_above_sets_one_bit_for_each_entry_above(gradient, quantile):
    level = naive_quantile(gradient, quantile)
    marks = words_for(gradient.size, fill=2**64 - 1)
    _kernels_threshold.mark_above(gradient, level, marks)
    np.testing.assert_array_equal(marks, marks_of(np.abs(gradient).astype(np.float64) > level))
