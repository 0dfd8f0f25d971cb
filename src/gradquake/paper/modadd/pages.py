"""The results of modular addition, as tables for a reader and as an object for a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradquake.analysis.early_warning import Separation
from gradquake.analysis.shown import number
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.transitions import PHASES
from gradquake.paper.modadd.evidence import Evidence, Found
from gradquake.paper.modadd.plan import ARCHITECTURES, CONTROLS
from gradquake.paper.modadd.statements import Asked, Beside
from gradquake.paper.modadd.views import ALIGNMENTS, LEVELS, Level, View
from gradquake.paper.modadd.warning import WARNINGS
from gradquake.paper.output import as_json
from gradquake.report.json import (
    attribution_json,
    collapse_json,
    curve_json,
    estimate_json,
    exponents_json,
    finite,
)
from gradquake.report.tables import SYMBOLS, attribution_table, exponents_table
from gradquake.report.text import Table, quality_of, time_with_interval, with_interval

__all__ = ["as_object", "documents", "page", "tables"]

UNTESTABLE = (
    "A condition is missing if the limit of steps ended more than half of the avalanches of some width: "
    "their sizes are lower bounds, and give no exponent."
)

# The epochs at which the early warning is told; at later ones some runs have grokked.
WARNED_AT = (0, 50, 100, 150, 200, 250)

SUBJECT = ("architecture", "condition")


def documents(evidence: Evidence) -> dict[str, str]:
    """Return the files for a reader and for programs: their texts by name."""
    return {"modadd.md": page(evidence), "modadd.json": as_json(as_object(evidence))}


def page(evidence: Evidence) -> str:
    """Return all results as a Markdown page of tables."""
    return "# Modular addition\n\n" + "\n".join(table.markdown() for table in tables(evidence))


def tables(evidence: Evidence) -> list[Table]:
    """Return all results as tables."""
    pages = [grokking_table(evidence), *(medians_table(evidence, level) for level in LEVELS[2:])]
    pages += [truncated_table(evidence), statements_table(evidence), times_table(evidence)]
    pages += [pooled_table(evidence), warnings_table(evidence)]
    for architecture, condition, found in _with_exponents(evidence):
        for table in (exponents_table(found.ladder), attribution_table(found.ladder)):
            pages.append(replace(table, title=f"{table.title}, {architecture}, {condition}"))
    return pages


def _with_exponents(evidence: Evidence) -> Iterator[tuple[str, str, Found]]:
    return ((a, c, found) for a, c, found in evidence.subjects if not found.untestable)


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


def medians_table(evidence: Evidence, level: Level) -> Table:
    """Return the median epoch of a test accuracy at every width."""
    widths = sorted({w for *_, found in evidence.subjects for w in found.medians[level]})
    rows = [
        (*subject, *(_epoch(found.medians[level].get(width, np.inf)) for width in widths))
        for *subject, found in evidence.subjects
    ]
    return Table(
        f"Median epoch of {level.accuracy:.0%} test accuracy by width",
        (*SUBJECT, *(f"d = {width}" for width in widths)),
        rows,
        "A cell is empty if the architecture has no such width, or if at most half of the runs reach "
        "the accuracy, so that their median is not defined.",
    )


def statements_table(evidence: Evidence) -> Table:
    """Return the numbers that claims are judged by: on the null too, and without each width."""
    rows = [
        (architecture, SYMBOLS[statistic], *_asked(asked), *_beside(beside, widths))
        for widths in [_widths(evidence)]
        for architecture, of_statistic in evidence.statements.items()
        for statistic, of_asked in of_statistic.items()
        for asked, beside in of_asked.items()
    ]
    return Table(
        "The statements, with all widths and without each",
        (
            "architecture", "exponent", "number", "of", "all widths", "permuted null",
            "widest without any one width", *(f"without d = {width}" for width in _widths(evidence)),
        ),
        rows,
        "Every number is taken from the epoch at which training accuracy saturates (0.99). Crossings of "
        "1 count up and down. The widest interval holds that of all widths and those without each. "
        f'"None" is infinitely late. {UNTESTABLE}',
    )  # fmt: skip


def times_table(evidence: Evidence) -> Table:
    """Return the range of D(t) on every kind of time, beside its permuted null."""
    rows = [
        (*subject, alignment, SYMBOLS[statistic], *_spans(view), ", ".join(map(str, view.left_out)))
        for *subject, found in _with_exponents(evidence)
        for alignment in ALIGNMENTS
        for statistic in STATISTICS
        if (view := found.view(alignment, statistic)) is not None
    ]
    return Table(
        "D(t) on three kinds of time",
        (
            *SUBJECT, "time", "exponent", "lowest D(t)", "highest", "at the end",
            "lowest of the permuted null", "highest", "without d",
        ),
        rows,
        "Since train saturation: each run is read from its first snapshot at a train accuracy of 0.99. "
        "Since grokking: each run is read from its first snapshot at a test accuracy of 0.9. Both leave "
        f"out the widths at which fewer than half of the runs have such a snapshot. {UNTESTABLE}",
    )  # fmt: skip


def pooled_table(evidence: Evidence) -> Table:
    """Return the exponents of all phases, and the part of the arrangement."""
    rows = []
    for *subject, found in _with_exponents(evidence):
        for statistic in STATISTICS:
            for phase in PHASES:
                real = found.ladder.exponent("real", phase, statistic)
                arrangement = found.ladder.arrangement(phase, statistic)
                cells = (with_interval(real), with_interval(arrangement), number(real.fit.r_squared))
                rows.append((*subject, SYMBOLS[statistic], phase, *cells))
    header = (*SUBJECT, "exponent", "phase", "D or gamma", "real - permuted", "R²")
    return Table("Exponents pooled over snapshots", header, rows, UNTESTABLE)


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
    measured = evidence.warnings[ARCHITECTURES[0]][CONTROLS[0]][WARNINGS[0]].epochs.tolist()
    epochs = [epoch for epoch in WARNED_AT if epoch in measured]
    for architecture, control, name, found in _warnings(evidence):
        at = dict(zip(found.epochs.tolist(), found.area, strict=True))
        rows.append((architecture, control, name, *(with_interval(at[epoch]) for epoch in epochs)))
    return Table(
        "Early warning: area under the ROC",
        ("architecture", "control", "number", *(f"epoch {epoch}" for epoch in epochs)),
        rows,
        "Take a run that will grok and one of the control, of one width: the area is how often the "
        "first has the higher number. 1/2 tells nothing; 0 tells as much as 1. Each control is compared "
        "alone. All runs of a seed have one D, which counts once; it is missing if sizes are truncated.",
    )


def as_object(evidence: Evidence) -> dict[str, object]:
    """Return all results as JSON values, by architecture and condition."""
    result: dict[str, object] = {f"{a}, {c}": _found_json(found) for a, c, found in evidence.subjects}
    result["statements"] = {
        ", ".join(filter(None, (architecture, statistic, *asked))): {
            "widest": {"low": finite(widest.low), "high": finite(widest.high)},
            "all_widths": estimate_json(beside.real.all_scales),
            "permuted": estimate_json(beside.permuted.all_scales),
            "without": {str(w): estimate_json(of) for w, of in beside.real.without.items()},
        }
        for architecture, of_statistic in evidence.statements.items()
        for statistic, of_asked in of_statistic.items()
        for asked, beside in of_asked.items()
        for widest in [beside.real.widest]
    }
    result["early_warning"] = {
        f"{architecture}, {control}, {name}": {
            "epoch": found.epochs.tolist(),
            "area": [estimate_json(area) for area in found.area],
        }
        for architecture, control, name, found in _warnings(evidence)
    }
    return result


def _warnings(evidence: Evidence) -> Iterator[tuple[str, str, str, Separation]]:
    for architecture, of_control in evidence.warnings.items():
        for control, of_name in of_control.items():
            for name, found in of_name.items():
                yield architecture, control, name, found


def _found_json(found: Found) -> dict[str, object]:
    result: dict[str, object] = {
        "runs": found.runs,
        "grokked": found.grokked,
        "lasted": found.lasted,
        "first_snapshot": {
            str(level).replace(" ", "_"): estimate_json(found.levels[level]) for level in LEVELS
        },
        "truncated": {str(width): share for width, share in found.truncated.items()},
        "untestable": found.untestable,
    }
    if found.untestable:
        return result
    dimension = {
        f"{alignment}, {statistic}": curve_json(view.real)
        for alignment, of_each in found.views.items()
        for statistic, view in of_each.items()
    }
    return result | {
        "exponents": exponents_json(found.ladder.real),
        "attribution": attribution_json(found.ladder),
        "dimension": dimension,
        "collapse": collapse_json(found.collapse),
    }


def _widths(evidence: Evidence) -> list[int]:
    return sorted(
        {
            width
            for of_statistic in evidence.statements.values()
            for of_asked in of_statistic.values()
            for beside in of_asked.values()
            for width in beside.real.without
        }
    )


def _asked(asked: Asked) -> tuple[str, str]:
    return asked.kind, asked.of


def _beside(beside: Beside, widths: list[int]) -> tuple[str, ...]:
    """Return a number with all widths, its null, its widest interval, and it without each width."""
    real, widest = beside.real, beside.real.widest
    found = [real.all_scales, beside.permuted.all_scales]
    ends = f"{number(widest.low)} to {number(widest.high)}"
    without = [with_interval(real.without[w]) if w in real.without else "" for w in widths]
    return (*map(with_interval, found), ends, *without)


def _spans(view: View) -> tuple[str, ...]:
    null = view.null.span
    return (*map(number, view.real.span), number(null.lowest), number(null.highest))


def _epoch(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else ""
