"""The ladder of nulls: its parts are paired differences that add up to the exponent."""

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.analysis.ladder import DETAILS, Ladder
from gradquake.analysis.resampling import Interval, percentile_interval
from gradquake.analysis.sweep import analyze
from gradquake.analysis.transitions import PHASES, crossing
from gradquake.errors import InputError

N_RESAMPLES = 25
SCALES = (85, 201, 401, 1201)
RUNGS = ("gaussian", "permuted", "permuted_within_tensor", "sign_flipped")
CASES = list(product(PHASES, ("max", "mean")))
by_case = pytest.mark.parametrize(("phase", "statistic"), CASES)
by_statistic = pytest.mark.parametrize("statistic", ["max", "mean"])
# In one of 27 resamples, N = 201 holds only the run that never grokked, and has nothing after.
GROKKING = {85: [3, 4, 2], 201: [2, None, 5], 401: [4, 3, 3], 1201: [5, 2, 4]}


def noisy(seed, exponent=1.0, snapshots=7):
    """Heavy-tailed sizes of three runs a scale around 20 N^D."""
    rng = np.random.default_rng(seed)
    return {
        n: np.ceil(20 * n**exponent * np.exp(0.7 * rng.standard_normal((3, snapshots)))) for n in SCALES
    }


def constant(exponents):
    """Sizes 1,000 N^D(t) without scatter."""
    return {n: np.round(1_000 * n ** np.tile(exponents, (3, 1))) for n in SCALES}


@pytest.fixture(scope="module")
def ladder(sweep_of) -> Ladder:
    analyses = [
        analyze(sweep_of(noisy(seed, 0.9 + 0.05 * seed), GROKKING), n_resamples=N_RESAMPLES)
        for seed in range(1 + len(RUNGS))
    ]
    return Ladder(analyses[0], dict(zip(RUNGS, analyses[1:], strict=True)))


# The two rungs whose difference each part is.
PARTS = {"distribution": ("permuted", "gaussian"), "arrangement": ("real", "permuted"), **DETAILS}


def three_of(found):
    """The three parts that add up, in their order."""
    return found.estimator, found.distribution, found.arrangement


def named(found):
    """All parts by name."""
    three = dict(zip(("estimator", "distribution", "arrangement"), three_of(found), strict=True))
    return three | found.details


@by_case
def test_three_parts_make_up_the_exponent(ladder, phase, statistic):
    found = ladder.attribution(phase, statistic)
    three = three_of(found)
    real = ladder.real.exponent(phase, statistic)
    assert found.total.value == real.value - 1
    assert np.array_equal(found.total.resamples, real.resamples - 1, equal_nan=True)
    assert np.isfinite(real.value)
    assert sum(part.value for part in three) == pytest.approx(real.value - 1, abs=1e-12)
    assert np.isfinite(real.resamples).sum() == {"post": 24}.get(phase, N_RESAMPLES)
    resampled = sum(part.resamples for part in three)
    assert resampled == pytest.approx(real.resamples - 1, abs=1e-12, nan_ok=True)


@by_statistic
def test_three_parts_make_up_the_rise(ladder, statistic):
    found = ladder.attribution("rise", statistic)
    rise = ladder.value("real", "rise", statistic)
    post, pre = (ladder.real.exponent(phase, statistic) for phase in ("post", "pre"))
    assert rise.value == post.value - pre.value
    assert np.array_equal(rise.resamples, post.resamples - pre.resamples, equal_nan=True)
    assert found.total.value == rise.value
    assert sum(part.value for part in three_of(found)) == pytest.approx(rise.value, abs=1e-12)
    above = rise.value - found.estimator.value
    assert found.details["above_gaussian"].value == pytest.approx(above, abs=1e-12)
    after, before = (ladder.arrangement(phase, statistic).value for phase in ("post", "pre"))
    assert ladder.arrangement("rise", statistic).value == pytest.approx(after - before, abs=1e-12)


@by_case
def test_the_arrangement_is_what_a_tensor_and_a_place_in_it_make_up(ladder, phase, statistic):
    found = ladder.attribution(phase, statistic)
    two = [found.details["which_tensor"], found.details["place_in_tensor"]]
    whole = found.arrangement
    assert sum(part.value for part in two) == pytest.approx(whole.value, abs=1e-12)
    resampled = sum(part.resamples for part in two)
    assert resampled == pytest.approx(whole.resamples, abs=1e-12, nan_ok=True)


