"""The kernels of kicks, loading, clusters and topplings without neighbors, against naive twins."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradquake.avalanche import _kernels_kicks
from kernel_cases import (
    DTYPES,
    dtypes,
    examples,
    gradients,
    naive_quantile,
    plain,
    quantiles,
    random_csr,
    seeds,
)


def naive_spread(values, rows, threshold, alpha, max_steps):
    """Relax a list of numbers of one dtype, all of whose nodes are looked at in every step."""
    kind = type(values[0])
    share, keep = kind(alpha), kind(1 - alpha)
    steps, toppled = [], set()
    unstable = [i for i, value in enumerate(values) if abs(float(value)) > threshold]
    while unstable and len(steps) < max_steps:
        given_ = {i: kind(kind(share * values[i]) / kind(max(len(rows[i]), 1))) for i in unstable}
        for i in unstable:
            values[i] = keep * values[i]
        for i in unstable:
            for j in rows[i]:
                values[j] = values[j] + given_[i]
        steps.append(len(unstable))
        toppled |= set(unstable)
        unstable = [i for i, value in enumerate(values) if abs(float(value)) > threshold]
    return steps, len(toppled), bool(unstable)


def case(seed, n, dtype, mean_degree):
    """A gradient at rest just below a threshold, so that kicks go far, and a graph."""
    rng = np.random.default_rng(seed)
    gradient = (rng.choice([-1, 1], n, p=[0.2, 0.8]) * rng.uniform(0.6, 1, n) ** 0.5).astype(dtype)
    gradient[rng.random(n) < 0.1] = 0
    indptr, indices = random_csr(rng, n, mean_degree)
    rows = [indices[start:stop].tolist() for start, stop in itertools.pairwise(indptr)]
    return gradient, indptr, indices, rows, rng


def neighbors_of_threshold(dtype, threshold=1.0):
    return np.nextafter(dtype(threshold), dtype(2)), dtype(threshold)


def scratch(n, dtype):
    """Scratch full of numbers that must not matter, except for the marks."""
    kinds = (np.int32, np.int32, dtype, np.int32, dtype)
    return np.zeros(n, np.uint8), *(np.full(n, 7, kind) for kind in kinds)


def outcomes(count):
    return *np.full((3, count), -1), np.zeros(count, bool), np.full(count, -1)


CASES = {
    "seed": seeds,
    "n": st.integers(1, 60),
    "dtype": dtypes,
    "mean_degree": st.sampled_from([0.0, 1.0, 3.0, 8.0]),
    "alpha": st.floats(0.01, 0.99),
    "max_steps": st.sampled_from([1, 2, 30]),
}


def assert_same_kicks(version, seed, n, dtype, mean_degree, alpha, max_steps):
    gradient, indptr, indices, rows, rng = case(seed, n, dtype, mean_degree)
    raised, _ = neighbors_of_threshold(dtype)
    nodes = rng.integers(n, size=8)
    before, marks, *others = gradient.copy(), *scratch(n, dtype)
    found = outcomes(8)
    version(
        gradient, indptr, indices, nodes, 1.0, raised, dtype(alpha), dtype(1 - alpha), max_steps,
        *found, marks, *others,
    )  # fmt: skip
    assert gradient.tobytes() == before.tobytes()
    assert not marks.any()
    expected = []
    for node in nodes:
        values = list(before)
        values[node] = -raised if values[node] < 0 else raised
        steps, area, truncated = naive_spread(values, rows, 1.0, alpha, max_steps)
        expected.append((sum(steps), len(steps), area, truncated, steps[0]))
    assert [tuple(row) for row in zip(*(column.tolist() for column in found), strict=True)] == expected


@examples(150)
@given(**CASES)
def test_each_kick_is_a_cascade_from_one_node(**case_of):
    assert_same_kicks(_kernels_kicks.kick_each, **case_of)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kicks_in_plain_python_are_the_same(dtype):
    with np.errstate(over="ignore"):
        assert_same_kicks(plain(_kernels_kicks.kick_each), 3, 25, dtype, 4.0, 0.4, 30)


@examples(150)
@given(**CASES)
def test_loading_raises_all_magnitudes_alike_until_one_topples(
    seed, n, dtype, mean_degree, alpha, max_steps
):
    gradient, indptr, indices, rows, _ = case(seed, n, dtype, mean_degree)
    raised, largest = neighbors_of_threshold(dtype)
    values, found = list(gradient), outcomes(6)
    events = _kernels_kicks.load_each(
        gradient, indptr, indices, 1.0, raised, largest, dtype(alpha), dtype(1 - alpha), max_steps,
        *found, *scratch(n, dtype),
    )  # fmt: skip
    expected, truncated = [], False
    while len(expected) < 6 and not truncated:
        top = max(abs(value) for value in values)
        for i, value in enumerate(values):
            magnitude = raised if abs(value) == top else min(abs(value) + (raised - top), largest)
            values[i] = -magnitude if value < 0 else magnitude
        steps, area, truncated = naive_spread(values, rows, 1.0, alpha, max_steps)
        expected.append((sum(steps), len(steps), area, truncated, steps[0]))
    assert events == len(expected)
    columns = (column[:events].tolist() for column in found)
    assert [tuple(row) for row in zip(*columns, strict=True)] == expected
    assert gradient.tobytes() == np.array(values).tobytes()


def naive_clusters(unstable, rows):
    """Join labels of neighbors until no label changes."""
    label = list(range(len(rows)))
    changed = True
    while changed:
        changed = False
        for i, row in enumerate(rows):
            for j in row:
                if unstable[i] and unstable[j] and label[j] < label[i]:
                    label[i], changed = label[j], True
    labels = [label[i] for i in range(len(rows)) if unstable[i]]
    return [labels.count(first) for first in dict.fromkeys(labels)]


@examples(100)
@given(
    gradient=gradients(80),
    seed=seeds,
    mean_degree=st.sampled_from([0.0, 1.0, 3.0, 8.0]),
    quantile=quantiles,
)
def test_clusters_are_connected_components(gradient, seed, mean_degree, quantile):
    n = gradient.size
    indptr, indices = random_csr(np.random.default_rng(seed), n, mean_degree)
    rows = [indices[start:stop].tolist() for start, stop in itertools.pairwise(indptr)]
    threshold = naive_quantile(gradient, quantile)
    unstable = np.abs(gradient).astype(np.float64) > threshold
    sizes = np.zeros(n, np.int64)
    found = _kernels_kicks.cluster_sizes(
        gradient, indptr, indices, threshold, np.zeros(n, np.uint8), np.zeros(n, np.int32), sizes
    )
    assert sizes[:found].tolist() == naive_clusters(unstable, rows)


@examples(60)
@given(seed=seeds, n=st.integers(1, 60), mean_degree=st.sampled_from([0.0, 1.0, 2.0, 4.0]))
def test_marks_reach_all_nodes_that_a_path_leads_to(seed, n, mean_degree):
    rng = np.random.default_rng(seed)
    indptr, indices = random_csr(rng, n, mean_degree)
    rows = [indices[start:stop].tolist() for start, stop in itertools.pairwise(indptr)]
    first = np.flatnonzero(rng.random(n) < 0.1)
    reached = set(first.tolist())
    for _ in range(n):
        reached |= {j for i in reached for j in rows[i]}
    marks, stack = np.zeros(n, np.uint8), np.zeros(n, np.int32)
    marks[first], stack[: first.size] = 1, first
    _kernels_kicks.mark_reached(indptr, indices, first.size, stack, marks)
    assert np.flatnonzero(marks).tolist() == sorted(reached)
