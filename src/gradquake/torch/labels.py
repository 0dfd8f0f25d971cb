"""The labels of a run, made from the values that a script has, such as ``vars(args)``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from gradquake.avalanche.probe import Probe
from gradquake.errors import InputError, printable, require_number
from gradquake.study.labels import checked_labels
from gradquake.torch.guest import tell

__all__ = ["as_labels", "probe_and_labels"]

PLAIN = (str, bool, int, float, complex, type(None))


def as_labels(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return labels as JSON-ready values; a warning names those that become text or are left out.

    Text and finite numbers are kept. ``None``, booleans, paths, infinities, dtypes, devices,
    enumerations, and lists, tuples and sets of these become text. Everything else is left out.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    given : mapping of str, optional

    Raises
    ------
    InputError
        For names that ``checked_labels`` refuses.
    """
    if not isinstance(given, Mapping):
        return checked_labels(name, given)
    kept, as_text, left_out = {}, [], []
    for key, value in given.items():
        plain = value.item() if _is_single(value) else value
        if _is_label(plain):
            kept[key] = plain
        elif _has_text(plain):
            kept[key] = _text(plain)
            as_text.append(str(key))
        else:
            left_out.append(str(key))
    found = checked_labels(name, kept)
    parts = ["kept as text: " + ", ".join(as_text)] if as_text else []
    parts += ["left out, neither text nor a number: " + ", ".join(left_out)] if left_out else []
    if parts:
        tell(printable(f"{name}: {'; '.join(parts)}"))
    return found


def probe_and_labels(
    probe: Probe | None, given: Mapping[str, Any] | None
) -> tuple[Probe, dict[str, Any]]:
    """Return the probe of a run, and its labels.

    If no probe is given, the label ``seed`` is the probe's seed. A negative seed or None, by which
    scripts mean "no fixed seed", is kept as the label ``seed_given``, and a warning says so.

    Raises
    ------
    InputError
        As ``as_labels`` does; for something else than a ``Probe``; or for a label ``seed`` that is not
        an integer from 0 to 2^63 - 1.
    """
    if not (probe is None or isinstance(probe, Probe)):
        raise InputError(f"probe is {probe!r}; a gradquake.Probe is needed")
    if not isinstance(given, Mapping) or "seed" not in given:
        return probe or Probe(), as_labels("labels", given)
    seed = given["seed"].item() if _is_single(given["seed"]) else given["seed"]
    labels = as_labels("labels", {name: value for name, value in given.items() if name != "seed"})
    if seed is None or (isinstance(seed, int) and not isinstance(seed, bool) and seed < 0):
        probe = probe or Probe()
        tell(
            f"the label seed is {seed}, which fixes nothing; the probe uses seed {probe.seed}, and the "
            f"label seed_given keeps {seed}"
        )
        return probe, {**labels, "seed_given": str(seed)}
    try:
        number = require_number("seed", seed)
    except InputError:
        number = math.nan
    if not number.is_integer() or not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed!r}; an integer from 0 to 2^63 - 1 is needed")
    return probe or Probe(seed=int(seed)), {**labels, "seed": int(seed)}


def _is_single(value: object) -> bool:
    return isinstance(value, np.generic | np.ndarray | torch.Tensor) and math.prod(value.shape) == 1


def _is_label(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _has_text(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_has_text(one) and not isinstance(one, set | frozenset) for one in value)
    if isinstance(value, set | frozenset):
        return all(map(_has_text, value))
    return isinstance(value, (*PLAIN, PurePath, Enum, torch.dtype, torch.device, torch.Size))


def _text(value: object) -> str:
    if isinstance(value, set | frozenset):
        # Sorted, so that the order is the same in every process.
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    return str(value)
