"""The arrays of graphs, and computed neighbors."""

from __future__ import annotations

import numpy as np

from gradquake.avalanche._kernels_random import next_random, permuted, random_below, unpermuted
from gradquake.avalanche._numba import Array, index, kernel

__all__ = [
    "adjacency", "circulant_neighbors", "cycle_neighbors", "find_defect", "grown_adjacency",
    "preferred_targets", "rewire_ring", "shares_an_edge",
]  # fmt: skip


@kernel
def adjacency(
    sources: Array, targets: Array, indptr: Array, indices: Array, cursor: Array, unsorted: Array
) -> None:
    """Fill the CSR arrays of the undirected edges (sources[e], targets[e]), rows ascending.

    ``indptr`` comes as zeros; ``cursor`` (a number a node) and ``unsorted`` (like ``indices``) are
    scratch. The rows are filled by counting, in any order. Then a transposition sorts them: it leaves a
    symmetric matrix the same. The cost is linear.
    """
    nodes = indptr.size - 1
    for e in range(sources.size):
        indptr[sources[e] + 1] += 1
        indptr[targets[e] + 1] += 1
    for i in range(nodes):
        cursor[i] = indptr[i]
        indptr[i + 1] += indptr[i]
    for e in range(sources.size):
        i, j = sources[e], targets[e]
        unsorted[cursor[i]] = j
        cursor[i] += 1
        unsorted[cursor[j]] = i
        cursor[j] += 1
    for i in range(nodes):
        cursor[i] = indptr[i]
    for i in range(nodes):
        for e in range(indptr[i], indptr[i + 1]):
            j = unsorted[e]
            indices[cursor[j]] = i
            cursor[j] += 1


@kernel
def find_defect(indptr: Array, indices: Array, cursor: Array) -> tuple[int, int, int]:
    """Return (kind, i, j) of the first defect of a CSR adjacency, kind 0 if there is none.

    Kinds: 1 neighbor out of range, 2 self-loop, 3 duplicate, 4 row not ascending, 5 not symmetric
    (j in row i, not i in row j). If rows ascend, a walk through all rows visits the entries of every
    other row in order too. So one cursor a row, which comes as a copy of the rows' starts, decides
    symmetry in linear time.
    """
    nodes = indptr.size - 1
    for i in range(nodes):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if j < 0 or j >= nodes:
                return 1, i, j
            if j == i:
                return 2, i, j
            if e > indptr[i] and indices[e - 1] == j:
                return 3, i, j
            if e > indptr[i] and indices[e - 1] > j:
                return 4, i, j
    for i in range(nodes):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if cursor[j] == indptr[j + 1] or indices[cursor[j]] > i:
                return 5, i, j
            if indices[cursor[j]] < i:
                return 5, j, indices[cursor[j]]
            cursor[j] += 1
    return 0, 0, 0


@kernel
def preferred_targets(m: int, state: Array, targets: Array) -> None:
    """Grow a preferential-attachment graph from a star on m + 1 nodes.

    Edge e joins ``targets[e]`` to node 0 if e < m, and else to the newer node e // m + m. A uniform
    choice among the ends of all edges so far chooses a node by its degree.
    """
    for e in range(m):
        targets[e] = e + 1
    for first in range(m, targets.size, m):
        for e in range(first, first + m):
            fresh = False
            while not fresh:
                end = random_below(2 * first, state)
                edge = end >> 1
                # Both are looked up, since a branch would be mispredicted.
                older, newer = targets[edge], edge // m + m if edge >= m else 0
                chosen = newer if end & 1 else older
                fresh = True
                for other in range(first, e):
                    fresh = fresh and targets[other] != chosen
            targets[e] = chosen


