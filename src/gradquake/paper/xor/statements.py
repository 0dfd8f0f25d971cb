"""The statements that the specification curve judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradquake.analysis import specifications
from gradquake.report.json import finite
from gradquake.report.text import Table

if TYPE_CHECKING:
    import xarray as xr


def claims(table: xr.Dataset) -> xr.Dataset:
    """Return for every specification which of the paper's statements hold, as estimates.

    A value holds within twice the paper's error, a direction by its sign; an interval is not asked
    for. Where a specification has no such value, the statement does not hold.
    """
    first, last = table["first_grokking_epoch"], table["last_grokking_epoch"]
    pre, post, crossed = table["pre"], table["post"], table["crossing"]
    excess_pre, excess_post = pre - table["null_pre"], post - table["null_post"]
    return table[[]].assign(
        {
            "D before < 1": pre < 1,
            "D before = 0.90 ± 0.04": abs(pre - 0.90) <= 0.04,
            "D after > 1": post > 1,
            "D after = 1.20 ± 0.04": abs(post - 1.20) <= 0.04,
            "D before < 1 < D after": (pre < 1) & (post > 1),
            "D after > D before": post > pre,
            "D(t) crosses 1 upwards": crossed.notnull(),
            "D(t) crosses 1 while runs grok": (first <= crossed) & (crossed <= last),
            "average of D(t) = 1.00 ± 0.04": abs(table["average"] - 1) <= 0.04,
            "aggregate D = 1.00 ± 0.04": abs(table["all"] - 1) <= 0.04,
            "every R² of D(t) > 0.98": table["worst_r_squared"] > 0.98,
            "D before > its permuted null": excess_pre > 0,
            "D after > its permuted null": excess_post > 0,
            "rise > that of its permuted null": excess_post > excess_pre,
        }
    )


def specifications_json(table: xr.Dataset) -> dict[str, Any]:
    """Return in which share of the specifications each statement holds, and which choice matters."""
    holds = claims(table)
    return {
        "specifications": int(table["pre"].size),
        "holds": {
            str(name): {
                "share": float(holds[name].mean()),
                "by_choice": specifications.shares(holds[name]),
            }
            for name in holds.data_vars
        },
        "importance": {
            name: {choice: finite(share) for choice, share in shares.items()}
            for name, shares in specifications.importances(table).items()
        },
    }


def shares_table(table: xr.Dataset) -> Table:
    """Return in which share of the specifications each statement holds, over all and by choice."""
    holds = claims(table)
    of_each = {name: specifications.shares(holds[name]) for name in holds.data_vars}
    choices = [name for name in specifications.choices(table) if name != "scales"]
    rows = []
    for name, found in of_each.items():
        by_choice = (
            ", ".join(f"{level}: {share:.0%}" for level, share in found[choice].items())
            for choice in choices
        )
        rows.append((str(name), f"{float(holds[name].mean()):.1%}", *by_choice))
    return Table(
        f"The specification curve: {table['pre'].size:,} ways to measure it",
        ("statement", "holds", *choices),
        rows,
        "As estimates, without their intervals.",
    )
