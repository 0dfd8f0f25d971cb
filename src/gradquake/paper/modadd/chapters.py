"""The claims on modular addition as chapters of a report."""

from __future__ import annotations

from collections.abc import Sequence

from gradquake.paper.claim import JudgedClaim
from gradquake.paper.claims_part import CLAIMS
from gradquake.paper.modadd.evidence import Evidence
from gradquake.paper.modadd.pages import tables
from gradquake.report.page import TEMPLATES, Chapter, Part
from gradquake.report.parts import PARTS, Subject

__all__ = ["chapters"]

# The parts of a condition; its runs are of one experiment, whose commands stand at the end.
SHOWN = ("dimension", "scaling", "ladder", "runs", "origin")


def chapters(found: Evidence, claims: Sequence[JudgedClaim], _executor: object) -> list[Chapter]:
    """Return the claims, a chapter for each condition with exponents, and one of all tables."""
    parts = {name: PARTS[name] for name in SHOWN}
    of_each = [
        Chapter(
            f"{architecture}, {condition}",
            parts,
            Subject(one.ladder.real.dataset, ladder=one.ladder, commands=["gradquake reproduce modadd"]),
        )
        for architecture, condition, one in found.subjects
        if not one.untestable
    ]
    all_tables: Part[Evidence] = Part(
        "Every table", lambda evidence: {"tables": tables(evidence)}, TEMPLATES / "tables.html"
    )
    return [
        Chapter("", CLAIMS, claims),
        *of_each,
        Chapter("All conditions", {"tables": all_tables}, found),
    ]
