"""The synthetic baseline and its draws."""

from dataclasses import replace

import numpy as np
import pytest

from gradquake.avalanche.surrogates import standard_normal
from gradquake.avalanche.topologies import TOPOLOGIES, build
from gradquake.errors import InputError
from gradquake.experiments import synthetic, xor
from gradquake.experiments.synthetic import SyntheticRun, measure

COUNTS = ("size", "duration", "area", "peak", "truncated")


def values_of(**settings):
    (record,) = measure([SyntheticRun(**({"n_parameters": 201, "seed": 3, "epochs": 90} | settings))])
    return record.values


# The draws


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_draws_do_not_depend_on_the_topology(topology):
    thresholds = values_of(topology=topology)["threshold"]
    assert np.array_equal(thresholds, values_of()["threshold"])


@pytest.mark.parametrize(
    "changed", [{"alpha": 0.1}, {"alpha": 0.9}, {"max_steps": 2}, {"topology": "ring"}], ids=str
)
def test_the_same_draws_relax_otherwise_under_another_probe(changed):
    usual, other = values_of(), values_of(**changed)
    assert np.array_equal(usual["threshold"], other["threshold"])
    assert not np.array_equal(usual["size"], other["size"])


def test_more_snapshots_begin_with_the_fewer():
    few, more = values_of(epochs=90), values_of(epochs=200)
    for name in few:
        assert np.array_equal(few[name], more[name][:10]), name


def test_draws_differ_between_snapshots_seeds_and_sizes():
    thresholds = [
        values_of(n_parameters=n, seed=seed)["threshold"] for n in (201, 202) for seed in range(6)
    ]
    assert np.unique(thresholds).size == 12 * 10


@pytest.mark.parametrize("std", [2.0**-40, 0.25, 1.0, 2.0**40])
def test_std_scales_the_threshold_and_nothing_else(std):
    # Powers of two scale without rounding, so that every count stays as it is.
    usual, scaled = values_of(std=0.5), values_of(std=std)
    assert np.array_equal(scaled["threshold"], usual["threshold"] * (std / 0.5))
    for name in COUNTS:
        assert np.array_equal(scaled[name], usual[name]), name
    np.testing.assert_allclose(scaled["deviation"], usual["deviation"], rtol=1e-9)


def test_draws_are_normal_with_the_std_asked_for():
    # The 0.9 quantile of |x| for x ~ N(0, 0.5²) is 0.5 · 1.6448536...
    thresholds = values_of(n_parameters=4001, epochs=500)["threshold"]
    assert thresholds.mean() == pytest.approx(0.5 * 1.6448536269514722, rel=5e-3)


@pytest.mark.parametrize("topology", ["barabasi_albert", "ring", "computational"])
def test_measurements_are_those_of_the_probe_on_the_same_draw(topology):
    run = SyntheticRun(81, 4, epochs=50, topology=topology, alpha=0.2, quantile=0.8)
    entropy = np.random.SeedSequence(4, spawn_key=(synthetic.STREAM, 81))
    draws = 0.5 * standard_normal(np.random.default_rng(entropy), (6, 81))
    (record,) = measure([run])
    for i, draw in enumerate(draws):
        avalanche = replace(run.probe, graph=build(topology, 81, 4)).measure(draw)
        for name, values in record.values.items():
            assert values[i] == getattr(avalanche, name), name


def test_a_run_does_not_depend_on_its_company():
    runs = [SyntheticRun(n, seed, epochs=60) for n in (41, 81, 401) for seed in range(2)]
    for together, run in zip(measure(runs[::-1])[::-1], runs, strict=True):
        (alone,) = measure([run])
        assert together.config == alone.config == run.config()
        for name, values in alone.values.items():
            assert np.array_equal(together.values[name], values), name


def test_a_run_has_the_snapshots_of_a_trained_one_and_never_groks():
    (record,) = measure([SyntheticRun(81, 0, epochs=25, every=10)])
    (trained_record,) = xor.measure([xor.XorRun(20, 0, epochs=25, every=10)])
    assert record.epochs.tolist() == trained_record.epochs.tolist() == [0, 10, 20]
    assert record.grokking_epoch is None


# What cannot be used


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("n_parameters", v) for v in (4, 0, 20.5, True)],
        *[("seed", v) for v in (-1, 0.5)],
        *[("epochs", v) for v in (0, 1.5)],
        *[("every", v) for v in (0, -1)],
        *[("std", v) for v in (0, -1, np.inf, np.nan)],
        *[("alpha", v) for v in (0, 1, np.nan)],
        *[("quantile", v) for v in (-0.1, 1.1)],
        *[("max_steps", v) for v in (0, 2.5)],
        ("topology", "torus"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=rf"^{name} is .*{value!r}.*needed$"):
        SyntheticRun(**({"n_parameters": 41, "seed": 0} | {name: value}))


def test_no_run_is_refused():
    with pytest.raises(InputError, match="no run was given"):
        measure([])


def test_a_size_that_the_topology_cannot_have_is_refused():
    run = replace(SyntheticRun(42, 0), topology="computational")
    with pytest.raises(InputError, match=r"n is 42; .* 4 h \+ 1 nodes"):
        measure([run])
