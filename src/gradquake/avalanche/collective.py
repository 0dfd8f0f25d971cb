"""A gradient that processes share: its pieces, and sums and order statistics over all of it.

All processes call these functions together, and get the same result.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_angle, _kernels_shares
from gradquake.avalanche.checks import as_gradient, broken_entries
from gradquake.avalanche.sums import STRETCH, Gradient, exact_sum
from gradquake.avalanche.threads import Run
from gradquake.errors import InputError, require

__all__ = ["Alone", "Exchange", "Pieces", "exact_sums", "order_statistics", "totals"]

# Bits that are counted in one round.
BITS = 16

Bits = NDArray[np.unsignedinteger[Any]]


class Exchange(Protocol):
    """The messages between processes that share a gradient; an mpi4py communicator is one.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and of all processes, as mpi4py names them.
    """

    rank: int
    size: int

    def allgather(self, value: Any, /) -> list[Any]:
        """Return the value of every process, in their order."""
        ...

    def alltoall(self, values: Sequence[Any], /) -> list[Any]:
        """Send ``values[r]`` to process r; return the values that each sent to this one."""
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


def totals(exchange: Exchange, rows: Iterable[Sequence[int]], columns: int) -> list[int]:
    """Return the sums of the columns of all processes' rows; a process may have none."""
    own = [sum(column) for column in zip(*rows, (0,) * columns, strict=True)]
    return [sum(column) for column in zip(*exchange.allgather(own), strict=True)]


def exact_sums(exchange: Exchange, rows: NDArray[np.float64]) -> list[float]:
    """Return the correctly rounded sum of each column of the rows of all processes.

    Infinity if the sum or any entry is not finite.
    """
    if exchange.size == 1:
        return [exact_sum(column) for column in rows.T]
    if not all(exchange.allgather(bool(np.isfinite(rows).all()))):
        return [math.inf] * rows.shape[1]
    own = [sum(map(Fraction, column.tolist())) for column in rows.T]
    sums = [sum(column) for column in zip(*exchange.allgather(own), strict=True)]
    return [float(total) if abs(total) <= sys.float_info.max else math.inf for total in sums]


class Stretch(NamedTuple):
    """Some blocks: their first node, a function that returns the gradient, and the relaxed gradient."""

    first: int
    before: Callable[[], Gradient]
    after: Gradient


