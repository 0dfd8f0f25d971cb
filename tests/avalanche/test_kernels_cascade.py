"""The kernels of the cascade against naive twins."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradquake.avalanche import (
    _kernels_angle,
    _kernels_cascade,
)
from gradquake.avalanche.cascade import NO_THRESHOLDS, OUTCOME
from kernel_cases import (
    DTYPES,
    examples,
    gradients,
    magnitude_quantile,
    marks_of,
    naive_dissipation,
    naive_quantile,
    no_tensors,
    plain,
    quantiles,
    random_csr,
    scratch_for,
    seeds,
)


@examples(60)
@given(
    gradient=gradients(9000),
    quantile=quantiles,
    seed=seeds,
    dense=st.booleans(),
    first=st.integers(0, 99),
)
def test_topple_lists_what_is_unstable_and_leaves_marked_what_still_is(
    gradient, quantile, seed, dense, first
):
    rng = np.random.default_rng(seed)
    n, dtype = gradient.size, gradient.dtype.type
    threshold = naive_quantile(gradient, quantile)
    alpha, keep = dtype(0.1), dtype(0.9)
    marked, before = rng.random(n) < 0.5, rng.random(n) < 0.3
    marks, toppled = marks_of(marked), marks_of(before)
    pages = np.array([1] + [0] * ((n - 1) // 4096), np.uint8)
    looked_at = np.ones(n, bool) if dense else marked & (np.arange(n) < 4096)
    expected = np.flatnonzero(looked_at & (np.abs(gradient).astype(np.float64) > threshold))
    after = gradient.copy()
    after[expected] *= keep
    unstable, moved = np.full(n + 1, -1, np.int32), np.full(n + 1, np.nan, dtype)
    given_ = alpha * gradient[expected]
    count, new = _kernels_cascade.topple(
        gradient, threshold, alpha, keep, dense, first, marks, toppled, pages, unstable, moved, 1
    )
    assert unstable[:count].tolist() == [-1, *(first + expected).tolist()]
    np.testing.assert_array_equal(moved[1:count], given_)
    assert new == np.count_nonzero(~before[expected])
    assert gradient.tobytes() == after.tobytes()
    before[expected] = True
    np.testing.assert_array_equal(toppled, marks_of(before))
    still = np.zeros(n, bool)
    still[expected] = np.abs(after[expected]).astype(np.float64) > threshold
    still |= marked & ~looked_at & (not dense) & (np.arange(n) >= 4096)
    np.testing.assert_array_equal(marks, marks_of(still))
    if dense:
        assert pages.tolist() == [still[i : i + 4096].any() for i in range(0, n, 4096)]


def naive_cascade(gradient, indptr, indices, threshold, alpha, max_steps):
    """Topple all unstable nodes at once; shares arrive in ascending order of their sender."""
    dtype = gradient.dtype.type
    alpha, keep = dtype(alpha), dtype(1 - alpha)
    g = gradient.copy()
    neighbors = [indices[start:stop] for start, stop in itertools.pairwise(indptr)]
    steps, toppled = [], set()
    unstable = np.flatnonzero(np.abs(g).astype(np.float64) > threshold)
    while unstable.size and len(steps) < max_steps:
        before = g.copy()
        g[unstable] = keep * before[unstable]
        for i in unstable:
            for j in neighbors[i]:
                g[j] += alpha * before[i] / dtype(neighbors[i].size)
        steps.append(unstable.size)
        toppled.update(unstable.tolist())
        unstable = np.flatnonzero(np.abs(g).astype(np.float64) > threshold)
    peak = max(steps, default=0)
    lossy = any(neighbors[i].size == 0 for i in toppled)
    return g, (sum(steps), len(steps), len(toppled), peak, unstable.size > 0, lossy)


def relaxed(version, gradient, indptr, indices, threshold, alpha, max_steps):
    dtype = gradient.dtype.type
    scratch = *no_tensors(), *scratch_for(gradient.size, dtype)
    shares = dtype(alpha), dtype(1 - alpha)
    return version(gradient.copy(), gradient, indptr, indices, threshold, *shares, max_steps, *scratch)


def assert_same_cascade(version, gradient, indptr, indices, threshold, alpha, max_steps):
    arguments = (indptr, indices, threshold, alpha, max_steps)
    expected, counts = naive_cascade(gradient, *arguments)
    assert relaxed(version, gradient, *arguments) == counts
    # Bit for bit, the sign of a zero included.
    assert gradient.tobytes() == expected.tobytes()


@examples(150)
@given(
    gradient=gradients(120),
    seed=seeds,
    mean_degree=st.sampled_from([0.0, 1.0, 4.0, 12.0]),
    quantile=quantiles,
    alpha=st.floats(0.01, 0.99),
    max_steps=st.sampled_from([1, 2, 20]),
)
def test_cascade_is_the_synchronous_update_bit_for_bit(
    gradient, seed, mean_degree, quantile, alpha, max_steps
):
    graph = random_csr(np.random.default_rng(seed), gradient.size, mean_degree)
    threshold = naive_quantile(gradient, quantile)
    assert_same_cascade(_kernels_cascade.cascade, gradient, *graph, threshold, alpha, max_steps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 0.999])
def test_cascade_on_several_pages_of_marks(quantile, dtype):
    rng = np.random.default_rng(3)
    gradient = rng.standard_t(2, 9000).astype(dtype)
    threshold = naive_quantile(gradient, quantile)
    graph = random_csr(rng, gradient.size, 4.0)
    assert_same_cascade(_kernels_cascade.cascade, gradient, *graph, threshold, 0.3, 20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cascade_in_plain_python_is_the_same(dtype):
    rng = np.random.default_rng(4)
    for size in (1, 30, 70):
        gradient = rng.standard_normal(size).astype(dtype)
        threshold = naive_quantile(gradient, 0.8)
        graph = random_csr(rng, size, 3.0)
        assert_same_cascade(plain(_kernels_cascade.cascade), gradient, *graph, threshold, 0.3, 20)


def test_cascade_in_a_strided_array_leaves_what_is_between_alone():
    rng = np.random.default_rng(5)
    buffer = rng.standard_normal(600)
    between = buffer[1::3].copy()
    graph = random_csr(rng, 200, 4.0)
    assert_same_cascade(_kernels_cascade.cascade, buffer[::3], *graph, np.float64(1), 0.3, 20)
    np.testing.assert_array_equal(buffer[1::3], between)


def isolated(gradient, threshold, keep, max_steps):
    # What is left in the scratch space must not matter.
    left = np.full_like(gradient, np.nan)
    return _kernels_cascade.isolated_size(gradient, threshold, keep, max_steps, left)


@examples(100)
@given(
    gradient=gradients(200),
    quantile=quantiles,
    alpha=st.floats(0.01, 0.99),
    max_steps=st.sampled_from([1, 3, 20]),
)
def test_isolated_size_multiplies_until_the_threshold(gradient, quantile, alpha, max_steps):
    threshold, keep = naive_quantile(gradient, quantile), gradient.dtype.type(1 - alpha)
    expected = 0
    for value in gradient:
        for _ in range(max_steps):
            if not abs(float(value)) > threshold:
                break
            value = keep * value
            expected += 1
    assert isolated(gradient, threshold, keep, max_steps) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.75])
def test_isolated_size_is_the_logarithm_away_from_exact_powers(alpha, dtype):
    # ceil(ln(|g| / tau) / -ln(1 - alpha)); ratios between two powers, where rounding cannot matter.
    powers = np.arange(1, 12)
    gradient = ((1 - alpha) ** -(powers - 0.5)).astype(dtype)
    found = [isolated(gradient[k : k + 1], 1.0, dtype(1 - alpha), 10**6) for k in range(powers.size)]
    assert found == powers.tolist()


def measure_alone(gradient, indptr, indices, threshold, quantile):
    """Chain the kernels for one gradient, as a row of outcomes and the relaxed gradient."""
    if quantile >= 0:
        threshold = magnitude_quantile(gradient, quantile)
    after = gradient.copy()
    size, *counts, lossy = relaxed(_kernels_cascade.cascade, after, indptr, indices, threshold, 0.3, 20)
    lost = naive_dissipation(gradient, after, indptr) if lossy else 0.0
    turned = _kernels_angle.deviation(gradient, after) if size else 0.0
    lone = isolated(gradient, threshold, gradient.dtype.type(1 - 0.3), 20)
    return (threshold, size, lone, *counts, turned, lost, lossy), after


def segments(dtype, sizes):
    """Gradients and graphs one by one, and the graphs laid end to end: rows, indptr, indices."""
    rng = np.random.default_rng(8)
    vectors = [rng.standard_normal(n).astype(dtype) for n in sizes]
    graphs = [random_csr(rng, n, 3.0) for n in sizes]
    starts = np.cumsum([0, *(indices.size for _, indices in graphs)])
    indptr = [pointers + start for (pointers, _), start in zip(graphs, starts[:-1], strict=True)]
    rows = np.cumsum([0, *(pointers.size for pointers in indptr[:-1])])
    joined = np.concatenate(indptr).astype(np.int32), np.concatenate([i for _, i in graphs])
    return vectors, graphs, (rows, *joined)


def measure_segments(vectors, stack, thresholds, quantile, first, last, outcomes):
    gradient = np.concatenate(vectors)
    after = np.full_like(gradient, -7)
    offsets = np.cumsum([0, *(v.size for v in vectors)])
    dtype, scratch = gradient.dtype.type, scratch_for(max(v.size for v in vectors), gradient.dtype.type)
    _kernels_cascade.measure_segments(
        gradient, after, offsets, *stack, dtype(0.3), dtype(1 - 0.3),
        thresholds, quantile, 20, True, first, last, outcomes,
        *no_tensors(len(vectors)), *scratch,
    )  # fmt: skip
    return np.split(after, offsets[1:-1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantile", [-1.0, 0.0, 0.9])
def test_measure_segments_is_each_segment_alone(quantile, dtype):
    vectors, graphs, stack = segments(dtype, [1, 64, 3, 700, 65, 5000, 2])
    vectors[4][:] = 0.5
    given = np.linspace(0.5, 2, 7)
    outcomes = np.zeros(7, OUTCOME)
    after = measure_segments(
        vectors, stack, given if quantile < 0 else NO_THRESHOLDS, quantile, 0, 7, outcomes
    )
    for b in range(7):
        row, alone = measure_alone(vectors[b], *graphs[b], given[b], quantile)
        assert outcomes[b].item() == row
        np.testing.assert_array_equal(after[b], alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_measure_segments_passes_over_what_is_not_finite_and_what_was_not_asked_for(dtype):
    vectors, graphs, stack = segments(dtype, [30, 40, 50, 60, 70])
    vectors[2][17] = np.inf
    outcomes = np.zeros(5, OUTCOME)
    outcomes["size"] = -7
    after = measure_segments(vectors, stack, NO_THRESHOLDS, 0.9, 1, 4, outcomes)
    for b in (1, 3):
        row, alone = measure_alone(vectors[b], *graphs[b], 0.0, 0.9)
        assert outcomes[b].item() == row
        np.testing.assert_array_equal(after[b], alone)
    assert math.isnan(outcomes["threshold"][2])
    assert (outcomes["size"][[0, 4]] == -7).all()
    assert (after[0] == -7).all()
    assert (after[4] == -7).all()


@examples(30)
@given(
    size=st.sampled_from([1, 4096, _kernels_angle.BLOCK, 2 * _kernels_angle.BLOCK + 4097]),
    dtype=st.sampled_from(DTYPES),
    quantile=quantiles,
    first=st.sampled_from([0, 64]),
    seed=seeds,
)
def test_first_topplings_are_those_of_the_whole_block_by_block(size, dtype, quantile, first, seed):
    rng = np.random.default_rng(seed)
    original = rng.standard_normal(size).astype(dtype)
    threshold, kind = naive_quantile(original, quantile), np.dtype(dtype).type
    alpha, keep = kind(0.3), kind(0.7)
    unstable_at = np.flatnonzero(np.abs(original).astype(np.float64) > threshold)
    expected = original.copy()
    expected[unstable_at] *= keep
    gradient = np.full(size, np.nan, dtype)
    marks, _, pages, unstable, moved = scratch_for(size, dtype)
    marks, toppled = marks[: (size + 63) // 64], np.zeros((size + 63) // 64, np.uint64)
    pages = pages[: (size + 4095) // 4096]
    count, new, isolated_topplings = _kernels_cascade.first_topplings(
        original, gradient, threshold, alpha, keep, 20, first, marks, toppled, pages, unstable, moved, 0,
        moved,
    )  # fmt: skip
    assert gradient.tobytes() == expected.tobytes()
    assert count == new == unstable_at.size
    assert unstable[:count].tolist() == (first + unstable_at).tolist()
    assert moved[:count].tobytes() == (alpha * original[unstable_at]).tobytes()
    np.testing.assert_array_equal(toppled, marks_of(np.isin(np.arange(size), unstable_at)))
    assert isolated_topplings == isolated(original, threshold, keep, 20)
