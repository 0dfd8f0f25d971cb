"""A gradient in pieces leaves the avalanche of the whole, bit for bit, however it is cut."""

import json
import threading
from dataclasses import fields, replace
from queue import Queue

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake import Probe, relax
from gradquake.avalanche import graphs, probe, topologies
from gradquake.avalanche._kernels_angle import BLOCK
from gradquake.avalanche.cascade import Avalanche
from gradquake.avalanche.computed import ComputedGraph
from gradquake.avalanche.probe import LARGE
from gradquake.errors import InputError

NUMBERS = [field.name for field in fields(Avalanche) if field.name not in ("relaxed", "tensors")]


class Threads:
    """An exchange of processes that are threads of this one; ``ranks`` of them share the queues."""

    def __init__(self, rank, size, queues):
        self.rank, self.size, self.queues = rank, size, queues

    def alltoall(self, values):
        for r, value in enumerate(values):
            self.queues[self.rank][r].put(value)
        return [self.queues[r][self.rank].get(timeout=60) for r in range(self.size)]

    def allgather(self, value):
        return self.alltoall([value] * self.size)


def together(size, work):
    """Call ``work(exchange)`` on so many threads at once; return what each returned or raised."""
    queues = [[Queue() for _ in range(size)] for _ in range(size)]
    results = [None] * size

    def run(rank):
        try:
            results[rank] = work(Threads(rank, size, queues))
        except InputError as error:
            results[rank] = error

    running = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return results


def everything(avalanche):
    """All of an avalanche, every type among it; equal only if all of it is the same to the last bit."""
    numbers = [(name, type(getattr(avalanche, name)), getattr(avalanche, name)) for name in NUMBERS]
    return numbers, type(avalanche.relaxed), avalanche.relaxed.dtype, avalanche.relaxed.tobytes()


def cut(vector, places):
    return [piece for piece in np.split(vector, sorted(places)) if piece.size]


def assert_equal(found, whole):
    for name in NUMBERS:
        assert getattr(found, name) == getattr(whole, name), name


