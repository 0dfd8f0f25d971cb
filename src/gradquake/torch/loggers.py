"""Scalars to the logger that the user already has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradquake.errors import InputError, a_type

Send = Callable[[Mapping[str, float], int], object]


def sender(logger: Any) -> Send:
    """Return a function that writes scalars at a step to a logger, known by what it can do.

    Parameters
    ----------
    logger : object
        A TensorBoard ``SummaryWriter``, a Weights & Biases run, the ``mlflow`` module, a Lightning
        logger, or a function of (scalars by name, step).

    Raises
    ------
    InputError
        For anything else.
    """
    if hasattr(logger, "add_scalar"):
        return lambda scalars, step: [logger.add_scalar(n, v, step) for n, v in scalars.items()]
    if hasattr(logger, "log_metrics"):
        return lambda scalars, step: logger.log_metrics(dict(scalars), step=step)
    if hasattr(logger, "define_metric"):
        logger.define_metric("gradquake/*", step_metric="gradquake/step")
        # Uncommitted: it joins the run's next row, and does not move the step that the user counts.
        return lambda scalars, step: logger.log({**scalars, "gradquake/step": step}, commit=False)
    if callable(logger):
        return lambda scalars, step: logger(scalars, step)
    raise InputError(
        f"a logger is {a_type(logger)}; a SummaryWriter, a wandb run, mlflow, a Lightning "
        "logger or a function of (scalars, step) is needed"
    )
