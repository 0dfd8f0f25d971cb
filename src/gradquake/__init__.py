"""gradquake: a seismograph for neural-network training.

It reads the gradient of a training run, lets it relax like an earthquake fault (the TDU-OFC cascade),
and turns the avalanches of runs at several model sizes into an effective dimensionality D(t).

    >>> import numpy as np
    >>> import gradquake as gq
    >>> gradient = np.random.default_rng(0).standard_normal(2001)
    >>> avalanche = gq.Probe(seed=0).measure(gradient)
    >>> avalanche.size >= avalanche.area >= avalanche.peak
    True

A name loads its module when it is first used, so ``import gradquake`` is light.
"""

from __future__ import annotations

import importlib

# Not from typing: it takes longer to load than this module, and an interrupt may come meanwhile.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gradquake.avalanche import graphs, surrogates
    from gradquake.avalanche.cascade import Avalanche, AvalancheBatch, relax
    from gradquake.avalanche.graphs import Graph
    from gradquake.avalanche.probe import Probe
    from gradquake.errors import GradquakeError, InputError, StudyError
    from gradquake.experiments.run import run
    from gradquake.files.measure import measure
    from gradquake.paper.reproduce import reproduce
    from gradquake.report.contents import info
    from gradquake.report.plot import plot
    from gradquake.report.result import Result, analyze
    from gradquake.report.watch import watch
    from gradquake.study.study import Study, open_study

__version__ = "0.1.0"

# The module of each public name, and the modules that are public as a whole.
_MODULES = {
    "Avalanche": "avalanche.cascade",
    "AvalancheBatch": "avalanche.cascade",
    "GradquakeError": "errors",
    "Graph": "avalanche.graphs",
    "InputError": "errors",
    "Probe": "avalanche.probe",
    "Result": "report.result",
    "Study": "study.study",
    "StudyError": "errors",
    "analyze": "report.result",
    "graphs": "avalanche.graphs",
    "info": "report.contents",
    "measure": "files.measure",
    "open_study": "study.study",
    "plot": "report.plot",
    "relax": "avalanche.cascade",
    "reproduce": "paper.reproduce",
    "run": "experiments.run",
    "surrogates": "avalanche.surrogates",
    "watch": "report.watch",
}
_WHOLE = ("graphs", "surrogates")

__all__ = [
    "Avalanche", "AvalancheBatch", "GradquakeError", "Graph", "InputError", "Probe", "Result", "Study",
    "StudyError", "analyze", "graphs", "info", "measure", "open_study", "plot", "relax", "reproduce",
    "run", "surrogates", "watch",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'gradquake' has no attribute {name!r}")
    module = importlib.import_module(f"gradquake.{_MODULES[name]}")
    return module if name in _WHOLE else getattr(module, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
