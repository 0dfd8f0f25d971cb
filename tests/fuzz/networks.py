"""Graphs made of arguments of any type and value."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from choices import Choices
from oracle import check

from gradquake.avalanche import graphs, neurons, topologies
from gradquake.avalanche.graphs import Graph
from gradquake.errors import InputError

# Nothing between is drawn: such a graph is lawful and large. One beyond cannot be had on any machine.
LARGE, BEYOND = 3000, 2**44

FORMATS = (
    sp.coo_array, sp.csr_array, sp.csc_array, sp.lil_array, sp.dok_array, sp.bsr_array, sp.coo_matrix,
    sp.csr_matrix, sp.dia_array,
)  # fmt: skip


def made(choices: Choices) -> None:
    """Make a graph in one of the ways there are, and check what comes of it."""
    choices.pick((_own, _of_edges, _of_scipy, _generated, _generated, _built, _of_neurons, _stacked))(
        choices
    )


def _refused_or(make: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what a call gives, None where it refuses its arguments."""
    given = (*arguments, *named.values())
    try:
        return make(*arguments, **named)
    except InputError as error:
        check(str(error), "nothing is said")
    except MemoryError:
        check(any(_beyond(one) for one in given), "there was not enough memory for a small graph")
    return None


def _beyond(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_beyond, value))
    if isinstance(value, neurons.TensorLayout):
        return _beyond(value.size)
    return isinstance(value, Integral) and abs(int(value)) >= BEYOND


def check_graph(graph: Graph) -> None:
    """Check that a graph is simple and symmetric with ascending rows, in the plainest way."""
    check(isinstance(graph, Graph), f"it is {graph!r}")
    indptr, indices = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
    n = indptr.size - 1
    check(graph.indptr.dtype == graph.indices.dtype == np.int32, "a small graph is not of 32 bits")
    check(n == graph.n_nodes >= 1, "it has no node")
    check(indptr[0] == 0 and indptr[-1] == indices.size == 2 * graph.n_edges, "its ends are wrong")
    check((np.diff(indptr) >= 0).all(), "its row pointers fall")
    rows = np.repeat(np.arange(n), np.diff(indptr))
    check(((indices >= 0) & (indices < n)).all(), "a neighbor is no node")
    check((rows != indices).all(), "there is a loop")
    codes, transposed = rows * n + indices, indices * n + rows
    check((np.diff(codes) > 0).all(), "a row does not ascend")
    check(np.array_equal(codes, np.sort(transposed)), "it is not symmetric")


def adjacency(graph: Graph) -> sp.csr_array:
    """Return a graph as SciPy has it."""
    ones = np.ones(graph.indices.size)
    return sp.csr_array((ones, graph.indices, graph.indptr), shape=(graph.n_nodes,) * 2)


def _small(choices: Choices) -> Graph:
    n = choices.integer(5, 30)
    return choices.pick((topologies.ring(n), topologies.erdos_renyi(n, seed=choices.integer(0, 3))))


def _bounded(choices: Choices, value: Any) -> Any:
    """Return a value, made small where a graph of that size would be lawful and large."""
    large = isinstance(value, Integral) and LARGE < abs(int(value)) < BEYOND
    return choices.integer(0, 60) if large else value


def _size(choices: Choices) -> Any:
    if choices.flag(3):
        return _bounded(choices, choices.anything())
    if choices.flag(8):
        return choices.pick((np.int8, np.uint8, np.int16, np.int32, np.uint64))(choices.integer(0, 120))
    return choices.integer(0, 300)


def _seed(choices: Choices) -> Any:
    return choices.anything() if choices.flag(4) else choices.integer(0, 2**70)


def _own(choices: Choices) -> None:
    good = _small(choices)
    arrays = [good.indptr.astype(choices.pick(("i4", "i8", "u8", ">i4", "u2"))), good.indices.copy()]
    for _ in range(choices.integer(0, 3)):
        array = arrays[choices.integer(0, 1)]
        if array.size:
            array[choices.integer(0, array.size - 1)] = choices.integer(0, 40)
        if choices.flag(4):
            arrays[choices.integer(0, 1)] = array[choices.integer(0, 2) :]
    given: list[Any] = arrays
    if choices.flag(4):
        given[choices.integer(0, 1)] = choices.anything()
    graph = _refused_or(Graph, *given)
    if graph is not None:
        check_graph(graph)
        check(np.array_equal(graph.indices, given[1]), "the neighbors are others")


def _of_edges(choices: Choices) -> None:
    n = _size(choices)
    edges: Any = choices.anything()
    if not choices.flag(4):
        last = choices.integer(0, 40)
        edges = [
            (choices.integer(0, last), choices.integer(-1, last)) for _ in range(choices.integer(0, 20))
        ]
        if choices.flag():
            edges = list({(min(pair), max(pair)) for pair in edges if pair[0] != pair[1]})
        if choices.flag():
            edges = np.array(edges, np.int64).astype(choices.pick(("i8", "i4", "i1", "u8", "O", "f8")))
    graph = _refused_or(graphs.from_edges, n, edges)
    if graph is not None:
        check_graph(graph)
        check(graph.n_nodes == n, f"there are {graph.n_nodes} nodes")
        wanted = {(min(pair), max(pair)) for pair in np.asarray(edges).reshape(-1, 2).tolist()}
        rows, columns = adjacency(graph).nonzero()
        found = {(a, b) for a, b in zip(rows.tolist(), columns.tolist(), strict=True) if a < b}
        check(found == wanted, "the edges are others")


