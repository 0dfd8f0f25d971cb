"""Gradients and checkpoints in files, of every format, whole and damaged."""

import io
import json
import os
import pickle
import re
import struct
import sys
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from gradquake.errors import InputError
from gradquake.files import formats, gradients
from gradquake.files.finding import find
from gradquake.files.saved import open_gradients
from gradquake.files.tensors import Tensor

BF16 = ml_dtypes.bfloat16
# Of bfloat16 the bits 0x3FC0, 0xC049 and 0x0080; the last is its smallest normal number, 2^-126.
KNOWN = {"bits": [0x3FC0, 0xC049, 0x0080], "values": [1.5, -3.140625, 2.0**-126]}
SUFFIXES = (".npy", ".npz", ".safetensors", ".pt")


def save(path, tensors):
    """Save named NumPy arrays in the format of the path's suffix."""
    if path.suffix == ".npy":
        [array] = tensors.values()
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, **tensors)
    elif path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, path)
    return path


def vector(path, **options):
    """Return what is read of one file."""
    layout = gradients.describe(path, **options)
    out = np.full(layout.n_entries, np.nan, layout.dtype)
    gradients.read(path, layout, out)
    return out


def differences(*paths):
    opened = open_gradients(paths, differences=True)
    return [found.copy() for *_, found in opened]


def refusal(call, *arguments, **options):
    """Return the sentence with which a call is refused."""
    with pytest.raises(InputError) as refused:
        call(*arguments, **options)
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    return message


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# Formats


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_gradient_is_read_as_it_was_saved(tmp_path, suffix, dtype):
    values = np.random.default_rng(0).standard_normal((7, 3)).astype(dtype)
    path = save(tmp_path / f"g{suffix}", {"w": values})
    described = gradients.describe(path)
    [tensor] = described.tensors
    assert (tensor.shape, tensor.dtype, described.n_entries, described.total) == ((7, 3), dtype, 21, 21)
    found = vector(path)
    assert found.dtype == (np.float64 if dtype == "float64" else np.float32)
    np.testing.assert_array_equal(found, values.ravel().astype(found.dtype))


def test_bfloat16_of_safetensors_has_its_known_values(tmp_path):
    bits = np.array(KNOWN["bits"], np.uint16)
    path = save(tmp_path / "g.safetensors", {"w": bits.view(BF16)})
    assert gradients.describe(path).tensors == (Tensor("w", (3,), "bfloat16"),)
    found = vector(path)
    assert found.dtype == np.float32
    assert found.tolist() == KNOWN["values"]


def test_bfloat16_of_torch_has_its_known_values(tmp_path):
    path = tmp_path / "g.pt"
    torch.save(torch.tensor(KNOWN["values"]).bfloat16(), path)
    assert gradients.describe(path).tensors == (Tensor("tensor", (3,), "bfloat16"),)
    assert vector(path).tolist() == KNOWN["values"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_tensors_follow_one_another(tmp_path, suffix):
    tensors = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(6, np.float32),
        "c": np.zeros((0, 4), np.float32),
        "d": np.arange(7, 10, dtype=np.float32),
    }
    assert vector(save(tmp_path / f"g{suffix}", tensors)).tolist() == list(range(10))


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_the_order_of_saving_is_kept(tmp_path, suffix):
    tensors = {"b": np.ones(2, np.float32), "a": np.zeros(1, np.float32)}
    assert vector(save(tmp_path / f"g{suffix}", tensors)).tolist() == [1, 1, 0]


def test_safetensors_come_in_the_natural_order_of_their_names(tmp_path):
    tensors = {f"layer.{i}.w": np.full(1, i, np.float32) for i in (10, 2, 1)}
    tensors["layer.2.b"] = np.full(1, -2, np.float64)
    assert vector(save(tmp_path / "g.safetensors", tensors)).tolist() == [1, -2, 2, 10]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_one_double_makes_the_vector_double(tmp_path, suffix):
    tensors = {"a": np.ones(2, np.float16), "b": np.array([1 / 3])}
    found = vector(save(tmp_path / f"g{suffix}", tensors))
    assert found.tolist() == [1, 1, 1 / 3]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("kind", [">f4", ">f8", "<f2"])
def test_byte_order_and_column_order_do_not_matter(tmp_path, suffix, kind):
    values = np.asfortranarray(np.arange(12, dtype=kind).reshape(3, 4))
    path = save(tmp_path / f"g{suffix}", {"w": values})
    assert vector(path).tolist() == list(range(12))


