"""Runs what is missing of a sweep, on any ``concurrent.futures`` executor.

Workers measure and return; only this process writes the study. What a run gives depends on its own
configuration alone, so it does not matter how runs are grouped into tasks, or which of them were
already there.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    as_completed,
)
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pickle import PicklingError
from platform import node
from queue import SimpleQueue
from traceback import format_exc
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gradquake.errors import GradquakeError, InputError, require, require_count
from gradquake.recording import RUN_KEYS, RunRecord, config_key
from gradquake.store import Study, software_versions

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

# A task's runs are trained side by side; about this many parameters together stay in the caches.
PARAMETERS_A_TASK = 15_000

# Seconds to wait for a scheduler's answer.
PATIENCE = 10

KEPT = "what was finished is kept, and the same command continues from there"
WORKER_DIED = "a worker process died (killed, or out of memory)"
EXECUTOR_GONE = f"the workers are gone (their scheduler or pool has stopped); {KEPT}"

# How many failures a message tells of.
TOLD = 3


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


class WorkerDiedError(GradquakeError):
    """A task whose worker process was killed."""


class SweepError(GradquakeError):
    """Runs that failed where others did not.

    Attributes
    ----------
    failures : tuple of (dict, Exception)
        The configuration of each, and what was raised.
    """

    def __init__(self, failures: Sequence[tuple[dict[str, Any], Exception]], of: int) -> None:
        self.failures = tuple(failures)
        told = [f"{_described(config)}: {_reason(error)}" for config, error in failures[:TOLD]]
        more = [f"and {len(failures) - TOLD} more"] if len(failures) > TOLD else []
        super().__init__(
            f"{len(failures)} of {of} runs failed, each tried twice; the others are kept, and the same "
            f"command tries these again: {'; '.join(told + more)}"
        )


def execute(
    study: Study,
    measure: Callable[[Sequence[Config]], list[RunRecord]],
    runs: Sequence[Config],
    executor: Executor | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Measure those of ``runs`` that the study does not hold yet, and write each as it is done.

    A task that fails is tried once more when the others are done, its runs one by one; so a run that
    cannot be measured stops no other, and is known by its configuration.

    Parameters
    ----------
    study : Study
        Where the records go; what is in it already is kept. One sweep at a time may write to it.
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
    SweepError
        Where runs failed twice; all others are written by then.
    StudyError
        Where the study cannot be written, or another process runs a sweep on it.
    GradquakeError
        Where the executor no longer takes tasks.
    """
    configs = [run.config() for run in runs]
    keys = [config_key(config) for config in configs]
    require(len(set(keys)) == len(keys), "a run is given twice; each may stand once")
    with study.sole_sweep():
        study.plan(configs)
        done = study.keys()
        missing = [run for run, key in zip(runs, keys, strict=True) if key not in done]
        progress(len(runs) - len(missing))
        wanted = set(keys)
        failures: list[tuple[Config, Exception]] = []
        for records in _results(measure, missing, executor, failures):
            study.write(records)
            # A run may bring records of its nulls along.
            progress(sum(record.key in wanted for record in records))
    if failures:
        raise SweepError([(run.config(), error) for run, error in failures], len(runs))


def each(
    function: Callable[[Item], Result], items: Iterable[Item], executor: Executor | None
) -> Iterator[Result]:
    """Yield the results of a picklable function in order, computed on an executor or here.

    Raises
    ------
    GradquakeError
        Where a worker process died twice, or the executor no longer takes tasks.
    """
    if executor is None:
        yield from map(function, items)
        return
    try:
        yield from executor.map(function, items)
    except WorkerDiedError as error:
        raise GradquakeError(f"{WORKER_DIED}; {KEPT}") from error
    except (BrokenExecutor, CancelledError) as error:
        raise GradquakeError(EXECUTOR_GONE) from error


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
    runs: Sequence[Config],
    executor: Executor | None,
    failures: list[tuple[Config, Exception]],
) -> Iterator[list[RunRecord]]:
    again: list[list[Config]] = []
    for task, outcome in _outcomes(measure, tasks(runs), executor):
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
    measure: Callable[[Sequence[Config]], list[RunRecord]],
    tasks: Sequence[Sequence[Config]],
    executor: Executor | None,
) -> Iterator[tuple[Sequence[Config], list[RunRecord] | Exception]]:
    """Yield every task, as it is done, with its records or what it raised."""
    if executor is None:
        for task in tasks:
            try:
                found: list[RunRecord] | Exception = measure(task)
            except Exception as error:
                found = error
            yield task, found
        return
    checked = partial(_on_same_software, measure, software_versions())
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
        # Let go of what was written: a sweep may be larger than the memory.
        yield futures.pop(future), found


def _on_same_software(
    measure: Callable[[Sequence[Config]], list[RunRecord]],
    wanted: Mapping[str, str],
    runs: Sequence[Config],
) -> list[RunRecord]:
    """Measure, where this worker would give the bits that the coordinator would."""
    found = software_versions()
    differing = [
        f"{name} {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]
    ]
    if differing:
        raise GradquakeError(f"the worker on {node()} has {', '.join(differing)}; the same is needed")
    return measure(runs)


