"""The specification curve: one result under every defensible way to measure it.

A specification is one choice for each of the probe, the statistic, the snapshots and the scales in
the fit. All of them are measured, none is preferred; what holds in most of them does not hang on a
choice. (U. Simonsohn, J. P. Simmons and L. D. Nelson, Nature Human Behaviour 4, 1208 (2020).)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.scaling import FEWEST_SCALES
from gradquake.analysis.transitions import crossing
from gradquake.errors import InputError, require

if TYPE_CHECKING:
    import xarray as xr


Floats = NDArray[np.float64]

STATISTICS = ("max", "mean", "p95")

# What is computed in every specification: of the data, and of the permuted null (the first three).
NULL_RESULTS = ("pre", "post", "all")
RESULTS = (*NULL_RESULTS, "average", "crossing", "worst_r_squared")


def scale_choices(scales: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Return the choices of scales for a fit: all, and all without each; masks by name.

    Raises
    ------
    InputError
        Where a fit without one of them has fewer than three scales.
    """
    if scales.size <= FEWEST_SCALES:
        raise InputError(
            f"the sweep has {scales.size} scales; at least {FEWEST_SCALES + 1} are needed to leave "
            "each of them out"
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
                found[k, i, j] = _fits(scales, of_phase[i], masks)[0]
            slopes, r_squared = _fits(scales, curves[i], masks)
            found[3, i, j] = slopes.mean(axis=0)
            found[4, i, j] = crossing(times, slopes.T)
            found[5, i, j] = r_squared.min(axis=0)
    return found


def shares(holds: xr.DataArray) -> dict[str, dict[str, float]]:
    """Return the share of specifications in which a statement holds, by choice and its level."""
    return {
        str(choice): {
            str(level): float(holds.sel({choice: level}).mean()) for level in holds[choice].values
        }
        for choice in holds.dims
    }


def importance(values: xr.DataArray) -> dict[str, float]:
    """Return the share of the variance over specifications that each choice accounts for alone.

    This is the correlation ratio eta² of a main effect: the sum of squares between a choice's levels,
    each weighted by how many specifications have a value, over that of all. In a full table, what is
    missing from 1 in the sum belongs to interactions.

    Raises
    ------
    InputError
        Where no specification has a value.
    """
    require(bool(values.notnull().any()), "no specification has a value")
    known = values.values[np.isfinite(values.values)]
    # Off the first, so that equal values differ by exactly nothing.
    values = values - known[0]
    centred = values - values.mean()
    total = float((centred**2).sum())
    shares = {}
    for choice in values.dims:
        others = [d for d in values.dims if d != choice]
        between = float((centred.count(others) * centred.mean(others) ** 2).sum())
        shares[str(choice)] = between / total if total > 0 else 0.0
    return shares


def varied(table: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return by name the results of which it is asked what they depend on."""
    return {
        "D before": table["pre"],
        "D after": table["post"],
        "rise": table["post"] - table["pre"],
        "arrangement before": table["pre"] - table["null_pre"],
        "arrangement after": table["post"] - table["null_post"],
        "arrangement of the rise": (table["post"] - table["null_post"])
        - (table["pre"] - table["null_pre"]),
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
            "D before < 1": pre < 1,
            "D after > 1": post > 1,
            "D before < 1 < D after": (pre < 1) & (post > 1),
            "D after > D before": post > pre,
            "D(t) crosses 1 upwards": crossed.notnull(),
            "D(t) crosses 1 while runs grok": (first <= crossed) & (crossed <= last),
            "D before > its permuted null": above_pre > 0,
            "D after > its permuted null": above_post > 0,
            "rise > that of its permuted null": above_post > above_pre,
        }
    )


def choices(table: xr.Dataset) -> list[str]:
    """Return the choices of which there is more than one level."""
    return [str(name) for name, levels in table["pre"].sizes.items() if levels > 1]


def importances(table: xr.Dataset) -> dict[str, dict[str, float]]:
    """Return the importance of every choice for every result; NaN where none has a value."""
    found = {}
    for name, values in varied(table).items():
        shares = importance(values) if values.notnull().any() else {}
        found[name] = {choice: shares.get(choice, np.nan) for choice in choices(table)}
    return found


def _pooled(sizes: Floats, phase: NDArray[np.bool_], starts: NDArray[np.intp]) -> list[Floats]:
    """Return each statistic over the runs and chosen snapshots of every scale; NaN without one."""
    largest = np.maximum.reduceat(np.where(phase, sizes, -np.inf).max(axis=1), starts)
    total = np.add.reduceat(np.where(phase, sizes, 0.0).sum(axis=1), starts)
    count = np.add.reduceat(phase.sum(axis=1), starts)
    ends = [*starts[1:].tolist(), len(sizes)]
    high = [
        np.quantile(sizes[a:b][phase[a:b]], 0.95) if phase[a:b].any() else np.nan
        for a, b in zip(starts.tolist(), ends, strict=True)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
    return [np.where(count > 0, largest, np.nan), mean, np.array(high)]


def _at_each_snapshot(sizes: Floats, starts: NDArray[np.intp]) -> list[Floats]:
    """Return each statistic over the runs of every scale, shape (snapshots, scales)."""
    runs = np.diff(starts, append=len(sizes))
    largest = np.maximum.reduceat(sizes, starts, axis=0)
    mean = np.add.reduceat(sizes, starts, axis=0) / runs[:, None]
    ends = starts + runs
    high = [np.quantile(sizes[a:b], 0.95, axis=0) for a, b in zip(starts, ends, strict=True)]
    return [largest.T, mean.T, np.array(high).T]


def _fits(scales: NDArray[np.int64], sizes: Floats, masks: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return slope and R² of sizes (..., scales) for every choice of scales: (..., choices) each."""
    x = np.log(scales)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(np.where(sizes > 0, sizes, np.nan))
    centred = np.where(masks, x - (masks @ x / masks.sum(axis=1))[:, None], 0.0)
    spread = (centred**2).sum(axis=1)
    # A missing size spoils the choices that hold its scale, and no other.
    known = np.where(np.isnan(y), 0.0, y)
    spoilt = np.isnan(y).astype(np.float64) @ masks.T.astype(np.float64) > 0
    # Off the first of each choice before off its mean, so that constant sizes become exact zeros.
    inside = known[..., None, :] - known[..., masks.argmax(axis=1)][..., None]
    slope = (inside * centred).sum(axis=-1) / spread
    mean = np.where(masks, inside, 0.0).sum(axis=-1, keepdims=True) / masks.sum(axis=1)[:, None]
    total = (np.where(masks, inside - mean, 0.0) ** 2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r_squared = slope**2 * spread / total
    return np.where(spoilt, np.nan, slope), np.where(spoilt, np.nan, r_squared)
