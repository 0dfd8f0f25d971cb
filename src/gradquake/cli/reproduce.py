"""The command `reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from rich.console import Console

    from gradquake.paper.claim import Claim
from gradquake.cli.terminal import (
    AsJson,
    Jobs,
    Scheduler,
    _at_least_one,
    _console,
    _executor,
    _print_json,
    _progress,
    _say,
)

VERDICT_STYLES = {
    "reproduced": "green",
    "direction only": "yellow",
    "not reproduced": "red",
    "not testable": "dim",
}

# On a terminal narrower than this the claims are printed one below the other, not as a table.
NARROW = 140


def reproduce(
    experiment: Annotated[
        str, typer.Argument(help="xor, the main job; or modadd, the Transformers, which needs torch.")
    ] = "xor",
    out: Annotated[Path, typer.Option(help="Folder for the study, claims and figures.")] = Path(
        "reproduction"
    ),
    seeds: Annotated[
        int | None, typer.Option(help="Seeds at each size; 6 of the XOR networks, 3 Transformers.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Leave out what no claim rests on: controls, interventions, choices, power."
        ),
    ] = False,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce the whole paper, judge its claims, and put them under scrutiny.

    Trains the XOR networks at eight sizes with the probe in the loop and beside it, 1000 seeds of
    the h = 21 network, the Gaussian baselines, controls and interventions; measures the gradients
    beside their nulls and under every choice of measuring them; then prints the paper's claims beside
    what was measured. Continues where an interrupted run stopped.

    With `modadd`, trains one-layer Transformers of two architectures on modular addition instead, under
    four conditions, half an hour's work on two cores; its claims join those in the folder.

    Example: `gradquake reproduce --out reproduction`
    """
    from gradquake.errors import InputError, require

    if experiment not in ("xor", "modadd"):
        raise InputError(f"the experiment is {experiment!r}; xor or modadd is needed")
    require(not (quick and experiment == "modadd"), "--quick is of xor; modadd leaves nothing out")
    if seeds is not None:
        _at_least_one("--seeds", seeds)
    with _executor(jobs, scheduler) as executor:
        claims = _claims_of(experiment, out, seeds, executor, quick=quick)
    if as_json:
        _print_json([claim.as_json() for claim in claims])
        return
    _print_claims(claims)
    name = "scrutiny" if experiment == "xor" else "modadd"
    study = "study" if experiment == "xor" else "modadd"
    _say(
        f"Written to {out}: claims.md and {name}.md to read, claims.json and {name}.json for "
        f"programs, figures/, {study}.sqlite"
    )


def _claims_of(
    experiment: str, out: Path, seeds: int | None, executor: Executor | None, *, quick: bool
) -> list[Claim]:
    if experiment == "modadd":
        from gradquake.paper.modadd import evidence as modadd
        from gradquake.paper.modadd.reproduce import reproduce as run_modadd

        transformers = modadd.Plan(seeds or modadd.SEEDS)
        with _progress(len(transformers.runs)) as advance:
            return run_modadd(out, transformers, executor, advance)
    from gradquake.paper.reproduce import reproduce as run_xor
    from gradquake.paper.xor.plan import PAPER_SEEDS, Plan

    plan = Plan(seeds=seeds or PAPER_SEEDS, quick=quick)
    with _progress(plan.n_runs) as advance:
        return run_xor(out, plan, executor, advance)


def _print_claims(claims: list[Claim]) -> None:
    console = _console()
    if console.width < NARROW:
        _print_claims_stacked(claims)
    else:
        _print_claims_table(claims, console)
    counts = ", ".join(
        f"{sum(claim.verdict == verdict for claim in claims)} {verdict}" for verdict in VERDICT_STYLES
    )
    console.print(f"{len(claims)} claims: {counts}.", highlight=False)
    print(
        "Gaussian null: the same statistic on Gaussian gradients of the same sizes, seeds and graphs.\n"
        "attribution of the difference: to the marginal distribution of the gradient (permuted minus\n"
        "Gaussian null) and to its arrangement on the graph (measured minus permuted null)."
    )


def _print_claims_table(claims: list[Claim], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table as RichTable

    from gradquake.paper.claims_page import quantity_attribution, quantity_null, quantity_with_interval

    table = RichTable(title="The paper's claims and what was measured", title_justify="left")
    fixed = ("id", "value [95 % interval]", "Gaussian null", "verdict")
    for name in ("id", "claim", "paper", "measured", *fixed[1:3], "attribution", "verdict"):
        table.add_column(name, no_wrap=name in fixed)
    for claim in claims:
        verdict = f"[{VERDICT_STYLES[claim.verdict]}]{claim.verdict}[/]"
        head = [claim.id, claim.claim, claim.paper]
        for i, quantity in enumerate(claim.quantities):
            table.add_row(
                *(head if i == 0 else ["", "", ""]),
                quantity.name,
                escape(quantity_with_interval(quantity)),
                escape(quantity_null(quantity)),
                escape(quantity_attribution(quantity).replace("; ", "\n")),
                verdict if i == 0 else "",
            )
        table.add_section()
    console.print(table)


def _print_claims_stacked(claims: list[Claim]) -> None:
    from gradquake.paper.claims_page import quantity_attribution, quantity_null, quantity_with_interval

    for claim in claims:
        print(f"{claim.id}: {claim.verdict}\n  {claim.claim}; paper: {claim.paper}")
        for quantity in claim.quantities:
            print(f"  {quantity.name}: {quantity_with_interval(quantity)}")
            if null := quantity_null(quantity):
                print(f"    Gaussian null {null}")
            if attribution := quantity_attribution(quantity):
                print(f"    {attribution}")
        print()
