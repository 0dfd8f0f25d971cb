"""The avalanches of gradients in files, each beside those of its nulls."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from gradquake.analysis.shown import json_text
from gradquake.avalanche.cascade import FIELDS, Avalanche, AvalancheNumbers
from gradquake.avalanche.probe import Probe

__all__ = ["Measurement", "Null", "RecordedAvalanche", "Series"]


@dataclass(frozen=True, repr=False)
class RecordedAvalanche(AvalancheNumbers):
    """An avalanche without its relaxed gradient; equal to another if all numbers are."""

    @classmethod
    def of(cls, avalanche: Avalanche) -> Self:
        """Return the numbers of an avalanche."""
        return cls(**{name: getattr(avalanche, name) for name in FIELDS})


@dataclass(frozen=True)
class Null:
    """The avalanches of the surrogates of one gradient, on one rung of the ladder of nulls.

    Attributes
    ----------
    draws : tuple of RecordedAvalanche
        One of each surrogate.
    value : float
        The mean size.
    low, high : float or None
        The range that holds 95 % of the sizes; None for a single draw.
    p_value : float or None
        (r + 1) / (draws + 1), if r of the draws are at least as large as the gradient's own avalanche
        (North, Curtis and Sham, Am. J. Hum. Genet. 71, 439 (2002)); None for a single draw.
    size_per_parameter, duration, deviation, threshold : float
        Means over the draws.
    truncated : int
        The number of draws that ``max_steps`` ended.
    isolated_share : float
        The mean isolated size of the draws over their mean size; NaN if that is 0.
    """

    draws: tuple[RecordedAvalanche, ...] = field(repr=False)
    value: float
    low: float | None
    high: float | None
    p_value: float | None
    size_per_parameter: float
    duration: float
    deviation: float
    threshold: float
    truncated: int
    isolated_share: float

    @classmethod
    def of(cls, real: RecordedAvalanche, draws: Sequence[RecordedAvalanche], n: int) -> Self:
        """Return the null of a gradient of ``n`` entries and the avalanche ``real``."""
        sizes = np.array([draw.size for draw in draws])
        low, high, p_value = None, None, None
        if sizes.size > 1:
            low, high = np.quantile(sizes, [0.025, 0.975]).tolist()
            p_value = (int((sizes >= real.size).sum()) + 1) / (sizes.size + 1)
        value = float(np.mean(sizes))
        duration, deviation, threshold = (
            float(np.mean([getattr(draw, name) for draw in draws]))
            for name in ("duration", "deviation", "threshold")
        )
        return cls(
            draws=tuple(draws), value=value, low=low, high=high, p_value=p_value,
            size_per_parameter=value / n, duration=duration, deviation=deviation, threshold=threshold,
            truncated=sum(draw.truncated for draw in draws),
            isolated_share=float(np.mean([draw.isolated for draw in draws])) / value if value else
            np.nan,
        )  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """One gradient, measured.

    Attributes
    ----------
    source : str
        The file, or the two files whose difference the gradient is.
    step : int
    avalanche : RecordedAvalanche
    size_per_parameter : float
        The size of the avalanche over N.
    gradient_norm : float
        The Euclidean norm.
    nulls : mapping of str to Null
        By rung.
    """

    source: str
    step: int
    avalanche: RecordedAvalanche
    size_per_parameter: float
    gradient_norm: float
    nulls: Mapping[str, Null]


@dataclass(frozen=True, repr=False)
class Series:
    """The measured gradients of one training, in the order of their steps; made by ``measure``.

    It has the length of its ``measurements``, and gives them by index and in a loop.

    Attributes
    ----------
    measurements : tuple of Measurement
    probe : Probe
        The settings that they were measured with.
    n_parameters : int
        N, the number of entries that were measured.
    paths : tuple of Path
        The files in the order of their steps.
    differences : bool
        Whether each gradient is the difference of two files.
    match : tuple of str
    sample : int or None
    notes : tuple of str
        How the files were read, as far as a reader must know it.
    left_out : tuple of str
        The parts of the files that were not measured, each with the reason.
    """

    measurements: tuple[Measurement, ...]
    probe: Probe
    n_parameters: int
    paths: tuple[Path, ...]
    differences: bool
    match: tuple[str, ...]
    sample: int | None
    notes: tuple[str, ...]
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.measurements)

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.measurements)

    def __getitem__(self, index: int) -> Measurement:
        return self.measurements[index]

    def to_json(self) -> str:
        """Return the series as JSON text, in ASCII."""
        found = {
            "n_parameters": self.n_parameters,
            "settings": self.probe.settings()
            | {"differences": self.differences, "sample": self.sample, "match": list(self.match)},
            "notes": list(self.notes),
            "left_out": list(self.left_out),
            "measurements": [_as_json(one) for one in self.measurements],
        }
        return json_text(found)

    def _cells(self) -> list[list[str]]:
        """Return the rows of a small table, the header first: steps, sizes and isolated sizes."""
        header = ["step", "size", "isolated", *self.measurements[0].nulls]
        rows = [
            [
                *map(str, (one.step, one.avalanche.size, one.avalanche.isolated)),
                *(f"{null.value:g}" for null in one.nulls.values()),
            ]
            for one in self.measurements
        ]
        return [header, *rows]

    def __repr__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in cells]
        # Of a long series the first and the last rows are shown.
        shown = lines if len(lines) <= 21 else [*lines[:11], "...", *lines[-10:]]
        return "\n".join([f"Series of N = {self.n_parameters}, {self.probe.topology}", *shown])

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._cells()
        )
        return f"<table>{rows}</table>"


def _numbers(avalanche: RecordedAvalanche) -> dict[str, object]:
    return {**avalanche.measured(), "isolated": avalanche.isolated}


def _as_json(one: Measurement) -> dict[str, object]:
    nulls = {
        rung: {
            **{name: getattr(null, name) for name in ("value", "low", "high", "p_value")},
            "draws": [_numbers(draw) for draw in null.draws],
        }
        for rung, null in one.nulls.items()
    }
    norm = one.gradient_norm if math.isfinite(one.gradient_norm) else None
    measured = {"source": one.source, "step": one.step, **_numbers(one.avalanche)}
    return {**measured, "gradient_norm": norm, "nulls": nulls}
