"""Compiled loops of models with known exponents: avalanches one after another.

Each kernel fills ``sizes``, ``durations`` and ``areas``, one entry per avalanche. It leaves the state of
the model and of its random numbers in its arguments, so that a second call continues the first.
"""

from __future__ import annotations

import numpy as np

from gradquake.avalanche._kernels_random import next_random, random_below, uniform
from gradquake.avalanche._numba import Array, inlined, kernel

__all__ = ["branching", "directed_sandpile", "earthquakes", "enqueued", "manna", "oslo"]


@inlined
def enqueued(
    site: int, unstable: bool, step: int, queued: Array, following: Array, upcoming: int
) -> int:
    """Write an unstable site behind the ``upcoming`` sites of the next step; return their new number.

    Without a branch, which no processor could predict: this makes the loops twice as fast. ``following``
    therefore needs one place more than there are sites.
    """
    queued[site] = step if unstable else queued[site]
    following[upcoming] = site
    return upcoming + unstable


@kernel
def branching(
    chance: float, generations: int, state: Array, sizes: Array, durations: Array, areas: Array
) -> None:
    """Grow families of one ancestor, in which each member may have two children, each with ``chance``.

    Only the first ``generations`` are counted. Size and area are the members, duration the generations.
    """
    for a in range(sizes.size):
        living, total, t = 1, 0, 0
        while living > 0 and t < generations:
            total += living
            t += 1
            children = 0
            for _ in range(2 * living):
                if uniform(next_random(state)) < chance:
                    children += 1
            living = children
        sizes[a] = areas[a] = total
        durations[a] = t


@kernel
def directed_sandpile(
    heights: Array, state: Array, sizes: Array, durations: Array, areas: Array
) -> None:
    """Drop grains on the top row of a directed sandpile, ``heights`` of shape (rows, width).

    A site topples at height 2: one grain falls to the site below it and one to that site's right
    neighbor, periodic. The toppling sites of a row are neighbors. Of the sites below them, all but the
    outer two receive two grains and topple without a change of height; the outer two receive one.
    """
    rows, width = heights.shape
    for a in range(sizes.size):
        left = random_below(width, state)
        heights[0, left] ^= 1
        right = left if heights[0, left] == 0 else left - 1
        total, t = 0, 0
        while right >= left:
            total += right - left + 1
            t += 1
            if t == rows:
                break
            first, last = left % width, (right + 1) % width
            heights[t, first] ^= 1
            heights[t, last] ^= 1
            if heights[t, first] == 1:
                left += 1
            if heights[t, last] == 0:
                right += 1
        sizes[a] = areas[a] = total
        durations[a] = t


@kernel
def oslo(
    slopes: Array, limits: Array, state: Array, sizes: Array, durations: Array, areas: Array
) -> None:
    """Drop grains on the first site of Oslo rice piles, given by their slopes and their critical slopes.

    A site topples if its slope exceeds its critical slope, 1 or 2, which is then drawn anew. All
    unstable sites topple at the same instant. Grains leave at the last site.
    """
    n = slopes.size
    active, following = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    queued, toppled = np.full(n, -1), np.full(n, -1)
    step = 0
    for a in range(sizes.size):
        slopes[0] += 1
        active[0], count = 0, 1 if slopes[0] > limits[0] else 0
        total, t, area = 0, 0, 0
        while count > 0:
            total += count
            t += 1
            step += 1
            upcoming = 0
            for k in range(count):
                i = active[k]
                slopes[i] -= 2 if i < n - 1 else 1
                limits[i] = 1 + np.int64(next_random(state) >> np.uint64(63))
                area += toppled[i] != a
                toppled[i] = a
                upcoming = enqueued(i, slopes[i] > limits[i], step, queued, following, upcoming)
            for k in range(count):
                i = active[k]
                for j in (i - 1, i + 1):
                    if 0 <= j < n:
                        slopes[j] += 1
                        fresh = (slopes[j] > limits[j]) & (queued[j] != step)
                        upcoming = enqueued(j, fresh, step, queued, following, upcoming)
            active, following, count = following, active, upcoming
        sizes[a], durations[a], areas[a] = total, t, area


