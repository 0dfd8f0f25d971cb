"""The checks of gradients, and their errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gradquake.avalanche.sums import Gradient
from gradquake.errors import InputError, counted

__all__ = ["FLOATS", "as_gradient", "broken_entries", "check_length", "not_finite"]

# The dtypes of gradients.
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_gradient(values: ArrayLike, name: str = "the gradient") -> Gradient:
    """Return ``values`` as a vector of float32 or float64 without a copy, or raise InputError."""
    try:
        vector = np.asarray(values)
    except (ValueError, TypeError):
        raise InputError(f"{name} cannot be made an array; a flat vector (N,) is needed") from None
    if vector.dtype not in FLOATS:
        raise InputError(f"{name} has dtype {vector.dtype}; float32 or float64 is needed")
    if vector.ndim != 1:
        raise InputError(f"{name} has shape {vector.shape}; a flat vector (N,) is needed")
    if vector.size == 0:
        raise InputError(f"{name} is empty; at least one entry is needed")
    return vector


def check_length(n_entries: int, n_nodes: int) -> None:
    """Raise InputError unless a gradient has as many entries as its graph has nodes."""
    if n_entries != n_nodes:
        raise InputError(
            f"the gradient has {counted(n_entries, 'entry')} and the graph {counted(n_nodes, 'node')}; "
            "they must be equal"
        )


def not_finite(name: str, vector: Gradient) -> InputError:
    """Return the error for a gradient with NaN or infinity in it, or whose cascade overflowed."""
    broken = np.flatnonzero(~np.isfinite(vector))
    if broken.size == 0:
        return InputError(
            f"{name} is so large that its cascade overflows {vector.dtype}; scale it down, which "
            "changes nothing else"
        )
    return broken_entries(name, broken.size, int(broken[0]), vector[broken[0]])


def broken_entries(name: str, count: int, first: int, value: object) -> InputError:
    """Return the error for a gradient of which ``count`` entries are not finite."""
    told = "entry that is not finite," if count == 1 else "entries that are not finite, the first"
    return InputError(f"{name} has {count} {told} at {first} ({value}); finite numbers are needed")
