"""What an optimizer adds to the parameters at a step, measured around the step."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from loops import loss_of, network, same_weights, sgd, train
from torch import nn

import gradquake.torch as gqt
from gradquake import Probe, open_study
from gradquake.errors import InputError, StudyError
from gradquake.torch import attaching
from gradquake.torch.updates import FlatUpdate


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()


def updates_of(model, optimizer, steps, closure=None):
    """Train, and return what each step added."""
    found = []
    for _ in range(steps):
        before = weights(model)
        if closure is None:
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
        else:
            optimizer.step(closure)
        found.append(weights(model) - before)
    return found


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "rprop": lambda p: torch.optim.Rprop(p),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_update_of_any_optimizer(name):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    with gqt.attach(model, optimizer, every=2, field="update", tensors=True) as quake:
        added = updates_of(model, optimizer, 5)
    run = quake.dataset
    assert run["epoch"].values.tolist() == [0, 2, 4]
    assert run.attrs["field"] == "update"
    lengths = {name: p.numel() for name, p in model.named_parameters()}
    for k, update in enumerate(added[::2]):
        expected = Probe().measure(update, tensors=lengths)
        assert int(run["size"][0, k]) == expected.size
        assert run["tensor_topplings"].values[0, k].tolist() == expected.tensors.topplings.tolist()
        norm = np.linalg.norm(update.astype(np.float64))
        assert float(run["update_norm"][0, k]) == pytest.approx(norm, rel=1e-6)
    # The same weights as without a probe.
    alone = network()
    updates_of(alone, OPTIMIZERS[name](alone.parameters()), 5)
    assert same_weights(alone, model)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon")
def test_the_update_of_muon():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 1, bias=False))
    optimizer = torch.optim.Muon(model.parameters(), lr=0.01)
    with gqt.attach(model, optimizer, every=1, field="both") as quake:
        added = updates_of(model, optimizer, 3)
    sizes = quake.dataset_of("real", "update")["size"].values[0].tolist()
    assert sizes == [Probe().measure(update).size for update in added]


def test_a_closure_that_is_evaluated_several_times():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    with gqt.attach(model, optimizer, every=1, field="both") as quake:
        added = updates_of(model, optimizer, 3, closure)
    assert quake.dataset_of("real", "gradient").sizes["epoch"] == 3
    sizes = quake.dataset_of("real", "update")["size"].values[0].tolist()
    assert sizes == [Probe().measure(update).size for update in added]


def test_both_are_two_runs_of_one_study_with_outcomes_and_nulls(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    options = {"labels": {"width": 8}, "nulls": ["permuted", "gaussian"], "tensors": True}
    with gqt.attach(model, optimizer, every=2, study=path, field="both", **options) as quake:
        train(model, optimizer, quake=quake)
        assert "update_norm" not in quake.latest
    with open_study(path) as study:
        assert {sweep["field"] for sweep in study.sweeps} == {"gradient", "update"}
        assert len(study.sweeps) == 6
        for field in ("gradient", "update"):
            real, nulls = study.with_nulls(field=field)
            assert real.identical(quake.dataset_of("real", field))
            assert set(nulls) == {"permuted", "gaussian"}
            assert nulls["permuted"]["tensor_above"].shape == (1, 3, 4)
            assert not np.isnan(real["loss"]).any()
            assert real["grokking_epoch"].shape == (1,)
    # A Gaussian null depends on the step and N alone.
    same = [quake.dataset_of("gaussian", field)["size"].values for field in ("gradient", "update")]
    assert same[0].tolist() == same[1].tolist()


def test_frozen_parameters_are_left_out_and_those_without_a_gradient_add_nothing():
    model = nn.Sequential(network(), nn.Linear(3, 3), nn.Linear(2, 2))
    model[2].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gqt.attach(model, optimizer, every=1, field="update", tensors=True) as quake:
        loss_of(model[0]).backward()
        optimizer.step()
    run = quake.dataset.isel(run=0, epoch=0)
    assert "2.weight" not in run["tensor"].values
    assert int(run["tensor_above"].sel(tensor="1.weight")) == 0
    assert int(run["n_parameters"]) == 49 + 12


def test_a_step_that_adds_nothing_is_an_avalanche_of_size_zero():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gqt.attach(model, optimizer, every=1, field="update", tensors=True) as quake:
        train(model, optimizer, steps=2)
    assert quake.dataset["size"].values.tolist() == [[0, 0]]
    assert not quake.dataset["tensor_topplings"].values.any()


def scaled(model, optimizer, scaler, factor=1.0):
    optimizer.zero_grad()
    scaler.scale(loss_of(model) * factor).backward()
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips_have_no_update(fused):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with gqt.attach(model, optimizer, every=1, field="both") as quake:
        scaled(model, optimizer, scaler)
        scaled(model, optimizer, scaler, float("inf"))
        before = weights(model)
        scaled(model, optimizer, scaler)
        added = weights(model) - before
    for field in ("gradient", "update"):
        assert quake.dataset_of("real", field)["epoch"].values.tolist() == [0, 1]
    found = quake.dataset_of("real", "update")["size"].values[0, 1]
    assert found == Probe().measure(added).size
    assert quake.skipped == 0


def test_an_update_that_is_not_finite_is_told_once_and_training_goes_on():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=float("inf"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with gqt.attach(model, optimizer, every=1, field="both") as quake:
            train(model, optimizer, steps=3)
    # The first gradient is finite, and no update is.
    assert quake.dataset_of("real", "gradient")["epoch"].values.tolist() == [0]
    assert quake.skipped == 3
    assert any("3 steps were not measured" in str(one.message) for one in said)


def test_a_model_that_changed_is_told_and_training_goes_on():
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, field="update")
    train(model, optimizer, steps=1)
    model[2].weight.data = torch.zeros(1, 3)
    model[2].weight.grad = None
    with pytest.warns(UserWarning, match="has 3 entries and had 8"):
        optimizer.step()
    quake.detach()
    assert quake.dataset["epoch"].values.tolist() == [0]
    assert quake.skipped == 1


def test_in_line_training_with_its_updates():
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=2, inline=True, field="both") as quake:
        added = updates_of(model, optimizer, 4)
    sizes = quake.dataset_of("real", "update")["size"].values[0].tolist()
    assert sizes == [Probe().measure(update).size for update in added[::2]]
    with pytest.raises(InputError, match="give field='both' to measure updates too"):
        gqt.attach(model, optimizer, inline=True, field="update")


def test_loggers_get_updates_under_their_own_names_and_a_few_tensors():
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(12)))
    rows = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logger = rows.append
    options = {"field": "both", "tensors": True, "loggers": [lambda scalars, _: logger(scalars)]}
    torch.manual_seed(0)
    with gqt.attach(model, optimizer, every=1, **options):
        for _ in range(20):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().sum().backward()
            optimizer.step()
    names = {name for row in rows for name in row}
    for prefix in ("gradquake/", "gradquake/update/"):
        assert {f"{prefix}size", f"{prefix}size_per_parameter"} <= names
        shares = {name for name in names if name.startswith(f"{prefix}topplings/")}
        assert 3 <= len(shares) <= 8
    assert all(isinstance(value, float) for row in rows for value in row.values())
    assert "gradquake/update/update_norm" in names


def test_only_one_vector_is_kept():
    model = network()
    held = FlatUpdate(model, sgd(model))
    held.hold()
    assert held.vector.numel() == 49
    assert [name for name, value in vars(held).items() if isinstance(value, torch.Tensor)] == ["_vector"]
    sampled = FlatUpdate(model, sgd(model), sample=5)
    sampled.hold()
    assert sampled.vector.numel() == 5


def test_copies_of_a_probe_are_not_attached():
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=1, field="both", tensors=True) as quake:
        train(model, optimizer, steps=2)
        for copied in (copy.deepcopy(quake), pickle.loads(pickle.dumps(quake))):
            assert not copied.attached
            copied.detach()
    assert quake.dataset_of("real", "update").sizes["epoch"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"field": "updates"}, "field is 'updates'; one of gradient, update, both is needed"),
        ({"field": ["update"]}, "one of gradient, update, both"),
        ({"tensors": "yes"}, "tensors is 'yes'; True or False is needed"),
    ],
)
def test_options_out_of_range(options, said):
    model = network()
    with pytest.raises(InputError, match=said):
        gqt.attach(model, sgd(model), **options)


def test_a_field_that_is_not_measured_is_refused():
    model = network()
    quake = gqt.attach(model, sgd(model))
    with pytest.raises(InputError, match="the field is 'update'; measured are gradient"):
        quake.dataset_of("real", "update")
    quake.detach(finished=False)


def test_a_run_continues_with_the_same_tensors_only(tmp_path):
    path = tmp_path / "runs.sqlite"
    options = {"study": path, "every": 1, "tensors": True}
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, **options)
    train(model, optimizer, steps=2)
    quake.detach(finished=False)
    # Other tensors, as many entries: N is 49 as well.
    other = nn.Sequential(nn.Linear(6, 7, bias=False), nn.Linear(7, 1, bias=False))
    with pytest.raises(StudyError, match="of other tensors; continue it with the same model"):
        gqt.attach(other, sgd(other), step=2, **options)
    with gqt.attach(model, optimizer, step=2, **options) as quake:
        train(model, optimizer, steps=2)
    assert quake.dataset["tensor_topplings"].shape == (1, 4, 4)
    # A finished run is continued with its tensors, too.
    with gqt.attach(model, optimizer, step=4, **options) as quake:
        train(model, optimizer, steps=1)
    assert quake.dataset["tensor_topplings"].shape == (1, 5, 4)
    assert quake.dataset["tensor_topplings"].dtype == np.int64


@pytest.mark.parametrize("when_behind", ["wait", "skip"])
def test_an_optimizer_that_fails_leaves_its_gradient_to_be_measured(monkeypatch, when_behind):
    monkeypatch.setattr(attaching, "runs_beside", lambda *_: True)
    parameter = nn.Parameter(torch.ones(50))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    model = nn.ParameterList([parameter])
    quake = gqt.attach(model, optimizer, field="both", every=1, when_behind=when_behind)
    parameter.grad = torch.linspace(1, 2, 50)
    parameter.grad[0] = 100.0
    optimizer.param_groups[0]["lr"] = "large"
    with pytest.raises(TypeError):
        optimizer.step()
    assert quake.dataset_of("real", "gradient")["epoch"].values.tolist() == [0]
    quake.detach(finished=False)


def test_a_sample_that_stands_for_the_whole_has_no_counts_of_tensors():
    model = nn.Linear(100, 100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="tensors counts the sample alone"):
        gqt.attach(model, optimizer, sample=2000, estimate=True, tensors=True)


def test_updates_are_estimated_from_a_sample(monkeypatch):
    monkeypatch.setattr(attaching, "runs_beside", lambda *_: True)
    model = nn.Linear(100, 100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"field": "both", "sample": 2000, "estimate": True, "every": 1}
    graph = Probe("random_regular")
    with gqt.attach(model, optimizer, probe=graph, **options) as quake:
        model(torch.randn(8, 100)).square().sum().backward()
        optimizer.step()
    for field in ("gradient", "update"):
        found = quake.dataset_of("real", field)
        assert found["n_parameters"].item() == 10100
        assert found["size_error"].item() > 0
    # Without momentum the update is the gradient times the learning rate, up to the rounding of weights.
    norms = [quake.dataset_of("real", f)[f"{f}_norm"].item() for f in ("gradient", "update")]
    assert norms[1] == pytest.approx(0.1 * norms[0], rel=1e-3)
