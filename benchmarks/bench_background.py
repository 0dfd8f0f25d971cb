"""What a measurement costs a training: stretches without it, in the background and at once take turns.

A ratio is the time of a stretch of steps with measurements, over that of the stretch before it without:
the median over the turns, and their quartiles. A stretch ends when its last measurement has ended. With
every=10, it has ten steps, and the first one is measured; with every=1, it has five, and all are
measured. With --memory, the resident memory of trainings of 100,000 steps is printed
instead. bench_accelerator.py has trainings on a GPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import gradquake.torch as gqt
from gradquake import Probe
from gradquake.torch import attaching


class Block(nn.Module):
    """A pre-norm Transformer block."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        b, t, d = x.shape
        parts = self.qkv(self.norms[0](x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.norms[1](x))


class Gpt(nn.Module):
    """GPT-style, of 10.8 million parameters: 6 layers, width 384; batches of 32 x 256 characters."""

    def __init__(self, vocabulary=65, width=384, layers=6, heads=6, length=256):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, x):
        x = self.token(x) + self.position(torch.arange(x.shape[1], device=x.device))
        return self.head(self.norm(self.blocks(x)))

    def loss(self, generator):
        tokens = torch.randint(65, (32, 257), generator=generator)
        return functional.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


class Mlp(nn.Module):
    """An MLP of 7.1 million parameters, in batches of 512."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(784, 2304), nn.ReLU(), nn.Linear(2304, 2304), nn.ReLU(), nn.Linear(2304, 10)
        )

    def loss(self, generator):
        inputs = torch.randn(512, 784, generator=generator)
        return functional.cross_entropy(self.body(inputs), inputs[:, :10].argmax(1))


class SmallBatchGpt(Gpt):
    """The GPT of 10.8 million parameters, in batches of 16 x 128."""

    def loss(self, generator):
        tokens = torch.randint(65, (16, 129), generator=generator)
        return functional.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


NULLS = {"nulls": ["gaussian", "permuted"]}
# The steps of a stretch.
STEPS = {10: 10, 1: 5}
# By name: the model, the steps between measurements, the options of attach, and the turns.
ROWS = {
    "MLP, every=10": (Mlp, 10, {}, 9),
    "MLP, every=10, sample of 1,000,000": (Mlp, 10, {"sample": 1_000_000}, 9),
    "MLP, every=10, with Gaussian and permuted nulls": (Mlp, 10, NULLS, 9),
    "GPT, batches of 16 x 128, every=10": (SmallBatchGpt, 10, {}, 4),
    "GPT, batches of 16 x 128, every=1": (SmallBatchGpt, 1, {}, 6),
    "GPT, batches of 32 x 256, every=10": (Gpt, 10, {}, 3),
    "GPT, batches of 32 x 256, every=1": (Gpt, 1, {}, 3),
}
# By name: the options of attach in long trainings.
LONG = {
    "every=10": {"every": 10},
    "every=1": {"every": 1},
    "every=1, both fields, tensors, a null": {
        "every": 1, "field": "both", "tensors": True, "nulls": ["permuted"],
    },
}  # fmt: skip
LONG_STEPS = 100_000


def compare(kind, every, options, turns):
    """Return times (turns, 3) without, in the background and at once, both Datasets, and N."""
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    n = sum(parameter.numel() for parameter in model.parameters())
    probe = Probe() if options.get("sample", n) < n else Probe(Probe().graph_on(n))
    steps = {"background": set(), "at once": set()}
    quakes = {}
    for name, measured in steps.items():
        attaching.runs_beside = lambda *_, name=name: name == "background"
        quakes[name] = gqt.attach(model, optimizer, every=measured.__contains__, probe=probe, **options)

    def stretch(name=None):
        if name is not None:
            first = quakes[name].step
            steps[name].update(range(first, first + STEPS[every], every))
        begin = time.perf_counter()
        for _ in range(STEPS[every]):
            optimizer.zero_grad()
            model.loss(generator).backward()
            optimizer.step()
        if name is not None:
            _ = quakes[name].latest
        return time.perf_counter() - begin

    # The first measurements compile kernels, and make the draws of Gaussian nulls that repeat.
    for _ in range(20 if "nulls" in options else 2):
        for name in quakes:
            stretch(name)
    times = np.array([[stretch(name) for name in (None, *quakes)] for _ in range(turns)])
    found = {}
    for name, quake in quakes.items():
        quake.detach()
        last = turns * STEPS[every] // every
        found[name] = quake.dataset.isel(run=0, epoch=slice(-last, None))
    return times, found["background"], n


def copy_time(n):
    """Return the median time to copy n float32 numbers that are not in the caches."""
    pairs, times = [(torch.ones(n), torch.ones(n)) for _ in range(6)], []
    for source, target in 5 * pairs:
        begin = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def resident():
    """Return the resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def train_long(options):
    """Train an MLP of N = 2,001 parameters into a study; print the memory ten times."""
    model = nn.Sequential(nn.Linear(2, 500), nn.Tanh(), nn.Linear(500, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(16, 2)
    begin = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        gqt.attach(model, optimizer, study=Path(folder) / "runs.sqlite", **options) as quake,
    ):
        for step in range(LONG_STEPS):
            optimizer.zero_grad()
            loss = (model(x) - x[:, :1] * x[:, 1:]).square().mean()
            loss.backward()
            optimizer.step()
            quake.log(loss=loss)
            if (step + 1) % (LONG_STEPS // 10) == 0:
                took = time.perf_counter() - begin
                print(f"{step + 1} steps: {resident():.1f} MB, {took:.0f} s", flush=True)


def processor():
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", action="store_true", help="the memory of long trainings")
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores by default")
    parser.add_argument("--rows", default="", help="only rows whose name holds this regular expression")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    if arguments.memory:
        # In the background, although the model is small.
        attaching.runs_beside = lambda *_: True
        torch.set_num_threads(1)
        for name, options in LONG.items():
            if re.search(arguments.rows, name):
                print(f"{name}: {resident():.1f} MB before", flush=True)
                train_long(options)
        return
    print("| training | a step | background | quartiles | at once | quartiles | measuring | copying |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (kind, every, options, turns) in ROWS.items():
        if not re.search(arguments.rows, name):
            continue
        times, found, n = compare(kind, every, options, turns)
        ratios = times[:, 1:] / times[:, :1]
        shown = [
            f"{middle:.3f} | {low:.3f} to {high:.3f}"
            for low, middle, high in np.quantile(ratios, [0.25, 0.5, 0.75], axis=0).T
        ]
        measuring, copying = (
            float(found[f"probe_{what}"].median()) for what in ("measuring", "copying")
        )
        print(
            f"| {name} | {np.median(times[:, 0]) / STEPS[every]:.2f} s | {' | '.join(shown)} "
            f"| {measuring:.2f} s | {copying / copy_time(n):.1f} memory copies |",
            flush=True,
        )


if __name__ == "__main__":
    main()
