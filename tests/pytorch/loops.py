"""Small trainings that tests measure, and scripts that train in a process of their own."""

import subprocess
import sys

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


SCRIPT = """
import gc, multiprocessing, os, signal, sqlite3, sys, threading, time
import torch, gradquake.torch as gqt
from gradquake.torch import journal
# A shell starts the jobs in its background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
journal.FLUSH_EVERY = {every}
path = {path!r}
torch.set_num_threads(1)
def begin(name, width=2, **options):
    model = torch.nn.Linear(4, width)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = dict(every=1, study=path, labels=dict(name=name)) | options
    return optimizer, gqt.attach(model, optimizer, **options)
"""


def command(body, path, every=60.0):
    """Return the command of a script that calls ``begin`` for a probe of a study."""
    code = SCRIPT.format(path=str(path), every=every) + body
    return [sys.executable, "-W", "error", "-c", code]


def run_script(body, path, every=60.0):
    """Run such a script; return what it printed."""
    done = subprocess.run(
        command(body, path, every), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done
