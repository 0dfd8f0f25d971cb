"""One HTML file that needs nothing else: parts, each a function and a template.

Every text goes through Jinja2's autoescape, and the numbers of charts through its JSON filter. A content
policy lets nothing run but the script of this package, and lets nothing be requested.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gradquake.errors import InputError, printable
from gradquake.report.charts import Chart, Forest

__all__ = ["TEMPLATES", "Chapter", "Part", "Variables", "fragment", "page", "save"]

TEMPLATES = Path(__file__).with_name("templates")

# The variables of a template.
Variables = Mapping[str, object]

# What a part is about.
Subject = TypeVar("Subject")

# The switches of a page, and the words for their values; other values stand for themselves.
SWITCHES = {
    "statistic": ("Statistic", {"max": "D (largest size)", "mean": "gamma (mean size)"}),
    "phase": (
        "Phase",
        {"all": "all snapshots", "pre": "before t_g", "post": "after t_g", "rise": "post - pre"},
    ),
    "channel": ("Channel", {}),
}


@dataclass(frozen=True)
class Part(Generic[Subject]):
    """A part of a report.

    Attributes
    ----------
    title : str
        Its heading.
    of : callable
        From the subject of the report to the variables of the template; None if the subject has
        nothing for this part. It finishes every number: a template computes nothing.
    template : Path
        A Jinja2 template. It may import ``macros.html`` for charts and tables.
    """

    title: str
    of: Callable[[Subject], Variables | None]
    template: Path


class Chapter(NamedTuple):
    """Parts of one subject, under a heading, which may be empty."""

    heading: str
    parts: Mapping[str, Part[Any]]
    subject: Any


class Section(NamedTuple):
    """A part as HTML."""

    key: str
    title: str
    html: Markup


class _Rendered(NamedTuple):
    """A chapter as HTML."""

    heading: str
    sections: Sequence[Section]


class Switch(NamedTuple):
    """A choice of a page: its name, its title, and its values with their words."""

    name: str
    title: str
    values: dict[str, str]


@dataclass
class _Drawn:
    """The charts that the templates of a page have drawn, in order."""

    charts: list[Chart] = field(default_factory=list)
    forests: list[Forest] = field(default_factory=list)

    def add(self, chart: Chart) -> int:
        """Note a chart, and return its number."""
        self.charts.append(chart)
        return len(self.charts) - 1

    def add_forest(self, forest: Forest) -> str:
        """Note a forest."""
        self.forests.append(forest)
        return ""

    @property
    def names(self) -> dict[str, str]:
        """The series that can be switched off, with their colors."""
        series = [(of.name, of.color) for chart in self.charts for of in chart.series]
        rows = [(row.name, row.color) for forest in self.forests for row in forest.rows]
        return {
            name: color for name, color in dict([*rows, *series]).items() if color[0] == "c" and name
        }

    @property
    def switches(self) -> list[Switch]:
        """The choices that the charts differ in."""
        shown: list[Chart | Forest] = [*self.charts, *self.forests]
        marks = [mark for of in shown for mark in of.marks]
        found = []
        for name, (title, words) in SWITCHES.items():
            values = dict.fromkeys(value for of, value in marks if of == name)
            if len(values) > 1:
                found.append(Switch(name, title, {value: words.get(value, value) for value in values}))
        return found


def page(title: str, chapters: Sequence[Chapter]) -> str:
    """Return chapters as a whole HTML file."""
    environment, drawn = _environment(), _Drawn()
    rendered = [
        _Rendered(heading, _sections(environment, drawn, parts, subject, f"part{number}-"))
        for number, (heading, parts, subject) in enumerate(chapters)
    ]
    script = _asset("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        title=printable(title), chapters=rendered, drawn=drawn, digest=digest,
        style=Markup(_asset("style.css")), script=Markup(script),  # noqa: S704  both are our own
        data=[chart.data for chart in drawn.charts],
    )  # fmt: skip


def fragment(parts: Mapping[str, Part[Subject]], subject: Subject) -> str:
    """Return parts for a notebook: without a script, which a notebook may not run."""
    environment = _environment()
    return environment.get_template("fragment.html").render(
        sections=_sections(environment, _Drawn(), parts, subject, ""),
        style=Markup(_asset("style.css")),  # noqa: S704  our own
    )


def save(path: str | Path, text: str) -> Path:
    """Write a page in one step: a reader finds either the old file or the new one.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f"{path.name}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); a file is needed") from error
    return path


def _sections(
    environment: Environment,
    drawn: _Drawn,
    parts: Mapping[str, Part[Subject]],
    subject: Subject,
    prefix: str,
) -> list[Section]:
    sections = []
    for number, part in enumerate(parts.values()):
        if (variables := part.of(subject)) is None:
            continue
        template = environment.from_string(part.template.read_text(encoding="utf-8"))
        html = template.render({"drawn": drawn, **variables})
        sections.append(Section(f"{prefix}{number}", part.title, Markup(html)))  # noqa: S704  rendered
    return sections


def _environment() -> Environment:
    return Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