@kernel
def manna(heights: Array, state: Array, sizes: Array, durations: Array, areas: Array) -> None:
    """Drop grains on random sites of a square of Abelian Manna piles, ``heights`` with a border of one.

    A site of two grains or more sends two of them to neighbors, each to one at random. All unstable
    sites topple at the same instant. Grains that reach the border stay there.
    """
    stride = heights.shape[1]
    side, flat = stride - 2, heights.ravel()
    active, following = np.empty(side * side + 1, np.int64), np.empty(side * side + 1, np.int64)
    queued, toppled = np.full(flat.size, -1), np.full(flat.size, -1)
    # Border sites count as queued for ever.
    queued[:stride] = queued[-stride:] = queued[::stride] = queued[stride - 1 :: stride] = 1 << 62
    moves = np.array([-stride, -1, 1, stride])
    step = 0
    for a in range(sizes.size):
        start = (1 + random_below(side, state)) * stride + 1 + random_below(side, state)
        flat[start] += 1
        active[0], count = start, 1 if flat[start] > 1 else 0
        total, t, area = 0, 0, 0
        while count > 0:
            total += count
            t += 1
            step += 1
            upcoming = 0
            for k in range(count):
                i = active[k]
                flat[i] -= 2
                area += toppled[i] != a
                toppled[i] = a
                upcoming = enqueued(i, flat[i] > 1, step, queued, following, upcoming)
            for k in range(count):
                word = next_random(state) >> np.uint64(60)
                for direction in (word & np.uint64(3), word >> np.uint64(2)):
                    j = active[k] + moves[direction]
                    flat[j] += 1
                    fresh = (flat[j] > 1) & (queued[j] < step)
                    upcoming = enqueued(j, fresh, step, queued, following, upcoming)
            active, following, count = following, active, upcoming
        sizes[a], durations[a], areas[a] = total, t, area


@kernel
def earthquakes(
    forces: Array, alpha: float, transient: float, sizes: Array, durations: Array, areas: Array
) -> None:
    """Load a square of blocks until one slips, again and again; ``forces`` has a border of -infinity.

    A block slips at force 1 or more: its force becomes 0, and each neighbor receives ``alpha`` of it.
    All unstable blocks slip at the same instant. Avalanches count once the load of a block has reached
    ``transient``.
    """
    stride = forces.shape[1]
    side, flat = stride - 2, forces.ravel()
    active, following = np.empty(side * side + 1, np.int64), np.empty(side * side + 1, np.int64)
    released = np.empty(side * side)
    queued, slipped = np.full(flat.size, -1), np.full(flat.size, -1)
    largest, changed = np.empty(stride, np.int64), np.ones(stride, np.bool_)
    # A force is its entry plus the load since the entries were last brought up to date.
    load, loaded = 0.0, 0.0
    step, a, quake = 0, 0, 0
    while a < sizes.size:
        start = 0
        for row in range(1, side + 1):
            if changed[row]:
                changed[row] = False
                best = row * stride + 1
                for i in range(best + 1, best + side):
                    if flat[i] > flat[best]:
                        best = i
                largest[row] = best
            if flat[largest[row]] > flat[start]:
                start = largest[row]
        if load > 1.0:
            for i in range(flat.size):
                flat[i] += load
            loaded += load
            load = 0.0
        load = max(load, 1.0 - flat[start])
        active[0], count = start, 1
        total, t, area = 0, 0, 0
        while count > 0:
            total += count
            t += 1
            step += 1
            upcoming = 0
            for k in range(count):
                i = active[k]
                released[k] = alpha * (flat[i] + load)
                flat[i] = -load
                area += slipped[i] != quake
                slipped[i] = quake
                row = i // stride
                changed[row - 1] = changed[row] = changed[row + 1] = True
            for k in range(count):
                i = active[k]
                for j in (i - stride, i - 1, i + 1, i + stride):
                    flat[j] += released[k]
                    fresh = (flat[j] + load >= 1.0) & (queued[j] != step)
                    upcoming = enqueued(j, fresh, step, queued, following, upcoming)
            active, following, count = following, active, upcoming
        quake += 1
        if loaded + load >= transient:
            sizes[a], durations[a], areas[a] = total, t, area
            a += 1
    for i in range(flat.size):
        flat[i] += load
