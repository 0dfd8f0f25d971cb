"""The sweeps that the claims on XOR networks are judged on, each beside its nulls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradquake.paper.xor.gini import GiniStudy

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ClaimSweeps", "Sweep"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep, and its nulls measured on the same runs.

    Attributes
    ----------
    real : xarray.Dataset
    nulls : mapping
        By rung, "gaussian" and "permuted".
    independent : mapping
        Of runs trained in-line the readings "real" and "permuted" on an independent graph; empty for
        others. The graph of the training has left its imprint on their gradients.
    """

    real: xr.Dataset
    nulls: Mapping[str, xr.Dataset]
    independent: Mapping[str, xr.Dataset] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClaimSweeps:
    """Everything that the claims are judged on.

    Attributes
    ----------
    inline, shadow : Sweep
    thresholds : mapping of float to Sweep
        In-line, by the quantile of the threshold, ascending; the paper's own among them.
    topologies : mapping of str to xarray.Dataset
        The Gaussian baseline on each topology.
    alphas : mapping of float to xarray.Dataset
        The Gaussian baseline for each alpha.
    gini : GiniStudy
        Many seeds of one size.
    """

    inline: Sweep
    shadow: Sweep
    thresholds: Mapping[float, Sweep]
    topologies: Mapping[str, xr.Dataset]
    alphas: Mapping[float, xr.Dataset]
    gini: GiniStudy
