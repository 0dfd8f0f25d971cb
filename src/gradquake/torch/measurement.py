"""One step measured: the avalanche of the gradient, and those of its nulls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from gradquake.avalanche.cascade import Avalanche
from gradquake.avalanche.extrapolation import extrapolated, size_error
from gradquake.avalanche.graphs import Graph
from gradquake.avalanche.neurons import neuron_graph
from gradquake.avalanche.probe import CORES, Probe
from gradquake.avalanche.sums import Gradient, exact_sum, products
from gradquake.avalanche.surrogates import repeated_draw, seed_at, surrogate
from gradquake.avalanche.tensors import Layers
from gradquake.errors import require
from gradquake.study.recording import SIZE_ERROR, Measured
from gradquake.torch import device
from gradquake.torch.copies import HostCopy
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
    in_background : bool
        Whether all but ``read`` is called in a thread beside the training. The gradient of an
        accelerator is then measured on the host, so that the training keeps its device.
    estimates : bool
        Whether the gradient is a sample, from which the avalanche of the whole is estimated.
    threads : int, optional
        The most threads of a measurement on the host. By default one in the background of a training
        on the CPU, half of the cores in that of an accelerator, and otherwise all.

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
        in_background: bool = False,
        estimates: bool = False,
        threads: int | None = None,
    ) -> None:
        self.nulls = tuple(nulls)
        graph = _graph(model, gradient, probe)
        self._gradient, self._probe = gradient, replace(probe, graph=graph)
        self._lengths = tuple(gradient.tensors.values())
        # The blocks of the sample lie on other graphs of the same topology.
        self._of_blocks = probe if estimates else None
        # Made now: if gradients are gathered in training, the other processes wait for this one.
        vector = gradient.vector
        beside = 1 if vector.device.type == "cpu" else max(CORES // 2, 1)
        self._threads = threads or (beside if in_background else CORES)
        self._layers = Layers.of(gradient.tensors, gradient.n_parameters) if tensors else None
        self.tensors = self._layers.lengths if self._layers else {}
        # The nulls whose draws repeat, by name and draw.
        self._repeated: dict[tuple[str, int], Values] = {}
        self._placed: DeviceGraph | None = None
        self._placed_layers: PlacedLayers | None = None
        self._copy: HostCopy | None = None
        if vector.device.type != "cpu" and in_background:
            self._copy = HostCopy(vector)
        elif vector.device.type != "cpu":
            self._placed = place(graph, vector.device)
            if self._layers is not None:
                self._placed_layers = place_layers(self._layers, self._placed)

    def read(self, scale: torch.Tensor | None) -> bool:
        """Read the gradient, divided by the scale of mixed precision; return False if there is none."""
        if not self._gradient.read():
            return False
        vector = self._gradient.vector
        if scale is not None:
            vector /= scale.to(vector.device)
        if self._copy is not None:
            self._copy.begin(vector)
        return True

    def avalanche(self) -> tuple[Values, torch.Tensor]:
        """Return the avalanche of the gradient, by name, and the relaxed gradient."""
        vector = self._vector
        values, relaxed = self._relax(vector)
        if vector.device.type == "cpu":
            norm = _norm(vector.numpy())
        else:
            # In double precision, because a sum of many squares loses digits.
            norm = float(torch.linalg.vector_norm(vector, dtype=torch.float64))
        if self._of_blocks is not None:
            norm *= math.sqrt(self._gradient.total / vector.numel())
        name = "update_norm" if isinstance(self._gradient, FlatUpdate) else "gradient_norm"
        return {**values, name: norm}, relaxed

    def null(self, name: str, step: int) -> Values:
        """Return the avalanche of one null at a step.

        The draw does not depend on which other steps are measured.
        """
        vector, seed = self._vector, self._probe.seed
        draw = repeated_draw(name, vector.numel(), seed, step)
        if draw is None:
            return self._null(name, vector, seed_at(seed, step))
        key = name, draw
        if key not in self._repeated:
            self._repeated[key] = self._null(name, vector, seed_at(seed, 0, draw))
        return dict(self._repeated[key])

    def _null(self, name: str, vector: torch.Tensor, seed: int) -> Values:
        # The user's numpy.seterr is not meant for the probe.
        with np.errstate(all="ignore"):
            drawn = surrogate(name, vector.cpu().numpy(), self._lengths, seed=seed)
        return self._relax(torch.from_numpy(drawn).to(vector.device))[0]

    def all_nulls(self, step: int) -> tuple[dict[str, Values], dict[str, Exception]]:
        """Return the avalanche of each null at a step, and the error of each that was not measured."""
        found, failed = {}, {}
        for name in self.nulls:
            try:
                found[name] = self.null(name, step)
            except Exception as error:
                failed[name] = error
        return found, failed

    def write(self, relaxed: torch.Tensor, scale: torch.Tensor | None) -> None:
        """Give the relaxed gradient to the optimizer, scaled as it was read."""
        self._gradient.write(relaxed if scale is None else relaxed * scale.to(relaxed.device))

    @property
    def _vector(self) -> torch.Tensor:
        """The gradient that was read last, where it is measured."""
        return self._gradient.vector if self._copy is None else self._copy.arrived()

    def _relax(self, vector: torch.Tensor) -> tuple[Values, torch.Tensor]:
        probe = self._probe
        with np.errstate(all="ignore"):
            if self._placed is None:
                found = self._on_host(vector.numpy())
                return self._numbers(found, vector.numpy()), torch.from_numpy(found.relaxed)
            there = device.relax(vector, self._placed, probe, self._placed_layers)
        return there.measured(), there.relaxed

    def _numbers(self, found: Avalanche, vector: Gradient) -> Values:
        if self._of_blocks is None:
            return found.measured()
        total = self._gradient.total
        error = size_error(self._of_blocks, vector, total)
        return {**extrapolated(found, vector.size, total), SIZE_ERROR: error}

    def _on_host(self, vector: Gradient) -> Avalanche:
        try:
            return self._probe.measure(vector, threads=self._threads, tensors=self._layers)
        except RuntimeError:
            # At the end of the interpreter, no more threads start.
            return self._probe.measure(vector, threads=1, tensors=self._layers)


def _norm(vector: Gradient) -> float:
    """Return the Euclidean norm, the same on every processor."""
    with np.errstate(all="ignore"):
        return math.sqrt(exact_sum(products(vector, vector, 1.0)[:, 0]))


def _graph(model: nn.Module, gradient: FlatGradient, probe: Probe) -> Graph:
    if probe.graph != "computational":
        return probe.graph_on(gradient.n_parameters)
    require(
        gradient.n_parameters == gradient.total,
        "the computational topology joins all parameters of a neuron; it cannot be drawn on a sample",
    )
    return neuron_graph(layouts(unwrapped(model), gradient.names))
