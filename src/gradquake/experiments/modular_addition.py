"""Modular addition: one-layer Transformers that learn [a, b, =] -> (a + b) mod p, under the probe.

The residual stream of width d is x = token + position; x += attention(x); x += mlp(x); the prediction
is unembedding(x) at the last position. "plain" has ReLU, no LayerNorm and no biases; "layernorm" has a
LayerNorm before the attention, the MLP and the unembedding, GELU (the exact one) and biases
everywhere. Four heads, scores over sqrt(d / 4), an MLP of 4 d, untied embeddings, no dropout.

Weights start as N(0, 1/fan_in), where fan_in is the length of a row as ``torch.nn.init`` counts it: d,
for the rows of tokens and positions too, and 4 d into the MLP's output. Biases start at 0 and the
scales of a LayerNorm at 1. AdamW decays all of them; it sees the whole training set at every epoch, at
a rate that rises over the first 10 updates from a tenth to all of it. Parameters are float32, and the
cross-entropy of their logits is taken in float64, where the loss of a memorised set is not rounded off.

The probe is in shadow: gradients are read and never changed. A run is determined to the last bit by its
configuration, the build of torch and the kind of processor, since a BLAS picks its order of summation
by these. torch is imported only to train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import REAL, RUNGS
from gradquake.avalanche.topologies import check_topology
from gradquake.errors import InputError, require, require_between, require_count
from gradquake.experiments.readings import Reading, read
from gradquake.study.configuration import settle_types
from gradquake.study.recording import GradientRecord, RunRecord

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = {
    "plain": (20, 24, 32, 48, 64, 80, 96, 128),
    "layernorm": (24, 32, 48, 64, 80, 96, 128),
}
EPOCHS = {"plain": 900, "layernorm": 600}

SPLITS = ("unordered", "literal")
HEADS = 4
BETAS = (0.9, 0.98)
EPSILON = 1e-8
WARM_UP = 10

# The MLP sees about this many pairs at a time, whose 4 d activations stay near the processor.
MLP_ROWS = 700

# A run has grokked at the first snapshot with this share of the test set right.
GROKKED = 0.9

# What is known of a snapshot beside its avalanche.
KNOWN = ("loss", "train_accuracy", "test_loss", "accuracy", "gradient_norm", "weight_norm")

# Where a LayerNorm stands: before the matrix named, and before those that read the same input.
NORMS = {"query": "attention_norm", "mlp_in": "mlp_norm", "unembedding": "final_norm"}

# Distinguish the streams of weights and splits from each other and any other that a seed feeds.
WEIGHTS_STREAM = 0x77656967
SPLIT_STREAM = 0x73706C69


@dataclass(frozen=True)
class ModularAdditionRun:
    """The configuration of one run; its measurements depend on nothing else.

    Parameters
    ----------
    width : int
        The width d of the residual stream, a multiple of the 4 heads.
    seed : int
        Seed of the initial weights, the split, the graph and the surrogates. Runs that differ in
        neither seed, width, architecture nor modulus start from the same weights.
    architecture : str
        "plain" or "layernorm".
    train_share : float
        The share of the sums to train on, in (0, 1).
    split : str
        "unordered": (a, b) and (b, a) are on the same side; or "literal": any pair on any side.
    weight_decay : float
        AdamW's, at least 0.
    epochs : int
        Updates. Without it, or with ``None``, it becomes the architecture's of ``EPOCHS``.
    every : int
        Epochs between snapshots: 0, every, 2 every, ... up to ``epochs``.
    learning_rate : float
        AdamW's after the warm-up, above 0.
    topology, alpha, quantile, max_steps
        The probe's (see ``Probe``).
    modulus : int
        The p of (a + b) mod p, at least 2.

    Raises
    ------
    InputError
        For a value out of range.
    """

    width: int
    seed: int
    architecture: str = "plain"
    train_share: float = 0.8
    split: str = "unordered"
    weight_decay: float = 1.0
    epochs: int = None  # type: ignore[assignment]  # settled in __post_init__
    every: int = 10
    learning_rate: float = 3e-3
    topology: str = "barabasi_albert"
    alpha: float = 0.3
    quantile: float = 0.9
    max_steps: int = 20
    modulus: int = 59

    def __post_init__(self) -> None:
        for name, known in (("architecture", tuple(EPOCHS)), ("split", SPLITS)):
            value = getattr(self, name)
            if not (isinstance(value, str) and value in known):
                raise InputError(f"{name} is {value!r}; one of {', '.join(known)} is needed")
        if self.epochs is None:
            object.__setattr__(self, "epochs", EPOCHS[self.architecture])
        settle_types(self)
        if not (self.width > 0 and self.width % HEADS == 0):
            raise InputError(
                f"width is {self.width}; a positive multiple of the {HEADS} heads is needed"
            )
        require_count("epochs", self.epochs, 1)
        require_count("every", self.every, 1)
        require_count("modulus", self.modulus, 2)
        require_between("train_share", self.train_share, 0, 1)
        require_between("learning_rate", self.learning_rate, 0, float("inf"))
        require_between("weight_decay", self.weight_decay, 0, float("inf"), inclusive=True)
        check_topology(self.topology)
        _ = self.probe  # checks what is the probe's
        p = self.modulus
        n_sums = p * (p + 1) // 2 if self.split == "unordered" else p * p
        if not 0 < round(self.train_share * n_sums) < n_sums:
            raise InputError(
                f"train_share is {self.train_share}; one that puts some of the {n_sums} sums on "
                f"either side "
                "is needed"
            )

    @property
    def n_parameters(self) -> int:
        """The number N of trainable parameters.

        12 d² + (2 p + 4) d, and with LayerNorm 15 d + p more.
        """
        return sum(tensors(self))

    @property
    def probe(self) -> Probe:
        """The probe that measures this run."""
        return Probe(self.topology, self.alpha, self.quantile, self.max_steps, self.seed)

    def config(self) -> dict[str, Any]:
        """Return the full configuration as JSON-ready values."""
        identity = {"experiment": "modular_addition", "surrogate": REAL}
        return {**identity, "n_parameters": self.n_parameters, **asdict(self)}


def sweep(widths: Sequence[int], seeds: int, **settings: Any) -> list[ModularAdditionRun]:
    """Return the runs of every width with seeds 0 to ``seeds`` - 1.

    Settings as in ``ModularAdditionRun``.

    Raises
    ------
    InputError
        For no width, a width that repeats, fewer than one seed, or a setting out of range.
    """
    require_count("seeds", seeds, 1)
    require(len(widths) > 0, "no width was given; at least one is needed")
    if len(set(widths)) != len(widths):
        raise InputError(f"widths {list(widths)} repeat; each may stand once")
    return [ModularAdditionRun(d, seed, **settings) for d in widths for seed in range(seeds)]


def shapes(run: ModularAdditionRun) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter tensor by name, in their order in a flattened gradient.

    A matrix is (outputs, inputs), as in PyTorch's linear layers.
    """
    d, p = run.width, run.modulus
    matrices = {
        "token": (p + 1, d), "position": (3, d),
        "query": (d, d), "key": (d, d), "value": (d, d), "attention_out": (d, d),
        "mlp_in": (4 * d, d), "mlp_out": (d, 4 * d), "unembedding": (p, d),
    }  # fmt: skip
    if run.architecture == "plain":
        return {**matrices}
    named: dict[str, tuple[int, ...]] = {}
    for name, shape in matrices.items():
        if name in NORMS:
            named |= {f"{NORMS[name]}_scale": (d,), f"{NORMS[name]}_shift": (d,)}
        named[name] = shape
        if name not in ("token", "position"):
            named[f"{name}_bias"] = shape[:1]
    return named


