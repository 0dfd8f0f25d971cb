"""The models with known exponents, as one object."""

from __future__ import annotations

from gradquake.paper.known.evidence import Evidence, gather, measure
from gradquake.paper.known.pages import documents
from gradquake.paper.known.plan import plan
from gradquake.paper.paper import Paper, Plates

__all__ = ["PAPER"]


def _judged_on(*_plan_and_studies: object) -> None:
    """Return nothing: there is no claim to judge."""


def _plates() -> Plates[Evidence]:
    return {}


PAPER = Paper(
    name="known",
    plan=plan,
    measure=measure,
    judged_on=_judged_on,
    gather=gather,
    claims=(),
    documents=documents,
    page="known",
    plates=_plates,
)
