"""The snapshots and outcomes of one run, on their way to the study and to loggers."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch

from gradquake.avalanche.surrogates import REAL
from gradquake.errors import InputError
from gradquake.study.recording import COSTS, ESTIMATES, RESERVED, VARIABLES
from gradquake.study.wide import WIDE
from gradquake.torch.guest import Complaints, reason, tell
from gradquake.torch.journal import Journal
from gradquake.torch.loggers import Send
from gradquake.torch.measurement import Values

__all__ = ["Recorder", "check_outcome"]

OUTCOMES = ("loss", "accuracy")

# Tensors whose share of the topplings goes to loggers: once among the largest of a step, a tensor's
# share is sent at every later step.
MOST_SHARES_SENT = 8
LARGEST_OF_STEP = 3

# The mean of many ones can exceed 1 by a rounding error. An accuracy above this is no share.
LARGEST_SHARE = 1.001


class Recorder:
    """Gives measurements and outcomes to the journal and to loggers.

    A measurement may end in another thread than the one that trains, and later than outcomes are logged:
    ``open`` says that one is under way. Loggers are only called by ``deliver``, in the user's thread.

    Parameters
    ----------
    journal : Journal
    config : mapping
        The run's configuration.
    sends : sequence of Send
        Functions that write scalars to loggers.
    complaints : Complaints
    tensors : sequence of str
        The tensors or layers whose topplings are counted.
    writes : bool
        Whether this process records. If several processes train one model, one of them does.

    Attributes
    ----------
    latest : dict
        The newest snapshot by name, with its ``step``.
    writes : bool
        As given; False in a forked process that noticed.
    """

    def __init__(
        self,
        journal: Journal,
        config: Mapping[str, Any],
        sends: Sequence[Send],
        complaints: Complaints,
        *,
        tensors: Sequence[str] = (),
        writes: bool,
    ) -> None:
        self.latest: Values = {}
        self._tensors, self._shares_sent = tuple(tensors), dict[int, None]()
        self._prefix = "gradquake/update/" if config["field"] == "update" else "gradquake/"
        self._journal, self._sends, self._complaints = journal, sends, complaints
        self._n_parameters, self._labels = config["n_parameters"], config["labels"]
        self._grokked_at = config["grokked_at"]
        self.writes = writes
        self._process = os.getpid()
        # Outcomes that were logged before the first snapshot.
        self._early: Values = {}
        # Whether the accuracy is a share from 0 to 1, as grokked_at says.
        self._is_share = True
        self._lock = threading.RLock()
        # While a measurement is under way: the outcomes logged since, and the step before each.
        self._logged: list[tuple[Mapping[str, float], int]] | None = None
        self._deliveries: deque[Callable[[], None]] = deque()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which writes to no logger."""
        return {**self.__dict__, "_sends": (), "_lock": None, "_deliveries": deque()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that attached the probe."""
        return os.getpid() != self._process

    @property
    def records(self) -> bool:
        """Whether this process records. A forked one does not: the run goes on in its parent."""
        if self.writes and self.forked:
            self.writes = False
            tell("this process was forked from the one that attached the probe; it records nothing")
        return self.writes

    def open(self) -> None:
        """Begin a measurement, which ``keep`` or ``drop`` ends; outcomes that are logged wait for it."""
        with self._lock:
            self._logged = []

    def keep(self, step: int, values: Values, nulls: Mapping[str, Values]) -> None:
        """Keep the snapshot of a step, and those of its nulls."""
        with self._lock:
            values = {**values, **self._early}
            self._early = {}
            self.latest = {"step": step, **values}
            self._journal.keep({REAL: values, **nulls}, step)
            of_each = {"": values, **{f"{name}_": null for name, null in nulls.items()}}
            shares = {
                f"{name}size_per_parameter": _scalars(one)["size"] / self._n_parameters
                for name, one in of_each.items()
            }
            sent = {**values, **shares, **self._shares_of_tensors(values)}
            self._deliveries.append(partial(self._send, sent, step))
            self.drop()

    def drop(self) -> None:
        """End a measurement; outcomes that waited go to the newest snapshot."""
        with self._lock:
            logged, self._logged = self._logged or [], None
            for outcomes, step in logged:
                self.add_outcomes(outcomes, step)

    def deliver(self) -> None:
        """Send new values to loggers, and tell what is to be told."""
        while self._deliveries:
            self._deliveries.popleft()()

    def _shares_of_tensors(self, values: Values) -> Values:
        """Return the shares of a few tensors of the topplings, by name."""
        topplings = np.asarray(values.get("tensor_topplings", ()))
        total = int(topplings.sum())
        if total == 0:
            return {}
        for k in np.argsort(-topplings, kind="stable")[:LARGEST_OF_STEP].tolist():
            if len(self._shares_sent) < MOST_SHARES_SENT:
                self._shares_sent[k] = None
        return {f"topplings/{self._tensors[k]}": topplings[k] / total for k in self._shares_sent}

    def read_outcomes(self, given: Mapping[str, object]) -> dict[str, float]:
        """Return the outcomes that are to be kept; a complaint tells of each that cannot be."""
        good = {}
        for name, value in given.items():
            try:
                check_outcome(name, value, self._labels)
                # Reading a number from an accelerator waits for it, so only outcomes to keep are read.
                if self.records and (self._is_new(name) or self._may_grok(name)):
                    good[name] = _number(value)
            except Exception as error:
                self._complaints.add(f"log {name}", f"{name} was not kept: {reason(error)}", error)
        return good

    def _is_new(self, name: str) -> bool:
        """Return whether the newest snapshot, or the one under way, lacks an outcome."""
        with self._lock:
            if self._logged is None or not self.latest:
                return name not in self.latest
            return all(name not in outcomes for outcomes, _ in self._logged)

    def add_outcomes(self, outcomes: Mapping[str, float], step: int) -> None:
        """Add outcomes to the newest snapshot, or to the first one if there is none yet.

        Parameters
        ----------
        outcomes : mapping of str to float
        step : int
            The step after which they were logged, for the grokking epoch.
        """
        with self._lock:
            if self._logged is not None:
                if outcomes:
                    self._logged.append((outcomes, step))
                return
            if not self.latest:
                self._early = {**self._early, **outcomes}
            else:
                self._add_to_snapshot(int(_scalars(self.latest)["step"]), outcomes)
            if "accuracy" in outcomes:
                self._see_accuracy(outcomes["accuracy"], step)

    def _add_to_snapshot(self, step: int, outcomes: Mapping[str, float]) -> None:
        new: Values = {name: value for name, value in outcomes.items() if name not in self.latest}
        if new:
            # A new dict, since other threads may log too.
            self.latest = {**self.latest, **new}
            values = {name: value for name, value in self.latest.items() if name != "step"}
            self._journal.keep({REAL: values}, step)
            self._deliveries.append(partial(self._send, new, step))

    def _may_grok(self, name: str) -> bool:
        return name == "accuracy" and self._journal.grokking_epoch is None and self._is_share

    def _see_accuracy(self, accuracy: float, step: int) -> None:
        if accuracy > LARGEST_SHARE and self._grokked_at <= 1:
            # The accuracy is in percent, so an earlier 1 meant 1 %.
            self._is_share, self._journal.grokking_epoch = False, None
            said = (
                f"accuracy is {accuracy:g} and grokked_at is {self._grokked_at:g}, so this run has no "
                "grokking epoch; log the accuracy as a share from 0 to 1, or give grokked_at in percent"
            )
            complain = partial(self._complaints.add, "accuracy", said, InputError(said))
            self._deliveries.append(complain)
        elif self._may_grok("accuracy") and accuracy >= self._grokked_at:
            self._journal.grokking_epoch = max(step, 0)

    def _send(self, values: Values, step: int) -> None:
        scalars = {f"{self._prefix}{name}": float(value) for name, value in _scalars(values).items()}
        for number, send in enumerate(self._sends):
            try:
                send(scalars, step)
            except Exception as error:
                said = f"a logger failed at step {step}: {reason(error)}; the measurement is kept"
                self._complaints.add(f"logger {number}", said, error)


def check_outcome(name: str, value: object, labels: Mapping[str, object]) -> None:
    """Raise InputError unless this name can be kept beside these labels, and the value is one number."""
    taken = {*VARIABLES, *WIDE, *COSTS, *ESTIMATES, "step", "epoch", "grokking_epoch"}
    if name in taken and name not in OUTCOMES:
        raise InputError(f"{name} is measured by gradquake; another name is needed for an outcome")
    if name in labels or name in RESERVED:
        raise InputError(f"{name} is a label of runs; another name is needed for an outcome")
    single = isinstance(value, torch.Tensor | np.ndarray) and math.prod(value.shape) == 1
    # A good value is not printed: to print a tensor is to wait for its device.
    if not (single or isinstance(value, Real)):
        raise InputError(f"{name} is {value!r}; one number is needed")


def _scalars(values: Values) -> dict[str, float]:
    """Return the measurements that are single numbers."""
    return {name: value for name, value in values.items() if not isinstance(value, Sequence)}


def _number(value: Any) -> float:
    return float(value.detach() if isinstance(value, torch.Tensor) else value)
