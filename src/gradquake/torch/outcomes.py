"""Outcomes among the metrics that a framework logs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any


class Outcomes:
    """Picks outcomes from metrics, and remembers which names never came.

    Parameters
    ----------
    wanted : mapping of str to str, optional
        An outcome's name to that of its metric.
    always : mapping of str to str, optional
        The same, of outcomes that need not come.
    """

    def __init__(
        self, wanted: Mapping[str, str] | None = None, always: Mapping[str, str] | None = None
    ) -> None:
        self._metrics = {**(always or {}), **(wanted or {})}
        self._missing = dict(wanted or {})
        self._seen: set[str] = set()

    def of(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outcomes that are among these metrics."""
        self._seen.update(metrics)
        found = {name: metrics[key] for name, key in self._metrics.items() if key in metrics}
        for name in found:
            self._missing.pop(name, None)
        return found

    def warn_of_missing(self) -> None:
        """Warn of the outcomes that never came, and say what did."""
        if self._missing:
            named = ", ".join(f"{name} as {metric!r}" for name, metric in self._missing.items())
            there = ", ".join(sorted(self._seen)) or "nothing"
            warnings.warn(f"outcomes names {named}, never logged; logged was {there}", stacklevel=3)
            self._missing = {}
