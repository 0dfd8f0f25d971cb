"""Measurement in a training on an accelerator: whether it is right, and its cost.

Right: two models of different sizes train for two steps. The avalanches of their gradients, updates and
nulls, measured in the background, and those of gradients that are relaxed in-line, are compared with
those that the core measures on the host from the same vectors. Every number must be equal but
``deviation`` in-line, which an accelerator sums in its own order.

Cost: a GPT of 124 million parameters trains in bfloat16 autocast, compiled, in batches of 16 x 1024
random tokens. Stretches of steps with and without a measurement take turns. Every step ends with a
synchronization of the training's stream. ``ratio`` is the time of a stretch whose first step is
measured, over that of the stretch before it without a measurement. It includes the wait for the
measurement, except with "skip".
``step`` is the median time of a step without a measurement, ``step_beside`` that of a step after a
measured one, ``measured_step`` that of a measured one. Times are in seconds.

Each part is tried by itself: if one fails, its traceback is printed, and the next one begins. Numbers
are printed as soon as they are known. With --out, they are kept as JSON. With --device cpu, small
models try the same parts; their times mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import gradquake.torch as gqt
from bench_background import Gpt, processor
from gradquake import Probe
from gradquake.avalanche.surrogates import repeated_draw, seed_at, surrogate

NULLS = ("gaussian", "permuted")
TINY = {"vocabulary": 65, "width": 64, "layers": 2, "heads": 2, "length": 64}
MODELS = {
    "cuda": {"small": TINY, "larger": {}},
    "cpu": {"small": TINY, "larger": {**TINY, "width": 96, "layers": 4}},
}
TRAINED = {
    "cuda": {"vocabulary": 50_257, "width": 768, "layers": 12, "heads": 12, "length": 1024},
    "cpu": {**TINY, "width": 128},
}
BATCH = {"cuda": 16, "cpu": 4}
# By name: the steps of a stretch, the options of attach, and the most pairs of stretches.
ROWS = {
    "every=10": (10, {"every": 10}, 5),
    "every=100": (100, {"every": 100}, 4),
    "every=10, when_behind='skip'": (100, {"every": 10, "when_behind": "skip"}, 3),
    "every=10, sample of 1,000,000": (10, {"every": 10, "sample": 1_000_000}, 9),
}
INLINE = "every=1, inline"
# A row ends after this many seconds, but not before three pairs.
SECONDS = 40


class Log:
    """Prints numbers at once, and keeps them in a file."""

    def __init__(self, path, begin):
        self._path, self._begin, self._found = path, begin, {}

    def add(self, part, **numbers):
        """Print the numbers of a part, to five digits, and write all."""
        numbers = {name: rounded(value) for name, value in numbers.items()}
        self._found.setdefault(part, {}).update(numbers)
        shown = ", ".join(f"{name} {value}" for name, value in numbers.items())
        print(f"[{time.perf_counter() - self._begin:5.0f} s] {part}: {shown}", flush=True)
        if self._path is not None:
            self._path.write_text(json.dumps(self._found, indent=1))


def rounded(value):
    """Return numbers as Python's own, to five digits."""
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


