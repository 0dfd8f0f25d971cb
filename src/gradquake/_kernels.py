"""Compiled loops: arrays in, arrays out, no checks, no classes.

Every function here has a naive twin in ``tests/test_kernels.py``. All of them release the GIL, so that
a batch can be shared among threads, and their sums run in a fixed order: one input gives one result,
bit for bit, on one kind of processor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

Array = NDArray[Any]

# From this many entries on, a sample brackets the quantile so that only the few entries inside the
# bracket are selected from.
SAMPLE_FROM = 512

# Sums of squares outside this range have lost digits to overflow or underflow somewhere.
LARGEST_SQUARE = 1e140
SMALLEST_SQUARE = 1e-140

# A step in which at least one node in this many topples is dense.
DENSE = 128

# An unsigned index spares the compiled code the test for Python's indices from the end.
index = np.uint64

kernel = njit(cache=True, nogil=True, error_model="numpy")
# For what is small and called inside other kernels: it is then compiled with them, not besides.
inlined = njit(cache=True, nogil=True, error_model="numpy", inline="always")


@kernel
def select(values: Array, count: int, rank: int) -> float:
    """Return the ``rank``-th smallest of the first ``count`` values, with no smaller one to its right.

    Quickselect with Lomuto's partition, which needs no branch on a value: what is random is badly
    predicted. Values equal to the pivot are set apart, so that ties cost nothing.
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
        if rank < equal:
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

    Whole words in a loop of fixed length, which the compiler turns into vector comparisons.
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


@inlined
def all_finite(gradient: Array) -> bool:
    """Return whether no entry is NaN or infinite."""
    finite = True
    for i in range(gradient.size):
        finite &= abs(gradient[i]) < math.inf
    return finite


@kernel
def bracket(gradient: Array, quantile: float, scratch: Array) -> tuple[float, float]:
    """Return magnitudes between which the quantile lies almost surely, judged from n^(2/3) entries."""
    size = int(gradient.size ** (2 / 3))
    stride = gradient.size // size
    for i in range(size):
        scratch[i] = abs(gradient[i * stride])
    # Three standard deviations of a binomial rank.
    margin = 3.0 * math.sqrt(size * quantile * (1.0 - quantile)) + 2.0
    low = select(scratch, size, max(int(quantile * size - margin), 0))
    high = select(scratch, size, min(int(quantile * size + margin), size - 1))
    return low, high


@kernel
def magnitude_quantile(gradient: Array, quantile: float, scratch: Array, marks: Array) -> float:
    """Return ``numpy.quantile(abs(gradient), quantile)`` in float64, or NaN if an entry is not finite.

    Exact whatever the bracket: where it misses (or the gradient is short), all entries are selected
    from. ``scratch`` has the gradient's size and dtype, ``marks`` a bit for each entry.
    """
    size = gradient.size
    if not all_finite(gradient):
        return math.nan
    position = quantile * (size - 1)
    rank = int(position)
    weight = position - rank
    count = np.int64(0)
    if size >= SAMPLE_FROM:
        low, high = bracket(gradient, quantile, scratch)
        mark_above(gradient, low, marks)
        inside, above = np.int64(0), np.int64(0)
        for word in range((size + 63) >> 6):
            remaining = marks[word]
            while remaining:
                i = index(64 * word) + index(trailing_zeros(remaining))
                remaining &= remaining - index(1)
                magnitude = abs(gradient[i])
                scratch[inside] = magnitude
                inside += magnitude <= high
                above += magnitude > high
        below = size - inside - above
        if below <= rank and min(rank + 1, size - 1) < below + inside:
            count, rank = inside, rank - below
    if count == 0:
        count = size
        for i in range(size):
            scratch[i] = abs(gradient[i])
    return interpolated(scratch, count, rank, weight)


@kernel
def collect(gradient: Array, threshold: float, marks: Array, pages: Array, nodes: Array) -> int:
    """List the marked nodes that are unstable in ascending order, clear all marks, return how many.

    A page stands for 64 words of marks, or 4,096 nodes, so that passing over what is not marked
    costs next to nothing.
    """
    count = 0
    words = (gradient.size + 63) >> 6
    for page in range((words + 63) >> 6):
        if not pages[page]:
            continue
        pages[page] = 0
        for word in range(64 * page, min(64 * page + 64, words)):
            remaining = marks[word]
            marks[word] = 0
            while remaining:
                node = index(64 * word) + index(trailing_zeros(remaining))
                remaining &= remaining - index(1)
                nodes[count] = node
                count += abs(gradient[node]) > threshold
    return count


