"""The form of a paper: its runs, its evidence, its claims, its pages and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from gradquake.paper.claim import Claim, JudgedClaim
from gradquake.report.page import Chapter

__all__ = ["Paper", "Plan", "Plates"]

# What claims are judged on, and everything that pages and figures show.
Judged = TypeVar("Judged")
Evidence = TypeVar("Evidence")

# The functions that draw figures into files, by the figures' names.
Plates = Mapping[str, Callable[[Evidence, Path], None]]


class Plan(Protocol):
    """The runs of a paper, and the files that they lead to."""

    @property
    def n_runs(self) -> int:
        """The number of runs."""
        ...

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of the study files."""
        ...

    @property
    def has_intervals(self) -> bool:
        """Whether every size has enough runs to resample."""
        ...

    @property
    def first_look(self) -> Self | None:
        """A smaller plan whose claims are judged first; None if the plan is small itself."""
        ...

    @property
    def plates(self) -> tuple[str, ...]:
        """The names of the figures."""
        ...


@dataclass(frozen=True)
class Paper(Generic[Judged, Evidence]):
    """How a paper is reproduced.

    Attributes
    ----------
    name : str
        The name that ``reproduce`` knows it by.
    plan : callable
        From the number of seeds (None for the paper's) and ``quick`` to the plan.
    measure : callable
        Measures those runs of a plan that the studies do not hold.
    judged_on : callable
        Returns what the claims are judged on, from the studies.
    gather : callable
        Computes what pages and figures show, from the studies and what the claims are judged on.
    claims : sequence of Claim
    documents : callable
        From the evidence to the texts of files, by their names.
    page : str
        The name of the documents that hold everything beyond the claims.
    report : str
        The file name of the report.
    chapters : callable
        From the evidence, the judged claims and an executor to the chapters of the report.
    plates : callable
        Returns the functions that draw figures, by name. It loads matplotlib. Worker processes call it,
        so it stands at the top of its module.
    """

    name: str
    plan: Callable[[int | None, bool], Plan]
    measure: Callable[..., None]
    judged_on: Callable[..., Judged]
    gather: Callable[..., Evidence]
    claims: Sequence[Claim[Judged]]
    documents: Callable[[Evidence], dict[str, str]]
    page: str
    report: str
    chapters: Callable[[Evidence, Sequence[JudgedClaim], Executor | None], Sequence[Chapter]]
    plates: Callable[[], Plates[Evidence]]
