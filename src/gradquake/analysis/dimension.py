"""D(t): the exponent at every epoch, its resamples, and when it crosses a level or its null."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import transitions
from gradquake.analysis.channels import in_channel
from gradquake.analysis.fits import line_fits, lines, student_quantile
from gradquake.analysis.resampling import (
    FEWEST_RUNS,
    N_RESAMPLES,
    Estimate,
    estimated,
    interval_ends,
    over_resamples,
    times_drawn,
)
from gradquake.analysis.scales import FEWEST_SCALES, scale_groups
from gradquake.analysis.shown import Shown, bracketed, number
from gradquake.analysis.statistics import STATISTICS, OfDraws, Statistic, check_statistic
from gradquake.analysis.transitions import Crossings, Direction
from gradquake.errors import InputError, require, require_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Block", "Curve", "CurveSpan", "crossing_of_null", "curve", "dimension", "resampled_dimension",
]  # fmt: skip

Floats = NDArray[np.float64]

# So few runs of a scale can be drawn in fewer ways than there are resamples.
FEW_RUNS = 6

# The number of resampled values that are held at a time.
MOST_HELD = 1 << 25


class Block(NamedTuple):
    """D(t) at some epochs, a slice of all, in every resample of runs; arrays of shape (B, epochs)."""

    epochs: slice
    exponents: Floats
    r_squared: Floats


def resampled_dimension(
    dataset: xr.Dataset, statistic: Statistic = "max", *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Iterator[Block]:
    """Yield D(t) in every resample of runs, some epochs at a time, in order.

    A block holds as many epochs as fit into about 300 MB: memory does not grow with their number.
    Arguments and errors as in ``dimension``. The resamples are those of ``run_resamples``: equal seeds
    pair the blocks of two sweeps. There is no resample if a scale has a single run.
    """
    require_count("n_resamples", n_resamples, 1)
    n, sizes = _by_scale(dataset, statistic)
    runs = [len(of_scale) for of_scale in sizes]
    resamples = n_resamples if min(runs) >= FEWEST_RUNS else 1
    width = max(1, MOST_HELD // (resamples * (2 * n.size + 6)))
    for start in range(0, sizes[0].shape[1], width):
        part = slice(start, min(start + width, sizes[0].shape[1]))
        over_runs = [STATISTICS[statistic].log_at_epochs(of_scale[:, part]) for of_scale in sizes]
        logs = over_resamples(runs, partial(_at_scale, over_runs), n_resamples, seed)
        yield Block(part, *line_fits(n, np.stack(logs)))


def dimension(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    each_block: Callable[[Block], object] = lambda _: None,
) -> xr.Dataset:
    """Return the time-resolved effective dimensionality D(t), on the epochs that the runs share.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``), with at least three scales.
    statistic : str
        A name in ``STATISTICS``, of the sizes of a scale's runs at one snapshot.
    n_resamples, seed : int
        Of the bootstrap over runs.
    each_block : callable
        Called with each block of ``resampled_dimension`` as the intervals are computed from it.

    Returns
    -------
    xarray.Dataset
        On ``epoch``: ``value`` of the exponent, its ``stderr``, the ends ``low`` and ``high`` of its 95
        % interval (chosen as in ``scaling.exponent``), ``r_squared``, and ``runs``, the fewest runs of a
        scale that were measured. NaN at an epoch at which a scale has no positive size. A run whose size
        is NaN at an epoch (in aligned time, before its start or after its end) is left out there.

        A Dataset over epochs is one estimate: ``low`` and ``high`` belong to ``value``. ``Curve`` gives
        that of RÂ² (``r_squared``).

    Raises
    ------
    InputError
        For another statistic, or fewer than three scales.
    """
    import xarray as xr

    n, sizes = _by_scale(dataset, statistic)
    fewest = np.min([np.isfinite(of_scale).sum(axis=0) for of_scale in sizes], axis=0)
    observed = np.stack([STATISTICS[statistic].of(of_scale, 0) for of_scale in sizes], axis=-1)
    found = lines(n, observed)
    columns = {"value": found.slopes, "stderr": found.stderr, "r_squared": found.r_squared}
    ends = {name: np.empty(fewest.size) for name in ("low", "high")}
    for block in resampled_dimension(dataset, statistic, n_resamples=n_resamples, seed=seed):
        each_block(block)
        of_block = interval_ends(block.exponents, fewest[block.epochs])
        ends["low"][block.epochs], ends["high"][block.epochs] = of_block.low, of_block.high
    if STATISTICS[statistic].is_extreme:
        margin = student_quantile(n.size - 2) * found.stderr
        wide = ends["low"] < ends["high"]
        ends["low"] = np.where(wide, found.slopes - margin, ends["low"])
        ends["high"] = np.where(wide, found.slopes + margin, ends["high"])
    return xr.Dataset(
        {name: ("epoch", values) for name, values in {**columns, **ends, "runs": fewest}.items()},
        {"epoch": dataset["epoch"].values},
        {"statistic": statistic, "fewest_runs": min(len(s) for s in sizes)},
    )


def _by_scale(dataset: xr.Dataset, statistic: str) -> tuple[NDArray[np.int64], list[Floats]]:
    """Return each N, ascending, and the sizes (runs, epochs) of its runs; raise unless D(t) exists."""
    check_statistic(statistic)
    groups = scale_groups(dataset)
    if len(groups) < FEWEST_SCALES:
        raise InputError(
            f"the sweep has {len(groups)} scales; D(t) needs at least {FEWEST_SCALES} sizes of network"
        )
    sizes = dataset["size"].values
    return np.array([n for n, _ in groups]), [sizes[runs].astype(np.float64) for _, runs in groups]


def _at_scale(over_runs: Sequence[OfDraws], scale: int, draws: NDArray[np.intp]) -> Floats:
    """Return the log of the statistic of draws (B, n), computed once for equal draws."""
    runs = draws.shape[1]
    if runs > FEW_RUNS:
        return over_runs[scale](draws)
    number = times_drawn(draws, runs) @ (runs + 1.0) ** np.arange(runs)
    _, first, which = np.unique(number, return_index=True, return_inverse=True)
    return over_runs[scale](draws[first])[which]


class CurveSpan(NamedTuple):
    """The lowest, highest and last value of D(t); NaN if it is defined at no epoch."""

    lowest: float
    highest: float
    last: float


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Shown):
    """D(t) of one statistic with its crossing of 1 from below.

    The resampled curves are not kept, since they are too many numbers; ``resampled`` computes them
    again.

    Attributes
    ----------
    sweep : xarray.Dataset
        The sizes of the runs.
    n_resamples, seed : int
        Of the bootstrap.
    dimension : xarray.Dataset
        As ``dimension`` returns it.
    crossing : Estimate
        The epoch of the crossing; NaN if there is none. Its ``invalid`` is the share of resamples
        without one. Of the maximum, no interval is known that holds the crossing of few runs often
        enough: that of six in 82 % (docs/coverage.md).
    """

    sweep: xr.Dataset
    n_resamples: int
    seed: int
    dimension: xr.Dataset
    crossing: Estimate

    def resampled(self) -> Iterator[Block]:
        """Yield D(t) in every resample of runs, some epochs at a time, in order."""
        return resampled_dimension(
            self.sweep, self.dimension.attrs["statistic"], n_resamples=self.n_resamples, seed=self.seed
        )

    def crossing_of(self, level: float, direction: Direction = "up") -> Estimate:
        """Return when D(t) passes a level, as ``transitions.crossing`` finds it."""
        crossings = Crossings(level, direction=direction)
        for block in self.resampled():
            crossings.add(self._epochs[block.epochs], block.exponents)
        observed = transitions.crossing(
            self._epochs, self.dimension["value"].values, level, direction=direction
        )
        return estimated(float(observed), crossings.times, self.dimension.attrs["fewest_runs"])

    def average(self) -> Estimate:
        """Return the mean of D(t) over the snapshots. It resamples again."""
        exponents = np.concatenate([block.exponents for block in self.resampled()], axis=1)
        observed = float(self.dimension["value"].mean())
        return estimated(observed, exponents.mean(axis=1), self.dimension.attrs["fewest_runs"])

    def r_squared(self) -> xr.Dataset:
        """Return R² of the fits on ``epoch``: ``value``, ``low`` and ``high``. It resamples again."""
        import xarray as xr

        columns = {"value": self.dimension["r_squared"].values}
        columns |= {name: np.empty(self._epochs.size) for name in ("low", "high")}
        runs = self.dimension["runs"].values
        for block in self.resampled():
            ends = interval_ends(block.r_squared, runs[block.epochs])
            columns["low"][block.epochs], columns["high"][block.epochs] = ends.low, ends.high
        return xr.Dataset({name: ("epoch", of) for name, of in columns.items()}, {"epoch": self._epochs})

    def slim(self) -> Curve:
        """Return it without the resamples of its crossing, to keep or to send."""
        return replace(self, crossing=self.crossing.slim())

    @property
    def statistic(self) -> Statistic:
        """The statistic of the sizes."""
        name: Statistic = self.dimension.attrs["statistic"]
        return name

    @property
    def span(self) -> CurveSpan:
        """The lowest, highest and last value of D(t), over the epochs at which it is defined."""
        values = self.dimension["value"].values
        known = values[np.isfinite(values)]
        if not known.size:
            return CurveSpan(np.nan, np.nan, np.nan)
        return CurveSpan(float(known.min()), float(known.max()), float(known[-1]))

    @property
    def has_intervals(self) -> bool:
        """Whether the interval of D(t) has a width at some epoch: runs differ there."""
        return bool((self.dimension["low"] < self.dimension["high"]).any())

    @property
    def _epochs(self) -> NDArray[np.int64]:
        epochs: NDArray[np.int64] = self.dimension["epoch"].values
        return epochs

    @property
    def _title(self) -> str:
        return f"{STATISTICS[self.statistic].symbol}(t)"

    def _lines(self) -> Mapping[str, str]:
        low, high, last = map(number, self.span)
        crossing = "does not cross 1 from below"
        if np.isfinite(self.crossing.value):
            at = bracketed(self.crossing.value, self.crossing.low, self.crossing.high, 0)
            crossing = f"crosses 1 from below at epoch {at}"
        return {"": f"{low} to {high}, at the end {last}; {crossing}"}


def curve(
    dataset: xr.Dataset,
    statistic: Statistic,
    *,
    channel: str = "size",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Curve:
    """Return D(t) of a statistic of a channel (see ``channels``) with its crossing of 1.

    Raises
    ------
    InputError
        For fewer than three scales, or another channel.
    """
    dataset = in_channel(dataset, channel)
    epochs, crossings = dataset["epoch"].values, Crossings()
    found = dimension(
        dataset,
        statistic,
        n_resamples=n_resamples,
        seed=seed,
        each_block=lambda block: crossings.add(epochs[block.epochs], block.exponents),
    )
    observed = float(transitions.crossing(epochs, found["value"].values))
    crossing = estimated(observed, crossings.times, found.attrs["fewest_runs"])
    return Curve(dataset[["size"]], n_resamples, seed, found, crossing)


def crossing_of_null(curve: Curve, null: Curve) -> Estimate:
    """Return when D(t) passes from below to above that of a null, the same runs resampled in both.

    Raises
    ------
    InputError
        If the two differ in epochs, runs, resamples, statistic or seed.
    """
    one, other = curve.dimension, null.dimension
    require(
        one["epoch"].equals(other["epoch"])
        and one.attrs == other.attrs
        and (curve.n_resamples, curve.seed) == (null.n_resamples, null.seed)
        and np.array_equal(curve.sweep["n_parameters"], null.sweep["n_parameters"]),
        "the two curves differ in epochs, runs or resamples; their crossing needs the same",
    )
    epochs, crossings = one["epoch"].values, Crossings(0.0)
    for of_one, of_other in zip(curve.resampled(), null.resampled(), strict=True):
        crossings.add(epochs[of_one.epochs], of_one.exponents - of_other.exponents)
    above = one["value"].values - other["value"].values
    observed = float(transitions.crossing(epochs, above, 0.0))
    return estimated(observed, crossings.times, one.attrs["fewest_runs"])
