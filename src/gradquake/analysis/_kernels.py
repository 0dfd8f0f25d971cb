"""Compiled loops of the bootstrap."""

from __future__ import annotations

import numpy as np

from gradquake.avalanche._numba import Array, inlined, kernel


@kernel
def resampled_max(values: Array, order: Array, draws: Array, result: Array) -> None:
    """Fill ``result`` (B, columns) with the largest of the drawn rows of ``values`` (rows, columns).

    ``draws`` (B, n) holds the rows of each resample, and ``order`` (rows, columns) all rows by their
    value in each column, the largest first and NaN last: the largest value drawn is the first that
    was, which is soon found. NaN where all that were drawn are.
    """
    drawn = np.zeros(values.shape[0], np.int64)
    for b in range(draws.shape[0]):
        for k in range(draws.shape[1]):
            drawn[draws[b, k]] = b + 1
        for t in range(values.shape[1]):
            result[b, t] = np.nan
            for place in range(order.shape[0]):
                row = order[place, t]
                if drawn[row] == b + 1:
                    result[b, t] = values[row, t]
                    break


@kernel
def line_fits(x: Array, y: Array, slopes: Array, r_squared: Array) -> None:
    """Fill ``slopes`` and ``r_squared`` (M,) with the least-squares lines through M times S points.

    ``x`` (S,) are the places of the points, less their mean; ``y`` (S, M) their heights. NaN where a
    height is; R² is NaN where all heights are equal.
    """
    points = x.size
    off, product, square = np.empty(points), np.empty(points), np.empty(points)
    spread = added(x * x)
    for m in range(y.shape[1]):
        # Off the first before off the mean, so that equal heights become exact zeros.
        for k in range(points):
            off[k] = y[k, m] - y[0, m]
        mean = added(off) / points
        for k in range(points):
            height = off[k] - mean
            product[k] = x[k] * height
            square[k] = height * height
        along, total = added(product), added(square)
        slopes[m] = along / spread
        r_squared[m] = along * along / (spread * total)


@inlined
def added(values: Array) -> float:
    """Return a sum in NumPy's order for up to 128 values: in eight parts, or one if there are fewer."""
    size, total = values.size, 0.0
    whole = size - size % 8
    if whole:
        a, b, c, d = values[0], values[1], values[2], values[3]
        e, f, g, h = values[4], values[5], values[6], values[7]
        for k in range(8, whole, 8):
            a += values[k]
            b += values[k + 1]
            c += values[k + 2]
            d += values[k + 3]
            e += values[k + 4]
            f += values[k + 5]
            g += values[k + 6]
            h += values[k + 7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for k in range(whole, size):
        total += values[k]
    return total


@kernel
def times_drawn(draws: Array, taken: Array) -> None:
    """Fill ``taken`` (B, width) with how often each number below width stands in each row of draws."""
    taken[:] = 0
    for b in range(draws.shape[0]):
        for k in range(draws.shape[1]):
            taken[b, draws[b, k]] += 1
