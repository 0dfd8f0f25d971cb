"""Observables beside the avalanche, one table: what a run may record of its gradients, as numbers.

An observable has one or more channels, each a number of one gradient. A new observable is a function
``(probe, gradient) -> numbers`` and a line in ``OBSERVABLES``; runs then record it, and analyses read
it, by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.one_generation import one_generation
from gradquake.errors import InputError, NotAtRestError, shortened

if TYPE_CHECKING:
    from gradquake.avalanche.probe import Probe
    from gradquake.avalanche.sums import Gradient

__all__ = ["OBSERVABLES", "Observable", "channels", "checked_observables", "observe", "observed_by"]


# Loading adds to all magnitudes, and only nodes of unlike signs take from each other. After many loads,
# the state is that of the drive and not of the gradient.
FIRST_LOADS = 100


@dataclass(frozen=True)
class Observable:
    """Numbers that a probe measures on a gradient beside the avalanche.

    Attributes
    ----------
    of : callable
        ``(probe, gradient) -> numbers``, a float for each channel. A gradient on which it raises
        ``NotAtRestError`` has NaN in all channels.
    channels : mapping
        The names of the numbers, and what each is.
    """

    of: Callable[[Probe, Gradient], Sequence[float]]
    channels: Mapping[str, str]


def _kicks(probe: Probe, gradient: Gradient) -> Sequence[float]:
    found = probe.kicks(gradient)
    return found.median, found.mean, found.largest, found.branching_ratio, found.endless


def _load(probe: Probe, gradient: Gradient) -> Sequence[float]:
    found = probe.load(gradient, FIRST_LOADS)
    return found.mean, found.largest, found.branching_ratio


def _clusters(probe: Probe, gradient: Gradient) -> Sequence[float]:
    found = probe.clusters(gradient)
    return found.number, found.largest, found.mean


def _generations(probe: Probe, gradient: Gradient) -> Sequence[float]:
    # As ``probe.generations(gradient).first_share``, with one cascade instead of one for each step.
    found = probe.measure(gradient)
    first = np.count_nonzero(np.abs(gradient) > found.threshold)
    return (first / found.size if found.size else np.nan,)


def _one_generation(probe: Probe, gradient: Gradient) -> Sequence[float]:
    return (one_generation(gradient, probe.graph_on(gradient.size), probe),)


OBSERVABLES: dict[str, Observable] = {
    "kicks": Observable(
        _kicks,
        {
            "kick_median": "median topplings of a kick of one node",
            "kick_mean": "mean topplings of a kick of one node",
            "kick_max": "most topplings of a kick of one node",
            "kick_branching": "topplings that follow a toppling of a kick, in the next step",
            "kick_endless": "share of kicks that do not come to rest in 10,000 steps",
        },
    ),
    "load": Observable(
        _load,
        {
            "load_mean": "mean topplings of the first 100 avalanches of slow loading that end",
            "load_max": "most topplings of these avalanches",
            "load_branching": "topplings that follow a toppling of slow loading, in the next step",
        },
    ),
    "clusters": Observable(
        _clusters,
        {
            "clusters_number": "connected components of the nodes above the threshold",
            "clusters_largest": "nodes of the largest connected component",
            "clusters_mean": "mean nodes of a connected component",
        },
    ),
    "generations": Observable(
        _generations,
        {"first_generation": "share of the first step among all topplings"},
    ),
    "isolated": Observable(
        lambda probe, gradient: (probe.isolated_size(gradient),),
        {"isolated": "topplings that the gradient would have without any neighbor"},
    ),
    "one_generation": Observable(
        _one_generation,
        {"one_generation": "topplings predicted from the distribution alone, of nodes and neighbors"},
    ),
}


def channels() -> dict[str, str]:
    """Return every channel of every observable, and what it is."""
    return {name: text for one in OBSERVABLES.values() for name, text in one.channels.items()}


def checked_observables(observe: str | Sequence[str]) -> str:
    """Return names of observables as one text, separated by commas, in the order of the table.

    Raises
    ------
    InputError
        For a name that is not in ``OBSERVABLES``.
    """
    names = observe.split(",") if isinstance(observe, str) else observe
    if not isinstance(names, Sequence):
        raise InputError(f"observe is {shortened(observe)}; names of observables are needed")
    for name in names:
        if not isinstance(name, str) or (name not in OBSERVABLES and (name != "" or len(names) > 1)):
            raise InputError(
                f"observe names {shortened(name)}; names of {', '.join(OBSERVABLES)} are needed, "
                "separated by commas"
            )
    return ",".join(name for name in OBSERVABLES if name in names)


def observed_by(channel: str) -> str:
    """Return the observable that a channel belongs to; "" if it belongs to none."""
    return next((name for name, one in OBSERVABLES.items() if channel in one.channels), "")


def observe(
    names: str, probes: Iterable[Probe], gradients: Iterable[Gradient]
) -> dict[str, NDArray[np.float64]]:
    """Measure observables on gradients, each with a probe of its own.

    Parameters
    ----------
    names : str
        As ``checked_observables`` returns it; "" for none.
    probes, gradients : iterable
        Of one length.

    Returns
    -------
    dict of str to array, shape (gradients,)
        By channel.
    """
    found: dict[str, list[float]] = {}
    pairs = list(zip(probes, gradients, strict=True))
    for name in names.split(",") if names else ():
        one = OBSERVABLES[name]
        found |= {channel: [] for channel in one.channels}
        for probe, gradient in pairs:
            try:
                numbers = one.of(probe, gradient)
            except NotAtRestError:
                numbers = [np.nan] * len(one.channels)
            for channel, number in zip(one.channels, numbers, strict=True):
                found[channel].append(number)
    return {channel: np.array(numbers, np.float64) for channel, numbers in found.items()}
