"""Compiled loops of networks with one hidden layer."""

from __future__ import annotations

from gradquake.avalanche._numba import Array, kernel

__all__ = ["gini_of_sorted", "mlp_gradient", "mlp_hidden_inputs", "mlp_logits"]


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
    residual: Array,
    gradient: Array,
) -> None:
    """Fill ``gradient`` from the derivatives ``residual`` (4, networks) of the losses by the logits."""
    for r in range(hidden.size):
        h, p, u = hidden[r], offsets[r], first_unit[r]
        r0, r1, r2, r3 = residual[0, r], residual[1, r], residual[2, r], residual[3, r]
        for i in range(h):
            weight = parameters[p + 3 * h + i]
            a0, a1, a2, a3 = active[0, u + i], active[1, u + i], active[2, u + i], active[3, u + i]
            d0, d1 = r0 * weight * (1.0 - a0 * a0), r1 * weight * (1.0 - a1 * a1)
            d2, d3 = r2 * weight * (1.0 - a2 * a2), r3 * weight * (1.0 - a3 * a3)
            gradient[p + 2 * i] = d2 + d3
            gradient[p + 2 * i + 1] = d1 + d3
            gradient[p + 2 * h + i] = d0 + d1 + d2 + d3
            gradient[p + 3 * h + i] = r0 * a0 + r1 * a1 + r2 * a2 + r3 * a3
        gradient[p + 4 * h] = r0 + r1 + r2 + r3


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
