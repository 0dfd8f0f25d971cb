"""Options of ``attach`` where they meet: every pair of values is met in some training.

Those that decide how a step is measured meet in every way.
"""

import warnings
from collections import namedtuple
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from allpairspy import AllPairs
from torch import nn

import gradquake.torch as gqt
from gradquake import Probe, open_study
from gradquake.avalanche import probe, topologies
from gradquake.avalanche.extrapolation import size_error
from gradquake.avalanche.neurons import neuron_graph
from gradquake.avalanche.probe import fixed_sample
from gradquake.avalanche.surrogates import seed_at, surrogate
from gradquake.avalanche.topologies import build
from gradquake.torch import attaching
from gradquake.torch.gradients import layouts

WIDTH = 300
N = 6 * WIDTH + 1
STEPS = 6
RESUMED_AT = 3


def ignore(*_):
    pass


def broken(*_):
    raise RuntimeError("network down")


LABELS = {"width": 8, "seed": 5, "resume": None, "betas": (0.9, 0.98)}

OPTIONS = {
    # From how many nodes on a gradient counts as large, and is relaxed in parts: 2^22 otherwise.
    "large_from": [N + 1, N, N - 9],
    "dtype": [torch.float32, torch.float64, torch.bfloat16],
    "optimizer": ["sgd", "adamw", "fused", "lbfgs"],
    "nulls": [(), ("gaussian",), ("gaussian_per_tensor", "permuted"), ("sign_flipped",)],
    "inline": [False, True],
    "sample": [None, 20, 1700],
    "estimate": [False, True],
    "topology": ["barabasi_albert", "ring", "random_regular", "erdos_renyi", "computational"],
    "every": [1, 3, gqt.logarithmic(5)],
    "study": [True, False],
    "loggers": [[], [ignore], [broken, ignore]],
    "pieces": [1, 2],
    "resumed": [False, True],
    "labels": [None, LABELS],
    "errors": ["warn", "raise"],
    "max_steps": [20, 1],
    "field": ["gradient", "both", "update"],
    "tensors": [False, True],
    "background": [False, True],
    "when_behind": ["wait", "skip"],
    "threads": [None, 2],
}
Case = namedtuple("Case", OPTIONS)


def possible(values):
    chosen = dict(zip(OPTIONS, values, strict=False))
    sampled = chosen.get("sample") is not None
    return not (
        (sampled and (chosen.get("inline") or chosen.get("topology") == "computational"))
        or (chosen.get("errors") == "raise" and broken in (chosen.get("loggers") or []))
        # AdamW fused has no bfloat16 on the CPU in all versions; LBFGS no scaler and no pieces.
        or (chosen.get("optimizer") == "lbfgs" and chosen.get("pieces") == 2)
        or (chosen.get("inline") and chosen.get("field") == "update")
        or (chosen.get("inline") and chosen.get("when_behind") == "skip")
        or (chosen.get("estimate") and not can_be_estimated(chosen))
    )


def can_be_estimated(chosen):
    return (
        chosen.get("sample", 1700) == 1700
        and chosen.get("topology", "random_regular") in ("random_regular", "erdos_renyi")
        and not chosen.get("tensors")
        and not chosen.get("inline")
    )


CASES = [Case(*values) for values in AllPairs(list(OPTIONS.values()), filter_func=possible)]

# The options of one measurement meet in every way, the others are fixed.
USUAL = {name: values[0] for name, values in OPTIONS.items()} | {"topology": "random_regular"}
MEETING = {
    "nulls": [(), ("gaussian", "permuted")],
    "sample": [None, 1700],
    "estimate": [False, True],
    "field": ["gradient", "update", "both"],
    "tensors": [False, True],
    "background": [False, True],
    "when_behind": ["wait", "skip"],
}
ALL_THAT_MEET = [
    Case(**chosen)
    for values in product(*MEETING.values())
    if possible((chosen := USUAL | dict(zip(MEETING, values, strict=True))).values())
    # Without a background, nothing is behind.
    and (chosen["background"] or chosen["when_behind"] == "wait")
]


def network(case):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)).to(case.dtype)


def optimizer_of(case, model):
    if case.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if case.optimizer == "lbfgs":
        return torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    return torch.optim.AdamW(model.parameters(), lr=0.01, fused=case.optimizer == "fused")


