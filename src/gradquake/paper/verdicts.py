"""Verdicts: how the interval of a quantity is held against the statement of a paper.

A paper asserts a region of a quantity (D < 1, say) and may give a figure with an error, v ± e. The first
row that holds, from the top, is the verdict:

============== ======================================================================
reproduced     the interval lies inside v ± 2e; without a figure, inside the region
direction only the interval lies inside the region, and not inside v ± 2e
not reproduced the interval lies outside v ± 2e and not inside the region; without a
               figure, outside the region
inconclusive   anything else: the data cannot decide
============== ======================================================================

A figure that is a single observation without an error is "compatible" if it lies among the central 95 %
of our runs, and "not reproduced" otherwise. A claim of several statements gets the weakest of their
verdicts, since all of them are claimed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from gradquake.errors import InputError, require
from gradquake.paper.quantity import Number

__all__ = ["STRENGTHS", "Figure", "Region", "Rule", "Statement", "Verdict", "check_verdict", "weakest"]

Verdict = Literal[
    "not testable", "not reproduced", "inconclusive", "direction only", "compatible", "reproduced"
]

# From the weakest verdict to the strongest.
STRENGTHS: tuple[Verdict, ...] = (
    "not testable", "not reproduced", "inconclusive", "direction only", "compatible", "reproduced",
)  # fmt: skip


@dataclass(frozen=True)
class Region:
    """The values between two bounds, both left out."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, number: Number) -> bool:
        """Return whether the whole interval lies inside; it does not if an end is undefined."""
        return self.low < number.low and number.high < self.high

    def excludes(self, number: Number) -> bool:
        """Return whether the whole interval lies outside; it does not if an end is undefined."""
        return number.high <= self.low or number.low >= self.high

    def __str__(self) -> str:
        """Return the region in words."""
        if math.isinf(self.low):
            return f"below {self.high:g}"
        return f"above {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Figure:
    """A paper's figure v and its error e.

    Attributes
    ----------
    value : float
    error : float or None
        None for a single observation, of which the paper gives no error.
    """

    value: float
    error: float | None

    @property
    def region(self) -> Region:
        """The interval v ± 2e; a figure without an error has none."""
        error = 0.0 if self.error is None else self.error
        return Region(self.value - 2 * error, self.value + 2 * error)

    def __str__(self) -> str:
        """Return the figure as text."""
        return f"{self.value:g}" if self.error is None else f"{self.value:g} ± {self.error:g}"


@dataclass(frozen=True)
class Statement:
    """A paper's statement on one quantity: a region, a figure, or both.

    Attributes
    ----------
    quantity : str
        The quantity's name.
    figure : Figure, optional
    region : Region, optional

    Raises
    ------
    InputError
        For neither, or for a region with a figure that has no error.
    """

    quantity: str
    figure: Figure | None = None
    region: Region | None = None

    def __post_init__(self) -> None:
        observed = self.figure is not None and self.figure.error is None
        require(
            (self.figure is not None or self.region is not None) and not (observed and self.region),
            f"the statement on {self.quantity} needs a region, a figure with its error, or a single "
            "observation",
        )

    @property
    def is_observation(self) -> bool:
        """Whether the figure is a single observation, to be held against the range of our runs."""
        return self.figure is not None and self.figure.error is None

    def verdict(self, number: Number) -> Verdict:
        """Return the verdict on the quantity's interval, or on its range for an observation."""
        if self.figure is not None and self.figure.error is None:
            if math.isnan(number.low) or math.isnan(number.high):
                return "inconclusive"
            return "compatible" if number.low <= self.figure.value <= number.high else "not reproduced"
        claimed = self.region if self.figure is None else self.figure.region
        if claimed is not None and claimed.holds(number):
            return "reproduced"
        if self.region is not None and self.region.holds(number):
            return "direction only"
        return "not reproduced" if claimed is not None and claimed.excludes(number) else "inconclusive"

    def __str__(self) -> str:
        """Return the statement in words."""
        said = [str(part) for part in (self.figure, self.region) if part is not None]
        return f"{self.quantity}: {', '.join(said)}"


@dataclass(frozen=True)
class Rule:
    """The statements of a claim, by cases (the statistics, say) that are shown each with its verdict.

    Attributes
    ----------
    cases : mapping of str to sequence of Statement
        All of them are claimed.
    """

    cases: Mapping[str, Sequence[Statement]]

    @classmethod
    def of(cls, *statements: Statement) -> Self:
        """Return the rule of a claim that has a single case."""
        return cls({"": statements})

    @property
    def statements(self) -> list[Statement]:
        """The statements of all cases."""
        return [statement for case in self.cases.values() for statement in case]

    def of_cases(self, numbers: Mapping[str, Number]) -> dict[str, Verdict]:
        """Return the verdict of each case from the numbers of its quantities, by name.

        Raises
        ------
        InputError
            If a quantity has no number.
        """
        return {
            case: weakest([statement.verdict(_of(numbers, statement)) for statement in statements])
            for case, statements in self.cases.items()
        }

    def verdict(self, numbers: Mapping[str, Number]) -> Verdict:
        """Return the verdict from the numbers of the quantities, by name: the weakest of the cases.

        Raises
        ------
        InputError
            If a quantity has no number.
        """
        return weakest(list(self.of_cases(numbers).values()))


def check_verdict(verdict: str) -> None:
    """Raise InputError unless ``verdict`` is one of ``STRENGTHS``."""
    if verdict not in STRENGTHS:
        raise InputError(f"the verdict is {verdict!r}; one of {', '.join(STRENGTHS)} is needed")


def weakest(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the weakest of several verdicts, at least one."""
    return min(verdicts, key=STRENGTHS.index)


def _of(numbers: Mapping[str, Number], statement: Statement) -> Number:
    number = numbers.get(statement.quantity)
    if number is None:
        raise InputError(
            f"a rule asks for the quantity {statement.quantity!r}; the claim has {', '.join(numbers)}"
        )
    return number