def test_compressed_npz(tmp_path):
    path = tmp_path / "g.npz"
    np.savez_compressed(path, np.ones((2, 2), np.float32), np.zeros(3, np.float32))
    assert [t.name for t in gradients.describe(path).tensors] == ["arr_0", "arr_1"]
    assert vector(path).tolist() == [1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_blocks_do_not_show(tmp_path, suffix, monkeypatch):
    values = np.arange(35, dtype=np.float32).reshape(7, 5)
    path = save(tmp_path / f"g{suffix}", {"w": values})
    for block in (1, 4, 11, 34, 35, 100):
        monkeypatch.setattr("gradquake.files.tensors.BLOCK", block)
        assert vector(path).tolist() == list(range(35))


@pytest.mark.parametrize("suffix", [".PT", ".pth", ".bin", ".ckpt", ".pth.tar"])
def test_the_other_suffixes_of_torch(tmp_path, suffix):
    path = tmp_path / f"g{suffix}"
    torch.save([torch.ones(2), torch.zeros(1)], path)
    assert [t.name for t in gradients.describe(path).tensors] == ["0", "1"]
    assert vector(path).tolist() == [1, 1, 0]


def test_the_old_format_of_torch(tmp_path):
    path = tmp_path / "g.pt"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert vector(path).tolist() == [1, 1]


@pytest.mark.parametrize("key", ["model", "state_dict", "grads"])
def test_a_dict_of_tensors_under_a_key(tmp_path, key):
    path = tmp_path / "c.pt"
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({key: {"w": torch.ones(2)}, "optimizer": optimizer, "epoch": 3, "rng": None}, path)
    described = gradients.describe(path)
    assert [t.name for t in described.tensors] == ["w"]
    assert described.left_out == ("'optimizer' (dict)", "'epoch' (int)", "'rng' (NoneType)")
    assert vector(path).tolist() == [1, 1]


def test_a_list_of_tensors_under_a_key(tmp_path):
    path = tmp_path / "c.pt"
    torch.save({"gradients": [torch.ones(2), torch.zeros(1)], "step": torch.tensor(3)}, path)
    described = gradients.describe(path)
    assert [t.name for t in described.tensors] == ["0", "1"]
    assert described.left_out == ("'step' (torch.int64)",)


def test_a_gradient_that_is_none_is_left_out_and_said(tmp_path):
    path = tmp_path / "g.pt"
    torch.save({"a": None, "b": torch.ones(2), "step": 4}, path)
    described = gradients.describe(path)
    assert [t.name for t in described.tensors] == ["b"]
    assert described.left_out == ("'a' (NoneType)", "'step' (int)")


def test_several_dicts_of_tensors_have_to_be_chosen_from(tmp_path):
    path = tmp_path / "c.pt"
    torch.save({"model": {"w": torch.ones(2)}, "ema": {"w": torch.zeros(2)}, "x": torch.ones(3)}, path)
    message = refusal(gradients.describe, path)
    assert "holds tensors at its top and under 'ema' and under 'model'; choose one" in message
    assert "choose one with match, such as 'model.*'" in message
    described = gradients.describe(path, ["model.*"])
    assert [t.name for t in described.tensors] == ["model.w"]
    assert described.total == 2
    assert vector(path, match=["ema.*"]).tolist() == [0, 0]


def test_tied_weights_count_once(tmp_path):
    path = tmp_path / "c.pt"
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    torch.save({"embed": weight, "head": weight, "view": weight[:1], "t": weight.t()}, path)
    described = gradients.describe(path)
    assert [t.name for t in described.tensors] == ["embed", "view", "t"]
    assert described.left_out == ("'head' (the same as 'embed')",)
    assert vector(path).tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.ones(3).to_sparse(), "sparse_coo float32"),
        (torch.empty(3, device="meta"), "meta float32"),
        (torch.ones(3).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.ones(3, dtype=torch.complex64), "complex64"),
    ],
)
@pytest.mark.parametrize("checkpoint", [False, True])
def test_torch_tensors_of_other_kinds_are_refused(tmp_path, tensor, kind, checkpoint):
    path = tmp_path / "g.pt"
    torch.save({"a": torch.ones(2), "w": tensor}, path)
    assert f"'w' is {kind}; float16," in refusal(gradients.describe, path, checkpoint=checkpoint)


@pytest.mark.parametrize(
    "held", [3, "text", {"epoch": 3}, {}, [], {"w": torch.ones(2, dtype=torch.int8)}]
)
def test_torch_files_without_a_gradient(tmp_path, held):
    path = tmp_path / "g.pt"
    torch.save(held, path)
    message = refusal(gradients.describe, path)
    assert message.startswith(f"{path} holds ")
    assert "a list or dict of tensors, at the top or under one key, is needed" in message
    for key in held if isinstance(held, dict) else ():
        assert repr(key) in message


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("kind", ["int64", "bool", "complex64"])
def test_a_gradient_of_no_real_numbers_is_refused(tmp_path, suffix, kind):
    path = save(tmp_path / f"g{suffix}", {"w": np.ones(3, kind)})
    message = refusal(gradients.describe, path)
    assert f" is {kind}; float16, bfloat16, float32, float64 is needed" in message
    assert ("differences of checkpoints leave integers" in message) == (kind != "complex64")


