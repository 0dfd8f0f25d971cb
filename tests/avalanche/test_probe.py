"""The probe: its threshold, and that a batch is nothing but its gradients one at a time."""

import hashlib
import inspect
import json
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake import Avalanche, InputError, Probe, relax
from gradquake.avalanche import computed, topologies
from gradquake.avalanche.graphs import Graph, from_edges, stack
from gradquake.avalanche.probe import THREADS_FROM
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.topologies import CHEAP, TOPOLOGIES, _KeptGraphs, build
from gradquake.cli.measure import measure as measure_command
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.files.measure import measure as measure_function

DTYPES = ["float32", "float64"]
FIELDS = (
    "size",
    "isolated",
    "duration",
    "area",
    "peak",
    "truncated",
    "deviation",
    "threshold",
    "dissipated",
)


def examples(count):
    return settings(deadline=None, derandomize=True, max_examples=count)


def normal(seed, *shape, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def bits(avalanche):
    """Everything about an avalanche; equal only where all of it is the same to the last bit."""
    numbers = [getattr(avalanche, name) for name in FIELDS]
    return *numbers, avalanche.relaxed.dtype, avalanche.relaxed.tobytes()


def assert_same_batch(batch, expected):
    assert len(batch) == len(expected)
    assert [bits(avalanche) for avalanche in batch] == [bits(avalanche) for avalanche in expected]


# One gradient


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.sampled_from([5, 41, 500, 1000]),
    quantile=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES),
)
def test_the_threshold_is_the_quantile_of_the_magnitudes(seed, n, quantile, dtype):
    gradient = normal(seed, n, dtype=dtype)
    expected = np.quantile(np.abs(gradient).astype(np.float64), quantile)
    assert Probe(graph="ring", quantile=quantile).measure(gradient).threshold == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_measure_is_relax_with_that_threshold_on_that_graph(topology, dtype):
    gradient = normal(1, 85, dtype=dtype)
    threshold = np.quantile(np.abs(gradient).astype(np.float64), 0.8)
    graph = build(topology, 85, 3)
    expected = relax(gradient, graph, threshold=threshold, alpha=0.2, max_steps=7)
    probe = Probe(topology, alpha=0.2, quantile=0.8, max_steps=7, seed=3)
    assert bits(probe.measure(gradient)) == bits(expected)
    assert bits(replace(probe, graph=graph).measure(gradient)) == bits(expected)


def test_the_defaults_are_those_of_the_protocol():
    probe = Probe()
    assert probe == Probe("barabasi_albert", alpha=0.3, quantile=0.9, max_steps=20, seed=0)


def test_a_graph_of_ones_own_takes_the_place_of_the_topology():
    graph = from_edges(4, [(0, 1), (1, 2)])
    gradient = np.array([8.0, 1.0, 1.0, 4.0])
    # Magnitudes 1, 1, 4, 8: the median is 2.5. Nodes 0 and 3 topple; 3 has no neighbor.
    avalanche = Probe(graph, alpha=0.5, quantile=0.5, max_steps=1).measure(gradient)
    assert avalanche.threshold == 2.5
    assert avalanche.relaxed.tolist() == [4, 5, 1, 2]
    assert avalanche.dissipated == 2


def test_the_gradient_given_is_left_as_it_is():
    gradient, batch = normal(2, 100), normal(3, 4, 100)
    before = gradient.copy(), batch.copy()
    Probe().measure(gradient)
    Probe().measure_batch(batch)
    Probe().measure_batch(batch.ravel(), stack([topologies.ring(100)] * 4))
    np.testing.assert_array_equal(gradient, before[0])
    np.testing.assert_array_equal(batch, before[1])


def test_about_a_tenth_of_the_nodes_start_an_avalanche():
    # 2001 distinct magnitudes, position 0.9 * 2000 = 1800 of 0..2000: 200 are above.
    assert Probe(max_steps=1).measure(normal(4, 2001)).size == 200


