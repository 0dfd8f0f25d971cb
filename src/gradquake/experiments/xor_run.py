"""The configuration of an XOR run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from gradquake.avalanche.topologies import check_topology
from gradquake.errors import InputError, require_count, require_number, shortened
from gradquake.experiments.activations import ACTIVATIONS
from gradquake.experiments.experiment import ProbedRun
from gradquake.experiments.learning_rates import rate_at, settled_rate
from gradquake.experiments.mlp import INITIALIZATIONS

__all__ = ["TASKS", "XorRun"]

# The targets of the four samples (0, 0), (0, 1), (1, 0), (1, 1), axis 0 of every activation array.
# "and" and "constant" are controls: a linearly separable function, and nothing to tell apart.
TASKS = {
    "xor": np.array([0.0, 1.0, 1.0, 0.0])[:, None],
    "and": np.array([0.0, 0.0, 0.0, 1.0])[:, None],
    "constant": np.array([1.0, 1.0, 1.0, 1.0])[:, None],
}

# The settings that are one of several names.
CHOICES: dict[str, Collection[str]] = {
    "task": TASKS, "activation": ACTIVATIONS, "initialization": INITIALIZATIONS,
}  # fmt: skip

# The value of ``topology_train`` if nothing is relaxed for the update.
NO_GRAPH = "none"


@dataclass(frozen=True)
class XorRun(ProbedRun):
    """The configuration of one XOR run.

    Parameters
    ----------
    hidden : int
        Hidden units h; the network has N = 4 h + 1 parameters.
    seed : int
        Seed of the initial weights and of the run's graph.
    learning_rate : float or str
        Step of plain gradient descent, above 0; or text such as "10/h", a number over the hidden units.
    alpha_train : float
        The alpha of the relaxation that feeds the update, from 0 to below 1. 0 keeps the probe out of
        the training (shadow). The default is ``alpha`` (in-line, the paper's mode).
    topology_train : str
        The graph of the relaxation that feeds the update. The default is ``topology``, or "none" if
        ``alpha_train`` is 0.
    permute_train : bool
        Place the gradient on that graph in a new random order at every epoch, and put it back
        afterwards: in-line diffusion that knows of no arrangement.
    task : str
        "xor", or a control: "and", which is learned at once, or "constant" labels.
    activation : str
        Of the hidden units: tanh, relu, gelu (in its tanh form) or sigmoid.
    initialization : str
        Of the weights: "uniform" in ±1/sqrt(fan_in), "xavier_normal" or "kaiming_normal", the last two
        with biases of 0.
    tensors : bool
        Record the topplings of each tensor of parameters too.
    epochs, every, topology, alpha, quantile, max_steps
        The snapshots and the probe's settings (see ``ProbedRun``).

    Raises
    ------
    InputError
        For a value out of range.
    """

    experiment = "xor"

    hidden: int
    seed: int
    learning_rate: float | str = 0.5
    alpha_train: float = None  # type: ignore[assignment]  # settled in __post_init__
    topology_train: str = None  # type: ignore[assignment]  # settled in __post_init__
    permute_train: bool = False
    task: str = "xor"
    activation: str = "tanh"
    initialization: str = "uniform"
    tensors: bool = False

    def __post_init__(self) -> None:
        if self.alpha_train is None:
            object.__setattr__(self, "alpha_train", self.alpha)
        require_number("alpha", self.alpha)
        require_number("alpha_train", self.alpha_train)
        if self.topology_train is None:
            settled = NO_GRAPH if self.alpha_train == 0 else self.topology
            object.__setattr__(self, "topology_train", settled)
        super().__post_init__()
        require_count("hidden", self.hidden, 1)
        object.__setattr__(self, "learning_rate", settled_rate(self.learning_rate))
        for name in ("permute_train", "tensors"):
            if not isinstance(getattr(self, name), bool):
                given = shortened(getattr(self, name))
                raise InputError(f"{name} is {given}; True or False is needed")
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if not (isinstance(value, str) and value in known):
                raise InputError(f"{name} is {shortened(value)}; one of {', '.join(known)} is needed")
        if not 0 <= self.alpha_train < 1:
            raise InputError(f"alpha_train is {self.alpha_train}; a number in [0, 1) is needed")
        if self.alpha_train != 0:
            check_topology(self.topology_train, "topology_train")
        elif not (self.topology_train == NO_GRAPH and not self.permute_train):
            raise InputError(
                f"topology_train is {self.topology_train!r} and permute_train {self.permute_train}; "
                "with alpha_train 0 nothing is relaxed for the update, and neither may be given"
            )

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters, N = 4 h + 1."""
        return 4 * self.hidden + 1

    @property
    def tensor_lengths(self) -> dict[str, int]:
        """The number of entries of each tensor by name, in the order of the gradient."""
        h = self.hidden
        return {"hidden": 2 * h, "hidden_bias": h, "output": h, "output_bias": 1}

    @property
    def step(self) -> float:
        """The learning rate as a number."""
        return rate_at(self.learning_rate, self.hidden)

    @property
    def probes_its_update(self) -> bool:
        """Whether the update is the gradient as the probe relaxes it."""
        return (
            self.alpha_train == self.alpha
            and self.topology_train == self.topology
            and not self.permute_train
        )
