"""The options of ``attach``: checked once, and as the configuration of a recorded run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from gradquake.avalanche.extrapolation import check_exchangeable
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import REAL, checked_rungs
from gradquake.errors import InputError, require, require_count, require_number, shortened
from gradquake.study.labels import labelled
from gradquake.torch.gradients import FlatGradient

__all__ = ["FIELDS", "check_estimates", "check_inline", "check_options", "configuration"]

# By the option ``field``, the fields that are recorded: each is a run of its own.
FIELDS = {"gradient": ("gradient",), "update": ("update",), "both": ("gradient", "update")}

# Steps are stored as 64-bit integers.
LATEST = 2**62


def check_options(
    *,
    nulls: object,
    parameters: object,
    loggers: object,
    study: object,
    errors: object,
    step: Any,
    field: object,
    tensors: object,
    inline: object,
    when_behind: object,
    threads: Any,
) -> None:
    """Raise InputError for an option of ``attach`` that cannot be used."""
    checked_rungs(nulls)
    if not (parameters is None or callable(parameters)):
        raise InputError(f"parameters is {parameters!r}; a function of a parameter's name is needed")
    if not isinstance(loggers, Sequence):
        raise InputError(f"loggers is {loggers!r}; a list of loggers is needed")
    if not (study is None or isinstance(study, str | os.PathLike)):
        raise InputError(f"study is {study!r}; a path is needed")
    if errors not in ("warn", "raise"):
        raise InputError(f"errors is {errors!r}; 'warn' or 'raise' is needed")
    if not (isinstance(field, str) and field in FIELDS):
        raise InputError(f"field is {shortened(field)}; one of {', '.join(FIELDS)} is needed")
    if not isinstance(tensors, bool):
        raise InputError(f"tensors is {shortened(tensors)}; True or False is needed")
    require(
        not (inline and field == "update"),
        "inline relaxes the gradient, and field is 'update'; give field='both' to measure updates too",
    )
    if when_behind not in ("wait", "skip"):
        raise InputError(f"when_behind is {when_behind!r}; 'wait' or 'skip' is needed")
    require(
        not (inline and when_behind == "skip"),
        "inline relaxes every gradient, and when_behind is 'skip'; leave out one of them",
    )
    if threads is not None:
        require_count("threads", threads, 1)
    if step is not None:
        require_count("step", step, 0)
        require(step < LATEST, "step is too large; a number below 2^62 is needed")


def check_inline(model: nn.Module, gradient: FlatGradient, sample: int | None) -> None:
    """Raise InputError if the optimizer cannot be given the relaxed gradient of this model."""
    require(sample is None, "inline relaxes the whole gradient; it cannot be combined with a sample")
    require(
        not gradient.gathers,
        "the parameters are sharded (DTensor); inline needs them whole on every process, as "
        "DistributedDataParallel keeps them",
    )
    sparse = [name for name, module in model.named_modules() if getattr(module, "sparse", False) is True]
    if sparse:
        raise InputError(
            f"{', '.join(sparse)} has sparse gradients; in-line relaxation needs dense gradients"
        )


def check_estimates(probe: Probe, sample: int | None, *, tensors: bool) -> None:
    """Raise InputError unless the avalanche of a whole gradient can be estimated from a sample."""
    require(
        not tensors,
        "estimate gives the size of the whole, and tensors counts the sample alone; give one of them",
    )
    require(sample is not None, "estimate needs a sample, from which the whole is estimated")
    assert sample is not None  # noqa: S101
    check_exchangeable(probe, sample)


def configuration(
    model: nn.Module,
    gradient: FlatGradient,
    probe: Probe,
    labels: Mapping[str, object],
    sweep: Mapping[str, object],
    *,
    every: int | Callable[[int], bool],
    sample: int | None,
    parameters: Callable[[str], bool] | None,
    inline: bool,
    grokked_at: float,
    field: str,
    tensors: bool,
    estimates: bool,
) -> dict[str, object]:
    """Return the configuration under which a run is recorded.

    Raises
    ------
    InputError
        For names that ``labelled`` refuses, or if ``grokked_at`` is no number.
    """
    n, whole = gradient.total if estimates else gradient.n_parameters, None
    if n < gradient.total or parameters is not None:
        whole = sum(p.numel() for p in model.parameters() if p.requires_grad)
    own = {
        "experiment": "attached", "surrogate": REAL, "n_parameters": n,
        **probe.settings(), "alpha_train": float(probe.alpha) if inline else 0.0,
        "every": None if callable(every) else int(every),
        "sample": None if sample is None else int(sample), "filtered": parameters is not None,
        "grokked_at": require_number("grokked_at", grokked_at), "field": FIELDS[field][0],
    }  # fmt: skip
    if tensors:
        own["tensors"] = True
    if estimates:
        own["estimated"] = True
    return labelled(own, labels, sweep, total_parameters=whole)