@pytest.mark.parametrize("quantile", [0.0, 0.5, 1.0])
def test_equal_magnitudes_give_an_avalanche_of_size_0(quantile):
    for gradient in (np.zeros(50), np.full(50, 0.1), 0.1 * (-1.0) ** np.arange(50)):
        avalanche = Probe(quantile=quantile).measure(gradient)
        assert (avalanche.size, avalanche.deviation, avalanche.truncated) == (0, 0, False)
        np.testing.assert_array_equal(avalanche.relaxed, gradient)


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e-30, 1e30, 1e100, 1e300])
def test_the_scale_changes_nothing_where_most_of_the_gradient_is_zero(scale):
    # The threshold is 0, and so says nothing about the scale.
    gradient = np.zeros(101)
    gradient[[3, 7]] = 1, -2
    first, second = (Probe(graph="ring").measure(g) for g in (gradient, gradient * scale))
    assert (first.threshold, second.threshold) == (0, 0)
    assert (first.size, first.duration, first.area) == (second.size, second.duration, second.area)
    assert second.deviation == pytest.approx(first.deviation, rel=1e-12)
    assert second.deviation > 1


def test_the_graph_of_a_size_is_drawn_once_and_depends_on_the_seed():
    probe = Probe(seed=5)
    assert probe.graph_on(100) is probe.graph_on(100)
    np.testing.assert_array_equal(probe.graph_on(100).indices, build("barabasi_albert", 100, 5).indices)
    assert probe.graph_on(100).indices.tolist() != Probe(seed=6).graph_on(100).indices.tolist()


def test_an_avalanche_reads_well():
    # (1, 4, 1) has median 1: the middle keeps 2 and hands 1 to each side, and all are unstable.
    path = from_edges(3, [(0, 1), (1, 2)])
    avalanche = Probe(path, alpha=0.5, quantile=0.5, max_steps=1).measure(np.array([1.0, 4, 1]))
    assert repr(avalanche) == (
        "Avalanche(threshold=1, size=1, isolated=1, duration=1, area=1, peak=1, truncated=True, "
        f"deviation={avalanche.deviation:.6g}, dissipated=0)"
    )
    assert avalanche._repr_html_().startswith(
        "<table><tr><td>threshold</td><td>1</td></tr><tr><td>size</td><td>1</td></tr>"
    )


# Batches


