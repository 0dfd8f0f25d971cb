"""Activations, initializations and learning rates of the XOR network, and its sharpness."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_xor import random_parameters
from test_xor_network import INPUTS, TARGETS

from gradquake.errors import InputError
from gradquake.experiments import _kernels_mlp, mlp, xor
from gradquake.experiments.activations import ACTIVATIONS
from gradquake.experiments.mlp import Networks
from gradquake.experiments.xor import XorRun

TORCH = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
}
some = settings(deadline=None, derandomize=True, max_examples=20)


def torch_loss(flat, hidden, activation, task="xor"):
    """Return the loss of a network from its flat parameters, as torch computes it."""
    w1, b1, w2, b2 = torch.split(flat, [2 * hidden, hidden, hidden, 1])
    active = TORCH[activation](torch.from_numpy(INPUTS) @ w1.reshape(hidden, 2).T + b1)
    target = torch.from_numpy(TARGETS[task])
    return torch.nn.functional.binary_cross_entropy_with_logits(active @ w2 + b2, target)


# Activations


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_the_values_and_derivatives_of_torch(name):
    x = torch.linspace(-9, 9, 2001, dtype=torch.float64, requires_grad=True)
    value = TORCH[name](x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    curvature = torch.zeros_like(x)
    if name != "relu":
        (curvature,) = torch.autograd.grad(slope.sum(), x)
    inputs = x.detach().numpy().reshape(3, -1)
    active, slopes = ACTIVATIONS[name].respond(inputs.copy())
    for found, expected in (
        (active, value), (slopes, slope), (ACTIVATIONS[name].curvature(inputs.copy()), curvature),
    ):  # fmt: skip
        # Both cancel if a unit is saturated.
        np.testing.assert_allclose(found.ravel(), expected.detach().numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@some
@given(st.integers(1, 20), st.integers(0, 999), st.sampled_from([0.1, 1.0, 5.0]))
def test_the_gradient_of_every_activation_is_that_of_torch(activation, hidden, seed, scale):
    flat = random_parameters([hidden], seed, scale)
    networks = Networks([hidden], activation)
    state = networks.forward(flat)
    leaf = torch.from_numpy(flat.copy()).requires_grad_()
    loss = torch_loss(leaf, hidden, activation)
    loss.backward()
    np.testing.assert_allclose(mlp.loss(state.logits, xor.TASKS["xor"]), loss.item(), rtol=1e-12)
    found = networks.gradient(flat, state, xor.TASKS["xor"])
    np.testing.assert_allclose(found, leaf.grad.numpy(), rtol=1e-9, atol=1e-13)


def test_the_tanh_form_of_gelu_is_near_the_exact_one():
    x = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    found, _ = ACTIVATIONS["gelu"].respond(x.numpy().copy())
    assert np.abs(found - torch.nn.functional.gelu(x).numpy()).max() < 5e-4


def test_runs_differ_by_activation_and_initialization():
    sizes = [
        xor.measure([XorRun(20, 0, epochs=20, activation=a, initialization=i)])[0].values["loss"]
        for a in ACTIVATIONS
        for i in mlp.INITIALIZATIONS
    ]
    assert len({tuple(of) for of in sizes}) == len(sizes)


# Initial weights


@pytest.mark.parametrize(
    ("name", "first", "second"),
    # 2 / (fan_in + fan_out) and 2 / fan_in of the layers 2 -> h and h -> 1, at h = 50.
    [("xavier_normal", 2 / 52, 2 / 51), ("kaiming_normal", 2 / 2, 2 / 50)],
)
def test_normal_initial_weights_have_their_variances_and_no_biases(name, first, second):
    h = 50
    drawn = np.array([mlp.initial_parameters(h, seed, name) for seed in range(400)])
    assert not drawn[:, 2 * h : 3 * h].any()
    assert not drawn[:, -1].any()
    # The relative standard error of a variance of n normal numbers is sqrt(2 / n).
    for values, variance in ((drawn[:, : 2 * h], first), (drawn[:, 3 * h : -1], second)):
        assert values.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / values.size))


# Learning rates


def test_a_learning_rate_over_the_hidden_units_is_that_number():
    over = xor.measure([XorRun(25, 1, learning_rate="10/h", epochs=50)])[0]
    plain = xor.measure([XorRun(25, 1, learning_rate=0.4, epochs=50)])[0]
    assert np.array_equal(over.values["loss"], plain.values["loss"])
    assert over.config["learning_rate"] == "10/h"


def test_each_of_several_sizes_gets_its_own_rate():
    runs = xor.sweep((3, 20), 2, learning_rate="4/h", epochs=50)
    together, alone = xor.measure(runs), [xor.measure([run])[0] for run in runs]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.values["loss"], other.values["loss"])


@pytest.mark.parametrize(
    ("given_rate", "settled"),
    [("10/h", "10/h"), (" 10.0 / h", "10/h"), ("2.5/h", "2.5/h"), ("0.5", 0.5), (1, 1.0)],
)
def test_learning_rates_have_one_form(given_rate, settled):
    rate = XorRun(3, 0, learning_rate=given_rate).learning_rate
    assert (rate, type(rate)) == (settled, type(settled))


@pytest.mark.parametrize("wrong", ["h", "1/", "/h", "0/h", "-1/h", "inf/h", "nan", 0, True, None, "1/k"])
def test_other_learning_rates_are_refused(wrong):
    with pytest.raises(InputError, match="learning_rate is"):
        XorRun(3, 0, learning_rate=wrong)


@pytest.mark.parametrize("name", ["activation", "initialization", "task"])
@pytest.mark.parametrize("wrong", ["other", None, 3, ["tanh"]])
def test_unknown_names_are_refused(name, wrong):
    with pytest.raises(InputError, match=f"{name} is .* one of"):
        XorRun(3, 0, **{name: wrong})


# Sharpness


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("task", TARGETS)
@some
@given(st.integers(1, 15), st.integers(0, 999), st.sampled_from([0.1, 1.0, 5.0]))
def test_sharpness_is_that_of_the_dense_hessian(activation, task, hidden, seed, scale):
    flat = random_parameters([hidden], seed, scale)
    networks = Networks([hidden], activation)
    found = networks.sharpness(flat, networks.forward(flat), xor.TASKS[task])
    hessian = torch.autograd.functional.hessian(
        lambda p: torch_loss(p, hidden, activation, task), torch.from_numpy(flat)
    ).numpy()
    values = np.linalg.eigvalsh(hessian)
    assert found[0] == pytest.approx(values[-1], rel=1e-9, abs=1e-12)


def test_sharpness_is_that_of_central_differences_of_the_gradient():
    flat, networks, step = random_parameters([6], 3), Networks([6]), 1e-5

    def gradient(parameters):
        return networks.gradient(parameters, networks.forward(parameters), xor.TASKS["xor"])

    rows = [gradient(flat + s) - gradient(flat - s) for s in step * np.eye(flat.size)]
    hessian = np.array(rows) / (2 * step)
    found = networks.sharpness(flat, networks.forward(flat), xor.TASKS["xor"])
    assert found[0] == pytest.approx(np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1], rel=1e-7)


def test_sharpness_of_a_constant_network_is_known():
    # All weights 0, one unit: only the output bias matters. Its second derivative is p (1 - p) = 1/4.
    # The output weight's gradient is mean(p - y) tanh(0) = 0, and so are all entries of the block.
    networks, flat = Networks([1]), np.zeros(5)
    found = networks.sharpness(flat, networks.forward(flat), xor.TASKS["xor"])
    assert found[0] == pytest.approx(0.25, rel=1e-11)


def test_networks_side_by_side_have_the_sharpness_of_each_alone():
    hidden = (3, 40, 1)
    flat = random_parameters(hidden, 5)
    together = Networks(hidden)
    found = together.sharpness(flat, together.forward(flat), xor.TASKS["xor"])
    parts = np.split(flat, together.offsets[1:-1])
    alone = [Networks([h]).sharpness(p, Networks([h]).forward(p), xor.TASKS["xor"])[0]
             for h, p in zip(hidden, parts, strict=True)]  # fmt: skip
    assert found.tolist() == alone


@some
@given(st.integers(1, 5), st.integers(0, 9999), st.floats(-3, 3))
def test_positive_definite_means_that_all_eigenvalues_are_positive(n, seed, shift):
    half = np.random.default_rng(seed).standard_normal((n, n))
    matrix = half @ half.T + shift * np.eye(n)
    smallest = np.linalg.eigvalsh(matrix)[0]
    root = matrix.copy()
    if abs(smallest) > 1e-9:
        assert _kernels_mlp.is_positive_definite(root) == (smallest > 0)
    if smallest > 1e-9:
        np.testing.assert_allclose(np.tril(root), np.linalg.cholesky(matrix), rtol=1e-6, atol=1e-9)


def test_records_of_sharpness_hold_what_gradient_descent_did():
    run = XorRun(30, 2, epochs=40, learning_rate=3.0, alpha_train=0)
    record = xor.sharpness([run])[0]
    every = xor.measure([XorRun(30, 2, epochs=40, every=1, learning_rate=3.0, alpha_train=0)])[0]
    rose = np.diff(every.values["loss"]) > 0
    expected = [np.nan, *rose.reshape(4, 10).mean(axis=1)]
    np.testing.assert_array_equal(record.values["rises"], expected)
    np.testing.assert_allclose(
        record.values["rate_times_sharpness"], 3.0 * record.values["sharpness"], rtol=1e-15
    )
    assert record.grokking_epoch == every.grokking_epoch
    assert 0 < rose.mean() < 1


def test_on_a_parabola_gradient_descent_diverges_above_two_over_the_sharpness():
    # Near a minimum the loss is a parabola: a step of a bit less than 2 / sharpness along the first
    # eigenvector lowers the loss, and a bit more raises it.
    flat = np.zeros(5)
    flat[-1] = 0.01
    networks = Networks([1])
    state = networks.forward(flat)
    sharpness = networks.sharpness(flat, state, xor.TASKS["xor"])[0]
    gradient = networks.gradient(flat, state, xor.TASKS["xor"])

    def after(rate):
        return mlp.loss(networks.forward(flat - rate * gradient).logits, xor.TASKS["xor"])[0]

    before = mlp.loss(state.logits, xor.TASKS["xor"])[0]
    assert after(1.98 / sharpness) < before < after(2.02 / sharpness)
