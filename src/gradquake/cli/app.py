"""The command line: it parses, calls and prints. Heavy modules load inside the commands."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from gradquake.cli.analyze import analyze
from gradquake.cli.measure import measure
from gradquake.cli.reproduce import reproduce
from gradquake.cli.run import run_app
from gradquake.cli.studies import info, plot, report, watch
from gradquake.cli.terminal import Command, InterruptError

__all__ = ["app", "main"]

app = typer.Typer(
    name="gradquake",
    help="A seismograph for neural-network training: avalanches of gradients, and how they grow with "
    "the network.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command(cls=Command)(reproduce)
app.add_typer(run_app, name="run")
for command in (measure, analyze, report, watch, plot, info):
    app.command(cls=Command)(command)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Handle the options that belong to no command."""
    if version:
        from gradquake import __version__

        print(f"gradquake {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; exit status 0 done, 1 failed, 2 bad input or usage, 130 interrupted."""
    from gradquake.errors import GradquakeError, InputError, StudyError

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name may hold a character that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except InterruptError as error:
        _fail(str(error), 130)
    except (InputError, StudyError) as error:
        _fail(str(error), 2)
    except GradquakeError as error:
        _fail(str(error), 1)
    except MemoryError:
        _fail("there is not enough memory; use fewer or smaller networks", 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except SystemExit as stopped:
        # Typer turns an interrupt that it sees itself into this status.
        if stopped.code == 130:
            _fail("interrupted", 130)
        raise
    except OSError as error:
        _fail(f"{error.filename or 'a file'} cannot be written or read: {error.strerror}", 1)


def _fail(message: str, status: int) -> None:
    from gradquake.errors import printable

    print(f"gradquake: {printable(message)}", file=sys.stderr)
    sys.exit(status)
