"""The cascade in torch operations against the compiled one, bit for bit."""

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gradquake import InputError, Probe
from gradquake.avalanche import graphs, topologies
from gradquake.avalanche.probe import LARGE
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.tensors import Layers
from gradquake.avalanche.topologies import TOPOLOGIES, build
from gradquake.torch import device, placement
from gradquake.torch.device import relax
from gradquake.torch.placement import place, place_layers

DTYPES = (np.float32, np.float64)


def examples(count):
    return settings(deadline=None, derandomize=True, max_examples=count)


def adjacent(rng, n):
    """Neighboring numbers of single precision, between which a threshold is not one of them."""
    return np.ldexp(2**23 + rng.integers(0, 3, n), -23) * rng.choice([-1, 1], n)


SHAPES = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "heavy-tailed": lambda rng, n: rng.standard_t(1, n),
    "ties": lambda rng, n: rng.integers(-3, 4, n) / 4,
    "all equal": lambda rng, n: np.full(n, 0.25) * rng.choice([-1, 1], n),
    "zeros": lambda rng, n: np.zeros(n) * rng.choice([-1, 1], n),
    "mostly zeros": lambda rng, n: rng.standard_normal(n) * (rng.random(n) < 0.05),
    "adjacent": adjacent,
    "tiny": lambda rng, n: rng.standard_normal(n) * 1e-43,
    "huge": lambda rng, n: rng.uniform(-3e38, 3e38, n),
}

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from(sorted(SHAPES))
dtypes = st.sampled_from(DTYPES)
quantiles = st.one_of(st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 1.0]), st.floats(0, 1))
alphas = st.one_of(st.just(0.3), st.floats(0.01, 0.99))
# What a launch costs decides how a step is shared: no hubs, a few, nothing but hubs.
launches = st.sampled_from([0, 10, 1000, 10**9])


def draw(shape, seed, n, dtype):
    return SHAPES[shape](np.random.default_rng(seed), n).astype(dtype)


def either(measure):
    """What a measurement gives, or the error that it raises."""
    try:
        return measure()
    except InputError as error:
        return error


def assert_as_compiled(gradient, graph, *, quantile=0.9, alpha=0.3, max_steps=20, on="cpu"):
    settings = {"quantile": quantile, "alpha": alpha, "max_steps": max_steps}
    expected = either(lambda: Probe(graph, **settings).measure(gradient))
    tensor = torch.from_numpy(gradient.copy()).to(on)
    found = either(lambda: relax(tensor, place(graph, on), CascadeSettings(**settings)))
    assert tensor.cpu().numpy().tobytes() == gradient.tobytes()
    if isinstance(expected, InputError):
        assert str(found) == str(expected)
        return
    for name in ("size", "isolated", "duration", "area", "peak", "truncated", "threshold"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in (field.name for field in fields(expected) if field.name != "relaxed"):
        assert type(getattr(found, name)) is type(getattr(expected, name)), name
    assert found.relaxed.device == tensor.device
    # Bit for bit, the sign of a zero included.
    assert found.relaxed.cpu().numpy().tobytes() == expected.relaxed.tobytes()
    assert found.deviation == pytest.approx(expected.deviation, rel=1e-6, abs=1e-5)
    lost = max(np.abs(gradient.astype(np.float64)).sum(), 1e-300)
    assert found.dissipated == pytest.approx(expected.dissipated, rel=1e-12, abs=1e-12 * lost)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@examples(25)
@given(
    shape=shapes,
    seed=seeds,
    dtype=dtypes,
    size=st.integers(1, 90),
    quantile=quantiles,
    alpha=alphas,
    max_steps=st.sampled_from([1, 2, 20]),
    launch=launches,
)
def test_every_topology_as_compiled(
    topology, shape, seed, dtype, size, quantile, alpha, max_steps, launch
):
    n = 4 * size + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "SHARES_PER_LAUNCH", launch)
        assert_as_compiled(
            draw(shape, seed, n, dtype),
            build(topology, n, seed),
            quantile=quantile,
            alpha=alpha,
            max_steps=max_steps,
        )


@examples(60)
@given(
    shape=shapes,
    seed=seeds,
    dtype=dtypes,
    n=st.integers(1, 40),
    density=st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    quantile=quantiles,
    launch=launches,
)
def test_any_graph_as_compiled(shape, seed, dtype, n, density, quantile, launch):
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(np.triu(np.ones((n, n)), 1))
    graph = graphs.from_edges(n, pairs[rng.random(len(pairs)) < density])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "SHARES_PER_LAUNCH", launch)
        assert_as_compiled(draw(shape, seed, n, dtype), graph, quantile=quantile)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("topology", ["barabasi_albert", "erdos_renyi", "ring"])
def test_thousands_of_nodes_as_compiled(topology, dtype):
    graph = build(topology, 30_001, 1)
    assert_as_compiled(draw("heavy-tailed", 2, 30_001, dtype), graph)
    placed = place(graph, "cpu")
    assert placed.n_hubs > 0 or topology != "barabasi_albert"
    assert (placed.n_isolated > 0) == (topology == "erdos_renyi")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("launch", [0, 1000])
