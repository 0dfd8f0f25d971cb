"""Is it an avalanche? Kicks, slow loading, clusters and generations beside the probe's avalanche.

A tenth of all nodes is unstable when the probe's avalanche begins. Its size is therefore proportional to N
on any graph, and says little about the way in which one toppling leads to others. The measurements here say
it: they are methods of ``Probe``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_kicks, _kernels_threshold
from gradquake.avalanche.cascade import relax_stack
from gradquake.avalanche.checks import as_gradient, not_finite
from gradquake.avalanche.graphs import Graph
from gradquake.avalanche.sums import Gradient
from gradquake.errors import NotAtRestError, counted, out_of_memory, require_count

if TYPE_CHECKING:
    from gradquake.avalanche.cascade import Avalanche

__all__ = ["MOST_STEPS", "Clusters", "Criticality", "Generations", "Responses"]

# The most steps of the relaxation before kicks, of a kick, and of an avalanche of slow loading.
MOST_STEPS = 10_000

# Distinguishes the stream that draws the nodes to kick from any other that a seed feeds.
KICKS = 0x6B69636B


@dataclass(frozen=True, eq=False, repr=False)
class Responses:
    """The avalanches that kicks, or slow loading, start; arrays of shape (n,).

    Attributes
    ----------
    size : array of int64
        Topplings, the first one included.
    duration : array of int64
        Steps in which something toppled.
    area : array of int64
        Distinct nodes that toppled.
    truncated : array of bool
        Whether 10,000 steps ended the avalanche.
    branching_ratio : float
        The topplings that follow a step, summed over all steps of all avalanches, over the topplings of
        these steps; the last step of a truncated avalanche is left out, since the next one is not known.
        A process of ratio 1 is critical. If no avalanche is truncated and each starts at one node, the
        ratio is 1 - 1 / mean: the mean size of a branching process is 1 / (1 - ratio). NaN if there is no
        step whose next one is known.
    """

    size: NDArray[np.int64]
    duration: NDArray[np.int64]
    area: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    branching_ratio: float

    @property
    def mean(self) -> float:
        """The mean size."""
        return float(self.size.mean())

    @property
    def largest(self) -> int:
        """The largest size."""
        return int(self.size.max())

    def __len__(self) -> int:
        return self.size.size

    def __repr__(self) -> str:
        return (
            f"Responses({counted(len(self), 'avalanche')}: mean size {self.mean:.4g}, largest "
            f"{self.largest}, longest {self.duration.max()}, branching ratio {self.branching_ratio:.4g}, "
            f"{self.truncated.sum()} truncated)"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Clusters:
    """The connected components of the nodes above the threshold.

    Attributes
    ----------
    sizes : array of int64, shape (number of clusters,)
        The nodes of each cluster, descending.
    """

    sizes: NDArray[np.int64]

    @property
    def number(self) -> int:
        """The number of clusters."""
        return self.sizes.size

    @property
    def largest(self) -> int:
        """The nodes of the largest cluster; 0 if there is none."""
        return int(self.sizes.max(initial=0))

    @property
    def mean(self) -> float:
        """The mean number of nodes, every cluster weighted alike; NaN if there is none."""
        return float(self.sizes.mean()) if self.sizes.size else np.nan

    def __repr__(self) -> str:
        return f"Clusters(number={self.number}, largest={self.largest}, mean={self.mean:.4g})"


@dataclass(frozen=True, eq=False, repr=False)
class Generations:
    """The probe's avalanche step by step.

    Attributes
    ----------
    topplings : array of int64, shape (duration,)
        The topplings at each step; their sum is the avalanche's size, their largest its peak.
    """

    topplings: NDArray[np.int64]

    @property
    def first_share(self) -> float:
        """The share of the first step, which no toppling has caused; NaN if nothing topples."""
        total = self.topplings.sum()
        return float(self.topplings[0] / total) if total else np.nan

    def __repr__(self) -> str:
        return f"Generations({self.topplings.tolist()}, first_share={self.first_share:.4g})"


class _Rest(NamedTuple):
    """A gradient at rest: none of its magnitudes is above the threshold."""

    gradient: Gradient
    graph: Graph
    threshold: float


class Criticality:
    """What ``Probe``, which is derived from this, measures beside the avalanche of a gradient.

    All methods take a gradient as ``Probe.measure`` does, and raise the same errors. They need the arrays
    of the graph: a graph whose neighbors are computed makes and keeps them, 20 bytes a node.
    """

    if TYPE_CHECKING:
        # Fields and methods of ``Probe``.
        @property
        def alpha(self) -> float: ...  # noqa: D102
        @property
        def quantile(self) -> float: ...  # noqa: D102
        @property
        def max_steps(self) -> int: ...  # noqa: D102
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

        The relaxation and each kick have up to 10,000 steps, whatever the probe's ``max_steps``.

        Parameters
        ----------
        gradient : array of float32 or float64, shape (N,)
        n : int
            The number of kicks, at least 1.

        Raises
        ------
        NotAtRestError
            If the gradient does not come to rest within 10,000 steps, or the threshold is 0.
        """
        require_count("n", n, 1)
        rest = self._rest(gradient)
        stream = np.random.SeedSequence(self.seed, spawn_key=(KICKS, rest.gradient.size))
        nodes = np.random.default_rng(stream).integers(rest.gradient.size, size=n)
        outcomes = _Outcomes.of(n)
        followers, parents = _kernels_kicks.kick_each(
            *self._settled(rest, nodes), *outcomes, *_scratch(rest)
        )
        return Responses(*outcomes, _ratio(followers, parents))

    def load(self, gradient: ArrayLike, n: int = 1000) -> Responses:
        """Relax a gradient, then load all nodes slowly until one topples, relax, and repeat.

        This is the drive of Olami, Feder and Christensen, Phys. Rev. Lett. 68, 1244 (1992). Gradients have
        signs, and loading keeps them: it adds one amount to all magnitudes (0 becomes positive). The
        nodes of the largest magnitude are raised to the smallest number above the threshold, and topple.
        Each avalanche begins from the state that the one before has left. The first avalanches are those
        of the gradient; after many, the state is that of the drive.

        Each avalanche has up to 10,000 steps. Loading ends with an avalanche that they truncate, since the
        state does not come to rest; then there are fewer than ``n`` avalanches.

        Parameters
        ----------
        gradient : array of float32 or float64, shape (N,)
        n : int
            The most avalanches, at least 1.

        Raises
        ------
        NotAtRestError
            As ``kicks`` does.
        """
        require_count("n", n, 1)
        rest = self._rest(gradient)
        kind: Any = rest.gradient.dtype.type
        below = kind(rest.threshold)
        if below > rest.threshold:
            below = np.nextafter(below, kind(0))
        outcomes = _Outcomes.of(n)
        events, followers, parents = _kernels_kicks.load_each(
            *self._settled(rest, below), *outcomes, *_scratch(rest)
        )
        return Responses(*(column[:events] for column in outcomes), _ratio(followers, parents))

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
        topplings: list[int] = []
        while len(topplings) < self.max_steps:
            moving, size = _relaxed(moving, graph, self.alpha, 1, threshold)
            if size == 0:
                break
            topplings.append(size)
        return Generations(np.array(topplings, np.int64))

    def isolated_size(self, gradient: ArrayLike) -> int:
        """Return the size that the avalanche would have if no node had a neighbor.

        A node above the threshold tau then topples ceil(ln(|g| / tau) / -ln(1 - alpha)) times, at most
        ``max_steps`` times. The ratio of this number to the size says how much of the avalanche needs no
        graph. It is the size on a graph without edges, exactly.
        """
        vector, threshold = self._with_threshold(gradient)
        kind: Any = vector.dtype.type
        size: int = _kernels_kicks.isolated_size(vector, threshold, kind(1.0 - self.alpha), self.max_steps)
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
        if threshold < limits.tiny:
            raise NotAtRestError(
                f"the threshold is {threshold:g}, above which nodes topple without end; a larger quantile, "
                "or a gradient of larger entries, is needed"
            )
        # No magnitude ever exceeds the sum of all.
        if threshold * relaxed.size >= limits.max:
            raise not_finite("the gradient", relaxed)
        graph = self.graph_on(relaxed.size)
        if avalanche.truncated:
            relaxed, _ = _relaxed(relaxed, graph, self.alpha, MOST_STEPS, threshold)
        if bool((np.abs(relaxed) > threshold).any()):
            raise NotAtRestError(
                f"the gradient does not come to rest in {MOST_STEPS} steps; a larger quantile is needed"
            )
        return _Rest(relaxed, graph, threshold)

    def _settled(self, rest: _Rest, of_kernel: Any) -> tuple[Any, ...]:
        """Return the first arguments of the two kernels; they differ in ``of_kernel``."""
        kind: Any = rest.gradient.dtype.type
        raised = kind(rest.threshold)
        if raised <= rest.threshold:
            raised = np.nextafter(raised, kind(np.inf))
        state = rest.gradient, rest.graph.indptr, rest.graph.indices
        rates = kind(self.alpha), kind(1.0 - self.alpha), MOST_STEPS
        return *state, of_kernel, rest.threshold, raised, *rates


