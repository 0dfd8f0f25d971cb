"""Where in a network it topples: the cascade counted tensor by tensor, or layer by layer.

Above ``MOST_TENSORS`` tensors, those of a layer are counted together. A layer is the module that holds a
tensor, its name cut to as many components as give at most ``MOST_TENSORS`` layers; dots separate
components. If these are fewer than ``FEWEST_LAYERS``, as with a hundred blocks in one list, names keep
one component more, and neighbors are joined until there are at most ``MOST_TENSORS``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import InputError, counted, printable, require, require_count, shortened

__all__ = ["MOST_STEPS_COUNTED", "Layers", "Tally", "TensorCounts", "layer_names"]

MOST_TENSORS = 40
FEWEST_LAYERS = 10

# Topplings are counted step by step up to this step, and those of all later steps together.
MOST_STEPS_COUNTED = 100

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layers:
    """The tensors of a gradient, each in the layer with which it is counted.

    Attributes
    ----------
    names : tuple of str
        The layers, in the order of their first tensor.
    entries : array of int64, shape (layers,)
    edges : array of int64, shape (stretches + 1,)
        Stretch s of the gradient is ``edges[s]`` to before ``edges[s + 1]``.
    of_stretch : array of int64, shape (stretches,)
        The layer that each stretch belongs to.
    """

    names: tuple[str, ...]
    entries: Counts
    edges: Counts
    of_stretch: Counts

    @classmethod
    def of(cls, tensors: Mapping[str, int] | Layers, n: int) -> Layers:
        """Return the layers of a gradient of ``n`` entries, whose tensors follow each other.

        Layers are returned as they are.

        Raises
        ------
        InputError
            If ``tensors`` is not a mapping of names to numbers of entries, at least 1, together ``n``.
        """
        if isinstance(tensors, Layers):
            _check_total(int(tensors.edges[-1]), n)
            return tensors
        _check(tensors, n)
        layers = layer_names(tuple(tensors))
        names = tuple(dict.fromkeys(layers))
        number = {name: k for k, name in enumerate(names)}
        # Neighboring tensors of one layer make one stretch.
        pairs = groupby(zip(layers, tensors.values(), strict=True), key=lambda pair: pair[0])
        stretches = [(number[name], sum(length for _, length in of)) for name, of in pairs]
        of_stretch = np.array([k for k, _ in stretches])
        lengths = np.array([length for _, length in stretches], np.int64)
        edges = np.array([0, *accumulate(lengths.tolist())])
        return cls(names, _by_layer(lengths, of_stretch, len(names)), edges, of_stretch)

    @property
    def lengths(self) -> dict[str, int]:
        """The number of entries of each layer by name."""
        return dict(zip(self.names, self.entries.tolist(), strict=True))


@dataclass(frozen=True, eq=False, repr=False)
class TensorCounts:
    """An avalanche counted by tensor, or by layer if there are more than 40 tensors.

    It has the ``names`` of the tensors or layers, in the order of the gradient, and for each of them

    - ``entries``, their number, together N;
    - ``above``, the entries above the threshold before the cascade, which topple at its first step;
    - ``topplings``, together the avalanche's size;
    - ``area``, the entries that topple, together the avalanche's area;
    - ``by_step``, the topplings at each step, shape (steps, tensors).

    ``by_step`` and ``generations``, its sum over all tensors, hold the first 100 steps at most.
    """

    _layers: Layers
    # By stretch; the last row holds the steps after those that are counted one by one.
    _topplings: Counts
    _areas: Counts

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors or layers."""
        return self._layers.names

    @property
    def entries(self) -> Counts:
        """The number of entries of each."""
        return self._layers.entries

    @property
    def above(self) -> Counts:
        """The entries of each above the threshold before the cascade."""
        return self._of_layers(self._topplings[0])

    @property
    def topplings(self) -> Counts:
        """The topplings of each over all steps."""
        total: Counts = self._topplings.sum(axis=0)
        return self._of_layers(total)

    @property
    def area(self) -> Counts:
        """The entries of each that topple."""
        return self._of_layers(self._areas)

    @property
    def by_step(self) -> Counts:
        """The topplings of each at every step, shape (steps, tensors)."""
        return self._of_layers(self._topplings[:-1])

    @property
    def generations(self) -> Counts:
        """The topplings at each step, shape (steps,)."""
        found: Counts = self._topplings[:-1].sum(axis=1)
        return found

    def measured(self) -> dict[str, list[int]]:
        """Return by name the numbers that a recording keeps."""
        return {
            "tensor_above": self.above.tolist(),
            "tensor_topplings": self.topplings.tolist(),
            "tensor_area": self.area.tolist(),
            "generation_topplings": self.generations.tolist(),
        }

    def _of_layers(self, of_stretches: Counts) -> Counts:
        used = of_stretches[..., : self._layers.of_stretch.size]
        return _by_layer(used, self._layers.of_stretch, len(self.names))

    def __repr__(self) -> str:
        topplings = self.topplings
        total = max(int(topplings.sum()), 1)
        most = np.argsort(-topplings, kind="stable")[:3]
        shown = ", ".join(f"{printable(self.names[k])} {topplings[k] / total:.0%}" for k in most)
        return f"TensorCounts({counted(len(self.names), 'tensor')}: {shown})"