def test_fp8_of_safetensors_is_refused(tmp_path):
    path = tmp_path / "g.safetensors"
    header = {"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    path.write_bytes(with_header(header, b"12"))
    assert "'w' is F8_E4M3; float16" in refusal(gradients.describe, path, checkpoint=True)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_integers_of_a_checkpoint_are_left_out_and_said(tmp_path, suffix):
    tensors = {"bn.n": np.array(7), "mask": np.ones(2, bool), "w": np.ones(2, np.float32)}
    path = save(tmp_path / f"c{suffix}", tensors)
    described = gradients.describe(path, checkpoint=True)
    assert [t.name for t in described.tensors] == ["w"]
    assert described.left_out == ("'bn.n' (int64)", "'mask' (bool)")
    assert described.total == 2


# Choosing


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_match_chooses_by_name(tmp_path, suffix):
    names = ("0.bias", "0.weight", "1.Weight", "head")
    path = save(
        tmp_path / f"g{suffix}", {name: np.full(1, i, np.float32) for i, name in enumerate(names)}
    )
    assert vector(path, match=["*.weight"]).tolist() == [1]
    assert vector(path, match=["*.weight", "h*"]).tolist() == [1, 3]
    assert gradients.describe(path, ["0.*"]).total == 4
    message = refusal(gradients.describe, path, ["*.gamma", "x"])
    assert message.endswith(
        "holds no tensor that matches '*.gamma', 'x'; it holds '0.bias', '0.weight', '1.Weight', 'head'"
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("block", [3, 2**20])
def test_a_sample_is_a_subset_fixed_by_its_seed(tmp_path, suffix, block, monkeypatch):
    monkeypatch.setattr("gradquake.files.tensors.BLOCK", block)
    values = np.arange(60, dtype=np.float32).reshape(12, 5)
    names = {"w": values} if suffix == ".npy" else {"a": values[:7], "b": values[7:8], "c": values[8:]}
    paths = [
        save(tmp_path / f"g{i}{suffix}", {n: v + 100 * i for n, v in names.items()}) for i in (0, 1)
    ]
    opened = open_gradients(paths, sample=17, seed=3)
    [first, second] = [found.copy() for *_, found in opened]
    assert first.size == opened.n_parameters == sum(opened.tensors) == 17
    # Every entry is its own position.
    assert first.tolist() == opened.positions.tolist() == sorted(set(first.tolist()))
    assert (second == first + 100).all()
    again = open_gradients(paths, sample=17, seed=3)
    assert (again.positions == opened.positions).all()
    assert (open_gradients(paths, sample=17, seed=4).positions != opened.positions).any()


def test_a_sample_of_all_there_is_is_everything(tmp_path):
    path = save(tmp_path / "g.npy", {"w": np.arange(9, dtype=np.float32)})
    for sample in (9, 10):
        opened = open_gradients([path], sample=sample)
        assert opened.positions is None
        assert opened.n_parameters == 9


def test_the_sample_of_a_difference(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(50) for _ in range(3)]
    paths = [save(tmp_path / f"c{i}.npy", {"w": array}) for i, array in enumerate(arrays)]
    opened = open_gradients(paths, differences=True, sample=10)
    found = [difference.copy() for *_, difference in opened]
    for i, difference in enumerate(found):
        np.testing.assert_array_equal(difference, (arrays[i + 1] - arrays[i])[opened.positions])


# Series


@pytest.fixture
def folder(tmp_path):
    for step in (9, 10, 100, 2):
        save(tmp_path / f"grad_{step}_of_run7.npy", {"w": np.full(6, step, np.float32)})
    (tmp_path / "notes.txt").write_text("here too")
    (tmp_path / ".hidden_1.npy").write_bytes(b"")
    (tmp_path / "sub_1.npy").mkdir()
    return tmp_path


def test_a_folder_is_taken_in_natural_order(folder):
    found = find([folder])
    assert found.steps.tolist() == [2, 9, 10, 100]
    assert [path.name for path in found.paths] == [
        f"grad_{step}_of_run7.npy" for step in (2, 9, 10, 100)
    ]
    opened = open_gradients([folder])
    assert [found[0] for *_, found in opened] == [2, 9, 10, 100]


def test_files_given_in_any_order_are_taken_in_the_order_of_their_steps(folder):
    given_paths = [folder / f"grad_{step}_of_run7.npy" for step in (10, 2, 9)]
    opened = open_gradients(given_paths)
    assert opened.steps.tolist() == [2, 9, 10]
    assert [found[0] for *_, found in opened] == [2, 9, 10]
    assert opened.notes == ("the files are in the order of their steps, not as given",)
    assert open_gradients(sorted(given_paths, key=lambda p: len(p.name))[:2]).notes == ()


def test_steps_that_names_do_not_tell_are_counted_and_it_is_said(tmp_path):
    paths = [save(tmp_path / f"{name}.npy", {"w": np.ones(5)}) for name in ("b", "a", "c")]
    opened = open_gradients(paths)
    assert opened.paths == tuple(paths)
    assert opened.steps.tolist() == [0, 1, 2]
    assert opened.notes == ("no step can be read from the names; steps are counted 0, 1, ...",)
    assert open_gradients(paths[:1]).notes == ()
    assert open_gradients(paths, differences=True).steps.tolist() == [1, 2]


def test_differences_are_refused_if_the_names_leave_the_order_open(tmp_path):
    paths = [save(tmp_path / f"{name}.npy", {"w": np.ones(5)}) for name in ("1_90", "2_80", "3_70")]
    message = refusal(open_gradients, paths, differences=True)
    assert "order" in message
    assert "differences need to know which file is later: name the step, as in step=100" in message
    [note] = open_gradients(paths).notes
    assert "both ways; steps are counted 0, 1, ..." in note


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_file_is_taken_once(tmp_path, link):
    path = save(tmp_path / "step_1.npy", {"w": np.ones(5)})
    getattr(tmp_path / "step_2.npy", link)(path)
    for given_paths in ([path, tmp_path / "step_2.npy"], [tmp_path], [path, path]):
        assert "are the same file; give it once" in refusal(find, given_paths)


BASE = {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"a": BASE["a"]}, "{1} lacks 'b', which {0} holds; all files of a series need the same"),
        ({**BASE, "z": BASE["b"]}, "{1} holds 'z', which {0} lacks"),
        ({**BASE, "a": BASE["a"].T.copy()}, "'a' has shape (3, 2) in {1} and (2, 3) in {0}"),
        ({**BASE, "b": np.ones(4)}, "'b' has dtype float64 in {1} and float32 in {0}"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_what_differs_in_a_series_is_named(tmp_path, suffix, other, words):
    paths = [tmp_path / f"{step}{suffix}" for step in (1, 2, 3)]
    for path, tensors in zip(paths, (BASE, BASE, other), strict=True):
        save(path, tensors)
    message = refusal(open_gradients, paths)
    assert words.format(paths[0], paths[2]) in message
    open_gradients(paths[:2])
    open_gradients(paths, match=["b"] if "a" in words.split()[0] else ["a"])


def test_the_same_tensors_in_another_order_are_read_by_name(tmp_path):
    first = save(tmp_path / "1.npz", BASE)
    second = save(tmp_path / "2.npz", {"b": 2 * BASE["b"], "a": BASE["a"]})
    [_, found] = [v.copy() for *_, v in open_gradients([first, second])]
    assert found.tolist() == [1] * 6 + [2] * 4


def test_differences_are_later_minus_earlier(tmp_path):
    states = ([0, 10, -1], [1, 10, 1], [4, 0, 0])
    paths = [
        save(tmp_path / f"c{i}.safetensors", {"w": np.array(state, np.float32), "n": np.array(i)})
        for i, state in enumerate(states)
    ]
    assert [found.tolist() for found in differences(*paths)] == [[1, 0, 2], [3, -10, -1]]
    opened = open_gradients(paths, differences=True)
    assert len(opened) == 2
    assert opened.steps.tolist() == [1, 2]
    assert opened.notes == ("left out: 'n' (int64)",)
    names = [name for _, name, _ in opened]
    assert names == [f"{paths[1]} minus {paths[0]}", f"{paths[2]} minus {paths[1]}"]


def test_differences_of_bfloat16_are_taken_in_float32(tmp_path):
    # Neither 1 + 2^-7 - 3 * 2^-9 nor anything near it is a bfloat16 (8 bits); of float32 it is one.
    states = (3 * 2.0**-9, 1 + 2.0**-7)
    paths = [
        save(tmp_path / f"c{i}.safetensors", {"w": np.array([state], BF16)})
        for i, state in enumerate(states)
    ]
    [found] = differences(*paths)
    assert found.dtype == np.float32
    assert found.tolist() == [1 + 2.0**-7 - 3 * 2.0**-9]
    assert float(found.astype(BF16)[0]) != found[0]


def test_differences_of_doubles_are_taken_in_float64(tmp_path):
    paths = [save(tmp_path / f"c{i}.npy", {"w": np.array([1 + i * 1e-12])}) for i in (0, 1)]
    [found] = differences(*paths)
    assert found.dtype == np.float64
    assert found[0] == (1 + 1e-12) - 1


# Memory


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_only_the_vector_and_a_block_are_in_memory(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("gradquake.files.tensors.BLOCK", 2**16)
    values = np.zeros((400, 5000), np.float32)
    tensors = {"w": values} if suffix == ".npy" else {f"w{i}": values[i::4].copy() for i in range(4)}
    paths = [save(tmp_path / f"c{i}{suffix}", tensors) for i in range(3)]
    del values, tensors
    eight_megabytes, slack = 8_000_000, 1_500_000
    assert peak(lambda: open_gradients(paths)) < slack
    opened = open_gradients(paths)
    assert peak(lambda: [None for _ in opened]) < eight_megabytes + slack
    opened = open_gradients(paths, differences=True)
    assert peak(lambda: [None for _ in opened]) < 2 * eight_megabytes + slack
    opened = open_gradients(paths, sample=1000)
    assert peak(lambda: [None for _ in opened]) < slack


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(2, 10**6), (10**6, 2), (1, 2, 10**6), (1000, 2000)])
def test_neither_long_rows_nor_columns_are_in_memory_whole(tmp_path, suffix, shape, monkeypatch):
    monkeypatch.setattr("gradquake.files.tensors.BLOCK", 2**14)
    path = tmp_path / f"g{suffix}"
    values = np.arange(2 * 10**6, dtype=np.float32).reshape(shape)
    save(path, {"w": values if suffix == ".safetensors" else np.asfortranarray(values)})
    opened = open_gradients([path], sample=1000)
    del values
    assert peak(lambda: [None for _ in opened]) < 500_000
    with formats.opened(path) as ([stored], _):  # tracemalloc knows nothing of torch
        assert max(block.size for block in stored.blocks()) <= 2**14


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("block", [7, 2**20])
@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.float64])
def test_columns_are_read_as_rows(tmp_path, suffix, block, dtype, monkeypatch):
    monkeypatch.setattr("gradquake.files.tensors.BLOCK", block)
    values = np.arange(2 * 3 * 5 * 4, dtype=dtype).reshape(2, 3, 5, 4)
    path = save(tmp_path / f"g{suffix}", {"w": np.asfortranarray(values)})
    assert vector(path).tolist() == list(range(values.size))
    opened = open_gradients([path], sample=31, seed=1)
    [(*_, found)] = opened
    assert found.tolist() == opened.positions.tolist()
    values[1, 0, 2, 3] = np.nan
    save(path, {"w": np.asfortranarray(values)})
    assert "entry 71 of " in refusal(vector, path)
    sampled = open_gradients([path], sample=119, seed=1)
    assert 71 in sampled.positions
    assert "entry 71 of " in refusal(list, sampled)


