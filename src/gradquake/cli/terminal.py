"""Options, progress bars, tables and JSON that the commands share."""

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

    from gradquake.report.text import Table


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
StudyFile = Annotated[Path, typer.Argument(help="A study file, as `run` and `reproduce` write it.")]
Where = Annotated[
    list[str] | None,
    typer.Option(help="Choose one sweep by a setting, as name=value; may be repeated."),
]


class _InterruptError(Exception):
    """An interrupt from the keyboard, with a message that says what is kept."""


def _say(line: str) -> None:
    """Print a line with control codes as escapes, since it may quote a file or a name."""
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
        except (ValueError, RecursionError):  # it is not JSON, or too deeply nested
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
        raise _InterruptError(f"interrupted{kept if total is not None else ''}") from None
    finally:
        if bar.live.is_started:
            bar.stop()


def _console() -> Console:
    from gradquake.report.console import console

    return console()


def _print_table(table: Table) -> None:
    from gradquake.report.console import console, renderables

    to = console()
    for part in renderables(table):
        to.print(part, highlight=False)


def _print_json(value: object) -> None:
    from gradquake.report.json import written

    print(written(value))
