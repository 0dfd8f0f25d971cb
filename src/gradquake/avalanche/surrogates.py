"""Matched nulls: surrogates of a gradient that keep some of its properties and destroy the others.

They form a ladder, the table ``SURROGATES``: from rung to rung a surrogate keeps more of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradquake.avalanche import _kernels_angle, _kernels_random
from gradquake.avalanche.checks import FLOATS
from gradquake.avalanche.sums import Gradient
from gradquake.avalanche.tables import Table
from gradquake.errors import InputError, counted, require, require_count, require_seed

__all__ = [
    "LARGE", "REAL", "RUNGS", "SURROGATES", "Surrogate", "checked_rungs", "gaussian",
    "gaussian_per_tensor", "permuted", "permuted_within_tensor", "repeated_draw", "seed_at",
    "sign_flipped", "standard_normal", "surrogate",
]  # fmt: skip

# The gradient itself, which stands beside the names of surrogates.
REAL = "real"

# Keeps the random streams of surrogates apart from all others of the same seed.
STREAM = 0x73757272

# The most random words drawn at once.
MOST_WORDS = 1 << 16

# A gradient of this many entries does not stay in the caches. Its entries are shuffled in buckets of
# about 2^BUCKET_BITS, which do; and the Gaussian surrogates of a training's steps are of few draws.
LARGE = 1 << 18
BUCKET_BITS = 15

# The number of these draws.
GAUSSIAN_DRAWS = 8


def gaussian(gradients: ArrayLike, *, seed: int = 0) -> Gradient:
    """Return independent standard normal numbers in the shape of the gradients.

    Parameters
    ----------
    gradients : array of float32 or float64, shape (N,) or (snapshots, N)
        Every snapshot gets a surrogate of its own.
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

    Arguments and errors as in ``gaussian``; ``tensors`` is the number of entries of each parameter
    tensor, in order, and InputError is raised if these are not N together.
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
    """Return surrogates by their name in ``SURROGATES``.

    The other arguments are those of the function of that name; only surrogates that are drawn tensor by
    tensor need ``tensors``.

    Raises
    ------
    InputError
        As that function does, for another name, or if the gradient is so large that the surrogate
        overflows its dtype.
    """
    if not (isinstance(rung, str) and rung in SURROGATES):
        raise InputError(f"the surrogate is {rung!r}; one of {', '.join(SURROGATES)} is needed")
    chosen = SURROGATES[rung]
    require_seed(seed)
    values = _checked(gradients)
    n = values.shape[-1]
    lengths = _checked_lengths(tensors, n) if chosen.by_tensor else [n]
    # Another stream for another length and surrogate, so that no two null runs share their draws.
    entropy = np.random.SeedSequence(seed, spawn_key=(STREAM, n, chosen.stream))
    rng = np.random.default_rng(entropy)
    rows = np.atleast_2d(values)
    drawn = np.empty_like(rows, order="C")
    # Rounding to 0 is harmless, and overflow is checked below.
    with np.errstate(under="ignore", over="ignore"):
        for start, stop in pairwise([0, *accumulate(lengths)]):
            drawn[:, start:stop] = chosen.draw(rows[:, start:stop], rng)
    if not np.isfinite(drawn).all():
        raise InputError(
            f"the null {rung} overflows {drawn.dtype}; scale the gradient down, which changes nothing "
            "else"
        )
    shaped: Gradient = drawn.reshape(values.shape)
    return shaped


def checked_rungs(nulls: object) -> tuple[str, ...]:
    """Return the names of surrogates that an argument ``nulls`` gives, or raise InputError."""
    if isinstance(nulls, str) or not isinstance(nulls, Sequence):
        raise InputError(f"nulls is {nulls!r}; a list of names is needed")
    for rung in nulls:
        if rung not in SURROGATES:
            raise InputError(f"a null is {rung!r}; one of {', '.join(SURROGATES)} is needed")
    return tuple(nulls)


def _checked(gradients: ArrayLike) -> Gradient:
    """Return gradients as an array (N,) or (snapshots, N), or raise InputError."""
    values = np.asarray(gradients)
    if values.dtype not in FLOATS:
        raise InputError(f"the gradient has dtype {values.dtype}; float32 or float64 is needed")
    if values.ndim not in (1, 2) or values.size == 0:
        raise InputError(f"gradients have shape {values.shape}; (N,) or (snapshots, N) is needed")
    require(bool(np.isfinite(values).all()), "a gradient is not finite; finite numbers are needed")
    return values


