"""Topplings by tensor, against a cascade that is counted node by node."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pieces import cut, together

import gradquake as gq
from gradquake import Probe
from gradquake.avalanche import _kernels_tensors, probe
from gradquake.avalanche._kernels_angle import BLOCK
from gradquake.avalanche.tensors import FEWEST_LAYERS, MOST_TENSORS, Layers, layer_names
from gradquake.errors import InputError
from kernel_cases import examples, gradients, marks_of, plain, quantiles, seeds


def naive_counts(gradient, graph, threshold, alpha, max_steps, tensors):
    """Relax a gradient, and list the entries that topple at each step."""
    state, kind, steps = gradient.copy(), gradient.dtype.type, []
    for _ in range(max_steps):
        # In float64: float32 would round the threshold.
        unstable = np.flatnonzero(np.abs(state).astype(np.float64) > threshold)
        if unstable.size == 0:
            break
        steps.append(unstable)
        moved = kind(alpha) * state[unstable]
        state[unstable] *= kind(1 - alpha)
        for i, amount in zip(unstable, moved, strict=True):
            neighbors = graph.indices[graph.indptr[i] : graph.indptr[i + 1]]
            share = kind(amount / max(neighbors.size, 1))
            for j in neighbors:
                state[j] += share
    owner = np.repeat(np.arange(len(tensors)), list(tensors.values()))
    by_step = np.array([np.bincount(owner[of], minlength=len(tensors)) for of in steps])
    ever = np.unique(np.concatenate(steps)) if steps else np.zeros(0, int)
    return by_step.reshape(-1, len(tensors)), np.bincount(owner[ever], minlength=len(tensors))


def assert_counts(found, by_step, area):
    duration, tensors = by_step.shape
    assert found.by_step[:duration].tolist() == by_step.tolist()
    assert not found.by_step[duration:].any()
    assert found.topplings.tolist() == by_step.sum(axis=0).tolist()
    assert found.generations[:duration].tolist() == by_step.sum(axis=1).tolist()
    assert found.above.tolist() == (by_step[0].tolist() if duration else [0] * tensors)
    assert found.area.tolist() == area.tolist()


def lengths_of(rng, n, count):
    edges = np.sort(rng.choice(n - 1, min(count, n) - 1, replace=False)) + 1 if n > 1 else []
    return {f"t{k}": int(length) for k, length in enumerate(np.diff([0, *edges, n]))}


@examples(150)
@given(
    gradient=gradients(300),
    seed=seeds,
    count=st.integers(1, MOST_TENSORS),
    quantile=quantiles,
    alpha=st.floats(0.05, 0.9),
    max_steps=st.sampled_from([1, 2, 20]),
    topology=st.sampled_from(["barabasi_albert", "ring", "erdos_renyi"]),
)
def test_counts_are_those_of_every_node(gradient, seed, count, quantile, alpha, max_steps, topology):
    gradient = np.resize(gradient, max(gradient.size, 5))
    n = gradient.size
    tensors = lengths_of(np.random.default_rng(seed), n, count)
    measured = Probe(topology, alpha=alpha, quantile=quantile, max_steps=max_steps)
    found = measured.measure(gradient, tensors=tensors)
    graph = measured.graph_on(n)
    counts = naive_counts(gradient, graph, found.threshold, alpha, max_steps, tensors)
    assert_counts(found.tensors, *counts)
    assert found.tensors.names == tuple(tensors)
    assert found.tensors.entries.tolist() == list(tensors.values())

    # Counting changes nothing else.
    without = measured.measure(gradient)
    assert without.tensors is None
    assert without.measured() | found.tensors.measured() == found.measured()
    assert without.relaxed.tobytes() == found.relaxed.tobytes()


@examples(80)
@given(size=st.integers(1, 3000), seed=seeds, count=st.integers(0, 60), share=st.floats(0, 1))
def test_kernels_count_as_python_does(size, seed, count, share):
    rng = np.random.default_rng(seed)
    toppled = rng.random(size) < share
    # Empty stretches, too, and edges that leave out both ends.
    edges = np.sort(rng.integers(0, size + 1, count + 1))
    expected = [int(toppled[a:b].sum()) for a, b in pairwise(edges)]
    nodes = np.flatnonzero(toppled).astype(np.int32)
    listed = np.concatenate([nodes, np.array([0, 0], np.int32)])
    for version in (lambda kernel: kernel, plain):
        found = np.full((2, count), 5)
        version(_kernels_tensors.count_listed)(listed, nodes.size, edges, found[0])
        version(_kernels_tensors.count_marked)(marks_of(toppled), edges, found[1])
        assert (found - 5).tolist() == [expected, expected]


def test_steps_after_the_hundredth_are_counted_together():
    gradient = np.array([1.0, 1e30, 0.0, 0.0, 0.0, 1.0])
    avalanche = Probe("ring", alpha=0.1, max_steps=400, quantile=0.1).measure(
        gradient, tensors={"a": 2, "b": 4}
    )
    assert avalanche.duration > 100
    found = avalanche.tensors
    assert found.by_step.shape == (100, 2)
    assert found.topplings.sum() == avalanche.size > found.generations.sum()
    short = Probe("ring", alpha=0.1, max_steps=100, quantile=0.1).measure(gradient)
    assert found.generations.sum() == short.size


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("places", [[], [1], [BLOCK - 1, BLOCK + 3], [700, 1400]])
@pytest.mark.parametrize("topology", ["barabasi_albert", "random_regular"])
def test_pieces_count_as_the_whole(places, threads, topology):
    n = 3 * BLOCK + 77
    rng = np.random.default_rng(3)
    vector = rng.standard_t(3, n)
    tensors = lengths_of(rng, n, 17)
    measured = Probe(topology)
    whole = measured.measure(vector, tensors=tensors)
    found = measured.measure_pieces(cut(vector, places), threads=threads, tensors=tensors)
    assert found.tensors.measured() == whole.tensors.measured()
    assert found.tensors.by_step.tolist() == whole.tensors.by_step.tolist()
    own = cut(vector, places)
    shared = together(
        len(own), lambda e: measured.measure_pieces([own[e.rank]], exchange=e, tensors=tensors)
    )
    assert all(of.tensors.measured() == whole.tensors.measured() for of in shared)


def test_a_large_gradient_is_counted_as_a_small_one(monkeypatch):
    rng = np.random.default_rng(4)
    vector = rng.standard_t(2, 30_000).astype(np.float32)
    tensors = lengths_of(rng, vector.size, 30)
    small = Probe("ring").measure(vector, tensors=tensors)
    monkeypatch.setattr(probe, "LARGE", 1000)
    large = Probe("ring").measure(vector, tensors=tensors)
    assert large.tensors.by_step.tolist() == small.tensors.by_step.tolist()
    assert large.tensors.area.tolist() == small.tensors.area.tolist()


def test_a_batch_counts_each_gradient_with_its_own_tensors():
    rng = np.random.default_rng(5)
    vectors = [rng.standard_normal(n) for n in (50, 700, 90)]
    tensors = [lengths_of(rng, v.size, count) for v, count in zip(vectors, (3, 11, 1), strict=True)]
    batch = Probe().measure_batch(vectors, tensors=tensors)
    for b, (vector, own) in enumerate(zip(vectors, tensors, strict=True)):
        alone = Probe().measure(vector, tensors=own)
        assert batch[b].tensors.measured() == alone.tensors.measured()
        assert batch.tensors[b].by_step.tolist() == alone.tensors.by_step.tolist()
    equal = Probe().measure_batch(np.stack([vectors[1]] * 4), tensors=tensors[1], threads=2)
    measured = equal.measured()
    assert measured["tensor_topplings"].shape == (4, 11)
    assert measured["generation_topplings"].shape == (4, 20)
    assert (measured["tensor_topplings"].sum(axis=1) == measured["size"]).all()
    assert (measured["tensor_area"].sum(axis=1) == measured["area"]).all()
    assert Probe().measure_batch(vectors).tensors is None


def test_the_function_measure_takes_tensors():
    gradient = np.random.default_rng(0).standard_normal(500)
    found = gq.measure(gradient, tensors={"a": 100, "b": 400}).tensors
    assert repr(found).startswith("TensorCounts(2 tensors: b ")


def test_tensors_of_one_layer_need_not_be_neighbors():
    inside = [(part, i) for part in ("a", "b") for i in range(6)]
    names = {f"{part}.{i}.{k}": k + 1 for k in range(4) for part, i in inside}
    n = sum(names.values())
    vector = np.random.default_rng(1).standard_normal(n)
    found = Probe("ring").measure(vector, tensors=names).tensors
    assert found.names == tuple(f"{part}.{i}" for part, i in inside)
    assert found.entries.tolist() == [10] * 12
    apart = Layers.of(names, n)
    assert apart.of_stretch.tolist() == list(range(12)) * 4
    owner = [k % 12 for k, length in enumerate(names.values()) for _ in range(length)]
    above = np.abs(vector) > Probe("ring").measure(vector).threshold
    assert found.above.tolist() == np.bincount(np.array(owner)[above], minlength=12).tolist()


def gpt(blocks):
    inside = ("ln_1.weight", "attn.qkv.weight", "attn.out.weight", "ln_2.weight", "mlp.in.weight")
    names = ["transformer.wte.weight", "transformer.wpe.weight"]
    names += [f"transformer.h.{k}.{of}" for k in range(blocks) for of in inside]
    return [*names, "transformer.ln_f.weight", "lm_head.weight"]


def test_few_tensors_keep_their_names_and_many_are_counted_by_layer():
    assert layer_names(gpt(2)) == gpt(2)
    twelve = list(dict.fromkeys(layer_names(gpt(12))))
    assert twelve == [
        "transformer.wte", "transformer.wpe", *(f"transformer.h.{k}" for k in range(12)),
        "transformer.ln_f", "lm_head",
    ]  # fmt: skip
    # Blocks are joined if there are too many of them.
    hundred = list(dict.fromkeys(layer_names(gpt(100))))
    assert len(hundred) <= MOST_TENSORS
    assert hundred[1] == "transformer.h.1 to transformer.h.3"
    flat = layer_names([f"p{k}" for k in range(81)])
    assert list(dict.fromkeys(flat))[:2] == ["p0 to p2", "p3 to p5"]


@examples(200)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "0", "1", "", "h é"]), min_size=1, max_size=4),
        min_size=1, max_size=150, unique_by=".".join,
    )
)  # fmt: skip
def test_there_are_never_too_many_layers(parts):
    names = [".".join(of) for of in parts]
    layers = layer_names(names)
    assert len(layers) == len(names)
    assert len(set(layers)) <= MOST_TENSORS
    if len(names) <= MOST_TENSORS:
        assert layers == names
    else:
        assert len(set(layers)) >= min(FEWEST_LAYERS, len(set(names)) // 4)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a": 2}, "2 entries together and the gradient 5"),
        ({"a": 5, "b": 0}, "an integer of at least 1"),
        ({"a": 2.5, "b": 2.5}, "an integer of at least 1"),
        ({}, "tensors is empty"),
        ((2, 3), "a mapping of names"),
        ({1: 5}, "a mapping of names"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors, said):
    with pytest.raises(InputError, match=said):
        Probe("ring").measure(np.ones(5), tensors=tensors)


def test_a_batch_needs_the_tensors_of_each():
    with pytest.raises(InputError, match="tensors of 2 gradients were given for 3 gradients"):
        Probe("ring").measure_batch(np.ones((3, 5)), tensors=[{"a": 5}] * 2)
