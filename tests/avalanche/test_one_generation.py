"""The prediction from the distribution alone, against draws of single nodes and against the null."""

import numpy as np
import pytest

from gradquake import InputError, Probe
from gradquake.avalanche.graphs import from_edges
from gradquake.avalanche.observables import observe
from gradquake.avalanche.one_generation import one_generation
from gradquake.avalanche.surrogates import permuted

DRAWS = 100_000


def gradient(kind, n, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "heavy":
        return rng.standard_t(2, n)
    return rng.laplace(size=n) + 0.2 if kind == "skewed" else rng.standard_normal(n)


def naive(values, graph, probe, seed=0):
    """Draw nodes, and neighbors along random edge ends, one by one; return s and its standard error."""
    rng = np.random.default_rng(seed)
    x = values / np.quantile(np.abs(values), probe.quantile)
    degrees = graph.degrees.astype(int)
    ends = np.repeat(np.arange(x.size), degrees)
    share = probe.alpha / (1 - probe.alpha)
    topplings = np.zeros(DRAWS)
    received = np.zeros(DRAWS)
    k = degrees[rng.integers(x.size, size=DRAWS)]
    node = np.repeat(np.arange(DRAWS), k)
    other = x[rng.integers(x.size, size=node.size)]
    degree = degrees[ends[rng.integers(ends.size, size=node.size)]] if node.size else node
    np.add.at(received, node, np.where(np.abs(other) > 1, other, 0) / degree)
    own = x[rng.integers(x.size, size=DRAWS)]
    for t in range(probe.max_steps):
        topplings += np.abs(own + t * share * received) > (1 - probe.alpha) ** -float(t)
    return x.size * topplings.mean(), x.size * topplings.std() / np.sqrt(DRAWS)


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
@pytest.mark.parametrize("topology", ["barabasi_albert", "erdos_renyi", "ring"])
@pytest.mark.parametrize(
    ("alpha", "quantile", "max_steps"), [(0.3, 0.9, 20), (0.1, 0.6, 20), (0.5, 0.9, 2)]
)
def test_the_prediction_is_that_of_single_draws(kind, topology, alpha, quantile, max_steps):
    values = gradient(kind, 3000)
    probe = Probe(topology, alpha=alpha, quantile=quantile, max_steps=max_steps)
    graph = probe.graph_on(values.size)
    expected, error = naive(values, graph, probe)
    # The grid costs up to some tenths of a percent.
    assert one_generation(values, graph, probe) == pytest.approx(
        expected, abs=4.5 * error + 0.005 * expected
    )


def test_without_neighbors_it_is_the_isolated_size():
    values = gradient("heavy", 500)
    probe = Probe(from_edges(500, np.empty((0, 2), int)))
    predicted = one_generation(values, probe.graph, probe)
    assert predicted == pytest.approx(probe.measure(values).isolated, rel=0.005)


@pytest.mark.parametrize(("kind", "least", "most"), [("normal", 0.88, 0.94), ("heavy", 0.55, 0.85)])
def test_it_explains_less_than_the_permuted_null_has(kind, least, most):
    """Sizes of permuted gradients at N = 40,000; one generation is always too few."""
    values = gradient(kind, 40_000)
    probe = Probe()
    null = np.mean([probe.measure(permuted(values, seed=seed)).size for seed in range(3)])
    predicted = one_generation(values, probe.graph_on(values.size), probe)
    assert least < predicted / null < most
    assert predicted > probe.measure(values).isolated


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scale_and_arrangement_play_no_part(dtype):
    values = gradient("normal", 1000).astype(dtype)
    graph = Probe().graph_on(1000)
    expected = one_generation(values, graph, Probe())
    assert one_generation(permuted(4 * values), graph, Probe()) == pytest.approx(expected, rel=1e-9)


def test_gradients_without_an_avalanche_and_without_a_threshold():
    graph = Probe("ring").graph_on(50)
    assert one_generation(np.zeros(50), graph, Probe()) == 0
    assert one_generation(np.ones(50), graph, Probe()) == 0
    one = np.zeros(50)
    one[3] = 1
    assert one_generation(one, graph, Probe(max_steps=7)) == 7


def test_bad_gradients_are_refused():
    graph = Probe("ring").graph_on(50)
    for values, said in ((np.full(50, np.nan), "not finite"), (np.ones(49), "49"), ([1, 2], "dtype")):
        with pytest.raises(InputError, match=said):
            one_generation(values, graph, Probe())


def test_it_is_an_observable():
    values = gradient("normal", 200)
    found = observe("one_generation", [Probe()], [values])
    assert found["one_generation"].tolist() == [one_generation(values, Probe().graph_on(200), Probe())]
