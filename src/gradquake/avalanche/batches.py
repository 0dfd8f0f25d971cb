"""The gradients of a batch, laid end to end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche.checks import as_gradient
from gradquake.avalanche.graphs import GraphStack
from gradquake.avalanche.sums import Gradient
from gradquake.errors import InputError, a_type, counted

__all__ = ["check_lengths", "laid_end_to_end"]


def laid_end_to_end(gradients: ArrayLike | Sequence[ArrayLike]) -> tuple[Gradient, NDArray[np.intp]]:
    """Return a batch as one vector, without a copy if it is one array, and each gradient's length."""
    if isinstance(gradients, np.ndarray) and gradients.ndim == 2 and len(gradients) > 0:
        flat = as_gradient(gradients.reshape(-1), "the batch")
        return flat, np.full(len(gradients), gradients.shape[1])
    if not (isinstance(gradients, Sequence) and len(gradients) > 0):
        raise InputError(
            f"the batch is {_described(gradients)}; an array (batch, N) or a sequence of vectors is "
            "needed"
        )
    vectors = [as_gradient(g, f"gradient {b} of the batch") for b, g in enumerate(gradients)]
    dtypes = {str(vector.dtype) for vector in vectors}
    if len(dtypes) != 1:
        raise InputError(f"the batch mixes {' and '.join(sorted(dtypes))}; one dtype is needed")
    return np.concatenate(vectors), np.array([vector.size for vector in vectors])


def _described(gradients: object) -> str:
    if isinstance(gradients, np.ndarray):
        return f"an array of shape {gradients.shape}"
    return "empty" if isinstance(gradients, Sequence) else a_type(gradients)


def check_lengths(lengths: NDArray[np.intp], graphs: GraphStack) -> None:
    """Raise InputError unless there is a graph of each gradient's length."""
    if len(graphs) != lengths.size:
        raise InputError(
            f"{counted(lengths.size, 'gradient')} and {counted(len(graphs), 'graph')} were given; "
            "one graph for each gradient is needed"
        )
    nodes = np.diff(graphs.offsets)
    for b in np.flatnonzero(lengths != nodes):
        raise InputError(
            f"gradient {b} of the batch has {counted(lengths[b], 'entry')} and its graph "
            f"{counted(nodes[b], 'node')}; they must be equal"
        )
