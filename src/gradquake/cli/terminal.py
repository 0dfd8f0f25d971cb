"""Options, progress bars, tables and JSON that the commands share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from gradquake.report.text import Table
    from gradquake.study.execution import Progress


__all__ = [
    "AsJson", "Command", "InterruptError", "Jobs", "Scheduler", "StudyFile", "Where", "WithNulls",
    "integers", "print_json", "print_table", "progress", "say", "settings_of", "with_flags",
]  # fmt: skip


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
WithNulls = Annotated[
    bool,
    typer.Option(
        "--nulls",
        help="Measure the whole ladder of nulls, every topology, and the stability of XOR runs.",
    ),
]


class Command(TyperCommand):
    """A command whose errors name its options as they are typed: --max-steps instead of max_steps."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from gradquake.errors import InputError

        try:
            return super().invoke(ctx)
        except InputError as error:
            options = [param for param in self.params if param.param_type_name == "option"]
            flags = {str(option.name): option.opts[0] for option in options}
            # An option that may be repeated is a plural in Python.
            flags |= {f"{option.name}s": option.opts[0] for option in options if option.multiple}
            raise InputError(with_flags(str(error), flags)) from None


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """Return a message with the flags of options in place of the names of Python's arguments.

    The flags are by name. A name that is also a word stands for its option only as the subject at the
    beginning, or after "with" or "in"; a name with an underscore stands for it anywhere.
    """
    names = "|".join(map(re.escape, sorted(flags, key=len, reverse=True)))
    compound = "|".join(re.escape(name) for name in flags if "_" in name)
    subject = rf"^(?:(?:{names})(?:, | and ))*(?:{names})(?= (?:is|are|was|were|has|names|tell)\b)"
    places = [subject, rf"(?<=\bwith )(?:{names})(?=$|[;,])", rf"(?<=\bin )(?:{names})(?= is\b)"]
    places += [rf"(?<!\S)(?:{compound})(?=$|[\s;,])"] if compound else []

    def flagged(found: re.Match[str]) -> str:
        return re.sub(rf"\b(?:{names})\b", lambda name: flags[name[0]], found[0])

    return re.sub("|".join(places), flagged, message) if flags else message


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
def progress(unit: str = "steps", *, resumes: bool = False) -> Iterator[Progress]:
    """Show progress bars on stderr, one for each stage.

    An interrupt ends with a message. ``resumes`` says whether the command continues from there.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[count]:>14}"),
        TimeElapsedColumn(),
    )
    bars = Bars(*columns, console=Console(stderr=True))

    def advance(stage: str, done: int, of: int | None, /) -> None:
        # The bars start at the first progress, so that errors in the input come before them.
        bars.start()
        if not bars.tasks or bars.tasks[-1].description != stage:
            finish()
            bars.add_task(stage, total=of, count="")
        task = bars.tasks[-1]
        bars.update(task.id, advance=done, total=of)
        if of is not None:
            bars.update(task.id, count=f"{task.completed:.0f}/{of} {unit}")

    def finish() -> None:
        for task in bars.tasks:
            if task.total is None:
                bars.update(task.id, total=1, completed=1)

    try:
        yield advance
        finish()
    except KeyboardInterrupt:
        kept = "; what was finished is kept, and the same command continues from there"
        raise InterruptError(f"interrupted{kept if resumes else ''}") from None
    finally:
        if bars.live.is_started:
            bars.stop()


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
