"""Where in a network it topples: the shares of its tensors, before and after grokking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.resampling import Estimate, estimated, run_resamples
from gradquake.analysis.transitions import PHASES, Phase, phase
from gradquake.errors import InputError
from gradquake.study.recording import RunRecord

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["COUNTED", "TensorShares", "latest_shares", "tensor_shares"]

Floats = NDArray[np.float64]

# By name, the recorded variable whose sum over a phase is shared among the tensors.
COUNTED = {"above": "tensor_above", "topplings": "tensor_topplings", "area": "tensor_area"}


@dataclass(frozen=True, eq=False)
class TensorShares:
    """The tensors of the runs of one size.

    Attributes
    ----------
    n_parameters : int
        N.
    runs : int
        The number of runs.
    names : tuple of str
        The tensors, or the layers of a large model.
    entries : array, shape (tensors,)
        The share of each of the N entries.
    epochs : array of int64, shape (snapshots,)
    per_entry : array, shape (tensors, snapshots)
        Topplings per entry, the mean over the runs; NaN if no run was measured.
    grokking_epochs : array, shape (runs,)
        t_g of each run; NaN if there is none.
    shares : mapping
        By phase and by a name in ``COUNTED``, the share of each tensor: of a run, the sum over its
        snapshots of the phase over that of all tensors, and then the mean over the runs that have any.
        Empty if no run has.
    """

    n_parameters: int
    runs: int
    names: tuple[str, ...]
    entries: Floats
    epochs: NDArray[np.int64]
    per_entry: Floats
    grokking_epochs: Floats
    shares: Mapping[Phase, Mapping[str, tuple[Estimate, ...]]]


def tensor_shares(sweep: xr.Dataset) -> TensorShares:
    """Return where the runs of the largest size topple, of those whose tensors are recorded.

    Raises
    ------
    InputError
        If no run has its topplings by tensor.
    """
    if "tensor_topplings" not in sweep:
        raise InputError("no run has topplings by tensor; record them with tensors=True or --tensors")
    missing: NDArray[np.bool_] = np.isnan(sweep["tensor_topplings"].values).all(axis=(1, 2))
    recorded = ~missing
    sizes = sweep["n_parameters"].values
    largest = int(sizes[recorded].max())
    own = sweep.isel(run=np.flatnonzero(recorded & (sizes == largest)))
    named = ~np.isnan(own["tensor_entries"].values).all(axis=0)
    own = own.isel(tensor=np.flatnonzero(named))
    entries = own["tensor_entries"].mean("run").values.astype(np.float64)
    topplings = own["tensor_topplings"].values.astype(np.float64)
    # Runs may have been measured at different steps, and have different tensors.
    known = np.isfinite(topplings)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, topplings, 0.0).sum(axis=0) / known.sum(axis=0)
    return TensorShares(
        n_parameters=largest,
        runs=own.sizes["run"],
        names=tuple(map(str, own["tensor"].values)),
        entries=entries / entries.sum(),
        epochs=own["epoch"].values,
        per_entry=(mean / entries).T,
        grokking_epochs=own["grokking_epoch"].values.astype(np.float64),
        shares={which: _shares(own, which) for which in PHASES},
    )


def _shares(sweep: xr.Dataset, which: Phase) -> dict[str, tuple[Estimate, ...]]:
    """Return the shares in a phase of each tensor; empty if no run topples in it."""
    inside = phase(sweep, which).values
    found = {}
    for name, variable in COUNTED.items():
        values = np.nan_to_num(sweep[variable].values.astype(np.float64))
        of_runs = (values * inside[:, :, None]).sum(axis=1)
        totals = of_runs.sum(axis=1)
        rows = of_runs[totals > 0] / totals[totals > 0, None]
        if not rows.size:
            return {}
        resampled = rows[run_resamples([len(rows)])[0]].mean(axis=1)
        pairs = zip(rows.mean(axis=0).tolist(), resampled.T, strict=True)
        found[name] = tuple(estimated(value, draws, len(rows)) for value, draws in pairs)
    return found


def latest_shares(run: RunRecord, most: int) -> dict[str, float]:
    """Return by tensor the largest shares of the topplings of a run's last snapshot, descending.

    Empty if topplings were not recorded by tensor, or nothing toppled.
    """
    topplings = run.values.get("tensor_topplings", np.zeros((0, 0)))[-1:].sum(axis=0)
    total = int(topplings.sum())
    if total == 0:
        return {}
    names = list(run.tensors)
    largest = np.argsort(-topplings, kind="stable")[:most].tolist()
    return {names[k]: float(topplings[k] / total) for k in largest}
