"""The gradient of a PyTorch model as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gradquake.avalanche.neurons import TensorLayout
from gradquake.avalanche.probe import fixed_sample
from gradquake.errors import InputError, a_type, require, require_count

__all__ = ["FlatGradient", "dense", "innermost", "layouts", "scaling", "unwrapped", "updated"]


class FlatGradient:
    """Reads the gradients of chosen parameters into one vector, whose memory is reused.

    Parameters
    ----------
    model : torch.nn.Module
        It may be wrapped in ``DistributedDataParallel``, ``DataParallel`` or ``torch.compile``.
    optimizer : torch.optim.Optimizer
        Only the parameters that it updates are read.
    chosen : callable, optional
        A function of a parameter's name: whether to read it. By default all are read.
    sample : int, optional
        Read a random subset of this many entries, fixed by ``seed``. If there are fewer, all are read.
    seed : int

    Attributes
    ----------
    names : list of str
        The names of the parameters that are read, in the model's order.
    tensors : dict of str to int
        By name, the number of entries that are read of each parameter that has any.
    total : int
        The number of entries of these parameters, sampled or not.
    n_parameters : int
        N, the number of entries that are read.
    strangers : int
        The number of parameters that the optimizer trains and that are not in the model.
    parameters : list of torch.nn.Parameter
        The parameters that are read.
    device : torch.device
        The device of the vector: that of the parameters, or the CPU if they are on several devices or
        on Metal.

    Raises
    ------
    InputError
        If there are no parameters, or they are complex, lazy, or sharded in another way than as
        ``DTensor``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        chosen: Callable[[str], bool] | None = None,
        sample: int | None = None,
        seed: int = 0,
    ) -> None:
        _refuse_other_models(model)
        updates = {id(p): p for p in updated(optimizer)}
        named = [(n, p) for n, p in unwrapped(model).named_parameters() if id(p) in updates]
        require(
            bool(named),
            "the optimizer updates no parameter of this model; both of one network are needed",
        )
        trained = [(n, p) for n, p in named if p.requires_grad]
        require(bool(trained), "all parameters are frozen; at least one must require a gradient")
        read = [(n, p) for n, p in trained if chosen is None or chosen(n)]
        if not read:
            raise InputError(
                f"the filter chooses none of the {len(trained)} parameters; the first is {trained[0][0]}"
            )
        _refuse_unreadable(read)
        if sample is not None:
            require_count("sample", sample, 1)
        self.names = [name for name, _ in read]
        self.parameters = [parameter for _, parameter in read]
        # Those that the optimizer trained at first, of this model or not.
        self._known = {id(p) for p in updates.values() if p.requires_grad}
        self.strangers = len(self._known) - len(trained)
        lengths = [parameter.numel() for parameter in self.parameters]
        self.total = sum(lengths)
        self.device = _device_of(self.parameters)
        self._picked = _sample(lengths, sample, seed) if sample and sample < self.total else None
        if self._picked is not None:
            lengths = [len(picked) for picked in self._picked]
            self._picked = [torch.from_numpy(p).to(self.device) for p in self._picked]
        self._whole = tuple(parameter.numel() for parameter in self.parameters)
        self._lengths = lengths
        # Nulls know nothing of a tensor of which no entry is sampled.
        self.tensors = {n: k for n, k in zip(self.names, lengths, strict=True) if k > 0}
        self.n_parameters = sum(lengths)
        require(self.n_parameters > 0, "the parameters have no entries; at least one is needed")
        doubles = any(parameter.dtype == torch.float64 for parameter in self.parameters)
        self._dtype = torch.float64 if doubles else torch.float32
        self._vector: torch.Tensor | None = None

    @property
    def vector(self) -> torch.Tensor:
        """The entries that were read last."""
        if self._vector is None:
            self._vector = torch.zeros(self.n_parameters, dtype=self._dtype, device=self.device)
        return self._vector

    @property
    def gathers(self) -> bool:
        """Whether reading is a collective operation, in which all processes must take part."""
        return any(hasattr(parameter, "full_tensor") for parameter in self.parameters)

    def newcomers(self, optimizer: torch.optim.Optimizer) -> int:
        """Return how many parameters the optimizer trains now and did not train at first."""
        return sum(p.requires_grad and id(p) not in self._known for p in updated(optimizer))

    def take_part(self) -> None:
        """Take part in gathering gradients that another process reads."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                dense(parameter.grad)

    def read(self) -> bool:
        """Fill ``vector``, with zeros for a parameter without a gradient.

        Returns
        -------
        bool
            Whether any parameter has a gradient.

        Raises
        ------
        InputError
            If a parameter's number of entries has changed since the probe was attached.
        """
        self.fill([parameter.grad for parameter in self.parameters], torch.Tensor.copy_)
        return any(parameter.grad is not None for parameter in self.parameters)

    def fill(
        self,
        sources: Sequence[torch.Tensor | None],
        put: Callable[[torch.Tensor, torch.Tensor], object],
    ) -> None:
        """Call ``put(part, entries)`` for the part of ``vector`` of each parameter; None gives 0."""
        failure = None
        with torch.no_grad():
            parts = torch.split(self.vector, self._lengths)
            for i, (source, part) in enumerate(zip(sources, parts, strict=True)):
                if source is None:
                    part.zero_()
                    continue
                # All processes gather together, so one that fails here still gathers the rest.
                whole = dense(source)
                try:
                    put(part, self._entries(i, whole.reshape(-1)))
                except Exception as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def _entries(self, i: int, whole: torch.Tensor) -> torch.Tensor:
        """Return the entries to read of a parameter's gradient, or of the parameter itself."""
        if whole.numel() != self._whole[i]:
            raise InputError(
                f"{self.names[i]} has {whole.numel()} entries and had {self._whole[i]} when the "
                "probe was attached; attach again after changing the model"
            )
        return whole if self._picked is None else whole[self._picked[i].to(whole.device)]

    def write(self, values: torch.Tensor) -> None:
        """Replace the gradients by the parts of a vector; a parameter without a gradient stays so.

        Raises
        ------
        InputError
            For a sparse gradient.
        """
        with torch.no_grad():
            for name, parameter, part in zip(
                self.names, self.parameters, torch.split(values, self._lengths), strict=True
            ):
                gradient = parameter.grad
                if gradient is None:
                    continue
                if gradient.is_sparse:
                    raise InputError(
                        f"the gradient of {name} is sparse; in-line relaxation needs dense gradients"
                    )
                gradient.copy_(part.reshape(gradient.shape))


