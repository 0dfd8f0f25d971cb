"""Is it an avalanche? Kicks, slow loading, clusters and generations beside the probe's avalanche.

A tenth of all nodes is unstable when the probe's avalanche begins. Its size is therefore proportional
to N on any graph, and says little about how one toppling leads to others. The measurements here do. They
are methods of ``Probe``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_cascade, _kernels_kicks, _kernels_threshold
from gradquake.avalanche.cascade import relax_stack
from gradquake.avalanche.checks import as_gradient, not_finite
from gradquake.avalanche.graphs import Graph
from gradquake.avalanche.responses import Clusters, Generations, Responses
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.sums import Gradient
from gradquake.errors import NotAtRestError, counted, out_of_memory, require_count

if TYPE_CHECKING:
    from gradquake.avalanche.cascade import Avalanche

__all__ = ["MOST_STEPS", "Criticality"]

# The most steps of the relaxation before kicks, of a kick, and of an avalanche of slow loading.
MOST_STEPS = 10_000

# Distinguishes the stream that draws the nodes to kick from any other that a seed feeds.
KICKS = 0x6B69636B


class _Rest(NamedTuple):
    """A gradient after 10,000 steps at most; ``active`` lists the nodes that are still unstable."""

    gradient: Gradient
    graph: Graph
    threshold: float
    active: NDArray[np.intp]


class Criticality(CascadeSettings):
    """What ``Probe``, which is derived from this, measures beside the avalanche of a gradient.

    All methods take a gradient as ``Probe.measure`` does, and raise the same errors. They need the
    arrays of the graph: a graph whose neighbors are computed makes and keeps them, 20 bytes a node.
    """

    if TYPE_CHECKING:
        # A field and methods of ``Probe``.
        @property
        def seed(self) -> int: ...  # noqa: D102
        def graph_on(self, n: int) -> Graph: ...  # noqa: D102
        def measure(self, gradient: ArrayLike) -> Avalanche: ...  # noqa: D102

    def kicks(self, gradient: ArrayLike, n: int = 1000) -> Responses:
        """Relax a gradient, then kick single nodes of the relaxed gradient, and restore it each time.

        A kick raises the magnitude of one node to the smallest number of the gradient's dtype that is
        above the threshold, and keeps its sign (0 becomes positive). The node topples; the others topple
        only if its avalanche reaches them. The nodes are drawn uniformly, with replacement; the probe's
        seed and N fix the draw, so that two gradients of one length are kicked at the same nodes.

        The relaxation and each kick have up to 10,000 steps, whatever the probe's ``max_steps``. A
        connected component of the graph that does not come to rest, such as two nodes that are joined
        only to each other, is set aside: none of its nodes is kicked.

        Parameters
        ----------
        gradient : array of float32 or float64, shape (N,)
        n : int
            The number of kicks, at least 1.

        Raises
        ------
        NotAtRestError
            If half of the nodes or more are set aside, or the threshold is 0.
        """
        require_count("n", n, 1)
        rest = self._rest(gradient)
        stream = np.random.SeedSequence(self.seed, spawn_key=(KICKS, rest.gradient.size))
        nodes = np.random.default_rng(stream).integers(rest.gradient.size, size=n)
        if rest.active.size:
            at_rest = self._nodes_at_rest(rest)
            nodes = at_rest[nodes * at_rest.size // rest.gradient.size]
        columns = _columns(n)
        _kernels_kicks.kick_each(*self._start(rest, nodes), *columns, *_scratch(rest))
        return Responses(*columns)

    def load(self, gradient: ArrayLike, n: int = 1000) -> Responses:
        """Relax a gradient, then load all nodes slowly until one topples, relax, and repeat.

        This is the drive of Olami, Feder and Christensen, Phys. Rev. Lett. 68, 1244 (1992). Gradients
        have signs, and loading keeps them: it adds one amount to all magnitudes (0 becomes positive).
        The nodes of the largest magnitude are raised to the smallest number above the threshold, and
        topple. Each avalanche begins from the state that the one before has left. The first avalanches
        are those of the gradient; after many, the state is that of the drive.

        Each avalanche has up to 10,000 steps. Loading ends with an avalanche that they truncate, since
        the state does not come to rest; then there are fewer than ``n`` avalanches.

        Parameters
        ----------
        gradient : array of float32 or float64, shape (N,)
        n : int
            The most avalanches, at least 1.

        Raises
        ------
        NotAtRestError
            If any node does not come to rest within 10,000 steps, or the threshold is 0.
        """
        require_count("n", n, 1)
        rest = self._rest(gradient)
        if rest.active.size:
            raise _not_at_rest()
        kind: Any = rest.gradient.dtype.type
        below = kind(rest.threshold)
        if below > rest.threshold:
            below = np.nextafter(below, kind(0))
        columns = _columns(n)
        events = _kernels_kicks.load_each(*self._start(rest, below), *columns, *_scratch(rest))
        size, duration, area, truncated, started = (column[:events] for column in columns)
        return Responses(size, duration, area, truncated, started)

    def clusters(self, gradient: ArrayLike) -> Clusters:
        """Return the connected components, on the graph, of the nodes above the threshold.

        They are the nodes that topple at the first step.
        """
        vector, threshold = self._with_threshold(gradient)
        graph = self.graph_on(vector.size)
        try:
            seen, stack = np.zeros(vector.size, np.uint8), np.empty(vector.size, graph.indices.dtype)
            sizes = np.empty(vector.size, np.int64)
            found = _kernels_kicks.cluster_sizes(
                vector, graph.indptr, graph.indices, threshold, seen, stack, sizes
            )
        except MemoryError:
            raise _no_memory(vector) from None
        return Clusters(np.sort(sizes[:found])[::-1].copy())

    def generations(self, gradient: ArrayLike) -> Generations:
        """Return the topplings at each step of the avalanche that ``measure`` gives."""
        moving, threshold = self._with_threshold(gradient)
        graph = self.graph_on(moving.size)
        one_step = CascadeSettings(alpha=self.alpha, max_steps=1)
        topplings: list[int] = []
        while len(topplings) < self.max_steps:
            moving, size = _relaxed(moving, graph, one_step, threshold)
            if size == 0:
                break
            topplings.append(size)
        return Generations(np.array(topplings, np.int64))

    def isolated_size(self, gradient: ArrayLike) -> int:
        """Return the size that the avalanche would have if no node had a neighbor.

        A node above the threshold tau then topples ``ceil(ln(|g| / tau) / -ln(1 - alpha))`` times, at
        most ``max_steps`` times. The ratio of this number to the size says how much of the avalanche
        needs no graph. It is the size on a graph without edges, exactly.
        """
        vector, threshold = self._with_threshold(gradient)
        kind: Any = vector.dtype.type
        size: int = _kernels_cascade.isolated_size(
            vector, threshold, kind(1.0 - self.alpha), self.max_steps, np.empty_like(vector)
        )
        return size

    def _with_threshold(self, gradient: ArrayLike) -> tuple[Gradient, float]:
        """Return a gradient as a contiguous vector, checked, and its threshold."""
        vector = np.ascontiguousarray(as_gradient(gradient))
        try:
            threshold = _kernels_threshold.magnitude_quantile(
                vector, float(self.quantile), np.empty_like(vector)
            )
        except MemoryError:
            raise _no_memory(vector) from None
        if np.isnan(threshold):
            raise not_finite("the gradient", vector)
        return vector, threshold

    def _rest(self, gradient: ArrayLike) -> _Rest:
        """Relax a gradient to its end."""
        avalanche = self.measure(gradient)
        relaxed, threshold = avalanche.relaxed, avalanche.threshold
        limits = np.finfo(relaxed.dtype)
        if threshold < float(limits.tiny):
            raise NotAtRestError(
                f"the threshold is {threshold:g}, above which nodes topple without end; a larger "
                "quantile, or a gradient of larger entries, is needed"
            )
        # No magnitude ever exceeds the sum of all.
        if threshold >= float(limits.max) / relaxed.size:
            raise not_finite("the gradient", relaxed)
        graph = self.graph_on(relaxed.size)
        if avalanche.truncated:
            to_the_end = CascadeSettings(alpha=self.alpha, max_steps=MOST_STEPS)
            relaxed, _ = _relaxed(relaxed, graph, to_the_end, threshold)
        return _Rest(relaxed, graph, threshold, np.flatnonzero(np.abs(relaxed) > threshold))

    def _nodes_at_rest(self, rest: _Rest) -> NDArray[np.intp]:
        """Return the nodes to which no path leads from a node that is still above the threshold."""
        marks, stack, *_ = _scratch(rest)
        stack[: rest.active.size] = rest.active
        marks[rest.active] = 1
        _kernels_kicks.mark_reached(
            rest.graph.indptr, rest.graph.indices, rest.active.size, stack, marks
        )
        nodes = np.flatnonzero(marks == 0)
        if 2 * nodes.size <= marks.size:
            raise _not_at_rest()
        return nodes

    def _start(self, rest: _Rest, of_kernel: Any) -> tuple[Any, ...]:
        """Return the first arguments of the two kernels; they differ in ``of_kernel``."""
        kind: Any = rest.gradient.dtype.type
        raised = kind(rest.threshold)
        if raised <= rest.threshold:
            raised = np.nextafter(raised, kind(np.inf))
        state = rest.gradient, rest.graph.indptr, rest.graph.indices
        rates = kind(self.alpha), kind(1.0 - self.alpha), MOST_STEPS
        return *state, of_kernel, rest.threshold, raised, *rates


def _not_at_rest() -> NotAtRestError:
    return NotAtRestError(
        f"the gradient does not come to rest in {MOST_STEPS} steps; a larger quantile is needed"
    )


def _columns(n: int) -> tuple[Any, ...]:
    """Return the arrays of ``Responses`` for a kernel to fill."""
    size, duration, area, started = np.zeros((4, n), np.int64)
    return size, duration, area, np.zeros(n, np.bool_), started


def _scratch(rest: _Rest) -> tuple[NDArray[Any], ...]:
    """Return the scratch of the kernels, an entry a node each."""
    n, numbers, values = rest.gradient.size, rest.graph.indices.dtype, rest.gradient.dtype
    try:
        kinds = (numbers, numbers, values, numbers, values)
        return np.zeros(n, np.uint8), *(np.empty(n, kind) for kind in kinds)
    except MemoryError:
        raise _no_memory(rest.gradient) from None


def _relaxed(
    gradient: Gradient, graph: Graph, cascade: CascadeSettings, threshold: float
) -> tuple[Gradient, int]:
    """Return a gradient after a cascade, and the cascade's size."""
    try:
        relaxed, outcomes = relax_stack(
            gradient, graph.as_stack, cascade, threshold=threshold, angles=False
        )
    except MemoryError:
        raise _no_memory(gradient) from None
    return relaxed, int(outcomes["size"][0])


def _no_memory(gradient: Gradient) -> Exception:
    return out_of_memory(f"a gradient of {counted(gradient.size, 'entry')}")
