"""The models with known exponents, as one object."""

from __future__ import annotations

from gradquake.paper.known.evidence import Evidence, gather, measure
from gradquake.paper.known.pages import documents, table
from gradquake.paper.known.plan import plan
from gradquake.paper.paper import Paper, Plates
from gradquake.report.page import TEMPLATES, Chapter, Part

__all__ = ["PAPER"]


def _judged_on(*_plan_and_studies: object) -> None:
    """Return nothing: there is no claim to judge."""


def _chapters(found: Evidence, *_more: object) -> list[Chapter]:
    part: Part[Evidence] = Part(
        "Known exponents", lambda evidence: {"tables": [table(evidence)]}, TEMPLATES / "charts.html"
    )
    return [Chapter("", {"table": part}, found)]


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
    report="known.html",
    chapters=_chapters,
    plates=_plates,
)
