"""The size of an avalanche from the distribution of the gradient alone, without a cascade.

If the entries lie in random order, a node's fate depends on its own entry x and on those of its k
neighbors. In units of the threshold, with b = alpha / (1 - alpha) and Z the sum of x_j / k_j over the
neighbors that are unstable at first, a node that has toppled t times has the value

    (1 - alpha)^t (x + t b Z),

as long as these neighbors go on toppling. It topples once more if its magnitude is above 1, so that::

    s / N = sum over t >= 0 of P(|x + t b Z| > (1 - alpha)^-t).

Nodes that the neighbors of neighbors set off, and neighbors that come to rest, are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_threshold
from gradquake.avalanche.checks import as_gradient, check_length, not_finite
from gradquake.avalanche.graphs import Graph, check_graph
from gradquake.avalanche.settings import CascadeSettings

__all__ = ["one_generation"]

# The points of the grid on which densities lie, and the range beyond the largest threshold that counts.
# Eight times as many change a size by 0.1 % at most, and take twenty times as long.
POINTS = 1 << 15
MARGIN = 4.0

Floats = NDArray[np.float64]


def one_generation(gradient: ArrayLike, graph: Graph, cascade: CascadeSettings) -> float:
    """Return the size that is predicted for a gradient whose entries lie in random order on a graph.

    It explains the size of the permuted null, and does not replace it: docs/method.md has its errors.

    Parameters
    ----------
    gradient : array of float32 or float64, shape (N,)
        Its arrangement plays no part.
    graph : Graph
        Only its degrees are used: the neighbors of a node are taken as drawn by their degree.
    cascade : CascadeSettings
        Or a ``Probe``. The number of terms is at most ``max_steps``.

    Raises
    ------
    InputError
        For a gradient that ``Probe.measure`` refuses, or another number of nodes.
    """
    vector = as_gradient(gradient)
    check_graph(graph)
    check_length(vector.size, graph.n_nodes)
    scratch = np.empty_like(vector)
    threshold = float(_kernels_threshold.magnitude_quantile(vector, cascade.quantile, scratch))
    if not np.isfinite(threshold):
        raise not_finite("the gradient", vector)
    largest = float(np.abs(vector).max())
    if largest <= threshold:
        return 0.0
    if threshold == 0:
        # Without a scale, every node that is not 0 topples at every step.
        return cascade.max_steps * float(np.count_nonzero(vector))
    x = vector.astype(np.float64) / threshold
    # More steps than any node topples by itself; beyond them the terms are of neighbors alone.
    alone = int(np.log(largest / threshold) / -np.log1p(-cascade.alpha)) + 2
    terms = min(cascade.max_steps, 2 * alone)
    reach = MARGIN * (1.0 - cascade.alpha) ** -float(min(terms, alone))
    grid = (np.arange(POINTS) - POINTS // 2) * (2.0 * reach / POINTS)
    own = np.fft.rfft(np.fft.ifftshift(_mass(x, np.full(x.size, 1.0 / x.size), grid)))
    received = _received(x, graph, grid)
    share = cascade.alpha / (1.0 - cascade.alpha)
    total = 0.0
    for t in range(terms):
        level = (1.0 - cascade.alpha) ** -float(t)
        moved = np.fft.rfft(np.fft.ifftshift(_mass(t * share * grid, received, grid)))
        density = np.fft.fftshift(np.fft.irfft(own * moved, POINTS))
        total += float(density[np.abs(grid) > level].sum()) if t else float((np.abs(x) > 1).mean())
        if level > reach:
            break
    return total * vector.size


def _mass(values: Floats, weights: Floats, grid: Floats) -> Floats:
    """Return weights at values as masses on the grid; each is shared by the two points beside it.

    Values beyond the grid lie on its ends.
    """
    step = grid[1] - grid[0]
    place = np.clip((values - grid[0]) / step, 0.0, grid.size - 1.000001)
    below = place.astype(np.intp)
    above = place - below
    lower = np.bincount(below, weights * (1.0 - above), grid.size)
    upper = np.bincount(below + 1, weights * above, grid.size)
    found: Floats = (lower + upper).astype(np.float64)
    return found


def _received(x: Floats, graph: Graph, grid: Floats) -> Floats:
    """Return the distribution of Z on the grid, of a node drawn at random."""
    unstable = _mass(np.where(np.abs(x) > 1, x, 0.0), np.full(x.size, 1.0 / x.size), grid)
    degrees, counts = np.unique(graph.degrees, return_counts=True)
    ends = degrees * counts
    one = np.zeros(grid.size)
    if not ends.sum():
        return _mass(np.zeros(1), np.ones(1), grid)
    for k, weight in zip(degrees, ends / ends.sum(), strict=True):
        if k > 0:
            one += _mass(grid / k, weight * unstable, grid)
    single = np.fft.rfft(np.fft.ifftshift(one))
    mixed = np.zeros(single.size, np.complex128)
    for k, weight in zip(degrees, counts / counts.sum(), strict=True):
        mixed += weight * single**k
    found: Floats = np.fft.fftshift(np.fft.irfft(mixed, grid.size))
    return np.clip(found, 0.0, None)
