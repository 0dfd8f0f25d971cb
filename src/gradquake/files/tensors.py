"""Tensors in files, read in blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

__all__ = ["BLOCK", "Blocks", "Contents", "StoredTensor", "Tensor", "natural", "ranges", "spans"]

# The number of entries that are in memory at a time, besides the vector.
BLOCK = 2**20

# The entries of a tensor, some at a time.
Blocks = Iterator[NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """The description of a tensor in a file.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : str
        NumPy's name, or the format's own name if NumPy has none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def n_entries(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of an open file.

    Attributes
    ----------
    tensor : Tensor
        Its name, shape and type.
    blocks : callable
        Yields its entries as vectors of at most ``BLOCK`` entries, in the order of storage.
    group : str
        Its key in a file of nested dicts; empty at the top.
    by_column : bool
        Whether it is stored in Fortran order, not in C order.
    """

    tensor: Tensor
    blocks: Callable[[], Blocks] = field(repr=False)
    group: str = ""
    by_column: bool = False


# The tensors of an open file, and descriptions of its other contents.
Contents = tuple[list[StoredTensor], list[str]]


def ranges(size: int) -> Iterator[slice]:
    """Yield the slices of at most ``BLOCK`` entries that make up a vector."""
    for start in range(0, size, BLOCK):
        yield slice(start, min(start + BLOCK, size))


def spans(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the indices of the parts of an array, in C order, each of at most ``BLOCK`` entries."""
    of_one = math.prod(shape[1:])
    if not shape or of_one * shape[0] == 0:
        return
    rows = BLOCK // of_one
    for start in range(0, shape[0], max(rows, 1)):
        if rows:
            yield (slice(start, min(start + rows, shape[0])),)
        else:
            yield from ((slice(start, start + 1), *rest) for rest in spans(shape[1:]))


def natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """Return a key that sorts names by their text and the integers in it."""
    parts = re.findall("([^0-9]*)([0-9]*)", name)
    return [(text, int(digits or -1)) for text, digits in parts], name
