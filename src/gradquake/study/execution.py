"""Measures the missing runs of a sweep, on any ``concurrent.futures`` executor.

Workers measure and return; only this process writes the study. The records of a run depend on its own
configuration alone, so it does not matter how runs are grouped into tasks, or which of them the study
holds already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, as_completed
from contextlib import contextmanager
from functools import partial
from platform import node
from typing import Protocol, TypeVar

from gradquake.avalanche.tables import carrying
from gradquake.errors import GradquakeError, StudyError, require
from gradquake.study.configuration import RUN_KEYS, Config, config_key
from gradquake.study.pools import WORKER_DIED, Result, WorkerDiedError
from gradquake.study.recording import RunRecord
from gradquake.study.schema import software_versions
from gradquake.study.study import Study

__all__ = [
    "Measure", "Progress", "RunConfig", "SweepError", "each", "execute", "silent", "sole_sweep", "tasks",
    "unpacked",
]  # fmt: skip

# The runs of a task are trained side by side. About this many parameters together stay in the caches.
PARAMETERS_A_TASK = 15_000

KEPT = "finished runs are kept, and the same command continues from there"
EXECUTOR_GONE = f"the workers are gone (their scheduler or pool has stopped); {KEPT}"

# The number of failures that a message quotes.
TOLD = 3


class RunConfig(Protocol):
    """The configuration of one run: a frozen dataclass that an experiment defines."""

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters N."""
        ...

    def config(self) -> Config:
        """Return the full configuration as JSON-ready values."""
        ...


Run = TypeVar("Run", bound=RunConfig)
Item = TypeVar("Item")

# A function from run configurations to their records, and to the records of nulls measured with them.
Measure = Callable[[Sequence[Run]], list[RunRecord]]


class Progress(Protocol):
    """Is told of the steps of long work, so that a progress bar can show them."""

    def __call__(self, stage: str, done: int, of: int | None, /) -> object:
        """Take the steps of a stage that have just been done.

        Parameters
        ----------
        stage : str
            The name of the stage. A new name begins another stage.
        done : int
            The number of steps just done: runs, avalanches or parts of an analysis.
        of : int or None
            The number of all steps of the stage; None if it is not known.
        """
        ...


def silent(_stage: str, _done: int, _of: int | None, /) -> None:
    """Show no progress."""


class SweepError(GradquakeError):
    """Some runs of a sweep failed.

    Attributes
    ----------
    failures : tuple of (mapping, Exception)
        The configuration of each, and the exception that was raised.
    """

    def __init__(self, failures: Sequence[tuple[Config, Exception]], of: int) -> None:
        self.failures = tuple(failures)
        told = [f"{_described(config)}: {_reason(error)}" for config, error in failures[:TOLD]]
        more = [f"and {len(failures) - TOLD} more"] if len(failures) > TOLD else []
        super().__init__(
            f"{len(failures)} of {of} runs failed, each tried twice; the others are kept, and the same "
            f"command tries these again: {'; '.join(told + more)}"
        )


def execute(
    study: Study,
    measure: Measure[Run],
    runs: Sequence[Run],
    executor: Executor | None = None,
    progress: Progress = silent,
    *,
    parameters_a_task: int = PARAMETERS_A_TASK,
) -> None:
    """Measure those of ``runs`` that the study does not hold yet, and write each when it is done.

    A task that fails is tried once more after all others, its runs one by one. So a run that cannot be
    measured stops no other, and the error names it.

    Parameters
    ----------
    study : Study
        The study to write to; the runs that it holds are kept. One sweep at a time may write to it.
    measure : callable
        A picklable function from run configurations to their records. Records of nulls that were
        measured with a run may be among them.
    runs : sequence
        The configurations. The study notes all of them as planned.
    executor : concurrent.futures.Executor, optional
        Runs the tasks; without one, this process does.
    progress : Progress
        Told of each run that is finished, or found finished.
    parameters_a_task : int
        About as many parameters are trained side by side; with 1, every run is a task of its own.

    Raises
    ------
    SweepError
        If runs failed twice; all others are written by then.
    StudyError
        If the study cannot be written, or another process runs a sweep on it.
    GradquakeError
        If the executor no longer takes tasks.
    """
    configs = [run.config() for run in runs]
    keys = [config_key(config) for config in configs]
    require(len(set(keys)) == len(keys), "a run is given twice; give each run once")
    with sole_sweep(study):
        study.plan(configs)
        done = study.keys()
        missing = [run for run, key in zip(runs, keys, strict=True) if key not in done]
        progress("measuring", len(runs) - len(missing), len(runs))
        wanted = set(keys)
        failures: list[tuple[Run, Exception]] = []
        for records in _results(measure, tasks(missing, parameters_a_task), executor, failures):
            study.write(records)
            # Records of nulls are not counted.
            progress("measuring", sum(record.key in wanted for record in records), len(runs))
    if failures:
        raise SweepError([(run.config(), error) for run, error in failures], len(runs))


