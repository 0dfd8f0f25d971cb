"""The XOR experiment against finite differences and a textbook loop of one network."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.avalanche import _kernels_angle
from gradquake.avalanche.cascade import relax
from gradquake.avalanche.topologies import TOPOLOGIES, build
from gradquake.errors import InputError
from gradquake.experiments import mlp, xor
from gradquake.experiments.mlp import Networks
from gradquake.experiments.xor import XorRun
from gradquake.study.configuration import config_key
from gradquake.study.recording import VARIABLES

INPUTS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TARGETS = {
    "xor": np.array([0.0, 1.0, 1.0, 0.0]),
    "and": np.array([0.0, 0.0, 0.0, 1.0]),
    "constant": np.array([1.0, 1.0, 1.0, 1.0]),
}

# The optimizer of these runs adds the gradient times the learning rate; no update is recorded.
RECORDED = [name for name in VARIABLES if name != "update_norm"]

modest = settings(deadline=None, max_examples=25, derandomize=True)


def same(first, second):
    """Whether two records are equal in everything, bit for bit."""
    return (
        first.config == second.config
        and first.grokking_epoch == second.grokking_epoch
        and np.array_equal(first.epochs, second.epochs)
        and first.values.keys() == second.values.keys()
        and all(np.array_equal(first.values[name], second.values[name]) for name in first.values)
    )


def random_parameters(hidden, seed, scale=1.0):
    n = sum(4 * h + 1 for h in hidden)
    return np.random.default_rng(seed).normal(0, scale, n)


def gradient_of(networks, parameters, task="xor"):
    return networks.gradient(parameters, networks.forward(parameters), xor.TASKS[task])


# The gradient


@modest
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=3),
    st.integers(0, 999),
    st.sampled_from(sorted(TARGETS)),
)
def test_gradient_is_that_of_central_differences(hidden, seed, task):
    networks = Networks(hidden)
    parameters = random_parameters(hidden, seed)
    step = 1e-6

    def total(shift):
        return mlp.loss(networks.forward(parameters + shift).logits, TARGETS[task][:, None]).sum()

    numeric = [(total(s) - total(-s)) / (2 * step) for s in step * np.eye(parameters.size)]
    np.testing.assert_allclose(gradient_of(networks, parameters, task), numeric, rtol=0, atol=1e-8)


@pytest.mark.parametrize("logit", [40.0, 300.0, 800.0])
def test_gradient_of_a_confident_network_keeps_its_relative_precision(logit):
    # All weights 0: the logit is the output bias z, and the gradient of the bias is
    # mean(sigmoid(z) - y) = 1/2 - sigmoid(-z), exactly 1/2 in float64 for z >= 40.
    parameters = np.array([0.0, 0.0, 0.0, 0.0, logit])
    networks = Networks([1])
    assert gradient_of(networks, parameters)[-1] == 0.5
    assert gradient_of(networks, -parameters)[-1] == -0.5


# A textbook twin of a whole run


def naive_forward(flat, hidden):
    w1, b1 = flat[: 2 * hidden].reshape(hidden, 2), flat[2 * hidden : 3 * hidden]
    w2, b2 = flat[3 * hidden : 4 * hidden], flat[4 * hidden]
    activation = np.tanh(INPUTS @ w1.T + b1)
    return activation, activation @ w2 + b2


def naive_loss_and_gradient(flat, hidden, targets):
    activation, logits = naive_forward(flat, hidden)
    probability = 1 / (1 + np.exp(-logits))
    loss = -np.mean(targets * np.log(probability) + (1 - targets) * np.log(1 - probability))
    error = (probability - targets) / 4
    back = np.outer(error, flat[3 * hidden : 4 * hidden]) * (1 - activation**2)
    parts = [(back.T @ INPUTS).ravel(), back.sum(axis=0), activation.T @ error, [error.sum()]]
    return loss, np.concatenate(parts)


def naive_cascade(gradient, adjacency, run, alpha):
    degree = adjacency.sum(axis=1)
    threshold = np.quantile(np.abs(gradient), run.quantile)
    toppled = []
    unstable = np.abs(gradient) > threshold
    while unstable.any() and len(toppled) < run.max_steps:
        toppled.append(unstable)
        moved = np.where(unstable, alpha * gradient, 0.0)
        gradient = gradient - moved + adjacency @ (moved / degree)
        unstable = np.abs(gradient) > threshold
    counts = [int(step.sum()) for step in toppled]
    return gradient, {
        "threshold": threshold,
        "size": sum(counts),
        "duration": len(counts),
        "area": int(np.any(toppled, axis=0).sum()) if toppled else 0,
        "peak": max(counts, default=0),
        "truncated": bool(unstable.any()),
    }


def naive_gini(flat):
    # Half the mean absolute difference of all pairs, over the mean.
    x = np.abs(flat)
    return np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())


def naive_angle(before, after):
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def dense(graph):
    adjacency = np.zeros((graph.n_nodes, graph.n_nodes))
    adjacency[np.repeat(np.arange(graph.n_nodes), graph.degrees), graph.indices] = 1
    return adjacency


def naive_run(run):
    adjacency, adjacency_train = (
        dense(build(topology, run.n_parameters, run.seed))
        # In shadow nothing is relaxed for the update, on whatever graph.
        for topology in (run.topology, run.topology_train if run.alpha_train else run.topology)
    )
    targets, order = TARGETS[run.task], np.arange(run.n_parameters)
    entropy = np.random.SeedSequence(run.seed, spawn_key=(run.hidden, xor.PERMUTATIONS))
    stream = np.random.default_rng(entropy)
    flat = mlp.initial_parameters(run.hidden, run.seed)
    grokking_epoch, snapshots = None, []
    for epoch in range(run.epochs + 1):
        loss, gradient = naive_loss_and_gradient(flat, run.hidden, targets)
        right = (naive_forward(flat, run.hidden)[1] > 0) == (targets == 1)
        if grokking_epoch is None and right.all():
            grokking_epoch = epoch
        if epoch % run.every == 0:
            relaxed, snapshot = naive_cascade(gradient, adjacency, run, run.alpha)
            snapshot |= {"loss": loss, "accuracy": right.mean(), "gini": naive_gini(flat)}
            snapshot["gradient_norm"] = np.sqrt((gradient**2).sum())
            snapshot["deviation"] = naive_angle(gradient, relaxed)
            snapshots.append(snapshot)
        if run.permute_train:
            order = stream.permutation(run.n_parameters)
        if run.alpha_train:
            # Entry order[i] is placed on node i, relaxes there, and is put back.
            placed, _ = naive_cascade(gradient[order], adjacency_train, run, run.alpha_train)
            gradient = placed[np.argsort(order)]
        flat = flat - run.learning_rate * gradient
    return grokking_epoch, {name: np.array([s[name] for s in snapshots]) for name in RECORDED}


TWINS = [
    XorRun(5, 0, epochs=40, every=5),
    XorRun(20, 1, epochs=60, every=4),
    XorRun(21, 2, epochs=40, every=10, topology="ring", alpha=0.2),
    XorRun(30, 3, epochs=40, every=10, alpha_train=0),
    XorRun(30, 4, epochs=40, every=7, alpha_train=0.1, quantile=0.8),
    XorRun(12, 5, epochs=30, every=3, topology="computational", max_steps=4),
    XorRun(20, 6, epochs=40, every=5, task="and"),
    XorRun(20, 7, epochs=40, every=5, task="constant", quantile=0.8),
    XorRun(20, 8, epochs=40, every=5, topology_train="ring"),
    XorRun(15, 9, epochs=30, every=3, topology="ring", topology_train="computational"),
    XorRun(20, 0, epochs=40, every=5, permute_train=True),
    XorRun(12, 1, epochs=30, every=3, permute_train=True, topology_train="ring", alpha_train=0.1),
    XorRun(50, 1, epochs=60, every=10, learning_rate=0.3),
]


@pytest.mark.parametrize("run", TWINS, ids=str)
def test_a_run_is_that_of_a_textbook_loop(run):
    (record,) = xor.measure([run])
    grokking_epoch, expected = naive_run(run)
    assert record.grokking_epoch == grokking_epoch
    assert record.values.keys() == set(RECORDED)
    for name in ("size", "duration", "area", "peak", "truncated", "accuracy"):
        assert record.values[name].tolist() == expected[name].tolist(), name
    for name in ("loss", "gini", "gradient_norm", "threshold"):
        np.testing.assert_allclose(record.values[name], expected[name], rtol=1e-9, err_msg=name)
    # The arc cosine of the twin is good to about 1e-6 degrees only.
    np.testing.assert_allclose(record.values["deviation"], expected["deviation"], atol=1e-5)


def test_the_textbook_loop_saw_avalanches_and_a_transition():
    grokking_epoch, values = naive_run(TWINS[-1])
    assert grokking_epoch is not None
    assert values["size"].min() > 0
    assert values["size"].max() > values["area"].min()


# The start


@pytest.mark.parametrize("hidden", [1, 20, 500])
def test_initial_parameters_lie_within_one_over_root_fan_in(hidden):
    run = XorRun(hidden, 0)
    flat = mlp.initial_parameters(run.hidden, run.seed)
    assert flat.shape == (run.n_parameters,)
    assert np.abs(flat[: 3 * hidden]).max() <= 1 / np.sqrt(2)
    assert np.abs(flat[3 * hidden :]).max() <= 1 / np.sqrt(hidden)


def test_initial_parameters_are_uniform():
    draws = [mlp.initial_parameters(20, seed) for seed in range(3000)]
    into_hidden = np.concatenate([flat[:60] for flat in draws]) * np.sqrt(2)
    into_output = np.concatenate([flat[60:] for flat in draws]) * np.sqrt(20)
    for entries in (into_hidden, into_output):
        # Kolmogorov-Smirnov against the uniform law on [-1, 1]; 1.95 / sqrt(n) is its 0.1 % level.
        uniform = (np.sort(entries) + 1) / 2
        empirical = np.arange(1, entries.size + 1) / entries.size
        assert np.abs(uniform - empirical).max() < 1.95 / np.sqrt(entries.size)


def test_initial_parameters_differ_between_seeds_and_sizes():
    entries = np.concatenate([mlp.initial_parameters(h, seed) for h in (1, 2, 20) for seed in range(20)])
    assert np.unique(np.abs(entries)).size == entries.size


# What a run gives depends on its own configuration alone

companies = st.lists(
    st.tuples(st.integers(1, 45), st.integers(0, 5)), min_size=2, max_size=9, unique=True
)


@modest
@given(
    companies,
    st.sampled_from(
        [
            {},
            {"alpha_train": 0.0},
            {"alpha_train": 0.1},
            {"permute_train": True},
            {"topology_train": "ring"},
            {"task": "and", "permute_train": True, "topology_train": "erdos_renyi"},
        ]
    ),
)
def test_a_run_is_the_same_alone_and_in_any_company(sizes_and_seeds, training):
    runs = [XorRun(hidden, seed, epochs=25, every=3, **training) for hidden, seed in sizes_and_seeds]
    for run, record in zip(runs, xor.measure(runs), strict=True):
        assert same(record, xor.measure([run])[0])


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_company_does_not_matter_on_any_topology(topology):
    runs = xor.sweep((2, 7, 33), 3, epochs=30, every=5, topology=topology)
    together = xor.measure(runs)
    backwards = xor.measure(runs[::-1])[::-1]
    alone = [xor.measure([run])[0] for run in runs]
    assert all(map(same, together, backwards))
    assert all(map(same, together, alone))


def test_company_does_not_matter_over_a_whole_training_run():
    runs = xor.sweep((20, 30, 120), 2)
    together = xor.measure(runs[::-1])[::-1]
    assert all(map(same, together, [xor.measure([run])[0] for run in runs]))


def test_six_seeds_are_the_first_six_of_more():
    few, more = (xor.sweep((20, 50), seeds, epochs=60) for seeds in (6, 9))
    kept = [record for record in xor.measure(more) if record.config["seed"] < 6]
    assert all(map(same, xor.measure(few), kept))
    assert len(kept) == len(few) == 12


def test_two_calls_give_the_same_bits():
    for training in ({}, {"permute_train": True}):
        runs = xor.sweep((3, 20), 2, epochs=100, **training)
        assert all(map(same, xor.measure(runs), xor.measure(runs)))


# Shadow, in-line, and between


def plain_training(run):
    """Train one network without any probe: its loss, gradient norm and Gini at each snapshot."""
    networks, parameters = Networks([run.hidden]), mlp.initial_parameters(run.hidden, run.seed)
    seen = {"loss": [], "gradient_norm": [], "gini": []}
    for epoch in range(run.epochs + 1):
        state = networks.forward(parameters)
        logits = state.logits
        gradient = networks.gradient(parameters, state, xor.TASKS["xor"])
        if epoch % run.every == 0:
            seen["loss"].append(mlp.loss(logits, xor.TASKS["xor"])[0])
            norm = np.empty(1)
            _kernels_angle.norms(gradient, np.array([0, gradient.size]), norm)
            seen["gradient_norm"].append(norm[0])
            seen["gini"].append(mlp.gini(parameters))
        parameters = parameters - run.learning_rate * gradient
    return seen


@pytest.mark.parametrize("hidden", [1, 20, 100])
def test_shadow_leaves_the_training_as_it_was_without_a_probe(hidden):
    run = XorRun(hidden, 3, epochs=200, every=1, alpha_train=0)
    (record,) = xor.measure([run])
    for name, expected in plain_training(run).items():
        assert np.array_equal(record.values[name], expected), name


@pytest.mark.parametrize(
    "changed",
    [{"alpha": 0.05}, {"alpha": 0.9}, {"quantile": 0.5}, {"topology": "ring"}, {"max_steps": 1}],
    ids=str,
)
def test_training_in_shadow_does_not_depend_on_the_probe(changed):
    runs = xor.sweep((5, 30), 2, epochs=80, every=1, alpha_train=0)
    probed_otherwise = xor.measure([replace(run, **changed) for run in runs])
    for record, other in zip(xor.measure(runs), probed_otherwise, strict=True):
        assert record.grokking_epoch == other.grokking_epoch
        for name in ("loss", "accuracy", "gradient_norm", "gini"):
            assert np.array_equal(record.values[name], other.values[name]), name
        assert not np.array_equal(record.values["size"], other.values["size"])


def test_in_line_is_alpha_train_equal_to_alpha():
    assert XorRun(3, 0, alpha=0.2) == XorRun(3, 0, alpha=0.2, alpha_train=0.2)
    assert XorRun(3, 0, alpha=0.2).config()["alpha_train"] == 0.2


def test_alpha_train_alone_decides_the_training_and_alpha_what_is_measured():
    between = XorRun(30, 2, epochs=80, every=1, alpha=0.3, alpha_train=0.1)
    (record,) = xor.measure([between])
    (in_line,) = xor.measure([replace(between, alpha=0.1)])
    (paper,) = xor.measure([replace(between, alpha_train=0.3)])
    for name in ("loss", "accuracy", "gradient_norm", "gini", "threshold"):
        assert np.array_equal(record.values[name], in_line.values[name]), name
    assert not np.array_equal(record.values["loss"], paper.values["loss"])
    # Before the first update all three networks are the same, and alpha = 0.3 measures two alike.
    assert record.values["size"][0] == paper.values["size"][0]
    assert record.values["deviation"][0] == paper.values["deviation"][0]
    assert record.values["deviation"][0] != in_line.values["deviation"][0]


# The graph of the update, and the order in which the gradient is placed on it


def plain_training_in_line(run):
    """Train one network, each update relaxed on its own: the gradient of every epoch."""
    networks, parameters = Networks([run.hidden]), mlp.initial_parameters(run.hidden, run.seed)
    graph = build(run.topology_train, run.n_parameters, run.seed)
    entropy = np.random.SeedSequence(run.seed, spawn_key=(run.hidden, xor.PERMUTATIONS))
    stream = np.random.default_rng(entropy)
    gradients = []
    for _ in range(run.epochs + 1):
        gradient = gradient_of(networks, parameters, run.task)
        gradients.append(gradient)
        order = np.arange(run.n_parameters)
        if run.permute_train:
            order = stream.permutation(run.n_parameters)
        threshold = np.quantile(np.abs(gradient), run.quantile)
        relaxed = relax(
            gradient[order], graph, threshold=threshold, alpha=run.alpha_train, max_steps=run.max_steps
        ).relaxed
        update = np.empty_like(gradient)
        update[order] = relaxed
        parameters = parameters - run.learning_rate * update
    return np.array(gradients)


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"alpha_train": 0.1},
        {"permute_train": True},
        {"permute_train": True, "alpha_train": 0.6, "max_steps": 3},
        {"topology_train": "ring"},
        {"topology_train": "computational", "topology": "ring", "permute_train": True},
        {"task": "and", "permute_train": True},
        {"task": "constant", "topology_train": "random_regular"},
    ],
    ids=str,
)
def test_the_update_is_the_gradient_relaxed_where_it_was_placed_bit_for_bit(training):
    runs = xor.sweep((4, 30), 2, epochs=50, every=1, **training)
    for run, found in zip(runs, xor.gradients(runs), strict=True):
        assert np.array_equal(found.gradients, plain_training_in_line(run))


def placements(runs, monkeypatch):
    """The order in which each run's gradient was placed at each epoch, read off what is relaxed."""
    placed = []

    def spy(gradient, *arguments, **settings):
        placed.append(gradient.copy())
        return relax_stack(gradient, *arguments, **settings)

    relax_stack = xor.relax_stack
    monkeypatch.setattr(xor, "relax_stack", spy)
    found = xor.gradients(runs)
    offsets = np.cumsum([0, *(run.n_parameters for run in runs)])
    orders = [[] for _ in runs]
    for epoch, values in enumerate(placed):
        for r, record in enumerate(found):
            gradient, there = record.gradients[epoch], values[offsets[r] : offsets[r + 1]]
            # Entries are distinct, so that each tells where it came from.
            assert np.unique(gradient).size == gradient.size
            order = np.argsort(gradient)[np.argsort(np.argsort(there))]
            assert np.array_equal(gradient[order], there)
            orders[r].append(order.tolist())
    return orders


