"""Times of a sweep: grokking epochs t_g, phases, crossings, and transient peaks around t_g."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis.resampling import (
    N_RESAMPLES,
    Estimate,
    estimated,
    over_resamples,
    run_resamples,
    tail_share,
)
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.shown import Shown, bracketed
from gradquake.errors import InputError, require, require_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "PHASES", "SPLIT_PHASES", "Crossings", "Direction", "GrokkingEpochs", "Peaks", "Phase",
    "TypicalPeak", "check_phase", "crossing", "crossing_starts", "grokking_epochs", "peaks", "phase",
    "typical_peak",
]  # fmt: skip

Floats = NDArray[np.float64]
Direction = Literal["up", "down"]
Phase = Literal["all", "pre", "post"]
PHASES: tuple[Phase, ...] = ("all", "pre", "post")
# The two that a run's own t_g splits its snapshots into.
SPLIT_PHASES: tuple[Phase, ...] = ("pre", "post")


@dataclass(frozen=True, repr=False)
class GrokkingEpochs(Shown):
    """The grokking epochs of one scale.

    Attributes
    ----------
    n_parameters : int
        The scale N.
    epochs : tuple of float
        t_g of each run; NaN for a run that never reached 100 %.
    median : Estimate
        Over the runs; a run that never reached 100 % counts as infinitely late, so that the median and
        the ends of its interval may be infinite.
    """

    n_parameters: int
    epochs: tuple[float, ...]
    median: Estimate

    @property
    def n_grokked(self) -> int:
        """The number of runs that reached 100 %."""
        return sum(epoch == epoch for epoch in self.epochs)

    @property
    def _title(self) -> str:
        return f"Grokking epochs at N = {self.n_parameters}"

    def _lines(self) -> Mapping[str, str]:
        found = bracketed(self.median.value, self.median.low, self.median.high, 0)
        return {"": f"median {found}, {self.n_grokked} of {len(self.epochs)} runs grokked"}


@dataclass(frozen=True, eq=False)
class Peaks:
    """Transient peaks of a quantity around the grokking epochs; arrays of shape (runs,).

    NaN for a run that never grokked, or whose window around t_g leaves the measured epochs.

    Attributes
    ----------
    rise : array
        Height of the peak above the mean of the two baseline levels, as a fraction of that mean.
    width : array
        Number of epochs around the peak, within the window, with at least half of the rise.
    delay : array
        Epoch of the peak minus t_g.
    interior : array of bool
        Whether the peak lies inside the window; if it lies at an end, the quantity only drifts.
    """

    rise: Floats
    width: Floats
    delay: Floats
    interior: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TypicalPeak:
    """The peaks of all runs whose window around t_g was measured, each with its bootstrap over runs.

    Attributes
    ----------
    rise, width : Estimate
        The median over runs.
    near : Estimate
        The share of the runs whose peak is near t_g.
    runs : int
        The number of these runs; without any, nothing is defined.
    at_an_end : int
        The number of these runs in which the quantity is largest at an end of the window.
    """

    rise: Estimate
    width: Estimate
    near: Estimate
    runs: int
    at_an_end: int


def phase(dataset: xr.Dataset, which: Phase) -> xr.DataArray:
    """Return which snapshots belong to a phase.

    "pre" are those before each run's own t_g, "post" those at t_g and after it, "all" both. All
    snapshots of a run that never reached 100 % accuracy are "pre".

    Returns
    -------
    DataArray of bool, dims (run, epoch)

    Raises
    ------
    InputError
        If the phase is not one of ``PHASES``.
    """
    import xarray as xr

    check_phase(which)
    reached = dataset["grokking_epoch"].fillna(np.inf)
    before = (dataset["epoch"] < reached).transpose("run", "epoch")
    if which == "all":
        return xr.ones_like(before)
    return before if which == "pre" else ~before


def check_phase(phase: str) -> None:
    """Raise InputError unless ``phase`` is one of ``PHASES``."""
    if phase not in PHASES:
        raise InputError(f"the phase is {phase!r}; one of {', '.join(PHASES)} is needed")


def grokking_epochs(
    dataset: xr.Dataset, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> list[GrokkingEpochs]:
    """Return the grokking epochs of every scale of a sweep, ascending in N."""
    groups = scale_groups(dataset)
    epochs_of_scale = [dataset["grokking_epoch"].values[runs] for _, runs in groups]
    late_of_scale = [np.where(np.isnan(epochs), np.inf, epochs) for epochs in epochs_of_scale]
    resampled = over_resamples(
        [len(runs) for _, runs in groups],
        lambda scale, draws: np.median(late_of_scale[scale][draws], axis=1),
        n_resamples,
        seed,
    )
    result = []
    for (n, runs), epochs, late, medians in zip(
        groups, epochs_of_scale, late_of_scale, resampled, strict=True
    ):
        low, high, invalid = np.nan, np.nan, 1.0
        if medians.size:
            # Without interpolation, since medians may be infinite.
            tail = tail_share(len(runs))
            low, high = np.quantile(medians, [tail, 1 - tail], method="inverted_cdf").tolist()
            invalid = 0.0
        median = Estimate(
            low=low, high=high, invalid=invalid, value=float(np.median(late)), runs=len(runs)
        )
        result.append(GrokkingEpochs(n, tuple(epochs.tolist()), median))
    return result


def crossing(
    epochs: ArrayLike,
    curves: ArrayLike,
    level: float = 1.0,
    *,
    hold: int = 3,
    direction: Direction = "up",
) -> Floats:
    """Return when curves first pass a level and stay beyond it.

    A crossing upwards is the first snapshot at or below the level that is followed by ``hold``
    snapshots above it; its time is interpolated linearly between the last one below and the first
    above. Downwards likewise.

    Parameters
    ----------
    epochs : array, shape (snapshots,)
    curves : array, shape (..., snapshots)
    level : float
    hold : int
        Snapshots for which the curve must stay beyond the level, at least 1.
    direction : {"up", "down"}

    Returns
    -------
    array, shape (...)
        The time in epochs; NaN for a curve that never crosses.

    Raises
    ------
    InputError
        If the lengths differ, ``hold`` is below 1, or the direction is another.
    """
    require_count("hold", hold, 1)
    if direction not in ("up", "down"):
        raise InputError(f"direction is {direction!r}; 'up' or 'down' is needed")
    t, values = np.asarray(epochs, np.float64), np.asarray(curves, np.float64) - level
    if not (values.ndim >= 1 and t.shape == values.shape[-1:]):
        raise InputError(
            f"epochs have shape {t.shape} and curves {values.shape}; the last lengths must agree"
        )
    values = values if direction == "up" else -values
    starts = t.size - hold
    if starts <= 0:
        return np.full(values.shape[:-1], np.nan)
    crosses = crossing_starts(values, hold)
    first = crosses.argmax(axis=-1)
    below = np.take_along_axis(values, first[..., None], axis=-1)[..., 0]
    above = np.take_along_axis(values, first[..., None] + 1, axis=-1)[..., 0]
    share = np.divide(below, below - above, out=np.zeros_like(below), where=below != above)
    time = t[first] + share * (t[first + 1] - t[first])
    return np.where(crosses.any(axis=-1), time, np.nan)


def crossing_starts(values: Floats, hold: int) -> NDArray[np.bool_]:
    """Return where curves (..., snapshots) begin to cross 0 upwards; without the last ``hold``."""
    starts, beyond = values.shape[-1] - hold, values > 0
    crosses: NDArray[np.bool_] = values[..., :starts] <= 0
    for ahead in range(1, hold + 1):
        crosses &= beyond[..., ahead : starts + ahead]
    return crosses


class Crossings:
    """First crossings, as ``crossing`` finds them, of curves that are given some epochs at a time."""

    def __init__(self, level: float = 1.0, *, hold: int = 3, direction: Direction = "up") -> None:
        self._level, self._hold, self._direction = level, hold, direction
        self._epochs: Floats = np.empty(0)
        self._curves: Floats | None = None
        self._times: Floats = np.empty(0)

    def add(self, epochs: ArrayLike, curves: Floats) -> None:
        """Go on with the next epochs, and the curves there, of shape (curves, epochs)."""
        if self._curves is None:
            self._curves, self._times = curves[:, :0], np.full(len(curves), np.nan)
        # A crossing is known only after the snapshots that hold it, so the last ones are kept.
        t = np.concatenate([self._epochs, np.asarray(epochs, np.float64)])
        whole = np.concatenate([self._curves, curves], axis=1)
        times = crossing(t, whole, self._level, hold=self._hold, direction=self._direction)
        self._times = np.where(np.isnan(self._times), times, self._times)
        self._epochs, self._curves = t[-self._hold :], whole[:, -self._hold :].copy()

    @property
    def times(self) -> Floats:
        """The time of each curve's first crossing so far, in epochs; NaN without one."""
        return self._times


