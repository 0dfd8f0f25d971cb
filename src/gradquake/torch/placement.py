"""Graphs laid out for the cascade on a device.

Nodes are placed by falling degree. The k-th shares of all nodes that have one then arrive in one
addition to the front of a vector, so a step takes as many additions as the largest degree. In a
scale-free graph a few nodes, the hubs, have thousands of neighbors; their shares are added on the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gradquake.avalanche.graphs import Graph, IntArray, check_graph
from gradquake.avalanche.tensors import Layers
from gradquake.errors import require

__all__ = ["DeviceGraph", "PlacedLayers", "place", "place_layers"]

# Launching an operation takes about 5 microseconds; sending a share to the host and adding it there,
# about 5 nanoseconds. The degree above which a node is a hub follows from their ratio.
SHARES_PER_LAUNCH = 1000


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
        The places from which nodes that are no hubs receive. Column k holds the k-th neighbors of all
        nodes that have more than k. Several columns lie end to end in one tensor, beside their lengths.
    hub_neighbors : tensor of int
        The places from which the hubs receive, hub by hub. Hubs are placed first.
    hub_of : array of int, on the host
        The hub that receives from each of ``hub_neighbors``.
    n_hubs, n_isolated : int
        The number of hubs, and of nodes without a neighbor, which are placed last.
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
        """N, the number of nodes."""
        return self.nodes.numel()

    @property
    def device(self) -> torch.device:
        """The device of the graph."""
        return self.nodes.device

    def __repr__(self) -> str:
        return f"DeviceGraph(n_nodes={self.n_nodes}, device={str(self.device)!r})"


def place(graph: Graph, device: torch.device | str) -> DeviceGraph:
    """Return a graph laid out for the cascade on a device, for any number of gradients.

    The layout takes up to twice the memory of the graph's own arrays on the device, and for a moment
    about as much on the host.

    Raises
    ------
    InputError
        If it is no ``Graph``, or the device has no float64.
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
    # The number of degrees above each of 0, 1, ..., n_columns.
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


@dataclass(frozen=True, eq=False)
class PlacedLayers:
    """The tensors of a gradient on a device; made by ``place_layers``.

    Attributes
    ----------
    layers : Layers
    stretch_of_place : tensor of int16 or int32, shape (N,)
        The stretch of ``layers`` that the node at each place lies in.
    """

    layers: Layers
    stretch_of_place: torch.Tensor


def place_layers(layers: Layers, graph: DeviceGraph) -> PlacedLayers:
    """Return the tensors of a gradient, laid out as its graph; 2 bytes an entry, or 4."""
    n = layers.of_stretch.size
    kind = np.int16 if n < np.iinfo(np.int16).max else np.int32
    stretches = np.repeat(np.arange(n, dtype=kind), np.diff(layers.edges))
    return PlacedLayers(layers, torch.from_numpy(stretches).to(graph.device)[graph.nodes])


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
