"""The cascade in torch operations, for gradients that live on an accelerator.

The result is that of ``cascade.relax``, bit for bit: every node receives its neighbors' shares one at a
time, in ascending order of the neighbor. Elementwise additions keep this order on any device;
reductions and atomic additions do not.

A step of the cascade waits for the device once, and a second time if the graph has hubs (see
``placement``): their shares go to the host in one transfer and are added there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gradquake.avalanche._kernels_angle import LARGEST_SQUARE, SMALLEST_SQUARE
from gradquake.avalanche.cascade import AvalancheNumbers
from gradquake.avalanche.checks import check_length, not_finite
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.tensors import Tally, TensorCounts
from gradquake.errors import InputError, a_type
from gradquake.torch.placement import DeviceGraph, PlacedLayers

__all__ = ["DeviceAvalanche", "relax"]

# Up to this degree, a share divided in float32 equals one divided in float64 and then rounded.
EXACT_DEGREE = 2**24

# The number of entries that are converted to 64 bits at a time, so that a large gradient is never
# converted whole.
CHUNK = 2**22

INTEGER_OF = {torch.float32: torch.int32, torch.float64: torch.int64}
NUMPY_OF: dict[torch.dtype, type[np.float32] | type[np.float64]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
}


@dataclass(frozen=True, eq=False, repr=False)
class DeviceAvalanche(AvalancheNumbers):
    """The avalanche of one gradient, with the fields of ``cascade.Avalanche``.

    All fields equal those of the compiled cascade exactly, except ``deviation`` and ``dissipated``: they
    are sums in float64 in the device's own order. ``relaxed`` is a tensor on the gradient's device.
    """

    relaxed: torch.Tensor
    tensors: TensorCounts | None = None

    def measured(self) -> dict[str, Any]:
        """Return by name the numbers that a recording keeps, those of tensors among them."""
        return super().measured() | (self.tensors.measured() if self.tensors else {})


def relax(
    gradient: torch.Tensor,
    graph: DeviceGraph,
    cascade: CascadeSettings,
    tensors: PlacedLayers | None = None,
) -> DeviceAvalanche:
    """Let a gradient relax on its device.

    The threshold and the cascade are those of ``Probe``. The gradient is not changed.

    Parameters
    ----------
    gradient : tensor of float32 or float64, shape (N,)
        Finite, on the graph's device. Other floating-point dtypes are measured as float32.
    graph : DeviceGraph
        A graph on N nodes, made by ``placement.place``.
    cascade : CascadeSettings
        Or a ``Probe``, which has the same settings.
    tensors : PlacedLayers, optional
        The tensors whose topplings are counted, made by ``placement.place_layers``.

    Raises
    ------
    InputError
        For a gradient of the wrong kind, length, shape, dtype or device, or with NaN or infinity in it.
    """
    vector = _as_gradient(gradient, graph)
    threshold, largest = _magnitude_quantile(vector, float(cascade.quantile))
    if not math.isfinite(largest):
        raise not_finite("the gradient", vector.cpu().numpy())
    counting = None if tensors is None else _Counting(tensors, cascade.max_steps)
    relaxed, steps, area, unstable, dissipated = _cascade(vector, graph, threshold, cascade, counting)
    deviation = _deviation(vector, relaxed, largest) if steps else 0.0
    if math.isnan(deviation):
        raise not_finite("the gradient", vector.cpu().numpy())
    return DeviceAvalanche(
        size=sum(steps),
        isolated=_isolated_size(vector, threshold, largest, cascade.alpha, cascade.max_steps),
        duration=len(steps),
        area=area,
        peak=max(steps, default=0),
        truncated=unstable > 0,
        deviation=deviation,
        threshold=threshold,
        dissipated=dissipated,
        relaxed=relaxed,
        tensors=None if counting is None else counting.found(),
    )


class _Counting:
    """The topplings of each tensor, step by step."""

    def __init__(self, tensors: PlacedLayers, max_steps: int) -> None:
        self._tensors = tensors
        self._tally = Tally([tensors.layers], 1, max_steps)
        self._steps: list[torch.Tensor] = []
        self._area: torch.Tensor | None = None

    def add(self, unstable: torch.Tensor) -> None:
        """Count the nodes that topple at a step, given by a mask over places."""
        self._steps.append(self._counts(unstable))

    def close(self, toppled: torch.Tensor) -> None:
        """Count the nodes that ever toppled."""
        self._area = self._counts(toppled)

    def found(self) -> TensorCounts:
        """Return the counts, which takes one transfer."""
        rows = self._tally.topplings[0]
        if self._area is not None:
            *steps, area = torch.stack([*self._steps, self._area]).cpu().numpy()
            self._tally.areas[0] = area
            for step, row in enumerate(steps):
                rows[min(step, len(rows) - 1)] += row
        return self._tally[0]

    def _counts(self, mask: torch.Tensor) -> torch.Tensor:
        n = self._tensors.layers.of_stretch.size
        return torch.bincount(self._tensors.stretch_of_place[mask].int(), minlength=n)


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

    Nonnegative floats are ordered as the integers of the same bits. NaN and infinity come last, so the
    largest magnitude shows whether there are any.
    """
    bits = vector.abs().view(INTEGER_OF[vector.dtype])
    position = quantile * (bits.numel() - 1)
    rank = int(position)
    weight = position - rank
    largest = bits.max()
    lower = _order_statistic(bits, rank, largest)
    beyond = torch.where(bits > lower, bits, largest).min()
    upper = torch.where(_count(bits <= lower) > rank + 1, lower, beyond)
    # The only transfer that the threshold takes.
    below, above, top = torch.stack([lower, upper, largest]).view(vector.dtype).tolist()
    step = above - below
    # Rounded in the same order as in the compiled ``interpolated``.
    threshold = above - step * (1.0 - weight) if weight >= 0.5 else below + step * weight
    return threshold if weight else below, top


