"""One field of a training that is measured, gradients or updates, and where it is recorded."""

from __future__ import annotations

from dataclasses import dataclass

from gradquake.torch.gradients import FlatGradient
from gradquake.torch.journal import Journal
from gradquake.torch.measurement import Measurement
from gradquake.torch.recorder import Recorder

__all__ = ["Track"]


@dataclass(frozen=True, eq=False)
class Track:
    """A field that is measured, and its run.

    Attributes
    ----------
    field : str
        "gradient" or "update".
    vector : FlatGradient
        Reads the field; a ``FlatUpdate`` for updates.
    measurement : Measurement or None
        None in a process that only takes part in gathering.
    journal : Journal
    recorder : Recorder
    """

    field: str
    vector: FlatGradient
    measurement: Measurement | None
    journal: Journal
    recorder: Recorder
