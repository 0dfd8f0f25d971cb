"""Attach a probe to any PyTorch training loop."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.util import Finalize
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import torch
from torch import nn

from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import REAL, RUNGS
from gradquake.errors import (
    InputError,
    RunTakenError,
    StudyError,
    a_type,
    counted,
    require,
    require_count,
    require_number,
)
from gradquake.study.configuration import RUN_KEYS, label_text
from gradquake.study.recording import RESERVED, VARIABLES
from gradquake.torch.gradients import FlatGradient, updated
from gradquake.torch.guest import reason, tell
from gradquake.torch.journal import Journal
from gradquake.torch.labels import as_labels, run_labels
from gradquake.torch.loggers import Send, sender
from gradquake.torch.measurement import Measurement, Values
from gradquake.torch.schedules import Schedule, schedule

if TYPE_CHECKING:
    import xarray as xr

Result = TypeVar("Result")

OUTCOMES = ("loss", "accuracy")

# An accuracy above this is no share: the mean of many ones can be 1 plus a rounding error.
LARGEST_SHARE = 1.001

# Steps are stored as 64-bit integers.
LATEST = 2**62


def attach(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    every: int | Schedule = 10,
    study: str | Path | None = None,
    run: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    nulls: Sequence[str] = (),
    inline: bool = False,
    parameters: Callable[[str], bool] | None = None,
    sample: int | None = None,
    topology: str = "barabasi_albert",
    alpha: float = 0.3,
    quantile: float = 0.9,
    max_steps: int = 20,
    grokked_at: float = 1.0,
    loggers: Sequence[Any] = (),
    step: int | None = None,
    errors: str = "warn",
) -> Quake:
    """Measure the gradients of a training run, each just before the optimizer uses it.

    The gradient is read as the optimizer will use it: accumulated, clipped, unscaled, reduced over
    processes. Shadow by default: training stays bit for bit what it is without. The probe may fail, but
    it does not end the training: see ``errors``.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters that the optimizer updates and that require a gradient now are measured,
        flattened in the model's order; one without a gradient counts as zeros.
    optimizer : torch.optim.Optimizer
        Any whose ``step`` is called, or one that holds such a one for the same parameters (SAM,
        Lookahead, a framework's). With a closure (LBFGS) the first evaluation of each step is measured.
    every : int or callable
        Measure at the steps 0, every, 2 every, ... of this optimizer, or where a function of the step
        says so, such as ``schedules.logarithmic()``.
    study : path, optional
        The study file to write to, within a second; made if there is none. Several runs may write
        to one at the same time.
    run : mapping, optional
        What tells this run from the others of its sweep, as text or numbers: its width, say. Of
        ``vars(args)``, None, booleans, paths and lists become text, and objects are left out.
        ``seed``, 0 if it is not given, draws the graph, the surrogates and the sample.
    sweep : mapping, optional
        Settings that the sweep shares: a learning rate, a dataset's name.
    nulls : sequence of str
        Surrogates of the same gradients that are measured beside them, names in ``surrogates.RUNGS``;
        each costs as much as a measurement or more.
    inline : bool
        Whether the optimizer is given the relaxed gradient, at every step.
    parameters : callable, optional
        A function of a parameter's name: whether to measure it.
    sample : int, optional
        Measure a fixed random subset of this many entries; N is then the size of the subset.
    topology : str
        A name in ``graphs.TOPOLOGIES``, "computational" for the model's own graph as
        ``gradquake.avalanche.neurons`` draws it.
    alpha, quantile, max_steps
        As in ``Probe``.
    grokked_at : float
        The first step at which ``accuracy``, if it is logged, is at least this is kept as the
        run's grokking epoch.
    loggers : sequence
        Where scalars go besides: see ``loggers.sender``.
    step : int, optional
        The step at which a run continues that was interrupted, or that ended there: how many optimizer
        steps its checkpoint has behind it. Its earlier snapshots are kept, and a warning says if some
        are missing.
    errors : str
        "warn": whatever fails while training runs is told once as a warning, and training goes on; a
        step that could not be measured counts as not measured. "raise": it is raised. A relaxation that
        fails with ``inline=True`` is always raised, since training would go on without it. A gradient
        with NaN or infinity cannot be relaxed: the optimizer gets it as it is, and a warning says so.

    Returns
    -------
    Quake
        A context manager; the run counts as finished when it is left without an exception.

    Raises
    ------
    InputError
        For parameters out of range, a model that cannot be read, or labels that cannot be used;
        before anything is measured.
    StudyError
        If the study cannot be written, or holds this run already.
    """
    return Quake(
        model, optimizer, schedule(every), study, *run_labels(run), as_labels("sweep", sweep),
        nulls=nulls, inline=inline, parameters=parameters, sample=sample, topology=topology,
        alpha=alpha, quantile=quantile, max_steps=max_steps, grokked_at=grokked_at, loggers=loggers,
        step=step, errors=errors, interval=None if callable(every) else int(every),
    )  # fmt: skip


class Quake:
    """A probe on an optimizer; made by ``attach``.

    Attributes
    ----------
    config : dict
        The run's configuration as it is recorded.
    n_parameters : int
        How many entries are measured: N.
    step : int
        The optimizer's steps so far.
    latest : dict
        The newest snapshot by name, with its ``step``.
    skipped : int
        Scheduled steps that could not be measured; a warning says why.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        chosen: Schedule,
        study: str | Path | None,
        seed: int,
        run: dict[str, Any],
        sweep: dict[str, Any],
        *,
        nulls: Sequence[str],
        inline: bool,
        parameters: Callable[[str], bool] | None,
        sample: int | None,
        topology: str,
        alpha: float,
        quantile: float,
        max_steps: int,
        grokked_at: float,
        loggers: Sequence[Any],
        step: int | None,
        errors: str,
        interval: int | None,
    ) -> None:
        optimizer = _innermost(optimizer)
        probe = Probe(topology, alpha, quantile, max_steps, seed)
        _check_settings(nulls, parameters, loggers, study, errors)
        grokked_at = require_number("grokked_at", grokked_at)
        if step is not None:
            require_count("step", step, 0)
            require(step < LATEST, "step is too large; a number below 2^62 is needed")
        gradient = FlatGradient(model, optimizer, parameters, sample, seed)
        if inline:
            _check_inline(model, gradient, sample)
        if gradient.size < gradient.total or parameters is not None:
            run["total_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.n_parameters = gradient.size
        settings = {
            "topology": topology, "alpha": float(alpha), "quantile": float(quantile),
            "max_steps": int(max_steps), "alpha_train": float(alpha) if inline else 0.0,
            "every": interval, "sample": None if sample is None else int(sample),
            "filtered": parameters is not None, "grokked_at": grokked_at,
        }  # fmt: skip
        own = {"experiment": "attached", "surrogate": REAL, "n_parameters": self.n_parameters}
        taken = sorted(sweep.keys() & (settings.keys() | own.keys() | set(RUN_KEYS)))
        if taken:
            raise InputError(
                f"sweep names {', '.join(taken)}, which gradquake sets; other names are needed"
            )
        self.config: dict[str, Any] = {**own, **settings, **sweep, "seed": seed, "labels": run}
        self._first = self.step = 0 if step is None else int(step)
        self.latest: dict[str, float] = {}
        self.skipped = 0
        self._first_skipped: tuple[int, str] | None = None
        self._complaints: set[str] = set()
        self._missed: Counter[str] = Counter()
        self._gradient = gradient
        # Of several processes that train one model, one writes.
        self._writes = not (
            torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_rank() > 0
        )
        self._process = os.getpid()
        self._measurement: Measurement | None = None
        if self._writes or inline:
            self._measurement = Measurement(model, gradient, probe, nulls)
            # Made now: once training runs, others wait for this process where gradients are gathered.
            _ = gradient.vector
        self._schedule, self._inline, self._errors = chosen, inline, errors
        self._grokked_at = grokked_at
        self._shares = True
        self._early: Values = {}
        self._finished: bool | None = None
        path = Path(study) if study is not None and self._writes else None
        configs = {name: {**self.config, "surrogate": name} for name in (REAL, *nulls)}
        self._journal = Journal(configs, path, None if step is None else int(step))
        if path is not None:
            self._say_what_is_missing(path)
        self._send: list[Send] = [sender(logger) for logger in loggers] if self._writes else []
        if gradient.strangers and self._writes:
            tell(
                f"the optimizer also updates {counted(gradient.strangers, 'parameter')} outside this "
                "model, which are not measured; to measure them too, hand over one module that holds "
                "all of it, such as torch.nn.ModuleList([model, other])"
            )
        self._handle: Any = optimizer.register_step_pre_hook(self._before_step)
        _ATTACHED.add(self)
        # A process that multiprocessing forked ends without what atexit knows.
        Finalize(None, _let_go_of_all, exitpriority=1)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along, of a model that holds the probe: it is not attached."""
        own: dict[str, Any] = {
            "_handle": None,
            "_gradient": None,
            "_measurement": None,
            "_schedule": None,
            "_send": [],
        }
        return {**self.__dict__, **own}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach(finished=kind is None)

    def __del__(self) -> None:
        # Forgotten, and collected with its optimizer.
        with contextlib.suppress(Exception):
            if self.attached and os.getpid() == self._process:
                self._say_if_nothing_was_measured()
                self._journal.let_go()

    @property
    def attached(self) -> bool:
        """Whether steps are still measured."""
        return self._handle is not None

    def __repr__(self) -> str:
        return (
            f"Quake(N={self.n_parameters}, step={self.step}, {'' if self._handle else 'not '}attached)"
        )

    def log(self, /, **outcomes: Any) -> None:
        """Keep outcomes with the newest snapshot: ``loss``, ``accuracy``, or any other number.

        A snapshot keeps the first value of each name that is logged from its step until the next
        snapshot; later ones only tell when ``accuracy`` first reached ``grokked_at``. What is logged
        before the first snapshot goes to it. What is not a number, or has the name of something that
        gradquake measures itself, is left out; a warning says so, once for each name.

        Parameters
        ----------
        **outcomes : float or one-element tensor

        Raises
        ------
        InputError
            With ``errors="raise"``, for what would be left out.
        """
        good = {}
        for name, value in outcomes.items():
            try:
                require(self.attached, "the probe is detached; what is logged now belongs to no run")
                check_outcome(name, value, self.config["labels"])
                # Nothing else is read: to read a number from an accelerator is to wait for it.
                if self._records and (name not in self.latest or self._may_grok(name)):
                    good[name] = _number(value)
            except Exception as error:
                self._complain(f"log {name}", f"{name} was not kept: {reason(error)}", error)
        try:
            self._keep_outcomes(good)
            self._tell_of_the_journal()
        except Exception as error:
            self._complain("log", f"what was logged was not kept: {reason(error)}", error)

    def detach(self, *, finished: bool = True) -> None:
        """Let go of the model and the optimizer, and write what is not written yet.

        If the study cannot be written, a warning says so, everything is kept, and a second call tries
        again.

        Parameters
        ----------
        finished : bool
            Whether the run is complete; otherwise it stays unfinished in the study, to be continued.

        Raises
        ------
        StudyError
            With ``errors="raise"``, if the study cannot be written.
        """
        if self._handle is not None:
            self._handle.remove()
            self._handle = self._measurement = None
            del self._gradient
            self._finished = finished
            self._attempt(lambda: self._say_what_was_not_measured(finished))
        self._attempt(lambda: self._journal.close(finished=bool(self._finished)))
        if self._journal.taken:
            self._attempt(self._tell_of_the_journal)

    @property
    def dataset(self) -> xr.Dataset:
        """What has been measured so far as a Dataset of one run (see ``gradquake.study.recording``)."""
        return self.dataset_of(REAL)

    def dataset_of(self, rung: str) -> xr.Dataset:
        """Return the same of a null.

        Raises
        ------
        InputError
            If it is not measured.
        """
        names = self._journal.surrogates
        if rung not in names:
            raise InputError(f"the null is {rung!r}; measured are {', '.join(names)}")
        return self._journal.dataset_of(rung)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        step = self.step
        self.step += 1
        changed = self._guarded(step, lambda: self._on_step(step, optimizer, args, kwargs))
        self._tell_of_the_journal()
        return changed

    def _on_step(
        self,
        step: int,
        optimizer: torch.optim.Optimizer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        found_inf, scale = _scaling(optimizer)
        # A fused optimizer is stepped even if a scaler found an overflow, and then does nothing.
        if found_inf is not None and float(found_inf) > 0:
            self.step -= 1
            return None
        scheduled = bool(self._schedule(step))
        # A schedule may have detached.
        if not self.attached or not (scheduled or self._inline):
            return None
        if scheduled and self._writes:
            self._tell_of_newcomers(step, optimizer)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._measure(step, scheduled, scale)
            return None
        evaluations = 0

        def measured_closure() -> Any:
            nonlocal evaluations
            loss = closure()
            evaluations += 1
            if self.attached and (evaluations == 1 or self._inline):
                recorded = scheduled and evaluations == 1
                self._guarded(step, lambda: self._measure(step, recorded))
            return loss

        if len(args) > 1:
            return (args[0], measured_closure, *args[2:]), kwargs
        return args, {**kwargs, "closure": measured_closure}

    def _measure(self, step: int, recorded: bool, scale: torch.Tensor | None = None) -> None:
        measurement = self._measurement
        if measurement is None:
            if self._gradient.gathers:
                self._gradient.take_part()
            return
        if not measurement.read(scale):
            self._skip(step, "no parameter had a gradient")
            return
        try:
            values, relaxed = measurement.avalanche()
        except InputError as error:
            self._skip(step, str(error))
            if self._inline:
                said = f"step {step} was not relaxed: {error}; the optimizer gets the gradient as it is"
                self._complain("relaxation", said, error)
            return
        if self._inline:
            measurement.write(relaxed, scale)
        if recorded and self._records:
            self._keep(step, values, self._measured_nulls(step, measurement))

    def _keep(self, step: int, values: Values, nulls: dict[str, Values]) -> None:
        values |= self._early
        self._early = {}
        self.latest = {"step": step, **values}
        self._journal.keep({REAL: values, **nulls}, step)
        sizes = {"": values["size"], **{f"{name}_": null["size"] for name, null in nulls.items()}}
        shares = {f"{name}size_per_parameter": size / self.n_parameters for name, size in sizes.items()}
        self._send_scalars({**values, **shares}, step)

    def _tell_of_newcomers(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Tell once that parameters are trained now that were not when the probe was attached."""
        if "newcomers" in self._complaints:
            return
        found = self._gradient.newcomers(optimizer)
        if found:
            self._complaints.add("newcomers")
            tell(
                f"at step {step} the optimizer trains {counted(found, 'parameter')} more than when the "
                "probe was attached; only the first ones are measured: detach, and attach again to "
                "measure all of them, as a run of its own"
            )

    def _measured_nulls(self, step: int, measurement: Measurement) -> dict[str, Values]:
        found = {}
        for name in measurement.nulls:
            try:
                found[name] = measurement.null(name, step)
            except Exception as error:
                self._missed[name] += 1
                said = f"the null {name} was not measured at step {step}: {reason(error)}"
                self._complain(f"null {name}", said, error)
        return found

    def _keep_outcomes(self, outcomes: Values) -> None:
        if not outcomes:
            return
        if not self.latest:
            self._early = {**self._early, **outcomes}
        else:
            self._add_to_snapshot(int(self.latest["step"]), outcomes)
        if "accuracy" in outcomes:
            self._see_accuracy(outcomes["accuracy"])

    def _add_to_snapshot(self, step: int, outcomes: Values) -> None:
        new = {name: value for name, value in outcomes.items() if name not in self.latest}
        if new:
            # A new one: other threads may log too.
            self.latest = {**self.latest, **new}
            values = {name: value for name, value in self.latest.items() if name != "step"}
            self._journal.keep({REAL: values}, step)
            self._send_scalars(new, step)

    def _may_grok(self, name: str) -> bool:
        return name == "accuracy" and self._journal.grokking_epoch is None and self._shares

    def _see_accuracy(self, accuracy: float) -> None:
        if accuracy > LARGEST_SHARE and self._grokked_at <= 1:
            # An earlier value may have passed for a share: 1 % for 1.
            self._shares, self._journal.grokking_epoch = False, None
            said = (
                f"accuracy is {accuracy:g} and grokked_at is {self._grokked_at:g}, so this run has no "
                "grokking epoch; log the accuracy as a share from 0 to 1, or give grokked_at in percent"
            )
            self._complain("accuracy", said, InputError(said))
        elif self._may_grok("accuracy") and accuracy >= self._grokked_at:
            self._journal.grokking_epoch = max(self.step - 1, 0)

    def _send_scalars(self, values: Mapping[str, float], step: int) -> None:
        scalars = {f"gradquake/{name}": float(value) for name, value in values.items()}
        for number, send in enumerate(self._send):
            try:
                send(scalars, step)
            except Exception as error:
                said = f"a logger failed at step {step}: {reason(error)}; the measurement is kept"
                self._complain(f"logger {number}", said, error)

    @property
    def _records(self) -> bool:
        """Whether this process records: not one that was forked from it, whose run goes on there."""
        if self._writes and os.getpid() != self._process:
            self._writes = False
            tell("this process was forked from the one that attached the probe; it records nothing")
        return self._writes

    # What fails

    def _guarded(self, step: int, work: Callable[[], Result]) -> Result | None:
        """Do something for a step; whatever it raises does not end the training."""
        try:
            return work()
        except Exception as error:
            if self._inline:
                raise
            self._skip(step, reason(error))
            said = f"step {step} was not measured: {reason(error)}; training goes on"
            self._complain("step", said, error)
            return None

    def _skip(self, step: int, why: str) -> None:
        self.skipped += 1
        self._first_skipped = self._first_skipped or (step, why)

    def _complain(self, of: str, message: str, error: Exception) -> None:
        """Tell what failed, once for each kind of failure, or raise it if that is wanted."""
        if self._errors == "raise":
            raise error
        if of not in self._complaints:
            self._complaints.add(of)
            tell(message)

    def _tell_of_the_journal(self) -> None:
        try:
            failure = self._journal.failure()
        except Exception as error:
            failure = reason(error)
        if failure and self._errors == "raise":
            raise StudyError(failure)
        if failure:
            tell(failure)

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            if self._errors == "raise":
                raise
            again = isinstance(error, StudyError) and not isinstance(error, RunTakenError)
            tell(reason(error) + ("; detach() tries again" if again else ""))

    def _say_what_was_not_measured(self, finished: bool) -> None:
        if finished:
            self._say_if_nothing_was_measured()
        if self._first_skipped is not None and (self.skipped > 1 or "step" not in self._complaints):
            step, why = self._first_skipped
            counted = "1 step was" if self.skipped == 1 else f"{self.skipped} steps were"
            tell(f"{counted} not measured, the first at step {step}: {why}")
        for name, count in self._missed.items():
            if count > 1:
                tell(f"the null {name} was not measured at {count} steps")

    def _say_if_nothing_was_measured(self) -> None:
        elsewhere = os.getpid() != self._process
        if not self._writes or elsewhere or self.latest or self.skipped:
            return
        steps = self.step - self._first
        if steps == 0:
            tell(
                "no step of this optimizer was seen, so nothing was measured: training steps another "
                "optimizer, or does not call step(); attach to the optimizer whose step() is called"
            )
        else:
            tell(f"nothing was measured: `every` chose none of the {steps} steps")

    def _say_what_is_missing(self, path: Path) -> None:
        reached, every = self._journal.reached, self.config["every"]
        if self.step > 0 and reached is None:
            tell(
                f"{path} holds no earlier snapshot of the run {label_text(self.config)}; it begins at "
                f"step {self.step}, and the steps before are missing"
            )
        # A function of the step is not asked about steps that are over: it may do more than answer.
        elif reached is not None and every is not None and reached // every < (self.step - 1) // every:
            tell(
                f"{path} holds the run {label_text(self.config)} to step {reached}; it is continued at "
                f"{self.step}, and the steps between are missing"
            )


def _scaling(optimizer: torch.optim.Optimizer) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return what a GradScaler leaves with an optimizer that unscales by itself."""
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return None, None
    given = [getattr(optimizer, name, None) for name in ("found_inf", "grad_scale")]
    # Others than the scaler's are the optimizer's own.
    found_inf, scale = (
        one if isinstance(one, torch.Tensor) and one.numel() == 1 else None for one in given
    )
    return found_inf, scale


def _check_inline(model: nn.Module, gradient: FlatGradient, sample: int | None) -> None:
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


def _innermost(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimizer inside those that only hand on to it: a framework's, or one like SAM."""
    inside = {
        id(one): one for one in getattr(optimizer, "__dict__", {}).values() if one is not optimizer
    }
    held = [one for one in inside.values() if isinstance(one, torch.optim.Optimizer)]
    # One that updates only some of the parameters, such as a shard, is not all there is.
    if len(held) == 1 and set(map(id, updated(optimizer))) <= set(map(id, updated(held[0]))):
        return _innermost(held[0])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"the optimizer is {a_type(optimizer)}; a torch.optim.Optimizer is needed")
    return optimizer