def peak(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# What is refused


def test_nothing_to_read(tmp_path):
    assert "no file was given" in refusal(find, [])
    assert "does not exist; a gradient file" in refusal(find, [tmp_path / "none.npy"])
    assert "holds no file that ends in one of .npy," in refusal(find, [tmp_path])
    (tmp_path / "g.csv").write_text("1,2")
    assert "ends in '.csv'; one of .npy, .npz," in refusal(find, [tmp_path / "g.csv"])
    (tmp_path / "plain").write_text("1,2")
    assert "ends in ''; one of .npy" in refusal(find, [tmp_path / "plain"])
    os.mkfifo(tmp_path / "pipe.npy")
    assert "is not a regular file" in refusal(find, [tmp_path / "pipe.npy"])


def test_a_folder_stands_alone(folder):
    one = folder / "grad_2_of_run7.npy"
    message = refusal(find, [one, folder])
    assert "is a folder; files, or one folder alone, are needed, such as " in message
    assert message.endswith("/model.safetensors")


def test_a_folder_of_folders_is_refused_with_the_way_to_name_its_files(tmp_path):
    for step in (500, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert refusal(find, [tmp_path]).endswith(f"{tmp_path}/checkpoint-*/model.safetensors")


@pytest.mark.parametrize(
    "other", ["grad_3_of_run7.npz", "best.npy", "weights_3.npy", "grad_3_of_run8.npy"]
)
def test_a_folder_of_several_series_is_refused(folder, other):
    (folder / other).write_bytes(b"1")
    message = refusal(find, [folder])
    assert "holds several series, such as " in message
    assert other in message


def test_a_difference_needs_two(tmp_path):
    path = save(tmp_path / "c.npy", {"w": np.ones(3)})
    message = refusal(open_gradients, [path], differences=True)
    assert message == f"{path} is a single checkpoint; a difference needs at least two"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_is_named(tmp_path, suffix, value):
    broken = np.arange(6, dtype=np.float32).reshape(2, 3)
    broken[1, 1] = value
    tensors = {"w": broken} if suffix == ".npy" else {"a": np.ones(9, np.float32), "w": broken}
    path = save(tmp_path / f"g{suffix}", tensors)
    message = refusal(vector, path)
    assert re.search(r": entry 4 of '(w|array)' is " + str(value), message)
    assert message.startswith(str(path))
    sampled = open_gradients([path], sample=broken.size if suffix == ".npy" else 14, seed=1)
    if sampled.positions is None or (4 + 9) in sampled.positions:
        assert "entry 4 of" in refusal(list, sampled)


def test_a_half_that_overflowed_is_named(tmp_path):
    path = save(tmp_path / "g.npy", {"w": np.array([1, np.inf], np.float16)})
    assert "entry 1 of 'array' is inf" in refusal(vector, path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_entries(tmp_path, suffix):
    path = save(tmp_path / f"g{suffix}", {"w": np.zeros((0, 3), np.float32)})
    assert "holds no entry to measure" in refusal(gradients.describe, path)


def test_no_tensors(tmp_path):
    np.savez(tmp_path / "g.npz")
    save_file({}, tmp_path / "g.safetensors")
    for suffix in (".npz", ".safetensors"):
        assert "holds no tensor; at least one" in refusal(gradients.describe, tmp_path / f"g{suffix}")


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_an_empty_file(tmp_path, suffix):
    path = tmp_path / f"g{suffix}"
    path.touch()
    assert refusal(gradients.describe, path) == f"{path} is empty; a whole {suffix} file is needed"


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
@pytest.mark.parametrize(
    "garbage", [b"x", b"garbage " * 100, b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04 not"]
)
def test_garbage(tmp_path, suffix, garbage):
    path = tmp_path / f"g{suffix}"
    path.write_bytes(garbage)
    assert str(path) in refusal(gradients.describe, path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_off_anywhere(tmp_path, suffix):
    whole = save(tmp_path / f"whole{suffix}", {"w": np.ones(40, np.float32)}).read_bytes()
    path = tmp_path / f"g{suffix}"
    for length in range(1, len(whole), max(1, len(whole) // 23)):
        path.write_bytes(whole[:length])
        assert str(path) in refusal(vector, path)


def test_a_file_of_another_format(tmp_path):
    for suffix in SUFFIXES:
        data = save(tmp_path / f"g{suffix}", {"w": np.ones(4, np.float32)}).read_bytes()
        for other in SUFFIXES:
            if other != suffix:
                path = tmp_path / f"is_{suffix[1:]}{other}"
                path.write_bytes(data)
                assert str(path) in refusal(gradients.describe, path)


def test_a_file_that_changes_meanwhile(tmp_path):
    path = save(tmp_path / "g.npz", BASE)
    layout = gradients.describe(path)
    out = np.empty(layout.n_entries, layout.dtype)
    for other in ({"a": BASE["a"]}, {**BASE, "b": np.ones(5, np.float32)}, {**BASE, "b": np.ones(4)}):
        save(path, other)
        assert "was changed while it was measured" in refusal(gradients.read, path, layout, out)


def test_damage_in_an_npz_is_found(tmp_path):
    path = save(tmp_path / "g.npz", {"w": np.ones(1000, np.float32)})
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    assert "Bad CRC-32" in refusal(vector, path)


def test_an_npz_of_something_else(tmp_path):
    path = tmp_path / "g.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "here")
    assert "holds 'notes.txt', not an array" in refusal(gradients.describe, path)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_an_npz_that_holds_less_or_twice(tmp_path):
    path = tmp_path / "g.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", npy(np.ones(9))[:-8])
    assert "'w' does not hold as much as its header says" in refusal(gradients.describe, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", npy(np.ones(9)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("w.npy", npy(np.zeros(9)))
    assert "holds a tensor twice" in refusal(gradients.describe, path)


def test_an_npz_whose_directory_lies(tmp_path):
    path = tmp_path / "g.npz"
    whole = npy(np.ones(9))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", whole[:-32])
    data = bytearray(path.read_bytes())
    size = data.index(b"PK\x01\x02") + 24  # of the member, as the directory has it
    assert data[size : size + 4] == struct.pack("<I", len(whole) - 32)
    data[size : size + 4] = struct.pack("<I", len(whole))
    path.write_bytes(data)
    assert gradients.describe(path).n_entries == 9
    assert "holds 5 of the 9 entries of 'w'; it is damaged" in refusal(vector, path)


@pytest.mark.parametrize("shape", [(-3,), (2**62, 2**62), (10**30,), (10**12,)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_header_that_lies(tmp_path, shape, suffix):
    real = npy(np.ones(8)).replace(b"'shape': (8,), }", b"'shape': %s, }" % repr(shape).encode())
    header = real[10:-64].strip()
    real = real[:8] + struct.pack("<H", 118) + header.ljust(117) + b"\n" + real[-64:]
    path = tmp_path / f"g{suffix}"
    if suffix == ".npy":
        path.write_bytes(real)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w.npy", real)
    assert str(path) in refusal(gradients.describe, path)


@pytest.mark.parametrize("dtype", ["f4,f4", "V8", "M8[s]", "U3", "g", [("a", "f4", (1000, 1000))]])
def test_arrays_of_no_plain_numbers_are_refused(tmp_path, dtype):
    for suffix in (".npy", ".npz"):
        path = save(tmp_path / f"g{suffix}", {"w": np.zeros(3, dtype)})
        for checkpoint in (False, True):
            assert "float64 is needed" in refusal(gradients.describe, path, checkpoint=checkpoint)


def test_an_npz_that_claims_more_than_it_can_hold(tmp_path):
    path = tmp_path / "g.npz"
    header = npy(np.zeros(0))[:-1].replace(b"(0,), }", b"(%d,), }" % (5 * 10**8))
    header = header[:8] + struct.pack("<H", 118) + header[10:].strip().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", header + bytes(1000))
    data = bytearray(path.read_bytes())
    size = data.index(b"PK\x01\x02") + 24
    data[size : size + 4] = struct.pack("<I", 4 * 10**9 + len(header))
    path.write_bytes(data)
    assert "cannot hold as much as the archive says" in refusal(gradients.describe, path)


def repacked(path, method=zipfile.ZIP_STORED, **changed):
    """Write the archive of torch again, some of its members as given or packed in another way."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, changed.get(name.rpartition("/")[2], content))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_torch_file_that_is_compressed_is_refused(tmp_path, method):
    path = tmp_path / "g.pt"
    torch.save({"w": torch.zeros(10**6)}, path)
    repacked(path, method)
    assert path.stat().st_size < 10_000
    assert "is not packed as torch.save packs it" in refusal(gradients.describe, path)


def test_a_torch_file_of_another_byte_order_is_read(tmp_path):
    path = tmp_path / "g.pt"
    torch.save({"w": torch.arange(9.0)}, path)
    repacked(path, byteorder=b"big", **{"0": np.arange(9, dtype=">f4").tobytes()})
    assert vector(path).tolist() == list(range(9))


def test_many_views_of_few_numbers_are_refused(tmp_path):
    path = tmp_path / "g.pt"
    stored = torch.randn(1000)
    torch.save({str(i): stored[i:] for i in range(500)}, path)
    assert path.stat().st_size < 100_000
    assert "its tensors overlap; save a copy of each" in refusal(gradients.describe, path)


# Nothing is run


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_a_bare_pickle_is_refused_and_not_run(tmp_path, suffix):
    for protocol in (2, 4, 5):
        path = tmp_path / f"g{suffix}"
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "made"), protocol=protocol))
        assert str(path) in refusal(gradients.describe, path)
        assert not (tmp_path / "made").exists()


def test_objects_of_numpy_are_refused_and_not_run(tmp_path):
    array = np.array([Bomb(tmp_path / "made")], dtype=object)
    np.save(tmp_path / "g.npy", array, allow_pickle=True)
    np.savez(tmp_path / "g.npz", np.ones(3), array, allow_pickle=True)
    assert "Python objects in dtype" in refusal(vector, tmp_path / "g.npy")
    assert "'arr_1' is object; float16," in refusal(vector, tmp_path / "g.npz")
    assert not (tmp_path / "made").exists()


class Setting:
    """What a training script stores beside its weights."""

    made = 0

    def __init__(self, value):
        Setting.made += 1
        self.value = value

    def __reduce__(self):
        return Setting, (self.value,)


def test_objects_beside_the_tensors_are_named_and_not_made(tmp_path):
    path = tmp_path / "c.pt"
    held = {"model": {"w": torch.ones(3)}, "args": Setting(3), "run": eval, "evil": [Setting({})]}
    torch.save(held, path)
    Setting.made = 0
    described = gradients.describe(path)
    assert [t.name for t in described.tensors] == ["w"]
    kind = f"{Setting.__module__}.Setting"
    assert described.left_out == (f"'args' ({kind})", "'run' (builtins.eval)", "'evil' (list)")
    assert Setting.made == 0
    torch.save(Setting(held), path)
    assert f"holds a {kind}; a tensor" in refusal(gradients.describe, path)
    assert Setting.made == 1  # here


@pytest.mark.parametrize("new", [False, True])
def test_objects_of_torch_are_refused_and_not_run(tmp_path, new):
    path = tmp_path / "g.pt"
    for held in (Bomb(tmp_path / "made"), {"w": torch.ones(2), "x": Bomb(tmp_path / "made")}):
        torch.save(held, path, _use_new_zipfile_serialization=new)
        message = refusal(gradients.describe, path)
        assert "is not a file of nothing but tensors; other files are not read" in message
        assert not (tmp_path / "made").exists()


def test_a_whole_model_is_refused(tmp_path):
    path = tmp_path / "g.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    assert "a tensor, or a list or dict of tensors" in refusal(gradients.describe, path)


def test_a_torch_that_could_run_code_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "g.pt", {"w": np.ones(3, np.float32)})
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    assert "with torch 2.5.1+cu124; torch 2.6 or later is needed" in refusal(gradients.describe, path)


def test_without_torch_the_way_to_get_it_is_said(tmp_path, monkeypatch):
    path = save(tmp_path / "g.pt", {"w": np.ones(3, np.float32)})
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "gradquake.files.torch_weights", raising=False)
    message = refusal(gradients.describe, path)
    assert message == f'{path} can only be read with torch: pip install "gradquake[torch]"'


# Safetensors, byte by byte


def with_header(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        with_header({"w": ENTRY}, bytes(7)),
        with_header({"w": ENTRY}, bytes(9)),
        with_header({"w": ENTRY}, bytes(8), length=2**63),
        with_header({"w": ENTRY}, bytes(8), length=2**64 - 1),
        with_header({"w": ENTRY}, bytes(8), length=1000),
        with_header({"w": ENTRY}, bytes(8), length=3),
        with_header(b"[]"),
        with_header(b"\xff\xfe"),
        with_header(b'{"w": ' * 2000),
        with_header({"w": {**ENTRY, "shape": [3]}}, bytes(8)),
        with_header({"w": {**ENTRY, "shape": [-2]}}, bytes(8)),
        with_header({"w": {**ENTRY, "shape": [2**40, 2**40]}}, bytes(8)),
        with_header({"w": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8)),
        with_header({"w": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
        with_header({"w": {**ENTRY, "dtype": "X32"}}, bytes(8)),
        with_header({"v": ENTRY, "w": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
        with_header({"v": ENTRY, "w": ENTRY}, bytes(8)),
    ],
)
def test_a_safetensors_header_that_lies(tmp_path, content):
    path = tmp_path / "g.safetensors"
    path.write_bytes(content)
    assert "cannot be read as a whole .safetensors file: " in refusal(gradients.describe, path)


def refused_or_read(path, content):
    """Read a file, which may fail with one sentence and nothing else."""
    path.write_bytes(content)
    try:
        found, said = vector(path), ""
    except InputError as error:
        found, said = np.zeros(1), str(error)
    assert np.isfinite(found).all()
    assert not said or (str(path) in said and len(said.splitlines()) == 1)


numbers = st.one_of(st.integers(-2, 20), st.integers(-(2**70), 2**70), st.floats(), st.none())
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F64", "BF16", "F16", "I64", "BOOL", "F4", "F8_E4M3", "", 3]),
        "shape": st.one_of(st.lists(numbers, max_size=3), numbers),
        "data_offsets": st.one_of(st.lists(numbers, max_size=3), st.just([0, 8]), numbers),
        "more": numbers,
    },
)


@given(
    st.dictionaries(st.one_of(st.text(max_size=3), st.just("__metadata__")), entries, max_size=3),
    st.binary(max_size=24),
    st.one_of(st.none(), st.integers(0, 2**64 - 1), st.integers(0, 80)),
)
@settings(max_examples=300, deadline=None)
def test_any_safetensors_header_is_read_or_refused(tmp_path_factory, header, data, length):
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    refused_or_read(path, with_header(header, data, length))


@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_damage_is_read_or_refused(tmp_path_factory, which, damage):
    suffix = (".npy", ".npz", ".safetensors")[which % 3]
    path = tmp_path_factory.getbasetemp() / f"damage{suffix}"
    tensors = {"w": np.ones(4, np.float32)} | ({} if suffix == ".npy" else {"v": np.ones((2, 3))})
    content = bytearray(save(path, tensors).read_bytes())
    for place, bits in damage:
        content[place % len(content)] ^= bits
    refused_or_read(path, bytes(content))
