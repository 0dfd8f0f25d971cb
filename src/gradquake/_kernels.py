"""Compiled loops: arrays in, arrays out, no checks, no classes.

Every function here has a naive twin in ``tests/test_kernels.py``. All of them release the GIL, so that
a batch can be shared among threads. One input gives one result, bit for bit, on every processor: sums
run in a fixed order, and only +, -, *, / and the square root are used, whose rounding IEEE 754 fixes.
The elementary functions are built from these, since the last bit of those of a mathematical library
depends on the library and on the instructions that the processor has. No kernel may be compiled with
``fastmath``.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic
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

# Sums over a gradient are exact sums of what blocks of this many entries sum up to, so that they do not
# depend on how it is cut.
BLOCK = 1 << 16

# The sums that run side by side where squares are summed, for the sake of vector instructions.
LANES = 16

# From this many nodes on a gradient does not stay in the caches, and what a node needs is asked for this
# many nodes ahead.
FAR = 1 << 18
AHEAD = 8

# Shares on their way are listed in chunks of 2^CHUNK_BITS numbers.
CHUNK_BITS = 11

# The reduction of the exponential: ln 2 in two parts, of which the first times an integer is exact, and
# a number so large that those beside it are the integers.
INVERSE_LN2 = 1.4426950408889634074
LN2_HIGH = float.fromhex("0x1.62e42feep-1")
LN2_LOW = 1.90821492927058770002e-10
SHIFT = 1.5 * 2.0**52
SHIFT_BITS = np.float64(SHIFT).view(np.int64)
SIGN_BIT = np.int64(-(2**63))
E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E13 = (1 / math.factorial(n) for n in range(2, 14))

# Where the tail of the ziggurat begins, and the area of each of its 256 layers under e^(-x^2 / 2).
TAIL = 3.6541528853610088
AREA = 0.00492867323397465524494

# An unsigned index spares the compiled code the test for Python's indices from the end.
index = np.uint64


class UserFolder(UserWideCacheLocator):
    """The user's own cache folder; no folder if somebody else could put code there."""

    def ensure_cache_path(self) -> None:
        """Make the folder, or raise OSError."""
        folder = Path(self.get_cache_path())
        # Without a home the path is relative, and would lie in whatever folder the program runs in.
        if not folder.is_absolute():
            raise FileNotFoundError("the user has no home folder")
        super().ensure_cache_path()
        folder = folder.resolve()
        if os.name == "posix" and not all(
            _is_safe(place, folder) for place in (folder, *folder.parents)
        ):
            raise PermissionError(f"other users can write to {folder}")


def _is_safe(place: Path, folder: Path) -> bool:
    """Return whether no other user can replace anything below ``place`` on the way to ``folder``."""
    status = place.stat()
    # As in /tmp: everybody may add files there, and rename only their own.
    sticky = status.st_mode & stat.S_ISVTX and place != folder
    return status.st_uid in (0, os.geteuid()) and (sticky or not status.st_mode & stat.S_IWOTH)


class Places(CompileResultCacheImpl):
    """Where machine code may be kept: where ``NUMBA_CACHE_DIR`` says, beside the source, or at home."""

    _locator_classes = (UserProvidedCacheLocator, InTreeCacheLocator, UserFolder)


class MachineCode(FunctionCache):
    """The compiled code of a kernel on disk. Whatever is wrong there, the kernel is compiled anew."""

    _impl_class = Places

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None."""
        # A damaged file can raise anything when it is unpickled.
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            # Without its index, the next process would find the same damage.
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, unless the disk is full or the folder cannot be written."""
        with suppress(Exception):
            super().save_overload(sig, data)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a kernel, and keeps its machine code if there is a place."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(nogil=True, error_model="numpy", **options)(function)
        # There may be no place at all, or no source file: the kernel is then compiled in every process.
        with suppress(Exception):
            dispatcher._cache = MachineCode(function)
        return dispatcher

    return decorate