def test_every_epoch_and_every_run_has_an_order_of_its_own(monkeypatch):
    runs = xor.sweep((6, 7), 3, epochs=20, every=1, permute_train=True)
    orders = placements(runs, monkeypatch)
    for run, of_run in zip(runs, orders, strict=True):
        assert len(of_run) == 21
        assert all(sorted(order) == list(range(run.n_parameters)) for order in of_run)
    for of_size in (orders[:3], orders[3:]):
        assert len({tuple(order) for of_run in of_size for order in of_run}) == 3 * 21


def test_without_permutation_every_entry_is_placed_on_its_own_node(monkeypatch):
    orders = placements(xor.sweep((6, 7), 2, epochs=5, every=1), monkeypatch)
    assert all(order == sorted(order) for of_run in orders for order in of_run)


def test_permutation_changes_the_training_and_not_what_is_measured_of_a_gradient():
    run = XorRun(20, 3, epochs=40, every=1)
    (usual,), (permuted,) = xor.measure([run]), xor.measure([replace(run, permute_train=True)])
    for name in RECORDED:
        # Before the first update both networks are the same, and so is the first gradient.
        assert usual.values[name][0] == permuted.values[name][0], name
    assert not np.array_equal(usual.values["loss"], permuted.values["loss"])


def test_topology_train_alone_decides_the_training_and_topology_what_is_measured():
    between = XorRun(30, 2, epochs=60, every=1, topology="ring", topology_train="erdos_renyi")
    (record,) = xor.measure([between])
    (in_line,) = xor.measure([replace(between, topology="erdos_renyi")])
    (on_ring,) = xor.measure([replace(between, topology_train="ring")])
    for name in ("loss", "accuracy", "gradient_norm", "gini", "threshold"):
        assert np.array_equal(record.values[name], in_line.values[name]), name
    assert not np.array_equal(record.values["loss"], on_ring.values["loss"])
    # Before the first update all three networks are the same, and the ring measures two alike.
    assert record.values["deviation"][0] == on_ring.values["deviation"][0]
    assert record.values["deviation"][0] != in_line.values["deviation"][0]


