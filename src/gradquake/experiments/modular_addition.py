"""Modular addition: one-layer Transformers that learn [a, b, =] -> (a + b) mod p, under the probe.

AdamW sees the whole training set at every epoch, at a rate that rises over the first 10 updates from a
tenth to all of it, and decays all parameters. Parameters are float32. The cross-entropy of their logits
is computed in float64, so that the loss of a memorized set is not rounded off.

The probe is in shadow: gradients are read and never changed. A run is determined to the last bit by its
configuration, the build of torch and the kind of processor, since a BLAS picks its order of summation by
these. torch is imported only to train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.surrogates import REAL, RUNGS
from gradquake.errors import InputError, require, require_between, shortened
from gradquake.experiments.experiment import Experiment, ProbedRun
from gradquake.experiments.readings import Reading, read
from gradquake.experiments.transformer import Transformer
from gradquake.study.configuration import label_text
from gradquake.study.recording import GradientRecord, RunRecord

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "EPOCHS", "KNOWN", "MODULAR_ADDITION", "WIDTHS", "AdamW", "ModularAdditionRun", "measure",
    "split_pairs", "sweep", "train",
]  # fmt: skip

WIDTHS = {"plain": (20, 24, 32, 48, 64, 80, 96, 128), "layernorm": (24, 32, 48, 64, 80, 96, 128)}
EPOCHS = {"plain": 900, "layernorm": 600}

SPLITS = ("unordered", "literal")
BETAS = (0.9, 0.98)
EPSILON = 1e-8
WARM_UP = 10

# A run has grokked at the first snapshot with this share of the test set right.
GROKKED = 0.9

# The outcomes of a snapshot beside its avalanche.
KNOWN = ("loss", "train_accuracy", "test_loss", "accuracy", "gradient_norm", "weight_norm")

# Distinguishes the stream of splits from any other that a seed feeds.
SPLIT_STREAM = 0x73706C69


@dataclass(frozen=True)
class ModularAdditionRun(ProbedRun):
    """The configuration of one run.

    Parameters
    ----------
    width : int
        The width d of the residual stream, a multiple of the 4 heads.
    seed : int
        Seed of the initial weights, the split, the graph and the surrogates. Runs of equal seed, width,
        architecture and modulus start from the same weights.
    architecture : str
        "plain", or "layernorm", which has normalization, GELU and biases.
    train_share : float
        The share of the sums to train on, in (0, 1).
    split : str
        "unordered" keeps (a, b) and (b, a) on the same side; "literal" puts any pair on any side.
    weight_decay : float
        Weight decay of AdamW, at least 0.
    learning_rate : float
        Learning rate of AdamW after the warm-up, above 0.
    modulus : int
        The p of (a + b) mod p, at least 2.
    tensors : bool
        Record the topplings of each tensor of parameters too.
    epochs : int
        The number of updates. The default is 900 for "plain" and 600 for "layernorm".
    every, topology, alpha, quantile, max_steps
        The snapshots and the probe's settings (see ``ProbedRun``).

    Raises
    ------
    InputError
        For a value out of range.
    """

    experiment = "modular_addition"

    width: int
    seed: int
    architecture: str = "plain"
    train_share: float = 0.8
    split: str = "unordered"
    weight_decay: float = 1.0
    learning_rate: float = 3e-3
    modulus: int = 59
    tensors: bool = False
    epochs: int = field(default=None, kw_only=True)  # type: ignore[assignment]  # settled below

    def __post_init__(self) -> None:
        if self.epochs is None:
            # Any number for an unknown architecture, which the network refuses below.
            object.__setattr__(self, "epochs", EPOCHS.get(str(self.architecture), 1))
        super().__post_init__()
        _ = self.network  # checks its settings
        if not (isinstance(self.split, str) and self.split in SPLITS):
            raise InputError(f"split is {shortened(self.split)}; one of {', '.join(SPLITS)} is needed")
        require_between("train_share", self.train_share, 0, 1)
        require_between("learning_rate", self.learning_rate, 0, float("inf"))
        require_between("weight_decay", self.weight_decay, 0, float("inf"), inclusive=True)
        if not isinstance(self.tensors, bool):
            raise InputError(f"tensors is {shortened(self.tensors)}; True or False is needed")
        p = self.modulus
        n_sums = p * (p + 1) // 2 if self.split == "unordered" else p * p
        if not 0 < round(self.train_share * n_sums) < n_sums:
            raise InputError(
                f"train_share is {self.train_share}; one that puts some of the {n_sums} sums on either "
                "side is needed"
            )

    @property
    def network(self) -> Transformer:
        """The network that is trained."""
        return Transformer(self.architecture, self.width, self.modulus)

    @property
    def n_parameters(self) -> int:
        """The number N of trainable parameters.

        12 d² + (2 p + 4) d, and with LayerNorm 15 d + p more.
        """
        return sum(self.network.tensors.values())


def split_pairs(run: ModularAdditionRun) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs (a, b) to train on and those to test on, each of shape (pairs, 2), ascending.

    A smaller training share of the same split is a part of a larger one.
    """
    every = np.ones((run.modulus, run.modulus), bool)
    # The pairs to draw from; only one of (a, b) and (b, a) if both are on one side.
    drawn = np.argwhere(np.triu(every) if run.split == "unordered" else every)
    key = (SPLIT_STREAM, run.modulus, run.width)
    rng = np.random.default_rng(np.random.SeedSequence(run.seed, spawn_key=key))
    order = rng.permutation(len(drawn))
    first, second = drawn[order[: round(run.train_share * len(drawn))]].T
    trained = np.zeros_like(every)
    trained[first, second] = True
    if run.split == "unordered":
        trained[second, first] = True
    return np.argwhere(trained), np.argwhere(~trained)


