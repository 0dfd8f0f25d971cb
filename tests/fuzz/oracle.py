"""What every execution must keep to, whatever it is given."""

from __future__ import annotations

import atexit
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

LONGEST = 10.0
MOST_MEMORY = 2**30

# What a file that is read has no business to bring about.
FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.mkdir",
    "os.rmdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.chmod", "os.putenv",
    "subprocess.Popen", "shutil.", "socket.", "pickle.find_class", "code.__new__",
    "ctypes.dlopen", "urllib.Request",
)  # fmt: skip
_watched: list[str] | None = None


def check(condition: Any, message: str) -> None:
    """Raise AssertionError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise AssertionError(message)


@cache
def scratch() -> Path:
    """Return a folder for the files of this process, in memory where there is such a place."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="gradquake-fuzz-", dir=memory))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def in_time(execute: Callable[[], None]) -> None:
    """Execute what may not take long; once more where it does, for what is compiled and loaded once."""
    for _ in range(2):
        started = time.perf_counter()
        with bounded():
            execute()
        seconds = time.perf_counter() - started
        if seconds < LONGEST:
            return
    check(False, f"it took {seconds:.0f} s, and more than {LONGEST:.0f} s before")


@contextmanager
def bounded() -> Iterator[None]:
    """Let nothing warn or take much memory."""
    _known_peak()
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    check(not warned, f"it warned: {[str(one.message) for one in warned]}")
    # To touch much memory takes longer, and to ask for its peak costs as much as an execution.
    if time.perf_counter() - started > 0.05:
        _check_memory()


@cache
def _known_peak() -> list[int]:
    return [_peak()]


def _check_memory() -> None:
    [before], now = _known_peak(), _peak()
    _known_peak()[:] = [now]
    check(now - before < MOST_MEMORY, f"it took {(now - before) / 2**20:.0f} MiB")


def _peak() -> int:
    """Return the most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def nothing_run() -> Iterator[None]:
    """Let nothing start a process, unpickle a class, or touch a file but to read it."""
    global _watched
    _install_hook()
    _watched = []
    try:
        yield
        done = _watched
    finally:
        _watched = None
    check(not done, f"a file that was read brought about {done}")


@cache
def _install_hook() -> None:
    sys.addaudithook(_note)  # it stays until the process ends


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is None:
        return
    writes = event == "open" and isinstance(arguments[1], str) and any(m in arguments[1] for m in "wax+")
    if writes or event.startswith(FORBIDDEN):
        _watched.append(f"{event} {arguments}"[:200])


def check_sentence(error: Exception) -> None:
    """Check that an error is told in one line."""
    message = str(error)
    check(len(message.splitlines()) == 1, f"not one line: {message!r}")
    check(message.isprintable(), f"not printable: {message!r}")
