"""A cascade on a gradient in pieces: in several threads, processes or files, never gathered.

A step is that of ``gradquake.cascade``. Every piece lets its own unstable nodes topple and sends what
they give away to the pieces where their neighbours lie, 8 to 16 bytes a share; every piece adds what it
receives in the order of the pieces, and so of the senders. The avalanche is that of the gradient laid
end to end, bit for bit, however it is cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake import _kernels
from gradquake.cascade import Avalanche, Gradient, angle, as_gradient, dissipations, not_finite, products
from gradquake.errors import InputError, require, require_count
from gradquake.graphs import Graph, IntArray, check_graph

# Shares that are handed on at a time, so that they stay in the caches.
CHUNK = 1 << 16

Gifts = list[tuple[IntArray, Gradient]]
Run = Callable[..., Iterable[Any]]


class Exchange(Protocol):
    """What pieces on several processes need of each other; an mpi4py communicator is one."""

    rank: int
    size: int

    def allgather(self, value: Any, /) -> list[Any]:
        """Return the value of every process, in their order."""
        ...

    def alltoall(self, values: Sequence[Any], /) -> list[Any]:
        """Send ``values[r]`` to process r; return what each sent to this one."""
        ...


class Alone:
    """The exchange of a single process."""

    rank, size = 0, 1

    def allgather(self, value: Any, /) -> list[Any]:
        """Return the value."""
        return [value]

    def alltoall(self, values: Sequence[Any], /) -> list[Any]:
        """Return the values."""
        return list(values)


class _Piece:
    """A part of the gradient, what becomes of it, and the scratch of its cascade."""

    def __init__(self, original: Gradient, first: int, relaxed: Gradient) -> None:
        self.original, self.first, self.relaxed = original, first, relaxed
        words = (original.size + 63) // 64
        self.marks, self.toppled = np.zeros(words, np.uint64), np.zeros(words, np.uint64)
        self.pages = np.zeros((words + 63) // 64, np.uint8)
        # Memory is taken only where it is written to: for as many nodes as topple at once.
        wide = original.size > np.iinfo(np.int32).max
        self.unstable: IntArray = np.empty(original.size, np.int64 if wide else np.int32)
        self.share = np.empty(original.size, original.dtype)
        self.count = 0

    def topple(
        self, graph: Graph, threshold: float, alpha: Any, keep: Any, opening: bool, dense: bool
    ) -> tuple[int, int, int]:
        """Let what is unstable topple; return how many did, how many for the first time, any lossy."""
        self.count, new, lossy = _kernels.topple_part(
            self.original, self.relaxed, graph.pointers(self.first, self.original.size), threshold,
            alpha, keep, opening, dense, self.marks, self.toppled, self.pages, self.unstable, self.share,
        )  # fmt: skip
        return self.count, new, int(lossy)

    def give(self, graph: Graph) -> Iterator[tuple[IntArray, Gradient]]:
        """Yield the neighbours of the nodes that toppled, in order, and what each gets, in chunks."""
        return graph.handed_on(self.first, self.unstable[: self.count], self.share[: self.count], CHUNK)

    def sorted_gifts(self, graph: Graph, edges: NDArray[np.int64]) -> list[Gifts]:
        """Return what the nodes that toppled give to each part."""
        boxes: list[Gifts] = [[] for _ in edges[1:]]
        ends = np.empty(edges.size - 1, np.int64)
        wide = np.diff(edges).max() > np.iinfo(np.int32).max
        for targets, given in self.give(graph):
            places: IntArray = np.empty(targets.size, np.int64 if wide else np.int32)
            gifts = np.empty_like(given)
            _kernels.split(targets, given, edges, ends, places, gifts)
            for box, start, stop in zip(boxes, [0, *ends[:-1]], ends, strict=True):
                if stop > start:
                    box.append((places[start:stop], gifts[start:stop]))
        return boxes

    def receive(self, gifts: Iterable[tuple[IntArray, Gradient]], threshold: float) -> None:
        """Add shares in the order in which they come."""
        for places, given in gifts:
            _kernels.receive(self.relaxed, places, given, threshold, self.marks, self.pages)

    def unstable_now(self, threshold: float) -> int:
        """Return how many nodes are unstable."""
        parts = (self.relaxed[i : i + CHUNK] for i in range(0, self.relaxed.size, CHUNK))
        return sum(int(np.count_nonzero(np.abs(part) > threshold)) for part in parts)


def relax_pieces(
    pieces: Sequence[ArrayLike],
    graph: Graph,
    quantile: float,
    alpha: float,
    max_steps: int,
    *,
    exchange: Exchange,
    threads: int,
) -> Avalanche:
    """Let a gradient in pieces relax on a graph; see ``Probe.measure_pieces``."""
    return _Cascade(pieces, graph, exchange, threads).relax(quantile, alpha, max_steps)


class _Cascade:
    """The pieces of one process, and what it knows of the others."""

    def __init__(
        self, pieces: Sequence[ArrayLike], graph: Graph, exchange: Exchange, threads: int
    ) -> None:
        check_graph(graph)
        require_count("threads", threads, 1)
        vectors, fault = [], ""
        try:
            vectors = [as_gradient(piece, f"piece {i}") for i, piece in enumerate(pieces)]
        except InputError as error:
            fault = str(error)
        # What is wrong with one process must stop all of them: the others would wait for it.
        own = ([vector.size for vector in vectors], sorted({str(v.dtype) for v in vectors}), fault)
        told = exchange.allgather(own)
        for rank, (_, _, of_process) in enumerate(told):
            require(
                not of_process, f"{of_process} (process {rank})" if exchange.size > 1 else of_process
            )
        kinds = sorted({kind for _, of_process, _ in told for kind in of_process})
        require(bool(kinds), "no piece was given; at least one is needed")
        require(len(kinds) == 1, f"the pieces mix {' and '.join(kinds)}; one dtype is needed")
        lengths = [sum(sizes) for sizes, _, _ in told]
        self.n = sum(lengths)
        require(
            self.n == graph.n_nodes,
            f"the pieces have {self.n} entries together and the graph {graph.n_nodes} nodes; they must "
            "be equal",
        )
        self.graph, self.exchange, self.threads = graph, exchange, threads
        # Where the nodes of each process begin.
        self.starts = np.cumsum([0, *lengths])
        self.start = int(self.starts[exchange.rank])
        self.dtype = np.dtype(kinds[0])
        self.relaxed = np.empty(lengths[exchange.rank], self.dtype)
        self.pieces: list[_Piece] = []
        first = 0
        share = max(-(-self.relaxed.size // threads), _kernels.BLOCK)
        for vector in vectors:
            for cut in range(0, vector.size, share):
                part = np.ascontiguousarray(vector[cut : cut + share])
                self.pieces.append(_Piece(part, self.start + first, self.relaxed[first:][: part.size]))
                first += part.size
        # Where the nodes of each piece of each process begin, and whose it is.
        edges = exchange.allgather([piece.first for piece in self.pieces])
        self.edges = np.array([*(first for of in edges for first in of), self.n])
        self.owners = [rank for rank, of in enumerate(edges) for _ in of]

    def relax(self, quantile: float, alpha: float, max_steps: int) -> Avalanche:
        with ThreadPoolExecutor(self.threads) if self.threads > 1 else nullcontext() as pool:
            self.run: Run = map if pool is None else pool.map
            threshold = self._quantile(quantile)
            kind: Any = self.dtype.type
            size = duration = area = peak = 0
            dense, lossy, count = True, False, 1
            while duration < max_steps:
                toppling = partial(
                    _Piece.topple, graph=self.graph, threshold=threshold, alpha=kind(alpha),
                    keep=kind(1 - alpha), opening=duration == 0, dense=dense,
                )  # fmt: skip
                count, new, lost = self._total(3, self.run(toppling, self.pieces))
                area += new
                lossy |= lost > 0
                if count == 0:
                    break
                self._hand_on(threshold)
                dense = _kernels.DENSE * count >= self.n
                size += count
                peak = max(peak, count)
                duration += 1
            unstable = 0
            if count > 0:
                left = self.run(lambda piece: (piece.unstable_now(threshold),), self.pieces)
                (unstable,) = self._total(1, left)
            deviation, dissipated = self._sums(lossy) if size > 0 else (0.0, 0.0)
        return Avalanche(
            size, duration, area, peak, unstable > 0, deviation, threshold, dissipated, self.relaxed
        )

    def _total(self, columns: int, rows: Iterable[tuple[int, ...]]) -> list[int]:
        """Return the sums of the columns over all parts of all processes."""
        own = np.array([*rows, (0,) * columns]).sum(axis=0).tolist()
        return [sum(column) for column in zip(*self.exchange.allgather(own), strict=True)]

    def _hand_on(self, threshold: float) -> None:
        if len(self.owners) == 1:
            for piece in self.pieces:
                piece.receive(piece.give(self.graph), threshold)
            return
        boxes = list(self.run(lambda piece: piece.sorted_gifts(self.graph, self.edges), self.pieces))
        # By process, then by the part that receives, then by the part that gives.
        outgoing: list[list[Gifts]] = [[] for _ in range(self.exchange.size)]
        for p, owner in enumerate(self.owners):
            outgoing[owner].append([chunk for of_piece in boxes for chunk in of_piece[p]])
        incoming = self.exchange.alltoall(outgoing)

        def take(i: int) -> None:
            for of_process in incoming:
                self.pieces[i].receive(of_process[i], threshold)

        list(self.run(take, range(len(self.pieces))))

    def _quantile(self, quantile: float) -> float:
        """Return the quantile of the magnitudes, exact, from counts of their leading bits."""
        position = quantile * (self.n - 1)
        rank = int(position)
        weight = position - rank
        ranks = [rank] if weight == 0 or rank + 1 == self.n else [rank, rank + 1]
        width = 8 * self.dtype.itemsize
        bits = [piece.original.view(f"u{self.dtype.itemsize}") for piece in self.pieces]
        mask = 2 ** (width - 1) - 1
        found = self._descend(bits, mask, width - 16, 0, ranks)
        kind = np.dtype(f"u{self.dtype.itemsize}")
        values = np.array([found[r] for r in ranks], kind).view(self.dtype).astype(np.float64)
        below, above = float(values[0]), float(values[-1])
        # Rounded as NumPy does.
        step = above - below
        return float(above - step * (1.0 - weight) if weight >= 0.5 else below + step * weight)

    def _descend(
        self,
        bits: Sequence[NDArray[Any]],
        mask: int,
        shift: int,
        prefix: int,
        ranks: Sequence[int],
    ) -> dict[int, int]:
        """Return the bits of the values of some ranks among those that begin with a prefix."""

        def counted(values: NDArray[Any]) -> NDArray[np.int64]:
            counts = np.zeros(1 << 16, np.int64)
            _kernels.histogram(values, mask, shift, counts)
            return counts

        of_piece = list(self.run(counted, bits))
        own = np.sum([np.zeros(1 << 16, np.int64), *of_piece], axis=0)
        counts = np.sum(self.exchange.allgather(own), axis=0)
        if prefix == 0 and shift == 8 * self.dtype.itemsize - 16:
            infinity = int(np.array(np.inf, self.dtype).view(f"u{self.dtype.itemsize}")) >> shift
            if broken := int(counts[infinity:].sum()):
                raise InputError(
                    f"the gradient has {broken} entries that are not finite; finite numbers are needed"
                )
        ends = np.cumsum(counts)
        homes = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
        found: dict[int, int] = {}
        for home in sorted(set(homes.values())):
            inside = [rank for rank in ranks if homes[rank] == home]
            start, leading = int(ends[home] - counts[home]), prefix << 16 | home
            if shift == 0:
                found |= dict.fromkeys(inside, leading)
                continue

            def chosen(
                values: NDArray[Any],
                counts: NDArray[np.int64],
                home: int = home,
                leading: int = leading,
            ) -> NDArray[Any]:
                room = np.empty(counts[home] + 1, values.dtype)
                _kernels.matching(values, mask, shift, leading, room)
                return room[:-1]

            inner = list(self.run(chosen, bits, of_piece))
            within = self._descend(inner, mask, shift - 16, leading, [r - start for r in inside])
            found |= {rank: within[rank - start] for rank in inside}
        return found

    def _sums(self, lossy: bool) -> tuple[float, float]:
        """Return the angle and what was dissipated, from exact sums over blocks of all entries."""
        blocks = self._blocks()

        def sums_at(scale: float) -> list[float]:
            rows = self.run(lambda block: products(block[1], block[2], scale)[0], blocks)
            return self._exact(np.array(list(rows)).reshape(-1, 3))

        def largest() -> float:
            own = max((float(np.abs(piece.original).max()) for piece in self.pieces), default=0.0)
            return float(max(self.exchange.allgather(own)))

        deviation = angle(sums_at, largest)
        if math.isnan(deviation):
            raise not_finite("the gradient", self.relaxed[:0])
        if not lossy:
            return deviation, 0.0
        lost = [
            one
            for first, before, after in blocks
            for one in dissipations(before, after, self.graph.pointers(first, before.size))
        ]
        return deviation, self._exact(np.array(lost).reshape(-1, 1))[0]

    def _exact(self, rows: NDArray[np.float64]) -> list[float]:
        """Return the correctly rounded sum of each column over all processes."""
        if not all(self.exchange.allgather(bool(np.isfinite(rows).all()))):
            return [math.inf] * rows.shape[1]
        own = [sum(map(Fraction, column.tolist())) for column in rows.T]
        return [float(sum(column)) for column in zip(*self.exchange.allgather(own), strict=True)]

    def _blocks(self) -> list[tuple[int, Gradient, Gradient]]:
        """Return this process's whole blocks: their first node, and the gradient before and after.

        Blocks are cut from the whole gradient, so that one may reach into another process: it is where
        it begins, and what others have of it is sent there.
        """
        stop = self.start + self.relaxed.size
        boundary = min(-(-self.start // _kernels.BLOCK) * _kernels.BLOCK, stop)
        outgoing: list[Any] = [None] * self.exchange.size
        if boundary > self.start:
            begin = self.start // _kernels.BLOCK * _kernels.BLOCK
            owner = int(np.searchsorted(self.starts, begin, side="right")) - 1
            outgoing[owner] = (self._before(self.start, boundary), self.relaxed[: boundary - self.start])
        tail = [sent for sent in self.exchange.alltoall(outgoing) if sent is not None]
        blocks = [
            (first, self._before(first, last), self.relaxed[first - self.start : last - self.start])
            for first in range(boundary, stop, _kernels.BLOCK)
            for last in [min(first + _kernels.BLOCK, stop)]
        ]
        if tail and blocks:
            first, before, after = blocks.pop()
            befores, afters = zip((before, after), *tail, strict=True)
            blocks.append((first, np.concatenate(befores), np.concatenate(afters)))
        return blocks

    def _before(self, first: int, last: int) -> Gradient:
        """Return the gradient of this process between two nodes."""
        parts = [
            piece.original[max(first - piece.first, 0) : last - piece.first]
            for piece in self.pieces
            if piece.first < last and piece.first + piece.original.size > first
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
