"""The topologies: exact structure, networkx as the reference, and what is refused."""

import itertools
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gradquake import InputError, Probe
from gradquake.avalanche import graphs, topologies
from gradquake.avalanche.graphs import Graph, from_edges
from gradquake.avalanche.topologies import TOPOLOGIES, Topology, build
from gradquake.scrutiny.topologies import topologies_of

RANDOM = {
    "barabasi_albert",
    "small_world_0.05",
    "small_world_0.2",
    "erdos_renyi",
    "random_regular",
}
N = 1001  # 4 h + 1 for the computational graph


def edges_of(graph):
    """The edges as sorted pairs, read off the rows by hand."""
    rows = [graph.indices[a:b].tolist() for a, b in itertools.pairwise(graph.indptr.tolist())]
    return sorted((i, j) for i, row in enumerate(rows) for j in row if i < j)


def to_networkx(graph):
    result = nx.empty_graph(graph.n_nodes)
    result.add_edges_from(edges_of(graph))
    return result


def from_networkx(graph):
    return sorted(tuple(sorted(edge)) for edge in graph.edges)


def assert_simple_symmetric_and_sorted(graph):
    """Check every promise of the CSR form independently of Graph's own validation."""
    n, indptr, indices = graph.n_nodes, graph.indptr, graph.indices
    assert indptr.shape == (n + 1,)
    assert indptr[0] == 0
    assert indptr[-1] == indices.size == 2 * graph.n_edges
    rows = np.repeat(np.arange(n), np.diff(indptr))
    assert ((indices >= 0) & (indices < n) & (indices != rows)).all()
    # One number for each entry: strictly rising means ascending rows and no entry twice.
    codes = rows * n + indices
    assert (np.diff(codes) > 0).all()
    np.testing.assert_array_equal(np.sort(indices * np.int64(n) + rows), codes)