@kernel
def cascade(
    gradient: Array,
    indptr: Array,
    indices: Array,
    threshold: float,
    alpha: float,
    keep: float,
    max_steps: int,
    marks: Array,
    toppled: Array,
    pages: Array,
    unstable: Array,
    share: Array,
) -> tuple[int, int, int, int, int, float]:
    """Relax ``gradient`` in place: all unstable nodes topple at once, step by step.

    Every node receives its neighbours' shares one at a time in ascending order of the neighbour, so
    the result does not depend on how the unstable nodes were found. ``alpha`` and ``keep`` =
    1 - alpha come in the gradient's own precision. The last five arrays are scratch: a bit a node, a
    bit a node, a byte a page, an index and a number of the gradient's dtype a node. Returns size,
    duration, area, peak, the number of nodes still unstable, and the sum lost at nodes without
    neighbours.
    """
    one = index(1)
    words = (gradient.size + 63) >> 6
    for word in range(words):
        toppled[word] = 0
    size = duration = area = peak = 0
    dissipated = 0.0
    dense = True
    while True:
        if dense:
            mark_above(gradient, threshold, marks)
            for page in range((words + 63) >> 6):
                pages[page] = 1
        # A node marked on the way may have been pulled back below by a later share.
        count = collect(gradient, threshold, marks, pages, unstable)
        if count == 0 or duration == max_steps:
            break
        # Where many topple it is cheaper to look at all nodes afterwards, which runs through memory in
        # order, than to mark what rises above the threshold on the way, which branches.
        dense = DENSE * count >= gradient.size
        for k in range(index(count)):
            i = index(unstable[k])
            before = gradient[i]
            degree = indptr[i + one] - indptr[i]
            moved = alpha * before
            if degree > 0:
                share[k] = moved / degree
            else:
                dissipated += moved
            after = keep * before
            gradient[i] = after
            word, shift = i >> index(6), i & index(63)
            area += 1 - np.int64((toppled[word] >> shift) & one)
            toppled[word] |= one << shift
            if not dense and abs(after) > threshold:
                marks[word] |= one << shift
                pages[i >> index(12)] = 1
        if dense:
            for k in range(index(count)):
                i, given = index(unstable[k]), share[k]
                for edge in range(index(indptr[i]), index(indptr[i + one])):
                    gradient[index(indices[edge])] += given
        else:
            for k in range(index(count)):
                i, given = index(unstable[k]), share[k]
                for edge in range(index(indptr[i]), index(indptr[i + one])):
                    j = index(indices[edge])
                    after = gradient[j] + given
                    gradient[j] = after
                    if abs(after) > threshold:
                        marks[j >> index(6)] |= one << (j & index(63))
                        pages[j >> index(12)] = 1
        size += count
        peak = max(peak, count)
        duration += 1
    return size, duration, area, peak, count, dissipated


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
def products(before: Array, after: Array, scale: float) -> tuple[float, float, float]:
    """Return |before|^2, |after - before|^2 and before . (after - before), all times scale^2."""
    squared_before = squared_change = product = 0.0
    for i in range(before.size):
        start = scale * before[i]
        change = scale * after[i] - start
        squared_before += start * start
        squared_change += change * change
        product += start * change
    return squared_before, squared_change, product


