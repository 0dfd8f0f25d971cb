"""The kernels of graphs against naive twins."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradquake.avalanche import (
    _kernels_graphs,
)
from kernel_cases import SplitMix, csr, cycle_keys, examples, naive_permuted, random_csr, seeds, state_of


@examples(60)
@given(seed=seeds, n=st.integers(2, 30))
def test_adjacency_lists_every_edge_from_both_ends_in_order(seed, n):
    rng = np.random.default_rng(seed)
    everything = np.array([(i, j) for i in range(n) for j in range(i)])
    edges = rng.permutation(everything)[: rng.integers(len(everything) + 1)].astype(np.int32)
    edges = rng.permuted(edges, axis=1)
    indptr, indices = np.zeros(n + 1, np.int32), np.empty(2 * len(edges), np.int32)
    sources, targets = np.ascontiguousarray(edges.T)
    scratch = np.full(n, -1, np.int32), np.full_like(indices, -1)
    _kernels_graphs.adjacency(sources, targets, indptr, indices, *scratch)
    expected_indptr, expected_indices = csr(n, edges.tolist())
    np.testing.assert_array_equal(indptr, expected_indptr)
    np.testing.assert_array_equal(indices, expected_indices)


def naive_defect(rows):
    """Return (kind, i, j), looking at one entry after another."""
    for i, row in enumerate(rows):
        for place, j in enumerate(row):
            if not 0 <= j < len(rows):
                return 1, i, j
            if j == i:
                return 2, i, j
            if place and row[place - 1] == j:
                return 3, i, j
            if place and row[place - 1] > j:
                return 4, i, j
    asymmetric = any(i not in rows[j] for i, row in enumerate(rows) for j in row)
    return (5, None, None) if asymmetric else (0, 0, 0)


def assert_same_defect(rows):
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    indices = np.array([j for row in rows for j in row], np.int32)
    kind, i, j = _kernels_graphs.find_defect(indptr, indices, indptr[:-1].copy())
    expected = naive_defect(rows)
    if expected[0] == 5:
        assert kind == 5
        assert j in rows[i]
        assert i not in rows[j]
    else:
        assert (kind, i, j) == expected
    return kind


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([[1], [0]], 0),
        ([[]], 0),
        ([[1], [0, 3], []], 1),
        ([[1], [0, -1], []], 1),
        ([[1], [0], [2]], 2),
        ([[1, 1], [0, 0]], 3),
        ([[2, 1], [0], [0]], 4),
        ([[1], []], 5),
        ([[], [0]], 5),
        ([[2], [2], [1]], 5),
        ([[1], [2], [0]], 5),
    ],
)
def test_find_defect_of_every_kind(rows, kind):
    assert assert_same_defect(rows) == kind


@examples(150)
@given(
    rows=st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(st.integers(-1, n), max_size=4).map(sorted), min_size=n, max_size=n)
    )
)
def test_find_defect_in_random_rows(rows):
    assert_same_defect(rows)


@examples(100)
@given(seed=seeds, n=st.integers(2, 12))
def test_find_defect_when_one_entry_is_missing(seed, n):
    rng = np.random.default_rng(seed)
    indptr, indices = random_csr(rng, n, 4.0)
    rows = [row.tolist() for row in np.split(indices, indptr[1:-1])]
    assert assert_same_defect(rows) == 0
    filled = [row for row in rows if row]
    if filled:
        row = filled[rng.integers(len(filled))]
        del row[rng.integers(len(row))]
        assert assert_same_defect(rows) == 5


@examples(40)
@given(seed=seeds, m=st.integers(1, 4), more=st.integers(0, 60))
@example(seed=0, m=2, more=0)
def test_preferred_targets_are_chosen_among_the_ends_of_all_edges(seed, m, more):
    n = m + 1 + more
    targets = np.empty(m * (n - m), np.int32)
    _kernels_graphs.preferred_targets(m, state_of(seed), targets)

    random = SplitMix(seed)
    edges = [(0, i + 1) for i in range(m)]
    for node in range(m + 1, n):
        ends = [end for source, target in edges for end in (target, source)]
        chosen = []
        while len(chosen) < m:
            end = ends[random.below(len(ends))]
            if end not in chosen:
                chosen.append(end)
        edges += [(node, end) for end in chosen]

    assert targets.tolist() == [target for _, target in edges]
    assert [e // m + m if e >= m else 0 for e in range(len(edges))] == [node for node, _ in edges]

    indptr, indices = np.zeros(n + 1, np.int32), np.empty(2 * len(edges), np.int32)
    _kernels_graphs.grown_adjacency(m, targets, indptr, indices, np.full(n, -7, np.int32))
    pointers, naive = csr(n, edges)
    assert (indptr.tolist(), indices.tolist()) == (pointers.tolist(), naive.tolist())
    assert all(target < source for source, target in edges[m:])
    assert len({frozenset(edge) for edge in edges}) == len(edges) == m * (n - m)


@examples(60)
@given(seed=seeds, n=st.integers(5, 40), probability=st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_rewire_ring_moves_far_ends_and_nothing_else(seed, n, probability):
    ring = np.array([[(i + 1) % n, (i + 2) % n] for i in range(n)], np.int32)
    ends = ring.copy()
    _kernels_graphs.rewire_ring(probability, state_of(seed), ends)

    random, expected = SplitMix(seed), ring.tolist()
    neighbors = [{(i + k) % n for k in (-2, -1, 1, 2)} for i in range(n)]
    for k in range(2):
        for i in range(n):
            if random.uniform() >= probability or len(neighbors[i]) == n - 1:
                continue
            j = random.below(n)
            while j == i or j in neighbors[i]:
                j = random.below(n)
            old = expected[i][k]
            for a, b in ((i, old), (old, i)):
                neighbors[a].remove(b)
            for a, b in ((i, j), (j, i)):
                neighbors[a].add(b)
            expected[i][k] = j

    assert ends.tolist() == expected
    edges = {frozenset((i, j)) for i, row in enumerate(expected) for j in row}
    assert len(edges) == 2 * n
    assert all(len(edge) == 2 for edge in edges)
    if probability == 0:
        np.testing.assert_array_equal(ends, ring)


@examples(60)
@given(seeds=st.tuples(seeds, seeds), n=st.integers(5, 60), offset=st.integers(0, 4))
def test_cycle_neighbors_are_those_before_and_after_on_two_cycles(seeds, n, offset):
    first, second = (cycle_keys(seed, n) for seed in seeds)
    cycles = [[naive_permuted(x, n, keys) for x in range(n)] for keys in (first, second)]
    rows = np.empty((n - offset, 4), np.int32)
    _kernels_graphs.cycle_neighbors(np.arange(n - offset), offset, n, first, second, rows)
    for k, row in enumerate(rows.tolist()):
        places = [cycle.index(k + offset) for cycle in cycles]
        beside = [(c[p - 1], c[(p + 1) % n]) for c, p in zip(cycles, places, strict=True)]
        assert row == [*beside[0], *beside[1]]
    edges = [{frozenset((c[p - 1], c[p])) for p in range(n)} for c in cycles]
    shared = bool(edges[0] & edges[1])
    assert _kernels_graphs.shares_an_edge(n, first, second, 0, n) == shared
    # In any two parts together.
    parts = [
        _kernels_graphs.shares_an_edge(n, first, second, *part) for part in ((0, n // 2), (n // 2, n))
    ]
    assert any(parts) == shared


@examples(30)
@given(n=st.integers(5, 60), far=st.integers(2, 4), offset=st.integers(0, 4))
def test_circulant_neighbors_are_so_many_before_and_after(n, far, offset):
    rows = np.empty((n - offset, 4), np.int64)
    _kernels_graphs.circulant_neighbors(np.arange(n - offset), offset, n, 1, far, rows)
    expected = [[(i + jump) % n for jump in (-far, -1, 1, far)] for i in range(offset, n)]
    assert rows.tolist() == expected
