"""The probe in real training loops."""

import copy
import gc
import json
import os
import sqlite3
import subprocess
import sys
import time
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import gradquake.torch as gqt
from gradquake import GradquakeError, InputError, Probe, StudyError, open_study
from gradquake.avalanche.cascade import MEASURED
from gradquake.avalanche.topologies import build, ring
from gradquake.torch.gradients import FlatGradient

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


OPTIMIZERS = {
    "sgd": sgd,
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01),
    "fused": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, fused=True),
    "adagrad": lambda model: torch.optim.Adagrad(model.parameters(), lr=0.01),
}


# What is measured


def test_every_snapshot_is_the_avalanche_of_the_gradient_that_the_optimizer_uses():
    model, seen = network(), {}
    optimizer = sgd(model)
    optimizer.register_step_pre_hook(lambda *_: seen.update({len(seen): flat(model)}))
    with gqt.attach(model, optimizer, every=2, labels={"seed": 3}, nulls=["permuted"]) as quake:
        train(model, optimizer, 7, quake)
    data = quake.dataset
    assert data["epoch"].values.tolist() == [0, 2, 4, 6]
    assert data.sizes["run"] == 1
    graph = build("barabasi_albert", quake.n_parameters, 3)
    for step in (0, 2, 4, 6):
        avalanche = Probe(graph, seed=3).measure(seen[step])
        at = data.isel(run=0).sel(epoch=step)
        assert at["size"] == avalanche.size
        assert at["threshold"] == avalanche.threshold
        assert at["deviation"] == avalanche.deviation
        assert float(at["gradient_norm"]) == pytest.approx(np.linalg.norm(seen[step].astype(float)))
    null = quake.dataset_of("permuted")
    assert null.attrs["surrogate"] == "permuted"
    assert (null["threshold"].values == data["threshold"].values).all()
    assert set(null.data_vars) == set(MEASURED)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_shadow_leaves_training_as_it_was_bit_for_bit(name):
    models = [network(), network()]
    with_probe = OPTIMIZERS[name](models[1])
    state = torch.get_rng_state()
    with gqt.attach(models[1], with_probe, every=1, nulls=["gaussian", "permuted", "sign_flipped"]):
        assert torch.equal(torch.get_rng_state(), state)
        train(models[1], with_probe, 20)
    train(models[0], OPTIMIZERS[name](models[0]), 20)
    assert same_weights(*models)