@pytest.mark.parametrize("threads", [None, 1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_of_rows_is_each_row_alone(dtype, threads):
    gradients, probe = normal(6, 7, 300, dtype=dtype), Probe(quantile=0.8)
    expected = [probe.measure(row) for row in gradients]
    assert_same_batch(probe.measure_batch(gradients, threads=threads), expected)
    assert_same_batch(probe.measure_batch(np.asfortranarray(gradients), threads=threads), expected)
    assert_same_batch(probe.measure_batch(list(gradients), threads=threads), expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_ragged_batch_is_each_gradient_alone(dtype, threads):
    sizes = [5, 700, 41, 2001, 3, 41, 513, 100]
    gradients = [normal(b, n, dtype=dtype) for b, n in enumerate(sizes)]
    probe = Probe(quantile=0.8)
    expected = [probe.measure(gradient) for gradient in gradients]
    assert_same_batch(probe.measure_batch(gradients, threads=threads), expected)
    assert_same_batch(probe.measure_batch(tuple(gradients), threads=threads), expected)
    strided = [np.repeat(gradient, 2)[::2] for gradient in gradients]
    assert_same_batch(probe.measure_batch(strided, threads=threads), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_on_one_graph_on_a_list_and_on_a_stack(dtype, threads):
    gradients, probe = normal(7, 6, 101, dtype=dtype), Probe(graph="ring", quantile=0.8)
    one = topologies.small_world(101, 0.2, seed=0)
    each = [topologies.erdos_renyi(101, seed=seed) for seed in range(6)]

    expected = [replace(probe, graph=one).measure(row) for row in gradients]
    assert_same_batch(probe.measure_batch(gradients, one, threads=threads), expected)

    expected = [
        replace(probe, graph=graph).measure(row) for row, graph in zip(gradients, each, strict=True)
    ]
    for given_graphs in (each, tuple(each), stack(each)):
        assert_same_batch(probe.measure_batch(gradients, given_graphs, threads=threads), expected)
    assert_same_batch(probe.measure_batch(gradients.ravel(), stack(each), threads=threads), expected)
    assert_same_batch(probe.measure_batch(list(gradients), stack(each), threads=threads), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_flat_vector_over_a_stack_of_different_sizes(threads):
    sizes = [9, 300, 41]
    gradients = [normal(b, n) for b, n in enumerate(sizes)]
    own = [topologies.barabasi_albert(n, seed=b) for b, n in enumerate(sizes)]
    expected = [Probe(graph).measure(g) for g, graph in zip(gradients, own, strict=True)]
    flat = np.concatenate(gradients)
    assert_same_batch(Probe().measure_batch(flat, stack(own), threads=threads), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_large_enough_to_be_split_by_itself(dtype):
    n = 4001
    gradients = normal(8, THREADS_FROM // n + 1, n, dtype=dtype)
    assert gradients.size >= THREADS_FROM
    by_itself = Probe().measure_batch(gradients)
    for threads in (1, 2, 3):
        explicit = Probe().measure_batch(gradients, threads=threads)
        assert by_itself.relaxed.tobytes() == explicit.relaxed.tobytes()
        for name in FIELDS:
            assert getattr(by_itself, name).tolist() == getattr(explicit, name).tolist()


def test_a_batch_of_one():
    gradient = normal(9, 50)
    assert_same_batch(Probe().measure_batch([gradient], threads=3), [Probe().measure(gradient)])


def test_a_batch_reads_as_columns_and_as_avalanches():
    gradients = [normal(b, n) for b, n in enumerate([20, 300, 41])]
    batch = Probe().measure_batch(gradients)
    assert repr(batch).startswith("AvalancheBatch(3 avalanches: threshold ")
    assert f"size {batch.size.min()} to {batch.size.max()}, isolated" in repr(batch)
    assert batch._repr_html_().count("<tr>") == 4
    for name in FIELDS:
        assert getattr(batch, name).shape == (3,)
        assert getattr(batch, name).tolist() == [getattr(avalanche, name) for avalanche in batch]
    for name in ("size", "duration", "area", "peak"):
        assert getattr(batch, name).dtype == np.int64
        assert all(type(getattr(avalanche, name)) is int for avalanche in batch)
    assert batch.truncated.dtype == bool
    assert batch.offsets.tolist() == [0, 20, 320, 361]
    np.testing.assert_array_equal(batch.relaxed, np.concatenate([a.relaxed for a in batch]))
    assert isinstance(batch[0], Avalanche)
    assert bits(batch[-1]) == bits(batch[2])
    with pytest.raises(IndexError):
        batch[3]


class Silent(Graph):
    """A graph that must not be described, since that takes long for many of them."""

    def __repr__(self):
        raise AssertionError("a message was built although nothing is wrong")


def test_no_message_is_built_if_nothing_is_wrong():
    ring = topologies.ring(5)
    graph = Silent(ring.indptr, ring.indices)
    gradients = normal(13, 20_000, 5)
    assert len(Probe().measure_batch(gradients, [graph] * 20_000)) == 20_000
    assert len(Probe().measure_batch(gradients, stack([graph] * 20_000))) == 20_000
    assert Probe(graph).measure(gradients[0]).relaxed.size == 5


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"graph": "lattice"}, "graph is 'lattice'; one of barabasi_albert, ring, .* is needed"),
        ({"alpha": 0.0}, r"alpha is 0\.0; a number in \(0, 1\) is needed"),
        ({"alpha": 1.0}, r"alpha is 1\.0; a number in \(0, 1\) is needed"),
        ({"alpha": np.nan}, "alpha is nan"),
        ({"quantile": -0.1}, r"quantile is -0\.1; a number in \[0, 1\] is needed"),
        ({"quantile": 1.01}, r"quantile is 1\.01; a number in \[0, 1\] is needed"),
        ({"quantile": 90.0}, r"quantile is 90\.0; a number in \[0, 1\] is needed"),
        ({"quantile": np.nan}, r"quantile is nan; a number in \[0, 1\] is needed"),
        ({"max_steps": 0}, "max_steps is 0; an integer of at least 1 is needed"),
        ({"max_steps": 2.5}, r"max_steps is 2\.5; an integer of at least 1 is needed"),
        ({"seed": -1}, r"seed is -1; an integer from 0 to 2\^63 - 1 is needed"),
        ({"seed": 1.5}, r"seed is 1\.5; an integer from 0 to 2\^63 - 1 is needed"),
        ({"seed": None}, r"seed is None; an integer from 0 to 2\^63 - 1 is needed"),
        ({"seed": [1, 2]}, r"seed is \[1, 2\]; an integer from 0 to 2\^63 - 1 is needed"),
        ({"seed": True}, r"seed is True; an integer from 0 to 2\^63 - 1 is needed"),
    ],
)
def test_a_probe_says_which_setting_is_wrong(settings, message):
    with pytest.raises(InputError, match=message):
        Probe(**settings)


def test_a_misspelled_setting_is_not_accepted():
    with pytest.raises(TypeError, match="treshold"):
        Probe(treshold=0.5)


def test_an_integer_of_numpy_is_a_seed():
    assert Probe(seed=np.int64(3)).measure(normal(10, 50)).relaxed.tolist() == (
        Probe(seed=3).measure(normal(10, 50)).relaxed.tolist()
    )


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (np.ones(9, int), "the gradient has dtype int64; float32 or float64 is needed"),
        (np.ones((3, 3)), r"the gradient has shape \(3, 3\); a flat vector \(N,\) is needed"),
        ([], "the gradient is empty"),
        ([1.0, np.nan, np.inf], r"2 entries that are not finite, the first at 1 \(nan\)"),
        (np.ones(2), "n is 2; an integer of at least 3 is needed"),
    ],
)
def test_a_gradient_that_cannot_be_measured(gradient, message):
    with pytest.raises(InputError, match=message):
        Probe().measure(gradient)


def test_a_graph_or_a_builder_in_place_of_a_name():
    gradient = normal(3, 60)
    by_name = Probe("erdos_renyi", seed=4)
    graph = build("erdos_renyi", 60, 4)
    for own in (graph, partial(build, "erdos_renyi"), lambda n, seed: build("erdos_renyi", n, seed)):
        probe = Probe(own, seed=4)
        assert bits(probe.measure(gradient)) == bits(by_name.measure(gradient))
        assert_same_batch(probe.measure_batch([gradient]), [by_name.measure(gradient)])
        assert bits(probe.measure_pieces([gradient[:9], gradient[9:]])) == bits(
            by_name.measure(gradient)
        )
    assert Probe(graph).graph_on(60) is graph
    assert by_name.settings() == {
        "topology": "erdos_renyi", "alpha": 0.3, "quantile": 0.9, "max_steps": 20, "seed": 4
    }  # fmt: skip


class Counted:
    """A builder that counts its calls; it cannot be hashed, and equals every other one."""

    __hash__ = None

    def __init__(self):
        self.calls = []

    def __eq__(self, other):
        return True

    def __call__(self, n, seed):
        self.calls.append((n, seed))
        return topologies.ring(n)


def test_a_builder_is_called_once_for_each_size_and_seed():
    first, second = Counted(), Counted()
    for builder in (first, second):
        for _ in range(3):
            for n, seed in ((60, 0), (60, 1), (70, 0)):
                Probe(builder, seed=seed).measure(normal(3, n))
                Probe(builder, seed=seed).measure_batch([normal(3, n)])
    assert first.calls == second.calls == [(60, 0), (60, 1), (70, 0)]


def test_a_topology_that_is_defined_again_is_built_again(monkeypatch):
    monkeypatch.setitem(TOPOLOGIES, "mine", topologies.Topology(lambda n, _: topologies.ring(n), "mine"))
    assert Probe("mine").graph_on(60).digest == topologies.ring(60).digest
    again = topologies.Topology(lambda n, _: topologies.square_lattice(n), "mine")
    monkeypatch.setitem(TOPOLOGIES, "mine", again)
    assert Probe("mine").graph_on(60).digest == topologies.square_lattice(60).digest


class Builders:
    @staticmethod
    def static(n, seed):
        return build("erdos_renyi", n, seed)

    def method(self, n, seed):
        return build("erdos_renyi", n, seed)


def test_the_name_by_which_a_graph_is_recorded():
    assert Probe("ring").topology == "ring"
    assert Probe(topologies.ring(9)).topology == f"graph:{topologies.ring(9).digest}"
    assert Probe(normal).topology == f"{__name__}.normal"
    assert Probe(Builders.static).topology == f"{__name__}.Builders.static"

    def local(n, seed):
        return build("erdos_renyi", n, seed)

    for builder, told in (
        (local, r".*<locals>\.local"),
        (partial(build, "ring"), "a partial"),
        (Builders().method, r"Builders\.method"),
        (Counted(), "a Counted"),
    ):
        message = f"^the graph is made by {told}, which has no name to be recorded by; a function at"
        with pytest.raises(InputError, match=message):
            Probe(builder).settings()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_digest_of_a_graph_is_that_of_its_arrays(topology, monkeypatch):
    monkeypatch.setattr(computed, "ROWS_AT_A_TIME", 7)
    graph = build(topology, 201, 3)
    arrays = graph.indptr.astype("<i4").tobytes() + graph.indices.astype("<i4").tobytes()
    assert graph.digest == hashlib.sha256(arrays).hexdigest()[:12]
    wider = Graph(graph.indptr.astype(">i8"), graph.indices.astype(np.uint64))
    assert wider.digest == graph.digest
    assert build(topology, 205, 3).digest != graph.digest


def test_the_digest_of_a_large_computed_graph_takes_no_memory():
    graph = topologies.ring(CHEAP)
    assert len(graph.digest) == 12
    assert graph.nbytes < 1_000


def test_the_repr_of_a_probe_has_no_address():
    assert repr(Probe("ring", alpha=0.2)) == (
        "Probe(graph='ring', alpha=0.2, quantile=0.9, max_steps=20, seed=0)"
    )
    assert repr(Probe(topologies.ring(7))).startswith("Probe(graph=Graph(n_nodes=7, n_edges=14), alpha")
    assert repr(Probe(build)).startswith("Probe(graph=build, ")
    assert repr(Probe(partial(build, "ring"))).startswith("Probe(graph=partial, ")


@pytest.mark.parametrize("result", [None, "ring", topologies.ring(8)])
def test_a_builder_that_returns_no_graph_of_this_size(result):
    message = "the builder returned .*; a gradquake Graph on 9 nodes is needed"
    probe = Probe(lambda *_: result)
    for measure in (probe.graph_on, lambda n: probe.measure(np.ones(n))):
        with pytest.raises(InputError, match=message):
            measure(9)


def test_graphs_are_kept_within_a_number_of_bytes():
    one = topologies.ring(100).nbytes
    kept = _KeptGraphs(2 * one + 4)
    random, ring = (TOPOLOGIES[name].build for name in ("erdos_renyi", "ring"))
    first, second = (kept.graph(random, 100, seed) for seed in range(2))
    assert kept.graph(random, 100, 0) is first
    kept.graph(random, 100, 2)
    assert kept.graph(random, 100, 0) is first
    assert kept.graph(random, 100, 1) is not second
    assert kept.graph(ring, 300, 0) is not kept.graph(ring, 300, 0)
    assert sum(graph.nbytes for _, graph in kept._graphs.values()) <= 2 * one + 4


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_bytes_of_a_graph(topology):
    graph = build(topology, 201, 0)
    assert graph.nbytes == graph.indptr.nbytes + graph.indices.nbytes


@pytest.mark.parametrize("topology", ["ring", "square_lattice"])
def test_a_large_computed_graph_is_kept_since_it_takes_no_memory(topology):
    kept = _KeptGraphs(1_000_000)
    builder = TOPOLOGIES[topology].build
    graph = kept.graph(builder, CHEAP, 0)
    assert graph.nbytes < 1_000
    assert kept.graph(builder, CHEAP, 0) is graph
    assert graph.indices.size == 4 * CHEAP
    assert graph.nbytes == graph.indptr.nbytes + graph.indices.nbytes
    # The arrays that somebody has read count from then on.
    kept.graph(TOPOLOGIES["erdos_renyi"].build, 100, 0)
    assert kept.graph(builder, CHEAP, 0) is not graph


def test_a_graph_of_another_size():
    message = "the gradient has 9 entries and the graph 8 nodes; they must be equal"
    with pytest.raises(InputError, match=message):
        Probe(topologies.ring(8)).measure(np.ones(9))


def batch_with(bad, place=2, of=4):
    return [bad if b == place else normal(b, 20) for b in range(of)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 2, 3])
