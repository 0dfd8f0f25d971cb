"""What processes that share a gradient tell each other, and what follows for all of it.

Every process calls these functions together, and gets the same result.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche import _kernels_shares
from gradquake.avalanche.cascade import Gradient, Run, exact_sum

# Bits that are counted in one round.
BITS = 16


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


def totals(exchange: Exchange, rows: Iterable[Sequence[int]], columns: int) -> list[int]:
    """Return the sums of the columns of the rows of all processes, any of which may have none."""
    own = [sum(column) for column in zip(*rows, (0,) * columns, strict=True)]
    return [sum(column) for column in zip(*exchange.allgather(own), strict=True)]


def exact_sums(exchange: Exchange, rows: NDArray[np.float64]) -> list[float]:
    """Return the correctly rounded sum of each column of the rows of all processes.

    Infinity where it, or anything, is not finite.
    """
    if exchange.size == 1:
        return [exact_sum(column) for column in rows.T]
    if not all(exchange.allgather(bool(np.isfinite(rows).all()))):
        return [math.inf] * rows.shape[1]
    own = [sum(map(Fraction, column.tolist())) for column in rows.T]
    sums = [sum(column) for column in zip(*exchange.allgather(own), strict=True)]
    return [float(total) if abs(total) <= sys.float_info.max else math.inf for total in sums]


def order_statistics(
    exchange: Exchange,
    pieces: Sequence[Gradient],
    dtype: np.dtype[Any],
    ranks: Sequence[int],
    run: Run,
) -> list[float] | None:
    """Return the magnitudes of given ranks among the entries of all pieces of all processes.

    The bits of positive floats are ordered as they are, so that counts of the leading ones, which
    processes can add up, say with which a rank begins; then the following ones are counted among
    those. None where an entry is not finite.
    """
    width, kind = 8 * dtype.itemsize, np.dtype(f"u{dtype.itemsize}")
    mask = 2 ** (width - 1) - 1

    def descend(bits: Sequence[NDArray[Any]], shift: int, prefix: int, ranks: Sequence[int]) -> Any:
        """Return the bits of the values of some ranks among those that begin with a prefix."""

        def counted(values: NDArray[Any]) -> NDArray[np.int64]:
            counts = np.zeros(1 << BITS, np.int64)
            _kernels_shares.histogram(values, mask, shift, counts)
            return counts

        of_piece = list(run(counted, bits))
        own = np.sum([np.zeros(1 << BITS, np.int64), *of_piece], axis=0)
        # Every process adds up a stretch of the counts, and tells all of it.
        stretch = np.sum(exchange.alltoall(np.array_split(own, exchange.size)), axis=0)
        counts = np.concatenate(exchange.allgather(stretch))
        if shift == width - BITS:
            infinity = int(np.array(np.inf, dtype).view(kind)) >> shift
            if counts[infinity:].any():
                return None
        ends = np.cumsum(counts)
        homes = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
        found: dict[int, int] = {}
        for home in sorted(set(homes.values())):
            inside = [rank for rank in ranks if homes[rank] == home]
            start, leading = int(ends[home] - counts[home]), prefix << BITS | home
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
                _kernels_shares.matching(values, mask, shift, leading, room)
                return room[:-1]

            inner = list(run(chosen, bits, of_piece))
            within = descend(inner, shift - BITS, leading, [rank - start for rank in inside])
            found |= {rank: within[rank - start] for rank in inside}
        return found

    found = descend([piece.view(kind) for piece in pieces], width - BITS, 0, ranks)
    if found is None:
        return None
    values: list[float] = np.array([found[rank] for rank in ranks], kind).view(dtype).tolist()
    return values
