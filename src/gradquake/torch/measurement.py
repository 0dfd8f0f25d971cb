"""One step measured: the avalanche of the gradient, and those of its nulls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from gradquake.avalanche.graphs import Graph
from gradquake.avalanche.neurons import neuron_graph
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.surrogates import seed_at, surrogate
from gradquake.avalanche.tensors import Layers
from gradquake.errors import require
from gradquake.study.recording import Measured
from gradquake.torch import device
from gradquake.torch.gradients import FlatGradient, layouts, unwrapped
from gradquake.torch.placement import DeviceGraph, PlacedLayers, place, place_layers
from gradquake.torch.updates import FlatUpdate

__all__ = ["Measurement", "Values"]

Values = dict[str, Measured]


class Measurement:
    """Reads the gradient of a step and lets it relax, always on the same graph.

    Parameters
    ----------
    model : torch.nn.Module
        Needed only for its own graph, if the probe asks for that.
    gradient : FlatGradient
    probe : Probe
    nulls : sequence of str
        The surrogates that are measured too.
    tensors : bool
        Whether topplings are counted by tensor.

    Attributes
    ----------
    tensors : dict of str to int
        The tensors or layers that are counted, and their numbers of entries; empty without them.

    Raises
    ------
    InputError
        If the graph cannot be drawn.
    """

    def __init__(
        self,
        model: nn.Module,
        gradient: FlatGradient,
        probe: Probe,
        nulls: Sequence[str],
        *,
        tensors: bool = False,
    ) -> None:
        self.nulls = tuple(nulls)
        graph = _graph(model, gradient, probe)
        self._gradient, self._probe = gradient, replace(probe, graph=graph)
        self._lengths = tuple(gradient.tensors.values())
        # Made now: if gradients are gathered in training, the other processes wait for this one.
        _ = gradient.vector
        self._layers = Layers.of(gradient.tensors, gradient.n_parameters) if tensors else None
        self.tensors = self._layers.lengths if self._layers else {}
        self._placed: DeviceGraph | None = None
        self._placed_layers: PlacedLayers | None = None
        if gradient.device.type != "cpu":
            self._placed = place(graph, gradient.device)
            if self._layers is not None:
                self._placed_layers = place_layers(self._layers, self._placed)

    def read(self, scale: torch.Tensor | None) -> bool:
        """Read the gradient, divided by the scale of mixed precision; return False if there is none."""
        if not self._gradient.read():
            return False
        if scale is not None:
            vector = self._gradient.vector
            vector /= scale.to(vector.device)
        return True

    def avalanche(self) -> tuple[Values, torch.Tensor]:
        """Return the avalanche of the gradient, by name, and the relaxed gradient."""
        values, relaxed = self._relax(self._gradient.vector)
        # In double precision, because a sum of many squares loses digits.
        norm = torch.linalg.vector_norm(self._gradient.vector, dtype=torch.float64)
        name = "update_norm" if isinstance(self._gradient, FlatUpdate) else "gradient_norm"
        return {**values, name: float(norm)}, relaxed

    def null(self, name: str, step: int) -> Values:
        """Return the avalanche of one null at a step.

        The draw does not depend on which other steps are measured.
        """
        vector = self._gradient.vector
        seed = seed_at(self._probe.seed, step)
        # The user's numpy.seterr is not meant for the probe.
        with np.errstate(all="ignore"):
            drawn = surrogate(name, vector.cpu().numpy(), self._lengths, seed=seed)
        return self._relax(torch.from_numpy(drawn).to(vector.device))[0]

    def write(self, relaxed: torch.Tensor, scale: torch.Tensor | None) -> None:
        """Give the relaxed gradient to the optimizer, scaled as it was read."""
        self._gradient.write(relaxed if scale is None else relaxed * scale.to(relaxed.device))

    def _relax(self, vector: torch.Tensor) -> tuple[Values, torch.Tensor]:
        probe = self._probe
        with np.errstate(all="ignore"):
            if self._placed is None:
                found = probe.measure(vector.numpy(), tensors=self._layers)
                relaxed = torch.from_numpy(found.relaxed)
                return found.measured(), relaxed
            there = device.relax(vector, self._placed, probe, self._placed_layers)
        return there.measured(), there.relaxed


def _graph(model: nn.Module, gradient: FlatGradient, probe: Probe) -> Graph:
    if probe.graph != "computational":
        return probe.graph_on(gradient.n_parameters)
    require(
        gradient.n_parameters == gradient.total,
        "the computational topology joins all parameters of a neuron; it cannot be drawn on a sample",
    )
    return neuron_graph(layouts(unwrapped(model), gradient.names))
