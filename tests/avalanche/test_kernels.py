"""Every compiled kernel against a naive twin: a few clear lines of plain Python or NumPy."""

import ast
import inspect
import itertools
import math
import types
from decimal import Context, Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gradquake.analysis import _kernels
from gradquake.avalanche import (
    _kernels_angle,
    _kernels_cascade,
    _kernels_elementary,
    _kernels_graphs,
    _kernels_random,
    _kernels_shares,
    _kernels_threshold,
)
from gradquake.avalanche.cascade import NO_THRESHOLDS, OUTCOME
from gradquake.experiments import _kernels_mlp

KERNEL_FILES = (
    _kernels,
    _kernels_angle,
    _kernels_cascade,
    _kernels_elementary,
    _kernels_graphs,
    _kernels_mlp,
    _kernels_random,
    _kernels_shares,
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


# Selection and quantiles


@pytest.mark.parametrize("version", [_kernels_threshold.select, plain(_kernels_threshold.select)])
@examples(60)
@given(values=gradients(300), where=st.floats(0, 1))
def test_select_returns_the_order_statistic_and_leaves_larger_values_to_its_right(
    version, values, where
):
    rank = int(where * (values.size - 1))
    expected = np.sort(values)
    longer = np.concatenate([values, np.full(3, -9, values.dtype)])
    assert version(longer, values.size, rank) == expected[rank]
    assert (longer[rank : values.size] >= expected[rank]).all()
    assert (longer[:rank] <= expected[rank]).all()
    np.testing.assert_array_equal(np.sort(longer[: values.size]), expected)
    assert longer[values.size :].tolist() == [-9, -9, -9]


@examples(60)
@given(values=gradients(300), where=st.floats(0, 1), weight=st.floats(0, 1, exclude_max=True))
def test_interpolated_lies_between_two_order_statistics(values, where, weight):
    ordered = np.sort(values).astype(np.float64)
    rank = int(where * (values.size - 1))
    low, high = ordered[rank], ordered[min(rank + 1, values.size - 1)]
    # NumPy rounds from whichever end is nearer.
    naive = high - (high - low) * (1 - weight) if weight >= 0.5 else low + (high - low) * weight
    longer = np.concatenate([values, np.full(3, -9, values.dtype)])
    assert _kernels_threshold.interpolated(longer, values.size, rank, weight) == naive


def naive_bracket(gradient, quantile):
    size = int(gradient.size ** (2 / 3))
    sample = np.sort(np.abs(gradient[:: gradient.size // size][:size]))
    margin = 3 * math.sqrt(size * quantile * (1 - quantile)) + 2
    ranks = int(quantile * size - margin), int(quantile * size + margin)
    return sample[max(ranks[0], 0)], sample[min(ranks[1], size - 1)]


def bracket(gradient, quantile):
    size = int(gradient.size ** (2 / 3))
    sample = np.abs(gradient[:: gradient.size // size][:size])
    # What lies after the sample must not matter.
    return _kernels_threshold.bracket(np.append(sample, gradient[:1] * np.nan), size, quantile)


@examples(60)
@given(gradient=gradients(), quantile=quantiles)
def test_bracket_reads_two_ranks_of_a_regular_sample(gradient, quantile):
    assert bracket(gradient, quantile) == naive_bracket(gradient, quantile)


def magnitude_quantile(gradient, quantile):
    # What is left in the scratch space must not matter.
    scratch = np.full_like(gradient, np.nan)
    return _kernels_threshold.magnitude_quantile(gradient, quantile, scratch)


def naive_quantile(gradient, quantile):
    return np.quantile(np.abs(gradient).astype(np.float64), quantile)


@examples(200)
@given(gradient=gradients(), quantile=quantiles)
@example(gradient=np.array([-2.0]), quantile=0.9)
def test_magnitude_quantile_is_that_of_numpy(gradient, quantile):
    untouched = gradient.copy()
    assert magnitude_quantile(gradient, quantile) == naive_quantile(gradient, quantile)
    np.testing.assert_array_equal(gradient, untouched)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [2, 63, 64, 65, 511, 512, 513, 1001, 4097, 20_001])
def test_magnitude_quantile_at_every_size_and_shape(shape, size, dtype):
    gradient = SHAPES[shape](np.random.default_rng(size), size).astype(dtype)
    for quantile in (0.0, 0.013, 0.5, 0.9, 0.999, 1.0):
        assert magnitude_quantile(gradient, quantile) == naive_quantile(gradient, quantile)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_bracket_that_misses_costs_nothing_but_time(dtype, sign):
    gradient = misleading(np.random.default_rng(1), 4000) ** sign
    gradient = gradient.astype(dtype)
    expected = naive_quantile(gradient, 0.5)
    low, high = bracket(gradient, 0.5)
    assert not low <= expected <= high
    assert magnitude_quantile(gradient, 0.5) == expected


def test_a_bracket_that_holds_one_of_the_two_ranks_and_not_the_other():
    # The sample is 99 entries at 0, 10, ..., 980: 40 ones and 59 twos. In all 500 entries are at
    # most 2 and 500 are 3, so that the median lies between rank 499, a two, and rank 500, a three.
    gradient = np.full(1000, 3.0)
    gradient[:990:10] = np.repeat([1, 2], [40, 59])
    gradient[np.flatnonzero(np.arange(1000) % 10)[:401]] = 2
    assert bracket(gradient, 0.5) == (1, 2)
    assert magnitude_quantile(gradient, 0.5) == naive_quantile(gradient, 0.5) == 2.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 20, 512, 1000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_quantile(value, size, dtype):
    for places in ([0], [size // 2], [size - 1], [0, -1], slice(None), slice(None, None, 3)):
        gradient = np.linspace(-1, 1, size).astype(dtype)
        gradient[places] = value
        for quantile in (0.0, 0.9, 1.0):
            assert math.isnan(magnitude_quantile(gradient, quantile))


@pytest.mark.parametrize(
    "version", [_kernels_threshold.gather_between, plain(_kernels_threshold.gather_between)]
)
@examples(40)
@given(
    gradient=gradients(300),
    value=st.sampled_from([0, 0, np.nan, np.inf, -np.inf]),
    place=seeds,
    ends=st.tuples(quantiles, quantiles),
)
def test_gather_between_lists_what_lies_between_and_counts_what_is_above(
    version, gradient, value, place, ends
):
    low, high = (naive_quantile(gradient, quantile) for quantile in sorted(ends))
    gradient[place % gradient.size] += value
    found = np.full_like(gradient, -7)
    inside, above = version(gradient, low, high, found)
    if not np.isfinite(gradient).all():
        assert (inside, above) == (-1, -1)
        return
    magnitudes = np.abs(gradient).astype(np.float64)
    expected = magnitudes[(magnitudes > low) & (magnitudes <= high)]
    assert (found[:inside].tolist(), above) == (expected.tolist(), (magnitudes > high).sum())


# Marks


@examples(60)
@given(gradient=gradients(), quantile=quantiles)
def test_mark_above_sets_one_bit_for_each_entry_above(gradient, quantile):
    level = naive_quantile(gradient, quantile)
    marks = words_for(gradient.size, fill=2**64 - 1)
    _kernels_threshold.mark_above(gradient, level, marks)
    np.testing.assert_array_equal(marks, marks_of(np.abs(gradient).astype(np.float64) > level))


@examples(60)
@given(
    gradient=gradients(9000),
    quantile=quantiles,
    seed=seeds,
    dense=st.booleans(),
    first=st.integers(0, 99),
)
def test_topple_lists_what_is_unstable_and_leaves_marked_what_still_is(
    gradient, quantile, seed, dense, first
):
    rng = np.random.default_rng(seed)
    n, dtype = gradient.size, gradient.dtype.type
    threshold = naive_quantile(gradient, quantile)
    alpha, keep = dtype(0.1), dtype(0.9)
    marked, before = rng.random(n) < 0.5, rng.random(n) < 0.3
    marks, toppled = marks_of(marked), marks_of(before)
    pages = np.array([1] + [0] * ((n - 1) // 4096), np.uint8)
    looked_at = np.ones(n, bool) if dense else marked & (np.arange(n) < 4096)
    expected = np.flatnonzero(looked_at & (np.abs(gradient).astype(np.float64) > threshold))
    after = gradient.copy()
    after[expected] *= keep
    unstable, moved = np.full(n + 1, -1, np.int32), np.full(n + 1, np.nan, dtype)
    given_ = alpha * gradient[expected]
    count, new = _kernels_cascade.topple(
        gradient, threshold, alpha, keep, dense, first, marks, toppled, pages, unstable, moved, 1
    )
    assert unstable[:count].tolist() == [-1, *(first + expected).tolist()]
    np.testing.assert_array_equal(moved[1:count], given_)
    assert new == np.count_nonzero(~before[expected])
    assert gradient.tobytes() == after.tobytes()
    before[expected] = True
    np.testing.assert_array_equal(toppled, marks_of(before))
    still = np.zeros(n, bool)
    still[expected] = np.abs(after[expected]).astype(np.float64) > threshold
    still |= marked & ~looked_at & (not dense) & (np.arange(n) >= 4096)
    np.testing.assert_array_equal(marks, marks_of(still))
    if dense:
        assert pages.tolist() == [still[i : i + 4096].any() for i in range(0, n, 4096)]


# The cascade


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


def naive_cascade(gradient, indptr, indices, threshold, alpha, max_steps):
    """Topple all unstable nodes at once; shares arrive in ascending order of their sender."""
    dtype = gradient.dtype.type
    alpha, keep = dtype(alpha), dtype(1 - alpha)
    g = gradient.copy()
    neighbors = [indices[start:stop] for start, stop in itertools.pairwise(indptr)]
    steps, toppled = [], set()
    unstable = np.flatnonzero(np.abs(g).astype(np.float64) > threshold)
    while unstable.size and len(steps) < max_steps:
        before = g.copy()
        g[unstable] = keep * before[unstable]
        for i in unstable:
            for j in neighbors[i]:
                g[j] += alpha * before[i] / dtype(neighbors[i].size)
        steps.append(unstable.size)
        toppled.update(unstable.tolist())
        unstable = np.flatnonzero(np.abs(g).astype(np.float64) > threshold)
    peak = max(steps, default=0)
    lossy = any(neighbors[i].size == 0 for i in toppled)
    return g, (sum(steps), len(steps), len(toppled), peak, unstable.size > 0, lossy)


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


def relaxed(version, gradient, indptr, indices, threshold, alpha, max_steps):
    dtype = gradient.dtype.type
    scratch = scratch_for(gradient.size, dtype)
    shares = dtype(alpha), dtype(1 - alpha)
    return version(gradient.copy(), gradient, indptr, indices, threshold, *shares, max_steps, *scratch)


def assert_same_cascade(version, gradient, indptr, indices, threshold, alpha, max_steps):
    arguments = (indptr, indices, threshold, alpha, max_steps)
    expected, counts = naive_cascade(gradient, *arguments)
    assert relaxed(version, gradient, *arguments) == counts
    # Bit for bit, the sign of a zero included.
    assert gradient.tobytes() == expected.tobytes()


@examples(150)
@given(
    gradient=gradients(120),
    seed=seeds,
    mean_degree=st.sampled_from([0.0, 1.0, 4.0, 12.0]),
    quantile=quantiles,
    alpha=st.floats(0.01, 0.99),
    max_steps=st.sampled_from([1, 2, 20]),
)
def test_cascade_is_the_synchronous_update_bit_for_bit(
    gradient, seed, mean_degree, quantile, alpha, max_steps
):
    graph = random_csr(np.random.default_rng(seed), gradient.size, mean_degree)
    threshold = naive_quantile(gradient, quantile)
    assert_same_cascade(_kernels_cascade.cascade, gradient, *graph, threshold, alpha, max_steps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 0.999])
def test_cascade_on_several_pages_of_marks(quantile, dtype):
    rng = np.random.default_rng(3)
    gradient = rng.standard_t(2, 9000).astype(dtype)
    threshold = naive_quantile(gradient, quantile)
    graph = random_csr(rng, gradient.size, 4.0)
    assert_same_cascade(_kernels_cascade.cascade, gradient, *graph, threshold, 0.3, 20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cascade_in_plain_python_is_the_same(dtype):
    rng = np.random.default_rng(4)
    for size in (1, 30, 70):
        gradient = rng.standard_normal(size).astype(dtype)
        threshold = naive_quantile(gradient, 0.8)
        graph = random_csr(rng, size, 3.0)
        assert_same_cascade(plain(_kernels_cascade.cascade), gradient, *graph, threshold, 0.3, 20)


def test_cascade_in_a_strided_array_leaves_what_is_between_alone():
    rng = np.random.default_rng(5)
    buffer = rng.standard_normal(600)
    between = buffer[1::3].copy()
    graph = random_csr(rng, 200, 4.0)
    assert_same_cascade(_kernels_cascade.cascade, buffer[::3], *graph, np.float64(1), 0.3, 20)
    np.testing.assert_array_equal(buffer[1::3], between)


# What rounds alike on every processor

# Exact, or correctly rounded.
FIXED = {"sqrt", "frexp", "ldexp", "isnan", "inf", "nan"}


def test_no_kernel_may_be_compiled_with_fastmath():
    compiled = {
        kernel for file in KERNEL_FILES for kernel in vars(file).values() if hasattr(kernel, "py_func")
    }
    assert len(compiled) > 40
    assert not any(kernel.targetoptions.get("fastmath") for kernel in compiled)


def test_no_kernel_calls_a_mathematical_library():
    functions = [
        node
        for file in KERNEL_FILES
        for node in ast.parse(inspect.getsource(file)).body
        if isinstance(node, ast.FunctionDef)
    ]
    used = {
        node.attr
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "math"
    }
    assert used <= FIXED


# Elementary functions


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")


def exact_tanh(x):
    # Without cancellation near 0.
    if abs(x) < Decimal("1e-12"):
        return x - x**3 / 3
    return 1 - 2 / ((2 * x).exp() + 1)


def exact_log1p(x):
    return x - x**2 / 2 + x**3 / 3 if abs(x) < Decimal("1e-20") else (1 + x).ln()


def exact_softplus(x):
    return exact_log1p(x.exp()) if x < 0 else x + exact_log1p((-x).exp())


def exact_sigmoid(x):
    return 1 / (1 + (-x).exp())


def exact_degrees(y, x):
    if x < 0:
        return 180 - exact_degrees(y, -x)
    if y > x:
        return 90 - exact_degrees(x, y)
    # Four times halved, and the series of the arc tangent.
    t = y / x
    for _ in range(4):
        t = t / (1 + (1 + t * t).sqrt())
    return 16 * sum((-1) ** n * t ** (2 * n + 1) / (2 * n + 1) for n in range(25)) * 180 / PI


def units_off(found, exact, *arguments):
    """Return by how many units in the last place results are off at most."""
    worst = 0
    with localcontext(Context(prec=60, Emin=-5000, Emax=5000)):
        for result, *of_one in zip(found.tolist(), *(a.tolist() for a in arguments), strict=True):
            expected = exact(*map(Decimal, of_one))
            worst = max(worst, abs(Decimal(result) - expected) / Decimal(math.ulp(float(expected))))
    return float(worst)


def replaced(kernel, values):
    result = np.array(values, np.float64)
    kernel(result)
    return result


def both_signs(*parts):
    values = np.concatenate(parts)
    return np.concatenate([values, -values])


RNG = np.random.default_rng(17)
# Where one formula hands over to another, on both sides; where the result is 1 or 0 to the last bit; and
# numbers with fewer bits than others.
NEIGHBOURS = np.concatenate([np.nextafter(x, [0.0, x, 99.0]) for x in (0.55, 1.0, 19.06, 20.0, 37.4)])
TINY = np.ldexp(RNG.uniform(1, 2, 300), RNG.integers(-1074, -2, 300))
ARGUMENTS = both_signs(NEIGHBOURS, TINY, RNG.uniform(0, 1, 3000), RNG.uniform(0, 40, 1000))
FAR = both_signs(RNG.uniform(30, 745, 500), [708.4, 745.0])


@pytest.mark.parametrize(
    ("kernel", "exact", "values", "bound"),
    [
        (_kernels_elementary.tanh, exact_tanh, both_signs(ARGUMENTS, RNG.uniform(0.5, 0.6, 4000)), 0.8),
        (_kernels_elementary.sigmoid, exact_sigmoid, np.concatenate([ARGUMENTS, FAR]), 2),
        (_kernels_elementary.softplus, exact_softplus, np.concatenate([ARGUMENTS, FAR]), 2),
    ],
    ids=["tanh", "sigmoid", "softplus"],
)
def test_elementary_functions_are_good_to_the_last_bits(kernel, exact, values, bound):
    found = replaced(kernel, values)
    assert units_off(found, exact, values) < bound
    # Alone as in a vector, whatever instructions the compiler chose for it.
    alone = np.concatenate([replaced(kernel, [value]) for value in values[::50]])
    assert alone.tobytes() == found[::50].tobytes()
    in_python = replaced(plain(kernel), values[::50])
    assert in_python.tobytes() == found[::50].tobytes()


def test_log1p_is_good_to_the_last_bits():
    values = np.concatenate(
        [-RNG.random(3000), RNG.random(1000), -TINY, TINY, [-0.5, 1.0, -1 + 2.0**-53]]
    )
    found = np.array([_kernels_elementary.log1p(x) for x in values])
    assert units_off(found, exact_log1p, values) < 1


def test_degrees_are_good_to_the_last_bits():
    y = np.concatenate([RNG.random(3000), TINY, np.ones(300), [1.0, 1.0, 0.4142135623730950488]])
    x = np.concatenate([RNG.uniform(-1, 1, 3000), np.ones(300), TINY, [1.0, -1.0, 1.0]])
    found = np.array([_kernels_elementary.degrees(*pair) for pair in zip(y, x, strict=True)])
    assert units_off(found, exact_degrees, y, x) < 3


def test_elementary_functions_at_the_ends():
    ends = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 1e308, -1e308]
    tanh = replaced(_kernels_elementary.tanh, ends)
    assert repr(tanh.tolist()) == repr([0.0, -0.0, 1.0, -1.0, math.nan, 5e-324, -5e-324, 1.0, -1.0])
    sigmoid = replaced(_kernels_elementary.sigmoid, ends)
    assert repr(sigmoid.tolist()) == repr([0.5, 0.5, 1.0, 0.0, math.nan, 0.5, 0.5, 1.0, 0.0])
    softplus = replaced(_kernels_elementary.softplus, ends)
    log2 = math.log(2)
    assert repr(softplus.tolist()) == repr([log2, log2, math.inf, 0.0, math.nan, log2, log2, 1e308, 0.0])
    assert replaced(_kernels_elementary.softplus, [-745.0, -746.0]).tolist() == [5e-324, 0.0]
    known = {(0, 1): 0, (0, 0): 0, (1, 1): 45, (1, 0): 90, (1, -1): 135, (0, -1): 180}
    assert {yx: _kernels_elementary.degrees(*map(float, yx)) for yx in known} == known
    assert math.isnan(_kernels_elementary.degrees(math.nan, 1.0))
    assert math.isnan(_kernels_elementary.degrees(1.0, math.nan))


def test_tanh_rises():
    values = replaced(_kernels_elementary.tanh, np.linspace(-20, 20, 200_001))
    assert (np.diff(values) >= 0).all()
    across = np.nextafter(0.55, np.array([0.0, 0.55, 1.0]))
    assert (np.diff(replaced(_kernels_elementary.tanh, across)) >= 0).all()


def test_norms_are_those_of_segments():
    values = np.random.default_rng(3).standard_normal(200)
    offsets = np.array([0, 1, 18, 18, 200])
    found = np.empty(4)
    _kernels_angle.norms(values, offsets, found)
    expected = [math.sqrt(math.fsum(part**2)) for part in np.split(values, offsets[1:-1])]
    assert found == pytest.approx(expected, rel=1e-14)


# Normal numbers


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


# The angle


def naive_angle(before, after):
    """The angle from exact rational numbers: tan^2 = (|a|^2 |b|^2 - (a . b)^2) / (a . b)^2."""
    a, b = [Fraction(float(x)) for x in before], [Fraction(float(x)) for x in after]
    aa, bb = sum(x * x for x in a), sum(x * x for x in b)
    ab = sum(x * y for x, y in zip(a, b, strict=True))
    if ab == 0:
        return 90.0
    tangent = math.sqrt((aa * bb - ab * ab) / (ab * ab))
    return math.degrees(math.atan2(tangent, 1 if ab > 0 else -1))


@examples(60)
@given(before=gradients(60), seed=seeds, power=st.integers(-3, 3))
def test_products_are_sums_of_squares_and_of_products(before, seed, power):
    after = (before + np.random.default_rng(seed).standard_normal(before.size)).astype(before.dtype)
    start, scale = before.astype(np.float64) * 2.0**power, 2.0**power
    change = scale * after.astype(np.float64) - start
    naive = [math.fsum(x * y) for x, y in ((start, start), (change, change), (start, change))]
    bound = 1e-14 * (abs(naive[0]) + abs(naive[1]))
    assert _kernels_angle.products(before, after, scale) == pytest.approx(naive, rel=1e-13, abs=bound)


@examples(100)
@given(before=gradients(60), seed=seeds, power=st.integers(-6, 1))
def test_deviation_is_the_exact_angle_however_small(before, seed, power):
    assume(before.any())
    change = np.random.default_rng(seed).standard_normal(before.size) * 10.0**power
    after = (before * (1 + change)).astype(before.dtype)
    # The root of what is left of two equal squares: about the root of the precision, of the change.
    moved = np.linalg.norm(after.astype(float) - before) / np.linalg.norm(after.astype(float))
    expected = pytest.approx(naive_angle(before, after), abs=math.degrees(5e-8 * moved))
    assert _kernels_angle.deviation(before, after) == expected


@pytest.mark.parametrize("exponent", [-1, -4, -8, -12, -15])
def test_deviation_is_accurate_where_the_arc_cosine_is_not(exponent):
    # (1, 0) and (1, e) enclose atan(e); arccos(1 / sqrt(1 + e^2)) is 0 from e of about 1e-8 on.
    before, after = np.array([1.0, 0.0]), np.array([1.0, 10.0**exponent])
    expected = math.degrees(math.atan(10.0**exponent))
    assert _kernels_angle.deviation(before, after) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("after", "degrees"),
    [((3, 4), 0), ((-4, 3), 90), ((4, -3), 90), ((-3, -4), 180), ((7, 1), 45)],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_deviation_of_known_angles(dtype, after, degrees):
    before = np.array([3, 4], dtype)
    assert _kernels_angle.deviation(before, np.array(after, dtype)) == pytest.approx(degrees, abs=1e-12)


@pytest.mark.parametrize("exponent", [-307, -150, -75, -71, -65, 0, 65, 71, 75, 150, 300])
def test_deviation_does_not_depend_on_the_scale(exponent):
    rng = np.random.default_rng(6)
    before = rng.standard_normal(50) * 10.0**exponent
    after = before * (1 + 0.1 * rng.standard_normal(50))
    assert _kernels_angle.deviation(before, after) == pytest.approx(naive_angle(before, after), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_deviation_in_plain_python_is_the_same(scale):
    rng = np.random.default_rng(7)
    before = scale * rng.standard_normal(40)
    after = before + scale * rng.standard_normal(40)
    with np.errstate(over="ignore", invalid="ignore"):
        in_python = plain(_kernels_angle.deviation)(before, after)
    # The compiled sums may run in another order.
    assert _kernels_angle.deviation(before, after) == pytest.approx(in_python, rel=1e-12)


# The batch


def measure_alone(gradient, indptr, indices, threshold, quantile):
    """Chain the kernels for one gradient, as a row of outcomes and the relaxed gradient."""
    if quantile >= 0:
        threshold = magnitude_quantile(gradient, quantile)
    after = gradient.copy()
    *counts, lossy = relaxed(_kernels_cascade.cascade, after, indptr, indices, threshold, 0.3, 20)
    lost = naive_dissipation(gradient, after, indptr) if lossy else 0.0
    turned = _kernels_angle.deviation(gradient, after) if counts[0] else 0.0
    return (threshold, *counts, turned, lost, lossy), after


def naive_dissipation(before, after, indptr):
    alone = np.flatnonzero(np.diff(indptr) == 0)
    return sum((float(before[i]) - float(after[i]) for i in alone), 0.0)


def segments(dtype, sizes):
    """Gradients and graphs one by one, and the graphs laid end to end: rows, indptr, indices."""
    rng = np.random.default_rng(8)
    vectors = [rng.standard_normal(n).astype(dtype) for n in sizes]
    graphs = [random_csr(rng, n, 3.0) for n in sizes]
    starts = np.cumsum([0, *(indices.size for _, indices in graphs)])
    indptr = [pointers + start for (pointers, _), start in zip(graphs, starts[:-1], strict=True)]
    rows = np.cumsum([0, *(pointers.size for pointers in indptr[:-1])])
    joined = np.concatenate(indptr).astype(np.int32), np.concatenate([i for _, i in graphs])
    return vectors, graphs, (rows, *joined)


def measure_segments(vectors, stack, thresholds, quantile, first, last, outcomes):
    gradient = np.concatenate(vectors)
    after = np.full_like(gradient, -7)
    offsets = np.cumsum([0, *(v.size for v in vectors)])
    dtype, scratch = gradient.dtype.type, scratch_for(max(v.size for v in vectors), gradient.dtype.type)
    _kernels_cascade.measure_segments(
        gradient, after, offsets, *stack, dtype(0.3), dtype(1 - 0.3),
        thresholds, quantile, 20, True, first, last, outcomes, *scratch,
    )  # fmt: skip
    return np.split(after, offsets[1:-1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantile", [-1.0, 0.0, 0.9])
def test_measure_segments_is_each_segment_alone(quantile, dtype):
    vectors, graphs, stack = segments(dtype, [1, 64, 3, 700, 65, 5000, 2])
    vectors[4][:] = 0.5
    given = np.linspace(0.5, 2, 7)
    outcomes = np.zeros(7, OUTCOME)
    after = measure_segments(
        vectors, stack, given if quantile < 0 else NO_THRESHOLDS, quantile, 0, 7, outcomes
    )
    for b in range(7):
        row, alone = measure_alone(vectors[b], *graphs[b], given[b], quantile)
        assert outcomes[b].item() == row
        np.testing.assert_array_equal(after[b], alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_measure_segments_passes_over_what_is_not_finite_and_what_was_not_asked_for(dtype):
    vectors, graphs, stack = segments(dtype, [30, 40, 50, 60, 70])
    vectors[2][17] = np.inf
    outcomes = np.zeros(5, OUTCOME)
    outcomes["size"] = -7
    after = measure_segments(vectors, stack, NO_THRESHOLDS, 0.9, 1, 4, outcomes)
    for b in (1, 3):
        row, alone = measure_alone(vectors[b], *graphs[b], 0.0, 0.9)
        assert outcomes[b].item() == row
        np.testing.assert_array_equal(after[b], alone)
    assert math.isnan(outcomes["threshold"][2])
    assert (outcomes["size"][[0, 4]] == -7).all()
    assert (after[0] == -7).all()
    assert (after[4] == -7).all()


# Resamples


@st.composite
def resamples(draw):
    """Rows with NaN among them, a column of nothing else, and draws of those rows."""
    rng = np.random.default_rng(draw(seeds))
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    values = SHAPES[draw(st.sampled_from(["normal", "ties", "zeros", "heavy-tailed"]))](
        rng, rows * columns
    ).reshape(rows, columns)
    values[rng.random(values.shape) < draw(st.sampled_from([0.0, 0.3, 0.8]))] = np.nan
    if draw(st.booleans()):
        values[:, rng.integers(columns)] = np.nan
    draws = rng.integers(rows, size=(draw(st.integers(0, 5)), draw(st.integers(1, 10))))
    return values, draws


def naive_resample(values, draws, statistic):
    """Apply a statistic to the known entries of each column of each resample; NaN where none is."""
    result = np.full((len(draws), values.shape[1]), np.nan)
    for b, rows in enumerate(draws):
        for t, column in enumerate(values[rows].T):
            known = [entry for entry in column.tolist() if not math.isnan(entry)]
            if known:
                result[b, t] = statistic(known)
    return result


def resampled_max(version, values, draws):
    # What the result held before must not matter.
    result = np.full((len(draws), values.shape[1]), 7.0)
    version(values, np.argsort(-values, axis=0), draws, result)
    return result


@examples(80)
@given(case=resamples())
def test_resampled_max_is_that_of_the_known_entries(case):
    values, draws = case
    before = values.copy(), draws.copy()
    found = resampled_max(_kernels.resampled_max, values, draws)
    np.testing.assert_array_equal(found, naive_resample(values, draws, max))
    np.testing.assert_array_equal(values, before[0])
    np.testing.assert_array_equal(draws, before[1])


def test_resampled_max_in_plain_python_is_the_same():
    rng = np.random.default_rng(9)
    values = rng.standard_normal((5, 4))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:, 2] = np.nan
    draws = rng.integers(5, size=(6, 5))
    found = resampled_max(_kernels.resampled_max, values, draws)
    np.testing.assert_array_equal(found, resampled_max(plain(_kernels.resampled_max), values, draws))
    np.testing.assert_array_equal(found, naive_resample(values, draws, max))
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(found[:, :2]).any()


def test_resampled_max_by_hand():
    values = np.array([[1.0, -3.0], [4.0, np.nan], [np.nan, -1.0], [np.nan, np.nan]])
    draws = np.array([[0, 1, 0, 2, 3], [3, 3, 3, 3, 3], [2, 2, 2, 3, 3]])
    found = resampled_max(_kernels.resampled_max, values, draws)
    np.testing.assert_array_equal(found, [[4, -1], [np.nan, np.nan], [np.nan, -1]])


@pytest.mark.parametrize("version", [_kernels.times_drawn, plain(_kernels.times_drawn)])
@examples(40)
@given(seed=seeds, resamples=st.integers(0, 5), drawn=st.integers(0, 30), width=st.integers(1, 9))
def test_times_drawn_counts_each_number(version, seed, resamples, drawn, width):
    draws = np.random.default_rng(seed).integers(width, size=(resamples, drawn))
    taken = np.full((resamples, width), np.nan)
    version(draws, taken)
    assert taken.tolist() == [[row.count(i) for i in range(width)] for row in draws.tolist()]


# Random numbers


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


# Adjacency


@examples(60)
@given(seed=seeds, n=st.integers(2, 30))
def test_adjacency_lists_every_edge_from_both_ends_in_order(seed, n):
    rng = np.random.default_rng(seed)
    everything = np.array([(i, j) for i in range(n) for j in range(i)])
    edges = rng.permutation(everything)[: rng.integers(len(everything) + 1)].astype(np.int32)
    edges = rng.permuted(edges, axis=1)
    indptr, indices = np.zeros(n + 1, np.int32), np.empty(2 * len(edges), np.int32)
    sources, targets = np.ascontiguousarray(edges.T)
    scratch = np.full(n, -1, np.int32), np.full_like(indices, -1)
    _kernels_graphs.adjacency(sources, targets, indptr, indices, *scratch)
    expected_indptr, expected_indices = csr(n, edges.tolist())
    np.testing.assert_array_equal(indptr, expected_indptr)
    np.testing.assert_array_equal(indices, expected_indices)


def naive_defect(rows):
    """Return (kind, i, j), looking at one entry after another."""
    for i, row in enumerate(rows):
        for place, j in enumerate(row):
            if not 0 <= j < len(rows):
                return 1, i, j
            if j == i:
                return 2, i, j
            if place and row[place - 1] == j:
                return 3, i, j
            if place and row[place - 1] > j:
                return 4, i, j
    asymmetric = any(i not in rows[j] for i, row in enumerate(rows) for j in row)
    return (5, None, None) if asymmetric else (0, 0, 0)


def assert_same_defect(rows):
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    indices = np.array([j for row in rows for j in row], np.int32)
    kind, i, j = _kernels_graphs.find_defect(indptr, indices, indptr[:-1].copy())
    expected = naive_defect(rows)
    if expected[0] == 5:
        assert kind == 5
        assert j in rows[i]
        assert i not in rows[j]
    else:
        assert (kind, i, j) == expected
    return kind


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([[1], [0]], 0),
        ([[]], 0),
        ([[1], [0, 3], []], 1),
        ([[1], [0, -1], []], 1),
        ([[1], [0], [2]], 2),
        ([[1, 1], [0, 0]], 3),
        ([[2, 1], [0], [0]], 4),
        ([[1], []], 5),
        ([[], [0]], 5),
        ([[2], [2], [1]], 5),
        ([[1], [2], [0]], 5),
    ],
)
def test_find_defect_of_every_kind(rows, kind):
    assert assert_same_defect(rows) == kind


@examples(150)
@given(
    rows=st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(st.integers(-1, n), max_size=4).map(sorted), min_size=n, max_size=n)
    )
)
def test_find_defect_in_random_rows(rows):
    assert_same_defect(rows)


@examples(100)
@given(seed=seeds, n=st.integers(2, 12))
def test_find_defect_when_one_entry_is_missing(seed, n):
    rng = np.random.default_rng(seed)
    indptr, indices = random_csr(rng, n, 4.0)
    rows = [row.tolist() for row in np.split(indices, indptr[1:-1])]
    assert assert_same_defect(rows) == 0
    filled = [row for row in rows if row]
    if filled:
        row = filled[rng.integers(len(filled))]
        del row[rng.integers(len(row))]
        assert assert_same_defect(rows) == 5


# Random graphs


@examples(40)
@given(seed=seeds, m=st.integers(1, 4), more=st.integers(0, 60))
@example(seed=0, m=2, more=0)
def test_preferred_targets_are_chosen_among_the_ends_of_all_edges(seed, m, more):
    n = m + 1 + more
    targets = np.empty(m * (n - m), np.int32)
    _kernels_graphs.preferred_targets(m, state_of(seed), targets)

    random = SplitMix(seed)
    edges = [(0, i + 1) for i in range(m)]
    for node in range(m + 1, n):
        ends = [end for source, target in edges for end in (target, source)]
        chosen = []
        while len(chosen) < m:
            end = ends[random.below(len(ends))]
            if end not in chosen:
                chosen.append(end)
        edges += [(node, end) for end in chosen]

    assert targets.tolist() == [target for _, target in edges]
    assert [e // m + m if e >= m else 0 for e in range(len(edges))] == [node for node, _ in edges]

    indptr, indices = np.zeros(n + 1, np.int32), np.empty(2 * len(edges), np.int32)
    _kernels_graphs.grown_adjacency(m, targets, indptr, indices, np.full(n, -7, np.int32))
    pointers, naive = csr(n, edges)
    assert (indptr.tolist(), indices.tolist()) == (pointers.tolist(), naive.tolist())
    assert all(target < source for source, target in edges[m:])
    assert len({frozenset(edge) for edge in edges}) == len(edges) == m * (n - m)


@examples(60)
@given(seed=seeds, n=st.integers(5, 40), probability=st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_rewire_ring_moves_far_ends_and_nothing_else(seed, n, probability):
    ring = np.array([[(i + 1) % n, (i + 2) % n] for i in range(n)], np.int32)
    ends = ring.copy()
    _kernels_graphs.rewire_ring(probability, state_of(seed), ends)

    random, expected = SplitMix(seed), ring.tolist()
    neighbors = [{(i + k) % n for k in (-2, -1, 1, 2)} for i in range(n)]
    for k in range(2):
        for i in range(n):
            if random.uniform() >= probability or len(neighbors[i]) == n - 1:
                continue
            j = random.below(n)
            while j == i or j in neighbors[i]:
                j = random.below(n)
            old = expected[i][k]
            for a, b in ((i, old), (old, i)):
                neighbors[a].remove(b)
            for a, b in ((i, j), (j, i)):
                neighbors[a].add(b)
            expected[i][k] = j

    assert ends.tolist() == expected
    edges = {frozenset((i, j)) for i, row in enumerate(expected) for j in row}
    assert len(edges) == 2 * n
    assert all(len(edge) == 2 for edge in edges)
    if probability == 0:
        np.testing.assert_array_equal(ends, ring)


# Neighbors that are computed


def cycle_keys(seed, n):
    bits = (n - 1).bit_length()
    keys = np.random.default_rng(seed).integers(2**64, size=6, dtype=np.uint64)
    return np.array([bits - bits // 2, 2 ** (bits // 2) - 1, *keys], np.uint64)


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


@examples(60)
@given(seed=seeds, n=st.integers(5, 400))
def test_permuted_is_a_permutation_and_unpermuted_its_inverse(seed, n):
    keys = cycle_keys(seed, n)
    size = np.uint64(n)
    image = [int(_kernels_random.permuted(np.uint64(x), size, keys)) for x in range(n)]
    assert image == [naive_permuted(x, n, keys) for x in range(n)]
    assert sorted(image) == list(range(n))
    assert [int(_kernels_random.unpermuted(np.uint64(y), size, keys)) for y in image] == list(range(n))


@examples(60)
@given(seeds=st.tuples(seeds, seeds), n=st.integers(5, 60), offset=st.integers(0, 4))
def test_cycle_neighbors_are_those_before_and_after_on_two_cycles(seeds, n, offset):
    first, second = (cycle_keys(seed, n) for seed in seeds)
    cycles = [[naive_permuted(x, n, keys) for x in range(n)] for keys in (first, second)]
    rows = np.empty((n - offset, 4), np.int32)
    _kernels_graphs.cycle_neighbors(np.arange(n - offset), offset, n, first, second, rows)
    for k, row in enumerate(rows.tolist()):
        places = [cycle.index(k + offset) for cycle in cycles]
        beside = [(c[p - 1], c[(p + 1) % n]) for c, p in zip(cycles, places, strict=True)]
        assert row == [*beside[0], *beside[1]]
    edges = [{frozenset((c[p - 1], c[p])) for p in range(n)} for c in cycles]
    shared = bool(edges[0] & edges[1])
    assert _kernels_graphs.shares_an_edge(n, first, second, 0, n) == shared
    # In any two parts together.
    parts = [
        _kernels_graphs.shares_an_edge(n, first, second, *part) for part in ((0, n // 2), (n // 2, n))
    ]
    assert any(parts) == shared


@examples(30)
@given(n=st.integers(5, 60), far=st.integers(2, 4), offset=st.integers(0, 4))
def test_circulant_neighbors_are_so_many_before_and_after(n, far, offset):
    rows = np.empty((n - offset, 4), np.int64)
    _kernels_graphs.circulant_neighbors(np.arange(n - offset), offset, n, 1, far, rows)
    expected = [[(i + jump) % n for jump in (-far, -1, 1, far)] for i in range(offset, n)]
    assert rows.tolist() == expected


# A cascade in pieces


@examples(60)
@given(gradient=gradients(300), shift=st.sampled_from([0, 7, 16]), seed=seeds)
def test_histogram_and_matching_look_at_16_bits_of_the_magnitude(gradient, shift, seed):
    width = 8 * gradient.itemsize
    bits, mask = gradient.view(f"u{gradient.itemsize}"), 2 ** (width - 1) - 1
    magnitudes = np.abs(gradient).view(f"u{gradient.itemsize}").tolist()
    counts = np.zeros(2**16, np.int64)
    _kernels_shares.histogram(bits, mask, shift, counts)
    naive = np.bincount([value >> shift & 0xFFFF for value in magnitudes], minlength=2**16)
    np.testing.assert_array_equal(counts, naive)
    prefix = magnitudes[seed % len(magnitudes)] >> shift
    expected = [value for value in magnitudes if value >> shift == prefix]
    found = np.zeros(len(expected) + 1, bits.dtype)
    _kernels_shares.matching(bits, mask, shift, prefix, found)
    assert found[:-1].tolist() == expected


@examples(40)
@given(
    gradient=gradients(300),
    seed=seeds,
    quantile=quantiles,
    shift=st.sampled_from([6, 7, 9]),
    calls=st.lists(st.sampled_from([0, 1, 100, 3000]), max_size=4),
    dense=st.booleans(),
)
def test_sorted_shares_are_received_in_order_and_mark_what_is_above(
    gradient, seed, quantile, shift, calls, dense
):
    rng = np.random.default_rng(seed)
    bins = (gradient.size - 1 >> shift) + 1
    bits = _kernels_shares.CHUNK_BITS
    room = 2 * bins + (2 * sum(calls) >> bits) + 1
    links, shares = np.full(room, -1), np.full(room << bits, np.nan, gradient.dtype)
    ends, used = np.arange(bins) << bits, bins
    integers = shares.view(f"i{shares.itemsize}")
    threshold = naive_quantile(gradient, quantile)
    marks, pages = words_for(gradient.size), np.zeros(1, np.uint8)
    expected, touched = gradient.copy(), np.zeros(gradient.size, bool)
    first, last = sorted(rng.integers(bins + 1, size=2).tolist())
    for size in calls:
        targets = rng.integers(gradient.size, size=size).astype(rng.choice(["i4", "i8"]))
        given_ = rng.standard_normal(size).astype(gradient.dtype)
        used = _kernels_shares.sort_shares(targets, given_, shift, links, ends, integers, shares, used)
        for j, share in zip(targets, given_, strict=True):
            if first <= j >> shift < last:
                expected[j] += share
                touched[j] |= not dense and abs(float(expected[j])) > threshold
    assert used <= room
    _kernels_shares.receive(
        gradient, first, last, shift, links, ends, integers, shares, dense, threshold, marks, pages
    )
    assert gradient.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(marks, marks_of(touched))
    assert bool(pages[0]) == touched.any()


@examples(60)
@given(seed=seeds, n=st.integers(1, 60), room=st.integers(30, 90))
def test_stored_targets_are_rows_while_there_is_room(seed, n, room):
    rng = np.random.default_rng(seed)
    indptr, indices = random_csr(rng, n, 4.0)
    nodes = np.flatnonzero(rng.random(n) < 0.5)
    room = max(room, int(np.diff(indptr).max()))
    moved = rng.standard_normal(nodes.size)
    targets, given_ = np.empty(room, np.int32), np.empty(room)
    begin, listed = 0, []
    while begin < nodes.size:
        before = begin
        begin, used = _kernels_shares.stored_targets(
            nodes, moved, begin, indptr, indices, targets, given_
        )
        listed += zip(targets[:used].tolist(), given_[:used].tolist(), strict=True)
        # It stopped since the next row does not fit.
        if begin < nodes.size:
            assert used + indptr[nodes[begin] + 1] - indptr[nodes[begin]] > room
        assert begin > before
    rows = [indices[indptr[i] : indptr[i + 1]].tolist() for i in nodes]
    naive = [(j, moved[k] / len(row)) for k, row in enumerate(rows) for j in row]
    assert listed == naive


@examples(60)
@given(
    seed=seeds, n=st.integers(1, 300), mean_degree=st.sampled_from([1.0, 4.0, 60.0]), dtype=dtypes,
    room=st.integers(0, 40),
)  # fmt: skip
def test_sorted_shares_of_neighbors_are_those_of_their_targets(seed, n, mean_degree, dtype, room):
    rng = np.random.default_rng(seed)
    indptr, indices = random_csr(rng, n, mean_degree)
    nodes = np.flatnonzero(rng.random(n) < 0.7).astype(np.int32)
    moved = rng.standard_normal(nodes.size).astype(dtype)
    shift, bits = 6, _kernels_shares.CHUNK_BITS
    bins = (n - 1 >> shift) + 1

    def lists():
        links, shares = np.full(bins + room, -1), np.full(bins + room << bits, np.nan, dtype)
        return links, np.arange(bins) << bits, shares.view(f"i{shares.itemsize}"), shares

    links, ends, places, shares = lists()
    stop, used = _kernels_shares.sort_neighbors_shares(
        nodes, moved, 0, indptr, indices, shift, links, ends, places, shares, bins
    )
    # It stops before a node whose shares might not fit, and only there.
    degrees = np.diff(indptr)[nodes]
    assert stop == nodes.size or used + bins + (2 * degrees[stop] >> bits) >= links.size
    rows = [indices[indptr[i] : indptr[i + 1]] for i in nodes[:stop]]
    targets = np.concatenate([*rows, np.empty(0, np.int32)])
    given_ = np.repeat(moved[:stop] / degrees[:stop].clip(1).astype(dtype), degrees[:stop])
    expected = lists()
    arguments = shift, *expected, bins
    assert _kernels_shares.sort_shares(targets.astype(np.int32), given_, *arguments) == used
    for found, one in zip((links, ends, shares), (expected[0], expected[1], expected[3]), strict=True):
        assert found.tobytes() == one.tobytes()


@examples(60)
@given(seed=seeds, parts=st.integers(1, 6))
def test_split_sorts_by_part_and_keeps_the_order(seed, parts):
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, 100), parts - 1, replace=False))
    edges = np.array([0, *edges, 100])
    targets, given_ = rng.integers(100, size=80), rng.standard_normal(80)
    ends, places, gifts = np.empty(parts, np.int64), np.empty(80, np.int64), np.empty(80)
    _kernels_shares.split(targets, given_, edges, ends, places, gifts)
    start = 0
    for p, stop in enumerate(ends):
        inside = (targets >= edges[p]) & (targets < edges[p + 1])
        assert places[start:stop].tolist() == (targets[inside] - edges[p]).tolist()
        assert gifts[start:stop].tolist() == given_[inside].tolist()
        start = stop
    assert start == 80


@examples(30)
@given(gradient=gradients(100), seed=seeds, size=st.sampled_from([7, 64, 200]))
def test_block_products_are_the_products_of_every_block(gradient, seed, size):
    after = gradient + np.random.default_rng(seed).standard_normal(gradient.size).astype(gradient.dtype)
    blocks = range(0, gradient.size, size)
    sums = np.empty((len(blocks), 3))
    _kernels_angle.block_products(gradient, after, 0.5, size, sums)
    naive = [_kernels_angle.products(gradient[b : b + size], after[b : b + size], 0.5) for b in blocks]
    assert sums.tolist() == [list(row) for row in naive]


@examples(30)
@given(gradient=gradients(100), seed=seeds)
def test_dissipation_is_what_lonely_nodes_lost(gradient, seed):
    rng = np.random.default_rng(seed)
    indptr, _ = random_csr(rng, gradient.size, 1.0)
    after = gradient + rng.standard_normal(gradient.size).astype(gradient.dtype)
    assert _kernels_angle.dissipation(gradient, after, indptr) == naive_dissipation(
        gradient, after, indptr
    )


@pytest.mark.parametrize("points", [3, 5, 7, 8, 9, 15, 16, 17, 40])
def test_line_fits_are_numpys_bit_for_bit(points):
    rng = np.random.default_rng(points)
    n = np.sort(rng.choice(np.arange(5, 5_000), points, replace=False)).astype(float)
    y = np.log(rng.integers(1, 500, size=(points, 300)))
    y[:, 0] = y[0, 0]
    y[1, 1] = np.nan
    x = np.log(n) - np.log(n).mean()
    found = np.empty((2, 300))
    _kernels.line_fits(x, y, *found)
    rows = np.ascontiguousarray(y.T)
    rows = rows - rows[:, :1]
    rows = rows - rows.mean(axis=1, keepdims=True)
    along, total = (x * rows).sum(axis=1), (rows * rows).sum(axis=1)
    with np.errstate(invalid="ignore"):
        expected = along / (x * x).sum(), along * along / ((x * x).sum() * total)
    assert np.array_equal(found, expected, equal_nan=True)
    assert found[0, 0] == 0
    assert np.isnan(found[:, 1]).all()
    assert np.isnan(found[1, 0])
