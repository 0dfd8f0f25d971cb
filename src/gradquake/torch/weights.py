"""Tensors in files that ``torch.save`` wrote, read without running anything from them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from gradquake.errors import InputError, a_type, require
from gradquake.formats import BLOCK, StoredTensor, Tensor

# Before it, a crafted file could run code in spite of weights_only (CVE-2025-32434).
SAFE_FROM = (2, 6)

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
        For anything else; objects that are not tensors or plain containers are never made.
    """
    version = torch.__version__
    require(
        tuple(int(part) for part in version.split(".")[:2]) >= SAFE_FROM,
        f"{path} cannot be read safely with torch {version}; torch {SAFE_FROM[0]}.{SAFE_FROM[1]} or "
        "later is needed",
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
    return stored, left_out + rest


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        mapped = file.read(4) == b"PK\x03\x04"  # torch's old format cannot be mapped
    try:
        # It warns of what is refused below, or does not matter here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a file of nothing but tensors, and no other is read, since it could run "
            f"code; {NEEDED}"
        ) from error


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
        and all(value is None or isinstance(value, torch.Tensor) for value in child.values())
    }
    top = {key: value for key, value in loaded.items() if str(key) not in children}
    return ({"": top} if _has_floats(top) else {}) | groups


def _has_floats(group: Mapping[Any, Any]) -> bool:
    return any(isinstance(v, torch.Tensor) and v.dtype.is_floating_point for v in group.values())


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
    return f"{value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__


def _identity(tensor: torch.Tensor, name: str) -> object:
    """Return what two tensors share that are one: tied weights are stored once and named twice."""
    if tensor.layout != torch.strided or tensor.numel() == 0 or tensor.is_meta:
        return name
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _stored(name: str, tensor: torch.Tensor, group: str = "") -> StoredTensor:
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = f"{'meta' if tensor.is_meta else str(tensor.layout).removeprefix('torch.')} {kind}"
    elif tensor.is_floating_point() and tensor.nbytes > tensor.untyped_storage().nbytes():
        kind = f"expanded {kind}"  # which may be of any size in a small file
    described = Tensor(name, tuple(tensor.shape), kind)
    return StoredTensor(described, partial(_blocks, tensor.detach()), group)


def _blocks(tensor: torch.Tensor) -> Iterator[NDArray[Any]]:
    flat = tensor.reshape(-1)
    for start in range(0, flat.numel(), BLOCK):
        part = flat[start : start + BLOCK]
        # NumPy does not know bfloat16.
        yield (part.float() if part.dtype == torch.bfloat16 else part).numpy()
