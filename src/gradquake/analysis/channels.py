"""The channels of a sweep: numbers of an avalanche whose growth with N is fitted.

Every variable that was recorded at each snapshot is a channel: "size", "duration", "area", "peak" and so
on. ``RATIOS`` holds those that follow from two others; a new one is one entry. ``in_channel`` gives a
sweep with a channel in the place of the sizes, so that every statistic of sizes is one of the channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["RATIOS", "Ratio", "channel_label", "channel_of", "channels", "in_channel", "values_of"]

SIZE = "size"


class Ratio(NamedTuple):
    """A channel that is a ratio of two recorded variables.

    Attributes
    ----------
    label : str
        Its meaning, as a noun.
    numerator, denominator : str
        Names of variables.
    """

    label: str
    numerator: str
    denominator: str


RATIOS: dict[str, Ratio] = {
    "size_per_step": Ratio("size over duration (s/T)", "size", "duration"),
    "size_per_node": Ratio("topplings per node (s/a)", "size", "area"),
}


def channels(variables: Mapping[Any, object]) -> list[str]:
    """Return the channels that some recorded variables have, the derived ones last."""
    recorded = [str(name) for name in variables]
    derived = [name for name, of in RATIOS.items() if {of.numerator, of.denominator} <= set(recorded)]
    return recorded + derived


def channel_label(channel: str) -> str:
    """Return the meaning of a channel, as a noun."""
    return RATIOS[channel].label if channel in RATIOS else channel.replace("_", " ")


def values_of(variables: Mapping[Any, Any], channel: str) -> NDArray[Any]:
    """Return the values of a channel from arrays of variables by name.

    A ratio is NaN, a missing value, if its denominator is 0: an avalanche in which nothing toppled has
    no s/T.

    Raises
    ------
    InputError
        If there is no such channel.
    """
    if channel in variables:
        return np.asarray(variables[channel])
    known = channels(variables)
    if channel not in known:
        raise InputError(f"the channel is {channel!r}; one of {', '.join(known)} is needed")
    of = RATIOS[channel]
    above, below = (np.asarray(variables[name], np.float64) for name in (of.numerator, of.denominator))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: NDArray[np.float64] = np.where(below > 0, above / below, np.nan)
    return ratio


def in_channel(dataset: xr.Dataset, channel: str = SIZE) -> xr.Dataset:
    """Return a sweep whose variable ``size`` holds a channel.

    Sums of whole numbers are exact in any order; those of a channel that is not whole may differ in the
    last bit from one processor to another.

    Parameters
    ----------
    dataset : xarray.Dataset
        One sweep (see ``gradquake.study.recording``).
    channel : str
        A variable on (run, epoch), or a name in ``RATIOS``. "size" returns the sweep as it is.

    Raises
    ------
    InputError
        If there is no such channel, or the sweep is already read in another one.
    """
    present = channel_of(dataset)
    if channel in (SIZE, present):
        return dataset
    if present != SIZE:
        raise InputError(f"the sweep is read in the channel {present!r}; give the sweep as recorded")
    found = values_of(dataset.data_vars, channel)
    return dataset.assign(size=(("run", "epoch"), found, {"channel": channel}))


def channel_of(dataset: xr.Dataset) -> str:
    """Return the channel that the variable ``size`` of a sweep holds."""
    return str(dataset["size"].attrs.get("channel", SIZE)) if SIZE in dataset else SIZE
