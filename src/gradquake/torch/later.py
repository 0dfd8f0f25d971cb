"""Something done a little later, by a thread that is there only while something waits."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable


class Later:
    """Calls a method once, so many seconds after it was first asked to.

    The object of the method is held weakly, and may be gone by then.
    """

    def __init__(self, method: Callable[[], object]) -> None:
        self._method = weakref.WeakMethod(method)
        self._timer: threading.Timer | None = None
        self._pending = False
        _ALL.add(self)

    def ask(self, seconds: float) -> None:
        """Have the method called; nothing changes where it will be."""
        if self._pending:
            return
        self._pending = True
        self._timer = threading.Timer(seconds, self._due)
        # A script that ends does not wait for it.
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # no thread is to be had, as when the interpreter is ending
            self._timer, self._pending = None, False

    def stop(self) -> None:
        """Call it no more until asked again."""
        self._pending = False
        if self._timer is not None:
            self._timer.cancel()

    def settle(self) -> None:
        """End the thread, and do now what was asked for."""
        pending, timer = self._pending, self._timer
        self.stop()
        if timer is not None:
            timer.join()
        if pending:
            self._call()

    def _due(self) -> None:
        # Before the call, so that what comes to wait during it is asked for anew.
        self._pending = False
        self._call()

    def _call(self) -> None:
        method = self._method()
        if method is not None:
            method()


_ALL: weakref.WeakSet[Later] = weakref.WeakSet()


def _settle_all() -> None:
    for later in list(_ALL):
        later.settle()


if hasattr(os, "register_at_fork"):
    # A process forked while the thread writes would have the locks of SQLite as they were, for good.
    os.register_at_fork(before=_settle_all)
