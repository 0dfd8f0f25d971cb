"""The known exponents beside what the estimators give, as a table and as an object."""

from __future__ import annotations

from gradquake.analysis.shown import bracketed, number
from gradquake.paper.known.evidence import Evidence, Recovery
from gradquake.paper.output import as_json
from gradquake.report.json import finite
from gradquake.report.text import Table

__all__ = ["as_object", "documents", "table"]

NOTE = (
    "Exponents are of the linear size L: P(s) ~ s^(-tau) up to sizes near L^D, mean size ~ L^gamma. z "
    "and tau_T are D and tau of the duration. Intervals are over runs; they do not cover corrections to "
    "scaling. An exponent is recovered if its interval contains the known value. S above 4: no collapse."
)


def table(evidence: Evidence) -> Table:
    """Return the table of all recoveries."""
    rows = []
    for place, one in enumerate(evidence.recoveries):
        before = evidence.recoveries[place - 1] if place else None
        same_model = before is not None and before.model == one.model
        same = same_model and before is not None and before.exponent == one.exponent
        known = "" if one.known.value is None else number(one.known.value)
        rows.append(
            (
                "" if same_model else one.model,
                *(("", "", "") if same else (one.exponent, known, one.known.source)),
                one.estimator,
                bracketed(one.found.value, one.found.low, one.found.high),
                _verdict(one),
            )
        )
    header = (
        "model",
        "exponent",
        "known",
        "source",
        "estimator",
        "estimate [95 % interval]",
        "recovered",
    )
    return Table("Known exponents", header, rows, NOTE)


def as_object(evidence: Evidence) -> list[dict[str, object]]:
    """Return all recoveries as JSON values."""
    return [
        {
            "model": one.model,
            "exponent": one.exponent,
            "expected": one.known.value,
            "source": one.known.source,
            "estimator": one.estimator,
            "value": finite(one.found.value),
            "low": finite(one.found.low),
            "high": finite(one.found.high),
            "recovered": one.recovered,
            "note": one.found.note,
        }
        for one in evidence.recoveries
    ]


def documents(evidence: Evidence) -> dict[str, str]:
    """Return the texts of the files that hold the results, by their names."""
    page = "# Known exponents\n\n" + table(evidence).markdown().split("\n", 2)[2]
    return {"known.md": page, "known.json": as_json(as_object(evidence))}


def _verdict(one: Recovery) -> str:
    if one.recovered is None:
        return one.found.note.split(":")[0]
    return (
        "yes" if one.recovered else f"no{'; ' if one.found.note else ''}{one.found.note.split(':')[0]}"
    )
