"""The settings of a cascade, with their defaults and their checks. This module loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradquake.errors import require_between, require_count

__all__ = ["DEFAULT_TOPOLOGY", "CascadeSettings"]

# The topology that gradients relax on unless another is chosen.
DEFAULT_TOPOLOGY = "barabasi_albert"


@dataclass(frozen=True, kw_only=True)
class CascadeSettings:
    """The settings of a cascade: which nodes topple, the shares that they give away, when it ends.

    Parameters
    ----------
    alpha : float
        The share that a toppling node gives away, in (0, 1).
    quantile : float
        The threshold is this quantile of the gradient's magnitudes, in [0, 1]: exactly
        ``numpy.quantile(abs(gradient), quantile)`` in float64.
    max_steps : int
        The most steps of a cascade, at least 1.

    Raises
    ------
    InputError
        For a value out of range.
    """

    alpha: float = 0.3
    quantile: float = 0.9
    max_steps: int = 20

    def __post_init__(self) -> None:
        require_between("alpha", self.alpha, 0, 1)
        require_count("max_steps", self.max_steps, 1)
        require_between("quantile", self.quantile, 0, 1, inclusive=True)

    def settings(self) -> dict[str, Any]:
        """Return the settings by name as a recording keeps them: Python's own numbers."""
        return {
            "alpha": float(self.alpha),
            "quantile": float(self.quantile),
            "max_steps": int(self.max_steps),
        }
