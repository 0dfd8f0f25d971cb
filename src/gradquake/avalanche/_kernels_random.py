"""Random numbers and random permutations."""

from __future__ import annotations

import math

import numpy as np

from gradquake.avalanche._kernels_elementary import decaying, log1p
from gradquake.avalanche._numba import Array, index, inlined, kernel

__all__ = [
    "next_random", "normals", "permuted", "random_below", "scrambled", "shuffle_into", "uniform",
    "unpermuted", "ziggurat_tables",
]  # fmt: skip

# The start of the ziggurat's tail, and the area of each of its 256 layers under e^(-x^2 / 2).
TAIL = 3.6541528853610088
AREA = 0.00492867323397465524494


@inlined
def uniform(word: int) -> float:
    """Return a number in [0, 1) from 64 random bits, as NumPy does."""
    return (word >> index(11)) * 2.0**-53


@kernel
def ziggurat_tables(widths: Array, limits: Array, heights: Array) -> None:
    """Fill the tables of ``normals``: width over 2^52, limit of the inside, and height of each layer.

    The layers have equal areas, from the tail (0) and the bottom (255) up to the top (1).
    """
    edge, height = TAIL, decaying(0.5 * TAIL * TAIL)
    widths[0], limits[0], heights[0] = (
        AREA / height * 2.0**-52,
        index(TAIL * height / AREA * 2.0**52),
        1.0,
    )
    widths[255], heights[255] = edge * 2.0**-52, height
    for i in range(254, 0, -1):
        # The logarithm of a number below 1.
        above = math.sqrt(-2.0 * log1p((AREA / edge + height) - 1.0))
        limits[i + 1] = index(above / edge * 2.0**52)
        edge, height = above, decaying(0.5 * above * above)
        widths[i], heights[i] = edge * 2.0**-52, height
    limits[1] = 0


@kernel
def normals(
    words: Array, widths: Array, limits: Array, heights: Array, values: Array
) -> tuple[int, int]:
    """Fill ``values`` with standard normal numbers from random words, until the words are used up.

    The ziggurat of G. Marsaglia and W. W. Tsang (J. Stat. Softw. 5, 8 (2000)) as in NumPy: the same
    words give the same numbers up to rounding. Returns the number of values filled and of words used.
    """
    used = 0
    for i in range(values.size):
        begin = used
        while True:
            # One pass takes at most 3 words, except in the tail.
            if used + 3 > words.size:
                return i, begin
            word = words[used]
            used += 1
            layer = word & index(0xFF)
            magnitude = (word >> index(9)) & index(0xFFFFFFFFFFFFF)
            x = magnitude * widths[layer]
            if word & index(0x100):
                x = -x
            if magnitude < limits[layer]:
                break
            if layer > 0:
                height = (heights[layer - 1] - heights[layer]) * uniform(words[used]) + heights[layer]
                used += 1
                if height < decaying(0.5 * x * x):
                    break
                continue
            beyond, other = 0.0, 0.0
            while other + other <= beyond * beyond:
                if used + 2 > words.size:
                    return i, begin
                beyond = -log1p(-uniform(words[used])) / TAIL
                other = -log1p(-uniform(words[used + 1]))
                used += 2
            x = -(TAIL + beyond) if magnitude & index(0x100) else TAIL + beyond
            break
        values[i] = x
    return values.size, used


@inlined
def next_random(state: Array) -> np.uint64:
    """Advance ``state[0]`` and return 64 random bits (SplitMix64; Steele, Lea and Flood 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inlined
def random_below(bound: int, state: Array) -> int:
    """Return a random integer in [0, bound) for bound < 2^53."""
    return int((next_random(state) >> np.uint64(11)) * 2.0**-53 * bound)


# Permutations


@kernel
def shuffle_into(values: Array, seed: int, ends: Array, shuffled: Array) -> None:
    """Fill ``shuffled`` with the values in random order; all orders are equally likely.

    Every value goes to a random bucket, and every bucket is shuffled (C. R. Rao, Sankhya 23, 305 (1961);
    M. Sandelius, J. R. Stat. Soc. B 24, 479 (1962)). A bucket fits into the caches, which a shuffle of
    all values does not. ``ends`` is scratch, a number for each bucket.
    """
    state = np.empty(1, np.uint64)
    state[0] = seed
    ends[:] = 0
    for _ in range(values.size):
        ends[index(random_below(ends.size, state))] += 1
    total = np.int64(0)
    for b in range(ends.size):
        total, ends[b] = total + ends[b], total
    # The same random numbers again, instead of memory for them.
    state[0] = seed
    for i in range(values.size):
        b = index(random_below(ends.size, state))
        shuffled[index(ends[b])] = values[i]
        ends[b] += 1
    first = np.int64(0)
    for b in range(ends.size):
        for i in range(ends[b] - 1, first, -1):
            j = index(first + random_below(i + 1 - first, state))
            value = shuffled[index(i)]
            shuffled[index(i)] = shuffled[j]
            shuffled[j] = value
        first = ends[b]


@inlined
def scrambled(value: int, key: int) -> int:
    """Return 31 bits that depend on all bits of ``value`` and ``key``."""
    return ((value ^ key) * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(33)


@kernel
def permuted(x: int, n: int, keys: Array) -> int:
    """Return the image of ``x`` under the permutation of 0..n - 1 that ``keys`` choose.

    A Feistel network on as few bits as n needs, applied until the result is below n (J. Black and
    P. Rogaway, Ciphers with arbitrary finite domains, 2002). The first two keys are the number of bits
    in the lower half of a number, and the mask of the higher half.
    """
    low_bits, high_mask = keys[0], keys[1]
    low_mask = (index(1) << low_bits) - index(1)
    while True:
        low, high = x & low_mask, x >> low_bits
        for r in range(2, keys.size, 2):
            low ^= scrambled(high, keys[r]) & low_mask
            high ^= scrambled(low, keys[r + 1]) & high_mask
        x = high << low_bits | low
        if x < n:
            return x


@kernel
def unpermuted(x: int, n: int, keys: Array) -> int:
    """Return the number that ``permuted`` maps to ``x``."""
    low_bits, high_mask = keys[0], keys[1]
    low_mask = (index(1) << low_bits) - index(1)
    while True:
        low, high = x & low_mask, x >> low_bits
        for r in range(keys.size - 2, 1, -2):
            high ^= scrambled(low, keys[r + 1]) & high_mask
            low ^= scrambled(high, keys[r]) & low_mask
        x = high << low_bits | low
        if x < n:
            return x
