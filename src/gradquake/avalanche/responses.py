"""The results of kicks, slow loading, clusters and generations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import counted

__all__ = ["Clusters", "Generations", "Responses"]


@dataclass(frozen=True, eq=False, repr=False)
class Responses:
    """The avalanches that kicks, or slow loading, start; arrays of shape (n,).

    Attributes
    ----------
    size : array of int64
        Topplings, the first one included.
    duration : array of int64
        Steps in which something toppled.
    area : array of int64
        Distinct nodes that toppled.
    truncated : array of bool
        Whether 10,000 steps ended the avalanche.
    started : array of int64
        Nodes that topple at the first step: 1 for a kick, and more if loading raises several nodes at
        once.

    An avalanche that 10,000 steps truncate has no size. It is left out of the median, the mean, the
    largest size and the branching ratio; ``endless`` is the share of these avalanches. Two nodes that
    are joined only to each other, for example, hand their sum to and fro for ever if it is large enough.
    """

    size: NDArray[np.int64]
    duration: NDArray[np.int64]
    area: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    started: NDArray[np.int64]

    @property
    def endless(self) -> float:
        """The share of avalanches that 10,000 steps truncate."""
        return float(self.truncated.mean())

    @property
    def median(self) -> float:
        """The median size; NaN if no avalanche ends."""
        return float(np.median(self._ended)) if self._ended.size else np.nan

    @property
    def mean(self) -> float:
        """The mean size; NaN if no avalanche ends."""
        return float(self._ended.mean()) if self._ended.size else np.nan

    @property
    def largest(self) -> int:
        """The largest size; 0 if no avalanche ends."""
        return int(self._ended.max(initial=0))

    @property
    def branching_ratio(self) -> float:
        """The topplings of all steps but the first, over those of all steps; 1 is critical.

        It is the mean number of topplings that one toppling causes in the next step, summed over all
        avalanches. If each starts at one node, it is 1 - 1 / mean: the mean size of a branching process
        is 1 / (1 - ratio). NaN if no avalanche ends.
        """
        total = int(self._ended.sum())
        return (total - int(self.started[~self.truncated].sum())) / total if total else np.nan

    @property
    def _ended(self) -> NDArray[np.int64]:
        return self.size[~self.truncated]

    def __len__(self) -> int:
        return self.size.size

    def __repr__(self) -> str:
        return (
            f"Responses({counted(len(self), 'avalanche')}: mean size {self.mean:.4g}, largest "
            f"{self.largest}, longest {self.duration.max()}, branching ratio "
            f"{self.branching_ratio:.4g}, {self.truncated.sum()} truncated)"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Clusters:
    """The connected components of the nodes above the threshold.

    Attributes
    ----------
    sizes : array of int64, shape (number of clusters,)
        The nodes of each cluster, descending.
    """

    sizes: NDArray[np.int64]

    @property
    def number(self) -> int:
        """The number of clusters."""
        return self.sizes.size

    @property
    def largest(self) -> int:
        """The nodes of the largest cluster; 0 if there is none."""
        return int(self.sizes.max(initial=0))

    @property
    def mean(self) -> float:
        """The mean number of nodes, every cluster weighted alike; NaN if there is none."""
        return float(self.sizes.mean()) if self.sizes.size else np.nan

    def __repr__(self) -> str:
        return f"Clusters(number={self.number}, largest={self.largest}, mean={self.mean:.4g})"


@dataclass(frozen=True, eq=False, repr=False)
class Generations:
    """The probe's avalanche step by step.

    Attributes
    ----------
    topplings : array of int64, shape (duration,)
        The topplings at each step; their sum is the avalanche's size, their largest its peak.
    """

    topplings: NDArray[np.int64]

    @property
    def first_share(self) -> float:
        """The share of the first step, which no toppling has caused; NaN if nothing topples."""
        total = self.topplings.sum()
        return float(self.topplings[0] / total) if total else np.nan

    def __repr__(self) -> str:
        return f"Generations({self.topplings.tolist()}, first_share={self.first_share:.4g})"
