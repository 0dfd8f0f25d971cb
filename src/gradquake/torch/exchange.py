"""What pieces of a gradient on several processes need of each other, over ``torch.distributed``."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from gradquake.errors import InputError, require


class Exchange:
    """The processes of a group as ``Probe.measure_pieces`` asks for them.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, optional
        A gloo group; the default group without one. Where that is of another backend,
        ``torch.distributed.new_group(backend="gloo")`` makes one beside it.

    Attributes
    ----------
    rank, size : int
        Of this process in the group, and how many there are.

    Raises
    ------
    InputError
        Where there is no process group, or it is of another backend.
    """

    def __init__(self, group: Any = None) -> None:
        require(
            dist.is_available() and dist.is_initialized(),
            "torch.distributed is not initialized; init_process_group makes a process group",
        )
        backend = dist.get_backend(group)
        if backend != "gloo":
            raise InputError(
                f"the process group is of backend {backend}; one of gloo is needed, as "
                'torch.distributed.new_group(backend="gloo") makes it'
            )
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def allgather(self, value: Any, /) -> list[Any]:
        """Return the value of every process, in their order."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, self._group)
        return values

    def alltoall(self, values: Sequence[Any], /) -> list[Any]:
        """Send ``values[r]`` to process r; return what each sent to this one."""
        sent = [
            torch.frombuffer(bytearray(pickle.dumps(value, 5)), dtype=torch.uint8) for value in values
        ]
        lengths = self.allgather([data.numel() for data in sent])
        received = [torch.empty(of[self.rank], dtype=torch.uint8) for of in lengths]
        received[self.rank] = sent[self.rank]
        under_way: list[Any] = []
        for r in range(self.size):
            if r != self.rank:
                under_way.append(dist.isend(sent[r], group=self._group, group_dst=r))
                under_way.append(dist.irecv(received[r], group=self._group, group_src=r))
        for request in under_way:
            request.wait()
        # From processes of the same program, not from a file.
        return [pickle.loads(data.numpy().tobytes()) for data in received]  # noqa: S301