class Tally:
    """The counts of the gradients of a batch, as kernels fill them: a row a gradient.

    Parameters
    ----------
    layers : sequence of Layers
        Those of each gradient, or a single one of all.
    batch : int
        The number of gradients.
    max_steps : int
        The most steps of a cascade.

    Attributes
    ----------
    edges : array of int64, shape (batch, stretches + 1)
        Shorter rows end in empty stretches.
    topplings : array of int64, shape (batch, steps + 1, stretches)
    areas : array of int64, shape (batch, stretches)
    """

    def __init__(self, layers: Sequence[Layers], batch: int, max_steps: int) -> None:
        self._layers = layers
        if batch == 1:
            self.edges = layers[0].edges[None]
        elif len(layers) == 1:
            self.edges = np.repeat(layers[0].edges[None], batch, axis=0)
        else:
            most = max(of.edges.size for of in layers)
            padded = [np.pad(of.edges, (0, most - of.edges.size), "edge") for of in layers]
            self.edges = np.array(padded, np.int64)
        stretches = self.edges.shape[1] - 1
        rows = min(max_steps, MOST_STEPS_COUNTED) + 1
        self.topplings = np.zeros((batch, rows, stretches), np.int64)
        self.areas = np.zeros((batch, stretches), np.int64)

    @property
    def arrays(self) -> tuple[Counts, Counts, Counts]:
        """The edges, the topplings and the areas."""
        return self.edges, self.topplings, self.areas

    def __getitem__(self, b: int) -> TensorCounts:
        """Return the counts of the b-th gradient."""
        layers = self._layers[b if len(self._layers) > 1 else 0]
        return TensorCounts(layers, self.topplings[b], self.areas[b])


def layer_names(names: Sequence[str]) -> list[str]:
    """Return for each tensor the layer with which it is counted, by the rule above."""
    if len(names) <= MOST_TENSORS:
        return list(names)
    modules = [name.rpartition(".")[0] or name for name in names]
    deepest = max(module.count(".") for module in modules) + 1
    levels = [[".".join(m.split(".")[:depth]) for m in modules] for depth in range(1, deepest + 1)]
    levels.append(list(names))
    # From the coarsest to the finest; only the last has surely too many.
    fitting = [level for level in levels if len(set(level)) <= MOST_TENSORS]
    if fitting and len(set(fitting[-1])) >= FEWEST_LAYERS:
        return fitting[-1]
    return _joined(levels[len(fitting)])


def _joined(layers: Sequence[str]) -> list[str]:
    """Return layers joined with their neighbors, named by the first and the last of them."""
    distinct = list(dict.fromkeys(layers))
    together = -(-len(distinct) // MOST_TENSORS)
    named: dict[str, str] = {}
    for i in range(0, len(distinct), together):
        group = distinct[i : i + together]
        name = group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}"
        named |= dict.fromkeys(group, name)
    return [named[layer] for layer in layers]


def _by_layer(of_stretches: Counts, of_stretch: Counts, n_layers: int) -> Counts:
    """Return the sums over the stretches of each layer, which are on the last axis."""
    found = np.zeros((*of_stretches.shape[:-1], n_layers), np.int64)
    for stretch, layer in enumerate(of_stretch.tolist()):
        found[..., layer] += of_stretches[..., stretch]
    return found


def _check(tensors: Mapping[str, int], n: int) -> None:
    if not (isinstance(tensors, Mapping) and all(isinstance(name, str) for name in tensors)):
        raise InputError(
            f"tensors is {shortened(tensors)}; a mapping of names to numbers of entries is needed"
        )
    require(len(tensors) > 0, "tensors is empty; at least one is needed")
    for length in tensors.values():
        require_count("the length of a tensor", length, 1)
    _check_total(sum(tensors.values()), n)


def _check_total(total: int, n: int) -> None:
    if total != n:
        raise InputError(
            f"the tensors have {counted(total, 'entry')} together and the gradient {n}; they must be "
            "equal"
        )
