"""The avalanche of a whole gradient from a sample: bias, standard error, and refusals."""

import numpy as np
import pytest

from gradquake import InputError, Probe
from gradquake.avalanche.extrapolation import check_exchangeable, extrapolated, size_error
from gradquake.avalanche.graphs import from_edges
from gradquake.avalanche.probe import fixed_sample
from gradquake.avalanche.surrogates import permuted

TOTAL, SAMPLE = 60_000, 6_000


def layered(seed=0):
    """A gradient in 20 layers of unlike scale, some of heavy tails."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.standard_normal(20))
    layers = [scale * rng.standard_t(3 + 3 * (i % 2), TOTAL // 20) for i, scale in enumerate(scales)]
    return np.concatenate(layers).astype(np.float32)


@pytest.mark.parametrize("topology", ["random_regular", "erdos_renyi"])
def test_estimates_of_many_samples_scatter_about_the_whole_by_their_standard_error(topology):
    values = layered()
    whole = np.mean([Probe(topology, seed=seed).measure(values).size for seed in range(4)])
    deviations, errors = [], []
    for seed in range(80):
        probe = Probe(topology, seed=seed)
        drawn = values[fixed_sample(TOTAL, SAMPLE, seed)]
        deviations.append(extrapolated(probe.measure(drawn), SAMPLE, TOTAL)["size"] - whole)
        errors.append(size_error(probe, drawn, TOTAL))
    # A mean of 80, within 4.5 of its standard errors; and a bias of finite size.
    assert abs(np.mean(deviations)) < 4.5 * np.std(deviations) / np.sqrt(80) + 0.005 * whole
    # A standard deviation of 80 is known to 8 %, and an error of 16 blocks to 18 %, in the mean to 2 %.
    assert np.mean(errors) == pytest.approx(np.std(deviations), rel=0.3)
    assert np.mean(np.abs(deviations) < 2 * np.array(errors)) > 0.85


@pytest.mark.parametrize("topology", ["random_regular", "erdos_renyi"])
def test_arrangement_plays_no_part_on_these_graphs(topology):
    """A gradient in layers has the size of its permuted null, within the scatter over graphs."""
    values = layered()
    real = [Probe(topology, seed=seed).measure(values).size for seed in range(8)]
    null = [Probe(topology, seed=seed).measure(permuted(values, seed=seed)).size for seed in range(8)]
    scatter = np.sqrt((np.var(real, ddof=1) + np.var(null, ddof=1)) / 8)
    assert abs(np.mean(real) - np.mean(null)) < 4.5 * scatter


def test_the_whole_as_its_own_sample_has_no_error():
    values = layered()[:4000]
    probe = Probe("random_regular")
    assert size_error(probe, values, 4000) == 0
    found = probe.measure(values)
    assert extrapolated(found, 4000, 4000) == found.measured()


def test_only_counts_are_scaled():
    found = Probe("random_regular").measure(layered()[:4000])
    numbers = extrapolated(found, 4000, 12_000)
    for name, value in found.measured().items():
        assert numbers[name] == (3 * value if name in ("size", "area", "peak") else value)


def test_graphs_on_which_arrangement_plays_a_part_are_refused():
    graph = from_edges(5000, np.array([[0, 1]]))
    for probe in (Probe(), Probe("ring"), Probe("small_world_0.2"), Probe(graph)):
        with pytest.raises(InputError, match="arrangement of a gradient plays a part"):
            check_exchangeable(probe, 5000)
    with pytest.raises(InputError, match="sample is 1599; at least 1600 entries"):
        check_exchangeable(Probe("random_regular"), 1599)
