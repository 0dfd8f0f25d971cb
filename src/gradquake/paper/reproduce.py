"""A whole paper, end to end: measure, gather, judge, write, draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from gradquake.errors import InputError, shortened
from gradquake.paper import claims_page
from gradquake.paper.claim import JudgedClaim, judge, read_claims, write_claims
from gradquake.paper.known.paper import PAPER as KNOWN
from gradquake.paper.modadd.paper import PAPER as MODADD
from gradquake.paper.output import made, write
from gradquake.paper.paper import Paper, Plan, Plates
from gradquake.paper.xor.paper import PAPER as XOR
from gradquake.report.page import page, save
from gradquake.study.execution import Progress, each, silent
from gradquake.study.pools import open_executor
from gradquake.study.study import Study, open_study

__all__ = ["PAPERS", "carry_out", "paper_of", "reproduce"]


# Called with the claims that a first look judges.
FirstLook = Callable[[list[JudgedClaim]], object]
Judged = TypeVar("Judged")

PAPERS: dict[str, Paper[Any, Any]] = {paper.name: paper for paper in (XOR, MODADD, KNOWN)}


def reproduce(
    paper: str = "xor",
    *,
    out: str | Path = "reproduction",
    seeds: int | None = None,
    quick: bool = False,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
    first_look: FirstLook = lambda _claims: None,
) -> list[JudgedClaim]:
    """Reproduce a paper, judge its claims and write the results.

    Parameters
    ----------
    paper : {"xor", "modadd", "known"}
        The paper on XOR networks; the claims on modular addition, which needs torch; or models with
        known exponents, which make no claims.
    out : str or Path
        A folder; it is made if it does not exist. It receives the studies, ``claims.json`` and
        ``claims.md``, a report as one HTML file, further tables as JSON and Markdown, and ``figures/``.
        Runs that its studies hold are not measured again, and claims of other papers in ``claims.json``
        are kept.
    seeds : int, optional
        Seeds at each size that claims are judged on; by default 200 for "xor", from which its six-seed
        numbers are estimated, 3 for "modadd" and 8 for "known".
    quick : bool
        Whether to leave out everything that no claim rests on; for the paper "xor" only.
    jobs : int, optional
        Processes; all cores by default. The numbers do not depend on it.
    scheduler : str, optional
        The address of a Dask scheduler whose workers are used instead of processes.
    progress : Progress
        Called with the name of a stage, the number of its steps just done, and that of all its steps
        (see ``study.execution.Progress``).
    first_look : callable
        Called with the claims as the paper's six seeds alone judge them, before the other seeds are
        measured. It is not called if there are no other seeds.

    Returns
    -------
    list of JudgedClaim
        The claims of this paper.

    Raises
    ------
    InputError
        For another paper, a bad number, both ``jobs`` and ``scheduler``, a folder that cannot be
        written or whose ``claims.json`` cannot be read, or if torch is needed and not installed.
    StudyError
        If a study in the folder cannot be used.
    """
    plan = paper_of(paper).plan(seeds, quick)
    with open_executor(jobs, scheduler) as executor:
        return carry_out(paper, plan, out, executor, progress, first_look)


def paper_of(name: str) -> Paper[Any, Any]:
    """Return how the paper of this name is reproduced.

    Raises
    ------
    InputError
        For another name.
    """
    if not (isinstance(name, str) and name in PAPERS):
        raise InputError(f"the paper is {shortened(name)}; one of {', '.join(PAPERS)} is needed")
    return PAPERS[name]


def carry_out(
    name: str,
    plan: Plan,
    out: str | Path,
    executor: Executor | None = None,
    progress: Progress = silent,
    first_look: FirstLook = lambda _claims: None,
) -> list[JudgedClaim]:
    """Carry out a plan of a paper: as ``reproduce``, with a plan and an executor of one's own."""
    paper, folder = paper_of(name), made(out)
    # Before any work: the new claims will join those of this file.
    read_claims(folder / "claims.json")
    with ExitStack() as stack:
        studies: dict[str, Study] = {
            file: stack.enter_context(open_study(folder / file, create=True)) for file in plan.studies
        }
        if plan.first_look is not None:
            first_look(_judged(paper, plan.first_look, studies, executor, progress)[0])
        claims, judged_on = _judged(paper, plan, studies, executor, progress)
        found = paper.gather(plan, studies, judged_on, executor, progress)
    if claims:
        order = [claim.id for each_paper in PAPERS.values() for claim in each_paper.claims]
        everything = write_claims(folder / "claims.json", claims, order)
        write(folder / "claims.md", claims_page.page(everything))
    for file, text in paper.documents(found).items():
        write(folder / file, text)
    progress("report", 0, None)
    text = page(f"gradquake reproduces {paper.name}", paper.chapters(found, claims, executor))
    save(folder / paper.report, text)
    progress("drawing", 0, None)
    for drawn in each(partial(_drawn, paper.plates, found), plan.plates, executor):
        for file, content in drawn.items():
            (folder / "figures" / file).write_bytes(content)
    return claims


def _judged(
    paper: Paper[Judged, Any],
    plan: Plan,
    studies: Mapping[str, Study],
    executor: Executor | None,
    progress: Progress,
) -> tuple[list[JudgedClaim], Judged]:
    """Measure a plan and judge its claims; return them, and what they are judged on."""
    # The runs of the plan, of which each call of ``execute`` knows its own.
    paper.measure(plan, studies, executor, lambda stage, n, _: progress(stage, n, plan.n_runs))
    found = paper.judged_on(plan, studies, executor, progress)
    progress("judging", 0, None)
    judge_one = partial(judge, evidence=found, has_intervals=plan.has_intervals)
    return list(each(judge_one, paper.claims, executor)), found


def _drawn(plates_of: Callable[[], Plates[Any]], found: object, name: str) -> dict[str, bytes]:
    """Return the files of a figure as bytes, since a worker may be on another machine.

    Raises
    ------
    InputError
        For a figure that the paper does not have.
    """
    plates = plates_of()
    if name not in plates:
        raise InputError(f"the figure is {name!r}; one of {', '.join(plates)} is needed")
    with TemporaryDirectory() as folder:
        plates[name](found, Path(folder) / name)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}
