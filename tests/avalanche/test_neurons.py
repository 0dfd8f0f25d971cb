"""The graph of parameters that share a neuron, against a twin that walks over every neuron."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gradquake import InputError
from gradquake.avalanche.graphs import Graph
from gradquake.avalanche.neurons import TensorLayout, neuron_graph


def layouts(*shapes):
    """Tensors of the given shapes; a shape that ends in "T" is transposed."""
    return [
        TensorLayout(f"p{k}", shape[:-1], True) if shape[-1:] == ("T",) else TensorLayout(f"p{k}", shape)
        for k, shape in enumerate(shapes)
    ]


def naive_neurons(tensors):
    """Every neuron as the ascending list of its parameters, entry by entry."""
    neurons, layer, node = [], None, 0

    def opened(count):
        neurons.extend([] for _ in range(count))
        return neurons[-count:]

    for tensor in tensors:
        if len(tensor.shape) == 1:
            if layer is None:
                layer = opened(tensor.shape[0])
            if len(layer) == tensor.shape[0]:
                for i, neuron in enumerate(layer):
                    neuron.append(node + i)
        elif len(tensor.shape) >= 2:
            to, of = (1, 0) if tensor.transposed else (0, 1)
            inputs = layer
            if layer is None or len(layer) != tensor.shape[of]:
                inputs = opened(tensor.shape[of])
            layer = opened(tensor.shape[to])
            for i, place in enumerate(np.ndindex(tensor.shape)):
                inputs[place[of]].append(node + i)
                layer[place[to]].append(node + i)
        node += int(np.prod(tensor.shape, dtype=int))
    return neurons


def naive_edges(neurons):
    edges = set()
    for members in neurons:
        if len(members) > 1:
            edges |= {
                tuple(sorted(pair)) for pair in zip(members, members[1:] + members[:1], strict=True)
            }
    return sorted(edges)


def edges_of(graph):
    """The edges as sorted pairs, after Graph's own validation."""
    Graph(graph.indptr, graph.indices)
    rows = [graph.indices[a:b].tolist() for a, b in itertools.pairwise(graph.indptr.tolist())]
    return sorted((i, j) for i, row in enumerate(rows) for j in row if i < j)