def test_the_gradient_that_is_not_finite_is_named(place, value, threads):
    gradients = normal(11, 4, 20)
    gradients[place, 7] = value
    message = rf"gradient {place} of the batch has 1 entry that is not finite, at 7 \({value}\)"
    for batch in (gradients, list(gradients)):
        with pytest.raises(InputError, match=message):
            Probe().measure_batch(batch, threads=threads)
    with pytest.raises(InputError, match=message):
        Probe().measure_batch(gradients.ravel(), stack([topologies.ring(20)] * 4), threads=threads)


def test_the_first_of_several_that_are_not_finite_is_named():
    gradients = normal(12, 5, 20)
    gradients[[3, 1], 0] = np.nan
    with pytest.raises(InputError, match="gradient 1 of the batch"):
        Probe().measure_batch(gradients, threads=2)


@pytest.mark.parametrize(
    ("gradients", "graph", "message"),
    [
        ([], None, "the batch is empty"),
        (np.empty((0, 9)), None, r"batch .* shape \(0, 9\)"),
        (np.empty((2, 0)), None, "batch is empty"),
        (normal(0, 9), None, r"batch .* shape \(9,\); .*\(batch, N\)"),
        (np.ones((2, 3, 4)), None, r"batch .* shape \(2, 3, 4\); .*\(batch, N\)"),
        (iter([np.ones(9)]), None, "the batch is a list_iterator; an array"),
        (7, None, "the batch is an int; an array"),
        (np.ones((2, 9), int), None, "batch has dtype int64; float32 or float64 is needed"),
        (batch_with(np.ones(20, int)), None, "gradient 2 of the batch has dtype int64"),
        (batch_with(np.ones((4, 5))), None, r"gradient 2 of the batch has shape \(4, 5\)"),
        (batch_with(1.0), None, r"gradient 2 of the batch has shape \(\)"),
        (batch_with(np.array([])), None, "gradient 2 of the batch is empty"),
        (batch_with(np.ones(20, "f4")), None, "the batch mixes float32 and float64; one dtype"),
        (normal(0, 3, 9), [topologies.ring(9)] * 2, "3 gradients and 2 graphs were given"),
        (list(normal(0, 3, 9)), stack([topologies.ring(9)] * 4), "3 gradients and 4 graphs"),
        (normal(0, 3, 9), [], "no graph was given"),
        (
            batch_with(np.ones(19)),
            topologies.ring(20),
            "gradient 2 of the batch has 19 entries and its graph 20 nodes; they must be equal",
        ),
        (normal(0, 2, 9), topologies.ring(8), "gradient 0 of the batch has 9 entries and its graph 8"),
        (normal(0, 35), stack([topologies.ring(9)] * 4), "has 35 entries and the graph 36 nodes"),
        (np.ones(36, int), stack([topologies.ring(9)] * 4), "the batch has dtype int64"),
        (normal(0, 9, 4), stack([topologies.ring(9)] * 4), "9 gradients and 4 graphs were given"),
    ],
)
def test_a_batch_that_cannot_be_measured(gradients, graph, message):
    with pytest.raises(InputError, match=message):
        Probe().measure_batch(gradients, graph)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads_that_are_no_count(threads):
    with pytest.raises(InputError, match=r"threads is .*; an integer of at least 1 is needed"):
        Probe().measure_batch(np.ones((2, 9)), threads=threads)


