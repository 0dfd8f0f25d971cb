"""The command `analyze`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradquake.analysis.statistics import Statistic
    from gradquake.report.tables import Table
    from gradquake.scrutiny.scrutinize import Scrutiny
from gradquake.cli.terminal import (
    AsJson,
    Jobs,
    Scheduler,
    StudyFile,
    _executor,
    _print_json,
    _print_table,
    _progress,
    _say,
    _settings,
)


def analyze(
    study: StudyFile,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Choose one sweep by a setting, as name=value; may be repeated."),
    ] = None,
    nulls: Annotated[
        bool,
        typer.Option("--nulls", help="The whole ladder of nulls, and every topology."),
    ] = False,
    sensitivity: Annotated[
        bool,
        typer.Option("--sensitivity", help="The specification curve: every choice of measuring it."),
    ] = False,
    statistic: Annotated[
        str | None,
        typer.Option(
            help="max (the paper's: D) or mean; by default both, in JSON max with mean beside it."
        ),
    ] = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Exponents, D(t) and its crossing of 1, beside nulls measured on the very gradients.

    XOR runs are trained once more, bit for bit, to measure surrogates of their gradients: Gaussian and
    permuted ones, or with --nulls the whole ladder and every topology. Of any other run the nulls are
    shown that were measured beside it. Needs finished runs at three sizes or more. Intervals are 95 %
    bootstraps over runs.

    Example: `gradquake analyze reproduction/study.sqlite --where task=and --where alpha_train=0`
    """
    from gradquake.analysis.statistics import STATISTICS, check_statistic
    from gradquake.avalanche.surrogates import RUNGS
    from gradquake.paper.xor import statements as xor_statements
    from gradquake.report import json as report_json
    from gradquake.report import tables
    from gradquake.scrutiny import measure as scrutiny_measure
    from gradquake.scrutiny import replay
    from gradquake.scrutiny import scrutinize as scrutiny
    from gradquake.scrutiny import topologies as scrutiny_topologies
    from gradquake.scrutiny.sensitivity import specify
    from gradquake.study.study import open_study

    if statistic is not None:
        check_statistic(statistic)
    chosen: Any = list(STATISTICS) if statistic is None else (statistic,)
    with open_study(study) as opened:
        dataset, recorded = opened.with_nulls(**_settings(where or []))
    again = replay.can_replay(dataset)
    if again or sensitivity:
        scrutiny_measure.check(dataset, sensitivity=sensitivity)
    else:
        scrutiny.check_beside(dataset, recorded)
    rungs = RUNGS if nulls else ("gaussian", "permuted")
    topologies, table = [], None
    with _executor(jobs, scheduler) as pool, _progress() as advance:
        if again:
            advance("nulls", 0)

        def told(steps: int, of: int) -> None:
            advance("analysis", steps, of)

        if again:
            found = scrutiny.scrutinize(dataset, rungs, pool, progress=told)
        else:
            beside = {rung: null for rung, null in recorded.items() if rung in rungs}
            advance("analysis", 0)
            found = scrutiny.beside(dataset, beside, pool, progress=told)
        if nulls and again:
            advance("topologies", 0)
            topologies = scrutiny_topologies.on_topologies(dataset, pool)
        if sensitivity:
            advance("choices", 0)
            table = specify([dataset], pool)
    if as_json:
        _print_json(
            {
                **report_json.analysis_json(found, chosen[0]),
                **({} if statistic else {"mean": report_json.analysis_json(found, "mean")}),
                **(
                    {"topologies": [report_json.topology_json(on) for on in topologies]}
                    if topologies
                    else {}
                ),
                **({} if table is None else {"sensitivity": xor_statements.specifications_json(table)}),
            }
        )
        return
    shown = [
        tables.exponents_table(found.ladder, chosen),
        tables.attribution_table(found.ladder, chosen),
    ]
    if found.timing:
        shown.append(tables.timing_table(found, chosen))
    if nulls:
        shown.append(tables.collapse_table({"": found.collapses}))
    if topologies:
        shown.append(tables.topologies_table({"": topologies}, chosen))
    if table is not None:
        shown += [xor_statements.shares_table(table), tables.importance_table(table)]
    _print_analysis(found, shown, chosen)


def _print_analysis(found: Scrutiny, tables: list[Table], statistics: Sequence[Statistic]) -> None:
    from gradquake.report.tables import number, time_with_interval
    from gradquake.scrutiny.scrutinize import notes_of

    analysis = found.ladder.real
    settings = ", ".join(f"{name}={value}" for name, value in analysis.dataset.attrs.items())
    _say(f"{analysis.dataset.sizes['run']} runs: {settings}")
    print()
    for statistic in statistics:
        curve = analysis.curves[statistic]
        values = curve.dimension["value"].values
        values = values[values == values]  # NaN at epochs at which a size was not measured
        if not values.size:
            print(
                f"D(t), {statistic}: there is no epoch at which every size of network has an avalanche"
            )
            continue
        crosses = (
            f"crosses 1 from below at epoch {time_with_interval(curve.crossing)}"
            if curve.crossing.value == curve.crossing.value
            else "does not cross 1 from below"
        )
        print(
            f"D(t), {statistic}: from {number(values.min())} to {number(values.max())}, at the end "
            f"{number(values[-1])}; {crosses}"
        )
    first, last = analysis.grokking_range
    if first == first:
        print(
            f"runs grok at epochs {number(first)} to {number(last)}; phases are split at each run's own "
            "t_g"
        )
    for note in notes_of(found):
        print(note)
    for table in tables:
        print()
        _print_table(table)
