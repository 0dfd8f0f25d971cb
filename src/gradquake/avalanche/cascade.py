"""The TDU-OFC cascade: a gradient relaxes on a graph and leaves one avalanche."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_angle, _kernels_cascade
from gradquake.avalanche.graphs import Graph, GraphStack, check_graph, stack
from gradquake.errors import (
    InputError,
    counted,
    out_of_memory,
    require_between,
    require_count,
    require_number,
)

Gradient = NDArray[np.floating[Any]]

# ``map``, or that of a pool of threads.
Run = Callable[..., Iterable[Any]]

# What a recording keeps of every avalanche.
MEASURED = ("threshold", "size", "duration", "area", "peak", "truncated", "deviation")

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


# The numbers of an avalanche and their types.
_KINDS: tuple[tuple[str, type], ...] = (
    ("size", int),
    ("duration", int),
    ("area", int),
    ("peak", int),
    ("truncated", bool),
    ("deviation", float),
    ("threshold", float),
    ("dissipated", float),
)


@dataclass(frozen=True, eq=False)
class AvalancheNumbers:
    """The numbers of an ``Avalanche``: of Python's own types, whatever computed them."""

    size: int
    duration: int
    area: int
    peak: int
    truncated: bool
    deviation: float
    threshold: float
    dissipated: float

    def __post_init__(self) -> None:
        # NumPy's numbers look the same but behave differently: JSON refuses them, and integers wrap.
        for name, kind in _KINDS:
            object.__setattr__(self, name, kind(getattr(self, name)))


