"""Sums over gradients that are the same however a gradient is cut.

Blocks of ``BLOCK`` entries are summed one by one, and their sums are added exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche import _kernels_angle

__all__ = ["STRETCH", "Gradient", "angle", "angle_between", "dissipations", "exact_sum", "products"]

Gradient = NDArray[np.floating[Any]]

# The most entries that one call of a kernel takes, whole blocks. After each call, a thread waits for the
# GIL, for up to 5 ms if a training holds it.
STRETCH = 64 * _kernels_angle.BLOCK


def products(before: Gradient, after: Gradient, scale: float) -> NDArray[np.float64]:
    """Return for every block the sums that make the angle, shape (blocks, 3).

    They are those of ``_kernels_angle.products``, of gradients of any length.
    """
    sums = np.empty((-(-before.size // _kernels_angle.BLOCK), 3))
    _kernels_angle.block_products(before, after, scale, _kernels_angle.BLOCK, sums)
    return sums


def dissipations(before: Gradient, after: Gradient, indptr: Any) -> list[float]:
    """Return the sum that nodes without neighbors have lost, for every block."""
    return [
        _kernels_angle.dissipation(before[i : i + n], after[i : i + n], indptr[i:])
        for n in [_kernels_angle.BLOCK]
        for i in range(0, before.size, n)
    ]


def exact_sum(numbers: Iterable[float]) -> float:
    """Return the correctly rounded sum; infinity if the sum or any number is not finite."""
    try:
        total = math.fsum(numbers)
    except (OverflowError, ValueError):
        return math.inf
    return total if math.isfinite(total) else math.inf


def angle_between(before: Gradient, after: Gradient) -> float:
    """Return the angle in degrees between two gradients of any length."""

    def sums_at(scale: float) -> list[float]:
        return [exact_sum(column) for column in products(before, after, scale).T]

    return angle(sums_at, lambda: float(np.abs(before).max()))


def angle(sums_at: Callable[[float], Sequence[float]], largest: Callable[[], float]) -> float:
    """Return the angle in degrees from exact sums, NaN if the cascade overflowed.

    As ``_kernels_angle.deviation`` does for one block: ``sums_at(scale)`` gives the sums of the scaled
    gradients, and ``largest()`` the largest magnitude, by which they are scaled if a square would be
    infinite or 0.
    """
    sums = sums_at(1.0)
    if not _kernels_angle.SMALLEST_SQUARE < sums[0] < _kernels_angle.LARGEST_SQUARE:
        sums = sums_at(math.ldexp(1.0, -max(math.frexp(largest())[1], -1000)))
    degrees: float = _kernels_angle.angle(*sums)
    return degrees if all(map(math.isfinite, sums)) else math.nan
