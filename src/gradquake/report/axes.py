"""Axes of charts: where a value stands, the marks at round numbers, and the range of values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "Tick", "range_of", "short"]

Floats = NDArray[np.float64]


class Tick(NamedTuple):
    """A mark of an axis: its place in the drawing, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """The range of an axis, and its place in the drawing from ``start`` to ``end``."""

    low: float
    high: float
    log: bool
    start: float
    end: float

    def at(self, values: Floats) -> Floats:
        """Return the places of values."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log(values), math.log(low), math.log(high)
        places: Floats = self.start + (values - low) / (high - low) * (self.end - self.start)
        return places

    def ticks(self, most: int) -> list[Tick]:
        """Return at most about ``most`` marks at round numbers."""
        values = _log_ticks(self.low, self.high, most) if self.log else _ticks(self.low, self.high, most)
        places = self.at(np.array(values, np.float64))
        return [Tick(short(at), f"{value:g}") for at, value in zip(places, values, strict=True)]


def range_of(values: Floats, log: bool, margin: float) -> tuple[float, float]:
    """Return the ends of an axis that holds values, with a margin as a share of their range."""
    known = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not known.size:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = float(known.min()), float(known.max())
    if log:
        factor = (high / low) ** margin if high > low else 2.0
        return low / factor, high * factor
    room = margin * (high - low) if high > low else abs(low) * 0.1 or 1.0
    return low - room, high + room


def short(value: float) -> float:
    """Return a place with one decimal, which no screen resolves finer."""
    return round(float(value), 1) + 0.0


def _ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * of for of in (1, 2, 5, 10) if power * of >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in ((1, 2, 5), (1, 3), (1,)):
        found = [
            of * 10.0**power for power in powers for of in leading if low <= of * 10.0**power <= high
        ]
        if len(found) <= most:
            break
    return found[:: math.ceil(len(found) / most)] if found else []
