"""The parts of a report on one sweep, one table: a new part is a function, a template and one entry.

docs/report.md has an example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gradquake.analysis.channels import SIZE, channel_label
from gradquake.analysis.dimension import Curve
from gradquake.analysis.ladder import SPANS, Ladder, Span
from gradquake.analysis.live import thinned
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.shown import number
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.tensors import tensor_shares
from gradquake.analysis.transitions import PHASES, Phase
from gradquake.avalanche.surrogates import REAL, SURROGATES
from gradquake.errors import counted
from gradquake.report.charts import Chart, Forest, Level, Range, Row, Series, extremes
from gradquake.report.doubts import PLACES
from gradquake.report.origin import origin
from gradquake.report.page import TEMPLATES, Part, Variables
from gradquake.report.tables import attribution_table, exponents_table, timing_table
from gradquake.report.text import Table, with_interval
from gradquake.scrutiny.scrutinize import Scrutiny

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["PARTS", "Subject", "color_of", "estimate_row"]

# A long D(t) is divided into this many columns, the extremes of each of which are kept.
COLUMNS = 200

# A chart of runs shows at most as many networks, and as many steps of each.
MOST_RUNS = 8
MOST_STEPS = 300

# The numbers of a run that are drawn beside s/N, if they were recorded.
OF_RUNS = ("loss", "accuracy", "train_accuracy", "test_accuracy")


@dataclass(frozen=True, eq=False)
class Subject:
    """What a report is about: a sweep, and everything that was computed of it.

    Attributes
    ----------
    sweep : xarray.Dataset
    statistics : tuple of {"max", "mean"}
    ladder : Ladder or None
        The analysis, beside no null if none was measured; None if no exponent can be fitted.
    scrutiny : Scrutiny or None
        The same with collapses and times; None without nulls.
    channels : mapping of str to Ladder
        The analysis in other channels.
    reading, missing : sequence of str
        Sentences: what the analysis says, and why something is not in the report.
    tables : sequence of Table
        Further results.
    commands : sequence of str
        That make the results again.
    """

    sweep: xr.Dataset
    statistics: tuple[Statistic, ...] = tuple(STATISTICS)
    ladder: Ladder | None = None
    scrutiny: Scrutiny | None = None
    channels: Mapping[str, Ladder] = field(default_factory=dict)
    reading: Sequence[str] = ()
    missing: Sequence[str] = ()
    tables: Sequence[Table] = ()
    commands: Sequence[str] = ()


def color_of(rung: str) -> str:
    """Return the color of the data ("real") or of a null."""
    if rung == REAL:
        return "c0"
    return f"c{1 + list(SURROGATES).index(rung) % 6}" if rung in SURROGATES else "c6"


def estimate_row(name: str, label: str, color: str, found: Estimate) -> Row:
    """Return an estimate as a row of a forest; an interval of no width is not drawn."""
    ends = (math.nan, math.nan) if found.is_one_value else (found.low, found.high)
    return Row(name, label, color, found.value, *ends, with_interval(found))


def _reading(subject: Subject) -> Variables | None:
    return {"sentences": subject.reading, "missing": subject.missing}


# D(t)


def _dimension(subject: Subject) -> Variables | None:
    if subject.ladder is None:
        return None
    return {"charts": list(_curves(subject.ladder, subject.statistics))}


def _curves(
    ladder: Ladder, statistics: Sequence[Statistic], marks: tuple[tuple[str, str], ...] = ()
) -> Iterator[Chart]:
    """Yield D(t) of each statistic beside its nulls."""
    grokked = ladder.real.grokking_range
    spans = (Range(*grokked, "t_g of the runs"),) if math.isfinite(grokked.first) else ()
    for statistic in statistics:
        symbol = STATISTICS[statistic].symbol
        curves = {REAL: ladder.real.curves[statistic]}
        curves |= {rung: null.curves[statistic] for rung, null in ladder.nulls.items()}
        of = f"{STATISTICS[statistic].label} {channel_label(ladder.real.channel)}"
        chart = Chart(
            f"{symbol}(t) of the {of}",
            "epoch",
            f"{symbol}(t)",
            [_curve(rung, curve) for rung, curve in curves.items()],
            f"Real gradients: {curves[REAL].text}.",
            # Of no other channel 1 is the trivial exponent.
            levels=(Level(1.0, ""),) if ladder.real.channel == SIZE else (),
            spans=spans,
            link="epoch",
            marks=(("statistic", statistic), *marks),
            cautions=()
            if curves[REAL].has_intervals
            else ("There is no interval: runs do not differ.",),
        )
        if not chart.is_empty:
            yield chart


def _curve(rung: str, curve: Curve) -> Series:
    found = curve.dimension
    value, low, high = (found[name].values for name in ("value", "low", "high"))
    if not curve.has_intervals:
        low = high = np.full(value.size, np.nan)
    seen = extremes(value, low, high, columns=COLUMNS)
    epoch = found["epoch"].values.astype(np.float64)
    return Series(rung, color_of(rung), epoch[seen], value[seen], low[seen], high[seen])


# Sizes against N


def _scaling(subject: Subject) -> Variables | None:
    ladder = subject.ladder
    if ladder is None:
        return None
    pairs = product(PHASES, subject.statistics)
    charts = [_sizes(ladder, phase, statistic) for phase, statistic in pairs]
    return {
        "charts": [chart for chart in charts if not chart.is_empty],
        "tables": [exponents_table(ladder, subject.statistics)],
    }


def _sizes(ladder: Ladder, phase: Phase, statistic: Statistic) -> Chart:
    symbol, label = STATISTICS[statistic].symbol, STATISTICS[statistic].label
    found = ladder.exponent(REAL, phase, statistic)
    series = [
        of
        for place, rung in enumerate((REAL, *ladder.nulls))
        for of in _fitted(
            rung, ladder.exponent(rung, phase, statistic), 3.0 * (place - len(ladder.nulls) / 2)
        )
    ]
    shown = f"{symbol} = {with_interval(found)}, R² {number(found.fit.r_squared)}"
    return Chart(
        f"{label.capitalize()} {channel_label(ladder.real.channel)} {PLACES[phase]}",
        "N",
        f"{label} {channel_label(ladder.real.channel)}",
        series,
        f"{shown} {PLACES[phase]}. Lines: fitted power laws.",
        log=True,
        link="N",
        marks=(("statistic", statistic), ("phase", phase)),
        cautions=tuple(filter(None, (found.fit.message, *found.cautions))),
    )


def _fitted(rung: str, found: Exponent, shift: float) -> list[Series]:
    """Return the sizes at every scale, and the line through them."""
    n = found.n_parameters.astype(np.float64)
    sizes, nothing = found.sizes, np.full(n.size, np.nan)
    line = np.exp(found.fit.intercept) * n**found.fit.exponent
    color = color_of(rung)
    return [
        Series(rung, color, n, sizes.value, sizes.low, sizes.high, "points", shift),
        Series(rung, color, n, line, nothing, nothing),
    ]


# The ladder


def _ladder(subject: Subject) -> Variables | None:
    ladder = subject.ladder
    if ladder is None or not {"gaussian", "permuted"} <= ladder.nulls.keys():
        return None
    pairs = product(subject.statistics, SPANS)
    forests = [draw(ladder, *pair) for pair in pairs for draw in (_rungs, _accounts)]
    return {
        "forests": [forest for forest in forests if not forest.is_empty],
        "tables": [attribution_table(ladder, subject.statistics)],
    }


def _rungs(ladder: Ladder, statistic: Statistic, span: Span) -> Forest:
    symbol = STATISTICS[statistic].symbol
    rows = [
        estimate_row(rung, rung.replace("_", " "), color_of(rung), ladder.value(rung, span, statistic))
        for rung in (REAL, *ladder.nulls)
    ]
    title = f"{symbol}, {_place(span)}"
    return Forest(
        title, rows, 0.0 if span == "rise" else 1.0, marks=(("statistic", statistic), ("phase", span))
    )


def _place(span: Span) -> str:
    return "after minus before grokking" if span == "rise" else PLACES[span]


def _accounts(ladder: Ladder, statistic: Statistic, span: Span) -> Forest:
    found = ladder.attribution(span, statistic)
    symbol = STATISTICS[statistic].symbol
    of = symbol if span == "rise" else f"{symbol} - 1"
    rows = [
        estimate_row("", name.replace("_", " "), "c0" if name == "total" else "ink", part)
        for name, part in {"total": found.total, **found.parts, **found.details}.items()
    ]
    return Forest(
        f"What accounts for {of}, {_place(span)}",
        rows,
        0.0,
        marks=(("statistic", statistic), ("phase", span)),
    )


# Times


def _timing(subject: Subject) -> Variables | None:
    if subject.scrutiny is None or not subject.scrutiny.timing:
        return None
    charts = []
    for statistic in subject.statistics:
        timing, symbol = subject.scrutiny.timing[statistic], STATISTICS[statistic].symbol
        charts.append(
            Chart(
                f"{symbol}(t - t_g): each run read at its own t_g",
                "t - t_g",
                f"{symbol}(t - t_g)",
                [_curve(REAL, timing.aligned), _curve("permuted", timing.aligned_null)],
                f"Real gradients: {timing.aligned.text}.",
                levels=(Level(1.0, ""),),
                link="aligned",
                marks=(("statistic", statistic),),
            )
        )
    return {
        "charts": [chart for chart in charts if not chart.is_empty],
        "tables": [timing_table(subject.scrutiny, subject.statistics)],
    }


# Channels


def _channels(subject: Subject) -> Variables | None:
    if not subject.channels:
        return None
    return {
        "channels": [
            {
                "name": name,
                "title": name if (label := channel_label(name)) == name else f"{label} ({name})",
                "charts": list(_curves(ladder, subject.statistics, (("channel", name),))),
                "table": exponents_table(ladder, subject.statistics),
            }
            for name, ladder in subject.channels.items()
        ]
    }


# Runs


def _runs(subject: Subject) -> Variables | None:
    sweep = subject.sweep
    n = sweep["n_parameters"].values
    first = [int(np.flatnonzero(n == of)[0]) for of in np.unique(n)]
    chosen = [first[k] for k in thinned(len(first), MOST_RUNS)]
    colors = thinned(MOST_RUNS, len(chosen)) if len(chosen) > 1 else [0]
    recorded = [name for name in OF_RUNS if name in sweep]
    charts = [
        Chart(
            title,
            "epoch",
            title,
            [_of_run(f"n{color}", sweep, name, run) for color, run in zip(colors, chosen, strict=True)],
            f"One run of each size, from N = {n[chosen[0]]} (dark) to {n[chosen[-1]]}.",
            link="epoch",
        )
        for name, title in (
            *((("size", "s / N"),) if "size" in sweep else ()),
            *((of, of) for of in recorded),
        )
    ]
    return {"charts": [chart for chart in charts if not chart.is_empty]}


def _of_run(color: str, sweep: xr.Dataset, name: str, run: int) -> Series:
    value = sweep[name].values[run].astype(np.float64)
    n = sweep["n_parameters"].values[run]
    seen = thinned(value.size, MOST_STEPS)
    value = (value / n if name == "size" else value)[seen]
    nothing = np.full(value.size, np.nan)
    epoch = sweep["epoch"].values[seen].astype(np.float64)
    return Series(f"N = {n}", color, epoch, value, nothing, nothing)


def _tensors(subject: Subject) -> Variables | None:
    if "tensor_topplings" not in subject.sweep:
        return None
    found = tensor_shares(subject.sweep)
    forests = [
        Forest(
            f"Share of the topplings, {PLACES[phase]}",
            [
                estimate_row(name, f"{name}, {entries:.0%} of entries", "c0", share)
                for name, entries, share in zip(found.names, found.entries, of["topplings"], strict=True)
            ],
            caption=f"The {counted(found.runs, 'run')} of N = {found.n_parameters}.",
            marks=(("phase", phase),),
        )
        for phase, of in found.shares.items()
        if "topplings" in of and any(math.isfinite(share.value) for share in of["topplings"])
    ]
    return {"forests": forests, "tables": []} if forests else None


def _tables(subject: Subject) -> Variables | None:
    return {"tables": subject.tables} if subject.tables else None


def _origin(subject: Subject) -> Variables | None:
    return {"table": origin(subject.sweep, subject.ladder), "commands": subject.commands}


PARTS: dict[str, Part[Subject]] = {
    "reading": Part("The reading", _reading, TEMPLATES / "reading.html"),
    "dimension": Part("D(t) beside its nulls", _dimension, TEMPLATES / "charts.html"),
    "scaling": Part("Sizes against N, and exponents", _scaling, TEMPLATES / "charts.html"),
    "ladder": Part("The ladder of nulls", _ladder, TEMPLATES / "forests.html"),
    "timing": Part("Times relative to grokking", _timing, TEMPLATES / "charts.html"),
    "channels": Part("Other channels", _channels, TEMPLATES / "channels.html"),
    "runs": Part("Single runs", _runs, TEMPLATES / "charts.html"),
    "tensors": Part("Where it topples", _tensors, TEMPLATES / "forests.html"),
    "tables": Part("Further results", _tables, TEMPLATES / "tables.html"),
    "origin": Part("How to make it again", _origin, TEMPLATES / "origin.html"),
}
