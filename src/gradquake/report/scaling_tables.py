"""Tables that tell whether an exponent is that of a scaling law: other scales, moments, other splits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product

from gradquake.analysis.moments import Moments
from gradquake.analysis.rise import PARTS, RiseParts
from gradquake.analysis.scale_choices import LocalSlopes, WithoutScales
from gradquake.analysis.shown import bracketed
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.transitions import Phase
from gradquake.report.json import Object, estimate_json, finite
from gradquake.report.tables import SYMBOLS
from gradquake.report.text import Table, with_interval

__all__ = [
    "fewer_scales_json", "fewer_scales_table", "moments_json", "moments_table", "rise_parts_json",
    "rise_parts_table", "slopes_table",
]  # fmt: skip


def slopes_table(analysis: SweepAnalysis, statistics: Collection[Statistic] = STATISTICS) -> Table:
    """Return the exponents between neighboring scales."""
    rows = []
    pairs: Sequence[str] = ()
    for statistic, phase in product(statistics, analysis.separate_phases):
        found = analysis.local_slopes(phase, statistic)
        pairs = [f"N {a} to {b}" for a, b in zip(found.smaller, found.larger, strict=True)]
        rows.append((SYMBOLS[statistic], phase, *_slopes(found)))
    return Table(
        "Local slopes",
        ("exponent", "phase", *pairs),
        rows,
        "The exponent between neighboring sizes; that of a power law is the same everywhere. Brackets: "
        "95 % bootstraps over runs, too narrow for D.",
    )


def fewer_scales_table(analysis: SweepAnalysis, statistics: Collection[Statistic] = STATISTICS) -> Table:
    """Return the exponents without the k largest and the k smallest scales."""
    rows = []
    names: list[str] = []
    for statistic, phase in product(statistics, analysis.separate_phases):
        found = analysis.without_scales(phase, statistic)
        several = found.left_out[1:].tolist()
        names = [f"without {k} {which}" for which in ("largest", "smallest") for k in several]
        fits = (*found.without_largest, *found.without_smallest[1:])
        rows.append((SYMBOLS[statistic], phase, *map(with_interval, fits)))
    return Table(
        "Exponents without the largest and the smallest sizes",
        ("exponent", "phase", "all sizes", *names),
        rows,
        "An exponent that depends on the sizes that are fitted is not that of a power law. A fit needs "
        "three sizes.",
    )


def moments_table(moments: Mapping[str, Mapping[Phase, Moments]]) -> Table:
    """Return the exponents of the moments of sizes, by sweep and phase."""
    rows = [
        (
            sweep,
            phase,
            *map(with_interval, (of.dimension, of.tau, of.offset, of.curvature)),
            of.form,
        )
        for sweep, of_sweep in moments.items()
        for phase, of in of_sweep.items()
    ]
    return Table(
        "Moments of the sizes",
        ("sweep", "phase", "D", "tau", "D (tau - 1)", "curvature", "form"),
        rows,
        "<s^q> ~ N^sigma(q), with sigma(q) = D (q + 1 - tau) for q of 1 and more. D (tau - 1) is 0 for "
        "a single hump that moves with N, and above 0 for a scaling law with a power law of sizes. A "
        "curvature other than 0 means that no single D describes all moments.",
    )


def rise_parts_table(parts: Mapping[str, Mapping[Statistic, RiseParts]]) -> Table:
    """Return what the rise of each exponent is made of."""
    rows = []
    for sweep, of_sweep in parts.items():
        for statistic, of in of_sweep.items():
            estimates = (getattr(of, name) for name in ("rise", *PARTS))
            null = "" if of.null is None else with_interval(of.null)
            rows.append((sweep, SYMBOLS[statistic], *map(with_interval, estimates), null))
            shares = [bracketed(share.value, share.low, share.high) for share in of.shares.values()]
            rows.append(("", "share of the rise", "1", *shares, *([""] if of.null is None else [])))
    return Table(
        "The parts of the rise, of groups of six seeds",
        ("sweep", "exponent", "rise", "split", "epoch", "scale", "own t_g", "shuffled gradients"),
        rows,
        "Split: the snapshots of each run in random order. Epoch: with the t_g of runs of any size, "
        "beyond the split. Scale: with the t_g of other runs of the same size, beyond split and epoch. "
        "Own t_g: the rest, due to whose t_g it is. These four add up to the rise. Shuffled gradients: "
        "the rise of the same gradients with their entries in random order.",
    )


def fewer_scales_json(analysis: SweepAnalysis, statistics: Collection[Statistic] = STATISTICS) -> Object:
    """Return local slopes, and exponents without the largest and the smallest scales."""
    return {
        phase: {
            s: {
                "local_slopes": _slopes_json(analysis.local_slopes(phase, s)),
                **_without_json(analysis.without_scales(phase, s)),
            }
            for s in statistics
        }
        for phase in analysis.separate_phases
    }


def moments_json(moments: Moments) -> Object:
    """Return the exponents of moments."""
    names = ("dimension", "tau", "offset", "curvature")
    return {name: estimate_json(getattr(moments, name)) for name in names} | {"form": moments.form}


def rise_parts_json(parts: RiseParts) -> Object:
    """Return the parts of a rise, and their shares of it."""
    shares = {
        name: {"value": finite(of.value), "low": finite(of.low), "high": finite(of.high)}
        for name, of in parts.shares.items()
    }
    found = {name: getattr(parts, name) for name in ("rise", *PARTS, "null")}
    of_parts = {name: estimate_json(part) for name, part in found.items() if part is not None}
    return {**of_parts, "shares": shares}


def _slopes(found: LocalSlopes) -> list[str]:
    return [bracketed(*of) for of in zip(found.value, found.low, found.high, strict=True)]


def _slopes_json(found: LocalSlopes) -> list[Object]:
    numbers = zip(found.smaller, found.larger, found.value, found.low, found.high, strict=True)
    return [
        {"smaller": int(a), "larger": int(b), "value": finite(v), "low": finite(lo), "high": finite(hi)}
        for a, b, v, lo, hi in numbers
    ]


def _without_json(found: WithoutScales) -> Object:
    return {
        "without_largest": [estimate_json(of) for of in found.without_largest],
        "without_smallest": [estimate_json(of) for of in found.without_smallest],
    }
