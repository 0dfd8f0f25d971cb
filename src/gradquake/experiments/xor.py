"""The XOR experiment and its controls: 2-h-1 networks trained by gradient descent under the probe.

Runs of any sizes and seeds are trained side by side as ragged arrays: the hidden units of all runs
stand in one row. What a run gives must not depend on the company it is trained in, nor on the processor,
to the last bit. So nothing here multiplies matrices, since a BLAS picks its order of summation by shape
and processor. Sums and elementary functions are compiled loops of their own. NumPy only adds,
multiplies, divides, compares and takes square roots, element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche import _kernels_angle, _kernels_elementary
from gradquake.avalanche.cascade import Gradient, relax_stack
from gradquake.avalanche.graphs import GraphStack, stack
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import REAL
from gradquake.avalanche.topologies import build, check_topology
from gradquake.errors import InputError, require, require_between, require_count
from gradquake.experiments import _kernels_mlp
from gradquake.study.configuration import settle_types
from gradquake.study.recording import GradientRecord, RunRecord

Floats = NDArray[np.float64]

# Weights up to here can be summed with ranks without overflow; larger ones are scaled first.
LARGEST_SUMMED = 1e280

PAPER_HIDDEN = (20, 30, 50, 70, 100, 120, 200, 500)

# The targets of the four samples (0, 0), (0, 1), (1, 0), (1, 1); axis 0 of every activation array.
# The second and third are controls: a linearly separable function, and nothing to tell apart.
TASKS = {
    "xor": np.array([0.0, 1.0, 1.0, 0.0])[:, None],
    "and": np.array([0.0, 0.0, 0.0, 1.0])[:, None],
    "constant": np.array([1.0, 1.0, 1.0, 1.0])[:, None],
}

# What stands for the graph of in-line diffusion where there is none.
NO_GRAPH = "none"

# Distinguishes the stream of in-line permutations from any other that a seed feeds.
PERMUTATIONS = 0x7065726D


@dataclass(frozen=True)
class XorRun:
    """The configuration of one XOR run; its measurements depend on nothing else.

    Parameters
    ----------
    hidden : int
        Hidden units h; the network has N = 4 h + 1 parameters.
    seed : int
        Seed of the initial weights and of the run's graph.
    epochs : int
        Updates; snapshots are taken before them and once after the last.
    every : int
        Epochs between snapshots: 0, every, 2 every, ... up to ``epochs``.
    learning_rate : float
        Step of plain gradient descent, above 0.
    task : str
        A name in ``TASKS``: "xor", or one of the controls "and" and "constant".
    alpha, quantile, max_steps, topology
        The probe's (see ``Probe``).
    alpha_train : float
        The alpha of the relaxation that feeds the update, in [0, 1): the probe's own (in-line, the
        paper's mode), or 0 for none (shadow: training as if there were no probe). Without it, or
        with ``None``, it becomes ``alpha``.
    topology_train : str
        The graph of the relaxation that feeds the update. Without it, or with ``None``, it becomes
        ``topology``, and its graph is the probe's own; or "none" where ``alpha_train`` is 0.
    permute_train : bool
        Whether the gradient is placed on that graph in a new random order at every epoch (and put
        back afterwards): in-line diffusion that knows of no arrangement.

    Raises
    ------
    InputError
        For a value out of range.
    """

    hidden: int
    seed: int
    epochs: int = 500
    every: int = 10
    learning_rate: float = 0.5
    alpha: float = 0.3
    alpha_train: float = None  # type: ignore[assignment]  # settled in __post_init__
    quantile: float = 0.9
    max_steps: int = 20
    topology: str = "barabasi_albert"
    topology_train: str = None  # type: ignore[assignment]  # settled in __post_init__
    permute_train: bool = False
    task: str = "xor"

    def __post_init__(self) -> None:
        if self.alpha_train is None:
            object.__setattr__(self, "alpha_train", self.alpha)
        if self.topology_train is None:
            settled = NO_GRAPH if self.alpha_train == 0 else self.topology
            object.__setattr__(self, "topology_train", settled)
        settle_types(self)
        require_count("hidden", self.hidden, 1)
        require_count("epochs", self.epochs, 1)
        require_count("every", self.every, 1)
        require_between("learning_rate", self.learning_rate, 0, float("inf"))
        check_topology(self.topology)
        _ = self.probe  # checks what is the probe's
        if not isinstance(self.permute_train, bool):
            raise InputError(f"permute_train is {self.permute_train!r}; True or False is needed")
        if not (isinstance(self.task, str) and self.task in TASKS):
            raise InputError(f"task is {self.task!r}; one of {', '.join(TASKS)} is needed")
        if not 0 <= self.alpha_train < 1:
            raise InputError(f"alpha_train is {self.alpha_train}; a number in [0, 1) is needed")
        if self.alpha_train != 0:
            check_topology(self.topology_train, "topology_train")
        else:
            if not (self.topology_train == NO_GRAPH and not self.permute_train):
                raise InputError(
                    f"topology_train is {self.topology_train!r} and permute_train {self.permute_train}; "
                    "with alpha_train 0 nothing is relaxed for the update, and neither may be given"
                )

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters, N = 4 h + 1."""
        return 4 * self.hidden + 1

    @property
    def probe(self) -> Probe:
        """The probe that measures this run."""
        return Probe(self.topology, self.alpha, self.quantile, self.max_steps, self.seed)

    def config(self) -> dict[str, Any]:
        """Return the full configuration as JSON-ready values."""
        own = {"experiment": "xor", "surrogate": REAL, "n_parameters": self.n_parameters}
        return {**own, **asdict(self)}


