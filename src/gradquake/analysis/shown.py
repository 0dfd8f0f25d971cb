"""How results are shown: one line of text each, and a table in a notebook."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping

__all__ = ["Shown", "interval_text", "number_text", "time_text"]


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


def number_text(value: float) -> str:
    """Return a number with three decimals, fewer from 100 up; "not defined" for NaN."""
    if not math.isfinite(value):
        return "not defined"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def interval_text(value: float, low: float, high: float) -> str:
    """Return a value and its interval; the value alone if there is no interval."""
    if low != low or high != high:
        return number_text(value)
    return f"{number_text(value)} [{number_text(low)}, {number_text(high)}]"


def time_text(value: float, low: float, high: float) -> str:
    """Return an epoch and its interval; the epoch alone if an end is not finite."""
    if not math.isfinite(value):
        return "not defined"
    if not math.isfinite(low + high):
        return f"{value:.0f}"
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"