def test_dropout_and_shuffling_draw_the_same_numbers_with_and_without():
    def run(probe):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        quake = gqt.attach(model, optimizer, every=1, sample=10) if probe else None
        for batch in torch.utils.data.DataLoader(X, batch_size=4, shuffle=True):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
        if quake:
            quake.detach()
        return model

    assert same_weights(run(True), run(False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inline_gives_the_optimizer_the_relaxed_gradient_at_every_step(dtype):
    probed, by_hand = network().to(dtype), network().to(dtype)
    x, y = X.to(dtype), Y.to(dtype)
    optimizers = [sgd(probed), sgd(by_hand)]
    probe = Probe(alpha=0.4, seed=2)
    with gqt.attach(probed, optimizers[0], every=3, inline=True, probe=probe) as quake:
        for _ in range(7):
            for model, optimizer in zip((probed, by_hand), optimizers, strict=True):
                optimizer.zero_grad()
                loss_of(model, x, y).backward()
            relaxed = torch.from_numpy(probe.measure(flat(by_hand)).relaxed)
            parts = relaxed.split([p.numel() for p in by_hand.parameters()])
            for p, part in zip(by_hand.parameters(), parts, strict=True):
                p.grad = part.reshape(p.shape).clone()
            for optimizer in optimizers:
                optimizer.step()
    assert same_weights(probed, by_hand)
    assert not same_weights(probed, train(network().to(dtype), sgd(network()), 0))
    assert quake.dataset["epoch"].values.tolist() == [0, 3, 6]
    assert quake.dataset.attrs["alpha_train"] == 0.4


def test_accumulated_gradients_are_measured_once_and_whole():
    whole, parts = network(), network()
    results = []
    for model, pieces in ((whole, 1), (parts, 4)):
        optimizer = sgd(model)
        with gqt.attach(model, optimizer, every=1) as quake:
            for _ in range(3):
                optimizer.zero_grad()
                for x, y in zip(X.double().chunk(pieces), Y.double().chunk(pieces), strict=True):
                    (loss_of(model, x.float(), y.float()) / pieces).backward()
                optimizer.step()
        results.append(quake.dataset)
    assert results[1]["epoch"].values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(
        results[0]["gradient_norm"].values, results[1]["gradient_norm"].values, rtol=1e-5
    )


def test_clipping_by_norm_scales_the_threshold_and_nothing_else():
    sizes, thresholds, norms = [], [], []
    for clip in (False, True):
        model = network()
        optimizer = sgd(model)
        with gqt.attach(model, optimizer, every=1) as quake:
            loss_of(model).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 2.0**-6)
            optimizer.step()
        sizes.append(quake.latest["size"])
        thresholds.append(quake.latest["threshold"])
        norms.append(quake.latest["gradient_norm"])
    assert sizes[0] == sizes[1]
    assert norms[1] == pytest.approx(2.0**-6, rel=1e-4)
    assert thresholds[1] / thresholds[0] == pytest.approx(norms[1] / norms[0], rel=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_mixed_precision_measures_unscaled_gradients_and_no_skipped_step(fused):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    weights = []
    with gqt.attach(model, optimizer, every=1) as quake:
        for step in range(5):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(model)
            scaler.scale(loss).backward()
            if step == 2:
                next(model.parameters()).grad[0, 0] = torch.inf
            else:
                unscaled = flat(model) / scaler.get_scale()
                wanted = float(np.linalg.norm(unscaled.astype(float)))
            scaler.step(optimizer)
            scaler.update()
            weights.append(copy.deepcopy(model.state_dict()))
            if step != 2:
                assert quake.latest["gradient_norm"] == pytest.approx(wanted, rel=1e-5)
    assert all(torch.equal(weights[1][k], weights[2][k]) for k in weights[1])
    assert quake.dataset["epoch"].values.tolist() == [0, 1, 2, 3]
    assert quake.skipped == 0


def test_inline_under_a_fused_scaler_relaxes_what_the_optimizer_unscales():
    ends = []
    for fused in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=1000)
        with gqt.attach(model, optimizer, every=1, inline=True):
            for _ in range(4):
                optimizer.zero_grad()
                scaler.scale(loss_of(model)).backward()
                scaler.step(optimizer)
                scaler.update()
        ends.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    torch.testing.assert_close(*ends)


def test_groups_frozen_parameters_and_parameters_without_gradient():
    model = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(6, 1), "unused": nn.Linear(3, 3)})
    model["a"].bias.requires_grad_(False)
    groups = [{"params": model["b"].parameters(), "lr": 0.1}, {"params": model["unused"].parameters()}]
    groups.append({"params": model["a"].parameters(), "weight_decay": 0.1})
    optimizer = torch.optim.SGD(groups, lr=0.5)
    read = FlatGradient(model, optimizer)
    assert read.names == ["a.weight", "b.weight", "b.bias", "unused.weight", "unused.bias"]
    with gqt.attach(model, optimizer, every=1) as quake:
        model["b"](torch.tanh(model["a"](X))).square().mean().backward()
        assert read.read()
        assert (read.vector[-12:] == 0).all()
        optimizer.step()
    assert quake.n_parameters == 24 + 6 + 1 + 9 + 3
    gradient = read.vector.numpy()
    assert quake.latest["size"] == Probe().measure(gradient).size
    assert torch.equal(read.vector[:24], model["a"].weight.grad.reshape(-1))


