"""Elementary functions that give the same bits on every processor."""

from __future__ import annotations

import math

import numpy as np

from gradquake.avalanche._numba import Array, inlined, kernel

__all__ = [
    "bits", "decaying", "degrees", "exponential", "log1p", "odd_series", "power_of_two", "sigmoid",
    "softplus", "tanh",
]  # fmt: skip

# The reduction of the exponential: ln 2 in two parts, the first of which times an integer is exact; and
# a number so large that the floats next to it are integers.
INVERSE_LN2 = 1.4426950408889634074
LN2_HIGH = float.fromhex("0x1.62e42feep-1")
LN2_LOW = 1.90821492927058770002e-10
SHIFT = 1.5 * 2.0**52
SHIFT_BITS = np.float64(SHIFT).view(np.int64)
SIGN_BIT = np.int64(-(2**63))
E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E13 = (1 / math.factorial(n) for n in range(2, 14))


@inlined
def bits(number: float) -> int:
    """Return the bits of a float64 as an integer."""
    return np.float64(number).view(np.int64)


@inlined
def power_of_two(exponent: int) -> float:
    """Return 2^exponent, for exponents of normal numbers."""
    return np.int64((exponent + 1023) << 52).view(np.float64)


@inlined
def exponential(x: float) -> tuple[int, float, float]:
    """Return k, high and low, such that e^x = 2^k (high + low) with an error under 2^-56, for |x| < 1e5.

    Cody and Waite's reduction x = k ln 2 + r, |r| <= ln(2) / 2, and the Taylor series of e^r. There is
    no branch, so that a loop around it becomes vector instructions.
    """
    # The sum has no bits left for a fraction: it rounds to the nearest integer.
    shifted = x * INVERSE_LN2 + SHIFT
    k = shifted - SHIFT
    head = x - k * LN2_HIGH
    tail = k * LN2_LOW
    r = head - tail
    r2 = r * r
    r4 = r2 * r2
    # In pairs, so that no step waits for the one before.
    s = (E2 + E3 * r) + (E4 + E5 * r) * r2
    s += ((E6 + E7 * r) + (E8 + E9 * r) * r2) * r4
    s += ((E10 + E11 * r) + (E12 + E13 * r) * r2) * (r4 * r4)
    small = r2 * s + ((head - r) - tail)
    high = 1.0 + (r + small)
    return bits(shifted) - SHIFT_BITS, high, ((1.0 - high) + r) + small


@kernel
def tanh(values: Array) -> None:
    """Replace each value by its hyperbolic tangent; the error is under 0.8 units in the last place.

    Below 0.55 it is x - x^3 / (3 + x^2 + x^2 / (5 + x^2 / (7 + ... 15))), Lambert's continued
    fraction, and above it 1 - 2 / (e^(2 x) + 1), with the rounding errors of the sums added at the end.
    There is no branch and one division.
    """
    for i in range(values.size):
        value = values[i]
        x = abs(value)
        z = x * x
        # Above 20 the result is 1 to the last bit; NaN stays NaN.
        k, high, low = exponential(40.0 if x > 20.0 else 2.0 * x)
        scale = power_of_two(k)
        above_one = scale * high + 1.0
        lost = (1.0 - (above_one - scale * high)) + scale * low
        near = x < 0.55
        start = x if near else 1.0
        numerator = x * z * (((z + 594.0) * z + 45045.0) * z + 675675.0) if near else 2.0
        denominator = (((z + 630.0) * z + 51975.0) * z + 945945.0) * z + 2027025.0 if near else above_one
        taken = numerator / denominator
        correction = 0.0 if near else 0.5 * taken * taken * lost
        result = start - taken
        result += ((start - result) - taken) + correction
        values[i] = np.int64(bits(result) | (bits(value) & SIGN_BIT)).view(np.float64)


@inlined
def decaying(x: float) -> float:
    """Return e^-|x|."""
    k, high, low = exponential(-800.0 if abs(x) > 800.0 else -abs(x))
    # In two steps, which subnormal results need.
    return (high + low) * power_of_two(k >> 1) * power_of_two(k - (k >> 1))


@inlined
def odd_series(z: float, terms: int) -> float:
    """Return z/3 + z^2/5 + ...: of artanh(s) / s - 1 at z = s^2, and of arctan(s) / s - 1 at -s^2."""
    total = 0.0
    for n in range(terms, 0, -1):
        total = z * (1.0 / (2 * n + 1) + total)
    return total


@kernel
def log1p(x: float) -> float:
    """Return log(1 + x) for -1 < x <= 1; the error is under 1 unit in the last place."""
    # 1 + x = 2^k (1 + f), and f is exact.
    k, f = np.int64(0), x
    if x < -0.5:
        whole = 1.0 + x
        k = (bits(whole) - bits(0.75)) >> 52
        f = whole * power_of_two(-k) - 1.0
    elif x > 0.5:
        k, f = np.int64(1), 0.5 * (x - 1.0)
    # 2 artanh(s), with f and half its square apart: they are nearly all of it.
    s = f / (2.0 + f)
    half = 0.5 * f * f
    rest = s * (half + 2.0 * odd_series(s * s, 16))
    return k * LN2_HIGH - ((half - (rest + k * LN2_LOW)) - f)


@kernel
def sigmoid(values: Array) -> None:
    """Replace each value x by 1 / (1 + e^-x); the error is under 2 units in the last place."""
    for i in range(values.size):
        small = decaying(values[i])
        whole = 1.0 + small
        lost = small - (whole - 1.0)
        quotient = (small if values[i] < 0.0 else 1.0) / whole
        values[i] = quotient - quotient * lost / whole


@kernel
def softplus(values: Array) -> None:
    """Replace each value x by log(1 + e^x); the error is under 2 units in the last place."""
    for i in range(values.size):
        values[i] = max(values[i], 0.0) + log1p(decaying(values[i]))


@kernel
def degrees(y: float, x: float) -> float:
    """Return the angle of (x, y) to the x axis for y >= 0, and 0 at the origin.

    The error is under 3 units in the last place.
    """
    steep = y > abs(x)
    short, long = (abs(x), y) if steep else (y, abs(x))
    if long == 0.0:
        return 0.0
    # Above 22.5 degrees, relative to the diagonal.
    turned = short > long * 0.4142135623730950488
    s = (short - long) / (short + long) if turned else short / long
    angle = (s + s * odd_series(-s * s, 21)) * 57.295779513082320877
    result = 45.0 + angle if turned else angle
    result = 90.0 - result if steep else result
    return 180.0 - result if x < 0.0 else result
