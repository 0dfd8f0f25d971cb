"""The command `reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradquake.cli.terminal import AsJson, Jobs, Scheduler, print_json, progress, say

if TYPE_CHECKING:
    from rich.console import Console

    from gradquake.paper.claim import JudgedClaim

__all__ = ["reproduce"]

VERDICT_STYLES = {
    "reproduced": "green",
    "compatible": "green",
    "direction only": "yellow",
    "inconclusive": "blue",
    "not reproduced": "red",
    "not testable": "dim",
}

# On a narrower terminal the claims are printed one below the other, not as a table.
NARROW = 140


def reproduce(
    paper: Annotated[
        str,
        typer.Argument(
            help="xor, the paper's XOR networks; modadd, its Transformers, which needs torch; or known, "
            "models with known exponents."
        ),
    ] = "xor",
    out: Annotated[Path, typer.Option(help="Folder for the studies, claims and figures.")] = Path(
        "reproduction"
    ),
    seeds: Annotated[
        int | None,
        typer.Option(help="Seeds at each size; by default 200 for xor, 3 for modadd and 8 for known."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Leave out everything that no claim of xor rests on: controls, interventions, choices, "
            "power.",
        ),
    ] = False,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce a paper, judge its claims, and put them under scrutiny.

    For `xor` it trains networks of eight sizes, in-line and in shadow mode, and 1000
    seeds of one size. It measures the gradients beside their nulls, and prints the paper's claims beside
    the measurements: first with the paper's six seeds, then with all. `--seeds 6 --quick` stops after
    the first.

    For `modadd` it trains one-layer Transformers of two architectures on modular addition under four
    conditions, which takes half an hour on two cores. Its claims join those in the folder.

    For `known` it simulates sandpiles and other models with known exponents, and prints what each
    estimator of the analysis makes of them. It takes a minute.

    If it is interrupted, the same command continues.

    Example: `gradquake reproduce --out reproduction`
    """
    from gradquake.paper.reproduce import paper_of
    from gradquake.paper.reproduce import reproduce as reproduced

    entry = paper_of(paper)
    with progress("runs", resumes=True) as bars:
        claims = reproduced(
            paper,
            out=out,
            seeds=seeds,
            quick=quick,
            jobs=jobs,
            scheduler=scheduler,
            progress=bars,
            first_look=_first_look,
        )
    if not entry.claims:
        print((out / f"{entry.page}.{'json' if as_json else 'md'}").read_text(encoding="utf-8"), end="")
        return
    if as_json:
        print_json([claim.to_json() for claim in claims])
        return
    _print_claims(claims)
    say(
        f"Written to {out}: {entry.report}, claims.md and {entry.page}.md to read, claims.json and "
        f"{entry.page}.json for programs, figures/ and the studies"
    )


def _first_look(claims: list[JudgedClaim]) -> None:
    """Print the verdicts of the first six seeds, while the others are measured."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from gradquake.paper.claims_page import value_text

    table = RichTable(title="A first look, with the first six seeds alone", title_justify="left")
    for name in ("id", "paper", "measured", "value [95 %]", "verdict"):
        table.add_column(name)
    for claim in claims:
        first = claim.quantities[0]
        cells = map(Text, (claim.id, claim.paper, first.name, value_text(first)))
        table.add_row(*cells, Text(claim.verdict, VERDICT_STYLES[claim.verdict]))
    Console(stderr=True).print(table)


def _print_claims(claims: list[JudgedClaim]) -> None:
    from gradquake.paper.claims_page import INTRODUCTION, JUDGING
    from gradquake.report.console import console

    to = console()
    if to.width < NARROW:
        _print_claims_stacked(claims)
    else:
        _print_claims_table(claims, to)
    verdicts = [claim.verdict for claim in claims]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in VERDICT_STYLES if v in verdicts)
    null = sum(claim.by_the_null for claim in claims)
    to.print(f"{len(claims)} claims: {counts}. Shuffled gradients get the same verdict in {null}.")
    to.print(INTRODUCTION, highlight=False, markup=False)
    to.print(JUDGING, highlight=False, markup=False)


def _print_claims_table(claims: list[JudgedClaim], console: Console) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    from gradquake.paper.claims_page import COLUMNS, null_text, range_text, value_text

    table = RichTable(title="The claims beside the measurements", title_justify="left")
    for name in COLUMNS:
        table.add_column(Text(name), no_wrap=name in ("id", "value [95 %]"))
    for claim in claims:
        head = [claim.id, claim.text, claim.paper]
        for i, quantity in enumerate(claim.quantities):
            cells = [
                *(head if i == 0 else ["", "", ""]),
                quantity.name,
                value_text(quantity),
                range_text(quantity),
                null_text(quantity, "gaussian"),
                null_text(quantity, "permuted"),
            ]
            verdict = Text(claim.verdict_text, VERDICT_STYLES[claim.verdict]) if i == 0 else Text("")
            # As Text, in which square brackets mean nothing to rich.
            table.add_row(*map(Text, cells), verdict)
        table.add_section()
    console.print(table)


def _print_claims_stacked(claims: list[JudgedClaim]) -> None:
    from gradquake.paper.claims_page import null_text, range_text, value_text

    for claim in claims:
        print(f"{claim.id}: {claim.verdict_text}\n  {claim.text}; paper: {claim.paper}")
        for quantity in claim.quantities:
            print(f"  {quantity.name}: {value_text(quantity)}")
            if ends := range_text(quantity):
                print(f"    six-seed range {ends}")
            for rung in quantity.nulls:
                print(f"    {rung} null {null_text(quantity, rung)}")
        print()
