"""The paper's networks under other conditions."""

from dataclasses import fields
from itertools import product

import numpy as np
import pytest

from gradquake.analysis import scaling, transitions
from gradquake.analysis.ladder import SPANS, Ladder
from gradquake.analysis.resampling import Interval, percentile_interval, run_resamples
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.sweep import analyze
from gradquake.analysis.timing import median_grokking_epoch
from gradquake.analysis.transitions import PHASES, grokking_epochs
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import InputError
from gradquake.experiments import xor
from gradquake.experiments.readings import Reading
from gradquake.experiments.xor import XorRun
from gradquake.paper.xor.conditions import INLINE, SHADOW, Condition, Todo, conditions, examine
from gradquake.scrutiny.measure import measure
from gradquake.study.recording import to_dataset

HIDDEN = (3, 5, 8)
SEEDS = 2
EPOCHS = 200


(AND,) = (c for c in conditions() if c.settings == {"task": "and"})


def trained(**settings):
    return to_dataset(xor.measure(xor.sweep(HIDDEN, SEEDS, epochs=EPOCHS, **settings)))


@pytest.fixture(scope="module")
def inline():
    return trained()


@pytest.fixture(scope="module")
def shadow():
    return trained(alpha_train=0)


@pytest.fixture(scope="module")
def result(inline, shadow):
    return examine(Todo(INLINE, inline, shadow))


@pytest.fixture(scope="module")
def control():
    return trained(task="and")


@pytest.fixture(scope="module")
def controlled(control, shadow, inline):
    return examine(Todo(AND, control, shadow, inline))


# What they are


def test_every_condition_has_a_name_of_its_own():
    names = [(c.group, c.name) for c in conditions()]
    assert len(set(names)) == len(names)
    # Those of the paper's own training, which stand beside them.
    assert not {(own.group, own.name) for own in (INLINE, SHADOW)} & set(names)


def test_a_condition_shows_the_settings_of_its_runs():
    for condition in (INLINE, SHADOW, *conditions()):
        (run,) = condition.runs([1], 1)
        assert condition.run == run
        assert condition.is_control == (condition.group == "control")
        if condition.group == "alpha_train":
            assert float(condition.name) == run.alpha_train


def test_every_setting_is_one_of_a_run():
    known = {field.name for field in fields(XorRun)} - {"hidden", "seed"}
    for condition in conditions():
        assert condition.settings.keys() <= known
        runs = condition.runs(HIDDEN, SEEDS)
        assert runs == xor.sweep(HIDDEN, SEEDS, **condition.settings)


def test_no_two_conditions_train_the_same_network():
    own = [XorRun(3, 0), XorRun(3, 0, alpha_train=0)]
    runs = [run for condition in conditions() for run in condition.runs([3], 1)]
    assert len({*own, *runs}) == len(own) + len(runs)


def test_there_is_a_control_of_every_kind_in_line_and_in_shadow():
    controls = [c.runs([3], 1)[0] for c in conditions() if c.group == "control"]
    kinds = {(run.task, run.learning_rate == XorRun(3, 0).learning_rate) for run in controls}
    assert kinds == {("and", True), ("constant", True), ("xor", False)}
    for kind in kinds:
        modes = [r.alpha_train for r in controls if kind[0] == r.task]
        assert sorted(modes) == [0.0, 0.3]


def test_every_graph_of_the_training_is_there():
    graphs = [c.runs([3], 1)[0] for c in conditions() if c.group == "topology_train"]
    of_training = {run.topology_train for run in graphs}
    assert of_training == set(TOPOLOGIES)
    assert {run.topology for run in graphs} == {XorRun(3, 0).topology}
    assert [run.topology_train for run in graphs if run.permute_train] == [XorRun(3, 0).topology]


def test_thresholds_are_the_same_in_the_probe_and_in_the_name():
    for condition in conditions():
        if condition.group == "quantile":
            assert condition.runs([3], 1)[0].quantile == float(condition.name)


def test_a_condition_of_bad_settings_makes_no_runs():
    with pytest.raises(ValueError, match="task is 'or'"):
        Condition("control", "OR", {"task": "or"}).runs(HIDDEN, 1)


# What is measured under them


def naive_delay(sweep, shadow):
    """The delay run by run, and in every resample of runs within each scale."""
    late, early = (d["grokking_epoch"].values.tolist() for d in (sweep, shadow))
    delay = []
    for after, before in zip(late, early, strict=True):
        never = (after != after, before != before)
        if never == (True, True):
            delay.append(0.0)
        else:
            delay.append(np.inf if never[0] else -np.inf if never[1] else after - before)
    draws = run_resamples([SEEDS] * len(HIDDEN))
    resampled = [
        np.median([delay[scale * SEEDS + run] for scale, d in enumerate(draws) for run in d[b]])
        for b in range(len(draws[0]))
    ]
    return float(np.median(delay)), percentile_interval(np.array(resampled), SEEDS)


def test_the_delay_is_the_median_over_runs(inline, shadow, result):
    estimate, interval = naive_delay(inline, shadow)
    assert result.delay.value == estimate
    assert Interval(result.delay.low, result.delay.high, result.delay.invalid) == interval


def test_a_sweep_is_not_later_than_itself(shadow):
    again = examine(Todo(SHADOW, shadow, shadow))
    assert again.delay.value == again.delay.low == again.delay.high == 0


