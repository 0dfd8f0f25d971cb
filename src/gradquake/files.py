"""Gradients and checkpoints in files: which there are, what they hold, and their entries as a vector.

A file is described without its data first, then read tensor by tensor and block by block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import InputError, require
from gradquake.formats import SUFFIXES, StoredTensor, Tensor, natural, opened

# What a gradient may be made of, and the type in which it is measured.
MEASURED_AS: dict[str, type[np.floating[Any]]] = {
    "float16": np.float32,
    "bfloat16": np.float32,
    "float32": np.float32,
    "float64": np.float64,
}


@dataclass(frozen=True)
class GradientFile:
    """What a file of a gradient, or a checkpoint, holds.

    Attributes
    ----------
    path : Path
    tensors : tuple of Tensor
        Those that are measured, in order.
    left_out : tuple of str
        What is not, and why.
    total : int
        Entries of all floating-point tensors beside them, chosen or not.
    """

    path: Path
    tensors: tuple[Tensor, ...]
    left_out: tuple[str, ...] = ()
    total: int = 0

    @property
    def size(self) -> int:
        """The number of entries that are measured."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """The type of the vector: float64 where any tensor is, otherwise float32."""
        kinds = {MEASURED_AS[tensor.dtype] for tensor in self.tensors}
        return np.float64 if np.float64 in kinds else np.float32


def find(paths: Sequence[Path]) -> list[Path]:
    """Return the files meant: those given, in the order given, or those of one folder in step order.

    Parameters
    ----------
    paths : sequence of Path
        Files, or one folder, of which all files with one of ``SUFFIXES`` are taken in the natural
        order of their names: 9 before 10.

    Raises
    ------
    InputError
        For what is not there or has another suffix; a folder beside others, one without such files,
        or one whose names differ in more than their numbers.
    """
    require(len(paths) > 0, "no file was given; gradient files or a folder of them are needed")
    if len(paths) == 1 and paths[0].is_dir():
        return _in_folder(paths[0])
    for path in paths:
        require(path.exists(), f"{path} does not exist; a gradient file or a folder of them is needed")
        require(not path.is_dir(), f"{path} is a folder; files, or one folder alone, are needed")
        require(path.is_file(), f"{path} is not a regular file; a gradient file is needed")
        require(
            path.suffix.lower() in SUFFIXES,
            f"{path} ends in {path.suffix!r}; one of {', '.join(SUFFIXES)} is needed",
        )
    return list(paths)


def steps(paths: Sequence[Path]) -> NDArray[np.int64] | None:
    """Return the step of each file: the last integer in its name.

    None unless every name has one and they strictly increase.
    """
    numbers = [re.findall("[0-9]+", path.stem) for path in paths]
    if not all(numbers):
        return None
    last = [int(of_name[-1]) for of_name in numbers]
    increasing = all(a < b for a, b in pairwise(last))
    return np.array(last, np.int64) if increasing and last[-1] < 2**63 else None


def describe(path: Path, match: Sequence[str] = (), *, checkpoint: bool = False) -> GradientFile:
    """Return what a file holds, without reading its data.

    Parameters
    ----------
    path : Path
    match : sequence of str
        Only tensors whose name fits one of these patterns (``fnmatch``, case matters); all without.
    checkpoint : bool
        Whether tensors of integers and bools are left out rather than refused.

    Raises
    ------
    InputError
        For a file that cannot be read, or holds anything but floating-point tensors.
    """
    with opened(path) as (stored, left_out):
        names = [one.tensor.name for one in stored]
        require(len(set(names)) == len(names), f"{path} holds a tensor twice; each name once is needed")
        chosen = [o for o in stored if not match or any(fnmatchcase(o.tensor.name, m) for m in match)]
        require(
            len(chosen) > 0,
            f"{path} holds no tensor" + (f" that matches {_listed(match)}" if match else "")
            + (f"; it holds {_listed(names)}" if names else "; at least one is needed"),
        )  # fmt: skip
        _require_one_group(path, chosen)
        tensors = []
        for tensor in (one.tensor for one in chosen):
            integers = bool(re.fullmatch("u?int[0-9]+|bool", tensor.dtype))
            if tensor.dtype in MEASURED_AS:
                tensors.append(tensor)
            elif checkpoint and integers:
                left_out = [*left_out, f"{tensor.name!r} ({tensor.dtype})"]
            else:
                raise InputError(
                    f"{path}: {tensor.name!r} is {tensor.dtype}; {', '.join(MEASURED_AS)} is needed"
                    + (" (--differences leaves integers of checkpoints out)" if integers else "")
                )
        beside = (one.tensor for one in stored if one.group == chosen[0].group)
        total = sum(tensor.size for tensor in beside if tensor.dtype in MEASURED_AS)
    found = GradientFile(path, tuple(tensors), tuple(left_out), total)
    require(found.size > 0, f"{path} holds no entry to measure; at least one is needed")
    return found


def check_alike(first: GradientFile, other: GradientFile) -> None:
    """Raise InputError unless two files hold tensors of the same names, shapes and dtypes."""
    ours = {tensor.name: tensor for tensor in first.tensors}
    theirs = {tensor.name: tensor for tensor in other.tensors}
    needed = "; all files of a series need the same tensors"
    for name, tensor in ours.items():
        if name not in theirs:
            raise InputError(f"{other.path} lacks {name!r}, which {first.path} holds{needed}")
        for what in ("shape", "dtype"):
            here, there = getattr(tensor, what), getattr(theirs[name], what)
            require(
                here == there,
                f"{name!r} has {what} {there} in {other.path} and {here} in {first.path}{needed}",
            )
    for name in theirs:
        require(name in ours, f"{other.path} holds {name!r}, which {first.path} lacks{needed}")


def read(
    path: Path,
    layout: GradientFile,
    out: NDArray[np.floating[Any]],
    positions: NDArray[np.int64] | None = None,
) -> None:
    """Read the entries of a file into a vector, tensor by tensor.

    Parameters
    ----------
    path : Path
        A file that holds what ``layout`` says.
    layout : GradientFile
        Which tensors to read, in which order.
    out : array of float32 or float64
        Of ``layout.size`` entries, or as many as ``positions``.
    positions : array of int64, ascending, optional
        Which of the entries to read; all without.

    Raises
    ------
    InputError
        Where an entry is not finite, or the file is not whole or was changed.
    """
    with opened(path) as (stored, _):
        by_name = {one.tensor.name: one for one in stored}
        start = 0
        for tensor in layout.tensors:
            one = by_name.get(tensor.name)
            if one is None or one.tensor != tensor:
                raise InputError(f"{path} was changed while it was measured; measure it again")
            first = start
            for block in one.blocks():
                low, high = start, start + block.size
                start = high
                if positions is not None:
                    low, high = np.searchsorted(positions, (low, high)).tolist()
                    block = block[positions[low:high] - (start - block.size)]
                out[low:high] = block
                _require_finite(path, tensor, out[low:high], low, first, positions)
            require(
                start - first == tensor.size,
                f"{path} holds {start - first} of the {tensor.size} entries of {tensor.name!r}; it is "
                "damaged",
            )


def _require_finite(
    path: Path,
    tensor: Tensor,
    block: NDArray[np.floating[Any]],
    low: int,
    first: int,
    positions: NDArray[np.int64] | None,
) -> None:
    finite = np.isfinite(block)
    if not finite.all():
        index = low + int(np.argmin(finite))
        at = (index if positions is None else int(positions[index])) - first
        raise InputError(
            f"{path}: entry {at} of {tensor.name!r} is {block[index - low]}; finite numbers are needed, "
            "so leave out this file, or the tensor with --match"
        )


def _require_one_group(path: Path, chosen: Sequence[StoredTensor]) -> None:
    groups = sorted({one.group for one in chosen})
    require(
        len(groups) == 1,
        f"{path} holds tensors {' and '.join(f'under {g!r}' if g else 'at its top' for g in groups)}; "
        f"choose one with --match, such as --match '{groups[-1]}.*'",
    )


def _in_folder(folder: Path) -> list[Path]:
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    require(len(found) > 0, f"{folder} holds no file that ends in one of {', '.join(SUFFIXES)}")
    found.sort(key=lambda path: natural(path.name))
    series: dict[str, Path] = {}
    for path in found:
        series.setdefault(re.sub("[0-9]+", "0", path.name), path)
    one, *others = series.values()
    if others:
        raise InputError(
            f"{folder} holds several series, such as {one.name} and {others[0].name}; give the files of "
            "one, or a folder of its own"
        )
    return found


def _listed(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
