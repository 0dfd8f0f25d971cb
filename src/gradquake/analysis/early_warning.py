"""How well a number that is read during training tells which runs will grok."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.resampling import N_RESAMPLES, Estimate, estimated, run_resamples
from gradquake.errors import require

__all__ = ["Separation", "area_under_roc"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Separation:
    """How well a number separates runs that will grok from those that will not.

    Attributes
    ----------
    epochs : array, shape (snapshots,)
    area : list of Estimate
        The area under the ROC curve at each epoch: for two runs of one size, one of which will grok, the
        probability that this one has the higher number. 1/2 tells nothing; 0 separates as well as 1.
    """

    epochs: NDArray[np.int64]
    area: list[Estimate]


def area_under_roc(
    values: Floats,
    positive: NDArray[np.bool_],
    sizes: NDArray[np.int64],
    cells: NDArray[np.int64],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return the area under the ROC curve, comparing only runs of the same size.

    It is the share of pairs, one positive and one negative run of the same size, in which the positive
    run has the higher value; ties count half. This is Mann and Whitney's statistic (Hanley and McNeil,
    Radiology 143, 29 (1982)), stratified by size because most numbers depend on size.

    Parameters
    ----------
    values : array, shape (runs,)
        The number that is to tell the runs apart.
    positive : array of bool, shape (runs,)
        Whether a run grokked.
    sizes : array of int, shape (runs,)
        The number of parameters N of each run.
    cells : array of int, shape (runs,)
        Runs are resampled within a cell: runs of one size and condition that differ in their seed.
    n_resamples, seed : int
        The bootstrap's number of resamples, and its seed.

    Raises
    ------
    InputError
        If no size has both a positive and a negative run.
    """
    groups = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
    # A run that is drawn twice counts twice in the pairs.
    higher = np.sign(values[:, None] - values[None, :]) / 2 + 0.5
    counted = positive[:, None] & ~positive[None, :] & (sizes[:, None] == sizes[None, :])
    require(bool(counted.any()), "no size has a run that grokked and one that did not; both are needed")
    higher = np.where(counted, higher, 0.0)
    pairs = counted.astype(np.float64)
    draws = run_resamples([group.size for group in groups], n_resamples, seed)
    weights = np.zeros((len(draws[0]), values.size))
    rows = np.arange(len(weights))[:, None]
    for group, chosen in zip(groups, draws, strict=True):
        np.add.at(weights, (rows, group[chosen]), 1.0)
    with np.errstate(invalid="ignore"):
        resampled = ((weights @ higher) * weights).sum(1) / ((weights @ pairs) * weights).sum(1)
    runs = min(group.size for group in groups)
    return estimated(float(higher.sum() / pairs.sum()), resampled, runs)