@pytest.mark.parametrize("changed", [{"topology_train": "ring"}, {"permute_train": True}], ids=str)
def test_training_in_shadow_has_no_graph_to_be_placed_on(changed):
    assert XorRun(5, 0, alpha_train=0).topology_train == "none"
    with pytest.raises(InputError, match="with alpha_train 0 nothing is relaxed for the update"):
        XorRun(5, 0, alpha_train=0, **changed)
    with pytest.raises(InputError, match="topology_train is 'none'; one of"):
        XorRun(5, 0, topology_train="none")


# Tasks


def test_the_targets_of_a_task_are_its_truth_table():
    assert xor.TASKS.keys() == TARGETS.keys()
    functions = {"xor": lambda a, b: a != b, "and": lambda a, b: a and b, "constant": lambda *_: True}
    for task, function in functions.items():
        expected = [float(function(bool(a), bool(b))) for a, b in INPUTS]
        assert xor.TASKS[task][:, 0].tolist() == TARGETS[task].tolist() == expected


@pytest.mark.parametrize("training", [{}, {"alpha_train": 0}, {"permute_train": True}], ids=str)
@pytest.mark.parametrize("task", ["and", "constant"])
def test_the_control_tasks_are_learnt(task, training):
    for record in xor.measure(xor.sweep((20, 50), 2, task=task, **training)):
        assert record.values["accuracy"][-1] == 1
        assert record.grokking_epoch is not None
        assert record.values["loss"][-1] < record.values["loss"][0] / 2


