"""The network of the XOR experiment against torch's own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_xor import INPUTS, TARGETS, gradient_of, random_parameters

from gradquake.experiments import mlp, xor
from gradquake.experiments.mlp import Networks


def torch_network(hidden, parameters):
    model = torch.nn.Sequential(
        torch.nn.Linear(2, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1)
    ).double()
    torch.nn.utils.vector_to_parameters(torch.from_numpy(parameters), model.parameters())
    return model


@pytest.mark.parametrize("task", TARGETS)
@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(1, 40), st.integers(0, 999), st.sampled_from([0.1, 1.0, 10.0]))
def test_logits_loss_and_gradient_are_those_of_torch(task, hidden, seed, scale):
    parameters = random_parameters([hidden], seed, scale)
    model = torch_network(hidden, parameters)
    logits = model(torch.from_numpy(INPUTS))
    loss = torch.nn.BCEWithLogitsLoss()(logits[:, 0], torch.from_numpy(TARGETS[task]))
    loss.backward()
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters()]).numpy()

    networks = Networks([hidden])
    ours = networks.forward(parameters).logits
    np.testing.assert_allclose(ours, logits.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mlp.loss(ours, xor.TASKS[task]), loss.item(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        gradient_of(networks, parameters, task), expected, rtol=1e-10, atol=1e-14 * scale
    )
