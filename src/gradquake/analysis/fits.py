"""Power laws sizes ~ N^exponent, fitted by ordinary least squares in log-log, all scales equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis import _kernels
from gradquake.analysis.scales import FEWEST_SCALES
from gradquake.errors import InputError, require

__all__ = [
    "Fit", "Lines", "SlopesAndR2", "fit_exponent", "line_fits", "lines", "logarithms", "r_squared",
    "slopes", "student_quantile",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A power law fitted to sizes against N.

    Attributes
    ----------
    exponent : float
        The slope in log-log; NaN if there is no fit.
    stderr : float
        Its standard error from the residuals.
    r_squared : float
        The share of the variance of log size that the line explains; NaN for constant sizes.
    intercept : float
        log size at N = 1.
    n_scales : int
        The number of points.
    message : str
        A sentence that says why there is no fit; empty if there is one.
    """

    exponent: float
    stderr: float
    r_squared: float
    intercept: float
    n_scales: int
    message: str = ""

    @property
    def low(self) -> float:
        """Lower end of the exponent's 95 % interval for normal residuals (Student's t)."""
        return self.exponent - self._margin

    @property
    def high(self) -> float:
        """Upper end of the exponent's 95 % interval for normal residuals (Student's t)."""
        return self.exponent + self._margin

    @property
    def _margin(self) -> float:
        return student_quantile(self.n_scales - 2) * self.stderr


class Lines(NamedTuple):
    """Least-squares lines through log size against log N; arrays of shape (fits,)."""

    slopes: Floats
    stderr: Floats
    r_squared: Floats
    intercepts: Floats


class SlopesAndR2(NamedTuple):
    """Slopes and R² of many fits; NaN if a size is missing or not positive."""

    slopes: Floats
    r_squared: Floats


def student_quantile(degrees: float) -> float:
    """Return the 97.5 % quantile of Student's t, the half width of a 95 % interval over its error."""
    # Importing scipy.stats for this one quantile would take a second.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def fit_exponent(n_parameters: ArrayLike, sizes: ArrayLike) -> Fit:
    """Fit sizes ~ N^exponent by ordinary least squares in log-log.

    Parameters
    ----------
    n_parameters : array, shape (scales,)
        The numbers of parameters N, positive.
    sizes : array, shape (scales,)
        One avalanche size for each.

    Returns
    -------
    Fit
        With NaN and a message if there are fewer than three scales, if N does not vary, or if a size
        is missing or not positive.

    Raises
    ------
    InputError
        If the two are not vectors of one length, or an N is not positive.
    """
    n, s = np.asarray(n_parameters, np.float64), np.asarray(sizes, np.float64)
    if not (n.ndim == 1 and n.shape == s.shape):
        raise InputError(
            f"n_parameters has shape {n.shape} and sizes {s.shape}; two equally long vectors are needed"
        )
    require(
        bool((np.isfinite(n) & (n > 0)).all()),
        "an N is not a positive finite number; numbers of parameters are needed",
    )
    message = ""
    bad = n[~(np.isfinite(s) & (s > 0))]
    if n.size < FEWEST_SCALES:
        message = f"A fit needs {FEWEST_SCALES} scales; there are {n.size}."
    elif np.unique(n).size < 2:
        message = "A fit needs different N; all scales have the same."
    elif bad.size:
        message = (
            f"There is no avalanche with a positive size at N = {', '.join(f'{x:g}' for x in bad)}."
        )
    if message:
        return Fit(np.nan, np.nan, np.nan, np.nan, n.size, message)
    slope, stderr, r_squared, intercept = (float(of[0]) for of in lines(n, s[None]))
    return Fit(slope, stderr, r_squared, intercept, n.size)


def lines(n_parameters: NDArray[np.generic], sizes: Floats) -> Lines:
    """Return the lines of fits to sizes of shape (fits, scales)."""
    slope, r2 = _slopes(n_parameters, sizes)
    x, y = np.log(n_parameters), logarithms(sizes)
    intercepts = y.mean(axis=-1) - slope * x.mean()
    residual = y - intercepts[:, None] - slope[:, None] * x
    variance = (residual**2).sum(axis=-1) / (n_parameters.size - 2)
    return Lines(slope, np.sqrt(variance / ((x - x.mean()) ** 2).sum()), r2, intercepts)


def slopes(n_parameters: ArrayLike, sizes: Sequence[Floats] | Floats) -> Floats:
    """Return the exponents of many fits at once: sizes of shape (..., scales) give shape (...)."""
    return _slopes(np.asarray(n_parameters, np.float64), np.asarray(sizes, np.float64)).slopes


def r_squared(n_parameters: ArrayLike, sizes: Floats) -> Floats:
    """Return the R² of many fits at once: sizes of shape (..., scales) give shape (...)."""
    return _slopes(np.asarray(n_parameters, np.float64), np.asarray(sizes, np.float64)).r_squared


def line_fits(n_parameters: NDArray[np.generic], logs: Floats) -> SlopesAndR2:
    """Return slopes and R² of log sizes (scales, ...) against log N."""
    x = np.log(n_parameters) - np.log(n_parameters).mean()
    found = np.empty((2, logs[0].size))
    _kernels.line_fits(x, np.ascontiguousarray(logs).reshape(len(logs), -1), *found)
    return SlopesAndR2(*found.reshape(2, *logs.shape[1:]))


def logarithms(sizes: Floats) -> Floats:
    """Return the logarithms of sizes; NaN if a size is missing or not positive."""
    logs: Floats = np.log(np.where(sizes > 0, sizes, np.nan))
    return logs


def _slopes(n_parameters: NDArray[np.generic], sizes: Floats) -> SlopesAndR2:
    return line_fits(n_parameters, logarithms(np.moveaxis(sizes, -1, 0)))
