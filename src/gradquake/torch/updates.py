"""What an optimizer adds to the parameters at a step, as one flat vector."""

from __future__ import annotations

import torch

from gradquake.torch.gradients import FlatGradient, dense

__all__ = ["FlatUpdate"]


class FlatUpdate(FlatGradient):
    """Reads what an optimizer adds to chosen parameters at a step: their change, entry by entry.

    ``hold`` copies the parameters before the step into ``vector``, and ``read`` turns it into the
    difference. So nothing but ``vector`` is kept: 4 bytes for each entry that is read, 8 in float64.
    The difference is rounded as the parameters themselves are: a change below their last digit is 0.
    """

    _holds = False

    def take_part(self) -> None:
        """Take part in gathering parameters that another process reads, by ``hold`` or by ``read``."""
        for parameter in self.parameters:
            dense(parameter.detach())

    def hold(self) -> None:
        """Keep the parameters as they are before a step.

        Raises
        ------
        InputError
            As ``read`` does.
        """
        self._holds = False
        self.fill([parameter.detach() for parameter in self.parameters], torch.Tensor.copy_)
        self._holds = True

    def read(self) -> bool:
        """Fill ``vector`` with the change of the parameters since ``hold``.

        Returns
        -------
        bool
            False if ``hold`` failed.

        Raises
        ------
        InputError
            If a parameter's number of entries has changed since the probe was attached.
        """
        if not self._holds:
            # Other processes gather all the same.
            if self.gathers:
                self.take_part()
            return False
        self.fill([parameter.detach() for parameter in self.parameters], _subtract_from)
        return True


def _subtract_from(part: torch.Tensor, entries: torch.Tensor) -> None:
    """Replace a part of a vector by entries minus it."""
    torch.sub(entries.to(part), part, out=part)