# Few different lengths, so that layers often match.
shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)
tensor_lists = st.lists(
    st.tuples(shapes, st.booleans()).map(lambda drawn: TensorLayout("p", *drawn)), min_size=1, max_size=6
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(tensors=tensor_lists)
# One kernel between one input and one output closes both rings with one edge.
@example(tensors=layouts((1, 1, 3)))
@example(tensors=layouts((1, 1, 2)))
@example(tensors=layouts((1, 1, 2, 2), (1, 1, 3), (1,)))
@example(tensors=layouts((1, 1), (1, 1)))
def test_a_ring_for_each_neuron(tensors):
    graph = neuron_graph(tensors)
    neurons = naive_neurons(tensors)
    edges = edges_of(graph)
    assert graph.n_nodes == sum(tensor.size for tensor in tensors)
    assert edges == naive_edges(neurons)
    assert len(edges) <= 2 * graph.n_nodes

    axes = np.concatenate([np.full(tensor.size, len(tensor.shape)) for tensor in tensors])
    assert (graph.degrees <= 2 * np.minimum(axes, 2)).all()

    home = [{k for k, members in enumerate(neurons) if i in members} for i in range(graph.n_nodes)]
    assert all(home[i] & home[j] for i, j in edges)

    whole = nx.empty_graph(graph.n_nodes)
    whole.add_edges_from(edges)
    assert all(nx.is_connected(whole.subgraph(members)) for members in neurons if members)


def test_a_perceptron_by_hand():
    # W1 (3, 2) is 0..5, b1 is 6..8, W2 (1, 3) is 9..11, b2 is 12.
    hidden = [
        (0, 1),
        (1, 6),
        (6, 9),
        (0, 9),
        (2, 3),
        (3, 7),
        (7, 10),
        (2, 10),
        (4, 5),
        (5, 8),
        (8, 11),
        (4, 11),
    ]
    inputs = [(0, 2), (2, 4), (0, 4), (1, 3), (3, 5), (1, 5)]
    output = [(9, 10), (10, 11), (11, 12), (9, 12)]
    graph = neuron_graph(layouts((3, 2), (3,), (1, 3), (1,)))
    assert edges_of(graph) == sorted(hidden + inputs + output)
    assert graph.degrees.tolist() == [4] * 6 + [2] * 3 + [4] * 3 + [2]


def test_two_members_are_joined_once_and_one_is_not():
    # Each input of (1, 2) has one weight; the output has two.
    assert edges_of(neuron_graph(layouts((1, 2)))) == [(0, 1)]
    assert edges_of(neuron_graph(layouts((1, 2), (1,)))) == [(0, 1), (0, 2), (1, 2)]


def test_a_convolution_by_hand():
    # Two outputs, two inputs, kernels of 2: output 0 is 0..3 and its bias 8, input 0 is 0, 1, 4, 5.
    outputs = [(0, 1), (1, 2), (2, 3), (3, 8), (0, 8), (4, 5), (5, 6), (6, 7), (7, 9), (4, 9)]
    inputs = [(1, 4), (0, 5), (3, 6), (2, 7)]  # besides (0, 1), (4, 5), (2, 3) and (6, 7)
    assert edges_of(neuron_graph(layouts((2, 2, 2), (2,)))) == sorted(outputs + inputs)
    by_axes = neuron_graph(layouts((2, 2, 1, 2, 1), (2,)))
    assert edges_of(by_axes) == sorted(outputs + inputs)


def test_an_embedding_leads_from_its_rows_to_its_columns():
    # Three tokens in two dimensions, then a weight (1, 2) that reads the dimensions.
    tokens = [(0, 1), (2, 3), (4, 5)]
    dimensions = [(0, 2), (2, 4), (4, 6), (0, 6), (1, 3), (3, 5), (5, 7), (1, 7)]
    output = [(6, 7)]
    assert edges_of(neuron_graph(layouts((3, 2, "T"), (1, 2)))) == sorted(tokens + dimensions + output)
    # Read the other way round, the 3 outputs do not fit the 2 inputs of the next.
    assert neuron_graph(layouts((3, 2), (1, 2))).n_edges == 3 + 6 + 1


def test_one_axis_tensors_join_the_layer_that_they_fit():
    # A norm (0, 1 and 2, 3) before the first weight (1, 2) of 4, 5; a single slope, 6, after it.
    graph = neuron_graph(layouts((2,), (2,), (1, 2), (1,)))
    assert edges_of(graph) == [(0, 2), (0, 4), (1, 3), (1, 5), (2, 4), (3, 5), (4, 5), (4, 6), (5, 6)]
    # A slope of another length than its layer is left alone, and the layer goes on after it.
    graph = neuron_graph(layouts((3, 2), (1,), (2, 3)))
    assert graph.degrees[6] == 0
    without = neuron_graph(layouts((3, 2), (2, 3)))
    shifted = [(i + (i > 5), j + (j > 5)) for i, j in edges_of(without)]
    assert edges_of(graph) == shifted


def test_single_numbers_are_isolated():
    assert neuron_graph(layouts((), (2, 2), ())).degrees.tolist() == [0, 2, 2, 2, 2, 0]
    assert neuron_graph(layouts(())).n_edges == 0


def test_a_transformer_keeps_to_two_edges_a_parameter():
    block = [(24, 8), (24,), (8, 8), (8,), (8,), (8,), (32, 8), (32,), (8, 32), (8,), (8,), (8,)]
    tensors = layouts((50, 8, "T"), (16, 8, "T"), *block, *block, (50, 8))
    graph = neuron_graph(tensors)
    assert edges_of(graph) == naive_edges(naive_neurons(tensors))
    assert graph.degrees.max() == 4
    assert graph.n_edges <= 2 * graph.n_nodes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: neuron_graph([]), "no tensor was given; a model needs at least one"),
        (
            lambda: neuron_graph([(3, 2)]),
            r"the tensors hold \(3, 2\); a TensorLayout for each is needed",
        ),
        (lambda: TensorLayout("w", (3, -2)), "axis 1 of w is -2; an integer of at least 1 is needed"),
        (lambda: TensorLayout("w", (0,)), "axis 0 of w is 0; an integer of at least 1 is needed"),
        (
            lambda: TensorLayout("w", (2.0, 3)),
            r"axis 0 of w is 2\.0; an integer of at least 1 is needed",
        ),
        (
            lambda: TensorLayout("w", [3, 2]),
            r"the shape of w is \[3, 2\]; a tuple of integers is needed",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        make()
