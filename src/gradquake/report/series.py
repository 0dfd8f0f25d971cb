"""A measured series as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from gradquake.analysis.shown import bracketed, number
from gradquake.errors import printable
from gradquake.files.series import Measurement, Series
from gradquake.report.text import Table

__all__ = ["series_table"]

TERMS = (
    "i/s: the share of the size that needs no neighbor; T: steps of the cascade; cut: ended by "
    "max_steps; angle: degrees it turned the gradient."
)
NULLS = (
    "gaussian: random numbers; permuted: the gradient's own, in random places; sign flipped: its own in "
    "place, with random signs."
)
P_VALUE = "p: (1 + draws at least as large) / (1 + draws)."

COLUMNS = ("i/s", "T", "cut", "angle", "threshold")


def series_table(series: Series) -> Table:
    """Return a series for a reader: a row for each gradient; for a single one, a row for each null."""
    probe = series.probe
    title = (
        f"N = {series.n_parameters}, {probe.topology}, alpha {probe.alpha:g}, "
        f"quantile {probe.quantile:g}"
    )
    if len(series) == 1:
        return _table_of_one(series[0], title)
    rungs = [rung.replace("_", " ") for rung in series[0].nulls]
    pattern, sources = _sources(series)
    terms = f"{TERMS} Nulls: sizes. {NULLS}" if rungs else TERMS
    if series.differences:
        first = printable(str(series.paths[0]))
        terms = f"Each row is its file minus the file before, the first minus {first}. {terms}"
    return Table(
        f"{pattern}: {title}",
        ("step", "size", *COLUMNS, *rungs),
        [_row(one) for one in series],
        terms + sources,
    )


def _row(one: Measurement) -> tuple[str, ...]:
    nulls = (bracketed(null.value, null.low, null.high) for null in one.nulls.values())
    return (str(one.step), number(one.avalanche.size), *_cells(one), *nulls)


def _cells(one: Measurement) -> tuple[str, ...]:
    found = one.avalanche
    return (
        number(found.isolated_share),
        number(found.duration),
        "yes" if found.truncated else "no",
        number(found.deviation),
        number(found.threshold),
    )


def _table_of_one(one: Measurement, title: str) -> Table:
    rows = [("real", number(one.avalanche.size), *_cells(one), "")]
    for rung, null in one.nulls.items():
        count = len(null.draws)
        cut = f"{null.truncated} of {count}" if count > 1 else "yes" if null.truncated else "no"
        rows.append(
            (
                rung.replace("_", " "),
                bracketed(null.value, null.low, null.high),
                number(null.isolated_share),
                number(null.duration),
                cut,
                number(null.deviation),
                number(null.threshold),
                "" if null.p_value is None else number(null.p_value),
            )
        )
    header = ("gradient", "size [95 %]", *COLUMNS, "p")
    title = f"{printable(one.source)}: {title}"
    if one.nulls:
        return Table(title, header, rows, f"{TERMS} {P_VALUE} {NULLS}")
    return Table(title, header[:-1], [row[:-1] for row in rows], TERMS)


def _sources(series: Series) -> tuple[str, str]:
    """Return the common part of the paths, with a * for the rest; and a line for each path.

    The lines are empty if the rest of every path is its step.
    """
    paths = [printable(str(path)) for path in series.paths]
    start = re.sub("[0-9]+$", "", _shared_start(paths))
    rest = [path[len(start) :] for path in paths]
    end = re.sub("[0-9]+$", "", _shared_start([path[::-1] for path in rest]))[::-1]
    rows = paths[1:] if series.differences else paths
    steps = [one.step for one in series]
    told = all(
        re.fullmatch(f"0*{step}", path[len(start) : len(path) - len(end)])
        for path, step in zip(rows, steps, strict=True)
    )
    lines = [f"\nstep {step}: {path}" for step, path in zip(steps, rows, strict=True)]
    return f"{start}*{end}", "" if told else "".join(lines)


def _shared_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False))
    return "".join(character for character, _ in same)
