"""The activations of hidden units, one table.

A new activation is two functions of NumPy's ``+ - * /`` and the kernels' own elementary functions, and a
line in ``ACTIVATIONS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche import _kernels_elementary

__all__ = ["ACTIVATIONS", "Activation"]

Floats = NDArray[np.float64]

# sqrt(2 / pi) and the cubic coefficient of the tanh form of GELU.
GELU_SCALE, GELU_CUBIC = 0.7978845608028654, 0.044715


class Activation(NamedTuple):
    """An activation of hidden units.

    Attributes
    ----------
    respond : callable
        Takes the inputs of the units, which it may overwrite. Returns their activations and the
        derivatives by the inputs.
    curvature : callable
        Takes the inputs, and returns the second derivatives.
    """

    respond: Callable[[Floats], tuple[Floats, Floats]]
    curvature: Callable[[Floats], Floats]


def _in_place(kernel: Callable[[Floats], None], values: Floats) -> Floats:
    kernel(values.reshape(-1))
    return values


def _tanh(inputs: Floats) -> tuple[Floats, Floats]:
    active = _in_place(_kernels_elementary.tanh, inputs)
    return active, 1.0 - active * active


def _tanh_curvature(inputs: Floats) -> Floats:
    active, slope = _tanh(inputs.copy())
    return -2.0 * active * slope


def _relu(inputs: Floats) -> tuple[Floats, Floats]:
    return np.maximum(inputs, 0.0), (inputs > 0.0).astype(np.float64)


def _sigmoid(inputs: Floats) -> tuple[Floats, Floats]:
    active = _in_place(_kernels_elementary.sigmoid, inputs)
    return active, active * (1.0 - active)


def _sigmoid_curvature(inputs: Floats) -> Floats:
    active, slope = _sigmoid(inputs.copy())
    return slope * (1.0 - 2.0 * active)


def _gelu(inputs: Floats) -> tuple[Floats, Floats]:
    turned, slope = _tanh(_gelu_inner(inputs))
    half = 0.5 * (1.0 + turned)
    return inputs * half, half + 0.5 * inputs * slope * _gelu_inner_slope(inputs)


def _gelu_curvature(inputs: Floats) -> Floats:
    turned, slope = _tanh(_gelu_inner(inputs))
    inner = _gelu_inner_slope(inputs)
    bend = 6.0 * GELU_CUBIC * GELU_SCALE * inputs
    curvature: Floats = slope * (inner + 0.5 * inputs * (bend - 2.0 * turned * inner * inner))
    return curvature


def _gelu_inner(inputs: Floats) -> Floats:
    inner: Floats = GELU_SCALE * (inputs + GELU_CUBIC * (inputs * inputs * inputs))
    return inner


def _gelu_inner_slope(inputs: Floats) -> Floats:
    slope: Floats = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * (inputs * inputs))
    return slope


# GELU is in its tanh form, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), as in GPT-2 and in
# ``torch.nn.GELU("tanh")``. It differs from the form with the error function by less than 5e-4.
ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(_tanh, _tanh_curvature),
    "relu": Activation(_relu, np.zeros_like),
    "gelu": Activation(_gelu, _gelu_curvature),
    "sigmoid": Activation(_sigmoid, _sigmoid_curvature),
}
