"""Compiled loops of networks with one hidden layer."""

from __future__ import annotations

import math

import numpy as np

from gradquake.avalanche._numba import Array, kernel

__all__ = [
    "gini_of_sorted", "is_positive_definite", "mlp_gradient", "mlp_hessian", "mlp_hidden_inputs",
    "mlp_logits", "mlp_sharpness",
]  # fmt: skip


@kernel
def mlp_hidden_inputs(
    parameters: Array, offsets: Array, first_unit: Array, hidden: Array, inputs: Array
) -> None:
    """Fill ``inputs`` (4, units) with the inputs of the hidden units of 2-h-1 networks on XOR's samples.

    The parameters of network r begin at ``offsets[r]``, in the order W1 (row by row), b1, W2, b2. Its
    ``hidden[r]`` units begin at ``first_unit[r]``.
    """
    for r in range(hidden.size):
        h, p, u = hidden[r], offsets[r], first_unit[r]
        for i in range(h):
            first, second = parameters[p + 2 * i], parameters[p + 2 * i + 1]
            bias = parameters[p + 2 * h + i]
            inputs[0, u + i] = bias
            inputs[1, u + i] = second + bias
            inputs[2, u + i] = first + bias
            inputs[3, u + i] = first + second + bias


@kernel
def mlp_logits(
    parameters: Array, offsets: Array, first_unit: Array, hidden: Array, active: Array, logits: Array
) -> None:
    """Fill ``logits`` (4, networks) from the hidden activations ``active`` (4, units)."""
    for r in range(hidden.size):
        h, p, u = hidden[r], offsets[r], first_unit[r]
        z0 = z1 = z2 = z3 = 0.0
        for i in range(h):
            weight = parameters[p + 3 * h + i]
            z0 += weight * active[0, u + i]
            z1 += weight * active[1, u + i]
            z2 += weight * active[2, u + i]
            z3 += weight * active[3, u + i]
        bias = parameters[p + 4 * h]
        logits[0, r], logits[1, r] = z0 + bias, z1 + bias
        logits[2, r], logits[3, r] = z2 + bias, z3 + bias


@kernel
def mlp_gradient(
    parameters: Array,
    offsets: Array,
    first_unit: Array,
    hidden: Array,
    active: Array,
    slope: Array,
    residual: Array,
    gradient: Array,
) -> None:
    """Fill ``gradient`` from the derivatives ``residual`` (4, networks) of the losses by the logits.

    ``slope`` (4, units) holds the derivatives of the activations by their inputs.
    """
    for r in range(hidden.size):
        h, p, u = hidden[r], offsets[r], first_unit[r]
        r0, r1, r2, r3 = residual[0, r], residual[1, r], residual[2, r], residual[3, r]
        for i in range(h):
            weight = parameters[p + 3 * h + i]
            a0, a1, a2, a3 = active[0, u + i], active[1, u + i], active[2, u + i], active[3, u + i]
            d0, d1 = r0 * weight * slope[0, u + i], r1 * weight * slope[1, u + i]
            d2, d3 = r2 * weight * slope[2, u + i], r3 * weight * slope[3, u + i]
            gradient[p + 2 * i] = d2 + d3
            gradient[p + 2 * i + 1] = d1 + d3
            gradient[p + 2 * h + i] = d0 + d1 + d2 + d3
            gradient[p + 3 * h + i] = r0 * a0 + r1 * a1 + r2 * a2 + r3 * a3
        gradient[p + 4 * h] = r0 + r1 + r2 + r3