def flat_weights(model, dtype):
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return (flat if dtype == torch.float64 else flat.float()).numpy()


def train(case, model, optimizer, steps, quake=None, seen=None, updates=None):
    x = torch.linspace(-1, 1, 64).reshape(16, 4).to(case.dtype)

    def closure(step):
        optimizer.zero_grad()
        for part in x.chunk(case.pieces):
            loss = (model(part) - part[:, :1] * part[:, 1:2]).square().mean() / case.pieces
            loss.backward()
        if seen is not None and step not in seen:
            flat = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
            seen[step] = (flat if case.dtype == torch.float64 else flat.float()).numpy()
        return loss

    for step in steps:
        before = flat_weights(model, case.dtype)
        if case.optimizer == "lbfgs":
            loss = optimizer.step(partial(closure, step))
        else:
            loss = closure(step)
            optimizer.step()
        if updates is not None:
            updates[step] = flat_weights(model, case.dtype) - before
        if quake is not None:
            quake.log(loss=loss, note=step)
    return [parameter.detach().clone() for parameter in model.parameters()]


def settings(case):
    return {
        "every": case.every, "nulls": case.nulls, "inline": case.inline, "sample": case.sample,
        "loggers": case.loggers, "labels": case.labels, "errors": case.errors,
        "field": case.field, "tensors": case.tensors, "estimate": case.estimate,
        "when_behind": case.when_behind, "threads": case.threads,
        "probe": Probe(case.topology, max_steps=case.max_steps, seed=5 if case.labels else 0),
    }  # fmt: skip


def weights_without(case):
    """Train without a probe, or with nothing but what in-line training needs."""
    model = network(case)
    optimizer = optimizer_of(case, model)
    if not case.inline:
        return train(case, model, optimizer, range(STEPS))
    needed = {name: settings(case)[name] for name in ("inline", "probe", "labels")}
    with gqt.attach(model, optimizer, **needed):
        return train(case, model, optimizer, range(STEPS))


def picked_of(case):
    """Return the places of the entries that are measured, and the numbers of entries by tensor."""
    seed = 5 if case.labels else 0
    picked = np.arange(N) if case.sample is None else fixed_sample(N, case.sample, seed)
    named = {name: p.numel() for name, p in network(case).named_parameters()}
    owner = np.repeat(list(named), list(named.values()))[picked]
    return picked, {name: int((owner == name).sum()) for name in named if (owner == name).any()}


def graph_of(case, n):
    if case.topology == "computational":
        model = network(case)
        return neuron_graph(layouts(model, [name for name, _ in model.named_parameters()]))
    return build(case.topology, n, 5 if case.labels else 0)


def expected(case, gradient, step, name):
    """Return the avalanche of a gradient or its null from the core alone, with counts of tensors."""
    seed = 5 if case.labels else 0
    picked, tensors = picked_of(case)
    chosen = gradient[picked]
    if name != "real":
        chosen = surrogate(name, chosen, list(tensors.values()), seed=seed_at(seed, step))
    measured = Probe(graph_of(case, chosen.size), seed=seed, max_steps=case.max_steps)
    counted = tensors if case.tensors else None
    found = measured.measure(chosen, tensors=counted).measured()
    if case.estimate:
        # s / N of the whole is that of the sample.
        found |= {kind: round(found[kind] * N / case.sample) for kind in ("size", "area", "peak")}
        of_blocks = Probe(case.topology, seed=seed, max_steps=case.max_steps)
        found["size_error"] = size_error(of_blocks, chosen, N)
    return found


