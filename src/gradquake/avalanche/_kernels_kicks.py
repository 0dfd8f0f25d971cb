"""Avalanches of single nodes, clusters, and topplings without neighbors.

A cascade that starts at one node lists the nodes that it touches. It costs its topplings, whatever the
number of nodes, and it ends with the same gradient, bit for bit, as ``_kernels_cascade.cascade``.
"""

from __future__ import annotations

from gradquake.avalanche._numba import Array, index, inlined, kernel

__all__ = [
    "MARKED", "SAVED", "TOPPLED", "cluster_sizes", "kick_each", "load_each",
    "mark_reached", "spread",
]  # fmt: skip

# Bits of a node's mark during one avalanche: listed for the next step, toppled, its first value saved.
MARKED = 1
TOPPLED = 2
SAVED = 4


@inlined
def above(value: float, threshold: float) -> bool:
    """Return whether a node of this value is unstable."""
    return abs(value) > threshold


@kernel
def spread(
    gradient: Array,
    indptr: Array,
    indices: Array,
    threshold: float,
    alpha: float,
    keep: float,
    max_steps: int,
    count: int,
    marks: Array,
    unstable: Array,
    waiting: Array,
    moved: Array,
    saved: Array,
    values: Array,
) -> tuple[int, int, int, int, int]:
    """Relax a gradient of which only the first ``count`` nodes in ``unstable``, ascending, are unstable.

    These nodes are saved already: they are the first in ``saved``, their marks are ``SAVED``, all other
    marks are 0. Every other node that changes is added to ``saved``, and its value before to ``values``.
    All unstable nodes topple at once and shares arrive in ascending order of their sender, as in
    ``_kernels_cascade.cascade``. The last six arrays are scratch, an entry a node. Returns size,
    duration, area, the number of nodes that are still unstable, and the
    number of nodes in ``saved``.
    """
    one = index(1)
    size = duration = area = 0
    touched = count
    while count > 0 and duration < max_steps:
        for k in range(count):
            i = index(unstable[k])
            # Stored first, which rounds it to the gradient's own precision.
            moved[k] = alpha * gradient[i]
            moved[k] = moved[k] / max(index(indptr[i + one]) - index(indptr[i]), one)
            gradient[i] = keep * gradient[i]
        listed = 0
        for k in range(count):
            i = index(unstable[k])
            area += (marks[i] & TOPPLED) == 0
            marks[i] |= TOPPLED
            if above(gradient[i], threshold):
                marks[i] |= MARKED
                waiting[listed] = i
                listed += 1
        for k in range(count):
            i = index(unstable[k])
            given = moved[k]
            for edge in range(index(indptr[i]), index(indptr[i + one])):
                j = index(indices[edge])
                before = gradient[j]
                if marks[j] == 0:
                    marks[j] = SAVED
                    saved[touched] = j
                    values[touched] = before
                    touched += 1
                gradient[j] = before + given
                if above(gradient[j], threshold) and (marks[j] & MARKED) == 0:
                    marks[j] |= MARKED
                    waiting[listed] = j
                    listed += 1
        size += count
        duration += 1
        if listed > 1:
            waiting[:listed].sort()
        count = 0
        for k in range(listed):
            j = index(waiting[k])
            marks[j] &= TOPPLED | SAVED
            # A later share may have pulled the node back below the threshold.
            if above(gradient[j], threshold):
                unstable[count] = j
                count += 1
    return size, duration, area, count, touched


