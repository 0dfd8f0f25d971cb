"""A baseline: the exponent of the mean size under variants of the probe, on the same gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import scaling
from gradquake.analysis.fits import slopes
from gradquake.analysis.resampling import Estimate, estimated, run_resamples
from gradquake.analysis.scales import scale_groups

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Baseline", "baseline"]


@dataclass(frozen=True, eq=False)
class Baseline:
    """The exponent of the mean size <s> over variants of the probe on the same gradients.

    Attributes
    ----------
    variants : tuple of str
        Their names, for example topologies.
    each : list of Estimate
        The exponent of each variant, a mean over seeds. All variants are resampled with the same runs.
    of_each : array, shape (variants, seeds)
        The exponent of every configuration.
    mean : Estimate
        The mean over all configurations.
    deviation : float
        The sample standard deviation over all configurations.
    spread : Estimate
        The coefficient of variation over the variants.
    """

    variants: tuple[str, ...]
    each: list[Estimate]
    of_each: NDArray[np.float64]
    mean: Estimate
    deviation: float
    spread: Estimate


def baseline(sweeps: Mapping[str, xr.Dataset]) -> Baseline:
    """Return the exponents of variants.

    A slope is linear in log size, so the log sizes are averaged over seeds before the fit.

    Parameters
    ----------
    sweeps : mapping of str to xarray.Dataset
        By variant, sweeps of the same sizes and seeds in the same order, with as many seeds at each
        size.
    """
    groups = scale_groups(next(iter(sweeps.values())))
    n = np.array([n for n, _ in groups])
    # Shape (variants, scales, seeds), with the same order of seeds in each variant.
    log_sizes = np.log(
        [[sweep["size"].values[runs].mean(axis=1) for _, runs in groups] for sweep in sweeps.values()]
    )
    runs = log_sizes.shape[2]
    observed = slopes(n, np.exp(log_sizes.mean(axis=2)))
    draws = run_resamples([runs] * n.size)
    resampled_logs = np.stack(
        [log_sizes[:, scale, chosen].mean(axis=2) for scale, chosen in enumerate(draws)], axis=-1
    )
    resampled = slopes(n, np.exp(resampled_logs))  # (variants, B)
    variation = scaling.coefficient_of_variation
    of_each = slopes(n, np.exp(log_sizes.transpose(0, 2, 1)))
    return Baseline(
        tuple(sweeps),
        [estimated(float(d), row, runs) for d, row in zip(observed, resampled, strict=True)],
        of_each,
        estimated(float(observed.mean()), resampled.mean(axis=0), runs),
        float(of_each.std(ddof=1)),
        estimated(float(variation(observed)), variation(resampled.T), runs),
    )