@pytest.mark.parametrize(
    ("late", "early", "expected"),
    [
        ([50, 60, 70, 80, 90, 100], [40, 40, 40, 40, 40, 40], 35.0),
        ([np.nan] * 6, [40, 40, 40, 40, 40, 40], np.inf),
        ([40, 40, 40, 40, 40, 40], [np.nan] * 6, -np.inf),
        ([np.nan] * 6, [np.nan] * 6, 0.0),
        ([np.nan, np.nan, np.nan, 30, 30, 30], [np.nan, np.nan, 40, 40, 20, 20], 5.0),
        ([np.nan] * 3 + [40] * 3, [40] * 3 + [np.nan] * 3, np.nan),
    ],
)
def test_a_run_that_never_groks_is_infinitely_late(inline, shadow, late, early, expected):
    sweeps = [
        of.assign_coords(grokking_epoch=("run", np.array(epochs, float)))
        for of, epochs in ((inline, late), (shadow, early))
    ]
    result = examine(Todo(INLINE, *sweeps))
    assert result.delay.value == pytest.approx(expected, nan_ok=True)
    assert result.n_grokked == sum(epoch == epoch for epoch in late)


def test_the_numbers_are_those_of_the_ladder(inline, result):
    readings = [
        Reading(rung, independent_graph=graph) for graph in (None, True) for rung in ("real", "permuted")
    ]
    real, null, apart, apart_null = (analyze(of) for of in measure(inline, readings).values())
    ladder = Ladder(real, {"permuted": null}, Ladder(apart, {"permuted": apart_null}))
    for key in product(PHASES, STATISTICS):
        exponent, expected = result.exponent(*key), ladder.exponent("real", *key)
        assert exponent.fit == expected.fit
        assert (exponent.low, exponent.high) == (expected.low, expected.high)
    for span, statistic in product(SPANS, STATISTICS):
        arrangement = result.arrangement(span, statistic)
        expected = ladder.arrangement(span, statistic)
        assert (arrangement.low, arrangement.high) == (expected.low, expected.high)
        assert arrangement.value == expected.value
        if span != "rise":
            own, permuted = (on.exponent(span, statistic).value for on in (apart, apart_null))
            assert arrangement.value == own - permuted
    for statistic, rise in result.rise.items():
        expected = ladder.value("real", "rise", statistic)
        own = [result.exponent(phase, statistic).value for phase in ("pre", "post")]
        assert rise.value == expected.value == own[1] - own[0]
        assert (rise.low, rise.high) == (expected.low, expected.high)
    for statistic in STATISTICS:
        curve = result.curves[statistic]
        assert curve.dimension.identical(real.curves[statistic].slim().dimension)
        crossing = ladder.crossing_of_null("permuted", statistic)
        of_null = result.crossing_of_null[statistic]
        assert of_null.value == pytest.approx(crossing.value, nan_ok=True)
        assert of_null.invalid == crossing.invalid
    assert repr(result.by_scale) == repr(grokking_epochs(inline))  # NaN equals itself
    assert result.grokking.value == median_grokking_epoch(inline).value
    assert (result.n_runs, result.condition) == (6, INLINE)


def test_no_result_carries_its_resamples(result, controlled):
    for of in (result, controlled):
        estimates = [of.grokking, of.delay, *of.crossing_of_null.values()]
        estimates += [of.arrangement(*key) for key in product(SPANS, STATISTICS)]
        estimates += of.rise.values()
        estimates += [curve.crossing for curve in of.curves.values()]
        assert all(estimate.kept_resamples is None for estimate in estimates)
        for key in product(PHASES, STATISTICS):
            exponent = of.exponent(*key)
            assert exponent.kept_resamples is exponent.kept_size_resamples is None


def test_a_control_is_split_at_the_epochs_of_its_twin(control, inline, controlled):
    twin = inline["grokking_epoch"].values
    assert not np.array_equal(control["grokking_epoch"], twin, equal_nan=True)
    moved = control.assign_coords(grokking_epoch=("run", twin))
    for phase in ("pre", "post"):
        where = transitions.phase(moved, phase)
        for statistic in STATISTICS:
            expected = scaling.exponent(control, statistic, where)
            found = controlled.exponent(phase, statistic)
            assert found.fit == expected.fit
            assert (found.low, found.high) == (expected.low, expected.high)


def test_when_a_control_groks_is_its_own(control, shadow, controlled):
    reached = control["grokking_epoch"].values
    assert controlled.n_grokked == np.isfinite(reached).sum()
    assert controlled.grokking.value == median_grokking_epoch(control).value
    assert repr(controlled.by_scale) == repr(grokking_epochs(control))
    estimate, interval = naive_delay(control, shadow)
    assert controlled.delay.value == estimate
    assert Interval(controlled.delay.low, controlled.delay.high, controlled.delay.invalid) == interval


@pytest.mark.parametrize("part", ["shadow", "twin"])
def test_a_sweep_of_other_runs_is_no_twin(inline, shadow, part):
    beside = {"shadow": shadow, "twin": inline}
    beside[part] = beside[part].isel(run=slice(4))
    with pytest.raises(InputError, match="AND, inline has other sizes, seeds or epochs than its twin"):
        examine(Todo(AND, inline, **beside))
