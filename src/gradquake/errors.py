"""The errors that gradquake raises, and checks that raise them.

A message says what was given, what is needed and, if it helps, what to do.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

__all__ = [
    "GradquakeError", "InputError", "NotAtRestError", "OutOfMemoryError", "RunTakenError", "StudyError",
    "a_type", "counted", "out_of_memory", "printable", "require", "require_between", "require_count",
    "require_number", "require_seed", "shortened", "told",
]  # fmt: skip


class GradquakeError(Exception):
    """Base class of every error that gradquake raises on purpose."""


class InputError(GradquakeError, ValueError):
    """An argument, a configuration or an array that cannot be used."""


class NotAtRestError(InputError):
    """A gradient that does not come to rest, so that nothing can be measured on its state of rest."""


class OutOfMemoryError(GradquakeError, MemoryError):
    """A measurement for which there is not enough memory."""


class StudyError(GradquakeError):
    """A study file that cannot be opened, read or written."""


class RunTakenError(StudyError):
    """A run that this process began, but that was removed or that another process continued since."""


def require(condition: bool, message: str) -> None:
    """Raise :class:`InputError` with a constant message unless ``condition`` holds.

    A message that is built from values belongs under ``if not ...: raise InputError``, so that it is
    built only if the check fails.
    """
    if not condition:
        raise InputError(message)


def out_of_memory(measured: str) -> OutOfMemoryError:
    """Return the error for a measurement of ``measured`` for which there is not enough memory."""
    return OutOfMemoryError(
        f"there is not enough memory to measure {measured}; free some memory, or measure fewer entries"
    )


def a_type(value: object) -> str:
    """Return the type of a value with its article: "an int", "a str"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the singular or plural: "1 entry", "2 entries"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def require_between(
    name: str, value: float, low: float, high: float, *, inclusive: bool = False
) -> None:
    """Raise :class:`InputError` unless ``low < value < high`` (``<=`` if ``inclusive``)."""
    number = require_number(name, value)
    inside = low <= number <= high if inclusive else low < number < high
    brackets = "[]" if inclusive else "()"
    if not (math.isfinite(number) and inside):
        raise InputError(
            f"{name} is {shortened(value)}; a number in {brackets[0]}{low:g}, {high:g}{brackets[1]} is "
            "needed"
        )


def require_number(name: str, value: object) -> float:
    """Return ``value`` as a float, or raise :class:`InputError` if it is not a real number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise InputError(f"{name} is {shortened(value)}; a number is needed")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{name} is too large; a number below 1.8e308 is needed") from None


def require_count(name: str, value: int, minimum: int) -> None:
    """Raise :class:`InputError` unless ``value`` is an integer of at least ``minimum``."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_integer and value >= minimum):
        raise InputError(f"{name} is {shortened(value)}; an integer of at least {minimum} is needed")
    if value >= 2**63:
        raise InputError(f"{name} is {shortened(value)}; an integer below 2^63 is needed")


def require_seed(value: int) -> None:
    """Raise :class:`InputError` unless ``value`` can be the seed of a draw."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_integer and 0 <= value < 2**63):
        raise InputError(f"seed is {shortened(value)}; an integer from 0 to 2^63 - 1 is needed")


def printable(text: str) -> str:
    """Return text on one line, with escapes for characters that cannot be printed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(value: object) -> str:
    """Return a value as at most 60 printable characters on one line."""
    text = printable(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def told(error: Exception) -> str:
    """Return the message of another library's error, in one short line."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join((reason or type(error).__name__).split()))[:160].rstrip(". ")
