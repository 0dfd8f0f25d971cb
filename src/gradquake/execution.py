"""Runs what is missing of a sweep, on any ``concurrent.futures`` executor.

Workers measure and return; only this process writes the study. What a run gives depends on its own
configuration alone, so it does not matter how runs are grouped into tasks, or which of them were
already there.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from gradquake.errors import GradquakeError, require, require_count
from gradquake.recording import RunRecord, config_key
from gradquake.store import Study

# A task's runs are trained side by side; about this many parameters together stay in the caches.
PARAMETERS_A_TASK = 15_000

WORKER_DIED = (
    "a worker process died (killed, or out of memory); what was finished is kept, and the same command "
    "continues from there"
)


class RunConfig(Protocol):
    """The configuration of one run: a frozen dataclass that an experiment defines."""

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters N."""
        ...

    def config(self) -> dict[str, Any]:
        """Return the full configuration as JSON-ready values."""
        ...


Config = TypeVar("Config", bound=RunConfig)
Item = TypeVar("Item")
Result = TypeVar("Result")


def execute(
    study: Study,
    measure: Callable[[Sequence[Config]], list[RunRecord]],
    runs: Sequence[Config],
    executor: Executor | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Measure those of ``runs`` that the study does not hold yet, and write each as it is done.

    Parameters
    ----------
    study : Study
        Where the records go; what is in it already is kept.
    measure : callable
        A picklable function from run configurations to their records, those of nulls that were
        measured with a run among them.
    runs : sequence
        The configurations; together they are noted in the study as planned.
    executor : concurrent.futures.Executor, optional
        Where the tasks run; without one, in this process.
    progress : callable
        Called with the number of runs that have just been finished or found.

    Raises
    ------
    GradquakeError
        As ``measure`` does, or where a worker process died; the runs finished by then are written.
    """
    configs = [run.config() for run in runs]
    keys = [config_key(config) for config in configs]
    require(len(set(keys)) == len(keys), "a run is given twice; each may stand once")
    study.plan(configs)
    done = study.keys()
    missing = [run for run, key in zip(runs, keys, strict=True) if key not in done]
    progress(len(runs) - len(missing))
    wanted = set(keys)
    for records in _results(measure, tasks(missing), executor):
        study.write(records)
        # A run may bring records of its nulls along.
        progress(sum(record.key in wanted for record in records))


@contextmanager
def worker_pool(jobs: int) -> Iterator[Executor | None]:
    """Yield a pool of ``jobs`` processes, or None for one job, which needs no pool."""
    require_count("jobs", jobs, 1)
    if jobs == 1:
        yield None
        return
    # Processes forked from one that runs threads (a progress bar's, say) can hang; a fork server
    # has none, and imports what every worker needs once.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["gradquake.experiments.xor"])
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_follow_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def each(
    function: Callable[[Item], Result], items: Iterable[Item], executor: Executor | None
) -> Iterator[Result]:
    """Yield the results of a picklable function in order, computed on an executor or here.

    Raises
    ------
    GradquakeError
        Where a worker process died.
    """
    if executor is None:
        yield from map(function, items)
        return
    try:
        yield from executor.map(function, items)
    except BrokenProcessPool as error:
        raise GradquakeError(WORKER_DIED) from error


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _follow_parent() -> None:
    """Leave interrupts from the keyboard to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def tasks(runs: Sequence[Config]) -> list[list[Config]]:
    """Return runs in groups that are best trained side by side, in order."""
    groups: list[list[Config]] = []
    parameters = PARAMETERS_A_TASK
    for run in runs:
        if parameters + run.n_parameters > PARAMETERS_A_TASK:
            groups.append([])
            parameters = 0
        groups[-1].append(run)
        parameters += run.n_parameters
    return groups


def _results(
    measure: Callable[[Sequence[Config]], list[RunRecord]],
    tasks: Sequence[Sequence[Config]],
    executor: Executor | None,
) -> Iterator[list[RunRecord]]:
    if executor is None:
        yield from map(measure, tasks)
        return
    futures = [executor.submit(measure, task) for task in tasks]
    failure: BaseException | None = None
    # What is done is written even if a task fails at the same time; what has not begun then never does.
    for future in as_completed(futures):
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            yield future.result()
        elif failure is None:
            failure = error
            for other in futures:
                other.cancel()
    if isinstance(failure, BrokenProcessPool):
        raise GradquakeError(WORKER_DIED) from failure
    if failure is not None:
        raise failure
