"""How many runs it takes: groups of a sweep against the analysis of its parts, and planted cases."""

import numpy as np
import pytest

from gradquake.analysis import scaling, transitions
from gradquake.analysis.power import MOST_GROUPS, power
from gradquake.analysis.resampling import difference
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.transitions import SPLIT_PHASES
from gradquake.errors import InputError

SCALES = (85, 201, 401, 1201)
CASES = [(statistic, phase) for statistic in ("max", "mean") for phase in SPLIT_PHASES]


def lognormal(seed, exponent=1.0, *, runs=12, snapshots=6, scatter=0.5):
    """Sizes around 100 N^D, of which half the logarithm's scatter belongs to the run."""
    rng = np.random.default_rng(seed)
    return {
        n: np.ceil(
            100
            * n**exponent
            * np.exp(scatter * (rng.standard_normal((runs, 1)) + rng.standard_normal((runs, snapshots))))
        )
        for n in SCALES
    }


def halfway(runs=12):
    """Grokking epochs 2, 3 and 4 in turn, at every scale."""
    return {n: [2 + run % 3 for run in range(runs)] for n in SCALES}


def part_of(dataset, chosen):
    """The given runs of every scale, by their positions in it."""
    return dataset.isel(run=np.concatenate([runs[chosen] for _, runs in scale_groups(dataset)]))


