"""The paper on XOR networks as chapters of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from gradquake.avalanche.surrogates import REAL
from gradquake.paper.claim import JudgedClaim
from gradquake.paper.claims_part import CLAIMS
from gradquake.paper.xor.evidence import Evidence
from gradquake.paper.xor.pages import tables
from gradquake.paper.xor.plan import STUDY
from gradquake.report.charts import Forest, Row
from gradquake.report.criticality import kicks_table, state_table
from gradquake.report.origin import run_command
from gradquake.report.page import TEMPLATES, Chapter, Part, Variables
from gradquake.report.parts import PARTS, Subject, color_of, estimate_row
from gradquake.report.reading import reading
from gradquake.scrutiny.criticality import MOMENTS, NULL, Critical
from gradquake.scrutiny.every_channel import in_every_channel
from gradquake.scrutiny.scrutinize import Scrutiny

__all__ = ["chapters"]

# The nulls that other channels are compared with.
NULLS = ("gaussian", "permuted")


def chapters(found: Evidence, claims: Sequence[JudgedClaim], executor: Executor | None) -> list[Chapter]:
    """Return the chapters: a reading, the claims, each way to train with the paper's seeds, the rest."""
    command = _reproduced(found)
    scrutinies = found.inline_scrutiny, found.shadow_scrutiny
    inline, shadow = (_subject(of, command, executor) for of in scrutinies)
    reading_part = replace(PARTS["reading"], title="The reading of in-line training")
    others = {name: part for name, part in PARTS.items() if name != "reading"}
    return [
        Chapter("", {"reading": reading_part}, inline),
        Chapter("", CLAIMS, claims),
        Chapter("In-line training, the paper's seeds", others, inline),
        Chapter("Shadow training, the paper's seeds", PARTS, shadow),
        Chapter("Beyond both sweeps", BEYOND, found),
    ]


def _subject(scrutiny: Scrutiny, command: str, executor: Executor | None) -> Subject:
    ladder = scrutiny.ladder
    sweep = ladder.real.dataset
    again = run_command(sweep, STUDY)
    return Subject(
        sweep,
        ladder=ladder,
        scrutiny=scrutiny,
        channels=in_every_channel(ladder, NULLS, executor),
        reading=reading(scrutiny),
        commands=[command, *([] if again is None else [again])],
    )


def _reproduced(found: Evidence) -> str:
    """Return the command that makes everything again."""
    sweep = found.sweeps.inline.real
    seeds = np.unique(sweep["seed"].values).size
    return f"gradquake reproduce xor --seeds {seeds}{'' if found.many_seeds else ' --quick'}"


def _kicks(found: Evidence) -> Variables | None:
    if not found.criticality:
        return None
    forests = [_branching(mode, on) for mode, of_mode in found.criticality.items() for on in of_mode]
    return {
        "forests": [forest for forest in forests if not forest.is_empty],
        "tables": [kicks_table(found.criticality), state_table(found.criticality)],
    }


def _branching(mode: str, on: Critical) -> Forest:
    return Forest(f"Branching ratio of kicks, {mode}, {on.topology}", list(_ratios(on)), 1.0)


def _ratios(on: Critical) -> Iterator[Row]:
    for moment in MOMENTS:
        for rung in (REAL, NULL):
            ratio = on.at_largest(rung, moment, "kick_branching")
            yield estimate_row(rung, f"{moment} t_g, {rung}", color_of(rung), ratio)


def _further(found: Evidence) -> Variables | None:
    return {"tables": tables(found)}


BEYOND: dict[str, Part[Evidence]] = {
    "kicks": Part("Kicks: is anything critical?", _kicks, TEMPLATES / "forests.html"),
    "tables": Part("Every table of the scrutiny", _further, TEMPLATES / "tables.html"),
}