def test_lbfgs_is_measured_at_the_first_evaluation_of_each_step():
    models, firsts = [network(), network()], []
    for probed, model in enumerate(models):
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
        evaluations = []

        def closure(model=model, optimizer=optimizer, evaluations=evaluations):
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            evaluations.append(flat(model))
            return loss

        quake = gqt.attach(model, optimizer, every=1) if probed else None
        for _ in range(3):
            evaluations.clear()
            optimizer.step(closure)
            if probed:
                firsts.append(evaluations[0].copy())
                assert len(evaluations) > 1
                assert quake.latest["size"] == Probe().measure(evaluations[0]).size
                expected = np.linalg.norm(evaluations[0].astype(float))
                assert quake.latest["gradient_norm"] == pytest.approx(expected)
        if probed:
            quake.detach()
            assert quake.dataset["epoch"].values.tolist() == [0, 1, 2]
    assert same_weights(*models)


def test_sparse_gradients_are_measured_as_dense_ones_and_refused_inline():
    sizes = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Embedding(20, 5, sparse=sparse)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with gqt.attach(model, optimizer, every=1) as quake:
            model(torch.tensor([1, 3, 3, 7])).square().sum().backward()
            optimizer.step()
        sizes.append((quake.latest["size"], quake.latest["threshold"]))
    assert sizes[0] == sizes[1]
    with pytest.raises(InputError, match="has sparse gradients; in-line relaxation needs dense"):
        gqt.attach(model, optimizer, inline=True)


def test_a_gradient_that_is_not_finite_is_left_out_and_said():
    model = network()
    optimizer = sgd(model, lr=0.0)
    quake = gqt.attach(model, optimizer, every=1)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model).backward()
        if step == 1:
            next(model.parameters()).grad[0, 0] = torch.nan
        optimizer.step()
        model.load_state_dict(network().state_dict())
    with pytest.warns(UserWarning, match=r"1 step was not measured, the first at step 1: .*not finite"):
        quake.detach()
    assert quake.dataset["epoch"].values.tolist() == [0, 2]
    assert quake.skipped == 1


def test_a_step_without_any_gradient_is_said():
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1)
    optimizer.step()
    with pytest.warns(UserWarning, match="the first at step 0: no parameter had a gradient"):
        quake.detach()


def test_a_sample_is_a_fixed_subset_of_the_whole_and_recorded_as_such():
    model = network()
    optimizer = sgd(model)
    loss_of(model).backward()
    whole, part = FlatGradient(model, optimizer), FlatGradient(model, optimizer, None, 20, seed=4)
    again = FlatGradient(model, optimizer, None, 20, seed=4)
    for gradient in (whole, part, again):
        gradient.read()
    assert torch.equal(part.vector, again.vector)
    assert set(part.vector.tolist()) <= set(whole.vector.tolist())
    assert part.n_parameters == 20
    assert part.total == whole.n_parameters
    assert sum(part.tensors) == 20
    with gqt.attach(model, optimizer, sample=20, labels={"seed": 4}) as quake:
        optimizer.step()
    assert quake.latest["size"] == Probe(seed=4).measure(part.vector.numpy()).size
    assert quake.dataset.attrs["sample"] == 20
    assert quake.dataset["total_parameters"].item() == whole.n_parameters
    assert quake.dataset["n_parameters"].item() == 20


def test_a_sample_of_all_or_more_is_the_whole():
    model = network()
    gradient = FlatGradient(model, sgd(model), None, 10**6)
    assert gradient.n_parameters == gradient.total == sum(p.numel() for p in model.parameters())


def test_a_filter_chooses_by_name():
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, parameters=lambda name: name.endswith("weight")) as quake:
        train(model, optimizer, 1)
    assert quake.n_parameters == 4 * 8 + 8
    assert quake.dataset.attrs["filtered"] == 1


def test_the_computational_topology_of_any_module():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(11, 6), nn.LayerNorm(6), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, probe=Probe(graph="computational")) as quake:
        graph = quake._measurement._probe.graph
        model(torch.tensor([[1, 2], [3, 4]])).square().sum().backward()
        optimizer.step()
    assert graph.n_nodes == quake.n_parameters
    assert graph.degrees.max() <= 4
    assert quake.latest["size"] == Probe(graph).measure(flat(model)).size


