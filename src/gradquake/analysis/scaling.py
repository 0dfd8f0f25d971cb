"""Finite-size scaling: exponents of avalanche sizes against the number of parameters.

The ansatz is P(s; N) = s^(-tau_s) F(s / N^D): the largest avalanche grows as N^D, the mean as
N^gamma. Every exponent is the slope of an ordinary least-squares line through log size against log N,
all scales weighted equally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.analysis import _kernels
from gradquake.analysis.resampling import (
    FEWEST_RUNS,
    N_RESAMPLES,
    Estimate,
    Interval,
    kept,
    over_resamples,
    percentile_interval,
    snapshot_maxima,
    snapshot_means,
    tail_share,
    tails,
    times_drawn,
)
from gradquake.errors import InputError, require, require_count

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]
Statistic = Literal["max", "mean"]
STATISTICS: tuple[Statistic, ...] = ("max", "mean")

FEWEST_SCALES = 3

# A fit with fewer scales, a lower R² or a larger share of truncated avalanches carries a caution.
FEW_SCALES = 5
POOR_R_SQUARED = 0.95
MOST_TRUNCATED = 0.05

# So few runs of a scale can be drawn in fewer ways than there are resamples.
FEW_RUNS = 6

# So many resampled numbers are held at a time.
MOST_HELD = 1 << 25


@dataclass(frozen=True)
class Fit:
    """A power law fitted to sizes against N.

    Attributes
    ----------
    exponent : float
        The slope in log-log; NaN where there is no fit.
    stderr : float
        Its standard error from the residuals.
    r_squared : float
        The share of the variance of log size that the line explains; NaN for constant sizes.
    intercept : float
        log size at N = 1.
    n_scales : int
        The number of points.
    message : str
        Empty for a good fit; otherwise why there is none.
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
        # scipy.stats would cost a second of import for one quantile.
        from scipy.special import stdtrit

        return float(stdtrit(self.n_scales - 2, 0.975)) * self.stderr


@dataclass(frozen=True, eq=False, kw_only=True)
class Exponent(Estimate):
    """An exponent over all chosen snapshots of a sweep, with its bootstrap.

    Attributes
    ----------
    value, low, high, invalid : float
        The exponent and its 95 % interval over runs (see ``Estimate``).
    statistic : str
        "max" (the exponent is D) or "mean" (gamma).
    fit : Fit
        The fit to the measured sizes.
    n_parameters, sizes : array, shape (scales,)
        The points of the fit.
    size_low, size_high : array, shape (scales,)
        95 % percentile bootstrap of each size.
    runs_of_scale : array of int, shape (scales,)
        The number of runs at each scale.
    cautions : tuple of str
        Why the fit is not to be trusted, a sentence each; empty where nothing speaks against it.
    kept_size_resamples : array, shape (B, scales), or None
        The resampled sizes; None after ``slim``.
    """

    statistic: Statistic
    fit: Fit
    n_parameters: NDArray[np.int64]
    sizes: Floats
    size_low: Floats
    size_high: Floats
    runs_of_scale: NDArray[np.int64]
    cautions: tuple[str, ...]
    kept_size_resamples: Floats | None = field(default=None, repr=False)

    @property
    def size_resamples(self) -> Floats:
        """The sizes of every resample; InputError after ``slim``."""
        return kept(self.kept_size_resamples)

    def slim(self) -> Self:
        """Return it without its resamples, to keep or to send."""
        return replace(self, kept_resamples=None, kept_size_resamples=None)


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The exponent with each scale left out in turn; arrays of shape (scales,)."""

    left_out: NDArray[np.int64]
    value: Floats
    low: Floats
    high: Floats


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
        With NaN and a message where there are fewer than three scales, N does not vary, or a size is
        missing or not positive.

    Raises
    ------
    InputError
        Where the two are not vectors of one length, or an N is not positive.
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
    problem = ""
    bad = n[~(np.isfinite(s) & (s > 0))]
    if n.size < FEWEST_SCALES:
        problem = f"{n.size} scales are too few for a fit; {FEWEST_SCALES} are needed"
    elif np.unique(n).size < 2:
        problem = "all scales have the same N"
    elif bad.size:
        problem = f"no positive size at N = {', '.join(f'{x:g}' for x in bad)}"
    if problem:
        return Fit(np.nan, np.nan, np.nan, np.nan, n.size, problem)
    slope, stderr, r_squared, intercept = (float(of[0]) for of in _fits(n, s[None]))
    return Fit(slope, stderr, r_squared, intercept, n.size)


def _fits(n: NDArray[Any], sizes: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return slopes, their standard errors, R² and intercepts of sizes (fits, scales)."""
    slopes, r_squared = _slopes(n, sizes)
    x, y = np.log(n), _logarithms(sizes)
    intercepts = y.mean(axis=-1) - slopes * x.mean()
    residual = y - intercepts[:, None] - slopes[:, None] * x
    variance = (residual**2).sum(axis=-1) / (n.size - 2)
    return slopes, np.sqrt(variance / ((x - x.mean()) ** 2).sum()), r_squared, intercepts


