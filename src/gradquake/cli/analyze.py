"""The command `analyze`."""

from __future__ import annotations

from typing import Annotated

import typer

from gradquake.cli.terminal import (
    AsJson,
    Jobs,
    Scheduler,
    StudyFile,
    Where,
    WithNulls,
    print_table,
    progress,
    say,
    settings_of,
)

__all__ = ["analyze"]


def analyze(
    study: StudyFile,
    where: Where = None,
    nulls: WithNulls = False,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Measure the sweep under every choice of measuring it.")
    ] = False,
    statistic: Annotated[
        str | None,
        typer.Option(help="max (exponent D) or mean (exponent gamma) of the sizes; default: both."),
    ] = None,
    channel: Annotated[
        str,
        typer.Option(
            help="The number of each avalanche to analyze: size, duration, area, peak, size_per_step, "
            "size_per_node, or a channel of an observable, as kick_max."
        ),
    ] = "size",
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Analyze a sweep beside its nulls: exponents, D(t) and its crossing of 1.

    The output begins with a reading: what was found, in plain sentences. Tables follow. Intervals are
    95 %: bootstraps over runs, or of the line for D of the largest size. The sweep needs finished runs
    of at least three network sizes.

    XOR runs are trained again, bit for bit, to measure the nulls: Gaussian and permuted gradients. For
    other runs, the nulls that were recorded with them are used.

    Example: `gradquake analyze reproduction/study.sqlite --where task=and --where alpha_train=0`
    """
    from gradquake.report import result

    with progress() as bars:
        found = result.analyze(
            study,
            nulls=nulls,
            sensitivity=sensitivity,
            statistic=statistic,
            channel=channel,
            jobs=jobs,
            scheduler=scheduler,
            progress=bars,
            where=settings_of(where or []),
        )
    if as_json:
        print(found.to_json())
        return
    for sentence in found.reading:
        say(f"- {sentence}")
    print()
    say(found.settings)
    for table in found.tables:
        print()
        print_table(table)
