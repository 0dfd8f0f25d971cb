"""The commands that look at a study: `watch`, `plot`, `report`, `info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradquake.cli.terminal import (
    AsJson,
    InterruptError,
    Jobs,
    Scheduler,
    StudyFile,
    Where,
    WithNulls,
    print_table,
    progress,
    say,
    settings_of,
)

__all__ = ["info", "plot", "report", "watch"]


def watch(
    study: StudyFile,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the present state and exit.")] = False,
) -> None:
    """Watch the runs that other processes write to a study; Ctrl-C ends it.

    Each run has a row with its latest values and small graphs of their history. s/N is the number of
    topplings per parameter, beside its level for Gaussian gradients. A finished run has a tick. D(t)
    appears as soon as there are runs of three network sizes.

    Example: `gradquake watch runs.sqlite`
    """
    from gradquake.report import watch as report

    try:
        report.watch(study, interval=interval, once=once)
    except KeyboardInterrupt:
        raise InterruptError("stopped watching; the runs go on") from None


def plot(
    study: StudyFile,
    out: Annotated[
        Path | None,
        typer.Option(help="Name of the figure, written as .png and .svg; default: the study's name."),
    ] = None,
    where: Where = None,
    tensors: Annotated[
        bool,
        typer.Option("--tensors", help="Draw where it topples: tensor by tensor."),
    ] = False,
) -> None:
    """Draw every run of a sweep, finished or not: s/N beside its nulls, loss, accuracy, and D(t).

    Example: `gradquake plot runs.sqlite --out figure.png`
    """
    from gradquake.report import plot as report

    files = report.plot(study, out, where=settings_of(where or []), tensors=tensors)
    say(f"Drawn: {files.png} and {files.svg}")


def report(
    study: StudyFile,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; default: the study's name with .html.")
    ] = None,
    where: Where = None,
    nulls: WithNulls = False,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """Write everything about a sweep as one HTML file that needs nothing else.

    It shows the reading, D(t) and every other channel beside their nulls, the exponents with their
    cautions, and the configuration. A sweep without nulls, or with fewer than three network sizes, gets
    a report too, which says why the rest is missing.

    Example: `gradquake report runs.sqlite --out report.html`
    """
    from gradquake.report import study_page

    with progress() as bars:
        written = study_page.report(
            study, out, nulls=nulls, jobs=jobs, scheduler=scheduler, progress=bars,
            where=settings_of(where or []),
        )  # fmt: skip
    say(f"Written: {written}")


def info(study: StudyFile, as_json: AsJson = False) -> None:
    """Show what is in a study, and which of its planned runs are missing.

    Example: `gradquake info reproduction/study.sqlite`
    """
    from gradquake.report import contents

    found = contents.info(study)
    if as_json:
        print(found.to_json())
        return
    print_table(found.table)
    print(found)
