"""Warnings of a probe in a user's training: they name a failure, and do not end the training."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

import gradquake
from gradquake.errors import GradquakeError, printable, told

__all__ = ["Complaints", "Gaps", "nulls_failed", "reason", "step_failed", "tell"]

# A warning points at the user's own code: not at gradquake, and not at torch, which calls its hooks.
NOT_THE_USERS = tuple(str(Path(file).parent) for file in (gradquake.__file__, torch.__file__))


class Complaints:
    """The failures of one probe: each kind is told once, or raised if the user wants that.

    Parameters
    ----------
    errors : str
        "warn" or "raise".
    """

    def __init__(self, errors: str) -> None:
        self.raises = errors == "raise"
        self._told: set[str] = set()

    def __contains__(self, kind: str) -> bool:
        """Whether a failure of this kind has been told."""
        return kind in self._told

    def once(self, kind: str, message: str) -> None:
        """Tell a message, unless one of its kind has been told."""
        if kind not in self._told:
            self._told.add(kind)
            tell(message)

    def add(self, kind: str, message: str, error: Exception) -> None:
        """Tell a failure once for each kind, or raise its error with ``errors="raise"``."""
        if self.raises:
            raise error
        self.once(kind, message)


class Gaps:
    """The steps that were to be measured and could not be.

    Attributes
    ----------
    steps : int
        How many.
    nulls : Counter of str
        At how many steps each null could not be measured.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.nulls: Counter[str] = Counter()
        self._first: tuple[int, str] | None = None
        self._last: int | None = None

    def skip(self, step: int, why: str) -> None:
        """Count a step that could not be measured, once."""
        self.steps += step != self._last
        self._last = step
        self._first = self._first or (step, why)

    def tell(self, *, told: bool) -> None:
        """Sum the gaps up, but for a single one that was told when it occurred."""
        if self._first is not None and (self.steps > 1 or not told):
            step, why = self._first
            steps = "1 step was" if self.steps == 1 else f"{self.steps} steps were"
            tell(f"{steps} not measured, the first at step {step}: {why}")
        for name, count in self.nulls.items():
            if count > 1:
                tell(f"the null {name} was not measured at {count} steps")

    def tell_of_no_snapshot(self, steps: int) -> None:
        """Tell that nothing was measured in a training of this many steps, and the likely cause."""
        if steps == 0:
            tell(
                "no step of this optimizer was seen, so nothing was measured: training steps another "
                "optimizer, or does not call step(); attach to the optimizer whose step() is called"
            )
        else:
            tell(f"nothing was measured: `every` chose none of the {steps} steps")


def step_failed(step: int, error: Exception, gaps: Gaps, complaints: Complaints) -> None:
    """Count and tell that a step could not be measured."""
    gaps.skip(step, reason(error))
    said = f"step {step} was not measured: {reason(error)}; training goes on"
    complaints.add("step", said, error)


def nulls_failed(step: int, failed: Mapping[str, Exception], gaps: Gaps, complaints: Complaints) -> None:
    """Count and tell which nulls of a step could not be measured."""
    for name, error in failed.items():
        gaps.nulls[name] += 1
        said = f"the null {name} was not measured at step {step}: {reason(error)}"
        complaints.add(f"null {name}", said, error)


def tell(message: str) -> None:
    """Warn, or print to stderr if the user's filters turn warnings into errors."""
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
    """Return the message of an exception on one line, with its type unless gradquake raised it."""
    if isinstance(error, GradquakeError):
        return printable(str(error))
    return f"{type(error).__name__}: {told(error)}"
