"""The probe: settings that turn gradients, one or a batch, into avalanches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.cascade import (
    Avalanche,
    AvalancheBatch,
    Gradient,
    as_gradient,
    check_cascade,
    relax_stack,
)
from gradquake.errors import InputError, require, require_between, require_count
from gradquake.graphs import Graph, GraphStack, build, check_topology, stack

# Below this many entries a batch is done sooner than threads are started.
THREADS_FROM = 200_000


@dataclass(frozen=True)
class Probe:
    """How a gradient is measured: the graph it relaxes on, its threshold, its cascade.

    Parameters
    ----------
    topology : str
        A name in ``gradquake.graphs.TOPOLOGIES``; the graph is drawn on as many nodes as the
        gradient has entries.
    alpha : float
        The share that a toppling node gives away, in (0, 1).
    quantile : float
        The threshold is this quantile of the gradient's magnitudes, in [0, 1]: exactly
        ``numpy.quantile(abs(gradient), quantile)`` in float64.
    max_steps : int
        The most steps of a cascade, at least 1.
    seed : int
        The seed of the graph, at least 0.

    Raises
    ------
    InputError
        For a parameter out of range or an unknown topology.
    """

    topology: str = "barabasi_albert"
    alpha: float = 0.3
    quantile: float = 0.9
    max_steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        check_topology(self.topology)
        check_cascade(self.alpha, self.max_steps)
        require_between("quantile", self.quantile, 0, 1, inclusive=True)
        require_count("seed", self.seed, 0)

    def graph(self, n: int) -> Graph:
        """Return the graph on ``n`` nodes that this probe measures on; the last few are kept."""
        return _graph(self.topology, n, self.seed)

    def measure(self, gradient: ArrayLike, graph: Graph | None = None) -> Avalanche:
        """Measure one gradient.

        Parameters
        ----------
        gradient : array of float32 or float64, shape (N,)
            Contiguous or not; it is left as it is. An all-zero gradient, or one whose magnitudes
            are all equal, gives an avalanche of size 0.
        graph : Graph, optional
            A graph of your own on N nodes, in place of the probe's topology.

        Raises
        ------
        InputError
            For NaN or infinity, another shape or dtype, an empty gradient, or a graph that does not
            have N nodes.
        """
        vector = as_gradient(gradient)
        graphs = stack([self.graph(vector.size) if graph is None else graph])
        return self._measure(vector, graphs, threads=1)[0]

    def measure_batch(
        self,
        gradients: ArrayLike | Sequence[ArrayLike],
        graphs: Graph | Sequence[Graph] | GraphStack | None = None,
        *,
        threads: int | None = None,
    ) -> AvalancheBatch:
        """Measure many gradients in one call, in parallel over the batch.

        Parameters
        ----------
        gradients : array, shape (batch, N), or a sequence of vectors of any lengths
            All float32 or all float64. With a ``GraphStack``, a flat vector over all its nodes is
            taken too and is not copied.
        graphs : Graph, sequence of Graph, or GraphStack, optional
            One graph for all, one for each, or a stack of one for each (``graphs.stack``, which
            saves the laying end to end where the same graphs serve again and again). Without it,
            the probe's topology.
        threads : int, optional
            How many threads share the batch; by default all cores where that pays. The result is the
            same, bit for bit.

        Raises
        ------
        InputError
            As ``measure`` does, naming the gradient; or for an empty batch, mixed dtypes, or a
            number of graphs that is not the number of gradients.
        """
        if threads is not None:
            require_count("threads", threads, 1)
        if isinstance(graphs, GraphStack) and isinstance(gradients, np.ndarray):
            flat = as_gradient(gradients.reshape(-1), "the batch")
            return self._measure(flat, graphs, threads)

        vectors = [as_gradient(g, f"gradient {b} of the batch") for b, g in enumerate(_rows(gradients))]
        require(len(vectors) > 0, "the batch is empty; at least one gradient is needed")
        dtypes = {str(vector.dtype) for vector in vectors}
        require(len(dtypes) == 1, f"the batch mixes {' and '.join(sorted(dtypes))}; one dtype is needed")
        if graphs is None:
            graphs = [self.graph(vector.size) for vector in vectors]
        elif isinstance(graphs, Graph):
            graphs = [graphs] * len(vectors)
        given = graphs if isinstance(graphs, GraphStack) else stack(graphs)
        require(
            len(given) == len(vectors),
            f"{len(vectors)} gradients and {len(given)} graphs were given; one graph each is needed",
        )
        for b, (vector, n) in enumerate(zip(vectors, np.diff(given.offsets), strict=True)):
            require(
                vector.size == n,
                f"gradient {b} of the batch has {vector.size} entries and its graph {n} nodes; "
                "they must be equal",
            )
        return self._measure(np.concatenate(vectors), given, threads)

    def _measure(self, flat: Gradient, graphs: GraphStack, threads: int | None) -> AvalancheBatch:
        if flat.size != graphs.n_nodes:
            raise InputError(
                f"the gradient has {flat.size} entries and the graph {graphs.n_nodes} nodes; "
                "they must be equal"
            )
        if threads is None:
            threads = (os.cpu_count() or 1) if flat.size >= THREADS_FROM else 1
        return relax_stack(
            flat, graphs, self.alpha, self.max_steps, quantile=self.quantile, threads=threads
        )


def _rows(gradients: ArrayLike | Sequence[ArrayLike]) -> Sequence[Any] | NDArray[Any]:
    if isinstance(gradients, np.ndarray):
        require(
            gradients.ndim == 2,
            f"the batch has shape {gradients.shape}; (batch, N) or a sequence of vectors is needed",
        )
        return gradients
    require(
        isinstance(gradients, Sequence),
        f"the batch is a {type(gradients).__name__}; an array (batch, N) or a sequence of vectors "
        "is needed",
    )
    return gradients  # type: ignore[return-value]


@lru_cache(maxsize=8)
def _graph(topology: str, n: int, seed: int) -> Graph:
    return build(topology, n, seed)
