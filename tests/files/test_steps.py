"""The step of a file as the names of public training code tell it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.files.steps import in_order, read_name


def order(*names, given=True):
    return in_order([Path(name) for name in names], given=given)


# In the order of their steps; each is read the same in whatever order it is given.
SERIES = [
    (["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors"], [500, 1000]),
    (["out/global_step99/mp_rank_00_model_states.pt", "out/global_step100/mp_rank_00_model_states.pt"],
     [99, 100]),
    (["step9/pytorch_model.bin", "step10/pytorch_model.bin"], [9, 10]),
    (["step_0/learning_dynamics/train_gradients.pt", "step_20/learning_dynamics/train_gradients.pt"],
     [0, 20]),
    (["epoch=0-step=600.ckpt", "epoch=1-step=1200.ckpt"], [600, 1200]),
    (["epoch=1-step=600.ckpt", "epoch=1-step=1200.ckpt", "epoch=2-step=1800.ckpt"], [600, 1200, 1800]),
    (["model-epoch=02-val_acc=0.91.pt", "model-epoch=03-val_acc=0.55.pt"], [2, 3]),
    (["epoch=9-val_loss=-0.5.ckpt", "epoch=10-val_loss=1e-05.ckpt"], [9, 10]),
    (["ckpt_300.pt", "ckpt_2000.pt"], [300, 2000]),
    (["checkpoint-9.pth.tar", "checkpoint-10.pth.tar"], [9, 10]),
    (["model_0000999.pth", "model_0001999.pth"], [999, 1999]),
    (["step1000-unsharded/model.pt", "step10000-unsharded/model.pt"], [1000, 10000]),
    (["step1000-tokens4B/model.pt", "step2000-tokens8B/model.pt"], [1000, 2000]),
    (["checkpoint_1_500.pt", "checkpoint_1_1000.pt", "checkpoint_2_1500.pt"], [500, 1000, 1500]),
    (["checkpoint9.pt", "checkpoint10.pt"], [9, 10]),
    (["step-00000900/lit_model.pth", "step-00001000/lit_model.pth"], [900, 1000]),
    (["iter_0000900/mp_rank_00/model_optim_rng.pt", "iter_0001000/mp_rank_00/model_optim_rng.pt"],
     [900, 1000]),
    (["epoch_0/model.pt", "epoch_1/model.pt"], [0, 1]),
    (["checkpoint-5/model.safetensors.index.json", "checkpoint-10/model.safetensors.index.json"],
     [5, 10]),
    (["step_900k.pt", "step_1M.pt"], [900_000, 10**6]),
    (["a1.npy", "a2.npy", "a10.npy"], [1, 2, 10]),
    (["grad_2_of_run7.npy", "grad_9_of_run7.npy"], [2, 9]),
    (["lr0.2_step5.npy", "lr0.1_step7.npy"], [5, 7]),
    (["007.npy", "08.npy"], [7, 8]),
    (["500/model.pt", "1000/model.pt"], [500, 1000]),
    (["checkpoint-500/model_500.pt", "checkpoint-1000/model_1000.pt"], [500, 1000]),
    (["500/model_500.pt", "1000/model_1000.pt"], [500, 1000]),
    (["phase1/step_5.npy", "phase2/step_6.npy"], [5, 6]),
    (["a.1.npy", "a.2.npy"], [1, 2]),
    ([f"step_{2**63 - 2}.npy", f"step_{2**63 - 1}.npy"], [2**63 - 2, 2**63 - 1]),
    (["seed3_step5.npy", "seed1_step7.npy"], [5, 7]),
    (["warmup_steps=9_step=5.npy", "warmup_steps=9_step=7.npy"], [5, 7]),
]  # fmt: skip


@pytest.mark.parametrize(("names", "steps"), SERIES)
def test_the_layouts_of_public_code_are_read(names, steps):
    for given_names in (names, names[::-1]):
        for asked in (True, False):
            found = order(*given_names, given=asked)
            assert [path.as_posix() for path in found.paths] == names
            assert found.steps.tolist() == steps
            assert found.steps.dtype == np.int64
            assert found.doubt == ""
            assert ("not as given" in found.note) == (given_names != names)


@pytest.mark.parametrize(
    "names",
    [
        [
            "checkpoint_1_500.pt",
            "checkpoint_2_1000.pt",
        ],  # an epoch and a step, or a step and an accuracy
        ["net_2_80.pt", "net_3_90.pt"],
        ["epoch=1-step=1.pt", "epoch=1-step=2.pt", "epoch=2-step=2.pt"],
    ],
)
def test_several_readings_of_one_order_are_counted(names):
    for given_names in (names, names[::-1]):
        found = order(*given_names)
        assert [str(path) for path in found.paths] == names
        assert found.steps.tolist() == list(range(len(names)))
        assert "steps are counted 0, 1, ..." in found.note
        assert not found.doubt


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1_90.pt", "2_80.pt"], "order 1_90.pt and 2_80.pt both ways"),
        (["epoch=1-step=900.ckpt", "epoch=2-step=100.ckpt"], "both ways"),
        (["epoch=1-step=6.ckpt", "epoch=1-step=6-v1.ckpt"], "have the same step"),
        (["step_5.npy", "step_05.npy"], "have the same step"),
        (["a/step_5.npy", "b/step_5.npy"], "have the same step"),
        (["global_step5/mp_rank_00_model_states.pt", "global_step5/mp_rank_01_model_states.pt"],
         "have the same step"),
        (["checkpoint-5/model.pt", "tmp-checkpoint-5/model.pt"], "have the same step"),
        (["init.pt", "step_100.pt", "step_50.pt"], "only some names hold a step"),
        (["model_1000.pth", "model_500.pth", "model_final.pth"], "only some names hold a step"),
        (["step_1M.pt", "step_1.5M.pt", "step_900k.pt"], "only some names hold a step"),
    ],
)  # fmt: skip
def test_an_order_in_doubt_is_said(names, words):
    found = order(*names)
    assert words in found.doubt
    assert [str(path) for path in found.paths] == names
    assert found.steps.tolist() == list(range(len(names)))
    assert found.note == f"{found.doubt}; steps are counted 0, 1, ..."


@pytest.mark.parametrize(
    "names",
    [
        ["b.npy", "a.npy"],
        ["a1.npy", "b1.npy"],
        ["a1.npy", "b.npy"],
        ["acc=0.9.npy", "acc=0.5.npy"],
        ["acc=.95.npy", "acc=.90.npy"],
        ["acc=95.npy", "acc=90.npy"],
        ["x_-5.npy", "x_-6.npy"],
        ["v1.2.npy", "v1.1.npy"],
        ["rank1.npy", "rank0.npy"],
        ["seed=3.npy", "seed=2.npy"],
        ["model-00002-of-00003.npy", "model-00001-of-00003.npy"],
        ["init.pt", "step_5.pt", "step_9.pt"],
        ["grad_2.npy", "weights_1.npy"],
        ["1.npy", f"{2**63}.npy"],
        ["step_1.npy", f"step_{2**63}.npy"],
    ],
)
def test_without_a_step_the_order_given_counts(names):
    found = order(*names)
    assert [str(path) for path in found.paths] == names
    assert found.note == "no step can be read from the names; steps are counted 0, 1, ..."
    assert not found.doubt
    assert order(*names, given=False).doubt == "no step can be read from the names"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_300.npy", 300), ("a5.npy", 5), ("a.npy", 0), ("checkpoint-500/model.safetensors", 500),
        ("run7/g.npy", 0), ("epoch=2-step=40.ckpt", 40), ("model-epoch=02-val_acc=0.55.pt", 2),
        ("seed3.npy", 0), (f"step_{2**63}.npy", 0),
    ],
)  # fmt: skip
def test_the_step_of_one_file(name, step):
    found = order(name)
    assert found.steps.tolist() == [step]
    assert (found.note, found.doubt) == ("", "")


def test_several_numbers_of_one_file_are_no_step():
    found = order("lr3_5.npy")
    assert found.steps.tolist() == [0]
    assert "several numbers in the name could be the step" in found.note


@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=6, unique=True),
    st.sampled_from(
        ["step={}.pt", "checkpoint-{}/m.bin", "a_{}_b7.npy", "{}.npy", "e=3/ckpt{}.pth.tar"]
    ),
    st.randoms(),
)
@settings(max_examples=100, deadline=None)
def test_any_steps_in_any_order(steps, pattern, random):
    random.shuffle(steps)
    found = order(*map(pattern.format, steps))
    assert found.steps.tolist() == sorted(steps)


@given(st.lists(st.text("ab_-=.019eksM/", min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
@settings(max_examples=300, deadline=None)
def test_any_names_have_an_order(names):
    paths = [Path("x" + name) for name in names]
    for path in paths:
        read_name(path)
    found = in_order(paths, given=True)
    assert sorted(found.paths) == sorted(paths)
    assert (np.diff(found.steps) > 0).all()
