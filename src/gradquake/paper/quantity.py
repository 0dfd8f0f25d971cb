"""The measured numbers that claims are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

__all__ = ["Number", "Parts", "Quantity"]


class _Interval(Protocol):
    """Anything with a value and an interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Number:
    """A number and its 95 % interval; NaN for each part that is not defined."""

    value: float
    low: float = np.nan
    high: float = np.nan

    @classmethod
    def of(cls, estimate: _Interval) -> Number:
        """Return the value and the interval of an estimate."""
        return cls(estimate.value, estimate.low, estimate.high)


@dataclass(frozen=True)
class Parts:
    """The parts of the distance between an exponent and its Gaussian null; the distance is their sum.

    Attributes
    ----------
    distribution : Number
        D_permuted - D_gaussian: due to the distribution of the gradient's entries.
    arrangement : Number
        D_real - D_permuted: due to the arrangement of the entries on the graph. Of runs trained in-line,
        D_real and D_permuted are those on an independent graph.
    imprint : Number or None
        D_real on the graph of the training minus D_real on an independent graph; None for runs that were
        not trained in-line.
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
        Unique within its claim; statements refer to it.
    value, low, high : float
        The estimate of what the paper measured, and its 95 % interval; NaN if it is not defined.
    paper : float or None
        The paper's figure; None if the paper gives none.
    nulls : mapping of str to Number
        The same statistic on surrogates, by rung; empty if that does not apply.
    attribution : Parts or None
        None for a quantity that is no exponent of a trained sweep.
    range : Number or None
        The six-seed range: the median and the central 95 % over groups of six runs a scale. That is what
        another laboratory with six seeds would see. None if there are too few runs.
    percentile : float or None
        The percentile of the paper's figure among the groups of six.
    """

    name: str
    value: float
    low: float = np.nan
    high: float = np.nan
    paper: float | None = None
    nulls: Mapping[str, Number] = field(default_factory=dict)
    attribution: Parts | None = None
    range: Number | None = None
    percentile: float | None = None

    @classmethod
    def of(cls, name: str, estimate: _Interval, paper: float | None = None, **more: Any) -> Self:
        """Return the quantity of this name with the value and the interval of an estimate."""
        return cls(name, estimate.value, estimate.low, estimate.high, paper, **more)

    @property
    def number(self) -> Number:
        """Its value and interval."""
        return Number(self.value, self.low, self.high)

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
        fields = _defined(values)
        del fields["equal_in_all_resamples"]
        fields["nulls"] = {rung: _number(of) for rung, of in values["nulls"].items()}
        fields["range"] = None if values["range"] is None else _number(values["range"])
        if (parts := values["attribution"]) is not None:
            known = {name: _number(part) for name, part in parts.items() if part is not None}
            fields["attribution"] = Parts(**known)
        return cls(**fields)


def _plain(value: object) -> object:
    """Return records as dicts, and null for each number that is not defined."""
    if isinstance(value, Number | Parts):
        return _plain(vars(value))
    if isinstance(value, Mapping):
        return {name: _plain(of) for name, of in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _number(values: Mapping[str, Any]) -> Number:
    return Number(**_defined(values))


def _defined(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with NaN for each number of an estimate that is not defined."""
    return {n: np.nan if v is None and n in ("value", "low", "high") else v for n, v in values.items()}