class TrainedGpt(Gpt):
    """A GPT with tied embeddings, which returns its loss."""

    def __init__(self, vocabulary, length, **shape):
        super().__init__(vocabulary=vocabulary, length=length, **shape)
        self.head.weight = self.token.weight

    def forward(self, tokens):
        logits = super().forward(tokens[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@functools.cache
def graph_of(n):
    return Probe().graph_on(n)


# Is it right?


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).float().cpu().numpy()


def trained(shape, device, **options):
    """Train with a probe; return it, and by step its gradients, relaxed gradients and updates."""
    torch.manual_seed(0)
    model = Gpt(**shape).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    seen = {"gradient": [], "relaxed": [], "update": []}

    def keep(name):
        seen[name].append(flat(parameter.grad for parameter in parameters))

    # Before the probe's own hook, and after it.
    optimizer.register_step_pre_hook(lambda *_: keep("gradient"))
    n = sum(parameter.numel() for parameter in parameters)
    with gqt.attach(
        model, optimizer, probe=Probe(graph_of(n)), every=1, nulls=NULLS, tensors=True, **options
    ) as quake:
        optimizer.register_step_pre_hook(lambda *_: keep("relaxed"))
        for step in range(2):
            tokens = torch.randint(65, (8, 65), generator=torch.Generator().manual_seed(step)).to(device)
            before = flat(parameters)
            optimizer.zero_grad()
            logits = model(tokens[:, :-1])
            functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
            optimizer.step()
            seen["update"].append(flat(parameters) - before)
    return quake, {name: parameter.numel() for name, parameter in model.named_parameters()}, seen


def null_of(name, vector, lengths, step):
    draw = repeated_draw(name, vector.size, 0, step)
    seed = seed_at(0, step) if draw is None else seed_at(0, 0, draw)
    return surrogate(name, vector, lengths, seed=seed)


def unequal(quake, field, tensors, vectors):
    """Return the largest relative difference from the core, by null and name, of unequal numbers."""
    found = {}
    for null in ("real", *NULLS):
        run = quake.dataset_of(null, field)
        for step, vector in enumerate(vectors):
            drawn = vector if null == "real" else null_of(null, vector, list(tensors.values()), step)
            core = Probe(graph_of(vector.size)).measure(drawn, tensors=tensors).measured()
            for name, value in core.items():
                one, other = np.asarray(run[name].values[0, step]), np.asarray(value)
                if not np.array_equal(one, other):
                    differs = np.max(np.abs(one - other) / np.maximum(np.abs(other), 1e-300))
                    key = f"{null}, {name}"
                    found[key] = max(found.get(key, 0.0), float(differs))
    return found or "nothing"


def check_background(log, part, shape, device):
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "runs.sqlite"
        quake, tensors, seen = trained(shape, device, field="both", study=study)
        sizes = quake.dataset["size"].values[0] / quake.n_parameters
        log.add(part, N=quake.n_parameters, s_over_N=sizes.tolist())
        untouched = all(map(np.array_equal, seen["gradient"], seen["relaxed"]))
        log.add(part, the_training_keeps_its_gradient=untouched)
        for field in ("gradient", "update"):
            log.add(part, **{f"unequal_of_the_{field}": unequal(quake, field, tensors, seen[field])})


def check_inline(log, part, shape, device):
    quake, tensors, seen = trained(shape, device, inline=True)
    log.add(part, unequal=unequal(quake, "gradient", tensors, seen["gradient"]))
    probe = Probe(graph_of(quake.n_parameters))
    core = [probe.measure(vector).relaxed for vector in seen["gradient"]]
    log.add(part, relaxed_gradients_equal=all(map(np.array_equal, core, seen["relaxed"])))


# What does it cost?


class Training:
    """The GPT that is timed, compiled, and its steps."""

    def __init__(self, device, *, compiled):
        torch.manual_seed(0)
        shape = TRAINED[device]
        self.device, self.plain = device, TrainedGpt(**shape).to(device)
        self.model = torch.compile(self.plain) if compiled else self.plain
        self.optimizer = torch.optim.AdamW(self.plain.parameters(), lr=1e-4, fused=True)
        self.n = sum(parameter.numel() for parameter in self.plain.parameters())
        size = (8, BATCH[device], shape["length"] + 1)
        self._batches = torch.randint(shape["vocabulary"], size).to(device)
        self._made = 0

    def step(self):
        """Make a step; return its time in seconds."""
        begin = time.perf_counter()
        tokens = self._batches[self._made % len(self._batches)]
        self._made += 1
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16):
            loss = self.model(tokens)
        loss.backward()
        self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.current_stream().synchronize()
        return time.perf_counter() - begin


def make_training(log, device, *, compiled):
    """Compile the training, and draw the graph meanwhile."""
    training = Training(device, compiled=compiled)

    def draw():
        begin = time.perf_counter()
        graph_of(training.n)
        log.add("training", graph_seconds=time.perf_counter() - begin)

    with ThreadPoolExecutor(1) as pool:
        drawn = pool.submit(draw)
        log.add("training", N=training.n, first_step=training.step())
        log.add("training", next_steps=[training.step() for _ in range(5)])
        drawn.result()
    if device == "cuda":
        log.add("training", gpu_gigabytes=torch.cuda.max_memory_allocated() / 1e9)
    return training


