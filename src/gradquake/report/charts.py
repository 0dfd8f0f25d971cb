"""Charts as SVG: this module computes where everything stands, and the templates place it.

A chart is drawn without a script. Its numbers go along as JSON, from which the script of a page reads
values aloud and draws a part of the chart larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.analysis.live import thinned
from gradquake.analysis.shown import bracketed, number
from gradquake.report.axes import Axis, range_of, short
from gradquake.report.text import Table

__all__ = ["MOST_COLUMNS", "Chart", "Forest", "Level", "Range", "Row", "Series", "extremes"]

Floats = NDArray[np.float64]

# A long curve is divided into this many parts, and the extremes of each part are drawn.
MOST_COLUMNS = 1000

# The rows of the table below a chart; every number of longer ones is in the JSON of `analyze`.
MOST_ROWS = 60

# The drawing, in its own units: its size, and the space for the labels of the axes.
WIDTH, HEIGHT = 440, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 14, 36

# Columns of a forest: the names, the axis, and the values as text.
NAMES, AXIS, ROW_HEIGHT = 142, 140, 19


def extremes(*curves: Floats, columns: int = MOST_COLUMNS) -> NDArray[np.intp]:
    """Return the indices at which curves are drawn: all, or the extremes if there are many.

    Long curves are divided into ``columns`` equal parts. Each part keeps its first index, and for
    each curve those of the smallest, the largest and a missing value. A panel has fewer pixels than
    there are parts, so the drawing does not change.
    """
    n = len(curves[0])
    if n <= 2 * columns:
        return np.arange(n)
    starts = np.linspace(0, n, columns + 1).astype(np.intp)[:-1]
    seen = [starts, np.array([n - 1])]
    part = np.searchsorted(starts, np.arange(n), side="right")
    for curve in curves:
        # Sorted by part and then by value, with NaN last: the first of each part is its smallest.
        for key in (curve, -curve, ~np.isnan(curve)):
            seen.append(np.lexsort((key, part))[starts])
    return np.unique(np.concatenate(seen))


class Level(NamedTuple):
    """A horizontal line with a label."""

    y: float
    label: str


class Range(NamedTuple):
    """A range of x with a label."""

    low: float
    high: float
    label: str


class Point(NamedTuple):
    """A point in the drawing with the ends of its interval, which may be missing."""

    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Series:
    """A curve or points of a chart.

    Attributes
    ----------
    name : str
        Series of one name are switched on and off together, in all charts of a page.
    color : str
        One of the colors of the style sheet, "c0" to "c6" or "n0" to "n7".
    x, value, low, high : array, shape (points,)
        NaN if a number is missing.
    style : {"line", "points"}
        A line has its interval as a band, points have theirs as bars.
    shift : float
        How far to the right it is drawn, so that points of several series do not hide each other.
    """

    name: str
    color: str
    x: Floats
    value: Floats
    low: Floats
    high: Floats
    style: Literal["line", "points"] = "line"
    shift: float = 0.0


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart of curves or points, with its intervals.

    Attributes
    ----------
    title, x_label, y_label : str
    series : sequence of Series
    caption : str
        Sentences below the chart: how to read it, and its cautions.
    log : bool
        Whether both axes are logarithmic.
    levels, spans : tuple
        Lines and ranges that the series are compared with.
    link : str
        Charts of one link share their x axis: what is read or enlarged in one is in all of them.
    marks : tuple of (str, str)
        Names and values of switches, as ("statistic", "max"): a page shows only charts whose values
        are chosen.
    cautions : tuple of str
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    caption: str = ""
    log: bool = False
    levels: tuple[Level, ...] = ()
    spans: tuple[Range, ...] = ()
    link: str = ""
    marks: tuple[tuple[str, str], ...] = ()
    cautions: tuple[str, ...] = ()

    width = WIDTH
    height = HEIGHT
    left = LEFT
    top = TOP
    inner_width = WIDTH - LEFT - RIGHT
    inner_height = HEIGHT - TOP - BOTTOM

    @property
    def is_empty(self) -> bool:
        """Whether no series has a value."""
        return not any(np.isfinite(of.value).any() for of in self.series)

    @cached_property
    def x_axis(self) -> Axis:
        """The x axis, in the coordinates of the inner drawing."""
        xs = np.concatenate([of.x[np.isfinite(of.value)] for of in self.series])
        return Axis(*range_of(xs, self.log, 0.06 if self.log else 0.02), self.log, 0, self.inner_width)

    @cached_property
    def y_axis(self) -> Axis:
        """The y axis: all values, and all but the widest intervals."""
        values = [of.value for of in self.series] + [np.array([level.y for level in self.levels])]
        for of in self.series:
            ends = np.concatenate([of.low, of.high])
            ends = ends[np.isfinite(ends) & ((ends > 0) | (not self.log))]
            if ends.size:
                values.append(np.quantile(ends, [0.04, 0.96]))
        return Axis(*range_of(np.concatenate(values), self.log, 0.06), self.log, self.inner_height, 0)

    def path(self, of: Series) -> str:
        """Return the line of a series, with a gap at each missing value."""
        parts = [
            "M" + "L".join(f"{short(x):g},{short(y):g}" for x, y in zip(*run, strict=True))
            for run in _runs(self.x_axis.at(of.x), self._y_at(of.value))
        ]
        return "".join(parts)

    def band(self, of: Series) -> str:
        """Return the interval of a line as an area."""
        parts = []
        low, high = self._y_at(of.low), self._y_at(of.high)
        for x, bottom, top in _runs(self.x_axis.at(of.x), low, high):
            outline = [*zip(x, top, strict=True), *zip(x[::-1], bottom[::-1], strict=True)]
            parts.append("M" + "L".join(f"{short(a):g},{short(b):g}" for a, b in outline) + "Z")
        return "".join(parts)

    def points(self, of: Series) -> Iterator[Point]:
        """Yield the points of a series, and of a line those that have no neighbor."""
        x, y = self.x_axis.at(of.x) + of.shift, self._y_at(of.value)
        low, high = self._y_at(of.low), self._y_at(of.high)
        known = np.isfinite(y)
        beside = np.zeros_like(known)
        beside[1:] |= known[:-1]
        beside[:-1] |= known[1:]
        for k in np.flatnonzero(known & (~beside if of.style == "line" else True)):
            ends = (float(low[k]), float(high[k])) if np.isfinite([low[k], high[k]]).all() else None
            yield Point(short(x[k]), short(y[k]), *(map(short, ends) if ends else (None, None)))

    def level_at(self, level: Level) -> float:
        """Return the height of a level in the drawing."""
        return short(float(self._y_at(np.array([level.y]))[0]))

    def span_at(self, span: Range) -> tuple[float, float]:
        """Return the start and the width of a range in the drawing."""
        start, end = self.x_axis.at(np.array([span.low, span.high]))
        return short(start), short(max(end - start, 1))

    def _y_at(self, values: Floats) -> Floats:
        # Far outside the drawing, a number is drawn as far as renderers can go.
        with np.errstate(invalid="ignore", divide="ignore"):
            places = self.y_axis.at(np.where(values > 0, values, np.nan) if self.log else values)
        return np.clip(places, -9999, 9999)

    @property
    def data(self) -> dict[str, Any]:
        """The numbers of the chart for the script of a page; None for missing ones."""
        return {
            "x": [self.x_axis.low, self.x_axis.high],
            "y": [self.y_axis.low, self.y_axis.high],
            "log": self.log,
            "xLabel": self.x_label,
            "link": self.link,
            "series": [
                {
                    "name": of.name,
                    "style": of.style,
                    "shift": of.shift,
                    **{name: _numbers(getattr(of, name)) for name in ("x", "value", "low", "high")},
                }
                for of in self.series
            ],
        }

    @cached_property
    def table(self) -> Table:
        """The numbers of the chart as a table of at most ``MOST_ROWS`` rows."""
        by_x: list[dict[float, str]] = [
            {
                float(x): bracketed(float(value), float(low), float(high))
                for x, value, low, high in zip(of.x, of.value, of.low, of.high, strict=True)
            }
            for of in self.series
        ]
        every = sorted({x for of in by_x for x in of})
        shown = [every[k] for k in thinned(len(every), MOST_ROWS)] if every else []
        left_out = len(every) - len(shown)
        return Table(
            self.title,
            (self.x_label, *(of.name.replace("_", " ") for of in self.series)),
            [(number(x), *(of.get(x, "") for of in by_x)) for x in shown],
            "Brackets: 95 % intervals."
            + (
                f" {left_out} rows are left out; `gradquake analyze --json` has all." if left_out else ""
            ),
        )


@dataclass(frozen=True)
class Row:
    """A number with its interval, as a row of a ``Forest``.

    Attributes
    ----------
    name : str
        Rows of one name are switched on and off with the series of this name.
    label : str
    color : str
        As that of a series.
    value, low, high : float
    text : str
        The number and its interval for a reader.
    """

    name: str
    label: str
    color: str
    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Forest:
    """Numbers with their intervals below each other, on one axis.

    Attributes
    ----------
    title : str
    rows : sequence of Row
    level : float or None
        A number to compare with, drawn as a line.
    caption : str
    marks, cautions
        As those of a chart.
    """

    title: str
    rows: Sequence[Row]
    level: float | None = None
    caption: str = ""
    marks: tuple[tuple[str, str], ...] = ()
    cautions: tuple[str, ...] = ()

    width = WIDTH
    names = NAMES
    axis_width = AXIS
    row_height = ROW_HEIGHT

    @property
    def is_empty(self) -> bool:
        """Whether no row has a value."""
        return not any(math.isfinite(row.value) for row in self.rows)

    @property
    def height(self) -> int:
        """The height of the drawing."""
        return ROW_HEIGHT * len(self.rows) + 24

    @cached_property
    def x_axis(self) -> Axis:
        """The axis of the numbers."""
        ends = [end for row in self.rows for end in (row.value, row.low, row.high)]
        found = np.array([*ends, *([] if self.level is None else [self.level])], np.float64)
        return Axis(*range_of(found, False, 0.05), False, 0, AXIS)

    def at(self, value: float) -> float | None:
        """Return the place of a number on the axis; None if it is not finite."""
        return short(float(self.x_axis.at(np.array([value]))[0])) if math.isfinite(value) else None


def _runs(x: Floats, *columns: Floats) -> Iterator[tuple[Floats, ...]]:
    """Yield the parts of curves without a missing value that have at least two points."""
    known = np.isfinite(x) & np.all([np.isfinite(of) for of in columns], axis=0)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]])))
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        if end - start > 1:
            yield tuple(of[start:end] for of in (x, *columns))


def _numbers(values: Floats) -> list[float | None]:
    """Return numbers with seven digits, and None for those that are missing."""
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values.tolist()]
