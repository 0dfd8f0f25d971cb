"""Sweeps of many seeds: whether D follows t_g, the parts of its rise, and what fewer runs could tell."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradquake.analysis import power
from gradquake.analysis.groups import GROUP_SIZE, runs_at_scales
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.power import Power
from gradquake.analysis.rise import RiseParts, rise_parts
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import analyze
from gradquake.analysis.timing import PermutationTest, follows_grokking
from gradquake.avalanche.surrogates import REAL
from gradquake.paper.xor.sweeps import Sweep
from gradquake.study.execution import each, unpacked

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ManySeeds", "many_seeds"]

# The numbers of runs a scale of which the power is measured.
POWER_COUNTS = (6, 12, 24, 50, 100, 200)


@dataclass(frozen=True, eq=False)
class ManySeeds:
    """A sweep of many seeds.

    Attributes
    ----------
    power : list of Power
        What smaller numbers of runs could tell.
    follows : dict
        By statistic, whether the rise of D follows t_g.
    ladder : Ladder
        The sweep beside its Gaussian and permuted nulls, in-line also on an independent graph.
    parts : dict
        By statistic, what the rise is made of; empty for fewer than two groups of six seeds.
    """

    power: list[Power]
    follows: dict[Statistic, PermutationTest]
    ladder: Ladder
    parts: dict[Statistic, RiseParts]


def many_seeds(sweep: Sweep, executor: Executor | None = None) -> ManySeeds:
    """Return what a sweep of many seeds tells, computed on the executor, if there is one."""
    found = _power(sweep.real, sweep.nulls, executor)
    own, apart = {REAL: sweep.real, **sweep.nulls}, sweep.independent
    analyses = iter(each(analyze, [*own.values(), *apart.values()], executor))
    of_own, of_apart = ({rung: next(analyses) for rung in sweeps} for sweeps in (own, apart))
    todo = [(sweep.real, statistic) for statistic in STATISTICS]
    tests = each(unpacked(follows_grokking), todo, executor)
    independent = None
    if apart:
        # Training leaves no imprint on Gaussian entries: any graph is independent of them.
        of_apart["gaussian"] = of_own["gaussian"]
        independent = Ladder(of_apart.pop(REAL), of_apart)
    ladder = Ladder(of_own.pop(REAL), of_own, independent)
    parts: dict[Statistic, RiseParts] = {}
    if min(runs_at_scales(sweep.real)) >= 2 * GROUP_SIZE:
        beside = [(*of, sweep.nulls["permuted"]) for of in todo]
        parts = dict(zip(STATISTICS, each(unpacked(rise_parts), beside, executor), strict=True))
    return ManySeeds(found, dict(zip(STATISTICS, tests, strict=True)), ladder, parts)


def _power(sweep: xr.Dataset, nulls: Mapping[str, xr.Dataset], executor: Executor | None) -> list[Power]:
    available = int((sweep["n_parameters"] == sweep["n_parameters"][0]).sum())
    counts = [count for count in POWER_COUNTS if count <= available]
    # The largest first, since they take longest.
    todo = [(sweep, nulls, [count]) for count in reversed(counts)]
    found = list(each(unpacked(power.power), todo, executor))
    return [power for of_count in reversed(found) for power in of_count]
