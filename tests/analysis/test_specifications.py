"""The specification curve against the single functions, and what is counted over its table."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.analysis import scaling, transitions
from gradquake.analysis.dimension import dimension
from gradquake.analysis.fits import fit_exponent
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.specifications import (
    AGAINST_NULL,
    RESULTS,
    STATISTICS,
    importance,
    judged,
    results,
    scale_choices,
    shares,
)
from gradquake.errors import InputError
from gradquake.paper.xor.statements import statements

SCALES = (85, 201, 401, 1201)
STRIDES = (1, 2, 5)
LEFT_OUT = (None, *SCALES)
GROKKING = {85: [40, None, 55], 201: [30, 62, 45, 50, None], 401: [70, 35, 20, 52], 1201: [58, 41, 33]}


def results_of(sweep, strides=STRIDES):
    return results(
        sweep["n_parameters"].values,
        sweep["size"].values,
        sweep["epoch"].values,
        sweep["grokking_epoch"].values,
        strides,
    )


def part_of(sweep, stride, left_out):
    """The sweep at every stride-th snapshot, without a scale."""
    kept = np.flatnonzero(sweep["n_parameters"].values != (left_out or -1))
    return sweep.isel(run=kept, epoch=slice(None, None, stride))


def naive_p95(sweep):
    """Every result of the 95 % quantile, from its definition."""
    sizes, n_of_run = sweep["size"].values.astype(float), sweep["n_parameters"].values
    scales = np.unique(n_of_run)

    def exponent(where):
        pooled = [sizes[n_of_run == n][where[n_of_run == n]] for n in scales]
        return fit_exponent(scales, [np.quantile(p, 0.95) if p.size else np.nan for p in pooled])

    phases = [transitions.phase(sweep, which).values for which in ("pre", "post")]
    fits = []
    for snapshot in range(sizes.shape[1]):
        where = np.zeros(sizes.shape, bool)
        where[:, snapshot] = True
        fits.append(exponent(where))
    d = np.array([fit.exponent for fit in fits])
    return [
        *(exponent(where).exponent for where in (*phases, np.ones(sizes.shape, bool))),
        d.mean(),
        float(transitions.crossing(sweep["epoch"].values, d)),
        min(fit.r_squared for fit in fits),
    ]


def naive(sweep, statistic):
    """Every result of one specification, from the functions that analyse a sweep."""
    if statistic == "p95":
        return naive_p95(sweep)
    wheres = [transitions.phase(sweep, "pre"), transitions.phase(sweep, "post"), None]
    curve = dimension(sweep, statistic, n_resamples=1)
    return [
        *(scaling.exponent(sweep, statistic, where, n_resamples=1).value for where in wheres),
        float(curve["value"].mean(skipna=False)),
        float(transitions.crossing(curve["epoch"].values, curve["value"].values)),
        float(curve["r_squared"].min(skipna=False)),
    ]


def table_of(**values):
    """A table of specifications in one dimension; what is not given is 1 everywhere."""
    length = len(next(iter(values.values())))
    names = [*RESULTS, *(f"null_{name}" for name in RESULTS)]
    names += ["first_grokking_epoch", "last_grokking_epoch"]
    filled = {name: np.asarray(values.get(name, np.ones(length)), float) for name in names}
    return xr.Dataset({name: ("choice", column) for name, column in filled.items()})


def table(values, *dims):
    values = np.asarray(values, float)
    return xr.DataArray(
        values, dims=dims, coords={d: range(k) for d, k in zip(dims, values.shape, strict=True)}
    )


@pytest.fixture(scope="module")
def rising(sweep_of):
    """D(t) rises from 0.8 to 1.2 in 24 snapshots, with scatter; some runs never grok."""
    rng = np.random.default_rng(1)
    d = np.linspace(0.8, 1.2, 24)
    sizes = {
        n: np.ceil(300 * n**d * np.exp(0.15 * rng.standard_normal((len(reached), 24))))
        for n, reached in GROKKING.items()
    }
    return sweep_of(sizes, GROKKING, epochs=range(0, 120, 5))


@pytest.fixture(scope="module")
def found(rising):
    return results_of(rising)


# --- What one sweep gives ----------------------------------------------------------------------------


def test_the_choices_of_scales_are_all_scales_and_all_without_each():
    chosen = scale_choices(np.array(SCALES))
    assert list(chosen) == ["all", "without 85", "without 201", "without 401", "without 1201"]
    assert {name: mask.tolist() for name, mask in chosen.items()} == {
        "all": [True, True, True, True],
        "without 85": [False, True, True, True],
        "without 201": [True, False, True, True],
        "without 401": [True, True, False, True],
        "without 1201": [True, True, True, False],
    }


@pytest.mark.parametrize("n_scales", [0, 1, 3])
def test_three_scales_cannot_be_left_out_one_by_one(sweep_of, n_scales):
    message = f"the sweep has {n_scales} scales; at least 4 are needed"
    with pytest.raises(InputError, match=message):
        scale_choices(np.array(SCALES[:n_scales]))
    if n_scales:
        with pytest.raises(InputError, match=message):
            results_of(sweep_of({n: np.ones((2, 4)) for n in SCALES[:n_scales]}))


def test_there_is_a_result_for_every_choice(found):
    assert found.shape == (len(RESULTS), len(STATISTICS), len(STRIDES), 1 + len(SCALES))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_a_specification_is_the_analysis_of_a_part_of_the_sweep(
    rising, found, statistic, stride, left_out
):
    expected = naive(part_of(rising, stride, left_out), statistic)
    one = found[:, list(STATISTICS).index(statistic), STRIDES.index(stride), LEFT_OUT.index(left_out)]
    assert one == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_the_rising_sweep_has_everything_to_compare(found):
    assert np.isfinite(found[[0, 1, 2, 3, 5]]).all()
    assert np.isfinite(found[4]).mean() > 0.3


def test_a_heavy_tailed_sweep_is_analysed_alike(random_sweep):
    found = results_of(random_sweep, (1, 2))
    for i, j, k in np.ndindex(3, 2, 5):
        expected = naive(part_of(random_sweep, (1, 2)[j], LEFT_OUT[k]), list(STATISTICS)[i])
        assert found[:, i, j, k] == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("i", range(len(STATISTICS)))
def test_a_planted_jump_is_found_under_every_choice(sweep_of, i):
    # D(t) is 0.8 up to the epoch 9 and 1.2 from 10 on, where all runs grok.
    d = np.repeat([0.8, 1.2], 10)
    sizes = {n: np.round(10_000 * n ** np.tile(d, (2, 1))) for n in SCALES}
    found = results_of(sweep_of(sizes, {n: [10, 10] for n in SCALES}), (1, 2, 3, 4))[:, i]
    pre, post, _, average, crossed, worst = found
    assert pre == pytest.approx(np.full((4, 5), 0.8), abs=1e-5)
    assert post == pytest.approx(np.full((4, 5), 1.2), abs=1e-5)
    # At stride 3 the epochs are 0, 3, ... 18, of which 12, 15 and 18 come after the jump; at 4, only
    # two do, 12 and 16, and a crossing must hold for three.
    assert average[:, 0] == pytest.approx([1.0, 1.0, 0.8 + 0.4 * 3 / 7, 0.8 + 0.4 * 2 / 5], abs=1e-5)
    assert crossed[:, 0] == pytest.approx([9.5, 9.0, 10.5, np.nan], abs=1e-3, nan_ok=True)
    assert worst == pytest.approx(np.ones((4, 5)), abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 1_000), st.integers(0, 10**6))
def test_a_common_factor_of_the_sizes_changes_nothing(factor, seed):
    rng = np.random.default_rng(seed)
    n = np.repeat(SCALES, 3)
    sizes = np.ceil(n[:, None] * rng.gamma(2.0, size=(12, 8))).astype(np.int64)
    epochs, reached = np.arange(8), rng.choice([2.0, 4.0, 5.0, np.nan], 12)
    one = results(n, sizes, epochs, reached, (1, 2))
    other = results(n, factor * sizes, epochs, reached, (1, 2))
    exponents = [0, 1, 2, 3, 5]
    assert other[exponents] == pytest.approx(one[exponents], abs=1e-8, nan_ok=True)


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_runs_of_a_scale_does_not_matter(random_sweep, rnd):
    order = np.arange(18)
    for _, runs in scale_groups(random_sweep):
        order[runs] = rnd.sample(runs.tolist(), runs.size)
    one, other = (results_of(sweep, (1,)) for sweep in (random_sweep, random_sweep.isel(run=order)))
    assert other == pytest.approx(one, rel=1e-9, nan_ok=True)


def test_a_scale_without_avalanches_spoils_the_choices_that_hold_it(rising):
    silent = rising.assign(size=rising["size"].where(rising["n_parameters"] != 401, 0))
    found = results_of(silent)
    assert np.isnan(found[..., [0, 1, 2, 4]]).all()
    assert found[..., 3] == pytest.approx(results_of(rising)[..., 3], nan_ok=True)
    assert np.isfinite(found[:4, ..., 3]).all()


def test_a_silent_snapshot_spoils_d_there_and_no_pooled_exponent(rising):
    # The snapshot 6 is one of those at the strides 1 and 2, not of those at 5.
    here = (rising["n_parameters"] == 201) & (rising["epoch"] == 30)
    found = results_of(rising.assign(size=rising["size"].where(~here, 0)))
    assert np.isfinite(found[:3]).all()
    for of_curve in (found[3], found[5]):
        missing = np.isnan(of_curve)
        assert missing[:, :2, [0, 1, 3, 4]].all()
        assert not missing[:, :2, 2].any()
        assert not missing[:, 2].any()


def test_a_scale_that_never_grokked_has_no_exponent_after(rising):
    reached = rising["grokking_epoch"].where(rising["n_parameters"] != 85)
    found = results_of(rising.assign_coords(grokking_epoch=reached))
    assert np.isnan(found[1, ..., [0, 2, 3, 4]]).all()
    assert np.isfinite(found[1, ..., 1]).all()
    assert np.isfinite(found[[0, 2, 3, 5]]).all()


@pytest.mark.parametrize("equal", [3, 5, 7, 11, 13])
def test_constant_sizes_have_no_r_squared(sweep_of, equal):
    sizes = {n: np.full((2, 5), equal) for n in SCALES} | {1201: np.full((2, 5), 900)}
    sweep = sweep_of(sizes)
    # As in the fit of a sweep: without N = 1201, all sizes are equal.
    assert np.isnan(dimension(part_of(sweep, 1, 1201), n_resamples=1)["r_squared"]).all()
    found = results_of(sweep, (1,))
    assert found[3, :, 0, 4] == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.isnan(found[5, :, 0, 4]).all()
    assert np.isfinite(found[5, :, 0, :4]).all()


# --- What is counted over the table ------------------------------------------------------------------

NAN = np.nan
TRUTHS = {
    "exponent before < 1": ({"pre": [0.5, 0.99, 1.0, 1.3, NAN]}, [1, 1, 0, 0, 0]),
    "exponent before = 0.90 ± 0.04": ({"pre": [0.85, 0.87, 0.9, 0.93, 0.95, NAN]}, [0, 1, 1, 1, 0, 0]),
    "exponent after > 1": ({"post": [0.5, 1.0, 1.01, 1.3, NAN]}, [0, 0, 1, 1, 0]),
    "exponent after = 1.20 ± 0.04": ({"post": [1.15, 1.17, 1.2, 1.23, 1.25, NAN]}, [0, 1, 1, 1, 0, 0]),
    "exponent before < 1 < after": (
        {"pre": [0.9, 0.9, 1.1, 1.1, NAN, 0.9], "post": [1.1, 0.95, 1.2, 0.9, 1.1, NAN]},
        [1, 0, 0, 0, 0, 0],
    ),
    "exponent after > before": (
        {"pre": [0.9, 0.9, 1.2, 1.0, NAN, 0.9], "post": [1.1, 0.95, 1.1, 1.0, 1.1, NAN]},
        [1, 1, 0, 0, 0, 0],
    ),
    "exponent crosses 1 upwards": ({"crossing": [0.0, 12.5, NAN]}, [1, 1, 0]),
    "exponent crosses 1 while runs grok": (
        {
            "crossing": [9.0, 10.0, 15.0, 20.0, 21.0, NAN, 15.0],
            "first_grokking_epoch": [10.0] * 6 + [np.inf],
            "last_grokking_epoch": [20.0] * 6 + [np.inf],
        },
        [0, 1, 1, 1, 0, 0, 0],
    ),
    "average exponent = 1.00 ± 0.04": (
        {"average": [0.95, 0.97, 1, 1.03, 1.05, NAN]},
        [0, 1, 1, 1, 0, 0],
    ),
    "aggregate exponent = 1.00 ± 0.04": ({"all": [0.95, 0.97, 1, 1.03, 1.05, NAN]}, [0, 1, 1, 1, 0, 0]),
    "every R² > 0.98": ({"worst_r_squared": [0.5, 0.98, 0.981, 1.0, NAN]}, [0, 0, 1, 1, 0]),
    "exponent before > its permuted null": (
        {"pre": [0.9, 0.9, 1.2, NAN, 0.9], "null_pre": [0.8, 0.9, 1.3, 0.8, NAN]},
        [1, 0, 0, 0, 0],
    ),
    "exponent after > its permuted null": (
        {"post": [1.3, 1.1, 1.0, NAN, 1.1], "null_post": [1.2, 1.1, 1.3, 0.8, NAN]},
        [1, 0, 0, 0, 0],
    ),
    "rise > that of its permuted null": (
        {
            "pre": [0.9, 1.0, 1.0, NAN],
            "post": [1.3, 1.3, 1.2, 1.3],
            "null_pre": [0.9, 1.0, 0.9, 0.9],
            "null_post": [1.2, 1.3, 1.2, 1.2],
        },
        [1, 0, 0, 0],
    ),
}


@pytest.mark.parametrize("statement", TRUTHS)
def test_a_statement_holds_where_its_values_say_so(statement):
    values, expected = TRUTHS[statement]
    holds = statements(table_of(**values))[statement]
    assert holds.dtype == bool
    assert holds.values.tolist() == [bool(truth) for truth in expected]


def test_every_statement_has_a_truth_table():
    assert list(statements(table_of(pre=[1.0])).data_vars) == list(TRUTHS)


def test_statements_are_judged_on_the_null_as_on_the_data():
    found = judged(table_of(pre=[0.9, 0.9, 1.1, 0.8], null_pre=[0.9, 1.2, 1.1, 1.3]), statements)
    below = found["exponent before < 1"]
    assert (below.data.overall, below.null.overall) == (0.75, 0.25)
    assert below.null.by_choice == {"choice": {"0": 1.0, "1": 0.0, "2": 0.0, "3": 0.0}}
    for name, of in found.items():
        assert (of.null is None) == name.endswith(AGAINST_NULL)
        if of.null is not None:
            values, expected = TRUTHS[name]
            on_null = {f"null_{k}" if k in RESULTS else k: v for k, v in values.items()}
            assert judged(table_of(**on_null), statements)[name].null.overall == np.mean(expected)


def test_grokking_epochs_may_differ_by_a_choice():
    found = table_of(pre=[1.0, 1.0]).drop_vars(
        ["first_grokking_epoch", "last_grokking_epoch", "crossing"]
    )
    found = found.assign(
        crossing=(("training", "choice"), [[5.0, 15.0], [5.0, 15.0]]),
        first_grokking_epoch=("training", [0.0, 10.0]),
        last_grokking_epoch=("training", [9.0, 20.0]),
    )
    holds = statements(found)["exponent crosses 1 while runs grok"].transpose("training", "choice")
    assert holds.values.tolist() == [[True, False], [False, True]]


def test_shares_are_counted_level_by_level():
    holds = table([[1, 1, 0], [0, 1, 0]], "quantile", "scales").astype(bool)
    holds = holds.assign_coords(quantile=[0.8, 0.95], scales=["all", "without 85", "without 201"])
    found = shares(holds)
    assert found.overall == 0.5
    assert found.by_choice == {
        "quantile": {"0.8": pytest.approx(2 / 3), "0.95": pytest.approx(1 / 3)},
        "scales": {"all": 0.5, "without 85": 1.0, "without 201": 0.0},
    }


@settings(deadline=None, max_examples=20)
@given(st.lists(st.booleans(), min_size=24, max_size=24))
def test_the_mean_of_the_shares_of_a_choice_is_the_share_of_all(truths):
    holds = table(np.reshape(truths, (2, 3, 4)), "a", "b", "c").astype(bool)
    found = shares(holds)
    assert found.overall == pytest.approx(np.mean(truths))
    assert {choice: list(of) for choice, of in found.by_choice.items()} == {
        "a": ["0", "1"],
        "b": ["0", "1", "2"],
        "c": ["0", "1", "2", "3"],
    }
    for of_choice in found.by_choice.values():
        assert np.mean(list(of_choice.values())) == pytest.approx(np.mean(truths))


def test_one_choice_may_carry_all_the_variance():
    values = table(np.array([1.0, 2.0, 4.0])[:, None, None] * np.ones((3, 4, 2)), "a", "b", "c")
    assert importance(values) == pytest.approx({"a": 1, "b": 0, "c": 0}, abs=1e-12)


def test_two_equal_choices_carry_half_each():
    effect = np.array([-1.0, 0.5, 3.0])
    values = table(np.add.outer(effect, effect)[..., None] * np.ones(5), "a", "b", "c")
    assert importance(values) == pytest.approx({"a": 0.5, "b": 0.5, "c": 0}, abs=1e-12)


def test_planted_main_effects_carry_their_variances():
    rng = np.random.default_rng(2)
    a, b, c = (rng.normal(size=k) for k in (3, 4, 5))
    values = table(a[:, None, None] + b[:, None] + c, "a", "b", "c")
    variances = {"a": a.var(), "b": b.var(), "c": c.var()}
    total = sum(variances.values())
    assert importance(values) == pytest.approx({k: v / total for k, v in variances.items()})


def test_an_interaction_belongs_to_no_choice_alone():
    values = table([[1, -1], [-1, 1]], "a", "b")
    assert importance(values) == pytest.approx({"a": 0, "b": 0}, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(-5, 5), st.floats(0.1, 10))
def test_main_effects_sum_to_at_most_one_whatever_the_unit(seed, shift, factor):
    values = table(np.random.default_rng(seed).normal(size=(2, 3, 4)), "a", "b", "c")
    found = importance(values)
    assert min(found.values()) >= 0
    assert sum(found.values()) <= 1 + 1e-9
    assert importance(shift + factor * values) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1.1, 1 / 3])
@pytest.mark.parametrize("shape", [(2, 2), (3, 7), (11, 5)])
def test_where_nothing_varies_nothing_matters(value, shape):
    # The mean of 21 times 0.1 is not 0.1 to the last bit.
    assert importance(table(np.full(shape, value), "a", "b")) == {"a": 0, "b": 0}


def test_specifications_without_a_value_are_passed_over():
    values = table([[1.0, 1.0, np.nan], [2.0, np.nan, 2.0]], "a", "b")
    assert importance(values)["a"] == pytest.approx(1)


def test_a_choice_never_accounts_for_more_than_all_of_the_variance():
    # One of eleven values is 10 and alone in its level, the others are five times 0 and 1.
    values = np.full((2, 10), np.nan)
    values[0, 0] = 10
    values[1] = [0, 1] * 5
    found = importance(table(values, "a", "b"))
    assert found["a"] <= 1
    assert found["a"] == pytest.approx(1 - 2.5 / np.nansum((values - np.nanmean(values)) ** 2))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.1, 0.8))
def test_shares_of_a_table_with_gaps_are_shares(seed, gaps):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((3, 8)) < gaps, np.nan, rng.standard_cauchy((3, 8)))
    values[0, 0] = 1.0
    for share in importance(table(values, "a", "b")).values():
        assert 0 <= share <= 1 + 1e-9


@pytest.mark.parametrize("shape", [(2, 3), (1, 1)])
def test_importance_needs_a_value(shape):
    with pytest.raises(InputError, match="no specification has a value"):
        importance(table(np.full(shape, np.nan), "a", "b"))