def test_the_task_is_all_that_differs_between_tasks():
    # The same initial weights and graph: what differs is the gradient from the first epoch on.
    records = {task: xor.measure([XorRun(20, 0, epochs=10, task=task)])[0].values for task in TARGETS}
    assert len({values["gini"][0] for values in records.values()}) == 1
    assert len({values["loss"][0] for values in records.values()}) == 3
    assert len({values["gradient_norm"][0] for values in records.values()}) == 3


# The configuration


def test_the_configuration_has_every_setting():
    assert XorRun(20, 3).config() == {
        "experiment": "xor",
        "surrogate": "real",
        "n_parameters": 81,
        "hidden": 20,
        "seed": 3,
        "epochs": 500,
        "every": 10,
        "learning_rate": 0.5,
        "alpha": 0.3,
        "alpha_train": 0.3,
        "quantile": 0.9,
        "max_steps": 20,
        "topology": "barabasi_albert",
        "topology_train": "barabasi_albert",
        "permute_train": False,
        "task": "xor",
        "activation": "tanh",
        "initialization": "uniform",
    }


def test_what_trains_is_settled_from_what_measures():
    assert XorRun(3, 0, topology="ring") == XorRun(3, 0, topology="ring", topology_train="ring")
    assert XorRun(3, 0, topology="ring", topology_train=None).topology_train == "ring"
    assert XorRun(3, 0, alpha=0.2, alpha_train=None).alpha_train == 0.2
    between = XorRun(3, 0, topology="ring", topology_train="erdos_renyi", alpha=0.2, alpha_train=0.1)
    assert (between.topology, between.topology_train) == ("ring", "erdos_renyi")
    assert (between.alpha, between.alpha_train) == (0.2, 0.1)


