"""The data collapse: how well the CCDFs of several scales fall on one curve.

The quality S is that of J. Houdayer and A. K. Hartmann, Phys. Rev. B 70, 014418 (2004), appendix, with
one exponent: x = log s - D log N, and y = P(> s) is not rescaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis.distributions import Ccdf, ccdfs
from gradquake.analysis.shown import Shown, bracketed
from gradquake.analysis.transitions import Phase, phase
from gradquake.errors import InputError, require

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "EXPONENT_DECIMALS", "NO_COLLAPSE", "Collapse", "best_collapse", "phase_collapse", "quality",
    "quality_decimals",
]  # fmt: skip

Floats = NDArray[np.float64]

# Neighboring points of a CCDF are nearly the same, so that more of them only cost time.
MOST_POINTS = 40

# A smaller error of P(> s) is the rounding of a zero; its weight would exceed all others.
CERTAIN = 1e-8

# The spacing of the grid of exponents, and of the finer grid around the best of them. S has many minima,
# since it jumps if a point enters the range of another scale: a coarser grid would miss the smallest.
STEPS = (0.001, 0.0001)

# The number of exponents that are tried at once, so that their arrays fit into the caches.
AT_ONCE = 32

# The stable decimals of an exponent: if the start of the training changes in its last bit, the ends of
# the interval move by 0.005.
EXPONENT_DECIMALS = 2

# A perfect collapse has S from 1 to 2.5, depending on the number of runs; above this there is none.
NO_COLLAPSE = 4.0


@dataclass(frozen=True, repr=False)
class Collapse(Shown):
    """The exponent D that collapses CCDFs best, against s / N^D.

    Attributes
    ----------
    exponent : float
        The D with the smallest S; NaN if there is none.
    low, high : float
        The nearest D on either side at which S exceeds its minimum by 1; NaN if S does not in the range
        searched, or not before the scales lose their overlap. As the points of one CCDF move together,
        this is near a 95 % interval: it held the D of simulated sweeps in 95 % with 20 runs at each
        scale, 85 to 95 % with 5 to 8, but 60 % with 3.
    quality : float
        The smallest S.
    n_points : int
        The number M of points that it averages.
    n_scales : int
        The scales that have points.
    message : str
        A sentence that says why there is no exponent, or why it cannot be trusted; else empty.
    """

    exponent: float
    low: float
    high: float
    quality: float
    n_points: int
    n_scales: int
    message: str = ""

    @property
    def error(self) -> float:
        """Half the distance from ``low`` to ``high``."""
        return (self.high - self.low) / 2

    def _lines(self) -> Mapping[str, str]:
        found = f"D = {bracketed(self.exponent, self.low, self.high)}, S = {self.quality:.3g}"
        return {"": found, "but": self.message} if self.message else {"": found}


class _Curve(NamedTuple):
    """A scale's points with an error: rows x ascending, y and its variance; and which to compare."""

    log_n: float
    points: Floats
    compared: NDArray[np.intp]


def quality(scales: Sequence[Ccdf], exponents: ArrayLike) -> Floats:
    """Return the quality S of the collapse against s / N^D for each exponent D; NaN without overlap.

    S = (1/M) Σ (y - Y)² / (dy² + dY²) over the M points that another scale brackets. Y, with its error
    dY, is the weighted least-squares line through the two neighbors in each scale that does. S is about
    1 if the curves agree within their errors, and much larger if they do not. Errors from a bootstrap
    over few runs R are uncertain: for R from 8 to 4, S is 1.5 to 3 even if the curves agree.

    At most 40 points of each scale are compared, evenly spread over those with s > 0 and an error above
    0. All of those serve as neighbors: chords between few points would miss the curve by more than its
    error.
    """
    tried = np.asarray(exponents, np.float64)
    require(bool(np.isfinite(tried).all()), "an exponent is not finite; finite numbers are needed")
    curves = _curves(scales)
    if not curves:
        return np.full(tried.shape, np.nan)
    return _qualities(curves, tried.ravel())[0].reshape(tried.shape)


def quality_decimals(smallest: float) -> int:
    """Return the number of stable decimals of the smallest S: those of two digits.

    S has many minima; the smallest moves by 3 % if the start of the training changes in its last bit.
    """
    return 0 if smallest >= 10 else 1


