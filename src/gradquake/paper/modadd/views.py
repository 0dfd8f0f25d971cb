"""D(t) on three kinds of time: shared epochs, and epochs since an event of each run."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import timing
from gradquake.analysis.dimension import Curve, curve
from gradquake.analysis.scales import FEWEST_SCALES, scale_groups
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.study.execution import each, unpacked

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "ALIGNMENTS", "LEVELS", "SHARED", "SINCE_TEST", "TEST_90", "TEST_99", "TRAIN_99", "Level", "Subject",
    "View", "Views", "first_reaching", "views_of",
]  # fmt: skip


class Level(NamedTuple):
    """An accuracy on the training set ("train_accuracy") or the test set ("accuracy")."""

    variable: str
    accuracy: float

    def __str__(self) -> str:
        """Return it for a reader, as "test 0.9"."""
        return f"{'train' if self.variable == 'train_accuracy' else 'test'} {self.accuracy:g}"


TRAIN_90, TRAIN_99 = Level("train_accuracy", 0.9), Level("train_accuracy", 0.99)
TEST_90, TEST_99 = Level("accuracy", 0.9), Level("accuracy", 0.99)
LEVELS = (TRAIN_90, TRAIN_99, TEST_90, TEST_99)
SHARED, SINCE_TRAIN, SINCE_TEST = "shared epochs", "since train saturation", "since grokking"
ALIGNMENTS = (SHARED, SINCE_TRAIN, SINCE_TEST)

# An architecture and a condition.
Subject = tuple[str, str]
Views = dict[str, dict[Statistic, "View"]]


@dataclass(frozen=True, eq=False)
class View:
    """D(t) of one sweep on one kind of time, beside its permuted null.

    Attributes
    ----------
    real, null : Curve
    left_out : tuple of int
        The widths at which fewer than half of the runs have the event that time is counted from.
    """

    real: Curve
    null: Curve
    left_out: tuple[int, ...] = ()


def first_reaching(dataset: xr.Dataset, level: Level) -> NDArray[np.float64]:
    """Return each run's first snapshot at which an accuracy is reached; NaN if it never is."""
    return timing.first_reaching(dataset, level.variable, level.accuracy)


def views_of(
    pairs: Mapping[Subject, tuple[xr.Dataset, xr.Dataset]], executor: Executor | None
) -> dict[Subject, Views]:
    """Return D(t) of sweeps and of their permuted nulls on every kind of time.

    An alignment is missing if fewer than three widths have its event in at least half of their runs.
    """
    todo: list[tuple[xr.Dataset, Statistic]] = []
    left_out: dict[tuple[Subject, str], tuple[int, ...]] = {}
    for subject, (real, null) in pairs.items():
        for alignment, event in _events(real).items():
            kept = _with_event(real, event)
            if kept is None:
                continue
            moved = [_moved(dataset, kept, event) for dataset in (real, null)]
            todo += [(dataset, statistic) for statistic, dataset in product(STATISTICS, moved)]
            widths = real["width"].values
            dropped = {*widths.tolist()} - {*widths[kept].tolist()}
            left_out[subject, alignment] = tuple(sorted(dropped))
    curves = each(unpacked(curve), todo, executor)
    views: dict[Subject, Views] = {subject: {} for subject in pairs}
    for (subject, alignment), without in left_out.items():
        views[subject][alignment] = {s: _view(next(curves), next(curves), without) for s in STATISTICS}
    return views


def _moved(sweep: xr.Dataset, kept: NDArray[np.intp], event: NDArray[np.float64] | None) -> xr.Dataset:
    """Return some runs of a sweep, each on epochs since its event."""
    some = sweep.isel(run=kept)
    return some if event is None else timing.aligned(some, event[kept], sweep.attrs["every"])


def _events(sweep: xr.Dataset) -> dict[str, NDArray[np.float64] | None]:
    """Return by alignment the epoch of each run that time is counted from; None for shared epochs."""
    reached = sweep["grokking_epoch"].values
    return {SHARED: None, SINCE_TRAIN: first_reaching(sweep, TRAIN_99), SINCE_TEST: reached}


def _with_event(sweep: xr.Dataset, event: NDArray[np.float64] | None) -> NDArray[np.intp] | None:
    """Return the runs of the widths at which at least half have an event; None for under three."""
    groups = [runs for _, runs in scale_groups(sweep)]
    if event is not None:
        groups = [runs for runs in groups if np.isfinite(event[runs]).mean() >= timing.LEAST_SHARE]
    return np.concatenate(groups) if len(groups) >= FEWEST_SCALES else None


def _view(real: Curve, null: Curve, left_out: tuple[int, ...]) -> View:
    return View(real.slim(), null.slim(), left_out)
