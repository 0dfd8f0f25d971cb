"""The claims as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from gradquake.analysis.shown import bracketed, number
from gradquake.paper.claim import JudgedClaim
from gradquake.paper.quantity import Number, Parts, Quantity

__all__ = ["INTRODUCTION", "null_text", "page", "range_text", "value_text", "verdicts_text"]

# What the columns mean, for the page and the terminal.
INTRODUCTION = (
    "Intervals are 95 %, over runs. The value is the estimate of what the paper measured: with many "
    "seeds, the mean over disjoint groups of six seeds a scale. The six-seed range holds 95 % of the "
    "groups of six. That is what another laboratory with six seeds would see, and the percentile is the "
    "place of the paper's figure among the groups. The nulls are the same statistic on Gaussian "
    "gradients, and on the measured gradients with their entries shuffled (permuted), with the same "
    "sizes, seeds, snapshots and graphs."
)
JUDGING = (
    'A figure v ± e is "reproduced" if the interval lies inside v ± 2e. "Direction only": the interval '
    'lies inside the asserted region (D below 1, say), but not inside v ± 2e. "Not reproduced": it lies '
    'outside v ± 2e and not inside the region. "Inconclusive": anything else. A statement without a '
    'figure is "reproduced" if the interval lies inside its region, and "not reproduced" if it lies '
    'outside. A single observation is "compatible" if it lies among the central 95 % of our runs. A '
    'claim of several statements gets the weakest of their verdicts. "And by the null" means that '
    "shuffled gradients, judged by the same rule, get the same verdict. Such a claim is no evidence of "
    "correlations."
)
COLUMNS = (
    "id", "claim", "paper", "measured", "value [95 %]", "six-seed range", "Gaussian null",
    "permuted null", "verdict",
)  # fmt: skip


PARTS = (
    "The value is the Gaussian null plus these parts. Distribution: the permuted null minus the "
    "Gaussian null. Arrangement: real minus permuted. Training in-line leaves an imprint of its graph "
    "on the gradients. Such runs are therefore measured on an independent graph too: the arrangement "
    "is that on the independent graph, and the imprint is the value on the graph of the training minus "
    "that on the independent one. All differences are paired: they are taken in the same runs."
)
PART_COLUMNS = ("id", "quantity", "distribution", "arrangement", "imprint")


def page(claims: Sequence[JudgedClaim]) -> str:
    """Return the claims as a Markdown page: a table, then the notes."""
    lines = [
        "# The papers' claims beside the measurements",
        "",
        INTRODUCTION,
        "",
        *_head(COLUMNS),
        *(row for claim in claims for row in _rows(claim)),
        "",
        "## How each claim was judged",
        "",
        JUDGING,
        "",
        *(f"- **{claim.id}**: {claim.note} {verdicts_text(claim)}".rstrip() for claim in claims),
        *_attribution(claims),
    ]
    return "\n".join(lines) + "\n"


def value_text(quantity: Quantity) -> str:
    """Return a quantity's value and its interval as text."""
    return bracketed(quantity.value, quantity.low, quantity.high)


def range_text(quantity: Quantity) -> str:
    """Return the six-seed range of a quantity, and the paper's percentile in it; empty without one."""
    if quantity.range is None:
        return ""
    ends = f"{number(quantity.range.low)} to {number(quantity.range.high)}"
    at = quantity.percentile
    return ends if at is None else f"{ends}; paper at {at:.0f} %"


def null_text(quantity: Quantity, rung: str) -> str:
    """Return a null of a quantity as text; empty if it has none."""
    null = quantity.nulls.get(rung)
    return "" if null is None else _number_text(null)


def verdicts_text(claim: JudgedClaim) -> str:
    """Return the verdicts of the cases, the nulls and the groups of a claim, as sentences."""
    cases = ", ".join(f"{case} {verdict}" for case, verdict in claim.cases.items())
    nulls = ", ".join(f"{rung} {verdict}" for rung, verdict in claim.of_nulls.items())
    groups = ", ".join(f"{verdict} {share:.0%}" for verdict, share in claim.of_groups.items())
    said = [("Cases", cases), ("Nulls", nulls), ("Groups of six seeds", groups)]
    return " ".join(f"{name}: {text}." for name, text in said if text)


def _rows(claim: JudgedClaim) -> list[str]:
    rows = []
    for i, quantity in enumerate(claim.quantities):
        head = ["", "", ""] if i else [claim.id, claim.text, claim.paper]
        nulls = [null_text(quantity, rung) for rung in ("gaussian", "permuted")]
        cells = [quantity.name, value_text(quantity), range_text(quantity), *nulls]
        rows.append(_row([*head, *cells, "" if i else claim.verdict_text]))
    return rows


def _attribution(claims: Sequence[JudgedClaim]) -> list[str]:
    """Return the table of the parts of each exponent; nothing if no quantity has parts."""
    rows = [
        _row([claim.id, quantity.name, *_parts(quantity.attribution)])
        for claim in claims
        for quantity in claim.quantities
        if quantity.attribution is not None
    ]
    if not rows:
        return []
    return ["", "## The parts of the exponents", "", PARTS, "", *_head(PART_COLUMNS), *rows]


def _parts(parts: Parts) -> list[str]:
    own, imprint = (parts.distribution, parts.arrangement), parts.imprint
    return [*map(_number_text, own), "" if imprint is None else _number_text(imprint)]


def _head(columns: Sequence[str]) -> list[str]:
    return [_row(columns), "|" + "---|" * len(columns)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number_text(found: Number) -> str:
    return bracketed(found.value, found.low, found.high)
