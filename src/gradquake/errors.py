"""What gradquake raises: one base class, and messages that say what was given and what is needed."""

from __future__ import annotations

import math
from numbers import Integral, Real


class GradquakeError(Exception):
    """Base class of every error that gradquake raises on purpose."""


class InputError(GradquakeError, ValueError):
    """An argument, a configuration or an array that cannot be used."""


class OutOfMemoryError(GradquakeError, MemoryError):
    """A measurement that needs more memory than there is."""


class StudyError(GradquakeError):
    """A study file that cannot be opened, read or written."""


class RunTakenError(StudyError):
    """A run that was begun here and is no longer: it was removed, or another process continued it."""


def require(condition: bool, message: str) -> None:
    """Raise :class:`InputError` with ``message`` unless ``condition`` holds.

    For constant messages. One that has to be built belongs under ``if not ...: raise InputError``, so
    that it is built only if the check fails.
    """
    if not condition:
        raise InputError(message)


def out_of_memory(what: str) -> OutOfMemoryError:
    """Return the error for a measurement of ``what`` that needs more memory than there is."""
    return OutOfMemoryError(
        f"there is not enough memory to measure {what}; free some memory, or measure fewer entries"
    )


def a_type(value: object) -> str:
    """Return the type of a value with its article: "an int", "a str"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts, in the singular or plural: "1 entry", "2 entries"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def require_between(
    name: str, value: float, low: float, high: float, *, inclusive: bool = False
) -> None:
    """Raise :class:`InputError` unless ``low < value < high`` (``<=`` where ``inclusive``)."""
    number = require_number(name, value)
    inside = low <= number <= high if inclusive else low < number < high
    brackets = "[]" if inclusive else "()"
    if not (math.isfinite(number) and inside):
        raise InputError(
            f"{name} is {value!r}; a number in {brackets[0]}{low:g}, {high:g}{brackets[1]} is needed"
        )


def require_number(name: str, value: object) -> float:
    """Return ``value`` as a float, or raise :class:`InputError` where it is not a real number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; a number is needed")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{name} is too large; a number below 1.8e308 is needed") from None


def require_count(name: str, value: int, minimum: int) -> None:
    """Raise :class:`InputError` unless ``value`` is an integer of at least ``minimum``."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_integer and value >= minimum):
        raise InputError(f"{name} is {value!r}; an integer of at least {minimum} is needed")
    if value >= 2**63:
        raise InputError(f"{name} is {value!r}; an integer below 2^63 is needed")


def require_seed(value: int) -> None:
    """Raise :class:`InputError` unless ``value`` can be the seed of a draw."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_integer and 0 <= value < 2**63):
        raise InputError(f"seed is {value!r}; an integer from 0 to 2^63 - 1 is needed")


def printable(text: str) -> str:
    """Return text with what cannot be printed, a line's end among it, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def told(error: Exception) -> str:
    """Return what another library's error says, in one line and not at length."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join((reason or type(error).__name__).split()))[:160].rstrip(". ")
