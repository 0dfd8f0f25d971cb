"""The graphs on which gradients relax: simple, undirected, in compressed sparse row (CSR) form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_graphs, _kernels_shares
from gradquake.errors import InputError, a_type, require, require_count

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix


__all__ = [
    "TOO_MANY", "Floats", "Graph", "GraphStack", "IntArray", "check_graph", "count_of", "from_edges",
    "from_scipy", "from_trusted", "index_dtype", "joined", "repeat", "stack",
]  # fmt: skip

IntArray = NDArray[np.signedinteger[Any]]

Floats = NDArray[np.floating[Any]]

# More nodes or edges than any memory holds.
TOO_MANY = 2**40

# By the numbers that the kernel ``find_defect`` returns.
DEFECTS = {
    1: "node {i} has neighbor {j}, outside 0..{last}",
    2: "node {i} is its own neighbor; self-loops are not allowed",
    3: "node {i} lists neighbor {j} twice; every edge is needed once",
    4: "the neighbors of node {i} are not in ascending order",
    5: "node {i} lists neighbor {j}, but node {j} does not list {i}; an undirected graph is needed",
}


class Graph:
    """A simple undirected graph in CSR form.

    Parameters
    ----------
    indptr : array of int32 or int64, shape (n_nodes + 1,)
        Row i of ``indices`` is ``indices[indptr[i]:indptr[i + 1]]``.
    indices : array of int32 or int64, shape (2 * n_edges,)
        The neighbors of every node, ascending in each row. Stored in 32 bits if they fit.

    Raises
    ------
    InputError
        If the arrays are not a simple, symmetric adjacency with ascending rows. ``from_edges`` and
        ``from_scipy`` take other forms.
    """

    def __init__(self, indptr: ArrayLike, indices: ArrayLike) -> None:
        indptr, indices = _array("indptr", indptr), _array("indices", indices)
        for name, array in (("indptr", indptr), ("indices", indices)):
            if not (array.ndim == 1 and array.dtype.kind in "iu"):
                raise InputError(
                    f"{name} has shape {array.shape} and dtype {array.dtype}; "
                    "a vector of integers is needed"
                )
        if not (
            indptr.size >= 2
            and indptr[0] == 0
            and indptr[-1] == indices.size
            and bool((np.diff(indptr.astype(np.int64)) >= 0).all())
        ):
            raise InputError(
                f"indptr does not fit {indices.size} indices; it must have at least 2 entries, start at "
                f"0, never fall, and end at {indices.size}"
            )
        dtype = index_dtype(indptr.size - 1, indices.size)
        # The cast below would wrap numbers that do not fit.
        for end in (indices.min(initial=0), indices.max(initial=0)):
            if not np.iinfo(dtype).min <= int(end) <= np.iinfo(dtype).max:
                raise InputError(f"a neighbor is numbered {end}, outside 0..{indptr.size - 2}")
        self._indptr: IntArray = np.ascontiguousarray(indptr, dtype)
        self._indices: IntArray = np.ascontiguousarray(indices, dtype)
        kind, i, j = _kernels_graphs.find_defect(self.indptr, self.indices, self.indptr[:-1].copy())
        if kind != 0:
            raise InputError(DEFECTS[kind].format(i=i, j=j, last=self.n_nodes - 1))

    @property
    def indptr(self) -> IntArray:
        """The place in ``indices`` of the first neighbor of every node, shape (n_nodes + 1,)."""
        return self._indptr

    @property
    def indices(self) -> IntArray:
        """The neighbors of every node, ascending, one node after the other."""
        return self._indices

    @property
    def n_nodes(self) -> int:
        """The number of nodes, N."""
        return self.indptr.size - 1

    @property
    def n_edges(self) -> int:
        """The number of undirected edges."""
        return self.indices.size // 2

    @property
    def degrees(self) -> IntArray:
        """The degree of every node, shape (n_nodes,)."""
        return np.diff(self.indptr)

    @property
    def nbytes(self) -> int:
        """The bytes of ``indptr`` and ``indices``."""
        return self.indptr.nbytes + self.indices.nbytes

    @cached_property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of ``indptr`` and ``indices``, little endian."""
        found = sha256()
        for part in self._csr_parts():
            found.update(np.asarray(part, part.dtype.newbyteorder("<")).data)
        return found.hexdigest()[:12]

    def _csr_parts(self) -> Iterator[IntArray]:
        """Yield the entries of ``indptr`` and then of ``indices``, in any number of arrays."""
        yield self.indptr
        yield self.indices

    @property
    def is_computed(self) -> bool:
        """Whether neighbors are computed instead of looked up."""
        return False

    def handed_on(
        self, first: int, nodes: IntArray, moved: Floats, chunk: int
    ) -> Iterator[tuple[IntArray, Floats]]:
        """Yield the neighbors of the nodes ``first + nodes``, and each neighbor's share, in order.

        Each node gives away ``moved``. The arrays yielded have about ``chunk`` entries and are
        overwritten by the next ones.
        """
        room = max(chunk, self._degree_range[1])
        targets, given = np.empty(room, self.indices.dtype), np.empty(room, moved.dtype)
        begin = 0
        while begin < nodes.size:
            begin, used = _kernels_shares.stored_targets(
                nodes, moved, begin, self.indptr[first:], self.indices, targets, given
            )
            yield targets[:used], given[:used]

    @property
    def has_lonely_nodes(self) -> bool:
        """Whether any node has no neighbor."""
        return self._degree_range[0] == 0

    @cached_property
    def _degree_range(self) -> tuple[int, int]:
        degrees = self.degrees
        return int(degrees.min()), int(degrees.max())

    @cached_property
    def as_stack(self) -> GraphStack:
        """The graph as a stack of one, without a copy."""
        return GraphStack(np.array([0, self.n_nodes]), np.zeros(1, np.int64), self.indptr, self.indices)

    def __repr__(self) -> str:
        return f"Graph(n_nodes={self.n_nodes}, n_edges={self.n_edges})"