def n_edges_of(topology, n):
    """The exact number of edges by the definition of each topology."""
    return {
        "barabasi_albert": 2 * (n - 2),  # the star has m, each of n - m - 1 more nodes brings m
        "computational": 7 * (n // 4),  # a clique of 4 has 6, and one more to the output bias
    }.get(topology, 2 * n)


# Every topology


@pytest.mark.parametrize("seed", [0, 1, 2**40])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("n", [5, 9, 13, 85, N])
def test_every_topology_is_simple_with_the_exact_number_of_edges(n, topology, seed):
    graph = build(topology, n, seed)
    assert_simple_symmetric_and_sorted(graph)
    assert graph.n_nodes == n
    assert graph.n_edges == n_edges_of(topology, n)
    assert graph.indptr.dtype == graph.indices.dtype == np.int32
    assert graph.degrees.tolist() == np.bincount(graph.indices, minlength=n).tolist()
    # Graph(...) validates; the generators do not.
    assert edges_of(Graph(graph.indptr, graph.indices)) == edges_of(graph)


@pytest.mark.parametrize("topology", sorted(set(TOPOLOGIES) - {"computational"}))
@pytest.mark.parametrize("n", range(5, 14))
def test_the_smallest_sizes(n, topology):
    for seed in range(20):
        graph = build(topology, n, seed)
        assert_simple_symmetric_and_sorted(graph)
        assert graph.n_edges == n_edges_of(topology, n)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_mean_degree_is_4_but_for_what_the_ends_lack(topology):
    mean = build(topology, N, 0).degrees.mean()
    # 4 - 8 / N for barabasi_albert, and 14 h / (4 h + 1) for the network's own graph.
    expected = {"barabasi_albert": 4 - 8 / N, "computational": 3500 / N}.get(topology, 4)
    assert mean == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_one_seed_gives_one_graph_and_another_seed_another(topology):
    first, again, other = (build(topology, N, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.indptr, again.indptr)
    np.testing.assert_array_equal(first.indices, again.indices)
    assert (edges_of(first) != edges_of(other)) == (topology in RANDOM)


@pytest.mark.parametrize("topology", ["barabasi_albert", "erdos_renyi"])
def test_sizes_from_one_seed_are_independent_draws(topology):
    small, large = (set(edges_of(build(topology, n, 3))) for n in (500, 501))
    assert len(small & large) < 0.2 * len(small)


@pytest.mark.parametrize("topology", ["ring", "square_lattice", "computational", "barabasi_albert"])
def test_these_are_connected_at_every_size(topology):
    for n in (5, 9, 13, 85, N):
        assert nx.is_connected(to_networkx(build(topology, n, 0)))


# Against networkx


@pytest.mark.parametrize("n", [*range(5, 14), 100, 101])
def test_ring_is_the_circulant_graph_of_1_and_2(n):
    assert edges_of(topologies.ring(n)) == from_networkx(nx.circulant_graph(n, [1, 2]))


@pytest.mark.parametrize("n", [*range(5, 14), 99, 100, 101, 110, 111])
def test_square_lattice_is_the_circulant_graph_of_1_and_its_side(n):
    side = min(range(1, n), key=lambda length: abs(length - n**0.5))
    assert edges_of(topologies.square_lattice(n)) == from_networkx(nx.circulant_graph(n, [1, side]))


def test_square_lattice_is_a_lattice_in_the_plane():
    # The steps 1 and L commute, so that every node is on 4 squares; and there are no triangles.
    lattice = to_networkx(topologies.square_lattice(400))
    assert sum(nx.triangles(lattice).values()) == 0
    for node in (0, 7, 399):
        assert lattice.has_edge((node + 1) % 400, (node + 21) % 400)
        assert lattice.has_edge((node + 20) % 400, (node + 21) % 400)
    # Node 210 = 10 * 20 + 10 would be 20 steps off on a torus of 20 x 20; the helical boundary
    # saves one, since 210 - 400 = -9 * 20 - 10.
    assert nx.eccentricity(lattice, 0) == 19


def pooled_degrees(draws):
    return np.concatenate([[degree for _, degree in graph.degree] for graph in draws])


def draw(make, count, n):
    return [to_networkx(make(n, seed=seed)) for seed in range(count)]


def draw_reference(make, count):
    return [make(1000 + seed) for seed in range(count)]


def chi_square_p(first, second, highest):
    """The p-value that two samples of degrees have one distribution; the tail in one class."""
    table = [np.bincount(np.minimum(x, highest), minlength=highest + 1) for x in (first, second)]
    table = np.array(table)
    return stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue


def test_barabasi_albert_has_the_degrees_of_networkx():
    ours = draw(topologies.barabasi_albert, 10, 1000)
    reference = draw_reference(lambda seed: nx.barabasi_albert_graph(1000, 2, seed=seed), 10)
    first, second = pooled_degrees(ours), pooled_degrees(reference)
    assert stats.ks_2samp(first, second).pvalue > 0.05
    assert chi_square_p(first, second, 25) > 0.01


def test_barabasi_albert_has_the_exact_degree_distribution_of_the_model():
    # P(k) = 2 m (m + 1) / (k (k + 1) (k + 2)) for large N (Dorogovtsev et al. 2000); m = 2.
    degrees = pooled_degrees(draw(topologies.barabasi_albert, 10, 3000))
    for k in (2, 3, 4, 6, 10):
        expected = 12 / (k * (k + 1) * (k + 2))
        error = (expected / degrees.size) ** 0.5
        assert (degrees == k).mean() == pytest.approx(expected, abs=5 * error + 1e-3)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_largest_barabasi_albert_degree_grows_as_the_square_root(m):
    sizes = [100, 1000, 10_000]
    largest = [
        np.mean([topologies.barabasi_albert(n, m, seed=seed).degrees.max() for seed in range(20)])
        for n in sizes
    ]
    slope = np.polyfit(np.log(sizes), np.log(largest), 1)[0]
    assert slope == pytest.approx(0.5, abs=0.06)


def test_barabasi_albert_clusters_as_in_networkx():
    ours = draw(topologies.barabasi_albert, 10, 1000)
    reference = draw_reference(lambda seed: nx.barabasi_albert_graph(1000, 2, seed=seed), 10)
    first, second = ([nx.average_clustering(g) for g in draws] for draws in (ours, reference))
    assert stats.ttest_ind(first, second).pvalue > 0.01
    assert np.mean(first) == pytest.approx(np.mean(second), rel=0.2)


@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_barabasi_albert_with_other_m_starts_from_a_star(m):
    star = to_networkx(topologies.barabasi_albert(m + 1, m, seed=0))
    assert nx.utils.graphs_equal(star, nx.star_graph(m))
    larger = topologies.barabasi_albert(50, m, seed=0)
    assert_simple_symmetric_and_sorted(larger)
    assert larger.n_edges == m * (50 - m)
    # Every later node is joined to exactly m older ones.
    older = [sum(i < node for i, _ in [e for e in edges_of(larger) if e[1] == node])
             for node in range(m + 1, 50)]  # fmt: skip
    assert older == [m] * (49 - m)


@pytest.mark.parametrize("p", [0.05, 0.2])
def test_small_world_is_that_of_networkx(p):
    ours = draw(lambda n, seed: topologies.small_world(n, p, seed=seed), 10, 1000)
    reference = draw_reference(lambda seed: nx.watts_strogatz_graph(1000, 4, p, seed=seed), 10)
    first, second = ([nx.average_clustering(g) for g in draws] for draws in (ours, reference))
    assert np.mean(first) == pytest.approx(np.mean(second), rel=0.04)
    assert stats.ttest_ind(first, second).pvalue > 0.01
    assert chi_square_p(pooled_degrees(ours), pooled_degrees(reference), 8) > 0.01


@pytest.mark.parametrize("p", [0.05, 0.2])
def test_small_world_keeps_the_share_1_minus_p_of_the_ring(p):
    n = 20_000
    rewired = topologies.small_world(n, p, seed=0)
    kept = np.intersect1d(
        *(np.array(edges_of(g)) @ [n, 1] for g in (rewired, topologies.ring(n)))
    ).size / (2 * n)
    # A binomial share of 2 n edges; a new edge falls on the ring with a chance of only 4 / n.
    assert kept == pytest.approx(1 - p, abs=4 * (p * (1 - p) / (2 * n)) ** 0.5 + 1e-3)


def test_small_world_without_rewiring_is_the_ring_and_with_all_of_it_does_not_cluster():
    assert edges_of(topologies.small_world(500, 0, seed=1)) == edges_of(topologies.ring(500))
    # The ring with k = 4 clusters with 1/2; a random graph with about 4 / n.
    assert nx.average_clustering(to_networkx(topologies.ring(500))) == 0.5
    assert nx.average_clustering(to_networkx(topologies.small_world(500, 1, seed=1))) < 0.03


def test_small_world_cannot_rewire_a_complete_graph():
    assert edges_of(topologies.small_world(5, 1.0, seed=0)) == list(itertools.combinations(range(5), 2))


def test_erdos_renyi_has_the_degrees_of_networkx():
    ours = draw(topologies.erdos_renyi, 10, 1000)
    reference = draw_reference(lambda seed: nx.gnm_random_graph(1000, 2000, seed=seed), 10)
    assert chi_square_p(pooled_degrees(ours), pooled_degrees(reference), 11) > 0.01


def test_erdos_renyi_draws_every_graph_equally_often():
    # On 6 nodes 12 of 15 edges stand: 455 graphs, told apart by the 3 edges that lack.
    everything = list(itertools.combinations(range(6), 2))
    draws = 455 * 5
    lacking = [
        tuple(sorted(set(everything) - set(edges_of(topologies.erdos_renyi(6, seed=seed)))))
        for seed in range(draws)
    ]
    counts = list(np.unique(lacking, axis=0, return_counts=True)[1])
    counts += [0] * (455 - len(counts))
    assert stats.chisquare(counts).pvalue > 0.01


def test_random_regular_is_that_of_networkx():
    ours = draw(topologies.random_regular, 30, 200)
    reference = draw_reference(lambda seed: nx.random_regular_graph(4, 200, seed=seed), 30)
    assert set(pooled_degrees(ours)) == {4}
    triangles = [[sum(nx.triangles(g).values()) / 3 for g in draws] for draws in (ours, reference)]
    # Poisson with mean (d - 1)^3 / 6 = 4.5 for large N (Bollobás 1980).
    for counts in triangles:
        assert np.mean(counts) == pytest.approx(4.5, abs=4 * (4.5 / 30) ** 0.5)
    assert all(nx.is_connected(g) for g in ours)


def test_random_regular_on_6_nodes_is_every_octahedron_equally_often():
    # The complement of a 4-regular graph on 6 nodes is one of its 15 perfect matchings.
    draws = 1500
    matchings = [
        tuple(sorted(nx.complement(to_networkx(topologies.random_regular(6, seed=seed))).edges))
        for seed in range(draws)
    ]
    counts = np.unique(matchings, axis=0, return_counts=True)[1]
    assert counts.size == 15
    # The pairing is only asymptotically uniform; on so few nodes symmetry alone makes it so.
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (topologies.erdos_renyi, lambda seed: nx.gnm_random_graph(500, 1000, seed=seed)),
        (
            lambda n, seed: topologies.small_world(n, 0.2, seed=seed),
            lambda seed: nx.watts_strogatz_graph(500, 4, 0.2, seed=seed),
        ),
    ],
    ids=["erdos_renyi", "small_world"],
)
def test_as_much_is_connected_as_in_networkx(make, reference):
    ours, theirs = draw(make, 20, 500), draw_reference(reference, 20)
    first, second = (
        [len(max(nx.connected_components(g), key=len)) for g in draws] for draws in (ours, theirs)
    )
    assert np.mean(first) == pytest.approx(np.mean(second), abs=2)


