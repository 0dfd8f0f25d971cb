"""Observables beside the avalanche, from a run's record to its exponents beside nulls."""

import numpy as np
import pytest

import gradquake as gq
from gradquake import InputError, Probe
from gradquake.analysis.channels import channel_label, in_channel
from gradquake.avalanche import observables
from gradquake.avalanche.graphs import from_edges
from gradquake.avalanche.observables import (
    OBSERVABLES,
    Observable,
    channels,
    checked_observables,
    observe,
)
from gradquake.avalanche.one_generation import one_generation
from gradquake.avalanche.surrogates import surrogate
from gradquake.experiments import synthetic, xor
from gradquake.experiments.readings import Reading
from gradquake.scrutiny import criticality, replay
from gradquake.scrutiny.criticality import MOMENTS, OBSERVED
from gradquake.scrutiny.measure import measure
from gradquake.scrutiny.scrutinize import scrutinize
from gradquake.study.recording import to_dataset

HIDDEN = (3, 5, 8, 13)
EVERYTHING = tuple(OBSERVABLES)
SHORT = {"epochs": 60, "every": 20}


def trained(seeds=2, **settings):
    return to_dataset(xor.measure(xor.sweep(HIDDEN, seeds, **settings)))


@pytest.fixture(scope="module")
def sweep():
    return trained(observe=EVERYTHING, epochs=200)


def by_hand(probe, gradient):
    kicks, load = probe.kicks(gradient, 1000), probe.load(gradient, 100)
    clusters, generations = probe.clusters(gradient), probe.generations(gradient)
    return {
        "kick_median": kicks.median,
        "kick_mean": kicks.mean,
        "kick_max": kicks.largest,
        "kick_branching": kicks.branching_ratio,
        "kick_endless": kicks.endless,
        "load_mean": load.mean,
        "load_max": load.largest,
        "load_branching": load.branching_ratio,
        "clusters_number": clusters.number,
        "clusters_largest": clusters.largest,
        "clusters_mean": clusters.mean,
        "first_generation": generations.first_share,
        "isolated": probe.isolated_size(gradient),
        "one_generation": one_generation(gradient, probe.graph_on(gradient.size), probe),
    }


# The record


def test_a_run_records_what_its_own_probe_measures(sweep):
    assert set(channels()) == set(by_hand(Probe(), np.random.default_rng(0).standard_normal(50)))
    run = xor.XorRun(8, 1, observe=EVERYTHING, epochs=200)
    (record,) = replay.gradients([run])
    own = sweep.isel(run=int(np.flatnonzero((sweep["hidden"] == 8) & (sweep["seed"] == 1))[0]))
    for k in (0, 5, 20):
        for name, number in by_hand(run.probe, record.gradients[k]).items():
            np.testing.assert_equal(float(own[name][k]), float(number), err_msg=name)
    for name, meaning in channels().items():
        assert sweep[name].attrs == {"meaning": meaning}


def test_an_observable_changes_nothing_else_of_a_run():
    plain, observed = trained(**SHORT), trained(observe="kicks,isolated", **SHORT)
    assert "observe" not in plain.attrs
    assert observed.attrs["observe"] == "kicks,isolated"
    for name in plain.data_vars:
        np.testing.assert_array_equal(plain[name].values, observed[name].values)
    more = {name for name in channels() if name.startswith("kick_")} | {"isolated"}
    assert set(observed.data_vars) - set(plain.data_vars) == more


def test_the_isolated_size_is_at_most_about_the_size(sweep):
    # A neighbor of the other sign can take from a node, so a few topplings may be saved.
    share = sweep["isolated"].values / sweep["size"].values
    assert 0.3 < np.median(share) < 1.1
    assert ((sweep["first_generation"] > 0) & (sweep["first_generation"] <= 1)).all()


def test_the_runs_of_a_batch_are_observed_as_alone():
    runs = xor.sweep((3, 8), 2, observe="kicks,load", **SHORT)
    together = xor.measure(runs)
    for run, record in zip(runs, together, strict=True):
        (alone,) = xor.measure([run])
        for name in alone.values:
            np.testing.assert_array_equal(alone.values[name], record.values[name])


