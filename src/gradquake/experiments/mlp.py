"""Networks with one hidden layer, several side by side: 2 inputs, h hidden units, 1 logit.

Networks of any sizes are trained together as ragged arrays: the hidden units of all networks stand in
one row. The numbers of a network must not depend on the other networks or on the processor, to the last
bit. So nothing here multiplies matrices, since a BLAS picks its order of summation by shape and
processor. Sums and elementary functions are compiled loops. NumPy only adds, multiplies, divides,
compares and takes square roots, element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche import _kernels_elementary
from gradquake.avalanche.surrogates import standard_normal
from gradquake.experiments import _kernels_mlp
from gradquake.experiments.activations import ACTIVATIONS

__all__ = [
    "INITIALIZATIONS", "Floats", "Networks", "State", "accuracy", "gini", "initial_parameters", "loss",
]  # fmt: skip

Floats = NDArray[np.float64]

# Sums of weights up to this magnitude, times ranks, do not overflow. Larger weights are scaled first.
LARGEST_SUMMED = 1e280

# The ways to draw initial weights (see ``initial_parameters``).
INITIALIZATIONS = ("uniform", "xavier_normal", "kaiming_normal")


class State(NamedTuple):
    """Networks on the four samples: hidden activations and slopes (4, units), logits (4, networks)."""

    active: Floats
    slope: Floats
    logits: Floats


class Networks:
    """Several 2-h-1 networks side by side, their parameters in one flat vector.

    Parameters
    ----------
    hidden : sequence of int
        Hidden units of each network.
    activation : str
        Of the hidden units: a name in ``ACTIVATIONS``.

    Attributes
    ----------
    offsets : array of int64, shape (networks + 1,)
        Network r owns parameters ``offsets[r]`` to ``offsets[r + 1]``.
    """

    def __init__(self, hidden: Sequence[int], activation: str = "tanh") -> None:
        sizes = np.asarray(hidden, np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(4 * sizes + 1)])
        units = np.concatenate([[0], np.cumsum(sizes)])
        self._n_units = int(units[-1])
        self._layout = (self.offsets, units[:-1].copy(), sizes)
        self._activation = ACTIVATIONS[activation]

    def forward(self, parameters: Floats) -> State:
        """Return the state of all networks."""
        active, slope = self._activation.respond(self._inputs(parameters))
        logits = np.empty((4, self.offsets.size - 1))
        _kernels_mlp.mlp_logits(parameters, *self._layout, active, logits)
        return State(active, slope, logits)

    def gradient(self, parameters: Floats, state: State, targets: Floats) -> Floats:
        """Return the gradient of the mean binary cross-entropy, shape (parameters,)."""
        gradient = np.empty_like(parameters)
        residual = _residual(state.logits, targets)
        _kernels_mlp.mlp_gradient(
            parameters, *self._layout, state.active, state.slope, residual, gradient
        )
        return gradient

    def sharpness(self, parameters: Floats, state: State, targets: Floats) -> Floats:
        """Return the largest eigenvalue of each network's Hessian of the mean binary cross-entropy.

        The Hessian is B + J J^T. B has a block of 4 x 4 for each hidden unit: its two input weights, its
        bias and its output weight. J has one column for each sample, the derivative of the logit times
        sqrt(p (1 - p) / 4). A number is above the largest eigenvalue if Cholesky's factorization of the
        number minus the Hessian succeeds. So bisection finds the eigenvalue to a relative error of
        1e-12, with ``+ - * /`` and the square root only.
        """
        curvature = self._activation.curvature(self._inputs(parameters))
        probability = state.logits.copy()
        _kernels_elementary.sigmoid(probability.reshape(-1))
        opposite = -state.logits
        _kernels_elementary.sigmoid(opposite.reshape(-1))
        root = np.sqrt(probability * opposite / 4.0)
        blocks, columns = np.empty((2, self._n_units, 4, 4))
        residual = _residual(state.logits, targets)
        _kernels_mlp.mlp_hessian(
            parameters, *self._layout, state.active, state.slope, curvature, residual, root, blocks,
            columns,
        )  # fmt: skip
        largest = np.empty(self.offsets.size - 1)
        _kernels_mlp.mlp_sharpness(*self._layout[1:], blocks, columns, root, largest)
        return largest

    def _inputs(self, parameters: Floats) -> Floats:
        inputs = np.empty((4, self._n_units))
        _kernels_mlp.mlp_hidden_inputs(parameters, *self._layout, inputs)
        return inputs

    def gini(self, parameters: Floats) -> Floats:
        """Return the Gini coefficient of the absolute parameters of each network."""
        sizes = np.diff(self.offsets)
        result = np.empty(sizes.size)
        # Neighbors of one size are sorted together.
        edges = np.flatnonzero(np.diff(sizes, prepend=-1, append=-1))
        for first, last in pairwise(edges):
            block = parameters[self.offsets[first] : self.offsets[last]]
            result[first:last] = gini(block.reshape(last - first, sizes[first]))
        return result


def initial_parameters(hidden: int, seed: int, initialization: str = "uniform") -> Floats:
    """Return the initial parameters of a network, shape (N,), in the order W1 (row by row), b1, W2, b2.

    Parameters
    ----------
    hidden, seed : int
    initialization : str
        "uniform": weights and biases uniform in ±1/sqrt(fan_in), as in PyTorch's linear layers.
        "xavier_normal": weights normal with variance 2 / (fan_in + fan_out), and biases 0 (Glorot and
        Bengio 2010). "kaiming_normal": weights normal with variance 2 / fan_in, and biases 0 (He and
        others 2015).
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(hidden,)))
    if initialization == "uniform":
        into_hidden = (2.0 * rng.random(3 * hidden) - 1.0) / np.sqrt(2)
        into_output = (2.0 * rng.random(hidden + 1) - 1.0) / np.sqrt(hidden)
        return np.concatenate([into_hidden, into_output])
    fans = (2 + hidden, hidden + 1) if initialization == "xavier_normal" else (2, hidden)
    parameters = np.zeros(4 * hidden + 1)
    parameters[: 2 * hidden] = standard_normal(rng, (2 * hidden,)) * np.sqrt(2.0 / fans[0])
    parameters[3 * hidden : -1] = standard_normal(rng, (hidden,)) * np.sqrt(2.0 / fans[1])
    return parameters


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

    G = sum_i (2 i - n - 1) x_i / (n sum_i x_i) over x ascending, i = 1..n. G is 0 if all are equal (even
    all zero), and 1 - 1/n if all but one are zero. (A. Sen, On Economic Inequality, 1973.)
    """
    ascending = np.sort(np.abs(parameters), axis=-1)
    n = ascending.shape[-1]
    largest = ascending[..., -1:]
    if largest.max() > LARGEST_SUMMED:
        # Other rows are divided by exactly 1, so that no row depends on the others.
        ascending /= np.where(largest > LARGEST_SUMMED, largest, 1.0)
    coefficient = np.empty(ascending.size // n)
    _kernels_mlp.gini_of_sorted(ascending.reshape(-1, n), coefficient)
    return coefficient.reshape(ascending.shape[:-1])


def _over_samples(values: Floats) -> Floats:
    total: Floats = values[0] + values[1] + values[2] + values[3]
    return total


def _residual(logits: Floats, targets: Floats) -> Floats:
    """Return the derivatives of the mean losses by the logits, (4, networks)."""
    # sigmoid(z) - y without cancellation: with s = 1 - 2 y it is s sigmoid(s z).
    sign = 1.0 - 2.0 * targets
    residual: Floats = sign * logits
    _kernels_elementary.sigmoid(residual.reshape(-1))
    residual *= sign / 4.0
    return residual
