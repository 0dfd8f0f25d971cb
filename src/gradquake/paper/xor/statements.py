"""The paper's statements that are judged under every specification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradquake.analysis.specifications import AGAINST_NULL

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["statements"]


def statements(table: xr.Dataset) -> xr.Dataset:
    """Return for every specification which of the paper's statements hold.

    Only estimates are compared, not their intervals. A value holds if it lies within twice the paper's
    error, a direction if its sign is right. A statement about a missing value does not hold.
    """
    first, last = table["first_grokking_epoch"], table["last_grokking_epoch"]
    pre, post, crossed = table["pre"], table["post"], table["crossing"]
    excess_pre, excess_post = pre - table["null_pre"], post - table["null_post"]
    return table[[]].assign(
        {
            "exponent before < 1": pre < 1,
            "exponent before = 0.90 ± 0.04": abs(pre - 0.90) <= 0.04,
            "exponent after > 1": post > 1,
            "exponent after = 1.20 ± 0.04": abs(post - 1.20) <= 0.04,
            "exponent before < 1 < after": (pre < 1) & (post > 1),
            "exponent after > before": post > pre,
            "exponent crosses 1 upwards": crossed.notnull(),
            "exponent crosses 1 while runs grok": (first <= crossed) & (crossed <= last),
            "average exponent = 1.00 ± 0.04": abs(table["average"] - 1) <= 0.04,
            "aggregate exponent = 1.00 ± 0.04": abs(table["all"] - 1) <= 0.04,
            "every R² > 0.98": table["worst_r_squared"] > 0.98,
            f"exponent before > {AGAINST_NULL}": excess_pre > 0,
            f"exponent after > {AGAINST_NULL}": excess_post > 0,
            f"rise > that of {AGAINST_NULL}": excess_post > excess_pre,
        }
    )