def test_synthetic_runs_record_observables():
    run = synthetic.SyntheticRun(81, 3, observe="clusters,isolated", epochs=40)
    (record,), (made,) = synthetic.measure([run]), synthetic.gradients([run])
    for k, gradient in enumerate(made.gradients):
        assert record.values["clusters_number"][k] == run.probe.clusters(gradient).number
        assert record.values["isolated"][k] == run.probe.isolated_size(gradient)


def test_a_gradient_that_does_not_come_to_rest_has_nan():
    probe = Probe(from_edges(2, [(0, 1)]), quantile=0.0)
    found = observe("kicks,isolated", [probe, probe], [np.array([2.0, 1.0]), np.array([1.0, 1e-320])])
    assert np.isnan(found["kick_mean"]).all()
    assert found["isolated"].tolist() == [2, 20]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ((), ""),
        ("kicks", "kicks"),
        ("isolated,kicks", "kicks,isolated"),
        (["load", "kicks", "load"], "kicks,load"),
    ],
)
def test_names_of_observables_have_one_form(given, expected):
    assert checked_observables(given) == expected
    assert xor.XorRun(3, 0, observe=given) == xor.XorRun(3, 0, observe=expected)


@pytest.mark.parametrize("given", ["kick", "kicks,", ["kicks", 3], ("",) * 2, 5, None, "kicks, load"])
def test_other_names_are_refused(given):
    with pytest.raises(InputError, match="observe"):
        xor.XorRun(3, 0, observe=given)


# The channel of an analysis


@pytest.mark.parametrize("channel", ["kick_max", "area"])
def test_a_channel_is_analyzed_as_the_size_is(sweep, channel):
    found = scrutinize(sweep, ("gaussian", "permuted"), channel=channel, n_resamples=40)
    alone = sweep.assign(size=sweep[channel])
    nulls = measure(sweep, [Reading("permuted")])[Reading("permuted")]
    for dataset, analysis in ((alone, found.ladder.real), (nulls, found.ladder.nulls["permuted"])):
        exponent = analysis.exponent("all", "mean")
        values = dataset[channel].groupby("n_parameters").mean(...).values
        np.testing.assert_allclose(exponent.sizes.value, values)
        expected = np.polyfit(np.log(exponent.n_parameters), np.log(values), 1)[0]
        assert exponent.value == pytest.approx(expected)


def test_a_null_is_observed_on_the_surrogates_of_the_same_gradients(sweep):
    reading = Reading("permuted", observe="kicks")
    found = measure(sweep, [reading])[reading]
    run = xor.XorRun(5, 1, epochs=200)
    (record,) = replay.gradients([run])
    drawn = surrogate("permuted", record.gradients, list(record.tensors.values()), seed=1)
    at = int(np.flatnonzero((found["hidden"] == 5) & (found["seed"] == 1))[0])
    assert float(found["kick_mean"][at, 7]) == run.probe.kicks(drawn[7]).mean


def test_a_channel_need_not_be_recorded_if_gradients_can_be_made_again(tmp_path, sweep):
    plain = tmp_path / "plain.sqlite"
    gq.run("xor", hidden=list(HIDDEN), seeds=2, epochs=200, out=plain, jobs=1)
    again = gq.analyze(plain, channel="kick_mean", jobs=1)
    recorded = gq.analyze(sweep, channel="kick_mean", jobs=1)
    for phase in ("all", "post"):
        first, second = again.exponent(phase, "mean"), recorded.exponent(phase, "mean")
        assert (first.value, first.low) == (second.value, second.low)
    assert "the mean kick_mean (mean topplings of a kick" in str(again)
    assert '"channel": "kick_mean"' in again.to_json()
    assert "channel=kick_mean" in again.settings


def test_the_observables_of_a_study_choose_its_sweep(tmp_path):
    path = tmp_path / "sweep.sqlite"
    gq.run("xor", hidden=[3, 5, 8], seeds=2, out=path, jobs=1, observe=("isolated", "kicks"), **SHORT)
    with gq.open_study(path) as study:
        assert "kick_max" in study.select(observe="kicks,isolated")