kernel = compiled()
# For what is small and called inside other kernels: it is then compiled with them, not besides.
inlined = compiled(inline="always")


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
        # Of NaN, nothing is smaller than it or equal to it.
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


@kernel
def bracket(sample: Array, size: int, quantile: float) -> tuple[float, float]:
    """Return magnitudes between which the quantile lies almost surely, judged from a sample of them."""
    # Three standard deviations of a binomial rank.
    margin = 3.0 * math.sqrt(size * quantile * (1.0 - quantile)) + 2.0
    low = select(sample, size, max(int(quantile * size - margin), 0))
    high = select(sample, size, min(int(quantile * size + margin), size - 1))
    return low, high


@kernel
def gather_between(gradient: Array, low: float, high: float, found: Array) -> tuple[int, int]:
    """List the magnitudes in (low, high]; return how many, and how many are above.

    One pass over the memory, in words of fixed length for the sake of vector comparisons. Returns
    (-1, -1) where an entry is not finite.
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

    Exact whatever the bracket: where it misses (or the gradient is short), all entries are selected
    from. ``scratch`` has the gradient's size and dtype.
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


@intrinsic
def prefetch(context: Any, array: Any, i: Any) -> Any:  # noqa: ARG001
    """Ask for ``array[i]`` to be brought into the caches, to be written to; it changes nothing else."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(hint, [place, word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, i), code


@inlined
def fetch(gradient: Array, indptr: Array, indices: Array, nodes: Array, k: int, last: int) -> None:
    """Ask for what nodes some places after the ``k``-th will need, so that no one waits for memory."""
    prefetch(indices, index(indptr[index(nodes[min(k + index(2 * AHEAD), last)])]))
    i = index(nodes[min(k + index(AHEAD), last)])
    for edge in range(index(indptr[i]), index(indptr[i + index(1)])):
        prefetch(gradient, index(indices[edge]))


@kernel
def topple_marked(
    gradient: Array,
    threshold: float,
    alpha: float,
    keep: float,
    first: int,
    marks: Array,
    toppled: Array,
    unstable: Array,
    moved: Array,
    count: int,
) -> tuple[int, int, bool]:
    """Let the marked nodes that are unstable topple, in order.

    Appends their numbers, counted from ``first``, to ``unstable``, and what each gives away to
    ``moved``; leaves marked what is unstable still. Returns how many are listed now, how many of them
    toppled for the first time, and whether any is still marked.
    """
    one = index(1)
    area = 0
    left = np.uint64(0)
    for word in range(marks.size):
        remaining = marks[word]
        if not remaining:
            continue
        before, still = toppled[word], np.uint64(0)
        after = before
        while remaining:
            bit = remaining & (~remaining + one)
            node = index(64 * word) + index(trailing_zeros(remaining))
            remaining ^= bit
            value = gradient[node]
            # A node marked on the way may have been pulled back below by a later share.
            if abs(value) > threshold:
                unstable[count] = index(first) + node
                moved[count] = alpha * value
                count += 1
                value = keep * value
                gradient[node] = value
                area += (before & bit) == 0
                after |= bit
                still |= bit * np.uint64(abs(value) > threshold)
        toppled[word] = after
        marks[word] = still
        left |= still
    return count, area, left != 0