@kernel
def deviation(before: Array, after: Array) -> float:
    """Return the angle in degrees between two vectors that are not zero.

    With d = after - before, tan(angle) = sqrt(|before|^2 |d|^2 - (before . d)^2) / before . after:
    exactly 0 where nothing changed, and accurate for small angles where the arc cosine is not.
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
    crossed = squared * changed - product * product
    return math.degrees(math.atan2(math.sqrt(max(crossed, 0.0)), squared + product))


@kernel
def measure_segments(
    gradient: Array,
    relaxed: Array,
    offsets: Array,
    rows: Array,
    indptr: Array,
    indices: Array,
    alpha: float,
    keep: float,
    quantile: float,
    max_steps: int,
    angles: bool,
    first: int,
    last: int,
    outcome: Array,
    marks: Array,
    toppled: Array,
    pages: Array,
    unstable: Array,
    share: Array,
) -> int:
    """Threshold and relax segments ``first`` to ``last`` of a batch laid end to end.

    Segment b is ``gradient[offsets[b]:offsets[b + 1]]``; its graph is ``indptr`` from ``rows[b]`` on
    and ``indices``, numbered within the segment. Columns of ``outcome``: threshold (given where
    ``quantile`` is negative; NaN comes back where the gradient is not finite), size, duration, area,
    peak, still unstable, dissipated, deviation (where ``angles`` are wanted). The last five arrays
    are the scratch of ``cascade``, enough for the longest segment. Returns the first segment that is
    not finite, before or after, or -1.
    """
    broken = -1
    for b in range(first, last):
        start, stop = offsets[b], offsets[b + 1]
        original, moving = gradient[start:stop], relaxed[start:stop]
        if quantile >= 0.0:
            # The relaxed gradient is not there yet: its place is free to select in.
            outcome[b, 0] = magnitude_quantile(original, quantile, moving, marks)
            if math.isnan(outcome[b, 0]):
                broken = b if broken < 0 else broken
                continue
        for i in range(original.size):
            moving[i] = original[i]
        pointers = indptr[rows[b] : rows[b] + moving.size + 1]
        size, duration, area, peak, remaining, dissipated = cascade(
            moving, pointers, indices, outcome[b, 0], alpha, keep, max_steps,
            marks, toppled, pages, unstable, share,
        )  # fmt: skip
        outcome[b, 1], outcome[b, 2], outcome[b, 3] = size, duration, area
        outcome[b, 4], outcome[b, 5], outcome[b, 6] = peak, remaining, dissipated
        outcome[b, 7] = deviation(original, moving) if angles and size > 0 else 0.0
        if math.isnan(outcome[b, 7]):
            broken = b if broken < 0 else broken
    return broken


@kernel
def resampled_max(values: Array, draws: Array, result: Array) -> None:
    """Fill ``result`` (B, columns) with the largest of the drawn rows of ``values`` (rows, columns).

    ``draws`` (B, n) holds the rows of each resample. NaN entries are passed over; where a column has
    no finite entry, it is NaN.
    """
    for b in range(draws.shape[0]):
        for t in range(values.shape[1]):
            result[b, t] = -np.inf
        for k in range(draws.shape[1]):
            row = draws[b, k]
            for t in range(values.shape[1]):
                if values[row, t] > result[b, t]:
                    result[b, t] = values[row, t]
        for t in range(values.shape[1]):
            if result[b, t] == -np.inf:
                result[b, t] = np.nan


@kernel
def resampled_mean(values: Array, draws: Array, result: Array) -> None:
    """Fill ``result`` with the mean of the drawn rows; everything else as in ``resampled_max``."""
    count = np.empty(values.shape[1])
    for b in range(draws.shape[0]):
        for t in range(values.shape[1]):
            result[b, t] = 0.0
            count[t] = 0.0
        for k in range(draws.shape[1]):
            row = draws[b, k]
            for t in range(values.shape[1]):
                known = values[row, t] == values[row, t]
                result[b, t] += values[row, t] if known else 0.0
                count[t] += known
        for t in range(values.shape[1]):
            result[b, t] = result[b, t] / count[t] if count[t] > 0.0 else np.nan


@kernel
def mlp_hidden_inputs(
    parameters: Array, offsets: Array, first_unit: Array, hidden: Array, inputs: Array
) -> None:
    """Fill ``inputs`` (4, units) with what the hidden units of 2-h-1 networks get on XOR's samples.

    Network r has its parameters from ``offsets[r]`` on, in the order W1 (row by row), b1, W2, b2, and
    its ``hidden[r]`` units from ``first_unit[r]`` on.
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


@kernel
def adjacency(
    sources: Array, targets: Array, indptr: Array, indices: Array, cursor: Array, unsorted: Array
) -> None:
    """Fill the CSR arrays of the undirected edges (sources[e], targets[e]), rows ascending.

    ``indptr`` comes as zeros; ``cursor`` (a number a node) and ``unsorted`` (like ``indices``) are
    scratch. The rows are filled by counting, in any order, and a transposition (of a symmetric
    matrix: itself) sorts them, so that the cost is linear.
    """
    nodes = indptr.size - 1
    for e in range(sources.size):
        indptr[sources[e] + 1] += 1
        indptr[targets[e] + 1] += 1
    for i in range(nodes):
        cursor[i] = indptr[i]
        indptr[i + 1] += indptr[i]
    for e in range(sources.size):
        i, j = sources[e], targets[e]
        unsorted[cursor[i]] = j
        cursor[i] += 1
        unsorted[cursor[j]] = i
        cursor[j] += 1
    for i in range(nodes):
        cursor[i] = indptr[i]
    for i in range(nodes):
        for e in range(indptr[i], indptr[i + 1]):
            j = unsorted[e]
            indices[cursor[j]] = i
            cursor[j] += 1


