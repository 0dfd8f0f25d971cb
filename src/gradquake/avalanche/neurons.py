"""The own graph of any model: parameters are neighbors if they share a neuron.

The members of a neuron are the weights that lead into it and out of it, its bias and its norm
parameters. A clique of all members would take a number of edges quadratic in the members; a ring takes
as many edges as members. So every pair that is joined shares a neuron, and all members of a neuron are
connected, but most pairs that share a neuron are not joined.

Layers are matched by the order of the parameters and by their number of neurons. The computation is not
traced, so the graph does not show skip connections, the heads of an attention, or a flattening between
layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradquake.avalanche.graphs import Graph, IntArray, count_of, from_trusted, index_dtype, joined
from gradquake.errors import InputError, require

__all__ = ["TensorLayout", "neuron_graph"]


@dataclass(frozen=True)
class TensorLayout:
    """The shape of one parameter tensor, and which of its axes counts the inputs.

    Parameters
    ----------
    name : str
        The name in error messages.
    shape : tuple of int
        The length of each axis, at least 1; ``()`` for a single number.
    transposed : bool
        Whether axis 0 counts the inputs and axis 1 the outputs, as in an embedding or a transposed
        convolution. False if it is the other way round, or if there are fewer than 2 axes.

    Raises
    ------
    InputError
        For a shape that is not a tuple of integers of at least 1.
    """

    name: str
    shape: tuple[int, ...]
    transposed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple):
            raise InputError(
                f"the shape of {self.name} is {self.shape!r}; a tuple of integers is needed"
            )
        for axis, length in enumerate(self.shape):
            count_of(f"axis {axis} of {self.name}", length, 1)
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))

    @property
    def size(self) -> int:
        """The number of parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class _Layer:
    """Neurons of one layer, whose rings are still open.

    ``first`` and ``last`` hold the first and the last member of each neuron in parameter order. The
    members between are already joined. Each neuron has ``members`` members.
    """

    first: IntArray
    last: IntArray
    members: int

    @property
    def count(self) -> int:
        """The number of neurons."""
        return self.first.size


Edges = list[tuple[IntArray, IntArray]]


def neuron_graph(tensors: Sequence[TensorLayout]) -> Graph:
    """Return the graph of a model, whose parameters are neighbors if they share a neuron.

    A tensor of 2 or more axes has output neurons (axis 0) and input neurons (axis 1), or the reverse if
    it is transposed. Further axes (a convolution's kernel) belong to the same pair. Its outputs are the
    current layer until the next such tensor. The members of a neuron of the current layer are:

    - the weights that lead into it;
    - its entries of the following one-axis tensors (bias, norm parameters) that are as long
      as the layer;
    - the weights that lead out of it, those of the next tensor of 2 or more axes. If that tensor has
      another number of inputs than the layer has neurons, its inputs are neurons of their own.

    One-axis tensors at the very start make a layer. Other one-axis tensors that do not fit their layer
    are left isolated, and so are single numbers.

    The members of a neuron form a ring in parameter order; two members are joined by one edge. A weight
    has at most 4 neighbors and a bias at most 2. Time and memory are linear in the number of parameters.
    If two rings share an edge, such as that of neighbors in a kernel, the graph has it once.

    Parameters
    ----------
    tensors : sequence of TensorLayout
        Every parameter tensor in order. The nodes are the parameters, flattened in this order, each
        tensor row by row.

    Raises
    ------
    InputError
        If there is no tensor, or one is no ``TensorLayout``.
    """
    for tensor in tensors:
        if not isinstance(tensor, TensorLayout):
            raise InputError(f"the tensors hold {tensor!r}; a TensorLayout for each is needed")
    require(len(tensors) > 0, "no tensor was given; a model needs at least one")
    n = count_of("the number of parameters", sum(tensor.size for tensor in tensors), 1)
    return from_trusted(*joined(n, *_ring_edges(tensors, n)))


def _ring_edges(tensors: Sequence[TensorLayout], n: int) -> tuple[IntArray, IntArray]:
    """Return both ends of the edges of every neuron's ring, each edge once."""
    dtype = index_dtype(n, 4 * n)
    edges: Edges = []
    complete: list[_Layer] = []
    layer: _Layer | None = None
    start = 0
    for tensor in tensors:
        nodes = np.arange(start, start + tensor.size, dtype=dtype)
        start += tensor.size
        if len(tensor.shape) == 1:
            if layer is None:
                layer = _Layer(nodes, nodes, 1)
            elif layer.count == nodes.size:
                layer = _lengthened(layer, _Layer(nodes, nodes, 1), edges)
        elif len(tensor.shape) > 1:
            inputs, outputs = _sides(nodes, tensor, edges)
            if layer is not None and layer.count == inputs.count:
                inputs = _lengthened(layer, inputs, edges)
            elif layer is not None:
                complete.append(layer)
            complete.append(inputs)
            layer = outputs
    if layer is not None:
        complete.append(layer)
    edges.append(_closing(complete, n))
    return _laid_out([ends[0] for ends in edges], dtype), _laid_out([ends[1] for ends in edges], dtype)


def _sides(nodes: IntArray, tensor: TensorLayout, edges: Edges) -> tuple[_Layer, _Layer]:
    """Return a weight tensor's input and output neurons, after joining the weights of each."""
    weights = nodes.reshape(*tensor.shape[:2], -1)
    rows = nodes.reshape(tensor.shape[0], -1)
    # A ring of axis 1 runs through one kernel after another. The pairs within a kernel are neighbors in
    # a row too, and are joined there.
    edges.append((rows[:, :-1], rows[:, 1:]))
    edges.append((weights[:-1, :, -1], weights[1:, :, 0]))
    by_row = _Layer(rows[:, 0], rows[:, -1], rows.shape[1])
    by_column = _Layer(weights[0, :, 0], weights[-1, :, -1], weights[:, 0].size)
    return (by_row, by_column) if tensor.transposed else (by_column, by_row)


def _lengthened(layer: _Layer, by: _Layer, edges: Edges) -> _Layer:
    """Return a layer whose neurons have the members of both, after joining them."""
    edges.append((layer.last, by.first))
    return _Layer(layer.first, by.last, layer.members + by.members)


def _closing(layers: Sequence[_Layer], n: int) -> tuple[IntArray, IntArray]:
    """Return the edges from the last member back to the first, of rings of at least 3."""
    codes = [layer.first * np.int64(n) + layer.last for layer in layers if layer.members > 2]
    # A kernel of a single input and output closes two rings with one edge, which is needed once.
    first, last = np.divmod(np.unique(np.concatenate([np.empty(0, np.int64), *codes])), n)
    return first, last


def _laid_out(parts: Sequence[IntArray], dtype: type[np.signedinteger[Any]]) -> IntArray:
    """Return arrays of any shape end to end, without a further copy."""
    whole = np.empty(sum(part.size for part in parts), dtype)
    start = 0
    for part in parts:
        whole[start : start + part.size].reshape(part.shape)[...] = part
        start += part.size
    return whole
