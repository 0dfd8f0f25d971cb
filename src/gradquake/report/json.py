"""Results as plain objects that ``json`` can write.

docs/analyze.schema.json describes the object of an analysis.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from gradquake.analysis import specifications
from gradquake.analysis.collapse import Collapse
from gradquake.analysis.dimension import Curve
from gradquake.analysis.ladder import SPANS, Attribution, Ladder
from gradquake.analysis.power import Power
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.shown import json_text
from gradquake.analysis.specifications import Judged, Shares
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.sweep import SweepAnalysis
from gradquake.analysis.tails import TailFit
from gradquake.analysis.tensors import TensorShares, tensor_shares
from gradquake.analysis.timing import PermutationTest
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES, GrokkingEpochs, Phase
from gradquake.scrutiny.crossings import Timing
from gradquake.scrutiny.scrutinize import Scrutiny, notes_of
from gradquake.scrutiny.stability import Stability
from gradquake.scrutiny.topologies import OnTopology

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "analysis_json", "attribution_json", "collapse_json", "crossing_json", "curve_json", "estimate_json",
    "exponent_json", "exponents_json", "finite", "grokking_json", "permutation_json", "power_json",
    "specifications_json", "stability_json", "tail_json", "tensors_json", "timing_json", "topology_json",
    "written",
]  # fmt: skip

Object = dict[str, Any]


def finite(value: float) -> float | None:
    """Return a number, or None if it is not finite: JSON has no infinity and no NaN."""
    return float(value) if math.isfinite(value) else None


def written(value: object) -> str:
    """Return JSON as ``json_text`` does; NaN and infinity, which JSON has not, as text."""
    return json_text(_plain(value))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


def estimate_json(found: Estimate) -> Object:
    """Return ``value``, ``low`` and ``high``.

    An interval of no width is left out, and ``equal_in_all_resamples`` is then true.
    """
    if found.is_one_value:
        nothing = {"low": None, "high": None, "equal_in_all_resamples": True}
        return {"value": finite(found.value), **nothing}
    return {name: finite(getattr(found, name)) for name in ("value", "low", "high")}


def exponent_json(found: Exponent) -> Object:
    """Return an exponent with its R², the reason for a missing fit (``message``), and its cautions."""
    return {
        **estimate_json(found),
        "r_squared": finite(found.fit.r_squared),
        "message": found.fit.message,
        "cautions": list(found.cautions),
    }


def exponents_json(
    analysis: SweepAnalysis, statistics: Collection[Statistic] = STATISTICS
) -> dict[Phase, Object]:
    """Return the exponents by phase and statistic."""
    return {p: {s: exponent_json(analysis.exponent(p, s)) for s in statistics} for p in PHASES}


def attribution_json(ladder: Ladder, statistics: Collection[Statistic] = STATISTICS) -> Object:
    """Return the contribution of each property, by phase (or "rise") and statistic."""
    return {span: {s: _parts(ladder.attribution(span, s)) for s in statistics} for span in SPANS}


def _parts(found: Attribution) -> Object:
    return {name: estimate_json(part) for name, part in (found.parts | found.details).items()}


def curve_json(curve: Curve) -> Object:
    """Return D(t); its intervals are null if none of them has a width."""
    names = ("epoch", "value", "low", "high", "r_squared")
    columns = {name: curve.dimension[name].values.tolist() for name in names}
    if not curve.has_intervals:
        columns |= dict.fromkeys(("low", "high"), [math.nan] * len(columns["value"]))
    return {
        name: column if name == "epoch" else [finite(value) for value in column]
        for name, column in columns.items()
    }


def crossing_json(crossing: Estimate) -> Object:
    """Return a crossing with the share of resamples that do not cross."""
    return {**estimate_json(crossing), "resamples_without": crossing.invalid}


def permutation_json(test: PermutationTest) -> Object:
    """Return a permutation test."""
    return {name: finite(getattr(test, name)) for name in ("observed", "expected", "p_value")}


def collapse_json(collapse: Collapse) -> Object:
    """Return the best collapse: the D of the smallest S as ``value``, and that S as ``quality``."""
    return {
        "value": finite(collapse.value),
        **{name: finite(getattr(collapse, name)) for name in ("low", "high", "quality")},
        "message": collapse.message,
    }


def grokking_json(scale: GrokkingEpochs) -> Object:
    """Return the median grokking epoch of one scale, and how many of its runs grok."""
    return {
        "n_parameters": scale.n_parameters,
        **estimate_json(scale.median),
        "runs": len(scale.epochs),
        "runs_that_grok": scale.n_grokked,
    }


def tail_json(fit: TailFit) -> Object:
    """Return a fit to a tail."""
    return {
        "n_parameters": fit.n_parameters,
        "avalanches": fit.n_avalanches,
        "avalanches_of_size_0": fit.n_zero,
        "decades": finite(fit.decades),
        "value": finite(fit.value),
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


def power_json(power: Power) -> Object:
    """Return the power of a number of runs."""
    above = {
        null: {name: finite(of) for name, of in found._asdict().items()}
        for null, found in power.above_null.items()
    }
    numbers = {name: finite(getattr(power, name)) for name in ("value", "width", "scatter")}
    named = {name: getattr(power, name) for name in ("runs", "groups", "statistic", "phase")}
    return {**named, **numbers, "above_null": above}


def topology_json(on: OnTopology) -> Object:
    """Return the exponents on a topology, by phase and statistic as ``analysis_json`` has them."""

    def by_statistic(rung: str, phase: Phase) -> Object:
        return {s: exponent_json(on.exponent(rung, phase, s)) for s in STATISTICS}

    nulls = [rung for rung in on.exponents if rung != "real"]
    return {
        "topology": on.topology,
        "exponents": {phase: by_statistic("real", phase) for phase in SPLIT_PHASES},
        "nulls": {rung: {phase: by_statistic(rung, phase) for phase in SPLIT_PHASES} for rung in nulls},
        "arrangement": {
            phase: {s: estimate_json(on.arrangement(phase, s)) for s in STATISTICS}
            for phase in SPLIT_PHASES
        },
        "collapse": {phase: collapse_json(on.collapses[phase]) for phase in SPLIT_PHASES},
    }


def stability_json(of: Stability) -> Object:
    """Return the sharpness at a scale, its products with the learning rate, and the rising epochs."""
    names = ("sharpness", "at_start", "largest", "at_end", "rises")
    return {
        "n_parameters": of.n_parameters,
        **{name: estimate_json(getattr(of, name)) for name in names},
    }


def timing_json(timing: Timing) -> Object:
    """Return the crossings of D(t), and the test of whether its rise follows t_g."""
    crossings = {
        "crossing_of_one": timing.of_one.epoch,
        "crossing_of_null": timing.of_null.epoch,
        "lag_of_one": timing.of_one.lag,
        "lag_of_null": timing.of_null.lag,
        "aligned_crossing": timing.of_one.aligned,
        "aligned_null_crossing": timing.null_of_one.aligned,
        "aligned_crossing_of_null": timing.of_null.aligned,
    }
    return {
        **{name: crossing_json(crossing) for name, crossing in crossings.items()},
        "aligned": curve_json(timing.aligned),
        "aligned_null": curve_json(timing.aligned_null),
        "follows_grokking": permutation_json(timing.follows),
    }


def specifications_json(table: xr.Dataset, holds: Mapping[str, Judged]) -> Object:
    """Return the share of specifications with each statement, and the choices' weight."""
    return {
        "specifications": int(table["pre"].size),
        "holds": {
            name: {**_share(of.data), "null": None if of.null is None else _share(of.null)}
            for name, of in holds.items()
        },
        "importance": {
            name: {choice: finite(share) for choice, share in found.importance.items()}
            for name, found in specifications.dependences(table).items()
        },
    }


