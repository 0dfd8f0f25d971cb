"""The whole paper, end to end: measure, gather, judge, draw, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from gradquake.execution import worker_pool
from gradquake.paper import evidence, pages
from gradquake.paper.claims import judge
from gradquake.paper.evidence import Evidence, Plan
from gradquake.paper.folder import as_json, made, write, write_claims
from gradquake.paper.verdicts import Claim
from gradquake.store import open_study

# The paper's own figures, and those of the scrutiny; the last ones only where it was not quick.
PLATES = ("figure1", "figure2", "figure3", "ladder", "aligned")
MORE_PLATES = ("controls", "intervention", "topologies", "power", "specifications")

Progress = Callable[[str, int], object]


def reproduce(
    out: str | Path,
    plan: Plan,
    *,
    jobs: int = 1,
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
    jobs : int
        Processes to use. The numbers do not depend on it.
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
        worker_pool(jobs) as pool,
    ):
        evidence.measure(study, many, plan, pool, lambda runs: progress("measuring", runs))
        found = evidence.gather(study, many, plan, pool, lambda stage: progress(stage, 0))
        progress("drawing", 0)
        # Drawing goes on in the pool while the claims are judged and written here.
        names = PLATES if plan.quick else PLATES + MORE_PLATES
        parts = [names[first::jobs] for first in range(min(jobs, len(names)))]
        drawn = [] if pool is None else [pool.submit(_draw, part, found, folder) for part in parts]
        claims = judge(found)
        write_claims(folder, claims)
        write(folder / "scrutiny.json", as_json(pages.scrutiny_object(found)))
        write(folder / "scrutiny.md", pages.scrutiny_page(found))
        if found.specifications is not None:
            table = found.specifications.to_dataframe().reset_index()
            write(folder / "specifications.csv", table.to_csv(index=False, float_format="%.6g"))
        for plate in drawn:
            plate.result()
        if pool is None:
            _draw(names, found, folder)
    return claims


def _draw(names: Sequence[str], found: Evidence, folder: Path) -> None:
    # Loads matplotlib, where there is something to draw.
    from gradquake.paper import plates

    for name in names:
        plates.draw(name, found, folder / "figures")
