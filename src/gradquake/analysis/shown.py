"""Numbers and JSON as text, and how results are shown: a line of text, and a table in a notebook."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping

__all__ = ["Shown", "bracketed", "json_text", "number"]


class Shown:
    """A result that shows itself as text: a title with one line, or above several named lines."""

    @property
    def text(self) -> str:
        """The result in a line, without its title."""
        return "; ".join(f"{name} {line}".strip() for name, line in self._lines().items())

    @property
    def _title(self) -> str:
        return type(self).__name__

    def _lines(self) -> Mapping[str, str]:
        """Return texts by name; the name "" puts a text on the line of the title."""
        raise NotImplementedError

    def __repr__(self) -> str:
        lines = dict(self._lines())
        first = lines.pop("", None)
        title = self._title if first is None else f"{self._title}: {first}"
        width = max(map(len, lines), default=0)
        return "\n".join([title, *(f"  {name:{width}}  {line}" for name, line in lines.items())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(line)}</td></tr>"
            for name, line in self._lines().items()
        )
        return f"<table><caption>{html.escape(self._title)}</caption>{rows}</table>"


def number(value: float | None, decimals: int | None = None) -> str:
    """Return a number as short text, or with a number of decimals; "none" if it is not finite."""
    if value is None or not math.isfinite(value):
        return "none"
    if decimals is not None:
        # Plus 0, so that a small negative number is not shown as -0.
        return f"{round(value, decimals) + 0.0:.{decimals}f}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    if abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def bracketed(
    value: float | None, low: float | None, high: float | None, decimals: int | None = None
) -> str:
    """Return a value and its interval; the value alone if there is no interval."""
    shown = number(value, decimals)
    if low is None or high is None or math.isnan(low):
        return shown
    ends = number(low, decimals), number(high, decimals)
    if math.isinf(high):
        return f"{shown} [{ends[0]} or more]"
    return f"{shown} [{ends[1]} or less]" if math.isinf(low) else f"{shown} [{', '.join(ends)}]"


def json_text(value: object) -> str:
    """Return JSON in ASCII, so that no control code reaches a terminal."""
    # DEL is the only control code that JSON leaves as it is.
    return json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f")
