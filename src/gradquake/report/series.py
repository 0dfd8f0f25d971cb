"""A measured series as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from gradquake.avalanche.probe import Probe
from gradquake.errors import printable
from gradquake.files.series import Measurement, Outcome, Series, _sources
from gradquake.report.json import finite
from gradquake.report.text import Table, bracketed, number


def as_json(series: Series, probe: Probe, measured: Sequence[Measurement]) -> dict[str, Any]:
    """Return a measured series as ``json`` can write it."""
    return {
        "n_parameters": series.n_parameters,
        "settings": asdict(probe)
        | {"differences": series.differences, "sample": series.sample, "match": list(series.match)},
        "notes": list(series.notes),
        "left_out": list(series.layout.left_out),
        "measurements": [
            {
                "source": one.source,
                "step": one.step,
                **asdict(one.real),
                "gradient_norm": finite(one.gradient_norm),
                "nulls": {
                    rung: {
                        "mean_size": null.mean,
                        "low": null.low,
                        "high": null.high,
                        "p_value": null.p_value,
                        "draws": [asdict(draw) for draw in null.draws],
                    }
                    for rung, null in one.nulls.items()
                },
            }
            for one in measured
        ],
    }


def table(series: Series, probe: Probe, measured: Sequence[Measurement]) -> Table:
    """Return a measured series for a reader: a row a gradient, or of a single one a row a null."""
    n = series.n_parameters
    title = f"N = {n}, {probe.topology}, alpha {probe.alpha:g}, quantile {probe.quantile:g}"
    terms = "T: steps of the cascade; cut: ended by --max-steps; angle: degrees it turned the gradient."
    kept = (
        "gaussian: random numbers; permuted: the gradient's own, in random places; sign flipped: its "
        "own in place, with random signs."
    )
    if len(measured) == 1:
        p_value = "p: (1 + draws at least as large) / (1 + draws)." if measured[0].nulls else ""
        rows = _rows_of_one(measured[0], n)
        header = ("gradient", "size [95 %]", "s/N", "T", "cut", "angle", "threshold", "p")
        shown = header if p_value else header[:-1]
        return Table(
            f"{printable(measured[0].source)}: {title}",
            shown,
            [row[: len(shown)] for row in rows],
            f"{terms} {p_value} {kept}" if p_value else terms,
        )
    rungs = tuple(measured[0].nulls)
    rows = [
        (
            str(one.step),
            number(one.real.size),
            *_shape(n, one.real),
            *(bracketed(null.mean, null.low, null.high) for null in one.nulls.values()),
        )
        for one in measured
    ]
    pattern, sources = _sources(series)
    if series.differences:
        first = printable(str(series.paths[0]))
        terms = f"Each row is its file minus the file before, the first minus {first}. {terms}"
    names = (rung.replace("_", " ") for rung in rungs)
    return Table(
        f"{pattern}: {title}",
        ("step", "size", "s/N", "T", "cut", "angle", "threshold", *names),
        rows,
        (f"{terms} Nulls: sizes. {kept}" if rungs else terms) + sources,
    )


def _rows_of_one(one: Measurement, n: int) -> list[tuple[str, ...]]:
    rows = [("real", number(one.real.size), *_shape(n, one.real), "")]
    for rung, null in one.nulls.items():
        rows.append(
            (
                rung.replace("_", " "),
                bracketed(null.mean, null.low, null.high),
                *_shape(n, *null.draws),
                "" if null.p_value is None else number(null.p_value),
            )
        )
    return rows


def _shape(n: int, *draws: Outcome) -> tuple[str, ...]:
    """Return the cells of one avalanche, or means over several."""

    def mean(name: str) -> float:
        return float(np.mean([getattr(draw, name) for draw in draws]))

    cut = sum(draw.truncated for draw in draws)
    return (
        number(mean("size") / n),
        number(mean("duration")),
        ("yes" if cut else "no") if len(draws) == 1 else f"{cut} of {len(draws)}",
        number(mean("deviation")),
        number(mean("threshold")),
    )