def test_wrapped_models_are_read_by_the_names_inside():
    model = network()
    wrapped = nn.DataParallel(model)
    assert FlatGradient(wrapped, sgd(wrapped)).names == [n for n, _ in model.named_parameters()]


# Outcomes, schedules, loggers


def test_outcomes_go_to_the_newest_snapshot_and_the_first_success_is_kept_exactly():
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=4, grokked_at=0.9) as quake:
        quake.log(note=0.5)
        for step in range(10):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
            quake.log(accuracy=torch.tensor(min(step / 7, 1)), note=float(step))
    data = quake.dataset.isel(run=0)
    assert data["accuracy"].values.tolist() == pytest.approx([0, 4 / 7, 1])
    assert data["note"].values.tolist() == [0.5, 4, 8]
    assert data["grokking_epoch"].item() == 7


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ({"size": 3}, "size is measured by gradquake; another name is needed"),
        ({"loss": torch.zeros(2)}, r"loss is .*; one number is needed"),
        ({"loss": "low"}, "loss is 'low'; one number is needed"),
        ({"seed": 3}, "seed is a label of runs; another name is needed"),
        ({"width": 3}, "width is a label of runs; another name is needed"),
        ({"lr": 3}, "lr is a label of runs; another name is needed"),
    ],
)
def test_bad_outcomes_are_left_out_with_one_sentence_each(outcomes, sentence):
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, labels={"lr": 0.5})
    train(model, optimizer, 1)
    with pytest.warns(UserWarning, match=f"was not kept: {sentence}"):
        quake.log(note=1, **outcomes)
    quake.log(**outcomes)
    assert quake.dataset["note"].item() == 1
    quake.detach()
    with pytest.warns(UserWarning, match="note was not kept: the probe is detached"):
        quake.log(note=1)


def test_bad_outcomes_are_raised_if_that_is_wanted():
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=1, errors="raise") as quake:
        train(model, optimizer, 1)
        with pytest.raises(InputError, match="loss is 'low'; one number is needed"):
            quake.log(loss="low")


def test_schedules():
    assert [s for s in range(25) if gqt.every(10)(s)] == [0, 10, 20]
    chosen = [s for s in range(1001) if gqt.logarithmic(5)(s)]
    assert chosen == [0, 1, 2, 3, 4, 6, 10, 16, 25, 40, 63, 100, 158, 251, 398, 631, 1000]
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=lambda step: step in (1, 4)) as quake:
        train(model, optimizer)
    assert quake.dataset["epoch"].values.tolist() == [1, 4]


def test_a_function_as_logger_gets_the_scalars():
    lines = []
    model = network()
    optimizer = sgd(model)
    with gqt.attach(
        model, optimizer, every=2, nulls=["gaussian"], loggers=[lambda s, step: lines.append((step, s))]
    ) as quake:
        train(model, optimizer, 3, quake)
    assert [step for step, _ in lines] == [0, 0, 2, 2]
    first, logged = lines[0][1], lines[1][1]
    assert first["gradquake/size_per_parameter"] == first["gradquake/size"] / quake.n_parameters
    assert "gradquake/gaussian_size_per_parameter" in first
    assert set(logged) == {"gradquake/loss"}


# The study


def test_runs_of_three_sizes_make_a_sweep_with_its_nulls(tmp_path):
    path = tmp_path / "runs.sqlite"
    for width in (4, 8, 16):
        for seed in range(2):
            model = network(seed, width)
            optimizer = sgd(model)
            labels = {"width": width, "seed": seed}
            with gqt.attach(
                model, optimizer, every=2, study=path, labels=labels, nulls=["permuted"]
            ) as quake:
                train(model, optimizer, 5, quake)
    with open_study(path) as study:
        real, null = study.select(surrogate="real"), study.select(surrogate="permuted")
        assert study.unfinished() == []
    assert real["width"].values.tolist() == [4, 4, 8, 8, 16, 16]
    assert real["seed"].values.tolist() == [0, 1] * 3
    assert real["epoch"].values.tolist() == [0, 2, 4]
    assert np.isfinite(real["loss"].values).all()
    assert (null["threshold"].values == real["threshold"].values).all()