def sweep(hidden: Sequence[int], seeds: int, **settings: Any) -> list[XorRun]:
    """Return the runs of every hidden size with seeds 0 to ``seeds`` - 1; settings as in ``XorRun``.

    Raises
    ------
    InputError
        For no size, a size that repeats, fewer than one seed, or a setting out of range.
    """
    require_count("seeds", seeds, 1)
    require(len(hidden) > 0, "no hidden size was given; at least one is needed")
    if len(set(hidden)) != len(hidden):
        raise InputError(f"hidden sizes {list(hidden)} repeat; each may stand once")
    return [XorRun(h, seed, **settings) for h in hidden for seed in range(seeds)]


def initial_parameters(run: XorRun) -> Floats:
    """Return the initial weights, uniform in ±1/sqrt(fan_in) as in PyTorch's linear layers.

    Shape (N,), in the order W1 (row by row), b1, W2, b2.
    """
    rng = np.random.default_rng(np.random.SeedSequence(run.seed, spawn_key=(run.hidden,)))
    into_hidden = (2.0 * rng.random(3 * run.hidden) - 1.0) / np.sqrt(2)
    into_output = (2.0 * rng.random(run.hidden + 1) - 1.0) / np.sqrt(run.hidden)
    return np.concatenate([into_hidden, into_output])