def _check_settings(nulls: Any, parameters: Any, loggers: Any, study: Any, errors: Any) -> None:
    if not (isinstance(nulls, Sequence) and not isinstance(nulls, str)):
        raise InputError(f"nulls is {nulls!r}; a list of names is needed")
    for rung in nulls:
        if rung not in RUNGS:
            raise InputError(f"a null is {rung!r}; one of {', '.join(RUNGS)} is needed")
    if not (parameters is None or callable(parameters)):
        raise InputError(f"parameters is {parameters!r}; a function of a parameter's name is needed")
    if not isinstance(loggers, Sequence):
        raise InputError(f"loggers is {loggers!r}; a list of loggers is needed")
    if not (study is None or isinstance(study, str | os.PathLike)):
        raise InputError(f"study is {study!r}; a path is needed")
    if errors not in ("warn", "raise"):
        raise InputError(f"errors is {errors!r}; 'warn' or 'raise' is needed")


def check_outcome(name: str, value: Any, labels: Mapping[str, Any]) -> None:
    """Raise InputError unless an outcome of this name can be kept beside these labels."""
    taken = name in VARIABLES or name in ("step", "epoch", "grokking_epoch")
    if taken and name not in OUTCOMES:
        raise InputError(f"{name} is measured by gradquake; another name is needed for an outcome")
    if name in labels or name in RESERVED:
        raise InputError(f"{name} is a label of runs; another name is needed for an outcome")
    single = isinstance(value, torch.Tensor | np.ndarray) and math.prod(value.shape) == 1
    # Not printed unless it has to be: to print a tensor is to wait for its device.
    if not (single or isinstance(value, Real)):
        raise InputError(f"{name} is {value!r}; one number is needed")


def _number(value: Any) -> float:
    return float(value.detach() if isinstance(value, torch.Tensor) else value)


_ATTACHED: weakref.WeakSet[Quake] = weakref.WeakSet()


@atexit.register
def _let_go_of_all() -> None:
    """Have the runs written that a script did not detach; they stay unfinished."""
    for quake in list(_ATTACHED):
        with contextlib.suppress(Exception):
            if quake.attached and os.getpid() == quake._process:
                quake._say_what_was_not_measured(finished=True)
                quake._journal.let_go()