@kernel
def grown_adjacency(m: int, targets: Array, indptr: Array, indices: Array, cursor: Array) -> None:
    """Fill the CSR arrays of a graph that ``preferred_targets`` has grown, rows ascending.

    A row holds the m older nodes that its node chose, then the younger nodes that chose it, in their
    order; so one pass over the edges fills it. ``indptr`` comes as zeros; ``cursor`` is scratch, a
    number a node.
    """
    nodes = indptr.size - 1
    for e in range(targets.size):
        indptr[targets[e] + 1] += 1
    indptr[1] += m
    for i in range(m + 1, nodes):
        indptr[i + 1] += m
    for i in range(nodes):
        cursor[i] = indptr[i]
        indptr[i + 1] += indptr[i]
    for i in range(m + 1, nodes):
        for e in range((i - m) * m, (i - m + 1) * m):
            # By insertion, since m is small.
            place = cursor[i]
            while place > indptr[i] and indices[place - 1] > targets[e]:
                indices[place] = indices[place - 1]
                place -= 1
            indices[place] = targets[e]
            cursor[i] += 1
    for e in range(m):
        indices[cursor[0]], indices[cursor[e + 1]] = e + 1, 0
        cursor[0] += 1
        cursor[e + 1] += 1
    for e in range(m, targets.size):
        chosen = targets[e]
        indices[cursor[chosen]] = e // m + m
        cursor[chosen] += 1


@kernel
def rewire_ring(probability: float, state: Array, ends: Array) -> None:
    """Rewire the far end of each edge of a ring with some probability (Watts and Strogatz 1998).

    Node i owns the edges to ``ends[i]``; so the rows of two nodes tell whether they are joined. A node
    that is joined to all others keeps its edge.
    """
    nodes, owned = ends.shape
    degree = np.full(nodes, 2 * owned)
    for k in range(owned):
        for i in range(nodes):
            random = (next_random(state) >> np.uint64(11)) * 2.0**-53
            if random >= probability or degree[i] >= nodes - 1:
                continue
            free = False
            while not free:
                j = random_below(nodes, state)
                free = j != i
                for other in range(owned):
                    free = free and ends[i, other] != j and ends[j, other] != i
            degree[ends[i, k]] -= 1
            degree[j] += 1
            ends[i, k] = j


@kernel
def shares_an_edge(n: int, first: Array, second: Array, start: int, stop: int) -> bool:
    """Return whether any of the edges ``start`` to ``stop`` of the second cycle is one of the first."""
    size, one = index(n), index(1)
    node = permuted(index(start), size, second)
    place = unpermuted(node, size, first)
    for p in range(start + 1, stop + 1):
        node = permuted(index(p % n), size, second)
        there = unpermuted(node, size, first)
        apart = max(there, place) - min(there, place)
        if apart == one or apart == size - one:
            return True
        place = there
    return False


@kernel
def cycle_neighbors(nodes: Array, start: int, n: int, first: Array, second: Array, rows: Array) -> None:
    """Fill ``rows`` (nodes, 4) with the neighbors of nodes, counted from ``start``, on two cycles."""
    size, one = index(n), index(1)
    for k in range(nodes.size):
        node = index(start) + index(nodes[k])
        for c in range(2):
            keys = second if c else first
            place = unpermuted(node, size, keys)
            after = place + one if place + one < size else index(0)
            before = place - one if place > index(0) else size - one
            rows[k, 2 * c] = permuted(before, size, keys)
            rows[k, 2 * c + 1] = permuted(after, size, keys)


@kernel
def circulant_neighbors(nodes: Array, start: int, n: int, near: int, far: int, rows: Array) -> None:
    """Fill ``rows`` (nodes, 4) with the nodes ``near`` and ``far`` before and after each on a ring."""
    for k in range(nodes.size):
        node = start + nodes[k]
        rows[k, 0] = node - far if node >= far else node - far + n
        rows[k, 1] = node - near if node >= near else node - near + n
        rows[k, 2] = node + near if node + near < n else node + near - n
        rows[k, 3] = node + far if node + far < n else node + far - n
