"""The contents of a study: its finished, missing and unfinished runs, and its nulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from gradquake.avalanche.surrogates import REAL
from gradquake.errors import counted, printable
from gradquake.report.json import written
from gradquake.report.text import Table
from gradquake.study.configuration import config_key
from gradquake.study.study import open_study

__all__ = ["Contents", "info"]

HEADER = (
    "experiment", "finished", "missing", "unfinished", "N", "seeds", "nulls", "settings that differ",
)  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """What a study holds; ``print`` shows the numbers of its runs.

    Attributes
    ----------
    study : str
        The path of its file.
    sweeps : list of dict
        As ``Study.contents`` returns them.
    """

    study: str
    sweeps: list[dict[str, Any]] = field(repr=False)

    @cached_property
    def table(self) -> Table:
        """The sweeps as a table; the nulls of a sweep stand beside it."""
        return _table(self.sweeps)

    def to_json(self) -> str:
        """Return the path and the sweeps as JSON."""
        return written({"study": self.study, "sweeps": self.sweeps})

    def __str__(self) -> str:
        runs = [sweep for sweep in self.sweeps if _rung(sweep) == REAL]
        finished = sum(sweep["runs"] for sweep in runs)
        missing, unfinished = (
            sum(len(sweep[name]) for sweep in runs) for name in ("missing", "unfinished")
        )
        of_nulls = sum(sweep["runs"] for sweep in self.sweeps) - finished
        nulls = f"; {counted(of_nulls, 'record')} of nulls" if of_nulls else ""
        return (
            f"{counted(finished, 'run')} finished, {missing} planned and missing, {unfinished} "
            f"unfinished{nulls}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>{self.table._repr_html_()}"


def info(study: str | Path) -> Contents:
    """Return what is in a study, and which of its planned runs are missing.

    Parameters
    ----------
    study : str or Path
        The path of its file.

    Raises
    ------
    StudyError
        If the study cannot be read.
    """
    with open_study(study) as opened:
        return Contents(str(study), opened.contents())


def _rung(sweep: Mapping[str, Any]) -> str:
    return str(sweep["settings"].get("surrogate", REAL))


class _Row(NamedTuple):
    """A sweep of real gradients, or None if there are only nulls of it."""

    key: str
    sweep: Mapping[str, Any] | None
    settings: dict[str, str]

    @property
    def experiment(self) -> str:
        return self.settings.get("experiment", "")

    @property
    def pairs(self) -> set[tuple[str, str]]:
        return {pair for pair in self.settings.items() if pair[0] != "experiment"}

    def cells(self, nulls: Sequence[str], shared: set[tuple[str, str]]) -> tuple[str, ...]:
        lists = ("missing", "unfinished", "n_parameters", "seeds")
        found = self.sweep or {"runs": 0, **dict.fromkeys(lists, ())}
        return (
            self.experiment,
            str(found["runs"]),
            str(len(found["missing"])),
            str(len(found["unfinished"])),
            ", ".join(map(str, found["n_parameters"])),
            str(len(found["seeds"])),
            ", ".join(nulls),
            ", ".join(
                f"{name}={of}" for name, of in self.settings.items() if (name, of) in self.pairs - shared
            ),
        )


def _table(sweeps: Sequence[Mapping[str, object]]) -> Table:
    rows, nulls = _rows_and_nulls(sweeps)
    shared: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        shared[row.experiment] = shared.get(row.experiment, row.pairs) & row.pairs
    notes = [
        printable(
            f"All{f' of {experiment}' if experiment else ''}: "
            f"{', '.join(f'{name}={value}' for name, value in sorted(pairs))}."
        )
        for experiment, pairs in shared.items()
    ]
    return Table(
        "Sweeps",
        HEADER,
        [row.cells(nulls.get(row.key, []), shared[row.experiment]) for row in rows],
        "\n".join(notes),
    )


def _rows_and_nulls(sweeps: Sequence[Mapping[str, Any]]) -> tuple[list[_Row], dict[str, list[str]]]:
    """Return a row for each sweep, and the rungs of its nulls by the key of the row."""
    rows: list[_Row] = []
    alone: dict[str, _Row] = {}
    nulls: dict[str, list[str]] = {}
    for sweep in sweeps:
        settings = {name: of for name, of in sweep["settings"].items() if name != "surrogate"}
        key, texts = config_key(settings), {name: str(value) for name, value in settings.items()}
        if _rung(sweep) == REAL:
            rows.append(_Row(key, sweep, texts))
        else:
            nulls.setdefault(key, []).append(_rung(sweep))
            alone[key] = _Row(key, None, texts)
    own = {row.key for row in rows}
    return [*rows, *(row for key, row in alone.items() if key not in own)], nulls
