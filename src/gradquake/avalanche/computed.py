"""Graphs whose neighbors are computed instead of stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from gradquake.avalanche.graphs import Floats, Graph, IntArray, index_dtype

__all__ = ["ComputedGraph"]

# The nodes whose neighbors are made at a time to be hashed.
ROWS_AT_A_TIME = 1 << 20


class ComputedGraph(Graph):
    """A graph of degree 4 whose neighbors a kernel computes.

    Its arrays ``indptr`` and ``indices`` are made when they are first read, and then kept. A gradient of
    at least ``computed_from`` entries is measured without them, and leaves the same avalanche.

    Parameters
    ----------
    n : int
        The number of nodes.
    neighbors : kernel
        ``(nodes, first, n, *rule, rows)`` fills ``rows`` with the 4 neighbors of each node.
    rule
        The further arguments of the kernel.
    computed_from : int
        The number of nodes from which the arrays are not used.
    """

    def __init__(self, n: int, neighbors: Callable[..., None], *rule: Any, computed_from: int) -> None:
        self._n, self._neighbors, self._rule = n, neighbors, rule
        self.computed_from = computed_from

    def _rows(self, first: int, nodes: IntArray) -> IntArray:
        rows = np.empty((nodes.size, 4), index_dtype(self._n, self._n))
        self._neighbors(nodes, first, self._n, *self._rule, rows)
        return rows

    @property
    def n_nodes(self) -> int:
        """The number of nodes, N."""
        return self._n

    @property
    def is_computed(self) -> bool:
        """As in ``Graph``; True of a large graph."""
        return self._n >= self.computed_from

    @property
    def n_edges(self) -> int:
        """The number of undirected edges, 2 N."""
        return 2 * self._n

    @property
    def nbytes(self) -> int:
        """As in ``Graph``. A small graph's arrays count before they are made, since they will be."""
        if self.is_computed and "_arrays" not in vars(self):
            return sum(np.asarray(part).nbytes for part in self._rule)
        return (5 * self._n + 1) * np.dtype(index_dtype(self._n, 4 * self._n)).itemsize

    @property
    def indptr(self) -> IntArray:
        """As in ``Graph``; 0, 4, 8, ..."""
        return self._arrays[0]

    @property
    def indices(self) -> IntArray:
        """As in ``Graph``."""
        return self._arrays[1]

    @cached_property
    def _arrays(self) -> tuple[IntArray, IntArray]:
        return self._indptr_of(0, self._n + 1), self._indices_of(0, self._n)

    def _csr_parts(self) -> Iterator[IntArray]:
        """As in ``Graph``, without the whole arrays."""
        for part, end in ((self._indptr_of, self._n + 1), (self._indices_of, self._n)):
            for begin in range(0, end, ROWS_AT_A_TIME):
                yield part(begin, min(begin + ROWS_AT_A_TIME, end))

    def _indptr_of(self, begin: int, end: int) -> IntArray:
        return np.arange(4 * begin, 4 * end, 4, dtype=index_dtype(self._n, 4 * self._n))

    def _indices_of(self, begin: int, end: int) -> IntArray:
        """Return the entries of ``indices`` of the nodes from ``begin`` to before ``end``."""
        dtype = index_dtype(self._n, 4 * self._n)
        rows = self._rows(0, np.arange(begin, end, dtype=dtype)).astype(dtype, copy=False)
        rows.sort(axis=1)
        return rows.ravel()

    def handed_on(
        self, first: int, nodes: IntArray, moved: Floats, chunk: int
    ) -> Iterator[tuple[IntArray, Floats]]:
        """As in ``Graph``."""
        for begin in range(0, nodes.size, chunk // 4):
            part = slice(begin, begin + chunk // 4)
            yield self._rows(first, nodes[part]).ravel(), np.repeat(moved[part] / moved.dtype.type(4), 4)

    @property
    def has_lonely_nodes(self) -> bool:
        """As in ``Graph``; none has."""
        return False
