"""The claims and the scrutiny as pages for a reader and as objects for a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gradquake.analysis.ladder import SPANS, Ladder, Span
from gradquake.analysis.scaling import STATISTICS, Statistic
from gradquake.analysis.timing import PermutationTest
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES, GrokkingEpochs
from gradquake.paper.xor import statements as xor_statements
from gradquake.paper.xor.conditions import ConditionResult
from gradquake.paper.xor.evidence import Evidence
from gradquake.report import json as report_json
from gradquake.report import tables
from gradquake.report.tables import SYMBOLS
from gradquake.report.text import Table, number, time_with_interval, with_interval

RISE: Span = "rise"


def scrutiny_page(found: Evidence) -> str:
    """Return everything beyond the claims as a Markdown page of tables."""
    return "# The paper's experiment under scrutiny\n\n" + "\n".join(
        table.markdown() for table in _tables(found)
    )


def _tables(found: Evidence) -> list[Table]:
    sweeps = {"inline": found.inline_scrutiny, "shadow": found.shadow_scrutiny}
    pages: list[Table] = []
    for name, scrutiny in sweeps.items():
        pages.append(_titled(tables.exponents_table(scrutiny.ladder), name))
        pages.append(_titled(tables.attribution_table(scrutiny.ladder), name))
        if scrutiny.timing:
            pages.append(_titled(tables.timing_table(scrutiny), name))
    pages += [conditions_table(found.conditions), grokking_table(found.conditions)]
    pages.append(tables.collapse_table({n: s.collapses for n, s in sweeps.items()}))
    pages += [_titled(tables.tails_table(fits), mode) for mode, fits in found.tails.items()]
    if found.on_topologies:
        pages.append(tables.topologies_table(found.on_topologies))
    if found.power:
        pages += [_titled(tables.power_table(power), mode) for mode, power in found.power.items()]
        pages.append(follows_table(found.follows))
        for mode, ladder in found.many_seeds.items():
            name = f"{mode}, over many seeds"
            pages.append(_titled(tables.exponents_table(ladder), name))
            pages.append(_titled(tables.attribution_table(ladder), name))
        pages.append(crossings_table(found.many_seeds))
    if found.specifications is not None:
        pages.append(xor_statements.shares_table(found.specifications))
        pages.append(tables.importance_table(found.specifications))
    return pages


def _titled(table: Table, of: str) -> Table:
    return replace(table, title=f"{table.title}, {of}")


def conditions_table(results: list[ConditionResult]) -> Table:
    """Return what was measured under every condition."""
    rows = [
        (
            result.group.replace("_", " "),
            result.name.replace("_", " "),
            f"{result.n_grokked} of {result.n_runs}",
            time_with_interval(result.grokking),
            time_with_interval(result.delay),
            SYMBOLS[statistic],
            *(with_interval(result.exponents["real", phase, statistic]) for phase in SPLIT_PHASES),
            with_interval(result.rise[statistic]),
            *(with_interval(result.arrangement[span, statistic]) for span in (*SPLIT_PHASES, RISE)),
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
        "Controls are split into phases at the t_g of the XOR run of the same size, seed and mode. "
        "Later than shadow: the median over runs of t_g minus that of the same run without inline "
        "diffusion, in epochs. alpha train 0.3 and 0 are the paper's inline and shadow training; "
        "topology train is the graph of the inline diffusion, permuted the diffusion of a gradient "
        "that is placed on the graph anew at every epoch; quantile the threshold, in the probe and "
        "in training. Arrangement: real minus permuted.",
    )


def grokking_table(results: list[ConditionResult]) -> Table:
    """Return the median grokking epoch of every size under every condition."""
    scales = [scale.n_parameters for scale in results[0].by_scale]
    rows = [
        (
            result.group.replace("_", " "),
            result.name.replace("_", " "),
            *(_epochs(scale) for scale in result.by_scale),
        )
        for result in results
    ]
    return Table(
        "Grokking epochs under every condition",
        ("group", "condition", *(f"N = {n}" for n in scales)),
        rows,
        "Medians over runs; a run that never reaches 100 % is infinitely late.",
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


def _epochs(scale: GrokkingEpochs) -> str:
    if scale.median.value == float("inf"):
        return "never"
    if scale.median.low != scale.median.low:
        return f"{scale.median.value:g}"
    return f"{scale.median.value:g} [{scale.median.low:.0f}, {scale.median.high:.0f}]"


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
        "The rise D_post - D_pre with each run split at its own t_g, and with t_g exchanged among the "
        "runs of a scale; p is the share of exchanges that reach it.",
    )


def scrutiny_object(found: Evidence) -> dict[str, Any]:
    """Return everything beyond the claims as one object for a program."""
    sweeps = {"inline": found.inline_scrutiny, "shadow": found.shadow_scrutiny}
    table = found.specifications
    return {
        "sweeps": {name: report_json.analysis_json(scrutiny) for name, scrutiny in sweeps.items()},
        "conditions": [_condition_object(result) for result in found.conditions],
        "topologies": {
            name: [report_json.topology_json(on) for on in of_sweep]
            for name, of_sweep in found.on_topologies.items()
        },
        "tails": {mode: [report_json.tail_json(f) for f in fits] for mode, fits in found.tails.items()},
        "power": {
            mode: [report_json.power_json(p) for p in power] for mode, power in found.power.items()
        },
        "follows_grokking": {
            mode: {statistic: report_json.permutation_json(test) for statistic, test in of_mode.items()}
            for mode, of_mode in found.follows.items()
        },
        "many_seeds": {
            mode: {
                statistic: {
                    "exponents": report_json.exponents_json(ladder.real, statistic),
                    "attribution": report_json.attribution_json(ladder, statistic),
                    "rise": report_json.estimate_json(ladder.value("real", "rise", statistic)),
                    "crossing": report_json.crossing_json(ladder.real.curves[statistic].crossing),
                }
                for statistic in STATISTICS
            }
            for mode, ladder in found.many_seeds.items()
        },
        "specifications": None if table is None else xor_statements.specifications_json(table),
    }


def _condition_object(result: ConditionResult) -> dict[str, Any]:
    return {
        "group": result.group,
        "name": result.name,
        "runs": result.n_runs,
        "runs_that_grok": result.n_grokked,
        "grokking_epoch": report_json.estimate_json(result.grokking),
        "later_than_shadow": report_json.estimate_json(result.delay),
        "grokking": [report_json.grokking_json(scale) for scale in result.by_scale],
        **{
            statistic: {
                "exponents": {
                    w: report_json.estimate_json(result.exponents["real", w, statistic]) for w in PHASES
                },
                "rise": report_json.estimate_json(result.rise[statistic]),
                "arrangement": {
                    span: report_json.estimate_json(result.arrangement[span, statistic])
                    for span in SPANS
                },
                "crossing": report_json.crossing_json(result.curves[statistic].crossing),
                "crossing_of_null": report_json.crossing_json(result.crossing_of_null[statistic]),
            }
            for statistic in STATISTICS
        },
    }