@kernel
def topple(
    gradient: Array,
    threshold: float,
    alpha: float,
    keep: float,
    dense: bool,
    first: int,
    marks: Array,
    toppled: Array,
    pages: Array,
    unstable: Array,
    moved: Array,
    count: int,
) -> tuple[int, int]:
    """Let what is unstable topple, and hand on nothing yet: the first half of a step of a cascade.

    Looks at all nodes where the step is ``dense``, and else at those marked on pages that say so.
    Appends to ``unstable`` and ``moved`` from ``count`` on, as ``topple_marked`` does. Returns how many
    are listed now, and how many of them toppled for the first time.
    """
    words = marks.size
    area = 0
    for page in range(pages.size):
        start, stop = 64 * page, min(64 * page + 64, words)
        part = gradient[64 * start : 64 * stop]
        if dense:
            mark_above(part, threshold, marks[start:stop])
        elif not pages[page]:
            continue
        count, new, pages[page] = topple_marked(
            part, threshold, alpha, keep, first + 64 * start, marks[start:stop], toppled[start:stop],
            unstable, moved, count,
        )  # fmt: skip
        area += new
    return count, area


@kernel
def cascade(
    original: Array,
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
    moved: Array,
) -> tuple[int, int, int, int, int, bool]:
    """Relax ``original`` into ``gradient``: all unstable nodes topple at once, step by step.

    Every node receives its neighbours' shares one at a time in ascending order of the neighbour, so
    the result does not depend on how the unstable nodes were found. ``alpha`` and ``keep`` =
    1 - alpha come in the gradient's own precision. The last five arrays are scratch: a bit a node, a
    bit a node, a byte a page of 4,096 nodes, an index and a number of the gradient's dtype a node.
    Returns size, duration, area, peak, the number of nodes still unstable, and whether a node without
    neighbours toppled.
    """
    one = index(1)
    words = (gradient.size + 63) >> 6
    marks, toppled, pages = marks[:words], toppled[:words], pages[: (words + 63) >> 6]
    gradient[:] = original
    toppled[:] = 0
    size = duration = area = peak = count = 0
    lossy = False
    far = gradient.size >= FAR
    # Where many topple it is cheaper to look at all nodes in the next step, which runs through memory
    # in order, than to mark what rises above the threshold on the way, which branches.
    dense = True
    while duration < max_steps:
        count, new = topple(
            gradient, threshold, alpha, keep, dense, 0, marks, toppled, pages, unstable, moved, 0
        )
        area += new
        if count == 0:
            break
        dense = DENSE * count >= gradient.size
        end = index(count - 1)
        for k in range(index(count)):
            if far:
                fetch(gradient, indptr, indices, unstable, k, end)
            i = index(unstable[k])
            start, stop = index(indptr[i]), index(indptr[i + one])
            lossy |= start == stop
            # By way of memory, which rounds it to the gradient's own precision.
            moved[k] = moved[k] / max(stop - start, one)
            given = moved[k]
            if dense:
                for edge in range(start, stop):
                    gradient[index(indices[edge])] += given
            else:
                for edge in range(start, stop):
                    j = index(indices[edge])
                    after = gradient[j] + given
                    gradient[j] = after
                    if abs(after) > threshold:
                        marks[j >> index(6)] |= one << (j & index(63))
                        pages[j >> index(12)] = 1
        size += count
        peak = max(peak, count)
        duration += 1
    remaining = 0
    if count > 0:
        for i in range(gradient.size):
            remaining += abs(gradient[i]) > threshold
    return size, duration, area, peak, remaining, lossy


@kernel
def histogram(bits: Array, mask: int, shift: int, counts: Array) -> None:
    """Count floats, given as unsigned integers, by 16 of their bits from ``shift`` on, under a mask.

    The bits of positive floats are ordered as they are, and those of what is not finite come last.
    """
    for i in range(bits.size):
        counts[((index(bits[i]) & index(mask)) >> index(shift)) & index(0xFFFF)] += 1


@kernel
def matching(bits: Array, mask: int, shift: int, prefix: int, found: Array) -> None:
    """List the masked bits that from ``shift`` on are ``prefix``; there is room for one more."""
    count = 0
    for i in range(bits.size):
        value = index(bits[i]) & index(mask)
        found[count] = value
        count += (value >> index(shift)) == index(prefix)


