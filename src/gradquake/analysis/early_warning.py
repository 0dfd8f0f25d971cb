"""How well a number that is read during training tells runs that will grok from a control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.resampling import N_RESAMPLES, Estimate, estimated, run_resamples
from gradquake.errors import require

__all__ = ["Separation", "area_under_roc"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Separation:
    """How well a number separates runs that will grok from those of one control.

    Attributes
    ----------
    epochs : array, shape (snapshots,)
    area : list of Estimate
        The area under the ROC curve at each epoch (see ``area_under_roc``).
    """

    epochs: Ints
    area: list[Estimate]


def area_under_roc(
    values: Floats,
    sizes: Ints,
    control: Floats,
    control_sizes: Ints,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return the area under the ROC curve of runs against one control, within sizes.

    It is the share of pairs, a run and one of the control of the same size, in which the run has the
    higher value; ties count half. 1/2 tells nothing; 0 separates as well as 1. This is Mann and
    Whitney's statistic (Hanley and McNeil, Radiology 143, 29 (1982)), stratified by size because most
    numbers depend on size. Pairs with several controls must not be counted together: 1 against one
    and 0 against another would give 1/2.

    Parameters
    ----------
    values : array, shape (runs,)
        The number that is to tell the runs apart, of those that grokked.
    sizes : array of int, shape (runs,)
        Their numbers of parameters N.
    control, control_sizes
        The same of the runs of a single control.
    n_resamples, seed : int
        The bootstrap's number of resamples, and its seed. Runs are resampled within a size, of those
        sizes that both have.

    Raises
    ------
    InputError
        If no size has a run of both.
    """
    shared = np.intersect1d(sizes, control_sizes)
    require(shared.size > 0, "no size has a run that grokked and one of the control; both are needed")
    # Of each size a table, whether the run of a row has the higher value than that of a column.
    tables = [
        np.sign(values[sizes == n][:, None] - control[control_sizes == n][None, :]) / 2 + 0.5
        for n in shared
    ]
    pairs = sum(table.size for table in tables)
    draws = run_resamples([length for table in tables for length in table.shape], n_resamples, seed)
    resampled = np.zeros(len(draws[0]))
    for table, rows, columns in zip(tables, draws[::2], draws[1::2], strict=True):
        resampled += table[rows[:, :, None], columns[:, None, :]].sum(axis=(1, 2)) / pairs
    fewest = min(length for table in tables for length in table.shape)
    return estimated(float(sum(table.sum() for table in tables) / pairs), resampled, fewest)
