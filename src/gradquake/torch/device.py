"""The cascade in torch operations, for gradients that live on an accelerator.

It gives what ``cascade.relax`` gives, bit for bit: every node receives its neighbors' shares one at a
time, in ascending order of the neighbor, so that no sum is left to the device's own order. Reductions
and atomic additions have none that is fixed; elementwise additions do.

Nodes are placed by falling degree. The k-th share of every node that has one then arrives in one
addition to the front of a vector, so that a step takes as many additions as the largest degree. Few
nodes of a scale-free graph have thousands of neighbors: the shares of these hubs go to the host in one
transfer and are added there. A step waits for the device once, and a second time where there are hubs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gradquake.avalanche._kernels_angle import LARGEST_SQUARE, SMALLEST_SQUARE
from gradquake.avalanche.cascade import AvalancheNumbers
from gradquake.avalanche.checks import check_cascade, check_length, not_finite
from gradquake.avalanche.graphs import Graph, IntArray, check_graph
from gradquake.errors import InputError, a_type, require, require_between

# Launching an operation takes as long (some 5 microseconds) as sending this many shares to the host and
# adding them there (some 5 nanoseconds each). Above which degree a node is a hub follows from it.
SHARES_PER_LAUNCH = 1000

# Up to this degree, a share divided in float32 is the one divided in float64 and then rounded.
EXACT_DEGREE = 2**24

# Entries that are turned to 64 bits at a time, so that a large gradient is not copied in them whole.
CHUNK = 2**22

INTEGER_OF = {torch.float32: torch.int32, torch.float64: torch.int64}
NUMPY_OF: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}


@dataclass(frozen=True, eq=False, repr=False)
class DeviceGraph:
    """A graph on a device, its nodes placed by falling degree; made by ``place``.

    Attributes
    ----------
    nodes, places : tensors of int, shape (N,)
        The node at each place, and the place of each node.
    degrees : tensor of int, shape (N,)
        The degree at each place.
    columns : tuple of (tensor of int, list of int)
        The places that nodes beyond the hubs receive from: the k-th neighbors of all that have more
        than k, for k = 0, 1, ..., several such columns end to end in one tensor beside their lengths.
    hub_neighbors : tensor of int
        The places that the hubs, which come first, receive from, hub by hub.
    hub_of : array of int, on the host
        The hub that each of ``hub_neighbors`` gives to.
    n_hubs, n_isolated : int
        How many nodes are hubs, and how many, at the end, have no neighbor.
    max_degree : int
        The largest degree.
    """

    nodes: torch.Tensor
    places: torch.Tensor
    degrees: torch.Tensor
    columns: tuple[tuple[torch.Tensor, list[int]], ...]
    hub_neighbors: torch.Tensor
    hub_of: NDArray[np.intp]
    n_hubs: int
    n_isolated: int
    max_degree: int

    @property
    def n_nodes(self) -> int:
        """The number of nodes, N."""
        return self.nodes.numel()

    @property
    def device(self) -> torch.device:
        """Where the graph is."""
        return self.nodes.device

    def __repr__(self) -> str:
        return f"DeviceGraph(n_nodes={self.n_nodes}, device={str(self.device)!r})"


@dataclass(frozen=True, eq=False, repr=False)
class DeviceAvalanche(AvalancheNumbers):
    """The avalanche that one gradient left behind: the fields of ``cascade.Avalanche``.

    All are those of the compiled cascade exactly, but for ``deviation`` and ``dissipated``, which are
    sums in float64 in the device's own order. ``relaxed`` is a tensor on the gradient's device.
    """

    relaxed: torch.Tensor


def place(graph: Graph, device: torch.device | str) -> DeviceGraph:
    """Return a graph laid out for the cascade on a device: once, for any number of gradients.

    Takes up to twice the memory of the graph's own arrays on the device, and about as much on the host
    on the way.

    Raises
    ------
    InputError
        For something else than a ``Graph``, or a device without float64.
    """
    check_graph(graph)
    require(
        torch.device(device).type != "mps",
        "device mps has no float64, which an avalanche needs; measure on the CPU",
    )
    degrees = graph.degrees
    nodes = np.argsort(-degrees, kind="stable").astype(graph.indices.dtype)
    places = np.empty_like(nodes)
    places[nodes] = np.arange(nodes.size, dtype=nodes.dtype)
    falling = degrees[nodes]
    n_columns = _column_count(falling)
    # Of falling degrees, how many are above each number.
    longer = nodes.size - np.searchsorted(falling[::-1], np.arange(n_columns + 1), side="right")
    n_hubs = int(longer[-1])

    def to_device(array: IntArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    starts = graph.indptr[nodes[n_hubs:]]
    columns = (places[graph.indices[starts[: n - n_hubs] + k]] for k, n in enumerate(longer[:-1]))
    hubs = falling[:n_hubs].astype(np.intp)
    ends = np.cumsum(hubs)
    within = np.arange(hubs.sum()) - np.repeat(ends - hubs, hubs)
    entries = np.repeat(graph.indptr[nodes[:n_hubs]].astype(np.intp), hubs) + within
    return DeviceGraph(
        nodes=to_device(nodes),
        places=to_device(places),
        degrees=to_device(falling),
        columns=tuple(
            (to_device(np.concatenate(group)), [part.size for part in group])
            for group in _grouped(columns, nodes.size)
        ),
        hub_neighbors=to_device(places[graph.indices[entries]]),
        hub_of=np.repeat(np.arange(n_hubs), hubs),
        n_hubs=n_hubs,
        n_isolated=int(np.count_nonzero(degrees == 0)),
        max_degree=int(falling[0]),
    )


def relax(
    gradient: torch.Tensor, graph: DeviceGraph, *, quantile: float, alpha: float, max_steps: int
) -> DeviceAvalanche:
    """Let a gradient relax on the device where it is.

    The threshold is ``numpy.quantile(abs(gradient), quantile)`` in float64, as ``Probe`` takes it; the
    cascade is that of ``cascade.relax``. The gradient given is left as it is.

    Parameters
    ----------
    gradient : tensor of float32 or float64, shape (N,)
        Finite, on the graph's device. Other floating-point dtypes are measured as float32.
    graph : DeviceGraph
        A graph on N nodes, from ``place``.
    quantile : float
        In [0, 1].
    alpha : float
        The share that a toppling node gives away, in (0, 1).
    max_steps : int
        The most steps, at least 1; an avalanche that would go on is marked ``truncated``.

    Returns
    -------
    DeviceAvalanche

    Raises
    ------
    InputError
        For a gradient of the wrong kind, length, shape, dtype or device, NaN or infinity in it, or a
        parameter out of range.
    """
    vector = _as_gradient(gradient, graph)
    check_cascade(alpha, max_steps)
    require_between("quantile", quantile, 0, 1, inclusive=True)
    threshold, largest = _magnitude_quantile(vector, float(quantile))
    if not math.isfinite(largest):
        raise not_finite("the gradient", vector.cpu().numpy())
    relaxed, steps, area, unstable, dissipated = _cascade(vector, graph, threshold, alpha, max_steps)
    deviation = _deviation(vector, relaxed, largest) if steps else 0.0
    if math.isnan(deviation):
        raise not_finite("the gradient", vector.cpu().numpy())
    return DeviceAvalanche(
        size=sum(steps),
        duration=len(steps),
        area=area,
        peak=max(steps, default=0),
        truncated=unstable > 0,
        deviation=deviation,
        threshold=threshold,
        dissipated=dissipated,
        relaxed=relaxed,
    )


def _as_gradient(gradient: torch.Tensor, graph: DeviceGraph) -> torch.Tensor:
    """Return a gradient as a vector of float32 or float64 that fits the graph, or raise InputError."""
    if not isinstance(graph, DeviceGraph):
        raise InputError(f"the graph is {graph!r}; a DeviceGraph is needed, which place(graph) returns")
    if not isinstance(gradient, torch.Tensor):
        raise InputError(f"the gradient is {a_type(gradient)}; a torch tensor is needed")
    if not gradient.is_floating_point():
        raise InputError(f"the gradient has dtype {gradient.dtype}; a floating-point dtype is needed")
    if gradient.ndim != 1:
        raise InputError(f"the gradient has shape {tuple(gradient.shape)}; a flat vector (N,) is needed")
    check_length(gradient.numel(), graph.n_nodes)
    if gradient.device != graph.device:
        raise InputError(
            f"the gradient is on {gradient.device} and the graph on {graph.device}; one device is needed"
        )
    vector = gradient.detach()
    return vector if vector.dtype in INTEGER_OF else vector.to(torch.float32)


def _magnitude_quantile(vector: torch.Tensor, quantile: float) -> tuple[float, float]:
    """Return ``numpy.quantile(abs(vector), quantile)`` in float64, and the largest magnitude.

    Numbers that are not negative are ordered as the integers of the same bits; NaN and infinity come
    last, and show in the largest.
    """
    bits = vector.abs().view(INTEGER_OF[vector.dtype])
    position = quantile * (bits.numel() - 1)
    rank = int(position)
    weight = position - rank
    largest = bits.max()
    lower = _order_statistic(bits, rank, largest)
    beyond = torch.where(bits > lower, bits, largest).min()
    upper = torch.where(_count(bits <= lower) > rank + 1, lower, beyond)
    # The one transfer of the threshold.
    below, above, top = torch.stack([lower, upper, largest]).view(vector.dtype).tolist()
    step = above - below
    # In the order in which ``_kernels.interpolated`` rounds.
    threshold = above - step * (1.0 - weight) if weight >= 0.5 else below + step * weight
    return threshold if weight else below, top


def _order_statistic(bits: torch.Tensor, rank: int, largest: torch.Tensor) -> torch.Tensor:
    """Return the ``rank``-th smallest of integers that are not negative, by bisection.

    It takes as many passes as the integers have bits and next to no memory, where a sort would hold a
    position of 64 bits for every entry.
    """
    low, high = torch.zeros_like(largest), largest
    for _ in range(torch.iinfo(bits.dtype).bits - 1):
        middle = low + ((high - low) >> 1)
        enough = _count(bits <= middle) > rank
        low, high = torch.where(enough, low, middle + 1), torch.where(enough, middle, high)
    return high


def _cascade(
    vector: torch.Tensor, graph: DeviceGraph, threshold: float, alpha: float, max_steps: int
) -> tuple[torch.Tensor, list[int], int, int, float]:
    """Return what is relaxed, the topplings of each step, the area, how many are unstable, the loss."""
    kind = NUMPY_OF[vector.dtype]
    # As plain numbers that the gradient's precision holds: no operation rounds them again.
    given, kept = float(kind(alpha)), float(kind(1.0 - alpha))
    level = _rounded_down(threshold, kind)
    exact = graph.max_degree <= EXACT_DEGREE
    divisor = graph.degrees.to(vector.dtype if exact else torch.float64)
    isolated = slice(graph.n_nodes - graph.n_isolated, graph.n_nodes)
    values = vector.index_select(0, graph.nodes)
    share = torch.empty_like(values)
    toppled = torch.zeros_like(values, dtype=torch.bool)
    alone = values[isolated].double()
    steps: list[int] = []
    while True:
        unstable = torch.abs(values, out=share) > level
        count = int(_count(unstable))
        if count == 0 or len(steps) == max_steps:
            break
        steps.append(count)
        toppled |= unstable
        torch.mul(values, given, out=share)
        # Adding -0.0 changes nothing, not even the sign of a zero. What isolated nodes get from the
        # division by their degree, 0, is received by none.
        share.div_(divisor).masked_fill_(~unstable, -0.0)
        values = torch.where(unstable, values * kept, values)
        _receive(values, share, graph)
    lost = (alone - values[isolated].double()).sum()
    relaxed = values.index_select(0, graph.places)
    return relaxed, steps, int(_count(toppled)), count, float(lost)


def _receive(values: torch.Tensor, share: torch.Tensor, graph: DeviceGraph) -> None:
    """Add to every value its neighbors' shares, one at a time in ascending order of the neighbor."""
    others = values[graph.n_hubs :]
    for neighbors, lengths in graph.columns:
        for column in torch.split(share.index_select(0, neighbors), lengths):
            others[: column.numel()] += column
    if graph.n_hubs:
        hubs = values[: graph.n_hubs].cpu().numpy()
        # What overflows is found, and said, when the angle is taken.
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(hubs, graph.hub_of, share.index_select(0, graph.hub_neighbors).cpu().numpy())
        values[: graph.n_hubs] = torch.from_numpy(hubs)