@by_case
@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_the_difference_of_two_rungs(ladder, name, phase, statistic):
    upper, lower = (
        (ladder.real if rung == "real" else ladder.nulls[rung]).exponent(phase, statistic)
        for rung in PARTS[name]
    )
    found = named(ladder.attribution(phase, statistic))[name]
    one_by_one = np.array([a - b for a, b in zip(upper.resamples, lower.resamples, strict=True)])
    assert found.value == upper.value - lower.value
    assert np.array_equal(found.resamples, one_by_one, equal_nan=True)
    assert found.runs == 3
    assert Interval(found.low, found.high, found.invalid) == percentile_interval(one_by_one, 3)


@by_case
def test_the_estimator_is_what_the_gaussian_gives_beyond_one(ladder, phase, statistic):
    found = ladder.attribution(phase, statistic).estimator
    gaussian = ladder.nulls["gaussian"].exponent(phase, statistic)
    assert found.value == gaussian.value - 1
    assert np.array_equal(found.resamples, gaussian.resamples - 1, equal_nan=True)
    assert (found.low, found.high) == pytest.approx((gaussian.low - 1, gaussian.high - 1), nan_ok=True)
    assert found.invalid == gaussian.invalid
    assert found.runs == 3


@by_case
def test_an_exponent_is_that_of_its_rung(ladder, phase, statistic):
    assert ladder.exponent("real", phase, statistic) is ladder.real.exponents[phase][statistic]
    for rung in RUNGS:
        expected = ladder.nulls[rung].exponents[phase][statistic]
        assert ladder.exponent(rung, phase, statistic) is expected


@by_case
def test_the_arrangement_alone_is_that_of_the_attribution(ladder, phase, statistic):
    alone, part = ladder.arrangement(phase, statistic), ladder.attribution(phase, statistic).arrangement
    assert (alone.value, alone.low, alone.high) == (part.value, part.low, part.high)
    assert np.array_equal(alone.resamples, part.resamples, equal_nan=True)


@pytest.mark.parametrize(
    ("rungs", "names"),
    [
        ((), []),
        (("permuted_within_tensor",), ["which_tensor", "place_in_tensor"]),
        (("sign_flipped",), ["signs"]),
        (("sign_flipped", "permuted_within_tensor"), ["which_tensor", "place_in_tensor", "signs"]),
    ],
)
def test_parts_whose_rungs_were_not_measured_are_left_out(ladder, rungs, names):
    few = Ladder(ladder.real, {rung: ladder.nulls[rung] for rung in ("gaussian", "permuted", *rungs)})
    found = named(few.attribution("post", "max"))
    assert list(found)[3:] == ["above_gaussian", *names]
    whole = named(ladder.attribution("post", "max"))
    assert [part.value for part in found.values()] == [whole[name].value for name in found]


@pytest.mark.parametrize("missing", ["gaussian", "permuted"])
def test_an_attribution_needs_two_nulls(ladder, missing):
    few = Ladder(ladder.real, {r: ladder.nulls[r] for r in {"gaussian", "permuted"} - {missing}})
    with pytest.raises(InputError, match=f"the rung is '{missing}'"):
        few.attribution("all", "max")


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10**6), st.sampled_from(CASES))
def test_the_parts_of_any_three_sweeps_add_up(sweep_of, seed, case):
    rungs = [analyze(sweep_of(noisy(seed + i), GROKKING), n_resamples=4) for i in range(3)]
    found = Ladder(rungs[0], {"gaussian": rungs[1], "permuted": rungs[2]}).attribution(*case)
    real = rungs[0].exponent(*case)
    three = three_of(found)
    assert sum(part.value for part in three) == pytest.approx(real.value - 1, abs=1e-12)
    resampled = sum(part.resamples for part in three)
    assert resampled == pytest.approx(real.resamples - 1, abs=1e-12, nan_ok=True)


@by_case
def test_without_structure_every_part_is_zero(sweep_of, phase, statistic):
    one = analyze(sweep_of(noisy(1), GROKKING), n_resamples=10)
    again = analyze(sweep_of(noisy(1), GROKKING), n_resamples=10)
    found = Ladder(one, {"gaussian": again, "permuted": again}).attribution(phase, statistic)
    for part in (found.distribution, found.arrangement):
        assert (part.value, part.low, part.high) == (0, 0, 0)


@by_statistic
def test_planted_exponents_are_attributed(sweep_of, statistic):
    real, gaussian, permuted = (
        analyze(sweep_of(constant([d] * 7), GROKKING), n_resamples=5) for d in (1.25, 0.9, 1.05)
    )
    ladder = Ladder(real, {"gaussian": gaussian, "permuted": permuted})
    parts = named(ladder.attribution("all", statistic))
    found = {name: part.value for name, part in parts.items()}
    expected = {
        "estimator": -0.1, "above_gaussian": 0.35, "distribution": 0.15, "arrangement": 0.2,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-5)
    for part in parts.values():
        assert part.resamples == pytest.approx(np.full(5, part.value))


