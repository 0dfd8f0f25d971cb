"""The report of a study: everything about one of its sweeps, as one HTML file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from gradquake.analysis.ladder import Ladder
from gradquake.analysis.scales import FEWEST_SCALES, same_runs, scale_groups
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.sweep import analyze as analyze_sweep
from gradquake.avalanche.surrogates import SURROGATES
from gradquake.errors import InputError, counted, printable
from gradquake.report.doubts import capital, cautions
from gradquake.report.origin import run_command, title_of
from gradquake.report.page import Chapter, page, save
from gradquake.report.parts import PARTS, Subject
from gradquake.report.result import analyze
from gradquake.scrutiny.checks import check, check_beside
from gradquake.scrutiny.every_channel import in_every_channel
from gradquake.scrutiny.measure import in_order
from gradquake.scrutiny.replay import can_replay
from gradquake.study.execution import Progress, silent
from gradquake.study.study import open_study

__all__ = ["report"]

NO_CONCLUSION = (
    "Do not conclude anything from these exponents alone: without both nulls, nothing says whether "
    "random gradients would give the same."
)


def report(
    study: str | Path,
    /,
    out: str | Path | None = None,
    *,
    nulls: bool = False,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
    where: Mapping[str, object] | None = None,
    **settings: Any,
) -> Path:
    """Write everything about a sweep as one HTML file that needs nothing else.

    A sweep that cannot be analyzed, because its runs have no nulls or fewer than three sizes, gets a
    report too. It shows what can be shown, and says why the rest is missing.

    Parameters
    ----------
    study : str or Path
        The path of a study.
    out : str or Path, optional
        The file to write; by default the study's name with ".html".
    nulls : bool
        Measure the whole ladder of nulls, every topology, and of XOR runs the stability.
    jobs, scheduler, progress, where, **settings
        As ``analyze`` takes them.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file cannot be written, or for a bad option.
    StudyError
        If the study cannot be read, or the settings fit no sweep or several.
    """
    chosen = {**(where or {}), **settings}
    target = Path(study).with_suffix(".html") if out is None else Path(out)
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is no folder; the report needs a folder that exists")
    with open_study(study) as opened:
        sweep, recorded = opened.with_nulls(**chosen)
    commands = _commands(sweep, Path(study), target, chosen, nulls)
    try:
        if can_replay(sweep):
            check(sweep)
        else:
            check_beside(sweep, recorded)
    except InputError as error:
        return save(target, _without_nulls(sweep, recorded, str(error), commands))
    found = analyze(
        sweep, recorded=recorded, nulls=nulls, jobs=jobs, scheduler=scheduler, progress=progress
    )
    progress("channels", 0, None)
    return save(target, found.to_html(commands=commands))


def _without_nulls(
    sweep: xr.Dataset, recorded: Mapping[str, xr.Dataset], reason: str, commands: Sequence[str]
) -> str:
    """Return the report of a sweep that lacks nulls or sizes."""
    runs = counted(sweep.sizes["run"], "run")
    reading = [f"The sweep has {runs} of {counted(len(scale_groups(sweep)), 'network size')}."]
    ladder = _ladder(sweep, recorded)
    if ladder is not None:
        reading += [NO_CONCLUSION, *cautions(ladder, tuple(STATISTICS))]
    subject = Subject(
        sweep,
        ladder=ladder,
        channels={} if ladder is None else in_every_channel(ladder),
        reading=reading,
        missing=[f"{capital(reason)}."],
        commands=commands,
    )
    return page(title_of(sweep), [Chapter("", PARTS, subject)])


def _ladder(sweep: xr.Dataset, recorded: Mapping[str, xr.Dataset]) -> Ladder | None:
    """Return the analysis beside the nulls that there are; None if no exponent can be fitted."""
    if not ("size" in sweep and sweep.sizes["epoch"] and len(scale_groups(sweep)) >= FEWEST_SCALES):
        return None
    sweep = in_order(sweep)
    nulls = {rung: in_order(null) for rung, null in recorded.items() if rung in SURROGATES}
    usable = {rung: null for rung, null in nulls.items() if "size" in null and same_runs(sweep, null)}
    return Ladder(analyze_sweep(sweep), {rung: analyze_sweep(null) for rung, null in usable.items()})


def _commands(
    sweep: xr.Dataset, study: Path, out: Path, chosen: Mapping[str, object], nulls: bool
) -> list[str]:
    """Return the commands that make the sweep and this report again, as far as they are known."""
    where = [
        word
        for name, value in chosen.items()
        for word in ("--where", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    ]
    options = [*where, *(["--nulls"] if nulls else [])]
    words = (["analyze", str(study), *options], ["report", str(study), *options, "--out", str(out)])
    first = run_command(sweep, study)
    found = [*([first] if first else []), *(shlex.join(["gradquake", *of]) for of in words)]
    return [printable(command) for command in found]
