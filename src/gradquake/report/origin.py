"""Where results come from: settings, sizes, seeds, software, processor, and commands."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradquake.analysis.ladder import Ladder
from gradquake.analysis.scales import scale_groups
from gradquake.errors import InputError, counted
from gradquake.experiments.table import EXPERIMENTS
from gradquake.report.text import Table
from gradquake.scrutiny.replay import runs_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["machine", "origin", "run_command", "spans_of", "title_of"]

SOFTWARE = ("gradquake", "numpy", "scipy", "numba", "xarray")


def title_of(sweep: xr.Dataset) -> str:
    """Return the title of a report on a sweep."""
    experiment = sweep.attrs.get("experiment", "a sweep")
    return f"gradquake report: {experiment}, {counted(sweep.sizes['run'], 'run')}"


def origin(sweep: xr.Dataset, ladder: Ladder | None) -> Table:
    """Return the configuration of a sweep, and the software and the processor of this report."""
    sizes = [f"{n} ({counted(len(runs), 'run')})" for n, runs in scale_groups(sweep)]
    rows = [
        *((name, str(value)) for name, value in sweep.attrs.items()),
        ("N", ", ".join(sizes)),
        ("seeds", spans_of(sweep["seed"].values)),
        ("snapshots of a run", str(sweep.sizes["epoch"])),
    ]
    if ladder is not None:
        curve = next(iter(ladder.real.curves.values()))
        rows.append(("bootstrap", f"{curve.n_resamples} resamples of runs, seed {curve.seed}"))
    return Table(
        "Configuration",
        ("what", "value"),
        [*rows, *machine().items()],
        "Software and processor are those that wrote this report. The numbers of the experiments of "
        "gradquake, except those of modular addition, do not depend on the processor.",
    )


def machine() -> dict[str, str]:
    """Return the software and the processor of this process."""
    versions = ", ".join(f"{name} {version(name)}" for name in SOFTWARE)
    system = f"{platform.system()} on {platform.machine()}"
    return {
        "software": f"Python {platform.python_version()}, {versions}",
        "processor": f"{_processor()}, {os.cpu_count()} cores; {system}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def spans_of(numbers: Any) -> str:
    """Return whole numbers as text, consecutive ones as a range: "0 to 5, 9"."""
    found = np.unique(numbers)
    parts = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    return ", ".join(f"{p[0]} to {p[-1]}" if p.size > 1 else f"{p[0]}" for p in parts if p.size)


def run_command(sweep: xr.Dataset, out: str | Path) -> str | None:
    """Return the command that makes a sweep again; None if no single command does."""
    experiment = EXPERIMENTS.get(sweep.attrs.get("experiment", ""))
    if experiment is None:
        return None
    try:
        runs = runs_of(sweep)
    except InputError:
        return None
    sizes = list(dict.fromkeys(getattr(run, experiment.size) for run in runs))
    seeds = 1 + max(run.seed for run in runs)
    own = {(getattr(run, experiment.size), run.seed) for run in runs}
    if own != {(size, seed) for size in sizes for seed in range(seeds)}:
        return None
    words = ["gradquake", "run", experiment.name, "--out", str(out), f"--{_flag(experiment.size)}"]
    words += [",".join(map(str, sorted(sizes))), "--seeds", str(seeds), *_options(runs[0], experiment)]
    return shlex.join(words)


def _options(run: Any, experiment: Any) -> Iterator[str]:
    """Yield the options of a run that differ from their defaults."""
    plain = experiment.run(**{experiment.size: getattr(run, experiment.size), "seed": run.seed})
    for one in fields(run):
        value = getattr(run, one.name)
        if one.name in experiment.settings and value != getattr(plain, one.name):
            yield f"--{_flag(one.name)}"
            if value is not True:
                yield str(value)


def _flag(name: str) -> str:
    return name.replace("_", "-")