@by_statistic
def test_a_phase_without_an_exponent_has_no_parts(sweep_of, statistic):
    never = {n: [None] * 3 for n in SCALES}
    real, null = (analyze(sweep_of(noisy(seed), never), n_resamples=10) for seed in (1, 2))
    found = Ladder(real, {"gaussian": null, "permuted": null}).attribution("post", statistic)
    for part in (found.total, *named(found).values()):
        assert np.isnan([part.value, part.low, part.high]).all()
        assert part.invalid == 1


def test_rungs_that_were_resampled_otherwise_are_refused(sweep_of):
    real = analyze(sweep_of(noisy(1), GROKKING), n_resamples=10)
    null = analyze(sweep_of(noisy(2), GROKKING), n_resamples=11)
    with pytest.raises(InputError, match="a paired difference needs the same of both"):
        Ladder(real, {"gaussian": null, "permuted": null}).attribution("all", "max")


# D(t) is 0.8, 0.9, 1.0, 1.1, ... and passes 0.85 and 1.02 halfway and a fifth of the way.
@by_statistic
@pytest.mark.parametrize(("level", "expected"), [(0.85, 0.5), (1.02, 2.2), (1.0, 2.0), (0.7, np.nan)])
def test_d_crosses_that_of_a_flat_null(sweep_of, statistic, level, expected):
    real = analyze(sweep_of(constant(0.8 + 0.1 * np.arange(7))), n_resamples=8)
    null = analyze(sweep_of(constant([level] * 7)), n_resamples=8)
    ladder = Ladder(real, {"permuted": null, "gaussian": real})
    found = ladder.crossing_of_null("permuted", statistic)
    assert found.value == pytest.approx(expected, abs=1e-3, nan_ok=True)
    assert found.resamples == pytest.approx(np.full(8, expected), abs=1e-3, nan_ok=True)
    assert found.invalid == np.isnan(expected)


@by_statistic
def test_d_crosses_that_of_a_falling_null(sweep_of, statistic):
    # Rising by 0.1 a snapshot from 0.7 and falling by 0.05 from 1.2, they meet after 0.5 / 0.15.
    epochs = [0, 10, 20, 30, 40, 50, 60, 70]
    real = analyze(sweep_of(constant(0.7 + 0.1 * np.arange(8)), epochs=epochs), n_resamples=8)
    null = analyze(sweep_of(constant(1.2 - 0.05 * np.arange(8)), epochs=epochs), n_resamples=8)
    ladder = Ladder(real, {"permuted": null, "gaussian": null})
    found = ladder.crossing_of_null("permuted", statistic)
    assert found.value == pytest.approx(100 / 3, abs=1e-2)
    assert found.runs == 3
    assert real.curves[statistic].crossing.value == pytest.approx(30, abs=1e-2)


@by_statistic
def test_the_crossing_of_a_null_is_a_loop_over_resamples(ladder, statistic):
    found = ladder.crossing_of_null("permuted", statistic)
    curves = ladder.real.curves[statistic], ladder.nulls["permuted"].curves[statistic]
    real, null = (curve.dimension for curve in curves)
    [of_real], [of_null] = (list(curve.resampled()) for curve in curves)
    epochs = real["epoch"].values
    above = real["value"].values - null["value"].values
    assert found.value == pytest.approx(float(crossing(epochs, above, 0.0)), nan_ok=True)
    for b in range(N_RESAMPLES):
        above = of_real.exponents[b] - of_null.exponents[b]
        expected = float(crossing(epochs, above, 0.0))
        assert found.resamples[b] == pytest.approx(expected, nan_ok=True)
    assert np.isfinite(found.resamples).any()


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (
            lambda of: of.exponent("shuffled", "all", "max"),
            "the rung is 'shuffled'; this sweep has real,",
        ),
        (
            lambda of: of.exponent("real", "before", "max"),
            "the phase is 'before'; one of all, pre, post",
        ),
        (lambda of: of.exponent("real", "all", "median"), "statistic is 'median'; one of max, mean"),
        (lambda of: of.value("real", "fall", "max"), "the span is 'fall'; one of all, pre, post, rise"),
        (lambda of: of.attribution("fall", "max"), "the span is 'fall'; one of all, pre, post, rise"),
        (lambda of: of.crossing_of_null("shuffled", "max"), "the rung is 'shuffled'; this sweep has"),
        (lambda of: of.crossing_of_null("permuted", "median"), "statistic is 'median'"),
        (lambda of: of.real.snapshot_interval("before", "max"), "the phase is 'before'"),
    ],
)
def test_a_name_that_there_is_not_is_told_with_those_that_there_are(ladder, ask, told):
    with pytest.raises(InputError, match=re.escape(told)):
        ask(ladder)
