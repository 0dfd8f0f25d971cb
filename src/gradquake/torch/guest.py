"""How a guest in somebody's training speaks: it says what failed, and never raises."""

from __future__ import annotations

import contextlib
import sys
import warnings

from gradquake.errors import GradquakeError, printable, told


def tell(message: str) -> None:
    """Warn, or print to stderr if the user's filters make errors of warnings."""
    try:
        warnings.warn(message, stacklevel=3)
    except Exception:
        with contextlib.suppress(Exception):
            print(f"gradquake: {message}", file=sys.stderr)


def reason(error: Exception) -> str:
    """Return what an exception says, in one line; with its type, unless it is one of gradquake's own."""
    if isinstance(error, GradquakeError):
        return printable(str(error))
    return f"{type(error).__name__}: {told(error)}"