def naive(real, null, count, statistic, phase, n_resamples):
    """Exponents, intervals and differences of the groups 0..c-1, c..2c-1 and so on, one by one."""
    found, differences = [], []
    for group in range(12 // count):
        chosen = list(range(group * count, group * count + count))
        exponents = [
            scaling.exponent(part, statistic, transitions.phase(part, phase), n_resamples=n_resamples)
            for part in (part_of(real, chosen), part_of(null, chosen))
        ]
        found.append(exponents[0])
        differences.append(difference(*exponents))
    return found, differences


@pytest.fixture(scope="module")
def real(sweep_of):
    return sweep_of(lognormal(1, 1.05), halfway())


@pytest.fixture(scope="module")
def null(sweep_of):
    return sweep_of(lognormal(2, 1.0), halfway())


@pytest.mark.parametrize("count", [2, 5, 12])
def test_the_power_is_that_of_disjoint_groups(real, null, count):
    rows = power(real, {"permuted": null}, [count], n_resamples=40)
    assert [(row.statistic, row.phase) for row in rows] == CASES
    for row in rows:
        found, differences = naive(real, null, count, row.statistic, row.phase, 40)
        estimates = [exponent.value for exponent in found]
        widths = [exponent.high - exponent.low for exponent in found]
        assert (row.runs, row.groups) == (count, len(found))
        assert row.value == pytest.approx(np.mean(estimates))
        assert row.width == pytest.approx(np.mean(widths))
        scatter = np.std(estimates, ddof=1) if len(found) > 1 else np.nan
        assert row.scatter == pytest.approx(scatter, nan_ok=True)
        above = row.above_null["permuted"]
        assert above.value == pytest.approx(np.mean([d.value for d in differences]))
        assert above.low == pytest.approx(np.mean([d.low for d in differences]))
        assert above.high == pytest.approx(np.mean([d.high for d in differences]))
        detected = sum(d.low > 0 or d.high < 0 for d in differences) / len(differences)
        assert above.detected == pytest.approx(detected)


def test_one_group_of_all_runs_is_the_exponent_of_the_sweep(real, null):
    for row in power(real, {"permuted": null}, [12], n_resamples=30):
        where = transitions.phase(real, row.phase)
        whole = scaling.exponent(real, row.statistic, where, n_resamples=30)
        assert row.groups == 1
        assert row.value == whole.value
        assert row.width == whole.high - whole.low
        assert np.isnan(row.scatter)


@pytest.mark.parametrize(("count", "groups"), [(2, 6), (3, 4), (5, 2), (6, 2), (7, 1), (12, 1)])
def test_no_run_is_in_two_groups(real, monkeypatch, count, groups):
    # Each call is given a part of the sweep, whose runs have N and a seed.
    seen = []
    measure = scaling.exponent

    def spy(dataset, statistic, where, **arguments):
        if statistic == "max" and bool(where[:, 0].all()):
            seen.append(list(zip(dataset["n_parameters"].values, dataset["seed"].values, strict=True)))
        return measure(dataset, statistic, where, **arguments)

    monkeypatch.setattr(scaling, "exponent", spy)
    rows = power(real, {}, [count], n_resamples=2)
    runs = [run for group in seen for run in group]
    assert [len(group) for group in seen] == [4 * count] * groups
    assert len(set(runs)) == len(runs)
    assert {row.groups for row in rows} == {groups}
    assert {row.runs for row in rows} == {count}


def test_there_are_no_more_groups_than_the_limit(sweep_of):
    scales, runs = SCALES[:3], 2 * MOST_GROUPS + 2
    sweep = sweep_of({n: np.full((runs, 2), n) for n in scales}, {n: [1] * runs for n in scales})
    assert {row.groups for row in power(sweep, {}, [2], n_resamples=2)} == {MOST_GROUPS}


def test_the_counts_are_answered_in_turn(real):
    rows = power(real, {}, [6, 2], n_resamples=2)
    assert [row.runs for row in rows] == [6] * 4 + [2] * 4
    assert [(row.statistic, row.phase) for row in rows] == CASES * 2
    assert power(real, {}, [], n_resamples=2) == []


def test_intervals_shrink_with_more_runs(sweep_of):
    sweep = sweep_of(lognormal(3, runs=24), halfway(24))
    rows = power(sweep, {}, [3, 6, 24], n_resamples=200)
    # That of the maximum is of the line, whose residuals shrink little.
    for case in [case for case in CASES if case[0] == "mean"]:
        widths = [row.width for row in rows if (row.statistic, row.phase) == case]
        assert widths[0] > widths[1] > widths[2] > 0
    # Intervals of a mean shrink as the square root of the number of runs, or faster by Student's t.
    widths = [row.width for row in rows if (row.statistic, row.phase) == ("mean", "post")]
    assert widths[1] > 1.5 * widths[2]


@pytest.mark.parametrize("count", [2, 4])
def test_a_strong_difference_is_detected_in_every_group(sweep_of, count):
    real, null = (
        sweep_of(lognormal(seed, d, scatter=0.05), halfway()) for seed, d in ((4, 1.3), (5, 1.0))
    )
    for row in power(real, {"permuted": null}, [count], n_resamples=50):
        assert row.above_null["permuted"].detected == 1
        assert row.above_null["permuted"].value == pytest.approx(0.3, abs=0.03)


def test_a_null_that_is_the_data_is_never_told_from_it(real):
    for row in power(real, {"itself": real}, [2, 12], n_resamples=30):
        assert row.above_null == {"itself": (0, 0, 0, 0)}


def test_a_null_like_the_data_is_rarely_told_from_it(sweep_of):
    # An interval of 95 % lies above 0 in one of forty groups; of the 16 here, two are rare.
    real, null = (sweep_of(lognormal(seed, runs=64), halfway(64)) for seed in (6, 7))
    for row in power(real, {"like it": null}, [4], n_resamples=100):
        assert row.groups == 16
        assert row.above_null["like it"].detected <= 3 / 16
        assert row.above_null["like it"].value == pytest.approx(0, abs=0.15)


def test_every_null_is_told_apart_on_its_own(sweep_of):
    real, low, high = (
        sweep_of(lognormal(seed, d, scatter=0.05), halfway()) for seed, d in enumerate((1.0, 0.7, 1.3))
    )
    for row in power(real, {"low": low, "high": high}, [4], n_resamples=30):
        assert list(row.above_null) == ["low", "high"]
        low, high = row.above_null.values()
        assert low.detected == high.detected == 1
        assert low.value > 0.2 > -0.2 > high.value


def test_a_phase_without_snapshots_tells_nothing(sweep_of):
    sweep = sweep_of(lognormal(8), {n: [None] * 12 for n in SCALES})
    for row in power(sweep, {"itself": sweep}, [6], n_resamples=5):
        if row.phase == "post":
            assert np.isnan([row.value, row.width, row.scatter, row.above_null["itself"].value]).all()
            assert row.above_null["itself"].detected == 0
        else:
            assert np.isfinite([row.value, row.width, row.scatter]).all()


@pytest.mark.parametrize("counts", [[13], [2, 13]])
def test_a_count_out_of_range_is_refused(real, counts):
    with pytest.raises(InputError, match=f"{counts[-1]} runs at each scale were asked for; the sweep"):
        power(real, {}, counts, n_resamples=5)


@pytest.mark.parametrize("count", [1, 0, -3, 2.5])
def test_a_count_that_gives_no_interval_is_refused(real, count):
    with pytest.raises(InputError, match="an integer of at least 2 is needed"):
        power(real, {}, [count], n_resamples=5)


def test_a_null_of_other_runs_is_refused(real):
    with pytest.raises(InputError, match="the null other differs from the sweep"):
        power(real, {"other": real.assign_coords(seed=real["seed"] + 1)}, [2], n_resamples=5)


def test_scales_with_different_numbers_of_runs_are_refused(random_sweep):
    with pytest.raises(InputError, match="the scales have different numbers of runs"):
        power(random_sweep, {}, [2], n_resamples=5)
