"""Run any sweep of any experiment into a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradquake.experiments import table
from gradquake.study.execution import Progress, execute, silent
from gradquake.study.pools import open_executor
from gradquake.study.study import open_study

__all__ = ["run"]


def run(
    name: str,
    *,
    out: str | Path,
    seeds: int = 6,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Path:
    """Run a sweep: every size with every seed. Runs that the study holds already are not repeated.

    Parameters
    ----------
    name : str
        The experiment: "xor", "modular_addition", "synthetic", a model with known exponents
        ("branching", "directed_sandpile", "oslo", "manna", "ofc"), or another in
        ``experiments.table.EXPERIMENTS``.
    out : str or Path
        The study file. It is made if there is none. Each run is written when it is done, so the same
        call continues a sweep that was stopped.
    seeds : int
        The number of seeds at each size: 0, 1, ...
    jobs : int, optional
        The number of processes; all cores by default. Numbers do not depend on it.
    scheduler : str, optional
        The address of a Dask scheduler, such as "tcp://host:8786", whose workers measure instead.
    progress : Progress
        Called with the name of a stage, the number of its steps just done, and that of all its steps
        (see ``study.execution.Progress``).
    **settings
        Fields of the experiment's run configuration, such as ``XorRun``, ``ModularAdditionRun``,
        ``SyntheticRun``, ``OsloRun``. The field of the size (``hidden``, ``width``, ``n_parameters``)
        takes a list of sizes; without it, the experiment's own ``sizes`` are run.

    Returns
    -------
    Path
        The study file, ``out``.

    Raises
    ------
    InputError
        For an unknown experiment or setting, a setting out of range, or a library that is not
        installed. It is raised before anything is measured or written.
    SweepError
        If runs failed twice; all others are in the study then.
    StudyError
        If the study cannot be written, or another process runs a sweep on it.

    Examples
    --------
    >>> gq.run("xor", hidden=[20, 50, 120], seeds=6, alpha_train=0, out="sweep.sqlite")
    """
    experiment = table.find(name)
    sizes = settings.pop(experiment.size, experiment.sizes)
    runs = experiment.sweep(sizes, seeds, **settings)
    with open_executor(jobs, scheduler) as executor:
        # The workers of a cluster may have libraries that this machine does not have.
        if executor is None or scheduler is None:
            experiment.check_installed()
        else:
            executor.submit(experiment.check_installed).result()
        with open_study(out, create=True) as study:
            execute(study, experiment.measure, runs, executor, progress)
            return study.path
