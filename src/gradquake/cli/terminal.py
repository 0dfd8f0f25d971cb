"""What commands share: options, progress bars, tables and JSON on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from rich.console import Console

    from gradquake.report.tables import Table


class Advance(Protocol):
    """Says that a stage has come further by some runs or steps, and of how many if that is known."""

    def __call__(self, stage: str, runs: int, of: int | None = None) -> None:
        """Draw it."""
        ...


Jobs = Annotated[
    int | None,
    typer.Option(help="Processes to use; all cores by default. Numbers do not depend on it."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler, as tcp://host:8786, whose workers to use instead."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
StudyFile = Annotated[Path, typer.Argument(help="A study file, as `run` and `reproduce` write it.")]


class _InterruptError(Exception):
    """A stop asked for from the keyboard, once there was something to keep."""


def _say(line: str) -> None:
    """Print a line that may quote a file or a name: no control code reaches the terminal."""
    from gradquake.errors import printable

    print(printable(line))


def _at_least_one(name: str, value: int) -> int:
    from gradquake.errors import require_count

    require_count(name, value, 1)
    return value


@contextmanager
def _executor(jobs: int | None, scheduler: str | None) -> Iterator[Executor | None]:
    from gradquake.errors import require
    from gradquake.study.pools import available_cores, open_executor

    require(
        jobs is None or scheduler is None,
        "--jobs and --scheduler were both given; the workers of a cluster are counted there",
    )
    n_jobs = available_cores() if jobs is None else _at_least_one("--jobs", jobs)
    with open_executor(n_jobs, scheduler) as executor:
        yield executor


def _integers(name: str, text: str) -> list[int]:
    from gradquake.errors import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{name} is {text!r}; integers separated by commas are needed, such as 20,50,120"
        ) from None


def _settings(pairs: list[str], option: str = "--where") -> dict[str, Any]:
    from gradquake.errors import InputError

    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InputError(f"{option} is {pair!r}; name=value is needed")
        try:
            settings[name] = json.loads(value)
        except (ValueError, RecursionError):  # no JSON, or nested too deep
            settings[name] = value
    return settings


@contextmanager
def _progress(total: int | None = None, unit: str | None = None) -> Iterator[Advance]:
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
        # Not before there is progress: what is wrong with the input is found, and said, first.
        bar.start()
        if not begun or begun[-1][0] != stage:
            finish()
            # Only of runs, which are measured first, is it known how many there are.
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
        raise _InterruptError(f"interrupted{kept if total is not None else ''}") from None
    finally:
        if bar.live.is_started:
            bar.stop()


def _console() -> Console:
    from rich.console import Console

    console = Console()
    # In a file or a pipe nothing wraps for want of width.
    return console if console.is_terminal else Console(width=160)


def _print_table(table: Table) -> None:
    console = _console()
    for part in _renderables(table):
        console.print(part, highlight=False)


def _renderables(table: Table) -> list[Any]:
    """Return a table with little around its columns, so that many fit on 80 characters, and its note.

    As Text, in which square brackets and colons mean nothing to rich.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

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


def _print_json(value: Any) -> None:
    """Print JSON in ASCII, so that no control code reaches the terminal."""
    from gradquake.report.json import plain

    # DEL is the only control code that JSON leaves as it is.
    print(json.dumps(plain(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f"))
