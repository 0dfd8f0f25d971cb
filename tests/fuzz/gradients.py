"""Gradient files that are damaged, and gradient files that somebody wrote with intent."""

from __future__ import annotations

import bz2
import io
import json
import os
import pickle
import struct
import zipfile
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch
import torch._dynamo  # torch.load does for some files, and makes a folder then
from choices import EDGES, Choices, mutated
from oracle import check, check_sentence, nothing_run, scratch
from safetensors.numpy import save

from gradquake.errors import InputError
from gradquake.files.formats import SUFFIXES
from gradquake.files.saved import open_gradients

# No compression that NumPy writes makes more than this of a byte.
DEFLATED = 1032

WORDS = tuple(
    (old.encode("latin-1"), new.encode("latin-1"))
    for old, new in (
        ("<f4", "<f8"), ("<f4", "<f2"), ("<f4", ">f4"), ("<f4", "|O8"), ("<f4", "<i4"), ("<f4", "|V4"),
        ("False", "True "), ("(6,)", "(-1)"), ("(6,)", "(9,)"), ("(6,)", "()  "), ("(6,)", "6   "),
        ("(2, 3)", "(3, 2)"), ("(2, 3)", "(0, 3)"), ("(2, 3)", "(-2,3)"), ("(2, 3)", "(2.,3)"),
        ("F32", "F64"), ("F32", "F16"), ("F32", "I32"), ("BF16", "F8E5"), ("[6]", "[9]"),
        ("[2,3]", "[3,2]"), ("[2,3]", "[-1,]"), ("[0,24]", "[24,0]"), ("FloatStorage", "HalfStorage "),
        ("little", "bigger"), ("_rebuild_tensor_v2", "_rebuild_parameter"),
        ("torch._utils", "os          "), ("data.pkl", "data.pk1"), ("PK\3\4", "PK\1\2"),
        ("K\6", "K\xff"), ("K\3", "K\0"), ("K\2", "J\xff"), ("q\1", "R."), ("cpu", "cud"),
    )
)  # fmt: skip


class Whole(NamedTuple):
    """A file that nothing is wrong with, and the vector in it."""

    suffix: str
    content: bytes
    vector: np.ndarray


@cache
def wholes() -> tuple[Whole, ...]:
    """Return small files of every format and every type that a gradient may have."""
    base = np.array([[1.5, -2.0, 0.25], [3.0, -0.5, 8.0]])
    found = []
    for kind in ("f2", "f4", "f8", ml_dtypes.bfloat16):
        arrays = {"b": np.arange(6).astype(kind), "w": base.astype(kind)}
        both = np.concatenate([arrays["b"], arrays["w"].ravel()])
        vector = both.astype(np.float64 if kind == "f8" else np.float32)
        if kind == ml_dtypes.bfloat16:
            tensors = {n: torch.from_numpy(a.astype("f4")).bfloat16() for n, a in arrays.items()}
        else:
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            column = np.asfortranarray(arrays["w"].astype(arrays["w"].dtype.newbyteorder(">")))
            found += [
                Whole(".npy", _saved(np.save, arrays["w"]), vector[6:]),
                Whole(".npy", _saved(np.save, column), vector[6:]),
                Whole(".npz", _saved(np.savez, **arrays), vector),
                Whole(".npz", _saved(np.savez_compressed, b=arrays["b"], w=column), vector),
            ]
        nested = {"model": tensors, "epoch": 3, "optimizer": {"lr": 0.1}, "args": Namespace(lr=0.1)}
        for held, old in ((tensors, False), (nested, False), (list(tensors.values()), True)):
            content = _saved_torch(held, _use_new_zipfile_serialization=not old)
            found.append(Whole(".pt", content, vector))
        found.append(Whole(".safetensors", save(arrays), vector))
    return tuple(found)