def peaks(dataset: xr.Dataset, variable: str = "gini", *, before: int = 30, after: int = 60) -> Peaks:
    """Measure the transient peak of a variable around each run's grokking epoch.

    The peak is the largest value in the window from ``before`` epochs before t_g to ``after`` epochs
    after it; the base is the mean of the values at the window's two ends.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep with a snapshot at every epoch.
    variable : str
        A recorded variable.
    before, after : int
        The window in epochs.

    Raises
    ------
    InputError
        If the sweep lacks a snapshot at some epoch, or has no such variable.
    """
    if variable not in dataset:
        raise InputError(
            f"the variable is {variable!r}; the sweep has {', '.join(map(str, dataset.data_vars))}"
        )
    epochs = dataset["epoch"].values
    require(
        epochs.size > 1 and bool((np.diff(epochs) == 1).all()),
        "the sweep lacks snapshots at some epochs; peaks need one at every epoch (every=1)",
    )
    require_count("before", before, 1)
    require_count("after", after, 1)
    rows = [
        _peak(values, reached, epochs[0], before, after)
        for values, reached in zip(
            dataset[variable].values, dataset["grokking_epoch"].values, strict=True
        )
    ]
    rise, width, delay = np.array(rows).T
    return Peaks(rise, width, delay, (-before < delay) & (delay < after))


