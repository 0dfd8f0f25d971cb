"""Results as plain objects for a program: what ``json`` can write."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from gradquake.analysis.collapse import Collapse
from gradquake.analysis.dimension import Curve
from gradquake.analysis.ladder import SPANS, Ladder
from gradquake.analysis.power import Power
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.statistics import STATISTICS, Statistic, check_statistic
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.tails import TailFit
from gradquake.analysis.timing import PermutationTest
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES, GrokkingEpochs
from gradquake.scrutiny.scrutinize import Scrutiny, Timing, notes_of
from gradquake.scrutiny.topologies import OnTopology

if TYPE_CHECKING:
    pass


# What the exponent of a statistic is called in an object; a time series of it is named "D_t".
EXPONENTS = {name: statistic.symbol for name, statistic in STATISTICS.items()}


def finite(value: float) -> float | None:
    """Return a number as JSON knows it: None for what is not finite."""
    return float(value) if value == value and abs(value) != float("inf") else None


def plain(value: Any) -> Any:
    """Return a value with NaN and infinity, for which JSON has no number, as text."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return json.dumps(value) if isinstance(value, float) and finite(value) is None else value


def estimate_json(found: Estimate) -> dict[str, float | bool | None]:
    """Return ``value``, ``low`` and ``high``.

    An interval of no width is left out, and ``equal_in_all_resamples`` is then true.
    """
    if found.is_one_value:
        nothing = {"low": None, "high": None, "equal_in_all_resamples": True}
        return {"value": finite(found.value), **nothing}
    return {
        "value": finite(found.value),
        "low": finite(found.low),
        "high": finite(found.high),
    }


def exponents_json(analysis: SweepAnalysis, statistic: Statistic) -> dict[str, Any]:
    """Return by phase an exponent with its interval and what there is to say of its fit."""
    return {
        phase: {
            **estimate_json(analysis.exponent(phase, statistic)),
            "r_squared": finite(analysis.exponent(phase, statistic).fit.r_squared),
            "message": analysis.exponent(phase, statistic).fit.message,
            "cautions": list(analysis.exponent(phase, statistic).cautions),
        }
        for phase in PHASES
    }


def attribution_json(ladder: Ladder, statistic: Statistic) -> dict[str, Any]:
    """Return by phase, and of the rise, what each property of the gradient accounts for."""
    return {
        span: {
            "estimator": estimate_json(found.estimator),
            "distribution": estimate_json(found.distribution),
            "arrangement": estimate_json(found.arrangement),
            **{name: estimate_json(part) for name, part in found.details.items()},
        }
        for span in SPANS
        for found in [ladder.attribution(span, statistic)]
    }


def curve_json(curve: Curve) -> dict[str, Any]:
    """Return D(t) and its crossing of 1; without intervals if none of them has a width."""
    names = ("value", "low", "high", "r_squared")
    columns = {name: curve.dimension[name].values.tolist() for name in names}
    if not curve.has_intervals:
        columns |= dict.fromkeys(("low", "high"), [math.nan] * len(columns["value"]))
    return {
        "epoch": curve.dimension["epoch"].values.tolist(),
        **{name: [finite(value) for value in column] for name, column in columns.items()},
        "crossing": crossing_json(curve.crossing),
    }


def crossing_json(crossing: Estimate) -> dict[str, Any]:
    """Return a crossing with the share of resamples that do not cross."""
    return {**estimate_json(crossing), "resamples_without": crossing.invalid}


def permutation_json(test: PermutationTest) -> dict[str, float | None]:
    """Return a permutation test."""
    return {name: finite(getattr(test, name)) for name in ("observed", "expected", "p_value")}


def collapse_json(collapse: Collapse) -> dict[str, Any]:
    """Return the best collapse."""
    names = ("exponent", "low", "high", "quality")
    return {**{name: finite(getattr(collapse, name)) for name in names}, "message": collapse.message}


def grokking_json(scale: GrokkingEpochs) -> dict[str, Any]:
    """Return the grokking epochs of one scale."""
    return {
        "n_parameters": scale.n_parameters,
        "median": finite(scale.median.value),
        "low": finite(scale.median.low),
        "high": finite(scale.median.high),
        "runs": len(scale.epochs),
        "runs_that_grok": scale.n_grokked,
    }


