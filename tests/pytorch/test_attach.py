"""The probe in real training loops."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from loops import X, Y, flat, loss_of, network, same_weights, sgd, train
from torch import nn

import gradquake.torch as gqt
from gradquake import GradquakeError, InputError, Probe, StudyError, open_study
from gradquake.avalanche.cascade import MEASURED
from gradquake.avalanche.topologies import build, ring, square_lattice
from gradquake.torch.gradients import FlatGradient

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
    assert sum(part.tensors.values()) == 20
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
        graph = quake._tracks[0].measurement._probe.graph
        model(torch.tensor([[1, 2], [3, 4]])).square().sum().backward()
        optimizer.step()
    assert graph.n_nodes == quake.n_parameters
    assert graph.degrees.max() <= 4
    assert quake.latest["size"] == Probe(graph).measure(flat(model)).size


def own_ring(n, seed):  # noqa: ARG001
    return ring(n)


@pytest.mark.parametrize("graph", [ring(49), own_ring])
def test_a_graph_or_a_builder_of_your_own_is_measured_on_and_recorded_by_its_name(graph):
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, probe=Probe(graph=graph, alpha=0.2)) as quake:
        train(model, optimizer, 1)
    assert quake.latest["size"] == Probe("ring", alpha=0.2).measure(flat(model)).size
    name = f"{__name__}.own_ring" if graph is own_ring else f"graph:{ring(49).digest}"
    assert quake.dataset.attrs["topology"] == name
    assert quake.dataset.attrs["alpha"] == 0.2


def test_runs_on_two_graphs_are_two_runs_of_a_study(tmp_path):
    path = tmp_path / "runs.sqlite"
    graphs = ring(49), square_lattice(49)
    for graph in graphs:
        model = network()
        optimizer = sgd(model)
        with gqt.attach(model, optimizer, probe=Probe(graph=graph), study=path):
            train(model, optimizer, 1)
    names = sorted(f"graph:{graph.digest}" for graph in graphs)
    with open_study(path) as study:
        assert [study.select(topology=name).sizes["run"] for name in names] == [1, 1]
        with pytest.raises(StudyError, match=rf"holds 2 sweeps; .* topology \({', '.join(names)}\)$"):
            study.select()


def test_a_builder_without_a_name_is_refused_before_a_study_is_made(tmp_path):
    model = network()
    probe = Probe(graph=lambda n, seed: ring(n))  # noqa: ARG005
    with pytest.raises(InputError, match="which has no name to be recorded by"):
        gqt.attach(model, sgd(model), probe=probe, study=tmp_path / "runs.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_the_seed_is_that_of_the_probe_or_the_label():
    model = network()
    optimizer = sgd(model)
    for options in ({"probe": Probe(seed=5)}, {"labels": {"seed": 5}}):
        with gqt.attach(model, optimizer, **options) as quake:
            train(model, optimizer, 1)
        assert quake.latest["size"] == Probe(seed=5).measure(flat(model)).size
        assert (quake.config["seed"], quake.config["labels"]) == (5, {})


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
        assert 1 <= len(quake._tracks[0].vector.tensors) <= 3
        train(model, optimizer, 2)
    assert quake.dataset_of("permuted_within_tensor")["epoch"].values.tolist() == [0, 1]


def test_a_compiled_model_is_read_and_a_schedule_may_detach():
    model = network()
    compiled = torch.compile(model, backend="eager")
    optimizer = sgd(compiled)
    quake = gqt.attach(compiled, optimizer, every=lambda step: step < 2 or quake.detach())
    assert quake._tracks[0].vector.names == [name for name, _ in model.named_parameters()]
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
            "the label seed is 2 and the probe's seed is 1; make them equal, or give",
        ),
        (model, sgd(model), {"sample": 0}, "sample is 0"),
        (model, sgd(model), {"sample": 9, "inline": True}, "inline relaxes the whole gradient"),
        (model, sgd(model), {"when_behind": "skip", "inline": True}, "inline relaxes every gradient"),
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
        (
            model,
            sgd(model),
            {"sample": 9, "labels": {"total_parameters": 1}},
            "labels names total_par",
        ),
        (model, sgd(model), {"labels": {"seed": -1, "seed_given": 1}}, "labels names seed_given, which"),
        (
            model,
            sgd(model),
            {"labels": {"lr": 1, "width": 2}, "sweep": {"lr": 1}},
            "labels and sweep both name lr; a label tells runs of a sweep apart",
        ),
        (model, sgd(model), {"sweep": {"seed": 1}}, "sweep names seed, which gradquake records"),
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
