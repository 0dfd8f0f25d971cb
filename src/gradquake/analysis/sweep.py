"""Everything that one sweep says, in one pass: its exponents, D(t), crossings and grokking epochs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling, transitions
from gradquake.analysis.resampling import N_RESAMPLES, Estimate, Interval, estimated
from gradquake.analysis.scaling import Block, Exponent, Statistic
from gradquake.analysis.transitions import PHASES, Crossings, GrokkingEpochs, Phase
from gradquake.errors import require

if TYPE_CHECKING:
    import xarray as xr


class GrokkingRange(NamedTuple):
    """The first and the last grokking epoch of all runs; NaN if no run grokked."""

    first: float
    last: float


@dataclass(frozen=True, eq=False)
class Curve:
    """D(t) of one statistic with its crossing of 1 from below.

    The resampled curves are not kept, since they are as many numbers as there are resamples times
    epochs; ``resampled`` computes them again.

    Attributes
    ----------
    sweep : xarray.Dataset
        The sizes of the runs.
    n_resamples, seed : int
        Of the bootstrap.
    dimension : xarray.Dataset
        As ``scaling.dimension`` returns it.
    crossing : Estimate
        The epoch of the crossing; NaN where there is none. ``interval.invalid`` is the share of
        resamples without one.
    """

    sweep: xr.Dataset = field(repr=False)
    n_resamples: int
    seed: int
    dimension: xr.Dataset
    crossing: Estimate

    def resampled(self) -> Iterator[Block]:
        """Yield D(t) in every resample of runs, some epochs at a time, in order."""
        return scaling.resampled_dimension(
            self.sweep, self.dimension.attrs["statistic"], n_resamples=self.n_resamples, seed=self.seed
        )

    def crossing_of(self, level: float, direction: Literal["up", "down"] = "up") -> Estimate:
        """Return when D(t) passes a level, as ``transitions.crossing`` finds it."""
        crossings = Crossings(level, direction=direction)
        for block in self.resampled():
            crossings.add(self._epochs[block.epochs], block.exponents)
        observed = transitions.crossing(
            self._epochs, self.dimension["value"].values, level, direction=direction
        )
        return estimated(float(observed), crossings.times, self.dimension.attrs["fewest_runs"])

    def slim(self) -> Curve:
        """Return it without the resamples of its crossing, to keep or to send."""
        return replace(self, crossing=self.crossing.slim())

    @property
    def _epochs(self) -> NDArray[Any]:
        epochs: NDArray[Any] = self.dimension["epoch"].values
        return epochs


@dataclass(frozen=True, eq=False)
class SweepAnalysis:
    """The analysis of one sweep.

    Attributes
    ----------
    dataset : xarray.Dataset
        What was analysed.
    exponents : dict
        By phase ("all", "pre", "post" of each run's t_g) and statistic: "max" gives D, "mean" gamma.
    curves : dict
        D(t) by statistic.
    grokking : list of GrokkingEpochs
        By scale, ascending.
    """

    dataset: xr.Dataset
    exponents: dict[Phase, dict[Statistic, Exponent]]
    curves: dict[Statistic, Curve]
    grokking: list[GrokkingEpochs]

    @property
    def grokking_range(self) -> GrokkingRange:
        """The first and last grokking epoch of all runs."""
        epochs = self.dataset["grokking_epoch"].values
        if np.isnan(epochs).all():
            return GrokkingRange(np.nan, np.nan)
        return GrokkingRange(float(np.nanmin(epochs)), float(np.nanmax(epochs)))

    def exponent(self, phase: Phase, statistic: Statistic) -> Exponent:
        """Return the exponent of a statistic over the snapshots of a phase.

        Raises
        ------
        InputError
            For another phase or statistic.
        """
        scaling.check_statistic(statistic)
        transitions.check_phase(phase)
        return self.exponents[phase][statistic]

    def snapshot_interval(self, phase: Phase, statistic: Statistic) -> Interval:
        """Return an exponent's interval from a bootstrap over single snapshots: too narrow."""
        return scaling.snapshot_interval(self.dataset, statistic, transitions.phase(self.dataset, phase))

    def crosses_while_runs_grok(self, statistic: Statistic) -> bool:
        """Return whether D(t) crosses 1 from below within the range of grokking epochs.

        Raises
        ------
        InputError
            For another statistic.
        """
        scaling.check_statistic(statistic)
        first, last = self.grokking_range
        return first <= self.curves[statistic].crossing.value <= last


def analyze(dataset: xr.Dataset, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> SweepAnalysis:
    """Analyse one sweep (see ``gradquake.study.recording``).

    Raises
    ------
    InputError
        For fewer than three scales.
    """
    curves = {
        statistic: curve(dataset, statistic, n_resamples=n_resamples, seed=seed)
        for statistic in scaling.STATISTICS
    }
    exponents = {
        phase: {
            statistic: scaling.exponent(
                dataset,
                statistic,
                transitions.phase(dataset, phase),
                n_resamples=n_resamples,
                seed=seed,
            )
            for statistic in scaling.STATISTICS
        }
        for phase in PHASES
    }
    grokking = transitions.grokking_epochs(dataset, n_resamples=n_resamples, seed=seed)
    return SweepAnalysis(dataset, exponents, curves, grokking)


def curve(
    dataset: xr.Dataset, statistic: Statistic, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Curve:
    """Return D(t) of a statistic with its crossing of 1.

    Raises
    ------
    InputError
        For fewer than three scales.
    """
    epochs, crossings = dataset["epoch"].values, Crossings()
    dimension = scaling.dimension(
        dataset,
        statistic,
        n_resamples=n_resamples,
        seed=seed,
        each_block=lambda block: crossings.add(epochs[block.epochs], block.exponents),
    )
    observed = float(transitions.crossing(epochs, dimension["value"].values))
    found = estimated(observed, crossings.times, dimension.attrs["fewest_runs"])
    return Curve(dataset[["size"]], n_resamples, seed, dimension, found)


def crossing_of_null(curve: Curve, null: Curve) -> Estimate:
    """Return when D(t) passes from below to above that of a null, the same runs resampled in both.

    Raises
    ------
    InputError
        Where the two have other epochs, numbers of runs or resamples, or another statistic or seed.
    """
    one, other = curve.dimension, null.dimension
    require(
        one["epoch"].equals(other["epoch"])
        and one.attrs == other.attrs
        and (curve.n_resamples, curve.seed) == (null.n_resamples, null.seed)
        and np.array_equal(curve.sweep["n_parameters"], null.sweep["n_parameters"]),
        "the two curves do not have the same epochs, runs and resamples; a crossing needs the same",
    )
    epochs, crossings = one["epoch"].values, Crossings(0.0)
    for of_one, of_other in zip(curve.resampled(), null.resampled(), strict=True):
        crossings.add(epochs[of_one.epochs], of_one.exponents - of_other.exponents)
    above = one["value"].values - other["value"].values
    observed = float(transitions.crossing(epochs, above, 0.0))
    return estimated(observed, crossings.times, one.attrs["fewest_runs"])
