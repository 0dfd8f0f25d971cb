"""Checkpoints as public training code lays them out: what is measured of each, and what is left out."""

import argparse
import enum
import io
import json
import pathlib
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gradquake.errors import InputError
from gradquake.files.saved import open_gradients

STEPS = (500, 1000, 1500)
WEIGHTS = ("0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias")


class Mode(enum.Enum):
    """A setting that a checkpoint holds as an object."""

    TRAIN = 1


@pytest.fixture(scope="module")
def trained():
    """The state of a model with batch normalization, and of its optimizer, at each of ``STEPS``."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    states = {}
    for step in STEPS:
        optimizer.zero_grad()
        model(100 * torch.randn(32, 4)).square().mean().backward()
        optimizer.step()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        states[step] = weights, optimizer.state_dict()
    return states


def prefixed(prefix, weights):
    return {f"{prefix}.{name}": value for name, value in weights.items()}


def saved(path, held):
    path.parent.mkdir(parents=True, exist_ok=True)
    (save_file if path.suffix == ".safetensors" else torch.save)(held, path)


def rng():
    return {
        "python": random.getstate(),
        "numpy": np.random.RandomState(0).get_state(),
        "torch": torch.get_rng_state(),
    }


# Of each: the path at a step (500 an epoch), what is saved, and the steps that are read.
LAYOUTS = {
    "nanoGPT": (
        "out/ckpt_{step}.pt",
        lambda w, o, step: {
            "model": w, "optimizer": o, "iter_num": step, "best_val_loss": torch.tensor(1.5),
        },
        [1000, 1500],
    ),
    "Hugging Face Trainer": ("checkpoint-{step}/model.safetensors", lambda w, *_: w, [1000, 1500]),
    "DeepSpeed": (
        "global_step{step}/mp_rank_00_model_states.pt",
        lambda w, _, step: {
            "module": w, "optimizer": None, "param_shapes": [{n: t.shape for n, t in w.items()}],
            "ds_config": {"lr": 1}, "global_steps": step,
        },
        [1000, 1500],
    ),
    "Pythia": (
        "step{step}/pytorch_model.bin",
        lambda w, *_: {**w, "rotary_emb.inv_freq": torch.rand(4), "masked_bias": torch.rand(())},
        [1000, 1500],
    ),
    "Lightning": (
        "epoch={epoch}-step={step}.ckpt",
        lambda w, o, step: {
            "epoch": 1, "global_step": step, "state_dict": prefixed("net", w), "optimizer_states": [o],
            "callbacks": {"ModelCheckpoint": {"best_k_models": {"a": torch.tensor(1.0)}}},
            "hyper_parameters": {"mode": Mode.TRAIN, "path": pathlib.Path("x"), "lr": np.float64(1)},
        },
        [1000, 1500],
    ),
    "timm": (
        "checkpoint-{epoch}.pth.tar",
        lambda w, o, _: {
            "state_dict": w, "optimizer": o, "args": argparse.Namespace(lr=1), "metric": np.float64(3),
        },
        [2, 3],
    ),
    "detectron2": (
        "model_{step:07d}.pth",
        lambda w, o, step: {"model": w, "optimizer": o, "iteration": step},
        [1000, 1500],
    ),
    "OLMo": ("step{step}-unsharded/model.pt", lambda w, *_: w, [1000, 1500]),
    "litgpt": ("step-{step:08d}/lit_model.pth", lambda w, *_: {"model": w}, [1000, 1500]),
    "fairseq": (
        "checkpoint_1_{step}.pt",
        lambda w, o, _: {
            "args": argparse.Namespace(), "model": w, "optimizer_history": [{}],
            "last_optimizer_state": o,
        },
        [1000, 1500],
    ),
    "Megatron": (
        "iter_{step:07d}/mp_rank_00/model_optim_rng.pt",
        lambda w, o, _: {
            "args": argparse.Namespace(mode=Mode.TRAIN, dtype=torch.float32), "optimizer": o,
            "model": {**w, "layers.0._extra_state": io.BytesIO(b"x")}, "rng_state": [rng()],
        },
        [1000, 1500],
    ),
    "torchtune": ("epoch_{epoch}/model-00001-of-00001.safetensors", lambda w, *_: w, [2, 3]),
    "the tutorial of PyTorch": (
        "model_{epoch}.pt",
        lambda w, o, _: {"model_state_dict": w, "optimizer_state_dict": o, "loss": torch.rand(())},
        [2, 3],
    ),
    "averaged weights": (
        "epoch={epoch:06d}.ckpt",
        lambda w, *_: {"state_dict": w | {f"model_ema.{n.replace('.', '')}": t for n, t in w.items()}},
        [2, 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_measured_is_what_was_trained(layout, trained, tmp_path):
    pattern, holds, steps = LAYOUTS[layout]
    paths = []
    for step, (weights, optimizer) in trained.items():
        paths.append(tmp_path / pattern.format(step=step, epoch=step // 500))
        saved(paths[-1], holds(weights, optimizer, step))
    opened = open_gradients(sorted(paths, key=str, reverse=True), differences=True)
    assert opened.steps.tolist() == steps
    names = sorted(WEIGHTS) if paths[0].suffix == ".safetensors" else WEIGHTS
    assert [t.name.removeprefix("net.") for t in opened.layout.tensors] == list(names)
    assert opened.layout.total == opened.n_parameters
    for buffer in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert (
            sum(told.startswith((f"'{buffer}'", f"'net.{buffer}'")) for told in opened.layout.left_out)
            == 1
        )
    assert "running_mean' (not trained)" in " ".join(opened.notes)
    flat = [torch.cat([trained[step][0][name].flatten() for name in names]).numpy() for step in STEPS]
    for (*_, found), before, after in zip(opened, flat, flat[1:], strict=False):
        np.testing.assert_array_equal(found, after - before)


@pytest.mark.parametrize("name", ["model-{}.safetensors", "pytorch_model-{}.bin"])
def test_a_checkpoint_in_parts_is_read_by_its_index(name, trained, tmp_path):
    parts = [name.format(f"0000{i}-of-00002") for i in (1, 2)]
    paths = []
    for step, (weights, _) in trained.items():
        folder = tmp_path / f"checkpoint-{step}"
        held = {key: parts[key > "1.c"] for key in weights}
        for part in parts:
            saved(folder / part, {key: weights[key] for key in held if held[key] == part})
        paths.append(folder / (name.replace("-{}", "") + ".index.json"))
        paths[-1].write_text(json.dumps({"metadata": {}, "weight_map": held}))
        saved(tmp_path / f"whole_{step}.safetensors", weights)
    opened, whole = (open_gradients(given, differences=True) for given in (paths, [tmp_path]))
    assert opened.steps.tolist() == [1000, 1500]
    assert opened.layout.tensors == whole.layout.tensors
    for (*_, found), (*_, expected) in zip(opened, whole, strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match=r"is one of several parts of a checkpoint; give the index"):
        open_gradients([path.parent / parts[0] for path in paths])


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"w": "../w.safetensors"}}, "a file of tensors in the same folder is needed"),
        ({"weight_map": {"w": "/etc/passwd"}}, "a file of tensors in the same folder is needed"),
        ({"weight_map": {"w": "m.safetensors.index.json"}}, "a file of tensors in the same folder"),
        ({"weight_map": {"w": "none.safetensors"}}, "'none.safetensors', which is not beside it"),
        ({"weight_map": {"w": "pipe.safetensors"}}, "'pipe.safetensors', which is not beside it"),
        ({"weight_map": {"w": "a.safetensors", "v": "a.safetensors"}}, "holds 'v', which it does not"),
        ({"weight_map": {"b": "a.safetensors", "w": "b.safetensors"}}, "two parts hold 'w'"),
        ({"weight_map": {}}, "holds no tensor"),
        ({"weight_map": {"w": 3}}, "cannot be read as a whole .index.json file"),
        ({"weight_map": [3]}, "cannot be read as a whole .index.json file"),
        ({}, "cannot be read as a whole .index.json file"),
        ([[[]]], "cannot be read as a whole .index.json file"),
    ],
)
def test_an_index_that_lies_is_refused(index, words, tmp_path):
    for name in ("a", "b"):
        save_file({"w": torch.ones(3)}, tmp_path / f"{name}.safetensors")
    save_file({"w": torch.ones(3), "u": torch.ones(3)}, tmp_path / "c.safetensors")
    path = tmp_path / "m.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(InputError) as refused:
        open_gradients([path])
    assert words in str(refused.value)
    path.write_text(json.dumps({"weight_map": {"w": "c.safetensors"}}))
    with pytest.raises(InputError, match=r"does not name 'u', which 'c\.safetensors' holds"):
        open_gradients([path])


@pytest.mark.parametrize(
    "held",
    [
        {"state": {0: {"exp_avg": torch.ones(3), "step": torch.ones(())}}, "param_groups": []},
        {"optimizer": {"w": torch.ones(3)}},
        {"optimizer_state_dict": {"fp32_flat_groups": [torch.ones(3)]}},
        {"optim": [torch.ones(3)]},
        {"exp_avg.w": torch.ones(3), "exp_avg_sq.w": torch.ones(3)},
        {"state.0.momentum_buffer": torch.ones(3)},
    ],
)
def test_the_state_of_an_optimizer_is_never_measured(held, tmp_path):
    paths = [tmp_path / f"optim_{i}.pt" for i in (1, 2)]
    for path in paths:
        torch.save(held, path)
    for differences in (False, True):
        with pytest.raises(InputError):
            open_gradients(paths, differences=differences)
    for path in paths:
        torch.save({"model": {"w": torch.ones(5)}} | held, path)
    assert open_gradients(paths, differences=True).n_parameters == 5


def test_buffers_are_measured_if_nothing_else_is_chosen(tmp_path):
    for step in (1, 2):
        held = {"w": torch.ones(3), "bn.running_mean": torch.full((4,), float(step))}
        torch.save(held, tmp_path / f"c{step}.pt")
    opened = open_gradients([tmp_path], differences=True, match=["*mean"])
    assert [found.tolist() for *_, found in opened] == [[1, 1, 1, 1]]
    # A gradient of that name is a gradient.
    assert open_gradients([tmp_path]).n_parameters == 7


def test_a_mask_is_told_by_its_shape(tmp_path):
    for step in (1, 2):
        held = {"h.0.attn.bias": torch.ones(1, 1, 5, 5), "h.1.attn.bias": torch.ones(5)}
        torch.save(held, tmp_path / f"c{step}.pt")
    opened = open_gradients([tmp_path], differences=True)
    assert opened.layout.left_out == ("'h.0.attn.bias' (not trained)",)


def test_weights_that_are_measured_as_gradients_are_told(tmp_path):
    for name, held in (
        ("checkpoint-5/model.safetensors", {"w": torch.ones(9)}),
        ("a_1.pt", {"model": {"w": torch.ones(9)}, "optimizer": {}}),
    ):
        saved(tmp_path / name, held)
        opened = open_gradients([tmp_path / name])
        assert "as if they were gradients; differences measures" in " ".join(opened.notes)
    for name in ("a_2.pt", "checkpoints/grads/step_1.pt", "checkpoint-5/gradients.pt"):
        saved(tmp_path / name, {"w": torch.ones(9)})
        assert open_gradients([tmp_path / name]).notes == ()


def test_a_rank_among_others_is_told(tmp_path):
    for step in (1, 2):
        for rank in (0, 1):
            path = tmp_path / f"global_step{step}" / f"mp_rank_0{rank}_model_states.pt"
            saved(path, {"module": {"w": torch.ones(9)}})
    paths = [tmp_path / f"global_step{step}" / "mp_rank_00_model_states.pt" for step in (1, 2)]
    [note] = open_gradients(paths, differences=True).notes
    assert note == f"{paths[0]} is one of 2 ranks; the others are not measured"


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (torch.nn.Linear(2, 2), "holds a torch.nn.modules.linear.Linear"),
        ({"model": torch.nn.Linear(2, 2)}, "holds 'model' (torch.nn.modules.linear.Linear)"),
        (argparse.Namespace(lr=1), "holds an argparse.Namespace"),
        ({"model": {"encoder": {"w": torch.ones(3)}}}, "holds 'model' (dict)"),
    ],
)
def test_what_is_no_dict_of_tensors_is_named(held, words, tmp_path):
    path = tmp_path / "model_1.pt"
    torch.save(held, path)
    with pytest.raises(InputError) as refused:
        open_gradients([path])
    assert words in str(refused.value)
    assert "a tensor, or a list or dict of tensors, at the top or under one key, is needed" in str(
        refused.value
    )
