"""How a guest in somebody's training speaks: it says what failed, and never raises."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

import torch

import gradquake
from gradquake.errors import GradquakeError, printable, told

# Code between the user's and here: gradquake, and torch, which calls its hooks.
NOT_THE_USERS = tuple(str(Path(file).parent) for file in (gradquake.__file__, torch.__file__))


def tell(message: str) -> None:
    """Warn, or print to stderr if the user's filters make errors of warnings."""
    try:
        warnings.warn(message, stacklevel=_level())
    except Exception:
        with contextlib.suppress(Exception):
            print(f"gradquake: {message}", file=sys.stderr)


def _level() -> int:
    """Return how many frames above ``tell`` the user's own code is."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(NOT_THE_USERS):
        level, frame = level + 1, frame.f_back
    return level


def reason(error: Exception) -> str:
    """Return what an exception says, in one line; with its type, unless it is one of gradquake's own."""
    if isinstance(error, GradquakeError):
        return printable(str(error))
    return f"{type(error).__name__}: {told(error)}"
