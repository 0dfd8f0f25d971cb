"""What a probe costs a training loop: the time of a step with it over that without, in one process."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import gradquake.torch as gqt


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
    """GPT-style, of 10.7 million parameters: 6 layers, width 384, on 65 characters, batches of 32 x 256."""

    def __init__(self, vocabulary=65, width=384, layers=6, heads=6, length=256):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, x):
        x = self.token(x) + self.position(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x)))

    def loss(self, generator):
        tokens = torch.randint(65, (32, 257), generator=generator)
        return functional.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


class Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.skip = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        return functional.relu(self.body(x) + self.skip(x))


class ResNet18(nn.Module):
    """ResNet-18 for images of 32 x 32, of 11.2 million parameters, in batches of 128."""

    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        inputs = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [Residual(inputs, outputs, stride), Residual(outputs, outputs, 1)]
            inputs = outputs
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))

    def loss(self, generator):
        images = torch.randn(128, 3, 32, 32, generator=generator)
        labels = torch.randint(10, (128,), generator=generator)
        return functional.cross_entropy(self.body(images), labels)


# A measured step a block, at its beginning.
BLOCKS = {"every=1": 1, "every=10": 10}
PROBES = {
    "no nulls": {},
    "a sample of 1,000,000": {"sample": 1_000_000},
    "gaussian and permuted nulls": {"nulls": ["gaussian", "permuted"]},
}


def seconds(model, optimizer, generator, steps):
    """Return the time of some steps of training."""
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(generator).backward()
        optimizer.step()
    return time.perf_counter() - start


def probe_seconds(model, optimizer, generator, **settings):
    """Return what a probe adds to one call of optimizer.step, and the time to attach it."""
    optimizer.zero_grad()
    model.loss(generator).backward()
    times = {}
    for kind in ("without", "with"):
        start = time.perf_counter()
        quake = gqt.attach(model, optimizer, every=1, **settings) if kind == "with" else None
        attached = time.perf_counter() - start
        laps = []
        for _ in range(5):
            start = time.perf_counter()
            optimizer.step()
            laps.append(time.perf_counter() - start)
        times[kind] = np.median(laps)
        if quake is not None:
            quake.detach()
    return times["with"] - times["without"], attached


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of blocks with and without")
    rounds = parser.parse_args().rounds
    print(f"{torch.get_num_threads()} threads; medians of {rounds} pairs of blocks, with the range")
    for kind in (Gpt, ResNet18):
        torch.manual_seed(0)
        model = kind()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(0)
        n = sum(p.numel() for p in model.parameters())
        seconds(model, optimizer, generator, 1)
        print(f"{kind.__name__}: {n / 1e6:.1f} million parameters", flush=True)
        for name, every in BLOCKS.items():
            block = max(every, 2)
            ratios, plain = [], []
            for _ in range(rounds):
                # In turn, so that the machine's drift hits both.
                quake = gqt.attach(model, optimizer, every=every)
                measured = seconds(model, optimizer, generator, block)
                quake.detach()
                plain.append(seconds(model, optimizer, generator, block))
                ratios.append(measured / plain[-1])
            low, middle, high = np.quantile(ratios, [0, 0.5, 1])
            step = np.median(plain) / block
            print(f"  {name:<9} {middle:.3f} [{low:.3f}, {high:.3f}], {step:.2f} s a step", flush=True)
        for name, settings in PROBES.items():
            added, attached = probe_seconds(model, optimizer, generator, **settings)
            print(f"  {name:<28} {added:.2f} s a measurement, attached in {attached:.1f} s", flush=True)


if __name__ == "__main__":
    main()