def _checked_lengths(tensors: Sequence[int], n: int) -> Sequence[int]:
    """Return the lengths of the tensors that make up a gradient of n entries, or raise InputError."""
    if not isinstance(tensors, Sequence | np.ndarray):
        raise InputError(f"tensors is {tensors!r}; a sequence of the tensors' lengths is needed")
    for length in tensors:
        require_count("the length of a tensor", length, 1)
    total = sum(tensors)
    if total != n:
        raise InputError(
            f"the tensors have {counted(total, 'entry')} together and the gradient {n}; they must be "
            "equal"
        )
    return tensors


def seed_at(seed: int, step: int, draw: int = 0) -> int:
    """Return the seed of a surrogate of the gradient at one step of a run, independent of all others."""
    mixed = np.random.SeedSequence((seed, step, draw)).generate_state(1, np.uint64)[0]
    return int(mixed >> np.uint64(1))


def repeated_draw(rung: str, n: int, seed: int, step: int) -> int | None:
    """Return which draw the null of a step is, of few that repeat; None if every step has its own.

    The avalanche of a Gaussian gradient depends on nothing but N, the graph and the draw, so it is
    measured once for each of ``GAUSSIAN_DRAWS`` draws of a gradient of ``LARGE`` entries or more. The
    steps take them in random order. The mean over any number of steps then has the standard error of
    that many draws: s/N varies by 0.2 % of itself from draw to draw at N = 10^6, and by 1/sqrt(N).
    """
    if rung != "gaussian" or n < LARGE:
        return None
    return seed_at(seed, step) % GAUSSIAN_DRAWS


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return independent standard normal numbers that are the same on every processor.

    They equal those of ``rng.standard_normal`` up to rounding, and advance its stream as far: NumPy
    takes logarithms and exponentials from the mathematical library of the machine.

    Parameters
    ----------
    rng : numpy.random.Generator
        Made by ``numpy.random.default_rng``.
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


def _normal(rows: Gradient, rng: np.random.Generator) -> Gradient:
    return standard_normal(rng, rows.shape)


def _normal_of_same_size(rows: Gradient, rng: np.random.Generator) -> Gradient:
    # Divided by the largest entry first, since the square of a tiny or huge one is 0 or infinite.
    largest = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
    scaled = np.divide(rows, largest, out=np.zeros(rows.shape), where=largest > 0)
    count, length = rows.shape
    norms = np.empty(count)
    _kernels_angle.norms(scaled.reshape(-1), length * np.arange(count + 1), norms)
    drawn: Gradient = standard_normal(rng, rows.shape)
    drawn *= largest * (norms / np.sqrt(length))[:, None]
    return drawn


def _in_random_order(rows: Gradient, rng: np.random.Generator) -> Gradient:
    count, length = rows.shape
    if length < LARGE:
        return rng.permuted(rows, axis=1)
    shuffled = np.empty(rows.shape, rows.dtype)
    words: Any = rng.bit_generator.random_raw(count)
    ends = np.empty(max(length >> BUCKET_BITS, 1), np.int64)
    for row, word, drawn in zip(rows, words, shuffled, strict=True):
        _kernels_random.shuffle_into(np.ascontiguousarray(row), word, ends, drawn)
    return shuffled


def _with_random_signs(rows: Gradient, rng: np.random.Generator) -> Gradient:
    return np.where(rng.integers(2, size=rows.shape, dtype=np.int8) == 1, rows, -rows)


@dataclass(frozen=True)
class Surrogate:
    """A null of gradients: one rung of the ladder.

    Attributes
    ----------
    draw : callable
        ``(rows, rng) -> rows``: a surrogate of each row of an array (snapshots, entries).
    label : str
        The name in figures.
    keeps : str
        The property of the gradient that it keeps.
    stream : int
        The number of its random stream, of no other surrogate.
    by_tensor : bool
        Whether each parameter tensor is drawn by itself.
    """

    draw: Callable[[Gradient, np.random.Generator], Gradient]
    label: str
    keeps: str
    stream: int
    by_tensor: bool = False


# Every surrogate by name, from the one that keeps least. A new one is a function and a line here.
SURROGATES = Table(
    __name__,
    "SURROGATES",
    "surrogate",
    {
        # A cascade does not depend on the scale of a gradient.
        "gaussian": Surrogate(_normal, "Gaussian", "the number of entries", 0),
        "gaussian_per_tensor": Surrogate(
            _normal_of_same_size,
            "Gaussian per tensor",
            "the root mean square of each tensor",
            1,
            by_tensor=True,
        ),
        "permuted_within_tensor": Surrogate(
            _in_random_order, "permuted in tensor", "all values of each tensor", 2, by_tensor=True
        ),
        "permuted": Surrogate(_in_random_order, "permuted", "all values", 3),
        "sign_flipped": Surrogate(
            _with_random_signs, "signs flipped", "the magnitude at every place", 4
        ),
    },
)
RUNGS = tuple(SURROGATES)