@kernel
def stored_targets(
    nodes: Array, moved: Array, begin: int, indptr: Array, indices: Array, targets: Array, given: Array
) -> tuple[int, int]:
    """List the neighbours of nodes from the ``begin``-th on, and what each gets, while there is room.

    Returns the first node that is not listed, and the number of neighbours listed.
    """
    one = index(1)
    used = index(0)
    last = index(nodes.size - 1)
    for k in range(index(begin), index(nodes.size)):
        prefetch(indptr, index(nodes[min(k + index(4 * AHEAD), last)]))
        prefetch(indices, index(indptr[index(nodes[min(k + index(2 * AHEAD), last)])]))
        i = index(nodes[k])
        start, stop = index(indptr[i]), index(indptr[i + one])
        if used + stop - start > index(targets.size):
            return np.int64(k), np.int64(used)
        share = moved[k] / max(stop - start, one)
        for edge in range(start, stop):
            targets[used] = indices[edge]
            given[used] = share
            used += one
    return nodes.size, np.int64(used)


@kernel
def sort_shares(
    targets: Array,
    given: Array,
    shift: int,
    links: Array,
    ends: Array,
    places: Array,
    shares: Array,
    used: int,
) -> int:
    """Append shares to the lists of the bins that their targets lie in, in order; return ``used``.

    Bin b holds the nodes from b << ``shift`` on. Its list is a chain of chunks: its first chunk is
    the b-th, chunk ``links[c]`` follows chunk c, and the list ends before ``ends[b]``. A share takes
    two places of one memory, which ``places`` reads as integers and ``shares`` as floats: the
    number of its target within the bin, and itself. ``used`` chunks are taken, and there must be
    room for one more a bin, beside those that the shares fill.
    """
    one, two, bits = index(1), index(2), index(CHUNK_BITS)
    within_chunk, within_bin = (one << bits) - one, (one << index(shift)) - one
    for u in range(index(targets.size)):
        target = index(targets[u])
        b = target >> index(shift)
        end = index(ends[b])
        places[end] = target & within_bin
        shares[end + one] = given[u]
        end += two
        if not end & within_chunk:
            links[(end >> bits) - one] = used
            end = index(used) << bits
            used += 1
        ends[b] = end
    return used


@kernel
def sort_neighbours_shares(
    nodes: Array,
    moved: Array,
    begin: int,
    indptr: Array,
    indices: Array,
    shift: int,
    links: Array,
    ends: Array,
    places: Array,
    shares: Array,
    used: int,
) -> tuple[int, int]:
    """Do with the shares of the neighbours of nodes what ``sort_shares`` does, while there is room.

    ``moved`` is what each node gives away. Begins with the ``begin``-th node; returns the first one
    that was left, and ``used``.
    """
    # The loop of ``sort_shares`` once more: as a function of its own it is four times slower.
    one, two, bits = index(1), index(2), index(CHUNK_BITS)
    within_chunk, within_bin = (one << bits) - one, (one << index(shift)) - one
    last = index(nodes.size - 1)
    for k in range(index(begin), index(nodes.size)):
        prefetch(indptr, index(nodes[min(k + index(4 * AHEAD), last)]))
        prefetch(indices, index(indptr[index(nodes[min(k + index(2 * AHEAD), last)])]))
        i = index(nodes[k])
        start, stop = index(indptr[i]), index(indptr[i + one])
        if used + ends.size + np.int64(two * (stop - start) >> bits) >= links.size:
            return np.int64(k), used
        share = moved[k] / max(stop - start, one)
        for edge in range(start, stop):
            target = index(indices[edge])
            b = target >> index(shift)
            end = index(ends[b])
            places[end] = target & within_bin
            shares[end + one] = share
            end += two
            if not end & within_chunk:
                links[(end >> bits) - one] = used
                end = index(used) << bits
                used += 1
            ends[b] = end
    return nodes.size, used


