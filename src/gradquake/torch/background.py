"""One piece of work at a time in a thread beside the training."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Background"]

Result = TypeVar("Result")

# An interrupted wait may miss the end of the work. It then looks again after this many seconds.
LOOK_AGAIN = 0.1


class Background(Generic[Result]):
    """Runs one piece of work at a time in a thread of its own.

    The thread does not keep the interpreter from ending. A fork waits for the end of the work, because
    the child would keep the locks that the work holds for good.
    """

    def __init__(self) -> None:
        self._finished = True
        self._result: Result | None = None
        self._running = threading.Lock()
        self._worker: int | None = None
        self._process = os.getpid()
        _ALL.add(self)

    @property
    def busy(self) -> bool:
        """Whether work is under way; never in a forked process, which has no such thread."""
        return not self._finished and os.getpid() == self._process

    def start(self, work: Callable[[], Result]) -> None:
        """Start work, which must not raise. The work before must have ended.

        If the system refuses a thread, the work is done at once.
        """
        running = threading.Lock()
        running.acquire()
        # The first to take it does the work, or prevents it.
        claim = threading.Lock()
        # A daemon, so that a script can end.
        thread = threading.Thread(
            target=self._work, args=(work, running, claim), name="gradquake measurement", daemon=True
        )
        with _forking:
            try:
                self._running, self._finished = running, False
                thread.start()
                return
            except (RuntimeError, MemoryError):
                pass
            except BaseException:
                # After Ctrl-C, the thread may begin later, or never.
                if claim.acquire(blocking=False):
                    self._finished = True
                raise
        self._work(work, running, claim)

    def wait(self, patience: float | None = None) -> None:
        """Wait for the end of the work, at most ``patience`` seconds; not within the work itself."""
        looks = 0
        while self.busy and threading.get_ident() != self._worker:
            if patience is not None and looks * LOOK_AGAIN >= patience:
                return
            running = self._running
            if running.acquire(timeout=LOOK_AGAIN):
                running.release()
            looks += 1

    def result(self) -> Result | None:
        """Return the result of the work that has ended, once; None if there is none."""
        if self.busy:
            return None
        found, self._result = self._result, None
        return found

    def _work(self, work: Callable[[], Result], running: threading.Lock, claim: threading.Lock) -> None:
        if not claim.acquire(blocking=False):
            return
        self._worker = threading.get_ident()
        try:
            self._result = work()
        finally:
            self._worker = None
            self._finished = True
            running.release()


# Every object of this process, for forks.
_ALL: weakref.WeakSet[Background[Any]] = weakref.WeakSet()
# Held while a thread starts, and during a fork.
_forking = threading.RLock()


def _before_fork() -> None:
    _forking.acquire()
    for background in list(_ALL):
        background.wait()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_forking.release,
        after_in_child=_forking.release,
    )
