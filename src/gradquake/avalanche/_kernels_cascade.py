"""The cascade."""

from __future__ import annotations

import math

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from gradquake.avalanche._kernels_angle import BLOCK, deviation, dissipation
from gradquake.avalanche._kernels_tensors import count_listed, count_marked
from gradquake.avalanche._kernels_threshold import magnitude_quantile, mark_above
from gradquake.avalanche._numba import Array, index, inlined, kernel, prefetch

__all__ = [
    "AHEAD", "DENSE", "cascade", "fetch", "first_topplings", "isolated_size", "measure_segments",
    "topple", "topple_marked",
]  # fmt: skip

# A step is dense if at least one node in this many topples.
DENSE = 128

# A gradient of this many nodes or more does not stay in the caches. Data are then prefetched this many
# nodes ahead.
FAR = 1 << 18
AHEAD = 8


@inlined
def fetch(gradient: Array, indptr: Array, indices: Array, nodes: Array, k: int, last: int) -> None:
    """Prefetch the data of the nodes that follow the ``k``-th."""
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

    Appends their numbers, counted from ``first``, to ``unstable``, and the amount that each gives away
    to ``moved``. Nodes that are still unstable stay marked. Returns the number of nodes listed, the
    number that toppled for the first time, and whether any is still marked.
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
            # A later share may have pulled a marked node back below the threshold.
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
    """Let all unstable nodes topple: the first half of a step, before shares are handed on.

    Looks at all nodes if the step is ``dense``, and else at the marked nodes of marked pages. Appends to
    ``unstable`` and ``moved`` from ``count`` on, as ``topple_marked`` does. Returns the number of nodes
    listed, and the number that toppled for the first time.
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
    edges: Array,
    topplings: Array,
    areas: Array,
    marks: Array,
    toppled: Array,
    pages: Array,
    unstable: Array,
    moved: Array,
) -> tuple[int, int, int, int, bool, bool]:
    """Relax ``original`` into ``gradient``: all unstable nodes topple at once, step by step.

    Every node receives its neighbors' shares one at a time in ascending order of the neighbor, so the
    result does not depend on the way in which unstable nodes are found. ``alpha`` and ``keep`` =
    1 - alpha come in the gradient's own precision. Stretch s holds the nodes from ``edges[s]`` to before
    ``edges[s + 1]``; its topplings at step t are added to ``topplings[t, s]``, of which the last row
    takes all later steps, and the number of its nodes that topple to ``areas[s]``. Nothing is counted
    without edges. The last five arrays are scratch: a bit a node, a bit a node, a byte a page of 4,096
    nodes, an index and a number of the gradient's dtype a node.
    Returns size, duration, area, peak, whether a node is still unstable, and whether a node without
    neighbors toppled.
    """
    one = index(1)
    words = (gradient.size + 63) >> 6
    marks, toppled, pages = marks[:words], toppled[:words], pages[: (words + 63) >> 6]
    gradient[:] = original
    toppled[:] = 0
    size = duration = area = peak = count = 0
    lossy = False
    far = gradient.size >= FAR
    # If many topple, a look at all nodes in the next step, which runs through memory in order, is
    # cheaper than to mark nodes that rise above the threshold, which takes a branch for each share.
    dense = True
    while duration < max_steps:
        count, new = topple(
            gradient, threshold, alpha, keep, dense, 0, marks, toppled, pages, unstable, moved, 0
        )
        area += new
        if count == 0:
            break
        if edges.size > 1:
            count_listed(unstable, count, edges, topplings[min(duration, topplings.shape[0] - 1)])
        dense = DENSE * count >= gradient.size
        end = index(count - 1)
        for k in range(index(count)):
            if far:
                fetch(gradient, indptr, indices, unstable, k, end)
            i = index(unstable[k])
            start, stop = index(indptr[i]), index(indptr[i + one])
            lossy |= start == stop
            # Stored first, which rounds it to the gradient's own precision.
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
    if edges.size > 1:
        count_marked(toppled, edges, areas)
    truncated = False
    if count > 0:
        for i in range(gradient.size):
            if abs(gradient[i]) > threshold:
                truncated = True
                break
    return size, duration, area, peak, truncated, lossy


@kernel
def isolated_size(gradient: Array, threshold: float, keep: float, max_steps: int, left: Array) -> int:
    """Return the topplings of a gradient whose nodes have no neighbors.

    A node topples ceil(ln(|g| / tau) / -ln(1 - alpha)) times, at most ``max_steps`` times. It is
    multiplied as the cascade does, so that both round alike. ``left`` is scratch, an entry a node: it
    holds the nodes that are still unstable. They are gathered without a branch, which would be
    mispredicted.
    """
    count = 0
    for i in range(gradient.size):
        left[count] = abs(gradient[i])
        count += left[count] > threshold
    size = steps = 0
    while count > 0 and steps < max_steps:
        size += count
        steps += 1
        still = 0
        for k in range(count):
            left[still] = keep * left[k]
            still += left[still] > threshold
        count = still
    return size


@kernel
def first_topplings(
    original: Array,
    gradient: Array,
    threshold: float,
    alpha: float,
    keep: float,
    max_steps: int,
    first: int,
    marks: Array,
    toppled: Array,
    pages: Array,
    unstable: Array,
    moved: Array,
    count: int,
    left: Array,
) -> tuple[int, int, int]:
    """Copy ``original`` into ``gradient`` and let it topple, block by block, as long as one is cached.

    Arguments as in ``topple`` and ``isolated_size``; ``left`` may be the end of ``moved`` that is not
    reached yet. Returns the number of nodes listed, of those that toppled for the first time, and the
    isolated size.
    """
    new = isolated = 0
    for start in range(0, gradient.size, BLOCK):
        stop = min(start + BLOCK, gradient.size)
        words, pages_of = slice(start >> 6, (stop + 63) >> 6), slice(start >> 12, (stop + 4095) >> 12)
        part = gradient[start:stop]
        part[:] = original[start:stop]
        isolated += isolated_size(part, threshold, keep, max_steps, left[start:stop])
        count, more = topple(
            part, threshold, alpha, keep, True, first + start, marks[words], toppled[words],
            pages[pages_of], unstable, moved, count,
        )  # fmt: skip
        new += more
    return count, new, isolated


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
    thresholds: Array,
    quantile: float,
    max_steps: int,
    angles: bool,
    first: int,
    last: int,
    outcomes: Array,
    edges: Array,
    topplings: Array,
    areas: Array,
    marks: Array,
    toppled: Array,
    pages: Array,
    unstable: Array,
    moved: Array,
) -> int:
    """Threshold and relax segments ``first`` to ``last`` of a batch laid end to end.

    Segment b is ``gradient[offsets[b]:offsets[b + 1]]``; its graph is ``indptr`` from ``rows[b]`` on
    and ``indices``, numbered within the segment. Its threshold is ``thresholds[b]``; if ``thresholds``
    is empty, the quantile of its magnitudes, NaN if one of them is not finite. Fills the fields of
    ``outcomes[b]``, an array of ``cascade.OUTCOME``; the deviation and the isolated size only if
    ``angles``. Row b of ``edges``, ``topplings`` and ``areas`` is for the kernel ``cascade``.
    Sums over more than ``BLOCK`` entries are left at 0 and taken elsewhere. The last five
    arrays are the scratch of ``cascade``, enough for the longest segment. Returns the first segment that
    is not finite, before or after, or -1.
    """
    broken = -1
    for b in range(first, last):
        start, stop = offsets[b], offsets[b + 1]
        original, moving, outcome = gradient[start:stop], relaxed[start:stop], outcomes[b]
        # The relaxed gradient is not there yet: its place is free to select in.
        threshold = thresholds[b] if thresholds.size else magnitude_quantile(original, quantile, moving)
        outcome["threshold"] = threshold
        if math.isnan(threshold):
            broken = b if broken < 0 else broken
            continue
        pointers = indptr[rows[b] : rows[b] + moving.size + 1]
        size, duration, area, peak, truncated, lossy = cascade(
            original, moving, pointers, indices, threshold, alpha, keep, max_steps,
            edges[b], topplings[b], areas[b], marks, toppled, pages, unstable, moved,
        )  # fmt: skip
        outcome["size"], outcome["duration"], outcome["area"] = size, duration, area
        outcome["peak"], outcome["truncated"], outcome["lossy"] = peak, truncated, lossy
        if angles:
            outcome["isolated"] = isolated_size(original, threshold, keep, max_steps, moved)
        if original.size > BLOCK:
            continue
        if lossy:
            outcome["dissipated"] = dissipation(original, moving, pointers)
        if angles and size > 0:
            outcome["deviation"] = deviation(original, moving)
            if math.isnan(outcome["deviation"]):
                broken = b if broken < 0 else broken
    return broken
