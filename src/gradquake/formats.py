"""The formats in which tensors are saved: what an open file holds, tensor by tensor.

Nothing in a file is ever run: pickled objects are refused.
"""

from __future__ import annotations

import importlib
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from safetensors import safe_open

from gradquake.errors import GradquakeError, InputError, require, told

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
SUFFIXES = (".npy", ".npz", ".safetensors", *TORCH_SUFFIXES)

# Entries that are in memory at a time besides the vector.
BLOCK = 2**20

# Of the codes of safetensors; any other keeps its code. ml_dtypes makes bfloat16 known to NumPy, which
# safetensors counts on.
NUMPY_NAMES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64",
    "BF16": np.dtype(ml_dtypes.bfloat16).name,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """What a file says of one of its tensors.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : str
        By NumPy's name, or the format's own where NumPy has none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of an open file.

    Attributes
    ----------
    tensor : Tensor
    blocks : callable
        Gives its entries in C order as vectors, of about ``BLOCK`` entries at most where the format
        allows.
    group : str
        Under which key of a file of nested dicts it is; empty at the top.
    """

    tensor: Tensor
    blocks: Callable[[], Iterator[NDArray[Any]]] = field(repr=False)
    group: str = ""


# A reader gives the tensors of an open file, and in words what else it holds.
Contents = tuple[list[StoredTensor], list[str]]


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """Open a file by its suffix, and turn whatever a damaged one brings about into one sentence."""
    suffix = path.suffix.lower()
    try:
        require(path.stat().st_size > 0, f"{path} is empty; a whole {suffix} file is needed")
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
    require(not dtype.hasobject, f"{path} holds Python objects in dtype {dtype}; numbers are needed")
    require(
        min(shape, default=0) >= 0 and header + math.prod(shape) * dtype.itemsize <= path.stat().st_size,
        f"{path} does not hold as much as its header says; it is damaged",
    )
    # A shape of no bytes may hold any other number, of which NumPy's product would wrap.
    held = shape if math.prod(shape) * dtype.itemsize else (0,)
    mapped = np.memmap(path, dtype, "r", header, held, "F" if by_column else "C")

    def blocks() -> Iterator[NDArray[Any]]:
        flat = mapped.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            yield flat[start : start + BLOCK]

    yield [StoredTensor(Tensor("array", shape, dtype.name), blocks)], []


@contextmanager
def _npz(path: Path) -> Iterator[Contents]:
    with zipfile.ZipFile(path) as archive:
        _refuse_bomb(path, archive.infolist())
        yield [_member(archive, info) for info in archive.infolist()], []


def _refuse_bomb(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise InputError where a small archive may hold any amount: packed as NumPy does it cannot."""
    for info in members:
        require(
            info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
            f"{path}: {info.filename!r} is not packed as NumPy packs arrays; save it with numpy.savez",
        )
    packed = sum(info.compress_size for info in members)
    require(packed <= path.stat().st_size, f"{path}: its arrays lie over one another; it is damaged")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> StoredTensor:
    """Return one array of an .npz file; NumPy's own reader knows its shape only with its data."""
    require(info.filename.endswith(".npy"), f"{archive.filename} holds {info.filename!r}, not an array")
    with archive.open(info) as stream:
        shape, by_column, dtype = _npy_header(stream)
        header = stream.tell()
    name, size = info.filename.removesuffix(".npy"), math.prod(shape)
    require(
        dtype.hasobject
        or (min(shape, default=0) >= 0 and info.file_size == header + size * dtype.itemsize),
        f"{archive.filename}: {name!r} does not hold as much as its header says; it is damaged",
    )

    def blocks() -> Iterator[NDArray[Any]]:
        # In the order of a Fortran array blocks would have to be put together.
        entries = max(size, 1) if by_column else BLOCK
        with archive.open(info) as stream:
            stream.read(header)
            for start in range(0, size, entries):
                data = stream.read(min(entries, size - start) * dtype.itemsize)
                block: NDArray[Any] = np.frombuffer(data, dtype)
                yield block.reshape(shape, order="F").reshape(-1) if by_column else block

    return StoredTensor(Tensor(name, shape, dtype.name), blocks)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of .npy holds no plain array")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote, which are read
            return readers[version](stream)
    except MemoryError:  # of Python's parser, whatever memory there is
        raise ValueError("its header is nested too deep") from None


@contextmanager
def _safetensors(path: Path) -> Iterator[Contents]:
    """Open the file in the natural order of its tensors' names; the format keeps no order itself."""
    with safe_open(path, framework="np") as mapped:
        yield [_slices(mapped, name) for name in sorted(mapped.keys(), key=natural)], []


def _slices(mapped: Any, name: str) -> StoredTensor:
    lazy = mapped.get_slice(name)
    code = lazy.get_dtype()
    shape = tuple(lazy.get_shape())
    tensor = Tensor(name, shape, NUMPY_NAMES.get(code, code))

    def blocks() -> Iterator[NDArray[Any]]:
        if tensor.size == 0:
            return
        if not shape:
            yield mapped.get_tensor(name).reshape(-1)
            return
        rows = max(1, BLOCK * shape[0] // tensor.size)
        for start in range(0, shape[0], rows):
            yield lazy[start : min(start + rows, shape[0])].reshape(-1)

    return StoredTensor(tensor, blocks)


@contextmanager
def _torch(path: Path) -> Iterator[Contents]:
    try:
        importlib.import_module("torch")
    except ImportError:
        raise InputError(f'{path} can only be read with torch: pip install "gradquake[torch]"') from None
    # By name, since the core imports nothing that imports torch.
    yield importlib.import_module("gradquake.torch.weights").open_weights(path)


_READERS: Mapping[str, Callable[[Path], AbstractContextManager[Contents]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
} | dict.fromkeys(TORCH_SUFFIXES, _torch)


def natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """Return a key that sorts names by their text and the integers in it."""
    parts = re.findall("([^0-9]*)([0-9]*)", name)
    return [(text, int(digits or -1)) for text, digits in parts], name
