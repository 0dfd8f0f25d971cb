"""A large gradient's cascade, in parts: of threads, processes or files, never gathered.

A step is that of ``cascade``. The nodes of a process are cut into bins. Every thread lets the
unstable nodes of some bins topple and sorts what they give away by the bin that gets it; then every
thread adds to its bins what all have sorted, in the order of the parts, and so of the senders. The
avalanche is that of the gradient laid end to end, bit for bit, however it is cut. A bin stays in the
caches while shares are added to it: on one thread that saves no more than sorting costs, but parts need
their shares sorted anyway.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from gradquake.avalanche import _kernels_angle, _kernels_cascade, _kernels_shares, _kernels_threshold
from gradquake.avalanche.cascade import (
    Avalanche,
    Gradient,
    angle,
    as_gradient,
    broken_entries,
    dissipations,
    not_finite,
    products,
    shared_among,
)
from gradquake.avalanche.collective import Exchange, exact_sums, order_statistics, totals
from gradquake.avalanche.graphs import Graph, IntArray
from gradquake.errors import InputError, require

# Shares that are handed on at a time, so that they stay in the caches.
CHUNK = 1 << 16

# Bins have a power of two of nodes, at least so many. Sorting is fastest into no more than so many.
SMALLEST_BIN = _kernels_angle.BLOCK
MOST_BINS = 40

# Numbers of 8 bytes that lie on one line of the caches, or on two that are fetched together.
LINE = 16

# Parts a thread: more than one, since parts take unequally long.
PARTS = 2

# Nodes, and the share of each.
Gift = tuple[IntArray, Gradient]
T = TypeVar("T")


class _Shares:
    """Shares on their way, sorted by the bin that gets them; see ``_kernels.sort_shares``."""

    def __init__(self, n_bins: int, dtype: np.dtype[Any]) -> None:
        self.links, self.shares = np.empty(0, np.int64), np.empty(0, dtype)
        # Apart from what other threads write to: no two of them share a line of the caches.
        self.ends = np.empty(n_bins + 2 * LINE, np.int64)[LINE:-LINE]
        self.clear()

    def clear(self) -> None:
        """Forget all shares, and keep the memory."""
        self.used = self.ends.size
        self.ends[:] = np.arange(self.used) << _kernels_shares.CHUNK_BITS

    @property
    def places(self) -> IntArray:
        """The memory of the shares, as integers of their width."""
        found: IntArray = self.shares.view(f"i{self.shares.itemsize}")
        return found

    def reserve(self, more: int) -> None:
        """See to it that there is room for so many shares more."""
        # Every bin may be one share short of a further chunk.
        needed = self.used + self.ends.size + (2 * more >> _kernels_shares.CHUNK_BITS) + 1
        if needed > self.links.size:
            room = max(needed, self.links.size * 3 // 2)
            links, shares = self.links, self.shares
            # Memory is taken only where it is written to.
            self.links = np.empty(room, np.int64)
            self.shares = np.empty(room << _kernels_shares.CHUNK_BITS, shares.dtype)
            self.links[: links.size], self.shares[: shares.size] = links, shares

    def add(self, targets: IntArray, given: Gradient, shift: int) -> None:
        """Append shares for nodes that are counted from the first bin on."""
        self.reserve(targets.size)
        self.used = _kernels_shares.sort_shares(
            targets, given, shift, self.links, self.ends, self.places, self.shares, self.used
        )

    def add_neighbours(self, nodes: IntArray, moved: Gradient, graph: Graph, shift: int) -> None:
        """Append the shares that the neighbours of nodes get, in a graph that is stored."""
        begin = 0
        while begin < nodes.size:
            begin, self.used = _kernels_shares.sort_neighbours_shares(
                nodes, moved, begin, graph.indptr, graph.indices, shift,
                self.links, self.ends, self.places, self.shares, self.used,
            )  # fmt: skip
            if begin < nodes.size:
                node = int(nodes[begin])
                self.reserve(int(graph.indptr[node + 1] - graph.indptr[node]))


class _Part:
    """Some bins of a process: its nodes ``first`` to ``last``.

    ``count`` of them are listed as unstable. What is sent is sorted by all bins.
    """

    def __init__(self, bins: range, shift: int, n: int, all_bins: int, dtype: np.dtype[Any]) -> None:
        self.bins = bins
        self.first, self.last = bins.start << shift, min(bins.stop << shift, n)
        self.count = 0
        self.sent = _Shares(all_bins, dtype)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the first node of every block of the part, and the one after its last."""
        for first in range(self.first, self.last, _kernels_angle.BLOCK):
            yield first, min(first + _kernels_angle.BLOCK, self.last)

    def listed(self, unstable: IntArray, moved: Gradient) -> tuple[IntArray, Gradient]:
        """Return the part's nodes that toppled, and what each gives away, from the process's lists."""
        own = slice(self.first, self.first + self.count)
        return unstable[own], moved[own]


