"""Attach a probe to any PyTorch training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradquake.avalanche.probe import CORES, Probe
from gradquake.avalanche.surrogates import REAL
from gradquake.errors import counted
from gradquake.study.configuration import label_text
from gradquake.torch.gradients import FlatGradient, innermost
from gradquake.torch.guest import Complaints, tell
from gradquake.torch.journal import Journal
from gradquake.torch.labels import as_labels, probe_and_labels
from gradquake.torch.loggers import Send, sender
from gradquake.torch.measurement import Measurement
from gradquake.torch.quake import Quake
from gradquake.torch.recorder import Recorder
from gradquake.torch.schedules import Schedule, schedule
from gradquake.torch.settings import (
    FIELDS,
    check_estimates,
    check_inline,
    check_options,
    configuration,
)
from gradquake.torch.track import Track
from gradquake.torch.updates import FlatUpdate

__all__ = ["attach", "runs_beside"]

# To measure a smaller gradient takes about a millisecond, not much longer than to start a thread.
SMALL = 1 << 16


def attach(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    probe: Probe | None = None,
    every: int | Schedule = 10,
    study: str | Path | None = None,
    labels: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    nulls: Sequence[str] = (),
    inline: bool = False,
    parameters: Callable[[str], bool] | None = None,
    sample: int | None = None,
    grokked_at: float = 1.0,
    field: str = "gradient",
    tensors: bool = False,
    loggers: Sequence[Any] = (),
    step: int | None = None,
    errors: str = "warn",
    when_behind: str = "wait",
    threads: int | None = None,
    estimate: bool = False,
) -> Quake:
    """Measure the gradients of a training run, each just before the optimizer uses it.

    The gradient is read as the optimizer will use it: accumulated, clipped, unscaled, reduced over
    processes. By default the probe is a shadow: the training stays bit for bit the same as without it. A
    failure of the probe does not end the training (see ``errors``).

    The gradient or the update is copied, and a thread beside the training measures the copy, one step at
    a time. It is measured at once if that takes less time: if it is small, or if PyTorch takes all cores
    of the CPU (see ``runs_beside``).

    Parameters
    ----------
    model : torch.nn.Module
        The parameters that the optimizer updates and that require a gradient now are measured,
        flattened in the model's order. A parameter without a gradient counts as zeros.
    optimizer : torch.optim.Optimizer
        The optimizer whose ``step`` is called, or one that wraps it for the same parameters (SAM,
        Lookahead, a framework's). With a closure (LBFGS) the first evaluation of each step is measured.
    probe : Probe, optional
        The graph, the threshold and the cascade. ``graph="computational"`` takes the model's own graph
        (``gradquake.avalanche.neurons``). By default ``Probe()``, with the label ``seed`` as its seed
        if there is one. Its seed draws the graph, the surrogates and the sample, and is recorded.
    every : int or callable
        Measure at the steps 0, every, 2 every, ... of this optimizer; or a function of the step that
        says whether to measure it, such as ``schedules.logarithmic()``.
    study : path, optional
        The study file to write to, within a second. It is made if it does not exist. Several runs may
        write to one study at the same time.
    labels : mapping, optional
        Text or numbers that tell this run from the other runs of its sweep, such as its width. You can
        give ``vars(args)``: None, booleans, paths and lists become text, and objects are left out.
    sweep : mapping, optional
        Settings that all runs of the sweep share, such as a learning rate or a dataset's name.
    nulls : sequence of str
        Surrogates of the same gradients to measure too: names in ``surrogates.RUNGS``. Each costs at
        least as much as the measurement itself.
    inline : bool
        Whether the optimizer gets the relaxed gradient, at every step.
    parameters : callable, optional
        A function of a parameter's name: whether to measure this parameter.
    sample : int, optional
        Measure a fixed random subset of this many entries; N is then the size of the subset.
    grokked_at : float
        The first step at which the logged ``accuracy`` is at least this large is kept as the run's
        grokking epoch.
    field : str
        What is measured: the "gradient", the "update", which is what the optimizer adds to the
        parameters at the step, or "both", as two runs whose setting ``field`` tells them apart.
    tensors : bool
        Whether to record the topplings of each tensor too; of each layer if there are more than 40
        tensors (see ``avalanche.tensors``).
    loggers : sequence
        Loggers that get the measurements too (see ``loggers.sender``).
    step : int, optional
        To continue a run that was interrupted or has ended: the number of optimizer steps behind its
        checkpoint. The run's earlier snapshots are kept, and a warning says if some are missing.
    errors : str
        "warn": each kind of failure is told once as a warning, and the training goes on; a step that
        could not be measured is skipped. "raise": failures are raised. With ``inline=True`` a failed
        relaxation is always raised, because the training would go on without it. A gradient with NaN or
        infinity cannot be relaxed: the optimizer gets it unchanged, and a warning says so.
    when_behind : str
        What a scheduled step does if the measurement before is still under way. "wait": it waits, so
        that every scheduled step is measured. "skip": it is left out, and counted in ``quake.left_out``
        and as ``probe_left_out`` in the study. Which steps are left out depends on the machine. Not
        with ``inline``.
    threads : int, optional
        The most cores that a measurement takes. By default one beside a training on the CPU, half of
        the cores beside an accelerator, and all cores if it is measured at once.
    estimate : bool
        With ``sample``: record the avalanche of all entries as estimated from the sample. N is then the
        number of all, and ``size_error`` the standard error of each size. Needs a graph on which the
        arrangement plays no part, ``random_regular`` or ``erdos_renyi``, and no ``tensors``.

    Returns
    -------
    Quake
        A context manager. The run is finished when the block ends without an exception.

    Raises
    ------
    InputError
        For an option out of range, a model that cannot be read, or labels that cannot be used. It is
        raised before anything is measured.
    StudyError
        If the study cannot be written, or holds this run already.
    """
    optimizer = innermost(optimizer)
    check_options(
        nulls=nulls, parameters=parameters, loggers=loggers, study=study, errors=errors, step=step,
        field=field, tensors=tensors, inline=inline, when_behind=when_behind, threads=threads,
    )  # fmt: skip
    chosen = schedule(every)
    probe, plain_labels = probe_and_labels(probe, labels)
    readers = {"gradient": FlatGradient, "update": FlatUpdate}
    flat = {
        name: readers[name](model, optimizer, parameters, sample, probe.seed) for name in FIELDS[field]
    }
    first = next(iter(flat.values()))
    if estimate:
        check_estimates(probe, sample, tensors=tensors)
    # A sample of all entries is no estimate.
    estimates = estimate and first.n_parameters < first.total
    if inline:
        check_inline(model, first, sample)
    config = configuration(
        model, first, probe, plain_labels, as_labels("sweep", sweep), every=every, sample=sample,
        parameters=parameters, inline=inline, grokked_at=grokked_at, field=field, tensors=tensors,
        estimates=estimates,
    )  # fmt: skip
    complaints = Complaints(errors)
    writes = _is_writer()
    in_background = not inline and runs_beside(first, when_behind)
    sends = [sender(logger) for logger in loggers] if writes else []
    path = Path(study) if study is not None and writes else None
    begin = 0 if step is None else int(step)
    tracks: list[Track] = []
    try:
        for name, vector in flat.items():
            measurement = None
            if writes or inline:
                measurement = Measurement(
                    model, vector, probe, nulls, tensors=tensors, in_background=in_background,
                    threads=threads, estimates=estimates,
                )  # fmt: skip
            own = {**config, "field": name}
            tracks.append(_track(own, vector, measurement, nulls, path, step, sends, complaints))
    except Exception:
        for track in tracks:
            track.journal.close(finished=False)
        raise
    if path is not None:
        _say_which_steps_are_missing(path, config, tracks[0].journal.reached, begin)
    if writes:
        _say_which_parameters_are_left_out(first)
    return Quake(
        optimizer, config, chosen, tracks, complaints,
        step=begin, when_behind=when_behind if in_background else None,
    )  # fmt: skip


def runs_beside(vector: FlatGradient, when_behind: str) -> bool:
    """Return whether a vector is measured beside the training, and not at once.

    If PyTorch takes all cores of the CPU, both would share them, and the training would lose more than
    the time of a measurement at once (docs/benchmarks.md). With "skip" it is not to wait all the same.
    """
    if vector.device.type != "cpu":
        return True
    has_core = torch.get_num_threads() < CORES
    return vector.n_parameters >= SMALL and (has_core or when_behind == "skip")


def _track(
    config: dict[str, Any],
    vector: FlatGradient,
    measurement: Measurement | None,
    nulls: Sequence[str],
    path: Path | None,
    step: int | None,
    sends: Sequence[Send],
    complaints: Complaints,
) -> Track:
    """Return a field of the training, its run begun in the study."""
    tensors = {} if measurement is None else measurement.tensors
    configs = {rung: {**config, "surrogate": rung} for rung in (REAL, *nulls)}
    journal = Journal(configs, path, None if step is None else int(step), tensors)
    recorder = Recorder(journal, config, sends, complaints, tensors=tuple(tensors), writes=_is_writer())
    return Track(config["field"], vector, measurement, journal, recorder)


def _is_writer() -> bool:
    """Return whether this process records: of several that train one model, only the first does."""
    return not (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_rank() > 0
    )


def _say_which_steps_are_missing(
    path: Path, config: Mapping[str, Any], reached: int | None, step: int
) -> None:
    every = config["every"]
    if step > 0 and reached is None:
        tell(
            f"{path} holds no earlier snapshot of the run {label_text(config)}; it begins at step "
            f"{step}, and the steps before are missing"
        )
    # A schedule that is a function is not called for past steps: it may have side effects.
    elif reached is not None and every is not None and reached // every < (step - 1) // every:
        tell(
            f"{path} holds the run {label_text(config)} to step {reached}; it is continued at {step}, "
            "and the steps between are missing"
        )


def _say_which_parameters_are_left_out(gradient: FlatGradient) -> None:
    if gradient.strangers:
        tell(
            f"the optimizer also updates {counted(gradient.strangers, 'parameter')} outside this model, "
            "which are not measured; to measure them too, give attach one module that holds all of it, "
            "such as torch.nn.ModuleList([model, other])"
        )
