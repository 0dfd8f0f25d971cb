"""The command `measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradquake.avalanche.settings import DEFAULT_TOPOLOGY, CascadeSettings
from gradquake.cli.terminal import AsJson, print_table, progress, say, settings_of

__all__ = ["measure"]


def measure(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Gradient files in any order, or one folder of them: .npy, .npz, .safetensors, .pt, "
            ".pth, .bin, .ckpt, .tar, or the .index.json of a checkpoint in parts."
        ),
    ],
    differences: Annotated[
        bool,
        typer.Option(
            "--differences", help="The files are checkpoints: measure each minus the one before."
        ),
    ] = False,
    match: Annotated[
        list[str] | None,
        typer.Option(
            help="Only tensors whose name fits this pattern, such as '*.weight'; may be repeated."
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Measure a fixed random subset of this many entries.")
    ] = None,
    graph: Annotated[
        str,
        typer.Option(help="Graph to relax on: a topology that `gradquake run xor --help` lists."),
    ] = DEFAULT_TOPOLOGY,
    alpha: Annotated[
        float, typer.Option(help="Share that a toppling node gives away.")
    ] = CascadeSettings.alpha,
    quantile: Annotated[
        float, typer.Option(help="Quantile of |gradient| taken as threshold.")
    ] = CascadeSettings.quantile,
    max_steps: Annotated[int, typer.Option(help="Most steps of a cascade.")] = CascadeSettings.max_steps,
    seed: Annotated[int, typer.Option(help="Seed of the graph, the nulls and the sample.")] = 0,
    no_nulls: Annotated[bool, typer.Option("--no-nulls", help="Measure no nulls.")] = False,
    all_nulls: Annotated[
        bool, typer.Option("--all-nulls", help="Measure the nulls within each tensor too.")
    ] = False,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Surrogates of each gradient and null: by default 20 for a single gradient, else 1."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Record the series as a run of this study, new or not.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A label of the recorded run, as name=value; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure gradients that any program saved, or the differences of checkpoints, beside nulls.

    Every file holds one gradient, all of the same tensors. The files are taken in the order of the steps
    in their names or folders. docs/files.md shows how to save them and how to read the table.

    Example: `gradquake measure gradients/ --out study.sqlite --label width=64`
    """
    from gradquake.avalanche.surrogates import SURROGATES
    from gradquake.avalanche.topologies import check_topology
    from gradquake.errors import require
    from gradquake.files.measure import measure as measure_files
    from gradquake.report.series import series_table

    require(not (no_nulls and all_nulls), "--no-nulls and --all-nulls were both given; choose one")
    require(not (no_nulls and draws), "--draws is a number of nulls, which --no-nulls leaves out")
    require(out is not None or not label, "--label is for the run that --out records; give --out too")
    check_topology(graph, "graph")
    with progress("avalanches") as bars:
        series = measure_files(
            files, graph=graph, alpha=alpha, quantile=quantile, max_steps=max_steps, seed=seed,
            differences=differences, match=match or (), sample=sample,
            nulls=tuple(SURROGATES) if all_nulls else () if no_nulls else None, draws=draws,
            out=out, labels=settings_of(label or [], "--label"),
            progress=bars,
        )  # fmt: skip
    if as_json:
        print(series.to_json())
        return
    print_table(series_table(series))
    for note in series.notes:
        say(note)
    if out is not None:
        say(f"Recorded in {out}, the nulls beside it; `gradquake info {out}` lists it")