def _share(found: Shares) -> Object:
    return {"share": found.overall, "by_choice": found.by_choice}


def analysis_json(scrutiny: Scrutiny, statistics: Collection[Statistic] = STATISTICS) -> Object:
    """Return a sweep and its nulls, of some statistics.

    Objects are nested by rung ("gaussian", ...), phase ("all", "pre", "post"; in ``attribution`` also
    "rise") and statistic. ``notes`` says what is not defined, and why.
    """
    ladder, real = scrutiny.ladder, scrutiny.ladder.real
    found = exponents_json(real, statistics)
    for phase in PHASES:
        for s in statistics:
            ends = real.snapshot_interval(phase, s)
            found[phase][s]["over_snapshots"] = {
                "value": found[phase][s]["value"], "low": finite(ends.low), "high": finite(ends.high)
            }  # fmt: skip
    timing = {s: timing_json(scrutiny.timing[s]) for s in statistics if s in scrutiny.timing}
    return {
        "settings": dict(real.dataset.attrs),
        "exponents": found,
        "nulls": {rung: exponents_json(null, statistics) for rung, null in ladder.nulls.items()},
        "rise": {s: estimate_json(ladder.rise("real", s)) for s in statistics},
        "attribution": attribution_json(ladder, statistics),
        "dimension": {s: curve_json(real.curves[s]) for s in statistics},
        "crossing": {s: crossing_json(real.curves[s].crossing) for s in statistics},
        "null_dimension": {
            rung: {s: curve_json(null.curves[s]) for s in statistics}
            for rung, null in ladder.nulls.items()
        },
        "null_crossing": {
            rung: {s: crossing_json(null.curves[s].crossing) for s in statistics}
            for rung, null in ladder.nulls.items()
        },
        "collapse": {
            rung: {phase: collapse_json(scrutiny.collapse(rung, phase)) for phase in PHASES}
            for rung in ("real", *ladder.nulls)
        },
        "grokking": [grokking_json(scale) for scale in real.grokking],
        "timing": timing or None,
        "tensors": tensors_json(tensor_shares(real.dataset)) if _has_tensors(real.dataset) else None,
        "notes": notes_of(scrutiny),
    }


def _has_tensors(sweep: xr.Dataset) -> bool:
    return "tensor_topplings" in sweep


def tensors_json(found: TensorShares) -> Object:
    """Return by tensor the share of the entries, and by phase those of what was counted."""
    shares = {
        phase: {
            name: {of: estimate_json(estimates[k]) for of, estimates in counted.items()}
            for k, name in enumerate(found.names)
        }
        for phase, counted in found.shares.items()
        if counted
    }
    entries = dict(zip(found.names, found.entries.tolist(), strict=True))
    sizes = {"n_parameters": found.n_parameters, "runs": found.runs}
    return {**sizes, "entries": entries, "shares": shares}
