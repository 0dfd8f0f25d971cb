"""The modular addition experiment against a full-sequence Transformer and torch's own AdamW."""

import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gradquake as gq
from gradquake import InputError
from gradquake.avalanche.surrogates import RUNGS, surrogate
from gradquake.cli.app import app
from gradquake.experiments import modular_addition
from gradquake.experiments.modular_addition import (
    EPOCHS,
    WIDTHS,
    AdamW,
    ModularAdditionRun,
    measure,
    split_pairs,
    sweep,
    train,
)
from gradquake.study.configuration import config_key

AVALANCHE = {"threshold", "size", "duration", "area", "peak", "truncated", "deviation"}
ARCHITECTURES = list(EPOCHS)


pytestmark = pytest.mark.usefixtures("one_thread")


def small(**changed):
    return ModularAdditionRun(**{"width": 8, "seed": 3, "modulus": 7, "epochs": 6, "every": 2} | changed)


def named(run, parameters):
    """Return the parameter tensors by name, views into the flat vector."""
    pieces = parameters.split(list(run.network.tensors.values()))
    return {
        name: piece.view(shape)
        for (name, shape), piece in zip(run.network.shapes.items(), pieces, strict=True)
    }


def initial_parameters(run):
    return run.network.initial_parameters(run.seed)


def logits(run, parameters, pairs):
    return run.network.logits(parameters, pairs)


def standardised(x, scale, shift):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale + shift


def twin_logits(run, parameters, pairs):
    """The naive twin: every position of every sequence, head by head."""
    of, plain = named(run, parameters), run.architecture == "plain"

    def norm(name, x):
        return x if plain else standardised(x, of[f"{name}_scale"], of[f"{name}_shift"])

    def affine(name, x):
        return x @ of[name].T + (0 if plain else of[f"{name}_bias"])

    equals = torch.full((len(pairs), 1), run.modulus)
    x = of["token"][torch.cat([pairs, equals], 1)] + of["position"]
    seen = norm("attention_norm", x)
    query, key, value = (affine(name, seen) for name in ("query", "key", "value"))
    heads = []
    for columns in torch.arange(run.width).view(4, -1):
        q, k, v = query[..., columns], key[..., columns], value[..., columns]
        scores = q @ k.transpose(1, 2) / math.sqrt(len(columns))
        heads.append(scores.softmax(-1) @ v)
    x = x + affine("attention_out", torch.cat(heads, -1))
    hidden = affine("mlp_in", norm("mlp_norm", x))
    activated = hidden.clamp(min=0) if plain else hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    x = x + affine("mlp_out", activated)
    return affine("unembedding", norm("final_norm", x))[:, -1]


def loss_and_gradient(forward, run, parameters, pairs):
    weights = parameters.clone().requires_grad_()
    chosen = (
        forward(run, weights, pairs)
        .double()
        .log_softmax(1)[range(len(pairs)), pairs.sum(1) % run.modulus]
    )
    loss = -chosen.mean()
    return loss.item(), torch.autograd.grad(loss, weights)[0]


# The network


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("width", "modulus", "scale"), [(8, 7, 0.3), (20, 11, 1.0), (4, 2, 3.0), (8, 59, 0.3)]
)
def test_loss_and_gradient_are_those_of_the_full_sequence(architecture, width, modulus, scale):
    run = small(architecture=architecture, width=width, modulus=modulus)
    # Away from the start, where biases are 0.
    away = scale * np.random.default_rng(5).standard_normal(run.n_parameters)
    parameters = torch.tensor(initial_parameters(run) + away)
    pairs = torch.tensor(split_pairs(run)[0])
    loss, gradient = loss_and_gradient(logits, run, parameters, pairs)
    expected, expected_gradient = loss_and_gradient(twin_logits, run, parameters, pairs)
    assert loss == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_survives_scores_that_are_far_apart(architecture):
    run = small(architecture=architecture)
    parameters = torch.tensor(initial_parameters(run))
    for name in ("query", "key"):
        named(run, parameters)[name].mul_(100)
    pairs = torch.tensor(split_pairs(run)[0])
    found, expected = (forward(run, parameters, pairs) for forward in (logits, twin_logits))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_is_that_of_the_twin_under_torch_adamw(architecture):
    run = small(architecture=architecture, width=16, epochs=15, every=1)
    record, values = train(run)
    weights = torch.tensor(initial_parameters(run)).requires_grad_()
    pairs, test_pairs = (torch.tensor(side) for side in split_pairs(run))
    optimizer = torch.optim.AdamW(
        [weights], run.learning_rate, (0.9, 0.98), weight_decay=run.weight_decay
    )
    for epoch in range(run.epochs + 1):
        loss, weights.grad = loss_and_gradient(twin_logits, run, weights.detach(), pairs)
        assert values["loss"][epoch] == pytest.approx(loss, rel=1e-3)
        test_loss, _ = loss_and_gradient(twin_logits, run, weights.detach(), test_pairs)
        assert values["test_loss"][epoch] == pytest.approx(test_loss, rel=1e-3)
        with torch.no_grad():
            for name, side in (("train_accuracy", pairs), ("accuracy", test_pairs)):
                right = twin_logits(run, weights, side).argmax(1) == side.sum(1) % run.modulus
                assert abs(values[name][epoch] - right.double().mean()) < 1.5 / len(side)
            assert values["weight_norm"][epoch] == pytest.approx(weights.norm().item(), rel=1e-4)
        if epoch == 0:
            torch.testing.assert_close(
                torch.tensor(record.gradients[0]), weights.grad, rtol=1e-3, atol=1e-6
            )
        optimizer.param_groups[0]["lr"] = run.learning_rate * min(1, (epoch + 1) / 10)
        optimizer.step()
    assert values["loss"][-1] < values["loss"][0]


