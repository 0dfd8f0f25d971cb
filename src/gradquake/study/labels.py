"""The labels of a run: which names and values a user may give, and the configuration that holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradquake.errors import InputError
from gradquake.study.configuration import RUN_KEYS, Config
from gradquake.study.recording import COSTS, ESTIMATES, VARIABLES
from gradquake.study.wide import WIDE

__all__ = ["OWN_NAMES", "checked_labels", "labelled"]

# Names that no label and no setting of a user may have, because gradquake records them itself. The last
# two are labels of its own: the size of a model that is measured in part, and a seed that fixes nothing.
OWN_NAMES = (
    *VARIABLES, *WIDE, *COSTS, *ESTIMATES, "run", "epoch", "grokking_epoch", "n_parameters",
    "total_parameters", "seed_given",
)  # fmt: skip


def checked_labels(name: str, given: Config | None) -> dict[str, object]:
    """Return a user's own labels of a run, or settings of a sweep, as JSON-ready values.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    given : mapping of str to text or number, optional

    Raises
    ------
    InputError
        If a value is neither text nor a finite number, or a name is in ``OWN_NAMES``.
    """
    if not (given is None or isinstance(given, Mapping)):
        raise InputError(f"{name} is {given!r}; a mapping of names is needed")
    plain = {}
    for key, value in (given or {}).items():
        if not isinstance(key, str):
            raise InputError(f"{name} has the name {key!r}; a name is text")
        plain[key] = value.item() if isinstance(value, np.generic) else value
        finite = isinstance(plain[key], float) and math.isfinite(plain[key])
        if not (isinstance(plain[key], str | int) or finite):
            raise InputError(f"{key} in {name} is {value!r}; text or a finite number is needed")
    _check_names(name, plain, OWN_NAMES)
    return plain


def labelled(
    own: Config, labels: Config, sweep: Config | None = None, *, total_parameters: int | None = None
) -> dict[str, Any]:
    """Return the configuration of a run that a user labels: nothing that is given replaces another.

    Parameters
    ----------
    own : mapping
        What gradquake records of the run, ``seed`` among it.
    labels, sweep : mapping
        The user's, as ``checked_labels`` returns them. A label ``seed`` must be the run's own seed.
    total_parameters : int, optional
        The model's parameters, if not all of them are measured; becomes a label.

    Raises
    ------
    InputError
        If the label ``seed`` is another, if ``sweep`` names what ``own`` holds, or for a name that is
        in ``labels`` and in ``sweep``.
    """
    sweep, seed = sweep or {}, own["seed"]
    if labels.get("seed", seed) != seed:
        raise InputError(
            f"the label seed is {labels['seed']!r} and the probe's seed is {seed}; make them equal, or "
            "give the label another name, such as training_seed"
        )
    _check_names("sweep", sweep, (*own, *(name for name in RUN_KEYS if name not in own)))
    both = sorted(labels.keys() & sweep.keys())
    if both:
        raise InputError(
            f"labels and sweep both name {', '.join(both)}; a label tells runs of a sweep apart and a "
            "setting of the sweep is the same for all, so give each name in one of them"
        )
    kept = {name: value for name, value in labels.items() if name != "seed"}
    whole = {} if total_parameters is None else {"total_parameters": total_parameters}
    return {**own, **sweep, "labels": {**kept, **whole}}


def _check_names(argument: str, given: Config, own: Sequence[str]) -> None:
    taken = [name for name in given if name in own]
    if taken:
        raise InputError(
            f"{argument} names {', '.join(taken)}, which gradquake records itself; any name is free but "
            f"{', '.join(own)}"
        )
