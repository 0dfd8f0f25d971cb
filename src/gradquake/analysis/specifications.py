"""The specification curve: one result under every defensible way to measure it.

A specification is one choice for each setting of the probe, the statistic, the snapshots and the scales
of the fit. All specifications are measured and none is preferred: a result that holds in most of them
does not depend on a choice. (U. Simonsohn, J. P. Simmons and L. D. Nelson, Nature Human Behaviour 4,
1208 (2020).)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import statistics
from gradquake.analysis.fits import SlopesAndR2
from gradquake.analysis.scales import FEWEST_SCALES
from gradquake.analysis.statistics import Sizes
from gradquake.analysis.transitions import crossing
from gradquake.errors import InputError, require

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "AGAINST_NULL", "RESULTS", "STATISTICS", "Dependence", "Judged", "Shares", "choices", "dependences",
    "importance", "judged", "results", "scale_choices", "shares", "statements", "varied",
]  # fmt: skip

Floats = NDArray[np.float64]


def _percentile_95(sizes: Sizes, axis: int) -> Floats:
    high: Floats = np.quantile(sizes, 0.95, axis=axis)
    return high


# Functions of sizes and an axis.
STATISTICS: dict[str, Callable[[Sizes, int], Floats]] = {
    **{name: statistic.of for name, statistic in statistics.STATISTICS.items()},
    "p95": _percentile_95,
}

# The results of every specification, for the data and, as null_pre and so on, for the permuted null.
RESULTS = ("pre", "post", "all", "average", "crossing", "worst_r_squared")

# How the name of a statement ends that compares the data with their null.
AGAINST_NULL = "its permuted null"


def scale_choices(scales: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Return the choices of scales for a fit: all, and all without each; masks by name.

    Raises
    ------
    InputError
        If a fit without one of them has fewer than three scales.
    """
    if scales.size <= FEWEST_SCALES:
        raise InputError(
            f"the sweep has {scales.size} scales; at least {FEWEST_SCALES + 1} are needed, since "
            "each is left out in turn"
        )
    chosen = {"all": np.ones(scales.size, bool)}
    for i, n in enumerate(scales):
        chosen[f"without {n}"] = np.arange(scales.size) != i
    return chosen


def results(
    n_parameters: NDArray[np.int64],
    sizes: NDArray[np.int64],
    epochs: NDArray[np.int64],
    grokking_epochs: Floats,
    strides: tuple[int, ...],
) -> Floats:
    """Return the results of one measured sweep under every statistic, snapshot interval and fit.

    Parameters
    ----------
    n_parameters : array, shape (runs,)
        Ascending.
    sizes : array, shape (runs, snapshots)
    epochs : array, shape (snapshots,)
    grokking_epochs : array, shape (runs,)
        NaN for a run that never grokked.
    strides : tuple of int
        Snapshot intervals, as multiples of that of ``epochs``.

    Returns
    -------
    array, shape (len(RESULTS), statistics, strides, choices of scales)
        The exponents before and after each run's t_g and over everything, the time average of
        D(t), its crossing of 1 from below (an epoch, or NaN), and the smallest R² of its fits.
    """
    scales, starts = np.unique(n_parameters, return_index=True)
    masks = np.array(list(scale_choices(scales).values()))
    reached = np.where(np.isnan(grokking_epochs), np.inf, grokking_epochs)
    found = np.full((len(RESULTS), len(STATISTICS), len(strides), len(masks)), np.nan)
    for j, stride in enumerate(strides):
        times, part = epochs[::stride], sizes[:, ::stride].astype(np.float64)
        before = times < reached[:, None]
        pooled = [_pooled(part, phase, starts) for phase in (before, ~before, np.ones_like(before))]
        curves = _at_each_snapshot(part, starts)
        for i in range(len(STATISTICS)):
            for k, of_phase in enumerate(pooled):
                found[k, i, j] = _fits(scales, of_phase[i], masks).slopes
            of_curve = _fits(scales, curves[i], masks)
            found[3, i, j] = of_curve.slopes.mean(axis=0)
            found[4, i, j] = crossing(times, of_curve.slopes.T)
            found[5, i, j] = of_curve.r_squared.min(axis=0)
    return found


class Shares(NamedTuple):
    """The share of specifications in which a statement holds: of all, and by choice and its level."""

    overall: float
    by_choice: dict[str, dict[str, float]]


class Judged(NamedTuple):
    """The share of specifications in which a statement holds, on the data and on their permuted null.

    ``null`` is None for a statement that compares the two.
    """

    data: Shares
    null: Shares | None


@dataclass(frozen=True)
class Dependence:
    """How a result varies over the specifications.

    Attributes
    ----------
    median, low, high : float
        The median and the central 95 % of the specifications; NaN if none has a value.
    importance : dict
        By choice, the share of the variance that it accounts for alone (see ``importance``); NaN if no
        specification has a value.
    """

    median: float
    low: float
    high: float
    importance: dict[str, float]


def shares(holds: xr.DataArray) -> Shares:
    """Return the share of specifications in which a statement holds."""
    by_choice = {
        str(choice): {
            str(level): float(holds.sel({choice: level}).mean()) for level in holds[choice].values
        }
        for choice in holds.dims
    }
    return Shares(float(holds.mean()), by_choice)


