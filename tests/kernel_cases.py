"""Random inputs for compiled kernels, and the naive twins that several of their tests share."""

import types

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from gradquake.analysis import _kernels
from gradquake.avalanche import (
    _kernels_angle,
    _kernels_cascade,
    _kernels_elementary,
    _kernels_graphs,
    _kernels_kicks,
    _kernels_random,
    _kernels_shares,
    _kernels_tensors,
    _kernels_threshold,
)
from gradquake.experiments import _kernels_mlp

KERNEL_FILES = (
    _kernels,
    _kernels_angle,
    _kernels_cascade,
    _kernels_elementary,
    _kernels_graphs,
    _kernels_kicks,
    _kernels_mlp,
    _kernels_random,
    _kernels_shares,
    _kernels_tensors,
    _kernels_threshold,
)


DTYPES = (np.float32, np.float64)


def examples(count):
    return settings(deadline=None, derandomize=True, max_examples=count)


seeds = st.integers(0, 2**32 - 1)


dtypes = st.sampled_from(DTYPES)


quantiles = st.one_of(st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 1.0]), st.floats(0, 1))


def rising(rng, n):
    return np.sort(rng.standard_normal(n) ** 2)


def misleading(rng, n):
    """Large exactly where ``bracket`` looks, so that its sample says nothing about the rest."""
    values = rng.standard_normal(n)
    values[:: n // max(int(n ** (2 / 3)), 1)] += 1e6
    return values


SHAPES = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "heavy-tailed": lambda rng, n: rng.standard_t(1, n),
    "ties": lambda rng, n: rng.integers(-3, 4, n) / 4,
    "all equal": lambda rng, n: np.full(n, 0.25) * rng.choice([-1, 1], n),
    "zeros": lambda _, n: np.zeros(n),
    "mostly zeros": lambda rng, n: rng.standard_normal(n) * (rng.random(n) < 0.05),
    "rising": rising,
    "falling": lambda rng, n: rising(rng, n)[::-1].copy(),
    "misleading": misleading,
}


@st.composite
def gradients(draw, max_size=1500):
    size = draw(st.one_of(st.integers(1, 40), st.integers(1, max_size)))
    shape = draw(st.sampled_from(sorted(SHAPES)))
    values = SHAPES[shape](np.random.default_rng(draw(seeds)), size)
    return values.astype(draw(dtypes))


def plain(function):
    """Return a kernel's own source as plain Python, and so everything that it calls."""
    names = {name: value for file in KERNEL_FILES for name, value in vars(file).items()}
    for name, value in names.items():
        if hasattr(value, "py_func"):
            names[name] = types.FunctionType(value.py_func.__code__, names, name)
    # Python has no function for the number of zero bits that a word ends with, and none for a hint.
    names["trailing_zeros"] = lambda word: (int(word) & -int(word)).bit_length() - 1
    names["prefetch"] = lambda *_: None
    return names[function.py_func.__name__]


def words_for(n, fill=0):
    return np.full((n + 63) // 64, fill, np.uint64)


def bits_of(marks):
    return np.unpackbits(marks.view(np.uint8), bitorder="little").astype(bool)


def marks_of(bits):
    padded = np.zeros(64 * ((bits.size + 63) // 64), bool)
    padded[: bits.size] = bits
    return np.packbits(padded, bitorder="little").view(np.uint64)


def magnitude_quantile(gradient, quantile):
    # What is left in the scratch space must not matter.
    scratch = np.full_like(gradient, np.nan)
    return _kernels_threshold.magnitude_quantile(gradient, quantile, scratch)


def naive_quantile(gradient, quantile):
    return np.quantile(np.abs(gradient).astype(np.float64), quantile)


def csr(n, edges):
    rows = [sorted({j for e in edges for j in e if i in e and j != i}) for i in range(n)]
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return indptr, np.array([j for row in rows for j in row], np.int32)


def random_csr(rng, n, mean_degree):
    """A random simple graph; with a mean degree around 1, many nodes have no neighbor at all."""
    ends = rng.integers(n, size=(int(n * mean_degree / 2), 2))
    ends = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1), axis=0)
    both = np.concatenate([ends, ends[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    degrees = np.bincount(both[:, 0], minlength=n)
    return np.cumsum([0, *degrees], dtype=np.int32), both[:, 1].astype(np.int32)


def scratch_for(n, dtype):
    """The scratch of ``cascade`` for n nodes or more, full of what must not matter."""
    words = (n + 63) // 64 + 2
    return (
        np.full(words, 2**64 - 1, np.uint64),
        np.full(words, 2**64 - 1, np.uint64),
        np.full((words + 63) // 64, 255, np.uint8),
        np.full(n + 2, -1, np.int32),
        np.full(n + 2, np.nan, dtype),
    )


def no_tensors(*batch):
    """The edges, topplings and areas of a cascade in which no tensor is counted."""
    return tuple(np.empty((*batch, *shape), np.int64) for shape in [(0,), (0, 0), (0,)])


def naive_dissipation(before, after, indptr):
    alone = np.flatnonzero(np.diff(indptr) == 0)
    total = 0.0
    for i in alone:  # not sum(): from Python 3.12 on, it makes up for rounding errors
        total += float(before[i]) - float(after[i])
    return total


def cycle_keys(seed, n):
    bits = (n - 1).bit_length()
    keys = np.random.default_rng(seed).integers(2**64, size=6, dtype=np.uint64)
    return np.array([bits - bits // 2, 2 ** (bits // 2) - 1, *keys], np.uint64)


class SplitMix:
    """The generator in Python's own integers."""

    def __init__(self, state):
        self.state = state

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    def uniform(self):
        return (self.next() >> 11) * 2.0**-53

    def below(self, bound):
        return int(self.uniform() * bound)


def state_of(seed):
    return np.array([seed], np.uint64)


def naive_permuted(x, n, keys):
    """The Feistel network in Python's integers."""
    low_bits, high_mask, *rounds = (int(key) for key in keys)
    while True:
        low, high = x & (2**low_bits - 1), x >> low_bits
        for r in range(0, len(rounds), 2):
            low ^= ((high ^ rounds[r]) * 0xBF58476D1CE4E5B9 % 2**64 >> 33) & (2**low_bits - 1)
            high ^= ((low ^ rounds[r + 1]) * 0xBF58476D1CE4E5B9 % 2**64 >> 33) & high_mask
        x = high << low_bits | low
        if x < n:
            return x
