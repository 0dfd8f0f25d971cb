"""The specification curve of sweeps: their gradients measured again under every choice of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis import specifications
from gradquake.analysis.scales import same_runs
from gradquake.avalanche.surrogates import REAL
from gradquake.errors import require
from gradquake.experiments import readings
from gradquake.scrutiny import replay
from gradquake.scrutiny.measure import in_order
from gradquake.scrutiny.topologies import topologies_of
from gradquake.study.execution import each

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FIRST", "SPECIFIED_ALPHAS", "SPECIFIED_QUANTILES", "SPECIFIED_STEPS", "specify"]

SPECIFIED_QUANTILES = (0.80, 0.85, 0.90, 0.95)
SPECIFIED_ALPHAS = (0.1, 0.3, 0.5)
SPECIFIED_STEPS = (20, 200)

# The training of the first sweep.
FIRST = "as the first"


def specify(sweeps: Sequence[xr.Dataset], executor: Executor | None = None) -> xr.Dataset:
    """Measure the specification curve of sweeps that differ in how they were trained.

    Under every topology, threshold quantile, alpha, limit of steps, statistic, snapshot interval (once
    and twice the sweep's) and choice of scales (all, and without each), the data and their permuted
    null.

    Parameters
    ----------
    sweeps : sequence of xarray.Dataset
        XOR sweeps of the same sizes that differ in ``alpha_train``, or in other settings of the
        training: each such training with each ``alpha_train``, once.
    executor : concurrent.futures.Executor, optional

    Returns
    -------
    xarray.Dataset
        One dimension for each choice; ``training`` names the settings in which a sweep differs from the
        first. ``pre``, ``post``, ``all``, ``average``, ``crossing`` and
        ``worst_r_squared`` as in ``specifications.results``, and the same of the permuted null:
        ``null_pre`` and so on.

    Raises
    ------
    InputError
        For fewer than four scales, sweeps of different sizes, seeds or snapshots, a training that is
        missing with an ``alpha_train`` or repeats, or a sweep whose gradients cannot be made again.
    """
    sweeps = [in_order(sweep) for sweep in sweeps]
    alphas, trainings = _trainings(sweeps)
    scales = np.unique(sweeps[0]["n_parameters"].values)
    chosen = list(specifications.scale_choices(scales))
    every = sweeps[0].attrs["every"]
    intervals = [every, 2 * every]
    names = topologies_of(scales)
    coordinates: dict[str, Sequence[object]] = {
        "alpha_train": alphas,
        "training": trainings,
        "topology": names,
        "quantile": list(SPECIFIED_QUANTILES),
        "alpha": list(SPECIFIED_ALPHAS),
        "max_steps": list(SPECIFIED_STEPS),
        "statistic": list(specifications.STATISTICS),
        "interval": intervals,
        "scales": chosen,
    }
    todo = [(sweep, names, intervals) for sweep in sweeps]
    return _table(sweeps, coordinates, list(each(_specify, todo, executor)))


def _trainings(sweeps: Sequence[xr.Dataset]) -> tuple[list[float], list[str]]:
    """Return the levels of alpha_train and of the training, in whose order the sweeps must stand."""
    # A sweep without training has no alpha_train.
    alphas = [float(sweep.attrs.get("alpha_train", np.nan)) for sweep in sweeps]
    names = [_training(sweep, sweeps[0]) for sweep in sweeps]
    levels = list(dict.fromkeys(alphas)), list(dict.fromkeys(names))
    require(
        list(zip(alphas, names, strict=True)) == list(product(*levels))
        and all(same_runs(sweep, sweeps[0]) for sweep in sweeps),
        "the sweeps have different sizes, seeds or snapshots, or are not every training with every "
        "alpha_train once; sweeps that differ in their training alone are needed, in the order of "
        "alpha_train",
    )
    return levels


def _training(sweep: xr.Dataset, first: xr.Dataset) -> str:
    """Return the settings in which a sweep differs from the first, but for its alpha_train."""
    others = sweep.attrs.items() - {("alpha_train", sweep.attrs.get("alpha_train"))}
    return ", ".join(
        f"{name}={value}"
        for name, value in sorted(others)
        if name != "topology_train" and first.attrs.get(name) != value
    ) or FIRST  # fmt: skip


def _table(
    sweeps: Sequence[xr.Dataset],
    coordinates: Mapping[str, Sequence[object]],
    blocks: Sequence[NDArray[np.float64]],
) -> xr.Dataset:
    """Return the table of the results that ``_specify`` gives for each sweep."""
    import xarray as xr

    shape = [len(coordinates[name]) for name in ("alpha_train", "training")]
    stacked = np.stack(blocks).reshape(*shape, *blocks[0].shape)
    # (alpha_train, training, topology, result, quantile, ...) to (result, alpha_train, training, ...)
    of_result = np.moveaxis(stacked, 3, 0)
    names_of = [f"{rung}{name}" for rung in ("", "null_") for name in specifications.RESULTS]
    reached = [sweep["grokking_epoch"].values for sweep in sweeps]
    reached = [r if np.isfinite(r).any() else np.full(1, np.inf) for r in reached]
    found = xr.Dataset(
        {name: (list(coordinates), values) for name, values in zip(names_of, of_result, strict=True)},
        coordinates,
    )
    return found.assign(
        {
            f"{name}_grokking_epoch": (
                ("alpha_train", "training"),
                np.array([of(r) for r in reached]).reshape(shape),
            )
            for name, of in (("first", np.nanmin), ("last", np.nanmax))
        }
    )


def _specify(item: tuple[xr.Dataset, Sequence[str], Sequence[int]]) -> NDArray[np.float64]:
    """Return (topologies, results, quantiles, alphas, step limits, statistics, intervals, scales)."""
    sweep, topologies, intervals = item
    strides = tuple(interval // intervals[0] for interval in intervals)
    runs = replay.runs_of(sweep)
    records = replay.gradients(runs)
    n = np.array([run.n_parameters for run in runs])
    reached = sweep["grokking_epoch"].values

    def results(topology: str, rung: str) -> NDArray[np.float64]:
        sizes = readings.sizes(
            records,
            topology,
            quantiles=SPECIFIED_QUANTILES,
            alphas=SPECIFIED_ALPHAS,
            step_limits=SPECIFIED_STEPS,
            surrogate_rung=rung,
        )
        of_settings = [
            specifications.results(n, of_setting, records[0].epochs, reached, strides)
            for of_setting in sizes.reshape(-1, *sizes.shape[3:])
        ]
        stacked = np.stack(of_settings, axis=1)
        return stacked.reshape(stacked.shape[0], *sizes.shape[:3], *stacked.shape[2:])

    return np.stack(
        [
            np.concatenate([results(topology, rung) for rung in (REAL, "permuted")])
            for topology in topologies
        ]
    )
