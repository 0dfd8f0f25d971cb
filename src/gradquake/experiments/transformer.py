"""One-layer Transformers that map [a, b, =] to the logits of (a + b) mod p.

The residual stream of width d is x = token + position; x += attention(x); x += mlp(x); the prediction
is unembedding(x) at the last position. "plain" has ReLU, no LayerNorm and no biases. "layernorm" has a
LayerNorm before the attention, the MLP and the unembedding, GELU (the exact one) and biases everywhere.
Both have four heads, scores over sqrt(d / 4), an MLP of 4 d, untied embeddings and no dropout.

torch is imported only to compute logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import InputError, require_count, shortened

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ARCHITECTURES", "Transformer"]

ARCHITECTURES = ("plain", "layernorm")
HEADS = 4

# Pairs that the MLP sees at a time; their 4 d activations stay in the caches.
MLP_ROWS = 700

# The LayerNorm in front of each matrix; query, key and value read the same input.
NORMS = {"query": "attention_norm", "mlp_in": "mlp_norm", "unembedding": "final_norm"}

# Distinguishes the stream of weights from any other that a seed feeds.
STREAM = 0x77656967


@dataclass(frozen=True)
class Transformer:
    """A network, its parameters not included; they are one flat vector of float.

    Parameters
    ----------
    architecture : str
        "plain" or "layernorm".
    width : int
        The width d of the residual stream, a multiple of the 4 heads.
    modulus : int
        The p of (a + b) mod p, at least 2.

    Raises
    ------
    InputError
        For a value out of range.
    """

    architecture: str
    width: int
    modulus: int

    def __post_init__(self) -> None:
        if not (isinstance(self.architecture, str) and self.architecture in ARCHITECTURES):
            raise InputError(
                f"architecture is {shortened(self.architecture)}; one of {', '.join(ARCHITECTURES)} is "
                "needed"
            )
        if not (self.width > 0 and self.width % HEADS == 0):
            raise InputError(
                f"width is {self.width}; a positive multiple of the {HEADS} heads is needed"
            )
        require_count("modulus", self.modulus, 2)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter tensor by name, in their order in a flat gradient.

        A matrix is (outputs, inputs), as in PyTorch's linear layers.
        """
        d, p = self.width, self.modulus
        matrices: dict[str, tuple[int, ...]] = {
            "token": (p + 1, d), "position": (3, d),
            "query": (d, d), "key": (d, d), "value": (d, d), "attention_out": (d, d),
            "mlp_in": (4 * d, d), "mlp_out": (d, 4 * d), "unembedding": (p, d),
        }  # fmt: skip
        if self.architecture == "plain":
            return matrices
        named: dict[str, tuple[int, ...]] = {}
        for name, shape in matrices.items():
            if name in NORMS:
                named |= {f"{NORMS[name]}_scale": (d,), f"{NORMS[name]}_shift": (d,)}
            named[name] = shape
            if name not in ("token", "position"):
                named[f"{name}_bias"] = shape[:1]
        return named

    @cached_property
    def tensors(self) -> dict[str, int]:
        """The number of entries of each parameter tensor by name, in order."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    def initial_parameters(self, seed: int) -> NDArray[np.float32]:
        """Return the initial parameters, shape (N,), in the order of ``shapes``.

        Weights are N(0, 1/fan_in). fan_in is the length of a row, as ``torch.nn.init`` counts it: d,
        also for the rows of tokens and positions, and 4 d into the MLP's output. Biases are 0, and the
        scales of a LayerNorm 1.
        """
        key = (STREAM, ARCHITECTURES.index(self.architecture), self.modulus, self.width)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
        pieces = []
        for name, shape in self.shapes.items():
            if len(shape) == 2:
                pieces.append(rng.standard_normal(shape).ravel() / math.sqrt(shape[1]))
            else:
                pieces.append(np.full(shape, float(name.endswith("_scale"))))
        return np.concatenate(pieces).astype(np.float32)

    def logits(self, parameters: Tensor, pairs: Tensor) -> Tensor:
        """Return the logits of pairs at the last position, shape (pairs, p).

        They are those of the full sequence up to rounding, at a fraction of the work:

        - Only the last position is predicted, so queries, MLP and unembedding run only there.
        - The one layer sees 2 p + 1 distinct inputs, a token at its position. Keys and values are
          computed for these.
        - The last input is always "=", so there is one query, and its score with an input is looked up.

        Parameters
        ----------
        parameters : Tensor, shape (N,)
            Of any float dtype. In one piece, so that its gradient and AdamW's update are each one
            vector.
        pairs : Tensor of int64, shape (pairs, 2)
        """
        import torch

        p, plain, library = self.modulus, self.architecture == "plain", torch.nn.functional
        pieces = zip(
            self.shapes.items(), parameters.split_with_sizes(list(self.tensors.values())), strict=True
        )
        of = {name: piece.view(shape) for (name, shape), piece in pieces}

        def norm(name: str, x: Tensor) -> Tensor:
            if plain:
                return x
            return library.layer_norm(x, x.shape[1:], of[f"{name}_scale"], of[f"{name}_shift"])

        def affine(name: str, x: Tensor) -> Tensor:
            return library.linear(x, of[name], of.get(f"{name}_bias"))

        token, position = of["token"], of["position"]
        inputs = torch.cat([token[:p] + position[0], token[:p] + position[1], token[p:] + position[2]])
        seen = norm("attention_norm", inputs)
        products = affine("key", seen) * affine("query", seen[-1:])
        scores = products.view(len(inputs), HEADS, -1).sum(2) / math.sqrt(self.width // HEADS)
        mixed = _attend(scores, affine("value", seen), pairs[:, 0], pairs[:, 1] + p)
        x = inputs[-1] + affine("attention_out", mixed)
        activate = torch.relu_ if plain else library.gelu
        parts = torch.tensor_split(norm("mlp_norm", x), -(-len(x) // MLP_ROWS))
        x = x + torch.cat([affine("mlp_out", activate(affine("mlp_in", part))) for part in parts])
        return affine("unembedding", norm("final_norm", x))


def _attend(scores: Tensor, values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the values of (first, second, last) of the inputs, mixed by the softmax of their scores.

    Shapes: scores (inputs, heads), values (inputs, d), first and second (pairs,); result (pairs, d).
    """
    import torch

    n, d = len(first), values.shape[1]
    table = torch.cat([values, scores], 1)
    # The backward of an embedding adds up rows far faster than that of an index.
    look_up = torch.nn.functional.embedding
    rows = look_up(first, table), look_up(second, table), table[-1:].expand(n, -1)
    mixed, scored = zip(*(row.split_with_sizes([d, HEADS], 1) for row in rows), strict=True)
    weights = torch.stack(scored).softmax(0).unsqueeze(3)
    a, b, c = (weight * value.view(n, HEADS, -1) for weight, value in zip(weights, mixed, strict=True))
    attended: Tensor = a + b + c
    return attended.view(n, d)
