"""Kicks, loading, clusters, generations: known answers, and properties on any gradient."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradquake import InputError, Probe, relax
from gradquake.avalanche import criticality
from gradquake.avalanche.criticality import KICKS, MOST_STEPS
from gradquake.avalanche.graphs import Graph, from_edges
from gradquake.avalanche.topologies import TOPOLOGIES, build, random_regular, ring
from gradquake.errors import NotAtRestError
from kernel_cases import DTYPES, dtypes, examples, gradients, seeds


def normal(seed, n, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


def kicked_nodes(seed, n, count):
    stream = np.random.SeedSequence(seed, spawn_key=(KICKS, n))
    return np.random.default_rng(stream).integers(n, size=count)


def without_edges(n):
    return from_edges(n, np.empty((0, 2), np.int64))


def assert_equal(first, second):
    for name in ("size", "duration", "area", "truncated", "started", "branching_ratio"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


# Known answers


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_edges_a_kick_topples_one_node_once(dtype):
    gradient = normal(0, 200, dtype)
    kicks = Probe(without_edges(200)).kicks(gradient, 500)
    for name in ("size", "duration", "area"):
        assert getattr(kicks, name).tolist() == [1] * 500
    assert not kicks.truncated.any()
    assert (kicks.mean, kicks.largest, kicks.branching_ratio) == (1.0, 1, 0.0)


def test_on_a_star_a_kicked_leaf_topples_the_center():
    # The center is at the threshold, the largest magnitude. A leaf hands it alpha tau, and it topples;
    # it hands each leaf too little. A kick of the center topples nothing else.
    leaves = 9
    gradient = np.array([-2.0, *[0.0, -0.5, -1e-9] * 3])
    star = from_edges(leaves + 1, [(0, leaf) for leaf in range(1, leaves + 1)])
    gradient[1:] = -np.abs(gradient[1:])
    gradient[3] = 0.0
    kicks = Probe(star, quantile=1.0, seed=4).kicks(gradient, 300)
    nodes = kicked_nodes(4, leaves + 1, 300)
    # A leaf of value 0 is raised to +tau: it pulls the center away from its threshold.
    spreads = gradient[nodes] < 0
    spreads &= nodes != 0
    expected = np.where(spreads, 2, 1)
    assert set(nodes[~spreads]) > {0}
    for name in ("size", "duration", "area"):
        np.testing.assert_array_equal(getattr(kicks, name), expected)
    assert kicks.branching_ratio == spreads.sum() / expected.sum()


def primed(graph, share, seed):
    """A share of the nodes topples as soon as one neighbor does; the others never do."""
    rng = np.random.default_rng(seed)
    gradient = np.where(rng.random(graph.n_nodes) < share, 0.95, 0.0)
    gradient[0] = 1.0
    return gradient


def test_a_tree_of_primed_nodes_has_the_branching_ratio_of_theory():
    # With degree 4 and a share p of primed nodes, a kick has 4 p children, and each child 3 p of its
    # own: mean size 1 + 4 p / (1 - 3 p). It is critical at p = 1/3.
    graph = random_regular(100_001, seed=1)
    for share in (0.05, 0.1, 0.2):
        kicks = Probe(graph=graph, quantile=1.0).kicks(primed(graph, share, 2), 100_000)
        expected = 1 + 4 * share / (1 - 3 * share)
        spread = kicks.size.std() / np.sqrt(len(kicks))
        assert abs(kicks.mean - expected) < 5 * spread + 0.01
        assert kicks.branching_ratio == pytest.approx(1 - 1 / kicks.mean, abs=1e-12)


def test_at_the_critical_share_the_largest_kick_grows_with_n_and_below_it_does_not():
    sizes = (1001, 8001, 64_001)
    found = {}
    for share in (0.1, 1 / 3):
        graphs = [random_regular(n, seed=1) for n in sizes]
        found[share] = [Probe(graph=g, quantile=1.0).kicks(primed(g, share, 2), 20_000) for g in graphs]
    largest = {share: [kicks.largest for kicks in of] for share, of in found.items()}
    slopes = {share: np.polyfit(np.log(sizes), np.log(of), 1)[0] for share, of in largest.items()}
    # Mean-field percolation: the largest cluster grows as N^(2/3) at the critical share.
    assert 0.5 < slopes[1 / 3] < 0.85
    assert slopes[0.1] < 0.25
    assert [kicks.branching_ratio > 0.9 for kicks in found[1 / 3]] == [True] * 3
    assert all(kicks.branching_ratio < 0.45 for kicks in found[0.1])


def test_loading_without_edges_topples_the_largest_in_turn():
    # Without neighbors a node that topples falls to (1 - alpha) tau and rises with all others.
    gradient = np.array([1.0, -0.9, 0.8, 0.1])
    loads = Probe(without_edges(4), quantile=1.0, alpha=0.25).load(gradient, 3)
    assert loads.size.tolist() == loads.area.tolist() == loads.duration.tolist() == [1, 1, 1]
    assert loads.branching_ratio == 0.0


def test_loading_reaches_equal_magnitudes_together():
    gradient = np.array([1.0, -1.0, 0.5, 1.0, 0.0])
    loads = Probe(without_edges(5), quantile=1.0).load(gradient, 1)
    assert (loads.size.tolist(), loads.duration.tolist(), loads.started.tolist()) == ([3], [1], [3])
    assert loads.branching_ratio == 0.0


def test_loading_that_never_comes_to_rest_ends_there():
    # With one sign nothing is lost: the sum grows with each load until it exceeds N tau.
    loads = Probe("ring", quantile=1.0).load(np.linspace(0.5, 1, 9), 1000)
    assert 1 < len(loads) < 1000
    assert loads.truncated.tolist() == [False] * (len(loads) - 1) + [True]
    assert loads.duration[-1] == MOST_STEPS
    assert loads.endless == 1 / len(loads)
    assert loads.largest < loads.size[-1]
    ended = loads.size[:-1]
    assert (loads.mean, loads.median) == (ended.mean(), np.median(ended))
    assert loads.branching_ratio == (ended.sum() - loads.started[:-1].sum()) / ended.sum()


def pair_beside_a_ring(first, second, n=20):
    """Two nodes that are joined only to each other, and a ring at rest; the threshold is 1."""
    ring_edges = [(i, (i + 1) % n) for i in range(n)]
    graph = from_edges(n + 2, [*ring_edges, (n, n + 1)])
    return Probe(graph=graph, quantile=0.9, seed=1), np.array([1.0, *[0.1] * (n - 1), first, second])


def test_two_nodes_of_a_large_sum_never_come_to_rest_and_are_set_aside():
    # They hand 0.3 of their values to and fro, and the one that topples always has the sum over 1.7.
    probe, gradient = pair_beside_a_ring(2.0, 1.5)
    kicks = probe.kicks(gradient, 500)
    assert (kicks.endless, kicks.size.tolist()) == (0.0, [1] * 500)
    with pytest.raises(NotAtRestError, match="does not come to rest in 10000 steps"):
        probe.load(gradient)


def test_a_kick_that_never_comes_to_rest_has_no_size():
    # At rest while neither is above the threshold, but not if one is raised to it: 1.8 / 1.7 > 1.
    probe, gradient = pair_beside_a_ring(0.8, 0.8)
    probe = Probe(probe.graph, quantile=1.0, seed=1)
    kicks = probe.kicks(gradient, 500)
    nodes = kicked_nodes(1, 22, 500)
    np.testing.assert_array_equal(kicks.truncated, nodes >= 20)
    assert set(kicks.duration[kicks.truncated]) == {MOST_STEPS}
    assert kicks.endless == (nodes >= 20).mean() > 0
    ended = kicks.size[nodes < 20]
    assert (kicks.median, kicks.mean, kicks.largest) == (1.0, ended.mean(), ended.max())
    assert kicks.branching_ratio == (ended.sum() - ended.size) / ended.sum()
    pair = Probe(from_edges(2, [(0, 1)]), quantile=1.0).kicks(np.array([1.0, 0.95]), 9)
    assert (pair.endless, pair.largest) == (1.0, 0)
    assert np.isnan([pair.mean, pair.median, pair.branching_ratio]).all()


def test_clusters_of_a_ring():
    # Neighbors on the ring are at distances 1 and 2.
    gradient = np.zeros(20)
    gradient[[0, 1, 3, 8, 10, 15]] = 3, -3, 3, 3, 3, -3
    clusters = Probe("ring", quantile=0.5).clusters(gradient)
    assert clusters.sizes.tolist() == [3, 2, 1]
    assert (clusters.number, clusters.largest, clusters.mean) == (3, 3, 2.0)
    assert repr(clusters) == "Clusters(number=3, largest=3, mean=2)"


def test_nothing_above_the_threshold_has_no_cluster_and_no_generation():
    probe, gradient = Probe("ring"), np.ones(30)
    clusters, generations = probe.clusters(gradient), probe.generations(gradient)
    assert (clusters.number, clusters.largest, generations.topplings.size) == (0, 0, 0)
    assert np.isnan([clusters.mean, generations.first_share]).all()
    assert probe.isolated_size(gradient) == 0


# Properties


@examples(60)
@given(
    gradient=gradients(300),
    quantile=st.floats(0, 1),
    alpha=st.floats(0.01, 0.99),
    max_steps=st.sampled_from([1, 20, 50]),
)
def test_isolated_size_is_the_size_on_a_graph_without_edges(gradient, quantile, alpha, max_steps):
    probe = Probe(
        graph=without_edges(gradient.size), alpha=alpha, quantile=quantile, max_steps=max_steps
    )
    avalanche = probe.measure(gradient)
    assert probe.isolated_size(gradient) == avalanche.size == avalanche.isolated
    other = Probe("ring", alpha=alpha, quantile=quantile, max_steps=max_steps)
    if gradient.size >= 5:
        assert other.measure(gradient).isolated == avalanche.isolated
    assert np.isnan(avalanche.isolated_share) or avalanche.isolated_share == 1


@examples(60)
@given(
    n=st.integers(5, 400),
    seed=seeds,
    topology=st.sampled_from(["barabasi_albert", "ring", "erdos_renyi"]),
    alpha=st.floats(0.05, 0.6),
    dtype=dtypes,
)
def test_generations_are_those_of_the_avalanche(n, seed, topology, alpha, dtype):
    gradient, probe = normal(seed, n, dtype), Probe(topology, alpha=alpha)
    avalanche, generations = probe.measure(gradient), probe.generations(gradient)
    topplings = generations.topplings
    assert (topplings.sum(), topplings.size) == (avalanche.size, avalanche.duration)
    assert topplings.max() == avalanche.peak
    unstable = np.count_nonzero(np.abs(gradient).astype(float) > avalanche.threshold)
    assert topplings[0] == unstable == probe.clusters(gradient).sizes.sum()
    assert generations.first_share == unstable / avalanche.size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_kick_is_relax_of_the_raised_gradient(topology, dtype):
    gradient, probe = normal(3, 121, dtype), Probe(topology, seed=2, max_steps=1000)
    avalanche, graph = probe.measure(gradient), build(topology, 121, 2)
    tau, kind = avalanche.threshold, np.dtype(dtype).type
    above = kind(tau) if kind(tau) > tau else np.nextafter(kind(tau), kind(np.inf))
    assert float(above) > tau >= float(np.nextafter(above, kind(0)))
    kicks = probe.kicks(gradient, 40)
    for k, node in enumerate(kicked_nodes(2, 121, 40)):
        raised = avalanche.relaxed.copy()
        raised[node] = np.copysign(above, raised[node])
        alone = relax(raised, graph, threshold=tau, max_steps=MOST_STEPS)
        told = kicks.size[k], kicks.duration[k], kicks.area[k], kicks.truncated[k]
        assert told == (alone.size, alone.duration, alone.area, alone.truncated)


@examples(40)
@given(n=st.integers(5, 200), seed=seeds, dtype=dtypes)
def test_kicks_leave_the_gradient_and_can_be_continued(n, seed, dtype):
    gradient, probe = normal(seed, n, dtype), Probe(seed=seed)
    before = gradient.tobytes()
    few, many = probe.kicks(gradient, 10), probe.kicks(gradient, 50)
    loads = probe.load(gradient, 5)
    assert gradient.tobytes() == before
    assert many.size[:10].tolist() == few.size.tolist()
    assert len(loads) <= 5
    assert (many.size >= many.area).all()
    assert (many.area >= 1).all()
    assert (many.size >= many.duration).all()


@examples(40)
@given(n=st.integers(5, 200), seed=seeds, dtype=dtypes)
def test_a_tiny_alpha_lets_only_the_kicked_node_topple(n, seed, dtype):
    # The share must be less than the gap between the largest magnitude at rest and the threshold.
    alpha = 1e-4
    gradient = normal(seed, n, dtype)
    relaxed = Probe("ring", alpha=alpha, max_steps=MOST_STEPS).measure(gradient)
    second = np.sort(np.abs(relaxed.relaxed))[-1]
    kicks = Probe("ring", alpha=alpha).kicks(gradient, 20)
    if second < relaxed.threshold * (1 - 0.3 * alpha):
        assert kicks.size.tolist() == [1] * 20
    assert (kicks.size >= 1).all()


@examples(40)
@given(n=st.integers(5, 120), seed=seeds, power=st.integers(-8, 8))
def test_scale_sign_and_names_of_nodes_do_not_matter(n, seed, power):
    rng = np.random.default_rng(seed)
    graph, gradient = build("erdos_renyi", n, 1), rng.integers(-64, 65, n) / 64
    gradient = gradient * rng.choice([1.0, 0.5], n)
    probe = Probe(graph, alpha=0.25, quantile=0.8)
    tau = probe.measure(gradient).threshold
    if tau == 0:
        return
    same = Probe(graph, alpha=0.25, quantile=0.8)
    for other in (gradient * 2.0**power, -gradient):
        # 0 becomes positive under a kick, whatever the sign of the others.
        if (probe.measure(gradient).relaxed != 0).all():
            assert_equal(same.kicks(other, 30), probe.kicks(gradient, 30))
            assert_equal(same.load(other, 5), probe.load(gradient, 5))
        assert same.clusters(other).sizes.tolist() == probe.clusters(gradient).sizes.tolist()
        assert same.isolated_size(other) == probe.isolated_size(gradient)
    order = rng.permutation(n)
    place = np.argsort(order)
    edges = [
        (place[i], place[j])
        for i in range(n)
        for j in graph.indices[graph.indptr[i] : graph.indptr[i + 1]]
        if i < j
    ]
    renamed = Probe(from_edges(n, edges), alpha=0.25, quantile=0.8)
    assert renamed.clusters(gradient[order]).sizes.tolist() == probe.clusters(gradient).sizes.tolist()
    assert renamed.isolated_size(gradient[order]) == probe.isolated_size(gradient)


def test_the_seed_draws_the_nodes_and_the_graph():
    gradient = normal(1, 300)
    assert_equal(Probe(seed=1).kicks(gradient, 99), Probe(seed=1).kicks(gradient, 99))
    first, second = (Probe(ring(300), seed=s).kicks(gradient, 999).size.tolist() for s in (1, 2))
    assert first != second


def test_a_computed_graph_gives_the_same_as_its_arrays(monkeypatch):
    gradient = normal(1, 401)
    computed = ring(401)
    stored = Graph(computed.indptr, computed.indices)
    monkeypatch.setattr(computed, "computed_from", 1)
    for name in ("kicks", "load"):
        assert_equal(
            getattr(Probe(computed), name)(gradient, 50), getattr(Probe(stored), name)(gradient, 50)
        )
    first, second = (Probe(g).clusters(gradient).sizes.tolist() for g in (computed, stored))
    assert first == second


def test_a_truncated_avalanche_is_relaxed_to_its_end_first():
    gradient = normal(5, 401)
    short, long = Probe("ring", max_steps=1), Probe("ring", max_steps=1000)
    assert short.measure(gradient).truncated
    assert not long.measure(gradient).truncated
    assert_equal(short.kicks(gradient, 200), long.kicks(gradient, 200))
    assert_equal(short.load(gradient, 50), long.load(gradient, 50))


def test_a_view_is_measured_as_its_copy():
    wide = normal(1, 600).reshape(300, 2)
    view, copy = wide[:, 0], wide[:, 0].copy()
    probe = Probe()
    assert_equal(probe.kicks(view, 20), probe.kicks(copy, 20))
    assert probe.isolated_size(view) == probe.isolated_size(copy)
    assert probe.generations(view).topplings.tolist() == probe.generations(copy).topplings.tolist()
    assert probe.clusters(view).sizes.tolist() == probe.clusters(copy).sizes.tolist()


def test_results_show_themselves():
    kicks = Probe(without_edges(50)).kicks(normal(0, 50), 3)
    assert repr(kicks) == (
        "Responses(3 avalanches: mean size 1, largest 1, longest 1, branching ratio 0, 0 truncated)"
    )
    assert repr(Probe().generations(normal(0, 200))).startswith("Generations([20, ")


# Refusals


@pytest.mark.parametrize("name", ["kicks", "load"])
def test_no_number_of_avalanches_but_a_positive_one(name):
    with pytest.raises(InputError, match="n is 0; an integer of at least 1 is needed"):
        getattr(Probe(), name)(normal(0, 30), 0)


@pytest.mark.parametrize("name", ["kicks", "load", "clusters", "generations", "isolated_size"])
def test_the_errors_of_measure(name):
    measure = getattr(Probe("ring"), name)
    with pytest.raises(InputError, match=re.escape("has 1 entry that is not finite, at 3 (nan)")):
        measure(np.array([1.0, 2, 3, np.nan, 5, 6]))
    with pytest.raises(InputError, match="dtype int64"):
        measure(np.arange(9))
    if name != "isolated_size":  # which needs no graph
        with pytest.raises(InputError, match="n is 3; an integer of at least 5 is needed"):
            measure(np.arange(3.0))


@pytest.mark.parametrize("name", ["kicks", "load"])
def test_a_state_that_does_not_come_to_rest_is_refused(name, monkeypatch):
    with pytest.raises(NotAtRestError, match="the threshold is 0, above which nodes topple without end"):
        getattr(Probe(), name)(np.zeros(30))
    # With a threshold below the mean of entries of one sign, some node is always above it.
    gradient = np.concatenate([np.full(20, 1.0), np.full(20, 3.0)])
    with pytest.raises(NotAtRestError, match="does not come to rest in 10000 steps; a larger quantile"):
        getattr(Probe("ring", quantile=0.1), name)(gradient)
    huge = np.finfo(np.float32).max * np.linspace(0.1, 0.2, 40).astype(np.float32)
    with pytest.raises(InputError, match="so large that its cascade overflows float32"):
        getattr(Probe("ring"), name)(huge)
    monkeypatch.setattr(criticality, "MOST_STEPS", 1)
    with pytest.raises(NotAtRestError, match="in 1 steps"):
        getattr(Probe("ring", max_steps=1), name)(normal(5, 401))