class Networks:
    """Several 2-h-1 networks side by side, their parameters in one flat vector.

    Parameters
    ----------
    hidden : sequence of int
        Hidden units of each network.

    Attributes
    ----------
    offsets : array of int64, shape (networks + 1,)
        Network r owns parameters ``offsets[r]`` to ``offsets[r + 1]``.
    """

    def __init__(self, hidden: Sequence[int]) -> None:
        sizes = np.asarray(hidden, np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(4 * sizes + 1)])
        units = np.concatenate([[0], np.cumsum(sizes)])
        self._n_units = int(units[-1])
        self._layout = (self.offsets, units[:-1].copy(), sizes)

    def forward(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return hidden activations (4, units of all networks) and logits (4, networks)."""
        activation = np.empty((4, self._n_units))
        _kernels_mlp.mlp_hidden_inputs(parameters, *self._layout, activation)
        _kernels_elementary.tanh(activation.reshape(-1))
        logits = np.empty((4, self.offsets.size - 1))
        _kernels_mlp.mlp_logits(parameters, *self._layout, activation, logits)
        return activation, logits

    def gradient(
        self, parameters: Floats, activation: Floats, logits: Floats, targets: Floats
    ) -> Floats:
        """Return the gradient of the mean binary cross-entropy, shape (parameters,)."""
        # sigmoid(z) - y without cancellation: with s = 1 - 2 y it is s sigmoid(s z).
        sign = 1.0 - 2.0 * targets
        residual = sign * logits
        _kernels_elementary.sigmoid(residual.reshape(-1))
        residual *= sign / 4.0
        gradient = np.empty_like(parameters)
        _kernels_mlp.mlp_gradient(parameters, *self._layout, activation, residual, gradient)
        return gradient


def loss(logits: Floats, targets: Floats) -> Floats:
    """Return the mean binary cross-entropy in nats of each network, from logits (4, networks)."""
    # log(1 + e^z) - y z without cancellation: with s = 1 - 2 y it is log(1 + e^(s z)).
    losses = (1.0 - 2.0 * targets) * logits
    _kernels_elementary.softplus(losses.reshape(-1))
    return _over_samples(losses) / 4.0


def accuracy(logits: Floats, targets: Floats) -> Floats:
    """Return the share of the four samples predicted right; a prediction is logit > 0."""
    return _over_samples(((logits > 0.0) == (targets > 0.5)).astype(np.float64)) / 4.0


def gini(parameters: Floats) -> Floats:
    """Return the Gini coefficient of the absolute values along the last axis.

    G = sum_i (2 i - n - 1) x_i / (n sum_i x_i) over x ascending, i = 1..n: 0 where all are equal (all
    zero too), 1 - 1/n where all but one are zero. (A. Sen, On Economic Inequality, 1973.)
    """
    ascending = np.sort(np.abs(parameters), axis=-1)
    n = ascending.shape[-1]
    largest = ascending[..., -1:]
    if largest.max() > LARGEST_SUMMED:
        # By exactly 1 where there is no need, so that no row depends on the others.
        ascending /= np.where(largest > LARGEST_SUMMED, largest, 1.0)
    coefficient = np.empty(ascending.size // n)
    _kernels_mlp.gini_of_sorted(ascending.reshape(-1, n), coefficient)
    return coefficient.reshape(ascending.shape[:-1])


def measure(runs: Sequence[XorRun]) -> list[RunRecord]:
    """Train and measure runs side by side; the result of each is as if it were alone.

    Parameters
    ----------
    runs : sequence of XorRun
        They may differ in size and seed only.

    Raises
    ------
    InputError
        Where no run is given, they differ in more, or training diverged to numbers that are not
        finite.
    """
    training = _Training(runs)
    shared, offsets = training.shared, training.networks.offsets
    graphs = training.graphs(shared.topology)
    # What the probe relaxes is then just what the update needs.
    own_relaxation = (
        shared.alpha_train == shared.alpha
        and shared.topology_train == shared.topology
        and not shared.permute_train
    )
    snapshots: list[dict[str, NDArray[Any]]] = []

    def observe(state: _State) -> Gradient | None:
        if state.epoch % shared.every:
            return None
        batch = shared.probe.measure_batch(state.gradient, graphs, threads=1)
        norm = np.empty(len(runs))
        _kernels_angle.norms(state.gradient, offsets, norm)
        recorded = {"loss": state.loss, "accuracy": state.accuracy, "gradient_norm": norm}
        recorded["gini"] = _gini_of_each(state.parameters, offsets)
        _check_finite(runs, state.epoch, list(recorded.values()))
        snapshots.append(batch.measured() | recorded)
        return batch.relaxed if own_relaxation else None

    reached = training.run(observe)
    epochs = np.arange(0, shared.epochs + 1, shared.every)
    values = {name: np.stack([s[name] for s in snapshots], axis=1) for name in snapshots[0]}
    return [
        RunRecord(run.config(), reached[r], epochs, {name: rows[r] for name, rows in values.items()})
        for r, run in enumerate(runs)
    ]


def gradients(
    runs: Sequence[XorRun], epochs: Sequence[NDArray[np.int64]] | None = None
) -> list[GradientRecord]:
    """Train runs once more and return their gradients: those that ``measure`` measured, bit for bit.

    A run is determined by its configuration and trained in milliseconds; that is exact, and smaller
    than any file.

    Parameters
    ----------
    runs : sequence of XorRun
        They may differ in size and seed only.
    epochs : sequence of arrays of int, optional
        For each run the epochs to return, ascending, from 0 to ``epochs``; its snapshots without.

    Raises
    ------
    InputError
        As ``measure`` does, or where there is not one array of epochs a run, an epoch is outside the
        training, or epochs do not ascend.
    """
    training = _Training(runs)
    shared, offsets = training.shared, training.networks.offsets
    if epochs is None:
        epochs = [np.arange(0, shared.epochs + 1, shared.every)] * len(runs)
    if len(epochs) != len(runs):
        raise InputError(
            f"{len(epochs)} arrays of epochs and {len(runs)} runs were given; one each is needed"
        )
    wanted: dict[int, list[int]] = {}
    for r, of_run in enumerate(epochs):
        if not (np.diff(of_run) > 0).all():
            raise InputError(
                f"the epochs {of_run.tolist()} of run {r} do not ascend; ascending epochs are needed"
            )
        for epoch in of_run.tolist():
            if not 0 <= epoch <= shared.epochs:
                raise InputError(
                    f"epoch {epoch} was asked for; the training has the epochs 0 to {shared.epochs}"
                )
            wanted.setdefault(epoch, []).append(r)
    taken: list[list[Floats]] = [[] for _ in runs]

    def observe(state: _State) -> None:
        for r in wanted.get(state.epoch, ()):
            taken[r].append(state.gradient[offsets[r] : offsets[r + 1]])

    reached = training.run(observe)
    return [
        GradientRecord(
            run.config(),
            reached[r],
            epochs[r],
            np.array(taken[r]).reshape(-1, run.n_parameters),
            (2 * run.hidden, run.hidden, run.hidden, 1),
        )
        for r, run in enumerate(runs)
    ]


@dataclass(frozen=True)
class _State:
    """What is known of all runs at an epoch, before its update."""

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
        """Train; return each run's first epoch with all samples right.

        ``observe`` sees every epoch, and may return the relaxed gradient where it has it already.
        """
        runs, shared, networks = self.runs, self.shared, self.networks
        targets = TASKS[shared.task]
        parameters = np.concatenate([initial_parameters(run) for run in runs])
        relaxation = _no_relaxation if shared.alpha_train == 0 else self._relaxation()
        first_perfect = np.full(len(runs), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            for epoch in range(shared.epochs + 1):
                activation, logits = networks.forward(parameters)
                right = accuracy(logits, targets)
                first_perfect[(right == 1.0) & (first_perfect < 0)] = epoch
                gradient = networks.gradient(parameters, activation, logits, targets)
                losses = loss(logits, targets)
                if not (np.isfinite(gradient).all() and np.isfinite(logits).all()):
                    largest = np.maximum.reduceat(np.abs(gradient), networks.offsets[:-1])
                    _check_finite(runs, epoch, (*logits, largest))
                update = observe(_State(epoch, parameters, gradient, losses, right))
                if update is None:
                    update = relaxation(gradient)
                parameters = parameters - shared.learning_rate * update
        return [int(epoch) if epoch >= 0 else None for epoch in first_perfect]

    def _relaxation(self) -> Callable[[Floats], Gradient]:
        """Return what makes an update of a gradient, in-line."""
        shared, offsets = self.shared, self.networks.offsets
        graphs = self.graphs(shared.topology_train)

        def relax(gradient: Floats) -> Gradient:
            return relax_stack(
                gradient, graphs, shared.alpha_train, shared.max_steps, quantile=shared.quantile,
                angles=False,
            )[0]  # fmt: skip

        if not shared.permute_train:
            return relax
        streams = [
            np.random.default_rng(np.random.SeedSequence(run.seed, spawn_key=(run.hidden, PERMUTATIONS)))
            for run in self.runs
        ]

        def relax_permuted(gradient: Floats) -> Gradient:
            order = np.concatenate(
                [
                    start + stream.permutation(run.n_parameters)
                    for start, stream, run in zip(offsets[:-1], streams, self.runs, strict=True)
                ]
            )
            update = np.empty_like(gradient)
            update[order] = relax(gradient[order])
            return update

        return relax_permuted


def _no_relaxation(gradient: Floats) -> Gradient:
    return gradient


def _check_finite(runs: Sequence[XorRun], epoch: int, of_each: Sequence[Floats]) -> None:
    """Raise InputError, naming the run, where a number of a run is not finite."""
    for values in of_each:
        if not np.isfinite(values).all():
            raise InputError(
                f"training diverged at epoch {epoch} of {runs[int(np.isfinite(values).argmin())]}; "
                "a smaller learning rate is needed"
            )


def _over_samples(values: Floats) -> Floats:
    total: Floats = values[0] + values[1] + values[2] + values[3]
    return total


def _gini_of_each(parameters: Floats, offsets: NDArray[np.int64]) -> Floats:
    """Return the Gini coefficient of every run, those of one size sorted together."""
    sizes = np.diff(offsets)
    result = np.empty(sizes.size)
    edges = np.flatnonzero(np.diff(sizes, prepend=-1, append=-1))
    for first, last in pairwise(edges):
        block = parameters[offsets[first] : offsets[last]].reshape(last - first, sizes[first])
        result[first:last] = gini(block)
    return result