@kernel
def find_defect(indptr: Array, indices: Array, cursor: Array) -> tuple[int, int, int]:
    """Return (kind, i, j) of the first defect of a CSR adjacency, kind 0 where there is none.

    Kinds: 1 neighbour out of range, 2 self-loop, 3 duplicate, 4 row not ascending, 5 not symmetric
    (j in row i, not i in row j). With ascending rows, walking all rows in order must visit every
    row's entries in order too; so one cursor a row, which comes as a copy of the rows' starts,
    decides symmetry in linear time.
    """
    nodes = indptr.size - 1
    for i in range(nodes):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if j < 0 or j >= nodes:
                return 1, i, j
            if j == i:
                return 2, i, j
            if e > indptr[i] and indices[e - 1] == j:
                return 3, i, j
            if e > indptr[i] and indices[e - 1] > j:
                return 4, i, j
    for i in range(nodes):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if cursor[j] == indptr[j + 1] or indices[cursor[j]] > i:
                return 5, i, j
            if indices[cursor[j]] < i:
                return 5, j, indices[cursor[j]]
            cursor[j] += 1
    return 0, 0, 0


@kernel
def barabasi_albert_edges(m: int, state: Array, sources: Array, targets: Array) -> None:
    """Grow a preferential-attachment graph from a star on m + 1 nodes.

    A uniform choice among the ends of all edges so far is a choice of a node by its degree.
    """
    for e in range(m):
        sources[e], targets[e] = 0, e + 1
    node = m + 1
    for first in range(m, sources.size, m):
        for e in range(first, first + m):
            fresh = False
            while not fresh:
                end = random_below(2 * first, state)
                chosen = sources[end >> 1] if end & 1 else targets[end >> 1]
                fresh = True
                for other in range(first, e):
                    fresh = fresh and targets[other] != chosen
            sources[e], targets[e] = node, chosen
        node += 1


@kernel
def rewire_ring(probability: float, state: Array, ends: Array) -> None:
    """Rewire the far end of each edge of a ring with some probability (Watts and Strogatz 1998).

    Node i owns the edges to ``ends[i]``; so whether two nodes are joined shows in their two rows.
    A node joined to all others keeps its edge.
    """
    nodes, owned = ends.shape
    degree = np.full(nodes, 2 * owned)
    for k in range(owned):
        for i in range(nodes):
            random = (next_random(state) >> np.uint64(11)) * 2.0**-53
            if random >= probability or degree[i] >= nodes - 1:
                continue
            free = False
            while not free:
                j = random_below(nodes, state)
                free = j != i
                for other in range(owned):
                    free = free and ends[i, other] != j and ends[j, other] != i
            degree[ends[i, k]] -= 1
            degree[j] += 1
            ends[i, k] = j


@kernel
def pair_stubs(state: Array, stubs: Array, neighbours: Array) -> bool:
    """Pair ``stubs`` at random into a simple regular graph (Steger and Wormald 1999).

    ``neighbours`` is (nodes, degree), filled with -1. Pairs that would make a loop or a second edge
    go back and are shuffled again; returns False where that no longer gets anywhere.
    """
    degree = np.zeros(neighbours.shape[0], np.int8)
    waiting = stubs.size
    idle_rounds = 0
    while waiting > 0 and idle_rounds < 100:
        for last in range(waiting - 1, 0, -1):
            other = random_below(last + 1, state)
            stubs[last], stubs[other] = stubs[other], stubs[last]
        kept = 0
        for s in range(0, waiting, 2):
            i, j = stubs[s], stubs[s + 1]
            suitable = i != j
            for k in range(degree[i]):
                suitable = suitable and neighbours[i, k] != j
            if suitable:
                neighbours[i, degree[i]] = j
                neighbours[j, degree[j]] = i
                degree[i] += 1
                degree[j] += 1
            else:
                stubs[kept], stubs[kept + 1] = i, j
                kept += 2
        idle_rounds = idle_rounds + 1 if kept == waiting else 0
        waiting = kept
    return waiting == 0
