"""Any sweep beside its nulls, relative to its grokking epochs, and under other choices."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from gradquake.analysis import scaling, timing, transitions
from gradquake.analysis.collapse import best_collapse
from gradquake.analysis.dimension import crossing_of_null, curve
from gradquake.analysis.distributions import ccdfs
from gradquake.analysis.fits import fit_exponent
from gradquake.analysis.ladder import SPANS
from gradquake.analysis.scales import scale_groups
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.sweep import analyze
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.surrogates import RUNGS
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import GradquakeError, InputError
from gradquake.experiments import readings, synthetic, xor
from gradquake.experiments.readings import Reading
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.report.json import analysis_json, topology_json
from gradquake.scrutiny import replay, sensitivity, topologies
from gradquake.scrutiny.checks import check
from gradquake.scrutiny.measure import aligned_offsets, measure, measure_aligned
from gradquake.scrutiny.scrutinize import beside, scrutinize
from gradquake.scrutiny.sensitivity import FIRST, specify
from gradquake.scrutiny.topologies import on_topologies
from gradquake.study import execution
from gradquake.study.pools import open_executor
from gradquake.study.recording import to_dataset

SHORT = CascadeSettings(max_steps=3)
HIDDEN = (3, 5, 8, 13)
SCALES = [13, 21, 33, 53]
RESAMPLES = 40


def trained(seeds=3, hidden=HIDDEN, **settings):
    return to_dataset(xor.measure(xor.sweep(hidden, seeds, **settings)))


@pytest.fixture(scope="module")
def sweep():
    """A sweep all of whose runs grok."""
    found = trained(epochs=200)
    assert np.isfinite(found["grokking_epoch"]).all()
    return found


@pytest.fixture(scope="module")
def halted():
    """A sweep that ends before one of its runs groks."""
    found = trained(epochs=150)
    assert np.isfinite(found["grokking_epoch"]).sum() == 11
    return found


@pytest.fixture(scope="module")
def ended():
    """A sweep that ends before any run of the smallest networks groks."""
    found = trained(epochs=100)
    grokked = np.isfinite(found["grokking_epoch"].values)
    assert grokked.any()
    assert not grokked[:3].any()
    return found


@pytest.fixture(scope="module")
def flat():
    """A sweep that learns nothing."""
    found = trained(seeds=2, epochs=60, learning_rate=1e-4)
    assert np.isnan(found["grokking_epoch"]).all()
    return found


@pytest.fixture(scope="module")
def drawn():
    """A synthetic sweep, of sizes that no 2-h-1 network has."""
    runs = [SyntheticRun(n, seed, epochs=60) for n in (12, 22, 34, 50) for seed in range(2)]
    return to_dataset(synthetic.measure(runs))


@pytest.fixture(scope="module")
def found(sweep):
    return scrutinize(sweep, n_resamples=RESAMPLES)


@pytest.fixture(scope="module")
def pool():
    with open_executor(2) as opened:
        yield opened


@pytest.fixture
def small_tasks(monkeypatch):
    """Tasks of few runs, so that there are several."""
    monkeypatch.setattr(execution, "PARAMETERS_A_TASK", 70)


def same(first, second):
    """Whether two datasets are equal bit for bit, attributes too."""
    return first.identical(second)


def same_exponent(first, second):
    return (
        first.fit == second.fit
        and (first.low, first.high) == (second.low, second.high)
        and first.cautions == second.cautions
        and np.array_equal(first.sizes.value, second.sizes.value)
    )


# Measured again


def test_the_gradients_give_what_was_recorded(sweep):
    again = measure(sweep, [Reading()])[Reading()]
    assert again.sizes == sweep.sizes
    for name in again.data_vars:
        assert np.array_equal(again[name], sweep[name]), name
    for name in sweep.coords:
        assert np.array_equal(again[name], sweep[name]), name
    assert again.attrs == {**sweep.attrs, "surrogate": "real"}


@pytest.mark.parametrize("by", [1, -1])
def test_a_sweep_that_the_gradients_do_not_give_is_refused(sweep, by):
    tampered = sweep.copy(deep=True)
    tampered["size"][7, 4] += by
    with pytest.raises(GradquakeError) as refused:
        measure(tampered, [Reading("permuted"), Reading()])
    assert str(refused.value) == (
        "the gradients made again give other avalanches than the study holds, so it was measured by "
        "another version of gradquake or NumPy; measure it anew"
    )


def test_a_reading_that_is_the_sweeps_own_is_held_against_it_too(sweep):
    tampered = sweep.copy(deep=True)
    tampered["size"][7, 4] += 1
    with pytest.raises(GradquakeError, match="measure it anew"):
        measure(tampered, [Reading(topology=sweep.attrs["topology"], cascade=CascadeSettings())])
    # On another graph there is nothing to hold it against.
    measure(tampered, [Reading(topology="ring")])


def test_the_order_of_the_runs_does_not_matter(sweep):
    readings = [Reading(), Reading("permuted")]
    mixed = sweep.isel(run=np.random.default_rng(0).permutation(12))
    expected = measure(sweep, readings)
    for reading, of in measure(mixed, readings).items():
        assert same(of, expected[reading])


def test_a_sweep_whose_gradients_cannot_be_made_again_is_refused(sweep):
    with pytest.raises(InputError, match="is 'attached'; its gradients cannot be made again"):
        measure(sweep.assign_attrs(experiment="attached"), [Reading()])


def test_a_surrogate_sweep_has_the_runs_epochs_and_phases_of_its_own(sweep):
    readings = [Reading(rung) for rung in RUNGS]
    found = measure(sweep, readings)
    assert list(found) == readings
    for rung, null in zip(RUNGS, found.values(), strict=True):
        assert null.attrs == {**sweep.attrs, "surrogate": rung}
        for name in ("n_parameters", "hidden", "seed", "grokking_epoch", "epoch"):
            assert np.array_equal(null[name], sweep[name]), name
        assert not np.array_equal(null["size"], sweep["size"])
    sizes = [null["size"].values.tobytes() for null in found.values()]
    assert len(set(sizes)) == len(RUNGS)


def test_phases_that_were_set_are_kept(sweep):
    moved = sweep.assign_coords(grokking_epoch=("run", np.arange(12.0)))
    for null in measure(moved, [Reading(), Reading("gaussian")]).values():
        assert null["grokking_epoch"].values.tolist() == list(range(12))


def test_reading_another_threshold_is_training_in_shadow_with_it():
    shadow, other = (trained(2, epochs=40, alpha_train=0, quantile=q) for q in (0.9, 0.8))
    reading = Reading(cascade=CascadeSettings(quantile=0.8))
    read = measure(shadow, [reading])[reading]
    assert np.array_equal(read["size"], other["size"])
    assert read.attrs["quantile"] == 0.8


@pytest.mark.usefixtures("small_tasks")
def test_processes_measure_the_same_bits(sweep, pool):
    readings = [Reading(), Reading("permuted"), Reading("gaussian", "ring", SHORT)]
    here, there = measure(sweep, readings), measure(sweep, readings, pool)
    assert list(here) == list(there) == readings
    assert all(same(here[reading], there[reading]) for reading in readings)


def test_what_is_measured_does_not_depend_on_the_tasks(sweep, monkeypatch):
    readings = [Reading("permuted_within_tensor")]
    whole = measure(sweep, readings)[readings[0]]
    monkeypatch.setattr(execution, "PARAMETERS_A_TASK", 1)
    assert same(measure(sweep, readings)[readings[0]], whole)


# Aligned


def test_offsets_are_all_that_some_run_was_measured_at(halted):
    reached = halted["grokking_epoch"].values
    offsets = aligned_offsets(halted)
    inside = [t for t in range(-200, 201, 10) if ((reached + t >= 0) & (reached + t <= 150)).any()]
    assert offsets.tolist() == inside


@pytest.mark.parametrize("name", ["sweep", "halted"])
def test_aligned_sizes_are_those_recorded_at_t_g_plus_the_offset(name, request):
    sweep = request.getfixturevalue(name)
    last = sweep.attrs["epochs"]
    every_epoch = trained(epochs=last, every=1)
    assert np.array_equal(every_epoch["grokking_epoch"], sweep["grokking_epoch"], equal_nan=True)
    aligned = measure_aligned(sweep, [Reading()])[Reading()]
    offsets = aligned["epoch"].values
    assert offsets.tolist() == aligned_offsets(sweep).tolist()
    expected = np.full((12, offsets.size), np.nan)
    for run, reached in enumerate(sweep["grokking_epoch"].values):
        for column, offset in enumerate(offsets):
            if 0 <= reached + offset <= last:
                expected[run, column] = every_epoch["size"].values[run, int(reached + offset)]
    # Nothing is left where a scale has less than half of its runs.
    for column in range(offsets.size):
        there = np.isfinite(expected[:, column]).reshape(4, 3)
        if there.mean(axis=1).min() < 0.5:
            expected[:, column] = np.nan
    assert np.isfinite(expected).any()
    assert np.isnan(expected).any()
    assert np.array_equal(aligned["size"], expected, equal_nan=True)
    assert np.array_equal(aligned["grokking_epoch"], sweep["grokking_epoch"], equal_nan=True)


def test_aligned_surrogates_are_missing_where_the_data_are(halted):
    aligned = measure_aligned(halted, [Reading(), Reading("permuted")])
    real, null = (of["size"].values for of in aligned.values())
    assert np.array_equal(np.isnan(real), np.isnan(null))
    assert not np.array_equal(real, null, equal_nan=True)
    never = np.isnan(halted["grokking_epoch"].values)
    assert np.isnan(real[never]).all()
    assert np.isfinite(real[~never]).any(axis=1).all()


@pytest.mark.usefixtures("small_tasks")
def test_processes_align_the_same_bits(halted, pool):
    readings = [Reading(), Reading("permuted")]
    here, there = measure_aligned(halted, readings), measure_aligned(halted, readings, pool)
    assert all(same(here[reading], there[reading]) for reading in readings)


def test_where_a_scale_never_groks_nothing_is_left(ended):
    aligned = measure_aligned(ended, [Reading()])[Reading()]
    assert aligned["epoch"].values.tolist() == aligned_offsets(ended).tolist()
    assert aligned["size"].isnull().all()


@pytest.mark.parametrize("name", ["flat", "drawn"])
def test_nothing_is_aligned_where_nothing_groks(name, request):
    with pytest.raises(InputError, match=r"^no run grokked, so that no run can be aligned$"):
        measure_aligned(request.getfixturevalue(name), [Reading()])


# Under scrutiny


def test_every_rung_is_there(found):
    assert tuple(found.ladder.nulls) == RUNGS
    for rung, analysis in found.ladder.nulls.items():
        assert analysis.dataset.attrs["surrogate"] == rung


def test_the_real_rung_is_the_analysis_of_the_sweep(sweep, found):
    expected = analyze(sweep, n_resamples=RESAMPLES)
    real = found.ladder.real
    assert real.exponents.keys() == expected.exponents.keys()
    for case in product(PHASES, STATISTICS):
        exponent = expected.exponent(*case)
        assert same_exponent(real.exponent(*case), exponent)
        assert np.array_equal(real.exponent(*case).resamples, exponent.resamples, equal_nan=True)
    for statistic in STATISTICS:
        assert same(real.curves[statistic].dimension, expected.curves[statistic].dimension)
    assert real.grokking == expected.grokking


def test_a_null_is_the_analysis_of_its_surrogate_sweep(sweep, found):
    null = measure(sweep, [Reading("permuted")])[Reading("permuted")]
    expected = analyze(null, n_resamples=RESAMPLES)
    for case in product(PHASES, STATISTICS):
        assert same_exponent(found.ladder.exponent("permuted", *case), expected.exponent(*case))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("span", SPANS)
def test_the_attribution_adds_up(found, span, statistic):
    ladder = found.ladder
    parts = ladder.attribution(span, statistic)
    details = {name: part.value for name, part in parts.details.items()}
    pre, post = (ladder.exponent("real", phase, statistic).value for phase in SPLIT_PHASES)
    whole = post - pre if span == "rise" else ladder.exponent("real", span, statistic).value - 1
    above = parts.distribution.value + parts.arrangement.value
    # The sweep was trained in-line.
    assert parts.estimator.value + above + parts.imprint.value == pytest.approx(whole, abs=1e-12)
    assert above == pytest.approx(details["above_gaussian"], abs=1e-12)
    # What is in which tensor, and where in it, is all there is of the arrangement.
    of_tensors = details["which_tensor"] + details["place_in_tensor"]
    assert of_tensors == pytest.approx(parts.arrangement.value, abs=1e-12)
    assert parts.arrangement.value == ladder.arrangement(span, statistic).value


def test_collapses_of_every_rung_and_phase(sweep, found):
    assert list(found.collapses) == ["real", *RUNGS]
    assert all(list(of_rung) == list(PHASES) for of_rung in found.collapses.values())
    null = measure(sweep, [Reading("gaussian")])[Reading("gaussian")]
    for rung, of in (("real", sweep), ("gaussian", null)):
        assert found.collapse(rung, "all") == best_collapse(ccdfs(of))
        for phase in SPLIT_PHASES:
            expected = best_collapse(ccdfs(of, transitions.phase(of, phase)))
            assert found.collapse(rung, phase) == expected


def test_timing_is_that_of_the_curves(sweep, found):
    assert set(found.timing) == set(STATISTICS)
    median = timing.median_grokking_epoch(sweep, n_resamples=RESAMPLES)
    assert found.grokking.value == median.value == np.median(sweep["grokking_epoch"])
    assert (found.grokking.low, found.grokking.high) == (median.low, median.high)
    aligned = measure_aligned(sweep, [Reading(), Reading("permuted")])
    for statistic, of in found.timing.items():
        real, null = (curve(a, statistic, n_resamples=RESAMPLES) for a in aligned.values())
        ladder = found.ladder
        assert of.of_one.epoch.value == pytest.approx(
            ladder.real.curves[statistic].crossing.value, nan_ok=True
        )
        beside = ladder.nulls["permuted"].curves[statistic]
        of_null = crossing_of_null(ladder.real.curves[statistic], beside)
        assert of.of_null.epoch.value == pytest.approx(of_null.value, nan_ok=True)
        assert of.null_of_one.epoch.value == pytest.approx(beside.crossing.value, nan_ok=True)
        for times in (of.of_one, of.of_null, of.null_of_one):
            expected = times.epoch.value - median.value
            assert times.lag.value == pytest.approx(expected, nan_ok=True)
        assert same(of.aligned.dimension, real.slim().dimension)
        assert same(of.aligned_null.dimension, null.slim().dimension)
        expected = crossing_of_null(real, null).value
        assert of.of_null.aligned.value == pytest.approx(expected, nan_ok=True)
        for times, alone in ((of.of_one, real), (of.null_of_one, null)):
            assert times.aligned.value == pytest.approx(alone.crossing.value, nan_ok=True)
        assert of.follows == timing.follows_grokking(sweep, statistic)


@pytest.mark.parametrize("name", ["flat", "drawn"])
def test_there_is_no_timing_where_nothing_groks(name, request):
    found = scrutinize(request.getfixturevalue(name), n_resamples=RESAMPLES)
    assert found.timing == {}
    assert found.grokking.value == np.inf
    assert tuple(found.ladder.nulls) == RUNGS
    assert np.isnan(found.ladder.exponent("real", "post", "max").value)
    assert np.isfinite(found.ladder.exponent("real", "pre", "max").value)
    assert np.isnan(found.collapse("real", "post").value)


def test_where_a_scale_never_groks_there_is_timing_without_d_after(ended):
    found = scrutinize(ended, ("gaussian", "permuted"), n_resamples=RESAMPLES)
    assert set(found.timing) == set(STATISTICS)
    assert np.isnan(found.ladder.exponent("real", "post", "max").value)
    assert np.isnan(found.timing["max"].aligned.dimension["value"]).all()


def test_two_rungs_are_enough(sweep, found):
    two = scrutinize(sweep, ("gaussian", "permuted"), n_resamples=RESAMPLES)
    assert set(two.ladder.nulls) == {"gaussian", "permuted"}
    assert set(two.collapses) == {"real", "gaussian", "permuted"}
    parts = two.ladder.attribution("post", "max")
    assert list(parts.details) == ["above_gaussian"]
    for rung in ("real", "gaussian", "permuted"):
        for key in product(PHASES, STATISTICS):
            assert same_exponent(two.ladder.exponent(rung, *key), found.ladder.exponent(rung, *key))


@pytest.mark.usefixtures("small_tasks")
def test_processes_find_the_same_bits(sweep, found, pool):
    there = scrutinize(sweep, executor=pool, n_resamples=RESAMPLES)
    assert json.dumps(analysis_json(there)) == json.dumps(analysis_json(found))


def test_the_order_of_the_runs_does_not_matter_to_any_number(sweep, found):
    mixed = sweep.isel(run=np.random.default_rng(0).permutation(12))
    again = scrutinize(mixed, ("gaussian", "permuted"), n_resamples=RESAMPLES)
    of_again, of_found = (analysis_json(of, ("max",)) for of in (again, found))
    for name in ("exponents", "dimension", "crossing", "rise", "timing"):
        assert json.dumps(of_again[name]) == json.dumps(of_found[name])


def test_too_few_scales_are_refused():
    with pytest.raises(InputError, match="the sweep has 2 scales"):
        scrutinize(trained(2, (3, 5), epochs=10), n_resamples=RESAMPLES)


# On every topology


@pytest.fixture(scope="module")
def on_each(sweep):
    return on_topologies(sweep, n_resamples=RESAMPLES)


def test_every_topology_is_there(on_each):
    assert [on.topology for on in on_each] == list(TOPOLOGIES)
    for on in on_each:
        assert set(on.exponents) == {"real", "permuted", "gaussian"}
        assert all(set(of_rung) == set(SPLIT_PHASES) for of_rung in on.exponents.values())
        assert set(on.arrangements) == set(SPLIT_PHASES)
        assert set(on.collapses) == set(SPLIT_PHASES)


def test_the_networks_own_graph_is_left_out_where_no_network_has_the_size(drawn):
    names = [on.topology for on in on_topologies(drawn, n_resamples=RESAMPLES)]
    assert names == [name for name in TOPOLOGIES if name != "computational"]


def test_the_sweeps_own_topology_gives_the_ladder(sweep, found, on_each):
    [own] = [on for on in on_each if on.topology == sweep.attrs["topology"]]
    for case in product(("real", "permuted", "gaussian"), SPLIT_PHASES, STATISTICS):
        exponent = own.exponent(*case)
        assert same_exponent(exponent, found.ladder.exponent(*case))
        assert exponent.kept_resamples is exponent.kept_size_resamples is None
    for case in product(SPLIT_PHASES, STATISTICS):
        part, expected = own.arrangement(*case), found.ladder.arrangement(*case)
        assert (part.value, part.low, part.high) == (expected.value, expected.low, expected.high)
    assert own.collapses == {phase: found.collapse("real", phase) for phase in SPLIT_PHASES}


def test_another_topology_gives_what_is_read_on_it(sweep, on_each):
    [ring] = [on for on in on_each if on.topology == "ring"]
    for rung in ("real", "permuted", "gaussian"):
        reading = Reading(rung, topology="ring")
        read = measure(sweep, [reading])[reading]
        for phase, statistic in product(SPLIT_PHASES, STATISTICS):
            where = transitions.phase(sweep, phase)
            expected = scaling.exponent(read, statistic, where, n_resamples=RESAMPLES)
            assert same_exponent(ring.exponent(rung, phase, statistic), expected)


def test_processes_find_the_same_bits_on_every_topology(sweep, on_each, pool):
    there = on_topologies(sweep, pool, n_resamples=RESAMPLES)
    here = [json.dumps(topology_json(on)) for on in on_each]
    assert [json.dumps(topology_json(on)) for on in there] == here


# Under every choice

DIMENSIONS = (
    "alpha_train",
    "training",
    "topology",
    "quantile",
    "alpha",
    "max_steps",
    "statistic",
    "interval",
    "scales",
)
FEW_CHOICES = {
    "SPECIFIED_QUANTILES": (0.8, 0.9),
    "SPECIFIED_ALPHAS": (0.3,),
    "SPECIFIED_STEPS": (2, 20),
    "TOPOLOGIES": {name: TOPOLOGIES[name] for name in ("barabasi_albert", "ring")},
}
SPECIFICATIONS = 2 * 2 * 1 * 2 * 3 * 2 * 5


def specify_few(*arguments, **options):
    """``specify`` with few choices of the probe; all of them belong to the whole paper."""
    with pytest.MonkeyPatch.context() as patch:
        for name, values in FEW_CHOICES.items():
            patch.setattr(topologies if name == "TOPOLOGIES" else sensitivity, name, values)
        return specify(*arguments, **options)


@pytest.fixture(scope="module")
def table(sweep):
    return specify_few([sweep])


def test_there_is_a_dimension_a_choice(table):
    assert table["pre"].dims == DIMENSIONS
    assert table["pre"].size == SPECIFICATIONS
    assert {str(name): table[name].values.tolist() for name in DIMENSIONS} == {
        "alpha_train": [0.3],
        "training": ["as the first"],
        "topology": ["barabasi_albert", "ring"],
        "quantile": [0.8, 0.9],
        "alpha": [0.3],
        "max_steps": [2, 20],
        "statistic": ["max", "mean", "p95"],
        "interval": [10, 20],
        "scales": ["all", *(f"without {n}" for n in SCALES)],
    }
    results = {"pre", "post", "all", "average", "crossing", "worst_r_squared"}
    nulls = {f"null_{name}" for name in results}
    spans = {"first_grokking_epoch", "last_grokking_epoch"}
    assert set(table.data_vars) == results | nulls | spans
    for name in results | nulls:
        assert table[name].dims == DIMENSIONS


def test_the_papers_own_choice_is_among_them():
    own = xor.XorRun(1, 0)
    assert own.quantile in sensitivity.SPECIFIED_QUANTILES
    assert own.alpha in sensitivity.SPECIFIED_ALPHAS
    assert own.max_steps in sensitivity.SPECIFIED_STEPS
    # A higher limit is measured where a lower one truncated.
    assert list(sensitivity.SPECIFIED_STEPS) == sorted(sensitivity.SPECIFIED_STEPS)


def by_hand(sweep, rung, choice):
    """Return the sweep that a specification is measured on, run by run."""
    runs = xor.sweep(HIDDEN, 3, epochs=sweep.attrs["epochs"], every=10)
    cascade = CascadeSettings(**{name: choice[name] for name in ("quantile", "alpha", "max_steps")})
    reading = Reading(rung, choice["topology"], cascade)
    read = to_dataset([readings.read(record, reading) for record in replay.gradients(runs)])
    chosen = read.isel(epoch=slice(None, None, choice["interval"] // 10))
    if choice["scales"] == "all":
        return chosen
    left_out = int(choice["scales"].removeprefix("without "))
    return chosen.isel(run=np.flatnonzero(chosen["n_parameters"].values != left_out))


def percentile_exponent(dataset, where):
    groups = scale_groups(dataset)
    n = [n for n, _ in groups]
    sizes = [np.quantile(dataset["size"].values[r][where.values[r]], 0.95) for _, r in groups]
    return fit_exponent(n, sizes).exponent


CHOICES = [
    {"topology": "barabasi_albert", "quantile": 0.9, "max_steps": 20, "interval": 10, "scales": "all"},
    {"topology": "ring", "quantile": 0.8, "max_steps": 2, "interval": 10, "scales": "without 21"},
    {"topology": "ring", "quantile": 0.9, "max_steps": 2, "interval": 20, "scales": "without 53"},
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: f"{c['topology']}, {c['scales']}")
def test_a_specification_is_what_is_measured_by_hand(sweep, table, choice):
    choice = {"alpha_train": 0.3, "training": FIRST, "alpha": 0.3, **choice}
    for rung, prefix in (("real", ""), ("permuted", "null_")):
        dataset = by_hand(sweep, rung, choice)
        for phase in ("pre", "post", "all"):
            where = transitions.phase(dataset, "pre" if phase == "all" else phase)
            where = where | ~where if phase == "all" else where
            for statistic in STATISTICS:
                expected = scaling.exponent(dataset, statistic, where, n_resamples=1).value
                value = float(table[prefix + phase].sel(**choice, statistic=statistic))
                assert value == pytest.approx(expected, rel=1e-12, nan_ok=True)
            value = float(table[prefix + phase].sel(**choice, statistic="p95"))
            assert value == pytest.approx(percentile_exponent(dataset, where), rel=1e-12)
    dataset = by_hand(sweep, "real", choice)
    for statistic in STATISTICS:
        of = curve(dataset, statistic, n_resamples=1)
        row = table.sel(**choice, statistic=statistic)
        assert float(row["average"]) == pytest.approx(float(of.dimension["value"].mean()))
        assert float(row["crossing"]) == pytest.approx(of.crossing.value, nan_ok=True)
        assert float(row["worst_r_squared"]) == pytest.approx(float(of.dimension["r_squared"].min()))


def test_the_span_of_the_grokking_epochs_is_kept(sweep, table):
    reached = sweep["grokking_epoch"].values
    assert table["first_grokking_epoch"].values.tolist() == [[reached.min()]]
    assert table["last_grokking_epoch"].values.tolist() == [[reached.max()]]


def test_sweeps_stand_side_by_side(sweep, table):
    shadow = trained(epochs=200, alpha_train=0)
    both = specify_few([shadow, sweep])
    assert both["alpha_train"].values.tolist() == [0.0, 0.3]
    assert same(both.sel(alpha_train=[0.3]), table)
    assert same(both.sel(alpha_train=[0.0]), specify_few([shadow]))


def test_threads_give_the_same_bits(sweep, table):
    with ThreadPoolExecutor(2) as threads:
        assert same(specify_few([sweep], threads), table)


def test_what_is_drawn_is_specified_without_a_training(drawn):
    table = specify_few([drawn])
    assert table["interval"].values.tolist() == [10, 20]
    assert np.isnan(table["alpha_train"]).all()  # there is no training
    own = table.isel(alpha_train=0, training=0).sel(
        topology="barabasi_albert", quantile=0.9, alpha=0.3, max_steps=20, statistic="max",
        interval=10, scales="all",
    )  # fmt: skip
    expected = scaling.exponent(drawn, "max", n_resamples=1).value
    assert float(own["all"]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"seeds": 2, "alpha_train": 0},
        {"hidden": (3, 5, 8, 12), "alpha_train": 0},
        {"every": 20, "alpha_train": 0},
    ],
    ids=str,
)
def test_sweeps_that_differ_in_more_or_less_than_their_training_are_refused(sweep, other):
    with pytest.raises(InputError, match="sweeps that differ in their training alone are needed"):
        specify_few([sweep, trained(**{"epochs": 200, **other})])


def test_every_training_is_a_level_with_every_alpha_train():
    settings = [{"alpha_train": a, "learning_rate": r} for a in (0.3, 0.0) for r in (0.5, "4/h")]
    sweeps = [trained(2, epochs=60, **of) for of in settings]
    table = specify_few(sweeps)
    assert table["alpha_train"].values.tolist() == [0.3, 0.0]
    assert table["training"].values.tolist() == ["as the first", "learning_rate=4/h"]
    for of, sweep in zip(settings, sweeps, strict=True):
        name = "as the first" if of["learning_rate"] == 0.5 else "learning_rate=4/h"
        part = table.sel(alpha_train=of["alpha_train"], training=name)
        alone = specify_few([sweep]).isel(alpha_train=0, training=0)
        assert same(part.drop_vars("training"), alone.drop_vars("training"))
    with pytest.raises(InputError, match="not every training with every alpha_train once"):
        specify_few(sweeps[:3])


def test_the_order_of_the_runs_does_not_matter_to_a_specification(sweep, table):
    mixed = sweep.isel(run=np.random.default_rng(0).permutation(12))
    assert same(specify_few([mixed]), table)


def test_where_nothing_groks_there_is_no_d_after(flat):
    table = specify_few([flat])
    assert table["post"].isnull().all()
    assert table["pre"].notnull().all()
    assert np.isinf(table["first_grokking_epoch"]).all()


def test_three_scales_are_too_few_to_leave_one_out():
    with pytest.raises(InputError, match="the sweep has 3 scales; at least 4 are needed"):
        specify([trained(2, (3, 5, 8), epochs=10)])


# Before anything is measured


def test_a_sweep_that_can_be_put_under_scrutiny_is_let_through(sweep, flat, drawn):
    for of in (sweep, flat, drawn):
        check(of)
        check(of, sensitivity=True)
    check(sweep.isel(run=slice(9)))
    # As does one that was measured again.
    check(measure(sweep, [Reading()])[Reading()])


@pytest.mark.parametrize(
    ("runs", "sensitivity", "message"),
    [
        (3, False, r"^all runs have N = \d+; D\(t\) needs at least three sizes of network$"),
        (6, False, r"^the sweep has 2 scales; D\(t\) needs at least 3 sizes of network$"),
        (6, True, r"^the sweep has 2 scales; D\(t\) needs at least 3 sizes of network$"),
        (9, True, r"^the sweep has 3 scales; at least 4 are needed, since each is left out in turn$"),
    ],
)
def test_too_few_scales_are_refused_first(sweep, runs, sensitivity, message):
    with pytest.raises(InputError, match=message):
        check(sweep.isel(run=slice(runs)), sensitivity=sensitivity)


def test_another_experiment_is_refused_first(sweep):
    with pytest.raises(InputError, match="the experiment weather is unknown here, and nulls of"):
        check(sweep.assign_attrs(experiment="weather"))


def test_a_sweep_of_surrogates_is_refused_first(sweep):
    null = measure(sweep, [Reading("permuted")])[Reading("permuted")]
    with pytest.raises(InputError, match="surrogate"):
        check(null)


# Nulls that were measured with the runs


def test_a_sweep_beside_recorded_nulls_is_the_sweep_beside_nulls_measured_again(sweep):
    rungs = ("gaussian", "permuted")
    again = scrutinize(sweep, rungs, n_resamples=RESAMPLES)
    measured = measure(sweep, [Reading(rung) for rung in rungs])
    nulls = {rung: measured[Reading(rung)] for rung in rungs}
    # Given in any order, as a study may hold them.
    shuffled = sweep.isel(run=np.random.default_rng(0).permutation(sweep.sizes["run"]))
    found = beside(shuffled, dict(reversed(nulls.items())), n_resamples=RESAMPLES)
    on_own_graph = replace(again.ladder, independent=None)
    for span, statistic in product(SPANS, STATISTICS):
        one, other = (ladder.attribution(span, statistic) for ladder in (found.ladder, on_own_graph))
        assert one.details.keys() == other.details.keys()
        for part in ("total", "estimator", "distribution", "arrangement"):
            a, b = getattr(one, part), getattr(other, part)
            assert (a.value, a.low, a.high) == (b.value, b.low, b.high)
    assert found.collapse("real", "all").quality == again.collapse("real", "all").quality
    assert found.timing["max"].of_one.epoch.value == pytest.approx(
        again.timing["max"].of_one.epoch.value, nan_ok=True
    )


def test_nulls_that_were_not_measured_are_named(sweep):
    with pytest.raises(InputError, match=r"no gaussian and no permuted null was measured"):
        beside(sweep, {})
    with pytest.raises(InputError, match=r"all runs have N = 13; D\(t\) needs at least three sizes"):
        beside(sweep.isel(run=slice(0, 3)), {"gaussian": sweep, "permuted": sweep})