@dataclass(frozen=True, eq=False)
class Avalanche(AvalancheNumbers):
    """The avalanche that one gradient left behind when it relaxed.

    Attributes
    ----------
    size : int
        Topplings summed over all steps; a node that topples twice counts twice.
    duration : int
        Steps in which something toppled.
    area : int
        Distinct nodes that toppled.
    peak : int
        Most topplings in one step.
    truncated : bool
        Whether ``max_steps`` ended it while a node was still unstable.
    deviation : float
        Angle in degrees between the gradient before and after; 0 for an all-zero gradient.
    threshold : float
        The threshold tau that the magnitudes were held against.
    dissipated : float
        What toppling nodes of degree 0 lost to nowhere: sum before = sum after + dissipated.
    relaxed : array, shape (N,), the gradient's dtype
        The gradient after the cascade.
    """

    relaxed: Gradient = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class AvalancheBatch:
    """The avalanches of a batch: the fields of ``Avalanche`` as arrays of shape (batch,).

    ``relaxed`` holds all relaxed gradients end to end, gradient b between ``offsets[b]`` and
    ``offsets[b + 1]``; ``batch[b]`` gives one ``Avalanche``.
    """

    relaxed: Gradient
    offsets: NDArray[np.int64]
    _outcome: NDArray[np.float64]

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The threshold of each gradient."""
        return self._outcome[:, 0]

    @property
    def size(self) -> NDArray[np.int64]:
        """Topplings summed over all steps."""
        return self._outcome[:, 1].astype(np.int64)

    @property
    def duration(self) -> NDArray[np.int64]:
        """Steps in which something toppled."""
        return self._outcome[:, 2].astype(np.int64)

    @property
    def area(self) -> NDArray[np.int64]:
        """Distinct nodes that toppled."""
        return self._outcome[:, 3].astype(np.int64)

    @property
    def peak(self) -> NDArray[np.int64]:
        """Most topplings in one step."""
        return self._outcome[:, 4].astype(np.int64)

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Whether ``max_steps`` ended the avalanche."""
        return self._outcome[:, 5] > 0

    @property
    def dissipated(self) -> NDArray[np.float64]:
        """What nodes of degree 0 lost to nowhere."""
        return self._outcome[:, 6]

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Angle in degrees between the gradient before and after."""
        return self._outcome[:, 7]

    def measured(self) -> dict[str, NDArray[Any]]:
        """Return by name what a recording keeps of every avalanche, arrays of shape (batch,)."""
        return {name: getattr(self, name) for name in MEASURED}

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, index: int) -> Avalanche:
        b = range(len(self))[index]
        return avalanche(self._outcome[b], self.relaxed[self.offsets[b] : self.offsets[b + 1]])

    def __repr__(self) -> str:
        return f"AvalancheBatch({len(self)} avalanches)"


def relax(
    gradient: ArrayLike,
    graph: Graph,
    *,
    threshold: float,
    alpha: float = 0.3,
    max_steps: int = 20,
) -> Avalanche:
    """Let a gradient relax on a graph.

    All nodes with ``|g_i| > threshold`` topple at the same instant: each keeps (1 - alpha) g_i and
    hands alpha g_i / k_i to each of its k_i neighbours. This repeats until no node is unstable or
    ``max_steps`` steps are done. The update is that of Olami, Feder and Christensen, Phys. Rev. Lett.
    68, 1244 (1992), with signed, degree-normalised shares. The gradient given is left as it is.

    Parameters
    ----------
    gradient : array of float32 or float64, shape (N,)
        Contiguous or not; finite. The cascade runs in its precision.
    graph : Graph
        A graph on N nodes.
    threshold : float
        The threshold tau, at least 0.
    alpha : float
        The share that a toppling node gives away, in (0, 1).
    max_steps : int
        The most steps, at least 1; an avalanche that would go on is marked ``truncated``.

    Returns
    -------
    Avalanche
        Of size 0, with the gradient as it was, where no magnitude is above the threshold.

    Raises
    ------
    InputError
        For a gradient of the wrong length, shape or dtype, NaN or infinity in it, or a parameter out
        of range.
    OutOfMemoryError
        Of ``gradquake.errors``, which is a ``GradquakeError`` and a ``MemoryError``.
    """
    vector = as_gradient(gradient)
    check_cascade(alpha, max_steps)
    check_graph(graph)
    if not 0 <= require_number("threshold", threshold) < math.inf:
        raise InputError(f"threshold is {threshold!r}; a finite number of at least 0 is needed")
    check_length(vector.size, graph.n_nodes)
    if not np.isfinite(vector).all():
        raise not_finite("the gradient", vector)
    try:
        relaxed, outcome = relax_stack(vector, stack([graph]), alpha, max_steps, threshold=threshold)
    except MemoryError:
        raise out_of_memory(f"a gradient of {counted(vector.size, 'entry')}") from None
    return avalanche(outcome[0], relaxed)


def relax_stack(
    gradients: Gradient,
    graphs: GraphStack,
    alpha: float,
    max_steps: int,
    *,
    threshold: float | NDArray[np.float64] = 0.0,
    quantile: float = -1.0,
    angles: bool = True,
    threads: int = 1,
) -> tuple[Gradient, NDArray[np.float64]]:
    """Relax gradients laid end to end, each on its graph, with a threshold (each) or one quantile.

    Unlike ``relax`` it trusts its arguments; only what is not finite is looked for, and only where
    a quantile is taken. Without ``angles`` the deviation is left at 0. The result does not depend on
    ``threads``. Returns the relaxed gradients and
    the outcome of each as a row of numbers, for ``AvalancheBatch`` and ``avalanche``.
    """
    # Any other layout would have the kernels compiled anew, and sum in another order.
    if not (gradients.flags.c_contiguous and gradients.flags.behaved):
        gradients = np.array(gradients)
    batch = len(graphs)
    kind: Any = gradients.dtype.type
    relaxed = np.empty(gradients.size, gradients.dtype)
    outcome = np.zeros((batch, 8))
    outcome[:, 0] = threshold
    longest = graphs.longest
    words = (longest + 63) // 64

    def work(first: int, last: int) -> int:
        broken: int = _kernels_cascade.measure_segments(
            gradients, relaxed, graphs.offsets, graphs.rows, graphs.indptr, graphs.indices,
            kind(alpha), kind(1.0 - alpha), quantile, max_steps, angles, first, last, outcome,
            np.empty(words, np.uint64), np.empty(words, np.uint64),
            np.empty((words + 63) // 64, np.uint8),
            np.empty(longest, graphs.indices.dtype), np.empty(longest, gradients.dtype),
        )  # fmt: skip
        return broken

    if threads == 1 or batch == 1:
        broken = work(0, batch)
    else:
        # Equal shares of nodes, since the cost of a cascade is linear in them.
        shares = np.linspace(0, graphs.n_nodes, min(threads, batch) + 1)
        edges = np.searchsorted(graphs.offsets, shares).tolist()
        with shared_among(min(threads, batch)) as run:
            broken = next((b for b in list(run(work, edges[:-1], edges[1:])) if b >= 0), -1)
    for b in np.flatnonzero(np.diff(graphs.offsets) > _kernels_angle.BLOCK) if broken < 0 else ():
        part = slice(graphs.offsets[b], graphs.offsets[b + 1])
        original, after = gradients[part], relaxed[part]
        if outcome[b, 6]:
            pointers = graphs.indptr[graphs.rows[b] : graphs.rows[b] + after.size + 1]
            outcome[b, 6] = exact_sum(dissipations(original, after, pointers))
        if angles and outcome[b, 1] > 0:
            outcome[b, 7] = _angle_between(original, after)
        broken = int(b) if math.isnan(outcome[b, 7]) else broken
    if broken >= 0:
        name = "the gradient" if batch == 1 else f"gradient {broken} of the batch"
        raise not_finite(name, gradients[graphs.offsets[broken] : graphs.offsets[broken + 1]])
    return relaxed, outcome


@contextmanager
def shared_among(threads: int) -> Iterator[Run]:
    """Yield a ``map`` that shares the work among threads: fewer of them if the system starts no more."""
    with _pool(threads) or nullcontext() as pool:
        yield map if pool is None else pool.map


def _pool(threads: int) -> ThreadPoolExecutor | None:
    """Return a pool whose threads are all running, or None if it would have only one."""
    while threads > 1:
        pool, gate, waiting = ThreadPoolExecutor(threads), Event(), list[Future[bool]]()
        try:
            # Each task takes a thread of its own, since all wait: later, every thread is there.
            while len(waiting) < threads:
                waiting.append(pool.submit(gate.wait))
        except RuntimeError:
            threads = len(waiting)
        else:
            return pool
        finally:
            gate.set()
        pool.shutdown()
    return None


def products(before: Gradient, after: Gradient, scale: float) -> NDArray[np.float64]:
    """Return the sums from which the angle follows, of every block, shape (blocks, 3)."""
    sums = np.empty((-(-before.size // _kernels_angle.BLOCK), 3))
    _kernels_angle.block_products(before, after, scale, _kernels_angle.BLOCK, sums)
    return sums


def dissipations(before: Gradient, after: Gradient, indptr: Any) -> list[float]:
    """Return what the nodes without neighbours have lost, block by block."""
    return [
        _kernels_angle.dissipation(before[i : i + n], after[i : i + n], indptr[i:])
        for n in [_kernels_angle.BLOCK]
        for i in range(0, before.size, n)
    ]


def exact_sum(numbers: Iterable[float]) -> float:
    """Return the correctly rounded sum; infinity where it, or any of the numbers, is not finite."""
    try:
        total = math.fsum(numbers)
    except (OverflowError, ValueError):
        return math.inf
    return total if math.isfinite(total) else math.inf


def _angle_between(before: Gradient, after: Gradient) -> float:
    def sums_at(scale: float) -> list[float]:
        return [exact_sum(column) for column in products(before, after, scale).T]

    return angle(sums_at, lambda: float(np.abs(before).max()))


def angle(sums_at: Callable[[float], Sequence[float]], largest: Callable[[], float]) -> float:
    """Return the angle in degrees from exact sums, scaled where squares would be infinite or 0.

    As ``_kernels.deviation`` does for one block. NaN where the cascade overflowed.
    """
    sums = sums_at(1.0)
    if not _kernels_angle.SMALLEST_SQUARE < sums[0] < _kernels_angle.LARGEST_SQUARE:
        sums = sums_at(math.ldexp(1.0, -max(math.frexp(largest())[1], -1000)))
    degrees: float = _kernels_angle.angle(*sums)
    return degrees if all(map(math.isfinite, sums)) else math.nan


def avalanche(outcome: NDArray[np.float64], relaxed: Gradient) -> Avalanche:
    """Return one row of outcomes as an ``Avalanche``."""
    threshold, size, duration, area, peak, unstable, dissipated, deviation = outcome.tolist()
    return Avalanche(size, duration, area, peak, unstable > 0, deviation, threshold, dissipated, relaxed)


def as_gradient(values: ArrayLike, name: str = "the gradient") -> Gradient:
    """Return ``values`` as a vector of float32 or float64 without a copy, or raise InputError."""
    try:
        vector = np.asarray(values)
    except (ValueError, TypeError):
        raise InputError(f"{name} cannot be made an array; a flat vector (N,) is needed") from None
    if vector.dtype not in FLOATS:
        raise InputError(f"{name} has dtype {vector.dtype}; float32 or float64 is needed")
    if vector.ndim != 1:
        raise InputError(f"{name} has shape {vector.shape}; a flat vector (N,) is needed")
    if vector.size == 0:
        raise InputError(f"{name} is empty; at least one entry is needed")
    return vector


def check_cascade(alpha: float, max_steps: int) -> None:
    """Raise InputError unless the parameters of a cascade are in range."""
    require_between("alpha", alpha, 0, 1)
    require_count("max_steps", max_steps, 1)


def check_length(n_entries: int, n_nodes: int) -> None:
    """Raise InputError unless a gradient has as many entries as its graph has nodes."""
    if n_entries != n_nodes:
        raise InputError(
            f"the gradient has {counted(n_entries, 'entry')} and the graph {counted(n_nodes, 'node')}; "
            "they must be equal"
        )


def not_finite(name: str, vector: Gradient) -> InputError:
    """Return the error for a gradient with NaN or infinity in it, or whose cascade overflowed."""
    where = np.flatnonzero(~np.isfinite(vector))
    if where.size == 0:
        return InputError(
            f"{name} is so large that its cascade overflows {vector.dtype}; scale it down, which "
            "changes nothing else"
        )
    return broken_entries(name, where.size, int(where[0]), vector[where[0]])


def broken_entries(name: str, count: int, first: int, value: Any) -> InputError:
    """Return the error for a gradient in which so many entries are not finite."""
    told = "entry that is not finite," if count == 1 else "entries that are not finite, the first"
    return InputError(f"{name} has {count} {told} at {first} ({value}); finite numbers are needed")
