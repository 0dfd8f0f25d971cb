"""Experiments: each makes gradients and records avalanches; none analyzes them."""

from __future__ import annotations

import importlib

__all__ = ["experiment", "modular_addition", "readings", "run", "synthetic", "table", "xor"]


def __getattr__(name: str) -> object:
    """Load a module when it is first used, so that the import stays light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return list(__all__)