@pytest.mark.parametrize(
    "changed",
    [{"task": "and"}, {"permute_train": True}, {"topology_train": "ring"}, {"alpha_train": 0.1}],
    ids=str,
)
def test_another_training_has_another_key(changed):
    run = XorRun(5, 0)
    assert config_key(replace(run, **changed).config()) != config_key(run.config())


# Snapshots and the grokking epoch


@pytest.mark.parametrize("every", [1, 7, 50, 150, 400])
def test_grokking_epoch_is_the_first_perfect_one_whatever_the_snapshots(every):
    runs = xor.sweep((20, 50), 3, epochs=150, every=1)
    for fine, record in zip(
        xor.measure(runs), xor.measure([replace(r, every=every) for r in runs]), strict=True
    ):
        perfect = np.flatnonzero(fine.values["accuracy"] == 1)
        assert record.grokking_epoch == perfect[0]
        assert record.epochs.tolist() == list(range(0, 151, every))
        for name in RECORDED:
            assert np.array_equal(record.values[name], fine.values[name][::every]), name


def test_a_run_that_never_learns_has_no_grokking_epoch():
    (record,) = xor.measure([XorRun(20, 0, epochs=1)])
    assert record.grokking_epoch is None
    assert record.values["accuracy"].max() < 1


def test_a_perfect_last_epoch_still_counts():
    (long,) = xor.measure([XorRun(20, 0, epochs=300)])
    (until,) = xor.measure([XorRun(20, 0, epochs=long.grokking_epoch)])
    (short,) = xor.measure([XorRun(20, 0, epochs=long.grokking_epoch - 1)])
    assert until.grokking_epoch == long.grokking_epoch
    assert short.grokking_epoch is None


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_trains(topology):
    (record,) = xor.measure([XorRun(20, 0, epochs=200, topology=topology)])
    assert record.values["loss"][-1] < record.values["loss"][0]
    assert record.values["size"].min() > 0


