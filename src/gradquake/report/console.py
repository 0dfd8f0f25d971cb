"""Tables of text on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gradquake.report.text import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["console", "renderables"]

# The width of the output in a file or a pipe.
WIDTH = 160


def console() -> Console:
    """Return the console of the standard output, wide enough that nothing wraps in a file or a pipe."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def renderables(table: Table) -> list[RenderableType]:
    """Return a table with narrow margins, so that many columns fit on 80 characters, and its note.

    As Text, in which square brackets and colons mean nothing to rich.
    """
    shown = RichTable(
        title=Text(table.title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    first = table.rows[0] if table.rows else table.header
    for name, of_first in zip(table.header, first, strict=True):
        shown.add_column(Text(name), justify="right" if of_first[:1].isdigit() else "left")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return [shown, Text(table.note)] if table.note else [shown]
