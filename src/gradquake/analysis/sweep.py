"""All statistics of one sweep: its exponents, D(t) with its crossing, and its grokking epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradquake.analysis import moments, scale_choices, scaling, transitions
from gradquake.analysis.channels import channel_of, in_channel
from gradquake.analysis.dimension import Curve, curve
from gradquake.analysis.moments import Moments
from gradquake.analysis.resampling import N_RESAMPLES, Interval
from gradquake.analysis.scale_choices import LocalSlopes, WithoutScales
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.shown import Shown
from gradquake.analysis.statistics import STATISTICS, Statistic, check_statistic
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES, GrokkingEpochs, Phase

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["GrokkingRange", "SweepAnalysis", "analyze"]


class GrokkingRange(NamedTuple):
    """The first and the last grokking epoch of all runs; NaN if no run grokked."""

    first: float
    last: float


@dataclass(frozen=True, eq=False, repr=False)
class SweepAnalysis(Shown):
    """The analysis of one sweep.

    Attributes
    ----------
    dataset : xarray.Dataset
        The sweep; its ``size`` is the channel.
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
    def channel(self) -> str:
        """The number of each avalanche that was analyzed."""
        return channel_of(self.dataset)

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
        check_statistic(statistic)
        transitions.check_phase(phase)
        return self.exponents[phase][statistic]

    @property
    def separate_phases(self) -> tuple[Phase, ...]:
        """The phases before and after t_g; the phase "all" alone if no run grokked."""
        return ("all",) if np.isnan(self.grokking_range.first) else SPLIT_PHASES

    def local_slopes(self, phase: Phase, statistic: Statistic) -> LocalSlopes:
        """Return the exponents between neighboring scales; errors as ``exponent``."""
        return scale_choices.local_slopes(self.exponent(phase, statistic))

    def without_scales(self, phase: Phase, statistic: Statistic) -> WithoutScales:
        """Return an exponent without its largest and its smallest scales; errors as ``exponent``."""
        return scale_choices.without_scales(self.exponent(phase, statistic))

    @cached_property
    def moments(self) -> dict[Phase, Moments]:
        """The exponents of the moments of sizes, by separate phase with avalanches at all scales."""
        return {
            phase: moments.sweep_moments(self.dataset, transitions.phase(self.dataset, phase))
            for phase in self.separate_phases
            if np.isfinite(self.exponent(phase, "mean").value)
        }

    def snapshot_interval(self, phase: Phase, statistic: Statistic) -> Interval:
        """Return an exponent's interval from a bootstrap over single snapshots: too narrow.

        Raises
        ------
        InputError
            For another phase or statistic.
        """
        check_statistic(statistic)
        transitions.check_phase(phase)
        return self._snapshot_intervals[phase][statistic]

    @cached_property
    def _snapshot_intervals(self) -> dict[Phase, dict[Statistic, Interval]]:
        # Computed when first asked for, since they take as long as the exponents and nulls need none.
        return {
            phase: {
                statistic: scaling.snapshot_interval(
                    self.dataset, statistic, transitions.phase(self.dataset, phase)
                )
                for statistic in self.exponents[phase]
            }
            for phase in self.exponents
        }

    @property
    def _title(self) -> str:
        return f"Analysis of {self.dataset.sizes['run']} runs"

    def _lines(self) -> Mapping[str, str]:
        exponents = {
            f"{STATISTICS[statistic].symbol} {phase}": found.text
            for phase, of_phase in self.exponents.items()
            for statistic, found in of_phase.items()
        }
        curves = {f"{STATISTICS[name].symbol}(t)": found.text for name, found in self.curves.items()}
        return exponents | curves


def analyze(
    dataset: xr.Dataset, *, channel: str = "size", n_resamples: int = N_RESAMPLES, seed: int = 0
) -> SweepAnalysis:
    """Analyze one sweep (see ``gradquake.study.recording``).

    Parameters
    ----------
    dataset : xarray.Dataset
    channel : str
        The number of each avalanche that takes the place of its size (see ``channels``).
    n_resamples, seed : int
        The bootstrap's.

    Raises
    ------
    InputError
        For fewer than three scales, or another channel.
    """
    dataset = in_channel(dataset, channel)
    curves = {
        statistic: curve(dataset, statistic, n_resamples=n_resamples, seed=seed)
        for statistic in STATISTICS
    }
    exponents: dict[Phase, dict[Statistic, Exponent]] = {}
    for phase in PHASES:
        where = transitions.phase(dataset, phase)
        exponents[phase] = {
            statistic: scaling.exponent(dataset, statistic, where, n_resamples=n_resamples, seed=seed)
            for statistic in STATISTICS
        }
    grokking = transitions.grokking_epochs(dataset, n_resamples=n_resamples, seed=seed)
    return SweepAnalysis(dataset, exponents, curves, grokking)
