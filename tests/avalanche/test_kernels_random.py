"""The kernels of random numbers and permutations against naive twins."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradquake.avalanche import (
    _kernels_random,
)
from kernel_cases import SplitMix, cycle_keys, examples, naive_permuted, seeds, state_of


def drawn(seed, count, words):
    tables = np.empty(256), np.empty(256, np.uint64), np.empty(256)
    _kernels_random.ziggurat_tables(*tables)
    stream, values = np.random.PCG64(seed), np.empty(count)
    return values, *_kernels_random.normals(stream.random_raw(words), *tables, values)


@pytest.mark.parametrize("seed", range(3))
def test_normals_are_those_of_numpy_from_the_same_words(seed):
    # Of 300,000 some 80 lie in the tail, and 3,000 are drawn near the edge of a layer.
    values, count, used = drawn(seed, 300_000, 320_000)
    stream = np.random.default_rng(seed)
    np.testing.assert_allclose(values, stream.standard_normal(300_000), rtol=1e-12)
    assert count == 300_000
    reached = np.random.PCG64(seed)
    reached.advance(used)
    assert reached.state == stream.bit_generator.state


def test_normals_end_with_the_words():
    whole, _, _ = drawn(5, 1000, 2000)
    for words in range(0, 60, 7):
        values, count, used = drawn(5, 1000, words)
        assert used <= words
        assert np.array_equal(values[:count], whole[:count])
        # What the last ones left is too little for one more in the worst case.
        assert words - used <= 6


def unshift(z, bits):
    """Invert z ^ (z >> bits) on 64 bits."""
    result = z
    for _ in range(64 // bits):
        result = z ^ (result >> bits)
    return result


def state_before(output):
    """Return the state whose next output is ``output``: every step of SplitMix64 is one to one."""
    z = unshift(output, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    z = unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    return (unshift(z, 30) - 0x9E3779B97F4A7C15) % 2**64


def test_next_random_gives_the_published_sequence():
    # The first outputs of SplitMix64 from the state 1234567.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    state = state_of(1234567)
    assert [int(_kernels_random.next_random(state)) for _ in published] == published


@examples(50)
@given(seed=st.integers(0, 2**64 - 1), bound=st.integers(1, 2**53 - 1))
def test_random_numbers_are_those_of_plain_integers(seed, bound):
    state, twin = state_of(seed), SplitMix(seed)
    for _ in range(5):
        assert int(_kernels_random.next_random(state)) == twin.next()
        drawn = _kernels_random.random_below(bound, state)
        assert drawn == twin.below(bound)
        assert 0 <= drawn < bound
    assert int(state[0]) == twin.state


@examples(50)
@given(bound=st.integers(1, 2**53 - 1))
@example(bound=2**53 - 1)
@example(bound=2**52)
def test_random_below_reaches_both_ends_and_not_the_bound(bound):
    assert _kernels_random.random_below(bound, state_of(state_before(0))) == 0
    assert _kernels_random.random_below(bound, state_of(state_before(2**64 - 1))) == bound - 1


@pytest.mark.parametrize("bound", [2, 3, 10, 64])
def test_random_below_is_uniform(bound):
    state, draws = state_of(9), 20_000
    counts = np.bincount(
        [_kernels_random.random_below(bound, state) for _ in range(draws)], minlength=bound
    )
    # Chi-square has mean bound - 1 and variance 2 (bound - 1): within four standard deviations.
    chi_square = ((counts - draws / bound) ** 2).sum() / (draws / bound)
    assert counts.size == bound
    assert chi_square < bound - 1 + 4 * math.sqrt(2 * (bound - 1))


@examples(60)
@given(seed=seeds, n=st.integers(5, 400))
def test_permuted_is_a_permutation_and_unpermuted_its_inverse(seed, n):
    keys = cycle_keys(seed, n)
    size = np.uint64(n)
    image = [int(_kernels_random.permuted(np.uint64(x), size, keys)) for x in range(n)]
    assert image == [naive_permuted(x, n, keys) for x in range(n)]
    assert sorted(image) == list(range(n))
    assert [int(_kernels_random.unpermuted(np.uint64(y), size, keys)) for y in image] == list(range(n))


def naive_shuffled(values, seed, n_buckets):
    """Throw values into buckets and shuffle each, with lists and Python's integers."""
    random = SplitMix(seed)
    for _ in values:  # the first round only counts
        random.below(n_buckets)
    random = SplitMix(seed)
    buckets = [[] for _ in range(n_buckets)]
    for value in values:
        buckets[random.below(n_buckets)].append(value)
    for bucket in buckets:
        for i in range(len(bucket) - 1, 0, -1):
            j = random.below(i + 1)
            bucket[i], bucket[j] = bucket[j], bucket[i]
    return [value for bucket in buckets for value in bucket]


def shuffled(values, seed, n_buckets):
    found = np.empty_like(values)
    _kernels_random.shuffle_into(values, np.uint64(seed), np.empty(n_buckets, np.int64), found)
    return found


@examples(60)
@given(seed=st.integers(0, 2**64 - 1), n=st.integers(1, 40), n_buckets=st.integers(1, 7))
def test_a_shuffle_in_buckets_is_that_of_its_naive_twin(seed, n, n_buckets):
    values = np.arange(n, dtype=np.float32)
    assert shuffled(values, seed, n_buckets).tolist() == naive_shuffled(values, seed, n_buckets)


@pytest.mark.parametrize("n_buckets", [1, 3, 8])
def test_all_orders_of_a_shuffle_in_buckets_are_equally_likely(n_buckets):
    # 24 orders of 4 values: chi^2 with 23 degrees of freedom exceeds 49.7 with probability 0.001.
    draws = 12_000
    counts = Counter(tuple(shuffled(np.arange(4.0), seed, n_buckets).tolist()) for seed in range(draws))
    expected = draws / 24
    assert len(counts) == 24
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 49.7
