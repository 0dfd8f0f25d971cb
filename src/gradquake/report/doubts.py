"""Why to doubt an analysis: a sentence for each caution, and for each result that is missing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import product

from gradquake.analysis.ladder import Ladder
from gradquake.analysis.resampling import FEWEST_RUNS
from gradquake.analysis.shown import bracketed
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.transitions import PHASES, Phase
from gradquake.scrutiny.scrutinize import Scrutiny, notes_of

__all__ = ["PLACES", "capital", "cautions", "listed", "missing"]

# The phases in words, as they stand after the name of an exponent.
PLACES: dict[Phase, str] = {
    "all": "over all snapshots",
    "pre": "before grokking",
    "post": "after grokking",
}

# A text, and the subject and the phase that it is about.
Told = tuple[str, str, Phase]


def cautions(ladder: Ladder, statistics: Collection[Statistic]) -> Iterator[str]:
    """Yield a sentence for each caution of the fits, with the exponents that it concerns."""
    told = [
        (caution, STATISTICS[statistic].symbol, phase)
        for statistic, phase in product(statistics, PHASES)
        for caution in ladder.exponent("real", phase, statistic).cautions
    ]
    for caution, names in _by_text(told).items():
        yield f"Caution for {listed(names)}: {_clause(caution)}"
    if {"max", "mean"} <= {*statistics}:
        yield from _mean_above_max(ladder)


def _mean_above_max(ladder: Ladder) -> Iterator[str]:
    """Yield a sentence if the mean grows faster than the largest, which no scaling law allows."""
    found = {phase: ladder.mean_above_max("real", phase) for phase in PHASES}
    excess = [
        f"by {bracketed(of.value, of.low, of.high)} {PLACES[phase]}"
        for phase, of in found.items()
        if of.value > 0
    ]
    if excess:
        yield (
            f"Caution: gamma exceeds D {listed(excess)}. The mean is at most the largest, so "
            "gamma > D contradicts the scaling ansatz and cannot last at larger N."
        )


def missing(scrutiny: Scrutiny, statistics: Collection[Statistic]) -> Iterator[str]:
    """Yield a sentence for each result that is not defined, or has no interval, with the reason."""
    pairs = list(product(statistics, PHASES))
    for message, names in _by_text(_messages(scrutiny.ladder, pairs)).items():
        yield capital(f"{listed(names)} {_verb(names, 'is', 'are')} not defined: {_clause(message)}")
    for reason, names in _by_text(_without_interval(scrutiny.ladder, pairs)).items():
        yield capital(f"{listed(names)} {_verb(names, 'has', 'have')} no interval: {reason}.")
    curves = scrutiny.ladder.real.curves
    empty = [
        f"{STATISTICS[statistic].symbol}(t)"
        for statistic in statistics
        if curves[statistic].dimension["value"].isnull().all()
    ]
    if empty:
        yield capital(
            f"{listed(empty)} {_verb(empty, 'is', 'are')} not defined: at every epoch, a network size "
            "has no avalanche."
        )
    yield from notes_of(scrutiny)


def _messages(ladder: Ladder, pairs: Iterable[tuple[Statistic, Phase]]) -> Iterator[Told]:
    """Yield the messages of fits without a value; those of nulls only if the data has one."""
    for statistic, phase in pairs:
        symbol = STATISTICS[statistic].symbol
        if message := ladder.exponent("real", phase, statistic).fit.message:
            yield message, symbol, phase
            continue
        for rung in ladder.nulls:
            if message := ladder.exponent(rung, phase, statistic).fit.message:
                yield message, f"the {rung.replace('_', ' ')} null of {symbol}", phase


def _without_interval(ladder: Ladder, pairs: Iterable[tuple[Statistic, Phase]]) -> Iterator[Told]:
    for statistic, phase in pairs:
        found = ladder.exponent("real", phase, statistic)
        if not found.fit.message and math.isnan(found.low) and found.runs >= FEWEST_RUNS:
            reason = f"{found.invalid:.0%} of the resamples have no value"
            yield reason, STATISTICS[statistic].symbol, phase


def _by_text(told: Iterable[Told]) -> dict[str, list[str]]:
    """Return each text with the names that it is about; a subject in all phases needs no phase."""
    found: dict[str, dict[str, list[Phase]]] = {}
    for text, subject, phase in told:
        found.setdefault(text, {}).setdefault(subject, []).append(phase)
    return {
        text: [name for subject, phases in of.items() for name in _names(subject, phases)]
        for text, of in found.items()
    }


def _names(subject: str, phases: Sequence[Phase]) -> list[str]:
    whole = len(phases) == len(PHASES)
    return [subject] if whole else [f"{subject} {PLACES[phase]}" for phase in phases]


def _verb(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several


def _clause(sentence: str) -> str:
    """Return a sentence to stand after a colon."""
    articles = ("The ", "There ")
    return f"{sentence[0].lower()}{sentence[1:]}" if sentence.startswith(articles) else sentence


def listed(names: Sequence[str]) -> str:
    """Return names with commas and "and"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def capital(sentence: str) -> str:
    """Return a sentence with a capital first letter."""
    return f"{sentence[0].upper()}{sentence[1:]}"
