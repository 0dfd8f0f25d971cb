"""The whole paper, end to end: measure, gather, judge, draw, write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from gradquake.errors import InputError
from gradquake.execution import worker_pool
from gradquake.paper import evidence
from gradquake.paper.claims import judge
from gradquake.paper.evidence import Evidence, Plan
from gradquake.paper.verdicts import Claim, Quantity
from gradquake.store import open_study

PLATES = ("figure1", "figure2", "figure3")

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
        A folder, made where it is missing. It receives ``study.sqlite``, ``claims.json``,
        ``claims.md`` and ``figures/``. Runs that its study holds already are not measured again.
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
    folder = Path(out)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); a folder is needed") from error
    with open_study(folder / "study.sqlite", create=True) as study, worker_pool(jobs) as pool:
        evidence.measure(study, plan, pool, lambda runs: progress("measuring", runs))
        progress("analysing", 0)
        found = evidence.gather(study, plan, pool)
        progress("drawing", 0)
        # Drawing goes on in the pool while the claims are judged here.
        drawn = [] if pool is None else [pool.submit(_draw, n, found, folder) for n in PLATES]
        claims = judge(found)
        _write(folder / "claims.json", json.dumps([c.as_json() for c in claims], indent=2) + "\n")
        _write(folder / "claims.md", markdown(claims))
        for plate in drawn:
            plate.result()
        if pool is None:
            for name in PLATES:
                _draw(name, found, folder)
    return claims


def markdown(claims: list[Claim]) -> str:
    """Return the claims as a Markdown page: a table, then the notes."""
    lines = [
        "# The paper's claims and what was measured",
        "",
        "Intervals are 95 %, percentile bootstraps over runs unless it is said otherwise. The null is "
        "the same statistic on i.i.d. Gaussian gradients of the same sizes, seeds, snapshots and "
        "graphs.",
        "",
        "| id | claim | paper | measured | value [95 % interval] | null | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim in claims:
        for i, quantity in enumerate(claim.quantities):
            head = [claim.id, claim.claim, claim.paper] if i == 0 else [""] * 3
            verdict = claim.verdict if i == 0 else ""
            cells = [*head, quantity.name, with_interval(quantity), with_null(quantity), verdict]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## How each was judged", ""]
    lines += [f"- **{claim.id}**: {claim.note}." for claim in claims]
    lines += [
        "",
        "Intervals from a bootstrap over single snapshots, which takes the snapshots of one run for "
        "independent and is too narrow:",
        "",
    ]
    lines += [
        f"- {q.name}: [{number(q.snapshot_low)}, {number(q.snapshot_high)}]"
        for claim in claims
        for q in claim.quantities
        if q.snapshot_low is not None
    ]
    return "\n".join(lines) + "\n"


def with_interval(quantity: Quantity) -> str:
    """Return a measured quantity as text: its value and interval."""
    return _bracketed(quantity.measured, quantity.ci_low, quantity.ci_high)


def with_null(quantity: Quantity) -> str:
    """Return the null of a quantity as text, empty where it has none."""
    if quantity.null is None:
        return ""
    return _bracketed(quantity.null, quantity.null_low, quantity.null_high)


def _bracketed(value: float, low: float | None, high: float | None) -> str:
    if low is None or low != low:  # NaN: no interval
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def number(value: float | None) -> str:
    """Return a number to three significant figures or none behind the point; "none" for NaN."""
    if value is None or value != value:
        return "none"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _draw(name: str, found: Evidence, folder: Path) -> None:
    # Loads matplotlib, where there is something to draw.
    from gradquake.paper import plates

    plates.draw(name, found, folder / "figures")


def _write(path: Path, text: str) -> None:
    """Write a file so that whoever reads it finds the old one or the new one whole."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
