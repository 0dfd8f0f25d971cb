"""docs/pytorch.md, followed from top to bottom by a newcomer."""

import inspect
import re
import shlex
from pathlib import Path

import pytest
import torch

import gradquake.torch as gqt
from gradquake import open_study

GUIDE = Path(__file__).parents[2] / "docs" / "pytorch.md"


def interrupted(names, folder, monkeypatch):
    """Leave behind what a run that was interrupted after its checkpoint leaves."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    quake = gqt.attach(model, optimizer, study="runs.sqlite", labels={"width": 16, "seed": 3})
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save([model.state_dict(), optimizer.state_dict(), quake.step], "last.pt")
    quake.detach(finished=False)
    names |= {"model": model, "optimizer": optimizer}


def run_all(commands, call):
    for command in commands:
        done = call(*shlex.split(command))
        assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.usefixtures("one_thread")
def test_the_guide_can_be_followed(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    text = GUIDE.read_text("utf-8")
    loop, reading, resuming, callback, counted = re.findall("```python\n(.*?)```", text, re.S)
    names = {}
    exec(loop, names)
    with open_study("runs.sqlite") as study:
        assert study.select(surrogate="real").sizes["run"] == 9
    commands = dict.fromkeys(re.findall(r"^    gradquake (.*?)(?: +#.*)?$", text, re.M))
    # Two more are for updates and tensors.
    first = [command for command in commands if "field=" not in command and "--tensors" not in command]
    assert (len(first), len(commands)) == (3, 5)
    run_all(first, call)
    assert Path("runs.png").stat().st_size > 10_000
    exec(reading, names)
    assert (names["share"].sizes["run"], set(names["nulls"])) == (9, {"gaussian", "permuted"})
    interrupted(names, tmp_path / "elsewhere", monkeypatch)
    exec(resuming, names)
    with open_study("runs.sqlite") as study:
        assert study.dataset["epoch"].values.tolist() == [0]
    exec(callback, names)
    assert names["callback"].quake is None
    (tmp_path / "tensors").mkdir()
    monkeypatch.chdir(tmp_path / "tensors")
    exec(loop.replace("every=10,", 'every=10, field="update", tensors=True,'), names)
    run_all(commands.keys() - first, call)
    with open_study("runs.sqlite") as study:
        names["study"] = study
        exec(counted.replace("quake.dataset", "study.select(surrogate='real')"), names)
    assert names["share"].dims == ("run", "epoch", "tensor")


def test_every_option_of_attach_is_in_the_guide():
    text = GUIDE.read_text("utf-8")
    options = set(inspect.signature(gqt.attach).parameters) - {"model", "optimizer"}
    assert [name for name in options if name not in text] == []
