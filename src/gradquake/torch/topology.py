"""A module's own graph: its parameters as tensors between neurons."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gradquake.neurons import TensorLayout

# Their axis 0 is the input side.
TRANSPOSED = (
    nn.Embedding, nn.EmbeddingBag, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


def layouts(model: nn.Module, names: Sequence[str]) -> list[TensorLayout]:
    """Return the parameters of these names, in order, as ``gradquake.neurons`` takes them."""
    found = []
    for name in names:
        owner, _, _ = name.rpartition(".")
        shape = tuple(model.get_parameter(name).shape)
        transposed = isinstance(model.get_submodule(owner), TRANSPOSED)
        found.append(TensorLayout(name, shape, transposed=transposed and len(shape) > 1))
    return found
