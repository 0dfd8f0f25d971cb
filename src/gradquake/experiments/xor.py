"""The XOR experiment: 2-h-1 networks trained by full-batch gradient descent under the probe.

Runs of any sizes and seeds are trained side by side as ragged arrays: the hidden units of all runs
stand in one row. What a run gives must not depend on the company it is trained in, to the last bit:
so nothing here multiplies matrices (a BLAS picks its order of summation by shape); sums over a run's
units run in a compiled loop of their own, and what NumPy does is elementwise on contiguous arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake import _kernels
from gradquake.cascade import Gradient, relax_stack
from gradquake.errors import InputError, require, require_between, require_count
from gradquake.graphs import GraphStack, build, stack
from gradquake.probe import Probe
from gradquake.recording import RunRecord, settle_types

Floats = NDArray[np.float64]

# Weights up to here can be summed with ranks without overflow; larger ones are scaled first.
LARGEST_SUMMED = 1e280

PAPER_HIDDEN = (20, 30, 50, 70, 100, 120, 200, 500)

# The four samples are (0, 0), (0, 1), (1, 0), (1, 1); axis 0 of every activation array.
TARGETS = np.array([0.0, 1.0, 1.0, 0.0])[:, None]


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
    alpha, quantile, max_steps, topology
        The probe's (see ``Probe``).
    alpha_train : float
        The alpha of the relaxation that feeds the update, in [0, 1): the probe's own (in-line, the
        paper's mode), or 0 for none (shadow: training as if there were no probe). Without it, or
        with ``None``, it becomes ``alpha``.

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

    def __post_init__(self) -> None:
        if self.alpha_train is None:
            object.__setattr__(self, "alpha_train", self.alpha)
        settle_types(self)
        require_count("hidden", self.hidden, 1)
        require_count("epochs", self.epochs, 1)
        require_count("every", self.every, 1)
        require_between("learning_rate", self.learning_rate, 0, float("inf"))
        _ = self.probe  # checks what is the probe's
        if self.alpha_train != 0:
            require(
                0 < self.alpha_train < 1,
                f"alpha_train is {self.alpha_train}; a number in [0, 1) is needed",
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
        return {"experiment": "xor", "n_parameters": self.n_parameters, **asdict(self)}


def sweep(hidden: Sequence[int], seeds: int, **settings: Any) -> list[XorRun]:
    """Return the runs of every hidden size with seeds 0 to ``seeds`` - 1; settings as in ``XorRun``.

    Raises
    ------
    InputError
        For no size, a size that repeats, fewer than one seed, or a setting out of range.
    """
    require_count("seeds", seeds, 1)
    require(len(hidden) > 0, "no hidden size was given; at least one is needed")
    require(len(set(hidden)) == len(hidden), f"hidden sizes {list(hidden)} repeat; each may stand once")
    return [XorRun(h, seed, **settings) for h in hidden for seed in range(seeds)]


def initial_parameters(run: XorRun) -> Floats:
    """Return the initial weights, uniform in ±1/sqrt(fan_in) as in PyTorch's linear layers.

    Shape (N,), in the order W1 (row by row), b1, W2, b2.
    """
    rng = np.random.default_rng(np.random.SeedSequence(run.seed, spawn_key=(run.hidden,)))
    into_hidden = rng.uniform(-1, 1, 3 * run.hidden) / np.sqrt(2)
    into_output = rng.uniform(-1, 1, run.hidden + 1) / np.sqrt(run.hidden)
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
        _kernels.mlp_hidden_inputs(parameters, *self._layout, activation)
        np.tanh(activation, out=activation)
        logits = np.empty((4, self.offsets.size - 1))
        _kernels.mlp_logits(parameters, *self._layout, activation, logits)
        return activation, logits

    def gradient(self, parameters: Floats, activation: Floats, logits: Floats) -> Floats:
        """Return the gradient of the mean binary cross-entropy, shape (parameters,)."""
        # sigmoid(z) - y without cancellation: with s = 1 - 2 y it is s sigmoid(s z).
        sign = 1.0 - 2.0 * TARGETS
        residual = sign * np.exp(-np.logaddexp(0.0, -sign * logits)) / 4.0
        gradient = np.empty_like(parameters)
        _kernels.mlp_gradient(parameters, *self._layout, activation, residual, gradient)
        return gradient


def loss(logits: Floats) -> Floats:
    """Return the mean binary cross-entropy in nats of each network, from logits (4, networks)."""
    return _over_samples(np.logaddexp(0.0, logits) - TARGETS * logits) / 4.0


def accuracy(logits: Floats) -> Floats:
    """Return the share of the four samples predicted right; a prediction is logit > 0."""
    return _over_samples(((logits > 0.0) == (TARGETS > 0.5)).astype(np.float64)) / 4.0


def gini(parameters: Floats) -> Floats:
    """Return the Gini coefficient of the absolute values along the last axis.

    G = sum_i (2 i - n - 1) x_i / (n sum_i x_i) over x ascending, i = 1..n: 0 where all are equal (all
    zero too), 1 - 1/n where all but one are zero. (A. Sen, On Economic Inequality, 1973.)
    """
    ascending = np.sort(np.abs(parameters), axis=-1)
    n = ascending.shape[-1]
    rank = 2.0 * np.arange(1, n + 1) - n - 1
    largest = ascending[..., -1:]
    if largest.max() > LARGEST_SUMMED:
        # By exactly 1 where there is no need, so that no row depends on the others.
        ascending /= np.where(largest > LARGEST_SUMMED, largest, 1.0)
    total = ascending.sum(axis=-1)
    coefficient: Floats = (ascending * rank).sum(axis=-1) / np.where(total > 0.0, n * total, 1.0)
    return coefficient


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
    require(len(runs) > 0, "no run was given; at least one is needed")
    shared = runs[0]
    for run in runs:
        if replace(run, hidden=shared.hidden, seed=shared.seed) != shared:
            raise InputError(f"{run} and {shared} differ in more than size and seed; train them apart")
    networks = Networks([run.hidden for run in runs])
    parameters = np.concatenate([initial_parameters(run) for run in runs])
    graphs = stack([build(run.topology, run.n_parameters, run.seed) for run in runs])
    epochs = np.arange(0, shared.epochs + 1, shared.every)
    snapshots: list[dict[str, NDArray[Any]]] = []
    first_perfect = np.full(len(runs), -1)

    with np.errstate(over="ignore", invalid="ignore"):
        for epoch in range(shared.epochs + 1):
            activation, logits = networks.forward(parameters)
            right = accuracy(logits)
            first_perfect[(right == 1.0) & (first_perfect < 0)] = epoch
            gradient = networks.gradient(parameters, activation, logits)
            losses = loss(logits)
            if not (np.isfinite(gradient).all() and np.isfinite(losses).all()):
                largest = np.maximum.reduceat(np.abs(gradient), networks.offsets[:-1])
                _check_finite(runs, epoch, (losses, largest))
            update, avalanches = _probe(shared, gradient, graphs, epoch % shared.every == 0)
            if avalanches is not None:
                norm = np.sqrt(np.add.reduceat(gradient * gradient, networks.offsets[:-1]))
                recorded = {"loss": losses, "accuracy": right, "gradient_norm": norm}
                recorded["gini"] = _gini_of_each(parameters, networks.offsets)
                _check_finite(runs, epoch, list(recorded.values()))
                snapshots.append(avalanches | recorded)
            parameters = parameters - shared.learning_rate * update

    values = {name: np.stack([s[name] for s in snapshots], axis=1) for name in snapshots[0]}
    return [
        RunRecord(
            run.config(),
            int(first_perfect[r]) if first_perfect[r] >= 0 else None,
            epochs,
            {name: rows[r] for name, rows in values.items()},
        )
        for r, run in enumerate(runs)
    ]


def _probe(
    run: XorRun, gradient: Floats, graphs: GraphStack, recorded: bool
) -> tuple[Gradient, dict[str, NDArray[Any]] | None]:
    """Return what updates the parameters, and the avalanches where they are to be recorded."""
    avalanches = None
    if recorded:
        batch = run.probe.measure_batch(gradient, graphs, threads=1)
        update = batch.relaxed
        avalanches = batch.measured()
    if run.alpha_train == 0:
        update = gradient
    elif not (recorded and run.alpha_train == run.alpha):
        update, _ = relax_stack(
            gradient, graphs, run.alpha_train, run.max_steps, quantile=run.quantile, angles=False
        )
    return update, avalanches


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
