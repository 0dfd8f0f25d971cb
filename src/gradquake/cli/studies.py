"""The commands that look at a study: `watch`, `plot`, `info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass
from gradquake.cli.terminal import (
    AsJson,
    StudyFile,
    _console,
    _InterruptError,
    _print_json,
    _print_table,
    _renderables,
    _say,
    _settings,
)


def watch(
    study: StudyFile,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the present state and exit.")] = False,
) -> None:
    """Watch the runs that other processes write to a study, until it is interrupted.

    A row a run: s / N, the share of parameters that toppled (a node that topples twice counts twice),
    beside its level for Gaussian gradients, and loss, accuracy and threshold, as lines of blocks with
    the newest value; and D(t) as soon as there are runs of three sizes. A finished run has a tick.

    Example: `gradquake watch runs.sqlite`
    """
    import time

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from gradquake.errors import printable, require_between
    from gradquake.report import live

    require_between("--interval", interval, 0.1, 3600, inclusive=True)

    def view() -> Group:
        shown = [part for table in live.tables(live.read(study)) for part in _renderables(table)]
        return Group(*(shown or [Text(printable(f"{study} holds no measurement of a run yet"))]))

    if once:
        _console().print(view(), highlight=False)
        return
    with Live(view(), console=_console(), auto_refresh=False) as shown:
        try:
            while True:
                time.sleep(interval)
                shown.update(view(), refresh=True)
        except KeyboardInterrupt:
            raise _InterruptError("stopped watching; the runs go on") from None


def plot(
    study: StudyFile,
    out: Annotated[
        Path | None,
        typer.Option(help="The figure, written as .png and .svg; by default here, named as the study."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Choose one sweep by a setting, as name=value; may be repeated."),
    ] = None,
) -> None:
    """Draw every run of a sweep, finished or not: s / N beside its nulls, outcomes, and D(t).

    Example: `gradquake plot runs.sqlite --out figure.png`
    """
    from gradquake.errors import InputError
    from gradquake.report import live

    out = Path(f"{study.stem}.png") if out is None else out
    named = out.name not in ("", "..") and out.suffix in ("", ".png", ".svg")
    if not named:
        raise InputError(f"--out is {out}; a .png or .svg name is needed")
    if not out.parent.is_dir():
        raise InputError(f"--out is {out}; there is no folder {out.parent}")
    live.draw(live.choose(live.read(study), study, _settings(where or [])), out)
    _say(f"Drawn: {out.with_suffix('.png')} and {out.with_suffix('.svg')}")


def info(study: StudyFile, as_json: AsJson = False) -> None:
    """Show what is in a study, and what is missing of what was planned.

    Example: `gradquake info reproduction/study.sqlite`
    """
    from gradquake.study.study import open_study

    with open_study(study) as opened:
        sweeps = opened.contents()
    if as_json:
        _print_json({"study": str(study), "sweeps": sweeps})
        return
    from gradquake.avalanche.surrogates import REAL
    from gradquake.report.tables import contents_table

    _print_table(contents_table(sweeps))
    runs = [sweep for sweep in sweeps if sweep["settings"].get("surrogate", REAL) == REAL]
    finished = sum(sweep["runs"] for sweep in runs)
    missing, unfinished = (sum(len(sweep[name]) for sweep in runs) for name in ("missing", "unfinished"))
    of_nulls = sum(sweep["runs"] for sweep in sweeps) - finished
    beside = f"; {of_nulls} records of nulls" if of_nulls else ""
    print(f"{finished} runs finished, {missing} planned and missing, {unfinished} unfinished{beside}")