def tail_json(fit: TailFit) -> dict[str, Any]:
    """Return a fit to a tail."""
    return {
        "n_parameters": fit.n_parameters,
        "avalanches": fit.n_avalanches,
        "avalanches_of_size_0": fit.n_zero,
        "decades": finite(fit.decades),
        "exponent": finite(fit.exponent),
        "stderr": finite(fit.stderr),
        "xmin": finite(fit.xmin),
        "in_tail": fit.n_tail,
        "against": {
            c.alternative: {
                "log_likelihood_ratio": finite(c.log_likelihood_ratio),
                "p_value": finite(c.p_value),
                "message": c.message,
            }
            for c in fit.comparisons
        },
        "message": fit.message,
    }


def power_json(power: Power) -> dict[str, Any]:
    """Return what a number of runs can tell."""
    above = {
        null: {name: finite(of) for name, of in found._asdict().items()}
        for null, found in power.above_null.items()
    }
    numbers = {name: finite(getattr(power, name)) for name in ("value", "width", "scatter")}
    named = {name: getattr(power, name) for name in ("runs", "groups", "statistic", "phase")}
    return {**named, **numbers, "above_null": above}


def topology_json(on: OnTopology) -> dict[str, Any]:
    """Return what was measured on a topology."""
    return {
        "topology": on.topology,
        **{
            statistic: {
                phase: {
                    **{
                        rung: {
                            **estimate_json(on.exponent(rung, phase, statistic)),
                            "r_squared": finite(on.exponent(rung, phase, statistic).fit.r_squared),
                        }
                        for rung in ("real", "permuted", "gaussian")
                    },
                    "arrangement": estimate_json(on.arrangement(phase, statistic)),
                }
                for phase in SPLIT_PHASES
            }
            for statistic in STATISTICS
        },
        "collapse": {phase: collapse_json(on.collapses[phase]) for phase in SPLIT_PHASES},
    }


def timing_json(timing: Timing) -> dict[str, Any]:
    """Return when D(t) crosses, and the test of whether it follows t_g."""
    return {
        "crossing_of_one": crossing_json(timing.of_one),
        "crossing_of_null": crossing_json(timing.of_null),
        "lag_of_one": crossing_json(timing.lag_of_one),
        "lag_of_null": crossing_json(timing.lag_of_null),
        "aligned": curve_json(timing.aligned),
        "aligned_null": curve_json(timing.aligned_null),
        "aligned_crossing_of_null": crossing_json(timing.aligned_of_null),
        "follows_grokking": permutation_json(timing.follows),
    }


def analysis_json(scrutiny: Scrutiny, statistic: Statistic) -> dict[str, Any]:
    """Return a sweep and its nulls as one object, for one statistic.

    ``D`` and ``arrangement`` (D_real - D_permuted) hold by phase ("all", "pre", "post") ``value``,
    ``low`` and ``high``; ``nulls`` holds the same by rung and phase. ``arrangement`` and
    ``attribution`` also have "rise", D_post - D_pre. Of the mean size, ``gamma`` takes the place of
    ``D`` in the names. ``notes``, if there are any, say what is not defined, and why.

    Raises
    ------
    InputError
        For another statistic.
    """
    check_statistic(statistic)
    name = EXPONENTS[statistic]
    ladder = scrutiny.ladder
    exponents = exponents_json(ladder.real, statistic)
    for phase in PHASES:
        snapshots = ladder.real.snapshot_interval(phase, statistic)
        exponents[phase] |= {
            "snapshot_ci_low": finite(snapshots.low),
            "snapshot_ci_high": finite(snapshots.high),
        }
    found: dict[str, Any] = {
        "settings": _plain(ladder.real.dataset.attrs),
        "statistic": statistic,
        name: exponents,
        "nulls": {rung: exponents_json(null, statistic) for rung, null in ladder.nulls.items()},
        "rise": estimate_json(ladder.value("real", "rise", statistic)),
        "arrangement": {span: estimate_json(ladder.arrangement(span, statistic)) for span in SPANS},
        "attribution": attribution_json(ladder, statistic),
        f"{name}_t": curve_json(ladder.real.curves[statistic]),
        f"nulls_{name}_t": {
            rung: curve_json(null.curves[statistic]) for rung, null in ladder.nulls.items()
        },
        "collapse": {
            rung: {phase: collapse_json(scrutiny.collapse(rung, phase)) for phase in PHASES}
            for rung in ("real", *ladder.nulls)
        },
        "grokking": [grokking_json(scale) for scale in ladder.real.grokking],
    }
    timing = scrutiny.timing.get(statistic)
    found["timing"] = None if timing is None else timing_json(timing)
    if notes := notes_of(scrutiny):
        found["notes"] = notes
    return found


def _plain(value: Any) -> Any:
    """Return a value of a configuration as strict JSON knows it, None for what is not finite."""
    if isinstance(value, dict):
        return {name: _plain(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    return finite(value) if isinstance(value, float) else value
