"""Matched nulls: surrogates of a gradient that keep some of its properties and destroy the others.

They form a ladder. From rung to rung a surrogate keeps more of the gradient measured:

- ``gaussian``: its length only; the entries are independent standard normal numbers, since a cascade
  does not depend on the scale of a gradient.
- ``gaussian_per_tensor``: the root mean square of each parameter tensor.
- ``permuted_within_tensor``: all values of each tensor; each stays in its tensor, at a random place.
- ``permuted``: all values of the gradient, each at a random place.
- ``sign_flipped``: the magnitude at every place; the signs are random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_angle, _kernels_random
from gradquake.avalanche.cascade import FLOATS, Gradient
from gradquake.errors import InputError, counted, require, require_count, require_seed

# The name of no surrogate: the gradient itself, the end of the ladder.
REAL = "real"

# Distinguishes the streams of surrogates from any other that a seed feeds.
STREAM = 0x73757272

# Random words that are drawn at once.
MOST_WORDS = 1 << 16


def gaussian(gradients: ArrayLike, *, seed: int = 0) -> Gradient:
    """Return independent standard normal numbers in the shape of the gradients.

    Parameters
    ----------
    gradients : array of float32 or float64, shape (N,) or (snapshots, N)
        Every snapshot gets a surrogate of its own. The same for every function of this module.
    seed : int
        Equal seeds give equal surrogates.

    Returns
    -------
    array of the gradients' shape and dtype

    Raises
    ------
    InputError
        For another shape or dtype, NaN or infinity, or a seed that is not an integer of at least 0.
    """
    return surrogate("gaussian", gradients, seed=seed)


def gaussian_per_tensor(gradients: ArrayLike, tensors: Sequence[int], *, seed: int = 0) -> Gradient:
    """Return normal numbers with each tensor's own root mean square, snapshot by snapshot.

    Parameters
    ----------
    gradients, seed
        As in ``gaussian``.
    tensors : sequence of int
        The number of entries of each parameter tensor, in order; together N.

    Raises
    ------
    InputError
        As ``gaussian`` does, or where the tensors do not make up N.
    """
    return surrogate("gaussian_per_tensor", gradients, tensors, seed=seed)


def permuted_within_tensor(gradients: ArrayLike, tensors: Sequence[int], *, seed: int = 0) -> Gradient:
    """Return the gradients with the entries of each tensor in random order.

    Arguments and errors as in ``gaussian_per_tensor``.
    """
    return surrogate("permuted_within_tensor", gradients, tensors, seed=seed)


def permuted(gradients: ArrayLike, *, seed: int = 0) -> Gradient:
    """Return the gradients with all entries in random order. Arguments and errors as in ``gaussian``."""
    return surrogate("permuted", gradients, seed=seed)


def sign_flipped(gradients: ArrayLike, *, seed: int = 0) -> Gradient:
    """Return the gradients with random signs. Arguments and errors as in ``gaussian``."""
    return surrogate("sign_flipped", gradients, seed=seed)


def surrogate(
    rung: str, gradients: ArrayLike, tensors: Sequence[int] = (), *, seed: int = 0
) -> Gradient:
    """Return surrogates by the name of their rung in ``RUNGS``.

    Parameters
    ----------
    rung : str
        A name in ``RUNGS``.
    gradients, seed
        As in ``gaussian``.
    tensors : sequence of int
        As in ``gaussian_per_tensor``; needed on the rungs that know of tensors.

    Raises
    ------
    InputError
        As the function of the rung does, or for another rung; or if the gradient is so large that
        the surrogate overflows its dtype.
    """
    if not (isinstance(rung, str) and rung in _DRAWS):
        raise InputError(f"the surrogate is {rung!r}; one of {', '.join(RUNGS)} is needed")
    require_seed(seed)
    values = np.asarray(gradients)
    if values.dtype not in FLOATS:
        raise InputError(f"the gradient has dtype {values.dtype}; float32 or float64 is needed")
    if values.ndim not in (1, 2) or values.size == 0:
        raise InputError(f"gradients have shape {values.shape}; (N,) or (snapshots, N) is needed")
    require(bool(np.isfinite(values).all()), "a gradient is not finite; finite numbers are needed")
    n = values.shape[-1]
    if not isinstance(tensors, Sequence | np.ndarray):
        raise InputError(f"tensors is {tensors!r}; a sequence of the tensors' lengths is needed")
    lengths = tuple(tensors) if rung in _KNOWS_TENSORS else (n,)
    for length in lengths:
        require_count("the length of a tensor", length, 1)
    if sum(lengths) != n:
        raise InputError(
            f"the tensors have {counted(sum(lengths), 'entry')} together and the gradient {n}; they "
            "must be equal"
        )
    # Another stream for another length and rung, so that no two null runs share their draws.
    entropy = np.random.SeedSequence(seed, spawn_key=(STREAM, n, RUNGS.index(rung)))
    rows = np.atleast_2d(values)
    drawn = np.empty_like(rows, order="C")
    rng = np.random.default_rng(entropy)
    edges = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    # Rounding to 0 is meant, and infinity is looked for.
    with np.errstate(under="ignore", over="ignore"):
        for start, stop in pairwise(edges):
            drawn[:, start:stop] = _DRAWS[rung](rows[:, start:stop], rng)
    if not np.isfinite(drawn).all():
        raise InputError(
            f"the null {rung} overflows {drawn.dtype}; scale the gradient down, which changes nothing "
            "else"
        )
    shaped: Gradient = drawn.reshape(values.shape)
    return shaped


def seed_at(seed: int, step: int, draw: int = 0) -> int:
    """Return the seed of a surrogate of the gradient at one step of a run, independent of all others."""
    mixed = np.random.SeedSequence((seed, step, draw)).generate_state(1, np.uint64)[0]
    return int(mixed >> np.uint64(1))


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return independent standard normal numbers that are the same on every processor.

    They are those of ``rng.standard_normal``, and take as much of its stream, but for the rounding:
    NumPy takes logarithms and exponentials from the mathematical library at hand.

    Parameters
    ----------
    rng : numpy.random.Generator
        Of the kind that ``numpy.random.default_rng`` makes.
    shape : tuple of int
    """
    values = np.empty(shape)
    left = values.reshape(-1)
    stream: Any = rng.bit_generator
    while left.size:
        words = stream.random_raw(min(left.size + left.size // 32 + 64, MOST_WORDS))
        widths, limits, heights = _ziggurat()
        drawn, used = _kernels_random.normals(words, widths, limits, heights, left)
        stream.advance(used - words.size)
        left = left[drawn:]
    return values


@cache
def _ziggurat() -> tuple[NDArray[Any], ...]:
    tables = np.empty(256), np.empty(256, np.uint64), np.empty(256)
    _kernels_random.ziggurat_tables(*tables)
    return tables


def _normal(rows: Gradient, rng: np.random.Generator) -> NDArray[Any]:
    return standard_normal(rng, rows.shape)


def _normal_of_same_size(rows: Gradient, rng: np.random.Generator) -> NDArray[Any]:
    # Off the largest entry first, since the square of a tiny or huge one is 0 or infinite.
    largest = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
    scaled = np.divide(rows, largest, out=np.zeros(rows.shape), where=largest > 0)
    count, length = rows.shape
    norms = np.empty(count)
    _kernels_angle.norms(scaled.reshape(-1), length * np.arange(count + 1), norms)
    drawn: NDArray[Any] = standard_normal(rng, rows.shape)
    drawn *= largest * (norms / np.sqrt(length))[:, None]
    return drawn


def _in_random_order(rows: Gradient, rng: np.random.Generator) -> NDArray[Any]:
    return rng.permuted(rows, axis=1)


def _with_random_signs(rows: Gradient, rng: np.random.Generator) -> NDArray[Any]:
    return np.where(rng.integers(2, size=rows.shape, dtype=np.int8) == 1, rows, -rows)


_DRAWS: dict[str, Callable[[Gradient, np.random.Generator], NDArray[Any]]] = {
    "gaussian": _normal,
    "gaussian_per_tensor": _normal_of_same_size,
    "permuted_within_tensor": _in_random_order,
    "permuted": _in_random_order,
    "sign_flipped": _with_random_signs,
}
_KNOWS_TENSORS = ("gaussian_per_tensor", "permuted_within_tensor")

# From the one that keeps least of the gradient.
RUNGS = tuple(_DRAWS)