@kernel
def receive(
    gradient: Array,
    first: int,
    last: int,
    shift: int,
    links: Array,
    ends: Array,
    places: Array,
    shares: Array,
    dense: bool,
    threshold: float,
    marks: Array,
    pages: Array,
) -> None:
    """Add what ``sort_shares`` has listed for bins ``first`` to ``last``, in order.

    Marks what rises above the threshold, unless the step is ``dense``.
    """
    one, two, bits = index(1), index(2), index(CHUNK_BITS)
    for b in range(index(first), index(last)):
        bottom, end = b << index(shift), index(ends[b])
        chunk = b
        while True:
            ending = end >> bits == chunk
            stop = end if ending else (chunk + one) << bits
            for u in range(chunk << bits, stop, two):
                j = bottom + index(places[u])
                after = gradient[j] + shares[u + one]
                gradient[j] = after
                if not dense and abs(after) > threshold:
                    marks[j >> index(6)] |= one << (j & index(63))
                    pages[j >> index(12)] = 1
            if ending:
                break
            chunk = index(links[chunk])


@kernel
def split(targets: Array, given: Array, edges: Array, ends: Array, places: Array, gifts: Array) -> None:
    """Sort shares by the part that their target lies in, and number the targets within it.

    Part p holds the nodes ``edges[p]`` to ``edges[p + 1]``; its shares come, in the order in which
    they were, before ``ends[p]``.
    """
    parts = ends.size
    home = np.empty(targets.size, np.int32)
    ends[:] = 0
    for u in range(targets.size):
        low, high = 0, parts
        while high - low > 1:
            middle = (low + high) >> 1
            if targets[u] >= edges[middle]:
                low = middle
            else:
                high = middle
        home[u] = low
        ends[low] += 1
    total = 0
    for p in range(parts):
        total, ends[p] = total + ends[p], total
    for u in range(targets.size):
        p = home[u]
        places[ends[p]] = targets[u] - edges[p]
        gifts[ends[p]] = given[u]
        ends[p] += 1


@kernel
def dissipation(before: Array, after: Array, indptr: Array) -> float:
    """Return what nodes without neighbours, which lose what they give away, have lost."""
    lost = 0.0
    for i in range(before.size):
        if indptr[i] == indptr[i + 1]:
            lost += np.float64(before[i]) - np.float64(after[i])
    return lost


# Elementary functions, from operations that IEEE 754 fixes


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

    Cody and Waite's reduction x = k ln 2 + r, |r| <= ln(2) / 2, and the Taylor series of e^r. Straight
    on without a branch, so that a loop around it becomes vector instructions.
    """
    # The sum has no bits left for a fraction: what was added to the number is the nearest integer.
    shifted = x * INVERSE_LN2 + SHIFT
    k = shifted - SHIFT
    head = x - k * LN2_HIGH
    tail = k * LN2_LOW
    r = head - tail
    r2 = r * r
    r4 = r2 * r2
    # In pairs: one after the other, each step would wait for the one before.
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
    fraction, and above 1 - 2 / (e^(2 x) + 1), with what the sums lose added at the end. Both without
    a branch and with one division.
    """
    for i in range(values.size):
        value = values[i]
        x = abs(value)
        z = x * x
        # 1 to the last bit from here on; NaN passes.
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
    # In two steps, since numbers below the normal ones are wanted too.
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
    # 2 artanh(s), of which f and half its square are taken apart: they are nearly all of it.
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
    # From 22.5 degrees on, from the diagonal.
    turned = short > long * 0.4142135623730950488
    s = (short - long) / (short + long) if turned else short / long
    angle = (s + s * odd_series(-s * s, 21)) * 57.295779513082320877
    result = 45.0 + angle if turned else angle
    result = 90.0 - result if steep else result
    return 180.0 - result if x < 0.0 else result


@inlined
def uniform(word: int) -> float:
    """Return a number in [0, 1) from 64 random bits, as NumPy does."""
    return (word >> index(11)) * 2.0**-53


