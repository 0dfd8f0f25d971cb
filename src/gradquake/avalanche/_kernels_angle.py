"""Sums over gradients, and the angle between two of them."""

from __future__ import annotations

import math

import numpy as np

from gradquake.avalanche._kernels_elementary import degrees
from gradquake.avalanche._numba import Array, kernel

__all__ = [
    "BLOCK", "LARGEST_SQUARE", "SMALLEST_SQUARE", "angle", "block_products", "deviation", "dissipation",
    "norms", "products",
]  # fmt: skip

# Sums of squares outside this range have lost digits to overflow or underflow.
LARGEST_SQUARE = 1e140
SMALLEST_SQUARE = 1e-140

# Sums over a gradient are exact sums of the sums of blocks of this many entries, so that they do not
# depend on how the gradient is cut.
BLOCK = 1 << 16

# Sums of squares that run side by side, for vector instructions.
LANES = 16


@kernel
def dissipation(before: Array, after: Array, indptr: Array) -> float:
    """Return the sum that nodes without neighbors have lost, which give away to nobody."""
    lost = 0.0
    for i in range(before.size):
        if indptr[i] == indptr[i + 1]:
            lost += np.float64(before[i]) - np.float64(after[i])
    return lost


@kernel
def products(before: Array, after: Array, scale: float) -> tuple[float, float, float]:
    """Return |before|^2, |after - before|^2 and before . (after - before), all times scale^2.

    Each is a sum of ``LANES`` sums, of every ``LANES``-th entry: a compiler that chose the order itself
    would choose by the width of the processor's vectors.
    """
    lanes = np.zeros((3, LANES))
    whole = before.size - before.size % LANES
    for begin in range(0, whole, LANES):
        for lane in range(LANES):
            start = scale * before[begin + lane]
            change = scale * after[begin + lane] - start
            lanes[0, lane] += start * start
            lanes[1, lane] += change * change
            lanes[2, lane] += start * change
    squared_before = squared_change = product = 0.0
    for i in range(whole, before.size):
        start = scale * before[i]
        change = scale * after[i] - start
        squared_before += start * start
        squared_change += change * change
        product += start * change
    for lane in range(LANES):
        squared_before += lanes[0, lane]
        squared_change += lanes[1, lane]
        product += lanes[2, lane]
    return squared_before, squared_change, product


@kernel
def norms(values: Array, offsets: Array, result: Array) -> None:
    """Fill ``result`` with the Euclidean norm of each segment, laid out as in ``measure_segments``."""
    for b in range(result.size):
        part = values[offsets[b] : offsets[b + 1]]
        result[b] = math.sqrt(products(part, part, 1.0)[0])


@kernel
def deviation(before: Array, after: Array) -> float:
    """Return the angle in degrees between two vectors that are not zero.

    With d = after - before, tan(angle) = sqrt(|before|^2 |d|^2 - (before . d)^2) / before . after:
    exactly 0 if nothing changed, and accurate for small angles, for which the arc cosine is not.
    """
    scale = 1.0
    for _ in range(2):
        squared, changed, product = products(before, after, scale)
        if SMALLEST_SQUARE < squared < LARGEST_SQUARE:
            break
        largest = 0.0
        for i in range(before.size):
            largest = max(largest, abs(before[i]))
        # A power of two, so that scaling a gradient by one changes nothing.
        scale = math.ldexp(1.0, -max(math.frexp(largest)[1], -1000))
    return angle(squared, changed, product)


@kernel
def angle(squared: float, changed: float, product: float) -> float:
    """Return the angle in degrees from the sums of ``products``, as ``deviation`` explains."""
    crossed = squared * changed - product * product
    return degrees(math.sqrt(max(crossed, 0.0)), squared + product)


@kernel
def block_products(before: Array, after: Array, scale: float, size: int, sums: Array) -> None:
    """Fill ``sums`` (blocks, 3) with the ``products`` of every block of ``size`` entries."""
    for b in range(sums.shape[0]):
        part = slice(b * size, (b + 1) * size)
        sums[b, 0], sums[b, 1], sums[b, 2] = products(before[part], after[part], scale)
