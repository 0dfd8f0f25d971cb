"""The power of a number of runs: the width of intervals, and how often data and null are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling, transitions
from gradquake.analysis.resampling import FEWEST_RUNS, N_RESAMPLES, Estimate, difference
from gradquake.analysis.scales import same_runs, scale_groups
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.transitions import SPLIT_PHASES, Phase
from gradquake.errors import InputError, require, require_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["AboveNull", "Power", "power"]

# The most disjoint groups that are analyzed for one number of runs.
MOST_GROUPS = 16


class AboveNull(NamedTuple):
    """D_real - D_null over groups of runs.

    ``value``, ``low`` and ``high`` are means over the groups of the paired difference and the ends of
    its 95 % interval; ``detected`` is the share of the groups whose interval leaves out 0.
    """

    value: float
    low: float
    high: float
    detected: float


@dataclass(frozen=True)
class Power:
    """Results with a number of runs at each scale, over disjoint groups of that many runs.

    Attributes
    ----------
    runs : int
        Runs at each scale in a group.
    groups : int
        The number of groups.
    statistic, phase : str
    value : float
        The mean exponent over the groups.
    width : float
        The mean width of the exponent's 95 % interval.
    scatter : float
        The standard deviation of the exponent over the groups; NaN for a single group.
    above_null : dict
        By null, D_real - D_null and the share of the groups in which it is detected.
    """

    runs: int
    groups: int
    statistic: Statistic
    phase: Phase
    value: float
    width: float
    scatter: float
    above_null: dict[str, AboveNull]


def power(
    dataset: xr.Dataset,
    nulls: Mapping[str, xr.Dataset],
    counts: Sequence[int],
    *,
    n_resamples: int = N_RESAMPLES,
) -> list[Power]:
    """Return the power of each number of runs, measured on disjoint groups of a large sweep.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep with equally many runs at every scale.
    nulls : mapping
        The same sweep on surrogates, by name.
    counts : sequence of int
        Numbers of runs at each scale, from 2 to the number that the sweep has.
    n_resamples : int
        The bootstrap's, in each group.

    Raises
    ------
    InputError
        If a count is out of range, or the scales have different numbers of runs.
    """
    members = [runs for _, runs in scale_groups(dataset)]
    available = min(runs.size for runs in members)
    require(
        all(runs.size == available for runs in members),
        "the scales have different numbers of runs; groups need equally many",
    )
    for name, null in nulls.items():
        if not same_runs(dataset, null):
            raise InputError(
                f"the null {name} differs from the sweep in sizes, seeds or epochs; both need the same"
            )
    for count in counts:
        require_count("the number of runs at each scale", count, FEWEST_RUNS)
        if not FEWEST_RUNS <= count <= available:
            raise InputError(
                f"{count} runs at each scale were asked for; the sweep has {available}, and at least "
                f"{FEWEST_RUNS} are needed"
            )
    found = []
    for count in counts:
        starts = range(0, available - count + 1, count)[:MOST_GROUPS]
        groups = [np.concatenate([runs[a : a + count] for runs in members]) for a in starts]
        for statistic in STATISTICS:
            for phase in SPLIT_PHASES:
                found.append(_power(dataset, nulls, groups, statistic, phase, n_resamples))
    return found


def _power(
    dataset: xr.Dataset,
    nulls: Mapping[str, xr.Dataset],
    groups: Sequence[NDArray[np.intp]],
    statistic: Statistic,
    phase: Phase,
    n_resamples: int,
) -> Power:
    where = transitions.phase(dataset, phase)
    widths, estimates = [], []
    differences: dict[str, list[Estimate]] = {name: [] for name in nulls}
    for runs in groups:
        real, *beside = (
            scaling.exponent(
                of[["size"]].isel(run=runs), statistic, where.isel(run=runs), n_resamples=n_resamples
            )
            for of in (dataset, *nulls.values())
        )
        widths.append(real.high - real.low)
        estimates.append(real.value)
        for name, null in zip(nulls, beside, strict=True):
            differences[name].append(difference(real, null).slim())
    return Power(
        runs=groups[0].size // len(scale_groups(dataset)),
        groups=len(groups),
        statistic=statistic,
        phase=phase,
        value=float(np.mean(estimates)),
        width=float(np.mean(widths)),
        scatter=float(np.std(estimates, ddof=1)) if len(groups) > 1 else np.nan,
        above_null={
            name: AboveNull(
                value=_mean(of.value for of in found),
                low=_mean(of.low for of in found),
                high=_mean(of.high for of in found),
                # A missing interval detects nothing: comparisons with NaN are false.
                detected=_mean(of.low > 0 or of.high < 0 for of in found),
            )
            for name, found in differences.items()
        },
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
