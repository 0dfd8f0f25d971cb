"""The steps of a training, measured in the background."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from gradquake.errors import InputError
from gradquake.study.recording import LEFT_OUT
from gradquake.torch.background import Background
from gradquake.torch.gradients import FlatGradient
from gradquake.torch.guest import Complaints, Gaps, nulls_failed, step_failed
from gradquake.torch.measurement import Measurement, Values
from gradquake.torch.recorder import Recorder

__all__ = ["Beside"]


@dataclass(frozen=True)
class Outcome:
    """The end of a measurement: its step, and the errors of the step and of nulls."""

    step: int
    error: Exception | None
    failed: Mapping[str, Exception]


class Beside:
    """Copies the gradients of steps, and has the copies measured in the background.

    A gradient that lies on several processes is gathered in the thread that trains, as part of the copy.
    The background never communicates: two threads that do could wait for each other for good. Loggers
    and warnings also belong to the thread that trains; they get their part at its next step.

    Parameters
    ----------
    measurement : Measurement
    gradient : FlatGradient
    recorder : Recorder
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
        self,
        measurement: Measurement,
        gradient: FlatGradient,
        recorder: Recorder,
        gaps: Gaps,
        complaints: Complaints,
        *,
        skips: bool,
    ) -> None:
        self.left_out = self._left_out_since = 0
        self._measurement, self._gradient, self._recorder = measurement, gradient, recorder
        self._gaps, self._complaints, self._skips = gaps, complaints, skips
        self._background = Background[Outcome]()

    def measure(self, step: int, scale: torch.Tensor | None, owner: object) -> None:
        """Copy the gradient of a step, and have it measured and recorded.

        ``owner`` is not collected before the measurement has ended.
        """
        if not self._recorder.records:
            return
        if self._skips and self._background.busy:
            self.left_out += 1
            self._left_out_since += 1
            # Other processes gather whatever this one decides.
            if self._gradient.gathers:
                self._gradient.take_part()
            return
        begin = time.perf_counter()
        self._background.wait()
        waited = time.perf_counter()
        self.collect()
        copying = time.perf_counter()
        if not self._measurement.read(scale):
            self._gaps.skip(step, "no parameter had a gradient")
            return
        costs = {
            "probe_waiting": waited - begin,
            "probe_copying": time.perf_counter() - copying,
            LEFT_OUT: float(self._left_out_since),
        }
        self._left_out_since = 0
        self._recorder.open()
        try:
            self._background.start(
                partial(_measured, step, self._measurement, self._recorder, costs, owner)
            )
        except BaseException:
            # Ctrl-C while the thread starts.
            self._recorder.drop()
            raise

    def settle(self, patience: float | None = None) -> None:
        """Wait for the measurement that is under way, at most ``patience`` seconds, and collect it."""
        self._background.wait(patience)
        self.collect()

    def collect(self) -> None:
        """Tell of a measurement that has ended, and send it to loggers."""
        outcome = self._background.result()
        if outcome is None:
            return
        self._recorder.deliver()
        nulls_failed(outcome.step, outcome.failed, self._gaps, self._complaints)
        error = outcome.error
        if isinstance(error, InputError):
            self._gaps.skip(outcome.step, str(error))
        elif error is not None:
            step_failed(outcome.step, error, self._gaps, self._complaints)


def _measured(
    step: int,
    measurement: Measurement,
    recorder: Recorder,
    costs: Values,
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
