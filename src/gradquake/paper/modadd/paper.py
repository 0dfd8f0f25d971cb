"""The paper's claims on modular addition, as one object."""

from __future__ import annotations

from gradquake.paper.modadd.claims import CLAIMS
from gradquake.paper.modadd.evidence import Evidence, gather, measure
from gradquake.paper.modadd.pages import documents
from gradquake.paper.modadd.plan import plan
from gradquake.paper.paper import Paper, Plates

__all__ = ["PAPER"]


def _plates() -> Plates[Evidence]:
    from gradquake.paper.modadd.plates import PLATES

    return PLATES


PAPER = Paper(
    name="modadd",
    plan=plan,
    measure=measure,
    gather=gather,
    claims=CLAIMS,
    documents=documents,
    page="modadd",
    plates=_plates,
)
