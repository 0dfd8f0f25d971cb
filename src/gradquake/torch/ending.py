"""The end of the process: the measurements of probes that are still attached are written."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from collections.abc import Callable
from multiprocessing.util import Finalize

from gradquake.torch.journal import write_open_journals

__all__ = ["write_at_exit"]

# Both are for the handlers alone: a handler has no other way to find a probe.
_PROBES: list[weakref.WeakMethod[Callable[[], None]]] = []
_PREPARED: set[int] = set()


def write_at_exit(settle: Callable[[], None]) -> None:
    """Have all journals written at the end of this process, after a call of this method.

    The method's object may be collected before.
    """
    _PROBES[:] = [probe for probe in _PROBES if probe() is not None]
    _PROBES.append(weakref.WeakMethod(settle))
    # A process that multiprocessing started ends without calling the functions that atexit knows.
    if os.getpid() not in _PREPARED:
        _PREPARED.add(os.getpid())
        Finalize(None, _write_all, exitpriority=0)


@atexit.register
def _write_all() -> None:
    """Write the runs of probes that are still attached; the runs stay unfinished."""
    for probe in _PROBES:
        settle = probe()
        if settle is not None:
            with contextlib.suppress(Exception):
                settle()
    write_open_journals()