@kernel
def kick_each(
    gradient: Array,
    indptr: Array,
    indices: Array,
    nodes: Array,
    threshold: float,
    raised: float,
    alpha: float,
    keep: float,
    max_steps: int,
    size: Array,
    duration: Array,
    area: Array,
    truncated: Array,
    started: Array,
    marks: Array,
    unstable: Array,
    waiting: Array,
    moved: Array,
    saved: Array,
    values: Array,
) -> None:
    """Raise each of ``nodes`` in turn to ``raised``, keep its sign, relax, and restore the gradient.

    No node of ``gradient`` is unstable, and ``marks`` comes as zeros; both are so again afterwards.
    Fills the five arrays of outcomes, of which ``started`` is the number of nodes that topple first.
    """
    for kick in range(nodes.size):
        node = index(nodes[kick])
        marks[node] = SAVED
        unstable[0] = saved[0] = node
        values[0] = gradient[node]
        gradient[node] = -raised if gradient[node] < 0 else raised
        size[kick], duration[kick], area[kick], left, touched = spread(
            gradient, indptr, indices, threshold, alpha, keep, max_steps, 1,
            marks, unstable, waiting, moved, saved, values,
        )  # fmt: skip
        truncated[kick] = left > 0
        started[kick] = 1
        for k in range(touched):
            gradient[index(saved[k])] = values[k]
            marks[index(saved[k])] = 0


@kernel
def load_each(
    gradient: Array,
    indptr: Array,
    indices: Array,
    threshold: float,
    raised: float,
    largest: float,
    alpha: float,
    keep: float,
    max_steps: int,
    size: Array,
    duration: Array,
    area: Array,
    truncated: Array,
    started: Array,
    marks: Array,
    unstable: Array,
    waiting: Array,
    moved: Array,
    saved: Array,
    values: Array,
) -> int:
    """Load all nodes alike until one topples, relax, and repeat, as many times as ``size`` has entries.

    Loading adds one amount to all magnitudes, and keeps signs; 0 becomes positive. The nodes of the
    largest magnitude come to ``raised``, the smallest number above the threshold; all others stay at or
    below ``largest``, the largest number that is not above it. Other arguments as in ``kick_each``.
    ``gradient`` is left as the last avalanche leaves it. It stops after an avalanche that ``max_steps``
    has truncated. Returns the number of avalanches.
    """
    for event in range(size.size):
        top = abs(gradient[0])
        for i in range(1, gradient.size):
            top = max(top, abs(gradient[i]))
        rise = raised - top
        count = 0
        for i in range(gradient.size):
            magnitude = abs(gradient[i])
            loaded = min(magnitude + rise, largest)
            if magnitude == top:
                loaded = raised
                marks[i] = SAVED
                unstable[count] = saved[count] = i
                count += 1
            gradient[i] = -loaded if gradient[i] < 0 else loaded
        size[event], duration[event], area[event], left, touched = spread(
            gradient, indptr, indices, threshold, alpha, keep, max_steps, count,
            marks, unstable, waiting, moved, saved, values,
        )  # fmt: skip
        truncated[event] = left > 0
        started[event] = count
        for k in range(touched):
            marks[index(saved[k])] = 0
        if left > 0:
            return event + 1
    return size.size


@kernel
def cluster_sizes(
    gradient: Array,
    indptr: Array,
    indices: Array,
    threshold: float,
    seen: Array,
    stack: Array,
    sizes: Array,
) -> int:
    """Fill ``sizes`` with the nodes of each connected component of the nodes above the threshold.

    ``seen`` comes as zeros, a byte a node; ``stack`` is scratch, an entry a node. The components come in
    the order of their first nodes. Returns their number.
    """
    found = 0
    for start in range(gradient.size):
        if seen[start] or not above(gradient[start], threshold):
            continue
        seen[start] = 1
        stack[0] = start
        height, size = 1, 0
        while height > 0:
            height -= 1
            i = index(stack[height])
            size += 1
            for edge in range(index(indptr[i]), index(indptr[i + index(1)])):
                j = index(indices[edge])
                if not seen[j] and above(gradient[j], threshold):
                    seen[j] = 1
                    stack[height] = j
                    height += 1
        sizes[found] = size
        found += 1
    return found


@kernel
def mark_reached(indptr: Array, indices: Array, height: int, stack: Array, marks: Array) -> None:
    """Mark every node that a path joins to the first ``height`` nodes in ``stack``, which are marked."""
    while height > 0:
        height -= 1
        i = index(stack[height])
        for edge in range(index(indptr[i]), index(indptr[i + index(1)])):
            j = index(indices[edge])
            if not marks[j]:
                marks[j] = 1
                stack[height] = j
                height += 1