# Known answers


@pytest.mark.parametrize("n", [1, 2, 5, 100])
def test_gini_of_equal_entries_is_0_and_of_a_single_one_1_minus_1_over_n(n):
    signs = np.where(np.arange(n) % 2, -1.0, 1.0)
    assert mlp.gini(3.0 * signs) == 0
    assert mlp.gini(np.eye(n)[0]) == pytest.approx(1 - 1 / n, abs=1e-15)


@pytest.mark.parametrize("shape", [(7,), (3, 40)])
def test_gini_is_half_the_relative_mean_difference(shape):
    values = np.random.default_rng(0).normal(size=shape)
    expected = [naive_gini(row) for row in values.reshape(-1, shape[-1])]
    np.testing.assert_allclose(np.ravel(mlp.gini(values)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([-1, 1, 1, -1], 1.0),
        ([-1, 1, 1, 1], 0.75),
        ([0, 1, 1, 0], 1.0),  # a prediction is logit > 0, strictly
        ([-1, 0, 0, -1], 0.5),
        ([1, -1, -1, 1], 0.0),
    ],
)
def test_accuracy_is_the_share_of_right_predictions(logits, expected):
    assert mlp.accuracy(np.array(logits, float)[:, None], xor.TASKS["xor"]).tolist() == [expected]


