"""The whole paper, end to end: measure, gather, judge, draw, write."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from gradquake.paper.claim import Claim
from gradquake.paper.output import as_json, made, write, write_claims
from gradquake.paper.xor import evidence, pages
from gradquake.paper.xor.claims import judge
from gradquake.paper.xor.evidence import Evidence
from gradquake.paper.xor.plan import Plan
from gradquake.study.execution import each
from gradquake.study.study import open_study

# The paper's own figures, and those of the scrutiny; the last ones only where it was not quick.
PLATES = ("figure1", "figure2", "figure3", "ladder", "aligned")
MORE_PLATES = ("controls", "intervention", "topologies", "power", "specifications")

Progress = Callable[[str, int], object]


def reproduce(
    out: str | Path,
    plan: Plan,
    executor: Executor | None = None,
    progress: Progress = lambda _stage, _runs: None,
) -> list[Claim]:
    """Reproduce the paper and write what was found.

    Parameters
    ----------
    out : str or Path
        A folder, made where it is missing. It receives ``study.sqlite``, ``claims.json`` and
        ``claims.md`` (which keep claims on modular addition that are there), ``scrutiny.json``,
        ``scrutiny.md``, ``figures/`` and, unless it is quick, ``specifications.csv`` and
        ``power.sqlite``. Runs that its studies hold already are not measured again.
    plan : Plan
        The runs.
    executor : concurrent.futures.Executor, optional
        Where runs are measured, analysed and drawn; the numbers do not depend on it.
    progress : callable
        Called with the name of a stage and the number of runs just finished.

    Raises
    ------
    InputError
        Where ``out`` cannot be a folder to write in.
    StudyError
        Where its study cannot be used.
    """
    folder = made(out)
    with (
        open_study(folder / "study.sqlite", create=True) as study,
        nullcontext() if plan.quick else open_study(folder / "power.sqlite", create=True) as many,
    ):
        evidence.measure(study, many, plan, executor, lambda runs: progress("measuring", runs))
        found = evidence.gather(study, many, plan, executor, lambda stage: progress(stage, 0))
    claims = judge(found)
    write_claims(folder, claims)
    write(folder / "scrutiny.json", as_json(pages.scrutiny_object(found)))
    write(folder / "scrutiny.md", pages.scrutiny_page(found))
    if found.specifications is not None:
        table = found.specifications.to_dataframe().reset_index()
        write(folder / "specifications.csv", table.to_csv(index=False, float_format="%.6g"))
    progress("drawing", 0)
    names = PLATES if plan.quick else PLATES + MORE_PLATES
    for drawn in each(partial(_drawn, found), names, executor):
        for file, content in drawn.items():
            (folder / "figures" / file).write_bytes(content)
    return claims


def _drawn(found: Evidence, name: str) -> dict[str, bytes]:
    """Return the files of a plate: a worker may be on another machine."""
    # Loads matplotlib, where there is something to draw.
    from gradquake.paper.xor import plates

    with TemporaryDirectory() as folder:
        plates.draw(name, found, Path(folder))
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}
