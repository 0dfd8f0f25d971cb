"""The TDU-OFC cascade: a gradient relaxes on a graph and leaves one avalanche."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_angle, _kernels_cascade
from gradquake.avalanche.checks import as_gradient, check_length, not_finite
from gradquake.avalanche.graphs import Graph, GraphStack, check_graph
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.sums import Gradient, angle_between, dissipations, exact_sum
from gradquake.avalanche.tensors import Tally, TensorCounts
from gradquake.avalanche.threads import shared_among
from gradquake.errors import InputError, counted, out_of_memory, require_number

__all__ = [
    "FIELDS", "MEASURED", "NO_THRESHOLDS", "OUTCOME", "Avalanche", "AvalancheBatch", "AvalancheNumbers",
    "Gradient", "avalanche", "relax", "relax_stack",
]  # fmt: skip

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
    isolated : int
        The size if no node had a neighbor: a node above tau topples
        ``ceil(ln(|g| / tau) / -ln(1 - alpha))`` times, at most ``max_steps`` times.
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
    isolated: int
    duration: int
    area: int
    peak: int
    truncated: bool
    deviation: float
    dissipated: float

    @property
    def isolated_share(self) -> float:
        """The isolated size over the size: how much of the avalanche needs no graph. NaN at size 0."""
        return self.isolated / self.size if self.size else math.nan

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
# neighbors that topples makes an avalanche lossy; ``dissipated`` says how much was lost. The isolated
# size is an observable, which runs record if they are asked to.
FIELDS = tuple(field.name for field in fields(AvalancheNumbers))
MEASURED = tuple(name for name in FIELDS if name not in ("dissipated", "isolated"))
OUTCOME = np.dtype(
    [*((field.name, field.type) for field in fields(AvalancheNumbers)), ("lossy", "bool")], align=True
)


@dataclass(frozen=True, eq=False, repr=False)
class Avalanche(AvalancheNumbers):
    """The avalanche that one gradient left behind when it relaxed: its numbers, and the gradient.

    Attributes
    ----------
    relaxed : array, shape (N,), the gradient's dtype
        The gradient after the cascade.
    tensors : TensorCounts or None
        The topplings of each tensor; None unless tensors were given.
    """

    relaxed: Gradient
    tensors: TensorCounts | None = None

    def measured(self) -> dict[str, Any]:
        """Return by name the numbers that a recording keeps, those of tensors among them."""
        return super().measured() | (self.tensors.measured() if self.tensors else {})


@dataclass(frozen=True, eq=False, repr=False)
class AvalancheBatch:
    """The avalanches of a batch: the fields of ``Avalanche`` as arrays of shape (batch,).

    ``relaxed`` holds all relaxed gradients end to end, gradient b between ``offsets[b]`` and
    ``offsets[b + 1]``; ``batch[b]`` gives one ``Avalanche``.
    """

    relaxed: Gradient
    offsets: NDArray[np.int64]
    _outcomes: NDArray[np.void]
    _tally: Tally | None = None

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name not in FIELDS:
            raise AttributeError(f"an AvalancheBatch has no attribute {name!r}")
        return self._outcomes[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *FIELDS]

    @property
    def tensors(self) -> list[TensorCounts] | None:
        """The topplings of each tensor, for each gradient; None unless tensors were given."""
        return None if self._tally is None else [self._tally[b] for b in range(len(self))]

    def measured(self) -> dict[str, NDArray[Any]]:
        """Return by name the numbers that a recording keeps, arrays of shape (batch,).

        Those of tensors have shape (batch, tensors) or, step by step, (batch, steps).
        """
        rows = [of.measured() for of in self.tensors or ()]
        counts = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
        return {name: self._outcomes[name] for name in MEASURED} | counts

    def __len__(self) -> int:
        return self.offsets.size - 1

    def __getitem__(self, index: int) -> Avalanche:
        b = range(len(self))[index]
        relaxed = self.relaxed[self.offsets[b] : self.offsets[b + 1]]
        return avalanche(self._outcomes[b], relaxed, self._tally[b] if self._tally else None)

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
    alpha: float = CascadeSettings.alpha,
    max_steps: int = CascadeSettings.max_steps,
) -> Avalanche:
    """Let a gradient relax on a graph.

    All nodes with ``|g_i| > threshold`` topple at the same instant: each keeps (1 - alpha) g_i and
    hands alpha g_i / k_i to each of its k_i neighbors. This repeats until no node is unstable or
    ``max_steps`` steps are done. The update is that of Olami, Feder and Christensen, Phys. Rev. Lett.
    68, 1244 (1992), with signed, degree-normalized shares. The gradient given is not changed.

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
        Of size 0, with the gradient as it was, if no magnitude is above the threshold.

    Raises
    ------
    InputError
        For a gradient of the wrong length, shape or dtype, NaN or infinity in it, or a parameter out
        of range.
    OutOfMemoryError
        If there is not enough memory.
    """
    vector = as_gradient(gradient)
    cascade = CascadeSettings(alpha=alpha, max_steps=max_steps)
    check_graph(graph)
    if not 0 <= require_number("threshold", threshold) < math.inf:
        raise InputError(f"threshold is {threshold!r}; a finite number of at least 0 is needed")
    check_length(vector.size, graph.n_nodes)
    if not np.isfinite(vector).all():
        raise not_finite("the gradient", vector)
    try:
        relaxed, outcomes = relax_stack(vector, graph.as_stack, cascade, threshold=threshold)
    except MemoryError:
        raise out_of_memory(f"a gradient of {counted(vector.size, 'entry')}") from None
    return avalanche(outcomes[0], relaxed)


def relax_stack(
    gradients: Gradient,
    graphs: GraphStack,
    cascade: CascadeSettings,
    *,
    threshold: float | NDArray[np.float64] | None = None,
    angles: bool = True,
    threads: int = 1,
    tally: Tally | None = None,
) -> tuple[Gradient, NDArray[np.void]]:
    """Relax gradients laid end to end, each on its graph.

    It trusts its arguments; only without ``threshold`` does it look for entries that are not finite.
    The result does not depend on ``threads``.

    Parameters
    ----------
    threshold : float or array, shape (batch,), optional
        The threshold of all gradients or of each; without it, the quantile of ``cascade``.
    angles : bool
        False leaves the deviation and the isolated size at 0.
    tally : Tally, optional
        Takes the counts of the tensors of each gradient.

    Returns
    -------
    relaxed : array of the gradients' shape and dtype
    outcomes : array of ``OUTCOME``, shape (batch,)

    Raises
    ------
    InputError
        For a gradient that is not finite, or whose cascade overflows.
    """
    # For another layout the kernels would be compiled again, and sum in another order.
    if not (gradients.flags.c_contiguous and gradients.flags.behaved):
        gradients = np.array(gradients)
    batch, longest = len(graphs), graphs.longest
    kind: Any = gradients.dtype.type
    relaxed, outcomes = np.empty_like(gradients), np.zeros(batch, OUTCOME)
    thresholds = NO_THRESHOLDS if threshold is None else np.full(batch, threshold, np.float64)
    words = (longest + 63) // 64
    nothing = np.empty((batch, 0), np.int64)
    counts = tally.arrays if tally else (nothing, nothing[:, None], nothing)

    def work(first: int, last: int) -> int:
        broken: int = _kernels_cascade.measure_segments(
            gradients, relaxed, graphs.offsets, graphs.rows, graphs.indptr, graphs.indices,
            kind(cascade.alpha), kind(1.0 - cascade.alpha), thresholds, cascade.quantile,
            cascade.max_steps, angles, first, last, outcomes,
            *counts,
            np.empty(words, np.uint64), np.empty(words, np.uint64),
            np.empty((words + 63) // 64, np.uint8),
            np.empty(longest, graphs.indices.dtype), np.empty(longest, gradients.dtype),
        )  # fmt: skip
        return broken

    if threads == 1 or batch == 1:
        broken = work(0, batch)
    else:
        # The cost of a cascade is linear in the number of nodes.
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
    """Fill in the sums over gradients of several blocks; return a gradient that overflowed, or -1."""
    broken = -1
    for b in np.flatnonzero(np.diff(graphs.offsets) > _kernels_angle.BLOCK).tolist():
        part = slice(graphs.offsets[b], graphs.offsets[b + 1])
        before, after, outcome = gradients[part], relaxed[part], outcomes[b]
        if outcome["lossy"]:
            pointers = graphs.indptr[graphs.rows[b] : graphs.rows[b] + after.size + 1]
            outcome["dissipated"] = exact_sum(dissipations(before, after, pointers))
        if angles and outcome["size"] > 0:
            outcome["deviation"] = angle_between(before, after)
        broken = b if math.isnan(outcome["deviation"]) else broken
    return broken


def avalanche(outcome: np.void, relaxed: Gradient, tensors: TensorCounts | None = None) -> Avalanche:
    """Return one outcome as an ``Avalanche``, its numbers of Python's own types."""
    values = (*outcome.item()[:-1], relaxed, tensors)
    return Avalanche(*values)