def exponent(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    where: xr.DataArray | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Exponent:
    """Return the exponent of a statistic pooled over the seeds and snapshots of each scale.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``).
    statistic : {"max", "mean"}
        The largest size gives D, the mean size gamma.
    where : DataArray of bool, dims (run, epoch), optional
        The snapshots to use, for example ``transitions.phase(dataset, "pre")``.
    n_resamples, seed : int
        The bootstrap's.

    Returns
    -------
    Exponent
        Where a scale has no snapshot in ``where``, or there are fewer than three scales, its fit
        says so and has no value.

    Raises
    ------
    InputError
        For another statistic.
    """
    check_statistic(statistic)
    groups = scale_groups(dataset)
    chosen = chosen_snapshots(dataset, where)
    sizes = [np.where(chosen[runs], dataset["size"].values[runs], np.nan) for _, runs in groups]
    n = np.array([n for n, _ in groups])
    sums = [_run_sums(s) for s in sizes]
    observed = np.array([_pool(statistic, *parts) for parts in sums])
    runs_of_scale = np.array([len(s) for s in sizes])
    resampled = np.column_stack(
        over_resamples(
            runs_of_scale.tolist(),
            lambda scale, draws: _pool(statistic, *(part[draws] for part in sums[scale])),
            n_resamples,
            seed,
        )
    )
    fit = fit_exponent(n, observed)
    empty = [str(scale) for scale, s in zip(n, sizes, strict=True) if not np.isfinite(s).any()]
    if empty:
        fit = replace(fit, message=f"no snapshot at N = {', '.join(empty)}")
    slopes = np.full(len(resampled), np.nan) if fit.message else _slopes(n, resampled)[0]
    runs = int(runs_of_scale.min())
    low, high = _intervals(resampled, runs_of_scale)
    return Exponent(
        **vars(percentile_interval(slopes, runs)),
        value=fit.exponent,
        runs=runs,
        kept_resamples=slopes,
        statistic=statistic,
        fit=fit,
        n_parameters=n,
        sizes=observed,
        size_low=low,
        size_high=high,
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
    resample = snapshot_maxima if statistic == "max" else snapshot_means
    n, pooled = [], []
    for scale, runs in scale_groups(dataset):
        values = dataset["size"].values[runs][chosen[runs]]
        n.append(scale)
        pooled.append(
            resample(values, n_resamples, rng) if values.size else np.full(n_resamples, np.nan)
        )
    if len(n) < FEWEST_SCALES:
        return Interval(np.nan, np.nan, 1.0)
    return percentile_interval(_slopes(np.array(n), np.column_stack(pooled))[0])


def leave_one_out(whole: Exponent) -> LeaveOneOut:
    """Return an exponent again without each of its scales, with its bootstrap over runs."""
    estimates, intervals = [], []
    for left_out in range(whole.n_parameters.size):
        n = np.delete(whole.n_parameters, left_out)
        fit = fit_exponent(n, np.delete(whole.sizes, left_out))
        estimates.append(fit.exponent)
        resampled = np.delete(whole.size_resamples, left_out, axis=1)
        slopes = np.full(len(resampled), np.nan) if fit.message else _slopes(n, resampled)[0]
        runs = int(np.delete(whole.runs_of_scale, left_out).min())
        intervals.append(percentile_interval(slopes, runs))
    return LeaveOneOut(
        whole.n_parameters,
        np.array(estimates),
        np.array([interval.low for interval in intervals]),
        np.array([interval.high for interval in intervals]),
    )


class Block(NamedTuple):
    """D(t) at some epochs, a slice of all, in every resample of runs; arrays of shape (B, epochs)."""

    epochs: slice
    exponents: Floats
    r_squared: Floats


def resampled_dimension(
    dataset: xr.Dataset,
    statistic: Statistic = "max",
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Iterator[Block]:
    """Yield D(t) in every resample of runs, some epochs at a time, in order.

    A block has as many epochs as fit into some 300 MB, so that memory does not grow with their number.
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
        over_runs = [_log_over_runs(statistic, of_scale[:, part]) for of_scale in sizes]
        logs = over_resamples(runs, partial(_at_scale, over_runs), n_resamples, seed)
        yield Block(part, *_line_fits(n, np.stack(logs)))


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
    statistic : {"max", "mean"}
        Of the sizes of a scale's runs at one snapshot; the paper's is "max".
    n_resamples, seed : int
        The bootstrap's (over runs).
    each_block : callable
        Called with each block of ``resampled_dimension``, from which the intervals are computed.

    Returns
    -------
    xarray.Dataset
        ``value``, ``stderr``, ``r_squared``, ``low`` and ``high`` (95 % percentile
        bootstrap of the exponent), ``r_squared_low`` and ``r_squared_high`` on ``epoch``, and
        ``runs``, the fewest runs of a scale that were measured at an epoch. Where a scale has no
        positive size at an epoch, that epoch is NaN. A size may be NaN where a run was not measured
        (in aligned time, before its start or after its end); the run is then left out there.

    Raises
    ------
    InputError
        For another statistic, or fewer than three scales.
    """
    import xarray as xr

    n, sizes = _by_scale(dataset, statistic)
    present = [np.isfinite(of_scale).T for of_scale in sizes]
    fewest = np.min([there.sum(axis=-1) for there in present], axis=0)
    observed = np.stack(
        [
            _pool(statistic, *_if_there(of_scale.T, there), there.astype(np.float64))
            for of_scale, there in zip(sizes, present, strict=True)
        ],
        axis=-1,
    )
    exponents, stderr, r_squared, _ = _fits(n, observed)
    # Of the exponent and of R², the lower and the upper ends.
    ends = np.empty((2, 2, fewest.size))
    for block in resampled_dimension(dataset, statistic, n_resamples=n_resamples, seed=seed):
        each_block(block)
        for of_what, resampled in enumerate((block.exponents, block.r_squared)):
            ends[of_what, :, block.epochs] = _intervals(resampled, fewest[block.epochs])
    (low, high), (r_squared_low, r_squared_high) = ends
    return xr.Dataset(
        {
            "value": ("epoch", exponents),
            "stderr": ("epoch", stderr),
            "r_squared": ("epoch", r_squared),
            "low": ("epoch", low),
            "high": ("epoch", high),
            "r_squared_low": ("epoch", r_squared_low),
            "r_squared_high": ("epoch", r_squared_high),
            "runs": ("epoch", fewest),
        },
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


def scale_groups(dataset: xr.Dataset) -> list[tuple[int, NDArray[np.intp]]]:
    """Return each N of a sweep, ascending, with the positions of its runs."""
    n_parameters = dataset["n_parameters"].values
    return [(int(n), np.flatnonzero(n_parameters == n)) for n in np.unique(n_parameters)]


def same_runs(first: xr.Dataset, second: xr.Dataset) -> bool:
    """Return whether two sweeps have the same sizes, seeds and epochs, in one order."""
    return all(
        np.array_equal(first[name].values, second[name].values)
        for name in ("n_parameters", "seed", "epoch")
    )


def check_statistic(statistic: str) -> None:
    """Raise InputError unless ``statistic`` is one that exponents are defined for."""
    if statistic not in STATISTICS:
        raise InputError(f"statistic is {statistic!r}; one of {', '.join(STATISTICS)} is needed")


def coefficient_of_variation(values: Floats) -> Floats:
    """Return the sample standard deviation over the mean, along the last axis."""
    spread: Floats = values.std(axis=-1, ddof=1) / values.mean(axis=-1)
    return spread


def slopes(n_parameters: ArrayLike, sizes: Sequence[Floats] | Floats) -> Floats:
    """Return the exponents of many fits at once: sizes of shape (..., scales) give shape (...)."""
    return _slopes(np.asarray(n_parameters, np.float64), np.asarray(sizes, np.float64))[0]


def r_squared(n_parameters: ArrayLike, sizes: Floats) -> Floats:
    """Return the R² of many fits at once: sizes of shape (..., scales) give shape (...)."""
    return _slopes(np.asarray(n_parameters, np.float64), np.asarray(sizes, np.float64))[1]


def _at_scale(
    over_runs: Sequence[Callable[[NDArray[np.intp]], Floats]], scale: int, draws: NDArray[np.intp]
) -> Floats:
    """Return the log of the statistic of draws (B, n), computed once for those that are the same."""
    runs = draws.shape[1]
    if runs > FEW_RUNS:
        return over_runs[scale](draws)
    number = times_drawn(draws, runs) @ (runs + 1.0) ** np.arange(runs)
    _, first, which = np.unique(number, return_index=True, return_inverse=True)
    return over_runs[scale](draws[first])[which]


def _log_over_runs(statistic: Statistic, sizes: Floats) -> Callable[[NDArray[np.intp]], Floats]:
    """Return what makes of draws of runs (B, n) the log of the statistic over them (B, epochs).

    ``sizes`` has shape (runs, epochs).
    """
    if statistic == "max":
        order, logs = np.argsort(-sizes, axis=0, kind="stable"), _logarithms(sizes)

        def largest(draws: NDArray[np.intp]) -> Floats:
            result = np.empty((len(draws), sizes.shape[1]))
            _kernels.resampled_max(logs, order, draws, result)
            return result

        return largest

    known = np.isfinite(sizes)
    summands = np.where(known, sizes, 0.0)

    def mean(draws: NDArray[np.intp]) -> Floats:
        taken = times_drawn(draws, len(sizes))
        # Sizes are whole numbers, whose sums are exact in any order.
        counted = draws.shape[1] if known.all() else taken @ known.astype(np.float64)
        with np.errstate(invalid="ignore"):
            return _logarithms(taken @ summands / counted)

    return mean


def chosen_snapshots(dataset: xr.Dataset, where: xr.DataArray | None) -> NDArray[np.bool_]:
    """Return a choice of snapshots as an array (runs, epochs), of those that were measured."""
    measured: NDArray[np.bool_] = np.isfinite(dataset["size"].values)
    return measured if where is None else measured & where.transpose("run", "epoch").values


def _slopes(n: NDArray[Any], sizes: Floats) -> tuple[Floats, Floats]:
    """Return slope and R² along the last axis; NaN where a size is missing or not positive."""
    return _line_fits(n, _logarithms(np.moveaxis(sizes, -1, 0)))


def _logarithms(sizes: Floats) -> Floats:
    logs: Floats = np.log(np.where(sizes > 0, sizes, np.nan))
    return logs


def _line_fits(n: NDArray[Any], logs: Floats) -> tuple[Floats, Floats]:
    """Return slope and R² of log sizes (scales, ...) against log N; NaN where one is missing."""
    x = np.log(n) - np.log(n).mean()
    found = np.empty((2, logs[0].size))
    _kernels.line_fits(x, np.ascontiguousarray(logs).reshape(len(logs), -1), *found)
    slopes, r_squared = found.reshape(2, *logs.shape[1:])
    return slopes, r_squared


def _cautions(fit: Fit, dataset: xr.Dataset, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    if fit.message:
        return ()
    found = []
    if fit.n_scales < FEW_SCALES:
        found.append(f"only {fit.n_scales} scales; {FEW_SCALES} or more fix a slope")
    if np.isnan(fit.r_squared):
        found.append("the sizes do not change with N, so R² is not defined")
    elif fit.r_squared < POOR_R_SQUARED:
        found.append(f"R² = {fit.r_squared:.3f}, under {POOR_R_SQUARED}: hardly a power law")
    lacking = float(np.isnan(dataset["size"].values).mean())
    if lacking > 0:
        found.append(f"{lacking:.0%} of the snapshots are missing: runs are of unequal length")
    if "truncated" in dataset:
        cut = float(dataset["truncated"].values[chosen].mean())
        if cut > MOST_TRUNCATED:
            found.append(f"{cut:.0%} of the avalanches are truncated, more than {MOST_TRUNCATED:.0%}")
    return tuple(found)


def _intervals(samples: Floats, runs: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the ends of the intervals of columns (B, k), resampled from (k,) runs: (k,) twice."""
    found = np.full((2, runs.size), np.nan)
    complete = np.isfinite(samples).all(axis=0) & (len(samples) > 0)
    for n in np.unique(runs[runs >= FEWEST_RUNS]).tolist():
        at_once = complete & (runs == n)
        found[:, at_once] = tails(samples.T[at_once], tail_share(n))
        for k in np.flatnonzero(~complete & (runs == n)).tolist():
            interval = percentile_interval(samples[:, k], n)
            found[:, k] = interval.low, interval.high
    return found[0], found[1]


def _run_sums(sizes: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the maximum, sum and number of each run's chosen (not NaN) snapshots."""
    chosen = np.isfinite(sizes)
    largest, summands = _if_there(sizes, chosen)
    return (
        largest.max(axis=-1, initial=-np.inf),
        summands.sum(axis=-1),
        chosen.sum(axis=-1).astype(float),
    )


def _if_there(sizes: Floats, there: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return sizes with what is missing in place of those that are not there, for max and for sum."""
    return np.where(there, sizes, -np.inf), np.where(there, sizes, 0.0)


def _pool(statistic: Statistic, largest: Floats, total: Floats, count: Floats) -> Floats:
    """Return the statistic over runs, the last axis; NaN where none has a chosen snapshot."""
    snapshots = count.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        value = largest.max(axis=-1) if statistic == "max" else total.sum(axis=-1) / snapshots
    return np.where(snapshots > 0, value, np.nan)
