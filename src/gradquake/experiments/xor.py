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
from gradquake.avalanche.topologies import build, check_topology
from gradquake.errors import (
    InputError,
    require,
    require_between,
    require_count,
    require_number,
    shortened,
)
from gradquake.experiments.experiment import Experiment, ProbedRun
from gradquake.experiments.mlp import Floats, Networks, accuracy, initial_parameters, loss
from gradquake.study.configuration import label_text
from gradquake.study.recording import GradientRecord, RunRecord

__all__ = ["PAPER_HIDDEN", "TASKS", "XOR", "XorRun", "gradients", "measure", "sweep"]

PAPER_HIDDEN = (20, 30, 50, 70, 100, 120, 200, 500)

# The targets of the four samples (0, 0), (0, 1), (1, 0), (1, 1), axis 0 of every activation array.
# "and" and "constant" are controls: a linearly separable function, and nothing to tell apart.
TASKS = {
    "xor": np.array([0.0, 1.0, 1.0, 0.0])[:, None],
    "and": np.array([0.0, 0.0, 0.0, 1.0])[:, None],
    "constant": np.array([1.0, 1.0, 1.0, 1.0])[:, None],
}

# The value of ``topology_train`` if nothing is relaxed for the update.
NO_GRAPH = "none"

# Distinguishes the stream of in-line permutations from any other that a seed feeds.
PERMUTATIONS = 0x7065726D


@dataclass(frozen=True)
class XorRun(ProbedRun):
    """The configuration of one XOR run.

    Parameters
    ----------
    hidden : int
        Hidden units h; the network has N = 4 h + 1 parameters.
    seed : int
        Seed of the initial weights and of the run's graph.
    learning_rate : float
        Step of plain gradient descent, above 0.
    alpha_train : float
        The alpha of the relaxation that feeds the update, from 0 to below 1. 0 keeps the probe out of
        the training (shadow). The default is ``alpha`` (in-line, the paper's mode).
    topology_train : str
        The graph of the relaxation that feeds the update. The default is ``topology``, or "none" if
        ``alpha_train`` is 0.
    permute_train : bool
        Place the gradient on that graph in a new random order at every epoch, and put it back
        afterwards: in-line diffusion that knows of no arrangement.
    task : str
        "xor", or a control: "and", which is learned at once, or "constant" labels.
    epochs, every, topology, alpha, quantile, max_steps
        The snapshots and the probe's settings (see ``ProbedRun``).

    Raises
    ------
    InputError
        For a value out of range.
    """

    experiment = "xor"

    hidden: int
    seed: int
    learning_rate: float = 0.5
    alpha_train: float = None  # type: ignore[assignment]  # settled in __post_init__
    topology_train: str = None  # type: ignore[assignment]  # settled in __post_init__
    permute_train: bool = False
    task: str = "xor"

    def __post_init__(self) -> None:
        if self.alpha_train is None:
            object.__setattr__(self, "alpha_train", self.alpha)
        require_number("alpha", self.alpha)
        require_number("alpha_train", self.alpha_train)
        if self.topology_train is None:
            settled = NO_GRAPH if self.alpha_train == 0 else self.topology
            object.__setattr__(self, "topology_train", settled)
        super().__post_init__()
        require_count("hidden", self.hidden, 1)
        require_between("learning_rate", self.learning_rate, 0, float("inf"))
        if not isinstance(self.permute_train, bool):
            raise InputError(
                f"permute_train is {shortened(self.permute_train)}; True or False is needed"
            )
        if not (isinstance(self.task, str) and self.task in TASKS):
            raise InputError(f"task is {shortened(self.task)}; one of {', '.join(TASKS)} is needed")
        if not 0 <= self.alpha_train < 1:
            raise InputError(f"alpha_train is {self.alpha_train}; a number in [0, 1) is needed")
        if self.alpha_train != 0:
            check_topology(self.topology_train, "topology_train")
        elif not (self.topology_train == NO_GRAPH and not self.permute_train):
            raise InputError(
                f"topology_train is {self.topology_train!r} and permute_train {self.permute_train}; "
                "with alpha_train 0 nothing is relaxed for the update, and neither may be given"
            )

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters, N = 4 h + 1."""
        return 4 * self.hidden + 1

    @property
    def probes_its_update(self) -> bool:
        """Whether the update is the gradient as the probe relaxes it."""
        return (
            self.alpha_train == self.alpha
            and self.topology_train == self.topology
            and not self.permute_train
        )


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
    snapshots: list[dict[str, NDArray[Any]]] = []

    def observe(state: _State) -> Gradient | None:
        if state.epoch % shared.every:
            return None
        batch = shared.probe.measure_batch(state.gradient, graphs, threads=1)
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
        records.append(RunRecord(run.config(), grokking_epochs[r], run.snapshots, own))
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

    def observe(state: _State) -> None:
        for r in wanted.get(state.epoch, ()):
            taken[r].append(state.gradient[offsets[r] : offsets[r + 1]])

    grokking_epochs = training.run(observe)
    records = []
    for r, run in enumerate(runs):
        found = np.array(taken[r]).reshape(-1, run.n_parameters)
        tensors = (2 * run.hidden, run.hidden, run.hidden, 1)
        records.append(GradientRecord(run.config(), grokking_epochs[r], epochs[r], found, tensors))
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
class _State:
    """All runs at an epoch, before its update."""

    epoch: int
    parameters: Floats
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
        self.networks = Networks([run.hidden for run in runs])

    def graphs(self, topology: str) -> GraphStack:
        """Return the graphs of all runs, each drawn from its run's seed."""
        return stack([build(topology, run.n_parameters, run.seed) for run in self.runs])

    def run(self, observe: Callable[[_State], Gradient | None]) -> list[int | None]:
        """Train, and return each run's first epoch with all samples right.

        ``observe`` sees every epoch. It returns the relaxed gradient if it has it, else None.
        """
        shared, networks, targets = self.shared, self.networks, TASKS[self.shared.task]
        parameters = np.concatenate([initial_parameters(run.hidden, run.seed) for run in self.runs])
        relaxed = self._relaxation()
        first_perfect = np.full(len(self.runs), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            for epoch in range(shared.epochs + 1):
                activation, logits = networks.forward(parameters)
                right = accuracy(logits, targets)
                first_perfect[(right == 1.0) & (first_perfect < 0)] = epoch
                gradient = networks.gradient(parameters, activation, logits, targets)
                self._check_converging(epoch, gradient, logits)
                state = _State(epoch, parameters, gradient, loss(logits, targets), right)
                update = observe(state)
                if update is None:
                    update = relaxed(gradient)
                parameters = parameters - shared.learning_rate * update
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


XOR = Experiment(run=XorRun, size="hidden", sizes=PAPER_HIDDEN, measure=measure, gradients=gradients)
sweep = XOR.sweep
