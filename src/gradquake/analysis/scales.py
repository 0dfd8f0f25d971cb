"""The scales of a sweep: its runs by their number of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FEWEST_SCALES", "Scale", "chosen_snapshots", "same_runs", "scale_groups"]

# A line through fewer points fits anything.
FEWEST_SCALES = 3


class Scale(NamedTuple):
    """The runs of one number of parameters N, by their positions in the sweep."""

    n_parameters: int
    runs: NDArray[np.intp]


def scale_groups(dataset: xr.Dataset) -> list[Scale]:
    """Return the scales of a sweep, ascending in N."""
    n_parameters = dataset["n_parameters"].values
    return [Scale(int(n), np.flatnonzero(n_parameters == n)) for n in np.unique(n_parameters)]


def same_runs(first: xr.Dataset, second: xr.Dataset) -> bool:
    """Return whether two sweeps have the same sizes, seeds and epochs, in the same order."""
    return all(
        np.array_equal(first[name].values, second[name].values)
        for name in ("n_parameters", "seed", "epoch")
    )


def chosen_snapshots(dataset: xr.Dataset, where: xr.DataArray | None) -> NDArray[np.bool_]:
    """Return the measured snapshots among those chosen (all if ``where`` is None), (runs, epochs)."""
    measured: NDArray[np.bool_] = np.isfinite(dataset["size"].values)
    return measured if where is None else measured & where.transpose("run", "epoch").values
