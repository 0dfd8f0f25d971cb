"""Quantities of claims, estimated for studies with the paper's six seeds.

Every number is a function of groups of runs (see ``analysis.groups``). It is estimated from all disjoint
groups of six seeds, and so is the same number of each null and of each difference to it, paired. If a
sweep has only six seeds, the interval is the bootstrap over its runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradquake.analysis.group_functions import difference_of_groups, exponent_of_groups
from gradquake.analysis.group_measures import GROUP_RESAMPLES, exponents_alone
from gradquake.analysis.group_verdicts import estimates_of_groups
from gradquake.analysis.groups import (
    GROUP_SIZE,
    GroupEstimate,
    OfGroups,
    group_estimate,
    runs_at_scales,
)
from gradquake.analysis.resampling import FEWEST_RUNS, Estimate
from gradquake.analysis.scaling import exponent
from gradquake.analysis.statistics import Statistic
from gradquake.analysis.transitions import Phase, phase
from gradquake.paper.claim import Measured
from gradquake.paper.quantity import Number, Parts, Quantity
from gradquake.paper.xor.sweeps import Sweep

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Asked", "asked", "exponent_asked", "measured", "plain"]

Of = Callable[["xr.Dataset"], OfGroups]


@dataclass(frozen=True, eq=False)
class Asked:
    """A quantity, and its number in each disjoint group of runs (none if there is one group)."""

    quantity: Quantity
    groups: Sequence[Number]


def exponent_asked(
    name: str, statistic: Statistic, which: Phase, sweep: Sweep, paper: float | None = None
) -> Asked:
    """Return an exponent of a phase with its nulls, and the parts of its distance to the Gaussian null.

    In a single group, and in each group of six, the interval is that of ``scaling.exponent``.
    """

    def of(dataset: xr.Dataset) -> OfGroups:
        return exponent_of_groups(dataset, statistic, phase(dataset, which))

    def alone(dataset: xr.Dataset) -> Estimate:
        return exponent(dataset, statistic, phase(dataset, which))

    found = asked(name, of, sweep, paper, attribution="gaussian" in sweep.nulls, alone=alone)
    if not found.groups:
        return found
    each = exponents_alone(sweep.real, statistic, phase(sweep.real, which))
    return Asked(found.quantity, [Number.of(group) for group in each])


def asked(
    name: str,
    of: Of,
    sweep: Sweep,
    paper: float | None = None,
    *,
    attribution: bool = False,
    alone: Callable[[xr.Dataset], Estimate] | None = None,
) -> Asked:
    """Return a quantity of a sweep, with its nulls.

    Parameters
    ----------
    name : str
    of : callable
        From a sweep to a function of groups of its runs.
    sweep : Sweep
    paper : float, optional
        The paper's figure.
    attribution : bool
        Whether to add the parts of the distance to the Gaussian null; for exponents.
    alone : callable, optional
        From a sweep to the estimate that is taken if there is a single group.
    """
    runs = runs_at_scales(sweep.real)
    functions = {rung: of(null) for rung, null in sweep.nulls.items()}
    own = None if alone is None else alone(sweep.real)
    found = plain(name, of(sweep.real), runs, paper, alone=own)
    parts = _parts(of, sweep, runs) if attribution else None
    nulls = {
        rung: _estimate(f, runs, None if alone is None else alone(sweep.nulls[rung]))
        for rung, f in functions.items()
    }
    return Asked(replace(found.quantity, nulls=nulls, attribution=parts), found.groups)


def plain(
    name: str,
    of: OfGroups,
    runs: Sequence[int],
    paper: float | None = None,
    *,
    each_group: bool = True,
    alone: Estimate | None = None,
) -> Asked:
    """Return a quantity without nulls.

    ``each_group`` is False if a value takes so long that neither random groups nor a bootstrap can be
    afforded: then the range is over the disjoint groups, and the groups have no intervals.
    """
    if min(runs) < 2 * GROUP_SIZE and not (each_group and min(runs) >= FEWEST_RUNS):
        # A single group without an interval.
        whole = [np.arange(min(GROUP_SIZE, *runs))[None]] * len(runs)
        return Asked(Quantity(name, float(of(whole)[0]), paper=paper), [])
    if not each_group:
        return Asked(_quantity(name, group_estimate(of, runs, n_groups=1), paper), [])
    estimate = group_estimate(of, runs, alone=alone)
    numbers: list[Number] = []
    if estimate.n_groups > 1:
        groups = estimates_of_groups(of, runs, size=estimate.runs, n_resamples=GROUP_RESAMPLES)
        numbers = [Number.of(group) for group in groups]
    return Asked(_quantity(name, estimate, paper), numbers)


def measured(asked: Sequence[Asked], seen: str = "", untestable: str = "") -> Measured:
    """Return the quantities of a claim with the numbers of each group, if all have them."""
    names = [of.quantity.name for of in asked]
    counts = {len(of.groups) for of in asked}
    groups: list[Mapping[str, Number]] = []
    if len(counts) == 1:
        of_each = zip(*(of.groups for of in asked), strict=True)
        groups = [dict(zip(names, numbers, strict=True)) for numbers in of_each]
    return Measured([of.quantity for of in asked], groups, seen, untestable)


def _parts(of: Of, sweep: Sweep, runs: Sequence[int]) -> Parts:
    real, gaussian = of(sweep.real), of(sweep.nulls["gaussian"])
    apart = sweep.independent or {"real": sweep.real, "permuted": sweep.nulls["permuted"]}
    elsewhere, shuffled = (of(apart[rung]) for rung in ("real", "permuted"))

    def part(first: OfGroups, second: OfGroups) -> Number:
        return _estimate(difference_of_groups(first, second), runs)

    imprint = part(real, elsewhere) if sweep.independent else None
    return Parts(part(shuffled, gaussian), part(elsewhere, shuffled), imprint)


def _estimate(of: OfGroups, runs: Sequence[int], alone: Estimate | None = None) -> Number:
    if min(runs) < FEWEST_RUNS:
        return Number(float(of([np.zeros((1, 1), np.intp)] * len(runs))[0]))
    return Number.of(group_estimate(of, runs, alone=alone))


def _quantity(name: str, estimate: GroupEstimate, paper: float | None) -> Quantity:
    known = bool(np.isfinite(estimate.range.low))
    middle = float(np.median(estimate.drawn)) if known else np.nan
    return Quantity.of(
        name,
        estimate,
        paper,
        range=Number(middle, estimate.range.low, estimate.range.high) if known else None,
        percentile=estimate.percentile(paper) if known and paper is not None else None,
    )
