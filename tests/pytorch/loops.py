"""Small trainings that tests measure."""

import torch
from torch import nn

X = torch.linspace(-1, 1, 64).reshape(16, 4)
Y = (X.sum(1, keepdim=True) > 0).float()


def network(seed=0, width=8):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


def loss_of(model, x=X, y=Y):
    return nn.functional.binary_cross_entropy_with_logits(model(x), y)


def sgd(model, lr=0.5):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def train(model, optimizer, steps=6, quake=None):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        if quake is not None:
            quake.log(loss=loss)
    return model


def flat(model):
    return torch.cat([p.grad.reshape(-1) for p in model.parameters()]).numpy()


def same_weights(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
