"""The claims as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from gradquake.analysis.shown import bracketed, number
from gradquake.paper.claim import JudgedClaim
from gradquake.paper.quantity import Number, Quantity

__all__ = ["INTRODUCTION", "attribution_text", "null_text", "page", "value_text"]

# What the columns mean, for the page and the terminal.
INTRODUCTION = (
    "Intervals are 95 % and come from a bootstrap over runs. The Gaussian null is the same statistic on "
    "Gaussian gradients of the same sizes, seeds, snapshots and graphs. The attribution splits the "
    "difference to this null into parts. One is due to the distribution of the gradient's entries: the "
    "permuted null minus the Gaussian null. Another is due to their arrangement on the graph: the "
    "measured value minus the permuted null. Both of in-line runs are measured on an independent graph; "
    "the imprint is the value on the training's graph minus that on the independent graph."
)
JUDGING = (
    "A measured value agrees with the paper's if its interval contains the paper's value, or if it is "
    'at most twice the paper\'s error away from it. If only the weaker statement after "Direction" '
    'holds, the verdict is "direction only".'
)
SNAPSHOTS = (
    "A bootstrap over single snapshots gives the intervals below. They are too narrow, because it takes "
    "the snapshots of one run as independent:"
)


def page(claims: Sequence[JudgedClaim]) -> str:
    """Return the claims as a Markdown page: a table, then the notes."""
    lines = [
        "# The papers' claims beside the measurements",
        "",
        INTRODUCTION,
        "",
        "| id | claim | paper | measured | value [95 %] | Gaussian null | attribution | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *(row for claim in claims for row in _rows(claim)),
        "",
        "## How each claim was judged",
        "",
        JUDGING,
        "",
        *(f"- **{claim.id}**: {claim.note}" for claim in claims),
    ]
    snapshots = [
        f"- {quantity.name}: [{number(quantity.snapshot_low)}, {number(quantity.snapshot_high)}]"
        for claim in claims
        for quantity in claim.quantities
        if quantity.snapshot_low is not None
    ]
    lines += ["", SNAPSHOTS, "", *snapshots] if snapshots else []
    return "\n".join(lines) + "\n"


def _rows(claim: JudgedClaim) -> list[str]:
    rows = []
    for i, quantity in enumerate(claim.quantities):
        head = ["", "", ""] if i else [claim.id, claim.text, claim.paper]
        cells = [quantity.name, value_text(quantity), null_text(quantity), attribution_text(quantity)]
        rows.append(f"| {' | '.join([*head, *cells, '' if i else claim.verdict])} |")
    return rows


def value_text(quantity: Quantity) -> str:
    """Return a quantity's value and its interval as text."""
    return bracketed(quantity.value, quantity.low, quantity.high, quantity.decimals)


def null_text(quantity: Quantity) -> str:
    """Return the Gaussian null of a quantity as text; empty if it has none."""
    return "" if quantity.null is None else _number_text(quantity.null, quantity.decimals)


def attribution_text(quantity: Quantity) -> str:
    """Return the parts of the distance to the null as text; empty if a quantity has none."""
    parts = {} if quantity.attribution is None else vars(quantity.attribution)
    return "; ".join(f"{name} {_number_text(part)}" for name, part in parts.items() if part is not None)


def _number_text(found: Number, decimals: int | None = None) -> str:
    return bracketed(found.value, found.low, found.high, decimals)
