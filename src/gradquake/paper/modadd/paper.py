"""The paper's claims on modular addition, as one object."""

from __future__ import annotations

from gradquake.paper.modadd.chapters import chapters
from gradquake.paper.modadd.claims import CLAIMS
from gradquake.paper.modadd.evidence import Evidence, judged_on, measure
from gradquake.paper.modadd.pages import documents
from gradquake.paper.modadd.plan import Plan, plan
from gradquake.paper.paper import Paper, Plates

__all__ = ["PAPER"]


def _plates() -> Plates[Evidence]:
    from gradquake.paper.modadd.plates import PLATES

    return PLATES


def _gather(_plan: Plan, _studies: object, found: Evidence, *_more: object) -> Evidence:
    """Return what the claims are judged on: pages and figures show nothing else."""
    return found


PAPER = Paper(
    name="modadd",
    plan=plan,
    measure=measure,
    judged_on=judged_on,
    gather=_gather,
    claims=CLAIMS,
    documents=documents,
    page="modadd",
    report="modadd.html",
    chapters=chapters,
    plates=_plates,
)