# The network's own graph


def expected_computational(hidden):
    """Build the graph from what it means: parameters that meet in a neuron are neighbors."""
    names = [("W1", unit, source) for unit in range(hidden) for source in range(2)]
    names += [("b1", unit) for unit in range(hidden)]
    names += [("W2", unit) for unit in range(hidden)]
    names += [("b2",)]
    graph = nx.Graph()
    graph.add_nodes_from(names)
    for unit in range(hidden):
        meeting = [name for name in names if len(name) > 1 and name[1] == unit]
        assert len(meeting) == 4
        graph.add_edges_from(itertools.combinations(meeting, 2))
        graph.add_edge(("W2", unit), ("b2",))
    return nx.relabel_nodes(graph, {name: place for place, name in enumerate(names)})


@pytest.mark.parametrize("hidden", [1, 2, 3, 20, 500])
def test_computational_joins_what_meets_in_a_neuron(hidden):
    graph = topologies.computational(hidden)
    assert graph.n_nodes == 4 * hidden + 1
    assert graph.n_edges == 7 * hidden
    assert edges_of(graph) == from_networkx(expected_computational(hidden))
    assert graph.degrees[-1] == hidden


def test_computational_with_one_hidden_unit_by_hand():
    # W1 is 0 and 1, b1 is 2, W2 is 3, b2 is 4.
    by_hand = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (3, 4)]
    assert edges_of(topologies.computational(1)) == by_hand


