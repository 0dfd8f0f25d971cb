"""The configuration of a run: its settings, its labels, and the key that identifies it.

A run's *labels* tell it apart from the other runs of its sweep. Its *settings* are those that all runs
of the sweep share. A configuration is a JSON object of the settings, the labels, the size and the seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradquake.errors import (
    InputError,
    StudyError,
    printable,
    require,
    require_count,
    require_number,
    shortened,
    told,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "RUN_KEYS", "Config", "checked_key", "choose", "config_key", "differing", "is_integer", "label_text",
    "read_config", "read_json", "same", "settle_types", "sweep_settings",
]  # fmt: skip

# JSON-ready values by name.
Config = Mapping[str, Any]

# The keys in which the runs of one sweep may differ; "labels" holds the user's own.
RUN_KEYS = ("hidden", "width", "n_parameters", "seed", "labels")


def settle_types(run: DataclassInstance) -> None:
    """Make the numbers of a frozen run configuration plain ints and floats.

    Equal configurations then have equal keys, whether 0, 0.0 or a NumPy number was given.

    Raises
    ------
    InputError
        If a field is not a number of its kind.
    """
    for field in fields(run):
        value = getattr(run, field.name)
        if field.type in ("int", int):
            require_count(field.name, value, 0)
            object.__setattr__(run, field.name, int(value))
        elif field.type in ("float", float):
            object.__setattr__(run, field.name, require_number(field.name, value))


def sweep_settings(config: Config) -> dict[str, Any]:
    """Return the settings that a run shares with its sweep: all but its size, seed and labels."""
    return {name: value for name, value in config.items() if name not in RUN_KEYS}


def label_text(config: Config) -> str:
    """Return a short text that tells a run from the others of its sweep.

    The text holds the run's labels, or its width if it has no labels, and its seed.
    """
    widths = {name: config[name] for name in ("hidden", "width") if name in config}
    named = {**(config.get("labels") or widths), "seed": config["seed"]}
    return printable(", ".join(f"{name}={value}" for name, value in named.items()))


def differing(settings: Sequence[Config]) -> dict[str, list[str]]:
    """Return the settings in which sweeps differ: by name, their values as text."""
    names = sorted({name for of_sweep in settings for name in of_sweep})
    values = {
        name: {config_key({name: of_sweep[name]} if name in of_sweep else {}) for of_sweep in settings}
        for name in names
    }
    return {
        name: sorted({str(of_sweep[name]) for of_sweep in settings if name in of_sweep})
        for name in names
        if len(values[name]) > 1
    }


def same(first: object, second: object) -> bool:
    """Return whether two settings are equal; NaN equals NaN."""
    return bool(first == second) or config_key({"": first}) == config_key({"": second})


def choose(path: Path, sweeps: Sequence[Config], settings: Config, noun: str = "run") -> Config:
    """Return the settings of the one sweep, of those of a study, that include those given.

    Raises
    ------
    StudyError
        If none fits, or several; the message lists the choices.
    """
    fitting = [
        sweep
        for sweep in sweeps
        if all(name in sweep and same(sweep[name], value) for name, value in settings.items())
    ]
    asked = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    asked = f" with {asked}" if asked else ""
    if not fitting:
        names = sorted({name for sweep in sweeps for name in sweep})
        known = f"; its settings are {', '.join(names)}" if names else ""
        raise StudyError(f"{path} holds no {noun}{printable(asked + known)}")
    if len(fitting) > 1:
        values = differing(fitting)
        choices = "; ".join(f"{name} ({', '.join(found)})" for name, found in values.items())
        raise StudyError(
            f"{path} holds {len(fitting)} sweeps{printable(asked)}; choose one (--where name=value on "
            f"the command line) by a setting in which they differ: {printable(choices)}"
        )
    return fitting[0]


def config_key(config: Config) -> str:
    """Return a configuration as JSON with sorted keys; only equal configurations have equal keys.

    NaN equals NaN here. ``read_config`` reads the key back.

    Raises
    ------
    InputError
        If the configuration holds anything but text, numbers, None, lists and mappings of these.
    """
    try:
        return json.dumps(dict(config), sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"a run's configuration cannot be stored ({told(error)}); text, numbers, None, and lists "
            "and mappings of these are needed"
        ) from None


def checked_key(config: Config) -> str:
    """Return the key of a configuration, or raise InputError if ``read_config`` would not read it."""
    key = config_key(config)
    read_config(key)
    return key


def read_config(key: object, grokking_epoch: object = None) -> Config:
    """Return the configuration that a key stands for.

    It has a size and a seed, its labels are text or numbers, and ``surrogate``, if present, is text. All
    other settings may be any JSON.

    Raises
    ------
    InputError
        If ``config_key`` did not make the key, or the grokking epoch is neither an integer nor None.
    """
    config = read_json(key)
    require(
        isinstance(config, dict) and config_key(config) == key,
        "a key that is not the configuration of a run",
    )
    for name, (fits, needed) in _KNOWN.items():
        if name in config or name in ("n_parameters", "seed"):
            value = config.get(name)
            if not fits(value):
                raise InputError(f"a run whose {name} is {shortened(value)}; {needed} is needed")
    require(
        grokking_epoch is None or isinstance(grokking_epoch, int), "a grokking epoch that is no integer"
    )
    return dict(config)


def read_json(text: object) -> Any:
    """Return the value of JSON text, None if it is not text, or raise InputError if it is not JSON."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):  # no JSON, or nested too deep
        raise InputError("text that is not JSON") from None


def is_integer(value: object, low: int = 0) -> bool:
    """Return whether a value is an integer from ``low`` to 2^63 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**63


def _are_labels(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str | int | float) for one in value.values())


# The keys that gradquake computes with: a check of the value, and the values that pass.
_KNOWN: dict[str, tuple[Callable[[object], bool], str]] = {
    "n_parameters": (lambda value: is_integer(value, 1), "an integer from 1 to 2^63 - 1"),
    "seed": (lambda value: is_integer(value, -(2**63)), "an integer of 64 bits"),
    "hidden": (is_integer, "an integer from 0 to 2^63 - 1"),
    "width": (is_integer, "an integer from 0 to 2^63 - 1"),
    "labels": (_are_labels, "a mapping to text and numbers"),
    "surrogate": (lambda value: isinstance(value, str), "text"),
}
