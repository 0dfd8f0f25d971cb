"""Recorded runs once more: their gradients, and anything measured on them after the fact.

A run's gradients follow from its configuration, so that a study need not hold them: any surrogate,
topology, threshold or snapshot is measured on them later, on the very gradients of the first time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradquake.cascade import relax_stack
from gradquake.errors import InputError, require
from gradquake.experiments import synthetic, xor
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.experiments.xor import XorRun
from gradquake.graphs import GraphStack, build, repeat, stack
from gradquake.probe import Probe
from gradquake.recording import GradientRecord, RunRecord
from gradquake.surrogates import REAL, surrogate

if TYPE_CHECKING:
    import xarray as xr


# The experiments whose gradients can be made again, with the configuration and the size of a run.
KINDS: dict[str, tuple[type[XorRun] | type[SyntheticRun], str]] = {
    "xor": (XorRun, "hidden"),
    "synthetic": (SyntheticRun, "n_parameters"),
}


@dataclass(frozen=True)
class Reading:
    """What is measured on a recorded gradient.

    Parameters
    ----------
    surrogate : str
        "real" for the gradient itself, or a name in ``surrogates.RUNGS``.
    topology, alpha, quantile, max_steps
        The probe's, as in ``Probe``; the run's own where they are None.
    """

    surrogate: str = REAL
    topology: str | None = None
    alpha: float | None = None
    quantile: float | None = None
    max_steps: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return by name what differs from the run's own setting."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) is not None
        }


def runs_of(sweep: xr.Dataset) -> list[XorRun | SyntheticRun]:
    """Return the configurations of a sweep's runs, in its order.

    Raises
    ------
    InputError
        For an experiment whose gradients cannot be made again, or a sweep of surrogates.
    """
    surrogate_rung = sweep.attrs.get("surrogate", REAL)
    if surrogate_rung != REAL:
        raise InputError(
            f"the sweep was measured on {surrogate_rung} surrogates; a sweep of real gradients is needed"
        )
    settings = {k: v for k, v in sweep.attrs.items() if k not in ("experiment", "surrogate")}
    experiment = sweep.attrs.get("experiment")
    if experiment not in KINDS:
        raise InputError(f"the sweep's experiment is {experiment!r}; its gradients cannot be made again")
    kind, size = KINDS[experiment]
    known = {field.name for field in fields(kind)}
    if not (size in sweep and settings.keys() <= known):
        raise InputError(
            f"the sweep says that it is of the experiment {experiment}, but has not its settings: "
            f"{', '.join(sorted(known))} are needed"
        )
    # An attribute of a Dataset is 0 or 1 for False or True.
    kinds = {field.name: field.type for field in fields(kind)}
    settings |= {k: bool(v) for k, v in settings.items() if kinds[k] == "bool" and v in (0, 1)}
    sizes, seeds = sweep[size].values.tolist(), sweep["seed"].values.tolist()
    return [kind(n, seed, **settings) for n, seed in zip(sizes, seeds, strict=True)]


def gradients(
    runs: Sequence[XorRun | SyntheticRun], epochs: Sequence[NDArray[np.int64]] | None = None
) -> list[GradientRecord]:
    """Return the gradients of runs of one experiment, bit for bit those that were measured.

    Parameters
    ----------
    runs : sequence
        They may differ in size and seed only.
    epochs : sequence of arrays, optional
        For each run the epochs to return; its snapshots without.

    Raises
    ------
    InputError
        As the experiment does, or where epochs are asked of synthetic runs, which have none.
    """
    trained = [run for run in runs if isinstance(run, XorRun)]
    drawn = [run for run in runs if isinstance(run, SyntheticRun)]
    if trained and drawn:
        raise InputError(
            f"{len(trained)} XOR runs and {len(drawn)} synthetic runs were given; runs of one "
            f"experiment "
            "are needed"
        )
    if not drawn:
        return xor.gradients(trained, epochs)
    require(epochs is None, "epochs were asked of synthetic runs, which have nothing but snapshots")
    return synthetic.gradients(drawn)


def read(record: GradientRecord, reading: Reading) -> RunRecord:
    """Measure one run's recorded gradients.

    The configuration of the result says what was read; a surrogate's draws come from the run's seed.
    """
    run = record.config
    wanted = {name: run[name] for name in ("topology", "alpha", "quantile", "max_steps")}
    wanted |= {k: v for k, v in reading.settings().items() if k != "surrogate"}
    probe = Probe(**wanted, seed=run["seed"])
    values = record.gradients
    if reading.surrogate != REAL:
        values = surrogate(reading.surrogate, values, record.tensors, seed=run["seed"])
    graph = build(probe.topology, values.shape[1], probe.seed)
    batch = probe.measure_batch(values, graph, threads=1)
    config: Mapping[str, Any] = {**run, **wanted, "surrogate": reading.surrogate}
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
    """Return the avalanche sizes under every combination of probe settings, which are trusted.

    The same as ``read`` gives setting by setting, in less time: thresholds are found once, and a
    higher limit of steps is measured only where a lower one truncated.

    Parameters
    ----------
    records : sequence of GradientRecord
        With equally many snapshots.
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
                outcome = _relax_some(flat, graphs, where, alpha, limit, threshold)
                found[q, a, k, where] = outcome[:, 1]
                where = where[outcome[:, 5] > 0]
    return found.reshape(*shape[:3], len(records), snapshots)


def _relax_some(
    flat: NDArray[Any],
    graphs: GraphStack,
    where: NDArray[np.intp],
    alpha: float,
    max_steps: int,
    threshold: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the outcomes of some of the gradients laid end to end."""
    if where.size == 0:
        return np.empty((0, 8))
    if where.size < len(graphs):
        pieces = [flat[graphs.offsets[b] : graphs.offsets[b + 1]] for b in where]
        offsets = np.concatenate([[0], np.cumsum([piece.size for piece in pieces])])
        flat = np.concatenate(pieces)
        graphs = GraphStack(offsets, graphs.rows[where], graphs.indptr, graphs.indices)
    return relax_stack(flat, graphs, alpha, max_steps, threshold=threshold[where], angles=False)[1]