class Pieces:
    """A gradient in pieces, on one process or several: the pieces of this one, and the size of all.

    Parameters
    ----------
    pieces : sequence of array of float32 or float64, each of shape (any,)
        This process's pieces, in order.
    exchange : Exchange

    Attributes
    ----------
    n : int
        The number of entries on all processes.
    starts : array, shape (processes + 1,)
        The first node of each process, and the number of all.
    start, n_own : int
        The first node of this process, and the number of its nodes.
    dtype : dtype
    vectors : list of array
        The pieces as contiguous arrays.

    Raises
    ------
    InputError
        On every process, for pieces that are no gradients or differ in dtype: if only one process
        raised it, the others would wait for that one.
    """

    def __init__(self, pieces: Sequence[ArrayLike], exchange: Exchange) -> None:
        vectors, fault = [], ""
        try:
            vectors = [as_gradient(piece, f"piece {i}") for i, piece in enumerate(pieces)]
        except InputError as error:
            fault = str(error)
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
        self._exchange, self.dtype = exchange, np.dtype(kinds[0])
        self.n, self.n_own = sum(lengths), lengths[exchange.rank]
        self.starts = np.cumsum([0, *lengths])
        self.start = int(self.starts[exchange.rank])
        self.vectors: list[Gradient] = [np.ascontiguousarray(vector) for vector in vectors]
        self._ends_before = np.cumsum([0, *(vector.size for vector in vectors)]).tolist()

    def original(self, first: int, last: int) -> Gradient:
        """Return the gradient of this process between two of its nodes."""
        found = []
        for i in range(bisect_right(self._ends_before, first) - 1, len(self.vectors)):
            start = self._ends_before[i]
            if start >= last:
                break
            found.append(self.vectors[i][max(first - start, 0) : last - start])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def not_finite(self) -> InputError:
        """Return the error for entries that are not finite, on any process."""
        count, first, value = 0, self.n, math.nan
        for piece, start in zip(self.vectors, self._ends_before, strict=False):
            broken = np.flatnonzero(~np.isfinite(piece))
            if broken.size and not count:
                first, value = self.start + start + int(broken[0]), float(piece[broken[0]])
            count += broken.size
        told = self._exchange.allgather((count, first, value))
        first, value = min((of[1:] for of in told), key=lambda of: of[0])
        return broken_entries("the gradient", sum(of[0] for of in told), first, value)

    def stretches(self, relaxed: Gradient, count: int) -> list[Stretch]:
        """Return this process's blocks in stretches, at least about ``count`` of them.

        Blocks are cut from the whole gradient. One that reaches into other processes belongs to the
        process in which it begins; the others send their entries there.
        """
        stop = self.start + relaxed.size
        boundary = min(-(-self.start // _kernels_angle.BLOCK) * _kernels_angle.BLOCK, stop)
        outgoing: list[Any] = [None] * self._exchange.size
        if boundary > self.start:
            begin = self.start // _kernels_angle.BLOCK * _kernels_angle.BLOCK
            owner = int(np.searchsorted(self.starts, begin, side="right")) - 1
            cut = boundary - self.start
            outgoing[owner] = (self.original(0, cut), relaxed[:cut])
        tail = [sent for sent in self._exchange.alltoall(outgoing) if sent is not None]
        # The last block may be completed by others; it is a stretch of its own.
        last = max(stop - 1 - (stop - 1 - boundary) % _kernels_angle.BLOCK, boundary)
        blocks = max((last - boundary) // _kernels_angle.BLOCK // count, 1)
        length = min(blocks * _kernels_angle.BLOCK, STRETCH)
        found = []
        for first, end in pairwise([*range(boundary, last, length), last, stop]):
            if end > first:
                a, b = first - self.start, end - self.start
                found.append(Stretch(first, partial(self.original, a, b), relaxed[a:b]))
        if tail and found:
            first, before, after = found.pop()
            befores, afters = zip((before(), after), *tail, strict=True)
            whole = np.concatenate(befores)
            found.append(Stretch(first, lambda: whole, np.concatenate(afters)))
        return found


def order_statistics(
    exchange: Exchange, pieces: Sequence[Gradient], dtype: np.dtype[Any], ranks: Sequence[int], run: Run
) -> list[float] | None:
    """Return the magnitudes at given order positions of all entries, by radix selection.

    Read as integers, the bits of positive floats sort as the floats do. Processes can add up counts of
    the leading bits, and so find those of each rank; then they count the following bits among the
    entries that begin with them. None if an entry is not finite.
    """
    kind = np.dtype(f"u{dtype.itemsize}")
    search = _RadixSearch(exchange, run, dtype)
    found = search.descend([piece.view(kind) for piece in pieces], search.width - BITS, 0, ranks)
    if found is None:
        return None
    values: list[float] = np.array([found[rank] for rank in ranks], kind).view(dtype).tolist()
    return values


class _RadixSearch:
    """The search for the bits of values of given ranks, ``BITS`` of them in one round."""

    def __init__(self, exchange: Exchange, run: Run, dtype: np.dtype[Any]) -> None:
        self.exchange, self.run = exchange, run
        self.width = 8 * dtype.itemsize
        self.mask = 2 ** (self.width - 1) - 1
        self.infinity = int(np.array(np.inf, dtype).view(f"u{dtype.itemsize}")) >> (self.width - BITS)

    def descend(
        self, bits: Sequence[Bits], shift: int, prefix: int, ranks: Sequence[int]
    ) -> dict[int, int] | None:
        """Return by rank the bits of the values, all of which begin with ``prefix``."""
        of_piece = list(self.run(partial(self._counted, shift=shift), bits))
        counts = self._of_all(np.sum([np.zeros(1 << BITS, np.int64), *of_piece], axis=0))
        if shift == self.width - BITS and counts[self.infinity :].any():
            return None
        ends = np.cumsum(counts)
        homes = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
        found: dict[int, int] = {}
        for home in sorted(set(homes.values())):
            inside = [rank for rank in ranks if homes[rank] == home]
            leading = prefix << BITS | home
            if shift == 0:
                found |= dict.fromkeys(inside, leading)
                continue
            start = int(ends[home] - counts[home])
            chosen = partial(self._chosen, shift=shift, home=home, leading=leading)
            inner = list(self.run(chosen, bits, of_piece))
            within = self.descend(inner, shift - BITS, leading, [rank - start for rank in inside])
            found |= {rank: within[rank - start] for rank in inside} if within else {}
        return found

    def _counted(self, values: Bits, shift: int) -> NDArray[np.int64]:
        counts = np.zeros(1 << BITS, np.int64)
        _kernels_shares.histogram(values, self.mask, shift, counts)
        return counts

    def _chosen(
        self, values: Bits, counts: NDArray[np.int64], shift: int, home: int, leading: int
    ) -> Bits:
        room = np.empty(counts[home] + 1, values.dtype)
        _kernels_shares.matching(values, self.mask, shift, leading, room)
        return room[:-1]

    def _of_all(self, own: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the counts of all processes, each of which adds up a stretch and sends it to all."""
        stretch = np.sum(self.exchange.alltoall(np.array_split(own, self.exchange.size)), axis=0)
        return np.concatenate(self.exchange.allgather(stretch))