# Graphs of one's own


@settings(deadline=None, derandomize=True, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40))
def test_from_edges_and_from_scipy_do_not_mind_the_order(seed, n):
    rng = np.random.default_rng(seed)
    everything = list(itertools.combinations(range(n), 2))
    edges = [edge for edge in everything if rng.random() < 0.2]
    shuffled = rng.permuted(rng.permutation(np.array(edges, int).reshape(-1, 2)), axis=1)

    graph = graphs.from_edges(n, shuffled)
    assert_simple_symmetric_and_sorted(graph)
    assert (graph.n_nodes, edges_of(graph)) == (n, edges)

    both = rng.permutation(np.concatenate([shuffled, shuffled[:, ::-1]]))
    matrix = sp.coo_array((rng.standard_normal(len(both)), tuple(both.T)), shape=(n, n))
    for form in (matrix, matrix.tocsr(), matrix.tocsc(), sp.coo_matrix(matrix)):
        other = graphs.from_scipy(form)
        assert_simple_symmetric_and_sorted(other)
        assert (other.n_nodes, edges_of(other)) == (n, edges)


def test_from_scipy_sorts_a_row_that_is_not():
    matrix = sp.csr_array(([1, 1, 1, 1], [2, 1, 0, 0], [0, 2, 3, 4]), shape=(3, 3))
    assert edges_of(graphs.from_scipy(matrix)) == [(0, 1), (0, 2)]


def test_from_scipy_takes_a_networkx_graph():
    karate = nx.karate_club_graph()
    graph = graphs.from_scipy(nx.to_scipy_sparse_array(karate))
    assert edges_of(graph) == from_networkx(karate)


def test_from_scipy_passes_over_stored_zeros():
    matrix = sp.coo_array(([1.0, 1.0, 0.0, 0.0], ([0, 1, 0, 2], [1, 0, 2, 2])), shape=(3, 3))
    assert edges_of(graphs.from_scipy(matrix)) == [(0, 1)]