def test_loss_has_known_values():
    # log 2 where nothing is known; log(1 + e^-1) where every logit is right by 1; and a loss that is
    # linear in logits that are wrong by much.
    logits = np.array([[0.0, -1.0, 900.0], [0.0, 1.0, -900.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    expected = [np.log(2), np.log1p(np.exp(-1)), (900 + 900 + 2 * np.log(2)) / 4]
    np.testing.assert_allclose(mlp.loss(logits, xor.TASKS["xor"]), expected, rtol=1e-14)


# What cannot be used


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("hidden", v) for v in (0, -3, 2.5, True, "20", None)],
        *[("seed", v) for v in (-1, 0.5, True, None)],
        *[("epochs", v) for v in (0, -1, 10.0)],
        *[("every", v) for v in (0, -1, 0.5)],
        *[("learning_rate", v) for v in (0, -0.5, np.inf, np.nan)],
        *[("alpha", v) for v in (0, 1, -0.1, 1.5, np.nan)],
        *[("alpha_train", v) for v in (-0.1, 1, 2.0, np.nan, np.inf)],
        *[("quantile", v) for v in (-0.1, 1.1, np.nan)],
        *[("max_steps", v) for v in (0, -1, 2.5)],
        *[("topology", v) for v in ("torus", "", None)],
        *[("topology_train", v) for v in ("torus", "", 3)],
        *[("permute_train", v) for v in (0, 1, None, "yes", 0.0)],
        *[("task", v) for v in ("or", "XOR", "", None, 1)],
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name, value):
    usual = {"hidden": 20, "seed": 0}
    with pytest.raises(InputError, match=rf"^{name} is .*{value!r}.*needed$"):
        XorRun(**(usual | {name: value}))


@pytest.mark.parametrize(
    ("hidden", "seeds", "message"),
    [
        ((), 6, "hidden is empty; at least one size is needed"),
        ((20, 30, 20), 6, r"hidden is \[20, 30, 20\], which repeats a size"),
        ((20,), 0, "seeds is 0; an integer of at least 1 is needed"),
    ],
)
def test_a_sweep_that_cannot_be_made_is_refused(hidden, seeds, message):
    with pytest.raises(InputError, match=message):
        xor.sweep(hidden, seeds)


def test_a_sweep_is_every_size_with_every_seed():
    runs = xor.sweep((20, 5), 3, alpha=0.2)
    assert [(r.hidden, r.seed) for r in runs] == [(20, 0), (20, 1), (20, 2), (5, 0), (5, 1), (5, 2)]
    assert {r.alpha for r in runs} == {0.2}


def test_no_run_is_refused():
    for use in (xor.measure, xor.gradients):
        with pytest.raises(InputError, match="no run was given"):
            use([])


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 20},
        {"every": 5},
        {"learning_rate": 0.1},
        {"alpha": 0.2},
        {"alpha_train": 0.1},
        {"quantile": 0.8},
        {"max_steps": 3},
        {"topology": "ring"},
        {"topology_train": "ring"},
        {"permute_train": True},
        {"task": "and"},
    ],
    ids=str,
)
def test_runs_that_differ_in_more_than_size_and_seed_are_refused(changed):
    first = XorRun(5, 0, epochs=10)
    for use in (xor.measure, xor.gradients):
        with pytest.raises(InputError, match="differ in more than size and seed; train them apart"):
            use([first, replace(first, hidden=7, **changed)])