def test_one_hub_receives_in_order(dtype, launch, monkeypatch):
    monkeypatch.setattr(placement, "SHARES_PER_LAUNCH", launch)
    n = 1000
    star = graphs.from_edges(n, [(300, i) for i in range(n) if i != 300])
    assert_as_compiled(draw("normal", 3, n, dtype), star, quantile=0.3)


def test_degrees_beyond_single_precision_divide_in_double(monkeypatch):
    monkeypatch.setattr(device, "EXACT_DEGREE", 1)
    assert_as_compiled(draw("normal", 4, 500, np.float32), build("barabasi_albert", 500, 0))


def test_a_division_in_double_and_rounded_is_one_in_single():
    rng = np.random.default_rng(5)
    shares = (rng.standard_normal(10**5) * 10.0 ** rng.integers(-44, 30, 10**5)).astype(np.float32)
    degrees = np.concatenate(
        [rng.integers(1, 30, 50_000), rng.integers(1, device.EXACT_DEGREE + 1, 50_000)]
    )
    single = torch.from_numpy(shares) / torch.from_numpy(degrees).to(torch.float32)
    assert single.numpy().tobytes() == (shares / degrees.astype(np.float64)).astype(np.float32).tobytes()


# The threshold


def naive_threshold(gradient, quantile):
    return np.quantile(np.abs(gradient).astype(np.float64), quantile)


@examples(150)
@given(shape=shapes, seed=seeds, dtype=dtypes, n=st.integers(1, 200), quantile=quantiles)
@example(shape="normal", seed=0, dtype=np.float32, n=5000, quantile=0.9)
def test_the_threshold_is_that_of_numpy(shape, seed, dtype, n, quantile):
    gradient = draw(shape, seed, n, dtype)
    threshold, largest = device._magnitude_quantile(torch.from_numpy(gradient), quantile)
    assert threshold == naive_threshold(gradient, quantile)
    assert largest == np.abs(gradient).max()


def test_the_threshold_rounds_as_that_of_numpy_at_every_weight():
    # Far apart, so that it matters from which end the threshold is counted.
    gradient = draw("heavy-tailed", 10, 5, np.float64)
    for quantile in np.random.default_rng(11).random(100).tolist():
        found, _ = device._magnitude_quantile(torch.from_numpy(gradient), quantile)
        assert found == naive_threshold(gradient, quantile)


@examples(100)
@given(gradient=seeds.map(lambda seed: draw("adjacent", seed, 50, np.float32)), quantile=quantiles)
def test_a_threshold_between_two_singles_parts_them(gradient, quantile):
    threshold = naive_threshold(gradient, quantile)
    level = device._rounded_down(threshold, np.float32)
    assert level == np.float32(level)
    above = torch.from_numpy(gradient).abs() > level
    np.testing.assert_array_equal(above.numpy(), np.abs(gradient).astype(np.float64) > threshold)


def test_a_single_just_above_the_threshold_topples():
    # The threshold, three tenths below the larger of two neighbors, is that one in single precision.
    gradient = np.array([1, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    threshold = naive_threshold(gradient, 0.7)
    assert np.float32(threshold) == gradient[1] > threshold
    pair = graphs.from_edges(2, [(0, 1)])
    cascade = CascadeSettings(quantile=0.7, max_steps=1)
    found = relax(torch.from_numpy(gradient), place(pair, "cpu"), cascade)
    assert (found.size, found.threshold) == (1, threshold)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_gradient_is_summed_in_parts(dtype, monkeypatch):
    monkeypatch.setattr(device, "CHUNK", 100)
    assert_as_compiled(draw("normal", 6, 1001, dtype), build("ring", 1001, 0))


@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1e100, 1e200])
def test_the_angle_does_not_depend_on_the_scale(scale):
    gradient, graph = draw("normal", 12, 101, np.float64), build("erdos_renyi", 101, 0)
    assert_as_compiled(gradient * scale, graph)


# What is given


def measured(tensor, n=9, **settings):
    placed = place(topologies.ring(n), "cpu")
    return relax(tensor, placed, CascadeSettings(**{"quantile": 0.5, **settings}))


