"""The graphs on which gradients relax: simple, undirected, in compressed sparse row (CSR) form.

Every generator takes the number of nodes and, where it draws anything, an explicit seed; the same
call gives the same graph. Graphs of different sizes from one seed are independent draws. Their cost is
linear in the number of nodes, but for one sort of integers in ``erdos_renyi``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_graphs, _kernels_shares
from gradquake.errors import InputError, a_type, require, require_count

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix


IntArray = NDArray[np.signedinteger[Any]]

Floats = NDArray[np.floating[Any]]

# Nodes, or edges, that no memory holds.
TOO_MANY = 2**40

DEFECTS = {
    1: "node {i} has neighbour {j}, outside 0..{last}",
    2: "node {i} is its own neighbour; self-loops are not allowed",
    3: "node {i} lists neighbour {j} twice; an edge may stand once",
    4: "the neighbours of node {i} are not in ascending order",
    5: "node {i} lists neighbour {j}, but node {j} does not list {i}; an undirected graph is needed",
}


class Graph:
    """A simple undirected graph in CSR form.

    Parameters
    ----------
    indptr : array of int32 or int64, shape (n_nodes + 1,)
        Row i of ``indices`` is ``indices[indptr[i]:indptr[i + 1]]``.
    indices : array of int32 or int64, shape (2 * n_edges,)
        The neighbours of every node, ascending in each row. 32-bit where they fit.

    Raises
    ------
    InputError
        Where the arrays are not a simple, symmetric adjacency with ascending rows. ``from_edges``
        and ``from_scipy`` take what is not in that form yet.
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
        dtype = _index_dtype(indptr.size - 1, indices.size)
        # Before the cast, which would wrap; the rest is checked after it.
        for end in (indices.min(initial=0), indices.max(initial=0)):
            if not np.iinfo(dtype).min <= int(end) <= np.iinfo(dtype).max:
                raise InputError(f"a neighbour is numbered {end}, outside 0..{indptr.size - 2}")
        self._indptr: IntArray = np.ascontiguousarray(indptr, dtype)
        self._indices: IntArray = np.ascontiguousarray(indices, dtype)
        kind, i, j = _kernels_graphs.find_defect(self.indptr, self.indices, self.indptr[:-1].copy())
        if kind != 0:
            raise InputError(DEFECTS[kind].format(i=i, j=j, last=self.n_nodes - 1))

    @property
    def indptr(self) -> IntArray:
        """Where the neighbours of every node begin in ``indices``, shape (n_nodes + 1,)."""
        return self._indptr

    @property
    def indices(self) -> IntArray:
        """The neighbours of every node, ascending, one node after the other."""
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

    @property
    def is_computed(self) -> bool:
        """Whether neighbours are computed where they are needed."""
        return False

    def handed_on(
        self, first: int, nodes: IntArray, moved: Floats, chunk: int
    ) -> Iterator[tuple[IntArray, Floats]]:
        """Yield the neighbours of the nodes ``first + nodes``, and each one's share, in order.

        ``moved`` is what each node gives away. In arrays of about ``chunk`` entries, which are used
        again.
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
        """Whether any node has no neighbour."""
        return self._degree_range[0] == 0

    @cached_property
    def _degree_range(self) -> tuple[int, int]:
        degrees = self.degrees
        return int(degrees.min()), int(degrees.max())

    @cached_property
    def as_stack(self) -> GraphStack:
        """The graph as a stack of one, which shares its arrays."""
        return GraphStack(np.array([0, self.n_nodes]), np.zeros(1, np.int64), self.indptr, self.indices)

    def __repr__(self) -> str:
        return f"Graph(n_nodes={self.n_nodes}, n_edges={self.n_edges})"


class ComputedGraph(Graph):
    """A graph of degree 4 whose neighbours are computed where they are needed.

    It takes no memory until its arrays ``indptr`` and ``indices`` are asked for; they are made then, and
    kept. A gradient of at least ``computed_from`` entries is measured without them, and leaves the same
    avalanche.
    """

    def __init__(self, n: int, neighbours: Callable[..., None], *rule: Any, computed_from: int) -> None:
        self._n, self._neighbours, self._rule = n, neighbours, rule
        self.computed_from = computed_from

    def _rows(self, first: int, nodes: IntArray) -> IntArray:
        rows = np.empty((nodes.size, 4), _index_dtype(self._n, self._n))
        self._neighbours(nodes, first, self._n, *self._rule, rows)
        return rows

    @property
    def n_nodes(self) -> int:
        """The number of nodes, N."""
        return self._n

    @property
    def is_computed(self) -> bool:
        """As in ``Graph``; so in a large graph."""
        return self._n >= self.computed_from

    @property
    def n_edges(self) -> int:
        """The number of undirected edges, 2 N."""
        return 2 * self._n

    @property
    def nbytes(self) -> int:
        """As in ``Graph``, whether the arrays are made or not yet."""
        return (5 * self._n + 1) * np.dtype(_index_dtype(self._n, 4 * self._n)).itemsize

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
        dtype = _index_dtype(self._n, 4 * self._n)
        rows = self._rows(0, np.arange(self._n, dtype=dtype)).astype(dtype, copy=False)
        rows.sort(axis=1)
        return np.arange(0, 4 * self._n + 1, 4, dtype=dtype), rows.ravel()

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


@dataclass(frozen=True, eq=False, repr=False)
class GraphStack:
    """Many graphs laid end to end, for batches: made once by ``stack``, measured on often.

    Attributes
    ----------
    offsets : array of int64, shape (number of graphs + 1,)
        Graph b owns the nodes ``offsets[b]`` to ``offsets[b + 1]`` of a vector over all nodes.
    rows : array of int64, shape (number of graphs,)
        Where the row pointers of graph b start in ``indptr``.
    indptr, indices : arrays of one integer type
        The graphs' arrays; ``indices`` number the nodes within their own graph.
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
        Where no graph is given.
    """
    for graph in graphs:
        check_graph(graph)
    if len(graphs) == 1:
        return graphs[0].as_stack
    require(len(graphs) > 0, "no graph was given; a stack needs at least one")
    sizes = np.array([graph.n_nodes for graph in graphs])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.cumsum([0, *(graph.indices.size for graph in graphs)])
    dtype = _index_dtype(int(offsets[-1]), int(starts[-1]))
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
    return Graph(*_csr(n, pairs[:, 0], pairs[:, 1]))


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
        Where the matrix is not square, not symmetric, has a diagonal entry or an entry twice.
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
    """Return a number of nodes as Python's integer, since one of NumPy wraps, or raise InputError."""
    require_count(name, value, fewest)
    if value >= TOO_MANY:
        raise InputError(f"{name} is {value!r}; an integer below 2^40 is needed")
    return int(value)


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{name} cannot be made an array; an array of integers is needed") from None


def _index_dtype(n_nodes: int, n_entries: int) -> type[np.signedinteger[Any]]:
    return np.int32 if max(n_nodes, n_entries) <= np.iinfo(np.int32).max else np.int64


def _csr(n: int, sources: IntArray, targets: IntArray) -> tuple[IntArray, IntArray]:
    dtype = _index_dtype(n, 2 * sources.size)
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


def _trusted(indptr: IntArray, indices: IntArray) -> Graph:
    """Return a Graph without the checks, for arrays that a generator made right."""
    graph = object.__new__(Graph)
    graph._indptr, graph._indices = indptr, indices
    return graph
