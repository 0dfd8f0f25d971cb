"""What modular addition gave, as tables for a reader and as an object for a program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradquake.analysis.scaling import STATISTICS
from gradquake.paper.modadd.evidence import (
    ALIGNMENTS,
    ARCHITECTURES,
    LEVELS,
    WARNINGS,
    Evidence,
    Found,
    View,
)
from gradquake.report import json as report_json
from gradquake.report import tables
from gradquake.report.tables import SYMBOLS
from gradquake.report.text import Table, number, quality_of, time_with_interval, with_interval

TEST_90 = ("accuracy", 0.9)
SETS = {"train_accuracy": "train", "accuracy": "test"}
# Epochs at which the early warning is told, where the runs have not grokked yet.
WARNED_AT = (0, 50, 100, 150, 200, 250)


def page(evidence: Evidence) -> str:
    """Return everything that was measured as a Markdown page of tables."""
    pages = [grokking_table(evidence), medians_table(evidence), times_table(evidence)]
    pages += [excess_table(evidence), truncated_table(evidence), warnings_table(evidence)]
    for (architecture, condition), found in evidence.found.items():
        name = f"{architecture}, {condition}"
        for table in (tables.exponents_table(found.ladder), tables.attribution_table(found.ladder)):
            pages.append(replace(table, title=f"{table.title}, {name}"))
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
        for subject, found in evidence.found.items()
    ]
    header = ("architecture", "condition", "grokked", "lasted")
    levels = tuple(f"{SETS[name]} {level:g}" for name, level in LEVELS)
    return Table(
        "First snapshot at an accuracy, median over runs",
        header + levels,
        rows,
        "Grokked: reached a test accuracy of 0.9. Lasted: and stays at 0.85 or above from then on. A "
        "run that never reaches an accuracy counts as infinitely late.",
    )


def medians_table(evidence: Evidence) -> Table:
    """Return the median grokking epoch of every width."""
    widths = sorted({w for found in evidence.found.values() for w in found.medians[TEST_90]})
    rows = [
        (*subject, *(_epoch(found.medians[TEST_90].get(width)) for width in widths))
        for subject, found in evidence.found.items()
    ]
    return Table(
        "Median epoch of 90 % test accuracy by width",
        ("architecture", "condition", *(f"d = {width}" for width in widths)),
        rows,
    )


def times_table(evidence: Evidence) -> Table:
    """Return when D(t) crosses 1, on every kind of time."""
    rows = []
    for subject, found in evidence.found.items():
        for alignment in ALIGNMENTS:
            for statistic in STATISTICS:
                view = found.views.get((alignment, statistic))
                if view is not None:
                    left_out = ", ".join(map(str, view.left_out))
                    rows.append((*subject, alignment, SYMBOLS[statistic], *_crossings(view), left_out))
    return Table(
        "D(t) on three kinds of time",
        (
            "architecture", "condition", "time", "exponent", "lowest D(t)", "highest", "at the end",
            "crosses 1 up", "crosses 1 down", "lowest of the permuted null", "highest", "without d",
        ),
        rows,
        "Since train saturation: each run read from its first snapshot at a train accuracy of 0.99. "
        "Since grokking: from its first at a test accuracy of 0.9. Both without the widths at which "
        "fewer than half of the runs have one.",
    )  # fmt: skip


def excess_table(evidence: Evidence) -> Table:
    """Return what arrangement accounts for, before and after each run's grokking epoch."""
    rows = []
    for subject, found in evidence.found.items():
        for statistic in STATISTICS:
            for phase in ("all", "pre", "post"):
                real = found.ladder.exponent("real", phase, statistic)
                rows.append(
                    (
                        *subject,
                        SYMBOLS[statistic],
                        phase,
                        with_interval(real),
                        with_interval(found.ladder.arrangement(phase, statistic)),
                        number(real.fit.r_squared),
                    )
                )
    return Table(
        "Exponents pooled over snapshots",
        ("architecture", "condition", "exponent", "phase", "D or gamma", "real - permuted", "R²"),
        rows,
    )


