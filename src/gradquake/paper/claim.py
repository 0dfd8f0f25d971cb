"""Claims, and the one engine that judges them, writes them and reads them.

A claim is data: a text, the paper's figure, a function that takes its quantities from the evidence, and
a rule. A rule is made of tests; each test names a quantity and a bound. ``judge`` gives the verdicts.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, get_args

from gradquake.errors import InputError
from gradquake.paper.output import as_json, write
from gradquake.paper.quantity import Quantity

__all__ = [
    "PAPERS_VALUE", "VERDICTS", "Agrees", "Claim", "Combined", "Compare", "JudgedClaim", "Measured",
    "Rule", "Test", "Verdict", "all_of", "any_of", "judge", "merge", "read_claims", "within",
    "write_claims",
]  # fmt: skip

Verdict = Literal["reproduced", "direction only", "not reproduced", "not testable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
# The bound of a test that holds a quantity against the paper's own value.
PAPERS_VALUE = "the paper's value"

NO_INTERVALS = "At least one size has a single run, so there is no interval to judge by."


@dataclass(frozen=True)
class Measured:
    """The quantities of one claim.

    Attributes
    ----------
    quantities : sequence of Quantity
        The most telling one first.
    bounds : mapping of str to float
        Bounds that the evidence gives, by the names that tests use; NaN if a bound is not defined.
    seen : str
        Sentences for the note: numbers beside the quantities.
    testable : bool
        False if the evidence cannot decide the claim; ``seen`` says why.
    """

    quantities: Sequence[Quantity]
    bounds: Mapping[str, float] = field(default_factory=dict)
    seen: str = ""
    testable: bool = True

    def __getitem__(self, name: str) -> Quantity:
        """Return the quantity of this name; InputError for another name."""
        for quantity in self.quantities:
            if quantity.name == name:
                return quantity
        names = ", ".join(quantity.name for quantity in self.quantities)
        raise InputError(f"a rule asks for the quantity {name!r}; the claim has {names}")


class Test(Protocol):
    """A condition on the quantities of a claim."""

    def holds(self, measured: Measured) -> bool:
        """Return whether the condition holds; a comparison with NaN does not."""
        ...


_RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Compare:
    """Holds if an end of a quantity is on the right side of a bound.

    Attributes
    ----------
    quantity : str
        Its name.
    end : {"value", "low", "high"}
    relation : {"<", "<=", ">", ">="}
    bound : float or str
        A number, ``PAPERS_VALUE``, or the name of a bound that the evidence gives.
    """

    quantity: str
    end: Literal["value", "low", "high"]
    relation: Literal["<", "<=", ">", ">="]
    bound: float | str

    def holds(self, measured: Measured) -> bool:
        """Return whether the comparison holds; never with NaN, or without the paper's value."""
        quantity, bound = measured[self.quantity], self.bound
        if isinstance(bound, str):
            given = quantity.paper if bound == PAPERS_VALUE else measured.bounds[bound]
            bound = math.nan if given is None else given
        return bool(_RELATIONS[self.relation](getattr(quantity, self.end), bound))


@dataclass(frozen=True)
class Combined:
    """Several tests in one; see ``all_of`` and ``any_of``."""

    how: Callable[[Iterable[bool]], bool]
    tests: tuple[Test, ...]

    def holds(self, measured: Measured) -> bool:
        """Return whether all tests hold, or at least one."""
        return self.how(test.holds(measured) for test in self.tests)


def all_of(*tests: Test) -> Test:
    """Return the test that holds if each of these does."""
    return Combined(all, tests)


def any_of(*tests: Test) -> Test:
    """Return the test that holds if at least one of these does."""
    return Combined(any, tests)


@dataclass(frozen=True)
class Agrees:
    """Holds if a quantity agrees with the paper's value.

    It does if its 95 % interval contains the paper's value, or if its own value is at most twice the
    paper's error away from it.

    Attributes
    ----------
    quantity : str
        Its name.
    error : float
        The paper's error; 0 if the paper gives none.
    """

    quantity: str
    error: float = 0.0

    def holds(self, measured: Measured) -> bool:
        """Return whether the quantity agrees; never without the paper's value."""
        found = measured[self.quantity]
        if found.paper is None:
            return False
        near = abs(found.value - found.paper) <= 2 * self.error
        return found.low <= found.paper <= found.high or near


def within(quantity: str, low: float | str, high: float | str) -> Test:
    """Return the test that a value lies between two bounds, both included (see ``Compare``)."""
    return all_of(Compare(quantity, "value", ">=", low), Compare(quantity, "value", "<=", high))


