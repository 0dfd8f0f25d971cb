"""Options, progress bars, tables and JSON that the commands share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from gradquake.report.text import Table


__all__ = [
    "Advance", "AsJson", "InterruptError", "Jobs", "Scheduler", "StudyFile", "Where", "integers",
    "print_json", "print_table", "progress", "say", "settings_of",
]  # fmt: skip


class Advance(Protocol):
    """Tells a progress bar that a stage has done some more runs, or steps of a known number."""

    def __call__(self, stage: str, runs: int, of: int | None = None) -> None:
        """Advance the bar of a stage."""
        ...


Jobs = Annotated[
    int | None,
    typer.Option(help="Number of processes; default: one for each core. Results do not depend on it."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler whose workers to use, as tcp://host:8786."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
StudyFile = Annotated[
    Path,
    typer.Argument(help="A study file, as `run`, `measure`, `reproduce` and attach write it."),
]
Where = Annotated[
    list[str] | None, typer.Option(help="Choose one sweep by a setting, as name=value; may be repeated.")
]


class InterruptError(Exception):
    """An interrupt from the keyboard, with a message that says what is kept."""


def say(line: str) -> None:
    """Print a line with control codes as escapes, since it may quote a file or a name."""
    from gradquake.errors import printable

    print(printable(line))


def integers(name: str, text: str) -> list[int]:
    """Return integers separated by commas; ``name`` is the option that holds them."""
    from gradquake.errors import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{name} is {text!r}; integers separated by commas are needed, such as 20,50,120"
        ) from None


def settings_of(pairs: list[str], option: str = "--where") -> dict[str, Any]:
    """Return settings given as name=value; a value is JSON if it can be, and text if not."""
    from gradquake.errors import InputError

    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InputError(f"{option} is {pair!r}; name=value is needed")
        try:
            settings[name] = json.loads(value)
        except (ValueError, RecursionError):  # it is not JSON, or too deeply nested
            settings[name] = value
    return settings


@contextmanager
def progress(total: int | None = None, unit: str | None = None) -> Iterator[Advance]:
    """Show progress bars on stderr, one for each stage; ``total`` is the number of runs, if known.

    An interrupt ends with a message that says what is kept.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[count]:>14}"),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    begun: list[tuple[str, TaskID]] = []

    def advance(stage: str, runs: int, of: int | None = None) -> None:
        # The bar starts at the first progress, so that errors in the input come before it.
        bar.start()
        if not begun or begun[-1][0] != stage:
            finish()
            # Only the number of runs is known, and the first stage measures them.
            begun.append((stage, bar.add_task(stage, total=None if begun else total, count="")))
        task = begun[-1][1]
        bar.advance(task, runs)
        if of is not None:
            bar.update(task, total=of, count=f"{bar.tasks[-1].completed:.0f}/{of} {unit or 'steps'}")
        elif len(begun) == 1 and total is not None:
            bar.update(task, count=f"{bar.tasks[0].completed:.0f}/{total} {unit or 'runs'}")

    def finish() -> None:
        for _, task in begun if total is None else begun[1:]:
            bar.update(task, total=1, completed=1)

    try:
        yield advance
        finish()
    except KeyboardInterrupt:
        kept = "; what was finished is kept, and the same command continues from there"
        raise InterruptError(f"interrupted{kept if total is not None else ''}") from None
    finally:
        if bar.live.is_started:
            bar.stop()


def print_table(table: Table) -> None:
    """Print a table and its note."""
    from gradquake.report.console import console, renderables

    to = console()
    for part in renderables(table):
        to.print(part, highlight=False)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    from gradquake.report.json import written

    print(written(value))
