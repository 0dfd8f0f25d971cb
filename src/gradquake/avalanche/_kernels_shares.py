"""The shares that toppling nodes give away, sorted by receiver."""

from __future__ import annotations

import numpy as np

from gradquake.avalanche._kernels_cascade import AHEAD, topple
from gradquake.avalanche._numba import Array, index, kernel, prefetch

__all__ = [
    "CHUNK_BITS", "histogram", "matching", "receive", "receive_and_topple", "sort_neighbors_shares",
    "sort_shares", "split", "stored_targets",
]  # fmt: skip

# Shares are listed in chunks of 2^CHUNK_BITS numbers.
CHUNK_BITS = 11


@kernel
def histogram(bits: Array, mask: int, shift: int, counts: Array) -> None:
    """Count floats, given as unsigned integers, by 16 of their bits from ``shift`` on, under a mask.

    The bits of positive floats are ordered as the floats are, and those of infinity and NaN come last.
    """
    for i in range(bits.size):
        counts[((index(bits[i]) & index(mask)) >> index(shift)) & index(0xFFFF)] += 1


@kernel
def matching(bits: Array, mask: int, shift: int, prefix: int, found: Array) -> None:
    """List the masked bits that begin with ``prefix``; ``found`` has room for one more.

    ``prefix`` stands from bit ``shift`` on.
    """
    count = 0
    for i in range(bits.size):
        value = index(bits[i]) & index(mask)
        found[count] = value
        count += (value >> index(shift)) == index(prefix)


@kernel
def stored_targets(
    nodes: Array, moved: Array, begin: int, indptr: Array, indices: Array, targets: Array, given: Array
) -> tuple[int, int]:
    """List the neighbors of nodes from the ``begin``-th on, and the share of each, while there is room.

    Returns the first node that is not listed, and the number of neighbors listed.
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
    """Append shares to the lists of their targets' bins, in order; return ``used``.

    Bin b holds the nodes from b << ``shift`` on. Its list is a chain of chunks: its first chunk is
    the b-th, chunk ``links[c]`` follows chunk c, and the list ends before ``ends[b]``. A share takes
    two places of one memory, which ``places`` reads as integers and ``shares`` as floats: the number
    of its target within the bin, and the share itself. ``used`` chunks are in use. Beside the chunks
    that the shares fill, there must be room for one more a bin.
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
def sort_neighbors_shares(
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
    """Sort the shares of the neighbors of nodes as ``sort_shares`` does, while there is room.

    Each node gives away ``moved``. Begins with the ``begin``-th node; returns the first node that is
    left, and ``used``.
    """
    # The loop of ``sort_shares`` again: as a common function it would be four times slower.
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
    """Add the shares that ``sort_shares`` has listed for bins ``first`` to ``last``, in order.

    Marks nodes that rise above the threshold, unless the step is ``dense``.
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
def receive_and_topple(
    gradient: Array,
    first: int,
    last: int,
    shift: int,
    links: tuple[Array, ...],
    ends: tuple[Array, ...],
    places: tuple[Array, ...],
    shares: tuple[Array, ...],
    dense: bool,
    threshold: float,
    alpha: float,
    keep: float,
    marks: Array,
    toppled: Array,
    pages: Array,
    unstable: Array,
    moved: Array,
) -> tuple[int, int]:
    """Let bins ``first`` to ``last`` receive the shares of all senders, in order, and topple.

    As ``receive`` and ``topple`` do, from count 0 on. If the step is ``dense``, bin by bin, as long as
    one is cached. Returns what ``topple`` does.
    """
    count = area = 0
    at_once = 1 if dense else max(last - first, 1)
    for b in range(first, last, at_once):
        start, stop = b << shift, min((b + at_once) << shift, gradient.size)
        for k in range(len(links)):
            receive(
                gradient, b, b + at_once, shift, links[k], ends[k], places[k], shares[k], dense,
                threshold, marks, pages,
            )  # fmt: skip
        words, pages_of = slice(start >> 6, (stop + 63) >> 6), slice(start >> 12, (stop + 4095) >> 12)
        count, new = topple(
            gradient[start:stop], threshold, alpha, keep, dense, start, marks[words], toppled[words],
            pages[pages_of], unstable, moved, count,
        )  # fmt: skip
        area += new
    return count, area


@kernel
def split(targets: Array, given: Array, edges: Array, ends: Array, places: Array, gifts: Array) -> None:
    """Sort shares by the part that holds their target, and number the targets within the part.

    Part p holds the nodes ``edges[p]`` to ``edges[p + 1]``; its shares come before ``ends[p]``, in their
    old order.
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