@dataclass(frozen=True)
class Rule:
    """The rule of a claim.

    Attributes
    ----------
    value : Test
        If it holds, the claim is reproduced.
    direction : Test or None
        If only it holds, the verdict is "direction only".
    cases : mapping of str to Test
        Tests whose results the note tells, by name.
    """

    value: Test
    direction: Test | None = None
    cases: Mapping[str, Test] = field(default_factory=dict)

    @classmethod
    def for_all(cls, cases: Mapping[str, Test]) -> Self:
        """Return the rule that holds if each case does, and as a direction if one case does."""
        return cls(all_of(*cases.values()), any_of(*cases.values()), cases)

    def verdict(self, measured: Measured) -> Verdict:
        """Return the verdict on measured quantities."""
        if not measured.testable:
            return "not testable"
        if self.value.holds(measured):
            return "reproduced"
        if self.direction is not None and self.direction.holds(measured):
            return "direction only"
        return "not reproduced"


Evidence = TypeVar("Evidence", contravariant=True)


@dataclass(frozen=True)
class Claim(Generic[Evidence]):
    """A claim of a paper.

    Attributes
    ----------
    id : str
        Short name, unique over all papers.
    text : str
        The paper's statement.
    paper : str
        The paper's figure.
    measured : callable
        From the evidence to the claim's quantities.
    rule : Rule
    how : str
        The rule in words: sentences, for the note.
    needs_intervals : bool
        Whether the claim can only be judged with intervals over runs.
    """

    id: str
    text: str
    paper: str
    measured: Callable[[Evidence], Measured]
    rule: Rule
    how: str
    needs_intervals: bool = True


@dataclass(frozen=True)
class JudgedClaim:
    """A ``Claim`` with its measured quantities and its verdict.

    Attributes
    ----------
    verdict : str
        One of ``VERDICTS``.
    note : str
        Sentences: the rule, and numbers beside the quantities.
    """

    id: str
    text: str
    paper: str
    quantities: tuple[Quantity, ...]
    verdict: Verdict
    note: str

    def to_json(self) -> dict[str, object]:
        """Return the claim as JSON values; the first quantity's numbers stand at the top."""
        quantities = [quantity.to_json() for quantity in self.quantities]
        return {
            "id": self.id,
            "claim": self.text,
            "paper": self.paper,
            **{name: quantities[0][name] for name in ("value", "low", "high", "null", "attribution")},
            "verdict": self.verdict,
            "note": self.note,
            "quantities": quantities,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the claim that ``to_json`` gave these values.

        Raises
        ------
        KeyError, TypeError, ValueError
            For other values: a part is missing, or the verdict is not one of ``VERDICTS``.
        """
        quantities = tuple(map(Quantity.from_json, values["quantities"]))
        if not (quantities and values["verdict"] in VERDICTS):
            raise ValueError(f"{values['id']} has no quantity or the verdict {values['verdict']!r}")
        head = values["id"], values["claim"], values["paper"]
        return cls(*head, quantities, values["verdict"], values["note"])


def judge(
    claims: Sequence[Claim[Evidence]], evidence: Evidence, *, has_intervals: bool
) -> list[JudgedClaim]:
    """Return every claim with its verdict, in the order given.

    Parameters
    ----------
    claims : sequence of Claim
    evidence
        The argument of each claim's ``measured``.
    has_intervals : bool
        False if a size has a single run; claims that need intervals are then not testable.
    """
    return [_judged(claim, claim.measured(evidence), has_intervals) for claim in claims]


def _judged(claim: Claim[Any], measured: Measured, has_intervals: bool) -> JudgedClaim:
    results = ", ".join(
        f"{name} {'yes' if test.holds(measured) else 'no'}" for name, test in claim.rule.cases.items()
    )
    note = [claim.how, f"Result: {results}." if results else "", measured.seen]
    verdict = claim.rule.verdict(measured)
    if claim.needs_intervals and not has_intervals:
        verdict, note = "not testable", [NO_INTERVALS, *note]
    said = " ".join(filter(None, note))
    return JudgedClaim(claim.id, claim.text, claim.paper, tuple(measured.quantities), verdict, said)


def merge(
    held: Sequence[JudgedClaim], new: Sequence[JudgedClaim], order: Sequence[str]
) -> list[JudgedClaim]:
    """Return new claims beside those held, each once, by their places in ``order``; others last."""
    by_id = {claim.id: claim for claim in (*held, *new)}
    known = [by_id.pop(name) for name in order if name in by_id]
    return [*known, *by_id.values()]


def read_claims(path: Path) -> list[JudgedClaim]:
    """Return the claims of a ``claims.json``; none if there is no such file.

    Raises
    ------
    InputError
        If the file cannot be read, or does not hold claims in the form of this version.
    """
    if not path.exists():
        return []
    try:
        return [JudgedClaim.from_json(row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); move it away") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not hold claims in the form of this version; move it away: its claims are "
            "judged again from the recorded runs"
        ) from error


def write_claims(
    path: Path, claims: Sequence[JudgedClaim], order: Sequence[str] = ()
) -> list[JudgedClaim]:
    """Write claims to ``claims.json`` beside those that it holds; return all of them.

    Raises
    ------
    InputError
        If the file does not hold claims.
    """
    everything = merge(read_claims(path), claims, order)
    write(path, as_json([claim.to_json() for claim in everything]))
    return everything
