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

    from gradquake import experiments
    from gradquake.analysis import collapse, resampling, scaling, tails, transitions
    from gradquake.avalanche import graphs, surrogates, topologies
    from gradquake.avalanche.cascade import Avalanche, AvalancheBatch, relax
    from gradquake.avalanche.graphs import Graph
    from gradquake.avalanche.probe import Probe
    from gradquake.errors import GradquakeError, InputError, StudyError
    from gradquake.files.measure import measure
    from gradquake.paper.reproduce import reproduce
    from gradquake.report import figures
    from gradquake.scrutiny import scrutinize as scrutiny
    from gradquake.scrutiny import sensitivity
    from gradquake.study.study import Study, open_study

__version__ = "0.1.0"

# name -> (module, attribute), or (module, "") for the module itself.
_PUBLIC = {
    "Avalanche": ("avalanche.cascade", "Avalanche"),
    "AvalancheBatch": ("avalanche.cascade", "AvalancheBatch"),
    "GradquakeError": ("errors", "GradquakeError"),
    "Graph": ("avalanche.graphs", "Graph"),
    "InputError": ("errors", "InputError"),
    "Probe": ("avalanche.probe", "Probe"),
    "Study": ("study.study", "Study"),
    "StudyError": ("errors", "StudyError"),
    "collapse": ("analysis.collapse", ""),
    "experiments": ("experiments", ""),
    "figures": ("report.figures", ""),
    "graphs": ("avalanche.graphs", ""),
    "measure": ("files.measure", "measure"),
    "open_study": ("study.study", "open_study"),
    "relax": ("avalanche.cascade", "relax"),
    "reproduce": ("paper.reproduce", "reproduce"),
    "resampling": ("analysis.resampling", ""),
    "scaling": ("analysis.scaling", ""),
    "scrutiny": ("scrutiny.scrutinize", ""),
    "sensitivity": ("scrutiny.sensitivity", ""),
    "surrogates": ("avalanche.surrogates", ""),
    "tails": ("analysis.tails", ""),
    "topologies": ("avalanche.topologies", ""),
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
    "measure",
    "open_study",
    "relax",
    "reproduce",
    "resampling",
    "scaling",
    "scrutiny",
    "sensitivity",
    "surrogates",
    "tails",
    "topologies",
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
