"""The results of modular addition, as tables for a reader and as an object for a program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradquake.analysis.shown import number
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.transitions import PHASES
from gradquake.paper.modadd.evidence import Evidence, Found
from gradquake.paper.modadd.plan import ARCHITECTURES
from gradquake.paper.modadd.views import ALIGNMENTS, LEVELS, TEST_90, View
from gradquake.paper.modadd.warning import WARNINGS
from gradquake.paper.output import as_json
from gradquake.report.json import (
    attribution_json,
    collapse_json,
    crossing_json,
    curve_json,
    estimate_json,
    exponents_json,
    finite,
)
from gradquake.report.tables import SYMBOLS, attribution_table, exponents_table
from gradquake.report.text import Table, quality_of, time_with_interval, with_interval

__all__ = ["as_object", "documents", "page"]

# The epochs at which the early warning is told; at later ones some runs have grokked.
WARNED_AT = (0, 50, 100, 150, 200, 250)

SUBJECT = ("architecture", "condition")


def documents(evidence: Evidence) -> dict[str, str]:
    """Return the files for a reader and for programs: their texts by name."""
    return {"modadd.md": page(evidence), "modadd.json": as_json(as_object(evidence))}


def page(evidence: Evidence) -> str:
    """Return all results as a Markdown page of tables."""
    pages = [grokking_table(evidence), medians_table(evidence), times_table(evidence)]
    pages += [pooled_table(evidence), truncated_table(evidence), warnings_table(evidence)]
    for architecture, condition, found in evidence.subjects:
        for table in (exponents_table(found.ladder), attribution_table(found.ladder)):
            pages.append(replace(table, title=f"{table.title}, {architecture}, {condition}"))
    return "# Modular addition\n\n" + "\n".join(table.markdown() for table in pages)


def grokking_table(evidence: Evidence) -> Table:
    """Return when runs reach which accuracy, by architecture and condition."""
    rows = [
        (
            *subject,
            f"{found.grokked} of {found.runs}",
            str(found.lasted),
            *(time_with_interval(found.levels[level]) for level in LEVELS),
        )
        for *subject, found in evidence.subjects
    ]
    return Table(
        "First snapshot at an accuracy, median over runs",
        (*SUBJECT, "grokked", "lasted", *map(str, LEVELS)),
        rows,
        "A run grokked if it reached a test accuracy of 0.9. It lasted if its test accuracy then stayed "
        "at 0.85 or above. A run that does not reach an accuracy counts as infinitely late. If at most "
        "half of the runs reach it, the median is not defined.",
    )


def medians_table(evidence: Evidence) -> Table:
    """Return the median grokking epoch of every width."""
    widths = sorted({w for *_, found in evidence.subjects for w in found.medians[TEST_90]})
    rows = [
        (*subject, *(_epoch(found.medians[TEST_90].get(width, np.inf)) for width in widths))
        for *subject, found in evidence.subjects
    ]
    header = (*SUBJECT, *(f"d = {width}" for width in widths))
    return Table(
        "Median epoch of 90 % test accuracy by width",
        header,
        rows,
        "A cell is empty if the architecture has no such width, or if at most half of the runs reach "
        "90 %, so that their median is not defined.",
    )


def times_table(evidence: Evidence) -> Table:
    """Return when D(t) crosses 1, on every kind of time."""
    rows = [
        (*subject, alignment, SYMBOLS[statistic], *_crossings(view), ", ".join(map(str, view.left_out)))
        for *subject, found in evidence.subjects
        for alignment in ALIGNMENTS
        for statistic in STATISTICS
        if (view := found.view(alignment, statistic)) is not None
    ]
    return Table(
        "D(t) on three kinds of time",
        (
            *SUBJECT, "time", "exponent", "lowest D(t)", "highest", "at the end",
            "crosses 1 up", "crosses 1 down", "lowest of the permuted null", "highest", "without d",
        ),
        rows,
        "Since train saturation: each run is read from its first snapshot at a train accuracy of 0.99. "
        "Since grokking: each run is read from its first snapshot at a test accuracy of 0.9. Both leave "
        "out the widths at which fewer than half of the runs have such a snapshot.",
    )  # fmt: skip


def pooled_table(evidence: Evidence) -> Table:
    """Return the exponents of all phases, and the part of the arrangement."""
    rows = []
    for *subject, found in evidence.subjects:
        for statistic in STATISTICS:
            for phase in PHASES:
                real = found.ladder.exponent("real", phase, statistic)
                arrangement = found.ladder.arrangement(phase, statistic)
                cells = (with_interval(real), with_interval(arrangement), number(real.fit.r_squared))
                rows.append((*subject, SYMBOLS[statistic], phase, *cells))
    header = (*SUBJECT, "exponent", "phase", "D or gamma", "real - permuted", "R²")
    return Table("Exponents pooled over snapshots", header, rows)


def truncated_table(evidence: Evidence) -> Table:
    """Return the share of truncated avalanches by width, and the collapse."""
    widths = sorted({w for *_, found in evidence.subjects for w in found.truncated})
    rows = [
        (
            *subject,
            *(f"{found.truncated[w]:.1%}" if w in found.truncated else "" for w in widths),
            quality_of(found.collapse),
        )
        for *subject, found in evidence.subjects
    ]
    return Table(
        "Avalanches that the limit of 20 steps ended",
        (*SUBJECT, *(f"d = {width}" for width in widths), "collapse S"),
        rows,
        "S is the quality of Houdayer and Hartmann (2004) over all snapshots; it is 1 for a collapse "
        "within the errors.",
    )


def warnings_table(evidence: Evidence) -> Table:
    """Return how early a number tells which runs will grok."""
    rows = []
    measured = evidence.warnings[ARCHITECTURES[0]][WARNINGS[0]].epochs.tolist()
    epochs = [epoch for epoch in WARNED_AT if epoch in measured]
    for architecture, of_each in evidence.warnings.items():
        for name, found in of_each.items():
            at = dict(zip(found.epochs.tolist(), found.area, strict=True))
            rows.append((architecture, name, *(with_interval(at[epoch]) for epoch in epochs)))
    return Table(
        "Early warning: area under the ROC",
        ("architecture", "number", *(f"epoch {epoch}" for epoch in epochs)),
        rows,
        "Take a run that will grok and one that will not, of one width: the area is how often the first "
        "has the higher number. 1/2 tells nothing; 0 tells as much as 1. The runs are those of the "
        "grokking condition and of the two controls. All runs of a seed have one D, which counts once.",
    )


def as_object(evidence: Evidence) -> dict[str, object]:
    """Return all results as JSON values, by architecture and condition."""
    result: dict[str, object] = {f"{a}, {c}": _found_json(found) for a, c, found in evidence.subjects}
    result["parting"] = {
        f"{architecture}, {control}, {statistic}": finite(epoch)
        for architecture, of_control in evidence.partings.items()
        for control, of_statistic in of_control.items()
        for statistic, epoch in of_statistic.items()
    }
    result["early_warning"] = {
        f"{architecture}, {name}": {
            "epoch": found.epochs.tolist(),
            "area": [estimate_json(area) for area in found.area],
        }
        for architecture, of_each in evidence.warnings.items()
        for name, found in of_each.items()
    }
    return result


def _found_json(found: Found) -> dict[str, object]:
    return {
        "runs": found.runs,
        "grokked": found.grokked,
        "lasted": found.lasted,
        "first_snapshot": {
            str(level).replace(" ", "_"): estimate_json(found.levels[level]) for level in LEVELS
        },
        "truncated": {str(width): share for width, share in found.truncated.items()},
        "exponents": exponents_json(found.ladder.real),
        "attribution": attribution_json(found.ladder),
        "dimension": {
            f"{alignment}, {statistic}": {
                **curve_json(view.real),
                "crossing": crossing_json(view.up),
                "crossing_down": estimate_json(view.down),
            }
            for alignment, of_each in found.views.items()
            for statistic, view in of_each.items()
        },
        "collapse": collapse_json(found.collapse),
    }


def _crossings(view: View) -> tuple[str, ...]:
    times = (time_with_interval(view.up), time_with_interval(view.down))
    null = view.null.span
    return (*map(number, view.real.span), *times, number(null.lowest), number(null.highest))


def _epoch(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else ""
