"""The named generators of graphs.

The same arguments give the same graph. Graphs of different sizes from one seed are independent draws.
The cost is linear in the number of nodes, except for one sort of integers in ``erdos_renyi``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche import _kernels_graphs
from gradquake.avalanche.computed import ComputedGraph
from gradquake.avalanche.graphs import TOO_MANY, Graph, count_of, from_trusted, index_dtype, joined
from gradquake.avalanche.tables import Table
from gradquake.errors import InputError, require_between, require_seed, shortened

__all__ = [
    "TOPOLOGIES", "Builder", "Topology", "barabasi_albert", "build", "check_topology", "computational",
    "erdos_renyi", "kept_graph", "random_regular", "ring", "small_world", "square_lattice",
]  # fmt: skip

# Above these sizes neighbors are computed instead of stored, which saves 20 bytes a node: neighbors that
# cost next to nothing, and those that cost more than to look them up.
CHEAP = 1 << 22
DEAR = 1 << 27

# A generator of graphs: (number of nodes, seed) -> Graph.
Builder = Callable[[int, int], Graph]

# Rounds of the permutations that make random regular graphs, an even number.
FEISTEL_ROUNDS = 6


def barabasi_albert(n: int, m: int = 2, *, seed: int) -> Graph:
    """Return a scale-free graph, grown by preferential attachment.

    A. L. Barabási and R. Albert, Science 286, 509 (1999), started from a star on m + 1 nodes. Each
    further node is joined to ``m`` distinct older nodes, chosen by degree. It has m (n - m) edges.

    Parameters
    ----------
    n : int
        The number of nodes, at least m + 1.
    m : int
        The edges of a new node, at least 1. Two give a mean degree of 4.
    seed : int
        The seed of the draw, at least 0.

    Raises
    ------
    InputError
        For a number out of range.
    """
    m = count_of("m", m, 1)
    n = count_of("n", n, m + 1)
    if m * n >= TOO_MANY:
        raise InputError(f"m is {m} and n is {n}; fewer than 2^40 edges are needed")
    dtype = index_dtype(n, 2 * m * (n - m))
    targets, indices = np.empty(m * (n - m), dtype), np.empty(2 * m * (n - m), dtype)
    indptr, cursor = np.zeros(n + 1, dtype), np.empty(n, dtype)
    _kernels_graphs.preferred_targets(m, _state(seed, n), targets)
    _kernels_graphs.grown_adjacency(m, targets, indptr, indices, cursor)
    return from_trusted(indptr, indices)


def ring(n: int) -> Graph:
    """Return the ring in which each of ``n`` >= 5 nodes is joined to its 2 nearest on both sides.

    Raises
    ------
    InputError
        For fewer nodes.
    """
    n = count_of("n", n, 5)
    return ComputedGraph(n, _kernels_graphs.circulant_neighbors, 1, 2, computed_from=CHEAP)


def square_lattice(n: int) -> Graph:
    """Return the square lattice on ``n`` >= 5 nodes with helical periodic boundaries.

    Node i is joined to i ± 1 and i ± L modulo n, with L the integer nearest to the square root of n.
    This periodic boundary fits any number of nodes (M. E. J. Newman and G. T. Barkema, Monte Carlo
    Methods in Statistical Physics, 1999, section 13.1).

    Raises
    ------
    InputError
        For fewer nodes.
    """
    n = count_of("n", n, 5)
    far = round(n**0.5)
    return ComputedGraph(n, _kernels_graphs.circulant_neighbors, 1, far, computed_from=CHEAP)


def small_world(n: int, p: float = 0.05, *, seed: int) -> Graph:
    """Return a small-world graph: the ring of ``ring(n)``, each edge rewired with probability ``p``.

    D. J. Watts and S. H. Strogatz, Nature 393, 440 (1998), with k = 4. It has 2 n edges.

    Parameters
    ----------
    n : int
        The number of nodes, at least 5.
    p : float
        The probability of rewiring, in [0, 1].
    seed : int
        The seed of the draw, at least 0.

    Raises
    ------
    InputError
        For a number out of range.
    """
    n = count_of("n", n, 5)
    require_between("p", p, 0, 1, inclusive=True)
    dtype = index_dtype(n, 4 * n)
    nodes = np.arange(n, dtype=dtype)
    ends = np.column_stack([(nodes + 1) % n, (nodes + 2) % n]).astype(dtype)
    _kernels_graphs.rewire_ring(float(p), _state(seed, n), ends)
    return from_trusted(*joined(n, np.repeat(nodes, 2), ends.ravel()))


def erdos_renyi(n: int, *, seed: int) -> Graph:
    """Return a uniformly random graph with ``n`` >= 5 nodes and 2 n edges.

    The G(n, m) of P. Erdős and A. Rényi, Publ. Math. Debrecen 6, 290 (1959).

    Raises
    ------
    InputError
        For fewer nodes or a negative seed.
    """
    n = count_of("n", n, 5)
    rng = np.random.default_rng(_sequence(seed, n))
    codes = np.empty(0, np.int64)
    while codes.size < 2 * n:
        source = rng.integers(n, size=2 * n - codes.size)
        target = rng.integers(n - 1, size=source.size)
        target += target >= source
        new = np.minimum(source, target) * n + np.maximum(source, target)
        codes = np.sort(np.concatenate([codes, new]))
        codes = codes[np.diff(codes, prepend=-1) > 0]
    return from_trusted(*joined(n, codes // n, codes % n))


def random_regular(n: int, *, seed: int) -> Graph:
    """Return a random graph in which each of ``n`` >= 5 nodes has degree 4.

    The graph is the union of two random Hamiltonian cycles, which are drawn again if they share an edge.
    Large graphs of this kind share all almost sure properties of uniform 4-regular graphs (J. H. Kim and
    N. C. Wormald, J. Combin. Theory B 81, 20 (2001)). The orders of the cycles are pseudorandom
    permutations, which are computed, not stored.

    Raises
    ------
    InputError
        For fewer nodes or a negative seed.
    """
    n = count_of("n", n, 5)
    bits = (n - 1).bit_length()
    halves = bits - bits // 2, 2 ** (bits // 2) - 1
    entropy = _sequence(seed, n)
    while True:
        keys = entropy.spawn(1)[0].generate_state(2 * FEISTEL_ROUNDS, np.uint64)
        first, second = (np.array([*halves, *half], np.uint64) for half in np.split(keys, 2))
        if not _kernels_graphs.shares_an_edge(n, first, second, 0, n):
            return ComputedGraph(n, _kernels_graphs.cycle_neighbors, first, second, computed_from=DEAR)


def computational(hidden: int) -> Graph:
    """Return the own graph of a 2-h-1 multilayer perceptron: parameters that meet in a neuron.

    The two input weights, the bias and the output weight of a hidden unit form a clique; every
    output weight is joined to the output bias. Nodes are in the model's parameter order: W1 (row by
    row), b1, W2, b2. It has 7 h edges on 4 h + 1 nodes.

    Parameters
    ----------
    hidden : int
        The number of hidden units h, at least 1.

    Raises
    ------
    InputError
        For fewer than 1 hidden unit.
    """
    hidden = count_of("hidden", hidden, 1)
    unit = np.arange(hidden)
    members = (2 * unit, 2 * unit + 1, 2 * hidden + unit, 3 * hidden + unit)
    pairs = [(members[a], members[b]) for a in range(4) for b in range(a + 1, 4)]
    pairs.append((members[3], np.full(hidden, 4 * hidden)))
    sources, targets = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    return from_trusted(*joined(4 * hidden + 1, sources, targets))


def _computational_of_size(n: int, seed: int) -> Graph:  # noqa: ARG001
    n = count_of("n", n, 5)
    if n % 4 != 1:
        raise InputError(f"n is {n}; the graph of a 2-h-1 network has 4 h + 1 nodes")
    return computational(n // 4)


@dataclass(frozen=True)
class Topology:
    """A named generator of graphs.

    Attributes
    ----------
    build : callable
        ``(n, seed) -> Graph``: the graph on ``n`` nodes.
    label : str
        The name in figures.
    sizes : range
        The numbers of nodes that its graphs can have.
    drawn : bool
        Whether another seed gives another graph.
    exchangeable : bool
        Whether all orders of the nodes are equally likely, so that the arrangement of a gradient plays
        no part.
    """

    build: Builder
    label: str
    sizes: range = range(5, TOO_MANY)
    drawn: bool = True
    exchangeable: bool = False


# Every topology by name. A new one is a builder and a line here.
TOPOLOGIES = Table(
    __name__,
    "TOPOLOGIES",
    "topology",
    {
        "barabasi_albert": Topology(
            lambda n, seed: barabasi_albert(n, seed=seed), "scale-free", range(3, TOO_MANY)
        ),
        "ring": Topology(lambda n, _: ring(n), "ring", drawn=False),
        "small_world_0.05": Topology(lambda n, seed: small_world(n, 0.05, seed=seed), "small world .05"),
        "small_world_0.2": Topology(lambda n, seed: small_world(n, 0.2, seed=seed), "small world .2"),
        "erdos_renyi": Topology(lambda n, seed: erdos_renyi(n, seed=seed), "random", exchangeable=True),
        "square_lattice": Topology(lambda n, _: square_lattice(n), "square lattice", drawn=False),
        "random_regular": Topology(
            lambda n, seed: random_regular(n, seed=seed), "random regular", exchangeable=True
        ),
        "computational": Topology(
            _computational_of_size, "network's own", range(5, TOO_MANY, 4), drawn=False
        ),
    },
)


def build(topology: str, n: int, seed: int) -> Graph:
    """Return the graph of a topology by its name in ``TOPOLOGIES``, on ``n`` nodes, from ``seed``.

    Raises
    ------
    InputError
        For an unknown name, or a number of nodes that the topology does not have.
    """
    check_topology(topology)
    return TOPOLOGIES[topology].build(n, seed)


def check_topology(topology: object, name: str = "topology", *others: str) -> None:
    """Raise InputError unless ``topology``, the setting ``name``, is a name in ``TOPOLOGIES``.

    ``others`` says in the message which other values the setting may have.
    """
    if not (isinstance(topology, str) and topology in TOPOLOGIES):
        wanted = "; or ".join([f"one of {', '.join(TOPOLOGIES)}", *others])
        raise InputError(f"{name} is {shortened(topology)}; {wanted} is needed")


def kept_graph(builder: Builder, n: int, seed: int) -> Graph:
    """Return the graph that a builder returns, which must be a Graph on ``n`` nodes.

    A process keeps the last graphs of all builders, up to 512 MiB of them.

    Raises
    ------
    InputError
        If the builder returns something else.
    """
    return _KEPT.graph(builder, n, seed)


class _KeptGraphs:
    """The last graphs that were built, up to a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._lock = most_bytes, Lock()
        # By the identity of a builder, which is kept too, so that no other object gets its identity.
        self._graphs: dict[tuple[int, int, int], tuple[Builder, Graph]] = {}

    def graph(self, builder: Builder, n: int, seed: int) -> Graph:
        """Return a graph, and build it if it is not kept."""
        key = id(builder), n, seed
        with self._lock:
            if key in self._graphs:
                # The graph moves to the end: the first ones are dropped first.
                self._graphs[key] = self._graphs.pop(key)
                return self._graphs[key][1]
        graph = builder(n, seed)
        if not (isinstance(graph, Graph) and graph.n_nodes == n):
            raise InputError(f"the builder returned {graph!r}; a gradquake Graph on {n} nodes is needed")
        if graph.nbytes <= self._most_bytes:
            with self._lock:
                self._graphs[key] = builder, graph
                held = sum(kept.nbytes for _, kept in self._graphs.values())
                while held > self._most_bytes:
                    held -= self._graphs.pop(next(iter(self._graphs)))[1].nbytes
        return graph


_KEPT = _KeptGraphs(512 * 2**20)


def _sequence(seed: int, n: int) -> np.random.SeedSequence:
    require_seed(seed)
    return np.random.SeedSequence((seed, n))


def _state(seed: int, n: int) -> NDArray[np.uint64]:
    return _sequence(seed, n).generate_state(1, np.uint64).astype(np.uint64)
