"""The cascade: known answers by hand, the symmetries of the update, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake import InputError, Probe, relax
from gradquake.avalanche import graphs, topologies
from gradquake.avalanche.checks import as_gradient
from gradquake.avalanche.graphs import from_edges

COUNTS = ("size", "duration", "area", "peak", "truncated")

PATH = from_edges(3, [(0, 1), (1, 2)])
STAR = from_edges(3, [(0, 1), (0, 2)])
APART = from_edges(2, [])

seeds = st.integers(0, 2**32 - 1)
alphas = st.floats(0.05, 0.95)


def examples(count):
    return settings(deadline=None, derandomize=True, max_examples=count)


def counts(avalanche):
    return tuple(getattr(avalanche, name) for name in COUNTS)


def bits(avalanche):
    """Everything about an avalanche; equal only where all of it is the same to the last bit."""
    numbers = (avalanche.deviation, avalanche.threshold, avalanche.dissipated)
    return *counts(avalanche), *numbers, avalanche.relaxed.dtype, avalanche.relaxed.tobytes()


def quantile(gradient, q=0.8):
    return float(np.quantile(np.abs(gradient).astype(np.float64), q))


def connected_edges(rng, n):
    """A random tree and as many edges again: no node is without a neighbor."""
    tree = [(i, int(rng.integers(i))) for i in range(1, n)]
    more = {tuple(sorted(pair)) for pair in rng.integers(n, size=(n, 2)).tolist()}
    more -= {tuple(sorted(pair)) for pair in tree}
    return tree + [(i, j) for i, j in sorted(more) if i != j]


@st.composite
def cases(draw, isolated=False):
    """A generic gradient (no ties) and a random graph on as many nodes."""
    rng = np.random.default_rng(draw(seeds))
    n = draw(st.integers(2, 60))
    edges = connected_edges(rng, n)
    if isolated:
        edges = [edge for edge in edges if rng.random() < 0.3]
    return rng.standard_normal(n), from_edges(n, edges)


# By hand


def test_a_path_where_the_middle_topples():
    # 4 > 2: the middle keeps 4 / 2 = 2 and hands 4 / 2 / 2 = 1 to each side: (2, 2, 2), and 2 > 2
    # does not hold. The angle between (1, 4, 1) and (2, 2, 2): cos = 12 / sqrt(18 * 12).
    avalanche = relax([1.0, 4.0, 1.0], PATH, threshold=2, alpha=0.5)
    assert avalanche.relaxed.tolist() == [2, 2, 2]
    assert counts(avalanche) == (1, 1, 1, 1, False)
    expected = math.degrees(math.acos(12 / math.sqrt(18 * 12)))
    assert avalanche.deviation == pytest.approx(expected, rel=1e-12)
    assert (avalanche.threshold, avalanche.dissipated) == (2, 0)


def test_a_path_where_all_shares_are_of_the_gradient_as_the_step_began():
    # Step 1: node 0 keeps 8 / 2 = 4, hands 4 to node 1:               (4, 5, 0)
    # Step 2: node 0 keeps 2, hands 2; node 1 keeps 2.5, hands 1.25 to each:
    #         (2 + 1.25, 2.5 + 2, 0 + 1.25)                           = (3.25, 4.5, 1.25)
    avalanche = relax([8.0, 1.0, 0.0], PATH, threshold=1.5, alpha=0.5, max_steps=2)
    assert avalanche.relaxed.tolist() == [3.25, 4.5, 1.25]
    assert counts(avalanche) == (3, 2, 2, 2, True)


def test_alpha_is_the_share_given_away():
    # 8 > 4: node 0 keeps 6 and hands a quarter, 2; 6 > 4: keeps 4.5, hands 1.5;
    # 4.5 > 4: keeps 3.375, hands 1.125. Node 1 holds 2 + 1.5 + 1.125 = 4.625 > 4, though, by
    # then: it keeps 3.46875 and hands 1.15625 / 2 to each side.
    avalanche = relax([8.0, 0.0, 0.0], PATH, threshold=4, alpha=0.25)
    assert avalanche.relaxed.tolist() == [3.375 + 0.578125, 3.46875, 0.578125]
    assert counts(avalanche) == (4, 4, 2, 1, False)


def test_opposite_shares_cancel_at_a_node_that_stays_stable():
    # The leaves hand 4 and -4 to the hub, which is above 3 only between the two: (0, 4, -4), then
    # 2 and -2: (0, 2, -2).
    avalanche = relax([0.0, 8.0, -8.0], STAR, threshold=3, alpha=0.5)
    assert avalanche.relaxed.tolist() == [0, 2, -2]
    assert counts(avalanche) == (4, 2, 2, 2, False)
    assert avalanche.deviation == 0


def test_a_node_without_neighbors_loses_its_share_to_nowhere():
    # 4 -> 3 -> 2.25 -> 1.6875, a quarter lost at each step: 1 + 0.75 + 0.5625 = 2.3125.
    avalanche = relax([4.0, -1.0], APART, threshold=2, alpha=0.25)
    assert avalanche.relaxed.tolist() == [1.6875, -1]
    assert counts(avalanche) == (3, 3, 1, 1, False)
    assert avalanche.dissipated == 2.3125


def test_a_threshold_of_zero_lets_everything_but_zeros_topple():
    # (2, 0, 0) -> (1, 1, 0) -> (0.5 + 0.25, 0.5 + 0.5, 0.25)
    avalanche = relax([2.0, 0.0, 0.0], PATH, threshold=0, alpha=0.5, max_steps=2)
    assert avalanche.relaxed.tolist() == [0.75, 1, 0.25]
    assert counts(avalanche) == (3, 2, 2, 2, True)


def test_the_defaults_are_those_of_the_protocol():
    gradient = np.random.default_rng(0).standard_normal(50)
    graph = topologies.ring(50)
    explicit = relax(gradient, graph, threshold=0.5, alpha=0.3, max_steps=20)
    assert bits(relax(gradient, graph, threshold=0.5)) == bits(explicit)


# Symmetries and invariants


def by_matrix(gradient, graph, threshold, alpha, max_steps):
    """The update as one product with the adjacency matrix a step."""
    n = graph.n_nodes
    adjacency = np.zeros((n, n))
    adjacency[np.repeat(np.arange(n), graph.degrees), graph.indices] = 1
    g, steps = gradient.astype(np.float64), []
    unstable = np.abs(g) > threshold
    while unstable.any() and len(steps) < max_steps:
        moved = np.where(unstable, alpha * g, 0)
        g = g - moved + adjacency @ (moved / np.maximum(graph.degrees, 1))
        steps.append(unstable)
        unstable = np.abs(g) > threshold
    topplings = np.array(steps).reshape(len(steps), n)
    peak = int(topplings.sum(axis=1).max(initial=0))
    area = int(topplings.any(axis=0).sum())
    return g, (int(topplings.sum()), len(steps), area, peak, bool(unstable.any()))


@examples(60)
@given(case=cases(isolated=True), alpha=alphas, max_steps=st.integers(1, 30))
def test_the_cascade_is_the_update_written_with_matrices(case, alpha, max_steps):
    gradient, graph = case
    threshold = quantile(gradient)
    avalanche = relax(gradient, graph, threshold=threshold, alpha=alpha, max_steps=max_steps)
    expected, expected_counts = by_matrix(gradient, graph, threshold, alpha, max_steps)
    assert counts(avalanche) == expected_counts
    np.testing.assert_allclose(avalanche.relaxed, expected, rtol=1e-12, atol=1e-14)


@examples(60)
@given(case=cases(), alpha=alphas, dtype=st.sampled_from(["float32", "float64"]))
def test_the_sum_is_conserved_where_every_node_has_a_neighbor(case, alpha, dtype):
    gradient, graph = case[0].astype(dtype), case[1]
    avalanche = relax(gradient, graph, threshold=quantile(gradient), alpha=alpha)
    before, after = (float(g.sum(dtype=np.float64)) for g in (gradient, avalanche.relaxed))
    assert avalanche.dissipated == 0
    assert after == pytest.approx(before, abs=100 * gradient.size * float(np.finfo(dtype).eps))


@examples(60)
@given(case=cases(isolated=True), alpha=alphas)
def test_the_sum_and_what_was_dissipated_are_conserved_anywhere(case, alpha):
    gradient, graph = case
    avalanche = relax(gradient, graph, threshold=quantile(gradient, 0.5), alpha=alpha)
    after = avalanche.relaxed.sum() + avalanche.dissipated
    assert after == pytest.approx(gradient.sum(), abs=1e-11)


@examples(60)
@given(
    case=cases(isolated=True),
    power=st.integers(-60, 60),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_a_power_of_two_scales_every_bit_alike(case, power, dtype):
    gradient, graph = case[0].astype(dtype), case[1]
    # Single precision reaches from 2^-126 to 2^127, double precision much further.
    scale, threshold = 2.0 ** (power if dtype == "float32" else 15 * power), quantile(gradient)
    first = relax(gradient, graph, threshold=threshold)
    second = relax(gradient * gradient.dtype.type(scale), graph, threshold=threshold * scale)
    assert counts(second) == counts(first)
    assert second.deviation == first.deviation
    assert second.dissipated == first.dissipated * scale
    np.testing.assert_array_equal(second.relaxed, first.relaxed * scale)


@examples(60)
@given(case=cases(isolated=True), exponent=st.floats(-290, 290))
def test_any_positive_scale_changes_no_count(case, exponent):
    gradient, graph = case
    scaled = gradient * 10**exponent
    first = relax(gradient, graph, threshold=quantile(gradient))
    second = relax(scaled, graph, threshold=quantile(scaled))
    assert counts(second) == counts(first)
    assert second.deviation == pytest.approx(first.deviation, rel=1e-9, abs=1e-5)


@examples(40)
@given(case=cases(isolated=True))
def test_the_sign_of_the_whole_gradient_changes_nothing_else(case):
    gradient, graph = case
    first = relax(gradient, graph, threshold=quantile(gradient))
    second = relax(-gradient, graph, threshold=quantile(gradient))
    assert counts(second) == counts(first)
    np.testing.assert_array_equal(second.relaxed, -first.relaxed)


@examples(60)
@given(case=cases(isolated=True), seed=seeds)
def test_new_names_for_the_nodes_change_nothing(case, seed):
    gradient, graph = case
    name = np.random.default_rng(seed).permutation(gradient.size)
    renamed = np.empty_like(gradient)
    renamed[name] = gradient
    ends = np.repeat(np.arange(graph.n_nodes), graph.degrees), graph.indices
    once = ends[0] < ends[1]
    other = from_edges(graph.n_nodes, np.column_stack([name[end[once]] for end in ends]))

    first = relax(gradient, graph, threshold=quantile(gradient))
    second = relax(renamed, other, threshold=quantile(renamed))
    assert counts(second) == counts(first)
    # The sums run in another order.
    np.testing.assert_allclose(second.relaxed[name], first.relaxed, rtol=0, atol=1e-12)
    assert second.deviation == pytest.approx(first.deviation, rel=1e-9, abs=1e-5)


@examples(40)
@given(seed=seeds, n=st.integers(2, 60))
def test_the_order_of_the_edges_changes_no_bit(seed, n):
    rng = np.random.default_rng(seed)
    edges = np.array(connected_edges(rng, n))
    gradient = rng.standard_normal(n)
    shuffled = rng.permuted(rng.permutation(edges), axis=1)
    first, second = (
        relax(gradient, from_edges(n, e), threshold=quantile(gradient)) for e in (edges, shuffled)
    )
    assert bits(second) == bits(first)


@pytest.mark.parametrize("value", [0.0, 0.1, -0.1, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_topples_where_all_magnitudes_are_equal(dtype, value):
    signs = np.random.default_rng(1).choice([-1, 1], 40)
    gradient = (value * signs).astype(dtype)
    avalanche = relax(gradient, topologies.ring(40), threshold=quantile(gradient))
    assert counts(avalanche) == (0, 0, 0, 0, False)
    assert (avalanche.deviation, avalanche.dissipated) == (0, 0)
    assert avalanche.relaxed.tobytes() == gradient.tobytes()


@examples(80)
@given(
    case=cases(isolated=True),
    alpha=alphas,
    q=st.floats(0, 1),
    max_steps=st.integers(1, 40),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_the_measures_bound_one_another(case, alpha, q, max_steps, dtype):
    gradient, graph = case[0].astype(dtype), case[1]
    threshold = quantile(gradient, q)
    a = relax(gradient, graph, threshold=threshold, alpha=alpha, max_steps=max_steps)
    unstable_at_first = int((np.abs(gradient).astype(np.float64) > threshold).sum())
    assert unstable_at_first <= a.peak <= a.area <= min(a.size, graph.n_nodes)
    assert a.size <= a.peak * a.duration
    assert a.duration <= min(a.size, max_steps)
    still_unstable = (np.abs(a.relaxed).astype(np.float64) > threshold).any()
    assert a.truncated == still_unstable
    assert a.duration == max_steps or not a.truncated
    assert 0 <= a.deviation <= 180


@examples(30)
@given(case=cases(isolated=True))
def test_a_cascade_can_be_taken_up_where_it_was_truncated(case):
    gradient, graph = case
    threshold = quantile(gradient, 0.5)
    whole = relax(gradient, graph, threshold=threshold, max_steps=9)
    first = relax(gradient, graph, threshold=threshold, max_steps=4)
    rest = relax(first.relaxed, graph, threshold=threshold, max_steps=5)
    assert whole.size == first.size + rest.size
    assert whole.duration == first.duration + rest.duration
    assert whole.peak == max(first.peak, rest.peak)
    assert whole.relaxed.tobytes() == rest.relaxed.tobytes()


# Arrays of every kind


def test_the_gradient_given_is_left_as_it_is():
    gradient = np.random.default_rng(2).standard_normal(100)
    before = gradient.copy()
    avalanche = relax(gradient, topologies.ring(100), threshold=0.5)
    assert avalanche.size > 0
    np.testing.assert_array_equal(gradient, before)
    assert not np.shares_memory(gradient, avalanche.relaxed)


def strided(values, _):
    return np.repeat(values, 3)[::3]


def backwards(values, _):
    return values[::-1].copy()[::-1]


def row_of_fortran(values, _):
    return np.asfortranarray(np.tile(values, (3, 1)))[1]


def read_only(values, _):
    values = values.copy()
    values.flags.writeable = False
    return values


def mapped(values, folder):
    values.tofile(folder / "gradient")
    return np.memmap(folder / "gradient", values.dtype, mode="r")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", [strided, backwards, row_of_fortran, read_only, mapped])
def test_an_array_of_any_layout_gives_the_same_avalanche(layout, dtype, tmp_path):
    values = np.random.default_rng(3).standard_normal(100).astype(dtype)
    graph = topologies.barabasi_albert(100, seed=0)
    expected = relax(values, graph, threshold=0.9)
    gradient = layout(values, tmp_path)
    np.testing.assert_array_equal(gradient, values)

    avalanche = relax(gradient, graph, threshold=0.9)
    assert counts(avalanche) == counts(expected)
    assert avalanche.relaxed.tobytes() == expected.relaxed.tobytes()
    assert avalanche.deviation == expected.deviation
    assert type(avalanche.relaxed) is np.ndarray
    assert avalanche.relaxed.flags.writeable
    np.testing.assert_array_equal(gradient, values)


def test_a_list_of_floats_will_do():
    values = [0.5, -2.0, 1.0]
    assert bits(relax(values, PATH, threshold=1)) == bits(relax(np.array(values), PATH, threshold=1))


def test_the_cascade_runs_in_the_precision_of_the_gradient():
    single = np.random.default_rng(4).standard_normal(1001).astype(np.float32)
    double = single.astype(np.float64)
    graph = topologies.barabasi_albert(1001, seed=0)
    first, second = (relax(g, graph, threshold=quantile(single)) for g in (single, double))
    assert (first.relaxed.dtype, second.relaxed.dtype) == (np.float32, np.float64)
    # Hundreds of shares, each rounded to 2^-24 of numbers up to about 4.
    np.testing.assert_allclose(first.relaxed, second.relaxed, rtol=0, atol=1e-5)
    assert counts(first) == counts(second)
    assert first.deviation == pytest.approx(second.deviation, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_as_gradient_does_not_copy(dtype):
    values = np.zeros(6, dtype)[::2]
    assert np.shares_memory(as_gradient(values), values)


# What is refused


def with_entry(value):
    gradient = np.ones(3)
    gradient[1] = value
    return gradient


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        ([1, 2, 3], "the gradient has dtype int64; float32 or float64 is needed"),
        (np.ones(3, bool), "the gradient has dtype bool"),
        (np.ones(3, np.float16), "the gradient has dtype float16"),
        (np.ones(3, complex), "the gradient has dtype complex128"),
        (np.ones(3, ">f8"), "the gradient has dtype >f8"),
        (["a", "b", "c"], "the gradient has dtype <U1"),
        (np.ones((3, 1)), r"the gradient has shape \(3, 1\); a flat vector"),
        (np.array(1.0), r"the gradient has shape \(\); a flat vector"),
        (np.array([]), "the gradient is empty"),
        (np.ones(4), "the gradient has 4 entries and the graph 3 nodes; they must be equal"),
        (with_entry(np.nan), r"1 entry that is not finite, at 1 \(nan\)"),
        (with_entry(np.inf), r"1 entry that is not finite, at 1 \(inf\)"),
        (with_entry(-np.inf), r"1 entry that is not finite, at 1 \(-inf\)"),
        (np.full(3, np.nan, np.float32), r"3 entries that are not finite, the first at 0 \(nan\)"),
    ],
)
def test_a_gradient_that_cannot_be_used(gradient, message):
    with pytest.raises(InputError, match=message):
        relax(gradient, PATH, threshold=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.0}, r"alpha is 0\.0; a number in \(0, 1\) is needed"),
        ({"alpha": 1.0}, r"alpha is 1\.0; a number in \(0, 1\)"),
        ({"alpha": -0.3}, r"alpha is -0\.3; a number in \(0, 1\)"),
        ({"alpha": math.nan}, r"alpha is nan; a number in \(0, 1\)"),
        ({"threshold": -0.1}, r"threshold is -0\.1; a finite number of at least 0"),
        ({"threshold": math.nan}, "threshold is nan; a finite number of at least 0"),
        ({"threshold": math.inf}, "threshold is inf; a finite number of at least 0"),
        ({"max_steps": 0}, "max_steps is 0; an integer of at least 1"),
        ({"max_steps": -3}, "max_steps is -3; an integer of at least 1"),
        ({"max_steps": 1.5}, r"max_steps is 1\.5; an integer of at least 1"),
        ({"max_steps": 20.0}, r"max_steps is 20\.0; an integer of at least 1"),
        ({"max_steps": True}, "max_steps is True; an integer of at least 1"),
        ({"max_steps": None}, "max_steps is None; an integer of at least 1"),
    ],
)
def test_a_setting_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        relax(np.ones(3), PATH, **{"threshold": 0.5, **settings})


def test_an_input_error_is_a_value_error():
    with pytest.raises(ValueError, match="threshold is -1"):
        relax(np.ones(3), PATH, threshold=-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cascade_that_overflows_is_refused(dtype):
    huge = np.full(3, 0.95 * np.finfo(dtype).max, dtype)
    with pytest.raises(InputError, match="so large that its cascade overflows float"):
        relax(huge, PATH, threshold=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: relax(g, "ring", threshold=1.0), "the graph is 'ring'; a gradquake Graph is needed"),
        (lambda g: relax(g, PATH, threshold=None), "threshold is None; a number is needed"),
        (lambda g: relax(g, PATH, threshold=10**400), "threshold is too large"),
        (lambda g: relax(g, PATH, threshold=1.0, max_steps=10**30), "an integer below 2.63 is needed"),
        (lambda g: relax(g, PATH, threshold=1.0, max_steps=np.array([3, 4])), "max_steps is array"),
        (lambda g: Probe(graph=["ring"]).measure(g), "graph is .'ring'.; one of"),
        (lambda g: Probe(seed=np.array(3)).measure(g), "seed is array.3.; an integer"),
        (lambda g: Probe().measure_batch([g], 5), "graphs is 5; a Graph, a sequence of them"),
        (lambda g: Probe().measure_batch([g], ["ring"]), "the graph is 'ring'"),
        (lambda _: graphs.from_scipy(np.ones((2, 2))), "a ndarray; a SciPy sparse matrix is needed"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(np.array([0.5, -2.0, 1.0]))