def _ranges(size: int, count: int) -> list[range]:
    """Return so many ranges of about equal length, which make up ``range(size)``."""
    edges = np.linspace(0, size, count + 1).astype(int).tolist()
    return [range(first, last) for first, last in pairwise(edges)]


def _stretches(items: Sequence[T], count: int) -> list[Sequence[T]]:
    """Return items in order, in so many stretches of about equal length."""
    return [items[part.start : part.stop] for part in _ranges(len(items), count)]


def relax_pieces(
    pieces: Sequence[ArrayLike],
    graph_on: Callable[[int], Graph],
    quantile: float,
    alpha: float,
    max_steps: int,
    *,
    exchange: Exchange,
    threads: int,
) -> Avalanche:
    """Let a gradient in pieces relax on the graph on its length; see ``Probe.measure_pieces``."""
    return _Cascade(pieces, graph_on, exchange, threads).relax(quantile, alpha, max_steps)


class _Cascade:
    """What one process has of a gradient, and what it knows of the others."""

    def __init__(
        self,
        pieces: Sequence[ArrayLike],
        graph_on: Callable[[int], Graph],
        exchange: Exchange,
        threads: int,
    ) -> None:
        vectors, fault = [], ""
        try:
            vectors = [as_gradient(piece, f"piece {i}") for i, piece in enumerate(pieces)]
        except InputError as error:
            fault = str(error)
        # What is wrong with one process must stop all of them: the others would wait for it.
        own = ([vector.size for vector in vectors], sorted({str(v.dtype) for v in vectors}), fault)
        told = exchange.allgather(own)
        for rank, (_, _, of_process) in enumerate(told):
            if of_process:
                raise InputError(f"{of_process} (process {rank})" if exchange.size > 1 else of_process)
        kinds = sorted({kind for _, of_process, _ in told for kind in of_process})
        require(bool(kinds), "no piece was given; at least one is needed")
        if len(kinds) != 1:
            raise InputError(f"the pieces mix {' and '.join(kinds)}; one dtype is needed")
        lengths = [sum(sizes) for sizes, _, _ in told]
        self.n = sum(lengths)
        self.graph, self.exchange, self.threads = graph_on(self.n), exchange, threads
        # Where the nodes of each process begin.
        self.starts = np.cumsum([0, *lengths])
        self.start = int(self.starts[exchange.rank])
        self.dtype = np.dtype(kinds[0])
        self.pieces = [np.ascontiguousarray(vector) for vector in vectors]
        self.piece_starts = np.cumsum([0, *(vector.size for vector in vectors)]).tolist()

        size = lengths[exchange.rank]
        self.relaxed = np.empty(size, self.dtype)
        words = (size + 63) // 64
        self.marks, self.toppled = np.empty(words, np.uint64), np.zeros(words, np.uint64)
        self.pages = np.empty((words + 63) // 64, np.uint8)
        # Memory is taken only where it is written to: for as many nodes as topple at once.
        wide = size > np.iinfo(np.int32).max
        self.unstable: IntArray = np.empty(size, np.int64 if wide else np.int32)
        self.moved = np.empty(size, self.dtype)
        smallest = SMALLEST_BIN.bit_length() - 1
        self.shift = max(smallest, max(-(-size // MOST_BINS) - 1, 0).bit_length())
        n_bins = -(-size // (1 << self.shift))
        n_parts = min(PARTS * threads if threads > 1 else 1, n_bins)
        self.parts = [
            _Part(bins, self.shift, size, n_bins, self.dtype) for bins in _ranges(n_bins, n_parts)
        ]

    def relax(self, quantile: float, alpha: float, max_steps: int) -> Avalanche:
        exchange = self.exchange
        with shared_among(self.threads) as self.run:
            self.threshold = self._quantile(quantile)
            kind: Any = self.dtype.type
            self.alpha, self.keep = kind(alpha), kind(1 - alpha)
            size = duration = area = peak = unstable = 0
            count, new = totals(exchange, self.run(self._open, self.parts), 2)
            while count > 0:
                size += count
                area += new
                peak = max(peak, count)
                duration += 1
                sent = self._hand_on()
                if duration == max_steps:
                    left = self.run(partial(self._close, sent=sent), self.parts)
                    (unstable,) = totals(exchange, left, 1)
                    break
                dense = _kernels_cascade.DENSE * count >= self.n
                going_on = partial(self._go_on, sent=sent, dense=dense)
                count, new = totals(exchange, self.run(going_on, self.parts), 2)
            deviation, dissipated = self._sums() if size > 0 else (0.0, 0.0)
        return Avalanche(
            self.threshold, size, duration, area, peak, unstable > 0, deviation, dissipated, self.relaxed
        )

    def _shared(self, function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Return what a function makes of every item, a stretch of them on each thread."""
        found = self.run(lambda some: list(map(function, some)), _stretches(items, self.threads))
        return [one for of_stretch in found for one in of_stretch]

    def _open(self, part: _Part) -> tuple[int, int]:
        """Copy a part of the gradient and let it topple; return how many did, and for the first time."""
        part.count = new = 0
        for first, last in part.blocks():
            self.relaxed[first:last] = self._original(first, last)
            new += self._topple(part, first, last, dense=True)
        return part.count, new

    def _go_on(self, part: _Part, sent: Sequence[_Shares], dense: bool) -> tuple[int, int]:
        """Let a part receive its shares and topple; return what ``_open`` does."""
        part.count = new = 0
        # Where many topple, bin by bin, while it is in the caches.
        for bins in [range(b, b + 1) for b in part.bins] if dense else [part.bins]:
            self._receive(bins, sent, dense)
            last = min(bins.stop << self.shift, part.last)
            new += self._topple(part, bins.start << self.shift, last, dense)
        return part.count, new

    def _close(self, part: _Part, sent: Sequence[_Shares]) -> tuple[int]:
        """Let a part receive its shares; return how many of its nodes are left unstable."""
        self._receive(part.bins, sent, dense=True)
        # In float64, as it is looked for everywhere else: float32 would round the threshold.
        threshold = np.float64(self.threshold)
        left = (np.abs(self.relaxed[first:last]) > threshold for first, last in part.blocks())
        return (sum(int(np.count_nonzero(above)) for above in left),)

    def _topple(self, part: _Part, first: int, last: int, dense: bool) -> int:
        words, pages = slice(first >> 6, (last + 63) >> 6), slice(first >> 12, (last + 4095) >> 12)
        own = slice(part.first, part.last)
        part.count, new = _kernels_cascade.topple(
            self.relaxed[first:last], self.threshold, self.alpha, self.keep, dense, first,
            self.marks[words], self.toppled[words], self.pages[pages],
            self.unstable[own], self.moved[own], part.count,
        )  # fmt: skip
        return int(new)

    def _receive(self, bins: range, sent: Sequence[_Shares], dense: bool) -> None:
        for shares in sent:
            _kernels_shares.receive(
                self.relaxed, bins.start, bins.stop, self.shift, shares.links, shares.ends,
                shares.places, shares.shares, dense, self.threshold, self.marks, self.pages,
            )  # fmt: skip

    def _hand_on(self) -> list[_Shares]:
        """Return what all nodes give to those of this process, sorted, in the order of the senders."""
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

    def _sort_own(self, part: _Part) -> None:
        """Sort what a part of the only process gives."""
        sent, graph = part.sent, self.graph
        sent.clear()
        # A little more than nodes have on average, so that memory is seldom taken twice.
        sent.reserve(int(2.1 * graph.n_edges / self.n * part.count))
        if graph.is_computed:
            for targets, given in self._given_by(part):
                sent.add(targets, given, self.shift)
        else:
            sent.add_neighbours(*part.listed(self.unstable, self.moved), graph, self.shift)

    def _sort_arrived(self, part: _Part, gifts: Sequence[Gift]) -> None:
        """Sort some of what all processes give to this one."""
        part.sent.clear()
        part.sent.reserve(sum(given.size for _, given in gifts))
        for places, given in gifts:
            part.sent.add(places, given, self.shift)

    def _given_by(self, part: _Part) -> Iterator[Gift]:
        """Yield the neighbours of a part's nodes that toppled, in order, and what each gets."""
        nodes, moved = part.listed(self.unstable, self.moved)
        return self.graph.handed_on(self.start, nodes, moved, CHUNK)

    def _split(self, part: _Part) -> list[list[Gift]]:
        """Return what a part gives to each process, for nodes counted from its first one."""
        boxes: list[list[Gift]] = [[] for _ in range(self.exchange.size)]
        ends = np.empty(self.exchange.size, np.int64)
        wide = np.diff(self.starts).max() > np.iinfo(np.int32).max
        for targets, given in self._given_by(part):
            places: IntArray = np.empty(targets.size, np.int64 if wide else np.int32)
            gifts = np.empty_like(given)
            _kernels_shares.split(targets, given, self.starts, ends, places, gifts)
            for box, start, stop in zip(boxes, [0, *ends[:-1]], ends, strict=True):
                if stop > start:
                    box.append((places[start:stop], gifts[start:stop]))
        return boxes

    def _original(self, first: int, last: int) -> Gradient:
        """Return the gradient of this process between two of its nodes."""
        found = []
        for i in range(bisect_right(self.piece_starts, first) - 1, len(self.pieces)):
            start = self.piece_starts[i]
            if start >= last:
                break
            found.append(self.pieces[i][max(first - start, 0) : last - start])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _quantile(self, quantile: float) -> float:
        """Return the quantile of the magnitudes, exact."""
        position = quantile * (self.n - 1)
        rank = int(position)
        weight = position - rank
        if self.exchange.size == 1:
            threshold = self._bracketed(quantile, rank, weight)
            if threshold is not None:
                return threshold
        ranks = [rank] if weight == 0 or rank + 1 == self.n else [rank, rank + 1]
        values = order_statistics(self.exchange, self.pieces, self.dtype, ranks, self.run)
        if values is None:
            raise self._not_finite()
        return float(_kernels_threshold.interpolated(np.array(values), len(values), 0, weight))

    def _bracketed(self, quantile: float, rank: int, weight: float) -> float | None:
        """Return the quantile by way of ``_kernels.bracket``, or None where the bracket misses."""
        stride = max(self.n // int(self.n ** (2 / 3)), 1)
        sample = np.abs(np.concatenate([piece[::stride] for piece in self.pieces]))
        low, high = map(float, _kernels_threshold.bracket(sample, sample.size, quantile))

        def inside(part: _Part) -> tuple[Gradient, int]:
            found, above = [], 0
            room = np.empty(_kernels_angle.BLOCK, self.dtype)
            for first, last in part.blocks():
                inside, more = _kernels_threshold.gather_between(
                    self._original(first, last), low, high, room
                )
                if inside < 0:
                    raise self._not_finite()
                found.append(room[:inside].copy())
                above += more
            return np.concatenate(found), above

        lists, counts = zip(*self.run(inside, self.parts), strict=True)
        found = np.concatenate(lists)
        below = self.n - found.size - sum(counts)
        if below <= rank and min(rank + 1, self.n - 1) < below + found.size:
            return float(_kernels_threshold.interpolated(found, found.size, rank - below, weight))
        return None

    def _not_finite(self) -> InputError:
        """Return the error for entries that are not finite, on whichever process."""
        count, first, value = 0, self.n, math.nan
        for piece, start in zip(self.pieces, self.piece_starts, strict=False):
            where = np.flatnonzero(~np.isfinite(piece))
            if where.size and not count:
                first, value = self.start + start + int(where[0]), float(piece[where[0]])
            count += where.size
        told = self.exchange.allgather((count, first, value))
        first, value = min((of[1:] for of in told), key=lambda of: of[0])
        return broken_entries("the gradient", sum(of[0] for of in told), first, value)

    def _sums(self) -> tuple[float, float]:
        """Return the angle and what was dissipated, from exact sums over blocks of all entries."""
        blocks = self._blocks()

        def sums_at(scale: float) -> list[float]:
            rows = self._shared(lambda block: products(block[1], block[2], scale)[0], blocks)
            return exact_sums(self.exchange, np.array(rows).reshape(-1, 3))

        def largest() -> float:
            own = max((float(np.abs(piece).max()) for piece in self.pieces if piece.size), default=0.0)
            return float(max(self.exchange.allgather(own)))

        deviation = angle(sums_at, largest)
        if math.isnan(deviation):
            raise not_finite("the gradient", self.relaxed[:0])
        if not self.graph.has_lonely_nodes:
            return deviation, 0.0
        lost = self._shared(
            lambda block: dissipations(block[1], block[2], self.graph.indptr[block[0] :])[0], blocks
        )
        return deviation, exact_sums(self.exchange, np.array(lost).reshape(-1, 1))[0]

    def _blocks(self) -> list[tuple[int, Gradient, Gradient]]:
        """Return this process's whole blocks: their first node, and the gradient before and after.

        Blocks are cut from the whole gradient, so that one may reach into another process: it is where
        it begins, and what others have of it is sent there.
        """
        stop = self.start + self.relaxed.size
        boundary = min(-(-self.start // _kernels_angle.BLOCK) * _kernels_angle.BLOCK, stop)
        outgoing: list[Any] = [None] * self.exchange.size
        if boundary > self.start:
            begin = self.start // _kernels_angle.BLOCK * _kernels_angle.BLOCK
            owner = int(np.searchsorted(self.starts, begin, side="right")) - 1
            cut = boundary - self.start
            outgoing[owner] = (self._original(0, cut), self.relaxed[:cut])
        tail = [sent for sent in self.exchange.alltoall(outgoing) if sent is not None]
        blocks = []
        for first in range(boundary, stop, _kernels_angle.BLOCK):
            a, b = first - self.start, min(first + _kernels_angle.BLOCK, stop) - self.start
            blocks.append((first, self._original(a, b), self.relaxed[a:b]))
        if tail and blocks:
            first, before, after = blocks.pop()
            befores, afters = zip((before, after), *tail, strict=True)
            blocks.append((first, np.concatenate(befores), np.concatenate(afters)))
        return blocks