@kernel
def ziggurat_tables(widths: Array, limits: Array, heights: Array) -> None:
    """Fill the tables of ``normals``: of layer i, the width over 2^52, what is inside, and its height.

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
    """Fill ``values`` with standard normal numbers, from random words, while there are enough of them.

    The ziggurat of G. Marsaglia and W. W. Tsang (J. Stat. Softw. 5, 8 (2000)) as NumPy has it: from the
    same words come the same numbers, but for rounding. Returns how many, and how many words they took.
    """
    used = 0
    for i in range(values.size):
        begin = used
        while True:
            # The most that one pass takes, but for what the tail turns down.
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


@kernel
def products(before: Array, after: Array, scale: float) -> tuple[float, float, float]:
    """Return |before|^2, |after - before|^2 and before . (after - before), all times scale^2.

    Each is a sum of ``LANES`` sums, of every ``LANES``-th entry. A compiler that were free to choose
    an order would choose by the width of the processor's vectors.
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
    moved: Array,
) -> int:
    """Threshold and relax segments ``first`` to ``last`` of a batch laid end to end.

    Segment b is ``gradient[offsets[b]:offsets[b + 1]]``; its graph is ``indptr`` from ``rows[b]`` on
    and ``indices``, numbered within the segment. Columns of ``outcome``: threshold (given where
    ``quantile`` is negative; NaN comes back where the gradient is not finite), size, duration, area,
    peak, still unstable, dissipated, deviation (where ``angles`` are wanted); of more than ``BLOCK``
    entries the last two are summed elsewhere, and here say whether anything was dissipated, and 0. The
    last five arrays are the scratch of ``cascade``, enough for the longest segment. Returns the first
    segment that is not finite, before or after, or -1.
    """
    broken = -1
    for b in range(first, last):
        start, stop = offsets[b], offsets[b + 1]
        original, moving = gradient[start:stop], relaxed[start:stop]
        if quantile >= 0.0:
            # The relaxed gradient is not there yet: its place is free to select in.
            outcome[b, 0] = magnitude_quantile(original, quantile, moving)
            if math.isnan(outcome[b, 0]):
                broken = b if broken < 0 else broken
                continue
        pointers = indptr[rows[b] : rows[b] + moving.size + 1]
        size, duration, area, peak, remaining, lossy = cascade(
            original, moving, pointers, indices, outcome[b, 0], alpha, keep, max_steps,
            marks, toppled, pages, unstable, moved,
        )  # fmt: skip
        outcome[b, 1], outcome[b, 2], outcome[b, 3] = size, duration, area
        outcome[b, 4], outcome[b, 5] = peak, remaining
        outcome[b, 6], outcome[b, 7] = np.float64(lossy), 0.0
        if original.size <= BLOCK:
            outcome[b, 6] = dissipation(original, moving, pointers) if lossy else 0.0
            outcome[b, 7] = deviation(original, moving) if angles and size > 0 else 0.0
        if math.isnan(outcome[b, 7]):
            broken = b if broken < 0 else broken
    return broken


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
def preferred_targets(m: int, state: Array, targets: Array) -> None:
    """Grow a preferential-attachment graph from a star on m + 1 nodes.

    Edge e joins ``targets[e]`` to node 0 where e < m, and else to the newer node e // m + m. A uniform
    choice among the ends of all edges so far is a choice of a node by its degree.
    """
    for e in range(m):
        targets[e] = e + 1
    for first in range(m, targets.size, m):
        for e in range(first, first + m):
            fresh = False
            while not fresh:
                end = random_below(2 * first, state)
                edge = end >> 1
                # Both are looked up, since which of them is wanted cannot be foreseen.
                older, newer = targets[edge], edge // m + m if edge >= m else 0
                chosen = newer if end & 1 else older
                fresh = True
                for other in range(first, e):
                    fresh = fresh and targets[other] != chosen
            targets[e] = chosen