def check_runs(case, path, quake, field, steps, vectors):
    """The recorded run of a field and its nulls are those of the vectors that the training saw."""
    runs = {name: quake.dataset_of(name, field) for name in ("real", *case.nulls)}
    if path is not None:
        with open_study(path) as study:
            assert study.unfinished() == []
            real, nulls = study.with_nulls(field=field)
        assert real.identical(runs["real"])
        assert set(nulls) == set(case.nulls)
    for name, run in runs.items():
        assert run["epoch"].values.tolist() == steps
        assert run["size"].dtype == np.int64
        assert run["truncated"].dtype == bool
        assert (run.attrs["surrogate"], run.attrs["field"]) == (name, field)
        assert run["n_parameters"].item() == (case.sample if case.sample and not case.estimate else N)
        assert ("tensor" in run.dims) == case.tensors
        if case.tensors:
            assert (run["tensor_topplings"].sum("tensor") == run["size"]).all()
            assert (run["tensor_area"].sum("tensor") == run["area"]).all()
            assert int(run["tensor_entries"].sum()) == run["n_parameters"]
        for k, step in enumerate(steps):
            for kind, value in expected(case, vectors[step], step, name).items():
                assert run[kind].values[0, k].tolist() == value, (name, kind)
    assert runs["real"]["note"].values.tolist() == [steps]
    assert ("probe_copying" in runs["real"]) == (case.background and not case.inline)


def check_left_out(case, quakes, scheduled, measured):
    """Each scheduled step is measured, unless it came too early and was to be left out then."""
    left_out = sum(quake.left_out for quake in quakes)
    assert len(measured) + left_out == len(scheduled)
    assert set(measured) <= set(scheduled)
    if case.when_behind == "wait" or case.inline or not case.background:
        assert left_out == 0


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_every_pair_of_options(tmp_path, monkeypatch, case):
    check(tmp_path, monkeypatch, case)


@pytest.mark.parametrize("case", ALL_THAT_MEET, ids=range(len(ALL_THAT_MEET)))
def test_options_of_a_measurement_meet_in_every_way(tmp_path, monkeypatch, case):
    check(tmp_path, monkeypatch, case)


def check(tmp_path, monkeypatch, case):
    """Train with these options: weights, snapshots and warnings are those of the options."""
    monkeypatch.setattr(probe, "LARGE", case.large_from)
    monkeypatch.setattr(topologies, "CHEAP", case.large_from)
    monkeypatch.setattr(attaching, "runs_beside", lambda *_: case.background)
    path = tmp_path / "runs.sqlite" if case.study else None
    model, seen, updates = network(case), {}, {}
    optimizer = optimizer_of(case, model)
    parts = [range(RESUMED_AT), range(RESUMED_AT, STEPS)] if case.resumed else [range(STEPS)]
    quakes = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for part in parts:
            more = {"step": part.start} if case.resumed else {}
            quake = gqt.attach(model, optimizer, study=path, **settings(case), **more)
            quakes.append(quake)
            weights = train(case, model, optimizer, part, quake, seen, updates)
            quake.detach(finished=part.stop == STEPS)
    assert all(torch.equal(a, b) for a, b in zip(weights, weights_without(case), strict=True))

    chosen = case.every if callable(case.every) else gqt.every(case.every)
    first = 0 if case.study else parts[-1].start
    scheduled = [step for step in range(first, STEPS) if chosen(step)]
    steps = quake.dataset["epoch"].values.tolist()
    check_left_out(case, quakes if case.study else quakes[-1:], scheduled, steps)
    for field, vectors in {"gradient": seen, "update": updates}.items():
        if case.field in (field, "both"):
            check_runs(case, path, quake, field, steps, vectors)

    # Nothing is said but what each option has to say.
    kinds = {"labels": "kept as text", "logger": "a logger failed", "step": "are missing"}
    messages = [str(warning.message) for warning in said]
    assert [one for one in messages if not any(kind in one for kind in kinds.values())] == []
    assert any(kinds["labels"] in message for message in messages) == bool(case.labels)
    assert any(kinds["logger"] in message for message in messages) == (broken in case.loggers)


def test_a_really_large_gradient_and_a_study(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = nn.Module()
    model.p = nn.Parameter(torch.zeros(probe.LARGE + 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(0)
    with gqt.attach(
        model, optimizer, every=1, study=path, nulls=["permuted"], probe=Probe("ring", max_steps=2)
    ) as quake:
        for _ in range(2):
            model.p.grad = torch.exp(4 * torch.randn(model.p.shape))
            optimizer.step()
            quake.log(loss=1.0)
    with open_study(path) as study:
        real, nulls = study.with_nulls()
    assert real["truncated"].values.tolist() == [[True, True]]
    assert nulls["permuted"]["epoch"].values.tolist() == [0, 1]