def truncated_table(evidence: Evidence) -> Table:
    """Return the share of truncated avalanches by width, and the collapse."""
    widths = sorted({w for found in evidence.found.values() for w in found.truncated})
    rows = [
        (
            *subject,
            *(f"{found.truncated[w]:.1%}" if w in found.truncated else "" for w in widths),
            quality_of(found.collapse),
        )
        for subject, found in evidence.found.items()
    ]
    return Table(
        "Avalanches that the limit of 20 steps ended",
        ("architecture", "condition", *(f"d = {width}" for width in widths), "collapse S"),
        rows,
        "S after Houdayer and Hartmann (2004), of all snapshots: 1 for a collapse within the errors.",
    )


def warnings_table(evidence: Evidence) -> Table:
    """Return how well numbers tell early which runs will grok."""
    rows = []
    measured = next(iter(evidence.warnings.values())).epochs.tolist()
    epochs = [epoch for epoch in WARNED_AT if epoch in measured]
    for architecture in ARCHITECTURES:
        for name in WARNINGS:
            found = evidence.warnings[architecture, name]
            at = dict(zip(found.epochs.tolist(), found.area, strict=True))
            rows.append((architecture, name, *(with_interval(at[epoch]) for epoch in epochs)))
    return Table(
        "Early warning: area under the ROC",
        ("architecture", "number", *(f"epoch {epoch}" for epoch in epochs)),
        rows,
        "Of a run that will grok and one that will not, of one width: how often the first has the "
        "higher number. 1/2 tells nothing; 0 tells as much as 1. Runs of the grokking condition and of "
        "the two controls. The D of a seed is one number for all its runs, and counted once.",
    )


def as_object(evidence: Evidence) -> dict[str, Any]:
    """Return everything as JSON values, by architecture and condition."""
    result: dict[str, Any] = {
        f"{architecture}, {condition}": _found_json(found)
        for (architecture, condition), found in evidence.found.items()
    }
    result["parting"] = {
        f"{a}, {c}, {s}": report_json.finite(value) for (a, c, s), value in evidence.parting.items()
    }
    result["early_warning"] = {
        f"{architecture}, {name}": {
            "epoch": found.epochs.tolist(),
            "area": [report_json.estimate_json(area) for area in found.area],
        }
        for (architecture, name), found in evidence.warnings.items()
    }
    return result


def _found_json(found: Found) -> dict[str, Any]:
    return {
        "runs": found.runs,
        "grokked": found.grokked,
        "lasted": found.lasted,
        "first_snapshot": {
            f"{SETS[name]}_{level:g}": report_json.estimate_json(found.levels[name, level])
            for name, level in LEVELS
        },
        "truncated": {str(width): share for width, share in found.truncated.items()},
        "exponents": {s: report_json.exponents_json(found.ladder.real, s) for s in STATISTICS},
        "attribution": {s: report_json.attribution_json(found.ladder, s) for s in STATISTICS},
        "D_t": {
            f"{alignment}, {statistic}": {
                **report_json.curve_json(view.real),
                "crossing_down": report_json.estimate_json(view.down),
            }
            for (alignment, statistic), view in found.views.items()
        },
        "collapse": report_json.collapse_json(found.collapse),
    }


def _crossings(view: View) -> tuple[str, ...]:
    real, null = (curve.dimension["value"].values for curve in (view.real, view.null))
    known = real[np.isfinite(real)]
    return (
        number(float(np.nanmin(real))), number(float(np.nanmax(real))), number(float(known[-1])),
        time_with_interval(view.up), time_with_interval(view.down),
        number(float(np.nanmin(null))), number(float(np.nanmax(null))),
    )  # fmt: skip


def _epoch(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if np.isfinite(value) else "never"