@pytest.mark.parametrize("weight_decay", [0.0, 1.0])
def test_adamw_is_that_of_torch(weight_decay):
    run = small(weight_decay=weight_decay)
    rng = np.random.default_rng(8)
    ours = torch.tensor(rng.standard_normal(300), dtype=torch.float32)
    theirs = ours.clone().requires_grad_()
    optimizer = AdamW(ours, run.learning_rate, run.weight_decay)
    reference = torch.optim.AdamW([theirs], betas=(0.9, 0.98), weight_decay=weight_decay, foreach=False)
    for update in range(1, 26):
        gradient = rng.standard_normal(300) * 10.0 ** rng.uniform(-9, 1, 300)
        theirs.grad = torch.tensor(gradient, dtype=torch.float32)
        reference.param_groups[0]["lr"] = run.learning_rate * min(1.0, update / 10)
        optimizer.step(theirs.grad.clone())
        reference.step()
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-8)


def test_a_larger_problem_is_memorised():
    _, values = train(small(modulus=11, width=24, epochs=150, every=150))
    assert values["train_accuracy"][-1] == 1.0
    assert values["loss"][-1] < 0.2 < values["loss"][0]


@pytest.mark.parametrize(("width", "modulus"), [(8, 7), (24, 59), (128, 59)])
def test_number_of_parameters_is_that_of_the_tensors(width, modulus):
    d, p = width, modulus
    plain = small(width=d, modulus=p)
    normed = small(width=d, modulus=p, architecture="layernorm")
    assert plain.n_parameters == initial_parameters(plain).size == 12 * d**2 + (2 * p + 4) * d
    expected = 12 * d**2 + (2 * p + 4) * d + 15 * d + p
    assert normed.n_parameters == initial_parameters(normed).size == expected


def test_number_of_parameters_is_that_of_torch_modules():
    d, p = 24, 59
    modules = [
        torch.nn.Embedding(p + 1, d), torch.nn.Embedding(3, d), torch.nn.MultiheadAttention(d, 4),
        torch.nn.Linear(d, 4 * d), torch.nn.Linear(4 * d, d), torch.nn.Linear(d, p),
        *(torch.nn.LayerNorm(d) for _ in range(3)),
    ]  # fmt: skip
    counted = sum(parameter.numel() for module in modules for parameter in module.parameters())
    assert ModularAdditionRun(d, 0, architecture="layernorm").n_parameters == counted


# Weights and splits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_start_normal_with_the_variance_of_their_fan_in(architecture):
    run = ModularAdditionRun(64, 0, architecture=architecture)
    for name, tensor in named(run, torch.tensor(initial_parameters(run))).items():
        values = tensor.numpy()
        if values.ndim == 1:
            assert (values == name.endswith("_scale")).all()
            continue
        scaled = values * np.sqrt(256 if name == "mlp_out" else 64)
        error = 5 / np.sqrt(values.size)
        assert abs(scaled.mean()) < error
        assert abs((scaled**2).mean() - 1) < 1.5 * error


def test_conditions_share_weights_and_sizes_do_not():
    run = small()
    first = initial_parameters(run)
    for changed in ({"weight_decay": 0}, {"train_share": 0.2}, {"split": "literal"}, {"epochs": 9}):
        assert initial_parameters(small(**changed)).tobytes() == first.tobytes()
    for changed in ({"seed": 4}, {"width": 12}, {"modulus": 11}):
        other = initial_parameters(small(**changed))
        assert not np.isin(np.round(other * 1e5), np.round(first * 1e5)).all()
        assert abs(np.corrcoef(other[:60], first[:60])[0, 1]) < 0.5
    weights, split = (small(seed=0), small(seed=1))
    assert initial_parameters(weights).tobytes() != initial_parameters(split).tobytes()


