"""The claims as a part of a report: a table that folds open into how each was judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gradquake.analysis.shown import bracketed, number
from gradquake.avalanche.surrogates import REAL
from gradquake.paper.claim import JudgedClaim
from gradquake.paper.claims_page import (
    INTRODUCTION,
    JUDGING,
    PARTS,
    null_text,
    range_text,
    value_text,
    verdicts_text,
)
from gradquake.paper.quantity import Number, Quantity
from gradquake.paper.verdicts import STRENGTHS
from gradquake.report.charts import Forest, Row
from gradquake.report.page import TEMPLATES, Part, Variables
from gradquake.report.parts import color_of

__all__ = ["CLAIMS"]


def _claims(claims: Sequence[JudgedClaim]) -> Variables | None:
    if not claims:
        return None
    verdicts = [claim.verdict for claim in claims]
    counts = [f"{verdicts.count(of)} {of}" for of in STRENGTHS if of in verdicts]
    by_null = sum(claim.by_the_null for claim in claims)
    return {
        "summary": f"{len(claims)} claims: {', '.join(counts)}. Shuffled gradients get the same verdict "
        f"in {by_null}.",
        "claims": [_claim(claim) for claim in claims],
        "explanations": [INTRODUCTION, JUDGING, PARTS],
    }


def _claim(claim: JudgedClaim) -> Variables:
    first = claim.quantities[0]
    forests = [_forest(quantity) for quantity in claim.quantities]
    return {
        "id": claim.id,
        "text": claim.text,
        "paper": claim.paper,
        "verdict": claim.verdict_text,
        "kind": claim.verdict.replace(" ", "-"),
        "first": first.name,
        "value": value_text(first),
        "range": range_text(first),
        "null": null_text(first, "permuted") or null_text(first, "gaussian"),
        "note": claim.note,
        "verdicts": verdicts_text(claim),
        "forests": [forest for forest in forests if not forest.is_empty],
    }


def _forest(quantity: Quantity) -> Forest:
    rows = list(_rows(quantity))
    return Forest(quantity.name, rows, caption=_caption(quantity))


def _rows(quantity: Quantity) -> Iterator[Row]:
    yield _row(REAL, "measured", color_of(REAL), quantity.number)
    if quantity.paper is not None:
        yield Row("", "the paper", "ink", quantity.paper, math.nan, math.nan, number(quantity.paper))
    if quantity.range is not None:
        yield _row("", "six seeds", "ink", quantity.range)
    for rung, null in quantity.nulls.items():
        yield _row(rung, f"{rung.replace('_', ' ')} null", color_of(rung), null)


def _row(name: str, label: str, color: str, found: Number) -> Row:
    text = bracketed(found.value, found.low, found.high)
    ends = (math.nan, math.nan) if found.low == found.high else (found.low, found.high)
    return Row(name, label, color, found.value, *ends, text)


def _caption(quantity: Quantity) -> str:
    """Return the paper's place among studies with six seeds, and the parts of an exponent."""
    parts = quantity.attribution
    named = {} if parts is None else {name: of for name, of in vars(parts).items() if of is not None}
    shown = [f"{name} {bracketed(of.value, of.low, of.high)}" for name, of in named.items()]
    place = quantity.percentile
    return " ".join(
        [
            *(
                []
                if place is None
                else [f"The paper's figure is at {place:.0f} % of the groups of six."]
            ),
            *([f"Above the Gaussian null: {', '.join(shown)}."] if shown else []),
        ]
    )


CLAIMS: dict[str, Part[Sequence[JudgedClaim]]] = {
    "claims": Part("The claims", _claims, TEMPLATES / "claims.html")
}
