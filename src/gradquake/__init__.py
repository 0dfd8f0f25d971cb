"""gradquake: a seismograph for neural-network training.

It reads the gradient of a training run, lets it relax like an earthquake fault (the TDU-OFC cascade),
and turns the avalanches of runs at several model sizes into an effective dimensionality D(t).

    >>> import numpy as np
    >>> import gradquake as gq
    >>> gradient = np.random.default_rng(0).standard_normal(2001)
    >>> avalanche = gq.Probe(seed=0).measure(gradient)
    >>> avalanche.size >= avalanche.area >= avalanche.peak
    True

Names load when first used, so that the import is light.
"""

from __future__ import annotations

import importlib

# Not from typing, which takes longer to load than all of this: an interrupt may come meanwhile.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gradquake import experiments, figures, graphs, scrutiny, sensitivity, surrogates
    from gradquake.analysis import collapse, resampling, scaling, tails, transitions
    from gradquake.cascade import Avalanche, AvalancheBatch, relax
    from gradquake.errors import GradquakeError, InputError, StudyError
    from gradquake.graphs import Graph
    from gradquake.probe import Probe
    from gradquake.store import Study, open_study

__version__ = "0.1.0"

# name -> (module, attribute), or (module, "") for the module itself.
_PUBLIC = {
    "Avalanche": ("cascade", "Avalanche"),
    "AvalancheBatch": ("cascade", "AvalancheBatch"),
    "GradquakeError": ("errors", "GradquakeError"),
    "Graph": ("graphs", "Graph"),
    "InputError": ("errors", "InputError"),
    "Probe": ("probe", "Probe"),
    "Study": ("store", "Study"),
    "StudyError": ("errors", "StudyError"),
    "collapse": ("analysis.collapse", ""),
    "experiments": ("experiments", ""),
    "figures": ("figures", ""),
    "graphs": ("graphs", ""),
    "open_study": ("store", "open_study"),
    "relax": ("cascade", "relax"),
    "resampling": ("analysis.resampling", ""),
    "scaling": ("analysis.scaling", ""),
    "scrutiny": ("scrutiny", ""),
    "sensitivity": ("sensitivity", ""),
    "surrogates": ("surrogates", ""),
    "tails": ("analysis.tails", ""),
    "transitions": ("analysis.transitions", ""),
}

__all__ = [
    "Avalanche",
    "AvalancheBatch",
    "GradquakeError",
    "Graph",
    "InputError",
    "Probe",
    "Study",
    "StudyError",
    "collapse",
    "experiments",
    "figures",
    "graphs",
    "open_study",
    "relax",
    "resampling",
    "scaling",
    "scrutiny",
    "sensitivity",
    "surrogates",
    "tails",
    "transitions",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gradquake' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    loaded = importlib.import_module(f"gradquake.{module}")
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