def updated(optimizer: Any) -> Iterator[torch.Tensor]:
    """Yield the parameters that an optimizer updates."""
    for group in getattr(optimizer, "param_groups", ()):
        yield from group["params"]


def innermost(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimizer inside wrappers for the same parameters: a framework's, or one like SAM.

    Raises
    ------
    InputError
        If it is no ``torch.optim.Optimizer``.
    """
    inside = {
        id(one): one for one in getattr(optimizer, "__dict__", {}).values() if one is not optimizer
    }
    held = [one for one in inside.values() if isinstance(one, torch.optim.Optimizer)]
    # A held optimizer that updates only some of the parameters, such as a shard, is not the whole.
    if len(held) == 1 and set(map(id, updated(optimizer))) <= set(map(id, updated(held[0]))):
        return innermost(held[0])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"the optimizer is {a_type(optimizer)}; a torch.optim.Optimizer is needed")
    return optimizer


def scaling(optimizer: torch.optim.Optimizer) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the values that a GradScaler gives to an optimizer that unscales gradients itself.

    Returns
    -------
    found_inf, grad_scale : tensor or None
        Whether there was an overflow, and the scale of the gradients.
    """
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return None, None
    given = [getattr(optimizer, name, None) for name in ("found_inf", "grad_scale")]
    # An attribute of another kind is the optimizer's own, not the scaler's.
    found_inf, scale = (
        one if isinstance(one, torch.Tensor) and one.numel() == 1 else None for one in given
    )
    return found_inf, scale


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside ``DistributedDataParallel``, ``DataParallel`` or ``torch.compile``."""
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, wrappers) else model._orig_mod  # type: ignore[assignment]
    return model


def dense(gradient: torch.Tensor) -> torch.Tensor:
    """Return a gradient as one dense tensor. For a DTensor, all processes must call this together."""
    if hasattr(gradient, "full_tensor"):
        gradient = gradient.full_tensor()
    return gradient.to_dense() if gradient.layout != torch.strided else gradient


def _sample(lengths: Sequence[int], sample: int, seed: int) -> list[Any]:
    """Return the ascending positions of the sampled entries of each tensor."""
    picked = fixed_sample(sum(lengths), sample, seed)
    ends = np.cumsum(lengths)
    parts = np.split(picked, np.searchsorted(picked, ends[:-1]))
    return [part - start for part, start in zip(parts, [0, *ends[:-1]], strict=True)]


def _device_of(parameters: Sequence[nn.Parameter]) -> torch.device:
    devices = {parameter.device for parameter in parameters}
    device = devices.pop() if len(devices) == 1 else torch.device("cpu")
    # Thresholds need double precision, which Metal does not have.
    return torch.device("cpu") if device.type == "mps" else device


def _refuse_unreadable(named: Sequence[tuple[str, nn.Parameter]]) -> None:
    for name, parameter in named:
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(f"{name} has no shape yet; run the model once before attaching to it")
        if not parameter.is_floating_point():
            raise InputError(
                f"{name} has dtype {parameter.dtype}; real floating-point parameters are needed"
            )


def _refuse_other_models(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is {a_type(model)}; a torch.nn.Module is needed")
    kinds = {type(module).__name__ for module in model.modules()}
    flat = any(getattr(parameter, "_fsdp_flattened", False) for parameter in model.parameters())
    if flat or "FullyShardedDataParallel" in kinds:
        raise InputError(
            "the model is in FullyShardedDataParallel, whose flat shards are not its parameters; use "
            "torch.distributed.fsdp.fully_shard instead"
        )
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise InputError(
            "the model is sharded by DeepSpeed ZeRO-3, which does not show its gradients; use "
            "torch.distributed.fsdp.fully_shard instead"
        )


# In these modules, axis 0 of the weight is the input side.
TRANSPOSED = (
    nn.Embedding, nn.EmbeddingBag, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


def layouts(model: nn.Module, names: Sequence[str]) -> list[TensorLayout]:
    """Return the shapes of the parameters of these names, for ``gradquake.avalanche.neurons``."""
    found = []
    for name in names:
        owner, _, _ = name.rpartition(".")
        shape = tuple(model.get_parameter(name).shape)
        transposed = isinstance(model.get_submodule(owner), TRANSPOSED)
        found.append(TensorLayout(name, shape, transposed=transposed and len(shape) > 1))
    return found