def tensors(run: ModularAdditionRun) -> tuple[int, ...]:
    """Return the number of entries of each parameter tensor, in order."""
    return tuple(math.prod(shape) for shape in shapes(run).values())


def initial_parameters(run: ModularAdditionRun) -> NDArray[np.float32]:
    """Return the initial parameters, shape (N,), in the order of ``shapes``."""
    rng = _stream(run, WEIGHTS_STREAM, list(EPOCHS).index(run.architecture))
    pieces = []
    for name, shape in shapes(run).items():
        if len(shape) == 2:
            pieces.append(rng.standard_normal(shape).ravel() / math.sqrt(shape[1]))
        else:
            pieces.append(np.full(shape, float(name.endswith("_scale"))))
    return np.concatenate(pieces).astype(np.float32)


def split_pairs(run: ModularAdditionRun) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs (a, b) to train on and those to test on, each of shape (pairs, 2), ascending.

    A smaller share of the same split is a part of a larger one.
    """
    every = np.ones((run.modulus, run.modulus), bool)
    # The pairs to draw from: with both orders on one side, one of each two.
    drawn = np.argwhere(np.triu(every) if run.split == "unordered" else every)
    order = _stream(run, SPLIT_STREAM).permutation(len(drawn))
    first, second = drawn[order[: round(run.train_share * len(drawn))]].T
    trained = np.zeros_like(every)
    trained[first, second] = True
    if run.split == "unordered":
        trained[second, first] = True
    return np.argwhere(trained), np.argwhere(~trained)


def logits(run: ModularAdditionRun, parameters: Tensor, pairs: Tensor) -> Tensor:
    """Return the logits of pairs at the last position, shape (pairs, p).

    What a full sequence would give up to rounding, at a fraction of the work: the last position
    alone is predicted, so that queries, MLP and unembedding run there only; the one layer sees
    2 p + 1 distinct inputs, a token at its position, so that keys and values run on these; and the
    last input is always "=", so that there is one query, and its score with an input is a number
    to be looked up.

    Parameters
    ----------
    run : ModularAdditionRun
    parameters : Tensor, shape (N,)
        Of any float dtype. In one piece, so that its gradient and AdamW's update are each one vector.
    pairs : Tensor of int64, shape (pairs, 2)
    """
    import torch

    p, plain, library = run.modulus, run.architecture == "plain", torch.nn.functional
    pieces = zip(shapes(run).items(), parameters.split_with_sizes(tensors(run)), strict=True)
    of = {name: piece.view(shape) for (name, shape), piece in pieces}

    def norm(name: str, x: Tensor) -> Tensor:
        if plain:
            return x
        return library.layer_norm(x, x.shape[1:], of[f"{name}_scale"], of[f"{name}_shift"])

    def affine(name: str, x: Tensor) -> Tensor:
        return library.linear(x, of[name], of.get(f"{name}_bias"))

    token, position = of["token"], of["position"]
    inputs = torch.cat([token[:p] + position[0], token[:p] + position[1], token[p:] + position[2]])
    seen = norm("attention_norm", inputs)
    products = affine("key", seen) * affine("query", seen[-1:])
    scores = products.view(len(inputs), HEADS, -1).sum(2) / math.sqrt(run.width // HEADS)
    mixed = _attend(scores, affine("value", seen), pairs[:, 0], pairs[:, 1] + p)
    x = inputs[-1] + affine("attention_out", mixed)
    activate = torch.relu_ if plain else library.gelu
    parts = torch.tensor_split(norm("mlp_norm", x), -(-len(x) // MLP_ROWS))
    x = x + torch.cat([affine("mlp_out", activate(affine("mlp_in", part))) for part in parts])
    return affine("unembedding", norm("final_norm", x))


def _attend(scores: Tensor, values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the values of (first, second, last) of the inputs, mixed by the softmax of their scores.

    Shapes: scores (inputs, heads), values (inputs, d), first and second (pairs,); result (pairs, d).
    """
    import torch

    n, d = len(first), values.shape[1]
    table = torch.cat([values, scores], 1)
    # The backward of an embedding adds up rows far faster than that of an index does.
    look_up = torch.nn.functional.embedding
    rows = look_up(first, table), look_up(second, table), table[-1:].expand(n, -1)
    mixed, scored = zip(*(row.split_with_sizes([d, HEADS], 1) for row in rows), strict=True)
    weights = torch.stack(scored).softmax(0).unsqueeze(3)
    a, b, c = (weight * value.view(n, HEADS, -1) for weight, value in zip(weights, mixed, strict=True))
    attended: Tensor = a + b + c
    return attended.view(n, d)