@contextmanager
def sole_sweep(study: Study) -> Iterator[None]:
    """Keep other processes from executing a sweep on a study.

    The lock is the operating system's, on a file beside the study (``-lock``). It ends when the process
    ends, even if it is killed.

    Raises
    ------
    StudyError
        If another process, or another sweep of this one, holds the lock.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(f"{study.path}-lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StudyError(
            f"another process runs a sweep on {study.path}; wait until it is done, or write to "
            "another study"
        ) from None
    except OSError as error:
        raise StudyError(f"{lock.lock_file} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def each(
    function: Callable[[Item], Result], items: Iterable[Item], executor: Executor | None
) -> Iterator[Result]:
    """Yield the results of a picklable function in order, computed on an executor or here.

    Raises
    ------
    GradquakeError
        If a worker process died twice, or the executor no longer takes tasks.
    """
    if executor is None:
        yield from map(function, items)
        return
    try:
        yield from executor.map(carrying(function), items)
    except WorkerDiedError as error:
        raise GradquakeError(f"{WORKER_DIED}; {KEPT}") from error
    except (BrokenExecutor, CancelledError) as error:
        raise GradquakeError(EXECUTOR_GONE) from error


def unpacked(function: Callable[..., Result]) -> Callable[[Iterable[object]], Result]:
    """Return a picklable function that calls another one with the parts of its one argument."""
    return partial(_unpack, function)


def _unpack(function: Callable[..., Result], arguments: Iterable[object]) -> Result:
    return function(*arguments)


def tasks(runs: Sequence[Run], parameters_a_task: int = PARAMETERS_A_TASK) -> list[list[Run]]:
    """Return runs in order, in groups that are best trained side by side."""
    groups: list[list[Run]] = []
    parameters = parameters_a_task
    for run in runs:
        if parameters + run.n_parameters > parameters_a_task:
            groups.append([])
            parameters = 0
        groups[-1].append(run)
        parameters += run.n_parameters
    return groups


def _results(
    measure: Measure[Run],
    groups: Sequence[Sequence[Run]],
    executor: Executor | None,
    failures: list[tuple[Run, Exception]],
) -> Iterator[list[RunRecord]]:
    """Yield the records of every task; add the runs that failed twice to ``failures``."""
    again: list[list[Run]] = []
    for task, outcome in _outcomes(measure, groups, executor):
        if isinstance(outcome, Exception):
            again += [[run] for run in task]
        else:
            yield outcome
    for (run,), outcome in _outcomes(measure, again, executor):
        if isinstance(outcome, Exception):
            failures.append((run, outcome))
        else:
            yield outcome


def _outcomes(
    measure: Measure[Run], tasks: Sequence[Sequence[Run]], executor: Executor | None
) -> Iterator[tuple[Sequence[Run], list[RunRecord] | Exception]]:
    """Yield every task when it is done, with its records or the exception that it raised."""
    if executor is None:
        for task in tasks:
            try:
                found: list[RunRecord] | Exception = measure(task)
            except Exception as error:
                found = error
            yield task, found
        return
    checked = carrying(partial(_on_same_software, measure, software_versions()))
    try:
        futures = {executor.submit(checked, task): task for task in tasks}
    except (BrokenExecutor, RuntimeError) as error:
        raise GradquakeError(EXECUTOR_GONE) from error
    for future in as_completed(futures):
        if future.cancelled():
            raise GradquakeError(EXECUTOR_GONE)
        try:
            found = future.result()
        except Exception as error:
            found = error
        # A sweep may be larger than the memory, so written records must not stay referenced.
        yield futures.pop(future), found


def _on_same_software(
    measure: Measure[Run], wanted: Mapping[str, str], runs: Sequence[Run]
) -> list[RunRecord]:
    """Measure, if this worker has the versions on which the coordinator's bits depend."""
    found = software_versions()
    differing = [
        f"{name} {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]
    ]
    if differing:
        raise GradquakeError(
            f"the worker on {node()} has {', '.join(differing)}; install the same versions there"
        )
    return measure(runs)


def _described(config: Config) -> str:
    named = {"N": config["n_parameters"]} | {n: config[n] for n in RUN_KEYS if n in config}
    del named["n_parameters"]
    return f"{config.get('experiment', 'run')} {' '.join(f'{n}={v}' for n, v in named.items())}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, GradquakeError) else f"{type(error).__name__}: {text}"
