"""In-line training imprints its graph on the gradient: when that can be told, and why not.

Each update of an in-line run is a gradient relaxed on the run's graph, so the next gradient may be
arranged on that graph. The same gradients on an independent graph (of the same topology and node order,
from another seed) do not have this arrangement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.scrutiny import replay

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["has_independent_graph", "is_trained_on_its_graph", "note_without"]


def is_trained_on_its_graph(sweep: xr.Dataset) -> bool:
    """Return whether the updates of a sweep were relaxed on the graphs that it was measured on."""
    trained = sweep.attrs.get("alpha_train", 0)
    topology = sweep.attrs.get("topology")
    return (
        isinstance(trained, int | float)
        and trained > 0
        and sweep.attrs.get("topology_train", topology) == topology
        and not sweep.attrs.get("permute_train")
    )


def has_independent_graph(sweep: xr.Dataset) -> bool:
    """Return whether a sweep's gradients can be measured again on another graph of its topology."""
    topology = TOPOLOGIES.get(sweep.attrs.get("topology", ""))
    return replay.can_replay(sweep) and topology is not None and topology.drawn


def note_without(sweep: xr.Dataset) -> str:
    """Return a sentence on why the imprint of in-line runs is not told from the arrangement."""
    if replay.can_replay(sweep):
        reason = f"the topology {sweep.attrs['topology']} has one graph for each size, whatever the seed"
    else:
        reason = "their gradients were not kept, so they cannot be measured on another graph"
    return (
        f"The runs were trained on the graph that they were measured on, and {reason}: the arrangement "
        "holds the imprint of the training on that graph."
    )
