"""How a guest in somebody's training speaks: it says what failed, and never raises."""

from __future__ import annotations

import contextlib
import sys
import warnings

import torch

import gradquake
from gradquake.errors import GradquakeError, printable, told

# Whose lines say nothing to the user.
INNER = tuple(path for package in (gradquake, torch) for path in package.__path__)


def tell(message: str) -> None:
    """Warn at the user's line, or print to stderr if the user's filters make errors of warnings."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INNER):
        level, frame = level + 1, frame.f_back
    try:
        warnings.warn(message, stacklevel=level)
    except Exception:
        with contextlib.suppress(Exception):
            print(f"gradquake: {message}", file=sys.stderr)


def reason(error: Exception) -> str:
    """Return what an exception says, in one line; with its type, unless it is one of gradquake's own."""
    if isinstance(error, GradquakeError):
        return printable(str(error))
    return f"{type(error).__name__}: {told(error)}"