@dataclass(frozen=True, eq=False, repr=False)
class GraphStack:
    """Many graphs laid end to end, for batches. Made by ``stack``.

    Attributes
    ----------
    offsets : array of int64, shape (number of graphs + 1,)
        Graph b owns the nodes ``offsets[b]`` to ``offsets[b + 1]`` of a vector over all nodes.
    rows : array of int64, shape (number of graphs,)
        The place in ``indptr`` of the first row pointer of graph b.
    indptr, indices : arrays of one integer type
        The arrays of all graphs; ``indices`` number the nodes within their own graph.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    indptr: IntArray
    indices: IntArray

    def __len__(self) -> int:
        return self.offsets.size - 1

    @cached_property
    def n_nodes(self) -> int:
        """The number of nodes of all graphs together."""
        return int(self.offsets[-1])

    @cached_property
    def longest(self) -> int:
        """The number of nodes of the largest graph."""
        return int(np.diff(self.offsets).max())

    def __repr__(self) -> str:
        return f"GraphStack({len(self)} graphs, n_nodes={self.n_nodes})"


def stack(graphs: Sequence[Graph]) -> GraphStack:
    """Return graphs laid end to end; a single graph is not copied.

    Raises
    ------
    InputError
        If no graph is given.
    """
    for graph in graphs:
        check_graph(graph)
    if len(graphs) == 1:
        return graphs[0].as_stack
    require(len(graphs) > 0, "no graph was given; a stack needs at least one")
    sizes = np.array([graph.n_nodes for graph in graphs])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.cumsum([0, *(graph.indices.size for graph in graphs)])
    dtype = index_dtype(int(offsets[-1]), int(starts[-1]))
    indptr = [graph.indptr + start for graph, start in zip(graphs, starts[:-1], strict=True)]
    return GraphStack(
        offsets,
        offsets[:-1] + np.arange(sizes.size),
        np.concatenate(indptr).astype(dtype),
        np.concatenate([graph.indices for graph in graphs]).astype(dtype, copy=False),
    )


def check_graph(graph: object) -> None:
    """Raise InputError unless ``graph`` is a Graph."""
    if not isinstance(graph, Graph):
        raise InputError(f"the graph is {graph!r}; a gradquake Graph is needed (see graphs.from_scipy)")


def repeat(graphs: Graph | GraphStack, times: int) -> GraphStack:
    """Return a graph, or each graph of a stack, ``times`` times in a row, without a copy."""
    one = graphs.as_stack if isinstance(graphs, Graph) else graphs
    times = count_of("times", times, 1)
    if times * one.n_nodes >= TOO_MANY:
        raise InputError(f"times is {times}; fewer than 2^40 nodes together are needed")
    sizes = np.repeat(np.diff(one.offsets), times)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return GraphStack(offsets, np.repeat(one.rows, times), one.indptr, one.indices)


def from_edges(n: int, edges: ArrayLike) -> Graph:
    """Return the graph on ``n`` nodes with the given undirected edges.

    Parameters
    ----------
    n : int
        The number of nodes; nodes without an edge are allowed.
    edges : array of int, shape (n_edges, 2)
        Each edge once, in either direction.

    Raises
    ------
    InputError
        For a node outside 0..n - 1, a self-loop, or an edge given twice (in either direction).
    """
    n = count_of("n", n, 1)
    pairs = _array("edges", edges)
    pairs = pairs if pairs.size else np.empty((0, 2), np.int64)
    if not (pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype.kind in "iu"):
        raise InputError(
            f"edges have shape {pairs.shape} and dtype {pairs.dtype}; integers (n_edges, 2) are needed"
        )
    outside = pairs[((pairs < 0) | (pairs >= n)).any(axis=1)]
    if len(outside):
        raise InputError(f"edge {tuple(outside[0].tolist())} has an end outside 0..{n - 1}")
    return Graph(*joined(n, pairs[:, 0], pairs[:, 1]))


def from_scipy(matrix: sparray | spmatrix) -> Graph:
    """Return the graph whose adjacency matrix is a SciPy sparse matrix.

    Parameters
    ----------
    matrix : SciPy sparse matrix or array, shape (n, n)
        Every non-zero entry is an edge, whatever its value. It must be symmetric, with an empty
        diagonal; entries may be in any order.

    Raises
    ------
    InputError
        If the matrix is not square, not symmetric, or has a diagonal entry or an entry twice.
    """
    if not hasattr(matrix, "tocoo"):
        raise InputError(f"the adjacency is {a_type(matrix)}; a SciPy sparse matrix is needed")
    if not (matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and matrix.shape[0] > 0):
        raise InputError(f"the adjacency has shape {matrix.shape}; a square matrix is needed")
    coordinates = matrix.tocoo()
    edge = coordinates.data != 0
    n = matrix.shape[0]
    rows, columns = coordinates.row[edge], coordinates.col[edge]
    outside = rows[(rows < 0) | (rows >= n)]
    if outside.size:
        raise InputError(f"the adjacency has an entry in row {outside[0]}, outside 0..{n - 1}")
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=indptr[1:])
    return Graph(indptr, columns[np.lexsort((columns, rows))])


def count_of(name: str, value: int, fewest: int) -> int:
    """Return a number of nodes as a Python integer, which cannot wrap, or raise InputError."""
    require_count(name, value, fewest)
    if value >= TOO_MANY:
        raise InputError(f"{name} is {value!r}; an integer below 2^40 is needed")
    return int(value)


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{name} cannot be made an array; an array of integers is needed") from None


def index_dtype(n_nodes: int, n_entries: int) -> type[np.signedinteger[Any]]:
    """Return the integer type that numbers so many nodes and entries of ``indices``."""
    return np.int32 if max(n_nodes, n_entries) <= np.iinfo(np.int32).max else np.int64


def joined(n: int, sources: IntArray, targets: IntArray) -> tuple[IntArray, IntArray]:
    """Return ``indptr`` and ``indices`` of n nodes joined by edges, which are not checked."""
    dtype = index_dtype(n, 2 * sources.size)
    indptr, indices = np.zeros(n + 1, dtype), np.empty(2 * sources.size, dtype)
    _kernels_graphs.adjacency(
        np.ascontiguousarray(sources, dtype),
        np.ascontiguousarray(targets, dtype),
        indptr,
        indices,
        np.empty(n, dtype),
        np.empty_like(indices),
    )
    return indptr, indices


def from_trusted(indptr: IntArray, indices: IntArray) -> Graph:
    """Return the Graph of arrays that need no check, since a generator made them."""
    graph = object.__new__(Graph)
    graph._indptr, graph._indices = indptr, indices
    return graph
