"""The TDU-OFC cascade: a gradient relaxes on a graph and leaves one avalanche."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from html import escape
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_angle, _kernels_cascade
from gradquake.avalanche.graphs import Graph, GraphStack, check_graph
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

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# For kernels that find thresholds themselves.
NO_THRESHOLDS = np.empty(0)

# Avalanches of a batch that a notebook shows.
MOST_ROWS = 10


@dataclass(frozen=True, eq=False, repr=False)
class AvalancheNumbers:
    """The numbers of one avalanche: the one definition of its fields and their types.

    Attributes
    ----------
    threshold : float
        The threshold tau that the magnitudes were held against.
    size : int
        Topplings summed over all steps; a node that topples twice counts twice.
    duration : int
        Steps in which something toppled.
    area : int
        Distinct nodes that toppled.
    peak : int
        Most topplings in one step.
    truncated : bool
        Whether ``max_steps`` ended the avalanche while a node was still unstable.
    deviation : float
        Angle in degrees between the gradient before and after; 0 for an all-zero gradient.
    dissipated : float
        The sum that toppling nodes of degree 0 lost: sum before = sum after + dissipated.
    """

    threshold: float
    size: int
    duration: int
    area: int
    peak: int
    truncated: bool
    deviation: float
    dissipated: float

    def measured(self) -> dict[str, Any]:
        """Return by name the numbers that a recording keeps."""
        return {name: getattr(self, name) for name in MEASURED}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v}' for n, v in self._shown().items())})"

    def _repr_html_(self) -> str:
        return _html_table([(name, value) for name, value in self._shown().items()])

    def _shown(self) -> dict[str, str]:
        return {name: _text(getattr(self, name)) for name in FIELDS}


# The fields by name, those that a recording keeps, and the type of a row of a batch. A node without
# neighbors that topples makes an avalanche lossy; ``dissipated`` says how much was lost.
FIELDS = tuple(field.name for field in fields(AvalancheNumbers))
MEASURED = tuple(name for name in FIELDS if name != "dissipated")
OUTCOME = np.dtype(
    [*((field.name, field.type) for field in fields(AvalancheNumbers)), ("lossy", "bool")], align=True
)


@dataclass(frozen=True, eq=False, repr=False)
class Avalanche(AvalancheNumbers):
    """The avalanche that one gradient left behind when it relaxed.

    Attributes
    ----------
    threshold, size, duration, area, peak, truncated, deviation, dissipated
        As in ``AvalancheNumbers``.
    relaxed : array, shape (N,), the gradient's dtype
        The gradient after the cascade.
    """

    relaxed: Gradient


@dataclass(frozen=True, eq=False, repr=False)
class AvalancheBatch:
    """The avalanches of a batch: the fields of ``Avalanche`` as arrays of shape (batch,).

    ``relaxed`` holds all relaxed gradients end to end, gradient b between ``offsets[b]`` and
    ``offsets[b + 1]``; ``batch[b]`` gives one ``Avalanche``.
    """

    relaxed: Gradient
    offsets: NDArray[np.int64]
    _outcomes: NDArray[np.void]

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name not in FIELDS:
            raise AttributeError(f"an AvalancheBatch has no attribute {name!r}")
        return self._outcomes[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *FIELDS]

    def measured(self) -> dict[str, NDArray[Any]]:
        """Return by name the numbers that a recording keeps, arrays of shape (batch,)."""
        return {name: self._outcomes[name] for name in MEASURED}

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, index: int) -> Avalanche:
        b = range(len(self))[index]
        return avalanche(self._outcomes[b], self.relaxed[self.offsets[b] : self.offsets[b + 1]])

    def __repr__(self) -> str:
        columns = ((name, self._outcomes[name]) for name in FIELDS)
        ranges = (f"{name} {_text(of.min())} to {_text(of.max())}" for name, of in columns)
        return f"AvalancheBatch({counted(len(self), 'avalanche')}: {', '.join(ranges)})"

    def _repr_html_(self) -> str:
        first = enumerate(self._outcomes[:MOST_ROWS].tolist())
        rows = [[str(b), *map(_text, outcome[:-1])] for b, outcome in first]
        more = len(self) - len(rows)
        return _html_table([["", *FIELDS], *rows], f"and {more} more" if more else "")


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _html_table(rows: Iterable[Sequence[str]], below: str = "") -> str:
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>{escape(below)}"


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
        relaxed, outcomes = relax_stack(vector, graph.as_stack, alpha, max_steps, threshold=threshold)
    except MemoryError:
        raise out_of_memory(f"a gradient of {counted(vector.size, 'entry')}") from None
    return avalanche(outcomes[0], relaxed)


def relax_stack(
    gradients: Gradient,
    graphs: GraphStack,
    alpha: float,
    max_steps: int,
    *,
    threshold: float | NDArray[np.float64] | None = None,
    quantile: float = 0.0,
    angles: bool = True,
    threads: int = 1,
) -> tuple[Gradient, NDArray[np.void]]:
    """Relax gradients laid end to end, each on its graph.

    It trusts its arguments; only a quantile looks for entries that are not finite. The result does not
    depend on ``threads``.

    Parameters
    ----------
    threshold : float or array, shape (batch,), optional
        The threshold of all gradients or of each; without it, their ``quantile``.
    angles : bool
        False leaves the deviation at 0.

    Returns
    -------
    relaxed : array of the gradients' shape and dtype
    outcomes : array of ``OUTCOME``, shape (batch,)

    Raises
    ------
    InputError
        For a gradient that is not finite, or whose cascade overflows.
    """
    # Any other layout would have the kernels compiled anew, and sum in another order.
    if not (gradients.flags.c_contiguous and gradients.flags.behaved):
        gradients = np.array(gradients)
    batch, longest = len(graphs), graphs.longest
    kind: Any = gradients.dtype.type
    relaxed, outcomes = np.empty_like(gradients), np.zeros(batch, OUTCOME)
    thresholds = NO_THRESHOLDS if threshold is None else np.full(batch, threshold, np.float64)
    words = (longest + 63) // 64

    def work(first: int, last: int) -> int:
        broken: int = _kernels_cascade.measure_segments(
            gradients, relaxed, graphs.offsets, graphs.rows, graphs.indptr, graphs.indices,
            kind(alpha), kind(1.0 - alpha), thresholds, quantile, max_steps, angles, first, last,
            outcomes, np.empty(words, np.uint64), np.empty(words, np.uint64),
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
    if broken < 0 and longest > _kernels_angle.BLOCK:
        broken = _sum_over_blocks(gradients, relaxed, graphs, angles, outcomes)
    if broken >= 0:
        name = "the gradient" if batch == 1 else f"gradient {broken} of the batch"
        raise not_finite(name, gradients[graphs.offsets[broken] : graphs.offsets[broken + 1]])
    return relaxed, outcomes


def _sum_over_blocks(
    gradients: Gradient, relaxed: Gradient, graphs: GraphStack, angles: bool, outcomes: NDArray[np.void]
) -> int:
    """Fill in what is summed over gradients of several blocks; return one that overflowed, or -1."""
    broken = -1
    for b in np.flatnonzero(np.diff(graphs.offsets) > _kernels_angle.BLOCK).tolist():
        part = slice(graphs.offsets[b], graphs.offsets[b + 1])
        before, after, outcome = gradients[part], relaxed[part], outcomes[b]
        if outcome["lossy"]:
            pointers = graphs.indptr[graphs.rows[b] : graphs.rows[b] + after.size + 1]
            outcome["dissipated"] = exact_sum(dissipations(before, after, pointers))
        if angles and outcome["size"] > 0:
            outcome["deviation"] = _angle_between(before, after)
        broken = b if math.isnan(outcome["deviation"]) else broken
    return broken


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


def avalanche(outcome: np.void, relaxed: Gradient) -> Avalanche:
    """Return one outcome as an ``Avalanche``, its numbers of Python's own types."""
    values = (*outcome.item()[:-1], relaxed)
    return Avalanche(*values)


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
