"""The parts of a large gradient, and the shares on their way between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradquake.avalanche import _kernels_shares
from gradquake.avalanche.graphs import Graph, IntArray
from gradquake.avalanche.sums import STRETCH, Gradient

__all__ = ["Part", "Shares"]

# Numbers of 8 bytes on two cache lines, which a processor may fetch together.
LINE = 16


class Shares:
    """Shares sorted by the bin that gets them, in the memory that the kernel ``sort_shares`` explains.

    Parameters
    ----------
    n_bins : int
        The number of bins.
    dtype : dtype
        The gradient's.
    """

    def __init__(self, n_bins: int, dtype: np.dtype[Any]) -> None:
        self.links, self.shares = np.empty(0, np.int64), np.empty(0, dtype)
        # Space around it keeps it off the cache lines that other threads write to.
        self.ends = np.empty(n_bins + 2 * LINE, np.int64)[LINE:-LINE]
        self.clear()

    def clear(self) -> None:
        """Remove all shares, and keep the memory."""
        self.used = self.ends.size
        self.ends[:] = np.arange(self.used) << _kernels_shares.CHUNK_BITS

    @property
    def places(self) -> IntArray:
        """The memory of the shares, as integers of their width."""
        found: IntArray = self.shares.view(f"i{self.shares.itemsize}")
        return found

    @property
    def arrays(self) -> tuple[IntArray, IntArray, IntArray, Gradient]:
        """The arrays that the kernels take, from ``links`` to ``shares``."""
        return self.links, self.ends, self.places, self.shares

    def reserve(self, more: int) -> None:
        """Make room for ``more`` shares."""
        # Every bin may need one chunk more.
        needed = self.used + self.ends.size + (2 * more >> _kernels_shares.CHUNK_BITS) + 1
        if needed > self.links.size:
            room = max(needed, self.links.size * 3 // 2)
            links, shares = self.links, self.shares
            # The system provides memory when it is first written to.
            self.links = np.empty(room, np.int64)
            self.shares = np.empty(room << _kernels_shares.CHUNK_BITS, shares.dtype)
            self.links[: links.size], self.shares[: shares.size] = links, shares

    def add(self, targets: IntArray, given: Gradient, shift: int) -> None:
        """Append shares for nodes, which are counted from the first bin on."""
        self.reserve(targets.size)
        self.used = _kernels_shares.sort_shares(
            targets, given, shift, self.links, self.ends, self.places, self.shares, self.used
        )

    def add_neighbors(self, nodes: IntArray, moved: Gradient, graph: Graph, shift: int) -> None:
        """Append the shares that the neighbors of nodes get in a stored graph."""
        begin = 0
        while begin < nodes.size:
            begin, self.used = _kernels_shares.sort_neighbors_shares(
                nodes, moved, begin, graph.indptr, graph.indices, shift,
                self.links, self.ends, self.places, self.shares, self.used,
            )  # fmt: skip
            if begin < nodes.size:
                node = int(nodes[begin])
                self.reserve(int(graph.indptr[node + 1] - graph.indptr[node]))


class Part:
    """Some bins of a process, which one thread works on at a time.

    Attributes
    ----------
    first, last : int
        Its nodes are ``first`` to ``last - 1`` of the process.
    count : int
        The number of its nodes that topple in this step.
    sent : Shares
        The shares that it sends, sorted by all bins of the process.
    """

    def __init__(self, bins: range, shift: int, n: int, all_bins: int, dtype: np.dtype[Any]) -> None:
        self.bins = bins
        self.first, self.last = bins.start << shift, min(bins.stop << shift, n)
        self.count = 0
        self.sent = Shares(all_bins, dtype)

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Yield the first node of every stretch of the part, and the node after the stretch."""
        for first in range(self.first, self.last, STRETCH):
            yield first, min(first + STRETCH, self.last)

    def listed(self, unstable: IntArray, moved: Gradient) -> tuple[IntArray, Gradient]:
        """Return the part's toppled nodes and the amount that each gives away."""
        own = slice(self.first, self.first + self.count)
        return unstable[own], moved[own]
