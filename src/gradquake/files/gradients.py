"""The gradient that one file holds: its tensors, and their entries as one vector.

A file is first described without its data, then read tensor by tensor and block by block.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.sums import Gradient
from gradquake.errors import InputError
from gradquake.files.formats import opened
from gradquake.files.tensors import StoredTensor, Tensor

__all__ = ["GradientFile", "check_alike", "describe", "hints", "read"]

# The types that a gradient may have, and the types in which they are measured.
MEASURED_AS: dict[str, type[np.floating[Any]]] = {
    "float16": np.float32,
    "bfloat16": np.float32,
    "float32": np.float32,
    "float64": np.float64,
}


# Names in the state of an optimizer. It is never measured.
OPTIMIZER = re.compile(
    r"(.*[._/])?(opt_state|optim(izer)?(_states?(_dict)?)?|(max_)?exp_avg(_sq)?|momentum_buffer"
    r"|square_avg|acc_delta|grad_avg)([._/].*)?",
    re.IGNORECASE,
)

# Names of tensors that no optimizer trains: statistics of batches, averages of weights, constants.
BUFFERS = re.compile(
    r"(.*[./])?(running_(mean|var)|moving_(mean|variance)"
    r"|(model_)?ema(_model)?[._/].*|ema_\w+|shadow_params[._/].*|weight_[uv]|_[uv]"
    r"|(rotary_)?inv_freq|freqs_(cis|cos|sin)|(cos|sin)_cached|masked_bias"
    r"|(attn|attention|causal)_mask|pixel_(mean|std))"
)


@dataclass(frozen=True)
class GradientFile:
    """The contents of a file of a gradient, or of a checkpoint.

    Attributes
    ----------
    path : Path
    tensors : tuple of Tensor
        The tensors that are measured, in order.
    left_out : tuple of str
        The other contents, each with the reason.
    total : int
        The number of entries of these tensors, and of the floating-point weights that were not chosen.
    """

    path: Path
    tensors: tuple[Tensor, ...]
    left_out: tuple[str, ...] = ()
    total: int = 0

    @property
    def n_entries(self) -> int:
        """The number of entries that are measured."""
        return sum(tensor.n_entries for tensor in self.tensors)

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """The type of the vector: float64 if any tensor has it, otherwise float32."""
        kinds = {MEASURED_AS[tensor.dtype] for tensor in self.tensors}
        return np.float64 if np.float64 in kinds else np.float32


def describe(path: Path, match: Sequence[str] = (), *, checkpoint: bool = False) -> GradientFile:
    """Return the contents of a file, without reading its data.

    Parameters
    ----------
    path : Path
    match : sequence of str
        Only tensors whose name fits one of these patterns (``fnmatch``, case matters). By default all.
    checkpoint : bool
        Whether to leave out tensors that no optimizer trains: ``BUFFERS``, unless nothing else was
        chosen, and integers and bools. Without it, integers and bools are refused.

    Raises
    ------
    InputError
        If the file cannot be read, or holds tensors that are not floating-point.
    """
    with opened(path) as (stored, left_out):
        names = [one.tensor.name for one in stored]
        if len(set(names)) != len(names):
            raise InputError(f"{path} holds a tensor twice; each name once is needed")
        chosen = [o for o in stored if not match or any(fnmatchcase(o.tensor.name, m) for m in match)]
        if not len(chosen) > 0:
            raise InputError(
f"{path} holds no tensor" + (f" that matches {_listed(match)}" if match else "")
            + (f"; it holds {_listed(names)}" if names else "; at least one is needed")
)  # fmt: skip
        weights = [one for one in stored if not _is_state(one)]
        left_out += [f"{o.tensor.name!r} (state of an optimizer)" for o in chosen if _is_state(o)]
        chosen = [one for one in chosen if not _is_state(one)]
        if not len(chosen) > 0:
            raise InputError(f"{path} holds nothing but an optimizer's state; weights are needed")
        _require_one_group(path, chosen)
        if checkpoint and not all(map(_is_buffer, chosen)):
            left_out = [f"{o.tensor.name!r} (not trained)" for o in chosen if _is_buffer(o)] + left_out
            weights, chosen = ([one for one in of if not _is_buffer(one)] for of in (weights, chosen))
        tensors = []
        for tensor in (one.tensor for one in chosen):
            integers = bool(re.fullmatch("u?int[0-9]+|bool", tensor.dtype))
            if tensor.dtype in MEASURED_AS:
                tensors.append(tensor)
            elif checkpoint and integers:
                left_out.append(f"{tensor.name!r} ({tensor.dtype})")
            else:
                raise InputError(
                    f"{path}: {tensor.name!r} is {tensor.dtype}; {', '.join(MEASURED_AS)} is needed"
                    + (" (differences of checkpoints leave integers out)" if integers else "")
                )
        beside = (one.tensor for one in weights if one.group == chosen[0].group)
        total = sum(tensor.n_entries for tensor in beside if tensor.dtype in MEASURED_AS)
    found = GradientFile(path, tuple(tensors), tuple(left_out), total)
    if not found.n_entries > 0:
        raise InputError(f"{path} holds no entry to measure; at least one is needed")
    return found


def hints(path: Path, left_out: Sequence[str], *, checkpoint: bool) -> list[str]:
    """Return notes on signs that a file is no gradient, or only a part of a model."""
    found = []
    name = f"{path.parent.name}/{path.name}".lower()
    like = re.search(r"checkpoint|ckpt|global_step|pytorch_model|model\.safetensors", name)
    beside = any(one.startswith("'optim") for one in left_out)
    if not checkpoint and (beside or (like and "grad" not in name)):
        found.append(
            "these look like checkpoints, whose weights are measured here as if they were gradients; "
            "differences measures the changes between them"
        )
    for part in (path, path.parent):
        if rank := re.search(r"(.*rank_?)[0-9]+(.*)", part.name):
            ranks = list(part.parent.glob(f"{glob.escape(rank[1])}[0-9]*{glob.escape(rank[2])}"))
            if len(ranks) > 1:
                found.append(f"{part} is one of {len(ranks)} ranks; the others are not measured")
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
            if here != there:
                raise InputError(
                    f"{name!r} has {what} {there} in {other.path} and {here} in {first.path}{needed}"
                )
    for name in theirs:
        if name not in ours:
            raise InputError(f"{other.path} holds {name!r}, which {first.path} lacks{needed}")


def read(
    path: Path,
    layout: GradientFile,
    out: Gradient,
    positions: NDArray[np.int64] | None = None,
) -> None:
    """Read the entries of a file into a vector, tensor by tensor.

    Parameters
    ----------
    path : Path
        A file with the tensors of ``layout``.
    layout : GradientFile
        The tensors to read, in order.
    out : array of float32 or float64
        The vector, with ``layout.n_entries`` entries, or as many as ``positions`` has.
    positions : array of int64, ascending, optional
        The positions of the entries to read. By default all are read.

    Raises
    ------
    InputError
        If an entry is not finite, or the file is damaged or was changed.
    """
    with opened(path) as (stored, _):
        by_name = {one.tensor.name: one for one in stored}
        first = 0
        for tensor in layout.tensors:
            one = by_name.get(tensor.name)
            if one is None or one.tensor != tensor:
                raise InputError(f"{path} was changed while it was measured; measure it again")
            _read_tensor(path, one, first, out, positions)
            first += tensor.n_entries


def _read_tensor(
    path: Path,
    one: StoredTensor,
    first: int,
    out: Gradient,
    positions: NDArray[np.int64] | None,
) -> None:
    """Read the entries of one tensor, whose first entry is entry ``first`` of the file."""
    shape, size = one.tensor.shape, one.tensor.n_entries
    # ``into`` takes the entries in the order of storage: all of them, or those at ``stored_at``.
    into: Any
    stored_at = None
    if positions is None:
        whole = out[first : first + size].reshape(shape)
        into = whole.T.flat if one.by_column else whole.reshape(-1)
    else:
        low, high = np.searchsorted(positions, (first, first + size)).tolist()
        stored_at = positions[low:high] - first
        into = out[low:high]
        if one.by_column:
            # From positions in C order to those in Fortran order.
            stored_at = np.ravel_multi_index(np.unravel_index(stored_at, shape), shape, order="F")
            sorting = np.argsort(stored_at)
            stored_at = stored_at[sorting]
    start = 0
    for block in one.blocks():
        stop = start + block.size
        entries = block.astype(out.dtype, copy=False)
        places: Any = slice(start, stop)
        at = None
        if stored_at is not None:
            low, high = np.searchsorted(stored_at, (start, stop)).tolist()
            at = stored_at[low:high]
            entries = entries[at - start]
            places = sorting[low:high] if one.by_column else slice(low, high)
        into[places] = entries
        _require_finite(path, one, entries, range(start, stop) if at is None else at)
        start = stop
    if start != size:
        raise InputError(
            f"{path} holds {start} of the {size} entries of {one.tensor.name!r}; it is damaged"
        )


def _require_finite(
    path: Path,
    one: StoredTensor,
    entries: Gradient,
    stored_at: Sequence[int] | NDArray[np.int64],
) -> None:
    """Raise InputError for an entry that is not finite, named by its position in the tensor."""
    finite = np.isfinite(entries)
    if finite.all():
        return
    index = int(np.argmin(finite))
    entry = int(stored_at[index])
    if one.by_column:
        shape = one.tensor.shape
        entry = int(np.ravel_multi_index(np.unravel_index(entry, shape, "F"), shape))
    raise InputError(
        f"{path}: entry {entry} of {one.tensor.name!r} is {entries[index]}; finite numbers are needed: "
        "leave out this file, or choose other tensors with match"
    )


def _is_state(one: StoredTensor) -> bool:
    """Return whether a tensor is optimizer state, by its name or that of its group."""
    return OPTIMIZER.fullmatch(one.tensor.name) is not None or OPTIMIZER.fullmatch(one.group) is not None


def _is_buffer(one: StoredTensor) -> bool:
    """Return whether a tensor is not trained, by its name; for a mask, by its shape too."""
    name, shape = one.tensor.name.removeprefix(f"{one.group}."), one.tensor.shape
    mask = name.endswith("attn.bias") and len(shape) == 4 and shape[:2] == (1, 1)
    return mask or BUFFERS.fullmatch(name) is not None


def _require_one_group(path: Path, chosen: Sequence[StoredTensor]) -> None:
    groups = sorted({one.group for one in chosen})
    likely = [*(group for group in groups if "ema" not in group.lower()), *groups]
    if len(groups) != 1:
        raise InputError(
            f"{path} holds tensors "
            f"{' and '.join(f'under {g!r}' if g else 'at its top' for g in groups)}; "
            f"choose one with match, such as '{next(filter(None, likely), '')}.*'"
        )


def _listed(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
