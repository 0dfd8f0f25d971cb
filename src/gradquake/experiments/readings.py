"""Readings of recorded gradients: as which surrogate, on which topology, with which settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.cascade import OUTCOME, relax_stack
from gradquake.avalanche.graphs import GraphStack, repeat, stack
from gradquake.avalanche.observables import observe
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.settings import CascadeSettings
from gradquake.avalanche.surrogates import REAL, surrogate
from gradquake.avalanche.tensors import Layers
from gradquake.avalanche.topologies import build
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
    topology : str, optional
    cascade : CascadeSettings, optional
        The run's own topology and settings if they are None.
    independent_graph : bool, optional
        Measure on another graph of the topology, of the same node order, than the run's seed draws.
    observe : str, optional
        The observables to measure, as ``observables.checked_observables`` returns them; the run's own if
        it is None.
    """

    surrogate: str = REAL
    topology: str | None = None
    cascade: CascadeSettings | None = None
    independent_graph: bool | None = None
    observe: str | None = None

    def settings(self) -> dict[str, object]:
        """Return by name the settings that are not the run's own."""
        topology = {} if self.topology is None else {"topology": self.topology}
        cascade = {} if self.cascade is None else self.cascade.settings()
        named = {"independent_graph": self.independent_graph, "observe": self.observe}
        others = {name: value for name, value in named.items() if value is not None}
        return {"surrogate": self.surrogate, **topology, **cascade, **others}


def read(record: GradientRecord, reading: Reading) -> RunRecord:
    """Measure one run's recorded gradients.

    The configuration of the result holds the settings of the reading. The run's seed draws surrogates.
    """
    config = {**record.config, **reading.settings()}
    probe = Probe.of(config)
    if reading.independent_graph:
        probe = replace(probe, seed=(probe.seed + APART) % 2**63)
    values = record.gradients
    if reading.surrogate != REAL:
        lengths = list(record.tensors.values())
        values = surrogate(reading.surrogate, values, lengths, seed=config["seed"])
    graph = build(probe.topology, values.shape[1], probe.seed)
    layers = Layers.of(record.tensors, graph.n_nodes) if config.get("tensors") else None
    batch = probe.measure_batch(values, graph, threads=1, tensors=layers)
    wanted = config.get("observe", "")
    observed = observe(wanted, [replace(probe, graph=graph)] * len(values), values)
    if not wanted:
        config.pop("observe", None)
    measured = batch.measured() | observed
    counted = layers.lengths if layers else {}
    return RunRecord(config, record.grokking_epoch, record.epochs, measured, counted)


def sizes(
    records: Sequence[GradientRecord],
    topology: str,
    *,
    quantiles: Sequence[float],
    alphas: Sequence[float],
    step_limits: Sequence[int],
    surrogate_rung: str = REAL,
) -> NDArray[np.int64]:
    """Return the avalanche sizes under every combination of probe settings.

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
        else surrogate(
            surrogate_rung, record.gradients, list(record.tensors.values()), seed=record.config["seed"]
        )
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
                cascade = CascadeSettings(alpha=alpha, max_steps=limit)
                if k > 0:
                    found[q, a, k] = found[q, a, k - 1]
                outcomes = _relax_some(flat, graphs, where, cascade, threshold)
                found[q, a, k, where] = outcomes["size"]
                where = where[outcomes["truncated"]]
    return found.reshape(*shape[:3], len(records), snapshots)


def _relax_some(
    flat: NDArray[Any],
    graphs: GraphStack,
    where: NDArray[np.intp],
    cascade: CascadeSettings,
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
    return relax_stack(flat, graphs, cascade, threshold=threshold[where], angles=False)[1]