@pytest.mark.parametrize("edges", [[], np.empty((0, 2), int), np.empty((0, 2))])
def test_from_edges_without_an_edge(edges):
    graph = graphs.from_edges(3, edges)
    assert graph.degrees.tolist() == [0, 0, 0]
    assert graph.n_edges == 0


@pytest.mark.parametrize(
    ("n", "edges", "message"),
    [
        (3, [(0, 1), (1, 3)], r"edge \(1, 3\) has an end outside 0\.\.2"),
        (3, [(0, 1), (-1, 2)], r"edge \(-1, 2\) has an end outside 0\.\.2"),
        (3, [(0, 1), (2, 2)], "node 2 is its own neighbor"),
        (3, [(0, 1), (0, 1)], "node 0 lists neighbor 1 twice"),
        (3, [(0, 2), (2, 0)], "node 0 lists neighbor 2 twice"),
        (3, [(0.0, 1.0)], r"edges have shape \(1, 2\) and dtype float64"),
        (3, [0, 1], r"edges have shape \(2,\) and dtype int64"),
        (3, [(0, 1, 2)], r"edges have shape \(1, 3\)"),
        (0, [], "n is 0; an integer of at least 1 is needed"),
        (2.0, [(0, 1)], r"n is 2\.0; an integer"),
    ],
)
def test_from_edges_says_what_is_wrong(n, edges, message):
    with pytest.raises(InputError, match=message):
        graphs.from_edges(n, np.array(edges))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (sp.coo_array((2, 3)), r"shape \(2, 3\); a square matrix"),
        (sp.csr_array((0, 0)), r"shape \(0, 0\); a square matrix"),
        (sp.coo_array(np.ones(4)), r"shape \(4,\); a square matrix"),
        (sp.csr_array([[0, 1], [0, 0]]), "node 0 lists neighbor 1, but node 1 does not list 0"),
        (sp.csr_array([[0, 0], [1, 0]]), "node 1 lists neighbor 0, but node 0 does not list 1"),
        (sp.csr_array([[1, 1], [1, 0]]), "node 0 is its own neighbor"),
        (
            sp.coo_array(([1, 1, 1], ([0, 0, 1], [1, 1, 0])), shape=(2, 2)),
            "node 0 lists neighbor 1 twice",
        ),
    ],
)
def test_from_scipy_says_what_is_wrong(matrix, message):
    with pytest.raises(InputError, match=message):
        graphs.from_scipy(matrix)


# The class Graph


def test_a_graph_describes_itself():
    graph = Graph(np.array([0, 1, 3, 4]), np.array([1, 0, 2, 1]))
    assert (graph.n_nodes, graph.n_edges, graph.degrees.tolist()) == (3, 2, [1, 2, 1])
    assert repr(graph) == "Graph(n_nodes=3, n_edges=2)"


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64])
def test_a_graph_of_any_integers_is_kept_in_32_bits(dtype):
    graph = Graph(np.array([0, 1, 2], dtype), np.array([1, 0], dtype))
    assert graph.indptr.dtype == graph.indices.dtype == np.int32
    assert edges_of(graph) == [(0, 1)]


def test_a_graph_of_strided_arrays_is_kept_contiguous():
    graph = Graph(np.array([0, 9, 1, 9, 2])[::2], np.array([0, 1])[::-1])
    assert graph.indptr.flags.c_contiguous
    assert graph.indices.flags.c_contiguous
    assert edges_of(graph) == [(0, 1)]


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 1, 2], [1, 2], r"node 1 has neighbor 2, outside 0\.\.1"),
        ([0, 1, 2], [-1, 0], r"node 0 has neighbor -1, outside 0\.\.1"),
        ([0, 1, 2], [1, 2**40], rf"a neighbor is numbered {2**40}, outside 0\.\.1"),
        ([0, 1, 2], [0, 1], "node 0 is its own neighbor; self-loops are not allowed"),
        ([0, 2, 4], [1, 1, 0, 0], "node 0 lists neighbor 1 twice; every edge is needed once"),
        ([0, 2, 3, 4], [2, 1, 0, 0], "neighbors of node 0 are not in ascending order"),
        ([0, 1, 1], [1], "node 0 lists neighbor 1, but node 1 does not list 0"),
        ([0, 0, 1], [0], "node 1 lists neighbor 0, but node 0 does not list 1"),
        ([0, 1, 3], [1, 0], "indptr does not fit 2 indices.*end at 2"),
        ([1, 1, 2], [1, 0], "indptr does not fit 2 indices"),
        ([0, 3, 2], [1, 0], "indptr does not fit 2 indices"),
        ([0], np.empty(0, int), "indptr does not fit 0 indices"),
        ([0.0, 1.0, 2.0], [1, 0], r"indptr has shape \(3,\) and dtype float64"),
        ([0, 1, 2], [1.0, 0.0], r"indices has shape \(2,\) and dtype float64"),
        ([0, 1, 2], [True, False], r"indices has shape \(2,\) and dtype bool"),
        ([[0, 1, 2]], [1, 0], r"indptr has shape \(1, 3\)"),
    ],
)
def test_a_graph_says_what_is_wrong(indptr, indices, message):
    with pytest.raises(InputError, match=message):
        Graph(np.array(indptr), np.array(indices))


