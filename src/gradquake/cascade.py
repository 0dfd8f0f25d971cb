"""The TDU-OFC cascade: a gradient relaxes on a graph and leaves one avalanche."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake import _kernels
from gradquake.errors import InputError, require, require_between, require_count
from gradquake.graphs import Graph, GraphStack, stack

Gradient = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Avalanche:
    """What one gradient left behind when it relaxed.

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

    size: int
    duration: int
    area: int
    peak: int
    truncated: bool
    deviation: float
    threshold: float
    dissipated: float
    relaxed: Gradient = field(repr=False)


@dataclass(frozen=True, eq=False)
class AvalancheBatch:
    """The avalanches of a batch: the fields of ``Avalanche`` as arrays of shape (batch,).

    ``relaxed`` holds all relaxed gradients end to end, gradient b between ``offsets[b]`` and
    ``offsets[b + 1]``; ``batch[b]`` gives one ``Avalanche``.
    """

    size: NDArray[np.int64]
    duration: NDArray[np.int64]
    area: NDArray[np.int64]
    peak: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    deviation: NDArray[np.float64]
    threshold: NDArray[np.float64]
    dissipated: NDArray[np.float64]
    relaxed: Gradient = field(repr=False)
    offsets: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return self.size.size

    def __getitem__(self, index: int) -> Avalanche:
        b = range(len(self))[index]
        return Avalanche(
            size=int(self.size[b]),
            duration=int(self.duration[b]),
            area=int(self.area[b]),
            peak=int(self.peak[b]),
            truncated=bool(self.truncated[b]),
            deviation=float(self.deviation[b]),
            threshold=float(self.threshold[b]),
            dissipated=float(self.dissipated[b]),
            relaxed=self.relaxed[self.offsets[b] : self.offsets[b + 1]],
        )


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

    Raises
    ------
    InputError
        For a gradient of the wrong length, shape or dtype, NaN or infinity in it, or a parameter out
        of range.
    """
    vector = as_gradient(gradient)
    check_cascade(alpha, max_steps)
    require(
        math.isfinite(threshold) and threshold >= 0,
        f"threshold is {threshold!r}; a finite number of at least 0 is needed",
    )
    require(
        vector.size == graph.n_nodes,
        f"the gradient has {vector.size} entries and the graph {graph.n_nodes} nodes; "
        "they must be equal",
    )
    if not np.isfinite(vector).all():
        raise not_finite("the gradient", vector)
    return relax_stack(vector, stack([graph]), alpha, max_steps, threshold=threshold)[0]


def relax_stack(
    gradients: Gradient,
    graphs: GraphStack,
    alpha: float,
    max_steps: int,
    *,
    threshold: float = math.nan,
    quantile: float = -1.0,
    threads: int = 1,
) -> AvalancheBatch:
    """Relax gradients laid end to end, each on its graph, with one threshold or one quantile.

    Unlike ``relax`` it trusts its arguments; only what is not finite is looked for, and only where
    a quantile is taken. The result does not depend on ``threads``.
    """
    batch = len(graphs)
    kind = gradients.dtype.type
    relaxed = np.empty(gradients.size, gradients.dtype)
    thresholds = np.full(batch, threshold)
    counts = np.zeros((batch, 5), np.int64)
    angles, dissipated = np.zeros(batch), np.zeros(batch)

    def work(first: int, last: int) -> None:
        _kernels.measure_segments(
            gradients, relaxed, graphs.offsets, graphs.indptr, graphs.indices,
            kind(alpha), kind(1.0 - alpha), quantile, max_steps, first, last,
            thresholds, counts, angles, dissipated,
        )  # fmt: skip

    if threads == 1 or batch == 1:
        work(0, batch)
    else:
        # Equal shares of nodes, since the cost of a cascade is linear in them.
        shares = np.linspace(0, graphs.n_nodes, min(threads, batch) + 1)
        edges = np.searchsorted(graphs.offsets, shares).tolist()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, edges[:-1], edges[1:]))

    if np.isnan(thresholds).any():
        b = int(np.isnan(thresholds).argmax())
        name = "the gradient" if batch == 1 else f"gradient {b} of the batch"
        raise not_finite(name, gradients[graphs.offsets[b] : graphs.offsets[b + 1]])
    return AvalancheBatch(
        size=counts[:, 0],
        duration=counts[:, 1],
        area=counts[:, 2],
        peak=counts[:, 3],
        truncated=counts[:, 4] > 0,
        deviation=angles,
        threshold=thresholds,
        dissipated=dissipated,
        relaxed=relaxed,
        offsets=graphs.offsets,
    )


def as_gradient(values: ArrayLike, name: str = "the gradient") -> Gradient:
    """Return ``values`` as a vector of float32 or float64 without a copy, or raise InputError."""
    vector = np.asarray(values)
    require(
        vector.dtype in (np.float32, np.float64),
        f"{name} has dtype {vector.dtype}; float32 or float64 is needed",
    )
    require(vector.ndim == 1, f"{name} has shape {vector.shape}; a flat vector (N,) is needed")
    require(vector.size > 0, f"{name} is empty; at least one entry is needed")
    return vector


def check_cascade(alpha: float, max_steps: int) -> None:
    """Raise InputError unless the parameters of a cascade are in range."""
    require_between("alpha", alpha, 0, 1)
    require_count("max_steps", max_steps, 1)


def not_finite(name: str, vector: Gradient) -> InputError:
    """Return the error for a gradient with NaN or infinity in it."""
    where = np.flatnonzero(~np.isfinite(vector))
    return InputError(
        f"{name} has {where.size} entries that are not finite, the first at {where[0]} "
        f"({vector[where[0]]}); finite numbers are needed"
    )
