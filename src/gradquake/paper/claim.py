"""What a claim is, the rule that gives its verdict, and the page that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from gradquake.analysis.resampling import Interval

Verdict = Literal["reproduced", "direction only", "not reproduced", "not testable"]


@dataclass(frozen=True)
class Quantity:
    """One measured number of a claim.

    Attributes
    ----------
    name : str
        What it is.
    value : float
        NaN where it is not defined.
    low, high : float
        Its 95 % interval; NaN where there is none.
    paper : float or None
        The paper's value or bound; None where it gives none.
    null, null_low, null_high : float or None
        The same statistic on the matched Gaussian null with its 95 % interval; None where it does
        not apply or has none.
    marginal, marginal_low, marginal_high : float or None
        What the marginal distribution of the gradient accounts for, D_permuted - D_gaussian, with its
        paired 95 % interval; None where the quantity is no exponent of a trained sweep.
    excess, excess_low, excess_high : float or None
        What the arrangement of the gradient on the graph accounts for, D_real - D_permuted, likewise.
    snapshot_low, snapshot_high : float or None
        The interval from a bootstrap over single snapshots, which is too narrow; None where it was
        not taken.
    decimals : int or None
        How many decimals of the value and its interval are stable; None where as many as are shown.
    """

    name: str
    value: float
    low: float
    high: float
    paper: float | None = None
    null: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    marginal: float | None = None
    marginal_low: float | None = None
    marginal_high: float | None = None
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    snapshot_low: float | None = None
    snapshot_high: float | None = None
    decimals: int | None = None

    def agrees(self, error: float = 0.0) -> bool:
        """Return whether this value reproduces the paper's, given with this error."""
        if self.paper is None:
            return True
        inside = self.low <= self.paper <= self.high
        return inside or abs(self.value - self.paper) <= 2 * error

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, null where a number is not defined."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the quantity of which ``as_json`` gave these values."""
        always = ("value", "low", "high")
        return cls(**{**values, **{name: np.nan for name in always if values[name] is None}})


@dataclass(frozen=True)
class Claim:
    """A claim of the paper beside what was measured.

    Attributes
    ----------
    id : str
        Short name.
    claim : str
        What the paper says.
    paper : str
        The paper's figure.
    quantities : tuple of Quantity
        What was measured, the most telling first.
    verdict : str
        "reproduced", "direction only", "not reproduced" or "not testable".
    note : str
        How it was judged, and what else was seen.
    """

    id: str
    claim: str
    paper: str
    quantities: tuple[Quantity, ...]
    verdict: Verdict
    note: str

    def as_json(self) -> dict[str, Any]:
        """Return the claim as JSON values; the first quantity's numbers stand at the top."""
        first = self.quantities[0].as_json()
        return {
            "id": self.id,
            "claim": self.claim,
            "paper": self.paper,
            "measured": first["measured"],
            "low": first["low"],
            "high": first["high"],
            "null": first["null"],
            "marginal": first["marginal"],
            "excess": first["excess"],
            "verdict": self.verdict,
            "note": self.note,
            "quantities": [quantity.as_json() for quantity in self.quantities],
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the claim of which ``as_json`` gave these values."""
        quantities = tuple(Quantity.of_json(quantity) for quantity in values["quantities"])
        head = values["id"], values["claim"], values["paper"]
        return cls(*head, quantities, values["verdict"], values["note"])


def verdict(value_holds: bool, direction_holds: bool) -> Verdict:
    """Return the verdict of a claim whose value or rule holds, or at least its direction."""
    if value_holds:
        return "reproduced"
    return "direction only" if direction_holds else "not reproduced"


def measured_quantity(
    name: str,
    measured: float,
    interval: Interval,
    paper: float | None = None,
    null: float | None = None,
) -> Quantity:
    """Return a quantity with an interval."""
    return Quantity(name, measured, interval.low, interval.high, paper, null)