def _described(config: Mapping[str, Any]) -> str:
    named = {"N": config["n_parameters"]} | {n: config[n] for n in RUN_KEYS if n in config}
    del named["n_parameters"]
    return f"{config.get('experiment', 'run')} {' '.join(f'{n}={v}' for n, v in named.items())}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, GradquakeError) else f"{type(error).__name__}: {text}"


# Executors


@contextmanager
def open_executor(jobs: int, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Yield the workers of a Dask cluster, or ``jobs`` processes; None for one, which needs no pool.

    Raises
    ------
    InputError
        For a number below 1, or a scheduler that does not answer.
    """
    require_count("jobs", jobs, 1)
    if scheduler is not None:
        with _cluster(scheduler) as cluster:
            yield cluster
        return
    if jobs == 1:
        yield None
        return
    pool = LocalPool(jobs)
    try:
        yield pool
    except BaseException:
        # Nobody waits for what is measured now.
        pool.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            'dask is not installed; a cluster needs it: pip install "gradquake[cluster]"'
        ) from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address}; start one with `dask scheduler`, and workers with "
            f"`dask worker {address}`"
        ) from error
    # Tornado runs the client's callbacks, and logs what they raise.
    with _told_by_errors("distributed.client", "tornado.application"), client:
        # Equal inputs may not be taken for equal work: a task that failed is tried again.
        yield client.get_executor(pure=False)  # type: ignore[no-untyped-call]


@contextmanager
def _told_by_errors(*names: str) -> Iterator[None]:
    """Keep libraries from logging what is raised as well."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class LocalPool(Executor):
    """Worker processes on this machine, each of which dies alone.

    In a pool of the standard library one killed worker fails all tasks. Here it fails the task that it
    was at, which is tried once more in a new worker.
    """

    def __init__(self, jobs: int) -> None:
        # Processes forked from one that runs threads (a progress bar's, say) can hang; a fork server
        # has none, and imports what every worker needs once.
        self._context: ForkServerContext | SpawnContext = multiprocessing.get_context("spawn")
        if "forkserver" in multiprocessing.get_all_start_methods():
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(["gradquake.experiments.xor"])
        self._threads = ThreadPoolExecutor(jobs)
        self._workers: SimpleQueue[_Worker | None] = SimpleQueue()
        for _ in range(jobs):
            self._workers.put(None)
        self._alive: set[_Worker] = set()
        self._killed = False

    def submit(
        self, function: Callable[..., Result], /, *arguments: Any, **named: Any
    ) -> Future[Result]:
        """Run a picklable function in one of the workers."""
        return self._threads.submit(self._run, partial(function, *arguments, **named))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers end, when their tasks are done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        while self._alive:
            self._alive.pop().close()

    def kill(self) -> None:
        """End the workers in the midst of their tasks."""
        self._killed = True
        for worker in list(self._alive):
            worker.kill()

    def _run(self, task: Callable[[], Result]) -> Result:
        worker = self._workers.get()
        try:
            try:
                worker = worker or self._start()
                return worker.run(task)
            except WorkerDiedError:
                worker = None
                if self._killed:
                    raise
            worker = self._start()
            return worker.run(task)
        except WorkerDiedError:
            worker = None
            raise
        finally:
            self._workers.put(worker)

    def _start(self) -> _Worker:
        with _interrupts_kept_from_children():
            worker = _Worker(self._context)
        self._alive.add(worker)
        if self._killed:
            worker.kill()
        return worker


class _Worker:
    """One process that does one task after the other.

    Not a ``ProcessPoolExecutor``, which waits for ever where its process is killed while it sends a
    result: it holds the other end of its own pipe open. Here a worker's end is the end of its pipe.
    """

    def __init__(self, context: ForkServerContext | SpawnContext) -> None:
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, task: Callable[[], Result]) -> Result:
        try:
            self._pipe.send(task)
            succeeded, outcome = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(WORKER_DIED) from error
        if succeeded:
            found: Result = outcome
            return found
        raise outcome

    def close(self) -> None:
        self._pipe.close()
        self._process.join()

    def kill(self) -> None:
        self._process.kill()


def _serve(pipe: Connection) -> None:
    """Do the tasks that come through a pipe, until it is closed."""
    _follow_parent()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        except Exception as error:
            pipe.send((False, GradquakeError(f"a task cannot be read: {error}")))
            continue
        try:
            outcome = (True, task())
        except Exception as error:
            # What the traceback would say stays behind.
            error.add_note(format_exc())
            outcome = (False, error)
        try:
            pipe.send(outcome)
        except (PicklingError, TypeError, AttributeError) as error:
            pipe.send((False, GradquakeError(f"a result cannot be sent: {error}")))


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Let processes that this thread starts inherit that interrupts are blocked.

    A terminal interrupts all processes that run in it. Those of the standard library, and workers
    before they come to ``_follow_parent``, would each answer with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It lifts the block when it starts; so it starts before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
