"""Claims, and the one engine that judges them, writes them and reads them.

A claim is data: a text, the paper's figure, a function that takes its quantities from the evidence, and
a rule (see ``verdicts``). ``judge`` gives the verdicts: on the data, on every null, and on groups of
runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from gradquake.analysis.group_verdicts import verdict_shares
from gradquake.errors import InputError, require
from gradquake.paper.output import as_json, write
from gradquake.paper.quantity import Number, Quantity
from gradquake.paper.verdicts import Rule, Verdict, check_verdict

__all__ = [
    "BY_THE_NULL", "Claim", "JudgedClaim", "Measured", "judge", "merge", "read_claims", "write_claims",
]  # fmt: skip

NO_INTERVALS = "At least one size has a single run, so there is no interval to judge by."

# Beside the verdict if shuffled gradients get the same one: then it says nothing about correlations.
BY_THE_NULL = "and by the null"
SHUFFLED = "permuted"


@dataclass(frozen=True)
class Measured:
    """The quantities of one claim.

    Attributes
    ----------
    quantities : sequence of Quantity
        The most telling one first.
    groups : sequence of mapping
        For each disjoint group of runs the numbers of the quantities, by name; none if there are too
        few runs.
    seen : str
        Sentences for the note: numbers beside the quantities.
    untestable : str
        If the evidence cannot decide the claim, the reason; else empty.
    """

    quantities: Sequence[Quantity]
    groups: Sequence[Mapping[str, Number]] = ()
    seen: str = ""
    untestable: str = ""

    def numbers(self, rule: Rule) -> dict[str, Number]:
        """Return by name the numbers by which a rule judges the quantities.

        An observation is held against the range of our runs; without a range it cannot be judged.
        """
        observed = {statement.quantity for statement in rule.statements if statement.is_observation}
        return {
            quantity.name: (quantity.range or Number(quantity.value))
            if quantity.name in observed
            else quantity.number
            for quantity in self.quantities
        }

    def of_nulls(self, rule: Rule) -> dict[str, dict[str, Number]]:
        """Return by rung the numbers of the null, of each rung that has all quantities of a rule."""
        by_name = {quantity.name: quantity for quantity in self.quantities}
        needed = [by_name[s.quantity] for s in rule.statements if s.quantity in by_name]
        rungs = list(needed[0].nulls) if needed else []
        return {
            rung: {quantity.name: quantity.nulls[rung] for quantity in needed}
            for rung in rungs
            if all(rung in quantity.nulls for quantity in needed)
        }


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
    """

    id: str
    text: str
    paper: str
    measured: Callable[[Evidence], Measured]
    rule: Rule
    how: str


@dataclass(frozen=True)
class JudgedClaim:
    """A ``Claim`` with its measured quantities and its verdict.

    Attributes
    ----------
    verdict : str
        One of ``verdicts.STRENGTHS``.
    cases : mapping of str to str
        The verdict of each case of the rule, by name (a statistic, say); empty if there is one case.
    of_nulls : mapping of str to str
        The verdict of the same rule on the nulls, by rung; of those that have all its quantities.
    of_groups : mapping of str to float
        The share of groups of runs in which each verdict comes out; empty without groups.
    note : str
        Sentences: the rule, and numbers beside the quantities.
    """

    id: str
    text: str
    paper: str
    quantities: tuple[Quantity, ...]
    verdict: Verdict
    note: str
    cases: Mapping[str, Verdict] = field(default_factory=dict)
    of_nulls: Mapping[str, Verdict] = field(default_factory=dict)
    of_groups: Mapping[Verdict, float] = field(default_factory=dict)

    @property
    def by_the_null(self) -> bool:
        """Whether shuffled gradients, judged by the same rule, get the same verdict."""
        return self.verdict == self.of_nulls.get(SHUFFLED)

    @property
    def verdict_text(self) -> str:
        """The verdict, and whether the null gets it too."""
        return f"{self.verdict}, {BY_THE_NULL}" if self.by_the_null else self.verdict

    def to_json(self) -> dict[str, object]:
        """Return the claim as JSON values; the first quantity's numbers stand at the top."""
        quantities = [quantity.to_json() for quantity in self.quantities]
        return {
            "id": self.id,
            "claim": self.text,
            "paper": self.paper,
            **{name: quantities[0][name] for name in ("value", "low", "high", "nulls", "attribution")},
            "verdict": self.verdict,
            "by_the_null": self.by_the_null,
            "cases": dict(self.cases),
            "of_nulls": dict(self.of_nulls),
            "of_groups": dict(self.of_groups),
            "note": self.note,
            "quantities": quantities,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the claim that ``to_json`` gave these values; InputError for an unknown verdict."""
        quantities = tuple(map(Quantity.from_json, values["quantities"]))
        head = values["id"], values["claim"], values["paper"]
        verdicts = values["cases"], values["of_nulls"], values["of_groups"]
        require(bool(quantities), f"the claim {head[0]} has no quantity; it needs at least one")
        check_verdict(values["verdict"])
        return cls(*head, quantities, values["verdict"], values["note"], *verdicts)


def judge(claim: Claim[Evidence], evidence: Evidence, *, has_intervals: bool) -> JudgedClaim:
    """Return a claim with its verdicts.

    Parameters
    ----------
    claim : Claim
    evidence
        The argument of the claim's ``measured``.
    has_intervals : bool
        False if a size has a single run; then no claim is testable.
    """
    measured = claim.measured(evidence)
    rule, reason = claim.rule, measured.untestable if has_intervals else NO_INTERVALS
    note = " ".join(filter(None, (reason, claim.how, measured.seen)))
    head = claim.id, claim.text, claim.paper, tuple(measured.quantities)
    if reason:
        return JudgedClaim(*head, "not testable", note)
    numbers, nulls = measured.numbers(rule), measured.of_nulls(rule)
    return JudgedClaim(
        *head,
        rule.verdict(numbers),
        note,
        rule.of_cases(numbers) if len(rule.cases) > 1 else {},
        {rung: rule.verdict(of) for rung, of in nulls.items()},
        verdict_shares(rule.verdict, measured.groups),
    )


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
    except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
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