class AdamW:
    """AdamW of one flat vector, in the operations and their order of ``torch.optim.AdamW``.

    Which spends more on its bookkeeping than a small network on an epoch.

    Parameters
    ----------
    parameters : Tensor, shape (N,)
        Updated in place.
    run : ModularAdditionRun
        Its learning rate, weight decay and the warm-up.
    """

    def __init__(self, parameters: Tensor, run: ModularAdditionRun) -> None:
        self.parameters, self.run = parameters, run
        self.mean, self.square = parameters.new_zeros(2, len(parameters))
        self.updates = 0

    def step(self, gradient: Tensor) -> None:
        """Update the parameters by their gradient."""
        self.updates += 1
        rate = self.run.learning_rate * min(1.0, self.updates / WARM_UP)
        self.parameters.mul_(1 - rate * self.run.weight_decay)
        self.mean.lerp_(gradient, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        unbiased = self.square.sqrt().div_(math.sqrt(1 - BETAS[1] ** self.updates)).add_(EPSILON)
        self.parameters.addcdiv_(self.mean, unbiased, value=-rate / (1 - BETAS[0] ** self.updates))


def train(run: ModularAdditionRun) -> tuple[GradientRecord, dict[str, NDArray[np.float64]]]:
    """Train a run; return its gradients, and ``KNOWN`` by name, at its snapshots.

    Raises
    ------
    InputError
        Where torch is not installed, or training diverged to numbers that are not finite.
    """
    require(
        find_spec("torch") is not None, "torch is not installed; gradquake[torch] is needed to train"
    )
    import torch

    epochs = np.arange(0, run.epochs + 1, run.every)
    gradients = np.empty((len(epochs), run.n_parameters), np.float32)
    known = np.empty((len(KNOWN), len(epochs)))
    with _one_thread():
        parameters = torch.tensor(initial_parameters(run))
        pairs, test_pairs = (torch.tensor(side) for side in split_pairs(run))
        sums, test_sums = (side.sum(1) % run.modulus for side in (pairs, test_pairs))
        optimizer = AdamW(parameters, run)
        for epoch in range(run.epochs + 1):
            weights = parameters.detach().requires_grad_()
            found = logits(run, weights, pairs)
            (gradient,) = torch.autograd.grad(_cross_entropy(found, sums), weights)
            if epoch % run.every == 0:
                snapshot = epoch // run.every
                gradients[snapshot] = gradient.numpy()
                tested = logits(run, parameters, test_pairs)
                norms = _norm(gradient), _norm(parameters)
                known[:, snapshot] = *_judged(found, sums), *_judged(tested, test_sums), *norms
                if not np.isfinite(known[:, snapshot]).all():
                    raise InputError(
                        f"training diverged by epoch {epoch} of {run}; a smaller learning rate is needed"
                    )
            if epoch < run.epochs:
                optimizer.step(gradient)
    values = dict(zip(KNOWN, known, strict=True))
    reached = np.flatnonzero(values["accuracy"] >= GROKKED)
    grokking_epoch = int(epochs[reached[0]]) if reached.size else None
    return GradientRecord(run.config(), grokking_epoch, epochs, gradients, tensors(run)), values


def measure(runs: Sequence[ModularAdditionRun]) -> list[RunRecord]:
    """Train runs one by one, and measure the avalanches of their gradients and of all surrogates.

    Returns
    -------
    list of RunRecord
        For each run the record of its gradients, then one for each of ``surrogates.RUNGS``, which
        holds avalanches only. Beside the avalanches, and the cross-entropy and accuracy of the
        training set (``loss``, ``train_accuracy``) and of the test set (``test_loss``,
        ``accuracy``), in nats and shares, the record holds the Euclidean norms of the gradient and
        of the parameters. Its grokking epoch is the first snapshot with a test accuracy of 0.9.

    Raises
    ------
    InputError
        Where no run is given, torch is not installed, or training diverged.
    """
    require(len(runs) > 0, "no run was given; at least one is needed")
    records: list[RunRecord] = []
    for run in runs:
        # Measured after the training: one batch in float32 is sooner done than snapshot by snapshot.
        recorded, values = train(run)
        real, *nulls = (read(recorded, Reading(surrogate=rung)) for rung in (REAL, *RUNGS))
        whole = RunRecord(real.config, real.grokking_epoch, real.epochs, {**real.values, **values})
        records += [whole, *nulls]
    return records


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, since a sum shared among several ends in other bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _stream(run: ModularAdditionRun, *key: int) -> np.random.Generator:
    """Return the stream of a purpose, another for another size."""
    entropy = np.random.SeedSequence(run.seed, spawn_key=(*key, run.modulus, run.width))
    return np.random.default_rng(entropy)


def _judged(found: Tensor, sums: Tensor) -> tuple[float, float]:
    """Return the cross-entropy and the accuracy of logits."""
    right = int((found.argmax(1) == sums).sum())
    return _cross_entropy(found, sums).item(), right / len(sums)


def _cross_entropy(found: Tensor, sums: Tensor) -> Tensor:
    import torch

    return torch.nn.functional.cross_entropy(found.double(), sums)


def _norm(vector: Tensor) -> float:
    """Return the Euclidean norm, summed in float64 by NumPy: in one order, and without a BLAS."""
    return float(np.sqrt(np.square(vector.numpy().astype(np.float64)).sum()))