def _order_statistic(bits: torch.Tensor, rank: int, largest: torch.Tensor) -> torch.Tensor:
    """Return the ``rank``-th smallest of nonnegative integers, by bisection.

    This takes one pass for each bit of the integers, and almost no memory. A sort would hold a 64-bit
    position for every entry.
    """
    low, high = torch.zeros_like(largest), largest
    for _ in range(torch.iinfo(bits.dtype).bits - 1):
        middle = low + ((high - low) >> 1)
        enough = _count(bits <= middle) > rank
        low, high = torch.where(enough, low, middle + 1), torch.where(enough, middle, high)
    return high


def _isolated_size(
    vector: torch.Tensor, threshold: float, largest: float, alpha: float, max_steps: int
) -> int:
    """Return the size if no node had a neighbor: each is multiplied as the cascade does."""
    kind = NUMPY_OF[vector.dtype]
    kept, level = float(kind(1.0 - alpha)), _rounded_down(threshold, kind)
    steps = max_steps
    if 0 < level < largest:
        # More than any node topples, so that no step must be waited for.
        steps = min(steps, math.ceil((math.log(largest) - math.log(level)) / -math.log1p(-alpha)) + 2)
    values = vector.abs()
    values = values[values > level]
    if values.numel() == 0:
        return 0
    size = torch.zeros((), dtype=torch.int64, device=values.device)
    for _ in range(steps):
        size += _count(values > level)
        values = values * kept
    return int(size)


def _cascade(
    vector: torch.Tensor,
    graph: DeviceGraph,
    threshold: float,
    cascade: CascadeSettings,
    counting: _Counting | None,
) -> tuple[torch.Tensor, list[int], int, int, float]:
    """Let a vector relax.

    Returns
    -------
    relaxed : tensor
    steps : list of int
        The number of topplings in each step.
    area : int
        The number of nodes that toppled.
    unstable : int
        The number of nodes that are unstable at the end.
    dissipated : float
        What isolated nodes lost.
    """
    kind = NUMPY_OF[vector.dtype]
    # Rounded to the gradient's precision once, so that no operation rounds them again.
    given, kept = float(kind(cascade.alpha)), float(kind(1.0 - cascade.alpha))
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
        if count == 0 or len(steps) == cascade.max_steps:
            break
        steps.append(count)
        if counting is not None:
            counting.add(unstable)
        toppled |= unstable
        torch.mul(values, given, out=share)
        # Adding -0.0 changes no number, not even the sign of a zero. The share of an isolated node is
        # divided by 0, and no node receives it.
        share.div_(divisor).masked_fill_(~unstable, -0.0)
        values = torch.where(unstable, values * kept, values)
        _receive(values, share, graph)
    if counting is not None:
        counting.close(toppled)
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
        # An overflow is reported when the angle is computed.
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(hubs, graph.hub_of, share.index_select(0, graph.hub_neighbors).cpu().numpy())
        values[: graph.n_hubs] = torch.from_numpy(hubs)


def _count(mask: torch.Tensor) -> torch.Tensor:
    """Return how many entries are True; in parts, because torch converts them to 64-bit integers."""
    return torch.stack([torch.count_nonzero(part) for part in torch.split(mask, CHUNK)]).sum()


def _rounded_down(threshold: float, kind: type[np.float32] | type[np.float64]) -> float:
    """Return the largest number of a precision that is at most ``threshold``.

    The same magnitudes of that precision are above the result as are above ``threshold``.
    """
    level = kind(threshold)
    # Compared as Python floats, because NumPy would round the threshold first.
    return float(level if float(level) <= threshold else np.nextafter(level, kind(-math.inf)))


def _deviation(before: torch.Tensor, after: torch.Tensor, largest: float) -> float:
    """Return the angle in degrees between two vectors, as the compiled ``deviation`` does."""
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
