"""Finite-size scaling: exponents of avalanche sizes against the number of parameters.

The ansatz is P(s; N) = s^(-tau_s) F(s / N^D): the largest avalanche grows as N^D, the mean as
N^gamma. Every exponent is the slope of an ordinary least-squares line through log size against log N,
all scales weighted equally.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.channels import in_channel
from gradquake.analysis.fits import Fit, fit_exponent, slopes
from gradquake.analysis.resampling import (
    N_RESAMPLES,
    Estimate,
    Interval,
    estimated,
    interval_ends,
    kept,
    over_resamples,
    percentile_interval,
    with_ends,
)
from gradquake.analysis.scales import FEWEST_SCALES, chosen_snapshots, scale_groups
from gradquake.analysis.shown import number
from gradquake.analysis.statistics import STATISTICS, Statistic, check_statistic

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Exponent", "ScaleSizes", "coefficient_of_variation", "exponent", "line_estimate",
    "snapshot_interval",
]  # fmt: skip

Floats = NDArray[np.float64]

# A fit with fewer scales, a lower R² or a larger share of truncated avalanches carries a caution.
FEW_SCALES = 5
POOR_R_SQUARED = 0.95
MOST_TRUNCATED = 0.05


@dataclass(frozen=True, eq=False)
class ScaleSizes:
    """A statistic of the sizes at every scale, with its 95 % interval; arrays of shape (scales,)."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Exponent(Estimate):
    """An exponent over all chosen snapshots of a sweep, with its bootstrap.

    Attributes
    ----------
    value, low, high, invalid : float
        The exponent and its 95 % interval: of the bootstrap over runs, or of the fit if the statistic
        ``is_extreme`` (see ``exponent``).
    statistic : str
        Its name in ``STATISTICS``: "max" (the exponent is D) or "mean" (gamma).
    fit : Fit
        The fit to the measured sizes.
    n_parameters : array of int, shape (scales,)
        The scales N.
    sizes : ScaleSizes
        The size at each scale, to which the line is fitted.
    runs_of_scale : array of int, shape (scales,)
        The number of runs at each scale.
    cautions : tuple of str
        Reasons not to trust the fit, a sentence each; empty if there is none.
    kept_size_resamples : array, shape (B, scales), or None
        The resampled sizes; None after ``slim``.
    """

    statistic: Statistic
    fit: Fit
    n_parameters: NDArray[np.int64]
    sizes: ScaleSizes
    runs_of_scale: NDArray[np.int64]
    cautions: tuple[str, ...]
    kept_size_resamples: Floats | None = None

    @property
    def size_resamples(self) -> Floats:
        """The sizes of every resample; InputError after ``slim``."""
        return kept(self.kept_size_resamples)

    def slim(self) -> Self:
        """Return it without its resamples, to keep or to send."""
        return replace(self, kept_resamples=None, kept_size_resamples=None)

    @property
    def _title(self) -> str:
        return f"Exponent {STATISTICS[self.statistic].symbol}"

    def _lines(self) -> Mapping[str, str]:
        found = f"{super()._lines()['']}, R² {number(self.fit.r_squared)}"
        doubts = " ".join(filter(None, (self.fit.message, *self.cautions)))
        return {"": found, "but": doubts} if doubts else {"": found}


