"""The reading: what an analysis says, in plain sentences.

The sentences say what was found, how sure it is, what the nulls say, and what not to conclude. One more
sentence stands for each caution, and for each result that is not defined, with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from gradquake.analysis.channels import SIZE, channel_label
from gradquake.analysis.ladder import Ladder, Span
from gradquake.analysis.resampling import FEWEST_RUNS, Estimate
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.shown import bracketed
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.transitions import PHASES, Phase
from gradquake.errors import counted, printable
from gradquake.report.doubts import PLACES, capital, cautions, listed, missing
from gradquake.report.text import time_decimals
from gradquake.scrutiny.scrutinize import Scrutiny

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["reading"]

NO_INTERVAL = "(no interval)"

# The p-value below which a change is said to follow the grokking epochs.
SIGNIFICANT = 0.05


def reading(scrutiny: Scrutiny, statistics: Collection[Statistic] = STATISTICS) -> list[str]:
    """Return the plain sentences that tell a newcomer what an analysis of a sweep says.

    Parameters
    ----------
    scrutiny : Scrutiny
        A sweep beside its nulls.
    statistics : collection of {"max", "mean"}
        The statistics to describe. Nulls, the crossing and conclusions are described for the first.
    """
    return [
        *_findings(scrutiny, statistics),
        *cautions(scrutiny.ladder, statistics),
        *missing(scrutiny, statistics),
    ]


def _findings(scrutiny: Scrutiny, statistics: Collection[Statistic]) -> Iterator[str]:
    ladder, first = scrutiny.ladder, next(iter(statistics))
    yield _data(ladder, statistics)
    for statistic in statistics:
        yield from _exponents(ladder, statistic)
    yield from _trivial(ladder, statistics)
    yield from _crossing(scrutiny, first)
    spans = _spans(ladder, first)
    for span in spans:
        verdict = _shuffled(ladder, span, first) if span == spans[-1] else ""
        yield f"{_attribution(ladder, span, first)}{verdict}."
    if spans:
        yield _conclusions(scrutiny, statistics)
    if first == "max":
        yield from _bias(ladder, spans)


def _spans(ladder: Ladder, statistic: Statistic) -> list[Span]:
    """Return the phase whose attribution is told, after grokking if possible, and the rise."""

    def is_whole(span: Span) -> bool:
        found = ladder.attribution(span, statistic)
        return all(map(_is_defined, (found.total, *found.parts.values())))

    order: tuple[Span, ...] = ("post", "all", "pre")
    rise: list[Span] = ["rise"] if is_whole("rise") else []
    return [*[phase for phase in order if is_whole(phase)][:1], *rise]


# The data


def _data(ladder: Ladder, statistics: Collection[Statistic]) -> str:
    sweep = ladder.real.dataset
    groups = scale_groups(sweep)
    runs = sorted(len(of_scale) for _, of_scale in groups)
    each = str(runs[0]) if runs[0] == runs[-1] else f"{runs[0]} to {runs[-1]}"
    experiment = sweep.attrs.get("experiment")
    # A run that attach recorded, or that somebody else wrote, is of no experiment of gradquake.
    of = "" if experiment in (None, "attached") else f" of the experiment {printable(str(experiment))}"
    intervals = ""
    if runs[0] >= FEWEST_RUNS:
        of_line = ", for D of its line" if "max" in statistics else ""
        intervals = f"; brackets are 95 % intervals over runs{of_line}"
    return (
        f"The sweep has {counted(sweep.sizes['run'], 'run')}{of}, {each} at each of {len(groups)} "
        f"network sizes (N = {groups[0][0]} to {groups[-1][0]} parameters){intervals}."
    )


def _trivial(ladder: Ladder, statistics: Collection[Statistic]) -> Iterator[str]:
    """Say which exponent the bounds of the size give for large N, if the settings are known."""
    settings = ladder.real.dataset.attrs
    if ladder.real.channel != SIZE or not {"quantile", "max_steps"} <= settings.keys():
        return
    symbols = [STATISTICS[statistic].symbol for statistic in statistics]
    yield (
        f"By construction {1 - settings['quantile']:.2g} (N - 1) <= s <= {settings['max_steps']} N, so "
        f"{listed([f'{symbol} -> 1' for symbol in symbols])} for large N: 1 is the trivial exponent, "
        f"and {listed([f'{symbol} - 1' for symbol in symbols])} {_is(symbols)} the drift of s/N over "
        "the scales at hand."
    )


def _is(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


# The exponents


def _exponents(ladder: Ladder, statistic: Statistic) -> Iterator[str]:
    found = {phase: ladder.exponent("real", phase, statistic) for phase in PHASES}
    pre, post = found["pre"], found["post"]
    named = _named(statistic, ladder.real.channel)
    if _is_defined(pre) and _is_defined(post):
        rise = ladder.rise("real", statistic)
        yield (
            f"{named} is {_shown(pre)} before grokking and {_shown(post)} after it; "
            f"{_change(rise)}{_beside_one({'before': pre, 'after': post})}."
        )
        return
    for phase, exponent in found.items():
        if _is_defined(exponent):
            yield (
                f"{named} is {_shown(exponent)} {PLACES[phase]}{_beside_one({PLACES[phase]: exponent})}."
            )
            return


def _named(statistic: Statistic, channel: str) -> str:
    symbol, label = STATISTICS[statistic].symbol, STATISTICS[statistic].label
    if channel == SIZE:
        return capital(f"{symbol}, the exponent of the {label} avalanche ({label} size ~ N^{symbol}),")
    meaning = channel_label(channel)
    said = "" if meaning == channel else f"{meaning}; "
    return capital(
        f"{symbol}, the exponent of the {label} {channel} ({said}{label} {channel} ~ N^{symbol}),"
    )


def _change(rise: Estimate) -> str:
    match _side(rise, 0):
        case "above":
            return f"it rises by {_shown(rise)}"
        case "below":
            return f"it falls: the change is {_shown(rise)}"
        case "open":
            return f"the change of {_shown(rise)} may be zero"
    return f"the change is {_shown(rise)}"


def _beside_one(found: dict[str, Estimate]) -> str:
    """Say for which of some exponents the interval contains 1."""
    around = [place for place, exponent in found.items() if _side(exponent, 1) == "open"]
    if not around:
        return ""
    if len(around) == 2:
        return ", and both intervals contain 1"
    which = "the interval" if len(found) == 1 else f"the interval {around[0]}"
    return f", and {which} contains 1"


# D(t)


def _crossing(scrutiny: Scrutiny, statistic: Statistic) -> Iterator[str]:
    curve, name = scrutiny.ladder.real.curves[statistic], STATISTICS[statistic].symbol
    known = curve.dimension.dropna("epoch", subset=["value"])
    if not known.sizes["epoch"]:
        return
    if _is_defined(curve.crossing):
        lag = ""
        if (timing := scrutiny.timing.get(statistic)) and _is_defined(timing.of_one.lag):
            after = _shown(timing.of_one.lag, time_decimals(timing.of_one.lag))
            lag = f", {after} epochs after the median grokking epoch (negative: before it)"
        found = f"rises through 1 at epoch {_time(curve.crossing)}{lag}"
    else:
        first, last = (_at(known, place) for place in (0, -1))
        found = (
            "does not rise through 1 (a snapshot at or below 1, then three above it): it is "
            f"{first} at the first snapshot and {last} at the last"
        )
    null = scrutiny.ladder.nulls["permuted"].curves[statistic].crossing
    of_null = f"cross 1 at epoch {_time(null)}" if _is_defined(null) else "do not cross 1"
    yield capital(f"{name}(t) {found}; shuffled gradients {of_null}.")


def _at(curve: xr.Dataset, place: int) -> str:
    value, low, high = (float(curve[name][place]) for name in ("value", "low", "high"))
    return _bracketed(value, low, high) if low < high else _bracketed(value, math.nan, math.nan)


def _time(crossing: Estimate) -> str:
    if math.isnan(crossing.low) and crossing.invalid < 1:
        return f"{crossing.value:.0f} (no interval: {crossing.invalid:.0%} of resamples do not cross)"
    return _shown(crossing, time_decimals(crossing))


# The nulls


def _attribution(ladder: Ladder, span: Span, statistic: Statistic) -> str:
    parts = ladder.attribution(span, statistic)
    name = STATISTICS[statistic].symbol
    if span == "rise":
        of = f"Of the change of {name}, {_shown(parts.total)}"
    else:
        of = f"Of {name} - 1 {PLACES[span]}, {_shown(parts.total)}"
    imprint = ""
    if parts.imprint is not None:
        imprint = f", and the imprint of the graph that trained them for {_shown(parts.imprint)}"
    return (
        f"{of}, Gaussian noise (the estimator) accounts for {_shown(parts.estimator)}, the distribution "
        f"of the gradient's entries for {_shown(parts.distribution)}, "
        f"{'' if parts.imprint else 'and '}their arrangement on {'a' if parts.imprint else 'the'} graph "
        f"for {_shown(parts.arrangement)}{imprint}"
    )


def _shuffled(ladder: Ladder, span: Span, statistic: Statistic) -> str:
    """Say whether shuffled gradients do the same: then the arrangement accounts for nothing."""
    match _side(ladder.arrangement(span, statistic), 0):
        case "open":
            return ": shuffled gradients do the same within the interval"
        case "unknown":
            return ": without an interval, it is open whether shuffled gradients do the same"
    return ": shuffled gradients do not do the same"


# What not to conclude


def _conclusions(scrutiny: Scrutiny, statistics: Collection[Statistic]) -> str:
    found: dict[str, list[str]] = {}
    for statistic in statistics:
        if conclusion := _conclusion(scrutiny, statistic):
            found.setdefault(conclusion, []).append(STATISTICS[statistic].symbol)
    if not found:
        return (
            "Do not conclude anything about grokking from these runs: there is no exponent both before "
            "and after it."
        )
    parts = [conclusion.format(listed(names)) for conclusion, names in found.items()]
    return f"Do not {'; and do not '.join(parts)}."


def _conclusion(scrutiny: Scrutiny, statistic: Statistic) -> str:
    """Return the wrong conclusion that is nearest at hand, after "Do not"; {} stands for the exponent.

    Empty if the exponent has no rise.
    """
    ladder = scrutiny.ladder
    rise = ladder.rise("real", statistic)
    if not _is_defined(rise):
        return ""
    change = _side(rise, 0)
    if change == "unknown":
        return "conclude that grokking changes {}: the change has no interval"
    if change == "open":
        return "conclude that grokking changes {}: the interval of the change contains 0"
    if _side(ladder.arrangement("rise", statistic), 0) != change:
        same = _side(ladder.rise("permuted", statistic), 0) == change
        return (
            "take the change of {} as a sign of order in the gradient: shuffled gradients, the same "
            f"entries in random places, {'change alike' if same else 'may do the same'}"
        )
    timing = scrutiny.timing.get(statistic)
    if timing is None or not timing.follows.p_value < SIGNIFICANT:
        return (
            "assign the change of {} to the moment of grokking: it is not shown to follow each run's "
            "own grokking epoch"
        )
    return (
        "generalize the change of {} from one graph and one threshold: the options nulls and "
        "sensitivity measure others"
    )


def _bias(ladder: Ladder, spans: Sequence[Span]) -> Iterator[str]:
    phase: Phase = next((span for span in spans if span != "rise"), "all")
    null = ladder.exponent("gaussian", phase, "max")
    if _is_defined(null):
        yield (
            "The maximum is biased, because it grows with the number of runs and snapshots: Gaussian "
            f"noise gives D = {_shown(null)} {PLACES[phase]}, so compare D with this null, not with 1."
        )


# Words


def _side(found: Estimate, of: float) -> Literal["above", "below", "open", "unknown"]:
    """Return whether an interval lies above a number, below it, or around it, if there is one."""
    if found.is_one_value or math.isnan(found.low):
        return "unknown"
    if found.low > of:
        return "above"
    return "below" if found.high < of else "open"


def _is_defined(found: Estimate) -> bool:
    return math.isfinite(found.value)


def _shown(found: Estimate, decimals: int | None = None) -> str:
    if found.is_one_value:
        return _bracketed(found.value, math.nan, math.nan, decimals)
    return _bracketed(found.value, found.low, found.high, decimals)


def _bracketed(value: float, low: float, high: float, decimals: int | None = None) -> str:
    shown = bracketed(value, low, high, decimals)
    return shown if "[" in shown else f"{shown} {NO_INTERVAL}"
