"""Schedules: functions of a step, counted from 0, that say whether to measure it."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral

from gradquake.errors import InputError, require_count

__all__ = ["Schedule", "every", "logarithmic", "schedule"]

Schedule = Callable[[int], bool]


def every(interval: int) -> Schedule:
    """Return the schedule 0, n, 2 n, ...

    Raises
    ------
    InputError
        For an interval below 1.
    """
    require_count("every", interval, 1)
    return lambda step: step % interval == 0


def logarithmic(per_decade: int = 20) -> Schedule:
    """Return a schedule with about as many steps in every decade: 0, 1, 2, ..., 100, 112, 126, ...

    Raises
    ------
    InputError
        For fewer than one step a decade.
    """
    require_count("per_decade", per_decade, 1)

    def chosen(step: int) -> bool:
        if step <= 1:
            return True
        # The step is measured if it is a rounded power of 10^(1 / per_decade).
        power = round(math.log10(step) * per_decade)
        return any(round(10 ** (k / per_decade)) == step for k in (power - 1, power, power + 1))

    return chosen


def schedule(given: int | Schedule) -> Schedule:
    """Return the schedule that an interval or a function means.

    Raises
    ------
    InputError
        If it is neither.
    """
    if callable(given):
        return given
    if isinstance(given, Integral):
        return every(int(given))
    raise InputError(f"every is {given!r}; a number of steps or a function of the step is needed")