def test_refusals(sweep):
    with pytest.raises(
        InputError, match=r"the channel is 'loss'; one of threshold, size, .*kick_median"
    ):
        gq.analyze(sweep, channel="loss")
    with pytest.raises(
        InputError, match="a channel and sensitivity were given; the specification curve measures sizes"
    ):
        gq.analyze(sweep, channel="area", sensitivity=True)
    with pytest.raises(
        InputError, match=r"'kick_max'; one of loss, .* is needed; runs with observe='kicks' record it"
    ):
        in_channel(sweep.drop_vars("kick_max"), "kick_max")
    assert in_channel(sweep, "size") is sweep


# An observable from outside


def test_an_observable_from_outside_is_one_function_and_one_line(monkeypatch, tmp_path):
    largest = Observable(lambda _, gradient: (np.abs(gradient).max(),), {"largest_entry": "its largest"})
    monkeypatch.setitem(observables.OBSERVABLES, "largest", largest)
    assert channel_label("largest_entry") == "its largest"
    path = tmp_path / "sweep.sqlite"
    gq.run("xor", hidden=list(HIDDEN), seeds=2, out=path, jobs=1, observe="largest", **SHORT)
    found = gq.analyze(path, channel="largest_entry", jobs=1)
    (record,) = replay.gradients([xor.XorRun(13, 0, **SHORT)])
    dataset = found.scrutiny.ladder.real.dataset
    own = dataset.isel(run=int(np.flatnonzero((dataset["hidden"] == 13) & (dataset["seed"] == 0))[0]))
    np.testing.assert_array_equal(own["size"].values, np.abs(record.gradients).max(axis=1))
    assert "the largest largest_entry (its largest; " in str(found)


# Before, at and after t_g


def test_criticality_averages_each_run_before_at_and_after_its_own_t_g(monkeypatch):
    monkeypatch.setattr(criticality, "topologies_of", lambda _: ["ring"])
    sweep = trained(epochs=200)
    (found,) = criticality.criticality(sweep)
    assert np.isfinite(sweep["grokking_epoch"].values).all()
    hidden = HIDDEN[-1]
    numbers = {moment: [] for moment in MOMENTS}
    for seed in range(2):
        run = xor.XorRun(hidden, seed, epochs=200, topology="ring", topology_train="barabasi_albert")
        reached = int(
            sweep["grokking_epoch"].values[(sweep["hidden"] == hidden) & (sweep["seed"] == seed)][0]
        )
        (record,) = replay.gradients([run], [np.arange(201)])
        epochs = [*range(0, 201, 20)]
        chosen = (
            [e for e in epochs if e < reached], [reached], [e for e in epochs if e > reached],
        )  # fmt: skip
        for moment, of_moment in zip(MOMENTS, chosen, strict=True):
            own = [run.probe.kicks(record.gradients[e]).mean for e in of_moment]
            numbers[moment].append(np.mean(own))
    for moment in MOMENTS:
        estimate = found.at_largest("real", moment, "kick_mean")
        assert estimate.value == pytest.approx(np.mean(numbers[moment]))
        assert set(found.of["permuted"][moment]) == set(OBSERVED) == set(found.arrangement[moment])
        real, null = (
            found.of[rung][moment]["isolated_share"].sizes.value[-1] for rung in ("real", "permuted")
        )
        assert found.arrangement[moment]["isolated_share"].value == pytest.approx(real - null)
    assert "branching ratio before t_g, real" in repr(found)


def test_a_run_that_never_groks_is_all_before(monkeypatch):
    monkeypatch.setattr(criticality, "topologies_of", lambda _: ["ring"])
    sweep = trained(epochs=60, learning_rate=1e-4)
    (found,) = criticality.criticality(sweep)
    assert np.isfinite(found.at_largest("real", "before", "kick_mean").value)
    assert np.isnan(found.at_largest("real", "at", "kick_mean").value)
