"""Numbers of a sweep as functions of groups of its runs: exponents, rises, D(t) and crossings.

Each function here returns an ``OfGroups`` for ``groups.group_estimate`` and its like. Two that are given
equal groups are paired, so that ``difference_of_groups`` compares a sweep with its null run by run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import transitions
from gradquake.analysis.channels import in_channel
from gradquake.analysis.fits import line_fits, slopes
from gradquake.analysis.groups import Draws, OfGroups
from gradquake.analysis.scales import FEWEST_SCALES, Scale, chosen_snapshots, same_runs, scale_groups
from gradquake.analysis.statistics import STATISTICS, Statistic, check_statistic
from gradquake.analysis.transitions import Direction, Phase
from gradquake.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "crossing_of_groups", "crossing_of_null_of_groups", "curve_of_groups", "difference_of_groups",
    "exponent_of_groups", "rise_of_groups",
]  # fmt: skip

Floats = NDArray[np.float64]


def exponent_of_groups(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    where: xr.DataArray | None = None,
    *,
    channel: str = "size",
) -> OfGroups:
    """Return a function of groups: the exponent over chosen snapshots (see ``scaling.exponent``)."""
    check_statistic(statistic)
    dataset = in_channel(dataset, channel)
    groups = _scales(dataset)
    chosen, sizes = chosen_snapshots(dataset, where), dataset["size"].values
    n = [scale for scale, _ in groups]
    drawn = [
        STATISTICS[statistic].over_snapshots(np.where(chosen[runs], sizes[runs], np.nan))
        for _, runs in groups
    ]

    def of(draws: Draws) -> Floats:
        return slopes(n, np.column_stack([f(d) for f, d in zip(drawn, draws, strict=True)]))

    return of


def rise_of_groups(
    dataset: xr.Dataset, statistic: Statistic = "max", *, channel: str = "size"
) -> OfGroups:
    """Return a function of groups: D_post - D_pre, each run split at its own t_g."""

    def of_phase(which: Phase) -> OfGroups:
        return exponent_of_groups(dataset, statistic, transitions.phase(dataset, which), channel=channel)

    return difference_of_groups(of_phase("post"), of_phase("pre"))


def curve_of_groups(
    dataset: xr.Dataset, statistic: Statistic = "max", *, channel: str = "size"
) -> OfGroups:
    """Return a function of groups: D(t), shape (groups, epochs)."""
    check_statistic(statistic)
    dataset = in_channel(dataset, channel)
    groups = _scales(dataset)
    n = np.array([scale for scale, _ in groups])
    sizes = dataset["size"].values.astype(np.float64)
    drawn = [STATISTICS[statistic].log_at_epochs(sizes[runs]) for _, runs in groups]

    def of(draws: Draws) -> Floats:
        return line_fits(n, np.stack([f(d) for f, d in zip(drawn, draws, strict=True)])).slopes

    return of


def crossing_of_groups(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    level: float = 1.0,
    *,
    direction: Direction = "up",
    channel: str = "size",
) -> OfGroups:
    """Return a function of groups: the epoch at which D(t) passes a level; NaN if it does not."""
    curve, epochs = curve_of_groups(dataset, statistic, channel=channel), dataset["epoch"].values
    return lambda draws: transitions.crossing(epochs, curve(draws), level, direction=direction)


def crossing_of_null_of_groups(
    dataset: xr.Dataset, null: xr.Dataset, statistic: Statistic = "max", *, channel: str = "size"
) -> OfGroups:
    """Return a function of groups: the epoch at which D(t) rises above that of a null, run by run.

    Raises
    ------
    InputError
        If the null has other runs or epochs.
    """
    if not same_runs(dataset, null):
        raise InputError("the null has other sizes, seeds or epochs than the sweep; the same are needed")
    above = difference_of_groups(
        curve_of_groups(dataset, statistic, channel=channel),
        curve_of_groups(null, statistic, channel=channel),
    )
    epochs = dataset["epoch"].values
    return lambda draws: transitions.crossing(epochs, above(draws), 0.0)


def difference_of_groups(first: OfGroups, second: OfGroups) -> OfGroups:
    """Return a function of groups: ``first`` minus ``second``, paired, both of the same runs."""
    return lambda draws: first(draws) - second(draws)


def _scales(dataset: xr.Dataset) -> list[Scale]:
    groups = scale_groups(dataset)
    if len(groups) < FEWEST_SCALES:
        raise InputError(
            f"the sweep has {len(groups)} scales; an exponent needs at least {FEWEST_SCALES}"
        )
    return groups