def cost(log, training, part, length, options, pairs):
    sampled = options.get("sample", training.n)
    probe = Probe() if sampled < training.n else Probe(graph_of(training.n))
    wanted, measured = options["every"], set()
    begin = time.perf_counter()
    options = {**options, "every": measured.__contains__, "probe": probe}
    quake = gqt.attach(training.model, training.optimizer, **options)
    waits = options.get("when_behind") != "skip"
    log.add(part, attach_seconds=time.perf_counter() - begin)

    def stretch(with_probe):
        """Return the times of the steps, and that of all with the wait for the measurement."""
        if with_probe:
            measured.update(range(quake.step, quake.step + length, wanted))
        begin = time.perf_counter()
        steps = [training.step() for _ in range(length)]
        ended = time.perf_counter()
        _ = quake.latest
        return steps, (time.perf_counter() if waits else ended) - begin

    measured.add(quake.step)
    training.step()
    _ = quake.latest
    since = time.perf_counter()
    plain, probed, ratios = [], [], []
    while len(ratios) < pairs and (len(ratios) < 3 or time.perf_counter() - since < SECONDS):
        without, with_probe = stretch(with_probe=False), stretch(with_probe=True)
        plain += without[0]
        probed.append(with_probe[0])
        ratios.append(with_probe[1] / without[1])
        log.add(part, **{f"ratio_{len(ratios)}": ratios[-1]})
    quake.detach()
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    beside = np.array(probed)
    log.add(part, ratio=middle, quartiles=[low, high], pairs=len(ratios))
    log.add(
        part, step=float(np.median(plain)), step_beside=float(np.median(beside[:, 1:])),
        measured_step=float(np.median(beside[:, ::wanted])),
        left_out=quake.left_out, of_steps=len(ratios) * len(range(0, length, wanted)),
    )  # fmt: skip
    found = quake.dataset.isel(run=0)
    for name in ("probe_measuring", "probe_copying", "probe_waiting"):
        log.add(part, **{name: float(found[name].values[1:].mean())})
    log.add(part, s_over_N=float((found["size"] / quake.n_parameters).values[-1]))


def cost_inline(log, training, part):
    """Time steps without a probe, and steps whose gradients are relaxed in-line on the accelerator."""
    plain = [training.step() for _ in range(8)]
    used = torch.cuda.max_memory_allocated() if training.device == "cuda" else 0
    probe = Probe(graph_of(training.n))
    with gqt.attach(training.model, training.optimizer, probe=probe, every=1, inline=True):
        training.step()
        relaxed = [training.step() for _ in range(8)]
    log.add(part, ratio=float(np.median(relaxed) / np.median(plain)), step=float(np.median(relaxed)))
    if training.device == "cuda":
        log.add(part, more_gigabytes=(torch.cuda.max_memory_allocated() - used) / 1e9)


def parts(log, device, compiled):
    """Yield the name and the function of every part."""
    training = []
    for name, shape in MODELS[device].items():
        for check in (check_background, check_inline):
            part = f"{check.__name__.removeprefix('check_')}, {name} model"
            yield part, functools.partial(check, log, part, shape, device)
    yield "training", lambda: training.append(make_training(log, device, compiled=compiled))
    for name, (length, options, pairs) in ROWS.items():
        if device == "cpu":
            length, options = length // 5, {**options, "every": options["every"] // 5}
        row = name, length, options, pairs
        yield name, lambda row=row: cost(log, training[0], *row)
    yield INLINE, lambda: cost_inline(log, training[0], INLINE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--no-compile", action="store_true", help="train without torch.compile")
    parser.add_argument("--out", type=Path, help="a JSON file for all numbers")
    parser.add_argument("--only", default="", help="only parts whose name contains this text")
    parser.add_argument("--seconds", type=float, default=240, help="no part begins after this time")
    arguments = parser.parse_args()
    device, begin = arguments.device, time.perf_counter()
    log = Log(arguments.out, begin)
    name = torch.cuda.get_device_name() if device == "cuda" else "no accelerator"
    log.add(
        "machine", accelerator=name, processor=processor(), cores=os.cpu_count(),
        torch=torch.__version__, numpy=np.__version__, load=os.getloadavg()[0],
    )  # fmt: skip
    torch.set_float32_matmul_precision("high")
    for part, work in parts(log, device, not arguments.no_compile):
        wanted = [part, *ROWS, INLINE] if part == "training" else [part]
        if not any(arguments.only in name for name in wanted):
            continue
        if time.perf_counter() - begin > arguments.seconds:
            log.add(part, left_out="no time left")
            continue
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            log.add(part, error=repr(error))
    log.add("all", seconds=time.perf_counter() - begin)


if __name__ == "__main__":
    main()
