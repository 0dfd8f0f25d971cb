"""The claims as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from gradquake.paper.claim import Claim, Quantity
from gradquake.report.text import bracketed, number


def page(claims: Sequence[Claim]) -> str:
    """Return the claims as a Markdown page: a table, then the notes."""
    lines = [
        "# The paper's claims and what was measured",
        "",
        "Intervals are 95 %, percentile bootstraps over runs unless it is said otherwise. The null is "
        "the same statistic on i.i.d. Gaussian gradients of the same sizes, seeds, snapshots and "
        "graphs. The attribution divides what is above it: the marginal distribution of the gradient "
        "(its permuted null minus the Gaussian one) and its arrangement on the graph (the data minus "
        "the permuted null).",
        "",
        "| id | claim | paper | measured | value [95 %] | Gaussian null | attribution | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in claims:
        for i, quantity in enumerate(claim.quantities):
            head = [claim.id, claim.claim, claim.paper] if i == 0 else [""] * 3
            verdict = claim.verdict if i == 0 else ""
            cells = [*head, quantity.name, quantity_with_interval(quantity), quantity_null(quantity)]
            cells += [quantity_attribution(quantity), verdict]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## How each was judged", ""]
    lines += [f"- **{claim.id}**: {claim.note}." for claim in claims]
    lines += [
        "",
        "Intervals from a bootstrap over single snapshots, which takes the snapshots of one run for "
        "independent and is too narrow:",
        "",
    ]
    lines += [
        f"- {q.name}: [{number(q.snapshot_low)}, {number(q.snapshot_high)}]"
        for claim in claims
        for q in claim.quantities
        if q.snapshot_low is not None
    ]
    return "\n".join(lines) + "\n"


def quantity_with_interval(quantity: Quantity) -> str:
    """Return a measured quantity as text: its value and interval."""
    return bracketed(quantity.value, quantity.low, quantity.high, quantity.decimals)


def quantity_null(quantity: Quantity) -> str:
    """Return the Gaussian null of a quantity as text, empty where it has none."""
    if quantity.null is None:
        return ""
    return bracketed(quantity.null, quantity.null_low, quantity.null_high, quantity.decimals)


def quantity_attribution(quantity: Quantity) -> str:
    """Return what accounts for the distance to the null as text, empty where that was not asked."""
    if quantity.marginal is None or quantity.excess is None:
        return ""
    marginal = bracketed(quantity.marginal, quantity.marginal_low, quantity.marginal_high)
    excess = bracketed(quantity.excess, quantity.excess_low, quantity.excess_high)
    return f"marginal {marginal}; arrangement {excess}"
