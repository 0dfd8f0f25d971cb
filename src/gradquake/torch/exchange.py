"""The exchange between processes that share a gradient, over ``torch.distributed``."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from gradquake.errors import InputError, require

__all__ = ["Exchange"]


class Exchange:
    """The processes of a group, as ``Probe.measure_pieces`` needs them.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, optional
        A group of the gloo backend; by default the default group. If that has another backend,
        ``torch.distributed.new_group(backend="gloo")`` makes a group beside it.

    Attributes
    ----------
    rank, size : int
        The number of this process in the group, from 0, and of all processes, as mpi4py names them.

    Raises
    ------
    InputError
        If there is no process group, or it has another backend.
    """

    def __init__(self, group: Any = None) -> None:
        require(
            dist.is_available() and dist.is_initialized(),
            "torch.distributed is not initialized; init_process_group makes a process group",
        )
        backend = dist.get_backend(group)
        if backend != "gloo":
            raise InputError(
                f"the process group has the backend {backend}; gloo is needed: make a group by "
                'torch.distributed.new_group(backend="gloo")'
            )
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def allgather(self, value: Any, /) -> list[Any]:
        """Return the values of all processes, by rank."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, self._group)
        return values

    def alltoall(self, values: Sequence[Any], /) -> list[Any]:
        """Send ``values[r]`` to process r, and return the values sent to this process, by rank."""
        sent = [
            torch.frombuffer(bytearray(pickle.dumps(value, 5)), dtype=torch.uint8) for value in values
        ]
        lengths = self.allgather([data.numel() for data in sent])
        received = [torch.empty(of[self.rank], dtype=torch.uint8) for of in lengths]
        received[self.rank] = sent[self.rank]
        pending: list[Any] = []
        for r in range(self.size):
            if r != self.rank:
                pending.append(dist.isend(sent[r], group=self._group, group_dst=r))
                pending.append(dist.irecv(received[r], group=self._group, group_src=r))
        for request in pending:
            request.wait()
        # Safe to unpickle: the data come from processes of the same program.
        return [pickle.loads(data.numpy().tobytes()) for data in received]  # noqa: S301
