"""The kernels of sums and angles against naive twins."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gradquake.avalanche import (
    _kernels_angle,
)
from kernel_cases import DTYPES, examples, gradients, naive_dissipation, plain, random_csr, seeds


def test_norms_are_those_of_segments():
    values = np.random.default_rng(3).standard_normal(200)
    offsets = np.array([0, 1, 18, 18, 200])
    found = np.empty(4)
    _kernels_angle.norms(values, offsets, found)
    expected = [math.sqrt(math.fsum(part**2)) for part in np.split(values, offsets[1:-1])]
    assert found == pytest.approx(expected, rel=1e-14)


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