def test_a_strided_gradient_with_history_is_measured_as_it_is():
    buffer = torch.from_numpy(draw("normal", 7, 27, np.float64)).requires_grad_()
    strided = (buffer * 1.0)[1::3]
    found, copied = measured(strided), measured(strided.detach().clone())
    assert found.size == copied.size > 0
    assert not found.relaxed.requires_grad
    assert torch.equal(found.relaxed, copied.relaxed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_as_single(dtype):
    half = torch.from_numpy(draw("normal", 8, 9, np.float32)).to(dtype)
    found, single = measured(half), measured(half.to(torch.float32))
    assert found.relaxed.dtype == torch.float32
    assert torch.equal(found.relaxed, single.relaxed)
    assert (found.size, found.deviation) == (single.size, single.deviation)


def test_nothing_is_drawn_and_twice_is_the_same():
    state = torch.get_rng_state()
    gradient = torch.from_numpy(draw("heavy-tailed", 9, 9, np.float32))
    first, again = measured(gradient), measured(gradient)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.relaxed.numpy().tobytes() == again.relaxed.numpy().tobytes()
    assert (first.size, first.deviation) == (again.size, again.deviation)


def test_a_placed_graph_describes_itself():
    placed = place(topologies.ring(9), "cpu")
    assert repr(placed) == "DeviceGraph(n_nodes=9, device='cpu')"
    assert "relaxed" not in repr(measured(torch.ones(9)))


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_refused_as_the_probe_does(value, dtype):
    for at in (0, 4, 8):
        gradient = np.arange(9).astype(dtype)
        gradient[at] = value
        with pytest.raises(InputError) as refused:
            Probe("ring").measure(gradient)
        with pytest.raises(InputError) as found:
            measured(torch.from_numpy(gradient))
        assert str(found.value) == str(refused.value)


def test_a_cascade_that_overflows_is_refused_as_the_probe_does():
    star = graphs.from_edges(6, [(0, i) for i in range(1, 6)])
    gradient = np.array([1e38, 3.4e38, 3.4e38, 3.4e38, 3.3e38, 3.3e38], np.float32)
    with pytest.raises(InputError, match="so large that its cascade overflows float32"):
        Probe(star, quantile=0.2, alpha=0.9).measure(gradient)
    assert_as_compiled(gradient, star, quantile=0.2, alpha=0.9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: measured([1.0] * 9), "the gradient is a list; a torch tensor is needed"),
        (
            lambda: measured(torch.ones(9, dtype=torch.int64)),
            "dtype torch.int64; a floating-point dtype",
        ),
        (lambda: measured(torch.ones(3, 3)), r"shape \(3, 3\); a flat vector \(N,\) is needed"),
        (lambda: measured(torch.ones(8)), "has 8 entries and the graph 9 nodes; they must be equal"),
        (lambda: measured(torch.ones(0)), "has 0 entries and the graph 9 nodes"),
        (lambda: measured(torch.ones(9, device="meta")), "on meta and the graph on cpu; one device"),
        (
            lambda: relax(torch.ones(9), topologies.ring(9), CascadeSettings()),
            r"the graph is Graph\(.*\); a DeviceGraph is needed",
        ),
        (lambda: place("ring", "cpu"), "the graph is 'ring'; a gradquake Graph is needed"),
        (lambda: place(topologies.ring(9), "mps"), "device mps has no float64"),
    ],
)
def test_bad_input_is_one_sentence(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_an_accelerator_as_compiled(dtype):
    for topology, shape in itertools.product(TOPOLOGIES, SHAPES):
        for n, quantile in ((5, 0.5), (401, 0.9), (30_001, 0.9), (30_001, 0.3)):
            graph = build(topology, n, 1)
            assert_as_compiled(draw(shape, 2, n, dtype), graph, quantile=quantile, on="cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [LARGE - 1, LARGE])
def test_large_gradients_as_compiled(n, dtype):
    assert_as_compiled(draw("normal", 0, n, dtype), topologies.ring(n), max_steps=1)


@pytest.mark.parametrize("shape", ["normal", "tiny", "huge"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpys_setting_for_errors_changes_nothing(shape, dtype):
    with np.errstate(all="ignore"):
        gradient = draw(shape, 0, 201, dtype)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="raise"):
        # Nothing but hubs, which are added on the host.
        patch.setattr(placement, "SHARES_PER_LAUNCH", 10**9)
        assert_as_compiled(gradient, topologies.barabasi_albert(201, seed=0), alpha=1e-50)
        assert_as_compiled(gradient, topologies.barabasi_albert(201, seed=0))


@examples(60)
@given(
    shape=shapes,
    seed=seeds,
    n=st.integers(5, 300),
    count=st.integers(1, 60),
    dtype=dtypes,
    topology=st.sampled_from(["barabasi_albert", "ring", "erdos_renyi"]),
    max_steps=st.sampled_from([1, 3, 20]),
)
def test_topplings_by_tensor_are_those_of_the_compiled_cascade(
    shape, seed, n, count, dtype, topology, max_steps
):
    gradient = draw(shape, seed, n, dtype)
    edges = np.sort(np.random.default_rng(seed).choice(n - 1, min(count, n) - 1, replace=False)) + 1
    lengths = np.diff([0, *edges, n]).tolist()
    layers = Layers.of({f"{k % 3}.{k}": length for k, length in enumerate(lengths)}, n)
    probe = Probe(topology, max_steps=max_steps)
    expected = either(lambda: probe.measure(gradient, tensors=layers))
    if isinstance(expected, InputError):
        return
    placed = place(probe.graph_on(n), "cpu")
    found = relax(torch.from_numpy(gradient), placed, probe, place_layers(layers, placed))
    assert found.tensors.measured() == expected.tensors.measured()
    assert found.tensors.by_step.tolist() == expected.tensors.by_step.tolist()