def test_surrogates_of_a_step_do_not_depend_on_which_steps_are_measured():
    found = []
    for every in (1, 3):
        model = network()
        optimizer = sgd(model)
        with gqt.attach(model, optimizer, every=every, nulls=["permuted"]) as quake:
            train(model, optimizer)
        found.append(quake.dataset_of("permuted")["size"].sel(epoch=[0, 3]).values)
    np.testing.assert_array_equal(*found)


def test_an_interrupted_run_stays_and_is_continued_to_the_same_numbers(tmp_path):
    def attach(model, optimizer, path, **more):
        return gqt.attach(model, optimizer, every=2, study=path, nulls=["permuted"], **more)

    model = network()
    optimizer = sgd(model)
    with attach(model, optimizer, tmp_path / "whole.sqlite") as quake:
        train(model, optimizer, 10, quake)

    path, model = tmp_path / "parts.sqlite", network()
    optimizer = sgd(model)
    with pytest.raises(KeyboardInterrupt), attach(model, optimizer, path) as quake:  # noqa: PT012
        train(model, optimizer, 4, quake)
        checkpoint = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        train(model, optimizer, 3, quake)
        raise KeyboardInterrupt
    with open_study(path) as study:
        assert [r.epochs.tolist() for r in study.unfinished()] == [[0, 2, 4, 6]] * 2
    with pytest.raises(StudyError, match="measured to step 6; give the step to continue it from"):
        attach(model, optimizer, path)
    model.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    with attach(model, optimizer, path, step=4) as quake:
        train(model, optimizer, 6, quake)
    for rung in ("real", "permuted"):
        whole, parts = (open_study(p).select(surrogate=rung) for p in (tmp_path / "whole.sqlite", path))
        assert whole.identical(parts)
    with pytest.raises(
        StudyError, match=r"holds the finished run seed=0 already; to .* another label or"
    ):
        attach(model, optimizer, path)


def until(found, wanted, seconds=60):
    """Look again and again until what is found is what is wanted."""
    end = time.monotonic() + seconds
    while (last := found()) != wanted:
        assert time.monotonic() < end, f"{last} is not {wanted}"
        time.sleep(0.05)


def unfinished_steps(path):
    if not path.exists():
        return []
    with open_study(path) as study:
        return [record.epochs.tolist() for record in study.unfinished()]


