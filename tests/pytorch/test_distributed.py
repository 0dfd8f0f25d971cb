"""Two real processes that train one model together, over gloo on loopback."""

import numpy as np
import pytest
from scripts import run_at_once

from gradquake import Probe, open_study

START = """
import os, warnings
import torch, torch.distributed as dist
from torch import nn
import gradquake.torch as gqt
from gradquake import InputError
warnings.simplefilter("error")
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
torch.manual_seed(7)
x = torch.randn(8, 4, dtype=torch.float64).float()
mine = x[4 * rank : 4 * rank + 4]
def train(model, optimizer, quake, data, steps=5):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(data).square().mean()
        loss.backward()
        optimizer.step()
        quake.log(loss=loss)
def finish():
    dist.barrier()
    dist.destroy_process_group()
"""


def together(tmp_path, body):
    """Run a script in two processes; return what each printed."""
    paths = f"meeting, path = {str(tmp_path / 'meeting')!r}, {str(tmp_path / 'runs.sqlite')!r}"
    done = run_at_once([f"rank = {rank}\n{paths}\n{START}{body}" for rank in range(2)])
    return [one.stdout for one in done]


ALONE = """
if rank == 0:
    alone = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    alone.load_state_dict(start)
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.5)
    half = x.reshape(2, 4, 4)
    reduced = []
    for _ in range(5):
        grads = []
        for part in half:
            optimizer.zero_grad()
            alone(part).square().mean().backward()
            grads.append([p.grad.clone() for p in alone.parameters()])
        for p, a, b in zip(alone.parameters(), *grads):
            p.grad = (a + b) / 2
        flat = torch.cat([p.grad.reshape(-1) for p in alone.parameters()])
        reduced.append(float(torch.linalg.vector_norm(flat.double())))
        optimizer.step()
    print(*reduced)
"""


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_measured_once_after_reduction(tmp_path, kind):
    wrap = {
        "ddp": "model = nn.parallel.DistributedDataParallel(model)",
        "fsdp2": """
from torch.distributed.fsdp import fully_shard
from torch.distributed.device_mesh import init_device_mesh
mesh = init_device_mesh("cpu", (2,))
for layer in model:
    if isinstance(layer, nn.Linear):
        fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
""",
    }[kind]
    body = f"""
start = {{k: v.clone() for k, v in model.state_dict().items()}}
{wrap}
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
options = dict(nulls=["permuted"], field="both", tensors=True)
with gqt.attach(model, optimizer, every=2, study=path, **options) as quake:
    assert quake.n_parameters == 58, quake.n_parameters
    train(model, optimizer, quake, mine)
{ALONE}
finish()
"""
    out = together(tmp_path, body)
    assert out[1] == ""
    norms = [float(word) for word in out[0].split()]
    with open_study(tmp_path / "runs.sqlite") as study:
        real, nulls = study.with_nulls(field="gradient")
        update, _ = study.with_nulls(field="update")
    null = nulls["permuted"]
    # Plain gradient descent adds -0.5 times the gradient.
    np.testing.assert_allclose(update["update_norm"], 0.5 * real["gradient_norm"], rtol=1e-5)
    assert (update["tensor_topplings"].sum("tensor") == update["size"]).all()
    assert update["tensor"].values.tolist() == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert real["epoch"].values.tolist() == [0, 2, 4]
    assert real.sizes["run"] == null.sizes["run"] == 1
    np.testing.assert_allclose(real["gradient_norm"].values[0], norms[::2], rtol=1e-5)


def test_inline_keeps_replicas_equal(tmp_path):
    body = """
model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
with gqt.attach(model, optimizer, every=2, study=path, inline=True) as quake:
    train(model, optimizer, quake, mine)
print([p.tolist() for p in model.parameters()])
finish()
"""
    one, other = together(tmp_path, body)
    assert one == other


def test_what_cannot_be_read_is_refused(tmp_path):
    body = """
from torch.distributed.fsdp import fully_shard
from torch.distributed.device_mesh import init_device_mesh
fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
try:
    gqt.attach(model, optimizer, inline=True)
except InputError as error:
    print(error)
class FullyShardedDataParallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat = nn.Parameter(torch.zeros(3))
sharded = FullyShardedDataParallel()
try:
    gqt.attach(sharded, torch.optim.SGD(sharded.parameters(), lr=0.5))
except InputError as error:
    print(error)
finish()
"""
    for out in together(tmp_path, body):
        first, second = out.splitlines()
        assert "the parameters are sharded (DTensor); inline needs them whole" in first
        assert "use torch.distributed.fsdp.fully_shard" in second


PIECES = """
from gradquake import Probe
vector = np.load(path.replace("runs.sqlite", "gradient.npy"))
cut = 70001
own = [vector[:cut], vector[cut:]][rank]
for topology in ("barabasi_albert", "random_regular"):
    probe = Probe(topology)
    whole = probe.measure(vector)
    found = probe.measure_pieces([own[:1000], own[1000:]], exchange=gqt.Exchange())
    for name in ("size", "duration", "area", "peak", "truncated", "deviation", "threshold"):
        assert getattr(found, name) == getattr(whole, name), name
    mine = [whole.relaxed[:cut], whole.relaxed[cut:]][rank]
    assert found.relaxed.tobytes() == mine.tobytes()
    print(found.size)
try:
    probe.measure_pieces([own.astype(int) if rank else own], exchange=gqt.Exchange())
except InputError as error:
    print(error)
finish()
"""


def test_a_gradient_in_pieces_on_two_processes_is_that_of_the_whole(tmp_path):
    vector = np.random.default_rng(0).standard_normal(150_000).astype(np.float32)
    np.save(tmp_path / "gradient.npy", vector)
    first, second = together(tmp_path, "import numpy as np\n" + PIECES)
    assert first == second
    *sizes, refusal = first.splitlines()
    assert sizes == [
        str(Probe(name).measure(vector).size) for name in ("barabasi_albert", "random_regular")
    ]
    assert refusal == "piece 0 has dtype int64; float32 or float64 is needed (process 1)"
