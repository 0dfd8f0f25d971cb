"""What each estimator gives for each known exponent."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradquake.experiments import models
from gradquake.paper.known.estimators import ESTIMATORS, Found
from gradquake.paper.known.plan import STUDY, Known, Plan
from gradquake.study.execution import Progress, each, execute, silent
from gradquake.study.study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Evidence", "Recovery", "gather", "measure"]


@dataclass(frozen=True)
class Recovery:
    """One exponent of one model by one estimator, beside its known value.

    Attributes
    ----------
    model, exponent, estimator : str
    known : Known
    found : Found
    """

    model: str
    exponent: str
    estimator: str
    known: Known
    found: Found

    @property
    def recovered(self) -> bool | None:
        """Whether the interval over runs contains the known value; None if there is none.

        An estimate that its estimator does not trust is not recovered.
        """
        if self.known.value is None:
            return None
        return not self.found.note and self.found.low <= self.known.value <= self.found.high


@dataclass(frozen=True)
class Evidence:
    """All recoveries, by model, exponent and estimator in the order of their tables."""

    recoveries: tuple[Recovery, ...]


def measure(
    plan: Plan,
    studies: Mapping[str, Study],
    executor: Executor | None = None,
    progress: Progress = silent,
) -> None:
    """Simulate those runs of the plan that the study does not hold."""
    execute(studies[STUDY], models.measure, plan.runs, executor, progress, parameters_a_task=1)


def gather(
    plan: Plan,
    studies: Mapping[str, Study],
    _judged_on: None = None,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> Evidence:
    """Run every estimator on every model.

    Raises
    ------
    StudyError
        If a run of the plan is missing.
    """
    progress("estimating", 0, None)
    configs = [[run.config() for run in plan.sweep(model)] for model in plan.models]
    sweeps = (studies[STUDY].dataset_of(of_model) for of_model in configs)
    found = each(_estimates, sweeps, executor)
    return Evidence(
        tuple(
            Recovery(model.name, symbol, estimator, known, estimates[symbol])
            for model, by_estimator in zip(plan.models, found, strict=True)
            for symbol, known in model.known.items()
            for estimator, estimates in by_estimator.items()
            if symbol in estimates
        )
    )


def _estimates(sweep: xr.Dataset) -> dict[str, dict[str, Found]]:
    return {name: estimate(sweep) for name, estimate in ESTIMATORS.items()}
