"""The synthetic baseline: the probe on independent, normally distributed gradients.

A run has the sizes, seed, graph and number of snapshots of a trained run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.observables import observe
from gradquake.avalanche.surrogates import standard_normal
from gradquake.avalanche.topologies import build
from gradquake.errors import require, require_between, require_count
from gradquake.experiments.experiment import Experiment, ProbedRun
from gradquake.study.recording import GradientRecord, RunRecord

__all__ = ["SYNTHETIC", "SyntheticRun", "gradients", "measure"]

# Distinguishes the stream of draws from any other that a seed feeds.
STREAM = 0x67617573


@dataclass(frozen=True)
class SyntheticRun(ProbedRun):
    """The configuration of one synthetic run.

    Parameters
    ----------
    n_parameters : int
        The length N of the gradients, at least 5.
    seed : int
        Seed of the draws and of the graph. The draws do not depend on the topology or on alpha, so
        runs that differ only in these are compared on the same gradients.
    std : float
        Standard deviation of the entries, above 0.
    epochs, every : int
        One draw stands for each snapshot 0, every, ..., epochs of a trained run.
    topology, alpha, quantile, max_steps
        The probe's settings (see ``ProbedRun``).

    Raises
    ------
    InputError
        For a value out of range.
    """

    experiment = "synthetic"

    n_parameters: int
    seed: int
    std: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("n_parameters", self.n_parameters, 5)
        require_between("std", self.std, 0, float("inf"))


def measure(runs: Sequence[SyntheticRun]) -> list[RunRecord]:
    """Draw and measure the gradients of each run.

    Raises
    ------
    InputError
        If no run is given.
    """
    require(len(runs) > 0, "no run was given; at least one is needed")
    return [_measure(run) for run in runs]


def gradients(
    runs: Sequence[SyntheticRun], epochs: Sequence[NDArray[np.int64]] | None = None
) -> list[GradientRecord]:
    """Return the gradients that ``measure`` measures, bit for bit.

    Raises
    ------
    InputError
        If no run is given, or epochs are given.
    """
    require(len(runs) > 0, "no run was given; at least one is needed")
    require(epochs is None, "epochs were asked of synthetic runs, which have nothing but snapshots")
    return [
        GradientRecord(run.config(), None, run.snapshots, _draws(run), {"drawn": run.n_parameters})
        for run in runs
    ]


def _draws(run: SyntheticRun) -> NDArray[np.float64]:
    entropy = np.random.SeedSequence(run.seed, spawn_key=(STREAM, run.n_parameters))
    shape = (run.snapshots.size, run.n_parameters)
    return run.std * standard_normal(np.random.default_rng(entropy), shape)


def _measure(run: SyntheticRun) -> RunRecord:
    graph = build(run.topology, run.n_parameters, run.seed)
    drawn = _draws(run)
    batch = run.probe.measure_batch(drawn, graph, threads=1)
    observed = observe(run.observe, [replace(run.probe, graph=graph)] * len(drawn), drawn)
    return RunRecord(run.config(), None, run.snapshots, batch.measured() | observed)


SYNTHETIC = Experiment(
    run=SyntheticRun,
    size="n_parameters",
    sizes=(81, 121, 201, 281, 401, 481, 801, 2001),  # of the paper's XOR networks
    measure=measure,
    gradients=gradients,
)