@pytest.mark.parametrize(("hidden", "seed"), [(50, 0), (200, 0), (200, 2)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_divergence_names_the_run_and_the_epoch(hidden, seed, place):
    # With so small a network every number stays finite, even at a rate like this.
    settings = {"epochs": 30, "learning_rate": 1e308, "alpha_train": 0}
    runs = [XorRun(1, 0, **settings)] * 2
    assert all(np.isfinite(r.values["loss"]).all() for r in xor.measure(runs))
    runs.insert(place, XorRun(hidden, seed, **settings))
    message = (
        rf"^training diverged at epoch \d+ of the run hidden={hidden}, seed={seed}; a smaller learning"
    )
    with pytest.raises(InputError, match=message):
        xor.measure(runs)


@pytest.mark.parametrize(("hidden", "rate"), [(5, 1e308), (20, 1e307)])
def test_nothing_that_is_not_finite_is_recorded(hidden, rate):
    try:
        found = xor.measure([XorRun(hidden, 0, epochs=30, learning_rate=rate)])[0].values
    except InputError as error:
        assert "training diverged" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert all(np.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize(
    "same",
    [
        {"alpha_train": 0},
        {"alpha_train": 0.0},
        {"alpha_train": np.float32(0)},
        {"hidden": np.int64(5), "alpha_train": 0},
        {"alpha_train": 0, "learning_rate": np.float64(0.5)},
    ],
    ids=str,
)
def test_equal_configurations_have_equal_keys(same):
    shadow = XorRun(**({"hidden": 5, "seed": 0} | same))
    assert config_key(shadow.config()) == config_key(XorRun(5, 0, alpha_train=0.0).config())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": "0.3"}, "alpha is '0.3'; a number is needed"),
        ({"alpha": "0.3", "alpha_train": 0}, "alpha is '0.3'; a number is needed"),
        ({"learning_rate": None}, "learning_rate is None; a number is needed"),
        ({"alpha_train": 1.0}, r"alpha_train is 1.0; a number in \[0, 1\) is needed"),
        ({"seed": -1}, "seed is -1; an integer of at least 0 is needed"),
        ({"seed": 1.5}, "seed is 1.5; an integer of at least 0 is needed"),
        ({"task": ["xor"]}, r"task is \['xor'\]; one of xor, and, constant is needed"),
        ({"task": "or"}, "task is 'or'; one of xor, and, constant is needed"),
        ({"permute_train": 1}, "permute_train is 1; True or False is needed"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        XorRun(**({"hidden": 5, "seed": 0} | wrong))


def test_the_gini_coefficient_of_a_row_does_not_depend_on_the_others():
    rng = np.random.default_rng(5)
    rows = 3 * rng.standard_normal((4, 85))
    alone = np.array([mlp.gini(row) for row in rows])
    beside_huge = mlp.gini(np.vstack([rows, np.full(85, 1e300)]))
    assert np.array_equal(beside_huge[:4], alone)
    assert beside_huge[4] == pytest.approx(0, abs=1e-12)