def typical_peak(found: Peaks, near: float = 10) -> TypicalPeak:
    """Return the peaks over all runs whose window around t_g was measured.

    Parameters
    ----------
    found : Peaks
    near : float
        A peak at most this number of epochs from t_g is near.
    """
    rows = np.flatnonzero(np.isfinite(found.delay))
    if not rows.size:
        nothing = estimated(np.nan, np.empty(0), 1)
        return TypicalPeak(nothing, nothing, nothing, 0, 0)
    draws = rows[run_resamples([rows.size])[0]]
    is_near = (np.abs(found.delay) <= near).astype(np.float64)
    rise, width = (
        estimated(float(np.median(of[rows])), np.median(of[draws], axis=1), rows.size)
        for of in (found.rise, found.width)
    )
    share = estimated(float(is_near[rows].mean()), is_near[draws].mean(axis=1), rows.size)
    return TypicalPeak(rise, width, share, rows.size, int((~found.interior[rows]).sum()))


def _peak(
    values: Floats, reached: float, first_epoch: int, before: int, after: int
) -> tuple[float, float, float]:
    nothing = (np.nan, np.nan, np.nan)
    if np.isnan(reached):
        return nothing
    start = int(reached) - first_epoch - before
    if start < 0 or start + before + after >= values.size:
        return nothing
    window = values[start : start + before + after + 1]
    top = int(window.argmax())
    base = (window[0] + window[-1]) / 2
    low = np.flatnonzero(window < (base + window[top]) / 2)
    left = low[low < top].max(initial=-1)
    right = low[low > top].min(initial=window.size)
    return float(window[top] / base - 1), float(right - left - 1), float(top - before)
