"""attach, used as a user writes it: one script in a fresh process."""

import subprocess
import sys

SCRIPT = """
import torch
import gradquake as gq
import gradquake.torch as gqt

model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with gqt.attach(model, optimizer, probe=gq.Probe(seed=3), every=10, study="runs.sqlite",
                labels={"width": 128}) as quake:
    for _ in range(21):
        optimizer.zero_grad()
        loss = model(torch.ones(4, 8)).square().mean()
        loss.backward()
        optimizer.step()
        quake.log(loss=loss)
with gq.open_study("runs.sqlite") as study:
    sweep = study.dataset
assert sweep["epoch"].values.tolist() == [0, 10, 20]
"""


def test_the_face_of_training(tmp_path):
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
