"""The XOR experiment and its controls: 2-h-1 networks trained by gradient descent under the probe.

Runs are trained side by side; ``mlp`` says how the numbers of a run stay its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche import _kernels_angle, observables
from gradquake.avalanche.cascade import relax_stack
from gradquake.avalanche.graphs import GraphStack, stack
from gradquake.avalanche.sums import Gradient
from gradquake.avalanche.topologies import build
from gradquake.errors import InputError, require
from gradquake.experiments.experiment import Experiment
from gradquake.experiments.mlp import (
    Floats,
    Networks,
    State,
    accuracy,
    initial_parameters,
    loss,
)
from gradquake.experiments.xor_run import TASKS, XorRun
from gradquake.study.configuration import label_text
from gradquake.study.recording import GradientRecord, RunRecord

__all__ = ["PAPER_HIDDEN", "TASKS", "XOR", "XorRun", "gradients", "measure", "sharpness", "sweep"]

PAPER_HIDDEN = (20, 30, 50, 70, 100, 120, 200, 500)

# Distinguishes the stream of in-line permutations from any other that a seed feeds.
PERMUTATIONS = 0x7065726D


def measure(runs: Sequence[XorRun]) -> list[RunRecord]:
    """Train and measure runs side by side; each gets the numbers that it would get alone.

    Parameters
    ----------
    runs : sequence of XorRun
        They may differ in size and seed only.

    Raises
    ------
    InputError
        If no run is given, they differ in other settings, or training diverged to numbers that are not
        finite.
    """
    training = _Training(runs)
    shared, networks = training.shared, training.networks
    graphs = training.graphs(shared.topology)
    probes = [run.probe for run in runs]
    tensors = [run.tensor_lengths for run in runs] if shared.tensors else None
    snapshots: list[dict[str, NDArray[Any]]] = []

    def observe(state: _Epoch) -> Gradient | None:
        if state.epoch % shared.every:
            return None
        batch = shared.probe.measure_batch(state.gradient, graphs, threads=1, tensors=tensors)
        norm = np.empty(len(runs))
        _kernels_angle.norms(state.gradient, networks.offsets, norm)
        outcomes = {"loss": state.loss, "accuracy": state.accuracy, "gradient_norm": norm}
        outcomes["gini"] = networks.gini(state.parameters)
        for of_each in outcomes.values():
            _check_finite(runs, state.epoch, of_each)
        apart = np.split(state.gradient, networks.offsets[1:-1])
        observed = observables.observe(shared.observe, probes, apart)
        snapshots.append(batch.measured() | observed | outcomes)
        return batch.relaxed if shared.probes_its_update else None

    grokking_epochs = training.run(observe)
    values = {name: np.stack([s[name] for s in snapshots], axis=1) for name in snapshots[0]}
    records = []
    for r, run in enumerate(runs):
        own = {name: rows[r] for name, rows in values.items()}
        counted = run.tensor_lengths if shared.tensors else {}
        records.append(RunRecord(run.config(), grokking_epochs[r], run.snapshots, own, counted))
    return records


def gradients(
    runs: Sequence[XorRun], epochs: Sequence[NDArray[np.int64]] | None = None
) -> list[GradientRecord]:
    """Train runs once more and return the gradients that ``measure`` measures, bit for bit.

    A run is trained in milliseconds. That is exact, and takes less space than any file.

    Parameters
    ----------
    runs : sequence of XorRun
        They may differ in size and seed only.
    epochs : sequence of arrays of int, optional
        For each run the epochs to return, ascending, from 0 to ``epochs``. The default is its snapshots.

    Raises
    ------
    InputError
        As ``measure`` does, or if there is not one array of epochs per run, an epoch is outside the
        training, or epochs do not ascend.
    """
    training = _Training(runs)
    offsets = training.networks.offsets
    if epochs is None:
        epochs = [run.snapshots for run in runs]
    wanted = _runs_by_epoch(epochs, len(runs), training.shared.epochs)
    taken: list[list[Floats]] = [[] for _ in runs]

    def observe(state: _Epoch) -> None:
        for r in wanted.get(state.epoch, ()):
            taken[r].append(state.gradient[offsets[r] : offsets[r + 1]])

    grokking_epochs = training.run(observe)
    records = []
    for r, run in enumerate(runs):
        found = np.array(taken[r]).reshape(-1, run.n_parameters)
        records.append(
            GradientRecord(run.config(), grokking_epochs[r], epochs[r], found, run.tensor_lengths)
        )
    return records


def sharpness(runs: Sequence[XorRun]) -> list[RunRecord]:
    """Train runs once more and return how stable gradient descent was on them.

    Each record holds, at the snapshots, ``sharpness``, the largest eigenvalue of the Hessian of the loss
    (to a relative error of 1e-12); ``rate_times_sharpness``, its product with the learning rate, above
    2 of which gradient descent on a parabola diverges; and ``rises``, the share of the updates since the
    snapshot before at which the loss rose, NaN at epoch 0.

    Parameters
    ----------
    runs : sequence of XorRun
        They may differ in size and seed only.

    Raises
    ------
    InputError
        As ``measure`` does.
    """
    training = _Training(runs)
    networks, targets = training.networks, TASKS[training.shared.task]
    losses: list[Floats] = []
    largest: list[Floats] = []

    def observe(state: _Epoch) -> None:
        losses.append(state.loss)
        if state.epoch % training.shared.every == 0:
            largest.append(networks.sharpness(state.parameters, state.units, targets))

    grokking_epochs = training.run(observe)
    risen = np.concatenate([np.zeros((1, len(runs))), np.cumsum(np.diff(losses, axis=0) > 0, axis=0)])
    records = []
    for r, run in enumerate(runs):
        found = np.array(largest)[:, r]
        rises = np.diff(risen[run.snapshots, r], prepend=np.nan) / run.every
        values = {"sharpness": found, "rate_times_sharpness": run.step * found, "rises": rises}
        records.append(RunRecord(run.config(), grokking_epochs[r], run.snapshots, values))
    return records


def _runs_by_epoch(epochs: Sequence[NDArray[np.int64]], n_runs: int, last: int) -> dict[int, list[int]]:
    """Return by epoch the indices of the runs whose gradients are wanted there."""
    if len(epochs) != n_runs:
        raise InputError(
            f"{len(epochs)} arrays of epochs and {n_runs} runs were given; one each is needed"
        )
    wanted: dict[int, list[int]] = {}
    for r, of_run in enumerate(epochs):
        if not (np.diff(of_run) > 0).all():
            raise InputError(
                f"the epochs {of_run.tolist()} of run {r} do not ascend; ascending epochs are needed"
            )
        for epoch in of_run.tolist():
            if not 0 <= epoch <= last:
                raise InputError(f"epoch {epoch} was asked for; the training has the epochs 0 to {last}")
            wanted.setdefault(epoch, []).append(r)
    return wanted


@dataclass(frozen=True)
class _Epoch:
    """All runs at an epoch, before its update."""

    epoch: int
    parameters: Floats
    units: State
    gradient: Floats
    loss: Floats
    accuracy: Floats


class _Training:
    """Runs side by side, from their initial weights to their last epoch."""

    def __init__(self, runs: Sequence[XorRun]) -> None:
        require(len(runs) > 0, "no run was given; at least one is needed")
        self.runs, self.shared = runs, runs[0]
        for run in runs:
            if replace(run, hidden=self.shared.hidden, seed=self.shared.seed) != self.shared:
                raise InputError(
                    f"{run} and {self.shared} differ in more than size and seed; train them apart"
                )
        self.networks = Networks([run.hidden for run in runs], self.shared.activation)

    def graphs(self, topology: str) -> GraphStack:
        """Return the graphs of all runs, each drawn from its run's seed."""
        return stack([build(topology, run.n_parameters, run.seed) for run in self.runs])

    def run(self, observe: Callable[[_Epoch], Gradient | None]) -> list[int | None]:
        """Train, and return each run's first epoch with all samples right.

        ``observe`` sees every epoch. It returns the relaxed gradient if it has it, else None.
        """
        shared, networks, targets = self.shared, self.networks, TASKS[self.shared.task]
        parameters = np.concatenate(
            [initial_parameters(run.hidden, run.seed, shared.initialization) for run in self.runs]
        )
        rates = np.repeat([run.step for run in self.runs], np.diff(networks.offsets))
        relaxed = self._relaxation()
        first_perfect = np.full(len(self.runs), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            for epoch in range(shared.epochs + 1):
                units = networks.forward(parameters)
                logits = units.logits
                right = accuracy(logits, targets)
                first_perfect[(right == 1.0) & (first_perfect < 0)] = epoch
                gradient = networks.gradient(parameters, units, targets)
                self._check_converging(epoch, gradient, logits)
                state = _Epoch(epoch, parameters, units, gradient, loss(logits, targets), right)
                update = observe(state)
                if update is None:
                    update = relaxed(gradient)
                parameters = parameters - rates * update
        return [int(epoch) if epoch >= 0 else None for epoch in first_perfect]

    def _check_converging(self, epoch: int, gradient: Floats, logits: Floats) -> None:
        if np.isfinite(gradient).all() and np.isfinite(logits).all():
            return
        largest = np.maximum.reduceat(np.abs(gradient), self.networks.offsets[:-1])
        for of_each in (*logits, largest):
            _check_finite(self.runs, epoch, of_each)

    def _relaxation(self) -> Callable[[Floats], Gradient]:
        """Return the function that turns a gradient into an update."""
        shared = self.shared
        if shared.alpha_train == 0:
            return lambda gradient: gradient
        graphs = self.graphs(shared.topology_train)
        cascade = replace(shared.probe, alpha=shared.alpha_train)

        def relaxed(gradient: Floats) -> Gradient:
            return relax_stack(gradient, graphs, cascade, angles=False)[0]

        return self._permuted(relaxed) if shared.permute_train else relaxed

    def _permuted(self, relaxed: Callable[[Floats], Gradient]) -> Callable[[Floats], Gradient]:
        """Return a relaxation that places each run's gradient in a new random order at every call."""
        streams = [
            np.random.default_rng(np.random.SeedSequence(run.seed, spawn_key=(run.hidden, PERMUTATIONS)))
            for run in self.runs
        ]
        starts = self.networks.offsets[:-1]

        def in_new_order(gradient: Floats) -> Gradient:
            orders = zip(starts, streams, self.runs, strict=True)
            order = np.concatenate(
                [start + stream.permutation(run.n_parameters) for start, stream, run in orders]
            )
            update = np.empty_like(gradient)
            update[order] = relaxed(gradient[order])
            return update

        return in_new_order


def _check_finite(runs: Sequence[XorRun], epoch: int, of_each: Floats) -> None:
    """Raise InputError, naming the run, if a number of a run is not finite."""
    finite = np.isfinite(of_each)
    if not finite.all():
        run = label_text(runs[int(finite.argmin())].config())
        raise InputError(
            f"training diverged at epoch {epoch} of the run {run}; a smaller learning rate is needed"
        )


XOR = Experiment(
    run=XorRun,
    size="hidden",
    sizes=PAPER_HIDDEN,
    measure=measure,
    gradients=gradients,
    sharpness=sharpness,
)
sweep = XOR.sweep