def judged(table: xr.Dataset, statements: Callable[[xr.Dataset], xr.Dataset]) -> dict[str, Judged]:
    """Return by name the share of specifications in which each of some statements holds.

    Parameters
    ----------
    table : xarray.Dataset
        A specification curve.
    statements : callable
        Returns for every specification of a table whether each statement is true.
    """
    of_null = table.assign({name: table[f"null_{name}"] for name in RESULTS})
    holds, null_holds = statements(table), statements(of_null)
    return {
        str(name): Judged(
            shares(holds[name]),
            None if str(name).endswith(AGAINST_NULL) else shares(null_holds[name]),
        )
        for name in holds.data_vars
    }


def importance(values: xr.DataArray) -> dict[str, float]:
    """Return the share of the variance over specifications that each choice accounts for alone.

    This is the correlation ratio eta² of a main effect: the sum of squares between the levels of a
    choice, each weighted by its number of specifications with a value, over the total sum of squares.
    In a full table, the shares add up to 1 minus the share of the interactions.

    Raises
    ------
    InputError
        If no specification has a value.
    """
    require(bool(values.notnull().any()), "no specification has a value")
    known = values.values[np.isfinite(values.values)]
    # Differences from the first, so that equal values differ by exactly 0.
    values = values - known[0]
    centered = values - values.mean()
    total = float((centered**2).sum())
    shares = {}
    for choice in values.dims:
        others = [d for d in values.dims if d != choice]
        between = float((centered.count(others) * centered.mean(others) ** 2).sum())
        shares[str(choice)] = between / total if total > 0 else 0.0
    return shares


def varied(table: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return by name the results whose dependence on the choices is asked."""
    before, after = table["pre"] - table["null_pre"], table["post"] - table["null_post"]
    return {
        "exponent before": table["pre"],
        "exponent after": table["post"],
        "rise": table["post"] - table["pre"],
        "arrangement before": before,
        "arrangement after": after,
        "arrangement of the rise": after - before,
    }


def statements(table: xr.Dataset) -> xr.Dataset:
    """Return for every specification whether each of the usual statements is true.

    Only estimates are compared, not their intervals. A statement about a missing value is not true.
    """
    first, last = table["first_grokking_epoch"], table["last_grokking_epoch"]
    pre, post, crossed = table["pre"], table["post"], table["crossing"]
    above_pre, above_post = pre - table["null_pre"], post - table["null_post"]
    return table[[]].assign(
        {
            "exponent before < 1": pre < 1,
            "exponent after > 1": post > 1,
            "exponent before < 1 < after": (pre < 1) & (post > 1),
            "exponent after > before": post > pre,
            "exponent crosses 1 upwards": crossed.notnull(),
            "exponent crosses 1 while runs grok": (first <= crossed) & (crossed <= last),
            f"exponent before > {AGAINST_NULL}": above_pre > 0,
            f"exponent after > {AGAINST_NULL}": above_post > 0,
            f"rise > that of {AGAINST_NULL}": above_post > above_pre,
        }
    )


def choices(table: xr.Dataset) -> list[str]:
    """Return the choices that have more than one level."""
    return [str(name) for name, levels in table["pre"].sizes.items() if levels > 1]


def dependences(table: xr.Dataset) -> dict[str, Dependence]:
    """Return how every result in ``varied`` depends on the choices that have more than one level."""
    found = {}
    for name, values in varied(table).items():
        low = middle = high = np.nan
        shares: dict[str, float] = {}
        if values.notnull().any():
            low, middle, high = values.quantile([0.025, 0.5, 0.975]).values.tolist()
            shares = importance(values)
        by_choice = {choice: shares.get(choice, np.nan) for choice in choices(table)}
        found[name] = Dependence(middle, low, high, by_choice)
    return found


def _pooled(sizes: Floats, phase: NDArray[np.bool_], starts: NDArray[np.intp]) -> list[Floats]:
    """Return each statistic over the chosen snapshots of every scale; NaN for a scale without one."""
    ends = [*starts[1:].tolist(), len(sizes)]
    chosen = [sizes[a:b][phase[a:b]] for a, b in zip(starts.tolist(), ends, strict=True)]
    return [
        np.array([of(values, 0) if values.size else np.nan for values in chosen])
        for of in STATISTICS.values()
    ]


def _at_each_snapshot(sizes: Floats, starts: NDArray[np.intp]) -> list[Floats]:
    """Return each statistic over the runs of every scale, shape (snapshots, scales)."""
    scales = np.split(sizes, starts[1:])
    return [np.array([of(runs, 0) for runs in scales]).T for of in STATISTICS.values()]


def _fits(scales: NDArray[np.int64], sizes: Floats, masks: NDArray[np.bool_]) -> SlopesAndR2:
    """Return slope and R² of sizes (..., scales) for every choice of scales: (..., choices) each."""
    x = np.log(scales)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(np.where(sizes > 0, sizes, np.nan))
    centered = np.where(masks, x - (masks @ x / masks.sum(axis=1))[:, None], 0.0)
    spread = (centered**2).sum(axis=1)
    # A missing size spoils the choices that hold its scale, and no others.
    known = np.where(np.isnan(y), 0.0, y)
    spoilt = np.isnan(y).astype(np.float64) @ masks.T.astype(np.float64) > 0
    # Differences from the first scale of each choice, so that constant sizes become exact zeros.
    inside = known[..., None, :] - known[..., masks.argmax(axis=1)][..., None]
    slope = (inside * centered).sum(axis=-1) / spread
    mean = np.where(masks, inside, 0.0).sum(axis=-1, keepdims=True) / masks.sum(axis=1)[:, None]
    total = (np.where(masks, inside - mean, 0.0) ** 2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r_squared = slope**2 * spread / total
    return SlopesAndR2(np.where(spoilt, np.nan, slope), np.where(spoilt, np.nan, r_squared))