def _of_scipy(choices: Choices) -> None:
    matrix: Any = adjacency(_small(choices)).tocoo()
    kind = choices.integer(0, 9)
    n = matrix.shape[0]
    if kind == 0:
        matrix = choices.anything()
    elif kind == 1:  # entries that stand twice, on the diagonal, or once
        more = [choices.integer(0, n - 1) for _ in range(6)]
        rows, columns = np.append(matrix.row, more[:3]), np.append(matrix.col, more[3:])
        matrix = sp.coo_array((np.ones(rows.size), (rows, columns)), shape=(n, n))
    elif kind == 2:
        value = choices.pick((0, -1, np.nan, np.inf, 1e-320))
        matrix.data[choices.integer(0, matrix.data.size - 1)] = value
    elif kind == 3:
        matrix = matrix.astype(choices.pick(("?", "i1", "c8", "f4", "u8")))
    elif kind == 4:
        shape = choices.pick(((n, n + 1), (0, 0), (1, 1), (0, 5), (2, 2)))
        matrix = sp.coo_array(shape)
    elif kind == 5:
        matrix = sp.coo_array(np.ones(choices.integer(1, 5)))
    elif kind == 6:
        which = choices.pick((matrix.row, matrix.col))
        which[choices.integer(0, which.size - 1)] = choices.pick((-1, n, 2**31 - 1, 0))
    if kind > 2 and kind != 6 and getattr(matrix, "ndim", 0) == 2 and min(matrix.shape):
        matrix = choices.pick(FORMATS)(matrix)
    graph = _refused_or(graphs.from_scipy, matrix)
    if graph is not None:
        check_graph(graph)
        same = adjacency(graph).toarray() == (matrix.toarray() != 0)
        check(same.all(), "the edges are others")


def _generated(choices: Choices) -> None:
    n, seed = _size(choices), _seed(choices)
    kind = choices.integer(0, 6)
    if kind == 0:
        m = _bounded(choices, choices.anything()) if choices.flag(3) else choices.integer(0, 9)
        make, edges = (
            (lambda: topologies.barabasi_albert(n, m, seed=seed)),
            lambda: int(m) * (int(n) - int(m)),
        )
    elif kind == 1:
        make, edges = (lambda: topologies.ring(n)), lambda: 2 * int(n)
    elif kind == 2:
        make, edges = (lambda: topologies.square_lattice(n)), lambda: 2 * int(n)
    elif kind == 3:
        p = choices.anything() if choices.flag(3) else choices.integer(0, 100) / 100
        make, edges = (lambda: topologies.small_world(n, p, seed=seed)), lambda: 2 * int(n)
    elif kind == 4:
        make, edges = (lambda: topologies.erdos_renyi(n, seed=seed)), lambda: 2 * int(n)
    elif kind == 5:
        make, edges = (lambda: topologies.random_regular(n, seed=seed)), lambda: 2 * int(n)
    else:
        make, edges = (lambda: topologies.computational(n)), lambda: 7 * int(n)
    graph = _refused_or(lambda *_: make(), n, *([m] if kind == 0 else []))
    if graph is not None:
        check_graph(graph)
        check(graph.n_edges == edges(), f"there are {graph.n_edges} edges")
        check(graph.n_nodes == (4 * int(n) + 1 if kind == 6 else n), f"there are {graph.n_nodes} nodes")
        if choices.flag(8):
            check(np.array_equal(make().indices, graph.indices), "the same call gives another graph")


def _built(choices: Choices) -> None:
    name = choices.anything() if choices.flag(4) else choices.pick(tuple(topologies.TOPOLOGIES))
    n, seed = _size(choices), _seed(choices)
    graph = _refused_or(topologies.build, name, n, seed)
    if graph is not None:
        check_graph(graph)
        check(graph.n_nodes == n, f"there are {graph.n_nodes} nodes")


def _of_neurons(choices: Choices) -> None:
    tensors: Any = []
    for i in range(choices.integer(0, 5)):
        shape: Any = tuple(
            choices.integer(0 if choices.flag(9) else 1, 5) for _ in range(choices.integer(0, 4))
        )
        if choices.flag(6):
            shape = choices.pick(
                (choices.anything(), (choices.anything(),), (2**62, 2**62), (np.int8(100), 2))
            )
        layout = _refused_or(neurons.TensorLayout, f"t{i}", shape, choices.flag())
        if layout is not None and not LARGE < layout.size < BEYOND:
            tensors.append(layout)
    if choices.flag(9):
        tensors = choices.pick(([choices.anything()], (), [*tensors, None]))
    graph = _refused_or(neurons.neuron_graph, tensors)
    if graph is not None:
        check_graph(graph)
        n = sum(int(layout.size) for layout in tensors)
        check(graph.n_nodes == n and graph.n_edges <= 2 * n, f"{n} parameters give {graph!r}")


def _stacked(choices: Choices) -> None:
    parts: Any = [_small(choices) for _ in range(choices.integer(0, 3))]
    if choices.flag(6):
        parts.append(choices.anything())
    stacked = _refused_or(graphs.stack, parts)
    if stacked is None:
        return
    check(stacked.n_nodes == sum(part.n_nodes for part in parts), f"it is {stacked!r}")
    times = _bounded(choices, choices.anything()) if choices.flag(3) else choices.integer(0, 4)
    repeated = _refused_or(graphs.repeat, stacked, times)
    if repeated is not None:
        check(repeated.n_nodes == int(times) * stacked.n_nodes, f"it is {repeated!r}")
