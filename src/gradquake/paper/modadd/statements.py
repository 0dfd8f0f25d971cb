"""The statements on D(t) of every architecture: with all widths, without each, and on the null."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradquake.analysis.generalization import (
    Lines,
    Robust,
    crossing_offset,
    distance,
    lines_of,
    lowest_since,
    mean_since,
    means_around,
    median_epoch,
    parting_lead,
)
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.scales import FEWEST_SCALES
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.paper.modadd.plan import CONTROLS, GROKKING
from gradquake.paper.modadd.views import TEST_90, TEST_99, TRAIN_99, first_reaching
from gradquake.study.execution import each, unpacked

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "AFTER", "ALIGNED_AT", "BEFORE", "DISTANCE", "LEAD", "LOWEST", "MEAN", "OFFSET", "Asked", "Beside",
    "Statements", "statements_of",
]  # fmt: skip

OFFSET, DISTANCE = "nearest crossing of 1 minus t_g", "epochs between t_g and the nearest crossing of 1"
BEFORE, AFTER = "mean before t_g", "mean after t_g"
LOWEST, MEAN = "lowest value", "mean"
LEAD = "epochs from parting to t_g"

# The companion aligns its runs at 99 % test accuracy.
ALIGNED_AT = TEST_99


class Asked(NamedTuple):
    """A number of a D(t), and the accuracy or the control that it refers to."""

    kind: str
    of: str


@dataclass(frozen=True, eq=False)
class Beside:
    """A number with all widths and without each, on the data and on permuted gradients."""

    real: Robust
    permuted: Robust


Statements = dict[Statistic, dict[Asked, Beside]]

# The measured sweep and its permuted null, by condition.
Pairs = Mapping[str, tuple["xr.Dataset", "xr.Dataset"]]


def statements_of(
    pairs_of: Mapping[str, Pairs], executor: Executor | None = None
) -> dict[str, Statements]:
    """Return the statements of every architecture.

    Parameters
    ----------
    pairs_of : mapping
        By architecture, the conditions whose sizes are not truncated.
    executor : Executor, optional
    """
    keys, todo = [], []
    for architecture, pairs in pairs_of.items():
        widths = {int(w) for real, _ in pairs.values() for w in real["width"].values}
        left_out = [None, *(sorted(widths) if len(widths) > FEWEST_SCALES else ())]
        for statistic, rung, without in product(STATISTICS, (0, 1), left_out):
            if pairs:
                keys.append((architecture, statistic, rung, without))
                chosen = {c: _chosen(pair[0], pair[rung], without) for c, pair in pairs.items()}
                todo.append((chosen, statistic))
    found = dict(zip(keys, each(unpacked(_answers), todo, executor), strict=True))
    result: dict[str, Statements] = {architecture: {} for architecture in pairs_of}
    for architecture, statistic, rung, without in keys:
        if rung == 0 and without is None:
            asked = found[architecture, statistic, 0, None]
            result[architecture][statistic] = {
                one: Beside(*(_robust(found, (architecture, statistic, r), one) for r in (0, 1)))
                for one in asked
            }
    return result


def _robust(
    found: Mapping[tuple[str, Statistic, int, int | None], dict[Asked, Estimate]],
    key: tuple[str, Statistic, int],
    asked: Asked,
) -> Robust:
    widths = [width for *of, width in found if tuple(of) == key and width is not None]
    nothing = Estimate(low=np.nan, high=np.nan, invalid=1.0, value=np.nan, runs=1)
    return Robust(
        found[(*key, None)][asked],
        {width: found[(*key, width)].get(asked, nothing) for width in widths},
    )


def _chosen(real: xr.Dataset, sizes: xr.Dataset, without: int | None) -> xr.Dataset:
    """Return a sweep with the sizes of a null, which the same runs have, without a width."""
    beside = real.assign(size=(real["size"].dims, sizes["size"].values))
    return beside.isel(run=np.flatnonzero(real["width"].values != (without or 0)))


def _answers(sweeps: Mapping[str, xr.Dataset], statistic: Statistic) -> dict[Asked, Estimate]:
    """Return all numbers of one D(t): those of the grokking runs, and those of each control."""
    lines = {condition: lines_of(sweep, statistic) for condition, sweep in sweeps.items()}
    result: dict[Asked, Estimate] = {}
    for control in [control for control in CONTROLS if control in sweeps]:
        saturated = median_epoch(sweeps[control], first_reaching(sweeps[control], TRAIN_99))[0]
        result[Asked(LOWEST, control)] = lowest_since(lines[control], saturated)
        result[Asked(MEAN, control)] = mean_since(lines[control], saturated)
    if GROKKING in sweeps:
        result |= _of_grokking(sweeps[GROKKING], lines, statistic)
    return {asked: estimate.slim() for asked, estimate in result.items()}


def _of_grokking(
    sweep: xr.Dataset, lines: Mapping[str, Lines], statistic: Statistic
) -> dict[Asked, Estimate]:
    """Return the numbers of grokking runs: crossings, means around t_g, and leads over controls."""
    saturated_of_run = first_reaching(sweep, TRAIN_99)
    saturated = median_epoch(sweep, saturated_of_run)
    result: dict[Asked, Estimate] = {}
    for level in (TEST_99, TEST_90):
        reached = median_epoch(sweep, first_reaching(sweep, level))
        offset = crossing_offset(lines[GROKKING], reached, saturated)
        result[Asked(OFFSET, str(level))] = offset
        result[Asked(DISTANCE, str(level))] = distance(offset)
    of_run = first_reaching(sweep, ALIGNED_AT)
    around = means_around(sweep, saturated_of_run, of_run, statistic)
    if around is not None:
        result |= {Asked(BEFORE, ""): around.before, Asked(AFTER, ""): around.after}
    reached = median_epoch(sweep, of_run)
    for control in [control for control in CONTROLS if control in lines]:
        lead = parting_lead(lines[GROKKING], lines[control], reached, saturated)
        result[Asked(LEAD, control)] = lead
    return result
