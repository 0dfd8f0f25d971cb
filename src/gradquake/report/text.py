"""Text for a reader: estimates, times, and tables of them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from gradquake.analysis.collapse import Collapse, quality_decimals
from gradquake.analysis.resampling import FEWEST_RUNS, Estimate
from gradquake.analysis.shown import bracketed, number
from gradquake.errors import printable

__all__ = [
    "ONE_VALUE", "Table", "quality_of", "shown_name", "time_decimals", "time_with_interval",
    "with_interval",
]  # fmt: skip

# Stands beside a value whose interval has no width.
ONE_VALUE = "(one value)"

# A longer name of a tensor is shortened in the middle.
LONGEST_NAME = 30


@dataclass(frozen=True)
class Table:
    """A table of text.

    A study from somebody else may hold control codes; the table holds them as escapes.

    Attributes
    ----------
    title : str
    header : tuple of str
    rows : sequence of tuples of str
    note : str
        What a reader must know to read it.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    def __post_init__(self) -> None:
        """Write control codes as escapes."""
        put = partial(object.__setattr__, self)
        put("title", printable(self.title))
        put("header", tuple(map(printable, self.header)))
        put("rows", [tuple(map(printable, row)) for row in self.rows])
        put("note", "\n".join(map(printable, self.note.split("\n"))))

    def markdown(self) -> str:
        """Return the table as Markdown, its title as a heading."""
        lines = [f"## {self.title}", ""]
        lines += [self.note, ""] if self.note else []
        lines += [f"| {' | '.join(row)} |" for row in (self.header, ("---",) * len(self.header))]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"

    def _repr_html_(self) -> str:
        """Return the table as HTML, its title as the caption."""

        def row(cells: Iterable[str], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

        rows = "".join(row(cells, "td") for cells in self.rows)
        note = "<br>".join(html.escape(line) for line in self.note.split("\n"))
        return (
            f"<table><caption>{html.escape(self.title)}</caption>"
            f"<thead>{row(self.header, 'th')}</thead><tbody>{rows}</tbody></table>"
            f"{f'<p>{note}</p>' if note else ''}"
        )


def with_interval(found: Estimate) -> str:
    """Return an estimate and its interval as text; an interval of no width is told apart."""
    if found.is_one_value:
        return f"{number(found.value)} {ONE_VALUE}"
    return bracketed(found.value, found.low, found.high)


def time_with_interval(found: Estimate) -> str:
    """Return an epoch and its interval, or the share of the resamples that have no such epoch."""
    if not math.isfinite(found.value):
        # NaN: it does not happen. Infinite: fewer than half of the runs get there.
        return "none" if math.isnan(found.value) else "not defined"
    decimals = time_decimals(found)
    shown = number(found.value, decimals)
    if found.is_one_value:
        return f"{shown} {ONE_VALUE}"
    if not math.isnan(found.low):
        return bracketed(found.value, found.low, found.high, decimals)
    return shown if found.runs < FEWEST_RUNS else f"{shown} ({found.invalid:.0%} of resamples without)"


def time_decimals(found: Estimate) -> int:
    """Return the decimals of an epoch: none, or one if its interval is shorter than an epoch."""
    return 1 if 0 < found.high - found.low < 1 else 0


def quality_of(found: Collapse) -> str:
    """Return the S of the best collapse as text, with the decimals that are stable."""
    return number(found.quality, quality_decimals(found.quality))


def shown_name(name: str) -> str:
    """Return a tensor's name on one line, short enough for a label."""
    text = printable(name)
    if len(text) <= LONGEST_NAME:
        return text
    kept = (LONGEST_NAME - 1) // 2
    return f"{text[:kept]}…{text[-kept:]}"