def test_a_process_killed_in_a_lull_leaves_all_that_it_measured(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = f"""
import time
import torch, gradquake.torch as gqt
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
quake = gqt.attach(model, optimizer, every=1, study={str(path)!r})
for step in range(3):
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    quake.log(loss=float(step))
time.sleep(600)
"""
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    try:
        until(lambda: unfinished_steps(path), [[0, 1, 2]])
    finally:
        running.kill()
        assert running.communicate()[1] == b""
    with open_study(path) as study:
        (found,) = study.unfinished()
    assert found.values["loss"].tolist() == [0, 1, 2]


def test_what_is_missing_before_a_continued_run_is_said(tmp_path):
    path = tmp_path / "runs.sqlite"

    model = network()
    parts = model, sgd(model)

    def attach(step, every=10, **more):
        return gqt.attach(*parts, every=every, study=path, step=step, **more)

    attach(0).detach(finished=False)
    said = (
        r"runs.sqlite holds no earlier snapshot of the run seed=0; it begins at step 20, and the steps"
    )
    with pytest.warns(UserWarning, match=said):
        quake = attach(20)
    train(*parts, 1)
    quake.detach(finished=False)
    attach(30).detach(finished=False)
    said = "holds the run seed=0 to step 20; it is continued at 31, and the steps between are missing"
    with pytest.warns(UserWarning, match=said):
        attach(31).detach(finished=False)
    with pytest.warns(UserWarning, match="no earlier snapshot of the run width=3, seed=0; it begins"):
        attach(5, gqt.logarithmic(5), labels={"width": 3}).detach(finished=False)


def test_a_script_that_forgets_to_detach_leaves_what_it_measured(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = f"""
import torch, gradquake.torch as gqt
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
quake = gqt.attach(model, optimizer, every=1, study={str(path)!r})
for _ in range(3):
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with open_study(path) as study:
        assert [found.epochs.tolist() for found in study.unfinished()] == [[0, 1, 2]]


def test_measurements_reach_the_study_while_nothing_steps(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)

    def written():
        with open_study(path) as study:
            return [record.values["loss"].tolist() for record in study.unfinished()]

    with gqt.attach(model, optimizer, every=1, study=path) as quake:
        for losses in ([0.5], [0.5, 0.25]):
            train(model, optimizer, 1)
            quake.log(loss=losses[-1])
            until(written, [losses])
    assert quake._journal._thread is None or not quake._journal._thread.is_alive()


def studied(tmp_path, **more):
    """A study, a place to move it away to, and a network whose every step is measured into it."""
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=path, **more)
    return path, tmp_path / "away", model, optimizer, quake


def test_the_first_success_is_written_where_no_snapshot_follows(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=100, study=path) as quake:
        train(model, optimizer, 1)
        assert quake.dataset.sizes["epoch"] == 1
        train(model, optimizer, 1)
        quake.log(accuracy=0.5)
        train(model, optimizer, 1)
        quake.log(accuracy=1.0)
    with open_study(path) as study:
        assert study.dataset["grokking_epoch"].item() == 2


def test_a_study_that_cannot_be_written_is_said_once_and_written_when_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr("gradquake.torch.journal.FLUSH_EVERY", 0.05)
    path, away, model, optimizer, quake = studied(tmp_path)
    train(model, optimizer, 3, quake)
    until(lambda: unfinished_steps(path), [[0, 1, 2]])
    path.rename(away)

    def go_on():
        train(model, optimizer, 3, quake)
        until(lambda: quake._journal._failing, True)
        time.sleep(0.3)
        train(model, optimizer, 3, quake)

    with pytest.warns(UserWarning, match=r"does not exist.*measurements stay in memory") as said:
        go_on()
    assert len(said) == 1
    away.rename(path)
    until(lambda: unfinished_steps(path), [list(range(9))])
    quake.detach()
    with open_study(path) as study:
        assert np.isfinite(study.dataset["loss"].values).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_writes_nothing_and_hangs_on_nothing(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=1, study=path) as quake:
        for steps in (3, 2):
            train(model, optimizer, steps, quake)
            child = os.fork()
            if child == 0:
                try:
                    with warnings.catch_warnings(record=True) as said:
                        warnings.simplefilter("always")
                        optimizer.step()  # autograd's threads are the parent's
                        optimizer.step()
                        quake.detach()
                    with open_study(path) as study:
                        study.records()
                    os._exit(len(said) != 1 or "was forked" not in str(said[0].message))
                finally:
                    os._exit(9)
            assert os.waitpid(child, 0)[1] == 0
        for batch in torch.utils.data.DataLoader(X, batch_size=4, num_workers=2):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(9))


def test_a_run_has_one_writer(tmp_path):
    path = tmp_path / "runs.sqlite"
    model, other = network(), network()
    optimizer = sgd(model)
    first = gqt.attach(model, optimizer, study=path)
    train(model, optimizer, 1)
    second = gqt.attach(other, sgd(other), study=path)
    with pytest.warns(UserWarning, match="another process continued it"):
        first.detach(finished=False)
    second.detach()


def test_the_first_success_survives_an_interruption(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=path)
    for accuracy in (0.5, 1.0, 1.0):
        train(model, optimizer, 1)
        quake.log(accuracy=accuracy)
    quake.detach(finished=False)
    with gqt.attach(model, optimizer, every=1, study=path, step=np.int64(3)) as quake:
        train(model, optimizer, 1)
        quake.log(accuracy=1.0)
    with open_study(path) as study:
        assert study.dataset["grokking_epoch"].values.tolist() == [1]
        assert study.dataset["epoch"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("errors", ["warn", "raise"])
def test_detach_tries_again_where_it_failed(tmp_path, errors):
    path, away, model, optimizer, quake = studied(tmp_path, errors=errors)
    train(model, optimizer, 3, quake)
    path.rename(away)
    if errors == "warn":
        with pytest.warns(UserWarning, match=r"does not exist; .* detach\(\) tries again"):
            quake.__exit__(None, None, None)
        with pytest.warns(UserWarning, match="does not exist"):
            quake.detach()
    else:
        with pytest.raises(StudyError, match="does not exist"):
            quake.detach()
    away.rename(path)
    quake.detach()
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == [0, 1, 2]
        assert study.unfinished() == []


def test_settings_may_be_numpy_numbers(tmp_path):
    model = network()
    optimizer = sgd(model)
    with gqt.attach(
        model, optimizer, every=np.int64(2), study=tmp_path / "s", labels={"lr": np.float32(0.5)},
        probe=Probe(alpha=np.float32(0.25), max_steps=np.int64(20)), sample=np.int64(9),
        grokked_at=np.float32(1),
    ) as quake:  # fmt: skip
        train(model, optimizer, 3)
    assert quake.dataset.attrs["every"] == 2
    assert quake.dataset["epoch"].values.tolist() == [0, 2]


def test_a_sample_that_leaves_tensors_empty_has_nulls_within_tensors():
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=1, sample=3, nulls=["permuted_within_tensor"]) as quake:
        assert 1 <= len(quake._gradient.tensors) <= 3
        train(model, optimizer, 2)
    assert quake.dataset_of("permuted_within_tensor")["epoch"].values.tolist() == [0, 1]


def test_a_compiled_model_is_read_and_a_schedule_may_detach():
    model = network()
    compiled = torch.compile(model, backend="eager")
    optimizer = sgd(compiled)
    quake = gqt.attach(compiled, optimizer, every=lambda step: step < 2 or quake.detach())
    assert quake._gradient.names == [name for name, _ in model.named_parameters()]
    train(compiled, optimizer, 4)
    assert quake.dataset["epoch"].values.tolist() == [0, 1]


# What it leaves behind


@pytest.mark.parametrize("study", [None, "runs.sqlite"])
def test_no_reference_to_the_model_outlives_detach(tmp_path, study):
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(
        model, optimizer, every=1, nulls=["permuted"], probe=Probe(graph="computational"),
        study=study and tmp_path / study,
    )  # fmt: skip
    train(model, optimizer, 3, quake)
    quake.detach()
    quake.detach()
    gone = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(next(model.parameters()))]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert quake.dataset.sizes["epoch"] == 3
    assert repr(quake) == "Quake(N=49, step=3, not attached)"


def test_after_detach_nothing_is_measured():
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1)
    train(model, optimizer, 2)
    quake.detach()
    train(model, optimizer, 2)
    assert quake.step == 2


def test_memory_does_not_grow_over_100_000_steps(tmp_path):
    code = f"""
import json, os, torch, gradquake.torch as gqt
torch.set_num_threads(1)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
for p in model.parameters():
    p.grad = torch.randn(p.shape)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
with gqt.attach(model, optimizer, every=10, study={str(tmp_path / "r.sqlite")!r}) as quake:
    for step in range(100_000):
        optimizer.step()
        quake.log(loss=0.5)
        if step == 20_000:
            before = resident()
    print(json.dumps([before, resident()]))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = json.loads(out.stdout)
    # 8,000 snapshots are as many kilobytes; a thread that writes has a little memory of its own.
    assert after - before < 6 * 2**20
    with open_study(tmp_path / "r.sqlite") as study:
        assert study.dataset.sizes["epoch"] == 10_000


# Bad input


def test_bad_models_and_optimizers_get_one_sentence():
    model, other = network(), network()
    frozen = network()
    frozen.requires_grad_(False)
    complex_model = nn.Module()
    complex_model.weight = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    lazy = nn.LazyLinear(3)
    cases = [
        (model, sgd(other), {}, "the optimizer updates no parameter of this model"),
        (frozen, sgd(frozen), {}, "all parameters are frozen"),
        (complex_model, sgd(complex_model), {}, "weight has dtype torch.complex64"),
        (lazy, torch.optim.SGD(lazy.parameters(), lr=1), {}, "weight has no shape yet; run the model"),
        (model, "adam", {}, "the optimizer is a str; a torch.optim.Optimizer is needed"),
        (model, sgd(model), {"every": 0}, "every is 0; an integer of at least 1 is needed"),
        (model, sgd(model), {"every": "often"}, "every is 'often'; a number of steps or a function"),
        (model, sgd(model), {"nulls": ["white"]}, "a null is 'white'; one of gaussian, "),
        (model, sgd(model), {"probe": "ring"}, "probe is 'ring'; a gradquake.Probe is needed"),
        (
            model,
            sgd(model),
            {"probe": Probe(ring(9))},
            "the gradient has 49 entries and the graph 9 nodes",
        ),
        (
            model,
            sgd(model),
            {"probe": Probe(seed=1), "labels": {"seed": 2}},
            "the label seed is 2 and the probe's seed is 1; make the probe with seed=2, or give",
        ),
        (model, sgd(model), {"sample": 0}, "sample is 0"),
        (model, sgd(model), {"sample": 9, "inline": True}, "inline relaxes the whole gradient"),
        (
            model,
            sgd(model),
            {"sample": 9, "probe": Probe(graph="computational")},
            "cannot be drawn on a sample",
        ),
        (model, sgd(model), {"labels": {3: 1}}, "labels has the name 3; a name is text"),
        (model, sgd(model), {"labels": [1]}, r"labels is \[1\]; a mapping of names is needed"),
        (model, sgd(model), {"step": -3}, "step is -3; an integer of at least 0 is needed"),
        (model, sgd(model), {"step": 1.5}, "step is 1.5; an integer of at least 0 is needed"),
        (model, sgd(model), {"nulls": "gaussian"}, "nulls is 'gaussian'; a list of names is needed"),
        (model, sgd(model), {"parameters": 3}, "parameters is 3; a function of a parameter's name"),
        (model, sgd(model), {"loggers": print}, "a list of loggers is needed"),
        (model, sgd(model), {"study": 3}, "study is 3; a path is needed"),
        ("model", sgd(model), {}, "the model is a str; a torch.nn.Module is needed"),
        (model, sgd(model), {"labels": {"size": 1}}, "labels names size, which gradquake records"),
        (model, sgd(model), {"labels": {"seed": 1.5}}, r"seed is 1.5; an integer from 0 to 2\^63 - 1"),
        (model, sgd(model), {"labels": {"seed": "x"}}, r"seed is 'x'; an integer from 0 to 2\^63 - 1"),
        (model, sgd(model), {"errors": "ignore"}, "errors is 'ignore'; 'warn' or 'raise' is needed"),
        (model, sgd(model), {"sweep": {"alpha": 1}}, "sweep names alpha, which gradquake records"),
        (model, sgd(model), {"loggers": [3]}, "a logger is an int; a SummaryWriter"),
        (model, sgd(model), {"parameters": lambda _: False}, "the filter chooses none of the 4"),
    ]
    for of, optimizer, more, sentence in cases:
        with pytest.raises(GradquakeError, match=sentence):
            gqt.attach(of, optimizer, **more)


def test_a_refused_attachment_leaves_no_study(tmp_path):
    model = network()
    with pytest.raises(InputError):
        gqt.attach(model, sgd(model), study=tmp_path / "r.sqlite", probe=7)
    assert not (tmp_path / "r.sqlite").exists()


def test_several_processes_write_to_one_study(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = """
import sys, torch, gradquake.torch as gqt
width = int(sys.argv[1])
model = torch.nn.Linear(4, width)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with gqt.attach(model, optimizer, every=1, study=sys.argv[2], labels={"width": width}):
    for _ in range(200):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(w), str(path)], stderr=subprocess.PIPE)
        for w in (2, 3, 4)
    ]
    assert [process.communicate()[1] for process in running] == [b""] * 3
    with open_study(path) as study:
        assert study.dataset["width"].values.tolist() == [2, 3, 4]
        assert study.dataset["size"].shape == (3, 200)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
