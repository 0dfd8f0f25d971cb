"""Channels: the number of an avalanche, or beside it, whose growth with N is fitted.

All statistics are taken of ``size``. Another channel takes its place in the sweep, and is then fitted,
resampled, collapsed and compared with its nulls in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradquake.avalanche.observables import channels, observed_by
from gradquake.errors import InputError
from gradquake.study.recording import VARIABLES

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SIZE", "check_channel", "meanings", "of_channel"]

# The channel of all statistics unless another one is chosen.
SIZE = "size"

# The channels of the avalanche itself.
COUNTED = (SIZE, "duration", "area", "peak")


def meanings() -> dict[str, str]:
    """Return every channel, of the avalanche and of observables, and what it is."""
    return {name: VARIABLES[name][1] for name in COUNTED} | channels()


def check_channel(channel: object) -> None:
    """Raise InputError unless ``channel`` is a channel of the avalanche or of an observable."""
    if channel not in meanings():
        raise InputError(f"the channel is {channel!r}; one of {', '.join(meanings())} is needed")


def of_channel(sweep: xr.Dataset, channel: str) -> xr.Dataset:
    """Return a sweep with a channel in the place of the size, and its name among the settings.

    Raises
    ------
    InputError
        If the sweep does not have the channel.
    """
    check_channel(channel)
    if channel == SIZE:
        return sweep
    if channel not in sweep:
        observable = observed_by(channel)
        hint = f"; run it with observe={observable!r}" if observable else ""
        raise InputError(f"the runs have no measurements of {channel}{hint}")
    # The limit of steps that truncates avalanches does not bound an observable.
    kept = sweep.drop_vars("truncated", errors="ignore") if channel not in COUNTED else sweep
    return kept.assign(size=sweep[channel]).assign_attrs(channel=channel)
