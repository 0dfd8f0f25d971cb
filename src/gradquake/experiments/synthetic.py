"""The synthetic baseline: the probe on independent, normally distributed gradients.

A run has the sizes, seed, graph and number of snapshots of a trained run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import standard_normal
from gradquake.avalanche.topologies import build, check_topology
from gradquake.errors import require, require_between, require_count
from gradquake.study.configuration import settle_types
from gradquake.study.recording import GradientRecord, RunRecord

# Distinguishes the stream of draws from any other that a seed feeds.
STREAM = 0x67617573


@dataclass(frozen=True)
class SyntheticRun:
    """The configuration of one synthetic run.

    Parameters
    ----------
    n_parameters : int
        The length N of the gradients, at least 5.
    seed : int
        Seed of the draws and of the graph. The draws do not depend on the topology or on alpha, so
        that runs which differ in these alone are compared on the same gradients.
    epochs, every : int
        One draw stands for each snapshot 0, every, ..., epochs of a trained run.
    std : float
        Standard deviation of the entries, above 0.
    alpha, quantile, max_steps, topology
        The probe's (see ``Probe``).

    Raises
    ------
    InputError
        For a value out of range.
    """

    n_parameters: int
    seed: int
    epochs: int = 500
    every: int = 10
    std: float = 0.5
    alpha: float = 0.3
    quantile: float = 0.9
    max_steps: int = 20
    topology: str = "barabasi_albert"

    def __post_init__(self) -> None:
        settle_types(self)
        require_count("n_parameters", self.n_parameters, 5)
        require_count("epochs", self.epochs, 1)
        require_count("every", self.every, 1)
        require_between("std", self.std, 0, float("inf"))
        check_topology(self.topology)
        _ = self.probe

    @property
    def probe(self) -> Probe:
        """The probe that measures this run."""
        return Probe(self.topology, self.alpha, self.quantile, self.max_steps, self.seed)

    def config(self) -> dict[str, Any]:
        """Return the full configuration as JSON-ready values."""
        return {"experiment": "synthetic", "surrogate": "real", **asdict(self)}


def measure(runs: Sequence[SyntheticRun]) -> list[RunRecord]:
    """Draw and measure the gradients of each run.

    Raises
    ------
    InputError
        Where no run is given.
    """
    require(len(runs) > 0, "no run was given; at least one is needed")
    return [_measure(run) for run in runs]


def gradients(runs: Sequence[SyntheticRun]) -> list[GradientRecord]:
    """Return the gradients of each run: those that ``measure`` measures, bit for bit.

    Raises
    ------
    InputError
        Where no run is given.
    """
    require(len(runs) > 0, "no run was given; at least one is needed")
    return [
        GradientRecord(run.config(), None, _epochs(run), _draws(run), (run.n_parameters,))
        for run in runs
    ]


def _epochs(run: SyntheticRun) -> NDArray[np.int64]:
    return np.arange(0, run.epochs + 1, run.every)


def _draws(run: SyntheticRun) -> NDArray[np.float64]:
    entropy = np.random.SeedSequence(run.seed, spawn_key=(STREAM, run.n_parameters))
    shape = (_epochs(run).size, run.n_parameters)
    return run.std * standard_normal(np.random.default_rng(entropy), shape)


def _measure(run: SyntheticRun) -> RunRecord:
    graph = build(run.topology, run.n_parameters, run.seed)
    batch = run.probe.measure_batch(_draws(run), graph, threads=1)
    return RunRecord(run.config(), None, _epochs(run), batch.measured())