def best_collapse(scales: Sequence[Ccdf], search: tuple[float, float] = (0.0, 2.5)) -> Collapse:
    """Return the exponent with the smallest S (see ``quality``) in a range, to 0.0001.

    Curves that hardly overlap can agree by chance. An exponent is therefore considered only if S
    averages at least half as many points as at the exponent with the most.

    Raises
    ------
    InputError
        If the range is not two finite numbers, ascending.
    """
    lowest, highest = search
    if not -np.inf < lowest < highest < np.inf:
        raise InputError(f"search is {search!r}; two finite numbers, ascending, are needed")
    curves = _curves(scales)
    lost = Collapse(np.nan, np.nan, np.nan, np.nan, 0, len(curves))
    if len(curves) < 2:
        needed = "A collapse needs 2 scales with an error of P(> s), from runs that differ"
        return replace(lost, message=f"{needed}; there are {len(curves)}.")
    grid = _grid(lowest, highest, STEPS[0])
    s, m = _qualities(curves, grid)
    if not m.any():
        return replace(lost, message=f"The scales overlap at no D from {lowest:g} to {highest:g}.")
    fewest = m.max() / 2
    s = np.where(m >= fewest, s, np.inf)
    best = grid[np.argmin(s)]
    for wider, step in pairwise(STEPS):
        around = _grid(max(lowest, best - wider), min(highest, best + wider), step)
        near = np.append(best, around)
        best = near[np.argmin(_qualities(curves, near, fewest)[0])]
    (smallest,), (n_points,) = _qualities(curves, np.array([best]))
    here = int(np.searchsorted(grid, best))
    grid, s = np.insert(grid, here, best), np.insert(s, here, smallest)
    low = _rise(curves, fewest, smallest + 1, grid[here::-1], s[here::-1])
    high = _rise(curves, fewest, smallest + 1, grid[here:], s[here:])
    message = ""
    if smallest > NO_COLLAPSE:
        shown = f"{smallest:.{quality_decimals(smallest)}f}"
        message = f"S is {shown} at best: there is no collapse, and the interval says nothing about D."
    return Collapse(float(best), low, high, float(smallest), int(n_points), len(curves), message)


def phase_collapse(dataset: xr.Dataset, which: Phase = "all") -> Collapse:
    """Return the best collapse of a sweep's sizes over the snapshots of a phase."""
    return best_collapse(ccdfs(dataset, phase(dataset, which)))


def _grid(start: float, stop: float, step: float) -> Floats:
    """Return evenly spaced numbers, ends included, at most ``step`` apart."""
    return np.linspace(start, stop, max(1, int(np.ceil(abs(stop - start) / step - 1e-9))) + 1)


def _rise(curves: list[_Curve], fewest: float, level: float, path: Floats, s: Floats) -> float:
    """Return the first D on the path at which S exceeds ``level``; NaN if S does not, or is infinite."""
    for step in STEPS[1:]:
        if not (s > level).any():
            return np.nan
        first = int(np.argmax(s > level))
        path = _grid(path[first - 1], path[first], step)
        s = _qualities(curves, path, fewest)[0]
    first = int(np.argmax(s > level))
    return float(path[first]) if np.isfinite(s[first]) else np.nan


def _curves(scales: Sequence[Ccdf]) -> list[_Curve]:
    """Return the points of the scales that have any with an error."""
    curves = []
    for scale in scales:
        used = (scale.sizes > 0) & (scale.stderr > CERTAIN)
        x, y, dy = np.log(scale.sizes[used]), scale.probability[used], scale.stderr[used]
        if x.size:
            compared = np.linspace(0, x.size - 1, min(x.size, MOST_POINTS)).round().astype(np.intp)
            curves.append(_Curve(float(np.log(scale.n_parameters)), np.stack([x, y, dy**2]), compared))
    return curves


def _qualities(
    curves: list[_Curve], exponents: Floats, fewest: float = 0
) -> tuple[Floats, NDArray[np.intp]]:
    """Return S, infinite if M < fewest, and M; each of shape (exponents,)."""
    parts = np.array_split(exponents, max(1, -(-exponents.size // AT_ONCE)))
    s, m = zip(*(_of_some(curves, part) for part in parts), strict=True)
    points = np.concatenate(m)
    return np.where(points < fewest, np.inf, np.concatenate(s)), points


def _of_some(curves: list[_Curve], exponents: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Return S and M of some exponents."""
    counts = [curve.compared.size for curve in curves]
    owner = np.repeat(np.arange(len(curves)), counts)
    log_n = np.repeat([curve.log_n for curve in curves], counts)
    x, y, variance = np.hstack([curve.points[:, curve.compared] for curve in curves])
    k, kx, ky, kxx, kxy = np.zeros((5, exponents.size, x.size))
    for number, (its_log_n, (its_x, its_y, its_variance), _) in enumerate(curves):
        if its_x.size < 2:
            continue
        at = x + exponents[:, None] * (its_log_n - log_n)
        inside = (at >= its_x[0]) & (at <= its_x[-1]) & (owner != number)
        left = np.zeros(at.shape, np.intp)
        left[inside] = np.searchsorted(its_x[1:-1], at[inside], side="right")
        for neighbor in (left, left + 1):
            # Distances from the point itself, so that the sums lose no digits.
            dx, value = its_x[neighbor] - at, its_y[neighbor]
            weight = inside / its_variance[neighbor]
            k += weight
            ky += weight * value
            weight *= dx
            kx += weight
            kxy += weight * value
            kxx += weight * dx
    delta = k * kxx - kx * kx
    counted = delta > 0
    m = counted.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        fitted, fitted_variance = (kxx * ky - kx * kxy) / delta, kxx / delta
        terms = (y - fitted) ** 2 / (variance + fitted_variance)
        s = np.where(counted, terms, 0.0).sum(axis=1) / m
    return s, m
