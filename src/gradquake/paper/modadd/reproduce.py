"""Modular addition, end to end: train, gather, judge, draw, write."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from importlib.util import find_spec
from pathlib import Path

from gradquake.errors import require
from gradquake.paper.claim import Claim
from gradquake.paper.modadd import evidence, pages
from gradquake.paper.modadd.claims import judge
from gradquake.paper.modadd.evidence import Plan
from gradquake.paper.output import as_json, made, write, write_claims
from gradquake.study.study import open_study


def reproduce(
    out: str | Path,
    plan: Plan,
    executor: Executor | None = None,
    progress: Callable[[str, int], object] = lambda _stage, _runs: None,
) -> list[Claim]:
    """Train the Transformers, judge the claims on them, and write what was found.

    Parameters
    ----------
    out : str or Path
        A folder, made where it is missing. It receives ``modadd.sqlite``, ``modadd.json``,
        ``modadd.md`` and figures; ``claims.json`` and ``claims.md`` receive the claims, beside those
        that are there. Runs that the study holds already are not trained again.
    plan : Plan
        The runs.
    executor : concurrent.futures.Executor, optional
        Where runs are trained and analysed; the numbers do not depend on it.
    progress : callable
        Called with the name of a stage and the number of runs just finished.

    Raises
    ------
    InputError
        Where torch is not installed, or ``out`` cannot be a folder to write in.
    StudyError
        Where its study cannot be used.
    """
    require(
        find_spec("torch") is not None,
        'torch is not installed; modular addition needs it: pip install "gradquake[torch]"',
    )
    folder = made(out)
    with open_study(folder / "modadd.sqlite", create=True) as study:
        evidence.measure(study, plan, executor, lambda runs: progress("training", runs))
        progress("reading", 0)
        found = evidence.gather(study, plan, executor)
    claims = judge(found)
    write_claims(folder, claims)
    write(folder / "modadd.json", as_json(pages.as_object(found)))
    write(folder / "modadd.md", pages.page(found))
    progress("drawing", 0)
    # Loads matplotlib, where there is something to draw.
    from gradquake.paper.modadd import plates

    plates.draw(found, folder / "figures")
    return claims