def _saved(write: Callable[..., None], *arguments: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    write(stream, *arguments, **named)
    return stream.getvalue()


def _saved_torch(held: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(held, stream, **options)
    return stream.getvalue()


def read(folder: Path, contents: dict[str, bytes], **options: Any) -> list[np.ndarray] | None:
    """Return the gradients in files of these contents, None where they are refused."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    paths = [folder / name for name in contents]
    try:
        with nothing_run():
            opened = open_gradients(paths, **options)
            total = sum(map(len, contents.values()))
            check(
                opened.layout.n_entries * 2 <= DEFLATED * total,
                f"{opened.layout.n_entries} entries are said to be in {total} bytes",
            )
            found = [gradient.copy() for *_, gradient in opened]
    except InputError as error:
        check_sentence(error)
        check(any(str(path) in str(error) for path in paths), f"no file is named: {error}")
        return None
    for gradient in found:
        check(gradient.shape == (opened.n_parameters,), f"a gradient has shape {gradient.shape}")
        finite = np.isfinite(gradient).all() or options.get("differences")
        check(finite, "a gradient is not finite")
    return found


def _options(choices: Choices) -> dict[str, Any]:
    if not choices.flag(4):
        return {}
    return {
        "match": choices.pick(((), ("*",), ("w",), ("[", "model.*"), ("b", "tensor"), ("arr*", "?"))),
        "sample": choices.pick((None, 1, 3, 10**9)),
    }


def damaged(choices: Choices) -> None:
    """Read files of which bytes were changed."""
    whole = choices.pick(wholes())
    content = mutated(choices, whole.content, WORDS)
    options = _options(choices)
    suffix = choices.pick(SUFFIXES) if choices.flag(16) else whole.suffix
    if choices.flag(4):
        contents = {f"c1{suffix}": whole.content, f"c2{suffix}": content}
        read(scratch(), contents, differences=True, **options)
        return
    found = read(scratch(), {f"g{suffix}": content}, **options)
    if content == whole.content and suffix == whole.suffix and not options:
        check(found is not None, "a whole file is refused")
        [vector] = found
        check(vector.dtype == whole.vector.dtype, f"the vector is {vector.dtype}")
        check(np.array_equal(vector, whole.vector), f"a whole file is read as {vector}")


def hostile(choices: Choices) -> None:
    """Read a file whose headers lie, or whose pickle would do something."""
    suffix, make = choices.pick(HOSTILE)
    content = make(choices)
    if choices.flag(3):
        content = mutated(choices, content, WORDS)
    read(scratch(), {f"g{suffix}": content}, **_options(choices))


def _number(choices: Choices) -> int:
    if choices.flag():
        return choices.integer(0, 8)
    return choices.pick((*EDGES, -1, -(2**63), 2**64, 10**30)) + choices.integer(-1, 1)


def _nest(choices: Choices) -> str:
    text, count = choices.pick("(-[~{+"), choices.pick((3, 90, 300, 3000, 9000))
    return text * count


def _npy(choices: Choices) -> bytes:
    descr = choices.pick(
        ("'<f4'", "'<f8'", "'<f2'", "'>f4'", "'|O'", "'<V4'", "'|b1'", "'<c8'", "'<U3'", "'M8[s]'",
         "''", "'f4'", "'<f4,<f4'", "[('a', '<f4')]", "('<f4', (1000000, 1000000))",
         "[('a', '<f4', (9999999,))]", "[('', '|V0')]", "'|S0'", "'|V0'", "None", "3", "[]",
         "'=f4'", "'f4' * 9", "('f4', {})")
    )  # fmt: skip
    shape = ", ".join(str(_number(choices)) for _ in range(choices.integer(0, 3)))
    shape = choices.pick((f"({shape},)", f"({shape},)", f"({shape})", f"[{shape}]", _nest(choices)))
    order = choices.pick(("False", "True", "0", "None", "'x'"))
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    if choices.flag(8):
        text = choices.pick(
            (text[:-3], _nest(choices), text + "\0", text.replace("4", "4L"), "x" * 70000)
        )
    version = choices.pick((1, 1, 1, 2, 3, 9))
    data = text.encode() + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(data) % 65536)
    return b"\x93NUMPY" + bytes([version, 0]) + length + data + bytes(choices.pick((0, 8, 24, 32, 96)))


def _npz(choices: Choices) -> bytes:
    stream = io.BytesIO()
    method = choices.pick(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    with zipfile.ZipFile(stream, "w", method) as archive:
        for i in range(choices.integer(1, 3)):
            name = choices.pick((f"a{i}.npy", "../a.npy", "a/.npy", ".npy", "/x.npy", "a.txt", "é.npy"))
            member = choices.pick((_npy, _npz_inside, _zeros))(choices)
            if name not in archive.namelist():
                archive.writestr(name, member)
    content = stream.getvalue()
    return _overlapping(content) if choices.flag(4) else content


def _npz_inside(choices: Choices) -> bytes:
    return _saved(np.savez, a=np.ones(choices.integer(0, 3)))


def _zeros(choices: Choices) -> bytes:
    return _saved(np.save, np.zeros(choices.pick((0, 1, 1000, 50_000)), "f4"))


def _overlapping(content: bytes, times: int = 40) -> bytes:
    """Return a zip archive whose directory names its first member many times."""
    at, end = content.index(b"PK\1\2"), content.rindex(b"PK\5\6")
    following = content.find(b"PK\1\2", at + 4)
    entry = content[at : following if following > 0 else end]
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, times, times, times * len(entry), at, 0)
    return content[:at] + entry * times + tail


@cache
def bzip2_bomb() -> bytes:
    """Return an .npz archive of 64 MiB of zeros that takes a few hundred bytes."""
    return _bomb_archive(_saved(np.save, np.zeros(2**24, "f4")))


def _bomb_archive(member: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", member)
    check(len(bz2.compress(member)) < 10_000, "zeros do not compress")
    return stream.getvalue()


def _bomb(choices: Choices) -> bytes:
    return mutated(choices, bzip2_bomb())


SAFETENSORS_TYPES = ("F32", "F32", "F64", "BF16", "F16", "I64", "BOOL", "F4", "C64", "", 3)


def _safetensors(choices: Choices) -> bytes:
    header: dict[str, Any] = {}
    for name in ("w", "b", "__metadata__", "w2")[: choices.integer(1, 4)]:
        start = choices.integer(0, 3) * 8
        header[name] = {
            "dtype": choices.pick(
                ("F32", "F32", "F64", "BF16", "F16", "I64", "BOOL", "F4", "C64", "", 3)
            ),
            "shape": [_number(choices) for _ in range(choices.integer(0, 3))],
            "data_offsets": [start, start + choices.pick((8, 8, 4, 0, -8, 2**63, 2**64))],
        }
        if choices.flag(4):
            key = choices.pick(("dtype", "shape", "data_offsets"))
            header[name][key] = choices.pick((None, [], {}, -1, [[]], "x", [None], 1.5))
        if choices.flag(6):
            header[name] = choices.anything() if choices.flag() else {"a": "b"}
    text = json.dumps(header, default=str).encode()
    if choices.flag(8):
        text = choices.pick(
            (b"[" * 9000, b'{"w":' * 2000, text * 2, text[:-1], b'{"w":1,"w":2}', text + b" " * 9)
        )
    length = len(text) if not choices.flag(6) else _number(choices) % 2**64
    return struct.pack("<Q", length) + text + bytes(choices.pick((0, 8, 16, 24, 32)))


class Call:
    """Is pickled as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Storage:
    """Is pickled as a storage of the archive."""

    def __init__(self, *identity: Any) -> None:
        self.identity = identity


class _Pickler(pickle.Pickler):
    def persistent_id(self, one: Any) -> Any:
        return one.identity if isinstance(one, Storage) else None


def archive(held: Any, protocol: int = 2, members: dict[str, bytes] | None = None) -> bytes:
    """Return the archive that ``torch.save`` would write, of any pickle and any storages."""
    pickled = io.BytesIO()
    _Pickler(pickled, protocol).dump(held)
    return packed(pickled.getvalue(), members)


def packed(pickled: bytes, members: dict[str, bytes] | None = None) -> bytes:
    """Return the archive of a pickle and storages of 24 bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        names = {"data.pkl": pickled, "byteorder": b"little", "data/0": bytes(24), "version": b"3\n"}
        for name, content in (names | (members or {})).items():
            made.writestr(f"archive/{name}", content)
    return stream.getvalue()


def tensor(
    size: Any, stride: Any, offset: Any = 0, numel: Any = 6, kind: Any = torch.FloatStorage
) -> Any:
    """Return what is pickled as a tensor over the first storage of an archive."""
    storage = Storage("storage", kind, "0", "cpu", numel)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


KINDS = (
    torch.FloatStorage, torch.FloatStorage, torch.DoubleStorage, torch.HalfStorage,
    torch.BFloat16Storage, torch.IntStorage, torch.BoolStorage, torch.ComplexFloatStorage,
    torch.QInt8Storage, int,
)  # fmt: skip
MEMBERS = ("byteorder", "version", "data/0", "data.pkl", "constants.pkl", ".format_version")


def _torch(choices: Choices) -> bytes:
    held = {"w": _hostile_tensor(choices), "b": _hostile_tensor(choices)}
    held = choices.pick((held, held["w"], {"model": held}, [held["w"]], (held["b"],), {7: held["w"]}))
    members = {}
    if choices.flag(4):
        name = choices.pick(
            ("byteorder", "version", "data/0", "data.pkl", "constants.pkl", ".format_version")
        )
        members[name] = choices.pick((b"", b"big", b"x", b"9" * 30, bytes(7), bytes(4000)))
    return archive(held, choices.pick((2, 2, 3, 4, 5)), members)


def _hostile_tensor(choices: Choices) -> Any:
    axes = choices.integer(0, 3)
    size = tuple(_number(choices) for _ in range(axes))
    stride = tuple(_number(choices) for _ in range(axes))
    kind = choices.integer(0, 11)
    if kind < 6:
        numel = choices.pick((6, 6, 3, 0, -1, 2**40, "6"))
        return tensor(
            size, stride, _number(choices) if choices.flag(3) else 0, numel, choices.pick(KINDS)
        )
    plain = tensor((6,), (1,))
    return (
        lambda: Call(choices.pick((os.system, eval, os.mkdir, getattr, torch.load, print)), "/tmp/x"),
        lambda: Call(torch._utils._rebuild_parameter, plain, choices.anything(), {}),
        lambda: Call(
            torch._utils._rebuild_sparse_tensor,
            torch.sparse_coo,
            (tensor((1, 6), (6, 1), 0, 3, torch.LongStorage), plain, torch.Size((9,))),
        ),
        lambda: Call(
            torch._utils._rebuild_meta_tensor_no_storage, torch.float32, size, stride, False
        ),
        lambda: Call(
            torch._utils._rebuild_qtensor, Storage("storage", torch.QInt8Storage, "0", "cpu", 6), 0,
            (6,), (1,), (torch.per_tensor_affine, 0.5, 0), False, {},
        ),
        lambda: choices.anything(),
    )[kind - 6]()  # fmt: skip


def _index(choices: Choices) -> bytes:
    """Return the index of a checkpoint in two whole parts, or of something else."""
    for name in ("w", "b"):
        (scratch() / f"{name}.safetensors").write_bytes(save({name: np.ones(6, "f4")}))
    parts = (
        "w.safetensors",
        "b.safetensors",
        "g.index.json",
        "../w.safetensors",
        "none.npy",
        "",
        ".",
        "/",
    )
    held: dict[str, Any] = {"w": "w.safetensors", "b": "b.safetensors"}
    for name in ("w", "b", "x\x1b", "__metadata__"):
        if choices.flag(3):
            held[name] = choices.pick(parts) if choices.flag() else choices.anything()
    text = json.dumps({"weight_map": held}, default=str)
    if choices.flag(8):
        text = choices.pick(
            (text[:-1], "[" * 9000, "{}", "[]", "3", '{"weight_map": 3}', text.replace("w", "b"))
        )
    return text.encode()


OPCODES = tuple(
    getattr(pickle, name)
    for name in dir(pickle)
    if name.isupper() and isinstance(getattr(pickle, name), bytes) and len(getattr(pickle, name)) == 1
)


def _opcodes(choices: Choices) -> bytes:
    """Return an archive of a pickle of random opcodes."""
    parts = [b"\x80\x02"]
    for _ in range(choices.integer(1, 30)):
        parts += [choices.pick(OPCODES), choices.take(choices.integer(0, 4))]
    return packed(b"".join(parts) + b".")


def _old_torch(choices: Choices) -> bytes:
    """Return a file of torch's old format: pickles one after the other."""
    magic = choices.pick((0x1950A86A20F9469CFC6C, 0x1950A86A20F9469CFC6C, 7))
    system = {"protocol_version": 1001, "little_endian": choices.flag(3), "type_sizes": {}}
    held = choices.pick((_hostile_tensor(choices), {"w": _hostile_tensor(choices)}))
    stream = io.BytesIO()
    for part in (magic, choices.pick((1001, 1001, 7)), system):
        pickle.dump(part, stream, 2)
    view = choices.pick(((), (None,), (("0", 0, 6),), ("0", 2**40, 2**40)))
    kind = choices.pick(KINDS)
    storage = Storage("storage", kind, "0", "cpu", choices.pick((6, 6, -1, 2**33, 2**62)), *view)
    if choices.flag():
        held = Call(torch._utils._rebuild_tensor_v2, storage, 0, (6,), (1,), False, {})
    _Pickler(stream, 2).dump(held)
    pickle.dump(["0"], stream, 2)
    return stream.getvalue() + struct.pack("<q", _number(choices) % 2**63) + bytes(choices.pick((24, 0)))


HOSTILE = (
    (".npy", _npy), (".npz", _npz), (".safetensors", _safetensors), (".pt", _torch), (".pt", _torch),
    (".pt", _opcodes), (".pt", _old_torch), (".npz", _bomb),
    (".index.json", _index),
)  # fmt: skip
assert all(suffix in SUFFIXES for suffix, _ in HOSTILE)