@pytest.mark.parametrize("split", ["unordered", "literal"])
@pytest.mark.parametrize("train_share", [0.8, 0.2])
@pytest.mark.parametrize("modulus", [7, 59])
def test_split_is_complete_disjoint_and_of_its_share(split, train_share, modulus):
    trained, tested = split_pairs(small(split=split, train_share=train_share, modulus=modulus))
    pairs = [tuple(pair) for pair in np.concatenate([trained, tested]).tolist()]
    assert sorted(pairs) == [(a, b) for a in range(modulus) for b in range(modulus)]
    assert len(trained) / modulus**2 == pytest.approx(train_share, abs=1.5 / modulus)
    if split == "literal":
        assert len(trained) == round(train_share * modulus**2)


def test_unordered_split_keeps_both_orders_together():
    for side in split_pairs(small(modulus=59)):
        pairs = {tuple(pair) for pair in side.tolist()}
        assert {(b, a) for a, b in pairs} == pairs
    trained, _ = split_pairs(small(modulus=59, split="literal"))
    pairs = {tuple(pair) for pair in trained.tolist()}
    assert {(b, a) for a, b in pairs} != pairs


def test_splits_come_from_the_seed_and_nest():
    def of(**changed):
        return split_pairs(small(modulus=23, **changed))[0].tolist()

    assert of() == of(weight_decay=0, epochs=50, architecture="layernorm")
    assert of() != of(seed=4)
    assert of() != of(width=12)
    assert all(pair in of() for pair in of(train_share=0.2))


# Measuring


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        assert one.config == other.config
        assert one.grokking_epoch == other.grokking_epoch
        assert one.epochs.tobytes() == other.epochs.tobytes()
        assert set(one.values) == set(other.values)
        for name, values in one.values.items():
            assert values.dtype == other.values[name].dtype
            assert values.tobytes() == other.values[name].tobytes(), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_measure_is_determined_whatever_else_is_set(architecture):
    run = small(architecture=architecture, width=32, modulus=23)
    first = measure([run])
    state = torch.manual_seed(1).get_state()
    torch.set_num_threads(2)
    second = measure([replace(run, width=12), run])[len(first) :]
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(first, second)


def test_threads_are_restored_after_an_error():
    torch.set_num_threads(2)
    with pytest.raises(
        InputError, match=r"diverged by epoch 2 of .*; a smaller learning rate is needed"
    ):
        train(small(learning_rate=1e30))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_records_are_the_avalanches_of_the_gradients_one_by_one(architecture):
    run = small(architecture=architecture, alpha=0.2, quantile=0.8, max_steps=5, topology="ring")
    record, known = train(run)
    assert record.gradients.dtype == np.float32
    assert record.gradients.shape == (4, run.n_parameters)
    records = measure([run])
    blocks = [record.gradients]
    blocks += [
        surrogate(rung, record.gradients, list(record.tensors.values()), seed=run.seed) for rung in RUNGS
    ]
    for block, measured in zip(blocks, records, strict=True):
        assert measured.epochs.tolist() == [0, 2, 4, 6]
        for snapshot, gradient in enumerate(block):
            avalanche = run.probe.measure(gradient)
            for name in AVALANCHE:
                assert measured.values[name][snapshot] == getattr(avalanche, name), name
    for name, values in known.items():
        assert values.dtype == np.float64
        assert records[0].values[name].tobytes() == values.tobytes()
    norms = np.linalg.norm(record.gradients.astype(np.float64), axis=1)
    np.testing.assert_allclose(known["gradient_norm"], norms, rtol=1e-12)


def test_records_are_labelled():
    runs = [small(), small(width=12, weight_decay=0)]
    records = measure(runs)
    assert len(records) == 2 * (1 + len(RUNGS))
    assert len({record.key for record in records}) == len(records)
    for run, found in zip(runs, (records[:6], records[6:]), strict=True):
        assert found[0].config == run.config()
        assert set(found[0].values) == AVALANCHE | set(modular_addition.KNOWN)
        for rung, record in zip(RUNGS, found[1:], strict=True):
            assert record.config == run.config() | {"surrogate": rung}
            assert set(record.values) == AVALANCHE
            assert record.grokking_epoch == found[0].grokking_epoch


def test_last_snapshot_has_no_update_after_it():
    longer, shorter = train(small(epochs=6)), train(small(epochs=4))
    assert longer[0].gradients[:3].tobytes() == shorter[0].gradients.tobytes()
    assert train(small(epochs=5))[0].epochs.tolist() == [0, 2, 4]


