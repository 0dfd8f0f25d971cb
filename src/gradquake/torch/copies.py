"""The gradient of an accelerator, copied to the host while the training goes on."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["HostCopy"]


class HostCopy:
    """A vector on the host, in page-locked memory that is reused, and the stream that fills it.

    Parameters
    ----------
    source : tensor
        A vector on an accelerator, for its length, dtype and device.
    """

    def __init__(self, source: torch.Tensor) -> None:
        self._device: Any = torch.get_device_module(source.device)
        self._where = source.device
        self._vector = torch.empty(source.numel(), dtype=source.dtype, pin_memory=True)
        self._stream = self._device.Stream(source.device)
        self._done = self._device.Event()

    def begin(self, source: torch.Tensor) -> None:
        """Copy a vector without waiting. It must stay the same until ``arrived`` has returned."""
        self._stream.wait_stream(self._device.current_stream(self._where))
        with self._device.stream(self._stream):
            self._vector.copy_(source, non_blocking=True)
            self._done.record(self._stream)

    def arrived(self) -> torch.Tensor:
        """Return the vector on the host once it is copied; waits for the copy alone."""
        self._done.synchronize()
        return self._vector