@kernel
def mlp_hessian(
    parameters: Array,
    offsets: Array,
    first_unit: Array,
    hidden: Array,
    active: Array,
    slope: Array,
    curvature: Array,
    residual: Array,
    root: Array,
    blocks: Array,
    columns: Array,
) -> None:
    """Fill the Hessian's ``blocks`` and ``columns``, (units, 4, 4) each; see ``Networks.sharpness``.

    ``curvature`` (4, units) holds the second derivatives of the activations, ``root`` (4, networks) the
    square roots of the second derivatives of the losses by the logits. A unit's four parameters are its
    two input weights, its bias and its output weight.
    """
    for r in range(hidden.size):
        p, h = offsets[r], hidden[r]
        for i in range(h):
            u = first_unit[r] + i
            weight = parameters[p + 3 * h + i]
            block, column = blocks[u], columns[u]
            block[:] = 0.0
            for s in range(4):
                x = (1.0 if s >= 2 else 0.0, 1.0 if s % 2 else 0.0, 1.0)
                bend = residual[s, r] * weight * curvature[s, u]
                turn = residual[s, r] * slope[s, u]
                for a in range(3):
                    for b in range(3):
                        block[a, b] += bend * (x[a] * x[b])
                    block[a, 3] += turn * x[a]
                    block[3, a] += turn * x[a]
                    column[a, s] = root[s, r] * weight * slope[s, u] * x[a]
                column[3, s] = root[s, r] * active[s, u]


@kernel
def is_positive_definite(matrix: Array) -> bool:
    """Return whether a symmetric matrix is positive definite; replace its lower triangle by its root."""
    for a in range(len(matrix)):
        for b in range(a + 1):
            total = matrix[a, b]
            for c in range(b):
                total -= matrix[a, c] * matrix[b, c]
            if a > b:
                matrix[a, b] = total / matrix[b, b]
            elif total > 0.0:
                matrix[a, a] = math.sqrt(total)
            else:
                return False
    return True


@kernel
def _is_above(level: float, blocks: Array, columns: Array, root: Array) -> bool:
    """Return whether ``level`` is above all eigenvalues: whether level - B - J J^T has a root.

    It has if all blocks of level - B have, and 1 - J^T (level - B)^-1 J, of 4 x 4, has.
    """
    shifted, rest = np.empty((4, 4)), np.empty((4, 4))
    for s in range(4):
        for t in range(4):
            rest[s, t] = (1.0 if s == t else 0.0) - root[s] * root[t] / level
    for u in range(len(blocks)):
        for a in range(4):
            for b in range(4):
                shifted[a, b] = (level if a == b else 0.0) - blocks[u, a, b]
        if not is_positive_definite(shifted):
            return False
        # The lower triangle is now Cholesky's factor L; solve L y = J.
        solved = columns[u].copy()
        for s in range(4):
            for a in range(4):
                for b in range(a):
                    solved[a, s] -= shifted[a, b] * solved[b, s]
                solved[a, s] /= shifted[a, a]
        for s in range(4):
            for t in range(4):
                for a in range(4):
                    rest[s, t] -= solved[a, s] * solved[a, t]
    return is_positive_definite(rest)


@kernel
def mlp_sharpness(
    first_unit: Array, hidden: Array, blocks: Array, columns: Array, root: Array, largest: Array
) -> None:
    """Fill ``largest`` (networks,) with the largest eigenvalues of Hessians, by bisection."""
    for r in range(hidden.size):
        first, last = first_unit[r], first_unit[r] + hidden[r]
        bias = 0.0
        for s in range(4):
            bias += root[s, r] * root[s, r]
        # The largest diagonal element is a lower bound. The largest row sum of a block plus the trace of
        # J J^T is an upper one.
        low, trace, of_blocks = bias, bias, 0.0
        for u in range(first, last):
            for a in range(4):
                squares = row = 0.0
                for s in range(4):
                    squares += columns[u, a, s] * columns[u, a, s]
                    row += abs(blocks[u, a, s])
                low = max(low, blocks[u, a, a] + squares)
                trace += squares
                of_blocks = max(of_blocks, row)
        high = of_blocks + trace
        while high - low > 1e-12 * high:
            middle = 0.5 * (low + high)
            if _is_above(middle, blocks[first:last], columns[first:last], root[:, r]):
                high = middle
            else:
                low = middle
        largest[r] = 0.5 * (low + high)


@kernel
def gini_of_sorted(ascending: Array, result: Array) -> None:
    """Fill ``result`` with the Gini coefficient of each row of magnitudes in ascending order."""
    rows, n = ascending.shape
    for row in range(rows):
        total = ranked = 0.0
        for i in range(n):
            total += ascending[row, i]
            ranked += (2 * i + 1 - n) * ascending[row, i]
        result[row] = ranked / (n * total if total > 0.0 else 1.0)
