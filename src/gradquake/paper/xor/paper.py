"""The paper on XOR networks, as one object."""

from __future__ import annotations

from gradquake.paper.paper import Paper, Plates
from gradquake.paper.xor.chapters import chapters
from gradquake.paper.xor.evidence import Evidence, gather, judged_on, measure
from gradquake.paper.xor.pages import documents
from gradquake.paper.xor.plan import plan
from gradquake.paper.xor.robustness_claims import ROBUSTNESS
from gradquake.paper.xor.transition_claims import TRANSITION

__all__ = ["PAPER"]


def _plates() -> Plates[Evidence]:
    from gradquake.paper.xor.plates import PLATES

    return PLATES


PAPER = Paper(
    name="xor",
    plan=plan,
    measure=measure,
    judged_on=judged_on,
    gather=gather,
    claims=(*TRANSITION, *ROBUSTNESS),
    documents=documents,
    page="scrutiny",
    report="report.html",
    chapters=chapters,
    plates=_plates,
)