@settings(deadline=None, max_examples=150)
@given(
    n=st.integers(5, 300),
    topology=st.sampled_from(["barabasi_albert", "ring", "erdos_renyi", "random_regular"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
    quantile=st.sampled_from([0.0, 0.5, 0.9, 0.97, 1.0]),
    max_steps=st.sampled_from([1, 3, 20]),
    ties=st.booleans(),
    data=st.data(),
)
def test_any_cut_gives_the_avalanche_of_the_whole(
    n, topology, dtype, seed, quantile, max_steps, ties, data
):
    rng = np.random.default_rng(seed)
    vector = (rng.integers(-2, 3, n) if ties else rng.standard_t(2, n)).astype(dtype)
    places = data.draw(st.lists(st.integers(1, n - 1), max_size=5))
    probe = Probe(topology, quantile=quantile, max_steps=max_steps, seed=seed % 7)
    whole = probe.measure(vector)
    found = probe.measure_pieces(cut(vector, places))
    assert_equal(found, whole)
    assert found.relaxed.tobytes() == whole.relaxed.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("topology", topologies.TOPOLOGIES)
@pytest.mark.parametrize("places", [[], [1], [BLOCK], [100, 3 * BLOCK // 2, 2 * BLOCK + 7]])
@pytest.mark.parametrize("threads", [1, 3])
def test_several_blocks_on_every_topology(topology, dtype, places, threads):
    n = 2 * BLOCK + 5001
    vector = np.random.default_rng(0).standard_normal(n).astype(dtype)
    probe = Probe(topology)
    whole = probe.measure(vector)
    found = probe.measure_pieces(cut(vector, places), threads=threads)
    assert_equal(found, whole)
    assert found.relaxed.tobytes() == whole.relaxed.tobytes()


@pytest.mark.parametrize("scale", [1e-200, 1e-300, 1e150, 4e151, 1e300])
@pytest.mark.parametrize("n", [200, BLOCK + 100, 10 * BLOCK])
def test_the_scale_changes_nothing(scale, n):
    vector = np.random.default_rng(1).standard_normal(n)
    probe = Probe("ring")
    found = probe.measure_pieces(cut(scale * vector, [n // 3]))
    assert_equal(found, probe.measure(scale * vector))
    assert found.size == probe.measure(vector).size


@pytest.mark.parametrize("topology", ["barabasi_albert", "random_regular", "erdos_renyi"])
@pytest.mark.parametrize("places", [[700, 1400], [5, 6], [BLOCK - 1, BLOCK + 3]])
@pytest.mark.parametrize(("threads", "max_steps"), [(1, 20), (2, 20), (3, 2)])
def test_several_processes_give_the_avalanche_of_the_whole(topology, places, threads, max_steps):
    n = 5 * BLOCK + 77
    vector = np.random.default_rng(2).standard_normal(n)
    probe = Probe(topology, max_steps=max_steps)
    whole = probe.measure(vector)
    own = cut(vector, places)

    def work(exchange):
        pieces = cut(own[exchange.rank], [3])
        return probe.measure_pieces(pieces, exchange=exchange, threads=threads)

    found = together(3, work)
    for one in found:
        assert_equal(one, whole)
    assert np.concatenate([one.relaxed for one in found]).tobytes() == whole.relaxed.tobytes()


def test_a_process_may_have_nothing():
    vector = np.random.default_rng(3).standard_normal(500)
    probe = Probe()
    pieces = [[vector[:200]], [], [vector[200:]]]
    found = together(3, lambda e: probe.measure_pieces(pieces[e.rank], exchange=e))
    for one in found:
        assert_equal(one, probe.measure(vector))
    assert found[1].relaxed.size == 0


def test_memory_mapped_files_are_pieces(tmp_path):
    vector = np.random.default_rng(4).standard_normal(3000).astype(np.float32)
    for i, piece in enumerate(np.split(vector, 3)):
        np.save(tmp_path / f"{i}.npy", piece)
    mapped = [np.load(tmp_path / f"{i}.npy", mmap_mode="r") for i in range(3)]
    assert_equal(Probe().measure_pieces(mapped), Probe().measure(vector))


def test_a_large_gradient_relaxes_on_a_graph_that_is_not_stored():
    vector = np.random.default_rng(5).standard_normal(5000)
    for topology in ("ring", "square_lattice", "random_regular"):
        probe = Probe(topology, seed=3)
        stored = probe.measure(vector)
        graph = topologies.build(topology, 5000, 3)
        assert isinstance(graph, ComputedGraph)
        graph.computed_from = 5000
        computed = replace(probe, graph=graph).measure_pieces([vector])
        assert "_arrays" not in vars(graph)
        assert_equal(computed, stored)
        assert computed.relaxed.tobytes() == stored.relaxed.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_gradient_is_measured_in_parts_whatever_the_threads(monkeypatch, dtype):
    vector = np.random.default_rng(6).standard_t(2, 3 * BLOCK + 11).astype(dtype)
    whole = Probe().measure(vector)
    monkeypatch.setattr(probe, "LARGE", BLOCK)
    for threads in (None, 1, 2, 5):
        found = Probe().measure(vector, threads=threads)
        assert_equal(found, whole)
        assert found.relaxed.tobytes() == whole.relaxed.tobytes()


@pytest.mark.parametrize("n", [9, 200])
def test_a_large_gradient_on_another_graph_is_told_as_any_other(monkeypatch, n):
    monkeypatch.setattr(probe, "LARGE", 100)
    with pytest.raises(InputError, match=f"the gradient has {n} entries and the graph 300 nodes; they"):
        Probe(topologies.ring(300)).measure(np.ones(n))


def test_a_hub_gives_more_than_there_was_room_for():
    # Node 0 has 70,000 neighbors, the others one or two: its shares need many chunks at once.
    n = 3 * BLOCK
    edges = [(0, leaf) for leaf in range(1, 70_001)] + [
        (leaf, leaf + 1) for leaf in range(70_001, n - 1)
    ]
    star = graphs.from_edges(n, edges)
    vector = np.random.default_rng(7).standard_normal(n)
    vector[0] = 1e9
    whole = Probe(star).measure(vector)
    for threads in (1, 2):
        found = Probe(star).measure_pieces([vector], threads=threads)
        assert_equal(found, whole)
        assert found.relaxed.tobytes() == whole.relaxed.tobytes()


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 1.0])
def test_a_sample_that_misleads_costs_nothing_but_time(quantile):
    vector = np.random.default_rng(8).standard_normal(5000)
    # Large exactly where the sample that brackets the threshold looks.
    vector[:: 5000 // int(5000 ** (2 / 3))] += 1e6
    whole = Probe("ring", quantile=quantile).measure(vector)
    assert_equal(Probe("ring", quantile=quantile).measure_pieces(cut(vector, [17 * 60])), whole)


def test_a_threshold_that_float32_would_round_is_not_rounded():
    # The threshold lies between two neighbors of float32; the larger ones return to where they were.
    one = np.float32(1)
    vector = np.array([one] * 4 + [np.nextafter(one, np.float32(2))] * 4)
    pairs = graphs.from_edges(8, [(0, 1), (2, 3), (4, 5), (6, 7)])
    probe = Probe(pairs, alpha=0.5, quantile=3.75 / 7, max_steps=3)
    whole = probe.measure(vector)
    assert whole.truncated
    assert_equal(probe.measure_pieces([vector]), whole)


@pytest.mark.parametrize("max_steps", [1, 2, 4])
def test_avalanches_cut_short_over_several_parts(max_steps):
    vector = np.random.default_rng(9).standard_normal(5 * BLOCK + 1).astype(np.float32)
    probe = Probe(max_steps=max_steps)
    whole = probe.measure(vector)
    assert whole.truncated
    for threads in (1, 2):
        found = probe.measure_pieces(cut(vector, [100]), threads=threads)
        assert_equal(found, whole)
        assert found.relaxed.tobytes() == whole.relaxed.tobytes()


@pytest.mark.parametrize("n", [5, 600, 3 * BLOCK])
@pytest.mark.parametrize("quantile", [0.0, 0.9, 1.0])
def test_a_gradient_of_nan_is_refused(n, quantile):
    probe = Probe("ring", quantile=quantile)
    for vector in (np.full(n, np.nan), np.where(np.arange(n) % 2, np.nan, 1.0)):
        for measured in (probe.measure, lambda v: probe.measure_pieces([v], threads=2)):
            with pytest.raises(
                InputError, match=r"entries that are not finite, the first at [01] \(nan"
            ):
                measured(vector)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], "no piece was given; at least one is needed"),
        ([np.ones(3), np.ones(2)], "the gradient has 5 entries and the graph 10 nodes"),
        ([np.ones(5), np.ones(5, np.float32)], "the pieces mix float32 and float64; one dtype is"),
        ([np.ones(5), np.ones(5, int)], "piece 1 has dtype int64; float32 or float64 is needed"),
        (
            [np.ones(5), np.array([1, np.nan, 1, np.inf, 2])],
            "has 2 entries that are not finite, the first at 6 \\(nan\\)",
        ),
    ],
)
def test_bad_pieces(pieces, message):
    with pytest.raises(InputError, match=message):
        Probe(topologies.ring(10), quantile=0.5).measure_pieces(pieces)


def test_a_cascade_that_overflows_is_refused():
    star = graphs.from_edges(10, [(0, leaf) for leaf in range(1, 10)])
    with pytest.raises(InputError, match="so large that its cascade overflows float64"):
        Probe(star, quantile=0).measure_pieces([np.linspace(1e308, 1.5e308, 10)])


def test_what_is_wrong_with_one_process_stops_all():
    pieces = [[np.ones(5)], [np.ones((2, 2))]]
    errors = together(2, lambda e: Probe(topologies.ring(9)).measure_pieces(pieces[e.rank], exchange=e))
    for error in errors:
        assert str(error) == "piece 0 has shape (2, 2); a flat vector (N,) is needed (process 1)"


def test_what_is_no_array_on_one_process_stops_all():
    pieces = [[np.ones(5)], [[[1.0], [2.0, 3.0]]]]
    errors = together(2, lambda e: Probe().measure_pieces(pieces[e.rank], exchange=e))
    for error in errors:
        assert "piece 0 cannot be made an array" in str(error)


def test_what_is_not_finite_on_one_process_stops_all():
    pieces = [[np.ones(5)], [np.ones(2), np.array([1, np.inf])]]
    errors = together(2, lambda e: Probe(topologies.ring(9)).measure_pieces(pieces[e.rank], exchange=e))
    for error in errors:
        assert "has 1 entry that is not finite, at 8 (inf)" in str(error)


def test_threads_that_make_no_sense():
    with pytest.raises(InputError, match="threads is 0"):
        Probe("ring").measure_pieces([np.ones(9)], threads=0)


def every_path(vector, graph, max_steps, folder, patch):
    """Yield the avalanche of one gradient by every path that computes it."""
    settings = Probe(graph, quantile=0.9, max_steps=max_steps)
    n = vector.size
    halves = np.split(vector, [n // 3])
    for i, half in enumerate(halves):
        np.save(folder / f"{i}.npy", half)
    whole = settings.measure(vector)
    yield "measure", whole
    for kind in (float, np.float64):
        threshold = kind(whole.threshold)
        yield f"relax, {kind}", relax(vector, graph, threshold=threshold, max_steps=max_steps)
    for threads in (1, 2):
        yield "one of a batch", settings.measure_batch([vector, vector], threads=threads)[1]
        yield "one piece", settings.measure_pieces([vector], threads=threads)
        yield "pieces", settings.measure_pieces(halves, threads=threads)
        mapped = [np.load(folder / f"{i}.npy", mmap_mode="r") for i in range(2)]
        yield "files", settings.measure_pieces(mapped, threads=threads)
        parts = together(
            2,
            lambda exchange, threads=threads: settings.measure_pieces(
                [halves[exchange.rank]], exchange=exchange, threads=threads
            ),
        )
        relaxed = np.concatenate([part.relaxed for part in parts])
        for part in parts:
            yield "processes", replace(part, relaxed=relaxed)
        with patch.context() as smaller:
            smaller.setattr(probe, "LARGE", min(n, probe.LARGE))
            yield "large", settings.measure(vector, threads=threads)


def assert_one_result(paths):
    (_, first), *others = paths
    kinds = [float, int, int, int, int, int, bool, float, float]
    assert [type(getattr(first, name)) for name in NUMBERS] == kinds
    assert len(others) == 16
    for name, other in others:
        assert everything(other) == everything(first), name
    json.dumps({name: getattr(first, name) for name in NUMBERS})
    return first


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_steps", [1, 500])
@pytest.mark.parametrize("lonely", [0, 400])
@pytest.mark.parametrize("n", [1000, 2 * BLOCK + 5])
def test_a_result_is_the_same_by_every_path(dtype, max_steps, lonely, n, tmp_path, monkeypatch):
    vector = np.random.default_rng(10).standard_normal(n).astype(dtype)
    joined = np.arange(n - lonely)
    graph = graphs.from_edges(n, np.column_stack([joined, np.roll(joined, 1)]))
    first = assert_one_result(every_path(vector, graph, max_steps, tmp_path, monkeypatch))
    assert first.truncated == (max_steps == 1)
    assert (first.dissipated != 0) == (lonely > 0)


def test_a_gradient_without_an_avalanche_is_the_same_by_every_path(tmp_path, monkeypatch):
    paths = every_path(np.ones(1000), topologies.ring(1000), 20, tmp_path, monkeypatch)
    assert assert_one_result(paths).size == 0


@pytest.mark.parametrize(("n", "dtype"), [(LARGE - 1, np.float64), (LARGE, np.float32)])
def test_a_result_is_the_same_around_the_size_that_is_measured_in_parts(n, dtype, tmp_path, monkeypatch):
    vector = np.random.default_rng(11).standard_normal(n).astype(dtype)
    assert assert_one_result(every_path(vector, topologies.ring(n), 2, tmp_path, monkeypatch)).truncated
