"""A large gradient's cascade, in parts: of threads, processes or files, never gathered.

A step is that of ``cascade``. The nodes of a process are cut into bins, and the bins are shared among
threads. First every thread lets the unstable nodes of its bins topple, and sorts their shares by the bin
that gets them. Then every thread adds the sorted shares to its bins, in the order of the senders. So the
avalanche is that of the gradient laid end to end, bit for bit, however the gradient is cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from gradquake.avalanche import (
    _kernels_angle,
    _kernels_cascade,
    _kernels_shares,
    _kernels_tensors,
    _kernels_threshold,
)
from gradquake.avalanche.cascade import Avalanche
from gradquake.avalanche.checks import not_finite
from gradquake.avalanche.collective import Exchange, Pieces, exact_sums, order_statistics, totals
from gradquake.avalanche.graphs import Graph, IntArray
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.shares import Part, Shares
from gradquake.avalanche.sums import STRETCH, Gradient, angle, dissipations, products
from gradquake.avalanche.tensors import Layers, Tally, TensorCounts
from gradquake.avalanche.threads import shared_among

__all__ = ["relax_pieces"]

# Shares that are handed on at a time, so that they stay in the caches.
CHUNK = 1 << 16

# A bin has a power of two of nodes, and at least this many. Sorting is fastest into few bins.
SMALLEST_BIN = _kernels_angle.BLOCK
MOST_BINS = 40

# More than one part a thread, since parts take unequally long.
PARTS = 2

# Nodes, and the share of each.
Gift = tuple[IntArray, Gradient]
T = TypeVar("T")


def _ranges(size: int, count: int) -> list[range]:
    """Cut ``range(size)`` into ``count`` ranges of about equal length."""
    edges = np.linspace(0, size, count + 1).astype(int).tolist()
    return [range(first, last) for first, last in pairwise(edges)]


def _stretches(items: Sequence[T], count: int) -> list[Sequence[T]]:
    """Cut items, in order, into ``count`` stretches of about equal length."""
    return [items[part.start : part.stop] for part in _ranges(len(items), count)]


def relax_pieces(
    pieces: Sequence[ArrayLike],
    graph_on: Callable[[int], Graph],
    cascade: CascadeSettings,
    *,
    exchange: Exchange,
    threads: int,
    tensors: Mapping[str, int] | Layers | None = None,
) -> Avalanche:
    """Let a gradient in pieces relax on the graph of its length; see ``Probe.measure_pieces``."""
    own = Pieces(pieces, exchange)
    tally = None if tensors is None else Tally([Layers.of(tensors, own.n)], 1, cascade.max_steps)
    return _Cascade(own, graph_on(own.n), exchange, threads, tally).relax(cascade)


class _Cascade:
    """The part of a cascade that one process computes."""

    def __init__(
        self, pieces: Pieces, graph: Graph, exchange: Exchange, threads: int, tally: Tally | None
    ) -> None:
        self.pieces, self.graph, self.exchange, self.threads = pieces, graph, exchange, threads
        self.tally = tally
        size, dtype = pieces.n_own, pieces.dtype
        self.relaxed = np.empty(size, dtype)
        words = (size + 63) // 64
        self.marks, self.toppled = np.empty(words, np.uint64), np.zeros(words, np.uint64)
        self.pages = np.empty((words + 63) // 64, np.uint8)
        # The system provides memory when it is first written to: for the nodes that topple at once.
        wide = size > np.iinfo(np.int32).max
        self.unstable: IntArray = np.empty(size, np.int64 if wide else np.int32)
        self.moved = np.empty(size, dtype)
        smallest = SMALLEST_BIN.bit_length() - 1
        self.shift = max(smallest, max(-(-size // MOST_BINS) - 1, 0).bit_length())
        n_bins = -(-size // (1 << self.shift))
        n_parts = min(PARTS * threads if threads > 1 else 1, n_bins)
        self.parts = [Part(bins, self.shift, size, n_bins, dtype) for bins in _ranges(n_bins, n_parts)]

    def relax(self, cascade: CascadeSettings) -> Avalanche:
        exchange = self.exchange
        with shared_among(self.threads) as self.run:
            self.threshold = self._quantile(cascade.quantile)
            kind: Any = self.pieces.dtype.type
            self.alpha, self.keep = kind(cascade.alpha), kind(1 - cascade.alpha)
            size = duration = area = peak = unstable = 0
            self.max_steps = cascade.max_steps
            count, new, isolated = totals(exchange, self.run(self._open, self.parts), 3)
            while count > 0:
                size += count
                area += new
                peak = max(peak, count)
                self._count_topplings(duration)
                duration += 1
                sent = self._hand_on()
                if duration == cascade.max_steps:
                    left = self.run(partial(self._close, sent=sent), self.parts)
                    (unstable,) = totals(exchange, left, 1)
                    break
                dense = _kernels_cascade.DENSE * count >= self.pieces.n
                going_on = partial(self._go_on, sent=sent, dense=dense)
                count, new = totals(exchange, self.run(going_on, self.parts), 2)
            deviation, dissipated = self._sums() if size > 0 else (0.0, 0.0)
        return Avalanche(
            self.threshold,
            size,
            isolated,
            duration,
            area,
            peak,
            unstable > 0,
            deviation,
            dissipated,
            self.relaxed,
            self._counts_of_all(),
        )

    def _count_topplings(self, step: int) -> None:
        """Count the topplings of a step by tensor, on this process alone."""
        if self.tally is None:
            return
        rows = self.tally.topplings[0]
        for part in self.parts:
            nodes, _ = part.listed(self.unstable, self.moved)
            row = rows[min(step, len(rows) - 1)]
            _kernels_tensors.count_listed(nodes, part.count, self._own_edges(self.tally), row)

    def _counts_of_all(self) -> TensorCounts | None:
        """Return the counts by tensor over all processes; None without tensors."""
        tally = self.tally
        if tally is None:
            return None
        _kernels_tensors.count_marked(self.toppled, self._own_edges(tally), tally.areas[0])
        pairs = self.exchange.allgather((tally.topplings, tally.areas))
        tally.topplings, tally.areas = (sum(of) for of in zip(*pairs, strict=True))
        return tally[0]

    def _own_edges(self, tally: Tally) -> IntArray:
        """Return the edges of tensors, counted from this process's first node."""
        own: IntArray = np.clip(tally.edges[0] - self.pieces.start, 0, self.pieces.n_own)
        return own

    def _shared(self, function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Return a function's results for all items, which the threads share in stretches."""
        found = self.run(lambda some: list(map(function, some)), _stretches(items, self.threads))
        return [one for of_stretch in found for one in of_stretch]

    def _open(self, part: Part) -> tuple[int, int, int]:
        """Copy a part of the gradient and let it topple.

        Returns how many nodes toppled, how many of them for the first time, and the isolated size.
        """
        part.count = new = isolated = 0
        own = slice(part.first, part.last)
        for first, last in part.stretches():
            words, pages = slice(first >> 6, (last + 63) >> 6), slice(first >> 12, (last + 4095) >> 12)
            part.count, more, alone = _kernels_cascade.first_topplings(
                self.pieces.original(first, last), self.relaxed[first:last], self.threshold, self.alpha,
                self.keep, self.max_steps, first, self.marks[words], self.toppled[words],
                self.pages[pages], self.unstable[own], self.moved[own], part.count,
                self.moved[first:last],
            )  # fmt: skip
            new, isolated = new + int(more), isolated + int(alone)
        return part.count, new, isolated

    def _go_on(self, part: Part, sent: Sequence[Shares], dense: bool) -> tuple[int, int]:
        """Let a part receive its shares and topple; return the first two numbers of ``_open``."""
        own, arrays = slice(part.first, part.last), zip(*(of.arrays for of in sent), strict=True)
        part.count, new = _kernels_shares.receive_and_topple(
            self.relaxed, part.bins.start, part.bins.stop, self.shift, *arrays, dense, self.threshold,
            self.alpha, self.keep, self.marks, self.toppled, self.pages, self.unstable[own],
            self.moved[own],
        )  # fmt: skip
        return part.count, int(new)

    def _close(self, part: Part, sent: Sequence[Shares]) -> tuple[int]:
        """Let a part receive its shares; return the number of nodes still unstable."""
        for shares in sent:
            _kernels_shares.receive(
                self.relaxed, part.bins.start, part.bins.stop, self.shift, *shares.arrays, True,
                self.threshold, self.marks, self.pages,
            )  # fmt: skip
        # In float64, as everywhere: float32 would round the threshold.
        threshold = np.float64(self.threshold)
        left = (np.abs(self.relaxed[first:last]) > threshold for first, last in part.stretches())
        return (sum(int(np.count_nonzero(above)) for above in left),)

    def _hand_on(self) -> list[Shares]:
        """Return the shares for this process, sorted, in the order of the senders."""
        if self.exchange.size == 1:
            list(self.run(self._sort_own, self.parts))
        else:
            boxes = list(self.run(self._split, self.parts))
            outgoing = [
                [gift for of_part in boxes for gift in of_part[r]] for r in range(self.exchange.size)
            ]
            del boxes
            arrived = [gift for of in self.exchange.alltoall(outgoing) for gift in of]
            del outgoing
            list(self.run(self._sort_arrived, self.parts, _stretches(arrived, len(self.parts))))
        return [part.sent for part in self.parts]

    def _sort_own(self, part: Part) -> None:
        """Sort the shares that a part sends, if there is only one process."""
        sent, graph = part.sent, self.graph
        sent.clear()
        # A little more than the mean degree, so that memory is seldom enlarged.
        sent.reserve(int(2.1 * graph.n_edges / self.pieces.n * part.count))
        if graph.is_computed:
            for targets, given in self._given_by(part):
                sent.add(targets, given, self.shift)
        else:
            sent.add_neighbors(*part.listed(self.unstable, self.moved), graph, self.shift)

    def _sort_arrived(self, part: Part, gifts: Sequence[Gift]) -> None:
        """Sort some of the shares that all processes send to this one."""
        part.sent.clear()
        part.sent.reserve(sum(given.size for _, given in gifts))
        for places, given in gifts:
            part.sent.add(places, given, self.shift)

    def _given_by(self, part: Part) -> Iterator[Gift]:
        """Yield the neighbors of a part's toppled nodes, in order, and the share of each."""
        nodes, moved = part.listed(self.unstable, self.moved)
        return self.graph.handed_on(self.pieces.start, nodes, moved, CHUNK)

    def _split(self, part: Part) -> list[list[Gift]]:
        """Return a part's shares for each process, whose nodes are counted from its first one."""
        boxes: list[list[Gift]] = [[] for _ in range(self.exchange.size)]
        ends = np.empty(self.exchange.size, np.int64)
        wide = np.diff(self.pieces.starts).max() > np.iinfo(np.int32).max
        for targets, given in self._given_by(part):
            places: IntArray = np.empty(targets.size, np.int64 if wide else np.int32)
            gifts = np.empty_like(given)
            _kernels_shares.split(targets, given, self.pieces.starts, ends, places, gifts)
            for box, start, stop in zip(boxes, [0, *ends[:-1]], ends, strict=True):
                if stop > start:
                    box.append((places[start:stop], gifts[start:stop]))
        return boxes

    def _quantile(self, quantile: float) -> float:
        """Return the quantile of the magnitudes, exact."""
        position = quantile * (self.pieces.n - 1)
        rank = int(position)
        weight = position - rank
        if self.exchange.size == 1:
            threshold = self._bracketed(quantile, rank, weight)
            if threshold is not None:
                return threshold
        ranks = [rank] if weight == 0 or rank + 1 == self.pieces.n else [rank, rank + 1]
        values = order_statistics(self.exchange, self.pieces.vectors, self.pieces.dtype, ranks, self.run)
        if values is None:
            raise self.pieces.not_finite()
        return float(_kernels_threshold.interpolated(np.array(values), len(values), 0, weight))

    def _bracketed(self, quantile: float, rank: int, weight: float) -> float | None:
        """Return the quantile by the kernel ``bracket``, or None if its bracket misses."""
        stride = max(self.pieces.n // int(self.pieces.n ** (2 / 3)), 1)
        sample = np.abs(np.concatenate([piece[::stride] for piece in self.pieces.vectors]))
        low, high = map(float, _kernels_threshold.bracket(sample, sample.size, quantile))

        def inside(part: Part) -> tuple[Gradient, int]:
            found, above = [], 0
            room = np.empty(min(STRETCH, part.last - part.first), self.pieces.dtype)
            for first, last in part.stretches():
                inside, more = _kernels_threshold.gather_between(
                    self.pieces.original(first, last), low, high, room
                )
                if inside < 0:
                    raise self.pieces.not_finite()
                found.append(room[:inside].copy())
                above += more
            return np.concatenate(found), above

        lists, counts = zip(*self.run(inside, self.parts), strict=True)
        found = np.concatenate(lists)
        below = self.pieces.n - found.size - sum(counts)
        if below <= rank and min(rank + 1, self.pieces.n - 1) < below + found.size:
            return float(_kernels_threshold.interpolated(found, found.size, rank - below, weight))
        return None

    def _sums(self) -> tuple[float, float]:
        """Return the angle and the dissipated sum, from exact sums over blocks of all entries."""
        stretches = self.pieces.stretches(self.relaxed, 4 * self.threads)

        def sums_at(scale: float) -> list[float]:
            rows = self._shared(lambda of: products(of.before(), of.after, scale), stretches)
            return exact_sums(self.exchange, np.concatenate([np.empty((0, 3)), *rows]))

        def largest() -> float:
            own = max(
                (float(np.abs(piece).max()) for piece in self.pieces.vectors if piece.size), default=0.0
            )
            return float(max(self.exchange.allgather(own)))

        deviation = angle(sums_at, largest)
        if math.isnan(deviation):
            raise not_finite("the gradient", self.relaxed[:0])
        if not self.graph.has_lonely_nodes:
            return deviation, 0.0
        lost = self._shared(
            lambda of: dissipations(of.before(), of.after, self.graph.indptr[of.first :]), stretches
        )
        return deviation, exact_sums(
            self.exchange, np.array([one for of in lost for one in of]).reshape(-1, 1)
        )[0]
