"""A whole paper, end to end: measure, gather, judge, write, draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Protocol, TypeVar

from gradquake.errors import InputError
from gradquake.paper import claims_page
from gradquake.paper.claim import Claim, JudgedClaim, judge, write_claims
from gradquake.paper.known import evidence as known_evidence
from gradquake.paper.known import pages as known_pages
from gradquake.paper.known import plan as known_plan
from gradquake.paper.modadd import claims as modadd_claims
from gradquake.paper.modadd import evidence as modadd_evidence
from gradquake.paper.modadd import pages as modadd_pages
from gradquake.paper.modadd import plan as modadd_plan
from gradquake.paper.output import made, write
from gradquake.paper.xor import evidence as xor_evidence
from gradquake.paper.xor import pages as xor_pages
from gradquake.paper.xor import plan as xor_plan
from gradquake.paper.xor.robustness_claims import ROBUSTNESS
from gradquake.paper.xor.transition_claims import TRANSITION
from gradquake.study.execution import each
from gradquake.study.pools import open_executor
from gradquake.study.study import Study, open_study

__all__ = ["PAPERS", "Paper", "Plan", "carry_out", "paper_of", "reproduce"]

# Called with the name of a stage and the number of runs just finished.
Progress = Callable[[str, int], object]
Evidence = TypeVar("Evidence")


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
    def plates(self) -> tuple[str, ...]:
        """The names of the figures."""
        ...


@dataclass(frozen=True)
class Paper(Generic[Evidence]):
    """How a paper is reproduced.

    Attributes
    ----------
    plan : callable
        From the number of seeds (None for the paper's) and ``quick`` to the plan.
    measure : callable
        Measures those runs of a plan that the studies do not hold.
    gather : callable
        Computes the evidence from the studies.
    claims : sequence of Claim
        Empty for a paper whose page says all.
    documents : callable
        From the evidence to the texts of files, by their names.
    plates : callable
        Returns the functions that draw figures, by name. It loads matplotlib.
    page : str
        The name of the documents that hold everything beyond the claims.
    """

    plan: Callable[[int | None, bool], Plan]
    measure: Callable[..., None]
    gather: Callable[..., Evidence]
    claims: Sequence[Claim[Evidence]]
    documents: Callable[[Evidence], dict[str, str]]
    plates: Callable[[], Mapping[str, Callable[[Evidence, Path], None]]]
    page: str


def _xor_plates() -> Mapping[str, Callable[[xor_evidence.Evidence, Path], None]]:
    from gradquake.paper.xor.plates import PLATES

    return PLATES


def _modadd_plates() -> Mapping[str, Callable[[modadd_evidence.Evidence, Path], None]]:
    from gradquake.paper.modadd.plates import PLATES

    return PLATES


PAPERS: dict[str, Paper[Any]] = {
    "xor": Paper(
        xor_plan.plan,
        xor_evidence.measure,
        xor_evidence.gather,
        (*TRANSITION, *ROBUSTNESS),
        xor_pages.documents,
        _xor_plates,
        "scrutiny",
    ),
    "modadd": Paper(
        modadd_plan.plan,
        modadd_evidence.measure,
        modadd_evidence.gather,
        modadd_claims.CLAIMS,
        modadd_pages.documents,
        _modadd_plates,
        "modadd",
    ),
    "known": Paper(
        known_plan.plan,
        known_evidence.measure,
        known_evidence.gather,
        (),
        known_pages.documents,
        dict,
        "known",
    ),
}


def reproduce(
    paper: str = "xor",
    *,
    out: str | Path = "reproduction",
    seeds: int | None = None,
    quick: bool = False,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = lambda _stage, _runs: None,
) -> list[JudgedClaim]:
    """Reproduce a paper, judge its claims and write the results.

    Parameters
    ----------
    paper : {"xor", "modadd", "known"}
        The paper on XOR networks; the claims on modular addition, which needs torch; or models with
        known exponents, which make no claims.
    out : str or Path
        A folder; it is made if it does not exist. It receives the studies, ``claims.json`` and
        ``claims.md``, further tables as JSON and Markdown, and ``figures/``. Runs that its studies hold
        are not measured again, and claims of other papers in ``claims.json`` are kept.
    seeds : int, optional
        Seeds at each size; the paper's number by default.
    quick : bool
        Whether to leave out everything that no claim rests on; for the paper "xor" only.
    jobs : int, optional
        Processes; all cores by default. The numbers do not depend on it.
    scheduler : str, optional
        The address of a Dask scheduler whose workers are used instead of processes.
    progress : callable
        Called with the name of a stage and the number of runs just finished.

    Returns
    -------
    list of JudgedClaim
        The claims of this paper.

    Raises
    ------
    InputError
        For another paper, a bad number, both ``jobs`` and ``scheduler``, or a folder that cannot be
        written, or if torch is needed and not installed.
    StudyError
        If a study in the folder cannot be used.
    """
    plan = paper_of(paper).plan(seeds, quick)
    with open_executor(jobs, scheduler) as executor:
        return carry_out(paper, plan, out, executor, progress)


def paper_of(name: str) -> Paper[Any]:
    """Return how the paper of this name is reproduced.

    Raises
    ------
    InputError
        For another name.
    """
    if name not in PAPERS:
        raise InputError(f"the paper is {name!r}; one of {', '.join(PAPERS)} is needed")
    return PAPERS[name]


def carry_out(
    name: str,
    plan: Plan,
    out: str | Path,
    executor: Executor | None = None,
    progress: Progress = lambda _stage, _runs: None,
) -> list[JudgedClaim]:
    """Carry out a plan of a paper: as ``reproduce``, with a plan and an executor of one's own."""
    paper, folder = paper_of(name), made(out)
    with ExitStack() as stack:
        studies: dict[str, Study] = {
            file: stack.enter_context(open_study(folder / file, create=True)) for file in plan.studies
        }
        paper.measure(plan, studies, executor, lambda runs: progress("measuring", runs))
        found = paper.gather(plan, studies, executor, lambda stage: progress(stage, 0))
    claims = judge(paper.claims, found, has_intervals=plan.has_intervals)
    if claims:
        order = [claim.id for each_paper in PAPERS.values() for claim in each_paper.claims]
        everything = write_claims(folder / "claims.json", claims, order)
        write(folder / "claims.md", claims_page.page(everything))
    for file, text in paper.documents(found).items():
        write(folder / file, text)
    progress("drawing", 0)
    for drawn in each(partial(_drawn, name, found), plan.plates, executor):
        for file, content in drawn.items():
            (folder / "figures" / file).write_bytes(content)
    return claims


def _drawn(paper: str, found: object, name: str) -> dict[str, bytes]:
    """Return the files of a figure as bytes, since a worker may be on another machine.

    Raises
    ------
    InputError
        For a figure that the paper does not have.
    """
    plates = paper_of(paper).plates()
    if name not in plates:
        raise InputError(f"the figure is {name!r}; one of {', '.join(plates)} is needed")
    with TemporaryDirectory() as folder:
        plates[name](found, Path(folder) / name)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}
