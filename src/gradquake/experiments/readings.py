"""Readings of recorded gradients: as which surrogate, on which topology, with which settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.cascade import OUTCOME, relax_stack
from gradquake.avalanche.graphs import GraphStack, repeat, stack
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import REAL, surrogate
from gradquake.avalanche.topologies import build, check_topology
from gradquake.study.recording import GradientRecord, RunRecord

__all__ = ["Reading", "read", "sizes"]

# Added to a run's seed for its independent graph. No other run of a sweep has such a seed.
APART = 2**62


@dataclass(frozen=True)
class Reading:
    """A way to measure a recorded gradient.

    Parameters
    ----------
    surrogate : str
        "real" for the gradient itself, or a name in ``surrogates.RUNGS``.
    topology, alpha, quantile, max_steps
        The probe's settings (see ``ProbedRun``); the run's own if they are None.
    independent_graph : bool, optional
        Measure on another graph of the topology, of the same node order, than the run's seed draws.
    """

    surrogate: str = REAL
    topology: str | None = None
    alpha: float | None = None
    quantile: float | None = None
    max_steps: int | None = None
    independent_graph: bool | None = None

    def settings(self) -> dict[str, object]:
        """Return by name the settings that are not the run's own."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) is not None
        }


def read(record: GradientRecord, reading: Reading) -> RunRecord:
    """Measure one run's recorded gradients.

    The configuration of the result holds the settings of the reading. The run's seed draws surrogates.
    """
    run = record.config
    wanted = {name: run[name] for name in ("topology", "alpha", "quantile", "max_steps")}
    wanted |= {k: v for k, v in reading.settings().items() if k != "surrogate"}
    check_topology(wanted["topology"])
    seed = (run["seed"] + APART) % 2**63 if reading.independent_graph else run["seed"]
    probe = Probe(wanted["topology"], wanted["alpha"], wanted["quantile"], wanted["max_steps"], seed)
    values = record.gradients
    if reading.surrogate != REAL:
        values = surrogate(reading.surrogate, values, record.tensors, seed=run["seed"])
    graph = build(probe.topology, values.shape[1], probe.seed)
    batch = probe.measure_batch(values, graph, threads=1)
    config = {**run, **wanted, "surrogate": reading.surrogate}
    return RunRecord(config, record.grokking_epoch, record.epochs, batch.measured())


def sizes(
    records: Sequence[GradientRecord],
    topology: str,
    *,
    quantiles: Sequence[float],
    alphas: Sequence[float],
    step_limits: Sequence[int],
    surrogate_rung: str = REAL,
) -> NDArray[np.int64]:
    """Return the avalanche sizes under every combination of probe settings, which are not checked.

    ``read`` gives the same, setting by setting, in more time. Here thresholds are found once, and a
    higher limit of steps is measured only on gradients whose avalanche a lower one truncated.

    Parameters
    ----------
    records : sequence of GradientRecord
        All of the same number of snapshots.
    topology : str
    quantiles, alphas, step_limits : sequence
        The step limits ascending.
    surrogate_rung : str
        "real", or a name in ``surrogates.RUNGS``.

    Returns
    -------
    array, shape (quantiles, alphas, step limits, runs, snapshots)
    """
    blocks = [
        record.gradients
        if surrogate_rung == REAL
        else surrogate(surrogate_rung, record.gradients, record.tensors, seed=record.config["seed"])
        for record in records
    ]
    thresholds = np.concatenate(
        [np.quantile(np.abs(block), quantiles, axis=1) for block in blocks], axis=1
    )
    flat = np.concatenate([block.ravel() for block in blocks])
    snapshots = len(blocks[0])
    graphs = repeat(
        stack([build(topology, r.gradients.shape[1], r.config["seed"]) for r in records]), snapshots
    )
    shape = (len(quantiles), len(alphas), len(step_limits), len(graphs))
    found = np.empty(shape, np.int64)
    for q, threshold in enumerate(thresholds):
        for a, alpha in enumerate(alphas):
            where = np.arange(len(graphs))
            for k, limit in enumerate(step_limits):
                if k > 0:
                    found[q, a, k] = found[q, a, k - 1]
                outcomes = _relax_some(flat, graphs, where, alpha, limit, threshold)
                found[q, a, k, where] = outcomes["size"]
                where = where[outcomes["truncated"]]
    return found.reshape(*shape[:3], len(records), snapshots)


def _relax_some(
    flat: NDArray[Any],
    graphs: GraphStack,
    where: NDArray[np.intp],
    alpha: float,
    max_steps: int,
    threshold: NDArray[np.float64],
) -> NDArray[np.void]:
    """Return the outcomes of some of the gradients laid end to end."""
    if where.size == 0:
        return np.empty(0, OUTCOME)
    if where.size < len(graphs):
        pieces = [flat[graphs.offsets[b] : graphs.offsets[b + 1]] for b in where]
        offsets = np.concatenate([[0], np.cumsum([piece.size for piece in pieces])])
        flat = np.concatenate(pieces)
        graphs = GraphStack(offsets, graphs.rows[where], graphs.indptr, graphs.indices)
    return relax_stack(flat, graphs, alpha, max_steps, threshold=threshold[where], angles=False)[1]
