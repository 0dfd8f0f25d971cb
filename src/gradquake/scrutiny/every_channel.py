"""A ladder in every channel that its runs and its nulls recorded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from gradquake.analysis.channels import SIZE, channel_of, channels
from gradquake.analysis.ladder import Ladder
from gradquake.analysis.sweep import SweepAnalysis, analyze
from gradquake.avalanche import observables
from gradquake.avalanche.cascade import MEASURED
from gradquake.study.execution import each, unpacked

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["in_every_channel", "shared_channels"]


def shared_channels(ladder: Ladder) -> list[str]:
    """Return the numbers of an avalanche that the runs and all their nulls recorded, except the size.

    These are the fields of an avalanche, their ratios, and the channels of observables. The loss or the
    accuracy of a network is no number of an avalanche, and stays out.
    """
    of_avalanches = {*channels(dict.fromkeys(MEASURED)), *observables.channels()} - {SIZE, "truncated"}
    recorded = [channels(of.dataset.data_vars) for of in (ladder.real, *ladder.nulls.values())]
    return [name for name in recorded[0] if name in of_avalanches.intersection(*recorded)]


def in_every_channel(
    ladder: Ladder, only: Sequence[str] | None = None, executor: Executor | None = None
) -> dict[str, Ladder]:
    """Return the ladder in every other channel, by channel; the runs are resampled alike in all.

    It is empty for a ladder that is in a channel itself: the size is then no longer in its sweep.

    Parameters
    ----------
    ladder : Ladder
    only : sequence of str, optional
        The nulls to analyze; by default all of the ladder.
    executor : Executor, optional
    """
    if channel_of(ladder.real.dataset) != SIZE:
        return {}
    chosen = {rung: of for rung, of in ladder.nulls.items() if only is None or rung in only}
    names = shared_channels(ladder)
    sweeps = [ladder.real.dataset, *(of.dataset for of in chosen.values())]
    curve = ladder.real.curves["max"]
    again = partial(_analyzed, n_resamples=curve.n_resamples, seed=curve.seed)
    todo = [(sweep, name) for name in names for sweep in sweeps]
    found = iter(each(unpacked(again), todo, executor))
    return {name: Ladder(next(found), {rung: next(found) for rung in chosen}) for name in names}


def _analyzed(sweep: xr.Dataset, channel: str, n_resamples: int, seed: int) -> SweepAnalysis:
    return analyze(sweep, channel=channel, n_resamples=n_resamples, seed=seed)
