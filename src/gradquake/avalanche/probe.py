"""The probe: the settings that turn gradients into avalanches."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche.batches import check_lengths, laid_end_to_end
from gradquake.avalanche.cascade import Avalanche, AvalancheBatch, avalanche, relax_stack
from gradquake.avalanche.checks import as_gradient, check_length
from gradquake.avalanche.collective import Alone, Exchange
from gradquake.avalanche.criticality import Criticality
from gradquake.avalanche.graphs import Graph, GraphStack, repeat, stack
from gradquake.avalanche.pieces import relax_pieces
from gradquake.avalanche.settings import DEFAULT_TOPOLOGY
from gradquake.avalanche.sums import Gradient
from gradquake.avalanche.tensors import Layers, Tally
from gradquake.avalanche.topologies import TOPOLOGIES, Builder, check_topology, kept_graph
from gradquake.errors import (
    InputError,
    a_type,
    counted,
    out_of_memory,
    require_count,
    require_seed,
)

__all__ = ["Probe", "fixed_sample"]

# Keeps the random stream of samples apart from all others of the same seed.
SAMPLE_STREAM = 0x73616D70

# Smaller batches take less time than the start of threads.
THREADS_FROM = 200_000

CORES = os.cpu_count() or 1

# Gradients of at least this many entries are relaxed in parts.
LARGE = 1 << 22


@dataclass(frozen=True, repr=False)
class Probe(Criticality):
    """The settings that turn gradients into avalanches: the graph, the threshold, the cascade.

    Parameters
    ----------
    graph : str, Graph or callable
        The graph that gradients relax on, one node for each entry. Either a topology's name in
        ``topologies.TOPOLOGIES``; or a ``Graph``, for gradients of its number of nodes; or a builder
        of your own, ``(n, seed) -> Graph``, which is called once for each number of nodes and seed.
    alpha, quantile, max_steps
        The settings of the cascade (see ``CascadeSettings``).
    seed : int
        The seed of the graph, at least 0.

    Raises
    ------
    InputError
        For a parameter out of range, or if ``graph`` is none of the three.
    """

    graph: str | Graph | Builder = DEFAULT_TOPOLOGY
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if not (isinstance(self.graph, Graph) or callable(self.graph)):
            check_topology(self.graph, "graph", "a Graph or a builder (n, seed) -> Graph")
        super().__post_init__()
        require_seed(self.seed)

    def graph_on(self, n: int) -> Graph:
        """Return the graph on ``n`` nodes that this probe measures on.

        A process keeps the last graphs of topologies and of builders, up to 512 MiB of them. To keep a
        larger one, make a probe of it: ``Probe(graph=probe.graph_on(n))``.

        Raises
        ------
        InputError
            For a number of nodes that the graph or the topology does not have, or a builder that
            returns anything but a Graph on ``n`` nodes.
        """
        if isinstance(self.graph, Graph):
            check_length(n, self.graph.n_nodes)
            return self.graph
        if isinstance(self.graph, str):
            check_topology(self.graph)
            return kept_graph(TOPOLOGIES[self.graph].build, n, self.seed)
        return kept_graph(self.graph, n, self.seed)

    @property
    def topology(self) -> str:
        """The name under which the graph is recorded.

        A topology's name; ``graph:`` and the ``digest`` of a ``Graph``; or a builder's module and name.

        Raises
        ------
        InputError
            For a builder that is not a function, class or class method that its module has by name.
        """
        if isinstance(self.graph, str):
            return self.graph
        return f"graph:{self.graph.digest}" if isinstance(self.graph, Graph) else _name(self.graph)

    def settings(self) -> dict[str, Any]:
        """Return the settings by name as a recording keeps them: ``topology`` stands for the graph."""
        return {"topology": self.topology, **super().settings(), "seed": int(self.seed)}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Probe:
        """Return the probe that ``settings()`` gives, or that a run's configuration names.

        Raises
        ------
        InputError
            For a setting that is missing or out of range; also for the settings of a probe on a graph
            of one's own, which a recording does not hold.
        """
        names = ("topology", "alpha", "quantile", "max_steps", "seed")
        missing = [name for name in names if name not in settings]
        if missing:
            raise InputError(
                f"the settings have no {', '.join(missing)}; a probe needs all of {', '.join(names)}"
            )
        check_topology(settings["topology"])
        return cls(settings["topology"], **{name: settings[name] for name in names[1:]})

    def __repr__(self) -> str:
        graph = self.graph
        is_builder = not isinstance(graph, str | Graph)
        shown = getattr(graph, "__qualname__", type(graph).__name__) if is_builder else repr(graph)
        return (
            f"Probe(graph={shown}, alpha={self.alpha!r}, quantile={self.quantile!r}, "
            f"max_steps={self.max_steps!r}, seed={self.seed!r})"
        )

    def measure(
        self,
        gradient: ArrayLike,
        *,
        threads: int | None = None,
        tensors: Mapping[str, int] | Layers | None = None,
    ) -> Avalanche:
        """Measure one gradient.

        A stored graph of more than 512 MiB, such as ``barabasi_albert`` on 3 10^7 nodes, is drawn anew
        by every call; ``graph_on`` says how to keep it.

        Parameters
        ----------
        gradient : array of float32 or float64, shape (N,)
            Contiguous or not; it is not changed. An all-zero gradient, or one whose magnitudes are
            all equal, gives an avalanche of size 0.
        threads : int, optional
            The number of threads that share a gradient of 2^22 entries or more; by default one for
            each core. The result does not depend on it.
        tensors : mapping of str to int, optional
            The number of entries of each tensor by name, in the order of the gradient; together N.
            The avalanche then has ``tensors``, the topplings of each (see ``avalanche.tensors``).

        Raises
        ------
        InputError
            For NaN or infinity, another shape or dtype, an empty gradient, or a graph that does not
            have N nodes, or tensors that are not those of N entries.
        OutOfMemoryError
            If there is not enough memory.
        """
        vector = as_gradient(gradient)
        _check_threads(threads)
        try:
            if vector.size >= LARGE:
                return self.measure_pieces([vector], threads=threads, tensors=tensors)
            tally = None if tensors is None else self._tally([tensors], [vector.size])
            stacked = self.graph_on(vector.size).as_stack
            relaxed, outcomes = relax_stack(vector, stacked, self, tally=tally)
        except MemoryError:
            raise out_of_memory(f"a gradient of {counted(vector.size, 'entry')}") from None
        return avalanche(outcomes[0], relaxed, tally[0] if tally else None)

    def measure_pieces(
        self,
        pieces: Sequence[ArrayLike],
        *,
        exchange: Exchange | None = None,
        threads: int | None = None,
        tensors: Mapping[str, int] | Layers | None = None,
    ) -> Avalanche:
        """Measure one gradient that lies in pieces: in several arrays, files or processes.

        The pieces are never joined, and the avalanche is that of the whole gradient, bit for bit. On
        several processes, each process holds the whole graph; large graphs of ``ring``,
        ``square_lattice`` and ``random_regular`` take no memory, since their neighbors are computed.

        Parameters
        ----------
        pieces : sequence of array of float32 or float64, each of shape (any,)
            The pieces of this process, in order; they may be memory-mapped files. All processes call
            this together, and their pieces make up the gradient in the order of their ranks.
        exchange : Exchange, optional
            The connection between the processes: an mpi4py communicator, or
            ``gradquake.torch.Exchange()``. Without it, this process has all pieces.
        threads : int, optional
            The number of threads of this process; by default one for each core, or a single one if
            there is an ``exchange``.
        tensors : mapping of str to int, optional
            As in ``measure``: those of the whole gradient, on every process.

        Returns
        -------
        Avalanche
            The same on every process, except for ``relaxed``, which is this process's part.

        Raises
        ------
        InputError
            As ``measure`` does, or for pieces of different dtypes; on every process.
        """
        _check_threads(threads)
        if threads is None:
            threads = CORES if exchange is None else 1
        try:
            return relax_pieces(
                pieces,
                self.graph_on,
                self,
                exchange=Alone() if exchange is None else exchange,
                threads=threads,
                tensors=tensors,
            )
        except MemoryError:
            raise out_of_memory(f"a gradient in {counted(len(pieces), 'piece')}") from None

    def measure_batch(
        self,
        gradients: ArrayLike | Sequence[ArrayLike],
        graphs: Graph | Sequence[Graph] | GraphStack | None = None,
        *,
        threads: int | None = None,
        tensors: Mapping[str, int] | Layers | Sequence[Mapping[str, int]] | None = None,
    ) -> AvalancheBatch:
        """Measure many gradients in one call, in parallel over the batch.

        Parameters
        ----------
        gradients : array, shape (batch, N), or a sequence of vectors of any lengths
            All float32 or all float64. With a ``GraphStack``, also a flat vector over all its nodes,
            which is not copied.
        graphs : Graph, sequence of Graph, or GraphStack, optional
            One graph for all gradients, one for each, or a stack of one for each: ``graphs.stack``
            lays graphs end to end once for many batches. By default, the probe's graph.
        threads : int, optional
            The number of threads that share the batch; by default one for each core if the batch has
            200,000 entries or more. The result does not depend on it.
        tensors : mapping of str to int, or a sequence of them, optional
            As in ``measure``: those of all gradients, or of each.

        Raises
        ------
        InputError
            As ``measure`` does, for an empty batch, mixed dtypes, or another number of
            graphs than of gradients.
        """
        _check_threads(threads)
        try:
            flat, stacked = self._laid_out(gradients, graphs)
            tally = None
            if tensors is not None:
                each = tensors if isinstance(tensors, Sequence) else [tensors]
                tally = self._tally(each, np.diff(stacked.offsets).tolist())
            if threads is None:
                threads = CORES if flat.size >= THREADS_FROM else 1
            relaxed, outcomes = relax_stack(flat, stacked, self, threads=threads, tally=tally)
        except MemoryError:
            raise out_of_memory("the batch") from None
        return AvalancheBatch(relaxed, stacked.offsets, outcomes, tally)

    def _laid_out(
        self,
        gradients: ArrayLike | Sequence[ArrayLike],
        graphs: Graph | Sequence[Graph] | GraphStack | None,
    ) -> tuple[Gradient, GraphStack]:
        """Return the gradients of a batch end to end, and their graphs, all checked."""
        if isinstance(graphs, GraphStack) and isinstance(gradients, np.ndarray) and gradients.ndim == 1:
            flat = as_gradient(gradients, "the batch")
            check_length(flat.size, graphs.n_nodes)
            return flat, graphs
        flat, lengths = laid_end_to_end(gradients)
        stacked = self._stack(graphs, lengths)
        check_lengths(lengths, stacked)
        return flat, stacked

    def _stack(
        self, graphs: Graph | Sequence[Graph] | GraphStack | None, lengths: NDArray[np.intp]
    ) -> GraphStack:
        if isinstance(graphs, GraphStack):
            return graphs
        if graphs is None:
            own = {n: self.graph_on(n) for n in dict.fromkeys(lengths.tolist())}
            if len(own) > 1:
                return stack([own[n] for n in lengths.tolist()])
            graphs = own[int(lengths[0])]
        if isinstance(graphs, Graph):
            return repeat(graphs, lengths.size)
        if not isinstance(graphs, Sequence):
            raise InputError(
                f"graphs is {graphs!r}; a Graph, a sequence of them or a GraphStack is needed"
            )
        return stack(graphs)

    def _tally(self, tensors: Sequence[Mapping[str, int] | Layers], lengths: Sequence[int]) -> Tally:
        """Return the tally of gradients of these lengths, and of tensors of each or of all."""
        if len(tensors) not in (1, len(lengths)):
            raise InputError(
                f"tensors of {counted(len(tensors), 'gradient')} were given for "
                f"{counted(len(lengths), 'gradient')}; those of each are needed"
            )
        # Tensors of all gradients fit one length alone.
        own = dict.fromkeys(lengths) if len(tensors) == 1 else lengths
        layers = [Layers.of(of, n) for of, n in zip(cycle(tensors), own, strict=False)]
        return Tally(layers, len(lengths), self.max_steps)


def _check_threads(threads: int | None) -> None:
    if threads is not None:
        require_count("threads", threads, 1)


def fixed_sample(total: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return ``size`` of ``total`` positions, ascending, drawn without replacement.

    A gradient too large to be measured whole is measured on these positions, the same at every step.
    """
    rng = np.random.default_rng(np.random.SeedSequence((SAMPLE_STREAM, seed)))
    drawn: NDArray[np.int64] = np.sort(rng.choice(total, size, replace=False, shuffle=False))
    return drawn


def _name(builder: Builder) -> str:
    """Return the module and the name of a builder, if its module has it by this name."""
    module, name = (str(getattr(builder, of, "")) for of in ("__module__", "__qualname__"))
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (name and found == builder):
        raise InputError(
            f"the graph is made by {name or a_type(builder)}, which has no name to be recorded by; a "
            "function at the top level of a module is needed, or a Graph"
        )
    return f"{module}.{name}"