def _count(mask: torch.Tensor) -> torch.Tensor:
    """Return how many entries are True; in parts, since torch turns them to integers of 64 bits."""
    return torch.stack([torch.count_nonzero(part) for part in torch.split(mask, CHUNK)]).sum()


def _rounded_down(threshold: float, kind: Any) -> float:
    """Return the largest number of a precision that is at most ``threshold``.

    The magnitudes of that precision which are above the one are above the other.
    """
    level = kind(threshold)
    # In Python's floats: NumPy would round the threshold to compare it.
    return float(level if float(level) <= threshold else np.nextafter(level, kind(-math.inf)))


def _deviation(before: torch.Tensor, after: torch.Tensor, largest: float) -> float:
    """Return the angle in degrees between two vectors, as ``_kernels.deviation`` does."""
    scale = 1.0
    for _ in range(2):
        squared, changed, product = _products(before, after, scale)
        if SMALLEST_SQUARE < squared < LARGEST_SQUARE:
            break
        scale = math.ldexp(1.0, -max(math.frexp(largest)[1], -1000))
    crossed = squared * changed - product * product
    return math.degrees(math.atan2(math.sqrt(max(crossed, 0.0)), squared + product))


def _products(before: torch.Tensor, after: torch.Tensor, scale: float) -> list[float]:
    """Return |before|^2, |after - before|^2 and before . (after - before), all times scale^2."""
    total = torch.zeros(3, dtype=torch.float64, device=before.device)
    for old, new in zip(torch.split(before, CHUNK), torch.split(after, CHUNK), strict=True):
        start = old.to(torch.float64) * scale
        change = new.to(torch.float64) * scale - start
        pairs = (start, start), (change, change), (start, change)
        total += torch.stack([(left * right).sum() for left, right in pairs])
    products: list[float] = total.tolist()
    return products


def _column_count(degrees: IntArray) -> int:
    """Return the degree above which nodes are hubs, so that a step takes the least time."""
    counts = np.bincount(degrees)
    shares = counts * np.arange(counts.size)
    to_host = shares.sum() - np.cumsum(shares)
    return int(np.argmin(to_host + SHARES_PER_LAUNCH * np.arange(counts.size)))


def _grouped(columns: Iterable[IntArray], limit: int) -> Iterator[list[IntArray]]:
    """Yield columns in groups of at most ``limit`` entries, or of one column."""
    group: list[IntArray] = []
    for column in columns:
        if group and sum(part.size for part in group) + column.size > limit:
            yield group
            group = []
        group.append(column)
    if group:
        yield group
