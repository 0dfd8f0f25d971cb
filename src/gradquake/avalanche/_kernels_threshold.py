"""The quantile of magnitudes."""

from __future__ import annotations

import math

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from gradquake.avalanche._numba import Array, index, kernel

__all__ = ["bracket", "gather_between", "interpolated", "magnitude_quantile", "mark_above", "select"]

# At this many entries or more, a sample brackets the quantile, and the selection looks only at the few
# entries inside the bracket.
SAMPLE_FROM = 512


@kernel
def select(values: Array, count: int, rank: int) -> float:
    """Return the ``rank``-th smallest of the first ``count`` values; none to its right is smaller.

    Quickselect with Lomuto's partition, which needs no branch on a value: such branches are
    mispredicted. Values equal to the pivot are set apart, so that ties cost nothing.
    """
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        smaller = low
        for i in range(low, high + 1):
            value = values[i]
            values[i] = values[smaller]
            values[smaller] = value
            smaller += value < pivot
        if rank < smaller:
            high = smaller - 1
            continue
        equal = smaller
        for i in range(smaller, high + 1):
            value = values[i]
            values[i] = values[equal]
            values[equal] = value
            equal += value <= pivot
        # If the pivot is NaN, no value is smaller or equal.
        if rank < equal or equal == low:
            return pivot
        low = equal
    return values[rank]


@kernel
def interpolated(values: Array, count: int, rank: int, weight: float) -> float:
    """Interpolate between order statistics ``rank`` and ``rank + 1``, rounding as NumPy does."""
    below = np.float64(select(values, count, rank))
    if weight == 0.0 or rank + 1 == count:
        return below
    smallest = values[rank + 1]
    for i in range(rank + 2, count):
        smallest = min(smallest, values[i])
    above = np.float64(smallest)
    step = above - below
    if weight >= 0.5:
        return above - step * (1.0 - weight)
    return below + step * weight


@kernel
def mark_above(gradient: Array, level: float, marks: Array) -> None:
    """Set the bits of all entries whose magnitude is above ``level``; bit i & 63 of word i >> 6.

    Whole words have a loop of fixed length, which the compiler turns into vector comparisons.
    """
    whole = gradient.size >> 6
    for word in range(whole):
        bits = np.uint64(0)
        for i in range(64):
            bits |= np.uint64(abs(gradient[64 * word + i]) > level) << np.uint64(i)
        marks[word] = bits
    if 64 * whole < gradient.size:
        bits = np.uint64(0)
        for i in range(64 * whole, gradient.size):
            bits |= np.uint64(abs(gradient[i]) > level) << np.uint64(i & 63)
        marks[whole] = bits


@kernel
def bracket(sample: Array, size: int, quantile: float) -> tuple[float, float]:
    """Return two magnitudes, from a sample, between which the quantile lies almost surely."""
    # Three standard deviations of a binomial rank.
    margin = 3.0 * math.sqrt(size * quantile * (1.0 - quantile)) + 2.0
    low = select(sample, size, max(int(quantile * size - margin), 0))
    high = select(sample, size, min(int(quantile * size + margin), size - 1))
    return low, high


@kernel
def gather_between(gradient: Array, low: float, high: float, found: Array) -> tuple[int, int]:
    """List the magnitudes in (low, high]; return their number, and the number above ``high``.

    Returns (-1, -1) if an entry is not finite. One pass over the memory, in words of fixed length for
    vector comparisons.
    """
    finite = True
    inside, above = np.int64(0), np.int64(0)
    whole = 64 * (gradient.size >> 6)
    for start in range(0, whole, 64):
        bits = np.uint64(0)
        for i in range(64):
            magnitude = abs(gradient[start + i])
            finite &= magnitude < math.inf
            above += magnitude > high
            bits |= np.uint64((magnitude > low) & (magnitude <= high)) << np.uint64(i)
        while bits:
            found[inside] = abs(gradient[index(start) + index(trailing_zeros(bits))])
            bits &= bits - index(1)
            inside += 1
    for i in range(whole, gradient.size):
        magnitude = abs(gradient[i])
        finite &= magnitude < math.inf
        above += magnitude > high
        if low < magnitude <= high:
            found[inside] = magnitude
            inside += 1
    if not finite:
        return -1, -1
    return inside, above


@kernel
def magnitude_quantile(gradient: Array, quantile: float, scratch: Array) -> float:
    """Return ``numpy.quantile(abs(gradient), quantile)`` in float64, or NaN if an entry is not finite.

    Always exact: if the bracket misses, or the gradient is short, the selection looks at all entries.
    ``scratch`` has the gradient's size and dtype.
    """
    size = gradient.size
    position = quantile * (size - 1)
    rank = int(position)
    weight = position - rank
    low, high = -1.0, -1.0
    if size >= SAMPLE_FROM:
        sampled = int(size ** (2 / 3))
        stride = size // sampled
        for i in range(sampled):
            scratch[i] = abs(gradient[i * stride])
        low, high = bracket(scratch, sampled, quantile)
    inside, above = gather_between(gradient, low, high, scratch)
    if inside < 0:
        return math.nan
    below = size - inside - above
    if below <= rank and min(rank + 1, size - 1) < below + inside:
        return interpolated(scratch, inside, rank - below, weight)
    for i in range(size):
        scratch[i] = abs(gradient[i])
    return interpolated(scratch, size, rank, weight)