# Arguments of the generators


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: topologies.barabasi_albert(2, seed=0), "n is 2; an integer of at least 3"),
        (lambda: topologies.barabasi_albert(9, 0, seed=0), "m is 0; an integer of at least 1"),
        (lambda: topologies.barabasi_albert(9, seed=-1), "seed is -1; an integer from 0 to"),
        (lambda: topologies.barabasi_albert(9, seed=None), "seed is None; an integer"),
        (lambda: topologies.barabasi_albert(9, seed=True), "seed is True; an integer"),
        (lambda: topologies.barabasi_albert(9.0, seed=0), r"n is 9\.0; an integer"),
        (lambda: topologies.ring(4), "n is 4; an integer of at least 5"),
        (lambda: topologies.square_lattice(4), "n is 4; an integer of at least 5"),
        (lambda: topologies.small_world(4, seed=0), "n is 4; an integer of at least 5"),
        (lambda: topologies.small_world(9, 1.5, seed=0), r"p is 1\.5; a number in \[0, 1\]"),
        (lambda: topologies.small_world(9, -0.1, seed=0), r"p is -0\.1; a number in \[0, 1\]"),
        (lambda: topologies.small_world(9, np.nan, seed=0), r"p is nan; a number in \[0, 1\]"),
        (lambda: topologies.erdos_renyi(4, seed=0), "n is 4; an integer of at least 5"),
        (lambda: topologies.erdos_renyi(9, seed=1.5), r"seed is 1\.5; an integer"),
        (lambda: topologies.random_regular(4, seed=0), "n is 4; an integer of at least 5"),
        (lambda: topologies.computational(0), "hidden is 0; an integer of at least 1"),
        (lambda: build("computational", 12, 0), r"n is 12; a number 4 h \+ 1"),
        (lambda: build("lattice", 9, 0), "topology is 'lattice'; one of barabasi_albert, ring,"),
    ],
)
def test_generators_say_what_is_wrong(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_table_says_which_sizes_a_topology_has(topology):
    for n in range(1, 30):
        if n in TOPOLOGIES[topology].sizes:
            assert build(topology, n, 0).n_nodes == n
        else:
            with pytest.raises(InputError):
                build(topology, n, 0)


def test_a_topology_is_one_builder_and_one_line_in_the_table(monkeypatch):
    def star(n, seed):  # noqa: ARG001
        return from_edges(n, [(0, leaf) for leaf in range(1, n)])

    monkeypatch.setitem(TOPOLOGIES, "star", Topology(star, "star", range(2, 100)))
    gradient = np.random.default_rng(0).standard_normal(20)
    by_name, by_graph = Probe("star"), Probe(star(20, 0))
    assert by_name.measure(gradient).relaxed.tobytes() == by_graph.measure(gradient).relaxed.tobytes()
    assert by_name.settings()["topology"] == "star"
    assert "star" in topologies_of(np.array([20, 50]))
    assert "star" not in topologies_of(np.array([200]))


# Stacks


def assert_holds(stack, parts):
    """Read every graph back from a stack."""
    assert len(stack) == len(parts)
    assert np.diff(stack.offsets).tolist() == [part.n_nodes for part in parts]
    for part, row in zip(parts, stack.rows, strict=True):
        indptr = stack.indptr[row : row + part.n_nodes + 1]
        np.testing.assert_array_equal(indptr - indptr[0], part.indptr)
        np.testing.assert_array_equal(stack.indices[indptr[0] : indptr[-1]], part.indices)


def test_a_stack_lays_graphs_end_to_end():
    parts = [topologies.ring(7), graphs.from_edges(1, []), topologies.barabasi_albert(30, seed=0)]
    stack = graphs.stack(parts)
    assert_holds(stack, parts)
    assert stack.n_nodes == 38
    assert stack.indptr.dtype == stack.indices.dtype == np.int32
    assert repr(stack) == "GraphStack(3 graphs, n_nodes=38)"


def test_a_stack_of_one_does_not_copy():
    ring = topologies.ring(9)
    stack = graphs.stack([ring])
    assert_holds(stack, [ring])
    assert np.shares_memory(stack.indptr, ring.indptr)
    assert np.shares_memory(stack.indices, ring.indices)


def test_a_stack_of_nothing_is_refused():
    with pytest.raises(InputError, match="no graph was given"):
        graphs.stack([])


def mixed_graphs():
    return [topologies.ring(7), graphs.from_edges(1, []), topologies.barabasi_albert(30, seed=0)]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_repeated_stack_has_each_graph_times_in_a_row(times):
    parts = mixed_graphs()
    once = graphs.stack(parts)
    repeated = graphs.repeat(once, times)
    assert_holds(repeated, [part for part in parts for _ in range(times)])
    assert np.shares_memory(repeated.indptr, once.indptr)
    assert np.shares_memory(repeated.indices, once.indices)
    assert repeated.offsets.dtype == repeated.rows.dtype == np.int64
    assert (repeated.n_nodes, repeated.longest) == (38 * times, 30)
    # The stack given is left as it is.
    assert_holds(once, parts)


@pytest.mark.parametrize("times", [1, 3])
def test_a_repeated_graph_is_a_repeated_stack_of_one(times):
    graph = topologies.barabasi_albert(30, seed=0)
    for repeated in (graphs.repeat(graph, times), graphs.repeat(graphs.stack([graph]), times)):
        assert_holds(repeated, [graph] * times)
        assert np.shares_memory(repeated.indptr, graph.indptr)
        assert np.shares_memory(repeated.indices, graph.indices)


def test_repeating_twice_is_repeating_as_often_as_both():
    once = graphs.stack(mixed_graphs())
    twice, at_once = graphs.repeat(graphs.repeat(once, 2), 3), graphs.repeat(once, 6)
    np.testing.assert_array_equal(twice.offsets, at_once.offsets)
    np.testing.assert_array_equal(twice.rows, at_once.rows)


@pytest.mark.parametrize("threads", [1, 3])
def test_measuring_on_a_repeated_stack_is_measuring_one_by_one(threads):
    parts, times, probe = mixed_graphs(), 4, Probe(quantile=0.8, alpha=0.2)
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((times, part.n_nodes)) for part in parts]
    repeated = graphs.repeat(graphs.stack(parts), times)
    flat = np.concatenate([block.ravel() for block in blocks])
    batch = probe.measure_batch(flat, repeated, threads=threads)
    expected = [
        replace(probe, graph=part).measure(row)
        for part, block in zip(parts, blocks, strict=True)
        for row in block
    ]
    assert len(batch) == len(expected) == 3 * times
    for found, alone in zip(batch, expected, strict=True):
        assert (found.size, found.area, found.deviation) == (alone.size, alone.area, alone.deviation)
        np.testing.assert_array_equal(found.relaxed, alone.relaxed)
    assert sum(alone.size for alone in expected) > 0


@pytest.mark.parametrize("times", [0, -1, 1.0, True, None])
def test_repeating_no_times_is_refused(times):
    for given_graphs in (topologies.ring(5), graphs.stack(mixed_graphs())):
        with pytest.raises(InputError, match=rf"^times is {times}; an integer of at least 1 is needed$"):
            graphs.repeat(given_graphs, times)


def test_a_neighbor_that_would_wrap_in_32_bits_is_refused():
    with pytest.raises(InputError, match=r"numbered -4294967295, outside 0\.\.1"):
        graphs.Graph(np.array([0, 1, 2]), np.array([1 - 2**32, 0]))
