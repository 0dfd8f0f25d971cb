"""The surrogates: what each rung keeps of a gradient, exactly, and what it destroys."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gradquake import InputError, Probe
from gradquake.avalanche import surrogates
from gradquake.avalanche.surrogates import LARGE, RUNGS, repeated_draw, surrogate

DTYPES = ["float32", "float64"]
# The parameter tensors of a 2-4-1 network.
TENSORS = (8, 4, 4, 1)
N = sum(TENSORS)
PERMUTATIONS = ("permuted_within_tensor", "permuted")
# Multiplying by a power of two rounds nothing, so these give the very same digits.
SCALED = ("gaussian_per_tensor", "permuted_within_tensor", "permuted", "sign_flipped")


def examples(count):
    return settings(deadline=None, derandomize=True, max_examples=count)


seeds = st.integers(0, 2**63 - 1)


@st.composite
def gradients(draw):
    """Gradients in tensors, some of them all zero, with entries that repeat and zeros among them."""
    tensors = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    shape = (sum(tensors),) if draw(st.booleans()) else (draw(st.integers(1, 5)), sum(tensors))
    rng = np.random.default_rng(draw(seeds))
    values = rng.choice([0.0, 0.25, *rng.standard_normal(3)], shape) * rng.choice([-1, 1], shape)
    for start, stop in edges(tensors):
        if rng.random() < 0.2:
            values[..., start:stop] = 0
    return values.astype(draw(st.sampled_from(DTYPES))), tensors


def edges(tensors):
    return list(itertools.pairwise(np.cumsum([0, *tensors]).tolist()))


def normal(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def named(rung, values, tensors, seed):
    """Call the function of a rung, with the tensors where it knows of them."""
    knows = rung in ("gaussian_per_tensor", "permuted_within_tensor")
    arguments = (values, tensors) if knows else (values,)
    return getattr(surrogates, rung)(*arguments, seed=seed)


def root_mean_square(values):
    return np.sqrt((values.astype(np.float64) ** 2).mean(axis=-1))


# Every rung


def test_the_rungs_are_in_the_order_of_what_they_keep():
    assert RUNGS == (
        "gaussian",
        "gaussian_per_tensor",
        "permuted_within_tensor",
        "permuted",
        "sign_flipped",
    )


@pytest.mark.parametrize("rung", RUNGS)
@examples(15)
@given(case=gradients(), seed=seeds)
def test_shape_and_dtype_are_kept_and_the_input_is_left_as_it_is(rung, case, seed):
    values, tensors = case
    before = values.copy()
    drawn = surrogate(rung, values, tensors, seed=seed)
    assert (drawn.shape, drawn.dtype) == (values.shape, values.dtype)
    assert not np.shares_memory(drawn, values)
    np.testing.assert_array_equal(values, before)
    drawn[...] = 7
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("rung", RUNGS)
@examples(15)
@given(case=gradients(), seed=seeds)
def test_the_function_of_a_rung_and_its_name_give_the_same_bits_again(rung, case, seed):
    values, tensors = case
    drawn = surrogate(rung, values, tensors, seed=seed)
    assert drawn.tobytes() == surrogate(rung, values, tensors, seed=seed).tobytes()
    assert drawn.tobytes() == named(rung, values, tensors, seed).tobytes()


@pytest.mark.parametrize("rung", RUNGS)
def test_the_seed_is_0_without_one(rung):
    values = normal(2, N)
    np.testing.assert_array_equal(
        surrogate(rung, values, TENSORS), surrogate(rung, values, TENSORS, seed=0)
    )


@pytest.mark.parametrize("rung", RUNGS)
def test_a_vector_is_an_array_of_one_row(rung):
    values = normal(1, N)
    rows = surrogate(rung, values, TENSORS, seed=3)
    np.testing.assert_array_equal(surrogate(rung, values[0], TENSORS, seed=3), rows[0])


@pytest.mark.parametrize("rung", RUNGS)
def test_nested_lists_and_tensors_in_an_array_will_do(rung):
    values = normal(2, N)
    expected = surrogate(rung, values, TENSORS, seed=3)
    np.testing.assert_array_equal(
        surrogate(rung, values.tolist(), np.array(TENSORS), seed=np.int64(3)), expected
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rung", RUNGS)
def test_the_layout_in_memory_does_not_matter(rung, dtype):
    values = normal(6, N, dtype=dtype)
    expected = surrogate(rung, values, TENSORS, seed=5)
    wide = np.zeros((12, 3 * N), dtype)
    wide[::2, ::3] = values
    read_only = values.copy()
    read_only.flags.writeable = False
    layouts = [np.asfortranarray(values), wide[::2, ::3], values[:, ::-1].copy()[:, ::-1], read_only]
    for same in layouts:
        np.testing.assert_array_equal(same, values)
        drawn = surrogate(rung, same, TENSORS, seed=5)
        np.testing.assert_array_equal(drawn, expected)
        assert drawn.flags.c_contiguous
        vector = surrogate(rung, same[2], TENSORS, seed=5)
        np.testing.assert_array_equal(vector, surrogate(rung, values[2].copy(), TENSORS, seed=5))


@pytest.mark.parametrize("rung", RUNGS)
def test_equal_snapshots_get_surrogates_of_their_own(rung):
    drawn = surrogate(rung, np.tile(normal(N), (40, 1)), TENSORS)
    assert np.unique(drawn, axis=0).shape == (40, N)


@pytest.mark.parametrize("rung", RUNGS)
def test_other_seeds_give_other_surrogates(rung):
    values = normal(N)
    drawn = [surrogate(rung, values, TENSORS, seed=seed) for seed in (*range(30), 2**63 - 1)]
    assert np.unique(drawn, axis=0).shape == (31, N)


def test_no_two_rungs_share_their_draws():
    ones, one_tensor = np.ones(N), (N,)
    plain = surrogates.gaussian(ones)
    assert not np.isin(surrogates.gaussian_per_tensor(ones, one_tensor), plain).any()
    # Distinct entries tell where each went: with one tensor both rungs permute all of them.
    places = np.arange(N, dtype=float)
    within = surrogates.permuted_within_tensor(places, one_tensor)
    assert within.tolist() != surrogates.permuted(places).tolist()


@pytest.mark.parametrize("rung", RUNGS)
def test_lengths_do_not_share_their_draws(rung):
    # Were it one stream, the shorter surrogate of ones would begin the longer one.
    longer, shorter = np.arange(1.0, 101), np.arange(1.0, 100)
    if rung.startswith("gaussian"):
        longer, shorter = np.ones(100), np.ones(99)
    first, second = (surrogate(rung, values, (values.size,)) for values in (longer, shorter))
    assert (first[:99] == second).mean() < 0.75


# Gaussian


@examples(15)
@given(case=gradients(), seed=seeds, scale=st.sampled_from([0.0, 1e-30, 1.0, 1e30]))
def test_gaussian_knows_of_shape_and_dtype_only(case, seed, scale):
    values, _ = case
    drawn = surrogates.gaussian(values, seed=seed)
    other = np.full_like(values, scale)
    assert drawn.tobytes() == surrogates.gaussian(other, seed=seed).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_numbers_are_standard_normal_and_independent(dtype):
    drawn = surrogates.gaussian(np.zeros((200, 100), dtype), seed=1)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    # A correlation of n pairs is normal with deviation 1/sqrt(n): neighbors in a row, and rows.
    for first, second in ((drawn[:, :-1], drawn[:, 1:]), (drawn[:-1], drawn[1:])):
        correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
        assert abs(correlation) < 3.5 / np.sqrt(first.size)


def test_gaussian_numbers_in_single_precision_are_those_in_double_rounded():
    double = surrogates.gaussian(np.zeros((3, N)), seed=2)
    single = surrogates.gaussian(np.zeros((3, N), np.float32), seed=2)
    np.testing.assert_array_equal(single, double.astype(np.float32))


# Gaussian per tensor


@examples(40)
@given(case=gradients(), seed=seeds)
def test_gaussian_per_tensor_is_normal_numbers_times_each_root_mean_square(case, seed):
    values, tensors = case
    drawn = surrogates.gaussian_per_tensor(values, tensors, seed=seed)
    # All ones have root mean square 1 and so give the normal numbers themselves.
    plain = surrogates.gaussian_per_tensor(np.ones(values.shape), tensors, seed=seed)
    assert np.isfinite(plain).all()
    for start, stop in edges(tensors):
        size = root_mean_square(values[..., start:stop])[..., None]
        np.testing.assert_allclose(
            drawn[..., start:stop],
            (size * plain[..., start:stop]).astype(values.dtype),
            rtol=1e-6 if values.dtype == np.float32 else 1e-14,
            atol=np.finfo(values.dtype).tiny,
        )


def test_gaussian_per_tensor_numbers_are_standard_normal_and_independent():
    drawn = surrogates.gaussian_per_tensor(np.ones((200, 100)), (60, 1, 39), seed=1)
    for start, stop in edges((60, 1, 39)):
        assert stats.kstest(drawn[:, start:stop].ravel(), "norm").pvalue > 1e-3
    for first, second in ((drawn[:, :-1], drawn[:, 1:]), (drawn[:-1], drawn[1:])):
        correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
        assert abs(correlation) < 3.5 / np.sqrt(first.size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_per_tensor_has_the_root_mean_square_of_each_tensor_and_snapshot(dtype):
    tensors = (400, 200, 100)
    rng = np.random.default_rng(4)
    sizes = np.array([[1e-3, 1.0, 50.0], [2.0, 1e-6, 1e4]])
    values = np.hstack(
        [sizes[:, [t]] * rng.standard_t(3, (2, n)) for t, n in enumerate(tensors)]
    ).astype(dtype)
    many = np.array([surrogates.gaussian_per_tensor(values, tensors, seed=seed) for seed in range(50)])
    for start, stop in edges(tensors):
        expected = root_mean_square(values[:, start:stop])
        found = root_mean_square(np.moveaxis(many[:, :, start:stop], 1, 0).reshape(2, -1))
        # Of n squares of normal numbers, the root mean square varies by 1/sqrt(2 n).
        np.testing.assert_allclose(found, expected, rtol=3.5 / np.sqrt(2 * 50 * (stop - start)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_zero_tensor_stays_zero_and_leaves_the_others_alone(dtype):
    values = normal(3, N, dtype=dtype)
    values[1, 8:12] = 0
    drawn = surrogates.gaussian_per_tensor(values, TENSORS, seed=6)
    zero = drawn == 0
    assert zero[1, 8:12].all()
    assert zero.sum() == 4
    assert (surrogates.gaussian_per_tensor(np.zeros_like(values), TENSORS) == 0).all()


def test_a_surrogate_that_overflows_is_named_and_not_the_gradient():
    gradient = np.random.default_rng(0).uniform(-3e38, 3e38, 1000).astype(np.float32)
    message = "^the null gaussian_per_tensor overflows float32; scale the gradient down"
    with pytest.raises(InputError, match=message):
        surrogates.gaussian_per_tensor(gradient, [1000])
    assert np.isfinite(surrogate("gaussian", gradient)).all()


@pytest.mark.parametrize(("dtype", "exponent"), [("float64", 300), ("float32", 30)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_gaussian_per_tensor_neither_underflows_nor_overflows(dtype, exponent, sign):
    values = normal(2, N, dtype=dtype)
    scale = 10.0 ** (sign * exponent)
    usual = surrogates.gaussian_per_tensor(values, TENSORS, seed=7)
    scaled = surrogates.gaussian_per_tensor((scale * values).astype(dtype), TENSORS, seed=7)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(
        scaled.astype(np.float64),
        scale * usual.astype(np.float64),
        rtol=1e-5 if exponent == 30 else 1e-13,
    )


def test_tensors_of_unlike_scales_do_not_touch_each_other():
    values = normal(2, N)
    values[:, :8] *= 1e300
    values[:, 8:12] *= 1e-300
    drawn = surrogates.gaussian_per_tensor(values, TENSORS, seed=7)
    plain = surrogates.gaussian_per_tensor(np.ones((2, N)), TENSORS, seed=7)
    for scale, start, stop in ((1e300, 0, 8), (1e-300, 8, 12), (1.0, 12, 16), (1.0, 16, 17)):
        size = root_mean_square(values[:, start:stop] / scale)[:, None]
        np.testing.assert_allclose(drawn[:, start:stop] / scale, size * plain[:, start:stop], rtol=1e-13)


def test_entries_of_one_tensor_far_apart_in_scale_have_the_root_mean_square_of_the_largest():
    values = np.full(100, 1e-300)
    values[3] = 1e300
    drawn = surrogates.gaussian_per_tensor(values, (100,), seed=8)
    plain = surrogates.gaussian_per_tensor(np.ones(100), (100,), seed=8)
    np.testing.assert_allclose(drawn, 1e299 * plain, rtol=1e-13)


# Permutations


@examples(40)
@given(case=gradients(), seed=seeds)
def test_permuted_keeps_all_values_of_every_snapshot(case, seed):
    values, _ = case
    drawn = surrogates.permuted(values, seed=seed)
    np.testing.assert_array_equal(np.sort(drawn, axis=-1), np.sort(values, axis=-1))


@examples(40)
@given(case=gradients(), seed=seeds)
def test_permuted_within_tensor_keeps_all_values_of_every_tensor(case, seed):
    values, tensors = case
    drawn = surrogates.permuted_within_tensor(values, tensors, seed=seed)
    for start, stop in edges(tensors):
        np.testing.assert_array_equal(
            np.sort(drawn[..., start:stop], axis=-1), np.sort(values[..., start:stop], axis=-1)
        )


def test_tensors_of_one_entry_stay_as_they_are():
    values = normal(4, N)
    np.testing.assert_array_equal(surrogates.permuted_within_tensor(values, (1,) * N), values)


def test_permuted_mixes_the_tensors_in_proportion_to_their_lengths():
    tensor_of = np.repeat(np.arange(4.0), TENSORS)
    drawn = surrogates.permuted(np.tile(tensor_of, (2000, 1)), seed=1)
    for start, stop in edges(TENSORS):
        there = [(drawn[:, start:stop] == t).mean() for t in range(4)]
        np.testing.assert_allclose(there, np.array(TENSORS) / N, atol=0.03)


def pattern_counts(drawn, patterns):
    """How often each of the rows ``patterns``, which are all there are, was drawn."""
    found = {tuple(pattern): 0 for pattern in patterns}
    for row in drawn.tolist():
        found[tuple(row)] += 1
    return list(found.values())


def test_every_permutation_is_drawn_equally_often():
    drawn = surrogates.permuted(np.tile(np.arange(4.0), (6000, 1)), seed=1)
    counts = pattern_counts(drawn, itertools.permutations(range(4)))
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_every_permutation_is_drawn_equally_often_over_seeds_too():
    drawn = np.array([surrogates.permuted(np.arange(3.0), seed=seed) for seed in range(1200)])
    counts = pattern_counts(drawn, itertools.permutations(range(3)))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_every_permutation_within_tensors_is_drawn_equally_often_and_independently():
    drawn = surrogates.permuted_within_tensor(np.tile(np.arange(6.0), (6000, 1)), (3, 1, 2), seed=1)
    pairs = itertools.product(itertools.permutations(range(3)), itertools.permutations((4, 5)))
    counts = pattern_counts(drawn, [(*first, 3, *last) for first, last in pairs])
    assert len(counts) == 12
    assert stats.chisquare(counts).pvalue > 1e-3


# Signs


@examples(40)
@given(case=gradients(), seed=seeds)
def test_sign_flipped_keeps_every_magnitude_at_its_place(case, seed):
    values, _ = case
    np.testing.assert_array_equal(np.abs(surrogates.sign_flipped(values, seed=seed)), np.abs(values))


def test_every_pattern_of_signs_is_drawn_equally_often():
    values = np.tile([1.0, -2.0, 3.0, -4.0], (6000, 1))
    drawn = surrogates.sign_flipped(values, seed=1)
    counts = pattern_counts(drawn, itertools.product(*[(-k, k) for k in range(1, 5)]))
    assert len(counts) == 16
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("sign", [-1, 1])
def test_about_half_of_the_signs_are_flipped_whatever_they_were(sign):
    flipped = surrogates.sign_flipped(np.full((100, 100), float(sign)), seed=2) == -sign
    assert abs(flipped.mean() - 0.5) < 3.5 * 0.5 / 100
    # In every snapshot and at every place, with 5 standard deviations for the extreme of 100.
    for share in (flipped.mean(axis=0), flipped.mean(axis=1)):
        assert np.abs(share - 0.5).max() < 5 * 0.5 / 10


# The scale


@pytest.mark.parametrize("rung", SCALED)
@examples(15)
@given(case=gradients(), seed=seeds, power=st.integers(-60, 60))
def test_a_scaled_gradient_has_the_surrogates_scaled_alike(rung, case, seed, power):
    values, tensors = case
    usual = surrogate(rung, values, tensors, seed=seed)
    scaled = surrogate(rung, np.ldexp(values, power), tensors, seed=seed)
    assert scaled.tobytes() == np.ldexp(usual, power).tobytes()


@pytest.mark.parametrize("rung", SCALED)
@pytest.mark.parametrize("power", [-960, 960])
def test_the_scale_may_be_extreme(rung, power):
    values = normal(3, N)
    usual = surrogate(rung, values, TENSORS, seed=1)
    scaled = surrogate(rung, np.ldexp(values, power), TENSORS, seed=1)
    assert scaled.tobytes() == np.ldexp(usual, power).tobytes()


# What cannot be used


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(3), r"the gradient has dtype int64; float32 or float64 is needed"),
        (np.ones(3, np.float16), r"has dtype float16; float32 or float64 is needed"),
        (np.ones(3, complex), r"has dtype complex128; float32 or float64 is needed"),
        (np.ones(3, bool), r"has dtype bool; float32 or float64 is needed"),
        (np.ones(3, ">f8"), r"has dtype >f8; float32 or float64 is needed"),
        (["1.0"], r"has dtype <U3; float32 or float64 is needed"),
        (None, r"has dtype object; float32 or float64 is needed"),
        (np.float64(1), r"gradients have shape \(\); \(N,\) or \(snapshots, N\) is needed"),
        (np.ones((1, 2, 3)), r"have shape \(1, 2, 3\); \(N,\) or \(snapshots, N\) is needed"),
        (np.empty(0), r"have shape \(0,\); \(N,\) or \(snapshots, N\) is needed"),
        (np.empty((0, 3)), r"have shape \(0, 3\); \(N,\) or \(snapshots, N\) is needed"),
        (np.empty((3, 0)), r"have shape \(3, 0\); \(N,\) or \(snapshots, N\) is needed"),
        ([], r"have shape \(0,\); \(N,\) or \(snapshots, N\) is needed"),
    ],
    ids=repr,
)
def test_gradients_that_cannot_be_used_are_refused(rung, values, message):
    with pytest.raises(InputError, match=message):
        surrogate(rung, values, (3,))


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("seed", [-1, 0.5, 1.0, True, None, "1", np.nan, 2**63])
def test_a_seed_that_is_none_is_refused(rung, seed):
    with pytest.raises(InputError, match=rf"^seed is {seed!r}; an integer .* is needed$"):
        surrogate(rung, normal(N), TENSORS, seed=seed)


@pytest.mark.parametrize("rung", ["", "real", "Gaussian", "gaussian ", None, 3, ["gaussian"]])
def test_an_unknown_rung_is_refused(rung):
    message = rf"^the surrogate is {re.escape(repr(rung))}; one of gaussian, .*, sign_flipped is needed$"
    with pytest.raises(InputError, match=message):
        surrogate(rung, normal(N), TENSORS)


@pytest.mark.parametrize("rung", ["gaussian_per_tensor", "permuted_within_tensor"])
@pytest.mark.parametrize("shape", [(N,), (3, N)])
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((8, 4, 4), r"the tensors have 16 entries together and the gradient 17; they must be equal"),
        ((8, 4, 4, 2), r"the tensors have 18 entries together and the gradient 17; they must be equal"),
        ((), r"the tensors have 0 entries together and the gradient 17; they must be equal"),
        ((3 * N,), r"the tensors have 51 entries together and the gradient 17"),
        ((17, 0), r"the length of a tensor is 0; an integer of at least 1 is needed"),
        ((18, -1), r"the length of a tensor is -1; an integer of at least 1 is needed"),
        ((8.0, 9), r"the length of a tensor is 8.0; an integer of at least 1 is needed"),
        ((16, True), r"the length of a tensor is True; an integer of at least 1 is needed"),
        (17, r"17.* needed"),
        (None, r"None.* needed"),
        ("17", r"the length of a tensor is '1'; an integer of at least 1 is needed"),
    ],
    ids=repr,
)
def test_tensors_that_do_not_make_up_the_gradient_are_refused(rung, shape, tensors, message):
    with pytest.raises(InputError, match=message):
        surrogate(rung, normal(*shape), tensors)


@pytest.mark.parametrize("rung", ["gaussian", "permuted", "sign_flipped"])
def test_the_other_rungs_do_not_look_at_the_tensors(rung):
    values = normal(2, N)
    np.testing.assert_array_equal(
        surrogate(rung, values, (1, 2), seed=1), surrogate(rung, values, seed=1)
    )


def test_a_surrogate_is_one_function_and_one_line_in_the_table(monkeypatch):
    def reversed_rows(rows, rng):  # noqa: ARG001
        return rows[:, ::-1]

    added = surrogates.Surrogate(reversed_rows, "reversed", "all values, in reverse order", 5)
    monkeypatch.setitem(surrogates.SURROGATES, "reversed", added)
    values = normal(2, N)
    np.testing.assert_array_equal(surrogate("reversed", values), values[:, ::-1])
    assert np.array_equal(surrogate("permuted", values), surrogate("permuted", values, TENSORS))


def test_no_two_surrogates_share_a_stream():
    streams = [one.stream for one in surrogates.SURROGATES.values()]
    assert len(set(streams)) == len(streams)
    assert tuple(surrogates.SURROGATES) == RUNGS


# Large gradients, shuffled in buckets


def patchy(n, seed=0):
    """Return a gradient whose large entries lie in patches, from some entries to a 16th of all."""
    values = normal(n, seed=seed, dtype="float32")
    for k in range(4, 14):
        width = n >> k
        for start in np.random.default_rng(k).integers(n - width, size=2):
            values[start : start + width] *= 3
    return values


def test_a_large_gradient_in_random_order_keeps_every_entry():
    values = patchy(LARGE + 7)
    for rung in PERMUTATIONS:
        drawn = surrogate(rung, values, (LARGE, 7), seed=1)
        np.testing.assert_array_equal(np.sort(drawn), np.sort(values))
        assert not np.array_equal(drawn, surrogate(rung, values, (LARGE, 7), seed=2))
    drawn = surrogate("permuted_within_tensor", values, (LARGE, 7), seed=1)
    np.testing.assert_array_equal(np.sort(drawn[LARGE:]), np.sort(values[LARGE:]))
    rows = surrogate("permuted", np.stack([values, values]), seed=1)
    assert not np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize("distance", [1, 64, 1 << 10, 1 << 15, (1 << 17) + 1])
def test_a_large_gradient_in_random_order_has_no_arrangement_left(distance):
    values = patchy(LARGE)
    magnitudes = np.abs(values)
    # Of random order, the correlation has mean -1 / N and standard deviation 1 / sqrt(N).
    for seed in range(3):
        drawn = np.abs(surrogate("permuted", values, seed=seed))
        found = np.corrcoef(drawn, np.roll(drawn, distance))[0, 1]
        assert abs(found) < 4.5 / np.sqrt(LARGE)
        # Nor does an entry stay near its place.
        assert abs(np.corrcoef(magnitudes, drawn)[0, 1]) < 4.5 / np.sqrt(LARGE)


@pytest.mark.parametrize("topology", ["ring", "square_lattice", "barabasi_albert"])
def test_no_excess_is_left_on_planted_patches(topology):
    """The null of a shuffle in buckets is that of NumPy's shuffle of all entries."""
    values = patchy(512 * 512)
    probe = Probe(topology)
    fast = [probe.measure(surrogate("permuted", values, seed=seed)).size for seed in range(12)]
    generator = np.random.default_rng(0)
    slow = [probe.measure(generator.permutation(values)).size for _ in range(12)]
    assert stats.ttest_ind(fast, slow, equal_var=False).pvalue > 0.001
    if topology != "barabasi_albert":
        # On lattices, patches change the avalanche itself by many standard deviations.
        assert abs(probe.measure(values).size - np.mean(slow)) > 10 * np.std(slow)


def test_gaussian_draws_repeat_only_for_large_gradients():
    assert repeated_draw("gaussian", LARGE - 1, 0, 5) is None
    assert repeated_draw("permuted", LARGE, 0, 5) is None
    for every in (1, 2, 8, 10):
        draws = [repeated_draw("gaussian", LARGE, 3, step) for step in range(0, 400 * every, every)]
        # Each of 8 draws at 50 of 400 steps, with standard deviation 6.6.
        assert all(20 < draws.count(draw) < 80 for draw in range(8))
    assert repeated_draw("gaussian", LARGE, 3, 5) == repeated_draw("gaussian", LARGE + 1, 3, 5)
