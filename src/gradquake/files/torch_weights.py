"""Tensors in files that ``torch.save`` wrote, read without running anything from them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from gradquake.errors import InputError, a_type, printable
from gradquake.files.tensors import StoredTensor, Tensor, spans

# Before it, a crafted file could run code in spite of weights_only (CVE-2025-32434).
SAFE_FROM = (2, 6)

# How many times the bytes of their storages all tensors may take: views share storages, and in a small
# file many could make up any amount.
MOST_SHARED = 4

NEEDED = "a tensor, or a list or dict of tensors, at the top or under one key, is needed"


def open_weights(path: Path) -> tuple[list[StoredTensor], list[str]]:
    """Return the tensors of a file, and in words what was left out of it.

    Parameters
    ----------
    path : Path
        A tensor, a list of tensors, or a dict of tensors, at the top or under a key of a dict, as
        ``torch.save`` writes them. Where several keys hold dicts of tensors, the tensors are named
        after the key too.

    Raises
    ------
    InputError
        For anything else. Objects that are not tensors or plain containers are never made: an ``Unmade``
        is in the place of each.
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
    """An object of a class that is neither made nor imported; of each class there is a subclass."""

    def __new__(cls, *_: Any) -> Unmade:
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None:
        """Keep nothing."""


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
        # It warns of what is refused below, or does not matter here.
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(_unmade(path) if mapped else []),
        ):
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a file of nothing but tensors, and no other is read, since it could run "
            f"code; {NEEDED}"
        ) from error


def _unmade(path: Path) -> list[Any]:
    """Return what stands in for each class and function of a file that torch does not know as safe."""
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(type(printable(name), (Unmade,), {}), name) for name in names]


def _groups(loaded: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """Return what holds floating-point tensors: the values under keys, the top itself as ''."""
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
    # Numbers such as a loss stand beside the tensors of a model, and are none of them.
    several = {key: group for key, group in groups.items() if _largest(group) > 1}
    return several or groups


def _has_floats(group: Mapping[Any, Any]) -> bool:
    return any(isinstance(v, torch.Tensor) and v.dtype.is_floating_point for v in group.values())


def _largest(group: Mapping[Any, Any]) -> int:
    return max(
        v.numel() for v in group.values() if isinstance(v, torch.Tensor) and v.is_floating_point()
    )


def _require_apart(path: Path, values: list[Any]) -> None:
    """Raise InputError if tensors lie over one another, as many could to make up any amount."""
    tensors = [
        value
        for value in values
        if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
    ]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    whole = sum(tensor.nbytes for tensor in tensors if not _expanded(tensor))
    if whole > MOST_SHARED * sum(storages.values()):
        raise InputError(f"{path}: its tensors lie over one another; save a copy of each")


def _expanded(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has more entries than it stores, and so any number in a small file."""
    return tensor.is_floating_point() and tensor.nbytes > tensor.untyped_storage().nbytes()


def _named(
    members: list[tuple[str, Any, Any]], *, prefixed: bool
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
    """Return what two tensors share that are one: tied weights are stored once and named twice."""
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


def _blocks(tensor: torch.Tensor) -> Iterator[NDArray[Any]]:
    for span in spans(tuple(tensor.shape)) if tensor.ndim else [()]:
        part = tensor[span].reshape(-1)
        # NumPy does not know bfloat16.
        yield (part.float() if part.dtype == torch.bfloat16 else part).numpy()
