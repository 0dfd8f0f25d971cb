"""The steps of a training, measured in the background."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from gradquake.errors import InputError
from gradquake.study.recording import LEFT_OUT
from gradquake.torch.background import Background
from gradquake.torch.guest import Complaints, Gaps, nulls_failed, step_failed
from gradquake.torch.measurement import Measurement
from gradquake.torch.recorder import Recorder
from gradquake.torch.track import Track
from gradquake.torch.updates import FlatUpdate

__all__ = ["Beside"]


@dataclass(frozen=True)
class Outcome:
    """The end of a measurement: its step, and the errors of the step and of nulls."""

    step: int
    error: Exception | None
    failed: Mapping[str, Exception]


class Beside:
    """Copies the gradients and the updates of steps, and has the copies measured in the background.

    All that is measured of a step is one piece of work, which begins once all of it is copied. So at
    most one step is under way.

    A gradient that lies on several processes is gathered in the thread that trains, as part of the copy.
    The background never communicates: two threads that do could wait for each other for good. Loggers
    and warnings also belong to the thread that trains; they get their part at its next step.

    Parameters
    ----------
    tracks : sequence of Track
        Each with a measurement. Updates come last.
    gaps : Gaps
    complaints : Complaints
    skips : bool
        Whether a step is left out if the measurement before is still under way.

    Attributes
    ----------
    left_out : int
        The number of steps that were left out.
    """

    def __init__(
        self, tracks: Sequence[Track], gaps: Gaps, complaints: Complaints, *, skips: bool
    ) -> None:
        self.left_out = self._left_out_since = 0
        self._tracks, self._gaps, self._complaints, self._skips = tracks, gaps, complaints, skips
        # Whether the step that was begun is measured, and its costs so far.
        self._measures, self._costs = False, dict[str, float]()
        self._held = 0.0
        # The measurements of copies that are to begin.
        self._copied: list[Callable[[], Outcome]] = []
        self._background = Background[list[Outcome]]()

    def begin(self) -> None:
        """Wait for the measurement before, or leave the step out; ``copy`` follows for each track."""
        self._measures = False
        if not self._records:
            return
        self._launch()
        if self._skips and self._background.busy:
            self.left_out += 1
            self._left_out_since += 1
            return
        begin = time.perf_counter()
        self._background.wait()
        waited = time.perf_counter() - begin
        self.collect()
        self._measures = True
        self._costs = {"probe_waiting": waited, LEFT_OUT: float(self._left_out_since)}
        self._left_out_since = 0

    def hold(self, update: FlatUpdate) -> None:
        """Keep the parameters before the step that was begun."""
        begin = time.perf_counter()
        if self._measures:
            update.hold()
        # Other processes gather whatever this one decides.
        elif update.gathers:
            update.take_part()
        self._held = time.perf_counter() - begin

    def copy(self, track: Track, step: int, scale: torch.Tensor | None, owner: object) -> None:
        """Copy what a track measures of a step; once the last is copied, the measurement begins.

        ``owner`` is not collected before the measurement has ended.
        """
        try:
            self._copy(track, step, scale, owner)
        finally:
            if track is self._tracks[-1]:
                self._launch()

    def settle(self, patience: float | None = None) -> None:
        """Wait for the measurement that is under way, at most ``patience`` seconds, and collect it."""
        # Copies are left of a step that did not end: its optimizer raised an error.
        self._launch()
        self._background.wait(patience)
        self.collect()

    def collect(self) -> None:
        """Tell of a measurement that has ended, and send it to loggers."""
        outcomes = self._background.result()
        if outcomes is None:
            return
        for track in self._tracks:
            track.recorder.deliver()
        for outcome in outcomes:
            nulls_failed(outcome.step, outcome.failed, self._gaps, self._complaints)
            error = outcome.error
            if isinstance(error, InputError):
                self._gaps.skip(outcome.step, str(error))
            elif error is not None:
                step_failed(outcome.step, error, self._gaps, self._complaints)

    @property
    def _records(self) -> bool:
        return self._tracks[0].recorder.records

    def _copy(self, track: Track, step: int, scale: torch.Tensor | None, owner: object) -> None:
        measurement, held = track.measurement, 0.0
        if measurement is None or not self._measures:
            if track.vector.gathers:
                track.vector.take_part()
            return
        if isinstance(track.vector, FlatUpdate):
            held = self._held
        begin = time.perf_counter()
        if not measurement.read(scale):
            self._gaps.skip(step, "no parameter had a gradient")
            return
        costs = {**self._costs, "probe_copying": held + time.perf_counter() - begin}
        track.recorder.open()
        self._copied.append(partial(_measured, step, measurement, track.recorder, costs, owner))

    def _launch(self) -> None:
        """Have all copies measured."""
        copied, self._copied = self._copied, []
        if not copied or self._tracks[0].recorder.forked:
            return
        try:
            self._background.start(lambda: [measured() for measured in copied])
        except BaseException:
            # Ctrl-C while the thread starts: if it does not, outcomes wait for nothing.
            if not self._background.busy:
                for track in self._tracks:
                    track.recorder.drop()
            raise


def _measured(
    step: int,
    measurement: Measurement,
    recorder: Recorder,
    costs: Mapping[str, float],
    owner: object,  # noqa: ARG001
) -> Outcome:
    """Measure and record a step; to hold the owner keeps it alive."""
    begin = time.perf_counter()
    try:
        try:
            values, _ = measurement.avalanche()
            nulls, failed = measurement.all_nulls(step)
            took = time.perf_counter() - begin
            recorder.keep(step, {**values, **costs, "probe_measuring": took}, nulls)
        finally:
            # After a failure, waiting outcomes belong to the snapshot before.
            recorder.drop()
    except Exception as error:
        return Outcome(step, error, {})
    return Outcome(step, None, failed)