class _Outcomes(NamedTuple):
    """Columns that a kernel fills."""

    size: NDArray[np.int64]
    duration: NDArray[np.int64]
    area: NDArray[np.int64]
    truncated: NDArray[np.bool_]

    @classmethod
    def of(cls, n: int) -> _Outcomes:
        size, duration, area = np.zeros((3, n), np.int64)
        return cls(size, duration, area, np.zeros(n, np.bool_))


def _scratch(rest: _Rest) -> tuple[NDArray[Any], ...]:
    """Return the scratch of the kernels, an entry a node each."""
    n, numbers, values = rest.gradient.size, rest.graph.indices.dtype, rest.gradient.dtype
    try:
        kinds = (numbers, numbers, values, numbers, values)
        return np.zeros(n, np.uint8), *(np.empty(n, kind) for kind in kinds)
    except MemoryError:
        raise _no_memory(rest.gradient) from None


def _relaxed(
    gradient: Gradient, graph: Graph, alpha: float, max_steps: int, threshold: float
) -> tuple[Gradient, int]:
    """Return a gradient after a cascade, and the cascade's size."""
    try:
        relaxed, outcomes = relax_stack(
            gradient, graph.as_stack, alpha, max_steps, threshold=threshold, angles=False
        )
    except MemoryError:
        raise _no_memory(gradient) from None
    return relaxed, int(outcomes["size"][0])


def _no_memory(gradient: Gradient) -> Exception:
    return out_of_memory(f"a gradient of {counted(gradient.size, 'entry')}")


def _ratio(followers: int, parents: int) -> float:
    return followers / parents if parents else np.nan
