"""Formats of saved tensors: each opens a file and describes its tensors.

No code in a file is ever run: pickled objects are refused.
"""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import IO, Any

import ml_dtypes
import numpy as np
from numpy.lib import format as npy
from safetensors import safe_open

from gradquake.errors import GradquakeError, InputError, told
from gradquake.files.tensors import Blocks, Contents, StoredTensor, Tensor, natural, ranges, spans

__all__ = ["INDEX", "SUFFIXES", "opened", "suffix_of"]

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
INDEX = ".index.json"
SUFFIXES = (".npy", ".npz", ".safetensors", *TORCH_SUFFIXES, INDEX)

# The most bytes that DEFLATE can make of one byte.
MOST_DEFLATED = 1032

# NumPy's names of the codes of safetensors; other codes are kept. safetensors needs ml_dtypes, which
# makes bfloat16 known to NumPy.
NUMPY_NAMES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64",
    "BF16": np.dtype(ml_dtypes.bfloat16).name,
}  # fmt: skip


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name that tells its format, in lower case."""
    return INDEX if name.lower().endswith(INDEX) else PurePath(name).suffix.lower()


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """Open a file by its suffix; any error that a damaged file causes becomes an InputError."""
    suffix = suffix_of(path.name)
    try:
        if not path.stat().st_size > 0:
            raise InputError(f"{path} is empty; a whole {suffix} file is needed")
        with _READERS[suffix](path) as contents:
            yield contents
    except (GradquakeError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be read as a whole {suffix} file: {told(error)}") from error


@contextmanager
def _npy(path: Path) -> Iterator[Contents]:
    with path.open("rb") as stream:
        shape, by_column, dtype = _npy_header(stream)
        header = stream.tell()
    if dtype.hasobject:
        raise InputError(f"{path} holds Python objects in dtype {dtype}; numbers are needed")
    if not (
        min(shape, default=0) >= 0 and header + math.prod(shape) * dtype.itemsize <= path.stat().st_size
    ):
        raise InputError(f"{path} does not hold as much as its header says; it is damaged")
    # A shape with a 0 may hold huge numbers too, whose product would overflow in NumPy.
    held = shape if math.prod(shape) * dtype.itemsize else (0,)
    flat = np.memmap(path, dtype, "r", header, (math.prod(held),))

    def blocks() -> Blocks:
        for span in ranges(flat.size):
            yield flat[span]

    yield [StoredTensor(Tensor("array", shape, dtype.name), blocks, by_column=by_column)], []


@contextmanager
def _npz(path: Path) -> Iterator[Contents]:
    with zipfile.ZipFile(path) as archive:
        _refuse_bomb(path, archive.infolist())
        yield [_member(archive, info) for info in archive.infolist()], []


def _refuse_bomb(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise InputError for a small archive that unpacks to any amount, as NumPy's own cannot."""
    for info in members:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{path}: {info.filename!r} is not packed as NumPy packs arrays; save it by numpy.savez"
            )
        most = MOST_DEFLATED * info.compress_size if info.compress_type else info.compress_size
        if not info.file_size <= most:
            raise InputError(
                f"{path}: {info.filename!r} cannot hold as much as the archive says; it is damaged"
            )
    packed = sum(info.compress_size for info in members)
    if not packed <= path.stat().st_size:
        raise InputError(f"{path}: its arrays overlap; it is damaged")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> StoredTensor:
    """Return one array of an .npz file. NumPy's own reader would load the data to tell its shape."""
    if not info.filename.endswith(".npy"):
        raise InputError(f"{archive.filename} holds {info.filename!r}, not an array")
    with archive.open(info) as stream:
        shape, by_column, dtype = _npy_header(stream)
        header = stream.tell()
    name, size = info.filename.removesuffix(".npy"), math.prod(shape)
    if not (
        dtype.hasobject
        or (min(shape, default=0) >= 0 and info.file_size == header + size * dtype.itemsize)
    ):
        raise InputError(
            f"{archive.filename}: {name!r} does not hold as much as its header says; it is damaged"
        )

    def blocks() -> Blocks:
        with archive.open(info) as stream:
            stream.read(header)
            for span in ranges(size):
                yield np.frombuffer(stream.read((span.stop - span.start) * dtype.itemsize), dtype)

    return StoredTensor(Tensor(name, shape, dtype.name), blocks, by_column=by_column)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of .npy holds no plain array")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            return readers[version](stream)
    except MemoryError:  # from Python's parser, although there is memory
        raise ValueError("its header is nested too deep") from None


@contextmanager
def _safetensors(path: Path) -> Iterator[Contents]:
    """Open the file with its tensors in the natural order of names, since the format keeps no order."""
    with safe_open(path, framework="np") as mapped:
        yield [_slices(mapped, name) for name in sorted(mapped.keys(), key=natural)], []


def _slices(mapped: Any, name: str) -> StoredTensor:
    lazy = mapped.get_slice(name)
    code = lazy.get_dtype()
    shape = tuple(lazy.get_shape())
    tensor = Tensor(name, shape, NUMPY_NAMES.get(code, code))

    def blocks() -> Blocks:
        if not shape:
            yield mapped.get_tensor(name).reshape(-1)
        for span in spans(shape):
            yield lazy[span].reshape(-1)

    return StoredTensor(tensor, blocks)


@contextmanager
def _torch(path: Path) -> Iterator[Contents]:
    try:
        from gradquake.files.torch_weights import open_weights
    except ImportError:
        raise InputError(f'{path} can only be read with torch: pip install "gradquake[torch]"') from None
    yield open_weights(path)


@contextmanager
def _index(path: Path) -> Iterator[Contents]:
    """Open the parts of a checkpoint that an index names, with all tensors in the natural order."""
    weight_map = json.loads(path.read_bytes())["weight_map"]
    parts = sorted(set(weight_map.values()), key=natural)
    for part in parts:
        if not (
            PurePath(part).name == part and suffix_of(part) in _READERS and suffix_of(part) != INDEX
        ):
            raise InputError(f"{path} names {part!r}; a file of tensors in the same folder is needed")
        if not (path.parent / part).is_file():
            raise InputError(f"{path} names {part!r}, which is not beside it")
    with ExitStack() as stack:
        held: dict[str, tuple[str, StoredTensor]] = {}
        left_out: list[str] = []
        for part in parts:
            stored, beside = stack.enter_context(opened(path.parent / part))
            left_out += beside
            for one in stored:
                if one.tensor.name in held:
                    raise InputError(f"{path}: two parts hold {one.tensor.name!r}")
                held[one.tensor.name] = part, one
        _check_index(path, weight_map, held, left_out)
        yield [held[name][1] for name in sorted(held, key=natural)], left_out


def _check_index(
    path: Path,
    weight_map: Mapping[str, str],
    held: Mapping[str, tuple[str, StoredTensor]],
    left_out: Sequence[str],
) -> None:
    """Raise InputError unless the parts hold exactly the tensors that the index says."""
    for name, part in weight_map.items():
        if name in held:
            is_there = held[name][0] == part
        else:
            is_there = any(other.startswith(repr(name)) for other in left_out)
        if not is_there:
            raise InputError(f"{path} says that {part!r} holds {name!r}, which it does not")
    for name in held:
        if name not in weight_map:
            raise InputError(f"{path} does not name {name!r}, which {held[name][0]!r} holds")


_READERS: Mapping[str, Callable[[Path], AbstractContextManager[Contents]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    INDEX: _index,
} | dict.fromkeys(TORCH_SUFFIXES, _torch)