def exponent(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    where: xr.DataArray | None = None,
    *,
    channel: str = "size",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Exponent:
    """Return the exponent of a statistic pooled over the seeds and snapshots of each scale.

    The interval of the mean is that of the bootstrap over runs. Resamples of the largest size of few
    runs scatter less than the largest size of other runs, and around a lower value: their interval holds
    the exponent of six runs in as few as 66 % (docs/coverage.md). The interval of the maximum is
    therefore Student's t of the line's residuals, which hold the scatter between scales. Paired
    differences keep the bootstrap, since the errors of both largely cancel.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``).
    statistic : str
        A name in ``STATISTICS``: "max", the largest size, gives D, "mean" gives gamma.
    where : DataArray of bool, dims (run, epoch), optional
        The snapshots to use, for example ``transitions.phase(dataset, "pre")``.
    channel : str
        The number of each avalanche that takes the place of its size (see ``channels``).
    n_resamples, seed : int
        The bootstrap's.

    Returns
    -------
    Exponent
        Without a value if a scale has no snapshot in ``where``, or if there are fewer than three
        scales; the message of its fit says which.

    Raises
    ------
    InputError
        For another statistic or channel.
    """
    check_statistic(statistic)
    dataset = in_channel(dataset, channel)
    groups = scale_groups(dataset)
    chosen = chosen_snapshots(dataset, where)
    sizes = [np.where(chosen[runs], dataset["size"].values[runs], np.nan) for _, runs in groups]
    n = np.array([n for n, _ in groups])
    drawn = [STATISTICS[statistic].over_snapshots(of_scale) for of_scale in sizes]
    runs_of_scale = np.array([len(of_scale) for of_scale in sizes])
    observed = np.array(
        [of(np.arange(runs)[None])[0] for of, runs in zip(drawn, runs_of_scale, strict=True)]
    )
    resampled = np.column_stack(
        over_resamples(
            runs_of_scale.tolist(), lambda scale, draws: drawn[scale](draws), n_resamples, seed
        )
    )
    fit = fit_exponent(n, observed)
    empty = [str(scale) for scale, s in zip(n, sizes, strict=True) if not np.isfinite(s).any()]
    if empty:
        fit = replace(fit, message=f"There is no snapshot at N = {', '.join(empty)}.")
    found = line_estimate(statistic, fit, n, resampled, int(runs_of_scale.min()))
    return Exponent(
        **vars(found),
        statistic=statistic,
        fit=fit,
        n_parameters=n,
        sizes=ScaleSizes(observed, *interval_ends(resampled, runs_of_scale)),
        runs_of_scale=runs_of_scale,
        cautions=_cautions(fit, dataset, chosen),
        kept_size_resamples=resampled,
    )


def snapshot_interval(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    where: xr.DataArray | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the 95 % interval of an exponent from a bootstrap over single snapshots.

    It treats the snapshots of one run as independent, which they are not, and is therefore too
    narrow; it is here to be seen beside the interval over runs. Arguments as in ``exponent``.
    """
    check_statistic(statistic)
    chosen = chosen_snapshots(dataset, where)
    rng = np.random.default_rng(seed)
    resample = STATISTICS[statistic].over_drawn_snapshots
    n, pooled = [], []
    for scale, runs in scale_groups(dataset):
        values = dataset["size"].values[runs][chosen[runs]]
        n.append(scale)
        pooled.append(
            resample(values, n_resamples, rng) if values.size else np.full(n_resamples, np.nan)
        )
    if len(n) < FEWEST_SCALES:
        return Interval(np.nan, np.nan, 1.0)
    return percentile_interval(slopes(np.array(n), np.column_stack(pooled)))


def line_estimate(
    statistic: Statistic, fit: Fit, n: NDArray[np.int64], resampled: Floats, runs: int
) -> Estimate:
    """Return the exponent of a fit, with the slopes of resampled sizes (B, scales)."""
    without = bool(fit.message)
    found = estimated(
        fit.exponent, np.full(len(resampled), np.nan) if without else slopes(n, resampled), runs
    )
    return with_ends(found, fit.low, fit.high) if STATISTICS[statistic].is_extreme else found


def coefficient_of_variation(values: Floats) -> Floats:
    """Return the sample standard deviation over the mean, along the last axis."""
    spread: Floats = values.std(axis=-1, ddof=1) / values.mean(axis=-1)
    return spread


def _cautions(fit: Fit, dataset: xr.Dataset, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    if fit.message:
        return ()
    found = []
    if fit.n_scales < FEW_SCALES:
        found.append(
            f"The line goes through only {fit.n_scales} scales; {FEW_SCALES} or more fix a slope."
        )
    if np.isnan(fit.r_squared):
        found.append("The sizes do not change with N, so R² is not defined.")
    elif fit.r_squared < POOR_R_SQUARED:
        found.append(
            f"R² is {fit.r_squared:.3f}, below {POOR_R_SQUARED}: the sizes hardly follow a power law."
        )
    lacking = float(np.isnan(dataset["size"].values).mean())
    if lacking > 0:
        found.append(f"The runs have unequal lengths: {lacking:.0%} of the snapshots are missing.")
    if "truncated" in dataset:
        cut = float(dataset["truncated"].values[chosen].mean())
        if cut > MOST_TRUNCATED:
            found.append(
                f"The limit of steps truncated {cut:.0%} of the avalanches, more than "
                f"{MOST_TRUNCATED:.0%}."
            )
    return tuple(found)
