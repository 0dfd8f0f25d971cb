"""The elementary functions against exact ones."""

import math
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest

from gradquake.avalanche import (
    _kernels_elementary,
)
from kernel_cases import plain

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
NEARBY = np.concatenate([np.nextafter(x, [0.0, x, 99.0]) for x in (0.55, 1.0, 19.06, 20.0, 37.4)])


TINY = np.ldexp(RNG.uniform(1, 2, 300), RNG.integers(-1074, -2, 300))


ARGUMENTS = both_signs(NEARBY, TINY, RNG.uniform(0, 1, 3000), RNG.uniform(0, 40, 1000))


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
