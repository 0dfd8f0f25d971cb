"""Attach a probe to any PyTorch training loop."""

from __future__ import annotations

import atexit
import math
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn

from gradquake.cascade import MEASURED
from gradquake.errors import InputError, StudyError, a_type, require, require_count, require_number
from gradquake.graphs import Graph, build
from gradquake.neurons import neuron_graph
from gradquake.probe import Probe
from gradquake.recording import (
    RUN_KEYS,
    VARIABLES,
    RunRecord,
    config_key,
    label_text,
    labels,
    to_dataset,
)
from gradquake.store import open_study
from gradquake.surrogates import REAL, RUNGS, seed_at, surrogate
from gradquake.torch import device
from gradquake.torch.gradients import FlatGradient, unwrapped
from gradquake.torch.later import Later
from gradquake.torch.loggers import Send, sender
from gradquake.torch.schedules import Schedule, schedule
from gradquake.torch.topology import layouts

if TYPE_CHECKING:
    import xarray as xr

OUTCOMES = ("loss", "accuracy")
# What is measured reaches the study file so many seconds later, or sooner.
FLUSH_EVERY = 1.0

Values = dict[str, float]


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
) -> Quake:
    """Measure the gradients of a training run, each just before the optimizer uses it.

    The gradient is read as the optimizer will use it: accumulated, clipped, unscaled, reduced over
    processes. Shadow by default: training stays bit for bit what it is without.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters that the optimizer updates and that require a gradient now are measured,
        flattened in the model's order; one without a gradient counts as zeros.
    optimizer : torch.optim.Optimizer
        Any; with a closure (LBFGS) the first evaluation of each step is measured.
    every : int or callable
        Measure at the steps 0, every, 2 every, ... of this optimizer, or where a function of the step
        says so, such as ``schedules.logarithmic()``.
    study : path, optional
        The study file to write to, within a second; made where there is none. Several runs may write
        to one at the same time.
    run : mapping, optional
        What tells this run from the others of its sweep, as text or numbers: its width, say. ``seed``,
        0 where it is not given, draws the graph, the surrogates and the sample.
    sweep : mapping, optional
        Settings that the sweep shares, as text or numbers: a learning rate, a dataset's name.
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
        ``gradquake.neurons`` draws it.
    alpha, quantile, max_steps
        As in ``Probe``.
    grokked_at : float
        The first step at which ``accuracy``, where it is logged, is at least this is kept as the
        run's grokking epoch.
    loggers : sequence
        Where scalars go besides: see ``loggers.sender``.
    step : int, optional
        The step at which a run continues that was interrupted: how many optimizer steps its checkpoint
        has behind it. Its earlier snapshots are kept, and a warning says where some are missing.

    Returns
    -------
    Quake
        A context manager; the run counts as finished when it is left without an exception.

    Raises
    ------
    InputError
        For parameters out of range, a model that cannot be read, or labels that are not text or
        numbers; before anything is measured.
    StudyError
        Where the study cannot be written, or holds this run already.
    """
    return Quake(
        model, optimizer, schedule(every), study, labels("run", run), labels("sweep", sweep),
        nulls=nulls, inline=inline, parameters=parameters, sample=sample, topology=topology,
        alpha=alpha, quantile=quantile, max_steps=max_steps, grokked_at=grokked_at, loggers=loggers,
        step=step, interval=None if callable(every) else int(every),
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
        Scheduled steps that could not be measured, since no parameter had a gradient or it was not
        finite; a warning says why at the end.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        chosen: Schedule,
        study: str | Path | None,
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
        interval: int | None,
    ) -> None:
        optimizer = _inner(optimizer)
        seed = run.pop("seed", 0)
        self._probe = Probe(topology, alpha, quantile, max_steps, seed)
        _check_settings(nulls, parameters, loggers, study)
        grokked_at = require_number("grokked_at", grokked_at)
        if step is not None:
            require_count("step", step, 0)
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
        require(
            not taken, f"sweep names {', '.join(taken)}, which gradquake sets; other names are needed"
        )
        self.config: dict[str, Any] = {**own, **settings, **sweep, "seed": seed, "run": run}
        self.step = 0 if step is None else int(step)
        self.latest: dict[str, float] = {}
        self.skipped = 0
        self._reason = ""
        self._gradient = gradient
        # Of several processes that train one model, one writes.
        self._writes = not (
            torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_rank() > 0
        )
        self._measures = self._writes or inline
        self._graph: Graph | None = None
        self._placed: device.DeviceGraph | None = None
        if self._measures:
            self._graph = _graph(model, gradient, self._probe)
            if gradient.device.type != "cpu":
                self._placed = device.place(self._graph, gradient.device)
        self._schedule, self._inline, self._nulls = chosen, inline, tuple(nulls)
        self._grokked: int | None = None
        self._grokked_written: int | None = None
        self._grokked_at = grokked_at
        self._send: list[Send] = [sender(logger) for logger in loggers] if self._writes else []
        self._waiting: dict[str, dict[int, Values]] = {rung: {} for rung in (REAL, *self._nulls)}
        self._early: Values = {}
        self._study = Path(study) if study is not None and self._writes else None
        self._owned: dict[str, int] = {}
        if self._study is not None:
            self._owned = self._begin(self._study, step)
        self._finished: bool | None = None
        # Of what waits, which the training adds to and a thread may be writing.
        self._lock = threading.RLock()
        self._later = Later(self._flush_in_a_lull)
        self._flushed = time.monotonic()
        self._warned = False
        self._handle: Any = optimizer.register_step_pre_hook(self._before_step)
        if self._study is not None:
            # A script that ends without detaching leaves an unfinished run, and not less than that.
            self._at_exit = partial(_flush_at_exit, weakref.ref(self))
            atexit.register(self._at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.detach(finished=kind is None)
        except StudyError as failure:
            # What follows the training must not be lost for that.
            warnings.warn(f"{failure}; detach() tries again", stacklevel=2)

    @property
    def attached(self) -> bool:
        """Whether steps are still measured."""
        return self._handle is not None

    def __repr__(self) -> str:
        return (
            f"Quake(N={self.n_parameters}, step={self.step}, {'' if self._handle else 'not '}attached)"
        )

    def log(self, **outcomes: Any) -> None:
        """Keep outcomes with the newest snapshot: ``loss``, ``accuracy``, or any other number.

        A snapshot keeps the first value of each name that is logged from its step until the next
        snapshot; later ones only tell when ``accuracy`` first reached ``grokked_at``. What is logged
        before the first snapshot goes to it.

        Parameters
        ----------
        **outcomes : float or one-element tensor

        Raises
        ------
        InputError
            For what is not a number, or a name that gradquake measures itself.
        """
        require(self.attached, "the probe is detached; what is logged now belongs to no run")
        for name, value in outcomes.items():
            _check_outcome(name, value, self.config["run"])
        if not self._writes:
            return
        # Nothing else is read: to read a number from an accelerator is to wait for it.
        if self._grokked is None and "accuracy" in outcomes:
            reached = _number(outcomes["accuracy"]) >= self._grokked_at
            self._grokked = max(self.step - 1, 0) if reached else None
        if not self.latest:
            self._early |= {name: _number(value) for name, value in outcomes.items()}
            return
        step = int(self.latest["step"])
        new = {n: _number(value) for n, value in outcomes.items() if n not in self.latest}
        if new:
            self.latest |= new
            values = {name: value for name, value in self.latest.items() if name != "step"}
            with self._lock:
                self._waiting[REAL][step] = values
            self._scalars(new, step)
        self._flush_now_and_then()

    def detach(self, *, finished: bool = True) -> None:
        """Let go of the model and the optimizer, and write what is not written yet.

        Parameters
        ----------
        finished : bool
            Whether the run is complete; otherwise it stays unfinished in the study, to be continued.

        Raises
        ------
        StudyError
            Where the study cannot be written; what is not written is kept, and a second call tries
            again.
        """
        self._later.stop()
        if self._handle is not None:
            self._handle.remove()
            self._handle = self._placed = self._graph = None
            del self._gradient
            self._finished = finished
            if self.skipped:
                warnings.warn(f"{self.skipped} steps were not measured: {self._reason}", stacklevel=2)
        if self._study is None or not self._owned:
            return
        with self._lock:
            # Once more where it failed before: until then everything is kept.
            self._flush()
            if self._finished:
                with open_study(self._study) as opened:
                    opened.finish(self._owned.values())
            self._owned = {}
        atexit.unregister(self._at_exit)

    @property
    def dataset(self) -> xr.Dataset:
        """What has been measured so far as a Dataset of one run (see ``gradquake.recording``)."""
        return self.dataset_of(REAL)

    def dataset_of(self, rung: str) -> xr.Dataset:
        """Return the same of a null.

        Raises
        ------
        InputError
            Where it is not measured.
        """
        require(
            rung in self._waiting,
            f"the null is {rung!r}; measured are {', '.join(self._waiting)}",
        )
        config = self._config_of(rung)
        if self._study is None:
            return to_dataset([RunRecord.of_snapshots(config, self._grokked, self._waiting[rung])])
        if self._owned:
            self._flush()
        with open_study(self._study) as opened:
            key = config_key(config)
            for record in opened.unfinished():
                if record.key == key:
                    return to_dataset([record])
            return opened.dataset_of([config])

    def _begin(self, path: Path, step: int | None) -> dict[str, int]:
        configs = [self._config_of(rung) for rung in self._waiting]
        with open_study(path, create=True) as opened:
            reached = opened.reached(self.config)
            owned = opened.begin(configs, None if step is None else int(step))
        if self.step > 0 and reached is None:
            warnings.warn(
                f"{path} holds no snapshot of an unfinished run {label_text(self.config)}; it begins at "
                f"step {self.step}, and what was before is missing",
                stacklevel=4,
            )
        # A function of the step is not asked about steps that are over: it may do more than answer.
        elif (
            reached is not None
            and self.config["every"] is not None
            and any(map(self._schedule, range(reached + 1, self.step)))
        ):
            warnings.warn(
                f"{path} holds the run {label_text(self.config)} to step {reached}; it is continued at "
                f"{self.step}, and what is between is missing",
                stacklevel=4,
            )
        return dict(zip(self._waiting, owned, strict=True))

    def _config_of(self, rung: str) -> dict[str, Any]:
        return {**self.config, "surrogate": rung}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        # A fused optimizer is stepped even where a scaler found an overflow, and then does nothing.
        overflowed = getattr(optimizer, "found_inf", None)
        if overflowed is not None and float(overflowed) > 0:
            return None
        step = self.step
        self.step += 1
        scheduled = bool(self._schedule(step))
        # A schedule may have detached.
        if not self.attached or not (scheduled or self._inline):
            return None
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._measure(step, scheduled, getattr(optimizer, "grad_scale", None))
            return None
        evaluations = 0

        def measured_closure() -> Any:
            nonlocal evaluations
            loss = closure()
            evaluations += 1
            if self._handle is not None and (evaluations == 1 or self._inline):
                self._measure(step, scheduled and evaluations == 1)
            return loss

        if len(args) > 1:
            return (args[0], measured_closure, *args[2:]), kwargs
        return args, {**kwargs, "closure": measured_closure}

    def _measure(self, step: int, recorded: bool, scale: torch.Tensor | None = None) -> None:
        if not self._measures:
            if self._gradient.gathers:
                self._gradient.take_part()
            return
        if not self._gradient.read():
            self._skip(f"no parameter had a gradient at step {step}")
            return
        vector = self._gradient.vector
        if scale is not None:
            vector /= scale.to(vector.device)
        try:
            values, relaxed = self._avalanche(vector)
            nulls = self._measured_nulls(step) if recorded and self._writes else {}
        except InputError as error:
            self._skip(f"at step {step} {error}")
            return
        if self._inline:
            self._gradient.write(relaxed if scale is None else relaxed * scale.to(relaxed.device))
        if recorded and self._writes:
            self._keep(step, values, nulls)

    def _avalanche(self, vector: torch.Tensor) -> tuple[Values, torch.Tensor]:
        probe = self._probe
        if self._placed is None:
            found = probe.measure(vector.numpy(), self._graph)
            return {name: getattr(found, name) for name in MEASURED}, torch.from_numpy(found.relaxed)
        there = device.relax(
            vector, self._placed, quantile=probe.quantile, alpha=probe.alpha, max_steps=probe.max_steps
        )
        return {name: getattr(there, name) for name in MEASURED}, there.relaxed

    def _measured_nulls(self, step: int) -> dict[str, Values]:
        if not self._nulls:
            return {}
        vector = self._gradient.vector
        here = vector.cpu().numpy()
        # The draws of a step do not depend on which other steps are measured.
        seed = seed_at(self._probe.seed, step)
        drawn = {rung: surrogate(rung, here, self._gradient.tensors, seed=seed) for rung in self._nulls}
        return {
            rung: self._avalanche(torch.from_numpy(null).to(vector.device))[0]
            for rung, null in drawn.items()
        }

    def _keep(self, step: int, values: Values, nulls: Mapping[str, Values]) -> None:
        vector = self._gradient.vector
        # In double precision, since a sum of many squares loses digits.
        values["gradient_norm"] = float(torch.linalg.vector_norm(vector, dtype=torch.float64))
        values |= self._early
        self._early = {}
        self.latest = {"step": step, **values}
        with self._lock:
            self._waiting[REAL][step] = values
            for rung, of_null in nulls.items():
                self._waiting[rung][step] = of_null
        share = {"size_per_parameter": values["size"] / self.n_parameters}
        share |= {
            f"{rung}_size_per_parameter": v["size"] / self.n_parameters for rung, v in nulls.items()
        }
        self._scalars({**values, **share}, step)
        self._flush_now_and_then()

    def _skip(self, reason: str) -> None:
        self.skipped += 1
        self._reason = self._reason or reason

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        for send in self._send:
            send({f"gradquake/{name}": float(value) for name, value in values.items()}, step)

    @property
    def _unwritten(self) -> bool:
        return any(self._waiting.values()) or self._grokked != self._grokked_written

    def _flush_now_and_then(self) -> None:
        if self._study is None:
            return
        with self._lock:
            if self._unwritten and time.monotonic() - self._flushed > FLUSH_EVERY:
                self._later.stop()
                self._try_to_flush()
            self._have_it_flushed()

    def _flush_in_a_lull(self) -> None:
        """Write what waits while no step comes to do so: a long evaluation, or an interrupt."""
        with self._lock:
            if self.attached:
                self._try_to_flush()
                self._have_it_flushed()

    def _have_it_flushed(self) -> None:
        if self._unwritten:
            self._later.ask(FLUSH_EVERY)

    def _try_to_flush(self) -> None:
        # A study that cannot be written must not end a training; detach tries again, and raises.
        try:
            self._flush()
            self._warned = False
        except StudyError as error:
            warned, self._warned = self._warned, True
            self._flushed = time.monotonic()
            if not warned:
                warnings.warn(f"{error}; measurements are kept in memory meanwhile", stacklevel=2)

    def _flush(self) -> None:
        assert self._study is not None  # noqa: S101
        with self._lock:
            if not self._unwritten:
                return
            waiting = {self._owned[rung]: snapshots for rung, snapshots in self._waiting.items()}
            grokked = self._grokked
            with open_study(self._study) as opened:
                opened.append(waiting, grokked)
            self._grokked_written = grokked
            for snapshots in self._waiting.values():
                snapshots.clear()
            self._flushed = time.monotonic()


def _graph(model: nn.Module, gradient: FlatGradient, probe: Probe) -> Graph:
    if probe.topology != "computational":
        return build(probe.topology, gradient.size, probe.seed)
    require(
        gradient.size == gradient.total,
        "the computational topology joins all parameters of a neuron; it cannot be drawn on a sample",
    )
    return neuron_graph(layouts(unwrapped(model), gradient.names))


def _check_inline(model: nn.Module, gradient: FlatGradient, sample: int | None) -> None:
    require(sample is None, "inline relaxes the whole gradient; it cannot be combined with a sample")
    require(
        not gradient.gathers,
        "the parameters are sharded (DTensor); inline needs them whole on every process, as "
        "DistributedDataParallel keeps them",
    )
    sparse = [name for name, module in model.named_modules() if getattr(module, "sparse", False) is True]
    require(
        not sparse,
        f"{', '.join(sparse)} has sparse gradients; in-line relaxation needs dense gradients",
    )


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimizer inside that of a framework."""
    inside = getattr(optimizer, "optimizer", None)
    found = inside if isinstance(inside, torch.optim.Optimizer) else optimizer
    if not isinstance(found, torch.optim.Optimizer):
        raise InputError(f"the optimizer is {a_type(found)}; a torch.optim.Optimizer is needed")
    return found


def _check_settings(nulls: Any, parameters: Any, loggers: Any, study: Any) -> None:
    require(
        isinstance(nulls, Sequence) and not isinstance(nulls, str),
        f"nulls is {nulls!r}; a list of names is needed",
    )
    for rung in nulls:
        require(rung in RUNGS, f"a null is {rung!r}; one of {', '.join(RUNGS)} is needed")
    require(
        parameters is None or callable(parameters),
        f"parameters is {parameters!r}; a function of a parameter's name is needed",
    )
    require(isinstance(loggers, Sequence), f"loggers is {loggers!r}; a list of loggers is needed")
    require(study is None or isinstance(study, str | Path), f"study is {study!r}; a path is needed")


def _check_outcome(name: str, value: Any, labels: Mapping[str, Any]) -> None:
    taken = name in VARIABLES or name in ("step", "epoch", "grokking_epoch")
    require(
        name in OUTCOMES or not taken,
        f"{name} is measured by gradquake; another name is needed for an outcome",
    )
    require(
        name not in labels and name not in RUN_KEYS,
        f"{name} is a label of runs; another name is needed for an outcome",
    )
    single = isinstance(value, torch.Tensor | np.ndarray) and math.prod(value.shape) == 1
    require(single or isinstance(value, Real), f"{name} is {value!r}; one number is needed")


def _flush_at_exit(quake: weakref.ref[Quake]) -> None:
    """Write what a forgotten probe still holds."""
    found = quake()
    if found is not None and found.attached:
        found.detach(finished=False)


def _number(value: Any) -> float:
    return float(value.detach() if isinstance(value, torch.Tensor) else value)