@kernel
def grown_adjacency(m: int, targets: Array, indptr: Array, indices: Array, cursor: Array) -> None:
    """Fill the CSR arrays of a graph that ``preferred_targets`` has grown, rows ascending.

    A row holds the m older nodes that its node chose, and then, as they came, those that chose it; so
    one pass over the edges fills it. ``indptr`` comes as zeros; ``cursor`` is scratch, a number a node.
    """
    nodes = indptr.size - 1
    for e in range(targets.size):
        indptr[targets[e] + 1] += 1
    indptr[1] += m
    for i in range(m + 1, nodes):
        indptr[i + 1] += m
    for i in range(nodes):
        cursor[i] = indptr[i]
        indptr[i + 1] += indptr[i]
    for i in range(m + 1, nodes):
        for e in range((i - m) * m, (i - m + 1) * m):
            # Among few, by insertion.
            place = cursor[i]
            while place > indptr[i] and indices[place - 1] > targets[e]:
                indices[place] = indices[place - 1]
                place -= 1
            indices[place] = targets[e]
            cursor[i] += 1
    for e in range(m):
        indices[cursor[0]], indices[cursor[e + 1]] = e + 1, 0
        cursor[0] += 1
        cursor[e + 1] += 1
    for e in range(m, targets.size):
        chosen = targets[e]
        indices[cursor[chosen]] = e // m + m
        cursor[chosen] += 1


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


# Neighbours that are computed


@inlined
def scrambled(value: int, key: int) -> int:
    """Return 31 bits that depend on all bits of both."""
    return ((value ^ key) * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(33)


@kernel
def permuted(x: int, n: int, keys: Array) -> int:
    """Return the image of ``x`` under the permutation of 0..n - 1 that ``keys`` choose.

    The first of them say how many bits are in the lower half of a number, and mask the higher half.

    A Feistel network on as few bits as n needs, walked on until it is below n again (J. Black and
    P. Rogaway, Ciphers with arbitrary finite domains, 2002).
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
    """Return what ``permuted`` maps to ``x``."""
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


@kernel
def shares_an_edge(n: int, first: Array, second: Array, start: int, stop: int) -> bool:
    """Return whether any of the edges ``start`` to ``stop`` of the second cycle is one of the first."""
    size, one = index(n), index(1)
    node = permuted(index(start), size, second)
    place = unpermuted(node, size, first)
    for p in range(start + 1, stop + 1):
        node = permuted(index(p % n), size, second)
        there = unpermuted(node, size, first)
        apart = max(there, place) - min(there, place)
        if apart == one or apart == size - one:
            return True
        place = there
    return False


@kernel
def cycle_neighbours(nodes: Array, start: int, n: int, first: Array, second: Array, rows: Array) -> None:
    """Fill ``rows`` (nodes, 4) with the neighbours of nodes, counted from ``start``, on two cycles."""
    size, one = index(n), index(1)
    for k in range(nodes.size):
        node = index(start) + index(nodes[k])
        for c in range(2):
            keys = second if c else first
            place = unpermuted(node, size, keys)
            after = place + one if place + one < size else index(0)
            before = place - one if place > index(0) else size - one
            rows[k, 2 * c] = permuted(before, size, keys)
            rows[k, 2 * c + 1] = permuted(after, size, keys)


@kernel
def circulant_neighbours(nodes: Array, start: int, n: int, near: int, far: int, rows: Array) -> None:
    """Fill ``rows`` (nodes, 4) with the nodes ``near`` and ``far`` before and after each on a ring."""
    for k in range(nodes.size):
        node = start + nodes[k]
        rows[k, 0] = node - far if node >= far else node - far + n
        rows[k, 1] = node - near if node >= near else node - near + n
        rows[k, 2] = node + near if node + near < n else node + near - n
        rows[k, 3] = node + far if node + far < n else node + far - n
