"""
The probe in a training loop
============================

``gradquake.torch.attach`` measures the gradient just before the optimizer uses it. Training stays
the same, bit for bit. Without ``study=``, the measurements stay in memory, in ``quake.dataset``.
"""

import matplotlib.pyplot as plt
import torch

import gradquake as gq
import gradquake.torch as gqt

torch.manual_seed(0)
inputs = torch.randn(512, 10)
targets = (inputs[:, :1] * inputs[:, 1:2] > 0).float()
model = torch.nn.Sequential(torch.nn.Linear(10, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

with gqt.attach(
    model, optimizer, probe=gq.Probe(seed=0), every=5, nulls=["gaussian", "permuted"]
) as quake:
    for _ in range(200):
        logits = model(inputs)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        quake.log(loss=loss, accuracy=((logits > 0) == targets).float().mean())

quake.dataset

# %%
# s/N during the training, beside the nulls that were measured on the same gradients. Where the
# permuted null follows the gradient, the distribution of the entries explains the avalanche.

figure, (top, bottom) = plt.subplots(2, sharex=True, figsize=(7, 6), layout="constrained")
for name in ("gaussian", "permuted", "real"):
    measured = quake.dataset if name == "real" else quake.dataset_of(name)
    share = measured["size"] / measured["n_parameters"]
    top.plot(measured["epoch"], share.squeeze(), label=name)
top.set_ylabel("size / N")
top.legend()
for name in ("loss", "accuracy"):
    bottom.plot(quake.dataset["epoch"], quake.dataset[name].squeeze(), label=name)
bottom.set_xlabel("optimizer step")
bottom.legend()
