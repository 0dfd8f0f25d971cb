"""Learning rates that are a number, or a number over the hidden units, as "10/h"."""

from __future__ import annotations

from gradquake.errors import InputError, require_between, require_number

__all__ = ["rate_at", "settled_rate"]


def settled_rate(rate: object) -> float | str:
    """Return a learning rate in one form: a float, or text such as "10/h".

    Raises
    ------
    InputError
        If it is neither, or not above 0 and finite.
    """
    number, over_hidden = rate, False
    if isinstance(rate, str):
        text = rate.replace(" ", "")
        over_hidden = text.endswith("/h")
        try:
            number = float(text.removesuffix("/h"))
        except ValueError:
            raise InputError(
                f"learning_rate is {rate!r}; a number, or a number over the hidden units as in 10/h, is "
                "needed"
            ) from None
    settled = require_number("learning_rate", number)
    require_between("learning_rate", settled, 0, float("inf"))
    return f"{settled!r}".removesuffix(".0") + "/h" if over_hidden else settled


def rate_at(rate: float | str, hidden: int) -> float:
    """Return a settled learning rate at a number of hidden units."""
    return float(rate.removesuffix("/h")) / hidden if isinstance(rate, str) else rate
