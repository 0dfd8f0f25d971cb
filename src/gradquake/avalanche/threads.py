"""Threads that share the work on a gradient or a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Event
from typing import Any

__all__ = ["Run", "shared_among"]

# The built-in ``map``, or that of a pool of threads.
Run = Callable[..., Iterable[Any]]


@contextmanager
def shared_among(threads: int) -> Iterator[Run]:
    """Yield a ``map`` that shares the work among threads; fewer if the system refuses some."""
    with _pool(threads) or nullcontext() as pool:
        yield map if pool is None else pool.map


def _pool(threads: int) -> ThreadPoolExecutor | None:
    """Return a pool whose threads are all running, or None if it would have only one."""
    while threads > 1:
        pool, gate, waiting = ThreadPoolExecutor(threads), Event(), list[Future[bool]]()
        try:
            # Each task waits, so that each takes a thread of its own and all threads start.
            while len(waiting) < threads:
                waiting.append(pool.submit(gate.wait))
        except RuntimeError:
            threads = len(waiting)
        else:
            return pool
        finally:
            gate.set()
        pool.shutdown()
    return None
