"""Tensors in files that ``torch.save`` wrote, read without running any code in them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gradquake.errors import InputError, a_type, printable
from gradquake.files.tensors import Blocks, StoredTensor, Tensor, spans

__all__ = ["Unmade", "open_weights"]

# In earlier versions of torch a crafted file could run code despite weights_only (CVE-2025-32434).
SAFE_FROM = (2, 6)

# The bytes of all tensors may be at most this many times the bytes of their storages. Views share a
# storage, so the tensors of a small file could have any size.
MOST_SHARED = 4

NEEDED = "a tensor, or a list or dict of tensors, at the top or under one key, is needed"


def open_weights(path: Path) -> tuple[list[StoredTensor], list[str]]:
    """Return the tensors of a file, and descriptions of the parts that are left out.

    Objects that are neither tensors nor plain containers are never made: each is replaced by an
    ``Unmade``.

    Parameters
    ----------
    path : Path
        A file of ``torch.save`` that holds a tensor, a list of tensors or a dict of tensors, at the top
        or under a key of a dict. If several keys hold tensors, their names begin with the key.

    Raises
    ------
    InputError
        If the file holds anything else, or this version of torch is not safe.
    """
    version = torch.__version__
    if not tuple(int(part) for part in version.split(".")[:2]) >= SAFE_FROM:
        raise InputError(
            f"{path} cannot be read safely with torch {version}; torch {SAFE_FROM[0]}.{SAFE_FROM[1]} or "
            "later is needed"
        )
    loaded = _load(path)
    if isinstance(loaded, torch.Tensor):
        return [_stored("tensor", loaded)], []
    if isinstance(loaded, list | tuple):
        loaded = dict(enumerate(loaded))
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path} holds {a_type(loaded)}; {NEEDED}")
    groups = _groups(loaded)
    members = [(group, key, value) for group, of in groups.items() for key, value in of.items()]
    rest = [
        f"{key!r} ({_kind(value)})"
        for key, value in loaded.items()
        if str(key) not in groups and key not in groups.get("", ())
    ]
    if not groups:
        raise InputError(f"{path} holds {', '.join(rest[:9]) or 'nothing'}; {NEEDED}")
    stored, left_out = _named(members, prefixed=len(groups) > 1)
    _require_apart(path, [value for _, _, value in members])
    return stored, left_out + rest


class Unmade:
    """The replacement of an object whose class is not imported; each such class has a subclass."""

    def __new__(cls, *_: object) -> Unmade:
        """Accept any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None:
        """Drop the state."""


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        mapped = file.read(4) == b"PK\x03\x04"  # torch's old format cannot be mapped
    if mapped:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        packed = sum(member.file_size for member in members)
        if not (
            all(member.compress_type == zipfile.ZIP_STORED for member in members)
            and packed <= path.stat().st_size
        ):
            raise InputError(f"{path} is not packed as torch.save packs it; save it with torch.save")
    try:
        # torch warns about things that are refused below, or do not matter here.
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(_unmade(path) if mapped else []),
        ):
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a file of nothing but tensors; other files are not read, because they could "
            f"run code; {NEEDED}"
        ) from error


def _unmade(path: Path) -> list[Any]:
    """Return a replacement for each class and function of a file that torch does not consider safe."""
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(type(printable(name), (Unmade,), {}), name) for name in names]


def _groups(loaded: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """Return the dicts that hold floating-point tensors, by key; the top itself has the key ''."""
    children = {
        str(key): dict(enumerate(value)) if isinstance(value, list | tuple) else value
        for key, value in loaded.items()
        if isinstance(value, Mapping | list | tuple)
    }
    groups = {
        key: child
        for key, child in children.items()
        if _has_floats(child)
        and all(
            value is None or isinstance(value, torch.Tensor) or str(name).endswith("_extra_state")
            for name, value in child.items()
        )
    }
    top = {key: value for key, value in loaded.items() if str(key) not in children}
    if _has_floats(top):
        groups = {"": top} | groups
    # Groups of single numbers, such as a loss, are not the model.
    several = {key: group for key, group in groups.items() if _largest(group) > 1}
    return several or groups


def _has_floats(group: Mapping[Any, Any]) -> bool:
    return any(isinstance(v, torch.Tensor) and v.dtype.is_floating_point for v in group.values())


def _largest(group: Mapping[Any, Any]) -> int:
    return max(
        v.numel() for v in group.values() if isinstance(v, torch.Tensor) and v.is_floating_point()
    )


def _require_apart(path: Path, values: list[object]) -> None:
    """Raise InputError if tensors overlap so much that a small file would give any amount."""
    tensors = [
        value
        for value in values
        if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
    ]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    whole = sum(tensor.nbytes for tensor in tensors if not _expanded(tensor))
    if whole > MOST_SHARED * sum(storages.values()):
        raise InputError(f"{path}: its tensors overlap; save a copy of each")


def _expanded(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has more entries than it stores. It could have any number of them."""
    return tensor.is_floating_point() and tensor.nbytes > tensor.untyped_storage().nbytes()


def _named(
    members: list[tuple[str, object, object]], *, prefixed: bool
) -> tuple[list[StoredTensor], list[str]]:
    stored, left_out = [], []
    seen: dict[object, str] = {}
    for group, key, value in members:
        name = f"{group}.{key}" if group and prefixed else str(key)
        if not isinstance(value, torch.Tensor):
            left_out.append(f"{name!r} ({_kind(value)})")
            continue
        twin = seen.setdefault(_identity(value, name), name)
        if twin == name:
            stored.append(_stored(name, value, group))
        else:
            left_out.append(f"{name!r} (the same as {twin!r})")
    return stored, left_out


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}"
    return value.__name__ if isinstance(value, type) else type(value).__name__


def _identity(tensor: torch.Tensor, name: str) -> object:
    """Return a key that is equal for tied weights, which are stored once under two names."""
    if tensor.layout != torch.strided or tensor.numel() == 0 or tensor.is_meta:
        return name
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _stored(name: str, tensor: torch.Tensor, group: str = "") -> StoredTensor:
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = f"{'meta' if tensor.is_meta else str(tensor.layout).removeprefix('torch.')} {kind}"
    elif _expanded(tensor):
        kind = f"expanded {kind}"
    described = Tensor(name, tuple(tensor.shape), kind)
    return StoredTensor(described, partial(_blocks, tensor.detach()), group)


def _blocks(tensor: torch.Tensor) -> Blocks:
    for span in spans(tuple(tensor.shape)) if tensor.ndim else [()]:
        part = tensor[span].reshape(-1)
        # torch cannot convert bfloat16 to NumPy.
        yield (part.float() if part.dtype == torch.bfloat16 else part).numpy()
