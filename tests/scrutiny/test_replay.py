"""Recorded runs once more: their gradients, bit for bit, and what is measured on them later."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake import InputError, Probe
from gradquake.avalanche import _kernels_angle
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.surrogates import REAL, RUNGS, standard_normal, surrogate
from gradquake.avalanche.topologies import TOPOLOGIES, build
from gradquake.experiments import readings, synthetic, xor
from gradquake.experiments.readings import Reading
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.scrutiny import replay
from gradquake.study.recording import GradientRecord, to_dataset

# What the probe measures of a gradient.
MEASURED = ("threshold", "size", "duration", "area", "peak", "truncated", "deviation")

SPARSE = CascadeSettings(alpha=0.2, quantile=0.95, max_steps=7)

TRAININGS = [
    {},
    {"alpha_train": 0},
    {"alpha_train": 0.1},
    {"permute_train": True},
    {"topology_train": "ring"},
    {"topology_train": "ring", "permute_train": True, "alpha_train": 0.2},
    {"task": "and"},
    {"task": "constant"},
    {"task": "constant", "alpha_train": 0},
    {"topology": "computational", "quantile": 0.8, "max_steps": 3, "learning_rate": 0.3},
]

few = settings(deadline=None, derandomize=True, max_examples=10)


def xor_runs(**changed):
    return xor.sweep((3, 12), 2, **({"epochs": 40, "every": 6} | changed))


def synthetic_runs(**changed):
    usual = {"epochs": 30, "every": 4} | changed
    return [SyntheticRun(n, seed, **usual) for n in (13, 49) for seed in range(2)]


def fixed(values):
    """Return values as a list that tells all bits apart."""
    return values.dtype, values.shape, values.tobytes()


def assert_same_gradients(first, second):
    assert first.config == second.config
    assert first.grokking_epoch == second.grokking_epoch
    assert first.tensors == second.tensors
    assert fixed(first.epochs) == fixed(second.epochs)
    assert fixed(first.gradients) == fixed(second.gradients)


def assert_is_what_was_measured(runs, recorded, again):
    for run, record, gradients in zip(runs, recorded, again, strict=True):
        found = readings.read(gradients, Reading())
        assert gradients.config == record.config == run.config()
        assert gradients.grokking_epoch == found.grokking_epoch == record.grokking_epoch
        assert fixed(gradients.epochs) == fixed(found.epochs) == fixed(record.epochs)
        assert set(found.values) == set(MEASURED) <= set(record.values)
        for name in MEASURED:
            assert fixed(found.values[name]) == fixed(record.values[name]), name


# The gradients of the first time


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_xor_gradients_are_those_that_were_measured(training):
    runs = xor_runs(**training)
    recorded, again = xor.measure(runs), replay.gradients(runs)
    assert_is_what_was_measured(runs, recorded, again)
    for record, gradients in zip(recorded, again, strict=True):
        assert gradients.gradients.dtype == np.float64
        assert gradients.gradients.shape == (7, record.config["n_parameters"])
        norms = np.empty(7)
        rows = record.config["n_parameters"] * np.arange(8)
        _kernels_angle.norms(gradients.gradients.ravel(), rows, norms)
        assert fixed(norms) == fixed(record.values["gradient_norm"])


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_xor_gradients_are_those_that_were_measured_on_any_topology(topology):
    runs = xor_runs(topology=topology)
    assert_is_what_was_measured(runs, xor.measure(runs), replay.gradients(runs))


def test_the_gradients_of_a_whole_training_are_those_that_were_measured():
    runs = xor.sweep((20, 50), 1)
    recorded = xor.measure(runs)
    assert_is_what_was_measured(runs, recorded, replay.gradients(runs))
    assert any(record.grokking_epoch for record in recorded)


@pytest.mark.parametrize(
    "changed",
    [{}, {"std": 2.0}, {"topology": "ring", "alpha": 0.2, "quantile": 0.8, "max_steps": 2}],
    ids=str,
)
def test_synthetic_gradients_are_those_that_were_measured(changed):
    runs = synthetic_runs(**changed)
    recorded, again = synthetic.measure(runs), replay.gradients(runs)
    assert_is_what_was_measured(runs, recorded, again)
    for run, gradients in zip(runs, again, strict=True):
        assert gradients.gradients.shape == (8, run.n_parameters)
        assert list(gradients.tensors.values()) == [run.n_parameters]


def test_synthetic_gradients_are_the_draws_of_their_stream():
    entropy = np.random.SeedSequence(3, spawn_key=(synthetic.STREAM, 13))
    expected = 2 * standard_normal(np.random.default_rng(entropy), (6, 13))
    (found,) = replay.gradients([SyntheticRun(13, 3, epochs=5, every=1, std=2)])
    assert fixed(found.gradients) == fixed(expected)


def test_the_tensors_of_a_network_are_its_weights_and_biases():
    for run, gradients in zip(xor_runs(), replay.gradients(xor_runs()), strict=True):
        h = run.hidden
        assert list(gradients.tensors.values()) == [2 * h, h, h, 1]
        assert sum(gradients.tensors.values()) == run.n_parameters == gradients.gradients.shape[1]


def test_two_calls_give_the_same_bits():
    for first, second in zip(replay.gradients(xor_runs()), replay.gradients(xor_runs()), strict=True):
        assert_same_gradients(first, second)


# Company


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_the_gradients_of_a_run_do_not_depend_on_its_company(training):
    runs = xor_runs(**training)
    together = replay.gradients(runs)
    backwards = replay.gradients(runs[::-1])[::-1]
    for run, first, second in zip(runs, together, backwards, strict=True):
        (alone,) = replay.gradients([run])
        assert_same_gradients(first, alone)
        assert_same_gradients(second, alone)


def test_the_gradients_of_a_synthetic_run_do_not_depend_on_its_company():
    runs = synthetic_runs()
    for run, first in zip(runs, replay.gradients(runs[::-1])[::-1], strict=True):
        assert_same_gradients(first, replay.gradients([run])[0])


def test_the_same_run_twice_is_twice_the_same():
    run = XorRun(5, 1, epochs=30)
    first, second = replay.gradients([run, run])
    assert_same_gradients(first, second)


# Epochs asked for


@few
@given(
    asked=st.lists(
        st.lists(st.integers(0, 40), max_size=6, unique=True).map(sorted), min_size=2, max_size=2
    ),
    permute=st.booleans(),
    every=st.sampled_from([1, 7, 40]),
)
def test_epochs_asked_for_are_those_of_a_run_recorded_at_every_epoch(asked, permute, every):
    runs = [XorRun(h, 2, epochs=40, every=every, permute_train=permute) for h in (3, 8)]
    epochs = [np.array(of_run, np.int64) for of_run in asked]
    at_every = replay.gradients([replace(run, every=1) for run in runs])
    for run, of_run, all_of_run, found in zip(
        runs, epochs, at_every, replay.gradients(runs, epochs), strict=True
    ):
        assert found.config == run.config()
        assert found.grokking_epoch == all_of_run.grokking_epoch
        assert fixed(found.epochs) == fixed(of_run)
        assert fixed(found.gradients) == fixed(all_of_run.gradients[of_run])
        assert found.gradients.shape == (len(of_run), run.n_parameters)


def test_without_epochs_they_are_the_snapshots():
    runs = xor_runs()
    asked = replay.gradients(runs, [np.arange(0, 41, 6)] * 4)
    for first, second in zip(replay.gradients(runs), asked, strict=True):
        assert_same_gradients(first, second)


def test_what_is_read_at_an_epoch_asked_for_is_what_a_finer_recording_has():
    runs = xor_runs()
    epochs = [np.array([0, 1, 17, 40])] * len(runs)
    finer = xor.measure([replace(run, every=1) for run in runs])
    for record, found in zip(finer, replay.gradients(runs, epochs), strict=True):
        values = readings.read(found, Reading()).values
        for name in MEASURED:
            assert fixed(values[name]) == fixed(record.values[name][[0, 1, 17, 40]]), name


@pytest.mark.parametrize("epoch", [-1, 41, 10**9])
@pytest.mark.parametrize("place", [0, 1])
def test_an_epoch_outside_the_training_is_refused(epoch, place):
    runs = [XorRun(3, seed, epochs=40) for seed in range(2)]
    epochs = [np.array([0, 40])] * 2
    epochs[place] = np.sort([3, epoch])
    message = rf"^epoch {epoch} was asked for; the training has the epochs 0 to 40$"
    with pytest.raises(InputError, match=message):
        replay.gradients(runs, epochs)


@pytest.mark.parametrize("epochs", [[20, 10], [0, 5, 4]], ids=str)
def test_epochs_that_do_not_ascend_are_refused(epochs):
    with pytest.raises(InputError):
        replay.gradients([XorRun(3, 0, epochs=40)], [np.array(epochs)])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_epochs_of_another_number_of_runs_are_refused(count):
    with pytest.raises(InputError):
        replay.gradients([XorRun(3, seed, epochs=40) for seed in range(2)], [np.array([5])] * count)


def test_synthetic_runs_have_no_epochs_to_ask_for():
    with pytest.raises(InputError, match="epochs were asked of synthetic runs, which have nothing but"):
        replay.gradients(synthetic_runs(), [np.array([0])] * 4)


# Runs that cannot be made again


def test_no_run_is_refused():
    with pytest.raises(InputError, match="no run was given; at least one is needed"):
        replay.gradients([])


@pytest.mark.parametrize("place", [0, 1])
def test_runs_of_two_experiments_are_refused(place):
    runs = [XorRun(3, 0, epochs=10)]
    runs.insert(place, SyntheticRun(13, 0, epochs=10))
    with pytest.raises(InputError):
        replay.gradients(runs)


def test_runs_that_differ_in_more_than_size_and_seed_are_refused():
    runs = [XorRun(3, 0, epochs=10), XorRun(3, 1, epochs=10, permute_train=True)]
    with pytest.raises(InputError, match="differ in more than size and seed; train them apart"):
        replay.gradients(runs)


@pytest.mark.parametrize("runs", [xor_runs, synthetic_runs])
@pytest.mark.parametrize("changed", [{}, {"topology": "ring", "alpha": 0.2}], ids=str)
def test_the_runs_of_a_sweep_are_those_that_made_it(runs, changed):
    made = runs(**changed)
    measure = xor.measure if isinstance(made[0], XorRun) else synthetic.measure
    sweep = to_dataset(measure(made))
    assert replay.runs_of(sweep) == made
    # The sweep orders its runs, and its runs are returned in that order.
    assert replay.runs_of(to_dataset(measure(made[::-1]))) == made


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_the_runs_of_a_sweep_have_every_setting(training):
    made = xor_runs(**training)
    found = replay.runs_of(to_dataset(xor.measure(made)))
    assert [run.config() for run in found] == [run.config() for run in made]
    chosen = to_dataset(xor.measure(made)).isel(run=[3, 0])
    assert replay.runs_of(chosen) == [made[3], made[0]]


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_the_runs_of_a_sweep_survive_netcdf(training, tmp_path):
    made = xor_runs(**training)
    to_dataset(xor.measure(made)).to_netcdf(tmp_path / "sweep.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "sweep.nc", engine="scipy") as read:
        assert [run.config() for run in replay.runs_of(read)] == [run.config() for run in made]


def test_a_sweep_read_back_is_measured_as_it_was():
    sweep = to_dataset(xor.measure(xor_runs()))
    records = [readings.read(r, Reading()) for r in replay.gradients(replay.runs_of(sweep))]
    for name in MEASURED:
        assert fixed(np.stack([r.values[name] for r in records])) == fixed(sweep[name].values), name


@pytest.mark.parametrize("experiment", ["attached", "files", "modular_addition", "", None])
def test_a_sweep_of_another_experiment_is_refused(experiment):
    sweep = to_dataset(xor.measure(xor_runs()))
    if experiment is None:
        del sweep.attrs["experiment"]
    else:
        sweep.attrs["experiment"] = experiment
    message = rf"^the sweep's experiment is {experiment!r}; its gradients cannot be made again$"
    with pytest.raises(InputError, match=message):
        replay.runs_of(sweep)


# Readings


@pytest.fixture(scope="module")
def records():
    """Gradients of trained and of drawn runs, of unequal sizes and seeds."""
    trained = replay.gradients(xor_runs(quantile=0.8, topology="small_world_0.2"))
    return [*trained, *replay.gradients(synthetic_runs(epochs=24))]


@pytest.mark.parametrize(
    "reading",
    [
        Reading(),
        Reading(topology="ring"),
        Reading(cascade=CascadeSettings(alpha=0.05)),
        Reading(cascade=CascadeSettings(quantile=0.5)),
        Reading(cascade=CascadeSettings(quantile=0.0)),
        Reading(cascade=CascadeSettings(max_steps=1)),
        Reading("permuted"),
        *[Reading(rung, "computational", SPARSE) for rung in (REAL, *RUNGS)],
    ],
    ids=str,
)
def test_a_reading_is_what_the_probe_measures(records, reading):
    for record in records:
        run = record.config
        wanted = {name: run[name] for name in ("topology", "alpha", "quantile", "max_steps")}
        wanted |= {"topology": reading.topology} if reading.topology else {}
        wanted |= asdict(reading.cascade) if reading.cascade else {}
        values = record.gradients
        if reading.surrogate != REAL:
            values = surrogate(
                reading.surrogate, values, list(record.tensors.values()), seed=run["seed"]
            )
        probe = Probe.of({**wanted, "seed": run["seed"]})
        graph = build(wanted["topology"], run["n_parameters"], run["seed"])
        expected = probe.measure_batch(values, graph)
        found = readings.read(record, reading)
        for name in MEASURED:
            assert fixed(found.values[name]) == fixed(getattr(expected, name)), name
        last = probe.measure(values[-1])
        assert all(found.values[name][-1] == getattr(last, name) for name in MEASURED)
        assert found.config == {**run, **wanted, "surrogate": reading.surrogate}
        assert found.grokking_epoch == record.grokking_epoch
        assert fixed(found.epochs) == fixed(record.epochs)


def test_the_defaults_of_a_reading_are_the_runs_own():
    assert Reading() == Reading(REAL, None, None)
    assert Reading().settings() == {"surrogate": REAL}
    assert Reading("permuted", cascade=SPARSE).settings() == {
        "surrogate": "permuted", "alpha": 0.2, "quantile": 0.95, "max_steps": 7
    }  # fmt: skip


def test_readings_differ_in_what_they_change(records):
    sizes = [
        readings.read(records[3], reading).values["size"].tolist()
        for reading in (
            Reading(),
            Reading(topology="ring"),
            Reading(cascade=CascadeSettings(alpha=0.05)),
            Reading(cascade=CascadeSettings(quantile=0.5)),
            Reading(cascade=CascadeSettings(max_steps=1)),
            *map(Reading, RUNGS),
        )
    ]
    assert len({tuple(of_reading) for of_reading in sizes}) == len(sizes)


def test_a_reading_leaves_the_gradients_as_they_are(records):
    before = [fixed(record.gradients) for record in records]
    for rung in (REAL, *RUNGS):
        for record in records:
            readings.read(record, Reading(rung))
    assert [fixed(record.gradients) for record in records] == before


def test_the_draws_of_a_surrogate_depend_on_the_seed_of_the_run():
    gradient = np.random.default_rng(0).standard_normal((1, 13)).repeat(30, axis=0)
    config = SyntheticRun(13, 0, topology="ring").config()
    sizes = []
    for seed in (0, 0, 1):
        record = GradientRecord({**config, "seed": seed}, None, np.arange(30), gradient, {"all": 13})
        sizes.append(readings.read(record, Reading("permuted")).values["size"].tolist())
    assert sizes[0] == sizes[1] != sizes[2]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading("torn"), r"the surrogate is 'torn'; one of gaussian, .* is needed"),
        (Reading(topology="torus"), r"(graph|topology) is 'torus'; one of .* is needed"),
    ],
    ids=str,
)
def test_a_reading_that_cannot_be_made_is_refused(records, reading, message):
    with pytest.raises(InputError, match=message):
        readings.read(records[0], reading)


# Sizes, the fast twin of reading setting by setting


def reading_of(rung, topology, quantile, alpha, max_steps):
    return Reading(rung, topology, CascadeSettings(quantile=quantile, alpha=alpha, max_steps=max_steps))


def read_sizes(records, topology, quantiles, alphas, step_limits, rung):
    """Read setting by setting; also whether each avalanche was truncated."""
    shape = (len(quantiles), len(alphas), len(step_limits), len(records), -1)
    found = [
        readings.read(
            record,
            Reading(rung, topology, CascadeSettings(alpha=alpha, quantile=quantile, max_steps=limit)),
        ).values
        for quantile in quantiles
        for alpha in alphas
        for limit in step_limits
        for record in records
    ]
    return tuple(np.array([v[name] for v in found]).reshape(shape) for name in ("size", "truncated"))


def assert_sizes_are_read(records, topology, rung, *, quantiles, alphas, step_limits):
    expected, truncated = read_sizes(records, topology, quantiles, alphas, step_limits, rung)
    found = readings.sizes(
        records, topology, quantiles=quantiles, alphas=alphas, step_limits=step_limits,
        surrogate_rung=rung,
    )  # fmt: skip
    assert fixed(found) == fixed(expected)
    return found, truncated


GRID = {"quantiles": (0.8, 0.93), "alphas": (0.1, 0.6), "step_limits": (1, 4, 60)}


@pytest.mark.parametrize("rung", [REAL, *RUNGS])
@pytest.mark.parametrize("topology", ["barabasi_albert", "ring"])
def test_sizes_are_those_of_reading_setting_by_setting(records, topology, rung):
    found, truncated = assert_sizes_are_read(records, topology, rung, **GRID)
    assert found.shape == (2, 2, 3, len(records), 7)
    # All were cut at 1 step, some at 4, and fewer at 60: every way through is taken.
    shares = truncated.mean(axis=(0, 1, 3, 4))
    assert shares[0] > shares[1] > shares[2]
    assert 0 < shares[1] < 1
    assert (np.diff(found, axis=2)[~truncated[:, :, :-1]] == 0).all()
    assert (np.diff(found, axis=2)[truncated[:, :, :-1]] > 0).all()


@few
@given(
    seed=st.integers(0, 999),
    quantile=st.floats(0, 1),
    alpha=st.floats(0.01, 0.99),
    limits=st.lists(st.integers(1, 30), min_size=1, max_size=4, unique=True).map(sorted),
    topology=st.sampled_from(["erdos_renyi", "computational"]),
    rung=st.sampled_from([REAL, "permuted", "sign_flipped"]),
)
def test_sizes_are_those_of_reading_at_any_setting(seed, quantile, alpha, limits, topology, rung):
    runs = [SyntheticRun(n, seed, epochs=3, every=1) for n in (5, 41, 13)]
    assert_sizes_are_read(
        replay.gradients(runs), topology, rung,
        quantiles=(quantile,), alphas=(alpha,), step_limits=limits,
    )  # fmt: skip


@pytest.mark.parametrize("rung", [REAL, "permuted"])
def test_sizes_where_every_avalanche_is_truncated_at_every_limit(rung):
    # At quantile 0 on a ring nearly everything topples on and on.
    records = replay.gradients(synthetic_runs())
    found, truncated = assert_sizes_are_read(
        records, "ring", rung, quantiles=(0.0,), alphas=(0.1,), step_limits=(1, 2, 3)
    )
    assert truncated.all()
    assert (np.diff(found, axis=2) > 0).all()


def test_sizes_where_nothing_topples():
    # No magnitude is above their largest.
    records = replay.gradients(synthetic_runs())
    found, truncated = assert_sizes_are_read(
        records, "ring", REAL, quantiles=(1.0,), alphas=(0.3,), step_limits=(1, 20)
    )
    assert not found.any()
    assert not truncated.any()


def test_sizes_of_one_run_with_one_snapshot():
    (record,) = replay.gradients([XorRun(9, 0, epochs=5)], [np.array([5])])
    found, _ = assert_sizes_are_read([record], "ring", REAL, **GRID)
    assert found.shape == (2, 2, 3, 1, 1)


def test_sizes_do_not_depend_on_the_company_of_a_run(records):
    together = readings.sizes(records, "ring", surrogate_rung="permuted", **GRID)
    for r, record in enumerate(records):
        alone = readings.sizes([record], "ring", surrogate_rung="permuted", **GRID)
        np.testing.assert_array_equal(together[..., r, :], alone[..., 0, :])


def test_sizes_at_the_settings_of_the_run_are_those_recorded():
    runs = xor_runs()
    found = readings.sizes(
        replay.gradients(runs), "barabasi_albert", quantiles=(0.9,), alphas=(0.3,), step_limits=(20,)
    )
    expected = np.stack([record.values["size"] for record in xor.measure(runs)])
    assert fixed(found[0, 0, 0]) == fixed(expected)


def test_sizes_of_gradients_in_single_precision_are_those_of_reading():
    records = [
        replace(record, gradients=record.gradients.astype(np.float32))
        for record in replay.gradients(synthetic_runs())
    ]
    for rung in (REAL, "gaussian_per_tensor"):
        assert_sizes_are_read(records, "small_world_0.05", rung, **GRID)


@pytest.mark.parametrize(
    ("topology", "rung", "message"),
    [
        ("torus", REAL, "(graph|topology) is 'torus'; one of .* is needed"),
        ("ring", "torn", "the surrogate is 'torn'; one of .* is needed"),
    ],
)
def test_sizes_that_cannot_be_measured_are_refused(records, topology, rung, message):
    with pytest.raises(InputError, match=message):
        readings.sizes(records, topology, surrogate_rung=rung, **GRID)
