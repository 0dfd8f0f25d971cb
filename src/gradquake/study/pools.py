"""Executors of tasks: processes of this machine, and a Dask cluster."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from multiprocessing import resource_tracker, spawn
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from queue import SimpleQueue
from traceback import format_exc
from typing import TYPE_CHECKING, TypeVar

from gradquake.avalanche.tables import added_entries
from gradquake.errors import GradquakeError, InputError, require, require_count

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

__all__ = ["WORKER_DIED", "LocalPool", "Result", "WorkerDiedError", "available_cores", "open_executor"]

# Seconds to wait for a scheduler's answer.
ANSWER_WITHIN = 10
WORKER_DIED = "a worker process died (killed, or out of memory)"
Result = TypeVar("Result")
_STARTING = threading.Lock()


class WorkerDiedError(GradquakeError):
    """The worker process of a task was killed."""


@contextmanager
def open_executor(jobs: int | None = None, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Yield the workers of a Dask cluster, or processes; None for one, which needs no pool.

    Parameters
    ----------
    jobs : int, optional
        The number of processes; all cores by default.
    scheduler : str, optional
        The address of the cluster's scheduler.

    Raises
    ------
    InputError
        For a number below 1, both arguments, a scheduler that does not answer, or an entry that was
        added to a table of the package and that processes cannot be sent.
    """
    require(
        jobs is None or scheduler is None,
        "jobs and scheduler were both given; the cluster decides how many workers there are",
    )
    jobs = available_cores() if jobs is None else jobs
    require_count("jobs", jobs, 1)
    if scheduler is not None:
        with _cluster(scheduler) as cluster:
            yield cluster
        return
    if jobs == 1:
        yield None
        return
    _check_added_entries()
    pool = LocalPool(jobs)
    try:
        yield pool
    except BaseException:
        # Nobody needs the results of the running tasks any more.
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
        client = Client(address, timeout=ANSWER_WITHIN, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address}; start one with `dask scheduler`, and workers with "
            f"`dask worker {address}`"
        ) from error
    # Tornado runs the client's callbacks, and logs the exceptions that they raise.
    with _told_by_errors("distributed.client", "tornado.application"), client:
        # With pure=True a task that failed, and is tried again, would not be computed again.
        yield client.get_executor(pure=False)  # type: ignore[no-untyped-call]


@contextmanager
def _told_by_errors(*names: str) -> Iterator[None]:
    """Keep libraries from logging exceptions that are also raised."""
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

    In a pool of the standard library, one killed worker fails all tasks. Here it fails only its current
    task, which is tried once more in a new worker.
    """

    def __init__(self, jobs: int) -> None:
        # A process forked from one with threads (those of a progress bar, for example) can hang. A fork
        # server has no threads, and imports the modules that every worker needs once.
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
        self, function: Callable[..., Result], /, *arguments: object, **named: object
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

    A ``ProcessPoolExecutor`` holds both ends of its pipe open, so it waits forever if its process is
    killed while it sends a result. Here the pipe closes when the worker ends.
    """

    def __init__(self, context: ForkServerContext | SpawnContext) -> None:
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, _script()), daemon=True)
        with _script_not_imported():
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


def _serve(pipe: Connection, script: dict[str, str]) -> None:
    """Do the tasks that come through a pipe, until it is closed."""
    _follow_parent()
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        try:
            task = _task(message, script)
        except Exception as error:
            pipe.send((False, GradquakeError(f"a task cannot be read: {error}")))
            continue
        try:
            outcome = (True, task())
        except Exception as error:
            # Tracebacks cannot be pickled.
            error.add_note(format_exc())
            outcome = (False, error)
        try:
            pipe.send(outcome)
        except (PicklingError, TypeError, AttributeError) as error:
            pipe.send((False, GradquakeError(f"a result cannot be sent: {error}")))


def _task(message: bytes, script: dict[str, str]) -> Callable[[], object]:
    try:
        task: Callable[[], object] = ForkingPickler.loads(message)
    except AttributeError:
        # The task is defined in the script that was started.
        try:
            spawn.prepare(script)
        except Exception as error:
            raise GradquakeError(
                f"{error}; it is defined in the script that was started, which each worker runs first; "
                'put the calls in the script under `if __name__ == "__main__":`'
            ) from error
        task = ForkingPickler.loads(message)
    return task


def _check_added_entries() -> None:
    """Raise InputError if a process cannot be sent an entry that was added to a table of the package."""
    script = _script()
    # A notebook or an interactive session has no script that a worker could run.
    runs_again = "init_main_from_name" in script or os.path.isfile(script.get("init_main_from_path", ""))
    for noun, name, entry in added_entries():
        try:
            sent = bytes(ForkingPickler.dumps(entry))
        except (PicklingError, TypeError, AttributeError):
            sent = None
        if sent is None or (b"__main__" in sent and not runs_again):
            raise InputError(
                f"the {noun} {name} cannot be sent to other processes; define its functions at the top "
                "level of a module that can be imported, or use jobs=1"
            )


def _script() -> dict[str, str]:
    """Return what ``spawn.prepare`` needs to import the script that was started."""
    data = spawn.get_preparation_data("")
    return {name: value for name, value in data.items() if name.startswith("init_main_")}


@contextmanager
def _script_not_imported() -> Iterator[None]:
    """Start processes that do not import the script that was started.

    By default they do, so a script would run again in each of them, unless it has an
    ``if __name__ == "__main__"``. ``multiprocessing`` does not import a main module of this name.
    """
    main = sys.modules["__main__"]
    with _STARTING:
        spec, main.__spec__ = main.__spec__, ModuleSpec("__main__", None)
        try:
            yield
        finally:
            main.__spec__ = spec


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Block interrupts in processes that this thread starts.

    Ctrl-C interrupts all processes of a terminal. Those of the standard library, and workers that have
    not reached ``_follow_parent``, would each print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The tracker lifts the block when it starts, so it has to start before.
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
    """Leave interrupts from the keyboard to the parent, and end when it ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