def test_a_probe_and_its_recorded_settings_are_one_to_one():
    probe = Probe("ring", alpha=np.float32(0.25), quantile=1, max_steps=np.int64(7), seed=np.uint8(3))
    recorded = probe.settings()
    assert recorded == {"topology": "ring", "alpha": 0.25, "quantile": 1.0, "max_steps": 7, "seed": 3}
    assert [type(value) for value in recorded.values()] == [str, float, float, int, int]
    assert Probe.of(json.loads(json.dumps(recorded))) == probe
    assert Probe.of({**recorded, "task": "xor", "n_parameters": 9}) == probe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topology": "own"}, "topology is 'own'; one of"),
        ({"quantile": 7}, r"quantile is 7; a number in \[0, 1\] is needed"),
        ({"alpha": None}, "alpha is None; a number is needed"),
    ],
)
def test_recorded_settings_of_no_probe_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Probe.of({**Probe().settings(), **changes})


def test_settings_that_lack_one_are_refused():
    recorded = {name: value for name, value in Probe().settings().items() if name != "quantile"}
    with pytest.raises(InputError, match="have no quantile; a probe needs all of topology, alpha"):
        Probe.of(recorded)


def test_the_defaults_of_a_cascade_are_those_of_one_definition():
    expected = asdict(CascadeSettings())
    for function in (relax, Probe, measure_function, measure_command, XorRun, SyntheticRun):
        parameters = inspect.signature(function).parameters
        own = {name: parameters[name].default for name in expected if name in parameters}
        assert own == {name: expected[name] for name in own}
        assert {"alpha", "max_steps"} <= own.keys()
