"""The numbers of figures 2 and 3: what studies with the paper's six seeds measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.group_functions import exponent_of_groups
from gradquake.analysis.group_measures import share_of_groups, without_scale_of_groups
from gradquake.analysis.groups import GroupEstimate, group_estimate, runs_at_scales
from gradquake.analysis.resampling import Interval
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.transitions import SPLIT_PHASES, Phase, phase
from gradquake.paper.xor.sweeps import Sweep

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["OverScales", "SixSeeds", "six_seeds"]

Floats = NDArray[np.float64]


class OverScales(NamedTuple):
    """A number at each scale: its value and the ends of its interval or range, shape (scales,)."""

    n_parameters: Floats
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class SixSeeds:
    """A sweep and its nulls as studies with six seeds see them; "real" is the rung of the data.

    Attributes
    ----------
    phases : dict
        D before and after t_g, by rung and phase.
    exponents : dict
        D and gamma over all snapshots, by rung and statistic.
    shares : dict
        s / N at each scale, by rung and statistic, with the six-seed range.
    left_out : dict
        D without each scale, by phase, with its interval.
    """

    phases: dict[str, dict[Phase, GroupEstimate]]
    exponents: dict[str, dict[Statistic, GroupEstimate]]
    shares: dict[str, dict[Statistic, OverScales]]
    left_out: dict[Phase, OverScales]


def six_seeds(sweep: Sweep) -> SixSeeds:
    """Return what studies with six seeds see of a sweep and of its nulls."""
    rungs = {"real": sweep.real, **sweep.nulls}
    runs = runs_at_scales(sweep.real)
    scales = [n for n, _ in scale_groups(sweep.real)]

    def exponent(of: xr.Dataset, statistic: Statistic, which: Phase) -> GroupEstimate:
        return group_estimate(exponent_of_groups(of, statistic, phase(of, which)), runs)

    def shares(of: xr.Dataset, statistic: Statistic) -> OverScales:
        found = [group_estimate(share_of_groups(of, statistic, n), runs) for n in scales]
        return _over_scales(scales, found, [of_scale.range for of_scale in found])

    def left_out(which: Phase) -> OverScales:
        where = phase(sweep.real, which)
        of_each = [without_scale_of_groups(sweep.real, "max", where, n) for n in scales]
        found = [group_estimate(of, runs) for of in of_each]
        return _over_scales(scales, found, found)

    return SixSeeds(
        phases={r: {w: exponent(of, "max", w) for w in SPLIT_PHASES} for r, of in rungs.items()},
        exponents={r: {s: exponent(of, s, "all") for s in STATISTICS} for r, of in rungs.items()},
        shares={r: {s: shares(of, s) for s in STATISTICS} for r, of in rungs.items()},
        left_out={which: left_out(which) for which in SPLIT_PHASES},
    )


def _over_scales(
    scales: Sequence[int], found: Sequence[GroupEstimate], ends: Sequence[Interval]
) -> OverScales:
    return OverScales(
        np.array(scales, np.float64),
        np.array([of.value for of in found]),
        np.array([of.low for of in ends]),
        np.array([of.high for of in ends]),
    )
