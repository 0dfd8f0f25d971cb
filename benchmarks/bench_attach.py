"""What a probe costs a training loop: the time of a step with it over that without, in one process."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import gradquake.torch as gqt
from gradquake import Probe


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


PROBES = {
    "whole": {},
    "whole, on the ring": {"probe": Probe(graph="ring")},
    "sample of 1,000,000": {"sample": 1_000_000},
    "whole, with 2 nulls": {"nulls": ["gaussian", "permuted"]},
}


def train(model, optimizer, generator, steps, **settings):
    """Return the mean time of a step without the probe, that of the probe, and the time to attach it."""
    laps = []
    start = time.perf_counter()
    # Hooks run in their order: the probe's time is that between the two around it, in the same steps.
    before = optimizer.register_step_pre_hook(lambda *_: laps.append(-time.perf_counter()))
    quake = gqt.attach(model, optimizer, every=1, **settings)
    after = optimizer.register_step_pre_hook(lambda *_: laps.append(time.perf_counter()))
    begun = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(generator).backward()
        optimizer.step()
    total = time.perf_counter() - begun
    share = np.mean(quake.dataset["size"].values) / quake.n_parameters
    for handle in (before, after, quake):
        handle.detach() if handle is quake else handle.remove()
    probe = sum(laps)
    return (total - probe) / steps, probe / steps, begun - start, share


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8, help="steps of training for each row")
    steps = parser.parse_args().steps
    print(f"{torch.get_num_threads()} threads, means over {steps} steps")
    print(f"{'':<22} {'step':>7} {'probe':>7} {'every=1':>8} {'every=10':>8} {'attach':>7} {'s/N':>6}")
    for kind in (Gpt, ResNet18):
        torch.manual_seed(0)
        model = kind()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(0)
        n = sum(p.numel() for p in model.parameters())
        print(f"{kind.__name__}, {n / 1e6:.1f} million parameters")
        for name, settings in PROBES.items():
            step, probe, attached, share = train(model, optimizer, generator, steps, **settings)
            ratios = f"{1 + probe / step:>8.3f} {1 + probe / step / 10:>8.3f}"
            print(
                f"  {name:<20} {step:>5.2f} s {probe:>5.2f} s {ratios} {attached:>5.1f} s {share:>6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
