"""The command `run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass
from gradquake.cli.terminal import Jobs, Scheduler, _at_least_one, _executor, _integers, _progress, _say

run_app = typer.Typer(help="Train networks under the probe and record a sweep.", no_args_is_help=True)


@run_app.command("xor")
def run_xor(
    out: Annotated[Path, typer.Option(help="Study file; made, or continued, or added to.")],
    hidden: Annotated[str, typer.Option(help="Hidden sizes, separated by commas.")] = (
        "20,30,50,70,100,120,200,500"
    ),
    seeds: Annotated[int, typer.Option(help="Seeds at each size: 0, 1, ...")] = 6,
    epochs: Annotated[int, typer.Option(help="Gradient-descent updates.")] = 500,
    learning_rate: Annotated[float, typer.Option(help="Step of gradient descent.")] = 0.5,
    alpha: Annotated[float, typer.Option(help="Share that a toppling node gives away.")] = 0.3,
    alpha_train: Annotated[
        float | None,
        typer.Option(
            help="alpha of the relaxation that feeds the update, from 0 to below 1: 0 keeps the probe "
            "out of the training (shadow); the default is --alpha (inline)."
        ),
    ] = None,
    quantile: Annotated[float, typer.Option(help="Quantile of |gradient| taken as threshold.")] = 0.9,
    max_steps: Annotated[int, typer.Option(help="Most steps of a cascade.")] = 20,
    topology: Annotated[str, typer.Option(help="Graph: a name listed above.")] = "barabasi_albert",
    topology_train: Annotated[
        str | None,
        typer.Option(help="Graph of the relaxation that feeds the update; the default is --topology."),
    ] = None,
    permute_train: Annotated[
        bool,
        typer.Option(
            "--permute-train", help="Place the gradient on that graph in a new random order every epoch."
        ),
    ] = False,
    task: Annotated[
        str, typer.Option(help="xor, or a control where nothing groks: and, constant.")
    ] = "xor",
    every: Annotated[int, typer.Option(help="Epochs between snapshots.")] = 10,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """Train XOR networks of several sizes under the probe; finished runs are kept and not repeated.

    Topologies: barabasi_albert, ring, small_world_0.05, small_world_0.2, erdos_renyi,
    square_lattice, random_regular, computational.

    Example: `gradquake run xor --out shadow.sqlite --hidden 20,50,120 --seeds 12 --alpha-train 0`
    """
    from gradquake.experiments import xor
    from gradquake.study.execution import execute
    from gradquake.study.study import open_study

    runs = xor.sweep(
        _integers("--hidden", hidden),
        _at_least_one("--seeds", seeds),
        epochs=epochs,
        every=every,
        learning_rate=learning_rate,
        alpha=alpha,
        alpha_train=alpha_train,
        quantile=quantile,
        max_steps=max_steps,
        topology=topology,
        topology_train=topology_train,
        permute_train=permute_train,
        task=task,
    )
    with (
        _executor(jobs, scheduler) as pool,
        open_study(out, create=True) as study,
        _progress(len(runs)) as advance,
    ):
        execute(study, xor.measure, runs, pool, lambda n: advance("measuring", n))
    _say(f"{len(runs)} runs of this sweep are in {out}; `gradquake analyze {out}` reads them")
