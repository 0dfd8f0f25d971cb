"""The command `measure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass
from gradquake.cli.terminal import (
    AsJson,
    _at_least_one,
    _print_json,
    _print_table,
    _progress,
    _say,
    _settings,
)


def probe(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Gradient files in any order, or one folder of them: .npy, .npz, .safetensors, .pt, "
            ".pth, .bin, .ckpt, .tar, or the .index.json of a checkpoint in parts."
        ),
    ],
    differences: Annotated[
        bool,
        typer.Option("--differences", help="The files are checkpoints: measure later minus earlier."),
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
    topology: Annotated[
        str, typer.Option(help="Graph: a name that `run xor` lists.")
    ] = "barabasi_albert",
    alpha: Annotated[float, typer.Option(help="Share that a toppling node gives away.")] = 0.3,
    quantile: Annotated[float, typer.Option(help="Quantile of |gradient| taken as threshold.")] = 0.9,
    max_steps: Annotated[int, typer.Option(help="Most steps of a cascade.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the graph, the nulls and the sample.")] = 0,
    no_nulls: Annotated[bool, typer.Option("--no-nulls", help="Measure no nulls.")] = False,
    all_nulls: Annotated[
        bool, typer.Option("--all-nulls", help="The nulls that keep something of each tensor, too.")
    ] = False,
    draws: Annotated[
        int | None,
        typer.Option(help="Surrogates of each gradient and null: 20 of a single gradient, else 1."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Record the series as a run of this study; made, or added to.")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(help="A label of the recorded run, as name=value; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure gradients that any program saved, or the differences of checkpoints, beside nulls.

    Every file holds one gradient, and all the same tensors. The files are taken in the order of the
    steps that their names or folders hold. docs/files.md shows how to save them and how to read the
    table.

    Example: `gradquake probe gradients/ --out study.sqlite --run width=64`
    """
    from gradquake.avalanche.probe import Probe
    from gradquake.avalanche.surrogates import RUNGS
    from gradquake.avalanche.topologies import check_topology
    from gradquake.errors import require
    from gradquake.files import series
    from gradquake.report import series as series_report
    from gradquake.study.study import open_study

    require(not (no_nulls and all_nulls), "--no-nulls and --all-nulls were both given; choose one")
    require(not (no_nulls and draws), "--draws is a number of nulls, which --no-nulls leaves out")
    require(out is not None or not run, "--run labels what --out records; --out is needed")
    labels = _settings(run or [], "--run")
    rungs = RUNGS if all_nulls else () if no_nulls else ("gaussian", "permuted", "sign_flipped")
    check_topology(topology)
    settings = Probe(topology, alpha, quantile, max_steps, seed)
    opened = series.open_series(
        files, match=match or (), differences=differences, sample=sample, seed=seed
    )
    n_draws = series.default_draws(opened) if draws is None else _at_least_one("--draws", draws)
    n_avalanches = len(opened) * (1 + len(rungs) * n_draws)
    wanted = series.configs(opened, settings, rungs, labels)
    if out is not None:
        with open_study(out, create=True) as study:
            series.check_free(study, wanted)
    with _progress(n_avalanches, "avalanches", resumes=False) as advance:
        measured = series.measure(opened, settings, rungs, n_draws, lambda n: advance("measuring", n))
    if out is not None:
        with open_study(out, create=True) as study:
            study.write(series.records(measured, wanted))
    if as_json:
        _print_json(series_report.as_json(opened, settings, measured))
        return
    _print_table(series_report.table(opened, settings, measured))
    for note in opened.notes:
        _say(note)
    if out is not None:
        _say(f"Recorded in {out}, the nulls beside it; `gradquake info {out}` lists it")
