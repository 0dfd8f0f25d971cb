"""Counts of nodes in stretches of a gradient, such as its tensors."""

from __future__ import annotations

import numpy as np

from gradquake.avalanche._numba import Array, index, kernel

__all__ = ["count_listed", "count_marked"]

# A list with fewer nodes to an edge than this is walked along.
WALK = 12

# Every second bit, every second pair of bits, every second half of a byte.
BITS, PAIRS, HALVES = (
    np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F),
)  # fmt: skip


@kernel
def count_listed(nodes: Array, count: int, edges: Array, found: Array) -> None:
    """Add to ``found[s]`` the nodes from ``edges[s]`` to before ``edges[s + 1]``.

    The first ``count`` of ``nodes`` are listed, ascending. Each edge is found by bisection, unless the
    list is so short that a walk along it is faster.
    """
    one = index(1)
    low = index(0)
    walks = count < WALK * edges.size
    for s in range(index(edges.size)):
        before, edge = low, edges[s]
        if walks:
            while low < index(count) and nodes[low] < edge:
                low += one
        else:
            high = index(count)
            while low < high:
                middle = (low + high) >> one
                below = nodes[middle] < edge
                low, high = (middle + one, high) if below else (low, middle)
        if s > index(0):
            found[s - one] += np.int64(low - before)


@kernel
def bits_in(word: np.uint64) -> np.uint64:
    """Return how many bits of a word of 64 are set."""
    word = (word & BITS) + ((word >> index(1)) & BITS)
    word = (word & PAIRS) + ((word >> index(2)) & PAIRS)
    word = (word & HALVES) + ((word >> index(4)) & HALVES)
    word += word >> index(8)
    word += word >> index(16)
    word += word >> index(32)
    return word & index(127)


@kernel
def count_marked(marks: Array, edges: Array, found: Array) -> None:
    """Add to ``found[s]`` the set bits from ``edges[s]`` to before ``edges[s + 1]``.

    ``marks`` has a bit a node, 64 to a word.
    """
    one, width, within = index(1), index(64), index(63)
    for s in range(edges.size - 1):
        start, stop = index(edges[s]), index(edges[s + 1])
        while start < stop:
            word, offset = marks[start >> index(6)], start & within
            word >>= offset
            taken = min(width - offset, stop - start)
            if taken < width:
                word &= (one << taken) - one
            found[s] += np.int64(bits_in(word))
            start += taken