class AdamW:
    """AdamW of one flat vector, in the operations and their order of ``torch.optim.AdamW``.

    For a small network, the bookkeeping of ``torch.optim.AdamW`` takes longer than the rest of an epoch.

    Parameters
    ----------
    parameters : Tensor, shape (N,)
        Updated in place.
    learning_rate : float
        The rate after the warm-up.
    weight_decay : float
    """

    def __init__(self, parameters: Tensor, learning_rate: float, weight_decay: float) -> None:
        self.parameters = parameters
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.mean, self.square = parameters.new_zeros(2, len(parameters))
        self.updates = 0

    def step(self, gradient: Tensor) -> None:
        """Update the parameters by their gradient."""
        self.updates += 1
        rate = self.learning_rate * min(1.0, self.updates / WARM_UP)
        self.parameters.mul_(1 - rate * self.weight_decay)
        self.mean.lerp_(gradient, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        unbiased = self.square.sqrt().div_(math.sqrt(1 - BETAS[1] ** self.updates)).add_(EPSILON)
        self.parameters.addcdiv_(self.mean, unbiased, value=-rate / (1 - BETAS[0] ** self.updates))


def train(run: ModularAdditionRun) -> tuple[GradientRecord, dict[str, NDArray[np.float64]]]:
    """Train a run; return its gradients, and ``KNOWN`` by name, at its snapshots.

    Raises
    ------
    InputError
        If torch is not installed, or training diverged to numbers that are not finite.
    """
    MODULAR_ADDITION.check_installed()
    import torch

    epochs, network = run.snapshots, run.network
    gradients = np.empty((len(epochs), run.n_parameters), np.float32)
    known = np.empty((len(KNOWN), len(epochs)))
    with _one_thread():
        parameters = torch.tensor(network.initial_parameters(run.seed))
        pairs, test_pairs = (torch.tensor(side) for side in split_pairs(run))
        sums, test_sums = (side.sum(1) % run.modulus for side in (pairs, test_pairs))
        optimizer = AdamW(parameters, run.learning_rate, run.weight_decay)
        for epoch in range(run.epochs + 1):
            weights = parameters.detach().requires_grad_()
            found = network.logits(weights, pairs)
            (gradient,) = torch.autograd.grad(_cross_entropy(found, sums), weights)
            if epoch % run.every == 0:
                snapshot = epoch // run.every
                gradients[snapshot] = gradient.numpy()
                tested = network.logits(parameters, test_pairs)
                norms = _norm(gradient), _norm(parameters)
                known[:, snapshot] = *_judged(found, sums), *_judged(tested, test_sums), *norms
                _check_finite(run, epoch, known[:, snapshot])
            if epoch < run.epochs:
                optimizer.step(gradient)
    values = dict(zip(KNOWN, known, strict=True))
    reached = np.flatnonzero(values["accuracy"] >= GROKKED)
    grokking_epoch = int(epochs[reached[0]]) if reached.size else None
    record = GradientRecord(run.config(), grokking_epoch, epochs, gradients, network.tensors)
    return record, values


def measure(runs: Sequence[ModularAdditionRun]) -> list[RunRecord]:
    """Train runs one by one, and measure the avalanches of their gradients and of all surrogates.

    Returns
    -------
    list of RunRecord
        For each run the record of its gradients, then one for each of ``surrogates.RUNGS``, which
        holds avalanches only. Beside the avalanches, the record of the gradients holds the cross-entropy
        (nats) and accuracy (shares) of the training set (``loss``, ``train_accuracy``) and of the test
        set (``test_loss``, ``accuracy``), and the Euclidean norms of the gradient and of the
        parameters. Its grokking epoch is the first snapshot with a test accuracy of 0.9.

    Raises
    ------
    InputError
        If no run is given, torch is not installed, or training diverged.
    """
    require(len(runs) > 0, "no run was given; at least one is needed")
    records: list[RunRecord] = []
    for run in runs:
        # Measured after the training: one batch in float32 is faster than one snapshot at a time.
        recorded, values = train(run)
        real, *nulls = (read(recorded, Reading(surrogate=rung)) for rung in (REAL, *RUNGS))
        whole = replace(real, values={**real.values, **values})
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


def _check_finite(run: ModularAdditionRun, epoch: int, known: NDArray[np.float64]) -> None:
    if not np.isfinite(known).all():
        raise InputError(
            f"training diverged by epoch {epoch} of the run {label_text(run.config())}; a smaller "
            "learning rate is needed"
        )


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


MODULAR_ADDITION = Experiment(
    run=ModularAdditionRun, size="width", sizes=WIDTHS["plain"], measure=measure, library="torch"
)
sweep = MODULAR_ADDITION.sweep
