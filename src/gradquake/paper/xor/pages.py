"""The scrutiny of the paper's experiment, as a page for a reader and as an object for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from gradquake.analysis.ladder import SPANS, Ladder, Span
from gradquake.analysis.shown import bracketed, number
from gradquake.analysis.specifications import judged
from gradquake.analysis.statistics import STATISTICS, Statistic
from gradquake.analysis.timing import PermutationTest
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES, GrokkingEpochs
from gradquake.paper.output import as_json
from gradquake.paper.xor.conditions import ConditionResult
from gradquake.paper.xor.evidence import Evidence
from gradquake.paper.xor.many_seeds import ManySeeds
from gradquake.paper.xor.statements import statements
from gradquake.report.criticality import criticality_json, kicks_table, state_table
from gradquake.report.json import (
    analysis_json,
    attribution_json,
    crossing_json,
    estimate_json,
    exponents_json,
    grokking_json,
    permutation_json,
    power_json,
    specifications_json,
    tail_json,
    topology_json,
)
from gradquake.report.scaling_tables import (
    fewer_scales_json,
    fewer_scales_table,
    moments_json,
    moments_table,
    rise_parts_json,
    rise_parts_table,
    slopes_table,
)
from gradquake.report.tables import (
    SYMBOLS,
    attribution_table,
    collapse_table,
    exponents_table,
    importance_table,
    power_table,
    shares_table,
    tails_table,
    timing_table,
    topologies_table,
)
from gradquake.report.text import Table, time_with_interval, with_interval

__all__ = ["documents", "scrutiny_object", "scrutiny_page", "tables"]

MEASURED_SPANS: tuple[Span, ...] = ("pre", "post", "rise")


def documents(found: Evidence) -> dict[str, str]:
    """Return the files for a reader and for programs: their texts by name."""
    files = {"scrutiny.json": as_json(scrutiny_object(found)), "scrutiny.md": scrutiny_page(found)}
    if found.specifications is not None:
        table = found.specifications.to_dataframe().reset_index()
        files["specifications.csv"] = table.to_csv(index=False, float_format="%.6g")
    return files


def scrutiny_page(found: Evidence) -> str:
    """Return everything beyond the claims as a Markdown page of tables."""
    return "# The paper's experiment under scrutiny\n\n" + "\n".join(
        table.markdown() for table in tables(found)
    )


def tables(found: Evidence) -> list[Table]:
    """Return everything beyond the claims as tables."""
    sweeps = {"inline": found.inline_scrutiny, "shadow": found.shadow_scrutiny}
    pages: list[Table] = []
    for name, scrutiny in sweeps.items():
        pages += _ladder_tables(scrutiny.ladder, name)
        if scrutiny.timing:
            pages.append(_titled(timing_table(scrutiny), name))
    pages += [conditions_table(found.conditions), grokking_table(found.conditions)]
    pages.append(collapse_table({n: s.collapses for n, s in sweeps.items()}))
    pages += [_titled(tails_table(fits), mode) for mode, fits in found.tails.items()]
    if found.on_topologies:
        pages.append(topologies_table(found.on_topologies))
    if found.criticality:
        pages += [kicks_table(found.criticality), state_table(found.criticality)]
    if found.many_seeds:
        many = found.many_seeds
        pages += [_titled(power_table(seeds.power), mode) for mode, seeds in many.items()]
        pages.append(follows_table({mode: seeds.follows for mode, seeds in many.items()}))
        for mode, seeds in many.items():
            pages += _ladder_tables(seeds.ladder, f"{mode}, over many seeds")
            pages.append(_titled(slopes_table(seeds.ladder.real), f"{mode}, over many seeds"))
            pages.append(_titled(fewer_scales_table(seeds.ladder.real), f"{mode}, over many seeds"))
        pages.append(crossings_table({mode: seeds.ladder for mode, seeds in many.items()}))
        pages.append(moments_table({mode: seeds.ladder.real.moments for mode, seeds in many.items()}))
        if parts := {mode: seeds.parts for mode, seeds in many.items() if seeds.parts}:
            pages.append(rise_parts_table(parts))
    if found.specifications is not None:
        pages.append(shares_table(found.specifications, judged(found.specifications, statements)))
        pages.append(importance_table(found.specifications))
    return pages


def _ladder_tables(ladder: Ladder, of: str) -> list[Table]:
    return [_titled(exponents_table(ladder), of), _titled(attribution_table(ladder), of)]


def _titled(table: Table, of: str) -> Table:
    return replace(table, title=f"{table.title}, {of}")


def conditions_table(results: list[ConditionResult]) -> Table:
    """Return the results under every condition."""
    rows = [
        (
            result.condition.group.replace("_", " "),
            result.condition.name.replace("_", " "),
            f"{result.n_grokked} of {result.n_runs}",
            time_with_interval(result.grokking),
            time_with_interval(result.delay),
            SYMBOLS[statistic],
            *(with_interval(result.exponent(phase, statistic)) for phase in SPLIT_PHASES),
            with_interval(result.rise[statistic]),
            *(with_interval(result.arrangement(span, statistic)) for span in MEASURED_SPANS),
            time_with_interval(result.curves[statistic].crossing),
        )
        for result in results
        for statistic in STATISTICS
    ]
    header = (
        "group", "condition", "reach 100 %", "median t_g", "later than shadow", "exponent",
        "pre", "post", "rise", "arrangement pre", "arrangement post", "arrangement of the rise",
        "D(t) crosses 1",
    )  # fmt: skip
    return Table(
        "Controls and interventions",
        header,
        rows,
        "Each control is split into phases at the t_g of the XOR run of the same size, seed and mode. "
        "Later than shadow: the median over runs of t_g minus the t_g of the same run without in-line "
        "diffusion, in epochs. alpha train 0.3 and 0 are the paper's in-line and shadow training. "
        "topology train is the graph of the in-line diffusion; if it is permuted, the gradient is "
        "placed on the graph in a new random order at every epoch. quantile is the threshold, both of "
        "the probe and of the training. Arrangement: real minus permuted. If at most half of the runs "
        "reach 100 %, the median t_g is not defined.",
    )


def grokking_table(results: list[ConditionResult]) -> Table:
    """Return the median grokking epoch of every size under every condition."""
    scales = [scale.n_parameters for scale in results[0].by_scale]
    rows = [
        (
            result.condition.group.replace("_", " "),
            result.condition.name.replace("_", " "),
            *(_median(scale) for scale in result.by_scale),
        )
        for result in results
    ]
    return Table(
        "Grokking epochs under every condition",
        ("group", "condition", *(f"N = {n}" for n in scales)),
        rows,
        "Medians over runs. A run that does not reach 100 % counts as infinitely late. If at most half "
        "of the runs of a size reach 100 %, their median is not defined, and the cell is empty.",
    )


def crossings_table(ladders: Mapping[str, Ladder]) -> Table:
    """Return when D(t) crosses 1, over many seeds."""
    rows = [
        (mode, SYMBOLS[statistic], time_with_interval(ladder.real.curves[statistic].crossing))
        for mode, ladder in ladders.items()
        for statistic in STATISTICS
    ]
    header = ("sweep", "exponent", "epoch")
    return Table("When D(t) crosses 1, over many seeds", header, rows)


def _median(scale: GrokkingEpochs) -> str:
    """Return a median, which may end in .5, and its interval in whole epochs; empty if infinite."""
    found = scale.median
    if not math.isfinite(found.value):
        return ""
    _, _, interval = bracketed(found.value, found.low, found.high, 0).partition(" ")
    return f"{found.value:g} {interval}".rstrip()


def follows_table(follows: Mapping[str, Mapping[Statistic, PermutationTest]]) -> Table:
    """Return whether the rise of D follows t_g, over many seeds."""
    rows = [
        (mode, SYMBOLS[statistic], number(test.observed), number(test.expected), number(test.p_value))
        for mode, of_mode in follows.items()
        for statistic, test in of_mode.items()
    ]
    return Table(
        "Does the rise follow t_g, over many seeds",
        ("sweep", "exponent", "rise at own t_g", "at exchanged t_g, mean", "p"),
        rows,
        "The rise is D_post - D_pre. Each run is split at its own t_g, or at one that is exchanged "
        "among the runs of a scale. p is the share of exchanges whose rise is at least that at the own "
        "t_g.",
    )


def scrutiny_object(found: Evidence) -> dict[str, object]:
    """Return everything beyond the claims as one object for a program."""
    sweeps = {"inline": found.inline_scrutiny, "shadow": found.shadow_scrutiny}
    table, many = found.specifications, found.many_seeds
    return {
        "sweeps": {name: analysis_json(scrutiny) for name, scrutiny in sweeps.items()},
        "conditions": [_condition_object(result) for result in found.conditions],
        "topologies": {
            name: [topology_json(on) for on in of_sweep]
            for name, of_sweep in found.on_topologies.items()
        },
        "kicks": {mode: criticality_json(of_mode) for mode, of_mode in found.criticality.items()},
        "tails": {mode: [tail_json(fit) for fit in fits] for mode, fits in found.tails.items()},
        "power": {mode: [power_json(p) for p in seeds.power] for mode, seeds in many.items()},
        "follows_grokking": {
            mode: {statistic: permutation_json(test) for statistic, test in seeds.follows.items()}
            for mode, seeds in many.items()
        },
        "many_seeds": {mode: _many_object(seeds) for mode, seeds in many.items()},
        "specifications": None
        if table is None
        else specifications_json(table, judged(table, statements)),
    }


def _many_object(seeds: ManySeeds) -> dict[str, object]:
    ladder = seeds.ladder
    return {
        "fewer_scales": fewer_scales_json(ladder.real),
        "moments": {phase: moments_json(of) for phase, of in ladder.real.moments.items()},
        "parts_of_the_rise": {s: rise_parts_json(of) for s, of in seeds.parts.items()},
        "exponents": exponents_json(ladder.real),
        "attribution": attribution_json(ladder),
        "rise": {s: estimate_json(ladder.rise("real", s)) for s in STATISTICS},
        "crossing": {s: crossing_json(ladder.real.curves[s].crossing) for s in STATISTICS},
    }


def _condition_object(result: ConditionResult) -> dict[str, object]:
    return {
        "group": result.condition.group,
        "name": result.condition.name,
        "settings": dict(result.condition.settings),
        "runs": result.n_runs,
        "runs_that_grok": result.n_grokked,
        "grokking_epoch": estimate_json(result.grokking),
        "later_than_shadow": estimate_json(result.delay),
        "grokking": [grokking_json(scale) for scale in result.by_scale],
        "exponents": {p: {s: estimate_json(result.exponent(p, s)) for s in STATISTICS} for p in PHASES},
        "rise": {s: estimate_json(result.rise[s]) for s in STATISTICS},
        "arrangement": {
            span: {s: estimate_json(result.arrangement(span, s)) for s in STATISTICS} for span in SPANS
        },
        "crossing": {s: crossing_json(result.curves[s].crossing) for s in STATISTICS},
        "crossing_of_null": {s: crossing_json(result.crossing_of_null[s]) for s in STATISTICS},
    }
