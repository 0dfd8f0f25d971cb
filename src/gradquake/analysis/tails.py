"""The distribution of avalanche sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.errors import require


def ccdf(sizes: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the complementary cumulative distribution P(> s) of a sample.

    Parameters
    ----------
    sizes : array, shape (avalanches,)
        At least one.

    Returns
    -------
    values : array
        The distinct sizes, ascending.
    probability : array of float64
        The share of the sample that is larger than each; 0 for the largest.
    """
    sample = np.asarray(sizes).ravel()
    require(sample.size > 0, "no avalanche was given; at least one is needed")
    values, counts = np.unique(sample, return_counts=True)
    return values, 1.0 - np.cumsum(counts) / sample.size
