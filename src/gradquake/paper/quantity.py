"""The measured numbers that claims are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gradquake.analysis.resampling import Estimate

__all__ = ["Number", "Parts", "Quantity"]


@dataclass(frozen=True)
class Number:
    """A number and its 95 % interval; NaN for each part that is not defined."""

    value: float
    low: float = np.nan
    high: float = np.nan

    @classmethod
    def of(cls, estimate: Estimate) -> Number:
        """Return the value and the interval of an estimate."""
        return cls(estimate.value, estimate.low, estimate.high)


@dataclass(frozen=True)
class Parts:
    """The parts of the distance between an exponent and its Gaussian null.

    Those of runs trained in-line are of an independent graph, and so is the Gaussian null of their sum.

    Attributes
    ----------
    distribution : Number
        D_permuted - D_gaussian: due to the distribution of the gradient's entries.
    arrangement : Number
        D_real - D_permuted: due to the arrangement of the entries on the graph.
    imprint : Number or None
        D_real on the training's graph minus that on an independent one, of runs trained in-line.
    """

    distribution: Number
    arrangement: Number
    imprint: Number | None = None


@dataclass(frozen=True)
class Quantity:
    """One measured number of a claim.

    Attributes
    ----------
    name : str
        Unique within its claim; tests refer to it.
    value : float
        NaN if it is not defined.
    low, high : float
        Its 95 % interval; NaN if there is none.
    paper : float or None
        The paper's value or bound; None if the paper gives none.
    null : Number or None
        The same statistic on the matched Gaussian null; None if it does not apply.
    attribution : Parts or None
        None for a quantity that is no exponent of a trained sweep.
    snapshot_low, snapshot_high : float or None
        The interval from a bootstrap over single snapshots, which is too narrow; None if it was not
        taken.
    decimals : int or None
        The number of decimals that are stable; None if all shown ones are.
    """

    name: str
    value: float
    low: float = np.nan
    high: float = np.nan
    paper: float | None = None
    null: Number | None = None
    attribution: Parts | None = None
    snapshot_low: float | None = None
    snapshot_high: float | None = None
    decimals: int | None = None

    @classmethod
    def of(cls, name: str, estimate: Estimate | Number, paper: float | None = None, **more: Any) -> Self:
        """Return the quantity of this name with the value and the interval of an estimate."""
        return cls(name, estimate.value, estimate.low, estimate.high, paper, **more)

    @property
    def equal_in_all_resamples(self) -> bool:
        """Whether all resamples of the runs have one value, so that the interval has no width."""
        return self.low == self.high

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values; null for each number that is not defined."""
        values = {name: _plain(value) for name, value in vars(self).items()}
        return {**values, "equal_in_all_resamples": self.equal_in_all_resamples}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the quantity that ``to_json`` gave these values."""
        fields = {**_defined(values), "null": values["null"] and Number(**_defined(values["null"]))}
        del fields["equal_in_all_resamples"]
        if (parts := values["attribution"]) is not None:
            numbers = {name: part and Number(**_defined(part)) for name, part in parts.items()}
            fields["attribution"] = Parts(**numbers)
        return cls(**fields)


def _plain(value: object) -> object:
    """Return records as dicts, and null for each number that is not defined."""
    if isinstance(value, Number | Parts):
        return {name: _plain(of) for name, of in vars(value).items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _defined(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with NaN for each number of an estimate that is not defined."""
    return {n: np.nan if v is None and n in ("value", "low", "high") else v for n, v in values.items()}