def test_grokking_epoch_is_the_first_snapshot_that_is_accurate(monkeypatch):
    run = small(modulus=11, epochs=40, every=5)
    record, values = train(run)
    assert values["accuracy"].max() < 0.9
    assert record.grokking_epoch is None
    for share in np.unique(values["accuracy"]):
        monkeypatch.setattr(modular_addition, "GROKKED", share)
        first = next(e for e, a in zip(record.epochs, values["accuracy"], strict=True) if a >= share)
        assert train(run)[0].grokking_epoch == first


# Configurations


def test_config_holds_every_setting():
    config = ModularAdditionRun(np.int64(24), 1, architecture="layernorm", weight_decay=0).config()
    assert config == {
        "experiment": "modular_addition", "surrogate": "real", "n_parameters": 10259, "width": 24,
        "seed": 1, "architecture": "layernorm", "train_share": 0.8, "split": "unordered",
        "weight_decay": 0.0, "epochs": 600, "every": 10, "learning_rate": 0.003,
        "topology": "barabasi_albert", "alpha": 0.3, "quantile": 0.9, "max_steps": 20, "modulus": 59,
    }  # fmt: skip
    run = ModularAdditionRun(24, 1, architecture="layernorm", weight_decay=0.0, epochs=None)
    assert config_key(config) == config_key(run.config())


def test_sweep_is_every_width_with_every_seed():
    runs = sweep((8, 12), 2, modulus=7, weight_decay=0)
    assert [(run.width, run.seed) for run in runs] == [(8, 0), (8, 1), (12, 0), (12, 1)]
    assert all(run.weight_decay == 0 and run.epochs == 900 for run in runs)
    for architecture, widths in WIDTHS.items():
        assert len(sweep(widths, 3, architecture=architecture)) == 3 * len(widths)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 22}, "width is 22; a positive multiple of the 4 heads is needed"),
        ({"width": 0}, "width is 0; a positive multiple of the 4 heads is needed"),
        ({"width": 8.0}, "width is 8.0; an integer of at least 0 is needed"),
        ({"seed": -1}, "seed is -1; an integer of at least 0 is needed"),
        ({"architecture": "deep"}, "architecture is 'deep'; one of plain, layernorm is needed"),
        ({"architecture": ["plain"]}, "architecture is ['plain']; one of plain, layernorm is needed"),
        ({"split": "half"}, "split is 'half'; one of unordered, literal is needed"),
        ({"epochs": 0}, "epochs is 0; an integer of at least 1 is needed"),
        ({"every": 0}, "every is 0; an integer of at least 1 is needed"),
        ({"modulus": 1}, "modulus is 1; an integer of at least 2 is needed"),
        ({"train_share": 1}, "train_share is 1.0; a number in (0, 1) is needed"),
        (
            {"train_share": 0.01},
            "train_share is 0.01; one that puts some of the 28 sums on either side is needed",
        ),
        (
            {"train_share": 0.995, "split": "literal"},
            "train_share is 0.995; one that puts some of the 49 sums on either side is needed",
        ),
        ({"weight_decay": -1}, "weight_decay is -1.0; a number in [0, inf] is needed"),
        ({"weight_decay": "1"}, "weight_decay is '1'; a number is needed"),
        ({"learning_rate": 0}, "learning_rate is 0.0; a number in (0, inf) is needed"),
        ({"alpha": 0}, None),
        ({"topology": "moon"}, None),
    ],
    ids=str,
)
def test_bad_setting_gets_one_sentence(changed, message):
    with pytest.raises(InputError) as raised:
        small(**changed)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("needed")
    assert message is None or str(raised.value) == message


@pytest.mark.parametrize(
    ("widths", "seeds", "message"),
    [
        ((), 1, "width is empty; at least one size is needed"),
        ((8, 8), 1, "width is [8, 8], which repeats a size; give each size once"),
        ((8,), 0, "seeds is 0; an integer of at least 1 is needed"),
    ],
)
def test_bad_sweep_gets_one_sentence(widths, seeds, message):
    with pytest.raises(InputError) as raised:
        sweep(widths, seeds)
    assert str(raised.value) == message


def test_no_run_gets_one_sentence():
    with pytest.raises(InputError, match=r"^no run was given; at least one is needed$"):
        measure([])


def test_missing_torch_gets_one_sentence_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    message = r'^torch is not installed; modular_addition needs it: pip install "gradquake\[torch\]"$'
    with pytest.raises(InputError, match=message):
        measure([small()])
    with pytest.raises(InputError, match=message):
        gq.run("modular_addition", out=tmp_path / "s.sqlite", width=[20], seeds=2, jobs=2)
    command = ["run", "modular_addition", "--out", str(tmp_path / "s.sqlite"), "--width", "20"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, InputError)
    assert re.match(message, str(done.exception))
    assert list(tmp_path.iterdir()) == []


def test_configurations_need_no_torch():
    code = (
        "import sys; from gradquake.experiments import modular_addition as m; "
        "m.sweep((20, 24), 2); print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "False"
